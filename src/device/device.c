/* device/device.c - the calls of device.h: checks that hold for every device, then its table.
 *
 * Threads: as device.h says; nothing is kept here.
 */
#include "device/device.h"

#include <string.h>

#include "base/mem.h"

static struct sh_device_head *head_of(struct sh_device *d)
{
    return (struct sh_device_head *)(void *)d;
}

static struct sh_device *device_of_buffer(const struct sh_buffer *b)
{
    return ((const struct sh_buffer_head *)(const void *)b)->device;
}

static struct sh_device *device_of_queue(const struct sh_queue *q)
{
    return ((const struct sh_queue_head *)(const void *)q)->device;
}

static struct sh_device *device_of_exec(const struct sh_exec *x)
{
    return ((const struct sh_exec_head *)(const void *)x)->device;
}

static const struct sh_device_ops *ops_of(struct sh_device *d)
{
    return head_of(d)->ops;
}

static const struct sh_device_ops *queue_ops(const struct sh_queue *q)
{
    return ops_of(device_of_queue(q));
}

void sh_device_close(struct sh_device *d)
{
    if (d) ops_of(d)->close(d);
}

enum shoal_status sh_device_info(struct sh_device *d, struct sh_device_info *out,
                                 struct shoal_error *err)
{
    memset(out, 0, sizeof *out);
    return ops_of(d)->info(d, out, err);
}

void sh_device_traffic(struct sh_device *d, struct sh_device_traffic *out)
{
    memset(out, 0, sizeof *out);
    if (ops_of(d)->traffic) ops_of(d)->traffic(d, out);
}

enum shoal_status sh_buffer_alloc(struct sh_device *d, struct sh_buffer **out, size_t bytes,
                                  enum sh_buffer_usage usage, struct shoal_error *err)
{
    *out = NULL;
    return ops_of(d)->buffer_alloc(d, out, bytes, usage, err);
}

enum shoal_status sh_buffer_import(struct sh_device *d, struct sh_buffer **out, const void *data,
                                   size_t bytes, const struct sh_map *map, struct shoal_error *err)
{
    *out = NULL;
    if (!ops_of(d)->buffer_import) {
        return sh_fail(err, SHOAL_ERR_UNSUPPORTED,
                       "a device that does not share our memory cannot import %zu bytes of it",
                       bytes);
    }
    return ops_of(d)->buffer_import(d, out, data, bytes, map, err);
}

void sh_buffer_free(struct sh_buffer *b)
{
    if (b) ops_of(device_of_buffer(b))->buffer_free(b);
}

size_t sh_buffer_bytes(const struct sh_buffer *b)
{
    return ((const struct sh_buffer_head *)(const void *)b)->bytes;
}

enum shoal_status sh_queue_create(struct sh_device *d, struct sh_queue **out,
                                  struct shoal_error *err)
{
    *out = NULL;
    return ops_of(d)->queue_create(d, out, err);
}

void sh_queue_destroy(struct sh_queue *q)
{
    if (q) queue_ops(q)->queue_destroy(q);
}

enum shoal_status sh_exec_prepare(struct sh_device *d, struct sh_exec **out,
                                  const struct sh_graph *g, struct sh_buffer *const *buffers,
                                  int32_t n_buffers, int n_slots, struct shoal_error *err)
{
    *out = NULL;
    if (n_slots < 1) {
        return sh_fail(err, SHOAL_ERR_ARG, "a graph cannot be prepared for %d slots", n_slots);
    }
    for (int32_t i = 0; i < n_buffers; i++) {
        if (!buffers[i] || device_of_buffer(buffers[i]) != d) {
            return sh_fail(err, SHOAL_ERR_ARG, "buffer %d of the graph is not of this device", i);
        }
    }
    return ops_of(d)->prepare(d, out, g, buffers, n_buffers, n_slots, err);
}

void sh_exec_release(struct sh_exec *x)
{
    if (x) ops_of(device_of_exec(x))->exec_release(x);
}

size_t sh_exec_bytes(const struct sh_exec *x)
{
    const struct sh_device_ops *ops = ops_of(device_of_exec(x));

    return ops->exec_bytes ? ops->exec_bytes(x) : 0;
}

static enum shoal_status check_range(const struct sh_queue *q, const struct sh_buffer *b,
                                     size_t offset, size_t bytes, const char *what,
                                     struct shoal_error *err)
{
    if (!b || device_of_buffer(b) != device_of_queue(q)) {
        return sh_fail(err, SHOAL_ERR_ARG, "%s: the buffer is not of the queue's device", what);
    }
    if (!sh_range_ok(offset, bytes, sh_buffer_bytes(b))) {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "%s: %zu bytes at %zu do not fit into a buffer of %zu bytes", what, bytes,
                       offset, sh_buffer_bytes(b));
    }
    return SHOAL_OK;
}

