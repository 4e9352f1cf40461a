/* stage/pool.h - what the engine sees of machines: pipelines that take steps and give results.
 *
 * `host` implements it over local devices, foreign servers and shoal workers; the engine
 * never learns which.  A pipeline is all stages of a plan, opened together.  Steps go in by
 * number, results come out in the same order, at most `in_flight_max` at a time.
 *
 * Failure is a value: a step's result carries its status; when a stage is lost the pipeline's
 * state says so, with the peer's address, and every later call fails with the same message.
 * Threads: one caller at a time, except cancel().
 */
#ifndef STAGE_POOL_H
#define STAGE_POOL_H

#include "stage/station.h"

struct sh_pipeline_info {
    int32_t n_vocab;
    int64_t width;
    struct sh_step_limits limits;
    int n_groups;
    struct sh_kv_group groups[SH_GROUPS_MAX];
    int in_flight_max;
    int n_stages; /* 0: not known */
};

struct sh_pipeline_result {
    uint64_t number;
    enum shoal_status status;
    const struct sh_row_result *results;
    int32_t n_results;
    const struct sh_station_timing *timings; /* by stage, where the step succeeded */
    int n_timings;
    void *token; /* implementation's; for release */
};

struct sh_pipeline;
struct sh_pipeline_ops {
    void (*info)(struct sh_pipeline *p, struct sh_pipeline_info *out);
    /* Copies the step; returns at once.  ERR_STATE when in_flight_max steps are in flight. */
    enum shoal_status (*submit)(struct sh_pipeline *p, const struct sh_step *step,
                                struct shoal_error *err);
    /* The oldest step: its result, or ERR_TIMEOUT (still in flight), or ERR_STATE (none). */
    enum shoal_status (*result)(struct sh_pipeline *p, int64_t timeout_ns,
                                struct sh_pipeline_result *out, struct shoal_error *err);
    void (*release)(struct sh_pipeline *p, const struct sh_pipeline_result *r);
    void (*cancel)(struct sh_pipeline *p); /* everything in flight; any thread */
    /* OK, or why the pipeline cannot take steps any more. */
    enum shoal_status (*state)(struct sh_pipeline *p, struct shoal_error *err);
    enum shoal_status (*reset)(struct sh_pipeline *p, uint64_t epoch, struct shoal_error *err);
    void (*close)(struct sh_pipeline *p);
};
/* First member of an implementation's struct. */
struct sh_pipeline_head {
    const struct sh_pipeline_ops *ops;
};

static inline const struct sh_pipeline_ops *sh_pipeline_ops(struct sh_pipeline *p)
{
    return ((struct sh_pipeline_head *)(void *)p)->ops;
}

#endif
