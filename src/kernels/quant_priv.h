/* kernels/quant_priv.h - rounding a run of f32 to 8-bit integers and a scale: the one definition
 * behind activation rows and the block encoders.
 *
 * An element that is NaN gives 0; infinite elements make the scale infinite and all integers 0.
 * Threads: pure functions.
 */
#ifndef KERNELS_QUANT_PRIV_H
#define KERNELS_QUANT_PRIV_H

#include <stdint.h>

/* 32 elements: d = max|x| / 127, q = x / d rounded half away from zero.  Returns d, unrounded. */
float sh_quant_q8(int8_t q[32], const float x[32]);
/* 256 elements: the element of largest magnitude becomes -127 (the first one wins), the rest
 * round to nearest even.  Returns d, which may be negative. */
float sh_quant_q8_K(int8_t q[256], const float x[256]);
/* Sum of n <= 256 integers. */
int32_t sh_quant_sum(int n, const int8_t *q);
/* The integer part of v held in 0..max; 0 for NaN. */
int sh_quant_clamp(float v, int max);
/* The signed element of largest magnitude, the first one of equals; 0 where there is none. */
float sh_quant_extreme(int n, const float *x);

#endif
