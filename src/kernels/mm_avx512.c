/* kernels/mm_avx512.c - the AVX-512 slots of the matrix products. */
#include "kernels/tiers_priv.h"

void sh_mm_fill_avx512(struct sh_kernels *k)
{
    (void)k;
}
