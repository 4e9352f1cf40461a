/* stage/runner.c - see runner.h.
 *
 * The ring is indexed by step number.  Three counters of the epoch walk it:
 *
 *      emitted <= collected <= started <= next
 *
 * next: to be announced; started: to be given to the stage or passed over; collected: its result is
 * due; emitted: to be said out.  The thread always does the first of these that is possible: start
 * a step, say one out, wait for the oldest result.  What is passed over must find the stage idle.
 *
 *      FREE ──rows or pass before the step──> EARLY
 *        └──announce──────────────────────────┴──> WAITING ──> RUNNING ──> DONE ──> SINK ──> OUT
 *
 * Threads: the lock guards everything but what `run` owns while a step is RUNNING (stage calls,
 * clock of results).  `filling` marks a place that a caller copies into outside the lock.
 */
#include "stage/runner.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "stage/step_copy.h"

#define DEADLINE_NS (120 * SH_SECOND)
#define STOP_NS (10 * SH_SECOND) /* a stopped step must be back by then */

enum { SLOTS_MAX = 4096, CANCELS_MAX = 8 };

enum slot_state { FREE, EARLY, WAITING, RUNNING, DONE, SINK, OUT };

struct slot {
    enum slot_state state;
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

struct range {
    uint64_t from, to;
};

struct runner {
    struct sh_station_head head;
    struct sh_runner_options o;
    struct sh_thread thread;
    int64_t last_end_ns; /* of the thread */
    struct sh_mutex lock;
    struct sh_cond work; /* for the thread */
    struct sh_cond idle; /* a reset, a copy or a cancel is done */
    struct slot *slots;
    uint64_t next, started, collected, emitted;
    struct range cancels[CANCELS_MAX]; /* of steps to be announced */
    int n_cancels, n_cancelling;
    bool stop, resetting;
    uint64_t epoch; /* asked for */
    enum shoal_status reset_status, lost;
    struct shoal_error reset_error, why;
    bool told; /* that it is lost */
    struct sh_station_stats stats;
    /* Of the output that is being said, so that its slot may go meanwhile. */
    struct sh_station_timing timings[SH_STATION_TIMINGS_MAX];
    struct shoal_error error;
};

static struct runner *from(struct sh_station *s)
{
    return (struct runner *)(void *)s;
}

static struct slot *slot_at(struct runner *r, uint64_t number)
{
    return &r->slots[number % (uint64_t)r->o.n_slots];
}

// The slot of a step that was announced and is not gone, or NULL.
static struct slot *find(struct runner *r, uint64_t number)
{
    struct slot *s = slot_at(r, number);

