/* blob/folder_priv.h - finding model files below a folder. */
#ifndef BLOB_FOLDER_PRIV_H
#define BLOB_FOLDER_PRIV_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct path_list {
    char **paths; /* each of sh_malloc */
    size_t n, cap;
};

/* All model files below `dir`, sorted by name, of split models the first file only; at most
 * `files_max` (more are left out, which is logged).  Release the list in any case. */
SHOAL_NODISCARD enum shoal_status folder_find(struct path_list *out, const char *dir,
                                              size_t files_max, struct shoal_error *err);
void path_list_release(struct path_list *l);

#endif
