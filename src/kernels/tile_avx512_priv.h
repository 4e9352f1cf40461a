/* kernels/tile_avx512_priv.h - the vector of the tiled products in AVX-512: sixteen rows.
 *
 * Included by tile_priv.h, which says what the words mean.  Threads: pure functions.
 */
#ifndef KERNELS_TILE_AVX512_PRIV_H
#define KERNELS_TILE_AVX512_PRIV_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define V_REGISTERS 32
enum { LANES = 16 };
typedef __m512i vi;
typedef __m512 vf;
typedef __mmask16 vmask;

TILE_INLINE vmask v_mask(int64_t n)
{
    return (vmask)(n >= LANES ? 0xffff : (1u << n) - 1);
}
TILE_INLINE vf v_load_masked(const float *p, vmask m)
{
    return _mm512_maskz_loadu_ps(m, p);
}
TILE_INLINE void v_store_masked(float *p, vmask m, vf v)
{
    _mm512_mask_storeu_ps(p, m, v);
}
TILE_INLINE vi v_load(const void *p)
{
    return _mm512_loadu_si512(p);
}
TILE_INLINE vf v_loadf(const float *p)
{
    return _mm512_loadu_ps(p);
}
TILE_INLINE void v_storef(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}
/* 16 bytes of rows 0, 4, 8, 12 from p, s bytes apart. */
TILE_INLINE vi v_load_quads(const uint8_t *p, size_t s)
{
    const __m128i *const a = (const void *)p, *const b = (const void *)(p + 4 * s);
    const __m128i *const c = (const void *)(p + 8 * s), *const d = (const void *)(p + 12 * s);
    vi v = _mm512_castsi128_si512(_mm_loadu_si128(a));
    v = _mm512_inserti32x4(v, _mm_loadu_si128(b), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128(c), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128(d), 3);
}
#define v_zero() _mm512_setzero_si512()
#define v_zerof() _mm512_setzero_ps()
#define v_set1(x) _mm512_set1_epi32(x)
#define v_set1_8(x) _mm512_set1_epi8(x)
#define v_set1f(x) _mm512_set1_ps(x)
#define v_and(a, b) _mm512_and_si512(a, b)
#define v_or(a, b) _mm512_or_si512(a, b)
#define v_xor(a, b) _mm512_xor_si512(a, b)
#define v_srl16(a, n) _mm512_srli_epi16(a, n)
#define v_srl32(a, n) _mm512_srli_epi32(a, n)
#define v_sll32(a, n) _mm512_slli_epi32(a, n)
#define v_sra32(a, n) _mm512_srai_epi32(a, n)
#define v_sra16(a, n) _mm512_srai_epi16(a, n)
#define v_add32(a, b) _mm512_add_epi32(a, b)
#define v_sub32(a, b) _mm512_sub_epi32(a, b)
#define v_add8(a, b) _mm512_add_epi8(a, b)
#define v_sub8(a, b) _mm512_sub_epi8(a, b)
#define v_sllv32(a, b) _mm512_sllv_epi32(a, b)
#define v_max32(a, b) _mm512_max_epi32(a, b)
#define v_shuffle8(t, i) _mm512_shuffle_epi8(t, i)
#define v_table16(p) _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)(p)))
#define v_bytes16(...) _mm512_broadcast_i32x4(_mm_setr_epi8(__VA_ARGS__))
#define v_unpacklo32(a, b) _mm512_unpacklo_epi32(a, b)
#define v_unpackhi32(a, b) _mm512_unpackhi_epi32(a, b)
#define v_unpacklo64(a, b) _mm512_unpacklo_epi64(a, b)
#define v_unpackhi64(a, b) _mm512_unpackhi_epi64(a, b)
#define v_to_f32(a) _mm512_cvtepi32_ps(a)
#define v_as_f32(a) _mm512_castsi512_ps(a)
#define v_mulf(a, b) _mm512_mul_ps(a, b)
#define v_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define v_fnma(a, b, c) _mm512_fnmadd_ps(a, b, c)

/* The f16 in the low half of each lane. */
TILE_INLINE vf v_low_f16(vi a)
{
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a));
}
/* The f16 in the low and in the high half of each lane. */
TILE_INLINE void v_split_f16(vi a, vf *low, vf *high)
{
    *low = v_low_f16(a);
    *high = v_low_f16(_mm512_srli_epi32(a, 16));
}
/* Add `value` to each byte of q whose byte of x has `bit`. */
TILE_INLINE vi v_add_if(vi q, vi x, vi bit, int value)
{
    return _mm512_mask_add_epi8(q, _mm512_test_epi8_mask(x, bit), q, _mm512_set1_epi8((char)value));
}

/* sum += dot products of four unsigned and four signed bytes. */
#define V_HAS_DOT 1
#define V_SIGNED_CODES 0
#define v_dot(sum, codes, x) _mm512_dpbusd_epi32(sum, codes, x)
#define v_dot_pairs(sum, a, b) _mm512_dpwssd_epi32(sum, a, b)
#define v_mul32(a, b) _mm512_mullo_epi32(a, b)

#endif