    if (number >= r->next || s->number != number || s->state < WAITING) return NULL;
    return s;
}

static void free_slot(struct runner *r, struct slot *s)
{
    if (s->held) sh_stage_release_output(r->o.stage, &s->out);
    s->held = s->released = s->cancelled = s->here = false;
    s->status = SHOAL_OK;
    s->filled = 0;
    s->n_timings = 0;
    s->state = FREE;
}

static uint32_t micros(int64_t ns)
{
    const int64_t us = ns / 1000;

    return us < 0 ? 0 : us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

// Is the failure one that this stage cannot come back from?
static bool breaks(enum shoal_status st)
{
    return st == SHOAL_ERR_PEER || st == SHOAL_ERR_TIMEOUT || st == SHOAL_ERR_IO;
}

static void set_lost(struct runner *r, enum shoal_status st, const struct shoal_error *why)
{
    if (r->lost) return;
    r->lost = st;
    r->why = *why;
    sh_cond_broadcast(&r->idle);
}

/* ---- the thread ----------------------------------------------------------------------------- */

static bool shares_sequence(const struct sh_step *a, const struct sh_step *b)
{
    for (int32_t i = 0; i < a->n_seqs; i++)
        for (int32_t k = 0; k < b->n_seqs; k++)
            if (a->seqs[i].seq == b->seqs[k].seq) return true;
    return false;
}

// A step failed here: those behind it that go on with one of its sequences must not run.
static void fail_sharing(struct runner *r, const struct slot *s)
{
    for (uint64_t n = s->number + 1; n < r->next; n++) {
        struct slot *t = slot_at(r, n);
        if (t->status || !shares_sequence(&s->copy.step, &t->copy.step)) continue;
        t->here = true;
        t->status = sh_fail(&t->error, SHOAL_ERR_POISONED,
                            "stage %d: step %llu shares a sequence with step %llu, which failed",
                            r->o.index, (unsigned long long)n, (unsigned long long)s->number);
    }
}

static void fail_here(struct runner *r, struct slot *s, enum shoal_status st,
                      const struct shoal_error *err)
{
    if (s->status) return;
    s->status = st;
    s->error = *err;
    s->here = true;
    if (st != SHOAL_ERR_CANCELLED && st != SHOAL_ERR_POISONED && !s->cancelled) fail_sharing(r, s);
}

static bool complete(const struct slot *s)
{
    return s->filled == s->needed && !s->filling;
}

static bool doomed(const struct slot *s)
{
    return s->status || s->cancelled;
}

static void pass_over(struct runner *r, struct slot *s)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st;

    sh_mutex_unlock(&r->lock);
    st = sh_stage_skip(r->o.stage, &s->copy.step, &err);
    sh_mutex_lock(&r->lock);
    if (breaks(st) || st == SHOAL_ERR_STATE || st == SHOAL_ERR_ARG) set_lost(r, st, &err);
    if (!st && !s->status) {
        st = sh_fail(&err, SHOAL_ERR_CANCELLED, "stage %d: step %llu was cancelled", r->o.index,
                     (unsigned long long)s->number);
    }
    if (st) fail_here(r, s, st, &err);
    s->begin_ns = s->end_ns = sh_now_ns(&sh_clock_system);
    if (!complete(s)) s->complete_ns = s->begin_ns;
    s->state = DONE;
    r->started++;
    r->collected++;
}

static void start(struct runner *r, struct slot *s)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st;

    s->state = RUNNING;
    sh_mutex_unlock(&r->lock);
    s->begin_ns = sh_now_ns(&sh_clock_system);
    st = sh_stage_submit(r->o.stage, &s->copy.step, s->place, &err);
    sh_mutex_lock(&r->lock);
    if (st) { // the stage does not know of the step: the two do not fit together any more
        set_lost(r, st, &err);
        fail_here(r, s, st, &err);
        s->state = DONE;
        s->end_ns = s->begin_ns;
        r->started++;
        r->collected++;
        return;
    }
    r->started++;
    if (!s->cancelled) return;
    sh_mutex_unlock(&r->lock); // the cancel did not find it in the stage
    sh_stage_cancel(r->o.stage, s->number);
    sh_mutex_lock(&r->lock);
}

// The oldest result, within the step's time from where it began to run.
static enum shoal_status take_result(struct runner *r, struct slot *s, bool *hangs,
                                     struct shoal_error *err)
{
    const int64_t since = s->begin_ns > r->last_end_ns ? s->begin_ns : r->last_end_ns;
    int64_t left = SH_NO_DEADLINE;
    enum shoal_status st;

    s->begin_ns = since;
    if (s->deadline_ns != SH_NO_DEADLINE) {
        const int64_t used = sh_now_ns(&sh_clock_system) - since;
        left = used < s->deadline_ns ? s->deadline_ns - used : 0;
    }
    st = sh_stage_result(r->o.stage, left, &s->out, err);
    if (st != SHOAL_ERR_TIMEOUT || s->out.status) return st;
    sh_stage_cancel(r->o.stage, s->number);
    st = sh_stage_result(r->o.stage, STOP_NS, &s->out, err);
    *hangs = st == SHOAL_ERR_TIMEOUT && !s->out.status;
    if (st != SHOAL_ERR_CANCELLED && !*hangs) return st;
    return sh_fail(err, SHOAL_ERR_TIMEOUT, "stage %d: step %llu ran longer than %.6g s%s",
                   r->o.index, (unsigned long long)s->number, (double)s->deadline_ns / 1e9,
                   *hangs ? ", and its device does not stop" : "");
}

