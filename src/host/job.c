/* host/job.c - see host/job.h. */
#include "host/job.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

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

enum shoal_status sh_job_fill(struct sh_job *j, const struct sh_step *s, int64_t width,
                              struct shoal_error *err)
{
    const size_t n_embd = (size_t)s->n_embd * (size_t)width;
    size_t n_recent = 0, at = 0;
    void *prelude = j->prelude, *rows = j->rows, *seqs = j->seqs, *recent = j->recent;
    void *embd = j->embd;
    bool ok;

    for (int32_t i = 0; i < s->n_seqs; i++)
        n_recent += (size_t)s->seqs[i].n_recent;
    ok = room(&prelude, &j->cap_prelude, (size_t)s->n_prelude, sizeof *j->prelude);
    j->prelude = prelude;
    ok = ok && room(&rows, &j->cap_rows, (size_t)s->n_rows, sizeof *j->rows);
    j->rows = rows;
    ok = ok && room(&seqs, &j->cap_seqs, (size_t)s->n_seqs, sizeof *j->seqs);
    j->seqs = seqs;
    ok = ok && room(&recent, &j->cap_recent, n_recent, sizeof *j->recent);
    j->recent = recent;
    ok = ok && room(&embd, &j->cap_embd, n_embd, sizeof *j->embd);
    j->embd = embd;
    if (!ok)
        return sh_fail(err, SHOAL_ERR_NOMEM, "pipeline: no memory for a step of %d rows",
                       s->n_rows);

    copy(j->prelude, s->prelude, (size_t)s->n_prelude * sizeof *j->prelude);
    copy(j->rows, s->rows, (size_t)s->n_rows * sizeof *j->rows);
    copy(j->seqs, s->seqs, (size_t)s->n_seqs * sizeof *j->seqs);
    copy(j->embd, s->embd, n_embd * sizeof *j->embd);
    for (int32_t i = 0; i < s->n_seqs; i++) {
        const size_t n = (size_t)s->seqs[i].n_recent;
        copy(j->recent + at, s->seqs[i].recent, n * sizeof *j->recent);
        j->seqs[i].recent = j->recent + at;
        at += n;
    }
    j->step = *s;
    j->step.prelude = j->prelude;
    j->step.rows = j->rows;
    j->step.seqs = j->seqs;
    j->step.embd = j->embd;
    return SHOAL_OK;
}

void sh_job_release(struct sh_job *j)
{
    sh_free(j->prelude);
    sh_free(j->rows);
    sh_free(j->seqs);
    sh_free(j->recent);
    sh_free(j->embd);
    *j = (struct sh_job){0};
}
