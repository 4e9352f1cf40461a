/* host/bench_sum.c - see bench_sum.h. */
#include "host/bench_sum.h"

#include <math.h>
#include <stdlib.h>

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* How many values may be left out at each end: the number of values below the true median is that
 * of heads in n throws of a coin, so both ends together miss it with 2 * P(heads <= left out). */
static size_t left_out(size_t n)
{
    double p = pow(0.5, (double)n), below = 0;

    for (size_t k = 0; k < n / 2; k++) {
        below += p;
        if (2 * below > 0.1) return k > 0 ? k - 1 : 0;
        p = p * (double)(n - k) / (double)(k + 1);
    }
    return n / 2 > 0 ? n / 2 - 1 : 0;
}

struct sh_spread sh_spread_of(double *values, size_t n)
{
    const size_t cut = n < 1000 ? left_out(n) : (n - (size_t)(1.645 * sqrt((double)n))) / 2;

    if (n == 0) return (struct sh_spread){.median = 0};
    qsort(values, n, sizeof *values, ascending);
    return (struct sh_spread){.median = (values[(n - 1) / 2] + values[n / 2]) / 2,
                              .low = values[cut],
                              .high = values[n - 1 - cut]};
}

double sh_quantile(const double *sorted, size_t n, double part)
{
    const double at = ceil(part * (double)n) - 1;

    if (n == 0) return 0;
    return sorted[at < 0 ? 0 : at > (double)(n - 1) ? n - 1 : (size_t)at];
}

double sh_prompt_bound(const double *time, int64_t n_chunks, int n_stages)
{
    double end[SH_BENCH_STAGES_MAX] = {0}; // of the chunk before, by stage

    for (int64_t j = 0; j < n_chunks; j++) {
        double before = 0; // end of this chunk at the stage before
        for (int i = 0; i < n_stages; i++) {
            if (end[i] > before) before = end[i];
            before += time[j * n_stages + i];
            end[i] = before;
        }
    }
    return n_chunks > 0 ? end[n_stages - 1] : 0;
}

double sh_text_bound(const double *time, int n_stages, double wire, int n_groups, int in_flight,
                     int64_t n)
{
    double pass = wire, slowest = 0, cycle;

    for (int i = 0; i < n_stages; i++) {
        pass += time[i];
        if (time[i] > slowest) slowest = time[i];
    }
    if (in_flight < n_groups) return n_groups * pass; // one after the other
    cycle = n_groups * slowest > pass ? n_groups * slowest : pass;
    return n > 0 ? cycle + (n_groups - 1) * time[0] / (double)n : cycle;
}
