/* net/pair.c - a stream through memory: two rings under one lock, for tests and for one process.
 *
 *      end 0  --ring 0-->  end 1
 *      end 0  <--ring 1--  end 1
 *
 * The shared part dies with the second end.  Closing or cutting an end is, as with TCP, an orderly
 * end for the peer once it has read what was under way.
 */
#include "net/stream.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/thread.h"

struct ring {
    uint8_t *bytes;
    size_t start, len;
};

struct shared {
    struct sh_mutex lock; // guards everything below
    struct sh_cond changed;
    size_t capacity;
    struct ring ring[2]; // ring[i]: written by end i
    bool closed[2], cut[2];
    int n_ends;
};

struct pair_end {
    struct sh_stream head;
    struct shared *shared;
    int side;
};

static struct pair_end *end_of(struct sh_stream *s)
{
    return (struct pair_end *)s;
}

static void destroy_shared(struct shared *sh)
{
    if (!sh) return;
    sh_free(sh->ring[0].bytes);
    sh_free(sh->ring[1].bytes);
    sh_cond_release(&sh->changed);
    sh_mutex_release(&sh->lock);
    sh_free(sh);
}

static void pair_close(struct sh_stream *s)
{
    struct pair_end *e = end_of(s);
    struct shared *sh = e->shared;
    bool last;

    sh_mutex_lock(&sh->lock);
    sh->closed[e->side] = true;
    last = --sh->n_ends == 0;
    sh_cond_broadcast(&sh->changed);
    sh_mutex_unlock(&sh->lock);
    if (last) destroy_shared(sh);
    sh_free(e);
}

static enum shoal_status fail_cut(struct sh_stream *s, struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_CANCELLED, "the connection to %s was cut from this side",
                   s->peer);
}

static enum shoal_status pair_read(struct sh_stream *s, void *dst, size_t n, size_t *got, bool *end,
                                   struct shoal_error *err)
{
    struct pair_end *e = end_of(s);
    struct shared *sh = e->shared;
    struct ring *r = &sh->ring[!e->side];
    enum shoal_status st = SHOAL_OK;

    *got = 0;
    *end = false;
    sh_mutex_lock(&sh->lock);
    if (sh->cut[e->side]) {
        st = fail_cut(s, err);
    } else if (r->len == 0) {
        *end = sh->closed[!e->side] || sh->cut[!e->side];
    } else {
        size_t take = n < r->len ? n : r->len;
        if (take > sh->capacity - r->start) take = sh->capacity - r->start;
        memcpy(dst, r->bytes + r->start, take);
        r->start = (r->start + take) % sh->capacity;
        r->len -= take;
        *got = take;
        sh_cond_broadcast(&sh->changed);
    }
    sh_mutex_unlock(&sh->lock);
    return st;
}

static size_t ring_put(struct ring *r, size_t capacity, const uint8_t *src, size_t n)
{
    size_t done = 0;

    while (done < n && r->len < capacity) {
        size_t at = (r->start + r->len) % capacity;
        size_t room = capacity - r->len;
        size_t part = n - done;
        if (part > room) part = room;
        if (part > capacity - at) part = capacity - at;
        memcpy(r->bytes + at, src + done, part);
        r->len += part;
        done += part;
    }
    return done;
}

static enum shoal_status pair_writev(struct sh_stream *s, const struct iovec *v, int n, size_t *put,
                                     struct shoal_error *err)
{
    struct pair_end *e = end_of(s);
    struct shared *sh = e->shared;
    enum shoal_status st = SHOAL_OK;

    *put = 0;
    sh_mutex_lock(&sh->lock);
    if (sh->cut[e->side]) {
        st = fail_cut(s, err);
    } else if (sh->cut[!e->side] || sh->closed[!e->side]) {
        st = sh_fail(err, SHOAL_ERR_PEER, "%s closed the connection", s->peer);
    } else {
        for (int i = 0; i < n; i++) {
            size_t done = ring_put(&sh->ring[e->side], sh->capacity, v[i].iov_base, v[i].iov_len);
            *put += done;
            if (done < v[i].iov_len) break;
        }
        if (*put > 0) sh_cond_broadcast(&sh->changed);
    }
    sh_mutex_unlock(&sh->lock);
    return st;
}

