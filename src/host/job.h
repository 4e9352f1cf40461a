/* host/job.h - a step on its way through a pipeline: a copy that owns its arrays.
 *
 * Memory grows to the largest step seen and is then reused: no allocation per token.
 */
#ifndef HOST_JOB_H
#define HOST_JOB_H

#include "host/pipeline.h"

struct sh_job {
    struct sh_step step; /* points into the arrays below */
    struct sh_prelude *prelude;
    struct sh_row *rows;
    struct sh_step_seq *seqs;
    int32_t *recent;
    float *embd;
    size_t cap_prelude, cap_rows, cap_seqs, cap_recent, cap_embd;

    int at;    /* stage that has it or is due; n_stages: done */
    bool used; /* between submit and release */
    enum shoal_status status;
    struct shoal_error error;
    struct sh_stage_output out[SH_PIPELINE_STAGES_MAX]; /* per stage; number set: to be released */
    bool held[SH_PIPELINE_STAGES_MAX];
};

/* Copy a step whose embedding rows are `width` wide. */
SHOAL_NODISCARD enum shoal_status sh_job_fill(struct sh_job *j, const struct sh_step *step,
                                              int64_t width, struct shoal_error *err);
void sh_job_release(struct sh_job *j);

#endif
