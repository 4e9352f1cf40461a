/* tests/generate/reference.h - results of a run against plain formulas in double.
 *
 * The operands are taken as they were in memory, so errors do not add up from node to node; a node
 * one of whose operands was written over is passed by.
 * Threads: one at a time.
 */
#ifndef TESTS_GENERATE_REFERENCE_H
#define TESTS_GENERATE_REFERENCE_H

#include "run.h"

/* Compare every node of a kind that has a formula; failures are reported (report.h). */
void reference_check(struct gen *g, const struct run_outcome *o);
/* Are all elements of a tensor of f32 (as far as it can be seen) finite? */
bool reference_is_finite(const struct gen *g, const struct run_outcome *o, int32_t tensor);

#endif
