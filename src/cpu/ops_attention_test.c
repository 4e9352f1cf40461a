/* Attention in both forms, and writing and moving keys, against plain implementations; and that
 * rows, splits, pages and the form do not change a bit. */
#include "cpu/rig_test.h"

struct attn_case {
    int64_t dk, dv, heads, kv_heads;
    int64_t n_seq, n_pages; /* pages of each sequence */
    int64_t rows;           /* of each sequence, at the end of its last page */
    enum sh_dtype k_type, v_type;
    float softcap;
    int32_t window, chunk;
    bool sinks;
};

/* A graph with random q, keys, values and pages in random order. */
struct attn {
    struct rig r;
    const double *q, *k, *v, *sinks;
    double *rows, *table; /* owned */
    int64_t n_rows;
    int32_t src[6], out;
};

/* first, n: which of the rows to compute. */
static void build(struct attn *a, const struct attn_case *c, int64_t first, int64_t n)
{
    const int64_t n_all = c->n_seq * c->rows, pages = c->n_seq * c->n_pages;
    const int64_t qe[3] = {c->dk, c->heads, n}, re[2] = {4, n};
    int32_t params[SH_N_PARAMS] = {0};
    struct rig *r = &a->r;

    rig_init(r, 0, 0, 0);
    a->n_rows = n_all;
    a->rows = rig_zeros(4 * n_all);
    a->table = rig_zeros(pages);
    a->src[0] = rig_random_leaf(r, SH_DTYPE_F32, c->dk, c->heads, n_all, 1, &a->q);
    a->src[1] = rig_random_leaf(r, c->k_type, c->dk * c->kv_heads, SH_PAGE, pages, 1, &a->k);
    a->src[2] = rig_random_leaf(r, c->v_type, c->dv * c->kv_heads, SH_PAGE, pages, 1, &a->v);
    for (int64_t i = 0; i < n_all; i++) {
        const int64_t pos = c->n_pages * SH_PAGE - 3 - c->rows + i % c->rows;
        a->rows[4 * i] = (double)(i / c->rows);
        a->rows[4 * i + 1] = (double)pos;
        a->rows[4 * i + 2] = (double)(i % 5 == 4 ? pos + 2 : pos); // some see a little ahead
    }
    for (int64_t i = 0; i < pages; i++)
        a->table[i] = (double)i;
    for (int64_t i = pages - 1; i > 0; i--) { // shuffle
        const int64_t j = rig_below(r, i + 1);
        const double swap = a->table[i];
        a->table[i] = a->table[j];
        a->table[j] = swap;
    }
    a->src[3] = rig_leaf(r, SH_DTYPE_I32, 4, n_all, 1, 1);
    rig_fill(r, a->src[3], a->rows, 1);
    a->src[4] = rig_leaf(r, SH_DTYPE_I32, c->n_pages, c->n_seq, 1, 1);
    rig_fill(r, a->src[4], a->table, 1);
    a->src[5] = -1;
    if (c->sinks) a->src[5] = rig_random_leaf(r, SH_DTYPE_F32, c->heads, 1, 1, 1, &a->sinks);
    a->src[0] = sh_op_view(&r->g, a->src[0], 3, qe, NULL,
                           (size_t)(first * c->dk * c->heads) * sizeof(float));
    a->src[3] = sh_op_view(&r->g, a->src[3], 2, re, NULL, (size_t)(4 * first) * sizeof(int32_t));
    sh_params_set_f32(params, 0, 0.3f);
    sh_params_set_f32(params, 1, c->softcap);
    params[2] = c->window;
    params[3] = c->chunk;
    params[4] = (int32_t)c->kv_heads;
    a->out = sh_op_node(&r->g, SH_OP_CACHE_ATTN, 6, a->src, params);
}

static void release(struct attn *a)
{
    sh_free(a->rows);
    sh_free(a->table);
    rig_release(&a->r);
}

static bool sees(const struct attn_case *c, int64_t pos, int64_t last, int64_t p)
{
    if (p > last) return false;
    if (c->window && pos - p >= c->window) return false;
    return !c->chunk || p / c->chunk == pos / c->chunk;
}

