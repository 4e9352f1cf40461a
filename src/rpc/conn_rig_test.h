/* rpc/conn_rig_test.h - what the tests of connections share: wires of every kind, two greeted ends
 * with a thread in run() each, and a log of what came.
 */
#ifndef RPC_CONN_RIG_TEST_H
#define RPC_CONN_RIG_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "base/thread.h"
#include "net/listener.h"
#include "net/tls.h"
#include "rpc/conn.h"

#define LONG (60 * SH_SECOND) /* for what should happen */

static inline void must_(enum shoal_status st, const struct shoal_error *err, int line)
{
    if (st) print_message("line %d: %s: %s\n", line, shoal_status_name(st), err->message);
    assert_int_equal(st, SHOAL_OK);
}
#define MUST(call) must_((call), &err, __LINE__)

/* ---- a wire that can be held, and counts ----------------------------------------------------*/

struct gate {
    struct sh_stream head;
    struct sh_stream *inner;
    struct sh_mutex lock; // guards:
    struct sh_cond changed;
    bool held, is_cut;
    int64_t passes; // bytes that still pass while held
    _Atomic uint64_t n_writes;
};

static inline struct gate *gate_of(struct sh_stream *s)
{
    return (struct gate *)s;
}

static inline void gate_close(struct sh_stream *s)
{
    struct gate *g = gate_of(s);

    sh_stream_close(g->inner);
    sh_cond_release(&g->changed);
    sh_mutex_release(&g->lock);
    sh_free(g);
}

static inline enum shoal_status gate_read(struct sh_stream *s, void *dst, size_t n, size_t *got,
                                          bool *end, struct shoal_error *err)
{
    return gate_of(s)->inner->ops->read(gate_of(s)->inner, dst, n, got, end, err);
}

static inline enum shoal_status gate_writev(struct sh_stream *s, const struct iovec *v, int n,
                                            size_t *put, struct shoal_error *err)
{
    struct gate *g = gate_of(s);
    struct iovec one = v[0];
    enum shoal_status st;

    *put = 0;
    sh_mutex_lock(&g->lock);
    if (g->held && !g->is_cut) {
        if (g->passes == 0) {
            sh_mutex_unlock(&g->lock);
            return SHOAL_OK;
        }
        if (one.iov_len > (uint64_t)g->passes) one.iov_len = (size_t)g->passes;
        v = &one;
        n = 1;
    }
    sh_mutex_unlock(&g->lock);
    st = g->inner->ops->writev(g->inner, v, n, put, err);
    if (*put > 0) g->n_writes++;
    sh_mutex_lock(&g->lock);
    if (g->held) g->passes -= (int64_t)*put;
    sh_mutex_unlock(&g->lock);
    return st;
}

static inline enum shoal_status gate_wait(struct sh_stream *s, enum sh_stream_event event,
                                          int64_t ns, struct shoal_error *err)
{
    struct gate *g = gate_of(s);
    bool in_time = true;

    if (event == SH_STREAM_READABLE) return g->inner->ops->wait(g->inner, event, ns, err);
    sh_mutex_lock(&g->lock);
    while (g->held && g->passes == 0 && !g->is_cut && in_time)
        in_time = sh_cond_wait(&g->changed, &g->lock, ns);
    sh_mutex_unlock(&g->lock);
    if (!in_time) return sh_fail(err, SHOAL_ERR_TIMEOUT, "held");
    return g->inner->ops->wait(g->inner, event, ns, err);
}

static inline bool gate_hung_up(struct sh_stream *s)
{
    return sh_stream_hung_up(gate_of(s)->inner);
}

static inline void gate_cut(struct sh_stream *s)
{
    struct gate *g = gate_of(s);

    sh_mutex_lock(&g->lock);
    g->is_cut = true;
    sh_cond_broadcast(&g->changed);
    sh_mutex_unlock(&g->lock);
    sh_stream_cut(g->inner);
}

static const struct sh_stream_ops g_gate_ops = {
    .close = gate_close,
    .read = gate_read,
    .writev = gate_writev,
    .wait = gate_wait,
    .hung_up = gate_hung_up,
    .cut = gate_cut,
};

