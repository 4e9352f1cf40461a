/* tests/rpc/liar_test.c - a worker that lies, and a host that believes none of it.
 *
 * The worker is a listener and a connection of rpc/conn.h with answers by hand; what it says to a
 * STEP is the case.  The host's station must be lost once, with a sentence that names worker, stage
 * and step, and say nothing out that was not true.
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
#include "net/listener.h"
#include "rpc/claim.h"
#include "rpc/remote.h"
#include "support/models.h"

#define SOON_NS (60 * SH_SECOND)

enum { VOCAB = 96, WIDTH = 64, INDEX = 3, SLOTS = 3, ROWS = 4, TOP = 3 };

/* ---- the worker -----------------------------------------------------------------------------*/

struct liar {
    struct sh_listener *listener;
    struct sh_thread thread;
    struct sh_rpc_conn *c;
    void (*lie)(struct liar *l, const struct sh_rpc_step *step);
    struct sh_rpc_handle stage;
    struct sh_mutex lock; /* all below */
    struct sh_cond changed;
    bool mute;  /* says nothing to STAGE_PUT */
    bool asked; /* STAGE_PUT has come */
};

static void say(struct liar *l, enum sh_rpc_type type, const void *msg)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    const enum shoal_status st = sh_rpc_conn_send(l->c, type, 0, msg, &err);

    // The host may have gone; what may not be sent at all proves nothing here.
    if (st == SHOAL_ERR_ARG || st == SHOAL_ERR_LIMIT || st == SHOAL_ERR_UNSUPPORTED)
        fail_msg("%s", err.message);
}

static void answer(struct liar *l, enum sh_rpc_type type, uint32_t request, const void *msg)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_rpc_conn_send(l->c, type, request, msg, &err)) fail_msg("%s", err.message);
}

static enum shoal_status on_message(void *self, struct sh_rpc_conn *c,
                                    const struct sh_rpc_incoming *m, struct shoal_error *err)
{
    struct liar *l = self;

    (void)err;
    l->c = c;
    switch (m->type) {
    case SH_RPC_MSG_DEVICES: {
        const struct sh_rpc_device d = {.name = {"CPU", 3}, .flags = 3, .memory_free = 1 << 30};
        const struct sh_rpc_devices_are a = {.devices = &d, .n_devices = 1};
        answer(l, SH_RPC_MSG_DEVICES_ARE, m->request, &a);
        break;
    }
    case SH_RPC_MSG_OPEN: {
        const struct sh_rpc_opened a = {.session = 1};
        answer(l, SH_RPC_MSG_OPENED, m->request, &a);
        break;
    }
    case SH_RPC_MSG_STAGE_PUT: {
        const struct sh_rpc_stage_ready a = {.stage = l->stage};
        sh_mutex_lock(&l->lock);
        if (!l->mute) answer(l, SH_RPC_MSG_STAGE_READY, m->request, &a);
        l->asked = true;
        sh_cond_signal(&l->changed);
        sh_mutex_unlock(&l->lock);
        break;
    }
    case SH_RPC_MSG_ROUTE: {
        const struct sh_rpc_routed a = {.stage = l->stage};
        answer(l, SH_RPC_MSG_ROUTED, m->request, &a);
        break;
    }
    case SH_RPC_MSG_RESET: {
        const struct sh_rpc_reset_done a = {.epoch = ((const struct sh_rpc_reset *)m->msg)->epoch};
        answer(l, SH_RPC_MSG_RESET_DONE, m->request, &a);
        break;
    }
    case SH_RPC_MSG_STAGE_DROP: {
        const struct sh_rpc_stage_dropped a = {.stage = l->stage};
        answer(l, SH_RPC_MSG_STAGE_DROPPED, m->request, &a);
        break;
    }
    case SH_RPC_MSG_CLOSE: {
        const struct sh_rpc_closed a = {.freed = 0};
        answer(l, SH_RPC_MSG_CLOSED, m->request, &a);
        break;
    }
    case SH_RPC_MSG_STEP:
        l->lie(l, m->msg);
        break;
    default:
        break;
    }
    return SHOAL_OK;
}

