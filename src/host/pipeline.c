/* host/pipeline.c - see host/pipeline.h.
 *
 * Jobs live in a ring indexed by step number.  A stage's thread takes the jobs in order as the
 * stage before passes them on, submits all that are ready before it waits for a result, and
 * collects the results in order.  All hand-overs happen under one mutex; computing and waiting
 * happen outside.
 */
#include "host/pipeline.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "host/job.h"

struct pipeline;

struct worker { /* one stage's thread */
    struct pipeline *p;
    int index;
    struct sh_stage *stage;
    struct sh_thread thread;
    uint64_t submitted, collected; /* job numbers; its own */
};

struct pipeline {
    struct sh_pipeline_head head;
    struct sh_pipeline_info info;
    int n_stages;
    struct worker worker[SH_PIPELINE_STAGES_MAX];
    struct sh_mutex lock; /* everything below */
    struct sh_cond changed;
    struct sh_job *jobs; /* [in_flight_max] */
    uint64_t next;       /* number of the next job, counted over all epochs */
    uint64_t oldest;     /* not yet given out */
    uint64_t base;       /* job number of step 0 of this epoch */
    uint64_t cancel_below;
    enum shoal_status broken;
    struct shoal_error why;
    bool stop;
};

static struct sh_job *job_at(struct pipeline *p, uint64_t number)
{
    return &p->jobs[number % (uint64_t)p->info.in_flight_max];
}

/* ---- a stage's thread ----------------------------------------------------------------------- */

static bool ready(struct pipeline *p, const struct worker *w, uint64_t number)
{
    const struct sh_job *j = job_at(p, number);

    return number < p->next && number >= p->oldest && j->used && j->at == w->index;
}

// Is the failure one that this stage cannot come back from?
static bool breaks(enum shoal_status st)
{
    return st == SHOAL_ERR_PEER || st == SHOAL_ERR_TIMEOUT || st == SHOAL_ERR_IO;
}

// Under the lock: the job leaves this stage with `st`.
static void pass_on(struct worker *w, struct sh_job *j, enum shoal_status st,
                    const struct shoal_error *err)
{
    struct pipeline *p = w->p;

    if (st && !j->status) {
        j->status = st;
        j->error = *err;
    }
    if (breaks(st) && !p->broken) {
        p->broken = st;
        p->why = *err;
    }
    j->at++;
    sh_cond_broadcast(&p->changed);
}

static void release_hidden(struct worker *w, struct sh_job *j)
{
    const int before = w->index - 1;

    if (before < 0 || !j->held[before]) return;
    j->held[before] = false;
    sh_stage_release_output(w->p->worker[before].stage, &j->out[before]);
}

// Start a job, or pass over it.  True: it was submitted and its result is to be collected.
static bool start(struct worker *w, struct sh_job *j, bool skip, struct shoal_error *err,
                  enum shoal_status *st)
{
    const float *hidden = w->index > 0 ? j->out[w->index - 1].hidden : NULL;

    if (skip) {
        *st = w->p->broken ? SHOAL_OK : sh_stage_skip(w->stage, &j->step, err);
        return false;
    }
    *st = sh_stage_submit(w->stage, &j->step, hidden, err);
    return *st == SHOAL_OK;
}

static void collect(struct worker *w)
{
    struct pipeline *p = w->p;
    struct sh_job *j = job_at(p, w->collected);
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st = sh_stage_result(w->stage, SH_NO_DEADLINE, &j->out[w->index], &err);

    sh_mutex_lock(&p->lock);
    j->held[w->index] = st == SHOAL_OK;
    release_hidden(w, j);
    w->collected++;
    pass_on(w, j, st, &err);
    sh_mutex_unlock(&p->lock);
}

// Wait for something to do.  False: stop.
static bool next_action(struct worker *w, bool *submit, bool *skip)
{
    struct pipeline *p = w->p;
    bool stop;

    sh_mutex_lock(&p->lock);
    for (;;) {
        const bool here = ready(p, w, w->submitted);
        const struct sh_job *j = job_at(p, w->submitted);
        stop = p->stop;
        *skip = here && (j->status || p->broken || w->submitted < p->cancel_below);
        // What is passed over must find the stage idle.
        *submit = here && !(*skip && w->submitted > w->collected);
        if (stop || *submit || w->submitted > w->collected) break;
        sh_cond_wait(&p->changed, &p->lock, INT64_MAX);
    }
    sh_mutex_unlock(&p->lock);
    return !stop;
}

