/* Matrix products: every weight type, shape and cut; and that rows, batches and shards do not
 * change a bit. */
#include "cpu/rig_test.h"

#include "tensor/segments.h"

static const enum sh_dtype weight_types[] = {
#define X(name) SH_DTYPE_##name,
    SH_MM_TYPES(X)
#undef X
};
#define N_TYPES (sizeof weight_types / sizeof *weight_types)

/* How far a sum of k products may be off: activations are rounded to the partner type. */
static double tolerance(enum sh_dtype t, int64_t k)
{
    struct sh_kernels kernels;

    sh_kernels_fill(&kernels, 0);
    if (!kernels.mm[t]) return 1e-4 * sqrt((double)k); // of numbers up to 60
    switch (sh_dtype_info(t)->partner) {
    case SH_DTYPE_F32:
        return 4e-6 * sqrt((double)k);
    case SH_DTYPE_F16:
        return 1e-3 * sqrt((double)k);
    default:
        return 1e-2 * sqrt((double)k);
    }
}

static double dot(int64_t n, const double *a, const double *b)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static void check_mul_mat(enum sh_dtype type, int64_t k, int64_t m, int64_t n, int64_t unit)
{
    struct rig r;
    const double *w, *x;
    double *want = rig_zeros(m * n);
    int32_t a, b;

    rig_init(&r, 0, 0, 0);
    a = rig_random_leaf(&r, type, k, m, 1, 1, &w);
    b = rig_random_leaf(&r, SH_DTYPE_F32, k, n, 1, 1, &x);
    for (int64_t i = 0; i < m * n; i++)
        want[i] = dot(k, w + i % m * k, x + i / m * k);
    rig_expect(&r, sh_op_mul_mat(&r.g, a, b, unit), want, tolerance(type, k), 0);
    sh_free(want);
    rig_release(&r);
}

/* Types without a product of their own: expanded, and then as exact as f32. */
static void product__types_that_are_expanded(void **state)
{
    static const enum sh_dtype types[] = {SH_DTYPE_IQ4_XS, SH_DTYPE_Q1_0, SH_DTYPE_Q2_0};

    (void)state;
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        check_mul_mat(types[t], 256, 1, 1, 0);
        check_mul_mat(types[t], 768, 37, 5, 0);
        check_mul_mat(types[t], 1280, 50, 70, 256); // in segments
    }
}

static void product__types_and_shapes(void **state)
{
    (void)state;
    for (size_t t = 0; t < N_TYPES; t++) {
        check_mul_mat(weight_types[t], 256, 1, 1, 0);
        check_mul_mat(weight_types[t], 512, 50, 1, 0);
        check_mul_mat(weight_types[t], 256, 37, 5, 0);
        check_mul_mat(weight_types[t], 1024, 100, 70, 0);
        check_mul_mat(weight_types[t], 2560, 50, 1, 256);
        check_mul_mat(weight_types[t], 1280, 70, 33, 256);
    }
    check_mul_mat(SH_DTYPE_F32, 1, 3, 4, 0);
    check_mul_mat(SH_DTYPE_F16, 33, 600, 300, 0);
    check_mul_mat(SH_DTYPE_Q4_0, 96, 1000, 1, 32);
}

