/* TLS over memory and TCP: data, keys, damage, limits, the end. */
#include "net/tls_priv.h"

#include <dirent.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
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

static void *count_malloc(size_t n, const char *file, int line)
{
    size_t *p = g_ssl_fail >= 0 && g_ssl_fail-- == 0 ? NULL : malloc(n + 64);

    (void)file;
    (void)line;
    if (!p) return NULL;
    p[0] = n;
    g_ssl_live += (int64_t)n;
    return p + 8;
}

static void count_free(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    if (!p) return;
    g_ssl_live -= (int64_t)((size_t *)p)[-8];
    free((size_t *)p - 8);
}

static void *count_realloc(void *p, size_t n, const char *file, int line)
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

static struct tap *tap_of(struct sh_stream *s)
{
    return (struct tap *)s;
}

static void tap_close(struct sh_stream *s)
{
    sh_stream_close(tap_of(s)->inner);
    tap_of(s)->inner = NULL; // the test looks at the figures, then frees it
}

static enum shoal_status tap_read(struct sh_stream *s, void *dst, size_t n, size_t *got, bool *end,
                                  struct shoal_error *err)
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

static enum shoal_status tap_writev(struct sh_stream *s, const struct iovec *v, int n, size_t *put,
                                    struct shoal_error *err)
{
    struct tap *t = tap_of(s);
    const enum shoal_status st = t->inner->ops->writev(t->inner, v, n, put, err);

    t->n_written += *put;
    if (*put > 0) t->n_writes++;
    return st;
}

static enum shoal_status tap_wait(struct sh_stream *s, enum sh_stream_event event, int64_t ns,
                                  struct shoal_error *err)
{
    return tap_of(s)->inner->ops->wait(tap_of(s)->inner, event, ns, err);
}

static bool tap_hung_up(struct sh_stream *s)
{
    return sh_stream_hung_up(tap_of(s)->inner);
}

static void tap_cut(struct sh_stream *s)
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

static struct tap *new_tap(struct sh_stream *inner)
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

static bool find_one(void *self, const char *identity, struct sh_key *out)
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

static void *run_server(void *arg)
{
    struct end *e = arg;

    e->st = sh_tls_accept(&e->tls, e->below, &g_keys, e->ns, e->proved, &e->err);
    return NULL;
}

static void run_client(struct end *e)
{
    e->st = sh_tls_connect(&e->tls, e->below, e->identity, &e->key, e->ns, &e->err);
}

static void *run_client_thread(void *arg)
{
    run_client(arg);
    return NULL;
}

/* The handshake of both, with the right key unless the test changed something. */
static void shake(struct end *client, struct end *server)
{
    struct sh_thread thread = SH_THREAD_INIT;

    assert_int_equal(sh_thread_start(&thread, "server", run_server, server, NULL), SHOAL_OK);
    run_client(client);
    sh_thread_join(&thread);
}

static void ends_over(struct end *client, struct end *server, struct sh_stream *a,
                      struct sh_stream *b)
{
    *client = (struct end){.below = a, .identity = g_identity, .key = g_key, .ns = LONG};
    *server = (struct end){.below = b, .ns = LONG};
}

static void open_tcp(struct sh_stream **a, struct sh_stream **b)
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

static void open_below(void *is_tcp, struct sh_stream **a, struct sh_stream **b)
{
    if (is_tcp) {
        open_tcp(a, b);
    } else {
        assert_int_equal(sh_stream_pair(a, b, 10007, NULL), SHOAL_OK);
    }
}

/* Two TLS streams with the right key. */
static void open_tls(void *is_tcp, struct sh_stream **client, struct sh_stream **server)
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

