/* Fuzz target: any bytes from the client of a connection of shoal's own protocol.
 *
 * The first byte chooses.  0x01: the rest is all that the client sends, its greeting included; else
 * the greeting is right, with the purpose of bits 1 and 2, all features or none (0x08).  0x10: the
 * rest are frames as they are; else each is `u8 place in the table, u8 request, u16 length, bytes`
 * and gets a head that fits.  0x20: the stream takes a few bytes at a time.
 *
 * The server's handler takes everything and answers some of it.  Whatever comes, run() ends, every
 * failure has a reason, nothing is left behind, and what the server sent are frames that a client
 * accepts.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rpc/conn.h"

#define SCRIPT_MAX ((size_t)64 << 10)
#define SENT_MAX ((size_t)256 << 10) /* of what is looked at */
#define FEATURES (SH_RPC_FEATURES_ALL & ~(unsigned)SH_RPC_CHECKSUM)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool ok)
{
    if (!ok) abort();
}

/* ---- a stream that is a script --------------------------------------------------------------*/

struct wire {
    struct sh_stream head;
    const uint8_t *script;
    size_t n_script, at;
    uint8_t *sent; // the first SENT_MAX bytes; one writer at a time
    size_t n_sent, write_max;
    bool full; // the last write took something, so this one does not
    _Atomic bool is_cut;
};

static struct wire *wire_of(struct sh_stream *s)
{
    return (struct wire *)(void *)s;
}

static void wire_close(struct sh_stream *s)
{
    (void)s;
}

static enum shoal_status wire_read(struct sh_stream *s, void *dst, size_t n, size_t *got, bool *end,
                                   struct shoal_error *err)
{
    struct wire *w = wire_of(s);

    *got = 0;
    *end = false;
    if (atomic_load(&w->is_cut)) return sh_fail(err, SHOAL_ERR_CANCELLED, "cut");
    *got = n < w->n_script - w->at ? n : w->n_script - w->at;
    if (*got > 37) *got = 37;
    if (*got > 0) memcpy(dst, w->script + w->at, *got);
    w->at += *got;
    *end = *got == 0;
    return SHOAL_OK;
}

static enum shoal_status wire_writev(struct sh_stream *s, const struct iovec *v, int n, size_t *put,
                                     struct shoal_error *err)
{
    struct wire *w = wire_of(s);

    *put = 0;
    if (atomic_load(&w->is_cut)) return sh_fail(err, SHOAL_ERR_CANCELLED, "cut");
    w->full = w->write_max < SIZE_MAX && !w->full;
    if (w->full) return SHOAL_OK;
    for (int i = 0; i < n && *put < w->write_max; i++) {
        size_t part = v[i].iov_len < w->write_max - *put ? v[i].iov_len : w->write_max - *put;
        *put += part;
        if (part > SENT_MAX - w->n_sent) part = SENT_MAX - w->n_sent;
        if (part > 0) memcpy(w->sent + w->n_sent, v[i].iov_base, part);
        w->n_sent += part;
    }
    return SHOAL_OK;
}

static enum shoal_status wire_wait(struct sh_stream *s, enum sh_stream_event event, int64_t ns,
                                   struct shoal_error *err)
{
    (void)event;
    (void)ns;
    if (atomic_load(&wire_of(s)->is_cut)) return sh_fail(err, SHOAL_ERR_CANCELLED, "cut");
    return SHOAL_OK;
}

static bool wire_hung_up(struct sh_stream *s)
{
    return wire_of(s)->at == wire_of(s)->n_script;
}

static void wire_cut(struct sh_stream *s)
{
    atomic_store(&wire_of(s)->is_cut, true);
}

static const struct sh_stream_ops g_wire_ops = {
    .close = wire_close,
    .read = wire_read,
    .writev = wire_writev,
    .wait = wire_wait,
    .hung_up = wire_hung_up,
    .cut = wire_cut,
};

/* ---- what the client sends ------------------------------------------------------------------*/

static void greet(struct sh_writer *w, unsigned how)
{
    const struct sh_rpc_hello m = {.revision_min = SH_RPC_REVISION_MIN,
                                   .revision_max = SH_RPC_REVISION,
                                   .features = how & 8 ? 0 : FEATURES,
                                   .purpose = (uint8_t)(how >> 1 & 3),
                                   .software = sh_rpc_text_from("fuzz")};

    sh_write_bytes(w, SH_RPC_PREFACE, SH_RPC_PREFACE_BYTES);
    demand(!sh_rpc_encode(w, SH_RPC_MSG_HELLO, 1, &m, SH_RPC_REVISION, false, NULL));
}

