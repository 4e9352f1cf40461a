/* rpc/session_control.c - messages of a CONTROL connection, and the table of who handles which.
 *
 * What is refused is answered with ERROR and the connection goes on; a handler's failure is
 * nonsense from the peer, and ends it.
 */
#include <inttypes.h>

#include "rpc/server_priv.h"

/* A connection while it is served. */
struct control {
    struct sh_rpc_server *server;
    struct sh_served *v;
};

typedef enum shoal_status handle_message(struct control *k, const struct sh_rpc_incoming *m,
                                         struct shoal_error *err);

static void answer(struct control *k, const struct sh_rpc_incoming *m, enum sh_rpc_type type,
                   const void *msg)
{
    sh_server_answer(k->v->conn, type, m->request, msg);
}

static enum shoal_status refuse(struct control *k, const struct sh_rpc_incoming *m,
                                enum shoal_status st, const struct shoal_error *why)
{
    if (st) sh_rpc_conn_refuse(k->v->conn, m->request, st, why, 0, 0);
    return SHOAL_OK;
}

/* The stage that a request names, or a refusal. */
static struct sh_hosted *stage_of(struct control *k, const struct sh_rpc_incoming *m,
                                  struct sh_rpc_handle handle)
{
    struct sh_hosted *h = sh_session_stage(k->v->session, handle);
    struct shoal_error why = SHOAL_ERROR_INIT;

    if (!h) {
        (void)sh_fail(&why, SHOAL_ERR_NOT_FOUND, "there is no stage %u.%u", (unsigned)handle.slot,
                      (unsigned)handle.generation);
        (void)refuse(k, m, SHOAL_ERR_NOT_FOUND, &why);
    }
    return h;
}

/* ---- the worker -----------------------------------------------------------------------------*/

static enum shoal_status on_devices(struct control *k, const struct sh_rpc_incoming *m,
                                    struct shoal_error *err)
{
    (void)err;
    sh_server_devices(k->server, k->v->conn, m->request);
    return SHOAL_OK;
}

static enum shoal_status on_stats(struct control *k, const struct sh_rpc_incoming *m,
                                  struct shoal_error *err)
{
    (void)err;
    sh_server_tell_stats(k->server, k->v->conn, m->request);
    return SHOAL_OK;
}

/* ---- the session ----------------------------------------------------------------------------*/

static enum shoal_status on_open(struct control *k, const struct sh_rpc_incoming *m,
                                 struct shoal_error *err)
{
    struct shoal_error why = SHOAL_ERROR_INIT;
    struct sh_rpc_opened opened;
    uint64_t need = 0, left = 0;
    enum shoal_status st;

    (void)err;
    if (k->v->session) {
        st = sh_fail(&why, SHOAL_ERR_STATE, "this connection has a session already");
    } else {
        st = sh_session_open(k->server, k->v, m->msg, &opened, &need, &left, &why);
    }
    if (st) {
        sh_rpc_conn_refuse(k->v->conn, m->request, st, &why, need, left);
    } else {
        answer(k, m, SH_RPC_MSG_OPENED, &opened);
    }
    sh_wipe(opened.secret, sizeof opened.secret);
    return SHOAL_OK;
}

static enum shoal_status on_resume(struct control *k, const struct sh_rpc_incoming *m,
                                   struct shoal_error *err)
{
    struct shoal_error why = SHOAL_ERROR_INIT;
    enum shoal_status st;

    (void)err;
    if (k->v->session) {
        st = sh_fail(&why, SHOAL_ERR_STATE, "this connection has a session already");
    } else {
        st = sh_session_resume(k->server, k->v, m->msg, m->request, &why);
    }
    return refuse(k, m, st, &why);
}

static enum shoal_status on_close(struct control *k, const struct sh_rpc_incoming *m,
                                  struct shoal_error *err)
{
    const struct sh_rpc_closed closed = {.freed = sh_session_close(k->v)};

    (void)err;
    answer(k, m, SH_RPC_MSG_CLOSED, &closed);
    return SHOAL_OK;
}

static enum shoal_status on_reset(struct control *k, const struct sh_rpc_incoming *m,
                                  struct shoal_error *err)
{
    const struct sh_rpc_reset *r = m->msg;
    const struct sh_rpc_reset_done done = {.epoch = r->epoch};
    struct sh_session *s = k->v->session;
    struct shoal_error why = SHOAL_ERROR_INIT;
    enum shoal_status st = SHOAL_OK;
    struct sh_hosted *h;

