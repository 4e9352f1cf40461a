/* kernels/vec_avx512.c - AVX-512 versions of the vector kernels.  Threads: pure functions. */
#include "kernels/tiers_priv.h"

void sh_vec_fill_avx512(struct sh_kernels *k)
{
    (void)k; // the scalar versions stay
}
