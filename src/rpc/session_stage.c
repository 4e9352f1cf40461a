/* rpc/session_stage.c - the stages of a session: put, found, dropped.
 *
 * Loading may take long, so STAGE_PUT is copied and carried out by a thread of its own, one at a
 * time per session, while the connection is read on: its loss and CLOSE stop the loading.  The
 * connection outlives the thread, which answers on it.
 */
#include <string.h>

#include "base/mem.h"
#include "rpc/server_priv.h"

#define PROGRESS_NS (200 * SH_MS)

struct sh_session_put {
    struct sh_session *session;
    struct sh_rpc_conn *c;
    struct sh_rpc_head head;
    uint8_t *payload; /* a copy */
    uint32_t slot, generation;
    int64_t told_ns; /* of the thread */
    atomic_bool stop, done;
    struct sh_thread thread;
};

/* ---- memory ---------------------------------------------------------------------------------*/

bool sh_session_reserve(struct sh_session *s, uint64_t bytes, uint64_t *left)
{
    bool ok;

    sh_mutex_lock(&s->lock);
    *left = s->claimed - s->claimed_weights - s->taken;
    ok = bytes <= *left;
    if (ok) s->taken += bytes;
    sh_mutex_unlock(&s->lock);
    return ok;
}

void sh_session_return(struct sh_session *s, uint64_t bytes)
{
    sh_mutex_lock(&s->lock);
    SH_ASSERT(bytes <= s->taken);
    s->taken -= bytes;
    sh_mutex_unlock(&s->lock);
}

/* ---- finding --------------------------------------------------------------------------------*/

struct sh_hosted *sh_session_stage(struct sh_session *s, struct sh_rpc_handle h)
{
    struct sh_hosted *found = NULL;

    sh_mutex_lock(&s->lock);
    if (h.slot < SH_SESSION_STAGES_MAX && h.generation != 0 &&
        s->place[h.slot].generation == h.generation) {
        found = s->place[h.slot].hosted;
    }
    sh_mutex_unlock(&s->lock);
    return found;
}

struct sh_hosted *sh_session_next_stage(struct sh_session *s, int *at)
{
    struct sh_hosted *found = NULL;

    sh_mutex_lock(&s->lock);
    while (!found && *at < SH_SESSION_STAGES_MAX)
        found = s->place[(*at)++].hosted;
    sh_mutex_unlock(&s->lock);
    return found;
}

/* ---- putting --------------------------------------------------------------------------------*/

static bool asked_to_stop(void *self)
{
    const struct sh_session_put *p = self;

    return atomic_load(&p->stop);
}

static void tell_progress(void *self, uint64_t done, uint64_t total)
{
    struct sh_session_put *p = self;
    const struct sh_rpc_progress m = {.what = 1, .done = done, .total = total};
    const int64_t now = sh_now_ns(&sh_clock_system);

    if (now - p->told_ns < PROGRESS_NS) return;
    p->told_ns = now;
    sh_server_answer(p->c, SH_RPC_MSG_PROGRESS, p->head.request, &m);
}

static enum shoal_status load(struct sh_session_put *p, struct sh_hosted_options *opt,
                              struct sh_hosted **out, struct sh_rpc_stage_ready *ready,
                              struct shoal_error *err)
{
    const struct sh_rpc_server_options *server = &p->session->server->opt;
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_stage_put put;
    enum shoal_status st;

    *out = NULL;
    st = sh_rpc_decode(&put, &p->head, p->payload, sh_rpc_conn_peer(p->c)->revision, false, &arena,
                       err);
    if (!st && put.device >= (uint32_t)server->n_devices) {
        st = sh_fail(err, SHOAL_ERR_ARG, "there is no device %u, %d are here", (unsigned)put.device,
                     server->n_devices);
    }
    if (!st) {
        opt->device = server->devices[put.device];
        opt->put = &put;
        st = sh_hosted_create(out, opt, ready, err);
    }
    sh_arena_release(&arena);
    return st;
}

