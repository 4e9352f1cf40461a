/* blob/folder.h - a folder of model files, searched by the SHA-256 of tensors.
 *
 * All *.gguf below the folder count, a few levels deep, whatever their names; a split model is one.
 * A link to a file is followed wherever it leads, for model hubs keep their files so and the folder
 * is its owner's; a link to a folder is not, nor are hidden names.  What is broken is left out,
 * with one logged line.
 *
 * A model whose hashes are remembered (blob/manifest.h) is found at once, the others once
 * sh_folder_hash() has been asked for.  A file that was changed, replaced or removed drops out when
 * it is next looked at; what is new or has another name shows with the next scan.
 * Threads: any; scans wait for each other.
 */
#ifndef BLOB_FOLDER_H
#define BLOB_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "blob/sha256.h"

struct sh_folder; /* opaque */

struct sh_folder_options {
    const char *dir;
    const char *hashes;          /* where hashes are remembered; NULL: they are not */
    int n_threads;               /* that hash; 0: as many as there are processors */
    int files_max;               /* models; 0: 4096 */
    size_t tensors_max;          /* of all models; 0: 4 million */
    const struct sh_clock *wall; /* as in struct sh_manifest_options; NULL: the system's */
};

struct sh_folder_stats {
    size_t n_models;
    size_t n_hashed;        /* of these, models whose tensors can be found */
    size_t n_failed;        /* of these, models that could not be hashed */
    size_t n_tensors;       /* that can be found */
    uint64_t bytes_waiting; /* of models that are not hashed yet */
};

/* A tensor's bytes, mapped.  They stay until the blob is released, even if the file's name goes. */
struct sh_folder_blob {
    const void *data;
    size_t bytes;
    const struct sh_map *map;      /* ask sh_map_faulted() after reading */
    struct sh_folder_model *model; /* for release */
};

/* Open and scan.  The folder must be there: ERR_IO if not. */
SHOAL_NODISCARD enum shoal_status sh_folder_open(struct sh_folder **out,
                                                 const struct sh_folder_options *opt,
                                                 struct shoal_error *err);
/* Ends hashing.  Every blob must have been released. */
void sh_folder_close(struct sh_folder *f); /* accepts NULL */

/* Look again for files that came, went or changed. */
SHOAL_NODISCARD enum shoal_status sh_folder_scan(struct sh_folder *f, struct shoal_error *err);
/* Hash in the background what is not remembered; returns at once. */
SHOAL_NODISCARD enum shoal_status sh_folder_hash(struct sh_folder *f, struct shoal_error *err);
/* Until nothing is being hashed. */
void sh_folder_wait(struct sh_folder *f);
/* A tensor of this name and length is waited for.  If a model that is still to be hashed may have
 * it, that one is hashed before all others, and this is true: ask again after some waiting. */
bool sh_folder_hurry(struct sh_folder *f, struct sh_str name, uint64_t bytes);
/* Until a model more is hashed, or not even one is left, for at most so long. */
void sh_folder_wait_some(struct sh_folder *f, int64_t timeout_ns);
void sh_folder_stats(struct sh_folder *f, struct sh_folder_stats *out);

/* The tensor of that hash.  ERR_NOT_FOUND, without a log line, if no file has it; other errors are
 * the system's. */
SHOAL_NODISCARD enum shoal_status sh_folder_get(struct sh_folder *f, const struct sh_sha256 *hash,
                                                struct sh_folder_blob *out,
                                                struct shoal_error *err);
void sh_folder_blob_release(struct sh_folder *f, struct sh_folder_blob *b); /* accepts empty ones */

#endif
