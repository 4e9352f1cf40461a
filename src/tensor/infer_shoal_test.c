/* The rules of shoal's own rows: what they accept, with which result, and what they refuse. */
#include "tensor/infer_test_priv.h"

static void rows__EMBED(struct rows *r)
{
    const int32_t table = leaf(r, Q4_0, 64, 100, 1, 1), tokens = sym(r, I32, T, 0, 0, 0);

    gives(r, node(r, table, tokens, NO, NO), F32, 1, 64, T_MAX, 1, 1);
    gives(r, node(r, table, tokens, sym(r, F32, T, 1, 64, 0), NO), F32, 1, 64, T_MAX, 1, 1);
    refuses(r, node(r, table, leaf(r, I32, 2, 2, 1, 1), NO, NO), "the tokens is [2,2");
    refuses(r, node(r, table, tokens, sym(r, F32, T, 1, 32, 0), NO), "embedding rows");
    refuses(r, node(r, leaf(r, I32, 64, 100, 1, 1), tokens, NO, NO), "types");
    refuses(r, node(r, sym(r, F32, T, 1, 64, 0), tokens, NO, NO), "the table");
    refuses(r, node(r, turned(r, leaf(r, F32, 9, 64, 1, 1)), tokens, NO, NO), "source 0 has rows");
}

static void rows__CACHE_PUT(struct rows *r)
{
    const int32_t cache = sh_leaf_cache(&r->g, SH_LEAF_CACHE_K, 0, 0, F16, 32, 3);
    const int32_t x = sym(r, F32, T, 1, 32, 0), rows = sym(r, I32, T, 1, 4, 0);
    const int32_t table = leaf(r, I32, 8, 2, 1, 1);

    sh_graph_place(&r->g, cache, 0, 0);
    gives(r, node(r, cache, x, rows, table), F16, -1, 32, 64, 3, 1);
    assert_int_equal(sh_graph_tensor(&r->g, r->g.n_tensors - 1)->view_src, cache);
    assert_int_equal(sh_graph_tensor(&r->g, r->g.n_tensors - 1)->buffer, 0);
    refuses(r, node(r, leaf(r, Q8_0, 32, 64, 3, 1), x, rows, table), "the cache");
    refuses(r, node(r, leaf(r, F16, 32, 32, 3, 1), x, rows, table), "the cache");
    refuses(r, node(r, cache, sym(r, F32, T, 1, 16, 0), rows, table), "x is [16");
    refuses(r, node(r, cache, x, sym(r, I32, O, 1, 4, 0), table), "rows is");
    refuses(r, node(r, cache, x, sym(r, I32, T, 1, 3, 0), table), "rows is");
    refuses(r, node(r, cache, x, rows, leaf(r, F32, 8, 2, 1, 1)), "the table");
    refuses(r, node(r, cache, x, rows, NO), "missing");
    refuses(r, node(r, cache, sym(r, F16, T, 1, 32, 0), rows, table), "types");
}

static int32_t attn(struct rows *r, int32_t q, int32_t k, int32_t v, int32_t rows, int32_t sinks,
                    int n_kv_heads, int window)
{
    const int32_t table = leaf(r, I32, 8, 2, 1, 1);
    const struct sh_attn_attr a = {.scale = 1, .window = window, .n_kv_heads = n_kv_heads};

    return sh_op_cache_attn(&r->g, q, k, v, rows, table, sinks, &a);
}

