/* text/ids.h - a growing list of token ids.
 *
 * The list owns its memory; an empty one owns nothing.  Threads: one at a time.
 */
#ifndef TEXT_IDS_H
#define TEXT_IDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct sh_ids {
    int32_t *ptr; /* NULL while empty */
    size_t len, cap;
};
#define SH_IDS_INIT                                                                                \
    {                                                                                              \
        .ptr = NULL, .len = 0, .cap = 0                                                            \
    }

/* Room for `more` further ids.  Fails with ERR_NOMEM only, as all of these do, and then leaves
 * the list as it was. */
SHOAL_NODISCARD enum shoal_status sh_ids_reserve(struct sh_ids *ids, size_t more);
SHOAL_NODISCARD enum shoal_status sh_ids_push(struct sh_ids *ids, int32_t id);
/* `src` may lie inside the list itself. */
SHOAL_NODISCARD enum shoal_status sh_ids_append(struct sh_ids *ids, const int32_t *src, size_t n);
void sh_ids_clear(struct sh_ids *ids);   /* keeps the memory */
void sh_ids_release(struct sh_ids *ids); /* to SH_IDS_INIT */

#endif
