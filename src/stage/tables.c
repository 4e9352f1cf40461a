/* stage/tables.c - see tables.h. */
#include "stage/tables.h"

#include "base/mem.h"

enum shoal_status sh_tables_init(struct sh_tables *t, const struct sh_step_limits *limits,
                                 struct shoal_error *err)
{
    *t = (struct sh_tables){.n_groups = limits->n_groups,
                            .n_index = (limits->n_positions + SH_PAGE - 1) / SH_PAGE,
                            .n_seqs = limits->n_seqs};
    for (int g = 0; g < t->n_groups; g++) {
        size_t n;
        if (!sh_mul_ok((size_t)t->n_index, (size_t)t->n_seqs, &n) ||
            !(t->group[g].page = sh_calloc(n, sizeof(int32_t)))) {
            const long long n_index = (long long)t->n_index;
            sh_tables_release(t);
            return sh_fail(err, SHOAL_ERR_NOMEM,
                           "stage: no memory for tables of %d sequences of %lld pages",
                           (int)limits->n_seqs, n_index);
        }
    }
    sh_tables_clear(t);
    return SHOAL_OK;
}

void sh_tables_release(struct sh_tables *t)
{
    for (int g = 0; g < SH_GROUPS_MAX; g++)
        sh_free(t->group[g].page);
    *t = (struct sh_tables){0};
}

void sh_tables_all_dirty(struct sh_tables *t)
{
    for (int g = 0; g < t->n_groups; g++) {
        t->group[g].dirty0 = 0;
        t->group[g].dirty1 = t->n_index * t->n_seqs;
    }
}

void sh_tables_clear(struct sh_tables *t)
{
    for (int g = 0; g < t->n_groups; g++)
        for (int64_t i = 0; i < t->n_index * t->n_seqs; i++)
            t->group[g].page[i] = -1;
    sh_tables_all_dirty(t);
}

static void set(struct sh_tables *t, int group, int32_t seq, int64_t index, int32_t page)
{
    struct sh_table *tb = &t->group[group];
    const int64_t at = (int64_t)seq * t->n_index + index;

    if (tb->page[at] == page) return;
    tb->page[at] = page;
    if (tb->dirty0 >= tb->dirty1) {
        tb->dirty0 = at;
        tb->dirty1 = at + 1;
        return;
    }
    if (at < tb->dirty0) tb->dirty0 = at;
    if (at >= tb->dirty1) tb->dirty1 = at + 1;
}

// Move the entries from begin on by delta; what they leave behind is unmapped.
static int64_t shift(struct sh_tables *t, int group, const struct sh_prelude *e, int32_t *moved)
{
    const int64_t from = e->begin / SH_PAGE, by = e->delta / SH_PAGE;
    int64_t n = 0, last = t->n_index - 1;

    while (last >= from && sh_table_page(t, group, e->seq, last) < 0)
        last--;
    for (int64_t k = 0; k <= last - from; k++) {
        const int64_t i = by < 0 ? from + k : last - k;
        const int32_t page = sh_table_page(t, group, e->seq, i);
        set(t, group, e->seq, i, -1);
        if (i + by < t->n_index) set(t, group, e->seq, i + by, page);
        if (page >= 0) moved[n++] = page;
    }
    return n;
}

int64_t sh_tables_apply(struct sh_tables *t, const struct sh_prelude *e, int group, int32_t *moved)
{
    switch (e->kind) {
    case SH_PRELUDE_MAP:
        if (e->group == group) set(t, group, e->seq, e->index, e->page);
        return 0;
    case SH_PRELUDE_FORK:
        for (int64_t i = 0; i < e->end / SH_PAGE; i++)
            set(t, group, e->seq, i, sh_table_page(t, group, e->from, i));
        return 0;
    case SH_PRELUDE_DROP:
        for (int64_t i = (e->begin + SH_PAGE - 1) / SH_PAGE; (i + 1) * SH_PAGE <= e->end; i++)
            set(t, group, e->seq, i, -1);
        return 0;
    case SH_PRELUDE_SHIFT:
        return shift(t, group, e, moved);
    case SH_PRELUDE_COPY:
        return 0;
    }
    return 0;
}
