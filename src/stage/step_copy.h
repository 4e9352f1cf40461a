/* stage/step_copy.h - a step that owns its arrays.
 *
 * Memory grows to the largest step seen and is then reused: no allocation per token.
 * Threads: plain data.
 */
#ifndef STAGE_STEP_COPY_H
#define STAGE_STEP_COPY_H

#include <stddef.h>

#include "stage/step.h"

struct sh_step_copy {
    struct sh_step step; /* points into the arrays below */
    struct sh_prelude *prelude;
    struct sh_row *rows;
    struct sh_step_seq *seqs;
    int32_t *recent;
    float *embd;
    size_t cap_prelude, cap_rows, cap_seqs, cap_recent, cap_embd;
};

/* Copy a step that was checked.  `width`: of its embedding rows, 0: leave them out.  Where there
 * are some and `embd` is NULL, the copy has room for them.  On failure the copy is not usable, but
 * may be filled again. */
SHOAL_NODISCARD enum shoal_status sh_step_copy_fill(struct sh_step_copy *c,
                                                    const struct sh_step *step, int64_t width,
                                                    struct shoal_error *err);
void sh_step_copy_release(struct sh_step_copy *c);

#endif
