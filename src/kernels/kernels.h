/* kernels/kernels.h - the number crunching, one table of functions per instruction set.
 *
 * The scalar version of a kernel is its specification: every tier gives the same bits, for every
 * shape and alignment, and the checker in tests/kernels compares them.  The lists below are the
 * one place where a kernel is named; the table, the scalar tier, the checker and the bench expand
 * from them.
 *
 * Definitions that all kernels share:
 *  - "16 lanes": element i goes to lane i % 16, each lane is a chain in ascending order, and the
 *    lanes are added as a tree: lane[j] += lane[j + s] for s = 8, 4, 2, 1 (j < s).
 *  - fma only where a definition says fma; no libm: exp, tanh, sin, cos, pow are ours
 *    (kernels/math_priv.h), described by their scalar form.
 *  - round to nearest even everywhere; f16 and bf16 conversions too.  MXCSR is never touched.
 *  - A NaN is one value: its payload is not part of the definition.
 *
 * Kernels never allocate, log, fail or know about threads.  Pointers need the alignment of their
 * element only.  dst may equal a source of the same type exactly, never overlap it otherwise,
 * unless a row says more.  Threads: pure functions.
 */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tensor/dtype.h"

enum sh_isa {                    /* bits of a tier mask */
              SH_ISA_AVX2 = 1,   /* AVX2, FMA, F16C, BMI2 */
              SH_ISA_AVX512 = 2, /* F, BW, VL, DQ; with VNNI */
              SH_ISA_NEON = 4,   /* every arm64 */
              SH_ISA_DOTPROD = 8 /* NEON's dot products of bytes; with SH_ISA_NEON */
};

/* ---- rows of f32 -----------------------------------------------------------------------------
 * n elements; x, a, b are sources. */
