/* engine/kv_index.h - who owns which page of KV memory: the host's index over all stages' bytes.
 *
 * Pages of 64 positions are numbered per group, the same on all stages and shards.  A page is
 * shared by reference count (a common prefix); it is written only while one sequence holds it.
 * Every change of a sequence is answered with the prelude edits that bring the stages' tables to
 * the same state; the caller puts them in front of the next step.  Recurrent groups hold state
 * numbers instead of pages: a step reads one and writes another.
 *
 * Pages and states are freed by the last *confirmed* position: what a step in flight may still
 * read is never handed out again.  Pure bookkeeping, no I/O.  Threads: one at a time.
 */
#ifndef ENGINE_KV_INDEX_H
#define ENGINE_KV_INDEX_H

#include "stage/stage.h"

struct sh_kv_index;

/* A growing list of edits. */
struct sh_edits {
    struct sh_prelude *edit;
    int32_t n, cap;
};
#define SH_EDITS_INIT                                                                              \
    {                                                                                              \
        .edit = NULL, .n = 0, .cap = 0                                                             \
    }
void sh_edits_clear(struct sh_edits *e);
void sh_edits_release(struct sh_edits *e);

SHOAL_NODISCARD enum shoal_status sh_kv_index_create(struct sh_kv_index **out, int n_groups,
                                                     const struct sh_kv_group *groups,
                                                     const struct sh_step_limits *limits,
                                                     struct shoal_error *err);
void sh_kv_index_destroy(struct sh_kv_index *x);

/* A fresh sequence at length 0, starting at position `start` (a multiple of 64, usually 0). */
SHOAL_NODISCARD enum shoal_status sh_kv_open(struct sh_kv_index *x, int64_t start, int32_t *seq,
                                             struct shoal_error *err);
void sh_kv_close(struct sh_kv_index *x, int32_t seq, struct sh_edits *e);
int64_t sh_kv_length(const struct sh_kv_index *x, int32_t seq); /* next position to write */

/* Make room for n more positions and count them as written.  A shared last page is copied first.
 * ERR_LIMIT when no page is free or the context is full; nothing changes then. */
SHOAL_NODISCARD enum shoal_status sh_kv_append(struct sh_kv_index *x, int32_t seq, int64_t n,
                                               struct sh_edits *e, struct shoal_error *err);
/* State numbers for the run that append() just made (recurrent groups), else -1. */
void sh_kv_states(const struct sh_kv_index *x, int32_t seq, int32_t *read, int32_t *write);
/* The first `length` positions are right (their steps have finished): frees what no later step
 * can see.  Rejection: forget positions from `length` on; ERR_STATE, and nothing changes, unless
 * every group can go on there: the pages of its window, a recurrent state of exactly there. */
void sh_kv_confirm(struct sh_kv_index *x, int32_t seq, int64_t length, struct sh_edits *e);
SHOAL_NODISCARD enum shoal_status sh_kv_truncate(struct sh_kv_index *x, int32_t seq, int64_t length,
                                                 struct sh_edits *e, struct shoal_error *err);
/* A new sequence that shares the first n positions of `from` (whole pages shared, the rest
 * copied; recurrent groups need a state kept exactly there).  Not possible beyond what every group
 * still holds: ERR_STATE. */
SHOAL_NODISCARD enum shoal_status sh_kv_fork(struct sh_kv_index *x, int32_t from, int64_t n,
                                             int32_t *seq, struct sh_edits *e,
                                             struct shoal_error *err);
/* Forget positions [begin, begin + n) and move the later ones down by n.  n < 0: move all positions
 * up by -n; begin is then not behind the first one.  begin and n are multiples of 64.  Shared pages
 * are copied first.  What a window has given up does not come back: rows then see less for a while.
 * ERR_UNSUPPORTED with recurrent groups. */
SHOAL_NODISCARD enum shoal_status sh_kv_shift(struct sh_kv_index *x, int32_t seq, int64_t begin,
                                              int64_t n, struct sh_edits *e,
                                              struct shoal_error *err);

/* Pages in use and in all, of a group. */
void sh_kv_usage(const struct sh_kv_index *x, int group, int64_t *used, int64_t *total);

#endif
