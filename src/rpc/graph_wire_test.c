/* rpc/graph_wire_test.c - graphs as bytes: every form of tensor there and back, and bytes that lie.
 *
 * That graphs of whole models come back, and give the same bits, is in tests/rpc.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "rpc/graph_wire.h"

enum { T = 8, O = 4, R = 3, BYTES_MAX = 1 << 16 };

static void must(enum shoal_status st, const struct shoal_error *err)
{
    if (st) fail_msg("%s: %s", shoal_status_name(st), err->message);
}

/* One of everything that a graph may hold. */
static void make(struct sh_graph *g)
{
    const struct sh_extents max = {T, O, R};
    const int64_t table[] = {32, 40, 1, 1}, w[] = {32, 32, 1, 1}, experts[] = {32, 16, 4, 1};
    const int64_t heads[] = {8, 4, T}, part[] = {16, T}, state[] = {3, 32, 64, 1},
                  taps[] = {4, 32, 1, 1};
    const int64_t one[] = {32, 1, T};
    const struct sh_slice cut = {.axis = 1, .n_segments = 2, .segment = {{0, 16}, {48, 64}}};
    const struct sh_attn_attr attn = {.scale = 0.25f, .n_kv_heads = 4};
    const struct sh_rope_attr rope = {
        .mode = SH_ROPE_NEOX, .n_dims = 8, .freq_base = 10000, .freq_scale = 1, .attn_factor = 1};
    const size_t nb[] = {4, 128, 0, 0};
    struct sh_tensor shape = {
        .dtype = SH_DTYPE_F32, .ne = {32, 4, T, 1}, .extent = SH_EXTENT_T, .extent_dim = 2};
    int32_t x, y, q, k, rows, pages, src[4];

    sh_graph_init(g, &max);
    src[0] = sh_leaf_weight(g, "token_embd.weight", SH_DTYPE_Q8_0, table, NULL);
    src[1] = sh_leaf_input(g, SH_INPUT_TOKENS, 0);
    src[2] = sh_leaf_input(g, SH_INPUT_EMBD, 32);
    x = sh_op_node(g, SH_OP_EMBED, 3, src, NULL);
    sh_graph_name(g, x, "h\xc3\xa9llo %d", 100);
    y = sh_op_mul_mat(g, sh_leaf_weight(g, "w", SH_DTYPE_F16, w, &cut), x, 16);
    q = sh_op_rope(g, sh_op_reshape(g, y, 3, heads), sh_leaf_input(g, SH_INPUT_POS, 0), -1, &rope);
    k = sh_leaf_cache(g, SH_LEAF_CACHE_K, 2, 7, SH_DTYPE_F16, 32, 6);
    rows = sh_leaf_input(g, SH_INPUT_ROWS, 0);
    pages = sh_leaf_table(g, 2, 2, R);
    k = sh_op_cache_put(g, k, x, rows, pages);
    y = sh_leaf_cache(g, SH_LEAF_CACHE_V, 2, 7, SH_DTYPE_F16, 32, 6);
    y = sh_op_cache_put(g, y, x, rows, pages);
    y = sh_op_cache_attn(g, q, k, y, rows, pages, -1, &attn);
    y = sh_op_cont(g, sh_op_view(g, y, 2, part, nb, 64)); // the upper half of every row
    q = sh_op_cast(g, y, SH_DTYPE_F16);
    y = sh_op_view(g, sh_op_view(g, x, 2, part, nb, 64), 2, (const int64_t[]){8, T}, nb, 32);
    y = sh_op_scale(g, y, 1.5f, -1);
    src[0] = x;
    src[1] = sh_leaf_weight(g, "conv", SH_DTYPE_F32, taps, NULL);
    src[2] = sh_leaf_state(g, 3, 9, 3, state);
    src[3] = sh_leaf_input(g, SH_INPUT_STATES, 0);
    x = sh_op_node(g, SH_OP_STATE_CONV, 4, src, NULL);
    y = sh_op_reshape(g, x, 3, one);
    y = sh_op_shaped(g, SH_OP_REPEAT, 1, &y, NULL, &shape);
    q = sh_op_permute(g, y, 1, 0, 2, 3);
    q = sh_leaf_weight(g, "blk.1.ffn_gate.#.weight", SH_DTYPE_F32, experts, NULL);
    g->leaves[g->tensors[q].leaf].stack = 4;
    x = sh_op_get_rows(g, x, sh_leaf_input(g, SH_INPUT_OUT, 0));
    sh_graph_set_output(g, x);
    assert_string_equal(g->error.message, "");
}

