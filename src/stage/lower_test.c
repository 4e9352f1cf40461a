/* stage/lower_test.c - lowering without a device: inputs and their places, shapes, cells, masks,
 * and the graph that comes out.
 */
#include "stage/lower.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

enum { HEAD = 8, KV = 2, HEADS = 4, VOCAB = 40, PAGES = 6, INDEX = 5, SEQS = 2 };
enum { WIDTH = HEAD * HEADS, ROWS_MAX = 8, WANTED_MAX = 4, ALIGN = 32 };
enum { WEIGHTS, CACHES, INPUTS, MASKS, BUFFERS }; /* buffers of the test graph */
enum { HIDDEN = 0xFC00 };

static const struct sh_step_limits LIMITS = {.n_seqs = SEQS,
                                             .n_groups = 1,
                                             .n_positions = INDEX * SH_PAGE,
                                             .rows_max = ROWS_MAX,
                                             .wanted_max = WANTED_MAX,
                                             .pages = {PAGES}};

/* One attention layer without projections, between an embedding and a head. */
static void make_graph(struct sh_graph *g, bool embed)
{
    const struct sh_extents max = {ROWS_MAX, WANTED_MAX, SEQS};
    const struct sh_rope_attr rope = {
        .n_dims = HEAD, .freq_base = 10000, .freq_scale = 1, .attn_factor = 1, .beta_fast = 32};
    const struct sh_attn_attr attn = {.scale = 0.5f, .softcap = 3, .window = 70, .n_kv_heads = KV};
    const int64_t table_ne[4] = {WIDTH, VOCAB, 1, 1}, wk_ne[4] = {WIDTH, HEAD * KV, 1, 1};
    int32_t x, q, k, w, wk, rows, pages, kc, vc;

    sh_graph_init(g, &max);
    w = sh_leaf_weight(g, "token_embd.weight", SH_DTYPE_F32, table_ne, &SH_SLICE_WHOLE);
    wk = sh_leaf_weight(g, "k.weight", SH_DTYPE_F32, wk_ne, &SH_SLICE_WHOLE);
    if (embed) {
        const int32_t src[3] = {w, sh_leaf_input(g, SH_INPUT_TOKENS, 0),
                                sh_leaf_input(g, SH_INPUT_EMBD, WIDTH)};
        x = sh_op_node(g, SH_OP_EMBED, 3, src, NULL);
    } else {
        x = sh_leaf_input(g, SH_INPUT_HIDDEN, WIDTH);
    }
    k = sh_op_mul_mat(g, wk, x, 0);
    q = sh_op_reshape(g, x, 3, (const int64_t[3]){HEAD, HEADS, ROWS_MAX});
    q = sh_op_rope(g, q, sh_leaf_input(g, SH_INPUT_POS, 0), -1, &rope);
    rows = sh_leaf_input(g, SH_INPUT_ROWS, 0);
    pages = sh_leaf_table(g, 0, INDEX, SEQS);
    kc = sh_leaf_cache(g, SH_LEAF_CACHE_K, 0, 0, SH_DTYPE_F16, HEAD * KV, PAGES);
    vc = sh_leaf_cache(g, SH_LEAF_CACHE_V, 0, 0, SH_DTYPE_F32, HEAD * KV, PAGES);
    sh_graph_place(g, w, WEIGHTS, 0);
    sh_graph_place(g, wk, WEIGHTS, WIDTH * VOCAB * 4);
    sh_graph_place(g, kc, CACHES, 0);
    sh_graph_place(g, vc, CACHES, HEAD * KV * SH_PAGE * PAGES * 2);
    kc = sh_op_cache_put(g, kc, k, rows, pages);
    vc = sh_op_cache_put(g, vc, k, rows, pages);
    x = sh_op_cache_attn(g, q, kc, vc, rows, pages, -1, &attn);
    x = sh_op_reshape(g, x, 2, (const int64_t[2]){WIDTH, ROWS_MAX});
    x = sh_op_get_rows(g, x, sh_leaf_input(g, SH_INPUT_OUT, 0));
    x = sh_op_mul_mat(g, w, x, 0);
    sh_graph_set_output(g, x);
    if (g->status) fail_msg("%s", g->error.message);
}

static void scan(const struct sh_graph *g, struct sh_lower_inputs *in)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_lower_scan(g, in, &err)) fail_msg("%s", err.message);
    in->inputs_buffer = INPUTS;
    in->masks_buffer = MASKS;
}

/* ---- what a graph needs --------------------------------------------------------------------- */

