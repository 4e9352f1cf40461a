/* cpu/ops_sort.c - ops that order the elements of a row: ARGSORT, TOP_K, TOP_EXPERTS, ARGMAX.
 *
 * Order is total, so that every machine finds the same: NaN counts as -inf, and of equal values
 * the lower index comes first.  Sorting is a merge sort from runs of one; the best k of n are kept
 * in a heap whose top is the worst of them.
 */
#include <math.h>

#include "cpu/ops_priv.h"

static float key_of(const float *x, int32_t i)
{
    return x[i] == x[i] ? x[i] : -INFINITY;
}

/* Does index a come before b?  sign 1: larger values first, -1: smaller first. */
static bool before(const float *x, int32_t a, int32_t b, int sign)
{
    const float va = key_of(x, a), vb = key_of(x, b);

    if (va != vb) return sign > 0 ? va > vb : va < vb;
    return a < b;
}

static void merge(const float *x, int sign, const int32_t *from, int64_t mid, int64_t end,
                  int32_t *to)
{
    int64_t a = 0, b = mid;

    for (int64_t i = 0; i < end; i++) {
        if (b >= end || (a < mid && !before(x, from[b], from[a], sign))) {
            to[i] = from[a++];
        } else {
            to[i] = from[b++];
        }
    }
}

/* Indices of x in order; the result is in one of the two arrays, which is returned. */
static int32_t *sort_indices(const float *x, int64_t n, int sign, int32_t *ids, int32_t *spare)
{
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)i;
    for (int64_t len = 1; len < n; len *= 2) {
        int32_t *const swap = ids;
        for (int64_t at = 0; at < n; at += 2 * len) {
            const int64_t left = n - at;
            merge(x, sign, ids + at, left < len ? left : len, left < 2 * len ? left : 2 * len,
                  spare + at);
        }
        ids = spare;
        spare = swap;
    }
    return ids;
}

/* The n best of a heap's order: heap[0] is the worst kept.  Restore the order below `at`. */
static void sift_down(const float *x, int32_t *heap, int64_t n, int64_t at)
{
    for (;;) {
        int64_t worst = at;
        for (int64_t child = 2 * at + 1; child <= 2 * at + 2 && child < n; child++) {
            if (before(x, heap[worst], heap[child], 1)) worst = child;
        }
        if (worst == at) return;
        const int32_t swap = heap[at];
        heap[at] = heap[worst];
        heap[worst] = swap;
        at = worst;
    }
}

/* The k largest of n, in no order. */
static void keep_largest(const float *x, int64_t n, int64_t k, int32_t *heap)
{
    for (int64_t i = 0; i < k; i++)
        heap[i] = (int32_t)i;
    for (int64_t i = k / 2; i-- > 0;)
        sift_down(x, heap, k, i);
    for (int64_t i = k; i < n; i++) {
        if (!before(x, (int32_t)i, heap[0], 1)) continue;
        heap[0] = (int32_t)i;
        sift_down(x, heap, k, 0);
    }
}

/* Take the worst off the heap again and again: what remains is sorted, best first. */
static void sort_heap(const float *x, int32_t *heap, int64_t k)
{
    for (int64_t n = k; n > 1; n--) {
        const int32_t swap = heap[0];
        heap[0] = heap[n - 1];
        heap[n - 1] = swap;
        sift_down(x, heap, n - 1, 0);
    }
}

/* Insertion, for the few experts of a row. */
static void sort_ascending(int32_t *ids, int64_t n)
{
    for (int64_t i = 1; i < n; i++) {
        const int32_t id = ids[i];
        int64_t j = i;
        for (; j > 0 && ids[j - 1] > id; j--)
            ids[j] = ids[j - 1];
        ids[j] = id;
    }
}

/* ---- the ops --------------------------------------------------------------------------------*/

static int32_t *ids_row(const struct sh_cpu_call *c, int64_t row)
{
    return (int32_t *)(void *)sh_cpu_row(&c->dst, row);
}

static const float *values_row(const struct sh_cpu_call *c, int64_t row)
{
    return sh_cpu_f32(sh_cpu_row(&c->src[0], row));
}

static void argsort_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct sh_cpu_call *c = arg;
    const int64_t n = c->dst.ne[0];
    int32_t *work = (int32_t *)(void *)c->work + 2 * n * thread;

    for (int64_t row = begin; row < end; row++) {
        int32_t *out = ids_row(c, row);
        const int32_t *sorted =
            sort_indices(values_row(c, row), n, c->t->params[0] ? 1 : -1, work, work + n);
        for (int64_t i = 0; i < n; i++)
            out[i] = sorted[i];
    }
}

static enum shoal_status check_argsort(const struct sh_cpu_node *n, struct sh_cpu_need *need,
                                       struct shoal_error *err)
{
    if (n->t->ne[0] > INT32_MAX) return sh_cpu_refuse_size(err);
    if (!sh_cpu_add_work(&need->work, n->t->ne[0] * n->n_threads, 2 * sizeof(int32_t)))
        return sh_cpu_refuse_size(err);
    return SHOAL_OK;
}

static enum shoal_status run_argsort(struct sh_cpu_call *c, struct shoal_error *err)
{
    (void)err;
    sh_pool_for(c->pool, sh_cpu_rows(&c->dst), sh_cpu_chunk(16 * c->dst.ne[0]), argsort_rows, c);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_ARGSORT = {.check = check_argsort, .run = run_argsort};

static enum shoal_status check_narrow(const struct sh_cpu_node *n, struct sh_cpu_need *need,
                                      struct shoal_error *err)
{
    (void)need;
    return n->src[0]->ne[0] > INT32_MAX ? sh_cpu_refuse_size(err) : SHOAL_OK;
}

static void top_k_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct sh_cpu_call *c = arg;

    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        keep_largest(values_row(c, row), c->src[0].ne[0], c->dst.ne[0], ids_row(c, row));
        if (c->t->op == SH_OP_TOP_EXPERTS) {
            sort_ascending(ids_row(c, row), c->dst.ne[0]);
        } else {
            sort_heap(values_row(c, row), ids_row(c, row), c->dst.ne[0]);
        }
    }
}

static enum shoal_status run_top_k(struct sh_cpu_call *c, struct shoal_error *err)
{
    (void)err;
    sh_pool_for(c->pool, sh_cpu_rows(&c->dst), sh_cpu_chunk(4 * c->src[0].ne[0]), top_k_rows, c);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_TOP_K = {.check = check_narrow, .run = run_top_k};
const struct sh_cpu_op sh_cpu_op_TOP_EXPERTS = {.check = check_narrow, .run = run_top_k};

static void argmax_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct sh_cpu_call *c = arg;

    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        const float *x = values_row(c, row);
        int32_t best = 0;
        for (int64_t i = 1; i < c->src[0].ne[0]; i++) {
            if (before(x, (int32_t)i, best, 1)) best = (int32_t)i;
        }
        *(int32_t *)(void *)(c->dst.data + (size_t)row * c->dst.nb[0]) = best;
    }
}

static enum shoal_status run_argmax(struct sh_cpu_call *c, struct shoal_error *err)
{
    (void)err;
    sh_pool_for(c->pool, c->src[0].ne[1], sh_cpu_chunk(c->src[0].ne[0]), argmax_rows, c);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_ARGMAX = {.check = check_narrow, .run = run_argmax};