static void rows__CACHE_ATTN(struct rows *r)
{
    const int32_t q = sym(r, F32, T, 2, 16, 6), rows = sym(r, I32, T, 1, 4, 0);
    const int32_t k = leaf(r, F16, 32, 64, 3, 1), v = leaf(r, F16, 16, 64, 3, 1);

    gives(r, attn(r, q, k, v, rows, NO, 2, 0), F32, 2, 8, 6, T_MAX, 1);
    gives(r, attn(r, q, k, v, rows, leaf(r, F32, 6, 1, 1, 1), 2, 128), F32, 2, 8, 6, T_MAX, 1);
    refuses(r, attn(r, q, k, v, rows, NO, 0, 0), "over 0 of keys");
    refuses(r, attn(r, q, k, v, rows, NO, 4, 0), "6 heads of 16 over 4");
    refuses(r, attn(r, q, k, v, rows, NO, 1, 0), "over 1 of keys");
    refuses(r, attn(r, sym(r, F32, T, 2, 16, 0), k, v, rows, NO, 2, 0), "0 heads of 16");
    refuses(r, attn(r, q, k, leaf(r, F16, 17, 64, 3, 1), rows, NO, 2, 0), "values of 17");
    refuses(r, attn(r, q, k, leaf(r, F16, 16, 64, 4, 1), rows, NO, 2, 0), "the values");
    refuses(r, attn(r, q, leaf(r, F16, 32, 63, 3, 1), v, rows, NO, 2, 0), "the keys");
    refuses(r, attn(r, q, k, v, sym(r, I32, R, 1, 4, 0), NO, 2, 0), "rows is");
    refuses(r, attn(r, q, k, v, rows, leaf(r, F32, 5, 1, 1, 1), 2, 0), "sinks is");
    refuses(r, attn(r, q, k, v, rows, NO, 2, -1), "window -1");
    refuses(r, attn(r, sym(r, F16, T, 2, 16, 6), k, v, rows, NO, 2, 0), "types");
    refuses(r, attn(r, q, k, v, rows, leaf(r, F16, 6, 1, 1, 1), 2, 0), "types");
    refuses(r, attn(r, leaf(r, F32, 16, 6, T_MAX, 2), k, v, rows, NO, 2, 0), "q is");
    const int32_t src[] = {q, k, v, rows, leaf(r, F32, 8, 2, 1, 1)};
    r->params[4] = 2;
    refuses(r, sh_op_node(&r->g, r->op, 5, src, r->params), "the table is");
}

static int32_t rotate(struct rows *r, int32_t cache, int32_t pages, int32_t factors, int n_heads,
                      int mode)
{
    rope_params(r, 16, mode);
    r->params[3] = n_heads;
    return node(r, cache, pages, factors, NO);
}

static void rows__CACHE_ROTATE(struct rows *r)
{
    const int32_t k = leaf(r, F16, 32, 64, 3, 1), pages = sh_leaf_input(&r->g, SH_INPUT_PAGES, 0);

    gives(r, rotate(r, k, pages, NO, 2, SH_ROPE_NEOX), F16, -1, 32, 64, 3, 1);
    assert_int_equal(sh_graph_tensor(&r->g, r->g.n_tensors - 1)->view_src, k);
    gives(r, rotate(r, k, pages, leaf(r, F32, 8, 1, 1, 1), 1, SH_ROPE_NORM), F16, -1, 32, 64, 3, 1);
    refuses(r, rotate(r, k, pages, NO, 0, SH_ROPE_NEOX), "0 heads");
    refuses(r, rotate(r, k, pages, NO, 3, SH_ROPE_NEOX), "3 heads in keys of 32");
    refuses(r, rotate(r, k, pages, NO, 4, SH_ROPE_NEOX), "16 rotated channels from 0 on, of 8");
    refuses(r, rotate(r, k, pages, NO, 2, SH_ROPE_MROPE), "several axes");
    refuses(r, rotate(r, k, pages, leaf(r, F32, 7, 1, 1, 1), 2, SH_ROPE_NEOX), "factors");
    refuses(r, rotate(r, k, leaf(r, I32, 3, 2, 1, 1), NO, 2, SH_ROPE_NEOX), "pages is [3");
    refuses(r, rotate(r, leaf(r, F16, 32, 63, 3, 1), pages, NO, 2, SH_ROPE_NEOX), "the cache is");
    refuses(r, rotate(r, leaf(r, Q8_0, 32, 64, 3, 1), pages, NO, 2, SH_ROPE_NEOX), "the cache is");
    refuses(r, rotate(r, k, leaf(r, F32, 2, 2, 1, 1), NO, 2, SH_ROPE_NEOX), "types");
    refuses(r, rotate(r, k, pages, leaf(r, F16, 8, 1, 1, 1), 2, SH_ROPE_NEOX), "types");
}

