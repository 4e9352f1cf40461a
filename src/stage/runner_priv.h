/* stage/runner_priv.h - what the two files of a runner share.
 *
 *     runner.c         the station's calls: what callers' threads do
 *     runner_thread.c  the thread that drives the stage
 *
 * The ring is indexed by step number.  Four counters of the epoch walk it:
 *
 *      emitted <= collected <= started <= next
 *
 * next: to be announced; started: to be given to the stage or passed over; collected: its result is
 * due; emitted: to be said out.
 *
 *      FREE --announce--> WAITING -> RUNNING -> DONE -> SINK -> OUT --release--> FREE
 *
 * The lock guards everything but what the thread owns of a RUNNING slot: its copy, output and
 * times.  `filling` marks a place that a caller writes to outside the lock.
 */
#ifndef STAGE_RUNNER_PRIV_H
#define STAGE_RUNNER_PRIV_H

#include "base/thread.h"
#include "stage/runner.h"
#include "stage/step_copy.h"

enum { SH_RUNNER_CANCELS_MAX = 8 };

enum sh_runner_state {
    SH_SLOT_FREE,
    SH_SLOT_WAITING,
    SH_SLOT_RUNNING,
    SH_SLOT_DONE,
    SH_SLOT_SINK,
    SH_SLOT_OUT
};

struct sh_runner_slot {
    enum sh_runner_state state;
    uint64_t number;
    struct sh_step_copy copy;
    float *place; /* [rows_max][width_in], NULL at a first stage */
    int32_t filled, needed, filling;
    bool cancelled; /* asked for */
    bool released;  /* before it was out */
    bool here;      /* it failed at this station */
    bool held;      /* `out` is to be given back */
    enum shoal_status status;
    struct shoal_error error;
    struct sh_stage_output out;
    int64_t deadline_ns, announced_ns, complete_ns, begin_ns, end_ns;
    struct sh_station_timing timings[SH_STATION_TIMINGS_MAX]; /* of the stages before */
    int n_timings;
};

struct sh_runner_range {
    uint64_t from, to;
};

struct sh_runner {
    struct sh_station_head head;
    struct sh_runner_options o;
    struct sh_thread thread;
    int64_t last_end_ns; /* of the thread */
    struct sh_mutex lock;
    struct sh_cond work;          /* for the thread */
    struct sh_cond idle;          /* a reset, a copy or a cancel is done */
    struct sh_runner_slot *slots; /* [n_slots] */
    uint64_t next, started, collected, emitted;
    struct sh_runner_range cancels[SH_RUNNER_CANCELS_MAX]; /* of steps to be announced */
    int n_cancels, n_cancelling;
    bool stop, resetting;
    uint64_t epoch; /* asked for */
    enum shoal_status reset_status, lost;
    struct shoal_error reset_error, why;
    bool told; /* that it is lost */
    struct sh_station_stats stats;
    struct sh_device_traffic loaded; /* of the device, when the runner was made */
    /* Of the output that is being said, so that its slot may go meanwhile. */
    struct sh_station_timing timings[SH_STATION_TIMINGS_MAX];
    struct shoal_error error;
};

static inline struct sh_runner_slot *sh_runner_slot_at(struct sh_runner *r, uint64_t number)
{
    return &r->slots[number % (uint64_t)r->o.n_slots];
}
/* All its rows are there. */
static inline bool sh_runner_complete(const struct sh_runner_slot *s)
{
    return s->filled == s->needed && !s->filling;
}
/* It will not run. */
static inline bool sh_runner_doomed(const struct sh_runner_slot *s)
{
    return s->status || s->cancelled;
}

/* Under the lock: the slot's output may go. */
void sh_runner_free(struct sh_runner *r, struct sh_runner_slot *s);
/* The thread: `arg` is the runner. */
void *sh_runner_run(void *arg);

#endif
