/* tests/sim/net.c - see net.h.
 *
 *      side 0 (client)  -- pipe[0]: ring, then segments on their way, then what has arrived -->
 * side 1
 *
 * A byte stays in the ring from being written until it is read; `arrived` of them can be read.
 * A pulled link keeps what would arrive and hands it over when it is mended, as TCP would after
 * sending it again; a reset that falls into that time is lost.
 */
#include "sim/net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sim/net_priv.h"
#include "sim/sched.h"

static struct {
    struct net_shape shape;
    struct conn *conns;
    struct sh_listener *listeners;
    int n_conns, n_streams;
    int node_of[PROCS_MAX];
    bool pulled[NET_NODES_MAX][NET_NODES_MAX];
    uint64_t pull_number[NET_NODES_MAX][NET_NODES_MAX];
    double crawl[NET_NODES_MAX][NET_NODES_MAX]; // bytes per nanosecond, 0: as the shape says
    enum { NO_WALL, FIREWALL, SILENT_WALL } wall[NET_NODES_MAX][NET_NODES_MAX];
    bool refuses[NET_NODES_MAX], ignores[NET_NODES_MAX], no_descriptors[NET_NODES_MAX];
    uint64_t carried[NET_NODES_MAX][NET_NODES_MAX][2]; // [client][server][up]
    int corrupt[NET_NODES_MAX][NET_NODES_MAX][2];      // bytes that are still to change
    struct trap trap[TRAPS_MAX];
    int n_traps;
} g;

/* ---- links ---------------------------------------------------------------------------------- */

void net_place(int proc, int node)
{
    g.node_of[proc] = node;
}

int net_own_node(void)
{
    return g.node_of[sim_self_proc()];
}

void net_node_text(int node, int port, char out[72])
{
    (void)snprintf(out, 72, "10.0.0.%d:%d", node, port);
}

static bool is_pulled(int a, int b)
{
    return g.pulled[a][b];
}

static int64_t delay(void)
{
    const int64_t j = g.shape.jitter_ns;

    return g.shape.delay_ns + (j > 0 ? (int64_t)sim_random((uint32_t)j) : 0);
}

static bool conn_pulled(const struct conn *c)
{
    return is_pulled(c->side[0].node, c->side[1].node);
}

/* ---- life of a connection ------------------------------------------------------------------- */

static void free_conn_if_done(struct conn *c)
{
    struct conn **at = &g.conns;

    if (!c->side[0].closed || !c->side[1].closed || c->n_events > 0) return;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    free(c->pipe[0].ring);
    free(c->pipe[1].ring);
    free(c);
}

static void wake_side(struct conn *c, int s)
{
    sim_wake(&c->pipe[!s].arrived); // its reader
    sim_wake(&c->pipe[s].len);      // its writer
}

static void fail_side(struct conn *c, int s, int failure)
{
    if (c->side[s].failure || c->side[s].closed) return;
    sim_note("lost", c->id, s);
    c->side[s].failure = failure;
    wake_side(c, s);
}

static void later(struct conn *c, int64_t when, sim_event_fn *fn, int64_t a, int64_t b)
{
    c->n_events++;
    sim_at(when, fn, c, a, b);
}

static void reset_arrives(void *self, int64_t side, int64_t unused)
{
    struct conn *c = self;

    (void)unused;
    c->n_events--;
    if (!conn_pulled(c)) fail_side(c, (int)side, ECONNRESET);
    free_conn_if_done(c);
}

static void send_reset(struct conn *c, int to)
{
    later(c, sim_now() + delay(), reset_arrives, to, 0);
}

static bool is_deaf(const struct side *s)
{
    return s->closed || s->dead || s->failure;
}

static void hand_over(struct conn *c, int from, size_t n)
{
    struct pipe *p = &c->pipe[from];

    p->arrived += n;
    sim_note("arrive", c->id * 2 + from, (int64_t)n);
    if (n > 0 && is_deaf(&c->side[!from])) send_reset(c, from);
    sim_wake(&p->arrived);
}

static void hand_over_end(struct conn *c, int from)
{
    sim_note("end", c->id * 2 + from, 0);
    c->pipe[from].end_arrived = true;
    wake_side(c, !from);
}

static void segment_arrives(void *self, int64_t from, int64_t n)
{
    struct conn *c = self;
    struct pipe *p = &c->pipe[from];

    c->n_events--;
    if (conn_pulled(c)) {
        p->kept += (size_t)n;
    } else {
        hand_over(c, (int)from, (size_t)n);
    }
    free_conn_if_done(c);
}