static inline struct gate *gate_open(struct sh_stream *inner)
{
    struct gate *g = sh_calloc(1, sizeof *g);

    assert_non_null(g);
    g->head.ops = &g_gate_ops;
    g->head.clock = inner->clock;
    memcpy(g->head.peer, inner->peer, sizeof g->head.peer);
    g->inner = inner;
    sh_mutex_init(&g->lock);
    sh_cond_init(&g->changed);
    return g;
}

static inline void gate_hold(struct gate *g, bool held, int64_t passes)
{
    sh_mutex_lock(&g->lock);
    g->held = held;
    g->passes = passes;
    sh_cond_broadcast(&g->changed);
    sh_mutex_unlock(&g->lock);
}

/* ---- wires ----------------------------------------------------------------------------------*/

enum wire { PIPE, NARROW, TCP, TLS_PIPE, TLS_TCP, N_WIRES };
static const char *const WIRE_NAMES[N_WIRES] = {"memory", "memory of 7 bytes", "TCP",
                                                "TLS over memory", "TLS over TCP"};

static struct sh_key g_key;

static inline bool find_key(void *self, const char *identity, struct sh_key *out)
{
    (void)self;
    (void)identity;
    *out = g_key;
    return true;
}

struct shaking {
    struct sh_stream *below, *tls;
};

static inline void *shake_server(void *arg)
{
    static const struct sh_tls_keys keys = {.find = find_key};
    struct shaking *s = arg;
    char identity[SH_TLS_IDENTITY_MAX];

    if (sh_tls_accept(&s->tls, s->below, &keys, LONG, identity, NULL)) s->tls = NULL;
    return NULL;
}

static inline void encrypt(struct sh_stream **a, struct sh_stream **b)
{
    struct shaking s = {.below = *b};
    struct sh_thread thread = SH_THREAD_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;

    MUST(sh_key_make(&g_key, &err));
    MUST(sh_thread_start(&thread, "tls", shake_server, &s, &err));
    MUST(sh_tls_connect(a, *a, "v1|test|c2w", &g_key, LONG, &err));
    sh_thread_join(&thread);
    assert_non_null(s.tls);
    *b = s.tls;
}

static inline void open_tcp(struct sh_stream **a, struct sh_stream **b)
{
    const struct sh_tcp_options opt = {.user_timeout_ms = 60000};
    struct sh_listener *l;
    struct sh_address peer;
    struct sh_endpoint ep;
    struct shoal_error err = SHOAL_ERROR_INIT;

    MUST(sh_endpoint_parse(&ep, "127.0.0.1:0", -1, &err));
    MUST(sh_listener_open(&l, &ep, &err));
    MUST(sh_endpoint_parse(&ep, sh_listener_text(l), -1, &err));
    MUST(sh_tcp_connect(a, &ep, LONG, &opt, &err));
    MUST(sh_listener_accept(l, LONG, &opt, b, &peer, &err));
    sh_listener_close(l);
}

static inline bool is_tls(enum wire w)
{
    return w == TLS_PIPE || w == TLS_TCP;
}

static inline void open_wire(enum wire w, struct sh_stream **a, struct sh_stream **b)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (w == TCP || w == TLS_TCP) {
        open_tcp(a, b);
    } else {
        MUST(sh_stream_pair(a, b, w == NARROW ? 7 : w == PIPE ? 65536 : 1000, &err));
    }
    if (is_tls(w)) encrypt(a, b);
}

/* ---- ends -----------------------------------------------------------------------------------*/

#define LOG_MAX 4096

struct seen {
    enum sh_rpc_type type;
    uint32_t request;
    uint64_t epoch, number;
    size_t n;
};

struct end {
    struct sh_stream *stream;
    struct sh_rpc_conn_options opt;
    struct sh_rpc_conn *c;
    struct sh_thread thread;
    enum shoal_status st; // of accept
    struct shoal_error err;
    enum shoal_status ran; // of run()
    struct shoal_error why;

    struct sh_mutex lock; // guards:
    struct sh_cond changed;
    struct seen log[LOG_MAX];
    int n_log;
    uint64_t beats, ack;
    bool over;
};

