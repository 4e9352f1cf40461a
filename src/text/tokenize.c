/* tokenize.c - see tokenize.h.
 *
 *   text -> fragments between special tokens -> words -> cache, or merging
 *
 * Words are slices of `base`: the cleaned text, or for vocabularies that write spaces as U+2581 a
 * copy of all fragments so far.  Most words of a text have been seen in it before; the cache
 * points at their earlier ids in the output.  It is direct-mapped: a collision costs one merging
 * and no more.
 */
#include "text/tokenize.h"

#include "base/log.h"
#include "base/mem.h"
#include "text/unicode.h"
#include "text/vocab_priv.h"

#define CACHE_SLOTS_MAX ((size_t)8192)
#define CACHE_WORD_MAX 256 /* bytes */

struct seen {
    uint64_t hash;
    size_t at;           /* of the word in base */
    size_t first;        /* of its ids in the output */
    uint32_t len, n_ids; /* len 0: empty */
};

struct encoder {
    const struct sh_vocab *v;
    struct sh_ids *out;
    struct shoal_error *err;
    const char *base;
    struct sh_buf cleaned; /* of a text that is not UTF-8 */
    struct sh_buf escaped; /* fragments with spaces written U+2581 */
    struct sh_pretok_run *run;
    struct sh_merger merger;
    struct sh_special_hits hits;
    struct seen *cache; /* NULL for short texts */
    size_t cache_mask;
    uint64_t seed;
};

static enum shoal_status no_memory(const struct encoder *e)
{
    return sh_fail(e->err, SHOAL_ERR_NOMEM, "tokenize: no memory after %zu tokens", e->out->len);
}

static bool is_bpe(const struct sh_vocab *v)
{
    return v->kind == SH_VOCAB_BPE || v->kind == SH_VOCAB_RAW_BPE;
}

/* ---- words -------------------------------------------------------------------------------- */

static enum shoal_status encode(struct encoder *e, struct sh_str word)
{
    return is_bpe(e->v) ? sh_bpe_encode(e->v, &e->merger, word, e->out)
                        : sh_spm_encode(e->v, &e->merger, word, e->out);
}

/* Append the ids of base[begin..end). */
static enum shoal_status put_word(void *user, size_t begin, size_t end)
{
    struct encoder *e = user;
    const struct sh_str word = {e->base + begin, end - begin};
    const size_t first = e->out->len;
    struct seen *slot = NULL;
    uint64_t hash = 0;
    enum shoal_status st;

    if (e->cache && word.len <= CACHE_WORD_MAX) {
        hash = sh_hash_seeded(e->seed, word.ptr, word.len);
        slot = &e->cache[hash & e->cache_mask];
        if (slot->len == word.len && slot->hash == hash &&
            memcmp(e->base + slot->at, word.ptr, word.len) == 0) {
            if (slot->n_ids == 0) return SHOAL_OK; // perhaps there is no list at all yet
            st = sh_ids_append(e->out, e->out->ptr + slot->first, slot->n_ids);
            return st ? no_memory(e) : SHOAL_OK;
        }
    }
    st = encode(e, word);
    if (st) return no_memory(e);
    if (slot)
        *slot = (struct seen){.hash = hash,
                              .at = begin,
                              .first = first,
                              .len = (uint32_t)word.len,
                              .n_ids = (uint32_t)(e->out->len - first)};
    return SHOAL_OK;
}

/* ---- fragments ---------------------------------------------------------------------------- */

/* Append `s` to the escaped text, after one more space if `prefix`. */
static enum shoal_status escape(struct encoder *e, struct sh_str s, bool prefix)
{
    enum shoal_status st = prefix ? sh_buf_append(&e->escaped, SH_UTF8_LOWER_BAR, 3) : SHOAL_OK;

    while (!st && s.len) {
        const char *space = memchr(s.ptr, ' ', s.len);
        const size_t n = space ? (size_t)(space - s.ptr) : s.len;
        st = sh_buf_append(&e->escaped, s.ptr, n);
        if (!st && space) st = sh_buf_append(&e->escaped, SH_UTF8_LOWER_BAR, 3);
        s.ptr += n + (space != NULL);
        s.len -= n + (space != NULL);
    }
    e->base = e->escaped.ptr;
    return st ? no_memory(e) : SHOAL_OK;
}

/* Encode escaped[begin..end) word by word. */
static enum shoal_status put_escaped(void *user, size_t begin, size_t end)
{
    struct encoder *e = user;
    const struct sh_str text = {e->escaped.ptr, end};

    while (begin < end) {
        const size_t word_end = sh_bars_word_end(e->v, text, begin);
        enum shoal_status st = put_word(e, begin, word_end);
        if (st) return st;
        begin = word_end;
    }
    return SHOAL_OK;
}

