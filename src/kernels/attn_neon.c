/* kernels/attn_neon.c - attention blocks, short convolutions and scans in NEON.
 *
 * Threads: pure functions.
 */
#include "kernels/lanes_neon_priv.h"

#include "kernels/lanes_attn_priv.h"
#include "kernels/lanes_scan_priv.h"
#include "kernels/vec_priv.h"

void sh_attn_fill_neon(struct sh_kernels *k)
{
    fill_attn(k);
    fill_scans(k);
}
