/* stage/runner.h - the station of a stage in this process: a thread that runs its steps.
 *
 * A ring of n_slots steps, each with a place for its input rows that the caller fills
 * directly, while the thread submits every step that is ready before it waits for the oldest: the
 * device always has the next one.  Memory is taken when the runner is made, and grows only with the
 * number of edits and recent tokens of a step.
 *
 * Rows of a step that was passed over, or is gone, are not needed: they are taken and dropped.
 *
 * A step that fails here takes with it the steps announced so far that share a sequence with it
 * (ERR_POISONED), and all that are in the device's queue; a cancelled one takes none.  A device
 * that is lost (ERR_PEER, ERR_IO, a time-out of its own) gives the step's output, then sink.lost.
 * A step that runs longer than its deadline is stopped and fails with ERR_TIMEOUT.
 *
 * A reset takes back all outputs that were not released.
 *
 * Threads: as station.h; any call but reset and close may come from the sink.
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
 * them, then sh_runner_filled() in any case (n_rows 0: they could not be filled): a reset waits for
 * it.  NULL with OK: they are not needed, and no sh_runner_filled() is due.  Else the same rules as
 * sh_station_rows(). */
SHOAL_NODISCARD enum shoal_status sh_runner_place(struct sh_station *s, uint64_t number,
                                                  int32_t first_row, int32_t n_rows, float **place,
                                                  struct shoal_error *err);
void sh_runner_filled(struct sh_station *s, uint64_t number, int32_t n_rows,
                      const struct sh_station_timing *timings, int n_timings);
/* Number of the step that is expected next. */
uint64_t sh_runner_next(struct sh_station *s);

#endif
