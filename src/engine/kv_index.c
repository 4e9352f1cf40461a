/* engine/kv_index.c - see kv_index.h.
 *
 * Per paged group: a reference count per page.  A sequence gets the lowest free page behind its
 * previous one where there is one, so that its cells ascend; per sequence and group: the page of
 * each 64 positions.
 * Per recurrent group: states are counted the same way; a sequence keeps the state of its last
 * confirmed position and those that runs since then write.
 */
#include "engine/kv_index.h"

#include "base/error.h"
#include "base/mem.h"

enum { STATES_KEPT = 8 }; /* states of a sequence in flight: one per step since the confirmed one */

struct state_at {
    int32_t state;  /* number, -1 = zeros */
    int64_t length; /* positions it has seen */
};

struct seq {
    bool open;
    bool stale; /* closed without an edit: the stages' tables may still map its old pages */
    int64_t start, length, confirmed;
    int32_t *page[SH_GROUPS_MAX];        /* [n_index], -1 = none */
    struct state_at states[STATES_KEPT]; /* oldest first */
    int n_states;
    int32_t read, write; /* of the newest run */
};

struct pool {
    enum sh_group_kind kind;
    int64_t window, n_pages;
    int32_t *refs; /* [n_pages], 0 = free */
    int64_t n_free;
};

struct sh_kv_index {
    int n_groups;
    struct pool pool[SH_GROUPS_MAX];
    int state_group; /* -1: none */
    int64_t n_index, n_positions;
    int32_t n_seqs;
    struct seq *seq;
};

void sh_edits_clear(struct sh_edits *e)
{
    e->n = 0;
}

void sh_edits_release(struct sh_edits *e)
{
    sh_free(e->edit);
    *e = (struct sh_edits)SH_EDITS_INIT;
}

// Room for n more edits, asked for before anything changes.
static bool edits_reserve(struct sh_edits *e, int64_t n)
{
    struct sh_prelude *p;
    int64_t cap = e->cap ? e->cap : 16;

    if (n > INT32_MAX / 2 - e->n) return false;
    while (cap < e->n + n)
        cap *= 2;
    if (cap == e->cap) return true;
    p = sh_realloc_array(e->edit, (size_t)cap, sizeof *p);
    if (!p) return false;
    e->edit = p;
    e->cap = (int32_t)cap;
    return true;
}

static void edit(struct sh_edits *e, struct sh_prelude p)
{
    if (!e) return;
    SH_ASSERT(e->n < e->cap); // reserved by the caller
    e->edit[e->n++] = p;
}

/* ---- pools ---------------------------------------------------------------------------------- */

// The lowest free page behind `after`, else the lowest of all; there is one.
static int32_t take(struct pool *p, int32_t after)
{
    int64_t i = after + 1;

    while (i < p->n_pages && p->refs[i] > 0)
        i++;
    if (i >= p->n_pages) {
        for (i = 0; p->refs[i] > 0;)
            i++;
    }
    p->refs[i] = 1;
    p->n_free--;
    return (int32_t)i;
}

static void drop(struct pool *p, int32_t page)
{
    if (page >= 0 && --p->refs[page] == 0) p->n_free++;
}

static enum shoal_status init_pool(struct pool *p, const struct sh_kv_group *g, int64_t n_pages,
                                   struct shoal_error *err)
{
    *p = (struct pool){.kind = g->kind, .window = g->window, .n_pages = n_pages, .n_free = n_pages};
    if (n_pages < 0 || n_pages > INT32_MAX)
        return sh_fail(err, SHOAL_ERR_ARG, "kv: %lld pages in a group", (long long)n_pages);
    p->refs = sh_calloc((size_t)n_pages, sizeof *p->refs);
    if (p->refs) return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_NOMEM, "kv: no memory to index %lld pages", (long long)n_pages);
}

static bool paged(const struct pool *p)
{
    return p->kind != SH_GROUP_STATE;
}

/* ---- making --------------------------------------------------------------------------------- */