static void *be_liar(void *arg)
{
    const struct sh_rpc_conn_options opt = {.features = SH_RPC_CHECKSUM};
    const struct sh_tcp_options tcp = {.user_timeout_ms = 0};
    struct liar *l = arg;
    const struct sh_rpc_handler h = {.message = on_message, .self = l};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_stream *s;
    struct sh_address peer;
    struct sh_rpc_conn *c = NULL;

    if (sh_listener_accept(l->listener, SOON_NS, &tcp, &s, &peer, &err) ||
        sh_rpc_conn_accept(&c, s, &opt, &err)) {
        fail_msg("%s", err.message);
    }
    l->c = c;
    (void)!sh_rpc_conn_run(c, &h, NULL);
    sh_rpc_conn_close(c, NULL);
    return NULL;
}

/* ---- the host -------------------------------------------------------------------------------*/

struct heard {
    struct sh_mutex lock;
    struct sh_cond changed;
    int n_outputs, n_lost;
    uint64_t last_number;
    enum shoal_status status, lost;
    struct shoal_error why;
};

static void on_output(void *self, const struct sh_station_output *out)
{
    struct heard *h = self;

    sh_mutex_lock(&h->lock);
    h->n_outputs++;
    h->last_number = out->number;
    h->status = out->status;
    sh_cond_broadcast(&h->changed);
    sh_mutex_unlock(&h->lock);
}

static void on_lost(void *self, enum shoal_status st, const struct shoal_error *err)
{
    struct heard *h = self;

    sh_mutex_lock(&h->lock);
    h->n_lost++;
    h->lost = st;
    h->why = *err;
    sh_cond_broadcast(&h->changed);
    sh_mutex_unlock(&h->lock);
}

struct scene {
    struct liar liar;
    struct heard heard;
    struct sh_remote *r;
    struct sh_station *station;
    char address[SH_ADDRESS_TEXT_MAX];
};

static enum shoal_status try_stage(struct scene *s, bool last, struct shoal_error *err)
{
    const struct sh_build_limits limits = {.rows_max = ROWS,
                                           .wanted_max = ROWS,
                                           .n_seqs = 1,
                                           .n_positions = 128,
                                           .pages = {4},
                                           .cache_type = SH_DTYPE_F32,
                                           .n_ctx = 128};
    const struct sh_part part = {.layer_begin = last ? 1 : 0,
                                 .layer_end = last ? 3 : 1,
                                 .embed = !last,
                                 .head = last,
                                 .n_shards = 1};
    struct sh_remote_stage_desc d = {.index = INDEX,
                                     .first = !last,
                                     .last = last,
                                     .n_groups = 1,
                                     .limits = {.n_seqs = 1,
                                                .n_groups = 1,
                                                .n_positions = 128,
                                                .rows_max = ROWS,
                                                .wanted_max = ROWS,
                                                .pages = {4}},
                                     .n_slots = SLOTS,
                                     .width_in = WIDTH,
                                     .width_out = last ? VOCAB : WIDTH,
                                     .sink = {on_output, on_lost, &s->heard}};
    enum shoal_status st;
    struct sh_graph graph;
    struct tm_model m;

    tm_make(&m, TM_LLAMA, SH_DTYPE_F32, 1);
    if (sh_model_build(m.model, &part, &limits, &graph, err)) fail_msg("%s", err->message);
    assert_int_equal(sh_rpc_claim_width_out(&graph), d.width_out);
    d.graph = &graph;
    st = sh_remote_stage(s->r, &d, &s->station, NULL, err);
    sh_graph_release(&graph);
    tm_release(&m);
    return st;
}

