/* ggmlrpc/session_graph.c - graphs: receive, recognise or prepare, run.
 *
 * A few prepared graphs are kept by the hash of their payload, because clients that alternate
 * between graphs send them whole each time.  A graph goes when its place is needed or when a
 * buffer that it uses is freed, and only then.  All memory of graphs counts as memory to work in,
 * before it is allocated; where it does not suffice, older graphs go first.  A hash that collides
 * by intent runs another graph of the same client, on buffers of the same client.
 */
#include "ggmlrpc/session_priv.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"

#define FIRST_PAYLOAD_BYTES ((size_t)64 << 10)
#define RECEIVE_BYTES ((size_t)1 << 20) // per pace; more is not allocated before it arrives

static uint64_t hash_payload(const uint8_t *p, size_t n)
{
    uint64_t h = UINT64_C(0x9e3779b97f4a7c15) ^ n;

    for (; n >= 8; p += 8, n -= 8) {
        uint64_t v;
        memcpy(&v, p, 8); // any order of bytes will do: the hash never leaves this process
        h = (h ^ v) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 32;
    }
    for (; n > 0; p++, n--)
        h = (h ^ *p) * UINT64_C(0xff51afd7ed558ccd);
    return h ^ (h >> 29);
}

static void drop_graph(struct sh_session *s, int i)
{
    sh_exec_release(s->graphs[i].exec);
    sh_wire_graph_release(&s->graphs[i].wire);
    s->graphs[i].exec = NULL;
    sh_session_give(s, SH_QUOTA_WORK, s->graphs[i].work_bytes);
    s->graphs[i].work_bytes = 0;
    if (s->last_graph == i) s->last_graph = -1;
}

/* The kept graph that was not used for longest, but `but`; -1: none. */
static int oldest_graph(const struct sh_session *s, int but)
{
    int oldest = -1;

    for (int i = 0; i < SH_SESSION_GRAPHS_MAX; i++) {
        if (!s->graphs[i].exec || i == but) continue;
        if (oldest < 0 || s->graphs[i].used < s->graphs[oldest].used) oldest = i;
    }
    return oldest;
}

/* Drop a graph once it has run. */
static enum shoal_status retire_graph(struct sh_session *s, int i, struct shoal_error *err)
{
    enum shoal_status st = sh_session_wait(s, s->graphs[i].ticket, err);

    if (!st) drop_graph(s, i);
    return st;
}

/* Memory to work in; older graphs than the one at `mine` (-1: nowhere yet) go until it suffices. */
static enum shoal_status take_for_graph(struct sh_session *s, size_t bytes, int mine,
                                        struct shoal_error *err)
{
    for (;;) {
        enum shoal_status st = sh_session_take_work(s, bytes, "a graph", err);
        const int oldest = st ? oldest_graph(s, mine) : -1;
        if (oldest < 0) return st;
        st = retire_graph(s, oldest, err);
        if (st) return st;
    }
}

static enum shoal_status grow_payload(struct sh_session *s, size_t want, struct shoal_error *err)
{
    size_t cap = s->payload_cap ? s->payload_cap : FIRST_PAYLOAD_BYTES;
    enum shoal_status st;
    void *p;

    if (want <= s->payload_cap) return SHOAL_OK;
    while (cap < want)
        cap *= 2;
    st = take_for_graph(s, cap, -1, err); // the old block lives until its bytes are copied
    if (st) return st;
    p = sh_realloc_array(s->payload, cap, 1);
    sh_session_give(s, SH_QUOTA_WORK, p ? s->payload_cap : cap);
    if (!p) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a graph of %zu bytes", want);
    s->payload = p;
    s->payload_cap = cap;
    return SHOAL_OK;
}

static enum shoal_status receive_payload(struct sh_session *s, size_t size, struct shoal_error *err)
{
    size_t got = 0;

    while (got < size) {
        const size_t n = size - got < RECEIVE_BYTES ? size - got : RECEIVE_BYTES;
        enum shoal_status st = grow_payload(s, got + n, err);
        struct sh_pace pace = sh_session_pace(s);
        if (!st) st = sh_session_receive(s, s->payload + got, n, &pace, err);
        if (st) return st;
        got += n;
    }
    return SHOAL_OK;
}

void sh_session_drop_graphs(struct sh_session *s, uint64_t token)
{
    for (int i = 0; i < SH_SESSION_GRAPHS_MAX; i++) {
        const struct session_graph *g = &s->graphs[i];
        bool uses = token == 0;
        if (!g->exec) continue;
        for (int32_t k = 0; k < g->wire.n_tokens && !uses; k++)
            uses = g->wire.tokens[k] == token;
        if (uses) drop_graph(s, i);
    }
}

static int find_graph(const struct sh_session *s, uint64_t hash, size_t bytes)
{
    for (int i = 0; i < SH_SESSION_GRAPHS_MAX; i++) {
        if (s->graphs[i].exec && s->graphs[i].hash == hash && s->graphs[i].payload_bytes == bytes) {
            return i;
        }
    }
    return -1;
}

