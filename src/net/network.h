/* net/network.h - ranges of addresses, and those that this machine is part of.
 *
 *      text    "10.1.0.0/16", "fd00:7::/32", or one address
 *
 * Threads: any; nothing here has state.
 */
#ifndef NET_NETWORK_H
#define NET_NETWORK_H

#include "net/address.h"

struct sh_network {
    int family; /* AF_INET, AF_INET6 */
    uint8_t bytes[16];
    int bits; /* of the prefix */
};

/* ERR_ARG: no such range, or bits beyond the prefix are set. */
SHOAL_NODISCARD enum shoal_status sh_network_parse(struct sh_network *out, const char *text,
                                                   struct shoal_error *err);
bool sh_network_has(const struct sh_network *n, const struct sh_address *a);
/* Is the address within the network of an interface of this machine that is up?  Loopback counts
 * as none. */
bool sh_network_is_own(const struct sh_address *a);

/* An address and its port, in numbers ("10.0.0.2:50052", "[fd00::2]:50052"), or "unix:/path":
 * nobody is asked.  ERR_ARG. */
SHOAL_NODISCARD enum shoal_status sh_address_parse(struct sh_address *out, const char *text,
                                                   struct shoal_error *err);

#endif
