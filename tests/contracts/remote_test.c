/* tests/contracts/remote_test.c - a model over servers that speak llama.cpp's protocol, on
 * loopback.
 *
 * Each server is a CPU device behind a TCP socket of its own, in a thread of this process; the host
 * is the one that `shoal run --rpc` uses.  Checked: the logits keep their bits over 1, 2 and 3
 * servers and with the local device among them; and what a decoded token costs on the wire.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/thread.h"
#include "cpu/device.h"
#include "ggmlrpc/server.h"
#include "host/host.h"
#include "support/rig.h"

enum { SERVERS_MAX = 3 };

struct server {
    struct sh_device *device;
    struct sh_ggmlrpc_server *server;
    struct sh_thread thread;
};

static struct shoal_error err;

static void *serve(void *arg)
{
    struct server *s = arg;
    struct shoal_error e = SHOAL_ERROR_INIT;

    return sh_ggmlrpc_server_run(s->server, &e) ? s : NULL;
}

static void start(struct server *s)
{
    const struct sh_cpu_options cpu = {.n_threads = 1, .memory_max = 1u << 30};

    if (sh_cpu_device_open(&s->device, &cpu, &err)) fail_msg("%s", err.message);
    const struct sh_ggmlrpc_server_options o = {.device = s->device, .listen = "127.0.0.1:0"};
    if (sh_ggmlrpc_server_create(&s->server, &o, &err)) fail_msg("%s", err.message);
    if (sh_thread_start(&s->thread, "server", serve, s, &err)) fail_msg("%s", err.message);
}

static void stop(struct server *s)
{
    sh_ggmlrpc_server_stop(s->server);
    sh_thread_join(&s->thread);
    sh_ggmlrpc_server_destroy(s->server);
    sh_device_close(s->device);
}

static void write_model(const struct tm_model *m, char *path)
{
    const int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, m->bytes.ptr, m->bytes.len), (ssize_t)m->bytes.len);
    close(fd);
}

static struct sh_host *open_host(const char *path, const struct server *servers, int n,
                                 bool with_local, int64_t n_ctx)
{
    const char *addresses[SERVERS_MAX];
    struct sh_host_options o = {.model_path = path,
                                .n_servers = n,
                                .servers = addresses,
                                .with_local = with_local,
                                .n_threads = 1,
                                .n_ctx = n_ctx};
    // One layer each while they last: the test models have three.
    const int64_t layers[SERVERS_MAX + 1] = {1, 1, 1, 0}, two[2] = {2, 1}, all[1] = {3};
    struct sh_host *h;

    for (int i = 0; i < n; i++)
        addresses[i] = sh_ggmlrpc_server_address(servers[i].server);
    const int members = n + (n == 0 || with_local);
    o.n_layers_given = members;
    o.layers = members == 1 ? all : members == 2 ? two : layers;
    if (sh_host_open(&h, &o, &err)) fail_msg("%s", err.message);
    return h;
}

static void keep(void *self, int64_t index, const float *logits, int32_t n_vocab)
{
    memcpy((float *)self + index * n_vocab, logits, (size_t)n_vocab * sizeof *logits);
}

static void remote__equal_bits_over_servers(void **state)
{
    enum { N = 150 };
    char path[] = "/tmp/shoal-remote.XXXXXX";
    struct server servers[SERVERS_MAX];
    float *want = rig_logits(N), *have = rig_logits(N);
    struct tm_model m;
    int32_t ids[N];

    (void)state;
    tm_make(&m, TM_LLAMA, SH_DTYPE_Q4_0, 3);
    write_model(&m, path);
    rig_ids(ids, N, 8, 96);
    rig_reference(&m, ids, N, want);
    for (int i = 0; i < SERVERS_MAX; i++)
        start(&servers[i]);
    for (int way = 0; way < 5; way++) {
        const int n = way < 4 ? way : 2; // 0, 1, 2, 3 servers; 2 and the local device
        struct sh_host *h = open_host(path, servers, n, way == 4, 256);
        struct sh_engine *e;
        char what[48];
        if (sh_engine_create(&e, sh_host_pipeline(h), 256, &err)) fail_msg("%s", err.message);
        const struct sh_feed whole = {
            .ids = ids, .n = N - 20, .logits = keep, .self = have, .chunk = 37};
        if (sh_engine_feed(e, &whole, NULL, &err)) fail_msg("%s", err.message);
        for (int k = N - 20; k < N; k++) {
            const struct sh_feed one = {
                .ids = ids + k, .n = 1, .logits = keep, .self = have + (ptrdiff_t)k * 96};
            if (sh_engine_feed(e, &one, NULL, &err)) fail_msg("%s", err.message);
        }
        snprintf(what, sizeof what, "%d servers%s", n, way == 4 ? " and this machine" : "");
        rig_expect_equal(what, have, want, N, 96);
        memset(have, 0, (size_t)N * 96 * sizeof *have);
        sh_engine_destroy(e);
        sh_host_close(h);
    }
    for (int i = 0; i < SERVERS_MAX; i++)
        stop(&servers[i]);
    unlink(path);
    tm_release(&m);
    sh_free(want);
    sh_free(have);
}

/* ---- what a decoded token costs ------------------------------------------------------------- */

