/* kernels/mm_q256_avx2.c - products of the super-block types for AVX2 (tile_q256_priv.h). */
#include "kernels/tile_q256_priv.h"

void sh_mm_q256_fill_avx2(struct sh_kernels *k)
{
    fill_types256(k);
}
