/* Clocks: the system one does not run backwards, deadlines saturate. */
#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static int64_t fixed_now(void *self)
{
    return *(const int64_t *)self;
}

static void clock__system_does_not_run_backwards(void **state)
{
    int64_t last = sh_now_ns(&sh_clock_system);

    (void)state;
    assert_true(last > 0);
    for (int i = 0; i < 1000; i++) {
        const int64_t now = sh_now_ns(&sh_clock_system);
        assert_true(now >= last);
        last = now;
    }
}

static void clock__deadlines_saturate(void **state)
{
    int64_t now = 5 * SH_SECOND;
    const struct sh_clock c = {.now_ns = fixed_now, .self = &now};

    (void)state;
    assert_int_equal(sh_deadline_in(&c, 0), 5 * SH_SECOND);
    assert_int_equal(sh_deadline_in(&c, 7 * SH_MS), 5 * SH_SECOND + 7 * SH_MS);
    assert_int_equal(sh_deadline_in(&c, -1), SH_NO_DEADLINE);
    assert_int_equal(sh_deadline_in(&c, SH_NO_DEADLINE), SH_NO_DEADLINE);
    assert_int_equal(sh_deadline_in(&c, INT64_MAX - 1), SH_NO_DEADLINE);
    now = INT64_MAX - 10;
    assert_int_equal(sh_deadline_in(&c, 9), INT64_MAX - 1);
    assert_int_equal(sh_deadline_in(&c, 10), SH_NO_DEADLINE);
    assert_int_equal(sh_deadline_in(&c, 11), SH_NO_DEADLINE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clock__system_does_not_run_backwards),
        cmocka_unit_test(clock__deadlines_saturate),
    };
    return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
