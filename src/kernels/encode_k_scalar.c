/* kernels/encode_k_scalar.c - rounds rows of f32 to super-blocks.
 *
 * No search: each run of 16 or 32 elements gets the scale (and minimum) that spans it, these are
 * rounded to the few bits that the block has for them, and the codes are fitted to the scales as
 * they were stored.  Good enough for test models and caches; a file's own quantiser does better.
 * Threads: pure functions.
 */
#include "kernels/blocks.h"
#include "kernels/mm_priv.h"
#include "kernels/quant_priv.h"

/* Scales and minima of the runs of one super-block, and what they were rounded to. */
struct fit {
    float scale[16], min[16]; /* min <= 0 */
    int sc[16], m[16];
    float d, dmin; /* as stored */
};

static float as_f16(float v)
{
    return sh_f16_to_f32(sh_f32_to_f16(v));
}

static float ratio(float a, float b)
{
    return b != 0 ? a / b : 0.0f;
}

/* v rounded half away from zero and held in lo..hi; lo <= 0. */
static int round_held(float v, int lo, int hi)
{
    if (v < 0) return -sh_quant_clamp(0.5f - v, -lo);
    return sh_quant_clamp(v + 0.5f, hi);
}

/* Runs of `len` elements with codes 0..top; scales and minima of at most `sc_top`. */
static void fit_min(struct fit *f, const float *x, int len, int top, int sc_top)
{
    float scale_max = 0, min_max = 0;
    const int n = 256 / len;

    for (int j = 0; j < n; j++) {
        float lo = 0, hi = 0;
        for (int e = 0; e < len; e++) {
            const float v = x[j * len + e];
            if (v < lo) lo = v;
            if (v > hi) hi = v;
        }
        f->scale[j] = (hi - lo) / (float)top;
        f->min[j] = lo;
        if (f->scale[j] > scale_max) scale_max = f->scale[j];
        if (-lo > min_max) min_max = -lo;
    }
    f->d = as_f16(scale_max / (float)sc_top);
    f->dmin = as_f16(min_max / (float)sc_top);
    for (int j = 0; j < n; j++) {
        f->sc[j] = round_held(ratio(f->scale[j], f->d), 0, sc_top);
        f->m[j] = round_held(ratio(-f->min[j], f->dmin), 0, sc_top);
    }
}

/* Runs of 16 with codes -half..half-1 and signed scales -sc_half..sc_half-1. */
static void fit_signed(struct fit *f, const float *x, int half, int sc_half)
{
    for (int j = 0; j < 16; j++)
        f->scale[j] = sh_quant_extreme(16, x + 16 * j) / (float)-half;
    f->d = as_f16(sh_quant_extreme(16, f->scale) / (float)-sc_half);
    f->dmin = 0;
    for (int j = 0; j < 16; j++) {
        f->m[j] = 0;
        f->sc[j] = round_held(ratio(f->scale[j], f->d), -sc_half, sc_half - 1);
    }
}

/* The code of v in run j, lo..hi. */
static int code_of(const struct fit *f, int j, float v, int lo, int hi)
{
    return round_held(ratio(v + f->dmin * (float)f->m[j], f->d * (float)f->sc[j]), lo, hi);
}

static void encode_q2_K(int64_t n, void *dst, const float *src)
{
    struct sh_block_q2_K *b = dst;
    struct fit f;

    for (int64_t i = 0; i < n; i += 256, b++, src += 256) {
        memset(b, 0, sizeof *b);
        fit_min(&f, src, 16, 3, 15);
        sh_put_f16(b->d, f.d);
        sh_put_f16(b->dmin, f.dmin);
        for (int j = 0; j < 16; j++)
            b->scales[j] = (uint8_t)(f.sc[j] | f.m[j] << 4);
        for (int e = 0; e < 256; e++) {
            const int q = code_of(&f, e / 16, src[e], 0, 3);
            b->qs[32 * (e / 128) + e % 32] |= (uint8_t)(q << 2 * (e % 128 / 32));
        }
    }
}

