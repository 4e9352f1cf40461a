/* host/bench_sum_test.c - medians, intervals and bounds against values worked out by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "host/bench_sum.h"

static void check(double got, double want)
{
    if (!(got > want - 1e-9 && got < want + 1e-9)) fail_msg("%.9g is not %.9g", got, want);
}

static void spread__of_few_and_many(void **state)
{
    double one[] = {3}, four[] = {4, 1, 3, 2}, eight[] = {8, 7, 6, 5, 4, 3, 2, 1}, many[2000];
    struct sh_spread s = sh_spread_of(NULL, 0);

    (void)state;
    check(s.median, 0);
    s = sh_spread_of(one, 1);
    check(s.low, 3);
    check(s.median, 3);
    check(s.high, 3);
    s = sh_spread_of(four, 4); // all of them, though that is 87.5 % only
    check(s.low, 1);
    check(s.median, 2.5);
    check(s.high, 4);
    // 8 throws: 0 or 1 heads, or 7 or 8, in 18 of 256: the second and the seventh hold 93 %.
    s = sh_spread_of(eight, 8);
    check(s.low, 2);
    check(s.median, 4.5);
    check(s.high, 7);
    for (int i = 0; i < 2000; i++)
        many[i] = (i * 7919) % 2000;
    s = sh_spread_of(many, 2000);
    check(s.median, 999.5);
    assert_true(s.low >= 950 && s.low <= 970 && s.high >= 1030 && s.high <= 1050);
}

static void spread__quantiles(void **state)
{
    const double v[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};

    (void)state;
    check(sh_quantile(v, 10, 0.5), 5);
    check(sh_quantile(v, 10, 0.99), 10);
    check(sh_quantile(v, 10, 0.9), 9);
    check(sh_quantile(v, 10, 0), 1);
    check(sh_quantile(v, 10, 1), 10);
    check(sh_quantile(v, 0, 0.5), 0);
}

static void bound__prompts(void **state)
{
    const double equal[] = {2, 2, 2, 2, 2, 2};         // 3 chunks, 2 stages
    const double slow[] = {1, 5, 2, 1, 6, 3, 1, 7, 4}; // 3 chunks, 3 stages, the second slowest
    const double unequal[] = {4, 4, 4, 1, 1, 1, 1, 1, 1};

    (void)state;
    check(sh_prompt_bound(equal, 3, 2), 8);
    check(sh_prompt_bound(slow, 3, 3), 1 + (5 + 6 + 7) + 4);
    check(sh_prompt_bound(unequal, 3, 3), 4 + 1 + 1 + 2 * 4);
    check(sh_prompt_bound(equal, 6, 1), 12);
    check(sh_prompt_bound(equal, 0, 2), 0);
}

static void bound__texts(void **state)
{
    const double t[] = {3, 4};

    (void)state;
    check(sh_text_bound(t, 2, 0.5, 1, 1, 10), 7.5);
    check(sh_text_bound(t, 2, 0.5, 2, 1, 10), 15);
    check(sh_text_bound(t, 2, 0.5, 2, 2, 0), 8);   // the slower stage is always busy
    check(sh_text_bound(t, 2, 1.5, 2, 2, 0), 8.5); // the way is longer than that
    check(sh_text_bound(t, 2, 0.5, 2, 2, 10), 8 + 0.3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spread__of_few_and_many),
        cmocka_unit_test(spread__quantiles),
        cmocka_unit_test(bound__prompts),
        cmocka_unit_test(bound__texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
