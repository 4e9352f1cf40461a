/* vocab.c - building a vocabulary; see vocab.h. */
#include "text/vocab.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "text/unicode.h"
#include "text/vocab_priv.h"

#define TOKENS_MAX ((size_t)1 << 26)
#define MERGES_MAX ((size_t)1 << 26)
#define TEXT_BYTES_MAX ((size_t)1 << 31)

void sh_vocab_desc_init(struct sh_vocab_desc *desc)
{
    *desc = (struct sh_vocab_desc){.model = SH_STR_EMPTY,
                                   .pre = SH_STR_EMPTY,
                                   .name = SH_STR_EMPTY,
                                   .architecture = SH_STR_EMPTY,
                                   .add_bos = -1,
                                   .add_eos = -1,
                                   .add_sep = -1,
                                   .add_space_prefix = -1};
    for (int r = 0; r < SH_ROLE_COUNT; r++)
        desc->roles[r] = -1;
}

static enum shoal_status find_kind(struct sh_vocab *v, const struct sh_vocab_desc *desc,
                                   struct shoal_error *err)
{
    static const char *const names[] = {
#define X(name, text) text,
        SH_VOCAB_KINDS(X)
#undef X
    };

    for (int k = 0; k < SH_VOCAB_KIND_COUNT; k++) {
        if (!sh_str_is(desc->model, names[k])) continue;
        v->kind = (enum sh_vocab_kind)k;
        return SHOAL_OK;
    }
    if (sh_str_is(desc->model, "no_vocab")) {
        v->kind = SH_VOCAB_NONE;
        return SHOAL_OK;
    }
    return sh_fail(err, SHOAL_ERR_UNSUPPORTED,
                   "vocab: tokenizer model '%.*s' is not known (gpt2, llama and gemma4 are)",
                   (int)(desc->model.len < 60 ? desc->model.len : 60), desc->model.ptr);
}

/* The pre-tokeniser's row; NULL for kinds that have none. */
static enum shoal_status find_row(const struct sh_vocab *v, const struct sh_vocab_desc *desc,
                                  const struct sh_pre_row **row, struct shoal_error *err)
{
    struct sh_str name = desc->pre;

    *row = NULL;
    if (v->kind == SH_VOCAB_RAW_BPE) name = SH_STR_LIT("gemma4");
    if (v->kind == SH_VOCAB_SPM || v->kind == SH_VOCAB_NONE) return SHOAL_OK;
    if (name.len == 0) {
        sh_log(SH_LOG_WARN, "text", "the file names no pre-tokeniser: words may be cut wrongly");
        name = SH_STR_LIT("default");
    }
    *row = sh_pre_find(name);
    if (*row) return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_UNSUPPORTED, "vocab: pre-tokeniser '%.*s' is not known",
                   (int)(name.len < 60 ? name.len : 60), name.ptr);
}

static enum shoal_status check_sizes(const struct sh_vocab_desc *desc, enum sh_vocab_kind kind,
                                     struct shoal_error *err)
{
    if (desc->n_tokens == 0 || (!desc->tokens && kind != SH_VOCAB_NONE))
        return sh_fail(err, SHOAL_ERR_FORMAT, "vocab: there are no tokens");
    if (desc->n_tokens > TOKENS_MAX)
        return sh_fail(err, SHOAL_ERR_LIMIT, "vocab: %zu tokens, at most %zu are possible",
                       desc->n_tokens, TOKENS_MAX);
    if (desc->n_merges > MERGES_MAX)
        return sh_fail(err, SHOAL_ERR_LIMIT, "vocab: %zu merges, at most %zu are possible",
                       desc->n_merges, MERGES_MAX);
    return SHOAL_OK;
}

static enum shoal_status total_bytes(const struct sh_str *s, size_t n, const char *what,
                                     size_t *total, struct shoal_error *err)
{
    *total = 0;
    for (size_t i = 0; i < n; i++)
        if (!sh_add_ok(*total, s[i].len, total) || *total > TEXT_BYTES_MAX)
            return sh_fail(err, SHOAL_ERR_LIMIT, "vocab: the %s have more than %zu bytes", what,
                           TEXT_BYTES_MAX);
    return SHOAL_OK;
}

/* Copies of the texts; empty ones get a name. */
static enum shoal_status copy_texts(struct sh_vocab *v, const struct sh_vocab_desc *desc,
                                    struct shoal_error *err)
{
    const size_t n = desc->tokens ? desc->n_tokens : 0;
    size_t bytes;
    char *dst;
    enum shoal_status st = total_bytes(desc->tokens, n, "tokens", &bytes, err);

