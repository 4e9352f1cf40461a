/* kernels/attn_avx512.c - attention blocks, short convolutions and scans in AVX-512.
 *
 * Threads: pure functions.
 */
#include "kernels/lanes_avx512_priv.h"

#include "kernels/lanes_attn_priv.h"
#include "kernels/lanes_scan_priv.h"
#include "kernels/vec_priv.h"

void sh_attn_fill_avx512(struct sh_kernels *k)
{
    fill_attn(k);
    fill_scans(k);
}
