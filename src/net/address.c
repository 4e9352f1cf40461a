/* net/address.c - parsing endpoints, asking the resolver, printing addresses. */
#include "net/address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "net/unix_priv.h"

#define PORT_MAX 65535

/* Digits only, 0..65535. */
static bool parse_port(const char *s, uint16_t *out)
{
    unsigned v = 0;

    if (!*s) return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9') return false;
        v = v * 10 + (unsigned)(*s - '0');
        if (v > PORT_MAX) return false;
    }
    *out = (uint16_t)v;
    return true;
}

enum shoal_status sh_endpoint_parse(struct sh_endpoint *out, const char *text, int default_port,
                                    struct shoal_error *err)
{
    const char *host = text, *port = NULL;
    const char *colon = strrchr(text, ':');
    size_t host_len;

    memset(out, 0, sizeof *out);
    if (sh_unix_is(text)) {
        enum shoal_status st = sh_unix_check(text, err);
        if (!st) (void)snprintf(out->host, sizeof out->host, "%s", text);
        return st;
    }
    if (text[0] == '[') {
        const char *close = strchr(text, ']');
        if (!close || close == text + 1 || (close[1] != '\0' && close[1] != ':')) {
            return sh_fail(err, SHOAL_ERR_ARG, "address \"%s\": no \"]\" before the port", text);
        }
        host = text + 1;
        host_len = (size_t)(close - host);
        port = close[1] ? close + 2 : NULL;
    } else if (colon && strchr(text, ':') == colon) {
        host_len = (size_t)(colon - host);
        port = colon + 1;
    } else {
        host_len = strlen(host); // a name, or a bare IPv6 address
    }
    if (host_len >= sizeof out->host) {
        return sh_fail(err, SHOAL_ERR_ARG, "address \"%.40s...\": host name too long", text);
    }
    if (!port && host_len == 0) return sh_fail(err, SHOAL_ERR_ARG, "address is empty");
    memcpy(out->host, host, host_len);
    if (port) {
        if (!parse_port(port, &out->port)) {
            return sh_fail(err, SHOAL_ERR_ARG, "address \"%s\": \"%s\" is no port (0 to 65535)",
                           text, port);
        }
    } else if (default_port < 0) {
        return sh_fail(err, SHOAL_ERR_ARG, "address \"%s\" has no port", text);
    } else {
        out->port = (uint16_t)default_port;
    }
    return SHOAL_OK;
}

enum shoal_status sh_address_resolve(struct sh_address *out, int *n_out,
                                     const struct sh_endpoint *ep, bool listening,
                                     struct shoal_error *err)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    char port[8];
    int rc, n = 0;

    *n_out = 0;
    if (sh_unix_is(ep->host)) {
        sh_unix_address(&out[0], ep->host);
        *n_out = 1;
        return SHOAL_OK;
    }
    (void)snprintf(port, sizeof port, "%u", (unsigned)ep->port);
    hints.ai_flags = AI_NUMERICSERV | (listening ? AI_PASSIVE : 0);
    rc = getaddrinfo(ep->host[0] ? ep->host : NULL, port, &hints, &list);
    if (rc != 0) {
        return sh_fail(err, SHOAL_ERR_NOT_FOUND, "cannot find the address of \"%s\": %s", ep->host,
                       gai_strerror(rc));
    }
    // IPv4 first: llama.cpp's peers speak nothing else.
    for (int pass = 0; pass < 2; pass++) {
        for (struct addrinfo *a = list; a && n < SH_ADDRESSES_MAX; a = a->ai_next) {
            if ((a->ai_family == AF_INET) != (pass == 0)) continue;
            if (a->ai_addrlen > sizeof out[n].sa) continue;
            memset(&out[n], 0, sizeof out[n]);
            memcpy(&out[n].sa, a->ai_addr, a->ai_addrlen);
            out[n++].len = a->ai_addrlen;
        }
    }
    freeaddrinfo(list);
    if (n == 0) {
        return sh_fail(err, SHOAL_ERR_NOT_FOUND, "\"%s\" has no address that TCP can use",
                       ep->host);
    }
    *n_out = n;
    return SHOAL_OK;
}

/* The 16 bytes of an IPv6 address, IPv4 mapped into it. */
static bool host_bytes(const struct sh_address *a, uint8_t out[16])
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

    if (a->sa.ss_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, &a->sa, sizeof in);
        memcpy(out, mapped, sizeof mapped);
        memcpy(out + 12, &in.sin_addr, 4);
        return true;
    }
    if (a->sa.ss_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, &a->sa, sizeof in6);
        memcpy(out, &in6.sin6_addr, 16);
        return true;
    }
    return false;
}

uint16_t sh_address_port(const struct sh_address *a)
{
    if (a->sa.ss_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, &a->sa, sizeof in);
        return ntohs(in.sin_port);
    }
    if (a->sa.ss_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, &a->sa, sizeof in6);
        return ntohs(in6.sin6_port);
    }
    return 0;
}

bool sh_address_is_loopback(const struct sh_address *a)
{
    static const uint8_t one[16] = {[15] = 1};
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    uint8_t b[16];

    if (a->sa.ss_family == AF_UNIX) return true;
    if (!host_bytes(a, b)) return false;
    if (memcmp(b, one, sizeof one) == 0) return true;
    return memcmp(b, mapped, sizeof mapped) == 0 && b[12] == 127;
}

bool sh_address_same_host(const struct sh_address *a, const struct sh_address *b)
{
    uint8_t x[16], y[16];

    return host_bytes(a, x) && host_bytes(b, y) && memcmp(x, y, sizeof x) == 0;
}

void sh_address_format(const struct sh_address *a, char out[SH_ADDRESS_TEXT_MAX])
{
    char host[INET6_ADDRSTRLEN + 1 + IF_NAMESIZE];
    bool v6 = a->sa.ss_family == AF_INET6;

    if (a->sa.ss_family == AF_UNIX) {
        sh_unix_format(a, out, SH_ADDRESS_TEXT_MAX);
        return;
    }
    if (getnameinfo((const struct sockaddr *)&a->sa, a->len, host, sizeof host, NULL, 0,
                    NI_NUMERICHOST) != 0) {
        (void)snprintf(out, SH_ADDRESS_TEXT_MAX, "local");
        return;
    }
    (void)snprintf(out, SH_ADDRESS_TEXT_MAX, v6 ? "[%s]:%u" : "%s:%u", host,
                   (unsigned)sh_address_port(a));
}
