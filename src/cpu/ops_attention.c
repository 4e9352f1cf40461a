/* cpu/ops_attention.c - CACHE_ATTN (keys by position, in pages) and FLASH_ATTN_EXT (keys in a row,
 * visible by mask): what each sees, and where its keys lie.  The arithmetic is in attention.c, so
 * a sequence whose cells ascend gives the same bits in both forms.
 */
#include <math.h>

#include "cpu/attention_priv.h"

/* ---- CACHE_ATTN: q [dk,H,T], K, V [width,64,pages], ROWS [4,T], table, sinks? -----------------*/

/* Positions that a row sees: [lo, hi], none where hi < lo. */
struct range {
    int64_t lo, hi;
};

static struct range range_of(const struct sh_cpu_call *c, int64_t t)
{
    const int64_t pos = sh_cpu_i32(&c->src[3], 1, t, 0);
    const int64_t window = c->t->params[2], chunk = c->t->params[3];
    struct range r = {.lo = 0, .hi = sh_cpu_i32(&c->src[3], 2, t, 0)};

    if (window > 0 && pos - window + 1 > r.lo) r.lo = pos - window + 1;
    if (chunk > 0) {
        const int64_t begin = pos / chunk * chunk;
        if (begin > r.lo) r.lo = begin;
        if (begin + chunk - 1 < r.hi) r.hi = begin + chunk - 1;
    }
    return r;
}

static void cache_keys(const struct sh_attn *a, const struct sh_attn_tile *t, int64_t head,
                       int64_t block, struct sh_attn_keys *out)
{
    const struct sh_cpu_tensor *k = &a->c->src[1], *v = &a->c->src[2], *table = &a->c->src[4];
    const int32_t page = sh_cpu_i32(table, block, t->set, 0);
    const size_t kv = (size_t)(head / a->group);

    *out = (struct sh_attn_keys){.k = sh_cpu_at(k, 0, page, 0) + kv * (size_t)a->dk * k->nb[0],
                                 .v = sh_cpu_at(v, 0, page, 0) + kv * (size_t)a->dv * v->nb[0],
                                 .k_stride = k->nb[1],
                                 .v_stride = v->nb[1],
                                 .n = SH_PAGE};
}

static uint64_t bits_of(struct range r, int64_t block)
{
    const int64_t base = block * SH_PAGE;
    const int64_t lo = r.lo > base ? r.lo - base : 0;
    const int64_t hi = r.hi < base + SH_PAGE - 1 ? r.hi - base : SH_PAGE - 1;

    if (hi < lo || lo >= SH_PAGE) return 0;
    return (UINT64_MAX << lo) & (UINT64_MAX >> (SH_PAGE - 1 - hi));
}

static void cache_sight(const struct sh_attn *a, const struct sh_attn_tile *t, int64_t head,
                        int64_t block, struct sh_attn_sight *out)
{
    (void)head;
    for (int64_t r = 0, i = 0; r < t->n_rows; r++) {
        const uint64_t bits = bits_of(range_of(a->c, t->row + r), block);
        for (int64_t g = 0; g < a->group; g++, i++) {
            out->visible[i] = bits;
            out->biased[i] = false;
        }
    }
}

/* Every page that row t sees must be there; blocks [from, to) have been looked up. */
static enum shoal_status check_pages(const struct sh_cpu_call *c, int64_t seq, int64_t begin,
                                     int64_t end, int64_t from, int64_t to, struct shoal_error *err)
{
    int32_t page;

    for (int64_t b = begin; b < end; b++) {
        enum shoal_status st;
        if (b >= from && b < to) continue;
        st = sh_cpu_find_page(&c->src[4], c->src[1].ne[2], seq, b * SH_PAGE, &page, err);
        if (st) return st;
    }
    return SHOAL_OK;
}

/* The first of the pages [begin, end) that is there: a sequence may start at a later position. */
static int64_t first_page(const struct sh_cpu_call *c, int64_t seq, int64_t begin, int64_t end)
{
    const struct sh_cpu_tensor *table = &c->src[4];

    while (begin < end && begin < table->ne[0] && sh_cpu_i32(table, begin, seq, 0) == -1)
        begin++;
    return begin;
}

