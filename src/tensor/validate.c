/* tensor/validate.c - the gate between graphs and everything that runs them.
 *
 * Three passes over arrays, each linear, none recursive:
 *   1. every record by itself: type, shape, strides, place, root, leaf (validate_record.c);
 *   2. the list of nodes: in range, each once;
 *   3. every executed node: its row's rule against what the record claims, what it touches, which
 *      bytes it writes and reads.
 * Cycles cannot occur: a source has a smaller number than its user.
 */
#include "tensor/validate_priv.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"

enum shoal_status sh_check_fail(const struct sh_check *c, enum shoal_status code, const char *fmt,
                                ...)
{
    const struct sh_tensor *t = &c->g->tensors[c->tensor];
    const struct sh_label name = sh_tensor_label(t);
    char text[200], where[32] = "";
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (c->node >= 0) snprintf(where, sizeof where, "node %d, ", (int)c->node);
    return sh_fail(c->err, code, "graph: %stensor %d%s%s, %s: %s", where, (int)c->tensor,
                   name.text[0] ? " " : "", name.text,
                   (unsigned)t->op < SH_OP_COUNT ? sh_op_info(t->op)->name : "unknown op", text);
}

static enum shoal_status check_list(struct sh_check *c)
{
    const struct sh_graph *g = c->g;

    for (int32_t n = 0; n < g->n_nodes; n++) {
        const int32_t t = g->nodes[n];
        if (t < 0 || t >= g->n_tensors) {
            return sh_fail(c->err, SHOAL_ERR_FORMAT, "graph: node %d is tensor %d of %d", (int)n,
                           (int)t, (int)g->n_tensors);
        }
        if (c->position[t]) {
            return sh_fail(c->err, SHOAL_ERR_FORMAT, "graph: nodes %d and %d are both tensor %d",
                           (int)c->position[t] - 1, (int)n, (int)t);
        }
        c->position[t] = n + 1;
    }
    return SHOAL_OK;
}

/* ---- what a node touches --------------------------------------------------------------------*/

static bool is_executed(const struct sh_check *c, int32_t t)
{
    const struct sh_tensor *r = &c->g->tensors[t];

    return c->position[t] && (r->flags & SH_TENSOR_COMPUTE) && (unsigned)r->op < SH_OP_COUNT &&
           r->op != SH_OP_NONE && !(sh_op_info(r->op)->flags & SH_OPF_VIEW);
}

/* Will there be anything in the scratch memory of root r when node c->node runs? */
static bool scratch_is_filled(const struct sh_check *c, int32_t r)
{
    const struct sh_tensor *t = &c->g->tensors[r];

    if (t->op == SH_OP_NONE) {
        if (t->leaf < 0) return false;
        const enum sh_leaf_kind kind = c->g->leaves[t->leaf].kind;
        return kind == SH_LEAF_INPUT || kind == SH_LEAF_OTHER;
    }
    return is_executed(c, r) && c->position[r] <= c->node + 1;
}

/* Is t a node that comes behind the one being checked?  Leaves may be listed anywhere. */
static bool is_later(const struct sh_check *c, int32_t t)
{
    return c->position[t] > c->node && c->g->tensors[t].op != SH_OP_NONE;
}

/* Sources that are listed come earlier, and so do the roots of views. */
static enum shoal_status check_order(const struct sh_check *c)
{
    const struct sh_graph *g = c->g;
    const struct sh_tensor *t = &g->tensors[c->tensor];

    for (int i = -1; i < SH_MAX_SRC; i++) {
        const int32_t s = i < 0 ? t->view_src : t->src[i];
        if (s < 0 || s == c->tensor) continue;
        if (is_later(c, s) || is_later(c, sh_graph_root(g, s))) {
            return sh_check_fail(c, SHOAL_ERR_FORMAT, "tensor %d, which it needs, is a later node",
                                 (int)s);
        }
    }
    return SHOAL_OK;
}

/* What an executed node reads or writes must be in memory. */
static enum shoal_status check_touch(const struct sh_check *c, int32_t t)
{
    const struct sh_graph *g = c->g;
    const int32_t root = sh_graph_root(g, t);

