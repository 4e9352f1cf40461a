/* The door: who gets in and who does not. */
#include "rpc/door_rig_test.h"

/* ---- first bytes ----------------------------------------------------------------------------*/

static void door__tells_protocols_by_their_first_byte(void **state)
{
    const struct sh_door_options opt = {.foreign = serve_foreign};
    struct rig r;

    (void)state;
    open_rig(&r, false, opt);
    for (int first = 0; first < 256; first++) {
        const uint8_t byte = (uint8_t)first;
        const int fd = visit_from(&r, 1);
        char text[64];
        say(fd, &byte, 1);
        if (first != 14 && first != 's') {
            ends_unanswered(fd);
            continue;
        }
        assert_true(hear(fd, text, sizeof text) > 0);
        assert_string_equal(text, first == 14 ? "foreign\n" : "- - - 0 1\n");
        assert_int_equal(close(fd), 0);
    }
    assert_int_equal(r.n_foreign, 1);
    wait_for(&r, have_ended, 1);
    assert_true(is_logged("speaks TLS, and this worker has no keys"));
    assert_int_equal(count_logged("speaks no protocol of this worker"), 253);
    close_rig(&r);
}

static void door__without_a_foreign_protocol_its_byte_is_like_any_other(void **state)
{
    struct rig r;
    int fd;

    (void)state;
    open_rig(&r, false, (struct sh_door_options){.listen = "127.0.0.1:0"});
    fd = visit_from(&r, 1);
    say(fd, "\x0e", 1);
    ends_unanswered(fd);
    close_rig(&r);
}

static void door__with_keys_only_tls_is_answered(void **state)
{
    const struct sh_door_options opt = {.foreign = serve_foreign};
    struct rig r;

    (void)state;
    open_rig(&r, true, opt);
    for (int first = 0; first < 256; first++) {
        const uint8_t byte = (uint8_t)first;
        if (first == SH_TLS_FIRST_BYTE) continue;
        const int fd = visit_from(&r, 1);
        say(fd, &byte, 1);
        ends_unanswered(fd);
    }
    assert_int_equal(r.n_foreign, 0);
    assert_int_equal(r.server->n_served, 0);
    wait_for(&r, are_refused, 255); // the line comes after the end
    close_rig(&r);
}

static void door__a_unix_socket_is_one_of_this_machine(void **state)
{
    char folder[] = "/tmp/shoal-sock-XXXXXX", listen[64], out[2][SH_ADDRESS_TEXT_MAX], line[64];
    struct sh_pace pace = sh_pace_until(sh_deadline_in(&sh_clock_system, LONG));
    const struct sh_tcp_options tcp = {.unsent_max = 0};
    struct sh_endpoint ep;
    struct sh_stream *s;
    struct rig r;

    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(listen, sizeof listen, "unix:%s/s", folder);
    open_rig(&r, false, (struct sh_door_options){.listen = listen});
    assert_string_equal(sh_door_address(r.door), listen);
    assert_int_equal(sh_door_addresses(r.door, out, 2), 0);
    assert_int_equal(sh_endpoint_parse(&ep, listen, -1, NULL), SHOAL_OK);
    assert_int_equal(sh_tcp_connect(&s, &ep, LONG, &tcp, NULL), SHOAL_OK);
    assert_int_equal(sh_stream_write_full(s, "s", 1, &pace, NULL), SHOAL_OK);
    read_line(s, line, sizeof line);
    assert_string_equal(line, "- - - 0 1\n");
    sh_stream_close(s);
    close_rig(&r);
    assert_int_equal(rmdir(folder), 0);
}

/* ---- keys -----------------------------------------------------------------------------------*/

static void door__a_key_opens_and_names_its_owner(void **state)
{
    struct sh_key_entry laptop, desk;
    struct sh_stream *s;
    char line[200], want[200];
    struct rig r;

    (void)state;
    open_rig(&r, true, (struct sh_door_options){.listen = "127.0.0.1:0"});
    laptop = make_key(&r, "laptop");
    desk = make_key(&r, "desk");
    const struct sh_key_entry *const keys[] = {&laptop, &desk};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(dial_key(&r, &s, keys[i], NULL), SHOAL_OK);
        read_line(s, line, sizeof line);
        (void)snprintf(want, sizeof want, "%s %s - 1 1\n", keys[i]->kid, keys[i]->name);
        assert_string_equal(line, want);
        sh_tls_shutdown(s, LONG);
        sh_stream_close(s);
        wait_for(&r, have_ended, i + 1);
        assert_int_equal(r.server->last_end, SHOAL_OK);
    }
    close_rig(&r);
}

static void door__an_end_without_a_word_is_a_loss(void **state)
{
    struct sh_key_entry key;
    struct sh_stream *s;
    char line[200];
    struct rig r;

    (void)state;
    open_rig(&r, true, (struct sh_door_options){.listen = "127.0.0.1:0"});
    key = make_key(&r, "laptop");
    assert_int_equal(dial_key(&r, &s, &key, NULL), SHOAL_OK);
    read_line(s, line, sizeof line);
    sh_stream_close(s); // no close_notify
    wait_for(&r, have_ended, 1);
    assert_int_equal(r.server->last_end, SHOAL_ERR_PEER);
    close_rig(&r);
}

