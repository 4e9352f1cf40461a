/* net/pace.c - the arithmetic of "too slow". */
#include "net/pace.h"

static int64_t after(int64_t now_ns, int64_t ns)
{
    return ns >= SH_NO_DEADLINE - now_ns ? SH_NO_DEADLINE : now_ns + ns;
}

struct sh_pace sh_pace_until(int64_t deadline_ns)
{
    return (struct sh_pace){.deadline_ns = deadline_ns,
                            .stall_ns = SH_NO_DEADLINE,
                            .window_ns = SH_NO_DEADLINE,
                            .window_end_ns = SH_NO_DEADLINE};
}

struct sh_pace sh_pace_rate(int64_t stall_ns, int64_t window_ns, size_t window_bytes)
{
    return (struct sh_pace){.deadline_ns = SH_NO_DEADLINE,
                            .stall_ns = stall_ns,
                            .window_ns = window_ns,
                            .window_bytes = window_bytes,
                            .window_end_ns = SH_NO_DEADLINE};
}

void sh_pace_start(struct sh_pace *p, int64_t now_ns)
{
    p->last_ns = now_ns;
    p->window_end_ns = after(now_ns, p->window_ns);
    p->window_got = 0;
}

int64_t sh_pace_left(struct sh_pace *p, int64_t now_ns)
{
    int64_t end = p->deadline_ns;
    int64_t stall = after(p->last_ns, p->stall_ns);

    if (now_ns >= p->window_end_ns && p->window_got >= p->window_bytes) {
        p->window_end_ns = after(now_ns, p->window_ns);
        p->window_got = 0;
    }
    if (stall < end) end = stall;
    if (p->window_got < p->window_bytes && p->window_end_ns < end) end = p->window_end_ns;
    if (end == SH_NO_DEADLINE) return SH_NO_DEADLINE;
    return end > now_ns ? end - now_ns : 0;
}

void sh_pace_moved(struct sh_pace *p, int64_t now_ns, size_t bytes)
{
    p->last_ns = now_ns;
    p->window_got = bytes > SIZE_MAX - p->window_got ? SIZE_MAX : p->window_got + bytes;
}
