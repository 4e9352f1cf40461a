/* ggmlrpc/space.h - the buffers of one connection, under tokens and addresses made up for it.
 *
 *   token      generation << 13 | slot + 1       generations start at random and never come back
 *   address    slot + 1 << 40 | offset           so a buffer holds at most 2^40 bytes
 *
 * A client sees nothing of this process's memory, and a token or address of another connection,
 * or of a buffer freed long ago, means nothing here.
 * Threads: one at a time.
 */
#ifndef GGMLRPC_SPACE_H
#define GGMLRPC_SPACE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "device/device.h"

#define SH_SPACE_BUFFERS_MAX 4096
#define SH_SPACE_BUFFER_BYTES_MAX ((uint64_t)1 << 40)

struct sh_space_buffer {
    uint64_t token; /* 0: the slot is free */
    uint64_t base;
    size_t bytes;
    struct sh_buffer *buffer; /* owned by whoever put it here */
};

struct sh_space {
    struct sh_space_buffer *slots;
    int32_t n_slots, cap_slots, n_live;
    uint64_t generation;
};

/* `seed`: a random number, where generations start. */
void sh_space_init(struct sh_space *s, uint64_t seed);
void sh_space_release(struct sh_space *s); /* forgets the buffers, frees none */

/* Give a buffer a token and a base.  ERR_LIMIT beyond SH_SPACE_BUFFERS_MAX. */
SHOAL_NODISCARD enum shoal_status sh_space_add(struct sh_space *s, struct sh_buffer *b,
                                               struct sh_space_buffer **out,
                                               struct shoal_error *err);
void sh_space_remove(struct sh_space *s, struct sh_space_buffer *b);
/* NULL when the token is none of a live buffer.  Valid until the next sh_space_add(). */
struct sh_space_buffer *sh_space_find(const struct sh_space *s, uint64_t token);

#endif
