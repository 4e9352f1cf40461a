/* tests/kernels/vec_attn.c - the rows of vec_test.c for attention, convolution and scan.
 *
 * Attention is compared with a naive soft-max over all keys in double; hidden keys hold NaN, or
 * have no memory at all.  Threads: one.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mm_data.h"
#include "vec_check.h"

/* ---- attention: tiers --------------------------------------------------------------------------
 * dim: dk, dv, n_q, k_stride, v_stride; scalar: scale, softcap */

static void run_attn_f16(const struct sh_kernels *k, const struct call *c, float *const *out,
                         const void *const *in)
{
    k->attn_block_f16(c->dim[0], c->dim[1], c->dim[2], in[0], in[1], (size_t)c->dim[3], in[2],
                      (size_t)c->dim[4], c->visible, c->scalar[0], c->scalar[1], in[3], out[0],
                      out[1], out[2]);
}

static void run_attn_f32(const struct sh_kernels *k, const struct call *c, float *const *out,
                         const void *const *in)
{
    k->attn_block_f32(c->dim[0], c->dim[1], c->dim[2], in[0], in[1], (size_t)c->dim[3], in[2],
                      (size_t)c->dim[4], c->visible, c->scalar[0], c->scalar[1], in[3], out[0],
                      out[1], out[2]);
}

static uint64_t random_mask(int form, uint32_t *r)
{
    const uint64_t any = (uint64_t)data_rand(r) << 32 | data_rand(r);
    switch (form) {
    case 0:
        return UINT64_MAX;
    case 1:
        return any >> (data_rand(r) % 64) | 1; // ends early
    case 2:
        return (UINT64_C(1) << (1 + data_rand(r) % 63)) - 1; // the last block of a text
    case 3:
        return UINT64_C(1) << (data_rand(r) % 64);
    default:
        return any & ((uint64_t)data_rand(r) << 32 | data_rand(r));
    }
}

/* Rows of keys up to the last visible one; behind it memory may end. */
static size_t rows_bytes_end(uint64_t visible, int64_t width, int64_t stride)
{
    if (!visible) return 0;
    const int last = 63 - __builtin_clzll(visible);
    return (size_t)(last * stride + width);
}

static void attn_tiers(const char *name, call_fn *fn, bool f16)
{
    static const int64_t shape[][3] = {{64, 64, 3},  {64, 64, 1},   {64, 64, 2},   {64, 64, 4},
                                       {64, 64, 9},  {128, 128, 5}, {192, 128, 2}, {80, 80, 3},
                                       {1, 1, 1},    {16, 17, 4},   {31, 33, 7},   {100, 15, 6},
                                       {576, 512, 3}};
    uint32_t r = 4711;
    for (size_t s = 0; s < sizeof shape / sizeof *shape; s++) {
        for (int round = 0; round < 10; round++) {
            const int64_t dk = shape[s][0], dv = shape[s][1], n_q = shape[s][2];
            const int64_t k_stride = dk + round % 3, v_stride = dv + 2 * (round % 2);
            const uint64_t visible = random_mask(round % 5, &r);
            const struct call c = {.n = 1,
                                   .dim = {dk, dv, n_q, k_stride, v_stride},
                                   .scalar = {0.125f, round % 4 == 1 ? 15.0f : 0.0f},
                                   .visible = visible,
                                   .in = {(size_t)(n_q * dk), rows_bytes_end(visible, dk, k_stride),
                                          rows_bytes_end(visible, dv, v_stride),
                                          round % 3 == 1 ? rows_bytes_end(visible, 1, 1) : 0},
                                   .out = {(size_t)n_q, (size_t)n_q, (size_t)(n_q * dv)},
                                   .in_f16 = f16 ? 6 : 0,
                                   .optional = 8,
                                   .out_set = 7,
                                   .fresh = round % 2 == 0};
            for (int kind = 0; kind < FILL_KINDS; kind++)
                check_tiers(name, fn, &c, kind, 60 + (uint32_t)round);
        }
    }
}

/* ---- attention: meaning ------------------------------------------------------------------------
 */

enum { BLOCKS = 5, KEYS = 64 * BLOCKS, D = 40, HEADS = 3 };

struct text {
    float q[HEADS * D], k[KEYS * D], v[KEYS * D], bias[KEYS];
    uint16_t k16[KEYS * D], v16[KEYS * D];
    uint64_t visible[BLOCKS];
};

struct state {
    float m[HEADS], l[HEADS], acc[HEADS * D];
};

