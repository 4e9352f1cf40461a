/* The CPU device: moving bytes, tickets, failures, memory, imports. */
#include "cpu/graphs_test.h"

#include <stdlib.h>
#include <unistd.h>

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
    assert_string_equal(err.message,
                        "CPU: tensor 2 (GET_ROWS picked): index 8 at 1 is not below 8");
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
    assert_string_equal(
        err.message, "CPU: tensor 2 (MUL_MAT blk.0.up): no product with weights of type iq2_xxs");
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

/* A long run lets another queue in, and stops when it is told to. */
static void run__gives_way_and_stops(void **state)
{
    const int64_t ne[4] = {1 << 19, 1, 1, 1};
    struct sh_device *d = open_device(2, 0);
    struct sh_queue *slow = open_queue(d), *quick = open_queue(d);
    struct sh_graph g;
    struct lookup l;
    struct sh_exec *x, *y;
    const int32_t ids[3] = {1, 2, 3};
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t t;
    sh_ticket long_run, short_run;

    (void)state;
    sh_graph_init(&g, &none);
    t = sh_leaf_plain(&g, SH_DTYPE_F32, ne, SH_EXTENT_NONE, 0);
    for (int i = 0; i < 16000; i++) // seconds
        t = sh_op_scale(&g, t, 1, 1);
    x = prepare(d, &g, 1);
    build_lookup(&l);
    y = prepare(d, &l.g, 1);
    assert_int_equal(sh_queue_submit(slow, x, 0, &none, NULL, &long_run, NULL), SHOAL_OK);
    submit_lookup(quick, y, &l, ids, &short_run);
    wait_ok(quick, short_run);
    assert_int_equal(sh_queue_wait(slow, long_run, 0, &err), SHOAL_ERR_TIMEOUT);
    sh_queue_cancel(slow, long_run);
    assert_int_equal(sh_queue_wait(slow, long_run, NOT_LONG, &err), SHOAL_ERR_CANCELLED);
    assert_int_equal(sh_queue_submit(slow, x, 0, &none, NULL, &long_run, NULL), SHOAL_OK);
    sh_queue_cancel(slow, long_run); // at any moment
    assert_int_equal(sh_queue_wait(slow, long_run, NOT_LONG, &err), SHOAL_ERR_CANCELLED);
    submit_lookup(slow, y, &l, ids, &short_run); // not poisoned
    wait_ok(slow, short_run);
    sh_queue_destroy(slow);
    sh_queue_destroy(quick);
    sh_exec_release(x);
    sh_exec_release(y);
    sh_graph_release(&g);
    sh_graph_release(&l.g);
    sh_device_close(d);
}

/* The time of runs, and of a queue's own alone. */
static void run__time_is_counted(void **state)
{
    const int64_t ne[4] = {1 << 16, 1, 1, 1};
    const int64_t began_ns = sh_now_ns(&sh_clock_system);
    struct sh_device *d = open_device(1, 0);
    struct sh_queue *q = open_queue(d), *idle = open_queue(d);
    struct sh_graph g;
    struct sh_exec *x;
    int64_t before;
    sh_ticket ticket;
    int32_t t;

    (void)state;
    sh_graph_init(&g, &none);
    t = sh_leaf_plain(&g, SH_DTYPE_F32, ne, SH_EXTENT_NONE, 0);
    for (int i = 0; i < 50; i++)
        t = sh_op_scale(&g, t, 1, 1);
    x = prepare(d, &g, 1);
    assert_int_equal(sh_queue_busy_ns(q), 0);
    assert_int_equal(sh_queue_submit(q, x, 0, &none, NULL, &ticket, NULL), SHOAL_OK);
    wait_ok(q, ticket);
    before = sh_queue_busy_ns(q);
    assert_true(before > 0);
    assert_int_equal(sh_queue_submit(q, x, 0, &none, NULL, &ticket, NULL), SHOAL_OK);
    wait_ok(q, ticket);
    assert_true(sh_queue_busy_ns(q) > before);
    assert_true(sh_queue_busy_ns(q) <= sh_now_ns(&sh_clock_system) - began_ns);
    assert_int_equal(sh_queue_busy_ns(idle), 0);
    sh_queue_destroy(q);
    sh_queue_destroy(idle);
    sh_exec_release(x);
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
        cmocka_unit_test(queue__clients_in_threads),
        cmocka_unit_test(run__results_come_back),
        cmocka_unit_test(run__slots_and_extents_are_checked),
        cmocka_unit_test(run__failure_poisons_until_reset),
        cmocka_unit_test(run__unsupported_types_name_the_node),
        cmocka_unit_test(run__scratch_counts_against_the_limit),
        cmocka_unit_test(run__gives_way_and_stops),
        cmocka_unit_test(run__time_is_counted),
        cmocka_unit_test(import__is_read_only),
        cmocka_unit_test(import__shrinking_file_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
