/* Addresses, paces, streams over memory and TCP, the listener. */
#include "net/listener.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "base/thread.h"

/* ---- addresses ------------------------------------------------------------------------------*/

static void address__parses_the_written_forms(void **state)
{
    static const struct {
        const char *text;
        int default_port;
        const char *host;
        unsigned port;
    } rows[] = {
        {"10.1.2.3:50052", -1, "10.1.2.3", 50052},
        {"[::1]:7", -1, "::1", 7},
        {"[fe80::1%lo]:65535", -1, "fe80::1%lo", 65535},
        {":0", -1, "", 0},
        {"box", 50052, "box", 50052},
        {"fe80::1", 50052, "fe80::1", 50052},
        {"[::]", 9, "::", 9},
        {"box:1", 50052, "box", 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sh_endpoint ep;
        struct shoal_error err = SHOAL_ERROR_INIT;
        assert_int_equal(sh_endpoint_parse(&ep, rows[i].text, rows[i].default_port, &err),
                         SHOAL_OK);
        assert_string_equal(ep.host, rows[i].host);
        assert_int_equal(ep.port, rows[i].port);
    }
}

static void address__refuses_nonsense_naming_it(void **state)
{
    static const char *const rows[] = {"",
                                       "box",
                                       "box:",
                                       "box:x",
                                       "box:65536",
                                       "[::1",
                                       "[::1]x",
                                       "[]:5",
                                       "a:b:c",
                                       "box: 1",
                                       "box:-1",
                                       ":",
                                       "box:99999999999999999999"};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sh_endpoint ep;
        struct shoal_error err = SHOAL_ERROR_INIT;
        assert_int_equal(sh_endpoint_parse(&ep, rows[i], -1, &err), SHOAL_ERR_ARG);
        assert_non_null(strstr(err.message, "address"));
        assert_non_null(strstr(err.message, rows[i]));
    }
}

