/* net/tls_handshake.c - from a stream to a TLS stream: settings, keys, handshake, and its failures
 * in words.
 *
 * A server that does not know an identity goes on with a random key, so that the client sees what
 * it would see with a wrong key.  A client believes no certificate: it has no authorities, asks
 * for verification and insists that the pre-shared key was used.
 */
#include "net/tls_priv.h"

#include <openssl/err.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define CIPHER_SUITES "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"
#define ALERT_REASONS 1000
#define ALERT_BYTE 21 /* first of a record that holds an alert */

static const unsigned char AES_128_GCM_SHA256[2] = {0x13, 0x01};

/* ---- keys ----------------------------------------------------------------------------------- */

// The key as OpenSSL wants it: a session that never was.
static SSL_SESSION *session_of(SSL *ssl, const struct sh_key *key)
{
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, AES_128_GCM_SHA256);
    SSL_SESSION *session = SSL_SESSION_new();

    if (session && cipher && SSL_SESSION_set1_master_key(session, key->bytes, SH_KEY_BYTES) &&
        SSL_SESSION_set_cipher(session, cipher) &&
        SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION)) {
        return session;
    }
    SSL_SESSION_free(session);
    return NULL;
}

static int offer_key(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *id_len,
                     SSL_SESSION **session)
{
    struct sh_tls *t = SSL_get_app_data(ssl);

    *session = NULL;
    *id = NULL;
    *id_len = 0;
    if (md && EVP_MD_get_size(md) != SH_KEY_BYTES) return 1; // not with our hash: offer nothing
    *session = session_of(ssl, t->key);
    if (!*session) return 0;
    *id = (const unsigned char *)t->identity;
    *id_len = strlen(t->identity);
    return 1;
}

static bool is_text(const unsigned char *id, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (id[i] < 0x21 || id[i] > 0x7e) return false;
    }
    return n > 0 && n < SH_TLS_IDENTITY_MAX;
}

static int find_key(SSL *ssl, const unsigned char *id, size_t id_len, SSL_SESSION **session)
{
    struct sh_tls *t = SSL_get_app_data(ssl);
    struct sh_key key, found;
    bool known = false;

    *session = NULL;
    if (sh_key_make(&key, NULL)) return 0;
    if (is_text(id, id_len)) {
        memcpy(t->identity, id, id_len);
        t->identity[id_len] = '\0';
        t->has_identity = true;
        known = t->keys->find(t->keys->self, t->identity, &found);
    }
    if (known) key = found;
    *session = session_of(ssl, &key);
    sh_key_wipe(&key);
    sh_key_wipe(&found);
    return *session ? 1 : 0;
}

/* ---- settings ------------------------------------------------------------------------------- */

static SSL_CTX *make_context(bool is_server)
{
    SSL_CTX *c = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());

    if (!c) return NULL;
    if (!SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) ||
        !SSL_CTX_set_max_proto_version(c, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(c, CIPHER_SUITES) || !SSL_CTX_set1_groups_list(c, "X25519") ||
        !SSL_CTX_set_num_tickets(c, 0) || !SSL_CTX_set_max_early_data(c, 0)) {
        SSL_CTX_free(c);
        return NULL;
    }
    (void)SSL_CTX_set_options(c, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    (void)SSL_CTX_clear_options(c, SSL_OP_ENABLE_MIDDLEBOX_COMPAT | SSL_OP_ALLOW_NO_DHE_KEX |
                                       SSL_OP_IGNORE_UNEXPECTED_EOF);
    (void)SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    (void)SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    if (is_server) {
        SSL_CTX_set_psk_find_session_callback(c, find_key);
    } else {
        SSL_CTX_set_psk_use_session_callback(c, offer_key);
        SSL_CTX_set_verify(c, SSL_VERIFY_PEER, NULL); // no certificate passes: nobody is trusted
    }
    return c;
}

static enum shoal_status make_ssl(struct sh_tls *t, bool is_server, struct shoal_error *err)
{
    SSL_CTX *c;

    ERR_clear_error();
    c = make_context(is_server);
    if (c) t->ssl = SSL_new(c);
    SSL_CTX_free(c); // the SSL object has its own hold on it
    ERR_clear_error();
    if (!t->ssl || !SSL_set_app_data(t->ssl, t)) {
        return sh_fail(err, SHOAL_ERR_NOMEM,
                       "cannot set up TLS for %s: no memory, or this OpenSSL lacks X25519 or "
                       "TLS_AES_128_GCM_SHA256",
                       t->head.peer);
    }
    if (is_server) {
        SSL_set_accept_state(t->ssl);
    } else {
        SSL_set_connect_state(t->ssl);
    }
    return sh_tls_attach(t, err);
}