static struct sh_pace in_time(void)
{
    return sh_pace_until(sh_deadline_in(&sh_clock_system, LONG));
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

static uint8_t byte_at(uint64_t i, unsigned salt)
{
    return (uint8_t)(i * 131 + i / 251 + salt);
}

/* ---- keys -----------------------------------------------------------------------------------*/

static void key__hkdf_equals_the_rfc(void **state)
{
    // RFC 5869 with this key as input, by another implementation.
    static const char *const want =
        "c335bcf62fed812d3bd8ff118f49bfa3322da0eccf66df752c6b0a14d454f466";
    struct sh_key key, out;
    char hex[2 * SH_KEY_BYTES + 1], kid[SH_KID_TEXT], again[SH_KID_TEXT], text[200];
    uint32_t sum;

    (void)state;
    for (int i = 0; i < SH_KEY_BYTES; i++)
        key.bytes[i] = (uint8_t)i;
    assert_int_equal(sh_key_derive(&out, &key, "words", NULL), SHOAL_OK);
    for (int i = 0; i < SH_KEY_BYTES; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", out.bytes[i]);
    assert_string_equal(hex, want);
    assert_int_equal(sh_key_id(kid, &key, NULL), SHOAL_OK);
    assert_string_equal(kid, "7bdf26e324a3251d");
    assert_int_equal(sh_key_checksum(&sum, &key, 20, NULL), SHOAL_OK);
    assert_int_equal(sum, 0x630dc);

    memset(text, 'x', sizeof text);
    text[SH_KEY_INFO_MAX + 1] = '\0';
    assert_int_equal(sh_key_derive(&out, &key, text, NULL), SHOAL_ERR_LIMIT);
    text[SH_KEY_INFO_MAX] = '\0';
    assert_int_equal(sh_key_derive(&out, &key, text, NULL), SHOAL_OK);

    sh_key_identity(text, kid);
    assert_true(sh_key_identity_kid(again, text));
    assert_string_equal(again, kid);
    assert_false(sh_key_identity_kid(again, "v1|0123456789abcdef|w2c"));
    assert_false(sh_key_identity_kid(again, "v1|0123456789abcde|c2w"));
    assert_false(sh_key_identity_kid(again, "v1|0123456789abcdef0|c2w"));
    assert_false(sh_key_identity_kid(again, "v1|0123456789abcdef|c2w "));
    assert_false(sh_key_identity_kid(again, "v1|0123456789abcdef"));
    assert_false(sh_key_identity_kid(again, ""));
}

static void key__made_ones_differ_and_are_wiped(void **state)
{
    static const struct sh_key zero;
    struct sh_key a, b;

    (void)state;
    assert_int_equal(sh_key_make(&a, NULL), SHOAL_OK);
    assert_int_equal(sh_key_make(&b, NULL), SHOAL_OK);
    assert_false(sh_key_equal(&a, &b));
    assert_true(sh_key_equal(&a, &a));
    sh_key_wipe(&a);
    assert_true(sh_key_equal(&a, &zero));
}

/* ---- data -----------------------------------------------------------------------------------*/

#define MOVED ((uint64_t)2 << 20)

struct flow {
    struct sh_stream *s;
    unsigned salt;
    uint64_t seed;
    bool ok;
};

static void *write_flow(void *arg)
{
    struct flow *f = arg;
    uint8_t *bytes = sh_malloc(100000);

    f->ok = bytes != NULL;
    for (uint64_t at = 0; f->ok && at < MOVED;) {
        struct sh_pace pace = in_time();
        const uint64_t most = next_random(&f->seed) % 3 ? 500 : 100000;
        uint64_t n = 1 + next_random(&f->seed) % most;
        const uint64_t head = next_random(&f->seed) % 20;
        if (n > MOVED - at) n = MOVED - at;
        for (uint64_t i = 0; i < n; i++)
            bytes[i] = byte_at(at + i, f->salt);
        const size_t h = (size_t)(head < n ? head : n);
        struct iovec v[4] = {
            {bytes, h / 2}, {bytes + h / 2, h - h / 2}, {bytes, 0}, {bytes + h, (size_t)n - h}};
        f->ok = !sh_stream_writev_full(f->s, v, 4, &pace, NULL);
        at += n;
    }
    sh_tls_shutdown(f->s, LONG);
    sh_free(bytes);
    return NULL;
}

static void *read_flow(void *arg)
{
    struct flow *f = arg;
    uint8_t *bytes = sh_malloc(100000);
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint64_t at = 0;

    f->ok = bytes != NULL;
    while (f->ok) {
        struct sh_pace pace = in_time();
        const uint64_t most = next_random(&f->seed) % 3 ? 700 : 100000;
        size_t got = 0;
        f->ok = !sh_stream_read_some(f->s, bytes, (size_t)(1 + next_random(&f->seed) % most), &pace,
                                     &got, &err);
        if (!f->ok) print_message("reading: %s\n", err.message);
        if (!f->ok || got == 0) break;
        for (size_t i = 0; i < got; i++)
            f->ok = f->ok && bytes[i] == byte_at(at + i, f->salt);
        at += got;
    }
    f->ok = f->ok && at == MOVED;
    sh_free(bytes);
    return NULL;
}

static void tls__moves_all_bytes_both_ways_at_once(void **state)
{
    struct sh_stream *a, *b;
    struct sh_thread thread[4] = {SH_THREAD_INIT, SH_THREAD_INIT, SH_THREAD_INIT, SH_THREAD_INIT};
    struct flow flow[4];

    open_tls(*state, &a, &b);
    ((struct sh_tls *)a)->update_every = 7; // keys change all the time
    ((struct sh_tls *)b)->update_every = 50;
    flow[0] = (struct flow){a, 1, 11, false};
    flow[1] = (struct flow){b, 2, 22, false};
    flow[2] = (struct flow){a, 2, 33, false};
    flow[3] = (struct flow){b, 1, 44, false};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(
            sh_thread_start(&thread[i], "flow", i < 2 ? write_flow : read_flow, &flow[i], NULL),
            SHOAL_OK);
    }
    for (int i = 0; i < 4; i++)
        sh_thread_join(&thread[i]);
    for (int i = 0; i < 4; i++)
        assert_true(flow[i].ok);
    assert_int_equal(atomic_load(&a->bytes_written), MOVED);
    assert_int_equal(atomic_load(&a->bytes_read), MOVED);
    assert_true(((struct sh_tls *)a)->n_updates > 10);
    assert_true(((struct sh_tls *)b)->n_updates > 1);
    sh_stream_close(a);
    sh_stream_close(b);
}

static void tls__a_frame_is_one_record_and_one_write(void **state)
{
    static const size_t total[] = {1, 100, 16383, 16384};
    static uint8_t bytes[SH_TLS_RECORD_BYTES];
    struct sh_stream *a, *b;
    struct end c, s;
    struct tap *tap;

    (void)state;
    assert_int_equal(sh_stream_pair(&a, &b, 1 << 20, NULL), SHOAL_OK);
    tap = new_tap(a);
    ends_over(&c, &s, &tap->head, b);
    shake(&c, &s);
    assert_int_equal(c.st, SHOAL_OK);
    assert_int_equal(s.st, SHOAL_OK);
    for (size_t i = 0; i < 4; i++) {
        struct sh_pace pace = in_time();
        const size_t n = total[i], head = n < 16 ? 0 : 16, mid = n / 2 < 5 ? 0 : 5;
        const uint64_t writes = tap->n_writes, written = tap->n_written;
        struct iovec v[3] = {{bytes, head}, {bytes, mid}, {bytes, n - head - mid}};
        assert_int_equal(sh_stream_writev_full(c.tls, v, 3, &pace, NULL), SHOAL_OK);
        assert_int_equal(tap->n_writes, writes + 1);
        assert_int_equal(tap->n_written, written + n + 22);
    }
    const uint64_t writes = tap->n_writes;
    uint8_t *big = sh_calloc(10, SH_TLS_RECORD_BYTES);
    struct sh_pace pace = in_time();
    assert_int_equal(
        sh_stream_write_full(c.tls, big, (size_t)10 * SH_TLS_RECORD_BYTES, &pace, NULL), SHOAL_OK);
    assert_int_equal(tap->n_writes, writes + 3); // batches of four records
    sh_free(big);
    sh_stream_close(c.tls);
    sh_stream_close(s.tls);
    sh_free(tap);
}

static void tls__an_end_is_orderly_only_after_close_notify(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_stream *a, *b;
    struct sh_pace pace = in_time();
    char buf[8] = "";
    size_t got;

    open_tls(*state, &a, &b);
    assert_int_equal(sh_stream_write_full(a, "abc", 3, &pace, NULL), SHOAL_OK);
    sh_tls_shutdown(a, LONG);
    assert_int_equal(sh_stream_read_full(b, buf, 3, &pace, NULL), SHOAL_OK);
    assert_memory_equal(buf, "abc", 3);
    assert_int_equal(sh_stream_read_some(b, buf, 8, &pace, &got, NULL), SHOAL_OK);
    assert_int_equal(got, 0);
    assert_true(sh_stream_hung_up(b));
    // The other direction is still open.
    assert_int_equal(sh_stream_write_full(b, "def", 3, &pace, NULL), SHOAL_OK);
    assert_int_equal(sh_stream_read_full(a, buf, 1, &pace, NULL), SHOAL_OK);
    assert_int_equal(sh_stream_write_full(b, "gh", 2, &pace, NULL), SHOAL_OK);
    sh_tls_shutdown(a, LONG); // once is enough, twice does no harm to what is still to be read
    assert_int_equal(sh_stream_read_full(a, buf, 4, &pace, NULL), SHOAL_OK);
    assert_memory_equal(buf, "efgh", 4);
    sh_stream_close(a);
    assert_int_equal(sh_stream_read_some(b, buf, 8, &pace, &got, NULL), SHOAL_OK);
    assert_int_equal(got, 0);
    sh_stream_close(b);

    open_tls(*state, &a, &b);
    assert_int_equal(sh_stream_write_full(a, "abc", 3, &pace, NULL), SHOAL_OK);
    sh_stream_close(a); // without a word
    assert_int_equal(sh_stream_read_full(b, buf, 3, &pace, NULL), SHOAL_OK);
    assert_int_equal(sh_stream_read_some(b, buf, 8, &pace, &got, &err), SHOAL_ERR_PEER);
    assert_non_null(strstr(err.message, "cut off"));
    assert_string_equal(err.peer, b->peer);
    assert_int_equal(sh_stream_read_some(b, buf, 8, &pace, &got, &err), SHOAL_ERR_PEER);
    assert_true(sh_stream_hung_up(b));
    sh_stream_close(b);
}

static void *read_blocked(void *arg)
{
    struct sh_pace pace = sh_pace_until(SH_NO_DEADLINE);
    char one;

    return (void *)(intptr_t)sh_stream_read_full(arg, &one, 1, &pace, NULL);
}

static void tls__cut_ends_a_blocked_read_and_all_later_calls(void **state)
{
    struct sh_stream *a, *b;
    struct sh_pace pace = in_time();
    pthread_t thread;
    void *result;

    open_tls(*state, &a, &b);
    assert_int_equal(pthread_create(&thread, NULL, read_blocked, b), 0);
    sh_stream_cut(b);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal((intptr_t)result, SHOAL_ERR_CANCELLED);
    assert_int_equal(sh_stream_write_full(b, "x", 1, &pace, NULL), SHOAL_ERR_CANCELLED);
    sh_tls_shutdown(b, LONG);
    sh_stream_close(b);
    sh_stream_close(a);
}

static void tls__silence_and_a_full_pipe_time_out(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_stream *a, *b;
    struct sh_pace pace = sh_pace_rate(50 * SH_MS, SH_NO_DEADLINE, 0);
    const size_t big = (size_t)64 << 20;
    uint8_t *zeros = sh_calloc(big, 1);
    char one;

    open_tls(*state, &a, &b);
    sh_pace_start(&pace, sh_now_ns(&sh_clock_system));
    assert_int_equal(sh_stream_read_full(b, &one, 1, &pace, &err), SHOAL_ERR_TIMEOUT);
    sh_pace_start(&pace, sh_now_ns(&sh_clock_system));
    assert_int_equal(sh_stream_write_full(a, zeros, big, &pace, &err), SHOAL_ERR_TIMEOUT);
    // Another, shorter message cannot follow half of one.
    sh_pace_start(&pace, sh_now_ns(&sh_clock_system));
    assert_int_equal(sh_stream_write_full(a, zeros, 1, &pace, &err), SHOAL_ERR_STATE);
    sh_tls_shutdown(a, 10 * SH_MS); // does not wait for ever
    sh_free(zeros);
    sh_stream_close(a);
    sh_stream_close(b);
}

/* ---- keys that do not fit -------------------------------------------------------------------*/

struct refusal {
    struct shoal_error client, server;
    uint64_t to_client, to_server;
};

static void refuse(struct refusal *r, const char *identity, const struct sh_key *key)
{
    struct sh_stream *a, *b;
    struct end c, s;
    struct tap *tap;

    open_below(NULL, &a, &b);
    tap = new_tap(a);
    ends_over(&c, &s, &tap->head, b);
    c.identity = identity;
    c.key = *key;
    shake(&c, &s);
    assert_int_equal(c.st, SHOAL_ERR_PEER);
    assert_int_equal(s.st, SHOAL_ERR_PEER);
    assert_null(c.tls);
    assert_null(s.tls);
    assert_string_equal(s.proved, "");
    *r = (struct refusal){c.err, s.err, tap->n_read, tap->n_written};
    sh_free(tap);
}

static void tls__unknown_identity_and_wrong_key_look_the_same(void **state)
{
    char other[SH_KEY_IDENTITY_TEXT];
    struct refusal wrong, unknown, odd;
    struct sh_key key = g_key;

    (void)state;
    key.bytes[31] ^= 1;
    sh_key_identity(other, "00112233445566ff");
    refuse(&wrong, g_identity, &key);
    refuse(&unknown, other, &g_key);
    refuse(&odd, "v1|0123456789abcdef|w2c", &g_key); // of the same length
    assert_string_equal(wrong.client.message, unknown.client.message);
    assert_string_equal(wrong.server.message, unknown.server.message);
    assert_string_equal(wrong.client.message, odd.client.message);
    assert_string_equal(wrong.client.peer, unknown.client.peer);
    assert_int_equal(wrong.to_client, unknown.to_client);
    assert_int_equal(wrong.to_server, unknown.to_server);
    assert_int_equal(wrong.to_client, odd.to_client);
    assert_int_equal(wrong.to_client, 7); // an alert and nothing else
    assert_non_null(strstr(wrong.client.message, "does not accept this key"));
    assert_non_null(strstr(wrong.server.message, "none of the keys"));
    assert_non_null(strstr(wrong.client.message, wrong.client.peer));
}

static void tls__a_reflected_client_refuses_itself(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_stream *a, *b, *tls;
    uint8_t hello[4096];
    struct sh_pace pace = in_time();
    struct end c;
    struct sh_thread thread = SH_THREAD_INIT;
    size_t n;

    (void)state;
    open_below(NULL, &a, &b);
    c = (struct end){.below = a, .identity = g_identity, .key = g_key, .ns = LONG};
    // What it says comes back to it.
    assert_int_equal(sh_thread_start(&thread, "client", run_client_thread, &c, NULL), SHOAL_OK);
    assert_int_equal(sh_stream_read_some(b, hello, sizeof hello, &pace, &n, NULL), SHOAL_OK);
    assert_int_equal(sh_stream_write_full(b, hello, n, &pace, NULL), SHOAL_OK);
    sh_thread_join(&thread);
    assert_int_equal(c.st, SHOAL_ERR_PEER);
    assert_null(c.tls);
    sh_stream_close(b);

    // An identity that cannot be one is refused before anything is sent.
    open_below(NULL, &a, &b);
    assert_int_equal(sh_tls_connect(&tls, a, "", &g_key, LONG, &err), SHOAL_ERR_ARG);
    assert_null(tls);
    sh_stream_close(b);
}

/* ---- peers that are no shoal ----------------------------------------------------------------*/

struct raw {
    struct sh_stream *s;
    SSL *ssl;
};

/* OpenSSL over a stream, until its handshake ends or the stream does. */
static void *run_raw(void *arg)
{
    struct raw *r = arg;
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());

