/* cpu/product.c - blocks of matrix products; see product_priv.h. */
#include "cpu/product_priv.h"

#include <string.h>

#define BLOCK_BYTES ((size_t)64 * 1024)  // of weights: a few microseconds of memory
#define PANEL_BYTES ((size_t)512 * 1024) // of activations: they stay in the second-level cache
#define BLOCK_WORK 16384                 // multiply-adds that are worth a hand-over

void sh_cpu_cut_columns(struct sh_cpu_cut *cut, int64_t whole, int64_t unit, int64_t begin,
                        int64_t held)
{
    const int n = sh_segment_count(whole, unit);
    const int first = held < whole ? sh_segment_at(whole, unit, n, begin) : 0;
    const int last = held < whole ? sh_segment_at(whole, unit, n, begin + held) : n;

    SH_ASSERT(first >= 0 && last >= first);
    cut->n_held = last - first;
    for (int i = 0; i <= cut->n_held; i++)
        cut->border[i] = sh_segment_begin(whole, unit, n, first + i) - begin;
    cut->n_vectors = sh_subtrees(n, first, last, cut->lo, cut->hi);
    for (int v = 0; v < cut->n_vectors; v++) {
        cut->lo[v] -= first;
        cut->hi[v] -= first;
    }
}

/* What rows are rounded to for weights of a type: types without a product of their own are expanded
 * and multiplied as f32.  SH_DTYPE_COUNT: no product. */
enum sh_dtype sh_cpu_partner(const struct sh_kernels *k, enum sh_dtype dtype)
{
    if (k->mm[dtype]) return sh_dtype_info(dtype)->partner;
    return k->decode[dtype] ? SH_DTYPE_F32 : SH_DTYPE_COUNT;
}

enum shoal_status sh_cpu_weight_check(const struct sh_kernels *k, const struct sh_tensor *w,
                                      struct shoal_error *err)
{
    const enum sh_dtype partner = sh_cpu_partner(k, w->dtype);

    if (partner == SH_DTYPE_COUNT || !k->act[partner])
        return sh_cpu_refuse_type(w, "no product with weights", err);
    return SHOAL_OK;
}

void sh_cpu_weight_init(struct sh_cpu_weight *out, const struct sh_kernels *k, enum sh_dtype dtype,
                        int64_t columns)
{
    const enum sh_dtype partner = sh_cpu_partner(k, dtype);

    *out = (struct sh_cpu_weight){.mm = k->mm[dtype],
                                  .decode = k->decode[dtype],
                                  .dot = k->dot,
                                  .dtype = dtype,
                                  .act = k->act[partner],
                                  .k = columns,
                                  .act_bytes = sh_act_row_bytes(partner, columns)};
    if (!sh_dtype_row_bytes(dtype, columns, &out->row_bytes)) out->row_bytes = 0;
}

static int64_t round_to_16(int64_t n)
{
    return (n + 15) / 16 * 16;
}

struct sh_cpu_blocks sh_cpu_blocks_of(const struct sh_cpu_weight *w, int64_t n_out, int64_t n_act,
                                      int n_threads)
{
    struct sh_cpu_blocks b;
    int64_t least;

    b.n_act = w->act_bytes ? (int64_t)(PANEL_BYTES / w->act_bytes) : n_act;
    if (b.n_act < 16) b.n_act = 16;
    if (b.n_act > SH_CPU_BLOCK_MAX / 64) b.n_act = SH_CPU_BLOCK_MAX / 64;
    if (b.n_act > n_act) b.n_act = n_act;
    if (b.n_act < 1) b.n_act = 1;

    b.n_out = w->row_bytes ? (int64_t)(BLOCK_BYTES / w->row_bytes) : n_out;
    if (n_threads > 1 && b.n_out > n_out / (4 * n_threads)) b.n_out = n_out / (4 * n_threads);
    least = BLOCK_WORK / ((w->k + 1) * b.n_act);
    if (b.n_out < least) b.n_out = least;
    b.n_out = round_to_16(b.n_out < 1 ? 1 : b.n_out);
    while (b.n_out > 16 && b.n_out * b.n_act > SH_CPU_BLOCK_MAX)
        b.n_out -= 16;
    if (b.n_out > SH_CPU_BLOCK_OUT_MAX) b.n_out = SH_CPU_BLOCK_OUT_MAX;
    return b;
}

/* Where a node of `count` segments splits: at the largest power of two below. */
static int left_count(int count)
{
    int left = 1;

    while (left * 2 < count)
        left *= 2;
    return left;
}

