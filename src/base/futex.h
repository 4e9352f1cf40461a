/* base/futex.h - sleeping on a word, without a lock.
 *
 * For hand-overs between threads that happen thousands of times a second: a condition variable
 * wakes a thread only to let it wait for the mutex that the waker still holds.  The waiter reads
 * the word, then looks whether there is something to do, and if not sleeps as long as the word is
 * what it read; the waker changes what there is to do, then the word, then wakes.
 *
 *     waiter:  w = load(word); if (!ready()) sh_futex_wait(word, w);      (in a loop)
 *     waker:   make ready; add 1 to word; sh_futex_wake(word, n);
 *
 * Threads: any.
 */
#ifndef BASE_FUTEX_H
#define BASE_FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

/* Sleep while *word == seen, until woken; returns for no reason at times. */
void sh_futex_wait(atomic_uint *word, unsigned seen);
/* Wake at most n threads that sleep on the word. */
void sh_futex_wake(atomic_uint *word, int n);

#endif
