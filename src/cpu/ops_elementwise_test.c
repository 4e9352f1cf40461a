/* Elementwise ops, norms, soft-max and rope against plain implementations in double. */
#include "cpu/rig_test.h"

/* ---- two operands ---------------------------------------------------------------------------*/

static double apply(enum sh_op op, double a, double b)
{
    switch (op) {
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

static void check_binary(enum sh_op op, const int64_t a[4], const int64_t b[4], enum sh_dtype ta,
                         enum sh_dtype tb)
{
    struct rig r;
    const double *va, *vb;
    double *want;
    int32_t x, y;
    const double rel = ta == SH_DTYPE_F32 ? 1e-6 : ta == SH_DTYPE_F16 ? 1e-3 : 1e-2;

    rig_init(&r, 0, 0, 0);
    x = rig_random_leaf(&r, ta, a[0], a[1], a[2], a[3], &va);
    y = rig_random_leaf(&r, tb, b[0], b[1], b[2], b[3], &vb);
    want = rig_zeros(a[0] * a[1] * a[2] * a[3]);
    for (int64_t i = 0; i < a[0] * a[1] * a[2] * a[3]; i++) {
        const int64_t i0 = i % a[0], i1 = i / a[0] % a[1], i2 = i / (a[0] * a[1]) % a[2],
                      i3 = i / (a[0] * a[1] * a[2]);
        const int64_t j = ((i3 % b[3] * b[2] + i2 % b[2]) * b[1] + i1 % b[1]) * b[0] + i0 % b[0];
        want[i] = apply(op, va[i], vb[j]);
    }
    rig_expect(&r, sh_op_binary(&r.g, op, x, y), want, 1e-3 * (ta != SH_DTYPE_F32), rel);
    sh_free(want);
    rig_release(&r);
}

static void elementwise__binary_repeats(void **state)
{
    static const int64_t a[4] = {700, 6, 4, 2};
    static const int64_t bs[][4] = {{700, 6, 4, 2}, {1, 6, 4, 2}, {700, 1, 1, 1},
                                    {7, 3, 1, 2},   {1, 1, 1, 1}, {350, 2, 2, 1}};
    static const enum sh_op ops[] = {SH_OP_ADD, SH_OP_SUB, SH_OP_MUL, SH_OP_DIV};

    (void)state;
    for (size_t o = 0; o < 4; o++) {
        for (size_t b = 0; b < sizeof bs / sizeof *bs; b++)
            check_binary(ops[o], a, bs[b], SH_DTYPE_F32, SH_DTYPE_F32);
        check_binary(ops[o], a, bs[3], SH_DTYPE_F16, SH_DTYPE_F16);
        check_binary(ops[o], a, bs[2], SH_DTYPE_F16, SH_DTYPE_F32);
        check_binary(ops[o], a, bs[4], SH_DTYPE_BF16, SH_DTYPE_BF16);
        check_binary(ops[o], a, bs[1], SH_DTYPE_BF16, SH_DTYPE_F32);
    }
}

/* Something is added to a weight, and the sum is kept as f32 or encoded anew. */
static void elementwise__add_to_blocks(void **state)
{
    static const enum sh_dtype types[] = {SH_DTYPE_Q8_0, SH_DTYPE_Q4_0, SH_DTYPE_Q6_K};
    const int64_t n = 768 * 5;

    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        for (int encoded = 0; encoded < 2; encoded++) {
            const double *va, *vb;
            double *want = rig_zeros(n);
            int32_t src[2];
            struct rig r;
            rig_init(&r, 0, 0, 0);
            src[0] = rig_random_leaf(&r, types[i], 768, 5, 1, 1, &va);
            src[1] = rig_random_leaf(&r, SH_DTYPE_F32, 768, 5, 1, 1, &vb);
            for (int64_t e = 0; e < n; e++)
                want[e] = va[e] + vb[e];
            const struct sh_tensor shape = {.dtype = encoded ? types[i] : SH_DTYPE_F32,
                                            .ne = {768, 5, 1, 1}};
            // A step of the coarsest of these types is an eighth of the largest number, 2.
            rig_expect(&r, sh_op_shaped(&r.g, SH_OP_ADD, 2, src, NULL, &shape), want,
                       encoded ? 0.3 : 1e-6, 1e-6);
            sh_free(want);
            rig_release(&r);
        }
    }
}

/* b by columns, a with gaps between its rows. */
static void elementwise__binary_strides(void **state)
{
    const int64_t part[2] = {20, 9};
    const size_t nb[2] = {sizeof(float), 40 * sizeof(float)};
    struct rig r;
    const double *va, *vb;
    double *want = rig_zeros(20 * 9);
    int32_t a, b;

    (void)state;
    rig_init(&r, 0, 0, 0);
    a = rig_random_leaf(&r, SH_DTYPE_F32, 40, 9, 1, 1, &va);
    b = rig_random_leaf(&r, SH_DTYPE_F32, 9, 20, 1, 1, &vb);
    a = sh_op_view(&r.g, a, 2, part, nb, 12 * sizeof(float));
    b = sh_op_permute(&r.g, b, 1, 0, 2, 3);
    for (int64_t i = 0; i < 20 * 9; i++)
        want[i] = va[i / 20 * 40 + 12 + i % 20] - vb[i % 20 * 9 + i / 20];
    rig_expect(&r, sh_op_binary(&r.g, SH_OP_SUB, a, b), want, 0, 1e-6);
    sh_free(want);
    rig_release(&r);
}

/* Chains that the planner puts on top of each other. */
static void elementwise__in_place_chain(void **state)
{
    struct rig r;
    const double *vx, *vw;
    double *want = rig_zeros(300 * 40);
    int32_t x, w, y;

    (void)state;
    rig_init(&r, 0, 0, 0);
    x = rig_random_leaf(&r, SH_DTYPE_F32, 300, 40, 1, 1, &vx);
    w = rig_random_leaf(&r, SH_DTYPE_F32, 300, 1, 1, 1, &vw);
    y = sh_op_scale(&r.g, x, 3.0f, 0.5f);
    y = sh_op_binary(&r.g, SH_OP_MUL, y, w);
    y = sh_op_binary(&r.g, SH_OP_ADD, y, x);
    y = sh_op_unary(&r.g, SH_UNARY_RELU, y);
    y = sh_op_norm(&r.g, SH_OP_RMS_NORM, y, 1e-5f);
    for (int64_t row = 0; row < 40; row++) {
        double sum = 0;
        for (int64_t i = 0; i < 300; i++) {
            const double v = (3.0 * vx[row * 300 + i] + 0.5) * vw[i] + vx[row * 300 + i];
            want[row * 300 + i] = v > 0 ? v : 0;
            sum += want[row * 300 + i] * want[row * 300 + i];
        }
        for (int64_t i = 0; i < 300; i++)
            want[row * 300 + i] /= sqrt(sum / 300 + 1e-5);
    }
    rig_expect(&r, y, want, 1e-6, 1e-5);
    sh_free(want);
    rig_release(&r);
}

static void elementwise__add_id(void **state)
{
    struct rig r;
    const double *va, *vb;
    double ids[3 * 5], *want = rig_zeros(64 * 3 * 5);
    int32_t src[3];

    (void)state;
    rig_init(&r, 0, 0, 0);
    src[0] = rig_random_leaf(&r, SH_DTYPE_F32, 64, 3, 5, 1, &va);
    src[1] = rig_random_leaf(&r, SH_DTYPE_F32, 64, 4, 1, 1, &vb);
    src[2] = rig_leaf(&r, SH_DTYPE_I32, 3, 5, 1, 1);
    for (int i = 0; i < 15; i++)
        ids[i] = (double)rig_below(&r, 4);
    rig_fill(&r, src[2], ids, 1);
    for (int i = 0; i < 64 * 15; i++)
        want[i] = va[i] + vb[(int)ids[i / 64] * 64 + i % 64];
    rig_expect(&r, sh_op_node(&r.g, SH_OP_ADD_ID, 3, src, NULL), want, 0, 1e-6);
    sh_free(want);
    rig_release(&r);
}

/* ---- one operand ----------------------------------------------------------------------------*/

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double unary_of(int kind, double x)
{
    const double hard = fmin(1, fmax(0, (x + 3) / 6));

    switch (kind) {
    case SH_UNARY_ABS:
        return fabs(x);
    case SH_UNARY_SGN:
        return x > 0 ? 1 : x < 0 ? -1 : 0;
    case SH_UNARY_NEG:
        return -x;
    case SH_UNARY_STEP:
        return x > 0 ? 1 : 0;
    case SH_UNARY_TANH:
        return tanh(x);
    case SH_UNARY_ELU:
        return x > 0 ? x : expm1(x);
    case SH_UNARY_RELU:
        return x > 0 ? x : 0;
    case SH_UNARY_SIGMOID:
        return sigmoid(x);
    case SH_UNARY_GELU:
        return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979) * x * (1 + 0.044715 * x * x)));
    case SH_UNARY_GELU_QUICK:
        return x * sigmoid(1.702 * x);
    case SH_UNARY_SILU:
        return x * sigmoid(x);
    case SH_UNARY_HARDSWISH:
        return x * hard;
    case SH_UNARY_HARDSIGMOID:
        return hard;
    case SH_UNARY_EXP:
        return exp(x);
    case SH_UNARY_EXPM1:
        return expm1(x);
    case SH_UNARY_SOFTPLUS:
        return x > 20 ? x : log1p(exp(x));
    case SH_UNARY_GELU_ERF:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case SH_UNARY_XIELU:
        return x > 0 ? 0.7 * x * x + 0.5 * x : (expm1(fmin(x, -1e-6)) - x) * 1.2 + 0.5 * x;
    case SH_UNARY_FLOOR:
        return floor(x);
    case SH_UNARY_CEIL:
        return ceil(x);
    case SH_UNARY_ROUND:
        return round(x);
    default:
        return trunc(x);
    }
}

