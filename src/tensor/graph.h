/* tensor/graph.h - graphs of tensors: built by us, or decoded from a peer, then validated once.
 *
 * A graph is an array of tensors and a list of nodes in execution order.  A tensor is a leaf
 * (op NONE) or the result of an op over tensors with smaller numbers.  Tensors and their names
 * live in the graph's arena; a tensor is named by its number (an int32), -1 meaning none.
 *
 * Places.  A tensor lies in one of the graph's external buffers (`buffer` >= 0, an index into the
 * list given to the device with the graph), or the device places it in the scratch of an execution
 * slot (`buffer` = -1).  Views share the place of their root.
 *
 * Symbolic extents.  At most one dimension of a tensor may be T (rows of a step), O (rows whose
 * result is wanted) or R (sequences of a step); all dimensions above it are 1.  `ne` holds the
 * maximum; strides, offsets and scratch never depend on the extent, so a graph is validated and
 * sized once and runs for every batch by binding extents (0 is legal).
 *
 * Building.  sh_op_*() and sh_leaf_*() append and return the new tensor's number.  The first
 * failure sticks in `status`/`error`; later calls then do nothing and return -1, so a builder
 * checks once at the end.
 *
 * Threads: one at a time while building; a finished graph is constant and may be shared.
 */
#ifndef TENSOR_GRAPH_H
#define TENSOR_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/str.h"
#include "tensor/dtype.h"
#include "tensor/ops.h"
#include "tensor/segments.h"

#define SH_MAX_DIMS 4
#define SH_MAX_SRC 10
#define SH_N_PARAMS 16
#define SH_GRAPH_TENSORS_MAX 65536
#define SH_GRAPH_NODES_MAX 16384

enum sh_extent { SH_EXTENT_NONE, SH_EXTENT_T, SH_EXTENT_O, SH_EXTENT_R };

/* Extents of one run, or their maxima. */
struct sh_extents {
    int64_t t, o, r;
};
int64_t sh_extents_get(const struct sh_extents *e, enum sh_extent which, int64_t otherwise);

enum sh_tensor_flag { /* as on llama.cpp's wire */
                      SH_TENSOR_INPUT = 1,
                      SH_TENSOR_OUTPUT = 2,
                      SH_TENSOR_COMPUTE = 16 /* set by the builders on every node */
};

/* What a leaf is, to whoever gives it memory. */
enum sh_leaf_kind {
    SH_LEAF_OTHER,   /* placed by the maker of the graph */
    SH_LEAF_WEIGHT,  /* `name` and `slice` say which */
    SH_LEAF_INPUT,   /* `input` says which; written for every step */
    SH_LEAF_CACHE_K, /* [width,64,pages] of (group, layer) */
    SH_LEAF_CACHE_V,
    SH_LEAF_TABLE, /* i32 [index,seq] of a group: page of 64 positions, -1 = none */
    SH_LEAF_STATE  /* recurrent state of (group, layer): last dimension = state number */
};

/* The inputs that a step may have; nothing else in a graph depends on the step. */
enum sh_input {
    SH_INPUT_TOKENS, /* i32 [T] */
    SH_INPUT_EMBD,   /* f32 [D,T] */
    SH_INPUT_POS,    /* i32 [4,T] */
    SH_INPUT_OUT,    /* i32 [O]: rows whose result is wanted */
    SH_INPUT_TEMP,   /* f32 [1,1,T] */
    SH_INPUT_ROWS,   /* i32 [4,T]: sequence, position, last visible position, 0 */
    SH_INPUT_STATES, /* i32 [4,R]: first row, rows, state read, state written */
    SH_INPUT_HIDDEN, /* f32 [D,T] */
    SH_INPUT_PAGES,  /* i32 [2,R]: page, delta (of the graph that rotates keys) */
    SH_INPUT_COUNT
};

