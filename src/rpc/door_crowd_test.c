/* The door when many come at once, slowly, or with nothing to say. */
#include "rpc/door_rig_test.h"

/* ---- crowds ---------------------------------------------------------------------------------*/

enum { CROWD = 400 };

static void door__a_silent_crowd_has_few_places_and_delays_nobody(void **state)
{
    struct sh_key_entry key;
    int fd[CROWD];
    struct rig r;

    (void)state;
    open_rig(&r, true, (struct sh_door_options){.log_lines_max = 3});
    key = make_key(&r, "laptop");
    for (int i = 0; i < CROWD; i++)
        fd[i] = visit_from(&r, 1); // the honest one's own address
    wait_for(&r, have_come, CROWD);
    wait_for(&r, are_greeting, 8);
    an_honest_one_gets_in(&r, &key);
    leave(fd, CROWD);
    wait_for(&r, are_greeting, 0);

    for (int i = 0; i < CROWD; i++)
        fd[i] = visit_from(&r, 2 + i % 100);
    wait_for(&r, have_come, 2 * CROWD + 1);
    wait_for(&r, are_greeting, 32);
    an_honest_one_gets_in(&r, &key);
    leave(fd, CROWD);
    close_rig(&r);
}

static void door__a_crowd_that_says_little_gives_way(void **state)
{
    struct sh_key_entry key;
    int fd[CROWD];
    struct rig r;

    (void)state;
    open_rig(&r, true, (struct sh_door_options){.log_lines_max = 3});
    key = make_key(&r, "laptop");
    for (int i = 0; i < CROWD; i++) {
        fd[i] = visit_from(&r, 2 + i % 5); // fewer addresses than fill all places
        (void)send(fd[i], "\x16\x03\x01", 3, MSG_NOSIGNAL);
    }
    wait_for(&r, have_come, CROWD);
    wait_for(&r, are_greeting, 32);
    an_honest_one_gets_in(&r, &key);
    leave(fd, CROWD);
    close_rig(&r);
}

/* Who has sent something stays before who has not, of one address. */
static void door__the_silent_go_first(void **state)
{
    struct rig r;
    int heard, fd[9];
    char text[64];

    (void)state;
    open_rig(&r, true, (struct sh_door_options){.greeting_per_address_max = 3});
    heard = visit_from(&r, 1);
    say(heard, "\x16", 1);
    for (int i = 0; i < 9; i++) {
        fd[i] = visit_from(&r, 1);
        wait_for(&r, have_come, i + 2);
    }
    for (int i = 0; i < 7; i++)
        assert_int_equal(hear(fd[i], text, sizeof text), 0); // gave way, the oldest first
    struct pollfd p = {.fd = heard, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0); // still there
    leave(fd, 9);
    assert_int_equal(close(heard), 0);
    close_rig(&r);
}

static void door__a_drip_has_an_end(void **state)
{
    struct rig r;

    (void)state;
    for (int with_keys = 0; with_keys < 2; with_keys++) {
        open_rig(&r, with_keys, (struct sh_door_options){.greeting_ns = 300 * SH_MS});
        const int silent = visit_from(&r, 1), drip = visit_from(&r, 1);
        struct pollfd p = {.fd = drip, .events = POLLIN};
        uint8_t hello[1024] = {22, 3, 1, 2, 0, 1, 0, 1, 252};
        for (size_t i = 0; with_keys && i < sizeof hello && poll(&p, 1, 20) == 0; i++)
            (void)send(drip, &hello[i], 1, MSG_NOSIGNAL);
        ends_unanswered(silent);
        ends_unanswered(drip);
        close_rig(&r);
    }
    assert_true(is_logged("TLS handshake in time"));
}

static void door__too_many_bytes_of_a_greeting_end_it(void **state)
{
    static uint8_t record[5 + 16384];
    struct rig r;
    int fd;

    (void)state;
    open_rig(&r, true, (struct sh_door_options){.listen = "127.0.0.1:0"});
    // A ClientHello that says it is 100,000 bytes long, in records that are as long as may be.
    memcpy(record, "\x16\x03\x01\x40\x00\x01\x01\x86\xa0", 9);
    fd = visit_from(&r, 1);
    for (int i = 0; i < 20; i++) {
        if (send(fd, record, sizeof record, MSG_NOSIGNAL) < 0) break;
        memcpy(record + 5, "\0\0\0\0", 4);
    }
    char text[64];
    (void)hear(fd, text, sizeof text); // perhaps an alert
    (void)hear(fd, text, sizeof text);
    assert_int_equal(close(fd), 0);
    assert_int_equal(r.server->n_served, 0);
    close_rig(&r);
}

static void door__inside_there_are_limits_too(void **state)
{
    const struct sh_door_options opt = {.connections_max = 3, .connections_per_address_max = 2};
    struct rig r;
    char text[64];
    int fd[4];

    (void)state;
    open_rig(&r, false, opt);
    for (int i = 0; i < 4; i++) {
        fd[i] = visit_from(&r, 1 + i / 3);
        say(fd[i], "s", 1);
        assert_int_equal(hear(fd[i], text, sizeof text), i == 2 ? 0 : 10);
    }
    const int more = visit_from(&r, 3);
    say(more, "s", 1);
    ends_unanswered(more);
    assert_true(is_logged("there are 2 connections from its address already"));
    assert_true(is_logged("there are 3 connections already"));
    assert_int_equal(close(fd[0]), 0);
    wait_for(&r, have_ended, 1);
    leave(fd + 1, 3);
    close_rig(&r);
}

static void door__lines_are_few(void **state)
{
    struct rig r;
    int logged;

    (void)state;
    const int64_t began = sh_now_ns(&sh_clock_system) / SH_SECOND;
    open_rig(&r, false, (struct sh_door_options){.log_lines_max = 2});
    for (int i = 0; i < 100; i++) {
        const int fd = visit_from(&r, 1);
        say(fd, "x", 1);
        ends_unanswered(fd);
    }
    close_rig(&r);
    logged = count_logged("connection refused");
    assert_true(logged >= 1);
    assert_true(logged <= 2 * (sh_now_ns(&sh_clock_system) / SH_SECOND - began + 1));
    if (logged < 100) assert_true(is_logged("were left out"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(door__a_silent_crowd_has_few_places_and_delays_nobody),
        cmocka_unit_test(door__a_crowd_that_says_little_gives_way),
        cmocka_unit_test(door__the_silent_go_first),
        cmocka_unit_test(door__a_drip_has_an_end),
        cmocka_unit_test(door__too_many_bytes_of_a_greeting_end_it),
        cmocka_unit_test(door__inside_there_are_limits_too),
        cmocka_unit_test(door__lines_are_few),
    };

    sh_mutex_init(&g_log_lock);
    sh_log_set_sink(keep_line, NULL, SH_LOG_INFO);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
