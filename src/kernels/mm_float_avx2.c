/* kernels/mm_float_avx2.c - products of plain float weights for AVX2 (tile_float_priv.h). */
#include "kernels/tile_float_priv.h"

void sh_mm_float_fill_avx2(struct sh_kernels *k)
{
    fill_typesf(k);
}
