/* stage/station.c - see station.h: every call goes to the station's own. */
#include "stage/station.h"

static const struct sh_station_ops *ops_of(struct sh_station *s)
{
    return ((struct sh_station_head *)(void *)s)->ops;
}

enum shoal_status sh_station_announce(struct sh_station *s, const struct sh_step *step,
                                      int64_t deadline_ns, struct shoal_error *err)
{
    return ops_of(s)->announce(s, step, deadline_ns, err);
}

enum shoal_status sh_station_rows(struct sh_station *s, uint64_t number, int32_t first_row,
                                  int32_t n_rows, const void *f32,
                                  const struct sh_station_timing *timings, int n_timings,
                                  struct shoal_error *err)
{
    return ops_of(s)->rows(s, number, first_row, n_rows, f32, timings, n_timings, err);
}

void sh_station_pass(struct sh_station *s, uint64_t number, enum shoal_status st,
                     const struct shoal_error *why)
{
    ops_of(s)->pass(s, number, st, why);
}

void sh_station_cancel(struct sh_station *s, uint64_t from, uint64_t to)
{
    ops_of(s)->cancel(s, from, to);
}

enum shoal_status sh_station_reset(struct sh_station *s, uint64_t epoch, struct shoal_error *err)
{
    return ops_of(s)->reset(s, epoch, err);
}

void sh_station_release(struct sh_station *s, uint64_t number)
{
    ops_of(s)->release(s, number);
}

void sh_station_stats(struct sh_station *s, struct sh_station_stats *out)
{
    ops_of(s)->stats(s, out);
}

void sh_station_close(struct sh_station *s)
{
    if (s) ops_of(s)->close(s);
}
