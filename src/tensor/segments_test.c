/* Segments: any split of a product into shards sums to the same bits as the whole. */
#include "tensor/segments.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#define N_ELEM 131 // more than two working chunks, and odd

static uint64_t g_seed = 1;

/* Floats of very different sizes: sums in another order differ in their bits. */
static float random_float(void)
{
    static const float SCALE[] = {1e-3f, 1.0f, 1e4f, 3.0f};

    g_seed = g_seed * 6364136223846793005u + 1442695040888963407u;
    const int32_t v = (int32_t)(g_seed >> 33) - (1 << 30);
    return (float)v * 0x1p-30f * SCALE[g_seed >> 20 & 3];
}

/* The definition, one element at a time: split at the largest power of two below the size. */
static float tree_by_definition(int lo, int hi, float (*const vec)[N_ELEM], int e)
{
    int left = 1;

    if (hi - lo == 1) return vec[lo][e];
    while (left * 2 < hi - lo)
        left *= 2;
    return tree_by_definition(lo, lo + left, vec, e) + tree_by_definition(lo + left, hi, vec, e);
}

/* Sum as shards with these borders would: subtree vectors of each, then the finished tree. */
static void sum_split(int n, const int *border, int n_shards, float (*const vec)[N_ELEM],
                      float *dst)
{
    static float part[SH_SEGMENTS_MAX][N_ELEM];
    const float *in[SH_SEGMENTS_MAX], *all[SH_SEGMENTS_MAX];
    int lo[SH_SEGMENTS_MAX], hi[SH_SEGMENTS_MAX], count = 0;

    for (int s = 0; s < n_shards; s++) {
        const int got = sh_subtrees(n, border[s], border[s + 1], lo + count, hi + count);
        for (int i = count; i < count + got; i++) {
            for (int j = lo[i]; j < hi[i]; j++)
                in[j - lo[i]] = vec[j];
            sh_tree_sum(n, lo[i], hi[i], in, N_ELEM, part[i]);
            all[i] = part[i];
        }
        count += got;
    }
    sh_tree_finish(n, count, lo, hi, all, N_ELEM, dst);
}

static void segments__every_split_gives_the_bits_of_the_whole(void **state)
{
    static float vec[SH_SEGMENTS_MAX][N_ELEM], whole[N_ELEM], split[N_ELEM];
    const float *in[SH_SEGMENTS_MAX];
    int n_splits = 0;

    (void)state;
    for (int n = 1; n <= SH_SEGMENTS_MAX; n++) {
        for (int i = 0; i < n; i++) {
            in[i] = vec[i];
            for (int e = 0; e < N_ELEM; e++)
                vec[i][e] = random_float();
        }
        sh_tree_sum(n, 0, n, in, N_ELEM, whole);
        for (int e = 0; e < N_ELEM; e++) {
            const float want = tree_by_definition(0, n, vec, e);
            assert_memory_equal(&whole[e], &want, sizeof want);
        }
        // Five shards with all inner borders; equal borders are empty shards.
        for (int a = 0; a <= n; a++) {
            for (int b = a; b <= n; b++) {
                for (int c = b; c <= n; c++) {
                    for (int d = c; d <= n; d++) {
                        const int border[] = {0, a, b, c, d, n};
                        sum_split(n, border, 5, vec, split);
                        assert_memory_equal(whole, split, sizeof whole);
                        n_splits++;
                    }
                }
            }
        }
    }
    assert_true(n_splits > 500);
}

static void segments__order_of_the_sum_matters_to_this_data(void **state)
{
    static float vec[SH_SEGMENTS_MAX][N_ELEM];
    int differing = 0;

    (void)state;
    for (int i = 0; i < 8; i++) {
        for (int e = 0; e < N_ELEM; e++)
            vec[i][e] = random_float();
    }
    for (int e = 0; e < N_ELEM; e++) {
        float chain = 0;
        for (int i = 0; i < 8; i++)
            chain += vec[i][e];
        differing += chain != tree_by_definition(0, 8, vec, e);
    }
    assert_true(differing > N_ELEM / 4);
}

static void segments__sum_into_its_first_vector(void **state)
{
    float a[] = {1, 2}, b[] = {10, 20}, c[] = {100, 200};
    const float *in[] = {a, b, c};

    (void)state;
    sh_tree_sum(3, 0, 3, in, 2, a);
    assert_true(a[0] == 111.0f && a[1] == 222.0f);
    sh_tree_sum(3, 2, 3, &in[2], 2, b);
    assert_true(b[0] == 100.0f && b[1] == 200.0f);
    sh_tree_sum(3, 0, 3, in, 0, c);
    assert_true(c[0] == 100.0f);
}

static void assert_subtrees(int n, int begin, int end, int count, const int *want)
{
    int lo[SH_SEGMENTS_MAX] = {0}, hi[SH_SEGMENTS_MAX] = {0};

    assert_int_equal(sh_subtrees(n, begin, end, lo, hi), count);
    for (int i = 0; i < count; i++) {
        assert_int_equal(lo[i], want[2 * i]);
        assert_int_equal(hi[i], want[2 * i + 1]);
    }
    assert_int_equal(sh_subtrees(n, begin, end, NULL, NULL), count);
}

