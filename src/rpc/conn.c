/* rpc/conn.c - see conn.h: a connection opens, is cut, closes, and says what it moved. */
#include "rpc/conn.h"

#include <stdio.h>

#include "base/mem.h"
#include "net/tls.h"
#include "rpc/conn_priv.h"

#define GREETING_NS (5 * SH_SECOND)
#define BEAT_NS (250 * SH_MS)
#define SILENCE_NS (10 * SH_SECOND)
#define QUEUE_MAX ((size_t)64 << 20)
#define INBOX_BYTES ((size_t)16 << 10)
#define LINGER_BYTES 4096

static struct sh_rpc_conn_options with_defaults(const struct sh_rpc_conn_options *opt)
{
    struct sh_rpc_conn_options o = *opt;

    if (o.encrypted) o.features &= ~(uint64_t)SH_RPC_CHECKSUM;
    if (o.greeting_ns == 0) o.greeting_ns = GREETING_NS;
    if (o.beat_ns == 0) o.beat_ns = BEAT_NS;
    if (o.silence_ns == 0) o.silence_ns = SILENCE_NS;
    if (o.queue_max == 0) o.queue_max = QUEUE_MAX;
    return o;
}

static size_t largest_message(void)
{
    size_t most = 0;

    for (uint32_t t = 0; t < SH_RPC_TYPE_COUNT; t++) {
        const struct sh_rpc_info *info = sh_rpc_info(t);
        if (info && info->struct_bytes > most) most = info->struct_bytes;
    }
    return most;
}

/* What the peer still sends is thrown away until it ends, so that our last words are not lost with
 * it. */
static void linger(struct sh_stream *s, int64_t until)
{
    struct sh_pace pace = sh_pace_until(until);
    uint8_t bytes[LINGER_BYTES];
    size_t got;

    do {
        if (sh_stream_read_some(s, bytes, sizeof bytes, &pace, &got, NULL)) break;
    } while (got > 0 && sh_now_ns(s->clock) < until);
}

static void destroy(struct sh_rpc_conn *c)
{
    sh_conn_send_release(c);
    sh_conn_asks_release(&c->ask);
    sh_stream_close(c->stream);
    sh_free(c->in.ptr);
    sh_free(c->msg);
    sh_free(c->zeros);
    sh_arena_release(&c->arena);
    sh_free(c);
}

static enum shoal_status open_conn(struct sh_rpc_conn **out, struct sh_stream *stream,
                                   const struct sh_rpc_conn_options *opt, bool is_client,
                                   struct shoal_error *err)
{
    struct sh_rpc_conn *c = sh_calloc(1, sizeof *c);
    enum shoal_status st;

    *out = NULL;
    if (!c) {
        sh_stream_close(stream);
        return sh_fail(err, SHOAL_ERR_NOMEM, "rpc: no memory for a connection");
    }
    c->stream = stream;
    c->is_client = is_client;
    c->opt = with_defaults(opt);
    sh_conn_asks_init(&c->ask);
    st = sh_conn_send_init(c, err);
    if (!st) st = sh_conn_bytes_reserve(&c->in, INBOX_BYTES, err);
    if (!st) {
        c->msg = sh_malloc(largest_message());
        if (!c->msg) st = sh_fail(err, SHOAL_ERR_NOMEM, "rpc: no memory for a connection");
    }
    if (!st) {
        st = is_client ? sh_conn_greet_server(c, err) : sh_conn_greet_client(c, err);
        // What has been said to who is turned away should arrive.
        if (st == SHOAL_ERR_UNSUPPORTED && !is_client)
            linger(stream, sh_deadline_in(stream->clock, SH_CONN_CLOSE_NS));
    }
    c->checksum = c->peer.features & SH_RPC_CHECKSUM;
    sh_conn_rules_init(c);
    atomic_store(&c->heard_ns, sh_now_ns(stream->clock));
    if (!st) st = sh_thread_start(&c->pump, "rpc-pump", sh_conn_pump, c, err);
    if (!st) {
        *out = c;
        c = NULL;
    }
    if (c) destroy(c);
    return st;
}

enum shoal_status sh_rpc_conn_connect(struct sh_rpc_conn **out, struct sh_stream *stream,
                                      const struct sh_rpc_conn_options *opt,
                                      struct shoal_error *err)
{
    return open_conn(out, stream, opt, true, err);
}

