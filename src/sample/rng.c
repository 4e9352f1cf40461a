/* sample/rng.c - see rng.h; constants of MT19937 as published. */
#include "sample/rng.h"

enum { N = 624, M = 397 };

void sh_rng_init(struct sh_rng *r, uint32_t seed)
{
    r->state[0] = seed;
    for (uint32_t i = 1; i < N; i++)
        r->state[i] = 1812433253u * (r->state[i - 1] ^ (r->state[i - 1] >> 30)) + i;
    r->at = N;
}

static void turn(struct sh_rng *r)
{
    for (uint32_t i = 0; i < N; i++) {
        const uint32_t y = (r->state[i] & 0x80000000u) | (r->state[(i + 1) % N] & 0x7fffffffu);
        r->state[i] = r->state[(i + M) % N] ^ (y >> 1) ^ ((y & 1) ? 0x9908b0dfu : 0);
    }
    r->at = 0;
}

uint32_t sh_rng_next(struct sh_rng *r)
{
    uint32_t y;

    if (r->at >= N) turn(r);
    y = r->state[r->at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

double sh_rng_draw(struct sh_rng *r)
{
    const double x0 = sh_rng_next(r), x1 = sh_rng_next(r);
    const double u = (x0 + x1 * 4294967296.0) / 18446744073709551616.0;

    return u < 1 ? u : 0x1.fffffffffffffp-1;
}
