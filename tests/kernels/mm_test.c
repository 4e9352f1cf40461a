/* tests/kernels/mm_test.c - the matrix products: known answers of the scalar kernels, their
 * distance from a computation in double, and bit equality of every tier that this CPU has.
 *
 * Outputs do not depend on each other, so one scalar run over the largest shape is the reference
 * of all smaller ones.  Buffers end at, or begin behind, a page that may not be touched; gaps
 * between output rows must stay as they were.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "bits.h"
#include "kernels/kernels.h"
#include "mm_data.h"

enum { OUT_MAX = 64, ACT_MAX = 33 };

static const struct {
    unsigned isa;
    const char *name;
} TIERS[] = {{SH_ISA_AVX2, "avx2"},
             {SH_ISA_AVX2 | SH_ISA_AVX512, "avx512"},
             {SH_ISA_NEON, "neon"},
             {SH_ISA_NEON | SH_ISA_DOTPROD, "dotprod"}};
enum { N_TIERS = sizeof TIERS / sizeof *TIERS };

static bool same_bits(float a, float b)
{
    return (a != a && b != b) || memcmp(&a, &b, sizeof a) == 0;
}

static uint32_t bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* ---- known answers -------------------------------------------------------------------------
 * Made by an independent program with exact rational arithmetic, one rounding per step, from the
 * same generator: 512 weights (seed 7 + id) and activations (seed 1000 + id). */
static const struct {
    enum sh_dtype type;
    uint32_t decoded_hash, product;
} KNOWN[] = {
    {SH_DTYPE_F32, 0x841007a1, 0xc30cc4f9},    // -140.769424
    {SH_DTYPE_F16, 0x9942132e, 0xc28c99e8},    // -70.3005981
    {SH_DTYPE_BF16, 0x85ab6f3d, 0x42af0228},   // 87.5042114
    {SH_DTYPE_Q4_0, 0xb4901dfc, 0x42eb8991},   // 117.768684
    {SH_DTYPE_Q4_1, 0x8fe40cc9, 0x426d506d},   // 59.3285408
    {SH_DTYPE_Q5_0, 0x462e0902, 0x4394df45},   // 297.744293
    {SH_DTYPE_Q5_1, 0xa6dd50b4, 0x43f86b21},   // 496.836945
    {SH_DTYPE_Q8_0, 0xdb19da2b, 0xc585cc53},   // -4281.54053
    {SH_DTYPE_IQ4_NL, 0xcecd066c, 0xc4885f0a}, // -1090.96997
    {SH_DTYPE_MXFP4, 0x95db1048, 0xc3d1d964},  // -419.698364
    {SH_DTYPE_Q2_K, 0xe72fbacf, 0x4436abc3},   // 730.683777
    {SH_DTYPE_Q3_K, 0x3b63aea8, 0xc5046a56},   // -2118.646
    {SH_DTYPE_Q4_K, 0xc351f05f, 0xc67bfc55},   // -16127.083
    {SH_DTYPE_Q5_K, 0x104a80c2, 0xc67e0e8c},   // -16259.6367
    {SH_DTYPE_Q6_K, 0xcdca2135, 0x47a8d41c},   // 86440.2188
};

/* The generator's own order of draws: one per element, unlike data_act. */
static void known_act(float *x, int64_t n, uint32_t seed)
{
    uint32_t r = seed;

    for (int64_t i = 0; i < n; i++)
        x[i] = ((float)(data_rand(&r) >> 8 & 0xffff) - 32768.0f) / 1024.0f;
}

static void mm__known_answers(void **state)
{
    enum { K = 512 };
    static uint8_t w[K * 4], act[K * 8];
    static float x[K], decoded[K];
    struct sh_kernels k;

    (void)state;
    sh_kernels_fill(&k, 0);
    for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++) {
        const enum sh_dtype t = KNOWN[i].type;
        size_t row_bytes;
        float y = 0;

        assert_true(sh_dtype_row_bytes(t, K, &row_bytes));
        data_weights(w, row_bytes, t, WEIGHT_RANDOM, 7 + (uint32_t)t);
        known_act(x, K, 1000 + (uint32_t)t);
        k.decode[t](K, decoded, w);
        assert_int_equal(data_hash(decoded, sizeof decoded), KNOWN[i].decoded_hash);
        k.act[sh_dtype_info(t)->partner](K, act, x);
        k.mm[t](K, 0, K, 1, 1, &y, 1, w, row_bytes, act, 0);
        if (bits(y) != KNOWN[i].product) {
            fail_msg("%s: %08x, not %08x", sh_dtype_info(t)->name, bits(y), KNOWN[i].product);
        }
    }
}

