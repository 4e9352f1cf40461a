/* tests/generate/makers_shoal.c - makers of shoal's own ops. */
#include "gen.h"
#include "tensor/segments.h"

static struct gen_shape rows_of(const struct gen *g, int64_t a)
{
    return gen_symbolic(g, a, 0, 0, 1, SH_EXTENT_T);
}

int32_t make_EMBED(struct gen *g)
{
    const enum sh_dtype type = gen_type(g, gen_weight_types());
    const int64_t block = sh_dtype_info(type)->block_len, v = 1 + gen_below(g, 30);
    const int64_t d = block > 1 ? block : 1 + gen_dim(g), n_embd = g->g.max.t;
    const bool embd = gen_chance(g, 40);
    int32_t src[3] = {-1, -1, -1};

    src[0] = gen_source(g, type, gen_fixed(d, v, 1, 1), false);
    if (embd) src[2] = gen_source(g, SH_DTYPE_F32, rows_of(g, d), false);
    // as many rows of EMBD as are bound
    src[1] = gen_leaf(g, SH_DTYPE_I32, gen_symbolic(g, 0, 0, 0, 0, SH_EXTENT_T), true, GEN_INDEX,
                      embd && n_embd ? -g->bound.t : 0, v);
    return sh_op_node(&g->g, SH_OP_EMBED, 3, src, NULL);
}

/* ---- KV memory ------------------------------------------------------------------------------*/

static int64_t n_pages(const struct gen *g)
{
    return g->n_seq * g->n_index;
}

static int32_t cache(struct gen *g, int64_t width)
{
    return gen_source(g, gen_chance(g, 70) ? SH_DTYPE_F16 : SH_DTYPE_F32,
                      gen_fixed(width, SH_PAGE, n_pages(g), 1), true);
}

static int32_t rows(struct gen *g)
{
    return gen_leaf(g, SH_DTYPE_I32, rows_of(g, 4), true, GEN_ROWS, 0, 0);
}

static int32_t table(struct gen *g)
{
    return gen_leaf(g, SH_DTYPE_I32, gen_fixed(g->n_index, g->n_seq, 1, 1), true, GEN_TABLE, 0,
                    n_pages(g));
}

int32_t make_CACHE_PUT(struct gen *g)
{
    const int64_t width = 1 + gen_dim(g) % 70;
    int32_t src[4];

    src[0] = cache(g, width);
    src[1] = gen_source(g, SH_DTYPE_F32, rows_of(g, width), false);
    src[2] = rows(g);
    src[3] = table(g);
    return sh_op_node(&g->g, SH_OP_CACHE_PUT, 4, src, NULL);
}

int32_t make_CACHE_ATTN(struct gen *g)
{
    const int64_t hk = 1 + gen_below(g, 3), dk = 1 + gen_dim(g) % 40, dv = 1 + gen_dim(g) % 40;
    const int64_t h = hk * (1 + gen_below(g, 3));
    int32_t src[6], params[SH_N_PARAMS] = {0};

    sh_params_set_f32(params, 0, gen_float(g, 0.05f, 1.0f));
    if (gen_chance(g, 20)) sh_params_set_f32(params, 1, gen_float(g, 1.0f, 30.0f));
    if (gen_chance(g, 30)) params[2] = gen_word(g, 1 + gen_below(g, 100), 0, 100);
    if (gen_chance(g, 20)) params[3] = gen_word(g, 1 + gen_below(g, 100), 0, 100);
    params[4] = gen_word(g, hk, 1, h);
    src[0] = gen_source(g, SH_DTYPE_F32, gen_symbolic(g, dk, h, 0, 2, SH_EXTENT_T), false);
    src[1] = cache(g, dk * hk);
    src[2] = cache(g, dv * hk);
    src[3] = rows(g);
    src[4] = table(g);
    src[5] = gen_chance(g, 25) ? gen_source(g, SH_DTYPE_F32, gen_fixed(h, 1, 1, 1), false) : -1;
    return sh_op_node(&g->g, SH_OP_CACHE_ATTN, 6, src, params);
}

