/* tests/threads/runner_test.c - a stage behind its station's calls: steps told ahead of their rows,
 * failures, cancels, deadlines, resets, and callers who get everything wrong.
 *
 * A bench is one or two runners over devices that can be stopped; what they say is written down,
 * and logits are compared with those of a lone run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cpu/device.h"
#include "stage/runner.h"
#include "support/fault_device.h"
#include "support/rig.h"

enum { VOCAB = 96, MOST = 200, SEEN_MAX = 4096, WIDTH_MAX = 512, ROWS = 32 };

struct seen { /* an output, as it was said */
    uint64_t epoch, number;
    enum shoal_status status;
    bool here;
    char message[320];
    float logits[VOCAB];           /* of the last stage's first result */
    float hidden[ROWS][WIDTH_MAX]; /* of another one */
    int32_t n_rows;
    struct sh_station_timing timing[8];
    int n_timings;
};

struct sink {
    struct sh_mutex lock; /* everything */
    struct sh_cond changed;
    struct seen *seen; /* [SEEN_MAX] */
    int n;
    bool keep; /* do not release in the sink */
    bool in_sink, blocked;
    struct sh_station *station;
    enum shoal_status lost;
    char why[320];
};

struct bench {
    struct tm_model model;
    struct rig rig;
    struct sh_step_limits limits;
    int n, n_slots;
    struct faults faults[2];
    struct sh_device *device[2];
    struct sink sink[2];
    struct sh_station *station[2];
    int32_t ids[MOST];
    struct shoal_error err;
};

static void must(enum shoal_status st, const struct shoal_error *err)
{
    if (st) fail_msg("%s: %s", shoal_status_name(st), err->message);
}

/* ---- what runners say ----------------------------------------------------------------------- */

static void write_down(struct seen *s, const struct sh_station_output *o)
{
    *s = (struct seen){.epoch = o->epoch,
                       .number = o->number,
                       .status = o->status,
                       .here = o->here,
                       .n_rows = o->n_rows,
                       .n_timings = o->n_timings};
    if (o->error) memcpy(s->message, o->error->message, sizeof s->message);
    for (int32_t i = 0; i < o->n_rows && o->hidden; i++)
        memcpy(s->hidden[i], o->hidden + (int64_t)i * o->width, (size_t)o->width * sizeof(float));
    if (o->n_results > 0) memcpy(s->logits, o->results[0].logits, sizeof s->logits);
    for (int i = 0; i < o->n_timings && i < 8; i++)
        s->timing[i] = o->timings[i];
}

static void on_output(void *self, const struct sh_station_output *o)
{
    struct sink *s = self;
    bool release;

    sh_mutex_lock(&s->lock);
    assert_false(s->in_sink); // one at a time
    s->in_sink = true;
    sh_cond_broadcast(&s->changed);
    while (s->blocked)
        (void)sh_cond_wait(&s->changed, &s->lock, INT64_MAX);
    assert_true(s->n < SEEN_MAX);
    write_down(&s->seen[s->n], o);
    release = !s->keep;
    sh_mutex_unlock(&s->lock);
    if (release) sh_station_release(s->station, o->number);
    sh_mutex_lock(&s->lock);
    s->n++;
    s->in_sink = false;
    sh_cond_broadcast(&s->changed);
    sh_mutex_unlock(&s->lock);
}

static void on_lost(void *self, enum shoal_status st, const struct shoal_error *err)
{
    struct sink *s = self;

    sh_mutex_lock(&s->lock);
    assert_int_equal(s->lost, SHOAL_OK);
    s->lost = st;
    memcpy(s->why, err->message, sizeof s->why);
    sh_cond_broadcast(&s->changed);
    sh_mutex_unlock(&s->lock);
}

// Output `i` of a runner, counted from its first.
static const struct seen *await(struct bench *b, int where, int i)
{
    struct sink *s = &b->sink[where];

    sh_mutex_lock(&s->lock);
    while (s->n <= i)
        (void)sh_cond_wait(&s->changed, &s->lock, INT64_MAX);
    sh_mutex_unlock(&s->lock);
    return &s->seen[i];
}

static int count(struct bench *b, int where)
{
    struct sink *s = &b->sink[where];
    int n;

    sh_mutex_lock(&s->lock);
    n = s->n;
    sh_mutex_unlock(&s->lock);
    return n;
}

