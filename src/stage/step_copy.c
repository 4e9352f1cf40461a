/* stage/step_copy.c - see step_copy.h. */
#include "stage/step_copy.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

// Room for n elements; contents need not be kept.
static bool room(void **p, size_t *cap, size_t n, size_t bytes)
{
    void *q;

    if (n <= *cap) return true;
    q = sh_realloc_array(*p, n, bytes);
    if (!q) return false;
    *p = q;
    *cap = n;
    return true;
}

static void copy(void *dst, const void *src, size_t bytes)
{
    if (bytes) memcpy(dst, src, bytes);
}

static bool make_room(struct sh_step_copy *c, const struct sh_step *s, size_t n_recent,
                      size_t n_embd)
{
    void *prelude = c->prelude, *rows = c->rows, *seqs = c->seqs, *recent = c->recent;
    void *embd = c->embd;
    bool ok;

    ok = room(&prelude, &c->cap_prelude, (size_t)s->n_prelude, sizeof *c->prelude);
    c->prelude = prelude;
    ok = ok && room(&rows, &c->cap_rows, (size_t)s->n_rows, sizeof *c->rows);
    c->rows = rows;
    ok = ok && room(&seqs, &c->cap_seqs, (size_t)s->n_seqs, sizeof *c->seqs);
    c->seqs = seqs;
    ok = ok && room(&recent, &c->cap_recent, n_recent, sizeof *c->recent);
    c->recent = recent;
    ok = ok && room(&embd, &c->cap_embd, n_embd, sizeof *c->embd);
    c->embd = embd;
    return ok;
}

enum shoal_status sh_step_copy_fill(struct sh_step_copy *c, const struct sh_step *s, int64_t width,
                                    struct shoal_error *err)
{
    size_t n_recent = 0, n_embd = 0, at = 0;
    bool ok = sh_mul_ok((size_t)s->n_embd, (size_t)width, &n_embd);

    for (int32_t i = 0; i < s->n_seqs; i++)
        n_recent += (size_t)s->seqs[i].n_recent;
    if (!ok || !make_room(c, s, n_recent, n_embd)) {
        return sh_fail(err, SHOAL_ERR_NOMEM, "stage: no memory for a step of %d rows",
                       (int)s->n_rows);
    }
    copy(c->prelude, s->prelude, (size_t)s->n_prelude * sizeof *c->prelude);
    copy(c->rows, s->rows, (size_t)s->n_rows * sizeof *c->rows);
    copy(c->seqs, s->seqs, (size_t)s->n_seqs * sizeof *c->seqs);
    if (s->embd) copy(c->embd, s->embd, n_embd * sizeof *c->embd);
    for (int32_t i = 0; i < s->n_seqs; i++) {
        const size_t n = (size_t)s->seqs[i].n_recent;
        if (!n) {
            c->seqs[i].recent = NULL;
            continue;
        }
        copy(c->recent + at, s->seqs[i].recent, n * sizeof *c->recent);
        c->seqs[i].recent = c->recent + at;
        at += n;
    }
    c->step = *s;
    c->step.prelude = c->prelude;
    c->step.rows = c->rows;
    c->step.seqs = c->seqs;
    c->step.embd = n_embd > 0 ? c->embd : NULL;
    return SHOAL_OK;
}

void sh_step_copy_release(struct sh_step_copy *c)
{
    sh_free(c->prelude);
    sh_free(c->rows);
    sh_free(c->seqs);
    sh_free(c->recent);
    sh_free(c->embd);
    *c = (struct sh_step_copy){0};
}
