/* base/file.h - reading whole files, mapping them, and surviving files that shrink.
 *
 * A mapping that loses its file's tail under us raises SIGBUS on the next touch.  The fault guard
 * turns that into a value: a fault inside a registered mapping replaces the missing page by
 * zeros, marks the mapping as faulted and goes on.  Whoever consumed the bytes then asks
 * sh_map_faulted() and fails with ERR_IO.  (No longjmp: the reader may hold locks.)
 * Kernels read mapped weights, so the check belongs after a step as well as after parsing.
 * A handler that other code installs later hides the guard until the next sh_map_file().
 * Threads: any; a mapping is opened and released by one.
 */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct sh_map_guard; /* registration with the SIGBUS handler */

/* Which file it is, and which content: equal as long as nobody writes, renames or replaces it.
 * (Times are coarse: two writes within one tick of the file system's clock look like one.) */
struct sh_file_id {
    uint64_t device, inode, size;
    uint64_t modified_ns, changed_ns; /* since 1970, modulo 2^64 */
};

static inline bool sh_file_id_equal(const struct sh_file_id *a, const struct sh_file_id *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->modified_ns == b->modified_ns && a->changed_ns == b->changed_ns;
}

/* What a path names now; links are followed.  ERR_IO if that is no regular file. */
SHOAL_NODISCARD enum shoal_status sh_file_identify(struct sh_file_id *out, const char *path,
                                                   struct shoal_error *err);

struct sh_map {
    const uint8_t *ptr; /* NULL while empty */
    size_t size;
    struct sh_map_guard *guard;
    struct sh_file_id id; /* as it was just before it was mapped */
};
#define SH_MAP_INIT                                                                                \
    {                                                                                              \
        .ptr = NULL, .size = 0, .guard = NULL                                                      \
    }

/* Map a regular file read-only, whole.  The SIGBUS handler is installed with the first mapping
 * (and chains to an earlier handler for foreign addresses).  An empty file maps as size 0. */
SHOAL_NODISCARD enum shoal_status sh_map_file(struct sh_map *out, const char *path,
                                              struct shoal_error *err);
void sh_map_release(struct sh_map *m);
/* Has a read of this mapping faulted since it was made?  Cheap; never resets. */
bool sh_map_faulted(const struct sh_map *m);

/* Read a whole regular file of at most `max_bytes` into a NUL-terminated block of sh_malloc. */
SHOAL_NODISCARD enum shoal_status sh_read_file(char **out, size_t *out_len, const char *path,
                                               size_t max_bytes, struct shoal_error *err);

#endif
