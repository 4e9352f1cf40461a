/* bpe.c - byte-pair encoding of one word.
 *
 * Everything is resolved once, while building: each merge becomes (left symbol, right symbol) ->
 * (rank, joined symbol), so that encoding compares numbers and never strings.  Byte-level
 * vocabularies are turned into plain bytes; raw ones are UTF-8 already and start from characters.
 */
#include "base/mem.h"
#include "text/unicode.h"
#include "text/vocab_priv.h"

void sh_bpe_release(struct sh_bpe *b)
{
    sh_free(b->syms);
    sh_strmap_release(&b->by_bytes);
    sh_pairmap_release(&b->merges);
    *b = (struct sh_bpe){0};
}

/* ---- building ----------------------------------------------------------------------------- */

/* The symbol of these bytes, made if there is none. */
static enum shoal_status intern(struct sh_vocab *v, struct sh_str bytes, uint32_t *sym)
{
    struct sh_bpe *b = &v->bpe;
    char *copy;

    *sym = sh_strmap_find(&b->by_bytes, b->syms, bytes);
    if (*sym != SH_NO_SYM) return SHOAL_OK;
    if (b->n_syms == b->cap_syms) {
        const uint32_t cap = b->cap_syms * 2;
        struct sh_str *p = sh_realloc_array(b->syms, cap, sizeof *p);
        if (!p) return SHOAL_ERR_NOMEM;
        b->syms = p;
        b->cap_syms = cap;
    }
    copy = sh_arena_strndup(&v->arena, bytes.ptr, bytes.len);
    if (!copy) return SHOAL_ERR_NOMEM;
    *sym = b->n_syms++;
    b->syms[*sym] = (struct sh_str){copy, bytes.len};
    return sh_strmap_put(&b->by_bytes, b->syms, *sym, NULL);
}

static enum shoal_status add_symbols(struct sh_vocab *v, bool raw)
{
    struct sh_bpe *b = &v->bpe;
    const uint32_t n = (uint32_t)v->n_tokens;
    enum shoal_status st;

    b->cap_syms = n + 256;
    b->syms = sh_calloc(b->cap_syms, sizeof *b->syms);
    if (!b->syms) return SHOAL_ERR_NOMEM;
    st = sh_vocab_set_pieces(v, raw ? NULL : b->syms);
    if (st) return st;
    st = sh_strmap_init(&b->by_bytes, b->cap_syms);
    for (uint32_t i = 0; !st && i < n; i++) {
        if (raw) b->syms[i] = v->texts[i];
        if (b->syms[i].ptr) st = sh_strmap_put(&b->by_bytes, b->syms, i, NULL);
    }
    b->n_syms = n;
    for (int c = 0; !st && !raw && c < 256; c++) {
        const char byte = (char)c;
        st = intern(v, (struct sh_str){&byte, 1}, &b->byte_sym[c]);
        if (!st) v->byte_token[c] = b->byte_sym[c] < n ? (int32_t)b->byte_sym[c] : -1;
    }
    return st;
}

/* The same for what a merge makes: most files list merges in the order of their tokens, so it is
 * usually *near, the symbol of the merge before, or the one behind it.  (Not to be guessed where
 * tokens share a text, of which the last counts.) */
static enum shoal_status intern_near(struct sh_vocab *v, struct sh_str bytes, uint32_t *near)
{
    const struct sh_bpe *b = &v->bpe;
    const bool unique = v->by_text.used == (size_t)v->n_tokens;

    for (uint32_t s = *near; unique && s < *near + 2 && s < b->n_syms; s++) {
        if (!b->syms[s].ptr || !sh_str_equal(b->syms[s], bytes)) continue;
        *near = s;
        return SHOAL_OK;
    }
    return intern(v, bytes, near);
}

/* Enter merge i, "left right"; *near is the symbol that the merge before made. */
static enum shoal_status add_merge(struct sh_vocab *v, size_t i, struct sh_str merge, bool raw,
                                   uint32_t *near, struct sh_buf *scratch, struct shoal_error *err)
{
    const char *space = merge.len > 1 ? memchr(merge.ptr + 1, ' ', merge.len - 1) : NULL;
    const size_t at = space ? (size_t)(space - merge.ptr) : 0;
    struct sh_str left = {merge.ptr, at}, right = {merge.ptr + at + 1, merge.len - at - 1};
    size_t n_left = left.len, n_right = right.len;
    bool clean = true, clean_too = true;
    uint32_t a, b;
    enum shoal_status st;

    if (!space || right.len == 0)
        return sh_fail(err, SHOAL_ERR_FORMAT, "vocab: merge %zu '%.*s' is not two parts", i,
                       (int)(merge.len < 60 ? merge.len : 60), merge.ptr ? merge.ptr : "");
    st = sh_buf_reserve(scratch, merge.len);
    if (st) goto done;
    if (raw) {
        memcpy(scratch->ptr, left.ptr, left.len);
        memcpy(scratch->ptr + left.len, right.ptr, right.len);
    } else {
        n_left = sh_alphabet_decode(scratch->ptr, left, &clean);
        n_right = sh_alphabet_decode(scratch->ptr + n_left, right, &clean_too);
        if (!clean || !clean_too) return SHOAL_OK; // no text can come to this
    }
    st = intern(v, (struct sh_str){scratch->ptr, n_left}, &a);
    if (!st) st = intern(v, (struct sh_str){scratch->ptr + n_left, n_right}, &b);
    if (!st) st = intern_near(v, (struct sh_str){scratch->ptr, n_left + n_right}, near);
    // Of equal pairs the first counts.
    if (!st) (void)sh_pairmap_put(&v->bpe.merges, a, b, (uint32_t)i, *near);

done:
    return st ? sh_fail(err, st, "vocab: no memory for the merges") : SHOAL_OK;
}

