/* tensor/build.c - appending nodes: parameters into words, then the op's rule.
 *
 * The rules of infer.c say what comes out; a node that they refuse fails the build with the op and
 * the name of its first named source, which is mostly the weight that does not fit.
 */
#include "tensor/infer_priv.h"

#include "base/mem.h"

float sh_param_f32(const struct sh_tensor *t, int i)
{
    float v;

    memcpy(&v, &t->params[i], sizeof v);
    return v;
}

void sh_params_set_f32(int32_t *params, int i, float v)
{
    memcpy(&params[i], &v, sizeof v);
}

static int32_t refuse(struct sh_graph *g, const struct sh_infer *in)
{
    struct sh_label name = {.text = ""};

    for (int i = 0; i < SH_MAX_SRC && !name.text[0]; i++) {
        if (in->src[i]) name = sh_tensor_label(in->src[i]);
    }
    return sh_graph_fail(g, in->code, "graph: tensor %d, %s%s%s: %s", (int)g->n_tensors,
                         sh_op_info(in->op)->name, name.text[0] ? " of " : "", name.text,
                         in->reason);
}

/* Is what came out what was asked for? */
static bool claim_met(const struct sh_tensor *claim, const struct sh_tensor *out)
{
    return claim->dtype == out->dtype && sh_tensor_same_shape(claim, out) &&
           claim->extent == out->extent &&
           (claim->extent == SH_EXTENT_NONE || claim->extent_dim == out->extent_dim);
}

/* May the rules look at what is asked for?  It may come from a peer.  (Whole blocks are theirs to
 * ask for.) */
static bool claim_lawful(const struct sh_tensor *claim)
{
    if (!sh_dtype_valid((uint32_t)claim->dtype) || !sh_shape_ok(SH_DTYPE_I8, claim->ne)) {
        return false;
    }
    return claim->extent == SH_EXTENT_NONE ||
           ((unsigned)claim->extent <= SH_EXTENT_R && claim->extent_dim >= 0 &&
            claim->extent_dim < SH_MAX_DIMS);
}

/* A view lies in its root: number, offset and place. */
static bool share_root(struct sh_graph *g, struct sh_tensor *t, int32_t of)
{
    const int32_t root = sh_graph_root(g, of);
    const struct sh_tensor *r = &g->tensors[root];
    size_t have, want;

    if (!sh_tensor_bytes(r, &have) || !sh_tensor_bytes(t, &want) ||
        !sh_range_ok(t->view_offs, want, have)) {
        sh_graph_fail(g, SHOAL_ERR_FORMAT, "graph: tensor %d, %s: a view past the end of its root",
                      (int)g->n_tensors, sh_op_info(t->op)->name);
        return false;
    }
    t->view_src = root;
    t->buffer = r->buffer;
    t->offset = r->buffer >= 0 ? r->offset + t->view_offs : 0;
    return true;
}

