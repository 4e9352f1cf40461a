/* What a server of the protocol must refuse in graphs, row by row.  Over the CPU device. */
#include "hostile.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "tensor/dtype.h"
#include "tensor/ops.h"

/* ---- graphs ---------------------------------------------------------------------------------*/

/* A row damages the graph c = a + b over 16 floats: records 0, 1, 2; node 0 is record 2. */
#define GRAPH(name, code)                                                                          \
    ROW(name)                                                                                      \
    {                                                                                              \
        struct peer_graph g;                                                                       \
        struct sh_wire_tensor *r = g.records;                                                      \
        peer_graph_add(&g, b, 16);                                                                 \
        code;                                                                                      \
        (void)r;                                                                                   \
        peer_compute(p, &g);                                                                       \
    }

GRAPH(counts_that_wrap, g.say_nodes = 0x20000001)
GRAPH(records_that_wrap, g.say_records = 0xffffffff)
GRAPH(one_record_less, g.say_records = 2)
GRAPH(one_record_more, g.say_records = 4)
GRAPH(bytes_left_over, g.more = 8)
GRAPH(bytes_missing, g.cut = 1)
GRAPH(record_id_0, r[0].id = 0)
GRAPH(same_id_twice, r[1].id = r[0].id)
GRAPH(node_without_record, g.nodes[0] = 0x77)
GRAPH(node_id_0, g.nodes[0] = 0)
GRAPH(node_twice, {
    g.nodes[1] = g.nodes[0];
    g.n_nodes = 2;
})
GRAPH(source_without_record, r[2].src[1] = 0x99)
GRAPH(unused_source_without_record, r[0].src[4] = 0x99)
GRAPH(root_without_record, r[1].view_src = 0x99)
GRAPH(source_is_itself, r[2].src[0] = r[2].id)
GRAPH(sources_in_a_circle, {
    r[0].op = r[1].op = r[2].op;
    r[0].src[0] = r[1].id;
    r[1].src[0] = r[0].id;
})
GRAPH(source_comes_later, r[0].src[0] = r[2].id)
GRAPH(root_is_itself, r[2].view_src = r[2].id)
GRAPH(root_is_a_view, {
    r[1].view_src = r[0].id;
    r[1].data = r[0].data;
    r[2].view_src = r[1].id;
    r[2].data = r[0].data;
})
GRAPH(op_101, r[2].op = 101)
GRAPH(op_huge, r[2].op = 0xffffffff)
GRAPH(op_custom, r[2].op = 92)
GRAPH(op_custom_in_a_leaf, r[0].op = 95)
GRAPH(op_unknown_here, r[2].op = 76)
GRAPH(op_custom_2, r[2].op = 93)
GRAPH(op_custom_3, r[2].op = 94)
GRAPH(unary_negative, {
    r[2].op = 91;
    r[2].src[1] = 0;
    r[2].params[0] = -1;
})
GRAPH(glu_swapped_2, {
    r[2].op = 100;
    r[2].params[1] = 2;
})
GRAPH(concat_dim_negative, {
    r[2].op = 22;
    r[2].params[0] = -1;
    r[2].ne[0] = 32;
})
GRAPH(sort_order_2, {
    r[2].op = 69;
    r[2].src[1] = 0;
    r[2].type = SH_DTYPE_I32;
    r[2].params[0] = 2;
})
GRAPH(rope_mode_1, {
    r[1].type = SH_DTYPE_I32;
    r[1].ne[0] = 1;
    r[2].op = 48;
    r[2].params[1] = 16;
    r[2].params[2] = 1;
    r[2].params[5] = 0x461c4000; // 10000.0
})
GRAPH(rope_dims_17, {
    r[1].type = SH_DTYPE_I32;
    r[1].ne[0] = 1;
    r[2].op = 48;
    r[2].params[1] = 17;
    r[2].params[5] = 0x461c4000;
})
GRAPH(product_precision_7, {
    r[2].op = 29;
    r[2].ne[0] = 1;
    r[2].params[0] = 7;
})
GRAPH(norm_eps_nan, {
    r[2].op = 25;
    r[2].src[1] = 0;
    r[2].params[0] = 0x7fc00000;
})
GRAPH(bias_without_mask, {
    r[2].op = 46;
    r[2].src[1] = 0;
    r[2].params[1] = 0x3f800000;
})
GRAPH(top_17_of_16, {
    r[2].op = 70;
    r[2].src[1] = 0;
    r[2].type = SH_DTYPE_I32;
    r[2].ne[0] = 17;
})
GRAPH(product_of_integers, {
    r[0].type = SH_DTYPE_I32;
    r[2].op = 29;
    r[2].ne[0] = 1;
})
GRAPH(square_of_blocks, {
    r[0] = peer_tensor(b, 0, SH_DTYPE_Q4_0, 32, 1);
    r[0].id = 0x1000;
    r[2].op = 9;
    r[2].src[1] = 0;
})
GRAPH(name_without_end, {
    memset(r[2].name, 'x', sizeof r[2].name);
    r[2].op = 101;
})
GRAPH(eleventh_node, {
    // listed, but as an operand that comes later in the list
    r[1].op = r[2].op;
    r[1].flags = SH_WIRE_FLAG_COMPUTE;
    r[1].src[0] = r[1].src[1] = r[0].id;
    g.nodes[1] = r[1].id;
    g.n_nodes = 2;
})
GRAPH(unary_22, {
    r[2].op = 91;
    r[2].src[1] = 0;
    r[2].params[0] = 22;
})
GRAPH(glu_7, {
    r[2].op = 100;
    r[2].params[0] = 7;
})
GRAPH(concat_dim_4, {
    r[2].op = 22;
    r[2].params[0] = 4;
    r[2].ne[0] = 32;
})
GRAPH(permute_of_the_same_axis, {
    // views compute nothing: their record alone counts, and ADD of their bytes is what is refused
    r[1].op = 38;
    r[1].ne[0] = 15;
    g.nodes[1] = g.nodes[0];
    g.nodes[0] = r[1].id;
    g.n_nodes = 2;
})
GRAPH(missing_source, r[2].src[1] = 0)
GRAPH(result_of_another_shape, r[2].ne[0] = 15)
GRAPH(result_of_another_type, r[2].type = SH_DTYPE_I32)
GRAPH(result_past_the_buffer, r[2].data = b->base + BUFFER_BYTES - 32)
GRAPH(source_past_the_buffer, r[0].data = b->base + BUFFER_BYTES - 32)
GRAPH(source_in_no_buffer, r[0].buffer = r[0].data = 0)
GRAPH(source_in_a_foreign_buffer, r[0].buffer ^= 1u << 20)
GRAPH(result_in_no_buffer, r[2].buffer = r[2].data = 0)
GRAPH(result_half_over_a_source, r[2].data = r[0].data + 32)
GRAPH(result_with_gaps, {
    r[2].ne[0] = r[0].ne[0] = r[1].ne[0] = 4;
    r[2].ne[1] = r[0].ne[1] = r[1].ne[1] = 4;
    r[2].nb[1] = 20;
})
GRAPH(view_elsewhere, {
    r[1].view_src = r[0].id;
    r[1].view_offs = 4;
})
GRAPH(view_longer_than_its_root, {
    r[0].ne[0] = 8;
    r[1].view_src = r[0].id;
    r[1].data = r[0].data;
})
GRAPH(view_in_another_buffer, {
    r[1].view_src = r[0].id;
    r[0].buffer = r[0].data = 0;
})
GRAPH(cast_to_nothing, {
    r[2].op = 34;
    r[2].src[1] = r[2].id;
    r[2].type = SH_DTYPE_IQ2_XXS;
    r[2].ne[0] = 256;
})
GRAPH(copy_elsewhere, {
    r[2].op = 34;
    r[2].view_src = r[1].id;
    r[2].data = r[1].data;
    r[2].view_offs = 0;
    r[2].data += 4;
    r[2].ne[0] = 15;
})

