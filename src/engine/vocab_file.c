/* engine/vocab_file.c - see vocab_file.h. */
#include "engine/vocab_file.h"

#include <stdio.h>

#include "base/mem.h"

/* Arrays made for the call of sh_vocab_create(). */
struct arrays {
    struct sh_str *tokens, *merges;
    float *scores;
    int32_t *types;
};

static const char *const ROLE_KEYS[SH_ROLE_COUNT] = {
#define X(name, key) "tokenizer.ggml." key,
    SH_VOCAB_ROLES(X)
#undef X
};

static enum shoal_status wrong_count(const char *key, size_t have, size_t want,
                                     struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_FORMAT, "vocabulary: %s has %zu entries for %zu tokens", key,
                   have, want);
}

static enum shoal_status read_strings(const struct sh_gguf *g, const char *key, struct sh_str **out,
                                      size_t *n, struct shoal_error *err)
{
    const struct sh_gguf_value *v;
    enum shoal_status st = sh_gguf_get_array(g, key, SH_GGUF_STRING, &v, err);

    *out = NULL;
    *n = 0;
    if (st || !v) return st;
    *out = sh_calloc(v->count, sizeof **out);
    if (!*out) {
        return sh_fail(err, SHOAL_ERR_NOMEM, "vocabulary: no memory for %zu strings", v->count);
    }
    if (!sh_gguf_fill_strings(v, *out, v->count))
        return sh_fail(err, SHOAL_ERR_FORMAT, "vocabulary: %s holds no strings", key);
    *n = v->count;
    return SHOAL_OK;
}

static enum shoal_status read_scores(const struct sh_gguf *g, struct arrays *a, size_t n,
                                     struct shoal_error *err)
{
    const char *key = "tokenizer.ggml.scores";
    const struct sh_gguf_value *v;
    enum shoal_status st = sh_gguf_get_array(g, key, SH_GGUF_F32, &v, err);

    if (st || !v) return st;
    if (v->count != n) return wrong_count(key, v->count, n, err);
    a->scores = sh_calloc(n, sizeof *a->scores);
    if (!a->scores) return sh_fail(err, SHOAL_ERR_NOMEM, "vocabulary: no memory for scores");
    for (size_t i = 0; i < n; i++)
        if (!sh_gguf_float_at(v, i, &a->scores[i])) a->scores[i] = 0;
    return SHOAL_OK;
}

static enum shoal_status read_types(const struct sh_gguf *g, struct arrays *a, size_t n,
                                    struct shoal_error *err)
{
    const char *key = "tokenizer.ggml.token_type";
    const struct sh_gguf_value *v;
    enum shoal_status st = sh_gguf_get_array(g, key, SH_GGUF_I32, &v, err);

    if (st || !v) return st;
    if (v->count != n) return wrong_count(key, v->count, n, err);
    a->types = sh_calloc(n, sizeof *a->types);
    if (!a->types) return sh_fail(err, SHOAL_ERR_NOMEM, "vocabulary: no memory for types");
    for (size_t i = 0; i < n; i++) {
        int64_t t;
        a->types[i] = sh_gguf_int_at(v, i, &t) && t >= 0 && t <= INT32_MAX ? (int32_t)t : 0;
    }
    return SHOAL_OK;
}

// 0 or 1, -1 where the file is silent.
static enum shoal_status read_flag(const struct sh_gguf *g, const char *key, int *out,
                                   struct shoal_error *err)
{
    bool v = false;
    enum shoal_status st;

    *out = -1;
    if (!sh_gguf_find(g, key)) return SHOAL_OK;
    st = sh_gguf_get_bool(g, key, false, &v, err);
    if (!st) *out = v;
    return st;
}

static enum shoal_status read_plain(const struct sh_gguf *g, struct sh_vocab_desc *d,
                                    struct shoal_error *err)
{
    const struct sh_str none = SH_STR_EMPTY;
    enum shoal_status st;

    st = sh_gguf_get_str(g, "tokenizer.ggml.model", SH_STR_LIT("none"), &d->model, err);
    if (!st) st = sh_gguf_get_str(g, "tokenizer.ggml.pre", none, &d->pre, err);
    if (!st) st = sh_gguf_get_str(g, "general.name", none, &d->name, err);
    if (!st) st = sh_gguf_get_str(g, "general.architecture", none, &d->architecture, err);
    for (int i = 0; i < SH_ROLE_COUNT && !st; i++)
        st = sh_gguf_get_i64(g, ROLE_KEYS[i], -1, &d->roles[i], err);
    if (!st) st = read_flag(g, "tokenizer.ggml.add_bos_token", &d->add_bos, err);
    if (!st) st = read_flag(g, "tokenizer.ggml.add_eos_token", &d->add_eos, err);
    if (!st) st = read_flag(g, "tokenizer.ggml.add_sep_token", &d->add_sep, err);
    if (!st) st = read_flag(g, "tokenizer.ggml.add_space_prefix", &d->add_space_prefix, err);
    return st;
}

enum shoal_status sh_vocab_from_file(struct sh_vocab **out, const struct sh_gguf *g,
                                     int64_t n_vocab, struct shoal_error *err)
{
    struct sh_vocab_desc d;
    struct arrays a = {0};
    enum shoal_status st;

    *out = NULL;
    sh_vocab_desc_init(&d);
    st = read_plain(g, &d, err);
    if (!st) st = read_strings(g, "tokenizer.ggml.tokens", &a.tokens, &d.n_tokens, err);
    if (!st) st = read_strings(g, "tokenizer.ggml.merges", &a.merges, &d.n_merges, err);
    if (!st) st = read_scores(g, &a, d.n_tokens, err);
    if (!st) st = read_types(g, &a, d.n_tokens, err);
    if (st) goto done;
    d.tokens = a.tokens;
    d.merges = a.merges;
    d.scores = a.scores;
    d.types = a.types;
    if (!d.tokens) d.n_tokens = (size_t)n_vocab;
    st = sh_vocab_create(out, &d, err);

done:
    sh_free(a.tokens);
    sh_free(a.merges);
    sh_free(a.scores);
    sh_free(a.types);
    return st;
}
