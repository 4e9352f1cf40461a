/* device/collective.h - how the shards of one stage exchange the vectors of a sum.
 *
 * A shard's executor reaches SHARD_SUM number `sum` of a run, hands its own subtree vectors to
 * start(), and polls until the vectors of all other shards have come; then it finishes the trees
 * itself (tensor/segments.h), so every shard holds the same bits.  The executor never blocks
 * inside a call: while poll() says "not yet" it may run another session's step, or sleep on the
 * wake-up that it registered.
 *
 * A message is named by (session, step, sum).  Vectors that arrive before this shard asks for them
 * wait in space that the implementation reserved.  A shard whose step is cancelled or fails calls
 * abandon(), and every other shard's poll() of that step returns that status with the shard's name.
 *
 * The record that the executor is given names one step.  It is plain data: a stage keeps a copy of
 * its shard's record per step in flight and writes session and step into the copy.
 *
 * Threads: start/poll/finish of one (session, step) from one thread; different ones from any.
 */
#ifndef DEVICE_COLLECTIVE_H
#define DEVICE_COLLECTIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/segments.h"

struct sh_sum_part {
    const float *data; /* own vectors of one operand: [n_rows][n_vec][n_elem] as the tensor lies */
    int64_t n_elem, n_vec, n_rows;
};

struct sh_collective {
    const struct sh_collective_ops *ops;
    void *self; /* of the implementation; copies of the record share it */
    int n_shards, rank;
    uint64_t session, step; /* of the run that uses this record; set by the stage before submit */
};

struct sh_collective_ops {
    /* Send the own parts of sum `sum` (n_parts operands) to all others.  Copies what it needs. */
    enum shoal_status (*start)(struct sh_collective *c, int sum, int n_parts,
                               const struct sh_sum_part *parts, struct shoal_error *err);
    /* *done = all other shards' parts are here. */
    enum shoal_status (*poll)(struct sh_collective *c, int sum, bool *done,
                              struct shoal_error *err);
    /* Borrowed vectors of operand `part` of shard `rank`, laid out as sh_sum_part.data; valid until
     * finish(). */
    const float *(*peer)(struct sh_collective *c, int sum, int part, int rank);
    void (*finish)(struct sh_collective *c, int sum);
    /* Sleep until something may have changed, at most timeout_ns. */
    void (*sleep)(struct sh_collective *c, int64_t timeout_ns);
    /* End this step everywhere: code and message travel to the other shards. */
    void (*abandon)(struct sh_collective *c, enum shoal_status code, const char *message);
};

/* A collective inside one process: shards in threads, exchange through shared memory.  One hub per
 * stage; any number of sessions may use it.  A step that failed stays failed: its number is not
 * used again in that session (or the session gets another number). */
struct sh_hub;
SHOAL_NODISCARD enum shoal_status sh_hub_create(struct sh_hub **out, int n_shards,
                                                struct shoal_error *err);
void sh_hub_destroy(struct sh_hub *h); /* accepts NULL; no run may use it any more */
/* The record of a shard, with session and step 0; borrowed, constant: copy it. */
const struct sh_collective *sh_hub_shard(const struct sh_hub *h, int rank);

#endif
