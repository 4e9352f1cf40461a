/* host/pipeline.c - see host/pipeline.h.
 *
 * Jobs live in a ring indexed by job number, which counts over all epochs.  A job is done when the
 * last station said its output, and the pipeline is done with the outputs of all others that come
 * here.  The caller announces; everything else happens in the stations' sinks.
 *
 * A sink may be called while its step is still being announced to later stations: it waits for
 * that, so that a station hears of a step before its rows.
 */
#include "host/pipeline.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"

#define CAUSE_NS (5 * SH_SECOND) /* most time between two tellings of one failure */

struct pipeline;

struct seat { /* a station's place */
    struct pipeline *p;
    int index;
    struct sh_station *station;
    bool joined;
    char name[96];
    struct sh_pipeline_stats stats; /* what is counted here */
};

struct job {
    uint64_t number; /* of the step, in its epoch */
    bool used;       /* between submit and release */
    bool announced;  /* to all stations */
    uint64_t open;   /* bit i: station i's output is still to come or being handed on */
    uint64_t here;   /* bit i: the output of station i comes here: released as it is handed on */
    bool held;       /* the last station's output, until the caller is done with it */
    enum shoal_status status;
    bool known; /* the stage that it failed at has said why */
    struct shoal_error error;
    const struct sh_row_result *results;
    int32_t n_results;
    int64_t submit_ns;
    struct sh_station_timing timings[SH_STATION_TIMINGS_MAX];
    int n_timings;
};

struct pipeline {
    struct sh_pipeline_head head;
    struct sh_pipeline_info info;
    int64_t deadline_ns, patience_ns;
    int n_stages;
    struct seat seat[SH_PIPELINE_STAGES_MAX];
    struct sh_mutex lock; /* everything below, and the seats' joined and stats */
    struct sh_cond changed;
    struct job *jobs; /* [in_flight_max] */
    uint64_t next;    /* number of the next job, counted over all epochs */
    uint64_t oldest;  /* not yet given out */
    int64_t given_ns; /* when the one before it was */
    uint64_t base;    /* job number of step 0 of this epoch */
    uint64_t epoch;
    uint64_t cancel_below; /* jobs that were asked to stop */
    int n_cancelling;
    enum shoal_status broken;
    struct shoal_error why;
};

static struct pipeline *from(struct sh_pipeline *p)
{
    return (struct pipeline *)(void *)p;
}

static struct job *job_at(struct pipeline *p, uint64_t number)
{
    return &p->jobs[number % (uint64_t)p->info.in_flight_max];
}

static uint64_t bit(int i)
{
    return UINT64_C(1) << i;
}

/* ---- what stations say ---------------------------------------------------------------------- */

// The job of an output, NULL where it is over already.
static struct job *find(struct pipeline *p, int index, const struct sh_station_output *o)
{
    struct job *j = job_at(p, p->base + o->number);

    if (o->epoch != p->epoch || o->number >= p->next - p->base) return NULL;
    if (!j->used || j->number != o->number) return NULL;
    // Said once already?  Of a joined one only failures are heard.
    return (j->here & ~j->open & bit(index)) ? NULL : j;
}

// The first failure counts; what the stage says that it happened at, before what others heard.
static void note_failure(struct job *j, const struct sh_station_output *o)
{
    if (!o->status || (j->status && (j->known || !o->here))) return;
    j->status = o->status;
    j->known = o->here;
    j->error = (struct shoal_error)SHOAL_ERROR_INIT;
    if (o->error) j->error = *o->error;
}

static int64_t ns(uint32_t us)
{
    return (int64_t)us * 1000;
}

// Where the time of a step went, as pipeline.h says.
static void count_times(struct pipeline *p, const struct job *j)
{
    int64_t rest = sh_now_ns(&sh_clock_system) - j->submit_ns, end = 0;

    for (int i = 0; i < j->n_timings; i++) {
        const struct sh_station_timing *t = &j->timings[i];
        struct seat *s = t->stage < (uint32_t)p->n_stages ? &p->seat[t->stage] : NULL;
        const int64_t wire = i > 0 && ns(t->wait_us) > end ? ns(t->wait_us) - end : 0;
        if (!s) continue;
        s->stats.steps++;
        s->stats.compute_ns += ns(t->compute_us);
        s->stats.queue_ns += ns(t->queue_us);
        s->stats.wire_ns += wire;
        rest -= wire + ns(t->queue_us) + ns(t->compute_us);
        end = ns(t->wait_us) + ns(t->queue_us) + ns(t->compute_us);
    }
    if (rest > 0) p->seat[p->n_stages - 1].stats.wire_ns += rest;
}

