/* device/upload.c - see upload.h; the way of devices that only write. */
#include "device/upload.h"

#include "base/clock.h"
#include "base/mem.h"

#define PIECE_BYTES ((size_t)16 << 20)
#define STALL_NS (600 * SH_SECOND)

static enum shoal_status write_item(struct sh_queue *q, const struct sh_upload *up,
                                    const struct sh_upload_item *item, size_t *done,
                                    struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    for (size_t at = 0; at < item->bytes && !st;) {
        const size_t left = item->bytes - at;
        const size_t n = left < PIECE_BYTES ? left : PIECE_BYTES;
        sh_ticket t;
        if (up->stop && up->stop(up->self)) {
            return sh_fail(err, SHOAL_ERR_CANCELLED, "the upload was stopped");
        }
        st = sh_queue_write(q, item->buffer, item->offset + at, (const char *)item->src + at, n, &t,
                            err);
        if (!st) st = sh_queue_wait(q, t, STALL_NS, err);
        at += n;
        *done += n;
        if (!st && up->progress) up->progress(up->self, *done);
    }
    return st;
}

enum shoal_status sh_queue_upload(struct sh_queue *q, const struct sh_upload *up,
                                  struct shoal_error *err)
{
    const struct sh_queue_head *head = (const struct sh_queue_head *)(const void *)q;
    const struct sh_device_ops *ops = ((const struct sh_device_head *)(void *)head->device)->ops;
    enum shoal_status st = SHOAL_OK;
    size_t done = 0;

    for (size_t i = 0; i < up->n_items; i++) {
        const struct sh_upload_item *item = &up->items[i];
        if (((const struct sh_buffer_head *)(const void *)item->buffer)->device == head->device &&
            sh_range_ok(item->offset, item->bytes, sh_buffer_bytes(item->buffer))) {
            continue;
        }
        return sh_fail(err, SHOAL_ERR_ARG,
                       "upload: %zu bytes at %zu do not fit into a buffer of the queue's device",
                       item->bytes, item->offset);
    }
    if (ops->upload) return ops->upload(q, up, err);
    for (size_t i = 0; i < up->n_items && !st; i++)
        st = write_item(q, up, &up->items[i], &done, err);
    if (st) sh_queue_quiesce(q);
    return st;
}