    if (g->tensors[t].buffer >= 0) return SHOAL_OK;
    if (g->tensors[root].buffer >= 0 || !scratch_is_filled(c, root)) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "tensor %d, which it needs, has no place",
                             (int)t);
    }
    return SHOAL_OK;
}

/* ---- which bytes ----------------------------------------------------------------------------*/

struct span {
    int64_t space; // external buffers from 0 on, roots in scratch below
    size_t begin, end;
};

static struct span span_of(const struct sh_graph *g, int32_t t)
{
    const struct sh_tensor *r = &g->tensors[t];
    struct span s;
    size_t bytes = 0;

    (void)sh_tensor_bytes(r, &bytes); // checked with the record
    s.space = r->buffer >= 0 ? r->buffer : -1 - (int64_t)sh_graph_root(g, t);
    s.begin = r->buffer >= 0 ? r->offset : r->view_offs;
    s.end = s.begin + bytes;
    return s;
}

/* Where all rows of t, which begins at `begin`, lie modulo `stride`.  False if not in one place. */
static bool column_of(const struct sh_tensor *t, size_t begin, size_t stride, struct span *out)
{
    size_t bytes;

    if (stride == 0 || !sh_tensor_rows_packed(t)) return false;
    for (int d = 1; d < SH_MAX_DIMS; d++) {
        if (t->ne[d] != 1 && t->nb[d] % stride != 0) return false;
    }
    if (!sh_dtype_row_bytes(t->dtype, t->ne[0], &bytes)) return false;
    out->begin = begin % stride;
    if (!sh_range_ok(out->begin, bytes, stride)) return false;
    out->end = out->begin + bytes;
    return true;
}

/* Do a and b use common bytes?  Columns of one table do not, though their spans overlap. */
static bool overlap(const struct sh_graph *g, int32_t a, int32_t b)
{
    const struct sh_tensor *ta = &g->tensors[a], *tb = &g->tensors[b];
    const struct span x = span_of(g, a), y = span_of(g, b);
    const size_t stride = ta->ne[1] != 1 ? ta->nb[1] : tb->nb[1];
    struct span xc, yc;

    if (x.space != y.space || x.begin == x.end || y.begin == y.end) return false;
    if (x.begin >= y.end || y.begin >= x.end) return false;
    if (!column_of(ta, x.begin, stride, &xc) || !column_of(tb, y.begin, stride, &yc)) return true;
    return xc.begin < yc.end && yc.begin < xc.end;
}

/* May the result lie exactly on source i? */
static bool may_alias(const struct sh_graph *g, int32_t t, int i)
{
    const struct sh_tensor *r = &g->tensors[t], *s = &g->tensors[r->src[i]];
    const bool elementwise = r->op == SH_OP_ADD || r->op == SH_OP_SUB || r->op == SH_OP_MUL ||
                             r->op == SH_OP_DIV || r->op == SH_OP_SOFT_MAX;

    if (!(sh_op_info(r->op)->flags & SH_OPF_INPLACE) || i > 1 || (i == 1 && !elementwise)) {
        return false;
    }
    return span_of(g, t).begin == span_of(g, r->src[i]).begin && sh_tensor_same_layout(r, s);
}

/* No two elements of t on the same bytes: from the densest dimension up, each stride passes all
 * that lies below it. */
static bool elements_apart(const struct sh_tensor *t)
{
    size_t below = sh_dtype_info(t->dtype)->block_bytes;
    bool done[SH_MAX_DIMS] = {false};

    for (int round = 0; round < SH_MAX_DIMS; round++) {
        int best = -1;
        for (int d = 0; d < SH_MAX_DIMS; d++) {
            if (!done[d] && (best < 0 || t->nb[d] < t->nb[best])) best = d;
        }
        const int64_t n = best == 0 ? t->ne[0] / sh_dtype_info(t->dtype)->block_len : t->ne[best];
        done[best] = true;
        if (n <= 1) continue;
        if (t->nb[best] < below) return false;
        below += t->nb[best] * (size_t)(n - 1); // at most the bytes of t, which fit
    }
    return true;
}

/* The memory that a node changes besides its result, -1 = none. */
static int written_source(enum sh_op op)
{
    return op == SH_OP_STATE_CONV ? 2 : op == SH_OP_STATE_SCAN ? 7 : -1;
}

