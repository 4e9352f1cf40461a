/* The thread pool: every item exactly once, nobody waits for more than a chunk, stopping. */
#include "cpu/pool.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"

#define ITEMS_MAX 1000

struct count {
    atomic_int seen[ITEMS_MAX];
    atomic_int_least64_t sum;
    atomic_int wrong; // chunks with a wrong size or thread
    int64_t n, chunk;
    int n_threads;
};

static struct sh_pool *pool_of(int n_threads)
{
    struct sh_pool *p = NULL;
    struct shoal_error err = SHOAL_ERROR_INIT;

    assert_int_equal(sh_pool_create(&p, n_threads, &err), SHOAL_OK);
    assert_int_equal(sh_pool_threads(p), n_threads);
    return p;
}

static void count_items(void *arg, int64_t begin, int64_t end, int thread)
{
    struct count *c = arg;

    if (thread < 0 || thread >= c->n_threads || begin % c->chunk != 0 || end > c->n ||
        (end - begin != c->chunk && end != c->n)) {
        atomic_fetch_add(&c->wrong, 1);
    }
    for (int64_t i = begin; i < end; i++) {
        atomic_fetch_add(&c->seen[i], 1);
        atomic_fetch_add(&c->sum, i);
    }
}

static void pool__every_item_once(void **state)
{
    static const int64_t sizes[] = {0, 1, 2, 7, 64, ITEMS_MAX};
    static const int64_t chunks[] = {1, 3, 64, 5000};

    (void)state;
    for (int n_threads = 1; n_threads <= 5; n_threads += 2) {
        struct sh_pool *p = pool_of(n_threads);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            for (size_t k = 0; k < sizeof chunks / sizeof *chunks; k++) {
                struct count *c = sh_calloc(1, sizeof *c);
                assert_non_null(c);
                c->n = sizes[s];
                c->chunk = chunks[k];
                c->n_threads = n_threads;
                sh_pool_for(p, sizes[s], chunks[k], count_items, c);
                for (int64_t i = 0; i < ITEMS_MAX; i++)
                    assert_int_equal(atomic_load(&c->seen[i]), i < sizes[s] ? 1 : 0);
                assert_int_equal(atomic_load(&c->wrong), 0);
                sh_free(c);
            }
        }
        sh_pool_destroy(p);
    }
}

static void add_up(void *arg, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        atomic_fetch_add((atomic_int_least64_t *)arg, i);
}

/* Many short loops, with and without time for the workers to fall asleep in between. */
static void pool__many_loops(void **state)
{
    struct sh_pool *p = pool_of(4);

    (void)state;
    for (int round = 0; round < 3000; round++) {
        atomic_int_least64_t sum = 0;
        const int64_t n = 1 + round % 100;
        sh_pool_for(p, n, 1 + round % 7, add_up, &sum);
        assert_int_equal(atomic_load(&sum), n * (n - 1) / 2);
        if (round % 100 == 0) {
            const int64_t until = sh_now_ns(&sh_clock_system) + SH_MS;
            while (sh_now_ns(&sh_clock_system) < until)
                (void)sched_yield();
        }
    }
    sh_pool_destroy(p);
}

struct hold {
    atomic_int others; // items done besides item 1
    atomic_int released;
    int n;
};

/* Item 0 is long: whoever did it knows that the loop is worth a worker's waking.  Item 1 waits
 * for all others. */
static void hold_second(void *arg, int64_t begin, int64_t end, int thread)
{
    struct hold *h = arg;
    const int64_t now = sh_now_ns(&sh_clock_system);
    const int64_t until = now + (begin == 0 ? SH_MS : 20 * SH_SECOND);

    (void)thread;
    assert_int_equal(end - begin, 1);
    while (begin == 0 && sh_now_ns(&sh_clock_system) < until)
        (void)sched_yield();
    if (begin != 1) {
        atomic_fetch_add(&h->others, 1);
        return;
    }
    while (atomic_load(&h->others) < h->n - 1 && sh_now_ns(&sh_clock_system) < until)
        (void)sched_yield();
    atomic_store(&h->released, atomic_load(&h->others));
}

/* While one chunk is held up, the other thread does all the rest: also where it slept because
 * earlier wake-ups had been no use, for a long loop wakes it again. */
static void pool__held_chunk_delays_nobody(void **state)
{
    struct sh_pool *p = pool_of(2);

    (void)state;
    for (int round = 0; round < 20; round++) {
        struct hold h = {.n = 50};
        sh_pool_for(p, h.n, 1, hold_second, &h);
        assert_int_equal(atomic_load(&h.released), h.n - 1);
        assert_int_equal(atomic_load(&h.others), h.n - 1);
    }
    sh_pool_destroy(p);
}

struct stopping {
    atomic_bool stop;
    atomic_int done;
};

static void stop_at_once(void *arg, int64_t begin, int64_t end, int thread)
{
    struct stopping *s = arg;

    (void)begin;
    (void)end;
    (void)thread;
    atomic_fetch_add(&s->done, 1);
    atomic_store(&s->stop, true);
}

static void pool__stop_takes_no_more_chunks(void **state)
{
    (void)state;
    for (int n_threads = 1; n_threads <= 3; n_threads += 2) {
        struct sh_pool *p = pool_of(n_threads);
        struct stopping s = {.stop = false};
        atomic_int_least64_t sum = 0;

        sh_pool_set_stop(p, &s.stop);
        sh_pool_for(p, 1000, 1, stop_at_once, &s);
        assert_in_range(atomic_load(&s.done), 1, n_threads);
        sh_pool_for(p, 1000, 1, stop_at_once, &s);
        assert_in_range(atomic_load(&s.done), 1, n_threads);
        sh_pool_set_stop(p, NULL);
        sh_pool_for(p, 10, 1, add_up, &sum);
        assert_int_equal(atomic_load(&sum), 45);
        sh_pool_destroy(p);
    }
}

static void pool__refuses_silly_sizes(void **state)
{
    struct sh_pool *p = NULL;
    struct shoal_error err = SHOAL_ERROR_INIT;

    (void)state;
    assert_int_equal(sh_pool_create(&p, 0, &err), SHOAL_ERR_ARG);
    assert_null(p);
    assert_int_equal(sh_pool_create(&p, 100000, &err), SHOAL_ERR_ARG);
    assert_string_equal(err.message, "a pool of 100000 threads is not possible (1 to 256)");
    sh_pool_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool__every_item_once),
        cmocka_unit_test(pool__many_loops),
        cmocka_unit_test(pool__held_chunk_delays_nobody),
        cmocka_unit_test(pool__stop_takes_no_more_chunks),
        cmocka_unit_test(pool__refuses_silly_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
