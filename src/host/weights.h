/* host/weights.h - the hashes of a model's tensors, for those who send them: known, or being made.
 *
 * Hashes that are remembered are there at once.  Else a thread hashes the file on all processors,
 * the largest tensors first, while those whose hash is known are already asked for and sent.  What
 * was hashed is remembered.
 *
 *      start ─> next, send, next, send ... (a thread per worker) ─> finish ─> destroy
 *
 * Threads: start, finish and destroy from one; the others from any.
 */
#ifndef HOST_WEIGHTS_H
#define HOST_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "blob/sha256.h"
#include "gguf/file.h"

struct sh_host_weights; /* opaque */

struct sh_host_weights_options {
    const char *hashes; /* folder where hashes are remembered; NULL: the user's own */
    bool forget;        /* remember nothing, and know nothing */
    int n_threads;      /* that hash; 0: as many as there are processors */
};

/* The file is borrowed.  `opt` may be NULL. */
SHOAL_NODISCARD enum shoal_status sh_host_weights_start(struct sh_host_weights **out,
                                                        const struct sh_gguf *file,
                                                        const struct sh_host_weights_options *opt,
                                                        struct shoal_error *err);
/* Stops hashing; nobody may wait any more.  Accepts NULL. */
void sh_host_weights_destroy(struct sh_host_weights *w);

/* Wait until one of `tensors` (numbers as the file counts, n > 0) has its hash, then bring all that
 * have one to the front: *n_ready, at least 1.  The caller goes on with those behind.  `stop`,
 * polled a few times a second, may be NULL.  ERR_CANCELLED, or why hashing failed. */
SHOAL_NODISCARD enum shoal_status sh_host_weights_next(struct sh_host_weights *w, size_t *tensors,
                                                       size_t n, size_t *n_ready,
                                                       bool (*stop)(void *self), void *self,
                                                       struct shoal_error *err);
/* Hash of a tensor that sh_host_weights_next() gave as ready; lives as long as `w`. */
const struct sh_sha256 *sh_host_weights_hash(const struct sh_host_weights *w, size_t tensor);
/* Bytes hashed so far, of how many; both are the whole file's at once where hashes are remembered.
 */
void sh_host_weights_progress(struct sh_host_weights *w, uint64_t *done, uint64_t *total);
/* Until all is hashed, and remembered.  ERR_IO: the file changed meanwhile, so what was sent under
 * its hashes is worth nothing. */
SHOAL_NODISCARD enum shoal_status sh_host_weights_finish(struct sh_host_weights *w,
                                                         bool (*stop)(void *self), void *self,
                                                         struct shoal_error *err);

#endif
