/* tests/threads/pipeline_test.c - stages in threads: chunks in flight, cancelling, failing devices,
 * closing at any time; logits keep their bits through all of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cpu/device.h"
#include "engine/engine.h"
#include "host/pipeline.h"
#include "stage/runner.h"
#include "support/fault_device.h"
#include "support/rig.h"

enum { VOCAB = 96, STAGES = 3, MOST = 200 };

struct line { /* a pipeline over fault devices */
    struct tm_model model;
    struct rig rig;
    struct faults faults[STAGES];
    struct sh_device *device[STAGES];
    struct sh_pipeline *pipeline;
    const struct sh_pipeline_ops *ops;
    struct sh_pipeline_info info;
    int n_stages;
    struct shoal_error err;
};

static void must(enum shoal_status st, const struct shoal_error *err)
{
    if (st) fail_msg("%s: %s", shoal_status_name(st), err->message);
}

// A pipeline over runners of these stages, which are taken over.
static enum shoal_status join_stages(struct sh_pipeline **out, struct sh_stage *const *stages,
                                     int n_stages, const struct sh_pipeline_info *info,
                                     struct shoal_error *err)
{
    enum shoal_status st = sh_pipeline_create(out, n_stages, info, SH_NO_DEADLINE, err);
    int i = 0;

    for (; i < n_stages && !st; i++) {
        const struct sh_runner_options o = {.stage = stages[i],
                                            .index = i,
                                            .first = i == 0,
                                            .width_in = info->width,
                                            .n_slots = info->in_flight_max,
                                            .limits = info->limits,
                                            .sink = sh_pipeline_sink(*out, i)};
        struct sh_station *s;
        st = sh_runner_create(&s, &o, err);
        if (!st) sh_pipeline_take(*out, i, s);
    }
    if (!st) st = sh_pipeline_start(*out, err);
    if (!st) return SHOAL_OK;
    for (; i < n_stages; i++)
        sh_stage_destroy(stages[i]);
    if (*out) sh_pipeline_ops(*out)->close(*out);
    *out = NULL;
    return st;
}

static void line_open(struct line *l, enum tm_kind kind, int n_stages, int in_flight)
{
    const struct rig_options o = {.n_stages = n_stages, .n_slots = in_flight, .n_seqs = 1};
    const struct sh_cpu_options cpu = {.n_threads = 1, .memory_max = 1u << 30};
    struct sh_stage *stages[STAGES];

    memset(l, 0, sizeof *l);
    l->n_stages = n_stages;
    tm_make(&l->model, kind, SH_DTYPE_Q8_0, 5);
    rig_plan(&l->rig, &l->model, &o);
    for (int i = 0; i < n_stages; i++) {
        faults_init(&l->faults[i]);
        must(sh_cpu_device_open(&l->device[i], &cpu, &l->err), &l->err);
        l->device[i] = fault_device_over(l->device[i], &l->faults[i]);
        assert_non_null(l->device[i]);
        must(rig_make_stage(&l->rig, i, 0, l->device[i], &stages[i], &l->err), &l->err);
    }
    l->info = (struct sh_pipeline_info){.n_vocab = VOCAB,
                                        .width = l->model.info.width,
                                        .n_groups = l->model.info.n_groups,
                                        .in_flight_max = in_flight,
                                        .n_stages = n_stages};
    rig_limits(&l->rig, &l->info.limits, l->info.groups);
    must(join_stages(&l->pipeline, stages, n_stages, &l->info, &l->err), &l->err);
    l->ops = sh_pipeline_ops(l->pipeline);
}

static void line_close(struct line *l)
{
    l->ops->close(l->pipeline);
    for (int i = 0; i < l->n_stages; i++) {
        sh_device_close(l->device[i]);
        faults_release(&l->faults[i]);
    }
    tm_release(&l->model);
}

/* ---- steps by hand: sequence 0, all of it mapped by the first one --------------------------- */

struct hand {
    struct sh_prelude map[8];
    struct sh_row rows[32];
    struct sh_step_seq seq;
    struct sh_step step;
};