/* A place for a graph of `n_tensors`: the least recently used ones go until there is room. */
static enum shoal_status make_room(struct sh_session *s, int32_t n_tensors, int *out,
                                   struct shoal_error *err)
{
    for (;;) {
        int32_t kept = 0;
        int empty = -1;
        enum shoal_status st;
        for (int i = 0; i < SH_SESSION_GRAPHS_MAX; i++) {
            if (s->graphs[i].exec) {
                kept += s->graphs[i].wire.graph.n_tensors;
            } else {
                empty = i;
            }
        }
        if (empty >= 0 && kept <= SH_SESSION_TENSORS_MAX - n_tensors) {
            *out = empty;
            return SHOAL_OK;
        }
        st = retire_graph(s, oldest_graph(s, -1), err);
        if (st) return st;
    }
}

/* Most bytes of this process's memory that decoding and preparing take; the device's own count in
 * adjust_work(). */
static size_t bytes_to_prepare(const struct sh_session *s, size_t bytes)
{
    const size_t decoded = sh_wire_graph_bytes_max(s->payload, bytes, &s->space);

    // Every node and every buffer that is used has a record of its own, and what the device's
    // tables take for the three is less than what decoding takes for a record.
    return 2 * decoded;
}

/* What was taken for a prepared graph becomes what it holds. */
static enum shoal_status adjust_work(struct sh_session *s, int i, struct shoal_error *err)
{
    struct session_graph *g = &s->graphs[i];
    const size_t taken = g->work_bytes;
    const size_t holds = g->wire.bytes + sh_exec_bytes(g->exec);

    if (holds > taken) {
        enum shoal_status st = take_for_graph(s, holds - taken, i, err);
        if (st) return st;
    } else {
        sh_session_give(s, SH_QUOTA_WORK, taken - holds);
    }
    g->work_bytes = holds;
    return SHOAL_OK;
}

/* Put a decoded graph, which moves, into its place and prepare it on the device. */
static enum shoal_status prepare_at(struct sh_session *s, struct session_graph *g, int i,
                                    struct shoal_error *err)
{
    struct sh_buffer **buffers = sh_calloc((size_t)g->wire.n_tokens + 1, sizeof *buffers);
    enum shoal_status st;

    if (!buffers) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a graph");
    for (int32_t k = 0; k < g->wire.n_tokens; k++)
        buffers[k] = sh_space_find(&s->space, g->wire.tokens[k])->buffer;
    s->graphs[i] = *g; // the graph must not move any more: the exec refers to it
    memset(g, 0, sizeof *g);
    st = sh_exec_prepare(s->server->opt.device, &s->graphs[i].exec, &s->graphs[i].wire.graph,
                         buffers, s->graphs[i].wire.n_tokens, 1, err);
    if (!st) st = adjust_work(s, i, err);
    if (st) drop_graph(s, i);
    sh_free(buffers);
    return st;
}

/* Decode the payload and prepare it on the device. */
static enum shoal_status prepare(struct sh_session *s, size_t bytes, int *out,
                                 struct shoal_error *err)
{
    struct session_graph g = {.payload_bytes = bytes, .work_bytes = bytes_to_prepare(s, bytes)};
    enum shoal_status st = take_for_graph(s, g.work_bytes, -1, err);

    if (st) return st;
    st = sh_wire_graph_decode(&g.wire, s->payload, bytes, &s->space, s->seed, err);
    if (!st) st = make_room(s, g.wire.graph.n_tensors, out, err);
    if (!st) st = prepare_at(s, &g, *out, err);
    sh_session_give(s, SH_QUOTA_WORK, g.work_bytes); // none if it has moved
    sh_wire_graph_release(&g.wire);
    return st;
}

static enum shoal_status run(struct sh_session *s, int i, struct shoal_error *err)
{
    struct session_graph *g = &s->graphs[i];
    enum shoal_status st = SHOAL_OK;

    if (s->n_runs == SH_SESSION_RUNS_MAX) st = sh_session_wait(s, s->runs[0], err);
    if (!st) {
        st = sh_queue_submit(s->queue, g->exec, 0, &g->wire.graph.max, NULL, &g->ticket, err);
    }
    if (st) return st;
    s->last_graph = i;
    g->used = ++s->n_graphs;
    if (g->ticket != 0) {
        s->last = g->ticket;
        s->runs[s->n_runs++] = g->ticket;
    }
    return SHOAL_OK;
}

enum shoal_status sh_session_graph_compute(struct sh_session *s, uint64_t size,
                                           struct shoal_error *err)
{
    const size_t bytes = (size_t)size - 4; // behind the device number
    enum shoal_status st = receive_payload(s, bytes, err);
    uint64_t hash;
    int i;

    if (st) return st;
    hash = hash_payload(s->payload, bytes);
    i = find_graph(s, hash, bytes);
    if (i < 0) {
        st = prepare(s, bytes, &i, err);
        if (st) return st;
        s->graphs[i].hash = hash;
    }
    return run(s, i, err);
}

enum shoal_status sh_session_graph_recompute(struct sh_session *s, uint64_t size,
                                             struct shoal_error *err)
{
    (void)size;
    if (s->last_graph < 0) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "there is no graph to run again");
    }
    return run(s, s->last_graph, err);
}
