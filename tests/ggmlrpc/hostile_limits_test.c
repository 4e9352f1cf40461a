/* Clients that want too much: memory, time, connections; and streams damaged at random.  Over the
 * CPU device. */
#include "hostile.h"

#include <sched.h>
#include <string.h>

#include "base/mem.h"
#include "tensor/dtype.h"
#include "tensor/ops.h"

static struct sh_ggmlrpc_server *make_server(const struct sh_ggmlrpc_server_options *with)
{
    struct sh_ggmlrpc_server_options opt = *with;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_ggmlrpc_server *server;

    opt.device = g_device;
    opt.log_lines_max = 100000;
    if (sh_ggmlrpc_server_create(&server, &opt, &err)) fail_msg("%s", err.message);
    return server;
}

/* ---- memory ---------------------------------------------------------------------------------*/

static void expect_refused(struct peer *p, uint64_t bytes)
{
    const struct sh_wire_request rq = {.size = bytes};
    struct sh_wire_answer a = {.buffer = 1, .value = 1};

    peer_send(p, SH_WIRE_ALLOC_BUFFER, &rq, NULL, 0);
    peer_answer(p, SH_WIRE_ALLOC_BUFFER, &a);
    assert_true(a.buffer == 0);
    assert_true(a.value == 0);
}

static void expect_left(struct peer *p, uint64_t left, uint64_t total)
{
    const struct sh_wire_request rq = {.device = 0};
    struct sh_wire_answer a = {.value = 0};

    peer_send(p, SH_WIRE_GET_DEVICE_MEMORY, &rq, NULL, 0);
    peer_answer(p, SH_WIRE_GET_DEVICE_MEMORY, &a);
    assert_int_equal(a.memory_free, left);
    assert_int_equal(a.memory_total, total);
}

/* Refused allocations are answers: the client may go on. */
static void hostile__quotas(void **state)
{
    const struct sh_ggmlrpc_server_options opt = {
        .memory_max = 10000, .client_memory_max = 6000, .buffers_max = 3};
    struct sh_ggmlrpc_server *server = make_server(&opt);
    struct peer_buffer b;
    struct peer p, q, r;

    (void)state;
    peer_open(&p, server);
    peer_hello(&p);
    expect_refused(&p, 0);
    expect_refused(&p, UINT64_MAX);
    expect_refused(&p, UINT64_C(1) << 62);
    expect_refused(&p, 6001); // more than one client may have
    expect_left(&p, 6000, 6000);
    peer_alloc(&p, 5000, &b);
    expect_left(&p, 1000, 6000);
    expect_refused(&p, 1001);
    peer_open(&q, server);
    peer_hello(&q);
    expect_left(&q, 5000, 6000);
    expect_refused(&q, 5001); // more than is left of all
    peer_alloc(&q, 4000, &b);
    expect_left(&p, 1000, 6000);
    expect_refused(&p, 1001);
    peer_open(&r, server);
    peer_hello(&r);
    for (int i = 0; i < 3; i++)
        peer_alloc(&r, 10, &b);
    expect_refused(&r, 10); // too many
    assert_int_equal(peer_end(&r), SHOAL_OK);
    assert_int_equal(peer_end(&q), SHOAL_OK);
    expect_left(&p, 1000, 6000);
    assert_int_equal(peer_end(&p), SHOAL_OK);
    hostile_expect_service(server);
    sh_ggmlrpc_server_destroy(server);
}

/* Twenty thousand buffers of a gigabyte, each refused. */
static void hostile__promises_without_end(void **state)
{
    struct peer p;

    (void)state;
    peer_open(&p, g_server);
    peer_hello(&p);
    for (int i = 0; i < 20000; i++)
        expect_refused(&p, UINT64_C(1) << 30);
    assert_int_equal(peer_end(&p), SHOAL_OK);
    hostile_expect_service(g_server);
}

