/* map.c - see map_priv.h. */
#include "text/map_priv.h"

#include <sys/random.h>

#include "base/clock.h"
#include "base/mem.h"

struct sh_strmap_slot {
    uint32_t hash; /* the low half, which is all that places a string */
    uint32_t used; /* number of the string plus one, 0 if empty */
};

uint64_t sh_random_seed(void)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed)
        seed = (uint64_t)sh_now_ns(&sh_clock_system);
    return seed;
}

/* Power of two that holds n entries at two thirds; 0 if that cannot be. */
static size_t capacity_for(size_t n)
{
    size_t cap = 16;
    if (n > SIZE_MAX / 8) return 0;
    while (cap / 3 * 2 < n)
        cap *= 2;
    return cap;
}

enum shoal_status sh_strmap_init(struct sh_strmap *m, size_t n)
{
    const size_t cap = capacity_for(n);

    *m = (struct sh_strmap)SH_STRMAP_INIT;
    if (cap == 0) return SHOAL_ERR_NOMEM;
    m->slots = sh_calloc(cap, sizeof *m->slots);
    if (!m->slots) return SHOAL_ERR_NOMEM;
    m->mask = cap - 1;
    m->seed = sh_random_seed();
    return SHOAL_OK;
}

void sh_strmap_release(struct sh_strmap *m)
{
    sh_free(m->slots);
    *m = (struct sh_strmap)SH_STRMAP_INIT;
}

/* The slot that holds `key`, or the empty one where it belongs. */
static struct sh_strmap_slot *slot_of(const struct sh_strmap *m, const struct sh_str *strs,
                                      struct sh_str key, uint32_t hash)
{
    for (size_t at = hash & m->mask;; at = (at + 1) & m->mask) {
        struct sh_strmap_slot *s = &m->slots[at];
        if (!s->used) return s;
        if (s->hash == hash && sh_str_equal(strs[s->used - 1], key)) return s;
    }
}

uint32_t sh_strmap_find(const struct sh_strmap *m, const struct sh_str *strs, struct sh_str key)
{
    if (!m->slots) return SH_NO_SYM;
    return slot_of(m, strs, key, (uint32_t)sh_hash_seeded(m->seed, key.ptr, key.len))->used - 1;
}

static enum shoal_status grow(struct sh_strmap *m)
{
    const size_t cap = m->mask + 1;
    struct sh_strmap_slot *fresh = cap > SIZE_MAX / 4 ? NULL : sh_calloc(cap * 2, sizeof *fresh);

    if (!fresh) return SHOAL_ERR_NOMEM;
    for (size_t i = 0; i < cap; i++) {
        const struct sh_strmap_slot s = m->slots[i];
        size_t at = s.hash & (cap * 2 - 1);
        if (!s.used) continue;
        while (fresh[at].used)
            at = (at + 1) & (cap * 2 - 1);
        fresh[at] = s;
    }
    sh_free(m->slots);
    m->slots = fresh;
    m->mask = cap * 2 - 1;
    return SHOAL_OK;
}

enum shoal_status sh_strmap_put(struct sh_strmap *m, const struct sh_str *strs, uint32_t i,
                                uint32_t *was)
{
    const uint32_t hash = (uint32_t)sh_hash_seeded(m->seed, strs[i].ptr, strs[i].len);
    struct sh_strmap_slot *s;

    if ((m->used + 1) > (m->mask + 1) / 3 * 2) {
        enum shoal_status st = grow(m);
        if (st) return st;
    }
    s = slot_of(m, strs, strs[i], hash);
    if (was) *was = s->used - 1;
    if (!s->used) m->used++;
    *s = (struct sh_strmap_slot){.hash = hash, .used = i + 1};
    return SHOAL_OK;
}

enum shoal_status sh_pairmap_init(struct sh_pairmap *m, size_t n)
{
    const size_t cap = capacity_for(n);
    size_t bytes;

    *m = (struct sh_pairmap)SH_PAIRMAP_INIT;
    if (cap == 0 || !sh_mul_ok(cap, sizeof *m->slots, &bytes)) return SHOAL_ERR_NOMEM;
    m->slots = sh_malloc(bytes);
    if (!m->slots) return SHOAL_ERR_NOMEM;
    memset(m->slots, 0xFF, bytes); // x = UINT32_MAX: empty
    m->mask = cap - 1;
    m->seed = sh_random_seed();
    return SHOAL_OK;
}

void sh_pairmap_release(struct sh_pairmap *m)
{
    sh_free(m->slots);
    *m = (struct sh_pairmap)SH_PAIRMAP_INIT;
}

bool sh_pairmap_put(struct sh_pairmap *m, uint32_t a, uint32_t b, uint32_t x, uint32_t y)
{
    const uint64_t key = sh_pair_key(a, b);
    size_t at = sh_mix64(key ^ m->seed) & m->mask;

    for (; m->slots[at].x != UINT32_MAX; at = (at + 1) & m->mask)
        if (m->slots[at].key == key) return false;
    SH_ASSERT(m->used < m->mask);
    m->used++;
    m->slots[at] = (struct sh_pairmap_slot){.key = key, .x = x, .y = y};
    return true;
}
