/* host/pipeline_test.c - a pipeline over stations that a test plays: who is told what, and when,
 * whatever stations say.  Real stages are in tests/threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/error.h"
#include "host/pipeline.h"

enum { MOST = 64, STATIONS = 3, WIDTH = 4 };

struct played { /* a station: notes what it is told */
    struct sh_station_head head;
    struct sh_station_sink sink;
    uint64_t announced[MOST], rows[MOST], passed[MOST], released[MOST], epochs[MOST];
    int n_announced, n_rows, n_passed, n_released, n_cancels, n_resets, n_closed;
    enum shoal_status pass_status, refuse; /* `refuse`: of announce, rows and reset */
    int64_t deadline_ns, width;
};

static struct played *of(struct sh_station *s)
{
    return (struct played *)(void *)s;
}

static enum shoal_status refuse(const struct played *p, struct shoal_error *err)
{
    return p->refuse ? sh_fail(err, p->refuse, "played: refused") : SHOAL_OK;
}

static enum shoal_status play_announce(struct sh_station *s, const struct sh_step *step,
                                       int64_t deadline_ns, struct shoal_error *err)
{
    struct played *p = of(s);

    if (p->refuse) return refuse(p, err);
    p->epochs[p->n_announced] = step->epoch;
    p->announced[p->n_announced++] = step->number;
    p->deadline_ns = deadline_ns;
    return SHOAL_OK;
}

static enum shoal_status play_rows(struct sh_station *s, uint64_t number, int32_t first_row,
                                   int32_t n_rows, const void *f32,
                                   const struct sh_station_timing *timings, int n_timings,
                                   struct shoal_error *err)
{
    struct played *p = of(s);

    if (p->refuse) return refuse(p, err);
    assert_int_equal(first_row, 0);
    assert_true(n_rows == 1 && f32 && timings && n_timings == 1);
    p->rows[p->n_rows++] = number;
    return SHOAL_OK;
}

static void play_pass(struct sh_station *s, uint64_t number, enum shoal_status st,
                      const struct shoal_error *why)
{
    struct played *p = of(s);

    assert_non_null(why);
    p->pass_status = st;
    p->passed[p->n_passed++] = number;
}

static void play_cancel(struct sh_station *s, uint64_t begin, uint64_t end)
{
    assert_true(begin < end);
    of(s)->n_cancels++;
}

static enum shoal_status play_reset(struct sh_station *s, uint64_t epoch, struct shoal_error *err)
{
    (void)epoch;
    of(s)->n_resets++;
    return refuse(of(s), err);
}

static void play_release(struct sh_station *s, uint64_t number)
{
    assert_int_equal(of(s)->n_closed, 0);
    of(s)->released[of(s)->n_released++] = number;
}

static void play_stats(struct sh_station *s, struct sh_station_stats *out)
{
    (void)s;
    *out = (struct sh_station_stats){.bytes_in = 7, .bytes_out = 8, .in_flight_max = 9};
}

static void play_close(struct sh_station *s)
{
    of(s)->n_closed++;
}

static const struct sh_station_ops OPS = {
    .announce = play_announce,
    .rows = play_rows,
    .pass = play_pass,
    .cancel = play_cancel,
    .reset = play_reset,
    .release = play_release,
    .stats = play_stats,
    .close = play_close,
};

struct stand {
    struct played s[STATIONS];
    struct sh_pipeline *p;
    const struct sh_pipeline_ops *ops;
    struct shoal_error err;
};

static void must(enum shoal_status st, const struct shoal_error *err)
{
    if (st) fail_msg("%s: %s", shoal_status_name(st), err->message);
}

static void stand_open(struct stand *t)
{
    const struct sh_pipeline_info info = {
        .in_flight_max = 2,
        .width = WIDTH,
        .limits = {.n_seqs = 1, .n_positions = 64, .rows_max = 8, .wanted_max = 8}};

    memset(t, 0, sizeof *t);
    must(sh_pipeline_create(&t->p, STATIONS, &info, 5 * SH_SECOND, &t->err), &t->err);
    t->ops = sh_pipeline_ops(t->p);
    for (int i = 0; i < STATIONS; i++) {
        assert_int_equal(sh_pipeline_start(t->p, &t->err), SHOAL_ERR_STATE);
        t->s[i].head.ops = &OPS;
        t->s[i].width = WIDTH;
        t->s[i].sink = sh_pipeline_sink(t->p, i);
        sh_pipeline_take(t->p, i, (struct sh_station *)(void *)&t->s[i]);
    }
    must(sh_pipeline_start(t->p, &t->err), &t->err);
}

static void stand_close(struct stand *t)
{
    t->ops->close(t->p);
    for (int i = 0; i < STATIONS; i++)
        assert_int_equal(t->s[i].n_closed, 1);
}

