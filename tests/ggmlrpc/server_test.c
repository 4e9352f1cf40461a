/* What the server does for honest clients, and when clients come and go: data in and out, memory
 * and its limits, graphs kept and dropped, vanishing, draining.  Mostly over a device whose runs
 * end when the test says so.
 */
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "fake_device.h"
#include "peer.h"
#include "tensor/dtype.h"
#include "tensor/ops.h"

struct bench {
    struct fake_device fake;
    struct sh_ggmlrpc_server *server;
    pthread_t thread; /* of run(), where there is a listener */
    bool listens;
};

static void *run_server(void *arg)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_ggmlrpc_server_run(arg, &err)) fail_msg("%s", err.message);
    return NULL;
}

static void bench_open(struct bench *b, const struct sh_ggmlrpc_server_options *with)
{
    struct sh_ggmlrpc_server_options opt = {.log_lines_max = 100000};
    struct shoal_error err = SHOAL_ERROR_INIT;

    peer_log_begin();
    memset(b, 0, sizeof *b);
    fake_device_init(&b->fake);
    if (with) opt = *with;
    opt.device = fake_device_of(&b->fake);
    if (sh_ggmlrpc_server_create(&b->server, &opt, &err)) fail_msg("%s", err.message);
    b->listens = opt.listen != NULL;
    if (b->listens) assert_int_equal(pthread_create(&b->thread, NULL, run_server, b->server), 0);
}

/* Nothing of any client may be left. */
static void bench_close(struct bench *b)
{
    struct sh_ggmlrpc_server_stats stats;

    if (b->listens) {
        sh_ggmlrpc_server_stop(b->server);
        assert_int_equal(pthread_join(b->thread, NULL), 0);
    }
    sh_ggmlrpc_server_stats(b->server, &stats);
    assert_int_equal(stats.n_connections, 0);
    assert_int_equal(stats.memory_used, 0);
    sh_ggmlrpc_server_destroy(b->server);
    assert_int_equal(b->fake.n_buffers, 0);
    assert_int_equal(b->fake.n_execs, 0);
    assert_int_equal(b->fake.n_queues, 0);
    fake_device_release(&b->fake);
}

/* The server notices ends in its own time. */
static void await_connections(struct sh_ggmlrpc_server *server, int n)
{
    struct sh_ggmlrpc_server_stats stats;

    do {
        (void)sched_yield();
        sh_ggmlrpc_server_stats(server, &stats);
    } while (stats.n_connections > n);
    assert_int_equal(stats.n_connections, n);
}

static uint64_t ask_value(struct peer *p, enum sh_wire_command c, struct sh_wire_request *rq)
{
    struct sh_wire_answer a = {.value = 0};

    peer_send(p, c, rq, NULL, 0);
    peer_answer(p, c, &a);
    return a.value;
}

/* An allocation that is refused: both numbers are 0. */
static void expect_refused(struct peer *p, uint64_t bytes)
{
    const struct sh_wire_request rq = {.size = bytes};
    struct sh_wire_answer a = {.buffer = 1};

    peer_send(p, SH_WIRE_ALLOC_BUFFER, &rq, NULL, 0);
    peer_answer(p, SH_WIRE_ALLOC_BUFFER, &a);
    assert_true(a.buffer == 0);
    assert_true(a.value == 0);
}

/* ---- questions, memory ----------------------------------------------------------------------*/

static void server__answers_what_clients_ask(void **state)
{
    const struct sh_ggmlrpc_server_options opt = {.memory_max = 10000};
    struct sh_wire_request rq = {.device = 0};
    struct sh_wire_answer a = {.value = 0};
    struct peer_buffer buf;
    struct bench b;
    struct peer p;

    (void)state;
    bench_open(&b, &opt);
    peer_open(&p, b.server);
    peer_hello(&p);
    assert_int_equal(ask_value(&p, SH_WIRE_DEVICE_COUNT, &rq), 1);
    assert_int_equal(ask_value(&p, SH_WIRE_GET_ALIGNMENT, &rq), 32);
    assert_true(ask_value(&p, SH_WIRE_GET_MAX_SIZE, &rq) >= (UINT64_C(1) << 40));
    peer_alloc(&p, 3000, &buf);
    assert_int_equal(buf.base % 32, 0);
    peer_send(&p, SH_WIRE_GET_DEVICE_MEMORY, &rq, NULL, 0);
    peer_answer(&p, SH_WIRE_GET_DEVICE_MEMORY, &a);
    assert_int_equal(a.memory_free, 7000);
    assert_int_equal(a.memory_total, 10000);
    rq.tensor = peer_tensor(&buf, 0, SH_DTYPE_Q4_0, 64, 3);
    rq.tensor.buffer = 99; // places are ignored here
    assert_int_equal(ask_value(&p, SH_WIRE_GET_ALLOC_SIZE, &rq), 64 / 32 * 18 * 3);
    assert_int_equal(peer_end(&p), SHOAL_OK);
    bench_close(&b);
}