// A cancel that came while the step was on its way into the stage did not find it there.
static void stop_if_cancelled(struct worker *w, const struct sh_job *j)
{
    struct pipeline *p = w->p;
    bool cancelled;

    sh_mutex_lock(&p->lock);
    cancelled = w->submitted < p->cancel_below;
    sh_mutex_unlock(&p->lock);
    if (cancelled) sh_stage_cancel(w->stage, j->step.number);
}

static void submit_one(struct worker *w, bool skip)
{
    struct pipeline *p = w->p;
    struct sh_job *j = job_at(p, w->submitted);
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st = SHOAL_OK;

    if (start(w, j, skip, &err, &st)) {
        stop_if_cancelled(w, j);
        w->submitted++;
        return;
    }
    sh_mutex_lock(&p->lock);
    if (!st && !j->status && p->broken) {
        st = p->broken;
        err = p->why;
    } else if (!st && !j->status) {
        st = sh_fail(&err, SHOAL_ERR_CANCELLED, "pipeline: the step was cancelled");
    }
    release_hidden(w, j);
    w->submitted++;
    w->collected++;
    pass_on(w, j, st, &err);
    sh_mutex_unlock(&p->lock);
}

static void *run(void *arg)
{
    struct worker *w = arg;
    bool submit, skip;

    while (next_action(w, &submit, &skip)) {
        if (submit) {
            submit_one(w, skip);
        } else {
            collect(w);
        }
    }
    return NULL;
}

/* ---- the pool's interface ------------------------------------------------------------------- */

static void pipeline_info(struct sh_pipeline *sp, struct sh_pipeline_info *out)
{
    *out = ((struct pipeline *)(void *)sp)->info;
}

static enum shoal_status pipeline_submit(struct sh_pipeline *sp, const struct sh_step *step,
                                         struct shoal_error *err)
{
    struct pipeline *p = (struct pipeline *)(void *)sp;
    struct sh_job *j;
    enum shoal_status st = SHOAL_OK;

    sh_mutex_lock(&p->lock);
    if (p->broken) {
        st = p->broken;
        if (err) *err = p->why;
    } else if (job_at(p, p->next)->used) { // in flight, or its result is still held
        st = sh_fail(err, SHOAL_ERR_STATE, "pipeline: %d steps are in flight already",
                     p->info.in_flight_max);
    } else if (step->number != p->next - p->base) {
        st = sh_fail(err, SHOAL_ERR_STATE, "pipeline: step %llu comes when step %llu is due",
                     (unsigned long long)step->number, (unsigned long long)(p->next - p->base));
    }
    sh_mutex_unlock(&p->lock);
    if (st) return st;
    st = sh_step_check(step, &p->info.limits, err);
    if (st) return st;
    j = job_at(p, p->next); // free: only submit touches it
    st = sh_job_fill(j, step, p->info.width, err);
    if (st) return st;
    sh_mutex_lock(&p->lock);
    j->at = 0;
    j->used = true;
    j->status = SHOAL_OK;
    p->next++;
    sh_cond_broadcast(&p->changed);
    sh_mutex_unlock(&p->lock);
    return SHOAL_OK;
}

static enum shoal_status pipeline_result(struct sh_pipeline *sp, int64_t timeout_ns,
                                         struct sh_pipeline_result *out, struct shoal_error *err)
{
    struct pipeline *p = (struct pipeline *)(void *)sp;
    const int64_t until = sh_deadline_in(&sh_clock_system, timeout_ns);
    enum shoal_status st = SHOAL_OK;
    struct sh_job *j = NULL;

    *out = (struct sh_pipeline_result){0};
    sh_mutex_lock(&p->lock);
    if (p->oldest == p->next) {
        st = sh_fail(err, SHOAL_ERR_STATE, "pipeline: no step is in flight");
    }
    while (!st && job_at(p, p->oldest)->at < p->n_stages) {
        const int64_t left =
            until == SH_NO_DEADLINE ? INT64_MAX : until - sh_now_ns(&sh_clock_system);
        if (left <= 0) {
            st = sh_fail(err, SHOAL_ERR_TIMEOUT, "pipeline: the step is not finished");
        } else {
            sh_cond_wait(&p->changed, &p->lock, left);
        }
    }
    if (!st) {
        j = job_at(p, p->oldest);
        st = out->status = j->status;
        if (st && err) *err = j->error;
        out->number = j->step.number;
        if (!st) {
            out->results = j->out[p->n_stages - 1].results;
            out->n_results = j->out[p->n_stages - 1].n_results;
        }
        out->token = j;
        p->oldest++;
        if (st) j->used = false; // nothing to keep: the place is free at once
    }
    sh_mutex_unlock(&p->lock);
    return st;
}

