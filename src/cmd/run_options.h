/* cmd/run_options.h - what `shoal run` can be told. */
#ifndef CMD_RUN_OPTIONS_H
#define CMD_RUN_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "cmd/args.h"

#define SH_UNSET_INT INT64_MIN /* not given: the model file or the default decides */

struct sh_run_options {
    const char *model;
    /* one of these, or perplexity */
    const char *prompt, *prompt_file;
    struct sh_arg_numbers prompt_ids;
    bool escape;

    int64_t n_predict; /* negative: no limit */
    int64_t n_ctx;     /* SH_UNSET_INT, 0: the model's */
    int64_t n_threads; /* <= 0: all */
    int64_t n_batch, n_ubatch;
    int cache_k, cache_v; /* 0 f16, 1 f32 */

    double temp, top_p, min_p, repeat_penalty; /* NAN: not given */
    int64_t top_k, repeat_last_n;              /* SH_UNSET_INT */
    int64_t seed;                              /* -1: random */

    struct sh_arg_list workers;
    const char *key;
    int wire; /* enum sh_rpc_format */
    bool relay, insecure;
    struct sh_arg_list servers;
    struct sh_arg_numbers layers;
    bool with_local;
    int rpc_cache;
    double step_timeout_s;

    const char *logits_out, *perplexity;
    int64_t chunks; /* of perplexity; negative: all */
    bool stats, json, timings, display_prompt, verbose_prompt, special, verbose;
    int log_level, log_format;
};

/* Defaults, then argv; what contradicts itself is refused.  SH_PARSED or an exit code. */
int sh_run_options_parse(struct sh_run_options *o, int argc, char **argv);
/* For mistakes that only show later. */
const struct sh_command *sh_run_command(void);

#endif
