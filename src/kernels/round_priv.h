/* kernels/round_priv.h - rounding to 16-bit floats, eight at a time, and the ends of rows.
 * For files compiled for AVX2.  Threads: pure functions.
 */
#ifndef KERNELS_ROUND_PRIV_H
#define KERNELS_ROUND_PRIV_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

static inline __m128i round_f16(__m256 v)
{
    return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
}

/* The bf16 of each lane in its upper half; the lower half is zero. */
static inline __m256i round_bf16(__m256 v)
{
    const __m256i u = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    return _mm256_and_si256(_mm256_blendv_epi8(up, quiet, nan), _mm256_set1_epi32((int)0xffff0000));
}

/* The first n < 8 floats at x, then zeros. */
static inline __m256 load_rest(const float *x, int64_t n)
{
    float part[8] = {0};
    if (n > 0) memcpy(part, x, (size_t)n * sizeof *x); // x may be NULL where there is nothing
    return _mm256_loadu_ps(part);
}

static inline void store_rest(float *dst, int64_t n, __m256 v)
{
    float part[8];
    _mm256_storeu_ps(part, v);
    if (n > 0) memcpy(dst, part, (size_t)n * sizeof *dst);
}

#endif
