/* device/paced.c - a device whose runs take a set time (device/paced.h).
 *
 * Every object wraps the inner device's, and commands go to it at once.  Beside them the device
 * keeps a line of its runs in order of submission: when each was submitted and how long it takes.
 * From these follow begin and end of each, so a run that is cut short moves all behind it.  A
 * wait is one for the inner device, then a pause until the end of the last run that it covers.
 * No thread is needed: nobody can tell when a ticket is complete but by waiting for it.
 *
 * Threads: the device's lock guards the line and the queues' records; no call of the inner device
 * is made under it.
 */
#include "device/paced.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "device/upload.h"

#define ROWS_MAX (INT64_C(1) << 20) // more rows than these take no longer
#define CANCELLED_KEPT 64           // tickets that wait() can still tell apart

struct paced_queue;

struct run {
    struct run *next;
    struct paced_queue *queue; // NULL: it was destroyed
    sh_ticket ticket;
    int64_t submitted_ns, duration_ns;
};

struct paced_device {
    struct sh_device_head head;
    struct sh_device *inner;
    struct sh_paced_options opt;

    struct sh_mutex lock;   // all below
    struct sh_cond changed; // a run was cut short
    struct run *first, *last, *spare;
    int64_t free_from_ns; // end of the last run that left the line
};

struct paced_buffer {
    struct sh_buffer_head head;
    struct sh_buffer *inner;
};
struct paced_exec {
    struct sh_exec_head head;
    struct sh_exec *inner;
};
struct paced_queue {
    struct sh_queue_head head;
    struct sh_queue *inner;
    sh_ticket last_run; // the user's
    // under the device's lock
    sh_ticket cancelled[CANCELLED_KEPT];
    size_t n_cancelled; // ever
    int64_t busy_ns;    // of runs that have left the line
};

static struct paced_device *device_of(struct sh_device *d)
{
    return (struct paced_device *)(void *)d;
}
static struct paced_buffer *buffer_of(struct sh_buffer *b)
{
    return (struct paced_buffer *)(void *)b;
}
static struct paced_exec *exec_of(struct sh_exec *x)
{
    return (struct paced_exec *)(void *)x;
}
static struct paced_queue *queue_of(struct sh_queue *q)
{
    return (struct paced_queue *)(void *)q;
}

static enum shoal_status no_memory(struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_NOMEM, "paced device: no memory for a record");
}

/* ---- the line of runs; all under the lock ----------------------------------------------------*/

static int64_t begin_of(const struct run *r, int64_t free_from_ns)
{
    return r->submitted_ns > free_from_ns ? r->submitted_ns : free_from_ns;
}

static int64_t end_of(const struct run *r, int64_t free_from_ns)
{
    const int64_t begin = begin_of(r, free_from_ns);

    return r->duration_ns > INT64_MAX - begin ? INT64_MAX : begin + r->duration_ns;
}

/* Runs whose time has passed leave the line. */
static void retire(struct paced_device *d, int64_t now)
{
    while (d->first && end_of(d->first, d->free_from_ns) <= now) {
        struct run *r = d->first;
        d->free_from_ns = end_of(r, d->free_from_ns);
        if (r->queue) r->queue->busy_ns += r->duration_ns;
        d->first = r->next;
        if (!d->first) d->last = NULL;
        r->next = d->spare;
        d->spare = r;
    }
}

/* When the last run of `q` up to ticket `t` ends; INT64_MIN: none is in the line. */
static int64_t end_of_runs(const struct paced_device *d, const struct paced_queue *q, sh_ticket t)
{
    int64_t at = d->free_from_ns, end = INT64_MIN;

    for (const struct run *r = d->first; r; r = r->next) {
        at = end_of(r, at);
        if (r->queue == q && r->ticket <= t) end = at;
    }
    return end;
}

