/* kernels/lanes_avx512_priv.h - sixteen lanes of f32 in AVX-512: one register.
 *
 * The 16 lanes of the kernel definitions as a type.  lanes_avx2_priv.h has the same functions in
 * two registers, lanes_neon_priv.h in four; lanes_math_priv.h, lanes_rows_priv.h and
 * lanes_attn_priv.h are written over them and included by the files of each tier after its lanes.
 * `bits` select lanes: lanes whose bit is clear are not touched in memory and load as +0.  Each
 * function rounds once and alike in all of them.  Threads: pure functions.
 */
#ifndef KERNELS_LANES_AVX512_PRIV_H
#define KERNELS_LANES_AVX512_PRIV_H

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Register blocks of attention: heads, keys of a dot tile, 16-channel columns of a value tile. */
#define SH_TILE_HEADS 4
#define SH_TILE_KEYS 4
#define SH_TILE_COLS 4

struct v16 {
    __m512 v;
};
struct m16 {
    __mmask16 k;
};
struct d16 { /* sixteen lanes of f64 */
    __m512d v[2];
};

static inline struct v16 v16_of(__m512 v)
{
    return (struct v16){v};
}
static inline struct v16 v16_set1(float f)
{
    return v16_of(_mm512_set1_ps(f));
}
static inline struct v16 v16_load(const float *p)
{
    return v16_of(_mm512_loadu_ps(p));
}
static inline struct v16 v16_load_bits(const float *p, unsigned bits)
{
    return v16_of(_mm512_maskz_loadu_ps((__mmask16)bits, p));
}
static inline void v16_store(float *p, struct v16 a)
{
    _mm512_storeu_ps(p, a.v);
}
static inline void v16_store_bits(float *p, struct v16 a, unsigned bits)
{
    _mm512_mask_storeu_ps(p, (__mmask16)bits, a.v);
}
static inline struct v16 v16_load_f16(const uint16_t *p)
{
    return v16_of(_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p)));
}
/* The first n < 16 lanes. */
static inline struct v16 v16_load_f16_n(const uint16_t *p, int n)
{
    return v16_of(_mm512_cvtph_ps(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1u), p)));
}
static inline struct v16 v16_round_f16(struct v16 a)
{
    return v16_of(_mm512_cvtph_ps(_mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT)));
}

static inline struct v16 v16_add(struct v16 a, struct v16 b)
{
    return v16_of(_mm512_add_ps(a.v, b.v));
}
static inline struct v16 v16_sub(struct v16 a, struct v16 b)
{
    return v16_of(_mm512_sub_ps(a.v, b.v));
}
static inline struct v16 v16_mul(struct v16 a, struct v16 b)
{
    return v16_of(_mm512_mul_ps(a.v, b.v));
}
static inline struct v16 v16_div(struct v16 a, struct v16 b)
{
    return v16_of(_mm512_div_ps(a.v, b.v));
}
static inline struct v16 v16_sqrt(struct v16 a)
{
    return v16_of(_mm512_sqrt_ps(a.v));
}
/* a * b + c */
static inline struct v16 v16_fma(struct v16 a, struct v16 b, struct v16 c)
{
    return v16_of(_mm512_fmadd_ps(a.v, b.v, c.v));
}
/* a > b ? a : b, and a < b ? a : b */
static inline struct v16 v16_max(struct v16 a, struct v16 b)
{
    return v16_of(_mm512_max_ps(a.v, b.v));
}
static inline struct v16 v16_min(struct v16 a, struct v16 b)
{
    return v16_of(_mm512_min_ps(a.v, b.v));
}
static inline struct v16 v16_abs(struct v16 a)
{
    return v16_of(_mm512_andnot_ps(_mm512_set1_ps(-0.0f), a.v));
}
static inline struct v16 v16_neg(struct v16 a)
{
    return v16_of(_mm512_xor_ps(_mm512_set1_ps(-0.0f), a.v));
}
static inline struct v16 v16_copysign(struct v16 x, struct v16 sign)
{
    const __m512 s = _mm512_and_ps(_mm512_set1_ps(-0.0f), sign.v);
    return v16_of(_mm512_or_ps(v16_abs(x).v, s));
}

static inline struct m16 m16_of_bits(unsigned bits)
{
    return (struct m16){(__mmask16)bits};
}
/* a < b; false where one is NaN */
static inline struct m16 v16_lt(struct v16 a, struct v16 b)
{
    return (struct m16){_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)};
}
static inline struct m16 v16_le(struct v16 a, struct v16 b)
{
    return (struct m16){_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)};
}
static inline struct v16 v16_select(struct m16 m, struct v16 yes, struct v16 no)
{
    return v16_of(_mm512_mask_blend_ps(m.k, no.v, yes.v));
}