/* ---- a bench -------------------------------------------------------------------------------- */

static void open_station(struct bench *b, int i)
{
    const struct sh_cpu_options cpu = {.n_threads = 1, .memory_max = 1u << 30};
    struct sh_runner_options o = {.index = i,
                                  .first = i == 0,
                                  .width_in = b->model.info.width,
                                  .n_slots = b->n_slots,
                                  .limits = b->limits,
                                  .sink = {on_output, on_lost, &b->sink[i]}};
    struct sink *s = &b->sink[i];

    sh_mutex_init(&s->lock);
    sh_cond_init(&s->changed);
    s->seen = sh_calloc(SEEN_MAX, sizeof *s->seen);
    faults_init(&b->faults[i]);
    must(sh_cpu_device_open(&b->device[i], &cpu, &b->err), &b->err);
    b->device[i] = fault_device_over(b->device[i], &b->faults[i]);
    must(rig_make_stage(&b->rig, i, 0, b->device[i], &o.stage, &b->err), &b->err);
    must(sh_runner_create(&b->station[i], &o, &b->err), &b->err);
    s->station = b->station[i]; // before the first step
}

static void bench_open(struct bench *b, int n, int n_slots)
{
    const struct rig_options o = {.n_stages = n, .n_slots = n_slots, .n_seqs = 2, .rows_max = ROWS};
    struct sh_kv_group groups[SH_GROUPS_MAX];

    memset(b, 0, sizeof *b);
    b->n = n;
    b->n_slots = n_slots;
    tm_make(&b->model, TM_LLAMA, SH_DTYPE_Q8_0, 5);
    assert_true(b->model.info.width <= WIDTH_MAX);
    rig_plan(&b->rig, &b->model, &o);
    rig_limits(&b->rig, &b->limits, groups);
    rig_ids(b->ids, MOST, 7, VOCAB);
    for (int i = 0; i < n; i++)
        open_station(b, i);
}

static void bench_close(struct bench *b)
{
    for (int i = 0; i < b->n; i++) {
        sh_station_close(b->station[i]);
        sh_device_close(b->device[i]);
        faults_release(&b->faults[i]);
        sh_free(b->sink[i].seen);
        sh_cond_release(&b->sink[i].changed);
        sh_mutex_release(&b->sink[i].lock);
    }
    tm_release(&b->model);
}

struct hand { /* a step made by hand */
    struct sh_prelude map[4];
    struct sh_row rows[ROWS];
    struct sh_step_seq seq;
    struct sh_step step;
};

// `n` rows of sequence `seq` from position `at`, logits of the last; step 0 of a sequence maps it.
static const struct sh_step *make(struct hand *h, const struct bench *b, uint64_t number,
                                  int32_t seq, int32_t at, int32_t n)
{
    memset(h, 0, sizeof *h);
    for (int i = 0; i < 4; i++)
        h->map[i] = (struct sh_prelude){
            .kind = SH_PRELUDE_MAP, .seq = seq, .index = i, .page = 4 * seq + i};
    for (int32_t i = 0; i < n; i++)
        h->rows[i] =
            (struct sh_row){.token = b->ids[at + i], .seq = seq, .pos = at + i, .last = at + i};
    h->rows[n - 1].want = SH_WANT_LOGITS;
    h->seq = (struct sh_step_seq){.seq = seq, .n_rows = n, .state_read = -1, .state_write = -1};
    h->step = (struct sh_step){.number = number,
                               .prelude = h->map,
                               .n_prelude = at == 0 ? 4 : 0,
                               .rows = h->rows,
                               .n_rows = n,
                               .seqs = &h->seq,
                               .n_seqs = 1};
    return &h->step;
}

static enum shoal_status announce(struct bench *b, int where, uint64_t number, int32_t seq,
                                  int32_t at, int32_t n)
{
    struct hand h;

    const enum shoal_status st =
        sh_station_announce(b->station[where], make(&h, b, number, seq, at, n), 0, &b->err);
    memset(&h, 0xee, sizeof h); // an announced step is a copy
    return st;
}

