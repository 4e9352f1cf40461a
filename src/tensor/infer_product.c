/* tensor/infer_product.c - rules of matrix products, rotary embedding and attention. */
#include "tensor/infer_priv.h"

#include <math.h>

/* ---- products -------------------------------------------------------------------------------*/

/* x may be f32, or of the type that w's product rounds to if that is a float. */
static bool product_types(const struct sh_tensor *w, const struct sh_tensor *x)
{
    if (!sh_type_readable(w->dtype)) return false;
    if (x->dtype == SH_DTYPE_F32) return true;
    return x->dtype == w->dtype && sh_types_have(SH_TYPES_FLOAT, x);
}

static bool check_precision(struct sh_infer *in)
{
    const int32_t acc = in->params[0], hint = in->params[1], operand = in->params[3];

    if (acc != 0 && acc != 10 && acc != 15 && acc != 20) {
        return sh_infer_refuse(in, "precision %d", (int)acc);
    }
    if (hint != 0 && hint != 1) return sh_infer_refuse(in, "hint %d", (int)hint);
    if (operand != 0 && operand != 10 && operand != 15 && operand != 20 && operand != 30 &&
        operand != 40) {
        return sh_infer_refuse(in, "operand precision %d", (int)operand);
    }
    return true;
}

/* Segment units hold whole blocks and divide the rows. */
static bool check_unit(struct sh_infer *in, const struct sh_tensor *w, int64_t k, int32_t unit)
{
    if (unit == 0) return true;
    if (unit < 0 || unit % sh_dtype_info(w->dtype)->block_len != 0 || k % unit != 0) {
        return sh_infer_refuse(in, "segment unit %d of rows of %lld", (int)unit, (long long)k);
    }
    return true;
}

static bool check_product(struct sh_infer *in, const struct sh_tensor *w, const struct sh_tensor *x)
{
    if (!product_types(w, x)) return sh_infer_refuse_types(in);
    if (!sh_dim_fixed(x, 0) || x->ne[0] != w->ne[0]) {
        return sh_infer_refuse(in, "rows of %lld and %lld", (long long)w->ne[0],
                               (long long)x->ne[0]);
    }
    if (w->extent != SH_EXTENT_NONE) return sh_infer_refuse(in, "symbolic weights");
    if (!sh_tensor_rows_packed(w) || !sh_tensor_rows_packed(x)) {
        return sh_infer_refuse(in, "rows with gaps");
    }
    return check_precision(in) && check_unit(in, w, w->ne[0], in->params[15]);
}

bool sh_infer_mul_mat(struct sh_infer *in)
{
    const struct sh_tensor *w = in->src[0], *x = in->src[1];

    if (!check_product(in, w, x)) return false;
    for (int d = 2; d < SH_MAX_DIMS; d++) {
        const int64_t planes = w->ne[d];
        if (planes < 1 || (planes > 1 && (!sh_dim_fixed(x, d) || x->ne[d] % planes != 0))) {
            return sh_infer_refuse(in, "dimension %d: %lld planes for %lld", d, (long long)planes,
                                   (long long)x->ne[d]);
        }
    }
    sh_infer_set_dtype(in, SH_DTYPE_F32);
    sh_infer_set_dim(in, 0, w, 1);
    for (int d = 1; d < SH_MAX_DIMS; d++)
        sh_infer_set_dim(in, d, x, d);
    return true;
}

/* w [K,M,E], x [K,B,T], ids [U,T]: [M,U,T] */
bool sh_infer_mul_mat_id(struct sh_infer *in)
{
    const struct sh_tensor *w = in->src[0], *x = in->src[1], *ids = in->src[2];

    if (ids->dtype != SH_DTYPE_I32) return sh_infer_refuse_types(in);
    if (!check_product(in, w, x)) return false;
    if (!sh_dims_end(w, 3) || !sh_dims_end(x, 3) || !sh_dims_end(ids, 2)) {
        return sh_infer_refuse(in, "too many dimensions");
    }
    if (!sh_dim_fixed(x, 1) || !sh_dim_fixed(ids, 0) || x->ne[1] < 1 ||
        ids->ne[0] % x->ne[1] != 0 || !sh_dim_same(x, 2, ids, 1)) {
        return sh_infer_refuse(in, "ids [%lld,%lld] do not match rows [%lld,%lld]",
                               (long long)ids->ne[0], (long long)ids->ne[1], (long long)x->ne[1],
                               (long long)x->ne[2]);
    }
    if (in->params[12] < 0) return sh_infer_refuse(in, "first expert %d", (int)in->params[12]);
    sh_infer_set_dtype(in, SH_DTYPE_F32);
    sh_infer_set_dim(in, 0, w, 1);
    sh_infer_set_dim(in, 1, ids, 0);
    sh_infer_set_dim(in, 2, ids, 1);
    return true;
}

