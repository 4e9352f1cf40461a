/* net/tls.c - the record layer as a stream: reading, writing, and why they fail.
 *
 * The handshake is in tls_handshake.c.  A writer encrypts under the lock and hands down without
 * it; its bytes count as written when the last of their records has gone down, so nothing that a
 * caller was told of is left behind here.
 */
#include "net/tls.h"

#include <openssl/err.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "net/tls_priv.h"

#define RECORD_ROOM ((size_t)SH_TLS_RECORD_BYTES + SH_TLS_RECORD_EXTRA)
#define BUFFER_MAX (SH_TLS_BATCH_RECORDS * RECORD_ROOM + SH_TLS_SLACK)
#define ALERT_REASONS 1000 /* OpenSSL's reason for an alert that came is its number and this */
#define ALERT_READS_MAX 8

static struct sh_tls *tls_of(struct sh_stream *s)
{
    return (struct sh_tls *)s;
}

/* ---- buffers -------------------------------------------------------------------------------- */

enum shoal_status sh_tls_buffer_reserve(struct sh_tls_buffer *b, size_t bytes,
                                        struct shoal_error *err)
{
    uint8_t *grown;

    if (bytes <= b->cap) return SHOAL_OK;
    grown = sh_realloc_array(b->ptr, bytes, 1);
    if (!grown) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory to encrypt %zu bytes", bytes);
    b->ptr = grown;
    b->cap = bytes;
    return SHOAL_OK;
}

// Bytes are put behind the held ones.
static size_t room_of(const struct sh_tls_buffer *b)
{
    return b->cap - b->end;
}

static int bio_read(BIO *bio, char *dst, size_t n, size_t *got)
{
    struct sh_tls *t = BIO_get_data(bio);
    struct sh_tls_buffer *in = &t->in;
    const size_t held = in->end - in->start;

    BIO_clear_retry_flags(bio);
    // OpenSSL reads while it writes, too, when a peer is in the middle of a message to it.
    *got = !t->may_read ? 0 : n < held ? n : held;
    if (*got == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    memcpy(dst, in->ptr + in->start, *got);
    in->start += *got;
    if (in->start == in->end) in->start = in->end = 0;
    return 1;
}

// All or nothing, so that a record is never cut by us.
static int bio_write(BIO *bio, const char *src, size_t n, size_t *put)
{
    struct sh_tls *t = BIO_get_data(bio);
    struct sh_tls_buffer *out = &t->out;

    BIO_clear_retry_flags(bio);
    *put = 0;
    if (n > room_of(out)) {
        BIO_set_retry_write(bio);
        return 0;
    }
    memcpy(out->ptr + out->end, src, n);
    out->end += n;
    *put = n;
    return 1;
}

static long bio_control(BIO *bio, int what, long number, void *arg)
{
    (void)bio;
    (void)number;
    (void)arg;
    return what == BIO_CTRL_FLUSH; // flushing is ours; nothing else is known here
}

enum shoal_status sh_tls_attach(struct sh_tls *t, struct shoal_error *err)
{
    BIO *bio = NULL;

    t->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "shoal stream");
    if (!t->method || !BIO_meth_set_read_ex(t->method, bio_read) ||
        !BIO_meth_set_write_ex(t->method, bio_write) ||
        !BIO_meth_set_ctrl(t->method, bio_control) || !(bio = BIO_new(t->method))) {
        return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for an encrypted connection");
    }
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    return SHOAL_OK;
}

/* ---- to and from the stream below ----------------------------------------------------------- */

enum shoal_status sh_tls_fill(struct sh_tls *t, size_t max, bool *end, struct shoal_error *err)
{
    struct sh_tls_buffer *in = &t->in;
    size_t got = 0;
    enum shoal_status st;

    SH_ASSERT(in->start == in->end);
    st = t->below->ops->read(t->below, in->ptr, max < in->cap ? max : in->cap, &got, end, err);
    if (st) return st;
    in->start = 0;
    in->end = got;
    t->in_came_full = got == in->cap;
    atomic_fetch_add_explicit(&t->below->bytes_read, got, memory_order_relaxed);
    return SHOAL_OK;
}

enum shoal_status sh_tls_push(struct sh_tls *t, bool *done, struct shoal_error *err)
{
    struct sh_tls_buffer *out = &t->out;
    enum shoal_status st = SHOAL_OK;
    size_t put = 1;

