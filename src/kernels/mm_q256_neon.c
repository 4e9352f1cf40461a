/* kernels/mm_q256_neon.c - products of the super-block types for NEON (tile_q256_priv.h). */
#include "kernels/tile_q256_priv.h"

void sh_mm_q256_fill_neon(struct sh_kernels *k)
{
    fill_types256(k);
}
