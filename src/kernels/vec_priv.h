/* kernels/vec_priv.h - what the files of the vector kernels share: the scalar functions by name,
 * the 16-lane trees of their definitions, and how the tiers are filled in halves.
 *
 * Threads: pure functions.
 */
#ifndef KERNELS_VEC_PRIV_H
#define KERNELS_VEC_PRIV_H

#include "kernels/kernels.h"

#define SH_LANES 16
#define SH_ATTN_KEYS 64 /* places of an attention block */

/* One scalar function per row of the list. */
#define X(name, ret, args) ret sh_##name##_scalar args;
SH_VECTOR_KERNELS(X)
#undef X

/* The attention, convolution and scan rows of a tier; the vec files do the others. */
void sh_attn_fill_avx2(struct sh_kernels *k);
void sh_attn_fill_avx512(struct sh_kernels *k);
void sh_attn_fill_neon(struct sh_kernels *k);

/* lane[j] += lane[j + s] for s = 8, 4, 2, 1; destroys the lanes. */
static inline float sh_tree_f32(float *lane)
{
    for (int s = SH_LANES / 2; s > 0; s /= 2)
        for (int j = 0; j < s; j++)
            lane[j] += lane[j + s];
    return lane[0];
}

static inline double sh_tree_f64(double *lane)
{
    for (int s = SH_LANES / 2; s > 0; s /= 2)
        for (int j = 0; j < s; j++)
            lane[j] += lane[j + s];
    return lane[0];
}

#endif
