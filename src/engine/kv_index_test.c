/* engine/kv_index_test.c - the index against a model of what it is for: every cell that a row may
 * look at holds what was written there.
 *
 * Random operations run on an index; the edits it gives are applied to real page tables, and cells
 * and states are remembered as numbers.  After each operation everything that every sequence can
 * still see is looked up through its table.  Special cases follow, one by one.
 */
#include "engine/kv_index.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "stage/tables.h"

enum { SEQS = 5, INDEX = 6, POSITIONS = INDEX * SH_PAGE, PAGES = 12, STATES = 9, GROUPS = 3 };
enum { OPERATIONS = 20000 };

static uint32_t next_random(uint32_t *state, uint32_t n)
{
    *state = *state * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)(*state ^ (*state >> 15)) * n) >> 32);
}

/* ---- the model ------------------------------------------------------------------------------ */

struct life { /* of a sequence */
    bool open;
    int64_t start, length, confirmed;
    uint64_t what[POSITIONS]; /* written at each position */
    int64_t held[GROUPS];     /* from here on; what lies below, a window has given up */
};

struct world {
    int n_groups;
    struct sh_kv_group groups[GROUPS];
    struct sh_step_limits limits;
    struct sh_kv_index *kv;
    struct sh_edits edits;
    struct sh_tables tables;
    uint64_t cell[GROUPS][PAGES][SH_PAGE];
    uint64_t state[STATES]; /* sum over the positions that it has seen */
    struct life life[SEQS];
    uint64_t stamp;
    uint32_t random;
};

static void world_open(struct world *w, const struct sh_kv_group *groups, int n_groups)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    memset(w, 0, sizeof *w);
    w->n_groups = n_groups;
    w->limits = (struct sh_step_limits){
        .n_seqs = SEQS, .n_groups = n_groups, .n_positions = POSITIONS, .n_states = STATES};
    for (int g = 0; g < n_groups; g++) {
        w->groups[g] = groups[g];
        w->limits.pages[g] = groups[g].kind == SH_GROUP_STATE ? STATES : PAGES;
    }
    if (sh_kv_index_create(&w->kv, n_groups, groups, &w->limits, &err) ||
        sh_tables_init(&w->tables, &w->limits, &err)) {
        fail_msg("%s", err.message);
    }
}

static void world_close(struct world *w)
{
    sh_kv_index_destroy(w->kv);
    sh_tables_release(&w->tables);
    sh_edits_release(&w->edits);
}

// Do what the stages would do.
static void apply_edits(struct world *w)
{
    for (int32_t i = 0; i < w->edits.n; i++) {
        const struct sh_prelude *e = &w->edits.edit[i];
        int32_t moved[INDEX];
        const struct sh_step step = {.prelude = e, .n_prelude = 1};
        struct shoal_error err = SHOAL_ERROR_INIT;
        if (sh_step_check(&step, &w->limits, &err)) fail_msg("%s", err.message);
        if (e->kind == SH_PRELUDE_COPY) {
            memcpy(&w->cell[e->group][e->page][e->begin],
                   &w->cell[e->group][e->page_from][e->begin],
                   (size_t)(e->end - e->begin) * sizeof(uint64_t));
        }
        for (int g = 0; g < w->n_groups; g++)
            (void)sh_tables_apply(&w->tables, e, g, moved);
    }
    sh_edits_release(&w->edits); // so that the next change must reserve all that it needs
}

