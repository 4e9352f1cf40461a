/* The validator against graphs as a hostile peer may send them: one lawful graph, and each case
 * breaks one thing in its records. */
#include "tensor/graph.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"

/* Tensors of the lawful graph; all placed in the buffers below, as a foreign client does. */
enum {
    W,       /* leaf f32 [8,4] */
    X,       /* leaf f32 [8,3] */
    PRODUCT, /* MUL_MAT(W, X): [4,3] */
    PART,    /* VIEW of PRODUCT: columns 2 and 3 */
    SCALED,  /* SCALE(PART), dense */
    CACHE,   /* leaf f16 [4,16] */
    IDS,     /* leaf i64 [3] */
    STORE,   /* SET_ROWS(PRODUCT, IDS, CACHE): view of CACHE */
    CAST,    /* CPY(PRODUCT) to f16: names itself */
    BIAS,    /* leaf f32 [4] */
    SUM,     /* ADD(PRODUCT, BIAS), in place of PRODUCT */
    TURNED,  /* PERMUTE of CACHE as STORE left it */
    QUANT,   /* leaf q4_0 [32,2], used by nobody */
    STRAY,   /* a record of another server: SQR without a place, not listed */
    N_TENSORS
};

static const struct sh_buffer_bounds BUFFERS[] = {{.bytes = 128}, {.bytes = 256}, {.bytes = 1024}};
#define N_BUFFERS 3

static int32_t plain(struct sh_graph *g, enum sh_dtype t, int64_t a, int64_t b, int32_t buffer,
                     size_t offset)
{
    const int64_t ne[] = {a, b, 1, 1};
    const int32_t leaf = sh_leaf_plain(g, t, ne, SH_EXTENT_NONE, 0);

    sh_graph_place(g, leaf, buffer, offset);
    return leaf;
}

static int32_t placed(struct sh_graph *g, int32_t t, size_t offset)
{
    sh_graph_place(g, t, 2, offset);
    return t;
}

static void build(struct sh_graph *g)
{
    const struct sh_extents max = {0};
    const int64_t part[] = {2, 3};
    struct sh_tensor stray;

    sh_graph_init(g, &max);
    plain(g, SH_DTYPE_F32, 8, 4, 0, 0);
    plain(g, SH_DTYPE_F32, 8, 3, 2, 0);
    placed(g, sh_op_mul_mat(g, W, X, 0), 128);
    sh_op_view(g, PRODUCT, 2, part, NULL, 8);
    placed(g, sh_op_scale(g, PART, 2, 0), 256);
    plain(g, SH_DTYPE_F16, 4, 16, 1, 0);
    plain(g, SH_DTYPE_I64, 3, 1, 2, 512);
    sh_op_set_rows(g, PRODUCT, IDS, CACHE);
    placed(g, sh_op_cast(g, PRODUCT, SH_DTYPE_F16), 640);
    plain(g, SH_DTYPE_F32, 4, 1, 2, 768);
    struct sh_tensor *sum = &g->tensors[sh_op_binary(g, SH_OP_ADD, PRODUCT, BIAS)];
    sum->view_src = PRODUCT;
    sum->buffer = 2;
    sum->offset = 128;
    sh_op_permute(g, STORE, 1, 0, 2, 3);
    plain(g, SH_DTYPE_Q4_0, 32, 2, 2, 900);
    stray = g->tensors[X];
    stray.op = SH_OP_SQR;
    stray.src[0] = X;
    stray.buffer = -1;
    sh_graph_add_tensor(g, &stray);
    for (int32_t i = 0; i < g->n_tensors; i++)
        g->tensors[i].leaf = -1;
    assert_int_equal(sh_graph_status(g, NULL), SHOAL_OK);
    assert_int_equal(g->n_tensors, N_TENSORS);
}

static void accepts(const struct sh_graph *g, const char *what)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_graph_validate(g, BUFFERS, N_BUFFERS, false, &err)) {
        fail_msg("%s: %s", what, err.message);
    }
}

