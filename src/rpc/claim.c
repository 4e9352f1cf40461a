/* rpc/claim.c - see claim.h.
 *
 * Limits and graphs come from a peer: every product is checked, and a graph is validated as if each
 * of its leaves lay in a buffer of its own before anything is made for it.
 */
#include "rpc/claim.h"

#include "base/mem.h"
#include "sample/sampler.h"
#include "tensor/ops.h"

#define TOP_K_PLACES 64 /* candidates per wanted row that a slot has room for */

enum { SEQS_MAX = 4096, ROWS_MAX = 65536, STATES_MAX = 1 << 20 };

/* A sum of products that remembers an overflow. */
struct sum {
    size_t bytes;
    bool bad;
};

static void add(struct sum *s, size_t a, size_t b)
{
    size_t n;

    if (s->bad || !sh_mul_ok(a, b, &n) || !sh_add_ok(s->bytes, n, &s->bytes)) s->bad = true;
}

static void add_tensor(struct sum *s, const struct sh_tensor *t)
{
    size_t n = 0;

    if (!sh_tensor_bytes(t, &n) || !sh_round_up_ok(n, SH_MEM_ALIGN, &n)) s->bad = true;
    add(s, n, 1);
}

static const struct sh_leaf *leaf_of(const struct sh_graph *g, const struct sh_tensor *t)
{
    return t->leaf < 0 ? NULL : &g->leaves[t->leaf];
}

static int64_t index_count(const struct sh_step_limits *l)
{
    return (l->n_positions + SH_PAGE - 1) / SH_PAGE;
}

/* ---- what a stage can run -------------------------------------------------------------------*/

static enum shoal_status check_limits(const struct sh_rpc_claim_of *of, struct shoal_error *err)
{
    const struct sh_step_limits *l = of->limits;
    bool ok = l->n_seqs > 0 && l->n_seqs <= SEQS_MAX && l->rows_max > 0 &&
              l->rows_max <= ROWS_MAX && l->wanted_max >= 0 && l->wanted_max <= l->rows_max &&
              l->n_positions > 0 && l->n_positions <= INT32_MAX - SH_PAGE && l->n_states >= 0 &&
              l->n_states <= STATES_MAX && l->n_groups >= 0 && l->n_groups <= 8 && of->n_slots > 0;

    for (int g = 0; ok && g < l->n_groups; g++)
        ok = l->pages[g] >= 0 && l->pages[g] <= INT32_MAX;
    if (ok) return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_ARG,
                   "the limits of a stage are out of range: %d sequences, %lld positions, %lld "
                   "rows, %lld wanted, %d groups, %d slots",
                   (int)l->n_seqs, (long long)l->n_positions, (long long)l->rows_max,
                   (long long)l->wanted_max, (int)l->n_groups, of->n_slots);
}

static bool input_fits(const struct sh_rpc_claim_of *of, enum sh_input input)
{
    switch (input) {
    case SH_INPUT_TOKENS:
    case SH_INPUT_EMBD:
        return of->first;
    case SH_INPUT_HIDDEN:
        return !of->first;
    case SH_INPUT_OUT:
        return of->last;
    case SH_INPUT_POS:
    case SH_INPUT_ROWS:
    case SH_INPUT_STATES:
        return true;
    default:
        return false;
    }
}

/* A weight that is cut or stacked has the shape that its parts make. */
static bool weight_fits(const struct sh_tensor *t, const struct sh_leaf *leaf)
{
    const struct sh_slice *c = &leaf->slice;
    const bool of_stack = leaf->stack > 0 && c->axis == 2;
    int64_t sum = 0;

    if (leaf->stack > 0 && !strchr(t->name, '#')) return false;
    if (leaf->stack > 0 && !of_stack && t->ne[2] != leaf->stack) return false;
    if (c->axis < 0) return true;
    if (c->n_segments < 1 || (of_stack && c->n_segments != 1)) return false;
    for (int i = 0; i < c->n_segments; i++) {
        const int64_t begin = c->segment[i].begin, end = c->segment[i].end;
        if (begin < 0 || end < begin || end > INT64_MAX / SH_SEGMENTS_MAX) return false;
        if (of_stack && end > leaf->stack) return false;
        sum += end - begin;
    }
    return sum == t->ne[c->axis];
}

/* Is the leaf as large as steps within the limits may reach? */
static bool leaf_fits(const struct sh_rpc_claim_of *of, const struct sh_tensor *t,
                      const struct sh_leaf *leaf)
{
    const struct sh_step_limits *l = of->limits;

    if (leaf->kind == SH_LEAF_WEIGHT) return weight_fits(t, leaf);
    if (leaf->kind == SH_LEAF_INPUT) return input_fits(of, leaf->input);
    if (leaf->kind == SH_LEAF_OTHER || leaf->group < 0 || leaf->group >= l->n_groups) return false;
    if (leaf->kind == SH_LEAF_TABLE) return t->ne[0] == index_count(l) && t->ne[1] >= l->n_seqs;
    if (leaf->kind == SH_LEAF_STATE) {
        int last = SH_MAX_DIMS - 1;
        while (last > 0 && t->ne[last] == 1)
            last--;
        return t->ne[last] >= l->n_states;
    }
    return t->ne[1] == SH_PAGE && t->ne[2] >= l->pages[leaf->group];
}

