/* rpc/conn_run.c - frames in: read, check, and give to whom they are for.
 *
 * The inbox holds what one read brought: mostly a whole frame with its head, sometimes several.  It
 * grows while a larger frame really comes, never because a head says so, and is kept.  Of a large
 * frame nothing behind its end is read with it, so the next one begins at the front.
 */
#include "rpc/conn_priv.h"

#include "base/mem.h"

#define READ_AHEAD ((size_t)16 << 10)

static enum shoal_status named(const struct sh_rpc_conn *c, enum shoal_status st,
                               struct shoal_error *err)
{
    sh_error_set_peer(err, c->stream->peer);
    return st;
}

/* ---- reading ---------------------------------------------------------------------------------*/

/* The limits of waiting for more of a frame of `total` bytes (0: for one to begin). */
static struct sh_pace pace_of(const struct sh_rpc_conn *c, int64_t begun_ns, size_t total)
{
    struct sh_pace p = sh_pace_rate(c->opt.silence_ns, SH_NO_DEADLINE, 0);

    if (total > 0 && c->opt.silence_ns != SH_NO_DEADLINE) {
        p.deadline_ns =
            begun_ns + c->opt.silence_ns + (int64_t)(total / SH_CONN_BYTES_PER_S) * SH_SECOND;
    }
    return p;
}

/* Some more bytes, `want` at most.  *end: the peer ended the stream. */
static enum shoal_status read_some(struct sh_rpc_conn *c, size_t want, struct sh_pace *pace,
                                   bool *end, struct shoal_error *err)
{
    struct sh_conn_bytes *in = &c->in;
    enum shoal_status st;
    size_t got;

    sh_pace_start(pace, sh_now_ns(c->stream->clock));
    st = sh_stream_read_some(c->stream, in->ptr + in->end, want, pace, &got, err);
    if (st) return st;
    *end = got == 0;
    in->end += got;
    atomic_store_explicit(&c->heard_ns, pace->last_ns, memory_order_relaxed);
    return SHOAL_OK;
}

/* Until `total` bytes of a frame are held.  The buffer grows with what comes. */
static enum shoal_status fill(struct sh_rpc_conn *c, size_t total, int64_t begun_ns, bool *end,
                              struct shoal_error *err)
{
    struct sh_conn_bytes *in = &c->in;
    enum shoal_status st;

    *end = false;
    while (sh_conn_held(in) < total && !*end) {
        const size_t left = total - sh_conn_held(in);
        struct sh_pace pace = pace_of(c, begun_ns, sh_conn_held(in) > 0 ? total : 0);
        size_t want = left;
        if (in->start > 0 && in->start + total > in->cap) {
            st = sh_conn_bytes_reserve(in, in->cap - in->end + 1, err); // to the front, or grows
            if (st) return st;
        } else if (in->end == in->cap) {
            st = sh_conn_bytes_reserve(in, left < in->cap ? left : in->cap, err);
            if (st) return st;
        }
        if (total <= READ_AHEAD || want > in->cap - in->end) want = in->cap - in->end;
        st = read_some(c, want, &pace, end, err);
        if (st) return st;
    }
    return SHOAL_OK;
}

static enum shoal_status cut_off(struct sh_rpc_conn *c, struct shoal_error *err)
{
    return named(c,
                 sh_fail(err, SHOAL_ERR_PEER, "%s ended the connection in the middle of a message",
                         c->stream->peer),
                 err);
}

/* A whole frame at in.start.  *end: the peer ended in order instead. */
static enum shoal_status next_frame(struct sh_rpc_conn *c, struct sh_rpc_head *head, bool *end,
                                    bool *wrong, struct shoal_error *err)
{
    struct sh_conn_bytes *in = &c->in;
    int64_t begun;
    enum shoal_status st;

    if (in->start == in->end) in->start = in->end = 0;
    st = fill(c, in->start == in->end ? 1 : SH_RPC_HEAD_BYTES, sh_now_ns(c->stream->clock), end,
              err);
    if (st || *end) return !st && sh_conn_held(in) > 0 ? cut_off(c, err) : st;
    begun = atomic_load_explicit(&c->heard_ns, memory_order_relaxed);
    st = fill(c, SH_RPC_HEAD_BYTES, begun, end, err);
    if (!st && *end) st = cut_off(c, err);
    if (st) return st;
    st = sh_rpc_head_get(head, in->ptr + in->start, !c->is_client, c->peer.revision, err);
    *wrong = st != SHOAL_OK;
    if (st) return st;
    st = fill(c, SH_RPC_HEAD_BYTES + (size_t)head->bytes, begun, end, err);
    if (!st && *end) st = cut_off(c, err);
    return st;
}