static void check_unary(int kind, enum sh_dtype type)
{
    const bool table = kind == SH_UNARY_GELU; // rounded to f16 on the way, by definition
    const double rel = type == SH_DTYPE_F32   ? (table ? 2e-3 : 4e-6)
                       : type == SH_DTYPE_F16 ? 2e-3
                                              : 1e-2;
    struct rig r;
    const double *v;
    double *want = rig_zeros(1100 * 3);
    int32_t params[SH_N_PARAMS] = {kind};
    int32_t x;

    rig_init(&r, 0, 0, 0);
    sh_params_set_f32(params, 1, 1.2f);
    sh_params_set_f32(params, 2, 0.7f);
    sh_params_set_f32(params, 3, 0.5f);
    sh_params_set_f32(params, 4, -1e-6f);
    x = rig_leaf(&r, type, 1100, 3, 1, 1);
    v = rig_fill(&r, x, NULL, 10);
    for (int i = 0; i < 3300; i++)
        want[i] = unary_of(kind, v[i]);
    rig_expect(&r, sh_op_node(&r.g, SH_OP_UNARY, 1, &x, params), want,
               type == SH_DTYPE_F32 && !table ? 2e-6 : 1e-3, rel);
    sh_free(want);
    rig_release(&r);
}

static void elementwise__unary_kinds(void **state)
{
    (void)state;
    for (int kind = 0; kind < SH_UNARY_COUNT; kind++) {
        check_unary(kind, SH_DTYPE_F32);
        check_unary(kind, SH_DTYPE_F16);
        check_unary(kind, SH_DTYPE_BF16);
    }
}

