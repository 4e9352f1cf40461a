/* model/build_ffn.c - feed-forward branches: dense SwiGLU, and experts with an optional shared one.
 *
 * Experts are chosen identically on every shard, since the router sees the finished sums.  A layer
 * of experts has one cut: by columns of each expert where there are at least 4 units, else up to 8
 * groups of consecutive experts.
 */
#include <math.h>
#include <stdio.h>

#include "model/build.h"
#include "model/model_priv.h"

// act(gate x) * (up x) over the columns of `cut`.
static int32_t swiglu(struct sh_build *b, int32_t x, const char *gate, const char *up, int64_t n_ff,
                      const struct sh_cut *cut)
{
    const struct sh_slice s = sh_slice_range(1, cut->k_begin, cut->k_end);
    const struct sh_slice *rows = cut->n_shards > 1 ? &s : NULL;
    const int32_t g = sh_build_linear(b, x, gate, b->hp->width, n_ff, rows);
    const int32_t u = sh_build_linear(b, x, up, b->hp->width, n_ff, rows);

    return sh_op_glu(b->g, SH_GLU_SWIGLU, g, u);
}

// The cut of a row-parallel product by blocks of its type.
static bool cut_columns(struct sh_build *b, const char *role, int64_t n_ff, struct sh_cut *cut)
{
    const struct sh_gguf_tensor *t = sh_build_find(b, role, "weight");

    if (b->g->status) return false;
    if (!t) {
        sh_graph_fail(b->g, SHOAL_ERR_FORMAT, "model: tensor blk.%lld.%s.weight is missing",
                      (long long)b->layer, role);
        return false;
    }
    if (!sh_cut_make(cut, n_ff, sh_dtype_info(t->dtype)->block_len, b->part->n_shards,
                     b->part->rank, b->part->shares, b->layer)) {
        sh_graph_fail(b->g, SHOAL_ERR_UNSUPPORTED,
                      "model: %s of block %lld (%lld columns) cannot be cut into %d shards", role,
                      (long long)b->layer, (long long)n_ff, b->part->n_shards);
        return false;
    }
    return true;
}

int32_t sh_build_ffn(struct sh_build *b, int32_t x, int64_t n_ff)
{
    struct sh_partial p;
    int32_t y;

    if (!cut_columns(b, "ffn_down", n_ff, &p.cut)) return -1;
    y = swiglu(b, x, "ffn_gate", "ffn_up", n_ff, &p.cut);
    p.t = sh_build_linear_in(b, y, "ffn_down", n_ff, b->hp->width, &p.cut);
    return sh_build_after_sum(b, sh_build_sum(b, 1, &p), "ffn_down", b->hp->width);
}

/* ---- experts -------------------------------------------------------------------------------- */

struct experts {
    int64_t n_ff, n_expert, n_used;
    bool by_width;
    struct sh_cut cut;     /* over columns or over experts */
    int64_t own_ff;        /* columns held */
    int32_t ids, weights;  /* [U,T] */
    enum sh_extent extent; /* of the rows: T, or O in the last layer */
    int64_t rows_max;
};

// One stack of expert matrices, from a 3-d tensor or (old files) from one 2-d tensor per expert.
static int32_t expert_weight(struct sh_build *b, const char *stacked, const char *single,
                             int64_t ne0, int64_t ne1, const struct sh_slice *slice,
                             const struct experts *e)
{
    char role[64], name[96];
    const struct sh_gguf_tensor *t;
    int64_t ne[SH_MAX_DIMS] = {ne0, ne1, e->n_expert, 1};
    enum sh_dtype dtype = SH_DTYPE_COUNT;
    int32_t w;

    if (b->g->status) return -1;
    if (sh_build_find(b, stacked, "weight")) {
        return sh_build_weight(b, stacked, "weight", ne0, ne1, e->n_expert, slice);
    }
    for (int64_t i = 0; i < e->n_expert; i++) {
        snprintf(role, sizeof role, "%s.%lld", single, (long long)i);
        t = sh_build_find(b, role, "weight");
        if (t && i == 0) dtype = t->dtype;
        if (!t || t->dtype != dtype || t->ne[0] != ne0 || t->ne[1] != ne1 || t->ne[2] != 1 ||
            t->ne[3] != 1) {
            return sh_graph_fail(b->g, SHOAL_ERR_FORMAT,
                                 "model: tensor blk.%lld.%s.weight is missing or unlike its "
                                 "neighbours",
                                 (long long)b->layer, t || i > 0 ? role : stacked);
        }
    }
    if (slice && slice->axis >= 0) {
        ne[slice->axis] = 0;
        for (int i = 0; i < slice->n_segments; i++)
            ne[slice->axis] += slice->segment[i].end - slice->segment[i].begin;
    }
    snprintf(name, sizeof name, "blk.%lld.%s.#.weight", (long long)b->layer, single);
    w = sh_leaf_weight(b->g, name, dtype, ne, slice ? slice : &(struct sh_slice){.axis = -1});
    if (w >= 0) b->g->leaves[b->g->tensors[w].leaf].stack = (int32_t)e->n_expert;
    return w;
}

