/* model/cut.h - which segments of a row-parallel product a shard holds.
 *
 * Pure arithmetic over tensor/segments.h: the whole K of a product is cut into at most 8 segments
 * at unit borders, and shards take contiguous runs of whole segments by largest remainder over
 * their shares.  The shard that gets the rounding surplus rotates with `turn` (the layer), so that
 * no machine is always the slow one.
 */
#ifndef MODEL_CUT_H
#define MODEL_CUT_H

#include <stdbool.h>
#include <stdint.h>

#include "tensor/segments.h"

struct sh_cut {
    int64_t k, unit;               /* of the whole product, in elements */
    int n_segments;                /* of the whole product */
    int n_shards;                  /* 1: unsplit */
    int border[SH_SHARDS_MAX + 1]; /* shard s holds segments border[s] .. border[s+1] */
    int begin, end;                /* own segments */
    int64_t k_begin, k_end;        /* own elements of K */
};

/* False when there are fewer segments than shards, or k is no multiple of the unit. */
bool sh_cut_make(struct sh_cut *c, int64_t k, int64_t unit, int n_shards, int rank,
                 const double *shares, int64_t turn);

int64_t sh_lcm(int64_t a, int64_t b);

#endif
