/* ggmlrpc/session.c - one connection: greeting, frames, the loop over commands.
 *
 * The inbox is read in large pieces, so the small frames of a decoded token cost one system call.
 * Data of SET_TENSOR and graphs goes past it.  Time limits run only inside a frame; between frames
 * a client may be silent for ever (TCP's keep-alive finds those that are gone).
 */
#include "ggmlrpc/session_priv.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"

#define WAIT_SLICE_NS (100 * SH_MS) // how often a wait looks whether the client is still there

struct sh_pace sh_session_pace(const struct sh_session *s)
{
    const struct sh_ggmlrpc_server_options *opt = &s->server->opt;
    struct sh_pace p = sh_pace_rate(opt->stall_ns, opt->window_ns, opt->window_bytes);

    sh_pace_start(&p, sh_now_ns(s->stream->clock));
    return p;
}

/* ---- bytes in and out -----------------------------------------------------------------------*/

/* Have at least n bytes (at most the size of the inbox) in the inbox. */
static enum shoal_status fetch(struct sh_session *s, size_t n, struct sh_pace *pace,
                               struct shoal_error *err)
{
    if (s->inbox_end - s->inbox_at >= n) return SHOAL_OK;
    memmove(s->inbox, s->inbox + s->inbox_at, s->inbox_end - s->inbox_at);
    s->inbox_end -= s->inbox_at;
    s->inbox_at = 0;
    while (s->inbox_end < n) {
        size_t got;
        enum shoal_status st =
            sh_stream_read_some(s->stream, s->inbox + s->inbox_end,
                                SH_SESSION_INBOX_BYTES - s->inbox_end, pace, &got, err);
        if (st) return st;
        if (got == 0) {
            return sh_fail(err, SHOAL_ERR_PEER, "the client closed in the middle of a frame");
        }
        s->inbox_end += got;
    }
    return SHOAL_OK;
}

enum shoal_status sh_session_receive(struct sh_session *s, void *dst, size_t n,
                                     struct sh_pace *pace, struct shoal_error *err)
{
    const size_t have = s->inbox_end - s->inbox_at;
    const size_t take = n < have ? n : have;

    if (take > 0) memcpy(dst, s->inbox + s->inbox_at, take);
    s->inbox_at += take;
    if (take == n) return SHOAL_OK;
    return sh_stream_read_full(s->stream, (uint8_t *)dst + take, n - take, pace, err);
}

enum shoal_status sh_session_answer(struct sh_session *s, const struct sh_wire_answer *a,
                                    struct shoal_error *err)
{
    uint8_t bytes[SH_WIRE_ANSWER_BYTES_MAX];
    struct sh_writer w = sh_writer_over(bytes, sizeof bytes);
    struct sh_pace pace = sh_session_pace(s);

    sh_wire_answer_put(&w, (enum sh_wire_command)s->command, a);
    s->unanswered = false;
    return sh_stream_write_full(s->stream, bytes, w.pos, &pace, err);
}

/* ---- waiting --------------------------------------------------------------------------------*/

static enum shoal_status shuts_down(struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_CANCELLED, "the server shuts down");
}

/* Everything up to ticket t is complete. */
static void retire(struct sh_session *s, sh_ticket t)
{
    int n = 0;

    while (sh_staging_oldest(&s->staging) != 0 && sh_staging_oldest(&s->staging) <= t)
        sh_staging_retire(&s->staging);
    while (n < s->n_runs && s->runs[n] <= t)
        n++;
    s->n_runs -= n;
    memmove(s->runs, s->runs + n, (size_t)s->n_runs * sizeof *s->runs);
}

enum shoal_status sh_session_wait(struct sh_session *s, sh_ticket t, struct shoal_error *err)
{
    const int64_t runs = s->n_runs > 0 ? s->n_runs : 1;
    const int64_t limit = s->server->opt.graph_ns;
    const int64_t end =
        sh_deadline_in(&sh_clock_system, limit > INT64_MAX / runs ? SH_NO_DEADLINE : limit * runs);