static bool find_experts(struct sh_build *b, struct experts *e, int32_t x)
{
    const struct sh_gguf_tensor *down = sh_build_find(b, "ffn_down_exps", "weight");
    int64_t block;

    if (!down) down = sh_build_find(b, "ffn_down.0", "weight");
    if (!down) {
        sh_graph_fail(b->g, SHOAL_ERR_FORMAT,
                      "model: tensor blk.%lld.ffn_down_exps.weight is missing",
                      (long long)b->layer);
        return false;
    }
    e->n_expert = b->hp->n_expert;
    e->n_used = b->hp->n_expert_used;
    block = sh_dtype_info(down->dtype)->block_len;
    e->by_width = e->n_ff % block == 0 && e->n_ff / block >= 4;
    if (!sh_cut_make(&e->cut, e->by_width ? e->n_ff : e->n_expert, e->by_width ? block : 1,
                     b->part->n_shards, b->part->rank, b->part->shares, b->layer)) {
        sh_graph_fail(b->g, SHOAL_ERR_UNSUPPORTED,
                      "model: the experts of block %lld cannot be cut into %d shards",
                      (long long)b->layer, b->part->n_shards);
        return false;
    }
    e->own_ff = e->by_width ? e->cut.k_end - e->cut.k_begin : e->n_ff;
    e->extent = b->g->tensors[x].extent;
    e->rows_max = sh_extents_get(&b->g->max, e->extent, 1);
    return true;
}

// Which experts each row uses, and how much each counts.
static void route(struct sh_build *b, int32_t x, const struct sh_build_moe *o, struct experts *e)
{
    struct sh_graph *g = b->g;
    int32_t params[SH_N_PARAMS] = {0};
    int32_t p, pick, w, sum;

    p = sh_build_linear(b, x, "ffn_gate_inp", b->hp->width, e->n_expert, NULL);
    if (o->gating == SH_GATING_SIGMOID) {
        p = sh_op_unary(g, SH_UNARY_SIGMOID, p);
    } else {
        sh_params_set_f32(params, 0, 1.0f);
        p = sh_op_node(g, SH_OP_SOFT_MAX, 1, &p, params);
    }
    pick = p;
    if (sh_build_find(b, "exp_probs_b", "bias")) {
        pick = sh_op_binary(g, SH_OP_ADD, p,
                            sh_build_weight(b, "exp_probs_b", "bias", e->n_expert, 1, 1, NULL));
    }
    e->ids = sh_op_top_experts(g, pick, e->n_used);
    w = sh_op_reshape(g, p, 3, (const int64_t[3]){1, e->n_expert, e->rows_max});
    w = sh_op_get_rows(g, w, e->ids);
    w = sh_op_reshape(g, w, 2, (const int64_t[2]){e->n_used, e->rows_max});
    if (o->normalise) {
        int32_t clamp[SH_N_PARAMS] = {0};
        sh_params_set_f32(clamp, 0, 6.103515625e-5f);
        sh_params_set_f32(clamp, 1, INFINITY);
        sum = sh_op_node(g, SH_OP_SUM_ROWS, 1, &w, NULL);
        sum = sh_op_node(g, SH_OP_CLAMP, 1, &sum, clamp);
        w = sh_op_binary(g, SH_OP_DIV, w, sum);
    }
    if (b->hp->expert_weights_scale != 0 && b->hp->expert_weights_scale != 1) {
        w = sh_op_scale(g, w, b->hp->expert_weights_scale, 0);
    }
    e->weights = w;
}