    SSL_set_bio(r->ssl, in, out);
    for (;;) {
        struct sh_pace pace = in_time();
        uint8_t buf[4096];
        size_t got = 0;
        const int rc = SSL_do_handshake(r->ssl);
        const int why = SSL_get_error(r->ssl, rc);
        const int n = BIO_read(out, buf, sizeof buf);
        if (n > 0 && sh_stream_write_full(r->s, buf, (size_t)n, &pace, NULL)) break;
        if (rc == 1 || why != SSL_ERROR_WANT_READ) break;
        if (sh_stream_read_some(r->s, buf, sizeof buf, &pace, &got, NULL) || got == 0) break;
        assert_int_equal(BIO_write(in, buf, (int)got), got);
    }
    sh_stream_close(r->s);
    return NULL;
}

static void accept_from(SSL_CTX *ctx, struct end *s)
{
    struct sh_stream *a, *b;
    struct sh_thread thread = SH_THREAD_INIT;
    struct raw raw;

    open_below(NULL, &a, &b);
    raw = (struct raw){.s = a, .ssl = SSL_new(ctx)};
    assert_non_null(raw.ssl);
    SSL_set_connect_state(raw.ssl);
    *s = (struct end){.below = b, .ns = LONG};
    assert_int_equal(sh_thread_start(&thread, "raw", run_raw, &raw, NULL), SHOAL_OK);
    run_server(s);
    sh_thread_join(&thread);
    SSL_free(raw.ssl);
    SSL_CTX_free(ctx);
    assert_int_equal(s->st, SHOAL_ERR_PEER);
    assert_null(s->tls);
}

