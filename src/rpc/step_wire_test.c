/* Steps, results, limits and weights through messages and back: random ones come back the same, and
 * numbers that mean nothing are refused.
 */
#include "rpc/step_wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"

static uint64_t g_seed;

static uint32_t next(void)
{
    g_seed = g_seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(g_seed >> 33);
}

static int32_t number(void)
{
    return next() % 3 ? (int32_t)(next() % 1000) - 10 : (int32_t)(next() << 1);
}

static void must(enum shoal_status st, const struct shoal_error *err)
{
    if (st) print_message("%s\n", err->message);
    assert_int_equal(st, SHOAL_OK);
}

static void *list(struct sh_arena *a, int32_t n, size_t bytes)
{
    void *p = n > 0 ? sh_arena_calloc(a, (size_t)n, bytes) : NULL;

    assert_true(n == 0 || p);
    return p;
}

/* Through bytes, as a connection would take it. */
static void through_bytes(void *out, enum sh_rpc_type type, const void *msg, struct sh_arena *arena)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    const size_t n = sh_rpc_frame_bytes(type, msg, SH_RPC_REVISION);
    uint8_t *bytes = list(arena, (int32_t)n, 1);
    struct sh_writer w = sh_writer_over(bytes, n);
    struct sh_rpc_head head;

    must(sh_rpc_encode(&w, type, 0, msg, SH_RPC_REVISION, true, &err), &err);
    must(sh_rpc_head_get(&head, bytes, sh_rpc_info(type)->from == 'C', SH_RPC_REVISION, &err),
         &err);
    must(sh_rpc_decode(out, &head, bytes + SH_RPC_HEAD_BYTES, SH_RPC_REVISION, true, arena, &err),
         &err);
}

/* ---- steps ----------------------------------------------------------------------------------*/

static struct sh_step random_step(struct sh_arena *a)
{
    struct sh_step s = {.epoch = next(),
                        .number = (uint64_t)next() << 20,
                        .n_prelude = (int32_t)(next() % 6),
                        .n_rows = (int32_t)(next() % 50),
                        .n_seqs = (int32_t)(next() % 5),
                        .n_embd = (int32_t)(next() % 9)};
    struct sh_prelude *edits = list(a, s.n_prelude, sizeof *edits);
    struct sh_row *rows = list(a, s.n_rows, sizeof *rows);
    struct sh_step_seq *seqs = list(a, s.n_seqs, sizeof *seqs);

    for (int32_t i = 0; i < s.n_prelude; i++) {
        edits[i] = (struct sh_prelude){.kind = (enum sh_prelude_kind)(next() % 5),
                                       .seq = number(),
                                       .from = number(),
                                       .group = number(),
                                       .index = number(),
                                       .page = number(),
                                       .page_from = number(),
                                       .begin = (int64_t)number() * (1 << 20),
                                       .end = number(),
                                       .delta = -(int64_t)number()};
    }
    for (int32_t i = 0; i < s.n_rows; i++) {
        rows[i] = (struct sh_row){.token = number(),
                                  .seq = number(),
                                  .pos = number(),
                                  .last = number(),
                                  .want = (enum sh_want)(next() % 4),
                                  .top_k = number(),
                                  .draw = (double)next() / 4294967296.0};
    }
    for (int32_t i = 0; i < s.n_seqs; i++) {
        const int32_t n = (int32_t)(next() % 70);
        int32_t *recent = list(a, n, sizeof *recent);
        for (int32_t k = 0; k < n; k++)
            recent[k] = number();
        seqs[i] = (struct sh_step_seq){.seq = number(),
                                       .first_row = number(),
                                       .n_rows = number(),
                                       .state_read = number(),
                                       .state_write = number(),
                                       .sampler = {.temp = (float)next(),
                                                   .top_k = number(),
                                                   .top_p = (float)next() / 3,
                                                   .min_p = 0.05f,
                                                   .repeat_penalty = 1.1f,
                                                   .repeat_last_n = number(),
                                                   .min_keep = number()},
                                       .recent = recent,
                                       .n_recent = n};
    }
    s.prelude = edits;
    s.rows = rows;
    s.seqs = seqs;
    return s;
}

