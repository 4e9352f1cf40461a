/* tests/kernels/vec_check.c - see vec_check.h.  Threads: one. */
#include "vec_check.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "bits.h"
#include "mm_data.h"

const int64_t CHECK_SIZES[] = {0, 1, 15, 16, 17, 31, 33, 64, 100, 576, 1536};
const int CHECK_SIZES_COUNT = sizeof CHECK_SIZES / sizeof *CHECK_SIZES;

static const struct {
    unsigned isa;
    const char *name;
} TIERS[] = {{0, "scalar"},
             {SH_ISA_AVX2, "avx2"},
             {SH_ISA_AVX2 | SH_ISA_AVX512, "avx512"},
             {SH_ISA_NEON, "neon"}}; // dotprod has only products
enum { N_TIERS = sizeof TIERS / sizeof *TIERS };

enum { SENTINEL = 0xa5, SKEW = 4, MARGIN = 64 };

static bool tier_here(int tier)
{
    return (TIERS[tier].isa & ~sh_isa_detect()) == 0;
}

void check_print_tiers(void)
{
    printf("tiers compared with scalar:");
    for (int t = 1; t < N_TIERS; t++)
        if (tier_here(t)) printf(" %s", TIERS[t].name);
    printf("; not on this CPU:");
    for (int t = 1; t < N_TIERS; t++)
        if (!tier_here(t)) printf(" %s", TIERS[t].name);
    printf("\n");
}

const struct sh_kernels *check_scalar(void)
{
    static struct sh_kernels k;
    if (!k.add) sh_kernels_fill(&k, 0);
    return &k;
}

/* ---- inputs ------------------------------------------------------------------------------------
 */

static float f32_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static float ordinary(uint32_t *r)
{
    return ((float)(data_rand(r) >> 8) / 0x1p24f - 0.5f) * 12.0f;
}

static float extreme(uint32_t *r)
{
    static const float edge[] = {
        0.0f,    -0.0f,    0x1p-149f, -0x1p-149f, FLT_MIN,    -FLT_MIN, FLT_MAX,  -FLT_MAX,
        1e30f,   -1e30f,   INFINITY,  -INFINITY,  NAN,        1.0f,     -1.0f,    0.625f,
        -0.625f, 4.0f,     -4.0f,     10.0f,      -10.0f,     9.9999f,  -9.9999f, 20.0f,
        20.001f, -20.0f,   88.72f,    88.73f,     89.0f,      89.5f,    -87.33f,  -87.34f,
        -100.0f, -103.97f, -103.98f,  -104.0f,    -104.5f,    150.0f,   -150.0f,  65504.0f,
        6e-8f,   2.9e-8f,  1e-20f,    -1e-20f,    0x1.8p-24f, 1e-40f,   -1e-40f,  3.0f};
    if (data_rand(r) & 1) return ordinary(r);
    return edge[data_rand(r) % (sizeof edge / sizeof *edge)];
}

static float wide(uint32_t *r)
{
    for (;;) {
        const float f = f32_of(data_rand(r));
        if (isfinite(f)) return f;
    }
}

void check_fill_f32(float *x, size_t n, enum fill_kind kind, uint32_t seed)
{
    uint32_t r = seed * 2654435761u + 1;
    for (size_t i = 0; i < n; i++) {
        x[i] = kind == FILL_ORDINARY ? ordinary(&r) : kind == FILL_WIDE ? wide(&r) : extreme(&r);
    }
}

void check_fill_f16(uint16_t *x, size_t n, enum fill_kind kind, uint32_t seed)
{
    uint32_t r = seed * 2654435761u + 1;
    for (size_t i = 0; i < n; i++) {
        if (kind == FILL_ORDINARY) {
            x[i] = sh_f32_to_f16(ordinary(&r));
            continue;
        }
        x[i] = (uint16_t)(data_rand(&r) >> 16);
        if (kind == FILL_WIDE && (x[i] & 0x7c00) == 0x7c00) x[i] &= 0xbfff;
    }
}

/* ---- outcomes ----------------------------------------------------------------------------------
 */

static bool same_bits(float a, float b)
{
    return (a != a && b != b) || memcmp(&a, &b, sizeof a) == 0;
}

void check_near(const char *name, int64_t at, double got, double want, double rel, double abs)
{
    if (isnan(got) && isnan(want)) return;
    if (got == want) return;
    if (fabs(got - want) <= abs + rel * fabs(want)) return;
    fail_msg("%s[%lld]: %.9g, reference %.17g", name, (long long)at, got, want);
}

void check_spread(const float *x, size_t n, float reach)
{
    float lo = INFINITY, hi = -INFINITY;
    size_t equal = 0;
    for (size_t i = 0; i < n; i++) {
        if (x[i] < lo) lo = x[i];
        if (x[i] > hi) hi = x[i];
        if (i > 0 && x[i] == x[i - 1]) equal++;
    }
    if (lo > -reach || hi < reach || equal * 10 > n)
        fail_msg("inputs from %g to %g, %zu of %zu repeated", (double)lo, (double)hi, equal, n);
}

/* ---- one call on every tier --------------------------------------------------------------------
 */

struct arrays {
    struct guarded in[CHECK_IN], out[CHECK_OUT]; /* where the kernels find them */
    void *source[CHECK_IN];                      /* pristine */
    float *before[CHECK_OUT], *want[CHECK_OUT];
};

static size_t in_bytes(const struct call *c, int i)
{
    return c->in[i] * (c->in_f16 >> i & 1 ? sizeof(uint16_t) : sizeof(float));
}

static size_t out_bytes(const struct call *c, int i)
{
    return c->out[i] * sizeof(float);
}

