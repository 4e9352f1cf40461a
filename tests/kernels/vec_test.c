/* tests/kernels/vec_test.c - the kernels on rows of f32: each on every tier of this CPU against
 * the scalar version, and the scalar version against double.
 *
 * The list of tests expands from the list of kernels.  Error bounds are relative, absolute where
 * the function passes through zero by cancellation; each stands beside its function.
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mm_data.h"
#include "bits.h"
#include "vec_check.h"

enum { REF_N = 4096 };
static const float EPS = 1e-5f;

/* ---- element by element ------------------------------------------------------------------------
 */

typedef double ref1(double x);
typedef double ref2(double a, double b);
typedef void fn1(int64_t n, float *dst, const float *x);
typedef void fn2(int64_t n, float *dst, const float *a, const float *b);

static void tiers_unary(const char *name, call_fn *fn)
{
    for (int i = 0; i < CHECK_SIZES_COUNT; i++) {
        const size_t n = (size_t)CHECK_SIZES[i];
        const struct call c = {.n = (int64_t)n, .in = {n}, .out = {n}, .alias = 1};
        for (int kind = 0; kind < FILL_KINDS; kind++)
            check_tiers(name, fn, &c, kind, 11);
    }
}

static void tiers_binary(const char *name, call_fn *fn)
{
    for (int i = 0; i < CHECK_SIZES_COUNT; i++) {
        const size_t n = (size_t)CHECK_SIZES[i];
        struct call c = {.n = (int64_t)n, .in = {n, n}, .out = {n}};
        for (int kind = 0; kind < FILL_KINDS; kind++) {
            c.alias = 1 + kind % 2;
            check_tiers(name, fn, &c, kind, 12);
        }
    }
}

static void near_unary(const char *name, fn1 *fn, ref1 *ref, double reach, double rel, double abs)
{
    static float x[REF_N], y[REF_N];
    check_fill_f32(x, REF_N, FILL_ORDINARY, 3);
    for (int i = 0; i < REF_N; i++)
        x[i] *= (float)(reach / 6.0);
    check_spread(x, REF_N, (float)(0.95 * reach));
    fn(REF_N, y, x);
    for (int i = 0; i < REF_N; i++)
        check_near(name, i, y[i], ref((double)x[i]), rel, abs);
}

static void near_binary(const char *name, fn2 *fn, ref2 *ref, double rel, double abs)
{
    static float a[REF_N], b[REF_N], y[REF_N];
    check_fill_f32(a, REF_N, FILL_ORDINARY, 4);
    check_fill_f32(b, REF_N, FILL_ORDINARY, 5);
    check_spread(a, REF_N, 5.9f);
    fn(REF_N, y, a, b);
    for (int i = 0; i < REF_N; i++)
        check_near(name, i, y[i], ref((double)a[i], (double)b[i]), rel, abs);
}

/* Half a unit in the last place of a float, relative. */
#define HALF_ULP 0x1p-24

#define UNARY(name, expr, reach, rel, abs)                                                         \
    static double ref_##name(double x)                                                             \
    {                                                                                              \
        return expr;                                                                               \
    }                                                                                              \
    static void run_##name(const struct sh_kernels *k, const struct call *c, float *const *out,    \
                           const void *const *in)                                                  \
    {                                                                                              \
        k->name(c->n, out[0], in[0]);                                                              \
    }                                                                                              \
    void vec__##name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        tiers_unary(#name, run_##name);                                                            \
        near_unary(#name, check_scalar()->name, ref_##name, reach, rel, abs);                      \
    }

#define BINARY(name, expr, rel, abs)                                                               \
    static double ref_##name(double a, double b)                                                   \
    {                                                                                              \
        return expr;                                                                               \
    }                                                                                              \
    static void run_##name(const struct sh_kernels *k, const struct call *c, float *const *out,    \
                           const void *const *in)                                                  \
    {                                                                                              \
        k->name(c->n, out[0], in[0], in[1]);                                                       \
    }                                                                                              \
    void vec__##name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        tiers_binary(#name, run_##name);                                                           \
        near_binary(#name, check_scalar()->name, ref_##name, rel, abs);                            \
    }

static double silu_f64(double x)
{
    return x / (1.0 + exp(-x));
}