static size_t put(uint8_t *bytes, const struct sh_graph *g)
{
    struct sh_writer w = sh_writer_over(bytes, BYTES_MAX);
    struct shoal_error err = SHOAL_ERROR_INIT;
    size_t n;

    must(sh_graph_wire_bytes(&n, g, &err), &err);
    must(sh_graph_wire_put(&w, g, &err), &err);
    assert_int_equal(w.pos, n);
    return n;
}

static enum shoal_status get(struct sh_graph *g, const uint8_t *bytes, size_t n,
                             struct shoal_error *err)
{
    static struct sh_graph_wire_map ops;

    sh_graph_wire_map_own(&ops);
    return sh_graph_wire_get(g, bytes, n, &ops, err);
}

static void graph_wire__everything_comes_back(void **state)
{
    static uint8_t bytes[BYTES_MAX], again[BYTES_MAX];
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_graph g, back;
    size_t n;

    (void)state;
    make(&g);
    n = put(bytes, &g);
    must(get(&back, bytes, n, &err), &err);
    assert_true(sh_graph_wire_equal(&g, &back));
    assert_int_equal(put(again, &back), n);
    assert_memory_equal(again, bytes, n);
    sh_graph_release(&g);
    sh_graph_release(&back);
}

/* Equality must see every difference. */
static void graph_wire__equal_sees_differences(void **state)
{
    static uint8_t bytes[BYTES_MAX];
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_graph g;
    size_t n;

    (void)state;
    make(&g);
    n = put(bytes, &g);
    for (int what = 0; what < 12; what++) {
        struct sh_graph b;
        struct sh_tensor *t;
        must(get(&b, bytes, n, &err), &err);
        t = &b.tensors[b.n_tensors - 1];
        if (what == 0) t->flags = SH_TENSOR_COMPUTE;
        if (what == 1) t->ne[1]++;
        if (what == 2) t->params[15] = 1;
        if (what == 3) t->src[0]--;
        if (what == 4) t->name = "other";
        if (what == 5) t->nb[3]++;
        if (what == 6) b.leaves[1].input = SH_INPUT_OUT;
        if (what == 7) b.max.r++;
        if (what == 8) b.nodes[0]++;
        if (what == 9) b.leaves[b.n_leaves - 2].stack = 0;
        if (what == 10) t->extent = SH_EXTENT_NONE;
        if (what == 11) b.n_nodes--;
        assert_false(sh_graph_wire_equal(&g, &b));
        sh_graph_release(&b);
    }
    sh_graph_release(&g);
}

static void graph_wire__what_is_not_ours_is_not_sent(void **state)
{
    const struct sh_extents max = {T, O, R};
    const int64_t ne[] = {4, 1, 1, 1};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_graph g;
    size_t n;

    (void)state;
    sh_graph_init(&g, &max);
    (void)sh_leaf_plain(&g, SH_DTYPE_F32, ne, SH_EXTENT_NONE, 0);
    assert_int_equal(sh_graph_wire_bytes(&n, &g, &err), SHOAL_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "tensor 0 cannot be sent"));
    sh_graph_release(&g);
    sh_graph_init(&g, &max);
    (void)sh_leaf_weight(&g, "a\nb", SH_DTYPE_F32, ne, NULL);
    assert_int_equal(sh_graph_wire_bytes(&n, &g, &err), SHOAL_ERR_ARG);
    sh_graph_release(&g);
    make(&g);
    g.nodes[0]++;
    assert_int_equal(sh_graph_wire_bytes(&n, &g, &err), SHOAL_ERR_UNSUPPORTED);
    sh_graph_release(&g);
}

/* ---- hostile bytes ---------------------------------------------------------------------------*/

/* From a block of exactly n bytes; whatever is accepted must survive the validator. */
static enum shoal_status get_exact(const uint8_t *bytes, size_t n, struct shoal_error *err)
{
    struct shoal_error why = SHOAL_ERROR_INIT;
    uint8_t *copy = sh_malloc(n ? n : 1);
    struct sh_graph g;
    enum shoal_status st;

    assert_non_null(copy);
    memcpy(copy, bytes, n);
    st = get(&g, copy, n, err);
    assert_true(!st || err->message[0]);
    if (!st) {
        size_t again;
        (void)!sh_graph_validate(&g, NULL, 0, true, &why);
        must(sh_graph_wire_bytes(&again, &g, err), err); // what was read can be sent
    }
    sh_graph_release(&g);
    sh_free(copy);
    return st;
}

static void graph_wire__every_prefix_is_refused(void **state)
{
    static uint8_t bytes[BYTES_MAX];
    struct sh_graph g;
    size_t n;

    (void)state;
    make(&g);
    n = put(bytes, &g);
    for (size_t i = 0; i < n; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        assert_int_not_equal(get_exact(bytes, i, &err), SHOAL_OK);
    }
    bytes[n] = 0;
    struct shoal_error err = SHOAL_ERROR_INIT;
    assert_int_equal(get_exact(bytes, n + 1, &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, "more bytes than tensors"));
    sh_graph_release(&g);
}

