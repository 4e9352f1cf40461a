/* rpc/remote.c - see remote.h: a worker's connection, its reader, and figures.
 *
 * The reader's thread hands what comes to the station that it is for.  While it does, the station
 * is marked busy, so that closing one waits for it.  What a worker sends wrongly ends its
 * connection, and the reader then tells all stations why.
 */
#include "rpc/remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rpc/machine.h"
#include "rpc/remote_priv.h"

#define CONNECT_NS (10 * SH_SECOND)
#define SILENCE_NS (10 * SH_SECOND)
#define REPLY_NS (60 * SH_SECOND)
#define CLOSE_NS (5 * SH_SECOND)
#define CUT_NS (2 * SH_SECOND)
#define FLAG_SHOAL_OPS 1u
#define FLAG_EXACT 2u
#define PROBES_MAX 10000

/* ---- errors and answers ---------------------------------------------------------------------*/

void sh_remote_name_error(const struct sh_remote *r, struct shoal_error *err)
{
    const size_t n = strlen(r->address);
    char text[sizeof err->message];

    if (!err) return;
    if (strncmp(err->message, r->address, n) == 0 || !strstr(err->message, r->address)) {
        const bool begins = strncmp(err->message, r->address, n) == 0;
        const int errno_of = err->sys_errno;
        (void)snprintf(text, sizeof text, "%s", err->message + (begins ? n : 0));
        (void)sh_fail(err, err->code, "worker %s%s%s", r->address, begins ? "" : ": ", text);
        err->sys_errno = errno_of;
    }
    sh_error_set_peer(err, r->address);
}

enum shoal_status sh_remote_ask_for(struct sh_remote *r, struct sh_rpc_ask *ask,
                                    struct shoal_error *err)
{
    enum shoal_status st;

    if (ask->timeout_ns == 0) ask->timeout_ns = r->reply_ns;
    st = sh_rpc_conn_ask(r->conn, ask, err);
    if (st) sh_remote_name_error(r, err);
    return st;
}

enum shoal_status sh_remote_ask(struct sh_remote *r, enum sh_rpc_type type, const void *msg,
                                void *answer, struct sh_arena *arena, struct shoal_error *err)
{
    struct sh_rpc_ask ask = {.type = type, .msg = msg, .answer = answer, .arena = arena};

    return sh_remote_ask_for(r, &ask, err);
}

enum shoal_status sh_remote_state(struct sh_remote *r, struct shoal_error *err)
{
    enum shoal_status st;

    sh_mutex_lock(&r->lock);
    st = r->lost;
    if (st && err) *err = r->why;
    sh_mutex_unlock(&r->lock);
    return st;
}

/* ---- the thread that reads ------------------------------------------------------------------*/

static bool handle_equal(struct sh_rpc_handle a, struct sh_rpc_handle b)
{
    return a.slot == b.slot && a.generation == b.generation;
}

// The station of a handle, marked busy; NULL if there is none.  *closing: it is about to go.
static struct sh_remote_station *enter(struct sh_remote *r, struct sh_rpc_handle handle,
                                       bool *closing)
{
    struct sh_remote_station *found = NULL;

    *closing = false;
    sh_mutex_lock(&r->lock);
    for (int i = 0; i < r->n_stations && !found; i++) {
        if (handle_equal(r->station[i]->handle, handle)) found = r->station[i];
    }
    if (found) {
        sh_mutex_lock(&found->lock);
        *closing = found->closing;
        if (!*closing) found->busy = true;
        sh_mutex_unlock(&found->lock);
    }
    sh_mutex_unlock(&r->lock);
    return found;
}

static void leave(struct sh_remote_station *s)
{
    sh_mutex_lock(&s->lock);
    s->busy = false;
    sh_cond_broadcast(&s->calm);
    sh_mutex_unlock(&s->lock);
}

