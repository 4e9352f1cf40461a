/* base/futex.c - Linux' futex call; elsewhere a short sleep, which the waiter's loop repeats. */
#include "base/futex.h"

#include <stddef.h>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <time.h>
#endif

_Static_assert(sizeof(atomic_uint) == 4, "a futex is a word of 32 bits");

void sh_futex_wait(atomic_uint *word, unsigned seen)
{
#if defined(__linux__)
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
#else
    const struct timespec moment = {.tv_sec = 0, .tv_nsec = 50000};

    if (atomic_load(word) == seen) (void)nanosleep(&moment, NULL);
#endif
}

void sh_futex_wake(atomic_uint *word, int n)
{
#if defined(__linux__)
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
#else
    (void)word;
    (void)n;
#endif
}
