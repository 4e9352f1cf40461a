/* tests/sim/sched_test.c - the scheduler itself: its clock, its order, and what it reports.
 * test-options: timeout=60
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/thread.h"
#include "sim/sched.h"

static void begin(uint64_t seed)
{
    const struct sim_options o = {.seed = seed, .repeat = "(this test)"};

    sim_begin(&o);
}

/* ---- the clock ------------------------------------------------------------------------------ */

static void sched__ten_minutes_pass_at_once(void **state)
{
    struct sh_mutex lock;
    struct sh_cond never;
    int64_t before;

    (void)state;
    begin(1);
    sh_mutex_init(&lock);
    sh_cond_init(&never);
    before = sh_now_ns(&sh_clock_system);
    sh_mutex_lock(&lock);
    while (sh_cond_wait(&never, &lock, 600 * SH_SECOND)) { // now and then it wakes for no reason
    }
    sh_mutex_unlock(&lock);
    assert_in_range(sh_now_ns(&sh_clock_system) - before, 600 * SH_SECOND, 601 * SH_SECOND);
    sh_cond_release(&never);
    sh_mutex_release(&lock);
    (void)sim_end();
}

/* ---- the order ------------------------------------------------------------------------------ */

enum { THREADS = 4, ROUNDS = 8 };

struct race {
    struct sh_mutex lock;
    char order[THREADS * ROUNDS + 1];
    int n;
};

struct runner {
    struct race *race;
    char name;
};

static void *run(void *arg)
{
    const struct runner *me = arg;

    for (int i = 0; i < ROUNDS; i++) {
        sh_mutex_lock(&me->race->lock);
        me->race->order[me->race->n++] = me->name;
        sh_mutex_unlock(&me->race->lock);
        (void)sh_now_ns(&sh_clock_system);
    }
    return NULL;
}

static uint64_t race(uint64_t seed, struct race *r)
{
    struct runner runner[THREADS];
    struct sh_thread thread[THREADS];

    memset(r, 0, sizeof *r);
    begin(seed);
    sh_mutex_init(&r->lock);
    for (int i = 0; i < THREADS; i++) {
        runner[i] = (struct runner){.race = r, .name = (char)('a' + i)};
        assert_int_equal(sh_thread_start(&thread[i], "runner", run, &runner[i], NULL), SHOAL_OK);
    }
    for (int i = 0; i < THREADS; i++)
        sh_thread_join(&thread[i]);
    sh_mutex_release(&r->lock);
    return sim_end();
}

static void sched__a_seed_decides_the_order(void **state)
{
    struct race first, again;
    int n_others = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        const uint64_t hash = race(seed, &first);
        assert_int_equal(race(seed, &again), hash);
        assert_string_equal(first.order, again.order);
        (void)race(seed + 1000, &again);
        n_others += strcmp(first.order, again.order) != 0;
    }
    assert_in_range(n_others, 10, 20);
}

/* ---- what it reports ------------------------------------------------------------------------ */

/* What a child that does this says on stderr; it must end with code 1. */
static void report_of(void (*wrong)(void), char *out, size_t cap)
{
    int fd[2], status;
    size_t n = 0;
    ssize_t got;
    pid_t pid;

    assert_int_equal(pipe(fd), 0);
    fflush(stdout);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)dup2(fd[1], STDERR_FILENO);
        begin(7);
        wrong();
        _exit(0);
    }
    close(fd[1]);
    while (n + 1 < cap && (got = read(fd[0], out + n, cap - 1 - n)) > 0)
        n += (size_t)got;
    out[n] = '\0';
    close(fd[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
    assert_non_null(strstr(out, "again, with its trace: (this test)"));
}

struct two {
    struct sh_mutex a, b;
};

static void *take_b_then_a(void *arg)
{
    struct two *t = arg;

    sh_mutex_lock(&t->b);
    sim_sleep(SH_MS);
    sh_mutex_lock(&t->a);
    return NULL;
}

static void deadlock(void)
{
    struct sh_thread other;
    struct two t;

    sh_mutex_init(&t.a);
    sh_mutex_init(&t.b);
    sh_mutex_lock(&t.a);
    if (sh_thread_start(&other, "other", take_b_then_a, &t, NULL)) return;
    sim_sleep(SH_MS);
    sh_mutex_lock(&t.b);
}

static void lost_wake_up(void)
{
    struct sh_mutex lock;
    struct sh_cond never;

    sh_mutex_init(&lock);
    sh_cond_init(&never);
    sh_mutex_lock(&lock);
    for (;;)
        (void)sh_cond_wait(&never, &lock, INT64_MAX);
}

static void *nothing(void *arg)
{
    return arg;
}

static void forgotten_thread(void)
{
    struct sh_thread other;

    if (sh_thread_start(&other, "other", nothing, NULL, NULL)) return;
    sim_sleep(SH_MS);
    (void)sim_end();
}

static void foreign_unlock(void)
{
    struct sh_mutex lock;

    sh_mutex_init(&lock);
    sh_mutex_unlock(&lock);
}

static void sched__reports_what_can_never_end(void **state)
{
    char out[4096];

    (void)state;
    report_of(deadlock, out, sizeof out);
    assert_non_null(strstr(out, "nobody can ever go on"));
    assert_non_null(strstr(out, "\"director\" of process 0: waits for a lock"));
    assert_non_null(strstr(out, "\"other\" of process 0: waits for a lock"));
    report_of(lost_wake_up, out, sizeof out);
    assert_non_null(strstr(out, "waits for a condition"));
    report_of(forgotten_thread, out, sizeof out);
    assert_non_null(strstr(out, "1 threads are left"));
    report_of(foreign_unlock, out, sizeof out);
    assert_non_null(strstr(out, "nobody holds"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sched__ten_minutes_pass_at_once),
        cmocka_unit_test(sched__a_seed_decides_the_order),
        cmocka_unit_test(sched__reports_what_can_never_end),
    };

    return cmocka_run_group_tests_name("sched", tests, NULL, NULL);
}
