/* cmd/bench.c - `shoal bench`: which tests, over which machines, and what they gave. */
#include "cmd/bench_priv.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cmd/commands.h"
#include "cmd/interrupt.h"
#include "cmd/machines.h"
#include "cmd/progress.h"

enum { INTERRUPT_GRACE_S = 3, NUMBERS_MAX = 64, ROWS_DEFAULT = 512, SEED = 1 };

/* ---- which tests ----------------------------------------------------------------------------*/

struct numbers {
    int n;
    int64_t v[NUMBERS_MAX];
};

static struct numbers numbers_of(const struct sh_arg_numbers *list, int64_t none)
{
    struct numbers out = {.n = 0};
    int64_t v;

    for (int i = 0; i < list->n; i++) {
        for (const char *at = list->text[i]; sh_arg_number_next(&at, &v);)
            if (out.n < NUMBERS_MAX) out.v[out.n++] = v;
    }
    if (list->n == 0 && none >= 0) out.v[out.n++] = none;
    return out;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void add(struct sh_bench_job *b, struct sh_bench_test t)
{
    if (b->n_tests == SH_BENCH_TESTS_MAX || t.n_prompt + t.n_text == 0) return;
    b->test[b->n_tests++] = t;
    b->n_ctx = larger(b->n_ctx, t.n_depth + t.n_prompt + t.n_text);
    b->n_seqs = larger(b->n_seqs, t.n_seqs);
    b->rows_max = larger(b->rows_max, larger(t.chunk, t.n_seqs));
}

// One step for all; then groups, one under way, which is what several are held against, and all
// under way.
static void add_several(struct sh_bench_job *b, struct sh_bench_test t,
                        const struct numbers *groups)
{
    t.n_groups = t.in_flight = 1;
    add(b, t);
    for (int i = 0; i < groups->n; i++) {
        t.n_groups = (int)(groups->v[i] < t.n_seqs ? groups->v[i] : t.n_seqs);
        if (t.n_groups < 2) continue;
        t.in_flight = 1;
        if (b->o.turns) add(b, t);
        t.in_flight = t.n_groups;
        add(b, t);
    }
}

static enum shoal_status list_tests(struct sh_bench_job *b, struct shoal_error *err)
{
    const struct sh_bench_flags *o = &b->o;
    const struct numbers prompts = numbers_of(&o->prompts, 512), texts = numbers_of(&o->texts, 128),
                         depths = numbers_of(&o->depths, 0), chunks = numbers_of(&o->chunks, 0),
                         seqs = numbers_of(&o->n_seqs, -1);
    const int n_others = o->workers.n + o->servers.n;
    const struct numbers groups =
        numbers_of(&o->n_groups, n_others + (o->with_local || n_others == 0));

    b->rows_max = ROWS_DEFAULT;
    for (int d = 0; d < depths.n; d++) {
        for (int i = 0; i < prompts.n; i++)
            for (int k = 0; k < chunks.n; k++)
                add(b, (struct sh_bench_test){.n_prompt = prompts.v[i],
                                              .n_depth = depths.v[d],
                                              .chunk = chunks.v[k],
                                              .n_seqs = 1,
                                              .n_groups = 1,
                                              .in_flight = 1});
        for (int i = 0; i < texts.n; i++) {
            if (texts.v[i] == 0) continue;
            for (int k = -1; k < seqs.n; k++)
                if (k < 0 || seqs.v[k] > 1)
                    add_several(b,
                                (struct sh_bench_test){.n_text = texts.v[i],
                                                       .n_depth = depths.v[d],
                                                       .n_seqs = k < 0 ? 1 : (int)seqs.v[k]},
                                &groups);
        }
    }
    if (b->n_tests == 0) return sh_fail(err, SHOAL_ERR_ARG, "-p 0 and -n 0 leave no test");
    if (b->n_tests == SH_BENCH_TESTS_MAX)
        return sh_fail(err, SHOAL_ERR_LIMIT, "these are more than %d tests",
                       SH_BENCH_TESTS_MAX - 1);
    return SHOAL_OK;
}

struct sh_bench_name sh_bench_name_of(const struct sh_bench_test *t)
{
    char depth[32] = "", several[48] = "";
    struct sh_bench_name name;