static const struct row g_graphs[] = {
    {"8 N overflows", counts_that_wrap, "GRAPH_COMPUTE", "nodes do not fit", false,
     "counts in 64 bits, exact length, caps"},
    {"296 T overflows", records_that_wrap, "GRAPH_COMPUTE", "4294967295 tensors", false, NULL},
    {"a record too many", one_record_less, "GRAPH_COMPUTE", "2 tensors of 296", false, NULL},
    {"a record too few", one_record_more, "GRAPH_COMPUTE", "4 tensors of 296", false, NULL},
    {"bytes left over", bytes_left_over, "GRAPH_COMPUTE", "3 tensors of 296", false, NULL},
    {"a byte is missing", bytes_missing, "GRAPH_COMPUTE", "3 tensors of 296", false, NULL},
    {"record id 0", record_id_0, "GRAPH_COMPUTE", "record 0 has the id 0", false,
     "ids are not zero, and unique"},
    {"an id twice", same_id_twice, "GRAPH_COMPUTE", "0 and 1 have the same id 0x1000", false, NULL},
    {"node without record", node_without_record, "GRAPH_COMPUTE", "has the id 0x77", false,
     "nodes have records"},
    {"node id 0", node_id_0, "GRAPH_COMPUTE", "no record has the id 0x0", false, NULL},
    {"node twice", node_twice, "GRAPH_COMPUTE", "listed twice", false, "nodes are listed once"},
    {"source without record", source_without_record, "GRAPH_COMPUTE", "id 0x99", false,
     "sources have records"},
    {"of an unused record", unused_source_without_record, "GRAPH_COMPUTE", "id 0x99", false, NULL},
    {"root without record", root_without_record, "GRAPH_COMPUTE", "id 0x99", false, NULL},
    {"source is itself", source_is_itself, "GRAPH_COMPUTE", "record 2, which comes later", false,
     "no cycles but a conversion"},
    {"a circle", sources_in_a_circle, "GRAPH_COMPUTE", "which comes later", false, NULL},
    {"node comes later", eleventh_node, "GRAPH_COMPUTE", "is a later node", false, NULL},
    {"source comes later", source_comes_later, "GRAPH_COMPUTE", "which comes later", false, NULL},
    {"root is itself", root_is_itself, "GRAPH_COMPUTE", "which comes later", false, NULL},
    {"root is a view", root_is_a_view, "GRAPH_COMPUTE", "is itself a view", false,
     "views inside their roots"},
    {"op 101", op_101, "GRAPH_COMPUTE", "op 101 may not be sent", false, "ops below 101"},
    {"op 2^32-1", op_huge, "GRAPH_COMPUTE", "op 4294967295 may not", false, NULL},
    {"op with a function pointer", op_custom, "GRAPH_COMPUTE", "op 92 may not be sent", false,
     "no ops with function pointers"},
    {"op 93", op_custom_2, "GRAPH_COMPUTE", "op 93 may not be sent", false, NULL},
    {"op 94", op_custom_3, "GRAPH_COMPUTE", "op 94 may not be sent", false, NULL},
    {"the same in a leaf", op_custom_in_a_leaf, "GRAPH_COMPUTE", "op 95 may not be sent", false,
     NULL},
    {"name without end", name_without_end, "GRAPH_COMPUTE", "xxxxxxxx\" (", false, NULL},
    {"op unknown here", op_unknown_here, "GRAPH_COMPUTE", "op 76 is not supported", false,
     "ops and types without support end the session only"},
    {"UNARY 22", unary_22, "GRAPH_COMPUTE", "UNARY", false, "ranges of sub-ops"},
    {"GLU 7", glu_7, "GRAPH_COMPUTE", "GLU", false, NULL},
    {"UNARY -1", unary_negative, "GRAPH_COMPUTE", "unary kind -1", false, NULL},
    {"GLU swapped 2", glu_swapped_2, "GRAPH_COMPUTE", "swapped is 2", false, NULL},
    {"CONCAT along -1", concat_dim_negative, "GRAPH_COMPUTE", "dimension -1", false, NULL},
    {"ARGSORT order 2", sort_order_2, "GRAPH_COMPUTE", "sort order 2", false, NULL},
    {"ROPE mode 1", rope_mode_1, "GRAPH_COMPUTE", "ROPE", false, NULL},
    {"CONCAT along 4", concat_dim_4, "GRAPH_COMPUTE", "dimension 4", false, NULL},
    {"operands do not match", permute_of_the_same_axis, "GRAPH_COMPUTE", "ADD", false,
     "sources, types, shapes and parameters fit the op"},
    {"ROPE of 17 dims", rope_dims_17, "GRAPH_COMPUTE", "ROPE", false, NULL},
    {"MUL_MAT precision", product_precision_7, "GRAPH_COMPUTE", "precision 7", false, NULL},
    {"RMS_NORM eps NaN", norm_eps_nan, "GRAPH_COMPUTE", "eps nan", false, NULL},
    {"SOFT_MAX bias", bias_without_mask, "GRAPH_COMPUTE", "a bias without a mask", false, NULL},
    {"TOP_K of too many", top_17_of_16, "GRAPH_COMPUTE", "17 of rows of 16", false, NULL},
    {"missing source", missing_source, "GRAPH_COMPUTE", "source 1 is missing", false, NULL},
    {"other shape", result_of_another_shape, "GRAPH_COMPUTE", "claimed [15,1,1,1]", false, NULL},
    {"other type", result_of_another_type, "GRAPH_COMPUTE", "claimed i32", false, NULL},
    {"result outside", result_past_the_buffer, "GRAPH_COMPUTE", "outside their buffer", false,
     "places inside the buffer"},
    {"source outside", source_past_the_buffer, "GRAPH_COMPUTE", "outside their buffer", false,
     NULL},
    {"source nowhere", source_in_no_buffer, "GRAPH_COMPUTE", "has no buffer", false,
     "all that is touched has a buffer"},
    {"source foreign", source_in_a_foreign_buffer, "GRAPH_COMPUTE", "has no buffer", false, NULL},
    {"result nowhere", result_in_no_buffer, "GRAPH_COMPUTE", "has no buffer", false, NULL},
    {"half over a source", result_half_over_a_source, "GRAPH_COMPUTE", "overlaps", false,
     "results do not overlap sources"},
    {"result with gaps", result_with_gaps, "GRAPH_COMPUTE", "not contiguous", false, NULL},
    {"view elsewhere", view_elsewhere, "GRAPH_COMPUTE", "no view of record 0", false,
     "views inside their roots"},
    {"view too long", view_longer_than_its_root, "GRAPH_COMPUTE", "no view of record 0", false,
     NULL},
    {"view of nothing", view_in_another_buffer, "GRAPH_COMPUTE", "no view of record 0", false,
     NULL},
    {"cast to a codebook type", cast_to_nothing, "GRAPH_COMPUTE", "CPY", false,
     "ops and types without support end the session only"},
    {"product of integers", product_of_integers, "GRAPH_COMPUTE", "no such op", false, NULL},
    {"square of blocks", square_of_blocks, "GRAPH_COMPUTE", "no such op", false, NULL},
    {"copy elsewhere", copy_elsewhere, "GRAPH_COMPUTE", "record 2", false, NULL},
};

