/* cpu/ops_experts.c - MUL_MAT_ID and EXPERT_DOWN: products with the experts that rows chose.
 *
 * The choices (token t, place u, expert e) of a block of tokens are put in order of expert, then
 * token, then place; activation rows are stored in that order, so that the rows of one expert are
 * one product.  The order is also that in which EXPERT_DOWN adds: a token's experts ascending.
 */
#include <string.h>

#include "cpu/product_priv.h"

#define TOKENS_OF_SUM 128 // of a block of EXPERT_DOWN: its accumulators stay in the cache
#define RUN_MAX 64        // rows of one expert at a time

struct choice {
    int32_t expert; // as stored in w; -1: not held
    int32_t token, place;
};

struct experts {
    const struct sh_cpu_call *c;
    struct sh_cpu_weight weight;
    struct sh_cpu_cut cut; // of MUL_MAT_ID and of experts cut by width
    bool by_experts;       // EXPERT_DOWN: segments are groups of experts
    int n_groups;          // then: of all experts
    int64_t n_experts, first, n_all;
    int64_t n_used, n_tokens, n_block; // tokens per block
    int64_t n_out, block_out;
    struct choice *choices; // block after block
    int32_t *start;         // of each expert, while sorting
    uint8_t *act;           // rows in order of choices
    uint8_t *rows;          // rows of x, where they serve several choices
    float *tmp;
    size_t tmp_stride;
};

/* ---- order ----------------------------------------------------------------------------------*/

static int32_t held_expert(const struct experts *e, int64_t t, int64_t u)
{
    const struct sh_cpu_tensor *ids =
        e->c->t->op == SH_OP_MUL_MAT_ID ? &e->c->src[2] : &e->c->src[3];
    const int64_t id = (int64_t)sh_cpu_i32(ids, u, t, 0) - e->first;

    return id >= 0 && id < e->n_experts ? (int32_t)id : -1;
}

/* Counting sort of the choices of tokens [t0, t1); those not held come first. */
static void sort_block(struct experts *e, int64_t t0, int64_t t1)
{
    struct choice *out = e->choices + t0 * e->n_used;
    int32_t at = 0;

    memset(e->start, 0, (size_t)(e->n_experts + 1) * sizeof *e->start);
    for (int64_t t = t0; t < t1; t++) {
        for (int64_t u = 0; u < e->n_used; u++)
            e->start[held_expert(e, t, u) + 1]++;
    }
    for (int64_t i = 0; i <= e->n_experts; i++) {
        const int32_t n = e->start[i];
        e->start[i] = at;
        at += n;
    }
    for (int64_t t = t0; t < t1; t++) {
        for (int64_t u = 0; u < e->n_used; u++) {
            const int32_t id = held_expert(e, t, u);
            out[e->start[id + 1]++] = (struct choice){id, (int32_t)t, (int32_t)u};
        }
    }
}

static void sort_choices(struct experts *e)
{
    for (int64_t t = 0; t < e->n_tokens; t += e->n_block)
        sort_block(e, t, e->n_tokens - t < e->n_block ? e->n_tokens : t + e->n_block);
}

/* How many choices from i on are of one expert, at most RUN_MAX. */
static int64_t run_length(const struct experts *e, int64_t i, int64_t end)
{
    int64_t n = 1;

    while (i + n < end && n < RUN_MAX && e->choices[i + n].expert == e->choices[i].expert)
        n++;
    return n;
}

/* Activation rows in order of choices: rounded where each serves one, else copied. */
static void gather_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct experts *e = arg;
    const struct sh_cpu_tensor *x = &e->c->src[1];
    const size_t bytes = e->weight.act_bytes;

    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const struct choice *ch = &e->choices[i];
        const int64_t b = ch->place % x->ne[1];
        if (ch->expert < 0) continue;
        if (e->rows) {
            memcpy(e->act + (size_t)i * bytes, e->rows + (size_t)(ch->token * x->ne[1] + b) * bytes,
                   bytes);
        } else {
            e->weight.act(e->weight.k, e->act + (size_t)i * bytes,
                          sh_cpu_f32(sh_cpu_at(x, b, ch->token, 0)));
        }
    }
}