/* What one client wrote, the next one does not find in its memory. */
static void hostile__secrets_of_others(void **state)
{
    const size_t bytes = 500000;
    uint8_t *secret = sh_malloc(bytes), *found = sh_malloc(bytes);

    (void)state;
    memset(secret, 0xa5, bytes);
    for (int round = 0; round < 5; round++) {
        struct peer_buffer b;
        struct peer p;
        peer_open(&p, g_server);
        peer_hello(&p);
        peer_alloc(&p, bytes, &b);
        peer_get(&p, &b, 0, found, bytes);
        for (size_t i = 0; i < bytes; i++) {
            if (found[i] != 0) fail_msg("byte %zu of new memory is %u", i, found[i]);
        }
        peer_set(&p, &b, 0, secret, bytes);
        assert_int_equal(peer_end(&p), SHOAL_OK);
    }
    sh_free(found);
    sh_free(secret);
    hostile_expect_service(g_server);
}

/* A graph of 32 MiB is announced: memory is not taken before its bytes come. */
static void hostile__announcements_cost_nothing(void **state)
{
    struct peer_buffer b;
    struct peer p;
    size_t peak;

    (void)state;
    peer_open(&p, g_server);
    peer_hello(&p);
    peer_alloc(&p, 64, &b);
    peak = sh_mem_peak_bytes();
    peer_header(&p, SH_WIRE_GRAPH_COMPUTE, UINT64_C(32) << 20);
    peer_raw(&p, "\0\0\0\0\1\0\0\0", 8);
    assert_int_not_equal(peer_end(&p), SHOAL_OK);
    assert_true(sh_mem_peak_bytes() - peak < (size_t)4 << 20);
    hostile_expect_service(g_server);
}

/* ---- memory to work in ----------------------------------------------------------------------*/

#define FIXED_BYTES ((size_t)6 << 20) // for data both ways
#define CLIENTS 32

/* `n` records of tensors that nothing computes with, and as many bytes as that takes. */
static void send_big_graph(struct peer *p, const struct peer_buffer *b, uint32_t n)
{
    const size_t bytes = 12 + (size_t)n * SH_WIRE_TENSOR_BYTES;
    uint8_t *payload = sh_malloc(bytes);
    struct sh_writer w = sh_writer_over(payload, bytes);
    struct sh_wire_tensor t = peer_tensor(b, 0, SH_DTYPE_F32, 4, 1);

    sh_write_u32(&w, 0);
    sh_write_u32(&w, 0);
    sh_write_u32(&w, n);
    for (uint32_t i = 0; i < n; i++) {
        t.id = (uint64_t)i + 1;
        sh_wire_tensor_put(&w, &t);
    }
    assert_false(w.bad);
    peer_header(p, SH_WIRE_GRAPH_COMPUTE, bytes);
    peer_raw(p, payload, bytes);
    sh_free(payload);
}

static void open_with_buffer(struct peer *p, struct sh_ggmlrpc_server *server,
                             struct peer_buffer *b)
{
    peer_open(p, server);
    peer_hello(p);
    peer_alloc(p, 64, b);
}

static struct sh_ggmlrpc_server_stats stats_of(struct sh_ggmlrpc_server *server)
{
    struct sh_ggmlrpc_server_stats stats;

    sh_ggmlrpc_server_stats(server, &stats);
    return stats;
}

static void expect_no_room(struct peer *p, enum shoal_status st)
{
    assert_int_equal(st, SHOAL_ERR_NOMEM);
    assert_non_null(strstr(p->err.message, " bytes to work in, and "));
    assert_non_null(strstr(p->err.message, " are left"));
}

