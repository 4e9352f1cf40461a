/* stage/lower.h - the same graph in llama.cpp's ops, for devices that lack shoal's.
 *
 * A stage graph in shoal's form runs for any batch; ggml's ops need every extent, the cells to
 * write and a mask.  Lowering rewrites the graph for one shape (rows T, wanted rows O, visible
 * cells n_kv) with all inputs at fixed places in two buffers of the stage:
 *
 *   inputs buffer:  tokens i32 [T] | pos i32 [T] | cells i64 [T] per group | out i32 [O] |
 *                   hidden f32 [D,T] | for T > 1: mask f16 [n_kv,T] per group
 *   masks buffer:   one f16 row over all cells per group, for T = 1: it stays on the device, and
 *                   a decoded token changes one cell of it
 *
 * A page of a cache is 64 consecutive cells: the cache leaf [width,64,pages] is seen as
 * [width, cells].  n_kv grows in steps of 256, so a graph changes at most once per 256 positions.
 *
 * Bits: every rewritten op gives the bits of the op it replaces on a device that computes as the
 * scalar kernels define, as long as the cells of a sequence ascend; experts are added in score
 * order there and equal within rounding only.
 *
 * Pure: graph in, graph out.  This is the only code that knows masks.
 */
#ifndef STAGE_LOWER_H
#define STAGE_LOWER_H

#include "stage/stage.h"
#include "stage/tables.h"

#define SH_LOWER_CELLS 256 /* n_kv is a multiple of this, or all cells */

struct sh_lower_shape {
    int64_t t, o;                /* rows, wanted rows (0: the graph ends before the head) */
    int64_t n_kv[SH_GROUPS_MAX]; /* visible cells per group */
};

/* Offsets of the inputs inside the inputs buffer; SIZE_MAX = the graph has no such input. */
struct sh_lower_layout {
    size_t tokens, pos, cells[SH_GROUPS_MAX], out, hidden, mask[SH_GROUPS_MAX];
    size_t packed_bytes;            /* all of the above but masks end here */
    size_t bytes;                   /* end of everything */
    size_t mask_row[SH_GROUPS_MAX]; /* inside the masks buffer, for T = 1 */
};

/* Which inputs a graph has, found once. */
struct sh_lower_inputs {
    bool tokens, pos, out, hidden, group[SH_GROUPS_MAX];
    int64_t width; /* of hidden rows */
    int64_t pages[SH_GROUPS_MAX];
    int32_t inputs_buffer, masks_buffer; /* indices of the stage's two buffers */
};
/* ERR_UNSUPPORTED names an op that cannot be lowered. */
SHOAL_NODISCARD enum shoal_status
sh_lower_scan(const struct sh_graph *g, struct sh_lower_inputs *in, struct shoal_error *err);

/* Where everything lies for a shape.  `align`: of the device's offsets. */
void sh_lower_layout(const struct sh_lower_inputs *in, const struct sh_lower_shape *shape,
                     size_t align, struct sh_lower_layout *out);
/* Bytes of the masks buffer and of the largest inputs buffer for `limits`, and of the host memory
 * in which a step packs both. */
void sh_lower_buffer_bytes(const struct sh_lower_inputs *in, const struct sh_step_limits *limits,
                           size_t align, size_t *inputs, size_t *masks, size_t *packed);

/* Rewrite.  The leaves of g must be placed.  `out` is initialised here, released by the caller in
 * every case; *output is the tensor to read, -1 where o = 0. */
SHOAL_NODISCARD enum shoal_status
sh_lower(const struct sh_graph *g, const struct sh_lower_inputs *in,
         const struct sh_lower_shape *shape, const struct sh_lower_layout *layout,
         struct sh_graph *out, int32_t *output, struct shoal_error *err);

/* The smallest shape that holds a step, from the tables. */
void sh_lower_shape_of(const struct sh_step *step, int32_t n_wanted,
                       const struct sh_lower_inputs *in, const struct sh_tables *t,
                       struct sh_lower_shape *out);
/* Cell of a position, -1 if no page is mapped there. */
int64_t sh_lower_cell(const struct sh_tables *t, int group, int32_t seq, int64_t pos);
/* The mask row of a step's row: n_kv values, 0 for visible cells, -inf (f16) for others. */
void sh_lower_mask(const struct sh_tables *t, int group, const struct sh_row *row, int64_t window,
                   int64_t n_kv, uint16_t *mask);

#endif
