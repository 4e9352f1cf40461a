/* tests/kernels/bits.h - the bits of the scalar kernels, which are the definition, against known
 * ones: they are the same for every compiler, configuration and machine.
 *
 * The checkers fold what the scalar kernels gave for all of their inputs into a hash per kernel,
 * and the last test of a program compares the hashes.  A checker that gets other inputs gets other
 * hashes; bits_check prints the rows that it wants.  Threads: one.
 */
#ifndef TESTS_KERNELS_BITS_H
#define TESTS_KERNELS_BITS_H

#include <stddef.h>
#include <stdint.h>

enum bits_list { BITS_VECTOR, BITS_MATRIX };

/* Into the hash of "what name": n floats, where all NaN are one, or bytes. */
void bits_fold_f32(const char *what, const char *name, const float *x, size_t n);
void bits_fold_bytes(const char *what, const char *name, const void *p, size_t bytes);
/* Fails unless exactly the kernels of the list were folded, with the known hashes. */
void bits_check(enum bits_list list);

#endif