static void validate__the_lawful_graph_is_accepted(void **state)
{
    struct sh_graph g;

    (void)state;
    build(&g);
    accepts(&g, "as built");
    sh_graph_release(&g);
}

/* ---- one broken thing -----------------------------------------------------------------------*/

/* name, reason in the message, statement that breaks graph g (t: its tensors) */
#define BREAKS(B)                                                                                  \
    /* the record */                                                                               \
    B(type_retired, "type 4", t[W].dtype = (enum sh_dtype)4)                                       \
    B(type_unknown, "type 43", t[X].dtype = (enum sh_dtype)43)                                     \
    B(type_negative, "type 4294967295", t[X].dtype = (enum sh_dtype) - 1)                          \
    B(op_unknown_number, "op ", t[X].op = (enum sh_op)(SH_OP_COUNT + 1))                           \
    B(extent_negative, "no lawful shape", t[X].ne[1] = -3)                                         \
    B(extent_huge, "no lawful shape", t[X].ne[3] = INT64_MAX)                                      \
    B(elements_overflow, "no lawful shape",                                                        \
      t[X].ne[1] = t[X].ne[2] = t[X].ne[3] = (int64_t)1 << 32)                                     \
    B(row_splits_block, "no lawful shape", t[QUANT].ne[0] = 33)                                    \
    B(stride_zero, "stride 0 of dimension 1", t[X].nb[1] = 0)                                      \
    B(stride_zero_inner, "stride 0 of dimension 0", t[X].nb[0] = 0)                                \
    B(stride_uneven, "stride 33 of dimension 1", t[X].nb[1] = 33)                                  \
    B(stride_of_blocks, "stride 4 of dimension 0", t[QUANT].nb[0] = 4)                             \
    B(stride_splits_block, "stride 20 of dimension 1", t[QUANT].nb[1] = 20)                        \
    B(strides_wrap, "address space",                                                               \
      (t[X].ne[2] = 3, t[X].nb[2] = SIZE_MAX / 2 & ~(size_t)3, t[X].nb[1] = t[X].nb[2]))           \
    B(stride_leaves_buffer, "bytes at 0 of a buffer of 1024", t[X].nb[1] = 512)                    \
    B(unknown_buffer, "buffer 3 of 3", t[X].buffer = 3)                                            \
    B(negative_buffer, "buffer -2 of 3", t[X].buffer = -2)                                         \
    B(offset_past_end, "of a buffer of 1024", t[X].offset = 1024 - 92)                             \
    B(offset_wraps, "of a buffer of 1024", t[X].offset = SIZE_MAX - 15)                            \
    B(offset_unaligned, "not aligned for f32", t[X].offset = 2)                                    \
    B(offset_unaligned_i64, "not aligned for i64", t[IDS].offset = 516)                            \
    B(extent_symbol_unknown, "symbolic extent", t[X].extent = (enum sh_extent)4)                   \
    B(extent_symbol_not_max, "symbolic extent", t[X].extent = SH_EXTENT_T)                         \
    B(leaf_out_of_range, "leaf record", t[X].leaf = 99)                                            \
    B(leaf_negative, "leaf record", t[X].leaf = -2)                                                \
    B(leaf_on_a_node, "leaf record", t[SCALED].leaf = 0)                                           \
    /* views */                                                                                    \
    B(root_out_of_range, "a view of tensor 14", t[STORE].view_src = N_TENSORS)                     \
    B(root_negative, "a view of tensor -2", t[STORE].view_src = -2)                                \
    B(root_is_itself, "a view of tensor 7", t[STORE].view_src = STORE)                             \
    B(root_comes_later, "a view of tensor 12", t[STORE].view_src = QUANT)                          \
    B(root_is_a_view, "is a view", t[TURNED].view_src = STORE)                                     \
    B(view_past_its_root, "of a root of 48", t[PART].view_offs = 12)                               \
    B(view_offset_wraps, "of a root of 48", t[PART].view_offs = SIZE_MAX - 7)                      \
    B(view_strides_leave_root, "of a root of 48", t[PART].nb[1] = 40)                              \
    B(view_unaligned, "not aligned", (t[PART].view_offs = 6, t[PART].ne[1] = 2))                   \
    B(view_in_other_buffer, "placed elsewhere", t[PART].buffer = 1)                                \
    B(view_at_other_offset, "placed elsewhere", t[PART].offset = 128)                              \
    B(offset_without_root, "without a root", t[SCALED].view_offs = 4)                              \
    B(view_without_root, "no view of source 0", (t[PART].view_src = -1, t[PART].view_offs = 0))    \
    B(view_of_another_root, "no view of source 0's root",                                          \
      (t[PART].view_src = X, t[PART].offset = 8))                                                  \
    B(store_into_something_else, "no view of source 2's root",                                     \
      (t[STORE].view_src = -1, t[STORE].buffer = 2, t[STORE].offset = 800))                        \
    B(store_beside_target, "stride of dimension 1 is 8, not 16", t[CACHE].nb[1] = 16)              \
    B(permute_with_other_strides, "stride of dimension 0 is 2, not 8", t[TURNED].nb[0] = 2)        \
    B(in_place_elsewhere, "the result lies at 4",                                                  \
      (t[SUM].view_offs = 4, t[SUM].offset = 132, t[SUM].nb[1] = 12))                              \
    B(in_place_with_other_strides, "stride of dimension 1 is 12", t[SUM].nb[1] = 12)               \
    B(cast_in_place, "cannot be a view", (t[CAST].view_src = PRODUCT, t[CAST].offset = 128))       \
    /* sources and order */                                                                        \
    B(source_out_of_range, "source 0 is tensor 14", t[SCALED].src[0] = N_TENSORS)                  \
    B(source_very_negative, "source 0 is tensor -7", t[SCALED].src[0] = -7)                        \
    B(source_is_itself, "source 0 is tensor 4", t[SCALED].src[0] = SCALED)                         \
    B(self_reference_of_another_op, "source 1 is tensor 10", t[SUM].src[1] = SUM)                  \
    B(cast_of_itself, "source 0 is tensor 8", t[CAST].src[0] = CAST)                               \
    B(cycle, "source 0 is tensor 10", t[SCALED].src[0] = SUM)                                      \
    B(cycle_among_strays, "source 0 is tensor 13", t[STRAY].src[0] = STRAY)                        \
    B(source_missing, "source 1 is missing", t[PRODUCT].src[1] = -1)                               \
    B(source_missing_first, "source 0 is missing", t[SCALED].src[0] = -1)                          \
    B(source_too_many, "source 2 is one too many", t[PRODUCT].src[2] = W)                          \
    B(source_too_many_last, "source 9 is one too many", t[PRODUCT].src[9] = W)                     \
    B(node_before_operand, "later node", swap_nodes(g, PRODUCT, SCALED))                           \
    B(node_before_root, "later node", swap_nodes(g, PRODUCT, PART))                                \
    B(node_twice, "are both tensor 2", g->nodes[g->n_nodes - 1] = PRODUCT)                         \
    B(node_out_of_range, "is tensor 14 of 14", g->nodes[0] = N_TENSORS)                            \
    B(node_negative, "is tensor -1 of 14", g->nodes[0] = -1)                                       \
    B(unknown_op_executed, "no row in the op table", t[SCALED].op = SH_OP_COUNT)                   \
    /* places of what is touched */                                                                \
    B(result_without_place_of_leaf, "has no place", t[X].buffer = -1)                              \
    B(source_never_computed, "tensor 3, which it needs, has no place",                             \
      (unplace(g, PRODUCT), t[PRODUCT].flags = 0, t[SUM].flags = 0))                               \
    B(source_not_listed, "tensor 13, which it needs, has no place", t[SCALED].src[0] = STRAY;      \
      t[SCALED].ne[0] = 8; t[SCALED].nb[1] = t[SCALED].nb[2] = t[SCALED].nb[3] = 32;               \
      t[SCALED].ne[1] = 3; move_last(g, SCALED))                                                   \
    B(view_unplaced_root_placed, "has no place", t[PART].buffer = -1)                              \
    /* which bytes */                                                                              \
    B(result_on_source, "overlaps source 0", t[SCALED].offset = 136)                               \
    B(result_on_weights, "overlaps source 0",                                                      \
      (t[PRODUCT].buffer = 0, t[PRODUCT].offset = 64, follow(g)))                                  \
    B(result_inside_source, "overlaps source 1", (t[PRODUCT].offset = 48, follow(g)))              \
    B(result_with_gaps, "not contiguous", t[SCALED].nb[1] = 16)                                    \
    B(in_place_over_shared_rows, "share bytes",                                                    \
      (t[PRODUCT].ne[2] = 3, t[PRODUCT].ne[1] = 1, t[PRODUCT].nb[2] = 4, t[SUM].ne[2] = 3,         \
       t[SUM].ne[1] = 1, t[SUM].nb[2] = 4, g->nodes[0] = STRAY, t[STORE].flags = 0,                \
       t[CAST].flags = 0, t[PART].flags = 0, t[PART].ne[1] = 1, t[SCALED].flags = 0,               \
       t[STRAY].flags = 0))                                                                        \
    /* attributes and claims */                                                                    \
    B(claims_another_shape, "claimed [4,4,1,1]", t[PRODUCT].ne[1] = 4)                             \
    B(claims_another_type, "claimed f16", (t[SCALED].dtype = SH_DTYPE_F16, dense(&t[SCALED])))     \
    B(weights_do_not_match, "rows of 4 and 8", (t[W].ne[0] = 4, dense(&t[W])))                     \
    B(unary_out_of_range, "unary kind 22", (t[SCALED].op = SH_OP_UNARY, t[SCALED].params[0] = 22)) \
    B(glu_out_of_range, "glu kind 7", (t[SCALED].op = SH_OP_GLU, t[SCALED].params[0] = 7))         \
    B(permute_axis, "no permutation", t[TURNED].params[3] = 9)                                     \
    B(shoal_op, "not allowed here", t[SCALED].op = SH_OP_TOP_EXPERTS)                              \
    /* counts */                                                                                   \
    B(too_many_nodes, "nodes, limit", g->n_nodes = SH_GRAPH_NODES_MAX + 1)                         \
    B(too_many_tensors, "tensors, limit", g->n_tensors = SH_GRAPH_TENSORS_MAX + 1)                 \
    B(negative_counts, "-1 nodes", g->n_nodes = -1)                                                \
    B(negative_maximum, "extents T -1", g->max.t = -1)                                             \
    B(sums_announced, "0 sums, 1 announced", g->n_sums = 1)

