/* kernels/lanes_neon_priv.h - sixteen lanes of f32 in NEON: four registers, v[0] the lowest lanes.
 *
 * The same functions as lanes_avx512_priv.h, which describes them.  There are no loads and stores
 * under a mask; lanes go one by one there.  Threads: pure functions.
 */
#ifndef KERNELS_LANES_NEON_PRIV_H
#define KERNELS_LANES_NEON_PRIV_H

#include <arm_neon.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SH_TILE_HEADS 2
#define SH_TILE_KEYS 2
#define SH_TILE_COLS 2

struct v16 {
    float32x4_t v[4];
};
struct m16 {
    uint32x4_t k[4]; /* all ones or all zeros */
};
struct d16 {
    float64x2_t v[8];
};

/* A function of four lanes, applied to all. */
#define V16_UNARY(name, f)                                                                         \
    static inline struct v16 name(struct v16 a)                                                    \
    {                                                                                              \
        return (struct v16){{f(a.v[0]), f(a.v[1]), f(a.v[2]), f(a.v[3])}};                         \
    }
#define V16_BINARY(name, f)                                                                        \
    static inline struct v16 name(struct v16 a, struct v16 b)                                      \
    {                                                                                              \
        return (struct v16){                                                                       \
            {f(a.v[0], b.v[0]), f(a.v[1], b.v[1]), f(a.v[2], b.v[2]), f(a.v[3], b.v[3])}};         \
    }
#define V16_COMPARE(name, f)                                                                       \
    static inline struct m16 name(struct v16 a, struct v16 b)                                      \
    {                                                                                              \
        return (struct m16){                                                                       \
            {f(a.v[0], b.v[0]), f(a.v[1], b.v[1]), f(a.v[2], b.v[2]), f(a.v[3], b.v[3])}};         \
    }

static inline struct m16 m16_of_bits(unsigned bits)
{
    static const uint32_t BIT[16] = {1u << 0,  1u << 1,  1u << 2,  1u << 3, 1u << 4,  1u << 5,
                                     1u << 6,  1u << 7,  1u << 8,  1u << 9, 1u << 10, 1u << 11,
                                     1u << 12, 1u << 13, 1u << 14, 1u << 15};
    const uint32x4_t b = vdupq_n_u32(bits);
    return (struct m16){{vtstq_u32(b, vld1q_u32(BIT)), vtstq_u32(b, vld1q_u32(BIT + 4)),
                         vtstq_u32(b, vld1q_u32(BIT + 8)), vtstq_u32(b, vld1q_u32(BIT + 12))}};
}

