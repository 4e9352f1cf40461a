/* engine/chunk_test.c - chunk sizes against brute force, on pipelines whose times are made up. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/chunk.h"

enum { STAGES_MAX = 8, CHUNKS_MAX = 1024, ROWS_MAX = 512 };

struct line { /* what stages and the ways between them really take, in microseconds */
    const char *name;
    int n;
    struct sh_chunk_cost stage[STAGES_MAX], way[STAGES_MAX];
    double noise; /* of each time, as a part of it */
};

struct run {                /* a prompt on its way */
    double out[CHUNKS_MAX]; /* when chunks left the last stage */
    double stage_free[STAGES_MAX], way_free[STAGES_MAX];
    int64_t rows[CHUNKS_MAX], before[CHUNKS_MAX], submitted[CHUNKS_MAX];
    struct sh_station_timing timings[CHUNKS_MAX][STAGES_MAX];
    int n, seen;
    uint32_t seed;
};

static double jitter(struct run *r, double part)
{
    r->seed = r->seed * 1664525u + 1013904223u;
    return 1 + part * ((double)(r->seed >> 8) / (1 << 23) - 1);
}

static double took(const struct sh_chunk_cost *c, int64_t rows, int64_t before)
{
    return c->a + c->b * (double)rows +
           c->d * (double)rows * ((double)before + (double)(rows - 1) / 2);
}

// Chunk `k`, submitted at `now`, goes through the stages.
static void pass(const struct line *l, struct run *r, int k, double now)
{
    double at = now;

    for (int i = 0; i < l->n; i++) {
        if (i > 0) {
            const double start = fmax(at, r->way_free[i]);
            at = start + took(&l->way[i], r->rows[k], 0) * jitter(r, l->noise);
            r->way_free[i] = at;
        }
        const double start = fmax(at, r->stage_free[i]);
        const double end =
            start + took(&l->stage[i], r->rows[k], r->before[k]) * jitter(r, l->noise);
        r->timings[k][i] = (struct sh_station_timing){.stage = (uint32_t)i,
                                                      .wait_us = (uint32_t)(at - now),
                                                      .queue_us = (uint32_t)(start - at),
                                                      .compute_us = (uint32_t)(end - start)};
        r->stage_free[i] = at = end;
    }
    r->out[k] = at;
}

static void see(struct sh_chunk_model *m, const struct line *l, const struct run *r, int k)
{
    sh_chunk_observe(m, r->timings[k], l->n, r->rows[k], r->before[k], r->submitted[k]);
}

// The size of chunk `k`, behind those that were not seen yet.
static int64_t choose(const struct sh_chunk_model *m, const struct run *r, int k, int64_t left,
                      int64_t before)
{
    struct sh_chunk ahead[STAGES_MAX + 1];
    int n = 0;

    for (int i = r->seen; i < k; i++)
        ahead[n++] = (struct sh_chunk){r->rows[i], r->before[i]};
    return sh_chunk_choose(m, ahead, n, left, before, ROWS_MAX);
}

// As the engine does: so many in flight, each size chosen (or fixed) when its turn has come.
static double feed(const struct line *l, struct sh_chunk_model *m, int64_t fixed, int64_t n,
                   int64_t before, uint32_t seed)
{
    static struct run r;
    static double clock; // goes on from prompt to prompt
    int64_t sent = 0;

    memset(&r, 0, sizeof r);
    r.seed = seed;
    for (int k = 0; sent < n; k++) {
        const double now = k > l->n ? r.out[k - l->n - 1] : 0;
        assert_true(k < CHUNKS_MAX);
        for (; m && r.seen < k && r.out[r.seen] <= now; r.seen++)
            see(m, l, &r, r.seen);
        r.rows[k] = fixed ? fixed : choose(m, &r, k, n - sent, before + sent);
        if (r.rows[k] > n - sent) r.rows[k] = n - sent;
        assert_true(r.rows[k] > 0 && r.rows[k] <= ROWS_MAX);
        if (!fixed && r.rows[k] < n - sent) assert_int_equal(r.rows[k] % SH_CHUNK_STEP, 0);
        r.before[k] = before + sent;
        sent += r.rows[k];
        r.submitted[k] = (int64_t)((clock + now) * 1e3);
        pass(l, &r, k, now);
        r.n = k + 1;
    }
    for (; m && r.seen < r.n; r.seen++)
        see(m, l, &r, r.seen);
    clock += r.out[r.n - 1];
    return r.out[r.n - 1];
}

