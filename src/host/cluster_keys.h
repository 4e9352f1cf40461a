/* host/cluster_keys.h - workers as people name them on a command line, with their keys.
 *
 * A worker is "host:port", "host" (port 50052), "unix:/path", or its name in the user's cluster
 * file (rpc/key.h), which also has its key.  One that is not in the file has none: that will do on
 * loopback and Unix sockets.
 *
 * Threads: plain data; the file may be changed by others meanwhile.
 */
#ifndef HOST_CLUSTER_KEYS_H
#define HOST_CLUSTER_KEYS_H

#include "base/str.h"
#include "rpc/key.h"

struct sh_cluster_worker {
    char address[SH_KEY_ADDRESS_TEXT];
    bool has_key;
    struct sh_key key;
};

/* Fill out[n] for the words of a list.  `key_text` (NULL: none) is the key of all of them, whatever
 * the file says.  `path` of the cluster file; NULL: the user's own.  ERR_ARG names the word. */
SHOAL_NODISCARD enum shoal_status sh_cluster_workers(struct sh_cluster_worker *out,
                                                     const struct sh_str *words, int n,
                                                     const char *key_text, const char *path,
                                                     struct shoal_error *err);
void sh_cluster_workers_wipe(struct sh_cluster_worker *list, int n);

#endif