static void take_last(struct pipeline *p, struct job *j, const struct sh_station_output *o)
{
    j->held = true;
    if (o->status) return;
    j->results = o->results;
    j->n_results = o->n_results;
    for (int i = 0; i < o->n_timings && i < SH_STATION_TIMINGS_MAX; i++)
        j->timings[j->n_timings++] = o->timings[i];
    count_times(p, j);
}

// Rows, or that none will come, for the station behind.
static void hand_on(struct seat *s, const struct sh_station_output *o, struct shoal_error *err,
                    enum shoal_status *st)
{
    struct sh_station *behind = s->p->seat[s->index + 1].station;

    if (o->status) {
        sh_station_pass(behind, o->number, o->status, o->error);
        return;
    }
    if (o->width == s->p->info.width) {
        *st = sh_station_rows(behind, o->number, 0, o->n_rows, o->hidden, o->timings, o->n_timings,
                              err);
    } else {
        *st =
            sh_fail(err, SHOAL_ERR_FORMAT, "pipeline: stage %d gives rows of %lld values, not %lld",
                    s->index, (long long)o->width, (long long)s->p->info.width);
    }
    if (*st) sh_station_pass(behind, o->number, *st, err);
}

// Under the lock.
static void break_off(struct pipeline *p, enum shoal_status st, const struct shoal_error *why)
{
    if (p->broken) return;
    p->broken = st;
    p->why = *why;
}

static void on_output(void *self, const struct sh_station_output *o)
{
    struct seat *s = self;
    struct pipeline *p = s->p;
    const bool last = s->index == p->n_stages - 1;
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st = SHOAL_OK;
    struct job *j;
    bool on = false, release;

    sh_mutex_lock(&p->lock);
    j = find(p, s->index, o);
    while (j && !j->announced && !p->broken)
        (void)sh_cond_wait(&p->changed, &p->lock, INT64_MAX);
    if (j) note_failure(j, o);
    if (o->lost && o->error) break_off(p, o->status, o->error); // known with the result
    if (j && last) take_last(p, j, o);
    on = j && !last && !p->broken && (!s->joined || o->hidden);
    release = !j || (!last && (j->here & bit(s->index)));
    sh_mutex_unlock(&p->lock);

    if (on) hand_on(s, o, &err, &st);
    if (release) sh_station_release(s->station, o->number);

    sh_mutex_lock(&p->lock);
    if (j && st && !j->status) {
        j->status = st;
        j->error = err;
    }
    if (j) j->open &= ~bit(s->index);
    sh_cond_broadcast(&p->changed);
    sh_mutex_unlock(&p->lock);
}

static void on_lost(void *self, enum shoal_status st, const struct shoal_error *err)
{
    const struct seat *s = self;
    struct pipeline *p = s->p;

    sh_mutex_lock(&p->lock);
    break_off(p, st, err);
    sh_cond_broadcast(&p->changed);
    sh_mutex_unlock(&p->lock);
}

/* ---- the pool's interface ------------------------------------------------------------------- */

static void pipeline_info(struct sh_pipeline *sp, struct sh_pipeline_info *out)
{
    *out = from(sp)->info;
}

static enum shoal_status can_submit(struct pipeline *p, const struct sh_step *step,
                                    struct shoal_error *err)
{
    if (p->broken) {
        if (err) *err = p->why;
        return p->broken;
    }
    if (job_at(p, p->next)->used) { // in flight, or its result is still held
        return sh_fail(err, SHOAL_ERR_STATE, "pipeline: %d steps are in flight already",
                       p->info.in_flight_max);
    }
    if (step->number != p->next - p->base) {
        return sh_fail(err, SHOAL_ERR_STATE, "pipeline: step %llu comes when step %llu is due",
                       (unsigned long long)step->number, (unsigned long long)(p->next - p->base));
    }
    return sh_step_check(step, &p->info.limits, err);
}

static void open_job(struct pipeline *p, struct job *j, uint64_t number)
{
    j->number = number;
    j->used = true;
    j->announced = false;
    j->open = j->here = 0;
    j->held = false;
    j->status = SHOAL_OK;
    j->known = false;
    j->results = NULL;
    j->n_results = j->n_timings = 0;
    j->submit_ns = sh_now_ns(&sh_clock_system);
    for (int i = 0; i < p->n_stages; i++)
        if (!p->seat[i].joined || i == p->n_stages - 1) j->here |= bit(i);
    j->open = j->here;
    p->next++;
}