/* Helpers of the cases, all used by some. */
static void swap_nodes(struct sh_graph *g, int32_t a, int32_t b)
{
    for (int32_t i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i] == a) {
            g->nodes[i] = b;
        } else if (g->nodes[i] == b) {
            g->nodes[i] = a;
        }
    }
}

static void move_last(struct sh_graph *g, int32_t t)
{
    int32_t to = 0;

    // A number above STRAY's: a copy at the end, listed instead.
    const int32_t copy = sh_graph_add_tensor(g, &g->tensors[t]);
    for (int32_t i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i] != t) g->nodes[to++] = g->nodes[i];
    }
    g->nodes[to] = copy;
    g->tensors[t].src[0] = PART; // the original, not listed any more
}

/* PRODUCT loses its place, and its views with it. */
static void unplace(struct sh_graph *g, int32_t t)
{
    for (int32_t i = 0; i < g->n_tensors; i++) {
        if (i == t || g->tensors[i].view_src == t) g->tensors[i].buffer = -1;
    }
}

/* The views of PRODUCT move where it was moved. */
static void follow(struct sh_graph *g)
{
    for (int32_t i = 0; i < g->n_tensors; i++) {
        if (g->tensors[i].view_src != PRODUCT) continue;
        g->tensors[i].buffer = g->tensors[PRODUCT].buffer;
        g->tensors[i].offset = g->tensors[PRODUCT].offset + g->tensors[i].view_offs;
    }
}

