/* Scratch: a simulation writes a mark into every unit of every result and looks for it before each
 * read, so two live tensors on common bytes cannot stay unseen. */
#include "tensor/graph.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"

#define ALIGN 64
#define N_GRAPHS 300

static uint64_t g_seed = 7;

static int random_below(int n)
{
    g_seed = g_seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((g_seed >> 33) % (uint64_t)n);
}

static int32_t root_of(const struct sh_graph *g, int32_t t)
{
    return sh_graph_tensor(g, t)->view_src >= 0 ? sh_graph_tensor(g, t)->view_src : t;
}

/* A number of an earlier tensor of 8 columns, counted back; the recent ones are likelier. */
static int32_t pick(const struct sh_graph *g)
{
    for (;;) {
        const int back = random_below(4) ? random_below(6) : random_below(g->n_tensors);
        const int32_t t = g->n_tensors - 1 - (back < g->n_tensors ? back : g->n_tensors - 1);
        if (sh_graph_tensor(g, t)->ne[0] == 8 && sh_graph_tensor(g, t)->dtype == SH_DTYPE_F32) {
            return t;
        }
    }
}

static void add_random_node(struct sh_graph *g, int32_t row_weight, int32_t square, int32_t ids)
{
    const int64_t top[] = {8, 1, 1, 1}, flat[] = {8, 0};
    const int32_t x = pick(g);
    const int64_t rows = sh_tensor_rows(sh_graph_tensor(g, x));
    int64_t ne[] = {flat[0], rows};

    switch (random_below(8)) {
    case 0:
        sh_op_binary(g, SH_OP_ADD, x, row_weight);
        break;
    case 1:
        sh_op_binary(g, SH_OP_ADD, x, sh_op_view(g, x, 1, top, NULL, 0)); // reads its own root
        break;
    case 2:
        sh_op_scale(g, x, 2, 0);
        break;
    case 3:
        sh_op_mul_mat(g, square, x, 0);
        break;
    case 4:
        sh_op_norm(g, SH_OP_RMS_NORM, sh_op_reshape(g, x, 2, ne), 0);
        break;
    case 5:
        sh_op_get_rows(g, x, ids);
        break;
    case 6:
        if (root_of(g, x) != row_weight) sh_op_set_rows(g, row_weight, ids, x); // into its root
        break;
    default:
        sh_op_binary(g, SH_OP_MUL, x, x);
    }
}

static void build_random(struct sh_graph *g)
{
    const int64_t a[] = {8, 5, 1, 1}, w[] = {8, 1, 1, 1}, sq[] = {8, 8, 1, 1}, n[] = {1, 1, 1, 1};
    const struct sh_extents max = {0};

    sh_graph_init(g, &max);
    const int32_t row_weight = sh_leaf_plain(g, SH_DTYPE_F32, w, SH_EXTENT_NONE, 0);
    const int32_t square = sh_leaf_plain(g, SH_DTYPE_F32, sq, SH_EXTENT_NONE, 0);
    const int32_t ids = sh_leaf_plain(g, SH_DTYPE_I32, n, SH_EXTENT_NONE, 0);
    sh_leaf_plain(g, SH_DTYPE_F32, a, SH_EXTENT_NONE, 0);
    sh_graph_place(g, square, 0, 0);
    const int n_nodes = 1 + random_below(60);
    for (int i = 0; i < n_nodes; i++)
        add_random_node(g, row_weight, square, ids);
    for (int i = 0; i < 3; i++)
        sh_graph_set_output(g, pick(g));
    assert_int_equal(sh_graph_status(g, NULL), SHOAL_OK);
}

struct memory {
    int32_t *mark; /* per byte: 1 + number of the tensor that owns it, or of its last writer */
    size_t bytes;
};

static bool in_scratch(const struct sh_graph *g, int32_t root)
{
    return sh_graph_tensor(g, root)->buffer < 0;
}

static void write_root(struct memory *m, const struct sh_graph *g, const size_t *offsets,
                       int32_t root)
{
    size_t bytes = 0;

    assert_true(sh_tensor_bytes(sh_graph_tensor(g, root), &bytes));
    assert_int_not_equal(offsets[root], SIZE_MAX);
    assert_int_equal(offsets[root] % ALIGN, 0);
    assert_true(sh_range_ok(offsets[root], bytes, m->bytes));
    for (size_t i = 0; i < bytes; i++)
        m->mark[offsets[root] + i] = root + 1;
}

