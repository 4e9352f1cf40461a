/* tensor/infer_rows.c - rules of elementwise ops, and of ops that work along rows. */
#include "tensor/infer_priv.h"

#include <limits.h>

bool sh_infer_leaf(struct sh_infer *in)
{
    return sh_infer_refuse(in, "a leaf is not computed");
}

/* Result type: the source's, or f32 where it is claimed and `widen` allows it for 16-bit floats. */
static void float_result(struct sh_infer *in, const struct sh_tensor *s, bool widen)
{
    const bool short_float = s->dtype == SH_DTYPE_F16 || s->dtype == SH_DTYPE_BF16;

    if (widen && short_float && in->claim && in->claim->dtype == SH_DTYPE_F32) {
        sh_infer_set_dtype(in, SH_DTYPE_F32);
    }
}

static bool check_unary(struct sh_infer *in, const struct sh_tensor *x)
{
    const int32_t kind = in->params[0];

    if (kind < 0 || kind >= SH_UNARY_COUNT) {
        return sh_infer_refuse(in, "unary kind %d", (int)kind);
    }
    if (!sh_types_have(SH_TYPES_FLOAT, x)) return sh_infer_refuse_types(in);
    const bool same_type = kind == SH_UNARY_GELU || kind == SH_UNARY_GELU_ERF ||
                           kind == SH_UNARY_GELU_QUICK || kind == SH_UNARY_SILU;
    float_result(in, x, !same_type);
    return true;
}

static bool check_norm(struct sh_infer *in, const struct sh_tensor *x)
{
    const float eps = sh_infer_f32(in, 0);

    if (x->dtype != SH_DTYPE_F32) return sh_infer_refuse_types(in);
    if (!(eps >= 0)) return sh_infer_refuse(in, "eps %g", (double)eps);
    if (!sh_dim_fixed(x, 0)) return sh_infer_refuse(in, "rows of symbolic length");
    return true;
}

/* Types and attributes of the ops whose result looks like their source. */
static bool check_like0(struct sh_infer *in, const struct sh_tensor *x)
{
    uint64_t types = SH_TYPE_BIT(F32);

    switch (in->op) {
    case SH_OP_DUP:
        return true;
    case SH_OP_SQR:
    case SH_OP_SQRT:
        types = SH_TYPES_FLOAT;
        float_result(in, x, true);
        break;
    case SH_OP_NORM:
    case SH_OP_RMS_NORM:
    case SH_OP_L2_NORM:
        return check_norm(in, x);
    case SH_OP_SCALE:
        types |= SH_TYPE_BIT(BF16);
        break;
    case SH_OP_CLAMP:
    case SH_OP_FILL:
        types |= SH_TYPE_BIT(F16);
        break;
    case SH_OP_UNARY:
        return check_unary(in, x);
    default:
        return sh_infer_refuse(in, "no rule");
    }
    return sh_types_have(types, x) || sh_infer_refuse_types(in);
}

bool sh_infer_like0(struct sh_infer *in)
{
    const struct sh_tensor *x = in->src[0];
    const bool any_layout = in->op == SH_OP_DUP || in->op == SH_OP_NORM || in->op == SH_OP_L2_NORM;

    sh_infer_set_like(in, x);
    if (!check_like0(in, x)) return false;
    if (!any_layout && !sh_tensor_rows_packed(x)) return sh_infer_refuse(in, "rows with gaps");
    return true;
}

/* Does b, repeated, cover dimension d of a? */
static bool repeats(const struct sh_tensor *a, const struct sh_tensor *b, int d)
{
    if (sh_dim_same(a, d, b, d)) return true;
    if (!sh_dim_fixed(b, d) || b->ne[d] == 0) return false;
    return b->ne[d] == 1 || (sh_dim_fixed(a, d) && a->ne[d] % b->ne[d] == 0);
}

static bool check_repeats(struct sh_infer *in, const struct sh_tensor *a, const struct sh_tensor *b)
{
    for (int d = 0; d < SH_MAX_DIMS; d++) {
        if (!repeats(a, b, d)) {
            return sh_infer_refuse(in, "dimension %d: %lld does not repeat over %lld", d,
                                   (long long)b->ne[d], (long long)a->ne[d]);
        }
    }
    return true;
}

