/* Log lines: aligned and harmless for people, valid JSON for programs, whatever the texts hold. */
#include "cmd/log_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>

#include "text/unicode.h"

static const struct timespec WHEN = {.tv_sec = 1772366400, .tv_nsec = 250999999};

static const struct sh_log_field SESSION[] = {
    {.name = "client", .kind = SH_LOG_TEXT, .value = {.text = "[::1]:7"}},
    {.name = "bytes_in", .label = "in", .kind = SH_LOG_BYTES, .value = {.count = 1200000}},
    {.name = "graphs", .label = "graphs", .kind = SH_LOG_COUNT, .value = {.count = 12}},
    {.name = "total_s", .label = "total", .kind = SH_LOG_SECONDS, .value = {.seconds = 2.25}},
};

static struct sh_log_record session(const char *message)
{
    return (struct sh_log_record){.level = SH_LOG_INFO,
                                  .part = "ggmlrpc",
                                  .message = message,
                                  .fields = SESSION,
                                  .n_fields = 4};
}

/* ---- for people ----------------------------------------------------------------------------- */

static void expect_text(const struct sh_log_record *r, const struct timespec *when,
                        const char *want)
{
    char line[SH_LOG_LINE_BYTES + 1];

    line[sh_log_line_text(line, r, when)] = '\0';
    assert_string_equal(line, want);
}

static void log_line__people_read_columns(void **state)
{
    struct sh_log_record r = session("[::1]:7: session ended");

    (void)state;
    expect_text(&r, &WHEN,
                "2026-03-01T12:00:00Z info  ggmlrpc: [::1]:7: session ended"
                "                                    in   1.2 MB  graphs   12  total    2.25 s\n");
    r.n_fields = 1; // what the sentence says is not said again
    r.level = SH_LOG_ERROR;
    expect_text(&r, &WHEN, "2026-03-01T12:00:00Z error ggmlrpc: [::1]:7: session ended\n");
    expect_text(&r, NULL, "shoal: error: ggmlrpc: [::1]:7: session ended\n");
    r.level = SH_LOG_DEBUG;
    expect_text(&r, NULL, "shoal: ggmlrpc: [::1]:7: session ended\n");
}

static void log_line__terminals_are_not_obeyed(void **state)
{
    struct sh_log_record r = {.level = SH_LOG_WARN, .part = "net", .message = "a\n\033[2J\x9b\xc3"};
    const struct sh_log_field f = sh_log_text("x", "x",
                                              "\r\xc2\x9b\x7f"
                                              "b\xff");

    (void)state;
    expect_text(&r, NULL, "shoal: warning: net: a??[2J??\n");
    r.message = "a\xc3\xa9";
    r.fields = &f;
    r.n_fields = 1;
    expect_text(&r, NULL,
                "shoal: warning: net: a\xc3\xa9"
                "                                                       x ???b?\n");
}