static void hostile__graphs(void **state)
{
    (void)state;
    RUN(g_graphs);
}

/* ---- every op ------------------------------------------------------------------------------ */

/* The session must end for the reason given. */
static void expect_refused(const struct peer_graph *g, struct peer *p, const char *reason)
{
    peer_compute(p, g);
    assert_int_not_equal(peer_expect_end(p), SHOAL_OK);
    if (!strstr(p->err.message, reason)) {
        fail_msg("op %" PRIu32 ": \"%s\" is not in \"%s\"", g->records[2].op, reason,
                 p->err.message);
    }
    hostile_expect_service(g_server);
}

static void open_with_buffer(struct peer *p, struct peer_buffer *b, size_t bytes)
{
    peer_open(p, g_server);
    peer_hello(p);
    peer_alloc(p, bytes, b);
}

/* Each op below 101: unknown ones are named, known ones want their sources.  An op that gets a row
 * in the table comes here by itself; if its parameters hold byte offsets, as those of ACC and SET
 * do, they need rows above. */
static void hostile__ops_unknown_or_without_sources(void **state)
{
    int n_unknown = 0, n_known = 0;

    (void)state;
    for (uint32_t op = 1; op < SH_WIRE_OPS; op++) {
        const enum sh_op known = sh_op_from_wire(op);
        struct peer_buffer b;
        struct peer_graph g;
        struct peer p;
        if (op >= 92 && op <= 95) continue; // rows above
        if (known != SH_OP_COUNT &&
            ((sh_op_info(known)->flags & SH_OPF_VIEW) || sh_op_info(known)->n_src_min == 0)) {
            continue; // compute nothing, or want nothing
        }
        open_with_buffer(&p, &b, BUFFER_BYTES);
        peer_graph_add(&g, &b, 16);
        g.records[2].op = op;
        g.records[2].src[0] = g.records[2].src[1] = 0;
        expect_refused(&g, &p, known == SH_OP_COUNT ? "is not supported here" : "is missing");
        n_unknown += known == SH_OP_COUNT;
        n_known += known != SH_OP_COUNT;
    }
    assert_true(n_known > 20);
    assert_true(n_unknown > 0);
}