static uint64_t sum_of(const struct life *l, int64_t n)
{
    uint64_t sum = 0;

    for (int64_t p = l->start; p < n; p++)
        sum = sum * 31 + l->what[p];
    return sum;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

// The first position that a row at `pos` sees.
static int64_t sees_from(const struct world *w, int g, const struct life *l, int64_t pos)
{
    const int64_t window = w->groups[g].window;

    if (w->groups[g].kind != SH_GROUP_WINDOW || pos < window) return l->start;
    return most(pos - window + 1, l->start);
}

static void check_sight(const struct world *w)
{
    for (int g = 0; g < w->n_groups; g++) {
        bool mapped[PAGES] = {false};
        int64_t used, total, n = 0;
        if (w->groups[g].kind == SH_GROUP_STATE) continue;
        for (int32_t s = 0; s < SEQS; s++) {
            const struct life *l = &w->life[s];
            const int64_t from = most(sees_from(w, g, l, l->length), l->held[g]);
            for (int64_t p = from; l->open && p < l->length; p++) {
                const int32_t page = sh_table_page(&w->tables, g, s, p / SH_PAGE);
                if (page < 0) fail_msg("group %d: no page for %d of %d", g, (int)p, (int)s);
                if (w->cell[g][page][p % SH_PAGE] == l->what[p]) continue;
                fail_msg("group %d, sequence %d: position %d was overwritten", g, (int)s, (int)p);
            }
            for (int64_t i = 0; i < INDEX; i++) {
                const int32_t page = sh_table_page(&w->tables, g, s, i);
                if (page < 0) continue;
                if (!l->open) fail_msg("closed sequence %d has page %d", (int)s, (int)page);
                n += !mapped[page];
                mapped[page] = true;
            }
        }
        sh_kv_usage(w->kv, g, &used, &total);
        assert_int_equal(total, PAGES);
        assert_int_equal(used, n); // exactly those that some sequence still maps
    }
}

/* ---- operations ----------------------------------------------------------------------------- */

static void do_open(struct world *w)
{
    const int64_t start = (int64_t)next_random(&w->random, 3) / 2 * SH_PAGE;
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t s;

    if (sh_kv_open(w->kv, start, &s, &err)) {
        assert_string_equal(err.message, "kv: all 5 sequences are in use");
        return;
    }
    assert_false(w->life[s].open);
    w->life[s] = (struct life){.open = true, .start = start, .length = start, .confirmed = start};
    for (int g = 0; g < GROUPS; g++)
        w->life[s].held[g] = start;
}

// Write a run: what a step does after the edits.
static void write_run(struct world *w, int32_t s, int64_t n)
{
    struct life *l = &w->life[s];
    int32_t from, to;

    sh_kv_states(w->kv, s, &from, &to);
    if (w->groups[w->n_groups - 1].kind == SH_GROUP_STATE) {
        const uint64_t have = from < 0 ? 0 : w->state[from];
        if (have != sum_of(l, l->length)) fail_msg("sequence %d reads a wrong state", (int)s);
    } else {
        assert_int_equal(from, -1);
        assert_int_equal(to, -1);
    }
    for (int64_t p = l->length; p < l->length + n; p++) {
        l->what[p] = ++w->stamp;
        for (int g = 0; g < w->n_groups; g++) {
            if (w->groups[g].kind == SH_GROUP_STATE) continue;
            const int32_t page = sh_table_page(&w->tables, g, s, p / SH_PAGE);
            if (page < 0) fail_msg("no page to write position %d", (int)p);
            w->cell[g][page][p % SH_PAGE] = l->what[p];
        }
    }
    l->length += n;
    if (to >= 0) w->state[to] = sum_of(l, l->length);
}

static void do_append(struct world *w, int32_t s)
{
    const int64_t n = 1 + next_random(&w->random, 90);
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_kv_append(w->kv, s, n, &w->edits, &err)) {
        assert_int_equal(err.code, SHOAL_ERR_LIMIT);
        assert_int_equal(w->edits.n, 0);
        assert_int_equal(sh_kv_length(w->kv, s), w->life[s].length);
        return;
    }
    apply_edits(w);
    write_run(w, s, n);
    assert_int_equal(sh_kv_length(w->kv, s), w->life[s].length);
}

static void do_confirm(struct world *w, int32_t s)
{
    struct life *l = &w->life[s];
    const int64_t n =
        l->confirmed + next_random(&w->random, (uint32_t)(l->length - l->confirmed + 1));

    sh_kv_confirm(w->kv, s, n, &w->edits);
    apply_edits(w);
    if (n > l->confirmed) l->confirmed = n;
    for (int g = 0; g < w->n_groups; g++)
        l->held[g] = most(l->held[g], sees_from(w, g, l, l->confirmed));
}

static void do_truncate(struct world *w, int32_t s)
{
    struct life *l = &w->life[s];
    const int64_t n = l->start + next_random(&w->random, (uint32_t)(l->length - l->start + 1));
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_kv_truncate(w->kv, s, n, &w->edits, &err)) {
        assert_int_equal(err.code, SHOAL_ERR_STATE);
        assert_int_equal(w->edits.n, 0);
        return;
    }
    apply_edits(w);
    l->length = n;
    if (l->confirmed > n) l->confirmed = n;
}

