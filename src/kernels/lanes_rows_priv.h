/* kernels/lanes_rows_priv.h - the row kernels in sixteen lanes, for one tier.
 *
 * Include once, after the lanes of the tier; fill_rows() sets the slots.  Whole groups of 16
 * first, then the rest under a mask: a lane without an element is neither read nor written, and
 * adds +0 to a sum that is not -0 (or is left out, where that could matter).
 * Threads: pure functions.
 */
#ifndef KERNELS_LANES_ROWS_PRIV_H
#define KERNELS_LANES_ROWS_PRIV_H

#include <math.h>
#include <string.h>

#include "kernels/lanes_math_priv.h"
#include "kernels/vec_priv.h"

static inline unsigned bits_below(int64_t n)
{
    return (1u << n) - 1u;
}

/* ---- element by element ------------------------------------------------------------------------
 */

/* f is inlined into both loops; `more` are scalars that it takes too. */
#define UNARY_LOOP(f)                                                                              \
    for (; n >= SH_LANES; n -= SH_LANES, dst += SH_LANES, x += SH_LANES) {                         \
        const struct v16 a = v16_load(x);                                                          \
        v16_store(dst, f);                                                                         \
    }                                                                                              \
    if (n > 0) {                                                                                   \
        const unsigned bits = bits_below(n);                                                       \
        const struct v16 a = v16_load_bits(x, bits);                                               \
        v16_store_bits(dst, f, bits);                                                              \
    }
#define BINARY_LOOP(f)                                                                             \
    for (; n >= SH_LANES; n -= SH_LANES, dst += SH_LANES, x += SH_LANES, y += SH_LANES) {          \
        const struct v16 a = v16_load(x), b = v16_load(y);                                         \
        v16_store(dst, f);                                                                         \
    }                                                                                              \
    if (n > 0) {                                                                                   \
        const unsigned bits = bits_below(n);                                                       \
        const struct v16 a = v16_load_bits(x, bits), b = v16_load_bits(y, bits);                   \
        v16_store_bits(dst, f, bits);                                                              \
    }
#define UNARY(name, f)                                                                             \
    static void name##_lanes(int64_t n, float *dst, const float *x)                                \
    {                                                                                              \
        UNARY_LOOP(f)                                                                              \
    }
#define BINARY(name, f)                                                                            \
    static void name##_lanes(int64_t n, float *dst, const float *x, const float *y)                \
    {                                                                                              \
        BINARY_LOOP(f)                                                                             \
    }

BINARY(add, v16_add(a, b))
BINARY(sub, v16_sub(a, b))
BINARY(mul, v16_mul(a, b))
BINARY(div, v16_div(a, b))
UNARY(relu, v16_max(a, v16_set1(0.0f)))
UNARY(sigmoid, v16_sigmoid(a))
UNARY(silu, v16_silu(a))
UNARY(gelu, v16_gelu(a))
UNARY(gelu_erf, v16_gelu_erf(a))
UNARY(gelu_quick, v16_gelu_quick(a))
UNARY(tanh, v16_tanh(a))
UNARY(exp, v16_exp(a))
UNARY(softplus, v16_softplus(a))
UNARY(sqr, v16_mul(a, a))
UNARY(sqrt, v16_sqrt(a))
UNARY(neg, v16_neg(a))
UNARY(abs, v16_abs(a))
BINARY(swiglu, v16_mul(v16_silu(a), b))
BINARY(geglu, v16_mul(v16_gelu(a), b))
BINARY(reglu, v16_mul(v16_max(a, v16_set1(0.0f)), b))

static void scale_lanes(int64_t n, float *dst, const float *x, float scale, float bias)
{
    const struct v16 vs = v16_set1(scale), vb = v16_set1(bias);
    if (bias != 0.0f) {
        UNARY_LOOP(v16_add(v16_mul(a, vs), vb))
    } else {
        UNARY_LOOP(v16_mul(a, vs))
    }
}

static void clamp_lanes(int64_t n, float *dst, const float *x, float lo, float hi)
{
    const struct v16 vlo = v16_set1(lo), vhi = v16_set1(hi);
    UNARY_LOOP(v16_min(vhi, v16_max(vlo, a)))
}

static void add_scaled_lanes(int64_t n, float *acc, const float *y, float w)
{
    const struct v16 vw = v16_set1(w);
    const float *x = acc;
    float *dst = acc;
    BINARY_LOOP(v16_add(a, v16_mul(vw, b)))
}

/* ---- reductions --------------------------------------------------------------------------------
 */

static inline float sum_row(int64_t n, const float *x)
{
    struct v16 s = v16_set1(0.0f);
    for (; n >= SH_LANES; n -= SH_LANES, x += SH_LANES)
        s = v16_add(s, v16_load(x));
    if (n > 0) s = v16_add(s, v16_load_bits(x, bits_below(n)));
    return v16_sum(s);
}

