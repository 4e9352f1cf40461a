/* rpc/door_rig_test.h - a door with a server behind it that only says whom it serves, visitors, and
 * what was logged: what the tests of the door share.
 */
#ifndef RPC_DOOR_RIG_TEST_H
#define RPC_DOOR_RIG_TEST_H

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

static inline struct sh_rpc_server *new_server(void)
{
    struct sh_rpc_server *s = sh_calloc(1, sizeof *s);

    assert_non_null(s);
    sh_mutex_init(&s->lock);
    sh_cond_init(&s->changed);
    memset(s->link_key.bytes, 9, sizeof s->link_key.bytes);
    return s;
}

static inline void free_server(struct sh_rpc_server *s)
{
    sh_cond_release(&s->changed);
    sh_mutex_release(&s->lock);
    sh_free(s);
}

static inline int enter_server(struct sh_rpc_server *s, struct sh_stream *stream, const char *kid)
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

static inline void cut_all(struct sh_rpc_server *s, const char *kid)
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

static inline void keep_line(void *user, const struct sh_log_record *r)
{
    (void)user;
    sh_mutex_lock(&g_log_lock);
    const size_t at = strlen(g_log);
    (void)snprintf(g_log + at, sizeof g_log - at, "%s\n", r->message);
    sh_mutex_unlock(&g_log_lock);
}

static inline bool is_logged(const char *text)
{
    bool found;

    sh_mutex_lock(&g_log_lock);
    found = strstr(g_log, text) != NULL;
    sh_mutex_unlock(&g_log_lock);
    return found;
}

static inline int count_logged(const char *text)
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

static inline void serve_foreign(void *self, struct sh_stream *stream,
                                 const struct sh_address *peer)
{
    struct sh_pace pace = sh_pace_until(sh_deadline_in(&sh_clock_system, LONG));

    assert_true(sh_address_is_loopback(peer));
    ((struct rig *)self)->n_foreign++;
    assert_int_equal(sh_stream_write_full(stream, "foreign\n", 8, &pace, NULL), SHOAL_OK);
    sh_stream_close(stream);
}

static inline void drain(void *self)
{
    cut_all(((struct rig *)self)->server, NULL);
}

static inline void *run_door(void *arg)
{
    return (void *)(intptr_t)sh_door_run(arg, NULL);
}

static inline void open_rig(struct rig *r, bool has_keys, struct sh_door_options opt)
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

static inline void close_rig(struct rig *r)
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
static inline void wait_for(struct rig *r, bool (*is_true)(struct rig *r, int n), int n)
{
    const int64_t end = sh_deadline_in(&sh_clock_system, LONG);

    while (!is_true(r, n)) {
        assert_true(sh_now_ns(&sh_clock_system) < end);
        (void)poll(NULL, 0, 2);
    }
}

static inline bool have_come(struct rig *r, int n)
{
    bool yes;

    sh_mutex_lock(&r->door->lock);
    yes = r->door->n_came >= (uint64_t)n;
    sh_mutex_unlock(&r->door->lock);
    return yes;
}

static inline bool have_ended(struct rig *r, int n)
{
    bool yes;

    sh_mutex_lock(&r->server->lock);
    yes = r->server->n_ended >= n;
    sh_mutex_unlock(&r->server->lock);
    return yes;
}

static inline bool are_greeting(struct rig *r, int n)
{
    bool yes;

    sh_mutex_lock(&r->door->lock);
    yes = r->door->n_greeting == n;
    sh_mutex_unlock(&r->door->lock);
    return yes;
}

static inline bool are_refused(struct rig *r, int n)
{
    (void)r;
    return count_logged("speaks no TLS") == n;
}

/* ---- visitors -------------------------------------------------------------------------------*/

// A connection from 127.0.0.<host>.
static inline int visit_from(struct rig *r, int host)
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

static inline void say(int fd, const void *bytes, size_t n)
{
    assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), n);
}

// Reads up to the end, or a line.  Returns how many bytes came.
static inline size_t hear(int fd, char *text, size_t cap)
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

static inline void ends_unanswered(int fd)
{
    char text[64];

    assert_int_equal(hear(fd, text, sizeof text), 0);
    assert_int_equal(close(fd), 0);
}

static inline enum shoal_status dial(struct rig *r, struct sh_stream **out, const char *identity,
                                     const struct sh_key *key, struct shoal_error *err)
{
    const struct sh_tcp_options opt = {.unsent_max = SH_TCP_UNSENT_MAX};
    struct sh_endpoint ep;
    struct sh_stream *raw;

    assert_int_equal(sh_endpoint_parse(&ep, sh_door_address(r->door), -1, NULL), SHOAL_OK);
    assert_int_equal(sh_tcp_connect(&raw, &ep, LONG, &opt, NULL), SHOAL_OK);
    return sh_tls_connect(out, raw, identity, key, LONG, err);
}

static inline enum shoal_status dial_key(struct rig *r, struct sh_stream **out,
                                         const struct sh_key_entry *e, struct shoal_error *err)
{
    char identity[SH_KEY_IDENTITY_TEXT];

    sh_key_identity(identity, e->kid);
    return dial(r, out, identity, &e->key, err);
}

static inline void read_line(struct sh_stream *s, char *line, size_t cap)
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

static inline struct sh_key_entry make_key(struct rig *r, const char *name)
{
    struct sh_key_entry e;

    assert_int_equal(sh_key_store_make(r->folder, name, &e, NULL), SHOAL_OK);
    return e;
}

static inline void leave(int *fd, int n)
{
    for (int i = 0; i < n; i++)
        assert_int_equal(close(fd[i]), 0);
}

// With a key on the door, from the address that the crowd has too and from another one.
static inline void an_honest_one_gets_in(struct rig *r, const struct sh_key_entry *key)
{
    struct sh_stream *s;
    char line[200];

    assert_int_equal(dial_key(r, &s, key, NULL), SHOAL_OK);
    read_line(s, line, sizeof line);
    assert_non_null(strstr(line, key->kid));
    sh_stream_close(s);
}

#endif
