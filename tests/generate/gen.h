/* tests/generate/gen.h - random graphs from a seed, made of the rows of the op table.
 *
 * A graph grows node by node: an op is drawn, its maker draws sources (tensors that are there, or
 * new leaves with dense, padded, permuted or overlapping rows) and parameters, and asks the builder
 * for the node.  Where `wild` is set a maker now and then bends a shape or a parameter; what the
 * builder refuses is counted and left out.  Afterwards gen_place() decides where everything lies,
 * gen_break() damages the finished graph, and gen_fill() gives the leaves their values.
 *
 * One maker per row of the op table, named make_<NAME>: an op without one does not link.
 * Threads: one at a time.
 */
#ifndef TESTS_GENERATE_GEN_H
#define TESTS_GENERATE_GEN_H

#include "tensor/graph.h"

#define GEN_LEAVES_MAX 256
#define GEN_BUFFERS_MAX 512

/* What the bytes of a leaf stand for. */
enum gen_values {
    GEN_FLOATS,   /* any readable type */
    GEN_NEGATIVE, /* f32 below zero */
    GEN_MASK,     /* f16 or f32: 0, -inf, or a small bias */
    GEN_INDEX,    /* i32 or i64 in [lo, hi) */
    GEN_DISTINCT, /* i32 in [lo, hi), ascending within each column */
    GEN_ROWS,     /* i32 [4,T] for `n_seq` sequences */
    GEN_TABLE,    /* i32 [index,seq]: different pages */
    GEN_PAGES,    /* i32 [2,R]: page in [0, hi), delta */
    GEN_STATES    /* i32 [4,R]: runs that share the rows of a step, states in [0, hi) */
};

struct gen_leaf {
    int32_t tensor;
    enum gen_values values;
    int64_t lo, hi;
};

enum gen_places {
    GEN_SCRATCH, /* the device places all; outputs are read */
    GEN_OWN,     /* everything in a buffer of its own */
    GEN_SHARED,  /* everything anywhere in two buffers: often refused */
    GEN_PLACES
};

struct gen_op_count {
    uint64_t made, refused, ran, checked;
};

struct gen {
    uint64_t state; /* of the random numbers */
    struct sh_graph g;
    bool wild;            /* now and then a bent shape, parameter or index */
    bool wire;            /* only what the compatibility protocol can say */
    bool hot;             /* leaves may hold infinities, NaN, and bytes that are no numbers */
    int64_t elements_max; /* of a drawn shape; large ones are cut between threads */
    bool damaged;         /* gen_break() was here */
    bool alias;           /* some results lie on other tensors */
    enum gen_places places;
    int64_t n_seq, n_index; /* of tables */
    struct gen_leaf leaves[GEN_LEAVES_MAX];
    int n_leaves;
    struct {
        size_t bytes;
        bool import; /* read-only memory of the test */
    } buffers[GEN_BUFFERS_MAX];
    int32_t n_buffers;
    struct sh_extents bound;     /* to run with */
    struct gen_op_count *counts; /* by op; of all graphs */
    char what[160];              /* what gen_break() did */
};

typedef int32_t gen_maker(struct gen *g);

/* ---- the whole (gen.c) ----------------------------------------------------------------------*/
void gen_graph(struct gen *g, uint64_t seed, bool wire, struct gen_op_count *counts);
void gen_release(struct gen *g);
void gen_place(struct gen *g);
/* False if there was nothing to damage. */
bool gen_break(struct gen *g);
/* The bytes of a leaf, as many as it spans; from sh_malloc(). */
uint8_t *gen_fill(const struct gen *g, const struct gen_leaf *leaf, uint64_t seed);

/* ---- random numbers -------------------------------------------------------------------------*/
uint64_t gen_next(uint64_t *state);
int64_t gen_below(struct gen *g, int64_t n); /* [0, n); 0 for n < 1 */
bool gen_chance(struct gen *g, int percent);
float gen_float(struct gen *g, float lo, float hi);
/* Time to do something wrong? */
bool gen_bends(struct gen *g);

/* ---- sources (sources.c) --------------------------------------------------------------------*/
struct gen_shape {
    int64_t ne[SH_MAX_DIMS];
    enum sh_extent extent;
    int extent_dim;
};
struct gen_shape gen_shape_of(const struct gen *g, int32_t tensor);
/* Any shape for rows of this type, symbolic now and then. */
struct gen_shape gen_any_shape(struct gen *g, enum sh_dtype dtype);
struct gen_shape gen_fixed(int64_t a, int64_t b, int64_t c, int64_t d);
/* The same with dimension `dim` symbolic: `n` is then the maximum of T, O or R. */
struct gen_shape gen_symbolic(const struct gen *g, int64_t a, int64_t b, int64_t c, int dim,
                              enum sh_extent which);
int64_t gen_dim(struct gen *g);
/* A type out of a set of bits (1 << dtype). */
enum sh_dtype gen_type(struct gen *g, uint64_t set);
#define GEN_TYPE(name) ((uint64_t)1 << SH_DTYPE_##name)
#define GEN_F32 GEN_TYPE(F32)
#define GEN_FLOAT_TYPES (GEN_TYPE(F32) | GEN_TYPE(F16) | GEN_TYPE(BF16))
uint64_t gen_weight_types(void); /* those that have a product */
uint64_t gen_encoded_types(void);

/* A tensor of exactly this type and shape: an old one or a new leaf; `dense` = no gaps. */
int32_t gen_source(struct gen *g, enum sh_dtype dtype, struct gen_shape shape, bool dense);
/* A new leaf with such values (lo and hi as gen_values says). */
int32_t gen_leaf(struct gen *g, enum sh_dtype dtype, struct gen_shape shape, bool dense,
                 enum gen_values values, int64_t lo, int64_t hi);
/* Any tensor of one of the types that is not too large: often an old one. */
int32_t gen_pick(struct gen *g, uint64_t types);
/* A parameter word in [lo, hi], or just outside where the graph is wild. */
int32_t gen_word(struct gen *g, int64_t v, int64_t lo, int64_t hi);
/* Parameter words of a rotary embedding of rows of `width`; `axes`: with several axes, too. */
void gen_rope_params(struct gen *g, int32_t *params, int64_t width, bool axes);
const struct sh_tensor *gen_at(const struct gen *g, int32_t tensor);

#define X(name, wire, lo, hi, flags, rule) gen_maker make_##name;
SH_OPS(X)
#undef X

#endif
