/* kernels/mm_q32_neon.c - products of the 32-block types for NEON (tile_q32_priv.h). */
#include "kernels/tile_q32_priv.h"

void sh_mm_q32_fill_neon(struct sh_kernels *k)
{
    fill_types32(k);
}
