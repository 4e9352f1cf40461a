/* tensor/infer_shoal.c - rules of shoal's own ops.
 *
 * They are stricter than those of the ops that foreign peers send: shapes are exactly those of the
 * op table's comments, rows are packed.
 */
#include "tensor/infer_priv.h"

static bool is_f32(const struct sh_tensor *t)
{
    return t->dtype == SH_DTYPE_F32;
}

static bool is_i32(const struct sh_tensor *t)
{
    return t->dtype == SH_DTYPE_I32;
}

static bool refuse_shape(struct sh_infer *in, const char *name, int i)
{
    const struct sh_tensor *t = in->src[i];

    return sh_infer_refuse(in, "%s is [%lld,%lld,%lld,%lld]", name, (long long)t->ne[0],
                           (long long)t->ne[1], (long long)t->ne[2], (long long)t->ne[3]);
}

/* Refuse the first present source whose rows have gaps. */
static bool check_packed(struct sh_infer *in)
{
    for (int i = 0; i < SH_MAX_SRC; i++) {
        if (in->src[i] && !sh_tensor_rows_packed(in->src[i])) {
            return sh_infer_refuse(in, "source %d has rows with gaps", i);
        }
    }
    return true;
}

/* Are all extents of t fixed, and those from `n_dims` on 1? */
static bool fixed_dims(const struct sh_tensor *t, int n_dims)
{
    return t->extent == SH_EXTENT_NONE && sh_dims_end(t, n_dims);
}

/* i32 [4,rows of t's dimension dim] */
static bool is_record_per(const struct sh_tensor *rec, const struct sh_tensor *t, int dim)
{
    return is_i32(rec) && sh_dim_is(rec, 0, 4) && sh_dim_same(rec, 1, t, dim) &&
           sh_dims_end(rec, 2);
}

static bool is_table(const struct sh_tensor *t)
{
    return is_i32(t) && fixed_dims(t, 2);
}

/* table [D,V], tokens [T], embd? [D,T]: [D,T] */
bool sh_infer_embed(struct sh_infer *in)
{
    const struct sh_tensor *table = in->src[0], *tokens = in->src[1], *embd = in->src[2];

    if (!sh_type_readable(table->dtype) || !is_i32(tokens) || (embd && !is_f32(embd))) {
        return sh_infer_refuse_types(in);
    }
    if (!fixed_dims(table, 2)) return refuse_shape(in, "the table", 0);
    if (!sh_dims_end(tokens, 1)) return refuse_shape(in, "the tokens", 1);
    if (embd && (!sh_dim_is(embd, 0, table->ne[0]) || !sh_dims_end(embd, 2))) {
        return refuse_shape(in, "the embedding rows", 2);
    }
    if (!check_packed(in)) return false;
    sh_infer_set_dtype(in, SH_DTYPE_F32);
    sh_infer_set_dim(in, 0, table, 0);
    sh_infer_set_dim(in, 1, tokens, 0);
    return true;
}

/* [width,64,pages] of f16 or f32 */
static bool is_cache(const struct sh_tensor *t)
{
    return sh_types_have(SH_TYPE_BIT(F16) | SH_TYPE_BIT(F32), t) && fixed_dims(t, 3) &&
           t->ne[1] == SH_PAGE;
}

bool sh_infer_cache_put(struct sh_infer *in)
{
    const struct sh_tensor *cache = in->src[0], *x = in->src[1];

    if (!is_cache(cache) || !sh_tensor_contiguous(cache)) return refuse_shape(in, "the cache", 0);
    if (!is_f32(x)) return sh_infer_refuse_types(in);
    if (!sh_dim_is(x, 0, cache->ne[0]) || !sh_dims_end(x, 2)) return refuse_shape(in, "x", 1);
    if (!is_record_per(in->src[2], x, 1)) return refuse_shape(in, "rows", 2);
    if (!is_table(in->src[3])) return refuse_shape(in, "the table", 3);
    if (!check_packed(in)) return false;
    sh_infer_set_like(in, cache);
    for (int i = 0; i < SH_MAX_DIMS; i++)
        in->out.nb[i] = cache->nb[i];
    in->out.view_offs = cache->view_offs;
    in->view_of = 0;
    return true;
}