/* SCALE, CLAMP, FILL, SQR, SQRT */
static void elementwise__others(void **state)
{
    static const enum sh_op ops[] = {SH_OP_SCALE, SH_OP_CLAMP, SH_OP_FILL, SH_OP_SQR, SH_OP_SQRT};

    (void)state;
    for (size_t o = 0; o < sizeof ops / sizeof *ops; o++) {
        struct rig r;
        double *want = rig_zeros(900);
        int32_t params[SH_N_PARAMS] = {0}, x;
        const double *v;

        rig_init(&r, 0, 0, 0);
        sh_params_set_f32(params, 0, 0.25f);
        sh_params_set_f32(params, 1, 0.75f);
        x = rig_random_leaf(&r, SH_DTYPE_F32, 300, 3, 1, 1, &v);
        if (ops[o] == SH_OP_SQRT) x = sh_op_node(&r.g, SH_OP_SQR, 1, &x, NULL);
        for (int i = 0; i < 900; i++) {
            want[i] = ops[o] == SH_OP_SCALE   ? v[i] * 0.25 + 0.75
                      : ops[o] == SH_OP_CLAMP ? fmin(fmax(v[i], 0.25), 0.75)
                      : ops[o] == SH_OP_FILL  ? 0.25
                      : ops[o] == SH_OP_SQR   ? v[i] * v[i]
                                              : fabs(v[i]);
        }
        rig_expect(&r, sh_op_node(&r.g, ops[o], 1, &x, params), want, 0, 1e-6);
        sh_free(want);
        rig_release(&r);
    }
}