// `n` rows from position `at`, logits of the last.
static void make_step(struct hand *h, const int32_t *ids, uint64_t number, int64_t at, int32_t n)
{
    memset(h, 0, sizeof *h);
    for (int i = 0; i < 8; i++)
        h->map[i] = (struct sh_prelude){.kind = SH_PRELUDE_MAP, .index = i, .page = i};
    for (int32_t i = 0; i < n; i++)
        h->rows[i] =
            (struct sh_row){.token = ids[at + i], .pos = (int32_t)at + i, .last = (int32_t)at + i};
    h->rows[n - 1].want = SH_WANT_LOGITS;
    h->seq = (struct sh_step_seq){.n_rows = n, .state_read = -1, .state_write = -1};
    h->step = (struct sh_step){.number = number,
                               .prelude = h->map,
                               .n_prelude = number == 0 ? 8 : 0,
                               .rows = h->rows,
                               .n_rows = n,
                               .seqs = &h->seq,
                               .n_seqs = 1};
}

static enum shoal_status submit(struct line *l, const int32_t *ids, uint64_t number, int64_t at,
                                int32_t n)
{
    struct hand h;

    make_step(&h, ids, number, at, n);
    const enum shoal_status st = l->ops->submit(l->pipeline, &h.step, &l->err);
    memset(&h, 0xee, sizeof h); // a submitted step is a copy
    return st;
}

static enum shoal_status result(struct line *l, int64_t timeout_ns, struct sh_pipeline_result *r)
{
    l->err = (struct shoal_error)SHOAL_ERROR_INIT;
    return l->ops->result(l->pipeline, timeout_ns, r, &l->err);
}

static void expect_row(struct line *l, uint64_t number, const float *want)
{
    struct sh_pipeline_result r;
    char what[32];

    must(result(l, SH_NO_DEADLINE, &r), &l->err);
    snprintf(what, sizeof what, "step %d", (int)number);
    assert_int_equal(r.number, number);
    assert_int_equal(r.n_results, 1);
    rig_expect_equal(what, r.results[0].logits, want, 1, VOCAB);
    l->ops->release(l->pipeline, &r);
}

static void expect_status(struct line *l, enum shoal_status want, const char *message)
{
    struct sh_pipeline_result r;

    assert_int_equal(result(l, SH_NO_DEADLINE, &r), want);
    assert_int_equal(r.status, want);
    assert_string_equal(l->err.message, message);
}

/* ---- an engine on it ------------------------------------------------------------------------ */

struct seen {
    float *logits;
    int64_t at, n; /* rows of the feed before this one; rows seen */
    struct sh_engine *cancel;
    int64_t cancel_at;
};

static void see(void *self, int64_t index, const float *logits, int32_t n_vocab)
{
    struct seen *s = self;

    assert_int_equal(n_vocab, VOCAB);
    assert_int_equal(index, s->n);
    memcpy(s->logits + (s->at + s->n++) * VOCAB, logits, VOCAB * sizeof *logits);
    if (s->cancel && index >= s->cancel_at) sh_engine_cancel(s->cancel);
}

static enum shoal_status feed(struct sh_engine *e, struct seen *s, const int32_t *ids, int64_t n,
                              int64_t chunk, struct shoal_error *err)
{
    const struct sh_feed f = {.ids = ids, .n = n, .logits = see, .self = s, .chunk = chunk};

    s->at = sh_engine_length(e);
    s->n = 0;
    return sh_engine_feed(e, &f, NULL, err);
}

static void check_chunks(enum tm_kind kind, int n_stages, int64_t chunk)
{
    enum { N = 150 };
    float *want = rig_logits(N), *have = rig_logits(N);
    struct seen seen = {.logits = have};
    struct sh_engine *e;
    int32_t ids[N];
    struct line l;
    char what[64];

    snprintf(what, sizeof what, "%s, %d stages, chunks of %d", tm_name(kind), n_stages, (int)chunk);
    line_open(&l, kind, n_stages, n_stages + 1);
    rig_ids(ids, N, 6, VOCAB);
    rig_reference(&l.model, ids, N, want);
    must(sh_engine_create(&e, l.pipeline, N, &l.err), &l.err);
    must(feed(e, &seen, ids, N - 20, chunk, &l.err), &l.err);
    must(feed(e, &seen, ids + N - 20, 20, 1, &l.err), &l.err);
    rig_expect_equal(what, have, want, N, VOCAB);
    must(sh_engine_clear(e, &l.err), &l.err);
    memset(have, 0, N * VOCAB * sizeof *have);
    must(feed(e, &seen, ids, N, chunk, &l.err), &l.err);
    rig_expect_equal(what, have, want, N, VOCAB);
    sh_engine_destroy(e);
    line_close(&l);
    sh_free(want);
    sh_free(have);
}

