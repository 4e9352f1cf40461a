/* Arenas: growth, alignment, reset, red zones, and what happens without memory. */
#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "base/sanitize_priv.h"

static void arena__blocks_are_zeroed_aligned_and_apart(void **state)
{
    struct sh_arena a = SH_ARENA_INIT;
    uint8_t *p[200];

    (void)state;
    for (size_t i = 0; i < 200; i++) {
        p[i] = sh_arena_calloc(&a, i, 7);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % (i * 7 >= 64 ? 64 : 16), 0);
        for (size_t k = 0; k < i * 7; k++)
            if (p[i][k]) assert_int_equal(p[i][k], 0);
        memset(p[i], (int)i, i * 7);
    }
    for (size_t i = 0; i < 200; i++)
        for (size_t k = 0; k < i * 7; k++)
            if (p[i][k] != (uint8_t)i) assert_int_equal(p[i][k], (uint8_t)i);
    assert_true(a.used_bytes >= 199 * 200 / 2 * 7);
    sh_arena_release(&a);
    assert_null(a.head);
    assert_int_equal(a.used_bytes, 0);
}

static void arena__reset_keeps_the_largest_chunk(void **state)
{
    const size_t before = sh_mem_live_bytes();
    struct sh_arena a = SH_ARENA_INIT;
    size_t kept;
    uint8_t *p;

    (void)state;
    for (int i = 0; i < 100; i++)
        assert_non_null(sh_arena_calloc(&a, 1000, 1));
    assert_non_null(sh_arena_calloc(&a, 1, 1 << 20));
    assert_non_null(sh_arena_calloc(&a, 1000, 1)); // after the big one: still in front or behind
    sh_arena_reset(&a);
    assert_int_equal(a.used_bytes, 0);
    kept = sh_mem_live_bytes() - before;
    assert_true(kept >= (1 << 20));
    p = sh_arena_calloc(&a, 1, 1 << 20); // fits what was kept, and is clean again
    assert_non_null(p);
    for (size_t k = 0; k < (1 << 20); k++)
        if (p[k]) assert_int_equal(p[k], 0);
    memset(p, 0xff, 1 << 20);
    assert_int_equal(sh_mem_live_bytes() - before, kept);
    sh_arena_reset(&a);
    assert_non_null(sh_arena_calloc(&a, 1, 1 << 20));
    assert_int_equal(sh_mem_live_bytes() - before, kept);
    sh_arena_release(&a);
    assert_int_equal(sh_mem_live_bytes(), before);
}

static void arena__steady_use_does_not_allocate(void **state)
{
    struct sh_arena a = SH_ARENA_INIT;

    (void)state;
    for (int round = 0; round < 10; round++) {
        if (round == 3) sh_mem_fail_after(0); // by now one chunk holds a round
        for (int i = 0; i < 50; i++)
            assert_non_null(sh_arena_calloc(&a, 333, 1));
        sh_arena_reset(&a);
    }
    sh_mem_fail_after(-1);
    sh_arena_release(&a);
}

static void arena__no_memory_is_null_and_harmless(void **state)
{
    struct sh_arena a = SH_ARENA_INIT;
    char *first;

    (void)state;
    sh_mem_fail_after(0);
    assert_null(sh_arena_calloc(&a, 1, 1));
    first = sh_arena_strndup(&a, "kept", 4);
    assert_string_equal(first, "kept");
    sh_mem_fail_after(0);
    assert_null(sh_arena_calloc(&a, 1, 1 << 20));
    assert_string_equal(first, "kept");
    // A refused generous chunk is asked for again at the plain size.
    sh_mem_fail_after(0);
    for (int i = 0; i < 8; i++)
        assert_non_null(sh_arena_calloc(&a, 1000, 1));
    sh_mem_fail_after(-1);
    assert_string_equal(first, "kept");
    sh_arena_release(&a);
}

static void arena__overflow_is_null(void **state)
{
    struct sh_arena a = SH_ARENA_INIT;

    (void)state;
    assert_null(sh_arena_calloc(&a, SIZE_MAX, 2));
    assert_null(sh_arena_calloc(&a, SIZE_MAX, 1));
    assert_null(sh_arena_calloc(&a, SIZE_MAX - 64, 1));
    assert_non_null(sh_arena_calloc(&a, 0, 0));
    assert_null(sh_arena_calloc(&a, SIZE_MAX - 200, 1));
    assert_null(sh_arena_strndup(&a, "x", SIZE_MAX));
    sh_arena_release(&a);
}

static void arena__strndup_terminates(void **state)
{
    struct sh_arena a = SH_ARENA_INIT;
    char *p = sh_arena_strndup(&a, "tensor.weight", 6);
    char *q = sh_arena_strndup(&a, NULL, 0);

    (void)state;
    assert_string_equal(p, "tensor");
    assert_string_equal(q, "");
    sh_arena_release(&a);
}

static void arena__free_space_is_poisoned(void **state)
{
#if SH_ASAN
    struct sh_arena a = SH_ARENA_INIT;
    char *p = sh_arena_calloc(&a, 20, 1);
    char *q = sh_arena_calloc(&a, 20, 1);

    (void)state;
    assert_int_equal(__asan_address_is_poisoned(p + 19), 0);
    assert_int_equal(__asan_address_is_poisoned(p + 20), 1);
    assert_int_equal(__asan_address_is_poisoned(q - 1), 1);
    assert_int_equal(__asan_address_is_poisoned(q + 20), 1);
    sh_arena_reset(&a);
    assert_int_equal(__asan_address_is_poisoned(p), 1);
    sh_arena_release(&a);
#else
    struct sh_arena a = SH_ARENA_INIT;
    char *p = sh_arena_calloc(&a, 16, 1);
    char *q = sh_arena_calloc(&a, 16, 1);

    (void)state;
    assert_ptr_equal(q, p + 16); // without the sanitizer nothing is spent on red zones
    sh_arena_release(&a);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena__blocks_are_zeroed_aligned_and_apart),
        cmocka_unit_test(arena__reset_keeps_the_largest_chunk),
        cmocka_unit_test(arena__steady_use_does_not_allocate),
        cmocka_unit_test(arena__no_memory_is_null_and_harmless),
        cmocka_unit_test(arena__overflow_is_null),
        cmocka_unit_test(arena__strndup_terminates),
        cmocka_unit_test(arena__free_space_is_poisoned),
    };
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
