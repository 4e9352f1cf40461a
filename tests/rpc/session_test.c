/* tests/rpc/session_test.c - sessions, stages and steps on a worker, frame by frame.
 *
 * What a worker computes is compared bit for bit with a stage of this process.  After each test an
 * honest session works, and the worker has nothing left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/fnv.h"
#include "base/log.h"
#include "base/mem.h"
#include "rpc/worker.h"

enum { VOCAB = 96, ROWS = 8 };

static void must(enum shoal_status st, const struct shoal_error *err)
{
    if (st) fail_msg("%s: %s", shoal_status_name(st), err->message);
}

static void finish(struct client *c)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint64_t freed;

    must(client_finish(c, &freed, &err), &err);
    assert_true(freed > 0);
    worker_client_close(c);
}

/* ---- the same bits --------------------------------------------------------------------------*/

static void session__one_stage_gives_the_same_bits(void **state)
{
    struct worker_test *t = *state;

    worker_check(&t->w, &t->m);
    worker_await_idle(&t->w);
}

static void session__two_stages_give_the_same_bits(void **state)
{
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    struct sh_rpc_handle stages[2];

    client_model(c, &t->m, 2, stages);
    client_check_model(c, &t->m, stages, 2, 13);
    finish(c);
}

static void session__of_two_clients_do_not_meet(void **state)
{
    struct worker_test *t = *state;
    struct client *a = worker_client(&t->w, "0123456789abcdef");
    struct client *b = worker_client(&t->w, "fedcba9876543210");
    struct sh_rpc_handle stage_a, stages_b[3];

    client_model(a, &t->m, 1, &stage_a);
    client_model(b, &t->m, 3, stages_b);
    assert_true(a->session != b->session);
    assert_memory_not_equal(a->secret, b->secret, sizeof a->secret);
    client_check_model(b, &t->m, stages_b, 3, 40);
    client_check_model(a, &t->m, &stage_a, 1, 7);
    finish(a);
    worker_await(&t->w, 1, 0);
    finish(b);
}

/* A new epoch: the same positions again. */
static void reset(struct client *c, uint64_t epoch)
{
    const struct sh_rpc_reset m = {.epoch = epoch};
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_reset_done done;

    must(client_ask(c, SH_RPC_MSG_RESET, &m, &done, &arena, &err), &err);
    assert_int_equal(done.epoch, epoch);
    c->epoch = epoch;
    c->next = c->ack = 0;
    c->hash = SH_FNV_START;
    sh_arena_release(&arena);
}

static void session__begins_again_in_a_new_epoch(void **state)
{
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    struct sh_rpc_handle stages[2];

    client_model(c, &t->m, 2, stages);
    client_check_model(c, &t->m, stages, 2, 32);
    reset(c, 1);
    client_check_model(c, &t->m, stages, 2, 20);
    reset(c, 9);
    client_check_model(c, &t->m, stages, 2, 80);
    finish(c);
}

/* ---- several steps in flight ----------------------------------------------------------------*/

static void send_rows(struct client *c, struct sh_rpc_handle stage, int32_t n, int32_t pos,
                      uint8_t want)
{
    struct step_make *s = sh_malloc(sizeof *s);
    int32_t ids[ROWS];

    assert_true(s && n <= ROWS);
    for (int32_t i = 0; i < n; i++)
        ids[i] = (pos + i) % VOCAB;
    step_make(s, ids, n, pos, want, 1);
    client_step(c, s, &stage, 1);
    sh_free(s);
}

static void session__takes_several_steps_at_once(void **state)
{
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    struct sh_rpc_handle stage;
    int32_t tokens[SLOTS];

    client_model(c, &t->m, 1, &stage);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < SLOTS; i++)
            send_rows(c, stage, ROWS, i * ROWS, SH_WANT_TOKEN);
        for (int i = 0; i < SLOTS; i++) {
            struct event *e = client_event(c, round * SLOTS + i);
            assert_int_equal(e->type, SH_RPC_MSG_RESULT);
            assert_int_equal(e->status, SHOAL_OK);
            assert_int_equal(e->number, i);
            assert_int_equal(e->n_outcomes, ROWS);
            if (round == 0) tokens[i] = e->tokens[ROWS - 1];
            assert_int_equal(e->tokens[ROWS - 1], tokens[i]);
        }
        if (round == 0) reset(c, 1);
    }
    finish(c);
}

