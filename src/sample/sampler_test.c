/* sample/sampler_test.c - the chain against hand-computed distributions, and the generator. */
#include "sample/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sample/rng.h"

enum { N = 6 };
static const float LOGITS[N] = {1.0f, 3.0f, 2.0f, 3.0f, -1.0f, 0.0f};

static int32_t sample(const struct sh_sampler_params *p, const int32_t *recent, int n_recent,
                      double draw)
{
    struct sh_candidate work[N];
    int32_t token;

    assert_int_equal(sh_sample(&token, LOGITS, N, p, recent, n_recent, draw, work, NULL), 0);
    return token;
}

static void sampler__greedy_takes_the_lower_id_of_equals(void **state)
{
    struct sh_sampler_params p = SH_SAMPLER_DEFAULTS;

    (void)state;
    p.temp = 0;
    assert_int_equal(sample(&p, NULL, 0, 0.9), 1);
}

static void sampler__penalty_moves_the_maximum(void **state)
{
    struct sh_sampler_params p = SH_SAMPLER_DEFAULTS;
    const int32_t recent[] = {4, 1, 1};

    (void)state;
    p.temp = 0;
    p.repeat_penalty = 1.5f;
    assert_int_equal(sample(&p, recent, 3, 0), 3);
    p.repeat_last_n = 0;
    assert_int_equal(sample(&p, recent, 3, 0), 1);
}

static void sampler__looks_back_as_far_as_penalties_do(void **state)
{
    struct sh_sampler_params p = SH_SAMPLER_DEFAULTS;

    (void)state;
    assert_int_equal(sh_sampler_looks_back(&p, 100), 0); // no penalty
    p.repeat_penalty = 1.1f;
    assert_int_equal(sh_sampler_looks_back(&p, 100), 64);
    assert_int_equal(sh_sampler_looks_back(&p, 10), 10);
    assert_int_equal(sh_sampler_looks_back(&p, 0), 0);
    p.repeat_last_n = -1;
    assert_int_equal(sh_sampler_looks_back(&p, 100), 100);
    p.repeat_last_n = 0;
    assert_int_equal(sh_sampler_looks_back(&p, 100), 0);
    p.repeat_last_n = 64;
    p.repeat_penalty = 0; // none either
    assert_int_equal(sh_sampler_looks_back(&p, 100), 0);
}

// With everything off, token i is drawn on an interval of length softmax(i).
static void sampler__draws_follow_the_distribution(void **state)
{
    struct sh_sampler_params p = {.temp = 0.7f, .top_p = 1, .repeat_penalty = 1};
    double want[N], sum = 0;
    int count[N] = {0};
    const int n = 20000;

    (void)state;
    for (int i = 0; i < N; i++)
        sum += want[i] = exp(LOGITS[i] / 0.7);
    for (int i = 0; i < n; i++)
        count[sample(&p, NULL, 0, (i + 0.5) / n)]++;
    for (int i = 0; i < N; i++)
        assert_float_equal((float)(want[i] / sum), (float)count[i] / n, 2e-4f);
}

static void sampler__filters_cut_the_tail(void **state)
{
    struct sh_sampler_params p = {.temp = 1, .top_p = 1, .repeat_penalty = 1};

    (void)state;
    p.top_k = 2;
    assert_int_equal(sample(&p, NULL, 0, 0.999), 3);
    p.top_k = 0;
    p.top_p = 0.5f; // e^3 twice out of 54: the first two hold 0.74
    assert_int_equal(sample(&p, NULL, 0, 0.999), 3);
    p.top_p = 1;
    p.min_p = 0.3f; // e^-1 = 0.37 stays, e^-2 goes
    assert_int_equal(sample(&p, NULL, 0, 0.9999), 2);
}

static void sampler__nan_is_an_error(void **state)
{
    const float bad[2] = {1, NAN};
    struct sh_sampler_params p = SH_SAMPLER_DEFAULTS;
    struct sh_candidate work[2];
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t token;

    (void)state;
    assert_int_equal(sh_sample(&token, bad, 2, &p, NULL, 0, 0, work, &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, "token 1"));
    assert_int_equal(token, -1);
}

static void sampler__top_k_is_sorted_with_log_probabilities(void **state)
{
    struct sh_candidate top[4];

    (void)state;
    assert_int_equal(sh_top_k(top, 4, LOGITS, N), 4);
    const int32_t want[4] = {1, 3, 2, 0};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(top[i].id, want[i]);
        assert_float_equal(top[i].p, (float)sh_log_probability(LOGITS, N, want[i]), 1e-6f);
    }
    assert_int_equal(sh_top_k(top, 0, LOGITS, N), 0);
}

// The 10000th output of seed 5489 is the published check value.
static void rng__known_answer(void **state)
{
    struct sh_rng r;
    uint32_t x = 0;

    (void)state;
    sh_rng_init(&r, 5489);
    for (int i = 0; i < 10000; i++)
        x = sh_rng_next(&r);
    assert_int_equal(x, 4123659995u);
    for (int i = 0; i < 1000; i++) {
        const double u = sh_rng_draw(&r);
        assert_true(u >= 0 && u < 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sampler__greedy_takes_the_lower_id_of_equals),
        cmocka_unit_test(sampler__penalty_moves_the_maximum),
        cmocka_unit_test(sampler__looks_back_as_far_as_penalties_do),
        cmocka_unit_test(sampler__draws_follow_the_distribution),
        cmocka_unit_test(sampler__filters_cut_the_tail),
        cmocka_unit_test(sampler__nan_is_an_error),
        cmocka_unit_test(sampler__top_k_is_sorted_with_log_probabilities),
        cmocka_unit_test(rng__known_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
