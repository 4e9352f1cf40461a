/* tensor/graph.c - the containers of a graph: tensors, nodes, leaves, places.
 *
 * The three arrays grow by doubling inside the graph's arena; the old copies stay there until the
 * graph is released, which costs at most as much again.
 */
#include "tensor/graph.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "tensor/graph_priv.h"

void sh_graph_init(struct sh_graph *g, const struct sh_extents *max)
{
    *g = (struct sh_graph){.arena = SH_ARENA_INIT, .max = *max};
}

void sh_graph_release(struct sh_graph *g)
{
    if (!g) return;
    sh_arena_release(&g->arena);
    *g = (struct sh_graph){.arena = SH_ARENA_INIT};
}

enum shoal_status sh_graph_status(const struct sh_graph *g, struct shoal_error *err)
{
    if (g->status && err) *err = g->error;
    return g->status;
}

int32_t sh_graph_fail(struct sh_graph *g, enum shoal_status code, const char *fmt, ...)
{
    char text[sizeof g->error.message];
    va_list ap;

    if (g->status) return -1;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    g->status = sh_fail(&g->error, code, "%s", text);
    return -1;
}

/* Room for one more element of `bytes` in an array of *cap.  False after a failure. */
static bool grow(struct sh_graph *g, void **array, int32_t n, int32_t *cap, int32_t limit,
                 size_t bytes, const char *what)
{
    if (g->status) return false;
    if (n < *cap) return true;
    if (n >= limit) {
        sh_graph_fail(g, SHOAL_ERR_LIMIT, "graph: more than %d %s", (int)limit, what);
        return false;
    }
    int32_t more = *cap ? *cap * 2 : 64;
    if (more > limit) more = limit;
    void *p = sh_arena_calloc(&g->arena, (size_t)more, bytes);
    if (!p) {
        sh_graph_fail(g, SHOAL_ERR_NOMEM, "graph: no memory for %d %s", (int)more, what);
        return false;
    }
    if (n) memcpy(p, *array, (size_t)n * bytes);
    *array = p;
    *cap = more;
    return true;
}

int32_t sh_graph_add_tensor(struct sh_graph *g, const struct sh_tensor *t)
{
    void *array = g->tensors;
    const char *name = "";

    if (!grow(g, &array, g->n_tensors, &g->cap_tensors, SH_GRAPH_TENSORS_MAX, sizeof *g->tensors,
              "tensors")) {
        return -1;
    }
    g->tensors = array;
    if (t->name && t->name[0]) {
        name = sh_arena_strndup(&g->arena, t->name, strlen(t->name));
        if (!name) return sh_graph_fail(g, SHOAL_ERR_NOMEM, "graph: no memory for a name");
    }
    g->tensors[g->n_tensors] = *t;
    g->tensors[g->n_tensors].name = name;
    return g->n_tensors++;
}

void sh_graph_add_node(struct sh_graph *g, int32_t t)
{
    void *array = g->nodes;

    if (!grow(g, &array, g->n_nodes, &g->cap_nodes, SH_GRAPH_NODES_MAX, sizeof *g->nodes,
              "nodes")) {
        return;
    }
    g->nodes = array;
    if (t < 0 || t >= g->n_tensors) {
        sh_graph_fail(g, SHOAL_ERR_FORMAT, "graph: node %d is tensor %d of %d", (int)g->n_nodes,
                      (int)t, (int)g->n_tensors);
        return;
    }
    g->nodes[g->n_nodes++] = t;
}

/* Is t a tensor of an unfailed graph?  Fails the build where it is not. */
static bool check_number(struct sh_graph *g, int32_t t, const char *who)
{
    if (g->status) return false;
    if (t >= 0 && t < g->n_tensors) return true;
    sh_graph_fail(g, SHOAL_ERR_ARG, "graph: %s of tensor %d of %d", who, (int)t, (int)g->n_tensors);
    return false;
}

void sh_graph_name(struct sh_graph *g, int32_t t, const char *fmt, ...)
{
    char text[128];
    va_list ap;

    if (!check_number(g, t, "name")) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const char *name = sh_arena_strndup(&g->arena, text, strlen(text));
    if (!name) {
        sh_graph_fail(g, SHOAL_ERR_NOMEM, "graph: no memory for a name");
        return;
    }
    g->tensors[t].name = name;
}

