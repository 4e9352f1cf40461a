/* rpc/server_priv.h - what the files of a worker's side share.
 *
 *     server.c           connections by purpose, stopping, revoking
 *     server_tell.c      what a worker says of itself
 *     session.c          the sessions: open, find, lease, resume, end
 *     session_control.c  messages of a CONTROL connection
 *     session_stage.c    stages of a session: put in a thread of its own, found, dropped
 *     session_data.c     weights, on a DATA connection or on CONTROL
 *     session_link.c     LINK_ messages
 *     hosted.c           one stage of a session: steps in, routes
 *     hosted_make.c      from STAGE_PUT to a stage within its claims
 *     hosted_out.c       what a stage gave: sent, kept, sent again
 *
 * Who works on a session.  Either it is attached: then the thread of its CONTROL connection, and
 * nobody else, handles its messages, makes and drops stages and links, and ends it.  Or it is
 * detached: then whoever takes it from the list (a RESUME, the end of its lease, a revocation, the
 * server's end) is that one.  Threads of stages and links only send, through sh_session_send(),
 * and feed stages.  Others who want an attached session's end cut its connection.
 *
 * Locks.  The server's lock guards the lists of connections and sessions, attachment and leases; a
 * session's `lock` its tables of stages; a hosted stage's `in` its input side, its `out` its route
 * and kept results; a session's `sending` its connection.  They are taken in this order, and
 * nothing waits for a device, a stage or a peer under one of them.
 */
#ifndef RPC_SERVER_PRIV_H
#define RPC_SERVER_PRIV_H

#include <stdatomic.h>

#include "base/log_limit.h"
#include "base/thread.h"
#include "rpc/blobs.h"
#include "rpc/conn.h"
#include "rpc/link.h"
#include "rpc/server.h"
#include "stage/runner.h"

#define SH_SESSION_STAGES_MAX 64
#define SH_SESSION_LINKS_MAX 128
#define SH_SESSION_SLOTS_MAX 66          /* steps in flight of a stage */
#define SH_DATA_CHUNK_BYTES (256u << 10) /* what PUT should carry */

struct sh_hosted;  /* a stage */
struct sh_session; /* below */

/* ---- the server (server.c) ------------------------------------------------------------------*/

/* One serve() under way; on its thread's stack. */
struct sh_served {
    struct sh_served *next;
    const struct sh_rpc_client *who;
    struct sh_rpc_conn *conn;   /* NULL in the greeting and when it is over */
    struct sh_session *session; /* of a CONTROL connection: attached; of DATA: ATTACH */
    bool data;
    const char *why; /* it was cut from here; NULL: it was not */
    bool ends;       /* and its session ends with it */
};

struct sh_rpc_server {
    struct sh_rpc_server_options opt;
    uint8_t machine[16], boot[16];
    struct sh_rpc_links *links;
    struct sh_log_limit log;
    int64_t began_ns;
    atomic_bool stopping;
    atomic_int n_steps;     /* under way in all stages */
    _Atomic uint64_t steps; /* that were run */
    struct sh_thread reaper;

    struct sh_mutex lock; /* all below */
    struct sh_cond changed;
    struct sh_served *served;
    struct sh_session *sessions;
    int n_connections, n_sessions, n_detached;
    uint64_t last_number;
    uint64_t n_ended, n_failed;
    size_t memory_used;
    bool ending; /* the reaper is to go */
};

/* Under the server's lock: cut a connection, and tell the peer why. */
void sh_served_cut(struct sh_served *v, const char *why);
/* An answer, or what nobody waits for. */
void sh_server_answer(struct sh_rpc_conn *c, enum sh_rpc_type type, uint32_t request,
                      const void *msg);
/* Answers to DEVICES and STATS. */
void sh_server_devices(struct sh_rpc_server *s, struct sh_rpc_conn *c, uint32_t request);
void sh_server_tell_stats(struct sh_rpc_server *s, struct sh_rpc_conn *c, uint32_t request);
/* Steps begin (1), or are over (below 0). */
void sh_server_count_step(struct sh_rpc_server *s, int change);

