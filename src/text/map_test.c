/* The hash tables of vocabularies. */
#include "text/map_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "base/mem.h"
#include "text/tiny_test.h"

#define N 5000

static void map__strings_grow_find_replace(void **state)
{
    struct sh_str *strs = sh_calloc(N + 1, sizeof *strs);
    char(*bytes)[12] = sh_calloc(N + 1, sizeof *bytes);
    struct sh_strmap m;
    uint32_t was;

    (void)state;
    assert_int_equal(sh_strmap_init(&m, 10), SHOAL_OK);
    for (uint32_t i = 0; i < N; i++) {
        const int len = snprintf(bytes[i], sizeof bytes[i], "%u", i * 7);
        strs[i] = (struct sh_str){bytes[i], (size_t)len};
        assert_int_equal(sh_strmap_put(&m, strs, i, &was), SHOAL_OK);
        assert_int_equal(was, SH_NO_SYM);
    }
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(sh_strmap_find(&m, strs, strs[i]), i);
    assert_int_equal(sh_strmap_find(&m, strs, SH_STR_LIT("1")), SH_NO_SYM);
    assert_int_equal(sh_strmap_find(&m, strs, SH_STR_EMPTY), SH_NO_SYM);
    strs[N] = SH_STR_LIT("14");
    assert_int_equal(sh_strmap_put(&m, strs, N, &was), SHOAL_OK);
    assert_int_equal(was, 2);
    assert_int_equal(sh_strmap_find(&m, strs, SH_STR_LIT("14")), N);
    sh_strmap_release(&m);
    assert_int_equal(sh_strmap_find(&m, strs, SH_STR_LIT("14")), SH_NO_SYM);
    sh_free(strs);
    sh_free(bytes);
}

static void map__pairs_keep_the_first(void **state)
{
    struct sh_pairmap m;

    (void)state;
    assert_int_equal(sh_pairmap_init(&m, N), SHOAL_OK);
    for (uint32_t i = 0; i < N; i++)
        assert_true(sh_pairmap_put(&m, i, i ^ 5, i + 1, i + 2));
    for (uint32_t i = 0; i < N; i++)
        assert_false(sh_pairmap_put(&m, i, i ^ 5, 0, 0));
    for (uint32_t i = 0; i < N; i++) {
        const struct sh_pairmap_slot *s = sh_pairmap_find(&m, i, i ^ 5);
        assert_true(s && s->x == i + 1 && s->y == i + 2);
        assert_null(sh_pairmap_find(&m, i, i ^ 4));
    }
    assert_null(sh_pairmap_find(&m, SH_NO_SYM, SH_NO_SYM));
    sh_pairmap_release(&m);
    assert_null(sh_pairmap_find(&m, 1, 4));
}

static void map__hash_sees_every_byte_and_the_length(void **state)
{
    char s[40] = {0};

    (void)state;
    for (size_t len = 1; len < sizeof s; len++) {
        const uint64_t h = sh_hash_seeded(1, s, len);
        assert_true(h != sh_hash_seeded(1, s, len - 1));
        assert_true(h != sh_hash_seeded(2, s, len));
        for (size_t i = 0; i < len; i++) {
            s[i] ^= 1;
            assert_true(h != sh_hash_seeded(1, s, len));
            s[i] ^= 1;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map__strings_grow_find_replace),
        cmocka_unit_test(map__pairs_keep_the_first),
        cmocka_unit_test(map__hash_sees_every_byte_and_the_length),
    };
    return cmocka_run_group_tests_name("map", tests, NULL, NULL);
}