static enum shoal_status pipeline_submit(struct sh_pipeline *sp, const struct sh_step *step,
                                         struct shoal_error *err)
{
    struct pipeline *p = from(sp);
    struct shoal_error why = SHOAL_ERROR_INIT;
    struct sh_step copy = *step;
    struct job *j = NULL;
    enum shoal_status st;
    int told = 0;

    sh_mutex_lock(&p->lock);
    st = can_submit(p, step, err);
    if (!st) {
        j = job_at(p, p->next);
        open_job(p, j, step->number);
        copy.epoch = p->epoch;
    }
    sh_mutex_unlock(&p->lock);
    if (st) return st;
    for (; told < p->n_stages && !st; told++)
        st = sh_station_announce(p->seat[told].station, &copy, p->deadline_ns, &why);
    sh_mutex_lock(&p->lock);
    j->announced = true;
    if (st && told == 1) { // nobody knows of it
        j->used = false;
        p->next--;
    } else if (st && !p->broken) {
        p->broken = st;
        p->why = why;
    }
    if (st && err) *err = p->broken ? p->why : why;
    if (st && p->broken) st = p->broken;
    sh_cond_broadcast(&p->changed);
    sh_mutex_unlock(&p->lock);
    return st;
}

// Under the lock: when the oldest job must be done.
static int64_t patience_ends(struct pipeline *p)
{
    const int64_t submit = job_at(p, p->oldest)->submit_ns;

    if (p->patience_ns == 0) return SH_NO_DEADLINE;
    return (submit > p->given_ns ? submit : p->given_ns) + p->patience_ns;
}

// Under the lock: the oldest job's time is over.
static void give_up(struct pipeline *p)
{
    const struct job *j = job_at(p, p->oldest);
    struct shoal_error why = SHOAL_ERROR_INIT;
    int i = 0;

    while (i < p->n_stages - 1 && !(j->open & bit(i)))
        i++;
    (void)sh_fail(&why, SHOAL_ERR_TIMEOUT,
                  "step %llu has not come back within %.6g s: waiting for stage %d%s%s%s",
                  (unsigned long long)j->number, (double)p->patience_ns / 1e9, i,
                  p->seat[i].name[0] ? " (" : "", p->seat[i].name, p->seat[i].name[0] ? ")" : "");
    break_off(p, why.code, &why);
    sh_cond_broadcast(&p->changed);
}

// Under the lock: wait until the oldest job is done or the pipeline is broken.
static enum shoal_status await(struct pipeline *p, int64_t timeout_ns, struct shoal_error *err)
{
    const int64_t until = sh_deadline_in(&sh_clock_system, timeout_ns);

    if (p->oldest == p->next) {
        return sh_fail(err, SHOAL_ERR_STATE, "pipeline: no step is in flight");
    }
    while (job_at(p, p->oldest)->open && !p->broken) {
        const int64_t now = sh_now_ns(&sh_clock_system), ends = patience_ends(p);
        const int64_t first = until < ends ? until : ends;
        if (ends <= now) {
            give_up(p);
        } else if (until <= now) {
            return sh_fail(err, SHOAL_ERR_TIMEOUT, "pipeline: the step is not finished");
        } else {
            (void)sh_cond_wait(&p->changed, &p->lock,
                               first == SH_NO_DEADLINE ? INT64_MAX : first - now);
        }
    }
    return SHOAL_OK;
}

// Under the lock: a failure of a joined stage is told here by that stage and, over another way, by
// the last one, which does not know why.
static void await_cause(struct pipeline *p, const struct job *j)
{
    const int64_t until = sh_deadline_in(&sh_clock_system, CAUSE_NS);
    int64_t left = CAUSE_NS;
    bool joined = false;

    for (int i = 0; i < p->n_stages; i++)
        joined = joined || p->seat[i].joined;
    while (joined && j->status && !j->known && !p->broken && left > 0) {
        (void)sh_cond_wait(&p->changed, &p->lock, left);
        left = until - sh_now_ns(&sh_clock_system);
    }
}

// A job is over: what its stations still keep may go.  From the caller's thread only, so that no
// sink ever calls a station before its own.
static void release_all(struct pipeline *p, uint64_t number, uint64_t here, bool held)
{
    for (int i = 0; i < p->n_stages; i++) {
        const bool last = i == p->n_stages - 1;
        if (last ? held : !(here & bit(i))) sh_station_release(p->seat[i].station, number);
    }
}

