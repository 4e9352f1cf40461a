/* kernels/encode_scalar.c - rounds rows of f32 to plain floats and 32-blocks.
 *
 * The rules are those of the formats' usual encoders (a KV cache and quantised test models are
 * made with them): the scale is rounded to f16 for storage, the codes come from the unrounded
 * one.  NaN elements take the lowest code.  Threads: pure functions.
 */
#include "kernels/blocks.h"
#include "kernels/mm_priv.h"
#include "kernels/quant_priv.h"

static const int8_t IQ4[16] = {SH_IQ4_VALUES};
static const int8_t FP4[16] = {SH_FP4_VALUES};

static void encode_f32(int64_t n, void *dst, const float *src)
{
    memcpy(dst, src, (size_t)n * sizeof *src);
}

static void encode_f16(int64_t n, void *dst, const float *src)
{
    uint8_t *p = dst;

    for (int64_t i = 0; i < n; i++)
        sh_put_f16(p + 2 * i, src[i]);
}

static void encode_bf16(int64_t n, void *dst, const float *src)
{
    uint8_t *p = dst;

    for (int64_t i = 0; i < n; i++)
        sh_put_u16(p + 2 * i, sh_f32_to_bf16(src[i]));
}

static float inverse(float d)
{
    return d != 0 ? 1.0f / d : 0.0f;
}

/* Codes 0..15 of 32 elements to 16 bytes: low nibbles first. */
static void put_nibbles(uint8_t qs[16], const int code[32])
{
    for (int e = 0; e < 16; e++)
        qs[e] = (uint8_t)((code[e] & 15) | (code[e + 16] & 15) << 4);
}

/* Bit 4 of 32 codes. */
static void put_high_bits(uint8_t qh[4], const int code[32])
{
    uint32_t bits = 0;

    for (int e = 0; e < 32; e++)
        bits |= (uint32_t)(code[e] >> 4 & 1) << e;
    sh_put_u32(qh, bits);
}

/* Symmetric codes 0..2*half-1 around `half`: the extreme element gets code 0.  Returns d. */
static float codes_signed(int code[32], const float *x, int half)
{
    const float d = sh_quant_extreme(32, x) / (float)-half;
    const float id = inverse(d);

    for (int e = 0; e < 32; e++)
        code[e] = sh_quant_clamp(x[e] * id + ((float)half + 0.5f), 2 * half - 1);
    return d;
}

/* Codes 0..top from the smallest to the largest element.  Returns d. */
static float codes_min(int code[32], const float *x, int top, float *min)
{
    float lo = x[0], hi = x[0], d, id;

    for (int e = 1; e < 32; e++) {
        if (x[e] < lo) lo = x[e];
        if (x[e] > hi) hi = x[e];
    }
    d = (hi - lo) / (float)top;
    id = inverse(d);
    for (int e = 0; e < 32; e++)
        code[e] = sh_quant_clamp((x[e] - lo) * id + 0.5f, top);
    *min = lo;
    return d;
}

static void encode_q4_0(int64_t n, void *dst, const float *src)
{
    struct sh_block_q4_0 *b = dst;
    int code[32];

    for (int64_t i = 0; i < n; i += 32, b++) {
        sh_put_f16(b->d, codes_signed(code, src + i, 8));
        put_nibbles(b->qs, code);
    }
}

static void encode_q5_0(int64_t n, void *dst, const float *src)
{
    struct sh_block_q5_0 *b = dst;
    int code[32];

    for (int64_t i = 0; i < n; i += 32, b++) {
        sh_put_f16(b->d, codes_signed(code, src + i, 16));
        put_nibbles(b->qs, code);
        put_high_bits(b->qh, code);
    }
}

static void encode_q4_1(int64_t n, void *dst, const float *src)
{
    struct sh_block_q4_1 *b = dst;
    int code[32];
    float min;

    for (int64_t i = 0; i < n; i += 32, b++) {
        sh_put_f16(b->d, codes_min(code, src + i, 15, &min));
        sh_put_f16(b->m, min);
        put_nibbles(b->qs, code);
    }
}

