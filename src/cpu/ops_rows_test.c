/* Ops that gather, scatter, copy, repeat and order elements. */
#include "cpu/rig_test.h"

#include <stdlib.h>

/* ---- gather and scatter ---------------------------------------------------------------------*/

static void check_get_rows(enum sh_dtype type, int64_t n)
{
    const int64_t rows = 9, k = 5, c2 = 2, c3 = 3;
    struct rig r;
    const double *v;
    double ids[30], *want = rig_zeros(n * k * c2 * c3);
    int32_t x, i;

    rig_init(&r, 0, 0, 0);
    x = rig_leaf(&r, type, n, rows, c2, c3);
    v = rig_fill(&r, x, NULL, type == SH_DTYPE_I32 ? 100 : 1);
    i = rig_leaf(&r, SH_DTYPE_I32, k, c2, c3, 1);
    for (int e = 0; e < 30; e++)
        ids[e] = (double)rig_below(&r, rows);
    rig_fill(&r, i, ids, 1);
    for (int64_t e = 0; e < n * 30; e++) {
        const int64_t row = e / n, plane = row / k;
        want[e] = v[(plane * rows + (int64_t)ids[row]) * n + e % n];
    }
    rig_expect(&r, sh_op_get_rows(&r.g, x, i), want, 0, 0);
    sh_free(want);
    rig_release(&r);
}

static void rows__get(void **state)
{
    struct sh_kernels k;

    (void)state;
    sh_kernels_fill(&k, 0);
    check_get_rows(SH_DTYPE_F32, 1);
    check_get_rows(SH_DTYPE_I32, 33);
    for (int t = 0; t < SH_DTYPE_COUNT; t++) {
        if (sh_dtype_valid((uint32_t)t) && k.encode[t] && k.decode[t])
            check_get_rows((enum sh_dtype)t, 768);
    }
}

static void check_set_rows(enum sh_dtype from, enum sh_dtype to, enum sh_dtype index, int64_t n)
{
    const int64_t m = 4, rows = 11, b2 = 4, b3 = 2;
    struct rig r;
    struct sh_kernels k;
    const double *v, *old;
    double ids[16], *want = rig_zeros(n * rows * b2 * b3);
    int32_t src[3];

    rig_init(&r, 0, 0, 0);
    sh_kernels_fill(&k, 0);
    src[0] = rig_random_leaf(&r, from, n, m, b2, b3, &v);
    src[1] = rig_leaf(&r, index, m, 2, 1, 1); // repeats over the planes
    src[2] = rig_random_leaf(&r, to, n, rows, b2, b3, &old);
    for (int i = 0; i < 8; i++)
        ids[i] = (double)(i % 4 * 2 + i / 4); // different inside a plane
    rig_fill(&r, src[1], ids, 1);
    memcpy(want, old, (size_t)(n * rows * b2 * b3) * sizeof *want);
    for (int64_t plane = 0; plane < b2 * b3; plane++) {
        for (int64_t j = 0; j < m; j++) {
            double *out = want + (plane * rows + (int64_t)ids[plane % b2 % 2 * m + j]) * n;
            float in[1024];
            uint8_t block[8192];
            for (int64_t i = 0; i < n; i++)
                in[i] = (float)v[(plane * m + j) * n + i];
            if (to != SH_DTYPE_F32) {
                k.encode[to](n, block, in);
                k.decode[to](n, in, block);
            }
            for (int64_t i = 0; i < n; i++)
                out[i] = (double)in[i];
        }
    }
    rig_expect(&r, sh_op_node(&r.g, SH_OP_SET_ROWS, 3, src, NULL), want, 0, 0);
    sh_free(want);
    rig_release(&r);
}