static enum shoal_status pipeline_result(struct sh_pipeline *sp, int64_t timeout_ns,
                                         struct sh_pipeline_result *out, struct shoal_error *err)
{
    struct pipeline *p = from(sp);
    enum shoal_status st;
    struct job *j = NULL;

    *out = (struct sh_pipeline_result){0};
    sh_mutex_lock(&p->lock);
    st = await(p, timeout_ns, err);
    if (st) goto done;
    await_cause(p, job_at(p, p->oldest));
    j = job_at(p, p->oldest++);
    p->given_ns = sh_now_ns(&sh_clock_system);
    if (j->status == SHOAL_ERR_CANCELLED && p->oldest > p->cancel_below) {
        j->status = sh_fail(&j->error, SHOAL_ERR_PEER,
                            "step %llu was cancelled by a stage, and nobody here asked for it",
                            (unsigned long long)j->number);
    }
    if (j->open && !j->status) { // broken before it was done
        j->status = p->broken;
        j->error = p->why;
    }
    *out = (struct sh_pipeline_result){.number = j->number, .status = j->status, .token = j};
    st = j->status;
    if (st && err) *err = j->error;
    if (st) goto done;
    out->results = j->results;
    out->n_results = j->n_results;
    out->timings = j->timings;
    out->n_timings = j->n_timings;

done:
    sh_mutex_unlock(&p->lock);
    if (st && j) { // nothing to keep: the place is free at once
        release_all(p, j->number, j->here, j->held);
        sh_mutex_lock(&p->lock);
        j->used = false;
        sh_mutex_unlock(&p->lock);
    }
    return st;
}

static void pipeline_release(struct sh_pipeline *sp, const struct sh_pipeline_result *r)
{
    struct pipeline *p = from(sp);
    struct job *j = r->token;

    if (!j || r->status) return;
    release_all(p, j->number, j->here, j->held);
    sh_mutex_lock(&p->lock);
    j->used = false;
    sh_mutex_unlock(&p->lock);
}

static void pipeline_cancel(struct sh_pipeline *sp)
{
    struct pipeline *p = from(sp);
    uint64_t begin, end;

    sh_mutex_lock(&p->lock);
    begin = p->oldest - p->base;
    end = p->next - p->base;
    p->cancel_below = p->next;
    p->n_cancelling++;
    sh_mutex_unlock(&p->lock);
    // The last one first: what an earlier one still finishes is not begun behind it.
    for (int i = p->n_stages - 1; i >= 0 && begin < end; i--)
        if (p->seat[i].station) sh_station_cancel(p->seat[i].station, begin, end);
    sh_mutex_lock(&p->lock);
    p->n_cancelling--;
    sh_cond_broadcast(&p->changed);
    sh_mutex_unlock(&p->lock);
}

static enum shoal_status pipeline_state(struct sh_pipeline *sp, struct shoal_error *err)
{
    struct pipeline *p = from(sp);
    enum shoal_status st;

    sh_mutex_lock(&p->lock);
    st = p->broken;
    if (st && err) *err = p->why;
    sh_mutex_unlock(&p->lock);
    return st;
}

static enum shoal_status pipeline_reset(struct sh_pipeline *sp, uint64_t epoch,
                                        struct shoal_error *err)
{
    struct pipeline *p = from(sp);
    struct shoal_error why = SHOAL_ERROR_INIT;
    enum shoal_status st = pipeline_state(sp, err), one = SHOAL_OK;

    if (st) return st;
    sh_mutex_lock(&p->lock);
    for (int i = 0; i < p->info.in_flight_max && !st; i++) {
        if (!p->jobs[i].used) continue;
        st = sh_fail(err, SHOAL_ERR_STATE, "pipeline: step %llu is in flight or still held",
                     (unsigned long long)p->jobs[i].number);
    }
    while (p->n_cancelling > 0) // it means steps of this epoch
        (void)sh_cond_wait(&p->changed, &p->lock, INT64_MAX);
    sh_mutex_unlock(&p->lock);
    if (st) return st;
    for (int i = 0; i < p->n_stages && !one; i++)
        one = sh_station_reset(p->seat[i].station, epoch, &why);
    sh_mutex_lock(&p->lock);
    p->base = p->next;
    p->epoch = epoch;
    if (one && !p->broken) {
        p->broken = one;
        p->why = why;
    }
    sh_mutex_unlock(&p->lock);
    return pipeline_state(sp, err);
}