static enum shoal_status submit(struct stand *t, uint64_t number)
{
    const struct sh_row row = {.want = SH_WANT_TOKEN};
    const struct sh_step_seq seq = {.n_rows = 1, .state_read = -1, .state_write = -1};
    const struct sh_step step = {
        .number = number, .rows = &row, .n_rows = 1, .seqs = &seq, .n_seqs = 1};

    return t->ops->submit(t->p, &step, &t->err);
}

// Station `i` says that a step is out; `status` not OK: it failed, here or before.
static void say(struct stand *t, int i, uint64_t epoch, uint64_t number, enum shoal_status status,
                bool here, const char *message)
{
    static const float hidden[WIDTH];
    static const struct sh_row_result result = {.want = SH_WANT_TOKEN, .token = 5};
    const struct sh_station_timing timings[STATIONS] = {
        {.stage = 0, .wait_us = 0, .queue_us = 10, .compute_us = 100},
        {.stage = 1, .wait_us = 150, .queue_us = 20, .compute_us = 200},
        {.stage = 2, .wait_us = 430, .queue_us = 30, .compute_us = 300}};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_station_output o = {
        .epoch = epoch, .number = number, .status = status, .here = here, .timings = timings};

    if (status) {
        (void)sh_fail(&err, status, "%s", message);
        o.error = &err;
    } else if (i < STATIONS - 1) {
        o.hidden = hidden;
        o.width = t->s[i].width;
        o.n_rows = 1;
        o.n_timings = 1;
    } else {
        o.results = &result;
        o.n_results = 1;
        o.n_timings = STATIONS;
    }
    t->s[i].sink.output(t->s[i].sink.self, &o);
}

static void ok(struct stand *t, int i, uint64_t number)
{
    say(t, i, 0, number, SHOAL_OK, false, "");
}

static void expect_result(struct stand *t, uint64_t number)
{
    struct sh_pipeline_result r;

    must(t->ops->result(t->p, 0, &r, &t->err), &t->err);
    assert_int_equal(r.number, number);
    assert_int_equal(r.results[0].token, 5);
    assert_int_equal(r.n_timings, STATIONS);
    t->ops->release(t->p, &r);
}

static void expect_failure(struct stand *t, enum shoal_status st, const char *message)
{
    struct sh_pipeline_result r;

    assert_int_equal(t->ops->result(t->p, 0, &r, &t->err), st);
    assert_int_equal(r.status, st);
    assert_string_equal(t->err.message, message);
}

static void pipeline__rows_go_on_and_are_released(void **state)
{
    struct sh_pipeline_stats s;
    struct sh_pipeline_result r;
    struct stand t;

    (void)state;
    stand_open(&t);
    must(submit(&t, 0), &t.err);
    must(submit(&t, 1), &t.err);
    for (int i = 0; i < STATIONS; i++) {
        assert_int_equal(t.s[i].n_announced, 2); // all at once
        assert_true(t.s[i].deadline_ns == 5 * SH_SECOND);
    }
    ok(&t, 0, 0);
    assert_int_equal(t.s[1].n_rows, 1);
    assert_int_equal(t.s[0].n_released, 1);
    ok(&t, 0, 1);
    ok(&t, 1, 0);
    assert_int_equal(t.ops->result(t.p, 0, &r, &t.err), SHOAL_ERR_TIMEOUT);
    ok(&t, 2, 0);
    assert_int_equal(t.s[2].n_released, 0); // until the caller is done
    assert_int_equal(submit(&t, 2), SHOAL_ERR_STATE);
    expect_result(&t, 0);
    assert_int_equal(t.s[2].n_released, 1);
    sh_pipeline_stats(t.p, 1, &s);
    assert_true(s.steps == 1 && s.compute_ns == 200000 && s.queue_ns == 20000);
    assert_true(s.wire_ns == 40000 && s.bytes_in == 7 && s.bytes_out == 8 && s.in_flight_max == 9);
    stand_close(&t);
}

// A station that is alive and never answers.
static void pipeline__a_step_that_does_not_come_back(void **state)
{
    struct sh_pipeline_result r;
    struct stand t;

    (void)state;
    stand_open(&t);
    sh_pipeline_name(t.p, 1, "worker 10.0.0.2:50052");
    sh_pipeline_patience(t.p, 20 * SH_MS);
    must(submit(&t, 0), &t.err);
    ok(&t, 0, 0);
    assert_int_equal(t.ops->result(t.p, SH_NO_DEADLINE, &r, &t.err), SHOAL_ERR_TIMEOUT);
    assert_int_equal(r.status, SHOAL_ERR_TIMEOUT);
    assert_string_equal(t.err.message, "step 0 has not come back within 0.02 s: waiting for "
                                       "stage 1 (worker 10.0.0.2:50052)");
    assert_int_equal(t.ops->state(t.p, &t.err), SHOAL_ERR_TIMEOUT);
    assert_int_equal(submit(&t, 1), SHOAL_ERR_TIMEOUT);
    stand_close(&t);
}