/* The tanh form in double at the input as rounded to f16. */
static double gelu_f64(double x)
{
    const double h = (double)sh_f16_to_f32(sh_f32_to_f16((float)x));
    return 0.5 * h * (1.0 + tanh(sqrt(2.0 / (2.0 * acos(0.0))) * h * (1.0 + 0.044715 * h * h)));
}

BINARY(add, a + b, HALF_ULP, 0)
BINARY(sub, a - b, HALF_ULP, 0)
BINARY(mul, a *b, HALF_ULP, 0)
BINARY(div, a / b, HALF_ULP, 0)
UNARY(relu, x > 0 ? x : 0, 6, 0, 0)
UNARY(sigmoid, 1.0 / (1.0 + exp(-x)), 80, 3e-7, 0)
UNARY(silu, silu_f64(x), 80, 3e-7, 0)
UNARY(gelu, gelu_f64(x), 9.9, 0x1.1p-11, 4e-7) /* f16: half an ulp, and below 6e-5 absolute */
UNARY(gelu_erf, 0.5 * x * (1.0 + erf(x / sqrt(2.0))), 8, 3e-7, 3e-7)
UNARY(gelu_quick, x / (1.0 + exp(-1.702 * x)), 40, 8e-6, 0) /* the argument is rounded */
UNARY(tanh, tanh(x), 12, 1.7e-7, 0)
UNARY(exp, exp(x), 87, 1.2e-7, 0)
UNARY(softplus, x > 20 ? x : log1p(exp(x)), 60, 2e-7, 0)
UNARY(sqr, x *x, 6, HALF_ULP, 0)
UNARY(sqrt, sqrt(x), 6, HALF_ULP, 0)
UNARY(neg, -x, 6, 0, 0)
UNARY(abs, fabs(x), 6, 0, 0)
BINARY(swiglu, silu_f64(a) * b, 4e-7, 0)
BINARY(geglu, gelu_f64(a) * b, 0x1.2p-11, 3e-6)
BINARY(reglu, (a > 0 ? a : 0) * b, HALF_ULP, 0)

static void run_scale(const struct sh_kernels *k, const struct call *c, float *const *out,
                      const void *const *in)
{
    k->scale(c->n, out[0], in[0], c->scalar[0], c->scalar[1]);
}

void vec__scale(void **state)
{
    static const float args[][2] = {{0.125f, 0}, {-3, 0.7f}, {1e30f, -1e30f}, {NAN, 0}, {1, NAN}};
    static float x[REF_N], y[REF_N];
    (void)state;
    for (size_t a = 0; a < sizeof args / sizeof *args; a++) {
        for (int i = 0; i < CHECK_SIZES_COUNT; i++) {
            const size_t n = (size_t)CHECK_SIZES[i];
            const struct call c = {.n = (int64_t)n,
                                   .scalar = {args[a][0], args[a][1]},
                                   .in = {n},
                                   .out = {n},
                                   .alias = 1};
            check_tiers("scale", run_scale, &c, i % FILL_KINDS, 13);
            check_tiers("scale", run_scale, &c, FILL_EXTREME, 14);
        }
    }
    check_fill_f32(x, REF_N, FILL_ORDINARY, 5);
    check_scalar()->scale(REF_N, y, x, 0.3f, 0.7f);
    for (int i = 0; i < REF_N; i++)
        check_near("scale", i, y[i], (double)0.3f * (double)x[i] + (double)0.7f, HALF_ULP, 2e-7);
    check_scalar()->scale(1, y, &(float){-0.0f}, 1.0f, 0.0f);
    assert_true(signbit(y[0])); // no bias is no addition
}

static void run_clamp(const struct sh_kernels *k, const struct call *c, float *const *out,
                      const void *const *in)
{
    k->clamp(c->n, out[0], in[0], c->scalar[0], c->scalar[1]);
}

void vec__clamp(void **state)
{
    static const float x[] = {-9, -1, 0, 1, 9, NAN, INFINITY, -INFINITY};
    static const float want[] = {-2, -1, 0, 1, 3, NAN, 3, -2};
    float y[8];
    (void)state;
    for (int i = 0; i < CHECK_SIZES_COUNT; i++) {
        const size_t n = (size_t)CHECK_SIZES[i];
        const struct call c = {
            .n = (int64_t)n, .scalar = {-0.0f, 4}, .in = {n}, .out = {n}, .alias = 1};
        for (int kind = 0; kind < FILL_KINDS; kind++)
            check_tiers("clamp", run_clamp, &c, kind, 15);
    }
    check_scalar()->clamp(8, y, x, -2, 3);
    for (int i = 0; i < 8; i++)
        check_near("clamp", i, y[i], want[i], 0, 0);
}

