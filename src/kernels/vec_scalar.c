/* kernels/vec_scalar.c - the definitions of the kernels on rows of f32 and of the rotations.
 *
 * Written to be read: each loop states the order of its roundings, and the vector tiers repeat it
 * bit for bit.  Compiled without auto-vectorisation.  Threads: pure functions.
 */
#include "kernels/vec_priv.h"

#include <math.h>
#include <string.h>

#include "kernels/math_priv.h"
#include "kernels/tiers_priv.h"

/* ---- element by element ------------------------------------------------------------------------
 */

#define UNARY(name, expr)                                                                          \
    void sh_##name##_scalar(int64_t n, float *dst, const float *x)                                 \
    {                                                                                              \
        for (int64_t i = 0; i < n; i++)                                                            \
            dst[i] = expr;                                                                         \
    }
#define BINARY(name, expr)                                                                         \
    void sh_##name##_scalar(int64_t n, float *dst, const float *a, const float *b)                 \
    {                                                                                              \
        for (int64_t i = 0; i < n; i++)                                                            \
            dst[i] = expr;                                                                         \
    }

BINARY(add, a[i] + b[i])
BINARY(sub, a[i] - b[i])
BINARY(mul, a[i] * b[i])
BINARY(div, a[i] / b[i])
UNARY(relu, sh_max_f32(x[i], 0.0f))
UNARY(sigmoid, sh_sigmoid_f32(x[i]))
UNARY(silu, sh_silu_f32(x[i]))
UNARY(gelu, sh_gelu_f32(x[i]))
UNARY(gelu_erf, sh_gelu_erf_f32(x[i]))
UNARY(gelu_quick, sh_gelu_quick_f32(x[i]))
UNARY(tanh, sh_tanh_f32(x[i]))
UNARY(exp, sh_exp_f32(x[i]))
UNARY(softplus, sh_softplus_f32(x[i]))
UNARY(sqr, x[i] * x[i])
UNARY(sqrt, sqrtf(x[i]))
UNARY(neg, sh_neg_f32(x[i]))
UNARY(abs, sh_abs_f32(x[i]))
BINARY(swiglu, sh_silu_f32(a[i]) * b[i])
BINARY(geglu, sh_gelu_f32(a[i]) * b[i])
BINARY(reglu, sh_max_f32(a[i], 0.0f) * b[i])

void sh_scale_scalar(int64_t n, float *dst, const float *x, float scale, float bias)
{
    for (int64_t i = 0; i < n; i++) {
        const float t = x[i] * scale;
        dst[i] = bias != 0.0f ? t + bias : t;
    }
}

void sh_clamp_scalar(int64_t n, float *dst, const float *x, float lo, float hi)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = sh_min_f32(hi, sh_max_f32(lo, x[i]));
}

void sh_add_scaled_scalar(int64_t n, float *acc, const float *x, float w)
{
    for (int64_t i = 0; i < n; i++) {
        const float t = w * x[i];
        acc[i] = acc[i] + t;
    }
}

/* ---- reductions --------------------------------------------------------------------------------
 */

float sh_sum_scalar(int64_t n, const float *x)
{
    float lane[SH_LANES] = {0};
    for (int64_t i = 0; i < n; i++)
        lane[i % SH_LANES] += x[i];
    return sh_tree_f32(lane);
}

float sh_max_scalar(int64_t n, const float *x)
{
    float lane[SH_LANES];
    for (int j = 0; j < SH_LANES; j++)
        lane[j] = -INFINITY;
    for (int64_t i = 0; i < n; i++)
        lane[i % SH_LANES] = sh_max_f32(x[i], lane[i % SH_LANES]);
    for (int s = SH_LANES / 2; s > 0; s /= 2)
        for (int j = 0; j < s; j++)
            lane[j] = sh_max_f32(lane[j + s], lane[j]);
    return lane[0];
}

float sh_dot_scalar(int64_t n, const float *a, const float *b)
{
    float lane[SH_LANES] = {0};
    for (int64_t i = 0; i < n; i++)
        lane[i % SH_LANES] = fmaf(a[i], b[i], lane[i % SH_LANES]);
    return sh_tree_f32(lane);
}

