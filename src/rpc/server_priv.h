/* rpc/server_priv.h - what the files of a worker's side share.
 *
 *     server.c           connections by purpose, stopping, revoking, figures
 *     session.c          the sessions: open, find, lease, resume, close
 *     session_control.c  messages of a CONTROL connection
 *     session_data.c     a DATA connection: weights
 *     session_link.c     LINK_ messages and LINK connections
 *     hosted.c           one stage of a session: steps in, outputs out, routes
 *
 * Locks.  The server's lock guards the list of sessions, their attachment and leases; a session's
 * lock its connection, stages, links and weights; a hosted stage's lock its route and kept results.
 * They are taken in this order.  Nothing waits for a device, a stage or a peer under a lock.
 */
#ifndef RPC_SERVER_PRIV_H
#define RPC_SERVER_PRIV_H

#include "base/thread.h"
#include "rpc/blobs.h"
#include "rpc/conn.h"
#include "rpc/link.h"
#include "rpc/server.h"
#include "stage/runner.h"

#define SH_SESSION_STAGES_MAX 64
#define SH_SESSION_LINKS_MAX 128

struct sh_hosted; /* a stage */

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

/* ---- a stage (hosted.c) ---------------------------------------------------------------------*/

/* Where a stage's outputs go that are for the host; `c` is borrowed for the call, under no lock of
 * the session. */
struct sh_hosted_options {
    struct sh_device *device; /* borrowed */
    struct sh_rpc_handle handle;
    const struct sh_rpc_stage_put *put;  /* borrowed for the call */
    const struct sh_graph_wire_map *ops; /* of the host */
    struct sh_session_weights *weights;  /* borrowed */
    /* Send to the host: false while nobody is attached. */
    bool (*send)(void *self, enum sh_rpc_type type, const void *msg);
    void (*progress)(void *self, uint64_t done, uint64_t total); /* loading */
    bool (*stop)(void *self);                                    /* polled while loading */
    void *self;
    int64_t step_ns;
};
SHOAL_NODISCARD enum shoal_status sh_hosted_create(struct sh_hosted **out,
                                                   const struct sh_hosted_options *opt,
                                                   struct sh_rpc_stage_ready *ready,
                                                   struct shoal_error *err);
void sh_hosted_destroy(struct sh_hosted *h); /* stops what runs; accepts NULL */

SHOAL_NODISCARD enum shoal_status sh_hosted_step(struct sh_hosted *h, const struct sh_rpc_step *m,
                                                 const uint8_t *payload, size_t n,
                                                 struct shoal_error *err);
/* From the host or from a link. */
SHOAL_NODISCARD enum shoal_status
sh_hosted_hidden(struct sh_hosted *h, const struct sh_rpc_hidden *m, struct shoal_error *err);
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
/* A link's writer side: what sh_rpc_link_events' up and acked are to do. */
void sh_hosted_link_up(struct sh_hosted *h, uint64_t next);
void sh_hosted_link_acked(struct sh_hosted *h, uint64_t epoch, uint64_t next);
/* Everything from `ack` on that the host may not have: for RESUME. */
void sh_hosted_resend(struct sh_hosted *h, uint64_t ack);
void sh_hosted_progress(struct sh_hosted *h, struct sh_rpc_progress_of *out);

#endif