static void rows__STATE_CONV(struct rows *r)
{
    const int32_t x = sym(r, F32, T, 1, 12, 0), w = leaf(r, F32, 4, 12, 1, 1);
    const int32_t state = leaf(r, F32, 3, 12, 5, 1), states = sym(r, I32, R, 1, 4, 0);

    gives(r, node(r, x, w, state, states), F32, 1, 12, T_MAX, 1, 1);
    refuses(r, node(r, x, leaf(r, F32, 4, 11, 1, 1), state, states), "w is");
    refuses(r, node(r, x, leaf(r, F32, 0, 12, 1, 1), state, states), "w is");
    refuses(r, node(r, x, w, leaf(r, F32, 4, 12, 5, 1), states), "the state is");
    refuses(r, node(r, x, w, state, leaf(r, I32, 3, 2, 1, 1)), "states is");
    refuses(r, node(r, leaf(r, F16, 12, 3, 1, 1), w, state, states), "types");
    refuses(r, node(r, leaf(r, F32, 12, 3, 2, 1), w, state, states), "x is");
}

static void rows__STATE_SCAN(struct rows *r)
{
    int32_t src[] = {sym(r, F32, T, 2, 4, 6),  sym(r, F32, T, 1, 6, 0),  leaf(r, F32, 6, 1, 1, 1),
                     sym(r, F32, T, 2, 8, 2),  sym(r, F32, T, 2, 8, 2),  leaf(r, F32, 6, 1, 1, 1),
                     leaf(r, F32, 6, 1, 1, 1), leaf(r, F32, 8, 4, 6, 5), sym(r, I32, R, 1, 4, 0)};
    const int32_t wrong[] = {
        leaf(r, F32, 4, 6, 2, 2), sym(r, F32, O, 1, 6, 0),  leaf(r, F32, 5, 1, 1, 1),
        sym(r, F32, T, 2, 8, 4),  sym(r, F32, T, 2, 7, 2),  leaf(r, F32, 5, 1, 1, 1),
        leaf(r, F32, 6, 2, 1, 1), leaf(r, F32, 8, 4, 5, 5), sym(r, I32, R, 1, 3, 0)};
    const char *const what[] = {"x", "dt", "A", "B", "C", "D", "the bias", "the state", "states"};

    gives(r, sh_op_node(&r->g, r->op, 9, src, NULL), F32, 2, 4, 6, T_MAX, 1);
    for (int i = 0; i < 9; i++) {
        char reason[32];
        const int32_t right = src[i];
        src[i] = wrong[i];
        snprintf(reason, sizeof reason, "%s is [", what[i]);
        refuses(r, sh_op_node(&r->g, r->op, 9, src, NULL), reason);
        src[i] = i == 8 ? NO : leaf(r, F16, 4, 1, 1, 1);
        refuses(r, sh_op_node(&r->g, r->op, 9, src, NULL), i == 8 ? "missing" : "types");
        src[i] = right;
    }
}

