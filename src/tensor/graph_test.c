/* Graphs as containers: leaves, names, places, failures that stick, sizes, costs, listings. */
#include "tensor/graph.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "tensor/print.h"

static const struct sh_extents MAX = {.t = 16, .o = 4, .r = 2};

static int32_t weight(struct sh_graph *g, const char *name, enum sh_dtype t, int64_t a, int64_t b)
{
    const int64_t ne[] = {a, b, 1, 1};
    return sh_leaf_weight(g, name, t, ne, NULL);
}

static void graph__inputs_exist_once(void **state)
{
    struct sh_graph g;

    (void)state;
    sh_graph_init(&g, &MAX);
    const int32_t x = sh_leaf_input(&g, SH_INPUT_EMBD, 32),
                  pos = sh_leaf_input(&g, SH_INPUT_POS, 0);
    assert_int_equal(sh_leaf_input(&g, SH_INPUT_EMBD, 32), x);
    assert_int_equal(sh_leaf_input(&g, SH_INPUT_POS, 99), pos);
    assert_int_equal(g.n_tensors, 2);
    assert_int_equal(sh_graph_tensor(&g, pos)->ne[0], 4);
    assert_int_equal(sh_graph_tensor(&g, pos)->ne[1], 16);
    assert_true(sh_graph_tensor(&g, pos)->flags & SH_TENSOR_INPUT);
    const int32_t out = sh_leaf_input(&g, SH_INPUT_OUT, 0);
    assert_int_equal(sh_graph_tensor(&g, out)->ne[0], 4);
    assert_int_equal(sh_graph_tensor(&g, out)->extent, SH_EXTENT_O);
    const int32_t temp = sh_leaf_input(&g, SH_INPUT_TEMP, 0);
    assert_int_equal(sh_graph_tensor(&g, temp)->ne[2], 16);
    assert_int_equal(sh_graph_tensor(&g, temp)->extent_dim, 2);
    assert_int_equal(sh_leaf_input(&g, SH_INPUT_COUNT, 0), -1);
    sh_graph_release(&g);
}

static void graph__the_first_failure_sticks(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_graph g;

    (void)state;
    sh_graph_init(&g, &MAX);
    const int32_t x = sh_leaf_input(&g, SH_INPUT_EMBD, 32);
    const int32_t w = weight(&g, "blk.0.attn_q.weight", SH_DTYPE_Q4_0, 64, 8);
    const int32_t n = g.n_tensors;
    assert_int_equal(sh_op_mul_mat(&g, w, x, 0), -1);
    assert_int_equal(sh_op_scale(&g, x, 1, 0), -1);
    assert_int_equal(sh_op_scale(&g, 77, 1, 0), -1);
    assert_int_equal(sh_op_reshape(&g, -1, 1, (const int64_t[]){4}), -1);
    assert_int_equal(sh_op_view(&g, -1, 1, (const int64_t[]){4}, NULL, 0), -1);
    assert_int_equal(sh_op_cast(&g, -1, SH_DTYPE_F16), -1);
    assert_int_equal(sh_leaf_input(&g, SH_INPUT_TOKENS, 0), -1);
    assert_int_equal(weight(&g, "w", SH_DTYPE_F32, 1, 1), -1);
    assert_int_equal(sh_graph_fail(&g, SHOAL_ERR_IO, "later"), -1);
    sh_graph_name(&g, x, "x");
    sh_graph_set_output(&g, -1);
    sh_graph_place(&g, w, 0, 0);
    assert_int_equal(g.n_tensors, n);
    assert_int_equal(sh_graph_status(&g, &err), SHOAL_ERR_FORMAT);
    assert_string_equal(err.message, "graph: tensor 2, MUL_MAT of blk.0.attn_q.weight: "
                                     "rows of 64 and 32");
    assert_int_equal(sh_graph_validate(&g, NULL, 0, true, NULL), SHOAL_ERR_FORMAT);
    sh_graph_release(&g);
    sh_graph_release(&g);
    sh_graph_release(NULL);
}