/* ---- rotary embedding -----------------------------------------------------------------------*/

static bool check_rope_scaling(struct sh_infer *in)
{
    const float base = sh_infer_f32(in, 5), scale = sh_infer_f32(in, 6), ext = sh_infer_f32(in, 7);
    const float fast = sh_infer_f32(in, 9), slow = sh_infer_f32(in, 10);

    if (!(base > 0) || !isfinite(base)) return sh_infer_refuse(in, "base %g", (double)base);
    if (!isfinite(scale) || !isfinite(ext) || !isfinite(sh_infer_f32(in, 8))) {
        return sh_infer_refuse(in, "a scaling factor is not finite");
    }
    if (ext == 0) return true;
    if (!(scale > 0) || base == 1 || in->params[4] < 1 || !(fast > 0) || !isfinite(fast) ||
        !(slow > 0) || !isfinite(slow)) {
        return sh_infer_refuse(in, "context extension from %d with scale %g, betas %g and %g",
                               (int)in->params[4], (double)scale, (double)fast, (double)slow);
    }
    return true;
}

static bool check_rope_dims(struct sh_infer *in, int64_t width)
{
    const int64_t n_dims = in->params[1], first = in->params[15];
    const int32_t mode = in->params[2];
    int64_t sections = 0;

    if (mode != SH_ROPE_NORM && mode != SH_ROPE_NEOX && mode != SH_ROPE_MROPE &&
        mode != SH_ROPE_IMROPE) {
        sh_infer_refuse(in, "rope mode %d", (int)mode);
        in->code = SHOAL_ERR_UNSUPPORTED;
        return false;
    }
    if (n_dims < 2 || n_dims % 2 != 0 || first < 0 || first % 2 != 0 || first + n_dims > width) {
        return sh_infer_refuse(in, "%lld rotated channels from %lld on, of %lld", (long long)n_dims,
                               (long long)first, (long long)width);
    }
    if ((mode & 8) == 0) return true;
    for (int i = 11; i <= 14; i++) {
        if (in->params[i] < 0) return sh_infer_refuse(in, "section of %d", (int)in->params[i]);
        sections += in->params[i];
    }
    if (sections > width || sections == in->params[14]) {
        return sh_infer_refuse(in, "sections of %lld channels, of %lld", (long long)sections,
                               (long long)width);
    }
    return true;
}

bool sh_infer_check_rope(struct sh_infer *in, int64_t width)
{
    return check_rope_dims(in, width) && check_rope_scaling(in);
}

bool sh_infer_check_factors(struct sh_infer *in, const struct sh_tensor *factors)
{
    if (!factors) return true;
    if (factors->extent == SH_EXTENT_NONE && factors->ne[0] >= in->params[1] / 2 &&
        sh_tensor_rows(factors) >= 1 && sh_tensor_rows_packed(factors)) {
        return true;
    }
    return sh_infer_refuse(in, "%lld frequency factors for %d channels", (long long)factors->ne[0],
                           (int)in->params[1]);
}

/* Positions: [T], or with several axes [4*T] in planes, or ours [4,T]. */
static bool positions_match(const struct sh_tensor *x, const struct sh_tensor *pos, bool axes)
{
    if (sh_dim_is(pos, 0, 4) && sh_dim_same(pos, 1, x, 2) && sh_dims_end(pos, 2)) return true;
    if (!sh_dims_end(pos, 1)) return false;
    if (!axes) return sh_dim_same(pos, 0, x, 2);
    return sh_dim_fixed(x, 2) && sh_dim_is(pos, 0, 4 * x->ne[2]);
}

