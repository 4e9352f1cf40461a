/* tests/generate/break.c - damaging one thing of a finished graph, as a hostile peer would. */
#include <stdio.h>
#include <string.h>

#include "gen.h"

/* A tensor that some node uses: a node itself or one of its sources. */
static int32_t draw_used(struct gen *g)
{
    const int32_t t = g->g.nodes[gen_below(g, g->g.n_nodes)], n = g->g.n_tensors;
    int32_t used[SH_MAX_SRC], n_used = 0;

    if (t < 0 || t >= n) return 0; // damaged before
    for (int k = 0; k < SH_MAX_SRC; k++) {
        const int32_t s = g->g.tensors[t].src[k];
        if (s >= 0 && s < n) used[n_used++] = s;
    }
    return n_used > 0 && gen_chance(g, 65) ? used[gen_below(g, n_used)] : t;
}

static int64_t near_number(struct gen *g, int64_t v)
{
    static const int64_t odd[] = {
        0, -1, 1, 2, 1 << 20, (int64_t)1 << 31, (int64_t)1 << 40, INT64_MAX, INT64_MIN};

    switch (gen_below(g, 5)) {
    case 0:
        return v + 1;
    case 1:
        return v - 1;
    case 2:
        return v > 0 && v < INT32_MAX ? v * 2 : v / 2;
    case 3:
        return v ^ (int64_t)1 << gen_below(g, 40);
    default:
        return odd[gen_below(g, sizeof odd / sizeof *odd)];
    }
}

static void say(struct gen *g, const char *what, int32_t t, int64_t from, int64_t to)
{
    const size_t at = strlen(g->what);

    (void)snprintf(g->what + at, sizeof g->what - at, "%s%s of #%d: %lld -> %lld", at ? "; " : "",
                   what, (int)t, (long long)from, (long long)to);
}

#define SET(g, what, t, field, value)                                                              \
    do {                                                                                           \
        const int64_t before = (int64_t)(field);                                                   \
        (field) = (value);                                                                         \
        say((g), (what), (t), before, (int64_t)(field));                                           \
    } while (0)

static void break_layout(struct gen *g, int32_t i)
{
    struct sh_tensor *t = &g->g.tensors[i];
    const int d = (int)gen_below(g, SH_MAX_DIMS);
    const size_t block =
        sh_dtype_valid((uint32_t)t->dtype) ? sh_dtype_info(t->dtype)->block_bytes : 1;

    switch (gen_below(g, 7)) {
    case 0:
        SET(g, "extent", i, t->ne[d], near_number(g, t->ne[d]));
        break;
    case 1:
        SET(g, "stride", i, t->nb[d], (size_t)near_number(g, (int64_t)t->nb[d]));
        break;
    case 2: // small and lawful: rows that overlap
        SET(g, "stride", i, t->nb[d], block * (size_t)gen_below(g, 6));
        break;
    case 3:
        SET(g, "offset", i, t->offset, (size_t)near_number(g, (int64_t)t->offset));
        break;
    case 4:
        SET(g, "view offset", i, t->view_offs,
            (size_t)(gen_chance(g, 50) ? near_number(g, (int64_t)t->view_offs)
                                       : (int64_t)block * gen_below(g, 8)));
        break;
    case 5:
        SET(g, "type", i, t->dtype, (enum sh_dtype)gen_below(g, SH_DTYPE_COUNT + 1));
        break;
    default:
        SET(g, "offset", i, t->offset, block * (size_t)gen_below(g, 300));
        break;
    }
}

static void break_links(struct gen *g, int32_t i)
{
    struct sh_graph *q = &g->g;
    struct sh_tensor *t = &q->tensors[i];
    const int k = (int)gen_below(g, gen_chance(g, 80) ? 3 : SH_MAX_SRC);

    switch (gen_below(g, 8)) {
    case 0:
        SET(g, "source", i, t->src[k], -1);
        break;
    case 1:
    case 2:
        SET(g, "source", i, t->src[k], (int32_t)gen_below(g, q->n_tensors));
        break;
    case 3:
        SET(g, "source", i, t->src[k], (int32_t)near_number(g, t->src[k]));
        break;
    case 4:
        SET(g, "root", i, t->view_src, (int32_t)gen_below(g, q->n_tensors + 1) - 1);
        break;
    case 5:
        SET(g, "buffer", i, t->buffer, (int32_t)gen_below(g, g->n_buffers + 2) - 1);
        break;
    case 6:
        SET(g, "leaf", i, t->leaf, (int32_t)gen_below(g, q->n_leaves + 2) - 1);
        break;
    default:
        SET(g, "op", i, t->op, (enum sh_op)gen_below(g, SH_OP_COUNT + 2));
        break;
    }
}

static void break_list(struct gen *g, int32_t i)
{
    struct sh_graph *q = &g->g;
    struct sh_tensor *t = &q->tensors[i];
    const int32_t a = (int32_t)gen_below(g, q->n_nodes), b = (int32_t)gen_below(g, q->n_nodes);
    const int32_t swap = q->nodes[a];

    switch (gen_below(g, 6)) {
    case 0: // two nodes change places
        SET(g, "node", a, q->nodes[a], q->nodes[b]);
        SET(g, "node", b, q->nodes[b], swap);
        break;
    case 1:
        SET(g, "node", a, q->nodes[a], (int32_t)near_number(g, q->nodes[a]));
        break;
    case 2:
        SET(g, "flags", i, t->flags, t->flags ^ 1u << gen_below(g, 6));
        break;
    case 3:
        SET(g, "symbol", i, t->extent, (enum sh_extent)gen_below(g, 5));
        break;
    case 4:
        SET(g, "symbolic dimension", i, t->extent_dim, (int)gen_below(g, 6) - 1);
        break;
    default: // the last node is missing
        SET(g, "nodes", i, q->n_nodes, q->n_nodes - 1);
        break;
    }
}