static void server__addresses_are_made_up(void **state)
{
    struct peer_buffer buf[3];
    struct bench b;
    struct peer p;

    (void)state;
    bench_open(&b, NULL);
    peer_open(&p, b.server);
    peer_hello(&p);
    for (int i = 0; i < 3; i++) {
        peer_alloc(&p, 100, &buf[i]);
        assert_true(buf[i].base == (uint64_t)(i + 1) << 40);
        for (int k = 0; k < i; k++)
            assert_true(buf[i].token != buf[k].token);
    }
    assert_int_equal(peer_end(&p), SHOAL_OK);
    bench_close(&b);
}

static void server__memory_is_zeroed_and_limited(void **state)
{
    const struct sh_ggmlrpc_server_options opt = {.memory_max = 10000, .buffers_max = 3};
    struct peer_buffer buf, other;
    uint8_t bytes[64], zeros[64] = {0};
    struct bench b;
    struct peer p, q;

    (void)state;
    bench_open(&b, &opt);
    peer_open(&p, b.server);
    peer_hello(&p);
    peer_open(&q, b.server);
    peer_hello(&q);
    expect_refused(&p, 0);
    expect_refused(&p, 10001);
    expect_refused(&p, UINT64_MAX);
    peer_alloc(&p, 6000, &buf);
    memset(bytes, 7, sizeof bytes);
    peer_set(&p, &buf, 0, bytes, sizeof bytes);
    expect_refused(&q, 4001); // the limit is for all clients together
    peer_alloc(&q, 4000, &other);
    peer_get(&q, &other, 0, bytes, sizeof bytes);
    assert_memory_equal(bytes, zeros, sizeof bytes);
    assert_int_equal(peer_end(&p), SHOAL_OK);
    peer_alloc(&q, 6000, &other); // what the first had is free again
    peer_get(&q, &other, 0, bytes, sizeof bytes);
    assert_memory_equal(bytes, zeros, sizeof bytes);
    assert_int_equal(peer_end(&q), SHOAL_OK);

    peer_open(&p, b.server);
    peer_hello(&p);
    for (int i = 0; i < 3; i++)
        peer_alloc(&p, 10, &buf);
    expect_refused(&p, 10);
    assert_int_equal(peer_end(&p), SHOAL_OK);
    bench_close(&b);
}

static void server__a_token_is_good_on_its_own_connection_only(void **state)
{
    struct sh_wire_request rq = {.device = 0};
    struct peer_buffer buf, other;
    struct bench b;
    struct peer p, q;

    (void)state;
    bench_open(&b, NULL);
    peer_open(&p, b.server);
    peer_hello(&p);
    peer_alloc(&p, 100, &buf);
    peer_open(&q, b.server);
    peer_hello(&q);
    peer_alloc(&q, 100, &other);
    rq.buffer = buf.token;
    peer_send(&q, SH_WIRE_BUFFER_GET_BASE, &rq, NULL, 0);
    assert_int_equal(peer_expect_end(&q), SHOAL_ERR_FORMAT);
    rq.buffer = buf.token;
    assert_true(ask_value(&p, SH_WIRE_BUFFER_GET_BASE, &rq) == buf.base);
    assert_int_equal(peer_end(&p), SHOAL_OK);
    bench_close(&b);
}

/* ---- data -----------------------------------------------------------------------------------*/

