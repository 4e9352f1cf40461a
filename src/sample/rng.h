/* sample/rng.h - the draws of a seed: MT19937 (Matsumoto and Nishimura, 1998), as llama.cpp's users
 * know it.
 *
 * u = (x0 + x1 * 2^32) / 2^64 from two outputs, kept below 1.  One draw per token, whatever the
 * filters are, so the stream of numbers does not depend on them.
 * Threads: a generator is the caller's.
 */
#ifndef SAMPLE_RNG_H
#define SAMPLE_RNG_H

#include <stdint.h>

struct sh_rng {
    uint32_t state[624];
    uint32_t at;
};

void sh_rng_init(struct sh_rng *r, uint32_t seed);
uint32_t sh_rng_next(struct sh_rng *r);
/* Uniform in [0, 1). */
double sh_rng_draw(struct sh_rng *r);

#endif