static const struct line LINES[] = {
    {"two alike", 2, {{2000, 400, 0.02}, {2000, 400, 0.02}}, {{0, 0, 0}}, 0.02},
    {"two alike, dear steps", 2, {{40000, 400, 0.02}, {40000, 400, 0.02}}, {{0, 0, 0}}, 0.02},
    {"two alike, cheap steps", 2, {{50, 300, 0}, {50, 300, 0}}, {{0, 0, 0}}, 0.02},
    {"two, much context", 2, {{3000, 100, 0.3}, {3000, 100, 0.3}}, {{0, 0, 0}}, 0.02},
    {"first slow", 2, {{9000, 900, 0.05}, {2000, 300, 0.02}}, {{0, 0, 0}}, 0.02},
    {"last slow", 3, {{2000, 300, 0.02}, {2000, 300, 0.02}, {9000, 900, 0.05}}, {{0, 0, 0}}, 0.02},
    {"four alike",
     4,
     {{5000, 500, 0.05}, {5000, 500, 0.05}, {5000, 500, 0.05}, {5000, 500, 0.05}},
     {{0, 0, 0}},
     0.02},
    {"eight, uneven",
     8,
     {{500, 90, 0.01},
      {900, 70, 0.02},
      {500, 80, 0.01},
      {3000, 60, 0.01},
      {500, 90, 0.03},
      {700, 95, 0.01},
      {100, 80, 0.01},
      {900, 60, 0.01}},
     {{0, 0, 0}},
     0.02},
    {"three on a slow network",
     3,
     {{4000, 300, 0.02}, {4000, 300, 0.02}, {4000, 300, 0.02}},
     {{0, 0, 0}, {5000, 650, 0}, {5000, 650, 0}},
     0.02},
    {"one", 1, {{5000, 500, 0.05}}, {{0, 0, 0}}, 0.02},
};
enum { N_LINES = sizeof LINES / sizeof LINES[0] };

static double best_fixed(const struct line *l, int64_t n, int64_t before, uint32_t seed)
{
    double best = INFINITY;

    for (int64_t rows = SH_CHUNK_STEP; rows <= ROWS_MAX; rows += SH_CHUNK_STEP)
        best = fmin(best, feed(l, NULL, rows, n, before, seed));
    return best;
}

// Once a prompt was measured, the next ones take at most `most` times as long as with the best
// fixed size, which had the same luck, and no longer than uncut (but for 1 % or the error of the
// measurements).
static void check_learned(const struct line *l, int64_t learnt, int64_t n, int64_t before,
                          double most)
{
    struct sh_chunk_model m;

    sh_chunk_init(&m, l->n);
    (void)feed(l, &m, 0, learnt, 0, 1);
    const double have = feed(l, &m, 0, n, before, 2), best = best_fixed(l, n, before, 2);
    const double uncut = feed(l, NULL, ROWS_MAX, n, before, 2);
    if (have > most * best || have > (1.01 + l->noise) * uncut) {
        fail_msg("%s: %d rows after %d, learnt from %d: %.3f of the best, %.3f of uncut", l->name,
                 (int)n, (int)before, (int)learnt, have / best, have / uncut);
    }
}

static void check_all(double noise, double most)
{
    static const int64_t LEARNT[] = {600, 2048}, N[] = {100, 512, 700, 2048, 4096, 8000},
                         BEFORE[] = {0, 3000};

    for (size_t i = 0; i < N_LINES; i++) {
        struct line l = LINES[i];
        l.noise = noise;
        for (size_t a = 0; a < sizeof LEARNT / sizeof LEARNT[0]; a++)
            for (size_t b = 0; b < sizeof N / sizeof N[0]; b++)
                for (size_t c = 0; c < sizeof BEFORE / sizeof BEFORE[0]; c++)
                    check_learned(&l, LEARNT[a], N[b], BEFORE[c], most);
    }
}

static void chunk__near_the_best_fixed_size(void **state)
{
    (void)state;
    check_all(0, 1.03);
}

// Times that jump by 2 % tell less of what a step costs.
static void chunk__near_the_best_on_noisy_machines(void **state)
{
    (void)state;
    check_all(0.02, 1.15);
}

// The first prompt of all is cut by a guess, which the first chunks that come back correct.
static void chunk__a_first_prompt(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_LINES; i++) {
        struct sh_chunk_model m;
        sh_chunk_init(&m, LINES[i].n);
        const double have = feed(&LINES[i], &m, 0, 4096, 0, 3);
        const double best = best_fixed(&LINES[i], 4096, 0, 3);
        if (have > 1.1 * best) fail_msg("%s: %.3f of the best", LINES[i].name, have / best);
    }
}