    if (st) return st;
    st = SHOAL_ERR_NOMEM;
    v->texts = sh_arena_calloc(&v->arena, desc->n_tokens, sizeof *v->texts);
    dst = sh_arena_calloc(&v->arena, bytes, 1);
    if (!v->texts || !dst) goto done;
    for (size_t i = 0; i < n; i++) {
        const struct sh_str t = desc->tokens[i];
        if (t.len == 0) {
            char name[32];
            const int len = snprintf(name, sizeof name, "[EMPTY_%zu]", i);
            const char *copy = sh_arena_strndup(&v->arena, name, (size_t)len);
            if (!copy) goto done;
            v->texts[i] = (struct sh_str){copy, (size_t)len};
        } else {
            memcpy(dst, t.ptr, t.len);
            v->texts[i] = (struct sh_str){dst, t.len};
            dst += t.len;
        }
    }
    st = SHOAL_OK;

done:
    if (st) return sh_fail(err, st, "vocab: no memory for %zu tokens", desc->n_tokens);
    return SHOAL_OK;
}

/* texts, types, traits, by_text. */
static enum shoal_status copy_tokens(struct sh_vocab *v, const struct sh_vocab_desc *desc,
                                     struct shoal_error *err)
{
    const size_t n = desc->n_tokens;
    size_t twice = 0;
    enum shoal_status st = copy_texts(v, desc, err);

    if (st) return st;
    v->n_tokens = (int32_t)n;
    v->types = sh_arena_calloc(&v->arena, n, sizeof *v->types);
    v->traits = sh_arena_calloc(&v->arena, n, sizeof *v->traits);
    st = v->types && v->traits ? sh_strmap_init(&v->by_text, n) : SHOAL_ERR_NOMEM;
    for (size_t i = 0; !st && i < n; i++) {
        const int32_t t = desc->types ? desc->types[i] : SH_TOKEN_NORMAL;
        uint32_t was = SH_NO_SYM;
        v->types[i] = (uint8_t)(t < 0 || t > SH_TOKEN_BYTE ? SH_TOKEN_UNDEFINED : t);
        if (v->texts[i].len) st = sh_strmap_put(&v->by_text, v->texts, (uint32_t)i, &was);
        if (was != SH_NO_SYM) twice++;
    }
    if (st) return sh_fail(err, st, "vocab: no memory for %zu tokens", n);
    if (twice)
        sh_log(SH_LOG_WARN, "text", "%zu tokens have the text of a later one and cannot be reached",
               twice);
    return SHOAL_OK;
}

/* Is token i one that is looked for in texts?  Byte-level BPE looks in UTF-8, where a text of parts
 * of characters would cut a character in two. */
static bool is_special(const struct sh_vocab *v, int32_t i)
{
    const struct sh_str text = v->texts[i];

    if (v->types[i] < SH_TOKEN_UNKNOWN || v->types[i] > SH_TOKEN_USER_DEFINED) return false;
    return v->kind == SH_VOCAB_SPM || sh_utf8_valid_len(text.ptr, text.len) == text.len;
}

static enum shoal_status build_special(struct sh_vocab *v, struct shoal_error *err)
{
    struct sh_special_token *list = NULL;
    size_t n = 0;
    enum shoal_status st;

    for (int32_t i = 0; i < v->n_tokens; i++)
        n += is_special(v, i);
    if (n == 0) return SHOAL_OK;
    list = sh_calloc(n, sizeof *list);
    if (!list) return sh_fail(err, SHOAL_ERR_NOMEM, "vocab: no memory for %zu special tokens", n);
    n = 0;
    for (int32_t i = 0; i < v->n_tokens; i++) {
        if (!is_special(v, i)) continue;
        list[n++] = (struct sh_special_token){
            .text = v->texts[i], .id = i, .always = v->types[i] == SH_TOKEN_USER_DEFINED};
    }
    st = sh_special_build(&v->special, list, n, err);
    sh_free(list);
    return st;
}

/* What the kind of vocabulary needs beyond tokens and roles. */
static enum shoal_status build_algorithm(struct sh_vocab *v, const struct sh_vocab_desc *desc,
                                         const struct sh_pre_row *row, struct shoal_error *err)
{
    enum shoal_status st;

    if (v->kind == SH_VOCAB_SPM) return sh_spm_build(v, desc, err);
    st = sh_pretok_create(&v->pretok, row, err);
    return st ? st : sh_bpe_build(v, desc, row->flags, err);
}

enum shoal_status sh_vocab_create(struct sh_vocab **out, const struct sh_vocab_desc *desc,
                                  struct shoal_error *err)
{
    struct sh_vocab *v = sh_calloc(1, sizeof *v);
    const struct sh_pre_row *row = NULL;
    enum shoal_status st;

