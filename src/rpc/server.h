/* rpc/server.h - a worker's side of shoal's protocol: sessions, their stages, their links.
 *
 * The server takes streams that somebody else has let in (rpc/door.h), greets, and serves each in
 * the thread that brings it.  Sessions belong to the key that opened them, outlive their connection
 * by a lease, and are one client's: nothing of one is visible to another.  All memory of a session
 * is set aside when it opens (device/ledger.h) and free when it ends: at CLOSE, at the end of its
 * lease, when its key is revoked, when the server stops.
 *
 * Threads: serve from one thread per connection; everything else from any.  Devices, ledger and
 * blobs are borrowed and outlive the server.
 */
#ifndef RPC_SERVER_H
#define RPC_SERVER_H

#include "device/device.h"
#include "device/ledger.h"
#include "net/key.h"
#include "net/network.h"
#include "net/stream.h"
#include "rpc/blobs.h"

struct sh_rpc_server; /* opaque */

#define SH_RPC_SERVER_DEVICES_MAX 8

struct sh_rpc_server_options {
    struct sh_device *const *devices;
    const uint32_t *n_threads; /* of each device, for people; NULL: not told */
    int n_devices;             /* 1 to 8 */
    struct sh_ledger *ledger;
    struct sh_blobs *blobs;
    uint64_t features;       /* 0: all */
    int sessions_max;        /* 0: 16 */
    int64_t lease_ns;        /* default of a session; 0: 30 s */
    int64_t lease_max_ns;    /* 0: 600 s */
    int64_t greeting_ns;     /* 0: 5 s */
    int64_t silence_ns;      /* 0: 10 s */
    int64_t link_silence_ns; /* of links that this worker dials; 0: 1 s */
    int64_t link_redial_ns;  /* how long a broken link is dialled again; 0: 1 s */
    int64_t step_ns;         /* most computing of one step; 0: 120 s */
    int64_t drain_ns;        /* time for steps under way after stop; 0: 5 s */
    int log_lines_max;       /* per second; 0: 10 */
    /* Addresses that a peer may use to reach this worker, for links: the listener's, of all its
     * interfaces where it listens on any.  Returns how many.  NULL: none, no links. */
    int (*addresses)(void *self, char out[][SH_ADDRESS_TEXT_MAX], int n);
    void *self;
    bool allow_plain_links; /* beyond loopback, too (--insecure) */
    /* Networks beyond those of its own interfaces where a client may send it for a link
     * ("10.1.0.0/16", "fd00::/8"); borrowed. */
    const struct sh_network *link_to;
    int n_link_to;
};
SHOAL_NODISCARD enum shoal_status sh_rpc_server_create(struct sh_rpc_server **out,
                                                       const struct sh_rpc_server_options *opt,
                                                       struct shoal_error *err);
void sh_rpc_server_destroy(struct sh_rpc_server *s); /* after drain; accepts NULL */

/* Who stands behind a stream. */
struct sh_rpc_client {
    bool encrypted;
    bool loopback;         /* the peer's address is one, or a Unix socket */
    char kid[SH_KID_TEXT]; /* "" without a key, and on links */
    char name[64];         /* of the key; "" without one */
    char link[128];        /* identity of a link ("v1|link|...") that TLS has proved; "" else */
};
/* Serve one stream until it ends, and close it.  The preface is still unread. */
enum shoal_status sh_rpc_server_serve(struct sh_rpc_server *s, struct sh_stream *stream,
                                      const struct sh_rpc_client *who, struct shoal_error *err);

/* The key of an expected link's identity; false: nobody is expected under it. */
bool sh_rpc_server_link_key(struct sh_rpc_server *s, const char *identity, struct sh_key *out);
/* End all connections and sessions of a key, now. */
void sh_rpc_server_revoke(struct sh_rpc_server *s, const char *kid);

/* Refuse what is new; async-signal-safe.  drain: let steps under way finish within drain_ns, end
 * all sessions, cut all connections, wait until every serve() has returned. */
void sh_rpc_server_stop(struct sh_rpc_server *s);
void sh_rpc_server_drain(struct sh_rpc_server *s);

struct sh_rpc_server_stats {
    int n_connections, n_sessions, n_detached;
    uint64_t n_ended, n_failed; /* sessions: closed in order, otherwise */
    uint64_t steps;
    size_t memory_used; /* set aside by sessions */
};
void sh_rpc_server_stats(struct sh_rpc_server *s, struct sh_rpc_server_stats *out);

#endif