static void dense(struct sh_tensor *t)
{
    sh_tensor_set_dense(t);
}

#define B(name, reason, ...)                                                                       \
    static void break_##name(struct sh_graph *g, struct sh_tensor *t)                              \
    {                                                                                              \
        (void)g;                                                                                   \
        (void)t;                                                                                   \
        __VA_ARGS__;                                                                               \
    }
BREAKS(B)
#undef B

static const struct {
    const char *name, *reason;
    void (*breaks)(struct sh_graph *g, struct sh_tensor *t);
} CASES[] = {
#define B(name, reason, ...) {#name, reason, break_##name},
    BREAKS(B)
#undef B
};

static void validate__each_broken_thing_is_refused_with_its_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_graph g;
        build(&g);
        CASES[i].breaks(&g, g.tensors);
        const enum shoal_status st = sh_graph_validate(&g, BUFFERS, N_BUFFERS, false, &err);
        if (st != SHOAL_ERR_FORMAT && st != SHOAL_ERR_UNSUPPORTED && st != SHOAL_ERR_LIMIT) {
            fail_msg("%s: status %s", CASES[i].name, shoal_status_name(st));
        }
        if (!strstr(err.message, CASES[i].reason)) {
            fail_msg("%s: \"%s\" does not say \"%s\"", CASES[i].name, err.message, CASES[i].reason);
        }
        sh_graph_release(&g);
    }
}

