/* The account of a device's memory: all or nothing, what is left, many takers. */
#include "device/ledger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "base/thread.h"

static struct sh_ledger *ledger_of(size_t bytes)
{
    struct sh_ledger *l = NULL;

    assert_int_equal(sh_ledger_create(&l, bytes, NULL), SHOAL_OK);
    return l;
}

static void ledger__takes_all_or_nothing(void **state)
{
    struct sh_ledger *l = ledger_of(1000);
    size_t left = 0;

    (void)state;
    assert_true(sh_ledger_take(l, 600, &left));
    assert_int_equal(left, 1000); // what was free before
    assert_false(sh_ledger_take(l, 401, &left));
    assert_int_equal(left, 400);
    assert_false(sh_ledger_take(l, SIZE_MAX, NULL));
    assert_int_equal(sh_ledger_used(l), 600);
    assert_int_equal(sh_ledger_left(l), 400);
    assert_int_equal(sh_ledger_max(l), 1000);
    assert_true(sh_ledger_take(l, 400, NULL));
    assert_true(sh_ledger_take(l, 0, NULL));
    assert_int_equal(sh_ledger_left(l), 0);
    sh_ledger_give(l, 100); // a part
    assert_int_equal(sh_ledger_left(l), 100);
    sh_ledger_give(l, 900);
    assert_int_equal(sh_ledger_used(l), 0);
    sh_ledger_destroy(l);
    sh_ledger_destroy(NULL);
}

static void ledger__no_memory(void **state)
{
    struct sh_ledger *l;

    (void)state;
    sh_mem_fail_after(0);
    assert_int_equal(sh_ledger_create(&l, 1, NULL), SHOAL_ERR_NOMEM);
    sh_mem_fail_after(-1);
    assert_null(l);
}

enum { THREADS = 4, ROUNDS = 20000 };

/* At most 2 of 4 threads have their 500 at any time. */
static void *take_and_give(void *arg)
{
    struct sh_ledger *l = arg;

    for (int i = 0; i < ROUNDS; i++) {
        size_t left = 0;
        if (sh_ledger_take(l, 500, &left)) {
            if (sh_ledger_used(l) > 1000) return NULL;
            sh_ledger_give(l, 500);
        } else if (left >= 500) {
            return NULL; // refused though there was room
        }
    }
    return l;
}

static void ledger__many_takers(void **state)
{
    struct sh_ledger *l = ledger_of(1000);
    pthread_t thread[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, take_and_give, l), 0);
    for (int i = 0; i < THREADS; i++) {
        void *result = NULL;
        assert_int_equal(pthread_join(thread[i], &result), 0);
        assert_ptr_equal(result, l);
    }
    assert_int_equal(sh_ledger_used(l), 0);
    sh_ledger_destroy(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ledger__takes_all_or_nothing),
        cmocka_unit_test(ledger__no_memory),
        cmocka_unit_test(ledger__many_takers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
