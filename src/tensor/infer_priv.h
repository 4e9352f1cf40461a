/* tensor/infer_priv.h - type and shape of a result, from sources and parameters.
 *
 * One rule per row of the op table, sh_infer_<rule>(), named in the row's last column.  A rule
 * checks its sources and parameters, which may come from a hostile peer but have lawful shapes
 * and in-range numbers already, and fills in `out`.  It sees every dimension with its extent: a
 * symbolic one only matches the same symbol.
 *
 * Rules that leave something open (the shape of REPEAT, the type of a cast) take it from `claim`:
 * what the builder asks for, or what a peer says the result is.  The validator compares claim and
 * out afterwards, so a rule checks the claim only where it copies from it.
 *
 * Threads: pure functions.
 */
#ifndef TENSOR_INFER_PRIV_H
#define TENSOR_INFER_PRIV_H

#include "tensor/graph_priv.h"

struct sh_infer {
    enum sh_op op;
    const int32_t *params;
    const struct sh_tensor *src[SH_MAX_SRC]; /* NULL = absent; CPY without src[1] is a cast */
    const struct sh_tensor *claim;           /* NULL: none */
    struct sh_tensor out; /* dtype, ne, nb, extent, extent_dim, view_offs are filled in */
    int view_of;          /* source whose memory the result shares, -1 = none */
    enum shoal_status code;
    char reason[200]; /* why it was refused */
};

/* Check arity, apply the rule of in->op and lay out the result.  False: see code and reason. */
bool sh_infer_run(struct sh_infer *in);

/* Refuse with a reason; returns false.  The second form names the types of the sources. */
bool sh_infer_refuse(struct sh_infer *in, const char *fmt, ...) SHOAL_PRINTF(2, 3);
bool sh_infer_refuse_types(struct sh_infer *in);

/* Copy dimension `from` of t, with its extent, to dimension `to` of the result. */
void sh_infer_set_dim(struct sh_infer *in, int to, const struct sh_tensor *t, int from);
/* The result has type, extents and symbol of t. */
void sh_infer_set_like(struct sh_infer *in, const struct sh_tensor *t);
static inline void sh_infer_set_dtype(struct sh_infer *in, enum sh_dtype dtype)
{
    in->out.dtype = dtype;
}

/* Is dimension `dim` not symbolic? */
static inline bool sh_dim_fixed(const struct sh_tensor *t, int dim)
{
    return sh_tensor_extent_at(t, dim) == SH_EXTENT_NONE;
}
/* Equal in size and symbol? */
static inline bool sh_dim_same(const struct sh_tensor *a, int da, const struct sh_tensor *b, int db)
{
    return a->ne[da] == b->ne[db] && sh_tensor_extent_at(a, da) == sh_tensor_extent_at(b, db);
}
/* Fixed and of exactly this size? */
static inline bool sh_dim_is(const struct sh_tensor *t, int dim, int64_t n)
{
    return t->ne[dim] == n && sh_dim_fixed(t, dim);
}
/* Is every dimension from `dim` on a fixed 1? */
bool sh_dims_end(const struct sh_tensor *t, int dim);

/* Sets of types as bits. */
#define SH_TYPE_BIT(name) ((uint64_t)1 << SH_DTYPE_##name)
#define SH_TYPES_FLOAT (SH_TYPE_BIT(F32) | SH_TYPE_BIT(F16) | SH_TYPE_BIT(BF16))
static inline bool sh_types_have(uint64_t set, const struct sh_tensor *t)
{
    return (set >> t->dtype & 1) != 0;
}
/* Can values of this type be read as f32 (all but the integers, f64, and Q8_1, Q8_K)? */
static inline bool sh_type_readable(enum sh_dtype t)
{
    return sh_dtype_info(t)->partner != SH_DTYPE_COUNT;
}
float sh_infer_f32(const struct sh_infer *in, int i); /* parameter word i */
/* The parameter words of a rotary embedding of rows of `width`, and its frequency factors (may be
 * NULL). */
bool sh_infer_check_rope(struct sh_infer *in, int64_t width);
bool sh_infer_check_factors(struct sh_infer *in, const struct sh_tensor *factors);

#define X(name, wire, lo, hi, flags, rule) bool sh_infer_##rule(struct sh_infer *in);
SH_OPS(X)
#undef X

#endif
