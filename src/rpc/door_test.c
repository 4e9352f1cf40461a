/* The door: who gets in and who does not, with a server behind it that only says whom it serves. */
#include "rpc/door_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"

#define LONG (60 * SH_SECOND) /* for what should happen */

/* ---- the server behind ----------------------------------------------------------------------
 * These stand in for rpc/server.c, which is then not linked. */

struct sh_rpc_server {
    struct sh_mutex lock; // guards everything below
    struct sh_cond changed;
    struct sh_stream *inside[64];
    char kid[64][SH_KID_TEXT];
    int n_served, n_ended, n_revoked;
    enum shoal_status last_end;
    struct sh_key link_key;
};

static struct sh_rpc_server *new_server(void)
{
    struct sh_rpc_server *s = sh_calloc(1, sizeof *s);

    assert_non_null(s);
    sh_mutex_init(&s->lock);
    sh_cond_init(&s->changed);
    memset(s->link_key.bytes, 9, sizeof s->link_key.bytes);
    return s;
}

static void free_server(struct sh_rpc_server *s)
{
    sh_cond_release(&s->changed);
    sh_mutex_release(&s->lock);
    sh_free(s);
}

static int enter_server(struct sh_rpc_server *s, struct sh_stream *stream, const char *kid)
{
    int i = 0;

    sh_mutex_lock(&s->lock);
    while (s->inside[i])
        i++;
    s->inside[i] = stream;
    memcpy(s->kid[i], kid, SH_KID_TEXT);
    s->n_served++;
    sh_cond_broadcast(&s->changed);
    sh_mutex_unlock(&s->lock);
    return i;
}

// Says "<kid> <name> <link> <encrypted> <loopback>\n", then reads until the end.
enum shoal_status sh_rpc_server_serve(struct sh_rpc_server *s, struct sh_stream *stream,
                                      const struct sh_rpc_client *who, struct shoal_error *err)
{
    struct sh_pace pace = sh_pace_until(sh_deadline_in(&sh_clock_system, LONG));
    const int i = enter_server(s, stream, who->kid);
    enum shoal_status st;
    char line[400];
    size_t got = 1;

    (void)snprintf(line, sizeof line, "%s %s %s %d %d\n", who->kid[0] ? who->kid : "-",
                   who->name[0] ? who->name : "-", who->link[0] ? who->link : "-", who->encrypted,
                   who->loopback);
    st = sh_stream_write_full(stream, line, strlen(line), &pace, err);
    while (!st && got > 0)
        st = sh_stream_read_some(stream, line, sizeof line, &pace, &got, err);
    sh_mutex_lock(&s->lock);
    s->inside[i] = NULL;
    s->last_end = st;
    s->n_ended++;
    sh_cond_broadcast(&s->changed);
    sh_mutex_unlock(&s->lock);
    sh_stream_close(stream);
    return st;
}

bool sh_rpc_server_link_key(struct sh_rpc_server *s, const char *identity, struct sh_key *out)
{
    if (strcmp(identity, "v1|link|7|a|b") != 0) return false;
    *out = s->link_key;
    return true;
}

static void cut_all(struct sh_rpc_server *s, const char *kid)
{
    sh_mutex_lock(&s->lock);
    for (int i = 0; i < 64; i++) {
        if (s->inside[i] && (!kid || strcmp(s->kid[i], kid) == 0)) sh_stream_cut(s->inside[i]);
    }
    s->n_revoked += kid != NULL;
    sh_cond_broadcast(&s->changed);
    sh_mutex_unlock(&s->lock);
}

void sh_rpc_server_revoke(struct sh_rpc_server *s, const char *kid)
{
    cut_all(s, kid);
}

/* ---- what is logged -------------------------------------------------------------------------*/

static struct sh_mutex g_log_lock;
static char g_log[1 << 16];

static void keep_line(void *user, const struct sh_log_record *r)
{
    (void)user;
    sh_mutex_lock(&g_log_lock);
    const size_t at = strlen(g_log);
    (void)snprintf(g_log + at, sizeof g_log - at, "%s\n", r->message);
    sh_mutex_unlock(&g_log_lock);
}

