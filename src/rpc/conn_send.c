/* rpc/conn_send.c - frames out: at once where nothing waits, else through queues and the pump.
 *
 *     begun   the rest of a frame that the stream took a part of: always first, with the same bytes
 *             (an encrypted stream has made a record of them already)
 *     small   frames of up to 16 KiB of no flow
 *     bulk    steps, rows, results and weights, which may not overtake each other, and all that is
 *             large
 *
 * A lane is two buffers: senders append to one while the pump writes the other, so that nothing
 * moves under a write.  The pump goes back to the small lane after every 64 KiB or so of bulk.
 */
#include "rpc/conn_priv.h"

#include "base/mem.h"

#define SMALL_MAX (16u << 10)
#define PIECE_BYTES (64u << 10)      /* of bulk that is written in one go, if frames allow */
#define KEPT_BYTES ((size_t)8 << 20) /* of a lane's buffer while it is empty */
#define STALL_NS (60 * SH_SECOND)    /* most time in which the stream takes nothing */
#define SEND_WAIT_DEFAULT ((size_t)4 << 20)

/* ---- bytes -----------------------------------------------------------------------------------*/

enum shoal_status sh_conn_bytes_reserve(struct sh_conn_bytes *b, size_t n, struct shoal_error *err)
{
    const size_t held = sh_conn_held(b);
    size_t need, cap;
    uint8_t *grown;

    if (b->start > 0 && n > b->cap - b->end) {
        memmove(b->ptr, b->ptr + b->start, held);
        b->start = 0;
        b->end = held;
    }
    if (n <= b->cap - b->end) return SHOAL_OK;
    if (!sh_add_ok(b->end, n, &need)) return sh_fail(err, SHOAL_ERR_NOMEM, "rpc: no memory");
    cap = b->cap < SIZE_MAX / 2 && b->cap * 2 > need ? b->cap * 2 : need;
    grown = sh_realloc_array(b->ptr, cap, 1);
    if (!grown)
        return sh_fail(err, SHOAL_ERR_NOMEM, "rpc: no memory for %zu bytes of frames", need);
    b->ptr = grown;
    b->cap = cap;
    return SHOAL_OK;
}

static void forget_bytes(struct sh_conn_bytes *b)
{
    sh_free(b->ptr);
    *b = (struct sh_conn_bytes){.ptr = NULL};
}

static void swap_buffers(struct sh_conn_lane *l)
{
    const struct sh_conn_bytes empty = l->writing;

    l->writing = l->filling;
    l->filling = empty;
    l->filling.start = l->filling.end = 0;
    if (l->filling.cap > KEPT_BYTES) forget_bytes(&l->filling);
}

/* ---- what waits ------------------------------------------------------------------------------*/

static bool is_idle(const struct sh_conn_send *s)
{
    return s->queued == 0 && !s->pumping;
}

/* Everything that stays in its order goes one way. */
static int lane_of(enum sh_rpc_type type, size_t bytes)
{
    switch (type) {
    case SH_RPC_MSG_STEP:
    case SH_RPC_MSG_HIDDEN:
    case SH_RPC_MSG_RESULT:
    case SH_RPC_MSG_LOGITS:
    case SH_RPC_MSG_CANCELLED:
    case SH_RPC_MSG_SUM:
    case SH_RPC_MSG_PUT:
    case SH_RPC_MSG_PUT_END:
        return SH_CONN_BULK;
    default:
        return bytes > SMALL_MAX ? SH_CONN_BULK : SH_CONN_SMALL;
    }
}

/* Why nothing can be sent.  Under the lock. */
static enum shoal_status refused(const struct sh_rpc_conn *c, struct shoal_error *err)
{
    if (err) {
        *err = c->send.err;
        err->code = SHOAL_ERR_PEER;
    }
    return SHOAL_ERR_PEER;
}

/* Under the lock: the first reason stays. */
static void end_locked(struct sh_rpc_conn *c, enum shoal_status st, const struct shoal_error *why)
{
    struct sh_conn_send *s = &c->send;

    if (!s->over) {
        s->over = true;
        s->st = st;
        if (why) s->err = *why;
        s->err.code = st;
    }
    sh_cond_broadcast(&s->room);
    sh_cond_signal(&s->wake);
}

