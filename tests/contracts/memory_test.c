/* tests/contracts/memory_test.c - every allocation fails once: opening a stage, and its first step.
 *
 * Whatever fails, the answer is ERR_NOMEM with a sentence, and nothing is left behind; a stage
 * whose step failed takes the next one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cpu/device.h"
#include "support/plain_device.h"
#include "support/rig.h"

enum { N = 5, VOCAB = 96, MOST = 100000 };

struct bench { /* what outlives a failure */
    struct tm_model model;
    struct rig rig;
    struct sh_device *device;
    struct sh_step_limits limits;
    struct sh_kv_group groups[SH_GROUPS_MAX];
    int32_t ids[N];
};

static void bench_open(struct bench *b, enum tm_kind kind, bool plain)
{
    const struct rig_options o = {
        .n_seqs = 2, .n_positions = 128, .rows_max = 8, .n_slots = 2, .plain = plain};
    const struct sh_cpu_options cpu = {.n_threads = 1, .memory_max = 1u << 30};
    struct shoal_error err = SHOAL_ERROR_INIT;

    *b = (struct bench){.device = NULL};
    tm_make(&b->model, kind, SH_DTYPE_Q4_0, 3);
    rig_plan(&b->rig, &b->model, &o);
    rig_limits(&b->rig, &b->limits, b->groups);
    if (sh_cpu_device_open(&b->device, &cpu, &err)) fail_msg("%s", err.message);
    if (plain) b->device = plain_device_over(b->device);
    rig_ids(b->ids, N, 4, VOCAB);
}

static void bench_close(struct bench *b)
{
    sh_device_close(b->device);
    tm_release(&b->model);
}

struct
try { /* one stage and one sequence on it */
    struct sh_stage *stage;
    struct sh_kv_index *kv;
    struct sh_edits edits;
    int32_t seq;
    uint64_t number;
};

static void try_release(struct try *t)
{
    sh_stage_destroy(t->stage);
    sh_kv_index_destroy(t->kv);
    sh_edits_release(&t->edits);
}

static enum shoal_status try_open(struct bench *b, struct try *t, struct shoal_error *err)
{
    enum shoal_status st = rig_make_stage(&b->rig, 0, 0, b->device, &t->stage, err);

    if (!st) st = sh_kv_index_create(&t->kv, b->limits.n_groups, b->groups, &b->limits, err);
    if (!st) st = sh_kv_open(t->kv, 0, &t->seq, err);
    return st;
}

// Feed all ids as one step and take the last row's logits.
static enum shoal_status try_step(struct bench *b, struct try *t, float *logits,
                                  struct shoal_error *err)
{
    struct sh_row rows[N] = {{.token = 0}};
    struct sh_step_seq q = {.seq = t->seq, .n_rows = N};
    struct sh_stage_output out;
    enum shoal_status st = sh_kv_append(t->kv, t->seq, N, &t->edits, err);

    if (st) return st;
    for (int32_t i = 0; i < N; i++) {
        rows[i] = (struct sh_row){.token = b->ids[i], .seq = t->seq, .pos = i, .last = i};
        if (i == N - 1) rows[i].want = SH_WANT_LOGITS;
    }
    sh_kv_states(t->kv, t->seq, &q.state_read, &q.state_write);
    const struct sh_step step = {.number = t->number,
                                 .prelude = t->edits.edit,
                                 .n_prelude = t->edits.n,
                                 .rows = rows,
                                 .n_rows = N,
                                 .seqs = &q,
                                 .n_seqs = 1};
    st = sh_stage_submit(t->stage, &step, NULL, err);
    if (st) return st;
    t->number++;
    st = sh_stage_result(t->stage, 60 * SH_SECOND, &out, err);
    sh_edits_clear(&t->edits);
    if (st) return st;
    assert_int_equal(out.n_results, 1);
    memcpy(logits, out.results[0].logits, VOCAB * sizeof *logits);
    sh_stage_release_output(t->stage, &out);
    return SHOAL_OK;
}

static void expect_nomem(enum shoal_status st, const struct shoal_error *err, int n)
{
    // "no memory for ...", or what is needed and what is free.
    const bool told = strstr(err->message, "memory") || strstr(err->message, " are free");

    if (st == SHOAL_ERR_NOMEM && told) return;
    fail_msg("allocation %d: status %d, \"%s\"", n, (int)st, err->message);
}

// How many allocations a stage takes until it stands, each failing once.
static int sweep_opening(struct bench *b)
{
    for (int n = 0; n < MOST; n++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        const size_t live = sh_mem_live_bytes();
        struct try t = {.stage = NULL};
        sh_mem_fail_after(n);
        const enum shoal_status st = try_open(b, &t, &err);
        const bool done = sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        if (st) expect_nomem(st, &err, n);
        if (st && t.stage && t.kv) fail_msg("allocation %d: all of it is there", n);
        try_release(&t);
        if (sh_mem_live_bytes() != live)
            fail_msg("allocation %d: %zu bytes are left", n, sh_mem_live_bytes() - live);
        if (done) return n;
    }
    return MOST;
}

// The same for the first step; where it failed, the next one gives the right logits.
static int sweep_step(struct bench *b, const float *want)
{
    for (int n = 0; n < MOST; n++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct try t = {.stage = NULL};
        float have[VOCAB];
        if (try_open(b, &t, &err)) fail_msg("%s", err.message);
        sh_mem_fail_after(n);
        const enum shoal_status st = try_step(b, &t, have, &err);
        const bool done = sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        if (st) {
            expect_nomem(st, &err, n);
            if (sh_kv_truncate(t.kv, t.seq, 0, &t.edits, &err)) fail_msg("%s", err.message);
            if (try_step(b, &t, have, &err)) fail_msg("%s", err.message);
        }
        rig_expect_equal("after a failure", have, want, 1, VOCAB);
        try_release(&t);
        if (done) return n;
    }
    return MOST;
}

static void check(enum tm_kind kind, bool plain)
{
    float *want = rig_logits(N);
    struct bench b;

    bench_open(&b, kind, plain);
    rig_reference(&b.model, b.ids, N, want);
    const size_t live = sh_mem_live_bytes();
    const int opening = sweep_opening(&b);
    const int step = sweep_step(&b, want + (N - 1) * VOCAB);
    print_message("%s%s: %d allocations to open, %d to step\n", tm_name(kind),
                  plain ? " lowered" : "", opening, step);
    if (opening < 10 || opening == MOST || step < 1 || step == MOST)
        fail_msg("%d allocations to open, %d to step", opening, step);
    assert_int_equal(sh_mem_live_bytes(), live);
    bench_close(&b);
    sh_free(want);
}

static void memory__every_allocation_fails_once(void **state)
{
    (void)state;
    check(TM_LLAMA, false);
    check(TM_EXPERTS, false);
    check(TM_HYBRID, false);
}

static void memory__every_allocation_fails_once_lowered(void **state)
{
    (void)state;
    check(TM_LLAMA, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory__every_allocation_fails_once),
        cmocka_unit_test(memory__every_allocation_fails_once_lowered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
