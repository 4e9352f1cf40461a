/* model/build_attn.c - the attention branch: projections, rope, cache, attention, output product.
 *
 * A shard holds whole groups of query heads with their key-value head; the cut follows from the
 * output product, whose unit is the least common multiple of one group's columns and the block
 * length of its type.
 */
#include <math.h>

#include "model/build.h"
#include "model/model_priv.h"

struct heads {                 /* of one layer; what this shard holds */
    int64_t n_q, n_kv, dk, dv; /* whole */
    int64_t q0, q1, kv0, kv1;  /* own */
    struct sh_cut cut;         /* of the output product */
};

static bool find_heads(struct sh_build *b, struct heads *h)
{
    const struct sh_layer_hparams *l = &b->hp->layer[b->layer];
    const struct sh_gguf_tensor *wo = sh_build_find(b, "attn_output", "weight");
    int64_t group;

    h->n_q = l->n_head;
    h->n_kv = l->n_head_kv;
    h->dk = b->hp->head_k;
    h->dv = b->hp->head_v;
    if (!wo || h->n_q <= 0 || h->n_kv <= 0 || h->dk <= 0 || h->dv <= 0) {
        sh_graph_fail(b->g, SHOAL_ERR_FORMAT,
                      "model: block %lld has no attention (heads %lld, key-value heads %lld, "
                      "attn_output.weight %s)",
                      (long long)b->layer, (long long)h->n_q, (long long)h->n_kv,
                      wo ? "present" : "missing");
        return false;
    }
    group = h->n_q / h->n_kv;
    if (!sh_cut_make(&h->cut, h->n_q * h->dv,
                     sh_lcm(h->dv * group, sh_dtype_info(wo->dtype)->block_len), b->part->n_shards,
                     b->part->rank, b->part->shares, b->layer)) {
        sh_graph_fail(b->g, SHOAL_ERR_UNSUPPORTED,
                      "model: the attention of block %lld cannot be cut into %d shards",
                      (long long)b->layer, b->part->n_shards);
        return false;
    }
    h->q0 = h->cut.k_begin / h->dv;
    h->q1 = h->cut.k_end / h->dv;
    h->kv0 = h->q0 / group;
    h->kv1 = h->q1 / group;
    return true;
}

struct qkv {
    int32_t q, k, v; /* [dk,H,T], [dk,Hk,T], [dv*Hk,T] */
};

// The factor that cancels the magnitude which the rope op applies by itself.
static float unit_magnitude(const struct sh_rope_attr *r)
{
    return r->ext_factor != 0 ? 1.0f / (1.0f + 0.1f * logf(1.0f / r->freq_scale)) : 1.0f;
}

static int32_t split_heads(struct sh_graph *g, int32_t x, int64_t d, int64_t n)
{
    const int64_t ne[3] = {d, n, g->max.t};

    return sh_op_reshape(g, x, 3, ne);
}

static void project_separate(struct sh_build *b, int32_t a, const struct heads *h, struct qkv *o)
{
    const int64_t d = b->hp->width;
    const struct sh_slice q = sh_slice_range(1, h->q0 * h->dk, h->q1 * h->dk);
    const struct sh_slice k = sh_slice_range(1, h->kv0 * h->dk, h->kv1 * h->dk);
    const struct sh_slice v = sh_slice_range(1, h->kv0 * h->dv, h->kv1 * h->dv);
    const bool cut = b->part->n_shards > 1;

    o->q = sh_build_linear(b, a, "attn_q", d, h->n_q * h->dk, cut ? &q : NULL);
    o->k = sh_build_linear(b, a, "attn_k", d, h->n_kv * h->dk, cut ? &k : NULL);
    o->v = sh_build_linear(b, a, "attn_v", d, h->n_kv * h->dv, cut ? &v : NULL);
    o->q = split_heads(b->g, o->q, h->dk, h->q1 - h->q0);
    o->k = split_heads(b->g, o->k, h->dk, h->kv1 - h->kv0);
}

// Rows [begin, begin + n*d) of a fused product, seen as [d,n,T].
static int32_t fused_heads(struct sh_graph *g, int32_t x, int64_t width, int64_t begin, int64_t d,
                           int64_t n)
{
    const int64_t ne[3] = {d, n, g->max.t};
    const size_t nb[3] = {sizeof(float), sizeof(float) * (size_t)d, sizeof(float) * (size_t)width};

    return sh_op_view(g, x, 3, ne, nb, sizeof(float) * (size_t)begin);
}

static void project_fused(struct sh_build *b, int32_t a, const struct heads *h, struct qkv *o)
{
    const int64_t rows_q = h->n_q * h->dk, rows_k = h->n_kv * h->dk, rows_v = h->n_kv * h->dv;
    const int64_t own_q = (h->q1 - h->q0) * h->dk, own_k = (h->kv1 - h->kv0) * h->dk;
    const int64_t own_v = (h->kv1 - h->kv0) * h->dv, own = own_q + own_k + own_v;
    struct sh_slice s = {.axis = 1, .n_segments = 3};
    int32_t y;

    s.segment[0].begin = h->q0 * h->dk;
    s.segment[0].end = h->q1 * h->dk;
    s.segment[1].begin = rows_q + h->kv0 * h->dk;
    s.segment[1].end = rows_q + h->kv1 * h->dk;
    s.segment[2].begin = rows_q + rows_k + h->kv0 * h->dv;
    s.segment[2].end = rows_q + rows_k + h->kv1 * h->dv;
    y = sh_build_linear(b, a, "attn_qkv", b->hp->width, rows_q + rows_k + rows_v,
                        b->part->n_shards > 1 ? &s : NULL);
    o->q = fused_heads(b->g, y, own, 0, h->dk, h->q1 - h->q0);
    o->k = fused_heads(b->g, y, own, own_q, h->dk, h->kv1 - h->kv0);
    o->v = fused_heads(b->g, y, own, own_q + own_k, h->dv, h->kv1 - h->kv0);
    o->v = sh_op_cont(b->g, o->v);
    o->v = sh_op_reshape(b->g, o->v, 2, (const int64_t[2]){own_v, b->g->max.t});
}

