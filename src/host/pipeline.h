/* host/pipeline.h - stations in a row as one pipeline (stage/pool.h).
 *
 * Every step is announced to all stations at once.  Hidden rows of a station that is not the last
 * come to the pipeline's sink, which hands them to the next one, or go there by themselves where
 * the two stations are joined.  The last station's output is the step's result.  Chunks of a
 * prompt thus follow each other, and all stages work at once.
 *
 * A failed or cancelled step is passed over by the later stages (its edits still count).  A station
 * that is lost breaks the pipeline: the reason is kept and every later step fails with it.
 *
 * Made in three moves, since stations need their sinks when they are made: create, take every
 * station, start.
 * Threads: create to start, join, and the pool's calls from one thread at a time, as pool.h says;
 * stats from any.
 */
#ifndef HOST_PIPELINE_H
#define HOST_PIPELINE_H

#include "stage/pool.h"
#include "stage/station.h"

#define SH_PIPELINE_STAGES_MAX 64

/* `info` is what the pipeline tells (but for n_stages), in_flight_max <= the stations' n_slots.
 * `deadline_ns` of a step's own computing at each station, as sh_station_announce() takes it. */
SHOAL_NODISCARD enum shoal_status sh_pipeline_create(struct sh_pipeline **out, int n_stages,
                                                     const struct sh_pipeline_info *info,
                                                     int64_t deadline_ns, struct shoal_error *err);
/* What station `i` is to be made with. */
struct sh_station_sink sh_pipeline_sink(struct sh_pipeline *p, int i);
/* Station `i`, taken over: closed with the pipeline, started or not. */
void sh_pipeline_take(struct sh_pipeline *p, int i, struct sh_station *s);
/* Do the rows of station `i` go on by themselves?  False at first.  Holds for outputs that come
 * from now on. */
void sh_pipeline_join(struct sh_pipeline *p, int i, bool joined);
/* A step that has been the oldest one in flight for `ns` breaks the pipeline (0, at first: it may
 * take any time).  The sentence has the stage that it waits for, with the name of its station. */
void sh_pipeline_patience(struct sh_pipeline *p, int64_t ns);
void sh_pipeline_name(struct sh_pipeline *p, int i, const char *name);
/* Every station must be there. */
SHOAL_NODISCARD enum shoal_status sh_pipeline_start(struct sh_pipeline *p, struct shoal_error *err);

/* Figures of a stage.  A step's time from submit to result is the sum over all stages of compute,
 * queue and wire: the wire time of a stage is what passed between the end of the stage before it
 * and the arrival of its last row, and the last stage's takes in the rest, the way out of the step
 * and the way back of its result. */
struct sh_pipeline_stats {
    uint64_t steps;
    int64_t compute_ns;
    int64_t queue_ns; /* rows were there, earlier steps were not done */
    int64_t wire_ns;
    uint64_t bytes_in, bytes_out; /* of the host: what a remote stage was sent, what it answered */
    int in_flight_max;
};
/* Of steps that succeeded, but for the bytes. */
void sh_pipeline_stats(struct sh_pipeline *p, int i, struct sh_pipeline_stats *out);

#endif