/* Tiles of consecutive rows of one sequence; checks all that the rows say. */
static enum shoal_status cut_into_tiles(const struct sh_cpu_call *c, int64_t rows_max,
                                        struct sh_attn_tile *tiles, int64_t *n_tiles,
                                        struct shoal_error *err)
{
    struct sh_attn_tile *tile = NULL;

    for (int64_t t = 0; t < c->dst.ne[2]; t++) {
        const int64_t seq = sh_cpu_i32(&c->src[3], 0, t, 0), pos = sh_cpu_i32(&c->src[3], 1, t, 0);
        const struct range r = range_of(c, t);
        int64_t begin = 0, end = 0;
        enum shoal_status st;
        bool any;

        if (seq < 0 || seq >= c->src[4].ne[1] || pos < 0) {
            return sh_fail(err, SHOAL_ERR_FORMAT,
                           "row %lld is position %lld of sequence %lld; the table has %lld "
                           "sequences",
                           (long long)t, (long long)pos, (long long)seq,
                           (long long)c->src[4].ne[1]);
        }
        if (!tile || tile->set != seq || tile->n_rows == rows_max) {
            tile = &tiles[(*n_tiles)++];
            *tile = (struct sh_attn_tile){.row = t, .set = seq};
        }
        if (r.hi >= r.lo) {
            end = r.hi / SH_PAGE + 1;
            begin = first_page(c, seq, r.lo / SH_PAGE, end);
        }
        any = end > begin;
        st = check_pages(c, seq, begin, end, tile->first_block, tile->end_block, err);
        if (st) return st;
        // Rows whose ranges do not meet do not share a tile: between them pages may be missing.
        if (any && tile->end_block > tile->first_block &&
            (begin > tile->end_block || end < tile->first_block)) {
            tile = &tiles[(*n_tiles)++];
            *tile = (struct sh_attn_tile){.row = t, .set = seq};
        }
        if (any && tile->end_block == tile->first_block) {
            tile->first_block = begin;
            tile->end_block = end;
        } else if (any) {
            if (begin < tile->first_block) tile->first_block = begin;
            if (end > tile->end_block) tile->end_block = end;
        }
        tile->n_rows++;
    }
    return SHOAL_OK;
}

static void describe_cache(const struct sh_tensor *t, const struct sh_tensor *q,
                           const struct sh_tensor *k, const struct sh_tensor *v, struct sh_attn *a)
{
    const int64_t n_kv_heads = t->params[4];

    *a = (struct sh_attn){.dk = q->ne[0],
                          .dv = v->ne[0] / n_kv_heads,
                          .n_heads = q->ne[1],
                          .group = q->ne[1] / n_kv_heads,
                          .k_type = k->dtype,
                          .v_type = v->dtype,
                          .scale = sh_param_f32(t, 0),
                          .softcap = sh_param_f32(t, 1),
                          .q_row = q->nb[2],
                          .q_head = q->nb[1],
                          .keys = cache_keys,
                          .sight = cache_sight};
}

static enum shoal_status check_cache_attn(const struct sh_cpu_node *n, struct sh_cpu_need *need,
                                          struct shoal_error *err)
{
    const int64_t n_rows = n->t->ne[2];
    struct sh_attn a;

    describe_cache(n->t, n->src[0], n->src[1], n->src[2], &a);
    if (!sh_cpu_add_work(&need->work, n_rows, sizeof(struct sh_attn_tile)) ||
        !sh_attn_add_work(&need->work, &a, n_rows, n->src[4]->ne[0], n->n_threads)) {
        return sh_cpu_refuse_size(err);
    }
    return SHOAL_OK;
}

static enum shoal_status run_cache_attn(struct sh_cpu_call *c, struct shoal_error *err)
{
    const struct sh_graph *g = c->run->x->g;
    uint8_t *work = c->work;
    struct sh_attn_tile *tiles;
    struct sh_attn a;
    enum shoal_status st;

