/* kernels/vec_neon.c - the row kernels in NEON.  Threads: pure functions. */
#include "kernels/lanes_neon_priv.h"

#include "kernels/lanes_rows_priv.h"
#include "kernels/tiers_priv.h"

void sh_vec_fill_neon(struct sh_kernels *k)
{
    fill_rows(k);
    sh_attn_fill_neon(k);
}
