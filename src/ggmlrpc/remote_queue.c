/* ggmlrpc/remote_queue.c - tickets over a connection.
 *
 * Requests complete in two orders, the silent ones when sent and the others when answered; the
 * queue's list of tickets puts them back into one.
 */
#include "ggmlrpc/remote_priv.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"

#define PIECE_BYTES ((size_t)1 << 30) // extents are 32 bits on the wire

static struct remote_device *device_of(const struct remote_queue *q)
{
    return remote_of(q->head.device);
}

/* ---- tickets --------------------------------------------------------------------------------*/

/* Note the first failure of the queue. */
static void keep_failure(struct remote_queue *q, const struct remote_ticket *t)
{
    const struct remote_device *d = device_of(q);

    if (q->failed_from != 0 || t->status == SHOAL_ERR_POISONED) return;
    q->failed_from = t->ticket;
    if (link_status_locked(d->link, &q->failure)) return;
    (void)sh_fail(&q->failure, t->status, "%s cannot copy between these buffers", d->address);
    sh_error_set_peer(&q->failure, d->address);
}

/* Take complete tickets off the front of the list. */
static void advance(struct remote_queue *q)
{
    while (q->first && q->first->complete) {
        struct remote_ticket *t = q->first;
        q->first = t->next;
        if (!q->first) q->end = &q->first;
        q->done = t->ticket;
        if (t->status) keep_failure(q, t);
        t->next = q->spare;
        q->spare = t;
    }
}

static void request_done(struct link_request *r, enum shoal_status st)
{
    struct remote_ticket *t = r->owner;

    if (!st && r->command == SH_WIRE_COPY_TENSOR && r->answer[0] == 0) st = SHOAL_ERR_UNSUPPORTED;
    t->status = st;
    t->complete = true;
    if (t->exec) t->exec->n_pending--;
    advance(t->queue);
}

struct link_request *remote_request(struct remote_queue *q, enum sh_wire_command command,
                                    const struct sh_wire_request *rq, uint64_t more,
                                    struct shoal_error *err)
{
    struct link *l = device_of(q)->link;
    struct link_request *r = link_new(l, command, rq, more, err);
    struct remote_ticket *t;

    if (!r) return NULL;
    link_lock(l);
    t = q->spare;
    if (t) q->spare = t->next;
    link_unlock(l);
    if (!t) t = sh_malloc(sizeof *t);
    if (!t) {
        (void)sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a request to %s", device_of(q)->address);
        link_discard(l, r);
        return NULL;
    }
    *t = (struct remote_ticket){.queue = q};
    r->owner = t;
    r->done = request_done;
    return r;
}

sh_ticket remote_post_locked(struct remote_queue *q, struct link_request *r)
{
    struct remote_ticket *t = r->owner;
    const sh_ticket ticket = ++q->issued;

    t->ticket = ticket;
    if (t->exec) t->exec->n_pending++;
    *q->end = t;
    q->end = &t->next;
    if (q->failed_from != 0) {
        link_refuse_locked(device_of(q)->link, r, SHOAL_ERR_POISONED);
    } else {
        t->seq = device_of(q)->link->seq + 1;
        link_post_locked(device_of(q)->link, r); // `t` may be recycled from here on
    }
    return ticket;
}

static void post(struct remote_queue *q, struct link_request *r, sh_ticket *out)
{
    sh_ticket t;

    link_lock(device_of(q)->link);
    t = remote_post_locked(q, r);
    link_unlock(device_of(q)->link);
    if (out) *out = t;
}

/* ---- data -----------------------------------------------------------------------------------*/

static enum shoal_status status_of(const struct shoal_error *err)
{
    return err->code;
}

static uint32_t piece_of(size_t bytes)
{
    return (uint32_t)(bytes < PIECE_BYTES ? bytes : PIECE_BYTES);
}

enum shoal_status remote_write_at(struct remote_queue *q, const struct remote_place *p,
                                  size_t offset, const void *src, size_t bytes, sh_ticket *t,
                                  struct shoal_error *err)
{
    struct shoal_error local = SHOAL_ERROR_INIT;
    const uint8_t *from = src;