static enum shoal_status for_station(struct sh_remote *r, struct sh_rpc_handle handle,
                                     const struct sh_rpc_incoming *m, struct shoal_error *err)
{
    bool closing;
    struct sh_remote_station *s = enter(r, handle, &closing);
    enum shoal_status st;

    if (!s) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "worker %s sent %s for stage %u/%u, which is none",
                       r->address, sh_rpc_info(m->type)->name, (unsigned)handle.slot,
                       (unsigned)handle.generation);
    }
    if (closing) return SHOAL_OK;
    st = sh_remote_station_message(s, m, err);
    leave(s);
    return st;
}

static enum shoal_status told_error(const struct sh_rpc_error *m, struct shoal_error *err)
{
    char text[sizeof err->message];

    sh_rpc_text_copy(text, sizeof text, m->message);
    return sh_fail(err, SHOAL_ERR_PEER, "%s", text[0] ? text : "it reports an error");
}

static enum shoal_status on_message(void *self, struct sh_rpc_conn *c,
                                    const struct sh_rpc_incoming *m, struct shoal_error *err)
{
    struct sh_remote *r = self;

    (void)c;
    switch (m->type) {
    case SH_RPC_MSG_HIDDEN:
        return for_station(r, ((const struct sh_rpc_hidden *)m->msg)->stage, m, err);
    case SH_RPC_MSG_RESULT:
        return for_station(r, ((const struct sh_rpc_result *)m->msg)->stage, m, err);
    case SH_RPC_MSG_LOGITS:
        return for_station(r, ((const struct sh_rpc_logits *)m->msg)->stage, m, err);
    case SH_RPC_MSG_LINK_DOWN:
        sh_remote_link_down(r, m->msg);
        return SHOAL_OK;
    case SH_RPC_MSG_ERROR: // a step that did not fit: nothing more comes of its stage
        return told_error(m->msg, err);
    case SH_RPC_MSG_CANCELLED: // the status of these steps comes by their results
        return SHOAL_OK;
    default:
        return sh_fail(err, SHOAL_ERR_FORMAT, "worker %s sent %s, which nobody asked for",
                       r->address, sh_rpc_info(m->type)->name);
    }
}

static void tell_stations(struct sh_remote *r, enum shoal_status st, const struct shoal_error *why)
{
    struct sh_rpc_handle handle[SH_REMOTE_STAGES_MAX];
    int n;

    sh_mutex_lock(&r->lock);
    n = r->n_stations;
    for (int i = 0; i < n; i++)
        handle[i] = r->station[i]->handle;
    sh_mutex_unlock(&r->lock);
    for (int i = 0; i < n; i++) {
        bool closing;
        struct sh_remote_station *s = enter(r, handle[i], &closing);
        if (!s || closing) continue;
        sh_remote_station_lost(s, st, why);
        leave(s);
    }
}

static void *read_all(void *arg)
{
    struct sh_remote *r = arg;
    const struct sh_rpc_handler h = {.message = on_message, .self = r};
    struct shoal_error why = SHOAL_ERROR_INIT;
    enum shoal_status st = sh_rpc_conn_run(r->conn, &h, &why);

    if (!st) st = sh_fail(&why, SHOAL_ERR_PEER, "worker %s ended the connection", r->address);
    // What the worker does is its fault, whatever noticed it.
    if (st != SHOAL_ERR_TIMEOUT && st != SHOAL_ERR_CANCELLED && st != SHOAL_ERR_NOMEM)
        st = SHOAL_ERR_PEER;
    why.code = st;
    sh_remote_name_error(r, &why);
    sh_mutex_lock(&r->lock);
    r->lost = st;
    r->why = why;
    sh_mutex_unlock(&r->lock);
    tell_stations(r, st, &why);
    return NULL;
}

/* ---- opening and closing --------------------------------------------------------------------*/

static enum shoal_status take_options(struct sh_remote *r, const struct sh_remote_options *o,
                                      struct shoal_error *err)
{
    enum shoal_status st = sh_endpoint_parse(&r->endpoint, o->address, SH_REMOTE_PORT, err);
    const bool v6 = strchr(r->endpoint.host, ':') != NULL;

