/* tensor/scratch.c - where results without a place go.
 *
 * A tensor is live from the node that computes it (leaves: from the start) to the last node that
 * reads it or a view of it (leaves and outputs: to the end).  Walking the nodes, each result takes
 * the smallest free range that holds it, or grows the end; what dies at a node is freed behind it,
 * so a result never shares bytes with the sources of its own node.  One exception: a result of an
 * op that may work in place takes over the bytes of its dying first source of equal layout.
 */
#include "tensor/graph_priv.h"

#include "base/mem.h"

struct range {
    size_t begin, end;
};

struct plan {
    const struct sh_graph *g;
    size_t align;
    size_t *offsets;
    int32_t *last;      // per tensor: index of the last node that needs it; n_nodes = the end
    int32_t *dying;     // per node: head of the list of tensors that die there
    int32_t *next;      // per tensor: next in that list
    struct range *free; // sorted by begin, never adjacent
    int32_t n_free, cap_free;
    size_t end;
};

/* Bytes reserved for t: whole units of align. */
static bool reserved_bytes(const struct plan *p, int32_t t, size_t *out)
{
    size_t bytes;

    return sh_tensor_bytes(&p->g->tensors[t], &bytes) && sh_round_up_ok(bytes, p->align, out);
}

static bool in_scratch(const struct sh_graph *g, int32_t t)
{
    return g->tensors[t].buffer < 0 && g->tensors[t].view_src < 0;
}

/* When each tensor is needed for the last time. */
static void find_lives(struct plan *p)
{
    const struct sh_graph *g = p->g;

    for (int32_t i = 0; i < g->n_tensors; i++)
        p->last[i] = -1;
    for (int32_t n = 0; n < g->n_nodes; n++) {
        const struct sh_tensor *t = &g->tensors[g->nodes[n]];
        p->last[sh_graph_root(g, g->nodes[n])] = n;
        for (int s = 0; s < SH_MAX_SRC; s++) {
            if (t->src[s] >= 0) p->last[sh_graph_root(g, t->src[s])] = n;
        }
    }
    for (int32_t i = 0; i < g->n_tensors; i++) {
        if (g->tensors[i].flags & SH_TENSOR_OUTPUT) p->last[sh_graph_root(g, i)] = g->n_nodes;
        if (g->tensors[i].op == SH_OP_NONE) p->last[i] = g->n_nodes;
    }
    for (int32_t n = 0; n < g->n_nodes; n++)
        p->dying[n] = -1;
    for (int32_t i = 0; i < g->n_tensors; i++) {
        const int32_t n = p->last[i];
        if (!in_scratch(g, i) || n < 0 || n >= g->n_nodes) continue;
        p->next[i] = p->dying[n];
        p->dying[n] = i;
    }
}

/* The end of scratch grows by `bytes`; false on overflow. */
static bool take_end(struct plan *p, size_t bytes, size_t *out)
{
    // A free range that reaches the end is used up first.
    if (p->n_free && p->free[p->n_free - 1].end == p->end) {
        p->end = p->free[--p->n_free].begin;
    }
    *out = p->end;
    return sh_add_ok(p->end, bytes, &p->end);
}

static bool take(struct plan *p, size_t bytes, size_t *out)
{
    int32_t best = -1;

    for (int32_t i = 0; i < p->n_free; i++) {
        const size_t size = p->free[i].end - p->free[i].begin;
        if (size < bytes) continue;
        if (best < 0 || size < p->free[best].end - p->free[best].begin) best = i;
    }
    if (best < 0) return take_end(p, bytes, out);
    *out = p->free[best].begin;
    p->free[best].begin += bytes;
    if (p->free[best].begin == p->free[best].end) {
        p->n_free--;
        memmove(p->free + best, p->free + best + 1, (size_t)(p->n_free - best) * sizeof *p->free);
    }
    return true;
}

/* Free [begin, end): merged with its neighbours.  There is room: live ranges separate free ones,
 * so there are never more than tensors, and one more. */
