/* tests/kernels/rope_test.c - rope frequencies and angles against long double, YaRN and frequency
 * factors included, and their bits against known ones. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mm_data.h"
#include "vec_check.h"

enum { DIMS = 128, PAIRS = DIMS / 2 };

static struct sh_rope_params plain(float base)
{
    return (struct sh_rope_params){.n_dims = DIMS,
                                   .n_ctx_orig = 4096,
                                   .freq_base = base,
                                   .freq_scale = 1.0f,
                                   .attn_factor = 1.0f,
                                   .beta_fast = 32.0f,
                                   .beta_slow = 1.0f};
}

static void rope__frequencies(void **state)
{
    static const float bases[] = {2.5f, 10000.0f, 160000.0f, 500000.0f, 1e6f, 1e7f, 1000000.5f};
    double f[512];
    (void)state;
    for (size_t b = 0; b < sizeof bases / sizeof *bases; b++) {
        for (int n = 2; n <= 1024; n += 14) {
            struct sh_rope_params p = plain(bases[b]);
            p.n_dims = n;
            sh_rope_frequencies(&p, f);
            for (int i = 0; i < n / 2; i++) {
                const long double want = powl(bases[b], -2.0L * i / n);
                const double off = (double)((f[i] - want) / want);
                if (fabs(off) > 1e-15)
                    fail_msg("base %g, pair %d of %d: off by %g", (double)bases[b], i, n, off);
            }
        }
    }
}

/* The correction dimension of YaRN. */
static long double dim_of(const struct sh_rope_params *p, float turns)
{
    const long double pi = acosl(-1.0L);
    return p->n_dims * logl(p->n_ctx_orig / (2 * pi * turns)) / (2 * logl(p->freq_base));
}

static void check_angles(const struct sh_rope_params *p, const float *ff, int32_t pos)
{
    double f[PAIRS];
    float c[PAIRS], s[PAIRS];
    long double mag = p->attn_factor;
    const long double low = fmaxl(0, floorl(dim_of(p, p->beta_fast)));
    const long double high = fminl(p->n_dims - 1, ceill(dim_of(p, p->beta_slow)));
    if (p->ext_factor != 0) mag *= 1 + 0.1L * logl(1 / (long double)p->freq_scale);

    sh_rope_frequencies(p, f);
    sh_rope_angles(p, f, ff, pos, c, s);
    for (int i = 0; i < p->n_dims / 2; i++) {
        long double outer = pos * powl(p->freq_base, -2.0L * i / p->n_dims);
        if (ff) outer /= ff[i];
        long double angle = outer * p->freq_scale;
        if (p->ext_factor != 0) {
            const long double y = (i - low) / fmaxl(0.001L, high - low);
            const long double w = (1 - fminl(1, fmaxl(0, y))) * p->ext_factor;
            angle = angle * (1 - w) + outer * w;
        }
        // Half an ulp of f32, and what the angle's own digits leave uncertain.
        const double bound = 6e-8 * (double)mag + 1e-15 * fabs((double)angle);
        check_near("cos", i, c[i], (double)(cosl(angle) * mag), 0, bound);
        check_near("sin", i, s[i], (double)(sinl(angle) * mag), 0, bound);
    }
}

static void rope__plain_angles(void **state)
{
    static const int32_t at[] = {0, 1, 2, 511, 4095, 131071, 9999999, -1, -77, INT32_MAX};
    (void)state;
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        struct sh_rope_params p = plain(10000.0f);
        check_angles(&p, NULL, at[i]);
        p.freq_base = 1e6f;
        p.freq_scale = 0.25f;
        p.attn_factor = 1.19f;
        check_angles(&p, NULL, at[i]);
        p.n_dims = 2;
        check_angles(&p, NULL, at[i]);
    }
}

static void rope__factors(void **state)
{
    float ff[PAIRS];
    (void)state;
    for (int i = 0; i < PAIRS; i++)
        ff[i] = i < 20 ? 1.0f : 1.0f + 0.7f * (float)(i - 20);
    const struct sh_rope_params p = plain(500000.0f);
    for (int32_t pos = 0; pos < 100000; pos = 3 * pos + 1)
        check_angles(&p, ff, pos);
}

static void rope__yarn(void **state)
{
    float ff[PAIRS];
    (void)state;
    for (int i = 0; i < PAIRS; i++)
        ff[i] = 1.0f + 0.01f * (float)i;
    struct sh_rope_params p = plain(10000.0f);
    p.freq_scale = 0.125f;
    for (int round = 0; round < 4; round++) {
        p.ext_factor = round & 1 ? 0.75f : 1.0f;
        p.attn_factor = round & 2 ? 0.9f : 1.0f;
        for (int32_t pos = 0; pos < 100000; pos = 3 * pos + 1) {
            check_angles(&p, NULL, pos);
            check_angles(&p, ff, pos);
        }
    }
    p.n_ctx_orig = 32; // the ramp begins below pair 0
    check_angles(&p, NULL, 1000);
    p.beta_fast = p.beta_slow = 2.0f; // and has no width
    check_angles(&p, NULL, 1000);
}

/* Parameters from a file may be anything: no trap, and every tier of nonsense is a number or NaN.
 */
static void rope__nonsense(void **state)
{
    static const float odd[] = {0.0f, -1.0f, INFINITY, -INFINITY, NAN, 1.0f, 1e-40f, 3e38f};
    enum { N_ODD = sizeof odd / sizeof *odd };
    (void)state;
    for (int i = 0; i < N_ODD; i++) {
        for (int j = 0; j < N_ODD; j++) {
            double f[PAIRS];
            float c[PAIRS], s[PAIRS], ff[PAIRS];
            struct sh_rope_params p = plain(odd[i]);
            p.freq_scale = odd[j];
            p.ext_factor = odd[(i + j) % N_ODD];
            p.beta_fast = odd[(i + 2 * j) % N_ODD];
            p.n_ctx_orig = j % 2 ? 0 : INT64_MAX;
            for (int k = 0; k < PAIRS; k++)
                ff[k] = odd[k % N_ODD];
            sh_rope_frequencies(&p, f);
            sh_rope_angles(&p, f, ff, INT32_MIN, c, s);
            for (int k = 0; k < PAIRS; k++)
                assert_false(c[k] != c[k] && s[k] == s[k]);
        }
    }
}

static void rope__known_bits(void **state)
{
    double f[PAIRS];
    float c[PAIRS], s[PAIRS];
    struct sh_rope_params p = plain(500000.0f);
    (void)state;
    p.freq_scale = 0.5f;
    p.ext_factor = 1.0f;
    sh_rope_frequencies(&p, f);
    sh_rope_angles(&p, f, NULL, 12345, c, s);
    assert_int_equal(data_hash(f, sizeof f), 0x6e1d9ce4);
    assert_int_equal(data_hash(c, sizeof c), 0xe89ed179);
    assert_int_equal(data_hash(s, sizeof s), 0xa4fcb668);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rope__frequencies), cmocka_unit_test(rope__plain_angles),
        cmocka_unit_test(rope__factors),     cmocka_unit_test(rope__yarn),
        cmocka_unit_test(rope__nonsense),    cmocka_unit_test(rope__known_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
