/* rpc/remote_priv.h - what the files of a host's side share.
 *
 *     remote.c          opening, the thread that reads, figures, closing
 *     remote_dial.c     a connection to a worker, and what to do where there is none
 *     remote_session.c  a session, and stages put on the worker
 *     remote_station.c  a stage as a station: steps and rows out, outputs in
 *     remote_weights.c  weights: what is missing is sent
 *     remote_link.c     links between two stations, measured and joined
 *
 * Locks.  The remote's lock guards the list of stations, the epoch, and why the worker is lost; a
 * station's lock its steps.  They are taken in this order, and nothing is sent or called under
 * either, but for the small frames of a step: STEP, HIDDEN and CANCEL leave in the order in which
 * a station gave them out.
 */
#ifndef RPC_REMOTE_PRIV_H
#define RPC_REMOTE_PRIV_H

#include <stdatomic.h>

#include "base/arena.h"
#include "base/thread.h"
#include "rpc/remote.h"

#define SH_REMOTE_STAGES_MAX 64

struct sh_remote_data;    /* the DATA connection and what is known of weights: remote_weights.c */
struct sh_remote_station; /* below */

struct sh_remote {
    /* Set when it opens, constant afterwards. */
    char address[SH_ADDRESS_TEXT_MAX]; /* as people gave it, with its port */
    struct sh_endpoint endpoint;
    bool has_key;
    struct sh_key key;
    uint64_t features; /* offered */
    int64_t connect_ns, silence_ns, reply_ns;
    uint8_t machine[16]; /* of this end */
    struct sh_rpc_conn *conn;
    struct sh_remote_info info;
    struct sh_thread reader;

    /* Set by sh_remote_session(), constant afterwards. */
    bool has_session;
    uint64_t session;
    uint8_t secret[16];
    uint32_t lease_ms;

    struct sh_remote_data *data; /* NULL until weights are asked for */

    struct sh_mutex lock; /* everything below */
    struct sh_remote_station *station[SH_REMOTE_STAGES_MAX];
    int n_stations;
    uint64_t epoch;
    enum shoal_status lost;
    struct shoal_error why;
};

/* ---- connections (remote_dial.c) ------------------------------------------------------------*/

/* A greeted connection to the worker for this purpose, whose run() is the caller's to call.
 * Messages say what to do. */
SHOAL_NODISCARD enum shoal_status sh_remote_dial(const struct sh_remote *r,
                                                 enum sh_rpc_purpose purpose,
                                                 struct sh_rpc_conn **out, struct shoal_error *err);

/* ---- asking (remote.c) ----------------------------------------------------------------------*/

/* Ask on the CONTROL connection with the usual limit of time.  Lists, text and bytes of the answer
 * are in the arena.  Failures name the worker. */
SHOAL_NODISCARD enum shoal_status sh_remote_ask(struct sh_remote *r, enum sh_rpc_type type,
                                                const void *msg, void *answer,
                                                struct sh_arena *arena, struct shoal_error *err);
/* "worker 10.0.0.2:50052: " before the message, once; the peer is set. */
void sh_remote_name_error(const struct sh_remote *r, struct shoal_error *err);
/* OK, or why the worker is lost. */
SHOAL_NODISCARD enum shoal_status sh_remote_state(struct sh_remote *r, struct shoal_error *err);

/* ---- weights (remote_weights.c) -------------------------------------------------------------*/

/* An entry of WANT and STAGE_PUT; borrows the name. */
void sh_remote_weight_put(struct sh_rpc_weight *out, const struct sh_remote_weight *w);
/* End the DATA connection; accepts NULL. */
void sh_remote_data_close(struct sh_remote_data *d);

/* ---- stations (remote_station.c) ------------------------------------------------------------*/

struct sh_remote_slot; /* a step on its way */

struct sh_remote_station {
    struct sh_station_head head;
    struct sh_remote *r;
    struct sh_rpc_handle handle; /* of the stage on the worker */
    int index;
    bool first, last;
    int n_slots;
    struct sh_step_limits limits;
    int64_t width_in, width_out;
    struct sh_station_sink sink;

    /* Links (remote_link.c): set before the first step. */
    bool joined;                    /* hidden rows go to another worker, not to the host */
    struct sh_rpc_handle link;      /* of this worker's end, that writes; generation 0: none */
    struct sh_rpc_handle link_from; /* the end that reads, from the stage before */

    struct sh_mutex lock; /* everything below */
    struct sh_cond calm;  /* no call of the sink is under way */
    bool calling, closing, told_lost;
    uint64_t epoch;
    uint64_t next;               /* step that is to be announced */
    uint64_t out;                /* step whose output is to come */
    uint64_t oldest;             /* not released */
    uint64_t hash;               /* over the epoch's steps */
    struct sh_remote_slot *slot; /* [n_slots], by number */
    struct sh_station_stats stats;
    uint8_t *frame; /* a STEP's bytes, for the hash */
    size_t frame_bytes;
    struct sh_arena arena; /* a STEP's lists */

    /* Of the reader's thread alone. */
    struct sh_station_timing timing[SH_STATION_TIMINGS_MAX];
};

/* The station as one of a worker, NULL if it is none. */
struct sh_remote_station *sh_remote_station_of(struct sh_station *s);
SHOAL_NODISCARD enum shoal_status sh_remote_station_create(struct sh_remote_station **out,
                                                           struct sh_remote *r,
                                                           const struct sh_remote_stage_desc *desc,
                                                           struct sh_rpc_handle handle,
                                                           struct shoal_error *err);
/* What came for a station.  A failure is the worker's lie, and ends the connection. */
SHOAL_NODISCARD enum shoal_status sh_remote_station_message(struct sh_remote_station *s,
                                                            const struct sh_rpc_incoming *m,
                                                            struct shoal_error *err);
void sh_remote_station_lost(struct sh_remote_station *s, enum shoal_status st,
                            const struct shoal_error *why);

/* ---- links (remote_link.c) ------------------------------------------------------------------*/

/* LINK_DOWN came. */
void sh_remote_link_down(struct sh_remote *r, const struct sh_rpc_link_down *m);

#endif
