/* stage/step.h - one pass of a batch of rows through all stages, as a record.
 *
 * A step carries all that changes from pass to pass: edits of the KV tables (the prelude), the
 * rows, and how the wanted rows are turned into results.  The same record goes to every stage;
 * only the hidden states travel beside it.  What crosses grows with the rows, never with the
 * context.
 *
 * Prelude, applied in order before the rows:
 *   MAP    table[seq][index] of `group` = page (-1 unmaps)
 *   FORK   table entries of the first n/64 pages of `from` are copied to `seq`, in every group;
 *          n is a multiple of 64 (a partial page is mapped fresh and copied)
 *   DROP   pages wholly inside positions [begin, end) of `seq` are unmapped, in every group
 *   COPY   cells [begin, end) of `page_from` are copied to `page`, in every layer of `group`
 *   SHIFT  positions >= begin of `seq` move by `delta`; both multiples of 64; the keys of the
 *          moved pages are rotated
 *
 * Rows of a sequence are one run with ascending positions.  Writing position p hides all later
 * ones: a rejected draft needs no message.  Threads: plain data.
 */
#ifndef STAGE_STEP_H
#define STAGE_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "sample/sampler.h"

enum sh_prelude_kind {
    SH_PRELUDE_MAP,
    SH_PRELUDE_FORK,
    SH_PRELUDE_DROP,
    SH_PRELUDE_COPY,
    SH_PRELUDE_SHIFT
};

struct sh_prelude {
    enum sh_prelude_kind kind;
    int32_t seq, from;       /* MAP, FORK, DROP, SHIFT; FORK: the source */
    int32_t group;           /* MAP, COPY */
    int32_t index;           /* MAP: position / 64 */
    int32_t page, page_from; /* MAP, COPY */
    int64_t begin, end;      /* DROP, COPY, SHIFT; FORK: end = n */
    int64_t delta;           /* SHIFT */
};

enum sh_want { SH_WANT_NOTHING, SH_WANT_TOKEN, SH_WANT_TOP_K, SH_WANT_LOGITS };

struct sh_row {
    int32_t token; /* >= 0: id; < 0: row -1-token of the step's embedding rows */
    int32_t seq;
    int32_t pos;
    int32_t last; /* last visible position; = pos for causal rows */
    enum sh_want want;
    int32_t top_k; /* TOP_K: how many */
    double draw;   /* TOKEN: uniform in [0, 1) */
};

struct sh_step_seq { /* one per sequence with rows in this step, in order of their runs */
    int32_t seq;
    int32_t first_row, n_rows;
    int32_t state_read, state_write; /* recurrent state numbers, -1 = none / zeros */
    struct sh_sampler_params sampler;
    const int32_t *recent; /* tokens before and including this run, newest last */
    int32_t n_recent;
};

struct sh_step {
    uint64_t epoch, number; /* number rises by one within an epoch, from 0 */
    const struct sh_prelude *prelude;
    int32_t n_prelude;
    const struct sh_row *rows;
    int32_t n_rows;
    const struct sh_step_seq *seqs;
    int32_t n_seqs;
    const float *embd; /* [n_embd][width], for rows with token < 0 */
    int32_t n_embd;
};

/* What a pass gave, one entry per wanted row in row order.  Pointers are borrowed from the stage
 * (or pipeline) until the result is released. */
struct sh_row_result {
    int32_t row;
    enum sh_want want;
    int32_t token;                  /* TOKEN */
    const struct sh_candidate *top; /* TOP_K: descending, p = log-probability */
    int32_t n_top;
    const float *logits; /* LOGITS: [n_vocab] */
};

/* Is the record well formed for a stage of these limits: runs, ascending positions, page and
 * sequence numbers in range, multiples of 64?  ERR_ARG names the row or edit. */
struct sh_step_limits {
    int32_t n_seqs, n_groups;
    int64_t n_positions, rows_max, wanted_max;
    int64_t pages[8]; /* by group */
    int32_t n_states;
};
SHOAL_NODISCARD enum shoal_status sh_step_check(const struct sh_step *s,
                                                const struct sh_step_limits *limits,
                                                struct shoal_error *err);

#endif
