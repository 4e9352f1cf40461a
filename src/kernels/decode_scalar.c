/* kernels/decode_scalar.c - expands rows of every supported type to f32.
 *
 * Products of scales come first, then the integer, then the minimum, each rounded to f32; the
 * 32-blocks and super-blocks go through their expanders.  The IQ1, IQ2 and IQ3 families need
 * large tables and have no decoder.  Threads: pure functions.
 */
#include "kernels/blocks.h"
#include "kernels/expand_priv.h"
#include "kernels/mm_priv.h"

static const int8_t FP4[16] = {SH_FP4_VALUES};

static void decode_f32(int64_t n, float *dst, const void *src)
{
    memcpy(dst, src, (size_t)n * sizeof *dst);
}

static void decode_f16(int64_t n, float *dst, const void *src)
{
    const uint8_t *p = src;

    for (int64_t i = 0; i < n; i++)
        dst[i] = sh_get_f16(p + 2 * i);
}

static void decode_bf16(int64_t n, float *dst, const void *src)
{
    const uint8_t *p = src;

    for (int64_t i = 0; i < n; i++)
        dst[i] = sh_bf16_to_f32(sh_get_u16(p + 2 * i));
}

static void decode_q32(int64_t n, float *dst, const uint8_t *src, sh_expand32_fn *expand,
                       size_t block_bytes, bool has_min)
{
    struct sh_q32 b;

    for (int64_t i = 0; i < n; i += 32, src += block_bytes) {
        expand(&b, src);
        for (int e = 0; e < 32; e++) {
            const float v = (float)b.q[e] * b.d;
            dst[i + e] = has_min ? v + b.m : v;
        }
    }
}

static void decode_q256(int64_t n, float *dst, const uint8_t *src, sh_expand256_fn *expand,
                        size_t block_bytes, bool has_min)
{
    struct sh_q256 b;

    for (int64_t i = 0; i < n; i += 256, src += block_bytes) {
        expand(&b, src);
        for (int e = 0; e < 256; e++) {
            const float v = b.d * (float)b.sc[e / 16] * (float)b.q[e];
            dst[i + e] = has_min ? v - b.dmin * (float)b.m[e / 16] : v;
        }
    }
}

/* The unsigned 8-bit float of nvfp4: 4 bits of exponent, 3 of fraction; bit 7 is ignored. */
static float ue4m3(uint8_t x)
{
    const int e = x >> 3 & 15, m = x & 7;

    if ((x & 0x7f) == 0x7f) return 0;
    if (e == 0) return (float)m * 0x1p-9f;
    return (float)(8 + m) * sh_f32_of_bits((uint32_t)(e - 10 + 127) << 23);
}

static void decode_nvfp4(int64_t n, float *dst, const void *src)
{
    const struct sh_block_nvfp4 *b = src;

    for (int64_t i = 0; i < n; i += 64, b++) {
        for (int e = 0; e < 64; e++) {
            const int t = e / 16;
            const int byte = b->qs[8 * t + e % 8];
            const int code = e % 16 < 8 ? byte & 15 : byte >> 4;
            dst[i + e] = (float)FP4[code] * (0.5f * ue4m3(b->d[t]));
        }
    }
}

static void decode_q1_0(int64_t n, float *dst, const void *src)
{
    const struct sh_block_q1_0 *b = src;

    for (int64_t i = 0; i < n; i += 128, b++) {
        const float d = sh_get_f16(b->d);
        for (int e = 0; e < 128; e++)
            dst[i + e] = b->qs[e / 8] >> e % 8 & 1 ? d : -d;
    }
}

static void decode_q2_0(int64_t n, float *dst, const void *src)
{
    const struct sh_block_q2_0 *b = src;

    for (int64_t i = 0; i < n; i += 64, b++) {
        const float d = sh_get_f16(b->d);
        for (int e = 0; e < 64; e++)
            dst[i + e] = (float)((b->qs[e / 4] >> 2 * (e % 4) & 3) - 1) * d;
    }
}

#define DECODE(name, kind, has_min)                                                                \
    static void decode_##name(int64_t n, float *dst, const void *src)                              \
    {                                                                                              \
        decode_##kind(n, dst, src, sh_expand_##name, sizeof(struct sh_block_##name), has_min);     \
    }

DECODE(q4_0, q32, false)
DECODE(q4_1, q32, true)
DECODE(q5_0, q32, false)
DECODE(q5_1, q32, true)
DECODE(q8_0, q32, false)
DECODE(iq4_nl, q32, false)
DECODE(mxfp4, q32, false)
DECODE(q2_K, q256, true)
DECODE(q3_K, q256, false)
DECODE(q4_K, q256, true)
DECODE(q5_K, q256, true)
DECODE(q6_K, q256, false)
DECODE(iq4_xs, q256, false)
DECODE(tq1_0, q256, false)
DECODE(tq2_0, q256, false)

void sh_decode_fill_scalar(struct sh_kernels *k)
{
    k->decode[SH_DTYPE_F32] = decode_f32;
    k->decode[SH_DTYPE_F16] = decode_f16;
    k->decode[SH_DTYPE_BF16] = decode_bf16;
    k->decode[SH_DTYPE_Q4_0] = decode_q4_0;
    k->decode[SH_DTYPE_Q4_1] = decode_q4_1;
    k->decode[SH_DTYPE_Q5_0] = decode_q5_0;
    k->decode[SH_DTYPE_Q5_1] = decode_q5_1;
    k->decode[SH_DTYPE_Q8_0] = decode_q8_0;
    k->decode[SH_DTYPE_IQ4_NL] = decode_iq4_nl;
    k->decode[SH_DTYPE_MXFP4] = decode_mxfp4;
    k->decode[SH_DTYPE_Q2_K] = decode_q2_K;
    k->decode[SH_DTYPE_Q3_K] = decode_q3_K;
    k->decode[SH_DTYPE_Q4_K] = decode_q4_K;
    k->decode[SH_DTYPE_Q5_K] = decode_q5_K;
    k->decode[SH_DTYPE_Q6_K] = decode_q6_K;
    k->decode[SH_DTYPE_IQ4_XS] = decode_iq4_xs;
    k->decode[SH_DTYPE_TQ1_0] = decode_tq1_0;
    k->decode[SH_DTYPE_TQ2_0] = decode_tq2_0;
    k->decode[SH_DTYPE_NVFP4] = decode_nvfp4;
    k->decode[SH_DTYPE_Q1_0] = decode_q1_0;
    k->decode[SH_DTYPE_Q2_0] = decode_q2_0;
}
