/* tests/rpc/lease_test.c - sessions whose connection is lost: kept, resumed, taken over, ended.
 *
 * Also what ends them from outside: a revoked key, a worker that stops, a host that goes while its
 * stage loads or computes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "rpc/worker.h"

enum { VOCAB = 96 };
#define KEY_A "0123456789abcdef"
#define KEY_B "fedcba9876543210"

static void must(enum shoal_status st, const struct shoal_error *err)
{
    if (st) fail_msg("%s: %s", shoal_status_name(st), err->message);
}

static void finish(struct client *c)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint64_t freed;

    must(client_finish(c, &freed, &err), &err);
    worker_client_close(c);
}

static void send_token(struct client *c, const struct sh_rpc_handle *stages, int n, int32_t pos)
{
    struct step_make *s = sh_malloc(sizeof *s);
    const int32_t id = 7 + pos;

    assert_non_null(s);
    step_make(s, &id, 1, pos, SH_WANT_TOKEN, 1);
    client_step(c, s, stages, n);
    sh_free(s);
}

/* ---- the lease ------------------------------------------------------------------------------*/

static void ask_short_lease(struct client *c, uint32_t ms, uint32_t granted)
{
    const struct sh_rpc_claim claim = {.cache = 1 << 20};
    const struct sh_rpc_open m = {
        .name = sh_rpc_text_from("m"), .claims = &claim, .n_claims = 1, .lease_ms = ms};
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_opened o;

    must(client_ask(c, SH_RPC_MSG_OPEN, &m, &o, &arena, &err), &err);
    assert_int_equal(o.lease_ms, granted);
    sh_arena_release(&arena);
}

static void lease__frees_memory_when_it_is_over(void **state)
{
    struct worker_test *t = *state;
    struct client *a = worker_client(&t->w, KEY_A), *b = worker_client(&t->w, KEY_B);

    ask_short_lease(a, 200, 200);
    ask_short_lease(b, 0, 30000);
    worker_client_cut(a);
    worker_await(&t->w, 1, 0); // that of b, attached
    assert_int_equal(sh_ledger_left(t->w.ledger), WORKER_MEMORY - (1 << 20));
    finish(b);
    a = worker_client(&t->w, KEY_A);
    ask_short_lease(a, UINT32_MAX, 600000);
    finish(a);
}

/* A client that says BYE without CLOSE may come back, too. */
static void lease__keeps_what_was_not_closed(void **state)
{
    struct worker_test *t = *state;
    struct client *a = worker_client(&t->w, KEY_A), *b = worker_client(&t->w, KEY_A);
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_resumed r;

    must(client_session(a, 0, 1 << 20, &err), &err);
    client_close(a);
    worker_await(&t->w, 1, 1);
    must(client_resume(b, a, 0, &r, &arena, &err), &err);
    assert_int_equal(r.n_stages, 0);
    sh_arena_release(&arena);
    sh_free(a);
    finish(b);
}

/* ---- resuming -------------------------------------------------------------------------------*/

static void resume__goes_on_where_it_was(void **state)
{
    struct worker_test *t = *state;
    struct client *a = worker_client(&t->w, KEY_A), *b = worker_client(&t->w, KEY_A);
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_handle stages[2];
    struct sh_rpc_resumed r;
    uint64_t freed;

    client_model(a, &t->m, 2, stages);
    client_check_model(a, &t->m, stages, 2, 16);
    client_cut(a);
    worker_await(&t->w, 1, 1);
    must(client_resume(b, a, a->ack, &r, &arena, &err), &err);
    assert_int_equal(r.epoch, 0);
    assert_int_equal(r.n_stages, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(r.stages[i].next, a->next);
        assert_int_equal(r.stages[i].hash, a->hash);
        assert_int_equal(r.stages[i].stage.slot, stages[i].slot);
    }
    worker_await(&t->w, 1, 0);
    send_token(b, stages, 2, 80);
    client_forward(b, client_event(b, 0), stages);
    assert_int_equal(client_event(b, 1)->status, SHOAL_OK);
    must(client_finish(b, &freed, &err), &err);
    worker_client_close(b);
    sh_arena_release(&arena);
    sh_free(a);
}

