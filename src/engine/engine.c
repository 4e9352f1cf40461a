/* engine/engine.c - see engine.h. */
#include "engine/engine.h"

#include <stdatomic.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/chunk.h"
#include "engine/kv_index.h"
#include "sample/rng.h"

enum {
    RECENT_MAX = 4096, /* tokens that a penalty may look back at */
    STEPS_MAX = 64
}; /* steps in flight */

struct sh_engine {
    struct sh_pipeline *pipeline; /* borrowed */
    const struct sh_pipeline_ops *ops;
    struct sh_pipeline_info info;
    struct sh_kv_index *kv;
    struct sh_edits edits;
    int32_t seq;
    int64_t n_ctx;
    int32_t *ids; /* [n_ctx], the sequence */
    int64_t n_ids;
    uint64_t epoch, number; /* of the next step */
    struct sh_sampler_params sampler;
    struct sh_rng rng;
    struct sh_row *rows; /* [rows_max] */
    struct sh_chunk_model chunks;
    atomic_bool cancelled;
};

enum shoal_status sh_engine_create(struct sh_engine **out, struct sh_pipeline *p, int64_t n_ctx,
                                   struct shoal_error *err)
{
    struct sh_engine *e;
    enum shoal_status st;

    *out = NULL;
    e = sh_calloc(1, sizeof *e);
    if (!e) return sh_fail(err, SHOAL_ERR_NOMEM, "engine: no memory");
    e->pipeline = p;
    e->ops = sh_pipeline_ops(p);
    e->ops->info(p, &e->info);
    e->n_ctx = n_ctx < e->info.limits.n_positions ? n_ctx : e->info.limits.n_positions;
    e->sampler = (struct sh_sampler_params)SH_SAMPLER_DEFAULTS;
    e->ids = sh_calloc((size_t)e->n_ctx, sizeof *e->ids);
    e->rows = sh_calloc((size_t)e->info.limits.rows_max, sizeof *e->rows);
    if (!e->ids || !e->rows) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "engine: no memory for a context of %lld",
                     (long long)e->n_ctx);
        goto done;
    }
    sh_rng_init(&e->rng, 0);
    sh_chunk_init(&e->chunks, e->info.n_stages);
    st = sh_kv_index_create(&e->kv, e->info.n_groups, e->info.groups, &e->info.limits, err);
    if (!st) st = sh_kv_open(e->kv, 0, &e->seq, err);
    if (st) goto done;
    *out = e;
    e = NULL;

done:
    sh_engine_destroy(e);
    return st;
}

void sh_engine_destroy(struct sh_engine *e)
{
    if (!e) return;
    sh_kv_index_destroy(e->kv);
    sh_edits_release(&e->edits);
    sh_free(e->ids);
    sh_free(e->rows);
    sh_free(e);
}

enum shoal_status sh_engine_clear(struct sh_engine *e, struct shoal_error *err)
{
    // The edits that unmap the pages go with the next step.
    sh_kv_close(e->kv, e->seq, &e->edits);
    e->n_ids = 0;
    atomic_store(&e->cancelled, false);
    return sh_kv_open(e->kv, 0, &e->seq, err);
}

void sh_engine_set_sampler(struct sh_engine *e, const struct sh_sampler_params *p, uint32_t seed)
{
    e->sampler = *p;
    sh_rng_init(&e->rng, seed);
}

int64_t sh_engine_length(const struct sh_engine *e)
{
    return e->n_ids;
}

void sh_engine_cancel(struct sh_engine *e)
{
    atomic_store(&e->cancelled, true);
}

/* ---- one feed ------------------------------------------------------------------------------- */

struct feeding {
    const struct sh_feed *f;
    int64_t before;       /* length of the sequence */
    int64_t sent, passed; /* ids */
    int in_flight;
    double draw;
    int32_t token;
    struct {
        int64_t first, n; /* ids of a step */
        int64_t submitted_ns;
    } step[STEPS_MAX]; /* ring of the steps in flight */
    int oldest;
};

static int64_t chosen_rows(const struct sh_engine *e, const struct feeding *s)
{
    struct sh_chunk ahead[STEPS_MAX];

    for (int i = 0; i < s->in_flight; i++) {
        const int k = (s->oldest + i) % STEPS_MAX;
        ahead[i] = (struct sh_chunk){s->step[k].n, s->before + s->step[k].first};
    }
    return sh_chunk_choose(&e->chunks, ahead, s->in_flight, s->f->n - s->sent, s->before + s->sent,
                           e->info.limits.rows_max);
}