/* ---- a session (session.c) ------------------------------------------------------------------*/

/* Where a stage is found; generation rises with every one that was here. */
struct sh_session_place {
    struct sh_hosted *hosted; /* NULL: nothing here */
    uint32_t generation;
};

struct sh_session {
    struct sh_rpc_server *server;
    uint64_t number;
    uint8_t secret[16];
    char kid[SH_KID_TEXT], key[65], name[97]; /* of the key, of the model */
    char peer[SH_ADDRESS_TEXT_MAX];           /* of the last CONTROL connection */
    int64_t lease_ns, opened_ns;
    uint64_t claimed, claimed_weights; /* bytes set aside; of those for weights */
    size_t queue_max; /* bytes that may wait on a connection: all outputs in flight, and more */
    struct sh_session_weights *weights;
    struct sh_session_links *links; /* session_link.c's; NULL: none yet */
    _Atomic uint64_t steps;
    _Atomic int64_t compute_ns, heard_ns;
    uint64_t bytes_in, bytes_out; /* of connections that are over; under the server's lock */

    /* Under the server's lock. */
    struct sh_session *next;
    bool attached;
    int64_t lease_end_ns; /* while detached */
    int n_data;           /* DATA connections */

    struct sh_mutex lock; /* guards place and taken */
    struct sh_session_place place[SH_SESSION_STAGES_MAX];
    uint64_t taken; /* bytes of stages */

    /* Of who works on the session. */
    struct sh_session_put *put; /* the last STAGE_PUT, session_stage.c's */
    uint64_t epoch;

    struct sh_mutex sending;
    struct sh_cond sent;
    struct sh_rpc_conn *conn; /* NULL while detached */
    int n_sending;            /* threads that use it */
};

/* Send to the host; false while nobody is attached, and when the connection is lost.  Any thread.
 */
bool sh_session_send(struct sh_session *s, enum sh_rpc_type type, uint32_t request,
                     const void *msg);

/* OPEN of this connection: attached to v on success.  A refusal is a failure, with need and left
 * where memory lacks. */
SHOAL_NODISCARD enum shoal_status sh_session_open(struct sh_rpc_server *server, struct sh_served *v,
                                                  const struct sh_rpc_open *m,
                                                  struct sh_rpc_opened *out, uint64_t *need,
                                                  uint64_t *left, struct shoal_error *err);
/* RESUME, which is answered here unless it fails. */
SHOAL_NODISCARD enum shoal_status sh_session_resume(struct sh_rpc_server *server,
                                                    struct sh_served *v,
                                                    const struct sh_rpc_resume *m, uint32_t request,
                                                    struct shoal_error *err);
/* CLOSE; returns the bytes that are free again. */
uint64_t sh_session_close(struct sh_served *v);
/* ATTACH of a DATA connection, and its end. */
SHOAL_NODISCARD enum shoal_status sh_session_attach_data(struct sh_rpc_server *s,
                                                         struct sh_served *v,
                                                         const struct sh_rpc_attach *m,
                                                         struct shoal_error *err);
void sh_session_leave_data(struct sh_rpc_server *server, struct sh_served *v);
/* The CONTROL connection is over: the session is detached, or ends. */
void sh_session_leave(struct sh_served *v, enum shoal_status st, const struct shoal_error *err);
/* By who took it from the list: everything of the session is free afterwards.  Returns the bytes
 * that were set aside. */
uint64_t sh_session_end(struct sh_session *s, enum shoal_status st, const char *reason);
/* End all detached sessions (of a key; NULL: of all). */
void sh_sessions_end_detached(struct sh_rpc_server *s, const char *kid, const char *reason);
/* The thread that frees sessions whose lease is over. */
void *sh_sessions_reap(void *server);

/* ---- messages (session_control.c) -----------------------------------------------------------*/

/* Serve a greeted CONTROL connection until it ends. */
enum shoal_status sh_session_control(struct sh_rpc_server *s, struct sh_served *v,
                                     struct shoal_error *err);
/* ---- stages of a session (session_stage.c) --------------------------------------------------*/