enum shoal_status sh_kv_index_create(struct sh_kv_index **out, int n_groups,
                                     const struct sh_kv_group *groups,
                                     const struct sh_step_limits *limits, struct shoal_error *err)
{
    struct sh_kv_index *x;
    enum shoal_status st = SHOAL_OK;

    *out = NULL;
    x = sh_calloc(1, sizeof *x);
    if (!x) return sh_fail(err, SHOAL_ERR_NOMEM, "kv: no memory for an index");
    x->n_groups = n_groups;
    x->state_group = -1;
    x->n_positions = limits->n_positions;
    x->n_index = (limits->n_positions + SH_PAGE - 1) / SH_PAGE;
    x->n_seqs = limits->n_seqs;
    for (int g = 0; g < n_groups && !st; g++) {
        if (groups[g].kind == SH_GROUP_STATE) x->state_group = g;
        st = init_pool(&x->pool[g], &groups[g], limits->pages[g], err);
    }
    if (!st && !(x->seq = sh_calloc((size_t)x->n_seqs, sizeof *x->seq)))
        st = sh_fail(err, SHOAL_ERR_NOMEM, "kv: no memory for %d sequences", (int)x->n_seqs);
    for (int32_t s = 0; s < x->n_seqs && !st; s++) {
        for (int g = 0; g < n_groups && !st; g++) {
            if (!paged(&x->pool[g])) continue;
            x->seq[s].page[g] = sh_calloc((size_t)x->n_index, sizeof(int32_t));
            if (!x->seq[s].page[g]) {
                st = sh_fail(err, SHOAL_ERR_NOMEM, "kv: no memory for a table of %lld pages",
                             (long long)x->n_index);
            }
        }
    }
    if (st) {
        sh_kv_index_destroy(x);
        return st;
    }
    *out = x;
    return SHOAL_OK;
}

void sh_kv_index_destroy(struct sh_kv_index *x)
{
    if (!x) return;
    for (int g = 0; g < x->n_groups; g++) {
        sh_free(x->pool[g].refs);
        for (int32_t s = 0; s < x->n_seqs && x->seq; s++)
            sh_free(x->seq[s].page[g]);
    }
    sh_free(x->seq);
    sh_free(x);
}

/* ---- sequences ------------------------------------------------------------------------------ */

static int32_t find_closed(const struct sh_kv_index *x)
{
    for (int32_t s = 0; s < x->n_seqs; s++)
        if (!x->seq[s].open) return s;
    return -1;
}

enum shoal_status sh_kv_open(struct sh_kv_index *x, int64_t start, int32_t *seq,
                             struct shoal_error *err)
{
    struct seq *q;

    *seq = -1;
    if (start < 0 || start % SH_PAGE || start > x->n_positions) {
        return sh_fail(err, SHOAL_ERR_ARG, "kv: a sequence cannot start at position %lld",
                       (long long)start);
    }
    const int32_t s = find_closed(x);
    if (s < 0)
        return sh_fail(err, SHOAL_ERR_LIMIT, "kv: all %d sequences are in use", (int)x->n_seqs);
    q = &x->seq[s];
    for (int g = 0; g < x->n_groups; g++)
        for (int64_t i = 0; i < x->n_index && q->page[g]; i++)
            q->page[g][i] = -1;
    q->open = true;
    q->start = q->length = q->confirmed = start;
    q->states[0] = (struct state_at){.state = -1, .length = start};
    q->n_states = 1;
    q->read = q->write = -1;
    *seq = s;
    return SHOAL_OK;
}

static void unmap(struct sh_kv_index *x, int32_t seq, int g, int64_t index, struct sh_edits *e)
{
    struct seq *q = &x->seq[seq];

    if (q->page[g][index] < 0) return;
    drop(&x->pool[g], q->page[g][index]);
    q->page[g][index] = -1;
    edit(e,
         (struct sh_prelude){
             .kind = SH_PRELUDE_MAP, .seq = seq, .group = g, .index = (int32_t)index, .page = -1});
}

static void drop_state(struct sh_kv_index *x, int32_t state)
{
    if (x->state_group >= 0) drop(&x->pool[x->state_group], state);
}

