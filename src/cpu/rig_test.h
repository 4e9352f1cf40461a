/* cpu/rig_test.h - running a small graph in every way the CPU device can, for the tests of ops.
 *
 * A case builds a graph, gives its leaves values, and asks for the result.  The rig runs it on one
 * and on three threads and on every tier that this processor has, demands equal bits, and hands
 * the values out as doubles for comparison with a plain implementation.
 */
#ifndef CPU_RIG_TEST_H
#define CPU_RIG_TEST_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cpu/device.h"
#include "kernels/kernels.h"

#define RIG_LEAVES_MAX 24
#define RIG_CONFIGS_MAX 8

struct rig_config {
    int n_threads;
    unsigned isa;
    struct sh_device *d;
};
struct rig_devices {
    struct rig_config config[RIG_CONFIGS_MAX];
    int n;
};

/* A graph with the values of its leaves. */
struct rig {
    struct sh_graph g;
    struct {
        int32_t tensor;
        void *bytes; /* owned */
        size_t n_bytes;
        double *values; /* owned: what the bytes stand for, dense order */
    } leaf[RIG_LEAVES_MAX];
    int n_leaves;
    uint64_t seed;
    struct sh_extents bound; /* extents to run with */
};

static struct rig_devices rig_devices;

/* Instrumented scalar code is too slow to run everything: there one tier shows all races. */
#if defined(__SANITIZE_THREAD__)
#define RIG_FIRST_TIER (n_tiers - 1)
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RIG_FIRST_TIER (n_tiers - 1)
#endif
#endif
#ifndef RIG_FIRST_TIER
#define RIG_FIRST_TIER 0
#endif

static inline int rig_setup(void **state)
{
    const unsigned have = sh_isa_detect();
    unsigned tiers[4] = {0};
    int n_tiers = 1;

    (void)state;
    if (have & SH_ISA_AVX2) tiers[n_tiers++] = SH_ISA_AVX2;
    if (have & SH_ISA_AVX512) tiers[n_tiers++] = SH_ISA_AVX2 | SH_ISA_AVX512;
    if (have & SH_ISA_NEON) tiers[n_tiers++] = have & (SH_ISA_NEON | SH_ISA_DOTPROD);
    for (int i = 2 * RIG_FIRST_TIER; i < 2 * n_tiers; i++) {
        struct rig_config *c = &rig_devices.config[rig_devices.n];
        *c = (struct rig_config){.n_threads = i % 2 ? 3 : 1, .isa = tiers[i / 2]};
        const struct sh_cpu_options opt = {
            .n_threads = c->n_threads, .set_isa = true, .isa = c->isa};
        if (sh_cpu_device_open(&c->d, &opt, NULL)) return -1;
        rig_devices.n++;
    }
    return 0;
}

static inline int rig_teardown(void **state)
{
    (void)state;
    for (int i = 0; i < rig_devices.n; i++)
        sh_device_close(rig_devices.config[i].d);
    rig_devices.n = 0;
    return 0;
}

static inline void rig_init(struct rig *r, int64_t t, int64_t o, int64_t n_runs)
{
    memset(r, 0, sizeof *r);
    r->bound = (struct sh_extents){t, o, n_runs};
    sh_graph_init(&r->g, &r->bound);
    r->seed = 0x9e3779b97f4a7c15u;
}

static inline void rig_release(struct rig *r)
{
    for (int i = 0; i < r->n_leaves; i++) {
        sh_free(r->leaf[i].bytes);
        sh_free(r->leaf[i].values);
    }
    sh_graph_release(&r->g);
}

/* Uniform in [-1, 1). */
static inline double rig_random(struct rig *r)
{
    r->seed = r->seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(r->seed >> 11) / (double)(INT64_C(1) << 52) - 1.0;
}

static inline int64_t rig_below(struct rig *r, int64_t n)
{
    return (int64_t)((rig_random(r) + 1.0) / 2.0 * (double)n) % n;
}

