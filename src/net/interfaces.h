/* net/interfaces.h - addresses of this machine that others may reach.
 *
 * A machine often has several: container engines leave bridges behind that are up and lead nowhere,
 * and they may come first in the system's list.
 * Threads: any.
 */
#ifndef NET_INTERFACES_H
#define NET_INTERFACES_H

#include "net/address.h"

#define SH_INTERFACES_MAX 32

struct sh_interface {
    char name[32];
    struct sh_address address;
};

/* The addresses of all interfaces, with this port, those of IPv4 before those of IPv6 (with_v6).
 * Of each the best first: towards the default gateway, with a carrier, up, good on its own link
 * only.  Loopback is left out, as is what others could not name.  Returns how many. */
int sh_interfaces(struct sh_interface *out, int n_max, uint16_t port, bool with_v6);

#endif