/* ---- frames ----------------------------------------------------------------------------------*/

struct running {
    const struct sh_rpc_handler *handler;
    bool wrong; /* the failure is of what came: to be said to the peer */
    bool end;   /* in order */
};

static enum shoal_status decode(struct sh_rpc_conn *c, const struct sh_rpc_head *head,
                                const uint8_t *payload, struct shoal_error *err)
{
    sh_arena_reset(&c->arena);
    return sh_rpc_decode(c->msg, head, payload, c->peer.revision, c->checksum, &c->arena, err);
}

/* What the table cannot say of a head. */
static enum shoal_status check_head(const struct sh_rpc_conn *c, const struct sh_rpc_head *head,
                                    struct shoal_error *err)
{
    const struct sh_rpc_info *info = sh_rpc_info(head->type);
    struct shoal_error why = SHOAL_ERROR_INIT;

    if (sh_conn_check_type(c, head->type, &why))
        return sh_fail(err, SHOAL_ERR_FORMAT, "%s", why.message);
    if (info->answer && head->request == 0)
        return sh_fail(err, SHOAL_ERR_FORMAT, "rpc: %s without a request number", info->name);
    if (!info->answer && head->request != 0 && head->type != SH_RPC_MSG_ERROR &&
        head->type != SH_RPC_MSG_PROGRESS && !(c->rules[head->type] & SH_CONN_ANSWER)) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "rpc: %s with a request number", info->name);
    }
    return SHOAL_OK;
}

static enum shoal_status answer_probe(struct sh_rpc_conn *c, uint32_t request,
                                      struct shoal_error *err)
{
    const struct sh_rpc_probe *m = c->msg;
    struct sh_rpc_probed answer = {.stamp = m->stamp, .data = {.n = m->answer_bytes}};

    if (m->answer_bytes > SH_RPC_CHUNK_MAX) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "rpc: PROBE wants %u bytes, at most %u",
                       (unsigned)m->answer_bytes, SH_RPC_CHUNK_MAX);
    }
    if (m->answer_bytes > c->n_zeros) {
        sh_free(c->zeros);
        c->n_zeros = 0;
        c->zeros = sh_calloc(m->answer_bytes, 1);
        if (!c->zeros) return sh_fail(err, SHOAL_ERR_NOMEM, "rpc: no memory for PROBED");
        c->n_zeros = m->answer_bytes;
    }
    answer.data.ptr = c->zeros;
    (void)!sh_conn_put(c, SH_RPC_MSG_PROBED, request, &answer, NULL); // reading finds the end
    return SHOAL_OK;
}

/* The peer's last word. */
static enum shoal_status take_fatal(struct sh_rpc_conn *c, struct shoal_error *err)
{
    const struct sh_rpc_error *m = c->msg;
    const enum shoal_status st = sh_rpc_status_of_error(m->status);
    char text[256];

    sh_rpc_text_copy(text, sizeof text, m->message);
    return named(c, sh_fail(err, st, "%s ended the connection: %s", c->stream->peer, text), err);
}

static enum shoal_status give_to_handler(struct sh_rpc_conn *c, struct running *r,
                                         const struct sh_rpc_head *head, const uint8_t *payload,
                                         struct shoal_error *err)
{
    const struct sh_rpc_incoming m = {.type = (enum sh_rpc_type)head->type,
                                      .request = head->request,
                                      .msg = c->msg,
                                      .payload = payload,
                                      .n = head->bytes};
    struct shoal_error why = SHOAL_ERROR_INIT;
    enum shoal_status st;

    if (sh_conn_check_values(&c->peer, head->type, c->msg, &why))
        return sh_fail(err, SHOAL_ERR_FORMAT, "%s", why.message);
    st = r->handler->message(r->handler->self, c, &m, &why);
    if (st && err) *err = why;
    return st;
}

static enum shoal_status take_frame(struct sh_rpc_conn *c, struct running *r,
                                    const struct sh_rpc_head *head, const uint8_t *payload,
                                    struct shoal_error *err)
{
    const bool answers = head->request != 0 && !sh_rpc_info(head->type)->answer;
    bool found = false;
    enum shoal_status st;