static void encode_q5_1(int64_t n, void *dst, const float *src)
{
    struct sh_block_q5_1 *b = dst;
    int code[32];
    float min;

    for (int64_t i = 0; i < n; i += 32, b++) {
        sh_put_f16(b->d, codes_min(code, src + i, 31, &min));
        sh_put_f16(b->m, min);
        put_nibbles(b->qs, code);
        put_high_bits(b->qh, code);
    }
}

static void encode_q8_0(int64_t n, void *dst, const float *src)
{
    struct sh_block_q8_0 *b = dst;
    int8_t q[32];

    for (int64_t i = 0; i < n; i += 32, b++) {
        sh_put_f16(b->d, sh_quant_q8(q, src + i));
        memcpy(b->qs, q, sizeof q);
    }
}

static void encode_q8_1(int64_t n, void *dst, const float *src)
{
    struct sh_block_q8_1 *b = dst;
    int8_t q[32];

    for (int64_t i = 0; i < n; i += 32, b++) {
        const float d = sh_quant_q8(q, src + i);
        sh_put_f16(b->d, d);
        sh_put_f16(b->s, d * (float)sh_quant_sum(32, q));
        memcpy(b->qs, q, sizeof q);
    }
}

/* The entry of a table nearest to v; the lowest index of equals. */
static int nearest(const int8_t table[16], float v)
{
    float best = -1;
    int at = 0;

    for (int i = 0; i < 16; i++) {
        const float off = v < (float)table[i] ? (float)table[i] - v : v - (float)table[i];
        if (best < 0 || off < best) {
            best = off;
            at = i;
        }
    }
    return at;
}

/* The extreme element becomes -127; then the scale is refitted to the chosen codes by least
 * squares with the squares of the elements as weights. */
static void encode_iq4_nl(int64_t n, void *dst, const float *src)
{
    struct sh_block_iq4_nl *b = dst;
    int code[32];

    for (int64_t i = 0; i < n; i += 32, b++) {
        const float *x = src + i;
        float d = sh_quant_extreme(32, x) / -127.0f;
        const float id = inverse(d);
        float xq = 0, qq = 0;

        for (int e = 0; e < 32; e++) {
            code[e] = nearest(IQ4, x[e] * id);
            const float q = (float)IQ4[code[e]], weight = x[e] * x[e];
            xq += weight * x[e] * q;
            qq += weight * q * q;
        }
        if (qq > 0) d = xq / qq;
        sh_put_f16(b->d, d);
        put_nibbles(b->qs, code);
    }
}

static void encode_mxfp4(int64_t n, void *dst, const float *src)
{
    struct sh_block_mxfp4 *b = dst;
    int code[32];

    for (int64_t i = 0; i < n; i += 32, b++) {
        const float *x = src + i;
        const float extreme = sh_quant_extreme(32, x);
        // floor(log2) of a normal number is its exponent field; below that all rounds to 0
        const int log2 = (int)(sh_bits_of_f32(extreme) >> 23 & 255) - 127;
        const int exp = log2 - 2 + 127;
        float d;

        b->e = (uint8_t)(exp < 0 ? 0 : exp > 254 ? 254 : exp);
        d = sh_mxfp4_scale(b->e);
        for (int e = 0; e < 32; e++)
            code[e] = nearest(FP4, x[e] / d);
        put_nibbles(b->qs, code);
    }
}

void sh_encode_fill_scalar(struct sh_kernels *k)
{
    k->encode[SH_DTYPE_F32] = encode_f32;
    k->encode[SH_DTYPE_F16] = encode_f16;
    k->encode[SH_DTYPE_BF16] = encode_bf16;
    k->encode[SH_DTYPE_Q4_0] = encode_q4_0;
    k->encode[SH_DTYPE_Q4_1] = encode_q4_1;
    k->encode[SH_DTYPE_Q5_0] = encode_q5_0;
    k->encode[SH_DTYPE_Q5_1] = encode_q5_1;
    k->encode[SH_DTYPE_Q8_0] = encode_q8_0;
    k->encode[SH_DTYPE_Q8_1] = encode_q8_1;
    k->encode[SH_DTYPE_IQ4_NL] = encode_iq4_nl;
    k->encode[SH_DTYPE_MXFP4] = encode_mxfp4;
}
