/* stage/runner.c - see runner.h and runner_priv.h: the calls, and making. */
#include "stage/runner.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "stage/runner_priv.h"

#define DEADLINE_NS (120 * SH_SECOND)

enum { SLOTS_MAX = 4096 };

static struct sh_runner *from(struct sh_station *s)
{
    return (struct sh_runner *)(void *)s;
}

// The slot of a step that was announced and is not gone, or NULL.
static struct sh_runner_slot *find(struct sh_runner *r, uint64_t number)
{
    struct sh_runner_slot *s = sh_runner_slot_at(r, number);

    if (number >= r->next || s->number != number || s->state < SH_SLOT_WAITING) return NULL;
    return s;
}

/* ---- the station's calls -------------------------------------------------------------------- */

static enum shoal_status lost(const struct sh_runner *r, struct shoal_error *err)
{
    if (r->lost && err) *err = r->why;
    return r->lost;
}

static enum shoal_status can_announce(struct sh_runner *r, const struct sh_step *step,
                                      struct shoal_error *err)
{
    const struct sh_runner_slot *s = sh_runner_slot_at(r, r->next);
    enum shoal_status st = lost(r, err);

    if (st) return st;
    if (r->resetting)
        return sh_fail(err, SHOAL_ERR_STATE, "stage %d: a step during a reset", r->o.index);
    if (step->number != r->next) {
        return sh_fail(err, SHOAL_ERR_STATE, "stage %d: step %llu comes when step %llu is due",
                       r->o.index, (unsigned long long)step->number, (unsigned long long)r->next);
    }
    if (s->state != SH_SLOT_FREE) {
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

static int32_t rows_needed(const struct sh_runner *r, const struct sh_step *step)
{
    if (!r->o.first) return step->n_rows;
    return step->embd ? 0 : step->n_embd;
}

static bool in_cancelled_range(struct sh_runner *r, uint64_t number)
{
    bool in = false;

    for (int i = 0; i < r->n_cancels; i++) {
        in = in || (number >= r->cancels[i].from && number < r->cancels[i].to);
        if (r->cancels[i].to <= number + 1) r->cancels[i--] = r->cancels[--r->n_cancels];
    }
    return in;
}

static void take_step(struct sh_runner *r, struct sh_runner_slot *s, int32_t needed,
                      int64_t deadline_ns)
{
    int in_flight;

    s->number = r->next++;
    s->state = SH_SLOT_WAITING;
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
    struct sh_runner *r = from(station);
    enum shoal_status st;
    struct sh_runner_slot *s;

    sh_mutex_lock(&r->lock);
    // Rows of a step that is gone may still be on their way into its place.
    while (s = sh_runner_slot_at(r, r->next), s->filling && s->state == SH_SLOT_FREE)
        (void)sh_cond_wait(&r->idle, &r->lock, INT64_MAX);
    st = can_announce(r, step, err);
    if (!st) st = sh_step_copy_fill(&s->copy, step, r->o.first ? r->o.width_in : 0, err);
    if (!st) take_step(r, s, rows_needed(r, step), deadline_ns);
    sh_mutex_unlock(&r->lock);
    return st;
}

// The slot that rows or a status of step `number` belong to; NULL where nobody needs them.
static enum shoal_status find_place(struct sh_runner *r, uint64_t number,
                                    struct sh_runner_slot **out, struct shoal_error *err)
{
    struct sh_runner_slot *s = sh_runner_slot_at(r, number);

    *out = NULL;
    if (number >= r->next) {
        return sh_fail(err, SHOAL_ERR_STATE, "stage %d: rows of step %llu, step %llu is due",
                       r->o.index, (unsigned long long)number, (unsigned long long)r->next);
    }
    if (s->number == number && s->state == SH_SLOT_WAITING && !sh_runner_doomed(s)) *out = s;
    return SHOAL_OK;
}

static enum shoal_status check_rows(const struct sh_runner *r, const struct sh_runner_slot *s,
                                    int32_t first_row, int32_t n_rows, struct shoal_error *err)
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
    struct sh_runner *r = from(station);
    enum shoal_status st;
    struct sh_runner_slot *s;

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
    struct sh_runner *r = from(station);
    struct sh_runner_slot *s;

    sh_mutex_lock(&r->lock);
    s = sh_runner_slot_at(r, number);
    if (s->filling && s->number == number) {
        if (s->filled == 0 && timings && n_timings > 0 && n_timings < SH_STATION_TIMINGS_MAX) {
            memcpy(s->timings, timings, (size_t)n_timings * sizeof *timings);
            s->n_timings = n_timings;
        }
        if (n_rows > 0) s->filled += n_rows < s->filling ? n_rows : s->filling;
        s->filling = 0;
        if (s->state == SH_SLOT_WAITING && sh_runner_complete(s)) {
            s->complete_ns = sh_now_ns(&sh_clock_system);
            sh_cond_signal(&r->work);
        }
        if (s->state == SH_SLOT_FREE) s->filled = s->n_timings = 0;
        sh_cond_broadcast(&r->idle);
    }
    sh_mutex_unlock(&r->lock);
}

static enum shoal_status runner_rows(struct sh_station *s, uint64_t number, int32_t first_row,
                                     int32_t n_rows, const void *f32,
                                     const struct sh_station_timing *timings, int n_timings,
                                     struct shoal_error *err)
{
    const struct sh_runner *r = from(s);
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
    struct sh_runner *r = from(station);
    struct sh_runner_slot *s = NULL;

