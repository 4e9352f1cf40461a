/* kernels/lanes_math_priv.h - math_priv.h in sixteen lanes, step by step the same.
 *
 * Include after the lanes of a tier.  Where the scalar form branches, both sides are computed and
 * one is chosen; the other may be nonsense.  Threads: pure functions.
 */
#ifndef KERNELS_LANES_MATH_PRIV_H
#define KERNELS_LANES_MATH_PRIV_H

#include "kernels/math_priv.h"

/* p * x + c, one step of a polynomial. */
static inline struct v16 v16_step(struct v16 p, struct v16 x, float c)
{
    return v16_fma(p, x, v16_set1(c));
}

static inline struct v16 v16_exp(struct v16 x)
{
    x = v16_max(v16_set1(SH_EXP_MIN), x);
    x = v16_min(v16_set1(SH_EXP_MAX), x);

    const struct v16 magic = v16_set1(SH_ROUND_MAGIC);
    const struct v16 n = v16_sub(v16_fma(x, v16_set1(SH_LOG2E), magic), magic);
    struct v16 r = v16_fma(n, v16_set1(-SH_LN2_HI), x);
    r = v16_fma(n, v16_set1(-SH_LN2_LO), r);

    struct v16 p = v16_set1(SH_EXP_C7);
    p = v16_step(p, r, SH_EXP_C6);
    p = v16_step(p, r, SH_EXP_C5);
    p = v16_step(p, r, SH_EXP_C4);
    p = v16_step(p, r, SH_EXP_C3);
    p = v16_step(p, r, SH_EXP_C2);
    p = v16_step(p, r, 1.0f);
    p = v16_step(p, r, 1.0f);
    return v16_ldexp(p, n);
}

static inline struct v16 v16_tanh(struct v16 x)
{
    const struct v16 a = v16_abs(x), one = v16_set1(1.0f);

    const struct v16 z = v16_mul(a, a);
    struct v16 p = v16_set1(SH_TANH_C4);
    p = v16_step(p, z, SH_TANH_C3);
    p = v16_step(p, z, SH_TANH_C2);
    p = v16_step(p, z, SH_TANH_C1);
    p = v16_step(p, z, SH_TANH_C0);
    const struct v16 small = v16_fma(v16_mul(a, z), p, a);

    const struct v16 e = v16_exp(v16_add(a, a));
    const struct v16 large = v16_sub(one, v16_div(v16_set1(2.0f), v16_add(e, one)));

    const struct m16 is_small = v16_lt(a, v16_set1(SH_TANH_SPLIT));
    return v16_copysign(v16_select(is_small, small, large), x);
}

/* 1 + exp(-x) */
static inline struct v16 v16_one_exp_neg(struct v16 x)
{
    return v16_add(v16_set1(1.0f), v16_exp(v16_neg(x)));
}

static inline struct v16 v16_sigmoid(struct v16 x)
{
    return v16_div(v16_set1(1.0f), v16_one_exp_neg(x));
}

static inline struct v16 v16_silu(struct v16 x)
{
    return v16_div(x, v16_one_exp_neg(x));
}

static inline struct v16 v16_log1p(struct v16 e)
{
    const struct v16 one = v16_set1(1.0f);
    const struct v16 u = v16_add(one, e);
    const struct v16 c_small = v16_sub(e, v16_sub(u, one));
    const struct v16 c_large = v16_sub(one, v16_sub(u, e));
    const struct v16 c = v16_select(v16_lt(e, one), c_small, c_large);
    struct v16 k;
    const struct v16 f = v16_sub(v16_split(u, SH_SQRT1_2_BITS, &k), one);

    struct v16 p = v16_set1(SH_LOG_C8);
    p = v16_step(p, f, SH_LOG_C7);
    p = v16_step(p, f, SH_LOG_C6);
    p = v16_step(p, f, SH_LOG_C5);
    p = v16_step(p, f, SH_LOG_C4);
    p = v16_step(p, f, SH_LOG_C3);
    p = v16_step(p, f, SH_LOG_C2);
    p = v16_step(p, f, SH_LOG_C1);
    p = v16_step(p, f, SH_LOG_C0);
    const struct v16 f2 = v16_mul(f, f);
    struct v16 y = v16_fma(v16_mul(f2, f), p, v16_div(c, u));
    y = v16_fma(k, v16_set1(SH_LN2_LO), y);
    y = v16_fma(v16_set1(-0.5f), f2, y);
    y = v16_add(f, y);
    return v16_fma(k, v16_set1(SH_LN2_HI), y);
}

static inline struct v16 v16_softplus(struct v16 x)
{
    const struct m16 linear = v16_lt(v16_set1(SH_SOFTPLUS_EDGE), x);
    return v16_select(linear, x, v16_log1p(v16_exp(x)));
}

static inline struct v16 v16_erf(struct v16 x)
{
    const struct v16 a = v16_abs(x), one = v16_set1(1.0f);

    const struct v16 z = v16_mul(a, a);
    struct v16 p = v16_set1(SH_ERF_P6);
    p = v16_step(p, z, SH_ERF_P5);
    p = v16_step(p, z, SH_ERF_P4);
    p = v16_step(p, z, SH_ERF_P3);
    p = v16_step(p, z, SH_ERF_P2);
    p = v16_step(p, z, SH_ERF_P1);
    p = v16_step(p, z, SH_ERF_P0);
    const struct v16 small = v16_mul(a, p);

    const struct v16 b = v16_min(v16_set1(SH_ERF_MAX), a);
    struct v16 q = v16_set1(SH_ERF_Q8);
    q = v16_step(q, b, SH_ERF_Q7);
    q = v16_step(q, b, SH_ERF_Q6);
    q = v16_step(q, b, SH_ERF_Q5);
    q = v16_step(q, b, SH_ERF_Q4);
    q = v16_step(q, b, SH_ERF_Q3);
    q = v16_step(q, b, SH_ERF_Q2);
    q = v16_step(q, b, SH_ERF_Q1);
    q = v16_step(q, b, SH_ERF_Q0);
    const struct v16 large = v16_sub(one, v16_exp(q));

    return v16_copysign(v16_select(v16_lt(a, one), small, large), x);
}

static inline struct v16 v16_gelu(struct v16 x)
{
    const struct v16 one = v16_set1(1.0f), h = v16_round_f16(x);
    const struct v16 cube = v16_mul(v16_mul(v16_set1(SH_GELU_B), h), h);
    const struct v16 u = v16_mul(v16_mul(v16_set1(SH_GELU_A), h), v16_add(one, cube));
    struct v16 y = v16_mul(v16_mul(v16_set1(0.5f), h), v16_add(one, v16_tanh(u)));
    y = v16_round_f16(y);
    y = v16_select(v16_le(x, v16_set1(-SH_GELU_EDGE)), v16_set1(0.0f), y);
    return v16_select(v16_le(v16_set1(SH_GELU_EDGE), x), x, y);
}

static inline struct v16 v16_gelu_erf(struct v16 x)
{
    const struct v16 phi = v16_add(v16_set1(1.0f), v16_erf(v16_mul(v16_set1(SH_SQRT1_2), x)));
    return v16_mul(v16_mul(v16_set1(0.5f), x), phi);
}

static inline struct v16 v16_gelu_quick(struct v16 x)
{
    return v16_mul(x, v16_sigmoid(v16_mul(v16_set1(SH_GELU_QUICK), x)));
}

#endif