static void rows__set(void **state)
{
    struct sh_kernels k;

    (void)state;
    sh_kernels_fill(&k, 0);
    check_set_rows(SH_DTYPE_F32, SH_DTYPE_F16, SH_DTYPE_I64, 1);
    check_set_rows(SH_DTYPE_F16, SH_DTYPE_F16, SH_DTYPE_I32, 33);
    check_set_rows(SH_DTYPE_F32, SH_DTYPE_F32, SH_DTYPE_I64, 600);
    check_set_rows(SH_DTYPE_F16, SH_DTYPE_F32, SH_DTYPE_I32, 64);
    for (int t = 0; t < SH_DTYPE_COUNT; t++) {
        if (t != SH_DTYPE_F32 && sh_dtype_valid((uint32_t)t) && k.encode[t] && k.decode[t])
            check_set_rows(SH_DTYPE_F32, (enum sh_dtype)t, SH_DTYPE_I64, 768);
    }
}

/* The run fails with this sentence. */
static void expect_failure(struct rig *r, int32_t out, const char *sentence)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t byte;

    assert_int_equal(sh_graph_status(&r->g, &err), SHOAL_OK);
    sh_graph_set_output(&r->g, out);
    assert_int_equal(rig_run_on(r, rig_devices.config[0].d, out, &byte, 1, &err), SHOAL_ERR_FORMAT);
    assert_string_equal(err.message, sentence);
}

static void rows__wrong_indices_are_refused(void **state)
{
    const double ids[3] = {0, -1, 2}, tokens[3] = {3, 7, 0}, embd[3] = {-2, 0, 0};
    struct rig r;
    int32_t x, i, src[3];

    (void)state;
    rig_init(&r, 0, 0, 0);
    x = rig_random_leaf(&r, SH_DTYPE_F32, 8, 4, 1, 1, NULL);
    i = rig_leaf(&r, SH_DTYPE_I32, 3, 1, 1, 1);
    rig_fill(&r, i, ids, 1);
    expect_failure(&r, sh_op_get_rows(&r.g, x, i),
                   "CPU: tensor 2 (GET_ROWS): index -1 at 1 is not below 4");
    rig_release(&r);

    for (int k = 0; k < 2; k++) {
        rig_init(&r, 0, 0, 0);
        src[0] = rig_random_leaf(&r, SH_DTYPE_F32, 8, 7, 1, 1, NULL);
        src[1] = rig_leaf(&r, SH_DTYPE_I32, 3, 1, 1, 1);
        rig_fill(&r, src[1], k ? embd : tokens, 1);
        src[2] = rig_random_leaf(&r, SH_DTYPE_F32, 8, 1, 1, 1, NULL);
        expect_failure(&r, sh_op_node(&r.g, SH_OP_EMBED, 3, src, NULL),
                       k ? "CPU: tensor 3 (EMBED): token -2 of row 0: there are 7 tokens and 1 "
                           "embedding rows"
                         : "CPU: tensor 3 (EMBED): token 7 of row 1: there are 7 tokens and 1 "
                           "embedding rows");
        rig_release(&r);
    }
}

static void rows__embed(void **state)
{
    const double tokens[6] = {3, -1, 0, -3, 6, 6};
    struct rig r;
    const double *table, *embd;
    double want[96 * 6];
    int32_t src[3];

    (void)state;
    rig_init(&r, 0, 0, 0);
    src[0] = rig_random_leaf(&r, SH_DTYPE_Q8_0, 96, 7, 1, 1, &table);
    src[1] = rig_leaf(&r, SH_DTYPE_I32, 6, 1, 1, 1);
    rig_fill(&r, src[1], tokens, 1);
    src[2] = rig_random_leaf(&r, SH_DTYPE_F32, 96, 3, 1, 1, &embd);
    for (int i = 0; i < 96 * 6; i++) {
        const int id = (int)tokens[i / 96];
        want[i] = id >= 0 ? table[id * 96 + i % 96] : embd[(-1 - id) * 96 + i % 96];
    }
    rig_expect(&r, sh_op_node(&r.g, SH_OP_EMBED, 3, src, NULL), want, 0, 0);
    rig_release(&r);
}

