/* ggmlrpc/remote_upload.c - weights on their way to a server, which may have them already.
 *
 * A large weight is hashed first and the server asked whether it has these bytes (SET_TENSOR_HASH).
 * If not, they are sent with the flag that asks it to keep them.
 *
 *      to hash --thread--> hashed --> asked --1--> done
 *                                        \---0--> to send --> sending --> done
 *      plain (small, or no questions wanted) --------^
 *
 * A thread hashes several weights at once and works ahead.  Questions are posted as soon as a hash
 * is known, and weights as long as little is under way, so sending never waits for an answer while
 * there is anything to send, and hashing costs time only where it is slower than the network.
 *
 * Threads: the link's lock guards the parts' states and the counters.  Whatever changes is told by
 * the link's condition `completed`.
 */
#include "ggmlrpc/remote_priv.h"

#include <inttypes.h>

#include "base/fnv.h"
#include "base/mem.h"
#include "device/upload.h"

#define PART_MAX ((size_t)1 << 30)    // extents are 32 bits on the wire
#define IN_FLIGHT ((size_t)64 << 20)  // posted and not yet sent
#define AHEAD_MAX ((size_t)1 << 30)   // hashed and not yet settled: what the page cache must hold
#define OPEN_MAX 32                   // questions whose answer has not come, or not been acted on
#define HASH_STEP ((size_t)512 << 10) // of each chain
#define POLL_NS (100 * SH_MS)

enum part_state { TO_HASH, HASHING, HASHED, ASKED, TO_SEND, SENDING, DONE };

struct part {
    struct upload *upload;
    struct remote_place place;
    size_t offset, bytes;
    const uint8_t *src;
    enum part_state state;
    bool asks;    /* the server is asked first */
    bool flagged; /* it lacks the bytes, and may keep them */
    uint64_t hash;
    sh_ticket ticket;
};

struct upload {
    struct remote_device *d;
    struct sh_queue *queue;
    struct remote_queue *q; /* the same */
    const struct sh_upload *up;
    struct part *parts;
    size_t n_parts, total; /* bytes */
    struct sh_thread hasher;

    /* the lock's */
    size_t n_done, n_asked, n_open, n_sending;
    size_t ahead, in_flight; /* bytes */
    size_t bytes_found;      /* that the server had */
    bool stopping;
};

/* ---- hashing --------------------------------------------------------------------------------*/

/* The next part to hash, if there is one and no more than enough is ahead. */
static struct part *next_to_hash(struct upload *u, bool *none_left)
{
    *none_left = false;
    for (size_t i = 0; i < u->n_parts; i++) {
        struct part *p = &u->parts[i];
        if (p->state != TO_HASH) continue;
        if (u->ahead > 0 && p->bytes > AHEAD_MAX - (u->ahead < AHEAD_MAX ? u->ahead : AHEAD_MAX))
            return NULL;
        u->ahead += p->bytes;
        p->state = HASHING;
        return p;
    }
    *none_left = true;
    return NULL;
}

struct lanes {
    struct sh_fnv_chain chain[SH_FNV_CHAINS_MAX];
    struct part *part[SH_FNV_CHAINS_MAX];
    int n;
};

/* Give out what is finished, take in what is next; false when nothing will come any more. */
static bool turn_lanes(struct upload *u, struct lanes *l)
{
    bool none_left = false;

    for (int i = 0; i < l->n;) {
        if (l->chain[i].left > 0) {
            i++;
            continue;
        }
        l->part[i]->hash = l->chain[i].hash;
        l->part[i]->state = HASHED;
        sh_cond_broadcast(&u->d->link->completed);
        l->n--;
        l->chain[i] = l->chain[l->n];
        l->part[i] = l->part[l->n];
    }
    while (l->n < SH_FNV_CHAINS_MAX && !none_left) {
        struct part *p = next_to_hash(u, &none_left);
        if (!p) break;
        l->part[l->n] = p;
        l->chain[l->n++] =
            (struct sh_fnv_chain){.hash = SH_FNV_START, .at = p->src, .left = p->bytes};
    }
    return l->n > 0 || !none_left;
}