static inline void note(struct end *e, const struct sh_rpc_incoming *m)
{
    struct seen s = {.type = m->type, .request = m->request, .n = m->n};

    if (m->type == SH_RPC_MSG_STEP) {
        s.epoch = ((const struct sh_rpc_step *)m->msg)->epoch;
        s.number = ((const struct sh_rpc_step *)m->msg)->number;
    } else if (m->type == SH_RPC_MSG_HIDDEN) {
        s.epoch = ((const struct sh_rpc_hidden *)m->msg)->epoch;
        s.number = ((const struct sh_rpc_hidden *)m->msg)->number;
    } else if (m->type == SH_RPC_MSG_CANCEL) {
        s.epoch = ((const struct sh_rpc_cancel *)m->msg)->epoch;
        s.number = ((const struct sh_rpc_cancel *)m->msg)->from;
    } else if (m->type == SH_RPC_MSG_RESULT) {
        s.epoch = ((const struct sh_rpc_result *)m->msg)->epoch;
        s.number = ((const struct sh_rpc_result *)m->msg)->number;
    }
    sh_mutex_lock(&e->lock);
    if (e->n_log < LOG_MAX) e->log[e->n_log++] = s;
    sh_cond_broadcast(&e->changed);
    sh_mutex_unlock(&e->lock);
}

/* DEVICES is answered, STATS refused, CLOSE ends everything, RESET stays open: the test answers. */
static inline enum shoal_status on_message(void *self, struct sh_rpc_conn *c,
                                           const struct sh_rpc_incoming *m, struct shoal_error *err)
{
    const struct sh_rpc_devices_are devices = {.n_devices = 0};
    struct shoal_error why = SHOAL_ERROR_INIT;

    switch (m->type) {
    case SH_RPC_MSG_DEVICES:
        return sh_rpc_conn_send(c, SH_RPC_MSG_DEVICES_ARE, m->request, &devices, err);
    case SH_RPC_MSG_STATS:
        (void)sh_fail(&why, SHOAL_ERR_NOMEM, "no room for figures");
        sh_rpc_conn_refuse(c, m->request, why.code, &why, 100, 50);
        return SHOAL_OK;
    case SH_RPC_MSG_CLOSE:
        return sh_fail(err, SHOAL_ERR_STATE, "this end wants no more");
    default:
        note(self, m);
        return SHOAL_OK;
    }
}

static inline void on_beat(void *self, uint64_t ack)
{
    struct end *e = self;

    sh_mutex_lock(&e->lock);
    e->beats++;
    e->ack = ack;
    sh_cond_broadcast(&e->changed);
    sh_mutex_unlock(&e->lock);
}

static inline void *run_end(void *arg)
{
    struct end *e = arg;
    const struct sh_rpc_handler h = {.message = on_message, .beat = on_beat, .self = e};

    if (!e->c) {
        e->st = sh_rpc_conn_accept(&e->c, e->stream, &e->opt, &e->err);
        if (e->st) return NULL;
    }
    e->ran = sh_rpc_conn_run(e->c, &h, &e->why);
    sh_mutex_lock(&e->lock);
    e->over = true;
    sh_cond_broadcast(&e->changed);
    sh_mutex_unlock(&e->lock);
    return NULL;
}

static inline struct end *new_end(struct sh_stream *s, bool encrypted, unsigned mark)
{
    struct end *e = sh_calloc(1, sizeof *e);

    assert_non_null(e);
    e->stream = s;
    e->opt = (struct sh_rpc_conn_options){.features = SH_RPC_FEATURES_ALL,
                                          .encrypted = encrypted,
                                          .greeting_ns = LONG,
                                          .silence_ns = LONG};
    memset(e->opt.machine, (int)mark, sizeof e->opt.machine);
    memset(e->opt.boot, (int)mark + 1, sizeof e->opt.boot);
    sh_mutex_init(&e->lock);
    sh_cond_init(&e->changed);
    return e;
}

static inline void start_end(struct end *e)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    MUST(sh_thread_start(&e->thread, "end", run_end, e, &err));
}

/* Greet, and let both run. */
static inline void greet(struct end *client, struct end *server)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    start_end(server);
    MUST(sh_rpc_conn_connect(&client->c, client->stream, &client->opt, &err));
    start_end(client);
}

struct two {
    struct end *client, *server;
    size_t live;
};

