/* Paced devices (device/paced.h) over this one: order, set times, cancelling, failures.  Times are
 * checked from below only.
 */
#include "cpu/graphs_test.h"
#include "device/paced.h"
#include "device/upload.h"

#define A_WHILE (100 * SH_MS)
#define VERY_LONG (500 * SH_SECOND) // a pause that must be cut short

struct rig {
    struct sh_device *cpu, *paced;
    struct sh_queue *q;
    struct lookup l;
    struct sh_exec *x;
};

static struct sh_device *open_paced(struct sh_device *inner, int64_t run_ns, int64_t row_ns)
{
    const struct sh_paced_options opt = {.run_ns = run_ns, .row_ns = row_ns};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_device *d = NULL;

    assert_int_equal(sh_paced_device_open(&d, inner, &opt, &err), SHOAL_OK);
    return d;
}

static void set_up(struct rig *r, int64_t run_ns)
{
    r->cpu = open_device(1, 0);
    r->paced = open_paced(r->cpu, run_ns, 0);
    r->q = open_queue(r->paced);
    build_lookup(&r->l);
    r->x = prepare(r->paced, &r->l.g, 2);
}

static void tear_down(struct rig *r)
{
    sh_queue_destroy(r->q);
    sh_exec_release(r->x);
    sh_device_close(r->paced);
    sh_device_close(r->cpu);
    sh_graph_release(&r->l.g);
}

static int64_t now(void)
{
    return sh_now_ns(&sh_clock_system);
}

static void run_once(struct rig *r, sh_ticket *t)
{
    const int32_t ids[3] = {5, 0, 7};

    submit_lookup(r->q, r->x, &r->l, ids, t);
}

static void again(struct rig *r, sh_ticket *t)
{
    assert_int_equal(sh_queue_submit(r->q, r->x, 0, &none, NULL, t, NULL), SHOAL_OK);
}

static void paced__same_results_after_the_set_time(void **state)
{
    struct sh_device_info inner, outer;
    float out[12];
    sh_ticket t, u;
    int64_t began;
    struct rig r;

    (void)state;
    set_up(&r, A_WHILE);
    assert_int_equal(sh_device_info(r.cpu, &inner, NULL), SHOAL_OK);
    assert_int_equal(sh_device_info(r.paced, &outer, NULL), SHOAL_OK);
    assert_string_equal(inner.name, outer.name);
    assert_int_equal(sh_exec_bytes(r.x) > 0, 1);
    began = now();
    run_once(&r, &t);
    assert_int_equal(sh_queue_read_tensor(r.q, r.x, 0, r.l.out, 0, out, sizeof out, &u, NULL),
                     SHOAL_OK);
    assert_true(u > t);
    wait_ok(r.q, u); // behind the run, so not before it
    assert_true(now() - began >= A_WHILE);
    assert_int_equal(sh_queue_busy_ns(r.q), A_WHILE);
    for (int i = 0; i < 4; i++) {
        assert_float_equal(out[i], 20 + i, 0);
        assert_float_equal(out[4 + i], i, 0);
        assert_float_equal(out[8 + i], 28 + i, 0);
    }
    began = now();
    again(&r, NULL);
    sh_queue_quiesce(r.q);
    assert_true(now() - began >= A_WHILE);
    tear_down(&r);
}

/* Three runs of two queues: one after the other, whoever waits first. */
static void paced__runs_follow_one_another(void **state)
{
    struct sh_queue *other;
    struct sh_exec *x;
    sh_ticket t, u, v;
    int64_t began;
    struct rig r;

    (void)state;
    set_up(&r, A_WHILE);
    other = open_queue(r.paced);
    x = prepare(r.paced, &r.l.g, 1);
    began = now();
    run_once(&r, &t);
    assert_int_equal(sh_queue_submit(other, x, 0, &none, NULL, &u, NULL), SHOAL_OK);
    again(&r, &v);
    wait_ok(r.q, v);
    assert_true(now() - began >= 3 * A_WHILE);
    wait_ok(other, u);
    wait_ok(r.q, t);
    assert_int_equal(sh_queue_busy_ns(r.q), 2 * A_WHILE);
    assert_int_equal(sh_queue_busy_ns(other), A_WHILE);
    sh_queue_destroy(other);
    sh_exec_release(x);
    tear_down(&r);
}

