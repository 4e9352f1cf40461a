/* The CPU device: tickets, failures, cancelling, memory, two queues, sums over shards. */
#include "cpu/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "device/collective.h"

#define NOT_LONG (20 * SH_SECOND) /* a wait that must not run out */

static struct sh_device *open_device(int n_threads, size_t memory_max)
{
    const struct sh_cpu_options opt = {.n_threads = n_threads, .memory_max = memory_max};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_device *d = NULL;

    assert_int_equal(sh_cpu_device_open(&d, &opt, &err), SHOAL_OK);
    return d;
}

static struct sh_queue *open_queue(struct sh_device *d)
{
    struct sh_queue *q = NULL;

    assert_int_equal(sh_queue_create(d, &q, NULL), SHOAL_OK);
    return q;
}

static struct sh_buffer *alloc(struct sh_device *d, size_t bytes)
{
    struct sh_buffer *b = NULL;

    assert_int_equal(sh_buffer_alloc(d, &b, bytes, SH_BUFFER_COMPUTE, NULL), SHOAL_OK);
    return b;
}

static void wait_ok(struct sh_queue *q, sh_ticket t)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    const enum shoal_status st = sh_queue_wait(q, t, NOT_LONG, &err);

    if (st) print_error("wait: %s\n", err.message);
    assert_int_equal(st, SHOAL_OK);
}

static struct sh_exec *prepare(struct sh_device *d, const struct sh_graph *g, int n_slots)
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

static void build_lookup(struct lookup *l)
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

