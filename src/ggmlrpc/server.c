/* ggmlrpc/server.c - the listener, a thread per connection, limits, stopping.
 *
 * Stopping.  New connections are refused; a session that waits for a command with nothing under
 * way is cut at once, the others when their next answer has gone out; what is left after the time
 * allowed is cut, which cancels its graph.  A connection that has ended stays in the list until
 * run() has joined its thread.
 */
#include "ggmlrpc/server.h"

#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "base/mem.h"
#include "ggmlrpc/session_priv.h"

#define USER_TIMEOUT_MS 30000
#define WORK_BYTES_MIN ((size_t)64 << 20) // for graphs

/* ---- shared by the sessions -----------------------------------------------------------------*/

static size_t quota_max(const struct sh_ggmlrpc_server *v, enum session_quota q)
{
    return q == SH_QUOTA_BUFFERS ? v->opt.memory_max : v->opt.work_max;
}

static size_t client_quota_max(const struct sh_ggmlrpc_server *v, enum session_quota q)
{
    return q == SH_QUOTA_BUFFERS ? v->opt.client_memory_max : v->opt.client_work_max;
}

/* Under the lock. */
static size_t left_of(const struct sh_session *s, enum session_quota q)
{
    const size_t all = quota_max(s->server, q) - s->server->used[q];
    const size_t mine = client_quota_max(s->server, q) - s->used[q];

    return mine < all ? mine : all;
}

/* Under the lock, which comes before the ledger's. */
static bool take_from_ledger(struct sh_ledger *l, size_t bytes)
{
    return !l || sh_ledger_take(l, bytes, NULL);
}

bool sh_session_take(struct sh_session *s, enum session_quota q, size_t bytes)
{
    bool ok;

    sh_mutex_lock(&s->server->lock);
    ok = bytes <= left_of(s, q) && take_from_ledger(s->server->opt.ledger, bytes);
    if (ok) {
        s->server->used[q] += bytes;
        s->used[q] += bytes;
    }
    sh_mutex_unlock(&s->server->lock);
    return ok;
}

void sh_session_give(struct sh_session *s, enum session_quota q, size_t bytes)
{
    sh_mutex_lock(&s->server->lock);
    SH_ASSERT(bytes <= s->used[q]);
    s->server->used[q] -= bytes;
    s->used[q] -= bytes;
    if (s->server->opt.ledger) sh_ledger_give(s->server->opt.ledger, bytes);
    sh_mutex_unlock(&s->server->lock);
}

size_t sh_session_left(struct sh_session *s, enum session_quota q)
{
    struct sh_ledger *l = s->server->opt.ledger;
    size_t left, of_all = SIZE_MAX;

    sh_mutex_lock(&s->server->lock);
    left = left_of(s, q);
    if (l) of_all = sh_ledger_left(l);
    sh_mutex_unlock(&s->server->lock);
    return left < of_all ? left : of_all;
}

enum shoal_status sh_session_take_work(struct sh_session *s, size_t bytes, const char *what,
                                       struct shoal_error *err)
{
    if (!sh_session_take(s, SH_QUOTA_WORK, bytes)) {
        return sh_fail(err, SHOAL_ERR_NOMEM,
                       "%s needs %zu bytes to work in, and %zu are left for this client", what,
                       bytes, sh_session_left(s, SH_QUOTA_WORK));
    }
    if (s->used[SH_QUOTA_WORK] > s->peak[SH_QUOTA_WORK]) {
        s->peak[SH_QUOTA_WORK] = s->used[SH_QUOTA_WORK];
    }
    return SHOAL_OK;
}

bool sh_server_may_wait(struct connection *c, bool idle)
{
    bool ok;

    sh_mutex_lock(&c->server->lock);
    ok = !idle || !atomic_load(&c->server->stopping);
    c->idle = idle && ok;
    sh_mutex_unlock(&c->server->lock);
    return ok;
}

void sh_server_woke(struct connection *c)
{
    sh_mutex_lock(&c->server->lock);
    c->idle = false;
    sh_mutex_unlock(&c->server->lock);
}

static void log_left_out(uint64_t n)
{
    const struct sh_log_field fields[] = {sh_log_text("event", NULL, "left_out"),
                                          sh_log_count("lines", NULL, n)};

    if (n == 0) return;
    sh_log_fields(SH_LOG_WARN, "ggmlrpc", fields, 2,
                  "%" PRIu64 " more lines in an earlier second were left out", n);
}

