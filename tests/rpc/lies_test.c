/* tests/rpc/lies_test.c - clients that lie: handles, epochs, numbers, hashes, rows, limits, graphs.
 *
 * One clear answer each, nobody else harmed, all memory back: after every test an honest session
 * works and the worker has nothing left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/fnv.h"
#include "base/mem.h"
#include "rpc/worker.h"

enum { VOCAB = 96 };

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

static void reset(struct client *c)
{
    const struct sh_rpc_reset m = {.epoch = c->epoch + 1};
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_reset_done done;

    must(client_ask(c, SH_RPC_MSG_RESET, &m, &done, &arena, &err), &err);
    c->epoch++;
    c->next = c->ack = 0;
    c->hash = SH_FNV_START;
    sh_arena_release(&arena);
}

/* ---- frames that end the connection ---------------------------------------------------------*/

typedef void nonsense(struct client *c, struct sh_rpc_handle stage);

/* Whoever sends this is thrown out; the session is kept, and can be had again. */
static void expect_the_end(struct worker_test *t, nonsense *say, const char *what)
{
    struct client *a = worker_client(&t->w, ""), *b = worker_client(&t->w, "");
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_resumed r;
    struct sh_rpc_handle stage;

    client_model(a, &t->m, 1, &stage);
    say(a, stage);
    client_await_over(a);
    if (a->status != SHOAL_ERR_FORMAT || !strstr(a->error.message, what))
        fail_msg("%s: %s", shoal_status_name(a->status), a->error.message);
    worker_await(&t->w, 1, 1);
    must(client_resume(b, a, 0, &r, &arena, &err), &err);
    sh_arena_release(&arena);
    worker_client_close(a);
    reset(b);
    client_check_model(b, &t->m, &stage, 1, 40);
    finish(b);
}

static void step_of_no_stage(struct client *c, struct sh_rpc_handle stage)
{
    const struct sh_rpc_step m = {.stage = {stage.slot + 1, 1}};

    client_send(c, SH_RPC_MSG_STEP, &m);
}

static void step_of_another_generation(struct client *c, struct sh_rpc_handle stage)
{
    const struct sh_rpc_step m = {.stage = {stage.slot, stage.generation + 1}};

    client_send(c, SH_RPC_MSG_STEP, &m);
}

static void rows_of_no_stage(struct client *c, struct sh_rpc_handle stage)
{
    const struct sh_rpc_hidden m = {.stage = {1000000, stage.generation}};

    client_send(c, SH_RPC_MSG_HIDDEN, &m);
}

static void rows_of_a_later_epoch(struct client *c, struct sh_rpc_handle stage)
{
    const struct sh_rpc_hidden m = {.stage = stage, .epoch = 1};

    client_send(c, SH_RPC_MSG_HIDDEN, &m);
}

static void rows_without_a_step(struct client *c, struct sh_rpc_handle stage)
{
    const struct sh_rpc_hidden m = {.stage = stage, .number = 0};

    client_send(c, SH_RPC_MSG_HIDDEN, &m);
}

/* A step with embedding rows, which then lie. */
static void embedding_rows(struct client *c, struct sh_rpc_handle stage, uint32_t first,
                           uint32_t n_rows, uint32_t n_bytes)
{
    struct step_make *s = sh_malloc(sizeof *s);
    uint8_t *bytes = sh_calloc(1, n_bytes + 1);
    struct sh_rpc_hidden m = {.stage = stage, .first_row = first, .n_rows = n_rows};
    const int32_t ids[2] = {-1, -2};

    assert_true(s && bytes);
    step_make(s, ids, 2, 0, SH_WANT_TOKEN, 1);
    s->m.n_embd = 2;
    client_step(c, s, &stage, 1);
    m.data.ptr = bytes;
    m.data.n = n_bytes;
    client_send(c, SH_RPC_MSG_HIDDEN, &m);
    sh_free(bytes);
    sh_free(s);
}

enum { ROW_BYTES = 64 * 4 };

