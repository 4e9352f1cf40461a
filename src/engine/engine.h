/* engine/engine.h - one conversation on a pipeline: feeding tokens, getting tokens.
 *
 * The engine keeps the truth about a sequence: its token ids, its place in the KV index, its random
 * draws.  It knows machines only as a pipeline (stage/pool.h).  A prompt is cut into chunks that
 * follow each other through the stages, as many in flight as the pipeline takes.
 *
 * Threads: one at a time; sh_engine_cancel() from any (and from a signal handler).
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "sample/sampler.h"
#include "stage/pool.h"

struct sh_engine;

/* The pipeline is borrowed.  `n_ctx`: most positions of the sequence. */
SHOAL_NODISCARD enum shoal_status sh_engine_create(struct sh_engine **out, struct sh_pipeline *p,
                                                   int64_t n_ctx, struct shoal_error *err);
void sh_engine_destroy(struct sh_engine *e);

/* Forget everything; the next token stands at position 0. */
SHOAL_NODISCARD enum shoal_status sh_engine_clear(struct sh_engine *e, struct shoal_error *err);
/* Sampler of the tokens to come, and the seed of their draws. */
void sh_engine_set_sampler(struct sh_engine *e, const struct sh_sampler_params *p, uint32_t seed);
int64_t sh_engine_length(const struct sh_engine *e); /* tokens so far */

/* Called with the logits after token `index` of the ids being fed, in order. */
typedef void sh_logits_fn(void *self, int64_t index, const float *logits, int32_t n_vocab);
/* Called when `done` of `total` ids have passed. */
typedef void sh_feed_progress_fn(void *self, int64_t done, int64_t total);

struct sh_feed {
    const int32_t *ids;
    int64_t n;
    bool sample;                   /* sample a token after the last id */
    sh_logits_fn *logits;          /* all rows, NULL: none */
    sh_feed_progress_fn *progress; /* may be NULL */
    void *self;
    int64_t chunk; /* most rows per step, 0: chosen from the stages' times (engine/chunk.h) */
};
/* Append ids to the sequence.  *token (may be NULL): the sampled one, which is not yet part of the
 * sequence.  On failure the sequence is as long as what had passed, and the draw for the token is
 * still to come.  ERR_LIMIT: the context is full.  ERR_CANCELLED after sh_engine_cancel(), once:
 * the next feed goes on. */
SHOAL_NODISCARD enum shoal_status sh_engine_feed(struct sh_engine *e, const struct sh_feed *f,
                                                 int32_t *token, struct shoal_error *err);
void sh_engine_cancel(struct sh_engine *e);

#endif