/* ---- what a foreign client may do -----------------------------------------------------------*/

static void validate__what_nobody_touches_may_be_incomplete(void **state)
{
    struct sh_graph g;

    (void)state;
    build(&g);
    // A record of an op without a row, computed elsewhere; a view of nothing that is here.
    g.tensors[STRAY].op = SH_OP_COUNT;
    g.tensors[QUANT].buffer = -1;
    accepts(&g, "strays");
    // Listed but without COMPUTE: not executed, so neither sources nor place matter.
    g.tensors[SCALED].flags = 0;
    g.tensors[SCALED].src[0] = -1;
    g.tensors[SCALED].buffer = -1;
    accepts(&g, "not executed");
    g.tensors[SCALED].op = SH_OP_COUNT;
    accepts(&g, "not executed, unknown");
    // Listed leaves and views without COMPUTE.
    sh_graph_add_node(&g, W);
    accepts(&g, "a leaf in the list");
    // Strides of extents of 1 carry nothing, cut off or not.
    g.tensors[X].nb[2] = 0;
    g.tensors[X].nb[3] = 3;
    accepts(&g, "strides of 1");
    sh_graph_release(&g);
}

static void validate__results_may_lie_exactly_on_a_source(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_graph g;
    const struct sh_extents max = {0};

    (void)state;
    sh_graph_init(&g, &max);
    const int32_t a = plain(&g, SH_DTYPE_F32, 8, 4, 2, 0),
                  b = plain(&g, SH_DTYPE_F32, 8, 4, 2, 128);
    const int32_t sum = placed(&g, sh_op_binary(&g, SH_OP_ADD, a, b), 0);
    accepts(&g, "on source 0");
    g.tensors[sum].offset = 128;
    accepts(&g, "on source 1");
    g.tensors[sum].offset = 64;
    assert_int_equal(sh_graph_validate(&g, BUFFERS, N_BUFFERS, false, &err), SHOAL_ERR_FORMAT);
    g.tensors[sum].offset = 256;
    accepts(&g, "beside");
    const int32_t norm = placed(&g, sh_op_norm(&g, SH_OP_RMS_NORM, sum, 0), 256);
    accepts(&g, "a norm on its source");
    g.tensors[norm].op = SH_OP_SUM_ROWS; // not in place, whatever the shape
    g.tensors[norm].ne[0] = 1;
    sh_tensor_set_dense(&g.tensors[norm]);
    assert_int_equal(sh_graph_validate(&g, BUFFERS, N_BUFFERS, false, &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, "overlaps source 0"));
    sh_graph_release(&g);
}