static void rows_with_a_gap(struct client *c, struct sh_rpc_handle stage)
{
    embedding_rows(c, stage, 1, 1, ROW_BYTES);
}

static void rows_beyond_the_step(struct client *c, struct sh_rpc_handle stage)
{
    embedding_rows(c, stage, 0, 3, 3 * ROW_BYTES);
}

static void rows_that_wrap_around(struct client *c, struct sh_rpc_handle stage)
{
    embedding_rows(c, stage, UINT32_MAX, 2, 2 * ROW_BYTES);
}

static void rows_of_another_size(struct client *c, struct sh_rpc_handle stage)
{
    embedding_rows(c, stage, 0, 2, 2 * ROW_BYTES - 4);
}

static void an_error_of_the_client(struct client *c, struct sh_rpc_handle stage)
{
    (void)stage;
    client_send(c, SH_RPC_MSG_ERROR, &(struct sh_rpc_error){.status = 1});
}

static void lies__that_end_the_connection(void **state)
{
    static const struct {
        nonsense *say;
        const char *what;
    } ALL[] = {
        {step_of_no_stage, "there is no stage"},
        {step_of_another_generation, "there is no stage"},
        {rows_of_no_stage, "there is no stage"},
        {rows_of_a_later_epoch, "rows of epoch 1"},
        {rows_without_a_step, "where step 0 is due"},
        {rows_with_a_gap, "which has 0 of 2"},
        {rows_beyond_the_step, "which has 0 of 2"},
        {rows_that_wrap_around, "which has 0 of 2"},
        {rows_of_another_size, "bytes"},
        {an_error_of_the_client, "does not belong here"},
    };

    for (size_t i = 0; i < sizeof ALL / sizeof ALL[0]; i++)
        expect_the_end(*state, ALL[i].say, ALL[i].what);
}

/* ---- steps that do not fit ------------------------------------------------------------------*/

typedef void spoil(struct step_make *s);

/* The step is refused by an ERROR without a request; the stage is deaf until RESET, then as good as
 * ever. */
static void expect_desync(struct client *c, struct worker_test *t, struct sh_rpc_handle stage,
                          spoil *change, bool before_hash, enum shoal_status want)
{
    struct step_make *s = sh_malloc(sizeof *s);
    const int event = c->n_events;
    const int32_t ids[3] = {1, 2, 3};
    const struct event *e;

    assert_non_null(s);
    step_make(s, ids, 3, 0, SH_WANT_TOKEN, 1);
    if (before_hash) change(s);
    client_stamp(c, s);
    if (!before_hash) change(s);
    s->m.stage = stage;
    client_send(c, SH_RPC_MSG_STEP, &s->m);
    e = client_event(c, event);
    assert_int_equal(e->type, SH_RPC_MSG_ERROR);
    if (e->status != want) fail_msg("%s: %s", shoal_status_name(e->status), e->message);
    step_make(s, ids, 3, 0, SH_WANT_TOKEN, 1);
    client_step(c, s, &stage, 1); // not even a good one
    reset(c);
    assert_int_equal(c->n_events, event + 1);
    client_check_model(c, &t->m, &stage, 1, 80);
    reset(c);
    sh_free(s);
}

