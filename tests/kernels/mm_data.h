/* tests/kernels/mm_data.h - inputs for the checkers of the matrix products: guarded buffers,
 * a small generator, blocks of every type and rows of activations, ordinary and hostile.
 * Threads: one.
 */
#ifndef TESTS_KERNELS_MM_DATA_H
#define TESTS_KERNELS_MM_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

/* A buffer between two pages that may not be touched. */
struct guarded {
    uint8_t *map;
    size_t map_bytes, room, page;
};
struct guarded guarded_open(size_t bytes);
void guarded_close(struct guarded *g);
/* The first `bytes` after the front page plus `skew`, or the last ones before the rear page. */
uint8_t *guarded_first(const struct guarded *g, size_t skew);
uint8_t *guarded_last(const struct guarded *g, size_t bytes);

/* xorshift, 32 bits; the state must not be 0. */
uint32_t data_rand(uint32_t *state);

/* Kinds of weights.  FILL_x: every byte of the codes is x, scales are ordinary. */
enum weight_kind {
    WEIGHT_RANDOM,
    WEIGHT_FILL_00,
    WEIGHT_FILL_FF,
    WEIGHT_FILL_80,
    WEIGHT_FILL_7F,
    WEIGHT_WILD_SCALES, /* random codes; scales infinite, NaN, zero, subnormal, largest */
    WEIGHT_KINDS
};
/* `bytes` bytes of whole blocks. */
void data_weights(uint8_t *dst, size_t bytes, enum sh_dtype type, enum weight_kind kind,
                  uint32_t seed);

enum act_kind {
    ACT_RANDOM,
    ACT_ONES,        /* all at the largest code */
    ACT_ALTERNATING, /* both limits */
    ACT_ZERO,
    ACT_TIES, /* halfway between codes */
    ACT_TINY, /* subnormal: inverse scales overflow */
    ACT_WILD, /* huge, infinite and NaN elements among ordinary ones */
    ACT_KINDS
};
void data_act(float *x, int64_t n, enum act_kind kind, uint32_t seed);

/* FNV-1a. */
uint32_t data_hash(const void *p, size_t bytes);

#endif