/* ---- depth ---------------------------------------------------------------------------------- */

static uint8_t *chain(uint32_t depth, const struct peer_buffer *b, bool compute, size_t *bytes)
{
    const uint32_t n_nodes = compute ? depth - 1 : 1;
    struct sh_writer w;
    uint8_t *payload;

    *bytes = 12 + 8 * (size_t)n_nodes + (size_t)depth * SH_WIRE_TENSOR_BYTES;
    payload = sh_malloc(*bytes);
    w = sh_writer_over(payload, *bytes);
    sh_write_u32(&w, 0);
    sh_write_u32(&w, n_nodes);
    for (uint32_t i = 0; i < n_nodes; i++)
        sh_write_u64(&w, compute ? i + 2 : depth);
    sh_write_u32(&w, depth);
    for (uint32_t i = 1; i <= depth; i++) {
        struct sh_wire_tensor t = peer_tensor(b, 0, SH_DTYPE_F32, 4, 1);
        t.id = i;
        if (i > 1) {
            t.op = (uint32_t)sh_op_info(compute ? SH_OP_SCALE : SH_OP_RESHAPE)->wire;
            t.src[0] = i - 1;
            t.view_src = 1;
            t.flags = SH_WIRE_FLAG_COMPUTE;
            t.params[1] = 0x3f800000; // 0 * x + 1
        }
        sh_wire_tensor_put(&w, &t);
    }
    assert_false(w.bad);
    return payload;
}

