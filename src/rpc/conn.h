/* rpc/conn.h - one connection of shoal's protocol: greeting, frames both ways, answers, beats.
 *
 *      any thread ──send──> (nothing waits?) ──yes──> stream       up to 64 KiB: one write, at once
 *                              └──no, or larger──> queue ──> pump thread ──> stream
 *      run() in the owner's thread: stream ──> frame ──> an asker's answer, or the handler
 *
 * Sending never blocks: what the stream does not take at once, and every frame above 64 KiB, is
 * copied into a queue that the connection's own pump thread writes.  STEP, HIDDEN, RESULT, LOGITS,
 * CANCELLED, SUM, PUT and PUT_END are one flow: they stay in the order in which they were sent.
 * Other frames of up to 16 KiB go ahead of it, in their own order, larger ones with it.  A queue
 * beyond its limit means a peer that does not read: the connection is lost then.  The pump also
 * sends BEAT when nothing was sent for 250 ms, so a process that computes is heard all the time.
 * Senders of bulk, which may wait, use sh_rpc_conn_send_wait().
 *
 * Receiving is run(): it reads frames, gives answers to who asked for them (sh_rpc_conn_ask()), and
 * everything else to the handler, in order, from the one thread that called it.  A frame's payload
 * and what was decoded from it are borrowed for the call.
 *
 * What the table of messages cannot know is checked here: the greeting comes first and in time,
 * what is sent belongs to the purpose and to features that were agreed, answers were asked for, a
 * peer is not silent for too long, and a frame that has begun ends in time (silence_ns, and a
 * second for each 64 KiB).  What is sent from here is held to the same rules.  The first violation
 * ends the connection with a fatal ERROR to the peer and ERR_FORMAT, ERR_LIMIT or ERR_TIMEOUT here;
 * messages name the peer.
 *
 * Threads: send, ask, cut, counters from any; run from one; close after run has returned.
 */
#ifndef RPC_CONN_H
#define RPC_CONN_H

#include "net/stream.h"
#include "rpc/codec.h"
#include "rpc/graph_wire.h"

struct sh_rpc_conn; /* opaque */

/* Bits that this program has; what is offered may be less (tests, --insecure links). */
#define SH_RPC_FEATURES_ALL                                                                        \
    (SH_RPC_CHECKSUM | SH_RPC_RESUME | SH_RPC_LINKS | SH_RPC_RELAY | SH_RPC_DATA |                 \
     SH_RPC_OWN_FILES | SH_RPC_F16 | SH_RPC_Q8 | SH_RPC_CANCELS)

struct sh_rpc_conn_options {
    uint64_t features;           /* offered; CHECKSUM is dropped where the stream is encrypted */
    enum sh_rpc_purpose purpose; /* of a client */
    bool encrypted;              /* the stream is that of net/tls.h */
    uint8_t machine[16];         /* of this end */
    uint8_t boot[16];            /* a server's */
    int64_t greeting_ns;         /* 0: 5 s */
    int64_t beat_ns;             /* 0: 250 ms */
    int64_t silence_ns;          /* most time without a byte; 0: 10 s, SH_NO_DEADLINE: any */
    size_t queue_max;            /* bytes that wait for a peer who does not read; 0: 64 MiB */
};

/* What both ends agreed on, and who the other is. */
struct sh_rpc_peer {
    uint16_t revision;
    uint64_t features;
    enum sh_rpc_purpose purpose;
    char software[65];
    uint8_t machine[16], boot[16]; /* boot: a server's */
};

/* Take over the stream (closed on failure too), greet, and start the pump.  The client writes the
 * preface and HELLO; the server reads both, the preface included.  A server with no revision in
 * common says so to the client, and a client says both versions to its user. */