    if (answers || (c->rules[head->type] & SH_CONN_ANSWER)) {
        const bool fatal = head->type == SH_RPC_MSG_ERROR;
        st = sh_conn_asks_give(c, head, payload, &found, err);
        if (st) return st;
        if (!found) {
            return sh_fail(err, SHOAL_ERR_FORMAT, "rpc: %s to request %u, which nobody made",
                           sh_rpc_info(head->type)->name, (unsigned)head->request);
        }
        if (!fatal) return SHOAL_OK;
    }
    st = decode(c, head, payload, err);
    if (st) return st;
    switch (head->type) {
    case SH_RPC_MSG_BEAT:
        if (r->handler->beat)
            r->handler->beat(r->handler->self, ((const struct sh_rpc_beat *)c->msg)->ack);
        return SHOAL_OK;
    case SH_RPC_MSG_BYE:
        r->end = true;
        if (r->handler->bye) r->handler->bye(r->handler->self);
        return SHOAL_OK;
    case SH_RPC_MSG_PROBE:
        return answer_probe(c, head->request, err);
    case SH_RPC_MSG_ERROR:
        if (((const struct sh_rpc_error *)c->msg)->fatal) {
            r->wrong = false;
            return take_fatal(c, err);
        }
        return found ? SHOAL_OK : give_to_handler(c, r, head, payload, err);
    default:
        return give_to_handler(c, r, head, payload, err);
    }
}

static enum shoal_status run_one(struct sh_rpc_conn *c, struct running *r, struct shoal_error *err)
{
    struct sh_rpc_head head;
    enum shoal_status st;

    r->wrong = false;
    st = next_frame(c, &head, &r->end, &r->wrong, err);
    if (st || r->end) return st;
    r->wrong = true;
    if (head.type != SH_RPC_MSG_BEAT)
        atomic_fetch_add_explicit(&c->frames_received, 1, memory_order_relaxed);
    st = check_head(c, &head, err);
    if (!st) st = take_frame(c, r, &head, c->in.ptr + c->in.start + SH_RPC_HEAD_BYTES, err);
    c->in.start += SH_RPC_HEAD_BYTES + (size_t)head.bytes;
    return st;
}

/* ---- the end ---------------------------------------------------------------------------------*/

static enum shoal_status silent(struct sh_rpc_conn *c, struct shoal_error *err)
{
    return named(c,
                 sh_fail(err, SHOAL_ERR_TIMEOUT, "%s has been silent, or too slow, for %lld ms",
                         c->stream->peer, (long long)(c->opt.silence_ns / SH_MS)),
                 err);
}

/* Why it ended, for who called run() and for everybody who waits. */
static enum shoal_status conclude(struct sh_rpc_conn *c, const struct running *r,
                                  enum shoal_status st, struct shoal_error *why)
{
    struct shoal_error own = SHOAL_ERROR_INIT;

    if (atomic_load(&c->left)) {
        st = SHOAL_OK;
    } else if (atomic_load(&c->is_cut)) {
        st = sh_fail(why, SHOAL_ERR_CANCELLED, "the connection to %s was cut from this side",
                     c->stream->peer);
    } else if (st == SHOAL_ERR_CANCELLED && !r->wrong && sh_conn_reason(c, &own)) {
        *why = own; // a sender has ended it
        st = own.code;
    } else if (st == SHOAL_ERR_TIMEOUT && !r->wrong) {
        st = silent(c, why);
    }
    if (!st) (void)sh_fail(why, SHOAL_ERR_PEER, "%s ended the connection", c->stream->peer);
    sh_error_set_peer(why, c->stream->peer);
    if (st && (r->wrong || st == SHOAL_ERR_TIMEOUT || st == SHOAL_ERR_NOMEM))
        sh_conn_say_failure(c, st, why);
    sh_conn_over(c, why->code, why);
    sh_conn_asks_end(&c->ask, why->code, why);
    return st;
}

enum shoal_status sh_rpc_conn_run(struct sh_rpc_conn *c, const struct sh_rpc_handler *h,
                                  struct shoal_error *err)
{
    struct running r = {.handler = h};
    struct shoal_error why = SHOAL_ERROR_INIT;
    enum shoal_status st = SHOAL_OK;

    while (!st && !r.end)
        st = run_one(c, &r, &why);
    st = conclude(c, &r, st, &why);
    if (st && err) *err = why;
    return st;
}
