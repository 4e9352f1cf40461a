/* ggmlrpc/link_priv.h - one connection to a server: requests out, answers in, in order.
 *
 *      post()        sender thread            reader thread
 *     ---------> out ------------> awaiting ---------------> complete
 *                  \--- silent: complete once sent ---/
 *
 * A request is posted in the order in which it must take effect.  Silent requests are complete
 * when their bytes have been handed to the socket; answered ones when the answer is in place; a
 * run (silent, but interesting) when the answer to anything behind it has come.  Memory that a
 * request borrows is not touched after its completion.
 *
 * The first failure of the connection, whoever sees it, is kept and cuts the stream; when both
 * threads have left it, everything still under way completes with that failure.  Nothing waits
 * for ever: the sender gives up when nothing moves for step_ns, the reader when an answer is due
 * for as long.
 *
 * Threads: post, call, wait from any; completion callbacks run under the link's lock.
 */
#ifndef GGMLRPC_LINK_PRIV_H
#define GGMLRPC_LINK_PRIV_H

#include "base/thread.h"
#include "ggmlrpc/wire.h"
#include "net/stream.h"

#define LINK_HEAD_BYTES_MAX 616  /* the longest: COPY_TENSOR */
#define LINK_ANSWER_BYTES_MAX 28 /* that a request can hold itself */
#define LINK_REQUESTS_MAX 8192   /* under way; posting more waits */

struct link;
struct link_request;

/* Under the lock; the request is recycled after it returns. */
typedef void link_done(struct link_request *r, enum shoal_status st);

struct link_request {
    struct link_request *next;
    enum sh_wire_command command;
    uint8_t head[LINK_HEAD_BYTES_MAX]; /* header and fixed part */
    size_t head_bytes;
    const void *payload; /* borrowed until complete; follows the head */
    size_t payload_bytes;

    bool is_run;           /* completes with a later answer */
    uint64_t answer_bytes; /* of answered requests: exactly so many must come */
    void *dst;             /* where they go; NULL: into `answer` */
    uint8_t answer[LINK_ANSWER_BYTES_MAX];

    link_done *done; /* NULL: nobody asks, unless a call() waits */
    void *owner;     /* of done() */
    uint64_t ticket; /* of the owner */

    /* of the link */
    uint64_t seq;
    int64_t sent_ns;
    bool sent, waited_for, complete;
    enum shoal_status status;
};

struct link {
    struct sh_stream *stream;
    _Atomic int64_t step_ns;
    struct sh_thread sender, reader;

    struct sh_mutex lock; /* guards everything below */
    struct sh_cond out_changed, sent_changed, completed;
    struct link_request *out, **out_end;           /* posted */
    struct link_request *awaiting, **awaiting_end; /* sent or being sent: runs and answered ones */
    struct link_request *spare;
    int n_requests;
    size_t out_bytes;
    bool kicked; /* the sender should send what there is */
    bool closing;
    int n_threads; /* still on the stream */
    bool failed;
    struct shoal_error failure;
    uint64_t seq, answered_seq; /* of the last request, and of the last answered one */
    int64_t last_answer_ns;
    uint64_t round_trips, graphs_sent;
};

static inline bool link_is_answered(const struct link_request *r)
{
    return sh_wire_command_info(r->command)->answer_bytes != SH_WIRE_SILENT;
}

/* Takes over the stream, closed on failure too. */
enum shoal_status link_open(struct link **out, struct sh_stream *stream, int64_t step_ns,
                            struct shoal_error *err);
/* Sends what is posted, within a second, then closes.  Accepts NULL. */
void link_close(struct link *l);

/* From now on this is how long an answer may take. */
void link_set_step(struct link *l, int64_t step_ns);

/* A blank request for a command whose fixed part is `rq`, with `more` bytes of payload to come.
 * NULL with `err` when the link has failed or memory is out.  May wait while too many are under
 * way. */
struct link_request *link_new(struct link *l, enum sh_wire_command command,
                              const struct sh_wire_request *rq, uint64_t more,
                              struct shoal_error *err);
void link_discard(struct link *l, struct link_request *r); /* a request that was not posted */

void link_lock(struct link *l);
void link_unlock(struct link *l);
/* With the lock held: hand it over.  It completes in any case, even if the link has failed. */
void link_post_locked(struct link *l, struct link_request *r);
void link_post(struct link *l, struct link_request *r);
/* With the lock held: complete a request with a status, without sending it. */
void link_refuse_locked(struct link *l, struct link_request *r, enum shoal_status st);
/* Post and wait for the answer, which is decoded into *a (may be NULL). */
enum shoal_status link_call(struct link *l, struct link_request *r, struct sh_wire_answer *a,
                            struct shoal_error *err);
/* The second half of link_call() for a request posted with waited_for = true. */
enum shoal_status link_finish(struct link *l, struct link_request *r, struct sh_wire_answer *a,
                              struct shoal_error *err);
/* With the lock held: send what is posted; sleep until something completes, at most ns. */
void link_kick_locked(struct link *l);
bool link_sleep_locked(struct link *l, int64_t ns);
/* The failure, as a status with `err` filled in; OK while the link is sound. */
enum shoal_status link_status_locked(const struct link *l, struct shoal_error *err);
/* Fail it from outside (quiesce that waits in vain). */
void link_fail(struct link *l, const struct shoal_error *why);

#endif
