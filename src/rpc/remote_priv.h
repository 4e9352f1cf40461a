/* rpc/remote_priv.h - what the files of a host's side share.
 *
 *     remote.c          opening, the thread that reads, figures, closing
 *     remote_dial.c     a connection to a worker, and what to do where there is none
 *     remote_session.c  a session, and stages put on the worker
 *     remote_station.c  a stage as a station: steps and rows out
 *     remote_output.c   and outputs in, each of them held against what was asked for
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
struct sh_remote_join;    /* remote_link.c: two stations and their link */

/* A link that was lost when no station had joined it: the news may come first. */
struct sh_remote_down {
    struct sh_rpc_handle link;
    char why[200];
};
#define SH_REMOTE_DOWNS 8 /* the last ones */

struct sh_remote {
    /* Set when it opens, constant afterwards. */
    char address[SH_ADDRESS_TEXT_MAX]; /* as people gave it, with its port */
    struct sh_endpoint endpoint;
    bool has_key, insecure;
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

    atomic_ullong ack; /* results of steps below are held, by all stations */

    struct sh_mutex lock; /* everything below */
    struct sh_remote_station *station[SH_REMOTE_STAGES_MAX];
    int n_stations;
    uint64_t epoch;
    struct sh_remote_down down[SH_REMOTE_DOWNS];
    unsigned n_down;
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
/* The same with more to say: progress, another limit of time (0: the usual), memory refused. */
SHOAL_NODISCARD enum shoal_status sh_remote_ask_for(struct sh_remote *r, struct sh_rpc_ask *ask,
                                                    struct shoal_error *err);
/* "worker 10.0.0.2:50052: " before the message, once; the peer is set. */
void sh_remote_name_error(const struct sh_remote *r, struct shoal_error *err);
/* OK, or why the worker is lost. */
SHOAL_NODISCARD enum shoal_status sh_remote_state(struct sh_remote *r, struct shoal_error *err);

/* ---- weights (remote_weights.c) -------------------------------------------------------------*/

/* An entry of WANT; borrows the name. */
void sh_remote_weight_put(struct sh_rpc_weight *out, const struct sh_remote_weight *w);
/* Nothing is sent for now: the DATA connection ends, and with it two threads and their BEATs on
 * either side.  More weights make another.  Accepts NULL. */
void sh_remote_data_rest(struct sh_remote_data *d);
/* The same for good. */
void sh_remote_data_close(struct sh_remote_data *d);
/* Add what went over DATA connections. */
void sh_remote_data_traffic(struct sh_remote *r, struct sh_rpc_traffic *io);

/* ---- stations (remote_station.c, remote_output.c)
 * ------------------------------------------------------------*/

/* A step on its way, from its announcement until its output is released.  Memory grows to what the
 * steps ask for and is then used again. */
struct sh_remote_slot {
    uint64_t number;
    bool used, released;
    bool is_out;     /* its output was given to the sink */
    bool has_result; /* RESULT came, logits may still follow */
    int32_t n_rows;
    int32_t rows_sent; /* input rows that went to the worker */
    int32_t rows_here; /* hidden rows that came */
    float *hidden;     /* [rows_max][width_out], where rows come home */

    struct sh_row_result *want; /* [wanted_max], what is asked for, then what came */
    int32_t *top_k;             /* [wanted_max] */
    int32_t n_want, n_logits;
    struct sh_candidate *top; /* of all rows */
    size_t top_cap;
    float *logits; /* of all rows that want them */
    size_t logits_cap;
    int32_t logits_row; /* of these rows, the one that comes */
    int32_t logits_at;  /* of that one, what is here */

    enum shoal_status status;
    struct shoal_error error;
    bool here; /* it failed at this stage */
    struct sh_station_timing timing[SH_STATION_TIMINGS_MAX];
    int n_timings;
};

struct sh_remote_station {
    struct sh_station_head head;
    struct sh_remote *r;
    struct sh_rpc_handle handle; /* of the stage on the worker */
    int index;
    bool first, last;
    int n_slots;
    struct sh_step_limits limits;
    int64_t width_in, width_out, step_ns;
    struct sh_station_sink sink;

    /* Links (remote_link.c): set before the first step. */
    bool joined; /* hidden rows are not for the sink, but for another worker */
    struct sh_remote_join *onward, *backward; /* to the next station, from the one before */

    /* Of whoever announces and resets. */
    uint64_t hash;  /* over the epoch's steps */
    uint8_t *frame; /* a STEP's bytes, for the hash */
    size_t frame_bytes;
    struct sh_arena arena; /* a STEP's lists */

    atomic_ullong held; /* = oldest, for the worker's ack */

    struct sh_mutex lock; /* everything below */
    struct sh_cond calm;  /* nothing that came is being handled */
    bool busy, closing, told_lost;
    uint64_t epoch;
    uint64_t next;               /* step that is to be announced */
    uint64_t told;               /* steps below were sent, where `backward` may wait for it */
    uint64_t out;                /* step whose output is to come */
    uint64_t oldest;             /* not released */
    struct sh_remote_slot *slot; /* [n_slots], by number */
    struct sh_station_stats stats;
};

/* The station as one of a worker, NULL if it is none. */
struct sh_remote_station *sh_remote_station_of(struct sh_station *s);
/* With all its memory, but not yet known to the worker: `handle` is to be set, and the station to
 * be listed.  Destroy is for one that never was. */
SHOAL_NODISCARD enum shoal_status sh_remote_station_create(struct sh_remote_station **out,
                                                           struct sh_remote *r,
                                                           const struct sh_remote_stage_desc *desc,
                                                           struct shoal_error *err);
void sh_remote_station_destroy(struct sh_remote_station *s); /* accepts NULL */
/* The slot of a step; its number says whether it is that step's now. */
static inline struct sh_remote_slot *sh_remote_slot(struct sh_remote_station *s, uint64_t number)
{
    return &s->slot[number % (uint64_t)s->n_slots];
}
/* Under the station's lock: forget what is released. */
void sh_remote_station_advance(struct sh_remote_station *s);
/* What came for a station, from the thread that reads.  A failure is the worker's lie, and ends
 * the connection. */
SHOAL_NODISCARD enum shoal_status sh_remote_station_message(struct sh_remote_station *s,
                                                            const struct sh_rpc_incoming *m,
                                                            struct shoal_error *err);
void sh_remote_station_lost(struct sh_remote_station *s, enum shoal_status st,
                            const struct shoal_error *why);

/* ---- stages (remote_session.c) --------------------------------------------------------------*/

/* Hidden rows of the station go to the host in this format, from the next step on. */
SHOAL_NODISCARD enum shoal_status sh_remote_route_home(struct sh_remote_station *s,
                                                       enum sh_rpc_format format,
                                                       struct shoal_error *err);
/* Take the stage off the worker. */
void sh_remote_stage_drop(struct sh_remote_station *s);

/* ---- links (remote_link.c) ------------------------------------------------------------------*/

/* LINK_DOWN came, to the thread that reads. */
void sh_remote_link_down(struct sh_remote *r, const struct sh_rpc_link_down *m);
/* Rows of a joined station came home: its link is lost, so they are passed on.  From the thread
 * that reads, under no lock.  False: it is not joined. */
bool sh_remote_link_rows(struct sh_remote_station *s, const struct sh_rpc_hidden *m);
/* The station is about to be closed; nothing that came for it is being handled. */
void sh_remote_link_leave(struct sh_remote_station *s);

#endif