    describe_cache(c->t, sh_graph_tensor(g, c->t->src[0]), sh_graph_tensor(g, c->t->src[1]),
                   sh_graph_tensor(g, c->t->src[2]), &a);
    tiles = (struct sh_attn_tile *)(void *)sh_cpu_take_work(&work, c->t->ne[2], sizeof *tiles);
    a.c = c;
    a.sinks = c->src[5].data ? sh_cpu_f32(c->src[5].data) : NULL;
    a.tiles = tiles;
    st = cut_into_tiles(c, sh_attn_rows_max(a.group), tiles, &a.n_tiles, err);
    if (st) return st;
    sh_attn_run(&a, work);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_CACHE_ATTN = {.check = check_cache_attn, .run = run_cache_attn};

/* ---- FLASH_ATTN_EXT: q [DK,N,H,B], k [DK,KV,Hk,B], v [DV,KV,Hv,B], mask?, sinks? --------------*/

struct flash {
    int64_t per_k, per_v; /* query heads per head of k and of v */
    const float *slopes;  /* per head; NULL: all 1 */
};

static void flash_keys(const struct sh_attn *a, const struct sh_attn_tile *t, int64_t head,
                       int64_t block, struct sh_attn_keys *out)
{
    const struct flash *f = a->op;
    const struct sh_cpu_tensor *k = &a->c->src[1], *v = &a->c->src[2];
    const int64_t first = block * SH_PAGE, left = k->ne[1] - first;

    *out = (struct sh_attn_keys){.k = sh_cpu_at(k, first, head / f->per_k, t->set),
                                 .v = sh_cpu_at(v, first, head / f->per_v, t->set),
                                 .k_stride = k->nb[1],
                                 .v_stride = v->nb[1],
                                 .n = left < SH_PAGE ? left : SH_PAGE};
}

/* Read n mask entries: which keys are seen; true if some of them has another bias than 0. */
static bool read_mask(const uint16_t *mask, int64_t n, float slope, uint64_t *visible, float *bias)
{
    const uint16_t zero = 0, hidden = 0xfc00;
    bool biased = false;

    *visible = 0;
    for (int64_t i = 0; i < n; i++) {
        if (mask[i] == hidden) continue;
        *visible |= UINT64_C(1) << i;
        biased |= mask[i] != zero;
    }
    for (int64_t i = 0; biased && i < n; i++)
        bias[i] = slope * sh_f16_to_f32(mask[i]); // slopes are at most 1
    for (int64_t i = n; biased && i < SH_PAGE; i++)
        bias[i] = 0;
    return biased;
}

static void flash_sight(const struct sh_attn *a, const struct sh_attn_tile *t, int64_t head,
                        int64_t block, struct sh_attn_sight *out)
{
    const struct flash *f = a->op;
    const struct sh_cpu_tensor *mask = &a->c->src[3];
    const int64_t first = block * SH_PAGE, left = a->c->src[1].ne[1] - first;
    const int64_t n = left < SH_PAGE ? left : SH_PAGE;
    const bool per_head = mask->data && (mask->ne[2] > 1 || f->slopes);

    for (int64_t i = 0; i < t->n_rows * a->group; i++) {
        const int64_t r = i / a->group, h = head + i % a->group;
        if (!mask->data) {
            out->visible[i] = UINT64_MAX >> (SH_PAGE - n);
            out->biased[i] = false;
        } else if (i % a->group == 0 || per_head) {
            const uint8_t *row = sh_cpu_at(mask, t->row + r, h % mask->ne[2], t->set % mask->ne[3]);
            out->biased[i] = read_mask((const uint16_t *)(const void *)row + first, n,
                                       f->slopes ? f->slopes[h] : 1.0f, &out->visible[i],
                                       out->bias + i * SH_PAGE);
        } else {
            out->visible[i] = out->visible[i - 1];
            out->biased[i] = out->biased[i - 1];
            for (int64_t j = 0; out->biased[i] && j < SH_PAGE; j++)
                out->bias[i * SH_PAGE + j] = out->bias[(i - 1) * SH_PAGE + j];
        }
    }
}

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static void describe_flash(const struct sh_tensor *t, const struct sh_tensor *q,
                           const struct sh_tensor *k, const struct sh_tensor *v, struct flash *f,
                           struct sh_attn *a)
{
    *f = (struct flash){.per_k = q->ne[2] / k->ne[2], .per_v = q->ne[2] / v->ne[2]};
    *a = (struct sh_attn){.dk = q->ne[0],
                          .dv = v->ne[0],
                          .n_heads = q->ne[2],
                          .group = common_divisor(f->per_k, f->per_v),
                          .k_type = k->dtype,
                          .v_type = v->dtype,
                          .scale = sh_param_f32(t, 0),
                          .softcap = sh_param_f32(t, 2),
                          .q_row = q->nb[1],
                          .q_head = q->nb[2],
                          .q_set = q->nb[3],
                          .sets_are_batches = true,
                          .keys = flash_keys,
                          .sight = flash_sight,
                          .op = f};
}

static enum shoal_status check_flash(const struct sh_cpu_node *n, struct sh_cpu_need *need,
                                     struct shoal_error *err)
{
    const struct sh_tensor *q = n->src[0], *k = n->src[1], *v = n->src[2];
    const int64_t n_rows = q->ne[1] * q->ne[3];
    struct sh_attn a;
    struct flash f;