static void tls__older_versions_and_clients_without_a_key_are_refused(void **state)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    struct end s;

    (void)state;
    assert_true(SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION));
    accept_from(ctx, &s);
    assert_non_null(strstr(s.err.message, "TLS 1.3"));
    accept_from(SSL_CTX_new(TLS_client_method()), &s);
    assert_non_null(strstr(s.err.message, "no key"));
}

static SSL_CTX *context_with_certificate(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *pkey = EVP_EC_gen("P-256");
    X509 *cert = X509_new();

    assert_non_null(ctx);
    assert_non_null(pkey);
    assert_non_null(cert);
    (void)X509_set_version(cert, 2);
    (void)ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    (void)X509_gmtime_adj(X509_getm_notBefore(cert), -1000);
    (void)X509_gmtime_adj(X509_getm_notAfter(cert), 100000);
    (void)X509_set_pubkey(cert, pkey);
    assert_true(X509_sign(cert, pkey, EVP_sha256()) > 0);
    assert_int_equal(SSL_CTX_use_certificate(ctx, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, pkey), 1);
    X509_free(cert);
    EVP_PKEY_free(pkey);
    return ctx;
}

static void tls__a_certificate_is_not_believed(void **state)
{
    SSL_CTX *ctx = context_with_certificate();
    struct sh_stream *a, *b;
    struct sh_thread thread = SH_THREAD_INIT;
    struct raw raw;
    struct end c, unused;

    (void)state;
    open_below(NULL, &a, &b);
    ends_over(&c, &unused, a, b);
    raw = (struct raw){.s = b, .ssl = SSL_new(ctx)};
    SSL_set_accept_state(raw.ssl);
    assert_int_equal(sh_thread_start(&thread, "raw", run_raw, &raw, NULL), SHOAL_OK);
    run_client(&c);
    sh_thread_join(&thread);
    assert_int_equal(c.st, SHOAL_ERR_PEER);
    assert_non_null(strstr(c.err.message, "does not have this key"));
    SSL_free(raw.ssl);
    SSL_CTX_free(ctx);
}