/* End the runs of `q` with tickets from .. to now; true if there were any. */
static bool cut(struct paced_device *d, const struct paced_queue *q, sh_ticket from, sh_ticket to)
{
    const int64_t now = sh_now_ns(&sh_clock_system);
    int64_t at;
    bool any = false;

    retire(d, now);
    at = d->free_from_ns;
    for (struct run *r = d->first; r; r = r->next) {
        if (r->queue == q && r->ticket >= from && r->ticket <= to) {
            const int64_t spent = now - begin_of(r, at);
            if (spent < r->duration_ns) r->duration_ns = spent > 0 ? spent : 0;
            any = true;
        }
        at = end_of(r, at);
    }
    if (any) sh_cond_broadcast(&d->changed);
    return any;
}

/* ---- waiting --------------------------------------------------------------------------------*/

/* The first run of `q` in the line behind ticket `t`; 0: none. */
static sh_ticket run_behind(struct paced_queue *q, sh_ticket t)
{
    struct paced_device *d = device_of(q->head.device);
    sh_ticket found = 0;

    sh_mutex_lock(&d->lock);
    for (const struct run *r = d->first; r && !found; r = r->next) {
        if (r->queue == q && r->ticket > t) found = r->ticket;
    }
    sh_mutex_unlock(&d->lock);
    return found;
}

/* The queue has failed: runs from the failure on have no time to pass. */
static void cut_failed(struct paced_queue *q, sh_ticket to)
{
    struct paced_device *d = device_of(q->head.device);

    for (sh_ticket t = run_behind(q, 0); t && t <= to; t = run_behind(q, t)) {
        const enum shoal_status st = sh_queue_wait(q->inner, t, 0, NULL);
        if (!st || st == SHOAL_ERR_CANCELLED || st == SHOAL_ERR_TIMEOUT) continue;
        sh_mutex_lock(&d->lock);
        (void)cut(d, q, t, to);
        sh_mutex_unlock(&d->lock);
        break;
    }
}

/* Pause until the time of the queue's runs up to `t` has passed; false: the deadline was first. */
static bool pause_until_end(struct paced_queue *q, sh_ticket t, int64_t deadline)
{
    struct paced_device *d = device_of(q->head.device);
    bool ended = false;

    sh_mutex_lock(&d->lock);
    for (;;) {
        const int64_t now = sh_now_ns(&sh_clock_system);
        int64_t end;
        retire(d, now);
        end = end_of_runs(d, q, t);
        ended = end <= now;
        if (ended || deadline <= now) break;
        (void)sh_cond_wait(&d->changed, &d->lock, (end < deadline ? end : deadline) - now);
    }
    sh_mutex_unlock(&d->lock);
    return ended;
}

static bool was_cancelled(struct paced_queue *q, sh_ticket t)
{
    struct paced_device *d = device_of(q->head.device);
    bool found = false;

    sh_mutex_lock(&d->lock);
    for (size_t i = 0; t && i < CANCELLED_KEPT; i++)
        found |= q->cancelled[i] == t;
    sh_mutex_unlock(&d->lock);
    return found;
}

static enum shoal_status paced_wait(struct sh_queue *queue, sh_ticket t, int64_t timeout_ns,
                                    struct shoal_error *err)
{
    struct paced_queue *q = queue_of(queue);
    const int64_t deadline = sh_deadline_in(&sh_clock_system, timeout_ns);
    enum shoal_status st = sh_queue_wait(q->inner, t, timeout_ns, err);

    if (st == SHOAL_ERR_TIMEOUT || st == SHOAL_ERR_ARG) return st;
    if (st && st != SHOAL_ERR_CANCELLED) cut_failed(q, t);
    if (!pause_until_end(q, t, deadline)) {
        return sh_fail(err, SHOAL_ERR_TIMEOUT,
                       "paced device: the set time of a run had not passed in time");
    }
    if (!st && was_cancelled(q, t))
        st = sh_fail(err, SHOAL_ERR_CANCELLED, "paced device: the run was cancelled");
    return st;
}

static void paced_cancel(struct sh_queue *queue, sh_ticket t)
{
    struct paced_queue *q = queue_of(queue);
    struct paced_device *d = device_of(q->head.device);

    sh_queue_cancel(q->inner, t);
    sh_mutex_lock(&d->lock);
    if (t && cut(d, q, t, t)) q->cancelled[q->n_cancelled++ % CANCELLED_KEPT] = t;
    sh_mutex_unlock(&d->lock);
}

