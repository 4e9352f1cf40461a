/* cluster/split_test.c - shares by memory, limits, and the message when nothing fits. */
#include "cluster/split.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const struct sh_split_model MODEL = {
    .n_layers = 30, .layer_bytes = 10, .first_bytes = 50, .last_bytes = 50, .device_bytes = 5};

static void split__follows_free_memory(void **state)
{
    const struct sh_split_device d[3] = {{"a", 4000}, {"b", 2000}, {"c", 4000}};
    int64_t n[3];

    (void)state;
    assert_int_equal(sh_split_by_memory(n, d, 3, &MODEL, NULL), SHOAL_OK);
    assert_int_equal(n[0], 12);
    assert_int_equal(n[1], 6);
    assert_int_equal(n[2], 12);
}

static void split__never_exceeds_a_device(void **state)
{
    // By shares the first would get 10 layers, but its embedding leaves room for 4.
    const struct sh_split_device d[3] = {{"a", 99}, {"b", 99}, {"c", 400}};
    const struct sh_split_device tight[2] = {{"a", 155}, {"b", 255}};
    int64_t n[3];

    (void)state;
    assert_int_equal(sh_split_by_memory(n, d, 3, &MODEL, NULL), SHOAL_OK);
    assert_true(n[0] <= 4);
    assert_true(n[1] <= 9);
    assert_int_equal(n[0] + n[1] + n[2], 30);
    assert_int_equal(sh_split_by_memory(n, tight, 2, &MODEL, NULL), SHOAL_OK);
    assert_int_equal(n[0], 10);
    assert_int_equal(n[1], 20);
}

static void split__says_need_and_free(void **state)
{
    const struct sh_split_device d[2] = {{"a", 100}, {"b", 255}};
    struct shoal_error err = SHOAL_ERROR_INIT;
    int64_t n[2];

    (void)state;
    assert_int_equal(sh_split_by_memory(n, d, 2, &MODEL, &err), SHOAL_ERR_NOMEM);
    assert_non_null(strstr(err.message, "needs"));
    assert_non_null(strstr(err.message, "free"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split__follows_free_memory),
        cmocka_unit_test(split__never_exceeds_a_device),
        cmocka_unit_test(split__says_need_and_free),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
