/* stage/lower.c - rewriting a graph op by op; see lower.h. */
#include "stage/lower.h"

#include "base/mem.h"

struct lowering {
    const struct sh_graph *from;
    struct sh_graph *to;
    const struct sh_lower_inputs *in;
    const struct sh_lower_shape *shape;
    const struct sh_lower_layout *at;
    int32_t *map;                                      /* old tensor number -> new, -1 = dropped */
    int32_t cells[SH_GROUPS_MAX], mask[SH_GROUPS_MAX]; /* new leaves, made on demand; -1 */
    int32_t tokens, pos, out, hidden;
};

/* ---- shapes --------------------------------------------------------------------------------- */

// Extents of an old tensor at the shape being lowered.
static void bound_extents(const struct lowering *l, const struct sh_tensor *t, int64_t *ne)
{
    for (int i = 0; i < SH_MAX_DIMS; i++)
        ne[i] = t->ne[i];
    if (t->extent == SH_EXTENT_T) ne[t->extent_dim] = l->shape->t;
    if (t->extent == SH_EXTENT_O) ne[t->extent_dim] = l->shape->o;
}

static int n_dims(const int64_t *ne)
{
    int n = SH_MAX_DIMS;

    while (n > 1 && ne[n - 1] == 1)
        n--;
    return n;
}

static int32_t input(struct lowering *l, enum sh_dtype type, int64_t ne0, int64_t ne1,
                     int32_t buffer, size_t offset)
{
    const int64_t ne[SH_MAX_DIMS] = {ne0, ne1, 1, 1};
    const int32_t t = sh_leaf_plain(l->to, type, ne, SH_EXTENT_NONE, 0);

    if (t >= 0) sh_graph_place(l->to, t, buffer, offset);
    return t;
}

static int32_t group_of_table(const struct lowering *l, int32_t table)
{
    const struct sh_tensor *t = &l->from->tensors[table];

    return t->leaf >= 0 ? l->from->leaves[t->leaf].group : 0;
}

static int32_t group_cells(struct lowering *l, int32_t g)
{
    if (l->cells[g] < 0) {
        l->cells[g] = input(l, SH_DTYPE_I64, l->shape->t, 1, l->in->inputs_buffer, l->at->cells[g]);
        sh_graph_name(l->to, l->cells[g], "cells-%d", (int)g);
    }
    return l->cells[g];
}

static int32_t group_mask(struct lowering *l, int32_t g)
{
    const bool row = l->shape->t == 1;

    if (l->mask[g] < 0) {
        l->mask[g] = input(l, SH_DTYPE_F16, l->shape->n_kv[g], l->shape->t,
                           row ? l->in->masks_buffer : l->in->inputs_buffer,
                           row ? l->at->mask_row[g] : l->at->mask[g]);
        sh_graph_name(l->to, l->mask[g], "mask-%d", (int)g);
    }
    return l->mask[g];
}

/* ---- leaves --------------------------------------------------------------------------------- */

static int32_t lower_input(struct lowering *l, const struct sh_leaf *leaf)
{
    switch (leaf->input) {
    case SH_INPUT_TOKENS:
        return l->tokens =
                   input(l, SH_DTYPE_I32, l->shape->t, 1, l->in->inputs_buffer, l->at->tokens);
    case SH_INPUT_POS:
        return l->pos = input(l, SH_DTYPE_I32, l->shape->t, 1, l->in->inputs_buffer, l->at->pos);
    case SH_INPUT_OUT:
        if (l->shape->o == 0) return -1;
        return l->out = input(l, SH_DTYPE_I32, l->shape->o, 1, l->in->inputs_buffer, l->at->out);
    case SH_INPUT_HIDDEN:
        return l->hidden = input(l, SH_DTYPE_F32, l->in->width, l->shape->t, l->in->inputs_buffer,
                                 l->at->hidden);
    default: // ROWS and EMBD have no counterpart
        return -1;
    }
}

static int32_t lower_leaf(struct lowering *l, const struct sh_tensor *t)
{
    const struct sh_leaf *leaf = t->leaf < 0 ? NULL : &l->from->leaves[t->leaf];
    int32_t n;

    if (leaf && leaf->kind == SH_LEAF_INPUT) return lower_input(l, leaf);
    if (leaf && leaf->kind == SH_LEAF_TABLE) return -1;
    n = sh_leaf_plain(l->to, t->dtype, t->ne, SH_EXTENT_NONE, 0);
    if (n >= 0) {
        sh_graph_place(l->to, n, t->buffer, t->offset);
        sh_graph_name(l->to, n, "%s", t->name);
    }
    return n;
}

