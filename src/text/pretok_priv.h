/* text/pretok_priv.h - cutting text into words, as the models' own tokenizers do.
 *
 * A group is a list of steps.  The fragment starts as one piece; each step cuts every piece into
 * matches of its pattern and the gaps between them, and both go on to the next step.  What is
 * left after the last step are the words.  A piece is matched on its own: lookarounds see its
 * ends as the ends of the text.
 * The table (pretok_table.c) has one row per name found in model files.
 * Threads: a compiled group is read-only; each thread needs a sh_pretok_run of its own.
 */
#ifndef TEXT_PRETOK_PRIV_H
#define TEXT_PRETOK_PRIV_H

#include <stddef.h>

#include "base/str.h"

#define SH_PRE_STEPS_MAX 7

enum sh_pre_cut {
    SH_PRE_MATCHES,     /* matches and gaps are pieces */
    SH_PRE_THREES,      /* a match is cut on into n mod 3 characters, if any, and groups of three */
    SH_PRE_THREES_IF_1, /* the same, but a match without its group 1 is no match */
    SH_PRE_CUT_THREES,  /* a match is joined to its gaps, with cuts 3, 6, ... before its end */
};

struct sh_pre_step {
    const char *pattern; /* PCRE2 with UTF and UCP; NULL behind the last step */
    enum sh_pre_cut cut;
};

struct sh_pre_group {
    const char *name; /* "P1" */
    struct sh_pre_step steps[SH_PRE_STEPS_MAX + 1];
};

/* What comes with a name, beyond the patterns. */
enum sh_pre_flag {
    SH_PRE_IGNORE_MERGES = 1, /* a word that is in the vocabulary needs no merging */
    SH_PRE_ADD_BOS = 2,
    SH_PRE_ADD_SEP = 4,
    SH_PRE_NO_CLEAN_UP = 8,      /* whole-text detokenising leaves spaces alone */
    SH_PRE_NO_BOS_ID = 16,       /* no BOS id unless the file names one */
    SH_PRE_RAW = 32,             /* the vocabulary is UTF-8, not the byte alphabet */
    SH_PRE_ESCAPE_SPACES = 64,   /* with RAW: spaces are written U+2581 */
    SH_PRE_WHOLE_NEWLINES = 128, /* with RAW: a known word of newlines only is not merged */
    SH_PRE_DROP_GAPS = 256,      /* what no pattern matches is no word */
};

struct sh_pre_row {
    const char *name; /* `tokenizer.ggml.pre` */
    int group;        /* 1 for P1, ... */
    unsigned flags;   /* enum sh_pre_flag, or-ed */
};

/* NULL if there is no such name. */
const struct sh_pre_row *sh_pre_find(struct sh_str name);
const struct sh_pre_group *sh_pre_group_of(const struct sh_pre_row *row);
/* The whole table; *n rows. */
const struct sh_pre_row *sh_pre_rows(size_t *n);

struct sh_pretok; /* a compiled group */
struct sh_pretok_run;

/* On failure *out is NULL.  ERR_UNSUPPORTED if this machine's PCRE2 cannot compile the group. */
SHOAL_NODISCARD enum shoal_status
sh_pretok_create(struct sh_pretok **out, const struct sh_pre_row *row, struct shoal_error *err);
void sh_pretok_destroy(struct sh_pretok *p);

/* Match memory of one thread. */
SHOAL_NODISCARD enum shoal_status sh_pretok_run_create(struct sh_pretok_run **out,
                                                       struct shoal_error *err);
void sh_pretok_run_destroy(struct sh_pretok_run *r);

/* Called with each word, text[begin..end), in order.  A status other than OK ends the split. */
typedef enum shoal_status sh_word_fn(void *user, size_t begin, size_t end);

/* `text` is well-formed UTF-8 in [begin, end).  ERR_LIMIT if a pattern gives up. */
SHOAL_NODISCARD enum shoal_status sh_pretok_split(const struct sh_pretok *p,
                                                  struct sh_pretok_run *run, const char *text,
                                                  size_t begin, size_t end, sh_word_fn *word,
                                                  void *user, struct shoal_error *err);

#endif