static void lower__scan_finds_the_inputs(void **state)
{
    struct sh_lower_inputs in;
    struct sh_graph g;

    (void)state;
    make_graph(&g, true);
    scan(&g, &in);
    assert_true(in.tokens && in.pos && in.out && in.group[0]);
    assert_false(in.hidden || in.group[1]);
    assert_int_equal(in.pages[0], PAGES);
    sh_graph_release(&g);
    make_graph(&g, false);
    scan(&g, &in);
    assert_true(in.hidden && in.pos && in.out);
    assert_false(in.tokens);
    assert_int_equal(in.width, WIDTH);
    sh_graph_release(&g);
}

static void lower__scan_names_what_cannot_be_lowered(void **state)
{
    const struct sh_extents max = {4, 4, 2};
    const int64_t ne[4] = {64, 8, 1, 1};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_lower_inputs in;
    struct sh_graph g;
    int32_t w;

    (void)state;
    sh_graph_init(&g, &max);
    w = sh_leaf_weight(&g, "w", SH_DTYPE_F32, ne, &SH_SLICE_WHOLE);
    sh_op_mul_mat_part(&g, w, sh_leaf_input(&g, SH_INPUT_HIDDEN, 64), 64, 128, 0);
    if (g.status) fail_msg("%s", g.error.message);
    assert_int_equal(sh_lower_scan(&g, &in, &err), SHOAL_ERR_UNSUPPORTED);
    assert_string_equal(err.message,
                        "stage: MUL_MAT_PART cannot be expressed for a device without shoal's ops");
    sh_graph_release(&g);
}

/* ---- places --------------------------------------------------------------------------------- */

static void lower__layout_of_several_rows(void **state)
{
    const struct sh_lower_shape shape = {.t = 3, .o = 2, .n_kv = {256}};
    struct sh_lower_inputs in;
    struct sh_lower_layout l;
    struct sh_graph g;

    (void)state;
    make_graph(&g, true);
    scan(&g, &in);
    sh_lower_layout(&in, &shape, ALIGN, &l);
    assert_int_equal(l.tokens, 0);
    assert_int_equal(l.pos, 32);
    assert_int_equal(l.cells[0], 64);
    assert_int_equal(l.out, 96);
    assert_int_equal(l.hidden, SIZE_MAX);
    assert_int_equal(l.cells[1], SIZE_MAX);
    assert_int_equal(l.packed_bytes, 128);
    assert_int_equal(l.mask[0], 128); // 3 rows of 256 f16
    assert_int_equal(l.bytes, 128 + 1536);
    assert_int_equal(l.mask_row[0], 0);
    sh_graph_release(&g);
}

static void lower__layout_of_one_row_has_its_mask_elsewhere(void **state)
{
    const struct sh_lower_shape shape = {.t = 1, .n_kv = {384}};
    struct sh_lower_inputs in;
    struct sh_lower_layout l;
    struct sh_graph g;

    (void)state;
    make_graph(&g, false);
    scan(&g, &in);
    sh_lower_layout(&in, &shape, ALIGN, &l);
    assert_int_equal(l.tokens, SIZE_MAX);
    assert_int_equal(l.pos, 0);
    assert_int_equal(l.cells[0], 32);
    assert_int_equal(l.out, SIZE_MAX); // nothing is wanted
    assert_int_equal(l.hidden, 64);
    assert_int_equal(l.packed_bytes, 64 + 4 * WIDTH);
    assert_int_equal(l.bytes, l.packed_bytes);
    assert_int_equal(l.mask[0], SIZE_MAX);
    assert_int_equal(l.mask_row[0], 0);
    sh_graph_release(&g);
}

static void lower__buffers_hold_every_shape(void **state)
{
    struct sh_step_limits limits = LIMITS;
    struct sh_lower_inputs in;
    struct sh_graph g;
    size_t inputs, masks, packed;

    (void)state;
    for (int i = 0; i < 4; i++) {
        limits.rows_max = i / 2 ? 1 : ROWS_MAX;
        make_graph(&g, i % 2);
        scan(&g, &in);
        sh_lower_buffer_bytes(&in, &limits, ALIGN, &inputs, &masks, &packed);
        assert_int_equal(masks, 2 * SH_PAGE * PAGES);
        for (int64_t t = 1; t <= limits.rows_max; t++) {
            for (int64_t o = 0; o <= WANTED_MAX && o <= t; o++) {
                const struct sh_lower_shape shape = {
                    .t = t, .o = o, .n_kv = {(int64_t)PAGES * SH_PAGE}};
                struct sh_lower_layout l;
                sh_lower_layout(&in, &shape, ALIGN, &l);
                if (l.bytes > inputs || l.bytes + (t == 1 ? masks : 0) > packed)
                    fail_msg("%d rows need %zu bytes of %zu", (int)t, l.bytes, inputs);
            }
        }
        sh_graph_release(&g);
    }
}