/* Append the node op(src) as its rule has it; `claim` where the rule leaves something open. */
static int32_t append(struct sh_graph *g, enum sh_op op, int n_src, const int32_t *src,
                      const int32_t params[SH_N_PARAMS], const struct sh_tensor *claim)
{
    static const int32_t ZEROS[SH_N_PARAMS];
    struct sh_infer in = {.op = op, .params = params ? params : ZEROS, .claim = claim};
    struct sh_tensor t;

    if (g->status) return -1;
    if ((unsigned)op >= SH_OP_COUNT || n_src < 0 || n_src > SH_MAX_SRC) {
        return sh_graph_fail(g, SHOAL_ERR_ARG, "graph: op %d with %d sources", (int)op, n_src);
    }
    for (int i = 0; i < n_src; i++) {
        if (src[i] < -1 || src[i] >= g->n_tensors) {
            return sh_graph_fail(g, SHOAL_ERR_ARG, "graph: source %d of %s is tensor %d of %d", i,
                                 sh_op_info(op)->name, (int)src[i], (int)g->n_tensors);
        }
        if (src[i] >= 0) in.src[i] = &g->tensors[src[i]];
    }
    if (claim && !claim_lawful(claim)) {
        sh_infer_refuse(&in, "what is asked for is no lawful shape");
        return refuse(g, &in);
    }
    if (!sh_infer_run(&in)) return refuse(g, &in);
    t = in.out;
    t.op = op;
    t.flags = SH_TENSOR_COMPUTE;
    t.buffer = -1;
    t.leaf = -1;
    memcpy(t.params, in.params, sizeof t.params);
    for (int i = 0; i < SH_MAX_SRC; i++)
        t.src[i] = i < n_src ? src[i] : -1;
    if (op == SH_OP_CPY && t.src[1] < 0) t.src[1] = g->n_tensors; // a cast names itself
    if (op == SH_OP_SHARD_SUM) t.params[6] = g->n_sums;
    if (claim && !claim_met(claim, &t)) {
        sh_infer_refuse(&in, "cannot give the type or shape asked for");
        return refuse(g, &in);
    }
    if (!sh_extent_ok(&t, &g->max)) {
        sh_infer_refuse(&in, "a symbolic extent is not its maximum");
        return refuse(g, &in);
    }
    if (in.view_of >= 0 && !share_root(g, &t, src[in.view_of])) return -1;
    const int32_t number = sh_graph_add_tensor(g, &t);
    if (number < 0) return -1;
    sh_graph_add_node(g, number);
    if (op == SH_OP_SHARD_SUM) g->n_sums++;
    return g->status ? -1 : number;
}

int32_t sh_op_node(struct sh_graph *g, enum sh_op op, int n_src, const int32_t *src,
                   const int32_t params[SH_N_PARAMS])
{
    return append(g, op, n_src, src, params, NULL);
}

int32_t sh_op_shaped(struct sh_graph *g, enum sh_op op, int n_src, const int32_t *src,
                     const int32_t params[SH_N_PARAMS], const struct sh_tensor *shape)
{
    return append(g, op, n_src, src, params, shape);
}

bool sh_op_needs_shape(const struct sh_graph *g, int32_t node)
{
    const struct sh_tensor *t = &g->tensors[node];
    struct sh_infer in = {.op = t->op, .params = t->params};

    for (int i = 0; i < SH_MAX_SRC; i++) {
        if (t->src[i] >= 0 && t->src[i] != node) in.src[i] = &g->tensors[t->src[i]];
    }
    return !sh_infer_run(&in) || !claim_met(t, &in.out);
}

int32_t sh_op_binary(struct sh_graph *g, enum sh_op op, int32_t a, int32_t b)
{
    const int32_t src[] = {a, b};
    return append(g, op, 2, src, NULL, NULL);
}

int32_t sh_op_unary(struct sh_graph *g, enum sh_unary kind, int32_t x)
{
    const int32_t params[SH_N_PARAMS] = {(int32_t)kind};
    return append(g, SH_OP_UNARY, 1, &x, params, NULL);
}

int32_t sh_op_glu(struct sh_graph *g, enum sh_glu kind, int32_t gate, int32_t up)
{
    const int32_t src[] = {gate, up}, params[SH_N_PARAMS] = {(int32_t)kind};
    return append(g, SH_OP_GLU, 2, src, params, NULL);
}

int32_t sh_op_scale(struct sh_graph *g, int32_t x, float scale, float bias)
{
    int32_t params[SH_N_PARAMS] = {0};

    sh_params_set_f32(params, 0, scale);
    sh_params_set_f32(params, 1, bias);
    return append(g, SH_OP_SCALE, 1, &x, params, NULL);
}

int32_t sh_op_norm(struct sh_graph *g, enum sh_op op, int32_t x, float eps)
{
    int32_t params[SH_N_PARAMS] = {0};

    sh_params_set_f32(params, 0, eps);
    return append(g, op, 1, &x, params, NULL);
}

