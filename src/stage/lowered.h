/* stage/lowered.h - running steps on a device that lacks shoal's ops.
 *
 * Keeps the few most recent lowered graphs, prepared; sends one packed block of inputs per step
 * (and, for several rows, their masks behind it), and keeps a one-row mask on the device in which a
 * decoded token changes a single cell.
 * Threads: the stage's.
 */
#ifndef STAGE_LOWERED_H
#define STAGE_LOWERED_H

#include "stage/lower.h"
#include "stage/memory.h"
#include "stage/slot.h"

struct sh_lowered;

/* Allocates the two buffers on `d` and adds them to `b`.  Everything passed in is borrowed. */
SHOAL_NODISCARD enum shoal_status sh_lowered_create(struct sh_lowered **out, struct sh_device *d,
                                                    struct sh_queue *q, struct sh_graph *g,
                                                    struct sh_stage_buffers *b,
                                                    const struct sh_step_limits *limits,
                                                    const struct sh_kv_group *groups,
                                                    struct shoal_error *err);
void sh_lowered_destroy(struct sh_lowered *l);
/* Bytes that a slot needs for packed inputs. */
size_t sh_lowered_packed_bytes(const struct sh_lowered *l);
/* Forget what the device holds (after a failure or a new epoch). */
void sh_lowered_forget(struct sh_lowered *l);

/* Enqueue the step in `s` (filled): inputs, run, and the read of its output into s->output. */
SHOAL_NODISCARD enum shoal_status sh_lowered_submit(struct sh_lowered *l, struct sh_slot *s,
                                                    const struct sh_step *step,
                                                    const struct sh_tables *t, const float *hidden,
                                                    struct shoal_error *err);

#endif