static void tls__what_is_no_tls_gets_no_answer(void **state)
{
    static const char *const texts[] = {"GET / HTTP/1.1\r\n\r\n", "shoal\r\n\001", "\016", "\025"};
    struct sh_stream *a, *b;
    struct sh_pace pace = in_time();

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct end s;
        char buf[8];
        size_t got;
        open_below(*state, &a, &b);
        s = (struct end){.below = b, .ns = LONG};
        assert_int_equal(sh_stream_write_full(a, texts[i], strlen(texts[i]), &pace, NULL),
                         SHOAL_OK);
        run_server(&s);
        assert_int_equal(s.st, SHOAL_ERR_PEER);
        assert_non_null(strstr(s.err.message, "no TLS"));
        assert_int_equal(sh_stream_read_some(a, buf, sizeof buf, &pace, &got, NULL), SHOAL_OK);
        assert_int_equal(got, 0);
        sh_stream_close(a);
    }
    // A server that speaks something else.
    struct end c;
    open_below(*state, &a, &b);
    c = (struct end){.below = a, .identity = g_identity, .key = g_key, .ns = LONG};
    assert_int_equal(sh_stream_write_full(b, "220 mail\r\n", 10, &pace, NULL), SHOAL_OK);
    run_client(&c);
    assert_int_equal(c.st, SHOAL_ERR_PEER);
    assert_non_null(strstr(c.err.message, "no shoal worker"));
    sh_stream_close(b);
}