static void paced_quiesce(struct sh_queue *queue)
{
    sh_queue_quiesce(queue_of(queue)->inner);
    (void)!paced_wait(queue, queue_of(queue)->last_run, SH_NO_DEADLINE, NULL);
}

static void paced_reset(struct sh_queue *queue)
{
    (void)!paced_wait(queue, queue_of(queue)->last_run, SH_NO_DEADLINE, NULL);
    sh_queue_reset(queue_of(queue)->inner);
}

static int64_t paced_busy_ns(struct sh_queue *queue)
{
    struct paced_queue *q = queue_of(queue);
    struct paced_device *d = device_of(q->head.device);
    int64_t busy_ns;

    sh_mutex_lock(&d->lock);
    retire(d, sh_now_ns(&sh_clock_system));
    busy_ns = q->busy_ns;
    sh_mutex_unlock(&d->lock);
    return busy_ns;
}

/* ---- runs -----------------------------------------------------------------------------------*/

static struct run *take_record(struct paced_device *d)
{
    struct run *r;

    sh_mutex_lock(&d->lock);
    retire(d, sh_now_ns(&sh_clock_system));
    r = d->spare;
    if (r) d->spare = r->next;
    sh_mutex_unlock(&d->lock);
    return r ? r : sh_malloc(sizeof *r);
}

static int64_t duration_of(const struct paced_device *d, const struct sh_extents *e)
{
    return d->opt.run_ns + d->opt.row_ns * (e->t < ROWS_MAX ? e->t : ROWS_MAX);
}

static enum shoal_status paced_submit(struct sh_queue *queue, struct sh_exec *x, int slot,
                                      const struct sh_extents *extents, struct sh_collective *c,
                                      sh_ticket *t, struct shoal_error *err)
{
    struct paced_queue *q = queue_of(queue);
    struct paced_device *d = device_of(q->head.device);
    struct run *r = take_record(d);
    sh_ticket ticket = 0;
    enum shoal_status st;

    if (!r) return no_memory(err);
    st = sh_queue_submit(q->inner, exec_of(x)->inner, slot, extents, c, &ticket, err);
    if (st) {
        sh_free(r);
        return st;
    }
    *r = (struct run){.queue = q,
                      .ticket = ticket,
                      .submitted_ns = sh_now_ns(&sh_clock_system),
                      .duration_ns = duration_of(d, extents)};
    sh_mutex_lock(&d->lock);
    if (d->last) {
        d->last->next = r;
    } else {
        d->first = r;
    }
    d->last = r;
    sh_mutex_unlock(&d->lock);
    q->last_run = ticket;
    if (t) *t = ticket;
    return SHOAL_OK;
}

static enum shoal_status paced_queue_create(struct sh_device *dev, struct sh_queue **out,
                                            struct shoal_error *err)
{
    struct paced_queue *q = sh_calloc(1, sizeof *q);
    enum shoal_status st;

    if (!q) return no_memory(err);
    q->head.device = dev;
    st = sh_queue_create(device_of(dev)->inner, &q->inner, err);
    if (st) {
        sh_free(q);
        return st;
    }
    *out = (struct sh_queue *)(void *)q;
    return SHOAL_OK;
}

static void paced_queue_destroy(struct sh_queue *queue)
{
    struct paced_queue *q = queue_of(queue);
    struct paced_device *d = device_of(q->head.device);

    sh_queue_destroy(q->inner);
    sh_mutex_lock(&d->lock);
    (void)cut(d, q, 0, UINT64_MAX);
    for (struct run *r = d->first; r; r = r->next) {
        if (r->queue == q) r->queue = NULL;
    }
    sh_mutex_unlock(&d->lock);
    sh_free(q);
}

/* ---- what is only passed on -----------------------------------------------------------------*/

static enum shoal_status paced_info(struct sh_device *dev, struct sh_device_info *out,
                                    struct shoal_error *err)
{
    return sh_device_info(device_of(dev)->inner, out, err);
}

static void paced_traffic(struct sh_device *dev, struct sh_device_traffic *out)
{
    sh_device_traffic(device_of(dev)->inner, out);
}