static void validate__columns_of_one_table_do_not_overlap(void **state)
{
    const int64_t half[] = {4, 4}, more[] = {5, 4};
    struct shoal_error err = SHOAL_ERROR_INIT;
    const struct sh_extents max = {0};
    struct sh_graph g;

    (void)state;
    sh_graph_init(&g, &max);
    const int32_t table = plain(&g, SH_DTYPE_F32, 8, 4, 2, 0);
    const int32_t left = sh_op_view(&g, table, 2, half, NULL, 0);
    const int32_t right = sh_op_view(&g, table, 2, half, NULL, 16);
    const int32_t src[] = {left, right};
    sh_op_node(&g, SH_OP_CPY, 2, src, NULL);
    accepts(&g, "left half to right half");
    const int32_t wide = sh_op_view(&g, table, 2, more, NULL, 0);
    const int32_t shifted[] = {wide, sh_op_view(&g, table, 2, more, NULL, 12)};
    sh_op_node(&g, SH_OP_CPY, 2, shifted, NULL);
    assert_int_equal(sh_graph_validate(&g, BUFFERS, N_BUFFERS, false, &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, "overlaps source 0"));
    sh_graph_release(&g);
}

static void validate__read_only_buffers_are_not_written(void **state)
{
    struct sh_buffer_bounds buffers[] = {BUFFERS[0], BUFFERS[1], BUFFERS[2]};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_graph g;

    (void)state;
    build(&g);
    buffers[0].read_only = true;
    assert_int_equal(sh_graph_validate(&g, buffers, N_BUFFERS, false, &err), SHOAL_OK);
    buffers[1].read_only = true;
    assert_int_equal(sh_graph_validate(&g, buffers, N_BUFFERS, false, &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, "SET_ROWS: writes into a read-only buffer"));
    sh_graph_release(&g);
}

static void validate__messages_hold_no_control_characters(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_graph g;

    (void)state;
    build(&g);
    sh_graph_name(&g, SCALED, "a\nb\x1b[31m%s", "c");
    g.tensors[SCALED].ne[1] = 2;
    assert_int_equal(sh_graph_validate(&g, BUFFERS, N_BUFFERS, false, &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, "node 2, tensor 4 a?b?[31mc, SCALE: result is"));
    sh_graph_release(&g);
}

/* ---- leaves and scratch ---------------------------------------------------------------------*/

static void validate__leaves_look_as_their_kind_must(void **state)
{
    const struct sh_extents max = {.t = 4, .o = 2, .r = 2};
    struct sh_graph g;

    (void)state;
    sh_graph_init(&g, &max);
    for (int i = 0; i < SH_INPUT_COUNT; i++)
        sh_leaf_input(&g, (enum sh_input)i, 8);
    const int32_t cache = sh_leaf_cache(&g, SH_LEAF_CACHE_K, 0, 0, SH_DTYPE_F16, 8, 2);
    const int32_t table = sh_leaf_table(&g, 0, 4, 2);
    accepts(&g, "inputs");
    for (int32_t i = 0; i < g.n_tensors; i++) {
        const struct sh_tensor right = g.tensors[i];
        struct sh_tensor *t = &g.tensors[i];
        t->dtype = SH_DTYPE_I16;
        dense(t);
        if (i != cache) {
            assert_int_equal(sh_graph_validate(&g, NULL, 0, true, NULL), SHOAL_ERR_FORMAT);
        }
        *t = right;
        t->extent = t->extent ? SH_EXTENT_NONE : SH_EXTENT_R;
        assert_int_equal(sh_graph_validate(&g, NULL, 0, true, NULL), SHOAL_ERR_FORMAT);
        *t = right;
        t->ne[i == table ? 3 : 1] += 1;
        dense(t);
        assert_int_equal(sh_graph_validate(&g, NULL, 0, true, NULL), SHOAL_ERR_FORMAT);
        *t = right;
    }
    g.leaves[g.tensors[cache].leaf].kind = (enum sh_leaf_kind)77;
    assert_int_equal(sh_graph_validate(&g, NULL, 0, true, NULL), SHOAL_ERR_FORMAT);
    sh_graph_release(&g);
}

