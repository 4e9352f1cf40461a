/* base/spin.h - waiting a moment before sleeping.
 *
 * A hand-over between threads often takes less time than going to sleep and being woken.  So a
 * waiter spins first, but never longer than SH_SPIN_NS: on a machine with more threads than CPUs
 * it would only keep the thread that it waits for from running.  Usage:
 *
 *     struct sh_spin spin = SH_SPIN_INIT;
 *     while (!ready() && sh_spin_again(&spin)) {
 *     }
 *     if (!ready()) sleep();
 *
 * Threads: a record is its owner's.
 */
#ifndef BASE_SPIN_H
#define BASE_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

#define SH_SPIN_NS INT64_C(20000)

struct sh_spin {
    int64_t start_ns; /* 0: not begun */
    unsigned n;
};
#define SH_SPIN_INIT                                                                               \
    {                                                                                              \
        .start_ns = 0, .n = 0                                                                      \
    }

/* Tell the processor that this is a spin loop. */
static inline void sh_spin_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Pause once; false when the time for spinning is over. */
static inline bool sh_spin_again(struct sh_spin *s)
{
    sh_spin_pause();
    if (s->n++ % 8 != 0) return true; // reading the clock costs as much as a few pauses
    if (s->n == 1) {
        s->start_ns = sh_now_ns(&sh_clock_system);
        return true;
    }
    return sh_now_ns(&sh_clock_system) - s->start_ns < SH_SPIN_NS;
}

#endif