static void text_fill(struct text *t, uint32_t seed)
{
    uint32_t r = seed;
    check_fill_f32(t->q, HEADS * D, FILL_ORDINARY, seed);
    check_fill_f16(t->k16, KEYS * D, FILL_ORDINARY, seed + 1);
    check_fill_f16(t->v16, KEYS * D, FILL_ORDINARY, seed + 2);
    check_fill_f32(t->bias, KEYS, FILL_ORDINARY, seed + 3);
    for (int i = 0; i < KEYS * D; i++) {
        t->k[i] = sh_f16_to_f32(t->k16[i]);
        t->v[i] = sh_f16_to_f32(t->v16[i]);
    }
    check_spread(t->k, KEYS * D, 5.9f);
    for (int b = 0; b < BLOCKS; b++)
        t->visible[b] = random_mask(b % 2 ? 4 : 1, &r);
    t->visible[3] = 0;
}

static void state_init(struct state *s)
{
    memset(s, 0, sizeof *s);
    for (int h = 0; h < HEADS; h++)
        s->m[h] = -INFINITY;
}

static void text_attend(const struct sh_kernels *k, const struct text *t, bool f16, int first,
                        int end, float softcap, bool bias, struct state *s)
{
    state_init(s);
    for (int b = first; b < end; b++) {
        const size_t at = (size_t)b * 64 * D;
        const float *bi = bias ? t->bias + 64 * b : NULL;
        if (f16) {
            k->attn_block_f16(D, D, HEADS, t->q, t->k16 + at, D, t->v16 + at, D, t->visible[b],
                              0.1f, softcap, bi, s->m, s->l, s->acc);
        } else {
            k->attn_block_f32(D, D, HEADS, t->q, t->k + at, D, t->v + at, D, t->visible[b], 0.1f,
                              softcap, bi, s->m, s->l, s->acc);
        }
    }
}

/* Soft-max over all visible keys, in double, without blocks. */
static void naive(const struct text *t, int h, double softcap, bool bias, double *out)
{
    double z[KEYS], max = -INFINITY, sum = 0;
    for (int i = 0; i < KEYS; i++) {
        if (!(t->visible[i / 64] >> (i % 64) & 1)) continue;
        double dot = 0;
        for (int j = 0; j < D; j++)
            dot += (double)t->q[h * D + j] * (double)t->k[i * D + j];
        z[i] = dot * 0.1;
        if (softcap != 0) z[i] = softcap * tanh(z[i] / softcap);
        if (bias) z[i] += (double)t->bias[i];
        if (z[i] > max) max = z[i];
    }
    for (int j = 0; j < D; j++)
        out[j] = 0;
    for (int i = 0; i < KEYS; i++) {
        if (!(t->visible[i / 64] >> (i % 64) & 1)) continue;
        const double p = exp(z[i] - max);
        sum += p;
        for (int j = 0; j < D; j++)
            out[j] += p * (double)t->v[i * D + j];
    }
    for (int j = 0; j < D; j++)
        out[j] /= sum;
}

static void check_meaning(bool f16)
{
    static struct text t;
    const struct sh_kernels *k = check_scalar();
    for (int form = 0; form < 4; form++) {
        const float softcap = form & 1 ? 20.0f : 0.0f;
        const bool bias = form & 2;
        struct state s;
        text_fill(&t, 500 + (uint32_t)form);
        text_attend(k, &t, f16, 0, BLOCKS, softcap, bias, &s);
        for (int h = 0; h < HEADS; h++) {
            double want[D];
            naive(&t, h, (double)softcap, bias, want);
            for (int j = 0; j < D; j++)
                check_near("attention", j, (double)s.acc[h * D + j] / (double)s.l[h], want[j], 2e-5,
                           2e-5);
        }
    }
}

/* What hidden places hold changes nothing, NaN included. */
static void check_hidden(bool f16)
{
    static struct text t;
    struct state a, b;
    text_fill(&t, 600);
    text_attend(check_scalar(), &t, f16, 0, BLOCKS, 0, true, &a);
    for (int i = 0; i < KEYS; i++) {
        if (t.visible[i / 64] >> (i % 64) & 1) continue;
        t.bias[i] = NAN;
        for (int j = 0; j < D; j++) {
            t.k[i * D + j] = t.v[i * D + j] = NAN;
            t.k16[i * D + j] = t.v16[i * D + j] = 0x7e01;
        }
    }
    text_attend(check_scalar(), &t, f16, 0, BLOCKS, 0, true, &b);
    assert_memory_equal(&a, &b, sizeof a);
    assert_true(a.l[0] == a.l[0]);

    // Visible, but masked to -inf everywhere: nothing happens either.
    for (int i = 0; i < KEYS; i++)
        t.bias[i] = -INFINITY;
    text_attend(check_scalar(), &t, f16, 0, 1, 0, true, &a);
    state_init(&b);
    assert_memory_equal(&a, &b, sizeof a);
}

