/* tests/ggmlrpc/peer.c - frames by hand. */
#include "peer.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "tensor/dtype.h"
#include "tensor/ops.h"

#define SECONDS 20

static struct sh_pace patience(void)
{
    struct sh_pace p = sh_pace_until(sh_deadline_in(&sh_clock_system, SECONDS * SH_SECOND));

    sh_pace_start(&p, sh_now_ns(&sh_clock_system));
    return p;
}

/* ---- connections ----------------------------------------------------------------------------*/

static void *serve(void *arg)
{
    struct peer *p = arg;

    p->st = sh_ggmlrpc_server_serve(p->server, p->far, &p->err);
    return NULL;
}

void peer_open(struct peer *p, struct sh_ggmlrpc_server *server)
{
    memset(p, 0, sizeof *p);
    p->server = server;
    assert_int_equal(sh_stream_pair(&p->s, &p->far, (size_t)256 << 10, NULL), SHOAL_OK);
    assert_int_equal(pthread_create(&p->thread, NULL, serve, p), 0);
}

void peer_connect(struct peer *p, const char *address)
{
    const struct sh_tcp_options opt = {0};
    struct sh_endpoint ep;

    memset(p, 0, sizeof *p);
    assert_int_equal(sh_endpoint_parse(&ep, address, -1, NULL), SHOAL_OK);
    assert_int_equal(sh_tcp_connect(&p->s, &ep, 5 * SH_SECOND, &opt, NULL), SHOAL_OK);
}

void peer_hello(struct peer *p)
{
    const struct sh_wire_request rq = {.device = 0};
    struct sh_wire_answer a = {.major = 0};

    peer_send(p, SH_WIRE_HELLO, &rq, NULL, 0);
    peer_answer(p, SH_WIRE_HELLO, &a);
    assert_int_equal(a.major, 7);
    assert_int_equal(a.minor, 0);
    assert_int_equal(a.patch, 0);
}

enum shoal_status peer_end(struct peer *p)
{
    sh_stream_close(p->s);
    if (p->far) assert_int_equal(pthread_join(p->thread, NULL), 0);
    return p->st;
}

enum shoal_status peer_expect_end(struct peer *p)
{
    struct sh_pace pace = patience();
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t byte;
    size_t got = 1;
    enum shoal_status st = sh_stream_read_some(p->s, &byte, 1, &pace, &got, &err);

    if (st != SHOAL_ERR_PEER) { // a reset will do as well as an end
        assert_int_equal(st, SHOAL_OK);
        assert_int_equal(got, 0);
    }
    return peer_end(p);
}

/* ---- frames ---------------------------------------------------------------------------------*/

void peer_raw(struct peer *p, const void *bytes, size_t n)
{
    struct sh_pace pace = patience();

    // The server may have closed already, which is for the test to notice.
    (void)!sh_stream_write_full(p->s, bytes, n, &pace, NULL);
}

void peer_header(struct peer *p, unsigned command, uint64_t size)
{
    uint8_t bytes[SH_WIRE_REQUEST_HEADER];
    struct sh_writer w = sh_writer_over(bytes, sizeof bytes);

    sh_write_u8(&w, (uint8_t)command);
    sh_write_u64(&w, size);
    peer_raw(p, bytes, sizeof bytes);
}

void peer_send(struct peer *p, enum sh_wire_command command, const struct sh_wire_request *rq,
               const void *data, size_t n)
{
    uint8_t bytes[SH_WIRE_REQUEST_BYTES_MAX];
    struct sh_writer w = sh_writer_over(bytes, sizeof bytes);

    sh_wire_request_put(&w, command, rq, n);
    peer_raw(p, bytes, w.pos);
    if (n > 0) peer_raw(p, data, n);
}

void peer_receive(struct peer *p, void *dst, size_t n)
{
    struct sh_pace pace = patience();
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_stream_read_full(p->s, dst, n, &pace, &err)) fail_msg("%s", err.message);
}

void peer_answer(struct peer *p, enum sh_wire_command command, struct sh_wire_answer *a)
{
    uint8_t bytes[SH_WIRE_ANSWER_BYTES_MAX];
    struct sh_reader r = sh_reader_over(bytes, sizeof bytes);
    const size_t n = (size_t)sh_wire_command_info(command)->answer_bytes;

    peer_receive(p, bytes, SH_WIRE_ANSWER_HEADER);
    assert_int_equal(sh_read_u64(&r), n);
    peer_receive(p, bytes + SH_WIRE_ANSWER_HEADER, n);
    sh_wire_answer_get(&r, command, a);
}

/* ---- buffers and tensors --------------------------------------------------------------------*/

void peer_alloc(struct peer *p, size_t bytes, struct peer_buffer *out)
{
    struct sh_wire_request rq = {.size = bytes};
    struct sh_wire_answer a = {.buffer = 0};

    peer_send(p, SH_WIRE_ALLOC_BUFFER, &rq, NULL, 0);
    peer_answer(p, SH_WIRE_ALLOC_BUFFER, &a);
    assert_true(a.buffer != 0);
    assert_true(a.value >= bytes);
    rq.buffer = out->token = a.buffer;
    peer_send(p, SH_WIRE_BUFFER_GET_BASE, &rq, NULL, 0);
    peer_answer(p, SH_WIRE_BUFFER_GET_BASE, &a);
    assert_true(a.value != 0);
    out->base = a.value;
    out->bytes = bytes;
}