/* The worker has read all that was sent so far. */
static void settle(struct client *c)
{
    const struct sh_rpc_stats m = {.unused = 0};
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_stats_are a;

    must(client_ask(c, SH_RPC_MSG_STATS, &m, &a, &arena, &err), &err);
    sh_arena_release(&arena);
}

static void session__cancels_what_is_in_flight(void **state)
{
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    const struct sh_rpc_cancel cancel = {.from = 1, .to = 3}, other = {.epoch = 1, .to = 9};
    struct sh_rpc_handle stage;

    client_model(c, &t->m, 1, &stage);
    faults_close_gate(&t->w.faults, WRAP_SUBMIT);
    for (int i = 0; i < SLOTS; i++)
        send_rows(c, stage, ROWS, i * ROWS, SH_WANT_TOKEN);
    faults_await_gate(&t->w.faults, WRAP_SUBMIT); // the first one
    client_send(c, SH_RPC_MSG_CANCEL, &other);
    client_send(c, SH_RPC_MSG_CANCEL, &cancel);
    settle(c);
    faults_open_gate(&t->w.faults, WRAP_SUBMIT);
    for (int i = 0; i < SLOTS; i++) {
        struct event *e = client_event(c, i);
        assert_int_equal(e->number, i);
        assert_int_equal(e->status, i == 1 || i == 2 ? SHOAL_ERR_CANCELLED : SHOAL_OK);
    }
    finish(c);
}

/* A step that fails is answered by its stage, and by the last one. */
static void session__tells_a_failure_at_once_and_at_the_end(void **state)
{
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    struct sh_rpc_handle stages[2];
    struct step_make *s = sh_malloc(sizeof *s);
    const int32_t id = 3;
    struct event *e;

    assert_non_null(s);
    client_model(c, &t->m, 2, stages);
    step_make(s, &id, 1, 0, SH_WANT_TOKEN, 1);
    faults_fail(&t->w.faults, WRAP_SUBMIT, 0, SHOAL_ERR_LIMIT);
    client_step(c, s, stages, 2);
    e = client_event(c, 0);
    assert_int_equal(e->type, SH_RPC_MSG_RESULT);
    assert_int_equal(e->stage_slot, stages[0].slot);
    assert_int_equal(e->status, SHOAL_ERR_LIMIT);
    assert_true(strlen(e->message) > 0);
    e = client_event(c, 1);
    assert_int_equal(e->type, SH_RPC_MSG_HIDDEN);
    assert_int_equal(e->status, SHOAL_ERR_LIMIT);
    assert_int_equal(e->n_rows, 0);
    client_forward(c, e, stages);
    e = client_event(c, 2);
    assert_int_equal(e->type, SH_RPC_MSG_RESULT);
    assert_int_equal(e->stage_slot, stages[1].slot);
    assert_int_equal(e->status, SHOAL_ERR_LIMIT);
    reset(c, 1);
    client_check_model(c, &t->m, stages, 2, 16);
    sh_free(s);
    finish(c);
}

/* ---- what a worker says of itself -----------------------------------------------------------*/

static uint64_t stat_of(const struct sh_rpc_stats_are *a, const char *name)
{
    for (uint32_t i = 0; i < a->n_stats; i++) {
        char have[97];
        sh_rpc_text_copy(have, sizeof have, a->stats[i].name);
        if (strcmp(have, name) == 0) return a->stats[i].value;
    }
    fail_msg("no figure %s", name);
    return 0;
}

