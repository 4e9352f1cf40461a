/* rpc/graph_wire.h - a graph as bytes: what is computed from what, never where it lies.
 *
 * The sender says leaves and ops with their sources and attributes; the reader builds the graph
 * anew with the builders of tensor/graph.h, so types, shapes, strides and roots come from its own
 * rules.  There is nothing in the bytes that a hostile sender could use to reach memory.
 *
 *     u32 n_tensors, i64 T, O, R (maxima), then every tensor in order:
 *       u8 kind: 0 leaf, 1 node, 2 node of a wanted shape, 3 node VIEW
 *       u8 flags: 1 output; u16 length and bytes of its name (mostly none)
 *     leaf:  u8 leaf kind, then
 *       1 WEIGHT   u8 type, i64 ne[4], i32 stack, u8 axis (255: whole), and unless whole
 *                  u8 n, n times: i64 begin, i64 end
 *       2 INPUT    u8 input, i64 width
 *       3 CACHE_K, 4 CACHE_V   u8 type, u8 group, u32 layer, i64 width, i64 pages
 *       5 TABLE    u8 group, i64 indexes, i64 sequences
 *       6 STATE    u8 group, u32 layer, i64 ne[4]
 *     node:  u16 op (index into the sender's names in HELLO), u8 n, n times: i32 source (-1
 * absent), u8 n, n times: u8 number, i32 value of a parameter word that is not 0, ascending 2 then
 * u8 type, i64 ne[4], u8 extent, u8 its dimension 3    the same, then u64 nb[4], u64 offset from
 * the source's first byte
 *
 * Types are GGUF's numbers; inputs, leaf kinds and extents as enumerated in tensor/graph.h. Sources
 * have smaller numbers, so there is no circle.  Leaves of kind OTHER and places do not travel.
 * Threads: pure functions.
 */
#ifndef RPC_GRAPH_WIRE_H
#define RPC_GRAPH_WIRE_H

#include "base/cursor.h"
#include "tensor/graph.h"

#define SH_GRAPH_WIRE_BYTES_MAX (4u << 20)
#define SH_GRAPH_WIRE_NAME_MAX 127
#define SH_GRAPH_WIRE_OPS_MAX 400 /* as HELLO */
#define SH_GRAPH_WIRE_OP_NAME 33  /* with a NUL */

/* Names of our ops in the order of their numbers: what HELLO carries.  `names` has SH_OP_COUNT. */
void sh_graph_wire_ops(const char **names);
/* From a peer's numbers to our ops. */
struct sh_graph_wire_map {
    uint16_t n;
    struct {
        uint16_t op; /* SH_OP_COUNT: only the peer knows it */
        char name[SH_GRAPH_WIRE_OP_NAME];
    } ops[SH_GRAPH_WIRE_OPS_MAX];
};
void sh_graph_wire_map_init(struct sh_graph_wire_map *m);
/* The peer's next name, of n bytes.  False when there are too many, or it is too long. */
bool sh_graph_wire_map_add(struct sh_graph_wire_map *m, const char *name, size_t n);
/* As if the peer were we. */
void sh_graph_wire_map_own(struct sh_graph_wire_map *m);

/* Bytes that put writes; ERR_UNSUPPORTED, ERR_LIMIT and ERR_ARG for graphs that cannot be sent. */
SHOAL_NODISCARD enum shoal_status sh_graph_wire_bytes(size_t *bytes, const struct sh_graph *g,
                                                      struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_graph_wire_put(struct sh_writer *w, const struct sh_graph *g,
                                                    struct shoal_error *err);
/* Into a new graph, which the caller validates, and releases, on failure too.  ERR_FORMAT,
 * ERR_LIMIT, ERR_UNSUPPORTED (an op that only the sender knows) name the tensor. */
SHOAL_NODISCARD enum shoal_status sh_graph_wire_get(struct sh_graph *out, const uint8_t *bytes,
                                                    size_t n, const struct sh_graph_wire_map *ops,
                                                    struct shoal_error *err);
/* Do two graphs compute the same: tensors, nodes, leaves, extents, outputs, names, equal in all but
 * places? */
bool sh_graph_wire_equal(const struct sh_graph *a, const struct sh_graph *b);

#endif
