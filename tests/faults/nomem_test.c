/* tests/faults/nomem_test.c - every allocation of a whole run fails once.
 *
 * A run is all that `shoal run` does below its command line: opening the model file, devices and
 * workers, the plan, loading, a prompt, one token, closing.  Its workers are servers in this
 * process, on loopback, whose allocations are counted, too: a failure may hit either end.
 *
 * Whatever fails, the run ends soon, either with its token or with a sentence: that memory is
 * lacking, or, where the other end lacked it, that the connection to that address was lost.
 * Nothing is left behind, and the next run is whole.  Which allocation is the n-th depends on the
 * order of threads, so that a sweep does not hit each one exactly once; it ends with the first n
 * that a run does not reach.
 *
 * test-options: timeout=300
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <shoal/shoal.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "cpu/device.h"
#include "ggmlrpc/server.h"
#include "gguf/describe.h"
#include "net/address.h"

enum { SERVERS_MAX = 2, MOST = 1000000, TEXT_MAX = 64 };
#define MODELS "tests/data/models/"
#define MAMBA "tests/data/archs/mamba2.gguf"
#define SOON_NS (60 * SH_SECOND) /* a run that takes longer hangs */

/* ---- workers of this process ---------------------------------------------------------------- */

struct worker {
    struct sh_device *cpu;
    struct sh_ggmlrpc_server *server;
    char address[SH_ADDRESS_TEXT_MAX];
    struct sh_thread thread;
};

static void *serve(void *arg)
{
    struct worker *w = arg;
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_ggmlrpc_server_run(w->server, &err)) fail_msg("a worker: %s", err.message);
    return NULL;
}

static void worker_open(struct worker *w)
{
    const struct sh_cpu_options cpu = {.n_threads = 1, .memory_max = (size_t)256 << 20};
    struct sh_ggmlrpc_server_options opt = {
        .listen = "127.0.0.1:0", .memory_max = (size_t)128 << 20, .drain_ns = 50 * SH_MS};
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_cpu_device_open(&w->cpu, &cpu, &err)) fail_msg("%s", err.message);
    opt.device = w->cpu;
    if (sh_ggmlrpc_server_create(&w->server, &opt, &err)) fail_msg("%s", err.message);
    (void)snprintf(w->address, sizeof w->address, "%s", sh_ggmlrpc_server_address(w->server));
    if (sh_thread_start(&w->thread, "worker", serve, w, &err)) fail_msg("%s", err.message);
}

static void worker_close(struct worker *w)
{
    sh_ggmlrpc_server_stop(w->server);
    sh_thread_join(&w->thread);
    sh_ggmlrpc_server_destroy(w->server);
    sh_device_close(w->cpu);
}

/* ---- one run -------------------------------------------------------------------------------- */

struct scenario {
    const char *name, *model; /* of two layers */
    int n_servers;
    bool with_local;
};

struct outcome {
    enum shoal_status status;
    struct shoal_error err;
    char text[TEXT_MAX];
    char address[SERVERS_MAX][SH_ADDRESS_TEXT_MAX];
    int64_t took_ns;
    bool reached; /* the allocation that was to fail */
};

static bool collect(void *user, const char *bytes, size_t n)
{
    struct outcome *o = user;
    const size_t len = strlen(o->text);

    if (n > sizeof o->text - 1 - len) fail_msg("one token of %zu bytes", n);
    memcpy(o->text + len, bytes, n);
    o->text[len + n] = '\0';
    return true;
}

static enum shoal_status run(const struct scenario *s, struct outcome *out)
{
    const char *servers[SERVERS_MAX] = {out->address[0], out->address[1]};
    const int64_t one_each[2] = {1, 1};
    struct shoal_options o = SHOAL_OPTIONS_INIT;
    struct shoal_params p = SHOAL_PARAMS_INIT;
    struct shoal *session = NULL;
    enum shoal_status st;

    o.model_path = s->model;
    o.servers = servers;
    o.n_servers = s->n_servers;
    o.with_local = s->with_local;
    o.layers = one_each;
    o.n_layers = s->n_servers + s->with_local > 1 ? 2 : 0;
    o.n_threads = 1;
    o.n_ctx = 64;
    p.n_predict = 1;
    p.temp = 0;
    st = shoal_open(&session, &o, &out->err);
    if (st && session) fail_msg("a session although it failed: %s", out->err.message);
    if (!st) st = shoal_generate(session, "The cat and the dog", &p, collect, out, &out->err);
    shoal_close(session);
    return st;
}

