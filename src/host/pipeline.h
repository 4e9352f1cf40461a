/* host/pipeline.h - stages in a row as one pipeline (stage/pool.h).
 *
 * One thread per stage.  A step is copied into a job; jobs pass through the stages in order, each
 * stage handing its hidden rows to the next, so that chunks of a prompt follow each other and all
 * stages work at once.  Hidden rows stay in the producing stage's slot until the consumer is done
 * with them: nothing is copied between stages of this process.
 *
 * A failed or cancelled step is passed over by the later stages (its edits still count).  A stage
 * whose peer is lost breaks the pipeline: the reason is kept and every later step fails with it.
 */
#ifndef HOST_PIPELINE_H
#define HOST_PIPELINE_H

#include "stage/pool.h"

#define SH_PIPELINE_STAGES_MAX 64

/* Takes over the stages (also on failure) and their threads; `info` is what the pipeline tells,
 * with in_flight_max <= the stages' n_slots. */
SHOAL_NODISCARD enum shoal_status sh_pipeline_create(struct sh_pipeline **out,
                                                     struct sh_stage *const *stages, int n_stages,
                                                     const struct sh_pipeline_info *info,
                                                     struct shoal_error *err);

#endif