static void collect(struct runner *r)
{
    struct slot *s = slot_at(r, r->collected);
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st;
    bool hangs = false;

    sh_mutex_unlock(&r->lock);
    st = take_result(r, s, &hangs, &err);
    r->last_end_ns = sh_now_ns(&sh_clock_system);
    sh_mutex_lock(&r->lock);
    s->end_ns = r->last_end_ns;
    s->held = st == SHOAL_OK;
    s->state = DONE;
    r->collected++;
    if (hangs || (breaks(st) && s->out.status == st)) set_lost(r, st, &err);
    if (st) fail_here(r, s, st, &err);
}

static void fill_output(struct runner *r, struct slot *s, struct sh_station_output *o)
{
    const struct sh_station_timing own = {.stage = (uint32_t)r->o.index,
                                          .wait_us = micros(s->complete_ns - s->announced_ns),
                                          .queue_us = micros(s->begin_ns - s->complete_ns),
                                          .compute_us = micros(s->end_ns - s->begin_ns)};

    memcpy(r->timings, s->timings, (size_t)s->n_timings * sizeof *s->timings);
    r->timings[s->n_timings] = own;
    *o = (struct sh_station_output){.epoch = s->copy.step.epoch,
                                    .number = s->number,
                                    .status = s->status,
                                    .timings = r->timings,
                                    .n_timings = s->n_timings + 1};
    r->stats.steps++;
    r->stats.wait_ns += (int64_t)own.wait_us * 1000;
    r->stats.queue_ns += (int64_t)own.queue_us * 1000;
    r->stats.compute_ns += s->end_ns - s->begin_ns;
    if (s->status) {
        r->error = s->error;
        o->error = &r->error;
        o->here = s->here;
        return;
    }
    o->hidden = s->out.hidden;
    o->width = s->out.width;
    o->n_rows = (int32_t)s->out.n_rows;
    o->results = s->out.results;
    o->n_results = s->out.n_results;
}

static void emit(struct runner *r)
{
    struct slot *s = slot_at(r, r->emitted);
    const uint64_t number = r->emitted;
    struct sh_station_output o;

    fill_output(r, s, &o);
    s->state = SINK;
    r->emitted++;
    sh_mutex_unlock(&r->lock);
    r->o.sink.output(r->o.sink.self, &o);
    sh_mutex_lock(&r->lock);
    if (s->number != number || s->state != SINK) return; // released meanwhile
    s->state = OUT;
    if (s->released) free_slot(r, s);
}

// What is in the stage comes back and counts for nothing.
static enum shoal_status drain(struct runner *r, struct shoal_error *err)
{
    const uint64_t from = r->collected, to = r->started;
    enum shoal_status st = SHOAL_OK;

    sh_mutex_unlock(&r->lock);
    for (uint64_t n = from; n < to; n++)
        sh_stage_cancel(r->o.stage, n);
    for (uint64_t n = from; n < to; n++) {
        struct sh_stage_output out;
        struct shoal_error one = SHOAL_ERROR_INIT;
        const enum shoal_status got = sh_stage_result(r->o.stage, STOP_NS, &out, &one);
        if (!got) sh_stage_release_output(r->o.stage, &out);
        if (!breaks(got) || st) continue;
        st = got;
        if (err) *err = one;
        if (!out.status) break; // it hangs
    }
    sh_mutex_lock(&r->lock);
    return st;
}

static void do_reset(struct runner *r)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st = drain(r, &err);

    r->collected = r->started;
    for (int i = 0; i < r->o.n_slots; i++)
        while (r->slots[i].filling)
            (void)sh_cond_wait(&r->idle, &r->lock, INT64_MAX);
    for (int i = 0; i < r->o.n_slots; i++)
        free_slot(r, &r->slots[i]);
    if (!st) st = sh_stage_reset(r->o.stage, r->epoch, &err);
    if (st) set_lost(r, st, &err);
    r->next = r->started = r->collected = r->emitted = 0;
    r->n_cancels = 0;
    r->reset_status = st;
    r->reset_error = err;
    r->resetting = false;
    sh_cond_broadcast(&r->idle);
}

static void tell_lost(struct runner *r)
{
    const enum shoal_status st = r->lost;

    r->told = true;
    r->error = r->why;
    sh_mutex_unlock(&r->lock);
    r->o.sink.lost(r->o.sink.self, st, &r->error);
    sh_mutex_lock(&r->lock);
}

