/* kernels/lanes_avx2_priv.h - sixteen lanes of f32 in AVX2: two registers, v[0] the lower lanes.
 *
 * The same functions as lanes_avx512_priv.h, which describes them.  Threads: pure functions.
 */
#ifndef KERNELS_LANES_AVX2_PRIV_H
#define KERNELS_LANES_AVX2_PRIV_H

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SH_TILE_HEADS 2
#define SH_TILE_KEYS 2
#define SH_TILE_COLS 2

struct v16 {
    __m256 v[2];
};
struct m16 {
    __m256 k[2]; /* all ones or all zeros */
};
struct d16 {
    __m256d v[4];
};

static inline struct v16 v16_of(__m256 lo, __m256 hi)
{
    return (struct v16){{lo, hi}};
}
static inline struct m16 m16_of_bits(unsigned bits)
{
    const __m256i lo = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i hi = _mm256_slli_epi32(lo, 8);
    const __m256i b = _mm256_set1_epi32((int)bits);
    const __m256i m0 = _mm256_cmpeq_epi32(_mm256_and_si256(b, lo), lo);
    const __m256i m1 = _mm256_cmpeq_epi32(_mm256_and_si256(b, hi), hi);
    return (struct m16){{_mm256_castsi256_ps(m0), _mm256_castsi256_ps(m1)}};
}

static inline struct v16 v16_set1(float f)
{
    return v16_of(_mm256_set1_ps(f), _mm256_set1_ps(f));
}
static inline struct v16 v16_load(const float *p)
{
    return v16_of(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
}
static inline struct v16 v16_load_bits(const float *p, unsigned bits)
{
    const struct m16 m = m16_of_bits(bits);
    return v16_of(_mm256_maskload_ps(p, _mm256_castps_si256(m.k[0])),
                  _mm256_maskload_ps(p + 8, _mm256_castps_si256(m.k[1])));
}
static inline void v16_store(float *p, struct v16 a)
{
    _mm256_storeu_ps(p, a.v[0]);
    _mm256_storeu_ps(p + 8, a.v[1]);
}
static inline void v16_store_bits(float *p, struct v16 a, unsigned bits)
{
    const struct m16 m = m16_of_bits(bits);
    _mm256_maskstore_ps(p, _mm256_castps_si256(m.k[0]), a.v[0]);
    _mm256_maskstore_ps(p + 8, _mm256_castps_si256(m.k[1]), a.v[1]);
}
static inline struct v16 v16_load_f16(const uint16_t *p)
{
    const __m128i *h = (const __m128i *)(const void *)p;
    return v16_of(_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1)));
}
static inline struct v16 v16_load_f16_n(const uint16_t *p, int n)
{
    uint16_t whole[16] = {0};
    memcpy(whole, p, (size_t)n * sizeof *p);
    return v16_load_f16(whole);
}
static inline __m256 round_f16(__m256 a)
{
    return _mm256_cvtph_ps(_mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
static inline struct v16 v16_round_f16(struct v16 a)
{
    return v16_of(round_f16(a.v[0]), round_f16(a.v[1]));
}

static inline struct v16 v16_add(struct v16 a, struct v16 b)
{
    return v16_of(_mm256_add_ps(a.v[0], b.v[0]), _mm256_add_ps(a.v[1], b.v[1]));
}
static inline struct v16 v16_sub(struct v16 a, struct v16 b)
{
    return v16_of(_mm256_sub_ps(a.v[0], b.v[0]), _mm256_sub_ps(a.v[1], b.v[1]));
}
static inline struct v16 v16_mul(struct v16 a, struct v16 b)
{
    return v16_of(_mm256_mul_ps(a.v[0], b.v[0]), _mm256_mul_ps(a.v[1], b.v[1]));
}
static inline struct v16 v16_div(struct v16 a, struct v16 b)
{
    return v16_of(_mm256_div_ps(a.v[0], b.v[0]), _mm256_div_ps(a.v[1], b.v[1]));
}
static inline struct v16 v16_sqrt(struct v16 a)
{
    return v16_of(_mm256_sqrt_ps(a.v[0]), _mm256_sqrt_ps(a.v[1]));
}
static inline struct v16 v16_fma(struct v16 a, struct v16 b, struct v16 c)
{
    return v16_of(_mm256_fmadd_ps(a.v[0], b.v[0], c.v[0]), _mm256_fmadd_ps(a.v[1], b.v[1], c.v[1]));
}
static inline struct v16 v16_max(struct v16 a, struct v16 b)
{
    return v16_of(_mm256_max_ps(a.v[0], b.v[0]), _mm256_max_ps(a.v[1], b.v[1]));
}
static inline struct v16 v16_min(struct v16 a, struct v16 b)
{
    return v16_of(_mm256_min_ps(a.v[0], b.v[0]), _mm256_min_ps(a.v[1], b.v[1]));
}
static inline struct v16 v16_abs(struct v16 a)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return v16_of(_mm256_andnot_ps(sign, a.v[0]), _mm256_andnot_ps(sign, a.v[1]));
}
static inline struct v16 v16_neg(struct v16 a)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return v16_of(_mm256_xor_ps(sign, a.v[0]), _mm256_xor_ps(sign, a.v[1]));
}
static inline struct v16 v16_copysign(struct v16 x, struct v16 sign)
{
    const __m256 bit = _mm256_set1_ps(-0.0f);
    const struct v16 a = v16_abs(x);
    return v16_of(_mm256_or_ps(a.v[0], _mm256_and_ps(bit, sign.v[0])),
                  _mm256_or_ps(a.v[1], _mm256_and_ps(bit, sign.v[1])));
}