    *done = false;
    if (t->sending) return SHOAL_OK;
    t->sending = true;
    while (!st && put > 0 && out->start < out->end) {
        struct iovec v = {.iov_base = out->ptr + out->start, .iov_len = out->end - out->start};
        put = 0;
        sh_mutex_unlock(&t->lock);
        st = t->below->ops->writev(t->below, &v, 1, &put, err);
        sh_mutex_lock(&t->lock);
        out->start += put;
        atomic_fetch_add_explicit(&t->below->bytes_written, put, memory_order_relaxed);
    }
    t->sending = false;
    if (out->start == out->end) {
        out->start = out->end = 0;
        *done = !st;
    }
    return st;
}

/* ---- failures ------------------------------------------------------------------------------- */

static enum shoal_status failed(const struct sh_tls *t, struct shoal_error *err)
{
    if (err) *err = t->failure;
    return t->failure.code;
}

enum shoal_status sh_tls_fail_record(struct sh_tls *t, struct shoal_error *err)
{
    const unsigned long e = ERR_peek_error();
    const int reason = ERR_GET_REASON(e);

    if (reason == ERR_R_MALLOC_FAILURE) {
        (void)sh_fail(&t->failure, SHOAL_ERR_NOMEM, "no memory for the connection to %s",
                      t->head.peer);
    } else if (reason > ALERT_REASONS && reason < ALERT_REASONS + 256) {
        (void)sh_fail(&t->failure, SHOAL_ERR_PEER, "%s ended the connection with TLS alert %d",
                      t->head.peer, reason - ALERT_REASONS);
    } else {
        (void)sh_fail(&t->failure, SHOAL_ERR_PEER,
                      "%s: what arrives is damaged or was altered on the way", t->head.peer);
    }
    ERR_clear_error();
    return failed(t, err);
}

static enum shoal_status fail_cut_off(struct sh_tls *t, struct shoal_error *err)
{
    (void)sh_fail(&t->failure, SHOAL_ERR_PEER, "%s: the connection was cut off", t->head.peer);
    return failed(t, err);
}

/* ---- reading -------------------------------------------------------------------------------- */

/* What `in` holds, decrypted.  Under the lock, by whoever set `reading`. */
static enum shoal_status decrypt(struct sh_tls *t, uint8_t *dst, size_t n, size_t *got,
                                 struct shoal_error *err)
{
    while (*got < n && !t->ended && !t->failure.code) {
        size_t part = 0;
        int why;
        ERR_clear_error();
        t->may_read = true;
        const int rc = SSL_read_ex(t->ssl, dst + *got, n - *got, &part);
        t->may_read = false;
        *got += part;
        if (rc == 1) continue;
        why = SSL_get_error(t->ssl, rc);
        if (why == SSL_ERROR_WANT_READ && t->in.start < t->in.end) continue;
        if (why == SSL_ERROR_WANT_READ) return SHOAL_OK;
        if (why == SSL_ERROR_WANT_WRITE) {
            atomic_store(&t->read_wants_room, true);
            return SHOAL_OK;
        }
        if (why == SSL_ERROR_ZERO_RETURN) {
            t->ended = true;
        } else {
            (void)sh_tls_fail_record(t, NULL);
        }
    }
    // What was whole before the failure is given out first.
    return *got > 0 || !t->failure.code ? SHOAL_OK : failed(t, err);
}

static void grow_input(struct sh_tls *t)
{
    const size_t twice = t->in.cap * 2 < BUFFER_MAX ? t->in.cap * 2 : BUFFER_MAX;

    // Empty here.  Without memory the smaller one still serves.
    if (t->in.cap < BUFFER_MAX) (void)!sh_tls_buffer_reserve(&t->in, twice, NULL);
}

/* More ciphertext.  *more: some came.  A buffer that came full last time should be larger. */
static enum shoal_status receive(struct sh_tls *t, bool *more, struct shoal_error *err)
{
    bool end = false;
    enum shoal_status st;

    if (t->in_came_full) grow_input(t);
    sh_mutex_unlock(&t->lock);
    st = sh_tls_fill(t, SIZE_MAX, &end, err);
    sh_mutex_lock(&t->lock);
    *more = !st && t->in.end > 0;
    if (!st && end) st = fail_cut_off(t, err);
    return st;
}

static enum shoal_status tls_read(struct sh_stream *s, void *dst, size_t n, size_t *got, bool *end,
                                  struct shoal_error *err)
{
    struct sh_tls *t = tls_of(s);
    enum shoal_status st = SHOAL_OK;
    bool more = true, sent;
    size_t queued;