static void server__moves_data_in_pieces_of_any_size(void **state)
{
    static const size_t sizes[] = {1, 63, 65535, 65536, 1 << 20, (1 << 20) + 1, (7 << 20) + 12345};
    const size_t room = (size_t)8 << 20;
    uint8_t *in = sh_malloc(room), *out = sh_malloc(room);
    struct peer_buffer buf;
    struct bench b;
    struct peer p;

    (void)state;
    bench_open(&b, NULL);
    peer_open(&p, b.server);
    peer_hello(&p);
    peer_alloc(&p, room, &buf);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t k = 0; k < sizes[i]; k++)
            in[k] = (uint8_t)(k * 31 + k / 257 + i);
        peer_set(&p, &buf, 17 * i, in, sizes[i]);
        memset(out, 0, sizes[i]);
        peer_get(&p, &buf, 17 * i, out, sizes[i]);
        assert_memory_equal(in, out, sizes[i]);
    }
    assert_int_equal(peer_end(&p), SHOAL_OK);
    bench_close(&b);
    sh_free(in);
    sh_free(out);
}

static void server__clears_sets_copies_and_hashes(void **state)
{
    struct sh_wire_request rq = {.device = 0};
    struct sh_wire_answer a = {.result = 9};
    struct peer_buffer buf;
    uint8_t out[256], header[8];
    struct bench b;
    struct peer p;

    (void)state;
    bench_open(&b, NULL);
    peer_open(&p, b.server);
    peer_hello(&p);
    peer_alloc(&p, 256, &buf);
    rq.buffer = buf.token;
    rq.value = 0xaa;
    peer_send(&p, SH_WIRE_BUFFER_CLEAR, &rq, NULL, 0);
    rq.tensor = peer_tensor(&buf, 16, SH_DTYPE_I8, 32, 1);
    rq.offset = 8;
    rq.size = 4;
    rq.value = 0x55;
    peer_send(&p, SH_WIRE_MEMSET_TENSOR, &rq, NULL, 0);
    rq.tensor = peer_tensor(&buf, 16, SH_DTYPE_I8, 64, 1);
    rq.dst = peer_tensor(&buf, 128, SH_DTYPE_I8, 64, 1);
    peer_send(&p, SH_WIRE_COPY_TENSOR, &rq, NULL, 0);
    peer_answer(&p, SH_WIRE_COPY_TENSOR, &a);
    assert_int_equal(a.result, 1);
    peer_get(&p, &buf, 0, out, sizeof out);
    for (int i = 0; i < 256; i++) {
        const bool set = (i >= 24 && i < 28) || (i >= 136 && i < 140);
        assert_int_equal(out[i], set ? 0x55 : 0xaa);
    }
    rq.dst.data = rq.tensor.data + 1; // onto itself: left to the client
    peer_send(&p, SH_WIRE_COPY_TENSOR, &rq, NULL, 0);
    peer_answer(&p, SH_WIRE_COPY_TENSOR, &a);
    assert_int_equal(a.result, 0);
    rq.offset = 0;
    a.result = 9;
    peer_send(&p, SH_WIRE_SET_TENSOR_HASH, &rq, NULL, 0);
    peer_answer(&p, SH_WIRE_SET_TENSOR_HASH, &a);
    assert_int_equal(a.result, 0);
    peer_send(&p, SH_WIRE_INIT_TENSOR, &rq, NULL, 0);
    rq.size = 0; // legal: an empty answer
    peer_send(&p, SH_WIRE_GET_TENSOR, &rq, NULL, 0);
    peer_receive(&p, header, sizeof header);
    for (int i = 0; i < 8; i++)
        assert_int_equal(header[i], 0);
    assert_int_equal(peer_end(&p), SHOAL_OK);
    bench_close(&b);
}

static void server__many_questions_at_once_are_answered_in_order(void **state)
{
    enum { N = 2000 };
    struct sh_wire_request rq = {.size = 4};
    struct peer_buffer buf;
    struct bench b;
    struct peer p;

    (void)state;
    bench_open(&b, NULL);
    peer_open(&p, b.server);
    peer_hello(&p);
    peer_alloc(&p, 4 * N, &buf);
    for (uint32_t i = 0; i < N; i++)
        peer_set(&p, &buf, (size_t)4 * i, &i, 4);
    for (uint32_t i = 0; i < N / 4; i++) { // as many as fit into the stream while nobody reads
        rq.tensor = peer_tensor(&buf, (size_t)4 * i, SH_DTYPE_I32, 1, 1);
        peer_send(&p, SH_WIRE_GET_TENSOR, &rq, NULL, 0);
    }
    for (uint32_t i = 0; i < N / 4; i++) {
        uint8_t answer[12];
        uint32_t v;
        peer_receive(&p, answer, sizeof answer);
        memcpy(&v, answer + 8, 4);
        assert_int_equal(answer[0], 4);
        assert_int_equal(v, i);
    }
    assert_int_equal(peer_end(&p), SHOAL_OK);
    bench_close(&b);
}

