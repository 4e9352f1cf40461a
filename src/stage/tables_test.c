/* stage/tables_test.c - edits of the page tables against a plain array, and what they mark as
 * changed.
 */
#include "stage/tables.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

enum { SEQS = 3, INDEX = 5 };

static const struct sh_step_limits LIMITS = {
    .n_seqs = SEQS, .n_groups = 2, .n_positions = 300, .pages = {20, 20}};

static void make(struct sh_tables *t)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_tables_init(t, &LIMITS, &err)) fail_msg("%s", err.message);
}

static void map(struct sh_tables *t, int group, int32_t seq, int32_t index, int32_t page)
{
    const struct sh_prelude e = {
        .kind = SH_PRELUDE_MAP, .seq = seq, .group = group, .index = index, .page = page};

    for (int g = 0; g < t->n_groups; g++)
        assert_int_equal(sh_tables_apply(t, &e, g, NULL), 0);
}

static void apply(struct sh_tables *t, struct sh_prelude e)
{
    int32_t moved[INDEX];

    for (int g = 0; g < t->n_groups; g++)
        (void)sh_tables_apply(t, &e, g, moved);
}

static void expect_row(const struct sh_tables *t, int group, int32_t seq, const int32_t *want)
{
    for (int i = 0; i < INDEX; i++) {
        if (sh_table_page(t, group, seq, i) == want[i]) continue;
        fail_msg("group %d, sequence %d, entry %d is %d, expected %d", group, (int)seq, i,
                 (int)sh_table_page(t, group, seq, i), (int)want[i]);
    }
}

#define ROW(...) ((const int32_t[INDEX]){__VA_ARGS__})

static void tables__begin_empty_and_unknown_to_the_device(void **state)
{
    struct sh_tables t;

    (void)state;
    make(&t);
    assert_int_equal(t.n_index, INDEX);
    for (int g = 0; g < 2; g++) {
        for (int s = 0; s < SEQS; s++)
            expect_row(&t, g, s, ROW(-1, -1, -1, -1, -1));
        assert_int_equal(t.group[g].dirty0, 0);
        assert_int_equal(t.group[g].dirty1, SEQS * INDEX);
    }
    sh_tables_release(&t);
}

static void tables__map_marks_the_span_of_what_changed(void **state)
{
    struct sh_tables t;

    (void)state;
    make(&t);
    t.group[0].dirty0 = t.group[0].dirty1 = t.group[1].dirty0 = t.group[1].dirty1 = 0;
    map(&t, 0, 1, 2, -1); // changes nothing
    assert_int_equal(t.group[0].dirty1, 0);
    map(&t, 0, 1, 2, 9);
    assert_int_equal(t.group[0].dirty0, INDEX + 2);
    assert_int_equal(t.group[0].dirty1, INDEX + 3);
    map(&t, 0, 1, 3, 6);
    assert_int_equal(t.group[0].dirty1, INDEX + 4);
    map(&t, 0, 1, 4, 8);
    map(&t, 0, 1, 1, 7);
    assert_int_equal(t.group[0].dirty0, INDEX + 1);
    assert_int_equal(t.group[0].dirty1, INDEX + 5);
    assert_int_equal(t.group[1].dirty1, 0); // another group's table
    expect_row(&t, 0, 1, ROW(-1, 7, 9, 6, 8));
    expect_row(&t, 1, 1, ROW(-1, -1, -1, -1, -1));
    sh_tables_all_dirty(&t);
    assert_int_equal(t.group[1].dirty1, SEQS * INDEX);
    sh_tables_clear(&t);
    expect_row(&t, 0, 1, ROW(-1, -1, -1, -1, -1));
    sh_tables_release(&t);
}

