/* Error records: what is written, what is cut, what NULL does. */
#include "base/error.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void error__fail_writes_code_and_sentence(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    (void)state;
    err.sys_errno = 7;
    sh_error_set_peer(&err, "10.0.0.1:50052");
    assert_int_equal(sh_fail(&err, SHOAL_ERR_FORMAT, "gguf: %s: tensor %d", "m.gguf", 12),
                     SHOAL_ERR_FORMAT);
    assert_int_equal(err.code, SHOAL_ERR_FORMAT);
    assert_string_equal(err.message, "gguf: m.gguf: tensor 12");
    assert_int_equal(err.sys_errno, 0);
    assert_string_equal(err.peer, "");
}

static void error__fail_without_record_returns_code(void **state)
{
    (void)state;
    assert_int_equal(sh_fail(NULL, SHOAL_ERR_IO, "x"), SHOAL_ERR_IO);
    assert_int_equal(sh_fail_errno(NULL, SHOAL_ERR_IO, ENOENT, "x"), SHOAL_ERR_IO);
    sh_error_set_peer(NULL, "x");
}

static void error__errno_is_kept_and_described(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    (void)state;
    assert_int_equal(sh_fail_errno(&err, SHOAL_ERR_IO, ENOENT, "open %s", "a"), SHOAL_ERR_IO);
    assert_int_equal(err.sys_errno, ENOENT);
    assert_string_equal(err.message, "open a: No such file or directory");
}

static void error__long_text_is_cut_and_terminated(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    char text[1000];

    (void)state;
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(sh_fail_errno(&err, SHOAL_ERR_IO, ENOENT, "%s", text), SHOAL_ERR_IO);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    sh_error_set_peer(&err, text);
    assert_int_equal(strlen(err.peer), sizeof err.peer - 1);
    sh_error_set_peer(&err, NULL);
    assert_string_equal(err.peer, "");
}

static void error__control_bytes_do_not_pass(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    (void)state;
    (void)sh_fail(&err, SHOAL_ERR_FORMAT, "name %s", "a\nb\033[1m\x7f");
    assert_string_equal(err.message, "name a?b?[1m?");
    sh_error_set_peer(&err, "h\n:1");
    assert_string_equal(err.peer, "h?:1");
}

static void error__status_names(void **state)
{
    (void)state;
    assert_string_equal(shoal_status_name(SHOAL_OK), "OK");
    assert_string_equal(shoal_status_name(SHOAL_ERR_NOT_FOUND), "ERR_NOT_FOUND");
    assert_string_equal(shoal_status_name((enum shoal_status) - 1000), "ERR_UNKNOWN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error__fail_writes_code_and_sentence),
        cmocka_unit_test(error__fail_without_record_returns_code),
        cmocka_unit_test(error__errno_is_kept_and_described),
        cmocka_unit_test(error__long_text_is_cut_and_terminated),
        cmocka_unit_test(error__control_bytes_do_not_pass),
        cmocka_unit_test(error__status_names),
    };
    return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