#define SH_VECTOR_KERNELS(X)                                                                       \
    X(add, void, (int64_t n, float *dst, const float *a, const float *b))                          \
    X(sub, void, (int64_t n, float *dst, const float *a, const float *b))                          \
    X(mul, void, (int64_t n, float *dst, const float *a, const float *b))                          \
    X(div, void, (int64_t n, float *dst, const float *a, const float *b))                          \
    /* x * scale, then + bias where bias != 0 (two roundings) */                                   \
    X(scale, void, (int64_t n, float *dst, const float *x, float scale, float bias))               \
    /* NaN stays; min(max(x, lo), hi) */                                                           \
    X(clamp, void, (int64_t n, float *dst, const float *x, float lo, float hi))                    \
    /* acc[i] = acc[i] + w * x[i], two roundings (the weighted sum over experts) */                \
    X(add_scaled, void, (int64_t n, float *acc, const float *x, float w))                          \
    X(relu, void, (int64_t n, float *dst, const float *x))                                         \
    X(sigmoid, void, (int64_t n, float *dst, const float *x)) /* 1 / (1 + exp(-x)) */              \
    X(silu, void, (int64_t n, float *dst, const float *x))    /* x / (1 + exp(-x)) */              \
    /* tanh form through f16: f16(gelu(f16(x))) inside (-10, 10); 0 below, x above */              \
    X(gelu, void, (int64_t n, float *dst, const float *x))                                         \
    X(gelu_erf, void, (int64_t n, float *dst, const float *x))                                     \
    X(gelu_quick, void, (int64_t n, float *dst, const float *x)) /* x * sigmoid(1.702 x) */        \
    X(tanh, void, (int64_t n, float *dst, const float *x))                                         \
    X(exp, void, (int64_t n, float *dst, const float *x))                                          \
    X(softplus, void, (int64_t n, float *dst, const float *x)) /* x > 20: x; else log(1+exp x) */  \
    X(sqr, void, (int64_t n, float *dst, const float *x))                                          \
    X(sqrt, void, (int64_t n, float *dst, const float *x))                                         \
    X(neg, void, (int64_t n, float *dst, const float *x))                                          \
    X(abs, void, (int64_t n, float *dst, const float *x))                                          \
    X(swiglu, void, (int64_t n, float *dst, const float *gate, const float *up))                   \
    X(geglu, void, (int64_t n, float *dst, const float *gate, const float *up))                    \
    X(reglu, void, (int64_t n, float *dst, const float *gate, const float *up))                    \
    /* 16 lanes of f32 */                                                                          \
    X(sum, float, (int64_t n, const float *x))                                                     \
    X(max, float, (int64_t n, const float *x)) /* -inf for n = 0; NaN is ignored */                \
    /* 16 lanes, fma */                                                                            \
    X(dot, float, (int64_t n, const float *a, const float *b))                                     \
    /* squares in f32, summed in 16 lanes of f64; s = 1 / sqrtf((float)(sum / n) + eps); x * s */  \
    X(rms_norm, void, (int64_t n, float *dst, const float *x, float eps))                          \
    /* mean and variance in 16 lanes of f64; (x - mean) * s */                                     \
    X(layer_norm, void, (int64_t n, float *dst, const float *x, float eps))                        \
    X(l2_norm, void, (int64_t n, float *dst, const float *x, float eps)) /* x / max(|x|, eps) */   \
    /* z = x * scale (+ slope * mask where mask is given); m = max(z, *sink); e = exp(z - m);      \
     * sum in 16 lanes (+ exp(sink - m)); e / sum as e * (1 / sum).  mask, sink may be NULL. */    \
    X(soft_max, void,                                                                              \
      (int64_t n, float *dst, const float *x, float scale, const float *mask, float slope,         \
       const float *sink))                                                                         \
    /* Rotate pairs by precomputed cos and sin (sh_rope_angles): NORM pairs (2i, 2i+1), NEOX pairs \
     * (i, i + n_pairs).  y0 = x0*c - x1*s, y1 = x0*s + x1*c, products rounded, no fma.  Channels  \
     * from 2*n_pairs to n are copied. */                                                          \
    X(rope_norm, void,                                                                             \
      (int64_t n, int64_t n_pairs, float *dst, const float *x, const float *c, const float *s))    \
    X(rope_neox, void,                                                                             \
      (int64_t n, int64_t n_pairs, float *dst, const float *x, const float *c, const float *s))    \
    /* One block of at most 64 keys of one KV head, against n_q query heads that share it: online  \
     * softmax.  Bit i of `visible` says whether key i takes part; only then is its k, its v or    \
     * bias[i] read.  Key i keeps its place i whether others are visible or not.  k_stride and     \
     * v_stride count elements.  q: [n_q][dk] f32 (rounded to f16 by the caller where the cache    \
     * is f16).  z_i = dot16lanes(q, k_i) * scale; soft-cap c*tanh(z/c) where softcap != 0; +      \
     * bias[i] where given.  m' = max(m, max z); r = exp(m - m'); acc *= r; l *= r; p_i = exp(z_i  \
     * - m'), 0 for hidden keys; l += 16-lane sum of p over 64 places; acc = fma(p_i, v_i, acc),   \
     * ascending i, hidden keys skipped.  State per query head: m (start -inf), l (0), acc[dv]     \
     * (0).  m' = -inf (no visible key, or all masked by bias): state unchanged. */                \
    X(attn_block_f16, void,                                                                        \
      (int64_t dk, int64_t dv, int64_t n_q, const float *q, const uint16_t *k, size_t k_stride,    \
       const uint16_t *v, size_t v_stride, uint64_t visible, float scale, float softcap,           \
       const float *bias, float *m, float *l, float *acc))                                         \
    X(attn_block_f32, void,                                                                        \
      (int64_t dk, int64_t dv, int64_t n_q, const float *q, const float *k, size_t k_stride,       \
       const float *v, size_t v_stride, uint64_t visible, float scale, float softcap,              \
       const float *bias, float *m, float *l, float *acc))                                         \
    /* Merge the state (m2, l2, acc2) of later keys into (m, l, acc): M = max; each side scaled by \
     * exp(its m - M); sums added.  Either side may be empty (m = -inf). */                        \
    X(attn_merge, void,                                                                            \
      (int64_t dv, float *m, float *l, float *acc, float m2, float l2, const float *acc2))         \
    /* Depthwise causal convolution over one sequence's run: x [n_t][n_ch] (row stride x_stride    \
     * floats), w [n_ch][width], state [n_ch][width-1], time fastest, oldest first: read from      \
     * state_in (NULL = zeros), written to state_out.  y = ascending fma chain over the taps,      \
     * from +0; y does not overlap x. */                                                           \
    X(conv_run, void,                                                                              \
      (int64_t n_ch, int64_t width, int64_t n_t, float *y, size_t y_stride, const float *x,        \
       size_t x_stride, const float *w, const float *state_in, float *state_out))                  \
    /* Selective scan (Mamba-2) of one head over one run: h[d_head][d_state] starts from state_in  \
     * (NULL = zeros) and ends in state_out.  Per step t: dt = softplus(dt[t] + dt_bias),          \
     * decay = exp(dt * a), h = h*decay + (x*dt)*B (products rounded, then one add),               \
     * y = dot16lanes(h, C) + d * x. */                                                            \
    X(ssm_run, void,                                                                               \
      (int64_t d_head, int64_t d_state, int64_t n_t, float *y, size_t y_stride, const float *x,    \
       size_t x_stride, const float *dt, size_t dt_stride, float dt_bias, float a, float d,        \
       const float *b, const float *c, size_t bc_stride, const float *state_in, float *state_out))

