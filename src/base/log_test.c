/* The log: silent without a sink, filtered by level, one record per call. */
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

struct seen {
    int n;
    struct sh_log_record last; /* its pointers are dangling, but for these copies */
    char part[16];
    char message[2048];
    struct sh_log_field fields[8];
};

static void keep(void *user, const struct sh_log_record *r)
{
    struct seen *s = user;

    s->n++;
    s->last = *r;
    strncpy(s->part, r->part, sizeof s->part - 1);
    strncpy(s->message, r->message, sizeof s->message - 1);
    if (r->n_fields > 0) memcpy(s->fields, r->fields, (size_t)r->n_fields * sizeof *r->fields);
}

static void log__silent_without_a_sink(void **state)
{
    (void)state;
    sh_log_set_sink(NULL, NULL, SH_LOG_TRACE);
    sh_log(SH_LOG_ERROR, "base", "nobody hears %d", 1);
    sh_log_fields(SH_LOG_ERROR, "base", NULL, 0, "nor %d", 2);
}

static void log__levels_filter(void **state)
{
    struct seen s = {0};

    (void)state;
    sh_log_set_sink(keep, &s, SH_LOG_INFO);
    sh_log(SH_LOG_DEBUG, "net", "hidden");
    sh_log_fields(SH_LOG_DEBUG, "net", NULL, 0, "hidden");
    assert_int_equal(s.n, 0);
    sh_log(SH_LOG_INFO, "net", "port %d", 50052);
    sh_log_set_sink(NULL, NULL, SH_LOG_ERROR);
    assert_int_equal(s.n, 1);
    assert_int_equal(s.last.level, SH_LOG_INFO);
    assert_string_equal(s.part, "net");
    assert_string_equal(s.message, "port 50052");
    assert_int_equal(s.last.n_fields, 0);
}

static void log__fields_keep_name_unit_and_value(void **state)
{
    const struct sh_log_field fields[] = {
        sh_log_text("client", NULL, "[::1]:7"), sh_log_count("graphs", "graphs", UINT64_MAX),
        sh_log_bytes("bytes_in", "in", 12), sh_log_seconds("total_s", "open", 0.5)};
    struct seen s = {0};

    (void)state;
    sh_log_set_sink(keep, &s, SH_LOG_INFO);
    sh_log_fields(SH_LOG_WARN, "net", fields, 4, "%s", "ended");
    sh_log_set_sink(NULL, NULL, SH_LOG_ERROR);
    assert_int_equal(s.n, 1);
    assert_string_equal(s.message, "ended");
    assert_int_equal(s.last.level, SH_LOG_WARN);
    assert_int_equal(s.last.n_fields, 4);
    assert_string_equal(s.fields[0].name, "client");
    assert_null(s.fields[0].label);
    assert_int_equal(s.fields[0].kind, SH_LOG_TEXT);
    assert_string_equal(s.fields[0].value.text, "[::1]:7");
    assert_int_equal(s.fields[1].kind, SH_LOG_COUNT);
    assert_true(s.fields[1].value.count == UINT64_MAX);
    assert_int_equal(s.fields[2].kind, SH_LOG_BYTES);
    assert_string_equal(s.fields[2].label, "in");
    assert_int_equal(s.fields[2].value.count, 12);
    assert_int_equal(s.fields[3].kind, SH_LOG_SECONDS);
    assert_true(s.fields[3].value.seconds == 0.5);
}

static void log__messages_are_bounded(void **state)
{
    struct seen s = {0};
    char text[3000];

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    sh_log_set_sink(keep, &s, SH_LOG_TRACE);
    sh_log(SH_LOG_WARN, "gguf", "a\nb\033[2J");
    assert_string_equal(s.message, "a\nb\033[2J"); // the sink knows what to do about it
    sh_log(SH_LOG_WARN, "gguf", "%s", text);
    assert_int_equal(strlen(s.message), 1023);
    sh_log_set_sink(NULL, NULL, SH_LOG_ERROR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log__silent_without_a_sink),
        cmocka_unit_test(log__levels_filter),
        cmocka_unit_test(log__fields_keep_name_unit_and_value),
        cmocka_unit_test(log__messages_are_bounded),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
