/* UTF-8: every code point, every malformed form, cleaning. */
#include "text/unicode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void unicode__every_code_point_round_trips(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
        char s[4];
        const size_t n = sh_utf8_encode(s, cp);
        const struct sh_utf8_unit u = sh_utf8_next(s, n);
        const bool surrogate = cp >= 0xD800 && cp <= 0xDFFF;
        if (u.kind != SH_UTF8_VALID || u.n_bytes != n || n != sh_utf8_promised(s[0]) ||
            u.cp != (surrogate ? SH_CP_REPLACEMENT : cp))
            fail_msg("U+%04X: kind %d, %d bytes, U+%04X", cp, u.kind, u.n_bytes, u.cp);
        // Each proper start is partial.
        for (size_t k = 1; k < n; k++) {
            const struct sh_utf8_unit p = sh_utf8_next(s, k);
            if (p.kind != SH_UTF8_PARTIAL || p.n_bytes != k)
                fail_msg("U+%04X cut to %zu: kind %d, %d bytes", cp, k, p.kind, p.n_bytes);
        }
    }
    char s[4];
    assert_int_equal(sh_utf8_encode(s, 0x110000), 3);
    assert_memory_equal(s, SH_UTF8_REPLACEMENT, 3);
}

static void unicode__broken_starts_are_maximal_subparts(void **state)
{
    static const struct {
        const char *s;
        size_t len;
        int n_bytes;
    } cases[] = {
        {"\x80", 1, 1},
        {"\xBF", 1, 1},
        {"\xC0\x80", 2, 1},
        {"\xC1\xBF", 2, 1},
        {"\xC3(", 2, 1},
        {"\xE0\x80\x80", 3, 1},
        {"\xE0\x9F\xBF", 3, 1},
        {"\xED\xA0\x80", 3, 1},
        {"\xE2\x82(", 3, 2},
        {"\xF0\x80\x80\x80", 4, 1},
        {"\xF0\x9F\x99(", 4, 3},
        {"\xF4\x90\x80\x80", 4, 1},
        {"\xF5\x80\x80\x80", 4, 1},
        {"\xFF", 1, 1},
        {"\xE2(\xA1", 3, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct sh_utf8_unit u = sh_utf8_next(cases[i].s, cases[i].len);
        if (u.kind != SH_UTF8_BROKEN || u.n_bytes != cases[i].n_bytes || u.cp != SH_CP_REPLACEMENT)
            fail_msg("case %zu: kind %d, %d bytes", i, u.kind, u.n_bytes);
    }
}

static void expect_clean(struct sh_str in, struct sh_str want)
{
    struct sh_buf out = SH_BUF_INIT;

    assert_int_equal(sh_utf8_clean(&out, in), SHOAL_OK);
    assert_int_equal(out.len, want.len);
    if (want.len) assert_memory_equal(out.ptr, want.ptr, want.len);
    assert_int_equal(sh_utf8_valid_len(out.ptr, out.len), out.len);
    sh_buf_release(&out);
}

static void unicode__cleaning_replaces_each_bad_byte(void **state)
{
#define BAD SH_UTF8_REPLACEMENT
    (void)state;
    expect_clean(SH_STR_LIT(""), SH_STR_LIT(""));
    expect_clean(SH_STR_LIT("ordinary text, more than eight bytes \xC3\xA9"),
                 SH_STR_LIT("ordinary text, more than eight bytes \xC3\xA9"));
    expect_clean(SH_STR_LIT("a\xFF"
                            "b"),
                 SH_STR_LIT("a" BAD "b"));
    expect_clean(SH_STR_LIT("\xF0\x9F\x99"), SH_STR_LIT(BAD BAD BAD));
    expect_clean(SH_STR_LIT("\xF0\x9F\x99\xC3\xA9"), SH_STR_LIT(BAD BAD BAD "\xC3\xA9"));
    expect_clean(SH_STR_LIT("\xED\xA0\x80"), SH_STR_LIT(BAD BAD BAD));
    expect_clean(SH_STR_LIT("\xC0\xAF"), SH_STR_LIT(BAD BAD));
#undef BAD
}

static void unicode__valid_len_stops_at_the_first_error(void **state)
{
    char s[64];

    (void)state;
    for (size_t n = 0; n < sizeof s; n++) { // an error at every place, past the fast path too
        memset(s, 'x', sizeof s);
        assert_int_equal(sh_utf8_valid_len(s, n), n);
        if (n < sizeof s) s[n] = '\x80';
        assert_int_equal(sh_utf8_valid_len(s, sizeof s), n);
    }
    assert_int_equal(sh_utf8_valid_len("ab\xE2\x82", 4), 2);
}

static void unicode__ascii_space(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++)
        assert_int_equal(sh_is_ascii_space((char)c), c < 128 && strchr(" \t\n\v\f\r", c) && c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unicode__every_code_point_round_trips),
        cmocka_unit_test(unicode__broken_starts_are_maximal_subparts),
        cmocka_unit_test(unicode__cleaning_replaces_each_bad_byte),
        cmocka_unit_test(unicode__valid_len_stops_at_the_first_error),
        cmocka_unit_test(unicode__ascii_space),
    };
    return cmocka_run_group_tests_name("unicode", tests, NULL, NULL);
}
