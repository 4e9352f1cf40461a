/* kernels/mm_float_avx512.c - products of plain float weights for AVX-512 (tile_float_priv.h). */
#include "kernels/tile_float_priv.h"

void sh_mm_float_fill_avx512(struct sh_kernels *k)
{
    fill_typesf(k);
}