/* Give leaf t values: from `values` (n doubles) or, if NULL, random ones times `scale`. */
/* Blocks of a type that cannot be encoded: any bits behind a small scale, which comes first. */
static inline void rig_fill_blocks(struct rig *r, const struct sh_tensor *s, uint8_t *bytes,
                                   size_t n_bytes)
{
    const uint16_t scale = sh_f32_to_f16(1.0f / 64);

    assert_true(s->dtype == SH_DTYPE_IQ4_XS || s->dtype == SH_DTYPE_Q1_0 ||
                s->dtype == SH_DTYPE_Q2_0);
    for (size_t i = 0; i < n_bytes; i++)
        bytes[i] = (uint8_t)rig_below(r, 256);
    for (size_t i = 0; i < n_bytes; i += sh_dtype_info(s->dtype)->block_bytes)
        memcpy(bytes + i, &scale, sizeof scale);
}

static inline const double *rig_fill(struct rig *r, int32_t t, const double *values, double scale)
{
    const struct sh_tensor *s = sh_graph_tensor(&r->g, t);
    const int64_t n = sh_tensor_elements(s);
    const int i = r->n_leaves++;
    struct sh_kernels k;
    float *f = sh_calloc((size_t)n + 1, sizeof *f);

    assert_true(i < RIG_LEAVES_MAX && t >= 0);
    sh_kernels_fill(&k, 0);
    r->leaf[i].tensor = t;
    assert_true(sh_tensor_bytes(s, &r->leaf[i].n_bytes));
    r->leaf[i].bytes = sh_calloc(1, r->leaf[i].n_bytes + 64);
    r->leaf[i].values = sh_calloc((size_t)n + 1, sizeof(double));
    for (int64_t e = 0; e < n; e++)
        f[e] = (float)(values ? values[e] : rig_random(r) * scale);
    switch (s->dtype) {
    case SH_DTYPE_F32:
        memcpy(r->leaf[i].bytes, f, (size_t)n * sizeof *f);
        break;
    case SH_DTYPE_I32:
        for (int64_t e = 0; e < n; e++)
            ((int32_t *)r->leaf[i].bytes)[e] = (int32_t)(f[e] = truncf(f[e]));
        break;
    case SH_DTYPE_I64:
        for (int64_t e = 0; e < n; e++)
            ((int64_t *)r->leaf[i].bytes)[e] = (int64_t)f[e];
        break;
    default:
        assert_non_null(k.decode[s->dtype]);
        if (k.encode[s->dtype])
            k.encode[s->dtype](n, r->leaf[i].bytes, f);
        else
            rig_fill_blocks(r, s, r->leaf[i].bytes, r->leaf[i].n_bytes);
        k.decode[s->dtype](n, f, r->leaf[i].bytes);
        break;
    }
    for (int64_t e = 0; e < n; e++)
        r->leaf[i].values[e] = (double)f[e];
    sh_free(f);
    return r->leaf[i].values;
}

static inline int32_t rig_leaf(struct rig *r, enum sh_dtype type, int64_t a, int64_t b, int64_t c,
                               int64_t d)
{
    const int64_t ne[4] = {a, b, c, d};

    return sh_leaf_plain(&r->g, type, ne, SH_EXTENT_NONE, 0);
}

/* A leaf with random values; *values may be NULL. */
static inline int32_t rig_random_leaf(struct rig *r, enum sh_dtype type, int64_t a, int64_t b,
                                      int64_t c, int64_t d, const double **values)
{
    const int32_t t = rig_leaf(r, type, a, b, c, d);
    const double *v = rig_fill(r, t, NULL, 1.0);

    if (values) *values = v;
    return t;
}

/* The whole result as doubles, dense order; f32, f16, bf16, i32 or block types. */
static inline double *rig_decode(const struct sh_tensor *t, const uint8_t *bytes)
{
    const int64_t n = sh_tensor_elements(t);
    double *out = sh_calloc((size_t)n + 1, sizeof *out);
    float *f = sh_calloc((size_t)n + 1, sizeof *f);
    struct sh_kernels k;

    sh_kernels_fill(&k, 0);
    for (int64_t i = 0; i < n && t->dtype == SH_DTYPE_I32; i++)
        f[i] = (float)((const int32_t *)(const void *)bytes)[i];
    if (t->dtype == SH_DTYPE_F32) {
        memcpy(f, bytes, (size_t)n * sizeof *f);
    } else if (t->dtype != SH_DTYPE_I32) {
        k.decode[t->dtype](n, f, bytes);
    }
    for (int64_t i = 0; i < n; i++)
        out[i] = (double)f[i];
    sh_free(f);
    return out;
}