// All rows of an output of the first stage, for the second.
static enum shoal_status give(struct bench *b, const struct seen *s, uint64_t number, int32_t first,
                              int32_t n)
{
    const size_t width = (size_t)b->model.info.width;
    char *p = sh_malloc((size_t)n * width * sizeof(float) + 1);

    for (int32_t i = 0; i < n; i++) // at an odd address
        memcpy(p + 1 + (size_t)i * width * sizeof(float), s->hidden[first + i],
               width * sizeof(float));
    const enum shoal_status st =
        sh_station_rows(b->station[1], number, first, n, p + 1, s->timing, s->n_timings, &b->err);
    sh_free(p);
    return st;
}

static void expect_row(const struct seen *s, uint64_t number, const float *want)
{
    if (s->status) fail_msg("step %d: %s", (int)number, s->message);
    assert_int_equal(s->number, number);
    rig_expect_equal("step", s->logits, want, 1, VOCAB);
}

static void expect_failure(const struct seen *s, uint64_t number, enum shoal_status st, bool here,
                           const char *message)
{
    assert_int_equal(s->number, number);
    assert_int_equal(s->status, st);
    assert_int_equal(s->here, here);
    if (!strstr(s->message, message)) fail_msg("\"%s\" lacks \"%s\"", s->message, message);
}

static float *reference(struct bench *b, int64_t n)
{
    float *want = rig_logits(n);

    rig_reference(&b->model, b->ids, n, want);
    return want;
}

/* ---- honest callers ------------------------------------------------------------------------- */

static void runner__outputs_stay_until_released(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b, 1, 2);
    float *want = reference(&b, 30);
    b.sink[0].keep = true;
    must(announce(&b, 0, 0, 0, 0, 10), &b.err);
    must(announce(&b, 0, 1, 0, 10, 10), &b.err);
    assert_int_equal(announce(&b, 0, 2, 0, 20, 10), SHOAL_ERR_STATE);
    expect_row(await(&b, 0, 0), 0, want + 9 * VOCAB);
    expect_row(await(&b, 0, 1), 1, want + 19 * VOCAB);
    assert_int_equal(announce(&b, 0, 2, 0, 20, 10), SHOAL_ERR_STATE);
    sh_station_release(b.station[0], 1);
    assert_int_equal(announce(&b, 0, 2, 0, 20, 10), SHOAL_ERR_STATE); // its place is that of 0
    sh_station_release(b.station[0], 0);
    sh_station_release(b.station[0], 0); // once more does no harm
    must(announce(&b, 0, 2, 0, 20, 10), &b.err);
    sh_station_release(b.station[0], 2); // before it is out, perhaps
    expect_row(await(&b, 0, 2), 2, want + 29 * VOCAB);
    assert_int_equal(sh_runner_next(b.station[0]), 3);
    bench_close(&b);
    sh_free(want);
}

// Steps are told ahead, rows come in pieces and in any order of the steps.
static void runner__rows_come_when_they_come(void **state)
{
    struct sh_station_stats stats;
    struct bench b;

    (void)state;
    bench_open(&b, 2, 3);
    float *want = reference(&b, 30);
    for (uint64_t i = 0; i < 3; i++)
        must(announce(&b, 0, i, 0, (int32_t)i * 10, 10), &b.err);
    for (int i = 0; i < 3; i++)
        (void)await(&b, 0, i);
    for (uint64_t i = 0; i < 3; i++)
        must(announce(&b, 1, i, 0, (int32_t)i * 10, 10), &b.err);
    must(give(&b, &b.sink[0].seen[1], 1, 0, 7), &b.err);
    must(give(&b, &b.sink[0].seen[2], 2, 0, 10), &b.err);
    must(give(&b, &b.sink[0].seen[1], 1, 7, 3), &b.err); // complete, but not its turn
    must(give(&b, &b.sink[0].seen[0], 0, 0, 4), &b.err);
    assert_int_equal(count(&b, 1), 0);
    must(give(&b, &b.sink[0].seen[0], 0, 4, 6), &b.err);
    for (int i = 0; i < 3; i++) {
        const struct seen *s = await(&b, 1, i);
        expect_row(s, (uint64_t)i, want + (10 * i + 9) * VOCAB);
        assert_int_equal(s->n_timings, 2);
        assert_memory_equal(&s->timing[0], &b.sink[0].seen[i].timing[0], sizeof s->timing[0]);
        assert_int_equal(s->timing[1].stage, 1);
    }
    sh_station_stats(b.station[1], &stats);
    assert_int_equal(stats.steps, 3);
    assert_int_equal(stats.in_flight_max, 3);
    bench_close(&b);
    sh_free(want);
}