static void do_fork(struct world *w, int32_t s)
{
    const struct life *l = &w->life[s];
    const int64_t n = l->start + next_random(&w->random, (uint32_t)(l->confirmed - l->start + 1));
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t t;

    if (sh_kv_fork(w->kv, s, n, &t, &w->edits, &err)) {
        assert_true(err.code == SHOAL_ERR_STATE || err.code == SHOAL_ERR_LIMIT);
        assert_int_equal(w->edits.n, 0);
        assert_int_equal(t, -1);
        return;
    }
    apply_edits(w);
    assert_false(w->life[t].open);
    w->life[t] = *l;
    w->life[t].length = w->life[t].confirmed = n;
}

// Where the first position from `at` on is after a shift.
static int64_t where(int64_t at, int64_t begin, int64_t n)
{
    if (n < 0) return at - n; // all of them moved
    if (at < begin) return at;
    return at >= begin + n ? at - n : begin;
}

static void do_shift(struct world *w, int32_t s)
{
    struct life *l = &w->life[s], old = *l;
    const int64_t begin = next_random(&w->random, INDEX) * SH_PAGE;
    const int64_t n = ((int64_t)next_random(&w->random, 2 * INDEX) - INDEX) * SH_PAGE;
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_kv_shift(w->kv, s, begin, n, &w->edits, &err)) {
        assert_int_equal(w->edits.n, 0);
        return;
    }
    apply_edits(w);
    for (int64_t p = old.start; p < old.length; p++) {
        if (p < begin) continue;
        if (p >= begin + n) l->what[p - n] = old.what[p];
    }
    l->length -= n;
    assert_int_equal(sh_kv_length(w->kv, s), l->length);
    l->start = where(old.start, begin, n);
    l->confirmed = where(old.confirmed, begin, n);
    for (int g = 0; g < w->n_groups; g++)
        l->held[g] = where(old.held[g], begin, n);
}

static void run_world(const struct sh_kv_group *groups, int n_groups, uint32_t seed)
{
    const bool recurrent = groups[n_groups - 1].kind == SH_GROUP_STATE;
    struct world *w = sh_calloc(1, sizeof *w);
    int64_t used, total;

    assert_non_null(w);
    world_open(w, groups, n_groups);
    w->random = seed;
    for (int i = 0; i < OPERATIONS; i++) {
        const int32_t s = (int32_t)next_random(&w->random, SEQS);
        const uint32_t what = next_random(&w->random, 16);
        if (!w->life[s].open || what == 0) {
            do_open(w);
        } else if (what < 7) {
            do_append(w, s);
        } else if (what < 10) {
            do_confirm(w, s);
        } else if (what < 12) {
            do_truncate(w, s);
        } else if (what < 14) {
            do_fork(w, s);
        } else if (what == 14 && !recurrent) {
            do_shift(w, s);
        } else if (what == 15) {
            sh_kv_close(w->kv, s, &w->edits);
            apply_edits(w);
            w->life[s].open = false;
        }
        check_sight(w);
    }
    for (int32_t s = 0; s < SEQS; s++)
        sh_kv_close(w->kv, s, &w->edits);
    for (int g = 0; g < n_groups; g++) {
        sh_kv_usage(w->kv, g, &used, &total);
        assert_int_equal(used, 0);
    }
    world_close(w);
    sh_free(w);
}

static void kv_random__full(void **state)
{
    static const struct sh_kv_group G[] = {{SH_GROUP_FULL, 0}};

    (void)state;
    for (uint32_t seed = 1; seed <= 3; seed++)
        run_world(G, 1, seed);
}

static void kv_random__windows(void **state)
{
    static const struct sh_kv_group G[] = {
        {SH_GROUP_FULL, 0}, {SH_GROUP_WINDOW, 100}, {SH_GROUP_WINDOW, 64}};

    (void)state;
    for (uint32_t seed = 1; seed <= 3; seed++)
        run_world(G, 3, seed);
}