    *out = NULL;
    if (!v) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "vocab: no memory");
        goto done;
    }
    st = find_kind(v, desc, err);
    if (!st) st = check_sizes(desc, v->kind, err);
    if (!st) st = find_row(v, desc, &row, err);
    if (!st) st = copy_tokens(v, desc, err);
    if (st) goto done;
    sh_vocab_set_roles(v, desc, row ? row->flags : 0);
    if (v->kind != SH_VOCAB_NONE) {
        st = build_algorithm(v, desc, row, err);
        if (!st) st = build_special(v, err);
        if (st) goto done;
    }
    *out = v;
    v = NULL;

done:
    sh_vocab_destroy(v);
    return st;
}

void sh_vocab_destroy(struct sh_vocab *v)
{
    if (!v) return;
    sh_bpe_release(&v->bpe);
    sh_special_release(&v->special);
    sh_strmap_release(&v->by_text);
    sh_pretok_destroy(v->pretok);
    sh_arena_release(&v->arena);
    sh_free(v);
}

/* ---- asking ------------------------------------------------------------------------------- */

static bool is_id(const struct sh_vocab *v, int32_t id)
{
    return id >= 0 && id < v->n_tokens;
}

enum sh_vocab_kind sh_vocab_kind(const struct sh_vocab *v)
{
    return v->kind;
}

int32_t sh_vocab_n_tokens(const struct sh_vocab *v)
{
    return v->n_tokens;
}

int32_t sh_vocab_role(const struct sh_vocab *v, enum sh_vocab_role role)
{
    return v->roles[role];
}

int32_t sh_vocab_newline(const struct sh_vocab *v)
{
    return v->kind == SH_VOCAB_NONE ? -1 : v->byte_token['\n'];
}

bool sh_vocab_adds_bos(const struct sh_vocab *v)
{
    return v->add_bos && v->roles[SH_ROLE_BOS] >= 0;
}

bool sh_vocab_adds_eos(const struct sh_vocab *v)
{
    return v->add_eos && v->roles[SH_ROLE_EOS] >= 0;
}

bool sh_vocab_adds_sep(const struct sh_vocab *v)
{
    return v->add_sep && v->roles[SH_ROLE_SEP] >= 0;
}

bool sh_vocab_adds_space(const struct sh_vocab *v)
{
    return v->add_space;
}

bool sh_vocab_cleans_spaces(const struct sh_vocab *v)
{
    return v->cleans_spaces;
}

enum sh_token_type sh_vocab_type(const struct sh_vocab *v, int32_t id)
{
    return is_id(v, id) ? (enum sh_token_type)v->types[id] : SH_TOKEN_UNDEFINED;
}

bool sh_vocab_is_eog(const struct sh_vocab *v, int32_t id)
{
    return is_id(v, id) && (v->traits[id] & SH_TRAIT_EOG);
}

bool sh_vocab_is_control(const struct sh_vocab *v, int32_t id)
{
    return sh_vocab_type(v, id) == SH_TOKEN_CONTROL;
}

struct sh_str sh_vocab_text(const struct sh_vocab *v, int32_t id)
{
    return is_id(v, id) && v->texts[id].len ? v->texts[id] : SH_STR_EMPTY;
}

int32_t sh_vocab_find(const struct sh_vocab *v, struct sh_str text)
{
    const uint32_t i = sh_strmap_find(&v->by_text, v->texts, text);
    return i == SH_NO_SYM ? -1 : (int32_t)i;
}

struct sh_str sh_token_piece(const struct sh_vocab *v, int32_t id, bool special)
{
    const enum sh_token_type t = sh_vocab_type(v, id);

    if (!is_id(v, id) || !v->pieces) return SH_STR_EMPTY;
    if (!special && (t == SH_TOKEN_CONTROL || t == SH_TOKEN_UNKNOWN)) return SH_STR_EMPTY;
    return v->pieces[id];
}

enum shoal_status sh_vocab_spell(const struct sh_vocab *v, struct sh_str s, struct sh_ids *out)
{
    const bool drops = v->kind == SH_VOCAB_BPE && !(v->bpe.flags & SH_PRE_RAW);

    for (size_t i = 0; i < s.len; i++) {
        int32_t id = v->byte_token[(uint8_t)s.ptr[i]];
        if (id < 0 && !drops) id = v->roles[SH_ROLE_UNK];
        enum shoal_status st = id < 0 ? SHOAL_OK : sh_ids_push(out, id);
        if (st) return st;
    }
    return SHOAL_OK;
}
