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

/* ---- stages ---------------------------------------------------------------------------------*/

typedef void spoil_put(struct sh_rpc_stage_put *m);

static void no_slots(struct sh_rpc_stage_put *m)
{
    m->n_slots = 0;
}
static void many_slots(struct sh_rpc_stage_put *m)
{
    m->n_slots = 67;
}
static void far_index(struct sh_rpc_stage_put *m)
{
    m->index = 64;
}
static void first_of_another_kind(struct sh_rpc_stage_put *m)
{
    m->first = 2;
}
static void shards(struct sh_rpc_stage_put *m)
{
    m->n_shards = 2;
}
static void no_device(struct sh_rpc_stage_put *m)
{
    m->device = 9;
}
static void not_the_first(struct sh_rpc_stage_put *m)
{
    m->first = 0;
}
static void not_the_last(struct sh_rpc_stage_put *m)
{
    m->last = 0;
}
static void more_rows_than_the_graph(struct sh_rpc_stage_put *m)
{
    m->rows_max = 257;
}
static void rows_without_end(struct sh_rpc_stage_put *m)
{
    m->rows_max = INT64_MAX;
}
static void no_rows(struct sh_rpc_stage_put *m)
{
    m->rows_max = 0;
}
static void more_wanted_than_rows(struct sh_rpc_stage_put *m)
{
    m->wanted_max = 1 << 20;
}
static void more_sequences(struct sh_rpc_stage_put *m)
{
    m->n_seqs = 2;
}
static void more_positions(struct sh_rpc_stage_put *m)
{
    m->n_positions += 64;
}
static void positions_without_end(struct sh_rpc_stage_put *m)
{
    m->n_positions = INT64_MAX;
}
static void fewer_positions(struct sh_rpc_stage_put *m)
{
    m->n_positions = 64;
}
static void no_groups(struct sh_rpc_stage_put *m)
{
    m->n_groups = 0;
}
static void no_graph(struct sh_rpc_stage_put *m)
{
    m->graph.n = 0;
}
static void half_a_graph(struct sh_rpc_stage_put *m)
{
    m->graph.n /= 2;
}
static void rotation_for_a_graph(struct sh_rpc_stage_put *m)
{
    m->graph = m->rotate;
}
static void graph_for_a_rotation(struct sh_rpc_stage_put *m)
{
    m->rotate = m->graph;
}
static void no_weights(struct sh_rpc_stage_put *m)
{
    m->n_weights = 0;
}
static void a_weight_less(struct sh_rpc_stage_put *m)
{
    m->n_weights--;
}

/* What is refused leaves all that was set aside to the next one. */
static void lies__in_stage_put(void **state)
{
    static spoil_put *const ALL[] = {
        no_slots,
        many_slots,
        far_index,
        first_of_another_kind,
        shards,
        no_device,
        not_the_first,
        not_the_last,
        more_rows_than_the_graph,
        rows_without_end,
        no_rows,
        more_wanted_than_rows,
        more_sequences,
        more_positions,
        positions_without_end,
        fewer_positions,
        no_groups,
        no_graph,
        half_a_graph,
        rotation_for_a_graph,
        graph_for_a_rotation,
        no_weights,
        a_weight_less,
    };
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_handle stage;
    struct stage_put put;

    stage_put_make(&put, &t->m, 0, 1);
    must(client_session(c, put.claim.weights,
                        put.claim.cache + put.claim.scratch + put.claim.places, &err),
         &err);
    assert_int_equal(client_put(c, &put, &stage, &err), SHOAL_ERR_STATE); // no weight is here
    client_weights(c, &put);
    for (size_t i = 0; i < sizeof ALL / sizeof ALL[0]; i++) {
        struct stage_put bad = put;
        ALL[i](&bad.m);
        err = (struct shoal_error)SHOAL_ERROR_INIT;
        if (client_put(c, &bad, &stage, &err) == SHOAL_OK) fail_msg("lie %zu was believed", i);
        assert_true(strlen(err.message) > 0);
    }
    must(client_put(c, &put, &stage, &err), &err);
    client_check_model(c, &t->m, &stage, 1, 80);
    stage_put_release(&put);
    finish(c);
}