enum shoal_status sh_rpc_conn_accept(struct sh_rpc_conn **out, struct sh_stream *stream,
                                     const struct sh_rpc_conn_options *opt, struct shoal_error *err)
{
    return open_conn(out, stream, opt, false, err);
}

/* ---- the end ---------------------------------------------------------------------------------*/

static void say_bye(struct sh_rpc_conn *c, const char *reason)
{
    char text[256];
    const struct sh_rpc_bye m = {.reason = sh_rpc_text_clean(text, sizeof text, reason)};

    (void)!sh_conn_put(c, SH_RPC_MSG_BYE, 0, &m, NULL); // a peer that has gone hears nothing
}

static void stop_pump(struct sh_rpc_conn *c, int64_t until)
{
    struct sh_conn_send *s = &c->send;

    sh_mutex_lock(&s->lock);
    s->closing = true;
    sh_cond_signal(&s->wake);
    while (!s->stopped) {
        const int64_t left = until - sh_now_ns(c->stream->clock);
        if (left <= 0) break;
        (void)sh_cond_wait(&s->room, &s->lock, left);
    }
    if (!s->stopped) {
        s->broken = true; // nothing more is begun
        sh_stream_cut(c->stream);
    }
    sh_mutex_unlock(&s->lock);
    sh_thread_join(&c->pump);
}

void sh_rpc_conn_close(struct sh_rpc_conn *c, const char *reason)
{
    struct shoal_error why = SHOAL_ERROR_INIT;
    int64_t until;

    if (!c) return;
    until = sh_deadline_in(c->stream->clock, SH_CONN_CLOSE_NS);
    if (reason) say_bye(c, reason);
    (void)sh_fail(&why, SHOAL_ERR_STATE, "the connection to %s is closed", c->stream->peer);
    sh_conn_over(c, why.code, &why);
    stop_pump(c, until);
    if (c->opt.encrypted && !c->send.broken)
        sh_tls_shutdown(c->stream, until - sh_now_ns(c->stream->clock));
    if (c->send.said_failure && !c->send.broken) linger(c->stream, until);
    destroy(c);
}

void sh_rpc_conn_cut(struct sh_rpc_conn *c)
{
    struct shoal_error why = SHOAL_ERROR_INIT;

    atomic_store(&c->is_cut, true);
    (void)sh_fail(&why, SHOAL_ERR_CANCELLED, "the connection to %s was cut from this side",
                  c->stream->peer);
    sh_conn_over(c, why.code, &why);
    sh_conn_asks_end(&c->ask, why.code, &why);
    sh_stream_cut(c->stream);
}

void sh_rpc_conn_leave(struct sh_rpc_conn *c, const char *reason)
{
    say_bye(c, reason);
    if (sh_conn_flush(c, sh_deadline_in(c->stream->clock, SH_CONN_CLOSE_NS)))
        atomic_store(&c->left, true);
    sh_rpc_conn_cut(c);
}

/* ---- what is known ---------------------------------------------------------------------------*/

const struct sh_rpc_peer *sh_rpc_conn_peer(const struct sh_rpc_conn *c)
{
    return &c->peer;
}

bool sh_rpc_conn_has(const struct sh_rpc_conn *c, enum sh_rpc_feature f)
{
    return c->peer.features & f;
}

const char *sh_rpc_conn_address(const struct sh_rpc_conn *c)
{
    return c->stream->peer;
}

const struct sh_graph_wire_map *sh_rpc_conn_ops(const struct sh_rpc_conn *c)
{
    return &c->ops;
}

void sh_rpc_conn_traffic(const struct sh_rpc_conn *c, struct sh_rpc_traffic *out)
{
    *out = (struct sh_rpc_traffic){
        .bytes_sent = atomic_load(&c->stream->bytes_written),
        .bytes_received = atomic_load(&c->stream->bytes_read),
        .frames_sent = atomic_load(&c->frames_sent),
        .frames_received = atomic_load(&c->frames_received),
        .frames_queued = atomic_load(&c->frames_queued),
        .silent_ns = sh_now_ns(c->stream->clock) - atomic_load(&c->heard_ns),
    };
}
