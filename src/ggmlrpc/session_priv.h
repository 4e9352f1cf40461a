/* ggmlrpc/session_priv.h - one connection of the server, and what it shares with the others.
 *
 *     server.c           listener, threads, limits, stopping
 *     session.c          frames in and out, the loop over commands, waiting
 *     session_tensor.c   buffers and data
 *     session_graph.c    graphs
 *
 * A session belongs to the thread that serves it.  It executes commands in order: data and graphs
 * are enqueued on the session's queue, and only answered commands wait for it.
 */
#ifndef GGMLRPC_SESSION_PRIV_H
#define GGMLRPC_SESSION_PRIV_H

#include <stdatomic.h>

#include "base/log.h"
#include "base/thread.h"
#include "ggmlrpc/cache.h"
#include "ggmlrpc/graph.h"
#include "ggmlrpc/server.h"
#include "ggmlrpc/space.h"
#include "ggmlrpc/staging.h"
#include "ggmlrpc/wire.h"

#define SH_SESSION_INBOX_BYTES ((size_t)64 << 10)
#define SH_SESSION_GRAPHS_MAX 8
#define SH_SESSION_TENSORS_MAX (2 * SH_GRAPH_TENSORS_MAX) /* of all kept graphs together */
#define SH_SESSION_AHEAD_MAX 1024                         /* commands that the queue may hold */
#define SH_SESSION_RUNS_MAX 8                             /* graphs submitted ahead */
#define SH_SESSION_ASKED_MAX 64                           /* hashes that are remembered */

/* What a session allocates once, when it first needs it: the ring and the outbox. */
#define SH_SESSION_OUTBOX_BYTES (2 * SH_STAGING_PIECE_BYTES)
#define SH_SESSION_FIXED_BYTES (SH_STAGING_BYTES + SH_SESSION_OUTBOX_BYTES)

/* Two quotas.  Buffers are what a client asks for and is told how much of is left; work is what
 * the server needs to serve it: payloads, graphs, and the pieces between socket and device. */
enum session_quota { SH_QUOTA_BUFFERS, SH_QUOTA_WORK, SH_QUOTA_COUNT };

struct session_graph {
    uint64_t hash; /* of the payload */
    size_t payload_bytes;
    size_t work_bytes; /* taken for it */
    struct sh_wire_graph wire;
    struct sh_exec *exec; /* NULL: this entry is empty */
    sh_ticket ticket;     /* of its last run */
    uint64_t used;        /* when, in runs of the session */
};

/* A hash that the cache did not have, asked for the bytes at an address. */
struct session_asked {
    uint64_t address, hash;
};

struct sh_session {
    struct sh_ggmlrpc_server *server;
    struct sh_stream *stream;
    struct sh_queue *queue;
    struct sh_space space;
    struct sh_staging staging;
    uint64_t seed;

    uint8_t *inbox; /* bytes received and not yet used: [inbox_at, inbox_end) */
    size_t inbox_at, inbox_end;
    uint8_t *outbox; /* two pieces for the answers of GET_TENSOR */
    uint8_t *payload;
    size_t payload_cap;

    struct session_graph graphs[SH_SESSION_GRAPHS_MAX];
    int last_graph;                      /* what GRAPH_RECOMPUTE runs, -1 = none */
    sh_ticket last;                      /* last ticket of the queue */
    sh_ticket runs[SH_SESSION_RUNS_MAX]; /* graphs in flight, oldest first */
    int n_runs;

    struct session_asked asked[SH_SESSION_ASKED_MAX]; /* a ring */
    unsigned n_asked;                                 /* so far; the last ones are there */
    uint64_t cache_bytes;                             /* that came from the cache */

    unsigned command; /* being executed, for messages */
    bool greeted;
    int n_ahead;     /* commands given to the queue since the last wait for all of it */
    bool unanswered; /* silent commands since the last answer */
    size_t used[SH_QUOTA_COUNT], peak[SH_QUOTA_COUNT];
    uint64_t n_graphs;
    int64_t busy_ns;   /* that graphs computed; known at the end */
    char refused[120]; /* an allocation that was refused */
    struct sh_wire_request rq;
};

