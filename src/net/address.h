/* net/address.h - where to connect or listen: text into socket addresses and back.
 *
 *   text        host:port   [v6]:port   :port   host   v6   unix:/path/of/socket
 *   endpoint    host and port, names not looked up yet
 *   address     what the system's socket calls take
 *
 * What sh_address_format() writes can be parsed again.  Looking up a name asks the system's
 * resolver, which keeps its own time limits; numeric hosts never leave this process.
 * Threads: any; nothing here has state.
 */
#ifndef NET_ADDRESS_H
#define NET_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/error.h"

#define SH_ADDRESS_TEXT_MAX 72 /* with the NUL; fits shoal_error.peer */
#define SH_ADDRESSES_MAX 8     /* of one name that are tried */

struct sh_endpoint {
    /* "" for ":port": every interface when listening, loopback when connecting; "unix:/path" as it
     * was written, with port 0. */
    char host[256];
    uint16_t port;
};

struct sh_address {
    struct sockaddr_storage sa;
    socklen_t len;
};

/* `default_port` stands in where the text has none; negative: the port must be there. */
SHOAL_NODISCARD enum shoal_status sh_endpoint_parse(struct sh_endpoint *out, const char *text,
                                                    int default_port, struct shoal_error *err);

/* Addresses of an endpoint, IPv4 first, at most SH_ADDRESSES_MAX.  `listening` chooses what an
 * empty host means.  ERR_NOT_FOUND when the name has none. */
SHOAL_NODISCARD enum shoal_status sh_address_resolve(struct sh_address *out, int *n_out,
                                                     const struct sh_endpoint *ep, bool listening,
                                                     struct shoal_error *err);

/* "10.0.0.1:50052", "[fe80::1%eth0]:50052", "unix:/path", "local" for anything else (as clients of
 * a Unix socket are, which have no name). */
void sh_address_format(const struct sh_address *a, char out[SH_ADDRESS_TEXT_MAX]);
/* Reachable from this machine only: 127.0.0.0/8, ::1, the former mapped into IPv6, Unix sockets. */
bool sh_address_is_loopback(const struct sh_address *a);
uint16_t sh_address_port(const struct sh_address *a);
/* Same host, whatever the ports; an IPv4 host equals itself mapped into IPv6. */
bool sh_address_same_host(const struct sh_address *a, const struct sh_address *b);

#endif