/* Something is added to a weight: as many numbers of f32, the sum in the type asked for. */
static bool add_to_blocks(struct sh_infer *in)
{
    const struct sh_tensor *a = in->src[0], *b = in->src[1];
    const enum sh_dtype to = in->claim ? in->claim->dtype : a->dtype;

    if (b->dtype != SH_DTYPE_F32 || !sh_type_readable(a->dtype) || !sh_type_readable(to)) {
        return sh_infer_refuse_types(in);
    }
    for (int d = 0; d < SH_MAX_DIMS; d++) {
        if (!sh_dim_same(a, d, b, d)) {
            return sh_infer_refuse(in, "dimension %d of blocks is %lld, of the other %lld", d,
                                   (long long)a->ne[d], (long long)b->ne[d]);
        }
    }
    sh_infer_set_like(in, a);
    sh_infer_set_dtype(in, to);
    return true;
}

bool sh_infer_binary(struct sh_infer *in)
{
    const struct sh_tensor *a = in->src[0], *b = in->src[1];

    if (in->op == SH_OP_ADD && sh_dtype_is_block(a->dtype)) return add_to_blocks(in);
    if (!sh_types_have(SH_TYPES_FLOAT, a) || (b->dtype != a->dtype && b->dtype != SH_DTYPE_F32)) {
        return sh_infer_refuse_types(in);
    }
    if (!check_repeats(in, a, b)) return false;
    if (!sh_tensor_rows_packed(a)) return sh_infer_refuse(in, "rows with gaps");
    sh_infer_set_like(in, a);
    float_result(in, a, b->dtype == SH_DTYPE_F32);
    return true;
}

/* a [E,U,T], b [E,X], ids [U,T] */
bool sh_infer_add_id(struct sh_infer *in)
{
    const struct sh_tensor *a = in->src[0], *b = in->src[1], *ids = in->src[2];

    if (a->dtype != SH_DTYPE_F32 || b->dtype != SH_DTYPE_F32 || ids->dtype != SH_DTYPE_I32) {
        return sh_infer_refuse_types(in);
    }
    if (!sh_dim_fixed(a, 0) || !sh_dim_is(b, 0, a->ne[0]) || !sh_dim_fixed(b, 1)) {
        return sh_infer_refuse(in, "rows of %lld and %lld", (long long)a->ne[0],
                               (long long)b->ne[0]);
    }
    if (!sh_dim_same(a, 1, ids, 0) || !sh_dim_same(a, 2, ids, 1)) {
        return sh_infer_refuse(in, "ids do not match the rows");
    }
    if (!sh_dims_end(a, 3) || !sh_dims_end(b, 2) || !sh_dims_end(ids, 2)) {
        return sh_infer_refuse(in, "too many dimensions");
    }
    if (!sh_tensor_rows_packed(a) || !sh_tensor_rows_packed(b)) {
        return sh_infer_refuse(in, "rows with gaps");
    }
    sh_infer_set_like(in, a);
    return true;
}

/* What the ops that reduce or order rows of f32 ask of them. */
static bool check_f32_rows(struct sh_infer *in, const struct sh_tensor *x)
{
    if (x->dtype != SH_DTYPE_F32) return sh_infer_refuse_types(in);
    if (!sh_dim_fixed(x, 0)) return sh_infer_refuse(in, "rows of symbolic length");
    if (x->ne[0] > INT_MAX) return sh_infer_refuse(in, "rows of %lld", (long long)x->ne[0]);
    if (!sh_tensor_rows_packed(x)) return sh_infer_refuse(in, "rows with gaps");
    return true;
}

bool sh_infer_sum_rows(struct sh_infer *in)
{
    if (!check_f32_rows(in, in->src[0])) return false;
    sh_infer_set_like(in, in->src[0]);
    in->out.ne[0] = 1;
    return true;
}

bool sh_infer_argmax(struct sh_infer *in)
{
    const struct sh_tensor *x = in->src[0];

    if (!check_f32_rows(in, x)) return false;
    if (!sh_dims_end(x, 2)) return sh_infer_refuse(in, "no matrix");
    if (x->ne[0] == 0) return sh_infer_refuse(in, "rows of 0");
    sh_infer_set_dtype(in, SH_DTYPE_I32);
    sh_infer_set_dim(in, 0, x, 1);
    return true;
}

bool sh_infer_argsort(struct sh_infer *in)
{
    if (!check_f32_rows(in, in->src[0])) return false;
    if (in->params[0] < 0 || in->params[0] > 1) {
        return sh_infer_refuse(in, "sort order %d", (int)in->params[0]);
    }
    sh_infer_set_like(in, in->src[0]);
    sh_infer_set_dtype(in, SH_DTYPE_I32);
    return true;
}