struct connection {
    struct connection *next;
    struct sh_ggmlrpc_server *server;
    struct sh_stream *stream;
    struct sh_address address;
    bool has_address;
    struct sh_thread thread; /* not running for streams that came by serve() */
    bool idle;               /* waits for a command with nothing under way */
    bool ended;
};

struct sh_ggmlrpc_server {
    struct sh_ggmlrpc_server_options opt; /* zeros replaced by defaults */
    struct sh_device_info info;
    struct sh_listener *listener; /* may be NULL */
    struct sh_cache *cache;       /* may be NULL */
    atomic_bool stopping;

    struct sh_mutex lock; /* guards everything below, and `idle`, `ended` of connections */
    struct sh_cond changed;
    struct connection *connections;
    int n_connections;
    size_t used[SH_QUOTA_COUNT]; /* by all sessions */
    uint64_t n_sessions, n_failed;
    int64_t log_second;
    int n_logged[2]; // of sessions that computed nothing, and of those that did
    uint64_t n_unlogged;
};

typedef enum shoal_status session_handler(struct sh_session *s, uint64_t size,
                                          struct shoal_error *err);

/* ---- session.c ------------------------------------------------------------------------------*/

/* Serve until the connection ends; `c` is told when the session is idle.  OK: the client closed. */
enum shoal_status sh_session_run(struct sh_session *s, struct connection *c,
                                 struct shoal_error *err);
/* Cancel what runs, free everything. */
void sh_session_release(struct sh_session *s);

struct sh_pace sh_session_pace(const struct sh_session *s); /* of a frame that begins now */
/* Exactly n bytes of the current frame. */
enum shoal_status sh_session_receive(struct sh_session *s, void *dst, size_t n,
                                     struct sh_pace *pace, struct shoal_error *err);
enum shoal_status sh_session_answer(struct sh_session *s, const struct sh_wire_answer *a,
                                    struct shoal_error *err);
/* Wait for a ticket of the queue, and notice a client that vanishes meanwhile. */
enum shoal_status sh_session_wait(struct sh_session *s, sh_ticket t, struct shoal_error *err);

/* Claim bytes of a quota, the client's and that which all share, before they are allocated; false:
 * not enough is left. */
bool sh_session_take(struct sh_session *s, enum session_quota q, size_t bytes);
void sh_session_give(struct sh_session *s, enum session_quota q, size_t bytes);
size_t sh_session_left(struct sh_session *s, enum session_quota q);
/* Take of SH_QUOTA_WORK for `what`, or say what is needed and what is left: ERR_NOMEM. */
enum shoal_status sh_session_take_work(struct sh_session *s, size_t bytes, const char *what,
                                       struct shoal_error *err);
/* Tell that the session is about to wait for a command; false: it should end now. */
bool sh_server_may_wait(struct connection *c, bool idle);
void sh_server_woke(struct connection *c);
/* May a line be logged in this second?  If not it is counted.  Sessions that computed have a budget
 * of their own: what a burst of short ones leaves out is not what a person looks for. */
bool sh_server_may_log(struct sh_ggmlrpc_server *v, bool computed);

/* ---- session_tensor.c, session_graph.c ------------------------------------------------------*/

session_handler sh_session_alloc_buffer, sh_session_get_alignment, sh_session_get_max_size,
    sh_session_buffer_get_base, sh_session_free_buffer, sh_session_buffer_clear,
    sh_session_set_tensor, sh_session_set_tensor_hash, sh_session_get_tensor,
    sh_session_copy_tensor, sh_session_get_device_memory, sh_session_init_tensor,
    sh_session_get_alloc_size, sh_session_device_count, sh_session_memset_tensor;
session_handler sh_session_graph_compute, sh_session_graph_recompute;

/* Give up prepared graphs that use a buffer (token 0: all); they must not be running. */
void sh_session_drop_graphs(struct sh_session *s, uint64_t token);

#endif