static void submit_lookup(struct sh_queue *q, struct sh_exec *x, const struct lookup *l,
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

static void build_summed(struct summed *s, int n_shards)
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

/* ---- moving bytes ---------------------------------------------------------------------------*/

static void device__describes_itself(void **state)
{
    struct sh_device *d = open_device(2, 1 << 20);
    struct sh_device_info info;
    struct sh_buffer *b;

    (void)state;
    assert_int_equal(sh_device_info(d, &info, NULL), SHOAL_OK);
    assert_string_equal(info.name, "CPU");
    assert_non_null(strstr(info.description, "2 threads"));
    assert_int_equal(info.memory_total, 1 << 20);
    assert_int_equal(info.memory_free, 1 << 20);
    assert_true(info.shoal_ops && info.exact && info.local);
    b = alloc(d, 1000);
    assert_int_equal(sh_device_info(d, &info, NULL), SHOAL_OK);
    assert_int_equal(info.memory_free, (1 << 20) - 1000);
    sh_buffer_free(b);
    sh_device_close(d);
}

static void device__memory_limit_names_need_and_free(void **state)
{
    struct sh_device *d = open_device(1, 1000);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_buffer *a = alloc(d, 600), *b = NULL;

    (void)state;
    assert_int_equal(sh_buffer_alloc(d, &b, 500, SH_BUFFER_WEIGHTS, &err), SHOAL_ERR_NOMEM);
    assert_null(b);
    assert_string_equal(err.message,
                        "CPU: a buffer of weights needs 500 bytes, 400 of 1000 are free");
    sh_buffer_free(a);
    b = alloc(d, 1000);
    sh_buffer_free(b);
    sh_device_close(d);
}

/* Small commands are done at once, large ones by the executor; order holds across both. */
static void queue__bytes_move_in_order(void **state)
{
    const size_t big = 300 * 1024;
    struct sh_device *d = open_device(1, 0);
    struct sh_queue *q = open_queue(d);
    struct sh_buffer *a = alloc(d, big), *b = alloc(d, big);
    uint8_t *in = sh_malloc(big), *out = sh_calloc(1, big);
    sh_ticket t[6];

    (void)state;
    for (size_t i = 0; i < big; i++)
        in[i] = (uint8_t)(i * 7 + i / 251);
    assert_int_equal(sh_queue_read(q, a, 0, out, big, &t[0], NULL), SHOAL_OK);
    wait_ok(q, t[0]);
    for (size_t i = 0; i < big; i++)
        assert_int_equal(out[i], 0); // zeroed when allocated
    for (int round = 0; round < 20; round++) {
        assert_int_equal(sh_queue_write(q, a, 0, in, big, &t[1], NULL), SHOAL_OK);
        assert_int_equal(sh_queue_fill(q, a, 5, 0xee, 10, &t[2], NULL), SHOAL_OK);
        assert_int_equal(sh_queue_copy(q, b, 0, a, 0, big, &t[3], NULL), SHOAL_OK);
        assert_int_equal(sh_queue_fill(q, a, 5, 0x11, 10, &t[4], NULL), SHOAL_OK);
        memset(out, 0, big);
        assert_int_equal(sh_queue_read(q, b, 0, out, big, &t[5], NULL), SHOAL_OK);
        for (int i = 1; i < 6; i++)
            assert_true(t[i] > t[i - 1]);
        t[0] = t[5];
        wait_ok(q, t[5]);
        assert_memory_equal(out, in, 5);
        for (size_t i = 5; i < 15; i++)
            assert_int_equal(out[i], 0xee);
        assert_memory_equal(out + 15, in + 15, big - 15);
    }
    sh_free(in);
    sh_free(out);
    sh_queue_destroy(q);
    sh_buffer_free(a);
    sh_buffer_free(b);
    sh_device_close(d);
}

static void queue__ranges_are_checked_at_once(void **state)
{
    struct sh_device *d = open_device(1, 0), *other = open_device(1, 0);
    struct sh_queue *q = open_queue(d);
    struct sh_buffer *b = alloc(d, 100), *foreign = alloc(other, 100);
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t bytes[200] = {0};
    sh_ticket t = 7;

    (void)state;
    assert_int_equal(sh_queue_write(q, b, 1, bytes, 100, &t, &err), SHOAL_ERR_ARG);
    assert_int_equal(t, 0);
    assert_string_equal(err.message, "write: 100 bytes at 1 do not fit into a buffer of 100 bytes");
    assert_int_equal(sh_queue_read(q, b, SIZE_MAX, bytes, 2, &t, &err), SHOAL_ERR_ARG);
    assert_int_equal(sh_queue_copy(q, b, 0, foreign, 0, 10, &t, &err), SHOAL_ERR_ARG);
    assert_string_equal(err.message, "copy from: the buffer is not of the queue's device");
    assert_int_equal(sh_queue_wait(q, 1, 0, &err), SHOAL_ERR_ARG); // never issued
    sh_queue_destroy(q);
    sh_buffer_free(b);
    sh_buffer_free(foreign);
    sh_device_close(d);
    sh_device_close(other);
}

/* ---- runs -----------------------------------------------------------------------------------*/

static void run__results_come_back(void **state)
{
    struct sh_device *d = open_device(2, 0);
    struct sh_queue *q = open_queue(d);
    struct lookup l;
    struct sh_exec *x;
    const int32_t ids[3] = {7, 0, 3};
    float out[12] = {0};
    sh_ticket t;

    (void)state;
    build_lookup(&l);
    x = prepare(d, &l.g, 1);
    submit_lookup(q, x, &l, ids, &t);
    assert_int_equal(sh_queue_read_tensor(q, x, 0, l.out, 0, out, sizeof out, &t, NULL), SHOAL_OK);
    wait_ok(q, t);
    for (int i = 0; i < 12; i++)
        assert_float_equal(out[i], (float)(ids[i / 4] * 4 + i % 4), 0);
    sh_queue_destroy(q);
    sh_exec_release(x);
    sh_graph_release(&l.g);
    sh_device_close(d);
}

static void run__slots_and_extents_are_checked(void **state)
{
    struct sh_device *d = open_device(1, 0);
    struct sh_queue *q = open_queue(d);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct lookup l;
    struct sh_exec *x;
    float v[40];
    const struct sh_extents wrong = {1, 0, 0};
    sh_ticket t;

    (void)state;
    build_lookup(&l);
    x = prepare(d, &l.g, 2);
    assert_int_equal(sh_queue_submit(q, x, 2, &none, NULL, &t, &err), SHOAL_ERR_ARG);
    assert_string_equal(err.message, "CPU: slot 2 of 2");
    assert_int_equal(sh_queue_submit(q, x, 0, &wrong, NULL, &t, &err), SHOAL_ERR_ARG);
    assert_int_equal(sh_queue_read_tensor(q, x, 0, 99, 0, v, 4, &t, &err), SHOAL_ERR_ARG);
    assert_int_equal(sh_queue_read_tensor(q, x, 0, l.out, 4, v, 48, &t, &err), SHOAL_ERR_ARG);
    assert_string_equal(err.message, "CPU: 48 bytes at 4 do not fit into tensor 2 of 48 bytes");
    sh_queue_destroy(q);
    sh_exec_release(x);
    sh_graph_release(&l.g);
    sh_device_close(d);
}

/* A bad index fails the run by name, and everything after it until the queue is reset. */
static void run__failure_poisons_until_reset(void **state)
{
    struct sh_device *d = open_device(2, 0);
    struct sh_queue *q = open_queue(d);
    struct sh_queue *other = open_queue(d);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct lookup l;
    struct sh_exec *x;
    const int32_t good[3] = {1, 2, 3}, bad[3] = {1, 8, 3};
    float out[12] = {0};
    uint8_t *large = sh_calloc(1, 200000);
    struct sh_buffer *b = alloc(d, 200000);
    sh_ticket ok, failed, after, t;

    (void)state;
    build_lookup(&l);
    x = prepare(d, &l.g, 1);
    submit_lookup(q, x, &l, good, &ok);
    wait_ok(q, ok);
    submit_lookup(q, x, &l, bad, &failed);
    assert_int_equal(sh_queue_write(q, b, 0, large, 200000, &after, NULL), SHOAL_OK);
    assert_int_equal(sh_queue_wait(q, after, NOT_LONG, &err), SHOAL_ERR_FORMAT);
    assert_string_equal(err.message, "CPU: node 2 (GET_ROWS picked): index 8 at 1 is not below 8");
    assert_int_equal(sh_queue_wait(q, failed, NOT_LONG, &err), SHOAL_ERR_FORMAT);
    wait_ok(q, ok); // complete before the failure
    assert_int_equal(sh_queue_submit(q, x, 0, &none, NULL, &t, NULL), SHOAL_OK);
    assert_int_equal(sh_queue_wait(q, t, NOT_LONG, &err), SHOAL_ERR_FORMAT);
    memset(out, 0x55, sizeof out);
    assert_int_equal(sh_queue_read_tensor(q, x, 0, l.out, 0, out, sizeof out, &t, NULL), SHOAL_OK);
    assert_int_equal(sh_queue_wait(q, t, NOT_LONG, &err), SHOAL_ERR_FORMAT);
    assert_int_equal(((uint8_t *)out)[3], 0x55); // nothing was read
    assert_int_equal(sh_queue_fill(other, b, 0, 1, 10, &t, NULL), SHOAL_OK);
    wait_ok(other, t); // another queue is not concerned

    sh_queue_reset(q);
    submit_lookup(q, x, &l, good, &t);
    assert_int_equal(sh_queue_read_tensor(q, x, 0, l.out, 0, out, sizeof out, &t, NULL), SHOAL_OK);
    wait_ok(q, t);
    assert_float_equal(out[11], 15, 0);
    sh_queue_destroy(q);
    sh_queue_destroy(other);
    sh_exec_release(x);
    sh_graph_release(&l.g);
    sh_buffer_free(b);
    sh_free(large);
    sh_device_close(d);
}

static void run__unsupported_types_name_the_node(void **state)
{
    struct sh_device *d = open_device(1, 0);
    struct shoal_error err = SHOAL_ERROR_INIT;
    const int64_t w[4] = {256, 4, 1, 1}, x[4] = {256, 2, 1, 1};
    struct sh_graph g;
    struct sh_exec *e = NULL;
    int32_t a, b, out;

    (void)state;
    sh_graph_init(&g, &none);
    a = sh_leaf_plain(&g, SH_DTYPE_IQ2_XXS, w, SH_EXTENT_NONE, 0);
    b = sh_leaf_plain(&g, SH_DTYPE_F32, x, SH_EXTENT_NONE, 0);
    out = sh_op_mul_mat(&g, a, b, 0);
    sh_graph_name(&g, out, "blk.0.up");
    assert_int_equal(sh_exec_prepare(d, &e, &g, NULL, 0, 1, &err), SHOAL_ERR_UNSUPPORTED);
    assert_null(e);
    assert_string_equal(err.message,
                        "CPU: node 2 (MUL_MAT blk.0.up): no product with weights of type iq2_xxs");
    sh_graph_release(&g);
    sh_device_close(d);
}

static void run__scratch_counts_against_the_limit(void **state)
{
    struct sh_device *d = open_device(1, 4000);
    struct shoal_error err = SHOAL_ERROR_INIT;
    const int64_t ne[4] = {2000, 1, 1, 1};
    struct sh_graph g;
    struct sh_exec *e = NULL;
    struct sh_device_info info;

    (void)state;
    sh_graph_init(&g, &none);
    (void)sh_op_scale(&g, sh_leaf_plain(&g, SH_DTYPE_F32, ne, SH_EXTENT_NONE, 0), 2, 0);
    assert_int_equal(sh_exec_prepare(d, &e, &g, NULL, 0, 1, &err), SHOAL_ERR_NOMEM);
    assert_non_null(strstr(err.message, "scratch of a graph needs"));
    assert_int_equal(sh_device_info(d, &info, NULL), SHOAL_OK);
    assert_int_equal(info.memory_free, 4000); // all given back
    sh_graph_release(&g);
    sh_device_close(d);
}

/* ---- imports --------------------------------------------------------------------------------*/

static void import__is_read_only(void **state)
{
    struct sh_device *d = open_device(1, 0);
    struct sh_queue *q = open_queue(d);
    struct shoal_error err = SHOAL_ERROR_INIT;
    _Alignas(64) float data[4] = {1, 2, 3, 4};
    const int64_t ne[4] = {4, 1, 1, 1};
    struct sh_buffer *b = NULL;
    struct sh_graph g;
    struct sh_exec *e = NULL;
    int32_t leaf, copy;
    sh_ticket t;

    (void)state;
    assert_int_equal(sh_buffer_import(d, &b, data, sizeof data, NULL, &err), SHOAL_OK);
    assert_int_equal(sh_buffer_bytes(b), sizeof data);
    assert_int_equal(sh_queue_fill(q, b, 0, 1, 4, &t, &err), SHOAL_ERR_ARG);
    assert_string_equal(err.message, "CPU: fill an imported buffer, which is read-only");
    sh_graph_init(&g, &none);
    leaf = sh_leaf_plain(&g, SH_DTYPE_F32, ne, SH_EXTENT_NONE, 0);
    sh_graph_place(&g, leaf, 0, 0);
    copy =
        sh_op_node(&g, SH_OP_CPY, 2,
                   (int32_t[]){sh_leaf_plain(&g, SH_DTYPE_F32, ne, SH_EXTENT_NONE, 0), leaf}, NULL);
    assert_true(copy >= 0);
    assert_int_equal(sh_exec_prepare(d, &e, &g, &b, 1, 1, &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, "read-only"));
    sh_graph_release(&g);
    sh_queue_destroy(q);
    sh_buffer_free(b);
    sh_device_close(d);
}

static void import__shrinking_file_is_an_error(void **state)
{
    struct sh_device *d = open_device(1, 0);
    struct sh_queue *q = open_queue(d);
    struct shoal_error err = SHOAL_ERROR_INIT;
    const int64_t ne[4] = {4096, 1, 1, 1}; // four pages
    char path[] = "/tmp/shoal-import-XXXXXX";
    const int fd = mkstemp(path);
    struct sh_map map = SH_MAP_INIT;
    struct sh_buffer *b = NULL;
    struct sh_graph g;
    struct sh_exec *e = NULL;
    int32_t leaf;
    sh_ticket t;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 4096 * 4), 0);
    assert_int_equal(sh_map_file(&map, path, &err), SHOAL_OK);
    assert_int_equal(sh_buffer_import(d, &b, map.ptr, map.size, &map, &err), SHOAL_OK);
    sh_graph_init(&g, &none);
    leaf = sh_leaf_plain(&g, SH_DTYPE_F32, ne, SH_EXTENT_NONE, 0);
    sh_graph_place(&g, leaf, 0, 0);
    sh_graph_set_output(&g, sh_op_scale(&g, leaf, 2, 0));
    assert_int_equal(sh_exec_prepare(d, &e, &g, &b, 1, 1, &err), SHOAL_OK);
    assert_int_equal(sh_queue_submit(q, e, 0, &none, NULL, &t, NULL), SHOAL_OK);
    wait_ok(q, t);
    assert_int_equal(ftruncate(fd, 4096), 0);
    assert_int_equal(sh_queue_submit(q, e, 0, &none, NULL, &t, NULL), SHOAL_OK);
    assert_int_equal(sh_queue_wait(q, t, NOT_LONG, &err), SHOAL_ERR_IO);
    assert_string_equal(err.message,
                        "CPU: a mapped file of 16384 bytes shrank while it was in use");
    sh_queue_destroy(q);
    sh_exec_release(e);
    sh_graph_release(&g);
    sh_buffer_free(b);
    sh_map_release(&map);
    (void)close(fd);
    (void)unlink(path);
    sh_device_close(d);
}

