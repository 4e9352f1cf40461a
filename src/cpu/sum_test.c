/* Sums over shards inside the CPU device: waiting, cancelling, failing, and who runs meanwhile. */
#include "cpu/graphs_test.h"

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
                        "CPU: tensor 1 (SHARD_SUM): shard 0: CPU: tensor 2 (GET_ROWS picked): "
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queue__others_run_while_a_sum_waits),
        cmocka_unit_test(queue__busy_queue_starves_nobody),
        cmocka_unit_test(queue__destroy_ends_waiting_runs),
        cmocka_unit_test(sum__shards_get_the_same),
        cmocka_unit_test(sum__without_partners_is_local),
        cmocka_unit_test(sum__timeout_leaves_the_ticket_live),
        cmocka_unit_test(sum__cancel_reaches_the_other_shard),
        cmocka_unit_test(sum__failure_names_the_shard),
        cmocka_unit_test(sum__two_sessions_do_not_deadlock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
