/* kernels/mm_scalar.c - the matrix products as they are defined.
 *
 * One loop per class of types: a block of weights is expanded to small integers, and each
 * activation row takes one step of its chain.  The chains live in dst between blocks, where they
 * keep their bits.  A class differs from the next only in the step:
 *
 *     32-blocks      acc = fma(isum, d * da, acc), with a minimum then acc = fma(m, s, acc)
 *     super-blocks   p = isum * d, with a minimum then p = fma(-dmin, msum, p);
 *                    acc = fma(p, da, acc)
 *     floats         acc = fma(w, a, acc) per element
 *
 * isum and msum are exact in 32 bits (docs/kernels.md has the bounds).  Threads: pure functions.
 */
#include <math.h>

#include "kernels/act_priv.h"
#include "kernels/blocks.h"
#include "kernels/expand_priv.h"
#include "kernels/mm_priv.h"
#include "kernels/quant_priv.h"
#include "kernels/tiers_priv.h"

/* The arguments of sh_mm_fn, gathered. */
struct product {
    int64_t k0, k1, n_out, n_act;
    float *dst;
    size_t dst_stride;
    const uint8_t *w;
    size_t w_stride;
    const uint8_t *act;
    size_t act_stride;
};

#define MM_ARGS                                                                                    \
    int64_t k_row, int64_t k0, int64_t k1, int64_t n_out, int64_t n_act, float *dst,               \
        size_t dst_stride, const void *w, size_t w_stride, const void *act, size_t act_stride
#define MM_PRODUCT                                                                                 \
    &(struct product)                                                                              \
    {                                                                                              \
        k0, k1, n_out, n_act, dst, dst_stride, w, w_stride, act, act_stride                        \
    }

static float *out_at(const struct product *p, int64_t i, int64_t j)
{
    return p->dst + (size_t)j * p->dst_stride + (size_t)i;
}

static void clear(const struct product *p)
{
    for (int64_t j = 0; j < p->n_act; j++) {
        for (int64_t i = 0; i < p->n_out; i++)
            *out_at(p, i, j) = 0;
    }
}