    *got = 0;
    *end = false;
    sh_mutex_lock(&t->lock);
    if (t->reading) { // the writer looks for an alert: there is nothing for the moment
        sh_mutex_unlock(&t->lock);
        return SHOAL_OK;
    }
    t->reading = true;
    atomic_store(&t->read_wants_room, false);
    queued = t->out.end;
    while (more && !st) {
        st = decrypt(t, dst, n, got, err);
        if (st || *got > 0 || t->ended || atomic_load(&t->read_wants_room)) break;
        st = receive(t, &more, err);
    }
    *end = !st && *got == 0 && t->ended;
    t->reading = false;
    // An answer to a key update, or an alert: as far as it goes now.
    if (t->out.end > queued || t->failure.code || atomic_load(&t->read_wants_room))
        (void)!sh_tls_push(t, &sent, NULL);
    sh_mutex_unlock(&t->lock);
    return st;
}

/* ---- writing -------------------------------------------------------------------------------- */

/* Where the writer's next record comes from: a piece that fills it, or pieces put together. */
struct source {
    const struct iovec *v;
    int n;
    size_t at; // in the first piece
};

static size_t left_in(const struct source *src)
{
    size_t sum = 0;

    for (int i = 0; i < src->n; i++) {
        if (src->v[i].iov_len > SIZE_MAX / 2 - sum) return SIZE_MAX / 2;
        sum += src->v[i].iov_len;
    }
    return sum - src->at;
}

static size_t gather(struct source *src, uint8_t *dst, size_t n)
{
    size_t done = 0;

    while (done < n && src->n > 0) {
        size_t part = src->v->iov_len - src->at;
        if (part > n - done) part = n - done;
        if (part > 0) memcpy(dst + done, (const uint8_t *)src->v->iov_base + src->at, part);
        done += part;
        src->at += part;
        if (src->at == src->v->iov_len) {
            src->v++;
            src->n--;
            src->at = 0;
        }
    }
    return done;
}

// Room in `out` for `bytes` of plain text; *fits: there is.  It cannot grow while it is sent.
static enum shoal_status make_room(struct sh_tls *t, size_t bytes, bool *fits,
                                   struct shoal_error *err)
{
    const size_t records = bytes / SH_TLS_RECORD_BYTES + 1;
    const size_t need = bytes + records * SH_TLS_RECORD_EXTRA + SH_TLS_SLACK;
    enum shoal_status st = SHOAL_OK;

    if (need > room_of(&t->out) && !t->sending)
        st = sh_tls_buffer_reserve(&t->out, t->out.end + need, err);
    *fits = !st && need <= room_of(&t->out);
    return st;
}

static enum shoal_status encrypt_record(struct sh_tls *t, struct source *src, size_t n,
                                        struct shoal_error *err)
{
    const uint8_t *plain = (const uint8_t *)src->v->iov_base + src->at;
    size_t put = 0;

    if (src->v->iov_len - src->at >= n) {
        src->at += n; // whole in one piece: no copy
    } else {
        enum shoal_status st = sh_tls_buffer_reserve(&t->gather, SH_TLS_RECORD_BYTES, err);
        if (st) return st;
        (void)gather(src, t->gather.ptr, n);
        plain = t->gather.ptr;
    }
    if (t->n_records >= t->update_every) {
        if (SSL_key_update(t->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1)
            return sh_tls_fail_record(t, err);
        t->n_records = 0;
        t->n_updates++;
    }
    if (SSL_write_ex(t->ssl, plain, n, &put) != 1 || put != n) return sh_tls_fail_record(t, err);
    t->n_records++;
    t->owed += n;
    return SHOAL_OK;
}

/* The next few records of the pieces into `out`. */
static enum shoal_status encrypt(struct sh_tls *t, const struct iovec *v, int n,
                                 struct shoal_error *err)
{
    struct source src = {.v = v, .n = n, .at = 0};
    size_t left = left_in(&src);
    enum shoal_status st;
    bool fits;

    if (left > (size_t)SH_TLS_BATCH_RECORDS * SH_TLS_RECORD_BYTES)
        left = (size_t)SH_TLS_BATCH_RECORDS * SH_TLS_RECORD_BYTES;
    st = make_room(t, left, &fits, err);
    ERR_clear_error();
    while (!st && fits && left > 0) {
        const size_t part = left < SH_TLS_RECORD_BYTES ? left : SH_TLS_RECORD_BYTES;
        while (src.at == src.v->iov_len) { // pieces that are empty or used up
            src.v++;
            src.n--;
            src.at = 0;
        }
        st = encrypt_record(t, &src, part, err);
        left -= part;
    }
    return st;
}

/* The stream below takes nothing more.  Often the peer has said why: an alert that is still to be
 * read.  What data is in front of it stays for the reader. */
static enum shoal_status explain(struct sh_tls *t, enum shoal_status st, struct shoal_error *err)
{
    uint8_t one;
    size_t got = 0;