static void graph__wrong_calls_are_refused(void **state)
{
    struct sh_graph g;
    const int64_t odd[] = {33, 1, 1, 1}, ok[] = {32, 1, 1, 1};

    (void)state;
    for (int i = 0; i < 10; i++) {
        sh_graph_init(&g, &MAX);
        const int32_t x = sh_leaf_plain(&g, SH_DTYPE_F32, ok, SH_EXTENT_NONE, 0);
        const int32_t v = sh_op_view(&g, x, 1, ok, NULL, 0);
        assert_int_equal(sh_graph_status(&g, NULL), SHOAL_OK);
        switch (i) {
        case 0:
            sh_op_scale(&g, 5, 1, 0);
            break;
        case 1:
            sh_op_node(&g, SH_OP_COUNT, 1, &x, NULL);
            break;
        case 2:
            sh_leaf_plain(&g, SH_DTYPE_Q4_0, odd, SH_EXTENT_NONE, 0);
            break;
        case 3:
            sh_leaf_plain(&g, SH_DTYPE_F32, ok, SH_EXTENT_T, 0); // 32 is not T's maximum
            break;
        case 4:
            sh_graph_place(&g, v, 0, 0); // a view
            break;
        case 5:
            sh_graph_place(&g, x, -1, 0);
            break;
        case 6:
            sh_op_mul_mat(&g, x, x, (int64_t)1 << 40);
            break;
        case 7:
            sh_graph_add_node(&g, 99);
            break;
        case 8:
            sh_leaf_plain(&g, (enum sh_dtype)4, ok, SH_EXTENT_NONE, 0);
            break;
        default:
            sh_op_reshape(&g, x, 5, ok);
        }
        assert_int_not_equal(sh_graph_status(&g, NULL), SHOAL_OK);
        sh_graph_release(&g);
    }
}

static void graph__placing_a_leaf_places_its_views(void **state)
{
    struct sh_graph g;
    const int64_t half[] = {8, 4};

    (void)state;
    sh_graph_init(&g, &MAX);
    const int32_t w = weight(&g, "w", SH_DTYPE_F32, 16, 4);
    const int32_t v = sh_op_view(&g, w, 2, half, NULL, 32);
    const int32_t vv = sh_op_permute(&g, v, 1, 0, 2, 3);
    const int32_t sum = sh_op_scale(&g, v, 1, 0);
    sh_graph_place(&g, w, 2, 1024);
    const int32_t late = sh_op_reshape(&g, w, 1, (const int64_t[]){64});
    assert_int_equal(g.n_buffers, 3);
    assert_int_equal(sh_graph_tensor(&g, v)->offset, 1056);
    assert_int_equal(sh_graph_tensor(&g, vv)->view_src, w);
    assert_int_equal(sh_graph_tensor(&g, vv)->offset, 1056);
    assert_int_equal(sh_graph_tensor(&g, vv)->buffer, 2);
    assert_int_equal(sh_graph_tensor(&g, late)->offset, 1024);
    assert_int_equal(sh_graph_tensor(&g, sum)->buffer, -1);
    assert_int_equal(sh_graph_status(&g, NULL), SHOAL_OK);
    sh_graph_release(&g);
}

