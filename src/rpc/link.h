/* rpc/link.h - a connection between two workers that carries hidden rows.
 *
 *      writer's stage ──HIDDEN──> reader's stage        (LINK_ACK now and then the other way)
 *
 * Either end may be the one that dials: one expects (a token, a key and, where it listens,
 * addresses), the other opens.  The token is proved in LINK_HELLO; beyond loopback the connection
 * is TLS with the key of this pair and direction.  The reader says which stage to name and from
 * which step on it wants rows.  A link that breaks, or is silent for a second, is told to its owner
 * on both ends, with what was sent and acknowledged.
 *
 * Threads: a link has a thread that reads; send, close from its owner; callbacks come from the
 * link's thread.
 */
#ifndef RPC_LINK_H
#define RPC_LINK_H

#include "net/key.h"
#include "rpc/conn.h"

struct sh_rpc_link;  /* opaque: one end */
struct sh_rpc_links; /* opaque: what a server expects */

/* What the owner (a session's stage) hears.  None of them after sh_rpc_link_close(). */
struct sh_rpc_link_events {
    /* Reader: rows came. */
    enum shoal_status (*rows)(void *self, const struct sh_rpc_hidden *m, struct shoal_error *err);
    /* Reader: the handle of its stage and the step it wants next. */
    void (*reader)(void *self, struct sh_rpc_handle *stage, uint64_t *next);
    /* Writer: the other end wants rows from step `next` on; called when the link is up. */
    void (*up)(void *self, uint64_t next);
    /* Writer: rows of steps below `next` of this epoch are held over there. */
    void (*acked)(void *self, uint64_t epoch, uint64_t next);
    /* The connection is gone; the link stays until it is closed, nothing can be sent on it. */
    void (*down)(void *self, enum shoal_status st, const struct shoal_error *why);
    void *self;
};

struct sh_rpc_link_options {
    uint8_t purpose; /* 2 LINK */
    bool writes;     /* this end produces rows */
    uint8_t token[16];
    const struct sh_key *key; /* NULL: plain */
    const char *identity;     /* with a key: what TLS proves */
    uint8_t machine[16], boot[16];
    uint64_t features;
    int64_t silence_ns; /* 0: 10 s */
    struct sh_rpc_link_events events;
};

SHOAL_NODISCARD enum shoal_status sh_rpc_links_create(struct sh_rpc_links **out,
                                                      struct shoal_error *err);
void sh_rpc_links_destroy(struct sh_rpc_links *l); /* every link must be closed; accepts NULL */

/* Wait for the other end to come.  The link is there at once, and up when it came. */
SHOAL_NODISCARD enum shoal_status sh_rpc_link_expect(struct sh_rpc_links *l,
                                                     struct sh_rpc_link **out,
                                                     const struct sh_rpc_link_options *opt,
                                                     struct shoal_error *err);
/* Go there: each address in turn, `timeout_ns` in all.  Up when it returns OK; `address` says which
 * one worked. */
SHOAL_NODISCARD enum shoal_status
sh_rpc_link_open(struct sh_rpc_link **out, const struct sh_rpc_link_options *opt,
                 const char *const *addresses, int n, int64_t timeout_ns,
                 char address[SH_ADDRESS_TEXT_MAX], uint32_t *round_trip_us,
                 struct shoal_error *err);
/* A greeted connection of purpose LINK: find whose it is by its LINK_HELLO, and serve it in the
 * calling thread until it ends.  `identity`: what TLS proved, "" where plain. */
enum shoal_status sh_rpc_links_serve(struct sh_rpc_links *l, struct sh_rpc_conn *c,
                                     const char *identity, struct shoal_error *err);
/* The key under an identity that is expected. */
bool sh_rpc_links_key(struct sh_rpc_links *l, const char *identity, struct sh_key *out);

/* Writer: rows (or the status of a step); `stage` is filled in here.  Never blocks. */
SHOAL_NODISCARD enum shoal_status
sh_rpc_link_send(struct sh_rpc_link *k, const struct sh_rpc_hidden *m, struct shoal_error *err);
/* Reader: rows of steps below `next` are held. */
void sh_rpc_link_ack(struct sh_rpc_link *k, uint64_t epoch, uint64_t next);
/* Round trips over the link, as PROBE does. */
SHOAL_NODISCARD enum shoal_status sh_rpc_link_probe(struct sh_rpc_link *k, uint32_t bytes,
                                                    uint32_t count, struct sh_rpc_link_probed *out,
                                                    struct shoal_error *err);
void sh_rpc_link_traffic(const struct sh_rpc_link *k, struct sh_rpc_traffic *out);
void sh_rpc_link_close(struct sh_rpc_link *k); /* waits for its thread; accepts NULL */

#endif