static void *hashing_thread(void *arg)
{
    struct upload *u = arg;
    struct lanes l = {.n = 0};

    link_lock(u->d->link);
    while (!u->stopping && turn_lanes(u, &l)) {
        size_t step = HASH_STEP;
        if (l.n == 0) {
            (void)link_sleep_locked(u->d->link, POLL_NS);
            continue;
        }
        for (int i = 0; i < l.n; i++)
            step = l.chain[i].left < step ? l.chain[i].left : step;
        link_unlock(u->d->link);
        sh_fnv_step(l.chain, l.n, step);
        link_lock(u->d->link);
    }
    link_unlock(u->d->link);
    return NULL;
}

/* ---- asking and sending ---------------------------------------------------------------------*/

static void settle(struct upload *u, struct part *p)
{
    p->state = DONE;
    u->n_done++;
    if (p->asks) u->ahead -= p->bytes;
}

/* The answer to a question; under the lock. */
static void answered(struct link_request *r, enum shoal_status st)
{
    struct part *p = r->owner;
    struct upload *u = p->upload;

    u->n_asked--;
    if (!st && r->answer[0] != 0) {
        u->bytes_found += p->bytes;
        u->n_open--;
        settle(u, p);
    } else {
        p->flagged = true;
        p->state = TO_SEND;
    }
}

static enum shoal_status ask_part(struct upload *u, struct part *p, struct shoal_error *err)
{
    struct sh_wire_request rq = {.hash = p->hash};
    struct link_request *r;

    remote_bytes_record(&p->place, p->offset, (uint32_t)p->bytes, &rq.tensor);
    r = link_new(u->d->link, SH_WIRE_SET_TENSOR_HASH, &rq, 0, err);
    if (!r) return err->code;
    r->owner = p;
    r->done = answered;
    link_lock(u->d->link);
    p->state = ASKED;
    u->n_asked++;
    u->n_open++;
    link_post_locked(u->d->link, r);
    link_unlock(u->d->link);
    return SHOAL_OK;
}

static enum shoal_status send_part(struct upload *u, struct part *p, struct shoal_error *err)
{
    struct sh_wire_request rq = {.value = p->flagged};
    struct link_request *r;

    remote_bytes_record(&p->place, p->offset, (uint32_t)p->bytes, &rq.tensor);
    r = remote_request(u->q, SH_WIRE_SET_TENSOR, &rq, p->bytes, err);
    if (!r) return err->code;
    r->payload = p->src;
    r->payload_bytes = p->bytes;
    link_lock(u->d->link);
    p->state = SENDING;
    u->n_sending++;
    if (p->flagged) u->n_open--;
    u->in_flight += p->bytes;
    p->ticket = remote_post_locked(u->q, r);
    link_unlock(u->d->link);
    return SHOAL_OK;
}

/* What has been sent is done. */
static void retire_sent(struct upload *u)
{
    for (size_t i = 0; i < u->n_parts && u->n_sending > 0; i++) {
        struct part *p = &u->parts[i];
        if (p->state != SENDING || p->ticket > u->q->done) continue;
        u->n_sending--;
        u->in_flight -= p->bytes;
        settle(u, p);
    }
}

/* What to do next: a question first, since its answer takes time. */
static struct part *next_part(struct upload *u)
{
    struct part *send = NULL;

    for (size_t i = 0; i < u->n_parts; i++) {
        struct part *p = &u->parts[i];
        if (p->state == HASHED && u->n_open < OPEN_MAX) return p;
        if (p->state == TO_SEND && !send) send = p;
    }
    return u->in_flight < IN_FLIGHT ? send : NULL;
}

/* Bytes that are where they belong, nearly: headers are small. */
static size_t bytes_done(const struct upload *u, uint64_t written_before)
{
    const uint64_t written = atomic_load(&u->d->link->stream->bytes_written) - written_before;

    if (u->n_done == u->n_parts) return u->total;
    if (written >= u->total - u->bytes_found) return u->total - 1;
    return u->bytes_found + (size_t)written;
}

static enum shoal_status drive(struct upload *u, struct shoal_error *err)
{
    const uint64_t before = atomic_load(&u->d->link->stream->bytes_written);
    struct link *l = u->d->link;
    enum shoal_status st = SHOAL_OK;
    size_t told = 0;

