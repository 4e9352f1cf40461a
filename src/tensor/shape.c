/* tensor/shape.c - sizes, layout predicates and label of one tensor.
 *
 * All hold for tensors whose extents passed sh_shape_ok(); strides may be anything.
 */
#include "tensor/graph_priv.h"

#include "base/mem.h"

bool sh_shape_ok(enum sh_dtype dtype, const int64_t ne[SH_MAX_DIMS])
{
    int64_t room = SH_ELEMENTS_MAX;

    for (int d = 0; d < SH_MAX_DIMS; d++) {
        if (ne[d] < 0 || ne[d] > room) return false;
        if (ne[d] > 1) room /= ne[d];
    }
    return ne[0] % sh_dtype_info(dtype)->block_len == 0;
}

bool sh_extent_ok(const struct sh_tensor *t, const struct sh_extents *max)
{
    if (t->extent == SH_EXTENT_NONE) return true;
    if ((unsigned)t->extent > SH_EXTENT_R) return false;
    if (t->extent_dim < 0 || t->extent_dim >= SH_MAX_DIMS) return false;
    if (t->ne[t->extent_dim] != sh_extents_get(max, t->extent, -1)) return false;
    for (int d = t->extent_dim + 1; d < SH_MAX_DIMS; d++) {
        if (t->ne[d] != 1) return false;
    }
    return true;
}

int64_t sh_extents_get(const struct sh_extents *e, enum sh_extent which, int64_t otherwise)
{
    switch (which) {
    case SH_EXTENT_T:
        return e->t;
    case SH_EXTENT_O:
        return e->o;
    case SH_EXTENT_R:
        return e->r;
    case SH_EXTENT_NONE:
        break;
    }
    return otherwise;
}

void sh_tensor_set_dense(struct sh_tensor *t)
{
    const struct sh_dtype_info *info = sh_dtype_info(t->dtype);

    t->nb[0] = info->block_bytes;
    t->nb[1] = t->nb[0] * (size_t)(t->ne[0] / info->block_len);
    t->nb[2] = t->nb[1] * (size_t)t->ne[1];
    t->nb[3] = t->nb[2] * (size_t)t->ne[2];
}

bool sh_tensor_bytes(const struct sh_tensor *t, size_t *out)
{
    const struct sh_dtype_info *info = sh_dtype_info(t->dtype);
    size_t sum = info->block_bytes;

    for (int d = 0; d < SH_MAX_DIMS; d++) {
        if (t->ne[d] < 0) return false;
        if (t->ne[d] == 0) {
            *out = 0;
            return true;
        }
    }
    for (int d = 0; d < SH_MAX_DIMS; d++) {
        const int64_t steps = (d == 0 ? t->ne[0] / info->block_len : t->ne[d]) - 1;
        size_t span;
        if (steps < 0 || !sh_mul_ok((size_t)steps, t->nb[d], &span)) return false;
        if (!sh_add_ok(sum, span, &sum)) return false;
    }
    *out = sum;
    return true;
}

int64_t sh_tensor_elements(const struct sh_tensor *t)
{
    return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
}

int64_t sh_tensor_inner_elements(const struct sh_tensor *t)
{
    int64_t n = 1;

    for (int d = 0; d < SH_MAX_DIMS; d++) {
        if (sh_tensor_extent_at(t, d) == SH_EXTENT_NONE) n *= t->ne[d];
    }
    return n;
}

int64_t sh_tensor_rows(const struct sh_tensor *t)
{
    return t->ne[1] * t->ne[2] * t->ne[3];
}

static bool is_empty(const struct sh_tensor *t)
{
    return t->ne[0] == 0 || t->ne[1] == 0 || t->ne[2] == 0 || t->ne[3] == 0;
}

/* Dense from dimension `from` on; dimensions below it, but the first, may have gaps. */
static bool dense_above(const struct sh_tensor *t, int from)
{
    const struct sh_dtype_info *info = sh_dtype_info(t->dtype);
    size_t next = info->block_bytes * (size_t)(t->ne[0] / info->block_len);

    for (int d = 1; d < SH_MAX_DIMS; d++) {
        if (d <= from) {
            next = t->nb[d] * (size_t)t->ne[d];
        } else if (t->ne[d] != 1) {
            if (t->nb[d] != next) return false;
            next *= (size_t)t->ne[d];
        }
    }
    return true;
}

bool sh_tensor_rows_packed(const struct sh_tensor *t)
{
    const struct sh_dtype_info *info = sh_dtype_info(t->dtype);
    return t->nb[0] == info->block_bytes || t->ne[0] <= info->block_len;
}

bool sh_tensor_contiguous(const struct sh_tensor *t)
{
    return is_empty(t) || (sh_tensor_rows_packed(t) && dense_above(t, 0));
}

bool sh_tensor_contiguous_1(const struct sh_tensor *t)
{
    return is_empty(t) || (sh_tensor_rows_packed(t) && dense_above(t, 1));
}

bool sh_tensor_same_shape(const struct sh_tensor *a, const struct sh_tensor *b)
{
    for (int d = 0; d < SH_MAX_DIMS; d++) {
        if (a->ne[d] != b->ne[d]) return false;
    }
    return true;
}

bool sh_tensor_same_layout(const struct sh_tensor *a, const struct sh_tensor *b)
{
    for (int d = 0; d < SH_MAX_DIMS; d++) {
        if (a->ne[d] != b->ne[d] || (a->ne[d] != 1 && a->nb[d] != b->nb[d])) return false;
    }
    return a->dtype == b->dtype;
}

struct sh_label sh_tensor_label(const struct sh_tensor *t)
{
    struct sh_label label = {.text = ""};
    const char *name = t->name ? t->name : "";

    for (size_t i = 0; i + 1 < sizeof label.text && name[i]; i++) {
        label.text[i] = name[i] >= ' ' && name[i] < 127 ? name[i] : '?';
    }
    return label;
}

bool sh_slice_equal(const struct sh_slice *a, const struct sh_slice *b)
{
    if (a->axis != b->axis) return false;
    if (a->axis < 0) return true;
    if (a->n_segments != b->n_segments) return false;
    for (int i = 0; i < a->n_segments; i++) {
        if (a->segment[i].begin != b->segment[i].begin) return false;
        if (a->segment[i].end != b->segment[i].end) return false;
    }
    return true;
}
