/* base/fnv.c - see fnv.h.  The chains' state stays in registers while they advance. */
#include "base/fnv.h"

#include "base/error.h"

#define PRIME UINT64_C(0x100000001b3)

uint64_t sh_fnv(uint64_t hash, const void *data, size_t n)
{
    const uint8_t *p = data;

    for (size_t i = 0; i < n; i++)
        hash = (hash ^ p[i]) * PRIME;
    return hash;
}

/* Always six: with a constant number everything stays in registers, whatever the compiler.  Spare
 * ones repeat the first chain, which costs little, and are forgotten. */
static void step_six(struct sh_fnv_chain *c, int n_chains, size_t n)
{
    const uint8_t *at[SH_FNV_CHAINS_MAX];
    uint64_t hash[SH_FNV_CHAINS_MAX];

    for (int j = 0; j < SH_FNV_CHAINS_MAX; j++) {
        const struct sh_fnv_chain *from = &c[j < n_chains ? j : 0];
        hash[j] = from->hash;
        at[j] = from->at;
    }
    for (size_t i = 0; i < n; i++) {
#pragma GCC unroll 6
        for (int j = 0; j < SH_FNV_CHAINS_MAX; j++)
            hash[j] = (hash[j] ^ at[j][i]) * PRIME;
    }
    for (int j = 0; j < n_chains; j++)
        c[j].hash = hash[j];
}

void sh_fnv_step(struct sh_fnv_chain *c, int n_chains, size_t n)
{
    SH_ASSERT(n_chains >= 1 && n_chains <= SH_FNV_CHAINS_MAX);
    if (n_chains == 1) {
        c->hash = sh_fnv(c->hash, c->at, n);
    } else {
        step_six(c, n_chains, n);
    }
    for (int j = 0; j < n_chains; j++) {
        c[j].at += n;
        c[j].left -= n;
    }
}

void sh_fnv_finish(struct sh_fnv_chain *chains, size_t n_chains)
{
    struct sh_fnv_chain lane[SH_FNV_CHAINS_MAX];
    size_t whose[SH_FNV_CHAINS_MAX], next = 0;
    int n = 0;

    for (;;) {
        size_t least = SIZE_MAX;
        for (int i = 0; i < n;) {
            if (lane[i].left == 0) {
                chains[whose[i]] = lane[i];
                lane[i] = lane[--n];
                whose[i] = whose[n];
            } else {
                i++;
            }
        }
        for (; n < SH_FNV_CHAINS_MAX && next < n_chains; next++) {
            if (chains[next].left == 0) continue;
            whose[n] = next;
            lane[n++] = chains[next];
        }
        if (n == 0) return;
        for (int i = 0; i < n; i++)
            least = lane[i].left < least ? lane[i].left : least;
        sh_fnv_step(lane, n, least);
    }
}
