/* tests/interop/stock_ops_cases.c - the families: every op that graphs of language models hold. */
#include "stock_ops.h"

#include <math.h>

#define CTX b->ctx

static const enum ggml_type FLOATS[] = {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16,
                                        GGML_TYPE_COUNT};
static const enum ggml_type PLAIN_TYPES[] = {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16,
                                             GGML_TYPE_I32, GGML_TYPE_I16, GGML_TYPE_COUNT};
/* All that weights may have, but for iq1, iq2 and iq3, which a worker does not read. */
static const enum ggml_type WEIGHTS[] = {
    GGML_TYPE_F32,    GGML_TYPE_F16,   GGML_TYPE_BF16,  GGML_TYPE_Q4_0,   GGML_TYPE_Q4_1,
    GGML_TYPE_Q5_0,   GGML_TYPE_Q5_1,  GGML_TYPE_Q8_0,  GGML_TYPE_Q2_K,   GGML_TYPE_Q3_K,
    GGML_TYPE_Q4_K,   GGML_TYPE_Q5_K,  GGML_TYPE_Q6_K,  GGML_TYPE_IQ4_NL, GGML_TYPE_MXFP4,
    GGML_TYPE_IQ4_XS, GGML_TYPE_TQ1_0, GGML_TYPE_TQ2_0, GGML_TYPE_NVFP4,  GGML_TYPE_Q1_0,
    GGML_TYPE_Q2_0,   GGML_TYPE_COUNT};

/* Those that are written while a model runs. */
static const enum ggml_type WRITTEN[] = {
    GGML_TYPE_F32,  GGML_TYPE_F16,  GGML_TYPE_BF16, GGML_TYPE_Q4_0,   GGML_TYPE_Q4_1,
    GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_Q8_0, GGML_TYPE_IQ4_NL, GGML_TYPE_COUNT};
/* Those that may be written, too, but by no model: our search for scales is another, as good. */
static const enum ggml_type WRITABLE[] = {GGML_TYPE_Q2_K, GGML_TYPE_Q3_K, GGML_TYPE_Q4_K,
                                          GGML_TYPE_Q5_K, GGML_TYPE_Q6_K, GGML_TYPE_MXFP4,
                                          GGML_TYPE_COUNT};

typedef struct ggml_tensor *unary_fn(struct ggml_context *, struct ggml_tensor *);
typedef struct ggml_tensor *binary_fn(struct ggml_context *, struct ggml_tensor *,
                                      struct ggml_tensor *);

/* ---- elementwise ----------------------------------------------------------------------------*/

static struct ggml_tensor *binary(struct build *b)
{
    static binary_fn *const fn[] = {ggml_add, ggml_sub, ggml_mul, ggml_div};
    static const int64_t shape[][4] = {
        {70, 6, 4, 2}, {70, 1, 1, 1}, {1, 6, 1, 2}, {35, 3, 2, 1}, {1, 1, 1, 1}};
    binary_fn *const f = fn[choose(b, 4)];
    const enum ggml_type ta = choose_type(b, FLOATS);
    const enum ggml_type tb = ta == GGML_TYPE_F32 || choose(b, 2) ? GGML_TYPE_F32 : ta;
    const int64_t *n = shape[choose(b, 5)];
    struct ggml_tensor *x = source(b, ta, PLAIN, ROWS_PACKED, 70, 6, 4, 2);

    b->bound = ta == GGML_TYPE_F32 ? 1e-12 : 1e-7;
    return f(CTX, x, source(b, tb, POSITIVE, DENSE | COLUMNS, n[0], n[1], n[2], n[3]));
}

static struct ggml_tensor *binary_inplace(struct build *b)
{
    static binary_fn *const fn[] = {ggml_add_inplace, ggml_sub_inplace, ggml_mul_inplace,
                                    ggml_div_inplace};
    binary_fn *const f = fn[choose(b, 4)];
    const enum ggml_type t = choose_type(b, FLOATS);
    struct ggml_tensor *x = source(b, t, PLAIN, ROWS_PACKED, 70, 6, 4, 2);

    return f(CTX, x, leaf(b, GGML_TYPE_F32, POSITIVE, 70, choose(b, 2) ? 6 : 1, 1, 1));
}