static void expect_same_step(const struct sh_step *a, const struct sh_step *b)
{
    assert_true(a->epoch == b->epoch && a->number == b->number);
    assert_true(a->n_prelude == b->n_prelude && a->n_rows == b->n_rows && a->n_seqs == b->n_seqs);
    assert_true(a->n_embd == b->n_embd && !b->embd);
    for (int32_t i = 0; i < a->n_prelude; i++) {
        const struct sh_prelude *x = &a->prelude[i], *y = &b->prelude[i];
        assert_true(x->kind == y->kind && x->seq == y->seq && x->from == y->from &&
                    x->group == y->group && x->index == y->index && x->page == y->page &&
                    x->page_from == y->page_from && x->begin == y->begin && x->end == y->end &&
                    x->delta == y->delta);
    }
    for (int32_t i = 0; i < a->n_rows; i++) {
        const struct sh_row *x = &a->rows[i], *y = &b->rows[i];
        assert_true(x->token == y->token && x->seq == y->seq && x->pos == y->pos &&
                    x->last == y->last && x->want == y->want && x->top_k == y->top_k &&
                    memcmp(&x->draw, &y->draw, sizeof x->draw) == 0);
    }
    for (int32_t i = 0; i < a->n_seqs; i++) {
        const struct sh_step_seq *x = &a->seqs[i], *y = &b->seqs[i];
        assert_true(x->seq == y->seq && x->first_row == y->first_row && x->n_rows == y->n_rows &&
                    x->state_read == y->state_read && x->state_write == y->state_write &&
                    x->n_recent == y->n_recent);
        assert_memory_equal(&x->sampler, &y->sampler, sizeof x->sampler);
        if (x->n_recent > 0)
            assert_memory_equal(x->recent, y->recent, (size_t)x->n_recent * sizeof *x->recent);
    }
}

static void step_wire__steps_come_back(void **state)
{
    struct sh_arena arena = SH_ARENA_INIT;

    (void)state;
    for (g_seed = 0; g_seed < 300;) {
        const uint64_t seed = g_seed;
        struct shoal_error err = SHOAL_ERROR_INIT;
        const struct sh_step s = random_step(&arena);
        struct sh_rpc_step m, came;
        struct sh_step back;
        must(sh_step_wire_from(&s, &arena, &m, &err), &err);
        assert_true(m.hash == 0 && m.ack == 0 && m.stage.generation == 0 && m.deadline_ms == 0);
        through_bytes(&came, SH_RPC_MSG_STEP, &m, &arena);
        must(sh_step_wire_to(&came, &arena, &back, &err), &err);
        expect_same_step(&s, &back);
        sh_arena_reset(&arena);
        g_seed = seed + 1;
    }
    sh_arena_release(&arena);
}

static void step_wire__refuses_numbers_of_steps(void **state)
{
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_edit edits[2] = {{.kind = SH_PRELUDE_SHIFT}, {.kind = SH_PRELUDE_SHIFT + 1}};
    struct sh_rpc_row rows[2] = {{.want = SH_WANT_LOGITS}, {.want = 255}};
    struct sh_rpc_step m = {.edits = edits, .n_edits = 2};
    struct sh_step s;

    (void)state;
    assert_int_equal(sh_step_wire_to(&m, &arena, &s, &err), SHOAL_ERR_FORMAT);
    assert_string_equal(err.message, "rpc: edit 1: there is no kind 5");
    m = (struct sh_rpc_step){.rows = rows, .n_rows = 2};
    assert_int_equal(sh_step_wire_to(&m, &arena, &s, &err), SHOAL_ERR_FORMAT);
    assert_string_equal(err.message, "rpc: row 1: there is no want 255");
    m = (struct sh_rpc_step){.n_embd = -1};
    assert_int_equal(sh_step_wire_to(&m, &arena, &s, &err), SHOAL_ERR_FORMAT);
    m.n_embd = 0;
    must(sh_step_wire_to(&m, &arena, &s, &err), &err);
    sh_arena_release(&arena);
}