/* The message at place i of the table, around and around. */
static uint16_t message_at(unsigned i)
{
    uint16_t types[SH_RPC_TYPE_COUNT];
    unsigned n = 0;

    for (uint16_t t = 0; t < SH_RPC_TYPE_COUNT; t++) {
        if (sh_rpc_info(t)) types[n++] = t;
    }
    return types[i % n];
}

static void add_frames(struct sh_writer *w, struct sh_reader *r)
{
    while (sh_reader_left(r) > 0 && !w->bad) {
        const uint16_t type = message_at(sh_read_u8(r));
        const unsigned request = sh_read_u8(r);
        size_t n = sh_read_u16(r);
        if (n > sh_reader_left(r)) n = sh_reader_left(r);
        sh_write_u32(w, (uint32_t)n);
        sh_write_u16(w, type);
        sh_write_u16(w, 0);
        sh_write_u32(w, request);
        sh_write_u32(w, 0);
        if (n > 0) sh_write_bytes(w, sh_read_bytes(r, n), n);
    }
}

/* ---- the server -----------------------------------------------------------------------------*/

static enum shoal_status on_message(void *self, struct sh_rpc_conn *c,
                                    const struct sh_rpc_incoming *m, struct shoal_error *err)
{
    const struct sh_rpc_devices_are devices = {.n_devices = 0};
    const struct sh_rpc_hidden *hidden;
    struct sh_rpc_hidden back = {.number = 1};

    (void)self;
    switch (m->type) {
    case SH_RPC_MSG_DEVICES:
        return sh_rpc_conn_send(c, SH_RPC_MSG_DEVICES_ARE, m->request, &devices, err);
    case SH_RPC_MSG_HIDDEN: // goes back, larger
        hidden = m->msg;
        back.data = hidden->data;
        back.timings = hidden->timings;
        back.n_timings = hidden->n_timings;
        return sh_rpc_conn_send(c, SH_RPC_MSG_HIDDEN, 0, &back, err);
    default:
        if (m->request) sh_rpc_conn_refuse(c, m->request, SHOAL_ERR_UNSUPPORTED, NULL, 0, 0);
        return SHOAL_OK;
    }
}

static void serve(struct wire *w)
{
    const struct sh_rpc_conn_options opt = {.features = FEATURES, .silence_ns = SH_NO_DEADLINE};
    const struct sh_rpc_handler handler = {.message = on_message};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_conn *c = NULL;
    enum shoal_status st;

    st = sh_rpc_conn_accept(&c, &w->head, &opt, &err);
    demand(!st == (c != NULL));
    if (!st) st = sh_rpc_conn_run(c, &handler, &err);
    demand(!st || (err.code == st && err.message[0]));
    sh_rpc_conn_close(c, "done");
}

/* Frames that a client accepts, the last perhaps cut off. */
static void look_at(const uint8_t *bytes, size_t n)
{
    struct sh_arena arena = SH_ARENA_INIT;
    void *msg = sh_malloc(4096);

    demand(msg != NULL);
    while (n >= SH_RPC_HEAD_BYTES) {
        struct sh_rpc_head head;
        demand(!sh_rpc_head_get(&head, bytes, false, SH_RPC_REVISION, NULL));
        bytes += SH_RPC_HEAD_BYTES;
        n -= SH_RPC_HEAD_BYTES;
        if (head.bytes > n) break;
        demand(!sh_rpc_decode(msg, &head, bytes, SH_RPC_REVISION, false, &arena, NULL));
        bytes += head.bytes;
        n -= head.bytes;
        sh_arena_reset(&arena);
    }
    sh_arena_release(&arena);
    sh_free(msg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t live = sh_mem_live_bytes();
    struct sh_reader r = sh_reader_over(data, size);
    const unsigned how = sh_read_u8(&r);
    uint8_t *script = sh_malloc(SCRIPT_MAX), *sent = sh_malloc(SENT_MAX);
    struct sh_writer w = sh_writer_over(script, SCRIPT_MAX);
    struct wire wire = {.head = {.ops = &g_wire_ops, .clock = &sh_clock_system, .peer = "fuzz"},
                        .sent = sent,
                        .write_max = how & 0x20 ? 61 : SIZE_MAX};

    demand(script && sent);
    if (!(how & 1)) greet(&w, how);
    if (how & 0x11) {
        const size_t n = sh_reader_left(&r);
        sh_write_bytes(&w, sh_read_bytes(&r, n), n);
    } else {
        add_frames(&w, &r);
    }
    wire.script = script;
    wire.n_script = w.pos;
    serve(&wire);
    look_at(sent, wire.n_sent);
    sh_free(script);
    sh_free(sent);
    demand(sh_mem_live_bytes() == live);
    return 0;
}