struct cost {
    uint64_t sent, received;
};

// Decode n tokens; every token must cost each server one round trip, and those for which no graph
// was sent the same bytes, which are returned.  Returns how many graphs were sent to server 0.
static uint64_t decode(struct sh_host *h, struct sh_engine *e, int n, struct cost *cost)
{
    uint64_t graphs = 0;

    for (int k = 0; k < n; k++) {
        const int32_t id = k % 96;
        const struct sh_feed f = {.ids = &id, .n = 1, .sample = true};
        struct sh_host_network before[2], after[2];
        int32_t token;
        for (int i = 0; i < 2; i++)
            sh_host_network(h, i, &before[i]);
        if (sh_engine_feed(e, &f, &token, &err)) fail_msg("%s", err.message);
        for (int i = 0; i < 2; i++) {
            sh_host_network(h, i, &after[i]);
            const uint64_t new_graphs = after[i].graphs_sent - before[i].graphs_sent;
            if (i == 0) graphs += new_graphs;
            if (new_graphs > 0) continue; // a new shape: also asks for sizes and memory
            assert_int_equal(after[i].round_trips - before[i].round_trips, 1);
            const struct cost c = {after[i].bytes_sent - before[i].bytes_sent,
                                   after[i].bytes_received - before[i].bytes_received};
            if (cost[i].sent == 0) cost[i] = c;
            assert_int_equal(c.sent, cost[i].sent);
            assert_int_equal(c.received, cost[i].received);
        }
    }
    return graphs;
}

static void feed_zeros(struct sh_engine *e, int64_t n)
{
    int32_t *ids = sh_calloc((size_t)n, sizeof *ids);
    const struct sh_feed f = {.ids = ids, .n = n};

    assert_non_null(ids);
    if (sh_engine_feed(e, &f, NULL, &err)) fail_msg("%s", err.message);
    sh_free(ids);
}

static void remote__traffic_of_a_token_does_not_grow(void **state)
{
    char path[] = "/tmp/shoal-remote.XXXXXX";
    struct cost near[2] = {{0, 0}}, far[2] = {{0, 0}};
    struct server servers[2];
    struct sh_engine *e;
    struct sh_host *h;
    struct tm_model m;

    (void)state;
    tm_make(&m, TM_LLAMA, SH_DTYPE_Q4_0, 3);
    write_model(&m, path);
    for (int i = 0; i < 2; i++)
        start(&servers[i]);
    h = open_host(path, servers, 2, false, 16384);
    if (sh_engine_create(&e, sh_host_pipeline(h), 16384, &err)) fail_msg("%s", err.message);
    feed_zeros(e, 256);
    // 300 positions from 256 on touch two or three multiples of 256: as many graphs at most.
    assert_true(decode(h, e, 300, near) <= 3);
    feed_zeros(e, 8192 - 556);
    assert_true(decode(h, e, 20, far) <= 1);
    for (int i = 0; i < 2; i++) {
        print_message("    server %d: %llu bytes out, %llu in per token\n", i,
                      (unsigned long long)near[i].sent, (unsigned long long)near[i].received);
        assert_int_equal(far[i].sent, near[i].sent);
        assert_int_equal(far[i].received, near[i].received);
    }
    sh_engine_destroy(e);
    sh_host_close(h);
    for (int i = 0; i < 2; i++)
        stop(&servers[i]);
    unlink(path);
    tm_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(remote__equal_bits_over_servers),
        cmocka_unit_test(remote__traffic_of_a_token_does_not_grow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