static void another_number(struct step_make *s)
{
    s->m.number = 1;
}
static void far_number(struct step_make *s)
{
    s->m.number = UINT64_MAX;
}
static void another_hash(struct step_make *s)
{
    s->m.hash ^= 1;
}
static void later_epoch(struct step_make *s)
{
    s->m.epoch += 5;
}
static void no_such_sequence(struct step_make *s)
{
    s->seqs[0].seq = s->rows[0].seq = s->rows[1].seq = s->rows[2].seq = 1;
}
static void negative_sequence(struct step_make *s)
{
    s->seqs[0].seq = s->rows[0].seq = s->rows[1].seq = s->rows[2].seq = -1;
}
static void page_out_of_range(struct step_make *s)
{
    s->edits[0].page = 1 << 30;
}
static void index_out_of_range(struct step_make *s)
{
    s->edits[0].index = 8;
}
static void group_out_of_range(struct step_make *s)
{
    s->edits[0].group = 7;
}
static void kind_of_edit(struct step_make *s)
{
    s->edits[0].kind = 5;
}
static void kind_of_want(struct step_make *s)
{
    s->rows[1].want = 4;
}
static void position_out_of_range(struct step_make *s)
{
    s->rows[2].pos = s->rows[2].last = INT32_MAX;
}
static void positions_that_fall(struct step_make *s)
{
    s->rows[2].pos = 0;
}
static void run_beyond_the_rows(struct step_make *s)
{
    s->seqs[0].n_rows = INT32_MAX;
}
static void state_out_of_range(struct step_make *s)
{
    s->seqs[0].state_write = 1 << 20;
}
static void embedding_without_rows(struct step_make *s)
{
    s->rows[1].token = INT32_MIN;
}
static void too_many_embeddings(struct step_make *s)
{
    s->m.n_embd = 257;
}
static void negative_embeddings(struct step_make *s)
{
    s->m.n_embd = -1;
}
static void too_many_candidates(struct step_make *s)
{
    s->rows[2].want = SH_WANT_TOP_K;
    s->rows[2].top_k = -1;
}

static void lies__in_steps(void **state)
{
    static const struct {
        spoil *change;
        bool before_hash;
        enum shoal_status want;
    } ALL[] = {
        {another_number, false, SHOAL_ERR_STATE},   {far_number, false, SHOAL_ERR_STATE},
        {another_hash, false, SHOAL_ERR_STATE},     {later_epoch, false, SHOAL_ERR_STATE},
        {no_such_sequence, true, SHOAL_ERR_ARG},    {negative_sequence, true, SHOAL_ERR_ARG},
        {page_out_of_range, true, SHOAL_ERR_ARG},   {index_out_of_range, true, SHOAL_ERR_ARG},
        {group_out_of_range, true, SHOAL_ERR_ARG},  {kind_of_edit, true, SHOAL_ERR_FORMAT},
        {kind_of_want, true, SHOAL_ERR_FORMAT},     {position_out_of_range, true, SHOAL_ERR_ARG},
        {positions_that_fall, true, SHOAL_ERR_ARG}, {run_beyond_the_rows, true, SHOAL_ERR_ARG},
        {state_out_of_range, true, SHOAL_ERR_ARG},  {embedding_without_rows, true, SHOAL_ERR_ARG},
        {too_many_embeddings, true, SHOAL_ERR_ARG}, {negative_embeddings, true, SHOAL_ERR_ARG},
        {too_many_candidates, true, SHOAL_ERR_ARG},
    };
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    struct sh_rpc_handle stage;

    client_model(c, &t->m, 1, &stage);
    for (size_t i = 0; i < sizeof ALL / sizeof ALL[0]; i++) {
        expect_desync(c, t, stage, ALL[i].change, ALL[i].before_hash, ALL[i].want);
        client_forget(c);
    }
    finish(c);
}

/* Ids are read while the step computes: it fails alone. */
static void lies__in_ids_fail_the_step(void **state)
{
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    struct step_make *s = sh_malloc(sizeof *s);
    const int32_t ids[2] = {1, VOCAB}, good = 1;
    struct sh_rpc_handle stage;

    assert_non_null(s);
    client_model(c, &t->m, 1, &stage);
    step_make(s, ids, 2, 0, SH_WANT_TOKEN, 1);
    client_step(c, s, &stage, 1);
    assert_int_equal(client_event(c, 0)->status, SHOAL_ERR_FORMAT);
    step_make(s, &good, 1, 0, SH_WANT_TOKEN, 1);
    client_step(c, s, &stage, 1);
    assert_int_equal(client_event(c, 1)->status, SHOAL_OK);
    sh_free(s);
    finish(c);
}

