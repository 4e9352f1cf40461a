/* tests/support/wrap_device.c - see wrap_device.h.  Every object wraps the inner device's. */
#include "support/wrap_device.h"

#include "base/mem.h"

struct wrap {
    struct sh_device_head head;
    struct sh_device *inner;
    struct wrap_hooks hooks;
};
struct sh_buffer {
    struct sh_buffer_head head;
    struct sh_buffer *inner;
};
struct sh_queue {
    struct sh_queue_head head;
    struct sh_queue *inner;
};
struct sh_exec {
    struct sh_exec_head head;
    struct sh_exec *inner;
};

static struct sh_device *inner_of(struct sh_device *d)
{
    return ((struct wrap *)(void *)d)->inner;
}

static enum shoal_status before(struct sh_device *d, enum wrap_op op, struct shoal_error *err)
{
    const struct wrap_hooks *h = &((struct wrap *)(void *)d)->hooks;

    return h->before ? h->before(h->self, op, err) : SHOAL_OK;
}

static void wrap_close(struct sh_device *d)
{
    sh_device_close(inner_of(d));
    sh_free(d);
}

static enum shoal_status wrap_info(struct sh_device *d, struct sh_device_info *out,
                                   struct shoal_error *err)
{
    const struct wrap_hooks *h = &((struct wrap *)(void *)d)->hooks;
    enum shoal_status st = sh_device_info(inner_of(d), out, err);

    if (!st && h->info) h->info(h->self, out);
    return st;
}

static enum shoal_status wrap_alloc(struct sh_device *d, struct sh_buffer **out, size_t bytes,
                                    enum sh_buffer_usage usage, struct shoal_error *err)
{
    struct sh_buffer *b = sh_calloc(1, sizeof *b);
    enum shoal_status st;

    *out = NULL;
    if (!b) return sh_fail(err, SHOAL_ERR_NOMEM, "wrap: no memory");
    st = before(d, WRAP_ALLOC, err);
    if (!st) st = sh_buffer_alloc(inner_of(d), &b->inner, bytes, usage, err);
    if (st) {
        sh_free(b);
        return st;
    }
    b->head = (struct sh_buffer_head){.device = d, .bytes = bytes};
    *out = b;
    return SHOAL_OK;
}

static enum shoal_status wrap_import(struct sh_device *d, struct sh_buffer **out, const void *data,
                                     size_t bytes, const struct sh_map *map,
                                     struct shoal_error *err)
{
    struct sh_buffer *b = sh_calloc(1, sizeof *b);
    enum shoal_status st;

    *out = NULL;
    if (!b) return sh_fail(err, SHOAL_ERR_NOMEM, "wrap: no memory");
    st = sh_buffer_import(inner_of(d), &b->inner, data, bytes, map, err);
    if (st) {
        sh_free(b);
        return st;
    }
    b->head = (struct sh_buffer_head){.device = d, .bytes = bytes};
    *out = b;
    return SHOAL_OK;
}

static void wrap_free(struct sh_buffer *b)
{
    sh_buffer_free(b->inner);
    sh_free(b);
}

static enum shoal_status wrap_queue(struct sh_device *d, struct sh_queue **out,
                                    struct shoal_error *err)
{
    struct sh_queue *q = sh_calloc(1, sizeof *q);
    enum shoal_status st;

    *out = NULL;
    if (!q) return sh_fail(err, SHOAL_ERR_NOMEM, "wrap: no memory");
    st = sh_queue_create(inner_of(d), &q->inner, err);
    if (st) {
        sh_free(q);
        return st;
    }
    q->head.device = d;
    *out = q;
    return SHOAL_OK;
}

static void wrap_queue_destroy(struct sh_queue *q)
{
    sh_queue_destroy(q->inner);
    sh_free(q);
}

static enum shoal_status prepare_inner(struct sh_device *d, struct sh_exec *x,
                                       const struct sh_graph *g, struct sh_buffer *const *buffers,
                                       int32_t n, int n_slots, struct shoal_error *err)
{
    const struct wrap_hooks *h = &((struct wrap *)(void *)d)->hooks;
    struct sh_buffer **inner = sh_calloc((size_t)n, sizeof *inner);
    enum shoal_status st = SHOAL_OK;

    if (!inner) return sh_fail(err, SHOAL_ERR_NOMEM, "wrap: no memory");
    for (int32_t i = 0; i < n; i++)
        inner[i] = buffers[i]->inner;
    if (h->prepare) st = h->prepare(h->self, g, buffers, n, err);
    if (!st) st = sh_exec_prepare(inner_of(d), &x->inner, g, inner, n, n_slots, err);
    sh_free(inner);
    return st;
}

static enum shoal_status wrap_prepare(struct sh_device *d, struct sh_exec **out,
                                      const struct sh_graph *g, struct sh_buffer *const *buffers,
                                      int32_t n_buffers, int n_slots, struct shoal_error *err)
{
    struct sh_exec *x = sh_calloc(1, sizeof *x);
    enum shoal_status st;

    *out = NULL;
    if (!x) return sh_fail(err, SHOAL_ERR_NOMEM, "wrap: no memory");
    st = prepare_inner(d, x, g, buffers, n_buffers, n_slots, err);
    if (st) {
        sh_free(x);
        return st;
    }
    x->head.device = d;
    *out = x;
    return SHOAL_OK;
}