// One thing under the lock, which is given up for what takes long.  False: nothing to do.
static bool act(struct runner *r)
{
    struct slot *s = slot_at(r, r->started);
    const bool due = !r->lost && r->started < r->next && s->state == WAITING;

    if (r->resetting && !r->lost) {
        do_reset(r);
    } else if (due && doomed(s) && r->started == r->collected) {
        pass_over(r, s);
    } else if (due && !doomed(s) && complete(s)) {
        start(r, s);
    } else if (r->emitted < r->collected) {
        emit(r);
    } else if (r->lost && !r->told) {
        tell_lost(r);
    } else if (!r->lost && r->collected < r->started) {
        collect(r);
    } else {
        return false;
    }
    return true;
}

static void *run(void *arg)
{
    struct runner *r = arg;

    sh_mutex_lock(&r->lock);
    while (!r->stop)
        if (!act(r)) (void)sh_cond_wait(&r->work, &r->lock, INT64_MAX);
    sh_mutex_unlock(&r->lock);
    return NULL;
}

/* ---- the station's calls -------------------------------------------------------------------- */

static enum shoal_status lost(const struct runner *r, struct shoal_error *err)
{
    if (r->lost && err) *err = r->why;
    return r->lost;
}

static enum shoal_status can_announce(struct runner *r, const struct sh_step *step,
                                      struct shoal_error *err)
{
    const struct slot *s = slot_at(r, r->next);
    enum shoal_status st = lost(r, err);

    if (st) return st;
    if (r->resetting)
        return sh_fail(err, SHOAL_ERR_STATE, "stage %d: a step during a reset", r->o.index);
    if (step->number != r->next) {
        return sh_fail(err, SHOAL_ERR_STATE, "stage %d: step %llu comes when step %llu is due",
                       r->o.index, (unsigned long long)step->number, (unsigned long long)r->next);
    }
    if (s->state > EARLY) {
        return sh_fail(err, SHOAL_ERR_STATE, "stage %d: %d steps are in flight already", r->o.index,
                       r->o.n_slots);
    }
    st = sh_step_check(step, &r->o.limits, err);
    if (st) return st;
    if (step->n_embd > r->o.limits.rows_max) {
        return sh_fail(err, SHOAL_ERR_ARG, "stage %d: %d embedding rows, at most %lld", r->o.index,
                       (int)step->n_embd, (long long)r->o.limits.rows_max);
    }
    return SHOAL_OK;
}

static int32_t rows_needed(const struct runner *r, const struct sh_step *step)
{
    if (!r->o.first) return step->n_rows;
    return step->embd ? 0 : step->n_embd;
}

static bool in_cancelled_range(struct runner *r, uint64_t number)
{
    bool in = false;

    for (int i = 0; i < r->n_cancels; i++) {
        in = in || (number >= r->cancels[i].from && number < r->cancels[i].to);
        if (r->cancels[i].to <= number + 1) r->cancels[i--] = r->cancels[--r->n_cancels];
    }
    return in;
}

static void take_step(struct runner *r, struct slot *s, int32_t needed, int64_t deadline_ns)
{
    int in_flight;

    s->number = r->next++;
    s->state = WAITING;
    s->needed = needed;
    s->cancelled = in_cancelled_range(r, s->number);
    s->deadline_ns = deadline_ns > 0 ? deadline_ns : DEADLINE_NS;
    s->announced_ns = s->complete_ns = sh_now_ns(&sh_clock_system);
    in_flight = (int)(r->next - r->emitted);
    if (in_flight > r->stats.in_flight_max) r->stats.in_flight_max = in_flight;
    sh_cond_signal(&r->work);
}

