/* rpc/link.h - a connection between two workers that carries hidden rows.
 *
 *      writer's stage ──HIDDEN──> reader's stage        (LINK_ACK now and then the other way)
 *
 *      opened ──> up ──break, or a second of silence──> redialled ──> up ...
 *                                                           └──a second without success──> down
 *
 * Either end may be the one that dials: one expects (a token, a key and, where it listens,
 * addresses), the other opens.  The token is proved in LINK_HELLO; beyond loopback the connection
 * is TLS with the key of this pair and direction.  The reader says which stage to name and from
 * which step on it wants rows, each time that the link comes up: what was on its way when a link
 * broke is asked for again.  The end that dialled dials again; the one that expects goes on
 * expecting.  The owner hears only of the end of that, once on each side.
 *
 * One peer has the token: a second comer is refused while the first connection lives.
 *
 * Threads: send, probe, state, traffic from any; close from one, after which nothing is called any
 * more.  Callbacks come one at a time from the link's threads, under no lock.
 */
#ifndef RPC_LINK_H
#define RPC_LINK_H

#include "net/key.h"
#include "rpc/conn.h"

struct sh_rpc_link;  /* opaque: one end */
struct sh_rpc_links; /* opaque: what a server expects */

#define SH_RPC_LINK_ADDRESSES_MAX 16
#define SH_RPC_LINK_IDENTITY_TEXT 32 /* with the NUL */

/* What the owner (a session's stage) hears.  None of them after sh_rpc_link_close(). */
struct sh_rpc_link_events {
    /* Reader: rows came, or the status of a step.  A failure is the other end's lie: the link is
     * down with it, and is not dialled again. */
    enum shoal_status (*rows)(void *self, const struct sh_rpc_hidden *m, struct shoal_error *err);
    /* Reader: the handle of its stage, its epoch, the first step whose rows are not all here. */
    void (*wants)(void *self, struct sh_rpc_handle *stage, uint64_t *epoch, uint64_t *next);
    /* Writer: the other end wants rows from step `next` of this epoch on; called when the link is
     * up, the first time or again. */
    void (*up)(void *self, uint64_t epoch, uint64_t next);
    /* Writer: rows of steps below `next` of this epoch are held over there. */
    void (*acked)(void *self, uint64_t epoch, uint64_t next);
    /* The link has failed for good; it stays until it is closed, nothing can be sent on it. */
    void (*down)(void *self, enum shoal_status st, const struct shoal_error *why);
    void *self;
};

struct sh_rpc_link_options {
    bool writes; /* this end produces rows */
    uint8_t token[16];
    const struct sh_key *key; /* copied; NULL: plain */
    uint8_t machine[16];
    uint64_t features;  /* offered where it dials; what links have no use for is left out */
    int64_t silence_ns; /* most time without a byte; 0: 1 s */
    int64_t redial_ns;  /* 0: 1 s */
    size_t queue_max;   /* bytes of rows that wait for a reader who does not read; 0: 64 MiB */
    /* Give up opening where it is set, between two addresses; borrowed until it is open; NULL:
     * never. */
    const atomic_bool *stop;
    struct sh_rpc_link_events events;
};

SHOAL_NODISCARD enum shoal_status sh_rpc_links_create(struct sh_rpc_links **out,
                                                      struct shoal_error *err);
void sh_rpc_links_destroy(struct sh_rpc_links *l); /* every link must be closed; accepts NULL */

/* Wait for the other end to come.  The link is there at once, and up when it came.  ERR_STATE: the
 * token is expected already. */
SHOAL_NODISCARD enum shoal_status sh_rpc_link_expect(struct sh_rpc_links *l,
                                                     struct sh_rpc_link **out,
                                                     const struct sh_rpc_link_options *opt,
                                                     struct shoal_error *err);
/* Go there: each address in turn, at most `each_ns` for one.  Up when it returns OK; `address` says
 * which one worked. */
SHOAL_NODISCARD enum shoal_status
sh_rpc_link_open(struct sh_rpc_link **out, const struct sh_rpc_link_options *opt,
                 const char *const *addresses, int n, int64_t each_ns,
                 char address[SH_ADDRESS_TEXT_MAX], uint32_t *round_trip_us,
                 struct shoal_error *err);
/* A greeted connection of purpose LINK: find whose it is by its LINK_HELLO, and serve it in the
 * calling thread until it ends and, if nobody comes again, is known to be down.  `identity`: what
 * TLS proved, "" where plain. */
enum shoal_status sh_rpc_links_serve(struct sh_rpc_links *l, struct sh_rpc_conn *c,
                                     const char *identity, struct shoal_error *err);
/* The key under an identity that is expected. */
bool sh_rpc_links_key(struct sh_rpc_links *l, const char *identity, struct sh_key *out);
/* What TLS proves with a link's key: "v1|link|<id of the key>". */
SHOAL_NODISCARD enum shoal_status sh_rpc_link_identity(char out[SH_RPC_LINK_IDENTITY_TEXT],
                                                       const struct sh_key *key,
                                                       struct shoal_error *err);

/* Writer: rows (or the status of a step); `stage` is filled in here.  Never blocks.  ERR_STATE:
 * the link is not up now; when it is again, up() says what is wanted. */
SHOAL_NODISCARD enum shoal_status
sh_rpc_link_send(struct sh_rpc_link *k, const struct sh_rpc_hidden *m, struct shoal_error *err);
/* Round trips over the link, as PROBE does. */
SHOAL_NODISCARD enum shoal_status sh_rpc_link_probe(struct sh_rpc_link *k, uint32_t bytes,
                                                    uint32_t count, struct sh_rpc_link_probed *out,
                                                    struct shoal_error *err);

struct sh_rpc_link_state {
    bool up, down;
    uint64_t epoch;
    uint64_t sent;   /* writer: steps below were sent; reader: are held */
    uint64_t acked;  /* writer: steps below are held over there */
    uint64_t n_ups;  /* times that it came up */
    uint64_t n_acks; /* LINK_ACKs sent, or received */
};
void sh_rpc_link_state(struct sh_rpc_link *k, struct sh_rpc_link_state *out);
/* Of all its connections. */
void sh_rpc_link_traffic(struct sh_rpc_link *k, struct sh_rpc_traffic *out);
/* Break the connection as a failing network would: it is dialled again.  For tests and drills. */
void sh_rpc_link_break(struct sh_rpc_link *k);
void sh_rpc_link_close(struct sh_rpc_link *k); /* waits for its threads; accepts NULL */

#endif
