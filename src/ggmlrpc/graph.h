/* ggmlrpc/graph.h - graphs between the wire and struct sh_graph.
 *
 *   payload    u32 device | u32 N | N u64 node ids | u32 T | T records of 296 bytes
 *
 * Decoding.  Every record is checked (ids, type, shape, strides, place, view) in one pass without
 * recursion: a record may refer to earlier ones only, as clients write them in post-order; a
 * conversion, CPY naming itself, is the exception.  Kept are only the nodes that compute and what
 * they touch.  Results of skipped nodes and of views are plain tensors with a place: their bytes
 * are where their record says.  What the ops themselves demand is the validator's business
 * (tensor/graph.h), which whoever prepares the graph calls.
 *
 * Encoding.  All tensors of a graph whose places are known, numbers + 1 as ids.
 *
 * Threads: pure functions over what they are given.
 */
#ifndef GGMLRPC_GRAPH_H
#define GGMLRPC_GRAPH_H

#include "ggmlrpc/space.h"
#include "tensor/graph.h"

struct sh_wire_graph {
    struct sh_graph graph; /* buffer index i of a place: tokens[i] */
    uint64_t *tokens;      /* in the graph's arena */
    int32_t n_tokens;
    int32_t n_listed; /* nodes that the peer listed, computing or not */
    size_t bytes;     /* of memory that it holds */
};

/* Most bytes of memory that decoding this payload takes and its graph holds, by its two counts;
 * 0 where they are wrong, which decoding finds before it allocates anything. */
size_t sh_wire_graph_bytes_max(const uint8_t *payload, size_t size, const struct sh_space *space);

/* Decode the payload behind the device number: `size` bytes from N on.  `seed` is a random number
 * that keeps clients from making all ids collide.  ERR_FORMAT, ERR_LIMIT, ERR_UNSUPPORTED, NOMEM.
 */
SHOAL_NODISCARD enum shoal_status sh_wire_graph_decode(struct sh_wire_graph *out,
                                                       const uint8_t *payload, size_t size,
                                                       const struct sh_space *space, uint64_t seed,
                                                       struct shoal_error *err);
void sh_wire_graph_release(struct sh_wire_graph *g); /* accepts the zeroed value */

/* Where a tensor lies on the server: both 0 = nowhere. */
struct sh_wire_spot {
    uint64_t token, address;
};

/* A whole GRAPH_COMPUTE request, header included, in one block of sh_malloc.  spots[] by tensor
 * number; views follow their roots.  ERR_UNSUPPORTED names a node without a number on the wire or
 * a tensor whose extents do not fit into 32 bits. */
SHOAL_NODISCARD enum shoal_status sh_wire_graph_encode(uint8_t **out, size_t *out_bytes,
                                                       const struct sh_graph *g, uint32_t device,
                                                       const struct sh_wire_spot *spots,
                                                       struct shoal_error *err);
/* One tensor as a record without ids of others (GET_ALLOC_SIZE); the same errors. */
struct sh_wire_tensor;
SHOAL_NODISCARD enum shoal_status sh_wire_graph_record(const struct sh_graph *g, int32_t tensor,
                                                       struct sh_wire_tensor *out,
                                                       struct shoal_error *err);

#endif
