/* Fuzz target: hostile bytes under TLS.
 *
 * The first byte chooses: the rest is what a client sends to a listener; what a server answers to
 * a client; or what a man in the middle does to an open connection while both ends write, read,
 * change keys and end.  Without the key no handshake succeeds, every failure has a reason, and what
 * a reader gets is what the writer wrote, or less.  Nothing waits: where bytes are missing the time
 * is over.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "base/mem.h"
#include "base/thread.h"
#include "net/tls.h"

#define PIPE_BYTES ((size_t)256 << 10)
#define WRITE_MAX 20000
#define ACTIONS_MAX 40

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char g_identity[] = "v1|0123456789abcdef|c2w";
static const struct sh_key g_key = {.bytes = {1, 2, 3}};

static void demand(bool ok)
{
    if (!ok) abort();
}

static bool find(void *self, const char *identity, struct sh_key *out)
{
    (void)self;
    if (strcmp(identity, g_identity) != 0) return false;
    *out = g_key;
    return true;
}

static const struct sh_tls_keys g_keys = {.find = find};

/* ---- a wire that somebody sits on -----------------------------------------------------------*/

struct wire {
    struct sh_stream head;
    struct sh_stream *inner; // NULL: what is read is the script, what is written is lost
    struct sh_reader *script;
    bool armed, touched, ended;
};

static struct wire *wire_of(struct sh_stream *s)
{
    return (struct wire *)(void *)s;
}

static void wire_close(struct sh_stream *s)
{
    sh_stream_close(wire_of(s)->inner);
    wire_of(s)->inner = NULL;
}

/* What the man in the middle does to n bytes; returns how many go on. */
static size_t disturb(struct wire *w, uint8_t *bytes, size_t n)
{
    const unsigned what = sh_read_u8(w->script);

    if (n == 0 || what < 0xc0) return n;
    w->touched = true;
    if (what < 0xe0) { // a bit
        bytes[sh_read_u16(w->script) % n] ^= (uint8_t)(1u << (what & 7));
    } else if (what < 0xf0) { // other bytes
        for (size_t i = 0; i < n && sh_reader_left(w->script) > 0; i++)
            bytes[i] = sh_read_u8(w->script);
    } else if (what < 0xfc) { // some are lost
        const size_t lost = 1 + sh_read_u16(w->script) % n;
        memmove(bytes, bytes + lost, n - lost);
        return n - lost;
    } else {
        w->ended = true;
        return 0;
    }
    return n;
}

static enum shoal_status wire_read(struct sh_stream *s, void *dst, size_t n, size_t *got, bool *end,
                                   struct shoal_error *err)
{
    struct wire *w = wire_of(s);
    enum shoal_status st = SHOAL_OK;

    *got = 0;
    *end = w->ended;
    if (w->ended) return SHOAL_OK;
    if (w->inner) {
        st = w->inner->ops->read(w->inner, dst, n, got, end, err);
        if (w->armed) *got = disturb(w, dst, *got);
        *end = *end || w->ended;
        return st;
    }
    const size_t left = sh_reader_left(w->script), part = 1 + sh_read_u8(w->script) % 64;
    *got = part < left ? part : left;
    if (*got > n) *got = n;
    if (*got > sh_reader_left(w->script)) *got = sh_reader_left(w->script);
    if (*got > 0) memcpy(dst, sh_read_bytes(w->script, *got), *got);
    *end = *got == 0;
    return SHOAL_OK;
}

static enum shoal_status wire_writev(struct sh_stream *s, const struct iovec *v, int n, size_t *put,
                                     struct shoal_error *err)
{
    struct wire *w = wire_of(s);

    if (w->inner) return w->inner->ops->writev(w->inner, v, n, put, err);
    *put = 0;
    for (int i = 0; i < n; i++)
        *put += v[i].iov_len;
    return SHOAL_OK;
}

static enum shoal_status wire_wait(struct sh_stream *s, enum sh_stream_event event, int64_t ns,
                                   struct shoal_error *err)
{
    struct wire *w = wire_of(s);

    if (w->inner && !w->armed) return w->inner->ops->wait(w->inner, event, ns, err);
    return sh_fail(err, SHOAL_ERR_TIMEOUT, "the script is over");
}

static bool wire_hung_up(struct sh_stream *s)
{
    return wire_of(s)->inner && sh_stream_hung_up(wire_of(s)->inner);
}

static void wire_cut(struct sh_stream *s)
{
    if (wire_of(s)->inner) sh_stream_cut(wire_of(s)->inner);
}

static const struct sh_stream_ops g_wire_ops = {
    .close = wire_close,
    .read = wire_read,
    .writev = wire_writev,
    .wait = wire_wait,
    .hung_up = wire_hung_up,
    .cut = wire_cut,
};