static void end_arrives(void *self, int64_t from, int64_t unused)
{
    struct conn *c = self;
    struct pipe *p = &c->pipe[from];

    (void)unused;
    c->n_events--;
    if (conn_pulled(c)) {
        p->end_kept = true;
    } else {
        hand_over_end(c, (int)from);
    }
    free_conn_if_done(c);
}

static void send_end(struct conn *c, int from)
{
    struct pipe *p = &c->pipe[from];
    int64_t when = sim_now() + delay();

    if (p->end_sent || is_deaf(&c->side[from])) return;
    p->end_sent = true;
    if (when < p->last_seen) when = p->last_seen;
    later(c, when, end_arrives, from, 0);
}

/* Put bytes on the line in segments. */
static void send_segments(struct conn *c, int from, size_t n)
{
    const double slow = g.crawl[c->side[0].node][c->side[1].node];
    const double rate = slow > 0 ? slow : g.shape.bytes_per_ns;
    struct pipe *p = &c->pipe[from];

    if (p->line_free < sim_now()) p->line_free = sim_now();
    while (n > 0) {
        size_t part = g.shape.segment_max;
        int64_t when;
        if (sim_chance(g.shape.partial)) part = 1 + sim_random((uint32_t)part);
        if (part > n) part = n;
        p->line_free += (int64_t)((double)part / rate);
        when = p->line_free + delay();
        if (when < p->last_seen) when = p->last_seen;
        p->last_seen = when;
        later(c, when, segment_arrives, from, (int64_t)part);
        n -= part;
    }
}

/* ---- faults --------------------------------------------------------------------------------- */

static bool between(const struct conn *c, int a, int b)
{
    const int x = c->side[0].node, y = c->side[1].node;

    return (x == a && y == b) || (x == b && y == a);
}

/* The link has been silent for as long as the system is patient. */
static void keepalive(void *self, int64_t number, int64_t unused)
{
    struct conn *c = self;
    const int a = c->side[0].node, b = c->side[1].node;

    (void)unused;
    c->n_events--;
    for (int s = 0; s < 2 && conn_pulled(c) && g.pull_number[a][b] == (uint64_t)number; s++) {
        const struct pipe *out = &c->pipe[s];
        // With data unacknowledged it is not probed, and sent again for many minutes instead.
        if (out->len > out->arrived && c->side[s].user_timeout_ms == 0) continue;
        fail_side(c, s, ETIMEDOUT);
    }
    free_conn_if_done(c);
}

void net_pull(int a, int b)
{
    sim_note("pull", a, b);
    g.pulled[a][b] = g.pulled[b][a] = true;
    g.pull_number[b][a] = ++g.pull_number[a][b];
    for (struct conn *c = g.conns; c; c = c->next) {
        if (!between(c, a, b)) continue;
        later(c, sim_now() + KEEPALIVE_NS + sim_random(1u << 31), keepalive,
              (int64_t)g.pull_number[a][b], 0);
    }
}

void net_mend(int a, int b)
{
    sim_note("mend", a, b);
    g.pulled[a][b] = g.pulled[b][a] = false;
    for (struct conn *c = g.conns; c; c = c->next) {
        for (int from = 0; from < 2 && between(c, a, b); from++) {
            struct pipe *p = &c->pipe[from];
            const size_t n = p->kept;
            const bool end = p->end_kept;
            p->kept = 0;
            p->end_kept = false;
            if (n > 0) hand_over(c, from, n);
            if (end) hand_over_end(c, from);
            wake_side(c, from);
        }
    }
}

void net_crawl(int a, int b, double bytes_per_s)
{
    sim_note("crawl", a, b);
    g.crawl[a][b] = g.crawl[b][a] = bytes_per_s / 1e9;
}

void net_reset(int a, int b)
{
    sim_note("reset", a, b);
    for (struct conn *c = g.conns; c; c = c->next) {
        if (!between(c, a, b)) continue;
        fail_side(c, 0, ECONNRESET);
        fail_side(c, 1, ECONNRESET);
    }
}

void net_kill(int proc)
{
    sim_note("kill", proc, 0);
    for (struct conn *c = g.conns; c; c = c->next) {
        for (int s = 0; s < 2; s++) {
            if (c->side[s].proc != proc || c->side[s].dead) continue;
            c->side[s].dead = true;
            fail_side(c, s, EPIPE);
            if (!c->side[!s].closed) send_reset(c, !s);
        }
    }
    for (struct sh_listener *l = g.listeners; l; l = l->next)
        l->gone = l->gone || l->proc == proc;
}

