/* host/bench.c - see bench.h.
 *
 * A single sequence is led by the engine, as every text is; several at once by host/drive.h, each
 * time in an epoch of its own.  Both see the pipeline through a tap that notes the steps.
 */
#include "host/bench.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "host/bench_priv.h"
#include "host/drive.h"
#include "host/tap.h"
#include "sample/rng.h"

enum { WARM_UP = 64 }; /* tokens */

struct track { /* of one test: what each repetition gave; [n] each */
    double *took, *bound, *share, *hops;
    double *compute, *queue; /* [n_stages][n] */
    double *gap;             /* between results, of all repetitions */
    size_t n_gaps, cap_gaps;
    int n, n_bounds;
};

struct bench {
    const struct sh_bench_options *o;
    struct sh_bench_result *out;
    struct track *track;
    struct sh_tap *tap;
    struct sh_pipeline_info info;
    int n_stages;
    struct sh_engine *engine;
    struct sh_rng rng;
    uint64_t epoch;
    int32_t *ids; /* of the longest prompt or depth */
    double *time; /* of chunks by stage, for prompts: [cap_time] */
    size_t cap_time;
    int64_t done, total;
};

_Static_assert(SH_HOST_DEVICES_MAX <= SH_BENCH_STAGES_MAX, "a stage for each device");

static double ms(int64_t ns)
{
    return (double)ns / (double)SH_MS;
}

static bool wants_stop(const struct bench *b)
{
    return b->o->stop && b->o->stop(b->o->self);
}

static enum shoal_status no_memory(struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for measurements");
}

/* ---- what the notes of a repetition say -----------------------------------------------------*/

// Compute of stage i in a note; false: not every stage told it.
static bool compute_of(const struct bench *b, const struct sh_tap_note *n, int i, double *out)
{
    if (n->n_timings != b->n_stages || n->timings[i].stage != (uint32_t)i) return false;
    *out = n->timings[i].compute_us / 1e3;
    return true;
}

// The sums of all steps by stage, and the times of each.
static bool read_notes(struct bench *b, double *sum, double *queue, bool *complete)
{
    const int64_t n = sh_tap_count(b->tap);
    const size_t need = (size_t)(n * b->n_stages);

    *complete = n > 0;
    if (need > b->cap_time) {
        double *more = sh_realloc_array(b->time, need, sizeof *more);
        if (!more) return false;
        b->time = more;
        b->cap_time = need;
    }
    memset(sum, 0, (size_t)b->n_stages * sizeof *sum);
    memset(queue, 0, (size_t)b->n_stages * sizeof *queue);
    for (int64_t j = 0; j < n; j++) {
        struct sh_tap_note note;
        sh_tap_note(b->tap, j, &note);
        for (int i = 0; i < b->n_stages; i++) {
            double *t = &b->time[j * b->n_stages + i];
            *t = 0;
            if (compute_of(b, &note, i, t)) {
                queue[i] += note.timings[i].queue_us / 1e3;
            } else {
                *complete = false;
            }
            sum[i] += *t;
        }
    }
    return true;
}

static bool add_gaps(const struct bench *b, struct track *t)
{
    const int64_t n = sh_tap_count(b->tap);
    int64_t before = 0;

    if (t->n_gaps + (size_t)n > t->cap_gaps) {
        const size_t cap = 2 * (t->n_gaps + (size_t)n);
        double *more = sh_realloc_array(t->gap, cap, sizeof *more);
        if (!more) return false;
        t->gap = more;
        t->cap_gaps = cap;
    }
    for (int64_t j = 0; j < n; j++) {
        struct sh_tap_note note;
        sh_tap_note(b->tap, j, &note);
        if (j > 0) t->gap[t->n_gaps++] = ms(note.result_ns - before);
        before = note.result_ns;
    }
    return true;
}