/* ---- graphs ---------------------------------------------------------------------------------*/

static void recompute(struct peer *p)
{
    const struct sh_wire_request rq = {.device = 0};

    peer_send(p, SH_WIRE_GRAPH_RECOMPUTE, &rq, NULL, 0);
}

static void sync_peer(struct peer *p)
{
    struct sh_wire_request rq = {.device = 0};

    assert_int_equal(ask_value(p, SH_WIRE_DEVICE_COUNT, &rq), 1);
}

static void server__prepares_a_graph_once_however_often_it_comes(void **state)
{
    struct peer_graph g[12];
    struct peer_buffer buf;
    struct bench b;
    struct peer p;

    (void)state;
    bench_open(&b, NULL);
    peer_open(&p, b.server);
    peer_hello(&p);
    peer_alloc(&p, 4096, &buf);
    for (uint32_t i = 0; i < 12; i++)
        peer_graph_add(&g[i], &buf, 4 + i);
    peer_compute(&p, &g[0]);
    peer_compute(&p, &g[1]);
    peer_compute(&p, &g[0]);
    recompute(&p);
    sync_peer(&p);
    assert_int_equal(b.fake.n_prepared, 2);
    assert_int_equal(b.fake.n_runs, 4);
    for (int i = 0; i < 12; i++) // more than are kept
        peer_compute(&p, &g[i]);
    peer_compute(&p, &g[11]);
    sync_peer(&p);
    assert_int_equal(b.fake.n_prepared, 12);
    assert_true(b.fake.n_execs < 12);
    assert_int_equal(peer_end(&p), SHOAL_OK);
    bench_close(&b);
}

static void server__freeing_a_buffer_drops_its_graphs_only(void **state)
{
    struct sh_wire_request rq = {.device = 0};
    struct peer_buffer buf[2];
    struct peer_graph g;
    struct bench b;
    struct peer p;

    (void)state;
    bench_open(&b, NULL);
    peer_open(&p, b.server);
    peer_hello(&p);
    peer_alloc(&p, 4096, &buf[0]);
    peer_alloc(&p, 4096, &buf[1]);
    peer_graph_add(&g, &buf[0], 4);
    peer_compute(&p, &g);
    rq.buffer = buf[1].token;
    peer_send(&p, SH_WIRE_FREE_BUFFER, &rq, NULL, 0);
    recompute(&p); // a buffer that it does not use
    sync_peer(&p);
    assert_int_equal(b.fake.n_runs, 2);
    rq.buffer = buf[0].token;
    peer_send(&p, SH_WIRE_FREE_BUFFER, &rq, NULL, 0);
    sync_peer(&p);
    assert_int_equal(b.fake.n_execs, 0);
    recompute(&p);
    assert_int_equal(peer_expect_end(&p), SHOAL_ERR_FORMAT);
    bench_close(&b);
}

/* Skipped nodes, views and records of other servers are no work and no error. */
static void server__runs_only_what_computes(void **state)
{
    struct peer_buffer buf;
    struct peer_graph g;
    struct bench b;
    struct peer p;

    (void)state;
    bench_open(&b, NULL);
    peer_open(&p, b.server);
    peer_hello(&p);
    peer_alloc(&p, 4096, &buf);
    peer_graph_add(&g, &buf, 4);
    g.records[3] = peer_tensor(&buf, 0, SH_DTYPE_F32, 4, 1); // a node of another server
    g.records[3].id = 50;
    g.records[3].buffer = g.records[3].data = 0;
    g.records[3].op = 36;
    g.records[3].flags = SH_WIRE_FLAG_COMPUTE;
    g.records[4] = g.records[2]; // skipped: no COMPUTE, and an op that is unknown here
    g.records[4].id = 51;
    g.records[4].op = 77;
    g.records[4].flags = 0;
    g.records[5] = g.records[3]; // an earlier result of another server: not listed
    g.records[5].id = 52;
    g.records[5].op = 76;
    g.records[5].src[2] = 50;
    g.n_records = 6;
    g.nodes[1] = 50;
    g.nodes[2] = 51;
    g.n_nodes = 3;
    peer_compute(&p, &g);
    sync_peer(&p);
    assert_int_equal(b.fake.n_runs, 1);
    assert_int_equal(peer_end(&p), SHOAL_OK);
    bench_close(&b);
}

