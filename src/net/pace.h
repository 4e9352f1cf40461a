/* net/pace.h - how slow a transfer may be.
 *
 * Three limits, each of which may be absent: an absolute end, the longest time without a byte,
 * and a least number of bytes per window of time.  A transfer asks how long it may wait for the
 * next byte, and reports what moved.  The windows follow one another without a gap and start with
 * sh_pace_start(), so time spent before a transfer is nobody's fault.
 * Threads: one at a time.
 */
#ifndef NET_PACE_H
#define NET_PACE_H

#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"

struct sh_pace {
    int64_t deadline_ns; /* absolute, SH_NO_DEADLINE = none */
    int64_t stall_ns;    /* SH_NO_DEADLINE = none */
    int64_t window_ns;   /* SH_NO_DEADLINE = none */
    size_t window_bytes;
    /* state */
    int64_t last_ns, window_end_ns;
    size_t window_got;
};

/* Only an absolute end. */
struct sh_pace sh_pace_until(int64_t deadline_ns);
/* A byte at least every stall_ns, and window_bytes in every window_ns. */
struct sh_pace sh_pace_rate(int64_t stall_ns, int64_t window_ns, size_t window_bytes);
void sh_pace_start(struct sh_pace *p, int64_t now_ns);
/* Nanoseconds that the transfer may still wait now; 0 = too slow. */
int64_t sh_pace_left(struct sh_pace *p, int64_t now_ns);
void sh_pace_moved(struct sh_pace *p, int64_t now_ns, size_t bytes);

#endif
