/* rpc/hosted_priv.h - a stage of a session inside.
 *
 *      STEP, HIDDEN ──> in: epoch, numbers, hash ──> runner ──output──> out: kept ──> host or link
 *                                                       ^                    └──acknowledged──┐
 *                                                       └─────────────release─────────────────┘
 *
 * An output lies where the runner has it until it is released, so what is kept costs nothing
 * beside, and is sent again from there.
 */
#ifndef RPC_HOSTED_PRIV_H
#define RPC_HOSTED_PRIV_H

#include "base/arena.h"
#include "rpc/server_priv.h"

/* Where rows go. */
struct sh_hosted_route {
    struct sh_rpc_link *link;    /* NULL: the host */
    bool nowhere;                /* the link has gone */
    struct sh_rpc_handle reader; /* named to the host */
    enum sh_rpc_format format;
};

/* Rows of one step on their way in. */
struct sh_hosted_arrival {
    uint64_t number;
    int32_t n_rows, have;
    bool passed;
};

/* The output of one step, until it is released. */
struct sh_hosted_kept {
    struct sh_station_output o; /* its timings and error are those below */
    struct sh_station_timing timings[SH_STATION_TIMINGS_MAX];
    struct shoal_error error;
    bool at_host; /* what of it is for the host was sent there */
};

struct sh_hosted {
    struct sh_session *session;
    struct sh_rpc_handle handle;
    uint32_t index;
    bool first, last;
    int n_slots;
    int64_t width_in, width_out, rows_max;
    struct sh_station *station;
    uint64_t bytes; /* of what the session set aside */

    struct sh_mutex in; /* all below, up to `out` */
    struct sh_cond changed;
    uint64_t epoch, next, hash;
    bool desync, stopped;
    struct sh_hosted_arrival *arrival; /* [n_slots], by number */
    struct sh_arena arena;             /* of a STEP */

    struct sh_mutex out; /* all below */
    uint64_t out_epoch;
    struct sh_hosted_kept *kept; /* [n_slots], by number */
    uint64_t released, out_next; /* kept are [released, out_next) */
    struct sh_hosted_route route, before;
    uint64_t from;    /* steps from here on take `route`, earlier ones `before` */
    uint8_t *encoded; /* a piece in another format than f32 */
    size_t encoded_bytes;
    struct sh_arena results; /* of a RESULT */
};

/* The runner's sink. */
void sh_hosted_output(void *self, const struct sh_station_output *out);
void sh_hosted_lost(void *self, enum shoal_status st, const struct shoal_error *err);
/* Under `out`: forget all that is kept. */
void sh_hosted_forget(struct sh_hosted *h);

#endif