void sh_cpu_add_tree(const struct sh_kernels *k, int count, int64_t n, float *segments,
                     size_t stride)
{
    const int left = left_count(count);
    float *right;

    if (count < 2) return;
    right = segments + (size_t)left * stride;
    sh_cpu_add_tree(k, left, n, segments, stride); // at most three deep
    sh_cpu_add_tree(k, count - left, n, right, stride);
    k->add(n, segments, segments, right);
}

/* For types without a product: each sum is a chain over pieces of SH_CPU_CHUNK columns, whatever is
 * computed beside it. */
static void multiply_expanded(const struct sh_cpu_weight *weight, int64_t k0, int64_t k1,
                              int64_t n_out, int64_t n_act, float *dst, size_t dst_stride,
                              const uint8_t *w, size_t w_stride, const uint8_t *act)
{
    float piece[SH_CPU_CHUNK];

    for (int64_t i = 0; i < n_out; i++) {
        for (int64_t j = 0; j < n_act; j++)
            dst[(size_t)j * dst_stride + (size_t)i] = 0;
        for (int64_t at = k0; at < k1; at += SH_CPU_CHUNK) {
            const int64_t n = k1 - at < SH_CPU_CHUNK ? k1 - at : SH_CPU_CHUNK;
            weight->decode(n, piece,
                           w + (size_t)i * w_stride + sh_cpu_element_offset(weight->dtype, 0, at));
            for (int64_t j = 0; j < n_act; j++) {
                const float *x = (const float *)(const void *)(act + (size_t)j * weight->act_bytes);
                dst[(size_t)j * dst_stride + (size_t)i] += weight->dot(n, piece, x + at);
            }
        }
    }
}

void sh_cpu_multiply(const struct sh_cpu_weight *weight, int64_t k0, int64_t k1, int64_t n_out,
                     int64_t n_act, float *dst, size_t dst_stride, const uint8_t *w,
                     size_t w_stride, const uint8_t *act)
{
    if (weight->mm) {
        weight->mm(weight->k, k0, k1, n_out, n_act, dst, dst_stride, w, w_stride, act,
                   weight->act_bytes);
    } else {
        multiply_expanded(weight, k0, k1, n_out, n_act, dst, dst_stride, w, w_stride, act);
    }
}

void sh_cpu_block(const struct sh_kernels *k, const struct sh_cpu_weight *weight,
                  const struct sh_cpu_cut *cut, int64_t n_out, const uint8_t *w, size_t w_stride,
                  int64_t n_act, const uint8_t *act, float *dst, size_t dst_stride,
                  size_t vector_stride, float *tmp)
{
    const size_t segment = (size_t)n_out * (size_t)n_act;

    for (int v = 0; v < cut->n_vectors; v++) {
        const int count = cut->hi[v] - cut->lo[v];
        const int64_t *border = cut->border + cut->lo[v];
        float *out = dst + (size_t)v * vector_stride;
        if (count == 1) {
            sh_cpu_multiply(weight, border[0], border[1], n_out, n_act, out, dst_stride, w,
                            w_stride, act);
            continue;
        }
        for (int s = 0; s < count; s++) {
            sh_cpu_multiply(weight, border[s], border[s + 1], n_out, n_act,
                            tmp + (size_t)s * segment, (size_t)n_out, w, w_stride, act);
        }
        sh_cpu_add_tree(k, count, (int64_t)segment, tmp, segment);
        for (int64_t j = 0; j < n_act; j++)
            memcpy(out + (size_t)j * dst_stride, tmp + j * n_out, (size_t)n_out * sizeof *tmp);
    }
}

struct rounding {
    const struct sh_cpu_call *c;
    const struct sh_cpu_weight *w;
    const struct sh_cpu_tensor *x;
    uint8_t *act;
    float *tmp;
};

static void round_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct rounding *r = arg;

    for (int64_t row = begin; row < end; row++) {
        const float *x = sh_cpu_load(r->c->k, r->x->dtype, sh_cpu_row(r->x, row), r->x->nb[0],
                                     r->w->k, r->tmp ? r->tmp + (int64_t)thread * r->w->k : NULL);
        r->w->act(r->w->k, r->act + (size_t)row * r->w->act_bytes, x);
    }
}

void sh_cpu_round_rows(const struct sh_cpu_call *c, const struct sh_cpu_weight *w,
                       const struct sh_cpu_tensor *x, uint8_t *act, float *tmp)
{
    struct rounding r = {.c = c, .w = w, .x = x, .act = act, .tmp = tmp};

    sh_pool_for(c->pool, sh_cpu_rows(x), sh_cpu_chunk(4 * w->k), round_rows, &r);
}
