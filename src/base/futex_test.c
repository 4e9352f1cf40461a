/* Sleeping on a word: nobody sleeps through a change, nobody sleeps on an old value. */
#include "base/futex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "base/thread.h"

#define ROUNDS 5000

struct game {
    atomic_uint ball; // even: ours, odd: theirs
};

static void wait_for_parity(struct game *g, unsigned parity)
{
    for (;;) {
        const unsigned seen = atomic_load(&g->ball);
        if (seen % 2 == parity) return;
        sh_futex_wait(&g->ball, seen);
    }
}

static void *player(void *arg)
{
    struct game *g = arg;

    for (int i = 0; i < ROUNDS; i++) {
        wait_for_parity(g, 1);
        atomic_fetch_add(&g->ball, 1);
        sh_futex_wake(&g->ball, 1);
    }
    return NULL;
}

static void futex__two_threads_take_turns(void **state)
{
    struct game g = {.ball = 0};
    struct sh_thread t = SH_THREAD_INIT;

    (void)state;
    assert_int_equal(sh_thread_start(&t, "player", player, &g, NULL), SHOAL_OK);
    for (int i = 0; i < ROUNDS; i++) {
        wait_for_parity(&g, 0);
        atomic_fetch_add(&g.ball, 1);
        sh_futex_wake(&g.ball, 1);
    }
    sh_thread_join(&t);
    assert_int_equal(atomic_load(&g.ball), 2 * ROUNDS);
}

static void futex__a_changed_word_does_not_sleep(void **state)
{
    atomic_uint word = 7;

    (void)state;
    sh_futex_wait(&word, 6); // would never return
    sh_futex_wake(&word, 1); // nobody sleeps: nothing happens
    assert_int_equal(atomic_load(&word), 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(futex__two_threads_take_turns),
        cmocka_unit_test(futex__a_changed_word_does_not_sleep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