static void attend(const struct attn *a, const struct attn_case *c, int64_t row, int64_t head,
                   double *out)
{
    const int64_t seq = (int64_t)a->rows[4 * row], pos = (int64_t)a->rows[4 * row + 1];
    const int64_t last = (int64_t)a->rows[4 * row + 2], kv = head / (c->heads / c->kv_heads);
    const int64_t n = c->n_pages * SH_PAGE;
    const double *q = a->q + (row * c->heads + head) * c->dk;
    double *z = rig_zeros(n), max = -INFINITY, sum = 0;

    for (int64_t p = 0; p < n; p++) {
        const int64_t page = (int64_t)a->table[seq * c->n_pages + p / SH_PAGE];
        const double *k = a->k + ((page * SH_PAGE + p % SH_PAGE) * c->kv_heads + kv) * c->dk;
        if (!sees(c, pos, last, p)) continue;
        for (int64_t i = 0; i < c->dk; i++)
            z[p] += 0.3 * q[i] * k[i];
        if (c->softcap != 0) z[p] = (double)c->softcap * tanh(z[p] / (double)c->softcap);
        max = fmax(max, z[p]);
    }
    if (c->sinks) max = fmax(max, a->sinks[head]);
    if (c->sinks) sum = exp(a->sinks[head] - max);
    for (int64_t p = 0; p < n; p++) {
        const int64_t page = (int64_t)a->table[seq * c->n_pages + p / SH_PAGE];
        const double *v = a->v + ((page * SH_PAGE + p % SH_PAGE) * c->kv_heads + kv) * c->dv;
        if (!sees(c, pos, last, p)) continue;
        sum += exp(z[p] - max);
        for (int64_t i = 0; i < c->dv; i++)
            out[i] += exp(z[p] - max) * v[i];
    }
    for (int64_t i = 0; i < c->dv && sum > 0; i++)
        out[i] /= sum;
    sh_free(z);
}

static const struct attn_case cases[] = {
    {64, 64, 3, 1, 1, 1, 1, SH_DTYPE_F16, SH_DTYPE_F16, 0, 0, 0, false},
    {64, 64, 6, 2, 2, 2, 40, SH_DTYPE_F16, SH_DTYPE_F16, 0, 0, 0, false},
    {32, 48, 4, 4, 3, 3, 7, SH_DTYPE_F32, SH_DTYPE_F32, 0, 0, 0, true},
    {33, 17, 4, 2, 1, 40, 3, SH_DTYPE_F16, SH_DTYPE_F16, 5, 0, 0, true},
    {64, 64, 4, 2, 1, 36, 50, SH_DTYPE_F16, SH_DTYPE_F16, 0, 70, 0, false},
    {16, 16, 2, 1, 2, 36, 20, SH_DTYPE_F32, SH_DTYPE_F32, 0, 1100, 0, false},
    {16, 16, 8, 2, 1, 20, 30, SH_DTYPE_F16, SH_DTYPE_F16, 0, 0, 100, true},
    {16, 32, 2, 2, 1, 4, 5, SH_DTYPE_F16, SH_DTYPE_F32, 0, 0, 0, false},
    {8, 8, 70, 1, 1, 3, 5, SH_DTYPE_F32, SH_DTYPE_F32, 0, 0, 0, false},
    {64, 64, 2, 1, 1, 70, 1, SH_DTYPE_F16, SH_DTYPE_F16, 0, 0, 0, true},
};

static void cache_attn__equals_plain_attention(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct attn_case *c = &cases[i];
        struct attn a;
        double *want;
        build(&a, c, 0, c->n_seq * c->rows);
        want = rig_zeros(c->dv * c->heads * a.n_rows);
        for (int64_t j = 0; j < a.n_rows * c->heads; j++)
            attend(&a, c, j / c->heads, j % c->heads, want + j * c->dv);
        rig_expect(&a.r, a.out, want, 2e-3, 0);
        sh_free(want);
        release(&a);
    }
}

static void cache_attn__row_does_not_know_its_batch(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct attn_case *c = &cases[i];
        size_t all_bytes, one_bytes;
        struct attn a;
        uint8_t *all, *one;
        build(&a, c, 0, c->n_seq * c->rows);
        all = rig_run_bytes(&a.r, a.out, &all_bytes);
        const int64_t n_rows = a.n_rows;
        release(&a);
        for (int64_t row = 0; row < n_rows; row += 13) {
            build(&a, c, row, 1);
            one = rig_run_bytes(&a.r, a.out, &one_bytes);
            assert_memory_equal(one, all + (size_t)row * one_bytes, one_bytes);
            sh_free(one);
            release(&a);
        }
        sh_free(all);
    }
}