/* ---- results --------------------------------------------------------------------------------*/

static struct sh_station_output random_output(struct sh_arena *a)
{
    struct sh_station_output o = {.epoch = next(),
                                  .number = next(),
                                  .here = true,
                                  .n_results = (int32_t)(next() % 9),
                                  .n_timings = (int)(next() % 5)};
    struct sh_row_result *results = list(a, o.n_results, sizeof *results);
    struct sh_station_timing *timings = list(a, o.n_timings, sizeof *timings);

    for (int32_t i = 0; i < o.n_results; i++) {
        struct sh_row_result *r = &results[i];
        *r = (struct sh_row_result){.row = number(), .want = (enum sh_want)(1 + next() % 3)};
        if (r->want == SH_WANT_TOKEN) r->token = number();
        if (r->want == SH_WANT_TOP_K) {
            struct sh_candidate *top = list(a, r->n_top = (int32_t)(next() % 40), sizeof *top);
            for (int32_t k = 0; k < r->n_top; k++)
                top[k] = (struct sh_candidate){number(), (float)next(), -(float)next()};
            r->top = top;
        }
    }
    for (int i = 0; i < o.n_timings; i++)
        timings[i] = (struct sh_station_timing){next(), next(), next(), next()};
    o.results = results;
    o.timings = timings;
    return o;
}

static void step_wire__results_come_back(void **state)
{
    struct sh_arena arena = SH_ARENA_INIT;

    (void)state;
    for (g_seed = 1000; g_seed < 1200;) {
        const uint64_t seed = g_seed;
        struct shoal_error err = SHOAL_ERROR_INIT, why = SHOAL_ERROR_INIT;
        const struct sh_station_output o = random_output(&arena);
        struct sh_row_result *results;
        struct sh_station_output back;
        struct sh_rpc_result m, came;
        uint32_t n_logits = 0;
        must(sh_step_wire_result_from(&o, &arena, &m, &err), &err);
        through_bytes(&came, SH_RPC_MSG_RESULT, &m, &arena);
        must(sh_step_wire_result_to(&came, &arena, &back, &results, &why, &err), &err);
        assert_true(back.epoch == o.epoch && back.number == o.number && !back.here);
        assert_true(back.status == SHOAL_OK && !back.error && back.results == results);
        assert_true(back.n_results == o.n_results && back.n_timings == o.n_timings);
        for (int32_t i = 0; i < o.n_results; i++) {
            const struct sh_row_result *x = &o.results[i], *y = &back.results[i];
            assert_true(x->row == y->row && x->want == y->want && x->token == y->token &&
                        x->n_top == y->n_top && !y->logits);
            for (int32_t k = 0; k < x->n_top; k++) {
                assert_true(x->top[k].id == y->top[k].id && x->top[k].logit == y->top[k].logit &&
                            x->top[k].p == y->top[k].p);
            }
            n_logits += x->want == SH_WANT_LOGITS;
        }
        assert_int_equal(m.n_logits, n_logits);
        if (o.n_timings > 0)
            assert_memory_equal(o.timings, back.timings, (size_t)o.n_timings * sizeof *o.timings);
        sh_arena_reset(&arena);
        g_seed = seed + 1;
    }
    sh_arena_release(&arena);
}