// Only who asked for it hears of a step that was cancelled.
static void pipeline__a_cancel_that_nobody_asked_for(void **state)
{
    struct stand t;

    (void)state;
    stand_open(&t);
    must(submit(&t, 0), &t.err);
    for (int i = 0; i < STATIONS; i++)
        say(&t, i, 0, 0, SHOAL_ERR_CANCELLED, i == 0, "cancelled");
    expect_failure(&t, SHOAL_ERR_PEER,
                   "step 0 was cancelled by a stage, and nobody here asked for it");
    must(submit(&t, 1), &t.err);
    t.ops->cancel(t.p);
    for (int i = 0; i < STATIONS; i++)
        say(&t, i, 0, 1, SHOAL_ERR_CANCELLED, i == 0, "cancelled");
    expect_failure(&t, SHOAL_ERR_CANCELLED, "cancelled");
    stand_close(&t);
}

// What goes on by itself is not handed on; its outputs are released when the step is over.
static void pipeline__joined_stations(void **state)
{
    struct stand t;

    (void)state;
    stand_open(&t);
    sh_pipeline_join(t.p, 0, true);
    must(submit(&t, 0), &t.err);
    ok(&t, 1, 0);
    ok(&t, 2, 0);
    expect_result(&t, 0);
    assert_int_equal(t.s[0].n_released, 1);
    assert_int_equal(t.s[1].n_rows, 0);
    // A failure there comes to the host and goes on by itself; the last one answers.
    must(submit(&t, 1), &t.err);
    say(&t, 0, 0, 1, SHOAL_ERR_FORMAT, true, "at the first");
    assert_int_equal(t.s[1].n_passed, 0);
    say(&t, 1, 0, 1, SHOAL_ERR_FORMAT, false, "somewhere");
    assert_int_equal(t.s[2].n_passed, 1);
    say(&t, 2, 0, 1, SHOAL_ERR_FORMAT, false, "somewhere");
    expect_failure(&t, SHOAL_ERR_FORMAT, "at the first");
    for (int i = 0; i < STATIONS; i++)
        assert_int_equal(t.s[i].n_released, 2);
    // Its rows come here after all: the link is lost.
    must(submit(&t, 2), &t.err);
    ok(&t, 0, 2);
    assert_int_equal(t.s[1].n_rows, 1);
    stand_close(&t);
}

// The last station's word may be here before that of the one that knows why.
static void pipeline__the_cause_of_a_failure_comes_late(void **state)
{
    struct stand t;

    (void)state;
    stand_open(&t);
    sh_pipeline_join(t.p, 0, true);
    must(submit(&t, 0), &t.err);
    say(&t, 1, 0, 0, SHOAL_ERR_FORMAT, false, "somewhere");
    say(&t, 2, 0, 0, SHOAL_ERR_FORMAT, false, "somewhere");
    say(&t, 0, 0, 0, SHOAL_ERR_FORMAT, true, "at the first");
    expect_failure(&t, SHOAL_ERR_FORMAT, "at the first");
    stand_close(&t);
}

static void pipeline__what_no_station_should_say(void **state)
{
    struct stand t;

    (void)state;
    stand_open(&t);
    say(&t, 2, 0, 0, SHOAL_OK, false, ""); // of no step
    say(&t, 0, 3, 0, SHOAL_OK, false, ""); // of another epoch
    say(&t, 1, 0, UINT64_MAX, SHOAL_ERR_IO, true, "never was");
    assert_int_equal(t.s[1].n_rows + t.s[2].n_passed, 0);
    must(submit(&t, 0), &t.err);
    say(&t, 0, 0, 0, SHOAL_ERR_FORMAT, true, "broke");
    assert_int_equal(t.s[1].n_passed, 1);
    assert_int_equal(t.s[1].pass_status, SHOAL_ERR_FORMAT);
    ok(&t, 1, 0); // though its step has failed
    ok(&t, 2, 0);
    expect_failure(&t, SHOAL_ERR_FORMAT, "broke");
    assert_int_equal(t.s[2].released[t.s[2].n_released - 1], 0); // not kept
    must(t.ops->state(t.p, &t.err), &t.err);
    must(submit(&t, 1), &t.err);
    for (int i = 0; i < 30; i++) { // again and again
        ok(&t, 2, 1);
        ok(&t, 1, 1);
    }
    assert_int_equal(t.s[2].n_rows, 2);
    t.s[0].width = 1;
    ok(&t, 0, 1);
    assert_int_equal(t.s[1].n_passed, 2); // what comes behind that is too short is not read
    expect_failure(&t, SHOAL_ERR_FORMAT, "pipeline: stage 0 gives rows of 1 values, not 4");
    stand_close(&t);
}