/* p * 2^n rounded once; n is integral, |n| < 256, p is normal and the product with half of 2^n
 * exact. */
static inline struct v16 v16_ldexp(struct v16 p, struct v16 n)
{
    return v16_of(_mm512_scalef_ps(p.v, n.v));
}
/* bits(u) - base = k 2^23 + rest: k as float, and the float of bits rest + base. */
static inline struct v16 v16_split(struct v16 u, uint32_t base, struct v16 *k)
{
    const __m512i b = _mm512_set1_epi32((int)base);
    const __m512i shifted = _mm512_sub_epi32(_mm512_castps_si512(u.v), b);
    const __m512i rest = _mm512_and_si512(shifted, _mm512_set1_epi32(0x7fffff));
    k->v = _mm512_cvtepi32_ps(_mm512_srai_epi32(shifted, 23));
    return v16_of(_mm512_castsi512_ps(_mm512_add_epi32(rest, b)));
}

/* The trees: lane[j] with lane[j + s], s = 8, 4, 2, 1. */
static inline float v16_sum(struct v16 a)
{
    const __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
    const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
static inline float v16_max_lane(struct v16 a)
{
    const __m256 s8 = _mm256_max_ps(_mm512_extractf32x8_ps(a.v, 1), _mm512_castps512_ps256(a.v));
    const __m128 s4 = _mm_max_ps(_mm256_extractf128_ps(s8, 1), _mm256_castps256_ps128(s8));
    const __m128 s2 = _mm_max_ps(_mm_movehl_ps(s4, s4), s4);
    return _mm_cvtss_f32(_mm_max_ss(_mm_movehdup_ps(s2), s2));
}

/* One step of sixteen trees at once: halves of 16, 8, 4 and 2 lanes of a and b. */
static inline __m512 half16(__m512 a, __m512 b)
{
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
}
static inline __m512 half8(__m512 a, __m512 b)
{
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}
static inline __m512 half4(__m512 a, __m512 b)
{
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
}
static inline __m512 half2(__m512 a, __m512 b)
{
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
}
/* Lane i of the result is v16_sum(part[i]).  The four steps leave lane 4c + r to input 4r + c,
 * so the inputs go in transposed. */
static inline struct v16 v16_sum16(const struct v16 *part)
{
    __m512 t[4];
    for (int r = 0; r < 4; r++)
        t[r] = half8(half16(part[r].v, part[4 + r].v), half16(part[8 + r].v, part[12 + r].v));
    return v16_of(half2(half4(t[0], t[1]), half4(t[2], t[3])));
}

static inline struct d16 d16_zero(void)
{
    return (struct d16){{_mm512_setzero_pd(), _mm512_setzero_pd()}};
}
static inline struct d16 d16_add(struct d16 d, struct v16 a)
{
    d.v[0] = _mm512_add_pd(d.v[0], _mm512_cvtps_pd(_mm512_castps512_ps256(a.v)));
    d.v[1] = _mm512_add_pd(d.v[1], _mm512_cvtps_pd(_mm512_extractf32x8_ps(a.v, 1)));
    return d;
}
static inline double d16_sum(struct d16 d)
{
    const __m512d s8 = _mm512_add_pd(d.v[0], d.v[1]);
    const __m256d s4 = _mm256_add_pd(_mm512_castpd512_pd256(s8), _mm512_extractf64x4_pd(s8, 1));
    const __m128d s2 = _mm_add_pd(_mm256_castpd256_pd128(s4), _mm256_extractf128_pd(s4, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s2, _mm_unpackhi_pd(s2, s2)));
}

/* (a, b) as 16 pairs: their first and second members, and back. */
static inline void v16_unzip(struct v16 a, struct v16 b, struct v16 *even, struct v16 *odd)
{
    const __m512i at = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    even->v = _mm512_permutex2var_ps(a.v, at, b.v);
    odd->v = _mm512_permutex2var_ps(a.v, _mm512_add_epi32(at, _mm512_set1_epi32(1)), b.v);
}
static inline void v16_zip(struct v16 even, struct v16 odd, struct v16 *a, struct v16 *b)
{
    const __m512i at = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    a->v = _mm512_permutex2var_ps(even.v, at, odd.v);
    b->v = _mm512_permutex2var_ps(even.v, _mm512_add_epi32(at, _mm512_set1_epi32(8)), odd.v);
}

#endif