static void run_add_scaled(const struct sh_kernels *k, const struct call *c, float *const *out,
                           const void *const *in)
{
    k->add_scaled(c->n, out[0], in[0], c->scalar[0]);
}

void vec__add_scaled(void **state)
{
    static float x[REF_N], y[REF_N], z[REF_N];
    (void)state;
    for (int i = 0; i < CHECK_SIZES_COUNT; i++) {
        const size_t n = (size_t)CHECK_SIZES[i];
        const struct call c = {
            .n = (int64_t)n, .scalar = {0.37f}, .in = {n}, .out = {n}, .out_set = 1};
        for (int kind = 0; kind < FILL_KINDS; kind++)
            check_tiers("add_scaled", run_add_scaled, &c, kind, 16);
    }
    check_fill_f32(x, REF_N, FILL_ORDINARY, 5);
    check_fill_f32(y, REF_N, FILL_ORDINARY, 6);
    memcpy(z, y, sizeof z);
    check_scalar()->add_scaled(REF_N, z, x, 0.37f);
    for (int i = 0; i < REF_N; i++)
        check_near("add_scaled", i, z[i], (double)y[i] + (double)0.37f * (double)x[i], HALF_ULP,
                   3e-7);
}

/* ---- reductions --------------------------------------------------------------------------------
 */

static void run_sum(const struct sh_kernels *k, const struct call *c, float *const *out,
                    const void *const *in)
{
    out[0][0] = k->sum(c->n, in[0]);
}

static void run_max(const struct sh_kernels *k, const struct call *c, float *const *out,
                    const void *const *in)
{
    out[0][0] = k->max(c->n, in[0]);
}

static void run_dot(const struct sh_kernels *k, const struct call *c, float *const *out,
                    const void *const *in)
{
    out[0][0] = k->dot(c->n, in[0], in[1]);
}

static void tiers_reduce(const char *name, call_fn *fn, int n_in)
{
    for (int i = 0; i < CHECK_SIZES_COUNT; i++) {
        const size_t n = (size_t)CHECK_SIZES[i];
        struct call c = {.n = (int64_t)n, .in = {n, n_in > 1 ? n : 0}, .out = {1}};
        for (int kind = 0; kind < FILL_KINDS; kind++)
            for (uint32_t seed = 20; seed < 24; seed++)
                check_tiers(name, fn, &c, kind, seed);
    }
}

void vec__sum(void **state)
{
    static float x[REF_N];
    double want = 0;
    (void)state;
    tiers_reduce("sum", run_sum, 1);
    check_fill_f32(x, REF_N, FILL_ORDINARY, 7);
    for (int i = 0; i < REF_N; i++)
        want += (double)x[i];
    check_near("sum", 0, check_scalar()->sum(REF_N, x), want, 0, 3e-3);

    // Only a tree that begins 8 apart adds the two small ones before they meet the 1.
    const float tree[16] = {[0] = 1, [4] = 0x1p-24f, [12] = 0x1p-24f};
    check_near("tree", 0, check_scalar()->sum(16, tree), 1 + 0x1p-23, 0, 0);
}

void vec__max(void **state)
{
    static float x[REF_N];
    float want = -INFINITY;
    (void)state;
    tiers_reduce("max", run_max, 1);
    check_fill_f32(x, REF_N, FILL_ORDINARY, 7);
    for (int i = 0; i < REF_N; i++)
        want = x[i] > want ? x[i] : want;
    x[5] = x[4095] = NAN;
    check_near("max", 0, check_scalar()->max(REF_N, x), want, 0, 0);
    check_near("max of nothing", 0, check_scalar()->max(0, x), -INFINITY, 0, 0);
}

