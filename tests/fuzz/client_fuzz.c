/* Fuzz target: any bytes as the answers of a server to the remote device.
 *
 * The first byte splits the rest: what the client does with the device, and what the server does
 * wrong with its answers.  The server sits inside the stream: it answers a request when its last
 * byte has been written, at times with other sizes, values or bytes, or by closing.  It is never
 * silent, so nothing waits for a time limit.  Every failure must have a reason, and everything must
 * come back.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "base/mem.h"
#include "base/thread.h"
#include "device/upload.h"
#include "ggmlrpc/device.h"
#include "ggmlrpc/wire.h"
#include "net/stream.h"

#define BUFFERS 3
#define BUFFER_BYTES 8192
#define EXECS 3
#define READS 32
#define UPLOAD_BYTES (((size_t)10 << 20) + 1)
#define STEPS_MAX 48
#define ANSWERS_BYTES ((size_t)256 << 10)
#define BODY_BYTES 700 /* of a request that an answer may depend on */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the server -----------------------------------------------------------------------------*/

struct server {
    struct sh_stream head;
    struct sh_mutex lock; // guards everything below
    struct sh_cond changed;
    struct sh_reader script;
    bool cut, ended;
    uint8_t request[SH_WIRE_REQUEST_HEADER + BODY_BYTES];
    size_t n_request;
    uint64_t left; // bytes of the request still to come
    size_t n_answers, n_read;
    uint64_t n_tokens;
    uint8_t answers[ANSWERS_BYTES];
};

static struct server *server_of(struct sh_stream *s)
{
    return (struct server *)(void *)s;
}

static void say(struct server *v, const void *bytes, size_t n)
{
    if (n > ANSWERS_BYTES - v->n_answers) {
        v->ended = true;
    } else if (n > 0) {
        memcpy(v->answers + v->n_answers, bytes, n);
        v->n_answers += n;
    }
}

static uint64_t any_number(struct server *v)
{
    static const uint64_t FAVOURITES[] = {0,
                                          1,
                                          2,
                                          3,
                                          UINT64_MAX,
                                          INT64_MAX,
                                          (uint64_t)1 << 63,
                                          UINT32_MAX,
                                          (uint64_t)1 << 32,
                                          UINT64_MAX - 31,
                                          64,
                                          4096};
    const size_t n = sizeof FAVOURITES / sizeof FAVOURITES[0];
    const unsigned which = sh_read_u8(&v->script);

    return which < 0xc0 ? FAVOURITES[which % n] : sh_read_u64(&v->script);
}

static struct sh_wire_answer right_answer(struct server *v, unsigned command,
                                          const struct sh_wire_request *rq)
{
    struct sh_wire_answer a = {
        .memory_free = 1 << 20, .memory_total = 2 << 20, .result = 1, .major = SH_WIRE_MAJOR};

    switch (command) {
    case SH_WIRE_ALLOC_BUFFER:
        a.buffer = ++v->n_tokens;
        a.value = rq->size;
        break;
    case SH_WIRE_BUFFER_GET_BASE:
        a.value = rq->buffer << 40;
        break;
    case SH_WIRE_GET_ALIGNMENT:
        a.value = 32;
        break;
    case SH_WIRE_GET_MAX_SIZE:
        a.value = UINT64_MAX;
        break;
    case SH_WIRE_GET_ALLOC_SIZE:
        a.value = 100;
        break;
    default:
        a.value = 1;
        break;
    }
    return a;
}

/* The bytes of an answer, as they should be but for one value. */
static void say_answer(struct server *v, unsigned command, const struct sh_wire_request *rq,
                       unsigned wrong)
{
    const int64_t fixed = sh_wire_command_info(command)->answer_bytes;
    uint8_t bytes[SH_WIRE_ANSWER_BYTES_MAX + 4096] = {0};
    struct sh_writer w = sh_writer_over(bytes, sizeof bytes);
    struct sh_wire_answer a = right_answer(v, command, rq);

    if (wrong == 1) a.value = any_number(v);
    if (wrong == 2) a.buffer = any_number(v);
    if (wrong == 3) a.memory_free = any_number(v);
    if (wrong == 4) a.result = sh_read_u8(&v->script);
    if (wrong == 5) a.major = sh_read_u8(&v->script);
    if (wrong == 6) a.minor = sh_read_u8(&v->script);
    if (fixed >= 0) {
        sh_wire_answer_put(&w, (enum sh_wire_command)command, &a);
        say(v, bytes, w.pos);
    } else {
        const uint64_t n = rq->size < 4096 ? rq->size : 4096;
        sh_write_u64(&w, rq->size);
        say(v, bytes, SH_WIRE_ANSWER_HEADER + (size_t)n);
        v->ended |= n < rq->size;
    }
}

