/* kernels/f16.c - the two 16-bit float formats, in integers only, so that no rounding mode or
 * compiler takes part.
 *
 *     f16:  sign 1, exponent 5 (bias 15), fraction 10      bf16: the upper half of an f32
 *
 * Narrowing rounds to nearest even; f16 overflows to infinity from 65520 on.  A NaN stays a NaN:
 * it keeps its sign and the upper bits of its payload and becomes quiet, as the hardware does it.
 * Threads: pure.
 */
#include "kernels/kernels.h"

#include <string.h>

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

float sh_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t exp = h >> 10 & 31;
    const uint32_t frac = h & 0x3ff;

    if (exp == 31) {
        return float_of(sign | 0x7f800000 | frac << 13 | (frac ? 0x400000 : 0));
    }
    if (exp == 0) { // zero and subnormals: frac * 2^-24, exact
        const float v = (float)frac * 0x1p-24f;
        return float_of(sign | bits_of(v));
    }
    return float_of(sign | (exp + 112) << 23 | frac << 13);
}

/* v >> n, rounded to nearest even; 0 < n < 32. */
static uint32_t shift_right_rne(uint32_t v, unsigned n)
{
    const uint32_t half = UINT32_C(1) << (n - 1);
    const uint32_t rest = v & ((half << 1) - 1);
    const uint32_t q = v >> n;

    return q + (rest > half || (rest == half && (q & 1)));
}

uint16_t sh_f32_to_f16(float f)
{
    const uint32_t u = bits_of(f);
    const uint32_t sign = u >> 16 & 0x8000;
    const uint32_t mag = u & 0x7fffffff;
    uint32_t h;

    if (mag > 0x7f800000) {
        h = 0x7e00 | (mag >> 13 & 0x3ff);
    } else if (mag >= 0x477ff000) { // 65520 and above
        h = 0x7c00;
    } else if (mag >= 0x38800000) { // normal; a carry out of the fraction bumps the exponent
        h = shift_right_rne(mag, 13) - (112u << 10);
    } else if (mag > 0x33000000) { // above 2^-25: a subnormal, or rounding up to one
        const unsigned shift = 126 - (mag >> 23);
        h = shift_right_rne((mag & 0x7fffff) | 0x800000, shift);
    } else {
        h = 0;
    }
    return (uint16_t)(sign | h);
}

float sh_bf16_to_f32(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

uint16_t sh_f32_to_bf16(float f)
{
    const uint32_t u = bits_of(f);

    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
