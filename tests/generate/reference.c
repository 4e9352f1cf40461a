/* tests/generate/reference.c - formulas for the ops that have a short one; see reference.h. */
#include "reference.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/kernels.h"
#include "report.h"

/* A tensor's elements as doubles, dense, extents as bound. */
struct values {
    int64_t ne[SH_MAX_DIMS];
    int64_t n;
    double *v; /* NULL: absent */
};

struct check {
    struct gen *g;
    const struct run_outcome *o;
    const struct sh_tensor *t;
    struct values dst, src[3];
};

static struct sh_kernels g_scalar;

/* ---- reading --------------------------------------------------------------------------------*/

static void decode_row(const struct sh_tensor *t, const uint8_t *row, int64_t n, double *out)
{
    const struct sh_dtype_info *info = sh_dtype_info(t->dtype);
    float x[256];
    int32_t i32;
    int64_t i64;

    for (int64_t i = 0; i < n; i += info->block_len) {
        const uint8_t *p = row + (size_t)(i / info->block_len) * t->nb[0];
        if (t->dtype == SH_DTYPE_I32) {
            memcpy(&i32, p, sizeof i32);
            out[i] = i32;
        } else if (t->dtype == SH_DTYPE_I64) {
            memcpy(&i64, p, sizeof i64);
            out[i] = (double)i64;
        } else {
            g_scalar.decode[t->dtype](info->block_len, x, p);
            for (int64_t k = 0; k < info->block_len; k++)
                out[i + k] = (double)x[k];
        }
    }
}

static bool can_read(const struct sh_tensor *t)
{
    return t->dtype == SH_DTYPE_I32 || t->dtype == SH_DTYPE_I64 || g_scalar.decode[t->dtype];
}

/* False where the bytes cannot be seen or read. */
static bool read_values(const struct gen *g, const struct run_outcome *o, int32_t tensor,
                        struct values *out)
{
    const struct sh_tensor *t = gen_at(g, tensor);
    const uint8_t *p = run_bytes(g, o, tensor);
    int64_t at = 0;

    if (!g_scalar.decode[SH_DTYPE_F32]) sh_kernels_fill(&g_scalar, 0);
    if (!p || !can_read(t)) return false;
    run_extents(g, tensor, out->ne);
    out->n = out->ne[0] * out->ne[1] * out->ne[2] * out->ne[3];
    out->v = sh_calloc((size_t)out->n + 1, sizeof *out->v);
    SH_ASSERT(out->v);
    for (int64_t i3 = 0; i3 < out->ne[3] && out->n; i3++) {
        for (int64_t i2 = 0; i2 < out->ne[2]; i2++) {
            for (int64_t i1 = 0; i1 < out->ne[1]; i1++, at += out->ne[0])
                decode_row(
                    t, p + (size_t)i1 * t->nb[1] + (size_t)i2 * t->nb[2] + (size_t)i3 * t->nb[3],
                    out->ne[0], out->v + at);
        }
    }
    return true;
}

bool reference_is_finite(const struct gen *g, const struct run_outcome *o, int32_t tensor)
{
    struct values x = {.n = 0};
    bool finite = true;

    if (!read_values(g, o, tensor, &x)) return true;
    for (int64_t i = 0; i < x.n && finite; i++)
        finite = isfinite(x.v[i]);
    sh_free(x.v);
    return finite;
}

/* ---- indices --------------------------------------------------------------------------------*/

struct index {
    int64_t i[SH_MAX_DIMS];
};

static struct index index_of(const struct values *x, int64_t n)
{
    struct index at;

    for (int d = 0; d < SH_MAX_DIMS; d++) {
        at.i[d] = n % x->ne[d];
        n /= x->ne[d];
    }
    return at;
}

/* Element of x at an index, repeated over what is beyond. */
static double value_at(const struct values *x, struct index at)
{
    int64_t n = 0;

    for (int d = SH_MAX_DIMS - 1; d >= 0; d--)
        n = n * x->ne[d] + at.i[d] % x->ne[d];
    return x->v[n];
}

