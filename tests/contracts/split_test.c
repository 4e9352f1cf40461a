/* tests/contracts/split_test.c - two and three stages, shards of any share, and the lowered form
 * give the logits of one whole stage.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/plain_device.h"
#include "support/rig.h"

enum { N = 90 };

static void check(enum tm_kind kind, enum sh_dtype type, const struct rig_options *o, int64_t chunk,
                  double nmse_max)
{
    float *want = rig_logits(N), *have = rig_logits(N);
    int32_t ids[N], seq;
    struct tm_model m;
    char what[96];
    struct rig r;

    snprintf(what, sizeof what, "%s %s, %d stages, %d shards, chunks of %d", tm_name(kind),
             sh_dtype_info(type)->name, o->n_stages, o->n_shards, (int)chunk);
    tm_make(&m, kind, type, 21);
    rig_ids(ids, N, 9, 96);
    rig_reference_cached(&m, ids, N, want, o->cache_f32);
    rig_open(&r, &m, o);
    seq = rig_seq(&r, 0);
    rig_feed(&r, seq, ids, N - 12, chunk, have);
    rig_feed(&r, seq, ids + N - 12, 12, 1, have + (N - 12) * r.n_vocab);
    if (nmse_max == 0) {
        rig_expect_equal(what, have, want, N, r.n_vocab);
    } else if (!(rig_nmse(have, want, N * r.n_vocab) <= nmse_max)) {
        fail_msg("%s: NMSE %g, at most %g", what, rig_nmse(have, want, N * r.n_vocab), nmse_max);
    }
    rig_close(&r);
    tm_release(&m);
    sh_free(want);
    sh_free(have);
}

static const enum sh_dtype TYPES[] = {SH_DTYPE_F32, SH_DTYPE_F16, SH_DTYPE_Q4_0, SH_DTYPE_Q8_0};
enum { N_TYPES = sizeof TYPES / sizeof TYPES[0] };

static void split__stages(void **state)
{
    (void)state;
    for (int kind = 0; kind < TM_KIND_COUNT; kind++) {
        for (int n = 2; n <= 3; n++) {
            const struct rig_options o = {.n_stages = n, .n_threads = n - 1};
            check((enum tm_kind)kind, SH_DTYPE_Q8_0, &o, 40, 0);
            check((enum tm_kind)kind, SH_DTYPE_F32, &o, 1, 0);
        }
    }
}

static void split__two_shards_2_to_1(void **state)
{
    const struct rig_options o = {.n_shards = 2, .shares = {2, 1}};

    (void)state;
    for (int kind = 0; kind < TM_KIND_COUNT; kind++)
        for (int t = 0; t < N_TYPES; t++)
            check((enum tm_kind)kind, TYPES[t], &o, 33, 0);
}

static void split__three_shards_in_two_stages(void **state)
{
    const struct rig_options o = {.n_stages = 2, .n_shards = 3, .shares = {1, 1, 1}};

    (void)state;
    for (int kind = 0; kind < TM_KIND_COUNT; kind++)
        check((enum tm_kind)kind, SH_DTYPE_Q4_0, &o, 17, 0);
}

// Files with one tensor per expert hold the same model, whole, cut and lowered.
static void split__one_tensor_per_expert(void **state)
{
    static const enum tm_kind KIND[] = {TM_EXPERTS, TM_GROUPS};
    const struct rig_options whole = {.n_threads = 2}, shards = {.n_shards = 2, .shares = {2, 1}},
                             plain = {.plain = true};
    const struct rig_options *const other[] = {&whole, &shards, &plain};

    (void)state;
    for (int k = 0; k < 2; k++) {
        for (int t = 0; t < N_TYPES; t++) {
            float *want = rig_logits(N), *have = rig_logits(N);
            struct tm_model stacked, old;
            int32_t ids[N];
            tm_make(&stacked, KIND[k], TYPES[t], 33);
            tm_make_old(&old, KIND[k], TYPES[t], 33);
            assert_null(sh_gguf_find_tensor(old.file, SH_STR_LIT("blk.0.ffn_up_exps.weight")));
            rig_ids(ids, N, 34, 96);
            for (int i = 0; i < 3; i++) {
                struct rig r;
                char what[96];
                snprintf(what, sizeof what, "%s %s, rig %d", tm_name(KIND[k]),
                         sh_dtype_info(TYPES[t])->name, i);
                rig_open(&r, &stacked, other[i]);
                rig_feed(&r, rig_seq(&r, 0), ids, N, 30, want);
                rig_close(&r);
                rig_open(&r, &old, other[i]);
                rig_feed(&r, rig_seq(&r, 0), ids, N, 30, have);
                rig_close(&r);
                rig_expect_equal(what, have, want, N, 96);
            }
            tm_release(&stacked);
            tm_release(&old);
            sh_free(want);
            sh_free(have);
        }
    }
}

// On a device without shoal's ops: equal bits, and few graphs.
static void lower__llama_has_equal_bits(void **state)
{
    const struct rig_options one = {.plain = true}, two = {.plain = true, .n_stages = 2};
    const int before = plain_device_prepared();

    (void)state;
    for (int t = 0; t < N_TYPES; t++)
        check(TM_LLAMA, TYPES[t], &one, 39, 0);
    // Chunks of 39 twice, then single rows: two shapes.
    assert_int_equal(plain_device_prepared() - before, 2 * N_TYPES);
    check(TM_LLAMA, SH_DTYPE_Q4_0, &two, 13, 0);
    const struct rig_options threads = {.plain = true, .n_threads = 2};
    check(TM_LLAMA, SH_DTYPE_Q8_0, &threads, 1, 0);
}

// An f16 cache would turn a last bit into a rounding of 2^-11: f32 shows the sums alone.
static void lower__experts_are_within_rounding(void **state)
{
    const struct rig_options o = {.plain = true, .cache_f32 = true};

    (void)state;
    check(TM_EXPERTS, SH_DTYPE_F32, &o, 39, 1e-11);
    check(TM_GROUPS, SH_DTYPE_F32, &o, 1, 1e-11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split__stages),
        cmocka_unit_test(split__two_shards_2_to_1),
        cmocka_unit_test(split__three_shards_in_two_stages),
        cmocka_unit_test(split__one_tensor_per_expert),
        cmocka_unit_test(lower__llama_has_equal_bits),
        cmocka_unit_test(lower__experts_are_within_rounding),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
