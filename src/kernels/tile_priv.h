/* kernels/tile_priv.h - what the AVX2 and AVX-512 products share: a vector whose lanes are
 * neighbouring weight rows (outputs), and the transposition that makes one from GGUF rows.
 *
 *      row 0   k0 k1 k2 k3 | k4 k5 k6 k7 | ...        vector 0: k0..k3 of rows 0, 1, .. L-1
 *      row 1   k0 k1 k2 k3 | k4 k5 k6 k7 | ...   ->   vector 1: k4..k7 of rows 0, 1, .. L-1
 *      ...                                            (4 bytes of each row are one 32-bit lane)
 *
 * Sixteen bytes of rows r, r+4, r+8, r+12 (AVX2: r, r+4) are loaded into the 128-bit parts of one
 * register, for r = 0..3; a 4 x 4 transposition of dwords inside the parts then leaves the rows
 * in order.  The products are written once on these names; the file that includes this header
 * is compiled for AVX2 or AVX-512, and only static functions are made.
 * Threads: pure functions.
 */
#ifndef KERNELS_TILE_PRIV_H
#define KERNELS_TILE_PRIV_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/act_priv.h"
#include "kernels/blocks.h"
#include "kernels/mm_priv.h"

#define TILE_INLINE static inline __attribute__((always_inline))
/* Fully: counts become constants only after inlining, and clang's plain "unroll" acts before. */
#if defined(__clang__)
#define TILE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define TILE_UNROLL _Pragma("GCC unroll 16")
#endif

#if defined(__AVX512F__)
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
#define v_table16(x) _mm512_broadcast_i32x4(x)
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
#else
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
#define v_table16(x) _mm256_broadcastsi128_si256(x)
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
#endif

/* A shuffle pattern that does the same in every 32-bit lane: bytes b0..b3 of the lane, -1 = 0. */
#define TILE_BYTE(b, lane) ((char)((b) < 0 ? -1 : (b) + 4 * (lane)))
TILE_INLINE vi v_bytes(int b0, int b1, int b2, int b3)
{
    return v_table16(
        _mm_setr_epi8(TILE_BYTE(b0, 0), TILE_BYTE(b1, 0), TILE_BYTE(b2, 0), TILE_BYTE(b3, 0),
                      TILE_BYTE(b0, 1), TILE_BYTE(b1, 1), TILE_BYTE(b2, 1), TILE_BYTE(b3, 1),
                      TILE_BYTE(b0, 2), TILE_BYTE(b1, 2), TILE_BYTE(b2, 2), TILE_BYTE(b3, 2),
                      TILE_BYTE(b0, 3), TILE_BYTE(b1, 3), TILE_BYTE(b2, 3), TILE_BYTE(b3, 3)));
}

/* out[c] = bytes 4c..4c+3 of every row; p is row 0, s the distance of rows. */
TILE_INLINE void v_load_rows(vi out[4], const uint8_t *p, size_t s)
{
    const vi r0 = v_load_quads(p, s), r1 = v_load_quads(p + s, s);
    const vi r2 = v_load_quads(p + 2 * s, s), r3 = v_load_quads(p + 3 * s, s);
    const vi a = v_unpacklo32(r0, r1), b = v_unpackhi32(r0, r1);
    const vi c = v_unpacklo32(r2, r3), d = v_unpackhi32(r2, r3);

    out[0] = v_unpacklo64(a, c);
    out[1] = v_unpackhi64(a, c);
    out[2] = v_unpacklo64(b, d);
    out[3] = v_unpackhi64(b, d);
}

/* Bytes 0..3 (first) or 12..15 (last) of 16 bytes of every row. */
TILE_INLINE vi v_load_first(const uint8_t *p, size_t s)
{
    const vi r0 = v_load_quads(p, s), r1 = v_load_quads(p + s, s);
    const vi r2 = v_load_quads(p + 2 * s, s), r3 = v_load_quads(p + 3 * s, s);
    return v_unpacklo64(v_unpacklo32(r0, r1), v_unpacklo32(r2, r3));
}
TILE_INLINE vi v_load_last(const uint8_t *p, size_t s)
{
    const vi r0 = v_load_quads(p, s), r1 = v_load_quads(p + s, s);
    const vi r2 = v_load_quads(p + 2 * s, s), r3 = v_load_quads(p + 3 * s, s);
    return v_unpackhi64(v_unpackhi32(r0, r1), v_unpackhi32(r2, r3));
}

/* Four activation bytes, two sums, one float, in every lane. */
TILE_INLINE vi v_spread32(const void *p)
{
    int32_t x;
    memcpy(&x, p, sizeof x);
    return v_set1(x);
}
TILE_INLINE vf v_spreadf(const float *p)
{
    return v_set1f(*p);
}

/* The arguments of sh_mm_fn, gathered; b0 and b1 count blocks (floats: elements). */
struct tile_job {
    int64_t b0, b1, n_out, n_act;
    float *dst;
    size_t dst_stride;
    const uint8_t *w;
    size_t w_stride;
    const uint8_t *act;
    size_t act_stride;
};

#define TILE_MM_ARGS                                                                               \
    int64_t k_row, int64_t k0, int64_t k1, int64_t n_out, int64_t n_act, float *dst,               \
        size_t dst_stride, const void *w, size_t w_stride, const void *act, size_t act_stride
#define TILE_JOB(len)                                                                              \
    {                                                                                              \
        .b0 = k0 / (len), .b1 = k1 / (len), .n_out = n_out, .n_act = n_act, .dst = dst,            \
        .dst_stride = dst_stride, .w = w, .w_stride = w_stride, .act = act,                        \
        .act_stride = act_stride                                                                   \
    }

