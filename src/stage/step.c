/* stage/step.c - is a step well formed?  One pass over its edits, sequences and rows. */
#include "stage/step.h"

#include "base/error.h"
#include "tensor/ops.h"

static enum shoal_status bad_edit(struct shoal_error *err, int32_t i, const char *what,
                                  int64_t value)
{
    return sh_fail(err, SHOAL_ERR_ARG, "step: edit %d: %s %lld is out of range", (int)i, what,
                   (long long)value);
}

static bool seq_ok(int32_t seq, const struct sh_step_limits *l)
{
    return seq >= 0 && seq < l->n_seqs;
}

static bool page_ok(int32_t group, int32_t page, const struct sh_step_limits *l)
{
    return page >= 0 && page < l->pages[group];
}

static enum shoal_status check_edit(const struct sh_prelude *e, int32_t i,
                                    const struct sh_step_limits *l, struct shoal_error *err)
{
    const int64_t n_index = (l->n_positions + SH_PAGE - 1) / SH_PAGE;
    const bool paged = e->kind == SH_PRELUDE_MAP || e->kind == SH_PRELUDE_COPY;

    if (e->kind != SH_PRELUDE_COPY && !seq_ok(e->seq, l))
        return bad_edit(err, i, "sequence", e->seq);
    if (paged && (e->group < 0 || e->group >= l->n_groups))
        return bad_edit(err, i, "group", e->group);
    switch (e->kind) {
    case SH_PRELUDE_MAP:
        if (e->index < 0 || e->index >= n_index) return bad_edit(err, i, "index", e->index);
        if (e->page != -1 && !page_ok(e->group, e->page, l))
            return bad_edit(err, i, "page", e->page);
        return SHOAL_OK;
    case SH_PRELUDE_FORK:
        if (!seq_ok(e->from, l)) return bad_edit(err, i, "source sequence", e->from);
        if (e->end < 0 || e->end % SH_PAGE || e->end / SH_PAGE > n_index)
            return bad_edit(err, i, "length", e->end);
        return SHOAL_OK;
    case SH_PRELUDE_DROP:
        if (e->begin < 0 || e->end < e->begin || e->end > n_index * SH_PAGE)
            return bad_edit(err, i, "end", e->end);
        return SHOAL_OK;
    case SH_PRELUDE_COPY:
        if (!page_ok(e->group, e->page, l)) return bad_edit(err, i, "page", e->page);
        if (!page_ok(e->group, e->page_from, l))
            return bad_edit(err, i, "source page", e->page_from);
        if (e->begin < 0 || e->end < e->begin || e->end > SH_PAGE)
            return bad_edit(err, i, "cell", e->end);
        return SHOAL_OK;
    case SH_PRELUDE_SHIFT:
        if (e->begin < 0 || e->begin % SH_PAGE) return bad_edit(err, i, "begin", e->begin);
        if (e->delta % SH_PAGE || e->delta > n_index * SH_PAGE || e->delta < -e->begin)
            return bad_edit(err, i, "delta", e->delta);
        return SHOAL_OK;
    }
    return bad_edit(err, i, "kind", (int64_t)e->kind);
}

static enum shoal_status check_row(const struct sh_step *s, const struct sh_step_seq *q, int32_t r,
                                   bool rises, const struct sh_step_limits *l,
                                   struct shoal_error *err)
{
    const struct sh_row *row = &s->rows[r];

