/* kernels/mm_q32_dotprod.c - products of the 32-block types for ARM with dot product instructions
 * (tile_q32_priv.h). */
#include "kernels/tile_q32_priv.h"

void sh_mm_q32_fill_dotprod(struct sh_kernels *k)
{
    fill_types32(k);
}