// `hops_ms` of a text; negative: unknown.
static enum shoal_status note_run(struct bench *b, int k, int64_t took_ns, double hops_ms,
                                  struct shoal_error *err)
{
    const struct sh_bench_test *test = &b->o->tests[k];
    struct track *t = &b->track[k];
    const int64_t n_steps = sh_tap_count(b->tap);
    const int r = t->n, n = b->o->n_repetitions;
    double sum[SH_HOST_DEVICES_MAX], queue[SH_HOST_DEVICES_MAX];
    double bound = 0;
    bool complete;

    if (!read_notes(b, sum, queue, &complete) || !add_gaps(b, t)) return no_memory(err);
    t->took[r] = ms(took_ns) / (double)(test->n_text ? test->n_text : 1);
    t->hops[r] = hops_ms;
    if (test->n_text) {
        for (int i = 0; i < b->n_stages && n_steps > 0; i++) {
            sum[i] /= (double)n_steps;
            queue[i] /= (double)n_steps;
        }
        bound =
            sh_text_bound(sum, b->n_stages, hops_ms, test->n_groups, test->in_flight, test->n_text);
    } else {
        bound = sh_prompt_bound(b->time, n_steps, b->n_stages);
    }
    for (int i = 0; i < b->n_stages; i++) {
        t->compute[i * n + r] = sum[i];
        t->queue[i * n + r] = queue[i];
    }
    if (complete && hops_ms >= 0 && t->took[r] > 0) {
        t->bound[t->n_bounds] = bound;
        t->share[t->n_bounds++] = bound / t->took[r];
    }
    b->out[k].n_steps = n_steps;
    t->n++;
    return SHOAL_OK;
}

/* ---- one repetition -------------------------------------------------------------------------*/

static enum shoal_status feed(struct bench *b, int64_t n, int64_t chunk, bool sample,
                              struct shoal_error *err)
{
    const struct sh_feed f = {.ids = b->ids, .n = n, .sample = sample, .chunk = chunk};

    for (int64_t i = 0; i < n; i++)
        b->ids[i] = (int32_t)(sh_rng_draw(&b->rng) * b->info.n_vocab);
    return sh_engine_feed(b->engine, &f, NULL, err);
}

static enum shoal_status write_alone(struct bench *b, int64_t n, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    for (int64_t i = 0; i < n && !st; i++) {
        st = feed(b, 1, 0, true, err);
        if (!st && wants_stop(b)) st = sh_fail(err, SHOAL_ERR_CANCELLED, "interrupted");
    }
    return st;
}

// Time of hops just before and after what is measured: their mean is added to *hops.
static enum shoal_status look_at_hops(struct bench *b, const struct sh_bench_test *t, double *hops,
                                      struct shoal_error *err)
{
    double one = 0;
    const int rows = (t->n_seqs + t->n_groups - 1) / t->n_groups;
    enum shoal_status st = SHOAL_OK;

    if (t->n_text) st = sh_bench_hops(&one, b->o->host, b->o->format, rows, err);
    *hops += one / 2;
    return st;
}

static enum shoal_status run_alone(struct bench *b, int k, struct shoal_error *err)
{
    const struct sh_bench_test *t = &b->o->tests[k];
    double hops = 0;
    int64_t began = 0, ended = 0;
    enum shoal_status st = sh_engine_clear(b->engine, err);

    if (!st && t->n_depth) st = feed(b, t->n_depth, 0, false, err);
    if (!st) st = look_at_hops(b, t, &hops, err);
    sh_tap_clear(b->tap);
    began = sh_now_ns(&sh_clock_system);
    if (!st && t->n_prompt) st = feed(b, t->n_prompt, t->chunk, true, err);
    if (!st) st = write_alone(b, t->n_text, err);
    ended = sh_now_ns(&sh_clock_system);
    if (!st) st = look_at_hops(b, t, &hops, err);
    return st ? st : note_run(b, k, ended - began, hops, err);
}