static void encode_q3_K(int64_t n, void *dst, const float *src)
{
    struct sh_block_q3_K *b = dst;
    struct fit f;

    for (int64_t i = 0; i < n; i += 256, b++, src += 256) {
        memset(b, 0, sizeof *b);
        fit_signed(&f, src, 4, 32);
        sh_put_f16(b->d, f.d);
        for (int j = 0; j < 16; j++) {
            const int sc = f.sc[j] + 32;
            b->scales[j % 8] |= (uint8_t)((sc & 15) << 4 * (j / 8));
            b->scales[8 + j % 4] |= (uint8_t)(sc >> 4 << 2 * (j / 4));
        }
        for (int e = 0; e < 256; e++) {
            const int q = code_of(&f, e / 16, src[e], -4, 3) + 4;
            b->qs[32 * (e / 128) + e % 32] |= (uint8_t)((q & 3) << 2 * (e % 128 / 32));
            b->hmask[e % 32] |= (uint8_t)(q >> 2 << e / 32);
        }
    }
}

/* The 12 bytes that hold eight 6-bit scales and minima. */
static void put_scales_k(uint8_t p[12], const struct fit *f)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(f->sc[i] | f->sc[i + 4] >> 4 << 6);
        p[i + 4] = (uint8_t)(f->m[i] | f->m[i + 4] >> 4 << 6);
        p[i + 8] = (uint8_t)((f->sc[i + 4] & 15) | (f->m[i + 4] & 15) << 4);
    }
}

static void encode_q4_K(int64_t n, void *dst, const float *src)
{
    struct sh_block_q4_K *b = dst;
    struct fit f;

    for (int64_t i = 0; i < n; i += 256, b++, src += 256) {
        memset(b, 0, sizeof *b);
        fit_min(&f, src, 32, 15, 63);
        sh_put_f16(b->d, f.d);
        sh_put_f16(b->dmin, f.dmin);
        put_scales_k(b->scales, &f);
        for (int e = 0; e < 256; e++) {
            const int q = code_of(&f, e / 32, src[e], 0, 15);
            b->qs[32 * (e / 64) + e % 32] |= (uint8_t)(q << 4 * (e / 32 % 2));
        }
    }
}

static void encode_q5_K(int64_t n, void *dst, const float *src)
{
    struct sh_block_q5_K *b = dst;
    struct fit f;

    for (int64_t i = 0; i < n; i += 256, b++, src += 256) {
        memset(b, 0, sizeof *b);
        fit_min(&f, src, 32, 31, 63);
        sh_put_f16(b->d, f.d);
        sh_put_f16(b->dmin, f.dmin);
        put_scales_k(b->scales, &f);
        for (int e = 0; e < 256; e++) {
            const int q = code_of(&f, e / 32, src[e], 0, 31);
            b->qs[32 * (e / 64) + e % 32] |= (uint8_t)((q & 15) << 4 * (e / 32 % 2));
            b->qh[e % 32] |= (uint8_t)(q >> 4 << e / 32);
        }
    }
}

static void encode_q6_K(int64_t n, void *dst, const float *src)
{
    struct sh_block_q6_K *b = dst;
    struct fit f;

    for (int64_t i = 0; i < n; i += 256, b++, src += 256) {
        memset(b, 0, sizeof *b);
        fit_signed(&f, src, 32, 128);
        sh_put_f16(b->d, f.d);
        for (int j = 0; j < 16; j++)
            b->scales[j] = (uint8_t)f.sc[j];
        for (int e = 0; e < 256; e++) {
            const int q = code_of(&f, e / 16, src[e], -32, 31) + 32;
            const int h = e / 128, k = e % 128 / 32, l = e % 32;
            b->ql[64 * h + 32 * (k & 1) + l] |= (uint8_t)((q & 15) << 4 * (k / 2));
            b->qh[32 * h + l] |= (uint8_t)(q >> 4 << 2 * k);
        }
    }
}

static void encode_q8_K(int64_t n, void *dst, const float *src)
{
    struct sh_block_q8_K *b = dst;
    int8_t q[256];

    for (int64_t i = 0; i < n; i += 256, b++, src += 256) {
        sh_put_u32(b->d, sh_bits_of_f32(sh_quant_q8_K(q, src)));
        memcpy(b->qs, q, sizeof q);
        for (int j = 0; j < 16; j++)
            sh_put_u16(b->bsums + 2 * j, (uint16_t)sh_quant_sum(16, q + 16 * j));
    }
}

void sh_encode_k_fill_scalar(struct sh_kernels *k)
{
    k->encode[SH_DTYPE_Q2_K] = encode_q2_K;
    k->encode[SH_DTYPE_Q3_K] = encode_q3_K;
    k->encode[SH_DTYPE_Q4_K] = encode_q4_K;
    k->encode[SH_DTYPE_Q5_K] = encode_q5_K;
    k->encode[SH_DTYPE_Q6_K] = encode_q6_K;
    k->encode[SH_DTYPE_Q8_K] = encode_q8_K;
}
