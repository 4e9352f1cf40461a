/* kernels/expand_priv.h - a block as small integers and scales, the form that the scalar products
 * and the decoders work on.
 *
 *     32-blocks:      value[e] = q[e] * d + m
 *     super-blocks:   value[e] = d * sc[e / 16] * q[e] - dmin * m[e / 16]
 *
 * Types without a minimum leave m (and dmin) at 0.  Types whose scales cover 32 elements give
 * each scale twice.  Threads: pure functions.
 */
#ifndef KERNELS_EXPAND_PRIV_H
#define KERNELS_EXPAND_PRIV_H

#include <stdint.h>

struct sh_q32 {
    int8_t q[32];
    float d, m;
};

struct sh_q256 {
    int8_t q[256];
    int8_t sc[16];
    uint8_t m[16];
    float d, dmin;
};

typedef void sh_expand32_fn(struct sh_q32 *out, const void *block);
typedef void sh_expand256_fn(struct sh_q256 *out, const void *block);

sh_expand32_fn sh_expand_q4_0, sh_expand_q4_1, sh_expand_q5_0, sh_expand_q5_1, sh_expand_q8_0,
    sh_expand_iq4_nl, sh_expand_mxfp4;
sh_expand256_fn sh_expand_q2_K, sh_expand_q3_K, sh_expand_q4_K, sh_expand_q5_K, sh_expand_q6_K,
    sh_expand_iq4_xs, sh_expand_tq1_0, sh_expand_tq2_0;

#endif
