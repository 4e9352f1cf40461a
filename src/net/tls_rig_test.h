/* net/tls_rig_test.h - what the tests of TLS share: OpenSSL's memory counted, a wire that can be
 * disturbed, and two ends with one key.
 */
#ifndef NET_TLS_RIG_TEST_H
#define NET_TLS_RIG_TEST_H

#include "net/tls_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "net/listener.h"

#define LONG (60 * SH_SECOND) /* for what should happen */

/* ---- OpenSSL's memory, counted --------------------------------------------------------------*/

static _Atomic int64_t g_ssl_live;
static _Atomic int64_t g_ssl_fail = -1; // the allocation after so many fails; negative: none

static inline void *count_malloc(size_t n, const char *file, int line)
{
    size_t *p = g_ssl_fail >= 0 && g_ssl_fail-- == 0 ? NULL : malloc(n + 64);

    (void)file;
    (void)line;
    if (!p) return NULL;
    p[0] = n;
    g_ssl_live += (int64_t)n;
    return p + 8;
}

static inline void count_free(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    if (!p) return;
    g_ssl_live -= (int64_t)((size_t *)p)[-8];
    free((size_t *)p - 8);
}

static inline void *count_realloc(void *p, size_t n, const char *file, int line)
{
    void *q;

    if (!p) return count_malloc(n, file, line);
    q = count_malloc(n, file, line);
    if (!q) return NULL;
    memcpy(q, p, ((size_t *)p)[-8] < n ? ((size_t *)p)[-8] : n);
    count_free(p, file, line);
    return q;
}

/* ---- a wire that counts, flips and ends -----------------------------------------------------*/

struct tap {
    struct sh_stream head;
    struct sh_stream *inner;
    uint64_t n_read, n_written, n_writes;
    uint64_t cut_at;  // of the bytes read: the end comes here
    uint64_t flip_at; // of the bytes read
    uint8_t flip;
};

static inline struct tap *tap_of(struct sh_stream *s)
{
    return (struct tap *)s;
}

static inline void tap_close(struct sh_stream *s)
{
    sh_stream_close(tap_of(s)->inner);
    tap_of(s)->inner = NULL; // the test looks at the figures, then frees it
}

static inline enum shoal_status tap_read(struct sh_stream *s, void *dst, size_t n, size_t *got,
                                         bool *end, struct shoal_error *err)
{
    struct tap *t = tap_of(s);
    enum shoal_status st;

    *got = 0;
    *end = t->n_read >= t->cut_at;
    if (*end) return SHOAL_OK;
    if (n > t->cut_at - t->n_read) n = (size_t)(t->cut_at - t->n_read);
    st = t->inner->ops->read(t->inner, dst, n, got, end, err);
    if (t->flip_at >= t->n_read && t->flip_at < t->n_read + *got)
        ((uint8_t *)dst)[t->flip_at - t->n_read] ^= t->flip;
    t->n_read += *got;
    return st;
}

static inline enum shoal_status tap_writev(struct sh_stream *s, const struct iovec *v, int n,
                                           size_t *put, struct shoal_error *err)
{
    struct tap *t = tap_of(s);
    const enum shoal_status st = t->inner->ops->writev(t->inner, v, n, put, err);

    t->n_written += *put;
    if (*put > 0) t->n_writes++;
    return st;
}

static inline enum shoal_status tap_wait(struct sh_stream *s, enum sh_stream_event event,
                                         int64_t ns, struct shoal_error *err)
{
    return tap_of(s)->inner->ops->wait(tap_of(s)->inner, event, ns, err);
}

static inline bool tap_hung_up(struct sh_stream *s)
{
    return sh_stream_hung_up(tap_of(s)->inner);
}

static inline void tap_cut(struct sh_stream *s)
{
    sh_stream_cut(tap_of(s)->inner);
}

static const struct sh_stream_ops g_tap_ops = {
    .close = tap_close,
    .read = tap_read,
    .writev = tap_writev,
    .wait = tap_wait,
    .hung_up = tap_hung_up,
    .cut = tap_cut,
};

static inline struct tap *new_tap(struct sh_stream *inner)
{
    struct tap *t = sh_calloc(1, sizeof *t);

    assert_non_null(t);
    t->head.ops = &g_tap_ops;
    t->head.clock = inner->clock;
    memcpy(t->head.peer, inner->peer, sizeof t->head.peer);
    t->inner = inner;
    t->cut_at = t->flip_at = UINT64_MAX;
    return t;
}

