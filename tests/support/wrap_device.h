/* tests/support/wrap_device.h - a device around another one, with places to interfere.
 *
 * Everything is forwarded.  Before an operation is, a hook may refuse it; the operation then fails
 * with the hook's status as if the device had failed.
 */
#ifndef TESTS_SUPPORT_WRAP_DEVICE_H
#define TESTS_SUPPORT_WRAP_DEVICE_H

#include "device/device.h"

enum wrap_op {
    WRAP_ALLOC,
    WRAP_WRITE,
    WRAP_READ,
    WRAP_FILL,
    WRAP_COPY,
    WRAP_SUBMIT,
    WRAP_WAIT,
    WRAP_OPS
};

struct wrap_hooks { /* each may be NULL */
    void (*info)(void *self, struct sh_device_info *out);
    enum shoal_status (*before)(void *self, enum wrap_op op, struct shoal_error *err);
    enum shoal_status (*prepare)(void *self, const struct sh_graph *g,
                                 struct sh_buffer *const *buffers, int32_t n_buffers,
                                 struct shoal_error *err);
    void (*cancelled)(void *self); /* any thread */
    void *self;
};

/* Takes `inner` over.  NULL without memory. */
struct sh_device *wrap_device_over(struct sh_device *inner, const struct wrap_hooks *hooks);

#endif
