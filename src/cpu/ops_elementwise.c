/* cpu/ops_elementwise.c - ops whose result element depends on one element of each operand.
 *
 * Rows go through the kernels in pieces: loaded as f32 (in place where they are that), computed,
 * stored in the result's type with one rounding.  The result may lie on an operand of the same
 * layout: a piece is read before it is written.
 */
#include <math.h>
#include <string.h>

#include "cpu/ops_priv.h"

/* ---- the loop over rows and pieces ----------------------------------------------------------*/

/* One piece: n elements of the operands as f32.  dst may be a. */
typedef void piece_fn(const struct sh_cpu_call *c, int64_t n, float *dst, const float *a,
                      const float *b);

struct rows {
    const struct sh_cpu_call *c;
    piece_fn *piece;
    bool binary;
};

/* n elements from i0 on of a row of b that repeats every b->ne[0] elements. */
static const float *load_repeated(const struct sh_cpu_call *c, const struct sh_cpu_tensor *b,
                                  const uint8_t *row, int64_t i0, int64_t n, float *tmp)
{
    const int64_t width = b->ne[0];
    float one[SH_CPU_CHUNK];

    if (i0 + n <= width) {
        return sh_cpu_load(c->k, b->dtype, row + sh_cpu_element_offset(b->dtype, b->nb[0], i0),
                           b->nb[0], n, tmp);
    }
    for (int64_t done = 0; done < n;) {
        const int64_t at = (i0 + done) % width;
        const int64_t len = width - at < n - done ? width - at : n - done;
        const float *x =
            sh_cpu_load(c->k, b->dtype, row + sh_cpu_element_offset(b->dtype, b->nb[0], at),
                        b->nb[0], len, one);
        memcpy(tmp + done, x, (size_t)len * sizeof *x);
        done += len;
    }
    return tmp;
}

static void run_row(const struct rows *r, int64_t row)
{
    const struct sh_cpu_call *c = r->c;
    const struct sh_cpu_tensor *a = &c->src[0], *b = &c->src[1], *d = &c->dst;
    const struct sh_cpu_index at = sh_cpu_index_of(d, row);
    const uint8_t *a_row = sh_cpu_at(a, at.i1, at.i2, at.i3);
    const uint8_t *b_row = r->binary ? sh_cpu_repeated(b, at) : NULL;
    uint8_t *d_row = sh_cpu_at(d, at.i1, at.i2, at.i3);
    const bool direct = d->dtype == SH_DTYPE_F32 && (d->nb[0] == sizeof(float) || d->ne[0] == 1);
    float ta[SH_CPU_CHUNK], tb[SH_CPU_CHUNK], td[SH_CPU_CHUNK];

    for (int64_t i = 0; i < d->ne[0]; i += SH_CPU_CHUNK) {
        const int64_t n = d->ne[0] - i < SH_CPU_CHUNK ? d->ne[0] - i : SH_CPU_CHUNK;
        uint8_t *out = d_row + sh_cpu_element_offset(d->dtype, d->nb[0], i);
        const float *xa = sh_cpu_load(
            c->k, a->dtype, a_row + sh_cpu_element_offset(a->dtype, a->nb[0], i), a->nb[0], n, ta);
        const float *xb = r->binary ? load_repeated(c, b, b_row, i, n, tb) : NULL;
        float *xd = direct ? sh_cpu_f32(out) : td;
        r->piece(c, n, xd, xa, xb);
        if (!direct) sh_cpu_store(c->k, d->dtype, out, d->nb[0], n, xd);
    }
}

static void run_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    for (int64_t row = begin; row < end; row++)
        run_row(arg, row);
}

static enum shoal_status run_pieces(struct sh_cpu_call *c, piece_fn *piece, bool binary)
{
    struct rows r = {.c = c, .piece = piece, .binary = binary};

    sh_pool_for(c->pool, sh_cpu_rows(&c->dst), sh_cpu_chunk(c->dst.ne[0]), run_rows, &r);
    return SHOAL_OK;
}

