/* kernels/vec_avx2.c - the row kernels in AVX2.  Threads: pure functions. */
#include "kernels/lanes_avx2_priv.h"

#include "kernels/lanes_rows_priv.h"
#include "kernels/tiers_priv.h"

void sh_vec_fill_avx2(struct sh_kernels *k)
{
    fill_rows(k);
    sh_attn_fill_avx2(k);
}
