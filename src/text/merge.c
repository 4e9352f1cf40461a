/* merge.c - see merge_priv.h.
 *
 * In the heap a candidate is (rank, left part) in one number, so that the order of numbers is the
 * order of merging.  A candidate is outdated when one of its parts has grown or is gone: a part
 * that was swallowed has length 0, and the joined length of the two tells growth.
 */
#include "text/merge_priv.h"

#include <string.h>

#include "base/mem.h"

#define NONE UINT32_MAX

struct sh_merge_link {
    uint32_t prev, next;
};

struct sh_merge_cand {
    uint64_t order; /* rank, left part */
    uint32_t right, len, sym;
};

void sh_merger_release(struct sh_merger *m)
{
    sh_free(m->parts);
    sh_free(m->links);
    sh_free(m->heap);
    *m = (struct sh_merger)SH_MERGER_INIT;
}

/* Grow `*p` from *cap to at least n elements, at least doubling. */
static enum shoal_status grow(void **p, size_t *cap, size_t n, size_t bytes)
{
    const size_t want = n > *cap * 2 ? n : *cap * 2;
    void *fresh;

    if (n <= *cap) return SHOAL_OK;
    fresh = sh_realloc_array(*p, want, bytes);
    if (!fresh) return SHOAL_ERR_NOMEM;
    *p = fresh;
    *cap = want;
    return SHOAL_OK;
}

enum shoal_status sh_merger_start(struct sh_merger *m, size_t n)
{
    void *p = m->parts;
    enum shoal_status st;

    m->n_parts = 0;
    if (n <= m->cap) return SHOAL_OK;
    st = grow(&p, &m->cap, n, sizeof *m->parts);
    m->parts = p;
    return st;
}

/* ---- short words -------------------------------------------------------------------------- */

static void rate(const struct sh_merger *m, size_t i, const char *word, sh_merge_rule *rule,
                 const void *tables, uint32_t *rank, uint32_t *sym)
{
    if (!rule(tables, word, &m->parts[i], &m->parts[i + 1], &rank[i], &sym[i])) rank[i] = NONE;
}

static void merge_short(struct sh_merger *m, const char *word, sh_merge_rule *rule,
                        const void *tables)
{
    uint32_t rank[SH_MERGE_SHORT], sym[SH_MERGE_SHORT];
    size_t n = m->n_parts;

    for (size_t i = 0; i + 1 < n; i++)
        rate(m, i, word, rule, tables, rank, sym);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == NONE) break;

        m->parts[best].sym = sym[best];
        m->parts[best].len += m->parts[best + 1].len;
        n--;
        memmove(&m->parts[best + 1], &m->parts[best + 2], (n - best - 1) * sizeof *m->parts);
        if (n > best + 1) {
            memmove(&rank[best + 1], &rank[best + 2], (n - best - 2) * sizeof *rank);
            memmove(&sym[best + 1], &sym[best + 2], (n - best - 2) * sizeof *sym);
            rate(m, best, word, rule, tables, rank, sym);
        }
        if (best > 0) rate(m, best - 1, word, rule, tables, rank, sym);
    }
    m->n_parts = n;
}

/* ---- long words --------------------------------------------------------------------------- */

static void sift_down(struct sh_merge_cand *heap, size_t n, size_t i)
{
    const struct sh_merge_cand moving = heap[i];

    for (size_t kid = 2 * i + 1; kid < n; kid = 2 * i + 1) {
        if (kid + 1 < n && heap[kid + 1].order < heap[kid].order) kid++;
        if (heap[kid].order >= moving.order) break;
        heap[i] = heap[kid];
        i = kid;
    }
    heap[i] = moving;
}

static void sift_up(struct sh_merge_cand *heap, size_t i)
{
    const struct sh_merge_cand moving = heap[i];

    for (; i > 0 && heap[(i - 1) / 2].order > moving.order; i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = moving;
}

/* Put the pair (left, right) at the heap's end, if it may merge. */
static enum shoal_status add_pair(struct sh_merger *m, uint32_t left, uint32_t right,
                                  const char *word, sh_merge_rule *rule, const void *tables)
{
    const struct sh_merge_part *a = &m->parts[left], *b = &m->parts[right];
    void *p = m->heap;
    uint32_t rank, sym;
    enum shoal_status st;

    if (!rule(tables, word, a, b, &rank, &sym)) return SHOAL_OK;
    st = grow(&p, &m->cap_heap, m->n_heap + 1, sizeof *m->heap);
    m->heap = p;
    if (st) return st;
    m->heap[m->n_heap++] = (struct sh_merge_cand){
        .order = (uint64_t)rank << 32 | left, .right = right, .len = a->len + b->len, .sym = sym};
    return SHOAL_OK;
}

static enum shoal_status fill_heap(struct sh_merger *m, const char *word, sh_merge_rule *rule,
                                   const void *tables)
{
    const uint32_t n = (uint32_t)m->n_parts;

    m->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) {
        m->links[i] = (struct sh_merge_link){i ? i - 1 : NONE, i + 1 < n ? i + 1 : NONE};
        if (i + 1 < n) {
            enum shoal_status st = add_pair(m, i, i + 1, word, rule, tables);
            if (st) return st;
        }
    }
    for (size_t i = m->n_heap / 2; i-- > 0;)
        sift_down(m->heap, m->n_heap, i);
    return SHOAL_OK;
}

static struct sh_merge_cand pop(struct sh_merger *m)
{
    const struct sh_merge_cand top = m->heap[0];

    m->heap[0] = m->heap[--m->n_heap];
    if (m->n_heap > 1) sift_down(m->heap, m->n_heap, 0);
    return top;
}

static enum shoal_status merge_long(struct sh_merger *m, const char *word, sh_merge_rule *rule,
                                    const void *tables)
{
    struct sh_merge_part *parts = m->parts;
    enum shoal_status st = fill_heap(m, word, rule, tables);
    size_t n = 0;

    while (!st && m->n_heap > 0) {
        const struct sh_merge_cand c = pop(m);
        const uint32_t left = (uint32_t)c.order, right = c.right;
        const size_t before = m->n_heap;
        if (!parts[left].len || !parts[right].len) continue;
        if (parts[left].len + parts[right].len != c.len) continue;

        parts[left].sym = c.sym;
        parts[left].len = c.len;
        parts[right].len = 0;
        const uint32_t next = m->links[right].next, prev = m->links[left].prev;
        m->links[left].next = next;
        if (next != NONE) {
            m->links[next].prev = left;
            st = add_pair(m, left, next, word, rule, tables);
            if (m->n_heap > before) sift_up(m->heap, m->n_heap - 1);
        }
        if (!st && prev != NONE) {
            const size_t now = m->n_heap;
            st = add_pair(m, prev, left, word, rule, tables);
            if (m->n_heap > now) sift_up(m->heap, m->n_heap - 1);
        }
    }
    for (size_t i = 0; i < m->n_parts; i++)
        if (parts[i].len) parts[n++] = parts[i];
    m->n_parts = n;
    return st;
}

enum shoal_status sh_merger_run(struct sh_merger *m, const char *word, sh_merge_rule *rule,
                                const void *tables)
{
    if (m->n_parts < 2) return SHOAL_OK;
    if (m->n_parts <= SH_MERGE_SHORT) {
        merge_short(m, word, rule, tables);
        return SHOAL_OK;
    }
    if (m->n_parts > m->n_links) {
        void *p = m->links;
        enum shoal_status st = grow(&p, &m->n_links, m->n_parts, sizeof *m->links);
        m->links = p;
        if (st) return st;
    }
    return merge_long(m, word, rule, tables);
}