static void pipeline__logits_of_every_split_and_chunking(void **state)
{
    (void)state;
    for (int kind = 0; kind < TM_KIND_COUNT; kind++)
        for (int n = 1; n <= STAGES; n++)
            for (int chunk = 0; chunk <= 13; chunk += 13) // 0: as the engine likes
                check_chunks((enum tm_kind)kind, n, chunk);
    check_chunks(TM_LLAMA, 3, 1);
    check_chunks(TM_HYBRID, 2, 64);
}

/* ---- steps in flight ------------------------------------------------------------------------ */

// The last stage is held: the ones before it go on until everything is full.
static void pipeline__stages_work_at_once(void **state)
{
    enum { STEP = 10, STEPS = 4, N = STEP * STEPS };
    float *want = rig_logits(N);
    struct sh_pipeline_result r;
    int32_t ids[MOST];
    struct line l;

    (void)state;
    line_open(&l, TM_LLAMA, STAGES, STEPS);
    rig_ids(ids, MOST, 7, VOCAB);
    rig_reference(&l.model, ids, N, want);
    faults_close_gate(&l.faults[STAGES - 1], WRAP_WAIT);
    assert_int_equal(result(&l, 0, &r), SHOAL_ERR_STATE);
    assert_string_equal(l.err.message, "pipeline: no step is in flight");
    for (uint64_t i = 0; i < STEPS; i++)
        must(submit(&l, ids, i, (int64_t)i * STEP, STEP), &l.err);
    faults_await_submits(&l.faults[0], STEPS);
    faults_await_submits(&l.faults[1], STEPS);
    faults_await_gate(&l.faults[STAGES - 1], WRAP_WAIT);
    assert_int_equal(result(&l, 0, &r), SHOAL_ERR_TIMEOUT);
    assert_int_equal(r.status, SHOAL_OK);
    assert_int_equal(submit(&l, ids, STEPS, N, 1), SHOAL_ERR_STATE);
    assert_string_equal(l.err.message, "pipeline: 4 steps are in flight already");
    assert_int_equal(l.ops->reset(l.pipeline, 1, &l.err), SHOAL_ERR_STATE);
    faults_open_gate(&l.faults[STAGES - 1], WRAP_WAIT);
    for (uint64_t i = 0; i < STEPS; i++)
        expect_row(&l, i, want + ((int64_t)(i + 1) * STEP - 1) * VOCAB);
    line_close(&l);
    sh_free(want);
}

// A result keeps its place until it is released, whatever happens to the steps behind it.
static void pipeline__held_results_stay(void **state)
{
    float *want = rig_logits(4);
    struct sh_pipeline_result first, second;
    int32_t ids[MOST];
    struct line l;

    (void)state;
    line_open(&l, TM_LLAMA, 2, 2);
    rig_ids(ids, MOST, 8, VOCAB);
    rig_reference(&l.model, ids, 4, want);
    must(submit(&l, ids, 0, 0, 1), &l.err);
    must(result(&l, SH_NO_DEADLINE, &first), &l.err);
    faults_fail(&l.faults[1], WRAP_SUBMIT, 0, SHOAL_ERR_FORMAT);
    must(submit(&l, ids, 1, 1, 1), &l.err);
    assert_int_equal(result(&l, SH_NO_DEADLINE, &second), SHOAL_ERR_FORMAT);
    assert_string_equal(l.err.message, "fault: once");
    must(l.ops->state(l.pipeline, &l.err), &l.err);              // one step failed, nothing is lost
    assert_int_equal(submit(&l, ids, 2, 1, 1), SHOAL_ERR_STATE); // its place is the first's
    assert_int_equal(l.ops->reset(l.pipeline, 1, &l.err), SHOAL_ERR_STATE);
    assert_string_equal(l.err.message, "pipeline: step 0 is in flight or still held");
    rig_expect_equal("held", first.results[0].logits, want, 1, VOCAB);
    l.ops->release(l.pipeline, &first);
    must(submit(&l, ids, 2, 1, 1), &l.err);
    expect_row(&l, 2, want + VOCAB);
    line_close(&l);
    sh_free(want);
}