/* A run whose n-th allocation fails, n < 0: none; everything is new and everything goes. */
static void attempt(const struct scenario *s, int n, struct outcome *out)
{
    const size_t live = sh_mem_live_bytes();
    struct worker worker[SERVERS_MAX];
    int64_t began_ns;

    *out = (struct outcome){.status = SHOAL_OK};
    for (int i = 0; i < s->n_servers; i++) {
        worker_open(&worker[i]);
        memcpy(out->address[i], worker[i].address, sizeof worker[i].address);
    }
    began_ns = sh_now_ns(&sh_clock_system);
    sh_mem_fail_after(n);
    out->status = run(s, out);
    out->reached = !sh_mem_fail_pending();
    sh_mem_fail_after(-1);
    out->took_ns = sh_now_ns(&sh_clock_system) - began_ns;
    for (int i = 0; i < s->n_servers; i++)
        worker_close(&worker[i]);
    if (sh_mem_live_bytes() != live) {
        fail_msg("%s, allocation %d: %zu bytes are left after \"%s\"", s->name, n,
                 sh_mem_live_bytes() - live, out->err.message);
    }
}

static bool names_an_address(const struct outcome *o)
{
    for (int i = 0; i < SERVERS_MAX; i++) {
        if (o->address[i][0] && strstr(o->err.message, o->address[i])) return true;
    }
    return false;
}

static void judge(const struct scenario *s, int n, const struct outcome *o, const char *want)
{
    const struct shoal_error *e = &o->err;
    // "no memory for ...", or what is needed and what is free.
    const bool told = strstr(e->message, "memory") || strstr(e->message, " free");

    if (o->took_ns > SOON_NS)
        fail_msg("%s, allocation %d: %d s", s->name, n, (int)(o->took_ns / SH_SECOND));
    if (o->status == SHOAL_OK && strcmp(o->text, want) == 0) return;
    if (o->status == SHOAL_ERR_NOMEM && e->code == SHOAL_ERR_NOMEM && told) return;
    if (o->status == SHOAL_ERR_PEER && e->code == SHOAL_ERR_PEER && names_an_address(o)) return;
    fail_msg("%s, allocation %d: %s, \"%s\", text \"%s\"", s->name, n, shoal_status_name(o->status),
             e->message, o->text);
}

static void sweep(const struct scenario *s)
{
    struct outcome o;
    char want[TEXT_MAX];
    int n, n_failed = 0;

    attempt(s, -1, &o);
    if (o.status) fail_msg("%s: %s", s->name, o.err.message);
    assert_true(o.text[0] != '\0');
    memcpy(want, o.text, sizeof want);
    for (n = 0; n < MOST; n++) {
        attempt(s, n, &o);
        judge(s, n, &o, want);
        n_failed += o.status != SHOAL_OK;
        if (!o.reached) break;
    }
    if (n_failed < n / 3) fail_msg("%s: %d of %d runs failed", s->name, n_failed, n);
    print_message("%s: %d allocations, %d runs failed\n", s->name, n, n_failed);
    attempt(s, -1, &o);
    judge(s, -1, &o, want);
}

static void nomem__on_this_machine(void **state)
{
    const struct scenario dense = {.name = "local", .model = MODELS "llama-dense-q4_0.gguf"};
    const struct scenario experts = {.name = "local, experts", .model = MODELS "llama-moe.gguf"};
    const struct scenario states = {.name = "local, states", .model = MAMBA};

    (void)state;
    sweep(&dense);
    sweep(&experts);
    sweep(&states);
}

static void nomem__over_two_workers(void **state)
{
    const struct scenario s = {
        .name = "two workers", .model = MODELS "llama-dense-q4_0.gguf", .n_servers = 2};

    (void)state;
    sweep(&s);
}

static void nomem__over_a_worker_and_this_machine(void **state)
{
    const struct scenario s = {.name = "a worker and here",
                               .model = MODELS "llama-moe.gguf",
                               .n_servers = 1,
                               .with_local = true};

    (void)state;
    sweep(&s);
}

/* What `shoal inspect` does: a model file is opened and described. */
static void nomem__inspecting(void **state)
{
    int n = 0, n_failed = 0;

    (void)state;
    for (bool reached = true; reached; n++) {
        const size_t live = sh_mem_live_bytes();
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_buf text = SH_BUF_INIT;
        struct sh_gguf *g = NULL;
        enum shoal_status st;
        sh_mem_fail_after(n);
        st = sh_gguf_open(&g, MODELS "llama-moe.gguf", &err);
        if (!st) st = sh_gguf_describe(g, SH_DESCRIBE_TEXT, &text, &err);
        if (!st) st = sh_gguf_describe(g, SH_DESCRIBE_JSON, &text, &err);
        reached = !sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        sh_buf_release(&text);
        sh_gguf_close(g);
        if (st && (st != SHOAL_ERR_NOMEM || !strstr(err.message, "memory")))
            fail_msg("allocation %d: %s, \"%s\"", n, shoal_status_name(st), err.message);
        assert_int_equal(sh_mem_live_bytes(), live);
        n_failed += st != SHOAL_OK;
    }
    print_message("inspecting: %d allocations, %d failed\n", n, n_failed);
    assert_true(n > 10 && n_failed > n / 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nomem__on_this_machine),
        cmocka_unit_test(nomem__over_two_workers),
        cmocka_unit_test(nomem__over_a_worker_and_this_machine),
        cmocka_unit_test(nomem__inspecting),
    };

    return cmocka_run_group_tests_name("nomem", tests, NULL, NULL);
}