bool sh_infer_cache_attn(struct sh_infer *in)
{
    const struct sh_tensor *q = in->src[0], *k = in->src[1], *v = in->src[2];
    const struct sh_tensor *sinks = in->src[5];
    const int64_t n_kv_heads = in->params[4];

    if (!is_f32(q) || (sinks && !is_f32(sinks))) return sh_infer_refuse_types(in);
    if (!is_cache(k) || !sh_tensor_contiguous(k)) return refuse_shape(in, "the keys", 1);
    if (!is_cache(v) || !sh_tensor_contiguous(v) || v->ne[2] != k->ne[2]) {
        return refuse_shape(in, "the values", 2);
    }
    if (!sh_dim_fixed(q, 0) || !sh_dim_fixed(q, 1) || !sh_dims_end(q, 3)) {
        return refuse_shape(in, "q", 0);
    }
    if (!is_record_per(in->src[3], q, 2)) return refuse_shape(in, "rows", 3);
    if (!is_table(in->src[4])) return refuse_shape(in, "the table", 4);
    if (n_kv_heads < 1 || q->ne[1] < 1 || q->ne[1] % n_kv_heads != 0 ||
        k->ne[0] % n_kv_heads != 0 || k->ne[0] / n_kv_heads != q->ne[0] ||
        v->ne[0] % n_kv_heads != 0) {
        return sh_infer_refuse(in,
                               "%lld heads of %lld over %lld of keys of %lld and values of %lld",
                               (long long)q->ne[1], (long long)q->ne[0], (long long)n_kv_heads,
                               (long long)k->ne[0], (long long)v->ne[0]);
    }
    if (in->params[2] < 0 || in->params[3] < 0) {
        return sh_infer_refuse(in, "window %d, chunk %d", (int)in->params[2], (int)in->params[3]);
    }
    if (sinks && !(fixed_dims(sinks, 1) && sinks->ne[0] == q->ne[1])) {
        return refuse_shape(in, "sinks", 5);
    }
    if (!check_packed(in)) return false;
    sh_infer_set_dtype(in, SH_DTYPE_F32);
    sh_infer_set_dim(in, 0, v, 0);
    in->out.ne[0] = v->ne[0] / n_kv_heads;
    sh_infer_set_dim(in, 1, q, 1);
    sh_infer_set_dim(in, 2, q, 2);
    return true;
}

/* cache [dk*Hk,64,pages], pages [2,R], factors? */
bool sh_infer_cache_rotate(struct sh_infer *in)
{
    const struct sh_tensor *cache = in->src[0], *pages = in->src[1], *factors = in->src[2];
    const int64_t n_heads = in->params[3];

    if (!is_cache(cache) || !sh_tensor_contiguous(cache)) return refuse_shape(in, "the cache", 0);
    if (!is_i32(pages) || (factors && !is_f32(factors))) return sh_infer_refuse_types(in);
    if (!sh_dim_is(pages, 0, 2) || !sh_dims_end(pages, 2)) return refuse_shape(in, "pages", 1);
    if (n_heads < 1 || cache->ne[0] % n_heads != 0) {
        return sh_infer_refuse(in, "%lld heads in keys of %lld", (long long)n_heads,
                               (long long)cache->ne[0]);
    }
    if (in->params[2] & 8) return sh_infer_refuse(in, "keys of several axes do not move");
    if (!sh_infer_check_rope(in, cache->ne[0] / n_heads)) return false;
    if (!sh_infer_check_factors(in, factors) || !check_packed(in)) return false;
    sh_infer_set_like(in, cache);
    for (int i = 0; i < SH_MAX_DIMS; i++)
        in->out.nb[i] = cache->nb[i];
    in->out.view_offs = cache->view_offs;
    in->view_of = 0;
    return true;
}

/* ---- recurrent layers -----------------------------------------------------------------------*/

/* i32 [4,R] */
static bool is_states(const struct sh_tensor *t)
{
    return is_i32(t) && sh_dim_is(t, 0, 4) && sh_dims_end(t, 2);
}

bool sh_infer_state_conv(struct sh_infer *in)
{
    const struct sh_tensor *x = in->src[0], *w = in->src[1], *state = in->src[2];

    if (!is_f32(x) || !is_f32(w) || !is_f32(state)) return sh_infer_refuse_types(in);
    if (!sh_dim_fixed(x, 0) || !sh_dims_end(x, 2)) return refuse_shape(in, "x", 0);
    if (!fixed_dims(w, 2) || w->ne[0] < 1 || w->ne[1] != x->ne[0]) return refuse_shape(in, "w", 1);
    if (!fixed_dims(state, 3) || state->ne[0] != w->ne[0] - 1 || state->ne[1] != x->ne[0] ||
        !sh_tensor_contiguous(state)) {
        return refuse_shape(in, "the state", 2);
    }
    if (!is_states(in->src[3])) return refuse_shape(in, "states", 3);
    if (!check_packed(in)) return false;
    sh_infer_set_like(in, x);
    return true;
}

