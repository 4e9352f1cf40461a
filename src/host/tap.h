/* host/tap.h - a pipeline as it is, and a note of every step that passes.
 *
 * The engine, or whoever drives it, cannot tell; what steps are made of and what comes of them goes
 * through unchanged.  Notes are kept until they are cleared.  Where there is no memory for more of
 * them, steps go on and notes are missing at the end.
 *
 * The inner pipeline is borrowed: it stays open longer than this one, and close() leaves it alone.
 * Threads: as stage/pool.h says; notes from the thread that drives.
 */
#ifndef HOST_TAP_H
#define HOST_TAP_H

#include "stage/pool.h"

struct sh_tap; /* opaque */

struct sh_tap_note {
    int32_t n_rows;
    int64_t submit_ns, result_ns; /* of the system's clock; result 0: it has not come, or failed */
    const struct sh_station_timing *timings; /* borrowed until notes are cleared, or one is added */
    int n_timings;
};

SHOAL_NODISCARD enum shoal_status sh_tap_create(struct sh_tap **out, struct sh_pipeline *inner,
                                                int n_stages, struct shoal_error *err);
void sh_tap_destroy(struct sh_tap *t); /* accepts NULL */
struct sh_pipeline *sh_tap_pipeline(struct sh_tap *t);

/* Between steps. */
void sh_tap_clear(struct sh_tap *t);
int64_t sh_tap_count(const struct sh_tap *t);
void sh_tap_note(const struct sh_tap *t, int64_t i, struct sh_tap_note *out);

#endif
