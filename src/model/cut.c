/* model/cut.c - see cut.h. */
#include "model/cut.h"

#include <math.h>

static int64_t gcd(int64_t a, int64_t b)
{
    while (b != 0) {
        const int64_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

int64_t sh_lcm(int64_t a, int64_t b)
{
    return a / gcd(a, b) * b;
}

// One segment for everybody, the rest by largest remainder of the shares.
static void divide(int n_segments, int n_shards, const double *shares, int64_t turn, int *count)
{
    double sum = 0, rest[SH_SHARDS_MAX];
    int left = n_segments;

    for (int s = 0; s < n_shards; s++)
        sum += shares[s] > 0 ? shares[s] : 0;
    for (int s = 0; s < n_shards; s++) {
        const double want = sum > 0 ? n_segments * (shares[s] > 0 ? shares[s] : 0) / sum
                                    : (double)n_segments / n_shards;
        count[s] = (int)floor(want);
        rest[s] = want - count[s];
        left -= count[s];
    }
    for (; left > 0; left--) {
        int best = -1;
        for (int i = 0; i < n_shards; i++) {
            const int s = (int)((i + turn) % n_shards);
            if (best < 0 || rest[s] > rest[best] + 1e-9) best = s;
        }
        count[best]++;
        rest[best] -= 1;
    }
    for (int s = 0; s < n_shards; s++) {
        if (count[s] > 0) continue;
        int most = 0;
        for (int i = 1; i < n_shards; i++)
            if (count[i] > count[most]) most = i;
        count[most]--;
        count[s]++;
    }
}

bool sh_cut_make(struct sh_cut *c, int64_t k, int64_t unit, int n_shards, int rank,
                 const double *shares, int64_t turn)
{
    int count[SH_SHARDS_MAX];

    if (k <= 0 || unit <= 0 || k % unit != 0) return false;
    *c = (struct sh_cut){.k = k, .unit = unit, .n_shards = n_shards};
    c->n_segments = sh_segment_count(k, unit);
    if (n_shards > c->n_segments || n_shards > SH_SHARDS_MAX) return false;
    divide(c->n_segments, n_shards, shares, turn, count);
    for (int s = 0; s < n_shards; s++)
        c->border[s + 1] = c->border[s] + count[s];
    c->begin = c->border[rank];
    c->end = c->border[rank + 1];
    c->k_begin = sh_segment_begin(k, unit, c->n_segments, c->begin);
    c->k_end = sh_segment_begin(k, unit, c->n_segments, c->end);
    return true;
}
