/* kernels/expand_scalar.c - one expander per block type: bytes to small integers and scales.
 *
 * This is the definition of the block formats; the faster tiers unpack the same bytes in other
 * orders and are compared with it.  Threads: pure functions.
 */
#include "kernels/expand_priv.h"

#include "kernels/blocks.h"

static const int8_t IQ4[16] = {SH_IQ4_VALUES};
static const int8_t FP4[16] = {SH_FP4_VALUES};

/* The 4-bit code of element e of a 32-block. */
static int nibble32(const uint8_t *qs, int e)
{
    return e < 16 ? qs[e] & 15 : qs[e - 16] >> 4;
}

/* 2 bits of element e of a super-block that keeps them in 64 bytes, 128 elements per 32 bytes. */
static int pair256(const uint8_t *qs, int e)
{
    return qs[32 * (e / 128) + e % 32] >> 2 * (e % 128 / 32) & 3;
}

void sh_expand_q4_0(struct sh_q32 *out, const void *block)
{
    const struct sh_block_q4_0 *b = block;

    out->d = sh_get_f16(b->d);
    out->m = 0;
    for (int e = 0; e < 32; e++)
        out->q[e] = (int8_t)(nibble32(b->qs, e) - 8);
}

void sh_expand_q4_1(struct sh_q32 *out, const void *block)
{
    const struct sh_block_q4_1 *b = block;

    out->d = sh_get_f16(b->d);
    out->m = sh_get_f16(b->m);
    for (int e = 0; e < 32; e++)
        out->q[e] = (int8_t)nibble32(b->qs, e);
}

void sh_expand_q5_0(struct sh_q32 *out, const void *block)
{
    const struct sh_block_q5_0 *b = block;
    const uint32_t high = sh_get_u32(b->qh);

    out->d = sh_get_f16(b->d);
    out->m = 0;
    for (int e = 0; e < 32; e++) {
        out->q[e] = (int8_t)((nibble32(b->qs, e) | (int)(high >> e & 1) << 4) - 16);
    }
}

void sh_expand_q5_1(struct sh_q32 *out, const void *block)
{
    const struct sh_block_q5_1 *b = block;
    const uint32_t high = sh_get_u32(b->qh);

    out->d = sh_get_f16(b->d);
    out->m = sh_get_f16(b->m);
    for (int e = 0; e < 32; e++) {
        out->q[e] = (int8_t)(nibble32(b->qs, e) | (int)(high >> e & 1) << 4);
    }
}

void sh_expand_q8_0(struct sh_q32 *out, const void *block)
{
    const struct sh_block_q8_0 *b = block;

    out->d = sh_get_f16(b->d);
    out->m = 0;
    memcpy(out->q, b->qs, sizeof out->q);
}

void sh_expand_iq4_nl(struct sh_q32 *out, const void *block)
{
    const struct sh_block_iq4_nl *b = block;

    out->d = sh_get_f16(b->d);
    out->m = 0;
    for (int e = 0; e < 32; e++)
        out->q[e] = IQ4[nibble32(b->qs, e)];
}

void sh_expand_mxfp4(struct sh_q32 *out, const void *block)
{
    const struct sh_block_mxfp4 *b = block;

    out->d = sh_mxfp4_scale(b->e);
    out->m = 0;
    for (int e = 0; e < 32; e++)
        out->q[e] = FP4[nibble32(b->qs, e)];
}

void sh_expand_q2_K(struct sh_q256 *out, const void *block)
{
    const struct sh_block_q2_K *b = block;

    out->d = sh_get_f16(b->d);
    out->dmin = sh_get_f16(b->dmin);
    for (int j = 0; j < 16; j++) {
        out->sc[j] = (int8_t)(b->scales[j] & 15);
        out->m[j] = b->scales[j] >> 4;
    }
    for (int e = 0; e < 256; e++)
        out->q[e] = (int8_t)pair256(b->qs, e);
}

void sh_expand_q3_K(struct sh_q256 *out, const void *block)
{
    const struct sh_block_q3_K *b = block;
    const uint8_t *p = b->scales;

    out->d = sh_get_f16(b->d);
    out->dmin = 0;
    for (int j = 0; j < 16; j++) {
        const int low = j < 8 ? p[j] & 15 : p[j - 8] >> 4;
        const int high = p[8 + j % 4] >> 2 * (j / 4) & 3;
        out->sc[j] = (int8_t)((low | high << 4) - 32);
        out->m[j] = 0;
    }
    for (int e = 0; e < 256; e++) {
        const int keep = b->hmask[e % 32] >> e / 32 & 1;
        out->q[e] = (int8_t)(pair256(b->qs, e) - (keep ? 0 : 4));
    }
}

