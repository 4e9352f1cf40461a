/* net/peek.c - a few bytes held back in front of a stream.
 *
 *      below ──> held [0, n_held) ──> reader
 *
 * Once the held bytes are given out, every call goes straight to the stream below.  Until the first
 * byte has come, taking it and noting that it came are one thing to who asks sh_peek_heard().
 */
#include "net/peek.h"

#include <string.h>

#include "base/mem.h"
#include "base/thread.h"

struct peek_stream {
    struct sh_stream head;
    struct sh_stream *below;
    void (*closing)(void *self);
    void *self;
    struct sh_mutex lock; // of reading, while nothing was heard
    _Atomic bool heard;
    uint8_t held[SH_PEEK_MAX];
    size_t n_held;
};

static struct peek_stream *peek_of(struct sh_stream *s)
{
    return (struct peek_stream *)s;
}

static void peek_close(struct sh_stream *s)
{
    struct peek_stream *p = peek_of(s);

    if (p->closing) p->closing(p->self);
    sh_stream_close(p->below);
    sh_mutex_release(&p->lock);
    sh_free(p);
}

static enum shoal_status read_below(struct peek_stream *p, void *dst, size_t n, size_t *got,
                                    bool *end, struct shoal_error *err)
{
    enum shoal_status st;

    if (atomic_load_explicit(&p->heard, memory_order_relaxed))
        return p->below->ops->read(p->below, dst, n, got, end, err);
    sh_mutex_lock(&p->lock);
    st = p->below->ops->read(p->below, dst, n, got, end, err);
    if (*got > 0) atomic_store_explicit(&p->heard, true, memory_order_relaxed);
    sh_mutex_unlock(&p->lock);
    return st;
}

static enum shoal_status peek_read(struct sh_stream *s, void *dst, size_t n, size_t *got, bool *end,
                                   struct shoal_error *err)
{
    struct peek_stream *p = peek_of(s);

    if (p->n_held == 0) return read_below(p, dst, n, got, end, err);
    *end = false;
    *got = n < p->n_held ? n : p->n_held;
    memcpy(dst, p->held, *got);
    p->n_held -= *got;
    memmove(p->held, p->held + *got, p->n_held);
    return SHOAL_OK;
}

static enum shoal_status peek_writev(struct sh_stream *s, const struct iovec *v, int n, size_t *put,
                                     struct shoal_error *err)
{
    struct sh_stream *below = peek_of(s)->below;

    return below->ops->writev(below, v, n, put, err);
}

static enum shoal_status peek_wait(struct sh_stream *s, enum sh_stream_event event,
                                   int64_t timeout_ns, struct shoal_error *err)
{
    struct peek_stream *p = peek_of(s);

    if (event == SH_STREAM_READABLE && p->n_held > 0) return SHOAL_OK;
    return p->below->ops->wait(p->below, event, timeout_ns, err);
}

static bool peek_hung_up(struct sh_stream *s)
{
    return sh_stream_hung_up(peek_of(s)->below);
}

static void peek_cut(struct sh_stream *s)
{
    sh_stream_cut(peek_of(s)->below);
}

static const struct sh_stream_ops g_peek_ops = {
    .close = peek_close,
    .read = peek_read,
    .writev = peek_writev,
    .wait = peek_wait,
    .hung_up = peek_hung_up,
    .cut = peek_cut,
};

enum shoal_status sh_peek_open(struct sh_stream **out, struct sh_stream *below,
                               void (*closing)(void *self), void *self, struct shoal_error *err)
{
    struct peek_stream *p = sh_calloc(1, sizeof *p);

    *out = NULL;
    if (!p) {
        enum shoal_status st =
            sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the connection to %s", below->peer);
        sh_stream_close(below);
        return st;
    }
    p->head.ops = &g_peek_ops;
    p->head.clock = below->clock;
    memcpy(p->head.peer, below->peer, sizeof p->head.peer);
    p->below = below;
    sh_mutex_init(&p->lock);
    p->closing = closing;
    p->self = self;
    *out = &p->head;
    return SHOAL_OK;
}

/* Until there may be something to read. */
static enum shoal_status wait_below(struct peek_stream *p, struct sh_pace *pace,
                                    struct shoal_error *err)
{
    const int64_t left = sh_pace_left(pace, sh_now_ns(p->head.clock));
    enum shoal_status st = SHOAL_ERR_TIMEOUT;

    if (left > 0) st = p->below->ops->wait(p->below, SH_STREAM_READABLE, left, err);
    if (st == SHOAL_ERR_TIMEOUT)
        st = sh_fail(err, st, "%s sends too slowly: the time allowed has passed", p->head.peer);
    return st;
}

enum shoal_status sh_peek(struct sh_stream *s, void *dst, size_t n, struct sh_pace *pace,
                          struct shoal_error *err)
{
    struct peek_stream *p = peek_of(s);
    enum shoal_status st = SHOAL_OK;

    SH_ASSERT(s->ops == &g_peek_ops && n <= sizeof p->held);
    while (p->n_held < n && !st) {
        size_t got = 0;
        bool end = false;
        st = read_below(p, p->held + p->n_held, n - p->n_held, &got, &end, err);
        p->n_held += got;
        if (!st && end) {
            st = sh_fail(err, SHOAL_ERR_PEER, "%s closed the connection after %zu bytes", s->peer,
                         p->n_held);
        } else if (!st && got == 0) {
            st = wait_below(p, pace, err);
        } else if (!st) {
            sh_pace_moved(pace, sh_now_ns(s->clock), got);
        }
    }
    if (st) {
        sh_error_set_peer(err, s->peer);
        return st;
    }
    memcpy(dst, p->held, n);
    return SHOAL_OK;
}

bool sh_peek_heard(struct sh_stream *s)
{
    struct peek_stream *p = peek_of(s);
    bool heard;

    SH_ASSERT(s->ops == &g_peek_ops);
    sh_mutex_lock(&p->lock);
    heard = atomic_load_explicit(&p->heard, memory_order_relaxed) ||
            p->below->ops->wait(p->below, SH_STREAM_READABLE, 0, NULL) == SHOAL_OK;
    sh_mutex_unlock(&p->lock);
    return heard;
}
