/* stage/runner.h - the station of a stage in this process: a thread that runs its steps.
 *
 * A ring of n_slots steps, each with a place for its input rows that the caller fills directly,
 * while the thread submits every step that is ready before it waits for the oldest: the device
 * always has the next one.  Memory is taken when the runner is made, and grows only with the
 * number of edits and recent tokens of a step.
 *
 * Threads: as station.h.
 */
#ifndef STAGE_RUNNER_H
#define STAGE_RUNNER_H

#include "stage/station.h"

struct sh_runner_options {
    struct sh_stage *stage; /* taken over, closed on failure too */
    int index;              /* place in the pipeline, for timings */
    bool first;             /* rows come with the steps */
    int64_t width_in;       /* of hidden rows that come; of embedding rows at a first stage */
    int n_slots;            /* as the stage's */
    struct sh_step_limits limits;
    struct sh_station_sink sink;
};
SHOAL_NODISCARD enum shoal_status sh_runner_create(struct sh_station **out,
                                                   const struct sh_runner_options *opt,
                                                   struct shoal_error *err);
/* For rows that are not f32 on the wire: where rows [first_row, + n_rows) of a step belong.  Fill
 * them, then sh_runner_filled().  Same rules as sh_station_rows(). */
SHOAL_NODISCARD enum shoal_status sh_runner_place(struct sh_station *s, uint64_t number,
                                                  int32_t first_row, int32_t n_rows, float **place,
                                                  struct shoal_error *err);
void sh_runner_filled(struct sh_station *s, uint64_t number, int32_t n_rows,
                      const struct sh_station_timing *timings, int n_timings);
/* Number of the step that is expected next. */
uint64_t sh_runner_next(struct sh_station *s);

#endif
