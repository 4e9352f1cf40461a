/* tests/sim/world_cast.h - who takes part in a story: shared by world.c, workers.c, rude.c and
 * fate.c. */
#ifndef TESTS_SIM_WORLD_CAST_H
#define TESTS_SIM_WORLD_CAST_H

#include "ggmlrpc/server.h"
#include "host/host.h"
#include "host/serve.h"
#include "sim/fate.h"
#include "sim/world.h"

enum { CAST_WORKERS_MAX = 16, CAST_SERVERS_MAX = 3, CAST_HOSTS_MAX = 2, CAST_CROWD_MAX = 12 };
enum { CAST_PORT = 50052, CAST_WORKER_NODE = 1, CAST_HOST_NODE = 10, CAST_RUDE_NODE = 21 };
/* Keys that each worker has: of the hosts, by their index, and of others. */
enum { CAST_KEY_HONEST = CAST_HOSTS_MAX, CAST_KEY_RUDE, CAST_KEYS };

struct cast_worker { /* one life of a worker: started anew, it is another one */
    struct cast *world;
    int index, node, proc, thread;
    int n_threads;
    int64_t graph_ns;
    char address[72];
    struct sh_ggmlrpc_server *server; /* one of these two, while it can be stopped */
    struct sh_worker *own;
    bool up, ended;
    bool gone; /* killed or told to end */
    int64_t told_ns;
};

struct cast_host {
    struct cast *world;
    int index, node, proc, thread;
    int n_servers;                /* workers that it uses */
    int n_own;                    /* the first of them in shoal's own protocol */
    int worker[CAST_SERVERS_MAX]; /* index of each server */
    char server[CAST_SERVERS_MAX][72];
    int64_t layers[CAST_SERVERS_MAX + 1];
    bool with_local;
    bool relay;        /* links are not wanted */
    uint64_t features; /* offered to workers; 0: all */
    int64_t rows_max, step_ns, wait_ns;
    int64_t pause_ns; /* behind each token */
    int prompt;
    struct sh_engine *engine; /* while it may be cancelled */
    int n_cancels;            /* that are to be survived */
    bool stop;                /* loading is to stop */
    bool opened;
    int n_retries;
    int32_t ids[64];
    int n_ids;
    int32_t tokens[WORLD_TOKENS];
    int n_tokens;
    enum shoal_status status;
    struct shoal_error err;
    int64_t began_ns, answered_ns, ended_ns;
};

struct cast {
    const struct world_model *model;
    size_t live_bytes; /* of the heap, before the story */
    int n_procs;
    struct fate fate;
    struct cast_worker worker[CAST_WORKERS_MAX];
    int n_started;
    int now[CAST_SERVERS_MAX]; /* which life of worker i is the present one */
    struct cast_host host[CAST_HOSTS_MAX], honest, stranger;
    int rude_thread; /* a client that stops in the middle of a frame */
    struct sh_stream *rude;
    char cache_dir[CAST_SERVERS_MAX][128]; /* of each worker, over all its lives */
    char key_dir[CAST_SERVERS_MAX][128];
    struct sh_key key[CAST_SERVERS_MAX][CAST_KEYS];
    bool over; /* no more faults */
};

static inline struct cast_worker *cast_worker(struct cast *c, int index)
{
    return &c->worker[c->now[index]];
}

/* workers.c.  These three from an event, too. */
void cast_start_worker(struct cast *c, int index);
void cast_tell_to_end(struct cast_worker *w);
void cast_revoke(struct cast *c, int worker, int host);
void cast_await_workers(struct cast *c);
void cast_stop_workers(struct cast *c);
/* A host that left at that time: its sessions last no longer than their lease. */
void cast_check_lease(struct cast *c, int64_t left_ns);
/* Nothing of clients is left, soon. */
void cast_check_drained(struct cast *c);
void cast_make_folders(struct cast *c);
void cast_remove_folders(struct cast *c);

/* rude.c: a thread that is to be joined. */
void cast_begin_rude(struct cast *c);

#endif