void net_refuse(int node, bool on)
{
    sim_note("refuse", node, on);
    g.refuses[node] = on;
}

void net_ignore(int node, bool on)
{
    sim_note("ignore", node, on);
    g.ignores[node] = on;
}

void net_wall(int a, int b, bool silent)
{
    sim_note("wall", a, b);
    g.wall[a][b] = g.wall[b][a] = silent ? SILENT_WALL : FIREWALL;
}

void net_no_descriptors(int node, bool on)
{
    sim_note("no descriptors", node, on);
    g.no_descriptors[node] = on;
    for (struct sh_listener *l = g.listeners; l; l = l->next) {
        if (l->node == node) sim_wake(l);
    }
}

void net_corrupt(int client, int server, bool up, int n_bytes)
{
    sim_note("corrupt", client, server);
    g.corrupt[client][server][up] = n_bytes;
}

uint64_t net_carried(int client, int server, bool up)
{
    return g.carried[client][server][up];
}

void net_trap(int client, int server, bool up, uint64_t at, net_trap_fn *fn, void *self, int64_t a)
{
    if (g.n_traps == TRAPS_MAX) sim_fail("too many traps");
    g.trap[g.n_traps++] = (struct trap){client, server, up, at, fn, self, a};
}

/* How many of n bytes may pass before the next trap; 0: it is right here. */
static size_t up_to_trap(const struct conn *c, bool up, size_t n)
{
    const uint64_t at = g.carried[c->side[0].node][c->side[1].node][up];

    for (int i = 0; i < g.n_traps; i++) {
        const struct trap *t = &g.trap[i];
        if (t->client != c->side[0].node || t->server != c->side[1].node || t->up != up) continue;
        if (t->at >= at && t->at - at < n) n = (size_t)(t->at - at);
    }
    return n;
}

static void spring_traps(const struct conn *c, bool up)
{
    const uint64_t at = g.carried[c->side[0].node][c->side[1].node][up];

    for (int i = 0; i < g.n_traps; i++) {
        const struct trap t = g.trap[i];
        if (t.client != c->side[0].node || t.server != c->side[1].node || t.up != up) continue;
        if (t.at > at) continue;
        g.trap[i--] = g.trap[--g.n_traps];
        t.fn(t.self, t.a);
    }
}

/* ---- streams -------------------------------------------------------------------------------- */

static struct sim_stream *stream_of(struct sh_stream *s)
{
    return (struct sim_stream *)(void *)s;
}

static enum shoal_status fail_lost(struct sim_stream *s, const char *doing, struct shoal_error *err)
{
    const struct side *me = &s->c->side[s->side];

    if (me->cut) {
        return sh_fail(err, SHOAL_ERR_CANCELLED, "the connection to %s was cut from this side",
                       s->head.peer);
    }
    return sh_fail_errno(err, SHOAL_ERR_PEER, me->failure, "%s: the connection was lost while %s",
                         s->head.peer, doing);
}

static void sim_close(struct sh_stream *stream)
{
    struct sim_stream *s = stream_of(stream);
    struct conn *c = s->c;

    sim_note("close", c->id, s->side);
    if (c->pipe[!s->side].arrived > 0 && !is_deaf(&c->side[s->side])) {
        send_reset(c, !s->side); // as the system does when unread bytes are thrown away
    } else {
        send_end(c, s->side);
    }
    c->side[s->side].closed = true;
    g.n_streams--;
    sh_free(s);
    free_conn_if_done(c);
}

static size_t some_of(size_t n)
{
    return n > 1 && sim_chance(g.shape.partial) ? 1 + sim_random((uint32_t)n) : n;
}

static enum shoal_status sim_read(struct sh_stream *stream, void *dst, size_t n, size_t *got,
                                  bool *end, struct shoal_error *err)
{
    struct sim_stream *s = stream_of(stream);
    struct conn *c = s->c;
    struct pipe *p = &c->pipe[!s->side];

    sim_yield();
    *got = 0;
    *end = false;
    if (c->side[s->side].dead) return fail_lost(s, "receiving", err);
    if (p->arrived > 0) {
        size_t take = some_of(n < p->arrived ? n : p->arrived);
        if (take > g.shape.buffer_bytes - p->start) take = g.shape.buffer_bytes - p->start;
        memcpy(dst, p->ring + p->start, take);
        p->start = (p->start + take) % g.shape.buffer_bytes;
        p->len -= take;
        p->arrived -= take;
        p->full_since = sim_now();
        *got = take;
        sim_note("read", c->id * 2 + s->side, (int64_t)take);
        if (!conn_pulled(c)) sim_wake(&p->len);
        return SHOAL_OK;
    }
    if (c->side[s->side].cut || c->side[s->side].failure) return fail_lost(s, "receiving", err);
    *end = p->end_arrived;
    return SHOAL_OK;
}

