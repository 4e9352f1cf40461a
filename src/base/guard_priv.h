/* base/guard_priv.h - the SIGBUS guard behind base/file.h.
 *
 * A fixed table of mappings, because a signal handler may not take locks or allocate.  Threads:
 * add and remove from any; the handler runs on whichever thread touched a missing page.
 */
#ifndef BASE_GUARD_PRIV_H
#define BASE_GUARD_PRIV_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define SH_GUARD_MAPS_MAX 1024

struct sh_map_guard;

/* Watch [p, p + size), which is a mapping of ours.  ERR_LIMIT when the table is full. */
SHOAL_NODISCARD enum shoal_status sh_guard_add(struct sh_map_guard **out, const void *p,
                                               size_t size, struct shoal_error *err);
void sh_guard_remove(struct sh_map_guard *g); /* accepts NULL; before the mapping is undone */
bool sh_guard_faulted(const struct sh_map_guard *g);

#endif