/* ---- ops ------------------------------------------------------------------------------------ */

static int32_t lower_embed(struct lowering *l, const struct sh_tensor *t)
{
    return sh_op_get_rows(l->to, l->map[t->src[0]], l->tokens);
}

// The cache leaf behind a CACHE_PUT result or the leaf itself, as a new tensor.
static int32_t cache_leaf(const struct lowering *l, int32_t old)
{
    const struct sh_tensor *t = &l->from->tensors[old];

    return l->map[t->op == SH_OP_CACHE_PUT ? t->src[0] : old];
}

static int32_t lower_put(struct lowering *l, const struct sh_tensor *t)
{
    const int32_t g = group_of_table(l, t->src[3]);
    const int64_t ne[2] = {t->ne[0], t->ne[1] * t->ne[2]};
    const int32_t cells = sh_op_reshape(l->to, l->map[t->src[0]], 2, ne);

    return sh_op_set_rows(l->to, l->map[t->src[1]], group_cells(l, g), cells);
}

// The first n_kv cells of a cache as [d, n_kv, heads].
static int32_t heads_of_cache(struct lowering *l, int32_t cache, int64_t heads, int64_t n_kv)
{
    const struct sh_tensor c = l->to->tensors[cache];
    const int64_t d = c.ne[0] / heads;
    const int64_t ne[3] = {d, n_kv, heads};
    size_t row;

    if (!sh_dtype_row_bytes(c.dtype, d, &row)) {
        return sh_graph_fail(l->to, SHOAL_ERR_UNSUPPORTED,
                             "lower: a head of %lld cannot be cut from a %s cache", (long long)d,
                             sh_dtype_info(c.dtype)->name);
    }
    const size_t nb[3] = {c.nb[0], c.nb[1], row};
    return sh_op_view(l->to, cache, 3, ne, nb, 0);
}

static int32_t lower_attn(struct lowering *l, const struct sh_tensor *t)
{
    const int32_t g = group_of_table(l, t->src[4]);
    const int64_t n_kv = l->shape->n_kv[g], heads = t->params[4];
    const int32_t k = cache_leaf(l, t->src[1]), v = cache_leaf(l, t->src[2]);
    int32_t q, kh, vh;

    if (l->to->status) return -1;
    q = sh_op_permute(l->to, l->map[t->src[0]], 0, 2, 1, 3);
    kh = heads_of_cache(l, k, heads, n_kv);
    vh = heads_of_cache(l, v, heads, n_kv);
    return sh_op_flash_attn(l->to, q, kh, vh, group_mask(l, g),
                            t->src[5] >= 0 ? l->map[t->src[5]] : -1, sh_param_f32(t, 0), 0,
                            sh_param_f32(t, 1));
}

static int32_t lower_top_experts(struct lowering *l, const struct sh_tensor *t)
{
    const int32_t descending[SH_N_PARAMS] = {1};
    const int32_t x = l->map[t->src[0]];
    const int32_t order = sh_op_node(l->to, SH_OP_ARGSORT, 1, &x, descending);

    if (order < 0) return -1;
    const struct sh_tensor o = l->to->tensors[order];
    const int64_t ne[2] = {t->params[0], o.ne[1]};
    return sh_op_view(l->to, order, 2, ne, o.nb, 0);
}

// Products of the chosen experts, weighted, then added in the order of ids.
static int32_t lower_expert_down(struct lowering *l, const struct sh_tensor *t)
{
    const int32_t w = l->map[t->src[0]], act = l->map[t->src[1]], weights = l->map[t->src[2]];
    int32_t src[3] = {w, act, l->map[t->src[3]]}, params[SH_N_PARAMS] = {0};
    int32_t y, sum = -1;

    if (l->to->status) return -1;
    if (t->params[0] == 0) params[15] = t->params[1];
    y = sh_op_node(l->to, SH_OP_MUL_MAT_ID, 3, src, params);
    if (y < 0) return -1;
    const struct sh_tensor yt = l->to->tensors[y];
    const int64_t used = yt.ne[1], rows = yt.ne[2];
    const int32_t scale = sh_op_reshape(l->to, weights, 3, (const int64_t[3]){1, used, rows});
    y = sh_op_binary(l->to, SH_OP_MUL, y, scale);
    for (int64_t u = 0; u < used; u++) {
        const int64_t ne[2] = {yt.ne[0], rows};
        const size_t nb[2] = {yt.nb[0], yt.nb[2]};
        const int32_t one = sh_op_view(l->to, y, 2, ne, nb, (size_t)u * yt.nb[1]);
        sum = sum < 0 ? one : sh_op_binary(l->to, SH_OP_ADD, sum, one);
    }
    if (used == 1) sum = sh_op_cont(l->to, sum);
    return sh_op_reshape(l->to, sum, 3, (const int64_t[3]){yt.ne[0], 1, rows});
}