static void pipeline__steps_that_make_no_sense(void **state)
{
    struct sh_pipeline_info info;
    int32_t ids[MOST];
    struct line l;
    struct hand h;

    (void)state;
    line_open(&l, TM_LLAMA, 2, 2);
    rig_ids(ids, MOST, 9, VOCAB);
    l.ops->info(l.pipeline, &info);
    assert_memory_equal(&info, &l.info, sizeof info);
    assert_int_equal(submit(&l, ids, 1, 0, 1), SHOAL_ERR_STATE);
    assert_string_equal(l.err.message, "pipeline: step 1 comes when step 0 is due");
    make_step(&h, ids, 0, 0, 2);
    h.rows[1].pos = 0;
    assert_int_equal(l.ops->submit(l.pipeline, &h.step, &l.err), SHOAL_ERR_ARG);
    must(submit(&l, ids, 0, 0, 1), &l.err); // still due
    struct sh_pipeline_result r;
    must(result(&l, SH_NO_DEADLINE, &r), &l.err);
    l.ops->release(l.pipeline, &r);
    line_close(&l);
}

// A new epoch: numbers from 0, nothing mapped.
static void pipeline__reset(void **state)
{
    float *want = rig_logits(20);
    int32_t ids[MOST];
    struct line l;

    (void)state;
    line_open(&l, TM_LLAMA, 3, 2);
    rig_ids(ids, MOST, 10, VOCAB);
    rig_reference(&l.model, ids, 20, want);
    for (int epoch = 1; epoch <= 3; epoch++) {
        must(submit(&l, ids, 0, 0, 12), &l.err);
        must(submit(&l, ids, 1, 12, 8), &l.err);
        expect_row(&l, 0, want + 11 * VOCAB);
        expect_row(&l, 1, want + 19 * VOCAB);
        must(l.ops->reset(l.pipeline, (uint64_t)epoch, &l.err), &l.err);
        assert_int_equal(submit(&l, ids, 2, 20, 1), SHOAL_ERR_STATE);
    }
    struct sh_pipeline_result r;
    struct hand h;
    make_step(&h, ids, 0, 0, 1);
    h.step.n_prelude = 0;
    must(l.ops->submit(l.pipeline, &h.step, &l.err), &l.err);
    assert_int_equal(result(&l, SH_NO_DEADLINE, &r), SHOAL_ERR_FORMAT); // no page is mapped
    line_close(&l);
    sh_free(want);
}

/* ---- cancelling ----------------------------------------------------------------------------- */

static void pipeline__cancel_stops_what_is_in_flight(void **state)
{
    enum { STEP = 10 };
    float *want = rig_logits(5 * STEP);
    int32_t ids[MOST];
    struct line l;

    (void)state;
    line_open(&l, TM_LLAMA, STAGES, 4);
    rig_ids(ids, MOST, 11, VOCAB);
    rig_reference(&l.model, ids, 3 * STEP, want);
    must(submit(&l, ids, 0, 0, STEP), &l.err);
    expect_row(&l, 0, want + (STEP - 1) * VOCAB);
    faults_close_gate(&l.faults[1], WRAP_WAIT);
    for (uint64_t i = 1; i <= 3; i++)
        must(submit(&l, ids, i, (int64_t)i * STEP, STEP), &l.err);
    faults_await_gate(&l.faults[1], WRAP_WAIT);
    const int before = faults_submits(&l.faults[2]);
    l.ops->cancel(l.pipeline);
    faults_open_gate(&l.faults[1], WRAP_WAIT);
    for (uint64_t i = 1; i <= 3; i++) {
        struct sh_pipeline_result r;
        assert_int_equal(result(&l, SH_NO_DEADLINE, &r), SHOAL_ERR_CANCELLED);
        assert_int_equal(r.number, i);
    }
    assert_true(faults_cancels(&l.faults[1]) > 0);
    assert_int_equal(faults_submits(&l.faults[2]), before); // none came so far
    must(l.ops->state(l.pipeline, &l.err), &l.err);
    // What was cancelled is done again.
    must(submit(&l, ids, 4, STEP, STEP), &l.err);
    must(submit(&l, ids, 5, 2 * STEP, STEP), &l.err);
    expect_row(&l, 4, want + (2 * STEP - 1) * VOCAB);
    expect_row(&l, 5, want + (3 * STEP - 1) * VOCAB);
    line_close(&l);
    sh_free(want);
}