void vec__dot(void **state)
{
    static float a[REF_N], b[REF_N];
    double want = 0;
    (void)state;
    tiers_reduce("dot", run_dot, 2);
    check_fill_f32(a, REF_N, FILL_ORDINARY, 7);
    check_fill_f32(b, REF_N, FILL_ORDINARY, 8);
    for (int i = 0; i < REF_N; i++)
        want += (double)a[i] * (double)b[i];
    check_near("dot", 0, check_scalar()->dot(REF_N, a, b), want, 0, 6e-3);

    // Lanes that underflow to -0 and get no further element: the tail must leave them alone.
    for (int i = 0; i < 31; i++)
        a[i] = -1e-30f, b[i] = 1e-30f;
    const struct call c = {.n = 17, .in = {17, 17}, .out = {1}};
    check_tiers("dot", run_dot, &c, FILL_WIDE, 1);
    assert_true(signbit(check_scalar()->dot(17, a, b)));
    struct sh_kernels k;
    sh_kernels_fill(&k, sh_isa_detect());
    assert_true(signbit(k.dot(17, a, b)));
}

#define NORM(name)                                                                                 \
    static void run_##name(const struct sh_kernels *k, const struct call *c, float *const *out,    \
                           const void *const *in)                                                  \
    {                                                                                              \
        k->name(c->n, out[0], in[0], c->scalar[0]);                                                \
    }

NORM(rms_norm)
NORM(layer_norm)
NORM(l2_norm)

static void tiers_norm(const char *name, call_fn *fn)
{
    for (int i = 0; i < CHECK_SIZES_COUNT; i++) {
        const size_t n = (size_t)CHECK_SIZES[i];
        struct call c = {.n = (int64_t)n, .in = {n}, .out = {n}, .alias = 1};
        for (int kind = 0; kind < FILL_KINDS; kind++) {
            c.scalar[0] = kind == FILL_WIDE ? 0 : EPS;
            check_tiers(name, fn, &c, kind, 31);
        }
    }
}

void vec__rms_norm(void **state)
{
    static float x[576], y[576];
    double squares = 0;
    (void)state;
    tiers_norm("rms_norm", run_rms_norm);
    check_fill_f32(x, 576, FILL_ORDINARY, 9);
    check_scalar()->rms_norm(576, y, x, EPS);
    for (int i = 0; i < 576; i++)
        squares += (double)x[i] * (double)x[i];
    for (int i = 0; i < 576; i++)
        check_near("rms_norm", i, y[i], (double)x[i] / sqrt(squares / 576 + (double)EPS), 3e-7, 0);
}

void vec__layer_norm(void **state)
{
    static float x[576], y[576];
    double mean = 0, squares = 0;
    (void)state;
    tiers_norm("layer_norm", run_layer_norm);
    check_fill_f32(x, 576, FILL_ORDINARY, 9);
    for (int i = 0; i < 576; i++)
        x[i] += 3.0f;
    check_scalar()->layer_norm(576, y, x, EPS);
    for (int i = 0; i < 576; i++)
        mean += (double)x[i] / 576;
    for (int i = 0; i < 576; i++)
        squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    const double length = sqrt(squares / 576 + (double)EPS);
    for (int i = 0; i < 576; i++)
        check_near("layer_norm", i, y[i], ((double)x[i] - mean) / length, 4e-7, 3e-7);
}

void vec__l2_norm(void **state)
{
    static float x[576], y[576];
    double squares = 0;
    (void)state;
    tiers_norm("l2_norm", run_l2_norm);
    check_fill_f32(x, 576, FILL_ORDINARY, 9);
    check_scalar()->l2_norm(576, y, x, EPS);
    for (int i = 0; i < 576; i++)
        squares += (double)x[i] * (double)x[i];
    for (int i = 0; i < 576; i++)
        check_near("l2_norm", i, y[i], (double)x[i] / sqrt(squares), 3e-7, 0);
    check_scalar()->l2_norm(576, y, x, 1e6f); // the floor, not an addend
    for (int i = 0; i < 576; i++)
        check_near("l2_norm", i, y[i], (double)x[i] / 1e6, 2e-7, 0);
}

static void run_soft_max(const struct sh_kernels *k, const struct call *c, float *const *out,
                         const void *const *in)
{
    k->soft_max(c->n, out[0], in[0], c->scalar[0], in[1], c->scalar[1], in[2]);
}

static void near_soft_max(const float *mask, const float *sink)
{
    static float x[576], y[576];
    double sum = sink ? exp((double)*sink) : 0;
    const double slope = 0.5, scale = 0.125;
    check_fill_f32(x, 576, FILL_ORDINARY, 10);
    check_scalar()->soft_max(576, y, x, (float)scale, mask, (float)slope, sink);
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < 576; i++) {
            const double e = exp(scale * (double)x[i] + (mask ? slope * (double)mask[i] : 0));
            if (pass == 0) sum += e;
            if (pass == 1) check_near("soft_max", i, y[i], e / sum, 1e-6, 1e-30);
        }
    }
}