/* Claims that are too small for the stage. */
static void lies__in_claims(void **state)
{
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_stage_ready ready;
    struct stage_put put;
    struct sh_rpc_ask ask;
    uint64_t rest;

    stage_put_make(&put, &t->m, 0, 1);
    rest = put.claim.cache + put.claim.scratch + put.claim.places;
    must(client_session(c, put.claim.weights, rest - 1, &err), &err);
    client_weights(c, &put);
    ask = (struct sh_rpc_ask){.type = SH_RPC_MSG_STAGE_PUT,
                              .msg = &put.m,
                              .answer = &ready,
                              .arena = &arena,
                              .timeout_ns = SOON_NS};
    assert_int_equal(sh_rpc_conn_ask(c->c, &ask, &err), SHOAL_ERR_NOMEM);
    assert_int_equal(ask.need, rest);
    assert_int_equal(ask.free, rest - 1);
    sh_arena_release(&arena);
    stage_put_release(&put);
    finish(c);
}

/* The bytes of a graph, changed at random: refused, or a stage, which then takes steps. */
static void lies__in_graphs(void **state)
{
    enum { TIMES = 200 };
    struct worker_test *t = *state;
    struct client *c = worker_client(&t->w, "");
    struct step_make *s = sh_malloc(sizeof *s);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct stage_put put, bad;
    uint32_t seed = 11;
    int n_refused = 0;
    uint8_t *bytes;

    assert_non_null(s);
    stage_put_make(&put, &t->m, 0, 1);
    bytes = sh_malloc(put.m.graph.n);
    assert_non_null(bytes);
    must(client_session(c, put.claim.weights, (uint64_t)64 << 20, &err), &err);
    client_weights(c, &put);
    bad = put;
    bad.m.graph.ptr = bytes;
    for (int i = 0; i < TIMES; i++) {
        const uint32_t n = 1 + tm_random(&seed, 3);
        struct sh_rpc_handle stage;
        memcpy(bytes, put.graph, put.m.graph.n);
        for (uint32_t k = 0; k < n; k++)
            bytes[tm_random(&seed, put.m.graph.n)] = (uint8_t)tm_random(&seed, 256);
        if (client_put(c, &bad, &stage, &err)) {
            n_refused++;
        } else {
            const int32_t ids[3] = {1, 2, 3};
            const struct sh_rpc_stage_drop m = {.stage = stage};
            const int event = c->n_events;
            struct sh_arena arena = SH_ARENA_INIT;
            struct sh_rpc_stage_dropped dropped;
            c->next = 0;
            c->hash = SH_FNV_START;
            step_make(s, ids, 3, 0, SH_WANT_TOKEN, 1);
            client_step(c, s, &stage, 1);
            (void)client_event(c, event);
            must(client_ask(c, SH_RPC_MSG_STAGE_DROP, &m, &dropped, &arena, &err), &err);
            sh_arena_release(&arena);
        }
        client_forget(c);
    }
    printf("%d of %d graphs were refused\n", n_refused, TIMES);
    assert_true(n_refused > TIMES / 4);
    sh_free(bytes);
    sh_free(s);
    stage_put_release(&put);
    finish(c);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, worker_setup, worker_teardown)
    const struct CMUnitTest tests[] = {
        TEST(lies__that_end_the_connection),
        TEST(lies__in_steps),
        TEST(lies__in_ids_fail_the_step),
        TEST(lies__in_the_order_of_steps),
        TEST(lies__about_what_was_acknowledged),
        TEST(lies__about_what_is_to_come),
        TEST(lies__in_rows_that_come_again),
        TEST(lies__in_open),
        TEST(lies__in_a_thousand_opens),
        TEST(lies__in_requests),
        TEST(lies__in_stage_put),
        TEST(lies__in_claims),
        TEST(lies__in_graphs),
    };
#undef TEST

    return cmocka_run_group_tests(tests, NULL, NULL);
}
