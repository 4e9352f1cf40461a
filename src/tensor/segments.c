/* tensor/segments.c - segment borders, subtrees and tree sums; see segments.h for the picture.
 *
 * A node of the tree is its range of segments.  Trees have at most eight leaves, so every walk
 * below starts at the root and descends at most three times.
 */
#include "tensor/segments.h"

#include <string.h>

#include "base/error.h"

#define CHUNK 64 // elements summed at a time: the working vectors stay in the first-level cache

int sh_segment_count(int64_t k, int64_t unit)
{
    if (unit <= 0 || k <= unit) return 1;
    const int64_t units = k / unit;
    return units < SH_SEGMENTS_MAX ? (int)units : SH_SEGMENTS_MAX;
}

int64_t sh_segment_begin(int64_t k, int64_t unit, int n, int i)
{
    if (i <= 0) return 0;
    if (i >= n) return k;
    // i * units / n without the product: units = q * n + r.
    const int64_t units = k / unit;
    const int64_t q = units / n, r = units % n;
    return (i * q + i * r / n) * unit;
}

int sh_segment_at(int64_t k, int64_t unit, int n, int64_t at)
{
    if (at == k) return n;
    for (int i = 0; i < n; i++) {
        if (sh_segment_begin(k, unit, n, i) == at) return i;
    }
    return -1;
}

/* Where the node [lo, hi) splits: its left child takes the largest power of two below its size. */
static int split_of(int lo, int hi)
{
    int left = 1;

    while (left * 2 < hi - lo)
        left *= 2;
    return lo + left;
}

/* Is [lo, hi) a node of the tree over n segments, split at `mid`? */
static bool is_node_split_at(int n, int lo, int mid, int hi)
{
    int a = 0, b = n;

    while (b - a > hi - lo) {
        const int m = split_of(a, b);
        if (lo < m) {
            b = m;
        } else {
            a = m;
        }
    }
    return a == lo && b == hi && split_of(a, b) == mid;
}

int sh_subtrees(int n, int begin, int end, int *lo, int *hi)
{
    int count = 0;

    for (int at = begin; at < end;) {
        int a = 0, b = n;
        // The largest node that starts at `at` and ends inside.
        while (a != at || b > end) {
            const int m = split_of(a, b);
            if (at < m) {
                b = m;
            } else {
                a = m;
            }
        }
        if (lo) lo[count] = a;
        if (hi) hi[count] = b;
        count++;
        at = b;
    }
    return count;
}

void sh_tree_sum(int n, int lo, int hi, const float *const *vec, int64_t n_elem, float *dst)
{
    int los[SH_SEGMENTS_MAX], his[SH_SEGMENTS_MAX];

    for (int i = lo; i < hi; i++) {
        los[i - lo] = i;
        his[i - lo] = i + 1;
    }
    sh_tree_finish(n, hi - lo, los, his, vec, n_elem, dst);
}

/* One addition of the finished order: after pushing vector `push`, add the `n_adds` topmost pairs.
 * Returns the final depth of the stack, 1 when the ranges form one node. */
static int plan_adds(int n, int n_vec, const int *lo, const int *hi, int *n_adds)
{
    struct {
        int lo, hi;
    } stack[SH_SEGMENTS_MAX];
    int depth = 0;

    for (int i = 0; i < n_vec; i++) {
        stack[depth].lo = lo[i];
        stack[depth].hi = hi[i];
        depth++;
        n_adds[i] = 0;
        while (depth > 1 && stack[depth - 2].hi == stack[depth - 1].lo &&
               is_node_split_at(n, stack[depth - 2].lo, stack[depth - 1].lo, stack[depth - 1].hi)) {
            stack[depth - 2].hi = stack[depth - 1].hi;
            depth--;
            n_adds[i]++;
        }
    }
    return depth;
}

void sh_tree_finish(int n, int n_vec, const int *lo, const int *hi, const float *const *vec,
                    int64_t n_elem, float *dst)
{
    int n_adds[SH_SEGMENTS_MAX];
    float stack[SH_SEGMENTS_MAX][CHUNK];

    SH_ASSERT(n_vec >= 1 && n_vec <= SH_SEGMENTS_MAX);
    SH_ASSERT(plan_adds(n, n_vec, lo, hi, n_adds) == 1);
    for (int64_t at = 0; at < n_elem; at += CHUNK) {
        const size_t len = n_elem - at < CHUNK ? (size_t)(n_elem - at) : CHUNK;
        int depth = 0;
        for (int i = 0; i < n_vec; i++) {
            memcpy(stack[depth++], vec[i] + at, len * sizeof(float));
            for (int a = 0; a < n_adds[i]; a++) {
                float *restrict left = stack[depth - 2];
                const float *restrict right = stack[depth - 1];
                for (size_t e = 0; e < len; e++)
                    left[e] += right[e];
                depth--;
            }
        }
        memcpy(dst + at, stack[0], len * sizeof(float));
    }
}

/* Word 0: bits 0-3 segments, 4-7 shards, all others 0.  Word 1: nibble s-1 = border[s] for the
 * inner borders s = 1 .. shards-1, all others 0. */
void sh_sum_operand_pack(const struct sh_sum_operand *o, int32_t words[2])
{
    uint32_t borders = 0;

    for (int s = 1; s < o->n_shards; s++)
        borders |= (uint32_t)o->border[s] << (4 * (s - 1));
    words[0] = o->n_segments | o->n_shards << 4;
    words[1] = (int32_t)borders;
}

bool sh_sum_operand_unpack(const int32_t words[2], struct sh_sum_operand *o)
{
    const uint32_t head = (uint32_t)words[0], borders = (uint32_t)words[1];
    const int n_segments = (int)(head & 15), n_shards = (int)(head >> 4 & 15);

    if (head > 255 || n_segments < 1 || n_segments > SH_SEGMENTS_MAX) return false;
    if (n_shards < 1 || n_shards > SH_SHARDS_MAX) return false;
    *o = (struct sh_sum_operand){.n_segments = n_segments, .n_shards = n_shards};
    for (int s = 1; s < n_shards; s++) {
        o->border[s] = (int)(borders >> (4 * (s - 1)) & 15);
        if (o->border[s] < o->border[s - 1] || o->border[s] > n_segments) return false;
    }
    o->border[n_shards] = n_segments;
    return n_shards == SH_SHARDS_MAX ? borders >> 28 == 0 : borders >> (4 * (n_shards - 1)) == 0;
}
