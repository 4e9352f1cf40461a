/* tests/contracts/plain_device.c - see plain_device.h.  Every object wraps the inner device's. */
#include "plain_device.h"

#include "base/mem.h"

struct plain {
    struct sh_device_head head;
    struct sh_device *inner;
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

static int n_prepared;

static struct sh_device *inner_of(struct sh_device *d)
{
    return ((struct plain *)(void *)d)->inner;
}

static void plain_close(struct sh_device *d)
{
    sh_device_close(inner_of(d));
    sh_free(d);
}

static enum shoal_status plain_info(struct sh_device *d, struct sh_device_info *out,
                                    struct shoal_error *err)
{
    enum shoal_status st = sh_device_info(inner_of(d), out, err);

    out->shoal_ops = out->local = false;
    return st;
}

static enum shoal_status plain_alloc(struct sh_device *d, struct sh_buffer **out, size_t bytes,
                                     enum sh_buffer_usage usage, struct shoal_error *err)
{
    struct sh_buffer *b = sh_calloc(1, sizeof *b);
    enum shoal_status st;

    *out = NULL;
    if (!b) return sh_fail(err, SHOAL_ERR_NOMEM, "plain: no memory");
    st = sh_buffer_alloc(inner_of(d), &b->inner, bytes, usage, err);
    if (st) {
        sh_free(b);
        return st;
    }
    b->head = (struct sh_buffer_head){.device = d, .bytes = bytes};
    *out = b;
    return SHOAL_OK;
}

static void plain_free(struct sh_buffer *b)
{
    sh_buffer_free(b->inner);
    sh_free(b);
}

static enum shoal_status plain_queue(struct sh_device *d, struct sh_queue **out,
                                     struct shoal_error *err)
{
    struct sh_queue *q = sh_calloc(1, sizeof *q);
    enum shoal_status st;

