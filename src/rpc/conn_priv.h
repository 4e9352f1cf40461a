/* rpc/conn_priv.h - a connection inside: what its files share.
 *
 *     conn.c        open, close, cut, figures
 *     conn_greet.c  preface, HELLO and WELCOME
 *     conn_rules.c  what may be sent on a connection of this purpose with these features
 *     conn_send.c   queues and the pump thread
 *     conn_ask.c    who waits for which answer
 *     conn_run.c    the inbox, and where a frame goes
 *
 * Locks: `send.lock` guards the sending side and how the connection ended, `ask.lock` who waits.
 * Neither is held while the other is taken.  Under send.lock the stream may be written to, which
 * never blocks; the pump, which does wait, holds no lock then and has `pumping` set.
 */
#ifndef RPC_CONN_PRIV_H
#define RPC_CONN_PRIV_H

#include "base/thread.h"
#include "rpc/conn.h"

/* Frames up to this size are written at once where nothing waits. */
#define SH_CONN_AT_ONCE_MAX (64u << 10)
#define SH_CONN_ABANDONED_MAX 32
#define SH_CONN_CLOSE_NS SH_SECOND
#define SH_CONN_BYTES_PER_S (64u << 10) /* within a frame */

/* Bytes of whole frames: [start, end) wait. */
struct sh_conn_bytes {
    uint8_t *ptr;
    size_t start, end, cap;
};
/* A class of frames.  Senders fill one buffer while the pump writes the other. */
struct sh_conn_lane {
    struct sh_conn_bytes filling, writing;
};
enum { SH_CONN_SMALL, SH_CONN_BULK, SH_CONN_LANES };

struct sh_conn_waiter { /* on the stack of who asks */
    struct sh_conn_waiter *next;
    struct sh_rpc_ask *ask;
    uint32_t request;
    uint16_t answer;
    bool taken; /* run() works on it */
    bool done, moved;
    enum shoal_status st;
    struct shoal_error *err;
    struct sh_cond changed;
};

struct sh_conn_abandoned {
    uint32_t request;
    uint16_t answer;
};

struct sh_conn_send {
    struct sh_mutex lock; /* guards all of this */
    struct sh_cond wake;  /* the pump */
    struct sh_cond room;  /* who waits for room, and close */
    struct sh_conn_bytes scratch;
    struct sh_conn_bytes begun; /* the rest of a frame that was begun */
    struct sh_conn_lane lane[SH_CONN_LANES];
    size_t queued;     /* bytes in begun and lanes */
    int64_t last_ns;   /* when something was sent */
    bool pumping;      /* the pump writes, under no lock */
    bool closing;      /* the pump ends when nothing is queued */
    bool stopped;      /* the pump has ended */
    bool broken;       /* the stream takes nothing any more */
    bool over;         /* nothing may be sent any more, because: */
    bool said_failure; /* the last thing was a fatal ERROR */
    enum shoal_status st;
    struct shoal_error err;
};

struct sh_conn_asks {
    struct sh_mutex lock; /* guards all of this */
    struct sh_conn_waiter *first;
    uint32_t last; /* request */
    struct sh_conn_abandoned abandoned[SH_CONN_ABANDONED_MAX];
    int n_abandoned;
    bool over; /* no answer will come, because: */
    enum shoal_status st;
    struct shoal_error err;
};

/* What is so of a type of message on this connection. */
enum { SH_CONN_ALLOWED = 1, SH_CONN_ANSWER = 2 };

struct sh_rpc_conn {
    struct sh_stream *stream;
    bool is_client;
    bool checksum;
    uint8_t rules[SH_RPC_TYPE_COUNT];
    struct sh_rpc_conn_options opt; /* defaults filled in */
    struct sh_rpc_peer peer;
    struct sh_graph_wire_map ops;
    struct sh_thread pump;
    struct sh_conn_send send;
    struct sh_conn_asks ask;
    _Atomic uint64_t ack;
    _Atomic bool is_cut, left;
    /* of run() */
    struct sh_conn_bytes in;
    struct sh_arena arena;
    void *msg; /* the largest struct of a message */
    uint8_t *zeros;
    size_t n_zeros;
    _Atomic int64_t heard_ns;
    _Atomic uint64_t frames_sent, frames_received, frames_queued;
};

/* ---- conn_greet.c */
SHOAL_NODISCARD enum shoal_status sh_conn_greet_server(struct sh_rpc_conn *c,
                                                       struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_conn_greet_client(struct sh_rpc_conn *c,
                                                       struct shoal_error *err);

/* ---- conn_rules.c: ERR_ARG, with a sentence that fits what is sent and what came */
SHOAL_NODISCARD enum shoal_status sh_conn_check_type(const struct sh_rpc_conn *c, uint32_t type,
                                                     struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_conn_check_values(const struct sh_rpc_peer *p, uint32_t type,
                                                       const void *msg, struct shoal_error *err);
/* The feature without which a connection of this purpose cannot be; 0: none. */
uint64_t sh_conn_purpose_needs(enum sh_rpc_purpose purpose);
/* Once the greeting is done: what is looked up for every frame. */
void sh_conn_rules_init(struct sh_rpc_conn *c);

/* ---- conn_send.c */
SHOAL_NODISCARD enum shoal_status sh_conn_send_init(struct sh_rpc_conn *c, struct shoal_error *err);
void sh_conn_send_release(struct sh_rpc_conn *c);
void *sh_conn_pump(void *conn);
/* The sending of any type, without checks. */
SHOAL_NODISCARD enum shoal_status sh_conn_put(struct sh_rpc_conn *c, enum sh_rpc_type type,
                                              uint32_t request, const void *msg,
                                              struct shoal_error *err);
/* The connection has ended: nothing is sent from now on, waiting ends.  The first reason stays. */
void sh_conn_over(struct sh_rpc_conn *c, enum shoal_status st, const struct shoal_error *why);
/* The last frame: ERROR to the peer (fatal), then over. */
void sh_conn_say_failure(struct sh_rpc_conn *c, enum shoal_status st,
                         const struct shoal_error *why);
/* Why it is over; OK: it is not. */
enum shoal_status sh_conn_reason(struct sh_rpc_conn *c, struct shoal_error *err);
/* Wait until all is written, until `end`.  False: it is not. */
bool sh_conn_flush(struct sh_rpc_conn *c, int64_t end);

/* ---- conn_ask.c */
void sh_conn_asks_init(struct sh_conn_asks *a);
void sh_conn_asks_release(struct sh_conn_asks *a);
/* Everybody who waits, and will, gets this. */
void sh_conn_asks_end(struct sh_conn_asks *a, enum shoal_status st, const struct shoal_error *why);
/* Give a frame to who waits for it.  *found: there was somebody, or somebody has given up. */
SHOAL_NODISCARD enum shoal_status sh_conn_asks_give(struct sh_rpc_conn *c,
                                                    const struct sh_rpc_head *head,
                                                    const uint8_t *payload, bool *found,
                                                    struct shoal_error *err);

/* ---- bytes */
static inline size_t sh_conn_held(const struct sh_conn_bytes *b)
{
    return b->end - b->start;
}
/* Room for n more behind `end`; bytes may move to the front.  ERR_NOMEM. */
SHOAL_NODISCARD enum shoal_status sh_conn_bytes_reserve(struct sh_conn_bytes *b, size_t n,
                                                        struct shoal_error *err);

#endif