/* ---- copies ---------------------------------------------------------------------------------*/

/* f32 rows permuted, converted, and given another shape on the way. */
static void check_copy(enum sh_dtype from, enum sh_dtype to, const int axes[4],
                       const int64_t shape[4])
{
    const int64_t ne[4] = {64, 6, 5, 2};
    struct rig r;
    struct sh_kernels k;
    const double *v;
    const int64_t n = 64 * 6 * 5 * 2;
    double *want = rig_zeros(n);
    float *f = sh_calloc((size_t)n, sizeof *f);
    uint8_t *bytes = sh_calloc((size_t)n, 8);
    const struct sh_tensor *s;
    int32_t src[2];

    rig_init(&r, 0, 0, 0);
    sh_kernels_fill(&k, 0);
    src[0] = rig_leaf(&r, from, ne[0], ne[1], ne[2], ne[3]);
    v = rig_fill(&r, src[0], NULL, from == SH_DTYPE_I32 || to == SH_DTYPE_I32 ? 100 : 1);
    src[0] = sh_op_permute(&r.g, src[0], axes[0], axes[1], axes[2], axes[3]);
    src[1] = rig_leaf(&r, to, shape[0], shape[1], shape[2], shape[3]);
    s = sh_graph_tensor(&r.g, src[0]);
    for (int64_t i = 0; i < n; i++) {
        int64_t at = i, from_index = 0, strides[4], dense[4] = {1, 64, 64 * 6, 64 * 30};
        for (int d = 0; d < 4; d++)
            strides[axes[d]] = dense[d];
        for (int d = 0; d < 4; d++) {
            from_index += at % s->ne[d] * strides[d];
            at /= s->ne[d];
        }
        want[i] = v[from_index];
        f[i] = (float)want[i];
    }
    if (to == SH_DTYPE_I32) {
        for (int64_t i = 0; i < n; i++)
            want[i] = trunc(want[i]);
    } else if (to != SH_DTYPE_F32) {
        k.encode[to](n, bytes, f);
        k.decode[to](n, f, bytes);
        for (int64_t i = 0; i < n; i++)
            want[i] = (double)f[i];
    }
    rig_expect(&r, sh_op_node(&r.g, SH_OP_CPY, 2, src, NULL), want, 0, 0);
    sh_free(want);
    sh_free(f);
    sh_free(bytes);
    rig_release(&r);
}

static void copy__conversions(void **state)
{
    static const int same[4] = {0, 1, 2, 3}, planes[4] = {0, 2, 1, 3}, all[4] = {3, 0, 1, 2};
    static const int64_t as_is[4] = {64, 6, 5, 2}, flat[4] = {3840, 1, 1, 1},
                         odd[4] = {15, 4, 2, 32};
    static const enum sh_dtype plain[] = {SH_DTYPE_F32, SH_DTYPE_F16, SH_DTYPE_BF16};
    static const enum sh_dtype blocks[] = {SH_DTYPE_Q4_0, SH_DTYPE_Q4_1, SH_DTYPE_Q5_0,
                                           SH_DTYPE_Q5_1, SH_DTYPE_Q8_0, SH_DTYPE_IQ4_NL};

    (void)state;
    for (size_t a = 0; a < 3; a++) {
        for (size_t b = 0; b < 3; b++) {
            check_copy(plain[a], plain[b], same, as_is);
            check_copy(plain[a], plain[b], planes, odd);
            check_copy(plain[a], plain[b], all, flat);
        }
        for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++) {
            check_copy(plain[a], blocks[b], same, as_is);
            check_copy(plain[a], blocks[b], planes, flat);
        }
    }
    for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++) {
        check_copy(blocks[b], SH_DTYPE_F32, planes, as_is);
        check_copy(blocks[b], SH_DTYPE_F32, same, odd);
        check_copy(blocks[b], blocks[b], same, as_is);
        check_copy(blocks[b], blocks[b], planes, flat);
    }
    check_copy(SH_DTYPE_F32, SH_DTYPE_I32, all, as_is);
    check_copy(SH_DTYPE_I32, SH_DTYPE_F32, planes, odd);
    check_copy(SH_DTYPE_I32, SH_DTYPE_I32, all, flat);
}

