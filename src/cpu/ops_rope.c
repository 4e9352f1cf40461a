/* cpu/ops_rope.c - rotary position embedding: ROPE, and CACHE_ROTATE for keys of moved pages.
 *
 * The cosines and sines of all rows of a step are computed once per set of parameters and shared
 * by the layers:  table [row][n_dims / 2 cosines, n_dims / 2 sines].  With several position axes a
 * pair takes its angle from the axis that its section names.
 */
#include <math.h>
#include <string.h>

#include "cpu/ops_priv.h"

#define AXES 4

struct rope {
    const struct sh_cpu_call *c;
    struct sh_rope_params p;
    enum sh_rope_mode mode;
    int64_t n_pairs, first; /* first rotated channel */
    const int32_t *positions;
    bool records; /* of four positions each */
    const double *inv_freq;
    const float *factors;
    float *table;
    float *axes; /* of each thread: cosines and sines of each axis */
    float *rows; /* of each thread: a row of f32, for f16 */
};

static struct sh_rope_params params_of(const struct sh_tensor *t)
{
    return (struct sh_rope_params){.n_dims = t->params[1],
                                   .n_ctx_orig = t->params[4],
                                   .freq_base = sh_param_f32(t, 5),
                                   .freq_scale = sh_param_f32(t, 6),
                                   .ext_factor = sh_param_f32(t, 7),
                                   .attn_factor = sh_param_f32(t, 8),
                                   .beta_fast = sh_param_f32(t, 9),
                                   .beta_slow = sh_param_f32(t, 10)};
}

static enum shoal_status check_rope(const struct sh_cpu_node *n, struct sh_cpu_need *need,
                                    struct shoal_error *err)
{
    const int64_t n_dims = n->t->params[1], threads = n->n_threads;

    if (!sh_cpu_add_work(&need->shared, n->t->ne[2], (size_t)n_dims * sizeof(float)) ||
        !sh_cpu_add_work(&need->work, n_dims, sizeof(double)) ||
        !sh_cpu_add_work(&need->work, threads * AXES * n_dims, sizeof(float)) ||
        !sh_cpu_add_work(&need->work, threads * n->t->ne[0], sizeof(float))) {
        return sh_cpu_refuse_size(err);
    }
    return SHOAL_OK;
}

/* The angles depend on everything but the order of channels and where they begin. */
static bool rope_shares(const struct sh_cpu_node *a, const struct sh_cpu_node *b)
{
    const int32_t many = 8;

    if (a->t->ne[2] != b->t->ne[2]) return false;
    if (((a->t->params[2] | b->t->params[2]) & many) && a->t->params[2] != b->t->params[2])
        return false;
    for (int i = 1; i < 15; i++) {
        if (i != 2 && a->t->params[i] != b->t->params[i]) return false;
    }
    return true;
}

/* ---- angles ---------------------------------------------------------------------------------*/

/* Position of row t along an axis: [T], [4*T] in planes, or ours [4,T]. */
static int32_t position(const struct rope *r, int64_t t, int axis)
{
    if (r->records) return r->positions[t * AXES + axis];
    return r->positions[axis * r->c->t->ne[2] + t];
}

/* Axis of pair i. */
static int axis_of(const struct rope *r, int64_t i)
{
    const int32_t *s = r->c->t->params + 11;
    const int64_t all = (int64_t)s[0] + s[1] + s[2] + s[3];
    const int64_t q = all > 0 ? i % all : 0;

    if (r->mode == SH_ROPE_IMROPE) {
        if (q % 3 == 1 && q < 3 * (int64_t)s[1]) return 1;
        if (q % 3 == 2 && q < 3 * (int64_t)s[2]) return 2;
        if (q % 3 == 0 && q < 3 * (int64_t)s[0]) return 0;
        return 3;
    }
    if (q < s[0]) return 0;
    if (q < (int64_t)s[0] + s[1]) return 1;
    if (q < (int64_t)s[0] + s[1] + s[2]) return 2;
    return 3;
}