static int32_t lower_rope(struct lowering *l, const struct sh_tensor *t)
{
    const int32_t src[3] = {l->map[t->src[0]], l->pos, t->src[2] >= 0 ? l->map[t->src[2]] : -1};

    return sh_op_node(l->to, SH_OP_ROPE, 3, src, t->params);
}

static int32_t lower_view(struct lowering *l, const struct sh_tensor *t)
{
    const struct sh_tensor *x = &l->from->tensors[t->src[0]];
    int64_t ne[SH_MAX_DIMS];

    bound_extents(l, t, ne);
    if (t->op == SH_OP_RESHAPE) return sh_op_reshape(l->to, l->map[t->src[0]], n_dims(ne), ne);
    return sh_op_view(l->to, l->map[t->src[0]], n_dims(ne), ne, t->nb, t->view_offs - x->view_offs);
}

// An op that both sides have: same parameters, new sources.
static int32_t lower_same(struct lowering *l, const struct sh_tensor *t)
{
    int32_t src[SH_MAX_SRC];
    int n = 0;

    for (int i = 0; i < SH_MAX_SRC; i++) {
        src[i] = t->src[i] >= 0 ? l->map[t->src[i]] : -1;
        if (t->src[i] >= 0) n = i + 1;
    }
    return sh_op_node(l->to, t->op, n, src, t->params);
}

static int32_t lower_node(struct lowering *l, const struct sh_tensor *t)
{
    switch (t->op) {
    case SH_OP_EMBED:
        return lower_embed(l, t);
    case SH_OP_CACHE_PUT:
        return lower_put(l, t);
    case SH_OP_CACHE_ATTN:
        return lower_attn(l, t);
    case SH_OP_TOP_EXPERTS:
        return lower_top_experts(l, t);
    case SH_OP_EXPERT_DOWN:
        return lower_expert_down(l, t);
    case SH_OP_ROPE:
        return lower_rope(l, t);
    case SH_OP_RESHAPE:
    case SH_OP_VIEW:
        return lower_view(l, t);
    default:
        return lower_same(l, t);
    }
}

enum shoal_status sh_lower(const struct sh_graph *g, const struct sh_lower_inputs *in,
                           const struct sh_lower_shape *shape, const struct sh_lower_layout *layout,
                           struct sh_graph *out, int32_t *output, struct shoal_error *err)
{
    const struct sh_extents max = {shape->t, shape->o, 1};
    struct lowering l = {.from = g, .to = out, .in = in, .shape = shape, .at = layout};

    *output = -1;
    sh_graph_init(out, &max);
    for (int i = 0; i < SH_GROUPS_MAX; i++)
        l.cells[i] = l.mask[i] = -1;
    l.tokens = l.pos = l.out = l.hidden = -1;
    l.map = sh_calloc((size_t)g->n_tensors, sizeof *l.map);
    if (!l.map) return sh_fail(err, SHOAL_ERR_NOMEM, "lower: no memory for a map");
    out->n_buffers = g->n_buffers;
    for (int32_t i = 0; i < g->n_tensors && !out->status; i++) {
        const struct sh_tensor *t = &g->tensors[i];
        const bool dropped = shape->o == 0 && t->extent == SH_EXTENT_O;
        l.map[i] = dropped ? -1 : t->op == SH_OP_NONE ? lower_leaf(&l, t) : lower_node(&l, t);
        if (l.map[i] >= 0 && t->op != SH_OP_NONE) sh_graph_name(out, l.map[i], "%s", t->name);
        if (l.map[i] >= 0 && (t->flags & SH_TENSOR_OUTPUT)) {
            sh_graph_set_output(out, l.map[i]);
            *output = l.map[i];
        }
    }
    sh_free(l.map);
    return sh_graph_status(out, err);
}
