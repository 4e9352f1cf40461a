/* ggmlrpc/record.h - whether a tensor record from a peer may be used.
 *
 * A record passes in two steps: its shape (type, extents, strides, nothing that overflows), then
 * its place (the token is ours, the address and every byte of the tensor inside that buffer).
 * Both say what is wrong in words that end "… in <caller's message>".
 * Threads: pure functions.
 */
#ifndef GGMLRPC_RECORD_H
#define GGMLRPC_RECORD_H

#include "ggmlrpc/space.h"
#include "ggmlrpc/wire.h"
#include "tensor/graph.h"

/* Type, extents and strides into a tensor without sources and place; *bytes from its first to its
 * last byte. */
SHOAL_NODISCARD enum shoal_status sh_record_shape(const struct sh_wire_tensor *r,
                                                  struct sh_tensor *out, size_t *bytes,
                                                  struct shoal_error *err);

/* Where its bytes lie.  A record without a buffer, or with a token unknown here, gives *where =
 * NULL; an address outside its buffer is an error. */
SHOAL_NODISCARD enum shoal_status sh_record_place(const struct sh_wire_tensor *r,
                                                  const struct sh_tensor *shape, size_t bytes,
                                                  const struct sh_space *space,
                                                  struct sh_space_buffer **where, size_t *offset,
                                                  struct shoal_error *err);

#endif