static void kv_random__states(void **state)
{
    static const struct sh_kv_group G[] = {
        {SH_GROUP_FULL, 0}, {SH_GROUP_WINDOW, 65}, {SH_GROUP_STATE, 0}};

    (void)state;
    for (uint32_t seed = 1; seed <= 3; seed++)
        run_world(G, 3, seed);
}

/* ---- one by one ----------------------------------------------------------------------------- */

struct index { /* an index and its edits */
    struct sh_kv_index *kv;
    struct sh_edits e;
};

static const struct sh_kv_group FULL[] = {{SH_GROUP_FULL, 0}};

static struct index make(const struct sh_kv_group *groups, int n, int64_t pages, int64_t states)
{
    struct sh_step_limits l = {.n_seqs = 2, .n_groups = n, .n_positions = POSITIONS};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct index x = {0};

    for (int g = 0; g < n; g++)
        l.pages[g] = groups[g].kind == SH_GROUP_STATE ? states : pages;
    if (sh_kv_index_create(&x.kv, n, groups, &l, &err)) fail_msg("%s", err.message);
    return x;
}

static void done(struct index *x)
{
    sh_kv_index_destroy(x->kv);
    sh_edits_release(&x->e);
}

static int32_t opened(struct index *x)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t s;

    if (sh_kv_open(x->kv, 0, &s, &err)) fail_msg("%s", err.message);
    return s;
}

static void append(struct index *x, int32_t s, int64_t n)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    sh_edits_clear(&x->e);
    if (sh_kv_append(x->kv, s, n, &x->e, &err)) fail_msg("%s", err.message);
}

static void confirm(struct index *x, int32_t s, int64_t n)
{
    sh_edits_clear(&x->e);
    sh_kv_confirm(x->kv, s, n, &x->e);
}

static int64_t used(const struct index *x, int group)
{
    int64_t n, total;

    sh_kv_usage(x->kv, group, &n, &total);
    return n;
}

static void expect(enum shoal_status have, enum shoal_status want, const struct shoal_error *err,
                   const char *message)
{
    assert_int_equal(have, want);
    assert_string_equal(err->message, message);
}

static void kv__limits_are_told(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct index x = make(FULL, 1, 3, 0);
    int32_t s = opened(&x), t = opened(&x), u;

    (void)state;
    expect(sh_kv_open(x.kv, 0, &u, &err), SHOAL_ERR_LIMIT, &err, "kv: all 2 sequences are in use");
    assert_int_equal(u, -1);
    append(&x, s, 65);
    sh_edits_clear(&x.e);
    expect(sh_kv_append(x.kv, t, 65, &x.e, &err), SHOAL_ERR_LIMIT, &err,
           "kv: 2 pages are needed, 1 of 3 are free");
    expect(sh_kv_append(x.kv, s, 320, &x.e, &err), SHOAL_ERR_LIMIT, &err,
           "kv: 320 positions do not fit into the context of 384 (65 in use)");
    expect(sh_kv_append(x.kv, s, 0, &x.e, &err), SHOAL_ERR_ARG, &err, "kv: 0 positions to append");
    assert_int_equal(x.e.n, 0);
    assert_int_equal(used(&x, 0), 2);
    append(&x, t, 64);
    confirm(&x, s, 65);
    sh_kv_close(x.kv, t, &x.e);
    append(&x, s, 1);
    sh_edits_clear(&x.e);
    if (sh_kv_append(x.kv, s, 62, &x.e, &err)) fail_msg("%s", err.message); // fills two pages
    confirm(&x, s, 128);
    t = opened(&x);
    append(&x, t, 1);
    sh_kv_close(x.kv, t, &x.e);
    sh_edits_clear(&x.e);
    expect(sh_kv_open(x.kv, 63, &u, &err), SHOAL_ERR_ARG, &err,
           "kv: a sequence cannot start at position 63");
    expect(sh_kv_open(x.kv, -64, &u, &err), SHOAL_ERR_ARG, &err,
           "kv: a sequence cannot start at position -64");
    expect(sh_kv_open(x.kv, 448, &u, &err), SHOAL_ERR_ARG, &err,
           "kv: a sequence cannot start at position 448");
    expect(sh_kv_truncate(x.kv, s, 129, &x.e, &err), SHOAL_ERR_ARG, &err,
           "kv: a sequence of 128 cannot be cut to 129");
    expect(sh_kv_fork(x.kv, s, 129, &u, &x.e, &err), SHOAL_ERR_STATE, &err,
           "kv: 129 positions are asked for, 128 are confirmed");
    done(&x);
}