static inline struct m16 v16_lt(struct v16 a, struct v16 b)
{
    return (struct m16){
        {_mm256_cmp_ps(a.v[0], b.v[0], _CMP_LT_OQ), _mm256_cmp_ps(a.v[1], b.v[1], _CMP_LT_OQ)}};
}
static inline struct m16 v16_le(struct v16 a, struct v16 b)
{
    return (struct m16){
        {_mm256_cmp_ps(a.v[0], b.v[0], _CMP_LE_OQ), _mm256_cmp_ps(a.v[1], b.v[1], _CMP_LE_OQ)}};
}
static inline struct v16 v16_select(struct m16 m, struct v16 yes, struct v16 no)
{
    return v16_of(_mm256_blendv_ps(no.v[0], yes.v[0], m.k[0]),
                  _mm256_blendv_ps(no.v[1], yes.v[1], m.k[1]));
}

/* In two factors, as the scalar form: 2^n itself may lie outside the normal range. */
static inline __m256 ldexp8(__m256 p, __m256 n)
{
    const __m256i e = _mm256_cvtps_epi32(n), bias = _mm256_set1_epi32(127);
    const __m256i half = _mm256_srai_epi32(e, 1), rest = _mm256_sub_epi32(e, half);
    const __m256i s0 = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    const __m256i s1 = _mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(s0)), _mm256_castsi256_ps(s1));
}
static inline struct v16 v16_ldexp(struct v16 p, struct v16 n)
{
    return v16_of(ldexp8(p.v[0], n.v[0]), ldexp8(p.v[1], n.v[1]));
}
static inline __m256 split8(__m256 u, uint32_t base, __m256 *k)
{
    const __m256i b = _mm256_set1_epi32((int)base);
    const __m256i shifted = _mm256_sub_epi32(_mm256_castps_si256(u), b);
    const __m256i rest = _mm256_and_si256(shifted, _mm256_set1_epi32(0x7fffff));
    *k = _mm256_cvtepi32_ps(_mm256_srai_epi32(shifted, 23));
    return _mm256_castsi256_ps(_mm256_add_epi32(rest, b));
}
static inline struct v16 v16_split(struct v16 u, uint32_t base, struct v16 *k)
{
    return v16_of(split8(u.v[0], base, &k->v[0]), split8(u.v[1], base, &k->v[1]));
}

static inline float v16_sum(struct v16 a)
{
    const __m256 s8 = _mm256_add_ps(a.v[0], a.v[1]);
    const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}