/* The stage of a handle; NULL if there is none. */
struct sh_hosted *sh_session_stage(struct sh_session *s, struct sh_rpc_handle h);
/* All stages, one after the other: *at begins at 0; NULL behind the last. */
struct sh_hosted *sh_session_next_stage(struct sh_session *s, int *at);
/* Take bytes of what the session set aside; false: only *left are. */
bool sh_session_reserve(struct sh_session *s, uint64_t bytes, uint64_t *left);
void sh_session_return(struct sh_session *s, uint64_t bytes);
/* Load a stage in a thread of its own, which answers `request`.  What it is refused for at once is
 * a failure. */
SHOAL_NODISCARD enum shoal_status sh_session_put_stage(struct sh_session *s, struct sh_rpc_conn *c,
                                                       const struct sh_rpc_incoming *m,
                                                       struct shoal_error *err);
bool sh_session_is_putting(struct sh_session *s);
/* Stop loading and wait until it has stopped. */
void sh_session_stop_put(struct sh_session *s);
bool sh_session_drop_stage(struct sh_session *s, struct sh_rpc_handle h);
void sh_session_drop_stages(struct sh_session *s);

/* ---- links of a session (session_link.c) ----------------------------------------------------*/

/* LINK_EXPECT, LINK_OPEN, LINK_CLOSE, LINK_PROBE: answered or refused; a failure ends the
 * connection.  From the CONTROL thread, which should read on soon. */
SHOAL_NODISCARD enum shoal_status sh_session_link_message(struct sh_session *s,
                                                          struct sh_rpc_conn *c,
                                                          const struct sh_rpc_incoming *m,
                                                          struct shoal_error *err);
/* The link of a handle, for ROUTE: this end writes, and `h` is its stage.  NULL if there is none.
 */
struct sh_rpc_link *sh_session_link(struct sh_session *s, struct sh_rpc_handle link,
                                    const struct sh_hosted *h);
/* The connection of who asked is over: nothing is answered on it any more. */
void sh_session_links_detach(struct sh_session *s);
/* Close the links of a stage (NULL: all of the session).  Before the stage is destroyed; nobody
 * calls into the stage from them afterwards. */
void sh_session_links_close(struct sh_session *s, struct sh_hosted *h);

/* ---- weights of a session (session_data.c) --------------------------------------------------*/

struct sh_session_weights; /* blobs that the session holds, by hash */
/* `bytes_max`: what OPEN set aside for weights, over all devices; blobs of the worker's own files
 * do not count.  Messages and stages of the session must be over before it is destroyed. */
SHOAL_NODISCARD enum shoal_status sh_session_weights_create(struct sh_session_weights **out,
                                                            struct sh_blobs *blobs, const char *kid,
                                                            uint64_t bytes_max,
                                                            struct shoal_error *err);
void sh_session_weights_destroy(struct sh_session_weights *w); /* accepts NULL */
/* Bytes of weights that were or will be sent. */
uint64_t sh_session_weights_bytes(struct sh_session_weights *w);
/* Hold the weight of an entry of WANT or STAGE_PUT: its blob, borrowed; a stage needs one that is
 * whole.  ERR_FORMAT, ERR_LIMIT where the entry contradicts itself, ERR_UNSUPPORTED for slices,
 * ERR_NOMEM beyond what was set aside. */
SHOAL_NODISCARD enum shoal_status sh_session_weights_want(struct sh_session_weights *w,
                                                          const struct sh_rpc_weight *entry,
                                                          struct sh_blob **out,
                                                          struct shoal_error *err);
/* WANT, PUT, PUT_END on the connection they came on (DATA, or CONTROL without that feature).  What
 * is refused is answered; a failure is for the connection's end. */
SHOAL_NODISCARD enum shoal_status sh_session_weights_message(struct sh_session_weights *w,
                                                             struct sh_rpc_conn *c,
                                                             enum sh_rpc_type type,
                                                             uint32_t request, const void *msg,
                                                             struct shoal_error *err);

/* ---- a stage (hosted.c, hosted_make.c, hosted_out.c) ----------------------------------------*/