static void validate__weights_need_a_place_and_inputs_do_not(void **state)
{
    const struct sh_extents max = {.t = 4};
    const struct sh_buffer_bounds buffer = {.bytes = 256};
    const int64_t ne[] = {8, 8, 1, 1};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_graph g;

    (void)state;
    sh_graph_init(&g, &max);
    const int32_t w = sh_leaf_weight(&g, "blk.0.w", SH_DTYPE_F32, ne, NULL);
    sh_op_mul_mat(&g, w, sh_leaf_input(&g, SH_INPUT_EMBD, 8), 0);
    assert_int_equal(sh_graph_validate(&g, &buffer, 1, true, &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, "tensor 0, which it needs, has no place"));
    sh_graph_place(&g, w, 0, 0);
    assert_int_equal(sh_graph_validate(&g, &buffer, 1, true, &err), SHOAL_OK);
    sh_graph_place(&g, w, 0, 4);
    assert_int_equal(sh_graph_validate(&g, &buffer, 1, true, &err), SHOAL_ERR_FORMAT);
    sh_graph_release(&g);
}

static void validate__states_are_not_read_by_another_source(void **state)
{
    const struct sh_extents max = {.t = 4, .r = 2};
    const struct sh_buffer_bounds buffer = {.bytes = 4096};
    const int64_t w_ne[] = {4, 8, 1, 1}, s_ne[] = {3, 8, 5, 1};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_graph g;

    (void)state;
    sh_graph_init(&g, &max);
    const int32_t w = sh_leaf_weight(&g, "w", SH_DTYPE_F32, w_ne, NULL);
    const int32_t s = sh_leaf_state(&g, 0, 0, 3, s_ne);
    const int32_t src[] = {sh_leaf_input(&g, SH_INPUT_EMBD, 8), w, s,
                           sh_leaf_input(&g, SH_INPUT_STATES, 0)};
    sh_op_node(&g, SH_OP_STATE_CONV, 4, src, NULL);
    sh_graph_place(&g, w, 0, 0);
    sh_graph_place(&g, s, 0, 128);
    assert_int_equal(sh_graph_validate(&g, &buffer, 1, true, &err), SHOAL_OK);
    sh_graph_place(&g, s, 0, 64);
    assert_int_equal(sh_graph_validate(&g, &buffer, 1, true, &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, "the state overlaps source 1"));
    sh_graph_release(&g);
}

static void validate__sums_are_numbered_in_order(void **state)
{
    const struct sh_sum_operand one = {.n_segments = 1, .n_shards = 1, .border = {0, 1}};
    const int64_t ne[] = {8, 1, 4, 1};
    const struct sh_extents max = {.t = 4};
    struct sh_graph g;
    int32_t params[SH_N_PARAMS] = {0}, first, second;

    (void)state;
    sh_sum_operand_pack(&one, params);
    sh_graph_init(&g, &max);
    const int32_t x = sh_leaf_plain(&g, SH_DTYPE_F32, ne, SH_EXTENT_T, 2);
    first = sh_op_node(&g, SH_OP_SHARD_SUM, 1, &x, params);
    second = sh_op_node(&g, SH_OP_SHARD_SUM, 1, &x, params);
    assert_int_equal(sh_graph_validate(&g, NULL, 0, true, NULL), SHOAL_OK);
    assert_int_equal(g.n_sums, 2);
    g.tensors[first].params[6] = 1;
    g.tensors[second].params[6] = 0;
    assert_int_equal(sh_graph_validate(&g, NULL, 0, true, NULL), SHOAL_ERR_FORMAT);
    sh_graph_release(&g);
}

/* ---- size -----------------------------------------------------------------------------------*/