static enum shoal_status check_leaves(const struct sh_rpc_claim_of *of, const struct sh_graph *g,
                                      bool rotates, struct shoal_error *err)
{
    for (int32_t i = 0; i < g->n_tensors; i++) {
        const struct sh_tensor *t = &g->tensors[i];
        const struct sh_leaf *leaf = leaf_of(g, t);
        if (!leaf) continue;
        if (rotates ? leaf->kind == SH_LEAF_INPUT && leaf->input == SH_INPUT_PAGES
                    : leaf_fits(of, t, leaf)) {
            continue;
        }
        if (rotates && leaf->kind != SH_LEAF_INPUT && leaf_fits(of, t, leaf)) continue;
        return sh_fail(err, SHOAL_ERR_ARG,
                       "leaf %d of a graph (kind %d, input %d) does not fit the stage", (int)i,
                       (int)leaf->kind, (int)leaf->input);
    }
    return SHOAL_OK;
}

/* As if every leaf had a buffer of its own. */
static enum shoal_status validate(const struct sh_graph *from, struct shoal_error *err)
{
    const size_t n = (size_t)from->n_tensors;
    struct sh_graph g = *from;
    struct sh_buffer_bounds *bounds = sh_calloc(n + 1, sizeof *bounds);
    struct sh_tensor *tensors = sh_calloc(n + 1, sizeof *tensors);
    enum shoal_status st = SHOAL_OK;

    if (!bounds || !tensors) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "no memory to check a graph of %zu tensors", n);
        goto done;
    }
    memcpy(tensors, from->tensors, n * sizeof *tensors);
    g.tensors = tensors;
    g.n_buffers = 0;
    for (size_t i = 0; i < n && !st; i++) {
        struct sh_tensor *t = &tensors[i];
        const struct sh_leaf *leaf = leaf_of(&g, t);
        if (!leaf || leaf->kind == SH_LEAF_INPUT) continue;
        t->buffer = g.n_buffers;
        t->offset = 0;
        bounds[g.n_buffers].read_only = leaf->kind == SH_LEAF_WEIGHT;
        if (!sh_tensor_bytes(t, &bounds[g.n_buffers++].bytes))
            st = sh_fail(err, SHOAL_ERR_LIMIT, "the size of leaf %zu overflows", i);
    }
    // Views of leaves lie where their roots do.
    for (size_t i = 0; i < n && !st; i++) {
        const int32_t root = tensors[i].view_src;
        if (root >= 0 && (size_t)root < i && tensors[root].buffer >= 0) {
            tensors[i].buffer = tensors[root].buffer;
            tensors[i].offset = tensors[root].offset + tensors[i].view_offs;
        }
    }
    if (!st) st = sh_graph_validate(&g, bounds, g.n_buffers, true, err);

done:
    sh_free(bounds);
    sh_free(tensors);
    return st;
}

static enum shoal_status check_graph(const struct sh_rpc_claim_of *of, const struct sh_graph *g,
                                     bool rotates, struct shoal_error *err)
{
    const struct sh_step_limits *l = of->limits;
    enum shoal_status st = check_leaves(of, g, rotates, err);

    if (!st && !rotates &&
        (g->max.t < l->rows_max || g->max.o < (of->last ? l->wanted_max : 0) ||
         g->max.r < l->n_seqs)) {
        st = sh_fail(err, SHOAL_ERR_ARG,
                     "a graph for %lld rows, %lld wanted ones and %lld sequences is too small for "
                     "%lld, %lld and %d",
                     (long long)g->max.t, (long long)g->max.o, (long long)g->max.r,
                     (long long)l->rows_max, (long long)l->wanted_max, (int)l->n_seqs);
    }
    if (!st && rotates && g->max.r < index_count(l)) {
        st = sh_fail(err, SHOAL_ERR_ARG, "a graph that rotates %lld pages is too small for %lld",
                     (long long)g->max.r, (long long)index_count(l));
    }
    if (!st && g->n_sums > 0)
        st = sh_fail(err, SHOAL_ERR_UNSUPPORTED, "stages in shards are not supported here");
    if (!st) st = validate(g, err);
    return st;
}

/* ---- sums -----------------------------------------------------------------------------------*/

