/* ggmlrpc/link.c - the two threads of a connection, and what lies between them. */
#include "ggmlrpc/link_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define BATCH_REQUESTS 32             // sent with one system call
#define KICK_BYTES ((size_t)32 << 10) // silent requests are held back below this
#define TICK_NS (250 * SH_MS)         // how often the reader looks at the clock
#define CLOSE_NS SH_SECOND
#define LEAST_BYTES_PER_SECOND (64.0 * 1024)
#define SPARE_MAX 64

void link_lock(struct link *l)
{
    sh_mutex_lock(&l->lock);
}

void link_unlock(struct link *l)
{
    sh_mutex_unlock(&l->lock);
}

enum shoal_status link_status_locked(const struct link *l, struct shoal_error *err)
{
    if (!l->failed) return SHOAL_OK;
    if (err) *err = l->failure;
    return l->failure.code;
}

void link_kick_locked(struct link *l)
{
    if (!l->out || l->kicked) return;
    l->kicked = true;
    sh_cond_signal(&l->out_changed);
}

bool link_sleep_locked(struct link *l, int64_t ns)
{
    return sh_cond_wait(&l->completed, &l->lock, ns);
}

void link_set_step(struct link *l, int64_t step_ns)
{
    atomic_store(&l->step_ns, step_ns);
}

static void fail_locked(struct link *l, const struct shoal_error *why)
{
    if (!l->failed) {
        l->failed = true;
        l->failure = *why;
        sh_error_set_peer(&l->failure, l->stream->peer);
        // What the peer does is its fault, whatever layer noticed it.
        if (l->failure.code != SHOAL_ERR_TIMEOUT) l->failure.code = SHOAL_ERR_PEER;
    }
    sh_stream_cut(l->stream);
    sh_cond_broadcast(&l->out_changed);
    sh_cond_broadcast(&l->sent_changed);
    sh_cond_broadcast(&l->completed);
}

void link_fail(struct link *l, const struct shoal_error *why)
{
    link_lock(l);
    fail_locked(l, why);
    link_unlock(l);
}

/* ---- requests -------------------------------------------------------------------------------*/

static void recycle(struct link *l, struct link_request *r)
{
    if (l->n_requests > SPARE_MAX) {
        sh_free(r);
    } else {
        r->next = l->spare;
        l->spare = r;
    }
    l->n_requests--;
}

static void complete(struct link *l, struct link_request *r, enum shoal_status st)
{
    r->status = st;
    r->complete = true;
    if (r->done) r->done(r, st);
    if (!r->waited_for) recycle(l, r);
}

struct link_request *link_new(struct link *l, enum sh_wire_command command,
                              const struct sh_wire_request *rq, uint64_t more,
                              struct shoal_error *err)
{
    struct link_request *r = NULL;
    struct sh_writer w;

    link_lock(l);
    while (l->n_requests >= LINK_REQUESTS_MAX && !l->failed) {
        link_kick_locked(l);
        (void)link_sleep_locked(l, TICK_NS);
    }
    if (link_status_locked(l, err)) goto done;
    r = l->spare;
    if (r) {
        l->spare = r->next;
    } else {
        r = sh_malloc(sizeof *r);
    }
    if (!r) {
        (void)sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a request to %s", l->stream->peer);
        goto done;
    }
    l->n_requests++;

done:
    link_unlock(l);
    if (!r) return NULL;
    memset(r, 0, offsetof(struct link_request, head));
    memset(&r->head_bytes, 0, sizeof *r - offsetof(struct link_request, head_bytes));
    r->command = command;
    w = sh_writer_over(r->head, sizeof r->head);
    if (rq) {
        sh_wire_request_put(&w, command, rq, more);
        SH_ASSERT(!w.bad);
        r->head_bytes = w.pos;
    }
    if (sh_wire_command_info(command)->answer_bytes >= 0) {
        r->answer_bytes = (uint64_t)sh_wire_command_info(command)->answer_bytes;
    }
    return r;
}

void link_discard(struct link *l, struct link_request *r)
{
    link_lock(l);
    recycle(l, r);
    link_unlock(l);
}

void link_refuse_locked(struct link *l, struct link_request *r, enum shoal_status st)
{
    complete(l, r, st);
    sh_cond_broadcast(&l->completed);
}

