/* engine/engine_test.c - the engine over a pipeline that is made up here.
 *
 * The pipeline keeps page tables, cells and states as stages would, and its logits are a hash of
 * all that a row can see: whatever the engine gets wrong about pages, positions or states shows in
 * the numbers.  Steps can be made late, refused, failed or cancelled.
 */
#include "engine/engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "sample/rng.h"
#include "stage/tables.h"

enum { VOCAB = 50, ROWS_MAX = 8, WANTED_MAX = 3, POSITIONS = 640, PAGES = 12, STATES = 16 };
enum { STEPS = 400, IN_FLIGHT = 3, NEVER = 1 << 20 };

struct flight {
    uint64_t number;
    enum shoal_status status;
    int32_t n;
    struct sh_row_result results[ROWS_MAX];
    float logits[ROWS_MAX][VOCAB];
};

struct record { /* of a step that came in */
    int32_t n_rows, n_wanted, n_prelude, n_recent, recent_last;
    int64_t first_pos;
    double draw;
};

struct fake {
    struct sh_pipeline_head head;
    struct sh_pipeline_info info;
    struct sh_tables tables;
    uint32_t cell[PAGES][SH_PAGE];
    uint32_t state[STATES];
    struct flight ring[IN_FLIGHT];
    uint64_t next, oldest, held; /* held: given out, not released */
    int most_in_flight, n_cancels;
    struct record step[STEPS];
    int n_steps;
    /* what is to go wrong */
    int refuse_at, fail_at; /* step numbers */
    enum shoal_status fail_with;
    int late; /* results asked for before one comes */
    int asked;
    struct sh_engine *cancel_when_late; /* as another thread would */
};

static struct fake *fake_of(struct sh_pipeline *p)
{
    return (struct fake *)(void *)p;
}

static void fake_info(struct sh_pipeline *p, struct sh_pipeline_info *out)
{
    *out = fake_of(p)->info;
}

static uint32_t mix(uint32_t a, uint32_t b)
{
    a = (a ^ b) * 0x9e3779b1u;
    return a ^ (a >> 15);
}

static bool recurrent(const struct fake *f)
{
    return f->info.groups[f->info.n_groups - 1].kind == SH_GROUP_STATE;
}

// What a row sees: cells by position, inside the window.
static uint32_t sight(const struct fake *f, int32_t seq, int64_t pos)
{
    const int64_t window = f->info.groups[0].window;
    const int64_t from = window && pos >= window ? pos - window + 1 : 0;
    uint32_t h = 1;

    for (int64_t p = from; p <= pos; p++) {
        const int32_t page = sh_table_page(&f->tables, 0, seq, p / SH_PAGE);
        if (page < 0) fail_msg("no page for position %d of %d", (int)p, (int)pos);
        h = mix(h, f->cell[page][p % SH_PAGE]);
    }
    return h;
}

// With a penalty as a stage samples; else any token will do.
static int32_t pick(const struct sh_step_seq *q, const struct sh_row *r, const float *logits,
                    uint32_t any)
{
    struct sh_candidate work[VOCAB];
    int32_t token = (int32_t)any;

    if (q->sampler.repeat_penalty != 1 &&
        sh_sample(&token, logits, VOCAB, &q->sampler, q->recent, q->n_recent, r->draw, work, NULL))
        fail_msg("the fake cannot sample");
    return token;
}

static void compute(struct fake *f, const struct sh_step *step, struct flight *out)
{
    const struct sh_step_seq *q = &step->seqs[0];
    uint32_t h = recurrent(f) && q->state_read >= 0 ? f->state[q->state_read] : 1;

    for (int32_t i = 0; i < step->n_rows; i++) {
        const struct sh_row *r = &step->rows[i];
        const int32_t page = sh_table_page(&f->tables, 0, r->seq, r->pos / SH_PAGE);
        if (page < 0) fail_msg("no page to write position %d", (int)r->pos);
        f->cell[page][r->pos % SH_PAGE] = (uint32_t)r->token;
        h = recurrent(f) ? mix(h, (uint32_t)r->token) : sight(f, r->seq, r->pos);
        if (r->want == SH_WANT_NOTHING) continue;
        struct sh_row_result *x = &out->results[out->n];
        *x = (struct sh_row_result){.row = i, .want = r->want, .logits = out->logits[out->n]};
        for (int v = 0; v < VOCAB; v++)
            out->logits[out->n][v] = (float)(mix(h, (uint32_t)v) % 1000);
        if (r->want == SH_WANT_TOKEN) x->token = pick(q, r, x->logits, mix(h, 77) % VOCAB);
        out->n++;
    }
    if (recurrent(f)) f->state[q->state_write] = h;
}