/* Keys of a cache: f16, heads interleaved, several planes of x for each. */
static void product__planes_and_strides(void **state)
{
    const int64_t k = 32, m = 40, heads = 2, n = 6, group = 3, sets = 2;
    struct rig r;
    const double *w, *x;
    double *want = rig_zeros(m * n * heads * group * sets);
    int32_t a, b;

    (void)state;
    rig_init(&r, 0, 0, 0);
    a = rig_random_leaf(&r, SH_DTYPE_F16, k, heads, m, sets, &w);
    b = rig_random_leaf(&r, SH_DTYPE_F32, k, heads * group, n, sets, &x);
    a = sh_op_permute(&r.g, a, 0, 2, 1, 3); // [k,m,heads,sets]
    b = sh_op_permute(&r.g, b, 0, 2, 1, 3); // [k,n,heads*group,sets]
    for (int64_t i = 0; i < m * n * heads * group * sets; i++) {
        const int64_t i0 = i % m, i1 = i / m % n, i2 = i / (m * n) % (heads * group);
        const int64_t i3 = i / (m * n * heads * group);
        want[i] = dot(k, w + ((i3 * m + i0) * heads + i2 / group) * k,
                      x + ((i3 * n + i1) * heads * group + i2) * k);
    }
    rig_expect(&r, sh_op_mul_mat(&r.g, a, b, 0), want, 1e-2, 0);
    sh_free(want);
    rig_release(&r);

    // One set of w for all sets of x; x f16.
    want = rig_zeros(m * n * 4);
    rig_init(&r, 0, 0, 0);
    a = rig_random_leaf(&r, SH_DTYPE_F16, k, m, 2, 1, &w);
    b = rig_random_leaf(&r, SH_DTYPE_F16, k, n, 2, 2, &x);
    for (int64_t i = 0; i < m * n * 4; i++)
        want[i] = dot(k, w + (i / (m * n) % 2 * m + i % m) * k, x + i / m * k);
    rig_expect(&r, sh_op_mul_mat(&r.g, a, b, 0), want, 1e-4, 0);
    sh_free(want);
    rig_release(&r);
}

/* Bits of w * x for rows [first, first + n) of the same random x. */
static uint8_t *rows_of_product(enum sh_dtype type, int64_t k, int64_t m, int64_t n_all,
                                int64_t first, int64_t n, int64_t unit, size_t *n_bytes)
{
    const int64_t ne[2] = {k, n};
    struct rig r;
    uint8_t *bytes;
    int32_t w, x;

    rig_init(&r, 0, 0, 0);
    w = rig_random_leaf(&r, type, k, m, 1, 1, NULL);
    x = rig_random_leaf(&r, SH_DTYPE_F32, k, n_all, 1, 1, NULL);
    x = sh_op_view(&r.g, x, 2, ne, NULL, (size_t)(first * k) * sizeof(float));
    bytes = rig_run_bytes(&r, sh_op_mul_mat(&r.g, w, x, unit), n_bytes);
    rig_release(&r);
    return bytes;
}

static void product__row_does_not_know_its_batch(void **state)
{
    (void)state;
    for (size_t t = 0; t < N_TYPES; t++) {
        const int64_t k = 768, m = 90, n = 45;
        size_t all_bytes, one_bytes;
        uint8_t *all = rows_of_product(weight_types[t], k, m, n, 0, n, 256, &all_bytes);
        for (int64_t row = 0; row < n; row += 11) {
            uint8_t *one = rows_of_product(weight_types[t], k, m, n, row, 1, 256, &one_bytes);
            assert_int_equal(one_bytes, (size_t)m * sizeof(float));
            assert_memory_equal(one, all + (size_t)row * one_bytes, one_bytes);
            sh_free(one);
        }
        sh_free(all);
    }
}