/* ---- sums over shards -----------------------------------------------------------------------*/

/* A shard: device, graph, and one queue per session. */
struct shard {
    struct sh_device *d;
    struct summed s;
    struct sh_exec *x[2];
    struct sh_queue *q[2];
};

static void open_shards(struct shard *shards, int n, int n_queues)
{
    for (int i = 0; i < n; i++) {
        shards[i].d = open_device(1 + i % 2, 0);
        build_summed(&shards[i].s, n);
        for (int k = 0; k < n_queues; k++) {
            shards[i].q[k] = open_queue(shards[i].d);
            shards[i].x[k] = prepare(shards[i].d, &shards[i].s.g, 1);
        }
    }
}

static void close_shards(struct shard *shards, int n, int n_queues)
{
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < n_queues; k++) {
            sh_queue_destroy(shards[i].q[k]);
            sh_exec_release(shards[i].x[k]);
        }
        sh_graph_release(&shards[i].s.g);
        sh_device_close(shards[i].d);
    }
}

static struct sh_collective record(const struct sh_hub *h, int rank, uint64_t session,
                                   uint64_t step)
{
    struct sh_collective c = *sh_hub_shard(h, rank);

    c.session = session;
    c.step = step;
    return c;
}

static void submit_shard(struct shard *s, int k, float value, struct sh_collective *c, sh_ticket *t)
{
    const float x[4] = {value, 2 * value, 3 * value, 4 * value};
    sh_ticket written;

    assert_int_equal(
        sh_queue_write_tensor(s->q[k], s->x[k], 0, s->s.x, 0, x, sizeof x, &written, NULL),
        SHOAL_OK);
    wait_ok(s->q[k], written);
    assert_int_equal(sh_queue_submit(s->q[k], s->x[k], 0, &none, c, t, NULL), SHOAL_OK);
}

