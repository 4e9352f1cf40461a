/* kernels/tile_avx2_priv.h - the vector of the tiled products in AVX2: eight rows.
 *
 * Included by tile_priv.h, which says what the words mean.  Threads: pure functions.
 */
#ifndef KERNELS_TILE_AVX2_PRIV_H
#define KERNELS_TILE_AVX2_PRIV_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define V_REGISTERS 16
enum { LANES = 8 };
typedef __m256i vi;
typedef __m256 vf;
typedef __m256i vmask;

TILE_INLINE vmask v_mask(int64_t n)
{
    const int count = n >= LANES ? LANES : (int)n;
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
TILE_INLINE vf v_load_masked(const float *p, vmask m)
{
    return _mm256_maskload_ps(p, m);
}
TILE_INLINE void v_store_masked(float *p, vmask m, vf v)
{
    _mm256_maskstore_ps(p, m, v);
}
TILE_INLINE vi v_load(const void *p)
{
    return _mm256_loadu_si256(p);
}
TILE_INLINE vf v_loadf(const float *p)
{
    return _mm256_loadu_ps(p);
}
TILE_INLINE void v_storef(float *p, vf v)
{
    _mm256_storeu_ps(p, v);
}
/* 16 bytes of rows 0 and 4 from p, s bytes apart. */
TILE_INLINE vi v_load_quads(const uint8_t *p, size_t s)
{
    const __m128i *const a = (const void *)p, *const b = (const void *)(p + 4 * s);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(a)), _mm_loadu_si128(b),
                                   1);
}
#define v_zero() _mm256_setzero_si256()
#define v_zerof() _mm256_setzero_ps()
#define v_set1(x) _mm256_set1_epi32(x)
#define v_set1_8(x) _mm256_set1_epi8(x)
#define v_set1f(x) _mm256_set1_ps(x)
#define v_and(a, b) _mm256_and_si256(a, b)
#define v_or(a, b) _mm256_or_si256(a, b)
#define v_xor(a, b) _mm256_xor_si256(a, b)
#define v_srl16(a, n) _mm256_srli_epi16(a, n)
#define v_srl32(a, n) _mm256_srli_epi32(a, n)
#define v_sll32(a, n) _mm256_slli_epi32(a, n)
#define v_sra32(a, n) _mm256_srai_epi32(a, n)
#define v_sra16(a, n) _mm256_srai_epi16(a, n)
#define v_add32(a, b) _mm256_add_epi32(a, b)
#define v_sub32(a, b) _mm256_sub_epi32(a, b)
#define v_add8(a, b) _mm256_add_epi8(a, b)
#define v_sub8(a, b) _mm256_sub_epi8(a, b)
#define v_sllv32(a, b) _mm256_sllv_epi32(a, b)
#define v_max32(a, b) _mm256_max_epi32(a, b)
#define v_shuffle8(t, i) _mm256_shuffle_epi8(t, i)
#define v_table16(p) _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)(p)))
#define v_bytes16(...) _mm256_broadcastsi128_si256(_mm_setr_epi8(__VA_ARGS__))
#define v_unpacklo32(a, b) _mm256_unpacklo_epi32(a, b)
#define v_unpackhi32(a, b) _mm256_unpackhi_epi32(a, b)
#define v_unpacklo64(a, b) _mm256_unpacklo_epi64(a, b)
#define v_unpackhi64(a, b) _mm256_unpackhi_epi64(a, b)
#define v_to_f32(a) _mm256_cvtepi32_ps(a)
#define v_as_f32(a) _mm256_castsi256_ps(a)
#define v_mulf(a, b) _mm256_mul_ps(a, b)
#define v_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define v_fnma(a, b, c) _mm256_fnmadd_ps(a, b, c)

TILE_INLINE vf v_low_f16(vi a)
{
    const vi words = _mm256_shuffle_epi8(
        a, _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1, 0, 1, 4, 5, 8,
                            9, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1));
    return _mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64(words, 0x08)));
}
TILE_INLINE void v_split_f16(vi a, vf *low, vf *high)
{
    *low = v_low_f16(a);
    *high = v_low_f16(_mm256_srli_epi32(a, 16));
}
TILE_INLINE vi v_add_if(vi q, vi x, vi bit, int value)
{
    const vi set = _mm256_cmpeq_epi8(_mm256_and_si256(x, bit), bit);
    return _mm256_add_epi8(q, _mm256_and_si256(set, _mm256_set1_epi8((char)value)));
}

/* There is no dot product of bytes in 32 bits: the classes add pairs in 16 bits themselves. */
#define V_HAS_DOT 0
#define V_SIGNED_CODES 1
#define v_dot_pairs(sum, a, b) _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))

#endif
