/* rpc/link_priv.h - one end of a link inside: what its files share.
 *
 *     link.c          what both ends do: rows, acknowledgements, measuring, closing
 *     link_dial.c     the end that dials, and dials again
 *     link_serve.c    the end that expects, and what a server expects
 *
 * Locks: a list's lock before a link's; neither is held while anything is sent or called.  Who
 * uses a connection counts in n_using, and who ends it waits for them.
 */
#ifndef RPC_LINK_PRIV_H
#define RPC_LINK_PRIV_H

#include "base/thread.h"
#include "rpc/link.h"

#define SH_LINK_FEATURES (SH_RPC_CHECKSUM | SH_RPC_LINKS | SH_RPC_F16 | SH_RPC_Q8)
#define SH_LINK_ACK_NS (250 * SH_MS)
#define SH_LINK_ACK_BYTES (8u << 20)
/* A link that breaks so often without bringing a step over is of no use. */
#define SH_LINK_STUCK_MAX 8
#define SH_LINK_STUCK_NS (10 * SH_SECOND)

struct sh_rpc_link {
    /* Constant. */
    struct sh_rpc_link_options opt;
    bool has_key, dials;
    struct sh_key key;
    char identity[SH_RPC_LINK_IDENTITY_TEXT];                     /* "" without a key */
    char address[SH_RPC_LINK_ADDRESSES_MAX][SH_ADDRESS_TEXT_MAX]; /* dialled */
    int n_addresses;
    int64_t timeout_ns;         /* of the first round, for each */
    struct sh_rpc_links *links; /* expecting */
    struct sh_thread thread;    /* dialling: its run() */

    struct sh_rpc_link *next; /* under the list's lock */

    struct sh_mutex lock; /* everything below */
    struct sh_cond changed;
    struct sh_rpc_conn *conn; /* NULL between connections */
    int n_using;              /* threads that use it */
    int n_serving;            /* expecting: threads that serve it */
    bool up, closing;
    bool ended; /* the other end has closed it, or lied: no second connection */
    bool down;  /* for good */
    enum shoal_status st;
    struct shoal_error why; /* it is down, or could not be opened */
    int worked;             /* index of the address that is dialled, or was last up */
    struct sh_rpc_handle reader;
    uint64_t epoch, sent, acked, n_ups, n_acks;
    uint64_t up_epoch, up_next; /* what was wanted when it came up */
    int64_t up_ns;
    int n_stuck;                /* times in a row that it came up with the same wish soon after */
    struct sh_rpc_traffic past; /* of connections that are over */

    /* Of the thread in run(). */
    size_t unacked;   /* bytes of rows since the last LINK_ACK */
    int64_t acked_ns; /* time of that */
};

SHOAL_NODISCARD enum shoal_status sh_link_create(struct sh_rpc_link **out,
                                                 const struct sh_rpc_link_options *opt, bool dials,
                                                 struct shoal_error *err);
void sh_link_free(struct sh_rpc_link *k); /* its threads are over */

/* The connection, for use until sh_link_unuse(); NULL: none now, or (`up`) not greeted. */
struct sh_rpc_conn *sh_link_use(struct sh_rpc_link *k, bool up);
void sh_link_unuse(struct sh_rpc_link *k);

/* What this end says in LINK_HELLO or LINK_WELCOME. */
void sh_link_greeting(struct sh_rpc_link *k, struct sh_rpc_handle *stage, uint64_t *epoch,
                      uint64_t *next);
/* What the other end said there; ERR_FORMAT. */
SHOAL_NODISCARD enum shoal_status sh_link_greeted(struct sh_rpc_link *k, struct sh_rpc_handle stage,
                                                  struct shoal_error *err);
/* Both have: rows may flow.  The writer hears of it. */
void sh_link_up(struct sh_rpc_link *k, struct sh_rpc_handle stage, uint64_t epoch, uint64_t next);
/* A message behind the greeting, from the thread in run(). */
SHOAL_NODISCARD enum shoal_status sh_link_message(struct sh_rpc_link *k, struct sh_rpc_conn *c,
                                                  const struct sh_rpc_incoming *m,
                                                  struct shoal_error *err);
/* The other end has closed the link, or cannot be talked to: no second connection. */
void sh_link_ended(struct sh_rpc_link *k);
/* Does the end of a connection say that no second one is let in?  Nonsense on either side, or a
 * link that is not expected (any more). */
static inline bool sh_link_is_final(enum shoal_status st)
{
    return st == SHOAL_ERR_FORMAT || st == SHOAL_ERR_NOT_FOUND;
}
/* The connection is over: nobody uses it any more. */
void sh_link_detach(struct sh_rpc_link *k);
/* For good; the owner hears of it unless the link is being closed. */
void sh_link_down(struct sh_rpc_link *k, enum shoal_status st, const struct shoal_error *why);

/* link_dial.c, link_serve.c: the end's part of close. */
void sh_link_forget(struct sh_rpc_link *k); /* out of the list of what is expected */

#endif