/* Which part of a stored tensor a weight leaf holds: ranges along one axis, stacked in order. */
struct sh_slice {
    int axis; /* -1: the whole tensor */
    int n_segments;
    struct {
        int64_t begin, end;
    } segment[SH_SEGMENTS_MAX];
};
#define SH_SLICE_WHOLE ((struct sh_slice){.axis = -1})
bool sh_slice_equal(const struct sh_slice *a, const struct sh_slice *b);

struct sh_leaf {
    enum sh_leaf_kind kind;
    enum sh_input input;   /* INPUT */
    int group, layer;      /* CACHE_*, TABLE, STATE */
    struct sh_slice slice; /* WEIGHT */
    int32_t stack; /* WEIGHT: n > 0: n stored tensors stacked along the last dimension of the stored
                    * shape; '#' in the name stands for their number, and `slice` cuts the stack */
};

struct sh_tensor {
    const char *name; /* in the graph's arena, "" if none */
    enum sh_dtype dtype;
    enum sh_op op;
    int64_t ne[SH_MAX_DIMS]; /* maxima */
    size_t nb[SH_MAX_DIMS];  /* bytes; of a block type nb[0] is the size of one block */
    enum sh_extent extent;
    int extent_dim;
    int32_t params[SH_N_PARAMS];
    uint32_t flags;
    int32_t src[SH_MAX_SRC]; /* tensor numbers, -1 = absent */
    int32_t view_src;        /* root of a view, -1 */
    size_t view_offs;        /* bytes into the root */
    int32_t buffer;          /* index of an external buffer, -1 = scratch of the device */
    size_t offset;           /* bytes into that buffer */
    int32_t leaf;            /* index into leaves, -1 */
};

struct sh_graph {
    struct sh_arena arena;
    struct sh_tensor *tensors;
    int32_t n_tensors, cap_tensors;
    int32_t *nodes; /* tensor numbers in execution order */
    int32_t n_nodes, cap_nodes;
    struct sh_leaf *leaves;
    int32_t n_leaves, cap_leaves;
    int32_t n_buffers;        /* external buffers that places refer to */
    int32_t n_sums;           /* SHARD_SUM nodes */
    struct sh_extents max;    /* of T, O, R */
    enum shoal_status status; /* of building; SHOAL_OK until the first failure */
    struct shoal_error error;
};

void sh_graph_init(struct sh_graph *g, const struct sh_extents *max);
void sh_graph_release(struct sh_graph *g);
/* The sticky status of building, copied into err. */
SHOAL_NODISCARD enum shoal_status sh_graph_status(const struct sh_graph *g,
                                                  struct shoal_error *err);
/* Fail the build with a sentence (used by builders above; sticks like any failure). Returns -1. */
int32_t sh_graph_fail(struct sh_graph *g, enum shoal_status code, const char *fmt, ...)
    SHOAL_PRINTF(3, 4);

static inline const struct sh_tensor *sh_graph_tensor(const struct sh_graph *g, int32_t i)
{
    return &g->tensors[i];
}
void sh_graph_name(struct sh_graph *g, int32_t t, const char *fmt, ...) SHOAL_PRINTF(3, 4);
void sh_graph_set_output(struct sh_graph *g, int32_t t);
/* Put a leaf into external buffer `buffer` at `offset`. */
void sh_graph_place(struct sh_graph *g, int32_t t, int32_t buffer, size_t offset);
/* Append a raw tensor record (a decoder's way in): copied, not checked, not listed as a node.
 * sh_graph_add_node() lists it.  The validator checks all of it later. */
int32_t sh_graph_add_tensor(struct sh_graph *g, const struct sh_tensor *t);
void sh_graph_add_node(struct sh_graph *g, int32_t t);

/* ---- sizes ----------------------------------------------------------------------------------*/
void sh_tensor_set_dense(struct sh_tensor *t);                /* nb from dtype and ne */
bool sh_tensor_bytes(const struct sh_tensor *t, size_t *out); /* from first to last byte used */
int64_t sh_tensor_elements(const struct sh_tensor *t);
int64_t sh_tensor_rows(const struct sh_tensor *t);
bool sh_tensor_contiguous(const struct sh_tensor *t);
bool sh_tensor_same_shape(const struct sh_tensor *a, const struct sh_tensor *b);