static void expect_result(struct shard *s, int k, float first)
{
    float out[4] = {0};
    sh_ticket t;

    assert_int_equal(
        sh_queue_read_tensor(s->q[k], s->x[k], 0, s->s.out, 0, out, sizeof out, &t, NULL),
        SHOAL_OK);
    wait_ok(s->q[k], t);
    for (int i = 0; i < 4; i++)
        assert_float_equal(out[i], first * (float)(i + 1), 0);
}

static void sum__shards_get_the_same(void **state)
{
    struct sh_hub *h = NULL;
    struct shard shards[3];
    struct sh_collective c[3];
    sh_ticket t[3];

    (void)state;
    assert_int_equal(sh_hub_create(&h, 3, NULL), SHOAL_OK);
    open_shards(shards, 3, 1);
    for (uint64_t step = 0; step < 20; step++) {
        for (int i = 0; i < 3; i++) {
            c[i] = record(h, i, 1, step);
            submit_shard(&shards[i], 0, (float)(1 << i), &c[i], &t[i]);
        }
        for (int i = 0; i < 3; i++) {
            wait_ok(shards[i].q[0], t[i]);
            expect_result(&shards[i], 0, 14);
        }
    }
    close_shards(shards, 3, 1);
    sh_hub_destroy(h);
}