struct sh_wire_tensor peer_tensor(const struct peer_buffer *b, size_t offset, uint32_t type,
                                  uint32_t ne0, uint32_t ne1)
{
    const struct sh_dtype_info *info = sh_dtype_info((enum sh_dtype)type);
    struct sh_wire_tensor t = {.id = 1, .type = type, .buffer = b->token, .data = b->base + offset};

    t.ne[0] = ne0;
    t.ne[1] = ne1;
    t.ne[2] = t.ne[3] = 1;
    t.nb[0] = (uint32_t)info->block_bytes;
    t.nb[1] = t.nb[0] * (ne0 / (uint32_t)info->block_len);
    t.nb[2] = t.nb[3] = t.nb[1] * ne1;
    return t;
}

void peer_set(struct peer *p, const struct peer_buffer *b, size_t offset, const void *src, size_t n)
{
    struct sh_wire_request rq = {.tensor = peer_tensor(b, offset, SH_DTYPE_I8, (uint32_t)n, 1)};

    peer_send(p, SH_WIRE_SET_TENSOR, &rq, src, n);
}

void peer_get(struct peer *p, const struct peer_buffer *b, size_t offset, void *dst, size_t n)
{
    struct sh_wire_request rq = {.tensor = peer_tensor(b, offset, SH_DTYPE_I8, (uint32_t)n, 1),
                                 .size = n};
    uint8_t header[SH_WIRE_ANSWER_HEADER];
    struct sh_reader r = sh_reader_over(header, sizeof header);

    peer_send(p, SH_WIRE_GET_TENSOR, &rq, NULL, 0);
    peer_receive(p, header, sizeof header);
    assert_int_equal(sh_read_u64(&r), n);
    peer_receive(p, dst, n);
}

/* ---- graphs ---------------------------------------------------------------------------------*/

void peer_compute(struct peer *p, const struct peer_graph *g)
{
    static uint8_t bytes[1 << 16];
    struct sh_writer w = sh_writer_over(bytes, sizeof bytes);
    size_t n;

    sh_write_u32(&w, g->device);
    sh_write_u32(&w, g->say_nodes ? g->say_nodes : g->n_nodes);
    for (uint32_t i = 0; i < g->n_nodes; i++)
        sh_write_u64(&w, g->nodes[i]);
    sh_write_u32(&w, g->say_records ? g->say_records : g->n_records);
    for (uint32_t i = 0; i < g->n_records; i++)
        sh_wire_tensor_put(&w, &g->records[i]);
    assert_false(w.bad);
    n = w.pos + g->more - g->cut;
    memset(bytes + w.pos, 0, g->more);
    peer_header(p, SH_WIRE_GRAPH_COMPUTE, n);
    peer_raw(p, bytes, n);
}

void peer_graph_add(struct peer_graph *g, const struct peer_buffer *b, uint32_t n)
{
    memset(g, 0, sizeof *g);
    for (uint32_t i = 0; i < 3; i++) {
        g->records[i] = peer_tensor(b, (size_t)4 * n * i, SH_DTYPE_F32, n, 1);
        g->records[i].id = 0x1000 + i;
    }
    g->records[2].op = (uint32_t)sh_op_info(SH_OP_ADD)->wire;
    g->records[2].flags = SH_WIRE_FLAG_COMPUTE;
    g->records[2].src[0] = g->records[0].id;
    g->records[2].src[1] = g->records[1].id;
    g->n_records = 3;
    g->nodes[0] = g->records[2].id;
    g->n_nodes = 1;
}

/* ---- the log --------------------------------------------------------------------------------*/

static struct {
    pthread_mutex_t lock;
    char text[4096];
    int n;
    bool begun;
} g_lines = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void keep_line(void *user, const struct sh_log_record *r)
{
    (void)user;
    if (r->level > SH_LOG_WARN) return;
    pthread_mutex_lock(&g_lines.lock);
    (void)snprintf(g_lines.text + strlen(g_lines.text), sizeof g_lines.text - strlen(g_lines.text),
                   "%s\n", r->message);
    g_lines.n++;
    pthread_mutex_unlock(&g_lines.lock);
}

void peer_log_begin(void)
{
    if (!g_lines.begun) sh_log_set_sink(keep_line, NULL, SH_LOG_TRACE);
    g_lines.begun = true;
}

int peer_log_take(char *out, size_t size)
{
    int n;

    pthread_mutex_lock(&g_lines.lock);
    (void)snprintf(out, size, "%s", g_lines.text);
    n = g_lines.n;
    g_lines.n = 0;
    g_lines.text[0] = '\0';
    pthread_mutex_unlock(&g_lines.lock);
    return n;
}