static void answer(struct server *v, unsigned command, const struct sh_wire_request *rq)
{
    const unsigned how = sh_read_u8(&v->script);
    const size_t before = v->n_answers;
    uint8_t bytes[16];
    struct sh_writer w = sh_writer_over(bytes, sizeof bytes);

    if (sh_wire_command_info(command)->answer_bytes == SH_WIRE_SILENT) {
        v->ended |= how == 0xff;
        if (how == 0xfe) say_answer(v, SH_WIRE_GET_ALIGNMENT, rq, 0);
        return;
    }
    say_answer(v, command, rq, how < 0xa0 ? 0 : how % 8);
    switch (how) {
    case 0xff: // only a part, and then nothing
        v->n_answers = before + (v->n_answers - before) / 2;
        v->ended = true;
        break;
    case 0xfe: // another length
        sh_write_u64(&w, any_number(v));
        memcpy(v->answers + before, bytes, 8);
        break;
    case 0xfd: // a byte too many
        say(v, "", 1);
        break;
    case 0xfc: // an answer that nobody waits for
        say_answer(v, command, rq, 0);
        break;
    default:
        break;
    }
}

/* One more byte of a request; the answer follows the last one. */
static void take(struct server *v, uint8_t byte)
{
    static struct sh_wire_request rq;
    struct sh_reader r;
    uint64_t size;

    if (v->n_request < sizeof v->request) v->request[v->n_request++] = byte;
    if (v->n_request == SH_WIRE_REQUEST_HEADER && v->left == 0) {
        r = sh_reader_over(v->request + 1, 8);
        size = sh_read_u64(&r);
        v->left = size + 1;
    }
    if (v->left == 0 || --v->left > 0) return;
    memset(&rq, 0, sizeof rq);
    r = sh_reader_over(v->request + SH_WIRE_REQUEST_HEADER, v->n_request - SH_WIRE_REQUEST_HEADER);
    if (!sh_wire_command_info(v->request[0])) abort();
    sh_wire_request_get(&r, (enum sh_wire_command)v->request[0], &rq);
    answer(v, v->request[0], &rq);
    v->n_request = 0;
}

/* ---- the stream -----------------------------------------------------------------------------*/

static void server_close(struct sh_stream *s)
{
    (void)s; // the caller's memory
}

static enum shoal_status fail_cut(struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_CANCELLED, "cut from this side");
}

static enum shoal_status server_read(struct sh_stream *s, void *dst, size_t n, size_t *got,
                                     bool *end, struct shoal_error *err)
{
    struct server *v = server_of(s);
    enum shoal_status st = SHOAL_OK;

    *got = 0;
    *end = false;
    sh_mutex_lock(&v->lock);
    if (v->cut) {
        st = fail_cut(err);
    } else if (v->n_read < v->n_answers) {
        *got = n < v->n_answers - v->n_read ? n : v->n_answers - v->n_read;
        memcpy(dst, v->answers + v->n_read, *got);
        v->n_read += *got;
    } else {
        *end = v->ended;
    }
    sh_mutex_unlock(&v->lock);
    return st;
}

static enum shoal_status server_writev(struct sh_stream *s, const struct iovec *iov, int n,
                                       size_t *put, struct shoal_error *err)
{
    struct server *v = server_of(s);
    enum shoal_status st = SHOAL_OK;

    *put = 0;
    sh_mutex_lock(&v->lock);
    if (v->cut) {
        st = fail_cut(err);
    } else if (v->ended) {
        st = sh_fail(err, SHOAL_ERR_PEER, "the server closed the connection");
    }
    for (int i = 0; i < n && !st; i++) {
        for (size_t k = 0; k < iov[i].iov_len && !v->ended; k++) {
            const size_t more = iov[i].iov_len - k - 1;
            if (v->n_request == sizeof v->request && v->left > 1) { // data: nobody looks at it
                const size_t skip = v->left - 2 < more ? (size_t)v->left - 2 : more;
                v->left -= skip;
                k += skip;
            }
            take(v, ((const uint8_t *)iov[i].iov_base)[k]);
        }
        *put += iov[i].iov_len;
    }
    sh_cond_broadcast(&v->changed);
    sh_mutex_unlock(&v->lock);
    return st;
}

