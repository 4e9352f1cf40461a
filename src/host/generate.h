/* host/generate.h - a prompt in, tokens and text out: the loop that `shoal run` and libshoal share.
 *
 * The prompt's ids are fed, then tokens are sampled and fed back one by one until one of them ends
 * the generation, the wished number is reached, the context is full, or the receiver has enough.
 * Text comes in whole characters.
 *
 * Threads: those of the engine.
 */
#ifndef HOST_GENERATE_H
#define HOST_GENERATE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "text/detok.h"

/* A token has come.  `text` is what it completes: whole characters, or nothing; borrowed for the
 * call.  The token that ends a generation comes, too, without text.  After the last token the
 * function is called once more with id -1 if a character was left incomplete (U+FFFD).  Return
 * ERR_CANCELLED to end in order; any other failure ends the generation with it. */
typedef enum shoal_status sh_token_fn(void *self, int32_t id, struct sh_str text,
                                      struct shoal_error *err);

enum sh_stop {
    SH_STOP_END,     /* a token that ends the generation */
    SH_STOP_LENGTH,  /* n_predict reached */
    SH_STOP_CONTEXT, /* no position left */
    SH_STOP_CALLER   /* `token` said so */
};

struct sh_generate {
    struct sh_engine *engine; /* borrowed, as all of these; its sampler is set */
    const struct sh_vocab *vocab;
    int64_t n_ctx;
    const int32_t *prompt; /* at least one id */
    int64_t n_prompt;
    int64_t n_predict;    /* negative: until something else ends it */
    bool show_special;    /* text of control tokens, too */
    sh_logits_fn *logits; /* as of struct sh_feed, for the prompt; may be NULL */
    sh_feed_progress_fn *progress;
    sh_token_fn *token;
    void *self;
};

struct sh_generated {
    int64_t n; /* tokens that came */
    int64_t prompt_ns;
    int64_t predict_ns; /* from the first token to the last: n - 1 steps */
    enum sh_stop stop;
};

/* `out` is filled as far as it got, also on failure. */
SHOAL_NODISCARD enum shoal_status sh_generate(const struct sh_generate *g, struct sh_generated *out,
                                              struct shoal_error *err);

#endif