static void step_wire__failures_come_back(void **state)
{
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT, why = SHOAL_ERROR_INIT, came_why;
    struct sh_station_output o = {.number = 3, .status = SHOAL_ERR_NOMEM, .error = &why}, back;
    struct sh_rpc_result m, came;

    (void)state;
    (void)sh_fail(&why, SHOAL_ERR_NOMEM, "device: no room\nfor %d bytes", 5);
    must(sh_step_wire_result_from(&o, &arena, &m, &err), &err);
    through_bytes(&came, SH_RPC_MSG_RESULT, &m, &arena);
    must(sh_step_wire_result_to(&came, &arena, &back, NULL, &came_why, &err), &err);
    assert_int_equal(back.status, SHOAL_ERR_NOMEM);
    assert_ptr_equal(back.error, &came_why);
    assert_int_equal(came_why.code, SHOAL_ERR_NOMEM);
    assert_string_equal(came_why.message, "device: no room?for 5 bytes");
    assert_true(back.n_results == 0 && back.number == 3);
    // A status that only the sender knows.
    came.status = 77;
    must(sh_step_wire_result_to(&came, &arena, &back, NULL, &came_why, &err), &err);
    assert_int_equal(back.status, SHOAL_ERR_PEER);
    sh_arena_release(&arena);
}

static void step_wire__refuses_numbers_of_results(void **state)
{
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT, why;
    struct sh_rpc_outcome outcome = {.want = SH_WANT_LOGITS};
    struct sh_rpc_result m = {.outcomes = &outcome, .n_outcomes = 1, .n_logits = 1};
    struct sh_station_output o;

    (void)state;
    must(sh_step_wire_result_to(&m, &arena, &o, NULL, &why, &err), &err);
    m.n_logits = 2;
    assert_int_equal(sh_step_wire_result_to(&m, &arena, &o, NULL, &why, &err), SHOAL_ERR_FORMAT);
    outcome.want = SH_WANT_NOTHING;
    assert_int_equal(sh_step_wire_result_to(&m, &arena, &o, NULL, &why, &err), SHOAL_ERR_FORMAT);
    outcome.want = SH_WANT_LOGITS + 1;
    assert_int_equal(sh_step_wire_result_to(&m, &arena, &o, NULL, &why, &err), SHOAL_ERR_FORMAT);
    sh_arena_release(&arena);
}

/* ---- limits, groups, weights ----------------------------------------------------------------*/

static void step_wire__limits_come_back(void **state)
{
    const struct sh_step_limits limits = {.n_seqs = 4,
                                          .n_groups = 3,
                                          .n_positions = INT64_C(1) << 33,
                                          .rows_max = 512,
                                          .wanted_max = 7,
                                          .pages = {10, 0, INT64_C(1) << 40},
                                          .n_states = 9};
    const struct sh_kv_group groups[3] = {
        {.kind = SH_GROUP_FULL}, {SH_GROUP_WINDOW, 4096}, {.kind = SH_GROUP_STATE}};
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_kv_group groups_back[SH_GROUPS_MAX];
    struct sh_step_limits back;
    struct sh_rpc_stage_put m = {.n_shards = 1}, came;
    struct sh_rpc_group *list_;
    int n_groups;

    (void)state;
    must(sh_step_wire_limits_from(&limits, groups, 3, &arena, &m, &err), &err);
    through_bytes(&came, SH_RPC_MSG_STAGE_PUT, &m, &arena);
    must(sh_step_wire_limits_to(&came, &back, groups_back, &n_groups, &err), &err);
    assert_int_equal(n_groups, 3);
    assert_true(back.n_seqs == 4 && back.n_groups == 3 && back.n_positions == limits.n_positions &&
                back.rows_max == 512 && back.wanted_max == 7 && back.n_states == 9);
    for (int i = 0; i < 3; i++) {
        assert_true(groups_back[i].kind == groups[i].kind);
        assert_true(groups_back[i].window == groups[i].window);
        assert_true(back.pages[i] == limits.pages[i]);
    }

    list_ = list(&arena, 3, sizeof *list_);
    memcpy(list_, came.groups, 3 * sizeof *list_);
    came.groups = list_;
    list_[2].kind = 3;
    assert_int_equal(sh_step_wire_limits_to(&came, &back, groups_back, &n_groups, &err),
                     SHOAL_ERR_FORMAT);
    list_[2].kind = 0;
    list_[1].pages = -1;
    assert_int_equal(sh_step_wire_limits_to(&came, &back, groups_back, &n_groups, &err),
                     SHOAL_ERR_FORMAT);
    list_[1].pages = 1;
    list_[1].window = -1;
    assert_int_equal(sh_step_wire_limits_to(&came, &back, groups_back, &n_groups, &err),
                     SHOAL_ERR_FORMAT);
    list_[1].window = 1;
    must(sh_step_wire_limits_to(&came, &back, groups_back, &n_groups, &err), &err);
    came.rows_max = -5;
    assert_int_equal(sh_step_wire_limits_to(&came, &back, groups_back, &n_groups, &err),
                     SHOAL_ERR_FORMAT);
    assert_string_equal(err.message, "rpc: STAGE_PUT: rows_max is -5");
    sh_arena_release(&arena);
}

