/* base/arena.c - chunks that grow, blocks that are only cut off.
 *
 * A new chunk is at least as big as the one before, so the head is always the largest: reset keeps
 * the head and frees the rest.  Bytes are zeroed when handed out, because a kept chunk is dirty.
 * Under AddressSanitizer all of a chunk is poisoned but the blocks handed out, and 16 bytes stay
 * poisoned behind each block.
 */
#include "base/arena.h"

#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "base/sanitize_priv.h"

#define CHUNK_BYTES_MIN ((size_t)4096)
#define CHUNK_GROWTH_MAX ((size_t)16 << 20) // a chunk is at most this much bigger than the last
#define RED_ZONE ((size_t)(SH_ASAN ? 16 : 0))

struct sh_arena_chunk {
    struct sh_arena_chunk *next;
    size_t size; // bytes behind the header
    size_t used;
};
// Data starts one cache line in: the chunk itself is aligned to one.
#define CHUNK_HEADER ((size_t)SH_MEM_ALIGN)
_Static_assert(sizeof(struct sh_arena_chunk) <= SH_MEM_ALIGN, "the header fits its line");

static uint8_t *chunk_data(struct sh_arena_chunk *c)
{
    return (uint8_t *)c + CHUNK_HEADER;
}

static struct sh_arena_chunk *chunk_create(size_t size)
{
    struct sh_arena_chunk *c;
    size_t total;

    if (!sh_add_ok(size, CHUNK_HEADER, &total)) return NULL;
    c = sh_malloc(total);
    if (!c) return NULL;
    *c = (struct sh_arena_chunk){.size = size};
    sh_poison(chunk_data(c), size);
    return c;
}

static void chunk_destroy(struct sh_arena_chunk *c)
{
    sh_unpoison(chunk_data(c), c->size);
    sh_free(c);
}

/* `total` bytes at the next multiple of `align` in `c`; NULL when they do not fit. */
static uint8_t *chunk_cut(struct sh_arena_chunk *c, size_t total, size_t align, size_t bytes)
{
    size_t at;
    uint8_t *p;

    if (!sh_round_up_ok(c->used, align, &at) || !sh_range_ok(at, total, c->size)) return NULL;
    p = chunk_data(c) + at;
    c->used = at + total;
    sh_unpoison(p, bytes);
    return p;
}

/* Put a chunk with room for `total` aligned bytes in front. */
static struct sh_arena_chunk *arena_grow(struct sh_arena *a, size_t total)
{
    size_t size = CHUNK_BYTES_MIN - CHUNK_HEADER;
    struct sh_arena_chunk *c;

    if (a->head) {
        const size_t last = a->head->size;
        size = last + (last < CHUNK_GROWTH_MAX ? last : CHUNK_GROWTH_MAX);
    }
    c = chunk_create(size < total ? total : size);
    if (!c && size > total && a->head) {
        // No memory for growing generously: the head must stay the largest, so ask for its size.
        c = chunk_create(a->head->size < total ? total : a->head->size);
    }
    if (!c) return NULL;
    c->next = a->head;
    a->head = c;
    return c;
}

void *sh_arena_calloc(struct sh_arena *a, size_t n, size_t bytes)
{
    size_t len, total;
    size_t before = a->head ? a->head->used : 0;
    uint8_t *p = NULL;

    if (!sh_mul_ok(n, bytes, &len)) return NULL;
    if (len == 0) len = 1;
    if (!sh_add_ok(len, RED_ZONE, &total)) return NULL;
    const size_t align = len >= SH_MEM_ALIGN ? SH_MEM_ALIGN : 16;

    if (a->head) p = chunk_cut(a->head, total, align, len);
    if (!p) {
        if (!arena_grow(a, total)) return NULL;
        before = 0;
        p = chunk_cut(a->head, total, align, len);
    }
    a->used_bytes += a->head->used - before;
    memset(p, 0, len);
    return p;
}

char *sh_arena_strndup(struct sh_arena *a, const char *s, size_t len)
{
    size_t total;
    char *p;

    if (!sh_add_ok(len, 1, &total)) return NULL;
    p = sh_arena_calloc(a, total, 1);
    if (p && len) memcpy(p, s, len);
    return p;
}

void sh_arena_reset(struct sh_arena *a)
{
    struct sh_arena_chunk *head = a->head;

    a->used_bytes = 0;
    if (!head) return;
    for (struct sh_arena_chunk *c = head->next, *next; c; c = next) {
        next = c->next;
        chunk_destroy(c);
    }
    head->next = NULL;
    head->used = 0;
    sh_poison(chunk_data(head), head->size);
}

void sh_arena_release(struct sh_arena *a)
{
    sh_arena_reset(a);
    if (a->head) chunk_destroy(a->head);
    *a = (struct sh_arena)SH_ARENA_INIT;
}