// One step is on its way into stage 1, two are behind it: the first is stopped as soon as it is
// there, the others never enter.
static void pipeline__cancel_while_a_step_enters(void **state)
{
    struct sh_pipeline_result r;
    int32_t ids[MOST];
    struct line l;

    (void)state;
    line_open(&l, TM_LLAMA, 2, 4);
    rig_ids(ids, MOST, 19, VOCAB);
    faults_close_gate(&l.faults[1], WRAP_SUBMIT);
    faults_close_gate(&l.faults[1], WRAP_WAIT);
    for (uint64_t i = 0; i < 3; i++)
        must(submit(&l, ids, i, (int64_t)i * 10, 10), &l.err);
    faults_await_gate(&l.faults[1], WRAP_SUBMIT);
    l.ops->cancel(l.pipeline);
    assert_int_equal(faults_cancels(&l.faults[1]), 0); // it was not there to be found
    faults_open_gate(&l.faults[1], WRAP_SUBMIT);
    (void)result(&l, SH_NO_DEADLINE, &r); // it may have ended before it was stopped
    if (!r.status) l.ops->release(l.pipeline, &r);
    assert_true(faults_cancels(&l.faults[1]) > 0);
    for (uint64_t i = 1; i < 3; i++)
        assert_int_equal(result(&l, SH_NO_DEADLINE, &r), SHOAL_ERR_CANCELLED);
    assert_int_equal(faults_submits(&l.faults[1]), 1);
    line_close(&l);
}

// Cancelled in the middle of a prompt at every place, then the rest of it.
static void check_cancel(enum tm_kind kind, int64_t at)
{
    enum { N = 120 };
    float *want = rig_logits(N), *have = rig_logits(N);
    struct seen seen = {.logits = have, .cancel_at = at};
    struct sh_engine *e;
    int32_t ids[N];
    struct line l;

    line_open(&l, kind, STAGES, STAGES + 1);
    rig_ids(ids, N, 12, VOCAB);
    rig_reference(&l.model, ids, N, want);
    must(sh_engine_create(&e, l.pipeline, N, &l.err), &l.err);
    seen.cancel = e;
    const enum shoal_status st = feed(e, &seen, ids, N, 9, &l.err);
    seen.cancel = NULL;
    if (st) {
        assert_int_equal(st, SHOAL_ERR_CANCELLED);
        const int64_t done = sh_engine_length(e);
        assert_true(done > at && done < N);
        must(feed(e, &seen, ids + done, N - done, 11, &l.err), &l.err);
    }
    rig_expect_equal(tm_name(kind), have, want, N, VOCAB);
    sh_engine_destroy(e);
    line_close(&l);
    sh_free(want);
    sh_free(have);
}

static void pipeline__cancel_and_go_on(void **state)
{
    (void)state;
    for (int64_t at = 0; at < 100; at += 17) {
        check_cancel(TM_LLAMA, at);
        check_cancel(TM_HYBRID, at);
    }
}

struct canceller {
    struct line *line;
    struct sh_thread thread;
    int n;
};

static void *cancel_often(void *arg)
{
    struct canceller *c = arg;

    for (int i = 0; i < c->n; i++) {
        struct faults *f = &c->line->faults[i % STAGES];
        faults_await_submits(f, faults_submits(f) + 1 + i % 3);
        c->line->ops->cancel(c->line->pipeline);
    }
    return NULL;
}

