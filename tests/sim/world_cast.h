/* tests/sim/world_cast.h - who takes part in a story: shared by world.c and fate.c. */
#ifndef TESTS_SIM_WORLD_CAST_H
#define TESTS_SIM_WORLD_CAST_H

#include "ggmlrpc/server.h"
#include "host/host.h"
#include "sim/fate.h"
#include "sim/world.h"

enum { CAST_WORKERS_MAX = 16, CAST_SERVERS_MAX = 3, CAST_HOSTS_MAX = 2 };

struct cast_worker { /* one life of a worker: started anew, it is another one */
    struct cast *world;
    int index, node, proc, thread;
    int n_threads;
    int64_t graph_ns;
    char address[72];
    struct sh_device *device;
    struct sh_ggmlrpc_server *server; /* while it can be stopped */
    bool up, ended;
    bool gone; /* killed or told to end */
    int64_t told_ns;
};

struct cast_host {
    struct cast *world;
    int index, node, proc, thread;
    int n_servers;
    int worker[CAST_SERVERS_MAX]; /* index of each server */
    char server[CAST_SERVERS_MAX][72];
    int64_t layers[CAST_SERVERS_MAX + 1];
    bool with_local;
    int64_t rows_max, step_ns, wait_ns;
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
    struct cast_host host[CAST_HOSTS_MAX], honest;
    int rude_thread; /* a client that stops in the middle of a frame */
    struct sh_stream *rude;
    char cache_dir[CAST_SERVERS_MAX][128]; /* of each worker, over all its lives */
    bool over;                             /* no more faults */
};

static inline struct cast_worker *cast_worker(struct cast *c, int index)
{
    return &c->worker[c->now[index]];
}
/* From an event, too. */
void cast_start_worker(struct cast *c, int index);

#endif
