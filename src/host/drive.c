/* host/drive.c - see drive.h. */
#include "host/drive.h"

#include "base/clock.h"
#include "base/mem.h"
#include "engine/kv_index.h"
#include "sample/rng.h"

struct sh_drive {
    struct sh_pipeline *pipeline;
    const struct sh_pipeline_ops *ops;
    struct sh_pipeline_info info;
    struct sh_kv_index *kv;
    struct sh_edits edits; /* for the next step, whosever it is */
    int n_seqs;
    int32_t *seq;             /* [n_seqs], as kv knows them */
    struct sh_row *rows;      /* [rows_max] */
    struct sh_step_seq *runs; /* [n_seqs] */
    uint64_t number;
    struct sh_rng rng;
    bool (*stop)(void *self);
    void *self;
};

static enum shoal_status open_all(struct sh_drive *d, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    for (int i = 0; i < d->n_seqs && !st; i++)
        st = sh_kv_open(d->kv, 0, &d->seq[i], err);
    return st;
}

static enum shoal_status make(struct sh_drive *d, struct shoal_error *err)
{
    const struct sh_pipeline_info *info = &d->info;
    enum shoal_status st;

    if (d->n_seqs > info->limits.n_seqs || d->n_seqs > info->limits.rows_max ||
        d->n_seqs > info->limits.wanted_max) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "%d sequences at once are more than %d", d->n_seqs,
                       (int)(info->limits.n_seqs < info->limits.wanted_max
                                 ? info->limits.n_seqs
                                 : info->limits.wanted_max));
    }
    d->seq = sh_calloc((size_t)d->n_seqs, sizeof *d->seq);
    d->runs = sh_calloc((size_t)d->n_seqs, sizeof *d->runs);
    d->rows = sh_calloc((size_t)info->limits.rows_max, sizeof *d->rows);
    if (!d->seq || !d->runs || !d->rows)
        return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for %d sequences", d->n_seqs);
    st = sh_kv_index_create(&d->kv, info->n_groups, info->groups, &info->limits, err);
    return st ? st : open_all(d, err);
}

enum shoal_status sh_drive_create(struct sh_drive **out, const struct sh_drive_options *opt,
                                  struct shoal_error *err)
{
    struct sh_drive *d = sh_calloc(1, sizeof *d);
    enum shoal_status st;

    *out = NULL;
    if (!d) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for %d sequences", opt->n_seqs);
    d->pipeline = opt->pipeline;
    d->ops = sh_pipeline_ops(d->pipeline);
    d->ops->info(d->pipeline, &d->info);
    d->n_seqs = opt->n_seqs;
    d->stop = opt->stop;
    d->self = opt->self;
    sh_rng_init(&d->rng, opt->seed);
    st = make(d, err);
    if (st) {
        sh_drive_destroy(d);
        return st;
    }
    *out = d;
    return SHOAL_OK;
}

void sh_drive_destroy(struct sh_drive *d)
{
    if (!d) return;
    sh_kv_index_destroy(d->kv);
    sh_edits_release(&d->edits);
    sh_free(d->seq);
    sh_free(d->runs);
    sh_free(d->rows);
    sh_free(d);
}

enum shoal_status sh_drive_clear(struct sh_drive *d, struct shoal_error *err)
{
    for (int i = 0; i < d->n_seqs; i++)
        sh_kv_close(d->kv, d->seq[i], &d->edits);
    return open_all(d, err);
}

/* ---- steps ----------------------------------------------------------------------------------*/

struct batch { /* a step under construction */
    int32_t n_rows, n_runs;
};

// The next `n` tokens of a sequence, as a run of the step.
static enum shoal_status add_run(struct sh_drive *d, struct batch *b, int32_t seq, int64_t n,
                                 bool wants_token, struct shoal_error *err)
{
    const int64_t at = sh_kv_length(d->kv, seq);
    struct sh_step_seq *run = &d->runs[b->n_runs];
    enum shoal_status st = sh_kv_append(d->kv, seq, n, &d->edits, err);

    if (st) return st;
    *run = (struct sh_step_seq){
        .seq = seq, .first_row = b->n_rows, .n_rows = (int32_t)n, .sampler = SH_SAMPLER_DEFAULTS};
    run->sampler.temp = 0;
    sh_kv_states(d->kv, seq, &run->state_read, &run->state_write);
    for (int64_t i = 0; i < n; i++) {
        d->rows[b->n_rows++] =
            (struct sh_row){.token = (int32_t)(sh_rng_draw(&d->rng) * d->info.n_vocab),
                            .seq = seq,
                            .pos = (int32_t)(at + i),
                            .last = (int32_t)(at + i)};
    }
    if (wants_token) d->rows[b->n_rows - 1].want = SH_WANT_TOKEN;
    b->n_runs++;
    return SHOAL_OK;
}

