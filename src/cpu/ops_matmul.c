/* cpu/ops_matmul.c - MUL_MAT and MUL_MAT_PART.
 *
 * Rows of x are rounded to the weight's partner type once and kept for other products of the same
 * x.  Planes of x that share a plane of w follow each other, so they are one product with more
 * rows: a group.  Each block of a group is a task of the pool.
 */
#include "cpu/product_priv.h"

struct product {
    const struct sh_cpu_call *c;
    struct sh_cpu_weight weight;
    struct sh_cpu_cut cut;
    struct sh_cpu_blocks block;
    int64_t n_out, n_act; /* of a group */
    int64_t n_out_blocks, n_act_blocks;
    size_t dst_stride, vector_stride; /* floats */
    const uint8_t *act;
    float *tmp;
    size_t tmp_stride;
};

/* Group g: plane i2 = g % w.ne2 of w, i3 = g / w.ne2 of x. */
static void product_tasks(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct product *p = arg;
    const struct sh_cpu_tensor *w = &p->c->src[0], *x = &p->c->src[1];
    float *dst = sh_cpu_f32(p->c->dst.data);

    for (int64_t task = begin; task < end; task++) {
        const int64_t a = task % p->n_act_blocks * p->block.n_act;
        const int64_t rest = task / p->n_act_blocks;
        const int64_t o = rest % p->n_out_blocks * p->block.n_out, g = rest / p->n_out_blocks;
        const int64_t n_act = p->n_act - a < p->block.n_act ? p->n_act - a : p->block.n_act;
        const int64_t n_out = p->n_out - o < p->block.n_out ? p->n_out - o : p->block.n_out;
        const int64_t i2 = g % w->ne[2], i3 = g / w->ne[2];
        const int64_t row = g * p->n_act + a; // of x, of act and of dst
        sh_cpu_block(p->c->k, &p->weight, &p->cut, n_out,
                     sh_cpu_at(w, o, i2, i3 / (x->ne[3] / w->ne[3])), w->nb[1], n_act,
                     p->act + (size_t)row * p->weight.act_bytes,
                     dst + (size_t)row * p->dst_stride + o, p->dst_stride, p->vector_stride,
                     p->tmp + (size_t)thread * p->tmp_stride);
    }
}

static size_t tmp_floats(const struct sh_cpu_cut *cut)
{
    return cut->n_vectors == cut->n_held ? 16 : (size_t)cut->n_held * SH_CPU_BLOCK_MAX;
}

static void cut_of(const struct sh_tensor *t, int64_t k, struct sh_cpu_cut *cut)
{
    if (t->op == SH_OP_MUL_MAT_PART) {
        sh_cpu_cut_columns(cut, t->params[1], t->params[0], t->params[2], k);
    } else {
        sh_cpu_cut_columns(cut, k, t->params[15], 0, k);
    }
}

static enum shoal_status check_product(const struct sh_cpu_node *n, struct sh_cpu_need *need,
                                       struct shoal_error *err)
{
    const struct sh_tensor *w = n->src[0], *x = n->src[1];
    struct sh_cpu_weight weight;
    struct sh_cpu_cut cut;
    enum shoal_status st = sh_cpu_weight_check(n->k, w, err);

    if (st) return st;
    if (!sh_cpu_loads(n->k, x->dtype)) return sh_cpu_refuse_type(x, "rows", err);
    sh_cpu_weight_init(&weight, n->k, w->dtype, w->ne[0]);
    cut_of(n->t, w->ne[0], &cut);
    if (!sh_cpu_add_work(&need->shared, sh_tensor_rows(x), weight.act_bytes) ||
        !sh_cpu_add_work(&need->work, n->n_threads, tmp_floats(&cut) * sizeof(float)) ||
        (x->dtype != SH_DTYPE_F32 &&
         !sh_cpu_add_work(&need->work, n->n_threads * w->ne[0], sizeof(float)))) {
        return sh_cpu_refuse_size(err);
    }
    return SHOAL_OK;
}

static bool product_shares(const struct sh_cpu_node *a, const struct sh_cpu_node *b)
{
    return sh_cpu_partner(a->k, a->src[0]->dtype) == sh_cpu_partner(b->k, b->src[0]->dtype);
}

static enum shoal_status run_product(struct sh_cpu_call *c, struct shoal_error *err)
{
    const struct sh_cpu_tensor *w = &c->src[0], *x = &c->src[1];
    const int64_t n_groups = w->ne[2] * x->ne[3];
    struct product p = {.c = c, .n_out = w->ne[1], .n_act = sh_cpu_rows(x) / n_groups};
    uint8_t *work = c->work;
    float *row = NULL;

    (void)err;
    sh_cpu_weight_init(&p.weight, c->k, w->dtype, w->ne[0]);
    cut_of(c->t, w->ne[0], &p.cut);
    p.tmp_stride = tmp_floats(&p.cut);
    p.tmp = sh_cpu_f32(sh_cpu_take_work(&work, c->n_threads, p.tmp_stride * sizeof(float)));
    if (x->dtype != SH_DTYPE_F32)
        row = sh_cpu_f32(sh_cpu_take_work(&work, c->n_threads * w->ne[0], sizeof(float)));
    if (!c->shared_ready) sh_cpu_round_rows(c, &p.weight, x, c->shared, row);

    p.act = c->shared;
    p.dst_stride = (size_t)(p.n_out * p.cut.n_vectors);
    p.vector_stride = (size_t)p.n_out;
    p.block = sh_cpu_blocks_of(&p.weight, p.n_out, p.n_act, c->n_threads);
    p.n_out_blocks = (p.n_out + p.block.n_out - 1) / p.block.n_out;
    p.n_act_blocks = (p.n_act + p.block.n_act - 1) / p.block.n_act;
    sh_pool_for(c->pool, n_groups * p.n_out_blocks * p.n_act_blocks, 1, product_tasks, &p);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_MUL_MAT = {.check = check_product,
                                            .run = run_product,
                                            .share = SH_CPU_SHARE_LAST,
                                            .share_operands = 1u << 1,
                                            .shares = product_shares};
const struct sh_cpu_op sh_cpu_op_MUL_MAT_PART = {.check = check_product,
                                                 .run = run_product,
                                                 .share = SH_CPU_SHARE_LAST,
                                                 .share_operands = 1u << 1,
                                                 .shares = product_shares};