/* CONT of a transposed matrix; a cast; writing into a part of a larger tensor. */
static void copy__forms(void **state)
{
    const int64_t part[2] = {10, 4};
    const size_t nb[2] = {sizeof(float), 30 * sizeof(float)};
    struct rig r;
    const double *v, *old;
    double *want = rig_zeros(30 * 8);
    int32_t x, big, src[2];

    (void)state;
    rig_init(&r, 0, 0, 0);
    x = rig_random_leaf(&r, SH_DTYPE_F32, 30, 8, 1, 1, &v);
    for (int i = 0; i < 240; i++)
        want[i] = v[i % 8 * 30 + i / 8];
    rig_expect(&r, sh_op_cont(&r.g, sh_op_permute(&r.g, x, 1, 0, 2, 3)), want, 0, 0);
    rig_release(&r);

    rig_init(&r, 0, 0, 0);
    x = rig_random_leaf(&r, SH_DTYPE_F32, 8, 5, 1, 1, &v);
    big = rig_random_leaf(&r, SH_DTYPE_F32, 30, 8, 1, 1, &old);
    src[0] = x;
    src[1] = sh_op_view(&r.g, big, 2, part, nb, 2 * 30 * sizeof(float) + 7 * sizeof(float));
    (void)sh_op_node(&r.g, SH_OP_CPY, 2, src, NULL);
    memcpy(want, old, 240 * sizeof *want);
    for (int i = 0; i < 40; i++)
        want[(2 + i / 10) * 30 + 7 + i % 10] = v[i];
    rig_expect(&r, sh_op_scale(&r.g, big, 1, 0), want, 0, 0);
    sh_free(want);
    rig_release(&r);
}

/* Pads of every kind around [5,3,2,2], rows packed or not. */
static void check_pad(const int32_t pads[8], bool wraps, bool by_shape, bool turned)
{
    const int64_t ne[4] = {5, 3, 2, 2};
    int32_t params[SH_N_PARAMS] = {0};
    int64_t all[4];
    struct rig r;
    const double *v;

    rig_init(&r, 0, 0, 0);
    int32_t x = rig_random_leaf(&r, SH_DTYPE_F32, turned ? ne[1] : ne[0], turned ? ne[0] : ne[1],
                                ne[2], ne[3], &v);
    if (turned) x = sh_op_node(&r.g, SH_OP_TRANSPOSE, 1, &x, NULL);
    for (int d = 0; d < 4; d++)
        all[d] = ne[d] + pads[2 * d] + pads[2 * d + 1];
    double *want = rig_zeros(all[0] * all[1] * all[2] * all[3]);
    for (int64_t i = 0; i < all[0] * all[1] * all[2] * all[3]; i++) {
        int64_t at[4] = {i % all[0], i / all[0] % all[1], i / (all[0] * all[1]) % all[2],
                         i / (all[0] * all[1] * all[2])};
        bool inside = true;
        for (int d = 0; d < 4; d++) {
            at[d] -= pads[2 * d];
            if (wraps) at[d] = (at[d] + 4 * ne[d]) % ne[d];
            inside = inside && at[d] >= 0 && at[d] < ne[d];
        }
        const int64_t row = at[3] * ne[2] + at[2];
        if (inside)
            want[i] = v[turned ? (row * ne[0] + at[0]) * ne[1] + at[1]
                               : (row * ne[1] + at[1]) * ne[0] + at[0]];
    }
    if (!by_shape) memcpy(params, pads, 8 * sizeof *pads);
    params[8] = wraps;
    const struct sh_tensor shape = {.dtype = SH_DTYPE_F32, .ne = {all[0], all[1], all[2], all[3]}};
    rig_expect(&r, sh_op_shaped(&r.g, SH_OP_PAD, 1, &x, params, &shape), want, 0, 0);
    sh_free(want);
    rig_release(&r);
}