static bool is_logged(const char *text)
{
    bool found;

    sh_mutex_lock(&g_log_lock);
    found = strstr(g_log, text) != NULL;
    sh_mutex_unlock(&g_log_lock);
    return found;
}

static int count_logged(const char *text)
{
    int n = 0;

    sh_mutex_lock(&g_log_lock);
    for (const char *p = strstr(g_log, text); p; p = strstr(p + 1, text))
        n++;
    sh_mutex_unlock(&g_log_lock);
    return n;
}

/* ---- rig ------------------------------------------------------------------------------------*/

struct rig {
    struct sh_rpc_server *server;
    struct sh_door *door;
    struct sh_thread thread;
    char folder[64];
    int n_foreign;
};

static void serve_foreign(void *self, struct sh_stream *stream, const struct sh_address *peer)
{
    struct sh_pace pace = sh_pace_until(sh_deadline_in(&sh_clock_system, LONG));

    assert_true(sh_address_is_loopback(peer));
    ((struct rig *)self)->n_foreign++;
    assert_int_equal(sh_stream_write_full(stream, "foreign\n", 8, &pace, NULL), SHOAL_OK);
    sh_stream_close(stream);
}

static void drain(void *self)
{
    cut_all(((struct rig *)self)->server, NULL);
}

static void *run_door(void *arg)
{
    return (void *)(intptr_t)sh_door_run(arg, NULL);
}

static void open_rig(struct rig *r, bool has_keys, struct sh_door_options opt)
{
    memset(r, 0, sizeof *r);
    g_log[0] = '\0';
    r->server = new_server();
    if (has_keys) {
        (void)snprintf(r->folder, sizeof r->folder, "/tmp/shoal-door-XXXXXX");
        assert_non_null(mkdtemp(r->folder));
        opt.keys = r->folder;
    }
    if (!opt.listen) opt.listen = "127.0.0.1:0";
    if (!opt.greeting_ns) opt.greeting_ns = LONG;
    if (!opt.log_lines_max) opt.log_lines_max = 1000;
    opt.rpc = r->server;
    opt.drain = drain;
    opt.self = r;
    assert_int_equal(sh_door_open(&r->door, &opt, NULL), SHOAL_OK);
    assert_int_equal(sh_thread_start(&r->thread, "run", run_door, r->door, NULL), SHOAL_OK);
}

static void close_rig(struct rig *r)
{
    char command[100];

    sh_door_stop(r->door);
    sh_thread_join(&r->thread);
    sh_door_close(r->door);
    free_server(r->server);
    if (!r->folder[0]) return;
    struct sh_key_list list = SH_KEY_LIST_INIT;
    assert_int_equal(sh_key_store_load(r->folder, &list, NULL), SHOAL_OK);
    for (size_t i = 0; i < list.n; i++) {
        (void)snprintf(command, sizeof command, "%s/%s", r->folder, list.entry[i].name);
        assert_int_equal(unlink(command), 0);
    }
    sh_key_list_release(&list);
    assert_int_equal(rmdir(r->folder), 0);
}

// Polls a value that another thread changes.
static void wait_for(struct rig *r, bool (*is_true)(struct rig *r, int n), int n)
{
    const int64_t end = sh_deadline_in(&sh_clock_system, LONG);

    while (!is_true(r, n)) {
        assert_true(sh_now_ns(&sh_clock_system) < end);
        (void)poll(NULL, 0, 2);
    }
}

static bool have_come(struct rig *r, int n)
{
    bool yes;

    sh_mutex_lock(&r->door->lock);
    yes = r->door->n_came >= (uint64_t)n;
    sh_mutex_unlock(&r->door->lock);
    return yes;
}

static bool have_ended(struct rig *r, int n)
{
    bool yes;

    sh_mutex_lock(&r->server->lock);
    yes = r->server->n_ended >= n;
    sh_mutex_unlock(&r->server->lock);
    return yes;
}

static bool are_greeting(struct rig *r, int n)
{
    bool yes;

    sh_mutex_lock(&r->door->lock);
    yes = r->door->n_greeting == n;
    sh_mutex_unlock(&r->door->lock);
    return yes;
}

