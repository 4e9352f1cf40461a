/* host/tap.c - see tap.h. */
#include "host/tap.h"

#include "base/clock.h"
#include "base/mem.h"

struct note {
    int32_t n_rows;
    int n_timings;
    int64_t submit_ns, result_ns;
};

struct sh_tap {
    struct sh_pipeline_head head;
    struct sh_pipeline *inner;
    const struct sh_pipeline_ops *ops;
    int n_stages;
    struct note *note;
    struct sh_station_timing *timing; /* [cap][n_stages] */
    int64_t n, cap;
    int64_t n_out; /* results come in the order of steps: this many came */
};

static struct sh_tap *from(struct sh_pipeline *p)
{
    return (struct sh_tap *)(void *)p;
}

static bool grow(struct sh_tap *t)
{
    const int64_t cap = t->cap ? 2 * t->cap : 1024;
    struct note *note;
    struct sh_station_timing *timing;

    if (t->n < t->cap) return true;
    note = sh_realloc_array(t->note, (size_t)cap, sizeof *note);
    if (!note) return false;
    t->note = note;
    timing = sh_realloc_array(t->timing, (size_t)cap, (size_t)t->n_stages * sizeof *timing);
    if (!timing) return false;
    t->timing = timing;
    t->cap = cap;
    return true;
}

/* ---- a pipeline -----------------------------------------------------------------------------*/

static void tap_info(struct sh_pipeline *p, struct sh_pipeline_info *out)
{
    from(p)->ops->info(from(p)->inner, out);
}

static enum shoal_status tap_submit(struct sh_pipeline *p, const struct sh_step *step,
                                    struct shoal_error *err)
{
    struct sh_tap *t = from(p);
    const int64_t now = sh_now_ns(&sh_clock_system);
    const enum shoal_status st = t->ops->submit(t->inner, step, err);

    if (!st && grow(t)) t->note[t->n] = (struct note){.n_rows = step->n_rows, .submit_ns = now};
    if (!st) t->n++;
    return st;
}

static void take_timings(struct sh_tap *t, const struct sh_pipeline_result *r)
{
    struct note *note = &t->note[t->n_out];
    const int n = r->n_timings < t->n_stages ? r->n_timings : t->n_stages;

    note->result_ns = sh_now_ns(&sh_clock_system);
    note->n_timings = n;
    for (int i = 0; i < n; i++)
        t->timing[t->n_out * t->n_stages + i] = r->timings[i];
}

static enum shoal_status tap_result(struct sh_pipeline *p, int64_t timeout_ns,
                                    struct sh_pipeline_result *out, struct shoal_error *err)
{
    struct sh_tap *t = from(p);
    const enum shoal_status st = t->ops->result(t->inner, timeout_ns, out, err);
    const bool is_gone = !st || out->status;

    if (!is_gone || t->n_out >= t->n) return st;
    if (!st && t->n_out < t->cap) take_timings(t, out);
    t->n_out++;
    return st;
}

static void tap_release(struct sh_pipeline *p, const struct sh_pipeline_result *r)
{
    from(p)->ops->release(from(p)->inner, r);
}

static void tap_cancel(struct sh_pipeline *p)
{
    from(p)->ops->cancel(from(p)->inner);
}

static enum shoal_status tap_state(struct sh_pipeline *p, struct shoal_error *err)
{
    return from(p)->ops->state(from(p)->inner, err);
}

static enum shoal_status tap_reset(struct sh_pipeline *p, uint64_t epoch, struct shoal_error *err)
{
    return from(p)->ops->reset(from(p)->inner, epoch, err);
}

static void tap_close(struct sh_pipeline *p)
{
    (void)p;
}

static const struct sh_pipeline_ops OPS = {
    .info = tap_info,
    .submit = tap_submit,
    .result = tap_result,
    .release = tap_release,
    .cancel = tap_cancel,
    .state = tap_state,
    .reset = tap_reset,
    .close = tap_close,
};

/* ---- notes ----------------------------------------------------------------------------------*/

enum shoal_status sh_tap_create(struct sh_tap **out, struct sh_pipeline *inner, int n_stages,
                                struct shoal_error *err)
{
    struct sh_tap *t = sh_calloc(1, sizeof *t);

    *out = NULL;
    if (!t) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory to note steps");
    t->head.ops = &OPS;
    t->inner = inner;
    t->ops = sh_pipeline_ops(inner);
    t->n_stages = n_stages;
    *out = t;
    return SHOAL_OK;
}

void sh_tap_destroy(struct sh_tap *t)
{
    if (!t) return;
    sh_free(t->note);
    sh_free(t->timing);
    sh_free(t);
}

struct sh_pipeline *sh_tap_pipeline(struct sh_tap *t)
{
    return (struct sh_pipeline *)(void *)t;
}

void sh_tap_clear(struct sh_tap *t)
{
    t->n = t->n_out = 0;
}

int64_t sh_tap_count(const struct sh_tap *t)
{
    return t->n < t->cap ? t->n : t->cap;
}

void sh_tap_note(const struct sh_tap *t, int64_t i, struct sh_tap_note *out)
{
    const struct note *note = &t->note[i];

    *out = (struct sh_tap_note){.n_rows = note->n_rows,
                                .submit_ns = note->submit_ns,
                                .result_ns = note->result_ns,
                                .timings = t->timing + i * t->n_stages,
                                .n_timings = note->n_timings};
}