static void paced__rows_take_time(void **state)
{
    const struct sh_extents most = {.t = 4}, three = {.t = 3};
    const int64_t ne[4] = {8, 4, 1, 1};
    struct sh_device *cpu = open_device(1, 0), *d = open_paced(cpu, 0, A_WHILE);
    struct sh_queue *q = open_queue(d);
    struct sh_graph g;
    struct sh_exec *x;
    int64_t began;
    int32_t in;
    sh_ticket t;

    (void)state;
    sh_graph_init(&g, &most);
    in = sh_leaf_plain(&g, SH_DTYPE_F32, ne, SH_EXTENT_T, 1);
    sh_graph_set_output(&g, sh_op_scale(&g, in, 2.0f, 0.0f));
    assert_int_equal(sh_graph_status(&g, NULL), SHOAL_OK);
    x = prepare(d, &g, 1);
    began = now();
    assert_int_equal(sh_queue_submit(q, x, 0, &three, NULL, &t, NULL), SHOAL_OK);
    wait_ok(q, t);
    assert_true(now() - began >= 3 * A_WHILE);
    assert_int_equal(sh_queue_busy_ns(q), 3 * A_WHILE);
    sh_queue_destroy(q);
    sh_exec_release(x);
    sh_device_close(d);
    sh_device_close(cpu);
    sh_graph_release(&g);
}

/* Each has a time line of its own: while one pauses for long, the other is done, and both are
 * over one inner device. */
static void paced__devices_do_not_wait_for_each_other(void **state)
{
    struct rig slow;
    struct sh_device *quick;
    struct sh_queue *q;
    struct sh_exec *x;
    sh_ticket t, u;

    (void)state;
    set_up(&slow, VERY_LONG);
    quick = open_paced(slow.cpu, SH_MS, 0);
    q = open_queue(quick);
    x = prepare(quick, &slow.l.g, 1);
    run_once(&slow, &t);
    assert_int_equal(sh_queue_submit(q, x, 0, &none, NULL, &u, NULL), SHOAL_OK);
    wait_ok(q, u);
    assert_int_equal(sh_queue_wait(slow.q, t, 0, NULL), SHOAL_ERR_TIMEOUT);
    sh_queue_destroy(q);
    sh_exec_release(x);
    sh_device_close(quick);
    tear_down(&slow); // destroying the queue does not wait for the pause either
}

static void paced__wait_runs_out_and_stays_live(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    sh_ticket t;
    struct rig r;

    (void)state;
    set_up(&r, VERY_LONG);
    run_once(&r, &t);
    assert_int_equal(sh_queue_wait(r.q, t, SH_MS, &err), SHOAL_ERR_TIMEOUT);
    assert_true(err.message[0] != '\0');
    assert_int_equal(sh_queue_wait(r.q, t + 1, SH_MS, &err), SHOAL_ERR_ARG);
    sh_queue_cancel(r.q, t);
    assert_int_equal(sh_queue_wait(r.q, t, NOT_LONG, NULL), SHOAL_ERR_CANCELLED);
    tear_down(&r);
}

/* A cancelled run ends at once, whether it is the first or not; what is behind it moves up and is
 * not poisoned. */
static void paced__cancel_ends_the_pause(void **state)
{
    sh_ticket t, u, v;
    struct rig r;

    (void)state;
    set_up(&r, VERY_LONG);
    run_once(&r, &t);
    again(&r, &u);
    again(&r, &v);
    sh_queue_cancel(r.q, v);
    sh_queue_cancel(r.q, t);
    assert_int_equal(sh_queue_wait(r.q, t, NOT_LONG, NULL), SHOAL_ERR_CANCELLED);
    assert_int_equal(sh_queue_wait(r.q, u, SH_MS, NULL), SHOAL_ERR_TIMEOUT);
    assert_int_equal(sh_queue_wait(r.q, v, SH_MS, NULL), SHOAL_ERR_TIMEOUT); // u is before it
    sh_queue_cancel(r.q, u);
    assert_int_equal(sh_queue_wait(r.q, v, NOT_LONG, NULL), SHOAL_ERR_CANCELLED);
    assert_int_equal(sh_queue_wait(r.q, u, NOT_LONG, NULL), SHOAL_ERR_CANCELLED);
    assert_in_range(sh_queue_busy_ns(r.q), 0, VERY_LONG - 1);
    sh_queue_cancel(r.q, u); // too late
    tear_down(&r);
}

struct canceller {
    struct sh_queue *q;
    sh_ticket t;
};

static void *cancel_it(void *arg)
{
    const struct canceller *c = arg;

    sh_queue_cancel(c->q, c->t);
    return NULL;
}

/* From another thread, while the queue's own one waits. */
static void paced__cancel_wakes_the_waiting(void **state)
{
    struct sh_thread thread = SH_THREAD_INIT;
    struct canceller c;
    struct rig r;

    (void)state;
    set_up(&r, VERY_LONG);
    run_once(&r, &c.t);
    c.q = r.q;
    assert_int_equal(sh_thread_start(&thread, "cancels", cancel_it, &c, NULL), SHOAL_OK);
    assert_int_equal(sh_queue_wait(r.q, c.t, SH_NO_DEADLINE, NULL), SHOAL_ERR_CANCELLED);
    sh_thread_join(&thread);
    tear_down(&r);
}

