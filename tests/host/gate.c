/* tests/host/gate.c - see gate.h. */
#include "gate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "cpu/device.h"
#include "net/tcp.h"

enum { MEMORY = 256 << 20, PURPOSE_AT = 12, PATIENCE = 60 };

static void must(enum shoal_status st, const struct shoal_error *err)
{
    if (st) fail_msg("%s: %s", shoal_status_name(st), err->message);
}

/* ---- a stream that is looked at --------------------------------------------------------------*/

struct tap {
    struct sh_stream head;
    struct sh_stream *below;
    struct gate_conn *conn;
};

static struct tap *tap_of(struct sh_stream *s)
{
    return (struct tap *)(void *)s;
}

// Under the lock: a HIDDEN has begun on a link.  True: it is to be cut.
static bool count_hidden(struct gate *g)
{
    g->n_hidden++;
    if (g->cut_every == 0 || g->n_hidden % g->cut_every != 0) return false;
    g->n_cuts++;
    g->refuse_links |= g->refuse_after_cut;
    return true;
}

// Under the lock: these bytes pass.  True: the connection is to be cut.
static bool measure(struct gate_conn *c, struct gate_meter *m, const uint8_t *p, size_t n)
{
    bool cut = false;

    for (size_t i = 0; i < n; i++) {
        if (m->skip > 0) {
            if (m == &c->in && m->type == SH_RPC_MSG_HELLO && m->at == PURPOSE_AT) {
                c->purpose = p[i];
                cut |= c->purpose == SH_RPC_FOR_LINK && c->gate->refuse_links;
            }
            m->at++;
            m->skip--;
            continue;
        }
        m->head[m->n_head++] = p[i];
        if (m->n_head < SH_RPC_HEAD_BYTES) continue;
        m->n_head = m->at = 0;
        m->skip = (size_t)(m->head[0] | m->head[1] << 8 | m->head[2] << 16);
        m->type = (uint16_t)(m->head[4] | m->head[5] << 8);
        assert_true(m->type < SH_RPC_TYPE_COUNT);
        m->frames[m->type]++;
        if (c->purpose == SH_RPC_FOR_LINK && m->type == SH_RPC_MSG_HIDDEN)
            cut |= count_hidden(c->gate);
    }
    return cut;
}

static enum shoal_status watch(struct tap *t, struct gate_meter *m, const uint8_t *p, size_t n,
                               struct shoal_error *err)
{
    bool cut;

    sh_mutex_lock(&t->conn->gate->lock);
    cut = measure(t->conn, m, p, n);
    sh_mutex_unlock(&t->conn->gate->lock);
    if (!cut) return SHOAL_OK;
    sh_stream_cut(t->below);
    return sh_fail(err, SHOAL_ERR_PEER, "the gate has cut the connection");
}

static enum shoal_status tap_read(struct sh_stream *s, void *dst, size_t n, size_t *got, bool *end,
                                  struct shoal_error *err)
{
    struct tap *t = tap_of(s);
    enum shoal_status st = t->below->ops->read(t->below, dst, n, got, end, err);

    if (st || *got == 0) return st;
    st = watch(t, &t->conn->in, dst, *got, err);
    if (st) *got = 0;
    return st;
}

// Counted before it is written: whoever has read a frame finds it counted.
static enum shoal_status tap_writev(struct sh_stream *s, const struct iovec *v, int n, size_t *put,
                                    struct shoal_error *err)
{
    struct tap *t = tap_of(s);
    struct gate_conn *c = t->conn;
    const struct gate_meter before = c->out; // one writer at a time
    enum shoal_status st = SHOAL_OK;
    size_t all = 0;

    *put = 0;
    for (int i = 0; i < n && !st; i++) {
        st = watch(t, &c->out, v[i].iov_base, v[i].iov_len, err);
        all += v[i].iov_len;
    }
    if (!st) st = t->below->ops->writev(t->below, v, n, put, err);
    if (st || *put == all) return st;
    sh_mutex_lock(&c->gate->lock);
    c->out = before;
    for (size_t i = 0, left = *put; left > 0; i++) {
        const size_t part = v[i].iov_len < left ? v[i].iov_len : left;
        (void)measure(c, &c->out, v[i].iov_base, part);
        left -= part;
    }
    sh_mutex_unlock(&c->gate->lock);
    return SHOAL_OK;
}

static enum shoal_status tap_wait(struct sh_stream *s, enum sh_stream_event event,
                                  int64_t timeout_ns, struct shoal_error *err)
{
    return tap_of(s)->below->ops->wait(tap_of(s)->below, event, timeout_ns, err);
}

static bool tap_hung_up(struct sh_stream *s)
{
    return sh_stream_hung_up(tap_of(s)->below);
}

static void tap_cut(struct sh_stream *s)
{
    sh_stream_cut(tap_of(s)->below);
}

static void tap_close(struct sh_stream *s)
{
    struct gate_conn *c = tap_of(s)->conn;

    sh_mutex_lock(&c->gate->lock);
    c->stream = NULL;
    sh_mutex_unlock(&c->gate->lock);
    sh_stream_close(tap_of(s)->below);
    sh_free(s);
}