static void rows__MUL_MAT_PART(struct rows *r)
{
    // 12 units of 32: 8 segments with borders at units 0 1 3 4 6 7 9 10 12.
    const int32_t x = sym(r, F32, T, 1, 96, 0), w = leaf(r, Q4_0, 96, 7, 1, 1);

    gives(r, sh_op_mul_mat_part(&r->g, w, x, 32, 384, 0), F32, 2, 7, 1, T_MAX, 1);
    gives(r, sh_op_mul_mat_part(&r->g, w, x, 32, 384, 32), F32, 2, 7, 2, T_MAX, 1);
    gives(r, sh_op_mul_mat_part(&r->g, w, x, 32, 96, 0), F32, 2, 7, 1, T_MAX, 1);
    gives(
        r,
        sh_op_mul_mat_part(&r->g, leaf(r, Q4_0, 0, 7, 1, 1), sym(r, F32, T, 1, 0, 0), 32, 384, 96),
        F32, 2, 7, 0, T_MAX, 1);
    refuses(r, sh_op_mul_mat_part(&r->g, w, x, 32, 384, 64), "not segments");
    refuses(r, sh_op_mul_mat_part(&r->g, w, x, 32, 384, 320), "not segments");
    refuses(r, sh_op_mul_mat_part(&r->g, w, x, 32, 384, -32), "not segments");
    refuses(r, sh_op_mul_mat_part(&r->g, w, x, 16, 384, 0), "not segments");
    refuses(r, sh_op_mul_mat_part(&r->g, w, x, 0, 384, 0), "not segments");
    refuses(r, sh_op_mul_mat_part(&r->g, w, x, 32, 0, 0), "not segments");
    refuses(r, sh_op_mul_mat_part(&r->g, w, sym(r, F32, T, 1, 64, 0), 32, 384, 0), "x is [64");
    refuses(r, sh_op_mul_mat_part(&r->g, leaf(r, I32, 96, 7, 1, 1), x, 32, 384, 0), "types");
    refuses(r, sh_op_mul_mat_part(&r->g, leaf(r, Q4_0, 96, 7, 2, 1), x, 32, 384, 0), "w is");
}

static void rows__TOP_EXPERTS(struct rows *r)
{
    const int32_t scores = sym(r, F32, T, 1, 8, 0);

    gives(r, sh_op_top_experts(&r->g, scores, 2), I32, 1, 2, T_MAX, 1, 1);
    refuses(r, sh_op_top_experts(&r->g, scores, 0), "0 of 8");
    refuses(r, sh_op_top_experts(&r->g, scores, 9), "9 of 8");
    refuses(r, sh_op_top_experts(&r->g, leaf(r, F32, 8, 2, 2, 1), 2), "scores is");
    refuses(r, sh_op_top_experts(&r->g, sym(r, F16, T, 1, 8, 0), 2), "types");
}

static int32_t down(struct rows *r, int32_t w, int32_t act, int32_t ids, const int32_t p[4])
{
    memcpy(r->params, p, 4 * sizeof *p);
    return node(r, w, act, sym(r, F32, T, 1, 2, 0), ids);
}

static void rows__EXPERT_DOWN(struct rows *r)
{
    const int32_t w = leaf(r, Q4_0, 64, 7, 4, 1), act = sym(r, F32, T, 2, 64, 2);
    const int32_t ids = sym(r, I32, T, 1, 2, 0);

    gives(r, down(r, w, act, ids, (int32_t[]){0, 32, 64, 0}), F32, 2, 7, 1, T_MAX, 1);
    gives(r, down(r, w, act, ids, (int32_t[]){0, 32, 128, 32}), F32, 2, 7, 2, T_MAX, 1);
    gives(r, down(r, w, act, ids, (int32_t[]){1, 0, 4, 0}), F32, 2, 7, 1, T_MAX, 1);
    gives(r, down(r, w, act, ids, (int32_t[]){1, 0, 8, 2}), F32, 2, 7, 2, T_MAX, 1);
    refuses(r, down(r, w, act, ids, (int32_t[]){2, 0, 4, 0}), "cut 2");
    refuses(r, down(r, w, act, ids, (int32_t[]){0, 32, 128, 16}), "not segments");
    refuses(r, down(r, w, act, ids, (int32_t[]){1, 0, 3, 0}), "not segments");
    refuses(r, down(r, w, act, ids, (int32_t[]){1, 0, 16, 1}), "not segments");
    refuses(r, down(r, w, sym(r, F32, T, 2, 32, 2), ids, (int32_t[]){0, 32, 64, 0}), "act is");
    refuses(r, down(r, w, act, sym(r, I32, T, 1, 3, 0), (int32_t[]){0, 32, 64, 0}), "ids is");
    refuses(r, down(r, w, act, sym(r, F32, T, 1, 2, 0), (int32_t[]){0, 32, 64, 0}), "types");
    refuses(r, down(r, leaf(r, Q4_0, 64, 7, 4, 2), act, ids, (int32_t[]){0, 32, 64, 0}), "w is");
}