static void sum__without_partners_is_local(void **state)
{
    struct shard s;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shard two[2];
    sh_ticket t;

    (void)state;
    open_shards(&s, 1, 1);
    submit_shard(&s, 0, 5, NULL, &t);
    wait_ok(s.q[0], t);
    expect_result(&s, 0, 10);
    close_shards(&s, 1, 1);

    open_shards(two, 2, 1);
    assert_int_equal(sh_queue_submit(two[0].q[0], two[0].x[0], 0, &none, NULL, &t, &err),
                     SHOAL_ERR_ARG);
    assert_string_equal(err.message, "CPU: the graph's sums want 2 shards, there are 1");
    close_shards(two, 2, 1);
}

/* A wait that runs out leaves the run alive; it goes on when the other shard comes. */
static void sum__timeout_leaves_the_ticket_live(void **state)
{
    struct sh_hub *h = NULL;
    struct shard shards[2];
    struct sh_collective a, b;
    struct shoal_error err = SHOAL_ERROR_INIT;
    sh_ticket t, u;

    (void)state;
    assert_int_equal(sh_hub_create(&h, 2, NULL), SHOAL_OK);
    open_shards(shards, 2, 1);
    a = record(h, 0, 1, 1);
    b = record(h, 1, 1, 1);
    submit_shard(&shards[0], 0, 1, &a, &t);
    assert_int_equal(sh_queue_wait(shards[0].q[0], t, SH_MS, &err), SHOAL_ERR_TIMEOUT);
    assert_int_equal(sh_queue_wait(shards[0].q[0], t, 0, &err), SHOAL_ERR_TIMEOUT);
    submit_shard(&shards[1], 0, 2, &b, &u);
    wait_ok(shards[0].q[0], t);
    wait_ok(shards[1].q[0], u);
    expect_result(&shards[0], 0, 6);
    close_shards(shards, 2, 1);
    sh_hub_destroy(h);
}