static void step_wire__weights_come_back(void **state)
{
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t hash[32];
    const struct sh_weight w = {
        .dtype = SH_DTYPE_Q4_K, .ne = {256, 3, 1, 1}, .bytes = 432, .sha256 = hash};
    struct sh_rpc_weight m;
    struct sh_weight back;
    const char *name;

    (void)state;
    memset(hash, 0xa5, sizeof hash);
    sh_step_wire_weight_from("blk.0.attn_q.weight", &w, &m);
    assert_int_equal(m.axis, -1);
    must(sh_step_wire_weight_to(&m, &arena, &name, &back, &err), &err);
    assert_string_equal(name, "blk.0.attn_q.weight");
    assert_true(back.dtype == w.dtype && back.bytes == 432 && !back.data);
    assert_memory_equal(back.ne, w.ne, sizeof w.ne);
    assert_memory_equal(back.sha256, hash, sizeof hash);
    m.dtype = 4; // retired
    assert_int_equal(sh_step_wire_weight_to(&m, &arena, &name, &back, &err), SHOAL_ERR_FORMAT);
    m.dtype = SH_DTYPE_F32;
    m.ne2 = 0;
    assert_int_equal(sh_step_wire_weight_to(&m, &arena, &name, &back, &err), SHOAL_ERR_FORMAT);
    sh_arena_release(&arena);
}

/* Without memory, at each allocation. */
static void step_wire__survives_without_memory(void **state)
{
    struct sh_arena source = SH_ARENA_INIT;
    bool all = false;

    (void)state;
    g_seed = 7;
    const struct sh_step s = random_step(&source);
    const struct sh_station_output o = random_output(&source);
    for (int64_t n = 0; !all; n++) {
        struct sh_arena arena = SH_ARENA_INIT;
        struct shoal_error err = SHOAL_ERROR_INIT, why;
        struct sh_station_output out;
        struct sh_rpc_result r;
        struct sh_rpc_step m;
        struct sh_step back;
        sh_mem_fail_after(n);
        enum shoal_status st = sh_step_wire_from(&s, &arena, &m, &err);
        if (!st) st = sh_step_wire_to(&m, &arena, &back, &err);
        if (!st) st = sh_step_wire_result_from(&o, &arena, &r, &err);
        if (!st) st = sh_step_wire_result_to(&r, &arena, &out, NULL, &why, &err);
        all = sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        assert_int_equal(st, all ? SHOAL_OK : SHOAL_ERR_NOMEM);
        sh_arena_release(&arena);
    }
    sh_arena_release(&source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(step_wire__steps_come_back),
        cmocka_unit_test(step_wire__refuses_numbers_of_steps),
        cmocka_unit_test(step_wire__results_come_back),
        cmocka_unit_test(step_wire__failures_come_back),
        cmocka_unit_test(step_wire__refuses_numbers_of_results),
        cmocka_unit_test(step_wire__limits_come_back),
        cmocka_unit_test(step_wire__weights_come_back),
        cmocka_unit_test(step_wire__survives_without_memory),
    };

    return cmocka_run_group_tests_name("step_wire", tests, NULL, NULL);
}
