/* kernels/f16_test.c - every half, and the borders between floats that round to neighbours. */
#include "kernels/kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static uint32_t bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* Finite halves have the value that their fields say, and survive the way back. */
static void f16__all_values(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        const int exp = (int)(h >> 10 & 31), frac = (int)(h & 0x3ff);
        const float f = sh_f16_to_f32((uint16_t)h);
        if (exp == 31 && frac) {
            assert_true(f != f);
            assert_int_equal(sh_f32_to_f16(f), h | 0x200);
            continue;
        }
        double want =
            exp == 31 ? (double)INFINITY : ldexp(exp ? 1024 + frac : frac, exp ? exp - 25 : -24);
        if (h & 0x8000) want = -want;
        assert_int_equal(bits(f), bits((float)want));
        assert_int_equal(sh_f32_to_f16(f), h);
    }
}

/* Between neighbours: the middle goes to the even one, one step off it to the nearer one. */
static void f16__rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++) {
        const float a = sh_f16_to_f32((uint16_t)h), b = sh_f16_to_f32((uint16_t)(h + 1));
        const float mid = (a + b) / 2; // exact
        assert_int_equal(sh_f32_to_f16(mid), h & 1 ? h + 1 : h);
        assert_int_equal(sh_f32_to_f16(nextafterf(mid, 0)), h);
        assert_int_equal(sh_f32_to_f16(-nextafterf(mid, INFINITY)), (h + 1) | 0x8000);
    }
    assert_int_equal(sh_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(sh_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(sh_f32_to_f16(-INFINITY), 0xfc00);
}

static void bf16__rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7f7f; h++) {
        uint32_t u = h << 16 | 0x8000;
        float mid;
        memcpy(&mid, &u, sizeof mid);
        assert_int_equal(bits(sh_bf16_to_f32((uint16_t)h)), h << 16);
        assert_int_equal(sh_f32_to_bf16(mid), h & 1 ? h + 1 : h);
        assert_int_equal(sh_f32_to_bf16(nextafterf(mid, 0)), h);
        assert_int_equal(sh_f32_to_bf16(nextafterf(mid, INFINITY)), h + 1);
    }
    assert_int_equal(sh_f32_to_bf16(INFINITY), 0x7f80);
    assert_int_equal(sh_f32_to_bf16(3.4e38f), 0x7f80);
    assert_true(sh_bf16_to_f32(sh_f32_to_bf16(NAN)) != sh_bf16_to_f32(sh_f32_to_bf16(NAN)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f16__all_values),
        cmocka_unit_test(f16__rounds_to_nearest_even),
        cmocka_unit_test(bf16__rounds_to_nearest_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