/* A cancelled run ends for all shards, and nobody's queue is poisoned. */
static void sum__cancel_reaches_the_other_shard(void **state)
{
    struct sh_hub *h = NULL;
    struct shard shards[2];
    struct sh_collective c[2], next[2];
    struct shoal_error err = SHOAL_ERROR_INIT;
    sh_ticket t, u, v[2];

    (void)state;
    assert_int_equal(sh_hub_create(&h, 2, NULL), SHOAL_OK);
    open_shards(shards, 2, 1);
    for (int i = 0; i < 2; i++) {
        c[i] = record(h, i, 1, 1);
        next[i] = record(h, i, 1, 2);
    }
    submit_shard(&shards[0], 0, 1, &c[0], &t);
    sh_queue_cancel(shards[0].q[0], t);
    assert_int_equal(sh_queue_wait(shards[0].q[0], t, NOT_LONG, &err), SHOAL_ERR_CANCELLED);
    submit_shard(&shards[1], 0, 1, &c[1], &u);
    assert_int_equal(sh_queue_wait(shards[1].q[0], u, NOT_LONG, &err), SHOAL_ERR_CANCELLED);
    for (int i = 0; i < 2; i++)
        submit_shard(&shards[i], 0, 3, &next[i], &v[i]);
    for (int i = 0; i < 2; i++) {
        wait_ok(shards[i].q[0], v[i]);
        expect_result(&shards[i], 0, 12);
    }
    assert_int_equal(sh_queue_wait(shards[0].q[0], t, NOT_LONG, &err), SHOAL_ERR_CANCELLED);
    close_shards(shards, 2, 1);
    sh_hub_destroy(h);
}

/* A poisoned queue tells the other shard for each run that it does not begin. */
static void sum__failure_names_the_shard(void **state)
{
    struct sh_hub *h = NULL;
    struct shard shards[2];
    struct sh_collective c[2];
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct lookup l;
    struct sh_exec *bad;
    const int32_t ids[3] = {0, 0, -1};
    sh_ticket t, u;

    (void)state;
    assert_int_equal(sh_hub_create(&h, 2, NULL), SHOAL_OK);
    open_shards(shards, 2, 1);
    build_lookup(&l);
    bad = prepare(shards[0].d, &l.g, 1);
    for (int i = 0; i < 2; i++)
        c[i] = record(h, i, 1, 1);
    submit_lookup(shards[0].q[0], bad, &l, ids, &t);
    assert_int_equal(sh_queue_submit(shards[0].q[0], shards[0].x[0], 0, &none, &c[0], &t, NULL),
                     SHOAL_OK);
    submit_shard(&shards[1], 0, 1, &c[1], &u);
    assert_int_equal(sh_queue_wait(shards[1].q[0], u, NOT_LONG, &err), SHOAL_ERR_FORMAT);
    assert_string_equal(err.message,
                        "CPU: node 1 (SHARD_SUM ): shard 0: CPU: node 2 (GET_ROWS picked): "
                        "index -1 at 2 is not below 8");
    assert_int_equal(sh_queue_wait(shards[0].q[0], t, NOT_LONG, &err), SHOAL_ERR_FORMAT);
    sh_exec_release(bad);
    sh_graph_release(&l.g);
    close_shards(shards, 2, 1);
    sh_hub_destroy(h);
}

/* Two sessions on the same two shards, submitted in opposite order: each waits for the other. */
static void sum__two_sessions_do_not_deadlock(void **state)
{
    struct sh_hub *h = NULL;
    struct shard shards[2];
    struct sh_collective c[2][2];
    sh_ticket t[2][2];

    (void)state;
    assert_int_equal(sh_hub_create(&h, 2, NULL), SHOAL_OK);
    open_shards(shards, 2, 2);
    for (uint64_t step = 0; step < 100; step++) {
        for (int n = 0; n < 4; n++) {
            const int shard = n / 2, session = n % 2 ^ shard;
            c[shard][session] = record(h, shard, (uint64_t)session, step);
            submit_shard(&shards[shard], session, (float)(session + 1), &c[shard][session],
                         &t[shard][session]);
        }
        for (int n = 0; n < 4; n++) {
            wait_ok(shards[n / 2].q[n % 2], t[n / 2][n % 2]);
            expect_result(&shards[n / 2], n % 2, (float)(4 * (n % 2 + 1)));
        }
    }
    close_shards(shards, 2, 2);
    sh_hub_destroy(h);
}

