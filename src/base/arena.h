/* base/arena.h - memory that lives and dies together (a model, a session, a step).
 *
 *      chunk 0                    chunk 1 (bigger)
 *     +--------------------+     +-----------------------------+
 *     | a | b |  c  | free | --> | d            | free         |
 *     +--------------------+     +-----------------------------+
 *
 * Blocks are handed out from chunks in order and never freed one by one.  Reset keeps the largest
 * chunk, so a steady user stops allocating.  Under AddressSanitizer free space is poisoned and
 * blocks are separated by red zones.  Threads: one at a time.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

struct sh_arena_chunk;

struct sh_arena {
    struct sh_arena_chunk *head; /* newest and largest first */
    size_t used_bytes;           /* in all chunks */
};
#define SH_ARENA_INIT                                                                              \
    {                                                                                              \
        .head = NULL, .used_bytes = 0                                                              \
    }

/* Zeroed block of n*bytes aligned to 16 (64 for blocks of 64 bytes and more); NULL when out of
 * memory or on overflow. */
void *sh_arena_calloc(struct sh_arena *a, size_t n, size_t bytes);
/* Copy of s[0..len) with a NUL behind. */
char *sh_arena_strndup(struct sh_arena *a, const char *s, size_t len);
void sh_arena_reset(struct sh_arena *a);   /* everything handed out becomes invalid */
void sh_arena_release(struct sh_arena *a); /* to SH_ARENA_INIT; accepts the empty arena */

#endif
