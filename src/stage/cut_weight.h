/* stage/cut_weight.h - cutting a slice out of a stored tensor's bytes.
 *
 * Pure: bytes in, bytes out.  Rows (axis 1 and up) are never divided; columns (axis 0) only at
 * block borders.
 */
#ifndef STAGE_CUT_WEIGHT_H
#define STAGE_CUT_WEIGHT_H

#include "stage/stage.h"

/* A new block of sh_malloc with the slice's elements, dense, segments stacked in order. */
SHOAL_NODISCARD enum shoal_status sh_cut_weight(void **out, size_t *bytes,
                                                const struct sh_weight *w,
                                                const struct sh_slice *slice,
                                                struct shoal_error *err);

#endif