// Refused by the first station, a step never was; by a later one, they do not fit any more.
static void pipeline__steps_that_are_refused(void **state)
{
    struct stand t;

    (void)state;
    stand_open(&t);
    t.s[0].refuse = SHOAL_ERR_NOMEM;
    assert_int_equal(submit(&t, 0), SHOAL_ERR_NOMEM);
    assert_int_equal(t.s[1].n_announced, 0);
    t.s[0].refuse = SHOAL_OK;
    must(submit(&t, 0), &t.err);
    t.s[1].refuse = SHOAL_ERR_NOMEM;
    ok(&t, 0, 0); // its rows are refused
    assert_int_equal(t.s[1].n_passed, 1);
    ok(&t, 1, 0);
    say(&t, 2, 0, 0, SHOAL_ERR_NOMEM, false, "before");
    expect_failure(&t, SHOAL_ERR_NOMEM, "played: refused");
    must(t.ops->state(t.p, &t.err), &t.err);
    assert_int_equal(submit(&t, 1), SHOAL_ERR_NOMEM);
    assert_int_equal(t.ops->state(t.p, &t.err), SHOAL_ERR_NOMEM);
    stand_close(&t);
}

static void pipeline__a_lost_station(void **state)
{
    struct shoal_error why = SHOAL_ERROR_INIT;
    struct stand t;

    (void)state;
    stand_open(&t);
    must(submit(&t, 0), &t.err);
    must(submit(&t, 1), &t.err);
    ok(&t, 0, 0);
    (void)sh_fail(&why, SHOAL_ERR_PEER, "10.0.0.9 went away");
    t.s[1].sink.lost(t.s[1].sink.self, SHOAL_ERR_PEER, &why);
    ok(&t, 0, 1); // the others do not know yet
    assert_int_equal(t.s[1].n_rows, 1);
    (void)sh_fail(&why, SHOAL_ERR_TIMEOUT, "later");
    t.s[2].sink.lost(t.s[2].sink.self, SHOAL_ERR_TIMEOUT, &why);
    for (int i = 0; i < 2; i++)
        expect_failure(&t, SHOAL_ERR_PEER, "10.0.0.9 went away");
    assert_int_equal(submit(&t, 2), SHOAL_ERR_PEER);
    assert_int_equal(t.ops->reset(t.p, 1, &t.err), SHOAL_ERR_PEER);
    stand_close(&t);
}

static void pipeline__epochs_of_stations(void **state)
{
    struct stand t;

    (void)state;
    stand_open(&t);
    t.ops->cancel(t.p); // nothing is in flight: nobody is told
    must(submit(&t, 0), &t.err);
    assert_int_equal(t.ops->reset(t.p, 4, &t.err), SHOAL_ERR_STATE);
    t.ops->cancel(t.p);
    for (int i = 0; i < STATIONS; i++) {
        assert_int_equal(t.s[i].n_cancels, 1);
        say(&t, i, 0, 0, SHOAL_ERR_CANCELLED, true, "cancelled");
    }
    expect_failure(&t, SHOAL_ERR_CANCELLED, "cancelled");
    must(t.ops->reset(t.p, 4, &t.err), &t.err);
    must(submit(&t, 0), &t.err);
    assert_int_equal(t.s[2].epochs[1], 4);
    say(&t, 0, 0, 0, SHOAL_ERR_IO, true, "of the old epoch");
    for (int i = 0; i < STATIONS; i++)
        say(&t, i, 4, 0, SHOAL_OK, false, "");
    expect_result(&t, 0);
    t.s[1].refuse = SHOAL_ERR_TIMEOUT; // some have begun an epoch, others not
    assert_int_equal(t.ops->reset(t.p, 5, &t.err), SHOAL_ERR_TIMEOUT);
    assert_int_equal(submit(&t, 0), SHOAL_ERR_TIMEOUT);
    stand_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pipeline__rows_go_on_and_are_released),
        cmocka_unit_test(pipeline__a_step_that_does_not_come_back),
        cmocka_unit_test(pipeline__a_cancel_that_nobody_asked_for),
        cmocka_unit_test(pipeline__joined_stations),
        cmocka_unit_test(pipeline__the_cause_of_a_failure_comes_late),
        cmocka_unit_test(pipeline__what_no_station_should_say),
        cmocka_unit_test(pipeline__steps_that_are_refused),
        cmocka_unit_test(pipeline__a_lost_station),
        cmocka_unit_test(pipeline__epochs_of_stations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