/* ---- steps that do not run ------------------------------------------------------------------ */

static void runner__passed_steps_keep_their_edits(void **state)
{
    const struct shoal_error why = {.message = "the stage before is tired"};
    struct bench b;

    (void)state;
    bench_open(&b, 2, 3);
    float *want = reference(&b, 10);
    must(announce(&b, 0, 0, 0, 0, 10), &b.err);
    const struct seen *s = await(&b, 0, 0);
    sh_station_pass(b.station[1], 0, SHOAL_ERR_IO, &why); // there is no such step yet
    must(announce(&b, 1, 0, 0, 0, 10), &b.err);           // maps the pages
    must(give(&b, s, 0, 0, 5), &b.err);
    sh_station_pass(b.station[1], 0, SHOAL_ERR_IO, &why); // half of its rows are there
    expect_failure(await(&b, 1, 0), 0, SHOAL_ERR_IO, false, why.message);
    must(give(&b, s, 0, 5, 5), &b.err); // too late, and no harm
    must(announce(&b, 1, 1, 0, 10, 5), &b.err);
    sh_station_pass(b.station[1], 1, SHOAL_ERR_IO, &why);
    expect_failure(await(&b, 1, 1), 1, SHOAL_ERR_IO, false, why.message);
    struct hand h;
    make(&h, &b, 2, 0, 0, 10);
    h.step.n_prelude = 0;
    must(sh_station_announce(b.station[1], &h.step, 0, &b.err), &b.err);
    must(give(&b, s, 2, 0, 10), &b.err);
    sh_station_pass(b.station[1], 2, SHOAL_ERR_IO, &why); // all its rows are there: it runs
    expect_row(await(&b, 1, 2), 2, want + 9 * VOCAB);
    bench_close(&b);
    sh_free(want);
}

static void runner__cancelled_before_they_are_announced(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b, 1, 2);
    float *want = reference(&b, 20);
    sh_station_cancel(b.station[0], 5, 5);
    sh_station_cancel(b.station[0], 1, 3);
    sh_station_cancel(b.station[0], 4, 5);
    for (uint64_t i = 0; i < 6; i++) {
        must(announce(&b, 0, i, 0, 0, (int32_t)i + 1), &b.err);
        const struct seen *s = await(&b, 0, (int)i);
        if (i == 1 || i == 2 || i == 4) {
            expect_failure(s, i, SHOAL_ERR_CANCELLED, true, "was cancelled");
        } else {
            expect_row(s, i, want + i * VOCAB);
        }
    }
    bench_close(&b);
    sh_free(want);
}

// Steps that were told but wait for rows are failed by one of their sequence, others are not.
static void runner__a_failure_takes_its_sequence(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b, 2, 4);
    float *want = reference(&b, 10);
    must(announce(&b, 0, 0, 0, 0, 10), &b.err);
    const struct seen *s = await(&b, 0, 0);
    must(announce(&b, 1, 0, 0, 0, 10), &b.err);
    must(announce(&b, 1, 1, 1, 0, 10), &b.err);
    must(announce(&b, 1, 2, 0, 10, 10), &b.err);
    faults_fail(&b.faults[1], WRAP_SUBMIT, 0, SHOAL_ERR_FORMAT);
    must(give(&b, s, 0, 0, 10), &b.err);
    expect_failure(await(&b, 1, 0), 0, SHOAL_ERR_FORMAT, true, "fault: once");
    must(give(&b, s, 1, 0, 10), &b.err); // the same tokens in another sequence
    expect_row(await(&b, 1, 1), 1, want + 9 * VOCAB);
    expect_failure(await(&b, 1, 2), 2, SHOAL_ERR_POISONED, true, "with step 0, which failed");
    must(announce(&b, 1, 3, 0, 0, 10), &b.err); // what comes later is new
    must(give(&b, s, 3, 0, 10), &b.err);
    expect_row(await(&b, 1, 3), 3, want + 9 * VOCAB);
    bench_close(&b);
    sh_free(want);
}