/* While one queue's sum waits, another queue of the device works. */
static void queue__others_run_while_a_sum_waits(void **state)
{
    struct sh_hub *h = NULL;
    struct shard shards[2];
    struct sh_collective c[2];
    struct sh_queue *q;
    struct lookup l;
    struct sh_exec *x;
    const int32_t ids[3] = {1, 2, 3};
    struct shoal_error err = SHOAL_ERROR_INIT;
    sh_ticket waiting, t, u;

    (void)state;
    assert_int_equal(sh_hub_create(&h, 2, NULL), SHOAL_OK);
    open_shards(shards, 2, 1);
    q = open_queue(shards[0].d);
    build_lookup(&l);
    x = prepare(shards[0].d, &l.g, 1);
    for (int i = 0; i < 2; i++)
        c[i] = record(h, i, 1, 1);
    submit_shard(&shards[0], 0, 1, &c[0], &waiting);
    for (int i = 0; i < 50; i++) {
        submit_lookup(q, x, &l, ids, &t);
        wait_ok(q, t);
    }
    sh_queue_quiesce(q);
    assert_int_equal(sh_queue_wait(shards[0].q[0], waiting, 0, &err), SHOAL_ERR_TIMEOUT);
    submit_shard(&shards[1], 0, 1, &c[1], &u);
    wait_ok(shards[0].q[0], waiting);
    sh_queue_destroy(q);
    sh_exec_release(x);
    sh_graph_release(&l.g);
    close_shards(shards, 2, 1);
    sh_hub_destroy(h);
}

/* Keeps a queue busy until told to stop. */
struct feeder {
    struct sh_queue *q;
    struct sh_buffer *b;
    atomic_bool stop;
    int wrong;
};

static void *feeder_main(void *arg)
{
    struct feeder *f = arg;
    sh_ticket t[64] = {0};

    for (size_t i = 0; !atomic_load(&f->stop); i++) {
        f->wrong += sh_queue_fill(f->q, f->b, 0, 1, 8 << 20, &t[i % 64], NULL) != SHOAL_OK;
        f->wrong += sh_queue_wait(f->q, t[(i + 1) % 64], NOT_LONG, NULL) != SHOAL_OK;
    }
    sh_queue_quiesce(f->q);
    return NULL;
}

/* A queue that always has work does not keep a sum that is ready from going on. */
static void queue__busy_queue_starves_nobody(void **state)
{
    struct sh_hub *h = NULL;
    struct shard shards[2];
    struct sh_collective c[2];
    struct sh_thread thread = SH_THREAD_INIT;
    struct feeder f = {.stop = false};
    sh_ticket t, u;

    (void)state;
    assert_int_equal(sh_hub_create(&h, 2, NULL), SHOAL_OK);
    open_shards(shards, 2, 1);
    f.q = open_queue(shards[0].d);
    f.b = alloc(shards[0].d, 8 << 20);
    assert_int_equal(sh_thread_start(&thread, "feeder", feeder_main, &f, NULL), SHOAL_OK);
    for (uint64_t step = 0; step < 10; step++) {
        for (int i = 0; i < 2; i++)
            c[i] = record(h, i, 1, step);
        submit_shard(&shards[0], 0, 1, &c[0], &t);
        assert_int_equal(sh_queue_wait(shards[0].q[0], t, SH_MS, NULL), SHOAL_ERR_TIMEOUT);
        submit_shard(&shards[1], 0, 1, &c[1], &u);
        wait_ok(shards[0].q[0], t);
        wait_ok(shards[1].q[0], u);
    }
    atomic_store(&f.stop, true);
    sh_thread_join(&thread);
    assert_int_equal(f.wrong, 0);
    sh_queue_destroy(f.q);
    sh_buffer_free(f.b);
    close_shards(shards, 2, 1);
    sh_hub_destroy(h);
}

/* Destroying a queue ends a run that would wait for ever. */
static void queue__destroy_ends_waiting_runs(void **state)
{
    struct sh_hub *h = NULL;
    struct shard shards[2];
    struct sh_collective c[2];
    struct shoal_error err = SHOAL_ERROR_INIT;
    sh_ticket t;

    (void)state;
    assert_int_equal(sh_hub_create(&h, 2, NULL), SHOAL_OK);
    open_shards(shards, 2, 1);
    for (int i = 0; i < 2; i++)
        c[i] = record(h, i, 1, 1);
    submit_shard(&shards[0], 0, 1, &c[0], &t);
    sh_queue_destroy(shards[0].q[0]);
    shards[0].q[0] = NULL;
    submit_shard(&shards[1], 0, 1, &c[1], &t);
    assert_int_equal(sh_queue_wait(shards[1].q[0], t, NOT_LONG, &err), SHOAL_ERR_CANCELLED);
    close_shards(shards, 2, 1);
    sh_hub_destroy(h);
}

/* Two clients, each with its queue and thread. */
struct client {
    struct sh_device *d;
    struct sh_exec *x;
    const struct lookup *l;
    int wrong;
};