static enum shoal_status fake_submit(struct sh_pipeline *p, const struct sh_step *step,
                                     struct shoal_error *err)
{
    struct fake *f = fake_of(p);
    struct flight *slot = &f->ring[f->next % IN_FLIGHT];
    struct record *r = &f->step[f->n_steps];
    int32_t moved[POSITIONS / SH_PAGE];

    if (f->next - f->oldest + f->held >= IN_FLIGHT) fail_msg("too many steps in flight");
    if (f->n_steps == f->refuse_at) {
        f->refuse_at = NEVER;
        return sh_fail(err, SHOAL_ERR_STATE, "fake: refused");
    }
    assert_int_equal(step->number, f->next);
    if (sh_step_check(step, &f->info.limits, err)) fail_msg("%s", err->message);
    assert_true(f->n_steps < STEPS);
    *r = (struct record){.n_rows = step->n_rows,
                         .n_prelude = step->n_prelude,
                         .first_pos = step->rows[0].pos,
                         .n_recent = step->seqs[0].n_recent,
                         .recent_last = -1,
                         .draw = step->rows[step->n_rows - 1].draw};
    if (r->n_recent > 0) r->recent_last = step->seqs[0].recent[r->n_recent - 1];
    for (int32_t i = 0; i < step->n_rows; i++)
        r->n_wanted += step->rows[i].want != SH_WANT_NOTHING;
    for (int32_t i = 0; i < step->n_prelude; i++)
        for (int g = 0; g < f->info.n_groups; g++)
            (void)sh_tables_apply(&f->tables, &step->prelude[i], g, moved);
    *slot = (struct flight){.number = step->number};
    if (f->n_steps++ == f->fail_at) {
        slot->status = f->fail_with;
    } else {
        compute(f, step, slot);
    }
    f->next++;
    if ((int)(f->next - f->oldest) > f->most_in_flight)
        f->most_in_flight = (int)(f->next - f->oldest);
    return SHOAL_OK;
}

static enum shoal_status fake_result(struct sh_pipeline *p, int64_t timeout_ns,
                                     struct sh_pipeline_result *out, struct shoal_error *err)
{
    struct fake *f = fake_of(p);
    struct flight *slot = &f->ring[f->oldest % IN_FLIGHT];

    *out = (struct sh_pipeline_result){0};
    assert_true(timeout_ns > 0 && timeout_ns <= SH_SECOND);
    if (f->oldest == f->next) return sh_fail(err, SHOAL_ERR_STATE, "fake: nothing in flight");
    if (f->asked++ < f->late) {
        if (f->cancel_when_late) sh_engine_cancel(f->cancel_when_late);
        f->cancel_when_late = NULL;
        return sh_fail(err, SHOAL_ERR_TIMEOUT, "fake: late");
    }
    f->asked = 0;
    f->oldest++;
    *out = (struct sh_pipeline_result){.number = slot->number,
                                       .status = slot->status,
                                       .results = slot->results,
                                       .n_results = slot->n};
    if (slot->status) return sh_fail(err, slot->status, "fake: step failed");
    f->held++;
    return SHOAL_OK;
}

static void fake_release(struct sh_pipeline *p, const struct sh_pipeline_result *r)
{
    struct fake *f = fake_of(p);

    assert_int_equal(r->status, SHOAL_OK);
    assert_true(f->held > 0);
    f->held--;
}

static void fake_cancel(struct sh_pipeline *p)
{
    struct fake *f = fake_of(p);

    f->n_cancels++;
    for (uint64_t n = f->oldest; n < f->next; n++) {
        struct flight *s = &f->ring[n % IN_FLIGHT];
        // Some are past stopping.
        if (!s->status && n % 3 != 0) s->status = SHOAL_ERR_CANCELLED;
    }
}

