/* sample/sampler.c - see sampler.h. */
#include "sample/sampler.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

// Descending by logit, ties by ascending id: the order of everything here.
static bool before(const struct sh_candidate *a, const struct sh_candidate *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

static int compare(const void *pa, const void *pb)
{
    return before(pa, pb) ? -1 : before(pb, pa) ? 1 : 0;
}

/* ---- the k best, by a heap whose root is the worst that is kept ----------------------------- */

static void sift_down(struct sh_candidate *h, int32_t n, int32_t i)
{
    for (;;) {
        int32_t worst = i;
        for (int32_t c = 2 * i + 1; c <= 2 * i + 2 && c < n; c++)
            if (before(&h[worst], &h[c])) worst = c;
        if (worst == i) return;
        const struct sh_candidate t = h[i];
        h[i] = h[worst];
        h[worst] = t;
        i = worst;
    }
}

// The k best of c[0..n), sorted, in place at the front.
static int32_t keep_best(struct sh_candidate *c, int32_t n, int32_t k)
{
    if (k < n) {
        for (int32_t i = k / 2 - 1; i >= 0; i--)
            sift_down(c, k, i);
        for (int32_t i = k; i < n; i++) {
            if (!before(&c[i], &c[0])) continue;
            c[0] = c[i];
            sift_down(c, k, 0);
        }
        n = k;
    }
    qsort(c, (size_t)n, sizeof *c, compare);
    return n;
}

int32_t sh_top_k(struct sh_candidate *out, int32_t k, const float *logits, int32_t n_vocab)
{
    const int32_t n = k < n_vocab ? k : n_vocab;
    double sum = 0;

    if (n <= 0) return 0;
    for (int32_t i = 0; i < n; i++)
        out[i] = (struct sh_candidate){.id = i, .logit = logits[i]};
    for (int32_t i = n / 2 - 1; i >= 0; i--)
        sift_down(out, n, i);
    for (int32_t i = n; i < n_vocab; i++) {
        const struct sh_candidate c = {.id = i, .logit = logits[i]};
        if (!before(&c, &out[0])) continue;
        out[0] = c;
        sift_down(out, n, 0);
    }
    qsort(out, (size_t)n, sizeof *out, compare);
    for (int32_t i = 0; i < n_vocab; i++)
        sum += exp((double)logits[i] - (double)out[0].logit);
    for (int32_t i = 0; i < n; i++)
        out[i].p = (float)((double)out[i].logit - (double)out[0].logit - log(sum));
    return n;
}

double sh_log_probability(const float *logits, int32_t n_vocab, int32_t id)
{
    double max = -INFINITY, sum = 0;

    for (int32_t i = 0; i < n_vocab; i++)
        if (logits[i] > max) max = logits[i];
    for (int32_t i = 0; i < n_vocab; i++)
        sum += exp((double)logits[i] - max);
    return (double)logits[id] - max - log(sum);
}

/* ---- the chain ------------------------------------------------------------------------------ */

int32_t sh_sampler_looks_back(const struct sh_sampler_params *p, int32_t n_recent)
{
    if (p->repeat_penalty == 1 || !(p->repeat_penalty > 0)) return 0;
    return p->repeat_last_n < 0 || p->repeat_last_n > n_recent ? n_recent : p->repeat_last_n;
}

// l <= 0 ? l * r : l / r, once for each different token among the recent ones.
static void penalise(struct sh_candidate *c, int32_t n_vocab, const struct sh_sampler_params *p,
                     const int32_t *recent, int32_t n_recent)
{
    const int32_t n = sh_sampler_looks_back(p, n_recent);

    if (n > 0) recent += n_recent - n; // else it may be NULL
    for (int32_t i = 0; i < n; i++) {
        bool seen = recent[i] < 0 || recent[i] >= n_vocab;
        for (int32_t k = 0; k < i && !seen; k++)
            seen = recent[k] == recent[i];
        if (seen) continue;
        float *l = &c[recent[i]].logit;
        *l = *l <= 0 ? *l * p->repeat_penalty : *l / p->repeat_penalty;
    }
}

static void softmax(struct sh_candidate *c, int32_t n)
{
    double sum = 0;

    for (int32_t i = 0; i < n; i++) {
        c[i].p = expf(c[i].logit - c[0].logit);
        sum += c[i].p;
    }
    for (int32_t i = 0; i < n; i++)
        c[i].p = (float)(c[i].p / sum);
}

// Sorted candidates: keep until the probabilities reach top_p.
static int32_t keep_top_p(struct sh_candidate *c, int32_t n, const struct sh_sampler_params *p)
{
    double sum = 0;

    if (p->top_p >= 1) return n;
    softmax(c, n);
    for (int32_t i = 0; i < n; i++) {
        sum += c[i].p;
        if (sum >= p->top_p && i + 1 >= p->min_keep) return i + 1;
    }
    return n;
}

static int32_t keep_min_p(const struct sh_candidate *c, int32_t n,
                          const struct sh_sampler_params *p)
{
    int32_t k = 0;

    if (!(p->min_p > 0)) return n;
    const float least = c[0].logit + logf(p->min_p);
    while (k < n && (c[k].logit >= least || k < p->min_keep))
        k++;
    return k > 0 ? k : 1;
}

static int32_t draw_one(const struct sh_candidate *c, int32_t n, float temp, double draw)
{
    double sum = 0, run = 0;

    for (int32_t i = 0; i < n; i++)
        sum += expf((c[i].logit - c[0].logit) / temp);
    for (int32_t i = 0; i < n; i++) {
        run += expf((c[i].logit - c[0].logit) / temp);
        if (run >= draw * sum) return c[i].id;
    }
    return c[n - 1].id;
}

enum shoal_status sh_sample(int32_t *token, const float *logits, int32_t n_vocab,
                            const struct sh_sampler_params *p, const int32_t *recent,
                            int32_t n_recent, double draw, struct sh_candidate *work,
                            struct shoal_error *err)
{
    int32_t n = n_vocab, best = 0;

    *token = -1;
    if (n_vocab <= 0) return sh_fail(err, SHOAL_ERR_ARG, "sample: no logits");
    for (int32_t i = 0; i < n_vocab; i++) {
        if (isnan(logits[i]))
            return sh_fail(err, SHOAL_ERR_FORMAT, "sample: the logit of token %d is NaN", (int)i);
        work[i] = (struct sh_candidate){.id = i, .logit = logits[i]};
    }
    penalise(work, n_vocab, p, recent, n_recent);
    if (!(p->temp > 0)) {
        for (int32_t i = 1; i < n_vocab; i++)
            if (before(&work[i], &work[best])) best = i;
        *token = work[best].id;
        return SHOAL_OK;
    }
    n = keep_best(work, n, p->top_k > 0 ? (p->top_k > p->min_keep ? p->top_k : p->min_keep) : n);
    n = keep_top_p(work, n, p);
    n = keep_min_p(work, n, p);
    *token = draw_one(work, n, p->temp, draw);
    return SHOAL_OK;
}
