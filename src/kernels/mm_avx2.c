/* kernels/mm_avx2.c - the AVX2 slots of the matrix half of the kernel table. */
#include "kernels/mm_priv.h"
#include "kernels/tiers_priv.h"

void sh_mm_fill_avx2(struct sh_kernels *k)
{
    sh_act_fill_avx2(k);
    sh_convert_fill_avx2(k);
    sh_mm_float_fill_avx2(k);
    sh_mm_q32_fill_avx2(k);
    sh_mm_q256_fill_avx2(k);
}