static struct index moved(struct index at, int d, int64_t to)
{
    at.i[d] = to;
    return at;
}

/* ---- formulas -------------------------------------------------------------------------------*/

/* The result at an index and how far off it may be; *bound is 0 on entry. */
typedef double formula(const struct check *c, struct index at, double *bound);

static double param(const struct check *c, int i)
{
    return (double)sh_param_f32(c->t, i);
}

static double binary(const struct check *c, struct index at, double *bound)
{
    const double a = value_at(&c->src[0], at), b = value_at(&c->src[1], at);

    *bound = 1e-6 * (fabs(a) + fabs(b));
    switch (c->t->op) {
    case SH_OP_ADD:
        return a + b;
    case SH_OP_SUB:
        return a - b;
    case SH_OP_MUL:
        return a * b;
    default:
        return a / b;
    }
}

static double add_id(const struct check *c, struct index at, double *bound)
{
    const struct index id = {{at.i[1], at.i[2], 0, 0}};
    const struct index from = {{at.i[0], (int64_t)value_at(&c->src[2], id), 0, 0}};

    (void)bound;
    return value_at(&c->src[0], at) + value_at(&c->src[1], from);
}

static double copy(const struct check *c, struct index at, double *bound)
{
    int64_t n = 0;

    (void)bound;
    for (int d = SH_MAX_DIMS - 1; d >= 0; d--) // element n of one is element n of the other
        n = n * c->dst.ne[d] + at.i[d];
    return c->src[0].v[n];
}

static double repeat(const struct check *c, struct index at, double *bound)
{
    (void)bound;
    return value_at(&c->src[0], at);
}

static double concat(const struct check *c, struct index at, double *bound)
{
    const int d = c->t->params[0];

    (void)bound;
    if (at.i[d] < c->src[0].ne[d]) return value_at(&c->src[0], at);
    return value_at(&c->src[1], moved(at, d, at.i[d] - c->src[0].ne[d]));
}

static double pad(const struct check *c, struct index at, double *bound)
{
    (void)bound;
    for (int d = 0; d < SH_MAX_DIMS; d++) {
        const int64_t n = c->src[0].ne[d];
        at.i[d] -= c->t->params[2 * d];
        if (at.i[d] >= 0 && at.i[d] < n) continue;
        if (!c->t->params[2 * SH_MAX_DIMS]) return 0;
        while (at.i[d] < 0)
            at.i[d] += n;
        at.i[d] %= n;
    }
    return value_at(&c->src[0], at);
}

static double get_rows(const struct check *c, struct index at, double *bound)
{
    const struct index id = {{at.i[1], at.i[2], at.i[3], 0}};

    (void)bound;
    return value_at(&c->src[0], moved(at, 1, (int64_t)value_at(&c->src[1], id)));
}

static double embed(const struct check *c, struct index at, double *bound)
{
    const int64_t id = (int64_t)c->src[1].v[at.i[1]];

    (void)bound;
    if (id >= 0) return value_at(&c->src[0], moved(at, 1, id));
    return value_at(&c->src[2], moved(at, 1, -1 - id));
}

static double unary(const struct check *c, struct index at, double *bound)
{
    const double x = value_at(&c->src[0], at);

    *bound = 2e-6;
    switch (c->t->params[0]) {
    case SH_UNARY_ABS:
        return fabs(x);
    case SH_UNARY_NEG:
        return -x;
    case SH_UNARY_TANH:
        return tanh(x);
    case SH_UNARY_RELU:
        return x > 0 ? x : 0;
    case SH_UNARY_SIGMOID:
        return 1 / (1 + exp(-x));
    case SH_UNARY_SILU:
        return x / (1 + exp(-x));
    case SH_UNARY_EXP:
        return exp(x);
    case SH_UNARY_SOFTPLUS:
        return x > 20 ? x : log1p(exp(x));
    case SH_UNARY_GELU_ERF:
        return x * 0.5 * (1 + erf(x / sqrt(2.0)));
    case SH_UNARY_GELU_QUICK:
        return x / (1 + exp(-1.702 * x));
    default:
        return NAN;
    }
}