/* Row `row`, head `head` composed from the scalar kernels: blocks of 64 positions, splits of 1024
 * merged in order, sinks last, one division. */
static void attend_by_definition(const struct attn *a, const struct attn_case *c,
                                 const struct sh_kernels *k, int64_t row, int64_t head, float *out)
{
    const int64_t seq = (int64_t)a->rows[4 * row], pos = (int64_t)a->rows[4 * row + 1];
    const int64_t last = (int64_t)a->rows[4 * row + 2], kv = head / (c->heads / c->kv_heads);
    const uint16_t *keys = a->r.leaf[1].bytes, *values = a->r.leaf[2].bytes;
    float q[64], acc[2][64] = {{0}}, m[2] = {-INFINITY, -INFINITY}, l[2] = {0}, zeros[64] = {0};

    for (int64_t i = 0; i < c->dk; i++)
        q[i] = sh_f16_to_f32(sh_f32_to_f16((float)a->q[(row * c->heads + head) * c->dk + i]));
    for (int64_t b = 0; b < c->n_pages; b++) {
        const int64_t page = (int64_t)a->table[seq * c->n_pages + b];
        const int64_t at = page * SH_PAGE * c->kv_heads + kv;
        uint64_t visible = 0;
        for (int64_t p = 0; p < SH_PAGE; p++) {
            if (sees(c, pos, last, b * SH_PAGE + p)) visible |= UINT64_C(1) << p;
        }
        k->attn_block_f16(c->dk, c->dv, 1, q, keys + at * c->dk, (size_t)(c->dk * c->kv_heads),
                          values + at * c->dv, (size_t)(c->dv * c->kv_heads), visible, 0.3f,
                          c->softcap, NULL, &m[1], &l[1], acc[1]);
        if ((b + 1) % (SH_ATTN_SPLIT / SH_PAGE) == 0 || b + 1 == c->n_pages) {
            k->attn_merge(c->dv, &m[0], &l[0], acc[0], m[1], l[1], acc[1]);
            m[1] = -INFINITY;
            l[1] = 0;
            memset(acc[1], 0, sizeof acc[1]);
        }
    }
    if (c->sinks) k->attn_merge(c->dv, &m[0], &l[0], acc[0], (float)a->sinks[head], 1, zeros);
    k->scale(c->dv, out, acc[0], 1 / l[0], 0);
}

static void cache_attn__bits_are_those_of_the_definition(void **state)
{
    static const size_t which[] = {0, 1, 3, 4, 9}; // f16 caches

    (void)state;
    for (size_t i = 0; i < sizeof which / sizeof *which; i++) {
        const struct attn_case *c = &cases[which[i]];
        struct sh_kernels k;
        struct attn a;
        size_t n_bytes;
        uint8_t *got;
        float want[64];
        sh_kernels_fill(&k, 0);
        build(&a, c, 0, c->n_seq * c->rows);
        got = rig_run_bytes(&a.r, a.out, &n_bytes);
        for (int64_t j = 0; j < a.n_rows * c->heads; j++) {
            attend_by_definition(&a, c, &k, j / c->heads, j % c->heads, want);
            assert_memory_equal(got + (size_t)(j * c->dv) * sizeof(float), want,
                                (size_t)c->dv * sizeof(float));
        }
        sh_free(got);
        release(&a);
    }
}

static void expect_failure(struct attn *a, const char *sentence)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t byte;

    sh_graph_set_output(&a->r.g, a->out);
    assert_int_equal(rig_run_on(&a->r, rig_devices.config[1].d, a->out, &byte, 1, &err),
                     SHOAL_ERR_FORMAT);
    if (!strstr(err.message, sentence)) fail_msg("\"%s\" is not in \"%s\"", sentence, err.message);
}

static void set_i32(struct attn *a, int leaf, int64_t i, int32_t value)
{
    ((int32_t *)a->r.leaf[leaf].bytes)[i] = value;
}

