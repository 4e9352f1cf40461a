/* tests/generate/report.h - which seed is at work, told also when the program dies of it.
 *
 *   SHOAL_SEED=N      run this seed only
 *   SHOAL_SEEDS=N     how many seeds
 *   SHOAL_SECONDS=N   seeds that were never run before, until so much time has passed
 *
 * Threads: the main one.
 */
#ifndef TESTS_GENERATE_REPORT_H
#define TESTS_GENERATE_REPORT_H

#include "base/error.h"
#include "gen.h"

#define REPORT_FAILURES_MAX 5

/* From now on a fault prints what report_begin() was last told.  `program`: below test/. */
void report_install(const char *program);
/* The graph is printed as it is now; damage done later stands in g->what. */
void report_begin(uint64_t seed, const struct gen *g);
/* Count a failure and print it with the graph and the command that repeats it. */
void report_failure(const struct gen *g, const char *fmt, ...) SHOAL_PRINTF(2, 3);
int report_failures(void);

/* The next seed: false at the end.  Start with *n = 0. */
bool report_next(uint64_t base, int64_t n_seeds, int64_t *n, uint64_t *seed);
/* Does this run cover what a whole run promises? */
bool report_is_whole(void);

#endif