SHOAL_NODISCARD enum shoal_status sh_rpc_conn_connect(struct sh_rpc_conn **out,
                                                      struct sh_stream *stream,
                                                      const struct sh_rpc_conn_options *opt,
                                                      struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_rpc_conn_accept(struct sh_rpc_conn **out,
                                                     struct sh_stream *stream,
                                                     const struct sh_rpc_conn_options *opt,
                                                     struct shoal_error *err);
/* Say BYE with `reason` (NULL: nothing), write what is queued within a second, and close. */
void sh_rpc_conn_close(struct sh_rpc_conn *c, const char *reason); /* accepts NULL */

const struct sh_rpc_peer *sh_rpc_conn_peer(const struct sh_rpc_conn *c);
bool sh_rpc_conn_has(const struct sh_rpc_conn *c, enum sh_rpc_feature f);
const char *sh_rpc_conn_address(const struct sh_rpc_conn *c); /* of the peer */
/* The peer's op numbers (a client's HELLO, a server's WELCOME). */
const struct sh_graph_wire_map *sh_rpc_conn_ops(const struct sh_rpc_conn *c);

/* ---- sending --------------------------------------------------------------------------------*/

/* A frame, as described above.  `request`: repeated in an answer (and PROGRESS), else 0.  Questions
 * are asked with sh_rpc_conn_ask() only.  ERR_PEER once the
 * connection is lost; ERR_LIMIT and ERR_ARG for what may not be sent (nothing was then). */
SHOAL_NODISCARD enum shoal_status sh_rpc_conn_send(struct sh_rpc_conn *c, enum sh_rpc_type type,
                                                   uint32_t request, const void *msg,
                                                   struct shoal_error *err);
/* The same, but waits until less than `queued_max` bytes are queued first (0: 4 MiB), for at most
 * `timeout_ns` in which nothing moves. */
SHOAL_NODISCARD enum shoal_status sh_rpc_conn_send_wait(struct sh_rpc_conn *c,
                                                        enum sh_rpc_type type, uint32_t request,
                                                        const void *msg, size_t queued_max,
                                                        int64_t timeout_ns,
                                                        struct shoal_error *err);
/* Answer `request` with a failure: status and message from `st` and `why`; need and free where
 * memory was refused, else 0. */
void sh_rpc_conn_refuse(struct sh_rpc_conn *c, uint32_t request, enum shoal_status st,
                        const struct shoal_error *why, uint64_t need, uint64_t free);
/* `ack` of the BEATs to come. */
void sh_rpc_conn_set_ack(struct sh_rpc_conn *c, uint64_t ack);
/* Another limit of what may wait for a peer who does not read. */
void sh_rpc_conn_set_queue_max(struct sh_rpc_conn *c, size_t bytes);

/* ---- asking ---------------------------------------------------------------------------------*/

/* Send a request and wait for its answer, decoded into `answer` (the struct of its type) with
 * lists, text and bytes in `arena`.  Any thread but run()'s.  An ERROR in its place becomes the
 * call's failure; its message stays the peer's own sentence.  `timeout_ns`: without an answer
 * (PROGRESS for this request starts it anew).  `on_progress` (may be NULL) is called from run(). */
struct sh_rpc_ask {
    enum sh_rpc_type type;
    const void *msg;
    void *answer;
    struct sh_arena *arena;
    int64_t timeout_ns;
    void (*on_progress)(void *self, const struct sh_rpc_progress *p);
    void *self;
    uint64_t need, free; /* set where memory was refused */
};
SHOAL_NODISCARD enum shoal_status sh_rpc_conn_ask(struct sh_rpc_conn *c, struct sh_rpc_ask *ask,
                                                  struct shoal_error *err);

/* The same in two halves, for several questions under way: `ask`, its answer and arena (of each its
 * own) stay until its end. */
struct sh_rpc_asked; /* opaque */
SHOAL_NODISCARD enum shoal_status sh_rpc_conn_ask_begin(struct sh_rpc_conn *c,
                                                        struct sh_rpc_ask *ask,
                                                        struct sh_rpc_asked **out,
                                                        struct shoal_error *err);
/* Is the answer there, or lost, within this time? */
bool sh_rpc_conn_ask_wait(struct sh_rpc_conn *c, struct sh_rpc_asked *a, int64_t timeout_ns);
/* How it went; a question without an answer is given up (ERR_CANCELLED).  NULL is OK. */
SHOAL_NODISCARD enum shoal_status sh_rpc_conn_ask_end(struct sh_rpc_conn *c, struct sh_rpc_asked *a,
                                                      struct shoal_error *err);

/* ---- receiving ------------------------------------------------------------------------------*/

struct sh_rpc_incoming {
    enum sh_rpc_type type;
    uint32_t request;
    const void *msg;        /* the struct of its type */
    const uint8_t *payload; /* as it came */
    size_t n;
};
struct sh_rpc_handler {
    /* A message that answers nothing asked here.  A failure ends the connection: it is told to the
     * peer as a fatal ERROR.  A request that is refused without such an end is answered by
     * sh_rpc_conn_refuse(), and OK is returned. */
    enum shoal_status (*message)(void *self, struct sh_rpc_conn *c, const struct sh_rpc_incoming *m,
                                 struct shoal_error *err);
    /* BEATs come here only as their `ack`; may be NULL. */
    void (*beat)(void *self, uint64_t ack);
    /* The peer said BYE: it means the end, which else may be that of its process; may be NULL. */
    void (*bye)(void *self);
    void *self;
};
/* Read until the connection ends.  OK: the peer said BYE or ended in order; ERR_CANCELLED: cut();
 * else why it was lost.  Everybody who asks gets the same. */
SHOAL_NODISCARD enum shoal_status
sh_rpc_conn_run(struct sh_rpc_conn *c, const struct sh_rpc_handler *h, struct shoal_error *err);
/* End run() and everything that waits, soon.  Any thread; idempotent. */
void sh_rpc_conn_cut(struct sh_rpc_conn *c);
/* The same in order, while another thread is in run(): BYE, what is queued within a second, then
 * cut; run() says OK. */
void sh_rpc_conn_leave(struct sh_rpc_conn *c, const char *reason);

/* ---- figures --------------------------------------------------------------------------------*/

struct sh_rpc_traffic {
    uint64_t bytes_sent, bytes_received;   /* as the stream counts them */
    uint64_t frames_sent, frames_received; /* all but BEAT and the greeting */
    uint64_t frames_queued;                /* of those sent: by the pump */
    int64_t silent_ns;                     /* since the last byte came */
};
void sh_rpc_conn_traffic(const struct sh_rpc_conn *c, struct sh_rpc_traffic *out);

#endif