/* A count as a parameter word; fails the build where it does not fit. */
static int32_t word(struct sh_graph *g, int64_t v)
{
    if (v >= INT32_MIN && v <= INT32_MAX) return (int32_t)v;
    sh_graph_fail(g, SHOAL_ERR_LIMIT, "graph: parameter %lld is no 32-bit number", (long long)v);
    return 0;
}

int32_t sh_op_mul_mat(struct sh_graph *g, int32_t w, int32_t x, int64_t segment_unit)
{
    const int32_t src[] = {w, x}, params[SH_N_PARAMS] = {[15] = word(g, segment_unit)};
    return append(g, SH_OP_MUL_MAT, 2, src, params, NULL);
}

int32_t sh_op_mul_mat_id(struct sh_graph *g, int32_t w, int32_t x, int32_t ids,
                         int64_t first_expert)
{
    const int32_t src[] = {w, x, ids};
    const int32_t params[SH_N_PARAMS] = {[12] = word(g, first_expert + 1)};
    return append(g, SH_OP_MUL_MAT_ID, 3, src, params, NULL);
}

int32_t sh_op_mul_mat_part(struct sh_graph *g, int32_t w, int32_t x, int64_t unit, int64_t k_whole,
                           int64_t k_begin)
{
    const int32_t src[] = {w, x};
    const int32_t params[SH_N_PARAMS] = {word(g, unit), word(g, k_whole), word(g, k_begin)};
    return append(g, SH_OP_MUL_MAT_PART, 2, src, params, NULL);
}

int32_t sh_op_get_rows(struct sh_graph *g, int32_t x, int32_t rows)
{
    return sh_op_binary(g, SH_OP_GET_ROWS, x, rows);
}

int32_t sh_op_rope(struct sh_graph *g, int32_t x, int32_t pos, int32_t freq_factors,
                   const struct sh_rope_attr *a)
{
    const int32_t src[] = {x, pos, freq_factors};
    int32_t params[SH_N_PARAMS] = {[1] = a->n_dims, [2] = (int32_t)a->mode, [4] = a->n_ctx_orig};

    sh_params_set_f32(params, 5, a->freq_base);
    sh_params_set_f32(params, 6, a->freq_scale);
    sh_params_set_f32(params, 7, a->ext_factor);
    sh_params_set_f32(params, 8, a->attn_factor);
    sh_params_set_f32(params, 9, a->beta_fast);
    sh_params_set_f32(params, 10, a->beta_slow);
    for (int i = 0; i < 4; i++)
        params[11 + i] = a->sections[i];
    return append(g, SH_OP_ROPE, 3, src, params, NULL);
}

int32_t sh_op_cache_put(struct sh_graph *g, int32_t cache, int32_t x, int32_t rows, int32_t table)
{
    const int32_t src[] = {cache, x, rows, table};
    return append(g, SH_OP_CACHE_PUT, 4, src, NULL, NULL);
}

int32_t sh_op_cache_attn(struct sh_graph *g, int32_t q, int32_t k, int32_t v, int32_t rows,
                         int32_t table, int32_t sinks, const struct sh_attn_attr *a)
{
    const int32_t src[] = {q, k, v, rows, table, sinks};
    int32_t params[SH_N_PARAMS] = {[2] = a->window, [3] = a->chunk, [4] = a->n_kv_heads};

    sh_params_set_f32(params, 0, a->scale);
    sh_params_set_f32(params, 1, a->softcap);
    return append(g, SH_OP_CACHE_ATTN, 6, src, params, NULL);
}

int32_t sh_op_top_experts(struct sh_graph *g, int32_t scores, int64_t n_used)
{
    const int32_t params[SH_N_PARAMS] = {word(g, n_used)};
    return append(g, SH_OP_TOP_EXPERTS, 1, &scores, params, NULL);
}

int32_t sh_op_cont(struct sh_graph *g, int32_t x)
{
    return append(g, SH_OP_CONT, 1, &x, NULL, NULL);
}

int32_t sh_op_set_rows(struct sh_graph *g, int32_t data, int32_t index, int32_t target)
{
    const int32_t src[] = {data, index, target};
    return append(g, SH_OP_SET_ROWS, 3, src, NULL, NULL);
}

