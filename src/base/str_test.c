/* Borrowed strings, the hash, and the growing string. */
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"

static void str__equality(void **state)
{
    (void)state;
    assert_true(sh_str_is(SH_STR_LIT("abc"), "abc"));
    assert_false(sh_str_is(SH_STR_LIT("abc"), "ab"));
    assert_false(sh_str_is(SH_STR_LIT("ab"), "abc"));
    assert_false(sh_str_is(SH_STR_LIT("abd"), "abc"));
    assert_true(sh_str_equal(SH_STR_EMPTY, (struct sh_str){NULL, 0}));
    assert_false(sh_str_equal(SH_STR_LIT("a\0b"), SH_STR_LIT("a\0c")));
}

/* The published values of FNV-1a 64. */
static void str__hash_known_answers(void **state)
{
    (void)state;
    assert_int_equal(sh_hash_bytes("", 0), UINT64_C(0xcbf29ce484222325));
    assert_int_equal(sh_hash_bytes("a", 1), UINT64_C(0xaf63dc4c8601ec8c));
    assert_int_equal(sh_hash_bytes("foobar", 6), UINT64_C(0x85944171f73967e8));
}

static void str__append_and_printf_grow(void **state)
{
    struct sh_buf b = SH_BUF_INIT;

    (void)state;
    assert_int_equal(sh_buf_append(&b, NULL, 0), SHOAL_OK);
    assert_string_equal(b.ptr, "");
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(sh_buf_append(&b, "xy", 2), SHOAL_OK);
        assert_int_equal(sh_buf_printf(&b, "%d,", i % 10), SHOAL_OK);
        assert_int_equal(b.ptr[b.len], '\0');
    }
    assert_int_equal(b.len, 4000);
    assert_memory_equal(b.ptr + 3996, "xy9,", 4);
    assert_true(b.cap > b.len);
    sh_buf_clear(&b);
    assert_int_equal(b.len, 0);
    assert_string_equal(b.ptr, "");
    assert_true(b.cap >= 4000);
    sh_buf_release(&b);
    assert_null(b.ptr);
    assert_int_equal(b.cap, 0);
    sh_buf_clear(&b);
    sh_buf_release(&b);
}

static void str__one_append_may_exceed_twice_the_capacity(void **state)
{
    struct sh_buf b = SH_BUF_INIT;
    char big[5000];

    (void)state;
    memset(big, 'b', sizeof big);
    assert_int_equal(sh_buf_append(&b, "a", 1), SHOAL_OK);
    assert_int_equal(sh_buf_append(&b, big, sizeof big), SHOAL_OK);
    assert_int_equal(b.len, 5001);
    assert_true(b.cap > b.len);
    sh_buf_release(&b);
}

static void str__reserve_holds_what_it_promises(void **state)
{
    struct sh_buf b = SH_BUF_INIT;

    (void)state;
    assert_int_equal(sh_buf_reserve(&b, 100), SHOAL_OK);
    sh_mem_fail_after(0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(sh_buf_append(&b, "z", 1), SHOAL_OK);
    assert_int_equal(sh_buf_append(&b, "z", 1), SHOAL_ERR_NOMEM);
    sh_mem_fail_after(-1);
    assert_int_equal(b.len, 100);
    sh_buf_release(&b);
}

static void str__no_memory_leaves_the_buffer(void **state)
{
    struct sh_buf b = SH_BUF_INIT;
    char big[200];

    (void)state;
    memset(big, 'b', sizeof big);
    sh_mem_fail_after(0);
    assert_int_equal(sh_buf_append(&b, "a", 1), SHOAL_ERR_NOMEM);
    assert_null(b.ptr);
    assert_int_equal(sh_buf_append(&b, "abc", 3), SHOAL_OK);
    sh_mem_fail_after(0);
    assert_int_equal(sh_buf_append(&b, big, sizeof big), SHOAL_ERR_NOMEM);
    sh_mem_fail_after(0);
    assert_int_equal(sh_buf_printf(&b, "%300d", 1), SHOAL_ERR_NOMEM);
    sh_mem_fail_after(-1);
    assert_int_equal(b.len, 3);
    assert_string_equal(b.ptr, "abc");
    assert_int_equal(sh_buf_append(&b, big, SIZE_MAX - 1), SHOAL_ERR_NOMEM);
    assert_int_equal(sh_buf_reserve(&b, SIZE_MAX), SHOAL_ERR_NOMEM);
    assert_string_equal(b.ptr, "abc");
    sh_buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(str__equality),
        cmocka_unit_test(str__hash_known_answers),
        cmocka_unit_test(str__append_and_printf_grow),
        cmocka_unit_test(str__one_append_may_exceed_twice_the_capacity),
        cmocka_unit_test(str__reserve_holds_what_it_promises),
        cmocka_unit_test(str__no_memory_leaves_the_buffer),
    };
    return cmocka_run_group_tests_name("str", tests, NULL, NULL);
}