// Up to a session.
static void scene_begin(struct scene *s,
                        void (*lie)(struct liar *l, const struct sh_rpc_step *step))
{
    const struct sh_endpoint ep = {.host = "127.0.0.1"};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_remote_options opt = {.address = s->address};

    memset(s, 0, sizeof *s);
    sh_mutex_init(&s->heard.lock);
    sh_cond_init(&s->heard.changed);
    sh_mutex_init(&s->liar.lock);
    sh_cond_init(&s->liar.changed);
    s->liar.lie = lie;
    s->liar.stage = (struct sh_rpc_handle){7, 9};
    if (sh_listener_open(&s->liar.listener, &ep, &err)) fail_msg("%s", err.message);
    snprintf(s->address, sizeof s->address, "%s", sh_listener_text(s->liar.listener));
    if (sh_thread_start(&s->liar.thread, "liar", be_liar, &s->liar, &err))
        fail_msg("%s", err.message);
    if (sh_remote_open(&s->r, &opt, &err)) fail_msg("%s", err.message);
    if (sh_remote_session(s->r, "model", NULL, 0, 0, &err)) fail_msg("%s", err.message);
}

static void scene_open(struct scene *s, bool last,
                       void (*lie)(struct liar *l, const struct sh_rpc_step *step))
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    scene_begin(s, lie);
    if (try_stage(s, last, &err)) fail_msg("%s", err.message);
}

static void scene_close(struct scene *s)
{
    sh_station_close(s->station);
    sh_remote_close(s->r);
    sh_thread_join(&s->liar.thread);
    sh_listener_close(s->liar.listener);
    sh_cond_release(&s->liar.changed);
    sh_mutex_release(&s->liar.lock);
    sh_cond_release(&s->heard.changed);
    sh_mutex_release(&s->heard.lock);
}

/* ROWS rows at position 4 * number: a token, candidates, logits, nothing (in turn). */
static void announce(struct scene *s, uint64_t epoch, uint64_t number)
{
    static const enum sh_want WANT[ROWS] = {SH_WANT_TOKEN, SH_WANT_TOP_K, SH_WANT_LOGITS,
                                            SH_WANT_NOTHING};
    const struct sh_sampler_params sampler = SH_SAMPLER_DEFAULTS;
    const struct sh_step_seq seq = {
        .n_rows = ROWS, .state_read = -1, .state_write = -1, .sampler = sampler};
    const struct sh_prelude map = {.kind = SH_PRELUDE_MAP};
    struct sh_row rows[ROWS];
    const struct sh_step step = {.epoch = epoch,
                                 .number = number,
                                 .prelude = &map,
                                 .n_prelude = 1,
                                 .rows = rows,
                                 .n_rows = ROWS,
                                 .seqs = &seq,
                                 .n_seqs = 1};
    struct shoal_error err = SHOAL_ERROR_INIT;

    for (int i = 0; i < ROWS; i++) {
        const int32_t pos = (int32_t)number * ROWS + i;
        rows[i] = (struct sh_row){
            .token = i, .pos = pos, .last = pos, .want = WANT[i], .top_k = i == 1 ? TOP : 0};
    }
    if (sh_station_announce(s->station, &step, 0, &err)) fail_msg("%s", err.message);
}

static void await(struct scene *s, int n_outputs, int n_lost)
{
    const int64_t end = sh_now_ns(&sh_clock_system) + SOON_NS;

    sh_mutex_lock(&s->heard.lock);
    while (s->heard.n_outputs < n_outputs || s->heard.n_lost < n_lost) {
        const int64_t left = end - sh_now_ns(&sh_clock_system);
        if (left <= 0) fail_msg("nothing is heard");
        (void)sh_cond_wait(&s->heard.changed, &s->heard.lock, left);
    }
    sh_mutex_unlock(&s->heard.lock);
}

/* ---- what is true ---------------------------------------------------------------------------*/

struct truth { /* a RESULT that fits the step, to be spoiled */
    struct sh_rpc_candidate top[8];
    struct sh_rpc_outcome outcome[8];
    struct sh_rpc_timing timing[2];
    struct sh_rpc_result m;
};