    (void)err;
    if (r->epoch <= s->epoch) {
        st = sh_fail(&why, SHOAL_ERR_STATE, "epoch %" PRIu64 " does not follow epoch %" PRIu64,
                     r->epoch, s->epoch);
    } else if (sh_session_is_putting(s)) {
        st = sh_fail(&why, SHOAL_ERR_STATE, "a stage of the session is being put");
    }
    if (st) return refuse(k, m, st, &why);
    s->epoch = r->epoch;
    for (int at = 0; (h = sh_session_next_stage(s, &at));) {
        struct shoal_error one = SHOAL_ERROR_INIT;
        const enum shoal_status failed = sh_hosted_reset(h, r->epoch, &one);
        if (failed && !st) {
            st = failed;
            why = one;
        }
    }
    if (st) return refuse(k, m, st, &why);
    answer(k, m, SH_RPC_MSG_RESET_DONE, &done);
    return SHOAL_OK;
}

static enum shoal_status on_weights(struct control *k, const struct sh_rpc_incoming *m,
                                    struct shoal_error *err)
{
    return sh_session_weights_message(k->v->session->weights, k->v->conn, m->type, m->request,
                                      m->msg, err);
}

/* ---- stages ---------------------------------------------------------------------------------*/

static enum shoal_status on_stage_put(struct control *k, const struct sh_rpc_incoming *m,
                                      struct shoal_error *err)
{
    struct shoal_error why = SHOAL_ERROR_INIT;
    enum shoal_status st;

    (void)err;
    st = sh_session_put_stage(k->v->session, k->v->conn, m, &why);
    return refuse(k, m, st, &why);
}

static enum shoal_status on_stage_drop(struct control *k, const struct sh_rpc_incoming *m,
                                       struct shoal_error *err)
{
    const struct sh_rpc_stage_drop *d = m->msg;
    const struct sh_rpc_stage_dropped dropped = {.stage = d->stage};

    (void)err;
    if (!stage_of(k, m, d->stage)) return SHOAL_OK;
    (void)sh_session_drop_stage(k->v->session, d->stage);
    answer(k, m, SH_RPC_MSG_STAGE_DROPPED, &dropped);
    return SHOAL_OK;
}

static enum shoal_status find_link(struct control *k, const struct sh_rpc_route *r,
                                   const struct sh_hosted *h, struct sh_rpc_link **link,
                                   struct shoal_error *err)
{
    *link = NULL;
    if (r->where > 1 || r->format >= SH_RPC_FORMAT_COUNT) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "a route to %u in format %u", (unsigned)r->where,
                       (unsigned)r->format);
    }
    if (r->where == 0) return SHOAL_OK;
    *link = sh_session_link(k->v->session, r->link, h);
    if (*link) return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_NOT_FOUND, "stage %u.%u does not write into a link %u.%u",
                   (unsigned)r->stage.slot, (unsigned)r->stage.generation, (unsigned)r->link.slot,
                   (unsigned)r->link.generation);
}

static enum shoal_status on_route(struct control *k, const struct sh_rpc_incoming *m,
                                  struct shoal_error *err)
{
    const struct sh_rpc_route *r = m->msg;
    const struct sh_rpc_routed routed = {.stage = r->stage};
    struct shoal_error why = SHOAL_ERROR_INIT;
    struct sh_hosted *h = stage_of(k, m, r->stage);
    struct sh_rpc_link *link;
    enum shoal_status st;

    (void)err;
    if (!h) return SHOAL_OK;
    st = find_link(k, r, h, &link, &why);
    if (!st) st = sh_hosted_route(h, link, r->reader, (enum sh_rpc_format)r->format, r->from, &why);
    if (st) return refuse(k, m, st, &why);
    answer(k, m, SH_RPC_MSG_ROUTED, &routed);
    return SHOAL_OK;
}

/* ---- steps ----------------------------------------------------------------------------------*/

static enum shoal_status no_stage(struct sh_rpc_handle h, struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_FORMAT, "there is no stage %u.%u", (unsigned)h.slot,
                   (unsigned)h.generation);
}

static enum shoal_status on_step(struct control *k, const struct sh_rpc_incoming *m,
                                 struct shoal_error *err)
{
    const struct sh_rpc_step *step = m->msg;
    struct sh_hosted *h = sh_session_stage(k->v->session, step->stage);

