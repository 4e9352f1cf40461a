/* model/build_ssm.c - the Mamba-2 mixer.
 *
 *   [z | xBC | dt] = ssm_in a;  xBC = silu(conv(xBC) + bias);  [X | B | C] = xBC
 *   y = scan(X, dt, A, B, C, D);  y = y * silu(z);  y = grouped norm(y);  out = ssm_out y
 *
 * A shard holds whole heads; B and C of the groups that its heads read.  With one group every
 * shard holds B and C; a grouped norm then spans all heads and cannot be cut.
 */
#include "model/build.h"
#include "model/model_priv.h"

struct ssm {
    int64_t inner, state, heads, groups, head; /* whole; head = channels per head */
    int64_t h0, h1, g0, g1;                    /* own heads, groups */
    int64_t own_inner, own_groups, own_heads;
    struct sh_cut cut; /* of ssm_out */
};

static bool find_ssm(struct sh_build *b, struct ssm *s)
{
    const struct sh_gguf_tensor *out = sh_build_find(b, "ssm_out", "weight");
    const struct sh_hparams *hp = b->hp;
    int64_t unit_heads;

    *s = (struct ssm){.inner = hp->ssm_inner,
                      .state = hp->ssm_state,
                      .heads = hp->ssm_heads,
                      .groups = hp->ssm_groups};
    if (!out || s->inner <= 0 || s->state <= 0 || s->heads <= 0 || s->groups <= 0 ||
        hp->ssm_conv < 2 || s->inner % s->heads != 0 || s->heads % s->groups != 0) {
        sh_graph_fail(b->g, SHOAL_ERR_FORMAT,
                      "model: block %lld is no state-space layer (inner %lld, state %lld, heads "
                      "%lld, groups %lld, ssm_out.weight %s)",
                      (long long)b->layer, (long long)s->inner, (long long)s->state,
                      (long long)s->heads, (long long)s->groups, out ? "present" : "missing");
        return false;
    }
    s->head = s->inner / s->heads;
    unit_heads = s->groups > 1 || sh_build_find(b, "ssm_norm", "weight") ? s->heads / s->groups : 1;
    if (!sh_cut_make(&s->cut, s->inner,
                     sh_lcm(s->head * unit_heads, sh_dtype_info(out->dtype)->block_len),
                     b->part->n_shards, b->part->rank, b->part->shares, b->layer)) {
        sh_graph_fail(b->g, SHOAL_ERR_UNSUPPORTED,
                      "model: the state-space layer %lld cannot be cut into %d shards",
                      (long long)b->layer, b->part->n_shards);
        return false;
    }
    s->h0 = s->cut.k_begin / s->head;
    s->h1 = s->cut.k_end / s->head;
    s->g0 = s->groups == 1 ? 0 : s->h0 / (s->heads / s->groups);
    s->g1 = s->groups == 1 ? 1 : s->h1 / (s->heads / s->groups);
    s->own_inner = s->cut.k_end - s->cut.k_begin;
    s->own_heads = s->h1 - s->h0;
    s->own_groups = s->g1 - s->g0;
    return true;
}

static void push(struct sh_slice *s, int64_t base, int64_t begin, int64_t end)
{
    s->segment[s->n_segments].begin = base + begin;
    s->segment[s->n_segments].end = base + end;
    s->n_segments++;
}

// The own X, B and C inside a stack that begins at `base`.
static void push_xbc(struct sh_slice *sl, const struct ssm *s, int64_t base)
{
    push(sl, base, s->cut.k_begin, s->cut.k_end);
    base += s->inner;
    push(sl, base, s->g0 * s->state, s->g1 * s->state);
    base += s->groups * s->state;
    push(sl, base, s->g0 * s->state, s->g1 * s->state);
}

// Channels [begin, begin + d*n) of x [width,T], seen as [d,n,T]; n = 0: as [d,T].
static int32_t channels(struct sh_graph *g, int32_t x, int64_t width, int64_t begin, int64_t d,
                        int64_t n)
{
    const int64_t ne3[3] = {d, n, g->max.t}, ne2[2] = {d, g->max.t};
    const size_t f = sizeof(float);
    const size_t nb3[3] = {f, f * (size_t)d, f * (size_t)width}, nb2[2] = {f, f * (size_t)width};

    if (n == 0) return sh_op_view(g, x, 2, ne2, nb2, f * (size_t)begin);
    return sh_op_view(g, x, 3, ne3, nb3, f * (size_t)begin);
}

static int32_t convolve(struct sh_build *b, int32_t xbc, const struct ssm *s, int group)
{
    const int64_t all = s->inner + 2 * s->groups * s->state;
    const int64_t own = s->own_inner + 2 * s->own_groups * s->state;
    const int64_t state_ne[SH_MAX_DIMS] = {b->hp->ssm_conv - 1, own, b->limits->pages[group], 1};
    struct sh_slice rows = {.axis = 1}, bias = {.axis = 0};
    const bool split = s->cut.n_shards > 1;
    int32_t src[4], y;

    push_xbc(&rows, s, 0);
    push_xbc(&bias, s, 0);
    src[0] = xbc;
    src[1] =
        sh_build_weight(b, "ssm_conv1d", "weight", b->hp->ssm_conv, all, 1, split ? &rows : NULL);
    src[2] = sh_leaf_state(b->g, group, (int)b->layer, 3, state_ne);
    src[3] = sh_leaf_input(b->g, SH_INPUT_STATES, 0);
    y = sh_op_node(b->g, SH_OP_STATE_CONV, 4, src, NULL);
    if (sh_build_find(b, "ssm_conv1d", "bias")) {
        y = sh_op_binary(b->g, SH_OP_ADD, y,
                         sh_build_weight(b, "ssm_conv1d", "bias", all, 1, 1, split ? &bias : NULL));
    }
    return sh_op_unary(b->g, SH_UNARY_SILU, y);
}