static void tls__silence_and_floods_end_the_handshake(void **state)
{
    // A record of handshake type that goes on and on: a ClientHello of 65,000 bytes.
    static uint8_t flood[40000] = {22, 3, 1, 64, 0, 1, 0, 0xfd, 0xe8};
    struct sh_stream *a, *b;
    struct sh_pace pace = in_time();
    struct end s, c;

    (void)state;
    for (size_t at = 16384 + 5; at + 5 < sizeof flood; at += 16384 + 5)
        memcpy(flood + at, flood, 5);
    assert_int_equal(sh_stream_pair(&a, &b, 1 << 20, NULL), SHOAL_OK);
    struct tap *tap = new_tap(b);
    s = (struct end){.below = &tap->head, .ns = LONG};
    assert_int_equal(sh_stream_write_full(a, flood, sizeof flood, &pace, NULL), SHOAL_OK);
    run_server(&s);
    assert_int_equal(s.st, SHOAL_ERR_LIMIT);
    assert_true(tap->n_read <= SH_TLS_HANDSHAKE_BYTES_MAX);
    sh_stream_close(a);
    sh_free(tap);

    open_below(NULL, &a, &b);
    s = (struct end){.below = b, .ns = 30 * SH_MS};
    run_server(&s);
    assert_int_equal(s.st, SHOAL_ERR_TIMEOUT);
    assert_non_null(strstr(s.err.message, "sent nothing"));
    assert_string_equal(s.err.peer, b ? "memory:0" : "");
    sh_stream_close(a);

    open_below(NULL, &a, &b);
    c = (struct end){.below = a, .identity = g_identity, .key = g_key, .ns = 30 * SH_MS};
    run_client(&c);
    assert_int_equal(c.st, SHOAL_ERR_TIMEOUT);
    sh_stream_close(b);
}

/* ---- damage ---------------------------------------------------------------------------------*/

#define MESSAGE 40000

/* A message from client to server with something done to the wire; what the server got is in
 * `got`, and must be right. */
struct passage {
    bool at_server; // whose receiving is disturbed
    uint64_t cut_at, flip_at;
    uint8_t flip;
    int64_t ns;
    struct end c, s;
    size_t got;
    enum shoal_status read;
    bool orderly;
    uint64_t n_read; // of the disturbed end
};

static void read_message(struct passage *p)
{
    uint8_t buf[1000];

    for (;;) {
        struct sh_pace pace = in_time();
        size_t got;
        p->read = sh_stream_read_some(p->s.tls, buf, sizeof buf, &pace, &got, &p->s.err);
        p->orderly = !p->read && got == 0;
        if (p->read || got == 0) return;
        for (size_t i = 0; i < got; i++)
            assert_int_equal(buf[i], byte_at(p->got + i, 5));
        p->got += got;
    }
}

static void pass(struct passage *p, size_t n)
{
    struct sh_stream *a, *b;
    struct sh_pace pace = in_time();
    struct tap *tap;
    uint8_t *bytes = sh_malloc(n + 1);

    for (size_t i = 0; i < n; i++)
        bytes[i] = byte_at(i, 5);
    assert_int_equal(sh_stream_pair(&a, &b, 1 << 20, NULL), SHOAL_OK);
    tap = new_tap(p->at_server ? b : a);
    tap->cut_at = p->cut_at;
    tap->flip_at = p->flip_at;
    tap->flip = p->flip;
    ends_over(&p->c, &p->s, p->at_server ? a : &tap->head, p->at_server ? &tap->head : b);
    p->c.ns = p->s.ns = p->ns;
    shake(&p->c, &p->s);
    if (!p->c.st) {
        // May fail, where the server has gone.
        (void)!sh_stream_write_full(p->c.tls, bytes, n, &pace, NULL);
        sh_tls_shutdown(p->c.tls, LONG);
    }
    sh_stream_close(p->c.tls);
    if (!p->s.st) read_message(p);
    sh_stream_close(p->s.tls);
    p->n_read = tap->n_read;
    sh_free(bytes);
    sh_free(tap);
}

