/* kernels/vec_avx2.c - AVX2 versions of the vector kernels.  Threads: pure functions. */
#include "kernels/tiers_priv.h"

void sh_vec_fill_avx2(struct sh_kernels *k)
{
    (void)k; // the scalar versions stay
}
