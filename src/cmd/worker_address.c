/* cmd/worker_address.c - looking for an interface that others may reach.
 *
 * A machine often has several: container engines leave bridges behind that are up and lead nowhere,
 * and they may come first in the list.
 */
#include "cmd/worker_address.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

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

// The address that packets to far away would carry; nothing is sent.  False: there is no way there.
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
    close(sock);
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

// The best interface; of equals the first.
static enum rank find_best(const struct ifaddrs *list, int family, uint16_t port,
                           char out[SH_ADDRESS_TEXT_MAX])
{
    struct sh_address gateway, a;
    const bool has_gateway = find_gateway_side(family, &gateway);
    enum rank best = UNUSABLE;

    for (const struct ifaddrs *i = list; i; i = i->ifa_next) {
        const enum rank r = rank_of(i, family, has_gateway ? &gateway : NULL, &a);
        if (r <= best) continue;
        best = r;
        set_port(&a, port);
        sh_address_format(&a, out);
    }
    return best;
}

static void log_others(const struct ifaddrs *list, int family, uint16_t port, const char *chosen)
{
    char text[SH_ADDRESS_TEXT_MAX];
    struct sh_address a;

    for (const struct ifaddrs *i = list; i; i = i->ifa_next) {
        if (rank_of(i, family, NULL, &a) == UNUSABLE) continue;
        set_port(&a, port);
        sh_address_format(&a, text);
        if (strcmp(text, chosen) != 0)
            sh_log(SH_LOG_INFO, "worker", "on %s its address is %s", i->ifa_name, text);
    }
}

void sh_worker_address(const char *text, char out[SH_ADDRESS_TEXT_MAX])
{
    struct ifaddrs *list = NULL;
    struct sh_endpoint ep;
    char name[64] = "";

    (void)snprintf(out, SH_ADDRESS_TEXT_MAX, "%s", text);
    if (sh_endpoint_parse(&ep, text, 0, NULL)) return;
    const bool all4 = strcmp(ep.host, "0.0.0.0") == 0, all6 = strcmp(ep.host, "::") == 0;
    if ((!all4 && !all6) || getifaddrs(&list) < 0) return;
    if (find_best(list, AF_INET, ep.port, out) == UNUSABLE &&
        (all4 || find_best(list, AF_INET6, ep.port, out) == UNUSABLE) &&
        gethostname(name, sizeof name - 1) == 0 && name[0])
        (void)snprintf(out, SH_ADDRESS_TEXT_MAX, "%.60s:%u", name, (unsigned)ep.port);
    log_others(list, AF_INET, ep.port, out);
    if (all6) log_others(list, AF_INET6, ep.port, out);
    freeifaddrs(list);
}
