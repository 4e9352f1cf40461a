/* model/build.c - weights, products, sums and the two ends of a graph. */
#include "model/build.h"

#include <stdio.h>

#include "base/mem.h"
#include "model/model_priv.h"

static void full_name(const struct sh_build *b, const char *role, const char *suffix, char *out,
                      size_t size)
{
    const char *dot = suffix ? "." : "";

    if (!suffix) suffix = "";
    if (b->layer >= 0) {
        snprintf(out, size, "blk.%lld.%s%s%s", (long long)b->layer, role, dot, suffix);
    } else {
        snprintf(out, size, "%s%s%s", role, dot, suffix);
    }
}

const struct sh_gguf_tensor *sh_build_find(const struct sh_build *b, const char *role,
                                           const char *suffix)
{
    char name[128];

    full_name(b, role, suffix, name, sizeof name);
    return sh_gguf_find_tensor(b->m->file, sh_str_from(name));
}

struct sh_slice sh_slice_range(int axis, int64_t begin, int64_t end)
{
    struct sh_slice s = {.axis = axis, .n_segments = 1};

    s.segment[0].begin = begin;
    s.segment[0].end = end;
    return s;
}

static void apply_slice(int64_t ne[SH_MAX_DIMS], const struct sh_slice *s)
{
    int64_t n = 0;

    if (s->axis < 0) return;
    for (int i = 0; i < s->n_segments; i++)
        n += s->segment[i].end - s->segment[i].begin;
    ne[s->axis] = n;
}

// A weight outside of layers may serve twice (a tied head): one leaf, one copy on the device.
static int32_t find_leaf(const struct sh_graph *g, const char *name, const struct sh_slice *s)
{
    for (int32_t i = 0; i < g->n_tensors; i++) {
        const struct sh_tensor *t = &g->tensors[i];
        if (t->leaf < 0 || g->leaves[t->leaf].kind != SH_LEAF_WEIGHT) continue;
        if (strcmp(t->name, name) == 0 && sh_slice_equal(&g->leaves[t->leaf].slice, s)) return i;
    }
    return -1;
}

int32_t sh_build_weight(struct sh_build *b, const char *role, const char *suffix, int64_t ne0,
                        int64_t ne1, int64_t ne2, const struct sh_slice *slice)
{
    const struct sh_slice whole = SH_SLICE_WHOLE;
    const struct sh_gguf_tensor *t;
    int64_t ne[SH_MAX_DIMS] = {ne0, ne1, ne2, 1};
    char name[128];

    if (b->g->status) return -1;
    if (!slice) slice = &whole;
    full_name(b, role, suffix, name, sizeof name);
    t = sh_gguf_find_tensor(b->m->file, sh_str_from(name));
    if (!t) {
        return sh_graph_fail(b->g, SHOAL_ERR_FORMAT, "model: tensor %s is missing", name);
    }
    if (t->ne[0] != ne0 || t->ne[1] != ne1 || t->ne[2] != ne2 || t->ne[3] != 1) {
        return sh_graph_fail(b->g, SHOAL_ERR_FORMAT,
                             "model: tensor %s is %lld x %lld x %lld, expected %lld x %lld x %lld",
                             name, (long long)t->ne[0], (long long)t->ne[1], (long long)t->ne[2],
                             (long long)ne0, (long long)ne1, (long long)ne2);
    }
    if (b->layer < 0) {
        const int32_t have = find_leaf(b->g, name, slice);
        if (have >= 0) return have;
    }
    apply_slice(ne, slice);
    return sh_leaf_weight(b->g, name, t->dtype, ne, slice);
}

int32_t sh_build_rms_norm(struct sh_build *b, int32_t x, const char *role, int64_t n)
{
    const int32_t y = sh_op_norm(b->g, SH_OP_RMS_NORM, x, b->hp->eps_rms);

    return sh_op_binary(b->g, SH_OP_MUL, y, sh_build_weight(b, role, "weight", n, 1, 1, NULL));
}

// The optional factor and bias of a product; `rows`: the slice of its output rows, or NULL.
static int32_t scale_and_bias(struct sh_build *b, int32_t y, const char *role, int64_t n_out,
                              const struct sh_slice *rows)
{
    if (sh_build_find(b, role, "scale")) {
        y = sh_op_binary(b->g, SH_OP_MUL, y, sh_build_weight(b, role, "scale", 1, 1, 1, NULL));
    }
    if (sh_build_find(b, role, "bias")) {
        struct sh_slice s = rows ? *rows : SH_SLICE_WHOLE;
        if (s.axis >= 0) s.axis = 0;
        y = sh_op_binary(b->g, SH_OP_ADD, y, sh_build_weight(b, role, "bias", n_out, 1, 1, &s));
    }
    return y;
}