/* The largest graph that the limits allow, as one chain 16,384 deep. */
static void validate__the_deepest_graph_takes_milliseconds(void **state)
{
    const struct sh_extents max = {.t = 4};
    struct sh_graph g;
    int64_t best = INT64_MAX;

    (void)state;
    sh_graph_init(&g, &max);
    int32_t x = sh_leaf_input(&g, SH_INPUT_EMBD, 8);
    for (int i = 0; i < SH_GRAPH_NODES_MAX; i++)
        x = sh_op_binary(&g, SH_OP_ADD, x, x);
    assert_int_equal(sh_graph_status(&g, NULL), SHOAL_OK);
    for (int i = 0; i < 5; i++) {
        const int64_t begin = sh_now_ns(&sh_clock_system);
        assert_int_equal(sh_graph_validate(&g, NULL, 0, false, NULL), SHOAL_OK);
        const int64_t took = sh_now_ns(&sh_clock_system) - begin;
        if (took < best) best = took;
    }
    print_message("%d nodes validated in %.2f ms\n", SH_GRAPH_NODES_MAX, (double)best / 1e6);
    assert_true(best < 200 * 1000000ll); // the aim is 5 ms; sanitizers and busy machines are slower
    sh_op_scale(&g, x, 1, 0);
    assert_int_equal(sh_graph_status(&g, NULL), SHOAL_ERR_LIMIT);
    sh_graph_release(&g);
}

/* Random words anywhere in the records: never a crash, and what is accepted lies in its buffer. */
static void validate__random_damage_is_refused_or_harmless(void **state)
{
    uint64_t seed = 99;
    int n_accepted = 0;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        struct sh_graph g;
        build(&g);
        for (int hit = 0; hit < 1 + round % 3; hit++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            unsigned char *bytes =
                (unsigned char *)&g.tensors[seed >> 60 < N_TENSORS ? seed >> 60 : 2];
            const size_t from = offsetof(struct sh_tensor, dtype);
            const size_t at = from + (seed >> 33) % (sizeof(struct sh_tensor) - from);
            bytes[at] ^= (unsigned char)(1u << (seed >> 30 & 7));
        }
        if (!sh_graph_validate(&g, BUFFERS, N_BUFFERS, false, NULL)) {
            n_accepted++;
            for (int32_t n = 0; n < g.n_nodes; n++) {
                const struct sh_tensor *t = sh_graph_tensor(&g, g.nodes[n]);
                size_t size = 0;
                if (!(t->flags & SH_TENSOR_COMPUTE) || t->buffer < 0) continue;
                assert_true(sh_tensor_bytes(t, &size));
                assert_true(sh_range_ok(t->offset, size, BUFFERS[t->buffer].bytes));
            }
        }
        sh_graph_release(&g);
    }
    print_message("%d of 20000 damaged graphs accepted\n", n_accepted);
    assert_in_range(n_accepted, 1, 19000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(validate__the_lawful_graph_is_accepted),
        cmocka_unit_test(validate__each_broken_thing_is_refused_with_its_reason),
        cmocka_unit_test(validate__what_nobody_touches_may_be_incomplete),
        cmocka_unit_test(validate__results_may_lie_exactly_on_a_source),
        cmocka_unit_test(validate__columns_of_one_table_do_not_overlap),
        cmocka_unit_test(validate__read_only_buffers_are_not_written),
        cmocka_unit_test(validate__messages_hold_no_control_characters),
        cmocka_unit_test(validate__leaves_look_as_their_kind_must),
        cmocka_unit_test(validate__weights_need_a_place_and_inputs_do_not),
        cmocka_unit_test(validate__states_are_not_read_by_another_source),
        cmocka_unit_test(validate__sums_are_numbered_in_order),
        cmocka_unit_test(validate__the_deepest_graph_takes_milliseconds),
        cmocka_unit_test(validate__random_damage_is_refused_or_harmless),
    };
    return cmocka_run_group_tests_name("validate", tests, NULL, NULL);
}