static inline float v16_max_lane(struct v16 a)
{
    const __m256 s8 = _mm256_max_ps(a.v[1], a.v[0]);
    const __m128 s4 = _mm_max_ps(_mm256_extractf128_ps(s8, 1), _mm256_castps256_ps128(s8));
    const __m128 s2 = _mm_max_ps(_mm_movehl_ps(s4, s4), s4);
    return _mm_cvtss_f32(_mm_max_ss(_mm_movehdup_ps(s2), s2));
}

static inline __m256 half16(struct v16 a)
{
    return _mm256_add_ps(a.v[0], a.v[1]);
}
static inline __m256 half8(__m256 a, __m256 b)
{
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}
static inline __m256 half4(__m256 a, __m256 b)
{
    return _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xee));
}
static inline __m256 half2(__m256 a, __m256 b)
{
    return _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x88), _mm256_shuffle_ps(a, b, 0xdd));
}
/* Lanes 0..7 from part[0..7], likewise the upper ones; the steps take i and 4 + i together. */
static inline __m256 sum8(const struct v16 *part)
{
    const __m256 t0 = half8(half16(part[0]), half16(part[4]));
    const __m256 t1 = half8(half16(part[1]), half16(part[5]));
    const __m256 t2 = half8(half16(part[2]), half16(part[6]));
    const __m256 t3 = half8(half16(part[3]), half16(part[7]));
    return half2(half4(t0, t1), half4(t2, t3));
}
static inline struct v16 v16_sum16(const struct v16 *part)
{
    return v16_of(sum8(part), sum8(part + 8));
}

static inline struct d16 d16_zero(void)
{
    const __m256d z = _mm256_setzero_pd();
    return (struct d16){{z, z, z, z}};
}
static inline struct d16 d16_add(struct d16 d, struct v16 a)
{
    d.v[0] = _mm256_add_pd(d.v[0], _mm256_cvtps_pd(_mm256_castps256_ps128(a.v[0])));
    d.v[1] = _mm256_add_pd(d.v[1], _mm256_cvtps_pd(_mm256_extractf128_ps(a.v[0], 1)));
    d.v[2] = _mm256_add_pd(d.v[2], _mm256_cvtps_pd(_mm256_castps256_ps128(a.v[1])));
    d.v[3] = _mm256_add_pd(d.v[3], _mm256_cvtps_pd(_mm256_extractf128_ps(a.v[1], 1)));
    return d;
}
static inline double d16_sum(struct d16 d)
{
    const __m256d s8lo = _mm256_add_pd(d.v[0], d.v[2]), s8hi = _mm256_add_pd(d.v[1], d.v[3]);
    const __m256d s4 = _mm256_add_pd(s8lo, s8hi);
    const __m128d s2 = _mm_add_pd(_mm256_castpd256_pd128(s4), _mm256_extractf128_pd(s4, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s2, _mm_unpackhi_pd(s2, s2)));
}

/* Shuffles work inside 128 bits; the permutes put the quarters in order. */
static inline __m256 pick8(__m256 even_or_odd)
{
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(even_or_odd), 0xd8));
}
static inline void v16_unzip(struct v16 a, struct v16 b, struct v16 *even, struct v16 *odd)
{
    even->v[0] = pick8(_mm256_shuffle_ps(a.v[0], a.v[1], 0x88));
    even->v[1] = pick8(_mm256_shuffle_ps(b.v[0], b.v[1], 0x88));
    odd->v[0] = pick8(_mm256_shuffle_ps(a.v[0], a.v[1], 0xdd));
    odd->v[1] = pick8(_mm256_shuffle_ps(b.v[0], b.v[1], 0xdd));
}
static inline struct v16 zip8(__m256 even, __m256 odd)
{
    const __m256 lo = _mm256_unpacklo_ps(even, odd), hi = _mm256_unpackhi_ps(even, odd);
    return v16_of(_mm256_permute2f128_ps(lo, hi, 0x20), _mm256_permute2f128_ps(lo, hi, 0x31));
}
static inline void v16_zip(struct v16 even, struct v16 odd, struct v16 *a, struct v16 *b)
{
    *a = zip8(even.v[0], odd.v[0]);
    *b = zip8(even.v[1], odd.v[1]);
}

#endif
