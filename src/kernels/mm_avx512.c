/* kernels/mm_avx512.c - the AVX-512 slots of the matrix half of the kernel table. */
#include "kernels/mm_priv.h"
#include "kernels/tiers_priv.h"

void sh_mm_fill_avx512(struct sh_kernels *k)
{
    sh_mm_float_fill_avx512(k);
    sh_mm_q32_fill_avx512(k);
    sh_mm_q256_fill_avx512(k);
}
