/* Random graphs as a client of the compatibility protocol sends them: encoded into records, whole
 * or with damaged bytes, to a server in this process over a stream in memory.
 *
 * A whole graph that runs here must run there and give the same bytes.  Of a damaged one nothing is
 * asked but that the server answers in order or ends the connection with a sentence, and that the
 * next client, who is honest, gets what he asked for; in the end the server holds no memory.
 *
 * report.h says how to repeat one seed.
 * test-options: timeout=200
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "ggmlrpc/graph.h"
#include "ggmlrpc/server.h"
#include "ggmlrpc/wire.h"
#include "net/stream.h"
#include "report.h"
#include "run.h"

#define N_SEEDS 1500
#define SMALL ((size_t)16 << 20) // all buffers of a graph that is sent
#define PATIENCE (60 * SH_SECOND)

static struct run_devices g_devices;
static struct gen_op_count g_counts[SH_OP_COUNT];
static struct {
    int64_t ran, refused;
} g_graphs[2]; // whole ones, damaged ones

/* ---- a client -------------------------------------------------------------------------------*/

struct client {
    struct sh_ggmlrpc_server *server;
    struct sh_stream *near, *far;
    pthread_t thread;
    bool lost; // the server has gone
    enum shoal_status st;
    struct shoal_error err;
    uint64_t tokens[GEN_BUFFERS_MAX], bases[GEN_BUFFERS_MAX];
};

static void *serve(void *arg)
{
    struct client *c = arg;

    c->st = sh_ggmlrpc_server_serve(c->server, c->far, &c->err);
    return NULL;
}

static void client_open(struct client *c, struct sh_ggmlrpc_server *server)
{
    memset(c, 0, sizeof *c);
    c->server = server;
    assert_int_equal(sh_stream_pair(&c->near, &c->far, (size_t)256 << 10, NULL), SHOAL_OK);
    assert_int_equal(pthread_create(&c->thread, NULL, serve, c), 0);
}

/* Why the server ended. */
static enum shoal_status client_close(struct client *c)
{
    sh_stream_close(c->near);
    assert_int_equal(pthread_join(c->thread, NULL), 0);
    return c->st;
}

static struct sh_pace patience(void)
{
    struct sh_pace p = sh_pace_until(sh_deadline_in(&sh_clock_system, PATIENCE));

    sh_pace_start(&p, sh_now_ns(&sh_clock_system));
    return p;
}

static void put(struct client *c, const void *bytes, size_t n)
{
    struct sh_pace pace = patience();

    if (!c->lost && n > 0) c->lost = sh_stream_write_full(c->near, bytes, n, &pace, NULL) != 0;
}

static void get(struct client *c, void *bytes, size_t n)
{
    struct sh_pace pace = patience();

    if (!c->lost && n > 0) c->lost = sh_stream_read_full(c->near, bytes, n, &pace, NULL) != 0;
}

static void ask(struct client *c, enum sh_wire_command command, const struct sh_wire_request *rq,
                const void *data, size_t n)
{
    uint8_t bytes[SH_WIRE_REQUEST_BYTES_MAX];
    struct sh_writer w = sh_writer_over(bytes, sizeof bytes);

    sh_wire_request_put(&w, command, rq, n);
    put(c, bytes, w.pos);
    put(c, data, n);
}

static struct sh_wire_answer answer(struct client *c, enum sh_wire_command command)
{
    uint8_t bytes[SH_WIRE_ANSWER_BYTES_MAX];
    struct sh_reader r = sh_reader_over(bytes, sizeof bytes);
    const size_t n = (size_t)sh_wire_command_info(command)->answer_bytes;
    struct sh_wire_answer a = {.value = 0};

    get(c, bytes, SH_WIRE_ANSWER_HEADER + n);
    if (c->lost) return a;
    assert_int_equal(sh_read_u64(&r), n);
    sh_wire_answer_get(&r, command, &a);
    return a;
}

/* A whole buffer as a tensor of bytes. */
static struct sh_wire_tensor all_of(const struct client *c, int32_t buffer, size_t bytes)
{
    return (struct sh_wire_tensor){.id = 1,
                                   .type = SH_DTYPE_I8,
                                   .buffer = c->tokens[buffer],
                                   .data = c->bases[buffer],
                                   .ne = {(uint32_t)bytes, 1, 1, 1},
                                   .nb = {1, (uint32_t)bytes, (uint32_t)bytes, (uint32_t)bytes}};
}

static size_t bytes_of(const struct gen *g, int32_t buffer)
{
    return g->buffers[buffer].bytes ? g->buffers[buffer].bytes : 64;
}

/* Bent shapes may be of any size. */
static bool is_small(const struct gen *g)
{
    size_t sum = 0;

    for (int32_t i = 0; i < g->n_buffers; i++) {
        if (!sh_add_ok(sum, bytes_of(g, i), &sum) || sum > SMALL) return false;
    }
    return true;
}