static void runner__a_lost_device_is_told_once(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b, 1, 3);
    faults_fail(&b.faults[0], WRAP_SUBMIT, 0, SHOAL_ERR_PEER);
    must(announce(&b, 0, 0, 0, 0, 5), &b.err);
    expect_failure(await(&b, 0, 0), 0, SHOAL_ERR_PEER, true, "fault: gone");
    sh_mutex_lock(&b.sink[0].lock);
    while (!b.sink[0].lost)
        (void)sh_cond_wait(&b.sink[0].changed, &b.sink[0].lock, INT64_MAX);
    sh_mutex_unlock(&b.sink[0].lock);
    assert_string_equal(b.sink[0].why, "fault: gone");
    assert_int_equal(announce(&b, 0, 1, 0, 5, 5), SHOAL_ERR_PEER);
    assert_string_equal(b.err.peer, "10.0.0.7:50052");
    assert_int_equal(sh_station_reset(b.station[0], 1, &b.err), SHOAL_ERR_PEER);
    sh_station_cancel(b.station[0], 0, 9);
    sh_station_release(b.station[0], 0);
    bench_close(&b);
}

/* ---- deadlines ------------------------------------------------------------------------------ */

struct slow { /* a device whose steps never end by themselves */
    atomic_bool cancelled, own;
};

static enum shoal_status never_ends(void *self, enum wrap_op op, struct shoal_error *err)
{
    struct slow *s = self;

    if (op != WRAP_WAIT) return SHOAL_OK;
    if (atomic_load(&s->own)) return sh_fail(err, SHOAL_ERR_TIMEOUT, "slow: gave up");
    if (atomic_load(&s->cancelled)) return sh_fail(err, SHOAL_ERR_CANCELLED, "slow: stopped");
    return sh_fail(err, SHOAL_ERR_TIMEOUT, "slow: not yet");
}

static void slow_cancelled(void *self)
{
    atomic_store(&((struct slow *)self)->cancelled, true);
}

static void runner__a_step_has_a_deadline(void **state)
{
    struct slow slow = {.cancelled = false};
    const struct wrap_hooks hooks = {
        .before = never_ends, .cancelled = slow_cancelled, .self = &slow};
    const struct sh_cpu_options cpu = {.n_threads = 1, .memory_max = 1u << 30};
    struct hand h;
    struct bench b;

    (void)state;
    bench_open(&b, 1, 2);
    sh_station_close(b.station[0]);
    sh_device_close(b.device[0]);
    must(sh_cpu_device_open(&b.device[0], &cpu, &b.err), &b.err);
    b.device[0] = wrap_device_over(b.device[0], &hooks);
    struct sh_runner_options o = {.first = true,
                                  .index = 4,
                                  .width_in = b.model.info.width,
                                  .n_slots = 2,
                                  .limits = b.limits,
                                  .sink = {on_output, on_lost, &b.sink[0]}};
    atomic_store(&slow.cancelled, true); // loading does not wait for ever
    enum shoal_status st = rig_make_stage(&b.rig, 0, 0, b.device[0], &o.stage, &b.err);
    if (st == SHOAL_ERR_CANCELLED) skip();
    must(st, &b.err);
    atomic_store(&slow.cancelled, false);
    must(sh_runner_create(&b.station[0], &o, &b.err), &b.err);
    b.sink[0].station = b.station[0];
    must(sh_station_announce(b.station[0], make(&h, &b, 0, 0, 0, 5), 1, &b.err), &b.err);
    expect_failure(await(&b, 0, 0), 0, SHOAL_ERR_TIMEOUT, true,
                   "stage 4: step 0 ran longer than 1e-09 s");
    assert_int_equal(b.sink[0].lost, SHOAL_OK);
    atomic_store(&slow.own, true); // before the step's time is over
    must(announce(&b, 0, 1, 0, 0, 5), &b.err);
    expect_failure(await(&b, 0, 1), 1, SHOAL_ERR_TIMEOUT, true, "slow: gave up");
    bench_close(&b);
}

/* ---- resets --------------------------------------------------------------------------------- */