static inline float max_row(int64_t n, const float *x)
{
    struct v16 m = v16_set1(-INFINITY);
    for (; n >= SH_LANES; n -= SH_LANES, x += SH_LANES)
        m = v16_max(v16_load(x), m);
    if (n > 0) {
        const unsigned bits = bits_below(n);
        m = v16_select(m16_of_bits(bits), v16_max(v16_load_bits(x, bits), m), m);
    }
    return v16_max_lane(m);
}

/* An fma may underflow to -0, which +0 would turn into +0: lanes without an element stay. */
static inline float dot_row(int64_t n, const float *a, const float *b)
{
    struct v16 s = v16_set1(0.0f);
    for (; n >= SH_LANES; n -= SH_LANES, a += SH_LANES, b += SH_LANES)
        s = v16_fma(v16_load(a), v16_load(b), s);
    if (n > 0) {
        const unsigned bits = bits_below(n);
        const struct v16 t = v16_fma(v16_load_bits(a, bits), v16_load_bits(b, bits), s);
        s = v16_select(m16_of_bits(bits), t, s);
    }
    return v16_sum(s);
}

static float sum_lanes(int64_t n, const float *x)
{
    return sum_row(n, x);
}

static float max_lanes(int64_t n, const float *x)
{
    return max_row(n, x);
}

static float dot_lanes(int64_t n, const float *a, const float *b)
{
    return dot_row(n, a, b);
}

static inline double sum_of_squares(int64_t n, const float *x)
{
    struct d16 s = d16_zero();
    for (; n >= SH_LANES; n -= SH_LANES, x += SH_LANES) {
        const struct v16 a = v16_load(x);
        s = d16_add(s, v16_mul(a, a));
    }
    if (n > 0) {
        const struct v16 a = v16_load_bits(x, bits_below(n));
        s = d16_add(s, v16_mul(a, a));
    }
    return d16_sum(s);
}

static void rms_norm_lanes(int64_t n, float *dst, const float *x, float eps)
{
    const float mean_square = (float)(sum_of_squares(n, x) / (double)n);
    const struct v16 s = v16_set1(1.0f / sqrtf(mean_square + eps));
    UNARY_LOOP(v16_mul(a, s))
}

static void layer_norm_lanes(int64_t n, float *dst, const float *x, float eps)
{
    const int64_t whole = n - n % SH_LANES;
    const unsigned rest = bits_below(n - whole);
    const struct m16 m = m16_of_bits(rest);

    struct d16 total = d16_zero();
    for (int64_t i = 0; i < whole; i += SH_LANES)
        total = d16_add(total, v16_load(x + i));
    if (rest) total = d16_add(total, v16_load_bits(x + whole, rest));
    const struct v16 mean = v16_set1((float)(d16_sum(total) / (double)n));

    struct d16 squares = d16_zero();
    for (int64_t i = 0; i < whole; i += SH_LANES) {
        const struct v16 d = v16_sub(v16_load(x + i), mean);
        squares = d16_add(squares, v16_mul(d, d));
    }
    if (rest) {
        const struct v16 d = v16_sub(v16_load_bits(x + whole, rest), mean);
        squares = d16_add(squares, v16_select(m, v16_mul(d, d), v16_set1(0.0f)));
    }
    const float variance = (float)(d16_sum(squares) / (double)n);
    const struct v16 s = v16_set1(1.0f / sqrtf(variance + eps));
    UNARY_LOOP(v16_mul(v16_sub(a, mean), s))
}

static void l2_norm_lanes(int64_t n, float *dst, const float *x, float eps)
{
    const float length = sqrtf((float)sum_of_squares(n, x));
    const struct v16 d = v16_set1(sh_max_f32(eps, length));
    UNARY_LOOP(v16_div(a, d))
}

/* dst = exp(dst - m); the sum of it. */
static inline float exp_and_sum(int64_t n, float *dst, float m)
{
    const struct v16 vm = v16_set1(m);
    struct v16 s = v16_set1(0.0f);
    for (; n >= SH_LANES; n -= SH_LANES, dst += SH_LANES) {
        const struct v16 e = v16_exp(v16_sub(v16_load(dst), vm));
        v16_store(dst, e);
        s = v16_add(s, e);
    }
    if (n > 0) {
        const unsigned bits = bits_below(n);
        const struct v16 e = v16_exp(v16_sub(v16_load_bits(dst, bits), vm));
        v16_store_bits(dst, e, bits);
        s = v16_add(s, v16_select(m16_of_bits(bits), e, v16_set1(0.0f)));
    }
    return v16_sum(s);
}

static void logits_masked(int64_t n, float *dst, const float *x, float scale, const float *y,
                          float slope)
{
    const struct v16 vs = v16_set1(scale), vm = v16_set1(slope);
    BINARY_LOOP(v16_add(v16_mul(a, vs), v16_mul(vm, b)))
}