static void expect_root(const struct memory *m, const struct sh_graph *g, const size_t *offsets,
                        int32_t root, int32_t node, const char *when)
{
    size_t bytes = 0;

    if (!in_scratch(g, root)) return;
    assert_true(sh_tensor_bytes(sh_graph_tensor(g, root), &bytes));
    for (size_t i = 0; i < bytes; i++) {
        if (m->mark[offsets[root] + i] != root + 1) {
            fail_msg("node %d, %s: byte %zu of tensor %d holds tensor %d", (int)node, when, i,
                     (int)root, (int)m->mark[offsets[root] + i] - 1);
        }
    }
}

/* A fresh result shares no byte with a source of its node, unless it lies exactly on the first. */
static bool check_own_sources(const struct sh_graph *g, const size_t *offsets, int32_t t)
{
    const struct sh_tensor *r = sh_graph_tensor(g, t);
    bool taken_over = false;

    for (int i = 0; i < SH_MAX_SRC; i++) {
        const int32_t s = r->src[i] >= 0 ? root_of(g, r->src[i]) : -1;
        size_t have = 0, want = 0;
        if (s < 0 || !in_scratch(g, s)) continue;
        assert_true(sh_tensor_bytes(r, &have) && sh_tensor_bytes(sh_graph_tensor(g, s), &want));
        const bool apart = offsets[t] + have <= offsets[s] || offsets[s] + want <= offsets[t];
        if (apart) continue;
        assert_true(sh_op_info(r->op)->flags & SH_OPF_INPLACE);
        assert_int_equal(r->src[i], r->src[0]);
        assert_int_equal(r->src[0], s); // the source itself, no view of it
        assert_int_equal(offsets[t], offsets[s]);
        assert_true(sh_tensor_same_shape(r, sh_graph_tensor(g, s)));
        taken_over = true;
    }
    return taken_over;
}

/* Returns how many results took over their source's bytes. */
static int simulate(const struct sh_graph *g, const size_t *offsets, size_t total)
{
    struct memory m = {.mark = sh_calloc(total + 1, sizeof *m.mark), .bytes = total};
    int n_taken_over = 0;

    assert_non_null(m.mark);
    for (int32_t i = 0; i < g->n_tensors; i++) {
        if (sh_graph_tensor(g, i)->op == SH_OP_NONE && in_scratch(g, i)) {
            write_root(&m, g, offsets, i);
        }
    }
    for (int32_t n = 0; n < g->n_nodes; n++) {
        const int32_t t = g->nodes[n], root = root_of(g, t);
        const struct sh_tensor *r = sh_graph_tensor(g, t);
        for (int i = 0; i < SH_MAX_SRC; i++) {
            if (r->src[i] >= 0) {
                expect_root(&m, g, offsets, root_of(g, r->src[i]), n, "before");
            }
        }
        if (r->view_src >= 0) {
            assert_int_equal(offsets[t], SIZE_MAX);
        } else {
            n_taken_over += check_own_sources(g, offsets, t);
            write_root(&m, g, offsets, root);
        }
    }
    for (int32_t i = 0; i < g->n_tensors; i++) {
        const struct sh_tensor *t = sh_graph_tensor(g, i);
        if (t->op == SH_OP_NONE || (t->flags & SH_TENSOR_OUTPUT)) {
            expect_root(&m, g, offsets, root_of(g, i), g->n_nodes, "at the end");
        }
    }
    sh_free(m.mark);
    return n_taken_over;
}

static size_t bytes_of_all(const struct sh_graph *g)
{
    size_t sum = 0;

    for (int32_t i = 0; i < g->n_tensors; i++) {
        size_t bytes = 0;
        if (root_of(g, i) != i || !in_scratch(g, i)) continue;
        assert_true(sh_tensor_bytes(sh_graph_tensor(g, i), &bytes));
        sum += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    }
    return sum;
}

