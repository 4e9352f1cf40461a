/* tests/rpc/nomem_test.c - every allocation of a session on a worker fails once.
 *
 * A client connects, opens a session, puts a stage, runs a step, closes.  Both ends are in this
 * process and their allocations are counted together, so a failure may hit either.  Whatever fails,
 * it ends soon with a sentence, nothing is left behind, and the next session is whole.  Which
 * allocation is the n-th depends on the order of threads; the sweep ends with the first n that is
 * not reached.
 *
 * test-options: timeout=300
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "rpc/worker.h"

enum { MOST = 100000 };
#define FEATURES ((uint64_t)(SH_RPC_CHECKSUM | SH_RPC_OWN_FILES)) /* a session goes at once */

static void must(enum shoal_status st, const struct shoal_error *err)
{
    if (st) fail_msg("%s: %s", shoal_status_name(st), err->message);
}

/* One step through the stage. */
static enum shoal_status compute(struct client *c, struct step_make *s, struct sh_rpc_handle stage,
                                 struct shoal_error *err)
{
    const struct event *e;
    enum shoal_status st;

    s->m.stage = stage;
    st = sh_rpc_conn_send(c->c, SH_RPC_MSG_STEP, 0, &s->m, err);
    if (st) return st;
    e = client_event_or_end(c, 0);
    if (!e) return sh_fail(err, c->status ? c->status : SHOAL_ERR_PEER, "%s", c->error.message);
    return e->status ? sh_fail(err, e->status, "%s", e->message) : SHOAL_OK;
}

static enum shoal_status run(struct client *c, struct worker *w, const struct stage_put *put,
                             struct step_make *s, struct shoal_error *err)
{
    const uint64_t rest = put->claim.cache + put->claim.scratch + put->claim.places;
    struct sh_rpc_handle stage;
    uint64_t freed;
    enum shoal_status st = client_try_open(c, w, SH_RPC_FOR_CONTROL, "", FEATURES, err);

    if (st) return st;
    st = client_session(c, put->claim.weights, rest, err);
    if (!st) st = client_put(c, put, &stage, err);
    if (!st) st = compute(c, s, stage, err);
    if (!st) st = client_finish(c, &freed, err);
    client_cut(c);
    return st;
}

static void nomem__hits_every_allocation_of_a_session(void **state)
{
    struct client *c = sh_calloc(1, sizeof *c), *holder = sh_calloc(1, sizeof *holder);
    struct step_make *s = sh_malloc(sizeof *s);
    struct shoal_error err = SHOAL_ERROR_INIT;
    const int32_t ids[3] = {1, 2, 3};
    int n = -1, n_failed = 0;
    struct stage_put put;
    struct tm_model m;
    struct worker w;
    bool reached;

    (void)state;
    assert_true(c && holder && s);
    tm_make(&m, TM_LLAMA, SH_DTYPE_F32, 7);
    worker_open(&w, NULL);
    client_open(holder, &w, SH_RPC_FOR_CONTROL, "", FEATURES);
    stage_put_make(&put, &m, 0, 1);
    must(client_session(holder, put.claim.weights, 0, &err), &err);
    client_weights(holder, &put); // of the same key, so they are here for the others
    step_make(s, ids, 3, 0, SH_WANT_TOKEN, 1);
    *c = *holder;
    c->hash = UINT64_C(0xcbf29ce484222325);
    client_stamp(c, s);
    must(run(c, &w, &put, s, &err), &err); // what is made once, is made now
    do {
        const size_t live = sh_mem_live_bytes();
        enum shoal_status st;
        err = (struct shoal_error)SHOAL_ERROR_INIT;
        sh_mem_fail_after(++n);
        st = run(c, &w, &put, s, &err);
        reached = !sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        n_failed += st != SHOAL_OK;
        if (st && err.message[0] == '\0') fail_msg("allocation %d: no sentence", n);
        if (st && !reached) fail_msg("%s without a reason: %s", shoal_status_name(st), err.message);
        worker_await(&w, 1, 0);
        if (sh_mem_live_bytes() != live) {
            fail_msg("allocation %d (%s): %zu bytes are left", n, err.message,
                     sh_mem_live_bytes() - live);
        }
    } while (reached && n < MOST);
    printf("%d allocations, %d made it fail\n", n, n_failed);
    assert_true(n > 100 && n < MOST && n_failed > n / 2);
    worker_check(&w, &m);
    client_cut(holder);
    stage_put_release(&put);
    worker_close(&w);
    tm_release(&m);
    sh_free(s);
    sh_free(c);
    sh_free(holder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nomem__hits_every_allocation_of_a_session),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