static int32_t expert_act(struct sh_build *b, int32_t x, const struct experts *e)
{
    struct sh_graph *g = b->g;
    const int64_t d = b->hp->width;
    const bool split = e->cut.n_shards > 1;
    const int64_t first = split && !e->by_width ? e->cut.k_begin : -1;
    struct sh_slice s = sh_slice_range(e->by_width ? 1 : 2, e->cut.k_begin, e->cut.k_end);
    int32_t gate, up;

    x = sh_op_reshape(g, x, 3, (const int64_t[3]){d, 1, e->rows_max});
    if (sh_build_find(b, "ffn_gate_up_exps", "weight")) {
        if (e->by_width) {
            s.n_segments = 2;
            s.segment[1].begin = e->n_ff + e->cut.k_begin;
            s.segment[1].end = e->n_ff + e->cut.k_end;
        }
        up = sh_build_weight(b, "ffn_gate_up_exps", "weight", d, 2 * e->n_ff, e->n_expert,
                             split ? &s : NULL);
        up = sh_op_mul_mat_id(g, up, x, e->ids, first);
        return sh_op_glu(g, SH_GLU_SWIGLU, up, -1);
    }
    gate = expert_weight(b, "ffn_gate_exps", "ffn_gate", d, e->n_ff, split ? &s : NULL, e);
    up = expert_weight(b, "ffn_up_exps", "ffn_up", d, e->n_ff, split ? &s : NULL, e);
    gate = sh_op_mul_mat_id(g, gate, x, e->ids, first);
    up = sh_op_mul_mat_id(g, up, x, e->ids, first);
    return sh_op_glu(g, SH_GLU_SWIGLU, gate, up);
}

static int32_t expert_down(struct sh_build *b, int32_t act, const struct experts *e)
{
    const bool split = e->cut.n_shards > 1;
    const struct sh_slice s = sh_slice_range(e->by_width ? 0 : 2, e->cut.k_begin, e->cut.k_end);
    const int32_t w =
        expert_weight(b, "ffn_down_exps", "ffn_down", e->n_ff, b->hp->width, split ? &s : NULL, e);
    const int32_t src[4] = {w, act, e->weights, e->ids};
    int32_t params[SH_N_PARAMS] = {0};
    int32_t y;

    params[0] = e->by_width ? 0 : 1;
    params[1] = (int32_t)e->cut.unit;
    params[2] = (int32_t)e->cut.k;
    params[3] = (int32_t)e->cut.k_begin;
    y = sh_op_node(b->g, SH_OP_EXPERT_DOWN, 4, src, params);
    if (split) return y;
    return sh_op_reshape(b->g, y, 2, (const int64_t[2]){b->hp->width, e->rows_max});
}

int32_t sh_build_moe(struct sh_build *b, int32_t x, const struct sh_build_moe *o)
{
    struct experts e = {.n_ff = o->n_ff};
    struct sh_partial p[2];
    int n = 1;

    if (b->g->status || !find_experts(b, &e, x)) return -1;
    route(b, x, o, &e);
    p[0].cut = e.cut;
    p[0].t = expert_down(b, expert_act(b, x, &e), &e);
    if (o->n_ff_shared > 0) {
        int32_t y;
        if (!cut_columns(b, "ffn_down_shexp", o->n_ff_shared, &p[1].cut)) return -1;
        y = swiglu(b, x, "ffn_gate_shexp", "ffn_up_shexp", o->n_ff_shared, &p[1].cut);
        p[1].t =
            sh_build_linear_in(b, y, "ffn_down_shexp", o->n_ff_shared, b->hp->width, &p[1].cut);
        n = 2;
    }
    return sh_build_sum(b, n, p);
}
