/* kernels/math_priv.h - exp, tanh, log1p, erf in f32: the scalar definitions.
 *
 * Built only from +, -, *, /, fma, comparisons and moves of bits, each of which rounds the same
 * way in every instruction set, so that vector code repeats these functions step by step and gets
 * the same bits (lanes_math_priv.h).  "a > b ? a : b" is spelled with the operands in the order of
 * the x86 max and min instructions: where one operand is NaN, or both are zero, b is the result.
 * The polynomials are Chebyshev fits made for the intervals named beside them; the largest errors
 * against double are asserted in tests/kernels.
 *
 * A NaN gives NaN, infinities give the limits.  Threads: pure functions.
 */
#ifndef KERNELS_MATH_PRIV_H
#define KERNELS_MATH_PRIV_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels/kernels.h"

/* exp: x = n ln 2 + r, |r| <= ln 2 / 2.  Adding SH_ROUND_MAGIC rounds a float below 2^22 to an
 * integer and leaves it in the low bits.  exp(-104) rounds to 0, exp(89) to infinity. */
#define SH_ROUND_MAGIC 0x1.8p23f
#define SH_ROUND_MAGIC_BITS 0x4b400000u
#define SH_LOG2E 0x1.715476p+0f
#define SH_LN2_HI 0x1.62e430p-1f
#define SH_LN2_LO -0x1.05c610p-29f
#define SH_EXP_MIN -104.0f
#define SH_EXP_MAX 89.0f
#define SH_EXP_C2 0x1.000000p-1f
#define SH_EXP_C3 0x1.555556p-3f
#define SH_EXP_C4 0x1.555556p-5f
#define SH_EXP_C5 0x1.111112p-7f
#define SH_EXP_C6 0x1.6c16c2p-10f
#define SH_EXP_C7 0x1.a01a02p-13f

/* tanh x = x + x z P(z), z = x^2, for |x| < 0.625 */
#define SH_TANH_SPLIT 0.625f
#define SH_TANH_C0 -0x1.555552p-2f
#define SH_TANH_C1 0x1.110e1cp-3f
#define SH_TANH_C2 -0x1.b9258ap-5f
#define SH_TANH_C3 0x1.58048ep-6f
#define SH_TANH_C4 -0x1.8f8de4p-8f

/* log(1 + f) = f - f^2 / 2 + f^3 P(f), sqrt(1/2) <= 1 + f < sqrt(2) */
#define SH_SQRT1_2_BITS 0x3f3504f3u
#define SH_LOG_C0 0x1.555554p-2f
#define SH_LOG_C1 -0x1.fffffcp-3f
#define SH_LOG_C2 0x1.999d5ap-3f
#define SH_LOG_C3 -0x1.555b4ap-3f
#define SH_LOG_C4 0x1.23d21ap-3f
#define SH_LOG_C5 -0x1.fcf4c6p-4f
#define SH_LOG_C6 0x1.dea282p-4f
#define SH_LOG_C7 -0x1.d635bcp-4f
#define SH_LOG_C8 0x1.1d8ea6p-4f

/* erf x = x P(x^2) for |x| < 1; 1 - exp(Q(|x|)) for 1 <= |x| <= 4; from 4 on it rounds to 1 */
#define SH_ERF_MAX 4.0f
#define SH_ERF_P0 0x1.20dd74p+0f
#define SH_ERF_P1 -0x1.81273ep-2f
#define SH_ERF_P2 0x1.ce2d10p-4f
#define SH_ERF_P3 -0x1.b7fabap-6f
#define SH_ERF_P4 0x1.541270p-8f
#define SH_ERF_P5 -0x1.a45088p-11f
#define SH_ERF_P6 0x1.4a5690p-14f
#define SH_ERF_Q0 0x1.4fb068p-12f
#define SH_ERF_Q1 -0x1.2156fap+0f
#define SH_ERF_Q2 -0x1.437eb4p-1f
#define SH_ERF_Q3 -0x1.c2e356p-4f
#define SH_ERF_Q4 0x1.b0e246p-6f
#define SH_ERF_Q5 -0x1.37ecc6p-8f
#define SH_ERF_Q6 0x1.38e5e6p-11f
#define SH_ERF_Q7 -0x1.825ce4p-15f
#define SH_ERF_Q8 0x1.b77830p-20f

#define SH_SQRT1_2 0x1.6a09e6p-1f
#define SH_GELU_A 0x1.988454p-1f /* sqrt(2 / pi) */
#define SH_GELU_B 0.044715f
#define SH_GELU_EDGE 10.0f
#define SH_GELU_QUICK 1.702f
#define SH_SOFTPLUS_EDGE 20.0f

