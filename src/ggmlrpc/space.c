/* ggmlrpc/space.c - slots, tokens and addresses. */
#include "ggmlrpc/space.h"

#include "base/mem.h"

#define SLOT_BITS 13
#define SLOT_MASK (((uint64_t)1 << SLOT_BITS) - 1)
#define ADDRESS_BITS 40

_Static_assert(SH_SPACE_BUFFERS_MAX < (1 << SLOT_BITS), "a slot fits into a token");

void sh_space_init(struct sh_space *s, uint64_t seed)
{
    // 31 random bits in front of room for 2^20 generations: no token is ever 0 or met twice
    *s = (struct sh_space){.generation = (seed & 0x7fffffff) << 20 | 1};
}

void sh_space_release(struct sh_space *s)
{
    sh_free(s->slots);
    sh_space_init(s, 0);
}

static struct sh_space_buffer *free_slot(struct sh_space *s)
{
    if (s->n_live < s->n_slots) {
        for (int32_t i = 0; i < s->n_slots; i++) {
            if (s->slots[i].token == 0) return &s->slots[i];
        }
    }
    if (s->n_slots == s->cap_slots) {
        const int32_t cap = s->cap_slots ? 2 * s->cap_slots : 16;
        void *p = sh_realloc_array(s->slots, (size_t)cap, sizeof *s->slots);
        if (!p) return NULL;
        s->slots = p;
        s->cap_slots = cap;
    }
    return &s->slots[s->n_slots++];
}

enum shoal_status sh_space_add(struct sh_space *s, struct sh_buffer *b,
                               struct sh_space_buffer **out, struct shoal_error *err)
{
    struct sh_space_buffer *slot;
    uint64_t number;

    *out = NULL;
    if (s->n_live >= SH_SPACE_BUFFERS_MAX) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "a client may hold %d buffers", SH_SPACE_BUFFERS_MAX);
    }
    slot = free_slot(s);
    if (!slot) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a list of buffers");
    number = (uint64_t)(slot - s->slots) + 1;
    *slot = (struct sh_space_buffer){.token = s->generation++ << SLOT_BITS | number,
                                     .base = number << ADDRESS_BITS,
                                     .bytes = sh_buffer_bytes(b),
                                     .buffer = b};
    s->n_live++;
    *out = slot;
    return SHOAL_OK;
}

void sh_space_remove(struct sh_space *s, struct sh_space_buffer *b)
{
    *b = (struct sh_space_buffer){.token = 0};
    s->n_live--;
}

struct sh_space_buffer *sh_space_find(const struct sh_space *s, uint64_t token)
{
    const uint64_t slot = (token & SLOT_MASK) - 1; // slot 0 wraps beyond every list

    if (token == 0 || slot >= (uint64_t)s->n_slots || s->slots[slot].token != token) return NULL;
    return &s->slots[slot];
}