static void tell_truth(struct truth *t, const struct liar *l, const struct sh_rpc_step *step)
{
    memset(t, 0, sizeof *t);
    for (int i = 0; i < 8; i++)
        t->top[i] = (struct sh_rpc_candidate){.id = 10 + i, .logit = (float)-i, .p = (float)-i - 1};
    t->outcome[0] = (struct sh_rpc_outcome){.row = 0, .want = SH_WANT_TOKEN, .token = 5};
    t->outcome[1] =
        (struct sh_rpc_outcome){.row = 1, .want = SH_WANT_TOP_K, .top = t->top, .n_top = TOP};
    t->outcome[2] = (struct sh_rpc_outcome){.row = 2, .want = SH_WANT_LOGITS};
    t->timing[0] = (struct sh_rpc_timing){.stage = INDEX, .compute_us = 5};
    t->m = (struct sh_rpc_result){.stage = l->stage,
                                  .epoch = step->epoch,
                                  .number = step->number,
                                  .outcomes = t->outcome,
                                  .n_outcomes = 3,
                                  .n_logits = 1,
                                  .timings = t->timing,
                                  .n_timings = 1};
}

static const float NUMBERS[VOCAB + 8];

static struct sh_rpc_logits logits_of(const struct liar *l, const struct sh_rpc_step *step,
                                      int32_t row, uint32_t first, uint32_t bytes)
{
    return (struct sh_rpc_logits){.stage = l->stage,
                                  .epoch = step->epoch,
                                  .number = step->number,
                                  .row = row,
                                  .first = first,
                                  .data = {(const uint8_t *)NUMBERS, bytes}};
}

static void say_logits(struct liar *l, const struct sh_rpc_step *step, int32_t row, uint32_t first,
                       uint32_t bytes)
{
    const struct sh_rpc_logits m = logits_of(l, step, row, first, bytes);

    say(l, SH_RPC_MSG_LOGITS, &m);
}

static void be_honest(struct liar *l, const struct sh_rpc_step *step)
{
    struct truth t;

    tell_truth(&t, l, step);
    say(l, SH_RPC_MSG_RESULT, &t.m);
    say_logits(l, step, 2, 0, 40 * 4);
    say_logits(l, step, 2, 40, (VOCAB - 40) * 4);
}

static struct sh_rpc_hidden hidden_of(const struct liar *l, const struct sh_rpc_step *step,
                                      uint32_t first, uint32_t n)
{
    static const uint8_t ROWS_OF[(ROWS + 2) * WIDTH * 4];

    return (struct sh_rpc_hidden){.stage = l->stage,
                                  .epoch = step->epoch,
                                  .number = step->number,
                                  .first_row = first,
                                  .n_rows = n,
                                  .data = {ROWS_OF, n * WIDTH * 4}};
}

/* ---- lies of the last stage -----------------------------------------------------------------*/

#define SPOILED(name, change)                                                                      \
    static void name(struct liar *l, const struct sh_rpc_step *step)                               \
    {                                                                                              \
        struct truth t;                                                                            \
        tell_truth(&t, l, step);                                                                   \
        change;                                                                                    \
        say(l, SH_RPC_MSG_RESULT, &t.m);                                                           \
    }

SPOILED(other_epoch, t.m.epoch = 4)
SPOILED(not_sent, t.m.number = 1)
SPOILED(far_number, t.m.number = UINT64_MAX)
SPOILED(no_results, t.m.n_outcomes = 0)
SPOILED(more_results, t.m.n_outcomes = 5)
SPOILED(other_row, t.outcome[1].row = 3)
SPOILED(wanted_nothing, t.outcome[0].want = SH_WANT_LOGITS)
SPOILED(token_below, t.outcome[0].token = -1)
SPOILED(token_beyond, t.outcome[0].token = VOCAB)
SPOILED(few_candidates, t.outcome[1].n_top = TOP - 1)
SPOILED(many_candidates, t.outcome[1].n_top = 8)
SPOILED(candidate_beyond, t.top[2].id = VOCAB)
SPOILED(candidate_below, t.top[0].id = -5)
SPOILED(candidates_of_a_token, (t.outcome[0].top = t.top, t.outcome[0].n_top = 2))
SPOILED(no_logits, t.m.n_logits = 0)
SPOILED(many_logits, t.m.n_logits = 1000000)
SPOILED(strange_timing, t.timing[0].stage = 4000000000u)
SPOILED(other_stage, t.m.stage.generation = 10)