/* ---- cells and masks ------------------------------------------------------------------------ */

static void make_tables(struct sh_tables *t)
{
    static const int32_t PAGE[SEQS][INDEX] = {{1, 0, 3, -1, -1}, {-1, 4, 2, -1, -1}};
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_tables_init(t, &LIMITS, &err)) fail_msg("%s", err.message);
    memcpy(t->group[0].page, PAGE, sizeof PAGE);
}

static void lower__cells_follow_the_pages(void **state)
{
    struct sh_tables t;

    (void)state;
    make_tables(&t);
    assert_int_equal(sh_lower_cell(&t, 0, 0, 0), 64);
    assert_int_equal(sh_lower_cell(&t, 0, 0, 63), 127);
    assert_int_equal(sh_lower_cell(&t, 0, 0, 64), 0);
    assert_int_equal(sh_lower_cell(&t, 0, 0, 130), 194);
    assert_int_equal(sh_lower_cell(&t, 0, 0, 192), -1);
    assert_int_equal(sh_lower_cell(&t, 0, 1, 63), -1);
    assert_int_equal(sh_lower_cell(&t, 0, 1, 64), 256);
    sh_tables_release(&t);
}

// Each cell of a mask against the definition: the position that it holds, if any.
static void check_mask(int32_t seq, int32_t pos, int32_t last, int64_t window, int64_t n_kv)
{
    const struct sh_row row = {.seq = seq, .pos = pos, .last = last};
    uint16_t mask[PAGES * SH_PAGE];
    struct sh_tables t;

    make_tables(&t);
    sh_lower_mask(&t, 0, &row, window, n_kv, mask);
    for (int64_t cell = 0; cell < n_kv; cell++) {
        uint16_t want = HIDDEN;
        for (int64_t p = 0; p < (int64_t)INDEX * SH_PAGE; p++) {
            const bool seen = p <= last && (window == 0 || pos - p < window);
            if (sh_lower_cell(&t, 0, seq, p) == cell && seen) want = 0;
        }
        if (mask[cell] == want) continue;
        fail_msg("sequence %d, position %d, window %d: cell %d is %#x, expected %#x", (int)seq,
                 (int)pos, (int)window, (int)cell, mask[cell], want);
    }
    sh_tables_release(&t);
}

static void lower__mask_shows_what_the_row_sees(void **state)
{
    (void)state;
    for (int seq = 0; seq < SEQS; seq++) {
        static const int32_t POS[] = {64, 65, 127, 128, 150, 191};
        for (size_t i = 0; i < sizeof POS / sizeof POS[0]; i++) {
            check_mask(seq, POS[i], POS[i], 0, 256);
            check_mask(seq, POS[i], POS[i], 0, (int64_t)PAGES * SH_PAGE);
            check_mask(seq, POS[i], POS[i], 1, 256);
            check_mask(seq, POS[i], POS[i], 64, (int64_t)PAGES * SH_PAGE);
            check_mask(seq, POS[i], POS[i], 65, 256);
            check_mask(seq, POS[i], 191, 70, 256); // sees ahead
        }
    }
    check_mask(0, 0, 0, 0, 256);
}

static void expect_shape(const struct sh_step *step, int64_t n_kv)
{
    struct sh_lower_inputs in;
    struct sh_lower_shape s;
    struct sh_tables t;
    struct sh_graph g;

    make_graph(&g, true);
    scan(&g, &in);
    make_tables(&t);
    sh_lower_shape_of(step, 1, &in, &t, &s);
    assert_int_equal(s.t, step->n_rows);
    assert_int_equal(s.o, 1);
    assert_int_equal(s.n_kv[0], n_kv);
    assert_int_equal(s.n_kv[1], 0);
    sh_tables_release(&t);
    sh_graph_release(&g);
}

