/* cpu/pages_priv.h - large pages for the part of KV memory that is really used.
 *
 * Large pages save the processor most of its address translation: a text of more than 2000 tokens
 * is a tenth faster on them.  But the first byte of a large page costs the zeroing of 2 MB, and
 * the first token writes to every layer's keys and values.  So a cache begins on small pages.
 * Those of a window of 2 MB are joined to a large one once a quarter of them is in use.
 *
 * Joining costs 0.4 ms where the system has a large page ready, ten times that where it must make
 * one.  It is done between runs, for a set share of the time that they took.  (To ask for large
 * pages at once where the first run is long does not pay: it made a prompt of 512 tokens half as
 * long again, and saved one of 2100 nothing that could be measured.)
 *
 * Owner: the memory is the caller's, and outlives this.  Threads: init and release while nobody
 * else knows it; join by one thread at a time, while any use the memory.
 */
#ifndef CPU_PAGES_PRIV_H
#define CPU_PAGES_PRIV_H

#include <stdbool.h>
#include <stddef.h>

#include "base/clock.h"
#include "base/error.h"

struct sh_cpu_pages {
    uint8_t *windows;  /* the first whole window in the memory */
    size_t n_windows;  /* 0: nothing is ever joined */
    size_t n_left;     /* not joined yet */
    size_t next;       /* window to look at */
    uint8_t *joined;   /* by window */
    int64_t credit_ns; /* what may still be spent; negative: was spent beforehand */
};
#define SH_CPU_PAGES_INIT                                                                          \
    {                                                                                              \
        .windows = NULL, .n_windows = 0                                                            \
    }

/* Does this system have large pages for those who ask? */
bool sh_cpu_pages_usable(void);

/* Watch memory that nobody has written yet.  ERR_NOMEM leaves *p empty. */
SHOAL_NODISCARD enum shoal_status sh_cpu_pages_init(struct sh_cpu_pages *p, uint8_t *data,
                                                    size_t bytes, struct shoal_error *err);
void sh_cpu_pages_release(struct sh_cpu_pages *p); /* accepts the empty value */

/* Join what is in use and still small, for `budget_ns` on average: a window that takes longer is
 * paid for by the next calls.  The contents stay as they are. */
void sh_cpu_pages_join(struct sh_cpu_pages *p, int64_t budget_ns);

#endif