static void runner__a_reset_forgets(void **state)
{
    struct bench b;
    int before;

    (void)state;
    bench_open(&b, 2, 4);
    float *want = reference(&b, 20);
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
        must(announce(&b, 0, 0, 0, 0, 10), &b.err);
        must(announce(&b, 0, 1, 0, 10, 10), &b.err);
        must(announce(&b, 1, 0, 0, 0, 10), &b.err);
        must(announce(&b, 1, 1, 0, 10, 10), &b.err);
        before = count(&b, 1);
        (void)await(&b, 0, (int)epoch * 4 + 1);
        const struct seen *s = &b.sink[0].seen[epoch * 4];
        must(give(&b, s, 0, 0, 10), &b.err);
        b.sink[1].keep = true; // what is not released is taken back
        expect_row(await(&b, 1, before), 0, want + 9 * VOCAB);
        b.sink[1].keep = false;
        must(give(&b, s + 1, 1, 0, 4), &b.err);
        sh_station_cancel(b.station[1], 2, 9);
        faults_close_gate(&b.faults[0], WRAP_WAIT);
        must(announce(&b, 0, 2, 0, 0, 10), &b.err);
        must(announce(&b, 0, 3, 0, 10, 10), &b.err);
        faults_await_gate(&b.faults[0], WRAP_WAIT);
        must(sh_station_reset(b.station[0], epoch + 1, &b.err), &b.err);
        must(sh_station_reset(b.station[1], epoch + 1, &b.err), &b.err);
        assert_int_equal(count(&b, 0), (int)epoch * 4 + 2); // two were not said
        assert_int_equal(sh_runner_next(b.station[1]), 0);
        // Once more through, so that the next epoch begins behind known outputs.
        must(announce(&b, 0, 0, 0, 0, 10), &b.err);
        must(announce(&b, 0, 1, 0, 10, 10), &b.err);
        expect_row(await(&b, 0, (int)epoch * 4 + 3), 1, b.sink[0].seen[1].logits);
        must(sh_station_reset(b.station[0], epoch + 1, &b.err), &b.err);
    }
    bench_close(&b);
    sh_free(want);
}

// A reset waits for the sink that is being called.
static void runner__a_reset_while_the_sink_is_called(void **state)
{
    struct bench b;

    (void)state;
    bench_open(&b, 1, 2);
    b.sink[0].blocked = true;
    must(announce(&b, 0, 0, 0, 0, 3), &b.err);
    must(announce(&b, 0, 1, 0, 3, 3), &b.err);
    sh_mutex_lock(&b.sink[0].lock);
    while (!b.sink[0].in_sink)
        (void)sh_cond_wait(&b.sink[0].changed, &b.sink[0].lock, INT64_MAX);
    b.sink[0].blocked = false;
    sh_cond_broadcast(&b.sink[0].changed);
    sh_mutex_unlock(&b.sink[0].lock);
    must(sh_station_reset(b.station[0], 1, &b.err), &b.err);
    assert_false(b.sink[0].in_sink);
    assert_int_equal(sh_runner_next(b.station[0]), 0);
    bench_close(&b);
}

/* ---- callers who get it wrong --------------------------------------------------------------- */

static void expect_refused(struct bench *b, enum shoal_status have, enum shoal_status want,
                           const char *message)
{
    assert_int_equal(have, want);
    if (!strstr(b->err.message, message)) fail_msg("\"%s\" lacks \"%s\"", b->err.message, message);
}