static void arrays_open(struct arrays *a, const struct call *c, enum fill_kind kind, uint32_t seed)
{
    *a = (struct arrays){0};
    for (int i = 0; i < CHECK_IN; i++) {
        a->in[i] = guarded_open(in_bytes(c, i) + MARGIN);
        a->source[i] = sh_calloc(1, in_bytes(c, i) + 1);
        if (c->in_f16 >> i & 1) {
            check_fill_f16(a->source[i], c->in[i], kind, seed + 100u * (unsigned)i);
        } else {
            check_fill_f32(a->source[i], c->in[i], kind, seed + 100u * (unsigned)i);
        }
    }
    for (int i = 0; i < CHECK_OUT; i++) {
        a->out[i] = guarded_open(out_bytes(c, i) + 2 * MARGIN);
        a->before[i] = sh_calloc(1, out_bytes(c, i) + 1);
        a->want[i] = sh_calloc(1, out_bytes(c, i) + 1);
        if (!(c->out_set >> i & 1)) continue;
        check_fill_f32(a->before[i], c->out[i], FILL_ORDINARY, seed + 7777u + (unsigned)i);
        for (size_t j = 0; c->fresh && j < c->out[i]; j++)
            a->before[i][j] = i == 0 ? -INFINITY : 0.0f;
    }
}

static void arrays_close(struct arrays *a)
{
    for (int i = 0; i < CHECK_IN; i++) {
        guarded_close(&a->in[i]);
        sh_free(a->source[i]);
    }
    for (int i = 0; i < CHECK_OUT; i++) {
        guarded_close(&a->out[i]);
        sh_free(a->before[i]);
        sh_free(a->want[i]);
    }
}

static void compute_wanted(struct arrays *a, call_fn *fn, const struct call *c)
{
    const void *in[CHECK_IN];
    float *out[CHECK_OUT];
    for (int i = 0; i < CHECK_IN; i++)
        in[i] = c->in[i] || !(c->optional >> i & 1) ? a->source[i] : NULL;
    for (int i = 0; i < CHECK_OUT; i++) {
        out[i] = a->want[i];
        memcpy(out[i], a->before[i], out_bytes(c, i));
    }
    fn(check_scalar(), c, out, in);
}

/* Bytes beside an output must still be sentinels. */
static void check_surroundings(const struct guarded *g, const float *out, size_t bytes, bool last,
                               const char *name, const char *tier)
{
    const uint8_t *p = (const uint8_t *)out;
    const uint8_t *beside = last ? p - MARGIN : p + bytes;
    (void)g;
    for (int i = 0; i < MARGIN; i++) {
        if (beside[i] == SENTINEL) continue;
        fail_msg("%s %s: wrote %d bytes %s its output of %zu", name, tier,
                 last ? MARGIN - i : i + 1, last ? "before" : "behind", bytes);
    }
}

static void compare(const struct call *c, const struct arrays *a, float *const *out, bool last,
                    const char *name, const char *tier, const char *how)
{
    for (int i = 0; i < CHECK_OUT; i++) {
        for (size_t j = 0; j < c->out[i]; j++) {
            if (same_bits(out[i][j], a->want[i][j])) continue;
            fail_msg("%s %s, n %lld, %s: output %d[%zu] is %a, scalar %a", name, tier,
                     (long long)c->n, how, i, j, (double)out[i][j], (double)a->want[i][j]);
        }
        check_surroundings(&a->out[i], out[i], out_bytes(c, i), last, name, tier);
    }
}

static void run_placed(const char *name, call_fn *fn, const struct call *c, struct arrays *a,
                       int tier, bool last, bool aliased)
{
    struct sh_kernels k;
    const void *in[CHECK_IN];
    float *out[CHECK_OUT];

    sh_kernels_fill(&k, TIERS[tier].isa);
    for (int i = 0; i < CHECK_IN; i++) {
        uint8_t *p = last ? guarded_last(&a->in[i], in_bytes(c, i))
                          : guarded_first(&a->in[i], c->in_f16 >> i & 1 ? SKEW / 2 : SKEW);
        memcpy(p, a->source[i], in_bytes(c, i));
        in[i] = c->in[i] || !(c->optional >> i & 1) ? p : NULL;
    }
    for (int i = 0; i < CHECK_OUT; i++) {
        const size_t bytes = out_bytes(c, i);
        uint8_t *p = last ? guarded_last(&a->out[i], bytes) : guarded_first(&a->out[i], SKEW);
        memset(last ? p - MARGIN : p, SENTINEL, bytes + MARGIN);
        if (c->out_set >> i & 1) memcpy(p, a->before[i], bytes);
        out[i] = (float *)(void *)p;
    }
    if (aliased) {
        memcpy(out[0], a->source[c->alias - 1], in_bytes(c, c->alias - 1));
        in[c->alias - 1] = out[0];
    }
    fn(&k, c, out, in);
    compare(c, a, out, last, name, TIERS[tier].name,
            aliased ? "in place"
            : last  ? "at the end of a page"
                    : "unaligned");
}

void check_tiers(const char *name, call_fn *fn, const struct call *c, enum fill_kind kind,
                 uint32_t seed)
{
    struct arrays a;
    arrays_open(&a, c, kind, seed);
    compute_wanted(&a, fn, c);
    for (int i = 0; i < CHECK_OUT; i++)
        bits_fold_f32("", name, a.want[i], c->out[i]);
    for (int t = 0; t < N_TIERS; t++) {
        if (!tier_here(t)) continue;
        run_placed(name, fn, c, &a, t, false, false);
        run_placed(name, fn, c, &a, t, true, false);
        if (c->alias) run_placed(name, fn, c, &a, t, true, true);
    }
    arrays_close(&a);
}