/* ---- one type, all tiers ----------------------------------------------------------------------*/

/* What one comparison needs: the inputs of the largest shape, and the scalar results. */
struct job {
    enum sh_dtype type;
    int64_t k_row, k0, k1;
    size_t row_bytes, act_bytes;
    uint8_t *w, *act;
    float *x;
    float want[ACT_MAX][OUT_MAX];
    struct guarded gw, ga, gd; /* where the tiers find copies of them */
};

static void job_open(struct job *job, const struct sh_kernels *scalar, enum sh_dtype type,
                     int64_t k_row, int64_t k0, int64_t k1, enum weight_kind wk, enum act_kind ak)
{
    const enum sh_dtype partner = sh_dtype_info(type)->partner;

    *job = (struct job){.type = type, .k_row = k_row, .k0 = k0, .k1 = k1};
    assert_true(sh_dtype_row_bytes(type, k_row, &job->row_bytes));
    job->act_bytes = sh_act_row_bytes(partner, k_row);
    assert_int_equal(job->act_bytes % 64, 0);
    job->w = sh_malloc(OUT_MAX * job->row_bytes);
    job->act = sh_calloc(ACT_MAX, job->act_bytes);
    job->x = sh_malloc((size_t)k_row * sizeof *job->x);
    job->gw = guarded_open(OUT_MAX * (job->row_bytes + 8) + 64);
    job->ga = guarded_open(ACT_MAX * job->act_bytes + 64);
    job->gd = guarded_open(ACT_MAX * (OUT_MAX + 3) * sizeof(float) + 64);
    data_weights(job->w, OUT_MAX * job->row_bytes, type, wk, 77 + (uint32_t)k_row);
    for (int j = 0; j < ACT_MAX; j++) {
        data_act(job->x, k_row, ak, 5 + (uint32_t)j);
        scalar->act[partner](k_row, job->act + (size_t)j * job->act_bytes, job->x);
    }
    scalar->mm[type](k_row, k0, k1, OUT_MAX, ACT_MAX, job->want[0], OUT_MAX, job->w, job->row_bytes,
                     job->act, job->act_bytes);
    bits_fold_f32("mm", sh_dtype_info(type)->name, job->want[0], sizeof job->want / sizeof(float));
}

static void job_close(struct job *job)
{
    sh_free(job->w);
    sh_free(job->act);
    sh_free(job->x);
    guarded_close(&job->gw);
    guarded_close(&job->ga);
    guarded_close(&job->gd);
}

/* Run `mm` on the first n_out rows and n_act activations.  `at_end`: buffers end at the guard
 * page; else they begin behind one, at odd addresses and strides. */
static void job_compare(struct job *job, sh_mm_fn *mm, const char *tier, int64_t n_out,
                        int64_t n_act, bool at_end)
{
    const float gap = 12345.0f;
    const size_t w_stride = job->row_bytes + (at_end ? 0 : 5);
    const size_t w_bytes = (size_t)n_out * w_stride;
    const size_t act_bytes = (size_t)n_act * job->act_bytes;
    const size_t dst_stride = (size_t)n_out + (at_end ? 0 : 3);
    const size_t n_dst = ((size_t)n_act - 1) * dst_stride + (size_t)n_out;
    uint8_t *w = at_end ? guarded_last(&job->gw, w_bytes) : guarded_first(&job->gw, 3);
    uint8_t *act = at_end ? guarded_last(&job->ga, act_bytes) : guarded_first(&job->ga, 4);
    float *dst = (float *)(void *)(at_end ? guarded_last(&job->gd, n_dst * sizeof *dst)
                                          : guarded_first(&job->gd, 4));

    for (int64_t i = 0; i < n_out; i++) {
        memcpy(w + (size_t)i * w_stride, job->w + (size_t)i * job->row_bytes, job->row_bytes);
    }
    memcpy(act, job->act, act_bytes);
    for (size_t i = 0; i < n_dst; i++)
        dst[i] = gap;
    mm(job->k_row, job->k0, job->k1, n_out, n_act, dst, dst_stride, w, w_stride, act,
       job->act_bytes);
    for (size_t at = 0; at < n_dst; at++) {
        const size_t j = at / dst_stride, i = at % dst_stride;
        const float want = i < (size_t)n_out ? job->want[j][i] : gap;
        if (!same_bits(dst[at], want)) {
            fail_msg("%s %s: k %lld..%lld of %lld, %lld x %lld: output %zu of row %zu is %a "
                     "(%08x), scalar %a (%08x)",
                     sh_dtype_info(job->type)->name, tier, (long long)job->k0, (long long)job->k1,
                     (long long)job->k_row, (long long)n_out, (long long)n_act, i, j,
                     (double)dst[at], bits(dst[at]), (double)want, bits(want));
        }
    }
}

