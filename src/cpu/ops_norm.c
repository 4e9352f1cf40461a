/* cpu/ops_norm.c - ops over whole rows of f32: norms, soft-max, sums.
 *
 * A row is one kernel call, so its reduction has the kernel's fixed tree however rows are shared
 * among threads.  Rows with gaps between their elements pass through a row of work memory.
 */
#include <math.h>
#include <string.h>

#include "cpu/ops_priv.h"

static bool has_gaps(const struct sh_cpu_tensor *t)
{
    return t->nb[0] != sizeof(float) && t->ne[0] > 1;
}

/* A row of f32 per thread. */
static enum shoal_status check_row(const struct sh_cpu_node *n, struct sh_cpu_need *need,
                                   struct shoal_error *err)
{
    if (!sh_cpu_add_work(&need->work, n->t->ne[0] * (int64_t)n->n_threads, sizeof(float)) ||
        !sh_cpu_add_work(&need->work, n->n_threads, 64)) {
        return sh_cpu_refuse_size(err);
    }
    return SHOAL_OK;
}

static float *thread_row(const struct sh_cpu_call *c, int thread)
{
    return sh_cpu_f32(c->work) + (size_t)thread * (size_t)c->dst.ne[0];
}

/* ---- norms ----------------------------------------------------------------------------------*/

static void norm_row(const struct sh_cpu_call *c, float *dst, const float *x)
{
    const float eps = sh_param_f32(c->t, 0);
    const int64_t n = c->dst.ne[0];

    switch (c->t->op) {
    case SH_OP_RMS_NORM:
        c->k->rms_norm(n, dst, x, eps);
        break;
    case SH_OP_NORM:
        c->k->layer_norm(n, dst, x, eps);
        break;
    default:
        c->k->l2_norm(n, dst, x, eps);
        break;
    }
}

static void norm_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct sh_cpu_call *c = arg;
    const struct sh_cpu_tensor *x = &c->src[0];
    const int64_t n = c->dst.ne[0];

    for (int64_t row = begin; row < end; row++) {
        uint8_t *from = sh_cpu_row(x, row), *to = sh_cpu_row(&c->dst, row);
        if (!has_gaps(x) && !has_gaps(&c->dst)) {
            norm_row(c, sh_cpu_f32(to), sh_cpu_f32(from));
            continue;
        }
        float *tmp = thread_row(c, thread);
        for (int64_t i = 0; i < n; i++)
            tmp[i] = *sh_cpu_f32(from + (size_t)i * x->nb[0]);
        norm_row(c, tmp, tmp);
        for (int64_t i = 0; i < n; i++)
            *sh_cpu_f32(to + (size_t)i * c->dst.nb[0]) = tmp[i];
    }
}

static enum shoal_status run_norm(struct sh_cpu_call *c, struct shoal_error *err)
{
    (void)err;
    sh_pool_for(c->pool, sh_cpu_rows(&c->dst), sh_cpu_chunk(c->dst.ne[0]), norm_rows, c);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_NORM = {.check = check_row, .run = run_norm};
const struct sh_cpu_op sh_cpu_op_RMS_NORM = {.check = check_row, .run = run_norm};
const struct sh_cpu_op sh_cpu_op_L2_NORM = {.check = check_row, .run = run_norm};

/* ---- soft-max -------------------------------------------------------------------------------*/

static void soft_max_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct sh_cpu_call *c = arg;
    const struct sh_cpu_tensor *mask = &c->src[1], *sinks = &c->src[2];
    const float scale = sh_param_f32(c->t, 0), max_bias = sh_param_f32(c->t, 1);
    const int64_t n = c->dst.ne[0];

    for (int64_t row = begin; row < end; row++) {
        const struct sh_cpu_index at = sh_cpu_index_of(&c->dst, row);
        const float *m = NULL, *sink = NULL;
        if (mask->data) {
            m = sh_cpu_load(c->k, mask->dtype,
                            sh_cpu_at(mask, at.i1, at.i2 % mask->ne[2], at.i3 % mask->ne[3]),
                            mask->nb[0], n, thread_row(c, thread));
        }
        if (sinks->data) sink = sh_cpu_f32(sinks->data + (size_t)at.i2 * sinks->nb[0]);
        c->k->soft_max(n, sh_cpu_f32(sh_cpu_row(&c->dst, row)),
                       sh_cpu_f32(sh_cpu_at(&c->src[0], at.i1, at.i2, at.i3)), scale, m,
                       sh_cpu_slope(at.i2, c->dst.ne[2], max_bias), sink);
    }
}

static enum shoal_status run_soft_max(struct sh_cpu_call *c, struct shoal_error *err)
{
    (void)err;
    sh_pool_for(c->pool, sh_cpu_rows(&c->dst), sh_cpu_chunk(4 * c->dst.ne[0]), soft_max_rows, c);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_SOFT_MAX = {.check = check_row, .run = run_soft_max};

/* 2^-y for y >= 0 by exact steps and correctly rounded roots, so that it is the same everywhere. */
static double exp2_minus(double y)
{
    const double whole = floor(y);
    double rest = y - whole, root = 0.5, result = ldexp(1.0, whole < 1074 ? -(int)whole : -1074);

    for (int i = 0; i < 40; i++) { // root = 2^-(2^-i-1)
        root = sqrt(root);
        rest *= 2;
        if (rest >= 1) {
            rest -= 1;
            result *= root;
        }
    }
    return result;
}

float sh_cpu_slope(int64_t head, int64_t n_heads, float max_bias)
{
    int64_t n = 1;

    if (!(max_bias > 0)) return 1.0f;
    while (n * 2 <= n_heads)
        n *= 2;
    if (head < n) return (float)exp2_minus((double)max_bias / (double)n * (double)(head + 1));
    return (float)exp2_minus((double)max_bias / (double)(2 * n) * (double)(2 * (head - n) + 1));
}

/* ---- sums over rows -------------------------------------------------------------------------*/

static void sum_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct sh_cpu_call *c = arg;

    (void)thread;
    for (int64_t row = begin; row < end; row++)
        *sh_cpu_f32(sh_cpu_row(&c->dst, row)) =
            c->k->sum(c->src[0].ne[0], sh_cpu_f32(sh_cpu_row(&c->src[0], row)));
}

static enum shoal_status run_sum_rows(struct sh_cpu_call *c, struct shoal_error *err)
{
    (void)err;
    sh_pool_for(c->pool, sh_cpu_rows(&c->src[0]), sh_cpu_chunk(c->src[0].ne[0]), sum_rows, c);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_SUM_ROWS = {.run = run_sum_rows};