static void copy__pad(void **state)
{
    const int32_t cases[][8] = {{0, 3, 0, 0, 0, 0, 0, 0}, {2, 1, 0, 1, 0, 0, 0, 0},
                                {0, 0, 1, 2, 1, 0, 0, 2}, {9, 7, 4, 5, 1, 1, 2, 2},
                                {0, 0, 0, 0, 0, 0, 0, 0}, {1, 0, 0, 0, 0, 0, 3, 0}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int way = 0; way < 4; way++)
            check_pad(cases[i], way & 1, false, way & 2);
    }
    check_pad(cases[0], false, true, false); // as peers say it that know no words for it
    check_pad(cases[0], true, true, true);
}

static void copy__repeat_and_concat(void **state)
{
    const int64_t shape[4] = {20, 6, 2, 2};
    struct rig r;
    const double *v, *w;
    double want[20 * 6 * 4];
    int32_t a, b, src[2];

    (void)state;
    rig_init(&r, 0, 0, 0);
    a = rig_random_leaf(&r, SH_DTYPE_F16, 5, 3, 1, 2, &v);
    b = rig_leaf(&r, SH_DTYPE_F16, shape[0], shape[1], shape[2], shape[3]);
    for (int i = 0; i < 480; i++)
        want[i] = v[(i / 240 * 3 + i / 20 % 6 % 3) * 5 + i % 20 % 5];
    // The builder takes the shape of REPEAT from a record: give it one.
    struct sh_tensor t = *sh_graph_tensor(&r.g, b);
    t.op = SH_OP_REPEAT;
    t.leaf = -1;
    t.src[0] = a;
    t.flags = SH_TENSOR_COMPUTE;
    const int32_t rep = sh_graph_add_tensor(&r.g, &t);
    sh_graph_add_node(&r.g, rep);
    rig_fill(&r, b, NULL, 1);
    rig_expect(&r, rep, want, 0, 0);
    rig_release(&r);

    for (int dim = 0; dim < 4; dim++) {
        const int64_t ne[4] = {4, 3, 2, 2}, extra = 3;
        int64_t all[4];
        int32_t params[SH_N_PARAMS] = {dim};
        double *both = rig_zeros(600);
        memcpy(all, ne, sizeof all);
        all[dim] += extra;
        rig_init(&r, 0, 0, 0);
        src[0] = rig_random_leaf(&r, SH_DTYPE_F32, ne[0], ne[1], ne[2], ne[3], &v);
        src[1] = rig_random_leaf(&r, SH_DTYPE_F32, dim == 0 ? extra : 4, dim == 1 ? extra : 3,
                                 dim == 2 ? extra : 2, dim == 3 ? extra : 2, &w);
        for (int64_t i = 0; i < all[0] * all[1] * all[2] * all[3]; i++) {
            int64_t at[4] = {i % all[0], i / all[0] % all[1], i / (all[0] * all[1]) % all[2],
                             i / (all[0] * all[1] * all[2])};
            const bool second = at[dim] >= ne[dim];
            int64_t size[4] = {4, 3, 2, 2};
            if (second) {
                at[dim] -= ne[dim];
                size[dim] = extra;
            }
            both[i] =
                (second ? w : v)[((at[3] * size[2] + at[2]) * size[1] + at[1]) * size[0] + at[0]];
        }
        rig_expect(&r, sh_op_node(&r.g, SH_OP_CONCAT, 2, src, params), both, 0, 0);
        sh_free(both);
        rig_release(&r);
    }
}

/* ---- order ----------------------------------------------------------------------------------*/

