/* cpu/graphs_test.h - devices, queues and two small graphs for the tests of the CPU device. */
#ifndef CPU_GRAPHS_TEST_H
#define CPU_GRAPHS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "cpu/device.h"
#include "device/collective.h"

#define NOT_LONG (20 * SH_SECOND) /* a wait that must not run out */

static inline struct sh_device *open_device(int n_threads, size_t memory_max)
{
    const struct sh_cpu_options opt = {.n_threads = n_threads, .memory_max = memory_max};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_device *d = NULL;

    assert_int_equal(sh_cpu_device_open(&d, &opt, &err), SHOAL_OK);
    return d;
}

static inline struct sh_queue *open_queue(struct sh_device *d)
{
    struct sh_queue *q = NULL;

    assert_int_equal(sh_queue_create(d, &q, NULL), SHOAL_OK);
    return q;
}

static inline struct sh_buffer *alloc(struct sh_device *d, size_t bytes)
{
    struct sh_buffer *b = NULL;

    assert_int_equal(sh_buffer_alloc(d, &b, bytes, SH_BUFFER_COMPUTE, NULL), SHOAL_OK);
    return b;
}

static inline void wait_ok(struct sh_queue *q, sh_ticket t)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    const enum shoal_status st = sh_queue_wait(q, t, NOT_LONG, &err);

    if (st) print_error("wait: %s\n", err.message);
    assert_int_equal(st, SHOAL_OK);
}

static inline struct sh_exec *prepare(struct sh_device *d, const struct sh_graph *g, int n_slots)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_exec *x = NULL;
    const enum shoal_status st = sh_exec_prepare(d, &x, g, NULL, 0, n_slots, &err);

    if (st) print_error("prepare: %s\n", err.message);
    assert_int_equal(st, SHOAL_OK);
    return x;
}

/* ---- graphs ---------------------------------------------------------------------------------*/

static const struct sh_extents none = {0, 0, 0};

/* rows of a table by ids: ids may be wrong */
struct lookup {
    struct sh_graph g;
    int32_t table, ids, out;
};

static inline void build_lookup(struct lookup *l)
{
    const int64_t table[4] = {4, 8, 1, 1}, ids[4] = {3, 1, 1, 1};

    sh_graph_init(&l->g, &none);
    l->table = sh_leaf_plain(&l->g, SH_DTYPE_F32, table, SH_EXTENT_NONE, 0);
    l->ids = sh_leaf_plain(&l->g, SH_DTYPE_I32, ids, SH_EXTENT_NONE, 0);
    l->out = sh_op_get_rows(&l->g, l->table, l->ids);
    sh_graph_name(&l->g, l->out, "picked");
    sh_graph_set_output(&l->g, l->out);
    assert_int_equal(sh_graph_status(&l->g, NULL), SHOAL_OK);
}

static inline void submit_lookup(struct sh_queue *q, struct sh_exec *x, const struct lookup *l,
                                 const int32_t *ids, sh_ticket *t)
{
    float table[32];

    for (int i = 0; i < 32; i++)
        table[i] = (float)i;
    assert_int_equal(sh_queue_write_tensor(q, x, 0, l->table, 0, table, sizeof table, NULL, NULL),
                     SHOAL_OK);
    wait_ok(q, 0);
    assert_int_equal(sh_queue_write_tensor(q, x, 0, l->ids, 0, ids, 3 * sizeof *ids, t, NULL),
                     SHOAL_OK);
    if (sh_queue_wait(q, *t, NOT_LONG, NULL) != SHOAL_OK) return;
    assert_int_equal(sh_queue_submit(q, x, 0, &none, NULL, t, NULL), SHOAL_OK);
}

/* x [4,2,1] of one shard, summed over n_shards that hold one segment each, times 2 */
struct summed {
    struct sh_graph g;
    int32_t x, out;
};

static inline void build_summed(struct summed *s, int n_shards)
{
    const int64_t ne[4] = {4, 1, 1, 1};
    struct sh_sum_operand o = {.n_segments = n_shards, .n_shards = n_shards};
    int32_t params[SH_N_PARAMS] = {0};
    int32_t sum;

    for (int i = 0; i <= n_shards; i++)
        o.border[i] = i;
    sh_sum_operand_pack(&o, params);
    sh_graph_init(&s->g, &none);
    s->x = sh_leaf_plain(&s->g, SH_DTYPE_F32, ne, SH_EXTENT_NONE, 0);
    sum = sh_op_node(&s->g, SH_OP_SHARD_SUM, 1, &s->x, params);
    s->out = sh_op_scale(&s->g, sum, 2.0f, 0.0f);
    sh_graph_set_output(&s->g, s->out);
    assert_int_equal(sh_graph_status(&s->g, NULL), SHOAL_OK);
}

#endif