static void door__wrong_unknown_and_reflected_look_the_same(void **state)
{
    struct sh_key_entry known, other = {.name = ""};
    struct shoal_error err = SHOAL_ERROR_INIT;
    char identity[4][40], first[320] = "";
    const struct sh_key *key[4];
    struct sh_stream *s;
    struct rig r;

    (void)state;
    open_rig(&r, true, (struct sh_door_options){.listen = "127.0.0.1:0"});
    known = make_key(&r, "laptop");
    assert_int_equal(sh_key_make(&other.key, NULL), SHOAL_OK);
    assert_int_equal(sh_key_id(other.kid, &other.key, NULL), SHOAL_OK);
    // The right name with a wrong key; a name that nobody has; the right key in another role; the
    // right key under the form of a link.
    (void)snprintf(identity[0], sizeof identity[0], "v1|%s|c2w", known.kid);
    (void)snprintf(identity[1], sizeof identity[1], "v1|%s|c2w", other.kid);
    (void)snprintf(identity[2], sizeof identity[2], "v1|%s|w2c", known.kid);
    (void)snprintf(identity[3], sizeof identity[3], "v1|link|%s", known.kid);
    key[0] = key[1] = &other.key;
    key[2] = key[3] = &known.key;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(dial(&r, &s, identity[i], key[i], &err), SHOAL_ERR_PEER);
        assert_null(s);
        if (i == 0) (void)snprintf(first, sizeof first, "%s", err.message);
        assert_string_equal(err.message, first);
    }
    assert_non_null(strstr(first, "does not accept this key"));
    assert_int_equal(r.server->n_served, 0);
    an_honest_one_gets_in(&r, &known);
    close_rig(&r);
}

static void door__expected_links_come_in(void **state)
{
    struct sh_stream *s;
    char line[200];
    struct rig r;

    (void)state;
    open_rig(&r, true, (struct sh_door_options){.listen = "127.0.0.1:0"});
    assert_int_equal(dial(&r, &s, "v1|link|7|b|a", &r.server->link_key, NULL), SHOAL_ERR_PEER);
    assert_int_equal(dial(&r, &s, "v1|link|7|a|b", &r.server->link_key, NULL), SHOAL_OK);
    read_line(s, line, sizeof line);
    assert_string_equal(line, "- - v1|link|7|a|b 1 1\n");
    sh_stream_close(s);
    close_rig(&r);
}

static void door__tls_at_a_plain_door_is_a_clear_sentence(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_stream *s;
    struct sh_key key;
    struct rig r;

    (void)state;
    open_rig(&r, false, (struct sh_door_options){.listen = "127.0.0.1:0"});
    assert_int_equal(sh_key_make(&key, NULL), SHOAL_OK);
    assert_int_equal(dial(&r, &s, "v1|0123456789abcdef|c2w", &key, &err), SHOAL_ERR_PEER);
    assert_non_null(strstr(err.message, sh_door_address(r.door)));
    close_rig(&r);
}

/* ---- revoking -------------------------------------------------------------------------------*/

static void door__a_revoked_key_ends_at_once_and_opens_nothing(void **state)
{
    struct sh_key_entry laptop, desk;
    struct sh_stream *s, *t;
    char line[200];
    struct rig r;

    (void)state;
    open_rig(&r, true, (struct sh_door_options){.listen = "127.0.0.1:0"});
    laptop = make_key(&r, "laptop");
    desk = make_key(&r, "desk");
    assert_int_equal(dial_key(&r, &s, &laptop, NULL), SHOAL_OK);
    read_line(s, line, sizeof line);
    assert_int_equal(dial_key(&r, &t, &desk, NULL), SHOAL_OK);
    read_line(t, line, sizeof line);
    assert_int_equal(sh_key_store_revoke(r.folder, "laptop", NULL), SHOAL_OK);
    wait_for(&r, have_ended, 1); // by the one look at the folder a second
    assert_true(is_logged("the key \"laptop\" is revoked"));
    sh_stream_close(s);
    assert_int_equal(dial_key(&r, &s, &laptop, NULL), SHOAL_ERR_PEER);
    an_honest_one_gets_in(&r, &desk);
    sh_stream_close(t);
    // A new key of the same name is another key.
    laptop = make_key(&r, "laptop");
    an_honest_one_gets_in(&r, &laptop);
    close_rig(&r);
}