static double like0(const struct check *c, struct index at, double *bound)
{
    const double x = value_at(&c->src[0], at);

    *bound = 1e-6;
    switch (c->t->op) {
    case SH_OP_SQR:
        return x * x;
    case SH_OP_SQRT:
        return sqrt(x);
    case SH_OP_SCALE:
        return x * param(c, 0) + param(c, 1);
    case SH_OP_CLAMP:
        return fmin(fmax(x, param(c, 0)), param(c, 1));
    default:
        return param(c, 0); // FILL
    }
}

/* Sums over a row of the first operand. */
static double row_sum(const struct check *c, struct index at, double shift, int power)
{
    double sum = 0;

    for (int64_t i = 0; i < c->src[0].ne[0]; i++) {
        const double x = value_at(&c->src[0], moved(at, 0, i)) - shift;
        sum += power == 1 ? x : x * x;
    }
    return sum;
}

static double norm(const struct check *c, struct index at, double *bound)
{
    const double x = value_at(&c->src[0], at), n = (double)c->src[0].ne[0], eps = param(c, 0);
    double mean, root;

    *bound = 1e-5;
    switch (c->t->op) {
    case SH_OP_RMS_NORM:
        return x / sqrt(row_sum(c, at, 0, 2) / n + eps);
    case SH_OP_L2_NORM:
        root = sqrt(row_sum(c, at, 0, 2));
        return x / (root > eps ? root : eps);
    default:
        mean = row_sum(c, at, 0, 1) / n;
        root = sqrt(row_sum(c, at, mean, 2) / n + eps);
        *bound = 1e-5 + 1e-6 * fabs(mean) / root; // of the difference x - mean
        return (x - mean) / root;
    }
}

static double sum_rows(const struct check *c, struct index at, double *bound)
{
    for (int64_t i = 0; i < c->src[0].ne[0]; i++)
        *bound += 1e-6 * fabs(value_at(&c->src[0], moved(at, 0, i)));
    return row_sum(c, at, 0, 1);
}

static double argmax(const struct check *c, struct index at, double *bound)
{
    const struct index row = {{0, at.i[0], 0, 0}};
    int64_t best = 0;

    (void)bound;
    for (int64_t i = 1; i < c->src[0].ne[0]; i++) {
        if (value_at(&c->src[0], moved(row, 0, i)) > value_at(&c->src[0], moved(row, 0, best)))
            best = i;
    }
    return (double)best;
}

/* Place i of a row in order has as many before it as it should. */
static double sorted(const struct check *c, struct index at, double *bound)
{
    const bool largest_first = c->t->op != SH_OP_ARGSORT || c->t->params[0] == 1;
    const int64_t rank = at.i[0];

    (void)bound;
    for (int64_t i = 0; i < c->src[0].ne[0]; i++) {
        const double x = value_at(&c->src[0], moved(at, 0, i));
        int64_t before = 0;
        for (int64_t j = 0; j < c->src[0].ne[0]; j++) {
            const double y = value_at(&c->src[0], moved(at, 0, j));
            before += y == x ? j < i : largest_first ? y > x : y < x;
        }
        if (before == rank) return (double)i;
    }
    return NAN;
}