/* Rounded rows are used again for the same x and partner only, and not after x has changed. */
static void product__rounded_rows_are_fresh(void **state)
{
    const int64_t k = 256, m = 20, n = 3;
    struct rig r;
    const double *w[4], *x, *z;
    double *want = rig_zeros(m * n);
    int32_t a[4], b, c, y, src[2];
    static const enum sh_dtype types[4] = {SH_DTYPE_Q8_0, SH_DTYPE_Q4_0, SH_DTYPE_Q6_K,
                                           SH_DTYPE_Q8_0};

    (void)state;
    rig_init(&r, 0, 0, 0);
    for (int i = 0; i < 4; i++)
        a[i] = rig_random_leaf(&r, types[i], k, m, 1, 1, &w[i]);
    b = rig_random_leaf(&r, SH_DTYPE_F32, k, n, 1, 1, &x);
    c = rig_random_leaf(&r, SH_DTYPE_F32, k, n, 1, 1, &z);
    y = sh_op_mul_mat(&r.g, a[0], b, 0);
    y = sh_op_binary(&r.g, SH_OP_ADD, y, sh_op_mul_mat(&r.g, a[1], b, 0));
    y = sh_op_binary(&r.g, SH_OP_ADD, y, sh_op_mul_mat(&r.g, a[2], b, 0));
    src[0] = c;
    src[1] = b;
    (void)sh_op_node(&r.g, SH_OP_CPY, 2, src, NULL); // x becomes z
    y = sh_op_binary(&r.g, SH_OP_ADD, y, sh_op_mul_mat(&r.g, a[2], b, 0));
    y = sh_op_binary(&r.g, SH_OP_ADD, y, sh_op_mul_mat(&r.g, a[3], b, 0));
    for (int64_t i = 0; i < m * n; i++) {
        const double *xr = x + i / m * k, *zr = z + i / m * k;
        want[i] = dot(k, w[0] + i % m * k, xr) + dot(k, w[1] + i % m * k, xr) +
                  dot(k, w[2] + i % m * k, xr) + dot(k, w[2] + i % m * k, zr) +
                  dot(k, w[3] + i % m * k, zr);
    }
    rig_expect(&r, y, want, 0.5, 0);
    sh_free(want);
    rig_release(&r);
}

/* ---- shards ---------------------------------------------------------------------------------*/

/* Finish the trees of vectors [M,n,T] of shards in order; border: segments. */
static void finish_shards(int n_segments, int n_shards, const int *border, uint8_t *const *parts,
                          int64_t m, int64_t rows, float *out)
{
    for (int64_t t = 0; t < rows; t++) {
        const float *vec[SH_SEGMENTS_MAX];
        int lo[SH_SEGMENTS_MAX], hi[SH_SEGMENTS_MAX], n = 0;
        for (int s = 0; s < n_shards; s++) {
            const int count = sh_subtrees(n_segments, border[s], border[s + 1], lo + n, hi + n);
            for (int v = 0; v < count; v++)
                vec[n + v] = (const float *)(const void *)parts[s] + (t * count + v) * m;
            n += count;
        }
        sh_tree_finish(n_segments, n, lo, hi, vec, m, out + t * m);
    }
}

/* Columns [begin, end) of a product of rows of k in units of `unit`. */
static uint8_t *part_of_product(enum sh_dtype type, int64_t k, int64_t m, int64_t n, int64_t unit,
                                int64_t begin, int64_t end)
{
    const struct sh_dtype_info *info = sh_dtype_info(type);
    const int64_t ne[2] = {end - begin, m}, xe[2] = {end - begin, n};
    const size_t nb[2] = {info->block_bytes, (size_t)(k / info->block_len) * info->block_bytes};
    const size_t xb[2] = {sizeof(float), (size_t)k * sizeof(float)};
    struct rig r;
    size_t n_bytes;
    uint8_t *bytes;
    int32_t w, x;

    rig_init(&r, 0, 0, 0);
    w = rig_random_leaf(&r, type, k, m, 1, 1, NULL);
    x = rig_random_leaf(&r, SH_DTYPE_F32, k, n, 1, 1, NULL);
    w = sh_op_view(&r.g, w, 2, ne, nb, (size_t)(begin / info->block_len) * info->block_bytes);
    x = sh_op_view(&r.g, x, 2, xe, xb, (size_t)begin * sizeof(float));
    bytes = rig_run_bytes(&r, sh_op_mul_mat_part(&r.g, w, x, unit, k, begin), &n_bytes);
    rig_release(&r);
    return bytes;
}

