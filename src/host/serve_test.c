/* A whole worker in this process: who may come, one account of memory, keys that go, its ends. */
#include "host/serve.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/mem.h"
#include "base/thread.h"
#include "ggmlrpc/device.h"
#include "rpc/key.h"
#include "rpc/remote.h"

#define LONG (60 * SH_SECOND) /* for what should happen */
#define MEMORY ((uint64_t)64 << 20)

struct rig {
    struct sh_worker *w;
    struct sh_thread thread;
    enum shoal_status ended;
    char folder[40];
};

static void *run(void *arg)
{
    struct rig *r = arg;

    r->ended = sh_worker_run(r->w, NULL);
    return NULL;
}

static void open_rig(struct rig *r, bool has_keys)
{
    struct sh_worker_options opt = {.listen = "127.0.0.1:0", .n_threads = 1, .memory = MEMORY};

    memset(r, 0, sizeof *r);
    (void)snprintf(r->folder, sizeof r->folder, "/tmp/shoal-serve-XXXXXX");
    assert_non_null(mkdtemp(r->folder));
    if (has_keys) opt.keys = r->folder;
    assert_int_equal(sh_worker_open(&r->w, &opt, NULL), SHOAL_OK);
    assert_int_equal(sh_thread_start(&r->thread, "run", run, r, NULL), SHOAL_OK);
}

static void close_rig(struct rig *r)
{
    sh_worker_stop(r->w);
    sh_thread_join(&r->thread);
    assert_int_equal(r->ended, SHOAL_OK);
    sh_worker_close(r->w);
    assert_int_equal(rmdir(r->folder), 0);
}

static struct sh_remote *connect_to(struct rig *r, const struct sh_key *key)
{
    const struct sh_remote_options opt = {.address = sh_worker_listens(r->w), .key = key};
    struct sh_remote *remote;

    assert_int_equal(sh_remote_open(&remote, &opt, NULL), SHOAL_OK);
    return remote;
}

static void wait_for_memory(struct rig *r, size_t used)
{
    const int64_t end = sh_deadline_in(&sh_clock_system, LONG);
    struct sh_worker_stats s;

    for (;;) {
        sh_worker_stats(r->w, &s);
        if (s.memory_used == used) return;
        assert_true(sh_now_ns(&sh_clock_system) < end);
        (void)poll(NULL, 0, 2);
    }
}

/* ---- who may come ---------------------------------------------------------------------------*/

static void serve__others_reach_it_only_with_keys(void **state)
{
    static const struct {
        const char *listen;
        bool is_open;
    } rows[] = {{"127.0.0.1:0", false},   {"[::1]:0", false},        {"localhost:0", false},
                {"unix:/tmp/s", false},   {"0.0.0.0:0", true},       {":0", true},
                {"10.255.255.1:0", true}, {"127.0.0.1:50052", false}};
    struct sh_worker *w;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct sh_worker_options opt = {.listen = rows[i].listen, .memory = MEMORY};
        struct shoal_error err = SHOAL_ERROR_INIT;
        bool is_open;
        assert_int_equal(sh_worker_is_open(&is_open, rows[i].listen, NULL), SHOAL_OK);
        assert_int_equal(is_open, rows[i].is_open);
        if (!is_open) continue;
        assert_int_equal(sh_worker_open(&w, &opt, &err), SHOAL_ERR_ARG);
        assert_null(w);
        assert_non_null(strstr(err.message, rows[i].listen));
        assert_non_null(strstr(err.message, "key"));
    }
}

static void serve__what_it_lacks_is_a_sentence(void **state)
{
    struct sh_worker_options opt = {
        .listen = "127.0.0.1:0", .memory = MEMORY, .models = "/nowhere/at/all"};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_worker *w;

    (void)state;
    assert_int_equal(sh_worker_open(&w, &opt, &err), SHOAL_ERR_IO);
    assert_non_null(strstr(err.message, "/nowhere/at/all"));
    assert_null(w);
    opt.models = NULL;
    opt.listen = "127.0.0.1:99999";
    assert_int_equal(sh_worker_open(&w, &opt, &err), SHOAL_ERR_ARG);
}

static void serve__every_allocation_of_opening_may_fail(void **state)
{
    const struct sh_worker_options opt = {
        .listen = "127.0.0.1:0", .n_threads = 1, .memory = MEMORY};
    const size_t before = sh_mem_live_bytes();
    bool is_done = false;

    (void)state;
    for (int64_t n = 0; !is_done; n++) {
        struct sh_worker *w;
        enum shoal_status st;
        sh_mem_fail_after(n);
        st = sh_worker_open(&w, &opt, NULL);
        is_done = sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        if (st) assert_null(w);
        sh_worker_close(w);
        assert_int_equal(sh_mem_live_bytes(), before);
        assert_true(n < 10000);
    }
}

