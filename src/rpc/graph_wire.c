/* rpc/graph_wire.c - graphs to bytes: see graph_wire.h for the form, graph_read.c for the way back.
 */
#include "rpc/graph_wire.h"

#include "rpc/codec.h"

_Static_assert(SH_LEAF_WEIGHT == 1 && SH_LEAF_INPUT == 2 && SH_LEAF_CACHE_K == 3 &&
                   SH_LEAF_CACHE_V == 4 && SH_LEAF_TABLE == 5 && SH_LEAF_STATE == 6,
               "the wire's numbers of leaf kinds");
_Static_assert(SH_INPUT_TOKENS == 0 && SH_INPUT_EMBD == 1 && SH_INPUT_POS == 2 &&
                   SH_INPUT_OUT == 3 && SH_INPUT_TEMP == 4 && SH_INPUT_ROWS == 5 &&
                   SH_INPUT_STATES == 6 && SH_INPUT_HIDDEN == 7 && SH_INPUT_PAGES == 8,
               "the wire's numbers of inputs");
_Static_assert(SH_EXTENT_NONE == 0 && SH_EXTENT_T == 1 && SH_EXTENT_O == 2 && SH_EXTENT_R == 3,
               "the wire's numbers of extents");
_Static_assert(SH_OP_COUNT <= SH_GRAPH_WIRE_OPS_MAX, "all ops fit into HELLO");

/* ---- names of ops ----------------------------------------------------------------------------*/

void sh_graph_wire_ops(const char **names)
{
    for (int i = 0; i < SH_OP_COUNT; i++)
        names[i] = sh_op_info((enum sh_op)i)->name;
}

void sh_graph_wire_map_init(struct sh_graph_wire_map *m)
{
    m->n = 0;
}

bool sh_graph_wire_map_add(struct sh_graph_wire_map *m, const char *name, size_t n)
{
    int op = 0;

    if (m->n == SH_GRAPH_WIRE_OPS_MAX || n >= SH_GRAPH_WIRE_OP_NAME) return false;
    memcpy(m->ops[m->n].name, name, n);
    m->ops[m->n].name[n] = '\0';
    while (op < SH_OP_COUNT && strcmp(sh_op_info((enum sh_op)op)->name, m->ops[m->n].name) != 0)
        op++;
    m->ops[m->n++].op = (uint16_t)op;
    return true;
}

void sh_graph_wire_map_own(struct sh_graph_wire_map *m)
{
    sh_graph_wire_map_init(m);
    for (int i = 0; i < SH_OP_COUNT; i++) {
        const char *name = sh_op_info((enum sh_op)i)->name;
        (void)sh_graph_wire_map_add(m, name, strlen(name));
    }
}

/* ---- writing ---------------------------------------------------------------------------------*/

/* Counts, and writes where there is a writer. */
struct output {
    struct sh_writer *w;
    size_t bytes;
};

static void put(struct output *o, uint64_t v, size_t bytes)
{
    o->bytes += bytes;
    if (o->w) sh_write_le(o->w, v, bytes);
}

static void put_i64s(struct output *o, const int64_t *v, int n)
{
    for (int i = 0; i < n; i++)
        put(o, (uint64_t)v[i], 8);
}

static void put_leaf(struct output *o, const struct sh_tensor *t, const struct sh_leaf *leaf)
{
    put(o, leaf->kind, 1);
    switch (leaf->kind) {
    case SH_LEAF_OTHER:
        break; // refused before
    case SH_LEAF_WEIGHT:
        put(o, t->dtype, 1);
        put_i64s(o, t->ne, SH_MAX_DIMS);
        put(o, (uint32_t)leaf->stack, 4);
        put(o, (uint8_t)leaf->slice.axis, 1);
        if (leaf->slice.axis < 0) break;
        put(o, (uint64_t)leaf->slice.n_segments, 1);
        for (int i = 0; i < leaf->slice.n_segments; i++) {
            put(o, (uint64_t)leaf->slice.segment[i].begin, 8);
            put(o, (uint64_t)leaf->slice.segment[i].end, 8);
        }
        break;
    case SH_LEAF_INPUT:
        put(o, leaf->input, 1);
        put_i64s(o, t->ne, 1);
        break;
    case SH_LEAF_CACHE_K:
    case SH_LEAF_CACHE_V:
        put(o, t->dtype, 1);
        put(o, (uint64_t)leaf->group, 1);
        put(o, (uint64_t)leaf->layer, 4);
        put_i64s(o, &t->ne[0], 1);
        put_i64s(o, &t->ne[2], 1);
        break;
    case SH_LEAF_TABLE:
        put(o, (uint64_t)leaf->group, 1);
        put_i64s(o, t->ne, 2);
        break;
    case SH_LEAF_STATE:
        put(o, (uint64_t)leaf->group, 1);
        put(o, (uint64_t)leaf->layer, 4);
        put_i64s(o, t->ne, SH_MAX_DIMS);
        break;
    }
}

