/* base/clock.c - the system clock, and deadlines that cannot overflow. */
#include "base/clock.h"

#include <stddef.h>
#include <time.h>

#include "base/error.h"

static int64_t system_now_ns(void *self)
{
    struct timespec ts;
    const int rc = clock_gettime(CLOCK_BOOTTIME, &ts);

    (void)self;
    SH_ASSERT(rc == 0);
    return (int64_t)ts.tv_sec * SH_SECOND + ts.tv_nsec;
}

const struct sh_clock sh_clock_system = {.now_ns = system_now_ns, .self = NULL};

int64_t sh_deadline_in(const struct sh_clock *c, int64_t ns)
{
    int64_t now;

    if (ns < 0 || ns == SH_NO_DEADLINE) return SH_NO_DEADLINE;
    now = sh_now_ns(c);
    return now > INT64_MAX - ns ? SH_NO_DEADLINE : now + ns;
}
