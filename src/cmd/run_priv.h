/* cmd/run_priv.h - what the files of `shoal run` share.
 *
 *     run.c             opens the model, leads through one run
 *     run_options.c     the command line
 *     run_prompt.c      the prompt's ids, the sampler's parameters
 *     run_generate.c    tokens: streamed as text, collected for JSON
 *     run_logits.c      --logits-out
 *     run_perplexity.c  --perplexity
 *     run_report.c      plan and timings for people
 *     run_workers.c     and what there is to say of workers
 *     run_json.c        the same for programs
 */
#ifndef CMD_RUN_PRIV_H
#define CMD_RUN_PRIV_H

#include "cmd/console.h"
#include "cmd/run_options.h"
#include "host/generate.h"
#include "host/host.h"
#include "text/ids.h"

/* Traffic of all servers at one moment. */
struct sh_traffic {
    int n;
    struct sh_host_network server[SH_HOST_DEVICES_MAX];
};

/* run_logits.c: --logits-out.  Opened before the model is, so that a mistake shows at once. */
struct sh_logits_file {
    const char *path;
    int fd;
    uint8_t *row; /* one row as bytes */
    enum shoal_status status;
    struct shoal_error err;
};
/* `path` NULL: nothing is written and add() must not be called. */
SHOAL_NODISCARD enum shoal_status sh_logits_file_open(struct sh_logits_file *f, const char *path,
                                                      struct shoal_error *err);
/* False when nothing can be written; close() then says why. */
bool sh_logits_file_add(struct sh_logits_file *f, const float *logits, int32_t n_vocab);
/* Done: `st` so far; a failure of the file is more telling than the feed's that it caused. */
SHOAL_NODISCARD enum shoal_status
sh_logits_file_close(struct sh_logits_file *f, enum shoal_status st, struct shoal_error *err);
void sh_logits_file_release(struct sh_logits_file *f); /* accepts a closed one */

struct sh_run {
    struct sh_run_options o;
    struct sh_host *host;
    struct sh_engine *engine;
    const struct sh_vocab *vocab; /* the host's */
    int64_t n_ctx;
    struct sh_sampler_params sampler;
    uint32_t seed;

    struct sh_logits_file logits;
    struct sh_buf prompt_text; /* as it is tokenised; empty with --prompt-ids */
    struct sh_ids prompt;      /* ids */
    struct sh_ids ids;         /* what came */
    struct sh_buf text;        /* the same as text, where it is kept (--json) */
    bool line_open;            /* stdout holds text without a newline at its end */
    struct sh_generated done;

    int64_t load_ns, total_ns;
    struct sh_traffic loaded, prompted, ended; /* after these moments */

    double perplexity, perplexity_error;
    int64_t n_chunks, chunk_tokens;
    bool has_perplexity;
};

void sh_traffic_take(struct sh_traffic *t, const struct sh_host *h);

/* run_prompt.c: the text (of the prompt or for --perplexity), then its ids. */
SHOAL_NODISCARD enum shoal_status sh_run_read_text(struct sh_run *r, struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_run_tokenize(struct sh_run *r, struct shoal_error *err);
/* Command line, else the model file's own, else the default. */
SHOAL_NODISCARD enum shoal_status sh_run_choose_sampler(struct sh_run *r, struct shoal_error *err);
/* Most tokens of this run, as sh_host_options.n_ctx takes it.  Reads the head of the file. */
SHOAL_NODISCARD enum shoal_status sh_run_choose_ctx(struct sh_run *r, int64_t *n_ctx,
                                                    struct shoal_error *err);

/* run_generate.c, run_perplexity.c: the work itself, results into *r. */
SHOAL_NODISCARD enum shoal_status sh_run_generate(struct sh_run *r, struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_run_perplexity(struct sh_run *r, struct shoal_error *err);

/* run_report.c: on stderr. */
void sh_run_show_plan(const struct sh_run *r);
void sh_run_show_timings(const struct sh_run *r);
/* run_workers.c: the same. */
void sh_run_show_workers(const struct sh_run *r);
/* run_json.c: on stdout. */
SHOAL_NODISCARD enum shoal_status sh_run_write_json(const struct sh_run *r,
                                                    struct shoal_error *err);

#endif
