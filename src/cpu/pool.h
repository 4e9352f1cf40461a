/* cpu/pool.h - the threads of one CPU device and the parallel loop over them.
 *
 * A pool of n threads is the caller's own thread (number 0) and n - 1 workers.  A loop is cut into
 * chunks that the threads take from one counter, so a thread that is held up delays nobody but the
 * owner of its chunk: the caller works too, takes what is left, and then waits only for chunks
 * that somebody has begun.  A worker that has not woken up is not needed.  Every wait spins for a
 * moment (base/spin.h) and then sleeps.
 *
 * Which thread runs which chunk is left to chance; nothing computed may depend on it.
 * Threads: sh_pool_for() from one thread at a time, and not from inside a loop.
 */
#ifndef CPU_POOL_H
#define CPU_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define SH_POOL_THREADS_MAX 256

struct sh_pool;

/* Items [begin, end) of the loop; `thread` is 0 .. n_threads - 1 and no two calls with the same
 * number overlap. */
typedef void sh_pool_fn(void *arg, int64_t begin, int64_t end, int thread);

SHOAL_NODISCARD enum shoal_status sh_pool_create(struct sh_pool **out, int n_threads,
                                                 struct shoal_error *err);
void sh_pool_destroy(struct sh_pool *p); /* accepts NULL */
int sh_pool_threads(const struct sh_pool *p);

/* Call fn over [0, n) in chunks of `chunk` items (the last may be shorter); returns when all are
 * done.  A single chunk, or a pool of one, runs on the caller without a wake-up. */
void sh_pool_for(struct sh_pool *p, int64_t n, int64_t chunk, sh_pool_fn *fn, void *arg);

/* While *stop is true loops take no further chunks; NULL = never.  Set between loops. */
void sh_pool_set_stop(struct sh_pool *p, const atomic_bool *stop);

#endif
