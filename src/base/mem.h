/* base/mem.h - the only way to the heap: accounted, aligned, and able to fail on demand.
 *
 * Every block is aligned to 64 bytes (a cache line, a zmm register).  Sizes are checked for
 * overflow inside.  Tests make the Nth allocation of the process fail with sh_mem_fail_after().
 * Threads: all functions from any thread.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SH_MEM_ALIGN 64

/* Uninitialised and zeroed blocks; NULL when out of memory or on overflow.  n = 0 is legal and
 * gives a unique block. */
void *sh_malloc(size_t bytes);
void *sh_calloc(size_t n, size_t bytes);
/* Grow or shrink to n*bytes, keeping contents; on NULL the old block stays valid. */
void *sh_realloc_array(void *p, size_t n, size_t bytes);
void sh_free(void *p); /* accepts NULL */
char *sh_strdup(const char *s);

/* For processes that live long and hold much only now and then: freed memory goes back to the
 * system soon, however many threads had it.  Before other threads start. */
void sh_mem_give_back(void);

/* All of a large block that nobody has written yet will be written soon: large pages for it, where
 * the system has them.  They save time for page faults now and for address translation later. */
void sh_mem_fill_soon(void *p, size_t bytes);

/* Bytes in live blocks now, and at most so far. */
size_t sh_mem_live_bytes(void);
size_t sh_mem_peak_bytes(void);

/* Test hook: the allocation after the next n ones fails (once); negative = never. */
void sh_mem_fail_after(int64_t n);
/* Is that failure still to come?  A sweep over all n ends where it is: some failures are survived.
 */
bool sh_mem_fail_pending(void);

/* Overflow-safe size arithmetic: false means that the result does not fit and *out is unset. */
static inline bool sh_add_ok(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}
static inline bool sh_mul_ok(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
/* Round up to a power of two `align`. */
static inline bool sh_round_up_ok(size_t a, size_t align, size_t *out)
{
    size_t t;
    if (__builtin_add_overflow(a, align - 1, &t)) return false;
    *out = t & ~(align - 1);
    return true;
}
/* Is [off, off + len) inside [0, size)? */
static inline bool sh_range_ok(size_t off, size_t len, size_t size)
{
    return off <= size && len <= size - off;
}

#endif