    if (row->seq != q->seq || !rises || row->pos < 0 || row->pos >= l->n_positions ||
        row->last < row->pos || row->last >= l->n_positions) {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "step: row %d (sequence %d, position %d, last %d) does not fit its run or "
                       "the context of %lld",
                       (int)r, (int)row->seq, (int)row->pos, (int)row->last,
                       (long long)l->n_positions);
    }
    if (row->token < 0 && -1 - row->token >= s->n_embd) {
        return sh_fail(err, SHOAL_ERR_ARG, "step: row %d asks for embedding row %d of %d", (int)r,
                       -1 - (int)row->token, (int)s->n_embd);
    }
    if ((unsigned)row->want > SH_WANT_LOGITS || (row->want == SH_WANT_TOP_K && row->top_k < 0)) {
        return sh_fail(err, SHOAL_ERR_ARG, "step: row %d wants %u with %d candidates", (int)r,
                       (unsigned)row->want, (int)row->top_k);
    }
    return SHOAL_OK;
}

static enum shoal_status check_seq(const struct sh_step *s, int32_t i, int32_t *next,
                                   const struct sh_step_limits *l, struct shoal_error *err)
{
    const struct sh_step_seq *q = &s->seqs[i];

    if (!seq_ok(q->seq, l) || q->first_row != *next || q->n_rows <= 0 ||
        q->n_rows > s->n_rows - q->first_row) {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "step: sequence %d has rows %d to %lld of %d, expected a run from row %d",
                       (int)q->seq, (int)q->first_row, (long long)q->first_row + q->n_rows,
                       (int)s->n_rows, (int)*next);
    }
    if (q->state_read < -1 || q->state_read >= l->n_states || q->state_write < -1 ||
        q->state_write >= l->n_states) {
        return sh_fail(err, SHOAL_ERR_ARG, "step: sequence %d: states %d, %d of %d", (int)q->seq,
                       (int)q->state_read, (int)q->state_write, (int)l->n_states);
    }
    if (q->n_recent < 0)
        return sh_fail(err, SHOAL_ERR_ARG, "step: sequence %d has %d recent tokens", (int)q->seq,
                       (int)q->n_recent);
    for (int32_t k = 0; k < i; k++) {
        if (s->seqs[k].seq == q->seq)
            return sh_fail(err, SHOAL_ERR_ARG, "step: sequence %d has two runs", (int)q->seq);
    }
    for (int32_t r = q->first_row; r < q->first_row + q->n_rows; r++) {
        const bool rises = r == q->first_row || s->rows[r].pos > s->rows[r - 1].pos;
        enum shoal_status st = check_row(s, q, r, rises, l, err);
        if (st) return st;
    }
    *next += q->n_rows;
    return SHOAL_OK;
}

enum shoal_status sh_step_check(const struct sh_step *s, const struct sh_step_limits *l,
                                struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;
    int64_t wanted = 0;
    int32_t next = 0;

    if (s->n_prelude < 0 || s->n_embd < 0) {
        return sh_fail(err, SHOAL_ERR_ARG, "step: %d edits and %d embedding rows",
                       (int)s->n_prelude, (int)s->n_embd);
    }
    if (s->n_rows < 0 || s->n_rows > l->rows_max || s->n_seqs < 0 || s->n_seqs > l->n_seqs) {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "step: %d rows of %d sequences, at most %lld of %d are possible",
                       (int)s->n_rows, (int)s->n_seqs, (long long)l->rows_max, (int)l->n_seqs);
    }
    for (int32_t i = 0; i < s->n_prelude && !st; i++)
        st = check_edit(&s->prelude[i], i, l, err);
    for (int32_t i = 0; i < s->n_seqs && !st; i++)
        st = check_seq(s, i, &next, l, err);
    if (st) return st;
    if (next != s->n_rows) {
        return sh_fail(err, SHOAL_ERR_ARG, "step: %d of %d rows belong to no sequence",
                       (int)(s->n_rows - next), (int)s->n_rows);
    }
    for (int32_t i = 0; i < s->n_rows; i++)
        wanted += s->rows[i].want != SH_WANT_NOTHING;
    if (wanted > l->wanted_max) {
        return sh_fail(err, SHOAL_ERR_ARG, "step: %lld results are wanted, at most %lld",
                       (long long)wanted, (long long)l->wanted_max);
    }
    return SHOAL_OK;
}
