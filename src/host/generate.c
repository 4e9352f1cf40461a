/* host/generate.c - see generate.h. */
#include "host/generate.h"

#include "base/clock.h"

// Hand a token and what it completes to the receiver.
static enum shoal_status deliver(const struct sh_generate *g, struct sh_detok *detok, int32_t id,
                                 struct sh_buf *text, struct shoal_error *err)
{
    enum shoal_status st;

    sh_buf_clear(text);
    st = id >= 0 ? sh_detok_feed(detok, id, text, err) : sh_detok_finish(detok, text, err);
    if (st || (id < 0 && text->len == 0)) return st;
    return g->token(g->self, id, (struct sh_str){text->ptr ? text->ptr : "", text->len}, err);
}

// Why no further token follows; false if one does.
static bool is_over(const struct sh_generate *g, int64_t n, int32_t last, enum sh_stop *stop)
{
    if (sh_vocab_is_eog(g->vocab, last)) {
        *stop = SH_STOP_END;
    } else if (g->n_predict >= 0 && n >= g->n_predict) {
        *stop = SH_STOP_LENGTH;
    } else if (sh_engine_length(g->engine) >= g->n_ctx) {
        *stop = SH_STOP_CONTEXT;
    } else {
        return false;
    }
    return true;
}

enum shoal_status sh_generate(const struct sh_generate *g, struct sh_generated *out,
                              struct shoal_error *err)
{
    const struct sh_detok_options how = {.special = g->show_special, .continuation = true};
    struct sh_feed feed = {.ids = g->prompt,
                           .n = g->n_prompt,
                           .sample = g->n_predict != 0,
                           .logits = g->logits,
                           .progress = g->progress,
                           .self = g->self};
    int64_t began = sh_now_ns(&sh_clock_system);
    struct sh_buf text = SH_BUF_INIT;
    struct sh_detok detok;
    int32_t token, last;
    enum shoal_status st;

    *out = (struct sh_generated){.stop = SH_STOP_LENGTH};
    sh_detok_init(&detok, g->vocab, &how);
    st = sh_engine_feed(g->engine, &feed, &token, err);
    out->prompt_ns = sh_now_ns(&sh_clock_system) - began;
    if (st || g->n_predict == 0) goto done;
    began += out->prompt_ns;
    for (;;) {
        out->n++;
        out->predict_ns = sh_now_ns(&sh_clock_system) - began;
        st = deliver(g, &detok, token, &text, err);
        if (st || is_over(g, out->n, token, &out->stop)) break;
        last = token;
        feed = (struct sh_feed){.ids = &last, .n = 1, .sample = true};
        st = sh_engine_feed(g->engine, &feed, &token, err);
        if (st) goto done;
    }
    if (!st) st = deliver(g, &detok, -1, &text, err);
    if (st == SHOAL_ERR_CANCELLED) {
        out->stop = SH_STOP_CALLER;
        st = SHOAL_OK;
    }

done:
    sh_buf_release(&text);
    return st;
}