static void greet(struct client *c, const struct gen *g)
{
    struct sh_wire_request rq = {.device = 0};

    ask(c, SH_WIRE_HELLO, &rq, NULL, 0);
    assert_int_equal(answer(c, SH_WIRE_HELLO).major, SH_WIRE_MAJOR);
    for (int32_t i = 0; i < g->n_buffers; i++) {
        rq.size = bytes_of(g, i);
        ask(c, SH_WIRE_ALLOC_BUFFER, &rq, NULL, 0);
        rq.buffer = c->tokens[i] = answer(c, SH_WIRE_ALLOC_BUFFER).buffer;
        ask(c, SH_WIRE_BUFFER_GET_BASE, &rq, NULL, 0);
        c->bases[i] = answer(c, SH_WIRE_BUFFER_GET_BASE).value;
        assert_true(c->lost || (c->tokens[i] && c->bases[i]));
    }
}

/* What the buffers hold before the run. */
static void send_leaves(struct client *c, const struct gen *g, uint64_t seed)
{
    uint8_t *images[GEN_BUFFERS_MAX];

    for (int32_t i = 0; i < g->n_buffers; i++)
        images[i] = sh_calloc(1, bytes_of(g, i));
    for (int i = 0; i < g->n_leaves; i++) {
        const struct sh_tensor *t = gen_at(g, g->leaves[i].tensor);
        uint8_t *bytes = gen_fill(g, &g->leaves[i], seed);
        size_t n = 0;
        if (sh_tensor_bytes(t, &n)) memcpy(images[t->buffer] + t->offset, bytes, n);
        sh_free(bytes);
    }
    for (int32_t i = 0; i < g->n_buffers; i++) {
        const struct sh_wire_request rq = {.tensor = all_of(c, i, bytes_of(g, i))};
        ask(c, SH_WIRE_SET_TENSOR, &rq, images[i], bytes_of(g, i));
        sh_free(images[i]);
    }
}

/* The buffers into o. */
static void fetch_results(struct client *c, const struct gen *g, struct run_outcome *o)
{
    o->n_buffers = g->n_buffers;
    o->buffers = sh_calloc((size_t)g->n_buffers, sizeof *o->buffers);
    o->n_tensors = g->g.n_tensors;
    o->outputs = sh_calloc((size_t)g->g.n_tensors, sizeof *o->outputs);
    for (int32_t i = 0; i < g->n_buffers; i++) {
        const size_t n = bytes_of(g, i);
        const struct sh_wire_request rq = {.tensor = all_of(c, i, n), .size = n};
        uint8_t header[SH_WIRE_ANSWER_HEADER];
        o->buffers[i] = sh_calloc(1, n);
        ask(c, SH_WIRE_GET_TENSOR, &rq, NULL, 0);
        get(c, header, sizeof header);
        get(c, o->buffers[i], n);
    }
}

/* ---- damage ---------------------------------------------------------------------------------*/