static void cache_attn__wrong_rows_are_refused(void **state)
{
    struct attn a;

    (void)state;
    build(&a, &cases[1], 0, 80);
    set_i32(&a, 4, 1, -1); // second page of sequence 0
    expect_failure(&a, "position 64 of sequence 0 lies on page -1 of 4");
    set_i32(&a, 4, 1, 4);
    expect_failure(&a, "position 64 of sequence 0 lies on page 4 of 4");
    release(&a);
    build(&a, &cases[1], 0, 80);
    set_i32(&a, 3, 4 * 5, 2);
    expect_failure(&a, "row 5 is position");
    set_i32(&a, 3, 4 * 5, 0);
    set_i32(&a, 3, 4 * 5 + 2, 128);
    expect_failure(&a, "position 128: the table has 2 sequences of 2 pages");
    release(&a);
    // A page that no row sees may be missing.
    build(&a, &cases[4], 0, 1);
    set_i32(&a, 4, 0, -1);
    size_t n_bytes;
    sh_free(rig_run_bytes(&a.r, a.out, &n_bytes));
    release(&a);
}

/* Rows that see nothing give 0. */
static void cache_attn__nothing_to_see(void **state)
{
    struct attn a;
    double *want = rig_zeros(64 * 3), *got;

    (void)state;
    build(&a, &cases[0], 0, 1);
    set_i32(&a, 3, 2, -1);
    got = rig_run(&a.r, a.out);
    assert_memory_equal(got, want, 64 * 3 * sizeof *want);
    sh_free(got);
    sh_free(want);
    release(&a);
}

/* ---- FLASH_ATTN_EXT -------------------------------------------------------------------------*/

/* A sequence whose cells ascend: both forms give the same bits. */
static void flash__equals_cache_attn(void **state)
{
    static const int64_t lengths[] = {5, 64, 100, 1024, 1300, 2500};

    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        for (int f32 = 0; f32 < 2; f32++) {
            const int64_t n_kv = lengths[i], rows = n_kv < 20 ? n_kv : 20;
            const int64_t dk = 64, heads = 6, kv = 2, pages = (n_kv + SH_PAGE - 1) / SH_PAGE;
            const enum sh_dtype type = f32 ? SH_DTYPE_F32 : SH_DTYPE_F16;
            const size_t unit = sh_dtype_info(type)->block_bytes;
            const int64_t ke[3] = {dk, kv, n_kv};
            const size_t kb[3] = {unit, unit * (size_t)dk, unit * (size_t)(dk * kv)};
            const struct sh_attn_attr attr = {.scale = 0.125f, .n_kv_heads = (int32_t)kv};
            double *table = rig_zeros(pages), *rec = rig_zeros(4 * rows);
            double *mask = rig_zeros(n_kv * rows);
            int32_t q, k, v, t, rw, m, a, b, sinks;
            size_t na, nb;
            struct rig r;

            rig_init(&r, 0, 0, 0);
            q = rig_random_leaf(&r, SH_DTYPE_F32, dk, heads, rows, 1, NULL);
            k = rig_random_leaf(&r, type, dk * kv, SH_PAGE, pages, 1, NULL);
            v = rig_random_leaf(&r, type, dk * kv, SH_PAGE, pages, 1, NULL);
            sinks = rig_random_leaf(&r, SH_DTYPE_F32, heads, 1, 1, 1, NULL);
            for (int64_t p = 0; p < pages; p++)
                table[p] = (double)p;
            for (int64_t row = 0; row < rows; row++) {
                rec[4 * row + 1] = rec[4 * row + 2] = (double)(n_kv - rows + row);
                for (int64_t p = 0; p < n_kv; p++)
                    mask[row * n_kv + p] = p <= n_kv - rows + row ? 0 : -INFINITY;
            }
            rw = rig_leaf(&r, SH_DTYPE_I32, 4, rows, 1, 1);
            rig_fill(&r, rw, rec, 1);
            t = rig_leaf(&r, SH_DTYPE_I32, pages, 1, 1, 1);
            rig_fill(&r, t, table, 1);
            m = rig_leaf(&r, SH_DTYPE_F16, n_kv, rows, 1, 1);
            rig_fill(&r, m, mask, 1);
            a = sh_op_cache_attn(&r.g, q, k, v, rw, t, sinks, &attr);
            k = sh_op_permute(&r.g, sh_op_view(&r.g, k, 3, ke, kb, 0), 0, 2, 1, 3);
            v = sh_op_permute(&r.g, sh_op_view(&r.g, v, 3, ke, kb, 0), 0, 2, 1, 3);
            b = sh_op_flash_attn(&r.g, sh_op_permute(&r.g, q, 0, 2, 1, 3), k, v, m, sinks, 0.125f,
                                 0, 0);
            uint8_t *pa = rig_run_bytes(&r, a, &na), *pb = rig_run_bytes(&r, b, &nb);
            assert_int_equal(na, nb);
            assert_memory_equal(pa, pb, na);
            sh_free(pa);
            sh_free(pb);
            sh_free(table);
            sh_free(rec);
            sh_free(mask);
            rig_release(&r);
        }
    }
}