static void wrap_exec_release(struct sh_exec *x)
{
    sh_exec_release(x->inner);
    sh_free(x);
}

static enum shoal_status wrap_write(struct sh_queue *q, struct sh_buffer *b, size_t offset,
                                    const void *src, size_t bytes, sh_ticket *t,
                                    struct shoal_error *err)
{
    enum shoal_status st = before(q->head.device, WRAP_WRITE, err);

    return st ? st : sh_queue_write(q->inner, b->inner, offset, src, bytes, t, err);
}

static enum shoal_status wrap_read(struct sh_queue *q, struct sh_buffer *b, size_t offset,
                                   void *dst, size_t bytes, sh_ticket *t, struct shoal_error *err)
{
    enum shoal_status st = before(q->head.device, WRAP_READ, err);

    return st ? st : sh_queue_read(q->inner, b->inner, offset, dst, bytes, t, err);
}

static enum shoal_status wrap_fill(struct sh_queue *q, struct sh_buffer *b, size_t offset,
                                   uint8_t value, size_t bytes, sh_ticket *t,
                                   struct shoal_error *err)
{
    enum shoal_status st = before(q->head.device, WRAP_FILL, err);

    return st ? st : sh_queue_fill(q->inner, b->inner, offset, value, bytes, t, err);
}

static enum shoal_status wrap_copy(struct sh_queue *q, struct sh_buffer *dst, size_t dst_offset,
                                   struct sh_buffer *src, size_t src_offset, size_t bytes,
                                   sh_ticket *t, struct shoal_error *err)
{
    enum shoal_status st = before(q->head.device, WRAP_COPY, err);

    return st ? st
              : sh_queue_copy(q->inner, dst->inner, dst_offset, src->inner, src_offset, bytes, t,
                              err);
}

static enum shoal_status wrap_write_tensor(struct sh_queue *q, struct sh_exec *x, int slot,
                                           int32_t tensor, size_t offset, const void *src,
                                           size_t bytes, sh_ticket *t, struct shoal_error *err)
{
    enum shoal_status st = before(q->head.device, WRAP_WRITE, err);

    return st ? st
              : sh_queue_write_tensor(q->inner, x->inner, slot, tensor, offset, src, bytes, t, err);
}

static enum shoal_status wrap_read_tensor(struct sh_queue *q, struct sh_exec *x, int slot,
                                          int32_t tensor, size_t offset, void *dst, size_t bytes,
                                          sh_ticket *t, struct shoal_error *err)
{
    enum shoal_status st = before(q->head.device, WRAP_READ, err);

    return st ? st
              : sh_queue_read_tensor(q->inner, x->inner, slot, tensor, offset, dst, bytes, t, err);
}

static enum shoal_status wrap_submit(struct sh_queue *q, struct sh_exec *x, int slot,
                                     const struct sh_extents *extents, struct sh_collective *c,
                                     sh_ticket *t, struct shoal_error *err)
{
    enum shoal_status st = before(q->head.device, WRAP_SUBMIT, err);

    return st ? st : sh_queue_submit(q->inner, x->inner, slot, extents, c, t, err);
}

static enum shoal_status wrap_wait(struct sh_queue *q, sh_ticket t, int64_t timeout_ns,
                                   struct shoal_error *err)
{
    enum shoal_status st = before(q->head.device, WRAP_WAIT, err);

    return st ? st : sh_queue_wait(q->inner, t, timeout_ns, err);
}

static void wrap_cancel(struct sh_queue *q, sh_ticket t)
{
    const struct wrap_hooks *h = &((struct wrap *)(void *)q->head.device)->hooks;

    if (h->cancelled) h->cancelled(h->self);
    sh_queue_cancel(q->inner, t);
}

static void wrap_reset(struct sh_queue *q)
{
    sh_queue_reset(q->inner);
}

static void wrap_quiesce(struct sh_queue *q)
{
    sh_queue_quiesce(q->inner);
}

static int64_t wrap_busy_ns(struct sh_queue *q)
{
    return sh_queue_busy_ns(q->inner);
}

static const struct sh_device_ops OPS = {
    .close = wrap_close,
    .info = wrap_info,
    .buffer_alloc = wrap_alloc,
    .buffer_import = wrap_import,
    .buffer_free = wrap_free,
    .queue_create = wrap_queue,
    .queue_destroy = wrap_queue_destroy,
    .prepare = wrap_prepare,
    .exec_release = wrap_exec_release,
    .write = wrap_write,
    .read = wrap_read,
    .fill = wrap_fill,
    .copy = wrap_copy,
    .write_tensor = wrap_write_tensor,
    .read_tensor = wrap_read_tensor,
    .submit = wrap_submit,
    .wait = wrap_wait,
    .cancel = wrap_cancel,
    .reset = wrap_reset,
    .quiesce = wrap_quiesce,
    .busy_ns = wrap_busy_ns,
};

struct sh_device *wrap_device_over(struct sh_device *inner, const struct wrap_hooks *hooks)
{
    struct wrap *w = sh_calloc(1, sizeof *w);

    if (!w) return NULL;
    w->head.ops = &OPS;
    w->inner = inner;
    w->hooks = *hooks;
    return (struct sh_device *)(void *)w;
}
