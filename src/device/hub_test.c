/* The hub: vectors reach the other shards, in any order of arrival; a failure reaches everybody. */
#include "device/collective.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"

static struct sh_hub *hub_of_shards(int n)
{
    struct sh_hub *h = NULL;
    struct shoal_error err = SHOAL_ERROR_INIT;

    assert_int_equal(sh_hub_create(&h, n, &err), SHOAL_OK);
    return h;
}

static struct sh_collective record(const struct sh_hub *h, int rank, uint64_t session,
                                   uint64_t step)
{
    struct sh_collective c = *sh_hub_shard(h, rank);

    c.session = session;
    c.step = step;
    return c;
}

static enum shoal_status start_one(struct sh_collective *c, int sum, const float *v, int64_t n,
                                   struct shoal_error *err)
{
    const struct sh_sum_part part = {.data = v, .n_elem = n, .n_vec = 1, .n_rows = 1};

    return c->ops->start(c, sum, 1, &part, err);
}

static bool poll_ok(struct sh_collective *c, int sum)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    bool done = false;

    assert_int_equal(c->ops->poll(c, sum, &done, &err), SHOAL_OK);
    return done;
}

static void hub__vectors_reach_everybody(void **state)
{
    struct sh_hub *h = hub_of_shards(3);
    struct shoal_error err = SHOAL_ERROR_INIT;
    float v[3][4] = {{1, 2, 3, 4}, {10, 20, 30, 40}, {100, 200, 300, 400}};
    struct sh_collective c[3];

    (void)state;
    for (int round = 0; round < 5; round++) { // later rounds reuse the memory of the first
        for (int s = 0; s < 3; s++) {
            c[s] = record(h, s, 7, (uint64_t)round);
            v[s][0] = (float)(round + s);
        }
        assert_int_equal(start_one(&c[2], 0, v[2], 4, &err), SHOAL_OK);
        assert_false(poll_ok(&c[2], 0));
        assert_int_equal(start_one(&c[0], 0, v[0], 4, &err), SHOAL_OK);
        assert_false(poll_ok(&c[0], 0));
        assert_int_equal(start_one(&c[1], 0, v[1], 4, &err), SHOAL_OK);
        for (int s = 0; s < 3; s++) {
            assert_true(poll_ok(&c[s], 0));
            for (int other = 0; other < 3; other++) {
                const float *p = c[s].ops->peer(&c[s], 0, 0, other);
                assert_non_null(p);
                assert_ptr_not_equal(p, v[other]);
                assert_memory_equal(p, v[other], sizeof v[other]);
            }
            c[s].ops->finish(&c[s], 0); // the next shard still reads this one's vectors
        }
    }
    sh_hub_destroy(h);
}

static void hub__sums_and_steps_do_not_mix(void **state)
{
    struct sh_hub *h = hub_of_shards(2);
    struct shoal_error err = SHOAL_ERROR_INIT;
    const float one = 1, two = 2, three = 3;
    struct sh_collective a = record(h, 0, 1, 5), b = record(h, 1, 1, 5);
    struct sh_collective a_next = record(h, 0, 1, 6), b_other = record(h, 1, 2, 5);

    (void)state;
    assert_int_equal(start_one(&a, 0, &one, 1, &err), SHOAL_OK);
    assert_int_equal(start_one(&a_next, 0, &two, 1, &err), SHOAL_OK);
    assert_int_equal(start_one(&b_other, 0, &three, 1, &err), SHOAL_OK);
    assert_int_equal(start_one(&b, 1, &three, 1, &err), SHOAL_OK);
    assert_false(poll_ok(&a, 0));
    assert_false(poll_ok(&a_next, 0));
    assert_int_equal(start_one(&b, 0, &three, 1, &err), SHOAL_OK);
    assert_true(poll_ok(&a, 0));
    assert_false(poll_ok(&a_next, 0));
    assert_int_equal(start_one(&a, 0, &one, 1, &err), SHOAL_ERR_STATE);
    sh_hub_destroy(h);
}