// Whatever the stages' tables map of a sequence number's earlier life goes; there is room.
static void forget_old(struct sh_kv_index *x, int32_t seq, struct sh_edits *e)
{
    if (!x->seq[seq].stale) return;
    x->seq[seq].stale = false;
    edit(e, (struct sh_prelude){
                .kind = SH_PRELUDE_DROP, .seq = seq, .begin = 0, .end = x->n_index * SH_PAGE});
}

void sh_kv_close(struct sh_kv_index *x, int32_t seq, struct sh_edits *e)
{
    struct seq *q = &x->seq[seq];

    if (!q->open) return;
    // One edit says it all; the pages go back by hand.
    for (int g = 0; g < x->n_groups; g++)
        for (int64_t i = 0; i < x->n_index && q->page[g]; i++)
            unmap(x, seq, g, i, NULL);
    for (int i = 0; i < q->n_states; i++)
        drop_state(x, q->states[i].state);
    q->open = false;
    q->stale = true;
    if (edits_reserve(e, 1)) forget_old(x, seq, e);
}

int64_t sh_kv_length(const struct sh_kv_index *x, int32_t seq)
{
    return x->seq[seq].length;
}

/* ---- growing -------------------------------------------------------------------------------- */

struct need {            /* of one append, per group */
    int64_t first, last; /* index range that must be mapped and private */
    int64_t pages;       /* fresh ones */
};

static struct need pages_needed(const struct sh_kv_index *x, const struct seq *q, int g, int64_t n)
{
    struct need d = {.first = q->length / SH_PAGE, .last = (q->length + n - 1) / SH_PAGE};

    for (int64_t i = d.first; i <= d.last; i++) {
        const int32_t page = q->page[g][i];
        d.pages += page < 0 || x->pool[g].refs[page] > 1;
    }
    return d;
}

static enum shoal_status check_room(const struct sh_kv_index *x, const struct seq *q, int64_t n,
                                    int64_t *n_edits, struct shoal_error *err)
{
    *n_edits = 0;
    if (n > x->n_positions - q->length) {
        return sh_fail(err, SHOAL_ERR_LIMIT,
                       "kv: %lld positions do not fit into the context of %lld (%lld in use)",
                       (long long)n, (long long)x->n_positions, (long long)q->length);
    }
    for (int g = 0; g < x->n_groups; g++) {
        const int64_t need = paged(&x->pool[g]) ? pages_needed(x, q, g, n).pages : 1;
        *n_edits += 2 * need;
        if (need > x->pool[g].n_free) {
            return sh_fail(err, SHOAL_ERR_LIMIT, "kv: %lld %s are needed, %lld of %lld are free",
                           (long long)need, paged(&x->pool[g]) ? "pages" : "states",
                           (long long)x->pool[g].n_free, (long long)x->pool[g].n_pages);
        }
    }
    if (x->state_group >= 0 && q->n_states == STATES_KEPT) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "kv: %d runs are unconfirmed, at most %d can be",
                       q->n_states - 1, STATES_KEPT - 1);
    }
    return SHOAL_OK;
}

// The page before `index`, behind which the next one is looked for.
static int32_t page_before(const struct seq *q, int g, int64_t index)
{
    return index > 0 ? q->page[g][index - 1] : -1;
}

// A private page at `index`: fresh, or a copy of the shared one's cells.
static void own_page(struct sh_kv_index *x, int32_t seq, int g, int64_t index, struct sh_edits *e)
{
    struct seq *q = &x->seq[seq];
    const int32_t old = q->page[g][index];

    if (old >= 0 && x->pool[g].refs[old] == 1) return;
    const int32_t page = take(&x->pool[g], page_before(q, g, index));
    q->page[g][index] = page;
    edit(
        e,
        (struct sh_prelude){
            .kind = SH_PRELUDE_MAP, .seq = seq, .group = g, .index = (int32_t)index, .page = page});
    if (old < 0) return;
    edit(e, (struct sh_prelude){.kind = SH_PRELUDE_COPY,
                                .group = g,
                                .page = page,
                                .page_from = old,
                                .begin = 0,
                                .end = SH_PAGE});
    drop(&x->pool[g], old);
}