/* A chain as deep as a graph may be: no recursion over it. */
static void run_chain(uint32_t depth, bool compute)
{
    const float want = compute ? 1 : 0;
    struct peer_buffer b;
    struct peer p;
    uint8_t *payload;
    float out[4];
    size_t bytes;

    open_with_buffer(&p, &b, 64);
    payload = chain(depth, &b, compute, &bytes);
    peer_header(&p, SH_WIRE_GRAPH_COMPUTE, bytes);
    peer_raw(&p, payload, bytes);
    peer_get(&p, &b, 0, out, sizeof out);
    assert_true(out[0] == want);
    assert_int_equal(peer_end(&p), SHOAL_OK);
    sh_free(payload);
    hostile_expect_service(g_server);
}

static void hostile__deep_chains(void **state)
{
    (void)state;
    run_chain(60000, false);
    run_chain(16385, true);
}

/* Deeper than that is refused: by number of tensors, or by bytes before they are read. */
static void hostile__chains_that_are_too_deep(void **state)
{
    struct peer_buffer b;
    struct peer p;
    uint8_t *payload;
    size_t bytes;

    (void)state;
    open_with_buffer(&p, &b, 64);
    payload = chain(100000, &b, false, &bytes);
    peer_header(&p, SH_WIRE_GRAPH_COMPUTE, bytes);
    peer_raw(&p, payload, bytes);
    assert_int_equal(peer_expect_end(&p), SHOAL_ERR_LIMIT);
    assert_non_null(strstr(p.err.message, "100000 tensors"));
    sh_free(payload);
    hostile_expect_service(g_server);

    open_with_buffer(&p, &b, 64);
    payload = chain(150000, &b, false, &bytes);
    peer_header(&p, SH_WIRE_GRAPH_COMPUTE, bytes);
    assert_int_equal(peer_expect_end(&p), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(p.err.message, "bytes"));
    sh_free(payload);
    hostile_expect_service(g_server);

    open_with_buffer(&p, &b, 64);
    payload = chain(16386, &b, true, &bytes); // one node too many
    peer_header(&p, SH_WIRE_GRAPH_COMPUTE, bytes);
    peer_raw(&p, payload, bytes);
    assert_int_equal(peer_expect_end(&p), SHOAL_ERR_LIMIT);
    assert_non_null(strstr(p.err.message, "16385 nodes"));
    sh_free(payload);
    hostile_expect_service(g_server);
}