// A per-head vector, stored as {Hs} or {1,Hs}.
static int32_t head_vector(struct sh_build *b, const char *role, const char *suffix,
                           const struct ssm *s)
{
    const struct sh_gguf_tensor *t = sh_build_find(b, role, suffix);
    const bool column = t && t->ne[0] == 1 && s->heads > 1;
    const struct sh_slice sl = sh_slice_range(column ? 1 : 0, s->h0, s->h1);
    const int32_t w = sh_build_weight(b, role, suffix, column ? 1 : s->heads, column ? s->heads : 1,
                                      1, s->cut.n_shards > 1 ? &sl : NULL);

    return column ? sh_op_reshape(b->g, w, 1, &s->own_heads) : w;
}

static int32_t scan(struct sh_build *b, int32_t xbc, int32_t dt, const struct ssm *s, int group)
{
    const int64_t own = s->own_inner + 2 * s->own_groups * s->state;
    const int64_t at_c = s->own_inner + s->own_groups * s->state;
    const int64_t state_ne[SH_MAX_DIMS] = {s->state, s->head, s->own_heads,
                                           b->limits->pages[group]};
    int32_t src[9];

    src[0] = channels(b->g, xbc, own, 0, s->head, s->own_heads);
    src[1] = dt;
    src[2] = head_vector(b, "ssm_a", NULL, s);
    src[3] = channels(b->g, xbc, own, s->own_inner, s->state, s->own_groups);
    src[4] = channels(b->g, xbc, own, at_c, s->state, s->own_groups);
    src[5] = head_vector(b, "ssm_d", NULL, s);
    src[6] = head_vector(b, "ssm_dt", "bias", s);
    src[7] = sh_leaf_state(b->g, group, (int)b->layer, 4, state_ne);
    src[8] = sh_leaf_input(b->g, SH_INPUT_STATES, 0);
    return sh_op_node(b->g, SH_OP_STATE_SCAN, 9, src, NULL);
}

static int32_t grouped_norm(struct sh_build *b, int32_t y, const struct ssm *s)
{
    const int64_t per = s->inner / s->groups;
    const struct sh_slice sl = sh_slice_range(1, s->g0, s->g1);
    const int64_t ne[3] = {per, s->own_groups, b->g->max.t};
    int32_t w;

    if (!sh_build_find(b, "ssm_norm", "weight")) return y;
    w = sh_build_weight(b, "ssm_norm", "weight", per, s->groups, 1,
                        s->cut.n_shards > 1 ? &sl : NULL);
    y = sh_op_reshape(b->g, y, 3, ne);
    y = sh_op_norm(b->g, SH_OP_RMS_NORM, y, b->hp->eps_rms);
    y = sh_op_binary(b->g, SH_OP_MUL, y, w);
    return sh_op_reshape(b->g, y, 2, (const int64_t[2]){s->own_inner, b->g->max.t});
}

int32_t sh_build_mamba2(struct sh_build *b, int32_t a, int group)
{
    struct sh_graph *g = b->g;
    struct sh_slice rows = {.axis = 1};
    struct sh_partial p;
    struct ssm s;
    int32_t x, z, dt, xbc, y;

    if (g->status || !find_ssm(b, &s)) return -1;
    const int64_t gs = s.groups * s.state, own_xbc = s.own_inner + 2 * s.own_groups * s.state;
    const int64_t own = s.own_inner + own_xbc + s.own_heads;

    push(&rows, 0, s.cut.k_begin, s.cut.k_end);
    push_xbc(&rows, &s, s.inner);
    push(&rows, 2 * s.inner + 2 * gs, s.h0, s.h1);
    x = sh_build_linear(b, a, "ssm_in", b->hp->width, 2 * s.inner + 2 * gs + s.heads,
                        s.cut.n_shards > 1 ? &rows : NULL);
    z = channels(g, x, own, 0, s.own_inner, 0);
    xbc = channels(g, x, own, s.own_inner, own_xbc, 0);
    dt = channels(g, x, own, s.own_inner + own_xbc, s.own_heads, 0);

    xbc = convolve(b, xbc, &s, group);
    y = scan(b, xbc, dt, &s, group);
    y = sh_op_reshape(g, y, 2, (const int64_t[2]){s.own_inner, g->max.t});
    y = sh_op_glu(g, SH_GLU_SWIGLU, z, y);
    y = sh_build_wanted(b, grouped_norm(b, y, &s));
    p.cut = s.cut;
    p.t = sh_build_linear_in(b, y, "ssm_out", s.inner, b->hp->width, &p.cut);
    return sh_build_sum(b, 1, &p);
}
