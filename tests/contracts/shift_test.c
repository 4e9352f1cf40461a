/* tests/contracts/shift_test.c - moving a context by whole pages.
 *
 * With nothing dropped, against a fresh run at the new place; with a drop, against a computation in
 * double that applies the same edit (measured: 2.8e-13 before the edit and after it).  A rotated
 * key is rounded once more than a fresh one, so these compare within rounding; where both sides do
 * the same (stages, shards, shared pages) bits are compared.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/rig.h"
#include "scalar_llama.h"

enum { VOCAB = 96 };

static void shift(struct rig *r, int32_t seq, int64_t begin, int64_t n)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_kv_shift(r->kv, seq, begin, n, &r->edits, &err)) fail_msg("%s", err.message);
}

static void expect_close(const char *what, double nmse, double most)
{
    if (!(nmse <= most)) fail_msg("%s: NMSE %g, at most %g", what, nmse, most);
}

static double nmse_of(const float *have, const double *want, int64_t n)
{
    double num = 0, den = 0;

    for (int64_t i = 0; i < n; i++) {
        num += ((double)have[i] - want[i]) * ((double)have[i] - want[i]);
        den += want[i] * want[i];
    }
    return num / den;
}

/* ---- nothing dropped ------------------------------------------------------------------------ */

static void check_moved_up(enum tm_kind kind, int64_t n, int64_t up)
{
    enum { AFTER = 40, MOST = 200 };
    const struct rig_options o = {.cache_f32 = true};
    float *have = rig_logits(AFTER), *want = rig_logits(AFTER);
    int32_t ids[MOST];
    struct tm_model m;
    struct rig r;
    char what[64];

    snprintf(what, sizeof what, "%s, %d positions up by %d", tm_name(kind), (int)n, (int)up);
    tm_make(&m, kind, SH_DTYPE_F32, 3);
    rig_ids(ids, n + AFTER, 4, VOCAB);
    rig_open(&r, &m, &o);
    const int32_t moved = rig_seq(&r, 0), fresh = rig_seq(&r, up);
    rig_feed(&r, moved, ids, n, 33, NULL);
    shift(&r, moved, 0, -up);
    assert_int_equal(sh_kv_length(r.kv, moved), up + n);
    rig_feed(&r, moved, ids + n, AFTER, 1, have);

    rig_feed(&r, fresh, ids, n, 33, NULL);
    rig_feed(&r, fresh, ids + n, AFTER, 1, want);
    expect_close(what, rig_nmse(have, want, AFTER * VOCAB), 1e-12);
    rig_close(&r);
    tm_release(&m);
    sh_free(have);
    sh_free(want);
}

static void shift__all_moved_equals_a_fresh_run_there(void **state)
{
    (void)state;
    for (int kind = TM_LLAMA; kind <= TM_GROUPS; kind++) {
        check_moved_up((enum tm_kind)kind, 150, 128);
        check_moved_up((enum tm_kind)kind, 64, 64);
        check_moved_up((enum tm_kind)kind, 1, 256);
    }
}

// Up and down again: the bits differ by the roundings of two rotations only.
static void shift__up_and_down_again(void **state)
{
    enum { N = 130, AFTER = 20 };
    const struct rig_options o = {.cache_f32 = true};
    float *have = rig_logits(AFTER), *want = rig_logits(AFTER);
    int32_t ids[N + AFTER];
    struct tm_model m;
    struct rig r;

    (void)state;
    tm_make(&m, TM_LLAMA, SH_DTYPE_F32, 5);
    rig_ids(ids, N + AFTER, 6, VOCAB);
    rig_open(&r, &m, &o);
    const int32_t moved = rig_seq(&r, 0), still = rig_seq(&r, 0);
    rig_feed(&r, moved, ids, N, 50, NULL);
    rig_feed(&r, still, ids, N, 50, NULL);
    shift(&r, moved, 0, -192);
    shift(&r, moved, 0, 192);
    assert_int_equal(sh_kv_length(r.kv, moved), N);
    rig_feed(&r, moved, ids + N, AFTER, 7, have);
    rig_feed(&r, still, ids + N, AFTER, 7, want);
    expect_close("up and down", rig_nmse(have, want, AFTER * VOCAB), 1e-12);
    rig_close(&r);
    tm_release(&m);
    sh_free(have);
    sh_free(want);
}