static void change_bytes(uint8_t *bytes, size_t n, int *n_left)
{
    for (size_t i = 0; i<n && * n_left> 0; i++, (*n_left)--)
        bytes[i] = (uint8_t)(bytes[i] ^ (1 + sim_random(255)));
}

/* Copy pieces into the ring, `room` bytes at most. */
static size_t fill_ring(struct conn *c, int from, const struct iovec *v, int n, size_t room)
{
    const int client = c->side[0].node, server = c->side[1].node;
    const size_t cap = g.shape.buffer_bytes;
    struct pipe *p = &c->pipe[from];
    size_t put = 0;

    for (int i = 0; i < n && put < room; i++) {
        const uint8_t *src = v[i].iov_base;
        size_t done = 0;
        while (done < v[i].iov_len && put < room) {
            const size_t at = (p->start + p->len) % cap;
            size_t part = v[i].iov_len - done;
            if (part > room - put) part = room - put;
            if (part > cap - at) part = cap - at;
            memcpy(p->ring + at, src + done, part);
            change_bytes(p->ring + at, part, &g.corrupt[client][server][from == 0]);
            p->len += part;
            done += part;
            put += part;
        }
    }
    return put;
}

static enum shoal_status sim_writev(struct sh_stream *stream, const struct iovec *v, int n,
                                    size_t *put, struct shoal_error *err)
{
    struct sim_stream *s = stream_of(stream);
    struct conn *c = s->c;
    const bool up = s->side == 0;
    size_t total = 0, room;

    sim_yield();
    *put = 0;
    spring_traps(c, up); // may reset this very connection
    if (c->side[s->side].cut || c->side[s->side].failure) return fail_lost(s, "sending", err);
    for (int i = 0; i < n; i++)
        total += v[i].iov_len;
    room = g.shape.buffer_bytes - c->pipe[s->side].len;
    if (room > total) room = total;
    if (room == 0) return SHOAL_OK;
    room = up_to_trap(c, up, some_of(room));
    *put = fill_ring(c, s->side, v, n, room);
    c->pipe[s->side].full_since = sim_now();
    g.carried[c->side[0].node][c->side[1].node][up] += *put;
    sim_note("write", c->id * 2 + s->side, (int64_t)*put);
    send_segments(c, s->side, *put);
    return SHOAL_OK;
}

static bool is_ready(const struct sim_stream *s, enum sh_stream_event event)
{
    const struct conn *c = s->c;
    const struct side *me = &c->side[s->side];

    if (me->cut || me->failure) return true;
    if (event == SH_STREAM_READABLE)
        return c->pipe[!s->side].arrived > 0 || c->pipe[!s->side].end_arrived;
    return c->pipe[s->side].len < g.shape.buffer_bytes;
}

static enum shoal_status sim_wait(struct sh_stream *stream, enum sh_stream_event event,
                                  int64_t timeout_ns, struct shoal_error *err)
{
    struct sim_stream *s = stream_of(stream);
    struct conn *c = s->c;
    struct side *me = &c->side[s->side];
    const bool reading = event == SH_STREAM_READABLE;
    const int64_t end = timeout_ns > SIM_NEVER - sim_now() ? SIM_NEVER : sim_now() + timeout_ns;

    sim_yield();
    while (!is_ready(s, event)) {
        struct pipe *out = &c->pipe[s->side];
        int64_t until = end, patience = SIM_NEVER;
        if (!reading && me->user_timeout_ms > 0)
            patience = out->full_since + (int64_t)me->user_timeout_ms * SH_MS;
        if (patience < until) until = patience;
        if (sim_block(reading ? &c->pipe[!s->side].arrived : &out->len, until, "the network"))
            continue;
        if (sim_now() >= patience && out->len == g.shape.buffer_bytes) {
            fail_side(c, s->side, ETIMEDOUT);
        } else if (sim_now() >= end) {
            return sh_fail(err, SHOAL_ERR_TIMEOUT, "%s: nothing happened in time", s->head.peer);
        }
    }
    if (me->cut) return fail_lost(s, "waiting", err);
    return SHOAL_OK;
}