static void write_le(uint8_t *p, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t odd_number(struct gen *g, uint64_t now)
{
    static const uint64_t odd[] = {0, 1, 2, 3, 4, 64, 0x7fffffff, 0x80000000, 0xffffffff};

    switch (gen_below(g, 4)) {
    case 0:
        return now + 1;
    case 1:
        return now - 1;
    case 2:
        return now ^ UINT64_C(1) << gen_below(g, 64);
    default:
        return odd[gen_below(g, sizeof odd / sizeof *odd)];
    }
}

/* One field of one record gets another value. */
static void break_field(struct gen *g, uint8_t *record)
{
    static const struct {
        size_t at, bytes;
        int n;
    } fields[] = {{0, 8, 1},   {8, 4, 1},   {12, 8, 1},   {20, 4, 4},  {36, 4, 4},
                  {52, 4, 1},  {56, 4, 16}, {120, 4, 1},  {124, 8, 3}, {204, 8, 1},
                  {212, 8, 1}, {220, 8, 1}, {124, 8, 10}, {36, 4, 4},  {20, 4, 4}};
    const size_t f = (size_t)gen_below(g, sizeof fields / sizeof *fields);
    uint8_t *p = record + fields[f].at + fields[f].bytes * (size_t)gen_below(g, fields[f].n);
    uint64_t now = 0;

    for (size_t i = 0; i < fields[f].bytes; i++)
        now |= (uint64_t)p[i] << 8 * i;
    write_le(p, odd_number(g, now), fields[f].bytes);
}

/* The payload behind header and device: N, ids, T, records. */
static void break_payload(struct gen *g, uint8_t *bytes, size_t n)
{
    const size_t start = SH_WIRE_REQUEST_HEADER, ids = start + 8;
    const size_t records = ids + 8 * (size_t)g->g.n_nodes + 4;
    const int times = 1 + (int)gen_below(g, gen_chance(g, 70) ? 1 : 4);

    g->damaged = true;
    for (int i = 0; i < times; i++) {
        const int32_t t = (int32_t)gen_below(g, g->g.n_tensors);
        if (g->g.n_tensors > 0 && gen_chance(g, 80)) {
            break_field(g, bytes + records + (size_t)t * SH_WIRE_TENSOR_BYTES);
        } else {
            bytes[start + (size_t)gen_below(g, (int64_t)(n - start))] ^=
                (uint8_t)(1 << gen_below(g, 8));
        }
    }
    (void)snprintf(g->what, sizeof g->what, "damaged bytes of records");
}

/* ---- one seed -------------------------------------------------------------------------------*/

/* The request, or NULL where the protocol cannot say it. */
static uint8_t *encode(const struct client *c, const struct gen *g, size_t *n)
{
    struct sh_wire_spot *spots = sh_calloc((size_t)g->g.n_tensors + 1, sizeof *spots);
    uint8_t *bytes = NULL;

    for (int32_t i = 0; i < g->g.n_tensors; i++) {
        const struct sh_tensor *t = gen_at(g, i);
        spots[i] = (struct sh_wire_spot){c->tokens[t->buffer], c->bases[t->buffer] + t->offset};
    }
    if (sh_wire_graph_encode(&bytes, n, &g->g, 0, spots, NULL)) bytes = NULL;
    sh_free(spots);
    return bytes;
}

static void judge(struct gen *g, const struct client *c, const struct run_outcome *here,
                  const struct run_outcome *there)
{
    char why[256] = "";

    if (c->st && (!c->err.message[0] || c->err.code != c->st)) {
        report_failure(g, "the server ended with %d, said as %d: \"%s\"", (int)c->st,
                       (int)c->err.code, c->err.message);
    }
    if (c->lost && !c->st) report_failure(g, "the server ended without a reason");
    if (g->damaged || here->st) return;
    if (c->st) {
        report_failure(g, "the server refused what runs here: %s", c->err.message);
    } else if (!g->hot && !run_equal(g, here, g, there, why, sizeof why)) {
        report_failure(g, "over the wire: %s", why);
    }
}

static void run_seed(struct sh_ggmlrpc_server *server, uint64_t seed)
{
    const struct run_way way = {.device = g_devices.n - 1};
    const struct sh_wire_request again = {.device = 0};
    struct run_outcome here, there = {.st = SHOAL_OK};
    struct client c;
    struct gen g;
    uint8_t *bytes;
    size_t n = 0;

    gen_graph(&g, seed, true, g_counts);
    gen_place(&g);
    report_begin(seed, &g);
    if (!is_small(&g)) {
        gen_release(&g);
        return;
    }
    run_graph(&g, &g_devices, way, seed, &here);
    client_open(&c, server);
    greet(&c, &g);
    send_leaves(&c, &g, seed);
    bytes = encode(&c, &g, &n);
    if (bytes) {
        if (gen_chance(&g, 60)) break_payload(&g, bytes, n);
        put(&c, bytes, n);
        if (g.damaged && gen_chance(&g, 30)) ask(&c, SH_WIRE_GRAPH_RECOMPUTE, &again, NULL, 0);
        fetch_results(&c, &g, &there);
    }
    (void)client_close(&c);
    if (bytes) {
        judge(&g, &c, &here, &there);
        if (c.st)
            g_graphs[g.damaged].refused++;
        else
            g_graphs[g.damaged].ran++;
    }
    sh_free(bytes);
    run_release(&here);
    run_release(&there);
    gen_release(&g);
}

static void wire__graphs_run_or_are_refused(void **state)
{
    struct sh_ggmlrpc_server_options opt = {.memory_max = (size_t)64 << 20};
    struct sh_ggmlrpc_server *server = NULL;
    struct sh_ggmlrpc_server_stats stats;
    uint64_t seed;
    int64_t n = 0;

    (void)state;
    report_install("tests/generate/wire_test"); // here: cmocka takes the signals before each test
    assert_true(run_open(&g_devices));
    opt.device = g_devices.at[g_devices.n - 1].d;
    assert_int_equal(sh_ggmlrpc_server_create(&server, &opt, NULL), SHOAL_OK);
    while (report_next(1, N_SEEDS, &n, &seed))
        run_seed(server, seed);
    for (int i = 0; i < 2; i++) {
        print_message("%s: %lld refused, %lld ran\n", i ? "damaged" : "whole",
                      (long long)g_graphs[i].refused, (long long)g_graphs[i].ran);
    }
    sh_ggmlrpc_server_stats(server, &stats);
    assert_int_equal(stats.n_connections, 0);
    assert_int_equal(stats.memory_used, 0);
    sh_ggmlrpc_server_destroy(server);
    run_close(&g_devices);
    assert_int_equal(report_failures(), 0);
    assert_int_equal(sh_mem_live_bytes(), 0);
    if (!report_is_whole()) return;
    for (int i = 0; i < 2; i++) // else nothing was tested
        assert_true(g_graphs[i].refused > 10 && g_graphs[i].ran > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(wire__graphs_run_or_are_refused)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