static void kv__a_copy_needs_a_page(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct index x = make(FULL, 1, 2, 0);
    int32_t s = opened(&x), t;

    (void)state;
    append(&x, s, 70);
    confirm(&x, s, 70);
    expect(sh_kv_fork(x.kv, s, 70, &t, &x.e, &err), SHOAL_ERR_LIMIT, &err,
           "kv: no page is free for a copy");
    if (sh_kv_fork(x.kv, s, 64, &t, &x.e, &err)) fail_msg("%s", err.message);
    sh_edits_clear(&x.e);
    expect(sh_kv_shift(x.kv, t, 0, -64, &x.e, &err), SHOAL_ERR_LIMIT, &err,
           "kv: 1 shared pages must be copied, 0 free");
    // Writing into the shared page needs a copy as well.
    if (sh_kv_truncate(x.kv, t, 60, &x.e, &err)) fail_msg("%s", err.message);
    expect(sh_kv_append(x.kv, t, 1, &x.e, &err), SHOAL_ERR_LIMIT, &err,
           "kv: 1 pages are needed, 0 of 2 are free");
    assert_int_equal(x.e.n, 0);
    done(&x);
}

static void kv__shift_refuses_what_makes_no_sense(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct index x = make(FULL, 1, 6, 0);
    const int32_t s = opened(&x);
    static const struct {
        int64_t begin, n;
    } BAD[] = {{1, 64},    {0, 65},    {-64, 64}, {192, 64},      {64, 192},
               {0, -256},  {0, -320},  {256, 64}, {0, INT64_MIN}, {0, INT64_MAX - 63},
               {128, 128}, {192, -64}, {0, 192}};

    (void)state;
    append(&x, s, 130);
    sh_edits_clear(&x.e);
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        if (sh_kv_shift(x.kv, s, BAD[i].begin, BAD[i].n, &x.e, &err) == SHOAL_ERR_ARG) continue;
        fail_msg("from %lld by %lld was not refused", (long long)BAD[i].begin, (long long)BAD[i].n);
    }
    expect(sh_kv_shift(x.kv, s, 64, -64, &x.e, &err), SHOAL_ERR_ARG, &err,
           "kv: positions from 64 cannot move up alone: the sequence starts at 0");
    assert_int_equal(x.e.n, 0);
    assert_int_equal(sh_kv_length(x.kv, s), 130);
    if (sh_kv_shift(x.kv, s, 64, 0, &x.e, &err)) fail_msg("%s", err.message);
    assert_int_equal(x.e.n, 0);
    done(&x);
}

static void kv__windows_give_up_confirmed_pages(void **state)
{
    static const struct sh_kv_group G[] = {{SH_GROUP_WINDOW, 64}};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct index x = make(G, 1, 6, 0);
    int32_t s = opened(&x), t;

    (void)state;
    append(&x, s, 200);
    assert_int_equal(used(&x, 0), 4);
    confirm(&x, s, 126); // a row at 126 sees 63
    assert_int_equal(x.e.n, 0);
    confirm(&x, s, 127); // a row at 127 sees 64
    assert_int_equal(x.e.n, 1);
    assert_int_equal(x.e.edit[0].kind, SH_PRELUDE_MAP);
    assert_int_equal(x.e.edit[0].index, 0);
    assert_int_equal(x.e.edit[0].page, -1);
    assert_int_equal(used(&x, 0), 3);
    // At the border of what is held.
    if (sh_kv_fork(x.kv, s, 127, &t, &x.e, &err)) fail_msg("%s", err.message);
    sh_edits_clear(&x.e);
    sh_kv_close(x.kv, t, &x.e);
    sh_edits_clear(&x.e);
    expect(sh_kv_fork(x.kv, s, 126, &t, &x.e, &err), SHOAL_ERR_STATE, &err,
           "kv: the window before position 126 is gone");
    expect(sh_kv_truncate(x.kv, s, 126, &x.e, &err), SHOAL_ERR_STATE, &err,
           "kv: the window before position 126 is gone");
    assert_int_equal(sh_kv_length(x.kv, s), 200);
    if (sh_kv_truncate(x.kv, s, 127, &x.e, &err)) fail_msg("%s", err.message);
    assert_int_equal(used(&x, 0), 1);
    done(&x);
}

