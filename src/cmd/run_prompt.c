/* cmd/run_prompt.c - from options and model file to what is fed and how tokens are chosen. */
#include "cmd/run_priv.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <sys/random.h>

#include "gguf/file.h"
#include "text/tokenize.h"

#define CTX_DEFAULT 4096
#define CTX_PERPLEXITY 512

/* ---- the prompt ----------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

// The byte that an escape at s (behind the backslash) stands for; 0 letters: none.
static size_t unescape(const char *s, char *byte)
{
    static const char names[] = "nrt'\"\\", bytes[] = "\n\r\t'\"\\";
    const char *found = *s ? strchr(names, *s) : NULL;

    if (found) {
        *byte = bytes[found - names];
        return 1;
    }
    if (*s != 'x') return 0;
    const int high = hex_digit(s[1]), low = high < 0 ? -1 : hex_digit(s[2]);
    if (low < 0) return 0;
    *byte = (char)(high * 16 + low);
    return 3;
}

static enum shoal_status add_unescaped(struct sh_buf *out, const char *s)
{
    enum shoal_status st = SHOAL_OK;

    while (*s && !st) {
        char byte = *s;
        size_t n = *s == '\\' ? unescape(s + 1, &byte) : 0;
        st = sh_buf_append(out, &byte, 1);
        s += n + 1;
    }
    return st;
}

enum shoal_status sh_run_read_text(struct sh_run *r, struct shoal_error *err)
{
    const struct sh_run_options *o = &r->o;
    struct sh_buf *text = &r->prompt_text;
    enum shoal_status st;

    if (o->prompt_ids.n) return SHOAL_OK;
    if (o->perplexity) return sh_read_all(text, o->perplexity, SH_TOKENIZE_BYTES_MAX, err);
    if (o->prompt_file) {
        st = sh_read_all(text, o->prompt_file, SH_TOKENIZE_BYTES_MAX, err);
        if (!st && text->len > 0 && text->ptr[text->len - 1] == '\n') text->ptr[--text->len] = '\0';
        return st;
    }
    st = o->escape ? add_unescaped(text, o->prompt)
                   : sh_buf_append(text, o->prompt, strlen(o->prompt));
    return st ? sh_fail(err, st, "no memory for the prompt") : SHOAL_OK;
}

static enum shoal_status read_ids(struct sh_run *r, struct shoal_error *err)
{
    struct sh_model_info info;
    int64_t id;

    sh_host_model_info(r->host, &info);
    for (int i = 0; i < r->o.prompt_ids.n; i++) {
        for (const char *at = r->o.prompt_ids.text[i]; sh_arg_number_next(&at, &id);) {
            if (id >= info.n_vocab)
                return sh_fail(err, SHOAL_ERR_ARG,
                               "--prompt-ids: there is no token %lld, the vocabulary has %lld",
                               (long long)id, (long long)info.n_vocab);
            if (sh_ids_push(&r->prompt, (int32_t)id))
                return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the prompt");
        }
    }
    return SHOAL_OK;
}

enum shoal_status sh_run_tokenize(struct sh_run *r, struct shoal_error *err)
{
    const struct sh_str text = {r->prompt_text.ptr ? r->prompt_text.ptr : "", r->prompt_text.len};
    enum shoal_status st;

    if (r->o.prompt_ids.n) {
        st = read_ids(r, err);
    } else {
        st = sh_tokenize(r->vocab, text, true, true, &r->prompt, err);
    }
    if (st) return st;
    if (r->prompt.len == 0)
        return sh_fail(err, SHOAL_ERR_ARG,
                       "the prompt is empty, and this model begins texts with no token of its own");
    if ((int64_t)r->prompt.len > r->n_ctx)
        return sh_fail(err, SHOAL_ERR_LIMIT,
                       "the prompt has %zu tokens, the context holds %lld (-c makes it larger)",
                       r->prompt.len, (long long)r->n_ctx);
    return SHOAL_OK;
}

/* ---- the context ---------------------------------------------------------------------------- */