int32_t sh_op_flash_attn(struct sh_graph *g, int32_t q, int32_t k, int32_t v, int32_t mask,
                         int32_t sinks, float scale, float max_bias, float softcap)
{
    const int32_t src[] = {q, k, v, mask, sinks};
    int32_t params[SH_N_PARAMS] = {[3] = 10}; // sums in f32

    sh_params_set_f32(params, 0, scale);
    sh_params_set_f32(params, 1, max_bias);
    sh_params_set_f32(params, 2, softcap);
    return append(g, SH_OP_FLASH_ATTN_EXT, 5, src, params, NULL);
}

int32_t sh_op_cast(struct sh_graph *g, int32_t x, enum sh_dtype dtype)
{
    struct sh_tensor shape;

    if (g->status) return -1;
    if (x < 0 || x >= g->n_tensors || !sh_dtype_valid((uint32_t)dtype)) {
        return sh_graph_fail(g, SHOAL_ERR_ARG, "graph: cast of tensor %d to type %d", (int)x,
                             (int)dtype);
    }
    shape = g->tensors[x];
    shape.dtype = dtype;
    return append(g, SH_OP_CPY, 1, &x, NULL, &shape);
}

/* ---- views ----------------------------------------------------------------------------------*/

/* A shape of n_dims extents for a view of x.  If x has a symbolic extent, it is the last one.
 * False after failing the build. */
static bool view_shape(struct sh_graph *g, int32_t x, int n_dims, const int64_t *ne,
                       struct sh_tensor *out)
{
    if (g->status) return false;
    if (x < 0 || x >= g->n_tensors || n_dims < 1 || n_dims > SH_MAX_DIMS) {
        sh_graph_fail(g, SHOAL_ERR_ARG, "graph: view of tensor %d with %d dimensions", (int)x,
                      n_dims);
        return false;
    }
    *out = g->tensors[x];
    for (int d = 0; d < SH_MAX_DIMS; d++)
        out->ne[d] = d < n_dims ? ne[d] : 1;
    out->extent_dim = out->extent == SH_EXTENT_NONE ? 0 : n_dims - 1;
    return true;
}

int32_t sh_op_reshape(struct sh_graph *g, int32_t x, int n_dims, const int64_t *ne)
{
    struct sh_tensor shape;

    if (!view_shape(g, x, n_dims, ne, &shape)) return -1;
    return append(g, SH_OP_RESHAPE, 1, &x, NULL, &shape);
}

int32_t sh_op_view(struct sh_graph *g, int32_t x, int n_dims, const int64_t *ne, const size_t *nb,
                   size_t offset)
{
    struct sh_tensor shape;

    if (!view_shape(g, x, n_dims, ne, &shape)) return -1;
    for (int d = 0; d < SH_MAX_DIMS; d++) {
        if (d < n_dims) {
            if (nb) shape.nb[d] = nb[d];
        } else if (!sh_mul_ok(shape.nb[d - 1], (size_t)shape.ne[d - 1], &shape.nb[d])) {
            return sh_graph_fail(g, SHOAL_ERR_FORMAT, "graph: VIEW: strides overflow");
        }
    }
    if (!sh_add_ok(shape.view_offs, offset, &shape.view_offs)) {
        return sh_graph_fail(g, SHOAL_ERR_FORMAT, "graph: VIEW: offset overflows");
    }
    const int32_t params[SH_N_PARAMS] = {(int32_t)(uint32_t)(offset & UINT32_MAX),
                                         (int32_t)(uint32_t)((uint64_t)offset >> 32)};
    return append(g, SH_OP_VIEW, 1, &x, params, &shape);
}

int32_t sh_op_permute(struct sh_graph *g, int32_t x, int a0, int a1, int a2, int a3)
{
    const int32_t params[SH_N_PARAMS] = {a0, a1, a2, a3};
    return append(g, SH_OP_PERMUTE, 1, &x, params, NULL);
}
