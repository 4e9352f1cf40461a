/* device/ledger.h - one account of a device's memory, for all who serve it.
 *
 * A worker speaks two protocols over the same memory.  Whoever promises bytes to a client takes
 * them here first, and gives them back when they are free again; so nothing is promised twice.
 * Threads: any.
 */
#ifndef DEVICE_LEDGER_H
#define DEVICE_LEDGER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct sh_ledger; /* opaque */

SHOAL_NODISCARD enum shoal_status sh_ledger_create(struct sh_ledger **out, size_t max_bytes,
                                                   struct shoal_error *err);
void sh_ledger_destroy(struct sh_ledger *l); /* everything must be given back; accepts NULL */
/* All of `bytes` or nothing; *left (may be NULL) is what was free before. */
bool sh_ledger_take(struct sh_ledger *l, size_t bytes, size_t *left);
void sh_ledger_give(struct sh_ledger *l, size_t bytes);
size_t sh_ledger_left(struct sh_ledger *l);
size_t sh_ledger_used(struct sh_ledger *l);
size_t sh_ledger_max(struct sh_ledger *l);

#endif