/* Steps that ran while nobody was there: their results come with RESUME, in order, once. */
static void resume__gives_the_results_that_were_kept(void **state)
{
    struct worker_test *t = *state;
    struct client *a = worker_client(&t->w, ""), *b = worker_client(&t->w, "");
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_handle stage;
    struct sh_rpc_resumed r;
    int32_t first;

    client_model(a, &t->m, 1, &stage);
    send_token(a, &stage, 1, 0);
    first = client_event(a, 0)->tokens[0];
    faults_close_gate(&t->w.faults, WRAP_SUBMIT);
    send_token(a, &stage, 1, 1);
    send_token(a, &stage, 1, 2);
    faults_await_gate(&t->w.faults, WRAP_SUBMIT);
    client_cut(a);
    worker_await(&t->w, 1, 1);
    faults_open_gate(&t->w.faults, WRAP_SUBMIT);
    must(client_resume(b, a, 0, &r, &arena, &err), &err);
    assert_int_equal(r.stages[0].next, a->next);
    for (int i = 0; i < 3; i++) {
        const struct event *e = client_event(b, i);
        assert_int_equal(e->type, SH_RPC_MSG_RESULT);
        assert_int_equal(e->number, i);
        assert_int_equal(e->status, SHOAL_OK);
    }
    assert_int_equal(client_event(b, 0)->tokens[0], first);
    send_token(b, &stage, 1, 3);
    assert_int_equal(client_event(b, 3)->number, 3);
    assert_int_equal(b->n_events, 4);
    sh_arena_release(&arena);
    sh_free(a);
    finish(b);
}

static void resume__needs_key_number_and_secret(void **state)
{
    struct worker_test *t = *state;
    struct client *a = worker_client(&t->w, KEY_A), *b = worker_client(&t->w, KEY_B),
                  *c = worker_client(&t->w, KEY_A);
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_resumed r;

    must(client_session(a, 0, 1 << 20, &err), &err);
    assert_int_equal(client_resume(b, a, 0, &r, &arena, &err), SHOAL_ERR_NOT_FOUND);
    a->secret[15] ^= 1;
    assert_int_equal(client_resume(c, a, 0, &r, &arena, &err), SHOAL_ERR_NOT_FOUND);
    a->secret[15] ^= 1;
    a->session++;
    assert_int_equal(client_resume(c, a, 0, &r, &arena, &err), SHOAL_ERR_NOT_FOUND);
    a->session--;
    assert_int_equal(a->over, false); // nobody touched it
    worker_await(&t->w, 1, 0);
    finish(a);
    assert_int_equal(client_resume(c, b, 0, &r, &arena, &err), SHOAL_ERR_NOT_FOUND);
    sh_arena_release(&arena);
    worker_client_close(b);
    worker_client_close(c);
}

static void resume__takes_over_from_an_older_connection(void **state)
{
    struct worker_test *t = *state;
    struct client *a = worker_client(&t->w, ""), *b = worker_client(&t->w, "");
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_handle stage;
    struct sh_rpc_resumed r;

    client_model(a, &t->m, 1, &stage);
    send_token(a, &stage, 1, 0);
    (void)client_event(a, 0);
    must(client_resume(b, a, 0, &r, &arena, &err), &err);
    client_await_over(a);
    assert_non_null(strstr(a->error.message, "took the session over"));
    assert_int_equal(client_event(b, 0)->number, 0); // again, for it was not acknowledged
    send_token(b, &stage, 1, 1);
    assert_int_equal(client_event(b, 1)->number, 1);
    sh_arena_release(&arena);
    worker_client_close(a);
    finish(b);
}

/* ---- the host goes --------------------------------------------------------------------------*/

/* While a stage loads: the load stops, and the session is kept without it. */
static void host_goes__while_a_stage_loads(void **state)
{
    struct worker_test *t = *state;
    struct client *a = worker_client(&t->w, ""), *b = worker_client(&t->w, "");
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_handle stage;
    struct sh_rpc_resumed r;
    struct question q;
    struct stage_put put;

    stage_put_make(&put, &t->m, 0, 1);
    must(client_session(a, put.claim.weights,
                        put.claim.cache + put.claim.scratch + put.claim.places, &err),
         &err);
    client_weights(a, &put);
    faults_close_gate(&t->w.faults, WRAP_ALLOC);
    client_begin(a, &q, SH_RPC_MSG_STAGE_PUT, &put.m);
    faults_await_gate(&t->w.faults, WRAP_ALLOC);
    sh_rpc_conn_cut(a->c);
    client_await_over(a);
    assert_int_not_equal(client_end(a, &q, &err), SHOAL_OK);
    faults_open_gate(&t->w.faults, WRAP_ALLOC);
    worker_await(&t->w, 1, 1);
    must(client_resume(b, a, 0, &r, &arena, &err), &err);
    assert_true(r.n_stages <= 1);
    if (r.n_stages == 0) {
        must(client_put(b, &put, &stage, &err), &err);
    } else {
        stage = r.stages[0].stage; // it was ready when the connection was lost
    }
    client_check_model(b, &t->m, &stage, 1, 32);
    worker_client_cut(a);
    stage_put_release(&put);
    sh_arena_release(&arena);
    finish(b);
}