static bool pair_ready(const struct shared *sh, int side, enum sh_stream_event event)
{
    if (sh->cut[!side] || sh->closed[!side]) return true;
    if (event == SH_STREAM_READABLE) return sh->ring[!side].len > 0;
    return sh->ring[side].len < sh->capacity;
}

static enum shoal_status pair_wait(struct sh_stream *s, enum sh_stream_event event,
                                   int64_t timeout_ns, struct shoal_error *err)
{
    struct pair_end *e = end_of(s);
    struct shared *sh = e->shared;
    int64_t end = sh_deadline_in(s->clock, timeout_ns);
    enum shoal_status st = SHOAL_OK;

    sh_mutex_lock(&sh->lock);
    while (!sh->cut[e->side] && !pair_ready(sh, e->side, event)) {
        int64_t left = end == SH_NO_DEADLINE ? SH_NO_DEADLINE : end - sh_now_ns(s->clock);
        if (left <= 0) {
            st = sh_fail(err, SHOAL_ERR_TIMEOUT, "%s: nothing happened in time", s->peer);
            break;
        }
        (void)sh_cond_wait(&sh->changed, &sh->lock, left);
    }
    if (sh->cut[e->side]) st = fail_cut(s, err);
    sh_mutex_unlock(&sh->lock);
    return st;
}

static bool pair_hung_up(struct sh_stream *s)
{
    struct pair_end *e = end_of(s);
    struct shared *sh = e->shared;
    bool gone;

    sh_mutex_lock(&sh->lock);
    gone = sh->closed[!e->side] || sh->cut[!e->side] || sh->cut[e->side];
    sh_mutex_unlock(&sh->lock);
    return gone;
}

static void pair_cut(struct sh_stream *s)
{
    struct pair_end *e = end_of(s);

    sh_mutex_lock(&e->shared->lock);
    e->shared->cut[e->side] = true;
    sh_cond_broadcast(&e->shared->changed);
    sh_mutex_unlock(&e->shared->lock);
}

static const struct sh_stream_ops g_pair_ops = {
    .close = pair_close,
    .read = pair_read,
    .writev = pair_writev,
    .wait = pair_wait,
    .hung_up = pair_hung_up,
    .cut = pair_cut,
};

enum shoal_status sh_stream_pair(struct sh_stream **a, struct sh_stream **b, size_t capacity,
                                 struct shoal_error *err)
{
    struct shared *sh = sh_calloc(1, sizeof *sh);
    struct pair_end *ends[2] = {sh_calloc(1, sizeof *ends[0]), sh_calloc(1, sizeof *ends[1])};

    *a = *b = NULL;
    if (sh) {
        sh_mutex_init(&sh->lock);
        sh_cond_init(&sh->changed);
        sh->capacity = capacity ? capacity : 1;
        sh->n_ends = 2;
        sh->ring[0].bytes = sh_malloc(sh->capacity);
        sh->ring[1].bytes = sh_malloc(sh->capacity);
    }
    if (!sh || !ends[0] || !ends[1] || !sh->ring[0].bytes || !sh->ring[1].bytes) {
        destroy_shared(sh);
        sh_free(ends[0]);
        sh_free(ends[1]);
        return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a stream of %zu bytes", capacity);
    }
    for (int i = 0; i < 2; i++) {
        ends[i]->head.ops = &g_pair_ops;
        ends[i]->head.clock = &sh_clock_system;
        ends[i]->shared = sh;
        ends[i]->side = i;
        (void)snprintf(ends[i]->head.peer, sizeof ends[i]->head.peer, "memory:%d", !i);
    }
    *a = &ends[0]->head;
    *b = &ends[1]->head;
    return SHOAL_OK;
}