    if (t->n_depth) (void)snprintf(depth, sizeof depth, " @ d%lld", (long long)t->n_depth);
    if (t->n_seqs > 1 && t->n_groups == 1) {
        (void)snprintf(several, sizeof several, " x%d", t->n_seqs);
    } else if (t->n_seqs > 1) {
        (void)snprintf(several, sizeof several, " x%d, %d groups%s", t->n_seqs, t->n_groups,
                       t->in_flight == 1 ? " in turn" : "");
    }
    (void)snprintf(name.text, sizeof name.text, "%s%lld%s%s", t->n_prompt ? "pp" : "tg",
                   (long long)(t->n_prompt ? t->n_prompt : t->n_text), several, depth);
    return name;
}

/* ---- measuring ------------------------------------------------------------------------------*/

static void on_progress(void *self, uint64_t done, uint64_t total)
{
    sh_progress_step(self, done, total);
}

static void on_test(void *self, int64_t done, int64_t total)
{
    sh_progress_step(self, (uint64_t)done, (uint64_t)total);
}

static bool on_stop(void *self)
{
    (void)self;
    return sh_interrupted();
}

static enum shoal_status open_host(struct sh_bench_job *b, struct shoal_error *err)
{
    const struct sh_bench_flags *o = &b->o;
    const int64_t began = sh_now_ns(&sh_clock_system);
    const struct sh_machines_named named = {
        .workers = &o->workers, .servers = &o->servers, .layers = &o->layers, .key = o->key};
    struct sh_progress progress;
    struct sh_host_options h = {.model_path = o->model,
                                .insecure = o->insecure,
                                .relay = o->relay,
                                .format = (enum sh_rpc_format)o->wire,
                                .with_local = o->with_local,
                                .n_threads = o->n_threads > 0 ? (int)o->n_threads : 0,
                                .n_ctx = b->n_ctx < SH_PAGE ? SH_PAGE : b->n_ctx,
                                .n_seqs = b->n_seqs,
                                .rows_max = b->rows_max,
                                .progress = on_progress,
                                .stop = on_stop,
                                .self = &progress};
    struct sh_machines *m = NULL;
    enum shoal_status st = sh_machines_find(&m, &named, &h, err);

    sh_progress_init(&progress, "loading", true);
    if (!st) st = sh_host_open(&b->host, &h, err);
    sh_progress_end(&progress);
    if (!st) sh_machines_keep_keys(m);
    sh_machines_destroy(m);
    if (st) return st;
    b->load_ns = sh_now_ns(&sh_clock_system) - began;
    if (sh_host_n_ctx(b->host) >= b->n_ctx) return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_LIMIT, "%lld tokens are more than the model's context of %lld",
                   (long long)b->n_ctx, (long long)sh_host_n_ctx(b->host));
}

// Rows of the largest step of a prompt, whose frames are looked at.
static int64_t frame_rows(const struct sh_bench_job *b)
{
    int64_t n = 1;

    for (int k = 0; k < b->n_tests; k++) {
        const struct sh_bench_result *r = &b->result[k];
        const int64_t steps = larger(r->n_steps, 1);
        if (r->test.n_prompt) n = larger(n, (r->test.n_prompt + steps - 1) / steps);
    }
    return n;
}

static enum shoal_status measure(struct sh_bench_job *b, struct shoal_error *err)
{
    struct sh_progress progress;
    const struct sh_bench_options o = {.host = b->host,
                                       .tests = b->test,
                                       .n_tests = b->n_tests,
                                       .n_repetitions = (int)b->o.repetitions,
                                       .seed = SEED,
                                       .format = (enum sh_rpc_format)b->o.wire,
                                       .progress = on_test,
                                       .stop = on_stop,
                                       .self = &progress};
    enum shoal_status st;

    sh_progress_init(&progress, "measuring", false);
    st = sh_bench_run(b->result, &o, err);
    if (!st && b->o.ways)
        st = sh_bench_ways(b->way, &b->n_ways, b->host, o.format, frame_rows(b), err);
    sh_progress_end(&progress);
    return st;
}

int sh_cmd_bench(int argc, char **argv)
{
    struct sh_bench_job *b = sh_calloc(1, sizeof *b);
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st;
    int code;

    if (!b) {
        sh_say("no memory");
        return SH_EXIT_FAILED;
    }
    sh_console_begin("bench", false, false);
    code = sh_bench_flags_parse(&b->o, argc, argv);
    if (code != SH_PARSED) goto done;
    st = list_tests(b, &err);
    if (st) {
        code = sh_usage_error(sh_bench_command(), "%s", err.message);
        goto done;
    }
    sh_interrupt_set_grace(INTERRUPT_GRACE_S);
    st = open_host(b, &err);
    if (!st) st = measure(b, &err);
    if (!st && sh_interrupted()) st = sh_fail(&err, SHOAL_ERR_CANCELLED, "interrupted");
    if (!st) st = b->o.json ? sh_bench_write_json(b, &err) : sh_bench_show(b, &err);
    code = st ? sh_say_failure(st, &err) : 0;

done:
    sh_bench_release(b->result, b->n_tests);
    sh_host_close(b->host);
    sh_free(b);
    return code;
}