static double glu_of(int kind, double x, double g)
{
    const double limit = 0.6, alpha = 1.702;
    const double xl = fmin(x, limit), gl = fmin(fmax(g, -limit), limit);

    switch (kind) {
    case SH_GLU_REGLU:
        return unary_of(SH_UNARY_RELU, x) * g;
    case SH_GLU_GEGLU:
        return unary_of(SH_UNARY_GELU, x) * g;
    case SH_GLU_SWIGLU:
        return unary_of(SH_UNARY_SILU, x) * g;
    case SH_GLU_SWIGLU_OAI:
        return xl * sigmoid(alpha * xl) * (gl + 1);
    case SH_GLU_GEGLU_ERF:
        return unary_of(SH_UNARY_GELU_ERF, x) * g;
    case SH_GLU_GEGLU_QUICK:
        return unary_of(SH_UNARY_GELU_QUICK, x) * g;
    default:
        return xl * sigmoid(xl) * gl;
    }
}

/* form 0: two tensors, 1: halves, 2: halves swapped */
static void check_glu(int kind, int form, enum sh_dtype type)
{
    const int64_t n = 130, rows = 7;
    struct rig r;
    const double *v, *w = NULL;
    double *want = rig_zeros(n * rows);
    int32_t params[SH_N_PARAMS] = {kind, form == 2}, src[2];

    rig_init(&r, 0, 0, 0);
    sh_params_set_f32(params, 2, 1.702f);
    sh_params_set_f32(params, 3, 0.6f);
    src[0] = rig_random_leaf(&r, type, form ? 2 * n : n, rows, 1, 1, &v);
    if (form == 0) src[1] = rig_random_leaf(&r, type, n, rows, 1, 1, &w);
    for (int64_t i = 0; i < n * rows; i++) {
        const double first = form ? v[i / n * 2 * n + i % n] : v[i];
        const double second = form ? v[i / n * 2 * n + n + i % n] : w[i];
        want[i] = form == 2 ? glu_of(kind, second, first) : glu_of(kind, first, second);
    }
    rig_expect(&r, sh_op_node(&r.g, SH_OP_GLU, form ? 1 : 2, src, params), want, 1e-3,
               kind == SH_GLU_GEGLU || type != SH_DTYPE_F32 ? 2e-3 : 1e-5);
    sh_free(want);
    rig_release(&r);
}

static void elementwise__glu_kinds(void **state)
{
    (void)state;
    for (int kind = 0; kind < SH_GLU_COUNT; kind++) {
        for (int form = 0; form < 3; form++)
            check_glu(kind, form, SH_DTYPE_F32);
        if (kind != SH_GLU_SWIGLU_OAI) check_glu(kind, 1, SH_DTYPE_F16);
    }
}

/* ---- rows -----------------------------------------------------------------------------------*/

static void norm_of(enum sh_op op, int64_t n, double *dst, const double *x, int64_t step,
                    double eps)
{
    double mean = 0, square = 0;

    for (int64_t i = 0; i < n && op == SH_OP_NORM; i++)
        mean += x[i * step] / (double)n;
    for (int64_t i = 0; i < n; i++)
        square += (x[i * step] - mean) * (x[i * step] - mean);
    for (int64_t i = 0; i < n; i++) {
        const double v = x[i * step] - mean;
        dst[i] =
            op == SH_OP_L2_NORM ? v / fmax(sqrt(square), eps) : v / sqrt(square / (double)n + eps);
    }
}