/* x [dh,nh,T], dt [nh,T], A [nh], B and C [ds,G,T], D [nh], bias [nh], state [ds,dh,nh,states] */
bool sh_infer_state_scan(struct sh_infer *in)
{
    const struct sh_tensor *x = in->src[0], *dt = in->src[1], *b = in->src[3], *state = in->src[7];

    for (int i = 0; i < 8; i++) {
        if (!is_f32(in->src[i])) return sh_infer_refuse_types(in);
    }
    if (!sh_dim_fixed(x, 0) || !sh_dim_fixed(x, 1) || !sh_dims_end(x, 3)) {
        return refuse_shape(in, "x", 0);
    }
    if (!sh_dim_same(dt, 0, x, 1) || !sh_dim_same(dt, 1, x, 2) || !sh_dims_end(dt, 2)) {
        return refuse_shape(in, "dt", 1);
    }
    for (int i = 2; i <= 6; i++) {
        const struct sh_tensor *t = in->src[i];
        if (i == 3 || i == 4) {
            if (!sh_dim_fixed(t, 0) || !sh_dim_fixed(t, 1) || t->ne[1] < 1 ||
                x->ne[1] % t->ne[1] != 0 || !sh_dim_same(t, 2, x, 2) || !sh_dims_end(t, 3) ||
                !sh_tensor_same_shape(t, b)) {
                return refuse_shape(in, i == 3 ? "B" : "C", i);
            }
        } else if (!fixed_dims(t, 1) || t->ne[0] != x->ne[1]) {
            return refuse_shape(in, i == 2 ? "A" : i == 5 ? "D" : "the bias", i);
        }
    }
    if (!fixed_dims(state, 4) || state->ne[0] != b->ne[0] || state->ne[1] != x->ne[0] ||
        state->ne[2] != x->ne[1] || !sh_tensor_contiguous(state)) {
        return refuse_shape(in, "the state", 7);
    }
    if (!is_states(in->src[8])) return refuse_shape(in, "states", 8);
    if (!check_packed(in)) return false;
    sh_infer_set_like(in, x);
    return true;
}

/* ---- products that are cut ------------------------------------------------------------------*/

/* How many subtree vectors the columns [begin, begin + n) of k give; -1 where they are not whole
 * segments. */
static int n_vectors(int64_t k, int64_t unit, int64_t begin, int64_t n)
{
    if (begin < 0 || n < 0 || begin > k || n > k - begin) return -1;
    const int segments = sh_segment_count(k, unit);
    const int lo = n ? sh_segment_at(k, unit, segments, begin) : 0;
    const int hi = n ? sh_segment_at(k, unit, segments, begin + n) : 0;
    if (lo < 0 || hi < 0) return -1;
    return sh_subtrees(segments, lo, hi, NULL, NULL);
}

/* The same after checking that the unit fits the whole and the type. */
static bool count_vectors(struct sh_infer *in, int64_t block_len, int64_t unit, int64_t whole,
                          int64_t begin, int64_t held)
{
    int n = -1;

    if (unit >= 1 && unit % block_len == 0 && whole >= 1 && whole % unit == 0) {
        n = n_vectors(whole, unit, begin, held);
    }
    if (n < 0) {
        return sh_infer_refuse(in, "%lld from %lld on, of %lld in units of %lld: not segments",
                               (long long)held, (long long)begin, (long long)whole,
                               (long long)unit);
    }
    in->out.ne[1] = n;
    return true;
}

/* w [K',M], x [K',T]: [M,n,T] */
bool sh_infer_mul_mat_part(struct sh_infer *in)
{
    const struct sh_tensor *w = in->src[0], *x = in->src[1];

    if (!sh_type_readable(w->dtype) || !is_f32(x)) return sh_infer_refuse_types(in);
    if (!fixed_dims(w, 2)) return refuse_shape(in, "w", 0);
    if (!sh_dim_is(x, 0, w->ne[0]) || !sh_dims_end(x, 2)) return refuse_shape(in, "x", 1);
    if (!count_vectors(in, sh_dtype_info(w->dtype)->block_len, in->params[0], in->params[1],
                       in->params[2], w->ne[0])) {
        return false;
    }
    if (!check_packed(in)) return false;
    sh_infer_set_dtype(in, SH_DTYPE_F32);
    sh_infer_set_dim(in, 0, w, 1);
    sh_infer_set_dim(in, 2, x, 1);
    return true;
}

