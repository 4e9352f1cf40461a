/* kernels/convert_avx2.c - rows of f16 and bf16 to f32 and back. */
#include "kernels/mm_priv.h"

#include "kernels/round_priv.h"

static void decode_f16(int64_t n, float *dst, const void *src)
{
    const uint8_t *p = src;
    uint16_t part[8] = {0};
    int64_t i = 0;

    for (; i + 8 <= n; i += 8) {
        _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(p + 2 * i))));
    }
    memcpy(part, p + 2 * i, (size_t)(n - i) * 2);
    store_rest(dst + i, n - i, _mm256_cvtph_ps(_mm_loadu_si128((const void *)part)));
}

static void encode_f16(int64_t n, void *dst, const float *src)
{
    uint8_t *p = dst;
    uint16_t part[8];
    int64_t i = 0;

    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((void *)(p + 2 * i), round_f16(_mm256_loadu_ps(src + i)));
    _mm_storeu_si128((void *)part, round_f16(load_rest(src + i, n - i)));
    memcpy(p + 2 * i, part, (size_t)(n - i) * 2);
}

static __m256 widen_bf16(const void *p)
{
    const __m256i u = _mm256_cvtepu16_epi32(_mm_loadu_si128(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(u, 16));
}

static void decode_bf16(int64_t n, float *dst, const void *src)
{
    const uint8_t *p = src;
    uint16_t part[8] = {0};
    int64_t i = 0;

    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(dst + i, widen_bf16(p + 2 * i));
    memcpy(part, p + 2 * i, (size_t)(n - i) * 2);
    store_rest(dst + i, n - i, widen_bf16(part));
}

static __m128i narrow_bf16(__m256 v)
{
    const __m256i u = _mm256_srli_epi32(round_bf16(v), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(u), _mm256_extracti128_si256(u, 1));
}

static void encode_bf16(int64_t n, void *dst, const float *src)
{
    uint8_t *p = dst;
    uint16_t part[8];
    int64_t i = 0;

    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((void *)(p + 2 * i), narrow_bf16(_mm256_loadu_ps(src + i)));
    _mm_storeu_si128((void *)part, narrow_bf16(load_rest(src + i, n - i)));
    memcpy(p + 2 * i, part, (size_t)(n - i) * 2);
}

void sh_convert_fill_avx2(struct sh_kernels *k)
{
    k->decode[SH_DTYPE_F16] = decode_f16;
    k->encode[SH_DTYPE_F16] = encode_f16;
    k->decode[SH_DTYPE_BF16] = decode_bf16;
    k->encode[SH_DTYPE_BF16] = encode_bf16;
}
