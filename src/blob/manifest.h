/* blob/manifest.h - the content addresses of a model's tensors.
 *
 * A tensor's address is the SHA-256 of its bytes as they are stored.  Every piece of 4 MiB has a
 * SHA-256 of its own, so that a transfer can be checked, taken up again, and come from several
 * sources:
 *
 *      tensor  |<-- 4 MiB -->|<-- 4 MiB -->|<- rest ->|
 *      pieces     sha256[0]     sha256[1]   sha256[2]     a tensor of one piece: both are the same
 *
 * Hashing takes seconds per gigabyte, so a manifest is remembered in a small file, under what the
 * system knows of the model's files: device, inode, size, times of modification and change.  A
 * file that changed within the last two seconds is not remembered: another write could leave its
 * times as they are.
 * Threads: making is one call, from any thread; a manifest is constant and may be read from all.
 */
#ifndef BLOB_MANIFEST_H
#define BLOB_MANIFEST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "blob/sha256.h"
#include "gguf/file.h"

#define SH_PIECE_BYTES ((size_t)4 << 20)

struct sh_manifest; /* opaque */

struct sh_manifest_tensor {
    int shard;       /* index of the file it lies in */
    uint64_t offset; /* in that file */
    uint64_t bytes;
    struct sh_sha256 sha256;
    size_t n_pieces;                /* of SH_PIECE_BYTES, the last may be shorter; at least 1 */
    const struct sh_sha256 *pieces; /* borrowed from the manifest */
};

struct sh_manifest_options {
    int n_threads;   /* that hash; 0: as many as there are processors */
    const char *dir; /* of what is remembered, made when missing; NULL: nothing is */
    /* Nanoseconds since 1970, as the file system counts; NULL: the system's.  For tests. */
    const struct sh_clock *wall;
    const atomic_bool *stop; /* once true, making ends soon with ERR_CANCELLED; may be NULL */
    /* Both may be NULL.  They are called from any of the hashing threads, several at once, under
     * no lock; progress after every piece.  A tensor is told of once, when its hash is known: right
     * if the call then ends well, and to be forgotten if not.  `tensor` counts as in the model. */
    void (*on_tensor)(void *user, size_t tensor, const struct sh_sha256 *sha256);
    void (*on_progress)(void *user, uint64_t bytes_done, uint64_t bytes_total);
    void *user;
};

/* The manifest of an open model, remembered or hashed now.  A file that shrinks or changes while it
 * is read is ERR_IO.  What cannot be remembered is logged, and no error.  `opt` may be NULL. */
SHOAL_NODISCARD enum shoal_status sh_manifest_make(struct sh_manifest **out,
                                                   const struct sh_gguf *g,
                                                   const struct sh_manifest_options *opt,
                                                   struct shoal_error *err);
/* Only if it is remembered; else OK and *out is NULL. */
SHOAL_NODISCARD enum shoal_status sh_manifest_recall(struct sh_manifest **out,
                                                     const struct sh_gguf *g, const char *dir,
                                                     struct shoal_error *err);
void sh_manifest_destroy(struct sh_manifest *m); /* accepts NULL */

size_t sh_manifest_n_tensors(const struct sh_manifest *m); /* as many as the model has */
const struct sh_manifest_tensor *sh_manifest_tensor(const struct sh_manifest *m, size_t i);
uint64_t sh_manifest_bytes(const struct sh_manifest *m); /* of all tensors */
/* Was it remembered?  Then nothing was hashed. */
bool sh_manifest_recalled(const struct sh_manifest *m);

/* Where manifests are remembered: $XDG_CACHE_HOME/shoal/hashes, or ~/.cache/shoal/hashes.
 * ERR_NOT_FOUND where neither variable names an absolute path. */
SHOAL_NODISCARD enum shoal_status sh_manifest_default_dir(struct sh_buf *out,
                                                          struct shoal_error *err);

#endif