static const struct sh_pipeline_ops OPS = {.info = fake_info,
                                           .submit = fake_submit,
                                           .result = fake_result,
                                           .release = fake_release,
                                           .cancel = fake_cancel};

/* ---- a test's engine ------------------------------------------------------------------------ */

enum kind { PLAIN, WINDOW, HYBRID };

struct bench {
    struct fake fake;
    struct sh_engine *engine;
};

static struct bench *bench_open(enum kind kind, int64_t n_ctx)
{
    struct bench *b = sh_calloc(1, sizeof *b);
    struct shoal_error err = SHOAL_ERROR_INIT;

    assert_non_null(b);
    b->fake = (struct fake){.head = {.ops = &OPS}, .refuse_at = NEVER, .fail_at = NEVER};
    b->fake.info =
        (struct sh_pipeline_info){.n_vocab = VOCAB,
                                  .width = 4,
                                  .limits = {.n_seqs = 1,
                                             .n_groups = kind == HYBRID ? 2 : 1,
                                             .n_positions = POSITIONS,
                                             .rows_max = ROWS_MAX,
                                             .wanted_max = WANTED_MAX,
                                             .pages = {kind == WINDOW ? 3 : PAGES, STATES},
                                             .n_states = STATES},
                                  .n_groups = kind == HYBRID ? 2 : 1,
                                  .in_flight_max = IN_FLIGHT};
    if (kind == WINDOW)
        b->fake.info.groups[0] = (struct sh_kv_group){.kind = SH_GROUP_WINDOW, .window = 64};
    b->fake.info.groups[1].kind = SH_GROUP_STATE;
    if (sh_tables_init(&b->fake.tables, &b->fake.info.limits, &err) ||
        sh_engine_create(&b->engine, (struct sh_pipeline *)(void *)&b->fake, n_ctx, &err)) {
        fail_msg("%s", err.message);
    }
    return b;
}

static void bench_close(struct bench *b)
{
    assert_int_equal(b->fake.held, 0);
    assert_int_equal(b->fake.oldest, b->fake.next);
    sh_engine_destroy(b->engine);
    sh_tables_release(&b->fake.tables);
    sh_free(b);
}

static void make_ids(int32_t *ids, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)(mix((uint32_t)i, 5) % VOCAB);
}

static int32_t feed(struct bench *b, const int32_t *ids, int64_t n)
{
    const struct sh_feed f = {.ids = ids, .n = n, .sample = true};
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t token;

    if (sh_engine_feed(b->engine, &f, &token, &err)) fail_msg("%s", err.message);
    return token;
}

// The token after ids, from an engine to which nothing ever happens.
static int32_t expected(enum kind kind, const int32_t *ids, int64_t n)
{
    struct bench *b = bench_open(kind, POSITIONS);
    const int32_t token = feed(b, ids, n);

    bench_close(b);
    return token;
}

/* ---- feeding -------------------------------------------------------------------------------- */

static void engine__chunks_follow_each_other(void **state)
{
    struct bench *b = bench_open(PLAIN, POSITIONS);
    struct sh_feed f = {.n = 20, .sample = true};
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t ids[40], token;

    (void)state;
    make_ids(ids, 40);
    f.ids = ids;
    if (sh_engine_feed(b->engine, &f, &token, &err)) fail_msg("%s", err.message);
    assert_int_equal(b->fake.n_steps, 3); // 8, 8, 4
    assert_int_equal(b->fake.step[2].n_rows, 4);
    assert_int_equal(b->fake.step[0].n_prelude, 1); // the page of all three
    assert_int_equal(b->fake.step[1].n_prelude, 0);
    assert_int_equal(b->fake.step[2].n_prelude, 0);
    assert_int_equal(b->fake.step[0].n_wanted, 0);
    assert_int_equal(b->fake.step[1].n_wanted, 0);
    assert_int_equal(b->fake.step[2].n_wanted, 1); // the last row only
    assert_int_equal(b->fake.step[2].first_pos, 16);
    assert_int_equal(b->fake.most_in_flight, IN_FLIGHT);
    assert_int_equal(token, expected(PLAIN, ids, 20));
    assert_int_equal(sh_engine_length(b->engine), 20);

    f = (struct sh_feed){.ids = ids + 20, .n = 20, .chunk = 7};
    if (sh_engine_feed(b->engine, &f, &token, &err)) fail_msg("%s", err.message);
    assert_int_equal(b->fake.n_steps, 6); // 7, 7, 6
    assert_int_equal(b->fake.step[3].n_rows, 7);
    assert_int_equal(b->fake.step[5].n_rows, 6);
    assert_int_equal(b->fake.step[5].n_wanted, 0);
    assert_int_equal(token, -1); // none was asked for
    assert_int_equal(sh_engine_length(b->engine), 40);
    bench_close(b);
}