static void compare_shapes(struct job *job, sh_mm_fn *mm, const char *tier, bool all)
{
    static const int64_t N_ACT[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 33};
    static const int64_t N_OUT_FEW[] = {1, 15, 16, 33, 64};
    bool at_end = true;

    for (size_t a = 0; a < sizeof N_ACT / sizeof *N_ACT; a++) {
        if (!all && N_ACT[a] % 4 != 1) continue;
        if (all) {
            for (int64_t n_out = 1; n_out <= 33; n_out++) {
                job_compare(job, mm, tier, n_out, N_ACT[a], at_end);
                at_end = !at_end;
            }
        }
        for (size_t o = 0; o < sizeof N_OUT_FEW / sizeof *N_OUT_FEW; o++) {
            job_compare(job, mm, tier, N_OUT_FEW[o], N_ACT[a], true);
            job_compare(job, mm, tier, N_OUT_FEW[o], N_ACT[a], false);
        }
    }
}

/* Compare every tier on one range of K and one kind of data. */
static void check_range(enum sh_dtype type, int64_t k_row, int64_t k0, int64_t k1,
                        enum weight_kind wk, enum act_kind ak, bool all)
{
    const unsigned have = sh_isa_detect();
    struct sh_kernels scalar;
    struct job job;

    sh_kernels_fill(&scalar, 0);
    job_open(&job, &scalar, type, k_row, k0, k1, wk, ak);
    job_compare(&job, scalar.mm[type], "scalar", 33, 3, true);
    for (int t = 0; t < N_TIERS; t++) {
        struct sh_kernels tier;
        if ((have & TIERS[t].isa) != TIERS[t].isa) continue;
        sh_kernels_fill(&tier, TIERS[t].isa);
        if (tier.mm[type] == scalar.mm[type]) continue;
        compare_shapes(&job, tier.mm[type], TIERS[t].name, all);
    }
    job_close(&job);
}

static void check_type(enum sh_dtype type)
{
    const int64_t len = sh_dtype_info(type)->block_len;

    if (len == 1) {
        static const int64_t K[] = {1, 2, 7, 16, 33, 100};
        for (size_t i = 0; i < sizeof K / sizeof *K; i++)
            check_range(type, K[i], 0, K[i], WEIGHT_RANDOM, ACT_RANDOM, K[i] == 33);
        check_range(type, 1029, 0, 1029, WEIGHT_RANDOM, ACT_RANDOM, false);
        check_range(type, 700, 33, 640, WEIGHT_RANDOM, ACT_RANDOM, false);
    } else {
        const int64_t many = len == 32 ? 67 : 9; // more than any tier takes at once
        check_range(type, len, 0, len, WEIGHT_RANDOM, ACT_RANDOM, true);
        check_range(type, 3 * len, 0, 3 * len, WEIGHT_RANDOM, ACT_RANDOM, len == 32);
        check_range(type, many * len, 0, many * len, WEIGHT_RANDOM, ACT_RANDOM, false);
        check_range(type, many * len, len, (many - 2) * len, WEIGHT_RANDOM, ACT_RANDOM, false);
    }
    check_range(type, 4 * len, 2 * len, 2 * len, WEIGHT_RANDOM, ACT_RANDOM, false);
    for (int wk = 0; wk < WEIGHT_KINDS; wk++) {
        for (int ak = 0; ak < ACT_KINDS; ak++)
            check_range(type, 2 * len, 0, 2 * len, (enum weight_kind)wk, (enum act_kind)ak, false);
    }
}