    if (t == 0) return SHOAL_OK;
    for (;;) {
        enum shoal_status st = sh_queue_wait(s->queue, t, WAIT_SLICE_NS, err);
        if (!st) {
            retire(s, t);
            if (t == s->last) s->n_ahead = 0;
            return SHOAL_OK;
        }
        if (st != SHOAL_ERR_TIMEOUT) return st;
        if (sh_stream_hung_up(s->stream)) {
            if (atomic_load(&s->server->stopping)) return shuts_down(err); // and cut the stream
            return sh_fail(err, SHOAL_ERR_PEER, "the client left while its graph was running");
        }
        if (sh_now_ns(&sh_clock_system) >= end) {
            return sh_fail(err, SHOAL_ERR_TIMEOUT, "a graph ran longer than %" PRId64 " s",
                           limit / SH_SECOND);
        }
    }
}

/* ---- commands -------------------------------------------------------------------------------*/

static session_handler *const g_handlers[SH_WIRE_COMMAND_COUNT] = {
    [SH_WIRE_ALLOC_BUFFER] = sh_session_alloc_buffer,
    [SH_WIRE_GET_ALIGNMENT] = sh_session_get_alignment,
    [SH_WIRE_GET_MAX_SIZE] = sh_session_get_max_size,
    [SH_WIRE_BUFFER_GET_BASE] = sh_session_buffer_get_base,
    [SH_WIRE_FREE_BUFFER] = sh_session_free_buffer,
    [SH_WIRE_BUFFER_CLEAR] = sh_session_buffer_clear,
    [SH_WIRE_SET_TENSOR] = sh_session_set_tensor,
    [SH_WIRE_SET_TENSOR_HASH] = sh_session_set_tensor_hash,
    [SH_WIRE_GET_TENSOR] = sh_session_get_tensor,
    [SH_WIRE_COPY_TENSOR] = sh_session_copy_tensor,
    [SH_WIRE_GRAPH_COMPUTE] = sh_session_graph_compute,
    [SH_WIRE_GET_DEVICE_MEMORY] = sh_session_get_device_memory,
    [SH_WIRE_INIT_TENSOR] = sh_session_init_tensor,
    [SH_WIRE_GET_ALLOC_SIZE] = sh_session_get_alloc_size,
    [SH_WIRE_DEVICE_COUNT] = sh_session_device_count,
    [SH_WIRE_GRAPH_RECOMPUTE] = sh_session_graph_recompute,
    [SH_WIRE_MEMSET_TENSOR] = sh_session_memset_tensor,
};

/* Bytes of a request in front of what its handler receives by itself. */
static size_t fixed_bytes(unsigned command, uint64_t size)
{
    if (command == SH_WIRE_SET_TENSOR) return SH_WIRE_SET_BYTES;
    if (command == SH_WIRE_GRAPH_COMPUTE) return 4;
    return (size_t)size;
}

static enum shoal_status check_header(struct sh_session *s, uint64_t size, struct shoal_error *err)
{
    const struct sh_wire_command_info *info = sh_wire_command_info(s->command);

    if (!info) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "command %u does not exist", s->command);
    }
    if (size < info->bytes_min || size > info->bytes_max) {
        return sh_fail(err, SHOAL_ERR_FORMAT,
                       "a request of %" PRIu64 " bytes (%" PRIu64 " to %" PRIu64 " are possible)",
                       size, info->bytes_min, info->bytes_max);
    }
    if (s->greeted && s->command == SH_WIRE_HELLO) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "a second greeting");
    }
    return SHOAL_OK;
}

/* Header and fixed part of the frame whose first byte is in the inbox. */
static enum shoal_status read_request(struct sh_session *s, uint64_t *size, struct sh_pace *pace,
                                      struct shoal_error *err)
{
    struct sh_reader r;
    size_t fixed;
    enum shoal_status st;

    s->command = s->inbox[s->inbox_at];
    st = fetch(s, SH_WIRE_REQUEST_HEADER, pace, err);
    if (st) return st;
    r = sh_reader_over(s->inbox + s->inbox_at, SH_WIRE_REQUEST_HEADER);
    (void)sh_read_u8(&r);
    *size = sh_read_u64(&r);
    st = check_header(s, *size, err);
    if (st) return st;
    s->inbox_at += SH_WIRE_REQUEST_HEADER;
    fixed = fixed_bytes(s->command, *size);
    st = fetch(s, fixed, pace, err);
    if (st) return st;
    r = sh_reader_over(s->inbox + s->inbox_at, fixed);
    s->rq.device = 0;
    sh_wire_request_get(&r, (enum sh_wire_command)s->command, &s->rq);
    s->inbox_at += fixed;
    if (s->rq.device != 0) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "device %" PRIu32 " does not exist (there is 1)",
                       s->rq.device);
    }
    return SHOAL_OK;
}

