/* cpu/product_priv.h - what the matrix products share: segments, blocks, rounded activations.
 *
 * A product is cut into blocks of output rows and activation rows by sizes alone.  Inside a block
 * each segment of K is a chain of its own; the segments of a subtree are then added as the tree
 * says (tensor/segments.h).  Threads: pure but for what dst and tmp point to.
 */
#ifndef CPU_PRODUCT_PRIV_H
#define CPU_PRODUCT_PRIV_H

#include "cpu/ops_priv.h"

/* The segments of K that a weight holds, and the subtrees they make. */
struct sh_cpu_cut {
    int n_held;                          /* segments */
    int64_t border[SH_SEGMENTS_MAX + 1]; /* columns, from the weight's first */
    int n_vectors;
    int lo[SH_SEGMENTS_MAX], hi[SH_SEGMENTS_MAX]; /* held segments of each vector */
};

/* Cut of `held` columns from `begin` on, of rows of `whole` in units of `unit` (0: one chain).
 * The validator has checked that they are whole segments. */
void sh_cpu_cut_columns(struct sh_cpu_cut *cut, int64_t whole, int64_t unit, int64_t begin,
                        int64_t held);

/* A weight type's kernels and row sizes. */
struct sh_cpu_weight {
    sh_mm_fn *mm; /* NULL: rows are expanded, and multiplied by dot */
    sh_decode_fn *decode;
    float (*dot)(int64_t n, const float *a, const float *b);
    enum sh_dtype dtype;
    sh_act_fn *act;
    int64_t k;        /* columns held */
    size_t row_bytes; /* of a dense weight row */
    size_t act_bytes; /* of an activation row */
};
enum sh_dtype sh_cpu_partner(const struct sh_kernels *k, enum sh_dtype dtype);
enum shoal_status sh_cpu_weight_check(const struct sh_kernels *k, const struct sh_tensor *w,
                                      struct shoal_error *err);
void sh_cpu_weight_init(struct sh_cpu_weight *out, const struct sh_kernels *k, enum sh_dtype dtype,
                        int64_t columns);

/* Block sizes for `n_out` x `n_act`. */
struct sh_cpu_blocks {
    int64_t n_out, n_act;
};
struct sh_cpu_blocks sh_cpu_blocks_of(const struct sh_cpu_weight *w, int64_t n_out, int64_t n_act,
                                      int n_threads);
#define SH_CPU_BLOCK_OUT_MAX 256
#define SH_CPU_BLOCK_MAX 16384 /* outputs of a block */

/* Columns [k0, k1) of n_out weight rows against n_act activation rows; as sh_mm_fn. */
void sh_cpu_multiply(const struct sh_cpu_weight *weight, int64_t k0, int64_t k1, int64_t n_out,
                     int64_t n_act, float *dst, size_t dst_stride, const uint8_t *w,
                     size_t w_stride, const uint8_t *act);

/* One block: n_out weight rows from w on against n_act activation rows; vector v of activation row
 * j goes to dst + j * dst_stride + v * vector_stride.  tmp: n_held * n_out * n_act floats, unused
 * where every vector is one segment. */
void sh_cpu_block(const struct sh_kernels *k, const struct sh_cpu_weight *weight,
                  const struct sh_cpu_cut *cut, int64_t n_out, const uint8_t *w, size_t w_stride,
                  int64_t n_act, const uint8_t *act, float *dst, size_t dst_stride,
                  size_t vector_stride, float *tmp);

/* Add `count` segments of n floats each, `stride` floats apart, as a tree; the sum is left in the
 * first, the others are spoiled. */
void sh_cpu_add_tree(const struct sh_kernels *k, int count, int64_t n, float *segments,
                     size_t stride);

/* Round rows of x to the weight's partner type: row i of x to act + i * act_bytes.  tmp: a row of
 * f32 per thread, for x that is not f32. */
void sh_cpu_round_rows(const struct sh_cpu_call *c, const struct sh_cpu_weight *w,
                       const struct sh_cpu_tensor *x, uint8_t *act, float *tmp);

#endif