bool sh_infer_top_k(struct sh_infer *in)
{
    const struct sh_tensor *x = in->src[0];

    if (!check_f32_rows(in, x)) return false;
    if (!in->claim) return sh_infer_refuse(in, "needs a shape");
    if (in->claim->ne[0] < 0 || in->claim->ne[0] > x->ne[0]) {
        return sh_infer_refuse(in, "%lld of rows of %lld", (long long)in->claim->ne[0],
                               (long long)x->ne[0]);
    }
    sh_infer_set_like(in, x);
    sh_infer_set_dtype(in, SH_DTYPE_I32);
    in->out.ne[0] = in->claim->ne[0];
    return true;
}

bool sh_infer_repeat(struct sh_infer *in)
{
    const struct sh_tensor *x = in->src[0];

    if (!sh_types_have(SH_TYPES_FLOAT | SH_TYPE_BIT(I32) | SH_TYPE_BIT(I16), x)) {
        return sh_infer_refuse_types(in);
    }
    if (!sh_tensor_rows_packed(x)) return sh_infer_refuse(in, "rows with gaps");
    if (!in->claim) return sh_infer_refuse(in, "needs a shape");
    if (!check_repeats(in, in->claim, x)) return false;
    sh_infer_set_like(in, in->claim);
    sh_infer_set_dtype(in, x->dtype);
    return true;
}

bool sh_infer_glu(struct sh_infer *in)
{
    const struct sh_tensor *x = in->src[0], *up = in->src[1];
    const int32_t kind = in->params[0];
    uint64_t types = SH_TYPES_FLOAT;

    if (kind < 0 || kind >= SH_GLU_COUNT) return sh_infer_refuse(in, "glu kind %d", (int)kind);
    if (kind == SH_GLU_SWIGLU_OAI) types = SH_TYPE_BIT(F32);
    if (kind == SH_GLU_SWIGLU_CLAMP) types = SH_TYPE_BIT(F32) | SH_TYPE_BIT(F16);
    if (!sh_types_have(types, x) || (up && up->dtype != x->dtype)) {
        return sh_infer_refuse_types(in);
    }
    if (in->params[1] < 0 || in->params[1] > 1) {
        return sh_infer_refuse(in, "swapped is %d", (int)in->params[1]);
    }
    if (!sh_dim_fixed(x, 0)) return sh_infer_refuse(in, "rows of symbolic length");
    if (!sh_tensor_contiguous_1(x) || (up && !sh_tensor_contiguous_1(up))) {
        return sh_infer_refuse(in, "only rows may have gaps between them");
    }
    for (int d = 0; up && d < SH_MAX_DIMS; d++) {
        if (!sh_dim_same(x, d, up, d)) {
            return sh_infer_refuse(in, "dimension %d is %lld and %lld", d, (long long)x->ne[d],
                                   (long long)up->ne[d]);
        }
    }
    sh_infer_set_like(in, x);
    if (!up) in->out.ne[0] = x->ne[0] / 2;
    return true;
}

/* Slopes need a mask to act on. */
static bool check_mask_bias(struct sh_infer *in, const struct sh_tensor *mask)
{
    const float max_bias = sh_infer_f32(in, 1);

    if (max_bias > 0 && !mask) return sh_infer_refuse(in, "a bias without a mask");
    return true;
}

bool sh_infer_soft_max(struct sh_infer *in)
{
    const struct sh_tensor *x = in->src[0], *mask = in->src[1], *sinks = in->src[2];

    if (x->dtype != SH_DTYPE_F32 ||
        (mask && !sh_types_have(SH_TYPE_BIT(F32) | SH_TYPE_BIT(F16), mask)) ||
        (sinks && sinks->dtype != SH_DTYPE_F32)) {
        return sh_infer_refuse_types(in);
    }
    if (!sh_dim_fixed(x, 0)) return sh_infer_refuse(in, "rows of symbolic length");
    if (!sh_tensor_rows_packed(x)) return sh_infer_refuse(in, "rows with gaps");
    if (!check_mask_bias(in, mask)) return false;
    if (mask) {
        const bool rows_match =
            sh_dim_same(x, 1, mask, 1) || (sh_dim_fixed(mask, 1) && mask->ne[1] >= x->ne[1]);
        if (!sh_dim_same(x, 0, mask, 0) || !rows_match || !repeats(x, mask, 2) ||
            !repeats(x, mask, 3)) {
            return sh_infer_refuse(in, "the mask does not match");
        }
        if (!sh_tensor_contiguous(mask)) return sh_infer_refuse(in, "the mask is not contiguous");
    }
    if (sinks && (!sh_dim_is(sinks, 0, x->ne[2]) || !sh_dim_fixed(x, 2) || !sh_dims_end(sinks, 1) ||
                  !sh_tensor_rows_packed(sinks))) {
        return sh_infer_refuse(in, "the sinks are not one per head");
    }
    sh_infer_set_like(in, x);
    return true;
}