/* Bring `bytes` bytes from p into the second-level cache. */
TILE_INLINE void tile_prefetch(const uint8_t *p, size_t bytes)
{
    TILE_UNROLL
    for (size_t i = 0; i < bytes; i += 64)
        _mm_prefetch((const char *)p + i, _MM_HINT_T1);
}

/* ---- drivers ---------------------------------------------------------------------------------
 * A type is compiled into a few functions, each for a fixed number of activation rows, so that
 * everything in their inner loops is unrolled and in registers. */

/* LANES outputs from `at` on, activation rows from j on. */
typedef void tile_direct_fn(const struct tile_job *job, int64_t at, int64_t j);
/* All activation rows; outputs from each at[], of which `rows` exist (LANES or fewer). */
typedef void tile_tiled_fn(const struct tile_job *job, const int64_t at[2], int64_t rows);

struct tile_kernel {
    tile_direct_fn *direct1, *direct2, *direct4, *direct8; /* direct8 may be NULL */
    int64_t direct_max; /* activation rows up to which the direct form is faster */
    tile_tiled_fn *tiled;
    int n_tiles; /* that `tiled` does at once: 1 or 2 */
};

/* Activation rows in passes of 8, 4, 2 and 1; a pass of 4 or 8 may have rows to spare. */
static void tile_direct_rows(const struct tile_kernel *k, const struct tile_job *job)
{
    const int64_t last = job->n_out - LANES;
    int64_t n_rows;

    for (int64_t j = 0; j < job->n_act; j += n_rows) {
        const int64_t left = job->n_act - j;
        n_rows = left == 1 ? 1 : left == 2 ? 2 : left > 4 && k->direct8 ? 8 : 4;
        tile_direct_fn *const direct = n_rows == 1   ? k->direct1
                                       : n_rows == 2 ? k->direct2
                                       : n_rows == 4 ? k->direct4
                                                     : k->direct8;
        // the last tile overlaps outputs already done: same bits again
        for (int64_t i = 0; i < job->n_out; i += LANES)
            direct(job, i < last ? i : last, j);
    }
}

/* The whole product. */
static void tile_product(const struct tile_kernel *k, const struct tile_job *job)
{
    const int64_t last = job->n_out - LANES;

    if (job->b0 == job->b1) { // every chain is empty
        for (int64_t j = 0; j < job->n_act; j++) {
            memset(job->dst + (size_t)j * job->dst_stride, 0,
                   (size_t)job->n_out * sizeof *job->dst);
        }
    } else if (job->n_out < LANES) {
        k->tiled(job, (const int64_t[2]){0, 0}, job->n_out);
    } else if (job->n_act <= k->direct_max) {
        tile_direct_rows(k, job);
    } else {
        for (int64_t i = 0; i < job->n_out; i += k->n_tiles * LANES) {
            const int64_t at[2] = {i < last ? i : last, i + LANES < last ? i + LANES : last};
            k->tiled(job, at, LANES);
        }
    }
}

/* Activation row j; past the end the last one, which is then computed again. */
TILE_INLINE size_t tile_row_index(const struct tile_job *job, int64_t j)
{
    return (size_t)(j < job->n_act ? j : job->n_act - 1);
}

/* Copy n_rows rows of `bytes` bytes beside rows of zeros: LANES rows, `bytes` apart. */
TILE_INLINE void tile_pad(uint8_t *pad, const uint8_t *p, size_t s, int64_t n_rows, size_t bytes)
{
    memset(pad, 0, LANES * bytes);
    for (int64_t i = 0; i < n_rows; i++)
        memcpy(pad + (size_t)i * bytes, p + (size_t)i * s, bytes);
}

/* The functions of a type: TYPE_<id> goes into direct<class> and tiled<class>, which are defined
 * by the class; blocks have `len` elements. */
#define TILE_DIRECT(id, name, class, n_rows)                                                       \
    static void name##_direct##n_rows(const struct tile_job *job, int64_t at, int64_t j)           \
    {                                                                                              \
        direct##class(TYPE_##id, job, at, j, n_rows);                                              \
    }
#if defined(__AVX512F__)
#define TILE_DIRECT8(id, name, class) TILE_DIRECT(id, name, class, 8)
#define TILE_DIRECT8_OF(name) name##_direct8
#else // too few registers
#define TILE_DIRECT8(id, name, class)
#define TILE_DIRECT8_OF(name) NULL
#endif
#define TILE_TYPE(id, name, class, max, len)                                                       \
    TILE_DIRECT(id, name, class, 1)                                                                \
    TILE_DIRECT(id, name, class, 2)                                                                \
    TILE_DIRECT(id, name, class, 4)                                                                \
    TILE_DIRECT8(id, name, class)                                                                  \
    static void name##_tiled(const struct tile_job *job, const int64_t at[2], int64_t rows)        \
    {                                                                                              \
        tiled##class(TYPE_##id, job, at, rows);                                                    \
    }                                                                                              \
    static void mm_##name(TILE_MM_ARGS)                                                            \
    {                                                                                              \
        static const struct tile_kernel KERNEL = {.direct1 = name##_direct1,                       \
                                                  .direct2 = name##_direct2,                       \
                                                  .direct4 = name##_direct4,                       \
                                                  .direct8 = TILE_DIRECT8_OF(name),                \
                                                  .direct_max = max,                               \
                                                  .tiled = name##_tiled,                           \
                                                  .n_tiles = TILES};                               \
        const struct tile_job job = TILE_JOB(len);                                                 \
        (void)k_row;                                                                               \
        tile_product(&KERNEL, &job);                                                               \
    }

#endif