static bool is_read_only(const struct sh_check *c, int32_t t)
{
    const int32_t buffer = c->g->tensors[t].buffer;

    return buffer >= 0 && c->buffers[buffer].read_only;
}

static enum shoal_status check_bytes(const struct sh_check *c, int view_of)
{
    const struct sh_graph *g = c->g;
    const struct sh_tensor *t = &g->tensors[c->tensor];
    const int state = written_source(t->op);

    if (sh_tensor_elements(t) > 0 && !elements_apart(t)) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "elements of the result share bytes");
    }
    if (is_read_only(c, c->tensor) || (state >= 0 && is_read_only(c, t->src[state]))) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "writes into a read-only buffer");
    }
    for (int i = 0; i < SH_MAX_SRC; i++) {
        const int32_t s = t->src[i];
        if (s < 0 || s == c->tensor || i == view_of) continue;
        if (overlap(g, c->tensor, s) && !may_alias(g, c->tensor, i)) {
            return sh_check_fail(c, SHOAL_ERR_FORMAT, "the result overlaps source %d", i);
        }
        if (state >= 0 && i != state && overlap(g, t->src[state], s)) {
            return sh_check_fail(c, SHOAL_ERR_FORMAT, "the state overlaps source %d", i);
        }
    }
    return SHOAL_OK;
}

/* ---- one node -------------------------------------------------------------------------------*/

/* Does the record claim what the rule found? */
static enum shoal_status check_claim(const struct sh_check *c, const struct sh_infer *in)
{
    const struct sh_tensor *t = &c->g->tensors[c->tensor], *r = &in->out;

    if (t->dtype != r->dtype) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "result is %s, claimed %s",
                             sh_dtype_info(r->dtype)->name, sh_dtype_info(t->dtype)->name);
    }
    if (!sh_tensor_same_shape(t, r)) {
        return sh_check_fail(
            c, SHOAL_ERR_FORMAT, "result is [%lld,%lld,%lld,%lld], claimed [%lld,%lld,%lld,%lld]",
            (long long)r->ne[0], (long long)r->ne[1], (long long)r->ne[2], (long long)r->ne[3],
            (long long)t->ne[0], (long long)t->ne[1], (long long)t->ne[2], (long long)t->ne[3]);
    }
    if (t->extent != r->extent || (t->extent != SH_EXTENT_NONE && t->extent_dim != r->extent_dim)) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "the symbolic extent is not the rule's");
    }
    return SHOAL_OK;
}

/* A result in the memory of source `of`: same root, and there the rule's offset and strides. */
static enum shoal_status check_view_of(const struct sh_check *c, const struct sh_tensor *r, int of)
{
    const struct sh_graph *g = c->g;
    const struct sh_tensor *t = &g->tensors[c->tensor];

    if (t->view_src < 0 || t->view_src != sh_graph_root(g, t->src[of])) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "the result is no view of source %d's root", of);
    }
    if (t->view_offs != r->view_offs) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "the result lies at %zu of its root, not at %zu",
                             t->view_offs, r->view_offs);
    }
    for (int d = 0; d < SH_MAX_DIMS; d++) {
        if (t->ne[d] != 1 && t->nb[d] != r->nb[d]) {
            return sh_check_fail(c, SHOAL_ERR_FORMAT, "stride of dimension %d is %zu, not %zu", d,
                                 t->nb[d], r->nb[d]);
        }
    }
    return SHOAL_OK;
}

/* Where the result lies: as the rule says, or in place of source 0, or fresh and dense. */
static enum shoal_status check_result_place(const struct sh_check *c, struct sh_infer *in)
{
    const struct sh_tensor *t = &c->g->tensors[c->tensor];
    const bool in_place = (sh_op_info(t->op)->flags & SH_OPF_INPLACE) || t->op == SH_OP_DUP;

    if (in->view_of < 0 && t->view_src >= 0) {
        if (!in_place || in->src[0]->dtype != t->dtype) {
            return sh_check_fail(c, SHOAL_ERR_FORMAT, "the result cannot be a view");
        }
        in->view_of = 0;
        in->out.view_offs = in->src[0]->view_offs;
        for (int d = 0; d < SH_MAX_DIMS; d++)
            in->out.nb[d] = in->src[0]->nb[d];
    }
    if (in->view_of >= 0) return check_view_of(c, &in->out, in->view_of);
    if (!sh_tensor_contiguous(t)) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "the result is not contiguous");
    }
    return SHOAL_OK;
}