static void *put_thread(void *arg)
{
    struct sh_session_put *p = arg;
    struct sh_session *s = p->session;
    struct sh_hosted_options opt = {.session = s,
                                    .handle = {.slot = p->slot, .generation = p->generation},
                                    .epoch = s->epoch,
                                    .ops = sh_rpc_conn_ops(p->c),
                                    .progress = tell_progress,
                                    .stop = asked_to_stop,
                                    .self = p};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_stage_ready ready;
    struct sh_hosted *h;
    enum shoal_status st = load(p, &opt, &h, &ready, &err);

    sh_mutex_lock(&s->lock);
    s->place[p->slot].hosted = h;
    sh_mutex_unlock(&s->lock);
    sh_free(p->payload);
    p->payload = NULL;
    atomic_store(&p->done, true); // before the answer: the next one may come at once
    if (st) {
        sh_rpc_conn_refuse(p->c, p->head.request, st, &err, opt.need, opt.left);
    } else {
        sh_server_answer(p->c, SH_RPC_MSG_STAGE_READY, p->head.request, &ready);
    }
    return NULL;
}

static void end_put(struct sh_session *s)
{
    struct sh_session_put *p = s->put;

    if (!p) return;
    sh_thread_join(&p->thread);
    sh_free(p->payload);
    sh_free(p);
    s->put = NULL;
}

void sh_session_stop_put(struct sh_session *s)
{
    if (s->put) atomic_store(&s->put->stop, true);
    end_put(s);
}

bool sh_session_is_putting(struct sh_session *s)
{
    return s->put && !atomic_load(&s->put->done);
}

static enum shoal_status find_place(struct sh_session *s, uint32_t *slot, struct shoal_error *err)
{
    uint32_t i = 0;

    sh_mutex_lock(&s->lock);
    while (i < SH_SESSION_STAGES_MAX && s->place[i].hosted)
        i++;
    sh_mutex_unlock(&s->lock);
    *slot = i;
    if (i < SH_SESSION_STAGES_MAX) return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_LIMIT, "a session has at most %d stages", SH_SESSION_STAGES_MAX);
}

enum shoal_status sh_session_put_stage(struct sh_session *s, struct sh_rpc_conn *c,
                                       const struct sh_rpc_incoming *m, struct shoal_error *err)
{
    struct sh_session_put *p = NULL;
    uint32_t slot;
    enum shoal_status st;

    if (sh_session_is_putting(s)) {
        return sh_fail(err, SHOAL_ERR_STATE, "another stage of the session is being put");
    }
    end_put(s);
    st = find_place(s, &slot, err);
    if (st) return st;
    p = sh_calloc(1, sizeof *p);
    if (p) p->payload = sh_malloc(m->n);
    if (!p || !p->payload) {
        sh_free(p);
        return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a stage's description of %zu bytes",
                       m->n);
    }
    memcpy(p->payload, m->payload, m->n);
    p->session = s;
    p->c = c;
    p->head = (struct sh_rpc_head){
        .bytes = (uint32_t)m->n, .request = m->request, .type = (uint16_t)m->type};
    p->slot = slot;
    sh_mutex_lock(&s->lock);
    p->generation = ++s->place[slot].generation;
    sh_mutex_unlock(&s->lock);
    st = sh_thread_start(&p->thread, "put", put_thread, p, err);
    if (st) {
        sh_free(p->payload);
        sh_free(p);
        return st;
    }
    s->put = p;
    return SHOAL_OK;
}

/* ---- dropping -------------------------------------------------------------------------------*/

bool sh_session_drop_stage(struct sh_session *s, struct sh_rpc_handle handle)
{
    struct sh_hosted *h = sh_session_stage(s, handle);

    if (!h) return false;
    sh_mutex_lock(&s->lock);
    s->place[handle.slot].hosted = NULL;
    sh_mutex_unlock(&s->lock);
    sh_hosted_stop(h);
    sh_session_links_close(s, h);
    sh_hosted_destroy(h);
    return true;
}

void sh_session_drop_stages(struct sh_session *s)
{
    struct sh_hosted *h;

    for (int at = 0; (h = sh_session_next_stage(s, &at));)
        sh_hosted_stop(h);
    sh_session_links_close(s, NULL);
    for (int i = 0; i < SH_SESSION_STAGES_MAX; i++) {
        sh_mutex_lock(&s->lock);
        h = s->place[i].hosted;
        s->place[i].hosted = NULL;
        sh_mutex_unlock(&s->lock);
        sh_hosted_destroy(h);
    }
}
