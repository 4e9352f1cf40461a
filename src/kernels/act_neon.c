/* kernels/act_neon.c - rows of f32 rounded to the private activation layouts of f16 and of
 * 32-blocks, as act_scalar.c defines them; the other rows stay scalar.  Threads: pure functions.
 */
#include "kernels/act_priv.h"

#include <arm_neon.h>

#include "kernels/mm_priv.h"

static float32x4_t through_f16(float32x4_t v)
{
    return vcvt_f32_f16(vcvt_f16_f32(v));
}

static float through_f16_1(float d)
{
    return vgetq_lane_f32(through_f16(vdupq_n_f32(d)), 0);
}

static void act_f16(int64_t k, void *dst, const float *x)
{
    float *a = dst;
    int64_t i = 0;

    for (; i + 4 <= k; i += 4)
        vst1q_f32(a + i, through_f16(vld1q_f32(x + i)));
    for (; i < k; i++)
        a[i] = through_f16_1(x[i]);
}

/* a > b ? a : b: a NaN in a is passed over. */
static float32x4_t larger(float32x4_t a, float32x4_t b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}

/* Held in -127..127, NaN as 0, then rounded half away from zero. */
static int32x4_t to_int8(float32x4_t v)
{
    const uint32x4_t number = vceqq_f32(v, v);

    v = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), number));
    return vcvtaq_s32_f32(vmaxq_f32(vminq_f32(v, vdupq_n_f32(127)), vdupq_n_f32(-127)));
}

/* sh_quant_q8; *sum is the sum of the integers. */
static float quant_q8(int8_t q[32], const float *x, int32_t *sum)
{
    float32x4_t v[8], max = vdupq_n_f32(0);
    int32_t total = 0;

    for (int i = 0; i < 8; i++) {
        v[i] = vld1q_f32(x + 4 * i);
        max = larger(vabsq_f32(v[i]), max);
    }
    const float d = vmaxvq_f32(max) / 127.0f, id = d != 0 ? 1.0f / d : 0.0f;
    for (int i = 0; i < 4; i++) {
        const int32x4_t a = to_int8(vmulq_n_f32(v[2 * i], id));
        const int32x4_t b = to_int8(vmulq_n_f32(v[2 * i + 1], id));
        const int16x8_t words = vcombine_s16(vmovn_s32(a), vmovn_s32(b));
        vst1_s8(q + 8 * i, vmovn_s16(words));
        total += vaddvq_s16(words);
    }
    *sum = total;
    return d;
}

static void act_q8_0(int64_t k, void *dst, const float *x)
{
    struct sh_act_q8_0 *a = dst;

    for (int64_t b = 0; b < k / 32; b++, a++) {
        int32_t sum;
        a->d = through_f16_1(quant_q8(a->q, x + 32 * b, &sum));
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
        a->d = through_f16_1(d);
        a->s = through_f16_1(d * (float)sum);
    }
}

void sh_act_fill_neon(struct sh_kernels *k)
{
    k->act[SH_DTYPE_F16] = act_f16;
    k->act[SH_DTYPE_Q8_0] = act_q8_0;
    k->act[SH_DTYPE_Q8_1] = act_q8_1;
}