static void pipeline_close(struct sh_pipeline *sp)
{
    struct pipeline *p = from(sp);

    if (!p) return;
    pipeline_cancel(sp);
    // In this order: a sink calls its own station and the one behind it.
    for (int i = 0; i < p->n_stages; i++)
        sh_station_close(p->seat[i].station);
    sh_free(p->jobs);
    sh_cond_release(&p->changed);
    sh_mutex_release(&p->lock);
    sh_free(p);
}

static const struct sh_pipeline_ops OPS = {
    .info = pipeline_info,
    .submit = pipeline_submit,
    .result = pipeline_result,
    .release = pipeline_release,
    .cancel = pipeline_cancel,
    .state = pipeline_state,
    .reset = pipeline_reset,
    .close = pipeline_close,
};

/* ---- making --------------------------------------------------------------------------------- */

enum shoal_status sh_pipeline_create(struct sh_pipeline **out, int n_stages,
                                     const struct sh_pipeline_info *info, int64_t deadline_ns,
                                     struct shoal_error *err)
{
    struct pipeline *p;

    *out = NULL;
    if (n_stages < 1 || n_stages > SH_PIPELINE_STAGES_MAX) {
        return sh_fail(err, SHOAL_ERR_ARG, "pipeline: %d stages, at most %d are possible", n_stages,
                       SH_PIPELINE_STAGES_MAX);
    }
    p = sh_calloc(1, sizeof *p);
    if (!p) return sh_fail(err, SHOAL_ERR_NOMEM, "pipeline: no memory for %d stages", n_stages);
    p->jobs = sh_calloc((size_t)info->in_flight_max, sizeof *p->jobs);
    if (!p->jobs) {
        sh_free(p);
        return sh_fail(err, SHOAL_ERR_NOMEM, "pipeline: no memory for %d steps",
                       info->in_flight_max);
    }
    p->head.ops = &OPS;
    p->info = *info;
    p->info.n_stages = n_stages;
    p->deadline_ns = deadline_ns;
    p->n_stages = n_stages;
    sh_mutex_init(&p->lock);
    sh_cond_init(&p->changed);
    for (int i = 0; i < n_stages; i++)
        p->seat[i] = (struct seat){.p = p, .index = i};
    *out = (struct sh_pipeline *)(void *)p;
    return SHOAL_OK;
}

struct sh_station_sink sh_pipeline_sink(struct sh_pipeline *sp, int i)
{
    return (struct sh_station_sink){on_output, on_lost, &from(sp)->seat[i]};
}

void sh_pipeline_take(struct sh_pipeline *sp, int i, struct sh_station *s)
{
    from(sp)->seat[i].station = s;
}

void sh_pipeline_join(struct sh_pipeline *sp, int i, bool joined)
{
    struct pipeline *p = from(sp);

    sh_mutex_lock(&p->lock);
    p->seat[i].joined = joined;
    sh_mutex_unlock(&p->lock);
}

void sh_pipeline_patience(struct sh_pipeline *sp, int64_t ns)
{
    struct pipeline *p = from(sp);

    sh_mutex_lock(&p->lock);
    p->patience_ns = ns;
    sh_mutex_unlock(&p->lock);
}

void sh_pipeline_name(struct sh_pipeline *sp, int i, const char *name)
{
    (void)snprintf(from(sp)->seat[i].name, sizeof from(sp)->seat[i].name, "%s", name);
}

enum shoal_status sh_pipeline_start(struct sh_pipeline *sp, struct shoal_error *err)
{
    const struct pipeline *p = from(sp);

    for (int i = 0; i < p->n_stages; i++)
        if (!p->seat[i].station)
            return sh_fail(err, SHOAL_ERR_STATE, "pipeline: stage %d of %d is missing", i,
                           p->n_stages);
    return SHOAL_OK;
}

void sh_pipeline_stats(struct sh_pipeline *sp, int i, struct sh_pipeline_stats *out)
{
    struct pipeline *p = from(sp);
    struct sh_station_stats s;

    sh_station_stats(p->seat[i].station, &s);
    sh_mutex_lock(&p->lock);
    *out = p->seat[i].stats;
    sh_mutex_unlock(&p->lock);
    out->bytes_in = s.bytes_in;
    out->bytes_out = s.bytes_out;
    out->in_flight_max = s.in_flight_max;
}