static int32_t dot_i8(int n, const int8_t *a, const int8_t *b)
{
    int32_t sum = 0;

    for (int i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* 32-blocks without a minimum, against q8_0. */
static void mm_q32(const struct product *p, sh_expand32_fn *expand, size_t block_bytes)
{
    struct sh_q32 w;

    clear(p);
    for (int64_t i = 0; i < p->n_out; i++) {
        const uint8_t *row = p->w + (size_t)i * p->w_stride;
        for (int64_t b = p->k0 / 32; b < p->k1 / 32; b++) {
            expand(&w, row + (size_t)b * block_bytes);
            for (int64_t j = 0; j < p->n_act; j++) {
                const struct sh_act_q8_0 *a =
                    (const struct sh_act_q8_0 *)(p->act + (size_t)j * p->act_stride) + b;
                float *acc = out_at(p, i, j);
                *acc = fmaf((float)dot_i8(32, w.q, a->q), w.d * a->d, *acc);
            }
        }
    }
}

/* 32-blocks with a minimum, against q8_1. */
static void mm_q32_min(const struct product *p, sh_expand32_fn *expand, size_t block_bytes)
{
    struct sh_q32 w;

    clear(p);
    for (int64_t i = 0; i < p->n_out; i++) {
        const uint8_t *row = p->w + (size_t)i * p->w_stride;
        for (int64_t b = p->k0 / 32; b < p->k1 / 32; b++) {
            expand(&w, row + (size_t)b * block_bytes);
            for (int64_t j = 0; j < p->n_act; j++) {
                const struct sh_act_q8_1 *a =
                    (const struct sh_act_q8_1 *)(p->act + (size_t)j * p->act_stride) + b;
                float *acc = out_at(p, i, j);
                *acc = fmaf((float)dot_i8(32, w.q, a->q), w.d * a->d, *acc);
                *acc = fmaf(w.m, a->s, *acc);
            }
        }
    }
}

/* One super-block of weights against one of activations. */
static float step_q256(const struct sh_q256 *w, const struct sh_act_q8_K *a, bool has_min,
                       float acc)
{
    int32_t isum = 0, msum = 0;
    float p;

    for (int j = 0; j < 16; j++) {
        isum += w->sc[j] * dot_i8(16, w->q + 16 * j, a->q + 16 * j);
        msum += w->m[j] * a->sum16[j];
    }
    p = (float)isum * w->d;
    if (has_min) p = fmaf(-w->dmin, (float)msum, p);
    return fmaf(p, a->d, acc);
}

static void mm_q256(const struct product *p, sh_expand256_fn *expand, size_t block_bytes,
                    bool has_min)
{
    struct sh_q256 w;

    clear(p);
    for (int64_t i = 0; i < p->n_out; i++) {
        const uint8_t *row = p->w + (size_t)i * p->w_stride;
        for (int64_t b = p->k0 / 256; b < p->k1 / 256; b++) {
            expand(&w, row + (size_t)b * block_bytes);
            for (int64_t j = 0; j < p->n_act; j++) {
                const struct sh_act_q8_K *a =
                    (const struct sh_act_q8_K *)(p->act + (size_t)j * p->act_stride) + b;
                float *acc = out_at(p, i, j);
                *acc = step_q256(&w, a, has_min, *acc);
            }
        }
    }
}

/* Weights that are plain floats: expanded a run at a time. */
enum { RUN = 256 };

static float load_f32(const uint8_t *p)
{
    return sh_f32_of_bits(sh_get_u32(p));
}

static float load_bf16(const uint8_t *p)
{
    return sh_bf16_to_f32(sh_get_u16(p));
}

static void mm_float(const struct product *p, float (*load)(const uint8_t *), size_t bytes)
{
    float w[RUN];

    clear(p);
    for (int64_t i = 0; i < p->n_out; i++) {
        const uint8_t *row = p->w + (size_t)i * p->w_stride;
        for (int64_t k = p->k0; k < p->k1; k += RUN) {
            const int64_t n = p->k1 - k < RUN ? p->k1 - k : RUN;
            for (int64_t e = 0; e < n; e++)
                w[e] = load(row + (size_t)(k + e) * bytes);
            for (int64_t j = 0; j < p->n_act; j++) {
                const float *a = (const float *)(p->act + (size_t)j * p->act_stride) + k;
                float acc = *out_at(p, i, j);
                for (int64_t e = 0; e < n; e++)
                    acc = fmaf(w[e], a[e], acc);
                *out_at(p, i, j) = acc;
            }
        }
    }
}

#define MM_TYPE(name, call)                                                                        \
    static void mm_##name(MM_ARGS)                                                                 \
    {                                                                                              \
        (void)k_row;                                                                               \
        call;                                                                                      \
    }
#define MM_Q32(name, kind)                                                                         \
    MM_TYPE(name, mm_##kind(MM_PRODUCT, sh_expand_##name, sizeof(struct sh_block_##name)))
#define MM_Q256(name, has_min)                                                                     \
    MM_TYPE(name, mm_q256(MM_PRODUCT, sh_expand_##name, sizeof(struct sh_block_##name), has_min))

MM_TYPE(f32, mm_float(MM_PRODUCT, load_f32, 4))
MM_TYPE(f16, mm_float(MM_PRODUCT, sh_get_f16, 2))
MM_TYPE(bf16, mm_float(MM_PRODUCT, load_bf16, 2))
MM_Q32(q4_0, q32)
MM_Q32(q4_1, q32_min)
MM_Q32(q5_0, q32)
MM_Q32(q5_1, q32_min)
MM_Q32(q8_0, q32)
MM_Q32(iq4_nl, q32)
MM_Q32(mxfp4, q32)
MM_Q256(q2_K, true)
MM_Q256(q3_K, false)
MM_Q256(q4_K, true)
MM_Q256(q5_K, true)
MM_Q256(q6_K, false)

void sh_mm_fill_scalar(struct sh_kernels *k)
{
    sh_act_fill_scalar(k);
    sh_decode_fill_scalar(k);
    sh_encode_fill_scalar(k);
    sh_encode_k_fill_scalar(k);
    k->mm[SH_DTYPE_F32] = mm_f32;
    k->mm[SH_DTYPE_F16] = mm_f16;
    k->mm[SH_DTYPE_BF16] = mm_bf16;
    k->mm[SH_DTYPE_Q4_0] = mm_q4_0;
    k->mm[SH_DTYPE_Q4_1] = mm_q4_1;
    k->mm[SH_DTYPE_Q5_0] = mm_q5_0;
    k->mm[SH_DTYPE_Q5_1] = mm_q5_1;
    k->mm[SH_DTYPE_Q8_0] = mm_q8_0;
    k->mm[SH_DTYPE_IQ4_NL] = mm_iq4_nl;
    k->mm[SH_DTYPE_MXFP4] = mm_mxfp4;
    k->mm[SH_DTYPE_Q2_K] = mm_q2_K;
    k->mm[SH_DTYPE_Q3_K] = mm_q3_K;
    k->mm[SH_DTYPE_Q4_K] = mm_q4_K;
    k->mm[SH_DTYPE_Q5_K] = mm_q5_K;
    k->mm[SH_DTYPE_Q6_K] = mm_q6_K;
}
