/* host/drive.h - a pipeline driven with several sequences at once, to be measured.
 *
 * Sequences are in groups, and the rows of a group are one step.  The next step of a group goes out
 * when the tokens of its last one came; several groups in flight keep several stages at work.
 * Tokens are drawn from a seed and are not those that come, so that no text ends and none is like
 * another.
 *
 * The pipeline is borrowed, is at the beginning of an epoch, and is driven by nobody else.
 * Threads: one at a time.
 */
#ifndef HOST_DRIVE_H
#define HOST_DRIVE_H

#include "stage/pool.h"

struct sh_drive; /* opaque */

struct sh_drive_options {
    struct sh_pipeline *pipeline;
    int n_seqs;
    uint32_t seed;
    /* Polled while it waits; true ends with ERR_CANCELLED.  May be NULL. */
    bool (*stop)(void *self);
    void *self;
};
SHOAL_NODISCARD enum shoal_status
sh_drive_create(struct sh_drive **out, const struct sh_drive_options *opt, struct shoal_error *err);
void sh_drive_destroy(struct sh_drive *d); /* accepts NULL */

/* All sequences begin anew. */
SHOAL_NODISCARD enum shoal_status sh_drive_clear(struct sh_drive *d, struct shoal_error *err);
/* Each sequence gets n tokens, as a prompt does. */
SHOAL_NODISCARD enum shoal_status sh_drive_fill(struct sh_drive *d, int64_t n,
                                                struct shoal_error *err);
/* Each sequence gets n tokens, one by one: `n_groups` (1 .. n_seqs) steps, of which at most
 * `in_flight` (1 .. n_groups) are under way.  After a failure only destroy is left. */
SHOAL_NODISCARD enum shoal_status sh_drive_text(struct sh_drive *d, int64_t n, int n_groups,
                                                int in_flight, struct shoal_error *err);

#endif
