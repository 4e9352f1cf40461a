/* cmd/run_generate.c - one prompt, its continuation: streamed to stdout, or kept for JSON. */
#include "cmd/run_priv.h"

#include <unistd.h>

#include "cmd/interrupt.h"
#include "cmd/progress.h"

struct generation {
    struct sh_run *r;
    struct sh_progress progress;
};

static enum shoal_status put_text(struct sh_run *r, struct sh_str text, struct shoal_error *err)
{
    if (text.len == 0) return SHOAL_OK;
    r->line_open = text.ptr[text.len - 1] != '\n';
    return sh_write_all(STDOUT_FILENO, "stdout", text, err);
}

static void on_logits(void *self, int64_t index, const float *logits, int32_t n_vocab)
{
    struct generation *g = self;

    (void)index;
    if (!sh_logits_file_add(&g->r->logits, logits, n_vocab)) sh_engine_cancel(g->r->engine);
}

static void on_progress(void *self, int64_t done, int64_t total)
{
    struct generation *g = self;

    sh_progress_step(&g->progress, (uint64_t)done, (uint64_t)total);
}

static enum shoal_status on_token(void *self, int32_t id, struct sh_str text,
                                  struct shoal_error *err)
{
    struct generation *g = self;
    struct sh_run *r = g->r;
    enum shoal_status st = SHOAL_OK;

    if (r->ids.len == 0) {
        sh_progress_end(&g->progress);
        sh_traffic_take(&r->prompted, r->host);
    }
    if (id >= 0) st = sh_ids_push(&r->ids, id);
    if (!st && r->o.json) st = sh_buf_append(&r->text, text.ptr, text.len);
    if (st) return sh_fail(err, st, "no memory for the text");
    return r->o.json ? SHOAL_OK : put_text(r, text, err);
}

// "    504  The" for each token of the prompt.
static void show_prompt_ids(const struct sh_run *r)
{
    sh_say("the prompt has %zu tokens:", r->prompt.len);
    for (size_t i = 0; i < r->prompt.len; i++) {
        const struct sh_str piece = sh_token_piece(r->vocab, r->prompt.ptr[i], true);
        sh_say("%7d  '%.*s'", r->prompt.ptr[i], (int)piece.len, piece.ptr);
    }
}

// The prompt as text: as given, or what its ids stand for.
static enum shoal_status display_prompt(struct sh_run *r, struct shoal_error *err)
{
    const struct sh_detok_options how = {.special = true, .continuation = true};
    struct sh_buf text = SH_BUF_INIT;
    struct sh_detok d;
    enum shoal_status st = SHOAL_OK;

    if (r->prompt_text.len > 0)
        return put_text(r, (struct sh_str){r->prompt_text.ptr, r->prompt_text.len}, err);
    sh_detok_init(&d, r->vocab, &how);
    for (size_t i = 0; i < r->prompt.len && !st; i++)
        st = sh_detok_feed(&d, r->prompt.ptr[i], &text, err);
    if (!st) st = sh_detok_finish(&d, &text, err);
    if (!st) st = put_text(r, (struct sh_str){text.ptr, text.len}, err);
    sh_buf_release(&text);
    return st;
}

enum shoal_status sh_run_generate(struct sh_run *r, struct shoal_error *err)
{
    struct generation g = {.r = r};
    const struct sh_generate task = {.engine = r->engine,
                                     .vocab = r->vocab,
                                     .n_ctx = r->n_ctx,
                                     .prompt = r->prompt.ptr,
                                     .n_prompt = (int64_t)r->prompt.len,
                                     .n_predict = r->o.n_predict,
                                     .show_special = r->o.special,
                                     .logits = r->o.logits_out ? on_logits : NULL,
                                     .progress = on_progress,
                                     .token = on_token,
                                     .self = &g};
    enum shoal_status st = SHOAL_OK;

    if (r->o.verbose_prompt) show_prompt_ids(r);
    if (r->o.display_prompt && !r->o.json) st = display_prompt(r, err);
    if (st) return st;
    sh_engine_set_sampler(r->engine, &r->sampler, r->seed);
    sh_progress_init(&g.progress, "prompt", false);
    st = sh_generate(&task, &r->done, err);
    sh_progress_end(&g.progress);
    st = sh_logits_file_close(&r->logits, st, err);
    if (!st && r->done.stop == SH_STOP_CALLER) st = sh_fail(err, SHOAL_ERR_CANCELLED, "ended");
    if (r->ids.len == 0) sh_traffic_take(&r->prompted, r->host);
    if (r->line_open && !sh_interrupted()) {
        struct shoal_error ignored = SHOAL_ERROR_INIT;
        const enum shoal_status end = put_text(r, SH_STR_LIT("\n"), st ? &ignored : err);
        if (!st) st = end;
    }
    return st;
}