static void pipeline_release(struct sh_pipeline *sp, const struct sh_pipeline_result *r)
{
    struct pipeline *p = (struct pipeline *)(void *)sp;
    struct sh_job *j = r->token;
    const int last = p->n_stages - 1;

    if (!j || r->status) return;
    if (j->held[last]) sh_stage_release_output(p->worker[last].stage, &j->out[last]);
    sh_mutex_lock(&p->lock);
    j->held[last] = false;
    j->used = false;
    sh_mutex_unlock(&p->lock);
}

static void pipeline_cancel(struct sh_pipeline *sp)
{
    struct pipeline *p = (struct pipeline *)(void *)sp;
    uint64_t first, end, base;

    sh_mutex_lock(&p->lock);
    p->cancel_below = end = p->next;
    first = p->oldest;
    base = p->base;
    sh_mutex_unlock(&p->lock);
    for (uint64_t n = first; n < end; n++)
        for (int i = 0; i < p->n_stages; i++)
            sh_stage_cancel(p->worker[i].stage, n - base);
}

static enum shoal_status pipeline_state(struct sh_pipeline *sp, struct shoal_error *err)
{
    struct pipeline *p = (struct pipeline *)(void *)sp;
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
    struct pipeline *p = (struct pipeline *)(void *)sp;
    enum shoal_status st = pipeline_state(sp, err);

    sh_mutex_lock(&p->lock);
    for (int i = 0; i < p->info.in_flight_max && !st; i++) {
        if (!p->jobs[i].used) continue;
        st = sh_fail(err, SHOAL_ERR_STATE, "pipeline: step %llu is in flight or still held",
                     (unsigned long long)p->jobs[i].step.number);
    }
    // No thread is in a stage now: all jobs have passed all stages.
    for (int i = 0; i < p->n_stages && !st; i++)
        st = sh_stage_reset(p->worker[i].stage, epoch, err);
    if (!st) p->base = p->next;
    sh_mutex_unlock(&p->lock);
    return st;
}

static void pipeline_close(struct sh_pipeline *sp)
{
    struct pipeline *p = (struct pipeline *)(void *)sp;

    if (!p) return;
    pipeline_cancel(sp);
    sh_mutex_lock(&p->lock);
    p->stop = true;
    sh_cond_broadcast(&p->changed);
    sh_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n_stages; i++)
        sh_thread_join(&p->worker[i].thread);
    for (int i = 0; i < p->n_stages; i++)
        sh_stage_destroy(p->worker[i].stage);
    for (int i = 0; i < p->info.in_flight_max && p->jobs; i++)
        sh_job_release(&p->jobs[i]);
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

enum shoal_status sh_pipeline_create(struct sh_pipeline **out, struct sh_stage *const *stages,
                                     int n_stages, const struct sh_pipeline_info *info,
                                     struct shoal_error *err)
{
    struct pipeline *p = sh_calloc(1, sizeof *p);
    enum shoal_status st = SHOAL_OK;

    *out = NULL;
    if (!p) {
        for (int i = 0; i < n_stages; i++)
            sh_stage_destroy(stages[i]);
        return sh_fail(err, SHOAL_ERR_NOMEM, "pipeline: no memory for %d stages", n_stages);
    }
    p->head.ops = &OPS;
    p->info = *info;
    p->n_stages = n_stages;
    sh_mutex_init(&p->lock);
    sh_cond_init(&p->changed);
    for (int i = 0; i < n_stages; i++)
        p->worker[i] = (struct worker){.p = p, .index = i, .stage = stages[i]};
    p->jobs = sh_calloc((size_t)info->in_flight_max, sizeof *p->jobs);
    if (!p->jobs) st = sh_fail(err, SHOAL_ERR_NOMEM, "pipeline: no memory for steps");
    for (int i = 0; i < n_stages && !st; i++)
        st = sh_thread_start(&p->worker[i].thread, "stage", run, &p->worker[i], err);
    if (st) {
        pipeline_close((struct sh_pipeline *)(void *)p);
        return st;
    }
    *out = (struct sh_pipeline *)(void *)p;
    return SHOAL_OK;
}