static void scratch__random_graphs_never_lose_a_byte(void **state)
{
    const struct sh_buffer_bounds buffer = {.bytes = 4096};
    struct shoal_error err = SHOAL_ERROR_INIT;
    size_t planned = 0, unshared = 0;
    int n_taken_over = 0;

    (void)state;
    for (int i = 0; i < N_GRAPHS; i++) {
        struct sh_graph g;
        size_t offsets[256], total = 0;
        build_random(&g);
        assert_true(g.n_tensors <= 256);
        if (sh_graph_validate(&g, &buffer, 1, false, &err)) fail_msg("%s", err.message);
        assert_int_equal(sh_graph_plan_scratch(&g, ALIGN, offsets, &total, NULL), SHOAL_OK);
        n_taken_over += simulate(&g, offsets, total);
        planned += total;
        unshared += bytes_of_all(&g);
        sh_graph_release(&g);
    }
    assert_true(n_taken_over > N_GRAPHS); // the exception was exercised
    assert_true(planned * 2 < unshared);  // and memory is shared at all
}

static void scratch__a_chain_needs_two_places(void **state)
{
    const struct sh_extents max = {.t = 16};
    const int64_t ne[] = {64, 64, 1, 1};
    struct sh_graph g;
    size_t offsets[64], total = 0;

    (void)state;
    sh_graph_init(&g, &max);
    int32_t x = sh_leaf_input(&g, SH_INPUT_EMBD, 64);
    const int32_t w = sh_leaf_weight(&g, "w", SH_DTYPE_F32, ne, NULL);
    sh_graph_place(&g, w, 0, 0);
    for (int i = 0; i < 20; i++)
        x = sh_op_unary(&g, SH_UNARY_SILU, sh_op_mul_mat(&g, w, x, 0));
    sh_graph_set_output(&g, x);
    assert_int_equal(sh_graph_status(&g, NULL), SHOAL_OK);
    assert_int_equal(sh_graph_plan_scratch(&g, ALIGN, offsets, &total, NULL), SHOAL_OK);
    assert_int_equal(total, 3 * 64 * 16 * 4); // the input, and two to go back and forth
    assert_int_equal(offsets[w], SIZE_MAX);
    assert_int_equal(offsets[0], 0);
    sh_graph_release(&g);
}

static void scratch__empty_graphs_and_tensors(void **state)
{
    const struct sh_extents max = {0};
    struct sh_graph g;
    size_t offsets[4], total = 1;

    (void)state;
    sh_graph_init(&g, &max);
    assert_int_equal(sh_graph_plan_scratch(&g, ALIGN, offsets, &total, NULL), SHOAL_OK);
    assert_int_equal(total, 0);
    const int32_t x = sh_leaf_input(&g, SH_INPUT_EMBD, 64); // no rows at all
    sh_graph_set_output(&g, sh_op_scale(&g, sh_op_scale(&g, x, 1, 0), 1, 0));
    assert_int_equal(sh_graph_plan_scratch(&g, ALIGN, offsets, &total, NULL), SHOAL_OK);
    assert_int_equal(total, 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(offsets[i], 0);
    sh_graph_release(&g);
}

static void scratch__no_memory_is_a_status(void **state)
{
    const struct sh_extents max = {.t = 1};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_graph g;
    size_t offsets[4], total = 0;

    (void)state;
    sh_graph_init(&g, &max);
    sh_op_scale(&g, sh_leaf_input(&g, SH_INPUT_EMBD, 64), 1, 0);
    for (int64_t n = 0; n < 4; n++) {
        const size_t before = sh_mem_live_bytes();
        sh_mem_fail_after(n);
        assert_int_equal(sh_graph_plan_scratch(&g, ALIGN, offsets, &total, &err), SHOAL_ERR_NOMEM);
        assert_int_equal(sh_mem_live_bytes(), before);
    }
    sh_mem_fail_after(-1);
    sh_graph_release(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scratch__random_graphs_never_lose_a_byte),
        cmocka_unit_test(scratch__a_chain_needs_two_places),
        cmocka_unit_test(scratch__empty_graphs_and_tensors),
        cmocka_unit_test(scratch__no_memory_is_a_status),
    };
    return cmocka_run_group_tests_name("scratch", tests, NULL, NULL);
}