/* Another server of the device takes from the same ledger: clients are told, and refused. */
static void hostile__a_ledger_that_others_take_from(void **state)
{
    const size_t all = (size_t)64 << 20, others = all - 10000 - FIXED_BYTES;
    struct sh_ggmlrpc_server_options opt = {.memory_max = 10000, .client_memory_max = 6000};
    struct sh_ggmlrpc_server *server;
    struct peer_buffer b;
    struct sh_ledger *l;
    struct peer p;

    (void)state;
    assert_int_equal(sh_ledger_create(&l, all, NULL), SHOAL_OK);
    assert_true(sh_ledger_take(l, others, NULL));
    opt.ledger = l;
    server = make_server(&opt);
    peer_open(&p, server);
    peer_hello(&p);
    expect_left(&p, 6000, 6000);
    peer_alloc(&p, 1000, &b);
    assert_int_equal(sh_ledger_used(l), others + 1000);
    assert_true(sh_ledger_take(l, 7000 + FIXED_BYTES, NULL));
    expect_left(&p, 2000, 6000); // less than the 5000 that it may have
    expect_refused(&p, 2001);
    peer_alloc(&p, 2000, &b);
    expect_left(&p, 0, 6000);
    sh_ledger_give(l, 1000);
    expect_left(&p, 1000, 6000);
    peer_set(&p, &b, 0, "1234", 4); // wants memory to work in
    expect_no_room(&p, peer_expect_end(&p));
    assert_int_equal(sh_ledger_used(l), others + 6000 + FIXED_BYTES);

    sh_ledger_give(l, FIXED_BYTES);
    open_with_buffer(&p, server, &b);
    peer_set(&p, &b, 0, "1234", 4);
    peer_get(&p, &b, 0, (char[4]){0}, 4);
    assert_int_equal(sh_ledger_used(l), others + 6000 + 64 + FIXED_BYTES);
    assert_int_equal(peer_end(&p), SHOAL_OK);
    assert_int_equal(sh_ledger_used(l), others + 6000);
    sh_ledger_give(l, others + 6000);
    hostile_expect_service(server);
    assert_int_equal(sh_ledger_used(l), 0);
    sh_ggmlrpc_server_destroy(server);
    sh_ledger_destroy(l);
}

/* 31 MB of records, from a client that may have the fixed memory and 4 MiB: its payload is refused
 * while it arrives, before 8 MiB are allocated for it. */
static void hostile__big_graphs(void **state)
{
    const struct sh_ggmlrpc_server_options opt = {
        .memory_max = 1 << 20, .client_work_max = FIXED_BYTES + ((size_t)4 << 20)};
    struct sh_ggmlrpc_server *server = make_server(&opt);
    struct peer_buffer b;
    struct peer p;
    size_t live, peak;

    (void)state;
    for (int i = 0; i < 2; i++) {
        const size_t sent = 105000 * (size_t)SH_WIRE_TENSOR_BYTES;
        open_with_buffer(&p, server, &b);
        live = sh_mem_live_bytes() + sent;
        send_big_graph(&p, &b, 105000);
        expect_no_room(&p, peer_expect_end(&p));
        peak = sh_mem_peak_bytes();
        assert_true(peak < live + ((size_t)24 << 20));
        assert_int_equal(stats_of(server).work_used, 0);
        hostile_expect_service(server);
    }
    sh_ggmlrpc_server_destroy(server);
}

/* The payload fits, what it decodes to does not. */
static void hostile__graphs_that_unfold(void **state)
{
    const struct sh_ggmlrpc_server_options opt = {.memory_max = 1 << 20,
                                                  .client_work_max = FIXED_BYTES + 500000};
    struct sh_ggmlrpc_server *server = make_server(&opt);
    struct peer_buffer b;
    struct peer p;

    (void)state;
    open_with_buffer(&p, server, &b);
    peer_set(&p, &b, 0, "1234", 4);
    peer_get(&p, &b, 0, (char[4]){0}, 4);
    assert_int_equal(stats_of(server).work_used, FIXED_BYTES);
    send_big_graph(&p, &b, 700); // 207212 bytes in 262144, and twice 400 for each record
    expect_no_room(&p, peer_expect_end(&p));
    assert_int_equal(stats_of(server).work_used, 0);
    hostile_expect_service(server);
    sh_ggmlrpc_server_destroy(server);
}