#define X(type)                                                                                    \
    static void mm__tiers_agree_##type(void **state)                                               \
    {                                                                                              \
        (void)state;                                                                               \
        check_type(SH_DTYPE_##type);                                                               \
    }
SH_MM_TYPES(X)
#undef X

/* ---- against double -----------------------------------------------------------------------*/

static void mm__close_to_double(void **state)
{
    enum { K = 1024, N_OUT = 24 };
    static uint8_t w[N_OUT * K * 4], act[K * 8];
    static float x[K], decoded[K];
    struct sh_kernels k;

    (void)state;
    sh_kernels_fill(&k, 0);
    for (size_t t = 0; t < SH_DTYPE_COUNT; t++) {
        double err = 0, norm = 0, bound = 2e-3; // rounding of activations to 8 bits
        float y[N_OUT];
        size_t row_bytes;

        if (!k.mm[t]) continue;
        if (t == SH_DTYPE_F32) bound = 1e-12;
        if (t == SH_DTYPE_F16) bound = 1e-6;
        if (t == SH_DTYPE_BF16) bound = 1e-4;
        assert_true(sh_dtype_row_bytes((enum sh_dtype)t, K, &row_bytes));
        data_weights(w, N_OUT * row_bytes, (enum sh_dtype)t, WEIGHT_RANDOM, 3);
        data_act(x, K, ACT_RANDOM, 4);
        k.act[sh_dtype_info((enum sh_dtype)t)->partner](K, act, x);
        k.mm[t](K, 0, K, N_OUT, 1, y, N_OUT, w, row_bytes, act, 0);
        for (int i = 0; i < N_OUT; i++) {
            double sum = 0;
            k.decode[t](K, decoded, w + (size_t)i * row_bytes);
            for (int e = 0; e < K; e++)
                sum += (double)decoded[e] * (double)x[e];
            err += (sum - (double)y[i]) * (sum - (double)y[i]);
            norm += sum * sum;
        }
        assert_true(norm > 1);
        if (!(err <= bound * norm)) {
            fail_msg("%s: NMSE %g against double, bound %g", sh_dtype_info((enum sh_dtype)t)->name,
                     err / norm, bound);
        }
    }
}

/* ---- activations and encoders -------------------------------------------------------------*/

/* Equal words, or both the pattern of a NaN. */
static bool same_words(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
        float x, y;
        memcpy(&x, a + i, 4);
        memcpy(&y, b + i, 4);
        if (!same_bits(x, y)) return false;
    }
    return true;
}

static void check_act(enum sh_dtype partner, int64_t n, enum act_kind kind)
{
    const unsigned have = sh_isa_detect();
    const size_t bytes = sh_act_row_bytes(partner, n);
    struct guarded gx = guarded_open((size_t)n * sizeof(float)), gd = guarded_open(bytes);
    float *x = (float *)(void *)guarded_last(&gx, (size_t)n * sizeof(float));
    uint8_t *got = guarded_last(&gd, bytes), *want = sh_calloc(1, bytes);
    struct sh_kernels k;

    data_act(x, n, kind, 91);
    sh_kernels_fill(&k, 0);
    k.act[partner](n, want, x);
    bits_fold_f32("act", sh_dtype_info(partner)->name, (const float *)(void *)want, bytes / 4);
    for (int t = 0; t < N_TIERS; t++) {
        if ((have & TIERS[t].isa) != TIERS[t].isa) continue;
        sh_kernels_fill(&k, TIERS[t].isa);
        memset(got, 0, bytes);
        k.act[partner](n, got, x);
        if (!same_words(got, want, bytes)) {
            fail_msg("activations %s, n %lld, kind %d: %s differs from scalar",
                     sh_dtype_info(partner)->name, (long long)n, (int)kind, TIERS[t].name);
        }
    }
    sh_free(want);
    guarded_close(&gx);
    guarded_close(&gd);
}