static void product__shards_give_the_whole(void **state)
{
    static const enum sh_dtype types[] = {SH_DTYPE_F32, SH_DTYPE_Q4_1, SH_DTYPE_Q8_0};
    static const int borders[][5] = {
        {0, 8, 8, 8, 8}, {0, 5, 8, 8, 8}, {0, 1, 3, 7, 8}, {0, 4, 4, 6, 8}};

    (void)state;
    for (size_t t = 0; t < 3; t++) {
        for (size_t b = 0; b < sizeof borders / sizeof *borders; b++) {
            const int64_t k = 704, m = 50, n = 7, unit = 32; // 22 units in 8 segments
            size_t n_bytes;
            uint8_t *whole = rows_of_product(types[t], k, m, n, 0, n, unit, &n_bytes), *parts[4];
            float *sum = sh_calloc(1, n_bytes);
            for (int s = 0; s < 4; s++) {
                const int64_t begin = sh_segment_begin(k, unit, 8, borders[b][s]);
                const int64_t end = sh_segment_begin(k, unit, 8, borders[b][s + 1]);
                parts[s] = part_of_product(types[t], k, m, n, unit, begin, end);
            }
            finish_shards(8, 4, borders[b], parts, m, n, sum);
            assert_memory_equal(whole, sum, n_bytes);
            for (int s = 0; s < 4; s++)
                sh_free(parts[s]);
            sh_free(whole);
            sh_free(sum);
        }
    }
}

/* ---- experts --------------------------------------------------------------------------------*/

struct id_case {
    int64_t k, m, experts, used, per_token, tokens, unit;
    int32_t first; /* 1 + first expert held; ids go up to 2 * experts then */
    enum sh_dtype type;
};

static void check_mul_mat_id(const struct id_case *c)
{
    const int64_t rows = c->used * c->tokens;
    struct rig r;
    const double *w, *x;
    double *ids = rig_zeros(rows), *want = rig_zeros(c->m * rows);
    int32_t params[SH_N_PARAMS] = {0}, src[3];

    rig_init(&r, 0, 0, 0);
    params[12] = c->first;
    params[15] = (int32_t)c->unit;
    src[0] = rig_random_leaf(&r, c->type, c->k, c->m, c->experts, 1, &w);
    src[1] = rig_random_leaf(&r, SH_DTYPE_F32, c->k, c->per_token, c->tokens, 1, &x);
    src[2] = rig_leaf(&r, SH_DTYPE_I32, c->used, c->tokens, 1, 1);
    for (int64_t i = 0; i < rows; i++)
        ids[i] = (double)rig_below(&r, c->first ? 2 * c->experts : c->experts);
    rig_fill(&r, src[2], ids, 1);
    for (int64_t i = 0; i < rows; i++) {
        const int64_t e = (int64_t)ids[i] - (c->first ? c->first - 1 : 0);
        const double *xr = x + (i / c->used * c->per_token + i % c->used % c->per_token) * c->k;
        for (int64_t o = 0; o < c->m && e >= 0 && e < c->experts; o++)
            want[i * c->m + o] = dot(c->k, w + (e * c->m + o) * c->k, xr);
    }
    rig_expect(&r, sh_op_node(&r.g, SH_OP_MUL_MAT_ID, 3, src, params), want,
               tolerance(c->type, c->k), 0);
    sh_free(ids);
    sh_free(want);
    rig_release(&r);
}