static void result_twice(struct liar *l, const struct sh_rpc_step *step)
{
    struct truth t;

    tell_truth(&t, l, step);
    say(l, SH_RPC_MSG_RESULT, &t.m);
    say(l, SH_RPC_MSG_RESULT, &t.m);
}

static void failure_after_result(struct liar *l, const struct sh_rpc_step *step)
{
    struct truth t;

    tell_truth(&t, l, step);
    say(l, SH_RPC_MSG_RESULT, &t.m);
    t.m.status = 4;
    say(l, SH_RPC_MSG_RESULT, &t.m);
}

static void logits_first(struct liar *l, const struct sh_rpc_step *step)
{
    say_logits(l, step, 2, 0, VOCAB * 4);
}

#define LOGITS_AFTER(name, row, first, bytes)                                                      \
    static void name(struct liar *l, const struct sh_rpc_step *step)                               \
    {                                                                                              \
        struct truth t;                                                                            \
        tell_truth(&t, l, step);                                                                   \
        say(l, SH_RPC_MSG_RESULT, &t.m);                                                           \
        say_logits(l, step, row, first, bytes);                                                    \
    }

LOGITS_AFTER(logits_of_another_row, 1, 0, VOCAB * 4)
LOGITS_AFTER(logits_with_a_gap, 2, 4, VOCAB * 4 - 16)
LOGITS_AFTER(logits_beyond, 2, 0, VOCAB * 4 + 4)
LOGITS_AFTER(logits_cut, 2, 0, 30)
LOGITS_AFTER(logits_empty, 2, 0, 0)

static void rows_of_the_last(struct liar *l, const struct sh_rpc_step *step)
{
    const struct sh_rpc_hidden m = hidden_of(l, step, 0, ROWS);

    say(l, SH_RPC_MSG_HIDDEN, &m);
}

/* ---- lies of a stage before it --------------------------------------------------------------*/

#define ROWS_LIE(name, first, n, change)                                                           \
    static void name(struct liar *l, const struct sh_rpc_step *step)                               \
    {                                                                                              \
        struct sh_rpc_hidden m = hidden_of(l, step, first, n);                                     \
        change;                                                                                    \
        say(l, SH_RPC_MSG_HIDDEN, &m);                                                             \
    }

ROWS_LIE(rows_beyond, 0, ROWS + 1, (void)m)
ROWS_LIE(rows_with_a_gap, 1, 2, (void)m)
ROWS_LIE(rows_none, 0, 0, (void)m)
ROWS_LIE(rows_short, 0, ROWS, m.data.n -= 4)
ROWS_LIE(rows_of_a_failure, 0, ROWS, m.status = 4)
ROWS_LIE(rows_not_sent, 0, ROWS, m.number = 2)
ROWS_LIE(rows_of_an_epoch, 0, ROWS, m.epoch = 1)

static void rows_twice(struct liar *l, const struct sh_rpc_step *step)
{
    const struct sh_rpc_hidden a = hidden_of(l, step, 0, 2);

    say(l, SH_RPC_MSG_HIDDEN, &a);
    say(l, SH_RPC_MSG_HIDDEN, &a);
}

static void results_before_the_last(struct liar *l, const struct sh_rpc_step *step)
{
    struct truth t;

    tell_truth(&t, l, step);
    say(l, SH_RPC_MSG_RESULT, &t.m);
}

static void report_desync(struct liar *l, const struct sh_rpc_step *step)
{
    const struct sh_rpc_error m = {.status = 10, .message = {"desync: step 9 is due", 21}};

    (void)step;
    say(l, SH_RPC_MSG_ERROR, &m);
}

