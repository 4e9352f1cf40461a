/* rpc/conn_greet.c - the greeting: who is there, which revision, which features.
 *
 *     client: preface, HELLO ──>
 *                            <── server: WELCOME, or ERROR and the end
 *
 * All within one deadline and SH_RPC_GREETING_MAX bytes, read exactly, before anything else of the
 * connection exists.  Frames of the greeting carry no checksum and have the fields of revision 1.
 */
#include "rpc/conn_priv.h"

#include <shoal/version.h>
#include <stdio.h>

#include "base/mem.h"

#define SOFTWARE "shoal " SHOAL_VERSION
#define GREETING_REVISION 1

struct greeting {
    struct sh_rpc_conn *c;
    struct sh_pace pace;
    uint8_t *bytes; /* SH_RPC_PREFACE_BYTES + SH_RPC_GREETING_MAX */
    struct sh_arena arena;
    struct sh_rpc_head head;
};

static enum shoal_status begin(struct greeting *g, struct sh_rpc_conn *c, struct shoal_error *err)
{
    *g = (struct greeting){
        .c = c, .pace = sh_pace_until(sh_deadline_in(c->stream->clock, c->opt.greeting_ns))};
    g->bytes = sh_malloc(SH_RPC_PREFACE_BYTES + SH_RPC_GREETING_MAX);
    if (!g->bytes) return sh_fail(err, SHOAL_ERR_NOMEM, "rpc: no memory for a greeting");
    return SHOAL_OK;
}

static void end(struct greeting *g)
{
    sh_free(g->bytes);
    sh_arena_release(&g->arena);
}

/* A failure of the stream, said for a greeting. */
static enum shoal_status failed(const struct greeting *g, enum shoal_status st,
                                struct shoal_error *err)
{
    const struct sh_stream *s = g->c->stream;

    if (st == SHOAL_ERR_TIMEOUT) {
        (void)sh_fail(err, st, "%s does not greet in time: is it a worker or host of shoal?",
                      s->peer);
    }
    sh_error_set_peer(err, s->peer);
    return st;
}

static enum shoal_status receive(struct greeting *g, void *dst, size_t n, struct shoal_error *err)
{
    return failed(g, sh_stream_read_full(g->c->stream, dst, n, &g->pace, err), err);
}

static enum shoal_status transmit(struct greeting *g, size_t n, struct shoal_error *err)
{
    return failed(g, sh_stream_write_full(g->c->stream, g->bytes, n, &g->pace, err), err);
}

static enum shoal_status no_shoal(const struct greeting *g, const char *what,
                                  struct shoal_error *err)
{
    const enum shoal_status st = sh_fail(
        err, SHOAL_ERR_FORMAT, "%s does not speak shoal's protocol (%s)", g->c->stream->peer, what);

    sh_error_set_peer(err, g->c->stream->peer);
    return st;
}

/* The next frame's head and payload into g->bytes; `type`, or ERROR to a client. */
static enum shoal_status receive_frame(struct greeting *g, enum sh_rpc_type type,
                                       struct shoal_error *err)
{
    struct sh_rpc_conn *c = g->c;
    struct shoal_error why = SHOAL_ERROR_INIT;
    enum shoal_status st;

    st = receive(g, g->bytes, SH_RPC_HEAD_BYTES, err);
    if (st) return st;
    st = sh_rpc_head_get(&g->head, g->bytes, !c->is_client, GREETING_REVISION, &why);
    if (st) return no_shoal(g, why.message, err);
    if (g->head.type != type && !(c->is_client && g->head.type == SH_RPC_MSG_ERROR))
        return no_shoal(g, sh_rpc_info(g->head.type)->name, err);
    if (g->head.bytes > SH_RPC_GREETING_MAX - SH_RPC_HEAD_BYTES) {
        (void)sh_fail(err, SHOAL_ERR_LIMIT, "%s greets with %u bytes, at most %u", c->stream->peer,
                      (unsigned)g->head.bytes, SH_RPC_GREETING_MAX - SH_RPC_HEAD_BYTES);
        sh_error_set_peer(err, c->stream->peer);
        return SHOAL_ERR_LIMIT;
    }
    return receive(g, g->bytes + SH_RPC_HEAD_BYTES, g->head.bytes, err);
}

static enum shoal_status decode(struct greeting *g, void *msg, struct shoal_error *err)
{
    struct shoal_error why = SHOAL_ERROR_INIT;
    enum shoal_status st;

    st = sh_rpc_decode(msg, &g->head, g->bytes + SH_RPC_HEAD_BYTES, GREETING_REVISION, false,
                       &g->arena, &why);
    if (st == SHOAL_ERR_NOMEM) {
        if (err) *err = why;
        return st;
    }
    return st ? no_shoal(g, why.message, err) : SHOAL_OK;
}

