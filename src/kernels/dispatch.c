/* kernels/dispatch.c - fills a kernel table: scalar first, then each granted tier over it.
 *
 * Threads: sh_kernels_fill is pure; sh_kernels fills the process's table once.
 */
#include "kernels/kernels.h"

#include <pthread.h>
#include <string.h>

#include "kernels/tiers_priv.h"

static struct sh_kernels g_kernels;
static pthread_once_t g_kernels_once = PTHREAD_ONCE_INIT;

void sh_kernels_fill(struct sh_kernels *k, unsigned isa)
{
    memset(k, 0, sizeof *k);
    sh_vec_fill_scalar(k);
    sh_mm_fill_scalar(k);
#if SH_ARCH_X86
    if (isa & SH_ISA_AVX2) {
        sh_vec_fill_avx2(k);
        sh_mm_fill_avx2(k);
    }
    if (isa & SH_ISA_AVX512) {
        sh_vec_fill_avx512(k);
        sh_mm_fill_avx512(k);
    }
#elif SH_ARCH_ARM64
    if (isa & SH_ISA_NEON) {
        sh_vec_fill_neon(k);
        sh_mm_fill_neon(k);
    }
    if (isa & SH_ISA_DOTPROD) sh_mm_fill_dotprod(k);
#else
    (void)isa;
#endif
}

static void fill_once(void)
{
    sh_kernels_fill(&g_kernels, sh_isa_allowed());
}

const struct sh_kernels *sh_kernels(void)
{
    pthread_once(&g_kernels_once, fill_once);
    return &g_kernels;
}
