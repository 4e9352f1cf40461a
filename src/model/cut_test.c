/* model/cut_test.c - cuts of a row-parallel product: every number of shards, share and turn. */
#include "model/cut.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void expect_counts(int64_t units, int n_shards, const double *shares, int64_t turn,
                          const int *want)
{
    for (int rank = 0; rank < n_shards; rank++) {
        struct sh_cut c;
        if (!sh_cut_make(&c, units * 32, 32, n_shards, rank, shares, turn))
            fail_msg("%d units over %d shards are refused", (int)units, n_shards);
        for (int s = 0; s < n_shards; s++) {
            if (c.border[s + 1] - c.border[s] == want[s]) continue;
            fail_msg("turn %d: shard %d has %d segments, expected %d", (int)turn, s,
                     c.border[s + 1] - c.border[s], want[s]);
        }
    }
}

static void cut__by_largest_remainder(void **state)
{
    (void)state;
    expect_counts(16, 2, (double[]){2, 1}, 0, (int[]){5, 3});
    expect_counts(16, 3, (double[]){1, 1, 1}, 0, (int[]){3, 3, 2});
    expect_counts(16, 3, (double[]){6, 1, 1}, 0, (int[]){6, 1, 1});
    expect_counts(16, 2, (double[]){1, 3}, 0, (int[]){2, 6});
    expect_counts(5, 2, (double[]){1, 1}, 0, (int[]){3, 2}); // five units: five segments
    expect_counts(3, 3, (double[]){100, 1, 1}, 0, (int[]){1, 1, 1});
    expect_counts(16, 4, (double[]){100, 1, 1, 1}, 0, (int[]){5, 1, 1, 1});
    expect_counts(16, 2, (double[]){0, 0}, 0, (int[]){4, 4}); // no shares: alike
    expect_counts(16, 2, (double[]){-3, 1}, 0, (int[]){1, 7});
    expect_counts(16, 8, (double[]){1, 1, 1, 1, 1, 1, 1, 1}, 5, (int[]){1, 1, 1, 1, 1, 1, 1, 1});
}

// Who gets the surplus changes from layer to layer.
static void cut__surplus_rotates(void **state)
{
    (void)state;
    expect_counts(16, 3, (double[]){1, 1, 1}, 1, (int[]){2, 3, 3});
    expect_counts(16, 3, (double[]){1, 1, 1}, 2, (int[]){3, 2, 3});
    expect_counts(16, 3, (double[]){1, 1, 1}, 3, (int[]){3, 3, 2});
    expect_counts(5, 2, (double[]){1, 1}, 1, (int[]){2, 3});
    expect_counts(16, 2, (double[]){2, 1}, 1, (int[]){5, 3}); // no tie, no turn
}

// Ranges of all shards follow each other and cover everything, at unit borders.
static void check_cover(int64_t units, int64_t unit, int n_shards, const double *shares,
                        int64_t turn)
{
    const int n_segments = units < SH_SEGMENTS_MAX ? (int)units : SH_SEGMENTS_MAX;
    int64_t at = 0;

    for (int rank = 0; rank < n_shards; rank++) {
        struct sh_cut c;
        const bool ok = sh_cut_make(&c, units * unit, unit, n_shards, rank, shares, turn);
        assert_int_equal(ok, n_shards <= n_segments);
        if (!ok) return;
        assert_int_equal(c.n_segments, n_segments);
        assert_int_equal(c.k, units * unit);
        assert_int_equal(c.unit, unit);
        assert_int_equal(c.k_begin, at);
        assert_true(c.k_end > c.k_begin); // nobody is empty
        assert_int_equal(c.k_end % unit, 0);
        assert_int_equal(c.begin, c.border[rank]);
        assert_int_equal(c.end, c.border[rank + 1]);
        assert_int_equal(sh_segment_at(c.k, unit, c.n_segments, c.k_begin), c.begin);
        assert_int_equal(sh_segment_at(c.k, unit, c.n_segments, c.k_end), c.end);
        at = c.k_end;
    }
    assert_int_equal(at, units * unit);
}

static void cut__shards_cover_the_product(void **state)
{
    static const double SHARES[][SH_SHARDS_MAX] = {
        {1, 1, 1, 1, 1, 1, 1, 1}, {9, 1, 1, 1, 1, 1, 1, 1}, {1, 2, 3, 4, 5, 6, 7, 8}, {0}};

    (void)state;
    for (int64_t units = 1; units <= 40; units++)
        for (int n = 1; n <= SH_SHARDS_MAX; n++)
            for (int s = 0; s < 4; s++)
                for (int64_t turn = 0; turn < 3; turn++)
                    check_cover(units, units % 2 ? 32 : 96, n, SHARES[s], turn);
}

static void cut__refusals(void **state)
{
    static const double EVEN[SH_SHARDS_MAX] = {1, 1, 1, 1, 1, 1, 1, 1};
    struct sh_cut c;

    (void)state;
    assert_true(sh_cut_make(&c, 96, 32, 3, 0, EVEN, 0));
    assert_false(sh_cut_make(&c, 96, 32, 4, 0, EVEN, 0));
    assert_false(sh_cut_make(&c, 95, 32, 1, 0, EVEN, 0));
    assert_false(sh_cut_make(&c, 0, 32, 1, 0, EVEN, 0));
    assert_false(sh_cut_make(&c, 96, 0, 1, 0, EVEN, 0));
    assert_false(sh_cut_make(&c, 96, -32, 1, 0, EVEN, 0));
    assert_false(sh_cut_make(&c, 9 * 32, 32, 9, 0, EVEN, 0));
}

static void cut__lcm(void **state)
{
    (void)state;
    assert_int_equal(sh_lcm(192, 32), 192);
    assert_int_equal(sh_lcm(80, 32), 160);
    assert_int_equal(sh_lcm(1, 7), 7);
    assert_int_equal(sh_lcm(INT64_C(3) << 40, INT64_C(1) << 41), INT64_C(3) << 41);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut__by_largest_remainder),
        cmocka_unit_test(cut__surplus_rotates),
        cmocka_unit_test(cut__shards_cover_the_product),
        cmocka_unit_test(cut__refusals),
        cmocka_unit_test(cut__lcm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