static int64_t chunk_rows(const struct sh_engine *e, const struct feeding *s)
{
    const struct sh_step_limits *l = &e->info.limits;
    int64_t n = s->f->n - s->sent;

    if (s->f->chunk > 0 && n > s->f->chunk) n = s->f->chunk;
    if (s->f->chunk == 0 && n > 1) n = chosen_rows(e, s);
    if (n > l->rows_max) n = l->rows_max;
    if (s->f->logits && n > l->wanted_max) n = l->wanted_max;
    return n;
}

/* What the sampler of the run's last row will look at.  A step may go over a network, so it holds
 * no more than that. */
static int32_t count_recent(const struct sh_engine *e, int64_t n_ids)
{
    const int32_t all = (int32_t)(n_ids < RECENT_MAX ? n_ids : RECENT_MAX);

    return sh_sampler_looks_back(&e->sampler, all);
}

static enum shoal_status submit_chunk(struct sh_engine *e, struct feeding *s,
                                      struct shoal_error *err)
{
    const int64_t n = chunk_rows(e, s), at = e->n_ids;
    struct sh_step_seq q = {.seq = e->seq, .n_rows = (int32_t)n, .sampler = e->sampler};
    struct sh_step step = {.epoch = e->epoch,
                           .number = e->number,
                           .rows = e->rows,
                           .n_rows = (int32_t)n,
                           .seqs = &q,
                           .n_seqs = 1};
    enum shoal_status st;

    st = sh_kv_append(e->kv, e->seq, n, &e->edits, err);
    if (st) return st;
    for (int64_t i = 0; i < n; i++) {
        const int32_t id = s->f->ids[s->sent + i];
        const bool last = s->sent + i + 1 == s->f->n;
        e->ids[at + i] = id;
        e->rows[i] = (struct sh_row){.token = id,
                                     .seq = e->seq,
                                     .pos = (int32_t)(at + i),
                                     .last = (int32_t)(at + i),
                                     .draw = s->draw};
        if (last && s->f->sample) e->rows[i].want = SH_WANT_TOKEN;
        if (s->f->logits) e->rows[i].want = SH_WANT_LOGITS;
    }
    sh_kv_states(e->kv, e->seq, &q.state_read, &q.state_write);
    if (e->rows[n - 1].want == SH_WANT_TOKEN) q.n_recent = count_recent(e, at + n);
    q.recent = e->ids + at + n - q.n_recent;
    step.prelude = e->edits.edit;
    step.n_prelude = e->edits.n;
    const int64_t now = sh_now_ns(&sh_clock_system);
    st = e->ops->submit(e->pipeline, &step, err);
    if (st) return st;
    sh_edits_clear(&e->edits);
    e->number++;
    e->n_ids += n;
    const int k = (s->oldest + s->in_flight) % STEPS_MAX;
    s->step[k].first = s->sent;
    s->step[k].n = n;
    s->step[k].submitted_ns = now;
    s->in_flight++;
    s->sent += n;
    return SHOAL_OK;
}

// Where both are asked for, the token of the last row is sampled from its logits here.
static enum shoal_status sample_here(struct sh_engine *e, struct feeding *s, const float *logits,
                                     struct shoal_error *err)
{
    struct sh_candidate *work = sh_calloc((size_t)e->info.n_vocab, sizeof *work);
    const int32_t n = count_recent(e, e->n_ids);
    enum shoal_status st;

    if (!work) return sh_fail(err, SHOAL_ERR_NOMEM, "engine: no memory to sample");
    st = sh_sample(&s->token, logits, e->info.n_vocab, &e->sampler, e->ids + e->n_ids - n, n,
                   s->draw, work, err);
    sh_free(work);
    return st;
}

// Wait for the oldest step in flight.  Its result is to be released where it is OK.
static enum shoal_status wait_result(struct sh_engine *e, struct sh_pipeline_result *r,
                                     struct shoal_error *err)
{
    enum shoal_status st;