/* Another key's file that cannot be used keeps newcomers out, and revoking works all the same. */
static void door__a_broken_file_stops_no_revoking(void **state)
{
    struct sh_key_entry laptop;
    struct sh_stream *s;
    char line[200], path[100];
    struct rig r;

    (void)state;
    open_rig(&r, true, (struct sh_door_options){.listen = "127.0.0.1:0"});
    laptop = make_key(&r, "laptop");
    (void)make_key(&r, "desk");
    assert_int_equal(dial_key(&r, &s, &laptop, NULL), SHOAL_OK);
    read_line(s, line, sizeof line);
    (void)snprintf(path, sizeof path, "%s/desk", r.folder);
    assert_int_equal(chmod(path, 0644), 0); // others could read it
    assert_int_equal(sh_key_store_revoke(r.folder, "laptop", NULL), SHOAL_OK);
    wait_for(&r, have_ended, 1);
    assert_true(is_logged("nobody new is let in"));
    sh_stream_close(s);
    assert_int_equal(chmod(path, 0600), 0);
    close_rig(&r);
}

/* ---- stopping -------------------------------------------------------------------------------*/

static void door__stop_ends_those_who_greet_and_those_inside(void **state)
{
    struct rig r;
    char text[64];
    int fd[2];

    (void)state;
    open_rig(&r, false, (struct sh_door_options){.listen = "127.0.0.1:0"});
    fd[0] = visit_from(&r, 1);
    fd[1] = visit_from(&r, 1);
    say(fd[1], "s", 1);
    assert_true(hear(fd[1], text, sizeof text) > 0);
    wait_for(&r, have_come, 2);
    close_rig(&r);
    assert_int_equal(hear(fd[0], text, sizeof text), 0);
    assert_int_equal(hear(fd[1], text, sizeof text), 0);
    leave(fd, 2);
}

static void door__what_it_cannot_listen_on_is_a_sentence(void **state)
{
    struct sh_door_options opt = {.listen = "127.0.0.1:x"};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_door *d;
    struct rig r;

    (void)state;
    assert_int_equal(sh_door_open(&d, &opt, &err), SHOAL_ERR_ARG);
    assert_null(d);
    open_rig(&r, false, (struct sh_door_options){.listen = "127.0.0.1:0"});
    opt.listen = sh_door_address(r.door);
    assert_int_equal(sh_door_open(&d, &opt, &err), SHOAL_ERR_IO);
    assert_non_null(strstr(err.message, opt.listen));
    close_rig(&r);
}

static void door__says_where_it_can_be_reached(void **state)
{
    char out[4][SH_ADDRESS_TEXT_MAX];
    struct rig r;

    (void)state;
    open_rig(&r, false, (struct sh_door_options){.listen = "127.0.0.1:0"});
    assert_int_equal(sh_door_addresses(r.door, out, 4), 1);
    assert_string_equal(out[0], sh_door_address(r.door));
    close_rig(&r);
    open_rig(&r, true, (struct sh_door_options){.listen = "0.0.0.0:0"});
    const int n = sh_door_addresses(r.door, out, 4);
    for (int i = 0; i < n; i++) {
        assert_null(strstr(out[i], "0.0.0.0"));
        assert_null(strstr(out[i], "127.0.0.1"));
    }
    close_rig(&r);
}

static void door__survives_every_lack_of_memory(void **state)
{
    const struct sh_door_options opt = {.foreign = serve_foreign};
    struct rig r;

    (void)state;
    open_rig(&r, false, opt);
    for (int n = 0; n < 6; n++) {
        const int fd = visit_from(&r, 1);
        char text[64];
        sh_mem_fail_after(n);
        (void)send(fd, "\x0e", 1, MSG_NOSIGNAL);
        (void)hear(fd, text, sizeof text);
        sh_mem_fail_after(-1);
        assert_int_equal(close(fd), 0);
    }
    const int fd = visit_from(&r, 1);
    char text[64];
    say(fd, "\x0e", 1);
    assert_true(hear(fd, text, sizeof text) > 0);
    assert_int_equal(close(fd), 0);
    close_rig(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(door__tells_protocols_by_their_first_byte),
        cmocka_unit_test(door__without_a_foreign_protocol_its_byte_is_like_any_other),
        cmocka_unit_test(door__with_keys_only_tls_is_answered),
        cmocka_unit_test(door__a_unix_socket_is_one_of_this_machine),
        cmocka_unit_test(door__a_key_opens_and_names_its_owner),
        cmocka_unit_test(door__an_end_without_a_word_is_a_loss),
        cmocka_unit_test(door__wrong_unknown_and_reflected_look_the_same),
        cmocka_unit_test(door__expected_links_come_in),
        cmocka_unit_test(door__tls_at_a_plain_door_is_a_clear_sentence),
        cmocka_unit_test(door__a_revoked_key_ends_at_once_and_opens_nothing),
        cmocka_unit_test(door__a_broken_file_stops_no_revoking),
        cmocka_unit_test(door__stop_ends_those_who_greet_and_those_inside),
        cmocka_unit_test(door__what_it_cannot_listen_on_is_a_sentence),
        cmocka_unit_test(door__says_where_it_can_be_reached),
        cmocka_unit_test(door__survives_every_lack_of_memory),
    };

    sh_mutex_init(&g_log_lock);
    sh_log_set_sink(keep_line, NULL, SH_LOG_INFO);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
