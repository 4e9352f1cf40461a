/* kernels/mm_dotprod.c - what NEON with dot product instructions does better: the products of
 * block types. */
#include "kernels/mm_priv.h"
#include "kernels/tiers_priv.h"

void sh_mm_fill_dotprod(struct sh_kernels *k)
{
    sh_mm_q32_fill_dotprod(k);
    sh_mm_q256_fill_dotprod(k);
}