    if (st) return st;
    if (r->endpoint.port == 0 && v6) { // a Unix socket
        (void)snprintf(r->address, sizeof r->address, "%.*s", (int)sizeof r->address - 1,
                       r->endpoint.host);
    } else {
        (void)snprintf(r->address, sizeof r->address, v6 ? "[%.60s]:%u" : "%.60s:%u",
                       r->endpoint.host[0] ? r->endpoint.host : "localhost",
                       (unsigned)r->endpoint.port);
    }
    r->has_key = o->key != NULL;
    if (o->key) r->key = *o->key;
    r->insecure = o->insecure;
    r->features = o->features ? o->features : SH_RPC_FEATURES_ALL;
    r->connect_ns = o->connect_ns > 0 ? o->connect_ns : CONNECT_NS;
    r->silence_ns = o->silence_ns > 0 ? o->silence_ns : SILENCE_NS;
    r->reply_ns = o->reply_ns > 0 ? o->reply_ns : REPLY_NS;
    return sh_rpc_machine(r->machine, err);
}

static void take_device(struct sh_remote_device *to, const struct sh_rpc_device *d)
{
    static const size_t ALIGNMENT = 64;

    sh_rpc_text_copy(to->info.name, sizeof to->info.name, d->name);
    sh_rpc_text_copy(to->info.description, sizeof to->info.description, d->description);
    to->info.kind = d->kind == SH_DEVICE_GPU   ? SH_DEVICE_GPU
                    : d->kind == SH_DEVICE_CPU ? SH_DEVICE_CPU
                                               : SH_DEVICE_REMOTE;
    to->info.memory_free = d->memory_free > SIZE_MAX ? SIZE_MAX : (size_t)d->memory_free;
    to->info.memory_total = d->memory_total > SIZE_MAX ? SIZE_MAX : (size_t)d->memory_total;
    to->info.alignment = ALIGNMENT;
    to->info.buffer_bytes_max = SIZE_MAX;
    to->info.shoal_ops = d->flags & FLAG_SHOAL_OPS;
    to->info.exact = d->flags & FLAG_EXACT;
    to->n_threads = d->threads;
}

static enum shoal_status ask_devices(struct sh_remote *r, struct shoal_error *err)
{
    const struct sh_rpc_devices ask = {.unused = 0};
    const struct sh_rpc_peer *peer = sh_rpc_conn_peer(r->conn);
    struct sh_rpc_devices_are a;
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_remote_info *info = &r->info;
    enum shoal_status st = sh_remote_ask(r, SH_RPC_MSG_DEVICES, &ask, &a, &arena, err);

    if (!st && a.n_devices == 0) {
        st = sh_fail(err, SHOAL_ERR_PEER, "worker %s has no device", r->address);
    }
    if (!st) {
        memcpy(info->address, r->address, sizeof info->address);
        memcpy(info->software, peer->software, sizeof info->software);
        memcpy(info->machine, peer->machine, sizeof info->machine);
        info->features = peer->features;
        info->encrypted = r->has_key;
        for (uint32_t i = 0; i < a.n_devices && i < SH_REMOTE_DEVICES_MAX; i++)
            take_device(&info->device[info->n_devices++], &a.devices[i]);
    }
    sh_arena_release(&arena);
    return st;
}

enum shoal_status sh_remote_open(struct sh_remote **out, const struct sh_remote_options *opt,
                                 struct shoal_error *err)
{
    struct sh_remote *r = sh_calloc(1, sizeof *r);
    enum shoal_status st;

    *out = NULL;
    if (!r) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for worker %s", opt->address);
    sh_mutex_init(&r->lock);
    st = take_options(r, opt, err);
    if (!st) st = sh_remote_dial(r, SH_RPC_FOR_CONTROL, &r->conn, err);
    if (!st) st = sh_thread_start(&r->reader, "worker", read_all, r, err);
    if (!st) st = ask_devices(r, err);
    if (st) {
        sh_error_set_peer(err, r->address);
        sh_remote_close(r);
        return st;
    }
    *out = r;
    return SHOAL_OK;
}

// Frees the worker's memory at once instead of at the end of the lease.
static void close_session(struct sh_remote *r, int64_t timeout_ns)
{
    const struct sh_rpc_close msg = {.unused = 0};
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_closed closed;
    struct sh_rpc_ask ask = {.type = SH_RPC_MSG_CLOSE,
                             .msg = &msg,
                             .answer = &closed,
                             .arena = &arena,
                             .timeout_ns = timeout_ns};

    if (r->has_session && !sh_remote_state(r, NULL)) (void)!sh_remote_ask_for(r, &ask, NULL);
    sh_arena_release(&arena);
}