/* A failing run and those behind it take no time; the good one before them takes its own. */
static void paced__failures_pass_through(void **state)
{
    const int32_t wrong[3] = {5, 9, 7};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_queue *good;
    sh_ticket t, u, v;
    int64_t began;
    struct rig r;

    (void)state;
    set_up(&r, VERY_LONG);
    submit_lookup(r.q, r.x, &r.l, wrong, &t);
    again(&r, &u);
    assert_int_equal(sh_queue_wait(r.q, t, NOT_LONG, &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, "9"));
    assert_int_equal(sh_queue_wait(r.q, u, NOT_LONG, &err), SHOAL_ERR_FORMAT);
    again(&r, &v);
    sh_queue_reset(r.q);
    again(&r, &v);
    sh_queue_quiesce(r.q); // the queue has failed again, so there is no pause
    assert_int_equal(sh_queue_wait(r.q, v, NOT_LONG, &err), SHOAL_ERR_FORMAT);
    sh_queue_reset(r.q);
    tear_down(&r);

    set_up(&r, A_WHILE);
    good = open_queue(r.paced);
    began = now();
    assert_int_equal(sh_queue_submit(good, r.x, 1, &none, NULL, &u, NULL), SHOAL_OK);
    submit_lookup(r.q, r.x, &r.l, wrong, &t);
    assert_int_equal(sh_queue_wait(r.q, t, NOT_LONG, &err), SHOAL_ERR_FORMAT);
    wait_ok(good, u);
    assert_true(now() - began >= A_WHILE);
    sh_queue_destroy(good);
    tear_down(&r);
}

/* Buffers: writing, filling, copying, uploading, importing, reading. */
static void paced__bytes_pass_through(void **state)
{
    static const uint8_t bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct sh_upload_item item = {.src = bytes, .bytes = 8, .offset = 8};
    const struct sh_upload up = {.items = &item, .n_items = 1};
    struct sh_buffer *a, *b, *imported = NULL;
    uint8_t out[16];
    struct rig r;
    sh_ticket t;

    (void)state;
    set_up(&r, SH_MS);
    a = alloc(r.paced, 16);
    b = alloc(r.paced, 16);
    item.buffer = a;
    assert_int_equal(sh_queue_write(r.q, a, 0, bytes, 8, NULL, NULL), SHOAL_OK);
    assert_int_equal(sh_queue_upload(r.q, &up, NULL), SHOAL_OK);
    assert_int_equal(sh_queue_copy(r.q, b, 0, a, 0, 16, NULL, NULL), SHOAL_OK);
    assert_int_equal(sh_queue_fill(r.q, b, 0, 9, 1, NULL, NULL), SHOAL_OK);
    assert_int_equal(sh_buffer_import(r.paced, &imported, bytes, 8, NULL, NULL), SHOAL_OK);
    assert_int_equal(sh_queue_copy(r.q, b, 4, imported, 7, 1, NULL, NULL), SHOAL_OK);
    assert_int_equal(sh_queue_read(r.q, b, 0, out, 16, &t, NULL), SHOAL_OK);
    wait_ok(r.q, t);
    assert_memory_equal(out, ((uint8_t[]){9, 2, 3, 4, 8, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8}), 16);
    assert_int_equal(sh_queue_write(r.q, imported, 0, bytes, 1, NULL, NULL), SHOAL_ERR_ARG);
    sh_buffer_free(imported);
    sh_buffer_free(a);
    sh_buffer_free(b);
    tear_down(&r);
}

static void paced__refuses_times_out_of_range(void **state)
{
    const struct sh_paced_options bad[] = {{.run_ns = -1},
                                           {.row_ns = -1},
                                           {.run_ns = SH_PACED_RUN_NS_MAX + 1},
                                           {.row_ns = SH_PACED_ROW_NS_MAX + 1}};
    struct sh_device *cpu = open_device(1, 0), *d;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(sh_paced_device_open(&d, cpu, &bad[i], NULL), SHOAL_ERR_ARG);
        assert_null(d);
    }
    sh_device_close(cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paced__same_results_after_the_set_time),
        cmocka_unit_test(paced__runs_follow_one_another),
        cmocka_unit_test(paced__rows_take_time),
        cmocka_unit_test(paced__devices_do_not_wait_for_each_other),
        cmocka_unit_test(paced__wait_runs_out_and_stays_live),
        cmocka_unit_test(paced__cancel_ends_the_pause),
        cmocka_unit_test(paced__cancel_wakes_the_waiting),
        cmocka_unit_test(paced__failures_pass_through),
        cmocka_unit_test(paced__bytes_pass_through),
        cmocka_unit_test(paced__refuses_times_out_of_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