static void lower__shape_covers_the_highest_cell(void **state)
{
    struct sh_row rows[2] = {{.seq = 0, .pos = 0, .last = 0}, {.seq = 1, .pos = 64, .last = 64}};
    const struct sh_step_seq seqs[2] = {{.seq = 0, .n_rows = 1},
                                        {.seq = 1, .first_row = 1, .n_rows = 1}};
    struct sh_step step = {.rows = rows, .n_rows = 1, .seqs = seqs, .n_seqs = 1};

    (void)state;
    expect_shape(&step, 256);
    rows[0].last = rows[0].pos = 191; // cell 255 of page 3
    expect_shape(&step, 256);
    step.n_rows = step.n_seqs = 2; // cell 256: all 384, less than two steps of 256
    expect_shape(&step, 384);
    step.n_seqs = 1;
    rows[1] = rows[0];
    rows[1].pos = 1;
    const struct sh_step_seq both = {.seq = 0, .n_rows = 2};
    step.seqs = &both;
    expect_shape(&step, 256);
    // A row that sees ahead counts wherever it stands in its run.
    const struct sh_step_seq ahead = {.seq = 1, .n_rows = 2};
    step.seqs = &ahead;
    rows[0] = (struct sh_row){.seq = 1, .pos = 10, .last = 70};
    rows[1] = (struct sh_row){.seq = 1, .pos = 11, .last = 11};
    expect_shape(&step, 384);
}

/* ---- the graph ------------------------------------------------------------------------------ */

static void lower(struct sh_graph *from, const struct sh_lower_shape *shape, struct sh_graph *to,
                  int32_t *output)
{
    const struct sh_buffer_bounds bounds[BUFFERS] = {
        {.bytes = 1 << 20, .read_only = true}, {1 << 20, false}, {1 << 20, true}, {1 << 20, true}};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_lower_inputs in;
    struct sh_lower_layout l;

    scan(from, &in);
    sh_lower_layout(&in, shape, ALIGN, &l);
    if (sh_lower(from, &in, shape, &l, to, output, &err)) fail_msg("%s", err.message);
    to->n_buffers = BUFFERS;
    if (sh_graph_validate(to, bounds, BUFFERS, false, &err)) fail_msg("%s", err.message);
    for (int32_t i = 0; i < to->n_tensors; i++)
        assert_int_equal(to->tensors[i].extent, SH_EXTENT_NONE);
}

static void expect_ops(const struct sh_graph *g, const enum sh_op *want, int n)
{
    for (int i = 0; i < n && i < g->n_nodes; i++) {
        const enum sh_op have = g->tensors[g->nodes[i]].op;
        if (have == want[i]) continue;
        fail_msg("node %d is %s, expected %s", i, sh_op_info(have)->name,
                 sh_op_info(want[i])->name);
    }
    assert_int_equal(g->n_nodes, n);
}

static const struct sh_tensor *node(const struct sh_graph *g, enum sh_op op)
{
    for (int32_t i = 0; i < g->n_nodes; i++)
        if (g->tensors[g->nodes[i]].op == op) return &g->tensors[g->nodes[i]];
    fail_msg("no %s", sh_op_info(op)->name);
    return NULL;
}

static void expect_tensor(const struct sh_tensor *t, enum sh_dtype type, int64_t ne0, int64_t ne1,
                          int64_t ne2)
{
    if (t->dtype == type && t->ne[0] == ne0 && t->ne[1] == ne1 && t->ne[2] == ne2) return;
    fail_msg("%s is %s [%d,%d,%d], expected %s [%d,%d,%d]", t->name, sh_dtype_info(t->dtype)->name,
             (int)t->ne[0], (int)t->ne[1], (int)t->ne[2], sh_dtype_info(type)->name, (int)ne0,
             (int)ne1, (int)ne2);
}