// A shift keeps what is held, and rows see less than their window for a while.
static void kv__a_shifted_window_goes_on(void **state)
{
    static const struct sh_kv_group G[] = {{SH_GROUP_WINDOW, 64}};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct index x = make(G, 1, 6, 0);
    int32_t s = opened(&x), t;

    (void)state;
    append(&x, s, 200);
    confirm(&x, s, 200); // from 137 on: pages 2 and 3 stay
    assert_int_equal(used(&x, 0), 2);
    if (sh_kv_shift(x.kv, s, 128, 64, &x.e, &err)) fail_msg("%s", err.message);
    assert_int_equal(used(&x, 0), 1);
    append(&x, s, 10);
    if (sh_kv_truncate(x.kv, s, 136, &x.e, &err)) fail_msg("%s", err.message);
    if (sh_kv_fork(x.kv, s, 136, &t, &x.e, &err)) fail_msg("%s", err.message);
    expect(sh_kv_truncate(x.kv, s, 135, &x.e, &err), SHOAL_ERR_STATE, &err,
           "kv: the window before position 135 is gone");
    done(&x);
}

static void expect_confirmed(struct index *x, int32_t s, int64_t n)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    char message[96];
    int32_t t;

    snprintf(message, sizeof message, "kv: %d positions are asked for, %d are confirmed",
             (int)n + 1, (int)n);
    expect(sh_kv_fork(x->kv, s, n + 1, &t, &x->e, &err), SHOAL_ERR_STATE, &err, message);
}

static void kv__confirmed_follows_every_change(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct index x = make(FULL, 1, 6, 0);
    const int32_t s = opened(&x);

    (void)state;
    append(&x, s, 200);
    expect_confirmed(&x, s, 0);
    confirm(&x, s, 100);
    expect_confirmed(&x, s, 100);
    confirm(&x, s, 90);
    expect_confirmed(&x, s, 100);
    if (sh_kv_shift(x.kv, s, 0, 64, &x.e, &err)) fail_msg("%s", err.message);
    expect_confirmed(&x, s, 36);
    confirm(&x, s, 500); // no more than there is
    append(&x, s, 10);
    expect_confirmed(&x, s, 136);
    if (sh_kv_truncate(x.kv, s, 50, &x.e, &err)) fail_msg("%s", err.message);
    append(&x, s, 10);
    expect_confirmed(&x, s, 50);
    if (sh_kv_shift(x.kv, s, 0, -128, &x.e, &err)) fail_msg("%s", err.message);
    expect_confirmed(&x, s, 178);
    done(&x);
}

static void kv__states_are_kept_until_confirmed(void **state)
{
    static const struct sh_kv_group G[] = {{SH_GROUP_FULL, 0}, {SH_GROUP_STATE, 0}};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct index x = make(G, 2, 6, 20);
    const int32_t s = opened(&x);
    int32_t read, write, before;

    (void)state;
    append(&x, s, 5);
    sh_kv_states(x.kv, s, &read, &write);
    assert_int_equal(read, -1);
    for (int i = 0; i < 6; i++) {
        before = write;
        append(&x, s, 5);
        sh_kv_states(x.kv, s, &read, &write);
        assert_int_equal(read, before);
        assert_int_not_equal(read, write);
    }
    assert_int_equal(used(&x, 1), 7);
    sh_edits_clear(&x.e);
    expect(sh_kv_append(x.kv, s, 5, &x.e, &err), SHOAL_ERR_LIMIT, &err,
           "kv: 7 runs are unconfirmed, at most 7 can be");
    confirm(&x, s, 14); // the state at 10 stays
    assert_int_equal(used(&x, 1), 6);
    confirm(&x, s, 17); // the state at 15 stays
    assert_int_equal(used(&x, 1), 5);
    expect(sh_kv_truncate(x.kv, s, 17, &x.e, &err), SHOAL_ERR_STATE, &err,
           "kv: no recurrent state was kept at position 17");
    expect(sh_kv_truncate(x.kv, s, 10, &x.e, &err), SHOAL_ERR_STATE, &err,
           "kv: no recurrent state was kept at position 10");
    if (sh_kv_truncate(x.kv, s, 20, &x.e, &err)) fail_msg("%s", err.message);
    assert_int_equal(used(&x, 1), 2);
    if (sh_kv_truncate(x.kv, s, 15, &x.e, &err)) fail_msg("%s", err.message);
    assert_int_equal(sh_kv_length(x.kv, s), 15);
    expect(sh_kv_shift(x.kv, s, 0, 0, &x.e, &err), SHOAL_ERR_UNSUPPORTED, &err,
           "kv: a recurrent model cannot shift");
    sh_kv_close(x.kv, s, &x.e);
    assert_int_equal(used(&x, 1), 0);
    done(&x);
}