static void gather(struct experts *e, float *row)
{
    const struct sh_cpu_tensor *x = &e->c->src[1];

    if (e->rows) sh_cpu_round_rows(e->c, &e->weight, x, e->rows, row);
    sh_pool_for(e->c->pool, e->n_tokens * e->n_used, sh_cpu_chunk(4 * e->weight.k), gather_rows, e);
}

/* ---- what both ops need ---------------------------------------------------------------------*/

static int64_t clamp_block_out(const struct sh_cpu_weight *w, int64_t n_out, int64_t n_act,
                               int n_threads)
{
    const struct sh_cpu_blocks b =
        sh_cpu_blocks_of(w, n_out, n_act < RUN_MAX ? n_act : RUN_MAX, n_threads);

    return b.n_out < SH_CPU_BLOCK_OUT_MAX / 4 ? b.n_out : SH_CPU_BLOCK_OUT_MAX / 4;
}

static void init_experts(struct experts *e, const struct sh_tensor *t, const struct sh_tensor *w)
{
    if (t->op == SH_OP_MUL_MAT_ID) {
        e->first = t->params[12] > 0 ? t->params[12] - 1 : 0;
        e->n_all = t->params[12] > 0 ? INT64_MAX : w->ne[2];
        sh_cpu_cut_columns(&e->cut, w->ne[0], t->params[15], 0, w->ne[0]);
    } else if (t->params[0] == 0) {
        e->n_all = w->ne[2];
        sh_cpu_cut_columns(&e->cut, t->params[2], t->params[1], t->params[3], w->ne[0]);
    } else {
        e->by_experts = true;
        e->first = t->params[3];
        e->n_all = t->params[2];
        e->n_groups = sh_segment_count(t->params[2], 1);
        sh_cpu_cut_columns(&e->cut, t->params[2], 1, t->params[3], w->ne[2]);
    }
    e->n_experts = w->ne[2];
}

/* Floats of a thread: products of a run, segments of a block or accumulators. */
static size_t thread_floats(const struct experts *e, bool sums)
{
    const size_t out = SH_CPU_BLOCK_OUT_MAX / 4;
    const size_t run = out * RUN_MAX;

    if (sums) return run + (size_t)e->cut.n_held * TOKENS_OF_SUM * out;
    return run + (size_t)e->cut.n_held * run;
}

static enum shoal_status check_experts(const struct sh_cpu_node *n, struct sh_cpu_need *need,
                                       struct shoal_error *err)
{
    const bool sums = n->t->op == SH_OP_EXPERT_DOWN;
    const struct sh_tensor *w = n->src[0], *x = n->src[1], *ids = n->src[sums ? 3 : 2];
    const int64_t n_choices = sh_tensor_elements(ids);
    struct experts e = {.by_experts = false};
    enum shoal_status st = sh_cpu_weight_check(n->k, w, err);

    if (st) return st;
    if (n_choices > INT32_MAX || w->ne[2] > INT32_MAX - 1) return sh_cpu_refuse_size(err);
    sh_cpu_weight_init(&e.weight, n->k, w->dtype, w->ne[0]);
    init_experts(&e, n->t, w);
    if (!sh_cpu_add_work(&need->work, n_choices, sizeof *e.choices) ||
        !sh_cpu_add_work(&need->work, w->ne[2] + 1, sizeof *e.start) ||
        !sh_cpu_add_work(&need->work, n_choices, e.weight.act_bytes) ||
        !sh_cpu_add_work(&need->work, sh_tensor_rows(x), e.weight.act_bytes) ||
        !sh_cpu_add_work(&need->work, n->n_threads * w->ne[0], sizeof(float)) ||
        !sh_cpu_add_work(&need->work, n->n_threads, thread_floats(&e, sums) * sizeof(float))) {
        return sh_cpu_refuse_size(err);
    }
    return SHOAL_OK;
}