/* The eight 6-bit scales and minima of q4_K and q5_K, each for two runs of 16 elements. */
static void expand_scales_k(struct sh_q256 *out, const uint8_t p[12])
{
    for (int i = 0; i < 8; i++) {
        const int sc = i < 4 ? p[i] & 63 : (p[i + 4] & 15) | p[i - 4] >> 6 << 4;
        const int m = i < 4 ? p[i + 4] & 63 : p[i + 4] >> 4 | p[i] >> 6 << 4;
        out->sc[2 * i] = out->sc[2 * i + 1] = (int8_t)sc;
        out->m[2 * i] = out->m[2 * i + 1] = (uint8_t)m;
    }
}

/* The 4-bit code of element e of q4_K and q5_K: 64 elements per 32 bytes. */
static int nibble256(const uint8_t *qs, int e)
{
    const int b = qs[32 * (e / 64) + e % 32];
    return e / 32 % 2 ? b >> 4 : b & 15;
}

void sh_expand_q4_K(struct sh_q256 *out, const void *block)
{
    const struct sh_block_q4_K *b = block;

    out->d = sh_get_f16(b->d);
    out->dmin = sh_get_f16(b->dmin);
    expand_scales_k(out, b->scales);
    for (int e = 0; e < 256; e++)
        out->q[e] = (int8_t)nibble256(b->qs, e);
}

void sh_expand_q5_K(struct sh_q256 *out, const void *block)
{
    const struct sh_block_q5_K *b = block;

    out->d = sh_get_f16(b->d);
    out->dmin = sh_get_f16(b->dmin);
    expand_scales_k(out, b->scales);
    for (int e = 0; e < 256; e++) {
        out->q[e] = (int8_t)(nibble256(b->qs, e) | (b->qh[e % 32] >> e / 32 & 1) << 4);
    }
}

void sh_expand_q6_K(struct sh_q256 *out, const void *block)
{
    const struct sh_block_q6_K *b = block;

    out->d = sh_get_f16(b->d);
    out->dmin = 0;
    memcpy(out->sc, b->scales, sizeof out->sc);
    memset(out->m, 0, sizeof out->m);
    for (int e = 0; e < 256; e++) {
        const int n = e / 128, k = e % 128 / 32, l = e % 32;
        const int byte = b->ql[64 * n + 32 * (k & 1) + l];
        const int low = k < 2 ? byte & 15 : byte >> 4;
        const int high = b->qh[32 * n + l] >> 2 * k & 3;
        out->q[e] = (int8_t)((low | high << 4) - 32);
    }
}

void sh_expand_iq4_xs(struct sh_q256 *out, const void *block)
{
    const struct sh_block_iq4_xs *b = block;
    const int scales_h = sh_get_u16(b->scales_h);

    out->d = sh_get_f16(b->d);
    out->dmin = 0;
    memset(out->m, 0, sizeof out->m);
    for (int g = 0; g < 8; g++) {
        const int low = b->scales_l[g / 2] >> 4 * (g % 2) & 15;
        const int sc = (low | (scales_h >> 2 * g & 3) << 4) - 32;
        out->sc[2 * g] = out->sc[2 * g + 1] = (int8_t)sc;
        for (int e = 0; e < 32; e++)
            out->q[32 * g + e] = IQ4[nibble32(b->qs + 16 * g, e)];
    }
}

/* Trit n of a byte that holds five of them as a base-3 fraction of 256. */
static int trit(uint8_t b, int n)
{
    static const uint8_t POW3[5] = {1, 3, 9, 27, 81};
    const int shifted = (uint8_t)(b * POW3[n]);
    return shifted * 3 >> 8;
}

static void expand_unit_scales(struct sh_q256 *out)
{
    out->dmin = 0;
    memset(out->sc, 1, sizeof out->sc);
    memset(out->m, 0, sizeof out->m);
}

void sh_expand_tq1_0(struct sh_q256 *out, const void *block)
{
    const struct sh_block_tq1_0 *b = block;

    out->d = sh_get_f16(b->d);
    expand_unit_scales(out);
    for (int e = 0; e < 160; e++)
        out->q[e] = (int8_t)(trit(b->qs[e % 32], e / 32) - 1);
    for (int e = 0; e < 80; e++)
        out->q[160 + e] = (int8_t)(trit(b->qs[32 + e % 16], e / 16) - 1);
    for (int e = 0; e < 16; e++)
        out->q[240 + e] = (int8_t)(trit(b->qh[e % 4], e / 4) - 1);
}

void sh_expand_tq2_0(struct sh_q256 *out, const void *block)
{
    const struct sh_block_tq2_0 *b = block;

    out->d = sh_get_f16(b->d);
    expand_unit_scales(out);
    for (int e = 0; e < 256; e++)
        out->q[e] = (int8_t)(pair256(b->qs, e) - 1);
}