static void experts__mul_mat_id(void **state)
{
    static const struct id_case cases[] = {
        {256, 33, 4, 2, 1, 1, 0, 0, SH_DTYPE_Q4_0},    {256, 33, 4, 2, 2, 1, 0, 0, SH_DTYPE_F32},
        {256, 100, 8, 3, 1, 90, 0, 0, SH_DTYPE_Q8_0},  {512, 64, 3, 2, 2, 300, 0, 0, SH_DTYPE_F16},
        {512, 64, 4, 2, 2, 40, 64, 0, SH_DTYPE_Q5_1},  {256, 20, 4, 3, 1, 17, 0, 3, SH_DTYPE_Q4_1},
        {256, 70, 1, 1, 1, 200, 32, 0, SH_DTYPE_Q4_0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_mul_mat_id(&cases[i]);
}

struct down_case {
    int64_t f, d, experts, used, tokens;
    int cut;      /* 0 by width, 1 by experts */
    int64_t unit; /* by width */
    enum sh_dtype type;
};

/* The same random weights, activations and choices for every share; columns or experts
 * [begin, end) of them, tokens [t0, t0 + n).  Gives bits; want: may be NULL. */
static uint8_t *expert_down(const struct down_case *c, int64_t begin, int64_t end, int64_t t0,
                            int64_t n, size_t *n_bytes, double *want)
{
    const struct sh_dtype_info *info = sh_dtype_info(c->type);
    const size_t row = (size_t)(c->f / info->block_len) * info->block_bytes;
    const bool width = c->cut == 0;
    const int64_t we[3] = {width ? end - begin : c->f, c->d, width ? c->experts : end - begin};
    const size_t wb[3] = {info->block_bytes, row, row * (size_t)c->d};
    const int64_t ae[3] = {we[0], c->used, n}, ue[2] = {c->used, n};
    const size_t ab[3] = {sizeof(float), (size_t)c->f * sizeof(float),
                          (size_t)(c->f * c->used) * sizeof(float)};
    int32_t params[SH_N_PARAMS] = {c->cut};
    double *ids = rig_zeros(c->used * c->tokens);
    const double *w, *act, *weights;
    struct rig r;
    uint8_t *bytes;
    int32_t src[4];

    rig_init(&r, 0, 0, 0);
    params[1] = (int32_t)c->unit;
    params[2] = (int32_t)(width ? c->f : c->experts);
    params[3] = (int32_t)begin;
    src[0] = rig_random_leaf(&r, c->type, c->f, c->d, c->experts, 1, &w);
    src[1] = rig_random_leaf(&r, SH_DTYPE_F32, c->f, c->used, c->tokens, 1, &act);
    src[2] = rig_random_leaf(&r, SH_DTYPE_F32, c->used, c->tokens, 1, 1, &weights);
    src[3] = rig_leaf(&r, SH_DTYPE_I32, c->used, c->tokens, 1, 1);
    for (int64_t t = 0; t < c->tokens; t++) { // ascending, different
        int64_t id = rig_below(&r, c->experts - c->used + 1);
        for (int64_t u = 0; u < c->used; u++) {
            ids[t * c->used + u] = (double)id;
            id += 1 + rig_below(&r, c->experts - c->used - id + u + 1);
        }
    }
    rig_fill(&r, src[3], ids, 1);
    for (int64_t i = 0; want && i < c->d * c->tokens; i++) {
        const int64_t t = i / c->d;
        for (int64_t u = 0; u < c->used; u++)
            want[i] += weights[t * c->used + u] *
                       dot(c->f, w + ((int64_t)ids[t * c->used + u] * c->d + i % c->d) * c->f,
                           act + (t * c->used + u) * c->f);
    }
    src[0] = sh_op_view(&r.g, src[0], 3, we, wb,
                        width ? (size_t)(begin / info->block_len) * info->block_bytes
                              : (size_t)begin * wb[2]);
    src[1] = sh_op_view(&r.g, src[1], 3, ae, ab,
                        (size_t)t0 * ab[2] + (width ? (size_t)begin * sizeof(float) : 0));
    src[2] = sh_op_view(&r.g, src[2], 2, ue, NULL, (size_t)(t0 * c->used) * sizeof(float));
    src[3] = sh_op_view(&r.g, src[3], 2, ue, NULL, (size_t)(t0 * c->used) * sizeof(int32_t));
    bytes = rig_run_bytes(&r, sh_op_node(&r.g, SH_OP_EXPERT_DOWN, 4, src, params), n_bytes);
    sh_free(ids);
    rig_release(&r);
    return bytes;
}

static void check_expert_down(const struct down_case *c, const int border[4])
{
    const int64_t whole_of = c->cut ? c->experts : c->f, unit = c->cut ? 1 : c->unit;
    const int n_segments = sh_segment_count(whole_of, unit);
    double *want = rig_zeros(c->d * c->tokens);
    size_t n_bytes, part_bytes;
    uint8_t *whole = expert_down(c, 0, whole_of, 0, c->tokens, &n_bytes, want), *parts[3], *one;
    const float *got = (const float *)(const void *)whole;
    float *sum = sh_calloc(1, n_bytes);

    assert_int_equal(n_bytes, (size_t)(c->d * c->tokens) * sizeof(float));
    for (int64_t i = 0; i < c->d * c->tokens; i++) {
        if (fabs((double)got[i] - want[i]) > (double)c->used * tolerance(c->type, c->f))
            fail_msg("element %lld is %g, not %g", (long long)i, (double)got[i], want[i]);
    }
    for (int s = 0; s < 3; s++)
        parts[s] = expert_down(c, sh_segment_begin(whole_of, unit, n_segments, border[s]),
                               sh_segment_begin(whole_of, unit, n_segments, border[s + 1]), 0,
                               c->tokens, &part_bytes, NULL);
    finish_shards(n_segments, 3, border, parts, c->d, c->tokens, sum);
    assert_memory_equal(whole, sum, n_bytes);
    one = expert_down(c, 0, whole_of, c->tokens - 1, 1, &part_bytes, NULL);
    assert_memory_equal(whole + n_bytes - part_bytes, one, part_bytes);
    for (int s = 0; s < 3; s++)
        sh_free(parts[s]);
    sh_free(one);
    sh_free(whole);
    sh_free(sum);
    sh_free(want);
}

static void experts__down(void **state)
{
    static const int eight[4] = {0, 3, 4, 8}, four[4] = {0, 1, 1, 4};
    static const struct down_case cases[] = {
        {256, 70, 4, 2, 9, 0, 32, SH_DTYPE_Q4_0},   {128, 50, 16, 4, 150, 1, 0, SH_DTYPE_F32},
        {256, 33, 10, 3, 300, 1, 0, SH_DTYPE_Q8_0}, {320, 100, 8, 4, 200, 0, 32, SH_DTYPE_Q5_0},
        {256, 40, 4, 2, 5, 1, 0, SH_DTYPE_Q6_K},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_expert_down(&cases[i], cases[i].cut && cases[i].experts == 4 ? four : eight);
}

static void experts__wrong_ids_are_refused(void **state)
{
    struct rig r;
    struct shoal_error err = SHOAL_ERROR_INIT;
    double ids[2] = {1, 4};
    uint8_t bytes[16 * 2 * sizeof(float)];
    int32_t src[3], out;

    (void)state;
    rig_init(&r, 0, 0, 0);
    src[0] = rig_random_leaf(&r, SH_DTYPE_F32, 8, 16, 4, 1, NULL);
    src[1] = rig_random_leaf(&r, SH_DTYPE_F32, 8, 1, 1, 1, NULL);
    src[2] = rig_leaf(&r, SH_DTYPE_I32, 2, 1, 1, 1);
    rig_fill(&r, src[2], ids, 1);
    out = sh_op_node(&r.g, SH_OP_MUL_MAT_ID, 3, src, NULL);
    sh_graph_set_output(&r.g, out);
    assert_int_equal(rig_run_on(&r, rig_devices.config[0].d, out, bytes, sizeof bytes, &err),
                     SHOAL_ERR_FORMAT);
    assert_string_equal(err.message, "CPU: tensor 3 (MUL_MAT_ID): index 4 at 1 is not below 4");
    rig_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(product__types_that_are_expanded),
        cmocka_unit_test(product__types_and_shapes),
        cmocka_unit_test(product__planes_and_strides),
        cmocka_unit_test(product__row_does_not_know_its_batch),
        cmocka_unit_test(product__rounded_rows_are_fresh),
        cmocka_unit_test(product__shards_give_the_whole),
        cmocka_unit_test(experts__mul_mat_id),
        cmocka_unit_test(experts__down),
        cmocka_unit_test(experts__wrong_ids_are_refused),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