/* Our ops as names. */
static const struct sh_rpc_name *own_ops(uint32_t *n, struct sh_arena *arena)
{
    const char **names = sh_arena_calloc(arena, SH_OP_COUNT, sizeof *names);
    struct sh_rpc_name *list = sh_arena_calloc(arena, SH_OP_COUNT, sizeof *list);

    if (!names || !list) return NULL;
    sh_graph_wire_ops(names);
    for (int i = 0; i < SH_OP_COUNT; i++)
        list[i].name = sh_rpc_text_from(names[i]);
    *n = SH_OP_COUNT;
    return list;
}

static enum shoal_status take_ops(struct greeting *g, const struct sh_rpc_name *ops, uint32_t n,
                                  struct shoal_error *err)
{
    sh_graph_wire_map_init(&g->c->ops);
    for (uint32_t i = 0; i < n; i++) {
        if (!sh_graph_wire_map_add(&g->c->ops, ops[i].name.ptr, ops[i].name.n))
            return no_shoal(g, "a name of an op is too long", err);
    }
    return SHOAL_OK;
}

/* ---- the client ------------------------------------------------------------------------------*/

static enum shoal_status say_hello(struct greeting *g, struct shoal_error *err)
{
    struct sh_rpc_conn *c = g->c;
    struct sh_rpc_hello m = {
        .revision_min = SH_RPC_REVISION_MIN,
        .revision_max = SH_RPC_REVISION,
        .features = c->opt.features,
        .purpose = (uint8_t)c->opt.purpose,
        .software = sh_rpc_text_from(SOFTWARE),
    };
    struct sh_writer w = sh_writer_over(g->bytes, SH_RPC_PREFACE_BYTES + SH_RPC_GREETING_MAX);
    enum shoal_status st;

    memcpy(m.machine, c->opt.machine, sizeof m.machine);
    m.ops = own_ops(&m.n_ops, &g->arena);
    if (!m.ops) return sh_fail(err, SHOAL_ERR_NOMEM, "rpc: no memory for a greeting");
    sh_write_bytes(&w, SH_RPC_PREFACE, SH_RPC_PREFACE_BYTES);
    st = sh_rpc_encode(&w, SH_RPC_MSG_HELLO, 1, &m, GREETING_REVISION, false, err);
    if (!st) st = transmit(g, w.pos, err);
    return st;
}

/* ERROR in the place of WELCOME. */
static enum shoal_status turned_away(struct greeting *g, struct shoal_error *err)
{
    struct sh_rpc_error e;
    char text[256];
    enum shoal_status st;

    st = decode(g, &e, err);
    if (st) return st;
    sh_rpc_text_copy(text, sizeof text, e.message);
    st = sh_fail(err, sh_rpc_status_of_error(e.status), "%s: %s", g->c->stream->peer, text);
    sh_error_set_peer(err, g->c->stream->peer);
    return st;
}

static enum shoal_status take_welcome(struct greeting *g, struct shoal_error *err)
{
    struct sh_rpc_conn *c = g->c;
    struct sh_rpc_welcome m;
    enum shoal_status st;

    if (g->head.type == SH_RPC_MSG_ERROR) return turned_away(g, err);
    st = decode(g, &m, err);
    if (st) return st;
    sh_rpc_text_copy(c->peer.software, sizeof c->peer.software, m.software);
    if (m.revision < SH_RPC_REVISION_MIN || m.revision > SH_RPC_REVISION) {
        st = sh_fail(err, SHOAL_ERR_UNSUPPORTED,
                     "%s runs %s, which wants revision %u of the protocol; this is " SOFTWARE
                     " with %u to %u",
                     c->stream->peer, c->peer.software, (unsigned)m.revision, SH_RPC_REVISION_MIN,
                     SH_RPC_REVISION);
        sh_error_set_peer(err, c->stream->peer);
        return st;
    }
    if (m.features & ~c->opt.features) return no_shoal(g, "features that nobody offered", err);
    c->peer.revision = m.revision;
    c->peer.features = m.features;
    c->peer.purpose = c->opt.purpose;
    memcpy(c->peer.machine, m.machine, sizeof m.machine);
    memcpy(c->peer.boot, m.boot, sizeof m.boot);
    return take_ops(g, m.ops, m.n_ops, err);
}

enum shoal_status sh_conn_greet_server(struct sh_rpc_conn *c, struct shoal_error *err)
{
    struct greeting g;
    enum shoal_status st;

    st = begin(&g, c, err);
    if (!st) st = say_hello(&g, err);
    if (!st) st = receive_frame(&g, SH_RPC_MSG_WELCOME, err);
    if (!st) st = take_welcome(&g, err);
    end(&g);
    return st;
}

/* ---- the server ------------------------------------------------------------------------------*/

