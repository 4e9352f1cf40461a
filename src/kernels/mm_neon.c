/* kernels/mm_neon.c - the NEON slots of the matrix half of the kernel table. */
#include "kernels/mm_priv.h"
#include "kernels/tiers_priv.h"

void sh_mm_fill_neon(struct sh_kernels *k)
{
    sh_act_fill_neon(k);
    sh_convert_fill_neon(k);
    sh_mm_float_fill_neon(k);
    sh_mm_q32_fill_neon(k);
    sh_mm_q256_fill_neon(k);
}