void sh_conn_over(struct sh_rpc_conn *c, enum shoal_status st, const struct shoal_error *why)
{
    sh_mutex_lock(&c->send.lock);
    end_locked(c, st, why);
    sh_mutex_unlock(&c->send.lock);
}

enum shoal_status sh_conn_reason(struct sh_rpc_conn *c, struct shoal_error *err)
{
    enum shoal_status st;

    sh_mutex_lock(&c->send.lock);
    st = c->send.over ? c->send.st : SHOAL_OK;
    if (st && err) *err = c->send.err;
    sh_mutex_unlock(&c->send.lock);
    return st;
}

/* The stream takes nothing any more: what waits is dropped.  A peer that has gone may have said
 * why, which run() finds in what still comes; else run() is woken.  Under the lock. */
static void broke(struct sh_rpc_conn *c, enum shoal_status st, const struct shoal_error *why)
{
    struct sh_conn_send *s = &c->send;

    s->broken = true;
    s->queued = 0;
    end_locked(c, st, why);
    if (st != SHOAL_ERR_PEER) sh_stream_cut(c->stream);
}

/* ---- one frame -------------------------------------------------------------------------------*/

/* The bytes of the pieces from `put` on become what was begun. */
static enum shoal_status keep_rest(struct sh_conn_send *s, const struct sh_rpc_pieces *p,
                                   size_t put, struct shoal_error *err)
{
    enum shoal_status st;

    s->begun.start = s->begun.end = 0;
    st = sh_conn_bytes_reserve(&s->begun, p->bytes - put, err);
    if (st) return st;
    for (int i = 0; i < p->n; i++) {
        const size_t n = p->iov[i].iov_len;
        if (put < n) {
            memcpy(s->begun.ptr + s->begun.end, (const uint8_t *)p->iov[i].iov_base + put, n - put);
            s->begun.end += n - put;
            put = 0;
        } else {
            put -= n;
        }
    }
    s->queued += sh_conn_held(&s->begun);
    return SHOAL_OK;
}

/* Write now what the stream takes; the rest is the pump's. */
static enum shoal_status write_now(struct sh_rpc_conn *c, enum sh_rpc_type type, uint32_t request,
                                   const void *msg, size_t bytes, struct shoal_error *err)
{
    struct sh_conn_send *s = &c->send;
    struct sh_rpc_pieces pieces;
    struct sh_writer w;
    enum shoal_status st;
    size_t put = 0;

    s->scratch.start = s->scratch.end = 0;
    st = sh_conn_bytes_reserve(&s->scratch, bytes, err);
    if (st) return st;
    w = sh_writer_over(s->scratch.ptr, s->scratch.cap);
    st = sh_rpc_encode_pieces(&pieces, &w, type, request, msg, c->peer.revision, c->checksum, err);
    if (st) return st;
    st = c->stream->ops->writev(c->stream, pieces.iov, pieces.n, &put, err);
    if (!st) {
        atomic_fetch_add_explicit(&c->stream->bytes_written, put, memory_order_relaxed);
        if (put > 0) s->last_ns = sh_now_ns(c->stream->clock);
        if (put < bytes) st = keep_rest(s, &pieces, put, err);
        if (!st && put < bytes) {
            atomic_fetch_add_explicit(&c->frames_queued, 1, memory_order_relaxed);
            sh_cond_signal(&s->wake);
        }
    }
    if (st) {
        sh_error_set_peer(err, c->stream->peer);
        broke(c, st, err);
        return refused(c, err);
    }
    return SHOAL_OK;
}

static enum shoal_status put_in_lane(struct sh_rpc_conn *c, enum sh_rpc_type type, uint32_t request,
                                     const void *msg, size_t bytes, struct shoal_error *err)
{
    struct sh_conn_send *s = &c->send;
    struct sh_conn_bytes *b = &s->lane[lane_of(type, bytes)].filling;
    struct shoal_error why = SHOAL_ERROR_INIT;
    struct sh_writer w;
    enum shoal_status st;

    if (s->queued > 0 && bytes > c->opt.queue_max - s->queued) {
        st = sh_fail(&why, SHOAL_ERR_LIMIT, "%s does not read: %zu bytes wait for it",
                     c->stream->peer, s->queued);
        sh_error_set_peer(&why, c->stream->peer);
        broke(c, st, &why);
        return refused(c, err);
    }
    st = sh_conn_bytes_reserve(b, bytes, err);
    if (st) return st;
    w = sh_writer_over(b->ptr + b->end, bytes);
    st = sh_rpc_encode(&w, type, request, msg, c->peer.revision, c->checksum, err);
    if (st) return st;
    b->end += bytes;
    s->queued += bytes;
    atomic_fetch_add_explicit(&c->frames_queued, type != SH_RPC_MSG_BEAT, memory_order_relaxed);
    sh_cond_signal(&s->wake);
    return SHOAL_OK;
}

