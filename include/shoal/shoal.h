/* shoal/shoal.h - one language model, run across several machines (unstable until 1.0).
 *
 * Open a model over this machine and, if you like, over workers; then generate text:
 *
 *     struct shoal_options o = SHOAL_OPTIONS_INIT;
 *     struct shoal_params p = SHOAL_PARAMS_INIT;
 *     o.model_path = "model.gguf";
 *     if (shoal_open(&s, &o, &err) == SHOAL_OK)
 *         st = shoal_generate(s, "The capital of France is", &p, show, NULL, &err);
 *     shoal_close(s);
 *
 * Errors are values (shoal/status.h); nothing here prints, exits or installs signal handlers,
 * except one for SIGBUS, which is how a model file that shrinks while mapped becomes an error.
 * Threads: a session is used by one thread at a time; shoal_cancel() may be called from any.
 */
#ifndef SHOAL_SHOAL_H
#define SHOAL_SHOAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <shoal/status.h>

struct shoal; /* opaque: a session */

struct shoal_options {
    const char *model_path; /* a GGUF file, or the first of a split one */
    /* Machines: workers ("host:port", "unix:/path"; their keys are those that `shoal run --key` and
     * `shoal key add` keep), then llama.cpp's RPC servers.  Lists are copied. */
    const char *const *workers;
    int n_workers;
    const char *const *servers;
    int n_servers;
    bool with_local;       /* with others: this machine takes layers, too */
    const int64_t *layers; /* per device: workers, servers, this machine; copied */
    int n_layers;          /* 0: by free memory */
    int n_threads;         /* 0: all that this process may use */
    int64_t n_ctx;         /* most tokens of a conversation; 0: what the model was trained for */
    bool cache_f32;        /* keys and values in f32 instead of f16 */
    /* While loading: bytes of weights in place.  NULL: not told. */
    void (*progress)(void *user, uint64_t done, uint64_t total);
    void *user;
};
#define SHOAL_OPTIONS_INIT                                                                         \
    {                                                                                              \
        .model_path = NULL, .n_ctx = 4096                                                          \
    }

struct shoal_params {
    int64_t n_predict; /* most tokens; negative: until the model ends or the context is full */
    float temp;        /* 0: always the likeliest token */
    int32_t top_k;     /* 0: all */
    float top_p, min_p;
    float repeat_penalty; /* 1: none */
    int32_t repeat_last_n;
    uint32_t seed; /* equal seeds give equal text */
};
#define SHOAL_PARAMS_INIT                                                                          \
    {                                                                                              \
        .n_predict = -1, .temp = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f,                \
        .repeat_penalty = 1.0f, .repeat_last_n = 64, .seed = 0                                     \
    }

/* On failure *out is NULL and `err` (may be NULL) says why. */
SHOAL_API SHOAL_NODISCARD enum shoal_status
shoal_open(struct shoal **out, const struct shoal_options *options, struct shoal_error *err);
SHOAL_API void shoal_close(struct shoal *s); /* accepts NULL */

/* Whole UTF-8 characters as they come, not NUL-terminated; false ends the generation in order. */
typedef bool shoal_text_fn(void *user, const char *text, size_t bytes);

/* Continue `prompt` (UTF-8; names of special tokens in it become those tokens).  Each call begins
 * a conversation of its own.  `params` may be NULL: the defaults. */
SHOAL_API SHOAL_NODISCARD enum shoal_status shoal_generate(struct shoal *s, const char *prompt,
                                                           const struct shoal_params *params,
                                                           shoal_text_fn *text, void *user,
                                                           struct shoal_error *err);
/* End a shoal_generate() that is running in another thread, or the next one, with
 * ERR_CANCELLED. */
SHOAL_API void shoal_cancel(struct shoal *s);

#endif