static void segments__subtrees_of_the_drawing(void **state)
{
    (void)state;
    assert_subtrees(6, 0, 4, 1, (const int[]){0, 4});
    assert_subtrees(6, 4, 6, 1, (const int[]){4, 6});
    assert_subtrees(6, 1, 4, 2, (const int[]){1, 2, 2, 4});
    assert_subtrees(6, 0, 6, 1, (const int[]){0, 6});
    assert_subtrees(6, 3, 5, 2, (const int[]){3, 4, 4, 5});
    assert_subtrees(6, 2, 2, 0, NULL);
    assert_subtrees(8, 1, 7, 4, (const int[]){1, 2, 2, 4, 4, 6, 6, 7}); // up to four
    assert_subtrees(3, 1, 3, 2, (const int[]){1, 2, 2, 3});
    assert_subtrees(1, 0, 1, 1, (const int[]){0, 1});
}

static void segments__a_contiguous_share_has_at_most_four_subtrees(void **state)
{
    (void)state;
    for (int n = 1; n <= SH_SEGMENTS_MAX; n++) {
        for (int a = 0; a <= n; a++) {
            for (int b = a; b <= n; b++) {
                int lo[SH_SEGMENTS_MAX], hi[SH_SEGMENTS_MAX], at = a;
                const int count = sh_subtrees(n, a, b, lo, hi);
                assert_in_range(count, 0, 4);
                for (int i = 0; i < count; i++) {
                    assert_int_equal(lo[i], at);
                    at = hi[i];
                }
                assert_int_equal(at, b);
            }
        }
    }
}

static void segments__counts_and_borders(void **state)
{
    static const int64_t ELEVEN[] = {0, 1, 2, 4, 5, 6, 8, 9, 11};

    (void)state;
    assert_int_equal(sh_segment_count(576, 192), 3); // SmolLM2-135M attention
    assert_int_equal(sh_segment_count(4096, 512), 8);
    assert_int_equal(sh_segment_count(1536, 32), 8);
    assert_int_equal(sh_segment_count(512, 0), 1);
    assert_int_equal(sh_segment_count(512, -1), 1);
    assert_int_equal(sh_segment_count(512, 512), 1);
    assert_int_equal(sh_segment_count(512, 1024), 1);
    assert_int_equal(sh_segment_count(0, 32), 1);
    for (int i = 0; i <= 8; i++) {
        assert_int_equal(sh_segment_begin(11 * 32, 32, 8, i), ELEVEN[i] * 32);
        assert_int_equal(sh_segment_at(11 * 32, 32, 8, ELEVEN[i] * 32), i);
    }
    assert_int_equal(sh_segment_at(11 * 32, 32, 8, 3 * 32), -1);
    assert_int_equal(sh_segment_at(11 * 32, 32, 8, 1), -1);
    assert_int_equal(sh_segment_at(11 * 32, 32, 8, 12 * 32), -1);
    assert_int_equal(sh_segment_begin(512, 0, 1, 0), 0);
    assert_int_equal(sh_segment_begin(512, 0, 1, 1), 512);
    assert_int_equal(sh_segment_at(512, 0, 1, 512), 1);
    assert_int_equal(sh_segment_at(512, 0, 1, 0), 0);
    // floor(i * units / n) of a width whose product would pass 2^63
    const int64_t units = ((int64_t)1 << 61) + 5;
    assert_int_equal(sh_segment_begin(units, 1, 7, 3), units / 7 * 3 + units % 7 * 3 / 7);
}

static void segments__operands_survive_packing(void **state)
{
    (void)state;
    for (int n = 1; n <= SH_SEGMENTS_MAX; n++) {
        for (int shards = 1; shards <= SH_SHARDS_MAX; shards++) {
            struct sh_sum_operand o = {.n_segments = n, .n_shards = shards}, back;
            int32_t words[2];
            for (int s = 1; s <= shards; s++)
                o.border[s] = s * n / shards;
            sh_sum_operand_pack(&o, words);
            assert_true(sh_sum_operand_unpack(words, &back));
            assert_memory_equal(&o, &back, sizeof o);
        }
    }
}

static void segments__unlawful_operands_are_refused(void **state)
{
    static const int32_t BAD[][2] = {
        {0, 0},                  // no segments
        {0x20, 0},               // none, two shards
        {0x01, 0},               // no shards
        {0x29, 0},               // nine segments
        {0x91, 0},               // nine shards
        {0x124, 0},              // unused bits of word 0
        {0x24, 0x5},             // border behind the last segment
        {0x34, 0x12},            // descending
        {0x24, 0x12},            // unused nibble of word 1
        {0x14, 0x1},             // border of a single shard
        {0x84, (int)0x80000000}, // top nibble
        {-1, 0},
    };
    struct sh_sum_operand o;

    (void)state;
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        if (sh_sum_operand_unpack(BAD[i], &o)) {
            fail_msg("words %zu, %#x %#x, were accepted", i, (unsigned)BAD[i][0],
                     (unsigned)BAD[i][1]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments__every_split_gives_the_bits_of_the_whole),
        cmocka_unit_test(segments__order_of_the_sum_matters_to_this_data),
        cmocka_unit_test(segments__sum_into_its_first_vector),
        cmocka_unit_test(segments__subtrees_of_the_drawing),
        cmocka_unit_test(segments__a_contiguous_share_has_at_most_four_subtrees),
        cmocka_unit_test(segments__counts_and_borders),
        cmocka_unit_test(segments__operands_survive_packing),
        cmocka_unit_test(segments__unlawful_operands_are_refused),
    };
    return cmocka_run_group_tests_name("segments", tests, NULL, NULL);
}
