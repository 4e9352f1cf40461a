/* spm.c - SentencePiece's BPE: merge the neighbours whose joined text is the best-scored token. */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "text/unicode.h"
#include "text/vocab_priv.h"

/* ---- building ----------------------------------------------------------------------------- */

struct scored {
    float score;
    int32_t id;
};

static int by_score(const void *x, const void *y)
{
    const struct scored *a = x, *b = y;
    return a->score > b->score ? -1 : a->score < b->score;
}

static enum shoal_status rank_scores(struct sh_vocab *v, const float *scores)
{
    const size_t n = (size_t)v->n_tokens;
    struct scored *list;

    v->spm.rank = sh_arena_calloc(&v->arena, n, sizeof *v->spm.rank);
    if (!v->spm.rank) return SHOAL_ERR_NOMEM;
    if (!scores) return SHOAL_OK; // all equal
    list = sh_calloc(n, sizeof *list);
    if (!list) return SHOAL_ERR_NOMEM;
    for (size_t i = 0; i < n; i++)
        list[i] = (struct scored){isnan(scores[i]) ? -INFINITY : scores[i], (int32_t)i};
    qsort(list, n, sizeof *list, by_score);
    for (size_t i = 0, rank = 0; i < n; i++) {
        if (i > 0 && list[i].score < list[i - 1].score) rank = i;
        v->spm.rank[list[i].id] = (uint32_t)rank;
    }
    sh_free(list);
    return SHOAL_OK;
}

enum shoal_status sh_spm_build(struct sh_vocab *v, const struct sh_vocab_desc *desc,
                               struct shoal_error *err)
{
    enum shoal_status st = sh_vocab_set_pieces(v, NULL);

    if (!st) st = rank_scores(v, desc->scores);
    if (st) return sh_fail(err, st, "vocab: no memory for %d tokens", v->n_tokens);
    for (int32_t i = 0; i < v->n_tokens; i++) {
        const struct sh_str t = v->texts[i];
        if (t.len > v->spm.longest) v->spm.longest = t.len;
        sh_bars_note(v, t);
    }
    return SHOAL_OK;
}

/* ---- encoding ----------------------------------------------------------------------------- */

static size_t char_len(struct sh_str s, size_t at)
{
    const size_t promised = sh_utf8_promised(s.ptr[at]);
    return promised < s.len - at ? promised : s.len - at;
}

static bool merge_rule(const void *tables, const char *word, const struct sh_merge_part *a,
                       const struct sh_merge_part *b, uint32_t *rank, uint32_t *sym)
{
    const struct sh_vocab *v = tables;
    const struct sh_str joined = {word + a->begin, (size_t)a->len + b->len};

    if (joined.len > v->spm.longest) return false;
    *sym = sh_strmap_find(&v->by_text, v->texts, joined);
    if (*sym == SH_NO_SYM) return false;
    *rank = v->spm.rank[*sym];
    return true;
}

enum shoal_status sh_spm_encode(const struct sh_vocab *v, struct sh_merger *m, struct sh_str word,
                                struct sh_ids *out)
{
    enum shoal_status st = sh_merger_start(m, word.len);
    size_t n = 0;

    if (st) return st;
    for (size_t at = 0, len; at < word.len; at += len, n++) {
        len = char_len(word, at);
        m->parts[n] = (struct sh_merge_part){
            .sym = sh_strmap_find(&v->by_text, v->texts, (struct sh_str){word.ptr + at, len}),
            .begin = (uint32_t)at,
            .len = (uint32_t)len};
    }
    m->n_parts = n;
    st = sh_merger_run(m, word.ptr, merge_rule, v);
    for (size_t i = 0; !st && i < m->n_parts; i++) {
        const struct sh_merge_part *p = &m->parts[i];
        if (p->sym != SH_NO_SYM)
            st = sh_ids_push(out, (int32_t)p->sym);
        else
            st = sh_vocab_spell(v, (struct sh_str){word.ptr + p->begin, p->len}, out);
    }
    return st;
}
