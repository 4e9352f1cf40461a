/* text/vocab.h - the vocabulary of a model: tokens, their pieces, and what is special about them.
 *
 * A vocabulary is built once from plain data (the engine takes it from a model file) and copies
 * what it keeps.  The data is untrusted: ids outside, duplicate tokens, odd types and missing
 * tables are refused or put right as described below, never believed.
 * Threads: create and destroy from one; everything else takes a const vocabulary and may run in
 * any number of threads at once.
 */
#ifndef TEXT_VOCAB_H
#define TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct sh_vocab; /* opaque */

/* enumerator, name in files (`tokenizer.ggml.model`) */
#define SH_VOCAB_KINDS(X)                                                                          \
    X(BPE, "gpt2")       /* byte-level BPE */                                                      \
    X(SPM, "llama")      /* SentencePiece BPE with scores */                                       \
    X(RAW_BPE, "gemma4") /* BPE on UTF-8 characters, spaces written U+2581 */                      \
    X(NONE, "none")      /* ids only, no text */

enum sh_vocab_kind {
#define X(name, text) SH_VOCAB_##name,
    SH_VOCAB_KINDS(X)
#undef X
        SH_VOCAB_KIND_COUNT
};

/* Tokens with a role: enumerator, key in files (`tokenizer.ggml.` + this) */
#define SH_VOCAB_ROLES(X)                                                                          \
    X(BOS, "bos_token_id") /* begins a text */                                                     \
    X(EOS, "eos_token_id") /* ends a text */                                                       \
    X(EOT, "eot_token_id") /* ends a turn */                                                       \
    X(EOM, "eom_token_id") /* ends a message that calls a tool */                                  \
    X(UNK, "unknown_token_id")                                                                     \
    X(SEP, "seperator_token_id") /* the files' spelling */                                         \
    X(PAD, "padding_token_id")                                                                     \
    X(CLS, "cls_token_id")                                                                         \
    X(MASK, "mask_token_id")                                                                       \
    X(FIM_PRE, "fim_pre_token_id") /* fill in the middle */                                        \
    X(FIM_SUF, "fim_suf_token_id")                                                                 \
    X(FIM_MID, "fim_mid_token_id")                                                                 \
    X(FIM_PAD, "fim_pad_token_id")                                                                 \
    X(FIM_REP, "fim_rep_token_id")                                                                 \
    X(FIM_SEP, "fim_sep_token_id")

enum sh_vocab_role {
#define X(name, key) SH_ROLE_##name,
    SH_VOCAB_ROLES(X)
#undef X
        SH_ROLE_COUNT
};

/* `tokenizer.ggml.token_type` */
enum sh_token_type {
    SH_TOKEN_UNDEFINED,
    SH_TOKEN_NORMAL,
    SH_TOKEN_UNKNOWN,
    SH_TOKEN_CONTROL,
    SH_TOKEN_USER_DEFINED,
    SH_TOKEN_UNUSED,
    SH_TOKEN_BYTE,
};

/* What a file says.  All pointers are borrowed for the call of sh_vocab_create() only. */
struct sh_vocab_desc {
    struct sh_str model;        /* required: "gpt2", ... */
    struct sh_str pre;          /* name of the pre-tokeniser; empty: "default", with a warning */
    struct sh_str name;         /* `general.name`, may be empty: some rules hang on it */
    struct sh_str architecture; /* `general.architecture`, likewise */
    size_t n_tokens;
    const struct sh_str *tokens; /* [n_tokens]; NULL only for "none" */
    const float *scores;         /* [n_tokens] or NULL: all 0 */
    const int32_t *types;        /* [n_tokens] or NULL: all normal */
    size_t n_merges;
    const struct sh_str *merges;  /* [n_merges] "left right", best first; NULL if none */
    int64_t roles[SH_ROLE_COUNT]; /* ids; -1 where the file names none */
    int add_bos, add_eos, add_sep, add_space_prefix; /* 0 or 1; -1 where the file is silent */
};

/* Everything absent. */
void sh_vocab_desc_init(struct sh_vocab_desc *desc);

/* Build a vocabulary.  On failure *out is NULL and err says why: ERR_UNSUPPORTED for an unknown
 * model or pre-tokeniser, ERR_FORMAT for data that makes no sense, ERR_LIMIT, ERR_NOMEM.
 * Put right with a log line: ids outside the vocabulary count as absent; of tokens with equal
 * text the last one is found; empty texts become "[EMPTY_<id>]"; special tokens of BPE that are no
 * UTF-8 are found in no text. */
SHOAL_NODISCARD enum shoal_status
sh_vocab_create(struct sh_vocab **out, const struct sh_vocab_desc *desc, struct shoal_error *err);
void sh_vocab_destroy(struct sh_vocab *v); /* accepts NULL */

enum sh_vocab_kind sh_vocab_kind(const struct sh_vocab *v);
int32_t sh_vocab_n_tokens(const struct sh_vocab *v);
/* Id of the token with that role, or -1. */
int32_t sh_vocab_role(const struct sh_vocab *v, enum sh_vocab_role role);
/* The token of a newline alone, or -1. */
int32_t sh_vocab_newline(const struct sh_vocab *v);
/* What sh_tokenize() adds when asked for special tokens. */
bool sh_vocab_adds_bos(const struct sh_vocab *v);
bool sh_vocab_adds_eos(const struct sh_vocab *v);
/* Do pairs of texts (rerank prompts) get a separator? */
bool sh_vocab_adds_sep(const struct sh_vocab *v);
/* Does a text begin with a space that is not its own? */
bool sh_vocab_adds_space(const struct sh_vocab *v);
/* Would a whole-text decode of the original tokenizer take spaces before punctuation out? */
bool sh_vocab_cleans_spaces(const struct sh_vocab *v);

/* The functions below take any int32: for an id that is no token they give false, UNDEFINED or
 * an empty string. */
enum sh_token_type sh_vocab_type(const struct sh_vocab *v, int32_t id);
/* Does this token end a generation? */
bool sh_vocab_is_eog(const struct sh_vocab *v, int32_t id);
/* Is it a control token (which text shown to people never contains)? */
bool sh_vocab_is_control(const struct sh_vocab *v, int32_t id);
/* The token as the file spells it; borrowed from v. */
struct sh_str sh_vocab_text(const struct sh_vocab *v, int32_t id);
/* The id of a token by that spelling, or -1. */
int32_t sh_vocab_find(const struct sh_vocab *v, struct sh_str text);

/* The bytes that a token stands for; borrowed from v.  They may be part of a character only.
 * Control and unknown tokens stand for nothing unless `special`, and then for their text. */
struct sh_str sh_token_piece(const struct sh_vocab *v, int32_t id, bool special);

#endif
