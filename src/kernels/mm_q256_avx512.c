/* kernels/mm_q256_avx512.c - products of the super-block types for AVX-512 (tile_q256_priv.h). */
#include "kernels/tile_q256_priv.h"

void sh_mm_q256_fill_avx512(struct sh_kernels *k)
{
    fill_types256(k);
}
