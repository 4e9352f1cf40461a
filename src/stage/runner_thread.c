/* stage/runner_thread.c - the thread that drives a stage (see runner_priv.h).
 *
 * It always does the first of these that is possible: start a step, say one out, wait for the
 * oldest result.  What is passed over must find the stage idle.
 */
#include "stage/runner_priv.h"

#include <string.h>

#include "base/clock.h"

#define STOP_NS (10 * SH_SECOND) /* a stopped step must be back by then */

void sh_runner_free(struct sh_runner *r, struct sh_runner_slot *s)
{
    if (s->held) sh_stage_release_output(r->o.stage, &s->out);
    s->held = s->released = s->cancelled = s->here = false;
    s->status = SHOAL_OK;
    s->filled = 0;
    s->n_timings = 0;
    s->state = SH_SLOT_FREE;
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

static void set_lost(struct sh_runner *r, enum shoal_status st, const struct shoal_error *why)
{
    if (r->lost) return;
    r->lost = st;
    r->why = *why;
    sh_cond_broadcast(&r->idle);
}

static bool shares_sequence(const struct sh_step *a, const struct sh_step *b)
{
    for (int32_t i = 0; i < a->n_seqs; i++)
        for (int32_t k = 0; k < b->n_seqs; k++)
            if (a->seqs[i].seq == b->seqs[k].seq) return true;
    return false;
}

// A step failed here: those behind it that go on with one of its sequences must not run.
static void fail_sharing(struct sh_runner *r, const struct sh_runner_slot *s)
{
    for (uint64_t n = s->number + 1; n < r->next; n++) {
        struct sh_runner_slot *t = sh_runner_slot_at(r, n);
        if (t->status || !shares_sequence(&s->copy.step, &t->copy.step)) continue;
        t->here = true;
        t->status = sh_fail(&t->error, SHOAL_ERR_POISONED,
                            "stage %d: step %llu shares a sequence with step %llu, which failed",
                            r->o.index, (unsigned long long)n, (unsigned long long)s->number);
    }
}

static void fail_here(struct sh_runner *r, struct sh_runner_slot *s, enum shoal_status st,
                      const struct shoal_error *err)
{
    if (s->status) return;
    s->status = st;
    s->error = *err;
    s->here = true;
    if (st != SHOAL_ERR_CANCELLED && st != SHOAL_ERR_POISONED && !s->cancelled) fail_sharing(r, s);
}

static void pass_over(struct sh_runner *r, struct sh_runner_slot *s)
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
    if (!sh_runner_complete(s)) s->complete_ns = s->begin_ns;
    s->state = SH_SLOT_DONE;
    r->started++;
    r->collected++;
}

static void start(struct sh_runner *r, struct sh_runner_slot *s)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st;

    s->state = SH_SLOT_RUNNING;
    sh_mutex_unlock(&r->lock);
    s->begin_ns = sh_now_ns(&sh_clock_system);
    st = sh_stage_submit(r->o.stage, &s->copy.step, s->place, &err);
    sh_mutex_lock(&r->lock);
    if (st) { // the stage does not know of the step: the two do not fit together any more
        set_lost(r, st, &err);
        fail_here(r, s, st, &err);
        s->state = SH_SLOT_DONE;
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
static enum shoal_status take_result(struct sh_runner *r, struct sh_runner_slot *s, bool *hangs,
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

static void collect(struct sh_runner *r)
{
    struct sh_runner_slot *s = sh_runner_slot_at(r, r->collected);
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st;
    bool hangs = false;

    sh_mutex_unlock(&r->lock);
    st = take_result(r, s, &hangs, &err);
    r->last_end_ns = sh_now_ns(&sh_clock_system);
    sh_mutex_lock(&r->lock);
    s->end_ns = r->last_end_ns;
    s->held = st == SHOAL_OK;
    s->state = SH_SLOT_DONE;
    r->collected++;
    if (hangs || (breaks(st) && s->out.status == st)) set_lost(r, st, &err);
    if (st) fail_here(r, s, st, &err);
}

static void fill_output(struct sh_runner *r, struct sh_runner_slot *s, struct sh_station_output *o)
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
        o->lost = s->here && s->status == r->lost;
        return;
    }
    o->hidden = s->out.hidden;
    o->width = s->out.width;
    o->n_rows = (int32_t)s->out.n_rows;
    o->results = s->out.results;
    o->n_results = s->out.n_results;
}

static void emit(struct sh_runner *r)
{
    struct sh_runner_slot *s = sh_runner_slot_at(r, r->emitted);
    const uint64_t number = r->emitted;
    struct sh_station_output o;

    fill_output(r, s, &o);
    s->state = SH_SLOT_SINK;
    r->emitted++;
    sh_mutex_unlock(&r->lock);
    r->o.sink.output(r->o.sink.self, &o);
    sh_mutex_lock(&r->lock);
    if (s->number != number || s->state != SH_SLOT_SINK) return; // released meanwhile
    s->state = SH_SLOT_OUT;
    if (s->released) sh_runner_free(r, s);
}

// What is in the stage comes back and counts for nothing.
static enum shoal_status drain(struct sh_runner *r, struct shoal_error *err)
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

static void do_reset(struct sh_runner *r)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st = drain(r, &err);

    r->collected = r->started;
    for (int i = 0; i < r->o.n_slots; i++)
        while (r->slots[i].filling)
            (void)sh_cond_wait(&r->idle, &r->lock, INT64_MAX);
    for (int i = 0; i < r->o.n_slots; i++)
        sh_runner_free(r, &r->slots[i]);
    if (!st) st = sh_stage_reset(r->o.stage, r->epoch, &err);
    if (st) set_lost(r, st, &err);
    r->next = r->started = r->collected = r->emitted = 0;
    r->n_cancels = 0;
    r->reset_status = st;
    r->reset_error = err;
    r->resetting = false;
    sh_cond_broadcast(&r->idle);
}

static void tell_lost(struct sh_runner *r)
{
    const enum shoal_status st = r->lost;

    r->told = true;
    r->error = r->why;
    sh_mutex_unlock(&r->lock);
    r->o.sink.lost(r->o.sink.self, st, &r->error);
    sh_mutex_lock(&r->lock);
}

// One thing under the lock, which is given up for what takes long.  False: nothing to do.
static bool act(struct sh_runner *r)
{
    struct sh_runner_slot *s = sh_runner_slot_at(r, r->started);
    const bool due = !r->lost && r->started < r->next && s->state == SH_SLOT_WAITING;

    if (r->resetting && !r->lost) {
        do_reset(r);
    } else if (due && sh_runner_doomed(s) && r->started == r->collected) {
        pass_over(r, s);
    } else if (due && !sh_runner_doomed(s) && sh_runner_complete(s)) {
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

void *sh_runner_run(void *arg)
{
    struct sh_runner *r = arg;

    sh_mutex_lock(&r->lock);
    while (!r->stop)
        if (!act(r)) (void)sh_cond_wait(&r->work, &r->lock, INT64_MAX);
    sh_mutex_unlock(&r->lock);
    return NULL;
}
