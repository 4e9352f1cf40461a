/* tensor/infer_copy.c - rules of ops that only move, select or rename elements. */
#include "tensor/infer_priv.h"

#include "base/mem.h"

/* As many elements, and the same symbolic factor among them? */
static bool same_elements(const struct sh_tensor *a, const struct sh_tensor *b)
{
    return a->extent == b->extent && sh_tensor_elements(a) == sh_tensor_elements(b) &&
           sh_tensor_inner_elements(a) == sh_tensor_inner_elements(b);
}

static bool refuse_counts(struct sh_infer *in, const struct sh_tensor *a, const struct sh_tensor *b)
{
    return sh_infer_refuse(in, "%lld elements as [%lld,%lld,%lld,%lld]",
                           (long long)sh_tensor_elements(a), (long long)b->ne[0],
                           (long long)b->ne[1], (long long)b->ne[2], (long long)b->ne[3]);
}

/* The claimed shape is the result's; may a claim be used at all? */
static bool take_shape(struct sh_infer *in)
{
    if (!in->claim) return sh_infer_refuse(in, "needs a shape");
    if (!sh_shape_ok(in->src[0]->dtype, in->claim->ne)) {
        return sh_infer_refuse(in, "the shape asked for is not lawful");
    }
    sh_infer_set_like(in, in->claim);
    in->out.dtype = in->src[0]->dtype;
    return true;
}

/* ---- copies ---------------------------------------------------------------------------------*/

/* Types that rows of floats can be encoded to on the fly; the others need a search over data. */
static bool encodable(enum sh_dtype t)
{
    const uint64_t never = SH_TYPE_BIT(IQ2_XXS) | SH_TYPE_BIT(IQ2_XS) | SH_TYPE_BIT(IQ2_S) |
                           SH_TYPE_BIT(IQ3_XXS) | SH_TYPE_BIT(IQ3_S) | SH_TYPE_BIT(IQ1_S) |
                           SH_TYPE_BIT(IQ1_M);
    return sh_type_readable(t) && (never >> t & 1) == 0;
}

static bool converts(enum sh_dtype from, enum sh_dtype to)
{
    if (from == to) return true;
    switch (from) {
    case SH_DTYPE_F32:
        return encodable(to) || to == SH_DTYPE_I32;
    case SH_DTYPE_F16:
    case SH_DTYPE_BF16:
        return encodable(to);
    case SH_DTYPE_I32:
        return to == SH_DTYPE_F32;
    default:
        return to == SH_DTYPE_F32 && sh_type_readable(from);
    }
}

/* Where a block type is converted, rows are packed and hold whole blocks.  (Tensors of block types
 * always have packed rows.) */
static bool check_copy(struct sh_infer *in, const struct sh_tensor *s, const struct sh_tensor *d)
{
    const bool blocks = sh_dtype_is_block(s->dtype) || sh_dtype_is_block(d->dtype);

    if (!converts(s->dtype, d->dtype)) {
        sh_infer_refuse(in, "no conversion from %s to %s", sh_dtype_info(s->dtype)->name,
                        sh_dtype_info(d->dtype)->name);
        in->code = SHOAL_ERR_UNSUPPORTED;
        return false;
    }
    if (!same_elements(s, d)) return refuse_counts(in, s, d);
    if (!blocks) return true;
    if (!sh_tensor_rows_packed(s) || !sh_tensor_rows_packed(d)) {
        return sh_infer_refuse(in, "blocks with gaps");
    }
    if (s->dtype == d->dtype) return true;
    const int64_t len = sh_dtype_is_block(s->dtype) ? sh_dtype_info(s->dtype)->block_len
                                                    : sh_dtype_info(d->dtype)->block_len;
    if (s->ne[0] % len != 0 || (d->ne[0] % len != 0 && !sh_tensor_contiguous(d))) {
        return sh_infer_refuse(in, "rows that split blocks");
    }
    if (sh_dtype_is_block(d->dtype) && !sh_tensor_contiguous(d)) {
        return sh_infer_refuse(in, "a target of blocks that is not contiguous");
    }
    return true;
}

bool sh_infer_cpy(struct sh_infer *in)
{
    const struct sh_tensor *s = in->src[0], *d = in->src[1];

    if (d) {
        if (!check_copy(in, s, d)) return false;
        sh_infer_set_like(in, d);
        for (int i = 0; i < SH_MAX_DIMS; i++)
            in->out.nb[i] = d->nb[i];
        in->out.view_offs = d->view_offs;
        in->view_of = 1;
        return true;
    }
    // A cast: a fresh result of the claimed type.
    if (!in->claim) return sh_infer_refuse(in, "needs a type");
    struct sh_tensor fresh = *s;
    fresh.dtype = in->claim->dtype;
    sh_tensor_set_dense(&fresh);
    if (!check_copy(in, s, &fresh)) return false;
    sh_infer_set_like(in, &fresh);
    return true;
}

bool sh_infer_cont(struct sh_infer *in)
{
    const struct sh_tensor *s = in->src[0];

    if (!in->claim) {
        sh_infer_set_like(in, s);
    } else {
        if (!take_shape(in)) return false;
        if (!same_elements(s, in->claim)) return refuse_counts(in, s, in->claim);
    }
    return true;
}

