/* rpc/server.c - a worker's side of the protocol: connections by purpose, revoking, stopping.
 *
 * A connection is served by the thread that brings it.  Who wants its end cuts it; what belongs to
 * it is then put in order by its own thread.
 */
#include "rpc/server.h"

#include <string.h>

#include "base/mem.h"
#include "rpc/machine.h"
#include "rpc/server_priv.h"

#define SESSIONS_DEFAULT 16
#define LOG_LINES_DEFAULT 10

/* ---- making ---------------------------------------------------------------------------------*/

static void set_default(int64_t *ns, int64_t value)
{
    if (*ns <= 0) *ns = value;
}

static void set_defaults(struct sh_rpc_server_options *o)
{
    if (o->features == 0) o->features = SH_RPC_FEATURES_ALL;
    if (o->sessions_max <= 0) o->sessions_max = SESSIONS_DEFAULT;
    if (o->log_lines_max <= 0) o->log_lines_max = LOG_LINES_DEFAULT;
    set_default(&o->lease_ns, 30 * SH_SECOND);
    set_default(&o->lease_max_ns, 600 * SH_SECOND);
    set_default(&o->greeting_ns, 5 * SH_SECOND);
    set_default(&o->silence_ns, 10 * SH_SECOND);
    set_default(&o->step_ns, 120 * SH_SECOND);
    set_default(&o->drain_ns, 5 * SH_SECOND);
}

enum shoal_status sh_rpc_server_create(struct sh_rpc_server **out,
                                       const struct sh_rpc_server_options *opt,
                                       struct shoal_error *err)
{
    struct sh_rpc_server *s = sh_calloc(1, sizeof *s);
    enum shoal_status st;

    *out = NULL;
    if (!s) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a server");
    s->opt = *opt;
    set_defaults(&s->opt);
    s->began_ns = sh_now_ns(&sh_clock_system);
    sh_mutex_init(&s->lock);
    sh_cond_init(&s->changed);
    sh_log_limit_init(&s->log, "rpc", s->opt.log_lines_max);
    st = sh_rpc_machine(s->machine, err);
    if (!st) st = sh_rpc_random_id(s->boot, err);
    if (!st) st = sh_rpc_links_create(&s->links, err);
    if (!st) st = sh_thread_start(&s->reaper, "lease", sh_sessions_reap, s, err);
    if (st) {
        sh_rpc_server_destroy(s);
        return st;
    }
    *out = s;
    return SHOAL_OK;
}

void sh_rpc_server_destroy(struct sh_rpc_server *s)
{
    if (!s) return;
    sh_mutex_lock(&s->lock);
    s->ending = true;
    sh_cond_broadcast(&s->changed);
    sh_mutex_unlock(&s->lock);
    sh_thread_join(&s->reaper);
    sh_sessions_end_detached(s, NULL, "the worker ends");
    SH_ASSERT(!s->served && !s->sessions);
    sh_rpc_links_destroy(s->links);
    sh_log_limit_release(&s->log);
    sh_cond_release(&s->changed);
    sh_mutex_release(&s->lock);
    sh_free(s);
}

/* ---- serving --------------------------------------------------------------------------------*/

struct data {
    struct sh_rpc_server *server;
    struct sh_served *v;
};

static enum shoal_status attach(const struct data *d, const struct sh_rpc_incoming *m)
{
    const struct sh_rpc_attached attached = {.chunk_bytes = SH_DATA_CHUNK_BYTES};
    struct shoal_error why = SHOAL_ERROR_INIT;
    enum shoal_status st = sh_session_attach_data(d->server, d->v, m->msg, &why);

    if (st) {
        sh_rpc_conn_refuse(d->v->conn, m->request, st, &why, 0, 0);
    } else {
        sh_server_answer(d->v->conn, SH_RPC_MSG_ATTACHED, m->request, &attached);
    }
    return SHOAL_OK;
}

