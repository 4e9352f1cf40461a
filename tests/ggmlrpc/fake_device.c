/* tests/ggmlrpc/fake_device.c - host memory, and runs behind a gate. */
#include "fake_device.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

#define RUNS_MAX 64

struct fake_buffer {
    struct sh_buffer_head head;
    uint8_t *data;
};

struct fake_exec {
    struct sh_exec_head head;
};

struct fake_queue {
    struct sh_queue_head head;
    sh_ticket issued;
    sh_ticket runs[RUNS_MAX]; /* tickets of runs, which wait for the gate */
    bool cancelled[RUNS_MAX];
    int n_runs;
};

static struct fake_device *fake_of(struct sh_device *d)
{
    return (struct fake_device *)(void *)d;
}
static struct fake_buffer *buffer_of(struct sh_buffer *b)
{
    return (struct fake_buffer *)(void *)b;
}
static struct fake_queue *queue_of(struct sh_queue *q)
{
    return (struct fake_queue *)(void *)q;
}

static void count(struct fake_device *d, int *counter, int by)
{
    sh_mutex_lock(&d->lock);
    *counter += by;
    sh_cond_broadcast(&d->changed);
    sh_mutex_unlock(&d->lock);
}

static void fake_close(struct sh_device *d)
{
    (void)d;
}

static enum shoal_status fake_info(struct sh_device *d, struct sh_device_info *out,
                                   struct shoal_error *err)
{
    (void)d;
    (void)err;
    (void)snprintf(out->name, sizeof out->name, "fake");
    out->memory_free = out->memory_total = (size_t)64 << 20;
    out->alignment = 32;
    out->buffer_bytes_max = SIZE_MAX;
    return SHOAL_OK;
}

static enum shoal_status fake_alloc(struct sh_device *dev, struct sh_buffer **out, size_t bytes,
                                    enum sh_buffer_usage usage, struct shoal_error *err)
{
    struct fake_buffer *b = sh_calloc(1, sizeof *b);

    (void)usage;
    if (b) b->data = sh_calloc(bytes, 1);
    if (!b || !b->data) {
        sh_free(b);
        return sh_fail(err, SHOAL_ERR_NOMEM, "fake: no memory");
    }
    b->head = (struct sh_buffer_head){.device = dev, .bytes = bytes};
    count(fake_of(dev), &fake_of(dev)->n_buffers, 1);
    *out = (struct sh_buffer *)(void *)b;
    return SHOAL_OK;
}

static void fake_free(struct sh_buffer *buffer)
{
    struct fake_buffer *b = buffer_of(buffer);

    count(fake_of(b->head.device), &fake_of(b->head.device)->n_buffers, -1);
    sh_free(b->data);
    sh_free(b);
}

static enum shoal_status fake_queue_create(struct sh_device *dev, struct sh_queue **out,
                                           struct shoal_error *err)
{
    struct fake_queue *q = sh_calloc(1, sizeof *q);

    if (!q) return sh_fail(err, SHOAL_ERR_NOMEM, "fake: no memory");
    q->head.device = dev;
    count(fake_of(dev), &fake_of(dev)->n_queues, 1);
    *out = (struct sh_queue *)(void *)q;
    return SHOAL_OK;
}

static void fake_quiesce(struct sh_queue *q);

static void fake_queue_destroy(struct sh_queue *queue)
{
    struct fake_queue *q = queue_of(queue);

    fake_quiesce(queue);
    count(fake_of(q->head.device), &fake_of(q->head.device)->n_queues, -1);
    sh_free(q);
}

static enum shoal_status fake_prepare(struct sh_device *dev, struct sh_exec **out,
                                      const struct sh_graph *g, struct sh_buffer *const *buffers,
                                      int32_t n_buffers, int n_slots, struct shoal_error *err)
{
    struct sh_buffer_bounds *bounds = sh_calloc((size_t)n_buffers + 1, sizeof *bounds);
    struct fake_exec *x = sh_calloc(1, sizeof *x);
    enum shoal_status st;

    (void)n_slots;
    for (int32_t i = 0; i < n_buffers; i++)
        bounds[i].bytes = sh_buffer_bytes(buffers[i]);
    st = sh_graph_validate(g, bounds, n_buffers, false, err);
    sh_free(bounds);
    if (st) {
        sh_free(x);
        return st;
    }
    x->head.device = dev;
    count(fake_of(dev), &fake_of(dev)->n_execs, 1);
    count(fake_of(dev), &fake_of(dev)->n_prepared, 1);
    *out = (struct sh_exec *)(void *)x;
    return SHOAL_OK;
}

static void fake_exec_release(struct sh_exec *exec)
{
    struct fake_exec *x = (struct fake_exec *)(void *)exec;

    count(fake_of(x->head.device), &fake_of(x->head.device)->n_execs, -1);
    sh_free(x);
}

static enum shoal_status done_at_once(struct sh_queue *q, sh_ticket *t)
{
    queue_of(q)->issued++;
    if (t) *t = queue_of(q)->issued;
    return SHOAL_OK;
}

static enum shoal_status fake_write(struct sh_queue *q, struct sh_buffer *b, size_t offset,
                                    const void *src, size_t bytes, sh_ticket *t,
                                    struct shoal_error *err)
{
    (void)err;
    if (bytes) memcpy(buffer_of(b)->data + offset, src, bytes);
    return done_at_once(q, t);
}

