/* The log: silent without a sink, filtered by level, one clean line per call. */
#include "base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

struct seen {
    int n;
    enum sh_log_level level;
    char part[16];
    char line[2048];
};

static void keep(void *user, enum sh_log_level level, const char *part, const char *line)
{
    struct seen *s = user;

    s->n++;
    s->level = level;
    strncpy(s->part, part, sizeof s->part - 1);
    strncpy(s->line, line, sizeof s->line - 1);
}

static void log__silent_without_a_sink(void **state)
{
    (void)state;
    sh_log_set_sink(NULL, NULL, SH_LOG_TRACE);
    sh_log(SH_LOG_ERROR, "base", "nobody hears %d", 1);
}

static void log__levels_filter(void **state)
{
    struct seen s = {0};

    (void)state;
    sh_log_set_sink(keep, &s, SH_LOG_INFO);
    sh_log(SH_LOG_DEBUG, "net", "hidden");
    assert_int_equal(s.n, 0);
    sh_log(SH_LOG_INFO, "net", "port %d", 50052);
    sh_log_set_sink(NULL, NULL, SH_LOG_ERROR);
    assert_int_equal(s.n, 1);
    assert_int_equal(s.level, SH_LOG_INFO);
    assert_string_equal(s.part, "net");
    assert_string_equal(s.line, "port 50052");
}

static void log__lines_are_clean_and_bounded(void **state)
{
    struct seen s = {0};
    char text[3000];

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    sh_log_set_sink(keep, &s, SH_LOG_TRACE);
    sh_log(SH_LOG_WARN, "gguf", "a\nb\033[2J");
    assert_string_equal(s.line, "a?b?[2J");
    sh_log(SH_LOG_WARN, "gguf", "%s", text);
    assert_int_equal(strlen(s.line), 1023);
    sh_log_set_sink(NULL, NULL, SH_LOG_ERROR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log__silent_without_a_sink),
        cmocka_unit_test(log__levels_filter),
        cmocka_unit_test(log__lines_are_clean_and_bounded),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
