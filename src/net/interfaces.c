/* net/interfaces.c - the system's list of addresses, ranked. */
#include "net/interfaces.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LOWER_UP = 1 << 16 }; /* has a carrier: IFF_LOWER_UP, which <net/if.h> does not name */
enum rank { UNUSABLE, LINK_LOCAL, UP, CARRIER, GATEWAY };

static socklen_t length_of(int family)
{
    return family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static void set_port(struct sh_address *a, uint16_t port)
{
    if (a->sa.ss_family == AF_INET) {
        ((struct sockaddr_in *)(void *)&a->sa)->sin_port = htons(port);
    } else {
        ((struct sockaddr_in6 *)(void *)&a->sa)->sin6_port = htons(port);
    }
}

/* The address that packets to far away would carry; nothing is sent.  False: there is no way there.
 */
static bool find_gateway_side(int family, struct sh_address *out)
{
    // Addresses set aside for documentation, so nobody's.
    const struct sh_endpoint far = {.host = "192.0.2.1", .port = 9},
                             far6 = {.host = "2001:db8::1", .port = 9};
    struct sh_address to[SH_ADDRESSES_MAX];
    bool found = false;
    int n = 0, sock;

    if (sh_address_resolve(to, &n, family == AF_INET ? &far : &far6, false, NULL) || n == 0)
        return false;
    sock = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sock < 0) return false;
    out->len = sizeof out->sa;
    if (connect(sock, (const struct sockaddr *)&to[0].sa, to[0].len) == 0)
        found = getsockname(sock, (struct sockaddr *)&out->sa, &out->len) == 0;
    (void)close(sock);
    return found;
}

// 169.254.0.0/16 and fe80::/10 mean something on their own link only.
static bool is_link_local(const struct sh_address *a)
{
    if (a->sa.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)&a->sa;
        return ntohl(in->sin_addr.s_addr) >> 16 == 0xA9FE;
    }
    return IN6_IS_ADDR_LINKLOCAL(&((const struct sockaddr_in6 *)(const void *)&a->sa)->sin6_addr);
}

static enum rank rank_of(const struct ifaddrs *i, int family, const struct sh_address *gateway,
                         struct sh_address *a)
{
    if (!i->ifa_addr || i->ifa_addr->sa_family != family) return UNUSABLE;
    if (!(i->ifa_flags & IFF_UP) || (i->ifa_flags & IFF_LOOPBACK)) return UNUSABLE;
    *a = (struct sh_address){.len = length_of(family)};
    memcpy(&a->sa, i->ifa_addr, a->len);
    // An IPv6 address of that kind cannot be used without naming the reader's own interface.
    if (is_link_local(a)) return family == AF_INET ? LINK_LOCAL : UNUSABLE;
    if (gateway && sh_address_same_host(a, gateway)) return GATEWAY;
    return i->ifa_flags & LOWER_UP ? CARRIER : UP;
}

// Appends those of one family; of equals the system's order stays.
static int add_family(struct sh_interface *out, int n, int n_max, const struct ifaddrs *list,
                      int family, uint16_t port)
{
    struct sh_address gateway;
    const bool has_gateway = find_gateway_side(family, &gateway);

    for (enum rank want = GATEWAY; want > UNUSABLE; want--) {
        for (const struct ifaddrs *i = list; i && n < n_max; i = i->ifa_next) {
            struct sh_interface *at = &out[n];
            if (rank_of(i, family, has_gateway ? &gateway : NULL, &at->address) != want) continue;
            set_port(&at->address, port);
            (void)snprintf(at->name, sizeof at->name, "%s", i->ifa_name);
            n++;
        }
    }
    return n;
}

int sh_interfaces(struct sh_interface *out, int n_max, uint16_t port, bool with_v6)
{
    struct ifaddrs *list = NULL;
    int n;

    if (getifaddrs(&list) < 0) return 0;
    n = add_family(out, 0, n_max, list, AF_INET, port);
    if (with_v6) n = add_family(out, n, n_max, list, AF_INET6, port);
    freeifaddrs(list);
    return n;
}