/* Conversions name themselves; targets of writes are views of views. */
static void server__takes_conversions_and_writes_through_views(void **state)
{
    struct peer_buffer buf;
    struct peer_graph g;
    struct bench b;
    struct peer p;

    (void)state;
    bench_open(&b, NULL);
    peer_open(&p, b.server);
    peer_hello(&p);
    peer_alloc(&p, 4096, &buf);
    memset(&g, 0, sizeof g);
    g.records[0] = peer_tensor(&buf, 0, SH_DTYPE_F32, 16, 1);
    g.records[1] = peer_tensor(&buf, 256, SH_DTYPE_F16, 16, 1); // cast of it
    g.records[1].op = 34;
    g.records[1].src[0] = 1;
    g.records[1].src[1] = 2;
    g.records[2] = peer_tensor(&buf, 1024, SH_DTYPE_F16, 16, 8);      // a cache
    g.records[3] = peer_tensor(&buf, 1024 + 64, SH_DTYPE_F16, 16, 4); // two rows into it
    g.records[3].op = 37;
    g.records[3].src[0] = 3;
    g.records[3].view_src = 3;
    g.records[3].view_offs = 64;
    g.records[4] = peer_tensor(&buf, 512, SH_DTYPE_I64, 1, 1); // row number
    g.records[5] = g.records[3]; // SET_ROWS of the float row into the view
    g.records[5].op = 42;
    g.records[5].src[0] = 1;
    g.records[5].src[1] = 5;
    g.records[5].src[2] = 4;
    g.records[6] = g.records[5]; // and again into that result
    g.records[6].src[2] = 6;
    for (uint64_t i = 0; i < 7; i++) {
        g.records[i].id = i + 1;
        g.records[i].flags = g.records[i].op ? SH_WIRE_FLAG_COMPUTE : 0;
        if (g.records[i].op) g.nodes[g.n_nodes++] = i + 1;
    }
    g.n_records = 7;
    peer_compute(&p, &g);
    sync_peer(&p);
    assert_int_equal(b.fake.n_runs, 1);
    assert_int_equal(peer_end(&p), SHOAL_OK);
    bench_close(&b);
}

/* ---- coming and going -----------------------------------------------------------------------*/

static void server__a_run_of_a_vanished_client_is_cancelled(void **state)
{
    struct sh_wire_request rq = {.size = 4};
    struct peer_buffer buf;
    struct peer_graph g;
    struct bench b;
    struct peer p;

    (void)state;
    bench_open(&b, NULL);
    fake_device_set_gate(&b.fake, false);
    peer_open(&p, b.server);
    peer_hello(&p);
    peer_alloc(&p, 4096, &buf);
    peer_graph_add(&g, &buf, 4);
    peer_compute(&p, &g);
    rq.tensor = peer_tensor(&buf, 0, SH_DTYPE_F32, 1, 1);
    peer_send(&p, SH_WIRE_GET_TENSOR, &rq, NULL, 0);
    fake_device_await(&b.fake, &b.fake.n_runs, 1);
    (void)peer_end(&p); // returns although the gate is shut
    assert_int_equal(b.fake.n_cancelled, 1);
    bench_close(&b);
}

static void server__a_graph_may_not_run_for_ever(void **state)
{
    const struct sh_ggmlrpc_server_options opt = {.graph_ns = 20 * SH_MS};
    struct sh_wire_request rq = {.size = 4};
    struct peer_buffer buf;
    struct peer_graph g;
    struct bench b;
    struct peer p;

    (void)state;
    bench_open(&b, &opt);
    fake_device_set_gate(&b.fake, false);
    peer_open(&p, b.server);
    peer_hello(&p);
    peer_alloc(&p, 4096, &buf);
    peer_graph_add(&g, &buf, 4);
    peer_compute(&p, &g);
    rq.tensor = peer_tensor(&buf, 0, SH_DTYPE_F32, 1, 1);
    peer_send(&p, SH_WIRE_GET_TENSOR, &rq, NULL, 0);
    assert_int_equal(peer_expect_end(&p), SHOAL_ERR_TIMEOUT);
    assert_int_equal(b.fake.n_cancelled, 1);
    bench_close(&b);
}