static struct ggml_tensor *add_cast(struct build *b)
{
    static const enum ggml_type a[] = {GGML_TYPE_F16,  GGML_TYPE_BF16, GGML_TYPE_Q4_0,
                                       GGML_TYPE_Q8_0, GGML_TYPE_Q4_K, GGML_TYPE_COUNT};
    const enum ggml_type t = choose_type(b, a);
    struct ggml_tensor *x = leaf(b, t, PLAIN, 256, 5, 2, 1);
    struct ggml_tensor *y = leaf(b, GGML_TYPE_F32, PLAIN, 256, 5, 2, 1);

    return t == GGML_TYPE_Q4_K || choose(b, 2) ? ggml_add_cast(CTX, x, y, GGML_TYPE_F32)
                                               : ggml_add(CTX, x, y);
}

static struct ggml_tensor *add_chain(struct build *b)
{
    struct ggml_tensor *x = leaf(b, GGML_TYPE_F32, PLAIN, 48, 4, 9, 1), *sum = NULL;

    for (int i = 0; i < 4; i++) { // what the sum of experts does
        struct ggml_tensor *v = ggml_view_2d(CTX, x, 48, 9, x->nb[2], (size_t)i * x->nb[1]);
        sum = sum ? ggml_add(CTX, sum, v) : v;
    }
    return sum;
}

static struct ggml_tensor *add_id(struct build *b)
{
    struct ggml_tensor *ids = indices(b, GGML_TYPE_I32, INDEX, 0, 7, 5, 11, 1);

    if (choose(b, 2)) ids = ggml_view_2d(CTX, ids, 3, 11, ids->nb[1], 0);
    return ggml_add_id(CTX, source(b, GGML_TYPE_F32, PLAIN, DENSE | GAPS, 33, ids->ne[0], 11, 1),
                       leaf(b, GGML_TYPE_F32, PLAIN, 33, 7, 1, 1), ids);
}

static struct ggml_tensor *simple(struct build *b)
{
    static unary_fn *const fn[] = {ggml_sqr, ggml_sqrt, ggml_sqr_inplace, ggml_sqrt_inplace};
    unary_fn *const f = fn[choose(b, 4)];

    return f(CTX, source(b, choose_type(b, FLOATS), POSITIVE, ROWS_PACKED, 37, 5, 3, 2));
}

static struct ggml_tensor *unary(struct build *b)
{
    const enum ggml_unary_op op = (enum ggml_unary_op)choose(b, GGML_UNARY_OP_COUNT);
    const enum ggml_type t = choose_type(b, FLOATS);
    const enum values values = choose(b, 2) ? WIDE : PLAIN;

    if (t == GGML_TYPE_BF16) b->bound = 1e-5; // tables of f16 there, formulas here
    if (op == GGML_UNARY_OP_XIELU)
        return ggml_xielu(CTX, leaf(b, t, values, 37, 5, 3, 2), 0.8f, 0.7f, 0.5f, -1e-6f);
    struct ggml_tensor *x = source(b, t, values, ROWS_PACKED, 37, 5, 3, 2);
    return choose(b, 2) ? ggml_unary_inplace(CTX, x, op) : ggml_unary(CTX, x, op);
}

static struct ggml_tensor *glu(struct build *b)
{
    const enum ggml_glu_op op = (enum ggml_glu_op)choose(b, GGML_GLU_OP_COUNT);
    const bool limited = op == GGML_GLU_OP_SWIGLU_OAI || op == GGML_GLU_OP_SWIGLU_CLAMP;
    const enum ggml_type t = op == GGML_GLU_OP_SWIGLU_OAI     ? GGML_TYPE_F32
                             : op == GGML_GLU_OP_SWIGLU_CLAMP ? FLOATS[choose(b, 2)]
                                                              : choose_type(b, FLOATS);
    const int form = limited ? 2 : choose(b, 3);

    b->bound = t == GGML_TYPE_BF16 ? 1e-5 : 2e-7; // tables there, formulas here
    if (form < 2)
        return ggml_glu(CTX, source(b, t, WIDE, DENSE | WIDER, 74, 6, 3, 1), op, form == 1);
    struct ggml_tensor *x = source(b, t, WIDE, DENSE | WIDER, 37, 6, 3, 1);
    struct ggml_tensor *g = source(b, t, WIDE, DENSE | WIDER, 37, 6, 3, 1);
    if (op == GGML_GLU_OP_SWIGLU_OAI) return ggml_swiglu_oai(CTX, x, g, 1.702f, 7);
    if (op == GGML_GLU_OP_SWIGLU_CLAMP) return ggml_swiglu_clamp(CTX, x, g, 7);
    return ggml_glu_split(CTX, x, g, op);
}