static void act__tiers_agree(void **state)
{
    static const enum sh_dtype PARTNERS[] = {SH_DTYPE_F32,  SH_DTYPE_F16,  SH_DTYPE_BF16,
                                             SH_DTYPE_Q8_0, SH_DTYPE_Q8_1, SH_DTYPE_Q8_K};

    (void)state;
    for (size_t p = 0; p < sizeof PARTNERS / sizeof *PARTNERS; p++) {
        const int64_t len = sh_dtype_info(PARTNERS[p])->block_len;
        for (int kind = 0; kind < ACT_KINDS; kind++) {
            for (int64_t n = 1; n <= (len == 1 ? 70 : 5); n++)
                check_act(PARTNERS[p], n * len, (enum act_kind)kind);
            check_act(PARTNERS[p], 64 * len, (enum act_kind)kind);
        }
    }
    assert_int_equal(sh_act_row_bytes(SH_DTYPE_Q4_0, 32), 0);
    assert_int_equal(sh_act_row_bytes(SH_DTYPE_F32, -1), 0);
}

/* Rows of floats or blocks to f32 and back, where a tier has its own code for it. */
static void check_convert(enum sh_dtype type, int64_t n, enum act_kind kind)
{
    const unsigned have = sh_isa_detect();
    struct sh_kernels scalar, k;
    size_t bytes;

    assert_true(sh_dtype_row_bytes(type, n, &bytes));
    struct guarded gx = guarded_open((size_t)n * sizeof(float)), gb = guarded_open(bytes);
    float *x = (float *)(void *)guarded_last(&gx, (size_t)n * sizeof(float));
    float *want = sh_calloc((size_t)n + 1, sizeof *want),
          *in = sh_calloc((size_t)n + 1, sizeof *in);
    uint8_t *blocks = guarded_last(&gb, bytes), *want_blocks = sh_calloc(1, bytes + 1);

    sh_kernels_fill(&scalar, 0);
    data_act(in, n, kind, 23);
    scalar.encode[type](n, want_blocks, in);
    scalar.decode[type](n, want, want_blocks);
    if (kind != ACT_WILD) // a scale may be NaN there, which is one value but two patterns
        bits_fold_bytes("encode", sh_dtype_info(type)->name, want_blocks, bytes);
    bits_fold_f32("decode", sh_dtype_info(type)->name, want, (size_t)n);
    for (int t = 0; t < N_TIERS; t++) {
        if ((have & TIERS[t].isa) != TIERS[t].isa) continue;
        sh_kernels_fill(&k, TIERS[t].isa);
        if (k.encode[type] == scalar.encode[type] && k.decode[type] == scalar.decode[type])
            continue;
        memcpy(x, in, (size_t)n * sizeof *x);
        memset(blocks, 0, bytes);
        k.encode[type](n, blocks, x);
        if (memcmp(blocks, want_blocks, bytes) != 0) {
            fail_msg("encode %s, n %lld, kind %d: %s differs from scalar",
                     sh_dtype_info(type)->name, (long long)n, (int)kind, TIERS[t].name);
        }
        k.decode[type](n, x, blocks);
        for (int64_t i = 0; i < n; i++) {
            if (!same_bits(x[i], want[i])) {
                fail_msg("decode %s, n %lld: %s gives %a at %lld, scalar %a",
                         sh_dtype_info(type)->name, (long long)n, TIERS[t].name, (double)x[i],
                         (long long)i, (double)want[i]);
            }
        }
    }
    sh_free(want);
    sh_free(in);
    sh_free(want_blocks);
    guarded_close(&gx);
    guarded_close(&gb);
}

static void convert__tiers_agree(void **state)
{
    struct sh_kernels k;

    (void)state;
    sh_kernels_fill(&k, 0);
    for (int t = 0; t < SH_DTYPE_COUNT; t++) {
        if (!k.encode[t] || !k.decode[t]) continue;
        const int64_t len = sh_dtype_info((enum sh_dtype)t)->block_len;
        for (int kind = 0; kind < ACT_KINDS; kind++) {
            for (int64_t n = 0; n <= (len == 1 ? 40 : 3); n++)
                check_convert((enum sh_dtype)t, n * len, (enum act_kind)kind);
        }
    }
}

/* After the tests above that fold. */
static void mm__known_bits(void **state)
{
    (void)state;
    bits_check(BITS_MATRIX);
}