static void kv__states_run_out(void **state)
{
    static const struct sh_kv_group G[] = {{SH_GROUP_STATE, 0}};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct index x = make(G, 1, 0, 2);
    const int32_t s = opened(&x);

    (void)state;
    append(&x, s, 1);
    append(&x, s, 1);
    expect(sh_kv_append(x.kv, s, 1, &x.e, &err), SHOAL_ERR_LIMIT, &err,
           "kv: 1 states are needed, 0 of 2 are free");
    confirm(&x, s, 2);
    append(&x, s, 1);
    done(&x);
}

// Reused pages ascend like fresh ones.
static void kv__pages_of_a_sequence_ascend(void **state)
{
    struct index x = make(FULL, 1, 6, 0);
    int32_t s = opened(&x), t = opened(&x);
    int32_t last = -1;

    (void)state;
    append(&x, s, 64);
    append(&x, t, 64);
    append(&x, s, 192);
    sh_kv_close(x.kv, s, &x.e);
    s = opened(&x);
    append(&x, s, 320);
    for (int32_t i = 0; i < x.e.n; i++) {
        if (x.e.edit[i].kind != SH_PRELUDE_MAP) continue;
        if (x.e.edit[i].page <= last)
            fail_msg("page %d after %d", (int)x.e.edit[i].page, (int)last);
        last = x.e.edit[i].page;
    }
    assert_int_equal(last, 5);
    done(&x);
}

// Changes with many edits; writing behind the reserved ones would be noticed.
static void kv__edits_are_reserved_in_full(void **state)
{
    static const struct sh_kv_group G[] = {
        {SH_GROUP_FULL, 0}, {SH_GROUP_FULL, 0}, {SH_GROUP_FULL, 0}, {SH_GROUP_FULL, 0}};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct index x = make(G, 4, 12, 0);
    const int32_t s = opened(&x);
    int32_t t;

    (void)state;
    append(&x, s, POSITIONS);
    assert_int_equal(x.e.n, 4 * INDEX);
    confirm(&x, s, POSITIONS);
    sh_edits_release(&x.e);
    if (sh_kv_fork(x.kv, s, POSITIONS, &t, &x.e, &err)) fail_msg("%s", err.message);
    assert_int_equal(x.e.n, 1);
    sh_edits_release(&x.e);
    if (sh_kv_shift(x.kv, t, 0, 64, &x.e, &err)) fail_msg("%s", err.message);
    assert_int_equal(x.e.n, 4 * 2 * (INDEX - 1) + 2);
    sh_edits_release(&x.e);
    if (sh_kv_truncate(x.kv, t, 0, &x.e, &err)) fail_msg("%s", err.message);
    assert_int_equal(x.e.n, 4 * (INDEX - 1));
    done(&x);
}

/* ---- no memory ------------------------------------------------------------------------------ */

// The call that makes edits, without room for one.
#define WITHOUT_MEMORY(x, call)                                                                    \
    do {                                                                                           \
        struct shoal_error err_ = SHOAL_ERROR_INIT;                                                \
        struct shoal_error *err = &err_;                                                           \
        const int64_t used_ = used(&(x), 0);                                                       \
        sh_edits_release(&(x).e);                                                                  \
        sh_mem_fail_after(0);                                                                      \
        assert_int_equal(call, SHOAL_ERR_NOMEM);                                                   \
        sh_mem_fail_after(-1);                                                                     \
        assert_string_equal(err->message, "kv: no memory for edits");                              \
        assert_int_equal((x).e.n, 0);                                                              \
        assert_int_equal(used(&(x), 0), used_);                                                    \
    } while (0)