    if (!sh_cpu_loads(n->k, k->dtype)) return sh_cpu_refuse_type(k, "keys", err);
    if (!sh_cpu_loads(n->k, v->dtype)) return sh_cpu_refuse_type(v, "values", err);
    if (q->ne[2] == 0) return SHOAL_OK; // an empty result
    describe_flash(n->t, q, k, v, &f, &a);
    if (!sh_cpu_add_work(&need->work, n_rows, sizeof(struct sh_attn_tile)) ||
        !sh_cpu_add_work(&need->work, q->ne[2], sizeof(float)) ||
        !sh_attn_add_work(&need->work, &a, n_rows, (k->ne[1] + SH_PAGE - 1) / SH_PAGE,
                          n->n_threads)) {
        return sh_cpu_refuse_size(err);
    }
    return SHOAL_OK;
}

static enum shoal_status run_flash(struct sh_cpu_call *c, struct shoal_error *err)
{
    const struct sh_cpu_tensor *q = &c->src[0];
    const struct sh_graph *g = c->run->x->g;
    const float max_bias = sh_param_f32(c->t, 1);
    uint8_t *work = c->work;
    struct sh_attn_tile *tiles;
    float *slopes;
    struct sh_attn a;
    struct flash f;

    (void)err;
    describe_flash(c->t, sh_graph_tensor(g, c->t->src[0]), sh_graph_tensor(g, c->t->src[1]),
                   sh_graph_tensor(g, c->t->src[2]), &f, &a);
    tiles =
        (struct sh_attn_tile *)(void *)sh_cpu_take_work(&work, q->ne[1] * q->ne[3], sizeof *tiles);
    slopes = sh_cpu_f32(sh_cpu_take_work(&work, q->ne[2], sizeof *slopes));
    for (int64_t h = 0; max_bias > 0 && h < q->ne[2]; h++)
        slopes[h] = sh_cpu_slope(h, q->ne[2], max_bias);
    if (max_bias > 0) f.slopes = slopes;
    a.c = c;
    a.sinks = c->src[4].data ? sh_cpu_f32(c->src[4].data) : NULL;
    a.tiles = tiles;
    for (int64_t b = 0; b < q->ne[3]; b++) {
        for (int64_t r = 0; r < q->ne[1]; r += sh_attn_rows_max(a.group)) {
            const int64_t left = q->ne[1] - r, most = sh_attn_rows_max(a.group);
            tiles[a.n_tiles++] =
                (struct sh_attn_tile){.row = r,
                                      .n_rows = left < most ? left : most,
                                      .set = b,
                                      .end_block = (c->src[1].ne[1] + SH_PAGE - 1) / SH_PAGE};
        }
    }
    sh_attn_run(&a, work);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_FLASH_ATTN_EXT = {.check = check_flash, .run = run_flash};