struct flash_case {
    int64_t dk, dv, heads, k_heads, v_heads, rows, n_kv, sets;
    enum sh_dtype k_type, v_type;
    int mask; /* heads of the mask, 0: none */
    float max_bias, softcap;
    bool sinks;
};

static double slope_of(int64_t h, int64_t n_heads, double max_bias)
{
    const double n = pow(2, floor(log2((double)n_heads)));

    if (max_bias <= 0) return 1;
    if ((double)h < n) return pow(pow(2, -max_bias / n), (double)h + 1);
    return pow(pow(2, -max_bias / 2 / n), 2 * ((double)h - n) + 1);
}

static void check_flash(const struct flash_case *c)
{
    struct rig r;
    const double *q, *k, *v, *m = NULL, *s = NULL;
    double *want = rig_zeros(c->dv * c->heads * c->rows * c->sets);
    double *mask = rig_zeros(c->n_kv * c->rows * 4), *z = rig_zeros(c->n_kv);
    int32_t iq, ik, iv, im = -1, is = -1;

    rig_init(&r, 0, 0, 0);
    iq = rig_random_leaf(&r, SH_DTYPE_F32, c->dk, c->heads, c->rows, c->sets, &q);
    ik = rig_random_leaf(&r, c->k_type, c->dk, c->n_kv, c->k_heads, c->sets, &k);
    iv = rig_random_leaf(&r, c->v_type, c->dv, c->n_kv, c->v_heads, c->sets, &v);
    if (c->mask) {
        for (int64_t i = 0; i < c->n_kv * c->rows * c->mask; i++) {
            const double x = rig_random(&r);
            mask[i] = x < -0.3 ? -INFINITY : x < 0.4 ? 0 : x;
        }
        im = rig_leaf(&r, SH_DTYPE_F16, c->n_kv, c->rows, c->mask, 1);
        m = rig_fill(&r, im, mask, 1);
    }
    if (c->sinks) is = rig_random_leaf(&r, SH_DTYPE_F32, c->heads, 1, 1, 1, &s);
    for (int64_t i = 0; i < c->heads * c->rows * c->sets; i++) {
        const int64_t h = i % c->heads, row = i / c->heads % c->rows,
                      set = i / (c->heads * c->rows);
        const int64_t kh = set * c->k_heads + h / (c->heads / c->k_heads);
        const int64_t vh = set * c->v_heads + h / (c->heads / c->v_heads);
        double max = -INFINITY, sum = 0;
        for (int64_t p = 0; p < c->n_kv; p++) {
            z[p] = 0;
            for (int64_t e = 0; e < c->dk; e++)
                z[p] += 0.25 * q[i * c->dk + e] * k[(kh * c->n_kv + p) * c->dk + e];
            if (c->softcap != 0) z[p] = (double)c->softcap * tanh(z[p] / (double)c->softcap);
            if (m)
                z[p] += slope_of(h, c->heads, (double)c->max_bias) *
                        m[(h % c->mask * c->rows + row) * c->n_kv + p];
            max = fmax(max, z[p]);
        }
        if (s) max = fmax(max, s[h]);
        if (s) sum = exp(s[h] - max);
        for (int64_t p = 0; p < c->n_kv; p++) {
            if (z[p] == -INFINITY) continue;
            sum += exp(z[p] - max);
            for (int64_t e = 0; e < c->dv; e++)
                want[i * c->dv + e] += exp(z[p] - max) * v[(vh * c->n_kv + p) * c->dv + e];
        }
        for (int64_t e = 0; e < c->dv && sum > 0; e++)
            want[i * c->dv + e] /= sum;
    }
    rig_expect(&r,
               sh_op_flash_attn(&r.g, sh_op_permute(&r.g, iq, 0, 2, 1, 3), ik, iv, im, is, 0.25f,
                                c->max_bias, c->softcap),
               want, 2e-3, 0);
    sh_free(want);
    sh_free(mask);
    sh_free(z);
    rig_release(&r);
}