static void give(struct plan *p, size_t begin, size_t end)
{
    int32_t lo = 0, hi = p->n_free;

    if (begin == end) return;
    while (lo < hi) {
        const int32_t mid = lo + (hi - lo) / 2;
        if (p->free[mid].begin < begin) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    const bool left = lo > 0 && p->free[lo - 1].end == begin;
    const bool right = lo < p->n_free && p->free[lo].begin == end;
    if (left && right) {
        p->free[lo - 1].end = p->free[lo].end;
        p->n_free--;
        memmove(p->free + lo, p->free + lo + 1, (size_t)(p->n_free - lo) * sizeof *p->free);
    } else if (left) {
        p->free[lo - 1].end = end;
    } else if (right) {
        p->free[lo].begin = begin;
    } else {
        SH_ASSERT(p->n_free < p->cap_free);
        memmove(p->free + lo + 1, p->free + lo, (size_t)(p->n_free - lo) * sizeof *p->free);
        p->free[lo] = (struct range){begin, end};
        p->n_free++;
    }
}

/* May node n, whose result is t, take over the bytes of its first source? */
static bool can_take_over(const struct plan *p, int32_t n, int32_t t)
{
    const struct sh_graph *g = p->g;
    const struct sh_tensor *r = &g->tensors[t];
    const int32_t s = r->src[0];

    if (!(sh_op_info(r->op)->flags & SH_OPF_INPLACE) || s < 0 || !in_scratch(g, s)) return false;
    if (p->last[s] != n || p->offsets[s] == SIZE_MAX) return false;
    if (!sh_tensor_same_layout(r, &g->tensors[s])) return false;
    for (int i = 1; i < SH_MAX_SRC; i++) {
        // Other sources of the node must not look at these bytes in another layout.
        if (r->src[i] >= 0 && r->src[i] != s && sh_graph_root(g, r->src[i]) == s) return false;
    }
    return true;
}

/* Give tensor t its offset; n = its node, or -1 for a leaf. */
static bool place(struct plan *p, int32_t n, int32_t t)
{
    size_t bytes;

    if (n >= 0 && can_take_over(p, n, t)) {
        const int32_t s = p->g->tensors[t].src[0];
        p->offsets[t] = p->offsets[s];
        p->last[s] = -1; // its bytes live on: not freed at this node
        return true;
    }
    return reserved_bytes(p, t, &bytes) && take(p, bytes, &p->offsets[t]);
}

static bool walk(struct plan *p)
{
    const struct sh_graph *g = p->g;
    size_t bytes;

    for (int32_t i = 0; i < g->n_tensors; i++) {
        p->offsets[i] = SIZE_MAX;
        if (g->tensors[i].op == SH_OP_NONE && in_scratch(g, i) && !place(p, -1, i)) return false;
    }
    for (int32_t n = 0; n < g->n_nodes; n++) {
        const int32_t t = g->nodes[n];
        if (in_scratch(g, t) && p->offsets[t] == SIZE_MAX && !place(p, n, t)) return false;
        for (int32_t d = p->dying[n]; d >= 0; d = p->next[d]) {
            if (p->last[d] != n || p->offsets[d] == SIZE_MAX) continue;
            if (!reserved_bytes(p, d, &bytes)) return false;
            give(p, p->offsets[d], p->offsets[d] + bytes);
        }
    }
    return true;
}

enum shoal_status sh_graph_plan_scratch(const struct sh_graph *g, size_t align, size_t *offsets,
                                        size_t *total, struct shoal_error *err)
{
    const size_t n = (size_t)g->n_tensors;
    struct plan p = {.g = g, .align = align, .offsets = offsets, .cap_free = g->n_tensors + 1};
    enum shoal_status st = SHOAL_OK;

    *total = 0;
    p.last = sh_calloc(n, sizeof *p.last);
    p.next = sh_calloc(n, sizeof *p.next);
    p.dying = sh_calloc((size_t)g->n_nodes, sizeof *p.dying);
    p.free = sh_calloc(n + 1, sizeof *p.free);
    if (!p.last || !p.next || !p.dying || !p.free) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "graph: no memory to lay out %zu tensors", n);
        goto done;
    }
    find_lives(&p);
    if (!walk(&p)) {
        st = sh_fail(err, SHOAL_ERR_LIMIT, "graph: scratch exceeds the address space");
        goto done;
    }
    // The high-water mark: the end only shrinks to be taken again at once.
    *total = p.end;

done:
    sh_free(p.last);
    sh_free(p.next);
    sh_free(p.dying);
    sh_free(p.free);
    return st;
}