    if (!err) err = &local;
    while (bytes > 0) {
        const uint32_t n = piece_of(bytes);
        struct sh_wire_request rq = {.value = 0};
        struct link_request *r;
        remote_bytes_record(p, offset, n, &rq.tensor);
        r = remote_request(q, SH_WIRE_SET_TENSOR, &rq, n, err);
        if (!r) return status_of(err);
        r->payload = from;
        r->payload_bytes = n;
        post(q, r, t);
        from += n;
        offset += n;
        bytes -= n;
    }
    return SHOAL_OK;
}

enum shoal_status remote_read_at(struct remote_queue *q, const struct remote_place *p,
                                 size_t offset, void *dst, size_t bytes, sh_ticket *t,
                                 struct shoal_error *err)
{
    struct shoal_error local = SHOAL_ERROR_INIT;
    uint8_t *to = dst;

    if (!err) err = &local;
    while (bytes > 0) {
        const uint32_t n = piece_of(bytes);
        struct sh_wire_request rq = {.size = n};
        struct link_request *r;
        remote_bytes_record(p, offset, n, &rq.tensor);
        r = remote_request(q, SH_WIRE_GET_TENSOR, &rq, 0, err);
        if (!r) return status_of(err);
        r->dst = to;
        r->answer_bytes = n;
        post(q, r, t);
        to += n;
        offset += n;
        bytes -= n;
    }
    return SHOAL_OK;
}

enum shoal_status remote_write(struct sh_queue *q, struct sh_buffer *b, size_t offset,
                               const void *src, size_t bytes, sh_ticket *t, struct shoal_error *err)
{
    return remote_write_at(remote_queue_of(q), &remote_buffer_of(b)->place, offset, src, bytes, t,
                           err);
}

enum shoal_status remote_read(struct sh_queue *q, struct sh_buffer *b, size_t offset, void *dst,
                              size_t bytes, sh_ticket *t, struct shoal_error *err)
{
    return remote_read_at(remote_queue_of(q), &remote_buffer_of(b)->place, offset, dst, bytes, t,
                          err);
}

enum shoal_status remote_fill(struct sh_queue *queue, struct sh_buffer *b, size_t offset,
                              uint8_t value, size_t bytes, sh_ticket *t, struct shoal_error *err)
{
    struct remote_queue *q = remote_queue_of(queue);
    struct shoal_error local = SHOAL_ERROR_INIT;

    if (!err) err = &local;
    while (bytes > 0) {
        const uint32_t n = piece_of(bytes);
        struct sh_wire_request rq = {.size = n, .value = value};
        struct link_request *r;
        remote_bytes_record(&remote_buffer_of(b)->place, offset, n, &rq.tensor);
        r = remote_request(q, SH_WIRE_MEMSET_TENSOR, &rq, 0, err);
        if (!r) return status_of(err);
        post(q, r, t);
        offset += n;
        bytes -= n;
    }
    return SHOAL_OK;
}

enum shoal_status remote_copy(struct sh_queue *queue, struct sh_buffer *dst, size_t dst_offset,
                              struct sh_buffer *src, size_t src_offset, size_t bytes, sh_ticket *t,
                              struct shoal_error *err)
{
    struct remote_queue *q = remote_queue_of(queue);
    struct shoal_error local = SHOAL_ERROR_INIT;

    if (!err) err = &local;
    if (src == dst && src_offset < dst_offset + bytes && dst_offset < src_offset + bytes) {
        return sh_fail(err, SHOAL_ERR_ARG, "copy of %zu bytes from %zu to %zu overlaps itself",
                       bytes, src_offset, dst_offset);
    }
    while (bytes > 0) {
        const uint32_t n = piece_of(bytes);
        struct sh_wire_request rq = {.device = 0};
        struct link_request *r;
        remote_bytes_record(&remote_buffer_of(src)->place, src_offset, n, &rq.tensor);
        remote_bytes_record(&remote_buffer_of(dst)->place, dst_offset, n, &rq.dst);
        r = remote_request(q, SH_WIRE_COPY_TENSOR, &rq, 0, err);
        if (!r) return status_of(err);
        post(q, r, t);
        src_offset += n;
        dst_offset += n;
        bytes -= n;
    }
    return SHOAL_OK;
}

/* ---- waiting --------------------------------------------------------------------------------*/

enum shoal_status remote_flush(struct remote_device *d, const struct remote_place *p,
                               struct shoal_error *err)
{
    struct sh_wire_request rq = {.size = 1};
    struct link_request *r;