/* Under the lock. */
static enum shoal_status put_locked(struct sh_rpc_conn *c, enum sh_rpc_type type, uint32_t request,
                                    const void *msg, size_t bytes, struct shoal_error *err)
{
    enum shoal_status st;

    if (c->send.over) return refused(c, err);
    if (bytes <= SH_CONN_AT_ONCE_MAX && is_idle(&c->send)) {
        st = write_now(c, type, request, msg, bytes, err);
    } else {
        st = put_in_lane(c, type, request, msg, bytes, err);
    }
    if (!st)
        atomic_fetch_add_explicit(&c->frames_sent, type != SH_RPC_MSG_BEAT, memory_order_relaxed);
    return st;
}

/* Its bytes, or why it may not be sent. */
static enum shoal_status measure(const struct sh_rpc_conn *c, enum sh_rpc_type type,
                                 const void *msg, size_t *bytes, struct shoal_error *err)
{
    struct sh_writer none = sh_writer_over(NULL, 0);
    enum shoal_status st;

    *bytes = sh_rpc_frame_bytes(type, msg, c->peer.revision);
    if (*bytes > 0) return SHOAL_OK;
    st = sh_rpc_encode(&none, type, 0, msg, c->peer.revision, false, err);
    SH_ASSERT(st);
    return st;
}

enum shoal_status sh_conn_put(struct sh_rpc_conn *c, enum sh_rpc_type type, uint32_t request,
                              const void *msg, struct shoal_error *err)
{
    enum shoal_status st;
    size_t bytes;

    st = measure(c, type, msg, &bytes, err);
    if (st) return st;
    sh_mutex_lock(&c->send.lock);
    st = put_locked(c, type, request, msg, bytes, err);
    sh_mutex_unlock(&c->send.lock);
    return st;
}

static enum shoal_status check(const struct sh_rpc_conn *c, enum sh_rpc_type type, uint32_t request,
                               const void *msg, struct shoal_error *err)
{
    const struct sh_rpc_info *info = sh_rpc_info(type);
    enum shoal_status st;

    if (!info || (info->from == 'C' && !c->is_client) || (info->from == 'S' && c->is_client)) {
        return sh_fail(err, SHOAL_ERR_ARG, "rpc: message %u is not for this end to send",
                       (unsigned)type);
    }
    if (info->answer) {
        return sh_fail(err, SHOAL_ERR_ARG, "rpc: %s is a question, which waits for its answer",
                       info->name);
    }
    if (request == 0 && ((c->rules[type] & SH_CONN_ANSWER) || type == SH_RPC_MSG_PROGRESS)) {
        return sh_fail(err, SHOAL_ERR_ARG, "rpc: %s answers no request", info->name);
    }
    st = sh_conn_check_type(c, type, err);
    if (!st) st = sh_conn_check_values(&c->peer, type, msg, err);
    return st;
}

enum shoal_status sh_rpc_conn_send(struct sh_rpc_conn *c, enum sh_rpc_type type, uint32_t request,
                                   const void *msg, struct shoal_error *err)
{
    enum shoal_status st = check(c, type, request, msg, err);

    return st ? st : sh_conn_put(c, type, request, msg, err);
}

/* Wait until less than `max` is queued.  Under the lock. */
static enum shoal_status wait_room(struct sh_rpc_conn *c, size_t max, int64_t timeout_ns,
                                   struct shoal_error *err)
{
    struct sh_conn_send *s = &c->send;
    const struct sh_clock *clock = c->stream->clock;
    uint64_t moved = atomic_load_explicit(&c->stream->bytes_written, memory_order_relaxed);
    int64_t end = sh_deadline_in(clock, timeout_ns);