static enum shoal_status create(struct sh_tls **out, struct sh_stream *below, bool is_server,
                                struct shoal_error *err)
{
    struct sh_tls *t = sh_calloc(1, sizeof *t);
    enum shoal_status st;

    *out = NULL;
    if (!t) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the connection to %s", below->peer);
        sh_stream_close(below);
        return st;
    }
    t->head.ops = &sh_tls_ops;
    t->head.clock = below->clock;
    memcpy(t->head.peer, below->peer, sizeof t->head.peer);
    t->below = below;
    t->update_every = SH_TLS_UPDATE_RECORDS;
    sh_mutex_init(&t->lock);
    st = sh_tls_buffer_reserve(&t->in, SH_TLS_SMALL_BYTES, err);
    if (!st) st = sh_tls_buffer_reserve(&t->out, SH_TLS_SMALL_BYTES, err);
    if (!st) st = make_ssl(t, is_server, err);
    if (st) {
        sh_stream_close(&t->head);
        return st;
    }
    *out = t;
    return SHOAL_OK;
}

/* ---- the handshake -------------------------------------------------------------------------- */

struct handshake {
    struct sh_tls *t;
    bool is_server;
    int64_t deadline_ns;
    size_t left; // bytes that the peer may still send
    bool heard;  // it has sent any
};

static int64_t left_ns(const struct handshake *h)
{
    if (h->deadline_ns == SH_NO_DEADLINE) return SH_NO_DEADLINE;
    return h->deadline_ns - sh_now_ns(h->t->head.clock);
}

static enum shoal_status wait_below(const struct handshake *h, enum sh_stream_event event,
                                    struct shoal_error *err)
{
    struct sh_stream *below = h->t->below;
    const int64_t left = left_ns(h);
    enum shoal_status st = SHOAL_ERR_TIMEOUT;

    if (left > 0) st = below->ops->wait(below, event, left, err);
    if (st != SHOAL_ERR_TIMEOUT) return st;
    return sh_fail(err, SHOAL_ERR_TIMEOUT, "%s did not finish the TLS handshake in time%s",
                   below->peer, h->heard ? "" : ": it sent nothing");
}

static enum shoal_status send_all(const struct handshake *h, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;
    bool done = false;

    while (!st && !done) {
        sh_mutex_lock(&h->t->lock);
        st = sh_tls_push(h->t, &done, err);
        sh_mutex_unlock(&h->t->lock);
        if (!st && !done) st = wait_below(h, SH_STREAM_WRITABLE, err);
    }
    return st;
}

static enum shoal_status fail_foreign(const struct handshake *h, struct shoal_error *err)
{
    if (h->is_server) {
        return sh_fail(err, SHOAL_ERR_PEER, "%s speaks no TLS: its first byte is %u",
                       h->t->head.peer, h->t->in.ptr[0]);
    }
    return sh_fail(err, SHOAL_ERR_PEER,
                   "%s does not answer in TLS: it is no shoal worker, or one without keys",
                   h->t->head.peer);
}

static enum shoal_status fail_end(const struct handshake *h, struct shoal_error *err)
{
    if (h->is_server) {
        return sh_fail(err, SHOAL_ERR_PEER, "%s closed the connection during the TLS handshake",
                       h->t->head.peer);
    }
    return sh_fail(err, SHOAL_ERR_PEER,
                   "%s closed the connection during the TLS handshake: is a shoal worker with "
                   "keys listening there?",
                   h->t->head.peer);
}

/* More of the peer's bytes.  What speaks no TLS is found by its first byte, and gets no answer. */
static enum shoal_status hear(struct handshake *h, struct shoal_error *err)
{
    struct sh_tls *t = h->t;
    bool end = false;
    enum shoal_status st;

    if (t->in.start < t->in.end) return SHOAL_OK; // not all of it is used up
    if (h->left == 0) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "%s sent %d bytes without finishing the TLS handshake",
                       t->head.peer, SH_TLS_HANDSHAKE_BYTES_MAX);
    }
    st = sh_tls_fill(t, h->left, &end, err);
    if (!st && end) return fail_end(h, err);
    if (!st && t->in.end == 0) return wait_below(h, SH_STREAM_READABLE, err);
    if (st) return st;
    if (!h->heard && t->in.ptr[0] != SH_TLS_FIRST_BYTE &&
        (h->is_server || t->in.ptr[0] != ALERT_BYTE)) {
        return fail_foreign(h, err);
    }
    h->heard = true;
    h->left -= t->in.end;
    return SHOAL_OK;
}

/* Why OpenSSL gave up, for a person.  The same sentence for an unknown identity and a wrong key. */
static enum shoal_status fail_handshake(const struct handshake *h, struct shoal_error *err)
{
    const char *peer = h->t->head.peer;
    const int reason = ERR_GET_REASON(ERR_peek_error());
    const int alert = reason > ALERT_REASONS ? reason - ALERT_REASONS : -1;

