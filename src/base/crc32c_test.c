/* base/crc32c_test.c - known checksums, both ways alike, in pieces as at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/mem.h"

/* Bit by bit, as the polynomial says. */
static uint32_t plain(const uint8_t *p, size_t n)
{
    uint32_t c = UINT32_MAX;

    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int b = 0; b < 8; b++)
            c = c >> 1 ^ (c & 1 ? UINT32_C(0x82f63b78) : 0);
    }
    return ~c;
}

static void crc32c__known_values(void **state)
{
    uint8_t zeros[32] = {0}, ones[32];

    (void)state;
    memset(ones, 0xff, sizeof ones);
    assert_int_equal(sh_crc32c(0, "123456789", 9), UINT32_C(0xe3069283));
    assert_int_equal(sh_crc32c_tables(0, "123456789", 9), UINT32_C(0xe3069283));
    assert_int_equal(sh_crc32c(0, zeros, 32), UINT32_C(0x8a9136aa)); // RFC 3720, B.4
    assert_int_equal(sh_crc32c(0, ones, 32), UINT32_C(0x62a8ab43));
    assert_int_equal(sh_crc32c(0, NULL, 0), 0);
}

static void crc32c__both_ways_and_any_pieces(void **state)
{
    uint8_t bytes[300];
    uint32_t x = 1;

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++) {
        x = x * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(x >> 24);
    }
    for (size_t from = 0; from < 9; from++) {
        for (size_t n = 0; from + n <= sizeof bytes; n++) {
            const uint32_t want = plain(bytes + from, n);
            const size_t cut = n / 3;
            assert_int_equal(sh_crc32c(0, bytes + from, n), want);
            assert_int_equal(sh_crc32c_tables(0, bytes + from, n), want);
            assert_int_equal(
                sh_crc32c(sh_crc32c_tables(0, bytes + from, cut), bytes + from + cut, n - cut),
                want);
        }
    }
}

static void crc32c__speed(void **state)
{
    const size_t n = 1u << 20;
    uint8_t *p = sh_calloc(n, 1);
    int64_t at;
    double ns[2];

    (void)state;
    assert_non_null(p);
    at = sh_now_ns(&sh_clock_system);
    assert_int_equal(sh_crc32c(0, p, n), UINT32_C(0x14298c12));
    ns[0] = (double)(sh_now_ns(&sh_clock_system) - at);
    at = sh_now_ns(&sh_clock_system);
    assert_int_equal(sh_crc32c_tables(0, p, n), UINT32_C(0x14298c12));
    ns[1] = (double)(sh_now_ns(&sh_clock_system) - at);
    printf("crc32c: %.1f GB/s, from tables %.1f GB/s\n", (double)n / ns[0], (double)n / ns[1]);
    sh_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c__known_values),
        cmocka_unit_test(crc32c__both_ways_and_any_pieces),
        cmocka_unit_test(crc32c__speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