int32_t sh_build_rope_factors(struct sh_build *b)
{
    const int64_t layer = b->layer;
    const char *role = NULL;
    int32_t w = -1;

    b->layer = -1;
    if (sh_build_find(b, "rope_freqs", "weight")) {
        role = "rope_freqs";
    } else if (sh_build_find(b, "rope_factors_long", "weight") &&
               sh_build_find(b, "rope_factors_short", "weight")) {
        role =
            b->limits->n_ctx > b->hp->rope.n_ctx_orig ? "rope_factors_long" : "rope_factors_short";
    }
    if (role) w = sh_build_weight(b, role, "weight", b->hp->n_rot / 2, 1, 1, NULL);
    b->layer = layer;
    return w;
}

// The table of a group: one leaf, shared by its layers.
static int32_t table_of(struct sh_build *b, int group)
{
    struct sh_graph *g = b->g;

    for (int32_t i = 0; i < g->n_tensors; i++) {
        const struct sh_tensor *t = &g->tensors[i];
        if (t->leaf < 0 || g->leaves[t->leaf].kind != SH_LEAF_TABLE) continue;
        if (g->leaves[t->leaf].group == group) return i;
    }
    return sh_leaf_table(g, group, (b->limits->n_positions + SH_PAGE - 1) / SH_PAGE,
                         b->limits->n_seqs);
}

int32_t sh_build_attention(struct sh_build *b, int32_t a, const struct sh_build_attn *o)
{
    struct sh_graph *g = b->g;
    struct sh_rope_attr rope = b->hp->rope;
    struct sh_attn_attr attr = {.scale = o->scale, .window = o->window};
    struct heads h;
    struct qkv x;
    struct sh_partial part;
    int32_t rows, table, kc, vc, y;

    if (g->status || !find_heads(b, &h)) return -1;
    if (sh_build_find(b, "attn_qkv", "weight")) {
        project_fused(b, a, &h, &x);
    } else {
        project_separate(b, a, &h, &x);
    }
    if (o->rope) {
        const int32_t pos = sh_leaf_input(g, SH_INPUT_POS, 0);
        const int32_t factors = sh_build_rope_factors(b);
        rope.mode = b->m->arch->rope_mode;
        x.q = sh_op_rope(g, x.q, pos, factors, &rope);
        x.k = sh_op_rope(g, x.k, pos, factors, &rope);
    }
    x.k = sh_op_cont(g, x.k);
    const int64_t own_kv = h.kv1 - h.kv0, own_q = h.q1 - h.q0;
    x.k = sh_op_reshape(g, x.k, 2, (const int64_t[2]){own_kv * h.dk, g->max.t});

    rows = sh_leaf_input(g, SH_INPUT_ROWS, 0);
    table = table_of(b, o->group);
    kc = sh_leaf_cache(g, SH_LEAF_CACHE_K, o->group, (int)b->layer, b->limits->cache_type,
                       own_kv * h.dk, b->limits->pages[o->group]);
    vc = sh_leaf_cache(g, SH_LEAF_CACHE_V, o->group, (int)b->layer, b->limits->cache_type,
                       own_kv * h.dv, b->limits->pages[o->group]);
    kc = sh_op_cache_put(g, kc, x.k, rows, table);
    vc = sh_op_cache_put(g, vc, x.v, rows, table);
    attr.n_kv_heads = (int32_t)own_kv;
    y = sh_op_cache_attn(g, x.q, kc, vc, rows, table, -1, &attr);
    y = sh_op_reshape(g, y, 2, (const int64_t[2]){own_q * h.dv, g->max.t});
    y = sh_build_wanted(b, y);

    part.cut = h.cut;
    part.t = sh_build_linear_in(b, y, "attn_output", h.n_q * h.dv, b->hp->width, &h.cut);
    y = sh_build_sum(b, 1, &part);
    return sh_build_after_sum(b, y, "attn_output", b->hp->width);
}

void sh_build_rotate(struct sh_build *b, int group)
{
    struct sh_graph *g = b->g;
    const struct sh_rope_attr *r = &b->hp->rope;
    int32_t params[SH_N_PARAMS] = {0}, src[3];
    struct heads h;

    if (g->status || !find_heads(b, &h)) return;
    params[1] = r->n_dims;
    params[2] = b->m->arch->rope_mode;
    params[3] = (int32_t)(h.kv1 - h.kv0);
    params[4] = r->n_ctx_orig;
    sh_params_set_f32(params, 5, r->freq_base);
    sh_params_set_f32(params, 6, r->freq_scale);
    sh_params_set_f32(params, 7, r->ext_factor);
    // A rotation must not scale: the keys carry the magnitude already.
    sh_params_set_f32(params, 8, unit_magnitude(r));
    sh_params_set_f32(params, 9, r->beta_fast);
    sh_params_set_f32(params, 10, r->beta_slow);
    src[0] = sh_leaf_cache(g, SH_LEAF_CACHE_K, group, (int)b->layer, b->limits->cache_type,
                           (h.kv1 - h.kv0) * h.dk, b->limits->pages[group]);
    src[1] = sh_leaf_input(g, SH_INPUT_PAGES, 0);
    src[2] = sh_build_rope_factors(b);
    sh_op_node(g, SH_OP_CACHE_ROTATE, 3, src, params);
}