/* Does anything lie in the memory of tensor i? */
static bool has_views(const struct sh_graph *q, int32_t i)
{
    for (int32_t t = 0; t < q->n_tensors; t++) {
        if (q->tensors[t].view_src == i) return true;
    }
    return false;
}

/* A leaf of another shape, lawful by itself: only what uses it can object. */
static void break_shape(struct gen *g, int32_t i)
{
    struct sh_tensor *t = &g->g.tensors[i];
    int d = (int)gen_below(g, SH_MAX_DIMS);

    while (d > 0 && t->ne[d] == 1 && gen_chance(g, 80))
        d--;
    const int64_t step =
        d == 0 && sh_dtype_valid((uint32_t)t->dtype) ? sh_dtype_info(t->dtype)->block_len : 1;
    const uint64_t n = (uint64_t)t->ne[d],
                   by = (uint64_t)step; // an earlier break may have left any
    const int64_t choices[] = {(int64_t)(n + by), (int64_t)(n - by), (int64_t)(n - by), 0, step,
                               (int64_t)(2 * n)};
    size_t bytes, grain;

    if (t->op != SH_OP_NONE || t->view_src >= 0 || has_views(&g->g, i)) return;
    if (!sh_dtype_valid((uint32_t)t->dtype)) return;
    SET(g, "extent", i, t->ne[d], choices[gen_below(g, 6)]);
    if (t->ne[d] < 0 || t->ne[d] > 1 << 20) return;
    sh_tensor_set_dense(t);
    if (g->places != GEN_OWN || t->buffer < 0 || !sh_tensor_bytes(t, &bytes)) return;
    if (bytes > (size_t)1 << 24) return;
    g->buffers[t->buffer].bytes = (bytes + 63) / 64 * 64; // there is room for it, and no more
    grain = sh_dtype_info(t->dtype)->block_bytes;
    grain &= ~grain + 1;
    t->offset = (g->buffers[t->buffer].bytes - bytes) / grain * grain;
}

/* A view or a whole tensor some units further on, in every field that says so. */
static void break_shift(struct gen *g, int32_t i)
{
    struct sh_graph *q = &g->g;
    struct sh_tensor *t = &q->tensors[i];
    const size_t unit =
        sh_dtype_valid((uint32_t)t->dtype) ? sh_dtype_info(t->dtype)->block_bytes : 4;
    const size_t by = unit * (size_t)(1 + gen_below(g, 4));

    if (t->view_src >= 0) {
        SET(g, "view offset", i, t->view_offs, t->view_offs + by);
        if (t->buffer >= 0) t->offset += by;
        return;
    }
    if (t->buffer < 0) return;
    SET(g, "offset", i, t->offset, t->offset + by);
    for (int32_t v = 0; v < q->n_tensors; v++) {
        if (q->tensors[v].view_src == i) q->tensors[v].offset += by;
    }
}

/* Results on top of other tensors, exactly or nearly. */
static void break_alias(struct gen *g, int32_t i)
{
    struct sh_tensor *t = &g->g.tensors[i];
    const struct sh_tensor *s = &g->g.tensors[gen_below(g, g->g.n_tensors)];

    SET(g, "buffer", i, t->buffer, s->buffer);
    SET(g, "offset", i, t->offset,
        s->offset + (gen_chance(g, 50) ? 0 : 4 * (size_t)gen_below(g, 40)));
    if (!gen_chance(g, 40)) return;
    SET(g, "root", i, t->view_src, s->view_src >= 0 ? s->view_src : (int32_t)(s - g->g.tensors));
    t->view_offs = s->view_offs;
    if (gen_chance(g, 50)) memcpy(t->nb, s->nb, sizeof t->nb);
}

bool gen_break(struct gen *g)
{
    struct sh_graph *q = &g->g;
    const int n = gen_chance(g, 80) ? 1 : 2;

    if (q->n_nodes == 0) return false;
    g->damaged = true;
    for (int i = 0; i < n && q->n_nodes > 0; i++) {
        const int32_t t = draw_used(g);
        if (gen_chance(g, 25)) {
            break_shape(g, t);
            continue;
        }
        const int word = (int)gen_below(g, gen_chance(g, 70) ? 5 : SH_N_PARAMS);
        int32_t *params = q->tensors[t].params;
        switch (gen_below(g, 12)) {
        case 0:
        case 1:
        case 2:
            break_layout(g, t);
            break;
        case 3:
        case 4:
            break_links(g, t);
            break;
        case 5:
            break_list(g, t);
            break;
        case 6:
            break_alias(g, t);
            break;
        case 7:
        case 8:
        case 9:
            break_shape(g, t);
            break;
        case 10:
            break_shift(g, t);
            break;
        default:
            SET(g, "parameter", t, params[word], (int32_t)near_number(g, params[word]));
            break;
        }
    }
    return true;
}