int32_t sh_build_linear(struct sh_build *b, int32_t x, const char *role, int64_t n_in,
                        int64_t n_out, const struct sh_slice *rows)
{
    const int32_t w = sh_build_weight(b, role, "weight", n_in, n_out, 1, rows);

    return scale_and_bias(b, sh_op_mul_mat(b->g, w, x, 0), role, n_out, rows);
}

int32_t sh_build_linear_in(struct sh_build *b, int32_t x, const char *role, int64_t n_in,
                           int64_t n_out, const struct sh_cut *cut)
{
    struct sh_slice columns = sh_slice_range(0, cut->k_begin, cut->k_end);

    if (cut->n_shards == 1) {
        return sh_op_mul_mat(b->g, sh_build_weight(b, role, "weight", n_in, n_out, 1, NULL), x,
                             cut->unit);
    }
    return sh_op_mul_mat_part(b->g, sh_build_weight(b, role, "weight", n_in, n_out, 1, &columns), x,
                              cut->unit, cut->k, cut->k_begin);
}

int32_t sh_build_sum(struct sh_build *b, int n, const struct sh_partial *p)
{
    int32_t src[3], params[SH_N_PARAMS] = {0};
    int32_t sum = p[0].t;

    if (p[0].cut.n_shards == 1) {
        for (int i = 1; i < n; i++)
            sum = sh_op_binary(b->g, SH_OP_ADD, sum, p[i].t);
        return sum;
    }
    for (int i = 0; i < n; i++) {
        struct sh_sum_operand o = {.n_segments = p[i].cut.n_segments,
                                   .n_shards = p[i].cut.n_shards};
        for (int s = 0; s <= o.n_shards; s++)
            o.border[s] = p[i].cut.border[s];
        sh_sum_operand_pack(&o, &params[2 * i]);
        src[i] = p[i].t;
    }
    params[6] = b->g->n_sums;
    return sh_op_node(b->g, SH_OP_SHARD_SUM, n, src, params);
}

int32_t sh_build_after_sum(struct sh_build *b, int32_t x, const char *role, int64_t n_out)
{
    return scale_and_bias(b, x, role, n_out, NULL);
}

int32_t sh_build_wanted(struct sh_build *b, int32_t x)
{
    if (!b->last) return x;
    return sh_op_get_rows(b->g, x, sh_leaf_input(b->g, SH_INPUT_OUT, 0));
}

int32_t sh_build_residual(struct sh_build *b, int32_t x, int32_t branch, float scale)
{
    if (scale != 0 && scale != 1) branch = sh_op_scale(b->g, branch, scale, 0);
    return sh_op_binary(b->g, SH_OP_ADD, x, branch);
}

int32_t sh_build_embed(struct sh_build *b, float scale)
{
    const int64_t d = b->hp->width;
    const int32_t table = sh_build_weight(b, "token_embd", "weight", d, b->m->n_vocab, 1, NULL);
    const int32_t src[3] = {table, sh_leaf_input(b->g, SH_INPUT_TOKENS, 0),
                            sh_leaf_input(b->g, SH_INPUT_EMBD, d)};
    const int32_t x = sh_op_node(b->g, SH_OP_EMBED, 3, src, NULL);

    return scale != 0 && scale != 1 ? sh_op_scale(b->g, x, scale, 0) : x;
}

int32_t sh_build_head(struct sh_build *b, int32_t x, float divide)
{
    const int64_t d = b->hp->width;
    const char *matrix = sh_build_find(b, "output", "weight") ? "output" : "token_embd";
    int32_t y;

    x = sh_build_rms_norm(b, x, "output_norm", d);
    y = sh_op_mul_mat(b->g, sh_build_weight(b, matrix, "weight", d, b->m->n_vocab, 1, NULL), x, 0);
    if (sh_build_find(b, "output", "bias")) {
        y = sh_op_binary(b->g, SH_OP_ADD, y,
                         sh_build_weight(b, "output", "bias", b->m->n_vocab, 1, 1, NULL));
    }
    if (divide != 0 && divide != 1) y = sh_op_scale(b->g, y, 1.0f / divide, 0);
    return y;
}
