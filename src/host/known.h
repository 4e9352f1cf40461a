/* host/known.h - the keys of workers that a host names.
 *
 *      shoal run --workers 10.0.0.2:50052 --key SHOAL1-...    the first time: used, then kept
 *      shoal run --workers 10.0.0.2                           from then on: found in the cluster
 * file
 *
 * A key that was given counts before one that is kept.  It is kept after a worker has accepted it,
 * so a mistyped one is not.  On loopback and Unix sockets no key is needed, and one is used where
 * it is given or kept.
 * Threads: functions over files, which several processes may use at once.
 */
#ifndef HOST_KNOWN_H
#define HOST_KNOWN_H

#include "rpc/key.h"

struct sh_known {
    char address[SH_KEY_ADDRESS_TEXT]; /* with its port; "unix:/path" as it was given */
    bool has_key;
    bool is_new; /* and is not kept in this form yet */
    struct sh_key key;
};

/* What is known of a worker.  `key` is the text of one that was given, NULL: none.  `path` is that
 * of the cluster file, NULL: the user's own. */
SHOAL_NODISCARD enum shoal_status sh_known_find(struct sh_known *out, const char *path,
                                                const char *address, const char *key,
                                                struct shoal_error *err);
/* The worker has accepted the key: keep it if it is new.  *replaced: instead of another one. */
SHOAL_NODISCARD enum shoal_status sh_known_keep(struct sh_known *k, const char *path,
                                                bool *replaced, struct shoal_error *err);
void sh_known_wipe(struct sh_known *k);

#endif