static enum shoal_status check_types(const struct sh_cpu_node *n, struct sh_cpu_need *need,
                                     struct shoal_error *err)
{
    (void)need;
    for (int s = 0; s < 2; s++) {
        if (n->src[s] && !sh_cpu_loads(n->k, n->src[s]->dtype))
            return sh_cpu_refuse_type(n->src[s], "an operand", err);
    }
    if (!sh_cpu_stores(n->k, n->t->dtype)) return sh_cpu_refuse_type(n->t, "a result", err);
    return SHOAL_OK;
}

/* ---- two operands ---------------------------------------------------------------------------*/

#define BINARY(name, kernel)                                                                       \
    static void kernel##_piece(const struct sh_cpu_call *c, int64_t n, float *dst, const float *a, \
                               const float *b)                                                     \
    {                                                                                              \
        c->k->kernel(n, dst, a, b);                                                                \
    }                                                                                              \
    static enum shoal_status run_##kernel(struct sh_cpu_call *c, struct shoal_error *err)          \
    {                                                                                              \
        (void)err;                                                                                 \
        return run_pieces(c, kernel##_piece, true);                                                \
    }                                                                                              \
    const struct sh_cpu_op sh_cpu_op_##name = {.check = check_types, .run = run_##kernel};

BINARY(ADD, add)
BINARY(SUB, sub)
BINARY(MUL, mul)
BINARY(DIV, div)

/* d[:,u,t] = a[:,u,t] + b[:,ids[u,t]] */
static void add_id_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct sh_cpu_call *c = arg;
    const struct sh_cpu_tensor *a = &c->src[0], *b = &c->src[1], *ids = &c->src[2];

    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        const struct sh_cpu_index at = sh_cpu_index_of(&c->dst, row);
        const int32_t id = sh_cpu_i32(ids, at.i1, at.i2, 0);
        c->k->add(c->dst.ne[0], sh_cpu_f32(sh_cpu_row(&c->dst, row)),
                  sh_cpu_f32(sh_cpu_at(a, at.i1, at.i2, at.i3)),
                  sh_cpu_f32(sh_cpu_at(b, id, 0, 0)));
    }
}

static enum shoal_status run_add_id(struct sh_cpu_call *c, struct shoal_error *err)
{
    enum shoal_status st = sh_cpu_check_index(&c->src[2], c->src[1].ne[1], err);

    if (st) return st;
    sh_pool_for(c->pool, sh_cpu_rows(&c->dst), sh_cpu_chunk(c->dst.ne[0]), add_id_rows, c);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_ADD_ID = {.run = run_add_id};

/* ---- one operand ----------------------------------------------------------------------------*/

#define UNARY(name, lower, call)                                                                   \
    static void lower##_piece(const struct sh_cpu_call *c, int64_t n, float *dst, const float *a,  \
                              const float *b)                                                      \
    {                                                                                              \
        (void)b;                                                                                   \
        call;                                                                                      \
    }                                                                                              \
    static enum shoal_status run_##lower(struct sh_cpu_call *c, struct shoal_error *err)           \
    {                                                                                              \
        (void)err;                                                                                 \
        return run_pieces(c, lower##_piece, false);                                                \
    }                                                                                              \
    const struct sh_cpu_op sh_cpu_op_##name = {.check = check_types, .run = run_##lower};

static void fill(int64_t n, float *dst, float value)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = value;
}

UNARY(SQR, sqr, c->k->sqr(n, dst, a))
UNARY(SQRT, sqrt, c->k->sqrt(n, dst, a))
UNARY(SCALE, scale, c->k->scale(n, dst, a, sh_param_f32(c->t, 0), sh_param_f32(c->t, 1)))
UNARY(CLAMP, clamp, c->k->clamp(n, dst, a, sh_param_f32(c->t, 0), sh_param_f32(c->t, 1)))
UNARY(FILL, fill, (void)a; fill(n, dst, sh_param_f32(c->t, 0)))

/* The kinds of UNARY without a kernel: plain loops over exact operations and our exp. */
static void sgn(int64_t n, float *dst, const float *x)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = x[i] > 0 ? 1.0f : x[i] < 0 ? -1.0f : 0.0f;
}

static void step(int64_t n, float *dst, const float *x)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = x[i] > 0 ? 1.0f : 0.0f;
}

