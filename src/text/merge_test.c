/* Merging: short and long words against the obvious loop, on random tables. */
#include "text/merge_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "base/mem.h"
#include "text/tiny_test.h"

#define N_SYMS 24
#define N_MAX 400

/* rank[a][b] and symbol of each pair; rank 0 is "never". */
struct table {
    uint32_t rank[N_SYMS][N_SYMS], sym[N_SYMS][N_SYMS];
};

static bool rule(const void *tables, const char *word, const struct sh_merge_part *a,
                 const struct sh_merge_part *b, uint32_t *rank, uint32_t *sym)
{
    const struct table *t = tables;

    (void)word;
    if (t->rank[a->sym][b->sym] == 0) return false;
    *rank = t->rank[a->sym][b->sym];
    *sym = t->sym[a->sym][b->sym];
    return true;
}

/* The definition: scan everything, merge the best, again. */
static size_t merge_slowly(struct sh_merge_part *p, size_t n, const struct table *t)
{
    for (;;) {
        size_t best = n;
        for (size_t i = 0; i + 1 < n; i++) {
            const uint32_t rank = t->rank[p[i].sym][p[i + 1].sym];
            if (rank && (best == n || rank < t->rank[p[best].sym][p[best + 1].sym])) best = i;
        }
        if (best == n) return n;
        p[best].sym = t->sym[p[best].sym][p[best + 1].sym];
        p[best].len += p[best + 1].len;
        memmove(&p[best + 1], &p[best + 2], (n - best - 2) * sizeof *p);
        n--;
    }
}

static void one_word(struct sh_merger *m, const struct table *t, size_t n, uint64_t *seed)
{
    struct sh_merge_part want[N_MAX];
    size_t n_want;

    assert_int_equal(sh_merger_start(m, n), SHOAL_OK);
    for (size_t i = 0; i < n; i++)
        want[i] = m->parts[i] =
            (struct sh_merge_part){.sym = tiny_random(seed, 4), .begin = (uint32_t)i, .len = 1};
    m->n_parts = n;
    n_want = merge_slowly(want, n, t);
    assert_int_equal(sh_merger_run(m, "", rule, t), SHOAL_OK);
    assert_int_equal(m->n_parts, n_want);
    if (n_want) assert_memory_equal(m->parts, want, n_want * sizeof *want);
}

static void merge__equals_the_obvious_loop(void **state)
{
    struct sh_merger m = SH_MERGER_INIT;
    uint64_t seed = 7;
    size_t merged = 0;

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct table t = {.rank = {{0}}};
        const uint32_t density = 1 + tiny_random(&seed, 9);
        for (int a = 0; a < N_SYMS; a++)
            for (int b = 0; b < N_SYMS; b++) {
                if (tiny_random(&seed, 10) >= density) continue;
                t.rank[a][b] = 1 + tiny_random(&seed, 40); // few ranks: many ties
                t.sym[a][b] = tiny_random(&seed, N_SYMS);
            }
        for (size_t n = 0; n <= 40; n++)
            one_word(&m, &t, n, &seed);
        const size_t n = 41 + tiny_random(&seed, N_MAX - 41);
        one_word(&m, &t, n, &seed);
        merged += n - m.n_parts;
    }
    assert_true(merged > 10000); // the tables did merge
    sh_merger_release(&m);
}

static void merge__long_words_survive_lack_of_memory(void **state)
{
    struct table t = {.rank = {{0}}};
    uint64_t seed = 9;
    int n_failures = 0;

    (void)state;
    for (int a = 0; a < N_SYMS; a++)
        for (int b = 0; b < N_SYMS; b++)
            t.rank[a][b] = 1 + (uint32_t)(a * b % 5);
    for (int64_t k = 0; k < 50; k++) {
        struct sh_merger m = SH_MERGER_INIT;
        enum shoal_status st;
        sh_mem_fail_after(k);
        st = sh_merger_start(&m, 300);
        for (size_t i = 0; !st && i < 300; i++)
            m.parts[i] = (struct sh_merge_part){tiny_random(&seed, 4), (uint32_t)i, 1};
        if (!st) {
            m.n_parts = 300;
            st = sh_merger_run(&m, "", rule, &t);
        }
        sh_mem_fail_after(-1);
        sh_merger_release(&m);
        if (!st) break;
        assert_int_equal(st, SHOAL_ERR_NOMEM);
        n_failures++;
    }
    assert_in_range(n_failures, 3, 49);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merge__equals_the_obvious_loop),
        cmocka_unit_test(merge__long_words_survive_lack_of_memory),
    };
    return cmocka_run_group_tests_name("merge", tests, NULL, NULL);
}
