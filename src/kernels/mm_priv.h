/* kernels/mm_priv.h - the pieces from which the matrix half of the kernel table is filled.
 * Threads: pure functions. */
#ifndef KERNELS_MM_PRIV_H
#define KERNELS_MM_PRIV_H

#include "kernels/kernels.h"

void sh_act_fill_scalar(struct sh_kernels *k);
void sh_decode_fill_scalar(struct sh_kernels *k);
void sh_encode_fill_scalar(struct sh_kernels *k);   /* plain floats and 32-blocks */
void sh_encode_k_fill_scalar(struct sh_kernels *k); /* super-blocks */

/* Also for AVX-512, which has little to add to them. */
void sh_act_fill_avx2(struct sh_kernels *k);
void sh_convert_fill_avx2(struct sh_kernels *k); /* rows of f16 and bf16 */

void sh_act_fill_neon(struct sh_kernels *k);
void sh_convert_fill_neon(struct sh_kernels *k);

/* 32-blocks, super-blocks and plain floats of the vector tiers. */
void sh_mm_q32_fill_avx2(struct sh_kernels *k);
void sh_mm_q32_fill_avx512(struct sh_kernels *k);
void sh_mm_q256_fill_avx2(struct sh_kernels *k);
void sh_mm_q256_fill_avx512(struct sh_kernels *k);
void sh_mm_float_fill_avx2(struct sh_kernels *k);
void sh_mm_float_fill_avx512(struct sh_kernels *k);
void sh_mm_q32_fill_neon(struct sh_kernels *k);
void sh_mm_q32_fill_dotprod(struct sh_kernels *k);
void sh_mm_q256_fill_neon(struct sh_kernels *k);
void sh_mm_q256_fill_dotprod(struct sh_kernels *k);
void sh_mm_float_fill_neon(struct sh_kernels *k);

#endif