    while (!s->over && s->queued >= max) {
        const int64_t left = end == SH_NO_DEADLINE ? end : end - sh_now_ns(clock);
        uint64_t now;
        if (left <= 0) {
            enum shoal_status st =
                sh_fail(err, SHOAL_ERR_TIMEOUT, "%s takes no data: %zu bytes wait for it",
                        c->stream->peer, s->queued);
            sh_error_set_peer(err, c->stream->peer);
            return st;
        }
        (void)sh_cond_wait(&s->room, &s->lock, left);
        now = atomic_load_explicit(&c->stream->bytes_written, memory_order_relaxed);
        if (now != moved) end = sh_deadline_in(clock, timeout_ns);
        moved = now;
    }
    return SHOAL_OK;
}

enum shoal_status sh_rpc_conn_send_wait(struct sh_rpc_conn *c, enum sh_rpc_type type,
                                        uint32_t request, const void *msg, size_t queued_max,
                                        int64_t timeout_ns, struct shoal_error *err)
{
    enum shoal_status st;
    size_t bytes;

    st = check(c, type, request, msg, err);
    if (!st) st = measure(c, type, msg, &bytes, err);
    if (st) return st;
    sh_mutex_lock(&c->send.lock);
    st = wait_room(c, queued_max ? queued_max : SEND_WAIT_DEFAULT, timeout_ns, err);
    if (!st) st = put_locked(c, type, request, msg, bytes, err);
    sh_mutex_unlock(&c->send.lock);
    return st;
}

void sh_rpc_conn_set_queue_max(struct sh_rpc_conn *c, size_t bytes)
{
    sh_mutex_lock(&c->send.lock);
    c->opt.queue_max = bytes;
    sh_mutex_unlock(&c->send.lock);
}

/* ---- failures --------------------------------------------------------------------------------*/

void sh_rpc_conn_refuse(struct sh_rpc_conn *c, uint32_t request, enum shoal_status st,
                        const struct shoal_error *why, uint64_t need, uint64_t free)
{
    char text[sizeof why->message];
    const struct sh_rpc_error e = {
        .status = sh_rpc_status_put(st),
        .need = need,
        .free = free,
        .message = sh_rpc_text_clean(text, sizeof text,
                                     why && why->message[0] ? why->message : shoal_status_name(st)),
    };

    (void)!sh_conn_put(c, SH_RPC_MSG_ERROR, request, &e, NULL); // else run() says it
}

void sh_conn_say_failure(struct sh_rpc_conn *c, enum shoal_status st, const struct shoal_error *why)
{
    char text[sizeof why->message];
    const struct sh_rpc_error e = {
        .status = sh_rpc_status_put(st),
        .fatal = 1,
        .message = sh_rpc_text_clean(text, sizeof text, why->message),
    };
    const size_t bytes = sh_rpc_frame_bytes(SH_RPC_MSG_ERROR, &e, c->peer.revision);

    sh_mutex_lock(&c->send.lock);
    if (!put_locked(c, SH_RPC_MSG_ERROR, 0, &e, bytes, NULL)) c->send.said_failure = true;
    end_locked(c, st, why);
    sh_mutex_unlock(&c->send.lock);
}

/* ---- the pump --------------------------------------------------------------------------------*/

static size_t frame_at(const struct sh_conn_bytes *b, size_t at)
{
    struct sh_reader r = sh_reader_over(b->ptr + at, b->end - at);

    return SH_RPC_HEAD_BYTES + (size_t)sh_read_u32(&r);
}

/* The next bytes to write, which stay where they are until they are done. */
static struct sh_conn_bytes *next_bytes(struct sh_conn_send *s, size_t *n)
{
    *n = sh_conn_held(&s->begun);
    if (*n > 0) return &s->begun;
    for (int i = 0; i < SH_CONN_LANES; i++) {
        struct sh_conn_bytes *b = &s->lane[i].writing;
        if (sh_conn_held(b) == 0) swap_buffers(&s->lane[i]);
        if (sh_conn_held(b) == 0) continue;
        while (*n < PIECE_BYTES && b->start + *n < b->end)
            *n += frame_at(b, b->start + *n);
        return b;
    }
    return NULL;
}

