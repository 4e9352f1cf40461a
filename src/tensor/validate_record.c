/* tensor/validate_record.c - what must hold for every tensor record, executed or not.
 *
 * After this, type, extents, strides and numbers of a record may be used without further checks:
 * products do not overflow, and the bytes from the first to the last element lie in the root and in
 * the buffer.
 */
#include "tensor/validate_priv.h"

#include "base/mem.h"

static bool is_empty(const struct sh_tensor *t)
{
    return t->ne[0] == 0 || t->ne[1] == 0 || t->ne[2] == 0 || t->ne[3] == 0;
}

/* Bytes that addresses of this type are multiples of: those of its widest part, at most 8. */
static size_t alignment_of(enum sh_dtype t)
{
    const size_t bytes = sh_dtype_info(t)->block_bytes;
    const size_t lowest = bytes & (~bytes + 1);
    const size_t most = sh_dtype_is_block(t) ? 4 : 8;

    return lowest < most ? lowest : most;
}

static enum shoal_status check_shape(const struct sh_check *c, const struct sh_tensor *t)
{
    const struct sh_dtype_info *info;

    if (!sh_dtype_valid((uint32_t)t->dtype)) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "type %u", (unsigned)t->dtype);
    }
    info = sh_dtype_info(t->dtype);
    if (!sh_shape_ok(t->dtype, t->ne)) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "%s [%lld,%lld,%lld,%lld] is no lawful shape",
                             info->name, (long long)t->ne[0], (long long)t->ne[1],
                             (long long)t->ne[2], (long long)t->ne[3]);
    }
    if (!sh_extent_ok(t, &c->g->max)) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "symbolic extent %u in dimension %d of %lld",
                             (unsigned)t->extent, t->extent_dim, (long long)t->ne[0]);
    }
    if (is_empty(t)) return SHOAL_OK;
    for (int d = 0; d < SH_MAX_DIMS; d++) {
        const bool one = t->ne[d] == 1;
        const bool exact = d == 0 && info->block_len > 1;
        if (exact ? t->nb[0] != info->block_bytes
                  : !one && (t->nb[d] == 0 || t->nb[d] % info->block_bytes != 0)) {
            return sh_check_fail(c, SHOAL_ERR_FORMAT, "stride %zu of dimension %d, type %s",
                                 t->nb[d], d, info->name);
        }
    }
    return SHOAL_OK;
}

static enum shoal_status check_place(const struct sh_check *c, const struct sh_tensor *t,
                                     size_t bytes)
{
    if (t->buffer < -1 || t->buffer >= c->n_buffers) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "buffer %d of %d", (int)t->buffer,
                             (int)c->n_buffers);
    }
    if (t->buffer < 0) return SHOAL_OK;
    if (!sh_range_ok(t->offset, bytes, c->buffers[t->buffer].bytes)) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "%zu bytes at %zu of a buffer of %zu", bytes,
                             t->offset, c->buffers[t->buffer].bytes);
    }
    if (t->offset % alignment_of(t->dtype) != 0) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "offset %zu is not aligned for %s", t->offset,
                             sh_dtype_info(t->dtype)->name);
    }
    return SHOAL_OK;
}

/* A view lies inside its root, which is no view itself, in the same place. */
static enum shoal_status check_root(const struct sh_check *c, const struct sh_tensor *t,
                                    size_t bytes)
{
    const struct sh_tensor *root;
    size_t have;

    if (t->view_src < -1 || t->view_src >= c->tensor) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "a view of tensor %d", (int)t->view_src);
    }
    if (t->view_src < 0) {
        if (t->view_offs == 0) return SHOAL_OK;
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "view offset %zu without a root", t->view_offs);
    }
    root = &c->g->tensors[t->view_src];
    if (root->view_src >= 0) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "its root, tensor %d, is a view",
                             (int)t->view_src);
    }
    if (!sh_tensor_bytes(root, &have) || !sh_range_ok(t->view_offs, bytes, have)) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "%zu bytes at %zu of a root of %zu", bytes,
                             t->view_offs, have);
    }
    if (t->view_offs % sh_dtype_info(t->dtype)->block_bytes != 0) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "view offset %zu is not aligned for %s",
                             t->view_offs, sh_dtype_info(t->dtype)->name);
    }
    if (t->buffer >= 0 && (t->buffer != root->buffer || t->offset != root->offset + t->view_offs)) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "placed elsewhere than its root, tensor %d",
                             (int)t->view_src);
    }
    return SHOAL_OK;
}

