/* text/map_priv.h - the two hash tables of a vocabulary: strings and pairs of numbers.
 *
 * Both use open addressing at most two thirds full.  Vocabularies come from files that may be
 * hostile, so every table has a random seed and nobody can choose keys that collide.
 * Threads: one while filling, any number of readers after.
 */
#ifndef TEXT_MAP_PRIV_H
#define TEXT_MAP_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#define SH_NO_SYM UINT32_MAX

static inline uint64_t sh_mix64(uint64_t h)
{
    h ^= h >> 32;
    h *= UINT64_C(0x9FB21C651E98DF25);
    h ^= h >> 29;
    h *= UINT64_C(0xD6E8FEB86659FD93);
    return h ^ h >> 32;
}

static inline uint64_t sh_hash_seeded(uint64_t seed, const char *s, size_t len)
{
    uint64_t h = seed ^ (len * UINT64_C(0x9E3779B97F4A7C15)), w;

    for (; len > 8; s += 8, len -= 8) {
        memcpy(&w, s, 8);
        h = sh_mix64(h ^ w);
    }
    w = 0;
    if (len) memcpy(&w, s, len);
    return sh_mix64(h ^ w);
}

/* A number that no author of a file can know. */
uint64_t sh_random_seed(void);

/* String -> number of the string in an array of the caller's, given again at each call (it may
 * move while it grows). */
struct sh_strmap {
    struct sh_strmap_slot *slots; /* NULL while empty */
    size_t mask, used;
    uint64_t seed;
};
#define SH_STRMAP_INIT                                                                             \
    {                                                                                              \
        .slots = NULL, .mask = 0, .used = 0, .seed = 0                                             \
    }

/* Room for `n` strings; more is legal. */
SHOAL_NODISCARD enum shoal_status sh_strmap_init(struct sh_strmap *m, size_t n);
void sh_strmap_release(struct sh_strmap *m);
/* Number of the string, or SH_NO_SYM. */
uint32_t sh_strmap_find(const struct sh_strmap *m, const struct sh_str *strs, struct sh_str key);
/* Enter strs[i].  An equal string is replaced; *was (may be NULL) is its number or SH_NO_SYM. */
SHOAL_NODISCARD enum shoal_status sh_strmap_put(struct sh_strmap *m, const struct sh_str *strs,
                                                uint32_t i, uint32_t *was);

/* (a, b) -> (x, y), with x < UINT32_MAX. */
struct sh_pairmap {
    struct sh_pairmap_slot *slots;
    size_t mask, used;
    uint64_t seed;
};
struct sh_pairmap_slot {
    uint64_t key;
    uint32_t x, y; /* x == UINT32_MAX: empty */
};
#define SH_PAIRMAP_INIT                                                                            \
    {                                                                                              \
        .slots = NULL, .mask = 0, .used = 0, .seed = 0                                             \
    }

/* Room for `n` pairs, not more. */
SHOAL_NODISCARD enum shoal_status sh_pairmap_init(struct sh_pairmap *m, size_t n);
void sh_pairmap_release(struct sh_pairmap *m);
/* False, and nothing changed, if the pair is there already. */
bool sh_pairmap_put(struct sh_pairmap *m, uint32_t a, uint32_t b, uint32_t x, uint32_t y);

static inline uint64_t sh_pair_key(uint32_t a, uint32_t b)
{
    return (uint64_t)a << 32 | b;
}
/* NULL if absent. */
static inline const struct sh_pairmap_slot *sh_pairmap_find(const struct sh_pairmap *m, uint32_t a,
                                                            uint32_t b)
{
    const uint64_t key = sh_pair_key(a, b);
    size_t at;

    if (!m->slots) return NULL;
    for (at = sh_mix64(key ^ m->seed) & m->mask; m->slots[at].x != UINT32_MAX;
         at = (at + 1) & m->mask)
        if (m->slots[at].key == key) return &m->slots[at];
    return NULL;
}

#endif
