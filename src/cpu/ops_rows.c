/* cpu/ops_rows.c - gathering and scattering rows: GET_ROWS, SET_ROWS, EMBED, CACHE_PUT.
 *
 * Row numbers are data.  All of them are checked before anything is written.
 */
#include <string.h>

#include "cpu/ops_priv.h"

/* Convert a row in pieces.  Both ends are packed or hold one element. */
static void convert_row(const struct sh_cpu_call *c, const struct sh_cpu_tensor *to, uint8_t *dst,
                        const struct sh_cpu_tensor *from, const uint8_t *src)
{
    const int64_t n = to->ne[0];
    float tmp[SH_CPU_CHUNK];

    if (to->dtype == from->dtype && sh_dtype_info(to->dtype)->block_len == 1 &&
        (n == 1 ||
         (to->nb[0] == from->nb[0] && to->nb[0] == sh_dtype_info(to->dtype)->block_bytes))) {
        memcpy(dst, src, (size_t)n * sh_dtype_info(to->dtype)->block_bytes);
        return;
    }
    for (int64_t i = 0; i < n; i += SH_CPU_CHUNK) {
        const int64_t len = n - i < SH_CPU_CHUNK ? n - i : SH_CPU_CHUNK;
        const float *x =
            sh_cpu_load(c->k, from->dtype, src + sh_cpu_element_offset(from->dtype, from->nb[0], i),
                        from->nb[0], len, tmp);
        sh_cpu_store(c->k, to->dtype, dst + sh_cpu_element_offset(to->dtype, to->nb[0], i),
                     to->nb[0], len, x);
    }
}

/* ---- GET_ROWS -------------------------------------------------------------------------------*/

static void get_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct sh_cpu_call *c = arg;
    const struct sh_cpu_tensor *table = &c->src[0], *ids = &c->src[1];

    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        const struct sh_cpu_index at = sh_cpu_index_of(&c->dst, row);
        const int32_t id = sh_cpu_i32(ids, at.i1, at.i2, at.i3);
        convert_row(c, &c->dst, sh_cpu_row(&c->dst, row), table,
                    sh_cpu_at(table, id, at.i2, at.i3));
    }
}

static enum shoal_status check_readable(const struct sh_cpu_node *n, struct sh_cpu_need *need,
                                        struct shoal_error *err)
{
    (void)need;
    if (sh_cpu_loads(n->k, n->src[0]->dtype)) return SHOAL_OK;
    return sh_cpu_refuse_type(n->src[0], "a table", err);
}

static enum shoal_status run_get_rows(struct sh_cpu_call *c, struct shoal_error *err)
{
    enum shoal_status st = sh_cpu_check_index(&c->src[1], c->src[0].ne[1], err);

    if (st) return st;
    sh_pool_for(c->pool, sh_cpu_rows(&c->dst), sh_cpu_chunk(c->dst.ne[0]), get_rows, c);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_GET_ROWS = {.check = check_readable, .run = run_get_rows};

/* ---- SET_ROWS -------------------------------------------------------------------------------*/

static int64_t row_number(const struct sh_cpu_tensor *ids, struct sh_cpu_index at)
{
    const uint8_t *p = ids->data + (size_t)at.i1 * ids->nb[0] +
                       (size_t)(at.i2 % ids->ne[1]) * ids->nb[1] +
                       (size_t)(at.i3 % ids->ne[2]) * ids->nb[2];
    int32_t narrow;
    int64_t wide;

    if (ids->dtype == SH_DTYPE_I64) {
        memcpy(&wide, p, sizeof wide);
        return wide;
    }
    memcpy(&narrow, p, sizeof narrow);
    return narrow;
}

/* One after the other inside a plane: where a row is named twice the last one stays. */
static void set_planes(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct sh_cpu_call *c = arg;
    const struct sh_cpu_tensor *rows = &c->src[0];

    (void)thread;
    for (int64_t plane = begin; plane < end; plane++) {
        for (int64_t r = 0; r < rows->ne[1]; r++) {
            const struct sh_cpu_index at = {r, plane % rows->ne[2], plane / rows->ne[2]};
            const int64_t id = row_number(&c->src[1], at);
            convert_row(c, &c->dst, sh_cpu_at(&c->dst, id, at.i2, at.i3), rows,
                        sh_cpu_at(rows, r, at.i2, at.i3));
        }
    }
}

static enum shoal_status check_set_rows(const struct sh_cpu_node *n, struct sh_cpu_need *need,
                                        struct shoal_error *err)
{
    (void)need;
    if (sh_cpu_stores(n->k, n->t->dtype)) return SHOAL_OK;
    return sh_cpu_refuse_type(n->t, "a target", err);
}

static enum shoal_status run_set_rows(struct sh_cpu_call *c, struct shoal_error *err)
{
    const struct sh_cpu_tensor *rows = &c->src[0];
    enum shoal_status st = sh_cpu_check_index(&c->src[1], c->dst.ne[1], err);

