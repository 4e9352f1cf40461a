/* stage/tables.h - a stage's page tables: which page holds which positions of which sequence.
 *
 * One table per KV group, i32 [n_index, n_seqs], -1 = nothing mapped; this is the host's mirror of
 * what lies in device memory.  Edits of a step change the mirror and mark what must be sent again.
 * Threads: the stage's.
 */
#ifndef STAGE_TABLES_H
#define STAGE_TABLES_H

#include "stage/stage.h"

struct sh_table {
    int32_t *page;          /* [n_seqs][n_index] */
    int64_t dirty0, dirty1; /* entries [dirty0, dirty1) differ from the device; empty if >= */
};

struct sh_tables {
    int n_groups;
    int64_t n_index;
    int32_t n_seqs;
    struct sh_table group[SH_GROUPS_MAX];
};

SHOAL_NODISCARD enum shoal_status
sh_tables_init(struct sh_tables *t, const struct sh_step_limits *limits, struct shoal_error *err);
void sh_tables_release(struct sh_tables *t);
void sh_tables_clear(struct sh_tables *t); /* nothing mapped, all dirty */
void sh_tables_all_dirty(struct sh_tables *t);

static inline int32_t sh_table_page(const struct sh_tables *t, int group, int32_t seq,
                                    int64_t index)
{
    return t->group[group].page[(int64_t)seq * t->n_index + index];
}

/* Apply an edit to the mirror (COPY changes no table).  For SHIFT the pages that moved are listed
 * per group in moved[] (room for n_index); returns how many, else 0. */
int64_t sh_tables_apply(struct sh_tables *t, const struct sh_prelude *e, int group, int32_t *moved);

#endif
