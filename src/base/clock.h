/* base/clock.h - time as a value that can be replaced.
 *
 * Code that waits takes a struct sh_clock and absolute deadlines in nanoseconds of that clock, so
 * that tests can run protocols on a virtual clock.  The system clock counts boot time
 * (CLOCK_BOOTTIME): it goes on while a laptop sleeps.  Threads: any.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

#define SH_MS INT64_C(1000000)
#define SH_SECOND INT64_C(1000000000)
#define SH_NO_DEADLINE INT64_MAX

struct sh_clock {
    int64_t (*now_ns)(void *self);
    void *self;
};

extern const struct sh_clock sh_clock_system;

static inline int64_t sh_now_ns(const struct sh_clock *c)
{
    return c->now_ns(c->self);
}
/* `ns` from now, saturating; negative or SH_NO_DEADLINE = never. */
int64_t sh_deadline_in(const struct sh_clock *c, int64_t ns);

#endif