void vec__attn_block_f16(void **state)
{
    (void)state;
    attn_tiers("attn_block_f16", run_attn_f16, true);
    check_meaning(true);
    check_hidden(true);
}

void vec__attn_block_f32(void **state)
{
    (void)state;
    attn_tiers("attn_block_f32", run_attn_f32, false);
    check_meaning(false);
    check_hidden(false);
}

static void run_merge(const struct sh_kernels *k, const struct call *c, float *const *out,
                      const void *const *in)
{
    k->attn_merge(c->n, out[0], out[1], out[2], c->scalar[0], c->scalar[1], in[0]);
}

/* Halves merged against one pass; an empty side changes nothing. */
static void check_merge(void)
{
    static struct text t;
    const struct sh_kernels *k = check_scalar();
    struct state whole, a, b, none;
    text_fill(&t, 700);
    text_attend(k, &t, true, 0, BLOCKS, 0, false, &whole);
    text_attend(k, &t, true, 0, 2, 0, false, &a);
    text_attend(k, &t, true, 2, BLOCKS, 0, false, &b);
    for (int h = 0; h < HEADS; h++) {
        k->attn_merge(D, &a.m[h], &a.l[h], a.acc + h * D, b.m[h], b.l[h], b.acc + h * D);
        assert_true(a.m[h] == whole.m[h]);
        check_near("merged sum", h, a.l[h], whole.l[h], 1e-6, 0);
        for (int j = 0; j < D; j++)
            check_near("merged", j, (double)a.acc[h * D + j] / (double)a.l[h],
                       (double)whole.acc[h * D + j] / (double)whole.l[h], 1e-6, 1e-6);
    }
    state_init(&none);
    b = whole;
    k->attn_merge(D, b.m, b.l, b.acc, none.m[0], none.l[0], none.acc);
    assert_memory_equal(&b, &whole, sizeof b);
    k->attn_merge(D, none.m, none.l, none.acc, b.m[0], b.l[0], b.acc);
    assert_memory_equal(none.acc, b.acc, D * sizeof(float));
}

void vec__attn_merge(void **state)
{
    static const float m2[] = {1.5f, -INFINITY, -200.0f, 300.0f, INFINITY, NAN};
    (void)state;
    for (int i = 0; i < CHECK_SIZES_COUNT; i++) {
        const size_t n = (size_t)CHECK_SIZES[i];
        for (int j = 0; j < 12; j++) {
            const struct call c = {.n = (int64_t)n,
                                   .scalar = {m2[j / 2], 2.25f},
                                   .in = {n},
                                   .out = {1, 1, n},
                                   .out_set = 7,
                                   .fresh = j % 2};
            for (int kind = 0; kind < FILL_KINDS; kind++)
                check_tiers("attn_merge", run_merge, &c, kind, 71);
        }
    }
    check_merge();
}

/* ---- convolution -------------------------------------------------------------------------------
 * dim: n_ch, width, n_t, y_stride, x_stride */

static void run_conv(const struct sh_kernels *k, const struct call *c, float *const *out,
                     const void *const *in)
{
    k->conv_run(c->dim[0], c->dim[1], c->dim[2], out[0], (size_t)c->dim[3], in[0],
                (size_t)c->dim[4], in[1], in[2], out[1]);
}

/* The run cut in two, with the state in place, gives what one run gives, and that is the sum. */
static void check_conv_meaning(void)
{
    enum { CH = 21, W = 4, T = 9, CUT = 2 };
    float x[T * CH], w[CH * W], y[T * CH], y2[T * CH], s[CH * (W - 1)], s2[CH * (W - 1)];
    const struct sh_kernels *k = check_scalar();
    check_fill_f32(x, T * CH, FILL_ORDINARY, 80);
    check_fill_f32(w, CH * W, FILL_ORDINARY, 81);
    k->conv_run(CH, W, T, y, CH, x, CH, w, NULL, s);
    k->conv_run(CH, W, CUT, y2, CH, x, CH, w, NULL, s2);
    k->conv_run(CH, W, T - CUT, y2 + CUT * CH, CH, x + CUT * CH, CH, w, s2, s2);
    assert_memory_equal(y, y2, sizeof y);
    assert_memory_equal(s, s2, sizeof s);
    for (int t = 0; t < T; t++) {
        for (int ch = 0; ch < CH; ch++) {
            double want = 0;
            for (int j = 0; j < W; j++)
                if (t - W + 1 + j >= 0)
                    want += (double)w[ch * W + j] * (double)x[(t - W + 1 + j) * CH + ch];
            check_near("conv", t, y[t * CH + ch], want, 1e-6, 1e-5);
        }
    }
}