static void session__is_told_in_the_figures(void **state)
{
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "0123456789abcdef"), *d = worker_client(&t->w, "");
    const struct sh_rpc_stats ask = {.unused = 0};
    const struct sh_rpc_devices ask_devices = {.unused = 0};
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_stats_are a;
    struct sh_rpc_devices_are devices;
    struct sh_rpc_handle stage;
    char text[100];

    client_model(c, &t->m, 1, &stage);
    client_check_model(c, &t->m, &stage, 1, 40);
    must(client_ask(d, SH_RPC_MSG_STATS, &ask, &a, &arena, &err), &err);
    assert_int_equal(stat_of(&a, "sessions"), 1);
    assert_int_equal(stat_of(&a, "connections"), 2);
    assert_int_equal(stat_of(&a, "steps"), 2);
    assert_int_equal(stat_of(&a, "memory_total"), WORKER_MEMORY);
    assert_int_equal(stat_of(&a, "memory_free"), WORKER_MEMORY - stat_of(&a, "memory_sessions"));
    assert_int_equal(a.n_sessions, 1);
    assert_int_equal(a.sessions[0].session, c->session);
    assert_int_equal(a.sessions[0].steps, 2);
    assert_int_equal(a.sessions[0].memory, stat_of(&a, "memory_sessions"));
    sh_rpc_text_copy(text, sizeof text, a.sessions[0].name);
    assert_string_equal(text, "a model");
    sh_rpc_text_copy(text, sizeof text, a.sessions[0].key);
    assert_string_equal(text, "somebody");
    sh_arena_reset(&arena);
    must(client_ask(d, SH_RPC_MSG_DEVICES, &ask_devices, &devices, &arena, &err), &err);
    assert_int_equal(devices.n_devices, 1);
    assert_int_equal(devices.devices[0].flags, 3);
    assert_true(devices.devices[0].memory_free < WORKER_MEMORY);
    sh_arena_release(&arena);
    finish(c);
    worker_client_close(d);
}

/* ---- weights on a connection of their own ---------------------------------------------------*/

static void session__takes_weights_on_a_second_connection(void **state)
{
    struct worker_test *t = *state;
    struct client *c = sh_calloc(1, sizeof *c), *d = sh_calloc(1, sizeof *d);
    struct sh_rpc_attach attach = {.session = 0};
    struct sh_rpc_attached attached;
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_handle stage;
    struct stage_put put;

    assert_true(c && d);
    client_open(c, &t->w, SH_RPC_FOR_CONTROL, "", SH_RPC_FEATURES_ALL);
    client_open(d, &t->w, SH_RPC_FOR_DATA, "", SH_RPC_FEATURES_ALL);
    stage_put_make(&put, &t->m, 0, 1);
    must(client_session(c, put.claim.weights,
                        put.claim.cache + put.claim.scratch + put.claim.places, &err),
         &err);
    attach.session = c->session;
    assert_int_equal(client_ask(d, SH_RPC_MSG_ATTACH, &attach, &attached, &arena, &err),
                     SHOAL_ERR_NOT_FOUND); // no secret
    memcpy(attach.secret, c->secret, sizeof attach.secret);
    must(client_ask(d, SH_RPC_MSG_ATTACH, &attach, &attached, &arena, &err), &err);
    assert_true(attached.chunk_bytes > 0);
    client_weights(d, &put);
    must(client_put(c, &put, &stage, &err), &err);
    client_check_model(c, &t->m, &stage, 1, 16);
    finish(c);
    client_await_over(d); // the session took it along
    worker_client_close(d);
    stage_put_release(&put);
    sh_arena_release(&arena);
}

/* ---- the log --------------------------------------------------------------------------------*/

enum { LINE_MAX = 400 };
static struct lines {
    struct sh_mutex lock; /* guards the rest */
    int n;
    char fields[2048], message[LINE_MAX];
} g_lines;

static void write_down(void *user, const struct sh_log_record *r)
{
    struct lines *l = user;
    size_t n = 0;

    if (strcmp(r->part, "rpc") != 0) return;
    sh_mutex_lock(&l->lock);
    l->n++;
    (void)snprintf(l->message, sizeof l->message, "%s", r->message);
    for (int i = 0; i < r->n_fields && n < sizeof l->fields; i++) {
        const struct sh_log_field *f = &r->fields[i];
        int more;
        if (f->kind == SH_LOG_TEXT) {
            more = snprintf(l->fields + n, sizeof l->fields - n, "%s=%s ", f->name, f->value.text);
        } else if (f->kind == SH_LOG_SECONDS) {
            more = snprintf(l->fields + n, sizeof l->fields - n, "%s=%d ", f->name,
                            f->value.seconds > 0);
        } else {
            more = snprintf(l->fields + n, sizeof l->fields - n, "%s=%d ", f->name,
                            (int)f->value.count);
        }
        n += (size_t)more;
    }
    sh_mutex_unlock(&l->lock);
}

static void expect_field(const char *text)
{
    if (!strstr(g_lines.fields, text)) fail_msg("no %s in: %s", text, g_lines.fields);
}