    sh_mutex_lock(&r->lock);
    if (!r->lost && !r->resetting && !find_place(r, number, &s, NULL) && s &&
        !(s->state == SH_SLOT_WAITING && sh_runner_complete(s))) {
        s->status = st ? st : SHOAL_ERR_FORMAT;
        s->error = (struct shoal_error)SHOAL_ERROR_INIT;
        if (why) s->error = *why;
        s->error.code = s->status;
        s->here = false;
        sh_cond_signal(&r->work);
    }
    sh_mutex_unlock(&r->lock);
}

static void remember_cancel(struct sh_runner *r, uint64_t begin, uint64_t end)
{
    struct sh_runner_range *c = r->n_cancels < SH_RUNNER_CANCELS_MAX
                                    ? &r->cancels[r->n_cancels++]
                                    : &r->cancels[SH_RUNNER_CANCELS_MAX - 1];

    *c = (struct sh_runner_range){begin, end};
}

// Steps [begin, end) that run are stopped; under the lock, which is given up meanwhile.
static void stop_running(struct sh_runner *r, uint64_t begin, uint64_t end)
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

static void mark_cancelled(struct sh_runner *r, uint64_t begin, uint64_t end)
{
    for (int i = 0; i < r->o.n_slots && r->slots; i++) {
        struct sh_runner_slot *s = &r->slots[i];
        const bool open = s->state == SH_SLOT_WAITING || s->state == SH_SLOT_RUNNING;
        if (open && s->number >= begin && s->number < end) s->cancelled = true;
    }
    sh_cond_signal(&r->work);
}

static void runner_cancel(struct sh_station *station, uint64_t begin, uint64_t end)
{
    struct sh_runner *r = from(station);

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
    struct sh_runner *r = from(station);
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
    struct sh_runner *r = from(station);
    struct sh_runner_slot *s;

    sh_mutex_lock(&r->lock);
    s = find(r, number);
    if (s && s->state >= SH_SLOT_SINK) {
        sh_runner_free(r, s);
    } else if (s) {
        s->released = true;
    }
    sh_mutex_unlock(&r->lock);
}

static void runner_stats(struct sh_station *station, struct sh_station_stats *out)
{
    struct sh_runner *r = from(station);
    struct sh_device_traffic t;

    sh_stage_traffic(r->o.stage, &t);
    sh_mutex_lock(&r->lock);
    *out = r->stats;
    sh_mutex_unlock(&r->lock);
    out->bytes_in = t.bytes_sent - r->loaded.bytes_sent;
    out->bytes_out = t.bytes_received - r->loaded.bytes_received;
}

uint64_t sh_runner_next(struct sh_station *station)
{
    struct sh_runner *r = from(station);
    uint64_t next;

    sh_mutex_lock(&r->lock);
    next = r->next;
    sh_mutex_unlock(&r->lock);
    return next;
}

static void runner_close(struct sh_station *station)
{
    struct sh_runner *r = from(station);

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

// The stage reads as many values per row as callers bring.
static enum shoal_status check_widths(const struct sh_runner_options *o, struct shoal_error *err)
{
    const int64_t hidden = sh_stage_input_width(o->stage, SH_INPUT_HIDDEN);
    const int64_t embd = sh_stage_input_width(o->stage, SH_INPUT_EMBD);

    if (hidden == (o->first ? 0 : o->width_in) && (!embd || (o->first && embd == o->width_in)))
        return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_ARG,
                   "stage %d: its graph reads hidden rows of %lld and embedding rows of %lld "
                   "values, rows of %lld come",
                   o->index, (long long)hidden, (long long)embd, (long long)o->width_in);
}

static enum shoal_status make_slots(struct sh_runner *r, struct shoal_error *err)
{
    const struct sh_runner_options *o = &r->o;
    size_t floats = 0;
    bool ok = o->limits.rows_max > 0 && o->limits.rows_max <= INT32_MAX && o->width_in >= 0 &&
              o->n_slots > 0 && o->n_slots <= SLOTS_MAX;

    if (!ok) {
        return sh_fail(err, SHOAL_ERR_ARG, "stage %d: %d slots of %lld rows of %lld values",
                       o->index, o->n_slots, (long long)o->limits.rows_max, (long long)o->width_in);
    }
    r->slots = sh_calloc((size_t)r->o.n_slots, sizeof *r->slots);
    ok = r->slots && sh_mul_ok((size_t)o->limits.rows_max, (size_t)o->width_in, &floats);
    for (int i = 0; i < r->o.n_slots && ok && !o->first; i++)
        ok = (r->slots[i].place = sh_calloc(floats, sizeof(float))) != NULL;
    if (ok) return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_NOMEM, "stage %d: no memory for %d steps of %lld rows", o->index,
                   o->n_slots, (long long)o->limits.rows_max);
}

enum shoal_status sh_runner_create(struct sh_station **out, const struct sh_runner_options *opt,
                                   struct shoal_error *err)
{
    struct sh_runner *r = sh_calloc(1, sizeof *r);
    enum shoal_status st;

    *out = NULL;
    if (!r) {
        sh_stage_destroy(opt->stage);
        return sh_fail(err, SHOAL_ERR_NOMEM, "stage %d: no memory for its thread", opt->index);
    }
    r->head.ops = &OPS;
    r->o = *opt;
    sh_stage_traffic(r->o.stage, &r->loaded);
    sh_mutex_init(&r->lock);
    sh_cond_init(&r->work);
    sh_cond_init(&r->idle);
    st = check_widths(opt, err);
    if (!st) st = make_slots(r, err);
    if (!st) st = sh_thread_start(&r->thread, "stage", sh_runner_run, r, err);
    if (st) {
        runner_close((struct sh_station *)(void *)r);
        return st;
    }
    *out = (struct sh_station *)(void *)r;
    return SHOAL_OK;
}