void sh_graph_set_output(struct sh_graph *g, int32_t t)
{
    if (check_number(g, t, "output mark")) g->tensors[t].flags |= SH_TENSOR_OUTPUT;
}

void sh_graph_place(struct sh_graph *g, int32_t t, int32_t buffer, size_t offset)
{
    if (!check_number(g, t, "place")) return;
    if (g->tensors[t].view_src >= 0 || buffer < 0) {
        sh_graph_fail(g, SHOAL_ERR_ARG, "graph: place of tensor %d (%s): %s", (int)t,
                      sh_tensor_label(&g->tensors[t]).text,
                      buffer < 0 ? "no buffer" : "it is a view");
        return;
    }
    g->tensors[t].buffer = buffer;
    g->tensors[t].offset = offset;
    for (int32_t i = t + 1; i < g->n_tensors; i++) {
        struct sh_tensor *v = &g->tensors[i];
        if (v->view_src != t) continue;
        v->buffer = buffer;
        v->offset = offset + v->view_offs;
    }
    if (buffer >= g->n_buffers) g->n_buffers = buffer + 1;
}

/* ---- leaves ---------------------------------------------------------------------------------*/

/* Append a leaf whose type, extents and flags are filled in. */
static int32_t add_leaf(struct sh_graph *g, struct sh_tensor *t, const struct sh_leaf *leaf)
{
    void *array = g->leaves;

    if (g->status) return -1;
    if (!sh_dtype_valid((uint32_t)t->dtype) || !sh_shape_ok(t->dtype, t->ne)) {
        return sh_graph_fail(g, SHOAL_ERR_FORMAT,
                             "graph: leaf %s of type %d has shape [%lld,%lld,%lld,%lld]",
                             sh_tensor_label(t).text, (int)t->dtype, (long long)t->ne[0],
                             (long long)t->ne[1], (long long)t->ne[2], (long long)t->ne[3]);
    }
    if (!sh_extent_ok(t, &g->max)) {
        return sh_graph_fail(g, SHOAL_ERR_ARG, "graph: a leaf's extent is not its maximum");
    }
    if (!grow(g, &array, g->n_leaves, &g->cap_leaves, SH_GRAPH_TENSORS_MAX, sizeof *g->leaves,
              "leaves")) {
        return -1;
    }
    g->leaves = array;
    sh_tensor_set_dense(t);
    t->op = SH_OP_NONE;
    for (int i = 0; i < SH_MAX_SRC; i++)
        t->src[i] = -1;
    t->view_src = -1;
    t->buffer = -1;
    t->leaf = g->n_leaves;
    const int32_t number = sh_graph_add_tensor(g, t);
    if (number < 0) return -1;
    g->leaves[g->n_leaves++] = *leaf;
    return number;
}

static void set_ne(struct sh_tensor *t, const int64_t ne[SH_MAX_DIMS])
{
    for (int d = 0; d < SH_MAX_DIMS; d++)
        t->ne[d] = ne[d];
}

int32_t sh_leaf_weight(struct sh_graph *g, const char *name, enum sh_dtype dtype,
                       const int64_t ne[SH_MAX_DIMS], const struct sh_slice *slice)
{
    struct sh_tensor t = {.name = name, .dtype = dtype};
    const struct sh_leaf leaf = {.kind = SH_LEAF_WEIGHT, .slice = slice ? *slice : SH_SLICE_WHOLE};

    set_ne(&t, ne);
    return add_leaf(g, &t, &leaf);
}