static void rows__SHARD_SUM(struct rows *r)
{
    // Shard 0 of 2 holds 0..3 of 6 (one vector), shard 1 of 3 segments holds 1..2 of them (two).
    const struct sh_sum_operand six = {.n_segments = 6, .n_shards = 2, .border = {0, 4, 6}};
    const struct sh_sum_operand three = {.n_segments = 3, .n_shards = 2, .border = {0, 1, 3}};
    const struct sh_sum_operand lone = {.n_segments = 3, .n_shards = 3, .border = {0, 1, 2, 3}};
    const int32_t one = sym(r, F32, T, 2, 7, 1), two = sym(r, F32, T, 2, 7, 2);
    int32_t words[4];

    sh_sum_operand_pack(&six, words);
    sh_sum_operand_pack(&three, words + 2);
    memcpy(r->params, words, sizeof words);
    gives(r, node(r, one, two, NO, NO), F32, 1, 7, T_MAX, 1, 1); // shard 1: (4..5) and 1, 2
    memcpy(r->params, words, sizeof words);
    gives(r, node(r, one, one, NO, NO), F32, 1, 7, T_MAX, 1, 1); // shard 0
    assert_int_equal(sh_graph_tensor(&r->g, r->g.n_tensors - 1)->params[6], 1);
    memcpy(r->params, words, sizeof words);
    refuses(r, node(r, two, two, NO, NO), "no shard has these vectors");
    memcpy(r->params, words, sizeof words);
    refuses(r, node(r, one, NO, two, NO), "operand 1 is missing");
    memcpy(r->params, words, sizeof words);
    sh_sum_operand_pack(&lone, r->params + 2);
    refuses(r, node(r, one, one, NO, NO), "operand 1: no lawful shares");
    refuses(r, node(r, one, NO, NO, NO), "operand 0: no lawful shares");
    memcpy(r->params, words, sizeof words);
    refuses(r, node(r, one, sym(r, F32, T, 2, 6, 1), NO, NO), "an operand is");
    refuses(r, node(r, leaf(r, F16, 7, 1, 2, 1), NO, NO, NO), "types");
    refuses(r, node(r, NO, NO, NO, NO), "missing");
}

static const struct row_cases ROWS[] = {
    {SH_OP_EMBED, rows__EMBED},
    {SH_OP_CACHE_PUT, rows__CACHE_PUT},
    {SH_OP_CACHE_ATTN, rows__CACHE_ATTN},
    {SH_OP_CACHE_ROTATE, rows__CACHE_ROTATE},
    {SH_OP_STATE_CONV, rows__STATE_CONV},
    {SH_OP_STATE_SCAN, rows__STATE_SCAN},
    {SH_OP_MUL_MAT_PART, rows__MUL_MAT_PART},
    {SH_OP_TOP_EXPERTS, rows__TOP_EXPERTS},
    {SH_OP_EXPERT_DOWN, rows__EXPERT_DOWN},
    {SH_OP_SHARD_SUM, rows__SHARD_SUM},
};

static void infer_shoal__every_own_row_has_cases(void **state)
{
    (void)state;
    run_rows(ROWS, sizeof ROWS / sizeof ROWS[0], true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(infer_shoal__every_own_row_has_cases),
    };
    return cmocka_run_group_tests_name("infer_shoal", tests, NULL, NULL);
}