static enum shoal_status on_data(void *self, struct sh_rpc_conn *c, const struct sh_rpc_incoming *m,
                                 struct shoal_error *err)
{
    const struct data *d = self;

    if (m->type == SH_RPC_MSG_ATTACH) return attach(d, m);
    if (!d->v->session) {
        return sh_fail(err, SHOAL_ERR_STATE, "%s before ATTACH", sh_rpc_info(m->type)->name);
    }
    atomic_store(&d->v->session->heard_ns, sh_now_ns(&sh_clock_system));
    return sh_session_weights_message(d->v->session->weights, c, m->type, m->request, m->msg, err);
}

static enum shoal_status serve_data(struct sh_rpc_server *s, struct sh_served *v,
                                    struct shoal_error *err)
{
    struct data d = {.server = s, .v = v};
    const struct sh_rpc_handler handler = {.message = on_data, .self = &d};
    enum shoal_status st = sh_rpc_conn_run(v->conn, &handler, err);

    sh_session_leave_data(s, v);
    return st;
}

static enum shoal_status serve_greeted(struct sh_rpc_server *s, struct sh_served *v,
                                       struct shoal_error *err)
{
    const enum sh_rpc_purpose purpose = sh_rpc_conn_peer(v->conn)->purpose;

    // A key for links opens nothing else, and no link is made with a client's key.
    if (v->who->encrypted && (v->who->link[0] != '\0') != (purpose == SH_RPC_FOR_LINK)) {
        return sh_fail(err, SHOAL_ERR_PEER, "%s: the key is not one for this purpose",
                       sh_rpc_conn_address(v->conn));
    }
    if (purpose == SH_RPC_FOR_LINK && !v->who->encrypted && !v->who->loopback &&
        !s->opt.allow_plain_links) {
        return sh_fail(err, SHOAL_ERR_PEER, "%s: links beyond this machine are encrypted",
                       sh_rpc_conn_address(v->conn));
    }
    switch (purpose) {
    case SH_RPC_FOR_CONTROL:
        return sh_session_control(s, v, err);
    case SH_RPC_FOR_DATA:
        return serve_data(s, v, err);
    case SH_RPC_FOR_LINK:
        return sh_rpc_links_serve(s->links, v->conn, v->who->link, err);
    default:
        return sh_fail(err, SHOAL_ERR_UNSUPPORTED, "%s: sums of shards are not supported here",
                       sh_rpc_conn_address(v->conn));
    }
}

/* False: the server stops. */
static bool enter(struct sh_rpc_server *s, struct sh_served *v)
{
    bool ok;

    sh_mutex_lock(&s->lock);
    ok = !atomic_load(&s->stopping);
    if (ok) {
        v->next = s->served;
        s->served = v;
        s->n_connections++;
    }
    sh_mutex_unlock(&s->lock);
    return ok;
}

/* From now on it can be cut; false: somebody wanted its end before. */
static bool set_conn(struct sh_rpc_server *s, struct sh_served *v, struct sh_rpc_conn *c)
{
    bool ok;

    sh_mutex_lock(&s->lock);
    ok = v->why == NULL;
    v->conn = c;
    v->data = sh_rpc_conn_peer(c)->purpose != SH_RPC_FOR_CONTROL;
    sh_mutex_unlock(&s->lock);
    return ok;
}

static void leave(struct sh_rpc_server *s, struct sh_served *v)
{
    struct sh_served **at = &s->served;
    struct sh_rpc_conn *c = v->conn;

    sh_mutex_lock(&s->lock);
    v->conn = NULL;
    sh_mutex_unlock(&s->lock);
    sh_rpc_conn_close(c, NULL);
    sh_mutex_lock(&s->lock);
    while (*at != v)
        at = &(*at)->next;
    *at = v->next;
    s->n_connections--;
    sh_cond_broadcast(&s->changed);
    sh_mutex_unlock(&s->lock);
}

