/* tools/lan/hosts.h - network namespaces, and how a process gets into one.
 *
 * Host i (from 0) is called h1, h2 ... and has the address 10.77.0.1, .2 ... on eth0, a TUN device
 * whose other end is a file descriptor here.  It also has an interface that is up and leads
 * nowhere, as container engines leave them behind: 172.31.0.1 on bridge0, first in the list.
 *
 * All live in process 1 of a process namespace of their own, which keeps the namespaces open under
 * known descriptors; /proc/1/fd is where the others find them.  When that process ends, so does
 * everything in it.
 */
#ifndef TOOLS_LAN_HOSTS_H
#define TOOLS_LAN_HOSTS_H

#include "base/error.h"
#include "tools/lan/switch.h"

/* Descriptors of process 1: shared memory, and the namespace of host i at LAN_FD_HOST + i. */
enum { LAN_FD_SHARED = 100, LAN_FD_HOST = 101 };

/* Can namespaces and TUN devices be made here?  Moves this process into new ones (for processes,
 * its children only), as root or, without being root, as the root of a user namespace. */
SHOAL_NODISCARD enum shoal_status lan_isolate(struct shoal_error *err);
/* In process 1 of the namespace: a /proc of its own. */
SHOAL_NODISCARD enum shoal_status lan_mount_proc(struct shoal_error *err);
/* In process 1: make all hosts, and be in the first.  tun[i] is host i's cable, not blocking. */
SHOAL_NODISCARD enum shoal_status lan_hosts_make(const struct lan_options *o, int *tun,
                                                 struct shoal_error *err);
/* In process 1: memory that the others find. */
SHOAL_NODISCARD enum shoal_status lan_shared_make(struct lan_shared **out, struct shoal_error *err);

/* In the other processes: that memory; the network of host i. */
SHOAL_NODISCARD enum shoal_status lan_shared_open(struct lan_shared **out, struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status lan_host_enter(int i, struct shoal_error *err);

#endif