/* scores [E,T]: ids [U,T] */
bool sh_infer_top_experts(struct sh_infer *in)
{
    const struct sh_tensor *scores = in->src[0];
    const int32_t n_used = in->params[0];

    if (!is_f32(scores)) return sh_infer_refuse_types(in);
    if (!sh_dim_fixed(scores, 0) || !sh_dims_end(scores, 2)) return refuse_shape(in, "scores", 0);
    if (n_used < 1 || n_used > scores->ne[0]) {
        return sh_infer_refuse(in, "%d of %lld experts", (int)n_used, (long long)scores->ne[0]);
    }
    if (!check_packed(in)) return false;
    sh_infer_set_dtype(in, SH_DTYPE_I32);
    in->out.ne[0] = n_used;
    sh_infer_set_dim(in, 1, scores, 1);
    return true;
}

/* w [f',D,E'], act [f',U,T], weights [U,T], ids [U,T]: [D,n,T] */
bool sh_infer_expert_down(struct sh_infer *in)
{
    const struct sh_tensor *w = in->src[0], *act = in->src[1];
    const struct sh_tensor *weights = in->src[2], *ids = in->src[3];
    const int64_t block_len = sh_dtype_info(w->dtype)->block_len;

    if (!sh_type_readable(w->dtype) || !is_f32(act) || !is_f32(weights) || !is_i32(ids)) {
        return sh_infer_refuse_types(in);
    }
    if (!fixed_dims(w, 3)) return refuse_shape(in, "w", 0);
    if (!sh_dim_is(act, 0, w->ne[0]) || !sh_dim_fixed(act, 1) || !sh_dims_end(act, 3)) {
        return refuse_shape(in, "act", 1);
    }
    for (int i = 2; i <= 3; i++) {
        const struct sh_tensor *t = in->src[i];
        if (!sh_dim_same(t, 0, act, 1) || !sh_dim_same(t, 1, act, 2) || !sh_dims_end(t, 2)) {
            return refuse_shape(in, i == 2 ? "weights" : "ids", i);
        }
    }
    if (in->params[0] == 0) {
        if (!count_vectors(in, block_len, in->params[1], in->params[2], in->params[3], w->ne[0])) {
            return false;
        }
    } else if (in->params[0] == 1) {
        if (!count_vectors(in, 1, 1, in->params[2], in->params[3], w->ne[2])) return false;
    } else {
        return sh_infer_refuse(in, "cut %d", (int)in->params[0]);
    }
    if (!check_packed(in)) return false;
    sh_infer_set_dtype(in, SH_DTYPE_F32);
    sh_infer_set_dim(in, 0, w, 1);
    sh_infer_set_dim(in, 2, act, 2);
    return true;
}

/* Is there a shard that holds exactly as many vectors of every operand as it brings? */
static bool some_shard_fits(const struct sh_infer *in, const struct sh_sum_operand *o, int n)
{
    for (int s = 0; s < o[0].n_shards; s++) {
        bool fits = true;
        for (int i = 0; i < n && fits; i++) {
            const int vectors =
                sh_subtrees(o[i].n_segments, o[i].border[s], o[i].border[s + 1], NULL, NULL);
            fits = sh_dim_is(in->src[i], 1, vectors);
        }
        if (fits) return true;
    }
    return false;
}

/* 1 to 3 operands [M,n,T]: [M,T] */
bool sh_infer_shard_sum(struct sh_infer *in)
{
    const struct sh_tensor *first = in->src[0];
    struct sh_sum_operand operand[3];
    int n = 0;

    for (int i = 0; i < 3; i++) {
        const struct sh_tensor *t = in->src[i];
        if (!t) continue;
        if (n != i) return sh_infer_refuse(in, "operand %d is missing", n);
        n++;
        if (!is_f32(t)) return sh_infer_refuse_types(in);
        if (!sh_dim_fixed(t, 0) || !sh_dim_same(t, 0, first, 0) || !sh_dim_same(t, 2, first, 2) ||
            !sh_dims_end(t, 3) || !sh_tensor_contiguous(t)) {
            return refuse_shape(in, "an operand", i);
        }
        if (!sh_sum_operand_unpack(in->params + 2 * (ptrdiff_t)i, &operand[i]) ||
            operand[i].n_shards != operand[0].n_shards) {
            return sh_infer_refuse(in, "operand %d: no lawful shares", i);
        }
    }
    if (!some_shard_fits(in, operand, n)) {
        return sh_infer_refuse(in, "no shard has these vectors");
    }
    sh_infer_set_dtype(in, SH_DTYPE_F32);
    sh_infer_set_dim(in, 0, first, 0);
    sh_infer_set_dim(in, 1, first, 2);
    return true;
}