/* Run on one device: status of the run; bytes of tensor `out` if OK. */
static inline enum shoal_status rig_run_on(struct rig *r, struct sh_device *d, int32_t out,
                                           uint8_t *bytes, size_t n_bytes, struct shoal_error *err)
{
    struct sh_queue *q = NULL;
    struct sh_exec *x = NULL;
    enum shoal_status st = sh_queue_create(d, &q, err);
    sh_ticket t = 0;

    if (!st) st = sh_exec_prepare(d, &x, &r->g, NULL, 0, 1, err);
    for (int i = 0; i < r->n_leaves && !st; i++)
        st = sh_queue_write_tensor(q, x, 0, r->leaf[i].tensor, 0, r->leaf[i].bytes,
                                   r->leaf[i].n_bytes, NULL, err);
    if (!st) st = sh_queue_submit(q, x, 0, &r->bound, NULL, &t, err);
    if (!st) st = sh_queue_wait(q, t, SH_NO_DEADLINE, err);
    if (!st) st = sh_queue_read_tensor(q, x, 0, out, 0, bytes, n_bytes, &t, err);
    if (!st) st = sh_queue_wait(q, t, SH_NO_DEADLINE, err);
    sh_queue_destroy(q);
    sh_exec_release(x);
    return st;
}

/* The bytes of `out`, equal on every device; owned by the caller. */
static inline uint8_t *rig_run_bytes(struct rig *r, int32_t out, size_t *n_bytes)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t *first = NULL, *next;

    sh_graph_set_output(&r->g, out);
    if (sh_graph_status(&r->g, &err)) print_error("graph: %s\n", err.message);
    assert_int_equal(sh_graph_status(&r->g, &err), SHOAL_OK);
    assert_true(sh_tensor_bytes(sh_graph_tensor(&r->g, out), n_bytes));
    for (int i = 0; i < rig_devices.n; i++) {
        next = sh_calloc(1, *n_bytes + 1);
        const enum shoal_status st =
            rig_run_on(r, rig_devices.config[i].d, out, next, *n_bytes, &err);
        if (st) print_error("run: %s\n", err.message);
        assert_int_equal(st, SHOAL_OK);
        if (!first) {
            first = next;
            continue;
        }
        for (size_t b = 0; b < *n_bytes; b++) {
            if (first[b] == next[b]) continue;
            fail_msg("%s: byte %zu is %02x with 1 thread and %s, %02x with %d and %s",
                     sh_op_info(sh_graph_tensor(&r->g, out)->op)->name, b, first[b],
                     sh_isa_name(rig_devices.config[0].isa), next[b],
                     rig_devices.config[i].n_threads, sh_isa_name(rig_devices.config[i].isa));
        }
        sh_free(next);
    }
    return first;
}

static inline double *rig_run(struct rig *r, int32_t out)
{
    size_t n_bytes;
    uint8_t *bytes = rig_run_bytes(r, out, &n_bytes);
    double *values = rig_decode(sh_graph_tensor(&r->g, out), bytes);

    sh_free(bytes);
    return values;
}

/* Run and compare with what a plain implementation says: |got - want| <= abs + rel * |want|. */
static inline void rig_expect(struct rig *r, int32_t out, const double *want, double abs_error,
                              double rel_error)
{
    double *got = rig_run(r, out);
    const struct sh_tensor *t = sh_graph_tensor(&r->g, out);

    for (int64_t i = 0; i < sh_tensor_elements(t); i++) {
        if (got[i] == want[i]) continue;
        if (!(fabs(got[i] - want[i]) <= abs_error + rel_error * fabs(want[i]))) {
            fail_msg("%s: element %lld of [%lld,%lld,%lld,%lld] is %.9g, not %.9g",
                     sh_op_info(t->op)->name, (long long)i, (long long)t->ne[0],
                     (long long)t->ne[1], (long long)t->ne[2], (long long)t->ne[3], got[i],
                     want[i]);
        }
    }
    sh_free(got);
}

static inline double *rig_zeros(int64_t n)
{
    double *p = sh_calloc((size_t)n + 1, sizeof *p);

    assert_non_null(p);
    return p;
}

#endif