static struct ggml_tensor *scale(struct build *b)
{
    const int form = choose(b, 5);
    const enum ggml_type t = choose(b, 2) ? GGML_TYPE_BF16 : GGML_TYPE_F32;
    struct ggml_tensor *x = leaf(b, t, PLAIN, 129, 7, 3, 2);

    switch (form) {
    case 0:
        return ggml_scale(CTX, x, 0.3f);
    case 1:
        return ggml_scale_inplace(CTX, x, 0);
    case 2:
        return ggml_scale_bias(CTX, x, 2.5f, -1.25f);
    case 3:
        return ggml_scale_bias_inplace(CTX, x, -2.5f, 0.125f);
    default:
        return ggml_scale_inplace(CTX, ggml_view_2d(CTX, x, 129, 2, x->nb[1], x->nb[2]), 3);
    }
}

static struct ggml_tensor *clamp_and_fill(struct build *b)
{
    const enum ggml_type t = choose(b, 2) ? GGML_TYPE_F16 : GGML_TYPE_F32;

    b->bound = 0;
    switch (choose(b, 5)) {
    case 0:
        return ggml_clamp(CTX, leaf(b, t, PLAIN, 77, 5, 2, 1), -0.5f, 0.25f);
    case 1:
        return ggml_clamp(CTX, leaf(b, t, POSITIVE, 1, 9, 1, 1), 6.1e-5f, INFINITY);
    case 2:
        return ggml_clamp_inplace(CTX, leaf(b, t, PLAIN, 77, 5, 2, 1), -0.5f, 0.25f);
    case 3:
        return ggml_fill(CTX, leaf(b, t, PLAIN, 77, 5, 2, 1), 0.7f);
    default:
        return ggml_fill_inplace(CTX, leaf(b, t, PLAIN, 77, 5, 2, 1), -INFINITY);
    }
}

/* ---- rows -----------------------------------------------------------------------------------*/

static struct ggml_tensor *norms(struct build *b)
{
    static const int64_t width[] = {64, 33, 1, 600};
    static const float eps[] = {1e-6f, 0.1f, 0};
    const int op = choose(b, 5);
    const int64_t n = width[choose(b, 4)];
    const float e = eps[choose(b, n == 1 ? 2 : 3)]; // of one number nothing is left
    struct ggml_tensor *x =
        source(b, GGML_TYPE_F32, PLAIN, op == 1 || op == 3 ? ROWS_PACKED : ANY, n, 6, 3, 2);

    switch (op) {
    case 0:
        return ggml_norm(CTX, x, e);
    case 1:
        return ggml_rms_norm(CTX, x, e);
    case 2:
        return ggml_l2_norm(CTX, x, e);
    case 3:
        return ggml_rms_norm_inplace(CTX, x, e);
    default:
        return ggml_norm_inplace(CTX, x, e);
    }
}

/* Followed by what models put behind it: an implementation may fuse them. */
static struct ggml_tensor *norm_chain(struct build *b)
{
    struct ggml_tensor *x = source(b, GGML_TYPE_F32, PLAIN, ROWS_PACKED, 64, 6, 5, 1);
    struct ggml_tensor *w = leaf(b, GGML_TYPE_F32, PLAIN, 64, 1, 1, 1);

    x = choose(b, 2) ? ggml_norm(CTX, x, 1e-5f) : ggml_rms_norm(CTX, x, 1e-5f);
    x = choose(b, 2) ? ggml_mul(CTX, x, w) : ggml_mul_inplace(CTX, x, w);
    return choose(b, 2) ? ggml_add(CTX, x, leaf(b, GGML_TYPE_F32, PLAIN, 64, 1, 1, 1)) : x;
}

static struct ggml_tensor *sums_and_orders(struct build *b)
{
    static const int64_t width[] = {1, 7, 64, 1000};
    const int op = choose(b, 6);
    const int64_t n = width[choose(b, 4)];
    const bool sums = op == 0, plane = op == 1;
    struct ggml_tensor *x =
        plane ? leaf(b, GGML_TYPE_F32, PLAIN, n, 9, 1, 1)
              : source(b, GGML_TYPE_F32, PLAIN, sums ? ROWS_PACKED : DENSE, n, 9, 2, 2);

    b->bound = sums ? 1e-12 : 0;
    switch (op) {
    case 0:
        return ggml_sum_rows(CTX, x);
    case 1:
        return ggml_argmax(CTX, x);
    case 2:
        return ggml_argsort(CTX, x, GGML_SORT_ORDER_ASC);
    case 3:
        return ggml_argsort(CTX, x, GGML_SORT_ORDER_DESC);
    case 4:
        b->unordered = true;
        return ggml_top_k(CTX, x, n < 8 ? 1 : 8);
    default:
        b->unordered = true;
        return ggml_top_k(CTX, x, (int)n);
    }
}