static enum shoal_status run_several(struct bench *b, int k, struct shoal_error *err)
{
    const struct sh_bench_test *t = &b->o->tests[k];
    struct sh_pipeline *p = sh_tap_pipeline(b->tap);
    const struct sh_drive_options o = {.pipeline = p,
                                       .n_seqs = t->n_seqs,
                                       .seed = b->o->seed,
                                       .stop = b->o->stop,
                                       .self = b->o->self};
    struct sh_drive *d = NULL;
    double hops = 0;
    int64_t began = 0, ended = 0;
    enum shoal_status st = sh_pipeline_ops(p)->reset(p, ++b->epoch, err);

    if (!st) st = sh_drive_create(&d, &o, err);
    if (!st && t->n_depth) st = sh_drive_fill(d, t->n_depth, err);
    if (!st) st = look_at_hops(b, t, &hops, err);
    sh_tap_clear(b->tap);
    began = sh_now_ns(&sh_clock_system);
    if (!st) st = sh_drive_text(d, t->n_text, t->n_groups, t->in_flight, err);
    ended = sh_now_ns(&sh_clock_system);
    if (!st) st = look_at_hops(b, t, &hops, err);
    sh_drive_destroy(d);
    return st ? st : note_run(b, k, ended - began, hops, err);
}

// Weights are touched, memory is there, processors are awake.
static enum shoal_status warm_up(struct bench *b, struct shoal_error *err)
{
    const int64_t n_ctx = sh_host_n_ctx(b->o->host);
    enum shoal_status st = feed(b, n_ctx < 2 * WARM_UP ? n_ctx / 2 : WARM_UP, 0, false, err);

    return st || n_ctx < 8 ? st : write_alone(b, 4, err);
}

/* ---- all of them ----------------------------------------------------------------------------*/

static enum shoal_status run_kind(struct bench *b, bool several, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    for (int r = 0; r < b->o->n_repetitions; r++) {
        for (int k = 0; k < b->o->n_tests && !st; k++) {
            if ((b->o->tests[k].n_seqs > 1) != several) continue;
            st = several ? run_several(b, k, err) : run_alone(b, k, err);
            if (!st && b->o->progress) b->o->progress(b->o->self, ++b->done, b->total);
            if (!st && wants_stop(b)) st = sh_fail(err, SHOAL_ERR_CANCELLED, "interrupted");
        }
    }
    return st;
}

static enum shoal_status prepare_track(struct bench *b, int k, struct shoal_error *err)
{
    const size_t n = (size_t)b->o->n_repetitions;
    struct track *t = &b->track[k];

    t->took = sh_calloc(n, sizeof *t->took);
    t->bound = sh_calloc(n, sizeof *t->bound);
    t->share = sh_calloc(n, sizeof *t->share);
    t->hops = sh_calloc(n, sizeof *t->hops);
    t->compute = sh_calloc(n * (size_t)b->n_stages, sizeof *t->compute);
    t->queue = sh_calloc(n * (size_t)b->n_stages, sizeof *t->queue);
    b->out[k].values = sh_calloc(n, sizeof *b->out[k].values);
    b->out[k].test = b->o->tests[k];
    return t->took && t->bound && t->share && t->hops && t->compute && t->queue && b->out[k].values
               ? SHOAL_OK
               : no_memory(err);
}

static enum shoal_status prepare(struct bench *b, struct shoal_error *err)
{
    const struct sh_sampler_params arg_max = {.temp = 0, .top_p = 1, .repeat_penalty = 1};
    int64_t longest = WARM_UP;
    enum shoal_status st;