static double sum_of_squares(int64_t n, const float *x, float mean)
{
    double lane[SH_LANES] = {0};
    for (int64_t i = 0; i < n; i++) {
        const float d = x[i] - mean;
        lane[i % SH_LANES] += (double)(d * d);
    }
    return sh_tree_f64(lane);
}

void sh_rms_norm_scalar(int64_t n, float *dst, const float *x, float eps)
{
    const float mean_square = (float)(sum_of_squares(n, x, 0.0f) / (double)n);
    const float s = 1.0f / sqrtf(mean_square + eps);
    for (int64_t i = 0; i < n; i++)
        dst[i] = x[i] * s;
}

void sh_layer_norm_scalar(int64_t n, float *dst, const float *x, float eps)
{
    double lane[SH_LANES] = {0};
    for (int64_t i = 0; i < n; i++)
        lane[i % SH_LANES] += (double)x[i];
    const float mean = (float)(sh_tree_f64(lane) / (double)n);
    const float variance = (float)(sum_of_squares(n, x, mean) / (double)n);
    const float s = 1.0f / sqrtf(variance + eps);
    for (int64_t i = 0; i < n; i++)
        dst[i] = (x[i] - mean) * s;
}

void sh_l2_norm_scalar(int64_t n, float *dst, const float *x, float eps)
{
    const float length = sqrtf((float)sum_of_squares(n, x, 0.0f));
    const float d = sh_max_f32(eps, length);
    for (int64_t i = 0; i < n; i++)
        dst[i] = x[i] / d;
}

void sh_soft_max_scalar(int64_t n, float *dst, const float *x, float scale, const float *mask,
                        float slope, const float *sink)
{
    for (int64_t i = 0; i < n; i++) {
        const float z = x[i] * scale;
        const float t = mask ? slope * mask[i] : 0.0f;
        dst[i] = mask ? z + t : z;
    }
    float m = sh_max_scalar(n, dst);
    if (sink) m = sh_max_f32(*sink, m);

    float lane[SH_LANES] = {0};
    for (int64_t i = 0; i < n; i++) {
        dst[i] = sh_exp_f32(dst[i] - m);
        lane[i % SH_LANES] += dst[i];
    }
    float sum = sh_tree_f32(lane);
    if (sink) sum += sh_exp_f32(*sink - m);
    const float r = 1.0f / sum;
    for (int64_t i = 0; i < n; i++)
        dst[i] *= r;
}

/* ---- rotations ---------------------------------------------------------------------------------
 */

static void rotate(float *y0, float *y1, float x0, float x1, float c, float s)
{
    const float x0c = x0 * c, x1s = x1 * s, x0s = x0 * s, x1c = x1 * c;
    *y0 = x0c - x1s;
    *y1 = x0s + x1c;
}

static void copy_rest(int64_t n, int64_t first, float *dst, const float *x)
{
    if (dst == x || n <= first) return;
    memcpy(dst + first, x + first, (size_t)(n - first) * sizeof *dst);
}

void sh_rope_norm_scalar(int64_t n, int64_t n_pairs, float *dst, const float *x, const float *c,
                         const float *s)
{
    for (int64_t i = 0; i < n_pairs; i++)
        rotate(&dst[2 * i], &dst[2 * i + 1], x[2 * i], x[2 * i + 1], c[i], s[i]);
    copy_rest(n, 2 * n_pairs, dst, x);
}

void sh_rope_neox_scalar(int64_t n, int64_t n_pairs, float *dst, const float *x, const float *c,
                         const float *s)
{
    for (int64_t i = 0; i < n_pairs; i++)
        rotate(&dst[i], &dst[i + n_pairs], x[i], x[i + n_pairs], c[i], s[i]);
    copy_rest(n, 2 * n_pairs, dst, x);
}

void sh_vec_fill_scalar(struct sh_kernels *k)
{
#define X(name, ret, args) k->name = sh_##name##_scalar;
    SH_VECTOR_KERNELS(X)
#undef X
}