static void norm__rows(void **state)
{
    static const enum sh_op ops[] = {SH_OP_NORM, SH_OP_RMS_NORM, SH_OP_L2_NORM};
    static const int64_t widths[] = {1, 16, 63, 576};

    (void)state;
    for (size_t o = 0; o < 3; o++) {
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
            const int64_t n = widths[w], rows = 37;
            struct rig r;
            double *want = rig_zeros(n * rows);
            const double *v;
            int32_t x;
            rig_init(&r, 0, 0, 0);
            x = rig_random_leaf(&r, SH_DTYPE_F32, n, rows, 1, 1, &v);
            for (int64_t i = 0; i < rows; i++)
                norm_of(ops[o], n, want + i * n, v + i * n, 1, 1e-5);
            rig_expect(&r, sh_op_norm(&r.g, ops[o], x, 1e-5f), want, 1e-6, 1e-5);
            sh_free(want);
            rig_release(&r);
        }
    }
}

/* NORM and L2_NORM take columns. */
static void norm__columns(void **state)
{
    (void)state;
    for (int l2 = 0; l2 < 2; l2++) {
        const enum sh_op op = l2 ? SH_OP_L2_NORM : SH_OP_NORM;
        struct rig r;
        double *want = rig_zeros(40 * 30);
        const double *v;
        int32_t x;
        rig_init(&r, 0, 0, 0);
        x = rig_random_leaf(&r, SH_DTYPE_F32, 30, 40, 1, 1, &v);
        x = sh_op_permute(&r.g, x, 1, 0, 2, 3);
        for (int64_t i = 0; i < 30; i++)
            norm_of(op, 40, want + i * 40, v + i, 30, 1e-6);
        rig_expect(&r, sh_op_norm(&r.g, op, x, 1e-6f), want, 1e-6, 1e-5);
        sh_free(want);
        rig_release(&r);
    }
}

static double slope_of(int64_t h, int64_t n_heads, double max_bias)
{
    const double n = pow(2, floor(log2((double)n_heads)));

    if (max_bias <= 0) return 1;
    if ((double)h < n) return pow(pow(2, -max_bias / n), (double)h + 1);
    return pow(pow(2, -max_bias / 2 / n), 2 * ((double)h - n) + 1);
}

static void check_soft_max(int64_t n, enum sh_dtype mask_type, bool mask, bool sinks,
                           float max_bias)
{
    const int64_t rows = 5, heads = 6, sets = 2;
    struct rig r;
    double *want = rig_zeros(n * rows * heads * sets);
    const double *v, *m = NULL, *s = NULL;
    int32_t params[SH_N_PARAMS] = {0}, src[3] = {-1, -1, -1};

    rig_init(&r, 0, 0, 0);
    sh_params_set_f32(params, 0, 0.5f);
    sh_params_set_f32(params, 1, max_bias);
    src[0] = rig_random_leaf(&r, SH_DTYPE_F32, n, rows, heads, sets, &v);
    if (mask) src[1] = rig_random_leaf(&r, mask_type, n, rows + 2, 2, 1, &m);
    if (sinks) src[2] = rig_random_leaf(&r, SH_DTYPE_F32, heads, 1, 1, 1, &s);
    for (int64_t row = 0; row < rows * heads * sets; row++) {
        const int64_t i1 = row % rows, h = row / rows % heads;
        double max = -INFINITY, sum = 0, *z = want + row * n;
        for (int64_t i = 0; i < n; i++) {
            z[i] = 0.5 * v[row * n + i];
            if (mask) z[i] += slope_of(h, heads, max_bias) * m[(h % 2 * (rows + 2) + i1) * n + i];
            max = fmax(max, z[i]);
        }
        if (sinks) max = fmax(max, s[h]);
        for (int64_t i = 0; i < n; i++)
            sum += exp(z[i] - max);
        if (sinks) sum += exp(s[h] - max);
        for (int64_t i = 0; i < n; i++)
            z[i] = exp(z[i] - max) / sum;
    }
    rig_expect(&r, sh_op_node(&r.g, SH_OP_SOFT_MAX, 3, src, params), want, 1e-7, 1e-5);
    sh_free(want);
    rig_release(&r);
}

static void norm__soft_max(void **state)
{
    (void)state;
    check_soft_max(17, SH_DTYPE_F32, false, false, 0);
    check_soft_max(300, SH_DTYPE_F32, true, false, 0);
    check_soft_max(300, SH_DTYPE_F16, true, true, 8);
    check_soft_max(64, SH_DTYPE_F32, true, true, 5);
    check_soft_max(64, SH_DTYPE_F32, false, true, 0);
}

