/* kernels/mm_q256_dotprod.c - products of the super-block types for ARM with dot product
 * instructions (tile_q256_priv.h). */
#include "kernels/tile_q256_priv.h"

void sh_mm_q256_fill_dotprod(struct sh_kernels *k)
{
    fill_types256(k);
}