void vec__conv_run(void **state)
{
    static const int64_t channels[] = {1, 15, 16, 17, 33, 100};
    (void)state;
    for (int i = 0; i < 6; i++) {
        for (int64_t width = 1; width <= 10; width++) {
            for (int form = 0; form < 6; form++) {
                const int64_t ch = channels[i], t = form, xs = ch + form % 2, ys = ch + form % 3;
                const struct call c = {
                    .n = 1,
                    .dim = {ch, width, t, ys, xs},
                    .in = {t ? (size_t)((t - 1) * xs + ch) : 0, (size_t)(ch * width),
                           form % 2 ? (size_t)(ch * (width - 1)) : 0},
                    .out = {t ? (size_t)((t - 1) * ys + ch) : 0, (size_t)(ch * (width - 1))},
                    .optional = 4,
                    .out_set = 1};
                check_tiers("conv_run", run_conv, &c, form % FILL_KINDS, 81);
            }
        }
    }
    check_conv_meaning();
}

/* ---- scan --------------------------------------------------------------------------------------
 * dim: d_head, d_state, n_t; strides: widths plus dim[3]; scalar: dt_bias, a, d */

static void run_ssm(const struct sh_kernels *k, const struct call *c, float *const *out,
                    const void *const *in)
{
    const size_t gap = (size_t)c->dim[3];
    k->ssm_run(c->dim[0], c->dim[1], c->dim[2], out[0], (size_t)c->dim[0] + gap, in[0],
               (size_t)c->dim[0] + gap, in[1], 1 + gap, c->scalar[0], c->scalar[1], c->scalar[2],
               in[2], in[3], (size_t)c->dim[1] + gap, in[4], out[1]);
}

static void check_ssm_meaning(void)
{
    enum { P = 5, N = 20, T = 6 };
    const double bias = 0.5, a = -0.7, d = 1.3;
    float x[T * P], dt[T], b[T * N], c[T * N], y[T * P], s[P * N];
    double h[P * N] = {0};
    check_fill_f32(x, T * P, FILL_ORDINARY, 90);
    check_fill_f32(dt, T, FILL_ORDINARY, 91);
    check_fill_f32(b, T * N, FILL_ORDINARY, 92);
    check_fill_f32(c, T * N, FILL_ORDINARY, 93);
    check_scalar()->ssm_run(P, N, T, y, P, x, P, dt, 1, (float)bias, (float)a, (float)d, b, c, N,
                            NULL, s);
    for (int t = 0; t < T; t++) {
        const double step = log1p(exp((double)dt[t] + bias));
        for (int i = 0; i < P; i++) {
            double want = d * (double)x[t * P + i];
            for (int j = 0; j < N; j++) {
                double *hj = &h[i * N + j];
                *hj = *hj * exp(step * a) + (double)x[t * P + i] * step * (double)b[t * N + j];
                want += *hj * (double)c[t * N + j];
            }
            check_near("scan", t, y[t * P + i], want, 1e-5, 1e-3);
        }
    }
    for (int i = 0; i < P * N; i++)
        check_near("scan state", i, s[i], h[i], 1e-5, 1e-4);
}

void vec__ssm_run(void **state)
{
    static const int64_t states[] = {1, 15, 16, 17, 64, 128};
    (void)state;
    for (int i = 0; i < 6; i++) {
        for (int form = 0; form < 8; form++) {
            const int64_t p = 1 + 3 * (form % 3), n = states[i], t = form % 4, gap = form % 2;
            const size_t steps = (size_t)(t ? t - 1 : 0);
            const struct call c = {
                .n = 1,
                .dim = {p, n, t, gap},
                .scalar = {0.5f, -0.7f, 1.3f},
                .in = {t ? steps * (size_t)(p + gap) + (size_t)p : 0,
                       t ? steps * (size_t)(1 + gap) + 1 : 0,
                       t ? steps * (size_t)(n + gap) + (size_t)n : 0,
                       t ? steps * (size_t)(n + gap) + (size_t)n : 0,
                       form & 4 ? (size_t)(p * n) : 0},
                .out = {t ? steps * (size_t)(p + gap) + (size_t)p : 0, (size_t)(p * n)},
                .optional = 16,
                .out_set = 1};
            for (int kind = 0; kind < FILL_KINDS; kind++)
                check_tiers("ssm_run", run_ssm, &c, kind, 91);
        }
    }
    check_ssm_meaning();
}