/* Sources have smaller numbers; only a cast names itself. */
static enum shoal_status check_sources(const struct sh_check *c, const struct sh_tensor *t)
{
    for (int i = 0; i < SH_MAX_SRC; i++) {
        if (t->src[i] >= -1 && t->src[i] < c->tensor) continue;
        if (t->op == SH_OP_CPY && i == 1 && t->src[i] == c->tensor) continue;
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "source %d is tensor %d", i, (int)t->src[i]);
    }
    return SHOAL_OK;
}

static bool slice_ok(const struct sh_slice *s)
{
    if (s->axis < -1 || s->axis >= SH_MAX_DIMS) return false;
    if (s->axis < 0) return true;
    if (s->n_segments < 0 || s->n_segments > SH_SEGMENTS_MAX) return false;
    for (int i = 0; i < s->n_segments; i++) {
        if (s->segment[i].begin < 0 || s->segment[i].end < s->segment[i].begin) return false;
    }
    return true;
}

/* Does the tensor look as its kind of leaf must? */
static bool leaf_ok(const struct sh_check *c, const struct sh_tensor *t, const struct sh_leaf *leaf)
{
    struct sh_tensor want;

    switch (leaf->kind) {
    case SH_LEAF_OTHER:
        return true;
    case SH_LEAF_WEIGHT:
        return t->extent == SH_EXTENT_NONE && slice_ok(&leaf->slice);
    case SH_LEAF_INPUT:
        return sh_input_shape(leaf->input, t->ne[0], &c->g->max, &want) && t->dtype == want.dtype &&
               sh_tensor_same_shape(t, &want) && t->extent == want.extent &&
               t->extent_dim == want.extent_dim;
    case SH_LEAF_CACHE_K:
    case SH_LEAF_CACHE_V:
        return t->extent == SH_EXTENT_NONE && t->ne[1] == SH_PAGE && t->ne[3] == 1;
    case SH_LEAF_TABLE:
        return t->extent == SH_EXTENT_NONE && t->dtype == SH_DTYPE_I32 && t->ne[2] == 1 &&
               t->ne[3] == 1;
    case SH_LEAF_STATE:
        return t->extent == SH_EXTENT_NONE && t->dtype == SH_DTYPE_F32;
    }
    return false;
}

static enum shoal_status check_leaf(const struct sh_check *c, const struct sh_tensor *t)
{
    if (t->leaf == -1) return SHOAL_OK;
    if (t->leaf < 0 || t->leaf >= c->g->n_leaves || t->op != SH_OP_NONE || t->view_src >= 0) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "leaf record %d of %d", (int)t->leaf,
                             (int)c->g->n_leaves);
    }
    if (!leaf_ok(c, t, &c->g->leaves[t->leaf]) || !sh_tensor_contiguous(t)) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "not the shape of a leaf of kind %u",
                             (unsigned)c->g->leaves[t->leaf].kind);
    }
    return SHOAL_OK;
}

enum shoal_status sh_check_record(const struct sh_check *c)
{
    const struct sh_tensor *t = &c->g->tensors[c->tensor];
    enum shoal_status st;
    size_t bytes;

    st = check_shape(c, t);
    if (st) return st;
    if (!sh_tensor_bytes(t, &bytes)) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "strides reach past the address space");
    }
    if ((unsigned)t->op > SH_OP_COUNT) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "op %u", (unsigned)t->op);
    }
    st = check_place(c, t, bytes);
    if (!st) st = check_sources(c, t);
    if (!st) st = check_root(c, t, bytes);
    if (!st) st = check_leaf(c, t);
    return st;
}