bool sh_infer_concat(struct sh_infer *in)
{
    const struct sh_tensor *a = in->src[0], *b = in->src[1];
    const int32_t dim = in->params[0];

    if (a->dtype != b->dtype) return sh_infer_refuse_types(in);
    if (dim < 0 || dim >= SH_MAX_DIMS) return sh_infer_refuse(in, "dimension %d", (int)dim);
    for (int d = 0; d < SH_MAX_DIMS; d++) {
        const bool match =
            d == dim ? sh_dim_fixed(a, d) && sh_dim_fixed(b, d) : sh_dim_same(a, d, b, d);
        if (!match) {
            return sh_infer_refuse(in, "dimension %d is %lld and %lld", d, (long long)a->ne[d],
                                   (long long)b->ne[d]);
        }
    }
    sh_infer_set_like(in, a);
    in->out.ne[dim] = a->ne[dim] + b->ne[dim];
    return true;
}

/* Peers from before the words were introduced say by the shape alone how much is added, at the end
 * of each dimension. */
static bool pads_by_shape(const struct sh_infer *in)
{
    for (int i = 0; i < 2 * SH_MAX_DIMS; i++) {
        if (in->params[i] != 0) return false;
    }
    return in->claim != NULL;
}

bool sh_infer_pad(struct sh_infer *in)
{
    const struct sh_tensor *x = in->src[0];
    const bool by_shape = pads_by_shape(in);
    const int32_t wraps = in->params[2 * SH_MAX_DIMS];

    if (x->dtype != SH_DTYPE_F32) return sh_infer_refuse_types(in);
    if (wraps < 0 || wraps > 1) return sh_infer_refuse(in, "wraps is %d", (int)wraps);
    sh_infer_set_dtype(in, x->dtype);
    for (int d = 0; d < SH_MAX_DIMS; d++) {
        const int64_t left = in->params[2 * d];
        int64_t right = in->params[2 * d + 1];
        sh_infer_set_dim(in, d, x, d);
        if (by_shape && in->claim->ne[d] >= 0) right = in->claim->ne[d] - x->ne[d];
        if (left == 0 && right == 0) continue;
        if (left < 0 || right < 0 || !sh_dim_fixed(x, d) || (wraps && x->ne[d] == 0)) {
            return sh_infer_refuse(in, "dimension %d of %lld cannot get %lld and %lld more", d,
                                   (long long)x->ne[d], (long long)left, (long long)right);
        }
        if (right > INT64_MAX - left || left + right > INT64_MAX - x->ne[d]) {
            return sh_infer_refuse(in, "dimension %d becomes too large", d);
        }
        in->out.ne[d] += left + right;
    }
    return true;
}

/* ---- views ----------------------------------------------------------------------------------*/

bool sh_infer_reshape(struct sh_infer *in)
{
    const struct sh_tensor *s = in->src[0];

    if (!take_shape(in)) return false;
    if (!same_elements(s, in->claim)) return refuse_counts(in, s, in->claim);
    if (!sh_tensor_contiguous(s)) return sh_infer_refuse(in, "the source is not contiguous");
    sh_tensor_set_dense(&in->out);
    in->out.view_offs = s->view_offs;
    return true;
}

/* Bytes of one index of the symbolic dimension. */
static bool inner_bytes(const struct sh_tensor *t, size_t *out)
{
    struct sh_tensor one = *t;

    one.ne[t->extent_dim] = 1;
    return sh_tensor_bytes(&one, out);
}

/* Where the source has a symbolic dimension, the view has it whole, with its stride, and takes a
 * part of each index only. */
static bool check_view_extent(struct sh_infer *in, const struct sh_tensor *s,
                              const struct sh_tensor *v)
{
    size_t have, want;

    if (s->extent == SH_EXTENT_NONE && v->extent == SH_EXTENT_NONE) return true;
    if (s->extent != v->extent || v->extent_dim < 0 || v->extent_dim >= SH_MAX_DIMS ||
        s->ne[s->extent_dim] != v->ne[v->extent_dim] ||
        s->nb[s->extent_dim] != v->nb[v->extent_dim]) {
        return sh_infer_refuse(in, "a view must keep the symbolic dimension whole");
    }
    if (v->view_offs < s->view_offs || !inner_bytes(s, &have) || !inner_bytes(v, &want) ||
        !sh_range_ok(v->view_offs - s->view_offs, want, have)) {
        return sh_infer_refuse(in, "a view crosses the symbolic dimension");
    }
    return true;
}

bool sh_infer_view(struct sh_infer *in)
{
    const struct sh_tensor *s = in->src[0];
    const size_t unit = sh_tensor_unit_bytes(s);

    if (!take_shape(in)) return false;
    for (int d = 0; d < SH_MAX_DIMS; d++)
        in->out.nb[d] = in->claim->nb[d];
    in->out.view_offs = in->claim->view_offs;
    if (!sh_tensor_rows_packed(&in->out)) {
        return sh_infer_refuse(in, "stride of dimension 0 is %zu, not %zu", in->out.nb[0], unit);
    }
    return check_view_extent(in, s, in->claim);
}