static struct ggml_tensor *soft_max(struct build *b)
{
    static const int64_t width[] = {15, 64, 1025};
    const int64_t n = width[choose(b, 3)];
    struct ggml_tensor *x = leaf(b, GGML_TYPE_F32, WIDE, n, 5, 4, 2), *mask = NULL, *y;
    const int kind = choose(b, 5);
    float bias = 0;

    if (kind) { // rows of padding, masks for all heads or some
        mask = leaf(b, kind % 2 ? GGML_TYPE_F16 : GGML_TYPE_F32, MASK, n, kind > 2 ? 8 : 5,
                    kind > 2 ? 2 : 1, kind > 3 ? 2 : 1);
        bias = choose(b, 2) ? 8.0f : 0;
    }
    b->bound = 1e-10;
    y = choose(b, 2) ? ggml_soft_max_ext_inplace(CTX, x, mask, 0.125f, bias)
                     : ggml_soft_max_ext(CTX, x, mask, 0.125f, bias);
    if (choose(b, 2)) ggml_soft_max_add_sinks(y, leaf(b, GGML_TYPE_F32, WIDE, 4, 1, 1, 1));
    return y;
}

/* ---- moving ---------------------------------------------------------------------------------*/

static struct ggml_tensor *dup(struct build *b)
{
    const enum ggml_type t = choose(b, 2) ? GGML_TYPE_Q8_0 : choose_type(b, PLAIN_TYPES);

    b->bound = 0;
    return ggml_dup(CTX, source(b, t, PLAIN, t == GGML_TYPE_Q8_0 ? DENSE : ANY, 64, 5, 3, 2));
}

static struct ggml_tensor *cont(struct build *b)
{
    const enum ggml_type t = choose_type(b, PLAIN_TYPES);
    struct ggml_tensor *x = source(b, t, PLAIN, ANY, 10, 6, 4, 3);

    b->bound = 0;
    switch (choose(b, 4)) {
    case 0:
        return ggml_cont(CTX, x);
    case 1:
        return ggml_cont_2d(CTX, x, 40, 18);
    case 2:
        return ggml_cont_4d(CTX, x, 3, 4, 6, 10);
    default:
        return ggml_cont(CTX, ggml_permute(CTX, x, 1, 3, 0, 2));
    }
}

static struct ggml_tensor *views(struct build *b)
{
    struct ggml_tensor *x = leaf(b, GGML_TYPE_F32, PLAIN, 24, 6, 4, 3);

    b->bound = 0;
    switch (choose(b, 5)) {
    case 0:
        x = ggml_reshape_3d(CTX, x, 48, 9, 4);
        break;
    case 1:
        x = ggml_view_3d(CTX, x, 7, 2, 3, x->nb[2], x->nb[3], x->nb[1] + 12);
        break;
    case 2:
        x = ggml_permute(CTX, ggml_reshape_4d(CTX, x, 4, 6, 24, 3), 2, 0, 3, 1);
        break;
    case 3:
        x = ggml_transpose(CTX, ggml_view_2d(CTX, x, 5, 6, x->nb[1], x->nb[3]));
        break;
    default:
        x = ggml_view_1d(CTX, x, 100, 400);
        break;
    }
    return ggml_cont(CTX, x);
}

/* Whole blocks of any type to f32 and back, casts, and into a part of another tensor. */
static struct ggml_tensor *copy_out(struct build *b)
{
    const enum ggml_type t = choose_type(b, WEIGHTS);
    struct ggml_tensor *x = source(b, t, PLAIN, ROWS_PACKED, 512, 3, 2, 1);

    b->bound = 0;
    switch (choose(b, 3)) {
    case 0:
        return ggml_cast(CTX, x, GGML_TYPE_F32);
    case 1:
        return ggml_cpy(CTX, x, leaf(b, GGML_TYPE_F32, PLAIN, 256, 4, 3, 1));
    default: {
        struct ggml_tensor *to = leaf(b, GGML_TYPE_F32, PLAIN, 520, 3, 2, 1);
        return ggml_cpy(CTX, x, ggml_view_3d(CTX, to, 512, 3, 2, to->nb[1], to->nb[2], 16));
    }
    }
}

/* The type of a target, with its bound: what llama.cpp's own tests allow, or the type's error. */
static enum ggml_type written_type(struct build *b)
{
    const bool used = choose(b, 2) == 0;

