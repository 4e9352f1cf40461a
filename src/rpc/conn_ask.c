/* rpc/conn_ask.c - requests and who waits for their answers.
 *
 * A waiter belongs to who asks, in a list under the lock.  While run() decodes an answer
 * into it, or calls its progress, it is `taken` and its owner stays, whatever the time.  A request
 * whose time ran out is remembered, because its answer may still come and is nobody's fault.
 */
#include "rpc/conn_priv.h"

#include "base/mem.h"

void sh_conn_asks_init(struct sh_conn_asks *a)
{
    sh_mutex_init(&a->lock);
}

void sh_conn_asks_release(struct sh_conn_asks *a)
{
    sh_mutex_release(&a->lock);
}

void sh_conn_asks_end(struct sh_conn_asks *a, enum shoal_status st, const struct shoal_error *why)
{
    sh_mutex_lock(&a->lock);
    if (!a->over) {
        a->over = true;
        a->st = st;
        a->err = *why;
    }
    for (struct sh_conn_waiter *w = a->first; w; w = w->next)
        sh_cond_signal(&w->changed);
    sh_mutex_unlock(&a->lock);
}

static enum shoal_status ended(const struct sh_conn_asks *a, struct shoal_error *err)
{
    if (err) *err = a->err;
    return a->st;
}

static bool is_free(const struct sh_conn_asks *a, uint32_t request)
{
    for (const struct sh_conn_waiter *w = a->first; w; w = w->next) {
        if (w->request == request) return false;
    }
    for (int i = 0; i < a->n_abandoned; i++) {
        if (a->abandoned[i].request == request) return false;
    }
    return request != 0;
}

static enum shoal_status enter(struct sh_conn_asks *a, struct sh_conn_waiter *w,
                               struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    sh_mutex_lock(&a->lock);
    if (a->over) {
        st = ended(a, err);
    } else {
        do {
            a->last++;
        } while (!is_free(a, a->last));
        w->request = a->last;
        w->next = a->first;
        a->first = w;
    }
    sh_mutex_unlock(&a->lock);
    return st;
}

/* Under the lock. */
static void leave(struct sh_conn_asks *a, const struct sh_conn_waiter *w)
{
    struct sh_conn_waiter **at = &a->first;

    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
}

/* Under the lock.  False: too many have been given up. */
static bool abandon(struct sh_conn_asks *a, const struct sh_conn_waiter *w)
{
    if (a->n_abandoned == SH_CONN_ABANDONED_MAX) return false;
    a->abandoned[a->n_abandoned++] =
        (struct sh_conn_abandoned){.request = w->request, .answer = w->answer};
    return true;
}

/* Under the lock: until the answer is there or will never be; false when the time ran out first. */
static bool wait_for(struct sh_rpc_conn *c, struct sh_conn_waiter *w, int64_t timeout_ns)
{
    struct sh_conn_asks *a = &c->ask;
    const struct sh_clock *clock = c->stream->clock;
    int64_t end = sh_deadline_in(clock, timeout_ns);

    for (;;) {
        int64_t left;
        if (w->moved) end = sh_deadline_in(clock, timeout_ns);
        w->moved = false;
        left = end == SH_NO_DEADLINE ? end : end - sh_now_ns(clock);
        if (w->done || (!w->taken && (a->over || left <= 0))) break;
        (void)sh_cond_wait(&w->changed, &a->lock, w->taken ? SH_NO_DEADLINE : left);
    }
    return w->done || a->over;
}

/* Take the waiter out of the list.  One whose answer is not there has waited in vain, which is
 * `st`.
 */
static enum shoal_status dismiss(struct sh_rpc_conn *c, struct sh_conn_waiter *w,
                                 enum shoal_status st, struct shoal_error *err)
{
    struct sh_conn_asks *a = &c->ask;
    bool remembered = true;

    sh_mutex_lock(&a->lock);
    while (w->taken)
        (void)sh_cond_wait(&w->changed, &a->lock, SH_NO_DEADLINE);
    if (w->done) {
        st = w->st;
    } else if (a->over) {
        st = ended(a, err);
    } else {
        st = sh_fail(err, st, "%s does not answer %s", c->stream->peer,
                     sh_rpc_info(w->ask->type)->name);
        sh_error_set_peer(err, c->stream->peer);
        remembered = abandon(a, w);
    }
    leave(a, w);
    sh_mutex_unlock(&a->lock);
    if (!remembered) {
        sh_conn_over(c, st, err);
        sh_stream_cut(c->stream);
    }
    return st;
}