/* A product whose right side is quantised to 4 MB in the scratch of the device. */
static void hostile__scratch(void **state)
{
    const uint32_t k = 1 << 16, n = 64;
    const struct sh_ggmlrpc_server_options opt = {.memory_max = (size_t)32 << 20,
                                                  .client_work_max = (size_t)1 << 20};
    struct sh_ggmlrpc_server *server = make_server(&opt);
    struct peer_graph g = {.n_records = 3, .n_nodes = 1, .nodes = {3}};
    struct peer_buffer b;
    struct peer p;

    (void)state;
    peer_open(&p, server);
    peer_hello(&p);
    peer_alloc(&p, (size_t)20 << 20, &b);
    g.records[0] = peer_tensor(&b, 0, SH_DTYPE_Q8_0, k, 1);
    g.records[1] = peer_tensor(&b, 1 << 20, SH_DTYPE_F32, k, n);
    g.records[2] = peer_tensor(&b, 18 << 20, SH_DTYPE_F32, 1, n);
    for (uint64_t i = 0; i < 3; i++)
        g.records[i].id = i + 1;
    g.records[2].op = (uint32_t)sh_op_info(SH_OP_MUL_MAT)->wire;
    g.records[2].flags = SH_WIRE_FLAG_COMPUTE;
    g.records[2].src[0] = 1;
    g.records[2].src[1] = 2;
    peer_compute(&p, &g);
    expect_no_room(&p, peer_expect_end(&p));
    assert_int_equal(stats_of(server).work_used, 0);
    sh_ggmlrpc_server_destroy(server);
}

/* Many clients, each with a graph that is small enough for one: those that come too late are told,
 * and none of the others suffers. */
static void hostile__graphs_of_many(void **state)
{
    const struct sh_ggmlrpc_server_options opt = {.memory_max = 1 << 20,
                                                  .work_max = (size_t)20 << 20};
    struct sh_ggmlrpc_server *server = make_server(&opt);
    const struct sh_wire_request rq = {.size = 0};
    struct sh_wire_answer a;
    struct peer p[CLIENTS];
    int n_kept = 0, n_refused = 0;
    struct peer_buffer b;

    (void)state;
    for (int i = 0; i < CLIENTS; i++) {
        struct peer *q = &p[n_kept];
        uint8_t bytes[SH_WIRE_ANSWER_HEADER + 4];
        struct sh_pace pace = sh_pace_until(SH_NO_DEADLINE);
        open_with_buffer(q, server, &b);
        send_big_graph(q, &b, 3500); // 1 MiB is kept, 2.5 more are needed to decode
        peer_send(q, SH_WIRE_DEVICE_COUNT, &rq, NULL, 0);
        sh_pace_start(&pace, sh_now_ns(&sh_clock_system));
        if (sh_stream_read_full(q->s, bytes, sizeof bytes, &pace, NULL) == SHOAL_OK) {
            n_kept++;
        } else {
            expect_no_room(q, peer_end(q));
            n_refused++;
        }
        assert_true(stats_of(server).work_used <= opt.work_max);
    }
    assert_true(n_kept >= 8 && n_refused >= 8);
    for (int i = 0; i < n_kept; i++) {
        peer_send(&p[i], SH_WIRE_DEVICE_COUNT, &rq, NULL, 0);
        peer_answer(&p[i], SH_WIRE_DEVICE_COUNT, &a);
        assert_int_equal(peer_end(&p[i]), SHOAL_OK);
    }
    assert_int_equal(stats_of(server).work_used, 0);
    hostile_expect_service(server);
    sh_ggmlrpc_server_destroy(server);
}

/* A client that sends ever new graphs keeps what fits: older ones go, and it is served. */
static void hostile__ever_new_graphs(void **state)
{
    const struct sh_ggmlrpc_server_options opt = {.memory_max = 1 << 20,
                                                  .work_max = FIXED_BYTES + 100000};
    struct sh_ggmlrpc_server *server = make_server(&opt);
    struct peer_buffer b;
    struct peer p;

    (void)state;
    peer_open(&p, server);
    peer_hello(&p);
    peer_alloc(&p, 4096, &b);
    for (uint32_t n = 1; n <= 200; n++) {
        const float in[2] = {(float)n, 1};
        struct peer_graph g;
        float out;
        peer_set(&p, &b, 4 * (n - 1), &in[0], 4);
        peer_set(&p, &b, 4 * (2 * n - 1), &in[1], 4);
        peer_graph_add(&g, &b, n);
        peer_compute(&p, &g);
        peer_get(&p, &b, 4 * (3 * n - 1), &out, 4);
        assert_float_equal(out, n + 1, 0);
        assert_true(stats_of(server).work_used <= opt.work_max);
    }
    assert_int_equal(peer_end(&p), SHOAL_OK);
    hostile_expect_service(server);
    sh_ggmlrpc_server_destroy(server);
}

/* ---- time -----------------------------------------------------------------------------------*/