/* The count of lines left out so far, which starts anew; under the lock. */
static uint64_t take_left_out(struct sh_ggmlrpc_server *v)
{
    const uint64_t n = v->n_unlogged;

    v->n_unlogged = 0;
    return n;
}

bool sh_server_may_log(struct sh_ggmlrpc_server *v, bool computed)
{
    const int64_t second = sh_now_ns(&sh_clock_system) / SH_SECOND;
    uint64_t missed = 0;
    bool may;

    sh_mutex_lock(&v->lock);
    if (second != v->log_second) {
        v->log_second = second;
        v->n_logged[0] = v->n_logged[1] = 0;
        missed = take_left_out(v);
    }
    may = v->n_logged[computed] < v->opt.log_lines_max;
    if (may) {
        v->n_logged[computed]++;
    } else {
        v->n_unlogged++;
    }
    sh_mutex_unlock(&v->lock);
    log_left_out(missed);
    return may;
}

/* ---- one connection -------------------------------------------------------------------------*/

/* The one line that a session leaves: what it cost, and why it ended. */
static void log_end(const struct sh_session *s, enum shoal_status st, const struct shoal_error *err,
                    int64_t began_ns)
{
    const struct sh_wire_command_info *info = st ? sh_wire_command_info(s->command) : NULL;
    const char *reason = st ? err->message : "closed by the client";
    const int64_t open_ns = sh_now_ns(&sh_clock_system) - began_ns;
    const bool failed = st && st != SHOAL_ERR_CANCELLED;
    struct sh_log_field f[16];
    int n = 0;

    if (!sh_server_may_log(s->server, s->n_graphs > 0)) return;
    f[n++] = sh_log_text("event", NULL, "session");
    f[n++] = sh_log_text("client", NULL, s->stream->peer);
    f[n++] = sh_log_bytes("bytes_in", "in", atomic_load(&s->stream->bytes_read));
    f[n++] = sh_log_bytes("bytes_out", "out", atomic_load(&s->stream->bytes_written));
    f[n++] = sh_log_count("graphs", "graphs", s->n_graphs);
    f[n++] = sh_log_seconds("compute_s", "compute", (double)s->busy_ns / (double)SH_SECOND);
    f[n++] = sh_log_seconds("total_s", "total", (double)open_ns / (double)SH_SECOND);
    f[n++] = sh_log_bytes("peak_bytes", "peak", s->peak[SH_QUOTA_BUFFERS]);
    f[n++] = sh_log_bytes("work_bytes", NULL, s->peak[SH_QUOTA_WORK]);
    if (s->cache_bytes) f[n++] = sh_log_bytes("cache_bytes", "from the cache", s->cache_bytes);
    if (s->greeted) f[n++] = sh_log_count("major", "major", SH_WIRE_MAJOR);
    f[n++] = sh_log_text("status", NULL, shoal_status_name(st));
    f[n++] = sh_log_text("reason", NULL, reason);
    if (info) f[n++] = sh_log_text("command", NULL, info->name);
    if (s->refused[0]) f[n++] = sh_log_text("refused", NULL, s->refused);
    sh_log_fields(failed ? SH_LOG_WARN : SH_LOG_INFO, "ggmlrpc", f, n,
                  "%s: session ended: %s%s%s%s%s%s", s->stream->peer, info ? info->name : "",
                  info ? ": " : "", reason, s->refused[0] ? " (refused: " : "", s->refused,
                  s->refused[0] ? ")" : "");
}

static void log_refusal(struct sh_ggmlrpc_server *v, const struct sh_stream *stream,
                        const char *why)
{
    const struct sh_log_field fields[] = {sh_log_text("event", NULL, "refused"),
                                          sh_log_text("client", NULL, stream->peer),
                                          sh_log_text("reason", NULL, why)};

    if (!sh_server_may_log(v, false)) return;
    sh_log_fields(SH_LOG_WARN, "ggmlrpc", fields, 3, "%s: connection refused: %s", stream->peer,
                  why);
}

static enum shoal_status serve(struct connection *c, struct shoal_error *err)
{
    struct sh_ggmlrpc_server *v = c->server;
    struct sh_session *s = sh_calloc(1, sizeof *s);
    const int64_t began_ns = sh_now_ns(&sh_clock_system);
    enum shoal_status st;