enum shoal_status sh_kv_append(struct sh_kv_index *x, int32_t seq, int64_t n, struct sh_edits *e,
                               struct shoal_error *err)
{
    struct seq *q = &x->seq[seq];
    enum shoal_status st;
    int64_t n_edits;

    if (n <= 0) return sh_fail(err, SHOAL_ERR_ARG, "kv: %lld positions to append", (long long)n);
    st = check_room(x, q, n, &n_edits, err);
    if (st) return st;
    if (!edits_reserve(e, n_edits + 1))
        return sh_fail(err, SHOAL_ERR_NOMEM, "kv: no memory for edits");
    forget_old(x, seq, e);
    for (int g = 0; g < x->n_groups; g++) {
        if (!paged(&x->pool[g])) continue;
        const struct need d = pages_needed(x, q, g, n);
        for (int64_t i = d.first; i <= d.last; i++)
            own_page(x, seq, g, i, e);
    }
    q->length += n;
    if (x->state_group >= 0) {
        q->read = q->states[q->n_states - 1].state;
        q->write = take(&x->pool[x->state_group], -1);
        q->states[q->n_states++] = (struct state_at){.state = q->write, .length = q->length};
    }
    return SHOAL_OK;
}

void sh_kv_states(const struct sh_kv_index *x, int32_t seq, int32_t *read, int32_t *write)
{
    *read = x->state_group < 0 ? -1 : x->seq[seq].read;
    *write = x->state_group < 0 ? -1 : x->seq[seq].write;
}

/* ---- confirming and forgetting -------------------------------------------------------------- */

// Which kept state has seen exactly the first n positions, -1 if none.
static int state_at(const struct seq *q, int64_t n)
{
    for (int i = q->n_states - 1; i >= 0; i--)
        if (q->states[i].length == n) return i;
    return -1;
}

// The first position that a row at position `pos` sees in a group.
static int64_t first_seen(const struct pool *p, int64_t pos)
{
    if (p->kind != SH_GROUP_WINDOW || pos < p->window) return 0;
    return pos - p->window + 1;
}

// Can a sequence go on at position n: is all that a row there sees still held?
static enum shoal_status can_continue(const struct sh_kv_index *x, const struct seq *q, int64_t n,
                                      struct shoal_error *err)
{
    for (int g = 0; g < x->n_groups; g++) {
        if (x->pool[g].kind == SH_GROUP_STATE && state_at(q, n) < 0) {
            return sh_fail(err, SHOAL_ERR_STATE, "kv: no recurrent state was kept at position %lld",
                           (long long)n);
        }
        // What is held follows from the confirmed length: nothing above it has been given up.
        if (x->pool[g].kind != SH_GROUP_WINDOW || n >= q->confirmed) continue;
        int64_t i = first_seen(&x->pool[g], n);
        for (i = (i > q->start ? i : q->start) / SH_PAGE; i * SH_PAGE < n; i++) {
            if (q->page[g][i] >= 0) continue;
            return sh_fail(err, SHOAL_ERR_STATE, "kv: the window before position %lld is gone",
                           (long long)n);
        }
    }
    return SHOAL_OK;
}

void sh_kv_confirm(struct sh_kv_index *x, int32_t seq, int64_t length, struct sh_edits *e)
{
    struct seq *q = &x->seq[seq];
    int keep = 0;

    if (length > q->length) length = q->length;
    if (length <= q->confirmed) return;
    q->confirmed = length;
    // The newest state at or below the confirmed length stays, older ones go.
    while (keep + 1 < q->n_states && q->states[keep + 1].length <= length)
        keep++;
    for (int i = 0; i < keep; i++)
        drop_state(x, q->states[i].state);
    memmove(q->states, q->states + keep, (size_t)(q->n_states - keep) * sizeof *q->states);
    q->n_states -= keep;

    for (int g = 0; g < x->n_groups; g++) {
        if (x->pool[g].kind != SH_GROUP_WINDOW) continue;
        const int64_t end = first_seen(&x->pool[g], length) / SH_PAGE;
        int64_t from = end; // what an earlier call freed is not looked at again
        while (from > 0 && q->page[g][from - 1] >= 0)
            from--;
        if (from == end || !edits_reserve(e, end - from)) continue;
        for (int64_t i = from; i < end; i++)
            unmap(x, seq, g, i, e);
    }
}