void link_post_locked(struct link *l, struct link_request *r)
{
    r->seq = ++l->seq;
    if (l->failed || l->n_threads < 2) {
        link_refuse_locked(l, r, l->failed ? l->failure.code : SHOAL_ERR_PEER);
        return;
    }
    if (link_is_answered(r)) {
        l->answered_seq = r->seq;
        l->round_trips++;
    }
    if (r->command == SH_WIRE_GRAPH_COMPUTE) l->graphs_sent++;
    r->next = NULL;
    *l->out_end = r;
    l->out_end = &r->next;
    l->out_bytes += r->head_bytes + r->payload_bytes;
    if (r->is_run || link_is_answered(r) || l->out_bytes >= KICK_BYTES) link_kick_locked(l);
}

void link_post(struct link *l, struct link_request *r)
{
    link_lock(l);
    link_post_locked(l, r);
    link_unlock(l);
}

enum shoal_status link_finish(struct link *l, struct link_request *r, struct sh_wire_answer *a,
                              struct shoal_error *err)
{
    enum shoal_status st;

    link_lock(l);
    while (!r->complete) {
        link_kick_locked(l);
        (void)link_sleep_locked(l, SH_NO_DEADLINE);
    }
    st = r->status;
    if (st) {
        (void)link_status_locked(l, err);
    } else if (a) {
        struct sh_reader rd = sh_reader_over(r->answer, (size_t)r->answer_bytes);
        sh_wire_answer_get(&rd, r->command, a);
    }
    recycle(l, r);
    link_unlock(l);
    return st;
}

enum shoal_status link_call(struct link *l, struct link_request *r, struct sh_wire_answer *a,
                            struct shoal_error *err)
{
    r->waited_for = true;
    link_post(l, r);
    return link_finish(l, r, a, err);
}

/* ---- sending --------------------------------------------------------------------------------*/

/* Take requests off the list of posted ones; runs and answered ones are awaited from now on.  An
 * answered one ends the batch: a batch is marked as sent when all of it is, and until then nobody
 * reads the answer.  A server that is busy sending it would not read what comes behind. */
static int take_batch(struct link *l, struct link_request **batch, struct iovec *v, int *n_iov)
{
    bool ended = false;
    int n = 0;

    *n_iov = 0;
    while (l->out && n < BATCH_REQUESTS && !ended) {
        struct link_request *r = l->out;
        l->out = r->next;
        if (!l->out) l->out_end = &l->out;
        r->next = NULL;
        l->out_bytes -= r->head_bytes + r->payload_bytes;
        if (r->is_run || link_is_answered(r)) {
            *l->awaiting_end = r;
            l->awaiting_end = &r->next;
        }
        ended = link_is_answered(r);
        batch[n++] = r;
        v[(*n_iov)++] = (struct iovec){.iov_base = r->head, .iov_len = r->head_bytes};
        if (r->payload_bytes > 0) {
            v[(*n_iov)++] = (struct iovec){.iov_base = (void *)(uintptr_t)r->payload,
                                           .iov_len = r->payload_bytes};
        }
    }
    if (!l->out) l->kicked = false;
    return n;
}

/* The bytes of a batch are out: silent requests are complete. */
static void mark_sent(struct link *l, struct link_request **batch, int n)
{
    const int64_t now = sh_now_ns(&sh_clock_system);

    for (int i = 0; i < n; i++) {
        batch[i]->sent = true;
        batch[i]->sent_ns = now;
        if (!batch[i]->is_run && !link_is_answered(batch[i])) complete(l, batch[i], SHOAL_OK);
    }
    sh_cond_broadcast(&l->sent_changed);
    sh_cond_broadcast(&l->completed);
}

/* Put what is left of a batch that failed where the last thread finds it. */
static void give_back(struct link *l, struct link_request **batch, int n)
{
    for (int i = 0; i < n; i++) {
        if (batch[i]->is_run || link_is_answered(batch[i])) continue; // is awaited
        batch[i]->next = l->out;
        if (!l->out) l->out_end = &batch[i]->next;
        l->out = batch[i];
    }
}

/* With both threads gone, nobody uses what requests borrow: complete them all. */
static void leave(struct link *l)
{
    sh_cond_broadcast(&l->completed); // link_close() counts threads
    if (--l->n_threads > 0) return;
    if (!l->failed) {
        struct shoal_error why = SHOAL_ERROR_INIT;
        (void)sh_fail(&why, SHOAL_ERR_PEER, "%s: the connection is closed", l->stream->peer);
        fail_locked(l, &why);
    }
    while (l->awaiting || l->out) {
        struct link_request **from = l->awaiting ? &l->awaiting : &l->out;
        struct link_request *r = *from;
        *from = r->next;
        complete(l, r, l->failure.code);
    }
    l->awaiting_end = &l->awaiting;
    l->out_end = &l->out;
    sh_cond_broadcast(&l->completed);
}