// From another thread, whenever the stages happen to be: each time the rest is fed again.
static void pipeline__cancel_from_a_thread(void **state)
{
    enum { N = 180 };
    float *want = rig_logits(N), *have = rig_logits(N);
    struct seen seen = {.logits = have};
    struct canceller c = {.n = 15};
    struct sh_engine *e;
    int32_t ids[N];
    struct line l;

    (void)state;
    line_open(&l, TM_HYBRID, STAGES, STAGES + 1);
    rig_ids(ids, N, 13, VOCAB);
    rig_reference(&l.model, ids, N, want);
    must(sh_engine_create(&e, l.pipeline, N, &l.err), &l.err);
    c.line = &l;
    must(sh_thread_start(&c.thread, "cancel", cancel_often, &c, &l.err), &l.err);
    for (int round = 0; round < 15; round++) { // enough runs for the thread to end
        must(sh_engine_clear(e, &l.err), &l.err);
        for (int64_t done = 0; done < N; done = sh_engine_length(e)) {
            const enum shoal_status st = feed(e, &seen, ids + done, N - done, 10, &l.err);
            if (st) assert_int_equal(st, SHOAL_ERR_CANCELLED);
        }
        rig_expect_equal("after cancels", have, want, N, VOCAB);
    }
    sh_thread_join(&c.thread);
    sh_engine_destroy(e);
    line_close(&l);
    sh_free(want);
    sh_free(have);
}

/* ---- failing devices ------------------------------------------------------------------------ */

// The device of stage `where` is lost at some operation of a prompt.
static void check_loss(int where, enum wrap_op op, int after)
{
    enum { N = 90 };
    float *have = rig_logits(N), *want = rig_logits(N);
    struct seen seen = {.logits = have};
    struct sh_engine *e;
    int32_t ids[N];
    struct line l;

    line_open(&l, TM_LLAMA, STAGES, STAGES + 1);
    rig_ids(ids, N, 14, VOCAB);
    rig_reference(&l.model, ids, N, want);
    must(sh_engine_create(&e, l.pipeline, N, &l.err), &l.err);
    faults_fail(&l.faults[where], op, after, SHOAL_ERR_PEER);
    assert_int_equal(feed(e, &seen, ids, N, 9, &l.err), SHOAL_ERR_PEER);
    assert_string_equal(l.err.message, "fault: gone");
    assert_string_equal(l.err.peer, "10.0.0.7:50052");
    const int64_t done = sh_engine_length(e);
    assert_true(done < N);
    rig_expect_equal("before the loss", have, want, done, VOCAB);
    l.err = (struct shoal_error)SHOAL_ERROR_INIT;
    assert_int_equal(l.ops->state(l.pipeline, &l.err), SHOAL_ERR_PEER);
    assert_string_equal(l.err.message, "fault: gone");
    assert_int_equal(feed(e, &seen, ids + done, N - done, 9, &l.err), SHOAL_ERR_PEER);
    assert_string_equal(l.err.peer, "10.0.0.7:50052");
    assert_int_equal(l.ops->reset(l.pipeline, 1, &l.err), SHOAL_ERR_PEER);
    sh_engine_destroy(e);
    line_close(&l);
    sh_free(have);
    sh_free(want);
}

static void pipeline__a_lost_device_is_told(void **state)
{
    static const enum wrap_op OP[] = {WRAP_WRITE, WRAP_SUBMIT, WRAP_READ, WRAP_WAIT};

    (void)state;
    for (int where = 0; where < STAGES; where++) {
        for (size_t i = 0; i < sizeof OP / sizeof OP[0]; i++) {
            check_loss(where, OP[i], 0);
            check_loss(where, OP[i], 3);
        }
    }
}

// A step fails once, for a reason that passes: the rest is fed again.
static void check_once(enum tm_kind kind, int where, enum wrap_op op, int after,
                       enum shoal_status with)
{
    enum { N = 90 };
    float *have = rig_logits(N), *want = rig_logits(N);
    struct seen seen = {.logits = have};
    struct sh_engine *e;
    int32_t ids[N];
    struct line l;

    line_open(&l, kind, STAGES, STAGES + 1);
    rig_ids(ids, N, 15, VOCAB);
    rig_reference(&l.model, ids, N, want);
    must(sh_engine_create(&e, l.pipeline, N, &l.err), &l.err);
    faults_fail(&l.faults[where], op, after, with);
    assert_int_equal(feed(e, &seen, ids, N, 9, &l.err), with);
    assert_string_equal(l.err.message, "fault: once");
    must(l.ops->state(l.pipeline, &l.err), &l.err);
    const int64_t done = sh_engine_length(e);
    must(feed(e, &seen, ids + done, N - done, 9, &l.err), &l.err);
    rig_expect_equal(tm_name(kind), have, want, N, VOCAB);
    sh_engine_destroy(e);
    line_close(&l);
    sh_free(have);
    sh_free(want);
}