static void tls__truncation_at_every_byte_is_found(void **state)
{
    uint64_t all[2];

    (void)state;
    for (int side = 0; side < 2; side++) {
        struct passage p = {
            .at_server = side, .cut_at = UINT64_MAX, .flip_at = UINT64_MAX, .ns = LONG};
        pass(&p, 300);
        assert_int_equal(p.c.st, SHOAL_OK);
        assert_int_equal(p.s.st, SHOAL_OK);
        assert_true(p.orderly);
        assert_int_equal(p.got, 300);
        all[side] = p.n_read;
        for (uint64_t at = 0; at < all[side]; at++) {
            struct passage q = {.at_server = side, .cut_at = at, .flip_at = UINT64_MAX, .ns = LONG};
            pass(&q, 300);
            assert_false(q.orderly);
            if (!side) assert_int_equal(q.c.st, SHOAL_ERR_PEER); // all it reads is handshake
            if (q.s.st) assert_int_equal(q.s.st, SHOAL_ERR_PEER);
            if (!q.s.st) assert_int_equal(q.read, SHOAL_ERR_PEER);
            if (!q.s.st) assert_non_null(strstr(q.s.err.message, "cut off"));
        }
    }
}

static void tls__flipped_bytes_never_become_data(void **state)
{
    uint64_t seed = 7;
    int harmless = 0;
    struct passage p = {.at_server = true, .cut_at = UINT64_MAX, .flip_at = UINT64_MAX, .ns = LONG};

    (void)state;
    pass(&p, MESSAGE);
    assert_int_equal(p.got, MESSAGE);
    for (int i = 0; i < 120; i++) {
        // A third in the handshake; a flip in a length there makes both wait for the other.
        const uint64_t at = next_random(&seed) % (i % 3 ? p.n_read : 250);
        struct passage q = {.at_server = i % 4 != 0,
                            .cut_at = UINT64_MAX,
                            .flip_at = i % 4 ? at : at % 150,
                            .flip = (uint8_t)(1u << next_random(&seed) % 8),
                            .ns = 200 * SH_MS};
        pass(&q, MESSAGE); // checks what came
        if (q.orderly) harmless++;
    }
    assert_true(harmless < 12); // such as the version of the first record, which nobody reads
}

static void tls__a_failed_write_tells_the_peers_reason(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_stream *a, *b;
    struct sh_pace pace = in_time();
    struct end c, s;
    struct tap *tap;
    enum shoal_status st = SHOAL_OK;
    char one;

    open_below(*state, &a, &b);
    tap = new_tap(b);
    ends_over(&c, &s, a, &tap->head);
    shake(&c, &s);
    assert_int_equal(c.st, SHOAL_OK);
    tap->flip_at = tap->n_read + 8;
    tap->flip = 1;
    assert_int_equal(sh_stream_write_full(c.tls, "hello", 5, &pace, NULL), SHOAL_OK);
    assert_int_equal(sh_stream_read_full(s.tls, &one, 1, &pace, &err), SHOAL_ERR_PEER);
    assert_non_null(strstr(err.message, "damaged"));
    assert_int_equal(sh_stream_write_full(s.tls, "x", 1, &pace, &err), SHOAL_ERR_PEER);
    assert_non_null(strstr(err.message, "damaged"));
    sh_stream_close(s.tls);
    while (!st) // TCP takes some before it knows
        st = sh_stream_write_full(c.tls, "hello", 5, &pace, &err);
    assert_int_equal(st, SHOAL_ERR_PEER);
    assert_non_null(strstr(err.message, "alert 20"));
    assert_int_equal(sh_stream_read_full(c.tls, &one, 1, &pace, &err), SHOAL_ERR_PEER);
    assert_non_null(strstr(err.message, "alert 20"));
    sh_stream_close(c.tls);
    sh_free(tap);
}

/* ---- what it costs --------------------------------------------------------------------------*/

static int open_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;

    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* The first bytes that a client sends. */
static size_t client_hello(uint8_t *dst, size_t cap)
{
    struct sh_stream *a, *b;
    struct sh_pace pace = in_time();
    struct end c;
    size_t n;

    open_below(NULL, &a, &b);
    c = (struct end){.below = a, .identity = g_identity, .key = g_key, .ns = 0};
    run_client(&c); // its time has passed when the first message is out
    assert_int_equal(c.st, SHOAL_ERR_TIMEOUT);
    assert_int_equal(sh_stream_read_some(b, dst, cap, &pace, &n, NULL), SHOAL_OK);
    sh_stream_close(b);
    return n;
}