static void hang_up(struct liar *l, const struct sh_rpc_step *step)
{
    (void)step;
    sh_rpc_conn_cut(l->c);
}

/* ---- cases ----------------------------------------------------------------------------------*/

struct lie {
    bool last;
    void (*tell)(struct liar *l, const struct sh_rpc_step *step);
    const char *says; /* in the message */
    bool step;        /* which names stage and step */
};

static const struct lie LIES[] = {
    {true, other_epoch, "has not begun", true},
    {true, not_sent, "not sent", false},
    {true, far_number, "not sent", false},
    {true, no_results, "0 results", true},
    {true, more_results, "5 results", true},
    {true, other_row, "of row 3 instead of row 1", true},
    {true, wanted_nothing, "result 0 is of row 0", true},
    {true, token_below, "token -1 of", true},
    {true, token_beyond, "token 96 of", true},
    {true, few_candidates, "2 candidates instead of 3", true},
    {true, many_candidates, "8 candidates instead of 3", true},
    {true, candidate_beyond, "candidate 96 of", true},
    {true, candidate_below, "candidate -5 of", true},
    {true, candidates_of_a_token, "wants no candidates", true},
    {true, no_logits, "0 of logits", true},
    {true, many_logits, "1000000 of logits", true},
    {true, strange_timing, "timing of stage 4000000000", true},
    {true, other_stage, "stage 7/10, which is none", false},
    {true, result_twice, "RESULT comes twice", true},
    {true, failure_after_result, "RESULT comes twice", true},
    {true, logits_first, "no row wants", true},
    {true, logits_of_another_row, "of row 1, when 0 of 96 of row 2", true},
    {true, logits_with_a_gap, "from 4 of row 2", true},
    {true, logits_beyond, "388 bytes of logits", true},
    {true, logits_cut, "30 bytes of logits", true},
    {true, logits_empty, "0 bytes of logits", true},
    {true, rows_of_the_last, "do not come here", true},
    {true, report_desync, "step 9 is due", false},
    {true, hang_up, "", false},
    {false, rows_beyond, "rows 0 and 5 more", true},
    {false, rows_with_a_gap, "rows 1 and 2 more", true},
    {false, rows_none, "rows 0 and 0 more", true},
    {false, rows_short, "1020", true},
    {false, rows_of_a_failure, "failed", true},
    {false, rows_not_sent, "not sent", false},
    {false, rows_of_an_epoch, "has not begun", true},
    {false, rows_twice, "when 2 of 4 are here", true},
    {false, results_before_the_last, "not the last", true},
    {false, hang_up, "", false},
};

static void check_lie(const struct lie *lie, int i)
{
    const char *why;
    struct scene s;

    scene_open(&s, lie->last, lie->tell);
    announce(&s, 0, 0);
    await(&s, 0, 1);
    why = s.heard.why.message;
    if (s.heard.n_outputs != 0 || s.heard.n_lost != 1 || s.heard.lost != SHOAL_ERR_PEER ||
        !strstr(why, s.address) || !strstr(why, lie->says) ||
        (lie->step && !strstr(why, "stage 3, step 0"))) {
        fail_msg("lie %d: %d outputs, %d lost: %s", i, s.heard.n_outputs, s.heard.n_lost, why);
    }
    scene_close(&s);
}

static void liar__no_lie_is_believed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof LIES / sizeof LIES[0]; i++)
        check_lie(&LIES[i], (int)i);
}

static void liar__an_honest_answer_is(void **state)
{
    struct scene s;

    (void)state;
    scene_open(&s, true, be_honest);
    for (uint64_t n = 0; n < 5; n++) {
        announce(&s, 0, n);
        await(&s, (int)n + 1, 0);
        assert_int_equal(s.heard.last_number, n);
        assert_int_equal(s.heard.status, SHOAL_OK);
        sh_station_release(s.station, n);
    }
    assert_int_equal(s.heard.n_lost, 0);
    scene_close(&s);
}