    *out = NULL;
    if (!q) return sh_fail(err, SHOAL_ERR_NOMEM, "plain: no memory");
    st = sh_queue_create(inner_of(d), &q->inner, err);
    if (st) {
        sh_free(q);
        return st;
    }
    q->head.device = d;
    *out = q;
    return SHOAL_OK;
}

static void plain_queue_destroy(struct sh_queue *q)
{
    sh_queue_destroy(q->inner);
    sh_free(q);
}

static enum shoal_status prepare_inner(struct sh_device *d, struct sh_exec *x,
                                       const struct sh_graph *g, struct sh_buffer *const *buffers,
                                       int32_t n, int n_slots, struct shoal_error *err)
{
    struct sh_buffer_bounds *bounds = sh_calloc((size_t)n, sizeof *bounds);
    struct sh_buffer **inner = sh_calloc((size_t)n, sizeof *inner);
    enum shoal_status st = SHOAL_ERR_NOMEM;

    if (bounds && inner) {
        for (int32_t i = 0; i < n; i++) {
            inner[i] = buffers[i]->inner;
            bounds[i].bytes = sh_buffer_bytes(buffers[i]);
        }
        st = sh_graph_validate(g, bounds, n, false, err);
        if (!st) st = sh_exec_prepare(inner_of(d), &x->inner, g, inner, n, n_slots, err);
    }
    sh_free(bounds);
    sh_free(inner);
    return st;
}

static enum shoal_status plain_prepare(struct sh_device *d, struct sh_exec **out,
                                       const struct sh_graph *g, struct sh_buffer *const *buffers,
                                       int32_t n_buffers, int n_slots, struct shoal_error *err)
{
    struct sh_exec *x = sh_calloc(1, sizeof *x);
    enum shoal_status st;

    *out = NULL;
    if (!x) return sh_fail(err, SHOAL_ERR_NOMEM, "plain: no memory");
    st = prepare_inner(d, x, g, buffers, n_buffers, n_slots, err);
    if (st) {
        sh_free(x);
        return st;
    }
    n_prepared++;
    x->head.device = d;
    *out = x;
    return SHOAL_OK;
}

static void plain_exec_release(struct sh_exec *x)
{
    sh_exec_release(x->inner);
    sh_free(x);
}

static enum shoal_status plain_write(struct sh_queue *q, struct sh_buffer *b, size_t offset,
                                     const void *src, size_t bytes, sh_ticket *t,
                                     struct shoal_error *err)
{
    return sh_queue_write(q->inner, b->inner, offset, src, bytes, t, err);
}

static enum shoal_status plain_read(struct sh_queue *q, struct sh_buffer *b, size_t offset,
                                    void *dst, size_t bytes, sh_ticket *t, struct shoal_error *err)
{
    return sh_queue_read(q->inner, b->inner, offset, dst, bytes, t, err);
}

static enum shoal_status plain_fill(struct sh_queue *q, struct sh_buffer *b, size_t offset,
                                    uint8_t value, size_t bytes, sh_ticket *t,
                                    struct shoal_error *err)
{
    return sh_queue_fill(q->inner, b->inner, offset, value, bytes, t, err);
}

static enum shoal_status plain_copy(struct sh_queue *q, struct sh_buffer *dst, size_t dst_offset,
                                    struct sh_buffer *src, size_t src_offset, size_t bytes,
                                    sh_ticket *t, struct shoal_error *err)
{
    return sh_queue_copy(q->inner, dst->inner, dst_offset, src->inner, src_offset, bytes, t, err);
}

static enum shoal_status plain_write_tensor(struct sh_queue *q, struct sh_exec *x, int slot,
                                            int32_t tensor, size_t offset, const void *src,
                                            size_t bytes, sh_ticket *t, struct shoal_error *err)
{
    return sh_queue_write_tensor(q->inner, x->inner, slot, tensor, offset, src, bytes, t, err);
}

static enum shoal_status plain_read_tensor(struct sh_queue *q, struct sh_exec *x, int slot,
                                           int32_t tensor, size_t offset, void *dst, size_t bytes,
                                           sh_ticket *t, struct shoal_error *err)
{
    return sh_queue_read_tensor(q->inner, x->inner, slot, tensor, offset, dst, bytes, t, err);
}

static enum shoal_status plain_submit(struct sh_queue *q, struct sh_exec *x, int slot,
                                      const struct sh_extents *extents, struct sh_collective *c,
                                      sh_ticket *t, struct shoal_error *err)
{
    return sh_queue_submit(q->inner, x->inner, slot, extents, c, t, err);
}

static enum shoal_status plain_wait(struct sh_queue *q, sh_ticket t, int64_t timeout_ns,
                                    struct shoal_error *err)
{
    return sh_queue_wait(q->inner, t, timeout_ns, err);
}

static void plain_cancel(struct sh_queue *q, sh_ticket t)
{
    sh_queue_cancel(q->inner, t);
}

static void plain_reset(struct sh_queue *q)
{
    sh_queue_reset(q->inner);
}

static void plain_quiesce(struct sh_queue *q)
{
    sh_queue_quiesce(q->inner);
}

static const struct sh_device_ops OPS = {
    .close = plain_close,
    .info = plain_info,
    .buffer_alloc = plain_alloc,
    .buffer_free = plain_free,
    .queue_create = plain_queue,
    .queue_destroy = plain_queue_destroy,
    .prepare = plain_prepare,
    .exec_release = plain_exec_release,
    .write = plain_write,
    .read = plain_read,
    .fill = plain_fill,
    .copy = plain_copy,
    .write_tensor = plain_write_tensor,
    .read_tensor = plain_read_tensor,
    .submit = plain_submit,
    .wait = plain_wait,
    .cancel = plain_cancel,
    .reset = plain_reset,
    .quiesce = plain_quiesce,
};

struct sh_device *plain_device_over(struct sh_device *inner)
{
    struct plain *p = sh_calloc(1, sizeof *p);

    if (!p) return NULL;
    p->head.ops = &OPS;
    p->inner = inner;
    return (struct sh_device *)(void *)p;
}

int plain_device_prepared(void)
{
    return n_prepared;
}