static void fill_axes(const struct rope *r, int64_t t, float *cosines, float *sines, int thread)
{
    float *axes = r->axes + (int64_t)thread * AXES * 2 * r->n_pairs;

    for (int a = 0; a < AXES; a++) {
        sh_rope_angles(&r->p, r->inv_freq, r->factors, position(r, t, a), axes + 2 * a * r->n_pairs,
                       axes + (2 * a + 1) * r->n_pairs);
    }
    for (int64_t i = 0; i < r->n_pairs; i++) {
        const int a = axis_of(r, i);
        cosines[i] = axes[2 * a * r->n_pairs + i];
        sines[i] = axes[(2 * a + 1) * r->n_pairs + i];
    }
}

static void fill_table(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct rope *r = arg;

    for (int64_t t = begin; t < end; t++) {
        float *cosines = r->table + 2 * t * r->n_pairs, *sines = cosines + r->n_pairs;
        if (r->mode & 8) {
            fill_axes(r, t, cosines, sines, thread);
        } else {
            sh_rope_angles(&r->p, r->inv_freq, r->factors, position(r, t, 0), cosines, sines);
        }
    }
}

/* ---- rotation -------------------------------------------------------------------------------*/

/* A row of `width` channels by the angles of row t of the table. */
static void rotate_row(const struct rope *r, int64_t t, int64_t width, float *dst, const float *x)
{
    const float *cosines = r->table + 2 * t * r->n_pairs, *sines = cosines + r->n_pairs;
    const int64_t n = width - r->first;

    if (r->first && dst != x) memcpy(dst, x, (size_t)r->first * sizeof *x);
    if (r->mode == SH_ROPE_NORM) {
        r->c->k->rope_norm(n, r->n_pairs, dst + r->first, x + r->first, cosines, sines);
    } else {
        r->c->k->rope_neox(n, r->n_pairs, dst + r->first, x + r->first, cosines, sines);
    }
}

static void rotate_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct rope *r = arg;
    const struct sh_cpu_call *c = r->c;
    float *tmp = r->rows + (int64_t)thread * c->dst.ne[0];

    for (int64_t row = begin; row < end; row++) {
        const struct sh_cpu_index at = sh_cpu_index_of(&c->dst, row);
        const uint8_t *from = sh_cpu_at(&c->src[0], at.i1, at.i2, at.i3);
        uint8_t *to = sh_cpu_at(&c->dst, at.i1, at.i2, at.i3);
        if (c->dst.dtype == SH_DTYPE_F32) {
            rotate_row(r, at.i2, c->dst.ne[0], sh_cpu_f32(to), (const float *)(const void *)from);
            continue;
        }
        const float *x =
            sh_cpu_load(c->k, c->src[0].dtype, from, c->src[0].nb[0], c->dst.ne[0], tmp);
        rotate_row(r, at.i2, c->dst.ne[0], tmp, x);
        sh_cpu_store(c->k, c->dst.dtype, to, c->dst.nb[0], c->dst.ne[0], tmp);
    }
}

static enum shoal_status run_rope(struct sh_cpu_call *c, struct shoal_error *err)
{
    // The forms of positions are told apart by their maxima: a bound one may look like another.
    const struct sh_tensor *pos = sh_graph_tensor(c->run->x->g, c->t->src[1]);
    uint8_t *work = c->work;
    struct rope r = {.c = c,
                     .p = params_of(c->t),
                     .mode = (enum sh_rope_mode)c->t->params[2],
                     .n_pairs = c->t->params[1] / 2,
                     .first = c->t->params[15],
                     .positions = (const int32_t *)(const void *)c->src[1].data,
                     .records = pos->ne[0] == AXES && pos->ne[1] == c->t->ne[2],
                     .table = sh_cpu_f32(c->shared)};
    double *inv_freq = (double *)(void *)sh_cpu_take_work(&work, r.p.n_dims, sizeof *inv_freq);