static void engine__every_kind_gives_the_same_in_any_chunks(void **state)
{
    enum { N = 600 };
    int32_t ids[N];

    (void)state;
    make_ids(ids, N);
    for (int kind = PLAIN; kind <= HYBRID; kind++) {
        struct bench *a = bench_open((enum kind)kind, POSITIONS);
        int32_t token = -1;
        for (int64_t at = 0, n = 1; at < N; at += n, n = n % 23 + 5)
            token = feed(a, ids + at, N - at < n ? N - at : n);
        assert_int_equal(token, expected((enum kind)kind, ids, N));
        bench_close(a);
    }
}

struct seen {
    int64_t next, progress;
    float first[100];
    int64_t total;
    struct sh_engine *cancel;
    int64_t cancel_at;
};

static void see(void *self, int64_t index, const float *logits, int32_t n_vocab)
{
    struct seen *s = self;

    assert_int_equal(index, s->next);
    assert_int_equal(n_vocab, VOCAB);
    assert_true(index < 100);
    s->first[s->next++] = logits[0];
}

static void see_progress(void *self, int64_t done, int64_t total)
{
    struct seen *s = self;

    assert_true(done > s->progress);
    s->progress = done;
    s->total = total;
    if (s->cancel && done >= s->cancel_at) sh_engine_cancel(s->cancel);
}

static void engine__logits_come_in_order(void **state)
{
    struct bench *a = bench_open(PLAIN, POSITIONS), *b = bench_open(PLAIN, POSITIONS);
    struct seen all = {0}, one = {0};
    struct sh_feed f = {.n = 30, .logits = see, .progress = see_progress, .self = &all};
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t ids[30];

    (void)state;
    make_ids(ids, 30);
    f.ids = ids;
    if (sh_engine_feed(a->engine, &f, NULL, &err)) fail_msg("%s", err.message);
    assert_int_equal(all.next, 30);
    assert_int_equal(all.progress, 30);
    assert_int_equal(all.total, 30);
    for (int i = 0; i < a->fake.n_steps; i++)
        assert_true(a->fake.step[i].n_wanted <= WANTED_MAX);
    assert_int_equal(a->fake.n_steps, 10);
    f.self = &one;
    f.chunk = 1;
    if (sh_engine_feed(b->engine, &f, NULL, &err)) fail_msg("%s", err.message);
    for (int i = 0; i < 30; i++)
        if (all.first[i] != one.first[i])
            fail_msg("row %d: %g, expected %g", i, (double)all.first[i], (double)one.first[i]);
    bench_close(a);
    bench_close(b);
}

// Asked for both, the token is sampled from the last row's logits.
static void engine__logits_and_a_token(void **state)
{
    const struct sh_sampler_params greedy = {.temp = 0, .repeat_penalty = 1};
    struct bench *b = bench_open(PLAIN, POSITIONS);
    struct sh_feed f = {.n = 9, .sample = true, .logits = see};
    struct seen seen = {0};
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t ids[9], token, best = 0;

    (void)state;
    make_ids(ids, 9);
    f.ids = ids;
    f.self = &seen;
    sh_engine_set_sampler(b->engine, &greedy, 1);
    if (sh_engine_feed(b->engine, &f, &token, &err)) fail_msg("%s", err.message);
    const float *last = b->fake.ring[(b->fake.next - 1) % IN_FLIGHT].logits[2];
    for (int v = 1; v < VOCAB; v++)
        if (last[v] > last[best]) best = v;
    assert_int_equal(token, best);
    bench_close(b);
}