    if (!h) return no_stage(step->stage, err);
    return sh_hosted_step(h, step, m->payload, m->n, err);
}

static enum shoal_status on_hidden(struct control *k, const struct sh_rpc_incoming *m,
                                   struct shoal_error *err)
{
    const struct sh_rpc_hidden *hidden = m->msg;
    struct sh_hosted *h = sh_session_stage(k->v->session, hidden->stage);

    if (!h) return no_stage(hidden->stage, err);
    return sh_hosted_hidden(h, hidden, NULL, err);
}

static enum shoal_status on_cancel(struct control *k, const struct sh_rpc_incoming *m,
                                   struct shoal_error *err)
{
    struct sh_hosted *h;

    (void)err;
    for (int at = 0; (h = sh_session_next_stage(k->v->session, &at));)
        sh_hosted_cancel(h, m->msg);
    return SHOAL_OK;
}

static enum shoal_status on_link(struct control *k, const struct sh_rpc_incoming *m,
                                 struct shoal_error *err)
{
    return sh_session_link_message(k->v->session, k->v->conn, m, err);
}

/* ---- the table ------------------------------------------------------------------------------*/

struct row {
    handle_message *handle;
    bool in_session;
};

static const struct row ROWS[SH_RPC_TYPE_COUNT] = {
    [SH_RPC_MSG_DEVICES] = {on_devices, false},
    [SH_RPC_MSG_STATS] = {on_stats, false},
    [SH_RPC_MSG_OPEN] = {on_open, false},
    [SH_RPC_MSG_RESUME] = {on_resume, false},
    [SH_RPC_MSG_CLOSE] = {on_close, true},
    [SH_RPC_MSG_RESET] = {on_reset, true},
    [SH_RPC_MSG_WANT] = {on_weights, true},
    [SH_RPC_MSG_PUT] = {on_weights, true},
    [SH_RPC_MSG_PUT_END] = {on_weights, true},
    [SH_RPC_MSG_STAGE_PUT] = {on_stage_put, true},
    [SH_RPC_MSG_STAGE_DROP] = {on_stage_drop, true},
    [SH_RPC_MSG_ROUTE] = {on_route, true},
    [SH_RPC_MSG_STEP] = {on_step, true},
    [SH_RPC_MSG_HIDDEN] = {on_hidden, true},
    [SH_RPC_MSG_CANCEL] = {on_cancel, true},
    [SH_RPC_MSG_LINK_EXPECT] = {on_link, true},
    [SH_RPC_MSG_LINK_OPEN] = {on_link, true},
    [SH_RPC_MSG_LINK_CLOSE] = {on_link, true},
    [SH_RPC_MSG_LINK_PROBE] = {on_link, true},
};

static enum shoal_status on_message(void *self, struct sh_rpc_conn *c,
                                    const struct sh_rpc_incoming *m, struct shoal_error *err)
{
    struct control *k = self;
    const struct row *row = &ROWS[m->type];
    const char *name = sh_rpc_info(m->type)->name;
    struct shoal_error why = SHOAL_ERROR_INIT;

    (void)c;
    if (!row->handle) return sh_fail(err, SHOAL_ERR_FORMAT, "%s does not belong here", name);
    if (k->v->session) {
        atomic_store(&k->v->session->heard_ns, sh_now_ns(&sh_clock_system));
        return row->handle(k, m, err);
    }
    if (!row->in_session) return row->handle(k, m, err);
    if (m->request == 0) {
        return sh_fail(err, SHOAL_ERR_STATE, "%s needs a session, OPEN comes first", name);
    }
    (void)sh_fail(&why, SHOAL_ERR_STATE, "%s needs a session, OPEN comes first", name);
    return refuse(k, m, SHOAL_ERR_STATE, &why);
}

static void on_beat(void *self, uint64_t ack)
{
    struct control *k = self;
    struct sh_hosted *h;

    if (!k->v->session) return;
    for (int at = 0; (h = sh_session_next_stage(k->v->session, &at));)
        sh_hosted_ack(h, ack);
}

enum shoal_status sh_session_control(struct sh_rpc_server *server, struct sh_served *v,
                                     struct shoal_error *err)
{
    struct control k = {.server = server, .v = v};
    const struct sh_rpc_handler handler = {.message = on_message, .beat = on_beat, .self = &k};
    enum shoal_status st = sh_rpc_conn_run(v->conn, &handler, err);

    if (v->session) sh_session_leave(v, st, err);
    return st;
}