static void session__leaves_one_line(void **state)
{
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "0123456789abcdef");
    struct sh_rpc_handle stage;
    int before;

    client_model(c, &t->m, 1, &stage);
    client_check_model(c, &t->m, &stage, 1, 20);
    before = g_lines.n;
    finish(c);
    assert_int_equal(g_lines.n, before + 1);
    assert_non_null(strstr(g_lines.message, "closed by the client"));
    expect_field("event=session ");
    expect_field("key=somebody ");
    expect_field("model=a model ");
    expect_field("steps=4 ");
    expect_field("compute_s=1 ");
    expect_field("total_s=1 ");
    expect_field("status=OK ");
    assert_null(strstr(g_lines.fields, "bytes_in=0 "));
    assert_null(strstr(g_lines.fields, "bytes_out=0 "));
    c = worker_client(&t->w, "");
    client_model(c, &t->m, 1, &stage);
    faults_close_gate(&t->w.faults, WRAP_SUBMIT);
    send_rows(c, stage, 1, 0, SH_WANT_TOKEN);
    faults_await_gate(&t->w.faults, WRAP_SUBMIT);
    worker_client_cut(c); // kept for its lease
    faults_open_gate(&t->w.faults, WRAP_SUBMIT);
    sh_rpc_server_revoke(t->w.server, "");
    worker_await_idle(&t->w);
    assert_int_equal(g_lines.n, before + 2);
    expect_field("key=none ");
    expect_field("reason=the key was revoked ");
}

/* ---- ends -----------------------------------------------------------------------------------*/

static void session__without_resume_ends_with_its_connection(void **state)
{
    struct worker_test *t = *state;
    struct client *c = sh_calloc(1, sizeof *c);
    struct sh_rpc_handle stage;

    assert_non_null(c);
    client_open(c, &t->w, SH_RPC_FOR_CONTROL, "", SH_RPC_CHECKSUM | SH_RPC_OWN_FILES);
    client_model(c, &t->m, 1, &stage);
    client_check_model(c, &t->m, &stage, 1, 40);
    worker_client_cut(c);
    worker_await_idle(&t->w);
}

/* Dropped stages give their memory back to the session; their handles mean nothing more. */
static void session__drops_stages(void **state)
{
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_stage_dropped dropped;
    struct sh_rpc_handle stage[4];
    struct stage_put put;

    client_model(c, &t->m, 1, &stage[0]);
    stage_put_make(&put, &t->m, 0, 1);
    assert_int_equal(client_put(c, &put, &stage[1], &err), SHOAL_ERR_NOMEM);
    for (int i = 0; i < 3; i++) {
        const struct sh_rpc_stage_drop m = {.stage = stage[i]};
        must(client_ask(c, SH_RPC_MSG_STAGE_DROP, &m, &dropped, &arena, &err), &err);
        assert_int_equal(client_ask(c, SH_RPC_MSG_STAGE_DROP, &m, &dropped, &arena, &err),
                         SHOAL_ERR_NOT_FOUND);
        must(client_put(c, &put, &stage[i + 1], &err), &err);
        assert_int_equal(stage[i + 1].slot, stage[i].slot);
        assert_int_not_equal(stage[i + 1].generation, stage[i].generation);
    }
    client_check_model(c, &t->m, &stage[3], 1, 40);
    stage_put_release(&put);
    sh_arena_release(&arena);
    finish(c);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, worker_setup, worker_teardown)
    const struct CMUnitTest tests[] = {
        TEST(session__one_stage_gives_the_same_bits),
        TEST(session__two_stages_give_the_same_bits),
        TEST(session__of_two_clients_do_not_meet),
        TEST(session__begins_again_in_a_new_epoch),
        TEST(session__takes_several_steps_at_once),
        TEST(session__cancels_what_is_in_flight),
        TEST(session__tells_a_failure_at_once_and_at_the_end),
        TEST(session__is_told_in_the_figures),
        TEST(session__takes_weights_on_a_second_connection),
        TEST(session__leaves_one_line),
        TEST(session__without_resume_ends_with_its_connection),
        TEST(session__drops_stages),
    };
#undef TEST

    sh_mutex_init(&g_lines.lock);
    sh_log_set_sink(write_down, &g_lines, SH_LOG_INFO);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