/* ---- leaves ---------------------------------------------------------------------------------*/
int32_t sh_leaf_weight(struct sh_graph *g, const char *name, enum sh_dtype dtype,
                       const int64_t ne[SH_MAX_DIMS], const struct sh_slice *slice);
/* Shape by `input`; d = width where the shape has D, else ignored.  One per input and graph: asked
 * again, the same number comes back. */
int32_t sh_leaf_input(struct sh_graph *g, enum sh_input input, int64_t d);
int32_t sh_leaf_cache(struct sh_graph *g, enum sh_leaf_kind k_or_v, int group, int layer,
                      enum sh_dtype dtype, int64_t width, int64_t n_pages);
int32_t sh_leaf_table(struct sh_graph *g, int group, int64_t n_index, int64_t n_seq);
int32_t sh_leaf_state(struct sh_graph *g, int group, int layer, int n_dims,
                      const int64_t ne[SH_MAX_DIMS]);
int32_t sh_leaf_plain(struct sh_graph *g, enum sh_dtype dtype, const int64_t ne[SH_MAX_DIMS],
                      enum sh_extent extent, int extent_dim);

/* ---- ops ------------------------------------------------------------------------------------*/
/* Append a node: sources are tensor numbers (-1 = absent), params may be NULL (zeros).  Type and
 * extents come from the op's rule. */
int32_t sh_op_node(struct sh_graph *g, enum sh_op op, int n_src, const int32_t *src,
                   const int32_t params[SH_N_PARAMS]);
/* The same where the rule leaves type or shape to the builder (REPEAT, TOP_K, CONT to another
 * shape, f16 + f32 to f32): dtype, ne, extent and extent_dim of `shape` are what is wanted; of VIEW
 * nb and view_offs, too.  Nothing of it is trusted. */
int32_t sh_op_shaped(struct sh_graph *g, enum sh_op op, int n_src, const int32_t *src,
                     const int32_t params[SH_N_PARAMS], const struct sh_tensor *shape);
/* Would only sh_op_shaped() make this node again from its sources and parameters? */
bool sh_op_needs_shape(const struct sh_graph *g, int32_t node);
int32_t sh_op_cast(struct sh_graph *g, int32_t x, enum sh_dtype dtype); /* CPY naming itself */
int32_t sh_op_binary(struct sh_graph *g, enum sh_op op, int32_t a, int32_t b);
int32_t sh_op_unary(struct sh_graph *g, enum sh_unary kind, int32_t x);
int32_t sh_op_glu(struct sh_graph *g, enum sh_glu kind, int32_t gate,
                  int32_t up); /* up -1: split */
int32_t sh_op_scale(struct sh_graph *g, int32_t x, float scale, float bias);
int32_t sh_op_norm(struct sh_graph *g, enum sh_op op, int32_t x, float eps);
int32_t sh_op_mul_mat(struct sh_graph *g, int32_t w, int32_t x, int64_t segment_unit);
int32_t sh_op_mul_mat_id(struct sh_graph *g, int32_t w, int32_t x, int32_t ids,
                         int64_t first_expert); /* -1: all experts held */
int32_t sh_op_mul_mat_part(struct sh_graph *g, int32_t w, int32_t x, int64_t unit, int64_t k_whole,
                           int64_t k_begin);
int32_t sh_op_get_rows(struct sh_graph *g, int32_t x, int32_t rows);
struct sh_rope_attr {
    enum sh_rope_mode mode;
    int32_t n_dims, n_ctx_orig;
    float freq_base, freq_scale, ext_factor, attn_factor, beta_fast, beta_slow;
    int32_t sections[4];
};
int32_t sh_op_rope(struct sh_graph *g, int32_t x, int32_t pos, int32_t freq_factors,
                   const struct sh_rope_attr *a);