/* One node over rows that overlap in a few megabytes, for hours. */
static void endless_graph(struct peer_graph *g, const struct peer_buffer *b)
{
    const uint32_t k = 1 << 20, m = 1 << 18, n = 16;

    memset(g, 0, sizeof *g);
    for (int i = 0; i < 2; i++) {
        g->records[i] = peer_tensor(b, 0, SH_DTYPE_F32, k, 1);
        g->records[i].ne[1] = i ? n : m;
        g->records[i].nb[1] = 4;
        g->records[i].nb[2] = g->records[i].nb[3] = 4 * (i ? n : m);
    }
    g->records[2] = peer_tensor(b, 8 << 20, SH_DTYPE_F32, m, n);
    for (uint64_t i = 0; i < 3; i++)
        g->records[i].id = i + 1;
    g->records[2].op = (uint32_t)sh_op_info(SH_OP_MUL_MAT)->wire;
    g->records[2].flags = SH_WIRE_FLAG_COMPUTE;
    g->records[2].src[0] = 1;
    g->records[2].src[1] = 2;
    g->n_records = 3;
    g->nodes[0] = 3;
    g->n_nodes = 1;
}

static void start_endless(struct sh_ggmlrpc_server *server, struct peer *p)
{
    struct sh_wire_request rq = {.size = 4};
    struct peer_buffer b;
    struct peer_graph g;

    peer_open(p, server);
    peer_hello(p);
    peer_alloc(p, (size_t)24 << 20, &b);
    endless_graph(&g, &b);
    peer_compute(p, &g);
    rq.tensor = peer_tensor(&b, 0, SH_DTYPE_I8, 4, 1);
    peer_send(p, SH_WIRE_GET_TENSOR, &rq, NULL, 0);
}

static void hostile__graphs_that_take_hours(void **state)
{
    const struct sh_ggmlrpc_server_options brief = {.memory_max = 32 << 20,
                                                    .graph_ns = 300 * SH_MS};
    const struct sh_ggmlrpc_server_options patient = {.memory_max = 32 << 20};
    struct sh_ggmlrpc_server *server = make_server(&brief);
    struct peer p;

    (void)state;
    start_endless(server, &p);
    assert_int_equal(peer_expect_end(&p), SHOAL_ERR_TIMEOUT);
    assert_non_null(strstr(p.err.message, "a graph ran longer"));
    hostile_expect_service(g_server); // the same device, and more patience
    sh_ggmlrpc_server_destroy(server);

    server = make_server(&patient);
    start_endless(server, &p);
    assert_int_not_equal(peer_end(&p), SHOAL_OK); // it leaves, and its graph is stopped
    hostile_expect_service(server);
    sh_ggmlrpc_server_destroy(server);
}

/* A client that sends a byte now and then, never long enough without one to be called silent. */
static void hostile__clients_that_drip(void **state)
{
    const struct sh_ggmlrpc_server_options opt = {
        .memory_max = 1 << 20, .stall_ns = 60 * SH_SECOND, .window_ns = 300 * SH_MS};
    struct sh_ggmlrpc_server *server = make_server(&opt);
    struct peer_buffer b;
    struct peer p;
    bool ended = false;

    (void)state;
    peer_open(&p, server);
    peer_hello(&p);
    peer_alloc(&p, 64, &b);
    peer_header(&p, SH_WIRE_GRAPH_COMPUTE, 100000);
    for (int i = 0; i < 100000 && !ended; i++) {
        struct sh_pace pace = sh_pace_rate(10 * SH_MS, SH_NO_DEADLINE, 0);
        uint8_t byte;
        size_t got = 1;
        peer_raw(&p, "", 1);
        sh_pace_start(&pace, sh_now_ns(&sh_clock_system));
        ended = sh_stream_read_some(p.s, &byte, 1, &pace, &got, NULL) == SHOAL_OK && got == 0;
    }
    assert_true(ended);
    assert_int_equal(peer_end(&p), SHOAL_ERR_TIMEOUT);
    assert_non_null(strstr(p.err.message, "too slowly"));
    hostile_expect_service(g_server); // this server's patience is no honest client's either
    sh_ggmlrpc_server_destroy(server);
}

/* ---- connections ----------------------------------------------------------------------------*/