    b->bound = used ? 1e-6 : 0.1;
    return used ? choose_type(b, WRITTEN) : choose_type(b, WRITABLE);
}

/* Targets of the same shape only: with others llama.cpp's own CPU writes beside its memory. */
static struct ggml_tensor *copy_in(struct build *b)
{
    const enum ggml_type from = choose_type(b, FLOATS), t = written_type(b);
    struct ggml_tensor *x = source(b, from, PLAIN, ROWS_PACKED, 512, 3, 2, 1);

    // Numbers of bf16 lie just between two steps now and then; both are right.
    if (from == GGML_TYPE_BF16 && b->bound < 1e-3) b->bound = 1e-3;
    return choose(b, 2) ? ggml_cast(CTX, x, t) : ggml_cpy(CTX, x, leaf(b, t, PLAIN, 512, 3, 2, 1));
}

static struct ggml_tensor *copy_plain(struct build *b)
{
    static const enum ggml_type types[] = {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16,
                                           GGML_TYPE_COUNT};
    struct ggml_tensor *x, *to;

    b->bound = 0;
    if (choose(b, 2)) { // integers
        x = indices(b, GGML_TYPE_I32, INDEX, -9, 9, 35, 4, 3);
        return choose(b, 2)
                   ? ggml_cast(CTX, x, GGML_TYPE_F32)
                   : ggml_cast(CTX, leaf(b, GGML_TYPE_F32, WIDE, 35, 4, 3, 1), GGML_TYPE_I32);
    }
    x = source(b, choose_type(b, types), PLAIN, ANY, 32, 7, 5, 3);
    to = leaf(b, choose_type(b, types), PLAIN, 48, 10, 7, 4);
    switch (choose(b, 3)) {
    case 0:
        to = leaf(b, to->type, PLAIN, 6, 7, 9, 32);
        to = ggml_view_4d(CTX, to, 3, 5, 7, 32, to->nb[1], to->nb[2], to->nb[3], to->nb[2]);
        return ggml_cpy(CTX, x, to);
    case 1:
        to = ggml_view_4d(CTX, to, 32, 7, 5, 3, to->nb[1], to->nb[2], to->nb[3], to->nb[2]);
        return ggml_cpy(CTX, x, to);
    default:
        return ggml_cpy(CTX, x, leaf(b, to->type, PLAIN, 3, 5, 7, 32));
    }
}

static struct ggml_tensor *repeat(struct build *b)
{
    static const int64_t n[][4] = {{20, 9, 4, 2}, {10, 3, 2, 2}, {10, 9, 8, 6}, {30, 3, 4, 4}};
    const int64_t *to = n[choose(b, 4)];
    struct ggml_tensor *x = source(b, choose_type(b, PLAIN_TYPES), PLAIN, ROWS_PACKED, 10, 3, 2, 2);

    b->bound = 0;
    return ggml_repeat_4d(CTX, x, to[0], to[1], to[2], to[3]);
}

static struct ggml_tensor *concat(struct build *b)
{
    static const enum ggml_type types[] = {GGML_TYPE_F32,  GGML_TYPE_F16,  GGML_TYPE_I32,
                                           GGML_TYPE_Q8_0, GGML_TYPE_Q4_K, GGML_TYPE_COUNT};
    const enum ggml_type t = choose_type(b, types);
    const int dim = choose(b, 4);
    int64_t n[4] = {256, 3, 2, 2};

    b->bound = 0;
    struct ggml_tensor *x = source(b, t, PLAIN, ROWS_PACKED, n[0], n[1], n[2], n[3]);
    n[dim] = dim ? 5 : 512;
    return ggml_concat(CTX, x, source(b, t, PLAIN, ROWS_PACKED, n[0], n[1], n[2], n[3]), dim);
}

static struct ggml_tensor *pad(struct build *b)
{
    static const int p[][8] = {{0, 3, 0, 2, 0, 0, 0, 0},
                               {2, 1, 1, 2, 1, 1, 0, 1},
                               {5, 5, 2, 3, 0, 2, 1, 1},
                               {0, 0, 0, 0, 0, 0, 0, 0}};
    const int *q = p[choose(b, 4)];
    struct ggml_tensor *x = source(b, GGML_TYPE_F32, PLAIN, ANY, 7, 5, 3, 2);