void sh_remote_close(struct sh_remote *r)
{
    if (!r) return;
    if (r->reader.running) {
        close_session(r, CLOSE_NS);
        sh_remote_data_close(r->data);
        sh_rpc_conn_leave(r->conn, "done");
        sh_thread_join(&r->reader);
    }
    sh_rpc_conn_close(r->conn, NULL);
    sh_key_wipe(&r->key);
    sh_wipe(r->secret, sizeof r->secret);
    sh_mutex_release(&r->lock);
    sh_free(r);
}

void sh_remote_cut(struct sh_remote *r)
{
    close_session(r, CUT_NS);
    sh_rpc_conn_cut(r->conn);
}

/* ---- figures --------------------------------------------------------------------------------*/

void sh_remote_info(const struct sh_remote *r, struct sh_remote_info *out)
{
    *out = r->info;
}

void sh_remote_traffic(const struct sh_remote *r, struct sh_rpc_traffic *out)
{
    struct sh_remote *mine = (struct sh_remote *)(uintptr_t)r; // only to lock

    sh_rpc_conn_traffic(r->conn, out);
    sh_remote_data_traffic(mine, out);
}

enum shoal_status sh_remote_stats(struct sh_remote *r, struct sh_arena *arena,
                                  struct sh_rpc_stats_are *out, struct shoal_error *err)
{
    const struct sh_rpc_stats ask = {.unused = 0};

    return sh_remote_ask(r, SH_RPC_MSG_STATS, &ask, out, arena, err);
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static enum shoal_status probe_once(struct sh_remote *r, const struct sh_rpc_probe *probe,
                                    struct sh_arena *arena, double *us, struct shoal_error *err)
{
    const int64_t began = sh_now_ns(&sh_clock_system);
    struct sh_rpc_probed answer;
    enum shoal_status st = sh_remote_ask(r, SH_RPC_MSG_PROBE, probe, &answer, arena, err);

    *us = (double)(sh_now_ns(&sh_clock_system) - began) / 1e3;
    if (!st && (answer.stamp != probe->stamp || answer.data.n != probe->answer_bytes)) {
        st = sh_fail(err, SHOAL_ERR_FORMAT, "worker %s answers a probe of %u bytes with %u",
                     r->address, (unsigned)probe->answer_bytes, (unsigned)answer.data.n);
    }
    sh_arena_reset(arena);
    return st;
}

enum shoal_status sh_remote_probe(struct sh_remote *r, uint32_t bytes, int count,
                                  struct sh_remote_probe *out, struct shoal_error *err)
{
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_probe probe = {.answer_bytes = bytes};
    double *us = NULL;
    uint8_t *data = NULL;
    enum shoal_status st = SHOAL_OK;

    if (count < 1 || count > PROBES_MAX || bytes > SH_RPC_CHUNK_MAX) {
        return sh_fail(err, SHOAL_ERR_ARG, "probe: %d times %u bytes are out of range", count,
                       (unsigned)bytes);
    }
    us = sh_calloc((size_t)count, sizeof *us);
    data = sh_calloc(1, bytes ? bytes : 1);
    if (!us || !data) st = sh_fail(err, SHOAL_ERR_NOMEM, "no memory to measure %s", r->address);
    probe.data = (struct sh_rpc_bytes){.ptr = data, .n = bytes};
    for (int i = 0; i < count && !st; i++) {
        probe.stamp = (uint64_t)i;
        st = probe_once(r, &probe, &arena, &us[i], err);
    }
    if (!st) {
        qsort(us, (size_t)count, sizeof *us, compare);
        out->least_us = us[0];
        out->median_us = us[count / 2];
        out->bytes_per_s = out->median_us > 0 ? 2e6 * bytes / out->median_us : 0;
    }
    sh_free(us);
    sh_free(data);
    sh_arena_release(&arena);
    return st;
}
