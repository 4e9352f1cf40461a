/* cpu/ops_sum.c - SHARD_SUM: the trees of up to three partial results, finished over all shards.
 *
 * Operand p of shard s is [M, vectors, T]: one vector per complete subtree of the segments that
 * shard s holds.  Each tree is finished in its own order, the roots are added in operand order.
 */
#include "cpu/sum_priv.h"

#define OPERANDS_MAX 3

/* One operand: every shard's vectors, ascending by segment. */
struct operand {
    int n_segments, n_vectors;
    int lo[SH_SEGMENTS_MAX], hi[SH_SEGMENTS_MAX];
    const float *base[SH_SEGMENTS_MAX]; /* vector i of row 0 */
    size_t stride[SH_SEGMENTS_MAX];     /* floats from row to row */
};

struct sum {
    struct sh_cpu_call *c;
    int n;
    struct operand operands[OPERANDS_MAX];
};

static int count_operands(const struct sh_cpu_call *c)
{
    int n = 0;

    while (n < OPERANDS_MAX && c->src[n].data)
        n++;
    return n;
}

static struct sh_sum_operand shares_of(const struct sh_cpu_call *c, int i)
{
    struct sh_sum_operand o;
    const bool ok = sh_sum_operand_unpack(c->t->params + 2 * (ptrdiff_t)i, &o);

    SH_ASSERT(ok); // the validator has unpacked it
    return o;
}

/* Does this shard bring as many vectors as its share has subtrees? */
static enum shoal_status check_share(const struct sh_cpu_call *c, int i, int rank,
                                     struct shoal_error *err)
{
    const struct sh_sum_operand o = shares_of(c, i);
    const int want = sh_subtrees(o.n_segments, o.border[rank], o.border[rank + 1], NULL, NULL);

    if (c->src[i].ne[1] == want) return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_FORMAT, "shard %d brings %lld vectors of operand %d, not %d",
                   rank, (long long)c->src[i].ne[1], i, want);
}

enum shoal_status sh_cpu_sum_start(struct sh_cpu_call *c, int sum, struct shoal_error *err)
{
    struct sh_collective *col = c->run->collective;
    struct sh_sum_part parts[OPERANDS_MAX];
    const int n = count_operands(c);

    for (int i = 0; i < n; i++) {
        const struct sh_sum_operand o = shares_of(c, i);
        enum shoal_status st;
        if (o.n_shards != col->n_shards || col->rank < 0 || col->rank >= o.n_shards) {
            return sh_fail(err, SHOAL_ERR_FORMAT, "operand %d is cut for %d shards, there are %d",
                           i, o.n_shards, col->n_shards);
        }
        st = check_share(c, i, col->rank, err);
        if (st) return st;
        parts[i] = (struct sh_sum_part){.data = sh_cpu_f32(c->src[i].data),
                                        .n_elem = c->src[i].ne[0],
                                        .n_vec = c->src[i].ne[1],
                                        .n_rows = c->src[i].ne[2]};
    }
    return col->ops->start(col, sum, n, parts, err);
}

/* Add shard `rank`'s vectors, which lie at `data` as [row][vector][M]. */
static void add_vectors(struct operand *o, const struct sh_sum_operand *shares, int rank,
                        const float *data, int64_t n_elem)
{
    const int n = sh_subtrees(shares->n_segments, shares->border[rank], shares->border[rank + 1],
                              o->lo + o->n_vectors, o->hi + o->n_vectors);

    for (int v = 0; v < n; v++) {
        o->base[o->n_vectors] = data + (size_t)v * (size_t)n_elem;
        o->stride[o->n_vectors] = (size_t)n * (size_t)n_elem;
        o->n_vectors++;
    }
}

static void finish_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct sum *s = arg;
    const struct sh_cpu_call *c = s->c;
    const int64_t n_elem = c->dst.ne[0];
    float *root = sh_cpu_f32(c->work) + (int64_t)thread * n_elem;

    for (int64_t row = begin; row < end; row++) {
        float *dst = sh_cpu_f32(sh_cpu_at(&c->dst, row, 0, 0));
        for (int i = 0; i < s->n; i++) {
            const struct operand *o = &s->operands[i];
            const float *vec[SH_SEGMENTS_MAX];
            for (int v = 0; v < o->n_vectors; v++)
                vec[v] = o->base[v] + (size_t)row * o->stride[v];
            sh_tree_finish(o->n_segments, o->n_vectors, o->lo, o->hi, vec, n_elem,
                           i == 0 ? dst : root);
            if (i > 0) c->k->add(n_elem, dst, dst, root);
        }
    }
}

static void finish(struct sum *s)
{
    sh_pool_for(s->c->pool, s->c->dst.ne[1], sh_cpu_chunk(8 * s->c->dst.ne[0]), finish_rows, s);
}

enum shoal_status sh_cpu_sum_finish(struct sh_cpu_call *c, int sum, struct shoal_error *err)
{
    struct sh_collective *col = c->run->collective;
    struct sum s = {.c = c, .n = count_operands(c)};

    for (int i = 0; i < s.n; i++) {
        const struct sh_sum_operand shares = shares_of(c, i);
        s.operands[i].n_segments = shares.n_segments;
        for (int rank = 0; rank < shares.n_shards; rank++) {
            const float *data =
                rank == col->rank ? sh_cpu_f32(c->src[i].data) : col->ops->peer(col, sum, i, rank);
            const bool any = shares.border[rank] < shares.border[rank + 1];
            if (any && !data) {
                return sh_fail(err, SHOAL_ERR_STATE, "shard %d brought no operand %d", rank, i);
            }
            if (any) add_vectors(&s.operands[i], &shares, rank, data, c->dst.ne[0]);
        }
    }
    finish(&s);
    return SHOAL_OK;
}

/* Without other shards the own vectors are all there is. */
static enum shoal_status run_alone(struct sh_cpu_call *c, struct shoal_error *err)
{
    struct sum s = {.c = c, .n = count_operands(c)};

    for (int i = 0; i < s.n; i++) {
        const struct sh_sum_operand shares = shares_of(c, i);
        enum shoal_status st = check_share(c, i, 0, err);
        if (st) return st;
        s.operands[i].n_segments = shares.n_segments;
        add_vectors(&s.operands[i], &shares, 0, sh_cpu_f32(c->src[i].data), c->dst.ne[0]);
    }
    finish(&s);
    return SHOAL_OK;
}

static enum shoal_status check_sum(const struct sh_cpu_node *n, struct sh_cpu_need *need,
                                   struct shoal_error *err)
{
    if (!sh_cpu_add_work(&need->work, n->t->ne[0] * n->n_threads, sizeof(float)))
        return sh_cpu_refuse_size(err);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_SHARD_SUM = {.check = check_sum, .run = run_alone};
