/* tensor/graph_priv.h - what the files of graphs share: shapes, their limits, appending.
 * Threads: as graph.h. */
#ifndef TENSOR_GRAPH_PRIV_H
#define TENSOR_GRAPH_PRIV_H

#include "tensor/graph.h"

/* No tensor has more elements, an extent of 0 counted as 1; so products of extents of one tensor
 * cannot overflow, nor can the sum of two extents. */
#define SH_ELEMENTS_MAX ((int64_t)1 << 48)

/* Extents not negative and within SH_ELEMENTS_MAX; whole blocks in a row. */
bool sh_shape_ok(enum sh_dtype dtype, const int64_t ne[SH_MAX_DIMS]);
/* Is the symbolic extent, if any, in its place: maximum right, all dimensions above 1? */
bool sh_extent_ok(const struct sh_tensor *t, const struct sh_extents *max);
/* Elements with the symbolic dimension taken as one. */
int64_t sh_tensor_inner_elements(const struct sh_tensor *t);
/* nb[0] of a dense tensor: bytes of an element or block. */
static inline size_t sh_tensor_unit_bytes(const struct sh_tensor *t)
{
    return sh_dtype_info(t->dtype)->block_bytes;
}
/* Is a row one run of bytes (a row of at most one block always is)? */
bool sh_tensor_rows_packed(const struct sh_tensor *t);
/* Dense except that the rows may lie further apart. */
bool sh_tensor_contiguous_1(const struct sh_tensor *t);
/* Equal type, extents and strides. */
bool sh_tensor_same_layout(const struct sh_tensor *a, const struct sh_tensor *b);

/* The name of t as it may stand in a message or listing: cut, and free of control characters. */
struct sh_label {
    char text[48];
};
struct sh_label sh_tensor_label(const struct sh_tensor *t);

/* Fill in type, shape and extent of an input of width d.  False if there is no such input. */
bool sh_input_shape(enum sh_input input, int64_t d, const struct sh_extents *max,
                    struct sh_tensor *out);

/* The extent in dimension `dim`: NONE if that dimension is fixed. */
static inline enum sh_extent sh_tensor_extent_at(const struct sh_tensor *t, int dim)
{
    return t->extent != SH_EXTENT_NONE && t->extent_dim == dim ? t->extent : SH_EXTENT_NONE;
}
/* The tensor whose memory t uses: itself or its root. */
static inline int32_t sh_graph_root(const struct sh_graph *g, int32_t t)
{
    return g->tensors[t].view_src >= 0 ? g->tensors[t].view_src : t;
}

#endif