enum shoal_status sh_kv_truncate(struct sh_kv_index *x, int32_t seq, int64_t length,
                                 struct sh_edits *e, struct shoal_error *err)
{
    struct seq *q = &x->seq[seq];
    const int64_t first = (length + SH_PAGE - 1) / SH_PAGE;
    const int64_t last = (q->length + SH_PAGE - 1) / SH_PAGE;
    int n = q->n_states;
    enum shoal_status st;

    if (length < q->start || length > q->length) {
        return sh_fail(err, SHOAL_ERR_ARG, "kv: a sequence of %lld cannot be cut to %lld",
                       (long long)q->length, (long long)length);
    }
    st = can_continue(x, q, length, err);
    if (st) return st;
    if (x->state_group >= 0) n = state_at(q, length) + 1;
    if (!edits_reserve(e, (last - first + 1) * x->n_groups))
        return sh_fail(err, SHOAL_ERR_NOMEM, "kv: no memory for edits");
    for (int i = n; i < q->n_states; i++)
        drop_state(x, q->states[i].state);
    q->n_states = n;
    for (int g = 0; g < x->n_groups; g++) {
        if (!paged(&x->pool[g])) continue;
        for (int64_t i = first; i < last; i++)
            unmap(x, seq, g, i, e);
    }
    q->length = length;
    if (q->confirmed > length) q->confirmed = length;
    return SHOAL_OK;
}

/* ---- sharing and moving --------------------------------------------------------------------- */

static enum shoal_status can_fork(const struct sh_kv_index *x, const struct seq *q, int64_t n,
                                  struct shoal_error *err)
{
    if (n < q->start || n > q->confirmed) {
        return sh_fail(err, SHOAL_ERR_STATE, "kv: %lld positions are asked for, %lld are confirmed",
                       (long long)n, (long long)q->confirmed);
    }
    return can_continue(x, q, n, err);
}

enum shoal_status sh_kv_fork(struct sh_kv_index *x, int32_t from, int64_t n, int32_t *seq,
                             struct sh_edits *e, struct shoal_error *err)
{
    struct seq *q = &x->seq[from], *r;
    const int64_t whole = n / SH_PAGE, rest = n % SH_PAGE;
    enum shoal_status st;

    *seq = -1;
    st = can_fork(x, q, n, err);
    if (!st && !edits_reserve(e, 2 + 2 * x->n_groups))
        st = sh_fail(err, SHOAL_ERR_NOMEM, "kv: no memory for edits");
    for (int g = 0; g < x->n_groups && rest && !st; g++) {
        if (paged(&x->pool[g]) && x->pool[g].n_free < 1)
            st = sh_fail(err, SHOAL_ERR_LIMIT, "kv: no page is free for a copy");
    }
    if (!st) st = sh_kv_open(x, q->start, seq, err);
    if (st) return st;
    r = &x->seq[*seq];
    forget_old(x, *seq, e);
    edit(e, (struct sh_prelude){
                .kind = SH_PRELUDE_FORK, .seq = *seq, .from = from, .end = whole * SH_PAGE});
    if (x->state_group >= 0) { // a state is never changed in place: both may read it
        const struct state_at s = q->states[state_at(q, n)];
        r->states[0] = s;
        if (s.state >= 0) x->pool[x->state_group].refs[s.state]++;
    }
    for (int g = 0; g < x->n_groups; g++) {
        if (!paged(&x->pool[g])) continue;
        for (int64_t i = 0; i < whole; i++) {
            r->page[g][i] = q->page[g][i];
            if (r->page[g][i] >= 0) x->pool[g].refs[r->page[g][i]]++;
        }
        if (!rest || q->page[g][whole] < 0) continue;
        r->page[g][whole] = take(&x->pool[g], page_before(r, g, whole));
        edit(e, (struct sh_prelude){.kind = SH_PRELUDE_MAP,
                                    .seq = *seq,
                                    .group = g,
                                    .index = (int32_t)whole,
                                    .page = r->page[g][whole]});
        edit(e, (struct sh_prelude){.kind = SH_PRELUDE_COPY,
                                    .group = g,
                                    .page = r->page[g][whole],
                                    .page_from = q->page[g][whole],
                                    .begin = 0,
                                    .end = rest});
    }
    r->length = r->confirmed = n;
    return SHOAL_OK;
}

