/* stage/station.h - a stage as a pipeline sees it: steps are announced, rows come when they come.
 *
 *      announced ──rows complete, all earlier steps out──> running ──> out ──release──> gone
 *          └──pass(), cancel(), an earlier failure──> passed over ──> out (with that status)
 *
 * A station is told of every step ahead of its rows, so what only the step decides travels while
 * the stages before still compute.  It runs steps in the order of their numbers, each as soon as
 * its rows are there, and says each one out exactly once, in order, through its sink: with hidden
 * rows, with results (the last stage), or with the status of its failure.  A step that is passed
 * over has its edits applied, so later ones find the tables as they should be.
 *
 * Implementations: stage/runner.h drives a struct sh_stage in this process; rpc/remote.h stands
 * for one on a worker.  A worker's session drives the former with what comes from the network.
 *
 * An output stays valid until release() of its number; n_slots steps may be announced and not
 * released.  Threads: announce, rows, pass, reset, release from one thread at a time each, cancel
 * from any; the sink is called from a thread of the station, one call at a time, under no lock.
 */
#ifndef STAGE_STATION_H
#define STAGE_STATION_H

#include "stage/stage.h"

struct sh_station; /* starts with struct sh_station_head */

/* Of one stage in one step, microseconds by its own clock. */
struct sh_station_timing {
    uint32_t stage;      /* its place in the pipeline */
    uint32_t wait_us;    /* from the announcement to the last row */
    uint32_t queue_us;   /* until it began to run */
    uint32_t compute_us; /* until it was done */
};
#define SH_STATION_TIMINGS_MAX 64

struct sh_station_output {
    uint64_t epoch, number;
    enum shoal_status status;        /* of the step */
    const struct shoal_error *error; /* where status is not OK */
    bool here;                       /* it failed at this station, not before it */
    bool lost;                       /* and the station with it: sink.lost follows */
    const float *hidden;             /* [n_rows][width], NULL at the last stage and on failure */
    int64_t width;
    int32_t n_rows;
    const struct sh_row_result *results; /* at the last stage */
    int32_t n_results;
    const struct sh_station_timing *timings; /* of the stages before and of this one, in order */
    int n_timings;
};

struct sh_station_sink {
    void (*output)(void *self, const struct sh_station_output *out);
    /* The station is lost: no output will follow.  Once, and not for failures of steps. */
    void (*lost)(void *self, enum shoal_status st, const struct shoal_error *err);
    void *self;
};

/* Figures since it was made. */
struct sh_station_stats {
    uint64_t steps;
    int64_t compute_ns, wait_ns, queue_ns;
    /* Of a remote one: from the host's side, its own frames.  Of a runner: what crossed a network
     * to and from its device. */
    uint64_t bytes_in, bytes_out;
    int in_flight_max; /* most steps between announcement and output */
};

struct sh_station_ops {
    enum shoal_status (*announce)(struct sh_station *s, const struct sh_step *step,
                                  int64_t deadline_ns, struct shoal_error *err);
    enum shoal_status (*rows)(struct sh_station *s, uint64_t number, int32_t first_row,
                              int32_t n_rows, const void *f32,
                              const struct sh_station_timing *timings, int n_timings,
                              struct shoal_error *err);
    void (*pass)(struct sh_station *s, uint64_t number, enum shoal_status st,
                 const struct shoal_error *why);
    void (*cancel)(struct sh_station *s, uint64_t from, uint64_t to);
    enum shoal_status (*reset)(struct sh_station *s, uint64_t epoch, struct shoal_error *err);
    void (*release)(struct sh_station *s, uint64_t number);
    void (*stats)(struct sh_station *s, struct sh_station_stats *out);
    void (*close)(struct sh_station *s);
};
struct sh_station_head {
    const struct sh_station_ops *ops;
};

/* ---- the calls: they only forward ----------------------------------------------------------- */

/* Copy the step in.  A first stage has its rows in it; embedding rows where `embd` is NULL and
 * n_embd is not 0 come by sh_station_rows().  `deadline_ns`:
 * most time of its own computing, 0: 120 s.  ERR_STATE: its number is not the next one, or
 * n_slots steps are not released yet.  Other failures of a step come as its output. */
SHOAL_NODISCARD enum shoal_status sh_station_announce(struct sh_station *s,
                                                      const struct sh_step *step,
                                                      int64_t deadline_ns, struct shoal_error *err);
/* Rows [first_row, first_row + n_rows) of an announced step, little-endian f32 at any alignment,
 * copied in; in ascending order without gaps.  `timings` (with the first piece) are of the stages
 * before.  ERR_ARG and ERR_STATE name what does not fit. */
SHOAL_NODISCARD enum shoal_status sh_station_rows(struct sh_station *s, uint64_t number,
                                                  int32_t first_row, int32_t n_rows,
                                                  const void *f32,
                                                  const struct sh_station_timing *timings,
                                                  int n_timings, struct shoal_error *err);
/* The rows of this step will not come: it failed before, with this status. */
void sh_station_pass(struct sh_station *s, uint64_t number, enum shoal_status st,
                     const struct shoal_error *why);
/* Stop steps [from, to) that are not out yet, announced or to be announced; effect between row
 * blocks. */
void sh_station_cancel(struct sh_station *s, uint64_t from, uint64_t to);
/* A new epoch: what is in flight is stopped and forgotten without an output, steps count from 0,
 * tables are empty, bytes and weights stay.  Returns when that is so. */
SHOAL_NODISCARD enum shoal_status sh_station_reset(struct sh_station *s, uint64_t epoch,
                                                   struct shoal_error *err);
/* The output of this step is not needed any more (before it is out: once it is). */
void sh_station_release(struct sh_station *s, uint64_t number);
void sh_station_stats(struct sh_station *s, struct sh_station_stats *out);
/* Stop, wait until no sink call is under way, free. */
void sh_station_close(struct sh_station *s); /* accepts NULL */

#endif