static enum shoal_status fake_read(struct sh_queue *q, struct sh_buffer *b, size_t offset,
                                   void *dst, size_t bytes, sh_ticket *t, struct shoal_error *err)
{
    (void)err;
    if (bytes) memcpy(dst, buffer_of(b)->data + offset, bytes);
    return done_at_once(q, t);
}

static enum shoal_status fake_fill(struct sh_queue *q, struct sh_buffer *b, size_t offset,
                                   uint8_t value, size_t bytes, sh_ticket *t,
                                   struct shoal_error *err)
{
    (void)err;
    memset(buffer_of(b)->data + offset, value, bytes);
    return done_at_once(q, t);
}

static enum shoal_status fake_copy(struct sh_queue *q, struct sh_buffer *dst, size_t dst_offset,
                                   struct sh_buffer *src, size_t src_offset, size_t bytes,
                                   sh_ticket *t, struct shoal_error *err)
{
    (void)err;
    memmove(buffer_of(dst)->data + dst_offset, buffer_of(src)->data + src_offset, bytes);
    return done_at_once(q, t);
}

static enum shoal_status fake_submit(struct sh_queue *queue, struct sh_exec *x, int slot,
                                     const struct sh_extents *extents, struct sh_collective *c,
                                     sh_ticket *t, struct shoal_error *err)
{
    struct fake_queue *q = queue_of(queue);
    struct fake_device *d = fake_of(q->head.device);

    (void)x;
    (void)slot;
    (void)extents;
    (void)c;
    sh_mutex_lock(&d->lock);
    SH_ASSERT(q->n_runs < RUNS_MAX);
    q->runs[q->n_runs] = q->issued + 1;
    q->cancelled[q->n_runs++] = false;
    d->n_runs++;
    sh_cond_broadcast(&d->changed);
    sh_mutex_unlock(&d->lock);
    (void)err;
    return done_at_once(queue, t);
}

/* Is a run up to ticket t still behind the gate?  Under the lock. */
static bool is_held(const struct fake_queue *q, sh_ticket t)
{
    if (fake_of(q->head.device)->gate_open) return false;
    for (int i = 0; i < q->n_runs; i++) {
        if (q->runs[i] <= t && !q->cancelled[i]) return true;
    }
    return false;
}

static enum shoal_status fake_wait(struct sh_queue *queue, sh_ticket t, int64_t timeout_ns,
                                   struct shoal_error *err)
{
    struct fake_queue *q = queue_of(queue);
    struct fake_device *d = fake_of(q->head.device);
    const int64_t end = sh_deadline_in(&sh_clock_system, timeout_ns);
    enum shoal_status st = SHOAL_OK;

    sh_mutex_lock(&d->lock);
    while (is_held(q, t) && !st) {
        int64_t left = end == SH_NO_DEADLINE ? end : end - sh_now_ns(&sh_clock_system);
        if (left <= 0) {
            st = sh_fail(err, SHOAL_ERR_TIMEOUT, "fake: the gate is shut");
        } else {
            (void)sh_cond_wait(&d->changed, &d->lock, left);
        }
    }
    if (!st && q->n_runs > 0) {
        if (d->fail_runs) st = sh_fail(err, SHOAL_ERR_FORMAT, "fake: node 3 reads row 99 of 8");
        q->n_runs = 0;
    }
    sh_mutex_unlock(&d->lock);
    return st;
}

static void fake_cancel(struct sh_queue *queue, sh_ticket t)
{
    struct fake_queue *q = queue_of(queue);
    struct fake_device *d = fake_of(q->head.device);

    sh_mutex_lock(&d->lock);
    for (int i = 0; i < q->n_runs; i++) {
        if (q->runs[i] == t) {
            q->cancelled[i] = true;
            d->n_cancelled++;
        }
    }
    sh_cond_broadcast(&d->changed);
    sh_mutex_unlock(&d->lock);
}

static void fake_quiesce(struct sh_queue *q)
{
    (void)fake_wait(q, queue_of(q)->issued, SH_NO_DEADLINE, NULL);
}

static const struct sh_device_ops g_fake_ops = {
    .close = fake_close,
    .info = fake_info,
    .buffer_alloc = fake_alloc,
    .buffer_free = fake_free,
    .queue_create = fake_queue_create,
    .queue_destroy = fake_queue_destroy,
    .prepare = fake_prepare,
    .exec_release = fake_exec_release,
    .write = fake_write,
    .read = fake_read,
    .fill = fake_fill,
    .copy = fake_copy,
    .submit = fake_submit,
    .wait = fake_wait,
    .cancel = fake_cancel,
    .reset = fake_quiesce,
    .quiesce = fake_quiesce,
};

void fake_device_init(struct fake_device *d)
{
    memset(d, 0, sizeof *d);
    d->head.ops = &g_fake_ops;
    d->gate_open = true;
    sh_mutex_init(&d->lock);
    sh_cond_init(&d->changed);
}

void fake_device_release(struct fake_device *d)
{
    sh_cond_release(&d->changed);
    sh_mutex_release(&d->lock);
}

struct sh_device *fake_device_of(struct fake_device *d)
{
    return (struct sh_device *)(void *)d;
}

void fake_device_set_gate(struct fake_device *d, bool open)
{
    sh_mutex_lock(&d->lock);
    d->gate_open = open;
    sh_cond_broadcast(&d->changed);
    sh_mutex_unlock(&d->lock);
}

void fake_device_await(struct fake_device *d, const int *counter, int n)
{
    sh_mutex_lock(&d->lock);
    while (*counter < n)
        (void)sh_cond_wait(&d->changed, &d->lock, SH_NO_DEADLINE);
    sh_mutex_unlock(&d->lock);
}