/* ---- matrix products --------------------------------------------------------------------------
 * One function per weight type.  Computes, for i < n_out and j < n_act,
 *     dst[j * dst_stride + i] = chain(weight row i, activation row j) over k in [k0, k1)
 * with the chain of the type (docs/kernels.md; 32-blocks: acc = fma((float)isum, dw*da, acc), types
 * with a minimum: then fma(m, s, acc); K types: p = isum*dw; p = fma(-dmin, msum, p);
 * acc = fma(p, da, acc); f32, f16, bf16: ascending fma chain).  acc starts at +0.
 * w: row i at w + i * w_stride, GGUF's block layout, beginning at k = 0.
 * act: row j at act + j * act_stride in the private layout of sh_act_row_bytes(), made for rows
 * of k_row elements by the `act` kernel of the weight's partner type.
 * k0, k1 are multiples of the type's block length; k0 = k1 gives 0. */
typedef void sh_mm_fn(int64_t k_row, int64_t k0, int64_t k1, int64_t n_out, int64_t n_act,
                      float *dst, size_t dst_stride, const void *w, size_t w_stride,
                      const void *act, size_t act_stride);

/* Round a row of k f32 values to the private activation layout of a partner type (F32, F16, BF16,
 * Q8_0, Q8_1, Q8_K).  k is a multiple of the partner's block length. */
typedef void sh_act_fn(int64_t k, void *dst, const float *x);

/* Bytes of one activation row (a multiple of 64); 0 if `partner` is no partner type. */
size_t sh_act_row_bytes(enum sh_dtype partner, int64_t k);

/* Expand / encode n elements (whole blocks) in GGUF's layout. */
typedef void sh_decode_fn(int64_t n, float *dst, const void *src);
typedef void sh_encode_fn(int64_t n, void *dst, const float *src);

/* Weight types with a product; X(type) */
/* clang-format off */
#define SH_MM_TYPES(X)                                                                             \
    X(F32) X(F16) X(BF16)                                                                          \
    X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(IQ4_NL) X(MXFP4)                                     \
    X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K)
/* clang-format on */

struct sh_kernels {
#define X(name, ret, args) ret(*name) args;
    SH_VECTOR_KERNELS(X)
#undef X
    sh_mm_fn *mm[SH_DTYPE_COUNT];         /* by weight type; NULL = no product */
    sh_act_fn *act[SH_DTYPE_COUNT];       /* by partner type; NULL = no partner */
    sh_decode_fn *decode[SH_DTYPE_COUNT]; /* by type; NULL = cannot be expanded */
    sh_encode_fn *encode[SH_DTYPE_COUNT]; /* by type; NULL = cannot be made at run time */
};

/* Tiers that this CPU and this system grant (CPUID and XGETBV; HWCAP). */
unsigned sh_isa_detect(void);
/* The same, masked by SHOAL_CPU=scalar|avx2|avx512|neon|dotprod (each includes the ones below it
 * on its machine). */
unsigned sh_isa_allowed(void);
/* "scalar", "avx2", "avx512", "neon", "dotprod": the best tier in a mask. */
const char *sh_isa_name(unsigned isa);

/* Fill `k` for exactly the tiers in `isa`.  Pure; tests call it once per tier. */
void sh_kernels_fill(struct sh_kernels *k, unsigned isa);
/* The process's table, filled once for sh_isa_allowed(). */
const struct sh_kernels *sh_kernels(void);

/* ---- rope angles (scalar in every tier) -------------------------------------------------------
 * Parameters as in llama.cpp's ROPE op; kernels/rope.c opens with the formulas (yarn included). */
struct sh_rope_params {
    int64_t n_dims; /* rotated channels, even */
    int64_t n_ctx_orig;
    float freq_base, freq_scale, ext_factor, attn_factor, beta_fast, beta_slow;
};
/* inv_freq[i] = freq_base^(-2i/n_dims) in f64, for i < n_dims/2. */
void sh_rope_frequencies(const struct sh_rope_params *p, double *inv_freq);
/* cos and sin (times the magnitude scale) of one position for the n_dims/2 pairs; ff: frequency
 * factors or NULL.  The angle is formed and reduced in f64. */
void sh_rope_angles(const struct sh_rope_params *p, const double *inv_freq, const float *ff,
                    int32_t pos, float *c, float *s);

/* ---- shared scalar helpers --------------------------------------------------------------------*/
float sh_f16_to_f32(uint16_t h);
uint16_t sh_f32_to_f16(float f); /* round to nearest even */
float sh_bf16_to_f32(uint16_t h);
uint16_t sh_f32_to_bf16(float f);

#endif
