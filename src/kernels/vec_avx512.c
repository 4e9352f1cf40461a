/* kernels/vec_avx512.c - the row kernels in AVX-512.  Threads: pure functions. */
#include "kernels/lanes_avx512_priv.h"

#include "kernels/lanes_rows_priv.h"
#include "kernels/tiers_priv.h"

void sh_vec_fill_avx512(struct sh_kernels *k)
{
    fill_rows(k);
    sh_attn_fill_avx512(k);
}
