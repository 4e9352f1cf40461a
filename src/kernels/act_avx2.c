/* kernels/act_avx2.c - rows of f32 rounded to the private activation layouts, as act_scalar.c
 * defines them.  The maximum of magnitudes passes over NaN because MAXPS returns its second
 * operand where the first is NaN.  Threads: pure functions.
 */
#include "kernels/act_priv.h"

#include "kernels/mm_priv.h"
#include "kernels/round_priv.h"

static void act_f16(int64_t k, void *dst, const float *x)
{
    float *a = dst;
    int64_t i = 0;

    for (; i + 8 <= k; i += 8)
        _mm256_storeu_ps(a + i, _mm256_cvtph_ps(round_f16(_mm256_loadu_ps(x + i))));
    store_rest(a + i, k - i, _mm256_cvtph_ps(round_f16(load_rest(x + i, k - i))));
}

static void act_bf16(int64_t k, void *dst, const float *x)
{
    float *a = dst;
    int64_t i = 0;

    for (; i + 8 <= k; i += 8)
        _mm256_storeu_ps(a + i, _mm256_castsi256_ps(round_bf16(_mm256_loadu_ps(x + i))));
    store_rest(a + i, k - i, _mm256_castsi256_ps(round_bf16(load_rest(x + i, k - i))));
}

static __m256 magnitude(__m256 v)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v);
}

static float largest(__m256 v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    m = _mm_max_ss(m, _mm_movehdup_ps(m));
    return _mm_cvtss_f32(m);
}

/* Held in -127..127; NaN gives 0. */
static __m256 hold127(__m256 v)
{
    const __m256 top = _mm256_set1_ps(127), bottom = _mm256_set1_ps(-127);

    v = _mm256_and_ps(v, _mm256_cmp_ps(v, v, _CMP_ORD_Q));
    return _mm256_max_ps(_mm256_min_ps(v, top), bottom);
}

static __m256i round_half_away(__m256 v)
{
    const __m256i whole = _mm256_cvttps_epi32(v);
    const __m256 rest = _mm256_sub_ps(v, _mm256_cvtepi32_ps(whole));
    const __m256 up = _mm256_cmp_ps(rest, _mm256_set1_ps(0.5f), _CMP_GE_OQ); // -1 where true
    const __m256 down = _mm256_cmp_ps(rest, _mm256_set1_ps(-0.5f), _CMP_LE_OQ);

    return _mm256_add_epi32(_mm256_sub_epi32(whole, _mm256_castps_si256(up)),
                            _mm256_castps_si256(down));
}

/* 32 integers of -127..127 as bytes. */
static __m256i to_bytes(const __m256i v[4])
{
    const __m256i a = _mm256_packs_epi32(v[0], v[1]), b = _mm256_packs_epi32(v[2], v[3]);
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b),
                                       _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* Sums of the 8 bytes of each quarter, plus 1024. */
static __m256i sums8(__m256i q)
{
    return _mm256_sad_epu8(_mm256_xor_si256(q, _mm256_set1_epi8((char)0x80)),
                           _mm256_setzero_si256());
}

/* sh_quant_q8; *sum is the sum of the integers. */
static float quant_q8(int8_t q[32], const float *x, int32_t *sum)
{
    __m256 v[4], max = _mm256_setzero_ps();
    __m256i n[4], s;
    __m128i t;
    float d, id;

    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_loadu_ps(x + 8 * i);
        max = _mm256_max_ps(magnitude(v[i]), max);
    }
    d = largest(max) / 127.0f;
    id = d != 0 ? 1.0f / d : 0.0f;
    for (int i = 0; i < 4; i++)
        n[i] = round_half_away(hold127(_mm256_mul_ps(v[i], _mm256_set1_ps(id))));
    n[0] = to_bytes(n);
    _mm256_storeu_si256((void *)q, n[0]);
    s = sums8(n[0]);
    t = _mm_add_epi64(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    *sum = _mm_cvtsi128_si32(t) + _mm_extract_epi32(t, 2) - 4 * 1024;
    return d;
}

static float through_f16(float d)
{
    return _cvtsh_ss(_cvtss_sh(d, _MM_FROUND_TO_NEAREST_INT));
}

static void act_q8_0(int64_t k, void *dst, const float *x)
{
    struct sh_act_q8_0 *a = dst;

    for (int64_t b = 0; b < k / 32; b++, a++) {
        int32_t sum;
        a->d = through_f16(quant_q8(a->q, x + 32 * b, &sum));
        a->n8 = -8 * sum;
        a->n16 = -16 * sum;
        a->n128 = -128 * sum;
    }
}

static void act_q8_1(int64_t k, void *dst, const float *x)
{
    struct sh_act_q8_1 *a = dst;

    for (int64_t b = 0; b < k / 32; b++, a++) {
        int32_t sum;
        const float d = quant_q8(a->q, x + 32 * b, &sum);
        a->d = through_f16(d);
        a->s = through_f16(d * (float)sum);
    }
}

/* The signed element of largest magnitude among 256, the first one of equals; 0 if none. */
static float extreme256(const float *x)
{
    __m256 max = _mm256_setzero_ps();
    float m;

    for (int i = 0; i < 256; i += 8)
        max = _mm256_max_ps(magnitude(_mm256_loadu_ps(x + i)), max);
    m = largest(max);
    if (m == 0) return 0;
    for (int i = 0;; i += 8) { // it is there
        const __m256 v = magnitude(_mm256_loadu_ps(x + i));
        const int at = _mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_set1_ps(m), _CMP_EQ_OQ));
        if (at) return x[i + __builtin_ctz((unsigned)at)];
    }
}

static void act_q8_K(int64_t k, void *dst, const float *x)
{
    struct sh_act_q8_K *a = dst;

    for (int64_t b = 0; b < k / 256; b++, a++, x += 256) {
        const float extreme = extreme256(x);
        if (extreme == 0) {
            memset(a, 0, sizeof *a);
            continue;
        }
        const float scale = -127.0f / extreme;
        for (int i = 0; i < 8; i++) {
            __m256i n[4];
            for (int j = 0; j < 4; j++) {
                const __m256 v = _mm256_loadu_ps(x + 32 * i + 8 * j);
                n[j] = _mm256_cvtps_epi32(hold127(_mm256_mul_ps(_mm256_set1_ps(scale), v)));
            }
            n[0] = to_bytes(n);
            _mm256_storeu_si256((void *)(a->q + 32 * i), n[0]);
            int64_t s[4];
            _mm256_storeu_si256((void *)s, sums8(n[0]));
            a->sum16[2 * i] = (int16_t)(s[0] + s[1] - 2 * 1024);
            a->sum16[2 * i + 1] = (int16_t)(s[2] + s[3] - 2 * 1024);
            a->sum32[i] = (int16_t)(a->sum16[2 * i] + a->sum16[2 * i + 1]);
        }
        a->d = 1.0f / scale;
        memset(a->unused, 0, sizeof a->unused);
    }
}

void sh_act_fill_avx2(struct sh_kernels *k)
{
    k->act[SH_DTYPE_F16] = act_f16;
    k->act[SH_DTYPE_BF16] = act_bf16;
    k->act[SH_DTYPE_Q8_0] = act_q8_0;
    k->act[SH_DTYPE_Q8_1] = act_q8_1;
    k->act[SH_DTYPE_Q8_K] = act_q8_K;
}