static void norm__sum_rows(void **state)
{
    struct rig r;
    double want[24] = {0};
    const double *v;
    int32_t x;

    (void)state;
    rig_init(&r, 0, 0, 0);
    x = rig_random_leaf(&r, SH_DTYPE_F32, 100, 6, 4, 1, &v);
    x = sh_op_permute(&r.g, x, 0, 2, 1, 3); // [100,4,6]
    for (int i = 0; i < 24; i++) {
        for (int k = 0; k < 100; k++)
            want[i] += v[(i % 4 * 6 + i / 4) * 100 + k];
    }
    rig_expect(&r, sh_op_node(&r.g, SH_OP_SUM_ROWS, 1, &x, NULL), want, 1e-5, 1e-6);
    rig_release(&r);
}

/* ---- rope -----------------------------------------------------------------------------------*/

struct rope_case {
    int mode;
    int64_t width, n_dims, first;
    enum sh_dtype type;
    bool factors, yarn;
    int form; /* of positions: 0 [T], 1 [4,T], 2 [4*T] */
};

static int section_of(int mode, int64_t i, const int *s)
{
    const int64_t q = i % (s[0] + s[1] + s[2] + s[3]);

    if (mode == SH_ROPE_IMROPE) {
        if (q % 3 == 1 && q < 3 * s[1]) return 1;
        if (q % 3 == 2 && q < 3 * s[2]) return 2;
        return q % 3 == 0 && q < 3 * s[0] ? 0 : 3;
    }
    return q < s[0] ? 0 : q < s[0] + s[1] ? 1 : q < s[0] + s[1] + s[2] ? 2 : 3;
}

/* Angle and magnitude of pair i at position p. */
static double angle_of(const struct rope_case *c, int64_t i, double p, double factor, double *mag)
{
    const double base = 10000, scale = c->yarn ? 0.25 : 1, n = (double)c->n_dims, ctx = 512;
    const double pi = 3.14159265358979323846;
    const double extra = p * pow(base, -2.0 * (double)i / n) / factor, inter = scale * extra;

    *mag = c->yarn ? 1.125 * (1 + 0.1 * log(1 / scale)) : 1;
    if (!c->yarn) return inter;
    const double low = fmax(0, floor(n * log(ctx / (2 * pi * 32)) / (2 * log(base))));
    const double high = fmin(n - 1, ceil(n * log(ctx / (2 * pi * 1)) / (2 * log(base))));
    const double y = ((double)i - low) / fmax(0.001, high - low);
    const double ramp = (1 - fmin(1, fmax(0, y))) * 0.75;
    return inter * (1 - ramp) + extra * ramp;
}