static bool are_refused(struct rig *r, int n)
{
    (void)r;
    return count_logged("speaks no TLS") == n;
}

/* ---- visitors -------------------------------------------------------------------------------*/

// A connection from 127.0.0.<host>.
static int visit_from(struct rig *r, int host)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in from = {.sin_family = AF_INET}, to;

    assert_true(fd >= 0);
    from.sin_addr.s_addr = htonl(0x7f000000u + (uint32_t)host);
    memcpy(&to, &sh_listener_address(r->door->listener)->sa, sizeof to);
    assert_int_equal(bind(fd, (const struct sockaddr *)&from, sizeof from), 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void say(int fd, const void *bytes, size_t n)
{
    assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), n);
}

// Reads up to the end, or a line.  Returns how many bytes came.
static size_t hear(int fd, char *text, size_t cap)
{
    size_t n = 0;

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 60000), 1);
        const ssize_t rc = recv(fd, text + n, cap - 1 - n, 0);
        if (rc <= 0) break; // a reset is an end, too
        n += (size_t)rc;
        if (memchr(text, '\n', n)) break;
    }
    text[n] = '\0';
    return n;
}

static void ends_unanswered(int fd)
{
    char text[64];

    assert_int_equal(hear(fd, text, sizeof text), 0);
    assert_int_equal(close(fd), 0);
}

static enum shoal_status dial(struct rig *r, struct sh_stream **out, const char *identity,
                              const struct sh_key *key, struct shoal_error *err)
{
    const struct sh_tcp_options opt = {.unsent_max = SH_TCP_UNSENT_MAX};
    struct sh_endpoint ep;
    struct sh_stream *raw;

    assert_int_equal(sh_endpoint_parse(&ep, sh_door_address(r->door), -1, NULL), SHOAL_OK);
    assert_int_equal(sh_tcp_connect(&raw, &ep, LONG, &opt, NULL), SHOAL_OK);
    return sh_tls_connect(out, raw, identity, key, LONG, err);
}

static enum shoal_status dial_key(struct rig *r, struct sh_stream **out,
                                  const struct sh_key_entry *e, struct shoal_error *err)
{
    char identity[SH_KEY_IDENTITY_TEXT];

    sh_key_identity(identity, e->kid);
    return dial(r, out, identity, &e->key, err);
}

static void read_line(struct sh_stream *s, char *line, size_t cap)
{
    struct sh_pace pace = sh_pace_until(sh_deadline_in(&sh_clock_system, LONG));
    size_t n = 0;

    do {
        size_t got;
        assert_int_equal(sh_stream_read_some(s, line + n, cap - 1 - n, &pace, &got, NULL),
                         SHOAL_OK);
        assert_true(got > 0);
        n += got;
    } while (line[n - 1] != '\n');
    line[n] = '\0';
}

static struct sh_key_entry make_key(struct rig *r, const char *name)
{
    struct sh_key_entry e;

    assert_int_equal(sh_key_store_make(r->folder, name, &e, NULL), SHOAL_OK);
    return e;
}

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

/* ---- crowds ---------------------------------------------------------------------------------*/

enum { CROWD = 400 };

static void leave(int *fd, int n)
{
    for (int i = 0; i < n; i++)
        assert_int_equal(close(fd[i]), 0);
}

// With a key on the door, from the address that the crowd has too and from another one.
static void an_honest_one_gets_in(struct rig *r, const struct sh_key_entry *key)
{
    struct sh_stream *s;
    char line[200];

    assert_int_equal(dial_key(r, &s, key, NULL), SHOAL_OK);
    read_line(s, line, sizeof line);
    assert_non_null(strstr(line, key->kid));
    sh_stream_close(s);
}

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
        cmocka_unit_test(door__a_silent_crowd_has_few_places_and_delays_nobody),
        cmocka_unit_test(door__a_crowd_that_says_little_gives_way),
        cmocka_unit_test(door__the_silent_go_first),
        cmocka_unit_test(door__a_drip_has_an_end),
        cmocka_unit_test(door__too_many_bytes_of_a_greeting_end_it),
        cmocka_unit_test(door__inside_there_are_limits_too),
        cmocka_unit_test(door__lines_are_few),
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