static void hostile__connections_without_number(void **state)
{
    const struct sh_ggmlrpc_server_options opt = {.memory_max = 1 << 20, .connections_max = 3};
    struct sh_ggmlrpc_server *server = make_server(&opt);
    struct peer p[3], more;

    (void)state;
    for (int i = 0; i < 3; i++) {
        peer_open(&p[i], server);
        peer_hello(&p[i]);
    }
    for (int i = 0; i < 100; i++) {
        peer_open(&more, server);
        assert_int_equal(peer_expect_end(&more), SHOAL_ERR_LIMIT);
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(peer_end(&p[i]), SHOAL_OK);
    hostile_expect_service(server);
    sh_ggmlrpc_server_destroy(server);
}

static void *run_server(void *arg)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_ggmlrpc_server_run(arg, &err)) fail_msg("%s", err.message);
    return NULL;
}

/* Over TCP: many questions at once, and the client is gone before the answers come.  Writing to it
 * must not end the process by a signal. */
static void hostile__clients_that_vanish(void **state)
{
    const struct sh_ggmlrpc_server_options opt = {.memory_max = 1 << 20, .listen = "127.0.0.1:0"};
    struct sh_ggmlrpc_server *server = make_server(&opt);
    struct sh_ggmlrpc_server_stats stats;
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, run_server, server), 0);
    for (int round = 0; round < 20; round++) {
        struct sh_wire_request rq = {.size = 500000};
        struct peer_buffer b;
        struct peer p;
        peer_connect(&p, sh_ggmlrpc_server_address(server));
        peer_hello(&p);
        peer_alloc(&p, 500000, &b);
        rq.tensor = peer_tensor(&b, 0, SH_DTYPE_I8, 500000, 1);
        for (int i = 0; i < 20; i++)
            peer_send(&p, SH_WIRE_GET_TENSOR, &rq, NULL, 0);
        (void)peer_end(&p);
        do { // all memory is this client's: the next one needs it back
            (void)sched_yield();
            sh_ggmlrpc_server_stats(server, &stats);
        } while (stats.n_connections > 0);
        assert_int_equal(stats.memory_used, 0);
    }
    hostile_expect_service(server);
    sh_ggmlrpc_server_stop(server);
    assert_int_equal(pthread_join(thread, NULL), 0);
    sh_ggmlrpc_server_destroy(server);
}

/* ---- damage at random -----------------------------------------------------------------------*/

struct stream {
    uint8_t bytes[1 << 14];
    struct sh_writer w;
};

static void put(struct stream *s, enum sh_wire_command c, const struct sh_wire_request *rq,
                size_t data)
{
    sh_wire_request_put(&s->w, c, rq, data);
    for (size_t i = 0; i < data; i++)
        sh_write_u8(&s->w, (uint8_t)i);
}

static void put_graph(struct stream *s, const struct peer_buffer *b)
{
    struct peer_graph g;

    peer_graph_add(&g, b, 16);
    sh_write_u8(&s->w, SH_WIRE_GRAPH_COMPUTE);
    sh_write_u64(&s->w, 12 + 8 + 3 * SH_WIRE_TENSOR_BYTES);
    sh_write_u32(&s->w, 0);
    sh_write_u32(&s->w, 1);
    sh_write_u64(&s->w, g.nodes[0]);
    sh_write_u32(&s->w, 3);
    for (int i = 0; i < 3; i++)
        sh_wire_tensor_put(&s->w, &g.records[i]);
}