static void check_rope(const struct rope_case *c)
{
    static const int sections[4] = {5, 4, 4, 3};
    const int64_t heads = 3, rows = 11, n = c->width, pairs = c->n_dims / 2;
    const bool many = (c->mode & 8) != 0;
    struct rig r;
    const double *v, *ff = NULL;
    double pos[4 * 11], *want = rig_zeros(n * heads * rows);
    double factors[256];
    struct sh_rope_attr attr = {.mode = (enum sh_rope_mode)c->mode,
                                .n_dims = (int32_t)c->n_dims,
                                .n_ctx_orig = 512,
                                .freq_base = 10000,
                                .freq_scale = c->yarn ? 0.25f : 1,
                                .ext_factor = c->yarn ? 0.75f : 0,
                                .attn_factor = c->yarn ? 1.125f : 1,
                                .beta_fast = 32,
                                .beta_slow = 1};
    int32_t x, p, f = -1, y;

    rig_init(&r, rows, 0, 0);
    for (int i = 0; i < 4 && many; i++)
        attr.sections[i] = sections[i];
    x = rig_random_leaf(&r, c->type, n, heads, rows, 1, &v);
    for (int i = 0; i < 44; i++)
        pos[i] = (double)rig_below(&r, 3000);
    p = c->form == 1 ? rig_leaf(&r, SH_DTYPE_I32, 4, rows, 1, 1)
                     : rig_leaf(&r, SH_DTYPE_I32, c->form == 2 ? 4 * rows : rows, 1, 1, 1);
    rig_fill(&r, p, pos, 1);
    if (c->factors) {
        for (int64_t i = 0; i < pairs; i++)
            factors[i] = 1 + 0.1 * rig_random(&r);
        f = rig_leaf(&r, SH_DTYPE_F32, pairs, 1, 1, 1);
        ff = rig_fill(&r, f, factors, 1);
    }
    y = sh_op_rope(&r.g, x, p, f, &attr);
    r.g.tensors[y].params[15] = (int32_t)c->first;
    for (int64_t row = 0; row < heads * rows; row++) {
        const int64_t t = row / heads;
        const double *in = v + row * n;
        double *out = want + row * n;
        memcpy(out, in, (size_t)n * sizeof *out);
        for (int64_t i = 0; i < pairs; i++) {
            const int axis = many ? section_of(c->mode, i, sections) : 0;
            const double at = pos[c->form == 1 ? t * 4 + axis : c->form == 2 ? axis * rows + t : t];
            const bool norm = c->mode == SH_ROPE_NORM;
            const int64_t a = c->first + (norm ? 2 * i : i), b = norm ? a + 1 : a + pairs;
            double mag;
            const double angle = angle_of(c, i, at, ff ? ff[i] : 1, &mag);
            out[a] = mag * (in[a] * cos(angle) - in[b] * sin(angle));
            out[b] = mag * (in[a] * sin(angle) + in[b] * cos(angle));
        }
    }
    rig_expect(&r, y, want, c->type == SH_DTYPE_F16 ? 2e-3 : 2e-6, 0);
    sh_free(want);
    rig_release(&r);
}

