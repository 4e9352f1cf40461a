/* net/tcp.h - TCP streams and Unix sockets: connecting, and wrapping accepted sockets.
 *
 * Sockets are non-blocking and without Nagle's delay.  A peer whose machine has gone is found by
 * keep-alive probes within about 30 seconds; `user_timeout_ms` bounds how long sent data may stay
 * unacknowledged or an unread window may stay shut (0: the system's way, for peers that may be
 * busy for minutes before they read).
 * Threads: any.
 */
#ifndef NET_TCP_H
#define NET_TCP_H

#include "net/stream.h"

#define SH_TCP_UNSENT_MAX (128 << 10) /* of shoal's own protocol */

struct sh_tcp_options {
    int user_timeout_ms; /* 0 = not set; else at least 10000 makes sense */
    /* Bytes that may wait in the system unsent (0: its own way, megabytes): what is written later
     * does not stand behind more than that. */
    int unsent_max;
};

/* Try each address of the endpoint until one answers.  ERR_PEER (refused, unreachable),
 * ERR_TIMEOUT or ERR_NOT_FOUND name the endpoint. */
SHOAL_NODISCARD enum shoal_status sh_tcp_connect(struct sh_stream **out,
                                                 const struct sh_endpoint *ep, int64_t timeout_ns,
                                                 const struct sh_tcp_options *opt,
                                                 struct shoal_error *err);
/* Take over a connected socket; closed on failure too. */
SHOAL_NODISCARD enum shoal_status sh_tcp_adopt(struct sh_stream **out, int fd,
                                               const struct sh_address *peer,
                                               const struct sh_tcp_options *opt,
                                               struct shoal_error *err);

#endif