/* ---- one account ----------------------------------------------------------------------------*/

static void serve__both_protocols_share_one_account(void **state)
{
    struct sh_device_info before, during;
    struct sh_remote_claim claim = {.weights = (uint64_t)24 << 20, .cache = (uint64_t)8 << 20};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_worker_stats s;
    struct sh_remote *one, *two;
    struct sh_device *d;
    struct rig r;

    (void)state;
    open_rig(&r, false);
    assert_true(sh_worker_has_foreign(r.w));
    assert_int_equal(sh_ggmlrpc_device_open(&d, sh_worker_listens(r.w), NULL, NULL), SHOAL_OK);
    assert_int_equal(sh_device_info(d, &before, NULL), SHOAL_OK);
    one = connect_to(&r, NULL);
    assert_int_equal(sh_remote_session(one, "m", &claim, 1, 0, NULL), SHOAL_OK);
    assert_int_equal(sh_device_info(d, &during, NULL), SHOAL_OK);
    assert_true(during.memory_free <= before.memory_free - ((size_t)32 << 20));
    two = connect_to(&r, NULL);
    assert_int_equal(sh_remote_session(two, "m", &claim, 1, 0, &err), SHOAL_ERR_NOMEM);
    sh_worker_stats(r.w, &s);
    assert_int_equal(s.rpc.n_sessions, 1);
    assert_true(s.memory_used >= (size_t)32 << 20);
    assert_int_equal(s.memory_max, MEMORY - MEMORY / 16);
    sh_remote_close(one);
    assert_int_equal(sh_remote_session(two, "m", &claim, 1, 0, NULL), SHOAL_OK);
    sh_remote_close(two);
    sh_device_close(d);
    wait_for_memory(&r, 0);
    close_rig(&r);
}

/* ---- keys -----------------------------------------------------------------------------------*/

static void serve__a_key_that_goes_takes_its_session_along(void **state)
{
    const struct sh_remote_claim claim = {.weights = 1 << 20};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_stats_are stats;
    struct sh_key_entry key;
    struct sh_remote *remote, *again;
    struct sh_remote_info info;
    struct sh_device *d;
    struct rig r;

    (void)state;
    open_rig(&r, true);
    assert_false(sh_worker_has_foreign(r.w));
    assert_true(sh_ggmlrpc_device_open(&d, sh_worker_listens(r.w), NULL, NULL) != SHOAL_OK);
    assert_int_equal(sh_key_store_make(r.folder, "laptop", &key, NULL), SHOAL_OK);
    remote = connect_to(&r, &key.key);
    sh_remote_info(remote, &info);
    assert_true(info.encrypted);
    assert_int_equal(sh_remote_session(remote, "m", &claim, 1, 0, NULL), SHOAL_OK);
    assert_int_equal(sh_remote_stats(remote, &arena, &stats, NULL), SHOAL_OK);
    assert_int_equal(stats.n_sessions, 1);
    assert_int_equal(stats.sessions[0].key.n, strlen("laptop"));

    assert_int_equal(sh_key_store_revoke(r.folder, "laptop", NULL), SHOAL_OK);
    wait_for_memory(&r, 0);
    while (!sh_remote_stats(remote, &arena, &stats, &err)) {
    }
    assert_non_null(strstr(err.message, "revoked"));
    sh_remote_close(remote);
    const struct sh_remote_options opt = {.address = sh_worker_listens(r.w), .key = &key.key};
    assert_int_equal(sh_remote_open(&again, &opt, &err), SHOAL_ERR_PEER);
    assert_non_null(strstr(err.message, "does not accept this key"));
    sh_arena_release(&arena);
    close_rig(&r);
}

/* ---- its end --------------------------------------------------------------------------------*/

static void serve__stop_ends_sessions_and_frees_all(void **state)
{
    const struct sh_remote_claim claim = {.weights = 1 << 20};
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_stats_are stats;
    struct sh_remote *remote;
    struct rig r;

    (void)state;
    open_rig(&r, false);
    remote = connect_to(&r, NULL);
    assert_int_equal(sh_remote_session(remote, "m", &claim, 1, 0, NULL), SHOAL_OK);
    close_rig(&r);
    assert_true(sh_remote_stats(remote, &arena, &stats, NULL) != SHOAL_OK);
    sh_remote_close(remote);
    sh_arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(serve__others_reach_it_only_with_keys),
        cmocka_unit_test(serve__what_it_lacks_is_a_sentence),
        cmocka_unit_test(serve__every_allocation_of_opening_may_fail),
        cmocka_unit_test(serve__both_protocols_share_one_account),
        cmocka_unit_test(serve__a_key_that_goes_takes_its_session_along),
        cmocka_unit_test(serve__stop_ends_sessions_and_frees_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