static void rope__modes(void **state)
{
    static const struct rope_case cases[] = {
        {SH_ROPE_NORM, 64, 64, 0, SH_DTYPE_F32, false, false, 0},
        {SH_ROPE_NORM, 64, 32, 8, SH_DTYPE_F32, true, true, 1},
        {SH_ROPE_NEOX, 64, 64, 0, SH_DTYPE_F32, true, false, 1},
        {SH_ROPE_NEOX, 96, 64, 16, SH_DTYPE_F32, false, true, 0},
        {SH_ROPE_NEOX, 64, 64, 0, SH_DTYPE_F16, false, false, 0},
        {SH_ROPE_MROPE, 64, 32, 0, SH_DTYPE_F32, false, false, 2},
        {SH_ROPE_MROPE, 64, 32, 0, SH_DTYPE_F32, false, false, 1},
        {SH_ROPE_IMROPE, 64, 64, 0, SH_DTYPE_F32, true, false, 2},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_rope(&cases[i]);
}

/* Several nodes share one table of angles; another base has its own. */
static void rope__shared_angles(void **state)
{
    const int64_t heads = 2, rows = 4;
    struct sh_rope_attr attr = {.mode = SH_ROPE_NEOX,
                                .n_dims = 32,
                                .freq_base = 10000,
                                .freq_scale = 1,
                                .attn_factor = 1,
                                .beta_fast = 32,
                                .beta_slow = 1};
    struct rope_case c = {SH_ROPE_NEOX, 32, 32, 0, SH_DTYPE_F32, false, false, 0};
    double pos[4] = {5, 100, 7, 2999}, *want = rig_zeros(32 * heads * rows);
    const double *v[3];
    struct rig r;
    int32_t x[3], p, y;

    (void)state;
    rig_init(&r, 0, 0, 0);
    for (int i = 0; i < 3; i++)
        x[i] = rig_random_leaf(&r, SH_DTYPE_F32, 32, heads, rows, 1, &v[i]);
    p = rig_leaf(&r, SH_DTYPE_I32, rows, 1, 1, 1);
    rig_fill(&r, p, pos, 1);
    y = sh_op_rope(&r.g, x[0], p, -1, &attr);
    attr.mode = SH_ROPE_NORM;
    y = sh_op_binary(&r.g, SH_OP_ADD, y, sh_op_rope(&r.g, x[1], p, -1, &attr));
    attr.freq_base = 500;
    y = sh_op_binary(&r.g, SH_OP_ADD, y, sh_op_rope(&r.g, x[2], p, -1, &attr));
    for (int64_t row = 0; row < heads * rows; row++) {
        double *out = want + row * 32;
        for (int64_t i = 0; i < 16; i++) {
            double mag;
            const double at = pos[row / heads], t = angle_of(&c, i, at, 1, &mag);
            const double u = at * pow(500, -2.0 * (double)i / 32);
            const double *a = v[0] + row * 32, *b = v[1] + row * 32, *d = v[2] + row * 32;
            out[i] += a[i] * cos(t) - a[i + 16] * sin(t);
            out[i + 16] += a[i] * sin(t) + a[i + 16] * cos(t);
            out[2 * i] += b[2 * i] * cos(t) - b[2 * i + 1] * sin(t);
            out[2 * i + 1] += b[2 * i] * sin(t) + b[2 * i + 1] * cos(t);
            out[2 * i] += d[2 * i] * cos(u) - d[2 * i + 1] * sin(u);
            out[2 * i + 1] += d[2 * i] * sin(u) + d[2 * i + 1] * cos(u);
        }
    }
    rig_expect(&r, y, want, 4e-6, 0);
    sh_free(want);
    rig_release(&r);
}

/* Angles are computed anew where the frequency factors were written on in between. */
static void rope__factors_that_change(void **state)
{
    const int64_t rows = 3;
    const struct sh_rope_attr attr = {.mode = SH_ROPE_NEOX,
                                      .n_dims = 32,
                                      .freq_base = 10000,
                                      .freq_scale = 1,
                                      .attn_factor = 1,
                                      .beta_fast = 32,
                                      .beta_slow = 1};
    const struct rope_case c = {SH_ROPE_NEOX, 32, 32, 0, SH_DTYPE_F32, true, false, 0};
    double pos[3] = {1, 30, 400}, before[16], after[16], *want = rig_zeros(32 * rows);
    const double *v;
    struct rig r;
    int32_t x, p, f, y, copy[2];

    (void)state;
    rig_init(&r, 0, 0, 0);
    x = rig_random_leaf(&r, SH_DTYPE_F32, 32, 1, rows, 1, &v);
    p = rig_leaf(&r, SH_DTYPE_I32, rows, 1, 1, 1);
    rig_fill(&r, p, pos, 1);
    for (int i = 0; i < 16; i++) {
        before[i] = 1;
        after[i] = 2 + 0.125 * i;
    }
    copy[0] = rig_leaf(&r, SH_DTYPE_F32, 16, 1, 1, 1);
    rig_fill(&r, copy[0], after, 1);
    f = copy[1] = rig_leaf(&r, SH_DTYPE_F32, 16, 1, 1, 1);
    rig_fill(&r, f, before, 1);
    y = sh_op_rope(&r.g, x, p, f, &attr);
    (void)sh_op_node(&r.g, SH_OP_CPY, 2, copy, NULL);
    y = sh_op_binary(&r.g, SH_OP_ADD, y, sh_op_rope(&r.g, x, p, f, &attr));
    for (int64_t k = 0; k < 2 * rows * 16; k++) {
        const int64_t row = k / 32, i = k / 2 % 16;
        const double *in = v + row * 32;
        double mag, *out = want + row * 32;
        const double t = angle_of(&c, i, pos[row], k % 2 ? after[i] : before[i], &mag);
        out[i] += in[i] * cos(t) - in[i + 16] * sin(t);
        out[i + 16] += in[i] * sin(t) + in[i + 16] * cos(t);
    }
    rig_expect(&r, y, want, 4e-6, 0);
    sh_free(want);
    rig_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elementwise__binary_repeats),
        cmocka_unit_test(elementwise__add_to_blocks),
        cmocka_unit_test(elementwise__binary_strides),
        cmocka_unit_test(elementwise__in_place_chain),
        cmocka_unit_test(elementwise__add_id),
        cmocka_unit_test(elementwise__unary_kinds),
        cmocka_unit_test(elementwise__others),
        cmocka_unit_test(elementwise__glu_kinds),
        cmocka_unit_test(norm__rows),
        cmocka_unit_test(norm__columns),
        cmocka_unit_test(norm__soft_max),
        cmocka_unit_test(norm__sum_rows),
        cmocka_unit_test(rope__modes),
        cmocka_unit_test(rope__shared_angles),
        cmocka_unit_test(rope__factors_that_change),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
