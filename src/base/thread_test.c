/* Threads, conditions, signals, and what the machine offers. */
#include "base/thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"

struct box {
    struct sh_mutex lock; // guards value and turns
    struct sh_cond changed;
    int value;
    int turns;
};

static void *pong(void *arg)
{
    struct box *b = arg;

    sh_mutex_lock(&b->lock);
    while (b->turns > 0) {
        while (b->value == 0)
            (void)sh_cond_wait(&b->changed, &b->lock, INT64_MAX);
        b->value = 0;
        b->turns--;
        sh_cond_broadcast(&b->changed);
    }
    sh_mutex_unlock(&b->lock);
    return NULL;
}

static void thread__two_threads_take_turns(void **state)
{
    struct box b = {.turns = 1000};
    struct sh_thread t = SH_THREAD_INIT;

    (void)state;
    sh_mutex_init(&b.lock);
    sh_cond_init(&b.changed);
    assert_int_equal(sh_thread_start(&t, "a name longer than 15", pong, &b, NULL), SHOAL_OK);
    sh_mutex_lock(&b.lock);
    for (int i = 0; i < 1000; i++) {
        b.value = 1;
        sh_cond_signal(&b.changed);
        while (b.value == 1)
            (void)sh_cond_wait(&b.changed, &b.lock, 10 * SH_SECOND);
    }
    assert_int_equal(b.turns, 0);
    sh_mutex_unlock(&b.lock);
    sh_thread_join(&t);
    assert_false(t.running);
    sh_thread_join(&t);
    sh_cond_release(&b.changed);
    sh_mutex_release(&b.lock);
}

static void thread__wait_runs_out(void **state)
{
    struct box b = {0};
    int64_t before;

    (void)state;
    sh_mutex_init(&b.lock);
    sh_cond_init(&b.changed);
    sh_mutex_lock(&b.lock);
    before = sh_now_ns(&sh_clock_system);
    while (sh_cond_wait(&b.changed, &b.lock, 20 * SH_MS)) {
    }
    assert_true(sh_now_ns(&sh_clock_system) - before >= 19 * SH_MS);
    assert_false(sh_cond_wait(&b.changed, &b.lock, 0));
    assert_false(sh_cond_wait(&b.changed, &b.lock, -5));
    sh_mutex_unlock(&b.lock);
    sh_cond_release(&b.changed);
    sh_mutex_release(&b.lock);
}

static void *get_mask(void *arg)
{
    (void)pthread_sigmask(SIG_SETMASK, NULL, arg);
    return NULL;
}

static void thread__signals_stay_with_the_main_thread(void **state)
{
    struct sh_thread t = SH_THREAD_INIT;
    sigset_t inside, here;

    (void)state;
    assert_int_equal(sh_thread_start(&t, "mask", get_mask, &inside, NULL), SHOAL_OK);
    sh_thread_join(&t);
    assert_int_equal(sigismember(&inside, SIGINT), 1);
    assert_int_equal(sigismember(&inside, SIGTERM), 1);
    assert_int_equal(sigismember(&inside, SIGBUS), 0);
    assert_int_equal(sigismember(&inside, SIGSEGV), 0);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &here), 0);
    assert_int_equal(sigismember(&here, SIGINT), 0);
}

static void thread__machine_figures_are_plausible(void **state)
{
    const int cpus = sh_cpu_count();
    const size_t total = sh_memory_total(), available = sh_memory_available();

    (void)state;
    assert_true(cpus >= 1);
    assert_true(cpus <= sysconf(_SC_NPROCESSORS_CONF));
    assert_true(total > ((size_t)16 << 20));
    assert_true(available > ((size_t)1 << 20));
    assert_true(available <= total);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thread__two_threads_take_turns),
        cmocka_unit_test(thread__wait_runs_out),
        cmocka_unit_test(thread__signals_stay_with_the_main_thread),
        cmocka_unit_test(thread__machine_figures_are_plausible),
    };
    return cmocka_run_group_tests_name("thread", tests, NULL, NULL);
}