    (void)err;
    r.axes = sh_cpu_f32(sh_cpu_take_work(&work, c->n_threads * AXES * r.p.n_dims, sizeof(float)));
    r.rows = sh_cpu_f32(sh_cpu_take_work(&work, c->n_threads * c->t->ne[0], sizeof(float)));
    r.inv_freq = inv_freq;
    r.factors = c->src[2].data ? sh_cpu_f32(c->src[2].data) : NULL;
    if (!c->shared_ready) {
        sh_rope_frequencies(&r.p, inv_freq);
        sh_pool_for(c->pool, c->dst.ne[2], sh_cpu_chunk(32 * r.n_pairs), fill_table, &r);
    }
    sh_pool_for(c->pool, sh_cpu_rows(&c->dst), sh_cpu_chunk(2 * c->dst.ne[0]), rotate_rows, &r);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_ROPE = {.check = check_rope,
                                         .run = run_rope,
                                         .share = SH_CPU_SHARE_TABLE,
                                         .share_operands = 1u << 1 | 1u << 2,
                                         .shares = rope_shares};

/* ---- CACHE_ROTATE: cache [dk*Hk,64,pages], PAGES i32 [2,R] (page, delta), factors? -----------*/

/* Keys of the same place in all listed pages, page after page: one listed twice turns twice. */
static void rotate_places(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct rope *r = arg;
    const struct sh_cpu_call *c = r->c;
    const struct sh_cpu_tensor *d = &c->dst, *pages = &c->src[1];
    const int64_t width = d->ne[0] / c->t->params[3];
    float *tmp = r->rows + (int64_t)thread * d->ne[0];

    for (int64_t i = 0; i < pages->ne[1] * (end - begin); i++) {
        const int64_t entry = i / (end - begin), place = begin + i % (end - begin);
        uint8_t *key = sh_cpu_at(d, place, sh_cpu_i32(pages, 0, entry, 0), 0);
        const float *x = sh_cpu_load(c->k, d->dtype, key, d->nb[0], d->ne[0], tmp);
        for (int64_t at = 0; at < d->ne[0]; at += width)
            rotate_row(r, entry, width, tmp + at, x + at);
        sh_cpu_store(c->k, d->dtype, key, d->nb[0], d->ne[0], tmp);
    }
}

static enum shoal_status check_rotate(const struct sh_cpu_node *n, struct sh_cpu_need *need,
                                      struct shoal_error *err)
{
    const int64_t n_dims = n->t->params[1];

    if (!sh_cpu_add_work(&need->work, n_dims, sizeof(double)) ||
        !sh_cpu_add_work(&need->work, n->src[1]->ne[1] * n_dims, sizeof(float)) ||
        !sh_cpu_add_work(&need->work, n->n_threads * n->t->ne[0], sizeof(float))) {
        return sh_cpu_refuse_size(err);
    }
    return SHOAL_OK;
}

static enum shoal_status run_rotate(struct sh_cpu_call *c, struct shoal_error *err)
{
    const struct sh_cpu_tensor *pages = &c->src[1];
    const int64_t n = pages->ne[1], n_max = sh_graph_tensor(c->run->x->g, c->t->src[1])->ne[1];
    uint8_t *work = c->work;
    struct rope r = {.c = c,
                     .p = params_of(c->t),
                     .mode = (enum sh_rope_mode)c->t->params[2],
                     .n_pairs = c->t->params[1] / 2,
                     .first = c->t->params[15],
                     .factors = c->src[2].data ? sh_cpu_f32(c->src[2].data) : NULL};
    double *inv_freq = (double *)(void *)sh_cpu_take_work(&work, r.p.n_dims, sizeof *inv_freq);

    r.table = sh_cpu_f32(sh_cpu_take_work(&work, n_max * r.p.n_dims, sizeof(float)));
    r.rows = sh_cpu_f32(sh_cpu_take_work(&work, c->n_threads * c->t->ne[0], sizeof(float)));
    for (int64_t i = 0; i < n; i++) {
        const int32_t page = sh_cpu_i32(pages, 0, i, 0);
        if (page < 0 || page >= c->dst.ne[2])
            return sh_fail(err, SHOAL_ERR_FORMAT, "page %d of %lld", page, (long long)c->dst.ne[2]);
    }
    sh_rope_frequencies(&r.p, inv_freq);
    for (int64_t i = 0; i < n; i++) {
        float *cosines = r.table + 2 * i * r.n_pairs;
        sh_rope_angles(&r.p, inv_freq, r.factors, sh_cpu_i32(pages, 1, i, 0), cosines,
                       cosines + r.n_pairs);
    }
    sh_pool_for(c->pool, SH_PAGE, sh_cpu_chunk(4 * n * c->dst.ne[0]), rotate_places, &r);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_CACHE_ROTATE = {.check = check_rotate, .run = run_rotate};