static void runner__numbers_and_rows_that_do_not_fit(void **state)
{
    static float zeros[(ROWS + 1) * WIDTH_MAX];
    struct sh_station_timing timing[SH_STATION_TIMINGS_MAX] = {{0}};
    float *place, *other;
    struct bench b;
    struct hand h;

    (void)state;
    bench_open(&b, 2, 2);
    struct sh_station *s = b.station[1];
    expect_refused(&b, announce(&b, 1, 1, 0, 0, 5), SHOAL_ERR_STATE, "when step 0 is due");
    make(&h, &b, 0, 0, 0, 2);
    h.rows[1].pos = 0;
    expect_refused(&b, sh_station_announce(s, &h.step, 0, &b.err), SHOAL_ERR_ARG, "row 1");
    make(&h, &b, 0, 0, 0, 2);
    h.step.n_embd = ROWS + 1;
    expect_refused(&b, sh_station_announce(s, &h.step, 0, &b.err), SHOAL_ERR_ARG, "embedding");
    expect_refused(&b, sh_station_rows(s, 0, 0, 1, zeros, NULL, 0, &b.err), SHOAL_ERR_STATE,
                   "rows of step 0, step 0 is due");
    expect_refused(&b, sh_station_rows(s, UINT64_MAX, 0, 1, zeros, NULL, 0, &b.err),
                   SHOAL_ERR_STATE, "rows of step");
    must(announce(&b, 1, 0, 0, 0, 8), &b.err);
    expect_refused(&b, sh_station_rows(s, 0, 1, 1, zeros, NULL, 0, &b.err), SHOAL_ERR_ARG,
                   "expected row 0");
    expect_refused(&b, sh_station_rows(s, 0, 0, -1, zeros, NULL, 0, &b.err), SHOAL_ERR_ARG, "rows");
    expect_refused(&b, sh_station_rows(s, 0, 0, 9, zeros, NULL, 0, &b.err), SHOAL_ERR_ARG,
                   "9 rows from row 0 of step 0, expected row 0 of 8");
    expect_refused(&b, sh_station_rows(s, 0, 0, 1, zeros, timing, SH_STATION_TIMINGS_MAX, &b.err),
                   SHOAL_ERR_ARG, "timings of 64");
    must(announce(&b, 0, 0, 0, 0, 8), &b.err); // a first stage has its rows
    must(sh_station_rows(b.station[0], 0, 0, 0, NULL, NULL, 0, &b.err), &b.err);
    (void)!sh_station_rows(b.station[0], 0, 0, 1, zeros, NULL, 0, &b.err);
    must(sh_station_rows(s, 0, 0, 6, zeros, timing, SH_STATION_TIMINGS_MAX - 1, &b.err), &b.err);
    expect_refused(&b, sh_station_rows(s, 0, 0, 6, zeros, NULL, 0, &b.err), SHOAL_ERR_ARG,
                   "expected row 6 of 8");
    expect_refused(&b, sh_station_rows(s, 0, 6, 3, zeros, NULL, 0, &b.err), SHOAL_ERR_ARG, "row 6");
    must(sh_runner_place(s, 0, 6, 2, &place, &b.err), &b.err);
    assert_non_null(place);
    expect_refused(&b, sh_runner_place(s, 0, 6, 2, &other, &b.err), SHOAL_ERR_STATE, "two pieces");
    sh_runner_filled(s, 1, 2, NULL, 0); // of another step
    sh_runner_filled(s, 0, 1, NULL, 0); // one of them
    must(sh_runner_place(s, 0, 7, 1, &place, &b.err), &b.err);
    sh_runner_filled(s, 0, 99, NULL, 0);
    assert_int_equal(await(&b, 1, 0)->status, SHOAL_OK);
    must(sh_station_rows(s, 0, 0, 1, zeros, NULL, 0, &b.err), &b.err); // gone: dropped
    sh_station_pass(s, 77, SHOAL_OK, NULL);
    sh_station_release(s, 77);
    sh_station_cancel(s, 7, 3);
    must(announce(&b, 1, 1, 0, 8, 1), &b.err);
    sh_station_pass(s, 1, SHOAL_OK, NULL); // a status that is none
    assert_int_equal(await(&b, 1, 1)->status, SHOAL_ERR_FORMAT);
    bench_close(&b);
}

static void runner__a_stage_of_another_width(void **state)
{
    const struct sh_cpu_options cpu = {.n_threads = 1, .memory_max = 1u << 30};
    struct bench b;

    (void)state;
    bench_open(&b, 2, 1);
    const size_t live = sh_mem_live_bytes();
    for (int i = 0; i < 4; i++) {
        const int64_t width = b.model.info.width;
        struct sh_runner_options o = {.first = i == 1,
                                      .width_in = i == 3   ? INT64_MAX
                                                  : i == 2 ? 0
                                                           : width - i,
                                      .n_slots = i ? 1 : 0,
                                      .limits = b.limits,
                                      .sink = {on_output, on_lost, &b.sink[0]}};
        struct sh_device *d;
        struct sh_station *s;
        must(sh_cpu_device_open(&d, &cpu, &b.err), &b.err);
        must(rig_make_stage(&b.rig, 1, 0, d, &o.stage, &b.err), &b.err);
        assert_int_equal(sh_runner_create(&s, &o, &b.err), SHOAL_ERR_ARG);
        assert_null(s);
        sh_device_close(d);
    }
    assert_int_equal(sh_mem_live_bytes(), live);
    bench_close(&b);
}

/* ---- everything at once --------------------------------------------------------------------- */

struct storm { /* a thread that calls what it likes */
    struct bench *b;
    struct sh_thread thread;
    uint32_t seed;
    int kind;
    atomic_bool *stop;
};