/* The same STEP again, an older one, one of an older epoch. */
static void lies__in_the_order_of_steps(void **state)
{
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    struct step_make *s = sh_malloc(sizeof *s);
    struct sh_rpc_handle stage;
    const int32_t id = 1;

    assert_non_null(s);
    client_model(c, &t->m, 1, &stage);
    step_make(s, &id, 1, 0, SH_WANT_TOKEN, 1);
    client_step(c, s, &stage, 1);
    assert_int_equal(client_event(c, 0)->status, SHOAL_OK);
    client_send(c, SH_RPC_MSG_STEP, &s->m); // a replay
    assert_int_equal(client_event(c, 1)->status, SHOAL_ERR_STATE);
    reset(c);
    client_send(c, SH_RPC_MSG_STEP, &s->m); // of an epoch that is over
    step_make(s, &id, 1, 0, SH_WANT_TOKEN, 1);
    client_step(c, s, &stage, 1);
    assert_int_equal(client_event(c, 2)->type, SH_RPC_MSG_RESULT);
    assert_int_equal(client_event(c, 2)->epoch, 1);
    sh_free(s);
    finish(c);
}

/* More steps than places: the host has to wait for results, and to say that it has them. */
static void lies__about_what_was_acknowledged(void **state)
{
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    struct step_make *s = sh_malloc(sizeof *s);
    struct sh_rpc_handle stage;
    const int32_t id = 1;
    const struct event *e;

    assert_non_null(s);
    client_model(c, &t->m, 1, &stage);
    for (int i = 0; i <= SLOTS; i++) {
        step_make(s, &id, 1, i, SH_WANT_TOKEN, 1);
        client_step(c, s, &stage, 1);
        if (i == SLOTS) break;
        assert_int_equal(client_event(c, i)->status, SHOAL_OK);
    }
    e = client_event(c, SLOTS); // nothing was acknowledged
    assert_int_equal(e->type, SH_RPC_MSG_ERROR);
    assert_int_equal(e->status, SHOAL_ERR_STATE);
    reset(c);
    c->ack = UINT64_MAX; // what has not been is not acknowledged by that
    for (int i = 0; i <= SLOTS; i++) {
        step_make(s, &id, 1, i, SH_WANT_TOKEN, 1);
        client_step(c, s, &stage, 1);
        assert_int_equal(client_event(c, SLOTS + 1 + i)->status, SHOAL_OK);
    }
    sh_free(s);
    finish(c);
}

/* What is not out yet cannot be acknowledged. */
static void lies__about_what_is_to_come(void **state)
{
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    struct step_make *s = sh_malloc(sizeof *s);
    struct sh_rpc_handle stage;
    const int32_t id = 1;

    assert_non_null(s);
    client_model(c, &t->m, 1, &stage);
    c->ack = UINT64_MAX;
    faults_close_gate(&t->w.faults, WRAP_SUBMIT);
    for (int i = 0; i < SLOTS; i++) {
        step_make(s, &id, 1, i, SH_WANT_TOKEN, 1);
        client_step(c, s, &stage, 1);
    }
    faults_await_gate(&t->w.faults, WRAP_SUBMIT);
    sh_rpc_conn_set_ack(c->c, UINT64_MAX);
    faults_open_gate(&t->w.faults, WRAP_SUBMIT);
    for (int i = 0; i < SLOTS; i++)
        assert_int_equal(client_event(c, i)->number, i);
    sh_free(s);
    finish(c);
}

