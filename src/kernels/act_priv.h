/* kernels/act_priv.h - the private layout of activation rows.
 *
 * A row is an array of blocks.  Beside the quantised values stand the sums that the vector tiers
 * need to multiply unsigned weights: a weight stored as q + z contributes z * sum too much, so
 * integer accumulators start at -z * sum.  Values are in -127..127, always: the bounds that keep
 * 16-bit partial sums exact depend on it.
 *
 *     F32, F16, BF16   float[k], rounded to the type
 *     Q8_0, Q8_1       k / 32 blocks, Q8_K k / 256 blocks, as below
 *
 * Rows are an odd number of 64-byte lines apart, so that the same columns of many rows do not
 * compete for one set of a cache.  Rows are aligned to 4 bytes at least.  Threads: types only.
 */
#ifndef KERNELS_ACT_PRIV_H
#define KERNELS_ACT_PRIV_H

#include <assert.h>
#include <stdint.h>

struct sh_act_q8_0 {
    int8_t q[32];
    float d;               /* the f16-rounded scale */
    int32_t n8, n16, n128; /* -8, -16, -128 times the sum of q */
};

struct sh_act_q8_1 {
    int8_t q[32];
    float d; /* the f16-rounded scale */
    float s; /* the unrounded scale times the sum of q, rounded to f16 */
};

struct sh_act_q8_K {
    int8_t q[256];
    int16_t sum16[16]; /* sums of q over 16 elements */
    int16_t sum32[8];  /* and over 32 */
    float d;
    int32_t unused[3];
};

static_assert(sizeof(struct sh_act_q8_0) == 48, "layout");
static_assert(sizeof(struct sh_act_q8_1) == 40, "layout");
static_assert(sizeof(struct sh_act_q8_K) == 320, "layout");

#endif