static void add_leaves(const struct sh_rpc_claim_of *of, struct sum *cache, struct sum *copies)
{
    const struct sh_graph *g = of->graph;

    for (int32_t i = 0; i < g->n_tensors; i++) {
        const struct sh_leaf *leaf = leaf_of(g, &g->tensors[i]);
        if (!leaf || leaf->kind == SH_LEAF_INPUT || leaf->kind == SH_LEAF_OTHER) continue;
        if (leaf->kind != SH_LEAF_WEIGHT) {
            add_tensor(cache, &g->tensors[i]);
        } else if (leaf->stack > 0 || leaf->slice.axis >= 0 || of->kind != SH_DEVICE_CPU) {
            add_tensor(copies, &g->tensors[i]);
        }
    }
}

/* Leaves but INPUTs have memory of their own, so they are no part of the scratch. */
static enum shoal_status add_scratch(struct sum *s, const struct sh_graph *from, size_t n_slots,
                                     struct shoal_error *err)
{
    const size_t n = (size_t)from->n_tensors;
    struct sh_tensor *tensors = sh_calloc(n + 1, sizeof *tensors);
    size_t *offsets = sh_calloc(n + 1, sizeof *offsets);
    struct sh_graph g = *from;
    size_t bytes = 0;
    enum shoal_status st;

    if (!tensors || !offsets) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "no memory to lay out a graph");
        goto done;
    }
    memcpy(tensors, from->tensors, n * sizeof *tensors);
    g.tensors = tensors;
    for (size_t i = 0; i < n; i++) {
        const struct sh_leaf *leaf = leaf_of(&g, &tensors[i]);
        if (leaf && leaf->kind != SH_LEAF_INPUT) tensors[i].buffer = 0;
    }
    st = sh_graph_plan_scratch(&g, SH_MEM_ALIGN, offsets, &bytes, err);
    if (!st) add(s, bytes, n_slots);

done:
    sh_free(tensors);
    sh_free(offsets);
    return st;
}

static void add_places(const struct sh_rpc_claim_of *of, struct sum *s)
{
    const struct sh_step_limits *l = of->limits;
    const size_t t = (size_t)l->rows_max, o = (size_t)l->wanted_max, r = (size_t)l->n_seqs;
    const size_t index = (size_t)index_count(l), i32 = sizeof(int32_t);
    const size_t out = (size_t)sh_rpc_claim_width_out(of->graph) * sizeof(float);
    struct sum one = {0};

    add(&one, t, 9 * i32 + sizeof(struct sh_row));
    add(&one, t, (size_t)sh_rpc_claim_width_in(of->graph, of->first) * sizeof(float));
    add(&one, r, 4 * i32 + sizeof(struct sh_step_seq));
    add(&one, index, 2 * i32);
    add(&one, index, (size_t)l->n_groups * r * i32);
    add(&one, of->last ? o : t, out);
    if (of->last) add(&one, o, i32 + sizeof(struct sh_row_result));
    if (of->last) add(&one, o, TOP_K_PLACES * sizeof(struct sh_candidate));
    s->bad = s->bad || one.bad;
    add(s, one.bytes, (size_t)of->n_slots);
    add(s, index, (size_t)l->n_groups * r * i32);
    if (of->last) add(s, out, 1 + sizeof(struct sh_candidate) / sizeof(float));
}

int64_t sh_rpc_claim_width_in(const struct sh_graph *g, bool first)
{
    const enum sh_input want = first ? SH_INPUT_EMBD : SH_INPUT_HIDDEN;

    for (int32_t i = 0; i < g->n_tensors; i++) {
        const struct sh_leaf *leaf = leaf_of(g, &g->tensors[i]);
        if (leaf && leaf->kind == SH_LEAF_INPUT && leaf->input == want) return g->tensors[i].ne[0];
    }
    return 0;
}

int64_t sh_rpc_claim_width_out(const struct sh_graph *g)
{
    for (int32_t i = 0; i < g->n_tensors; i++)
        if (g->tensors[i].flags & SH_TENSOR_OUTPUT) return g->tensors[i].ne[0];
    return 0;
}

enum shoal_status sh_rpc_claim_count(struct sh_rpc_claim *out, const struct sh_rpc_claim_of *of,
                                     struct shoal_error *err)
{
    struct sum cache = {0}, scratch = {0}, places = {0};
    const bool rotates = of->rotate && of->rotate->n_nodes > 0;
    enum shoal_status st = check_limits(of, err);

    *out = (struct sh_rpc_claim){0};
    if (!st) st = check_graph(of, of->graph, false, err);
    if (!st && rotates) st = check_graph(of, of->rotate, true, err);
    if (st) return st;
    add_leaves(of, &cache, &scratch);
    st = add_scratch(&scratch, of->graph, (size_t)of->n_slots, err);
    if (!st && rotates) st = add_scratch(&scratch, of->rotate, 1, err);
    if (st) return st;
    add_places(of, &places);
    if (cache.bad || scratch.bad || places.bad)
        return sh_fail(err, SHOAL_ERR_LIMIT, "the size of a stage overflows");
    out->cache = cache.bytes;
    out->scratch = scratch.bytes;
    out->places = places.bytes;
    return SHOAL_OK;
}
