/* net/listener.h - a TCP port or a Unix socket that gives out streams.
 *
 * Port 0 lets the system choose; sh_listener_address() tells what it chose.  A Unix socket's file
 * has mode 0600, replaces one that nobody listens on any more, and goes with the listener.
 * Interrupting is one write to an event descriptor, so a signal handler may do it. Threads: accept
 * and close from one; interrupt from any thread or signal handler.
 */
#ifndef NET_LISTENER_H
#define NET_LISTENER_H

#include "net/stream.h"
#include "net/tcp.h"

struct sh_listener; /* opaque */

/* Bind the first address of the endpoint that can be bound. */
SHOAL_NODISCARD enum shoal_status
sh_listener_open(struct sh_listener **out, const struct sh_endpoint *ep, struct shoal_error *err);
void sh_listener_close(struct sh_listener *l); /* accepts NULL */

/* What it listens on, as others can use it: "127.0.0.1:50052", "unix:/path". */
const struct sh_address *sh_listener_address(const struct sh_listener *l);
const char *sh_listener_text(const struct sh_listener *l);

/* The next connection and where it comes from.  ERR_CANCELLED after an interrupt, ERR_TIMEOUT,
 * ERR_LIMIT when the process has no descriptors or memory left for now. */
SHOAL_NODISCARD enum shoal_status
sh_listener_accept(struct sh_listener *l, int64_t timeout_ns, const struct sh_tcp_options *opt,
                   struct sh_stream **out, struct sh_address *peer, struct shoal_error *err);
/* Every accept of now and later is cancelled. */
void sh_listener_interrupt(struct sh_listener *l);

#endif
