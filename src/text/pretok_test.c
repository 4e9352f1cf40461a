/* The groups of patterns: against words cut by another regular-expression engine with the
 * patterns as the models' authors wrote them (tests/text/data/pretok.cases), and against time. */
#include "text/pretok_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "text/tiny_test.h"

#define N_GROUPS 31

struct words {
    const char *text;
    size_t n, covered; /* words so far; where the next should begin */
    size_t len[2000];
    bool gaps;
};

static enum shoal_status take_word(void *user, size_t begin, size_t end)
{
    struct words *w = user;

    assert_true(begin < end && begin >= w->covered);
    if (begin > w->covered) w->gaps = true;
    w->covered = end;
    if (w->n < sizeof w->len / sizeof w->len[0]) w->len[w->n] = end - begin;
    w->n++;
    return SHOAL_OK;
}

static void split(const struct sh_pretok *p, struct sh_pretok_run *run, struct sh_str text,
                  struct words *w)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    *w = (struct words){.text = text.ptr};
    if (sh_pretok_split(p, run, text.ptr, 0, text.len, take_word, w, &err))
        fail_msg("%s", err.message);
}

static int hex(char c)
{
    return c <= '9' ? c - '0' : c - 'A' + 10;
}

static size_t unescape(char *s, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        if (c == '\\') {
            c = s[++i];
            if (c == 'x') {
                c = (char)(hex(s[i + 1]) * 16 + hex(s[i + 2]));
                i += 2;
            } else {
                c = c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
            }
        }
        s[n++] = c;
    }
    return n;
}

/* One line "TEXT<tab>LENGTHS". */
static bool line_holds(const char *group, const struct sh_pretok *p, struct sh_pretok_run *run,
                       char *line)
{
    static struct words got; // large
    char *tab = strchr(line, '\t'), *at = tab + 1;
    size_t n = 0;
    bool equal = true;

    assert_non_null(tab);
    split(p, run, (struct sh_str){line, unescape(line, (size_t)(tab - line))}, &got);
    for (char *end;; at = end, n++) {
        const size_t want = strtoul(at, &end, 10);
        if (end == at) break;
        equal = equal && n < got.n && got.len[n] == want;
    }
    if (equal && n == got.n) return true;
    print_error("%s: '%s' gave", group, line);
    for (size_t i = 0; i < got.n; i++)
        print_error(" %zu", got.len[i]);
    print_error(", expected %s\n", tab + 1);
    return false;
}

static void pretok__words_equal_another_engine(void **state)
{
    struct sh_pretok_run *run = NULL;
    char *bytes = NULL, *at;
    size_t len, n_groups = 0, n_bad = 0;

    (void)state;
    assert_int_equal(sh_read_file(&bytes, &len, "tests/text/data/pretok.cases", 1 << 24, NULL), 0);
    assert_int_equal(sh_pretok_run_create(&run, NULL), SHOAL_OK);
    for (at = bytes; *at; n_groups++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_pretok *p = NULL;
        char *end = strchr(at, '\n'), *name = at + strlen("group "), *blank = strchr(name, ' ');
        size_t n_lines = strtoul(blank, NULL, 10);
        *end = *blank = '\0';
        assert_non_null(sh_pre_find(sh_str_from(name)));
        if (sh_pretok_create(&p, sh_pre_find(sh_str_from(name)), &err)) fail_msg("%s", err.message);
        assert_true(n_lines >= 40);
        for (at = end + 1; n_lines > 0; n_lines--, at = end + 1) {
            end = strchr(at, '\n');
            *end = '\0';
            n_bad += !line_holds(name, p, run, at);
        }
        sh_pretok_destroy(p);
    }
    assert_int_equal(n_groups, N_GROUPS);
    assert_int_equal(n_bad, 0);
    sh_pretok_run_destroy(run);
    sh_free(bytes);
}

/* Runs that have made other tokenizers overflow their stack or take quadratic time; each is a
 * unit repeated, and an end. */
static const struct {
    const char *unit, *end;
    size_t bytes;
} runs[] = {
    {" ", "", 2 << 20},
    {" ", "x", 2 << 20},
    {" ", "1", 2 << 20},
    {"a", "", 1 << 20},
    {"A", "\xC3\xA9", 1 << 20},
    {"7", "", 1 << 18},
    {"7", "a", 1 << 18},
    {"\n", "", 1 << 18},
    {" \n", "x", 1 << 18},
    {"a ", "", 1 << 18},
    {"'", "", 1 << 18},
    {".", "a", 1 << 18},
    {"'S", "", 1 << 18},
    {"e\xCC\x81", "", 1 << 18},
    {"1\xC2\xBD", "", 1 << 18},
    {"\xE3\x80\x80", "1", 1 << 18},
    {"\t", "\xE6\x9D\xB1", 1 << 18},
    {"\xE6\x9D\xB1", "", 1 << 18},
};