static enum shoal_status runner_announce(struct sh_station *station, const struct sh_step *step,
                                         int64_t deadline_ns, struct shoal_error *err)
{
    struct runner *r = from(station);
    enum shoal_status st;
    struct slot *s;

    sh_mutex_lock(&r->lock);
    s = slot_at(r, r->next);
    while (s->filling && s->state == FREE) // rows of a step that is gone are still being copied
        (void)sh_cond_wait(&r->idle, &r->lock, INT64_MAX);
    st = can_announce(r, step, err);
    if (!st && s->state == EARLY && s->filled + s->filling > rows_needed(r, step)) {
        st = sh_fail(err, SHOAL_ERR_ARG, "stage %d: step %llu has %d rows, %d came before it",
                     r->o.index, (unsigned long long)step->number, (int)step->n_rows,
                     (int)(s->filled + s->filling));
    }
    if (!st) st = sh_step_copy_fill(&s->copy, step, r->o.first ? r->o.width_in : 0, err);
    if (!st) take_step(r, s, rows_needed(r, step), deadline_ns);
    sh_mutex_unlock(&r->lock);
    return st;
}

// The slot that rows or a status of step `number` belong to; NULL where nobody needs them.
static enum shoal_status find_place(struct runner *r, uint64_t number, struct slot **out,
                                    struct shoal_error *err)
{
    struct slot *s = slot_at(r, number);

    *out = NULL;
    if (number < r->next) {
        if (s->number != number || s->state != WAITING || doomed(s)) return SHOAL_OK;
        *out = s;
        return SHOAL_OK;
    }
    if (r->o.first || number - r->next >= (uint64_t)r->o.n_slots || s->state > EARLY ||
        (s->filling && s->state == FREE)) {
        return sh_fail(err, SHOAL_ERR_STATE, "stage %d: rows of step %llu, step %llu is due",
                       r->o.index, (unsigned long long)number, (unsigned long long)r->next);
    }
    if (s->state == FREE) {
        s->state = EARLY;
        s->number = number;
        s->needed = (int32_t)r->o.limits.rows_max;
        s->complete_ns = 0;
    }
    *out = s;
    return SHOAL_OK;
}

static enum shoal_status check_rows(const struct runner *r, const struct slot *s, int32_t first_row,
                                    int32_t n_rows, struct shoal_error *err)
{
    if (s->filling) {
        return sh_fail(err, SHOAL_ERR_STATE, "stage %d: two pieces of step %llu at a time",
                       r->o.index, (unsigned long long)s->number);
    }
    if (first_row != s->filled || n_rows < 0 || n_rows > s->needed - s->filled) {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "stage %d: %d rows from row %d of step %llu, expected row %d of %d",
                       r->o.index, (int)n_rows, (int)first_row, (unsigned long long)s->number,
                       (int)s->filled, (int)s->needed);
    }
    return SHOAL_OK;
}

enum shoal_status sh_runner_place(struct sh_station *station, uint64_t number, int32_t first_row,
                                  int32_t n_rows, float **place, struct shoal_error *err)
{
    struct runner *r = from(station);
    enum shoal_status st;
    struct slot *s;

    *place = NULL;
    sh_mutex_lock(&r->lock);
    st = lost(r, err);
    if (!st && r->resetting)
        st = sh_fail(err, SHOAL_ERR_STATE, "stage %d: rows during a reset", r->o.index);
    if (!st) st = find_place(r, number, &s, err);
    if (!st && s) st = check_rows(r, s, first_row, n_rows, err);
    if (!st && s && n_rows > 0) {
        float *base = r->o.first ? s->copy.embd : s->place;
        s->filling = n_rows;
        *place = base + (int64_t)first_row * r->o.width_in;
    }
    sh_mutex_unlock(&r->lock);
    return st;
}

void sh_runner_filled(struct sh_station *station, uint64_t number, int32_t n_rows,
                      const struct sh_station_timing *timings, int n_timings)
{
    struct runner *r = from(station);
    struct slot *s;

    sh_mutex_lock(&r->lock);
    s = slot_at(r, number);
    if (s->filling && s->number == number) {
        if (s->filled == 0 && timings && n_timings > 0 && n_timings < SH_STATION_TIMINGS_MAX) {
            memcpy(s->timings, timings, (size_t)n_timings * sizeof *timings);
            s->n_timings = n_timings;
        }
        if (n_rows > 0) s->filled += n_rows < s->filling ? n_rows : s->filling;
        s->filling = 0;
        if (s->state == WAITING && complete(s)) {
            s->complete_ns = sh_now_ns(&sh_clock_system);
            sh_cond_signal(&r->work);
        }
        if (s->state == FREE) s->filled = s->n_timings = 0;
        sh_cond_broadcast(&r->idle);
    }
    sh_mutex_unlock(&r->lock);
}

