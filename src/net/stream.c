/* net/stream.c - blocking transfers with limits, over any implementation. */
#include "net/stream.h"

void sh_stream_close(struct sh_stream *s)
{
    if (s) s->ops->close(s);
}

void sh_stream_cut(struct sh_stream *s)
{
    s->ops->cut(s);
}

bool sh_stream_hung_up(struct sh_stream *s)
{
    return s->ops->hung_up(s);
}

static enum shoal_status named(struct sh_stream *s, enum shoal_status st, struct shoal_error *err)
{
    if (st) sh_error_set_peer(err, s->peer);
    return st;
}

/* Wait for the event as long as the pace allows. */
static enum shoal_status wait_paced(struct sh_stream *s, enum sh_stream_event event,
                                    struct sh_pace *pace, struct shoal_error *err)
{
    int64_t left = sh_pace_left(pace, sh_now_ns(s->clock));
    enum shoal_status st;

    if (left > 0) {
        st = s->ops->wait(s, event, left, err);
        if (st != SHOAL_ERR_TIMEOUT) return st;
        if (sh_pace_left(pace, sh_now_ns(s->clock)) > 0) return SHOAL_OK;
    }
    return sh_fail(err, SHOAL_ERR_TIMEOUT, "%s %s too slowly: the time allowed has passed", s->peer,
                   event == SH_STREAM_READABLE ? "sends" : "takes data");
}

enum shoal_status sh_stream_read_some(struct sh_stream *s, void *dst, size_t n,
                                      struct sh_pace *pace, size_t *got, struct shoal_error *err)
{
    enum shoal_status st;
    bool end = false;

    *got = 0;
    for (;;) {
        st = s->ops->read(s, dst, n, got, &end, err);
        if (st || end) return named(s, st, err);
        if (*got > 0) break;
        st = wait_paced(s, SH_STREAM_READABLE, pace, err);
        if (st) return named(s, st, err);
    }
    atomic_fetch_add_explicit(&s->bytes_read, *got, memory_order_relaxed);
    sh_pace_moved(pace, sh_now_ns(s->clock), *got);
    return SHOAL_OK;
}

enum shoal_status sh_stream_read_full(struct sh_stream *s, void *dst, size_t n,
                                      struct sh_pace *pace, struct shoal_error *err)
{
    uint8_t *p = dst;

    while (n > 0) {
        size_t got;
        enum shoal_status st = sh_stream_read_some(s, p, n, pace, &got, err);
        if (st) return st;
        if (got == 0) {
            st = sh_fail(err, SHOAL_ERR_PEER, "%s closed the connection in the middle of a message",
                         s->peer);
            return named(s, st, err);
        }
        p += got;
        n -= got;
    }
    return SHOAL_OK;
}

/* Take `put` bytes off the front of the list; returns how many pieces are used up. */
static int advance(struct iovec *v, int n, size_t put)
{
    int i = 0;

    while (i < n && put >= v[i].iov_len) {
        put -= v[i].iov_len;
        i++;
    }
    if (i < n) {
        v[i].iov_base = (uint8_t *)v[i].iov_base + put;
        v[i].iov_len -= put;
    }
    return i;
}

enum shoal_status sh_stream_writev_full(struct sh_stream *s, struct iovec *v, int n,
                                        struct sh_pace *pace, struct shoal_error *err)
{
    int used = advance(v, n, 0); // empty pieces in front

    v += used;
    n -= used;
    while (n > 0) {
        size_t put = 0;
        enum shoal_status st = s->ops->writev(s, v, n, &put, err);
        if (!st && put == 0) st = wait_paced(s, SH_STREAM_WRITABLE, pace, err);
        if (st) return named(s, st, err);
        if (put == 0) continue;
        atomic_fetch_add_explicit(&s->bytes_written, put, memory_order_relaxed);
        sh_pace_moved(pace, sh_now_ns(s->clock), put);
        used = advance(v, n, put);
        v += used;
        n -= used;
    }
    return SHOAL_OK;
}

enum shoal_status sh_stream_write_full(struct sh_stream *s, const void *src, size_t n,
                                       struct sh_pace *pace, struct shoal_error *err)
{
    struct iovec v = {.iov_base = (void *)(uintptr_t)src, .iov_len = n};

    return sh_stream_writev_full(s, &v, 1, pace, err);
}