static enum shoal_status check_node(struct sh_check *c)
{
    const struct sh_graph *g = c->g;
    const struct sh_tensor *t = &g->tensors[c->tensor];
    struct sh_infer in = {.op = t->op, .params = t->params, .claim = t};
    enum shoal_status st;

    if (!(t->flags & SH_TENSOR_COMPUTE) || t->op == SH_OP_NONE) return SHOAL_OK;
    if ((unsigned)t->op >= SH_OP_COUNT) {
        return sh_check_fail(c, SHOAL_ERR_UNSUPPORTED, "no row in the op table");
    }
    const unsigned flags = sh_op_info(t->op)->flags;
    if ((flags & SH_OPF_SHOAL) && !c->allow_shoal) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "not allowed here");
    }
    for (int i = 0; i < SH_MAX_SRC; i++) {
        if (t->src[i] >= 0 && t->src[i] != c->tensor) in.src[i] = &g->tensors[t->src[i]];
    }
    if (!sh_infer_run(&in)) return sh_check_fail(c, in.code, "%s", in.reason);
    st = check_claim(c, &in);
    if (!st) st = check_result_place(c, &in);
    if (!st) st = check_order(c);
    if (st || (flags & SH_OPF_VIEW)) return st;
    st = check_touch(c, c->tensor);
    for (int i = 0; i < SH_MAX_SRC && !st; i++) {
        if (in.src[i]) st = check_touch(c, t->src[i]);
    }
    if (st) return st;
    if (t->op == SH_OP_SHARD_SUM && t->params[6] != c->n_sums++) {
        return sh_check_fail(c, SHOAL_ERR_FORMAT, "sum number %d out of order", (int)t->params[6]);
    }
    return check_bytes(c, in.view_of);
}

static enum shoal_status check_counts(const struct sh_graph *g, struct shoal_error *err)
{
    const int64_t most = INT32_MAX;

    if (g->n_tensors < 0 || g->n_tensors > SH_GRAPH_TENSORS_MAX) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "graph: %d tensors, limit %d", (int)g->n_tensors,
                       SH_GRAPH_TENSORS_MAX);
    }
    if (g->n_nodes < 0 || g->n_nodes > SH_GRAPH_NODES_MAX) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "graph: %d nodes, limit %d", (int)g->n_nodes,
                       SH_GRAPH_NODES_MAX);
    }
    if (g->max.t < 0 || g->max.t > most || g->max.o < 0 || g->max.o > most || g->max.r < 0 ||
        g->max.r > most) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "graph: extents T %lld, O %lld, R %lld",
                       (long long)g->max.t, (long long)g->max.o, (long long)g->max.r);
    }
    return SHOAL_OK;
}

enum shoal_status sh_graph_validate(const struct sh_graph *g,
                                    const struct sh_buffer_bounds *buffers, int32_t n_buffers,
                                    bool allow_shoal, struct shoal_error *err)
{
    struct sh_check c = {
        .g = g, .buffers = buffers, .n_buffers = n_buffers, .allow_shoal = allow_shoal, .err = err};
    enum shoal_status st;

    st = sh_graph_status(g, err);
    if (!st) st = check_counts(g, err);
    if (st) goto done;
    c.position = sh_calloc((size_t)g->n_tensors, sizeof *c.position);
    if (!c.position) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "graph: no memory to check %d tensors",
                     (int)g->n_tensors);
        goto done;
    }
    c.node = -1;
    for (c.tensor = 0; c.tensor < g->n_tensors; c.tensor++) {
        st = sh_check_record(&c);
        if (st) goto done;
    }
    st = check_list(&c);
    if (st) goto done;
    for (c.node = 0; c.node < g->n_nodes; c.node++) {
        c.tensor = g->nodes[c.node];
        st = check_node(&c);
        if (st) goto done;
    }
    if (c.n_sums != g->n_sums) {
        st = sh_fail(err, SHOAL_ERR_FORMAT, "graph: %d sums, %d announced", (int)c.n_sums,
                     (int)g->n_sums);
    }

done:
    sh_free(c.position);
    return st;
}