/* A session's worth of lawful frames. */
static void put_session(struct stream *s, const struct peer_buffer *b)
{
    static struct sh_wire_request rq;

    s->w = sh_writer_over(s->bytes, sizeof s->bytes);
    memset(&rq, 0, sizeof rq);
    rq.buffer = b->token;
    rq.size = 64;
    rq.offset = 16;
    rq.tensor = peer_tensor(b, 0, SH_DTYPE_F32, 16, 4);
    rq.dst = peer_tensor(b, 1024, SH_DTYPE_F32, 16, 4);
    put(s, SH_WIRE_BUFFER_CLEAR, &rq, 0);
    put(s, SH_WIRE_SET_TENSOR, &rq, 64);
    put_graph(s, b);
    put(s, SH_WIRE_GRAPH_RECOMPUTE, &rq, 0);
    put(s, SH_WIRE_MEMSET_TENSOR, &rq, 0);
    put(s, SH_WIRE_COPY_TENSOR, &rq, 0);
    put(s, SH_WIRE_INIT_TENSOR, &rq, 0);
    put(s, SH_WIRE_SET_TENSOR_HASH, &rq, 0);
    put(s, SH_WIRE_GET_ALLOC_SIZE, &rq, 0);
    put(s, SH_WIRE_GET_TENSOR, &rq, 0);
    put(s, SH_WIRE_ALLOC_BUFFER, &rq, 0);
    put(s, SH_WIRE_FREE_BUFFER, &rq, 0);
    put(s, SH_WIRE_HELLO, &rq, 0); // a second greeting: what gets here is over
    assert_false(s->w.bad);
}

static uint32_t random_below(uint64_t *state, uint32_t n)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33) % n;
}

static void damage(struct stream *s, uint64_t *state)
{
    static const uint8_t favourites[] = {0, 1, 0x7f, 0x80, 0xff};
    const uint32_t n = 1 + random_below(state, 4);

    for (uint32_t i = 0; i < n; i++) {
        uint8_t *at = s->bytes + random_below(state, (uint32_t)s->w.pos);
        if (random_below(state, 2)) {
            *at = favourites[random_below(state, 5)];
        } else {
            *at = (uint8_t)(*at ^ 1u << random_below(state, 8));
        }
    }
}

/* Read answers until the server closes, or waits for what will not come. */
static void read_all(struct peer *p)
{
    uint8_t bytes[256];
    size_t got;

    do {
        struct sh_pace pace = sh_pace_rate(50 * SH_MS, SH_NO_DEADLINE, 0);
        sh_pace_start(&pace, sh_now_ns(&sh_clock_system));
        if (sh_stream_read_some(p->s, bytes, sizeof bytes, &pace, &got, NULL)) break;
    } while (got > 0);
}

/* Whatever arrives: the server goes on, and keeps nothing. */
static void hostile__damaged_streams(void **state)
{
    static struct stream s;
    struct sh_ggmlrpc_server_stats stats;
    uint64_t seed = 20240229;
    int n_refused = 0, n_through = 0;

    (void)state;
    for (int i = 0; i < 1500; i++) {
        struct peer_buffer b;
        struct peer p;
        peer_open(&p, g_server);
        peer_hello(&p);
        peer_alloc(&p, BUFFER_BYTES, &b);
        put_session(&s, &b);
        if (i > 0) damage(&s, &seed);
        peer_raw(&p, s.bytes, s.w.pos);
        read_all(&p);
        if (peer_end(&p) == SHOAL_OK) fail_msg("stream %d ended well", i);
        if (strstr(p.err.message, "second greeting")) {
            n_through++;
        } else {
            n_refused++;
        }
        sh_ggmlrpc_server_stats(g_server, &stats);
        assert_int_equal(stats.memory_used, 0);
        if (i == 0) assert_int_equal(n_through, 1);
    }
    assert_true(n_refused > 300);
    assert_true(n_through > 100);
    hostile_expect_service(g_server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile__quotas),
        cmocka_unit_test(hostile__a_ledger_that_others_take_from),
        cmocka_unit_test(hostile__promises_without_end),
        cmocka_unit_test(hostile__secrets_of_others),
        cmocka_unit_test(hostile__announcements_cost_nothing),
        cmocka_unit_test(hostile__big_graphs),
        cmocka_unit_test(hostile__graphs_that_unfold),
        cmocka_unit_test(hostile__scratch),
        cmocka_unit_test(hostile__graphs_of_many),
        cmocka_unit_test(hostile__ever_new_graphs),
        cmocka_unit_test(hostile__graphs_that_take_hours),
        cmocka_unit_test(hostile__clients_that_drip),
        cmocka_unit_test(hostile__connections_without_number),
        cmocka_unit_test(hostile__clients_that_vanish),
        cmocka_unit_test(hostile__damaged_streams),
    };

    return cmocka_run_group_tests_name("hostile_limits", tests, hostile_open, hostile_close);
}
