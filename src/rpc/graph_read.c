/* rpc/graph_read.c - graphs from bytes, built anew by the builders of tensor/graph.h.
 *
 * What is read here are numbers only: which op, which sources, which words.  The rules of the ops
 * decide about all of it, as for any graph, and the caller's validation goes over the result once
 * more.  One pass, no recursion: a source has a smaller number.
 */
#include "rpc/graph_wire.h"

#include "base/mem.h"
#include "rpc/codec.h"

#define TENSOR_BYTES_MIN 12 /* kind, flags, no name; a node of one source */

struct reading {
    struct sh_graph *g;
    struct sh_reader r;
    int32_t at; /* the tensor being read */
    const struct sh_graph_wire_map *ops;
    char name[SH_GRAPH_WIRE_NAME_MAX + 1];
};

/* Fail the build, so that it ends here. */
#define REFUSE(rd, code, fmt, ...)                                                                 \
    sh_graph_fail((rd)->g, code, "graph bytes: tensor %d: " fmt, (int)(rd)->at, __VA_ARGS__)

static int64_t get_i64(struct reading *rd)
{
    return (int64_t)sh_read_u64(&rd->r);
}

static void get_shape(struct reading *rd, int64_t ne[SH_MAX_DIMS])
{
    for (int d = 0; d < SH_MAX_DIMS; d++)
        ne[d] = get_i64(rd);
}

/* A type's number; fails the build where there is none. */
static enum sh_dtype get_dtype(struct reading *rd)
{
    const uint8_t id = sh_read_u8(&rd->r);

    if (sh_dtype_valid(id)) return (enum sh_dtype)id;
    if (!rd->r.bad) REFUSE(rd, SHOAL_ERR_UNSUPPORTED, "type %u", (unsigned)id);
    return SH_DTYPE_F32;
}

/* ---- leaves ----------------------------------------------------------------------------------*/

static int32_t get_weight(struct reading *rd)
{
    const enum sh_dtype dtype = get_dtype(rd);
    struct sh_slice slice = SH_SLICE_WHOLE;
    int64_t ne[SH_MAX_DIMS];
    uint8_t axis, n = 0;
    int32_t stack, t;

    get_shape(rd, ne);
    stack = (int32_t)sh_read_u32(&rd->r);
    axis = sh_read_u8(&rd->r);
    if (axis != UINT8_MAX) n = sh_read_u8(&rd->r);
    if ((axis != UINT8_MAX && axis >= SH_MAX_DIMS) || n > SH_SEGMENTS_MAX || stack < 0) {
        return REFUSE(rd, SHOAL_ERR_FORMAT, "a weight of %d tensors cut along %u into %u segments",
                      (int)stack, (unsigned)axis, (unsigned)n);
    }
    if (axis != UINT8_MAX) slice.axis = axis;
    slice.n_segments = n;
    for (unsigned i = 0; i < n; i++) {
        slice.segment[i].begin = get_i64(rd);
        slice.segment[i].end = get_i64(rd);
    }
    t = sh_leaf_weight(rd->g, rd->name, dtype, ne, &slice);
    if (t >= 0) rd->g->leaves[rd->g->tensors[t].leaf].stack = stack;
    return t;
}

static int32_t get_cache(struct reading *rd, enum sh_leaf_kind kind)
{
    const enum sh_dtype dtype = get_dtype(rd);
    const uint8_t group = sh_read_u8(&rd->r);
    const uint32_t layer = sh_read_u32(&rd->r);
    const int64_t width = get_i64(rd), pages = get_i64(rd);

    if (layer > INT32_MAX) return REFUSE(rd, SHOAL_ERR_FORMAT, "layer %u", (unsigned)layer);
    return sh_leaf_cache(rd->g, kind, group, (int)layer, dtype, width, pages);
}

static int32_t get_state(struct reading *rd)
{
    const uint8_t group = sh_read_u8(&rd->r);
    const uint32_t layer = sh_read_u32(&rd->r);
    int64_t ne[SH_MAX_DIMS];

    get_shape(rd, ne);
    if (layer > INT32_MAX) return REFUSE(rd, SHOAL_ERR_FORMAT, "layer %u", (unsigned)layer);
    return sh_leaf_state(rd->g, group, (int)layer, SH_MAX_DIMS, ne);
}

static int32_t get_input(struct reading *rd)
{
    const uint8_t input = sh_read_u8(&rd->r);
    const int64_t width = get_i64(rd);
    const int32_t t = sh_leaf_input(rd->g, (enum sh_input)input, width);

    if (t >= 0 && rd->g->tensors[t].ne[0] != width) {
        return REFUSE(rd, SHOAL_ERR_FORMAT, "input %u of width %lld", (unsigned)input,
                      (long long)width);
    }
    return t;
}