enum shoal_status sh_rpc_server_serve(struct sh_rpc_server *s, struct sh_stream *stream,
                                      const struct sh_rpc_client *who, struct shoal_error *err)
{
    struct sh_rpc_conn_options opt = {.features = s->opt.features,
                                      .encrypted = who->encrypted,
                                      .greeting_ns = s->opt.greeting_ns,
                                      .silence_ns = s->opt.silence_ns};
    struct shoal_error local = SHOAL_ERROR_INIT;
    struct sh_served v = {.who = who};
    struct sh_rpc_conn *c = NULL;
    enum shoal_status st;

    if (!err) err = &local;
    memcpy(opt.machine, s->machine, sizeof opt.machine);
    memcpy(opt.boot, s->boot, sizeof opt.boot);
    if (!enter(s, &v)) {
        sh_stream_close(stream);
        return sh_fail(err, SHOAL_ERR_STATE, "the worker takes no more connections");
    }
    st = sh_rpc_conn_accept(&c, stream, &opt, err);
    if (!st && set_conn(s, &v, c)) {
        st = serve_greeted(s, &v, err);
    } else if (!st) {
        st = sh_fail(err, SHOAL_ERR_CANCELLED, "%s", v.why);
    }
    leave(s, &v);
    return st;
}

bool sh_rpc_server_link_key(struct sh_rpc_server *s, const char *identity, struct sh_key *out)
{
    return sh_rpc_links_key(s->links, identity, out);
}

/* ---- ends from outside ----------------------------------------------------------------------*/

void sh_served_cut(struct sh_served *v, const char *why)
{
    const struct sh_rpc_error m = {.status = sh_rpc_status_put(SHOAL_ERR_CANCELLED),
                                   .fatal = 1,
                                   .message = sh_rpc_text_from(why)};

    v->why = why;
    if (!v->conn) return;
    sh_server_answer(v->conn, SH_RPC_MSG_ERROR, 0, &m);
    sh_rpc_conn_cut(v->conn);
}

void sh_rpc_server_revoke(struct sh_rpc_server *s, const char *kid)
{
    sh_mutex_lock(&s->lock);
    for (struct sh_served *v = s->served; v; v = v->next) {
        if (v->why || strcmp(v->who->kid, kid) != 0) continue;
        v->ends = true;
        sh_served_cut(v, "the key was revoked");
    }
    sh_mutex_unlock(&s->lock);
    sh_sessions_end_detached(s, kid, "the key was revoked");
}

void sh_server_count_step(struct sh_rpc_server *s, int change)
{
    if (change == 0 || atomic_fetch_add(&s->n_steps, change) + change > 0) return;
    if (!atomic_load(&s->stopping)) return;
    sh_mutex_lock(&s->lock);
    sh_cond_broadcast(&s->changed);
    sh_mutex_unlock(&s->lock);
}

void sh_rpc_server_stop(struct sh_rpc_server *s)
{
    atomic_store(&s->stopping, true);
}

void sh_rpc_server_drain(struct sh_rpc_server *s)
{
    const int64_t end = sh_deadline_in(&sh_clock_system, s->opt.drain_ns);

    sh_rpc_server_stop(s);
    sh_mutex_lock(&s->lock);
    while (atomic_load(&s->n_steps) > 0) {
        const int64_t left = end - sh_now_ns(&sh_clock_system);
        if (left <= 0 || !sh_cond_wait(&s->changed, &s->lock, left)) break;
    }
    for (struct sh_served *v = s->served; v; v = v->next) {
        v->ends = true;
        if (!v->why) sh_served_cut(v, "the worker ends");
    }
    while (s->n_connections > 0)
        (void)sh_cond_wait(&s->changed, &s->lock, SH_NO_DEADLINE);
    sh_mutex_unlock(&s->lock);
    sh_sessions_end_detached(s, NULL, "the worker ends");
}