bool sh_infer_rope(struct sh_infer *in)
{
    const struct sh_tensor *x = in->src[0], *pos = in->src[1], *factors = in->src[2];

    if (!sh_types_have(SH_TYPE_BIT(F32) | SH_TYPE_BIT(F16), x) || pos->dtype != SH_DTYPE_I32 ||
        (factors && factors->dtype != SH_DTYPE_F32)) {
        return sh_infer_refuse_types(in);
    }
    if (!sh_dim_fixed(x, 0)) return sh_infer_refuse(in, "rows of symbolic length");
    if (!sh_tensor_rows_packed(x)) return sh_infer_refuse(in, "rows with gaps");
    if (!sh_infer_check_rope(in, x->ne[0])) return false;
    if (!positions_match(x, pos, (in->params[2] & 8) != 0) || !sh_tensor_contiguous(pos)) {
        return sh_infer_refuse(in, "positions [%lld,%lld] for %lld rows", (long long)pos->ne[0],
                               (long long)pos->ne[1], (long long)x->ne[2]);
    }
    if (!sh_infer_check_factors(in, factors)) return false;
    sh_infer_set_like(in, x);
    return true;
}

/* ---- attention ------------------------------------------------------------------------------*/

static bool check_attention_mask(struct sh_infer *in)
{
    const struct sh_tensor *q = in->src[0], *k = in->src[1], *mask = in->src[3];

    if (!mask) {
        if (sh_infer_f32(in, 1) > 0) return sh_infer_refuse(in, "a bias without a mask");
        return true;
    }
    if (mask->ne[0] < k->ne[1] || mask->ne[1] < q->ne[1] || mask->ne[2] < 1 || mask->ne[3] < 1 ||
        q->ne[2] % mask->ne[2] != 0 || q->ne[3] % mask->ne[3] != 0) {
        return sh_infer_refuse(in, "the mask does not match");
    }
    if (!sh_tensor_contiguous(mask)) return sh_infer_refuse(in, "the mask is not contiguous");
    return true;
}

/* Do the heads of q share those of k (or v), which has as many rows and batches? */
static bool heads_match(const struct sh_tensor *q, const struct sh_tensor *kv)
{
    return kv->ne[2] >= 1 && q->ne[2] % kv->ne[2] == 0 && q->ne[3] == kv->ne[3];
}

/* q [DK,N,H,B], k [DK,KV,Hk,B], v [DV,KV,Hv,B]: [DV,H,N,B] */
bool sh_infer_flash_attn(struct sh_infer *in)
{
    const struct sh_tensor *q = in->src[0], *k = in->src[1], *v = in->src[2];
    const struct sh_tensor *mask = in->src[3], *sinks = in->src[4];

    if (q->dtype != SH_DTYPE_F32 || !sh_type_readable(k->dtype) || !sh_type_readable(v->dtype) ||
        (mask && mask->dtype != SH_DTYPE_F16) || (sinks && sinks->dtype != SH_DTYPE_F32)) {
        return sh_infer_refuse_types(in);
    }
    for (int i = 0; i < 5; i++) {
        if (in->src[i] && in->src[i]->extent != SH_EXTENT_NONE) {
            return sh_infer_refuse(in, "source %d has a symbolic extent", i);
        }
    }
    if (k->ne[0] != q->ne[0] || k->ne[1] != v->ne[1] || !heads_match(q, k) || !heads_match(q, v)) {
        return sh_infer_refuse(in, "queries, keys and values do not match");
    }
    if (!sh_tensor_rows_packed(q) || !sh_tensor_rows_packed(k) || !sh_tensor_rows_packed(v)) {
        return sh_infer_refuse(in, "rows with gaps");
    }
    if (!check_attention_mask(in)) return false;
    if (sinks &&
        (sinks->ne[0] != q->ne[2] || !sh_dims_end(sinks, 1) || !sh_tensor_rows_packed(sinks))) {
        return sh_infer_refuse(in, "the sinks are not one per head");
    }
    if (in->params[3] != 0 && in->params[3] != 10) {
        return sh_infer_refuse(in, "precision %d", (int)in->params[3]);
    }
    sh_infer_set_dtype(in, SH_DTYPE_F32);
    sh_infer_set_dim(in, 0, v, 0);
    sh_infer_set_dim(in, 1, q, 2);
    sh_infer_set_dim(in, 2, q, 1);
    sh_infer_set_dim(in, 3, q, 3);
    return true;
}