    remote_bytes_record(p, 0, 1, &rq.tensor);
    r = link_new(d->link, SH_WIRE_GET_TENSOR, &rq, 0, err);
    if (!r) return status_of(err);
    r->answer_bytes = 1;
    link_post(d->link, r);
    return SHOAL_OK;
}

/* Is there a run up to ticket t behind which nothing is asked? */
static bool needs_flush(const struct remote_queue *q, sh_ticket t)
{
    for (const struct remote_ticket *e = q->first; e && e->ticket <= t; e = e->next) {
        if (e->exec && !e->complete && e->seq > device_of(q)->link->answered_seq) return true;
    }
    return false;
}

/* Until ticket t is complete, or the time is over. */
static bool wait_done(struct remote_queue *q, sh_ticket t, int64_t timeout_ns)
{
    struct link *l = device_of(q)->link;
    const int64_t end = sh_deadline_in(&sh_clock_system, timeout_ns);
    bool done;

    link_lock(l);
    while (q->done < t) {
        int64_t left = end;
        if (needs_flush(q, t)) {
            struct shoal_error err = SHOAL_ERROR_INIT;
            link_unlock(l);
            (void)remote_flush(device_of(q), &q->last_run, &err); // fails with the link only
            link_lock(l);
        }
        if (q->done >= t) break;
        if (end != SH_NO_DEADLINE) left = end - sh_now_ns(&sh_clock_system);
        if (left <= 0) break;
        link_kick_locked(l);
        (void)link_sleep_locked(l, left);
    }
    done = q->done >= t;
    link_unlock(l);
    return done;
}

enum shoal_status remote_wait(struct sh_queue *queue, sh_ticket t, int64_t timeout_ns,
                              struct shoal_error *err)
{
    struct remote_queue *q = remote_queue_of(queue);
    struct shoal_error why = SHOAL_ERROR_INIT;
    bool failed;

    if (t > q->issued) return sh_fail(err, SHOAL_ERR_ARG, "ticket %" PRIu64 " does not exist", t);
    if (!wait_done(q, t, timeout_ns)) {
        return sh_fail(err, SHOAL_ERR_TIMEOUT, "%s: ticket %" PRIu64 " is not complete in time",
                       device_of(q)->address, t);
    }
    link_lock(device_of(q)->link);
    failed = q->failed_from != 0 && q->failed_from <= t;
    if (failed) why = q->failure;
    link_unlock(device_of(q)->link);
    if (failed && err) *err = why;
    return why.code;
}

/* A run that has been sent cannot be called back in this protocol. */
void remote_cancel(struct sh_queue *q, sh_ticket t)
{
    (void)q;
    (void)t;
}

void remote_reset(struct sh_queue *queue)
{
    struct remote_queue *q = remote_queue_of(queue);

    (void)wait_done(q, q->issued, SH_NO_DEADLINE);
    link_lock(device_of(q)->link);
    q->failed_from = 0;
    link_unlock(device_of(q)->link);
}

void remote_quiesce(struct sh_queue *queue)
{
    struct remote_queue *q = remote_queue_of(queue);
    struct remote_device *d = device_of(q);
    struct shoal_error why = SHOAL_ERROR_INIT;

    if (wait_done(q, q->issued, d->opt.quiesce_ns)) return;
    (void)sh_fail(&why, SHOAL_ERR_TIMEOUT, "%s: cut off, because it did not come to rest in %.1f s",
                  d->address, (double)d->opt.quiesce_ns / (double)SH_SECOND);
    link_fail(d->link, &why);
    (void)wait_done(q, q->issued, SH_NO_DEADLINE);
}

/* ---- life -----------------------------------------------------------------------------------*/

enum shoal_status remote_queue_create(struct sh_device *dev, struct sh_queue **out,
                                      struct shoal_error *err)
{
    struct remote_queue *q = sh_calloc(1, sizeof *q);

    if (!q) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a queue");
    q->head.device = dev;
    q->end = &q->first;
    *out = (struct sh_queue *)(void *)q;
    return SHOAL_OK;
}

void remote_queue_destroy(struct sh_queue *queue)
{
    struct remote_queue *q = remote_queue_of(queue);

    remote_quiesce(queue);
    while (q->spare) {
        struct remote_ticket *next = q->spare->next;
        sh_free(q->spare);
        q->spare = next;
    }
    sh_free(q);
}