static double soft_max(const struct check *c, struct index at, double *bound)
{
    const double sink = c->src[2].v ? c->src[2].v[at.i[2]] : -INFINITY;
    double largest = sink, sum, own = 0;

    if (param(c, 1) > 0) return NAN; // slopes have no short formula
    *bound = 2e-6;
    for (int pass = 0; pass < 2; pass++) {
        sum = exp(sink - largest);
        for (int64_t i = 0; i < c->src[0].ne[0]; i++) {
            const struct index here = moved(at, 0, i);
            double z = value_at(&c->src[0], here) * param(c, 0);
            if (c->src[1].v) z += value_at(&c->src[1], here);
            if (pass == 0) {
                largest = fmax(largest, z);
                continue;
            }
            sum += exp(z - largest);
            if (i == at.i[0]) own = exp(z - largest);
        }
        if (largest == -INFINITY) return NAN; // nothing is visible
    }
    return own / sum;
}

static double mul_mat(const struct check *c, struct index at, double *bound)
{
    const struct values *w = &c->src[0], *x = &c->src[1];
    const int64_t r2 = x->ne[2] / w->ne[2], r3 = x->ne[3] / w->ne[3];
    const struct index wi = {{0, at.i[0], at.i[2] / r2, at.i[3] / r3}};
    const struct index xi = {{0, at.i[1], at.i[2], at.i[3]}};
    double sum = 0;

    for (int64_t k = 0; k < w->ne[0]; k++) {
        const double p = value_at(w, moved(wi, 0, k)) * value_at(x, moved(xi, 0, k));
        sum += p;
        *bound += 1e-6 * fabs(p);
    }
    return sum;
}

static double rope(const struct check *c, struct index at, double *bound)
{
    const int32_t *p = c->t->params;
    const int64_t n_dims = p[1], channel = at.i[0] - p[15];
    const bool neox = p[2] == SH_ROPE_NEOX;
    const double x = value_at(&c->src[0], at);

    if ((p[2] & 8) || param(c, 7) != 0) return NAN; // axes, and extended contexts
    *bound = 1e-5;
    if (channel < 0 || channel >= n_dims) return x;
    const int64_t pair = neox ? channel % (n_dims / 2) : channel / 2;
    const bool second = neox ? channel >= n_dims / 2 : channel % 2;
    const int64_t other = neox ? (second ? -n_dims / 2 : n_dims / 2) : second ? -1 : 1;
    const double y = value_at(&c->src[0], moved(at, 0, at.i[0] + other));
    const double pos =
        c->src[1].v[at.i[2] * (c->src[1].ne[0] == 4 && c->src[1].ne[1] == c->dst.ne[2] ? 4 : 1)];
    double angle = pos * param(c, 6) * pow(param(c, 5), -2.0 * (double)pair / (double)n_dims);

    if (c->src[2].v) angle /= c->src[2].v[pair];
    return param(c, 8) *
           (second ? y * sin(angle) + x * cos(angle) : x * cos(angle) - y * sin(angle));
}

static formula *formula_of(const struct check *c)
{
    switch (c->t->op) {
    case SH_OP_ADD:
    case SH_OP_SUB:
    case SH_OP_MUL:
    case SH_OP_DIV:
        return binary;
    case SH_OP_ADD_ID:
        return add_id;
    case SH_OP_DUP:
    case SH_OP_CONT:
    case SH_OP_CPY:
        return copy;
    case SH_OP_REPEAT:
        return repeat;
    case SH_OP_CONCAT:
        return concat;
    case SH_OP_PAD:
        return pad;
    case SH_OP_GET_ROWS:
        return get_rows;
    case SH_OP_EMBED:
        return embed;
    case SH_OP_UNARY:
        return unary;
    case SH_OP_SQR:
    case SH_OP_SQRT:
    case SH_OP_SCALE:
    case SH_OP_CLAMP:
    case SH_OP_FILL:
        return like0;
    case SH_OP_NORM:
    case SH_OP_RMS_NORM:
    case SH_OP_L2_NORM:
        return norm;
    case SH_OP_SUM_ROWS:
        return sum_rows;
    case SH_OP_ARGMAX:
        return argmax;
    case SH_OP_ARGSORT:
    case SH_OP_TOP_K:
        return sorted;
    case SH_OP_SOFT_MAX:
        return soft_max;
    case SH_OP_MUL_MAT:
        return gen_at(c->g, c->t->src[0])->dtype == SH_DTYPE_F32 ? mul_mat : NULL;
    case SH_OP_ROPE:
        return rope;
    default:
        return NULL;
    }
}