static float hard_sigmoid(float x)
{
    const float y = (x + 3.0f) / 6.0f;

    return y < 0 ? 0.0f : y > 1 ? 1.0f : y;
}

static void hardsigmoid(int64_t n, float *dst, const float *x)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = hard_sigmoid(x[i]);
}

static void hardswish(int64_t n, float *dst, const float *x)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = x[i] * hard_sigmoid(x[i]);
}

/* exp(x) - 1: near 0 its Taylor series, as exp(x) has lost the small digits there. */
static float expm1_of(float x, float exp_x)
{
    if (!(fabsf(x) < 0.25f)) return exp_x - 1.0f;
    float p = 1.0f;
    for (int i = 9; i >= 2; i--)
        p = 1.0f + p * (x / (float)i);
    return x * p;
}

static void expm1_rows(const struct sh_kernels *k, int64_t n, float *dst, const float *x)
{
    float e[SH_CPU_CHUNK];

    k->exp(n, e, x);
    for (int64_t i = 0; i < n; i++)
        dst[i] = expm1_of(x[i], e[i]);
}

static void elu(const struct sh_kernels *k, int64_t n, float *dst, const float *x)
{
    float e[SH_CPU_CHUNK];

    k->exp(n, e, x);
    for (int64_t i = 0; i < n; i++)
        dst[i] = x[i] > 0 ? x[i] : expm1_of(x[i], e[i]);
}

/* p1 = beta + softplus(alpha_n), p2 = softplus(alpha_p), p3 = beta, p4 = eps */
static void xielu(const struct sh_cpu_call *c, int64_t n, float *dst, const float *x)
{
    const float neg = sh_param_f32(c->t, 1), pos = sh_param_f32(c->t, 2);
    const float beta = sh_param_f32(c->t, 3), eps = sh_param_f32(c->t, 4);
    float low[SH_CPU_CHUNK], e[SH_CPU_CHUNK];

    for (int64_t i = 0; i < n; i++)
        low[i] = x[i] < eps ? x[i] : eps;
    c->k->exp(n, e, low);
    for (int64_t i = 0; i < n; i++) {
        if (x[i] > 0) {
            dst[i] = pos * x[i] * x[i] + beta * x[i];
        } else {
            dst[i] = (expm1_of(low[i], e[i]) - x[i]) * neg + beta * x[i];
        }
    }
}

#define ROUNDING(name, function)                                                                   \
    static void name(int64_t n, float *dst, const float *x)                                        \
    {                                                                                              \
        for (int64_t i = 0; i < n; i++)                                                            \
            dst[i] = function(x[i]);                                                               \
    }
ROUNDING(round_down, floorf)
ROUNDING(round_up, ceilf)
ROUNDING(round_half_away, roundf)
ROUNDING(round_to_zero, truncf)

static void unary_piece(const struct sh_cpu_call *c, int64_t n, float *dst, const float *x,
                        const float *b)
{
    const struct sh_kernels *k = c->k;

    (void)b;
    switch ((enum sh_unary)c->t->params[0]) {
    case SH_UNARY_ABS:
        k->abs(n, dst, x);
        break;
    case SH_UNARY_SGN:
        sgn(n, dst, x);
        break;
    case SH_UNARY_NEG:
        k->neg(n, dst, x);
        break;
    case SH_UNARY_STEP:
        step(n, dst, x);
        break;
    case SH_UNARY_TANH:
        k->tanh(n, dst, x);
        break;
    case SH_UNARY_ELU:
        elu(k, n, dst, x);
        break;
    case SH_UNARY_RELU:
        k->relu(n, dst, x);
        break;
    case SH_UNARY_SIGMOID:
        k->sigmoid(n, dst, x);
        break;
    case SH_UNARY_GELU:
        k->gelu(n, dst, x);
        break;
    case SH_UNARY_GELU_QUICK:
        k->gelu_quick(n, dst, x);
        break;
    case SH_UNARY_SILU:
        k->silu(n, dst, x);
        break;
    case SH_UNARY_HARDSWISH:
        hardswish(n, dst, x);
        break;
    case SH_UNARY_HARDSIGMOID:
        hardsigmoid(n, dst, x);
        break;
    case SH_UNARY_EXP:
        k->exp(n, dst, x);
        break;
    case SH_UNARY_EXPM1:
        expm1_rows(k, n, dst, x);
        break;
    case SH_UNARY_SOFTPLUS:
        k->softplus(n, dst, x);
        break;
    case SH_UNARY_GELU_ERF:
        k->gelu_erf(n, dst, x);
        break;
    case SH_UNARY_XIELU:
        xielu(c, n, dst, x);
        break;
    case SH_UNARY_FLOOR:
        round_down(n, dst, x);
        break;
    case SH_UNARY_CEIL:
        round_up(n, dst, x);
        break;
    case SH_UNARY_ROUND:
        round_half_away(n, dst, x);
        break;
    case SH_UNARY_TRUNC:
        round_to_zero(n, dst, x);
        break;
    case SH_UNARY_COUNT: // the validator refuses all others
        break;
    }
}

