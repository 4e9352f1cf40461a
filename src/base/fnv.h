/* base/fnv.h - FNV-1a with 64 bits, over several inputs at once.
 *
 *     h = 0xcbf29ce484222325;  for each byte:  h = (h xor byte) * 0x100000001b3   (mod 2^64)
 *
 * Every byte waits for the product before it, so one chain leaves most of a core idle.  Chains of
 * different inputs do not wait for each other: six of them together take hardly longer than one.
 * The result of each is that of the plain chain.
 *
 * It finds accidents, not attackers: whoever wants a given hash makes bytes that have it.
 * Threads: pure functions.
 */
#ifndef BASE_FNV_H
#define BASE_FNV_H

#include <stddef.h>
#include <stdint.h>

#define SH_FNV_START UINT64_C(0xcbf29ce484222325)
#define SH_FNV_CHAINS_MAX 6 /* more do not pay */

/* Continue a hash by n bytes.  One chain, about a quarter of what four reach together. */
uint64_t sh_fnv(uint64_t hash, const void *data, size_t n);

struct sh_fnv_chain {
    uint64_t hash; /* so far; SH_FNV_START in the beginning */
    const uint8_t *at;
    size_t left; /* bytes */
};

/* Advance 1 .. SH_FNV_CHAINS_MAX chains by `n` bytes each; every one has as many left. */
void sh_fnv_step(struct sh_fnv_chain *chains, int n_chains, size_t n);

/* Finish any number of chains, however long each is. */
void sh_fnv_finish(struct sh_fnv_chain *chains, size_t n_chains);

#endif