static void pipeline__a_failed_step_passes(void **state)
{
    static const enum wrap_op OP[] = {WRAP_WRITE, WRAP_SUBMIT, WRAP_READ};

    (void)state;
    for (int where = 0; where < STAGES; where++) {
        for (size_t i = 0; i < sizeof OP / sizeof OP[0]; i++) {
            check_once(TM_LLAMA, where, OP[i], 2, SHOAL_ERR_NOMEM);
            check_once(TM_HYBRID, where, OP[i], 5, SHOAL_ERR_FORMAT);
        }
    }
}

// What a failed step said of the tables holds in every stage, also in those it never reached.
static void pipeline__edits_of_a_failed_step_count(void **state)
{
    float *want = rig_logits(3);
    int32_t ids[MOST];
    struct line l;

    (void)state;
    line_open(&l, TM_LLAMA, STAGES, 2);
    rig_ids(ids, MOST, 20, VOCAB);
    rig_reference(&l.model, ids, 3, want);
    faults_fail(&l.faults[0], WRAP_SUBMIT, 0, SHOAL_ERR_FORMAT);
    must(submit(&l, ids, 0, 0, 3), &l.err); // maps the pages
    expect_status(&l, SHOAL_ERR_FORMAT, "fault: once");
    must(submit(&l, ids, 1, 0, 3), &l.err);
    expect_row(&l, 1, want + 2 * VOCAB);
    line_close(&l);
    sh_free(want);
}

// A run that fails takes those behind it in the same queue with it; the next one finds the tables
// as all edits left them.
static void pipeline__a_failed_run_takes_the_later_ones(void **state)
{
    float *want = rig_logits(80);
    int32_t ids[MOST];
    struct line l;

    (void)state;
    line_open(&l, TM_LLAMA, 1, 3);
    rig_ids(ids, MOST, 21, VOCAB);
    rig_reference(&l.model, ids, 80, want);
    for (int round = 0; round < 2; round++) {
        struct hand h;
        const uint64_t first = (uint64_t)round * 6;
        // So that all three go in before a wait.
        faults_close_gate(&l.faults[0], WRAP_SUBMIT);
        make_step(&h, ids, first, 0, 1);
        h.rows[0].token = 5000; // there is none: found when it runs
        h.step.n_prelude = 0;
        must(l.ops->submit(l.pipeline, &h.step, &l.err), &l.err);
        make_step(&h, ids, first + 1, 0, 1); // pages for a run that never happens
        for (int i = 0; i < 8; i++)
            h.map[i].page = round ? i : 7 - i;
        h.step.n_prelude = 8;
        must(l.ops->submit(l.pipeline, &h.step, &l.err), &l.err);
        must(submit(&l, ids, first + 2, 0, 1), &l.err);
        faults_open_gate(&l.faults[0], WRAP_SUBMIT);
        struct sh_pipeline_result r;
        assert_int_equal(result(&l, SH_NO_DEADLINE, &r), SHOAL_ERR_FORMAT);
        assert_non_null(strstr(l.err.message, "5000"));
        for (int i = 0; i < 2; i++) {
            assert_int_equal(result(&l, SH_NO_DEADLINE, &r), SHOAL_ERR_POISONED);
            assert_non_null(strstr(l.err.message, "shares a sequence with step"));
        }
        must(submit(&l, ids, first + 3, 0, 30), &l.err);
        must(submit(&l, ids, first + 4, 30, 30), &l.err);
        must(submit(&l, ids, first + 5, 60, 20), &l.err);
        expect_row(&l, first + 3, want + 29 * VOCAB);
        expect_row(&l, first + 4, want + 59 * VOCAB);
        expect_row(&l, first + 5, want + 79 * VOCAB);
    }
    line_close(&l);
    sh_free(want);
}