static void host_goes__and_closes_while_a_stage_loads(void **state)
{
    struct worker_test *t = *state;
    struct client *a = worker_client(&t->w, "");
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct question q, r;
    struct stage_put put;

    stage_put_make(&put, &t->m, 0, 1);
    must(client_session(a, put.claim.weights,
                        put.claim.cache + put.claim.scratch + put.claim.places, &err),
         &err);
    client_weights(a, &put);
    faults_close_gate(&t->w.faults, WRAP_ALLOC);
    client_begin(a, &q, SH_RPC_MSG_STAGE_PUT, &put.m);
    faults_await_gate(&t->w.faults, WRAP_ALLOC);
    client_begin(a, &r, SH_RPC_MSG_CLOSE, &(struct sh_rpc_close){.unused = 0});
    faults_open_gate(&t->w.faults, WRAP_ALLOC);
    (void)client_end(a, &q, &err); // stopped, or ready before CLOSE was read
    must(client_end(a, &r, &err), &err);
    worker_await(&t->w, 0, 0);
    worker_client_close(a);
    stage_put_release(&put);
}

static void host_goes__while_a_step_computes(void **state)
{
    struct worker_test *t = *state;
    struct client *c = sh_calloc(1, sizeof *c);
    struct sh_rpc_handle stage;

    assert_non_null(c);
    client_open(c, &t->w, SH_RPC_FOR_CONTROL, "", SH_RPC_CHECKSUM);
    client_model(c, &t->m, 1, &stage);
    faults_close_gate(&t->w.faults, WRAP_SUBMIT);
    for (int i = 0; i < SLOTS; i++)
        send_token(c, &stage, 1, i);
    faults_await_gate(&t->w.faults, WRAP_SUBMIT);
    sh_rpc_conn_cut(c->c);
    client_await_over(c);
    faults_open_gate(&t->w.faults, WRAP_SUBMIT);
    worker_client_cut(c);
    worker_await_idle(&t->w);
}

/* ---- ends from outside ----------------------------------------------------------------------*/

static void revoked__key_ends_its_sessions(void **state)
{
    struct worker_test *t = *state;
    struct client *a = worker_client(&t->w, KEY_A), *b = worker_client(&t->w, KEY_B),
                  *kept = worker_client(&t->w, KEY_A), *idle = worker_client(&t->w, KEY_A);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_handle stage, other;

    client_model(a, &t->m, 1, &stage);
    client_model(b, &t->m, 1, &other);
    must(client_session(kept, 0, 1 << 20, &err), &err);
    worker_client_cut(kept);
    worker_await(&t->w, 3, 1);
    faults_close_gate(&t->w.faults, WRAP_SUBMIT);
    send_token(a, &stage, 1, 0);
    faults_await_gate(&t->w.faults, WRAP_SUBMIT);
    sh_rpc_server_revoke(t->w.server, KEY_A);
    client_await_over(a);
    client_await_over(idle);
    assert_non_null(strstr(a->error.message, "revoked"));
    faults_open_gate(&t->w.faults, WRAP_SUBMIT);
    worker_await(&t->w, 1, 0);
    client_check_model(b, &t->m, &other, 1, 40);
    worker_client_close(a);
    worker_client_close(idle);
    finish(b);
}

/* A worker that stops lets a step finish, and then ends everything. */
static void stopped__worker_ends_all(void **state)
{
    struct worker_test *t = *state;
    const struct sh_rpc_server_options opt = {.drain_ns = SOON_NS};
    struct worker *w = sh_calloc(1, sizeof *w);
    struct client *a, *b, *c;
    struct sh_rpc_handle stage;
    struct shoal_error err = SHOAL_ERROR_INIT;

    assert_non_null(w);
    worker_open(w, &opt);
    a = worker_client(w, "");
    b = worker_client(w, "");
    c = worker_client(w, "");
    client_model(a, &t->m, 1, &stage);
    must(client_session(b, 0, 1 << 20, &err), &err);
    worker_client_cut(b);
    worker_await(w, 2, 1);
    send_token(a, &stage, 1, 0);
    assert_int_equal(client_event(a, 0)->status, SHOAL_OK);
    sh_rpc_server_stop(w->server);
    assert_int_equal(client_session(c, 0, 1 << 20, &err), SHOAL_ERR_STATE);
    send_token(a, &stage, 1, 1);
    assert_int_equal(client_event(a, 1)->status, SHOAL_OK);
    sh_rpc_server_drain(w->server);
    client_await_over(a);
    client_await_over(c);
    worker_client_close(a);
    worker_client_close(c);
    worker_close(w);
    sh_free(w);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, worker_setup, worker_teardown)
    const struct CMUnitTest tests[] = {
        TEST(lease__frees_memory_when_it_is_over),
        TEST(lease__keeps_what_was_not_closed),
        TEST(resume__goes_on_where_it_was),
        TEST(resume__gives_the_results_that_were_kept),
        TEST(resume__needs_key_number_and_secret),
        TEST(resume__takes_over_from_an_older_connection),
        TEST(host_goes__while_a_stage_loads),
        TEST(host_goes__and_closes_while_a_stage_loads),
        TEST(host_goes__while_a_step_computes),
        TEST(revoked__key_ends_its_sessions),
        TEST(stopped__worker_ends_all),
    };
#undef TEST

    return cmocka_run_group_tests(tests, NULL, NULL);
}