static enum shoal_status prepare(struct experts *e, const struct sh_cpu_call *c,
                                 const struct sh_cpu_tensor *ids, struct shoal_error *err)
{
    const bool sums = c->t->op == SH_OP_EXPERT_DOWN;
    const struct sh_cpu_tensor *x = &c->src[1];
    const int64_t n_choices = ids->ne[0] * ids->ne[1];
    const struct sh_tensor *w = sh_graph_tensor(c->run->x->g, c->t->src[0]);
    uint8_t *work = c->work;
    enum shoal_status st;
    float *row;

    *e = (struct experts){.c = c,
                          .n_used = ids->ne[0],
                          .n_tokens = ids->ne[1],
                          .n_block = sums ? TOKENS_OF_SUM : ids->ne[1],
                          .n_out = w->ne[1]};
    sh_cpu_weight_init(&e->weight, c->k, w->dtype, w->ne[0]);
    init_experts(e, c->t, w);
    if (e->n_all != INT64_MAX) {
        st = sh_cpu_check_index(ids, e->n_all, err);
        if (st) return st;
    }
    e->choices = (struct choice *)(void *)sh_cpu_take_work(&work, n_choices, sizeof *e->choices);
    e->start = (int32_t *)(void *)sh_cpu_take_work(&work, e->n_experts + 1, sizeof *e->start);
    e->act = sh_cpu_take_work(&work, n_choices, e->weight.act_bytes);
    e->rows = sh_cpu_take_work(&work, sh_cpu_rows(x), e->weight.act_bytes);
    row = sh_cpu_f32(sh_cpu_take_work(&work, c->n_threads * e->weight.k, sizeof(float)));
    e->tmp_stride = thread_floats(e, sums);
    e->tmp = sh_cpu_f32(sh_cpu_take_work(&work, c->n_threads, e->tmp_stride * sizeof(float)));
    if (x->dtype == SH_DTYPE_F32 && x->ne[1] == e->n_used) e->rows = NULL; // one row per choice
    e->block_out =
        clamp_block_out(&e->weight, e->n_out, n_choices / (e->n_experts + 1) + 1, c->n_threads);
    sort_choices(e);
    gather(e, row);
    return SHOAL_OK;
}

static const uint8_t *weight_rows(const struct experts *e, int32_t expert, int64_t o)
{
    return sh_cpu_at(&e->c->src[0], o, expert, 0);
}

static int64_t blocks_out(const struct experts *e)
{
    return (e->n_out + e->block_out - 1) / e->block_out;
}

/* ---- MUL_MAT_ID -----------------------------------------------------------------------------*/

/* Outputs [o, o + n_out) of `n` choices from i on, all of one expert. */
static void product_of_run(const struct experts *e, int64_t i, int64_t n, int64_t o, int64_t n_out,
                           float *tmp)
{
    const struct sh_cpu_tensor *d = &e->c->dst;
    const struct choice *ch = e->choices + i;
    const bool direct = n == 1;
    float *first = sh_cpu_f32(sh_cpu_at(d, ch->place, ch->token, 0)) + o;

    if (ch->expert < 0) {
        for (int64_t j = 0; j < n; j++)
            memset(sh_cpu_f32(sh_cpu_at(d, ch[j].place, ch[j].token, 0)) + o, 0,
                   (size_t)n_out * sizeof(float));
        return;
    }
    sh_cpu_block(e->c->k, &e->weight, &e->cut, n_out, weight_rows(e, ch->expert, o),
                 e->c->src[0].nb[1], n, e->act + (size_t)i * e->weight.act_bytes,
                 direct ? first : tmp, (size_t)n_out, 0, tmp + n * n_out);
    for (int64_t j = 0; j < n && !direct; j++)
        memcpy(sh_cpu_f32(sh_cpu_at(d, ch[j].place, ch[j].token, 0)) + o, tmp + j * n_out,
               (size_t)n_out * sizeof(float));
}

static void mul_mat_id_tasks(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct experts *e = arg;
    const int64_t n_choices = e->n_tokens * e->n_used;

    for (int64_t task = begin; task < end; task++) {
        const int64_t o = task * e->block_out;
        const int64_t n_out = e->n_out - o < e->block_out ? e->n_out - o : e->block_out;
        for (int64_t i = 0, n; i < n_choices; i += n) {
            n = run_length(e, i, n_choices);
            product_of_run(e, i, n, o, n_out, e->tmp + (size_t)thread * e->tmp_stride);
        }
    }
}

static enum shoal_status run_mul_mat_id(struct sh_cpu_call *c, struct shoal_error *err)
{
    struct experts e;
    enum shoal_status st = prepare(&e, c, &c->src[2], err);

