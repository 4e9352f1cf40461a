/* stage/memory.h - device memory for the leaves of a stage's graph, and loading its weights.
 *
 * Leaves are packed into few buffers, in order, none larger than the device allows.  A whole
 * weight on a device that shares our memory is imported where it lies in the mapped file; all
 * others are written, slices cut on the way.  Everything is allocated before the first byte of a
 * weight moves, so a stage that does not fit is refused at once.
 * Threads: the stage's.
 */
#ifndef STAGE_MEMORY_H
#define STAGE_MEMORY_H

#include "stage/stage.h"

struct sh_stage_buffers {
    struct sh_buffer **buffer;
    int32_t n, cap;
    struct sh_stage_memory bytes;
};
void sh_stage_buffers_release(struct sh_stage_buffers *b);

/* Append a buffer (taken over); its index in *index. */
SHOAL_NODISCARD enum shoal_status sh_stage_buffers_add(struct sh_stage_buffers *b,
                                                       struct sh_buffer *taken, int32_t *index,
                                                       struct shoal_error *err);

/* Place every WEIGHT, CACHE, TABLE and STATE leaf of g, allocating on `d`, then load weights
 * through `q`.  INPUT leaves stay unplaced. */
SHOAL_NODISCARD enum shoal_status sh_stage_place(struct sh_stage_buffers *b, struct sh_graph *g,
                                                 struct sh_device *d, struct sh_queue *q,
                                                 const struct sh_weight_source *weights,
                                                 struct shoal_error *err);

/* Give the caches and (whole) weights of `to` the places that they have in `from`. */
SHOAL_NODISCARD enum shoal_status
sh_stage_share_leaves(const struct sh_graph *from, struct sh_graph *to, struct shoal_error *err);

#endif