static enum shoal_status server_wait(struct sh_stream *s, enum sh_stream_event event,
                                     int64_t timeout_ns, struct shoal_error *err)
{
    struct server *v = server_of(s);
    const int64_t end = sh_deadline_in(s->clock, timeout_ns);
    enum shoal_status st = SHOAL_OK;

    sh_mutex_lock(&v->lock);
    while (!st && !v->cut && !v->ended && event == SH_STREAM_READABLE &&
           v->n_read == v->n_answers) {
        const int64_t left = end == SH_NO_DEADLINE ? SH_NO_DEADLINE : end - sh_now_ns(s->clock);
        if (left <= 0) {
            st = sh_fail(err, SHOAL_ERR_TIMEOUT, "nothing happened in time");
        } else {
            (void)sh_cond_wait(&v->changed, &v->lock, left);
        }
    }
    if (v->cut) st = fail_cut(err);
    sh_mutex_unlock(&v->lock);
    return st;
}

static bool server_hung_up(struct sh_stream *s)
{
    struct server *v = server_of(s);
    bool gone;

    sh_mutex_lock(&v->lock);
    gone = v->cut || v->ended;
    sh_mutex_unlock(&v->lock);
    return gone;
}

static void server_cut(struct sh_stream *s)
{
    struct server *v = server_of(s);

    sh_mutex_lock(&v->lock);
    v->cut = true;
    sh_cond_broadcast(&v->changed);
    sh_mutex_unlock(&v->lock);
}

static const struct sh_stream_ops SERVER_OPS = {.close = server_close,
                                                .read = server_read,
                                                .writev = server_writev,
                                                .wait = server_wait,
                                                .hung_up = server_hung_up,
                                                .cut = server_cut};

/* ---- the client -----------------------------------------------------------------------------*/

struct client {
    struct sh_reader script;
    struct sh_device *device;
    struct sh_queue *queue;
    struct sh_buffer *buffers[BUFFERS];
    struct sh_exec *execs[EXECS];
    uint8_t *reads[READS]; // targets, each of exactly the size asked for
    int n_reads;
    sh_ticket last;
    struct shoal_error err;
};

static struct sh_graph g_graphs[EXECS];

/* A failure must say why. */
static bool went_well(struct client *c, enum shoal_status st)
{
    if (st && c->err.message[0] == '\0') abort();
    c->err = (struct shoal_error)SHOAL_ERROR_INIT;
    return st == SHOAL_OK;
}

/* Products, so that sizes are asked, and other ops behind them. */
static void build_graphs(void)
{
    const struct sh_extents one = {.t = 1, .o = 1, .r = 1};
    const int64_t shape_w[] = {64, 8, 1, 1}, shape_x[] = {64, 2, 1, 1};

    for (int i = 0; i < EXECS; i++) {
        struct sh_graph *g = &g_graphs[i];
        int32_t w, x, y;
        sh_graph_init(g, &one);
        w = sh_leaf_plain(g, i ? SH_DTYPE_Q8_0 : SH_DTYPE_F32, shape_w, SH_EXTENT_NONE, 0);
        x = sh_leaf_plain(g, SH_DTYPE_F32, shape_x, SH_EXTENT_NONE, 0);
        g->n_buffers = BUFFERS;
        sh_graph_place(g, w, 0, 0);
        sh_graph_place(g, x, 1, 512);
        y = sh_op_mul_mat(g, w, x, 0);
        y = sh_op_scale(g, y, 2, 0);
        if (i == 2) y = sh_op_node(g, SH_OP_ARGSORT, 1, &y, NULL);
        sh_graph_set_output(g, y);
        if (sh_graph_status(g, NULL)) abort();
    }
}

static void read_some(struct client *c, struct sh_buffer *b)
{
    const size_t offset = sh_read_u16(&c->script) % BUFFER_BYTES;
    size_t n = sh_read_u16(&c->script) % 5000;
    uint8_t *dst;

    if (c->n_reads == READS) return;
    if (n > BUFFER_BYTES - offset) n = BUFFER_BYTES - offset;
    dst = c->reads[c->n_reads++] = sh_malloc(n);
    if (!dst) abort();
    (void)went_well(c, sh_queue_read(c->queue, b, offset, dst, n, &c->last, &c->err));
}

static void run_exec(struct client *c, int i)
{
    const struct sh_extents one = {.t = 1, .o = 1, .r = 1};

    if (!c->execs[i]) {
        (void)went_well(c, sh_exec_prepare(c->device, &c->execs[i], &g_graphs[i], c->buffers,
                                           BUFFERS, 1, &c->err));
    }
    if (!c->execs[i]) return;
    (void)went_well(c, sh_queue_submit(c->queue, c->execs[i], 0, &one, NULL, &c->last, &c->err));
}