static void over_and_again(struct liar *l, const struct sh_rpc_step *step)
{
    be_honest(l, step);
    be_honest(l, step);
}

// The first is true and is heard; the second ends the worker.
static void liar__a_step_that_is_over_has_no_second_result(void **state)
{
    struct scene s;

    (void)state;
    scene_open(&s, true, over_and_again);
    announce(&s, 0, 0);
    await(&s, 1, 1);
    assert_int_equal(s.heard.n_outputs, 1);
    assert_non_null(strstr(s.heard.why.message, "a step that is over"));
    scene_close(&s);
}

static void stay_silent(struct liar *l, const struct sh_rpc_step *step)
{
    struct sh_rpc_step old = *step;

    if (step->epoch == 0) return;
    old.epoch = 0; // what was on its way when the epoch ended
    be_honest(l, &old);
    be_honest(l, step);
}

static void liar__an_older_epoch_is_dropped(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct scene s;

    (void)state;
    scene_open(&s, true, stay_silent);
    announce(&s, 0, 0);
    announce(&s, 0, 1);
    if (sh_station_reset(s.station, 5, &err)) fail_msg("%s", err.message);
    announce(&s, 5, 0);
    await(&s, 1, 0);
    assert_int_equal(s.heard.n_outputs, 1);
    assert_int_equal(s.heard.n_lost, 0);
    scene_close(&s);
}

static void fail_step(struct liar *l, const struct sh_rpc_step *step)
{
    struct truth t;
    struct sh_rpc_hidden m = hidden_of(l, step, 0, 0);

    tell_truth(&t, l, step);
    t.m.status = 4;
    t.m.here = 1;
    t.m.n_outcomes = t.m.n_logits = 0;
    t.m.message = sh_rpc_text_from("it is not finite");
    say(l, SH_RPC_MSG_RESULT, &t.m);
    m.status = 4; // and to where the rows would have gone
    say(l, SH_RPC_MSG_HIDDEN, &m);
}

// A failed step is one output, and the next may be announced.
static void liar__a_failed_step_is_no_lie(void **state)
{
    struct scene s;

    (void)state;
    scene_open(&s, false, fail_step);
    for (uint64_t n = 0; n < 3; n++) {
        announce(&s, 0, n);
        await(&s, (int)n + 1, 0);
        assert_int_equal(s.heard.status, SHOAL_ERR_FORMAT);
        sh_station_release(s.station, n);
    }
    assert_int_equal(s.heard.n_lost, 0);
    scene_close(&s);
}

static void *put_and_fail(void *arg)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct scene *s = arg;

    assert_int_not_equal(try_stage(s, true, &err), SHOAL_OK);
    assert_null(s->station);
    return NULL;
}

// Giving a worker up ends what waits for it, and closes the session.
static void liar__is_given_up(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_thread t = SH_THREAD_INIT;
    struct scene s;

    (void)state;
    scene_begin(&s, be_honest);
    sh_mutex_lock(&s.liar.lock);
    s.liar.mute = true;
    sh_mutex_unlock(&s.liar.lock);
    if (sh_thread_start(&t, "put", put_and_fail, &s, &err)) fail_msg("%s", err.message);
    sh_mutex_lock(&s.liar.lock);
    while (!s.liar.asked)
        assert_true(sh_cond_wait(&s.liar.changed, &s.liar.lock, SOON_NS));
    sh_mutex_unlock(&s.liar.lock);
    sh_remote_cut(s.r);
    sh_thread_join(&t);
    scene_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(liar__an_honest_answer_is),
        cmocka_unit_test(liar__no_lie_is_believed),
        cmocka_unit_test(liar__a_step_that_is_over_has_no_second_result),
        cmocka_unit_test(liar__an_older_epoch_is_dropped),
        cmocka_unit_test(liar__a_failed_step_is_no_lie),
        cmocka_unit_test(liar__is_given_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
