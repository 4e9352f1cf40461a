/* cmd/worker_address.c - looking for an interface that others may reach. */
#include "cmd/worker_address.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// Not the loopback, and not one that means something on its own link only.
static bool is_usable(const struct ifaddrs *i, int family)
{
    if (!i->ifa_addr || i->ifa_addr->sa_family != family) return false;
    if (!(i->ifa_flags & IFF_UP) || (i->ifa_flags & IFF_LOOPBACK)) return false;
    if (family == AF_INET) return true;
    struct sockaddr_in6 in6;
    memcpy(&in6, i->ifa_addr, sizeof in6);
    return !IN6_IS_ADDR_LINKLOCAL(&in6.sin6_addr);
}

static bool find_interface(int family, uint16_t port, char out[SH_ADDRESS_TEXT_MAX])
{
    struct ifaddrs *list = NULL;
    bool found = false;

    if (getifaddrs(&list) < 0) return false;
    for (const struct ifaddrs *i = list; i && !found; i = i->ifa_next) {
        struct sh_address a = {.len = 0};
        if (!is_usable(i, family)) continue;
        a.len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
        memcpy(&a.sa, i->ifa_addr, a.len);
        if (family == AF_INET) {
            ((struct sockaddr_in *)(void *)&a.sa)->sin_port = htons(port);
        } else {
            ((struct sockaddr_in6 *)(void *)&a.sa)->sin6_port = htons(port);
        }
        sh_address_format(&a, out);
        found = true;
    }
    freeifaddrs(list);
    return found;
}

void sh_worker_address(const char *text, char out[SH_ADDRESS_TEXT_MAX])
{
    struct sh_endpoint ep;
    char name[64] = "";

    (void)snprintf(out, SH_ADDRESS_TEXT_MAX, "%s", text);
    if (sh_endpoint_parse(&ep, text, 0, NULL)) return;
    const bool all4 = strcmp(ep.host, "0.0.0.0") == 0, all6 = strcmp(ep.host, "::") == 0;
    if (!all4 && !all6) return;
    if (find_interface(AF_INET, ep.port, out)) return;
    if (all6 && find_interface(AF_INET6, ep.port, out)) return;
    if (gethostname(name, sizeof name - 1) == 0 && name[0])
        (void)snprintf(out, SH_ADDRESS_TEXT_MAX, "%.60s:%u", name, (unsigned)ep.port);
}