/* ---- two ends -------------------------------------------------------------------------------*/

static struct sh_key g_key;
static char g_identity[SH_KEY_IDENTITY_TEXT];

static inline bool find_one(void *self, const char *identity, struct sh_key *out)
{
    (void)self;
    if (strcmp(identity, g_identity) != 0) return false;
    *out = g_key;
    return true;
}

static const struct sh_tls_keys g_keys = {.find = find_one};

struct end {
    struct sh_stream *below, *tls;
    const char *identity; // a client's
    struct sh_key key;
    int64_t ns;
    char proved[SH_TLS_IDENTITY_MAX];
    enum shoal_status st;
    struct shoal_error err;
};

static inline void *run_server(void *arg)
{
    struct end *e = arg;

    e->st = sh_tls_accept(&e->tls, e->below, &g_keys, e->ns, e->proved, &e->err);
    return NULL;
}

static inline void run_client(struct end *e)
{
    e->st = sh_tls_connect(&e->tls, e->below, e->identity, &e->key, e->ns, &e->err);
}

static inline void *run_client_thread(void *arg)
{
    run_client(arg);
    return NULL;
}

/* The handshake of both, with the right key unless the test changed something. */
static inline void shake(struct end *client, struct end *server)
{
    struct sh_thread thread = SH_THREAD_INIT;

    assert_int_equal(sh_thread_start(&thread, "server", run_server, server, NULL), SHOAL_OK);
    run_client(client);
    sh_thread_join(&thread);
}

static inline void ends_over(struct end *client, struct end *server, struct sh_stream *a,
                             struct sh_stream *b)
{
    *client = (struct end){.below = a, .identity = g_identity, .key = g_key, .ns = LONG};
    *server = (struct end){.below = b, .ns = LONG};
}

static inline void open_tcp(struct sh_stream **a, struct sh_stream **b)
{
    const struct sh_tcp_options opt = {.user_timeout_ms = 60000};
    struct sh_listener *l;
    struct sh_address peer;
    struct sh_endpoint ep;

    assert_int_equal(sh_endpoint_parse(&ep, "127.0.0.1:0", -1, NULL), SHOAL_OK);
    assert_int_equal(sh_listener_open(&l, &ep, NULL), SHOAL_OK);
    assert_int_equal(sh_endpoint_parse(&ep, sh_listener_text(l), -1, NULL), SHOAL_OK);
    assert_int_equal(sh_tcp_connect(a, &ep, LONG, &opt, NULL), SHOAL_OK);
    assert_int_equal(sh_listener_accept(l, LONG, &opt, b, &peer, NULL), SHOAL_OK);
    sh_listener_close(l);
}

static inline void open_below(void *is_tcp, struct sh_stream **a, struct sh_stream **b)
{
    if (is_tcp) {
        open_tcp(a, b);
    } else {
        assert_int_equal(sh_stream_pair(a, b, 10007, NULL), SHOAL_OK);
    }
}

/* Two TLS streams with the right key. */
static inline void open_tls(void *is_tcp, struct sh_stream **client, struct sh_stream **server)
{
    struct sh_stream *a, *b;
    struct end c, s;

    open_below(is_tcp, &a, &b);
    ends_over(&c, &s, a, b);
    shake(&c, &s);
    if (c.st) print_message("%s\n", c.err.message);
    assert_int_equal(c.st, SHOAL_OK);
    assert_int_equal(s.st, SHOAL_OK);
    assert_string_equal(s.proved, g_identity);
    *client = c.tls;
    *server = s.tls;
}

static inline struct sh_pace in_time(void)
{
    return sh_pace_until(sh_deadline_in(&sh_clock_system, LONG));
}

static inline uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

static inline uint8_t byte_at(uint64_t i, unsigned salt)
{
    return (uint8_t)(i * 131 + i / 251 + salt);
}

#define BOTH(f)                                                                                    \
    {#f " (memory)", f, NULL, NULL, NULL},                                                         \
    {                                                                                              \
#f " (tcp)", f, NULL, NULL, g_tcp                                                          \
    }

static char g_tcp[] = "tcp";

/* Before anything else: OpenSSL's memory is ours to count, and there is a key. */
static inline bool tls_rig_open(void)
{
    char kid[SH_KID_TEXT];

    if (!CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free)) return false;
    if (sh_key_make(&g_key, NULL) || sh_key_id(kid, &g_key, NULL)) return false;
    sh_key_identity(g_identity, kid);
    return true;
}

#endif