static enum shoal_status begin(struct sh_rpc_conn *c, struct sh_conn_waiter *w,
                               struct shoal_error *err)
{
    struct sh_rpc_ask *ask = w->ask;
    const struct sh_rpc_info *info = sh_rpc_info(ask->type);
    enum shoal_status st;

    ask->need = ask->free = 0;
    if (!info || !info->answer || (info->from == 'C' && !c->is_client)) {
        return sh_fail(err, SHOAL_ERR_ARG, "rpc: message %u is no question of this end",
                       (unsigned)ask->type);
    }
    w->answer = info->answer;
    st = sh_conn_check_type(c, ask->type, err);
    if (!st) st = sh_conn_check_values(&c->peer, ask->type, ask->msg, err);
    if (!st) st = enter(&c->ask, w, err);
    if (st) return st;
    st = sh_conn_put(c, ask->type, w->request, ask->msg, err);
    if (!st) return SHOAL_OK;
    sh_mutex_lock(&c->ask.lock);
    while (w->taken) // by an answer to what was never asked
        (void)sh_cond_wait(&w->changed, &c->ask.lock, SH_NO_DEADLINE);
    leave(&c->ask, w);
    sh_mutex_unlock(&c->ask.lock);
    return st;
}

enum shoal_status sh_rpc_conn_ask(struct sh_rpc_conn *c, struct sh_rpc_ask *ask,
                                  struct shoal_error *err)
{
    struct shoal_error own = SHOAL_ERROR_INIT;
    struct sh_conn_waiter w = {.ask = ask, .err = err ? err : &own};
    enum shoal_status st;

    sh_cond_init(&w.changed);
    st = begin(c, &w, w.err);
    if (!st) {
        sh_mutex_lock(&c->ask.lock);
        (void)wait_for(c, &w, ask->timeout_ns);
        sh_mutex_unlock(&c->ask.lock);
        st = dismiss(c, &w, SHOAL_ERR_TIMEOUT, w.err);
    }
    sh_cond_release(&w.changed);
    return st;
}

/* ---- in two halves ---------------------------------------------------------------------------*/

struct sh_rpc_asked {
    struct sh_conn_waiter waiter;
    struct shoal_error err;
};

enum shoal_status sh_rpc_conn_ask_begin(struct sh_rpc_conn *c, struct sh_rpc_ask *ask,
                                        struct sh_rpc_asked **out, struct shoal_error *err)
{
    struct sh_rpc_asked *a = sh_calloc(1, sizeof *a);
    enum shoal_status st;

    *out = NULL;
    if (!a) return sh_fail(err, SHOAL_ERR_NOMEM, "rpc: no memory for a question");
    a->waiter.ask = ask;
    a->waiter.err = &a->err;
    sh_cond_init(&a->waiter.changed);
    st = begin(c, &a->waiter, err);
    if (st) {
        sh_cond_release(&a->waiter.changed);
        sh_free(a);
        return st;
    }
    *out = a;
    return SHOAL_OK;
}

bool sh_rpc_conn_ask_wait(struct sh_rpc_conn *c, struct sh_rpc_asked *a, int64_t timeout_ns)
{
    bool is_there;

    sh_mutex_lock(&c->ask.lock);
    is_there = wait_for(c, &a->waiter, timeout_ns);
    sh_mutex_unlock(&c->ask.lock);
    return is_there;
}

enum shoal_status sh_rpc_conn_ask_end(struct sh_rpc_conn *c, struct sh_rpc_asked *a,
                                      struct shoal_error *err)
{
    enum shoal_status st;

    if (!a) return SHOAL_OK;
    st = dismiss(c, &a->waiter, SHOAL_ERR_CANCELLED, &a->err);
    if (st && err) *err = a->err;
    sh_cond_release(&a->waiter.changed);
    sh_free(a);
    return st;
}

/* ---- the side of run() -----------------------------------------------------------------------*/