    if (st) return st;
    sh_pool_for(c->pool, blocks_out(&e), 1, mul_mat_id_tasks, &e);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_MUL_MAT_ID = {.check = check_experts, .run = run_mul_mat_id};

/* ---- EXPERT_DOWN ----------------------------------------------------------------------------*/

/* One block of EXPERT_DOWN: accumulators [segment][token][output]. */
struct sums {
    const struct experts *e;
    int64_t t0, n_tokens, o, n_out;
    float *products; // of a run and a segment
    float *acc;
};

static float *accumulator(const struct sums *s, int segment, int64_t token)
{
    return s->acc + (segment * s->n_tokens + token - s->t0) * s->n_out;
}

/* Group of consecutive experts that expert e of all belongs to, counted from the first held. */
static int group_of(const struct experts *e, int64_t expert)
{
    int g = 0;

    while (g + 1 < e->cut.n_held && expert >= e->cut.border[g + 1])
        g++;
    return g;
}

static void add_run(const struct sums *s, int64_t i, int64_t n)
{
    const struct experts *e = s->e;
    const struct choice *ch = e->choices + i;
    const struct sh_cpu_tensor *weights = &e->c->src[2];
    const int begin = e->by_experts ? group_of(e, ch->expert) : 0;
    const int end = e->by_experts ? begin + 1 : e->cut.n_held;

    for (int g = begin; g < end; g++) {
        const int64_t k0 = e->by_experts ? 0 : e->cut.border[g];
        const int64_t k1 = e->by_experts ? e->weight.k : e->cut.border[g + 1];
        sh_cpu_multiply(&e->weight, k0, k1, s->n_out, n, s->products, (size_t)s->n_out,
                        weight_rows(e, ch->expert, s->o), e->c->src[0].nb[1],
                        e->act + (size_t)i * e->weight.act_bytes);
        for (int64_t j = 0; j < n; j++) {
            const float weight = *sh_cpu_f32(weights->data + (size_t)ch[j].place * weights->nb[0] +
                                             (size_t)ch[j].token * weights->nb[1]);
            e->c->k->add_scaled(s->n_out, accumulator(s, g, ch[j].token),
                                s->products + j * s->n_out, weight);
        }
    }
}

static void finish_block(const struct sums *s)
{
    const struct experts *e = s->e;
    const int64_t segment = s->n_tokens * s->n_out;

    for (int v = 0; v < e->cut.n_vectors; v++) {
        const int lo = e->cut.lo[v];
        sh_cpu_add_tree(e->c->k, e->cut.hi[v] - lo, segment, s->acc + lo * segment,
                        (size_t)segment);
        for (int64_t t = s->t0; t < s->t0 + s->n_tokens; t++)
            memcpy(sh_cpu_f32(sh_cpu_at(&e->c->dst, v, t, 0)) + s->o, accumulator(s, lo, t),
                   (size_t)s->n_out * sizeof(float));
    }
}

static void expert_down_tasks(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct experts *e = arg;
    const int64_t n_blocks = blocks_out(e);

    for (int64_t task = begin; task < end; task++) {
        struct sums s = {.e = e, .t0 = task / n_blocks * e->n_block};
        s.n_tokens = e->n_tokens - s.t0 < e->n_block ? e->n_tokens - s.t0 : e->n_block;
        s.o = task % n_blocks * e->block_out;
        s.n_out = e->n_out - s.o < e->block_out ? e->n_out - s.o : e->block_out;
        s.products = e->tmp + (size_t)thread * e->tmp_stride;
        s.acc = s.products + RUN_MAX * s.n_out;
        memset(s.acc, 0, (size_t)(e->cut.n_held * s.n_tokens * s.n_out) * sizeof(float));
        const int64_t last = (s.t0 + s.n_tokens) * e->n_used;
        for (int64_t i = s.t0 * e->n_used, n; i < last; i += n) {
            n = run_length(e, i, last);
            if (e->choices[i].expert >= 0) add_run(&s, i, n);
        }
        finish_block(&s);
    }
}

static enum shoal_status run_expert_down(struct sh_cpu_call *c, struct shoal_error *err)
{
    struct experts e;
    enum shoal_status st = prepare(&e, c, &c->src[3], err);

    if (st) return st;
    sh_pool_for(c->pool, blocks_out(&e) * ((e.n_tokens + e.n_block - 1) / e.n_block), 1,
                expert_down_tasks, &e);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_EXPERT_DOWN = {.check = check_experts, .run = run_expert_down};
