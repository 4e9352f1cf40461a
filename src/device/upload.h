/* device/upload.h - filling buffers with contents that they keep: weights.
 *
 * The whole list is handed over at once and waited for, so a device may look ahead: it may find
 * contents that it has seen before without moving them.  Others write piece by piece.
 *
 * Effects are ordered within the queue like those of a write.  When the call returns, in whatever
 * way, no source is touched any more.
 * Threads: the queue's; callbacks come from the calling thread.
 */
#ifndef DEVICE_UPLOAD_H
#define DEVICE_UPLOAD_H

#include "device/device.h"

struct sh_upload_item {
    struct sh_buffer *buffer;
    size_t offset;
    const void *src;
    size_t bytes;
};

struct sh_upload {
    const struct sh_upload_item *items;
    size_t n_items;
    /* Called as bytes come to their place; never falls.  May be NULL. */
    void (*progress)(void *self, size_t bytes_done);
    /* Polled; true stops with ERR_CANCELLED, after which the queue may have failed: the device may
     * cut what is under way.  May be NULL. */
    bool (*stop)(void *self);
    void *self;
};

SHOAL_NODISCARD enum shoal_status sh_queue_upload(struct sh_queue *q, const struct sh_upload *up,
                                                  struct shoal_error *err);

#endif