static void server__a_failed_run_ends_its_client_alone(void **state)
{
    struct sh_wire_request rq = {.size = 4};
    struct peer_buffer buf;
    struct peer_graph g;
    struct bench b;
    struct peer p, q;
    char lines[4096];

    (void)state;
    bench_open(&b, NULL);
    b.fake.fail_runs = true;
    peer_open(&q, b.server);
    peer_hello(&q);
    peer_open(&p, b.server);
    peer_hello(&p);
    peer_alloc(&p, 4096, &buf);
    peer_graph_add(&g, &buf, 4);
    (void)peer_log_take(lines, sizeof lines);
    peer_compute(&p, &g);
    rq.tensor = peer_tensor(&buf, 0, SH_DTYPE_F32, 1, 1);
    peer_send(&p, SH_WIRE_GET_TENSOR, &rq, NULL, 0);
    assert_int_equal(peer_expect_end(&p), SHOAL_ERR_FORMAT);
    assert_int_equal(peer_log_take(lines, sizeof lines), 1);
    assert_non_null(strstr(lines, "reads row 99"));
    sync_peer(&q);
    assert_int_equal(peer_end(&q), SHOAL_OK);
    bench_close(&b);
}

/* A client that asks for much, reads nothing and leaves: no signal may end the process. */
static void server__a_client_that_reads_nothing_is_let_go(void **state)
{
    const struct sh_ggmlrpc_server_options opt = {.listen = "127.0.0.1:0", .stall_ns = 200 * SH_MS};
    struct sh_wire_request rq = {.size = 1 << 20};
    struct peer_buffer buf;
    struct bench b;
    struct peer p;

    (void)state;
    bench_open(&b, &opt);
    for (int round = 0; round < 2; round++) {
        peer_connect(&p, sh_ggmlrpc_server_address(b.server));
        peer_hello(&p);
        peer_alloc(&p, 1 << 20, &buf);
        rq.tensor = peer_tensor(&buf, 0, SH_DTYPE_I8, 1 << 20, 1);
        for (int i = 0; i < 64; i++)
            peer_send(&p, SH_WIRE_GET_TENSOR, &rq, NULL, 0);
        if (round == 1) {
            await_connections(b.server, 0); // still connected, and still not reading
        }
        (void)peer_end(&p);
    }
    bench_close(&b);
}

static void server__limits_connections_per_host(void **state)
{
    const struct sh_ggmlrpc_server_options opt = {.listen = "127.0.0.1:0", .per_address_max = 2};
    struct bench b;
    struct peer p[3];

    (void)state;
    bench_open(&b, &opt);
    for (int i = 0; i < 2; i++) {
        peer_connect(&p[i], sh_ggmlrpc_server_address(b.server));
        peer_hello(&p[i]);
    }
    peer_connect(&p[2], sh_ggmlrpc_server_address(b.server));
    (void)peer_expect_end(&p[2]);
    (void)peer_end(&p[0]);
    await_connections(b.server, 1);
    peer_connect(&p[2], sh_ggmlrpc_server_address(b.server));
    peer_hello(&p[2]);
    (void)peer_end(&p[2]);
    (void)peer_end(&p[1]);
    bench_close(&b);
}

static void server__a_silent_connection_is_closed_before_its_greeting_only(void **state)
{
    const struct sh_ggmlrpc_server_options opt = {.hello_ns = 200 * SH_MS};
    struct sh_pace longer = sh_pace_rate(300 * SH_MS, SH_NO_DEADLINE, 0);
    struct bench b;
    struct peer p;
    uint8_t byte;
    size_t got;

    (void)state;
    bench_open(&b, &opt);
    peer_open(&p, b.server);
    assert_int_equal(peer_expect_end(&p), SHOAL_ERR_TIMEOUT);
    peer_open(&p, b.server);
    peer_hello(&p);
    sh_pace_start(&longer, sh_now_ns(&sh_clock_system));
    assert_int_equal(sh_stream_read_some(p.s, &byte, 1, &longer, &got, NULL), SHOAL_ERR_TIMEOUT);
    sync_peer(&p);
    assert_int_equal(peer_end(&p), SHOAL_OK);
    bench_close(&b);
}