// A step that a device does not finish in time is a loss.
static void pipeline__a_deadline_is_a_loss(void **state)
{
    int32_t ids[MOST];
    struct line l;

    (void)state;
    line_open(&l, TM_LLAMA, 2, 3);
    rig_ids(ids, MOST, 16, VOCAB);
    faults_fail(&l.faults[0], WRAP_WAIT, 0, SHOAL_ERR_TIMEOUT);
    must(submit(&l, ids, 0, 0, 5), &l.err);
    expect_status(&l, SHOAL_ERR_TIMEOUT, "fault: once");
    assert_int_equal(l.ops->state(l.pipeline, &l.err), SHOAL_ERR_TIMEOUT);
    assert_int_equal(submit(&l, ids, 1, 0, 5), SHOAL_ERR_TIMEOUT);
    assert_string_equal(l.err.message, "fault: once");
    line_close(&l);
}

/* ---- closing, opening ----------------------------------------------------------------------- */

static void pipeline__close_while_in_flight(void **state)
{
    int32_t ids[MOST];

    (void)state;
    rig_ids(ids, MOST, 17, VOCAB);
    for (int where = 0; where < STAGES; where++) {
        for (int n = 0; n <= 4; n++) {
            struct line l;
            line_open(&l, TM_LLAMA, STAGES, 4);
            faults_close_gate(&l.faults[where], WRAP_WAIT);
            for (int i = 0; i < n; i++)
                must(submit(&l, ids, (uint64_t)i, i * 10, 10), &l.err);
            if (n > 2) faults_await_gate(&l.faults[where], WRAP_WAIT);
            line_close(&l);
        }
    }
}

static void pipeline__no_memory_closes_the_stages(void **state)
{
    const struct rig_options o = {.n_stages = 2, .n_slots = 2, .n_seqs = 1};
    const struct sh_cpu_options cpu = {.n_threads = 1, .memory_max = 1u << 30};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct tm_model m;
    struct rig r;
    bool done = false;
    int failures = 0;

    (void)state;
    tm_make(&m, TM_LLAMA, SH_DTYPE_Q8_0, 18);
    rig_plan(&r, &m, &o);
    for (int n = 0; !done; n++) {
        const size_t live = sh_mem_live_bytes();
        struct sh_device *device[2];
        struct sh_stage *stages[2];
        struct sh_pipeline_info info = {
            .n_vocab = VOCAB, .width = m.info.width, .in_flight_max = 2};
        struct sh_pipeline *p;
        for (int i = 0; i < 2; i++) {
            must(sh_cpu_device_open(&device[i], &cpu, &err), &err);
            must(rig_make_stage(&r, i, 0, device[i], &stages[i], &err), &err);
        }
        rig_limits(&r, &info.limits, info.groups);
        sh_mem_fail_after(n);
        const enum shoal_status st = join_stages(&p, stages, 2, &info, &err);
        done = sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        if (st) assert_int_equal(st, SHOAL_ERR_NOMEM);
        if (st) assert_null(p);
        failures += st != SHOAL_OK;
        if (!st) sh_pipeline_ops(p)->close(p);
        for (int i = 0; i < 2; i++)
            sh_device_close(device[i]);
        assert_int_equal(sh_mem_live_bytes(), live);
    }
    assert_int_equal(failures, 8); // the pipeline's two, and six of two runners
    tm_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pipeline__logits_of_every_split_and_chunking),
        cmocka_unit_test(pipeline__stages_work_at_once),
        cmocka_unit_test(pipeline__held_results_stay),
        cmocka_unit_test(pipeline__steps_that_make_no_sense),
        cmocka_unit_test(pipeline__reset),
        cmocka_unit_test(pipeline__cancel_stops_what_is_in_flight),
        cmocka_unit_test(pipeline__cancel_while_a_step_enters),
        cmocka_unit_test(pipeline__cancel_and_go_on),
        cmocka_unit_test(pipeline__cancel_from_a_thread),
        cmocka_unit_test(pipeline__a_lost_device_is_told),
        cmocka_unit_test(pipeline__a_failed_step_passes),
        cmocka_unit_test(pipeline__edits_of_a_failed_step_count),
        cmocka_unit_test(pipeline__a_failed_run_takes_the_later_ones),
        cmocka_unit_test(pipeline__a_deadline_is_a_loss),
        cmocka_unit_test(pipeline__close_while_in_flight),
        cmocka_unit_test(pipeline__no_memory_closes_the_stages),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
