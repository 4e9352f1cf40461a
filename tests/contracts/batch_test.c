/* tests/contracts/batch_test.c - whatever shares a step with a row, its logits keep their bits.
 *
 * Batches, chunkings, shared prefixes and steps in flight against a lone run token by token, for
 * every kind of model.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/rig.h"

static const enum sh_dtype TYPES[] = {SH_DTYPE_F32, SH_DTYPE_Q4_0, SH_DTYPE_Q8_0};
enum { N_TYPES = sizeof TYPES / sizeof TYPES[0] };

typedef void check_fn(struct tm_model *m, const char *what);

static void for_all_models(check_fn *check)
{
    for (int kind = 0; kind < TM_KIND_COUNT; kind++) {
        for (int t = 0; t < N_TYPES; t++) {
            struct tm_model m;
            char what[64];
            snprintf(what, sizeof what, "%s %s", tm_name((enum tm_kind)kind),
                     sh_dtype_info(TYPES[t])->name);
            tm_make(&m, (enum tm_kind)kind, TYPES[t], 7u + (uint32_t)kind);
            check(&m, what);
            tm_release(&m);
        }
    }
}

static void check_ragged(struct tm_model *m, const char *what)
{
    static const int64_t N[5] = {1, 7, 3, 70, 12};
    const struct rig_options o = {.n_threads = 2};
    float *have[5], *want[5];
    struct rig_run runs[5];
    int32_t ids[5][128];
    struct rig r;

    rig_open(&r, m, &o);
    for (int i = 0; i < 5; i++) {
        rig_ids(ids[i], N[i], 100u + (uint32_t)i, r.n_vocab);
        have[i] = rig_logits(N[i]);
        want[i] = rig_logits(N[i]);
        rig_reference(m, ids[i], N[i], want[i]);
        runs[i] =
            (struct rig_run){.seq = rig_seq(&r, 0), .ids = ids[i], .n = N[i], .logits = have[i]};
    }
    rig_step(&r, runs, 5);
    for (int i = 0; i < 5; i++) {
        rig_expect_equal(what, have[i], want[i], N[i], r.n_vocab);
        sh_free(have[i]);
        sh_free(want[i]);
    }
    rig_close(&r);
}

static void batch__ragged_batch_of_five(void **state)
{
    (void)state;
    for_all_models(check_ragged);
}

// All compositions of a short prompt, and chunks around the page size of a long one.
static void check_chunks(struct tm_model *m, const char *what)
{
    enum { SHORT = 7, LONG = 140 };
    static const int64_t CHUNK[] = {1, 2, 5, 16, 31, 63, 64, 65, 127, 128, 140};
    const struct rig_options o = {0};
    float *want = rig_logits(LONG), *have = rig_logits(LONG);
    int32_t ids[LONG];
    struct rig r;

    rig_ids(ids, LONG, 5, 96);
    rig_reference(m, ids, LONG, want);
    rig_open(&r, m, &o);
    for (unsigned cuts = 0; cuts < 1u << (SHORT - 1); cuts++) {
        const int32_t seq = rig_seq(&r, 0);
        for (int64_t at = 0; at < SHORT;) {
            int64_t n = 1;
            while (at + n < SHORT && !(cuts >> (at + n - 1) & 1))
                n++;
            rig_feed(&r, seq, ids + at, n, n, have + at * r.n_vocab);
            at += n;
        }
        rig_expect_equal(what, have, want, SHORT, r.n_vocab);
        rig_end(&r, seq);
    }
    for (size_t i = 0; i < sizeof CHUNK / sizeof CHUNK[0]; i++) {
        const int32_t seq = rig_seq(&r, 0);
        rig_feed(&r, seq, ids, LONG, CHUNK[i], have);
        rig_expect_equal(what, have, want, LONG, r.n_vocab);
        rig_end(&r, seq);
    }
    rig_close(&r);
    sh_free(want);
    sh_free(have);
}

static void batch__every_chunking(void **state)
{
    (void)state;
    for_all_models(check_chunks);
}

// Two sequences go on from one prefix of 70 tokens: a whole page is shared, a partial one copied.
static void check_prefix(struct tm_model *m, const char *what)
{
    enum { PREFIX = 70, TAIL = 9, ALL = PREFIX + TAIL };
    const struct rig_options o = {0};
    float *want[2], *have[2];
    int32_t ids[2][ALL], seq[2];
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct rig r;

    for (int i = 0; i < 2; i++) {
        rig_ids(ids[i], ALL, 40u + (uint32_t)i, 96);
        if (i) memcpy(ids[1], ids[0], PREFIX * sizeof ids[0][0]);
        want[i] = rig_logits(ALL);
        have[i] = rig_logits(ALL);
        rig_reference(m, ids[i], ALL, want[i]);
    }
    rig_open(&r, m, &o);
    seq[0] = rig_seq(&r, 0);
    rig_feed(&r, seq[0], ids[0], PREFIX, 33, have[0]);
    if (sh_kv_fork(r.kv, seq[0], PREFIX, &seq[1], &r.edits, &err)) fail_msg("%s", err.message);
    for (int k = PREFIX; k < ALL; k++) {
        const struct rig_run runs[2] = {{seq[0], &ids[0][k], 1, have[0] + k * r.n_vocab},
                                        {seq[1], &ids[1][k], 1, have[1] + k * r.n_vocab}};
        rig_step(&r, runs, 2);
    }
    rig_expect_equal(what, have[0], want[0], ALL, r.n_vocab);
    rig_expect_equal(what, have[1] + PREFIX * r.n_vocab, want[1] + PREFIX * r.n_vocab, TAIL,
                     r.n_vocab);
    rig_end(&r, seq[0]); // the other keeps what they shared
    rig_end(&r, seq[1]);
    for (int g = 0; g < m->info.n_groups; g++) {
        int64_t used, total;
        sh_kv_usage(r.kv, g, &used, &total);
        assert_int_equal(used, 0);
    }
    rig_close(&r);
    for (int i = 0; i < 2; i++) {
        sh_free(want[i]);
        sh_free(have[i]);
    }
}

static void batch__shared_prefix(void **state)
{
    (void)state;
    for_all_models(check_prefix);
}

// Windows A (4 drafts) and B (4 more) are in flight when A's third draft turns out wrong.
static void check_speculation(struct tm_model *m, const char *what)
{
    enum { BEFORE = 62, GOOD = 2, AFTER = 8, ALL = BEFORE + GOOD + AFTER, WINDOW = 4 };
    const struct rig_options o = {.n_slots = 2};
    const bool recurrent = m->info.n_groups > 1;
    float *want = rig_logits(ALL), *have = rig_logits(ALL), *draft = rig_logits(2 * WINDOW);
    int32_t ids[ALL], drafts[2 * WINDOW], seq;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct rig_flight a, b;
    struct rig r;

    rig_ids(ids, ALL, 77, 96);
    rig_ids(drafts, 2 * WINDOW, 78, 96);
    memcpy(drafts, ids + BEFORE, GOOD * sizeof ids[0]);
    rig_reference(m, ids, ALL, want);
    rig_open(&r, m, &o);
    seq = rig_seq(&r, 0);
    rig_feed(&r, seq, ids, BEFORE, 16, have);
    const struct rig_run run_a = {seq, drafts, WINDOW, draft};
    const struct rig_run run_b = {seq, drafts + WINDOW, WINDOW, draft + WINDOW * r.n_vocab};
    rig_start(&r, &run_a, &a);
    rig_start(&r, &run_b, &b);
    rig_finish(&r, &a);
    rig_finish(&r, &b);
    memcpy(have + BEFORE * r.n_vocab, draft, (size_t)(GOOD * r.n_vocab) * sizeof *have);
    // Attention keeps the accepted rows; a recurrent model replays them from the state before.
    const int64_t keep = recurrent ? BEFORE : BEFORE + GOOD;
    if (sh_kv_truncate(r.kv, seq, keep, &r.edits, &err)) fail_msg("%s", err.message);
    rig_feed(&r, seq, ids + keep, ALL - keep, 3, have + keep * r.n_vocab);
    rig_expect_equal(what, have, want, ALL, r.n_vocab);
    rig_close(&r);
    sh_free(want);
    sh_free(have);
    sh_free(draft);
}

static void batch__two_windows_in_flight_and_a_rejection(void **state)
{
    (void)state;
    for_all_models(check_speculation);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch__ragged_batch_of_five),
        cmocka_unit_test(batch__every_chunking),
        cmocka_unit_test(batch__shared_prefix),
        cmocka_unit_test(batch__two_windows_in_flight_and_a_rejection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
