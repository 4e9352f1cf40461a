/* kernels/act_scalar.c - rounds rows of f32 to the private activation layouts.
 *
 * The rounding is that of the block types of the same names (quant_priv.h), with the scale used
 * afterwards rounded to f16 as if it had been stored.  Threads: pure functions.
 */
#include "kernels/act_priv.h"

#include <string.h>

#include "base/mem.h"
#include "kernels/mm_priv.h"
#include "kernels/quant_priv.h"

size_t sh_act_row_bytes(enum sh_dtype partner, int64_t k)
{
    size_t n = 0, block = 0, bytes;

    if (k < 0) return 0;
    switch (partner) {
    case SH_DTYPE_F32:
    case SH_DTYPE_F16:
    case SH_DTYPE_BF16:
        n = (size_t)k;
        block = sizeof(float);
        break;
    case SH_DTYPE_Q8_0:
        n = (size_t)k / 32;
        block = sizeof(struct sh_act_q8_0);
        break;
    case SH_DTYPE_Q8_1:
        n = (size_t)k / 32;
        block = sizeof(struct sh_act_q8_1);
        break;
    case SH_DTYPE_Q8_K:
        n = (size_t)k / 256;
        block = sizeof(struct sh_act_q8_K);
        break;
    default:
        return 0;
    }
    if (!sh_mul_ok(n, block, &bytes) || !sh_round_up_ok(bytes, 64, &bytes)) return 0;
    return bytes | 64; // an odd number of lines
}

static void act_f32(int64_t k, void *dst, const float *x)
{
    if (k > 0) memcpy(dst, x, (size_t)k * sizeof *x); // an empty row may have no place
}

static void act_f16(int64_t k, void *dst, const float *x)
{
    float *a = dst;

    for (int64_t i = 0; i < k; i++)
        a[i] = sh_f16_to_f32(sh_f32_to_f16(x[i]));
}

static void act_bf16(int64_t k, void *dst, const float *x)
{
    float *a = dst;

    for (int64_t i = 0; i < k; i++)
        a[i] = sh_bf16_to_f32(sh_f32_to_bf16(x[i]));
}

static void act_q8_0(int64_t k, void *dst, const float *x)
{
    struct sh_act_q8_0 *a = dst;

    for (int64_t b = 0; b < k / 32; b++, a++) {
        const float d = sh_quant_q8(a->q, x + 32 * b);
        const int32_t sum = sh_quant_sum(32, a->q);
        a->d = sh_f16_to_f32(sh_f32_to_f16(d));
        a->n8 = -8 * sum;
        a->n16 = -16 * sum;
        a->n128 = -128 * sum;
    }
}

static void act_q8_1(int64_t k, void *dst, const float *x)
{
    struct sh_act_q8_1 *a = dst;

    for (int64_t b = 0; b < k / 32; b++, a++) {
        const float d = sh_quant_q8(a->q, x + 32 * b);
        const int32_t sum = sh_quant_sum(32, a->q);
        a->d = sh_f16_to_f32(sh_f32_to_f16(d));
        a->s = sh_f16_to_f32(sh_f32_to_f16(d * (float)sum));
    }
}

static void act_q8_K(int64_t k, void *dst, const float *x)
{
    struct sh_act_q8_K *a = dst;

    for (int64_t b = 0; b < k / 256; b++, a++) {
        a->d = sh_quant_q8_K(a->q, x + 256 * b);
        for (int j = 0; j < 16; j++)
            a->sum16[j] = (int16_t)sh_quant_sum(16, a->q + 16 * j);
        for (int j = 0; j < 8; j++)
            a->sum32[j] = (int16_t)(a->sum16[2 * j] + a->sum16[2 * j + 1]);
        memset(a->unused, 0, sizeof a->unused);
    }
}

void sh_act_fill_scalar(struct sh_kernels *k)
{
    k->act[SH_DTYPE_F32] = act_f32;
    k->act[SH_DTYPE_F16] = act_f16;
    k->act[SH_DTYPE_BF16] = act_bf16;
    k->act[SH_DTYPE_Q8_0] = act_q8_0;
    k->act[SH_DTYPE_Q8_1] = act_q8_1;
    k->act[SH_DTYPE_Q8_K] = act_q8_K;
}
