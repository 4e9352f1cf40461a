/* kernels/attn_avx2.c - attention blocks, short convolutions and scans in AVX2.
 *
 * Threads: pure functions.
 */
#include "kernels/lanes_avx2_priv.h"

#include "kernels/lanes_attn_priv.h"
#include "kernels/lanes_scan_priv.h"
#include "kernels/vec_priv.h"

void sh_attn_fill_avx2(struct sh_kernels *k)
{
    fill_attn(k);
    fill_scans(k);
}