static void put_words(struct output *o, const int32_t *params)
{
    uint64_t n = 0;

    for (int i = 0; i < SH_N_PARAMS; i++)
        n += params[i] != 0;
    put(o, n, 1);
    for (unsigned i = 0; i < SH_N_PARAMS; i++) {
        if (params[i] == 0) continue;
        put(o, i, 1);
        put(o, (uint32_t)params[i], 4);
    }
}

static void put_node(struct output *o, const struct sh_graph *g, int32_t number, unsigned kind)
{
    const struct sh_tensor *t = &g->tensors[number];
    int n = 0;

    for (int i = 0; i < SH_MAX_SRC; i++) {
        if (t->src[i] >= 0 && t->src[i] != number) n = i + 1; // a cast names itself
    }
    put(o, t->op, 2);
    put(o, (uint64_t)n, 1);
    for (int i = 0; i < n; i++)
        put(o, (uint32_t)t->src[i], 4);
    put_words(o, t->params);
    if (kind == 1) return;
    put(o, t->dtype, 1);
    put_i64s(o, t->ne, SH_MAX_DIMS);
    put(o, t->extent, 1);
    put(o, t->extent == SH_EXTENT_NONE ? 0 : (uint64_t)t->extent_dim, 1);
    if (kind == 2) return;
    for (int d = 0; d < SH_MAX_DIMS; d++)
        put(o, t->nb[d], 8);
    put(o, t->view_offs - g->tensors[t->src[0]].view_offs, 8);
}

/* Could the builders have made this tensor as number `i`, with `n_nodes` and `n_leaves` before it?
 */
static const char *refusal(const struct sh_graph *g, int32_t i, int32_t n_nodes, int32_t n_leaves)
{
    const struct sh_tensor *t = &g->tensors[i];

    if (t->op == SH_OP_NONE) {
        if (t->leaf < 0 || t->leaf != n_leaves) return "a leaf without its record";
        const struct sh_leaf *leaf = &g->leaves[t->leaf];
        if (leaf->kind == SH_LEAF_OTHER) return "a leaf that only its maker can place";
        if (leaf->group < 0 || leaf->group > UINT8_MAX || leaf->layer < 0) return "its group";
        if (leaf->slice.n_segments < 0 || leaf->slice.n_segments > SH_SEGMENTS_MAX) return "a cut";
        return NULL;
    }
    if ((unsigned)t->op >= SH_OP_COUNT) return "an unknown op";
    if (n_nodes >= g->n_nodes || g->nodes[n_nodes] != i) return "not a node, or not in order";
    for (int s = 0; s < SH_MAX_SRC; s++) {
        if (t->src[s] < i || (t->op == SH_OP_CPY && s == 1 && t->src[s] == i)) continue;
        return "a source that comes later";
    }
    if (t->op == SH_OP_VIEW && t->src[0] < 0) return "a view of nothing";
    return NULL;
}

static enum shoal_status put_tensor(struct output *o, const struct sh_graph *g, int32_t i,
                                    int32_t *n_nodes, int32_t *n_leaves, struct shoal_error *err)
{
    const struct sh_tensor *t = &g->tensors[i];
    const char *why = refusal(g, i, *n_nodes, *n_leaves);
    const size_t n_name = strlen(t->name);
    unsigned kind = 0;

    if (why) {
        return sh_fail(err, SHOAL_ERR_UNSUPPORTED, "graph: tensor %d cannot be sent: %s", (int)i,
                       why);
    }
    if (n_name > SH_GRAPH_WIRE_NAME_MAX || !sh_rpc_text_ok(t->name, n_name)) {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "graph: the name of tensor %d cannot be sent: %zu bytes, or no plain text",
                       (int)i, n_name);
    }
    if (t->op != SH_OP_NONE) kind = t->op == SH_OP_VIEW ? 3 : sh_op_needs_shape(g, i) ? 2 : 1;
    put(o, kind, 1);
    put(o, t->flags & SH_TENSOR_OUTPUT ? 1 : 0, 1);
    put(o, n_name, 2);
    o->bytes += n_name;
    if (o->w) sh_write_bytes(o->w, t->name, n_name);
    if (kind == 0) {
        put_leaf(o, t, &g->leaves[t->leaf]);
        ++*n_leaves;
    } else {
        put_node(o, g, i, kind);
        ++*n_nodes;
    }
    return SHOAL_OK;
}

