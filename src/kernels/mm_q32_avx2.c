/* kernels/mm_q32_avx2.c - products of the 32-block types for AVX2 (tile_q32_priv.h). */
#include "kernels/tile_q32_priv.h"

void sh_mm_q32_fill_avx2(struct sh_kernels *k)
{
    fill_types32(k);
}