    ERR_clear_error();
    if (reason == ERR_R_MALLOC_FAILURE)
        return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the TLS handshake with %s", peer);
    if (reason == SSL_R_UNSUPPORTED_PROTOCOL || reason == SSL_R_VERSION_TOO_LOW ||
        alert == SSL_AD_PROTOCOL_VERSION) {
        return sh_fail(err, SHOAL_ERR_PEER, "%s does not speak TLS 1.3", peer);
    }
    if (h->is_server && h->t->has_identity)
        return sh_fail(err, SHOAL_ERR_PEER, "%s has none of the keys that are known here", peer);
    if (h->is_server) {
        return sh_fail(err, SHOAL_ERR_PEER, "%s offers no key, or breaks off the TLS handshake",
                       peer);
    }
    if (alert == SSL_AD_DECRYPT_ERROR || alert == SSL_AD_ILLEGAL_PARAMETER ||
        alert == SSL_AD_HANDSHAKE_FAILURE || alert == SSL_AD_UNKNOWN_PSK_IDENTITY) {
        return sh_fail(err, SHOAL_ERR_PEER,
                       "the worker at %s does not accept this key; there, \"shoal key list\" shows "
                       "the keys it knows",
                       peer);
    }
    if (alert >= 0)
        return sh_fail(err, SHOAL_ERR_PEER, "%s refused the connection with TLS alert %d", peer,
                       alert);
    return sh_fail(err, SHOAL_ERR_PEER,
                   "%s does not have this key: its part of the TLS handshake is wrong", peer);
}

static enum shoal_status run_handshake(struct handshake *h, struct shoal_error *err)
{
    struct sh_tls *t = h->t;

    for (;;) {
        enum shoal_status st;
        int rc, why;
        ERR_clear_error();
        rc = SSL_do_handshake(t->ssl);
        why = SSL_get_error(t->ssl, rc);
        if (rc != 1 && why != SSL_ERROR_WANT_READ) {
            st = fail_handshake(h, err);
            (void)!send_all(h, NULL); // the alert
            return st;
        }
        st = send_all(h, err);
        // A peer that has gone may have said why before; that is read first.
        if (st && (st != SHOAL_ERR_PEER || rc == 1)) return st;
        if (rc == 1) break;
        st = hear(h, err);
        if (st) return st;
    }
    if (SSL_session_reused(t->ssl) != 1 || SSL_version(t->ssl) != TLS1_3_VERSION) {
        return sh_fail(err, SHOAL_ERR_PEER, "%s did not use the key in the TLS handshake",
                       t->head.peer);
    }
    return SHOAL_OK;
}

static enum shoal_status finish(struct sh_stream **out, struct handshake *h, int64_t handshake_ns,
                                struct shoal_error *err)
{
    struct sh_tls *t = h->t;
    enum shoal_status st;

    h->left = SH_TLS_HANDSHAKE_BYTES_MAX;
    h->deadline_ns = sh_deadline_in(t->head.clock, handshake_ns);
    t->may_read = true; // nobody else is here yet
    st = run_handshake(h, err);
    t->may_read = false;
    t->keys = NULL;
    t->key = NULL;
    if (st) {
        sh_error_set_peer(err, t->head.peer);
        sh_stream_close(&t->head);
        return st;
    }
    *out = &t->head;
    return SHOAL_OK;
}

enum shoal_status sh_tls_connect(struct sh_stream **out, struct sh_stream *below,
                                 const char *identity, const struct sh_key *key,
                                 int64_t handshake_ns, struct shoal_error *err)
{
    struct handshake h = {.is_server = false};
    enum shoal_status st;

    *out = NULL;
    if (!is_text((const unsigned char *)identity, strlen(identity))) {
        sh_stream_close(below);
        return sh_fail(err, SHOAL_ERR_ARG, "the TLS identity \"%.130s\" is not 1 to %d letters",
                       identity, SH_TLS_IDENTITY_MAX - 1);
    }
    st = create(&h.t, below, false, err);
    if (st) return st;
    h.t->key = key;
    (void)snprintf(h.t->identity, sizeof h.t->identity, "%s", identity);
    return finish(out, &h, handshake_ns, err);
}

enum shoal_status sh_tls_accept(struct sh_stream **out, struct sh_stream *below,
                                const struct sh_tls_keys *keys, int64_t handshake_ns,
                                char identity[SH_TLS_IDENTITY_MAX], struct shoal_error *err)
{
    struct handshake h = {.is_server = true};
    enum shoal_status st;

    *out = NULL;
    identity[0] = '\0';
    st = create(&h.t, below, true, err);
    if (st) return st;
    h.t->keys = keys;
    st = finish(out, &h, handshake_ns, err);
    if (!st) memcpy(identity, h.t->identity, SH_TLS_IDENTITY_MAX);
    return st;
}