static enum shoal_status put_graph(struct output *o, const struct sh_graph *g,
                                   struct shoal_error *err)
{
    const int64_t max[] = {g->max.t, g->max.o, g->max.r};
    enum shoal_status st = sh_graph_status(g, err);
    int32_t n_nodes = 0, n_leaves = 0;

    if (st) return st;
    put(o, (uint32_t)g->n_tensors, 4);
    put_i64s(o, max, 3);
    for (int32_t i = 0; i < g->n_tensors && !st; i++)
        st = put_tensor(o, g, i, &n_nodes, &n_leaves, err);
    if (!st && n_nodes != g->n_nodes) {
        st = sh_fail(err, SHOAL_ERR_UNSUPPORTED, "graph: %d of %d nodes are leaves",
                     (int)(g->n_nodes - n_nodes), (int)g->n_nodes);
    }
    if (!st && o->bytes > SH_GRAPH_WIRE_BYTES_MAX) {
        st = sh_fail(err, SHOAL_ERR_LIMIT, "graph: %zu bytes to send, at most %u", o->bytes,
                     SH_GRAPH_WIRE_BYTES_MAX);
    }
    return st;
}

enum shoal_status sh_graph_wire_bytes(size_t *bytes, const struct sh_graph *g,
                                      struct shoal_error *err)
{
    struct output o = {.w = NULL};
    const enum shoal_status st = put_graph(&o, g, err);

    *bytes = st ? 0 : o.bytes;
    return st;
}

enum shoal_status sh_graph_wire_put(struct sh_writer *w, const struct sh_graph *g,
                                    struct shoal_error *err)
{
    struct output o = {.w = w};
    enum shoal_status st = put_graph(&o, g, err);

    if (!st && w->bad) {
        st = sh_fail(err, SHOAL_ERR_LIMIT, "graph: no room for %zu bytes", o.bytes);
    }
    return st;
}

/* ---- comparing -------------------------------------------------------------------------------*/

static bool same_leaf(const struct sh_leaf *a, const struct sh_leaf *b)
{
    return a->kind == b->kind && a->input == b->input && a->group == b->group &&
           a->layer == b->layer && a->stack == b->stack && sh_slice_equal(&a->slice, &b->slice);
}

static bool same_tensor(const struct sh_tensor *a, const struct sh_tensor *b)
{
    for (int i = 0; i < SH_MAX_SRC; i++) {
        if (a->src[i] != b->src[i]) return false;
    }
    for (int i = 0; i < SH_N_PARAMS; i++) {
        if (a->params[i] != b->params[i]) return false;
    }
    for (int d = 0; d < SH_MAX_DIMS; d++) {
        if (a->ne[d] != b->ne[d] || a->nb[d] != b->nb[d]) return false;
    }
    return a->dtype == b->dtype && a->op == b->op && a->extent == b->extent &&
           (a->extent == SH_EXTENT_NONE || a->extent_dim == b->extent_dim) &&
           a->flags == b->flags && a->view_src == b->view_src && a->view_offs == b->view_offs &&
           a->leaf == b->leaf && strcmp(a->name, b->name) == 0;
}

bool sh_graph_wire_equal(const struct sh_graph *a, const struct sh_graph *b)
{
    if (a->n_tensors != b->n_tensors || a->n_nodes != b->n_nodes || a->n_leaves != b->n_leaves ||
        a->n_sums != b->n_sums || a->max.t != b->max.t || a->max.o != b->max.o ||
        a->max.r != b->max.r) {
        return false;
    }
    for (int32_t i = 0; i < a->n_tensors; i++) {
        if (!same_tensor(&a->tensors[i], &b->tensors[i])) return false;
    }
    for (int32_t i = 0; i < a->n_nodes; i++) {
        if (a->nodes[i] != b->nodes[i]) return false;
    }
    for (int32_t i = 0; i < a->n_leaves; i++) {
        if (!same_leaf(&a->leaves[i], &b->leaves[i])) return false;
    }
    return true;
}