static void graph__helpers_fill_the_parameter_words(void **state)
{
    const struct sh_rope_attr rope = {.mode = SH_ROPE_NEOX,
                                      .n_dims = 8,
                                      .n_ctx_orig = 77,
                                      .freq_base = 1e4f,
                                      .freq_scale = 0.5f,
                                      .ext_factor = 1,
                                      .attn_factor = 2,
                                      .beta_fast = 32,
                                      .beta_slow = 1,
                                      .sections = {1, 2, 3, 4}};
    struct sh_graph g;

    (void)state;
    sh_graph_init(&g, &MAX);
    const int32_t e = sh_leaf_input(&g, SH_INPUT_EMBD, 64),
                  pos = sh_leaf_input(&g, SH_INPUT_POS, 0);
    const int32_t x = sh_op_reshape(&g, e, 3, (const int64_t[]){16, 4, 16});
    const struct sh_tensor *t = sh_graph_tensor(&g, sh_op_rope(&g, x, pos, -1, &rope));
    assert_int_equal(t->params[1], 8);
    assert_int_equal(t->params[2], 2);
    assert_int_equal(t->params[4], 77);
    assert_true(sh_param_f32(t, 5) == 1e4f && sh_param_f32(t, 6) == 0.5f);
    assert_true(sh_param_f32(t, 7) == 1 && sh_param_f32(t, 8) == 2);
    assert_true(sh_param_f32(t, 9) == 32 && sh_param_f32(t, 10) == 1);
    for (int i = 0; i < 4; i++)
        assert_int_equal(t->params[11 + i], i + 1);
    t = sh_graph_tensor(&g, sh_op_scale(&g, e, 3, -1));
    assert_true(sh_param_f32(t, 0) == 3 && sh_param_f32(t, 1) == -1);
    t = sh_graph_tensor(&g, sh_op_mul_mat(&g, weight(&g, "w", SH_DTYPE_F32, 64, 3), e, 16));
    assert_int_equal(t->params[15], 16);
    t = sh_graph_tensor(&g, sh_op_view(&g, e, 2, (const int64_t[]){8, 16}, NULL, 128));
    assert_int_equal(t->params[0], 128);
    t = sh_graph_tensor(&g, sh_op_glu(&g, SH_GLU_GEGLU, e, -1));
    assert_int_equal(t->params[0], SH_GLU_GEGLU);
    assert_int_equal(t->ne[0], 32);
    assert_int_equal(sh_graph_status(&g, NULL), SHOAL_OK);
    sh_graph_release(&g);
}

static void graph__sizes_of_strided_and_block_tensors(void **state)
{
    struct sh_tensor t = {.dtype = SH_DTYPE_Q4_0, .ne = {64, 3, 2, 1}};
    size_t bytes = 0;

    (void)state;
    sh_tensor_set_dense(&t);
    assert_int_equal(t.nb[1], 36);
    assert_int_equal(t.nb[3], 216);
    assert_true(sh_tensor_bytes(&t, &bytes));
    assert_int_equal(bytes, 216);
    assert_int_equal(sh_tensor_rows(&t), 6);
    assert_int_equal(sh_tensor_elements(&t), 384);
    assert_true(sh_tensor_contiguous(&t));
    t.nb[1] = 54;
    assert_false(sh_tensor_contiguous(&t));
    t.ne[1] = 0;
    assert_true(sh_tensor_bytes(&t, &bytes));
    assert_int_equal(bytes, 0);
    t = (struct sh_tensor){.dtype = SH_DTYPE_F32, .ne = {2, 3, 1, 1}, .nb = {12, 4, 99, 99}};
    assert_true(sh_tensor_bytes(&t, &bytes));
    assert_int_equal(bytes, 24);
    assert_false(sh_tensor_contiguous(&t));
    t.nb[1] = SIZE_MAX / 2;
    assert_false(sh_tensor_bytes(&t, &bytes));
    t.ne[0] = -1;
    assert_false(sh_tensor_bytes(&t, &bytes));
}

static void graph__costs_follow_the_extents(void **state)
{
    const struct sh_extents now = {.t = 3}, none = {0};
    struct sh_graph g;

    (void)state;
    sh_graph_init(&g, &MAX);
    const int32_t x = sh_leaf_input(&g, SH_INPUT_EMBD, 32);
    const int32_t w = weight(&g, "w", SH_DTYPE_Q4_0, 32, 10);
    const int32_t y = sh_op_mul_mat(&g, w, x, 0);
    const int32_t v = sh_op_view(&g, y, 2, (const int64_t[]){5, 16}, NULL, 0);
    const int32_t s = sh_op_scale(&g, v, 1, 0);
    assert_true(sh_graph_node_cost(&g, y, &now) == 32.0 * 10 * 3);
    assert_true(sh_graph_node_cost(&g, y, &MAX) == 32.0 * 10 * 16);
    assert_true(sh_graph_node_cost(&g, y, &none) == 0);
    assert_true(sh_graph_node_cost(&g, v, &now) == 0);
    assert_true(sh_graph_node_cost(&g, s, &now) == 15);
    assert_true(sh_graph_node_cost(&g, w, &now) == 0);
    const int32_t part = sh_op_mul_mat_part(&g, w, x, 32, 128, 32);
    assert_true(sh_graph_node_cost(&g, part, &now) == 32.0 * 10 * 3);
    sh_graph_release(&g);
}