void vec__soft_max(void **state)
{
    static float mask[576];
    const float sink = 2.5f;
    (void)state;
    for (int i = 0; i < CHECK_SIZES_COUNT; i++) {
        const size_t n = (size_t)CHECK_SIZES[i];
        for (int form = 0; form < 4; form++) {
            struct call c = {.n = (int64_t)n,
                             .scalar = {0.125f, 0.25f},
                             .in = {n, form & 1 ? n : 0, form & 2 ? 1 : 0},
                             .optional = 6,
                             .out = {n},
                             .alias = 1};
            for (int kind = 0; kind < FILL_KINDS; kind++)
                check_tiers("soft_max", run_soft_max, &c, kind, 41);
        }
    }
    check_fill_f32(mask, 576, FILL_ORDINARY, 11);
    for (int i = 0; i < 576; i += 3)
        mask[i] = -INFINITY;
    near_soft_max(NULL, NULL);
    near_soft_max(mask, NULL);
    near_soft_max(NULL, &sink);
    near_soft_max(mask, &sink);
}

/* ---- rotations ---------------------------------------------------------------------------------
 */

static void run_rope_norm(const struct sh_kernels *k, const struct call *c, float *const *out,
                          const void *const *in)
{
    k->rope_norm(c->n, c->dim[0], out[0], in[0], in[1], in[2]);
}

static void run_rope_neox(const struct sh_kernels *k, const struct call *c, float *const *out,
                          const void *const *in)
{
    k->rope_neox(c->n, c->dim[0], out[0], in[0], in[1], in[2]);
}

static void tiers_rope(const char *name, call_fn *fn)
{
    for (int i = 0; i < CHECK_SIZES_COUNT; i++) {
        const size_t n = (size_t)CHECK_SIZES[i];
        const size_t pairs[] = {n / 2, n / 3, 0};
        for (int p = 0; p < 3; p++) {
            const struct call c = {.n = (int64_t)n,
                                   .dim = {(int64_t)pairs[p]},
                                   .in = {n, pairs[p], pairs[p]},
                                   .out = {n},
                                   .alias = 1};
            for (int kind = 0; kind < FILL_KINDS; kind++)
                check_tiers(name, fn, &c, kind, 51);
        }
    }
}

/* 40 channels, 16 pairs; pair i is channels first(i), second(i). */
static void near_rope(bool neox)
{
    enum { N = 40, PAIRS = 16 };
    float x[N], y[N], c[PAIRS], s[PAIRS];
    check_fill_f32(x, N, FILL_ORDINARY, 12);
    for (int i = 0; i < PAIRS; i++)
        c[i] = cosf((float)i), s[i] = sinf((float)i);
    if (neox) {
        check_scalar()->rope_neox(N, PAIRS, y, x, c, s);
    } else {
        check_scalar()->rope_norm(N, PAIRS, y, x, c, s);
    }
    for (int i = 0; i < PAIRS; i++) {
        const int a = neox ? i : 2 * i, b = neox ? i + PAIRS : 2 * i + 1;
        const double x0 = (double)x[a], x1 = (double)x[b], t = i;
        check_near("rope", a, y[a], x0 * cos(t) - x1 * sin(t), 0, 2e-6);
        check_near("rope", b, y[b], x0 * sin(t) + x1 * cos(t), 0, 2e-6);
    }
    for (int i = 2 * PAIRS; i < N; i++)
        check_near("rope", i, y[i], x[i], 0, 0);
}

void vec__rope_norm(void **state)
{
    (void)state;
    tiers_rope("rope_norm", run_rope_norm);
    near_rope(false);
}

void vec__rope_neox(void **state)
{
    (void)state;
    tiers_rope("rope_neox", run_rope_neox);
    near_rope(true);
}

/* The last test: all checks above have been folded. */
static void vec__known_bits(void **state)
{
    (void)state;
    bits_check(BITS_VECTOR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define X(name, ret, args) cmocka_unit_test(vec__##name),
        SH_VECTOR_KERNELS(X)
#undef X
            cmocka_unit_test(vec__known_bits),
    };
    check_print_tiers();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