static enum shoal_status runner_rows(struct sh_station *s, uint64_t number, int32_t first_row,
                                     int32_t n_rows, const void *f32,
                                     const struct sh_station_timing *timings, int n_timings,
                                     struct shoal_error *err)
{
    const struct runner *r = from(s);
    enum shoal_status st;
    float *place;

    if (n_timings < 0 || n_timings >= SH_STATION_TIMINGS_MAX) {
        return sh_fail(err, SHOAL_ERR_ARG, "stage %d: timings of %d stages before it", r->o.index,
                       n_timings);
    }
    st = sh_runner_place(s, number, first_row, n_rows, &place, err);
    if (st || !place) return st;
    memcpy(place, f32, (size_t)n_rows * (size_t)r->o.width_in * sizeof *place);
    sh_runner_filled(s, number, n_rows, timings, n_timings);
    return SHOAL_OK;
}

static void runner_pass(struct sh_station *station, uint64_t number, enum shoal_status st,
                        const struct shoal_error *why)
{
    struct runner *r = from(station);
    struct slot *s = NULL;

    sh_mutex_lock(&r->lock);
    if (!r->lost && !r->resetting && !find_place(r, number, &s, NULL) && s &&
        !(s->state == WAITING && complete(s))) {
        s->status = st ? st : SHOAL_ERR_FORMAT;
        s->error = (struct shoal_error)SHOAL_ERROR_INIT;
        if (why) s->error = *why;
        s->error.code = s->status;
        s->here = false;
        sh_cond_signal(&r->work);
    }
    sh_mutex_unlock(&r->lock);
}

static void remember_cancel(struct runner *r, uint64_t begin, uint64_t end)
{
    struct range *c =
        r->n_cancels < CANCELS_MAX ? &r->cancels[r->n_cancels++] : &r->cancels[CANCELS_MAX - 1];

    *c = (struct range){begin, end};
}

// Steps [begin, end) that run are stopped; under the lock, which is given up meanwhile.
static void stop_running(struct runner *r, uint64_t begin, uint64_t end)
{
    if (begin < r->collected) begin = r->collected;
    if (end > r->started) end = r->started;
    r->n_cancelling++;
    sh_mutex_unlock(&r->lock);
    for (uint64_t n = begin; n < end; n++)
        sh_stage_cancel(r->o.stage, n);
    sh_mutex_lock(&r->lock);
    r->n_cancelling--;
    sh_cond_broadcast(&r->idle);
}

static void mark_cancelled(struct runner *r, uint64_t begin, uint64_t end)
{
    for (int i = 0; i < r->o.n_slots && r->slots; i++) {
        struct slot *s = &r->slots[i];
        const bool open = s->state == WAITING || s->state == RUNNING;
        if (open && s->number >= begin && s->number < end) s->cancelled = true;
    }
    sh_cond_signal(&r->work);
}

static void runner_cancel(struct sh_station *station, uint64_t begin, uint64_t end)
{
    struct runner *r = from(station);

    if (begin >= end) return;
    sh_mutex_lock(&r->lock);
    mark_cancelled(r, begin, end);
    if (end > r->next) remember_cancel(r, begin > r->next ? begin : r->next, end);
    stop_running(r, begin, end);
    sh_mutex_unlock(&r->lock);
}

static enum shoal_status runner_reset(struct sh_station *station, uint64_t epoch,
                                      struct shoal_error *err)
{
    struct runner *r = from(station);
    enum shoal_status st;

    sh_mutex_lock(&r->lock);
    while (r->resetting && !r->lost && !r->stop)
        (void)sh_cond_wait(&r->idle, &r->lock, INT64_MAX);
    r->resetting = true;
    r->epoch = epoch;
    mark_cancelled(r, 0, UINT64_MAX);
    stop_running(r, 0, UINT64_MAX);
    while ((r->resetting && !r->lost) || r->n_cancelling > 0)
        (void)sh_cond_wait(&r->idle, &r->lock, INT64_MAX);
    st = lost(r, err);
    if (!st && r->reset_status && err) *err = r->reset_error;
    if (!st) st = r->reset_status;
    sh_mutex_unlock(&r->lock);
    return st;
}