/* ---- with a drop ---------------------------------------------------------------------------- */

struct drop {
    int64_t after, begin, n; /* tokens fed before the edit */
};

static void check_drops(const struct drop *drops, int n_drops, int64_t n, double most)
{
    const struct rig_options o = {.cache_f32 = true, .n_positions = 256};
    double *want = sh_calloc((size_t)(n * VOCAB), sizeof *want);
    float *have = rig_logits(n);
    struct scalar_llama *s;
    int32_t ids[512];
    struct tm_model m;
    struct rig r;
    int64_t at = 0;

    assert_non_null(want);
    assert_true(n <= 512);
    tm_make(&m, TM_LLAMA, SH_DTYPE_F32, 9);
    rig_ids(ids, n, 10, VOCAB);
    rig_open(&r, &m, &o);
    s = scalar_llama_open(&m, n);
    const int32_t seq = rig_seq(&r, 0);
    for (int i = 0; i <= n_drops; i++) {
        const int64_t end = i < n_drops ? drops[i].after : n;
        char what[64];
        rig_feed(&r, seq, ids + at, end - at, 29, have + at * VOCAB);
        scalar_llama_feed(s, ids + at, end - at, want + at * VOCAB);
        snprintf(what, sizeof what, "tokens %d to %d", (int)at, (int)end);
        const double nmse = nmse_of(have + at * VOCAB, want + at * VOCAB, (end - at) * VOCAB);
        print_message("%s: NMSE %.3g\n", what, nmse);
        expect_close(what, nmse, most);
        at = end;
        if (i == n_drops) break;
        shift(&r, seq, drops[i].begin, drops[i].n);
        scalar_llama_drop(s, drops[i].begin, drops[i].n);
    }
    scalar_llama_close(s);
    rig_close(&r);
    tm_release(&m);
    sh_free(have);
    sh_free(want);
}

static void shift__drop_equals_the_same_edit_in_double(void **state)
{
    static const struct drop first[] = {{200, 0, 128}};
    static const struct drop middle[] = {{200, 64, 64}};
    static const struct drop to_the_end[] = {{192, 64, 128}};

    (void)state;
    check_drops(first, 1, 260, 1e-12);
    check_drops(middle, 1, 260, 1e-12);
    check_drops(to_the_end, 1, 260, 1e-12);
}

// A context of 256 that takes 500 tokens: the first page stays, the second goes each time.
static void shift__again_and_again_keeps_close(void **state)
{
    static const struct drop each[] = {
        {256, 64, 64}, {320, 64, 64}, {384, 64, 64}, {448, 64, 64}, {490, 64, 128}};

    (void)state;
    check_drops(each, 5, 512, 1e-12);
}

/* ---- equal bits ----------------------------------------------------------------------------- */

// A sequence that is fed, moved with a drop, and fed on; logits of the rows after.
static void run_shifted(struct tm_model *m, const struct rig_options *o, const int32_t *ids,
                        int64_t n, int64_t after, float *logits)
{
    struct rig r;

    rig_open(&r, m, o);
    const int32_t seq = rig_seq(&r, 0);
    rig_feed(&r, seq, ids, n, 31, NULL);
    shift(&r, seq, 64, 64);
    rig_feed(&r, seq, ids + n, after, 3, logits);
    rig_close(&r);
}