/* Rows of an epoch that is over are dropped; rows that are here already, too. */
static void lies__in_rows_that_come_again(void **state)
{
    enum { N = 4 };
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    struct step_make *s = sh_malloc(sizeof *s);
    const int32_t ids[N] = {-1, -2, -3, -4};
    float rows[N][ROW_BYTES / 4], junk[N][ROW_BYTES / 4];
    struct sh_rpc_hidden m = {.n_rows = N, .data = {(const uint8_t *)rows, sizeof rows}};
    struct sh_rpc_handle stage;
    int32_t token = -1;

    assert_non_null(s);
    for (int i = 0; i < N * ROW_BYTES / 4; i++) {
        (&rows[0][0])[i] = (float)(i % 17) * 0.25f - 2;
        (&junk[0][0])[i] = (float)(i % 5) * 3;
    }
    client_model(c, &t->m, 1, &stage);
    m.stage = stage;
    for (int round = 0; round < 2; round++) {
        const int event = c->n_events;
        step_make(s, ids, N, 0, SH_WANT_TOKEN, 1);
        s->m.n_embd = N;
        client_step(c, s, &stage, 1);
        m.epoch = c->epoch;
        if (round == 1) {
            struct sh_rpc_hidden other = m;
            other.data.ptr = (const uint8_t *)junk;
            other.epoch--; // over
            client_send(c, SH_RPC_MSG_HIDDEN, &other);
            other = m;
            other.n_rows = 2; // a part, twice, then all
            other.data.n = 2 * ROW_BYTES;
            client_send(c, SH_RPC_MSG_HIDDEN, &other);
            other.data.ptr = (const uint8_t *)junk;
            client_send(c, SH_RPC_MSG_HIDDEN, &other);
            other.n_rows = 1;
            other.data.n = ROW_BYTES;
            client_send(c, SH_RPC_MSG_HIDDEN, &other);
        }
        client_send(c, SH_RPC_MSG_HIDDEN, &m);
        client_send(c, SH_RPC_MSG_HIDDEN, &m);
        assert_int_equal(client_event(c, event)->status, SHOAL_OK);
        if (round == 0) token = client_event(c, event)->tokens[N - 1];
        assert_int_equal(client_event(c, event)->tokens[N - 1], token);
        reset(c);
    }
    sh_free(s);
    finish(c);
}

/* ---- sessions -------------------------------------------------------------------------------*/

static enum shoal_status open_claims(struct client *c, const struct sh_rpc_claim *claims,
                                     uint32_t n, struct sh_rpc_ask *ask, struct shoal_error *err)
{
    const struct sh_rpc_open m = {.name = sh_rpc_text_from("m"), .claims = claims, .n_claims = n};
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_opened o;
    enum shoal_status st;

    *ask = (struct sh_rpc_ask){
        .type = SH_RPC_MSG_OPEN, .msg = &m, .answer = &o, .arena = &arena, .timeout_ns = SOON_NS};
    st = sh_rpc_conn_ask(c->c, ask, err);
    sh_arena_release(&arena);
    return st;
}

static void lies__in_open(void **state)
{
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    const struct sh_rpc_claim much = {.cache = WORKER_MEMORY, .places = 1};
    const struct sh_rpc_claim sum[2] = {{.cache = WORKER_MEMORY / 2}, {.weights = WORKER_MEMORY}};
    const struct sh_rpc_claim wraps = {.cache = UINT64_MAX, .scratch = 2};
    const struct sh_rpc_claim elsewhere = {.device = 1};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_ask ask;

    assert_int_equal(open_claims(c, &much, 1, &ask, &err), SHOAL_ERR_NOMEM);
    assert_int_equal(ask.need, WORKER_MEMORY + 1u);
    assert_int_equal(ask.free, WORKER_MEMORY);
    assert_int_equal(open_claims(c, sum, 2, &ask, &err), SHOAL_ERR_NOMEM);
    assert_int_equal(open_claims(c, &wraps, 1, &ask, &err), SHOAL_ERR_LIMIT);
    assert_int_equal(open_claims(c, &elsewhere, 1, &ask, &err), SHOAL_ERR_ARG);
    must(client_session(c, 0, WORKER_MEMORY, &err), &err);
    assert_int_equal(client_session(c, 0, 0, &err), SHOAL_ERR_STATE); // a second one
    finish(c);
}