/* Who waits for this, taken; or NULL.  *gone: somebody did. */
static struct sh_conn_waiter *take(struct sh_conn_asks *a, const struct sh_rpc_head *head,
                                   bool *gone)
{
    const bool any = head->type == SH_RPC_MSG_ERROR || head->type == SH_RPC_MSG_PROGRESS;
    struct sh_conn_waiter *w;

    *gone = false;
    sh_mutex_lock(&a->lock);
    for (w = a->first; w; w = w->next) {
        if (!w->done && w->request == head->request && (any || w->answer == head->type)) break;
    }
    if (w) w->taken = true;
    for (int i = 0; !w && i < a->n_abandoned; i++) {
        if (a->abandoned[i].request != head->request) continue;
        if (!any && a->abandoned[i].answer != head->type) continue;
        *gone = true;
        if (head->type == SH_RPC_MSG_PROGRESS) break;
        a->abandoned[i] = a->abandoned[--a->n_abandoned];
        break;
    }
    sh_mutex_unlock(&a->lock);
    return w;
}

static void give_back(struct sh_conn_asks *a, struct sh_conn_waiter *w, bool done)
{
    sh_mutex_lock(&a->lock);
    w->taken = false;
    w->moved = true;
    w->done = done;
    sh_cond_signal(&w->changed);
    sh_mutex_unlock(&a->lock);
}

static enum shoal_status give_error(struct sh_rpc_conn *c, struct sh_conn_waiter *w,
                                    const struct sh_rpc_head *head, const uint8_t *payload,
                                    struct shoal_error *err)
{
    struct sh_rpc_error e;
    enum shoal_status st;

    st = sh_rpc_decode(&e, head, payload, c->peer.revision, c->checksum, &c->arena, err);
    if (st) return st;
    w->st = sh_rpc_status_of_error(e.status);
    *w->err = (struct shoal_error){.code = w->st};
    sh_rpc_text_copy(w->err->message, sizeof w->err->message, e.message);
    sh_error_set_peer(w->err, c->stream->peer);
    w->ask->need = e.need;
    w->ask->free = e.free;
    return SHOAL_OK;
}

static enum shoal_status give_progress(struct sh_rpc_conn *c, struct sh_conn_waiter *w,
                                       const struct sh_rpc_head *head, const uint8_t *payload,
                                       struct shoal_error *err)
{
    struct sh_rpc_progress p;
    enum shoal_status st;

    st = sh_rpc_decode(&p, head, payload, c->peer.revision, c->checksum, &c->arena, err);
    if (!st && w->ask->on_progress) w->ask->on_progress(w->ask->self, &p);
    return st;
}

/* The frame's bytes are not the asker's to keep: decoded from a copy in its arena. */
static enum shoal_status give_answer(struct sh_rpc_conn *c, struct sh_conn_waiter *w,
                                     const struct sh_rpc_head *head, const uint8_t *payload,
                                     struct shoal_error *err)
{
    uint8_t *copy = sh_arena_calloc(w->ask->arena, head->bytes ? head->bytes : 1, 1);
    enum shoal_status st;

    if (!copy) {
        w->st = sh_fail(w->err, SHOAL_ERR_NOMEM, "rpc: no memory for %s of %u bytes",
                        sh_rpc_info(head->type)->name, (unsigned)head->bytes);
        return SHOAL_OK;
    }
    memcpy(copy, payload, head->bytes);
    st = sh_rpc_decode(w->ask->answer, head, copy, c->peer.revision, c->checksum, w->ask->arena,
                       err);
    if (st == SHOAL_ERR_NOMEM) {
        if (err) *w->err = *err;
        w->st = st;
        return SHOAL_OK;
    }
    return st ? st : sh_conn_check_values(&c->peer, head->type, w->ask->answer, err);
}

enum shoal_status sh_conn_asks_give(struct sh_rpc_conn *c, const struct sh_rpc_head *head,
                                    const uint8_t *payload, bool *found, struct shoal_error *err)
{
    struct sh_conn_waiter *w = take(&c->ask, head, found);
    bool done = true;
    enum shoal_status st;

    if (!w) return SHOAL_OK;
    *found = true;
    switch (head->type) {
    case SH_RPC_MSG_ERROR:
        st = give_error(c, w, head, payload, err);
        break;
    case SH_RPC_MSG_PROGRESS:
        st = give_progress(c, w, head, payload, err);
        done = false;
        break;
    default:
        st = give_answer(c, w, head, payload, err);
        break;
    }
    // On failure the connection ends, and the waiter with it.
    give_back(&c->ask, w, done && !st);
    return st;
}