static void server__stopping_lets_a_running_step_finish(void **state)
{
    const struct sh_ggmlrpc_server_options opt = {.listen = "127.0.0.1:0",
                                                  .drain_ns = 20 * SH_SECOND};
    struct sh_wire_request rq = {.size = 4};
    struct peer_buffer buf;
    struct peer_graph g;
    struct bench b;
    struct peer p, idle;
    uint8_t answer[12];

    (void)state;
    bench_open(&b, &opt);
    fake_device_set_gate(&b.fake, false);
    peer_connect(&idle, sh_ggmlrpc_server_address(b.server));
    peer_hello(&idle);
    peer_connect(&p, sh_ggmlrpc_server_address(b.server));
    peer_hello(&p);
    peer_alloc(&p, 4096, &buf);
    peer_graph_add(&g, &buf, 4);
    peer_compute(&p, &g);
    fake_device_await(&b.fake, &b.fake.n_runs, 1);
    sh_ggmlrpc_server_stop(b.server);
    (void)peer_expect_end(&idle);
    await_connections(b.server, 1); // the other still waits for its result
    rq.tensor = peer_tensor(&buf, 0, SH_DTYPE_F32, 1, 1);
    peer_send(&p, SH_WIRE_GET_TENSOR, &rq, NULL, 0);
    fake_device_set_gate(&b.fake, true);
    peer_receive(&p, answer, sizeof answer);
    assert_int_equal(answer[0], 4);
    (void)peer_expect_end(&p);
    assert_int_equal(b.fake.n_cancelled, 0);
    bench_close(&b);
}

static void server__stopping_does_not_wait_for_ever(void **state)
{
    const struct sh_ggmlrpc_server_options opt = {.listen = "127.0.0.1:0", .drain_ns = 20 * SH_MS};
    struct peer_buffer buf;
    struct peer_graph g;
    struct bench b;
    struct peer p;

    (void)state;
    bench_open(&b, &opt);
    fake_device_set_gate(&b.fake, false);
    peer_connect(&p, sh_ggmlrpc_server_address(b.server));
    peer_hello(&p);
    peer_alloc(&p, 4096, &buf);
    peer_graph_add(&g, &buf, 4);
    peer_compute(&p, &g);
    fake_device_await(&b.fake, &b.fake.n_runs, 1);
    sh_ggmlrpc_server_stop(b.server);
    (void)peer_expect_end(&p);
    bench_close(&b);
}

static void server__listens_on_loopback_unless_told_otherwise(void **state)
{
    struct sh_ggmlrpc_server_options opt = {.listen = "0.0.0.0:0"};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_ggmlrpc_server *s;
    struct fake_device fake;

    (void)state;
    fake_device_init(&fake);
    opt.device = fake_device_of(&fake);
    assert_int_equal(sh_ggmlrpc_server_create(&s, &opt, &err), SHOAL_ERR_ARG);
    assert_null(s);
    assert_non_null(strstr(err.message, "--listen 0.0.0.0:0 --insecure"));
    opt.allow_remote = true;
    assert_int_equal(sh_ggmlrpc_server_create(&s, &opt, &err), SHOAL_OK);
    assert_non_null(strstr(sh_ggmlrpc_server_address(s), "0.0.0.0:"));
    sh_ggmlrpc_server_destroy(s);
    fake_device_release(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(server__answers_what_clients_ask),
        cmocka_unit_test(server__addresses_are_made_up),
        cmocka_unit_test(server__memory_is_zeroed_and_limited),
        cmocka_unit_test(server__a_token_is_good_on_its_own_connection_only),
        cmocka_unit_test(server__moves_data_in_pieces_of_any_size),
        cmocka_unit_test(server__clears_sets_copies_and_hashes),
        cmocka_unit_test(server__many_questions_at_once_are_answered_in_order),
        cmocka_unit_test(server__prepares_a_graph_once_however_often_it_comes),
        cmocka_unit_test(server__freeing_a_buffer_drops_its_graphs_only),
        cmocka_unit_test(server__runs_only_what_computes),
        cmocka_unit_test(server__takes_conversions_and_writes_through_views),
        cmocka_unit_test(server__a_run_of_a_vanished_client_is_cancelled),
        cmocka_unit_test(server__a_graph_may_not_run_for_ever),
        cmocka_unit_test(server__a_failed_run_ends_its_client_alone),
        cmocka_unit_test(server__a_client_that_reads_nothing_is_let_go),
        cmocka_unit_test(server__limits_connections_per_host),
        cmocka_unit_test(server__a_silent_connection_is_closed_before_its_greeting_only),
        cmocka_unit_test(server__stopping_lets_a_running_step_finish),
        cmocka_unit_test(server__stopping_does_not_wait_for_ever),
        cmocka_unit_test(server__listens_on_loopback_unless_told_otherwise),
    };

    return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