static void graph__a_listing_has_a_line_per_node(void **state)
{
    struct sh_buf out = SH_BUF_INIT;
    struct sh_graph g;

    (void)state;
    sh_graph_init(&g, &MAX);
    const int32_t x = sh_leaf_input(&g, SH_INPUT_EMBD, 32);
    const int32_t w = weight(&g, "w\n", SH_DTYPE_Q4_0, 32, 10);
    const int32_t y = sh_op_mul_mat(&g, w, x, 0);
    sh_graph_name(&g, y, "q-%d", 7);
    sh_op_view(&g, y, 2, (const int64_t[]){5, 16}, NULL, 20);
    sh_graph_place(&g, y, 1, 64);
    assert_int_equal(sh_graph_print(&g, &out), SHOAL_OK);
    assert_string_equal(
        out.ptr,
        " node  tensor  op             type    shape                      place              "
        "sources\n"
        "    0       2  MUL_MAT        f32     [10,T<=16]                 1+64               "
        "#1 w?, #0 embd\n"
        "    1       3  VIEW           f32     [5,T<=16]                  in #2+20           "
        "#2 q-7\n");
    sh_buf_release(&out);
    sh_graph_release(&g);
}

static enum shoal_status build_something(struct sh_graph *g)
{
    sh_graph_init(g, &MAX);
    int32_t x = sh_leaf_input(g, SH_INPUT_EMBD, 32);
    const int32_t w = weight(g, "w", SH_DTYPE_F32, 32, 32);
    for (int i = 0; i < 200; i++) {
        x = sh_op_mul_mat(g, w, x, 0);
        sh_graph_name(g, x, "node %d with a name of some length", i);
    }
    return sh_graph_status(g, NULL);
}

static void graph__running_out_of_memory_is_a_status(void **state)
{
    struct sh_graph g;
    int n = 0;

    (void)state;
    for (;; n++) {
        const size_t before = sh_mem_live_bytes();
        sh_mem_fail_after(n);
        const enum shoal_status st = build_something(&g);
        sh_mem_fail_after(-1);
        assert_true(st == SHOAL_OK || st == SHOAL_ERR_NOMEM);
        sh_graph_release(&g);
        assert_int_equal(sh_mem_live_bytes(), before);
        if (st == SHOAL_OK && n > 20) break;
    }
    assert_int_equal(build_something(&g), SHOAL_OK);
    sh_mem_fail_after(0);
    const enum shoal_status st = sh_graph_validate(&g, NULL, 0, true, NULL);
    sh_mem_fail_after(-1);
    assert_int_equal(st, SHOAL_ERR_NOMEM);
    sh_graph_release(&g);
}

static void graph__too_many_tensors_are_a_limit(void **state)
{
    const struct sh_tensor t = {.ne = {1, 1, 1, 1}, .name = NULL};
    struct sh_graph g;

    (void)state;
    sh_graph_init(&g, &MAX);
    for (int i = 0; i < SH_GRAPH_TENSORS_MAX; i++) {
        if (sh_graph_add_tensor(&g, &t) != i) fail_msg("tensor %d was not appended", i);
    }
    assert_int_equal(sh_graph_status(&g, NULL), SHOAL_OK);
    assert_int_equal(sh_graph_add_tensor(&g, &t), -1);
    assert_int_equal(sh_graph_status(&g, NULL), SHOAL_ERR_LIMIT);
    sh_graph_release(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(graph__inputs_exist_once),
        cmocka_unit_test(graph__the_first_failure_sticks),
        cmocka_unit_test(graph__wrong_calls_are_refused),
        cmocka_unit_test(graph__placing_a_leaf_places_its_views),
        cmocka_unit_test(graph__helpers_fill_the_parameter_words),
        cmocka_unit_test(graph__sizes_of_strided_and_block_tensors),
        cmocka_unit_test(graph__costs_follow_the_extents),
        cmocka_unit_test(graph__a_listing_has_a_line_per_node),
        cmocka_unit_test(graph__running_out_of_memory_is_a_status),
        cmocka_unit_test(graph__too_many_tensors_are_a_limit),
    };
    return cmocka_run_group_tests_name("graph", tests, NULL, NULL);
}