int32_t make_CACHE_ROTATE(struct gen *g)
{
    const int64_t hk = 1 + gen_below(g, 3), dk = 2 * (1 + gen_below(g, 20));
    int32_t src[3] = {-1, -1, -1}, params[SH_N_PARAMS] = {0};

    gen_rope_params(g, params, dk, false);
    params[3] = gen_word(g, hk, 1, hk);
    src[0] = cache(g, dk * hk);
    src[1] = gen_leaf(g, SH_DTYPE_I32, gen_symbolic(g, 2, 0, 0, 1, SH_EXTENT_R), true, GEN_PAGES, 0,
                      n_pages(g));
    if (gen_chance(g, 30)) {
        src[2] = gen_leaf(g, SH_DTYPE_F32, gen_fixed(dk / 2, 1, 1, 1), false, GEN_INDEX, 1, 9);
    }
    return sh_op_node(&g->g, SH_OP_CACHE_ROTATE, 3, src, params);
}

/* ---- recurrent layers -----------------------------------------------------------------------*/

static int32_t states(struct gen *g, int64_t n)
{
    return gen_leaf(g, SH_DTYPE_I32, gen_symbolic(g, 4, 0, 0, 1, SH_EXTENT_R), true, GEN_STATES, 0,
                    n);
}

int32_t make_STATE_CONV(struct gen *g)
{
    const int64_t c = gen_chance(g, 20) ? 130 : 1 + gen_dim(g) % 70, width = 1 + gen_below(g, 4);
    const int64_t n = g->g.max.r + 1 + gen_below(g, 3);
    int32_t src[4];

    src[0] = gen_source(g, SH_DTYPE_F32, rows_of(g, c), false);
    src[1] = gen_source(g, SH_DTYPE_F32, gen_fixed(width, c, 1, 1), gen_chance(g, 90));
    src[2] = gen_source(g, SH_DTYPE_F32, gen_fixed(width - 1, c, n, 1), true);
    src[3] = states(g, n);
    return sh_op_node(&g->g, SH_OP_STATE_CONV, 4, src, NULL);
}

int32_t make_STATE_SCAN(struct gen *g)
{
    const int64_t dh = 1 + gen_below(g, 20), groups = 1 + gen_below(g, 2);
    const int64_t nh = groups * (1 + gen_below(g, 3)), ds = 1 + gen_dim(g) % 40;
    const int64_t n = g->g.max.r + 1 + gen_below(g, 3);
    int32_t src[9];

    src[0] = gen_source(g, SH_DTYPE_F32, gen_symbolic(g, dh, nh, 0, 2, SH_EXTENT_T), false);
    src[1] = gen_source(g, SH_DTYPE_F32, rows_of(g, nh), false);
    src[2] = gen_leaf(g, SH_DTYPE_F32, gen_fixed(nh, 1, 1, 1), false, GEN_NEGATIVE, 0, 0);
    src[3] = gen_source(g, SH_DTYPE_F32, gen_symbolic(g, ds, groups, 0, 2, SH_EXTENT_T), true);
    src[4] = gen_source(g, SH_DTYPE_F32, gen_symbolic(g, ds, groups, 0, 2, SH_EXTENT_T), true);
    src[5] = gen_source(g, SH_DTYPE_F32, gen_fixed(nh, 1, 1, 1), false);
    src[6] = gen_source(g, SH_DTYPE_F32, gen_fixed(nh, 1, 1, 1), false);
    src[7] = gen_leaf(g, SH_DTYPE_F32, gen_fixed(ds, dh, nh, n), true, GEN_FLOATS, 0, 0);
    src[8] = states(g, n);
    return sh_op_node(&g->g, SH_OP_STATE_SCAN, 9, src, NULL);
}

/* ---- products that are cut ------------------------------------------------------------------*/

/* Some whole segments of k in units: [*begin, *begin + *held). */
static void draw_segments(struct gen *g, int64_t k, int64_t unit, int64_t *begin, int64_t *held)
{
    const int n = sh_segment_count(k, unit);
    const int lo = (int)gen_below(g, n), hi = lo + 1 + (int)gen_below(g, n - lo);

    *begin = sh_segment_begin(k, unit, n, lo);
    *held = sh_segment_begin(k, unit, n, hi) - *begin;
}

