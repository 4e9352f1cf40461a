/* stage/slot.c - see slot.h. */
#include "stage/slot.h"

#include "base/mem.h"

enum { TOP_K_SPARE = 64 }; /* candidates kept per wanted row before a step needs more */

enum shoal_status sh_slot_init(struct sh_slot *s, const struct sh_slot_sizes *z,
                               struct shoal_error *err)
{
    const struct sh_step_limits *l = z->limits;
    const size_t t = (size_t)l->rows_max, o = (size_t)l->wanted_max;
    const size_t n_index = (size_t)((l->n_positions + SH_PAGE - 1) / SH_PAGE);
    bool ok;

    *s = (struct sh_slot){.packed_bytes = z->packed_bytes, .n_top_max = (int32_t)o * TOP_K_SPARE};
    s->tokens = sh_calloc(t, sizeof(int32_t));
    s->pos = sh_calloc(t, 4 * sizeof(int32_t));
    s->rows = sh_calloc(t, 4 * sizeof(int32_t));
    s->out = sh_calloc(o, sizeof(int32_t));
    s->states = sh_calloc((size_t)l->n_seqs, 4 * sizeof(int32_t));
    s->pages = sh_calloc(n_index, 2 * sizeof(int32_t));
    s->output = sh_calloc((size_t)z->output_floats, sizeof(float));
    ok = s->tokens && s->pos && s->rows && s->out && s->states && s->pages && s->output;
    for (int g = 0; g < l->n_groups && ok; g++) {
        s->table[g] = sh_calloc(n_index * (size_t)l->n_seqs, sizeof(int32_t));
        ok = s->table[g] != NULL;
    }
    if (ok && z->last) {
        s->results = sh_calloc(o, sizeof *s->results);
        s->top = sh_calloc((size_t)s->n_top_max, sizeof *s->top);
        ok = s->results && s->top;
    }
    if (ok && z->packed_bytes) ok = (s->packed = sh_calloc(1, z->packed_bytes)) != NULL;
    if (ok) return SHOAL_OK;
    sh_slot_release(s);
    return sh_fail(err, SHOAL_ERR_NOMEM, "stage: no memory for a step of %zu rows", t);
}

void sh_slot_release(struct sh_slot *s)
{
    sh_free(s->tokens);
    sh_free(s->pos);
    sh_free(s->rows);
    sh_free(s->out);
    sh_free(s->states);
    sh_free(s->pages);
    for (int g = 0; g < SH_GROUPS_MAX; g++)
        sh_free(s->table[g]);
    sh_free(s->packed);
    sh_free(s->output);
    sh_free(s->results);
    sh_free(s->top);
    *s = (struct sh_slot){0};
}

void sh_slot_fill(struct sh_slot *s, const struct sh_step *step)
{
    s->n_wanted = 0;
    for (int32_t i = 0; i < step->n_rows; i++) {
        const struct sh_row *r = &step->rows[i];
        int32_t *pos = s->pos + 4 * i, *row = s->rows + 4 * i;
        s->tokens[i] = r->token;
        pos[0] = pos[1] = pos[2] = r->pos;
        pos[3] = 0;
        row[0] = r->seq;
        row[1] = r->pos;
        row[2] = r->last;
        row[3] = 0;
        if (r->want != SH_WANT_NOTHING) s->out[s->n_wanted++] = i;
    }
    for (int32_t i = 0; i < step->n_seqs; i++) {
        s->states[4 * i + 0] = step->seqs[i].first_row;
        s->states[4 * i + 1] = step->seqs[i].n_rows;
        s->states[4 * i + 2] = step->seqs[i].state_read;
        s->states[4 * i + 3] = step->seqs[i].state_write;
    }
}

static const struct sh_step_seq *seq_of_row(const struct sh_step *step, int32_t row)
{
    for (int32_t i = 0; i < step->n_seqs; i++) {
        const struct sh_step_seq *q = &step->seqs[i];
        if (row >= q->first_row && row < q->first_row + q->n_rows) return q;
    }
    return NULL;
}

// The tokens that the sampler of a row may look back at: those before and including the row.
static int32_t recent_of_row(const struct sh_step_seq *q, int32_t row)
{
    const int32_t after = q->first_row + q->n_rows - 1 - row;

    return q->n_recent > after ? q->n_recent - after : 0;
}

static bool grow_top(struct sh_slot *s, int32_t n)
{
    struct sh_candidate *p;

    if (n <= s->n_top_max) return true;
    p = sh_realloc_array(s->top, (size_t)n, sizeof *p);
    if (!p) return false;
    s->top = p;
    s->n_top_max = n;
    return true;
}

enum shoal_status sh_slot_results(struct sh_slot *s, int32_t n_vocab, struct sh_candidate *work,
                                  struct shoal_error *err)
{
    const struct sh_step *step = s->step;
    int32_t n_top = 0;

    for (int32_t k = 0; k < s->n_wanted; k++) {
        const struct sh_row *r = &step->rows[s->out[k]];
        if (r->want == SH_WANT_TOP_K) n_top += r->top_k < n_vocab ? r->top_k : n_vocab;
    }
    if (!grow_top(s, n_top))
        return sh_fail(err, SHOAL_ERR_NOMEM, "stage: no memory for %d candidates", (int)n_top);
    n_top = 0;
    for (int32_t k = 0; k < s->n_wanted; k++) {
        const struct sh_row *r = &step->rows[s->out[k]];
        const struct sh_step_seq *q = seq_of_row(step, s->out[k]);
        const float *logits = s->output + (size_t)k * (size_t)n_vocab;
        struct sh_row_result *res = &s->results[k];
        *res = (struct sh_row_result){.row = s->out[k], .want = r->want, .token = -1};
        if (r->want == SH_WANT_LOGITS) res->logits = logits;
        if (r->want == SH_WANT_TOP_K) {
            res->top = s->top + n_top;
            res->n_top = sh_top_k(s->top + n_top, r->top_k, logits, n_vocab);
            n_top += res->n_top;
        }
        if (r->want == SH_WANT_TOKEN) {
            enum shoal_status st = sh_sample(&res->token, logits, n_vocab, &q->sampler, q->recent,
                                             recent_of_row(q, s->out[k]), r->draw, work, err);
            if (st) return st;
        }
    }
    return SHOAL_OK;
}