static inline struct v16 v16_set1(float f)
{
    const float32x4_t v = vdupq_n_f32(f);
    return (struct v16){{v, v, v, v}};
}
static inline struct v16 v16_load(const float *p)
{
    return (struct v16){{vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}};
}
static inline void v16_store(float *p, struct v16 a)
{
    for (int i = 0; i < 4; i++)
        vst1q_f32(p + 4 * i, a.v[i]);
}
static inline struct v16 v16_load_bits(const float *p, unsigned bits)
{
    float lane[16] = {0};

    if (bits == 0xffff) return v16_load(p);
    for (; bits; bits &= bits - 1) {
        const int i = __builtin_ctz(bits);
        lane[i] = p[i];
    }
    return v16_load(lane);
}
static inline void v16_store_bits(float *p, struct v16 a, unsigned bits)
{
    float lane[16];

    v16_store(lane, a);
    for (; bits; bits &= bits - 1) {
        const int i = __builtin_ctz(bits);
        p[i] = lane[i];
    }
}
static inline float32x4_t load4_f16(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
static inline struct v16 v16_load_f16(const uint16_t *p)
{
    return (struct v16){{load4_f16(p), load4_f16(p + 4), load4_f16(p + 8), load4_f16(p + 12)}};
}
static inline struct v16 v16_load_f16_n(const uint16_t *p, int n)
{
    uint16_t whole[16] = {0};
    memcpy(whole, p, (size_t)n * sizeof *p);
    return v16_load_f16(whole);
}
static inline float32x4_t round4_f16(float32x4_t a)
{
    return vcvt_f32_f16(vcvt_f16_f32(a));
}
V16_UNARY(v16_round_f16, round4_f16)

V16_BINARY(v16_add, vaddq_f32)
V16_BINARY(v16_sub, vsubq_f32)
V16_BINARY(v16_mul, vmulq_f32)
V16_BINARY(v16_div, vdivq_f32)
V16_UNARY(v16_sqrt, vsqrtq_f32)
V16_UNARY(v16_abs, vabsq_f32)
V16_UNARY(v16_neg, vnegq_f32)
V16_COMPARE(v16_lt, vcltq_f32)
V16_COMPARE(v16_le, vcleq_f32)

static inline struct v16 v16_fma(struct v16 a, struct v16 b, struct v16 c)
{
    return (struct v16){{vfmaq_f32(c.v[0], a.v[0], b.v[0]), vfmaq_f32(c.v[1], a.v[1], b.v[1]),
                         vfmaq_f32(c.v[2], a.v[2], b.v[2]), vfmaq_f32(c.v[3], a.v[3], b.v[3])}};
}
/* Not vmaxq_f32 and vminq_f32: those give NaN where one operand is NaN, and tell zeros apart. */
static inline float32x4_t max4(float32x4_t a, float32x4_t b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
static inline float32x4_t min4(float32x4_t a, float32x4_t b)
{
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
static inline float32x4_t copysign4(float32x4_t x, float32x4_t sign)
{
    return vbslq_f32(vdupq_n_u32(0x80000000u), sign, x);
}
V16_BINARY(v16_max, max4)
V16_BINARY(v16_min, min4)
V16_BINARY(v16_copysign, copysign4)

static inline struct v16 v16_select(struct m16 m, struct v16 yes, struct v16 no)
{
    return (struct v16){{vbslq_f32(m.k[0], yes.v[0], no.v[0]), vbslq_f32(m.k[1], yes.v[1], no.v[1]),
                         vbslq_f32(m.k[2], yes.v[2], no.v[2]),
                         vbslq_f32(m.k[3], yes.v[3], no.v[3])}};
}

/* In two factors, as the scalar form: 2^n itself may lie outside the normal range. */
static inline float32x4_t ldexp4(float32x4_t p, float32x4_t n)
{
    const int32x4_t e = vcvtq_s32_f32(n), bias = vdupq_n_s32(127);
    const int32x4_t half = vshrq_n_s32(e, 1), rest = vsubq_s32(e, half);
    const int32x4_t s0 = vshlq_n_s32(vaddq_s32(half, bias), 23);
    const int32x4_t s1 = vshlq_n_s32(vaddq_s32(rest, bias), 23);
    return vmulq_f32(vmulq_f32(p, vreinterpretq_f32_s32(s0)), vreinterpretq_f32_s32(s1));
}
V16_BINARY(v16_ldexp, ldexp4)

static inline struct v16 v16_split(struct v16 u, uint32_t base, struct v16 *k)
{
    const int32x4_t b = vdupq_n_s32((int32_t)base);
    struct v16 rest;

    for (int i = 0; i < 4; i++) {
        const int32x4_t shifted = vsubq_s32(vreinterpretq_s32_f32(u.v[i]), b);
        const int32x4_t low = vandq_s32(shifted, vdupq_n_s32(0x7fffff));
        k->v[i] = vcvtq_f32_s32(vshrq_n_s32(shifted, 23));
        rest.v[i] = vreinterpretq_f32_s32(vaddq_s32(low, b));
    }
    return rest;
}

/* The trees.  Lanes 0..3 of the first two steps; two more steps of one, or of four at once. */
static inline float32x4_t sum4(struct v16 a)
{
    return vaddq_f32(vaddq_f32(a.v[0], a.v[2]), vaddq_f32(a.v[1], a.v[3]));
}
static inline float v16_sum(struct v16 a)
{
    const float32x4_t s4 = sum4(a);
    const float32x2_t s2 = vadd_f32(vget_low_f32(s4), vget_high_f32(s4));
    return vget_lane_f32(s2, 0) + vget_lane_f32(s2, 1);
}
static inline float v16_max_lane(struct v16 a)
{
    const float32x4_t s4 = max4(max4(a.v[3], a.v[1]), max4(a.v[2], a.v[0]));
    float lane[4];

    vst1q_f32(lane, max4(vextq_f32(s4, s4, 2), s4));
    return lane[1] > lane[0] ? lane[1] : lane[0];
}
/* Lanes 0 and 1 of a, then those of b, with what is two lanes above added. */
static inline float32x4_t half4(float32x4_t a, float32x4_t b)
{
    const float64x2_t x = vreinterpretq_f64_f32(a), y = vreinterpretq_f64_f32(b);
    return vaddq_f32(vreinterpretq_f32_f64(vzip1q_f64(x, y)),
                     vreinterpretq_f32_f64(vzip2q_f64(x, y)));
}
static inline struct v16 v16_sum16(const struct v16 *part)
{
    struct v16 s;

    for (int i = 0; i < 4; i++) {
        const struct v16 *p = part + 4 * i;
        s.v[i] = vpaddq_f32(half4(sum4(p[0]), sum4(p[1])), half4(sum4(p[2]), sum4(p[3])));
    }
    return s;
}

static inline struct d16 d16_zero(void)
{
    const float64x2_t z = vdupq_n_f64(0);
    return (struct d16){{z, z, z, z, z, z, z, z}};
}
static inline struct d16 d16_add(struct d16 d, struct v16 a)
{
    for (int i = 0; i < 4; i++) {
        d.v[2 * i] = vaddq_f64(d.v[2 * i], vcvt_f64_f32(vget_low_f32(a.v[i])));
        d.v[2 * i + 1] = vaddq_f64(d.v[2 * i + 1], vcvt_high_f64_f32(a.v[i]));
    }
    return d;
}
static inline double d16_sum(struct d16 d)
{
    for (int s = 4; s > 0; s /= 2)
        for (int i = 0; i < s; i++)
            d.v[i] = vaddq_f64(d.v[i], d.v[i + s]);
    return vgetq_lane_f64(d.v[0], 0) + vgetq_lane_f64(d.v[0], 1);
}

static inline void v16_unzip(struct v16 a, struct v16 b, struct v16 *even, struct v16 *odd)
{
    for (int i = 0; i < 2; i++) {
        even->v[i] = vuzp1q_f32(a.v[2 * i], a.v[2 * i + 1]);
        odd->v[i] = vuzp2q_f32(a.v[2 * i], a.v[2 * i + 1]);
        even->v[2 + i] = vuzp1q_f32(b.v[2 * i], b.v[2 * i + 1]);
        odd->v[2 + i] = vuzp2q_f32(b.v[2 * i], b.v[2 * i + 1]);
    }
}
static inline void v16_zip(struct v16 even, struct v16 odd, struct v16 *a, struct v16 *b)
{
    for (int i = 0; i < 2; i++) {
        a->v[2 * i] = vzip1q_f32(even.v[i], odd.v[i]);
        a->v[2 * i + 1] = vzip2q_f32(even.v[i], odd.v[i]);
        b->v[2 * i] = vzip1q_f32(even.v[2 + i], odd.v[2 + i]);
        b->v[2 * i + 1] = vzip2q_f32(even.v[2 + i], odd.v[2 + i]);
    }
}

#endif