    for (;;) {
        struct part *p;
        size_t done;
        bool end;
        link_lock(l);
        retire_sent(u);
        st = link_status_locked(l, err);
        end = u->n_done == u->n_parts;
        p = st || end ? NULL : next_part(u);
        if (!st && !end && !p) {
            link_kick_locked(l);
            (void)link_sleep_locked(l, POLL_NS);
        }
        done = bytes_done(u, before);
        link_unlock(l);
        if (u->up->progress && done > told) {
            u->up->progress(u->up->self, done);
            told = done;
        }
        if (st || end) return st;
        if (u->up->stop && u->up->stop(u->up->self)) {
            return sh_fail(err, SHOAL_ERR_CANCELLED, "%s: the upload was stopped", u->d->address);
        }
        if (p) st = p->state == HASHED ? ask_part(u, p, err) : send_part(u, p, err);
        if (st) return st;
    }
}

/* ---- the whole ------------------------------------------------------------------------------*/

static enum shoal_status make_parts(struct upload *u, struct shoal_error *err)
{
    size_t n = 0;

    for (size_t i = 0; i < u->up->n_items; i++)
        n += (u->up->items[i].bytes + PART_MAX - 1) / PART_MAX;
    u->parts = sh_calloc(n, sizeof *u->parts);
    if (!u->parts) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for %zu weights", n);
    for (size_t i = 0; i < u->up->n_items; i++) {
        const struct sh_upload_item *item = &u->up->items[i];
        for (size_t at = 0; at < item->bytes; at += PART_MAX) {
            const size_t left = item->bytes - at;
            struct part *p = &u->parts[u->n_parts++];
            *p = (struct part){.upload = u,
                               .place = remote_buffer_of(item->buffer)->place,
                               .offset = item->offset + at,
                               .bytes = left < PART_MAX ? left : PART_MAX,
                               .src = (const uint8_t *)item->src + at};
            p->asks = u->d->asks && p->bytes > u->d->opt.ask_above;
            p->state = p->asks ? TO_HASH : TO_SEND;
            u->total += p->bytes;
        }
    }
    return SHOAL_OK;
}

/* No thread and no request refers to the upload after this. */
static void wind_up(struct upload *u, enum shoal_status st)
{
    struct link *l = u->d->link;
    struct shoal_error why = SHOAL_ERROR_INIT;

    link_lock(l);
    u->stopping = true;
    sh_cond_broadcast(&l->completed);
    link_unlock(l);
    sh_thread_join(&u->hasher);
    if (!st) return;
    (void)sh_fail(&why, SHOAL_ERR_PEER, "%s: cut off in the middle of an upload", u->d->address);
    link_fail(l, &why);
    remote_quiesce(u->queue);
    link_lock(l);
    while (u->n_asked > 0)
        (void)link_sleep_locked(l, SH_NO_DEADLINE);
    link_unlock(l);
}

/* A failed queue takes nothing. */
static enum shoal_status check_queue(struct upload *u, struct shoal_error *err)
{
    enum shoal_status st;

    link_lock(u->d->link);
    st = link_status_locked(u->d->link, err);
    if (!st && u->q->failed_from != 0) {
        *err = u->q->failure;
        st = err->code;
    }
    link_unlock(u->d->link);
    return st;
}

static bool has_to_hash(const struct upload *u)
{
    for (size_t i = 0; i < u->n_parts; i++)
        if (u->parts[i].asks) return true;
    return false;
}

enum shoal_status remote_upload(struct sh_queue *queue, const struct sh_upload *up,
                                struct shoal_error *err)
{
    struct upload u = {.queue = queue, .q = remote_queue_of(queue), .up = up};
    struct shoal_error local = SHOAL_ERROR_INIT;
    enum shoal_status st;

    if (!err) err = &local;
    u.d = remote_of(u.q->head.device);
    st = check_queue(&u, err);
    if (!st) st = make_parts(&u, err);
    if (!st && has_to_hash(&u)) {
        st = sh_thread_start(&u.hasher, "rpc-hash", hashing_thread, &u, err);
    }
    if (!st) {
        st = drive(&u, err);
        wind_up(&u, st);
    }
    sh_free(u.parts);
    return st;
}