/* Weights, now and then so large that the server is asked whether it has them. */
static void upload(struct client *c, unsigned k)
{
    static const uint8_t weights[UPLOAD_BYTES];
    const size_t bytes = k == 15 ? UPLOAD_BYTES : 1000 * (size_t)k;
    struct sh_buffer *b = NULL;
    const struct sh_upload_item items[] = {
        {.offset = 0, .src = weights, .bytes = 100},
        {.offset = 256, .src = weights, .bytes = bytes},
    };
    struct sh_upload_item at[2];
    const struct sh_upload up = {.items = at, .n_items = 2};

    if (!went_well(c, sh_buffer_alloc(c->device, &b, bytes + 256, SH_BUFFER_WEIGHTS, &c->err))) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        at[i] = items[i];
        at[i].buffer = b;
    }
    (void)went_well(c, sh_queue_upload(c->queue, &up, &c->err));
    sh_queue_quiesce(c->queue);
    sh_buffer_free(b);
}

static void take_step(struct client *c)
{
    static const uint8_t source[4096];
    const unsigned what = sh_read_u8(&c->script), k = what >> 4;
    struct sh_buffer *b = c->buffers[k % BUFFERS], *other = c->buffers[(k + 1) % BUFFERS];
    struct sh_buffer *extra = NULL;
    struct sh_device_info info;
    enum shoal_status st = SHOAL_OK;

    switch (what % 11) {
    case 0:
        st = sh_queue_wait(c->queue, c->last, SH_NO_DEADLINE, &c->err);
        break;
    case 1:
        run_exec(c, (int)k % EXECS);
        break;
    case 2:
        read_some(c, b);
        break;
    case 3:
        st = sh_queue_write(c->queue, b, 64 * k, source, sizeof source, &c->last, &c->err);
        break;
    case 4:
        st = sh_queue_fill(c->queue, b, k, (uint8_t)k, 1000, &c->last, &c->err);
        break;
    case 5:
        st = sh_queue_copy(c->queue, b, k, other, 128, 500, &c->last, &c->err);
        break;
    case 6:
        st = sh_device_info(c->device, &info, &c->err);
        break;
    case 7:
        st = sh_buffer_alloc(c->device, &extra, (size_t)1 << k, SH_BUFFER_CACHE, &c->err);
        sh_buffer_free(extra);
        break;
    case 8:
        sh_exec_release(c->execs[k % EXECS]);
        c->execs[k % EXECS] = NULL;
        break;
    case 9:
        upload(c, k);
        break;
    default:
        sh_queue_reset(c->queue);
        break;
    }
    (void)went_well(c, st);
}

static void use_device(struct client *c)
{
    bool ok = went_well(c, sh_queue_create(c->device, &c->queue, &c->err));

    for (int i = 0; i < BUFFERS && ok; i++)
        ok = went_well(c, sh_buffer_alloc(c->device, &c->buffers[i], BUFFER_BYTES,
                                          i ? SH_BUFFER_COMPUTE : SH_BUFFER_WEIGHTS, &c->err));
    for (int i = 0; i < STEPS_MAX && ok && sh_reader_left(&c->script) > 0; i++)
        take_step(c);
    sh_queue_destroy(c->queue);
    for (int i = 0; i < EXECS; i++)
        sh_exec_release(c->execs[i]);
    for (int i = 0; i < BUFFERS; i++)
        sh_buffer_free(c->buffers[i]);
    for (int i = 0; i < c->n_reads; i++)
        sh_free(c->reads[i]);
    sh_device_close(c->device);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct server server;
    const struct sh_ggmlrpc_options opt = {.exact = true, .cache = SH_GGMLRPC_CACHE_ON};
    const size_t mine = size > 1 ? data[0] % (size - 1) : 0;
    struct client c = {.script = sh_reader_over(data + (size > 0), mine)};
    size_t before;

    if (!g_graphs[0].tensors) build_graphs();
    before = sh_mem_live_bytes();
    memset(&server, 0, offsetof(struct server, answers));
    server.head.ops = &SERVER_OPS;
    server.head.clock = &sh_clock_system;
    memcpy(server.head.peer, "fuzz:1", 7);
    server.script = sh_reader_over(data + (size > 0) + mine, size > 0 ? size - 1 - mine : 0);
    sh_mutex_init(&server.lock);
    sh_cond_init(&server.changed);
    if (went_well(&c, sh_ggmlrpc_device_over(&c.device, &server.head, &opt, &c.err))) {
        use_device(&c);
    }
    sh_cond_release(&server.changed);
    sh_mutex_release(&server.lock);
    if (sh_mem_live_bytes() > before) abort();
    return 0;
}
