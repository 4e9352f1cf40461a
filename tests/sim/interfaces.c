/* tests/sim/interfaces.c - the system's list of interfaces, as a node of the simulated network has
 * it. */
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "sim/net.h"

struct interface {
    struct ifaddrs head;
    struct sockaddr_in address, mask;
};

/* One, in the network of all nodes. */
int getifaddrs(struct ifaddrs **out)
{
    static char name[] = "eth0";
    struct interface *i = calloc(1, sizeof *i);

    *out = NULL;
    if (!i) return -1;
    i->address.sin_family = i->mask.sin_family = AF_INET;
    i->address.sin_addr.s_addr = htonl(0x0a000000u + (unsigned)net_own_node());
    i->mask.sin_addr.s_addr = htonl(0xffffff00u);
    i->head = (struct ifaddrs){.ifa_name = name,
                               .ifa_flags = IFF_UP,
                               .ifa_addr = (struct sockaddr *)&i->address,
                               .ifa_netmask = (struct sockaddr *)&i->mask};
    *out = &i->head;
    return 0;
}

void freeifaddrs(struct ifaddrs *list)
{
    free(list);
}
