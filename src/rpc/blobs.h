/* rpc/blobs.h - the weights of a worker, by SHA-256: sent by clients, or in its own model files.
 *
 * A tensor is found, in this order: resident (sent by a client of the same key, and verified), in
 * the worker's folder of model files (blob/folder.h: mapped, for every key).  What a client sends
 * is received straight into the memory that a stage then imports, is hashed, and is not seen by
 * anybody before its hash is the one that it was sent under.  Half a tensor stays for as long as
 * somebody holds it, so a transfer is taken up again where it broke off.
 *
 * Blobs are counted: who wants one holds it until release; the last release frees what was sent.
 * Threads: any.
 */
#ifndef RPC_BLOBS_H
#define RPC_BLOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "base/str.h"
#include "blob/folder.h"
#include "blob/sha256.h"

struct sh_blobs; /* opaque */
struct sh_blob;  /* one held tensor, opaque */

/* `folder` (borrowed) may be NULL: no files of its own. */
SHOAL_NODISCARD enum shoal_status sh_blobs_create(struct sh_blobs **out, struct sh_folder *folder,
                                                  struct shoal_error *err);
void sh_blobs_destroy(struct sh_blobs *b); /* every blob must have been released; accepts NULL */

/* Hold the tensor of this hash for a client of key `kid` ("" = none): found whole, or an empty or
 * half one that sh_blob_write() completes.  Everybody of the key who wants it holds the same one.
 * ERR_NOMEM where memory for it fails, ERR_FORMAT if a file has it with another length. */
SHOAL_NODISCARD enum shoal_status sh_blobs_want(struct sh_blobs *b, const char *kid,
                                                const struct sh_sha256 *sha256, uint64_t bytes,
                                                struct sh_blob **out, struct shoal_error *err);
void sh_blob_release(struct sh_blob *blob); /* accepts NULL */
/* Something was not found: look for new files in the folder, which are then hashed in the
 * background.  At most every two seconds; false: nothing was done. */
bool sh_blobs_look_again(struct sh_blobs *b);
/* May a file that is not hashed yet have a tensor of this name and length?  Then it is hashed
 * before all others: wait some, and want it again.  *waiting: bytes of all files that are to be
 * hashed. */
bool sh_blobs_hurry(struct sh_blobs *b, struct sh_str name, uint64_t bytes, uint64_t *waiting);
void sh_blobs_wait_some(struct sh_blobs *b, int64_t timeout_ns);

uint64_t sh_blob_held(const struct sh_blob *blob); /* bytes from the start that are here */
bool sh_blob_whole(const struct sh_blob *blob);    /* and verified, or of a file */
bool sh_blob_of_file(const struct sh_blob *blob);  /* of a file of the worker's own */
/* The next bytes of a half one; what is here already is passed over, for several may send the same.
 * ERR_ARG: a gap before them, too many. */
SHOAL_NODISCARD enum shoal_status sh_blob_write(struct sh_blob *blob, uint64_t offset,
                                                const void *data, size_t n,
                                                struct shoal_error *err);
/* All came: compare the hash.  ERR_FORMAT: another one (what came is dropped, held is 0), or not
 * all came. */
SHOAL_NODISCARD enum shoal_status sh_blob_finish(struct sh_blob *blob, struct shoal_error *err);
/* Bytes of a whole one, aligned to 64 where they were sent; `map` is NULL then. */
const void *sh_blob_data(const struct sh_blob *blob, size_t *bytes, const struct sh_map **map);

#endif
