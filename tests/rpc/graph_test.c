/* tests/rpc/graph_test.c - graphs of whole models go through bytes and compute the same.
 *
 * Every graph that the models of tests/support give, whole, in stages, in shards, with the graphs
 * that rotate keys, is written, read, compared and then run in the place of the first one.  The
 * logits are those of a lone run, bit for bit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "cpu/device.h"
#include "rpc/graph_wire.h"
#include "support/rig.h"

enum { ROWS = 40, BYTES_MAX = 1 << 20 };

static int g_graphs;
static size_t g_bytes;

/* Replace a graph by what its bytes say. */
static void through_bytes(struct sh_graph *g)
{
    struct sh_graph_wire_map *ops = sh_calloc(1, sizeof *ops);
    uint8_t *bytes = sh_malloc(BYTES_MAX);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_writer w = sh_writer_over(bytes, BYTES_MAX);
    struct sh_graph back;

    assert_true(ops && bytes);
    sh_graph_wire_map_own(ops);
    if (sh_graph_wire_put(&w, g, &err)) fail_msg("%s", err.message);
    if (sh_graph_wire_get(&back, bytes, w.pos, ops, &err)) fail_msg("%s", err.message);
    assert_true(sh_graph_wire_equal(g, &back));
    sh_graph_release(g);
    *g = back;
    g_graphs++;
    g_bytes += w.pos;
    sh_free(bytes);
    sh_free(ops);
}

static void check_model(struct tm_model *m, const char *what)
{
    static const struct rig_options HOW[] = {
        {.change = through_bytes},
        {.change = through_bytes, .n_stages = 3},
        {.change = through_bytes, .n_shards = 2, .shares = {1, 1}},
        {.change = through_bytes, .n_stages = 2, .n_shards = 3, .shares = {3, 1, 1}},
    };
    float *want = rig_logits(ROWS), *have = rig_logits(ROWS);
    int32_t ids[ROWS];

    for (size_t i = 0; i < sizeof HOW / sizeof HOW[0]; i++) {
        struct rig r;
        rig_open(&r, m, &HOW[i]);
        if (i == 0) {
            rig_ids(ids, ROWS, 5, r.n_vocab);
            rig_reference(m, ids, ROWS, want);
        }
        rig_feed(&r, rig_seq(&r, 0), ids, ROWS, 13, have);
        rig_expect_equal(what, have, want, ROWS, r.n_vocab);
        rig_close(&r);
    }
    sh_free(want);
    sh_free(have);
}

static void graph_bytes__models_give_the_same_bits(void **state)
{
    static const enum sh_dtype TYPES[] = {SH_DTYPE_F32, SH_DTYPE_Q4_0, SH_DTYPE_Q8_0};

    (void)state;
    for (int kind = 0; kind < TM_KIND_COUNT; kind++) {
        struct tm_model m;
        const enum sh_dtype type = TYPES[kind % 3];
        g_graphs = 0;
        g_bytes = 0;
        tm_make(&m, (enum tm_kind)kind, type, 40u + (uint32_t)kind);
        check_model(&m, tm_name((enum tm_kind)kind));
        tm_release(&m);
        printf("%s %s: %d graphs, %zu bytes\n", tm_name((enum tm_kind)kind),
               sh_dtype_info(type)->name, g_graphs, g_bytes);
        assert_true(g_graphs >= 12);
    }
}

/* Weights of old files are stacked by the leaf. */
static void graph_bytes__old_experts_give_the_same_bits(void **state)
{
    struct tm_model m;

    (void)state;
    tm_make_old(&m, TM_EXPERTS, SH_DTYPE_F32, 3);
    check_model(&m, "experts of an old file");
    tm_release(&m);
}

/* ---- graphs that a stage must refuse ---------------------------------------------------------*/

static void far_group(struct sh_graph *g)
{
    for (int32_t i = 0; i < g->n_leaves; i++) {
        if (g->leaves[i].kind == SH_LEAF_TABLE) g->leaves[i].group = 200;
    }
    through_bytes(g);
}

static void far_rotation(struct sh_graph *g)
{
    const bool rotates = g->n_nodes > 0 && g->tensors[g->nodes[0]].op == SH_OP_CACHE_ROTATE;

    for (int32_t i = 0; i < g->n_leaves && rotates; i++)
        g->leaves[i].group = 1;
}

static void two_outputs(struct sh_graph *g)
{
    if (g->n_nodes > 9) sh_graph_set_output(g, g->nodes[g->n_nodes - 2]); // the norm
    through_bytes(g);
}

static void other_output(struct sh_graph *g)
{
    for (int32_t i = 0; i < g->n_tensors; i++) {
        if (!(g->tensors[i].flags & SH_TENSOR_OUTPUT)) continue;
        g->tensors[i].flags &= ~(uint32_t)SH_TENSOR_OUTPUT;
        sh_graph_set_output(g, g->nodes[0]); // rows of the step, not the wanted ones
    }
    through_bytes(g);
}

static void graph_bytes__stages_refuse_what_is_not_theirs(void **state)
{
    static const struct {
        void (*change)(struct sh_graph *g);
        const char *reason;
    } CASES[] = {{far_group, "is of group 200 of 1"},
                 {far_rotation, "is of group 1 of 1"},
                 {two_outputs, "are both the output"},
                 {other_output, "is no rows of f32"}};
    const struct sh_cpu_options opt = {.n_threads = 1, .memory_max = 1u << 30};
    struct tm_model m;

    (void)state;
    tm_make(&m, TM_LLAMA, SH_DTYPE_F32, 3);
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        const struct rig_options o = {.change = CASES[i].change};
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_stage *s = NULL;
        struct sh_device *d;
        struct rig r;
        rig_plan(&r, &m, &o);
        if (sh_cpu_device_open(&d, &opt, &err)) fail_msg("%s", err.message);
        assert_int_equal(rig_make_stage(&r, 0, 0, d, &s, &err), SHOAL_ERR_ARG);
        assert_null(s);
        if (!strstr(err.message, CASES[i].reason)) fail_msg("%s", err.message);
        sh_device_close(d);
    }
    tm_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(graph_bytes__models_give_the_same_bits),
        cmocka_unit_test(graph_bytes__old_experts_give_the_same_bits),
        cmocka_unit_test(graph_bytes__stages_refuse_what_is_not_theirs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