static void tls__half_open_handshakes_leave_nothing(void **state)
{
    uint8_t hello[1000];
    const size_t n = client_hello(hello, sizeof hello);
    int64_t ssl_live = 0;
    size_t live = 0;
    int files = 0;

    for (int i = 0; i < 300; i++) {
        struct sh_stream *a, *b;
        struct sh_pace pace = in_time();
        struct end s;
        if (i == 20) { // what OpenSSL keeps for ever is there
            ssl_live = g_ssl_live;
            live = sh_mem_live_bytes();
            files = open_descriptors();
        }
        open_below(*state, &a, &b);
        s = (struct end){.below = b, .ns = LONG};
        assert_int_equal(sh_stream_write_full(a, hello, i % 4 ? n : (size_t)i % n, &pace, NULL),
                         SHOAL_OK);
        sh_stream_close(a);
        run_server(&s);
        assert_int_equal(s.st, SHOAL_ERR_PEER);
    }
    assert_int_equal(sh_mem_live_bytes(), live);
    assert_int_equal(open_descriptors(), files);
    assert_int_equal(g_ssl_live, ssl_live);
}

static void tls__memory_of_a_stream_is_bounded(void **state)
{
    enum { PAIRS = 8 };
    struct sh_stream *a[PAIRS + 1], *b[PAIRS + 1];
    int64_t ssl_live, each;
    size_t live, ours;

    open_tls(NULL, &a[PAIRS], &b[PAIRS]);
    ssl_live = g_ssl_live;
    live = sh_mem_live_bytes();
    for (int i = 0; i < PAIRS; i++)
        open_tls(*state, &a[i], &b[i]);
    each = (g_ssl_live - ssl_live) / (2 * PAIRS);
    ours = (sh_mem_live_bytes() - live) / (2 * PAIRS);
    print_message("OpenSSL: %lld bytes per stream, ours: %zu\n", (long long)each, ours);
    assert_true(each > 0 && each < 65536);
    assert_true(ours < 32768);
    for (int i = 0; i <= PAIRS; i++) {
        sh_stream_close(a[i]);
        sh_stream_close(b[i]);
    }
}

static void tls__each_failed_allocation_is_survived(void **state)
{
    bool pending = false;

    (void)state;
    for (int n = 0; !pending; n++) {
        struct sh_stream *a, *b;
        struct end c, s;
        open_below(NULL, &a, &b);
        ends_over(&c, &s, a, b);
        sh_mem_fail_after(n);
        shake(&c, &s);
        pending = sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        if (!pending) assert_true(c.st && s.st);
        sh_stream_close(c.tls);
        sh_stream_close(s.tls);
    }
}

static void tls__openssl_without_memory_is_survived(void **state)
{
    int64_t n = 0, step = 1;
    bool pending = false;

    (void)state;
    for (; !pending; n += step) {
        struct sh_stream *a, *b;
        struct end c, s;
        open_below(NULL, &a, &b);
        ends_over(&c, &s, a, b);
        g_ssl_fail = n;
        shake(&c, &s);
        pending = g_ssl_fail >= 0;
        g_ssl_fail = -1;
        if (c.st) assert_true(c.err.message[0]);
        if (s.st) assert_true(s.err.message[0]);
        sh_stream_close(c.tls);
        sh_stream_close(s.tls);
        step = n < 100 ? 1 : 17; // most are alike
    }
    print_message("%lld allocations\n", (long long)n);
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
        cmocka_unit_test(key__hkdf_equals_the_rfc),
        cmocka_unit_test(key__made_ones_differ_and_are_wiped),
        BOTH(tls__moves_all_bytes_both_ways_at_once),
        cmocka_unit_test(tls__a_frame_is_one_record_and_one_write),
        BOTH(tls__an_end_is_orderly_only_after_close_notify),
        BOTH(tls__cut_ends_a_blocked_read_and_all_later_calls),
        BOTH(tls__silence_and_a_full_pipe_time_out),
        cmocka_unit_test(tls__unknown_identity_and_wrong_key_look_the_same),
        cmocka_unit_test(tls__a_reflected_client_refuses_itself),
        cmocka_unit_test(tls__older_versions_and_clients_without_a_key_are_refused),
        cmocka_unit_test(tls__a_certificate_is_not_believed),
        BOTH(tls__what_is_no_tls_gets_no_answer),
        cmocka_unit_test(tls__silence_and_floods_end_the_handshake),
        cmocka_unit_test(tls__truncation_at_every_byte_is_found),
        cmocka_unit_test(tls__flipped_bytes_never_become_data),
        BOTH(tls__a_failed_write_tells_the_peers_reason),
        BOTH(tls__half_open_handshakes_leave_nothing),
        cmocka_unit_test(tls__memory_of_a_stream_is_bounded),
        cmocka_unit_test(tls__each_failed_allocation_is_survived),
        cmocka_unit_test(tls__openssl_without_memory_is_survived),
    };

    if (!CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free)) return 1;
    if (sh_key_make(&g_key, NULL)) return 1;
    char kid[SH_KID_TEXT];
    if (sh_key_id(kid, &g_key, NULL)) return 1;
    sh_key_identity(g_identity, kid);
    return cmocka_run_group_tests_name("tls", tests, NULL, NULL);
}