    if (!s) {
        log_refusal(v, c->stream, "no memory");
        return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a connection");
    }
    s->server = v;
    s->stream = c->stream;
    if (getrandom(&s->seed, sizeof s->seed, 0) != (ssize_t)sizeof s->seed) {
        s->seed = (uint64_t)began_ns; // it only makes guessing harder
    }
    sh_space_init(&s->space, s->seed);
    st = sh_session_run(s, c, err);
    sh_session_release(s); // memory is free before anybody is told
    log_end(s, st, err, began_ns);
    sh_free(s);
    return st;
}

/* Is there room for one more, and from this host?  If so it is counted. */
static bool admit(struct sh_ggmlrpc_server *v, struct connection *c)
{
    int same = 0;
    bool ok;

    sh_mutex_lock(&v->lock);
    for (const struct connection *o = v->connections; o; o = o->next) {
        if (!o->ended && c->has_address && o->has_address &&
            sh_address_same_host(&o->address, &c->address)) {
            same++;
        }
    }
    ok = v->n_connections < v->opt.connections_max && same < v->opt.per_address_max &&
         !atomic_load(&v->stopping);
    if (ok) {
        v->n_connections++;
        c->next = v->connections;
        v->connections = c;
    }
    sh_mutex_unlock(&v->lock);
    return ok;
}

/* From now on nobody cuts the stream of this connection. */
static void retire_connection(struct connection *c, bool failed)
{
    struct sh_ggmlrpc_server *v = c->server;

    sh_mutex_lock(&v->lock);
    c->ended = true;
    v->n_connections--;
    v->n_sessions += !failed;
    v->n_failed += failed;
    sh_cond_broadcast(&v->changed);
    sh_mutex_unlock(&v->lock);
}

static void *connection_thread(void *arg)
{
    struct connection *c = arg;
    struct sh_stream *stream = c->stream;
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st = serve(c, &err);

    retire_connection(c, st != SHOAL_OK);
    sh_stream_close(stream); // c may be gone from here on only after a join of this thread
    return NULL;
}

static void unlink_connection(struct sh_ggmlrpc_server *v, struct connection *c)
{
    struct connection **at = &v->connections;

    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
}

enum shoal_status sh_ggmlrpc_server_serve(struct sh_ggmlrpc_server *v, struct sh_stream *stream,
                                          struct shoal_error *err)
{
    struct connection c = {.server = v, .stream = stream};
    struct shoal_error local = SHOAL_ERROR_INIT;
    enum shoal_status st;

    if (!err) err = &local;
    if (!admit(v, &c)) {
        log_refusal(v, stream, "too many connections");
        sh_stream_close(stream);
        return sh_fail(err, SHOAL_ERR_LIMIT, "the server takes no more connections");
    }
    st = serve(&c, err);
    retire_connection(&c, st != SHOAL_OK);
    sh_mutex_lock(&v->lock);
    unlink_connection(v, &c);
    sh_cond_broadcast(&v->changed);
    sh_mutex_unlock(&v->lock);
    sh_stream_close(stream);
    return st;
}

/* Join the threads of connections that have ended. */
static void reap(struct sh_ggmlrpc_server *v)
{
    for (;;) {
        struct connection *c;
        sh_mutex_lock(&v->lock);
        c = v->connections;
        while (c && !(c->ended && c->thread.running))
            c = c->next;
        if (c) unlink_connection(v, c);
        sh_mutex_unlock(&v->lock);
        if (!c) return;
        sh_thread_join(&c->thread);
        sh_free(c);
    }
}

/* ---- the listener ---------------------------------------------------------------------------*/

static void refuse(struct sh_ggmlrpc_server *v, struct sh_stream *stream, const char *why)
{
    log_refusal(v, stream, why);
    sh_stream_close(stream);
}

static void start_connection(struct sh_ggmlrpc_server *v, struct sh_stream *stream,
                             const struct sh_address *peer)
{
    struct connection *c = sh_calloc(1, sizeof *c);
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (!c) {
        refuse(v, stream, "no memory");
        return;
    }
    c->server = v;
    c->stream = stream;
    c->address = *peer;
    c->has_address = true;
    if (!admit(v, c)) {
        refuse(v, stream, "too many connections, or too many from this host");
        sh_free(c);
        return;
    }
    if (sh_thread_start(&c->thread, "ggmlrpc", connection_thread, c, &err)) {
        retire_connection(c, true);
        sh_mutex_lock(&v->lock);
        unlink_connection(v, c);
        sh_mutex_unlock(&v->lock);
        refuse(v, stream, err.message);
        sh_free(c);
    }
}

