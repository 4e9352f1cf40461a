/* Unix sockets as addresses, and streams whose first bytes are looked at. */
#include "net/listener.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/mem.h"
#include "net/peek.h"

#define LONG (60 * SH_SECOND)

/* ---- Unix sockets ---------------------------------------------------------------------------*/

struct place {
    char folder[40], path[56], text[64];
};

static struct place make_place(void)
{
    struct place p = {.folder = "/tmp/shoal-unix-XXXXXX"};

    assert_non_null(mkdtemp(p.folder));
    (void)snprintf(p.path, sizeof p.path, "%s/sock", p.folder);
    (void)snprintf(p.text, sizeof p.text, "unix:%s", p.path);
    return p;
}

static enum shoal_status open_at(struct sh_listener **l, const char *text, struct shoal_error *err)
{
    struct sh_endpoint ep;

    assert_int_equal(sh_endpoint_parse(&ep, text, -1, NULL), SHOAL_OK);
    return sh_listener_open(l, &ep, err);
}

static enum shoal_status connect_to(struct sh_stream **s, const char *text, struct shoal_error *err)
{
    const struct sh_tcp_options opt = {.user_timeout_ms = 30000, .unsent_max = SH_TCP_UNSENT_MAX};
    struct sh_endpoint ep;

    assert_int_equal(sh_endpoint_parse(&ep, text, -1, NULL), SHOAL_OK);
    return sh_tcp_connect(s, &ep, LONG, &opt, err);
}