    b->bound = 0;
    return choose(b, 2)
               ? ggml_pad_ext_circular(CTX, x, q[0], q[1], q[2], q[3], q[4], q[5], q[6], q[7])
               : ggml_pad_ext(CTX, x, q[0], q[1], q[2], q[3], q[4], q[5], q[6], q[7]);
}

static struct ggml_tensor *get_rows(struct build *b)
{
    const enum ggml_type t = choose(b, 2) ? choose_type(b, WEIGHTS) : GGML_TYPE_I32;
    struct ggml_tensor *x = source(b, t, PLAIN, ROWS_PACKED, 512, 9, 2, 3);
    struct ggml_tensor *ids = indices(b, GGML_TYPE_I32, INDEX, 0, 9, 7, 2, 3);

    b->bound = 0;
    if (choose(b, 2)) ids = ggml_view_3d(CTX, ids, 4, 2, 3, ids->nb[1], ids->nb[2], 8);
    return ggml_get_rows(CTX, x, ids);
}

/* Probabilities of the chosen experts, as models look them up. */
static struct ggml_tensor *get_chosen(struct build *b)
{
    struct ggml_tensor *x = leaf(b, GGML_TYPE_F32, PLAIN, 16, 9, 1, 1);
    struct ggml_tensor *order = ggml_argsort(CTX, x, GGML_SORT_ORDER_DESC);

    order = ggml_view_2d(CTX, order, 4, 9, order->nb[1], 0);
    return ggml_get_rows(CTX, ggml_reshape_3d(CTX, x, 1, 16, 9), order);
}

static struct ggml_tensor *set_rows(struct build *b)
{
    const enum ggml_type t = written_type(b);
    const enum ggml_type from = choose(b, 2) ? GGML_TYPE_F16 : GGML_TYPE_F32;
    const int64_t c2 = choose(b, 2) ? 4 : 2;
    struct ggml_tensor *to = leaf(b, t, PLAIN, 512, 11, 4, 3);
    struct ggml_tensor *x = source(b, from, PLAIN, DENSE | GAPS | TURNED, 256, 6, 4, 3);
    struct ggml_tensor *ids =
        indices(b, choose(b, 2) ? GGML_TYPE_I32 : GGML_TYPE_I64, DISTINCT, 0, 11, 6, c2, 3);

    return ggml_set_rows(
        CTX, ggml_view_4d(CTX, to, 256, 11, 4, 3, to->nb[1], to->nb[2], to->nb[3], to->nb[1] / 2),
        x, ids);
}

/* Single elements, as values go into a cache that lies transposed. */
static struct ggml_tensor *set_elements(struct build *b)
{
    const enum ggml_type t = choose_type(b, FLOATS);
    struct ggml_tensor *x = leaf(b, GGML_TYPE_F32, PLAIN, 24, 5, 1, 1);
    struct ggml_tensor *to = leaf(b, t, PLAIN, 24, 32, 1, 1);

    b->bound = 0;
    return ggml_set_rows(CTX, ggml_reshape_2d(CTX, to, 1, 24 * 32),
                         ggml_reshape_2d(CTX, x, 1, 24 * 5),
                         indices(b, GGML_TYPE_I64, DISTINCT, 0, 24 * 32, 24 * 5, 1, 1));
}

/* ---- products -------------------------------------------------------------------------------*/

/* What activations that round the other way cost; a worker does not round them at all for some. */
static double product_bound(enum ggml_type t)
{
    switch (t) {
    case GGML_TYPE_F32:
        return 1e-11;
    case GGML_TYPE_F16:
    case GGML_TYPE_BF16:
        return 1e-7;
    case GGML_TYPE_IQ4_XS:
    case GGML_TYPE_TQ1_0:
    case GGML_TYPE_TQ2_0:
    case GGML_TYPE_NVFP4:
    case GGML_TYPE_Q1_0:
    case GGML_TYPE_Q2_0:
        return 5e-4;
    default:
        return 1e-5;
    }
}

static struct ggml_tensor *mul_mat(struct build *b)
{
    static const int64_t columns[] = {1, 2, 5, 35};
    const enum ggml_type t = choose_type(b, WEIGHTS);
    const int64_t n = columns[choose(b, 4)];

    b->bound = product_bound(t);
    return ggml_mul_mat(CTX, leaf(b, t, PLAIN, 512, 19, 1, 1),
                        source(b, GGML_TYPE_F32, PLAIN, DENSE | GAPS, 512, n, 1, 1));
}