static void soft_max_lanes(int64_t n, float *dst, const float *x, float scale, const float *mask,
                           float slope, const float *sink)
{
    if (mask) {
        logits_masked(n, dst, x, scale, mask, slope);
    } else {
        scale_lanes(n, dst, x, scale, 0.0f);
    }
    float m = max_row(n, dst);
    if (sink) m = sh_max_f32(*sink, m);
    float sum = exp_and_sum(n, dst, m);
    if (sink) sum += sh_exp_f32(*sink - m);
    scale_lanes(n, dst, dst, 1.0f / sum, 0.0f);
}

/* ---- rotations ---------------------------------------------------------------------------------
 */

static inline void rotate(struct v16 *a, struct v16 *b, struct v16 c, struct v16 s)
{
    const struct v16 x0 = *a, x1 = *b;
    *a = v16_sub(v16_mul(x0, c), v16_mul(x1, s));
    *b = v16_add(v16_mul(x0, s), v16_mul(x1, c));
}

static inline void copy_rest(int64_t n, int64_t first, float *dst, const float *x)
{
    if (dst == x || n <= first) return;
    memcpy(dst + first, x + first, (size_t)(n - first) * sizeof *dst);
}

static void rope_norm_lanes(int64_t n, int64_t n_pairs, float *dst, const float *x, const float *c,
                            const float *s)
{
    int64_t i = 0;
    for (; i + SH_LANES <= n_pairs; i += SH_LANES) {
        struct v16 even, odd, lo, hi;
        v16_unzip(v16_load(x + 2 * i), v16_load(x + 2 * i + SH_LANES), &even, &odd);
        rotate(&even, &odd, v16_load(c + i), v16_load(s + i));
        v16_zip(even, odd, &lo, &hi);
        v16_store(dst + 2 * i, lo);
        v16_store(dst + 2 * i + SH_LANES, hi);
    }
    for (; i < n_pairs; i++) {
        const float x0 = x[2 * i], x1 = x[2 * i + 1];
        const float x0c = x0 * c[i], x1s = x1 * s[i], x0s = x0 * s[i], x1c = x1 * c[i];
        dst[2 * i] = x0c - x1s;
        dst[2 * i + 1] = x0s + x1c;
    }
    copy_rest(n, 2 * n_pairs, dst, x);
}

static void rope_neox_lanes(int64_t n, int64_t n_pairs, float *dst, const float *x, const float *c,
                            const float *s)
{
    int64_t i = 0;
    for (; i + SH_LANES <= n_pairs; i += SH_LANES) {
        struct v16 a = v16_load(x + i), b = v16_load(x + n_pairs + i);
        rotate(&a, &b, v16_load(c + i), v16_load(s + i));
        v16_store(dst + i, a);
        v16_store(dst + n_pairs + i, b);
    }
    if (i < n_pairs) {
        const unsigned bits = bits_below(n_pairs - i);
        struct v16 a = v16_load_bits(x + i, bits), b = v16_load_bits(x + n_pairs + i, bits);
        rotate(&a, &b, v16_load_bits(c + i, bits), v16_load_bits(s + i, bits));
        v16_store_bits(dst + i, a, bits);
        v16_store_bits(dst + n_pairs + i, b, bits);
    }
    copy_rest(n, 2 * n_pairs, dst, x);
}

static void fill_rows(struct sh_kernels *k)
{
    k->add = add_lanes;
    k->sub = sub_lanes;
    k->mul = mul_lanes;
    k->div = div_lanes;
    k->scale = scale_lanes;
    k->clamp = clamp_lanes;
    k->add_scaled = add_scaled_lanes;
    k->relu = relu_lanes;
    k->sigmoid = sigmoid_lanes;
    k->silu = silu_lanes;
    k->gelu = gelu_lanes;
    k->gelu_erf = gelu_erf_lanes;
    k->gelu_quick = gelu_quick_lanes;
    k->tanh = tanh_lanes;
    k->exp = exp_lanes;
    k->softplus = softplus_lanes;
    k->sqr = sqr_lanes;
    k->sqrt = sqrt_lanes;
    k->neg = neg_lanes;
    k->abs = abs_lanes;
    k->swiglu = swiglu_lanes;
    k->geglu = geglu_lanes;
    k->reglu = reglu_lanes;
    k->sum = sum_lanes;
    k->max = max_lanes;
    k->dot = dot_lanes;
    k->rms_norm = rms_norm_lanes;
    k->layer_norm = layer_norm_lanes;
    k->l2_norm = l2_norm_lanes;
    k->soft_max = soft_max_lanes;
    k->rope_norm = rope_norm_lanes;
    k->rope_neox = rope_neox_lanes;
}

#endif
