/* sample/sampler.h - from a row of logits to a token: pure functions.
 *
 * The chain is llama.cpp's, in its default order, for the flags that shoal has: repetition
 * penalties, top-k, top-p, min-p, temperature, then one draw.  Temperature 0 (or
 * below) is arg max after the penalties.  Everything is decided by (logits, parameters, recent
 * tokens, draw), so a token does not depend on where it is sampled.  Of equal logits the lower id
 * comes first.  NaN logits are an error, never a token.
 * Threads: pure.
 */
#ifndef SAMPLE_SAMPLER_H
#define SAMPLE_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct sh_sampler_params {
    float temp;            /* 0.8 */
    int32_t top_k;         /* 40; 0 = all */
    float top_p;           /* 0.95; 1 = off */
    float min_p;           /* 0.05; 0 = off */
    float repeat_penalty;  /* 1 = off */
    int32_t repeat_last_n; /* 64; how many recent tokens the penalty looks at */
    int32_t min_keep;      /* 0 */
};
#define SH_SAMPLER_DEFAULTS                                                                        \
    {                                                                                              \
        .temp = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1.0f,         \
        .repeat_last_n = 64, .min_keep = 0                                                         \
    }

struct sh_candidate {
    int32_t id;
    float logit;
    float p;
};

/* How many of the `n_recent` last tokens of a sequence sh_sample() looks at: none without a
 * penalty. */
int32_t sh_sampler_looks_back(const struct sh_sampler_params *p, int32_t n_recent);

/* Sample one token.  `work` has room for n_vocab candidates.  `recent`: the last tokens of the
 * sequence, newest last.  `draw` is uniform in [0, 1).  ERR_FORMAT when a logit is NaN. */
SHOAL_NODISCARD enum shoal_status sh_sample(int32_t *token, const float *logits, int32_t n_vocab,
                                            const struct sh_sampler_params *p,
                                            const int32_t *recent, int32_t n_recent, double draw,
                                            struct sh_candidate *work, struct shoal_error *err);

/* The k largest logits, descending (ties: lower id first), with log-probabilities over the whole
 * row in `p`.  Returns how many were written (min(k, n_vocab)). */
int32_t sh_top_k(struct sh_candidate *out, int32_t k, const float *logits, int32_t n_vocab);
/* log(softmax)[id] in f64. */
double sh_log_probability(const float *logits, int32_t n_vocab, int32_t id);

#endif