// One draw per token that is sampled, none for anything else, in the order of the seed.
static void engine__draws_in_order(void **state)
{
    const struct sh_sampler_params p = SH_SAMPLER_DEFAULTS;
    struct bench *b = bench_open(PLAIN, POSITIONS);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rng rng;
    int32_t ids[20];

    (void)state;
    make_ids(ids, 20);
    sh_engine_set_sampler(b->engine, &p, 1234);
    sh_rng_init(&rng, 1234);
    for (int i = 0; i < 6; i++) {
        const struct sh_feed f = {.ids = ids, .n = 20, .sample = i % 2 == 0};
        if (i == 2) { // a failure takes none
            b->fake.fail_at = b->fake.n_steps;
            b->fake.fail_with = SHOAL_ERR_CANCELLED;
            assert_int_equal(sh_engine_feed(b->engine, &f, NULL, &err), SHOAL_ERR_CANCELLED);
        }
        if (sh_engine_feed(b->engine, &f, NULL, &err)) fail_msg("%s", err.message);
        const double have = b->fake.step[b->fake.n_steps - 1].draw;
        if (f.sample) {
            const double want = sh_rng_draw(&rng);
            if (have != want) fail_msg("feed %d draws %.17g, expected %.17g", i, have, want);
        }
    }
    bench_close(b);
}

// A step holds the recent tokens that its sampler looks at, and the token is what it would be with
// all of them.
static void engine__recent_tokens_as_far_as_needed(void **state)
{
    static const struct {
        float penalty;
        int32_t last_n, sent;
    } cases[] = {{1, 64, 0}, {4, 64, 20}, {4, 5, 5}, {4, 0, 0}, {4, -1, 20}};
    int32_t ids[20], tokens[5];

    (void)state;
    for (int i = 0; i < 20; i++)
        ids[i] = (int32_t)(mix((uint32_t)i, 4) % VOCAB); // the likeliest token is an early one
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct sh_sampler_params p = {
            .temp = 0, .repeat_penalty = cases[i].penalty, .repeat_last_n = cases[i].last_n};
        struct bench *b = bench_open(PLAIN, POSITIONS);
        const struct record *r = b->fake.step;
        struct sh_candidate work[VOCAB];
        int32_t want;
        sh_engine_set_sampler(b->engine, &p, 1);
        tokens[i] = feed(b, ids, 20);
        assert_int_equal(b->fake.n_steps, 3); // 8, 8, 4
        assert_int_equal(r[0].n_recent, 0);   // nothing is sampled
        assert_int_equal(r[1].n_recent, 0);
        assert_int_equal(r[2].n_recent, cases[i].sent);
        assert_int_equal(r[2].recent_last, cases[i].sent > 0 ? ids[19] : -1);
        if (p.repeat_penalty != 1) {
            assert_int_equal(
                sh_sample(&want, b->fake.ring[2].logits[0], VOCAB, &p, ids, 20, 0, work, NULL),
                SHOAL_OK);
            assert_int_equal(tokens[i], want);
        }
        bench_close(b);
    }
    assert_int_not_equal(tokens[1], tokens[3]); // the penalty matters
    assert_int_not_equal(tokens[1], tokens[2]); // and how far it looks
    assert_int_equal(tokens[1], tokens[4]);
}

/* ---- limits --------------------------------------------------------------------------------- */