static void *sender_thread(void *arg)
{
    struct link *l = arg;
    struct link_request *batch[BATCH_REQUESTS];
    struct iovec v[2 * BATCH_REQUESTS];
    struct shoal_error err = SHOAL_ERROR_INIT;

    link_lock(l);
    for (;;) {
        struct sh_pace pace = sh_pace_rate(l->step_ns, SH_NO_DEADLINE, 0);
        enum shoal_status st;
        int n, n_iov;
        while (!l->kicked && !l->closing && !l->failed)
            (void)sh_cond_wait(&l->out_changed, &l->lock, SH_NO_DEADLINE);
        if (l->failed || (l->closing && !l->out)) break;
        n = take_batch(l, batch, v, &n_iov);
        link_unlock(l);
        sh_pace_start(&pace, sh_now_ns(l->stream->clock));
        st = sh_stream_writev_full(l->stream, v, n_iov, &pace, &err);
        link_lock(l);
        if (st) {
            fail_locked(l, &err);
            give_back(l, batch, n);
            break;
        }
        mark_sent(l, batch, n);
    }
    leave(l);
    link_unlock(l);
    return NULL;
}

/* ---- receiving ------------------------------------------------------------------------------*/

static struct link_request *first_answered(const struct link *l)
{
    struct link_request *r = l->awaiting;

    while (r && !link_is_answered(r))
        r = r->next;
    return r;
}

/* Is an answer overdue? */
static enum shoal_status check_due(struct link *l, struct shoal_error *err)
{
    const int64_t now = sh_now_ns(&sh_clock_system);
    const struct link_request *r;
    enum shoal_status st = SHOAL_OK;

    link_lock(l);
    r = first_answered(l);
    if (r && r->sent) {
        const int64_t since = r->sent_ns > l->last_answer_ns ? r->sent_ns : l->last_answer_ns;
        if (now - since >= l->step_ns) {
            st = sh_fail(err, SHOAL_ERR_TIMEOUT, "%s: no answer to %s within %.1f s",
                         l->stream->peer, sh_wire_command_info(r->command)->name,
                         (double)l->step_ns / (double)SH_SECOND);
        }
    }
    link_unlock(l);
    return st;
}

/* The eight bytes in front of an answer; may take for ever while none is due. */
static enum shoal_status read_header(struct link *l, uint64_t *size, struct shoal_error *err)
{
    const int64_t tick = l->step_ns / 4 < TICK_NS ? l->step_ns / 4 : TICK_NS;
    uint8_t bytes[SH_WIRE_ANSWER_HEADER] = {0};
    struct sh_reader rd = sh_reader_over(bytes, sizeof bytes);
    size_t have = 0, got;

    while (have < sizeof bytes) {
        struct sh_pace pace = sh_pace_until(sh_deadline_in(&sh_clock_system, tick));
        enum shoal_status st =
            sh_stream_read_some(l->stream, bytes + have, sizeof bytes - have, &pace, &got, err);
        if (st == SHOAL_ERR_TIMEOUT) {
            st = check_due(l, err);
        } else if (!st && got == 0) {
            st = sh_fail(err, SHOAL_ERR_PEER, "%s closed the connection", l->stream->peer);
        }
        if (st) return st;
        have += got;
    }
    *size = sh_read_u64(&rd);
    return SHOAL_OK;
}

/* The request that this answer belongs to, all of whose bytes are out. */
static enum shoal_status match_answer(struct link *l, uint64_t size, struct link_request **out,
                                      struct shoal_error *err)
{
    struct link_request *r;
    enum shoal_status st = SHOAL_OK;

    link_lock(l);
    r = first_answered(l);
    // The answer can be here before the sender has noted that it sent the question.
    while (r && !r->sent && !l->failed)
        (void)sh_cond_wait(&l->sent_changed, &l->lock, SH_NO_DEADLINE);
    if (l->failed) {
        st = link_status_locked(l, err);
    } else if (!r) {
        st = sh_fail(err, SHOAL_ERR_PEER, "%s sends %" PRIu64 " bytes that nobody asked for",
                     l->stream->peer, size);
    } else if (size != r->answer_bytes) {
        st = sh_fail(
            err, SHOAL_ERR_PEER, "%s answers %s with %" PRIu64 " bytes where %" PRIu64 " belong",
            l->stream->peer, sh_wire_command_info(r->command)->name, size, r->answer_bytes);
    }
    *out = r;
    link_unlock(l);
    return st;
}

