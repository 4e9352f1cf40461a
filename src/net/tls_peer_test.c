/* TLS with the wrong peer: other keys, other protocols, a wire that damages what it carries. */
#include "net/tls_rig_test.h"

#include <openssl/evp.h>
#include <openssl/x509.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tls__unknown_identity_and_wrong_key_look_the_same),
        cmocka_unit_test(tls__a_reflected_client_refuses_itself),
        cmocka_unit_test(tls__older_versions_and_clients_without_a_key_are_refused),
        cmocka_unit_test(tls__a_certificate_is_not_believed),
        BOTH(tls__what_is_no_tls_gets_no_answer),
        cmocka_unit_test(tls__silence_and_floods_end_the_handshake),
        cmocka_unit_test(tls__truncation_at_every_byte_is_found),
        cmocka_unit_test(tls__flipped_bytes_never_become_data),
        BOTH(tls__a_failed_write_tells_the_peers_reason),
    };

    if (!tls_rig_open()) return 1;
    return cmocka_run_group_tests_name("tls_peer", tests, NULL, NULL);
}
