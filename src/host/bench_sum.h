/* host/bench_sum.h - what repeated measurements say, and how fast a pipeline could be.
 *
 * Threads: pure functions.
 */
#ifndef HOST_BENCH_SUM_H
#define HOST_BENCH_SUM_H

#include <stddef.h>
#include <stdint.h>

#define SH_BENCH_STAGES_MAX 64

/* The median of values and an interval that holds the true one with a probability of 90 %, if
 * values are independent: between the k-th least and the k-th greatest, k as large as that allows.
 * Of fewer than 5 values it is all of them, and holds less. */
struct sh_spread {
    double median, low, high;
};
/* `values` are sorted; n 0: zeros. */
struct sh_spread sh_spread_of(double *values, size_t n);
/* The value below which a share `part` (0 .. 1) of n sorted values lies; n 0: 0. */
double sh_quantile(const double *sorted, size_t n, double part);

/* A prompt of n_chunks chunks through n_stages stages, where chunk j takes `time[j * n_stages + i]`
 * at stage i, and a stage begins a chunk when it is done with the one before and the stage before
 * it is done with this one.  So it is the longest way through the table: for one slow stage the
 * first chunk's way to it, all chunks there, and the last one's way out; for equal stages all
 * chunks at one of them, and the longest chunk at each of the others. */
double sh_prompt_bound(const double *time, int64_t n_chunks, int n_stages);

/* One token for each group: no stage is faster than all its steps one after the other, and no group
 * than one pass, `wire` of which is on the way.  Until the last group begins, the first
 * stage has all others' steps, once in n tokens.  `time`: of a step, by stage.  Of the groups
 * `in_flight` are under way at once, 1 or all. */
double sh_text_bound(const double *time, int n_stages, double wire, int n_groups, int in_flight,
                     int64_t n);

#endif