static void one_run(const struct sh_pretok *p, struct sh_pretok_run *run,
                    const struct sh_pre_row *row, size_t k, char *text)
{
    static struct words got;
    const size_t unit = strlen(runs[k].unit), end = strlen(runs[k].end);
    const size_t body = runs[k].bytes / unit * unit;
    int64_t ns;

    for (size_t i = 0; i < body; i += unit)
        memcpy(text + i, runs[k].unit, unit);
    memcpy(text + body, runs[k].end, end);
    ns = -sh_now_ns(&sh_clock_system);
    split(p, run, (struct sh_str){text, body + end}, &got);
    ns += sh_now_ns(&sh_clock_system);
    // Linear is some 10 ms; quadratic is more than 10 s.
    if (ns > 5 * SH_SECOND)
        fail_msg("%s: %zu bytes of '%s' took %.1f s", sh_pre_group_of(row)->name, body,
                 runs[k].unit, (double)ns / 1e9);
    if (row->flags & SH_PRE_DROP_GAPS) return;
    assert_int_equal(got.covered, body + end);
    assert_false(got.gaps);
}

static void pretok__long_runs_take_linear_time(void **state)
{
    char *const text = sh_malloc((2 << 20) + 8);
    struct sh_pretok_run *run = NULL;
    size_t n;
    const struct sh_pre_row *rows = sh_pre_rows(&n);
    int last = 0;

    (void)state;
    assert_int_equal(sh_pretok_run_create(&run, NULL), SHOAL_OK);
    for (size_t r = 0; r < n; r++) {
        struct sh_pretok *p = NULL;
        if (rows[r].group == last) continue;
        last = rows[r].group;
        assert_int_equal(sh_pretok_create(&p, &rows[r], NULL), SHOAL_OK);
        for (size_t k = 0; k < sizeof runs / sizeof runs[0]; k++)
            one_run(p, run, &rows[r], k, text);
        sh_pretok_destroy(p);
    }
    assert_int_equal(last, N_GROUPS);
    sh_pretok_run_destroy(run);
    sh_free(text);
}

static void pretok__every_name_has_its_group(void **state)
{
    size_t n;
    const struct sh_pre_row *rows = sh_pre_rows(&n);

    (void)state;
    assert_int_equal(n, 91);
    for (size_t i = 0; i < n; i++) {
        char name[8];
        (void)snprintf(name, sizeof name, "P%d", rows[i].group);
        assert_string_equal(sh_pre_group_of(&rows[i])->name, name);
        assert_ptr_equal(sh_pre_find(sh_str_from(rows[i].name)), &rows[i]); // no name twice
        assert_true(rows[i].flags & SH_PRE_RAW || !(rows[i].flags & SH_PRE_ESCAPE_SPACES));
    }
    assert_null(sh_pre_find(SH_STR_LIT("no such name")));
}

static enum shoal_status stop_at_second(void *user, size_t begin, size_t end)
{
    int *n = user;

    (void)begin;
    (void)end;
    return ++*n == 2 ? SHOAL_ERR_CANCELLED : SHOAL_OK;
}

static void pretok__a_status_of_the_word_ends_the_split(void **state)
{
    struct sh_pretok *p = NULL;
    struct sh_pretok_run *run = NULL;
    int n = 0;

    (void)state;
    assert_int_equal(sh_pretok_create(&p, sh_pre_find(SH_STR_LIT("smollm")), NULL), SHOAL_OK);
    assert_int_equal(sh_pretok_run_create(&run, NULL), SHOAL_OK);
    assert_int_equal(sh_pretok_split(p, run, "a b c d", 0, 7, stop_at_second, &n, NULL),
                     SHOAL_ERR_CANCELLED);
    assert_int_equal(n, 2);
    sh_pretok_run_destroy(run);
    sh_pretok_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pretok__words_equal_another_engine),
        cmocka_unit_test(pretok__long_runs_take_linear_time),
        cmocka_unit_test(pretok__every_name_has_its_group),
        cmocka_unit_test(pretok__a_status_of_the_word_ends_the_split),
    };
    return cmocka_run_group_tests_name("pretok", tests, NULL, NULL);
}
