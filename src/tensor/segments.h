/* tensor/segments.h - how a row-parallel product is cut, so that any split gives the same bits.
 *
 * A product whose weight is cut along K is defined over n = min(8, units) segments of K, units =
 * K / unit; border i lies at floor(i * units / n) units.  Each segment is its own chain; the
 * segments are added as a tree that splits a range of c segments at the largest power of two
 * below c:
 *
 *        n = 6:        (0..5)                      shard A holds 0..3: one vector  (0..3)
 *                 (0..3)     (4..5)                shard B holds 4..5: one vector  (4..5)
 *              (0,1) (2,3)   4    5                a shard with 1..3 would send   1, (2,3)
 *
 * A shard holds whole segments [begin, end) and sends one vector per complete subtree inside, in
 * ascending order.  Pure functions; no state.
 */
#ifndef TENSOR_SEGMENTS_H
#define TENSOR_SEGMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SH_SEGMENTS_MAX 8
#define SH_SHARDS_MAX 8

/* Number of segments of a row of k elements in units of `unit` (k a multiple of it; unit <= 0 or
 * k <= unit: 1). */
int sh_segment_count(int64_t k, int64_t unit);
/* First element of segment i of n, 0 <= i <= n. */
int64_t sh_segment_begin(int64_t k, int64_t unit, int n, int i);
/* Segment whose first element is `at`, or -1 if `at` is no border (at = k gives n). */
int sh_segment_at(int64_t k, int64_t unit, int n, int64_t at);

/* Complete subtrees of the tree over n segments that lie inside [begin, end), ascending; writes at
 * most SH_SEGMENTS_MAX pairs into lo/hi (may be NULL) and returns how many. */
int sh_subtrees(int n, int begin, int end, int *lo, int *hi);

/* Sum the tree over the segments [lo, hi) of n.  get(i) vectors are f32 of n_elem; vec[i] is the
 * vector of segment i (i - lo into vec).  Result in dst (may be vec[0]).  Adds are plain f32. */
void sh_tree_sum(int n, int lo, int hi, const float *const *vec, int64_t n_elem, float *dst);

/* Finish a whole tree from the subtree vectors of all shards.  `n_vec` vectors in ascending order
 * with their ranges as sh_subtrees() gave them per shard; they cover [0, n) exactly. */
void sh_tree_finish(int n, int n_vec, const int *lo, const int *hi, const float *const *vec,
                    int64_t n_elem, float *dst);

/* One operand of SHARD_SUM, packed into two parameter words: how many segments, how many shards,
 * and which shard holds which (border[s] .. border[s+1], contiguous, ascending, may be empty). */
struct sh_sum_operand {
    int n_segments, n_shards;
    int border[SH_SHARDS_MAX + 1]; /* border[0] = 0, border[n_shards] = n_segments */
};
void sh_sum_operand_pack(const struct sh_sum_operand *o, int32_t words[2]);
/* False when the words hold no legal operand. */
bool sh_sum_operand_unpack(const int32_t words[2], struct sh_sum_operand *o);

#endif