static void graph_wire__every_damaged_byte(void **state)
{
    static uint8_t bytes[BYTES_MAX];
    struct sh_graph g;
    int accepted = 0;
    size_t n;

    (void)state;
    make(&g);
    n = put(bytes, &g);
    for (size_t i = 0; i < n; i++) {
        for (unsigned v = 0; v < 256; v += v < 8 || v > 246 ? 1 : 17) {
            struct shoal_error err = SHOAL_ERROR_INIT;
            const uint8_t was = bytes[i];
            bytes[i] = (uint8_t)v;
            accepted += get_exact(bytes, n, &err) == SHOAL_OK;
            bytes[i] = was;
        }
    }
    assert_true(accepted > 0); // names, words
    sh_graph_release(&g);
}

struct lie {
    const char *reason;
    enum shoal_status status;
    size_t n;
    uint8_t bytes[96];
};

/* n_tensors, extents; then tensors. */
#define HEAD(n) n, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0
#define INPUT(i, width) 0, 0, 0, 0, 2, i, width, 0, 0, 0, 0, 0, 0, 0
#define LIE(text, status, ...)                                                                     \
    {                                                                                              \
        text, status, sizeof((uint8_t[]){__VA_ARGS__}),                                            \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

static void graph_wire__lies(void **state)
{
    static const struct lie LIES[] = {
        LIE("2 tensors of extents", SHOAL_ERR_FORMAT, HEAD(2), INPUT(0, 8)),
        LIE("tensors of extents -1", SHOAL_ERR_FORMAT, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255,
            255, 255, 4, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0),
        LIE("65537 tensors", SHOAL_ERR_FORMAT, 1, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0,
            0, 0, 3, 0, 0, 0, 0, 0, 0, 0),
        LIE("kind 4", SHOAL_ERR_FORMAT, HEAD(1), 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        LIE("flags 2", SHOAL_ERR_FORMAT, HEAD(1), 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        LIE("leaf of kind 0", SHOAL_ERR_FORMAT, HEAD(1), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        LIE("there is no input 77", SHOAL_ERR_ARG, HEAD(1), INPUT(77, 8)),
        LIE("input 0 of width 9", SHOAL_ERR_FORMAT, HEAD(1), INPUT(0, 9)),
        LIE("the input is tensor 0 already", SHOAL_ERR_FORMAT, HEAD(2), INPUT(0, 8), INPUT(0, 8)),
        LIE("source 0 is tensor 1, which does not come before it", SHOAL_ERR_FORMAT, HEAD(2),
            INPUT(7, 8), 1, 0, 0, 0, 7, 0, 1, 1, 0, 0, 0, 0),
        LIE("source 0 is tensor -2", SHOAL_ERR_FORMAT, HEAD(2), INPUT(7, 8), 1, 0, 0, 0, 7, 0, 1,
            254, 255, 255, 255, 0),
        LIE("11 sources", SHOAL_ERR_LIMIT, HEAD(2), INPUT(7, 8), 1, 0, 0, 0, 7, 0, 11, 0, 0, 0, 0,
            0),
        LIE("op 399 of", SHOAL_ERR_FORMAT, HEAD(2), INPUT(7, 8), 1, 0, 0, 0, 143, 1, 1, 0, 0, 0, 0,
            0),
        LIE("a node that is a leaf", SHOAL_ERR_FORMAT, HEAD(2), INPUT(7, 8), 1, 0, 0, 0, 0, 0, 1, 0,
            0, 0, 0, 0),
        LIE("parameter word 16", SHOAL_ERR_FORMAT, HEAD(2), INPUT(7, 8), 1, 0, 0, 0, 7, 0, 1, 0, 0,
            0, 0, 1, 16, 1, 0, 0, 0),
        LIE("parameter word 0 is 0", SHOAL_ERR_FORMAT, HEAD(2), INPUT(7, 8), 1, 0, 0, 0, 7, 0, 1, 0,
            0, 0, 0, 1, 0, 0, 0, 0, 0),
        LIE("VIEW without strides", SHOAL_ERR_FORMAT, HEAD(2), INPUT(7, 8), 1, 0, 0, 0, SH_OP_VIEW,
            0, 1, 0, 0, 0, 0, 0),
        LIE("layer 2147483648", SHOAL_ERR_FORMAT, HEAD(1), 0, 0, 0, 0, 3, 0, 1, 0, 0, 0, 128, 8, 0,
            0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0),
        LIE("type 4", SHOAL_ERR_UNSUPPORTED, HEAD(1), 0, 0, 0, 0, 3, 4, 1, 0, 0, 0, 0, 8, 0, 0, 0,
            0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0),
        LIE("a name of 1 bytes", SHOAL_ERR_FORMAT, HEAD(1), 0, 0, 1, 0, 7, 2, 7, 8, 0, 0, 0, 0, 0,
            0, 0, 0),
    };

    (void)state;
    for (size_t i = 0; i < sizeof LIES / sizeof LIES[0]; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        const enum shoal_status st = get_exact(LIES[i].bytes, LIES[i].n, &err);
        if (st != LIES[i].status || !strstr(err.message, LIES[i].reason)) {
            fail_msg("%s: %s, expected %s", shoal_status_name(st), err.message, LIES[i].reason);
        }
    }
}

static void graph_wire__ops_go_by_name(void **state)
{
    static const uint8_t BYTES[] = {HEAD(2), INPUT(7, 8), 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0};
    struct sh_graph_wire_map *m = sh_calloc(1, sizeof *m);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_graph g;

    (void)state;
    sh_graph_wire_map_init(m);
    assert_true(sh_graph_wire_map_add(m, "SQRT?", 4)); // the length counts
    assert_true(sh_graph_wire_map_add(m, "FROM_THE_FUTURE", 15));
    assert_int_equal(sh_graph_wire_get(&g, BYTES, sizeof BYTES, m, &err), SHOAL_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "tensor 1: op FROM_THE_FUTURE is not known here"));
    sh_graph_release(&g);
    sh_graph_wire_map_init(m);
    assert_true(sh_graph_wire_map_add(m, "FROM_THE_FUTURE", 15)); // not used: no error
    assert_true(sh_graph_wire_map_add(m, "SQRT", 4));
    must(sh_graph_wire_get(&g, BYTES, sizeof BYTES, m, &err), &err);
    assert_int_equal(g.tensors[1].op, SH_OP_SQRT);
    sh_graph_release(&g);
    assert_false(sh_graph_wire_map_add(m, "A_NAME_OF_MORE_THAN_THIRTY_TWO_LETTERS", 38));
    while (m->n < SH_GRAPH_WIRE_OPS_MAX)
        assert_true(sh_graph_wire_map_add(m, "X", 1));
    assert_false(sh_graph_wire_map_add(m, "X", 1));
    sh_free(m);
}

static void graph_wire__memory_runs_out(void **state)
{
    static uint8_t bytes[BYTES_MAX];
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_graph g, back;
    bool pending = false;
    size_t n;

    (void)state;
    make(&g);
    n = put(bytes, &g);
    for (int64_t i = 0; !pending; i++) {
        sh_mem_fail_after(i);
        const enum shoal_status st = get(&back, bytes, n, &err);
        pending = sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        assert_true(st == SHOAL_ERR_NOMEM || st == SHOAL_OK); // some failures are survived
        sh_graph_release(&back);
    }
    sh_graph_release(&g);
}

/* As many nodes as a graph may have. */
static void graph_wire__the_largest_graph(void **state)
{
    const struct sh_extents max = {T, O, R};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_graph g, back;
    struct sh_writer w;
    int64_t t[3];
    uint8_t *bytes;
    int32_t x;
    size_t n;

    (void)state;
    sh_graph_init(&g, &max);
    x = sh_leaf_input(&g, SH_INPUT_HIDDEN, 32);
    for (int i = 0; i < SH_GRAPH_NODES_MAX; i++)
        x = sh_op_scale(&g, x, 2, 1);
    must(sh_graph_wire_bytes(&n, &g, &err), &err);
    bytes = sh_malloc(n);
    assert_non_null(bytes);
    w = sh_writer_over(bytes, n);
    t[0] = sh_now_ns(&sh_clock_system);
    must(sh_graph_wire_put(&w, &g, &err), &err);
    t[1] = sh_now_ns(&sh_clock_system);
    must(get(&back, bytes, n, &err), &err);
    t[2] = sh_now_ns(&sh_clock_system);
    assert_true(sh_graph_wire_equal(&g, &back));
    printf("graph of %d nodes: %zu bytes, written in %.1f ms, read in %.1f ms\n", (int)g.n_nodes, n,
           (double)(t[1] - t[0]) / 1e6, (double)(t[2] - t[1]) / 1e6);
    sh_graph_release(&g);
    sh_graph_release(&back);
    sh_free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(graph_wire__everything_comes_back),
        cmocka_unit_test(graph_wire__equal_sees_differences),
        cmocka_unit_test(graph_wire__what_is_not_ours_is_not_sent),
        cmocka_unit_test(graph_wire__every_prefix_is_refused),
        cmocka_unit_test(graph_wire__every_damaged_byte),
        cmocka_unit_test(graph_wire__lies),
        cmocka_unit_test(graph_wire__ops_go_by_name),
        cmocka_unit_test(graph_wire__memory_runs_out),
        cmocka_unit_test(graph_wire__the_largest_graph),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