int32_t make_MUL_MAT_PART(struct gen *g)
{
    const enum sh_dtype type = gen_type(g, gen_weight_types());
    const int64_t unit = sh_dtype_info(type)->block_len, whole = unit * (1 + gen_below(g, 10));
    int64_t begin, held;
    int32_t src[2], params[SH_N_PARAMS] = {0};

    draw_segments(g, whole, unit, &begin, &held);
    params[0] = gen_word(g, unit, 1, whole);
    params[1] = gen_word(g, whole, 1, whole);
    params[2] = gen_word(g, begin, 0, whole);
    src[0] = gen_source(g, type, gen_fixed(held, gen_dim(g), 1, 1), false);
    src[1] = gen_source(g, SH_DTYPE_F32, rows_of(g, held), false);
    return sh_op_node(&g->g, SH_OP_MUL_MAT_PART, 2, src, params);
}

int32_t make_TOP_EXPERTS(struct gen *g)
{
    const int64_t e = 1 + gen_dim(g);
    const int32_t params[SH_N_PARAMS] = {gen_word(g, 1 + gen_below(g, e < 8 ? e : 8), 1, e)};
    const int32_t x = gen_source(g, SH_DTYPE_F32, rows_of(g, e), false);

    return sh_op_node(&g->g, SH_OP_TOP_EXPERTS, 1, &x, params);
}

int32_t make_EXPERT_DOWN(struct gen *g)
{
    const enum sh_dtype type = gen_type(g, gen_weight_types());
    const int64_t unit = sh_dtype_info(type)->block_len, whole = unit * (1 + gen_below(g, 6));
    const int64_t e = 1 + gen_below(g, 10), u = 1 + gen_below(g, e < 4 ? e : 4);
    const bool by_experts = gen_chance(g, 50);
    int64_t begin, held, f = whole, n_held = e;
    int32_t src[4], params[SH_N_PARAMS] = {gen_word(g, by_experts, 0, 1)};

    draw_segments(g, by_experts ? e : whole, by_experts ? 1 : unit, &begin, &held);
    if (by_experts) {
        n_held = held;
    } else {
        f = held;
        params[1] = gen_word(g, unit, 1, whole);
    }
    params[2] = gen_word(g, by_experts ? e : whole, 1, 100);
    params[3] = gen_word(g, begin, 0, 100);
    src[0] = gen_source(g, type, gen_fixed(f, 1 + gen_dim(g), n_held, 1), false);
    src[1] = gen_source(g, SH_DTYPE_F32, gen_symbolic(g, f, u, 0, 2, SH_EXTENT_T), false);
    src[2] = gen_source(g, SH_DTYPE_F32, rows_of(g, u), false);
    src[3] = gen_leaf(g, SH_DTYPE_I32, rows_of(g, u), true, GEN_DISTINCT, 0, e);
    return sh_op_node(&g->g, SH_OP_EXPERT_DOWN, 4, src, params);
}

int32_t make_SHARD_SUM(struct gen *g)
{
    const int64_t m = 1 + gen_dim(g);
    const int n = 1 + (int)gen_below(g, 3);
    const int n_shards = gen_bends(g) ? 2 : 1;
    int32_t src[3] = {-1, -1, -1}, params[SH_N_PARAMS] = {0};

    for (int i = 0; i < n; i++) {
        struct sh_sum_operand o = {.n_segments = 1 + (int)gen_below(g, SH_SEGMENTS_MAX),
                                   .n_shards = n_shards};
        for (int s = 1; s <= n_shards; s++)
            o.border[s] = s == n_shards ? o.n_segments : o.n_segments / 2;
        sh_sum_operand_pack(&o, params + 2 * i);
        if (gen_bends(g)) params[2 * i] ^= 1 << gen_below(g, 31);
        src[i] =
            gen_source(g, SH_DTYPE_F32,
                       gen_symbolic(g, m, sh_subtrees(o.n_segments, 0, o.border[1], NULL, NULL), 0,
                                    2, SH_EXTENT_T),
                       true);
    }
    return sh_op_node(&g->g, SH_OP_SHARD_SUM, 3, src, params);
}
