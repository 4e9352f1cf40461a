/* cmd/machines.h - the machines that a command line names, as host/host.h takes them.
 *
 * Keys come from the command line or from those that are kept, and are kept once every worker has
 * accepted its own.
 * Threads: one at a time.
 */
#ifndef CMD_MACHINES_H
#define CMD_MACHINES_H

#include "cmd/args.h"
#include "host/host.h"

struct sh_machines; /* opaque: owns what the host's options borrow */

struct sh_machines_named { /* borrowed */
    const struct sh_arg_list *workers, *servers;
    const struct sh_arg_numbers *layers;
    const char *key; /* text; NULL: none is given */
};

/* Look up names and keys, and set workers, servers and layers in `o`. */
SHOAL_NODISCARD enum shoal_status sh_machines_find(struct sh_machines **out,
                                                   const struct sh_machines_named *named,
                                                   struct sh_host_options *o,
                                                   struct shoal_error *err);
/* Every worker has accepted its key: the next run finds it. */
void sh_machines_keep_keys(struct sh_machines *m);
void sh_machines_destroy(struct sh_machines *m); /* wipes keys; accepts NULL */

#endif