/* A buffer around one of the inner device, which is freed where that fails. */
static enum shoal_status wrap_buffer(struct sh_device *dev, struct sh_buffer **out,
                                     struct sh_buffer *inner, size_t bytes, struct shoal_error *err)
{
    struct paced_buffer *b = sh_calloc(1, sizeof *b);

    if (!b) {
        sh_buffer_free(inner);
        return no_memory(err);
    }
    b->head = (struct sh_buffer_head){.device = dev, .bytes = bytes};
    b->inner = inner;
    *out = (struct sh_buffer *)(void *)b;
    return SHOAL_OK;
}

static enum shoal_status paced_buffer_alloc(struct sh_device *dev, struct sh_buffer **out,
                                            size_t bytes, enum sh_buffer_usage usage,
                                            struct shoal_error *err)
{
    struct sh_buffer *inner = NULL;
    enum shoal_status st = sh_buffer_alloc(device_of(dev)->inner, &inner, bytes, usage, err);

    return st ? st : wrap_buffer(dev, out, inner, bytes, err);
}

static enum shoal_status paced_buffer_import(struct sh_device *dev, struct sh_buffer **out,
                                             const void *data, size_t bytes,
                                             const struct sh_map *map, struct shoal_error *err)
{
    struct sh_buffer *inner = NULL;
    enum shoal_status st = sh_buffer_import(device_of(dev)->inner, &inner, data, bytes, map, err);

    return st ? st : wrap_buffer(dev, out, inner, bytes, err);
}

static void paced_buffer_free(struct sh_buffer *b)
{
    sh_buffer_free(buffer_of(b)->inner);
    sh_free(b);
}

static enum shoal_status paced_prepare(struct sh_device *dev, struct sh_exec **out,
                                       const struct sh_graph *g, struct sh_buffer *const *buffers,
                                       int32_t n_buffers, int n_slots, struct shoal_error *err)
{
    struct sh_buffer **inner = sh_calloc((size_t)n_buffers, sizeof *inner);
    struct paced_exec *x = sh_calloc(1, sizeof *x);
    enum shoal_status st;

    if (!inner || !x) {
        st = no_memory(err);
        goto done;
    }
    for (int32_t i = 0; i < n_buffers; i++)
        inner[i] = buffer_of(buffers[i])->inner;
    st = sh_exec_prepare(device_of(dev)->inner, &x->inner, g, inner, n_buffers, n_slots, err);
    if (st) goto done;
    x->head.device = dev;
    *out = (struct sh_exec *)(void *)x;
    x = NULL;

done:
    sh_free(x);
    sh_free(inner);
    return st;
}

static void paced_exec_release(struct sh_exec *x)
{
    sh_exec_release(exec_of(x)->inner);
    sh_free(x);
}

static size_t paced_exec_bytes(const struct sh_exec *x)
{
    return sh_exec_bytes(((const struct paced_exec *)(const void *)x)->inner);
}

static enum shoal_status paced_write(struct sh_queue *q, struct sh_buffer *b, size_t offset,
                                     const void *src, size_t bytes, sh_ticket *t,
                                     struct shoal_error *err)
{
    return sh_queue_write(queue_of(q)->inner, buffer_of(b)->inner, offset, src, bytes, t, err);
}

static enum shoal_status paced_upload(struct sh_queue *q, const struct sh_upload *up,
                                      struct shoal_error *err)
{
    struct sh_upload_item *items = sh_calloc(up->n_items, sizeof *items);
    struct sh_upload inner = *up;
    enum shoal_status st;

    if (!items) return no_memory(err);
    for (size_t i = 0; i < up->n_items; i++) {
        items[i] = up->items[i];
        items[i].buffer = buffer_of(up->items[i].buffer)->inner;
    }
    inner.items = items;
    st = sh_queue_upload(queue_of(q)->inner, &inner, err);
    sh_free(items);
    if (!st) (void)!paced_wait(q, queue_of(q)->last_run, SH_NO_DEADLINE, NULL); // they are before
    return st;
}

static enum shoal_status paced_read(struct sh_queue *q, struct sh_buffer *b, size_t offset,
                                    void *dst, size_t bytes, sh_ticket *t, struct shoal_error *err)
{
    return sh_queue_read(queue_of(q)->inner, buffer_of(b)->inner, offset, dst, bytes, t, err);
}