static enum shoal_status take_preface(struct greeting *g, struct shoal_error *err)
{
    uint8_t preface[SH_RPC_PREFACE_BYTES];
    enum shoal_status st;

    st = receive(g, preface, sizeof preface, err);
    if (st) return st;
    if (memcmp(preface, SH_RPC_PREFACE, sizeof preface) != 0)
        return no_shoal(g, "it begins otherwise", err);
    return SHOAL_OK;
}

static enum shoal_status take_hello(struct greeting *g, struct sh_rpc_hello *m,
                                    struct shoal_error *err)
{
    struct sh_rpc_conn *c = g->c;
    const uint16_t top = m->revision_max < SH_RPC_REVISION ? m->revision_max : SH_RPC_REVISION;
    uint64_t needs;

    sh_rpc_text_copy(c->peer.software, sizeof c->peer.software, m->software);
    if (m->revision_min > m->revision_max || top < SH_RPC_REVISION_MIN || top < m->revision_min) {
        return sh_fail(err, SHOAL_ERR_UNSUPPORTED,
                       "no revision of the protocol in common: here is " SOFTWARE
                       " with %u to %u, there %s with %u to %u",
                       SH_RPC_REVISION_MIN, SH_RPC_REVISION, c->peer.software,
                       (unsigned)m->revision_min, (unsigned)m->revision_max);
    }
    c->peer.revision = top;
    c->peer.features = m->features & c->opt.features;
    memcpy(c->peer.machine, m->machine, sizeof m->machine);
    if (m->purpose >= SH_RPC_PURPOSE_COUNT) {
        return sh_fail(err, SHOAL_ERR_UNSUPPORTED, "there is no purpose %u of a connection",
                       (unsigned)m->purpose);
    }
    c->peer.purpose = (enum sh_rpc_purpose)m->purpose;
    needs = sh_conn_purpose_needs(c->peer.purpose);
    if ((c->peer.features & needs) != needs) {
        return sh_fail(err, SHOAL_ERR_UNSUPPORTED,
                       "a connection of purpose %u needs a feature that was not agreed",
                       (unsigned)m->purpose);
    }
    return take_ops(g, m->ops, m->n_ops, err);
}

static enum shoal_status say_welcome(struct greeting *g, struct shoal_error *err)
{
    struct sh_rpc_conn *c = g->c;
    struct sh_rpc_welcome m = {.revision = c->peer.revision,
                               .features = c->peer.features,
                               .software = sh_rpc_text_from(SOFTWARE)};
    struct sh_writer w = sh_writer_over(g->bytes, SH_RPC_GREETING_MAX);
    enum shoal_status st;

    memcpy(m.machine, c->opt.machine, sizeof m.machine);
    memcpy(m.boot, c->opt.boot, sizeof m.boot);
    m.ops = own_ops(&m.n_ops, &g->arena);
    if (!m.ops) return sh_fail(err, SHOAL_ERR_NOMEM, "rpc: no memory for a greeting");
    st = sh_rpc_encode(&w, SH_RPC_MSG_WELCOME, g->head.request, &m, GREETING_REVISION, false, err);
    if (!st) st = transmit(g, w.pos, err);
    return st;
}

/* Who has greeted as shoal does hears why it is turned away, if it can be said at once. */
static void turn_away(struct greeting *g, enum shoal_status why, const struct shoal_error *err)
{
    char text[sizeof err->message];
    const struct sh_rpc_error m = {
        .status = sh_rpc_status_put(why),
        .fatal = 1,
        .message = sh_rpc_text_clean(text, sizeof text, err->message),
    };
    struct sh_writer w = sh_writer_over(g->bytes, SH_RPC_GREETING_MAX);

    if (sh_rpc_encode(&w, SH_RPC_MSG_ERROR, g->head.request, &m, GREETING_REVISION, false, NULL))
        return;
    (void)!transmit(g, w.pos, NULL);
}

enum shoal_status sh_conn_greet_client(struct sh_rpc_conn *c, struct shoal_error *err)
{
    struct shoal_error why = SHOAL_ERROR_INIT;
    struct sh_rpc_hello hello;
    struct greeting g;
    bool greeted = false;
    enum shoal_status st;

    st = begin(&g, c, &why);
    if (!st) st = take_preface(&g, &why);
    if (!st) st = receive_frame(&g, SH_RPC_MSG_HELLO, &why);
    if (!st) st = decode(&g, &hello, &why);
    greeted = !st;
    if (!st) st = take_hello(&g, &hello, &why);
    if (st && greeted) turn_away(&g, st, &why);
    if (!st) st = say_welcome(&g, &why);
    if (st) {
        sh_error_set_peer(&why, c->stream->peer);
        if (err) *err = why;
    }
    end(&g);
    return st;
}