static struct wire wire_over(struct sh_stream *inner, struct sh_reader *script)
{
    return (struct wire){
        .head = {.ops = &g_wire_ops, .clock = &sh_clock_system, .peer = "somebody"},
        .inner = inner,
        .script = script};
}

/* ---- one end against bytes ------------------------------------------------------------------*/

static void shake_hands_with_bytes(struct sh_reader *script, bool is_server)
{
    struct wire w = wire_over(NULL, script);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_stream *tls = NULL;
    char identity[SH_TLS_IDENTITY_MAX];
    const enum shoal_status st =
        is_server ? sh_tls_accept(&tls, &w.head, &g_keys, 10 * SH_SECOND, identity, &err)
                  : sh_tls_connect(&tls, &w.head, g_identity, &g_key, 10 * SH_SECOND, &err);

    demand(st != SHOAL_OK && !tls && err.code == st && err.message[0]);
}

/* ---- both ends with somebody between --------------------------------------------------------*/

struct end {
    struct sh_stream *below, *tls;
    enum shoal_status st;
    uint64_t written, read; // bytes in this direction: by this end, and of the other's
    bool failed;
};

static void *accept_one(void *arg)
{
    struct end *e = arg;
    char identity[SH_TLS_IDENTITY_MAX];

    e->st = sh_tls_accept(&e->tls, e->below, &g_keys, 20 * SH_SECOND, identity, NULL);
    return NULL;
}

static uint8_t byte_at(uint64_t i)
{
    return (uint8_t)(i * 131 + i / 251);
}

static struct sh_pace no_time(void)
{
    return sh_pace_until(0);
}

static void write_some(struct end *e, size_t n)
{
    static const size_t cut = 7;
    uint8_t *bytes = sh_malloc(n);
    struct sh_pace pace = no_time();

    demand(bytes != NULL);
    for (size_t i = 0; i < n; i++)
        bytes[i] = byte_at(e->written + i);
    const size_t head = n < cut ? n : cut;
    struct iovec v[2] = {{bytes, head}, {bytes + head, n - head}};
    if (sh_stream_writev_full(e->tls, v, 2, &pace, NULL)) {
        e->failed = true; // nothing may follow half a message
    } else {
        e->written += n;
    }
    sh_free(bytes);
}

static void read_some(struct end *e, const struct end *from, size_t n, const struct wire *wire)
{
    uint8_t *bytes = sh_malloc(n);
    struct sh_pace pace = no_time();
    struct shoal_error err = SHOAL_ERROR_INIT;
    size_t got = 0;

    demand(bytes != NULL);
    const enum shoal_status st = sh_stream_read_some(e->tls, bytes, n, &pace, &got, &err);
    demand(!st || err.message[0]);
    demand(wire[0].touched || wire[1].touched || from->failed || !st || st == SHOAL_ERR_TIMEOUT);
    for (size_t i = 0; i < got; i++)
        demand(bytes[i] == byte_at(e->read + i));
    e->read += got;
    // A write that ran out of time may have got through in part.
    demand(from->failed || e->read <= from->written);
    sh_free(bytes);
}

static void sit_between(struct sh_reader *script)
{
    struct sh_stream *a, *b;
    struct sh_thread thread = SH_THREAD_INIT;
    struct end end[2] = {{.st = SHOAL_OK}, {.st = SHOAL_OK}};
    struct wire wire[2];

    demand(!sh_stream_pair(&a, &b, PIPE_BYTES, NULL));
    wire[0] = wire_over(a, script);
    wire[1] = wire_over(b, script);
    end[1].below = &wire[1].head;
    demand(!sh_thread_start(&thread, "server", accept_one, &end[1], NULL));
    end[0].st =
        sh_tls_connect(&end[0].tls, &wire[0].head, g_identity, &g_key, 20 * SH_SECOND, NULL);
    sh_thread_join(&thread);
    demand(!end[0].st && !end[1].st);
    wire[0].armed = wire[1].armed = true;
    for (int i = 0; i < ACTIONS_MAX && sh_reader_left(script) > 0; i++) {
        const unsigned what = sh_read_u8(script);
        struct end *e = &end[what & 1], *other = &end[!(what & 1)];
        const size_t n = 1 + sh_read_u16(script) % WRITE_MAX;
        if ((what & 6) == 0 && !e->failed) write_some(e, n);
        if ((what & 6) == 2 || (what & 6) == 4) read_some(e, other, n, wire);
        if ((what & 6) == 6 && (what & 0x38) == 0) {
            sh_tls_shutdown(e->tls, 0);
            e->failed = true;
        }
    }
    sh_stream_close(end[0].tls);
    sh_stream_close(end[1].tls);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sh_reader script = sh_reader_over(data, size);
    const unsigned mode = sh_read_u8(&script);

    if (mode % 4 < 2) {
        shake_hands_with_bytes(&script, mode % 2 == 0);
    } else {
        sit_between(&script);
    }
    return 0;
}