static void hub__failure_reaches_the_waiting_and_the_late(void **state)
{
    struct sh_hub *h = hub_of_shards(3);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_collective c[3];
    const float one = 1;
    bool done;

    (void)state;
    for (int s = 0; s < 3; s++)
        c[s] = record(h, s, 1, 1);
    assert_int_equal(start_one(&c[0], 0, &one, 1, &err), SHOAL_OK);
    c[1].ops->abandon(&c[1], SHOAL_ERR_CANCELLED, "step 1 was cancelled");
    assert_int_equal(c[0].ops->poll(&c[0], 0, &done, &err), SHOAL_ERR_CANCELLED);
    assert_string_equal(err.message, "shard 1: step 1 was cancelled");
    err = (struct shoal_error)SHOAL_ERROR_INIT;
    assert_int_equal(start_one(&c[2], 0, &one, 1, &err), SHOAL_ERR_CANCELLED);
    assert_string_equal(err.message, "shard 1: step 1 was cancelled");
    for (int s = 0; s < 3; s++) { // the next step is not concerned
        struct sh_collective next = record(h, s, 1, 2);
        assert_int_equal(start_one(&next, 0, &one, 1, &err), SHOAL_OK);
        assert_int_equal(poll_ok(&next, 0), s == 2);
    }
    sh_hub_destroy(h);
}

static void hub__unlike_sums_are_refused(void **state)
{
    struct sh_hub *h = hub_of_shards(2);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_collective a = record(h, 0, 1, 1), b = record(h, 1, 1, 1);
    const float v[2] = {1, 2};

    (void)state;
    assert_int_equal(start_one(&a, 3, v, 2, &err), SHOAL_OK);
    assert_int_equal(start_one(&b, 3, v, 1, &err), SHOAL_ERR_FORMAT);
    assert_string_equal(err.message, "sum 3 has other sizes on shards 1 and 0");
    sh_hub_destroy(h);
}

struct sleeper {
    struct sh_collective c;
    enum shoal_status st;
};

static void *sleep_until_done(void *arg)
{
    struct sleeper *s = arg;
    bool done = false;

    while (!s->st && !done) {
        s->st = s->c.ops->poll(&s->c, 0, &done, NULL);
        if (!s->st && !done) s->c.ops->sleep(&s->c, 60 * SH_SECOND);
    }
    return NULL;
}

/* Sleeping shards are woken by the last vector and by a failure. */
static void hub__sleepers_are_woken(void **state)
{
    struct sh_hub *h = hub_of_shards(2);
    struct shoal_error err = SHOAL_ERROR_INIT;
    const float one = 1;

    (void)state;
    for (uint64_t step = 0; step < 50; step++) {
        struct sh_collective other = record(h, 1, 1, step);
        struct sleeper s = {.c = record(h, 0, 1, step)};
        struct sh_thread t = SH_THREAD_INIT;

        assert_int_equal(start_one(&s.c, 0, &one, 1, &err), SHOAL_OK);
        assert_int_equal(sh_thread_start(&t, "sleeper", sleep_until_done, &s, &err), SHOAL_OK);
        if (step % 2) {
            other.ops->abandon(&other, SHOAL_ERR_IO, "gone");
        } else {
            assert_int_equal(start_one(&other, 0, &one, 1, &err), SHOAL_OK);
        }
        sh_thread_join(&t);
        assert_int_equal(s.st, step % 2 ? SHOAL_ERR_IO : SHOAL_OK);
    }
    sh_hub_destroy(h);
}

static void hub__refuses_silly_sizes(void **state)
{
    struct sh_hub *h = NULL;
    struct shoal_error err = SHOAL_ERROR_INIT;

    (void)state;
    assert_int_equal(sh_hub_create(&h, 9, &err), SHOAL_ERR_ARG);
    assert_null(h);
    assert_string_equal(err.message, "a stage of 9 shards is not possible (1 to 8)");
    sh_hub_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hub__vectors_reach_everybody),
        cmocka_unit_test(hub__sums_and_steps_do_not_mix),
        cmocka_unit_test(hub__failure_reaches_the_waiting_and_the_late),
        cmocka_unit_test(hub__unlike_sums_are_refused),
        cmocka_unit_test(hub__sleepers_are_woken),
        cmocka_unit_test(hub__refuses_silly_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