static void *client_main(void *arg)
{
    struct client *c = arg;
    struct sh_queue *q = NULL;
    float table[32], out[12];

    for (int i = 0; i < 32; i++)
        table[i] = (float)i;
    c->wrong += sh_queue_create(c->d, &q, NULL) != SHOAL_OK;
    for (int i = 0; i < 200 && !c->wrong; i++) {
        const int32_t ids[3] = {i % 8, (i + 1) % 8, (i + 5) % 8};
        sh_ticket t;
        c->wrong +=
            sh_queue_write_tensor(q, c->x, 0, c->l->table, 0, table, sizeof table, NULL, NULL) ||
            sh_queue_write_tensor(q, c->x, 0, c->l->ids, 0, ids, sizeof ids, NULL, NULL) ||
            sh_queue_submit(q, c->x, 0, &none, NULL, NULL, NULL) ||
            sh_queue_read_tensor(q, c->x, 0, c->l->out, 0, out, sizeof out, &t, NULL) ||
            sh_queue_wait(q, t, NOT_LONG, NULL);
        for (int k = 0; k < 12; k++)
            c->wrong += out[k] != (float)(ids[k / 4] * 4 + k % 4);
    }
    sh_queue_destroy(q);
    return NULL;
}

static void queue__clients_in_threads(void **state)
{
    struct sh_device *d = open_device(2, 0);
    struct client clients[3];
    struct sh_thread threads[3];
    struct lookup l;

    (void)state;
    build_lookup(&l);
    for (int i = 0; i < 3; i++) {
        clients[i] = (struct client){.d = d, .x = prepare(d, &l.g, 1), .l = &l};
        assert_int_equal(sh_thread_start(&threads[i], "client", client_main, &clients[i], NULL),
                         SHOAL_OK);
    }
    for (int i = 0; i < 3; i++) {
        sh_thread_join(&threads[i]);
        assert_int_equal(clients[i].wrong, 0);
        sh_exec_release(clients[i].x);
    }
    sh_graph_release(&l.g);
    sh_device_close(d);
}

/* Every allocation of opening, preparing and running may fail: a status, and nothing leaks. */
static void device__allocation_failures_are_statuses(void **state)
{
    const size_t before = sh_mem_live_bytes();
    struct lookup l;

    (void)state;
    build_lookup(&l);
    for (int n = 0; n < 60; n++) {
        struct sh_device *d = NULL;
        struct sh_queue *q = NULL;
        struct sh_exec *x = NULL;
        enum shoal_status st;
        const struct sh_cpu_options opt = {.n_threads = 2};

        sh_mem_fail_after(n);
        st = sh_cpu_device_open(&d, &opt, NULL);
        if (!st) st = sh_queue_create(d, &q, NULL);
        if (!st) st = sh_exec_prepare(d, &x, &l.g, NULL, 0, 2, NULL);
        if (!st) st = sh_queue_submit(q, x, 0, &none, NULL, NULL, NULL);
        sh_mem_fail_after(-1);
        assert_true(st == SHOAL_OK || st == SHOAL_ERR_NOMEM);
        sh_queue_destroy(q);
        sh_exec_release(x);
        sh_device_close(d);
        if (st == SHOAL_OK) break;
        assert_true(n < 59);
    }
    sh_graph_release(&l.g);
    assert_int_equal(sh_mem_live_bytes(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(device__describes_itself),
        cmocka_unit_test(device__memory_limit_names_need_and_free),
        cmocka_unit_test(device__allocation_failures_are_statuses),
        cmocka_unit_test(queue__bytes_move_in_order),
        cmocka_unit_test(queue__ranges_are_checked_at_once),
        cmocka_unit_test(queue__others_run_while_a_sum_waits),
        cmocka_unit_test(queue__busy_queue_starves_nobody),
        cmocka_unit_test(queue__destroy_ends_waiting_runs),
        cmocka_unit_test(queue__clients_in_threads),
        cmocka_unit_test(run__results_come_back),
        cmocka_unit_test(run__slots_and_extents_are_checked),
        cmocka_unit_test(run__failure_poisons_until_reset),
        cmocka_unit_test(run__unsupported_types_name_the_node),
        cmocka_unit_test(run__scratch_counts_against_the_limit),
        cmocka_unit_test(import__is_read_only),
        cmocka_unit_test(import__shrinking_file_is_an_error),
        cmocka_unit_test(sum__shards_get_the_same),
        cmocka_unit_test(sum__without_partners_is_local),
        cmocka_unit_test(sum__timeout_leaves_the_ticket_live),
        cmocka_unit_test(sum__cancel_reaches_the_other_shard),
        cmocka_unit_test(sum__failure_names_the_shard),
        cmocka_unit_test(sum__two_sessions_do_not_deadlock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
