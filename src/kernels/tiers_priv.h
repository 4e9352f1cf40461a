/* kernels/tiers_priv.h - who fills which slots of the kernel table, and what the tiers share.
 *
 * Each fill function sets the slots that its tier does better and leaves the others alone; the
 * scalar ones set every slot.  A tier's code may run only on a CPU that has it, so nothing
 * outside its own files calls it but through the table.  Threads: pure.
 */
#ifndef KERNELS_TIERS_PRIV_H
#define KERNELS_TIERS_PRIV_H

#include "kernels/kernels.h"

#if defined(__x86_64__)
#define SH_ARCH_X86 1
#else
#define SH_ARCH_X86 0
#endif
#if defined(__aarch64__) && defined(__ARM_NEON)
#define SH_ARCH_ARM64 1
#else
#define SH_ARCH_ARM64 0
#endif

/* Rows of f32: vec_<tier>.c. */
void sh_vec_fill_scalar(struct sh_kernels *k);
void sh_vec_fill_avx2(struct sh_kernels *k);
void sh_vec_fill_avx512(struct sh_kernels *k);
void sh_vec_fill_neon(struct sh_kernels *k);

/* Matrix products, activation layouts, decoders and encoders. */
void sh_mm_fill_scalar(struct sh_kernels *k);
void sh_mm_fill_avx2(struct sh_kernels *k);
void sh_mm_fill_avx512(struct sh_kernels *k);
void sh_mm_fill_neon(struct sh_kernels *k);
void sh_mm_fill_dotprod(struct sh_kernels *k);

#endif