static int32_t get_leaf(struct reading *rd)
{
    const uint8_t kind = sh_read_u8(&rd->r);
    uint8_t group;
    int64_t n;

    switch (kind) {
    case SH_LEAF_WEIGHT:
        return get_weight(rd);
    case SH_LEAF_INPUT:
        return get_input(rd);
    case SH_LEAF_CACHE_K:
    case SH_LEAF_CACHE_V:
        return get_cache(rd, (enum sh_leaf_kind)kind);
    case SH_LEAF_TABLE:
        group = sh_read_u8(&rd->r);
        n = get_i64(rd);
        return sh_leaf_table(rd->g, group, n, get_i64(rd));
    case SH_LEAF_STATE:
        return get_state(rd);
    default:
        return REFUSE(rd, SHOAL_ERR_FORMAT, "a leaf of kind %u", (unsigned)kind);
    }
}

/* ---- nodes -----------------------------------------------------------------------------------*/

struct node {
    enum sh_op op;
    int n_src;
    int32_t src[SH_MAX_SRC];
    int32_t params[SH_N_PARAMS];
};

static bool get_op(struct reading *rd, struct node *n)
{
    const uint16_t number = sh_read_u16(&rd->r);

    if (number >= rd->ops->n) {
        REFUSE(rd, SHOAL_ERR_FORMAT, "op %u of %u", (unsigned)number, (unsigned)rd->ops->n);
        return false;
    }
    n->op = (enum sh_op)rd->ops->ops[number].op;
    if (n->op == SH_OP_COUNT) {
        REFUSE(rd, SHOAL_ERR_UNSUPPORTED, "op %s is not known here", rd->ops->ops[number].name);
    } else if (n->op == SH_OP_NONE) {
        REFUSE(rd, SHOAL_ERR_FORMAT, "%s", "a node that is a leaf");
    }
    return !rd->g->status;
}

static bool get_sources(struct reading *rd, struct node *n)
{
    n->n_src = sh_read_u8(&rd->r);
    if (n->n_src > SH_MAX_SRC) {
        REFUSE(rd, SHOAL_ERR_LIMIT, "%d sources, at most %d", n->n_src, SH_MAX_SRC);
        return false;
    }
    for (int i = 0; i < n->n_src; i++) {
        n->src[i] = (int32_t)sh_read_u32(&rd->r);
        if (n->src[i] >= -1 && n->src[i] < rd->at) continue;
        REFUSE(rd, SHOAL_ERR_FORMAT, "source %d is tensor %d, which does not come before it", i,
               (int)n->src[i]);
        return false;
    }
    return true;
}

static bool get_words(struct reading *rd, struct node *n)
{
    const uint8_t count = sh_read_u8(&rd->r);
    int last = -1;

    for (unsigned i = 0; i < count; i++) {
        const int number = sh_read_u8(&rd->r);
        const int32_t value = (int32_t)sh_read_u32(&rd->r);
        if (rd->r.bad) return false;
        if (number <= last || number >= SH_N_PARAMS || value == 0) {
            REFUSE(rd, SHOAL_ERR_FORMAT, "parameter word %d is %d behind word %d", number,
                   (int)value, last);
            return false;
        }
        n->params[number] = value;
        last = number;
    }
    return true;
}

/* The wanted shape of a node of kind 2 or 3; checked by the builder. */
static bool get_claim(struct reading *rd, const struct node *n, bool view, struct sh_tensor *out)
{
    uint64_t offset;

    out->dtype = get_dtype(rd);
    get_shape(rd, out->ne);
    out->extent = (enum sh_extent)sh_read_u8(&rd->r);
    out->extent_dim = sh_read_u8(&rd->r);
    if (!view) return true;
    if (n->op != SH_OP_VIEW || n->n_src < 1 || n->src[0] < 0) {
        REFUSE(rd, SHOAL_ERR_FORMAT, "%s as a view", sh_op_info(n->op)->name);
        return false;
    }
    for (int d = 0; d < SH_MAX_DIMS; d++)
        out->nb[d] = sh_read_u64(&rd->r);
    offset = sh_read_u64(&rd->r);
    if (!sh_add_ok(rd->g->tensors[n->src[0]].view_offs, offset, &out->view_offs)) {
        REFUSE(rd, SHOAL_ERR_FORMAT, "%s", "a view past the address space");
        return false;
    }
    return true;
}