enum shoal_status sh_bpe_build(struct sh_vocab *v, const struct sh_vocab_desc *desc,
                               unsigned pre_flags, struct shoal_error *err)
{
    const bool raw = (pre_flags & SH_PRE_RAW) != 0;
    const size_t n = desc->merges ? desc->n_merges : 0;
    struct sh_buf scratch = SH_BUF_INIT;
    uint32_t near = 0;
    enum shoal_status st = add_symbols(v, raw);

    v->bpe.flags = pre_flags;
    if (!st) st = sh_pairmap_init(&v->bpe.merges, n);
    if (st) return sh_fail(err, st, "vocab: no memory for %d tokens", v->n_tokens);
    for (size_t i = 0; !st && i < n; i++)
        st = add_merge(v, i, desc->merges[i], raw, &near, &scratch, err);
    for (uint32_t i = 0; raw && i < v->bpe.n_syms; i++)
        sh_bars_note(v, v->bpe.syms[i]);
    sh_buf_release(&scratch);
    return st;
}

/* ---- encoding ----------------------------------------------------------------------------- */

static bool merge_rule(const void *tables, const char *word, const struct sh_merge_part *a,
                       const struct sh_merge_part *b, uint32_t *rank, uint32_t *sym)
{
    const struct sh_bpe *bpe = tables;
    const struct sh_pairmap_slot *hit = sh_pairmap_find(&bpe->merges, a->sym, b->sym);

    (void)word;
    if (!hit) return false;
    *rank = hit->x;
    *sym = hit->y;
    return true;
}

/* The token that is the whole word, if the vocabulary takes words whole; or -1. */
static int32_t whole_word(const struct sh_vocab *v, struct sh_str word)
{
    const struct sh_bpe *b = &v->bpe;
    uint32_t sym;

    if (!(b->flags & SH_PRE_IGNORE_MERGES)) {
        if (!(b->flags & SH_PRE_WHOLE_NEWLINES)) return -1;
        for (size_t i = 0; i < word.len; i++)
            if (word.ptr[i] != '\n') return -1;
    }
    sym = sh_strmap_find(&b->by_bytes, b->syms, word);
    if (sym >= (uint32_t)v->n_tokens) return -1;
    // Plain text must not become a special token, whatever it spells.
    if (v->types[sym] == SH_TOKEN_CONTROL || v->types[sym] == SH_TOKEN_UNKNOWN) return -1;
    return (int32_t)sym;
}

static void split_bytes(const struct sh_bpe *b, struct sh_merger *m, struct sh_str word)
{
    for (uint32_t i = 0; i < word.len; i++)
        m->parts[i] =
            (struct sh_merge_part){.sym = b->byte_sym[(uint8_t)word.ptr[i]], .begin = i, .len = 1};
    m->n_parts = word.len;
}

static void split_chars(const struct sh_bpe *b, struct sh_merger *m, struct sh_str word)
{
    size_t n = 0;

    for (size_t i = 0; i < word.len; n++) {
        const size_t promised = sh_utf8_promised(word.ptr[i]);
        const size_t len = promised < word.len - i ? promised : word.len - i;
        m->parts[n] = (struct sh_merge_part){
            .sym = sh_strmap_find(&b->by_bytes, b->syms, (struct sh_str){word.ptr + i, len}),
            .begin = (uint32_t)i,
            .len = (uint32_t)len};
        i += len;
    }
    m->n_parts = n;
}

enum shoal_status sh_bpe_encode(const struct sh_vocab *v, struct sh_merger *m, struct sh_str word,
                                struct sh_ids *out)
{
    const struct sh_bpe *b = &v->bpe;
    const int32_t whole = whole_word(v, word);
    enum shoal_status st;

    if (whole >= 0) return sh_ids_push(out, whole);
    st = sh_merger_start(m, word.len);
    if (st) return st;
    if (b->flags & SH_PRE_RAW)
        split_chars(b, m, word);
    else
        split_bytes(b, m, word);
    st = sh_merger_run(m, word.ptr, merge_rule, b);
    for (size_t i = 0; !st && i < m->n_parts; i++) {
        const struct sh_merge_part *p = &m->parts[i];
        if (p->sym < (uint32_t)v->n_tokens)
            st = sh_ids_push(out, (int32_t)p->sym);
        else
            st = sh_vocab_spell(v, (struct sh_str){word.ptr + p->begin, p->len}, out);
    }
    return st;
}
