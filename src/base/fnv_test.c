/* Known values, and several chains against the plain one. */
#include "base/fnv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"

static uint64_t next(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *seed >> 33;
}

static void fnv__known_values(void **state)
{
    (void)state;
    assert_true(sh_fnv(SH_FNV_START, "", 0) == UINT64_C(0xcbf29ce484222325));
    assert_true(sh_fnv(SH_FNV_START, "a", 1) == UINT64_C(0xaf63dc4c8601ec8c));
    assert_true(sh_fnv(SH_FNV_START, "foobar", 6) == UINT64_C(0x85944171f73967e8));
    // In two parts it is the same.
    assert_true(sh_fnv(sh_fnv(SH_FNV_START, "foo", 3), "bar", 3) == UINT64_C(0x85944171f73967e8));
}

enum { BYTES = 1 << 16, CHAINS = 40 };

static void fnv__chains_equal_the_plain_one(void **state)
{
    static const size_t LIKELY[] = {0, 1, 2, 7, 8, 63, 64, 65, 4096};
    struct sh_fnv_chain c[CHAINS];
    uint64_t want[CHAINS], seed = 1;
    uint8_t *bytes = sh_malloc(BYTES);

    (void)state;
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (uint8_t)next(&seed);
    for (int round = 0; round < 200; round++) {
        const size_t n = (size_t)next(&seed) % (CHAINS + 1);
        for (size_t i = 0; i < n; i++) {
            const size_t at = (size_t)next(&seed) % (BYTES / 2);
            const size_t len = next(&seed) % 3 == 0
                                   ? LIKELY[next(&seed) % (sizeof LIKELY / sizeof LIKELY[0])]
                                   : (size_t)next(&seed) % 5000;
            c[i] = (struct sh_fnv_chain){.hash = SH_FNV_START +
                                                 (uint64_t)(round & 1), // not only the start
                                         .at = bytes + at,
                                         .left = len};
            want[i] = sh_fnv(c[i].hash, bytes + at, len);
        }
        sh_fnv_finish(c, n);
        for (size_t i = 0; i < n; i++) {
            assert_true(c[i].hash == want[i]);
            assert_int_equal(c[i].left, 0);
        }
    }
    sh_free(bytes);
}

static void fnv__steps_of_every_width(void **state)
{
    uint8_t bytes[SH_FNV_CHAINS_MAX][100];
    uint64_t seed = 7;

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i / 100][i % 100] = (uint8_t)next(&seed);
    for (int n = 1; n <= SH_FNV_CHAINS_MAX; n++) {
        struct sh_fnv_chain c[SH_FNV_CHAINS_MAX];
        for (int i = 0; i < n; i++)
            c[i] = (struct sh_fnv_chain){.hash = SH_FNV_START, .at = bytes[i], .left = 100};
        sh_fnv_step(c, n, 37);
        sh_fnv_step(c, n, 0);
        sh_fnv_step(c, n, 62);
        for (int i = 0; i < n; i++) {
            assert_int_equal(c[i].left, 1);
            assert_ptr_equal(c[i].at, bytes[i] + 99);
            assert_true(c[i].hash == sh_fnv(SH_FNV_START, bytes[i], 99));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fnv__known_values),
        cmocka_unit_test(fnv__chains_equal_the_plain_one),
        cmocka_unit_test(fnv__steps_of_every_width),
    };

    return cmocka_run_group_tests_name("fnv", tests, NULL, NULL);
}