    if (t->reading) return st; // the reader will tell
    t->reading = true;
    for (int i = 0; i < ALERT_READS_MAX && !t->failure.code && !t->ended; i++) {
        bool end = false;
        ERR_clear_error();
        t->may_read = true;
        const int rc = SSL_peek_ex(t->ssl, &one, 1, &got);
        t->may_read = false;
        if (rc == 1) break;
        const int why = SSL_get_error(t->ssl, rc);
        if (why == SSL_ERROR_SSL) st = sh_tls_fail_record(t, err);
        if (why != SSL_ERROR_WANT_READ) break;
        if (t->in.start < t->in.end) continue;
        sh_mutex_unlock(&t->lock);
        const enum shoal_status read = sh_tls_fill(t, SIZE_MAX, &end, NULL);
        sh_mutex_lock(&t->lock);
        if (read || end || t->in.end == 0) break;
    }
    t->reading = false;
    return st;
}

static enum shoal_status tls_writev(struct sh_stream *s, const struct iovec *v, int n, size_t *put,
                                    struct shoal_error *err)
{
    struct sh_tls *t = tls_of(s);
    const struct source all = {.v = v, .n = n, .at = 0};
    enum shoal_status st = SHOAL_OK;
    bool done = false;

    *put = 0;
    sh_mutex_lock(&t->lock);
    if (t->failure.code) {
        st = failed(t, err);
    } else if (t->owed > left_in(&all)) {
        st = sh_fail(err, SHOAL_ERR_STATE, "%s: an earlier write was given up half done",
                     t->head.peer);
    } else if (t->owed == 0) {
        st = encrypt(t, v, n, err);
    }
    if (!st) {
        st = sh_tls_push(t, &done, err);
        if (st == SHOAL_ERR_PEER) st = explain(t, st, err);
    }
    if (done) {
        *put = t->owed;
        t->owed = 0;
    }
    sh_mutex_unlock(&t->lock);
    return st;
}

void sh_tls_shutdown(struct sh_stream *s, int64_t timeout_ns)
{
    struct sh_tls *t = tls_of(s);
    const int64_t end = sh_deadline_in(s->clock, timeout_ns);
    enum shoal_status st = SHOAL_OK;
    bool done = false;

    if (s->ops != &sh_tls_ops) return;
    sh_mutex_lock(&t->lock);
    ERR_clear_error();
    // Said once only: a second call would read, and that is the reader's.
    if (!t->failure.code && !(SSL_get_shutdown(t->ssl) & SSL_SENT_SHUTDOWN))
        (void)SSL_shutdown(t->ssl);
    ERR_clear_error();
    for (;;) {
        int64_t left;
        st = sh_tls_push(t, &done, NULL);
        left = end == SH_NO_DEADLINE ? end : end - sh_now_ns(s->clock);
        if (st || done || left <= 0) break;
        sh_mutex_unlock(&t->lock);
        st = t->below->ops->wait(t->below, SH_STREAM_WRITABLE, left, NULL);
        sh_mutex_lock(&t->lock);
        if (st) break;
    }
    sh_mutex_unlock(&t->lock);
}

/* ---- the rest of a stream ------------------------------------------------------------------- */

static enum shoal_status tls_wait(struct sh_stream *s, enum sh_stream_event event,
                                  int64_t timeout_ns, struct shoal_error *err)
{
    struct sh_tls *t = tls_of(s);

    if (atomic_load(&t->read_wants_room) && event == SH_STREAM_READABLE) event = SH_STREAM_WRITABLE;
    return t->below->ops->wait(t->below, event, timeout_ns, err);
}

static bool tls_hung_up(struct sh_stream *s)
{
    struct sh_tls *t = tls_of(s);
    bool gone;

    sh_mutex_lock(&t->lock);
    gone = t->ended || t->failure.code;
    sh_mutex_unlock(&t->lock);
    return gone || sh_stream_hung_up(t->below);
}

static void tls_cut(struct sh_stream *s)
{
    sh_stream_cut(tls_of(s)->below);
}

static void tls_close(struct sh_stream *s)
{
    struct sh_tls *t = tls_of(s);

    SSL_free(t->ssl);
    BIO_meth_free(t->method);
    sh_stream_close(t->below);
    sh_free(t->in.ptr);
    sh_free(t->out.ptr);
    if (t->gather.ptr) OPENSSL_cleanse(t->gather.ptr, t->gather.cap);
    sh_free(t->gather.ptr);
    sh_mutex_release(&t->lock);
    sh_free(t);
}

const struct sh_stream_ops sh_tls_ops = {
    .close = tls_close,
    .read = tls_read,
    .writev = tls_writev,
    .wait = tls_wait,
    .hung_up = tls_hung_up,
    .cut = tls_cut,
};