static inline uint32_t sh_bits_of_f32(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float sh_f32_of_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline float sh_max_f32(float a, float b)
{
    return a > b ? a : b;
}

static inline float sh_min_f32(float a, float b)
{
    return a < b ? a : b;
}

/* The sign bit of `sign` on |x|, NaN included. */
static inline float sh_copysign_f32(float x, float sign)
{
    return sh_f32_of_bits((sh_bits_of_f32(x) & 0x7fffffffu) | (sh_bits_of_f32(sign) & 0x80000000u));
}

static inline float sh_abs_f32(float x)
{
    return sh_f32_of_bits(sh_bits_of_f32(x) & 0x7fffffffu);
}

static inline float sh_neg_f32(float x)
{
    return sh_f32_of_bits(sh_bits_of_f32(x) ^ 0x80000000u);
}

static inline float sh_exp_f32(float x)
{
    x = sh_max_f32(SH_EXP_MIN, x);
    x = sh_min_f32(SH_EXP_MAX, x);

    const float t = fmaf(x, SH_LOG2E, SH_ROUND_MAGIC);
    const float n = t - SH_ROUND_MAGIC;
    float r = fmaf(n, -SH_LN2_HI, x);
    r = fmaf(n, -SH_LN2_LO, r);

    float p = SH_EXP_C7;
    p = fmaf(p, r, SH_EXP_C6);
    p = fmaf(p, r, SH_EXP_C5);
    p = fmaf(p, r, SH_EXP_C4);
    p = fmaf(p, r, SH_EXP_C3);
    p = fmaf(p, r, SH_EXP_C2);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);

    // Two factors, because 2^n itself may lie outside the normal range; the first product is
    // exact, so there is one rounding, however n is cut.  n + 256 is positive (NaN aside).
    const uint32_t biased = sh_bits_of_f32(t) - SH_ROUND_MAGIC_BITS + 256u;
    const uint32_t half = biased >> 1;
    const float s0 = sh_f32_of_bits((half - 128u + 127u) << 23);
    const float s1 = sh_f32_of_bits((biased - half - 128u + 127u) << 23);
    return p * s0 * s1;
}

static inline float sh_tanh_f32(float x)
{
    const float a = sh_abs_f32(x);
    float y;
    if (a < SH_TANH_SPLIT) {
        const float z = a * a;
        float p = SH_TANH_C4;
        p = fmaf(p, z, SH_TANH_C3);
        p = fmaf(p, z, SH_TANH_C2);
        p = fmaf(p, z, SH_TANH_C1);
        p = fmaf(p, z, SH_TANH_C0);
        y = fmaf(a * z, p, a);
    } else {
        y = 1.0f - 2.0f / (sh_exp_f32(a + a) + 1.0f);
    }
    return sh_copysign_f32(y, x);
}

static inline float sh_sigmoid_f32(float x)
{
    return 1.0f / (1.0f + sh_exp_f32(sh_neg_f32(x)));
}

static inline float sh_silu_f32(float x)
{
    return x / (1.0f + sh_exp_f32(sh_neg_f32(x)));
}

/* log(1 + e) for finite e >= 0: the logarithm of u = 1 + e as rounded, and c, what the rounding
 * lost, over u. */
static inline float sh_log1p_f32(float e)
{
    const float u = 1.0f + e;
    const float c = e < 1.0f ? e - (u - 1.0f) : 1.0f - (u - e);
    const uint32_t shifted = sh_bits_of_f32(u) - SH_SQRT1_2_BITS;
    const float k = (float)((int32_t)shifted >> 23);
    const float f = sh_f32_of_bits((shifted & 0x7fffffu) + SH_SQRT1_2_BITS) - 1.0f;

    float p = SH_LOG_C8;
    p = fmaf(p, f, SH_LOG_C7);
    p = fmaf(p, f, SH_LOG_C6);
    p = fmaf(p, f, SH_LOG_C5);
    p = fmaf(p, f, SH_LOG_C4);
    p = fmaf(p, f, SH_LOG_C3);
    p = fmaf(p, f, SH_LOG_C2);
    p = fmaf(p, f, SH_LOG_C1);
    p = fmaf(p, f, SH_LOG_C0);
    const float f2 = f * f;
    float y = fmaf(f2 * f, p, c / u);
    y = fmaf(k, SH_LN2_LO, y);
    y = fmaf(-0.5f, f2, y);
    y = f + y;
    return fmaf(k, SH_LN2_HI, y);
}

static inline float sh_softplus_f32(float x)
{
    return x > SH_SOFTPLUS_EDGE ? x : sh_log1p_f32(sh_exp_f32(x));
}

static inline float sh_erf_f32(float x)
{
    const float a = sh_abs_f32(x);
    float y;
    if (a < 1.0f) {
        const float z = a * a;
        float p = SH_ERF_P6;
        p = fmaf(p, z, SH_ERF_P5);
        p = fmaf(p, z, SH_ERF_P4);
        p = fmaf(p, z, SH_ERF_P3);
        p = fmaf(p, z, SH_ERF_P2);
        p = fmaf(p, z, SH_ERF_P1);
        p = fmaf(p, z, SH_ERF_P0);
        y = a * p;
    } else {
        const float b = sh_min_f32(SH_ERF_MAX, a);
        float q = SH_ERF_Q8;
        q = fmaf(q, b, SH_ERF_Q7);
        q = fmaf(q, b, SH_ERF_Q6);
        q = fmaf(q, b, SH_ERF_Q5);
        q = fmaf(q, b, SH_ERF_Q4);
        q = fmaf(q, b, SH_ERF_Q3);
        q = fmaf(q, b, SH_ERF_Q2);
        q = fmaf(q, b, SH_ERF_Q1);
        q = fmaf(q, b, SH_ERF_Q0);
        y = 1.0f - sh_exp_f32(q);
    }
    return sh_copysign_f32(y, x);
}

static inline float sh_gelu_f32(float x)
{
    if (x <= -SH_GELU_EDGE) return 0.0f;
    if (x >= SH_GELU_EDGE) return x;
    const float h = sh_f16_to_f32(sh_f32_to_f16(x));
    const float u = (SH_GELU_A * h) * (1.0f + (SH_GELU_B * h) * h);
    const float y = (0.5f * h) * (1.0f + sh_tanh_f32(u));
    return sh_f16_to_f32(sh_f32_to_f16(y));
}

static inline float sh_gelu_erf_f32(float x)
{
    return (0.5f * x) * (1.0f + sh_erf_f32(SH_SQRT1_2 * x));
}

static inline float sh_gelu_quick_f32(float x)
{
    return x * sh_sigmoid_f32(SH_GELU_QUICK * x);
}

#endif