enum shoal_status sh_queue_write(struct sh_queue *q, struct sh_buffer *b, size_t offset,
                                 const void *src, size_t bytes, sh_ticket *t,
                                 struct shoal_error *err)
{
    enum shoal_status st;

    if (t) *t = 0;
    st = check_range(q, b, offset, bytes, "write", err);
    if (st) return st;
    return queue_ops(q)->write(q, b, offset, src, bytes, t, err);
}

enum shoal_status sh_queue_read(struct sh_queue *q, struct sh_buffer *b, size_t offset, void *dst,
                                size_t bytes, sh_ticket *t, struct shoal_error *err)
{
    enum shoal_status st;

    if (t) *t = 0;
    st = check_range(q, b, offset, bytes, "read", err);
    if (st) return st;
    return queue_ops(q)->read(q, b, offset, dst, bytes, t, err);
}

enum shoal_status sh_queue_fill(struct sh_queue *q, struct sh_buffer *b, size_t offset,
                                uint8_t value, size_t bytes, sh_ticket *t, struct shoal_error *err)
{
    enum shoal_status st;

    if (t) *t = 0;
    st = check_range(q, b, offset, bytes, "fill", err);
    if (st) return st;
    return queue_ops(q)->fill(q, b, offset, value, bytes, t, err);
}

enum shoal_status sh_queue_copy(struct sh_queue *q, struct sh_buffer *dst, size_t dst_offset,
                                struct sh_buffer *src, size_t src_offset, size_t bytes,
                                sh_ticket *t, struct shoal_error *err)
{
    enum shoal_status st;

    if (t) *t = 0;
    st = check_range(q, dst, dst_offset, bytes, "copy to", err);
    if (st) return st;
    st = check_range(q, src, src_offset, bytes, "copy from", err);
    if (st) return st;
    return queue_ops(q)->copy(q, dst, dst_offset, src, src_offset, bytes, t, err);
}

static enum shoal_status check_exec(const struct sh_queue *q, const struct sh_exec *x,
                                    struct shoal_error *err)
{
    if (x && device_of_exec(x) == device_of_queue(q)) return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_ARG, "the prepared graph is not of the queue's device");
}

enum shoal_status sh_queue_write_tensor(struct sh_queue *q, struct sh_exec *x, int slot,
                                        int32_t tensor, size_t offset, const void *src,
                                        size_t bytes, sh_ticket *t, struct shoal_error *err)
{
    enum shoal_status st;

    if (t) *t = 0;
    st = check_exec(q, x, err);
    if (st) return st;
    return queue_ops(q)->write_tensor(q, x, slot, tensor, offset, src, bytes, t, err);
}

enum shoal_status sh_queue_read_tensor(struct sh_queue *q, struct sh_exec *x, int slot,
                                       int32_t tensor, size_t offset, void *dst, size_t bytes,
                                       sh_ticket *t, struct shoal_error *err)
{
    enum shoal_status st;

    if (t) *t = 0;
    st = check_exec(q, x, err);
    if (st) return st;
    return queue_ops(q)->read_tensor(q, x, slot, tensor, offset, dst, bytes, t, err);
}

enum shoal_status sh_queue_submit(struct sh_queue *q, struct sh_exec *x, int slot,
                                  const struct sh_extents *extents, struct sh_collective *c,
                                  sh_ticket *t, struct shoal_error *err)
{
    enum shoal_status st;

    if (t) *t = 0;
    st = check_exec(q, x, err);
    if (st) return st;
    return queue_ops(q)->submit(q, x, slot, extents, c, t, err);
}

enum shoal_status sh_queue_wait(struct sh_queue *q, sh_ticket t, int64_t timeout_ns,
                                struct shoal_error *err)
{
    return queue_ops(q)->wait(q, t, timeout_ns, err);
}

void sh_queue_cancel(struct sh_queue *q, sh_ticket t)
{
    queue_ops(q)->cancel(q, t);
}

void sh_queue_reset(struct sh_queue *q)
{
    queue_ops(q)->reset(q);
}

void sh_queue_quiesce(struct sh_queue *q)
{
    queue_ops(q)->quiesce(q);
}

int64_t sh_queue_busy_ns(struct sh_queue *q)
{
    return queue_ops(q)->busy_ns ? queue_ops(q)->busy_ns(q) : 0;
}