static void lower__graph_of_several_rows(void **state)
{
    static const enum sh_op OPS[] = {
        SH_OP_GET_ROWS, SH_OP_MUL_MAT,        SH_OP_RESHAPE,  SH_OP_ROPE,     SH_OP_RESHAPE,
        SH_OP_SET_ROWS, SH_OP_RESHAPE,        SH_OP_SET_ROWS, SH_OP_PERMUTE,  SH_OP_VIEW,
        SH_OP_VIEW,     SH_OP_FLASH_ATTN_EXT, SH_OP_RESHAPE,  SH_OP_GET_ROWS, SH_OP_MUL_MAT};
    const struct sh_lower_shape shape = {.t = 3, .o = 2, .n_kv = {256}};
    struct sh_graph g, to;
    int32_t output;

    (void)state;
    make_graph(&g, true);
    lower(&g, &shape, &to, &output);
    expect_ops(&to, OPS, sizeof OPS / sizeof OPS[0]);
    const struct sh_tensor *attn = node(&to, SH_OP_FLASH_ATTN_EXT);
    const struct sh_tensor *k = &to.tensors[attn->src[1]], *v = &to.tensors[attn->src[2]];
    const struct sh_tensor *mask = &to.tensors[attn->src[3]];
    expect_tensor(&to.tensors[attn->src[0]], SH_DTYPE_F32, HEAD, 3, HEADS);
    expect_tensor(k, SH_DTYPE_F16, HEAD, 256, KV);
    expect_tensor(v, SH_DTYPE_F32, HEAD, 256, KV);
    assert_int_equal(k->nb[1], HEAD * KV * 2); // a cell
    assert_int_equal(k->nb[2], HEAD * 2);      // a head inside it
    expect_tensor(mask, SH_DTYPE_F16, 256, 3, 1);
    assert_int_equal(mask->buffer, INPUTS);
    assert_int_equal(mask->offset, 128);
    assert_true(sh_param_f32(attn, 0) == 0.5f);
    assert_true(sh_param_f32(attn, 1) == 0);
    assert_true(sh_param_f32(attn, 2) == 3);
    const struct sh_tensor *put = node(&to, SH_OP_SET_ROWS);
    expect_tensor(&to.tensors[put->src[1]], SH_DTYPE_I64, 3, 1, 1);
    assert_int_equal(to.tensors[put->src[1]].offset, 64);
    expect_tensor(put, SH_DTYPE_F16, HEAD * KV, SH_PAGE * PAGES, 1);
    expect_tensor(&to.tensors[output], SH_DTYPE_F32, VOCAB, 2, 1);
    assert_true(to.tensors[output].flags & SH_TENSOR_OUTPUT);
    sh_graph_release(&to);
    sh_graph_release(&g);
}

static void lower__graph_of_one_row(void **state)
{
    const struct sh_lower_shape shape = {.t = 1, .o = 1, .n_kv = {384}};
    struct sh_graph g, to;
    int32_t output;

    (void)state;
    make_graph(&g, false);
    lower(&g, &shape, &to, &output);
    const struct sh_tensor *attn = node(&to, SH_OP_FLASH_ATTN_EXT);
    expect_tensor(&to.tensors[attn->src[3]], SH_DTYPE_F16, 384, 1, 1);
    assert_int_equal(to.tensors[attn->src[3]].buffer, MASKS);
    assert_int_equal(to.tensors[attn->src[3]].offset, 0);
    expect_tensor(&to.tensors[output], SH_DTYPE_F32, VOCAB, 1, 1);
    sh_graph_release(&to);
    sh_graph_release(&g);
}

static void lower__nothing_wanted_ends_before_the_head(void **state)
{
    const struct sh_lower_shape shape = {.t = 3, .n_kv = {256}};
    struct sh_graph g, to;
    int32_t output;

    (void)state;
    make_graph(&g, true);
    lower(&g, &shape, &to, &output);
    assert_int_equal(output, -1);
    assert_int_equal(to.tensors[to.nodes[to.n_nodes - 1]].op, SH_OP_RESHAPE);
    sh_graph_release(&to);
    sh_graph_release(&g);
}

static void lower__no_memory_is_a_status(void **state)
{
    const struct sh_lower_shape shape = {.t = 2, .o = 1, .n_kv = {256}};
    const size_t before = sh_mem_live_bytes();
    struct sh_graph g, to;
    int32_t output;
    bool done = false;
    int failures = 0;

    (void)state;
    make_graph(&g, true);
    for (int n = 0; !done; n++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_lower_inputs in;
        struct sh_lower_layout l;
        scan(&g, &in);
        sh_lower_layout(&in, &shape, ALIGN, &l);
        sh_mem_fail_after(n);
        const enum shoal_status st = sh_lower(&g, &in, &shape, &l, &to, &output, &err);
        done = sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        if (st) assert_int_equal(st, SHOAL_ERR_NOMEM);
        failures += st != SHOAL_OK;
        sh_graph_release(&to);
    }
    assert_true(failures > 1);
    sh_graph_release(&g);
    assert_int_equal(sh_mem_live_bytes(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lower__scan_finds_the_inputs),
        cmocka_unit_test(lower__scan_names_what_cannot_be_lowered),
        cmocka_unit_test(lower__layout_of_several_rows),
        cmocka_unit_test(lower__layout_of_one_row_has_its_mask_elsewhere),
        cmocka_unit_test(lower__buffers_hold_every_shape),
        cmocka_unit_test(lower__cells_follow_the_pages),
        cmocka_unit_test(lower__mask_shows_what_the_row_sees),
        cmocka_unit_test(lower__shape_covers_the_highest_cell),
        cmocka_unit_test(lower__graph_of_several_rows),
        cmocka_unit_test(lower__graph_of_one_row),
        cmocka_unit_test(lower__nothing_wanted_ends_before_the_head),
        cmocka_unit_test(lower__no_memory_is_a_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