struct sh_hosted_options {
    struct sh_session *session;
    struct sh_device *device; /* borrowed */
    struct sh_rpc_handle handle;
    uint64_t epoch;
    const struct sh_rpc_stage_put *put;  /* borrowed for the call */
    const struct sh_graph_wire_map *ops; /* of the host; borrowed for the call */
    void (*progress)(void *self, uint64_t done, uint64_t total); /* loading */
    bool (*stop)(void *self);                                    /* polled while loading */
    void *self;
    uint64_t need, left; /* set where memory was refused */
};
SHOAL_NODISCARD enum shoal_status sh_hosted_create(struct sh_hosted **out,
                                                   struct sh_hosted_options *opt,
                                                   struct sh_rpc_stage_ready *ready,
                                                   struct shoal_error *err);
/* Wake who waits in sh_hosted_hidden(); nothing is taken in any more. */
void sh_hosted_stop(struct sh_hosted *h);
void sh_hosted_destroy(struct sh_hosted *h); /* stops what runs; accepts NULL */

/* A failure ends the connection: the frame is nonsense.  A step that does not fit is a "desync",
 * which the host is told here. */
SHOAL_NODISCARD enum shoal_status sh_hosted_step(struct sh_hosted *h, const struct sh_rpc_step *m,
                                                 const uint8_t *payload, size_t n,
                                                 struct shoal_error *err);
/* From the host (`leaving` is NULL) or from a link: then it waits for the STEP that rows belong to,
 * until the stage is reset or stopped, or *leaving is set and sh_hosted_wake() called.  A failure
 * is for the end of the connection that they came on. */
SHOAL_NODISCARD enum shoal_status sh_hosted_hidden(struct sh_hosted *h,
                                                   const struct sh_rpc_hidden *m,
                                                   const atomic_bool *leaving,
                                                   struct shoal_error *err);
void sh_hosted_wake(struct sh_hosted *h);
void sh_hosted_cancel(struct sh_hosted *h, const struct sh_rpc_cancel *m);
/* The host holds every result below `ack` of this epoch. */
void sh_hosted_ack(struct sh_hosted *h, uint64_t ack);
SHOAL_NODISCARD enum shoal_status sh_hosted_reset(struct sh_hosted *h, uint64_t epoch,
                                                  struct shoal_error *err);
/* Rows go into this link (NULL: to the host, naming `reader`) from step `from` on; kept outputs
 * from there on are sent again. */
SHOAL_NODISCARD enum shoal_status sh_hosted_route(struct sh_hosted *h, struct sh_rpc_link *link,
                                                  struct sh_rpc_handle reader,
                                                  enum sh_rpc_format format, uint64_t from,
                                                  struct shoal_error *err);
/* The link goes, and nothing is given to it any more: what it has not taken, and what comes, is
 * kept until ROUTE says where it goes. */
void sh_hosted_unlink(struct sh_hosted *h, const struct sh_rpc_link *link);
/* A link's writer side: what sh_rpc_link_events' up and acked are to do.  up: what is kept from
 * `next` of this epoch on is sent again (all of it where the reader's epoch is another), what
 * comes after behind it.  A link that is not up refuses rows (ERR_STATE); they stay kept. */
void sh_hosted_link_up(struct sh_hosted *h, uint64_t epoch, uint64_t next);
void sh_hosted_link_acked(struct sh_hosted *h, uint64_t epoch, uint64_t next);
/* A link's reader side: the handle to name, and the first step of its epoch whose rows are not all
 * here.  After a break rows come again: what is here already is passed over in silence. */
void sh_hosted_reader(struct sh_hosted *h, struct sh_rpc_handle *stage, uint64_t *epoch,
                      uint64_t *next);
/* For RESUME, before and after the new connection is there: forget what was sent to the host from
 * `ack` on; send what it has not got. */
void sh_hosted_rewind(struct sh_hosted *h, uint64_t ack);
void sh_hosted_send_again(struct sh_hosted *h);
void sh_hosted_progress(struct sh_hosted *h, struct sh_rpc_progress_of *out);

#endif
