/* kernels/mm_scalar.c - the scalar slots of the matrix products. */
#include "kernels/tiers_priv.h"

void sh_mm_fill_scalar(struct sh_kernels *k)
{
    (void)k;
}