    for (int k = 0; k < b->o->n_tests; k++) {
        const struct sh_bench_test *t = &b->o->tests[k];
        if (t->n_prompt > longest) longest = t->n_prompt;
        if (t->n_depth > longest) longest = t->n_depth;
    }
    b->n_stages = sh_host_n_devices(b->o->host);
    b->total = (int64_t)b->o->n_tests * b->o->n_repetitions;
    b->ids = sh_calloc((size_t)longest, sizeof *b->ids);
    b->track = sh_calloc((size_t)b->o->n_tests, sizeof *b->track);
    if (!b->ids || !b->track) return no_memory(err);
    st = sh_tap_create(&b->tap, sh_host_pipeline(b->o->host), b->n_stages, err);
    for (int k = 0; k < b->o->n_tests && !st; k++)
        st = prepare_track(b, k, err);
    if (st) return st;
    sh_rng_init(&b->rng, b->o->seed);
    sh_pipeline_ops(sh_tap_pipeline(b->tap))->info(sh_tap_pipeline(b->tap), &b->info);
    st = sh_engine_create(&b->engine, sh_tap_pipeline(b->tap), sh_host_n_ctx(b->o->host), err);
    if (!st) sh_engine_set_sampler(b->engine, &arg_max, b->o->seed);
    return st;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void sum_up(const struct bench *b, int k)
{
    struct sh_bench_result *r = &b->out[k];
    struct track *t = &b->track[k];
    const struct sh_bench_test *test = &r->test;
    const size_t n = (size_t)t->n, n_bounds = (size_t)t->n_bounds;
    const double tokens = (double)(test->n_text ? test->n_seqs : test->n_prompt);
    double *per_s = t->hops; // once these are done with

    r->n = t->n;
    r->hops_ms = sh_spread_of(t->hops, n).median;
    for (size_t i = 0; i < n; i++)
        r->values[i] = per_s[i] = t->took[i] > 0 ? tokens * 1e3 / t->took[i] : 0;
    r->per_s = sh_spread_of(per_s, n);
    r->took_ms = sh_spread_of(t->took, n);
    r->has_bound = n > 0 && n_bounds == n;
    r->bound_ms = sh_spread_of(t->bound, n_bounds);
    r->of_bound = sh_spread_of(t->share, n_bounds);
    for (int i = 0; i < b->n_stages; i++) {
        const size_t at = (size_t)i * (size_t)b->o->n_repetitions;
        r->compute_ms[i] = sh_spread_of(t->compute + at, n).median;
        r->queue_ms[i] = sh_spread_of(t->queue + at, n).median;
    }
    if (t->n_gaps == 0) return;
    qsort(t->gap, t->n_gaps, sizeof *t->gap, ascending);
    r->p50_ms = sh_quantile(t->gap, t->n_gaps, 0.5);
    r->p99_ms = sh_quantile(t->gap, t->n_gaps, 0.99);
    r->max_ms = t->gap[t->n_gaps - 1];
}

static void release(struct bench *b)
{
    for (int k = 0; k < b->o->n_tests && b->track; k++) {
        struct track *t = &b->track[k];
        sh_free(t->took);
        sh_free(t->bound);
        sh_free(t->share);
        sh_free(t->hops);
        sh_free(t->compute);
        sh_free(t->queue);
        sh_free(t->gap);
    }
    sh_engine_destroy(b->engine);
    sh_tap_destroy(b->tap);
    sh_free(b->track);
    sh_free(b->ids);
    sh_free(b->time);
}

enum shoal_status sh_bench_run(struct sh_bench_result *out, const struct sh_bench_options *opt,
                               struct shoal_error *err)
{
    struct bench b = {.o = opt, .out = out};
    enum shoal_status st;

    memset(out, 0, (size_t)opt->n_tests * sizeof *out);
    st = prepare(&b, err);
    if (!st) st = warm_up(&b, err);
    if (!st) st = run_kind(&b, false, err);
    if (!st) st = run_kind(&b, true, err);
    for (int k = 0; k < opt->n_tests && !st; k++)
        sum_up(&b, k);
    release(&b);
    return st;
}

void sh_bench_release(struct sh_bench_result *r, int n)
{
    for (int k = 0; k < n; k++)
        sh_free(r[k].values);
}