/* ---- index data ----------------------------------------------------------------------------- */

/* Records 0, 1, 2 of a graph with an index operand; the bad index is written behind the others. */
static void index_graph(struct peer_graph *g, const struct peer_buffer *b, enum sh_op op,
                        uint32_t index_type)
{
    struct sh_wire_tensor *r = g->records;

    memset(g, 0, sizeof *g);
    r[0] = peer_tensor(b, 0, SH_DTYPE_F32, 4, 8); // a table, or data of 2 rows, or 8 experts
    r[1] = peer_tensor(b, 1024, index_type, 2, 1);
    r[2] = peer_tensor(b, 2048, SH_DTYPE_F32, 4, 2);
    r[3] = peer_tensor(b, 3072, SH_DTYPE_F32, 4, 2);
    for (uint64_t i = 0; i < 4; i++)
        r[i].id = i + 1;
    r[3].flags = SH_WIRE_FLAG_COMPUTE;
    r[3].op = (uint32_t)sh_op_info(op)->wire;
    switch (op) {
    case SH_OP_GET_ROWS: // table, index
        r[3].src[0] = 1;
        r[3].src[1] = 2;
        break;
    case SH_OP_SET_ROWS: // data, index, target
        r[3].src[0] = 3;
        r[3].src[1] = 2;
        r[3].src[2] = 1;
        r[3].view_src = 1;
        r[3].ne[1] = 8;
        r[3].data = r[0].data;
        memcpy(r[3].nb, r[0].nb, sizeof r[3].nb);
        break;
    case SH_OP_ADD_ID: // a [4,2,1], b [4,8], ids [2,1]
        r[3].src[0] = 3;
        r[3].src[1] = 1;
        r[3].src[2] = 2;
        break;
    default: // MUL_MAT_ID: w [4,1,8], x [4,1,1], ids [2,1]: [1,2,1]
        r[0].ne[1] = 1;
        r[0].ne[2] = 8;
        r[0].nb[1] = r[0].nb[2] = 16;
        r[2].ne[1] = 1;
        r[3] = peer_tensor(b, 3072, SH_DTYPE_F32, 1, 2);
        r[3].id = 4;
        r[3].flags = SH_WIRE_FLAG_COMPUTE;
        r[3].op = (uint32_t)sh_op_info(op)->wire;
        r[3].src[0] = 1;
        r[3].src[1] = 3;
        r[3].src[2] = 2;
        break;
    }
    g->n_records = 4;
    g->nodes[0] = 4;
    g->n_nodes = 1;
}