struct sh_attn_attr {
    float scale, softcap;
    int32_t window, chunk, n_kv_heads;
};
int32_t sh_op_cache_put(struct sh_graph *g, int32_t cache, int32_t x, int32_t rows, int32_t table);
int32_t sh_op_cache_attn(struct sh_graph *g, int32_t q, int32_t k, int32_t v, int32_t rows,
                         int32_t table, int32_t sinks, const struct sh_attn_attr *a);
int32_t sh_op_top_experts(struct sh_graph *g, int32_t scores, int64_t n_used);
/* views; they become nodes too (the wire wants them), and compute nothing.  If x has a symbolic
 * extent, it is the last of the n_dims.  Strides nb[n_dims] of a view: NULL = those of x. */
int32_t sh_op_reshape(struct sh_graph *g, int32_t x, int n_dims, const int64_t *ne);
int32_t sh_op_view(struct sh_graph *g, int32_t x, int n_dims, const int64_t *ne, const size_t *nb,
                   size_t offset);
int32_t sh_op_permute(struct sh_graph *g, int32_t x, int a0, int a1, int a2, int a3);
int32_t sh_op_cont(struct sh_graph *g, int32_t x);
int32_t sh_op_set_rows(struct sh_graph *g, int32_t data, int32_t index, int32_t target);
int32_t sh_op_flash_attn(struct sh_graph *g, int32_t q, int32_t k, int32_t v, int32_t mask,
                         int32_t sinks, float scale, float max_bias, float softcap);

float sh_param_f32(const struct sh_tensor *t, int i);
void sh_params_set_f32(int32_t *params, int i, float v);

/* ---- validation -----------------------------------------------------------------------------*/
struct sh_buffer_bounds {
    size_t bytes;
    bool read_only; /* no node may write into it */
};
/* Accept or refuse a whole graph, in one pass without recursion: op rows, arity, types, shapes,
 * attributes, views, strides, places inside their buffers, overlaps, order, extents.  What it
 * accepts may run any number of times with no further check than index values and extents against
 * `max`.  Whether a device has a kernel for a node's types is the device's own question.
 * `allow_shoal`: may shoal ops occur?
 *
 * Sources and roots have smaller numbers than the tensors that use them (CPY's src[1] = itself
 * excepted), and a listed source an earlier place in the list.  Records that no executed node
 * touches may be incomplete: without a place, without sources, of op SH_OP_COUNT (unknown).
 * Executed is what is listed and has COMPUTE; what it touches must have a place, be computed
 * earlier, or be a leaf of kind INPUT or OTHER.  Results may lie in scratch: a decoder whose peer
 * places everything refuses that itself.  ERR_FORMAT, ERR_LIMIT or ERR_UNSUPPORTED name node
 * number, op and reason. */
SHOAL_NODISCARD enum shoal_status sh_graph_validate(const struct sh_graph *g,
                                                    const struct sh_buffer_bounds *buffers,
                                                    int32_t n_buffers, bool allow_shoal,
                                                    struct shoal_error *err);

/* ---- scratch --------------------------------------------------------------------------------*/
/* Where the results without a place go: offsets by liveness in node order, aligned, inputs first
 * and never shared, outputs kept to the end.  offsets[n_tensors] gets a byte offset per scratch
 * tensor (SIZE_MAX for all others, views included: root + view_offs). */
SHOAL_NODISCARD enum shoal_status sh_graph_plan_scratch(const struct sh_graph *g, size_t align,
                                                        size_t *offsets, size_t *total,
                                                        struct shoal_error *err);

/* Multiply-adds of one node at given extents, for cost estimates; ops without products count one
 * per element, views nothing.  CACHE_ATTN counts the whole context that its table can hold. */
double sh_graph_node_cost(const struct sh_graph *g, int32_t node, const struct sh_extents *e);

#endif