/* Encode text[begin..end), which holds no special token. */
static enum shoal_status put_fragment(struct encoder *e, struct sh_str text, size_t begin,
                                      size_t end)
{
    const struct sh_vocab *v = e->v;
    const struct sh_str fragment = {text.ptr + begin, end - begin};
    const size_t at = e->escaped.len;
    enum shoal_status st;

    if (begin == end) return SHOAL_OK;
    if (is_bpe(v) && !(v->bpe.flags & SH_PRE_ESCAPE_SPACES))
        return sh_pretok_split(v->pretok, e->run, text.ptr, begin, end, put_word, e, e->err);
    st = escape(e, fragment, v->add_space);
    if (st) return st;
    if (!is_bpe(v)) return put_escaped(e, at, e->escaped.len);
    return sh_pretok_split(v->pretok, e->run, e->base, at, e->escaped.len, put_escaped, e, e->err);
}

static enum shoal_status put_text(struct encoder *e, struct sh_str text, bool parse_special)
{
    const struct sh_vocab *v = e->v;
    size_t begin = 0;
    enum shoal_status st = sh_special_scan(&v->special, text, parse_special, &e->hits);

    if (st) return no_memory(e);
    e->base = text.ptr;
    for (size_t i = e->hits.len; i-- > 0;) {
        const struct sh_special_hit hit = e->hits.ptr[i];
        size_t end = hit.pos;
        if (hit.pos < begin) continue; // inside the one before
        if (v->traits[hit.id] & SH_TRAIT_LSTRIP)
            while (end > begin && sh_is_ascii_space(text.ptr[end - 1]))
                end--;
        st = put_fragment(e, text, begin, end);
        if (st) return st;
        if (sh_ids_push(e->out, hit.id)) return no_memory(e);
        begin = hit.pos + v->texts[hit.id].len;
        if (v->traits[hit.id] & SH_TRAIT_RSTRIP)
            while (begin < text.len && sh_is_ascii_space(text.ptr[begin]))
                begin++;
    }
    return put_fragment(e, text, begin, text.len);
}

/* ---- all of it ---------------------------------------------------------------------------- */

static enum shoal_status prepare(struct encoder *e, struct sh_str *text)
{
    size_t slots = 64;
    enum shoal_status st = SHOAL_OK;

    if (is_bpe(e->v)) {
        st = sh_pretok_run_create(&e->run, e->err);
        if (st) return st;
        if (sh_utf8_valid_len(text->ptr, text->len) < text->len) {
            if (sh_utf8_clean(&e->cleaned, *text)) return no_memory(e);
            *text = (struct sh_str){e->cleaned.ptr, e->cleaned.len};
        }
    }
    if (text->len < 256) return SHOAL_OK;
    while (slots < CACHE_SLOTS_MAX && slots < text->len / 8)
        slots *= 2;
    e->cache = sh_calloc(slots, sizeof *e->cache);
    if (!e->cache) return no_memory(e);
    e->cache_mask = slots - 1;
    e->seed = e->v->by_text.seed;
    return SHOAL_OK;
}

static enum shoal_status put_role(struct encoder *e, enum sh_vocab_role role)
{
    return sh_ids_push(e->out, e->v->roles[role]) ? no_memory(e) : SHOAL_OK;
}

enum shoal_status sh_tokenize(const struct sh_vocab *v, struct sh_str text, bool add_special,
                              bool parse_special, struct sh_ids *out, struct shoal_error *err)
{
    struct encoder e = {.v = v,
                        .out = out,
                        .err = err,
                        .cleaned = SH_BUF_INIT,
                        .escaped = SH_BUF_INIT,
                        .merger = SH_MERGER_INIT,
                        .hits = SH_SPECIAL_HITS_INIT};
    const size_t before = out->len;
    enum shoal_status st;

    if (v->kind == SH_VOCAB_NONE)
        return sh_fail(err, SHOAL_ERR_UNSUPPORTED, "tokenize: this model has no vocabulary");
    if (text.len > SH_TOKENIZE_BYTES_MAX)
        return sh_fail(err, SHOAL_ERR_LIMIT,
                       "tokenize: a text of %zu bytes, at most %zu are possible", text.len,
                       SH_TOKENIZE_BYTES_MAX);
    st = prepare(&e, &text);
    if (!st && add_special && sh_vocab_adds_bos(v)) st = put_role(&e, SH_ROLE_BOS);
    if (!st) st = put_text(&e, text, parse_special);
    if (!st && add_special && sh_vocab_adds_eos(v)) st = put_role(&e, SH_ROLE_EOS);
    if (st) {
        out->len = before;
    } else if (add_special && sh_vocab_adds_bos(v) && out->len > before + 1 &&
               out->ptr[before + 1] == v->roles[SH_ROLE_BOS]) {
        sh_log(SH_LOG_WARN, "text", "the text begins with a BOS of its own: now it has two");
    }
    sh_merger_release(&e.merger);
    sh_special_hits_release(&e.hits);
    sh_pretok_run_destroy(e.run);
    sh_buf_release(&e.cleaned);
    sh_buf_release(&e.escaped);
    sh_free(e.cache);
    return st;
}