static void runner_release(struct sh_station *station, uint64_t number)
{
    struct runner *r = from(station);
    struct slot *s;

    sh_mutex_lock(&r->lock);
    s = find(r, number);
    if (s && s->state >= SINK) {
        free_slot(r, s);
    } else if (s) {
        s->released = true;
    }
    sh_mutex_unlock(&r->lock);
}

static void runner_stats(struct sh_station *station, struct sh_station_stats *out)
{
    struct runner *r = from(station);

    sh_mutex_lock(&r->lock);
    *out = r->stats;
    sh_mutex_unlock(&r->lock);
}

uint64_t sh_runner_next(struct sh_station *station)
{
    struct runner *r = from(station);
    uint64_t next;

    sh_mutex_lock(&r->lock);
    next = r->next;
    sh_mutex_unlock(&r->lock);
    return next;
}

static void runner_close(struct sh_station *station)
{
    struct runner *r = from(station);

    sh_mutex_lock(&r->lock);
    r->stop = true;
    mark_cancelled(r, 0, UINT64_MAX);
    stop_running(r, 0, UINT64_MAX);
    sh_mutex_unlock(&r->lock);
    sh_thread_join(&r->thread);
    sh_stage_destroy(r->o.stage);
    for (int i = 0; i < r->o.n_slots && r->slots; i++) {
        sh_step_copy_release(&r->slots[i].copy);
        sh_free(r->slots[i].place);
    }
    sh_free(r->slots);
    sh_cond_release(&r->idle);
    sh_cond_release(&r->work);
    sh_mutex_release(&r->lock);
    sh_free(r);
}

static const struct sh_station_ops OPS = {
    .announce = runner_announce,
    .rows = runner_rows,
    .pass = runner_pass,
    .cancel = runner_cancel,
    .reset = runner_reset,
    .release = runner_release,
    .stats = runner_stats,
    .close = runner_close,
};

/* ---- making --------------------------------------------------------------------------------- */

static enum shoal_status make_slots(struct runner *r, struct shoal_error *err)
{
    const struct sh_runner_options *o = &r->o;
    size_t floats = 0;
    bool ok = o->limits.rows_max > 0 && o->limits.rows_max <= INT32_MAX && o->width_in >= 0 &&
              o->n_slots > 0 && o->n_slots <= SLOTS_MAX;

    if (!ok) {
        return sh_fail(err, SHOAL_ERR_ARG, "stage %d: %d slots of %lld rows of %lld values",
                       o->index, o->n_slots, (long long)o->limits.rows_max, (long long)o->width_in);
    }
    r->slots = sh_calloc((size_t)o->n_slots, sizeof *r->slots);
    ok = r->slots && sh_mul_ok((size_t)o->limits.rows_max, (size_t)o->width_in, &floats);
    for (int i = 0; i < o->n_slots && ok && !o->first; i++)
        ok = (r->slots[i].place = sh_calloc(floats, sizeof(float))) != NULL;
    if (ok) return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_NOMEM, "stage %d: no memory for %d steps of %lld rows", o->index,
                   o->n_slots, (long long)o->limits.rows_max);
}

enum shoal_status sh_runner_create(struct sh_station **out, const struct sh_runner_options *opt,
                                   struct shoal_error *err)
{
    struct runner *r = sh_calloc(1, sizeof *r);
    enum shoal_status st;

    *out = NULL;
    if (!r) {
        sh_stage_destroy(opt->stage);
        return sh_fail(err, SHOAL_ERR_NOMEM, "stage %d: no memory for its thread", opt->index);
    }
    r->head.ops = &OPS;
    r->o = *opt;
    sh_mutex_init(&r->lock);
    sh_cond_init(&r->work);
    sh_cond_init(&r->idle);
    st = make_slots(r, err);
    if (!st) st = sh_thread_start(&r->thread, "stage", run, r, err);
    if (st) {
        runner_close((struct sh_station *)(void *)r);
        return st;
    }
    *out = (struct sh_station *)(void *)r;
    return SHOAL_OK;
}
