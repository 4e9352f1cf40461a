/* vocab_roles.c - which tokens are special, and how.
 *
 * Files name some special tokens by id and leave others to be found by their text; the texts are
 * facts about the model families.  Where a list has several that occur, the first counts.
 */
#include "text/vocab_priv.h"

#include "base/log.h"

#define N_TEXTS 12

struct role_texts {
    enum sh_vocab_role role;
    const char *texts[N_TEXTS];
};

static const struct role_texts by_text[] = {
    {SH_ROLE_EOT,
     {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>",
      "<EOT>", "_<EOT>", "[EOT]", "<｜end▁of▁sentence｜>", "<end_of_utterance>"}},
    {SH_ROLE_EOM, {"<|eom_id|>"}},
    {SH_ROLE_FIM_PRE,
     {"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>",
      "<|code_prefix|>", "<|prefix|>"}},
    {SH_ROLE_FIM_SUF,
     {"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>",
      "<|code_suffix|>", "<|suffix|>"}},
    {SH_ROLE_FIM_MID,
     {"<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>",
      "<|code_middle|>", "<|middle|>"}},
    {SH_ROLE_FIM_PAD, {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"}},
    {SH_ROLE_FIM_REP, {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"}},
    {SH_ROLE_FIM_SEP, {"<|file_sep|>"}},
};

static const char *const eog_texts[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
};

static const enum sh_vocab_role eog_roles[] = {
    SH_ROLE_EOS, SH_ROLE_EOT, SH_ROLE_EOM, SH_ROLE_FIM_PAD, SH_ROLE_FIM_REP, SH_ROLE_FIM_SEP,
};

/* Parts of formats that people are meant to see. */
static const char *const shown_texts[] = {"<|channel|>", "<|message|>", "<|start|>",
                                          "<|constrain|>"};

static int32_t find(const struct sh_vocab *v, const char *text)
{
    return sh_vocab_find(v, sh_str_from(text));
}

static void set_default(struct sh_vocab *v, enum sh_vocab_role role, int32_t id)
{
    if (id < v->n_tokens) v->roles[role] = id;
}

static void roles_by_key(struct sh_vocab *v, const struct sh_vocab_desc *desc, unsigned pre_flags)
{
    static const char *const keys[] = {
#define X(name, key) key,
        SH_VOCAB_ROLES(X)
#undef X
    };

    for (int r = 0; r < SH_ROLE_COUNT; r++)
        v->roles[r] = -1;
    if (v->kind == SH_VOCAB_SPM) {
        set_default(v, SH_ROLE_UNK, 0);
        set_default(v, SH_ROLE_BOS, 1);
        set_default(v, SH_ROLE_EOS, 2);
    } else if (v->kind == SH_VOCAB_BPE) {
        if (!(pre_flags & SH_PRE_NO_BOS_ID)) set_default(v, SH_ROLE_BOS, 11);
        set_default(v, SH_ROLE_EOS, 11);
    }
    for (int r = 0; r < SH_ROLE_COUNT; r++) {
        const int64_t id = desc->roles[r];
        if (id >= 0 && id < v->n_tokens)
            v->roles[r] = (int32_t)id;
        else if (id >= 0)
            sh_log(SH_LOG_WARN, "text", "%s is %lld, but there are %d tokens: ignored", keys[r],
                   (long long)id, v->n_tokens);
    }
}

static void roles_by_text(struct sh_vocab *v)
{
    for (size_t i = 0; i < sizeof by_text / sizeof by_text[0]; i++) {
        const struct role_texts *r = &by_text[i];
        for (size_t t = 0; t < N_TEXTS && r->texts[t] && v->roles[r->role] < 0; t++) {
            const int32_t id = find(v, r->texts[t]);
            if (id < 0) continue;
            v->roles[r->role] = id;
            v->types[id] = SH_TOKEN_CONTROL;
        }
    }
}

static bool ends(const struct sh_vocab *v, const char *text)
{
    return sh_vocab_is_eog(v, find(v, text));
}

/* `text` ends nothing after all, and is of that type. */
static void spare(struct sh_vocab *v, const char *text, enum sh_token_type type)
{
    const int32_t id = find(v, text);

    if (!sh_vocab_is_eog(v, id)) return;
    v->traits[id] &= (uint8_t)~SH_TRAIT_EOG;
    v->types[id] = (uint8_t)type;
}

static void set_ends(struct sh_vocab *v)
{
    for (size_t i = 0; i < sizeof eog_texts / sizeof eog_texts[0]; i++) {
        const int32_t id = find(v, eog_texts[i]);
        if (id < 0) continue;
        v->traits[id] |= SH_TRAIT_EOG;
        v->types[id] = SH_TOKEN_CONTROL;
    }
    for (size_t i = 0; i < sizeof eog_roles / sizeof eog_roles[0]; i++)
        if (v->roles[eog_roles[i]] >= 0) v->traits[v->roles[eog_roles[i]]] |= SH_TRAIT_EOG;

    // Formats with channels end a message, not the answer, with <|end|>.
    const bool call = ends(v, "<|call|>") || ends(v, "<|calls|>");
    if (call && (ends(v, "<|return|>") || ends(v, "<|flush|>")))
        spare(v, "<|end|>", SH_TOKEN_USER_DEFINED);
    if (ends(v, "<|tool_response>") || ends(v, "<|plamo:eos|>")) spare(v, "</s>", SH_TOKEN_NORMAL);
}

/* ---- spaces that special tokens swallow: files do not say it, so it hangs on names ---------- */

/* Does `s`, lower-cased, contain the lower-case `part`? */
static bool has(struct sh_str s, const char *part)
{
    const size_t n = strlen(part);

    for (size_t i = 0; i + n <= s.len; i++) {
        size_t k = 0;
        while (k < n &&
               (s.ptr[i + k] | (s.ptr[i + k] >= 'A' && s.ptr[i + k] <= 'Z' ? 32 : 0)) == part[k])
            k++;
        if (k == n) return true;
    }
    return false;
}

static void set_trait(struct sh_vocab *v, const char *text, enum sh_token_trait trait, bool on)
{
    const int32_t id = find(v, text);

    if (id < 0) return;
    v->traits[id] = (uint8_t)(on ? v->traits[id] | trait : v->traits[id] & ~(unsigned)trait);
}

static void set_strips(struct sh_vocab *v, const struct sh_vocab_desc *desc)
{
    if (has(desc->pre, "jina-v2-de") || has(desc->pre, "jina-v2-es") ||
        has(desc->pre, "jina-v2-code") || has(desc->architecture, "nomic-bert-moe") ||
        has(desc->architecture, "jina-bert-v3")) {
        set_trait(v, "<mask>", SH_TRAIT_LSTRIP, true);
    } else if (has(desc->name, "phi-3") || has(desc->name, "phi3")) {
        for (int32_t i = 0; i < v->n_tokens; i++)
            if (v->types[i] == SH_TOKEN_CONTROL || v->types[i] == SH_TOKEN_USER_DEFINED ||
                v->types[i] == SH_TOKEN_UNKNOWN)
                v->traits[i] |= SH_TRAIT_RSTRIP;
        set_trait(v, "</s>", SH_TRAIT_RSTRIP, true);
        set_trait(v, "<unk>", SH_TRAIT_RSTRIP, false);
        set_trait(v, "<s>", SH_TRAIT_RSTRIP, false);
        set_trait(v, "<|endoftext|>", SH_TRAIT_RSTRIP, false);
    } else if (has(desc->name, "modern-bert")) {
        set_trait(v, "[MASK]", SH_TRAIT_LSTRIP, true);
    }
}

void sh_vocab_set_roles(struct sh_vocab *v, const struct sh_vocab_desc *desc, unsigned pre_flags)
{
    roles_by_key(v, desc, pre_flags);
    roles_by_text(v);
    set_ends(v);
    for (size_t i = 0; i < sizeof shown_texts / sizeof shown_texts[0]; i++) {
        const int32_t id = find(v, shown_texts[i]);
        if (id >= 0) v->types[id] = SH_TOKEN_USER_DEFINED;
    }
    set_strips(v, desc);

    v->add_bos = v->kind == SH_VOCAB_SPM || (pre_flags & SH_PRE_ADD_BOS);
    if (desc->add_bos >= 0) v->add_bos = desc->add_bos > 0;
    if (v->kind == SH_VOCAB_RAW_BPE) v->add_bos = true; // early files say false and are wrong
    v->add_eos = desc->add_eos > 0;
    v->add_sep = desc->add_sep >= 0 ? desc->add_sep > 0 : (pre_flags & SH_PRE_ADD_SEP) != 0;
    v->add_space = v->kind == SH_VOCAB_SPM && desc->add_space_prefix != 0;
    v->cleans_spaces = v->kind == SH_VOCAB_BPE && !(pre_flags & SH_PRE_NO_CLEAN_UP);
}