static struct ggml_tensor *mul_mat_batch(struct build *b)
{
    static const enum ggml_type types[] = {GGML_TYPE_F32,  GGML_TYPE_F16,  GGML_TYPE_BF16,
                                           GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,
                                           GGML_TYPE_Q6_K, GGML_TYPE_COUNT};
    const enum ggml_type t = choose_type(b, types);
    const int64_t k = ggml_is_quantized(t) ? 256 : choose(b, 2) ? 33 : 1;
    const int64_t n = choose(b, 2) ? 9 : 1, times = choose(b, 2) ? 3 : 1;
    struct ggml_tensor *w = source(b, t, PLAIN, ROWS_PACKED, k, 7, 2, 2);
    // What the weight is converted for may come so, too.
    const bool same = (t == GGML_TYPE_F16 || t == GGML_TYPE_BF16) && choose(b, 2);
    struct ggml_tensor *x =
        source(b, same ? t : GGML_TYPE_F32, PLAIN, ROWS_PACKED, k, n, 2 * times, 4);
    struct ggml_tensor *y = ggml_mul_mat(CTX, w, x);

    b->bound = product_bound(t);
    return y;
}

static struct ggml_tensor *mul_mat_id(struct build *b)
{
    static const int64_t rows[] = {1, 5, 40};
    const enum ggml_type t = choose_type(b, WEIGHTS);
    const int64_t n = rows[choose(b, 3)], used = choose(b, 2) ? 4 : 1;
    struct ggml_tensor *ids = indices(b, GGML_TYPE_I32, DISTINCT, 0, 8, 8, n, 1);

    b->bound = product_bound(t);
    return ggml_mul_mat_id(
        CTX, leaf(b, t, PLAIN, 256, 19, 8, 1),
        source(b, GGML_TYPE_F32, PLAIN, DENSE | GAPS, 256, choose(b, 2) ? used : 1, n, 1),
        ggml_view_2d(CTX, ids, used, n, ids->nb[1], 0));
}

/* ---- rope, attention ------------------------------------------------------------------------*/

static struct ggml_tensor *rope(struct build *b)
{
    static const int modes[] = {GGML_ROPE_TYPE_NORMAL, GGML_ROPE_TYPE_NEOX, GGML_ROPE_TYPE_MROPE,
                                GGML_ROPE_TYPE_IMROPE};
    int sections[4] = {8, 12, 10, 2};
    const int mode = modes[choose(b, 4)];
    const bool multi = mode & GGML_ROPE_TYPE_MROPE;
    const enum ggml_type t = choose(b, 2) ? GGML_TYPE_F16 : GGML_TYPE_F32;
    const int n_dims = choose(b, 2) ? 64 : 96, yarn = choose(b, 2);
    const bool in_place = choose(b, 2);
    struct ggml_tensor *x = source(b, t, PLAIN, ROWS_PACKED, 96, 3, 7, 1);
    struct ggml_tensor *pos =
        indices(b, GGML_TYPE_I32, INDEX, choose(b, 2) ? -300 : 0, 3000, multi ? 28 : 7, 1, 1);
    struct ggml_tensor *factors =
        choose(b, 2) ? leaf(b, GGML_TYPE_F32, POSITIVE, n_dims / 2, 1, 1, 1) : NULL;
    const float freq_scale = yarn ? 0.25f : 1, ext = yarn ? 0.7465f : 0, attn = yarn ? 1.4245f : 1;

    // Angles of some thousands, in f32 on both sides.
    b->bound = t == GGML_TYPE_F16 ? 1e-6 : 1e-7;
    if (multi && in_place)
        return ggml_rope_multi_inplace(CTX, x, pos, factors, n_dims, sections, mode, 512, 10000,
                                       freq_scale, ext, attn, 32, 1);
    if (multi)
        return ggml_rope_multi(CTX, x, pos, factors, n_dims, sections, mode, 512, 10000, freq_scale,
                               ext, attn, 32, 1);
    if (in_place)
        return ggml_rope_ext_inplace(CTX, x, pos, factors, n_dims, mode, 512, 10000, freq_scale,
                                     ext, attn, 32, 1);
    return ggml_rope_ext(CTX, x, pos, factors, n_dims, mode, 512, 10000, freq_scale, ext, attn, 32,
                         1);
}

/* A cache [width of all heads, cells, streams] as attention looks at it. */
static struct ggml_tensor *cache(struct build *b, enum ggml_type t, int64_t width, int64_t n_kv,
                                 int64_t heads, int64_t streams)
{
    struct ggml_tensor *c = leaf(b, t, PLAIN, width * heads, n_kv + 3, streams, 1);

    c = ggml_view_4d(CTX, c, width, heads, n_kv, streams, ggml_row_size(t, width), c->nb[1],
                     c->nb[2], 0);
    return ggml_permute(CTX, c, 0, 2, 1, 3);
}