bool sh_infer_permute(struct sh_infer *in)
{
    const struct sh_tensor *s = in->src[0];
    unsigned seen = 0;

    for (int d = 0; d < SH_MAX_DIMS; d++) {
        const int32_t axis = in->params[d];
        if (axis < 0 || axis >= SH_MAX_DIMS || (seen >> axis & 1)) {
            return sh_infer_refuse(in, "axes %d,%d,%d,%d are no permutation", (int)in->params[0],
                                   (int)in->params[1], (int)in->params[2], (int)in->params[3]);
        }
        seen |= 1u << axis;
    }
    if (sh_dtype_is_block(s->dtype) && in->params[0] != 0) {
        return sh_infer_refuse(in, "blocks lie along dimension 0 only");
    }
    in->out.dtype = s->dtype;
    for (int d = 0; d < SH_MAX_DIMS; d++) {
        sh_infer_set_dim(in, in->params[d], s, d);
        in->out.nb[in->params[d]] = s->nb[d];
    }
    in->out.view_offs = s->view_offs;
    return true;
}

bool sh_infer_transpose(struct sh_infer *in)
{
    const struct sh_tensor *s = in->src[0];

    if (sh_dtype_is_block(s->dtype)) {
        return sh_infer_refuse(in, "blocks lie along dimension 0 only");
    }
    in->out.dtype = s->dtype;
    for (int d = 0; d < SH_MAX_DIMS; d++) {
        const int from = d < 2 ? 1 - d : d;
        sh_infer_set_dim(in, d, s, from);
        in->out.nb[d] = s->nb[from];
    }
    in->out.view_offs = s->view_offs;
    return true;
}

/* ---- gather and scatter ---------------------------------------------------------------------*/

/* x [n,r,c2,c3], ids [k,c2,c3]: [n,k,c2,c3] */
bool sh_infer_get_rows(struct sh_infer *in)
{
    const struct sh_tensor *x = in->src[0], *ids = in->src[1];

    if (ids->dtype != SH_DTYPE_I32 || (x->dtype != SH_DTYPE_I32 && !sh_type_readable(x->dtype))) {
        return sh_infer_refuse_types(in);
    }
    if (!sh_dim_fixed(x, 0)) return sh_infer_refuse(in, "rows of symbolic length");
    if (!sh_dim_same(x, 2, ids, 1) || !sh_dim_same(x, 3, ids, 2) || !sh_dims_end(ids, 3)) {
        return sh_infer_refuse(in, "row numbers do not match the table");
    }
    if (!sh_tensor_rows_packed(x)) return sh_infer_refuse(in, "rows with gaps");
    sh_infer_set_dtype(in, x->dtype == SH_DTYPE_I32 ? SH_DTYPE_I32 : SH_DTYPE_F32);
    sh_infer_set_dim(in, 0, x, 0);
    for (int d = 1; d < SH_MAX_DIMS; d++)
        sh_infer_set_dim(in, d, ids, d - 1);
    return true;
}

/* Do the ids repeat over dimension d of the data? */
static bool ids_repeat(const struct sh_tensor *data, int d, const struct sh_tensor *ids)
{
    if (sh_dim_same(data, d, ids, d - 1)) return true;
    if (!sh_dim_fixed(ids, d - 1) || ids->ne[d - 1] == 0) return false;
    return ids->ne[d - 1] == 1 || (sh_dim_fixed(data, d) && data->ne[d] % ids->ne[d - 1] == 0);
}

/* data [n,m,b2,b3], ids [m,c2,c3], target [n,r,b2,b3] */
bool sh_infer_set_rows(struct sh_infer *in)
{
    const struct sh_tensor *data = in->src[0], *ids = in->src[1], *target = in->src[2];

    if (!sh_types_have(SH_TYPE_BIT(F32) | SH_TYPE_BIT(F16), data) ||
        !sh_types_have(SH_TYPE_BIT(I32) | SH_TYPE_BIT(I64), ids) ||
        (!encodable(target->dtype) && target->dtype != SH_DTYPE_I32)) {
        return sh_infer_refuse_types(in);
    }
    if (!sh_dim_same(data, 0, target, 0) || !sh_dim_fixed(data, 0) ||
        !sh_dim_same(data, 2, target, 2) || !sh_dim_same(data, 3, target, 3)) {
        return sh_infer_refuse(in, "rows do not match the target");
    }
    if (!sh_dim_same(data, 1, ids, 0) || !ids_repeat(data, 2, ids) || !ids_repeat(data, 3, ids) ||
        !sh_dims_end(ids, 3)) {
        return sh_infer_refuse(in, "row numbers do not match the rows");
    }
    if (!sh_tensor_rows_packed(data) || !sh_tensor_rows_packed(target)) {
        return sh_infer_refuse(in, "rows with gaps");
    }
    sh_infer_set_like(in, target);
    for (int i = 0; i < SH_MAX_DIMS; i++)
        in->out.nb[i] = target->nb[i];
    in->out.view_offs = target->view_offs;
    in->view_of = 2;
    return true;
}
