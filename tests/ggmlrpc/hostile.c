/* tests/ggmlrpc/hostile.c - running rows. */
#include "hostile.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cpu/device.h"

#define HONEST_NS_MAX (20 * SH_SECOND) /* of a loaded machine; a quiet one needs milliseconds */

struct sh_device *g_device;
struct sh_ggmlrpc_server *g_server, *g_hasty;

static int64_t g_worst_ns;
static uint64_t g_n_served;

int hostile_open(void **state)
{
    const struct sh_cpu_options cpu = {.n_threads = 1};
    struct sh_ggmlrpc_server_options opt = {.memory_max = 1 << 20, .log_lines_max = 100000};
    struct shoal_error err = SHOAL_ERROR_INIT;

    (void)state;
    peer_log_begin();
    if (sh_cpu_device_open(&g_device, &cpu, &err)) return -1;
    opt.device = g_device;
    if (sh_ggmlrpc_server_create(&g_server, &opt, &err)) return -1;
    opt.stall_ns = 200 * SH_MS;
    if (sh_ggmlrpc_server_create(&g_hasty, &opt, &err)) return -1;
    hostile_expect_service(g_server); // what stays from the first run is no leak
    return 0;
}

int hostile_close(void **state)
{
    (void)state;
    print_message("%llu honest clients, the slowest in %.3f s\n", (unsigned long long)g_n_served,
                  (double)g_worst_ns / (double)SH_SECOND);
    sh_ggmlrpc_server_destroy(g_hasty);
    sh_ggmlrpc_server_destroy(g_server);
    sh_device_close(g_device);
    return 0;
}

/* ---- an honest client -----------------------------------------------------------------------*/

static void be_honest(struct sh_ggmlrpc_server *server)
{
    struct peer p;
    struct peer_buffer b;
    float in[8], out[4];
    struct peer_graph g;

    peer_open(&p, server);
    peer_hello(&p);
    peer_alloc(&p, 48, &b);
    for (int i = 0; i < 8; i++)
        in[i] = (float)i;
    peer_set(&p, &b, 0, in, sizeof in);
    peer_graph_add(&g, &b, 4);
    peer_compute(&p, &g);
    peer_get(&p, &b, 32, out, sizeof out);
    for (int i = 0; i < 4; i++)
        assert_float_equal(out[i], in[i] + in[i + 4], 0);
    assert_int_equal(peer_end(&p), SHOAL_OK);
}

void hostile_expect_service(struct sh_ggmlrpc_server *server)
{
    const int64_t began = sh_now_ns(&sh_clock_system);
    struct sh_ggmlrpc_server_stats stats;
    int64_t took;

    be_honest(server);
    took = sh_now_ns(&sh_clock_system) - began;
    if (took > g_worst_ns) g_worst_ns = took;
    g_n_served++;
    if (took > HONEST_NS_MAX) {
        fail_msg("an honest client waited %.1f s", (double)took / (double)SH_SECOND);
    }
    sh_ggmlrpc_server_stats(server, &stats);
    assert_int_equal(stats.memory_used, 0);
    assert_int_equal(stats.work_used, 0);
    assert_int_equal(stats.n_connections, 0);
}

/* ---- rows -----------------------------------------------------------------------------------*/

/* A thread of the device may still be putting something away. */
static bool comes_back_to(size_t bytes)
{
    const int64_t end = sh_deadline_in(&sh_clock_system, HONEST_NS_MAX);

    while (sh_mem_live_bytes() != bytes && sh_now_ns(&sh_clock_system) < end)
        (void)sched_yield();
    return sh_mem_live_bytes() == bytes;
}

static void run_row(const struct row *row)
{
    const size_t before = sh_mem_live_bytes();
    struct peer_buffer b = {.token = 0};
    char lines[4096];
    struct peer p;
    int n;

    (void)peer_log_take(lines, sizeof lines);
    peer_open(&p, strstr(row->reason, "slowly") ? g_hasty : g_server);
    if (!row->raw) {
        peer_hello(&p);
        peer_alloc(&p, BUFFER_BYTES, &b);
    }
    row->send(&p, &b);
    if (peer_expect_end(&p) == SHOAL_OK) fail_msg("%s: the session ended well", row->name);
    n = peer_log_take(lines, sizeof lines);
    if (n != 1 || !strstr(lines, row->command) || !strstr(lines, row->reason) ||
        !strstr(lines, "memory:0: ")) {
        fail_msg("%s: %d lines instead of one with \"%s\" and \"%s\":\n%s", row->name, n,
                 row->command, row->reason, lines);
    }
    hostile_expect_service(g_server);
    if (!comes_back_to(before)) {
        fail_msg("%s: %zu bytes before, %zu after", row->name, before, sh_mem_live_bytes());
    }
}

void hostile_run_table(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        run_row(&rows[i]);
}

/* ---- completeness ---------------------------------------------------------------------------*/

static bool is_named(const char *check, const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (rows[i].check && strcmp(rows[i].check, check) == 0) return true;
    }
    return false;
}

static bool is_listed(const char *check, const char *const *checks, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(checks[i], check) == 0) return true;
    }
    return false;
}

void hostile_every_check_is_tested(const char *const *checks, size_t n,
                                   const struct row *const *tables, const size_t *sizes,
                                   size_t n_tables, const struct elsewhere *others, size_t n_others)
{
    for (size_t c = 0; c < n; c++) {
        bool tested = false;
        for (size_t t = 0; t < n_tables && !tested; t++)
            tested = is_named(checks[c], tables[t], sizes[t]);
        for (size_t i = 0; i < n_others && !tested; i++)
            tested = strcmp(others[i].check, checks[c]) == 0;
        if (!tested) fail_msg("no test of: %s", checks[c]);
    }
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t i = 0; i < sizes[t]; i++) {
            const char *check = tables[t][i].check;
            if (check && !is_listed(check, checks, n)) fail_msg("no such check: %s", check);
        }
    }
}