static struct ggml_tensor *attend(struct build *b, enum ggml_type tk, enum ggml_type tv, int64_t dk,
                                  int64_t dv, int64_t n, int64_t n_kv)
{
    const int64_t streams = choose(b, 2) ? 2 : 1;
    const int kind = choose(b, 4); // none, plain, soft-cap, ALiBi and sinks
    struct ggml_tensor *q =
        ggml_permute(CTX, leaf(b, GGML_TYPE_F32, PLAIN, dk, 6, n, streams), 0, 2, 1, 3);
    struct ggml_tensor *k = cache(b, tk, dk, n_kv, 2, streams);
    struct ggml_tensor *v = cache(b, tv, dv, n_kv, 2, streams);
    struct ggml_tensor *mask =
        kind ? leaf(b, GGML_TYPE_F16, MASK, n_kv, n, 1, kind == 2 ? streams : 1) : NULL;
    struct ggml_tensor *y = ggml_flash_attn_ext(CTX, q, k, v, mask, 1 / sqrtf((float)dk),
                                                kind == 3 ? 8 : 0, kind == 2 ? 5 : 0);

    if (kind == 3) ggml_flash_attn_ext_add_sinks(y, leaf(b, GGML_TYPE_F32, PLAIN, 6, 1, 1, 1));
    return y;
}

/* Values of f16 are summed in f16 there: that alone is 1e-6 and more. */
static struct ggml_tensor *attention(struct build *b)
{
    static const int64_t rows[] = {1, 3, 35, 70}, keys[] = {40, 113, 512};
    static const enum ggml_type types[] = {GGML_TYPE_F16, GGML_TYPE_F32, GGML_TYPE_BF16,
                                           GGML_TYPE_COUNT};
    const enum ggml_type t = choose_type(b, types);
    const int64_t n = rows[choose(b, 4)], n_kv = keys[choose(b, 3)];

    b->bound = t == GGML_TYPE_F16 ? 1e-4 : t == GGML_TYPE_BF16 ? 1e-6 : 1e-10;
    return attend(b, t, t, 64, 64, n, n_kv);
}

static struct ggml_tensor *attention_quantised(struct build *b)
{
    static const enum ggml_type types[] = {GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,
                                           GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_IQ4_NL,
                                           GGML_TYPE_COUNT};
    const enum ggml_type tk = choose_type(b, types);
    const enum ggml_type tv = choose(b, 2) ? GGML_TYPE_F16 : tk;

    b->bound = 1e-4;
    return attend(b, tk, tv, 64, 64, choose(b, 2) ? 9 : 1, choose(b, 2) ? 256 : 77);
}

static struct ggml_tensor *attention_wide(struct build *b)
{
    static const int64_t widths[][2] = {{40, 40},   {80, 80},   {128, 128}, {192, 128},
                                        {256, 256}, {576, 512}, {128, 64},  {64, 128}};
    const int64_t *w = widths[choose(b, 8)];

    b->bound = 1e-4;
    return attend(b, GGML_TYPE_F16, GGML_TYPE_F16, w[0], w[1], choose(b, 2) ? 5 : 1, 130);
}

const struct family families[] = {
    {"binary", binary},
    {"binary_inplace", binary_inplace},
    {"add_cast", add_cast},
    {"add_chain", add_chain},
    {"add_id", add_id},
    {"simple", simple},
    {"unary", unary},
    {"glu", glu},
    {"scale", scale},
    {"clamp_fill", clamp_and_fill},
    {"norms", norms},
    {"norm_chain", norm_chain},
    {"sums_orders", sums_and_orders},
    {"soft_max", soft_max},
    {"dup", dup},
    {"cont", cont},
    {"views", views},
    {"copy_out", copy_out},
    {"copy_in", copy_in},
    {"copy_plain", copy_plain},
    {"repeat", repeat},
    {"concat", concat},
    {"pad", pad},
    {"get_rows", get_rows},
    {"get_chosen", get_chosen},
    {"set_rows", set_rows},
    {"set_elements", set_elements},
    {"mul_mat", mul_mat},
    {"mul_mat_batch", mul_mat_batch},
    {"mul_mat_id", mul_mat_id},
    {"rope", rope},
    {"attention", attention},
    {"attention_quant", attention_quantised},
    {"attention_wide", attention_wide},
};
const int n_families = sizeof families / sizeof families[0];