/* Values with many ties. */
static int32_t tied_leaf(struct rig *r, int64_t n, int64_t rows, const double **v)
{
    double *values = rig_zeros(n * rows);
    const int32_t t = rig_leaf(r, SH_DTYPE_F32, n, rows, 1, 1);

    for (int64_t i = 0; i < n * rows; i++)
        values[i] = (double)(rig_below(r, n) - n / 2);
    *v = rig_fill(r, t, values, 1);
    sh_free(values);
    return t;
}

/* Place of element i among n in the order: larger (or smaller) first, then the lower index. */
static int64_t rank_of(const double *v, int64_t n, int64_t i, bool descending)
{
    int64_t rank = 0;

    for (int64_t j = 0; j < n; j++) {
        if (v[j] == v[i] ? j < i : descending ? v[j] > v[i] : v[j] < v[i]) rank++;
    }
    return rank;
}

static void sort__argsort(void **state)
{
    static const int64_t sizes[] = {1, 2, 7, 64, 333};

    (void)state;
    for (size_t s = 0; s < 5; s++) {
        for (int descending = 0; descending < 2; descending++) {
            const int64_t n = sizes[s], rows = 5;
            int32_t params[SH_N_PARAMS] = {descending};
            struct rig r;
            const double *v;
            double *want = rig_zeros(n * rows);
            int32_t x;
            rig_init(&r, 0, 0, 0);
            x = tied_leaf(&r, n, rows, &v);
            for (int64_t i = 0; i < n * rows; i++)
                want[i / n * n + rank_of(v + i / n * n, n, i % n, descending)] = (double)(i % n);
            rig_expect(&r, sh_op_node(&r.g, SH_OP_ARGSORT, 1, &x, params), want, 0, 0);
            sh_free(want);
            rig_release(&r);
        }
    }
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static void sort__top(void **state)
{
    static const int64_t sizes[][2] = {{1, 1}, {8, 2}, {64, 6}, {500, 40}, {30, 30}};

    (void)state;
    for (size_t s = 0; s < 5; s++) {
        const int64_t n = sizes[s][0], k = sizes[s][1], rows = 6;
        struct rig r;
        const double *v;
        double *want = rig_zeros(k * rows);
        int32_t x, y, i32;
        rig_init(&r, 0, 0, 0);
        x = tied_leaf(&r, n, rows, &v);
        for (int64_t i = 0; i < n * rows; i++) {
            const int64_t rank = rank_of(v + i / n * n, n, i % n, true);
            if (rank < k) want[i / n * k + rank] = (double)(i % n);
        }
        i32 = rig_leaf(&r, SH_DTYPE_I32, k, rows, 1, 1);
        struct sh_tensor t = *sh_graph_tensor(&r.g, i32);
        t.op = SH_OP_TOP_K;
        t.leaf = -1;
        t.src[0] = x;
        t.flags = SH_TENSOR_COMPUTE;
        y = sh_graph_add_tensor(&r.g, &t);
        sh_graph_add_node(&r.g, y);
        rig_fill(&r, i32, NULL, 1);
        rig_expect(&r, y, want, 0, 0);
        rig_release(&r);

        rig_init(&r, 0, 0, 0);
        x = tied_leaf(&r, n, rows, &v);
        for (int64_t row = 0; row < rows; row++)
            qsort(want + row * k, (size_t)k, sizeof *want, by_value);
        rig_expect(&r, sh_op_top_experts(&r.g, x, k), want, 0, 0);
        sh_free(want);
        rig_release(&r);
    }
}

/* NaN counts as the smallest. */
static void sort__nan_comes_last(void **state)
{
    const double values[6] = {1, NAN, -3, NAN, 2, -INFINITY}, want[2] = {0, 4}, best[1] = {4};
    struct rig r;
    int32_t x;

    (void)state;
    rig_init(&r, 0, 0, 0);
    x = rig_leaf(&r, SH_DTYPE_F32, 6, 1, 1, 1);
    rig_fill(&r, x, values, 1);
    rig_expect(&r, sh_op_top_experts(&r.g, x, 2), want, 0, 0);
    rig_release(&r);
    rig_init(&r, 0, 0, 0);
    x = rig_leaf(&r, SH_DTYPE_F32, 6, 1, 1, 1);
    rig_fill(&r, x, values, 1);
    rig_expect(&r, sh_op_node(&r.g, SH_OP_ARGMAX, 1, &x, NULL), best, 0, 0);
    rig_release(&r);
}

/* ---- extents --------------------------------------------------------------------------------*/

/* The same prepared graph for every number of rows, none included. */
static void extents__are_bound_per_run(void **state)
{
    struct sh_device *d = rig_devices.config[1].d;
    const struct sh_extents max = {5, 2, 0};
    struct sh_graph g;
    struct sh_queue *q = NULL;
    struct sh_exec *x = NULL;
    float in[5 * 4], out[2 * 4];
    int32_t hidden, rows, y;

    (void)state;
    sh_graph_init(&g, &max);
    hidden = sh_leaf_input(&g, SH_INPUT_HIDDEN, 4);
    rows = sh_leaf_input(&g, SH_INPUT_OUT, 0);
    y = sh_op_scale(&g, sh_op_get_rows(&g, sh_op_scale(&g, hidden, 2, 0), rows), 1, 1);
    sh_graph_set_output(&g, y);
    assert_int_equal(sh_exec_prepare(d, &x, &g, NULL, 0, 1, NULL), SHOAL_OK);
    assert_int_equal(sh_queue_create(d, &q, NULL), SHOAL_OK);
    for (int i = 0; i < 20; i++)
        in[i] = (float)i;
    assert_int_equal(sh_queue_write_tensor(q, x, 0, hidden, 0, in, sizeof in, NULL, NULL),
                     SHOAL_OK);
    for (int32_t t = 0; t <= 5; t++) {
        for (int32_t o = 0; o <= 2; o++) {
            const int32_t ids[2] = {t - 1, 0};
            const struct sh_extents e = {t, o, 0};
            sh_ticket ticket;
            enum shoal_status st;
            memset(out, 0, sizeof out);
            assert_int_equal(sh_queue_write_tensor(q, x, 0, rows, 0, ids, sizeof ids, NULL, NULL),
                             SHOAL_OK);
            assert_int_equal(sh_queue_submit(q, x, 0, &e, NULL, NULL, NULL), SHOAL_OK);
            assert_int_equal(sh_queue_read_tensor(q, x, 0, y, 0, out, sizeof out, &ticket, NULL),
                             SHOAL_OK);
            st = sh_queue_wait(q, ticket, SH_NO_DEADLINE, NULL);
            if (t == 0 && o > 0) { // no row to take
                assert_int_equal(st, SHOAL_ERR_FORMAT);
                sh_queue_reset(q);
                continue;
            }
            assert_int_equal(st, SHOAL_OK);
            for (int i = 0; i < 4 * o; i++)
                assert_float_equal(out[i], 2 * in[ids[i / 4] * 4 + i % 4] + 1, 0);
        }
    }
    sh_queue_destroy(q);
    sh_exec_release(x);
    sh_graph_release(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows__get),
        cmocka_unit_test(rows__set),
        cmocka_unit_test(rows__wrong_indices_are_refused),
        cmocka_unit_test(rows__embed),
        cmocka_unit_test(copy__conversions),
        cmocka_unit_test(copy__forms),
        cmocka_unit_test(copy__pad),
        cmocka_unit_test(copy__repeat_and_concat),
        cmocka_unit_test(sort__argsort),
        cmocka_unit_test(sort__top),
        cmocka_unit_test(sort__nan_comes_last),
        cmocka_unit_test(extents__are_bound_per_run),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