static void log_line__long_texts_are_cut(void **state)
{
    char text[3 * SH_LOG_LINE_BYTES], line[SH_LOG_LINE_BYTES];
    const struct sh_log_field f[] = {sh_log_text("x", "x", text), sh_log_count("n", "n", 7)};
    const struct sh_log_record r = {
        .level = SH_LOG_WARN, .part = "net", .message = text, .fields = f, .n_fields = 2};
    size_t n;

    (void)state;
    memset(text, 'y', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    n = sh_log_line_text(line, &r, NULL);
    assert_true(n <= SH_LOG_LINE_BYTES);
    assert_memory_equal(line + n - 5, "y...\n", 5);
}

/* ---- for programs --------------------------------------------------------------------------- */

static json_t *as_json(const struct sh_log_record *r)
{
    char line[SH_LOG_LINE_BYTES];
    const size_t n = sh_log_line_json(line, r, &WHEN);
    json_error_t why;
    json_t *object;

    assert_true(n <= sizeof line);
    assert_int_equal(line[n - 1], '\n');
    for (size_t i = 0; i + 1 < n; i++)
        assert_true((unsigned char)line[i] >= 0x20 && line[i] != 0x7f);
    object = json_loadb(line, n, JSON_REJECT_DUPLICATES, &why);
    if (!object) fail_msg("%s: %.*s", why.text, (int)n, line);
    return object;
}

static void want_string(const json_t *o, const char *name, const char *want)
{
    assert_non_null(json_string_value(json_object_get(o, name)));
    assert_string_equal(json_string_value(json_object_get(o, name)), want);
}

static void log_line__programs_read_typed_members(void **state)
{
    const struct sh_log_record r = session("\"quoted\" \\ and\n more");
    json_t *o = as_json(&r);

    (void)state;
    want_string(o, "time", "2026-03-01T12:00:00.250Z");
    want_string(o, "level", "info");
    want_string(o, "part", "ggmlrpc");
    want_string(o, "message", "\"quoted\" \\ and\n more");
    want_string(o, "client", "[::1]:7");
    assert_int_equal(json_integer_value(json_object_get(o, "bytes_in")), 1200000);
    assert_int_equal(json_integer_value(json_object_get(o, "graphs")), 12);
    assert_true(json_is_real(json_object_get(o, "total_s")));
    assert_true(json_real_value(json_object_get(o, "total_s")) == 2.25);
    assert_int_equal(json_object_size(o), 8);
    json_decref(o);
}

static void log_line__bytes_that_are_no_text(void **state)
{
    const double zero = 0;
    const struct sh_log_field f[] = {sh_log_text("name", NULL, "\x01\x1f\x7f\xc2\x85 \xff\xc3"),
                                     sh_log_seconds("s", NULL, 1 / zero)};
    const struct sh_log_record r = {
        .level = SH_LOG_WARN, .part = "net", .message = "", .fields = f, .n_fields = 2};
    json_t *o = as_json(&r);

    (void)state;
    want_string(o, "name", "\x01\x1f\x7f\xc2\x85 " SH_UTF8_REPLACEMENT SH_UTF8_REPLACEMENT);
    want_string(o, "message", "");
    assert_true(json_is_null(json_object_get(o, "s")));
    json_decref(o);
}

/* Any bytes, of any length, in all places: always one valid object with all that is short. */
static void log_line__any_bytes_give_valid_json(void **state)
{
    enum { ROUNDS = 3000, MOST = 2 * SH_LOG_LINE_BYTES };
    static char text[3][MOST];
    uint32_t seed = 12345;

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        const struct sh_log_field f[] = {sh_log_text("a", NULL, text[0]),
                                         sh_log_text("b", "b", text[1]),
                                         sh_log_count("n", NULL, UINT64_C(1) << 60)};
        const struct sh_log_record r = {
            .level = SH_LOG_TRACE, .part = "x", .message = text[2], .fields = f, .n_fields = 3};
        json_t *o;
        for (int t = 0; t < 3; t++) {
            seed = seed * 1664525u + 1013904223u;
            const uint32_t len = (seed >> 8) % ((round % 4) ? 200 : MOST - 1);
            const bool plain = (seed >> 4) % 3 == 0;
            for (uint32_t i = 0; i < len; i++) {
                seed = seed * 1664525u + 1013904223u;
                text[t][i] = plain ? 'p' : (char)(1 + (seed >> 16) % 255);
            }
            text[t][len] = '\0';
        }
        o = as_json(&r);
        assert_non_null(json_object_get(o, "message"));
        assert_non_null(json_object_get(o, "a"));
        assert_non_null(json_object_get(o, "b"));
        assert_true(json_integer_value(json_object_get(o, "n")) == INT64_C(1) << 60);
        if (strlen(text[0]) < 80 && sh_utf8_valid_len(text[0], strlen(text[0])) == strlen(text[0]))
            want_string(o, "a", text[0]);
        json_decref(o);
    }
}

static void log_line__what_finds_no_room_is_left_out(void **state)
{
    char long_text[600];
    struct sh_log_field f[12];
    const struct sh_log_record r = {
        .level = SH_LOG_WARN, .part = "net", .message = long_text, .fields = f, .n_fields = 12};
    char names[12][4];
    json_t *o;

    (void)state;
    memset(long_text, '\x01', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    for (int i = 0; i < 12; i++) {
        names[i][0] = 'a';
        names[i][1] = (char)('a' + i);
        names[i][2] = '\0';
        f[i] = sh_log_text(names[i], NULL, long_text);
    }
    f[11] = sh_log_count("n", NULL, 5);
    o = as_json(&r);
    assert_true(json_object_size(o) < 16);
    assert_int_equal(json_integer_value(json_object_get(o, "n")), 5); // there was room for this
    json_decref(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_line__people_read_columns),
        cmocka_unit_test(log_line__terminals_are_not_obeyed),
        cmocka_unit_test(log_line__long_texts_are_cut),
        cmocka_unit_test(log_line__programs_read_typed_members),
        cmocka_unit_test(log_line__bytes_that_are_no_text),
        cmocka_unit_test(log_line__any_bytes_give_valid_json),
        cmocka_unit_test(log_line__what_finds_no_room_is_left_out),
    };

    return cmocka_run_group_tests_name("log_line", tests, NULL, NULL);
}