void sh_ggmlrpc_server_drain(struct sh_ggmlrpc_server *v)
{
    const int64_t end = sh_deadline_in(&sh_clock_system, v->opt.drain_ns);
    bool cut_all = false;
    uint64_t missed;

    sh_ggmlrpc_server_stop(v);
    sh_mutex_lock(&v->lock);
    for (;;) {
        const int64_t left = end - sh_now_ns(&sh_clock_system);
        for (struct connection *c = v->connections; c; c = c->next) {
            if (!c->ended && (c->idle || cut_all)) sh_stream_cut(c->stream);
        }
        if (v->n_connections == 0) break;
        if (cut_all) {
            (void)sh_cond_wait(&v->changed, &v->lock, SH_NO_DEADLINE);
        } else if (left <= 0 || !sh_cond_wait(&v->changed, &v->lock, left)) {
            cut_all = true;
        }
    }
    missed = take_left_out(v);
    sh_mutex_unlock(&v->lock);
    log_left_out(missed);
}

enum shoal_status sh_ggmlrpc_server_run(struct sh_ggmlrpc_server *v, struct shoal_error *err)
{
    const struct sh_tcp_options tcp = {.user_timeout_ms = USER_TIMEOUT_MS};
    enum shoal_status st = SHOAL_OK;

    if (!v->listener) return sh_fail(err, SHOAL_ERR_STATE, "this server has no listener");
    while (!st) {
        struct sh_stream *stream;
        struct sh_address peer;
        struct shoal_error why = SHOAL_ERROR_INIT;
        reap(v);
        st = sh_listener_accept(v->listener, SH_NO_DEADLINE, &tcp, &stream, &peer, &why);
        if (!st) {
            start_connection(v, stream, &peer);
        } else if (st == SHOAL_ERR_LIMIT || st == SHOAL_ERR_NOMEM) {
            // Out of descriptors: those of ended connections come back.
            if (sh_server_may_log(v, false)) sh_log(SH_LOG_WARN, "ggmlrpc", "%s", why.message);
            sh_mutex_lock(&v->lock);
            (void)sh_cond_wait(&v->changed, &v->lock, 100 * SH_MS);
            sh_mutex_unlock(&v->lock);
            st = SHOAL_OK;
        } else if (st != SHOAL_ERR_CANCELLED && err) {
            *err = why;
        }
    }
    sh_ggmlrpc_server_drain(v);
    reap(v);
    return st == SHOAL_ERR_CANCELLED ? SHOAL_OK : st;
}

void sh_ggmlrpc_server_stop(struct sh_ggmlrpc_server *v)
{
    atomic_store(&v->stopping, true);
    if (v->listener) sh_listener_interrupt(v->listener);
}

const char *sh_ggmlrpc_server_address(const struct sh_ggmlrpc_server *v)
{
    return v->listener ? sh_listener_text(v->listener) : "";
}

void sh_ggmlrpc_server_stats(struct sh_ggmlrpc_server *v, struct sh_ggmlrpc_server_stats *out)
{
    sh_mutex_lock(&v->lock);
    *out = (struct sh_ggmlrpc_server_stats){.n_connections = v->n_connections,
                                            .n_sessions = v->n_sessions,
                                            .n_failed = v->n_failed,
                                            .memory_used = v->used[SH_QUOTA_BUFFERS],
                                            .work_used = v->used[SH_QUOTA_WORK],
                                            .work_max = v->opt.work_max,
                                            .memory_max = v->opt.memory_max,
                                            .connections_max = v->opt.connections_max,
                                            .per_address_max = v->opt.per_address_max};
    sh_mutex_unlock(&v->lock);
}

void sh_ggmlrpc_server_cache_stats(struct sh_ggmlrpc_server *v, struct sh_cache_stats *out)
{
    *out = (struct sh_cache_stats){.n_entries = 0};
    if (v->cache) sh_cache_stats(v->cache, out);
}

void sh_ggmlrpc_server_cache_flush(struct sh_ggmlrpc_server *v)
{
    if (v->cache) sh_cache_flush(v->cache);
}