/* Write a piece.  The lock is given up meanwhile. */
static void pump_bytes(struct sh_rpc_conn *c, struct sh_conn_bytes *b, size_t n)
{
    struct sh_conn_send *s = &c->send;
    const int64_t stall = c->opt.silence_ns == SH_NO_DEADLINE ? SH_NO_DEADLINE : STALL_NS;
    struct sh_pace pace = sh_pace_rate(stall, SH_NO_DEADLINE, 0);
    struct shoal_error why = SHOAL_ERROR_INIT;
    enum shoal_status st;
    int64_t now;

    s->pumping = true;
    sh_mutex_unlock(&s->lock);
    sh_pace_start(&pace, sh_now_ns(c->stream->clock));
    st = sh_stream_write_full(c->stream, b->ptr + b->start, n, &pace, &why);
    now = sh_now_ns(c->stream->clock);
    sh_mutex_lock(&s->lock);
    s->pumping = false;
    if (st) {
        if (!s->broken) broke(c, st, &why);
        return;
    }
    b->start += n;
    s->queued -= s->broken ? 0 : n;
    s->last_ns = now;
    sh_cond_broadcast(&s->room);
}

static void beat(struct sh_rpc_conn *c)
{
    const struct sh_rpc_beat m = {.ack = atomic_load(&c->ack)};
    const size_t bytes = sh_rpc_frame_bytes(SH_RPC_MSG_BEAT, &m, c->peer.revision);

    // Where it fails the connection is over, or memory is short for now.
    c->send.last_ns = sh_now_ns(c->stream->clock);
    (void)!put_locked(c, SH_RPC_MSG_BEAT, 0, &m, bytes, NULL);
}

void *sh_conn_pump(void *conn)
{
    struct sh_rpc_conn *c = conn;
    struct sh_conn_send *s = &c->send;

    sh_mutex_lock(&s->lock);
    for (;;) {
        size_t n = 0;
        struct sh_conn_bytes *b = s->broken ? NULL : next_bytes(s, &n);
        if (b) {
            pump_bytes(c, b, n);
            continue;
        }
        if (s->closing) break;
        if (s->over) {
            (void)sh_cond_wait(&s->wake, &s->lock, SH_NO_DEADLINE);
            continue;
        }
        const int64_t left = s->last_ns + c->opt.beat_ns - sh_now_ns(c->stream->clock);
        if (left <= 0) {
            beat(c);
        } else {
            (void)sh_cond_wait(&s->wake, &s->lock, left);
        }
    }
    s->stopped = true;
    sh_cond_broadcast(&s->room);
    sh_mutex_unlock(&s->lock);
    return NULL;
}

bool sh_conn_flush(struct sh_rpc_conn *c, int64_t end)
{
    struct sh_conn_send *s = &c->send;
    bool done;

    sh_mutex_lock(&s->lock);
    while (!s->broken && !is_idle(s)) {
        const int64_t left = end - sh_now_ns(c->stream->clock);
        if (left <= 0) break;
        (void)sh_cond_wait(&s->room, &s->lock, left);
    }
    done = !s->broken && is_idle(s);
    sh_mutex_unlock(&s->lock);
    return done;
}

/* ---- life ------------------------------------------------------------------------------------*/

enum shoal_status sh_conn_send_init(struct sh_rpc_conn *c, struct shoal_error *err)
{
    struct sh_conn_send *s = &c->send;

    sh_mutex_init(&s->lock);
    sh_cond_init(&s->wake);
    sh_cond_init(&s->room);
    s->last_ns = sh_now_ns(c->stream->clock);
    return sh_conn_bytes_reserve(&s->scratch, SMALL_MAX, err);
}

void sh_conn_send_release(struct sh_rpc_conn *c)
{
    struct sh_conn_send *s = &c->send;

    forget_bytes(&s->scratch);
    forget_bytes(&s->begun);
    for (int i = 0; i < SH_CONN_LANES; i++) {
        forget_bytes(&s->lane[i].filling);
        forget_bytes(&s->lane[i].writing);
    }
    sh_cond_release(&s->wake);
    sh_cond_release(&s->room);
    sh_mutex_release(&s->lock);
}

void sh_rpc_conn_set_ack(struct sh_rpc_conn *c, uint64_t ack)
{
    atomic_store(&c->ack, ack);
}
