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

struct sh_map {
    const uint8_t *ptr; /* NULL while empty */
    size_t size;
    struct sh_map_guard *guard;
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