static enum shoal_status paced_fill(struct sh_queue *q, struct sh_buffer *b, size_t offset,
                                    uint8_t value, size_t bytes, sh_ticket *t,
                                    struct shoal_error *err)
{
    return sh_queue_fill(queue_of(q)->inner, buffer_of(b)->inner, offset, value, bytes, t, err);
}

static enum shoal_status paced_copy(struct sh_queue *q, struct sh_buffer *dst, size_t dst_offset,
                                    struct sh_buffer *src, size_t src_offset, size_t bytes,
                                    sh_ticket *t, struct shoal_error *err)
{
    return sh_queue_copy(queue_of(q)->inner, buffer_of(dst)->inner, dst_offset,
                         buffer_of(src)->inner, src_offset, bytes, t, err);
}

static enum shoal_status paced_write_tensor(struct sh_queue *q, struct sh_exec *x, int slot,
                                            int32_t tensor, size_t offset, const void *src,
                                            size_t bytes, sh_ticket *t, struct shoal_error *err)
{
    return sh_queue_write_tensor(queue_of(q)->inner, exec_of(x)->inner, slot, tensor, offset, src,
                                 bytes, t, err);
}

static enum shoal_status paced_read_tensor(struct sh_queue *q, struct sh_exec *x, int slot,
                                           int32_t tensor, size_t offset, void *dst, size_t bytes,
                                           sh_ticket *t, struct shoal_error *err)
{
    return sh_queue_read_tensor(queue_of(q)->inner, exec_of(x)->inner, slot, tensor, offset, dst,
                                bytes, t, err);
}

/* ---- opening and closing --------------------------------------------------------------------*/

static void free_runs(struct run *r)
{
    while (r) {
        struct run *next = r->next;
        sh_free(r);
        r = next;
    }
}

static void paced_close(struct sh_device *dev)
{
    struct paced_device *d = device_of(dev);

    free_runs(d->first);
    free_runs(d->spare);
    sh_cond_release(&d->changed);
    sh_mutex_release(&d->lock);
    sh_free(d);
}

static const struct sh_device_ops paced_ops = {.close = paced_close,
                                               .info = paced_info,
                                               .traffic = paced_traffic,
                                               .buffer_alloc = paced_buffer_alloc,
                                               .buffer_import = paced_buffer_import,
                                               .buffer_free = paced_buffer_free,
                                               .queue_create = paced_queue_create,
                                               .queue_destroy = paced_queue_destroy,
                                               .prepare = paced_prepare,
                                               .exec_release = paced_exec_release,
                                               .exec_bytes = paced_exec_bytes,
                                               .write = paced_write,
                                               .upload = paced_upload,
                                               .read = paced_read,
                                               .fill = paced_fill,
                                               .copy = paced_copy,
                                               .write_tensor = paced_write_tensor,
                                               .read_tensor = paced_read_tensor,
                                               .submit = paced_submit,
                                               .wait = paced_wait,
                                               .cancel = paced_cancel,
                                               .reset = paced_reset,
                                               .quiesce = paced_quiesce,
                                               .busy_ns = paced_busy_ns};

enum shoal_status sh_paced_device_open(struct sh_device **out, struct sh_device *inner,
                                       const struct sh_paced_options *opt, struct shoal_error *err)
{
    struct paced_device *d;

    *out = NULL;
    if (opt->run_ns < 0 || opt->run_ns > SH_PACED_RUN_NS_MAX || opt->row_ns < 0 ||
        opt->row_ns > SH_PACED_ROW_NS_MAX) {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "paced device: %lld ns per run and %lld ns per row are out of range",
                       (long long)opt->run_ns, (long long)opt->row_ns);
    }
    d = sh_calloc(1, sizeof *d);
    if (!d) return no_memory(err);
    d->head.ops = &paced_ops;
    d->inner = inner;
    d->opt = *opt;
    sh_mutex_init(&d->lock);
    sh_cond_init(&d->changed);
    *out = (struct sh_device *)(void *)d;
    return SHOAL_OK;
}
