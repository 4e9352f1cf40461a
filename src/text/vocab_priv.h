/* text/vocab_priv.h - the insides of a vocabulary.
 *
 * Tokens take part in merging as symbols.  The symbols 0 .. n_tokens-1 are the tokens; BPE adds
 * hidden ones for strings that its merges need and no token has.
 */
#ifndef TEXT_VOCAB_PRIV_H
#define TEXT_VOCAB_PRIV_H

#include "base/arena.h"
#include "text/ids.h"
#include "text/map_priv.h"
#include "text/merge_priv.h"
#include "text/pretok_priv.h"
#include "text/special_priv.h"
#include "text/vocab.h"

enum sh_token_trait {
    SH_TRAIT_EOG = 1,
    SH_TRAIT_LSTRIP = 2, /* as a special token swallows spaces to its left */
    SH_TRAIT_RSTRIP = 4,
};

struct sh_bpe {
    struct sh_str *syms; /* [n_syms] bytes of each; {NULL, 0} for what no text can reach */
    uint32_t n_syms, cap_syms;
    struct sh_strmap by_bytes; /* over syms */
    struct sh_pairmap merges;  /* (left, right) -> (rank, joined symbol) */
    uint32_t byte_sym[256];    /* symbol of one byte, or SH_NO_SYM */
    unsigned flags;            /* enum sh_pre_flag */
};

struct sh_spm {
    uint32_t *rank; /* [n_tokens] place of the score, highest first; equal scores share it */
    size_t longest; /* bytes of the longest token */
};

struct sh_vocab {
    enum sh_vocab_kind kind;
    int32_t n_tokens;
    struct sh_arena arena; /* texts, pieces, tables that never move */
    struct sh_str *texts;  /* [n_tokens] as the file spells them */
    struct sh_str *pieces; /* [n_tokens] what they stand for, were none special */
    uint8_t *types;        /* [n_tokens] enum sh_token_type */
    uint8_t *traits;       /* [n_tokens] enum sh_token_trait, or-ed */
    struct sh_strmap by_text;
    int32_t roles[SH_ROLE_COUNT];
    bool add_bos, add_eos, add_sep, add_space, cleans_spaces;
    int32_t byte_token[256]; /* token of a byte that no other token covers, or -1 */
    struct sh_special special;
    struct sh_pretok *pretok; /* NULL for SPM and NONE */
    bool joins_bar[256];      /* bytes that stand right before a U+2581 inside some token */
    struct sh_bpe bpe;
    struct sh_spm spm;
};

/* vocab_roles.c: ids by key and by text, types that follow from them, ends of generation, spaces
 * swallowed by special tokens.  Needs texts, types and by_text. */
void sh_vocab_set_roles(struct sh_vocab *v, const struct sh_vocab_desc *desc, unsigned pre_flags);

/* pieces.c: pieces, and byte tokens if there is no alphabet.  Needs the final types.  With `syms`
 * ([n_tokens]) texts are in the byte alphabet, and syms[i] becomes what token i spells in it,
 * {NULL, 0} if it has characters outside.  Fails with ERR_NOMEM only. */
SHOAL_NODISCARD enum shoal_status sh_vocab_set_pieces(struct sh_vocab *v, struct sh_str *syms);

/* The byte alphabet: write the bytes that `s` spells to dst (room for s.len) and return how
 * many.  Characters outside the alphabet stand for themselves and set *clean to false. */
size_t sh_alphabet_decode(char *dst, struct sh_str s, bool *clean);

/* bpe.c.  Build needs texts, types, pieces and byte tokens. */
SHOAL_NODISCARD enum shoal_status sh_bpe_build(struct sh_vocab *v, const struct sh_vocab_desc *desc,
                                               unsigned pre_flags, struct shoal_error *err);
void sh_bpe_release(struct sh_bpe *b);
/* Append the ids of one word (after escaping). */
SHOAL_NODISCARD enum shoal_status sh_bpe_encode(const struct sh_vocab *v, struct sh_merger *m,
                                                struct sh_str word, struct sh_ids *out);

/* spm.c, likewise. */
SHOAL_NODISCARD enum shoal_status sh_spm_build(struct sh_vocab *v, const struct sh_vocab_desc *desc,
                                               struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_spm_encode(const struct sh_vocab *v, struct sh_merger *m,
                                                struct sh_str word, struct sh_ids *out);

/* bars.c: note where bars stand in a token (or symbol) of this vocabulary, and, once all are
 * noted, find the end of the word that starts at `begin`: merging never crosses it. */
void sh_bars_note(struct sh_vocab *v, struct sh_str token);
size_t sh_bars_word_end(const struct sh_vocab *v, struct sh_str text, size_t begin);

/* Append the byte tokens of `s`; a byte without one becomes UNK if there is such a token. */
SHOAL_NODISCARD enum shoal_status sh_vocab_spell(const struct sh_vocab *v, struct sh_str s,
                                                 struct sh_ids *out);

#endif