    do {
        if (atomic_load(&e->cancelled)) e->ops->cancel(e->pipeline);
        st = e->ops->result(e->pipeline, 100 * SH_MS, r, err);
    } while (st == SHOAL_ERR_TIMEOUT && r->status != SHOAL_ERR_TIMEOUT);
    return st;
}

static enum shoal_status take_result(struct sh_engine *e, struct feeding *s,
                                     struct shoal_error *err)
{
    const int64_t first = s->step[s->oldest].first, n = s->step[s->oldest].n;
    const int64_t submitted = s->step[s->oldest].submitted_ns;
    struct sh_pipeline_result r;
    enum shoal_status st = wait_result(e, &r, err);

    s->oldest = (s->oldest + 1) % STEPS_MAX;
    s->in_flight--;
    if (st) return st;
    if (!s->f->logits) // those cost the last stage more than a prompt does
        sh_chunk_observe(&e->chunks, r.timings, r.n_timings, n, s->before + first, submitted);
    for (int32_t i = 0; i < r.n_results && !st; i++) {
        const struct sh_row_result *x = &r.results[i];
        if (x->want == SH_WANT_TOKEN) s->token = x->token;
        if (x->want != SH_WANT_LOGITS) continue;
        s->f->logits(s->f->self, first + x->row, x->logits, e->info.n_vocab);
        if (s->f->sample && first + x->row + 1 == s->f->n) st = sample_here(e, s, x->logits, err);
    }
    e->ops->release(e->pipeline, &r);
    if (st) return st;
    s->passed = first + n;
    sh_kv_confirm(e->kv, e->seq, s->before + s->passed, &e->edits);
    if (s->f->progress) s->f->progress(s->f->self, s->passed, s->f->n);
    return SHOAL_OK;
}

// After a failure: what is still in flight comes back, and counts for nothing.
static void drain(struct sh_engine *e, struct feeding *s)
{
    if (s->in_flight > 0) e->ops->cancel(e->pipeline);
    for (; s->in_flight > 0; s->in_flight--) {
        struct sh_pipeline_result r;
        if (!wait_result(e, &r, NULL)) e->ops->release(e->pipeline, &r);
    }
}

static enum shoal_status feed_all(struct sh_engine *e, struct feeding *s, struct shoal_error *err)
{
    const int most = e->info.in_flight_max < STEPS_MAX ? e->info.in_flight_max : STEPS_MAX;
    enum shoal_status st = SHOAL_OK;

    while (!st && s->passed < s->f->n) {
        while (!st && s->sent < s->f->n && s->in_flight < most && !atomic_load(&e->cancelled))
            st = submit_chunk(e, s, err);
        if (!st && s->in_flight == 0) st = sh_fail(err, SHOAL_ERR_CANCELLED, "engine: cancelled");
        if (!st) st = take_result(e, s, err);
    }
    return st;
}

static enum shoal_status can_feed(const struct sh_engine *e, const struct sh_feed *f,
                                  struct shoal_error *err)
{
    if (f->n <= 0) return sh_fail(err, SHOAL_ERR_ARG, "engine: nothing to feed");
    if (f->n <= e->n_ctx - e->n_ids) return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_LIMIT,
                   "engine: %lld tokens do not fit into the context of %lld (%lld in use)",
                   (long long)f->n, (long long)e->n_ctx, (long long)e->n_ids);
}

enum shoal_status sh_engine_feed(struct sh_engine *e, const struct sh_feed *f, int32_t *token,
                                 struct shoal_error *err)
{
    struct feeding s = {.f = f, .before = e->n_ids, .token = -1};
    const struct sh_rng rng = e->rng;
    enum shoal_status st = can_feed(e, f, err);

    if (!st && sh_kv_length(e->kv, e->seq) != e->n_ids) // a failed feed left more in the index
        st = sh_kv_truncate(e->kv, e->seq, e->n_ids, &e->edits, err);
    if (st) goto done;
    if (f->sample) s.draw = sh_rng_draw(&e->rng);
    st = feed_all(e, &s, err);
    if (st) {
        drain(e, &s);
        e->rng = rng; // the draw is still to come
        e->n_ids = s.before + s.passed;
        if (st == SHOAL_ERR_CANCELLED) atomic_store(&e->cancelled, false);
    }

done:
    if (token) *token = st ? -1 : s.token; // may be one of the ids: written last
    return st;
}