/* ---- life -----------------------------------------------------------------------------------*/

/* What buffers leave of the device's memory, and always enough for all to be served. */
static size_t work_max_of(const struct sh_ggmlrpc_server_options *o)
{
    const size_t rest = o->memory_max / 15;
    const size_t least = WORK_BYTES_MIN + (size_t)o->connections_max * SH_SESSION_FIXED_BYTES;

    return rest > least ? rest : least;
}

static void set_defaults(struct sh_ggmlrpc_server *v)
{
    struct sh_ggmlrpc_server_options *o = &v->opt;
    size_t most = v->info.memory_free;

    if (o->ledger && sh_ledger_max(o->ledger) < most) most = sh_ledger_max(o->ledger);
    // Graphs need some memory of their own, which no client asks for.
    if (o->memory_max == 0) o->memory_max = most - most / 16;
    if (o->client_memory_max == 0 || o->client_memory_max > o->memory_max) {
        o->client_memory_max = o->memory_max;
    }
    if (o->connections_max == 0) o->connections_max = 32;
    if (o->work_max == 0) o->work_max = work_max_of(o);
    if (o->client_work_max == 0 || o->client_work_max > o->work_max) {
        o->client_work_max = o->work_max;
    }
    if (o->per_address_max == 0) o->per_address_max = 16;
    if (o->hello_ns == 0) o->hello_ns = 5 * SH_SECOND;
    if (o->stall_ns == 0) o->stall_ns = 10 * SH_SECOND;
    if (o->window_ns == 0) o->window_ns = 10 * SH_SECOND;
    if (o->window_bytes == 0) o->window_bytes = (size_t)640 << 10;
    if (o->graph_ns == 0) o->graph_ns = 600 * SH_SECOND;
    if (o->drain_ns == 0) o->drain_ns = 5 * SH_SECOND;
    if (o->log_lines_max == 0) o->log_lines_max = 10;
    if (o->buffers_max <= 0 || o->buffers_max > SH_SPACE_BUFFERS_MAX) {
        o->buffers_max = SH_SPACE_BUFFERS_MAX;
    }
}

static enum shoal_status open_listener(struct sh_ggmlrpc_server *v, struct shoal_error *err)
{
    struct sh_address list[SH_ADDRESSES_MAX];
    struct sh_endpoint ep;
    int n;
    enum shoal_status st = sh_endpoint_parse(&ep, v->opt.listen, SH_WIRE_PORT, err);

    if (!st) st = sh_address_resolve(list, &n, &ep, true, err);
    if (st) return st;
    for (int i = 0; i < n && !v->opt.allow_remote; i++) {
        if (sh_address_is_loopback(&list[i])) continue;
        return sh_fail(err, SHOAL_ERR_ARG,
                       "%s can be reached from other machines, and this protocol has neither "
                       "passwords nor encryption; to offer it all the same: --listen %s --insecure",
                       v->opt.listen, v->opt.listen);
    }
    return sh_listener_open(&v->listener, &ep, err);
}

enum shoal_status sh_ggmlrpc_server_create(struct sh_ggmlrpc_server **out,
                                           const struct sh_ggmlrpc_server_options *opt,
                                           struct shoal_error *err)
{
    struct sh_ggmlrpc_server *v = sh_calloc(1, sizeof *v);
    enum shoal_status st;

    *out = NULL;
    if (!v) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a server");
    sh_mutex_init(&v->lock);
    sh_cond_init(&v->changed);
    v->opt = *opt;
    st = sh_device_info(opt->device, &v->info, err);
    if (!st) {
        set_defaults(v);
        if (opt->listen) st = open_listener(v, err);
    }
    if (!st && opt->cache_dir) {
        const struct sh_cache_options cache = {.dir = opt->cache_dir,
                                               .bytes_max = opt->cache_bytes_max};
        st = sh_cache_open(&v->cache, &cache, err);
    }
    if (st) {
        sh_ggmlrpc_server_destroy(v);
        return st;
    }
    *out = v;
    return SHOAL_OK;
}

void sh_ggmlrpc_server_destroy(struct sh_ggmlrpc_server *v)
{
    if (!v) return;
    reap(v);
    sh_listener_close(v->listener);
    sh_cache_close(v->cache);
    sh_cond_release(&v->changed);
    sh_mutex_release(&v->lock);
    sh_free(v);
}