static void tables__fork_and_drop_reach_every_group(void **state)
{
    struct sh_tables t;

    (void)state;
    make(&t);
    for (int i = 0; i < INDEX; i++) {
        map(&t, 0, 0, i, i);
        map(&t, 1, 0, i, 10 + i);
        map(&t, 1, 2, i, 15 + i);
    }
    apply(&t, (struct sh_prelude){.kind = SH_PRELUDE_FORK, .seq = 2, .from = 0, .end = 192});
    expect_row(&t, 0, 2, ROW(0, 1, 2, -1, -1));
    expect_row(&t, 1, 2, ROW(10, 11, 12, 18, 19));
    expect_row(&t, 0, 0, ROW(0, 1, 2, 3, 4));
    // Only pages wholly inside go.
    apply(&t, (struct sh_prelude){.kind = SH_PRELUDE_DROP, .seq = 0, .begin = 1, .end = 255});
    expect_row(&t, 0, 0, ROW(0, -1, -1, 3, 4));
    expect_row(&t, 1, 0, ROW(10, -1, -1, 13, 14));
    apply(&t, (struct sh_prelude){.kind = SH_PRELUDE_DROP, .seq = 0, .begin = 0, .end = 320});
    expect_row(&t, 0, 0, ROW(-1, -1, -1, -1, -1));
    apply(&t, (struct sh_prelude){.kind = SH_PRELUDE_COPY, .page = 1, .page_from = 2, .end = 64});
    expect_row(&t, 0, 2, ROW(0, 1, 2, -1, -1));
    sh_tables_release(&t);
}

static void check_shift(const int32_t *before, int64_t begin, int64_t delta, const int32_t *after,
                        const int32_t *moved, int64_t n_moved)
{
    const struct sh_prelude e = {
        .kind = SH_PRELUDE_SHIFT, .seq = 1, .begin = begin, .delta = delta};
    int32_t got[INDEX];
    struct sh_tables t;

    make(&t);
    for (int i = 0; i < INDEX; i++) {
        map(&t, 0, 1, i, before[i]);
        map(&t, 0, 0, i, 5);
        map(&t, 0, 2, i, 6);
    }
    assert_int_equal(sh_tables_apply(&t, &e, 0, got), n_moved);
    expect_row(&t, 0, 1, after);
    expect_row(&t, 0, 0, ROW(5, 5, 5, 5, 5));
    expect_row(&t, 0, 2, ROW(6, 6, 6, 6, 6));
    for (int64_t i = 0; i < n_moved; i++) { // in any order, each once
        int times = 0;
        for (int64_t k = 0; k < n_moved; k++)
            times += got[k] == moved[i];
        if (times != 1) fail_msg("page %d is listed %d times", (int)moved[i], times);
    }
    sh_tables_release(&t);
}

static void tables__shift_moves_entries_and_lists_pages(void **state)
{
    (void)state;
    check_shift(ROW(1, -1, -1, 2, 3), 192, -128, ROW(1, 2, 3, -1, -1), ROW(2, 3), 2);
    check_shift(ROW(1, -1, 2, 3, 4), 128, -64, ROW(1, 2, 3, 4, -1), ROW(2, 3, 4), 3);
    check_shift(ROW(1, 2, 3, -1, -1), 0, 128, ROW(-1, -1, 1, 2, 3), ROW(1, 2, 3), 3);
    check_shift(ROW(1, 2, 3, -1, -1), 0, 64, ROW(-1, 1, 2, 3, -1), ROW(1, 2, 3), 3);
    check_shift(ROW(-1, 7, -1, 8, -1), 64, -64, ROW(7, -1, 8, -1, -1), ROW(7, 8), 2);
    check_shift(ROW(1, 2, -1, -1, -1), 192, -64, ROW(1, 2, -1, -1, -1), NULL, 0);
    // Out at the top: gone from the table.
    check_shift(ROW(1, 2, 3, 4, 5), 192, 64, ROW(1, 2, 3, -1, 4), ROW(4, 5), 2);
}

static void tables__no_memory_is_a_status(void **state)
{
    (void)state;
    for (int n = 0; n < 2; n++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        const size_t live = sh_mem_live_bytes();
        struct sh_tables t;
        sh_mem_fail_after(n);
        assert_int_equal(sh_tables_init(&t, &LIMITS, &err), SHOAL_ERR_NOMEM);
        sh_mem_fail_after(-1);
        assert_string_equal(err.message, "stage: no memory for tables of 3 sequences of 5 pages");
        assert_int_equal(sh_mem_live_bytes(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables__begin_empty_and_unknown_to_the_device),
        cmocka_unit_test(tables__map_marks_the_span_of_what_changed),
        cmocka_unit_test(tables__fork_and_drop_reach_every_group),
        cmocka_unit_test(tables__shift_moves_entries_and_lists_pages),
        cmocka_unit_test(tables__no_memory_is_a_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
