/* tensor/infer.c - what the rules of all ops share, and the call that applies them.
 *
 * The table of rules expands from the op table; a row whose rule is missing does not link.
 */
#include "tensor/infer_priv.h"

#include <stdarg.h>
#include <stdio.h>

static bool (*const RULE[SH_OP_COUNT])(struct sh_infer *) = {
#define X(name, wire, lo, hi, flags, rule) [SH_OP_##name] = sh_infer_##rule,
    SH_OPS(X)
#undef X
};

bool sh_infer_refuse(struct sh_infer *in, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(in->reason, sizeof in->reason, fmt, ap);
    va_end(ap);
    in->code = SHOAL_ERR_FORMAT;
    return false;
}

bool sh_infer_refuse_types(struct sh_infer *in)
{
    size_t at = 0;

    sh_infer_refuse(in, "no such op for types");
    at = strlen(in->reason);
    for (int i = 0; i < SH_MAX_SRC && at < sizeof in->reason; i++) {
        if (!in->src[i]) continue;
        const int n = snprintf(in->reason + at, sizeof in->reason - at, " %s",
                               sh_dtype_info(in->src[i]->dtype)->name);
        if (n > 0) at += (size_t)n;
    }
    in->code = SHOAL_ERR_UNSUPPORTED;
    return false;
}

void sh_infer_set_dim(struct sh_infer *in, int to, const struct sh_tensor *t, int from)
{
    in->out.ne[to] = t->ne[from];
    if (sh_dim_fixed(t, from)) return;
    // A second symbolic dimension makes the result unlawful: seen by the check of run().
    in->out.extent_dim = in->out.extent == SH_EXTENT_NONE ? to : -1;
    in->out.extent = t->extent;
}

void sh_infer_set_like(struct sh_infer *in, const struct sh_tensor *t)
{
    in->out.dtype = t->dtype;
    for (int d = 0; d < SH_MAX_DIMS; d++)
        sh_infer_set_dim(in, d, t, d);
}

bool sh_dims_end(const struct sh_tensor *t, int dim)
{
    for (int d = dim; d < SH_MAX_DIMS; d++) {
        if (!sh_dim_is(t, d, 1)) return false;
    }
    return true;
}

float sh_infer_f32(const struct sh_infer *in, int i)
{
    float v;

    memcpy(&v, &in->params[i], sizeof v);
    return v;
}

/* Sources where the row wants them: SHARD_SUM's without gaps, optional ones anywhere. */
static bool check_arity(struct sh_infer *in, const struct sh_op_info *info)
{
    for (int i = 0; i < SH_MAX_SRC; i++) {
        if (in->src[i] ? i >= info->n_src_max : i < info->n_src_min) {
            if (in->op == SH_OP_CPY && i == 1 && !in->src[1]) continue; // a cast
            return sh_infer_refuse(in, "source %d is %s", i,
                                   in->src[i] ? "one too many" : "missing");
        }
    }
    return true;
}

static bool extent_in_place(const struct sh_tensor *t)
{
    if (t->extent == SH_EXTENT_NONE) return true;
    if (t->extent_dim < 0) return false;
    for (int d = t->extent_dim + 1; d < SH_MAX_DIMS; d++) {
        if (t->ne[d] != 1) return false;
    }
    return true;
}

bool sh_infer_run(struct sh_infer *in)
{
    const struct sh_op_info *info = sh_op_info(in->op);
    size_t bytes;

    in->out = (struct sh_tensor){.ne = {1, 1, 1, 1}, .view_src = -1};
    in->view_of = info->flags & SH_OPF_VIEW ? 0 : -1;
    in->code = SHOAL_OK;
    in->reason[0] = '\0';
    if (!check_arity(in, info) || !RULE[in->op](in)) return false;
    if (!extent_in_place(&in->out)) {
        return sh_infer_refuse(in, "a symbolic extent would not be the outermost dimension");
    }
    if (!sh_shape_ok(in->out.dtype, in->out.ne)) {
        return sh_infer_refuse(in, "result [%lld,%lld,%lld,%lld] of %s is no lawful shape",
                               (long long)in->out.ne[0], (long long)in->out.ne[1],
                               (long long)in->out.ne[2], (long long)in->out.ne[3],
                               sh_dtype_info(in->out.dtype)->name);
    }
    if (in->view_of < 0) sh_tensor_set_dense(&in->out);
    if (!sh_tensor_bytes(&in->out, &bytes)) return sh_infer_refuse(in, "result is too large");
    return true;
}