static void unix__carries_bytes_both_ways(void **state)
{
    const struct sh_tcp_options opt = {.user_timeout_ms = 30000, .unsent_max = SH_TCP_UNSENT_MAX};
    const struct place p = make_place();
    struct sh_pace pace = sh_pace_until(sh_deadline_in(&sh_clock_system, LONG));
    struct sh_listener *l;
    struct sh_stream *a, *b;
    struct sh_address peer;
    char got[6] = "";
    struct stat sb;

    (void)state;
    assert_int_equal(open_at(&l, p.text, NULL), SHOAL_OK);
    assert_string_equal(sh_listener_text(l), p.text);
    assert_true(sh_address_is_loopback(sh_listener_address(l)));
    assert_int_equal(stat(p.path, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0600);
    assert_int_equal(connect_to(&a, p.text, NULL), SHOAL_OK);
    assert_int_equal(sh_listener_accept(l, LONG, &opt, &b, &peer, NULL), SHOAL_OK);
    assert_string_equal(a->peer, p.text);
    assert_string_equal(b->peer, "local");
    assert_true(sh_address_is_loopback(&peer));
    assert_int_equal(sh_stream_write_full(a, "hello", 5, &pace, NULL), SHOAL_OK);
    assert_int_equal(sh_stream_read_full(b, got, 5, &pace, NULL), SHOAL_OK);
    assert_string_equal(got, "hello");
    assert_int_equal(sh_stream_write_full(b, "there", 5, &pace, NULL), SHOAL_OK);
    assert_int_equal(sh_stream_read_full(a, got, 5, &pace, NULL), SHOAL_OK);
    assert_string_equal(got, "there");
    sh_stream_close(a);
    sh_stream_close(b);
    sh_listener_close(l);
    assert_int_equal(stat(p.path, &sb), -1); // gone with its listener
    assert_int_equal(rmdir(p.folder), 0);
}

static void unix__a_file_left_behind_is_replaced_one_in_use_is_not(void **state)
{
    const struct place p = make_place();
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sh_listener *l, *m;
    struct sh_stream *s;
    const int left = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    (void)snprintf(un.sun_path, sizeof un.sun_path, "%s", p.path);
    assert_true(left >= 0);
    assert_int_equal(bind(left, (const struct sockaddr *)&un, sizeof un), 0);
    assert_int_equal(close(left), 0); // its file stays
    assert_int_equal(open_at(&l, p.text, &err), SHOAL_OK);
    assert_int_equal(open_at(&m, p.text, &err), SHOAL_ERR_IO);
    assert_non_null(strstr(err.message, p.path));
    assert_int_equal(connect_to(&s, p.text, NULL), SHOAL_OK); // the first is unharmed
    sh_stream_close(s);
    sh_listener_close(l);
    assert_int_equal(connect_to(&s, p.text, &err), SHOAL_ERR_PEER);
    assert_non_null(strstr(err.message, p.path));
    assert_int_equal(rmdir(p.folder), 0);
}

static void unix__what_is_no_socket_is_left_alone(void **state)
{
    const struct place p = make_place();
    struct sh_listener *l;
    FILE *f = fopen(p.path, "w");

    (void)state;
    assert_non_null(f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(open_at(&l, p.text, NULL), SHOAL_ERR_IO);
    assert_int_equal(unlink(p.path), 0);
    assert_int_equal(rmdir(p.folder), 0);
    assert_int_equal(open_at(&l, p.text, NULL), SHOAL_ERR_IO); // no such folder
}

/* A listener whose file was replaced by another's leaves that one alone. */
static void unix__another_ones_file_stays(void **state)
{
    const struct place p = make_place();
    struct sh_listener *l, *m;
    struct stat sb;

    (void)state;
    assert_int_equal(open_at(&l, p.text, NULL), SHOAL_OK);
    assert_int_equal(unlink(p.path), 0);
    assert_int_equal(open_at(&m, p.text, NULL), SHOAL_OK);
    sh_listener_close(l);
    assert_int_equal(stat(p.path, &sb), 0);
    sh_listener_close(m);
    assert_int_equal(rmdir(p.folder), 0);
}

static void unix__paths_are_absolute_and_short(void **state)
{
    char longest[100] = "unix:/", too_long[100] = "unix:/";
    struct shoal_error err = SHOAL_ERROR_INIT;
    char printed[SH_ADDRESS_TEXT_MAX];
    struct sh_address list[SH_ADDRESSES_MAX];
    struct sh_endpoint ep;
    int n;

    (void)state;
    memset(longest + 6, 'a', 65);
    memset(too_long + 6, 'a', 66);
    assert_int_equal(sh_endpoint_parse(&ep, longest, 50052, NULL), SHOAL_OK);
    assert_int_equal(sh_address_resolve(list, &n, &ep, true, NULL), SHOAL_OK);
    sh_address_format(&list[0], printed);
    assert_string_equal(printed, longest);
    assert_int_equal(sh_endpoint_parse(&ep, too_long, -1, &err), SHOAL_ERR_ARG);
    assert_non_null(strstr(err.message, "67 letters"));
    assert_int_equal(sh_endpoint_parse(&ep, "unix:sock", -1, &err), SHOAL_ERR_ARG);
    assert_non_null(strstr(err.message, "unix:sock"));
    assert_int_equal(sh_endpoint_parse(&ep, "unix:", -1, &err), SHOAL_ERR_ARG);
    assert_int_equal(sh_endpoint_parse(&ep, "unix:/", -1, &err), SHOAL_ERR_ARG);
}

/* ---- peeking --------------------------------------------------------------------------------*/

static void peek__what_was_looked_at_comes_again(void **state)
{
    struct sh_pace pace = sh_pace_until(sh_deadline_in(&sh_clock_system, LONG));
    struct sh_stream *a, *b, *p;
    char got[12] = "";

    (void)state;
    assert_int_equal(sh_stream_pair(&a, &b, 64, NULL), SHOAL_OK);
    assert_int_equal(sh_peek_open(&p, b, NULL, NULL, NULL), SHOAL_OK);
    assert_string_equal(p->peer, b->peer);
    assert_int_equal(sh_stream_write_full(a, "shoal and more", 14, &pace, NULL), SHOAL_OK);
    assert_int_equal(sh_peek(p, got, 1, &pace, NULL), SHOAL_OK);
    assert_int_equal(got[0], 's');
    assert_int_equal(sh_peek(p, got, 5, &pace, NULL), SHOAL_OK);
    assert_string_equal(got, "shoal");
    assert_int_equal(p->bytes_read, 0);
    memset(got, 0, sizeof got);
    assert_int_equal(sh_stream_read_full(p, got, 2, &pace, NULL), SHOAL_OK);
    assert_string_equal(got, "sh");
    assert_int_equal(sh_peek(p, got, 4, &pace, NULL), SHOAL_OK); // of what is unread
    assert_string_equal(got, "oal ");
    assert_int_equal(sh_stream_read_full(p, got, 10, &pace, NULL), SHOAL_OK);
    assert_memory_equal(got, "oal and mo", 10);
    assert_int_equal(p->bytes_read, 12);
    assert_int_equal(sh_stream_write_full(p, "back", 4, &pace, NULL), SHOAL_OK);
    assert_int_equal(sh_stream_read_full(a, got, 4, &pace, NULL), SHOAL_OK);
    assert_memory_equal(got, "back", 4);
    sh_stream_close(a);
    assert_true(sh_stream_hung_up(p));
    sh_stream_close(p);
}

static void peek__ends_and_limits_are_errors(void **state)
{
    struct sh_pace pace = sh_pace_until(sh_now_ns(&sh_clock_system) + SH_MS);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_stream *a, *b, *p;
    char got[4];
    size_t n;

    (void)state;
    assert_int_equal(sh_stream_pair(&a, &b, 64, NULL), SHOAL_OK);
    assert_int_equal(sh_peek_open(&p, b, NULL, NULL, NULL), SHOAL_OK);
    assert_int_equal(sh_peek(p, got, 1, &pace, &err), SHOAL_ERR_TIMEOUT);
    pace = sh_pace_until(sh_deadline_in(&sh_clock_system, LONG));
    assert_int_equal(sh_stream_write_full(a, "ab", 2, &pace, NULL), SHOAL_OK);
    sh_stream_close(a);
    assert_int_equal(sh_peek(p, got, 4, &pace, &err), SHOAL_ERR_PEER);
    assert_non_null(strstr(err.message, "after 2 bytes"));
    assert_int_equal(sh_stream_read_full(p, got, 2, &pace, NULL), SHOAL_OK); // still there
    assert_int_equal(sh_stream_read_some(p, got, 1, &pace, &n, NULL), SHOAL_OK);
    assert_int_equal(n, 0);
    sh_stream_cut(p);
    assert_int_equal(sh_peek(p, got, 1, &pace, NULL), SHOAL_ERR_CANCELLED);
    sh_stream_close(p);
}

static void count_up(void *self)
{
    ++*(int *)self;
}

static void peek__says_when_it_closes_and_what_was_heard(void **state)
{
    struct sh_pace pace = sh_pace_until(sh_deadline_in(&sh_clock_system, LONG));
    struct sh_stream *a, *b, *p;
    char got[2];
    int n = 0;

    (void)state;
    assert_int_equal(sh_stream_pair(&a, &b, 64, NULL), SHOAL_OK);
    assert_int_equal(sh_peek_open(&p, b, count_up, &n, NULL), SHOAL_OK);
    assert_false(sh_peek_heard(p));
    assert_int_equal(sh_stream_write_full(a, "ab", 2, &pace, NULL), SHOAL_OK);
    assert_true(sh_peek_heard(p)); // not read yet
    assert_int_equal(sh_stream_read_full(p, got, 2, &pace, NULL), SHOAL_OK);
    assert_true(sh_peek_heard(p));
    assert_int_equal(n, 0);
    sh_stream_close(p);
    assert_int_equal(n, 1);
    sh_stream_close(a);
}

static void peek__no_memory_closes_the_stream(void **state)
{
    struct sh_stream *a, *b, *p;

    (void)state;
    assert_int_equal(sh_stream_pair(&a, &b, 64, NULL), SHOAL_OK);
    sh_mem_fail_after(0);
    assert_int_equal(sh_peek_open(&p, b, NULL, NULL, NULL), SHOAL_ERR_NOMEM);
    sh_mem_fail_after(-1);
    assert_null(p);
    assert_true(sh_stream_hung_up(a));
    sh_stream_close(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unix__carries_bytes_both_ways),
        cmocka_unit_test(unix__a_file_left_behind_is_replaced_one_in_use_is_not),
        cmocka_unit_test(unix__what_is_no_socket_is_left_alone),
        cmocka_unit_test(unix__another_ones_file_stays),
        cmocka_unit_test(unix__paths_are_absolute_and_short),
        cmocka_unit_test(peek__what_was_looked_at_comes_again),
        cmocka_unit_test(peek__ends_and_limits_are_errors),
        cmocka_unit_test(peek__says_when_it_closes_and_what_was_heard),
        cmocka_unit_test(peek__no_memory_closes_the_stream),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