bool sh_input_shape(enum sh_input input, int64_t d, const struct sh_extents *max,
                    struct sh_tensor *out)
{
    static const struct {
        const char *name;
        enum sh_dtype dtype;
        enum sh_extent extent;
        int extent_dim;
        int64_t width; // of dimension 0; 0 = the caller's
    } INPUT[SH_INPUT_COUNT] = {
        [SH_INPUT_TOKENS] = {"tokens", SH_DTYPE_I32, SH_EXTENT_T, 0, 1},
        [SH_INPUT_EMBD] = {"embd", SH_DTYPE_F32, SH_EXTENT_T, 1, 0},
        [SH_INPUT_POS] = {"pos", SH_DTYPE_I32, SH_EXTENT_T, 1, 4},
        [SH_INPUT_OUT] = {"out", SH_DTYPE_I32, SH_EXTENT_O, 0, 1},
        [SH_INPUT_TEMP] = {"temp", SH_DTYPE_F32, SH_EXTENT_T, 2, 1},
        [SH_INPUT_ROWS] = {"rows", SH_DTYPE_I32, SH_EXTENT_T, 1, 4},
        [SH_INPUT_STATES] = {"states", SH_DTYPE_I32, SH_EXTENT_R, 1, 4},
        [SH_INPUT_HIDDEN] = {"hidden", SH_DTYPE_F32, SH_EXTENT_T, 1, 0},
        [SH_INPUT_PAGES] = {"pages", SH_DTYPE_I32, SH_EXTENT_R, 1, 2},
    };

    if ((unsigned)input >= SH_INPUT_COUNT) return false;
    *out = (struct sh_tensor){.name = INPUT[input].name,
                              .dtype = INPUT[input].dtype,
                              .ne = {INPUT[input].width ? INPUT[input].width : d, 1, 1, 1},
                              .extent = INPUT[input].extent,
                              .extent_dim = INPUT[input].extent_dim,
                              .flags = SH_TENSOR_INPUT};
    out->ne[out->extent_dim] = sh_extents_get(max, out->extent, 0);
    return true;
}

int32_t sh_leaf_input(struct sh_graph *g, enum sh_input input, int64_t d)
{
    const struct sh_leaf leaf = {.kind = SH_LEAF_INPUT, .input = input, .slice = SH_SLICE_WHOLE};
    struct sh_tensor t;

    if (g->status) return -1;
    for (int32_t i = 0; i < g->n_tensors; i++) {
        const int32_t l = g->tensors[i].leaf;
        if (l >= 0 && g->leaves[l].kind == SH_LEAF_INPUT && g->leaves[l].input == input) return i;
    }
    if (!sh_input_shape(input, d, &g->max, &t)) {
        return sh_graph_fail(g, SHOAL_ERR_ARG, "graph: there is no input %d", (int)input);
    }
    return add_leaf(g, &t, &leaf);
}

int32_t sh_leaf_cache(struct sh_graph *g, enum sh_leaf_kind k_or_v, int group, int layer,
                      enum sh_dtype dtype, int64_t width, int64_t n_pages)
{
    struct sh_tensor t = {.dtype = dtype, .ne = {width, SH_PAGE, n_pages, 1}};
    const struct sh_leaf leaf = {
        .kind = k_or_v, .group = group, .layer = layer, .slice = SH_SLICE_WHOLE};

    return add_leaf(g, &t, &leaf);
}

int32_t sh_leaf_table(struct sh_graph *g, int group, int64_t n_index, int64_t n_seq)
{
    struct sh_tensor t = {.dtype = SH_DTYPE_I32, .ne = {n_index, n_seq, 1, 1}};
    const struct sh_leaf leaf = {.kind = SH_LEAF_TABLE, .group = group, .slice = SH_SLICE_WHOLE};

    return add_leaf(g, &t, &leaf);
}

int32_t sh_leaf_state(struct sh_graph *g, int group, int layer, int n_dims,
                      const int64_t ne[SH_MAX_DIMS])
{
    struct sh_tensor t = {.dtype = SH_DTYPE_F32, .ne = {1, 1, 1, 1}};
    const struct sh_leaf leaf = {
        .kind = SH_LEAF_STATE, .group = group, .layer = layer, .slice = SH_SLICE_WHOLE};

    for (int d = 0; d < n_dims && d < SH_MAX_DIMS; d++)
        t.ne[d] = ne[d];
    return add_leaf(g, &t, &leaf);
}

int32_t sh_leaf_plain(struct sh_graph *g, enum sh_dtype dtype, const int64_t ne[SH_MAX_DIMS],
                      enum sh_extent extent, int extent_dim)
{
    struct sh_tensor t = {.dtype = dtype, .extent = extent, .extent_dim = extent_dim};
    const struct sh_leaf leaf = {.kind = SH_LEAF_OTHER, .slice = SH_SLICE_WHOLE};

    set_ne(&t, ne);
    return add_leaf(g, &t, &leaf);
}
