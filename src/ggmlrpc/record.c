/* ggmlrpc/record.c - checking one record. */
#include "ggmlrpc/record.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"

#define ELEMENTS_MAX ((uint64_t)1 << 48)

static enum shoal_status check_extents(const struct sh_wire_tensor *r, int64_t block_len,
                                       struct shoal_error *err)
{
    uint64_t n = 1;

    if (r->ne[0] % block_len != 0) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "rows of %" PRIu32 " elements are no whole blocks",
                       r->ne[0]);
    }
    for (int d = 0; d < SH_WIRE_DIMS; d++) {
        const uint64_t ne = r->ne[d] ? r->ne[d] : 1;
        if (ne > ELEMENTS_MAX / n) {
            return sh_fail(err, SHOAL_ERR_FORMAT,
                           "[%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32
                           "] elements are too many",
                           r->ne[0], r->ne[1], r->ne[2], r->ne[3]);
        }
        n *= ne;
    }
    return SHOAL_OK;
}

/* Strides that are used: blocks packed, elements on their own size, none zero. */
static enum shoal_status check_strides(const struct sh_wire_tensor *r,
                                       const struct sh_dtype_info *info, struct shoal_error *err)
{
    for (int d = 0; d < SH_WIRE_DIMS; d++) {
        const int64_t steps = d == 0 ? r->ne[0] / info->block_len : r->ne[d];
        bool ok;
        if (steps == 0) return SHOAL_OK; // empty: no stride is used
        if (steps == 1) continue;
        if (info->block_len > 1) {
            ok = d == 0 ? r->nb[0] == info->block_bytes : r->nb[d] != 0;
        } else {
            ok = r->nb[d] != 0 && r->nb[d] % info->block_bytes == 0;
        }
        if (!ok) {
            return sh_fail(err, SHOAL_ERR_FORMAT, "stride %" PRIu32 " of dimension %d of %s",
                           r->nb[d], d, info->name);
        }
    }
    return SHOAL_OK;
}

enum shoal_status sh_record_shape(const struct sh_wire_tensor *r, struct sh_tensor *out,
                                  size_t *bytes, struct shoal_error *err)
{
    const struct sh_dtype_info *info;
    bool empty = false;
    enum shoal_status st;

    memset(out, 0, sizeof *out);
    if (!sh_dtype_valid(r->type)) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "tensor type %" PRIu32 " does not exist", r->type);
    }
    info = sh_dtype_info((enum sh_dtype)r->type);
    st = check_extents(r, info->block_len, err);
    if (st) return st;
    out->name = "";
    out->dtype = (enum sh_dtype)r->type;
    out->op = SH_OP_NONE;
    out->view_src = out->leaf = out->buffer = -1;
    for (int i = 0; i < SH_MAX_SRC; i++)
        out->src[i] = -1;
    for (int d = 0; d < SH_MAX_DIMS; d++) {
        out->ne[d] = r->ne[d];
        out->nb[d] = r->nb[d];
        if (r->ne[d] == 0) empty = true;
    }
    if (!empty) {
        st = check_strides(r, info, err);
        if (st) return st;
    }
    if (!sh_tensor_bytes(out, bytes)) {
        return sh_fail(err, SHOAL_ERR_FORMAT,
                       "strides [%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 "] overflow",
                       r->nb[0], r->nb[1], r->nb[2], r->nb[3]);
    }
    return SHOAL_OK;
}

enum shoal_status sh_record_place(const struct sh_wire_tensor *r, const struct sh_tensor *shape,
                                  size_t bytes, const struct sh_space *space,
                                  struct sh_space_buffer **where, size_t *offset,
                                  struct shoal_error *err)
{
    const struct sh_dtype_info *info = sh_dtype_info(shape->dtype);
    struct sh_space_buffer *b = sh_space_find(space, r->buffer);

    *where = NULL;
    *offset = 0;
    if (!b) return SHOAL_OK;
    if (r->data < b->base || !sh_range_ok(r->data - b->base, bytes, b->bytes)) {
        return sh_fail(err, SHOAL_ERR_FORMAT,
                       "%zu bytes at address 0x%" PRIx64 " are outside their buffer of %zu bytes",
                       bytes, r->data, b->bytes);
    }
    if (info->block_len == 1 && r->data % info->block_bytes != 0) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "address 0x%" PRIx64 " is not aligned for %s",
                       r->data, info->name);
    }
    *where = b;
    *offset = (size_t)(r->data - b->base);
    return SHOAL_OK;
}
