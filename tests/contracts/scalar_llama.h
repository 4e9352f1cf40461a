/* tests/contracts/scalar_llama.h - a llama forward pass in double, written for nothing but to be
 * compared with.
 *
 * One sequence, one token after the other.  Keys and values are kept in a list with their
 * positions, so that an edit of a context is what it says: entries leave the list, and the keys
 * that stay behind them are turned by the difference of positions.  Shares no code with the
 * program but the reading of the file.
 */
#ifndef TESTS_CONTRACTS_SCALAR_LLAMA_H
#define TESTS_CONTRACTS_SCALAR_LLAMA_H

#include "support/models.h"

struct scalar_llama;

/* For a dense model of f32 weights; `n_max`: most tokens ever fed.  Fails the test on error. */
struct scalar_llama *scalar_llama_open(const struct tm_model *m, int64_t n_max);
void scalar_llama_close(struct scalar_llama *s);

/* Feed ids at the next positions; logits [n][n_vocab]. */
void scalar_llama_feed(struct scalar_llama *s, const int32_t *ids, int64_t n, double *logits);
/* Forget positions [begin, begin + n) and move the later ones down by n. */
void scalar_llama_drop(struct scalar_llama *s, int64_t begin, int64_t n);

#endif
