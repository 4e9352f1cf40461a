/* base/thread.h - threads, mutexes and condition variables with checked results.
 *
 * Thin names over pthreads: creation can fail (a status), locking cannot (an assertion).  A
 * condition waits against an absolute CLOCK_MONOTONIC time given as "nanoseconds from now".
 */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct sh_mutex {
    pthread_mutex_t m;
};
struct sh_cond {
    pthread_cond_t c; /* on CLOCK_MONOTONIC */
};
struct sh_thread {
    pthread_t t;
    bool running;
};
#define SH_THREAD_INIT                                                                             \
    {                                                                                              \
        .running = false                                                                           \
    }

void sh_mutex_init(struct sh_mutex *m);
void sh_mutex_release(struct sh_mutex *m);
void sh_mutex_lock(struct sh_mutex *m);
void sh_mutex_unlock(struct sh_mutex *m);

void sh_cond_init(struct sh_cond *c);
void sh_cond_release(struct sh_cond *c);
/* Wait until signalled or `ns` have passed (INT64_MAX = for ever; spurious wake-ups happen).
 * False when the time ran out. */
bool sh_cond_wait(struct sh_cond *c, struct sh_mutex *m, int64_t ns);
void sh_cond_signal(struct sh_cond *c);
void sh_cond_broadcast(struct sh_cond *c);

/* Signals are blocked in threads of ours: only the main thread of a program handles them. */
SHOAL_NODISCARD enum shoal_status sh_thread_start(struct sh_thread *t, const char *name,
                                                  void *(*run)(void *), void *arg,
                                                  struct shoal_error *err);
void sh_thread_join(struct sh_thread *t); /* accepts a thread that is not running */

/* CPUs that this process may really use: affinity mask and cgroup v1/v2 CPU quota, at least 1. */
int sh_cpu_count(void);
/* Bytes of memory that this process may still take: MemAvailable, bounded by cgroup limits. */
size_t sh_memory_available(void);
size_t sh_memory_total(void);

#endif