static void shift__stages_and_shards_have_the_same_bits(void **state)
{
    enum { N = 170, AFTER = 12 };
    static const enum tm_kind KIND[] = {TM_LLAMA, TM_EXPERTS};
    static const enum sh_dtype TYPE[] = {SH_DTYPE_F32, SH_DTYPE_Q4_0};
    const struct rig_options one = {0}, stages = {.n_stages = 2, .n_threads = 2},
                             shards = {.n_shards = 2, .shares = {2, 1}},
                             both = {.n_stages = 2, .n_shards = 2, .shares = {1, 1}};
    const struct rig_options *const other[] = {&stages, &shards, &both};
    float *have = rig_logits(AFTER), *want = rig_logits(AFTER);
    int32_t ids[N + AFTER];

    (void)state;
    rig_ids(ids, N + AFTER, 30, VOCAB);
    for (int k = 0; k < 4; k++) {
        struct tm_model m;
        tm_make(&m, KIND[k / 2], TYPE[k % 2], 31);
        run_shifted(&m, &one, ids, N, AFTER, want);
        for (int i = 0; i < 3; i++) {
            char what[96];
            snprintf(what, sizeof what, "%s %s, %d stages, %d shards", tm_name(KIND[k / 2]),
                     sh_dtype_info(TYPE[k % 2])->name, other[i]->n_stages, other[i]->n_shards);
            run_shifted(&m, other[i], ids, N, AFTER, have);
            rig_expect_equal(what, have, want, AFTER, VOCAB);
        }
        tm_release(&m);
    }
    sh_free(have);
    sh_free(want);
}

// Two sequences share 200 positions; one of them moves.
static void shift__shared_pages_are_copied_first(void **state)
{
    enum { N = 200, AFTER = 20, ALL = N + AFTER };
    const struct rig_options o = {0};
    float *have = rig_logits(AFTER), *moved = rig_logits(AFTER), *want = rig_logits(ALL);
    float *want_moved = rig_logits(AFTER);
    struct shoal_error err = SHOAL_ERROR_INIT;
    int64_t used, total;
    int32_t ids[ALL], b;
    struct tm_model m;
    struct rig r;

    (void)state;
    tm_make(&m, TM_LLAMA, SH_DTYPE_Q8_0, 40);
    rig_ids(ids, ALL, 41, VOCAB);
    rig_reference(&m, ids, ALL, want);
    run_shifted(&m, &o, ids, N, AFTER, want_moved);
    rig_open(&r, &m, &o);
    const int32_t a = rig_seq(&r, 0);
    rig_feed(&r, a, ids, N, 31, NULL);
    if (sh_kv_fork(r.kv, a, N, &b, &r.edits, &err)) fail_msg("%s", err.message);
    sh_kv_usage(r.kv, 0, &used, &total);
    assert_int_equal(used, 5); // three are shared, each has a fourth
    shift(&r, b, 64, 64);
    sh_kv_usage(r.kv, 0, &used, &total);
    assert_int_equal(used, 6); // of those, one stays shared, one was copied, one given up
    for (int k = 0; k < AFTER; k += 2) {
        const struct rig_run runs[2] = {{a, ids + N + k, 2, have + k * VOCAB},
                                        {b, ids + N + k, 2, moved + k * VOCAB}};
        rig_step(&r, runs, 2);
    }
    rig_expect_equal("the one that stayed", have, want + N * VOCAB, AFTER, VOCAB);
    rig_expect_equal("the one that moved", moved, want_moved, AFTER, VOCAB);
    rig_end(&r, a);
    rig_end(&r, b);
    sh_kv_usage(r.kv, 0, &used, &total);
    assert_int_equal(used, 0);
    rig_close(&r);
    tm_release(&m);
    sh_free(have);
    sh_free(moved);
    sh_free(want);
    sh_free(want_moved);
}

