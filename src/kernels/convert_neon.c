/* kernels/convert_neon.c - rows of f16 to f32 and back.  Threads: pure functions. */
#include <arm_neon.h>
#include <string.h>

#include "kernels/mm_priv.h"

static void decode_f16(int64_t n, float *dst, const void *src)
{
    const uint8_t *p = src;
    uint16_t h[4] = {0};
    float part[4];
    int64_t i = 0;

    for (; i + 4 <= n; i += 4) {
        memcpy(h, p + 2 * i, sizeof h);
        vst1q_f32(dst + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(h))));
    }
    if (i == n) return;
    memcpy(h, p + 2 * i, (size_t)(n - i) * sizeof *h);
    vst1q_f32(part, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(h))));
    memcpy(dst + i, part, (size_t)(n - i) * sizeof *part);
}

static void encode_f16(int64_t n, void *dst, const float *src)
{
    uint8_t *p = dst;
    float part[4] = {0};
    uint16_t h[4];
    int64_t i = 0;

    for (; i + 4 <= n; i += 4) {
        vst1_u16(h, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(src + i))));
        memcpy(p + 2 * i, h, sizeof h);
    }
    if (i == n) return;
    memcpy(part, src + i, (size_t)(n - i) * sizeof *part);
    vst1_u16(h, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(part))));
    memcpy(p + 2 * i, h, (size_t)(n - i) * sizeof *h);
}

void sh_convert_fill_neon(struct sh_kernels *k)
{
    k->decode[SH_DTYPE_F16] = decode_f16;
    k->encode[SH_DTYPE_F16] = encode_f16;
}
