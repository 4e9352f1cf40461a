/* kernels/blocks.h - GGUF's block formats as they lie in files.
 *
 * Every field is a byte array, so that a block has alignment 1 and may stand anywhere; numbers are
 * little-endian and read through the helpers below.  Field order and sizes are the file format.
 * Nibbles: in the 32-blocks the low nibbles are elements 0..15, the high ones 16..31; in the
 * super-blocks see the expanders (expand_scalar.c).
 * Threads: types and pure functions.
 */
#ifndef KERNELS_BLOCKS_H
#define KERNELS_BLOCKS_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "kernels/kernels.h"

struct sh_block_q4_0 {
    uint8_t d[2], qs[16];
};
struct sh_block_q4_1 {
    uint8_t d[2], m[2], qs[16];
};
struct sh_block_q5_0 {
    uint8_t d[2], qh[4], qs[16];
};
struct sh_block_q5_1 {
    uint8_t d[2], m[2], qh[4], qs[16];
};
struct sh_block_q8_0 {
    uint8_t d[2], qs[32];
};
struct sh_block_q8_1 {
    uint8_t d[2], s[2], qs[32];
};
struct sh_block_q2_K {
    uint8_t scales[16], qs[64], d[2], dmin[2];
};
struct sh_block_q3_K {
    uint8_t hmask[32], qs[64], scales[12], d[2];
};
struct sh_block_q4_K {
    uint8_t d[2], dmin[2], scales[12], qs[128];
};
struct sh_block_q5_K {
    uint8_t d[2], dmin[2], scales[12], qh[32], qs[128];
};
struct sh_block_q6_K {
    uint8_t ql[128], qh[64], scales[16], d[2];
};
struct sh_block_q8_K {
    uint8_t d[4], qs[256], bsums[32];
};
struct sh_block_iq4_nl {
    uint8_t d[2], qs[16];
};
struct sh_block_iq4_xs {
    uint8_t d[2], scales_h[2], scales_l[4], qs[128];
};
struct sh_block_tq1_0 {
    uint8_t qs[48], qh[4], d[2];
};
struct sh_block_tq2_0 {
    uint8_t qs[64], d[2];
};
struct sh_block_mxfp4 {
    uint8_t e, qs[16];
};
struct sh_block_nvfp4 {
    uint8_t d[4], qs[32];
};
struct sh_block_q1_0 {
    uint8_t d[2], qs[16];
};
struct sh_block_q2_0 {
    uint8_t d[2], qs[16];
};

static_assert(sizeof(struct sh_block_q4_0) == 18, "q4_0");
static_assert(sizeof(struct sh_block_q4_1) == 20, "q4_1");
static_assert(sizeof(struct sh_block_q5_0) == 22, "q5_0");
static_assert(sizeof(struct sh_block_q5_1) == 24, "q5_1");
static_assert(sizeof(struct sh_block_q8_0) == 34, "q8_0");
static_assert(sizeof(struct sh_block_q8_1) == 36, "q8_1");
static_assert(sizeof(struct sh_block_q2_K) == 84, "q2_K");
static_assert(sizeof(struct sh_block_q3_K) == 110, "q3_K");
static_assert(sizeof(struct sh_block_q4_K) == 144, "q4_K");
static_assert(sizeof(struct sh_block_q5_K) == 176, "q5_K");
static_assert(sizeof(struct sh_block_q6_K) == 210, "q6_K");
static_assert(sizeof(struct sh_block_q8_K) == 292, "q8_K");
static_assert(sizeof(struct sh_block_iq4_nl) == 18, "iq4_nl");
static_assert(sizeof(struct sh_block_iq4_xs) == 136, "iq4_xs");
static_assert(sizeof(struct sh_block_tq1_0) == 54, "tq1_0");
static_assert(sizeof(struct sh_block_tq2_0) == 66, "tq2_0");
static_assert(sizeof(struct sh_block_mxfp4) == 17, "mxfp4");
static_assert(sizeof(struct sh_block_nvfp4) == 36, "nvfp4");
static_assert(sizeof(struct sh_block_q1_0) == 18, "q1_0");
static_assert(sizeof(struct sh_block_q2_0) == 18, "q2_0");

/* Value tables of the 4-bit codes: IQ4's fitted one, and E2M1 doubled. */
#define SH_IQ4_VALUES -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113
#define SH_FP4_VALUES 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12

static inline uint16_t sh_get_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t sh_get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline void sh_put_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static inline void sh_put_u32(uint8_t *p, uint32_t v)
{
    sh_put_u16(p, (uint16_t)v);
    sh_put_u16(p + 2, (uint16_t)(v >> 16));
}
static inline float sh_get_f16(const uint8_t *p)
{
    return sh_f16_to_f32(sh_get_u16(p));
}
static inline void sh_put_f16(uint8_t *p, float v)
{
    sh_put_u16(p, sh_f32_to_f16(v));
}
static inline float sh_f32_of_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static inline uint32_t sh_bits_of_f32(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}
/* 2^(e-128), the scale of mxfp4: a subnormal for e = 0 and 1. */
static inline float sh_mxfp4_scale(uint8_t e)
{
    return sh_f32_of_bits(e < 2 ? UINT32_C(0x200000) << e : (uint32_t)(e - 1) << 23);
}

#endif