static void flash__equals_plain_attention(void **state)
{
    static const struct flash_case flash[] = {
        {64, 64, 4, 2, 2, 5, 113, 1, SH_DTYPE_F16, SH_DTYPE_F16, 1, 0, 0, false},
        {64, 32, 4, 4, 2, 3, 70, 2, SH_DTYPE_F32, SH_DTYPE_F32, 1, 0, 0, true},
        {32, 64, 6, 2, 3, 20, 64, 1, SH_DTYPE_F16, SH_DTYPE_F16, 2, 0, 10, false},
        {64, 64, 6, 1, 1, 4, 200, 1, SH_DTYPE_Q8_0, SH_DTYPE_Q4_0, 1, 8, 0, true},
        {64, 64, 2, 2, 2, 40, 33, 2, SH_DTYPE_BF16, SH_DTYPE_F16, 0, 0, 0, false},
        {40, 40, 3, 3, 3, 1, 1500, 1, SH_DTYPE_F16, SH_DTYPE_F16, 1, 8, 30, true},
        {72, 72, 4, 1, 1, 33, 1, 1, SH_DTYPE_F16, SH_DTYPE_F32, 0, 0, 0, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof flash / sizeof *flash; i++)
        check_flash(&flash[i]);
}

/* Hidden cells may hold anything, NaN too; a row that sees nothing gives 0. */
static void flash__hidden_cells_are_not_read(void **state)
{
    const int64_t n_kv = 80;
    double *mask = rig_zeros(n_kv * 2), *got;
    struct rig r;
    int32_t q, k, v, m;

    (void)state;
    rig_init(&r, 0, 0, 0);
    q = rig_random_leaf(&r, SH_DTYPE_F32, 32, 2, 1, 1, NULL);
    k = rig_random_leaf(&r, SH_DTYPE_F16, 32, n_kv, 1, 1, NULL);
    v = rig_random_leaf(&r, SH_DTYPE_F16, 32, n_kv, 1, 1, NULL);
    for (int64_t i = 0; i < n_kv * 2; i++)
        mask[i] = i < n_kv && i != 70 ? 0 : -INFINITY;
    m = rig_leaf(&r, SH_DTYPE_F16, n_kv, 2, 1, 1);
    rig_fill(&r, m, mask, 1);
    for (int i = 0; i < 32; i++) {
        ((uint16_t *)r.leaf[1].bytes)[70 * 32 + i] = 0x7e00;
        ((uint16_t *)r.leaf[2].bytes)[70 * 32 + i] = 0x7e00;
    }
    got = rig_run(&r, sh_op_flash_attn(&r.g, q, k, v, m, -1, 0.2f, 0, 0));
    for (int i = 0; i < 32; i++) {
        assert_true(got[i] == got[i] && got[i] != 0);
        assert_float_equal(got[32 + i], 0, 0);
    }
    sh_free(got);
    sh_free(mask);
    rig_release(&r);
}

/* ---- CACHE_PUT, CACHE_ROTATE ----------------------------------------------------------------*/

static void cache_put__rows_find_their_places(void **state)
{
    static const double table[6] = {2, 0, -1, 3, 1, -1};
    static const double rows[5][4] = {
        {0, 3, 3, 0}, {0, 64, 64, 0}, {1, 0, 0, 0}, {1, 127, 127, 0}, {0, 63, 63, 0}};

    (void)state;
    for (int f32 = 0; f32 < 2; f32++) {
        const enum sh_dtype type = f32 ? SH_DTYPE_F32 : SH_DTYPE_F16;
        struct rig r;
        const double *old, *x;
        double *want = rig_zeros(40 * 64 * 4);
        struct shoal_error err = SHOAL_ERROR_INIT;
        int32_t c, v, rec, t, y;
        uint8_t byte;
        rig_init(&r, 0, 0, 0);
        c = rig_random_leaf(&r, type, 40, SH_PAGE, 4, 1, &old);
        v = rig_random_leaf(&r, SH_DTYPE_F32, 40, 5, 1, 1, &x);
        rec = rig_leaf(&r, SH_DTYPE_I32, 4, 5, 1, 1);
        rig_fill(&r, rec, &rows[0][0], 1);
        t = rig_leaf(&r, SH_DTYPE_I32, 3, 2, 1, 1);
        rig_fill(&r, t, table, 1);
        memcpy(want, old, 40 * 64 * 4 * sizeof *want);
        for (int i = 0; i < 5; i++) {
            const int seq = (int)rows[i][0], pos = (int)rows[i][1];
            const int page = (int)table[seq * 3 + pos / 64];
            for (int e = 0; e < 40; e++) {
                const float f = (float)x[i * 40 + e];
                want[(page * 64 + pos % 64) * 40 + e] =
                    (double)(f32 ? f : sh_f16_to_f32(sh_f32_to_f16(f)));
            }
        }
        y = sh_op_cache_put(&r.g, c, v, rec, t);
        rig_expect(&r, y, want, 0, 0);
        ((int32_t *)r.leaf[2].bytes)[1] = 130; // no page is mapped there
        assert_int_equal(rig_run_on(&r, rig_devices.config[0].d, y, &byte, 1, &err),
                         SHOAL_ERR_FORMAT);
        assert_non_null(strstr(err.message, "position 130 of sequence 0 lies on page -1 of 4"));
        sh_free(want);
        rig_release(&r);
    }
}

static void cache_rotate__turns_listed_pages(void **state)
{
    static const double pages[4] = {2, 64, 0, -128};

    (void)state;
    for (int form = 0; form < 4; form++) {
        const bool f16 = form & 1, neox = form & 2;
        const int64_t dk = 16, heads = 3, pairs = 6;
        int32_t params[SH_N_PARAMS] = {0, 2 * (int32_t)pairs, neox ? SH_ROPE_NEOX : SH_ROPE_NORM,
                                       (int32_t)heads};
        struct rig r;
        const double *old;
        double *want = rig_zeros(dk * heads * 64 * 4);
        int32_t src[3] = {-1, -1, -1};
        rig_init(&r, 0, 0, 0);
        sh_params_set_f32(params, 5, 1000);
        sh_params_set_f32(params, 6, 1);
        sh_params_set_f32(params, 8, 1);
        src[0] =
            rig_random_leaf(&r, f16 ? SH_DTYPE_F16 : SH_DTYPE_F32, dk * heads, SH_PAGE, 4, 1, &old);
        src[1] = rig_leaf(&r, SH_DTYPE_I32, 2, 2, 1, 1);
        rig_fill(&r, src[1], pages, 1);
        memcpy(want, old, (size_t)(dk * heads * 64 * 4) * sizeof *want);
        for (int64_t i = 0; i < 2 * 64 * heads * pairs; i++) {
            const int64_t pair = i % pairs, head = i / pairs % heads,
                          place = i / (pairs * heads) % 64;
            const int64_t entry = i / (pairs * heads * 64), page = (int64_t)pages[2 * entry];
            const double angle = pages[2 * entry + 1] * pow(1000, -(double)pair / (double)pairs);
            const int64_t at = ((page * 64 + place) * heads + head) * dk;
            const int64_t a = at + (neox ? pair : 2 * pair), b = neox ? a + pairs : a + 1;
            want[a] = old[a] * cos(angle) - old[b] * sin(angle);
            want[b] = old[a] * sin(angle) + old[b] * cos(angle);
        }
        rig_expect(&r, sh_op_node(&r.g, SH_OP_CACHE_ROTATE, 2, src, params), want,
                   f16 ? 1e-3 : 1e-6, 0);
        sh_free(want);
        rig_release(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cache_attn__equals_plain_attention),
        cmocka_unit_test(cache_attn__row_does_not_know_its_batch),
        cmocka_unit_test(cache_attn__bits_are_those_of_the_definition),
        cmocka_unit_test(cache_attn__wrong_rows_are_refused),
        cmocka_unit_test(cache_attn__nothing_to_see),
        cmocka_unit_test(flash__equals_cache_attn),
        cmocka_unit_test(flash__equals_plain_attention),
        cmocka_unit_test(flash__hidden_cells_are_not_read),
        cmocka_unit_test(cache_put__rows_find_their_places),
        cmocka_unit_test(cache_rotate__turns_listed_pages),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