/* Run with indices 1 and `bad`; the good graph must run, the other end the session. */
static void run_index(enum sh_op op, uint32_t index_type, int64_t bad, bool good)
{
    const struct sh_wire_request recompute = {.device = 0};
    struct sh_wire_request rq = {.size = 4};
    const int32_t narrow[2] = {1, (int32_t)bad};
    const int64_t wide[2] = {1, bad};
    const bool is_wide = index_type == SH_DTYPE_I64;
    struct peer_buffer b;
    struct peer_graph g;
    struct peer p;
    char lines[4096], number[32];
    uint8_t out[4];

    open_with_buffer(&p, &b, BUFFER_BYTES);
    index_graph(&g, &b, op, index_type);
    peer_compute(&p, &g); // index 0 twice: lawful
    peer_get(&p, &b, 0, out, sizeof out);
    peer_set(&p, &b, 1024, is_wide ? (const void *)wide : narrow, is_wide ? 16 : 8);
    (void)peer_log_take(lines, sizeof lines);
    peer_send(&p, SH_WIRE_GRAPH_RECOMPUTE, &recompute, NULL, 0);
    if (good) {
        peer_get(&p, &b, 0, out, sizeof out);
        assert_int_equal(peer_end(&p), SHOAL_OK);
        return;
    }
    rq.tensor = peer_tensor(&b, 0, SH_DTYPE_I8, 4, 1);
    peer_send(&p, SH_WIRE_GET_TENSOR, &rq, NULL, 0);
    assert_int_equal(peer_expect_end(&p), SHOAL_ERR_FORMAT);
    assert_int_equal(peer_log_take(lines, sizeof lines), 1);
    (void)snprintf(number, sizeof number, "index %" PRId64 " ", bad);
    if (!strstr(lines, number) || !strstr(lines, sh_op_info(op)->name)) {
        fail_msg("%s: no \"%s\" in %s", sh_op_info(op)->name, number, lines);
    }
    hostile_expect_service(g_server);
}

/* Index values are data: checked each time the graph runs. */
static void hostile__indices_outside(void **state)
{
    static const enum sh_op ops[] = {SH_OP_GET_ROWS, SH_OP_SET_ROWS, SH_OP_ADD_ID,
                                     SH_OP_MUL_MAT_ID};
    static const int32_t narrow[] = {8, -1, 99, INT32_MAX, INT32_MIN};
    static const int64_t wide[] = {8, -1, (int64_t)1 << 32, INT64_MAX, INT64_MIN};

    (void)state;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        run_index(ops[i], SH_DTYPE_I32, 7, true);
        for (size_t k = 0; k < sizeof narrow / sizeof narrow[0]; k++)
            run_index(ops[i], SH_DTYPE_I32, narrow[k], false);
    }
    run_index(SH_OP_SET_ROWS, SH_DTYPE_I64, 7, true);
    for (size_t k = 0; k < sizeof wide / sizeof wide[0]; k++)
        run_index(SH_OP_SET_ROWS, SH_DTYPE_I64, wide[k], false);
}

static const char *const CHECKS[] = {
    "counts in 64 bits, exact length, caps",
    "ids are not zero, and unique",
    "nodes have records",
    "nodes are listed once",
    "sources have records",
    "no cycles but a conversion",
    "no recursion over depth",
    "ops below 101",
    "no ops with function pointers",
    "ranges of sub-ops",
    "sources, types, shapes and parameters fit the op",
    "byte offsets in parameters (ACC, SET)",
    "views inside their roots",
    "places inside the buffer",
    "all that is touched has a buffer",
    "results do not overlap sources",
    "index data when it runs",
    "ops and types without support end the session only",
    "time of a graph",
};
static const struct elsewhere ELSEWHERE[] = {
    {"no recursion over depth", "deep_chains, chains_that_are_too_deep"},
    {"byte offsets in parameters (ACC, SET)", "ops_unknown_or_without_sources: there is neither"},
    {"index data when it runs", "indices_outside"},
    {"time of a graph", "hostile_limits_test: graphs_that_take_hours"},
};

static void hostile__every_check_is_tested(void **state)
{
    static const struct row *const tables[] = {g_graphs};
    static const size_t sizes[] = {sizeof g_graphs / sizeof g_graphs[0]};

    (void)state;
    hostile_every_check_is_tested(CHECKS, sizeof CHECKS / sizeof CHECKS[0], tables, sizes, 1,
                                  ELSEWHERE, sizeof ELSEWHERE / sizeof ELSEWHERE[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile__graphs),
        cmocka_unit_test(hostile__ops_unknown_or_without_sources),
        cmocka_unit_test(hostile__deep_chains),
        cmocka_unit_test(hostile__chains_that_are_too_deep),
        cmocka_unit_test(hostile__indices_outside),
        cmocka_unit_test(hostile__every_check_is_tested),
    };

    return cmocka_run_group_tests_name("hostile_graph", tests, hostile_open, hostile_close);
}