static bool sim_hung_up(struct sh_stream *stream)
{
    const struct sim_stream *s = stream_of(stream);
    const struct side *me = &s->c->side[s->side];

    sim_yield();
    return me->cut || me->failure || s->c->pipe[!s->side].end_arrived;
}

static void sim_cut(struct sh_stream *stream)
{
    struct sim_stream *s = stream_of(stream);

    sim_note("cut", s->c->id, s->side);
    send_end(s->c, s->side);
    s->c->side[s->side].cut = true;
    wake_side(s->c, s->side);
}

static const struct sh_stream_ops g_ops = {
    .close = sim_close,
    .read = sim_read,
    .writev = sim_writev,
    .wait = sim_wait,
    .hung_up = sim_hung_up,
    .cut = sim_cut,
};

static enum shoal_status open_stream(struct sh_stream **out, struct conn *c, int side,
                                     const char *peer, const struct sh_tcp_options *opt,
                                     struct shoal_error *err)
{
    struct sim_stream *s = sh_calloc(1, sizeof *s);

    if (!s) {
        c->side[side].closed = true;
        send_reset(c, !side);
        return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a connection");
    }
    s->head.ops = &g_ops;
    s->head.clock = &sh_clock_system;
    (void)snprintf(s->head.peer, sizeof s->head.peer, "%s", peer);
    s->c = c;
    s->side = side;
    c->side[side].user_timeout_ms = opt->user_timeout_ms;
    g.n_streams++;
    *out = &s->head;
    return SHOAL_OK;
}

/* ---- connecting ----------------------------------------------------------------------------- */

static int node_of_address(const struct sh_address *a)
{
    char text[SH_ADDRESS_TEXT_MAX];
    int node = 0, port;

    sh_address_format(a, text);
    if (sscanf(text, "10.0.0.%d:%d", &node, &port) != 2 || node < 0 || node >= NET_NODES_MAX) {
        sim_fail("%s is not in this network", text);
    }
    return node;
}

static struct sh_listener *find_listener(int node, int port)
{
    for (struct sh_listener *l = g.listeners; l; l = l->next) {
        if (l->node == node && l->port == port && !l->gone) return l;
    }
    return NULL;
}

static struct conn *new_conn(int from, int to, int to_proc)
{
    struct conn *c = calloc(1, sizeof *c);
    struct sh_endpoint ep = {.port = 0};
    int n;

    if (!c) sim_fail("no memory for a connection");
    c->id = g.n_conns++;
    for (int i = 0; i < 2; i++) {
        c->pipe[i].ring = malloc(g.shape.buffer_bytes);
        if (!c->pipe[i].ring) sim_fail("no memory for a connection");
    }
    c->side[0] = (struct side){.node = from, .proc = sim_self_proc()};
    c->side[1] = (struct side){.node = to, .proc = to_proc};
    (void)snprintf(ep.host, sizeof ep.host, "10.0.0.%d", from);
    ep.port = (uint16_t)(40000 + c->id);
    if (sh_address_resolve(&c->from, &n, &ep, false, NULL)) sim_fail("no address for a client");
    c->next = g.conns;
    g.conns = c;
    return c;
}

/* One attempt: 0, an errno, or EAGAIN where nobody answers. */
static int attempt(int from, int to, int port, struct conn **out)
{
    struct sh_listener *l;

    if (is_pulled(from, to) || g.ignores[to] || g.wall[from][to] == SILENT_WALL) return EAGAIN;
    if (g.wall[from][to] == FIREWALL) return ECONNREFUSED;
    l = find_listener(to, port);
    if (!l || g.refuses[to]) return ECONNREFUSED;
    if (l->n_queue == BACKLOG) return EAGAIN;
    *out = new_conn(from, to, l->proc);
    l->queue[l->n_queue++] = *out;
    sim_note("connect", (*out)->id, to);
    sim_wake(l);
    return 0;
}

enum shoal_status sh_tcp_connect(struct sh_stream **out, const struct sh_endpoint *ep,
                                 int64_t timeout_ns, const struct sh_tcp_options *opt,
                                 struct shoal_error *err)
{
    const int from = g.node_of[sim_self_proc()];
    const int64_t end = timeout_ns > SIM_NEVER - sim_now() ? SIM_NEVER : sim_now() + timeout_ns;
    struct sh_address list[SH_ADDRESSES_MAX];
    char text[SH_ADDRESS_TEXT_MAX] = "";
    struct conn *c = NULL;
    enum shoal_status st;
    int n, failure;