static enum shoal_status can_shift(const struct sh_kv_index *x, const struct seq *q, int64_t begin,
                                   int64_t n, struct shoal_error *err)
{
    if (x->state_group >= 0)
        return sh_fail(err, SHOAL_ERR_UNSUPPORTED, "kv: a recurrent model cannot shift");
    if (begin < 0 || begin % SH_PAGE || n % SH_PAGE || begin > q->length || n > q->length - begin ||
        n < q->length - x->n_positions) {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "kv: positions from %lld cannot move down by %lld in a sequence of %lld",
                       (long long)begin, (long long)n, (long long)q->length);
    }
    if (n < 0 && begin > q->start) {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "kv: positions from %lld cannot move up alone: the sequence starts at %lld",
                       (long long)begin, (long long)q->start);
    }
    return SHOAL_OK;
}

// Where a border between positions lies after the edit.
static int64_t moved(int64_t at, int64_t begin, int64_t n)
{
    if (at < begin || (n > 0 && at == begin)) return at;
    return n > 0 && at < begin + n ? begin : at - n;
}

enum shoal_status sh_kv_shift(struct sh_kv_index *x, int32_t seq, int64_t begin, int64_t n,
                              struct sh_edits *e, struct shoal_error *err)
{
    struct seq *q = &x->seq[seq];
    const int64_t end = (q->length + SH_PAGE - 1) / SH_PAGE;
    enum shoal_status st = can_shift(x, q, begin, n, err);

    if (st || n == 0) return st;
    const int64_t from = (begin + (n > 0 ? n : 0)) / SH_PAGE, by = -n / SH_PAGE;
    if (!edits_reserve(e, 2 + 2 * (end - from + 1) * x->n_groups))
        return sh_fail(err, SHOAL_ERR_NOMEM, "kv: no memory for edits");
    for (int g = 0; g < x->n_groups; g++) {
        int64_t shared = 0;
        for (int64_t i = from; i < end; i++)
            shared += q->page[g][i] >= 0 && x->pool[g].refs[q->page[g][i]] > 1;
        if (shared > x->pool[g].n_free) {
            return sh_fail(err, SHOAL_ERR_LIMIT, "kv: %lld shared pages must be copied, %lld free",
                           (long long)shared, (long long)x->pool[g].n_free);
        }
    }
    for (int g = 0; g < x->n_groups; g++) {
        for (int64_t i = from; i < end; i++)
            if (q->page[g][i] >= 0) own_page(x, seq, g, i, e);
        for (int64_t i = begin / SH_PAGE; i < from; i++)
            unmap(x, seq, g, i, NULL);
    }
    if (n > 0) {
        edit(e, (struct sh_prelude){
                    .kind = SH_PRELUDE_DROP, .seq = seq, .begin = begin, .end = begin + n});
    }
    edit(e, (struct sh_prelude){
                .kind = SH_PRELUDE_SHIFT, .seq = seq, .begin = from * SH_PAGE, .delta = -n});
    for (int g = 0; g < x->n_groups; g++) {
        for (int64_t k = 0; k < end - from; k++) {
            const int64_t i = by < 0 ? from + k : end - 1 - k;
            const int32_t page = q->page[g][i];
            q->page[g][i] = -1;
            q->page[g][i + by] = page;
        }
    }
    q->length -= n;
    q->start = moved(q->start, begin, n);
    q->confirmed = moved(q->confirmed, begin, n);
    return SHOAL_OK;
}

void sh_kv_usage(const struct sh_kv_index *x, int group, int64_t *used, int64_t *total)
{
    *used = x->pool[group].n_pages - x->pool[group].n_free;
    *total = x->pool[group].n_pages;
}