static void address__what_is_printed_parses_again(void **state)
{
    static const struct {
        const char *text, *printed;
        bool loopback;
    } rows[] = {
        {"127.0.0.1:80", "127.0.0.1:80", true},
        {"127.9.9.9:80", "127.9.9.9:80", true},
        {"[::1]:80", "[::1]:80", true},
        {"0.0.0.0:80", "0.0.0.0:80", false},
        {"[::]:80", "[::]:80", false},
        {"192.0.2.7:1", "192.0.2.7:1", false},
        {"[2001:db8::5]:1", "[2001:db8::5]:1", false},
        {"[::ffff:127.0.0.1]:5", "[::ffff:127.0.0.1]:5", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sh_endpoint ep;
        struct sh_address list[SH_ADDRESSES_MAX];
        char text[SH_ADDRESS_TEXT_MAX];
        int n;
        assert_int_equal(sh_endpoint_parse(&ep, rows[i].text, -1, NULL), SHOAL_OK);
        assert_int_equal(sh_address_resolve(list, &n, &ep, false, NULL), SHOAL_OK);
        assert_true(n >= 1);
        sh_address_format(&list[0], text);
        assert_string_equal(text, rows[i].printed);
        assert_int_equal(sh_address_is_loopback(&list[0]), rows[i].loopback);
        assert_int_equal(sh_endpoint_parse(&ep, text, -1, NULL), SHOAL_OK);
    }
}

static void address__hosts_compare_across_families(void **state)
{
    struct sh_address list[2][SH_ADDRESSES_MAX];
    struct sh_endpoint ep;
    int n;

    (void)state;
    assert_int_equal(sh_endpoint_parse(&ep, "192.0.2.7:1", -1, NULL), SHOAL_OK);
    assert_int_equal(sh_address_resolve(list[0], &n, &ep, false, NULL), SHOAL_OK);
    assert_int_equal(sh_endpoint_parse(&ep, "[::ffff:192.0.2.7]:2", -1, NULL), SHOAL_OK);
    assert_int_equal(sh_address_resolve(list[1], &n, &ep, false, NULL), SHOAL_OK);
    assert_true(sh_address_same_host(&list[0][0], &list[1][0]));
    assert_int_equal(sh_endpoint_parse(&ep, "192.0.2.8:1", -1, NULL), SHOAL_OK);
    assert_int_equal(sh_address_resolve(list[1], &n, &ep, false, NULL), SHOAL_OK);
    assert_false(sh_address_same_host(&list[0][0], &list[1][0]));
}

/* ---- pace -----------------------------------------------------------------------------------*/

static void pace__stall_window_and_end_each_bind(void **state)
{
    struct sh_pace p = sh_pace_rate(10, 100, 1000);

    (void)state;
    sh_pace_start(&p, 1000);
    assert_int_equal(sh_pace_left(&p, 1000), 10);
    sh_pace_moved(&p, 1005, 1);
    assert_int_equal(sh_pace_left(&p, 1005), 10);
    assert_int_equal(sh_pace_left(&p, 1015), 0); // stalled
    for (int64_t now = 1010; now < 1100; now += 9)
        sh_pace_moved(&p, now, 1);
    assert_int_equal(sh_pace_left(&p, 1100), 0); // never stalled, but too few in the window
    sh_pace_moved(&p, 1100, 2000);
    assert_int_equal(sh_pace_left(&p, 1100), 10); // enough: a new window
    assert_int_equal(sh_pace_left(&p, 1109), 1);

    p = sh_pace_until(500);
    sh_pace_start(&p, 100);
    assert_int_equal(sh_pace_left(&p, 200), 300);
    assert_int_equal(sh_pace_left(&p, 500), 0);
    p = sh_pace_until(SH_NO_DEADLINE);
    sh_pace_start(&p, 100);
    assert_true(sh_pace_left(&p, 200) == SH_NO_DEADLINE);
}

/* ---- streams --------------------------------------------------------------------------------*/

static void open_tcp_pair(struct sh_stream **a, struct sh_stream **b)
{
    const struct sh_tcp_options opt = {.user_timeout_ms = 30000};
    struct sh_listener *l;
    struct sh_address peer;
    struct sh_endpoint ep;

    assert_int_equal(sh_endpoint_parse(&ep, "127.0.0.1:0", -1, NULL), SHOAL_OK);
    assert_int_equal(sh_listener_open(&l, &ep, NULL), SHOAL_OK);
    assert_true(sh_address_port(sh_listener_address(l)) != 0);
    assert_int_equal(sh_endpoint_parse(&ep, sh_listener_text(l), -1, NULL), SHOAL_OK);
    assert_int_equal(sh_tcp_connect(a, &ep, 5 * SH_SECOND, &opt, NULL), SHOAL_OK);
    assert_int_equal(sh_listener_accept(l, 5 * SH_SECOND, &opt, b, &peer, NULL), SHOAL_OK);
    assert_true(sh_address_is_loopback(&peer));
    assert_string_equal((*a)->peer, sh_listener_text(l));
    sh_listener_close(l);
}

static void open_pair(void *kind, struct sh_stream **a, struct sh_stream **b)
{
    if (kind) {
        open_tcp_pair(a, b);
    } else {
        assert_int_equal(sh_stream_pair(a, b, 1000, NULL), SHOAL_OK);
    }
}

static struct sh_pace until_seconds(int s)
{
    return sh_pace_until(sh_deadline_in(&sh_clock_system, s * SH_SECOND));
}

#define MOVED_BYTES ((size_t)3 << 20)

static void *send_all(void *arg)
{
    struct sh_stream *s = arg;
    struct sh_pace pace = until_seconds(20);
    uint8_t *bytes = sh_malloc(MOVED_BYTES);
    enum shoal_status st;

    assert_non_null(bytes);
    for (size_t i = 0; i < MOVED_BYTES; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    struct iovec v[4] = {{bytes, 0}, {bytes, 5}, {bytes + 5, 0}, {bytes + 5, MOVED_BYTES - 5}};
    st = sh_stream_writev_full(s, v, 4, &pace, NULL);
    sh_free(bytes);
    sh_stream_close(s);
    return (void *)(intptr_t)st;
}

static void stream__moves_all_bytes_then_ends(void **state)
{
    struct sh_stream *a, *b;
    struct sh_thread thread;
    struct sh_pace pace = until_seconds(20);
    uint8_t *got = sh_malloc(MOVED_BYTES);
    size_t n;
    uint8_t one;

    open_pair(*state, &a, &b);
    assert_int_equal(sh_thread_start(&thread, "send", send_all, a, NULL), SHOAL_OK);
    assert_int_equal(sh_stream_read_full(b, got, MOVED_BYTES, &pace, NULL), SHOAL_OK);
    sh_thread_join(&thread);
    for (size_t i = 0; i < MOVED_BYTES; i++)
        assert_int_equal(got[i], (uint8_t)(i * 7 + i / 251));
    assert_int_equal(sh_stream_read_some(b, &one, 1, &pace, &n, NULL), SHOAL_OK);
    assert_int_equal(n, 0);
    assert_int_equal(atomic_load(&b->bytes_read), MOVED_BYTES);
    sh_free(got);
    sh_stream_close(b);
}

static void stream__end_inside_a_message_names_the_peer(void **state)
{
    struct sh_stream *a, *b;
    struct sh_pace pace = until_seconds(10);
    struct shoal_error err = SHOAL_ERROR_INIT;
    char buf[8];

    open_pair(*state, &a, &b);
    assert_int_equal(sh_stream_write_full(a, "abc", 3, &pace, NULL), SHOAL_OK);
    sh_stream_close(a);
    assert_int_equal(sh_stream_read_full(b, buf, 4, &pace, &err), SHOAL_ERR_PEER);
    assert_string_equal(err.peer, b->peer);
    assert_non_null(strstr(err.message, "middle of a message"));
    assert_true(sh_stream_hung_up(b));
    sh_stream_close(b);
}

static void stream__silence_and_a_full_pipe_time_out(void **state)
{
    struct sh_stream *a, *b;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_pace pace = sh_pace_rate(50 * SH_MS, SH_NO_DEADLINE, 0);
    const size_t big = (size_t)64 << 20;
    uint8_t *zeros = sh_calloc(big, 1);
    char one;

    open_pair(*state, &a, &b);
    sh_pace_start(&pace, sh_now_ns(&sh_clock_system));
    assert_int_equal(sh_stream_read_full(b, &one, 1, &pace, &err), SHOAL_ERR_TIMEOUT);
    assert_string_equal(err.peer, b->peer);
    assert_false(sh_stream_hung_up(b));
    sh_pace_start(&pace, sh_now_ns(&sh_clock_system));
    assert_int_equal(sh_stream_write_full(a, zeros, big, &pace, &err), SHOAL_ERR_TIMEOUT);
    sh_free(zeros);
    sh_stream_close(a);
    sh_stream_close(b);
}

static void *read_blocked(void *arg)
{
    struct sh_pace pace = sh_pace_until(SH_NO_DEADLINE);
    char one;

    return (void *)(intptr_t)sh_stream_read_full(arg, &one, 1, &pace, NULL);
}

static void stream__cut_ends_a_blocked_read_and_all_later_calls(void **state)
{
    struct sh_stream *a, *b;
    struct sh_pace pace = until_seconds(10);
    pthread_t thread;
    void *result;

    open_pair(*state, &a, &b);
    assert_int_equal(pthread_create(&thread, NULL, read_blocked, b), 0);
    sh_stream_cut(b);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal((intptr_t)result, SHOAL_ERR_CANCELLED);
    assert_int_equal(sh_stream_write_full(b, "x", 1, &pace, NULL), SHOAL_ERR_CANCELLED);
    sh_stream_close(b);
    sh_stream_close(a);
}

/* ---- connecting and listening ---------------------------------------------------------------*/

static void tcp__refused_is_a_sentence_with_the_address(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    const struct sh_tcp_options opt = {0};
    struct sh_listener *l;
    struct sh_stream *s;
    struct sh_endpoint ep;
    char text[SH_ADDRESS_TEXT_MAX];

    (void)state;
    assert_int_equal(sh_endpoint_parse(&ep, "127.0.0.1:0", -1, NULL), SHOAL_OK);
    assert_int_equal(sh_listener_open(&l, &ep, NULL), SHOAL_OK);
    (void)snprintf(text, sizeof text, "%s", sh_listener_text(l));
    sh_listener_close(l);
    assert_int_equal(sh_endpoint_parse(&ep, text, -1, NULL), SHOAL_OK);
    assert_int_equal(sh_tcp_connect(&s, &ep, SH_SECOND, &opt, &err), SHOAL_ERR_PEER);
    assert_null(s);
    assert_non_null(strstr(err.message, text));
    assert_non_null(strstr(err.message, "refused"));
    assert_string_equal(err.peer, text);
}

static void tcp__unknown_names_and_taken_ports_are_errors(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_listener *l, *m;
    struct sh_endpoint ep;

    (void)state;
    assert_int_equal(sh_endpoint_parse(&ep, "no such host:1", -1, NULL), SHOAL_OK);
    assert_int_equal(sh_listener_open(&l, &ep, &err), SHOAL_ERR_NOT_FOUND);
    assert_int_equal(sh_endpoint_parse(&ep, "127.0.0.1:0", -1, NULL), SHOAL_OK);
    assert_int_equal(sh_listener_open(&l, &ep, &err), SHOAL_OK);
    assert_int_equal(sh_endpoint_parse(&ep, sh_listener_text(l), -1, NULL), SHOAL_OK);
    assert_int_equal(sh_listener_open(&m, &ep, &err), SHOAL_ERR_IO);
    assert_non_null(strstr(err.message, sh_listener_text(l)));
    sh_listener_close(l);
}

static void *accept_blocked(void *arg)
{
    const struct sh_tcp_options opt = {0};
    struct sh_stream *s;
    struct sh_address peer;

    return (void *)(intptr_t)sh_listener_accept(arg, SH_NO_DEADLINE, &opt, &s, &peer, NULL);
}

static void listener__interrupt_wakes_an_accept(void **state)
{
    struct sh_listener *l;
    struct sh_endpoint ep;
    pthread_t thread;
    void *result;

    (void)state;
    assert_int_equal(sh_endpoint_parse(&ep, "[::1]:0", -1, NULL), SHOAL_OK);
    if (sh_listener_open(&l, &ep, NULL)) { // a machine without IPv6
        assert_int_equal(sh_endpoint_parse(&ep, "127.0.0.1:0", -1, NULL), SHOAL_OK);
        assert_int_equal(sh_listener_open(&l, &ep, NULL), SHOAL_OK);
    }
    assert_int_equal(pthread_create(&thread, NULL, accept_blocked, l), 0);
    sh_listener_interrupt(l);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal((intptr_t)result, SHOAL_ERR_CANCELLED);
    sh_listener_close(l);
}

#define BOTH(f)                                                                                    \
    {#f " (memory)", f, NULL, NULL, NULL},                                                         \
    {                                                                                              \
#f " (tcp)", f, NULL, NULL, g_tcp                                                          \
    }

static char g_tcp[] = "tcp";

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(address__parses_the_written_forms),
        cmocka_unit_test(address__refuses_nonsense_naming_it),
        cmocka_unit_test(address__what_is_printed_parses_again),
        cmocka_unit_test(address__hosts_compare_across_families),
        cmocka_unit_test(pace__stall_window_and_end_each_bind),
        BOTH(stream__moves_all_bytes_then_ends),
        BOTH(stream__end_inside_a_message_names_the_peer),
        BOTH(stream__silence_and_a_full_pipe_time_out),
        BOTH(stream__cut_ends_a_blocked_read_and_all_later_calls),
        cmocka_unit_test(tcp__refused_is_a_sentence_with_the_address),
        cmocka_unit_test(tcp__unknown_names_and_taken_ports_are_errors),
        cmocka_unit_test(listener__interrupt_wakes_an_accept),
    };

    return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