/* What rounding to the result's type may change. */
static double type_bound(enum sh_dtype t, double want)
{
    switch (t) {
    case SH_DTYPE_F16:
        return 1e-3 * fabs(want) + 1e-7;
    case SH_DTYPE_BF16:
        return 8e-3 * fabs(want) + 1e-37;
    case SH_DTYPE_F32:
        return 2e-6 * fabs(want) + 1e-37;
    default:
        return 1; // integers are cut
    }
}

/* ---- one node -------------------------------------------------------------------------------*/

/* Did anybody write on the tensor after it was there? */
static bool is_intact(const struct gen *g, int32_t tensor)
{
    const int32_t root = gen_at(g, tensor)->view_src >= 0 ? gen_at(g, tensor)->view_src : tensor;

    for (int32_t n = 0; n < g->g.n_nodes; n++) {
        const struct sh_tensor *t = gen_at(g, g->g.nodes[n]);
        const unsigned flags = sh_op_info(t->op)->flags;
        if ((flags & SH_OPF_WRITES) && t->view_src == root) return false;
        for (int i = 0; i < SH_MAX_SRC && (flags & SH_OPF_STATE); i++) {
            if (t->src[i] < 0) continue;
            if (t->src[i] == root || gen_at(g, t->src[i])->view_src == root) return false;
        }
    }
    return true;
}

static bool compare_values(const struct check *c, formula *f, int32_t tensor)
{
    bool any = false;

    for (int64_t i = 0; i < c->dst.n; i++) {
        double bound = 0;
        const double want = f(c, index_of(&c->dst, i), &bound), got = c->dst.v[i];
        if (!isfinite(want) || fabs(want) > 6e4) continue;
        if (c->t->op != SH_OP_ARGMAX && c->t->op != SH_OP_ARGSORT && c->t->op != SH_OP_TOP_K)
            bound += type_bound(c->t->dtype, want);
        any = true;
        if (fabs(got - want) <= bound) continue;
        report_failure(c->g, "tensor #%d (%s), element %lld of %lld: %.9g, not %.9g", (int)tensor,
                       sh_op_info(c->t->op)->name, (long long)i, (long long)c->dst.n, got, want);
        return any;
    }
    return any;
}

static void check_node(struct check *c, int32_t tensor)
{
    formula *const f = formula_of(c);
    bool seen = f && !sh_dtype_is_block(c->t->dtype) && is_intact(c->g, tensor) &&
                read_values(c->g, c->o, tensor, &c->dst);

    for (int i = 0; i < 3 && seen; i++) {
        if (c->t->src[i] < 0 || c->t->src[i] == tensor) continue;
        seen = is_intact(c->g, c->t->src[i]) && reference_is_finite(c->g, c->o, c->t->src[i]) &&
               read_values(c->g, c->o, c->t->src[i], &c->src[i]);
    }
    if (seen && compare_values(c, f, tensor)) c->g->counts[c->t->op].checked++;
    sh_free(c->dst.v);
    for (int i = 0; i < 3; i++)
        sh_free(c->src[i].v);
}

void reference_check(struct gen *g, const struct run_outcome *o)
{
    if (!g_scalar.decode[SH_DTYPE_F32]) sh_kernels_fill(&g_scalar, 0);
    for (int32_t n = 0; n < g->g.n_nodes; n++) {
        const int32_t tensor = g->g.nodes[n];
        struct check c = {.g = g, .o = o, .t = gen_at(g, tensor)};
        if (run_computes(g, tensor)) check_node(&c, tensor);
    }
}
