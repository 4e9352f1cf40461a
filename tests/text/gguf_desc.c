/* gguf_desc.c - see gguf_desc.h. */
#include "gguf_desc.h"

#include <stdio.h>

#include "base/mem.h"

#define PREFIX "tokenizer.ggml."

static enum shoal_status take_strings(const struct sh_gguf *g, const char *key, struct sh_str **out,
                                      size_t *n, struct shoal_error *err)
{
    const struct sh_gguf_value *v;
    enum shoal_status st = sh_gguf_get_array(g, key, SH_GGUF_STRING, &v, err);

    *out = NULL;
    *n = 0;
    if (st || !v) return st;
    *out = sh_calloc(v->count, sizeof **out);
    if (!*out || !sh_gguf_fill_strings(v, *out, v->count))
        return sh_fail(err, SHOAL_ERR_NOMEM, "%s: cannot be read", key);
    *n = v->count;
    return SHOAL_OK;
}

static enum shoal_status take_numbers(struct gguf_desc *d, struct shoal_error *err)
{
    const struct sh_gguf_value *scores = sh_gguf_find(d->file, PREFIX "scores");
    const struct sh_gguf_value *types = sh_gguf_find(d->file, PREFIX "token_type");
    const size_t n = d->desc.n_tokens;

    if (scores) d->scores = sh_calloc(n, sizeof *d->scores);
    if (types) d->types = sh_calloc(n, sizeof *d->types);
    for (size_t i = 0; i < n; i++) {
        int64_t t = 0;
        if (scores && !sh_gguf_float_at(scores, i, &d->scores[i]))
            return sh_fail(err, SHOAL_ERR_FORMAT, "score %zu is missing", i);
        if (types && !sh_gguf_int_at(types, i, &t))
            return sh_fail(err, SHOAL_ERR_FORMAT, "token type %zu is missing", i);
        if (types) d->types[i] = (int32_t)t;
    }
    d->desc.scores = d->scores;
    d->desc.types = d->types;
    return SHOAL_OK;
}

static enum shoal_status take_flag(const struct sh_gguf *g, const char *key, int *out,
                                   struct shoal_error *err)
{
    bool on = false;
    enum shoal_status st = sh_gguf_get_bool(g, key, false, &on, err);

    if (!st && sh_gguf_find(g, key)) *out = on;
    return st;
}

static enum shoal_status take_roles(struct gguf_desc *d, struct shoal_error *err)
{
    static const char *const keys[] = {
#define X(name, key) PREFIX key,
        SH_VOCAB_ROLES(X)
#undef X
    };
    enum shoal_status st = SHOAL_OK;

    for (int r = 0; !st && r < SH_ROLE_COUNT; r++)
        st = sh_gguf_get_i64(d->file, keys[r], -1, &d->desc.roles[r], err);
    return st;
}

enum shoal_status gguf_desc_open(struct gguf_desc *d, const char *path, struct shoal_error *err)
{
    struct sh_vocab_desc *v = &d->desc;
    enum shoal_status st;

    *d = (struct gguf_desc)GGUF_DESC_INIT;
    sh_vocab_desc_init(v);
    st = sh_gguf_open(&d->file, path, err);
    if (st) goto done;
    st = sh_gguf_get_str(d->file, PREFIX "model", SH_STR_EMPTY, &v->model, err);
    if (!st) st = sh_gguf_get_str(d->file, PREFIX "pre", SH_STR_EMPTY, &v->pre, err);
    if (!st) st = sh_gguf_get_str(d->file, "general.name", SH_STR_EMPTY, &v->name, err);
    if (!st)
        st = sh_gguf_get_str(d->file, "general.architecture", SH_STR_EMPTY, &v->architecture, err);
    if (!st) st = take_strings(d->file, PREFIX "tokens", &d->tokens, &v->n_tokens, err);
    if (!st) st = take_strings(d->file, PREFIX "merges", &d->merges, &v->n_merges, err);
    if (!st) st = take_numbers(d, err);
    if (!st) st = take_roles(d, err);
    if (!st) st = take_flag(d->file, PREFIX "add_bos_token", &v->add_bos, err);
    if (!st) st = take_flag(d->file, PREFIX "add_eos_token", &v->add_eos, err);
    if (!st) st = take_flag(d->file, PREFIX "add_sep_token", &v->add_sep, err);
    if (!st) st = take_flag(d->file, PREFIX "add_space_prefix", &v->add_space_prefix, err);
    v->tokens = d->tokens;
    v->merges = d->merges;

done:
    if (st) gguf_desc_close(d);
    return st;
}

void gguf_desc_close(struct gguf_desc *d)
{
    sh_gguf_close(d->file);
    sh_free(d->tokens);
    sh_free(d->merges);
    sh_free(d->scores);
    sh_free(d->types);
    *d = (struct gguf_desc)GGUF_DESC_INIT;
}