static int32_t get_node(struct reading *rd, uint8_t kind)
{
    struct sh_tensor claim = {0};
    struct node n = {0};
    int32_t t;

    if (!get_op(rd, &n) || !get_sources(rd, &n) || !get_words(rd, &n)) return -1;
    if (kind > 1 && !get_claim(rd, &n, kind == 3, &claim)) return -1;
    if (rd->r.bad) return -1; // before anything is built of zeros
    if (kind != 3 && n.op == SH_OP_VIEW) {
        return REFUSE(rd, SHOAL_ERR_FORMAT, "%s", "VIEW without strides");
    }
    if (kind == 1) {
        t = sh_op_node(rd->g, n.op, n.n_src, n.src, n.params);
    } else {
        t = sh_op_shaped(rd->g, n.op, n.n_src, n.src, n.params, &claim);
    }
    if (t >= 0 && memcmp(rd->g->tensors[t].params, n.params, sizeof n.params) != 0) {
        return REFUSE(rd, SHOAL_ERR_FORMAT, "%s", "sums are not numbered in order");
    }
    return t;
}

/* ---- graphs ----------------------------------------------------------------------------------*/

static bool get_name(struct reading *rd)
{
    const uint16_t n = sh_read_u16(&rd->r);
    const uint8_t *p = sh_read_bytes(&rd->r, n);

    if (rd->r.bad) return false;
    if (n > SH_GRAPH_WIRE_NAME_MAX || !sh_rpc_text_ok((const char *)p, n)) {
        REFUSE(rd, SHOAL_ERR_FORMAT, "a name of %u bytes, or no plain text", (unsigned)n);
        return false;
    }
    memcpy(rd->name, p, n);
    rd->name[n] = '\0';
    return true;
}

/* False when the bytes end, or the build failed. */
static bool get_tensor(struct reading *rd)
{
    const uint8_t kind = sh_read_u8(&rd->r), flags = sh_read_u8(&rd->r);
    struct sh_graph *g = rd->g;
    int32_t t;

    if (!get_name(rd)) return false;
    if (kind > 3 || flags > 1) {
        REFUSE(rd, SHOAL_ERR_FORMAT, "kind %u with flags %u", (unsigned)kind, (unsigned)flags);
        return false;
    }
    t = kind == 0 ? get_leaf(rd) : get_node(rd, kind);
    if (rd->r.bad || g->status) return false;
    if (t != rd->at) {
        REFUSE(rd, SHOAL_ERR_FORMAT, "the input is tensor %d already", (int)t);
        return false;
    }
    if (strcmp(g->tensors[t].name, rd->name) != 0) sh_graph_name(g, t, "%s", rd->name);
    if (flags & 1) sh_graph_set_output(g, t);
    return !g->status;
}

static bool extents_ok(const struct sh_extents *e)
{
    return e->t >= 0 && e->t <= INT32_MAX && e->o >= 0 && e->o <= INT32_MAX && e->r >= 0 &&
           e->r <= INT32_MAX;
}

enum shoal_status sh_graph_wire_get(struct sh_graph *out, const uint8_t *bytes, size_t n,
                                    const struct sh_graph_wire_map *ops, struct shoal_error *err)
{
    struct reading rd = {.g = out, .r = sh_reader_over(bytes, n), .ops = ops};
    const uint32_t n_tensors = sh_read_u32(&rd.r);
    struct sh_extents max;

    max.t = get_i64(&rd);
    max.o = get_i64(&rd);
    max.r = get_i64(&rd);
    sh_graph_init(out, &max);
    if (rd.r.bad || n > SH_GRAPH_WIRE_BYTES_MAX || n_tensors > SH_GRAPH_TENSORS_MAX ||
        n_tensors > sh_reader_left(&rd.r) / TENSOR_BYTES_MIN || !extents_ok(&max)) {
        sh_graph_fail(out, SHOAL_ERR_FORMAT,
                      "graph bytes: %u tensors of extents %lld, %lld, %lld in %zu bytes",
                      (unsigned)n_tensors, (long long)max.t, (long long)max.o, (long long)max.r, n);
        return sh_graph_status(out, err);
    }
    while (rd.at < (int32_t)n_tensors && get_tensor(&rd))
        rd.at++;
    if (!out->status && (rd.r.bad || sh_reader_left(&rd.r) > 0)) {
        REFUSE(&rd, SHOAL_ERR_FORMAT, "%s",
               rd.r.bad ? "the bytes end inside it" : "more bytes than tensors");
    }
    return sh_graph_status(out, err);
}