    if (st) return st;
    sh_pool_for(c->pool, rows->ne[2] * rows->ne[3], sh_cpu_chunk(rows->ne[0] * rows->ne[1]),
                set_planes, c);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_SET_ROWS = {.check = check_set_rows, .run = run_set_rows};

/* ---- EMBED ----------------------------------------------------------------------------------*/

static void embed_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct sh_cpu_call *c = arg;
    const struct sh_cpu_tensor *table = &c->src[0], *embd = &c->src[2];

    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        const int32_t id = sh_cpu_i32(&c->src[1], row, 0, 0);
        uint8_t *to = sh_cpu_at(&c->dst, row, 0, 0);
        if (id >= 0) {
            convert_row(c, &c->dst, to, table, sh_cpu_at(table, id, 0, 0));
        } else {
            convert_row(c, &c->dst, to, embd, sh_cpu_at(embd, -1 - (int64_t)id, 0, 0));
        }
    }
}

static enum shoal_status run_embed(struct sh_cpu_call *c, struct shoal_error *err)
{
    const int64_t n_table = c->src[0].ne[1];
    const int64_t n_embd = c->src[2].data ? c->src[2].ne[1] : 0;

    for (int64_t t = 0; t < c->dst.ne[1]; t++) {
        const int64_t id = sh_cpu_i32(&c->src[1], t, 0, 0);
        if (id >= n_table || id < -n_embd) {
            return sh_fail(err, SHOAL_ERR_FORMAT,
                           "token %lld of row %lld: there are %lld tokens and %lld embedding rows",
                           (long long)id, (long long)t, (long long)n_table, (long long)n_embd);
        }
    }
    sh_pool_for(c->pool, c->dst.ne[1], sh_cpu_chunk(c->dst.ne[0]), embed_rows, c);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_EMBED = {.check = check_readable, .run = run_embed};

/* ---- CACHE_PUT ------------------------------------------------------------------------------*/

enum shoal_status sh_cpu_find_page(const struct sh_cpu_tensor *table, int64_t n_pages, int64_t seq,
                                   int64_t pos, int32_t *page, struct shoal_error *err)
{
    if (seq < 0 || seq >= table->ne[1] || pos < 0 || pos / SH_PAGE >= table->ne[0]) {
        return sh_fail(err, SHOAL_ERR_FORMAT,
                       "sequence %lld, position %lld: the table has %lld sequences of %lld pages",
                       (long long)seq, (long long)pos, (long long)table->ne[1],
                       (long long)table->ne[0]);
    }
    *page = sh_cpu_i32(table, pos / SH_PAGE, seq, 0);
    if (*page < 0 || *page >= n_pages) {
        return sh_fail(err, SHOAL_ERR_FORMAT,
                       "position %lld of sequence %lld lies on page %d of %lld", (long long)pos,
                       (long long)seq, *page, (long long)n_pages);
    }
    return SHOAL_OK;
}

static uint8_t *cache_row(const struct sh_cpu_call *c, int64_t t)
{
    const struct sh_cpu_tensor *rows = &c->src[2], *table = &c->src[3];
    const int32_t seq = sh_cpu_i32(rows, 0, t, 0), pos = sh_cpu_i32(rows, 1, t, 0);

    return sh_cpu_at(&c->dst, pos % SH_PAGE, sh_cpu_i32(table, pos / SH_PAGE, seq, 0), 0);
}

static void put_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct sh_cpu_call *c = arg;

    (void)thread;
    for (int64_t t = begin; t < end; t++)
        convert_row(c, &c->dst, cache_row(c, t), &c->src[1], sh_cpu_at(&c->src[1], t, 0, 0));
}

/* Rows go to places of their own: the host gives no two rows the same sequence and position. */
static enum shoal_status run_cache_put(struct sh_cpu_call *c, struct shoal_error *err)
{
    const struct sh_cpu_tensor *rows = &c->src[2];
    const int64_t n = c->src[1].ne[1];

    for (int64_t t = 0; t < n; t++) {
        int32_t page;
        enum shoal_status st = sh_cpu_find_page(&c->src[3], c->dst.ne[2], sh_cpu_i32(rows, 0, t, 0),
                                                sh_cpu_i32(rows, 1, t, 0), &page, err);
        if (st) return st;
    }
    sh_pool_for(c->pool, n, sh_cpu_chunk(c->dst.ne[0]), put_rows, c);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_CACHE_PUT = {.run = run_cache_put};