static enum shoal_status submit(struct sh_drive *d, const struct batch *b, struct shoal_error *err)
{
    const struct sh_step step = {.number = d->number,
                                 .prelude = d->edits.edit,
                                 .n_prelude = d->edits.n,
                                 .rows = d->rows,
                                 .n_rows = b->n_rows,
                                 .seqs = d->runs,
                                 .n_seqs = b->n_runs};
    const enum shoal_status st = d->ops->submit(d->pipeline, &step, err);

    if (st) return st;
    sh_edits_clear(&d->edits);
    d->number++;
    return SHOAL_OK;
}

// The oldest step in flight is over.
static enum shoal_status await(struct sh_drive *d, struct shoal_error *err)
{
    struct sh_pipeline_result r;
    enum shoal_status st;

    do {
        if (d->stop && d->stop(d->self)) d->ops->cancel(d->pipeline);
        st = d->ops->result(d->pipeline, 100 * SH_MS, &r, err);
    } while (st == SHOAL_ERR_TIMEOUT && r.status != SHOAL_ERR_TIMEOUT);
    if (!st) d->ops->release(d->pipeline, &r);
    return st;
}

static enum shoal_status finish(struct sh_drive *d, int *in_flight, enum shoal_status st)
{
    if (st && *in_flight > 0) d->ops->cancel(d->pipeline);
    for (; st && *in_flight > 0; --*in_flight)
        (void)await(d, NULL);
    return st;
}

/* ---- prompts --------------------------------------------------------------------------------*/

static enum shoal_status fill_one(struct sh_drive *d, int32_t seq, int64_t n,
                                  struct shoal_error *err)
{
    int64_t left = n, first = sh_kv_length(d->kv, seq), ends[64];
    const int most = d->info.in_flight_max < 64 ? d->info.in_flight_max : 64;
    int in_flight = 0, sent = 0, done = 0;
    enum shoal_status st = SHOAL_OK;

    while (!st && (left > 0 || in_flight > 0)) {
        while (!st && left > 0 && in_flight < most) {
            struct batch b = {0};
            const int64_t rows = left < d->info.limits.rows_max ? left : d->info.limits.rows_max;
            st = add_run(d, &b, seq, rows, false, err);
            if (!st) st = submit(d, &b, err);
            if (st) break;
            left -= rows;
            first += rows;
            ends[sent++ % 64] = first;
            in_flight++;
        }
        if (st) break;
        st = await(d, err);
        in_flight--;
        if (!st) sh_kv_confirm(d->kv, seq, ends[done++ % 64], &d->edits);
    }
    return finish(d, &in_flight, st);
}

enum shoal_status sh_drive_fill(struct sh_drive *d, int64_t n, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    for (int i = 0; i < d->n_seqs && !st; i++)
        st = fill_one(d, d->seq[i], n, err);
    return st;
}

/* ---- texts ----------------------------------------------------------------------------------*/

// Sequences [*begin, *end) are group g.
static void group_of(const struct sh_drive *d, int n_groups, int64_t g, int *begin, int *end)
{
    *begin = (int)(g * d->n_seqs / n_groups);
    *end = (int)((g + 1) * d->n_seqs / n_groups);
}

static enum shoal_status send_group(struct sh_drive *d, int begin, int end, struct shoal_error *err)
{
    struct batch b = {0};
    enum shoal_status st = SHOAL_OK;

    for (int i = begin; i < end && !st; i++)
        st = add_run(d, &b, d->seq[i], 1, true, err);
    return st ? st : submit(d, &b, err);
}

static enum shoal_status take_group(struct sh_drive *d, int begin, int end, struct shoal_error *err)
{
    const enum shoal_status st = await(d, err);

    for (int i = begin; i < end && !st; i++)
        sh_kv_confirm(d->kv, d->seq[i], sh_kv_length(d->kv, d->seq[i]), &d->edits);
    return st;
}

enum shoal_status sh_drive_text(struct sh_drive *d, int64_t n, int n_groups, int in_flight,
                                struct shoal_error *err)
{
    const int64_t total = n * n_groups;
    enum shoal_status st = SHOAL_OK;
    int64_t sent = 0, done = 0;
    int open = 0, begin, end;

    // A group's next step is behind the steps of all others, so its last one has come before.
    while (!st && done < total) {
        while (!st && sent < total && open < in_flight) {
            group_of(d, n_groups, sent % n_groups, &begin, &end);
            st = send_group(d, begin, end, err);
            if (st) break;
            sent++;
            open++;
        }
        if (st) break;
        group_of(d, n_groups, done % n_groups, &begin, &end);
        st = take_group(d, begin, end, err);
        open--;
        done++;
    }
    return finish(d, &open, st);
}