/* Encoded rows decode to something near; extremes and NaN give valid blocks. */
static void encode__near(void **state)
{
    enum { N = 1024 };
    static const struct {
        enum sh_dtype type;
        double bound;
    } CASES[] = {
        {SH_DTYPE_F32, 0},      {SH_DTYPE_F16, 1e-6},    {SH_DTYPE_BF16, 1e-5},
        {SH_DTYPE_Q8_0, 5e-5},  {SH_DTYPE_Q4_0, 1.2e-2}, {SH_DTYPE_Q4_1, 1e-2},
        {SH_DTYPE_Q5_0, 3e-3},  {SH_DTYPE_Q5_1, 3e-3},   {SH_DTYPE_IQ4_NL, 1e-2},
        {SH_DTYPE_MXFP4, 5e-2}, {SH_DTYPE_Q2_K, 0.2},    {SH_DTYPE_Q3_K, 5e-2},
        {SH_DTYPE_Q4_K, 1e-2},  {SH_DTYPE_Q5_K, 3e-3},   {SH_DTYPE_Q6_K, 1e-3},
    };
    static float x[N], back[N];
    static uint8_t blocks[N * 4];
    struct sh_kernels k;

    (void)state;
    sh_kernels_fill(&k, 0);
    for (size_t c = 0; c < sizeof CASES / sizeof *CASES; c++) {
        const enum sh_dtype t = CASES[c].type;
        for (int kind = 0; kind < ACT_KINDS; kind++) {
            double err = 0, norm = 0;
            data_act(x, N, (enum act_kind)kind, 17);
            k.encode[t](N, blocks, x);
            k.decode[t](N, back, blocks);
            if (kind != ACT_RANDOM && kind != ACT_ALTERNATING && kind != ACT_ONES) continue;
            for (int i = 0; i < N; i++) {
                err += ((double)back[i] - (double)x[i]) * ((double)back[i] - (double)x[i]);
                norm += (double)x[i] * (double)x[i];
            }
            if (!(err <= CASES[c].bound * norm)) {
                fail_msg("%s, kind %d: NMSE %g, bound %g", sh_dtype_info(t)->name, kind, err / norm,
                         CASES[c].bound);
            }
        }
    }
}

/* Decoders of types without a product: values worked out by hand. */
static void decode__more_types(void **state)
{
    uint8_t b[64] = {0};
    float y[256];
    struct sh_kernels k;

    (void)state;
    sh_kernels_fill(&k, 0);
    b[1] = 0x3c; // d = 1
    b[2] = 0x05; // q1_0: bits 0 and 2; q2_0: codes 1, 1, 0, 0
    k.decode[SH_DTYPE_Q1_0](128, y, b);
    assert_true(y[0] == 1 && y[1] == -1 && y[2] == 1 && y[3] == -1 && y[127] == -1);
    k.decode[SH_DTYPE_Q2_0](64, y, b);
    assert_true(y[0] == 0 && y[1] == 0 && y[2] == -1 && y[63] == -1);
    memset(b, 0, sizeof b);
    b[0] = 0x38, b[3] = 0x7e;  // nvfp4: scales 1, 0, 0, 448
    b[4] = 0x7f, b[35] = 0x90; // elements 0, 8: code 15, 7; elements 55, 63: code 0, 9
    k.decode[SH_DTYPE_NVFP4](64, y, b);
    assert_true(y[0] == -6 && y[8] == 6 && y[1] == 0 && y[55] == 0 && y[63] == -224);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mm__known_answers),
        cmocka_unit_test(mm__close_to_double),
        cmocka_unit_test(act__tiers_agree),
        cmocka_unit_test(convert__tiers_agree),
        cmocka_unit_test(encode__near),
        cmocka_unit_test(decode__more_types),
#define X(type) cmocka_unit_test(mm__tiers_agree_##type),
        SH_MM_TYPES(X)
#undef X
            cmocka_unit_test(mm__known_bits),
    };
    const unsigned have = sh_isa_detect();

    for (int t = 0; t < N_TIERS; t++) {
        printf("tier %s: %s\n", TIERS[t].name,
               (have & TIERS[t].isa) == TIERS[t].isa ? "checked" : "not on this CPU");
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