/* An answer is in place: it completes its request and every run before it. */
static void complete_up_to(struct link *l, const struct link_request *last)
{
    bool reached = false;

    link_lock(l);
    while (!reached) {
        struct link_request *r = l->awaiting;
        reached = r == last;
        l->awaiting = r->next;
        if (!l->awaiting) l->awaiting_end = &l->awaiting;
        complete(l, r, SHOAL_OK);
    }
    l->last_answer_ns = sh_now_ns(&sh_clock_system);
    sh_cond_broadcast(&l->completed);
    link_unlock(l);
}

/* Answers may neither stall nor drip. */
static struct sh_pace answer_pace(const struct link *l)
{
    const int64_t step_ns = l->step_ns;
    const double bytes = (double)step_ns / (double)SH_SECOND * LEAST_BYTES_PER_SECOND;

    return sh_pace_rate(step_ns, step_ns, bytes < 1e15 ? (size_t)bytes : (size_t)1e15);
}

static void *reader_thread(void *arg)
{
    struct link *l = arg;
    struct shoal_error err = SHOAL_ERROR_INIT;

    for (;;) {
        struct sh_pace pace = answer_pace(l);
        struct link_request *r = NULL;
        uint64_t size = 0;
        enum shoal_status st = read_header(l, &size, &err);
        if (!st) st = match_answer(l, size, &r, &err);
        if (!st) {
            sh_pace_start(&pace, sh_now_ns(l->stream->clock));
            st = sh_stream_read_full(l->stream, r->dst ? r->dst : r->answer, (size_t)size, &pace,
                                     &err);
        }
        if (st) break;
        complete_up_to(l, r);
    }
    link_lock(l);
    fail_locked(l, &err);
    leave(l);
    link_unlock(l);
    return NULL;
}

/* ---- life -----------------------------------------------------------------------------------*/

static void destroy(struct link *l)
{
    while (l->spare) {
        struct link_request *next = l->spare->next;
        sh_free(l->spare);
        l->spare = next;
    }
    sh_stream_close(l->stream);
    sh_cond_release(&l->completed);
    sh_cond_release(&l->sent_changed);
    sh_cond_release(&l->out_changed);
    sh_mutex_release(&l->lock);
    sh_free(l);
}

enum shoal_status link_open(struct link **out, struct sh_stream *stream, int64_t step_ns,
                            struct shoal_error *err)
{
    struct link *l = sh_calloc(1, sizeof *l);
    enum shoal_status st;

    *out = NULL;
    if (!l) {
        sh_stream_close(stream);
        return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a connection");
    }
    l->stream = stream;
    l->step_ns = step_ns;
    l->out_end = &l->out;
    l->awaiting_end = &l->awaiting;
    l->n_threads = 2;
    sh_mutex_init(&l->lock);
    sh_cond_init(&l->out_changed);
    sh_cond_init(&l->sent_changed);
    sh_cond_init(&l->completed);
    st = sh_thread_start(&l->sender, "rpc-send", sender_thread, l, err);
    if (!st) st = sh_thread_start(&l->reader, "rpc-read", reader_thread, l, err);
    if (st) {
        link_lock(l);
        l->closing = true;
        sh_cond_broadcast(&l->out_changed);
        link_unlock(l);
        sh_thread_join(&l->sender);
        destroy(l);
        return st;
    }
    *out = l;
    return SHOAL_OK;
}

void link_close(struct link *l)
{
    const int64_t end = sh_deadline_in(&sh_clock_system, CLOSE_NS);
    struct shoal_error why = SHOAL_ERROR_INIT;

    if (!l) return;
    link_lock(l);
    l->closing = true;
    sh_cond_broadcast(&l->out_changed);
    while (l->n_threads == 2 && sh_now_ns(&sh_clock_system) < end)
        (void)link_sleep_locked(l, end - sh_now_ns(&sh_clock_system));
    (void)sh_fail(&why, SHOAL_ERR_PEER, "%s: the connection was closed from this side",
                  l->stream->peer);
    fail_locked(l, &why);
    link_unlock(l);
    sh_thread_join(&l->sender);
    sh_thread_join(&l->reader);
    destroy(l);
}
