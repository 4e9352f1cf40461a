/* tests/support/plain_device.c - see plain_device.h. */
#include "support/plain_device.h"

#include "base/mem.h"
#include "support/wrap_device.h"

static int n_prepared;

static void hide(void *self, struct sh_device_info *out)
{
    (void)self;
    out->shoal_ops = out->local = false;
}

static enum shoal_status refuse_ours(void *self, const struct sh_graph *g,
                                     struct sh_buffer *const *buffers, int32_t n,
                                     struct shoal_error *err)
{
    struct sh_buffer_bounds *bounds = sh_calloc((size_t)n, sizeof *bounds);
    enum shoal_status st;

    (void)self;
    if (!bounds) return sh_fail(err, SHOAL_ERR_NOMEM, "plain: no memory");
    for (int32_t i = 0; i < n; i++)
        bounds[i].bytes = sh_buffer_bytes(buffers[i]);
    st = sh_graph_validate(g, bounds, n, false, err);
    if (!st) n_prepared++;
    sh_free(bounds);
    return st;
}

struct sh_device *plain_device_over(struct sh_device *inner)
{
    const struct wrap_hooks hooks = {.info = hide, .prepare = refuse_ours};

    return wrap_device_over(inner, &hooks);
}

int plain_device_prepared(void)
{
    return n_prepared;
}
