/* net/network.c - comparing prefixes.  An IPv4 address that is mapped into IPv6 counts as IPv4. */
#include "net/network.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/* The bytes of an address, and how many: 4, 16 or 0. */
static int bytes_of(const struct sockaddr *sa, uint8_t out[16])
{
    static const uint8_t MAPPED[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

    if (sa->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof in);
        memcpy(out, &in.sin_addr, 4);
        return 4;
    }
    if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sa, sizeof in6);
        memcpy(out, &in6.sin6_addr, 16);
        if (memcmp(out, MAPPED, sizeof MAPPED) != 0) return 16;
        memmove(out, out + 12, 4);
        return 4;
    }
    return 0;
}

static bool same_prefix(const uint8_t *a, const uint8_t *b, int bits)
{
    const int whole = bits / 8, rest = bits % 8;

    if (memcmp(a, b, (size_t)whole) != 0) return false;
    return rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0;
}

/* Digits only. */
static bool parse_bits(const char *s, int most, int *out)
{
    int v = 0;

    if (!*s) return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9') return false;
        v = v * 10 + (*s - '0');
        if (v > most) return false;
    }
    *out = v;
    return true;
}

enum shoal_status sh_network_parse(struct sh_network *out, const char *text,
                                   struct shoal_error *err)
{
    const char *slash = strchr(text, '/');
    const size_t n = slash ? (size_t)(slash - text) : strlen(text);
    uint8_t none[16] = {0};
    char host[INET6_ADDRSTRLEN];
    int most;

    memset(out, 0, sizeof *out);
    if (n == 0 || n >= sizeof host)
        return sh_fail(err, SHOAL_ERR_ARG, "\"%.60s\" is no network, like 10.1.0.0/16", text);
    memcpy(host, text, n);
    host[n] = '\0';
    out->family = strchr(host, ':') ? AF_INET6 : AF_INET;
    most = out->family == AF_INET ? 32 : 128;
    out->bits = most;
    if (inet_pton(out->family, host, out->bytes) != 1 ||
        (slash && !parse_bits(slash + 1, most, &out->bits))) {
        return sh_fail(err, SHOAL_ERR_ARG, "\"%.60s\" is no network, like 10.1.0.0/16", text);
    }
    memcpy(none, out->bytes, (size_t)(out->bits + 7) / 8);
    if (out->bits % 8 != 0) none[out->bits / 8] &= (uint8_t)(0xff << (8 - out->bits % 8));
    if (memcmp(none, out->bytes, sizeof none) != 0) {
        return sh_fail(err, SHOAL_ERR_ARG, "network \"%.60s\" has bits behind its first %d", text,
                       out->bits);
    }
    return SHOAL_OK;
}

bool sh_network_has(const struct sh_network *n, const struct sh_address *a)
{
    struct sockaddr_storage sa = a->sa;
    uint8_t bytes[16] = {0};
    const int have = bytes_of((const struct sockaddr *)&sa, bytes);

    if (have != (n->family == AF_INET ? 4 : 16)) return false;
    return same_prefix(bytes, n->bytes, n->bits);
}

/* The prefix of an interface's network. */
static bool network_of(const struct ifaddrs *i, struct sh_network *out)
{
    uint8_t mask[16] = {0};
    int n;

    memset(out, 0, sizeof *out);
    if (!i->ifa_addr || !i->ifa_netmask || !(i->ifa_flags & IFF_UP)) return false;
    if (i->ifa_flags & IFF_LOOPBACK) return false;
    n = bytes_of(i->ifa_addr, out->bytes);
    if (n == 0 || bytes_of(i->ifa_netmask, mask) != n) return false;
    out->family = n == 4 ? AF_INET : AF_INET6;
    while (out->bits < n * 8 && mask[out->bits / 8] >> (7 - out->bits % 8) & 1)
        out->bits++;
    return true;
}

bool sh_network_is_own(const struct sh_address *a)
{
    struct ifaddrs *list = NULL;
    struct sh_network own;
    bool found = false;

    if (sh_address_is_loopback(a) || getifaddrs(&list) < 0) return false;
    for (const struct ifaddrs *i = list; i && !found; i = i->ifa_next)
        found = network_of(i, &own) && sh_network_has(&own, a);
    freeifaddrs(list);
    return found;
}

static enum shoal_status not_numbers(const char *text, struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_ARG, "address \"%.60s\" is not in numbers", text);
}

enum shoal_status sh_address_parse(struct sh_address *out, const char *text,
                                   struct shoal_error *err)
{
    struct sh_address list[SH_ADDRESSES_MAX];
    struct sh_endpoint ep;
    int found = 0;
    enum shoal_status st;

    memset(out, 0, sizeof *out);
    st = sh_endpoint_parse(&ep, text, -1, err);
    if (st) return st;
    if (strncmp(ep.host, "unix:", 5) != 0) {
        const size_t n = strcspn(ep.host, "%"); // an IPv6 address may name its interface
        char host[INET6_ADDRSTRLEN] = "";
        uint8_t bytes[16];
        if (n >= sizeof host) return not_numbers(text, err);
        memcpy(host, ep.host, n);
        if (inet_pton(AF_INET, host, bytes) != 1 && inet_pton(AF_INET6, host, bytes) != 1)
            return not_numbers(text, err);
    }
    st = sh_address_resolve(list, &found, &ep, false, err);
    if (!st && found < 1) st = not_numbers(text, err);
    if (!st) *out = list[0];
    return st;
}