// The context that the model was trained for, or 0 where the file does not say.
static enum shoal_status read_trained_ctx(const char *path, int64_t *out, struct shoal_error *err)
{
    struct sh_gguf *g = NULL;
    struct sh_str arch;
    char key[128];
    enum shoal_status st = sh_gguf_open(&g, path, err);

    *out = 0;
    if (!st) st = sh_gguf_get_str(g, "general.architecture", SH_STR_EMPTY, &arch, err);
    if (!st && arch.len < 64) {
        (void)snprintf(key, sizeof key, "%.*s.context_length", (int)arch.len, arch.ptr);
        st = sh_gguf_get_i64(g, key, 0, out, err);
    }
    sh_gguf_close(g);
    return st;
}

enum shoal_status sh_run_choose_ctx(struct sh_run *r, int64_t *n_ctx, struct shoal_error *err)
{
    int64_t trained;
    enum shoal_status st = read_trained_ctx(r->o.model, &trained, err);

    if (st) return st;
    *n_ctx = r->o.n_ctx;
    if (r->o.n_ctx == SH_UNSET_INT) {
        const int64_t most = r->o.perplexity ? CTX_PERPLEXITY : CTX_DEFAULT;
        *n_ctx = trained > 0 && trained < most ? trained : most;
    }
    if (trained > 0 && *n_ctx > trained)
        sh_say("note: a context of %lld is more than the %lld that this model was trained for",
               (long long)*n_ctx, (long long)trained);
    return SHOAL_OK;
}

/* ---- the sampler ---------------------------------------------------------------------------- */

static enum shoal_status pick_real(const struct sh_gguf *g, double given, const char *key,
                                   float *value, struct shoal_error *err)
{
    if (isnan(given)) return sh_gguf_get_f32(g, key, *value, value, err);
    *value = (float)given;
    return SHOAL_OK;
}

static enum shoal_status pick_int(const struct sh_gguf *g, int64_t given, const char *key,
                                  int32_t *value, struct shoal_error *err)
{
    int64_t v = given;
    enum shoal_status st = SHOAL_OK;

    if (given == SH_UNSET_INT) st = sh_gguf_get_i64(g, key, *value, &v, err);
    if (!st && (v < -1 || v > INT32_MAX))
        st =
            sh_fail(err, SHOAL_ERR_FORMAT, "%s: %s is %lld", sh_gguf_path(g, 0), key, (long long)v);
    if (!st) *value = (int32_t)v;
    return st;
}

enum shoal_status sh_run_choose_sampler(struct sh_run *r, struct shoal_error *err)
{
    const struct sh_gguf *g = sh_host_file(r->host);
    const struct sh_run_options *o = &r->o;
    struct sh_sampler_params *p = &r->sampler;
    enum shoal_status st;

    *p = (struct sh_sampler_params)SH_SAMPLER_DEFAULTS;
    st = pick_real(g, o->temp, "general.sampling.temp", &p->temp, err);
    if (!st) st = pick_real(g, o->top_p, "general.sampling.top_p", &p->top_p, err);
    if (!st) st = pick_real(g, o->min_p, "general.sampling.min_p", &p->min_p, err);
    if (!st)
        st = pick_real(g, o->repeat_penalty, "general.sampling.penalty_repeat", &p->repeat_penalty,
                       err);
    if (!st) st = pick_int(g, o->top_k, "general.sampling.top_k", &p->top_k, err);
    if (!st)
        st = pick_int(g, o->repeat_last_n, "general.sampling.penalty_last_n", &p->repeat_last_n,
                      err);
    if (st) return st;
    if (p->repeat_last_n < 0) p->repeat_last_n = (int32_t)r->n_ctx;
    r->seed = (uint32_t)o->seed;
    if (o->seed < 0 && getrandom(&r->seed, sizeof r->seed, 0) != (ssize_t)sizeof r->seed)
        return sh_fail_errno(err, SHOAL_ERR_IO, errno, "no random seed");
    return SHOAL_OK;
}