static void engine__context_full(void **state)
{
    struct bench *b = bench_open(PLAIN, 30);
    struct sh_feed f = {.n = 25};
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t ids[40], token = 5;

    (void)state;
    make_ids(ids, 40);
    f.ids = ids;
    if (sh_engine_feed(b->engine, &f, NULL, &err)) fail_msg("%s", err.message);
    f.n = 6;
    assert_int_equal(sh_engine_feed(b->engine, &f, &token, &err), SHOAL_ERR_LIMIT);
    assert_string_equal(err.message,
                        "engine: 6 tokens do not fit into the context of 30 (25 in use)");
    assert_int_equal(token, -1);
    assert_int_equal(sh_engine_length(b->engine), 25);
    f.n = 5;
    if (sh_engine_feed(b->engine, &f, NULL, &err)) fail_msg("%s", err.message);
    f.n = 1;
    assert_int_equal(sh_engine_feed(b->engine, &f, NULL, &err), SHOAL_ERR_LIMIT);
    f.n = 0;
    assert_int_equal(sh_engine_feed(b->engine, &f, NULL, &err), SHOAL_ERR_ARG);
    assert_string_equal(err.message, "engine: nothing to feed");
    bench_close(b);
}

static void engine__clear_begins_anew(void **state)
{
    struct bench *b = bench_open(PLAIN, POSITIONS);
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t ids[100];

    (void)state;
    make_ids(ids, 100);
    for (int i = 0; i < 20; i++) { // more than the pages could hold side by side
        const int64_t n = 70 + i;
        feed(b, ids + 1, 50);
        if (sh_engine_clear(b->engine, &err)) fail_msg("%s", err.message);
        assert_int_equal(sh_engine_length(b->engine), 0);
        assert_int_equal(feed(b, ids, n), expected(PLAIN, ids, n));
        if (sh_engine_clear(b->engine, &err)) fail_msg("%s", err.message);
    }
    bench_close(b);
}

/* ---- failures ------------------------------------------------------------------------------- */

// Step `at` of a prompt fails; the rest of it fed again gives the same token.
static void check_failure(enum kind kind, int at, enum shoal_status with, bool refused)
{
    enum { N = 90 };
    struct bench *b = bench_open(kind, POSITIONS);
    struct seen seen = {0};
    struct sh_feed f = {.n = N, .sample = true, .progress = see_progress, .self = &seen};
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t ids[N], token = 0;

    make_ids(ids, N);
    f.ids = ids;
    b->fake.fail_with = with;
    if (refused) {
        b->fake.refuse_at = at;
    } else {
        b->fake.fail_at = at;
    }
    assert_int_equal(sh_engine_feed(b->engine, &f, &token, &err), refused ? SHOAL_ERR_STATE : with);
    assert_string_equal(err.message, refused ? "fake: refused" : "fake: step failed");
    assert_int_equal(token, -1);
    const int64_t have = sh_engine_length(b->engine);
    assert_int_equal(have, seen.progress); // nothing behind the failure counts
    assert_true(have <= (int64_t)at * ROWS_MAX);
    if (!refused) assert_int_equal(have, (int64_t)at * ROWS_MAX);
    assert_int_equal(b->fake.oldest, b->fake.next); // all came back
    assert_int_equal(b->fake.held, 0);
    assert_int_equal(feed(b, ids + have, N - have), expected(kind, ids, N));
    bench_close(b);
}

static void engine__a_failed_step_can_be_repeated(void **state)
{
    (void)state;
    for (int kind = PLAIN; kind <= HYBRID; kind++) {
        for (int at = 0; at < 12; at++) {
            check_failure((enum kind)kind, at, SHOAL_ERR_PEER, false);
            check_failure((enum kind)kind, at, SHOAL_ERR_STATE, true);
        }
        check_failure((enum kind)kind, 3, SHOAL_ERR_TIMEOUT, false);
        check_failure((enum kind)kind, 3, SHOAL_ERR_CANCELLED, false);
    }
}

static void engine__late_results_are_waited_for(void **state)
{
    struct bench *b = bench_open(PLAIN, POSITIONS);
    int32_t ids[50];

    (void)state;
    make_ids(ids, 50);
    b->fake.late = 3;
    assert_int_equal(feed(b, ids, 50), expected(PLAIN, ids, 50));
    assert_int_equal(b->fake.n_cancels, 0);
    bench_close(b);
}

