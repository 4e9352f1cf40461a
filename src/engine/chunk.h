/* engine/chunk.h - how many rows of a prompt go into a step.
 *
 * A prompt is cut into chunks that follow each other through the stages.  Small chunks fill and
 * empty the pipeline sooner, large ones cost less in all.  What a stage takes for c rows behind n
 * positions is modelled as
 *
 *      t(c, n) = a + b c + d c (n + c / 2)
 *
 * where a is the cost of a step, b of a row, d of a row for each position that it looks back at.
 * The way of the rows between two stages is modelled in the same way, as a stage of its own.  Each
 * is fitted to the timings of the steps seen so far, newer ones counting more, by least squares of
 * the relative error; what the steps cannot tell (one size only, say) comes from a guess of a / b.
 *
 * What is in the pipeline already is followed through it with these times.  From there on rows in
 * chunks of one size take as long as the slowest stage takes for all of them, and the others for
 * the first chunk before it and the last one behind it:
 *
 *      max over i of  end_i(first) + sum over the other chunks of t_i + sum(l > i) t_l(last)
 *
 * The size is chosen anew for each chunk, for all that is left of the prompt.
 *
 * Threads: plain data.  No allocation.
 */
#ifndef ENGINE_CHUNK_H
#define ENGINE_CHUNK_H

#include <stdint.h>

#include "stage/station.h"

#define SH_CHUNK_STEP 32 /* sizes are multiples of this, where they are not all that is left */

struct sh_chunk_cost { /* nanoseconds */
    double a, b, d;
};

struct sh_chunk_fit {
    double square[3][3], right[3]; /* normal equations, older steps fading */
    double scale;                  /* mean time of a row */
    int n;                         /* steps seen */
    struct sh_chunk_cost cost;
};

struct sh_chunk_model {
    int n_stages;
    struct sh_chunk_fit stage[SH_STATION_TIMINGS_MAX];
    struct sh_chunk_fit way[SH_STATION_TIMINGS_MAX]; /* of rows to this stage; [0] is not used */
    double arrived[SH_STATION_TIMINGS_MAX];          /* when the last rows came to it */
};

/* Nothing seen yet. */
void sh_chunk_init(struct sh_chunk_model *m, int n_stages);
/* A step of `rows` rows behind `before` positions, submitted at `submitted_ns` of any clock, has
 * passed.  Steps of less than SH_CHUNK_STEP rows tell nothing of larger ones and are not counted.
 */
void sh_chunk_observe(struct sh_chunk_model *m, const struct sh_station_timing *timings, int n,
                      int64_t rows, int64_t before, int64_t submitted_ns);
struct sh_chunk { /* rows behind so many positions */
    int64_t rows, before;
};
/* Nanoseconds from when the first stage is free until `left` rows have passed all stages in chunks
 * of `rows`, behind the chunks that are in the pipeline, oldest first. */
double sh_chunk_predict(const struct sh_chunk_model *m, const struct sh_chunk *ahead, int n_ahead,
                        int64_t rows, int64_t left, int64_t before);
/* Rows of the next chunk, at most `rows_max` and `left`. */
int64_t sh_chunk_choose(const struct sh_chunk_model *m, const struct sh_chunk *ahead, int n_ahead,
                        int64_t left, int64_t before, int64_t rows_max);

#endif