/* The first frame must be a greeting, and soon.  A wrong first byte is not waited upon. */
static enum shoal_status greet(struct sh_session *s, struct shoal_error *err)
{
    const int64_t now = sh_now_ns(s->stream->clock);
    struct sh_pace pace = sh_pace_until(now + s->server->opt.hello_ns);
    const struct sh_wire_answer answer = {
        .major = SH_WIRE_MAJOR, .minor = SH_WIRE_MINOR, .patch = SH_WIRE_PATCH};
    uint64_t size;
    enum shoal_status st;

    sh_pace_start(&pace, now);
    st = fetch(s, 1, &pace, err);
    if (st) return st;
    if (s->inbox[s->inbox_at] != SH_WIRE_HELLO) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "the first byte is %u, a greeting begins with %u",
                       (unsigned)s->inbox[s->inbox_at], (unsigned)SH_WIRE_HELLO);
    }
    st = read_request(s, &size, &pace, err);
    if (st) return st;
    s->greeted = true;
    return sh_session_answer(s, &answer, err);
}

/* Have the first byte of the next frame; *end when there will be none. */
static enum shoal_status next_frame(struct sh_session *s, struct connection *c, bool *end,
                                    struct shoal_error *err)
{
    struct sh_pace forever = sh_pace_until(SH_NO_DEADLINE);
    size_t got;
    enum shoal_status st;

    *end = false;
    if (s->inbox_at < s->inbox_end) return SHOAL_OK;
    if (!sh_server_may_wait(c, !s->unanswered)) return shuts_down(err);
    s->inbox_at = s->inbox_end = 0;
    st = sh_stream_read_some(s->stream, s->inbox, SH_SESSION_INBOX_BYTES, &forever, &got, err);
    sh_server_woke(c);
    if (st) return st;
    *end = got == 0;
    s->inbox_end = got;
    return SHOAL_OK;
}

static enum shoal_status open_session(struct sh_session *s, struct shoal_error *err)
{
    s->inbox = sh_malloc(SH_SESSION_INBOX_BYTES);
    if (!s->inbox) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a connection");
    s->last_graph = -1;
    s->command = SH_WIRE_COMMAND_COUNT;
    return sh_queue_create(s->server->opt.device, &s->queue, err);
}

/* A client that never waits for an answer is held to what the queue may hold. */
static enum shoal_status execute(struct sh_session *s, uint64_t size, struct shoal_error *err)
{
    enum shoal_status st;

    if (sh_wire_command_info(s->command)->answer_bytes == SH_WIRE_SILENT) s->unanswered = true;
    st = g_handlers[s->command](s, size, err);
    if (!st && ++s->n_ahead >= SH_SESSION_AHEAD_MAX) st = sh_session_wait(s, s->last, err);
    return st;
}

enum shoal_status sh_session_run(struct sh_session *s, struct connection *c,
                                 struct shoal_error *err)
{
    enum shoal_status st = open_session(s, err);

    if (!st) st = greet(s, err);
    while (!st) {
        struct sh_pace pace;
        uint64_t size;
        bool end;

        s->command = SH_WIRE_COMMAND_COUNT;
        st = next_frame(s, c, &end, err);
        if (st || end) break;
        pace = sh_session_pace(s);
        st = read_request(s, &size, &pace, err);
        if (st) break;
        st = execute(s, size, err);
    }
    return st == SHOAL_ERR_CANCELLED ? shuts_down(err) : st; // nobody else cuts a stream
}

void sh_session_release(struct sh_session *s)
{
    if (s->queue) {
        for (int i = 0; i < s->n_runs; i++)
            sh_queue_cancel(s->queue, s->runs[i]);
        sh_queue_quiesce(s->queue);
        s->busy_ns = sh_queue_busy_ns(s->queue);
    }
    sh_session_drop_graphs(s, 0);
    sh_queue_destroy(s->queue);
    for (int32_t i = 0; i < s->space.n_slots; i++) {
        if (s->space.slots[i].token != 0) sh_buffer_free(s->space.slots[i].buffer);
    }
    sh_space_release(&s->space);
    sh_staging_release(&s->staging);
    sh_free(s->inbox);
    sh_free(s->outbox);
    sh_free(s->payload);
    for (int q = 0; q < SH_QUOTA_COUNT; q++)
        sh_session_give(s, (enum session_quota)q, s->used[q]);
}