static void kv__no_memory_changes_nothing(void **state)
{
    struct index x = make(FULL, 1, 6, 0);
    int32_t s = opened(&x), t;

    (void)state;
    WITHOUT_MEMORY(x, sh_kv_append(x.kv, s, 100, &x.e, err));
    assert_int_equal(sh_kv_length(x.kv, s), 0);
    append(&x, s, 100);
    confirm(&x, s, 100);
    WITHOUT_MEMORY(x, sh_kv_fork(x.kv, s, 100, &t, &x.e, err));
    assert_int_equal(t, -1);
    WITHOUT_MEMORY(x, sh_kv_shift(x.kv, s, 0, 64, &x.e, err));
    WITHOUT_MEMORY(x, sh_kv_truncate(x.kv, s, 10, &x.e, err));
    assert_int_equal(sh_kv_length(x.kv, s), 100);
    t = opened(&x); // the failed fork left none open
    done(&x);
}

// Closing cannot fail: what it could not say is said before the number's next page.
static void kv__close_without_memory_is_made_up_for(void **state)
{
    struct index x = make(FULL, 1, 6, 0);
    int32_t s = opened(&x);

    (void)state;
    append(&x, s, 100);
    sh_edits_release(&x.e);
    sh_mem_fail_after(0);
    sh_kv_close(x.kv, s, &x.e);
    sh_mem_fail_after(-1);
    assert_int_equal(x.e.n, 0);
    assert_int_equal(used(&x, 0), 0);
    assert_int_equal(opened(&x), s);
    append(&x, s, 1);
    assert_int_equal(x.e.n, 2);
    assert_int_equal(x.e.edit[0].kind, SH_PRELUDE_DROP);
    assert_int_equal(x.e.edit[0].seq, s);
    assert_int_equal(x.e.edit[0].end, POSITIONS);
    append(&x, s, 1);
    assert_int_equal(x.e.n, 0);
    done(&x);
}

static void kv__create_without_memory_leaves_nothing(void **state)
{
    static const struct sh_kv_group G[] = {
        {SH_GROUP_FULL, 0}, {SH_GROUP_WINDOW, 64}, {SH_GROUP_STATE, 0}};
    const struct sh_step_limits l = {
        .n_seqs = 3, .n_groups = 3, .n_positions = 100, .pages = {4, 4, 4}};
    const size_t live = sh_mem_live_bytes();
    bool done = false;
    int failures = 0;

    (void)state;
    for (int n = 0; !done; n++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_kv_index *kv;
        sh_mem_fail_after(n);
        const enum shoal_status st = sh_kv_index_create(&kv, 3, G, &l, &err);
        done = sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        if (st) assert_int_equal(st, SHOAL_ERR_NOMEM);
        if (st) assert_null(kv);
        failures += st != SHOAL_OK;
        sh_kv_index_destroy(kv);
        assert_int_equal(sh_mem_live_bytes(), live);
    }
    assert_int_equal(failures, 11); // blocks of an index of this size
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kv_random__full),
        cmocka_unit_test(kv_random__windows),
        cmocka_unit_test(kv_random__states),
        cmocka_unit_test(kv__limits_are_told),
        cmocka_unit_test(kv__a_copy_needs_a_page),
        cmocka_unit_test(kv__shift_refuses_what_makes_no_sense),
        cmocka_unit_test(kv__windows_give_up_confirmed_pages),
        cmocka_unit_test(kv__a_shifted_window_goes_on),
        cmocka_unit_test(kv__confirmed_follows_every_change),
        cmocka_unit_test(kv__states_are_kept_until_confirmed),
        cmocka_unit_test(kv__states_run_out),
        cmocka_unit_test(kv__pages_of_a_sequence_ascend),
        cmocka_unit_test(kv__edits_are_reserved_in_full),
        cmocka_unit_test(kv__no_memory_changes_nothing),
        cmocka_unit_test(kv__close_without_memory_is_made_up_for),
        cmocka_unit_test(kv__create_without_memory_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
