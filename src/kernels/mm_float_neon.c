/* kernels/mm_float_neon.c - products of plain float weights for NEON (tile_float_priv.h). */
#include "kernels/tile_float_priv.h"

void sh_mm_float_fill_neon(struct sh_kernels *k)
{
    fill_typesf(k);
}