    *out = NULL;
    st = sh_address_resolve(list, &n, ep, false, err);
    if (st) return st;
    sh_address_format(&list[0], text);
    for (;;) {
        const int64_t round_trip = delay() + delay();
        if (sim_now() + round_trip > end)
            failure = ETIMEDOUT;
        else {
            sim_sleep(round_trip);
            failure = attempt(from, node_of_address(&list[0]), ep->port, &c);
        }
        if (failure != EAGAIN) break;
        sim_sleep(end - sim_now() < RETRY_NS ? end - sim_now() : RETRY_NS);
    }
    if (!failure) return open_stream(out, c, 0, text, opt, err);
    st = sh_fail_errno(err, failure == ETIMEDOUT ? SHOAL_ERR_TIMEOUT : SHOAL_ERR_PEER, failure,
                       "cannot connect to %s", text);
    sh_error_set_peer(err, text);
    return st;
}

/* ---- listening ------------------------------------------------------------------------------ */

static void give_up_queue(struct sh_listener *l)
{
    for (int i = 0; i < l->n_queue; i++) {
        l->queue[i]->side[1].closed = true;
        send_reset(l->queue[i], 0);
    }
    l->n_queue = 0;
}

enum shoal_status sh_listener_open(struct sh_listener **out, const struct sh_endpoint *ep,
                                   struct shoal_error *err)
{
    struct sh_address list[SH_ADDRESSES_MAX];
    struct sh_listener *l;
    enum shoal_status st;
    int n;

    *out = NULL;
    st = sh_address_resolve(list, &n, ep, true, err);
    if (st) return st;
    l = sh_calloc(1, sizeof *l);
    if (!l) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a listener");
    l->address = list[0];
    l->node = node_of_address(&list[0]);
    l->port = ep->port;
    l->proc = sim_self_proc();
    sh_address_format(&l->address, l->text);
    if (find_listener(l->node, l->port)) sim_fail("two listen on %s", l->text);
    l->next = g.listeners;
    g.listeners = l;
    *out = l;
    return SHOAL_OK;
}

void sh_listener_close(struct sh_listener *l)
{
    struct sh_listener **at = &g.listeners;

    if (!l) return;
    give_up_queue(l);
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    sh_free(l);
}

const struct sh_address *sh_listener_address(const struct sh_listener *l)
{
    return &l->address;
}

const char *sh_listener_text(const struct sh_listener *l)
{
    return l->text;
}

void sh_listener_interrupt(struct sh_listener *l)
{
    l->interrupted = true;
    sim_wake(l);
}

enum shoal_status sh_listener_accept(struct sh_listener *l, int64_t timeout_ns,
                                     const struct sh_tcp_options *opt, struct sh_stream **out,
                                     struct sh_address *peer, struct shoal_error *err)
{
    const int64_t end = timeout_ns > SIM_NEVER - sim_now() ? SIM_NEVER : sim_now() + timeout_ns;
    char text[SH_ADDRESS_TEXT_MAX];
    struct conn *c;

    *out = NULL;
    sim_yield();
    while (!l->interrupted && l->n_queue == 0) {
        if (!sim_block(l, end, "a connection"))
            return sh_fail(err, SHOAL_ERR_TIMEOUT, "no connection on %s", l->text);
    }
    if (l->interrupted)
        return sh_fail(err, SHOAL_ERR_CANCELLED, "%s no longer takes connections", l->text);
    if (g.no_descriptors[l->node]) {
        return sh_fail_errno(err, SHOAL_ERR_LIMIT, EMFILE, "cannot accept a connection on %s",
                             l->text);
    }
    c = l->queue[0];
    memmove(l->queue, l->queue + 1, (size_t)--l->n_queue * sizeof *l->queue);
    *peer = c->from;
    sh_address_format(peer, text);
    sim_note("accept", c->id, 0);
    return open_stream(out, c, 1, text, opt, err);
}

/* ---- life ----------------------------------------------------------------------------------- */

void net_begin(const struct net_shape *shape)
{
    memset(&g, 0, sizeof g);
    g.shape = *shape;
}

void net_end(void)
{
    if (g.n_streams > 0) sim_fail("%d streams are still open", g.n_streams);
    if (g.listeners) sim_fail("%s is still open", g.listeners->text);
    while (g.conns) { // events of theirs never come
        struct conn *c = g.conns;
        g.conns = c->next;
        free(c->pipe[0].ring);
        free(c->pipe[1].ring);
        free(c);
    }
}