// A page that is shared by being moved in place: all of it, on the one side and the other.
static void shift__both_sides_of_a_fork_move(void **state)
{
    enum { N = 128, AFTER = 8 };
    const struct rig_options o = {0};
    float *have[2] = {rig_logits(AFTER), rig_logits(AFTER)}, *want = rig_logits(AFTER);
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t ids[N + AFTER], seq[2];
    struct tm_model m;
    struct rig r;

    (void)state;
    tm_make(&m, TM_LLAMA, SH_DTYPE_F32, 42);
    rig_ids(ids, N + AFTER, 43, VOCAB);
    run_shifted(&m, &o, ids, N, AFTER, want);
    rig_open(&r, &m, &o);
    seq[0] = rig_seq(&r, 0);
    rig_feed(&r, seq[0], ids, N, 31, NULL);
    if (sh_kv_fork(r.kv, seq[0], N, &seq[1], &r.edits, &err)) fail_msg("%s", err.message);
    for (int i = 0; i < 2; i++) // both edits in front of one step
        shift(&r, seq[i], 64, 64);
    for (int k = 0; k < AFTER; k++) {
        const struct rig_run runs[2] = {{seq[0], ids + N + k, 1, have[0] + k * VOCAB},
                                        {seq[1], ids + N + k, 1, have[1] + k * VOCAB}};
        rig_step(&r, runs, 2);
    }
    rig_expect_equal("first", have[0], want, AFTER, VOCAB);
    rig_expect_equal("second", have[1], want, AFTER, VOCAB);
    rig_close(&r);
    tm_release(&m);
    sh_free(have[0]);
    sh_free(have[1]);
    sh_free(want);
}

/* ---- refusals ------------------------------------------------------------------------------- */

static void shift__recurrent_models_refuse(void **state)
{
    const struct rig_options o = {0};
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t ids[100];
    struct tm_model m;
    struct rig r;

    (void)state;
    tm_make(&m, TM_HYBRID, SH_DTYPE_F32, 50);
    assert_false(m.info.can_shift);
    rig_ids(ids, 100, 51, VOCAB);
    rig_open(&r, &m, &o);
    const int32_t seq = rig_seq(&r, 0);
    rig_feed(&r, seq, ids, 100, 50, NULL);
    assert_int_equal(sh_kv_shift(r.kv, seq, 0, 64, &r.edits, &err), SHOAL_ERR_UNSUPPORTED);
    assert_string_equal(err.message, "kv: a recurrent model cannot shift");
    assert_int_equal(r.edits.n, 0);
    assert_int_equal(sh_kv_length(r.kv, seq), 100);
    rig_close(&r);
    tm_release(&m);
}

// Without the op that turns keys the step fails, and those after it do not.
static void shift__a_plain_device_refuses_and_goes_on(void **state)
{
    enum { N = 90 };
    const struct rig_options o = {.plain = true};
    float *have = rig_logits(N), *want = rig_logits(N);
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t ids[N];
    struct tm_model m;
    struct rig r;

    (void)state;
    tm_make(&m, TM_LLAMA, SH_DTYPE_F32, 60);
    rig_ids(ids, N, 61, VOCAB);
    rig_reference(&m, ids, N, want);
    rig_open(&r, &m, &o);
    const int32_t seq = rig_seq(&r, 0);
    rig_feed(&r, seq, ids, N, 30, NULL);
    shift(&r, seq, 0, 64);
    const struct rig_run run = {.seq = seq, .ids = ids, .n = 1, .logits = have};
    assert_int_equal(rig_try(&r, &run, &err), SHOAL_ERR_UNSUPPORTED);
    assert_string_equal(err.message, "stage: CPU cannot shift a context: it lacks shoal's ops");
    rig_end(&r, seq);
    rig_feed(&r, rig_seq(&r, 0), ids, N, 30, have);
    rig_expect_equal("afterwards", have, want, N, VOCAB);
    rig_close(&r);
    tm_release(&m);
    sh_free(have);
    sh_free(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shift__all_moved_equals_a_fresh_run_there),
        cmocka_unit_test(shift__up_and_down_again),
        cmocka_unit_test(shift__drop_equals_the_same_edit_in_double),
        cmocka_unit_test(shift__again_and_again_keeps_close),
        cmocka_unit_test(shift__stages_and_shards_have_the_same_bits),
        cmocka_unit_test(shift__shared_pages_are_copied_first),
        cmocka_unit_test(shift__both_sides_of_a_fork_move),
        cmocka_unit_test(shift__recurrent_models_refuse),
        cmocka_unit_test(shift__a_plain_device_refuses_and_goes_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
