/* kernels/tile_neon_priv.h - the vector of the tiled products in NEON: four rows.
 *
 * Included by tile_priv.h, which says what the words mean.  With the dot product instructions of
 * ARMv8.2 (mm_*_dotprod.c) v_dot is one of them; without, products of two bytes are added in 16
 * bits, which holds them: 2 * 128 * 127 = 32512.  Threads: pure functions.
 */
#ifndef KERNELS_TILE_NEON_PRIV_H
#define KERNELS_TILE_NEON_PRIV_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>

#define V_REGISTERS 32
enum { LANES = 4 };
typedef int32x4_t vi;
typedef float32x4_t vf;
typedef int64_t vmask; /* the number of lanes */

/* A vi as lanes of another kind, and back. */
#define V_U32(a) vreinterpretq_u32_s32(a)
#define V_S16(a) vreinterpretq_s16_s32(a)
#define V_U16(a) vreinterpretq_u16_s32(a)
#define V_S8(a) vreinterpretq_s8_s32(a)
#define V_U8(a) vreinterpretq_u8_s32(a)
#define V_OF_U32(a) vreinterpretq_s32_u32(a)
#define V_OF_S16(a) vreinterpretq_s32_s16(a)
#define V_OF_U16(a) vreinterpretq_s32_u16(a)
#define V_OF_S8(a) vreinterpretq_s32_s8(a)
#define V_OF_U8(a) vreinterpretq_s32_u8(a)
#define V_64(a) vreinterpretq_s64_s32(a)
#define V_OF_64(a) vreinterpretq_s32_s64(a)

TILE_INLINE vmask v_mask(int64_t n)
{
    return n >= LANES ? LANES : n;
}
TILE_INLINE vf v_load_masked(const float *p, vmask n)
{
    float lane[LANES] = {0};

    if (n == LANES) return vld1q_f32(p);
    memcpy(lane, p, (size_t)n * sizeof *p);
    return vld1q_f32(lane);
}
TILE_INLINE void v_store_masked(float *p, vmask n, vf v)
{
    float lane[LANES];

    vst1q_f32(lane, v);
    memcpy(p, lane, (size_t)n * sizeof *p);
}
TILE_INLINE vi v_load(const void *p)
{
    return V_OF_U8(vld1q_u8(p));
}
TILE_INLINE vf v_loadf(const float *p)
{
    return vld1q_f32(p);
}
TILE_INLINE void v_storef(float *p, vf v)
{
    vst1q_f32(p, v);
}
/* 16 bytes of row 0 from p. */
TILE_INLINE vi v_load_quads(const uint8_t *p, size_t s)
{
    (void)s;
    return v_load(p);
}
#define v_zero() vdupq_n_s32(0)
#define v_zerof() vdupq_n_f32(0)
#define v_set1(x) vdupq_n_s32(x)
#define v_set1_8(x) V_OF_S8(vdupq_n_s8((int8_t)(x)))
#define v_set1f(x) vdupq_n_f32(x)
#define v_and(a, b) vandq_s32(a, b)
#define v_or(a, b) vorrq_s32(a, b)
#define v_xor(a, b) veorq_s32(a, b)
/* Shifts as operators: vshrq_n takes no 0, and its count must be a literal. */
#define v_srl16(a, n) V_OF_U16(V_U16(a) >> (uint16_t)(n))
#define v_srl32(a, n) V_OF_U32(V_U32(a) >> (uint32_t)(n))
#define v_sll32(a, n) V_OF_U32(V_U32(a) << (uint32_t)(n))
#define v_sra32(a, n) ((a) >> (n))
#define v_sra16(a, n) V_OF_S16(V_S16(a) >> (int16_t)(n))
#define v_add32(a, b) vaddq_s32(a, b)
#define v_sub32(a, b) vsubq_s32(a, b)
#define v_mul32(a, b) vmulq_s32(a, b)
#define v_add8(a, b) V_OF_S8(vaddq_s8(V_S8(a), V_S8(b)))
#define v_sub8(a, b) V_OF_S8(vsubq_s8(V_S8(a), V_S8(b)))
#define v_sllv32(a, b) vshlq_s32(a, b) /* counts from 128 on shift to the right */
#define v_max32(a, b) vmaxq_s32(a, b)
#define v_shuffle8(t, i) V_OF_U8(vqtbl1q_u8(V_U8(t), V_U8(i)))
#define v_table16(p) v_load(p)
#define v_bytes16(...) V_OF_S8(((int8x16_t){__VA_ARGS__}))
#define v_unpacklo32(a, b) vzip1q_s32(a, b)
#define v_unpackhi32(a, b) vzip2q_s32(a, b)
#define v_unpacklo64(a, b) V_OF_64(vzip1q_s64(V_64(a), V_64(b)))
#define v_unpackhi64(a, b) V_OF_64(vzip2q_s64(V_64(a), V_64(b)))
#define v_to_f32(a) vcvtq_f32_s32(a)
#define v_as_f32(a) vreinterpretq_f32_s32(a)
#define v_mulf(a, b) vmulq_f32(a, b)
#define v_fma(a, b, c) vfmaq_f32(c, a, b)
#define v_fnma(a, b, c) vfmsq_f32(c, a, b)

TILE_INLINE vf v_low_f16(vi a)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(V_U32(a))));
}
TILE_INLINE void v_split_f16(vi a, vf *low, vf *high)
{
    *low = v_low_f16(a);
    *high = vcvt_f32_f16(vreinterpret_f16_u16(vshrn_n_u32(V_U32(a), 16)));
}
TILE_INLINE vi v_add_if(vi q, vi x, vi bit, int value)
{
    const uint8x16_t set = vtstq_u8(V_U8(x), V_U8(bit));
    return V_OF_U8(vaddq_u8(V_U8(q), vandq_u8(set, vdupq_n_u8((uint8_t)value))));
}

#define V_HAS_DOT 1
#define V_SIGNED_CODES 1
#if defined(__ARM_FEATURE_DOTPROD)
TILE_INLINE vi v_dot(vi sum, vi codes, vi x)
{
    return vdotq_s32(sum, V_S8(codes), V_S8(x));
}
#else
TILE_INLINE vi v_dot(vi sum, vi codes, vi x)
{
    const int16x8_t low = vmull_s8(vget_low_s8(V_S8(codes)), vget_low_s8(V_S8(x)));
    const int16x8_t high = vmull_high_s8(V_S8(codes), V_S8(x));
    return vpadalq_s16(sum, vpaddq_s16(low, high));
}
#endif
TILE_INLINE vi v_dot_pairs(vi sum, vi a, vi b)
{
    const int32x4_t low = vmull_s16(vget_low_s16(V_S16(a)), vget_low_s16(V_S16(b)));
    return vaddq_s32(sum, vpaddq_s32(low, vmull_high_s16(V_S16(a), V_S16(b))));
}

#endif