static void storm_once(struct storm *s)
{
    static float zeros[ROWS * WIDTH_MAX];
    struct sh_station *t = s->b->station[1];
    const uint64_t next = sh_runner_next(t);
    const uint64_t number = next + tm_random(&s->seed, 6) - 4;
    struct sh_station_stats stats;
    struct shoal_error err;
    float *place = NULL;

    if (s->kind == 0) { // rows: whole, wrong, in pieces
        const int32_t first = (int32_t)tm_random(&s->seed, 3);
        const int32_t n = (int32_t)tm_random(&s->seed, 5);
        if (tm_random(&s->seed, 2)) {
            (void)!sh_station_rows(t, number, 0, 4, zeros, NULL, 0, &err);
        } else if (!sh_runner_place(t, number, first, n, &place, &err) && place) {
            memset(place, 0, (size_t)n * (size_t)s->b->model.info.width * sizeof *place);
            sh_runner_filled(t, number, n, NULL, 0);
        }
    } else if (tm_random(&s->seed, 4) == 0) {
        sh_station_pass(t, number, SHOAL_ERR_IO, NULL);
    } else if (tm_random(&s->seed, 3) == 0) {
        sh_station_cancel(t, number, number + tm_random(&s->seed, 3));
    } else {
        sh_station_stats(t, &stats);
    }
}

static void *run_storm(void *arg)
{
    struct storm *s = arg;

    while (!atomic_load(s->stop))
        storm_once(s);
    return NULL;
}

// Numbers of an epoch are said once each, in order, whatever came of the steps.
static void check_order(struct bench *b)
{
    uint64_t epoch = 0, next = 0;

    for (int i = 0; i < b->sink[1].n; i++) {
        const struct seen *s = &b->sink[1].seen[i];
        if (s->epoch != epoch) next = 0;
        assert_true(s->epoch >= epoch);
        epoch = s->epoch;
        assert_int_equal(s->number, next);
        next++;
    }
}

static void runner__a_storm(void **state)
{
    enum { EPOCHS = 12, STEPS = 25 };
    struct storm storm[3];
    atomic_bool stop = false;
    struct bench b;
    struct hand h;

    (void)state;
    bench_open(&b, 2, 3);
    float *want = reference(&b, 10);
    for (int i = 0; i < 3; i++) {
        storm[i] = (struct storm){
            .b = &b, .seed = 100 + (uint32_t)i, .kind = i == 0 ? 0 : 1, .stop = &stop};
        must(sh_thread_start(&storm[i].thread, "storm", run_storm, &storm[i], &b.err), &b.err);
    }
    for (uint64_t epoch = 1; epoch <= EPOCHS; epoch++) {
        must(sh_station_reset(b.station[1], epoch, &b.err), &b.err);
        for (int left = STEPS; left > 0;) {
            make(&h, &b, sh_runner_next(b.station[1]), 0, 0, 4);
            h.step.epoch = epoch;
            const enum shoal_status st = sh_station_announce(b.station[1], &h.step, 0, &b.err);
            assert_true(st == SHOAL_OK || st == SHOAL_ERR_STATE);
            if (!st) left--;
        }
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 3; i++)
        sh_thread_join(&storm[i].thread);
    must(sh_station_reset(b.station[1], EPOCHS + 1, &b.err), &b.err);
    check_order(&b);
    const int before = count(&b, 1);
    // It still works.
    must(announce(&b, 0, 0, 0, 0, 10), &b.err);
    must(announce(&b, 1, 0, 0, 0, 10), &b.err);
    must(give(&b, await(&b, 0, 0), 0, 0, 10), &b.err);
    expect_row(await(&b, 1, before), 0, want + 9 * VOCAB);
    bench_close(&b);
    sh_free(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runner__outputs_stay_until_released),
        cmocka_unit_test(runner__rows_come_when_they_come),
        cmocka_unit_test(runner__passed_steps_keep_their_edits),
        cmocka_unit_test(runner__cancelled_before_they_are_announced),
        cmocka_unit_test(runner__a_failure_takes_its_sequence),
        cmocka_unit_test(runner__a_lost_device_is_told_once),
        cmocka_unit_test(runner__a_step_has_a_deadline),
        cmocka_unit_test(runner__a_reset_forgets),
        cmocka_unit_test(runner__a_reset_while_the_sink_is_called),
        cmocka_unit_test(runner__numbers_and_rows_that_do_not_fit),
        cmocka_unit_test(runner__a_stage_of_another_width),
        cmocka_unit_test(runner__a_storm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