static enum shoal_status run_unary(struct sh_cpu_call *c, struct shoal_error *err)
{
    (void)err;
    return run_pieces(c, unary_piece, false);
}

const struct sh_cpu_op sh_cpu_op_UNARY = {.check = check_types, .run = run_unary};

/* ---- gated units ----------------------------------------------------------------------------*/

/* act(x) * g where a limit bounds both.  dst may be x or g. */
static void limited_glu(const struct sh_cpu_call *c, int64_t n, float *dst, const float *x,
                        const float *g)
{
    const bool oai = c->t->params[0] == SH_GLU_SWIGLU_OAI;
    const float limit = sh_param_f32(c->t, 3), alpha = sh_param_f32(c->t, 2);
    float xl[SH_CPU_CHUNK], gl[SH_CPU_CHUNK], s[SH_CPU_CHUNK];

    c->k->clamp(n, xl, x, -INFINITY, limit);
    c->k->clamp(n, gl, g, -limit, limit);
    if (oai) {
        c->k->scale(n, s, xl, alpha, 0.0f);
        c->k->sigmoid(n, s, s);
        c->k->mul(n, s, xl, s);
        c->k->scale(n, gl, gl, 1.0f, 1.0f);
    } else {
        c->k->silu(n, s, xl);
    }
    c->k->mul(n, dst, s, gl);
}

static void glu_piece(const struct sh_cpu_call *c, int64_t n, float *dst, const float *x,
                      const float *g)
{
    float act[SH_CPU_CHUNK];

    switch ((enum sh_glu)c->t->params[0]) {
    case SH_GLU_REGLU:
        c->k->reglu(n, dst, x, g);
        break;
    case SH_GLU_GEGLU:
        c->k->geglu(n, dst, x, g);
        break;
    case SH_GLU_SWIGLU:
        c->k->swiglu(n, dst, x, g);
        break;
    case SH_GLU_GEGLU_ERF:
        c->k->gelu_erf(n, act, x);
        c->k->mul(n, dst, act, g);
        break;
    case SH_GLU_GEGLU_QUICK:
        c->k->gelu_quick(n, act, x);
        c->k->mul(n, dst, act, g);
        break;
    case SH_GLU_SWIGLU_OAI:
    case SH_GLU_SWIGLU_CLAMP:
        limited_glu(c, n, dst, x, g);
        break;
    case SH_GLU_COUNT: // the validator refuses all others
        break;
    }
}

static enum shoal_status run_glu(struct sh_cpu_call *c, struct shoal_error *err)
{
    (void)err;
    if (!c->src[1].data) { // both halves lie in each row of the one operand
        const bool swapped = c->t->params[1] != 0;
        const size_t half = sh_cpu_element_offset(c->src[0].dtype, c->src[0].nb[0], c->dst.ne[0]);
        c->src[1] = c->src[0];
        c->src[swapped ? 0 : 1].data += half;
        c->src[0].ne[0] = c->src[1].ne[0] = c->dst.ne[0];
    }
    return run_pieces(c, glu_piece, true);
}

const struct sh_cpu_op sh_cpu_op_GLU = {.check = check_types, .run = run_glu};