/* A thousand sessions, as far as it goes; those that are refused cost nothing. */
static void lies__in_a_thousand_opens(void **state)
{
    enum { CONNECTIONS = 20, TIMES = 50, MOST = 16 };
    struct worker_test *t = *state;
    struct client *c[CONNECTIONS];
    struct shoal_error err = SHOAL_ERROR_INIT;
    int n = 0;

    for (int i = 0; i < CONNECTIONS; i++)
        c[i] = worker_client(&t->w, "");
    for (int k = 0; k < TIMES; k++) {
        for (int i = 0; i < CONNECTIONS; i++) {
            const enum shoal_status st = client_session(c[i], 0, 1 << 20, &err);
            n += st == SHOAL_OK;
            if (st && i >= MOST) assert_int_equal(st, SHOAL_ERR_LIMIT);
            if (st && i < MOST) assert_int_equal(st, SHOAL_ERR_STATE);
        }
    }
    assert_int_equal(n, MOST);
    for (int i = 0; i < MOST; i++)
        finish(c[i]);
    must(client_session(c[MOST], 0, 1 << 20, &err), &err);
    finish(c[MOST]);
    for (int i = MOST + 1; i < CONNECTIONS; i++)
        worker_client_close(c[i]);
}

/* Requests that need a session, or name what is not there. */
static void lies__in_requests(void **state)
{
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_handle stages[2];
    const struct sh_rpc_stage_drop drop = {.stage = {7, 1}};
    struct sh_rpc_route route = {.stage = {7, 1}};
    struct sh_rpc_reset again = {.epoch = 0};
    struct sh_rpc_stage_dropped dropped;
    struct sh_rpc_reset_done done;
    struct sh_rpc_closed closed;
    struct sh_rpc_routed routed;
    const struct sh_rpc_close close = {.unused = 0};

    assert_int_equal(client_ask(c, SH_RPC_MSG_STAGE_DROP, &drop, &dropped, &arena, &err),
                     SHOAL_ERR_STATE);
    assert_int_equal(client_ask(c, SH_RPC_MSG_CLOSE, &close, &closed, &arena, &err),
                     SHOAL_ERR_STATE);
    client_model(c, &t->m, 2, stages);
    assert_int_equal(client_ask(c, SH_RPC_MSG_STAGE_DROP, &drop, &dropped, &arena, &err),
                     SHOAL_ERR_NOT_FOUND);
    assert_int_equal(client_ask(c, SH_RPC_MSG_ROUTE, &route, &routed, &arena, &err),
                     SHOAL_ERR_NOT_FOUND);
    route = (struct sh_rpc_route){.stage = stages[0], .where = 1, .link = {0, 1}};
    assert_int_equal(client_ask(c, SH_RPC_MSG_ROUTE, &route, &routed, &arena, &err),
                     SHOAL_ERR_NOT_FOUND); // no such link
    route.where = 2;
    assert_int_equal(client_ask(c, SH_RPC_MSG_ROUTE, &route, &routed, &arena, &err),
                     SHOAL_ERR_FORMAT);
    route = (struct sh_rpc_route){.stage = stages[1]};
    assert_int_equal(client_ask(c, SH_RPC_MSG_ROUTE, &route, &routed, &arena, &err),
                     SHOAL_ERR_STATE); // the last has no rows
    assert_int_equal(client_ask(c, SH_RPC_MSG_RESET, &again, &done, &arena, &err),
                     SHOAL_ERR_STATE); // no new epoch
    client_check_model(c, &t->m, stages, 2, 40);
    sh_arena_release(&arena);
    finish(c);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, worker_setup, worker_teardown)
    const struct CMUnitTest tests[] = {
        TEST(lies__that_end_the_connection),     TEST(lies__in_steps),
        TEST(lies__in_ids_fail_the_step),        TEST(lies__in_the_order_of_steps),
        TEST(lies__about_what_was_acknowledged), TEST(lies__about_what_is_to_come),
        TEST(lies__in_rows_that_come_again),     TEST(lies__in_open),
        TEST(lies__in_a_thousand_opens),         TEST(lies__in_requests),
    };
#undef TEST

    return cmocka_run_group_tests(tests, NULL, NULL);
}