static const struct sh_stream_ops TAP = {.close = tap_close,
                                         .read = tap_read,
                                         .writev = tap_writev,
                                         .wait = tap_wait,
                                         .hung_up = tap_hung_up,
                                         .cut = tap_cut};

static struct sh_stream *tap_over(struct sh_stream *below, struct gate_conn *c)
{
    struct tap *t = sh_calloc(1, sizeof *t);

    SH_ASSERT(t);
    t->head.ops = &TAP;
    t->head.clock = below->clock;
    memcpy(t->head.peer, below->peer, sizeof t->head.peer);
    t->below = below;
    t->conn = c;
    return &t->head;
}

/* ---- the listener ----------------------------------------------------------------------------*/

static void *serve(void *self)
{
    const struct sh_rpc_client who = {.loopback = true};
    struct gate_conn *c = self;
    struct shoal_error err = SHOAL_ERROR_INIT;

    (void)sh_rpc_server_serve(c->gate->server, c->stream, &who, &err);
    return NULL;
}

static void *let_in(void *self)
{
    const struct sh_tcp_options tcp = {.user_timeout_ms = 0};
    struct gate *g = self;

    for (;;) {
        struct sh_stream *s;
        struct sh_address peer;
        struct gate_conn *c;
        if (sh_listener_accept(g->listener, SH_NO_DEADLINE, &tcp, &s, &peer, NULL)) break;
        sh_mutex_lock(&g->lock);
        SH_ASSERT(g->n < GATE_CONNS);
        c = &g->conn[g->n];
        c->gate = g;
        c->purpose = -1;
        c->in.skip = SH_RPC_PREFACE_BYTES;
        c->stream = tap_over(s, c);
        SH_ASSERT(!sh_thread_start(&c->thread, "gate", serve, c, NULL));
        g->n++;
        sh_mutex_unlock(&g->lock);
    }
    return NULL;
}

static int addresses(void *self, char out[][SH_ADDRESS_TEXT_MAX], int n)
{
    const struct gate *g = self;

    if (n < 1) return 0;
    snprintf(out[0], SH_ADDRESS_TEXT_MAX, "%s", g->address);
    return 1;
}

/* ---- the worker ------------------------------------------------------------------------------*/

void gate_open(struct gate *g, uint64_t features, int64_t redial_ns)
{
    const struct sh_cpu_options cpu = {.n_threads = 1, .memory_max = MEMORY};
    struct sh_rpc_server_options o = {.n_devices = 1,
                                      .features = features,
                                      .silence_ns = PATIENCE * SH_SECOND,
                                      .link_silence_ns = PATIENCE * SH_SECOND,
                                      .link_redial_ns = redial_ns,
                                      .addresses = addresses,
                                      .self = g};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_endpoint ep;

    memset(g, 0, sizeof *g);
    sh_mutex_init(&g->lock);
    must(sh_cpu_device_open(&g->device, &cpu, &err), &err);
    must(sh_ledger_create(&g->ledger, MEMORY, &err), &err);
    must(sh_blobs_create(&g->blobs, NULL, &err), &err);
    o.devices = &g->device;
    o.ledger = g->ledger;
    o.blobs = g->blobs;
    must(sh_rpc_server_create(&g->server, &o, &err), &err);
    must(sh_endpoint_parse(&ep, "127.0.0.1:0", -1, &err), &err);
    must(sh_listener_open(&g->listener, &ep, &err), &err);
    snprintf(g->address, sizeof g->address, "%s", sh_listener_text(g->listener));
    must(sh_thread_start(&g->accepting, "gate", let_in, g, &err), &err);
}

void gate_close(struct gate *g)
{
    struct sh_rpc_server_stats stats;

    sh_listener_interrupt(g->listener);
    sh_thread_join(&g->accepting);
    sh_listener_close(g->listener);
    sh_rpc_server_stop(g->server);
    sh_rpc_server_drain(g->server);
    for (int i = 0; i < g->n; i++)
        sh_thread_join(&g->conn[i].thread);
    sh_rpc_server_stats(g->server, &stats);
    assert_int_equal(stats.n_sessions, 0);
    assert_int_equal(stats.memory_used, 0);
    sh_rpc_server_destroy(g->server);
    sh_blobs_destroy(g->blobs);
    sh_ledger_destroy(g->ledger);
    sh_device_close(g->device);
    sh_mutex_release(&g->lock);
}

/* ---- figures ---------------------------------------------------------------------------------*/

uint64_t gate_frames(struct gate *g, enum sh_rpc_purpose purpose, enum sh_rpc_type type, bool in)
{
    uint64_t n = 0;

    sh_mutex_lock(&g->lock);
    for (int i = 0; i < g->n; i++) {
        const struct gate_conn *c = &g->conn[i];
        if (c->purpose == (int)purpose) n += in ? c->in.frames[type] : c->out.frames[type];
    }
    sh_mutex_unlock(&g->lock);
    return n;
}

int gate_connections(struct gate *g, enum sh_rpc_purpose purpose)
{
    int n = 0;

    sh_mutex_lock(&g->lock);
    for (int i = 0; i < g->n; i++)
        n += g->conn[i].purpose == (int)purpose;
    sh_mutex_unlock(&g->lock);
    return n;
}