static void chunk__predicts_what_happens(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_LINES; i++) {
        struct line l = LINES[i];
        struct sh_chunk_model m;
        l.noise = 0;
        sh_chunk_init(&m, l.n);
        (void)feed(&l, &m, 64, 500, 0, 4);
        (void)feed(&l, &m, 512, 3000, 500, 4);
        (void)feed(&l, &m, 160, 1000, 3500, 4);
        const double have = sh_chunk_predict(&m, NULL, 0, 128, 2000, 1000) / 1e3;
        const double want = feed(&l, NULL, 128, 2000, 1000, 4);
        if (fabs(have - want) > 0.03 * want)
            fail_msg("%s: %.6g predicted, %.6g happened", l.name, have, want);
    }
}

static void chunk__sizes(void **state)
{
    struct sh_chunk_model m;

    (void)state;
    sh_chunk_init(&m, 0);
    assert_int_equal(sh_chunk_choose(&m, NULL, 0, 5000, 0, 512), 512); // one stage: all it takes
    assert_int_equal(sh_chunk_choose(&m, NULL, 0, 77, 0, 512), 77);
    sh_chunk_init(&m, 2);
    assert_int_equal(sh_chunk_choose(&m, NULL, 0, 1, 0, 512), 1);
    assert_int_equal(sh_chunk_choose(&m, NULL, 0, 32, 0, 512), 32);
    assert_int_equal(sh_chunk_choose(&m, NULL, 0, 5000, 0, 20), 20);
    assert_in_range(sh_chunk_choose(&m, NULL, 0, 2048, 0, 512), 96, 320); // a guess
    // A chunk longer than 2 s is not sent where it can be smaller.
    struct sh_station_timing t[2] = {{.stage = 0}, {.stage = 1}};
    for (int k = 0; k < 4; k++) {
        t[0].compute_us = (uint32_t)(20000 * (k + 1)) * SH_CHUNK_STEP;
        t[1].compute_us = 1;
        sh_chunk_observe(&m, t, 2, SH_CHUNK_STEP * (k + 1), 0, 0);
    }
    assert_in_range(sh_chunk_choose(&m, NULL, 0, 2048, 0, 512), 32, 96);
}

// Context makes chunks dearer and steps no dearer: they shrink.
static void chunk__shrinks_as_the_context_grows(void **state)
{
    const struct line l = {"",
                           4,
                           {{20000, 50, 0.2}, {20000, 50, 0.2}, {20000, 50, 0.2}, {20000, 50, 0.2}},
                           {{0, 0, 0}},
                           0};
    struct sh_chunk_model m;

    (void)state;
    sh_chunk_init(&m, 4);
    (void)feed(&l, &m, 64, 500, 0, 4);
    (void)feed(&l, &m, 512, 8000, 500, 4);
    const int64_t early = sh_chunk_choose(&m, NULL, 0, 4096, 0, 512);
    const int64_t late = sh_chunk_choose(&m, NULL, 0, 4096, 60000, 512);
    assert_true(late < early);
    assert_true(sh_chunk_choose(&m, NULL, 0, 512, 60000, 512) <
                late); // and towards the end of a prompt
}

// What nobody should say: nothing breaks, and one wild figure changes little.
static void chunk__wild_figures(void **state)
{
    const struct line *l = &LINES[0];
    struct sh_station_timing t[3] = {{.stage = 0, .wait_us = UINT32_MAX, .compute_us = UINT32_MAX},
                                     {.stage = 1},
                                     {.stage = 77, .compute_us = 5}};
    struct sh_chunk_model m;

    (void)state;
    sh_chunk_init(&m, 2);
    sh_chunk_observe(&m, t, 3, 64, 0, 0);
    sh_chunk_observe(&m, t, 0, 64, 0, 0);
    sh_chunk_observe(&m, t, 3, 1, INT64_MAX, INT64_MIN);
    assert_in_range(sh_chunk_choose(&m, NULL, 0, 2048, 0, 512), 32, 512);
    sh_chunk_init(&m, 2);
    (void)feed(l, &m, 0, 8000, 0, 5);
    const struct sh_chunk_cost before = m.stage[0].cost;
    sh_chunk_observe(&m, t, 3, 64, 0, 0);
    assert_true(m.stage[0].cost.b < 1.3 * before.b);
    assert_true(isfinite(sh_chunk_predict(&m, NULL, 0, 64, 2048, 0)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunk__near_the_best_fixed_size),
        cmocka_unit_test(chunk__near_the_best_on_noisy_machines),
        cmocka_unit_test(chunk__a_first_prompt),
        cmocka_unit_test(chunk__predicts_what_happens),
        cmocka_unit_test(chunk__sizes),
        cmocka_unit_test(chunk__shrinks_as_the_context_grows),
        cmocka_unit_test(chunk__wild_figures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