static inline void open_two(struct two *t, enum wire w)
{
    struct sh_stream *a, *b;

    t->live = sh_mem_live_bytes();
    open_wire(w, &a, &b);
    t->client = new_end(a, is_tls(w), 10);
    t->server = new_end(b, is_tls(w), 20);
}

static inline void free_end(struct end *e)
{
    if (e->c) sh_rpc_conn_close(e->c, NULL);
    sh_cond_release(&e->changed);
    sh_mutex_release(&e->lock);
    sh_free(e);
}

/* Both ends' run() have returned; nothing may be left. */
static inline void close_two(struct two *t)
{
    sh_thread_join(&t->client->thread);
    sh_thread_join(&t->server->thread);
    free_end(t->client);
    free_end(t->server);
    assert_int_equal(sh_mem_live_bytes(), t->live);
}

/* In order, by the client. */
static inline void leave_two(struct two *t)
{
    sh_rpc_conn_leave(t->client->c, "the test is done");
    sh_thread_join(&t->client->thread);
    sh_thread_join(&t->server->thread);
    assert_int_equal(t->client->ran, SHOAL_OK);
    assert_int_equal(t->server->ran, SHOAL_OK);
    close_two(t);
}

/* Wait until the end has logged n messages, or seen n beats with this ack. */
static inline void wait_log(struct end *e, int n)
{
    bool in_time = true;

    sh_mutex_lock(&e->lock);
    while (e->n_log < n && in_time && !e->over)
        in_time = sh_cond_wait(&e->changed, &e->lock, LONG);
    if (e->n_log < n) print_message("%d of %d came: %s\n", e->n_log, n, e->why.message);
    assert_true(e->n_log >= n);
    sh_mutex_unlock(&e->lock);
}

static inline void wait_ack(struct end *e, uint64_t ack)
{
    bool in_time = true;

    sh_mutex_lock(&e->lock);
    while ((e->ack != ack || e->beats == 0) && in_time && !e->over)
        in_time = sh_cond_wait(&e->changed, &e->lock, LONG);
    assert_true(e->beats > 0 && e->ack == ack);
    sh_mutex_unlock(&e->lock);
}

static inline void wait_over(struct end *e)
{
    bool in_time = true;

    sh_mutex_lock(&e->lock);
    while (!e->over && in_time)
        in_time = sh_cond_wait(&e->changed, &e->lock, LONG);
    assert_true(e->over);
    sh_mutex_unlock(&e->lock);
}

/* ---- messages -------------------------------------------------------------------------------*/

static inline enum shoal_status send_hidden(struct sh_rpc_conn *c, uint64_t epoch, uint64_t number,
                                            const uint8_t *data, uint32_t n,
                                            struct shoal_error *err)
{
    const struct sh_rpc_hidden m = {.epoch = epoch, .number = number, .data = {data, n}};

    return sh_rpc_conn_send(c, SH_RPC_MSG_HIDDEN, 0, &m, err);
}

static inline enum shoal_status send_cancel(struct sh_rpc_conn *c, uint64_t epoch, uint64_t number,
                                            struct shoal_error *err)
{
    const struct sh_rpc_cancel m = {.epoch = epoch, .from = number};

    return sh_rpc_conn_send(c, SH_RPC_MSG_CANCEL, 0, &m, err);
}

static inline enum shoal_status send_step(struct sh_rpc_conn *c, uint64_t epoch, uint64_t number,
                                          const struct sh_rpc_row *rows, uint32_t n_rows,
                                          struct shoal_error *err)
{
    const struct sh_rpc_step m = {.epoch = epoch, .number = number, .rows = rows, .n_rows = n_rows};

    return sh_rpc_conn_send(c, SH_RPC_MSG_STEP, 0, &m, err);
}

static inline enum shoal_status ask(struct sh_rpc_conn *c, enum sh_rpc_type type, void *answer,
                                    struct sh_arena *arena, int64_t ns, struct sh_rpc_ask *out,
                                    struct shoal_error *err)
{
    static const uint64_t zeros[64];
    struct sh_rpc_ask q = {
        .type = type, .msg = zeros, .answer = answer, .arena = arena, .timeout_ns = ns};
    const enum shoal_status st = sh_rpc_conn_ask(c, &q, err);

    if (out) *out = q;
    return st;
}

#endif