// Cancelled between steps, and while a step is being waited for; then the rest.
static void check_cancel(bool while_waiting)
{
    enum { N = 200 };
    struct bench *b = bench_open(HYBRID, POSITIONS);
    struct seen seen = {.cancel_at = 50};
    struct sh_feed f = {.n = N, .sample = true, .progress = see_progress, .self = &seen};
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t ids[N], token;

    make_ids(ids, N);
    f.ids = ids;
    if (while_waiting) {
        b->fake.late = 1;
        b->fake.cancel_when_late = b->engine;
    } else {
        seen.cancel = b->engine;
    }
    assert_int_equal(sh_engine_feed(b->engine, &f, &token, &err), SHOAL_ERR_CANCELLED);
    assert_int_equal(token, -1);
    assert_true(b->fake.n_cancels > 0);
    const int64_t have = sh_engine_length(b->engine);
    assert_int_equal(have, seen.progress);
    assert_true(have < N);
    assert_int_equal(feed(b, ids + have, N - have), expected(HYBRID, ids, N));
    bench_close(b);
}

static void engine__cancel_and_go_on(void **state)
{
    struct bench *b = bench_open(PLAIN, POSITIONS);
    const int32_t id = 3;
    const struct sh_feed f = {.ids = &id, .n = 1, .sample = true};
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t token;

    (void)state;
    check_cancel(false);
    check_cancel(true);
    // Between feeds: the next one ends before it begins, and once.
    sh_engine_cancel(b->engine);
    assert_int_equal(sh_engine_feed(b->engine, &f, &token, &err), SHOAL_ERR_CANCELLED);
    assert_int_equal(b->fake.n_steps, 0);
    assert_int_equal(feed(b, &id, 1), expected(PLAIN, &id, 1));
    bench_close(b);
}

/* ---- no memory ------------------------------------------------------------------------------ */

static void engine__create_without_memory(void **state)
{
    struct bench *b = bench_open(PLAIN, POSITIONS);
    const size_t live = sh_mem_live_bytes();
    bool done = false;
    int failures = 0;

    (void)state;
    for (int n = 0; !done; n++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_engine *e;
        sh_mem_fail_after(n);
        const enum shoal_status st =
            sh_engine_create(&e, (struct sh_pipeline *)(void *)&b->fake, 100, &err);
        done = sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        if (st) assert_int_equal(st, SHOAL_ERR_NOMEM);
        if (st) assert_null(e);
        failures += st != SHOAL_OK;
        sh_engine_destroy(e);
        assert_int_equal(sh_mem_live_bytes(), live);
    }
    assert_true(failures > 5);
    bench_close(b);
}

static void engine__feed_without_memory(void **state)
{
    enum { N = 150 };
    int32_t ids[N];
    bool done = false;
    int failures = 0;

    (void)state;
    make_ids(ids, N);
    const int32_t want = expected(PLAIN, ids, N);
    for (int n = 0; !done; n++) {
        struct bench *b = bench_open(PLAIN, POSITIONS);
        const struct sh_feed f = {.ids = ids, .n = N, .sample = true};
        struct shoal_error err = SHOAL_ERROR_INIT;
        int32_t token;
        sh_mem_fail_after(n);
        const enum shoal_status st = sh_engine_feed(b->engine, &f, &token, &err);
        done = sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        if (st) assert_int_equal(st, SHOAL_ERR_NOMEM);
        failures += st != SHOAL_OK;
        const int64_t have = sh_engine_length(b->engine);
        if (st) token = feed(b, ids + have, N - have);
        assert_int_equal(token, want);
        bench_close(b);
    }
    assert_true(failures > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(engine__chunks_follow_each_other),
        cmocka_unit_test(engine__every_kind_gives_the_same_in_any_chunks),
        cmocka_unit_test(engine__logits_come_in_order),
        cmocka_unit_test(engine__logits_and_a_token),
        cmocka_unit_test(engine__draws_in_order),
        cmocka_unit_test(engine__recent_tokens_as_far_as_needed),
        cmocka_unit_test(engine__context_full),
        cmocka_unit_test(engine__clear_begins_anew),
        cmocka_unit_test(engine__a_failed_step_can_be_repeated),
        cmocka_unit_test(engine__late_results_are_waited_for),
        cmocka_unit_test(engine__cancel_and_go_on),
        cmocka_unit_test(engine__create_without_memory),
        cmocka_unit_test(engine__feed_without_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
