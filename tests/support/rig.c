/* tests/support/rig.c - see rig.h. */
#include "support/rig.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cpu/device.h"
#include "support/plain_device.h"

enum { VOCAB = 96 };

static void must(enum shoal_status st, const struct shoal_error *err)
{
    if (st) fail_msg("%s: %s", shoal_status_name(st), err->message);
}

static enum shoal_status find_weight(void *self, const char *name, struct sh_weight *out,
                                     struct shoal_error *err)
{
    const struct sh_gguf_tensor *t = sh_gguf_find_tensor(self, sh_str_from(name));

    if (!t) return sh_fail(err, SHOAL_ERR_FORMAT, "no tensor %s", name);
    *out = (struct sh_weight){.dtype = t->dtype, .data = t->data, .bytes = t->data_bytes};
    memcpy(out->ne, t->ne, sizeof out->ne);
    return SHOAL_OK;
}

static struct sh_build_limits build_limits(const struct rig *r)
{
    struct sh_build_limits l = {.rows_max = r->o.rows_max,
                                .wanted_max = r->o.rows_max,
                                .n_seqs = r->o.n_seqs,
                                .n_positions = r->o.n_positions,
                                .cache_type = r->o.cache_f32 ? SH_DTYPE_F32 : SH_DTYPE_F16,
                                .n_ctx = r->o.n_positions};

    for (int g = 0; g < r->m->info.n_groups; g++) {
        const bool state = r->m->info.groups[g].kind == SH_MODEL_GROUP_STATE;
        l.pages[g] = state ? 64 : r->o.n_positions / SH_PAGE * r->o.n_seqs;
    }
    return l;
}

static struct sh_step_limits step_limits(const struct rig *r, const struct sh_build_limits *b)
{
    struct sh_step_limits l = {.n_seqs = (int32_t)b->n_seqs,
                               .n_groups = r->m->info.n_groups,
                               .n_positions = b->n_positions,
                               .rows_max = b->rows_max,
                               .wanted_max = b->wanted_max,
                               .n_states = 64};

    for (int g = 0; g < l.n_groups; g++)
        l.pages[g] = b->pages[g];
    return l;
}

static void set_groups(const struct rig *r, struct sh_kv_group *groups)
{
    for (int g = 0; g < r->m->info.n_groups; g++) {
        const bool state = r->m->info.groups[g].kind == SH_MODEL_GROUP_STATE;
        groups[g].kind = state ? SH_GROUP_STATE : SH_GROUP_FULL;
    }
}

enum shoal_status rig_make_stage(const struct rig *r, int i, int shard, struct sh_device *device,
                                 struct sh_stage **out, struct shoal_error *err)
{
    const struct sh_build_limits limits = build_limits(r);
    const struct sh_weight_source source = {.find = find_weight, .self = r->m->file};
    const int64_t n = r->m->info.n_layers;
    struct sh_part part = {.layer_begin = n * i / r->n_stages,
                           .layer_end = n * (i + 1) / r->n_stages,
                           .embed = i == 0,
                           .head = i + 1 == r->n_stages,
                           .n_shards = r->n_shards,
                           .rank = shard};
    struct sh_graph graph = {0}, rotate = {0};
    struct sh_stage_desc d = {.device = device,
                              .graph = &graph,
                              .rotate = r->m->info.can_shift ? &rotate : NULL,
                              .last = part.head,
                              .n_groups = r->m->info.n_groups,
                              .n_slots = r->o.n_slots};
    enum shoal_status st;

    memcpy(part.shares, r->o.shares, sizeof part.shares);
    rig_limits(r, &d.limits, d.groups);
    if (r->n_shards > 1) d.collective = sh_hub_shard(r->hub[i], shard);
    st = sh_model_build(r->m->model, &part, &limits, &graph, err);
    if (!st && d.rotate) st = sh_model_build_rotate(r->m->model, &part, &limits, &rotate, err);
    if (!st && r->o.change) {
        r->o.change(&graph);
        if (d.rotate) r->o.change(&rotate);
    }
    if (!st) st = sh_stage_create(out, &d, &source, err);
    sh_graph_release(&graph);
    sh_graph_release(&rotate);
    return st;
}

static void open_stage(struct rig *r, int i, int shard)
{
    const struct sh_cpu_options opt = {.n_threads = r->o.n_threads, .memory_max = 1u << 30};
    struct shoal_error err = SHOAL_ERROR_INIT;

    must(sh_cpu_device_open(&r->device[i][shard], &opt, &err), &err);
    if (r->o.plain) r->device[i][shard] = plain_device_over(r->device[i][shard]);
    must(rig_make_stage(r, i, shard, r->device[i][shard], &r->stage[i][shard], &err), &err);
}

void rig_plan(struct rig *r, struct tm_model *m, const struct rig_options *o)
{
    *r = (struct rig){.m = m, .o = *o, .n_vocab = (int32_t)m->info.n_vocab};
    assert_int_equal(r->n_vocab, VOCAB);
    r->n_stages = o->n_stages ? o->n_stages : 1;
    r->n_shards = o->n_shards ? o->n_shards : 1;
    if (!r->o.n_seqs) r->o.n_seqs = 8;
    if (!r->o.n_positions) r->o.n_positions = 512;
    if (!r->o.rows_max) r->o.rows_max = 256;
    if (!r->o.n_threads) r->o.n_threads = 1;
    if (!r->o.n_slots) r->o.n_slots = 1;
}

void rig_limits(const struct rig *r, struct sh_step_limits *limits, struct sh_kv_group *groups)
{
    const struct sh_build_limits b = build_limits(r);

    *limits = step_limits(r, &b);
    set_groups(r, groups);
}

void rig_open(struct rig *r, struct tm_model *m, const struct rig_options *o)
{
    struct sh_kv_group groups[SH_GROUPS_MAX] = {0};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_step_limits limits;

    rig_plan(r, m, o);
    for (int i = 0; i < r->n_stages; i++) {
        if (r->n_shards > 1) must(sh_hub_create(&r->hub[i], r->n_shards, &err), &err);
        for (int s = 0; s < r->n_shards; s++)
            open_stage(r, i, s);
    }
    rig_limits(r, &limits, groups);
    must(sh_kv_index_create(&r->kv, limits.n_groups, groups, &limits, &err), &err);
}

void rig_close(struct rig *r)
{
    for (int i = 0; i < r->n_stages; i++) {
        for (int s = 0; s < r->n_shards; s++)
            sh_stage_destroy(r->stage[i][s]);
        for (int s = 0; s < r->n_shards; s++)
            sh_device_close(r->device[i][s]);
        sh_hub_destroy(r->hub[i]);
    }
    sh_kv_index_destroy(r->kv);
    sh_edits_release(&r->edits);
}

int32_t rig_seq(struct rig *r, int64_t start)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t seq;

    must(sh_kv_open(r->kv, start, &seq, &err), &err);
    return seq;
}

void rig_end(struct rig *r, int32_t seq)
{
    sh_kv_close(r->kv, seq, &r->edits);
}

/* ---- steps ---------------------------------------------------------------------------------- */

// Append the runs to their sequences and write down the step.
static void compose(struct rig *r, const struct rig_run *runs, int n_runs, struct sh_step *step,
                    struct sh_row *rows, struct sh_step_seq *seqs)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t n = 0;

    for (int i = 0; i < n_runs; i++) {
        const int64_t at = sh_kv_length(r->kv, runs[i].seq);
        must(sh_kv_append(r->kv, runs[i].seq, runs[i].n, &r->edits, &err), &err);
        seqs[i] =
            (struct sh_step_seq){.seq = runs[i].seq, .first_row = n, .n_rows = (int32_t)runs[i].n};
        sh_kv_states(r->kv, runs[i].seq, &seqs[i].state_read, &seqs[i].state_write);
        for (int64_t k = 0; k < runs[i].n; k++) {
            rows[n++] = (struct sh_row){.token = runs[i].ids[k],
                                        .seq = runs[i].seq,
                                        .pos = (int32_t)(at + k),
                                        .last = (int32_t)(at + k),
                                        .want = runs[i].logits ? SH_WANT_LOGITS : SH_WANT_NOTHING};
        }
    }
    *step = (struct sh_step){.number = r->number++,
                             .prelude = r->edits.edit,
                             .n_prelude = r->edits.n,
                             .rows = rows,
                             .n_rows = n,
                             .seqs = seqs,
                             .n_seqs = n_runs};
}

// One step through one stage: submitted to all shards, then collected from all.
static void run_stage(struct rig *r, int i, const struct sh_step *step, const float *hidden,
                      struct sh_stage_output *out)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    for (int s = 0; s < r->n_shards; s++)
        must(sh_stage_submit(r->stage[i][s], step, hidden, &err), &err);
    for (int s = 0; s < r->n_shards; s++)
        must(sh_stage_result(r->stage[i][s], 60 * SH_SECOND, &out[s], &err), &err);
    for (int s = 1; s < r->n_shards; s++) {
        if (!out[0].hidden) continue;
        assert_memory_equal(out[0].hidden, out[s].hidden,
                            (size_t)(out[0].n_rows * out[0].width) * sizeof(float));
    }
}

static void release_stage(struct rig *r, int i, const struct sh_stage_output *out)
{
    for (int s = 0; s < r->n_shards; s++)
        sh_stage_release_output(r->stage[i][s], &out[s]);
}

static void take_logits(const struct rig *r, const struct sh_step *step, const struct rig_run *runs,
                        const struct sh_stage_output *out)
{
    for (int32_t k = 0; k < out->n_results; k++) {
        const int32_t row = out->results[k].row;
        for (int i = 0; i < step->n_seqs; i++) {
            const struct sh_step_seq *q = &step->seqs[i];
            if (row < q->first_row || row >= q->first_row + q->n_rows) continue;
            memcpy(runs[i].logits + (int64_t)(row - q->first_row) * r->n_vocab,
                   out->results[k].logits, (size_t)r->n_vocab * sizeof(float));
        }
    }
}

static void confirm(struct rig *r, const struct rig_run *runs, int n_runs)
{
    for (int i = 0; i < n_runs; i++)
        sh_kv_confirm(r->kv, runs[i].seq, sh_kv_length(r->kv, runs[i].seq), &r->edits);
}

void rig_step(struct rig *r, const struct rig_run *runs, int n_runs)
{
    struct sh_stage_output out[RIG_STAGES][RIG_SHARDS];
    struct sh_row rows[512];
    struct sh_step_seq seqs[8];
    struct sh_step step;

    compose(r, runs, n_runs, &step, rows, seqs);
    for (int i = 0; i < r->n_stages; i++) {
        run_stage(r, i, &step, i ? out[i - 1][0].hidden : NULL, out[i]);
        if (i) release_stage(r, i - 1, out[i - 1]);
    }
    take_logits(r, &step, runs, &out[r->n_stages - 1][0]);
    release_stage(r, r->n_stages - 1, out[r->n_stages - 1]);
    sh_edits_clear(&r->edits);
    confirm(r, runs, n_runs);
}

enum shoal_status rig_try(struct rig *r, const struct rig_run *run, struct shoal_error *err)
{
    struct sh_stage_output out;
    struct sh_row rows[512];
    struct sh_step_seq q;
    struct sh_step step;
    enum shoal_status st;

    assert_int_equal(r->n_stages * r->n_shards, 1);
    compose(r, run, 1, &step, rows, &q);
    must(sh_stage_submit(r->stage[0][0], &step, NULL, err), err);
    st = sh_stage_result(r->stage[0][0], 60 * SH_SECOND, &out, err);
    sh_edits_clear(&r->edits);
    if (st) return st;
    take_logits(r, &step, run, &out);
    sh_stage_release_output(r->stage[0][0], &out);
    confirm(r, run, 1);
    return SHOAL_OK;
}

void rig_start(struct rig *r, const struct rig_run *run, struct rig_flight *f)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    assert_int_equal(r->n_stages * r->n_shards, 1);
    *f = (struct rig_flight){.run = *run};
    f->rows = sh_calloc((size_t)run->n, sizeof *f->rows);
    f->seqs = sh_calloc(1, sizeof *f->seqs);
    compose(r, run, 1, &f->step, f->rows, f->seqs);
    f->prelude = sh_calloc((size_t)f->step.n_prelude, sizeof *f->prelude);
    if (f->step.n_prelude)
        memcpy(f->prelude, f->step.prelude, (size_t)f->step.n_prelude * sizeof *f->prelude);
    f->step.prelude = f->prelude;
    sh_edits_clear(&r->edits);
    must(sh_stage_submit(r->stage[0][0], &f->step, NULL, &err), &err);
}

void rig_finish(struct rig *r, struct rig_flight *f)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_stage_output out;

    must(sh_stage_result(r->stage[0][0], 60 * SH_SECOND, &out, &err), &err);
    assert_int_equal(out.number, f->step.number);
    take_logits(r, &f->step, &f->run, &out);
    sh_stage_release_output(r->stage[0][0], &out);
    sh_free(f->rows);
    sh_free(f->seqs);
    sh_free(f->prelude);
}

void rig_feed(struct rig *r, int32_t seq, const int32_t *ids, int64_t n, int64_t chunk,
              float *logits)
{
    if (chunk <= 0) chunk = 1;
    for (int64_t at = 0; at < n; at += chunk) {
        const struct rig_run run = {.seq = seq,
                                    .ids = ids + at,
                                    .n = n - at < chunk ? n - at : chunk,
                                    .logits = logits ? logits + at * r->n_vocab : NULL};
        rig_step(r, &run, 1);
    }
}

/* ---- comparing ------------------------------------------------------------------------------ */

void rig_ids(int32_t *ids, int64_t n, uint32_t seed, int32_t n_vocab)
{
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)tm_random(&seed, (uint32_t)n_vocab);
}

void rig_expect_equal(const char *what, const float *have, const float *want, int64_t n,
                      int32_t n_vocab)
{
    for (int64_t i = 0; i < n * n_vocab; i++) {
        if (memcmp(&have[i], &want[i], sizeof(float)) == 0) continue;
        fail_msg("%s: row %lld, token %lld is %.9g, expected %.9g", what, (long long)(i / n_vocab),
                 (long long)(i % n_vocab), (double)have[i], (double)want[i]);
    }
}

double rig_nmse(const float *have, const float *want, int64_t n)
{
    double num = 0, den = 0;

    for (int64_t i = 0; i < n; i++) {
        const double d = (double)have[i] - (double)want[i];
        num += d * d;
        den += (double)want[i] * (double)want[i];
    }
    return num / den;
}

float *rig_logits(int64_t n)
{
    float *p = sh_calloc((size_t)n * VOCAB, sizeof *p);

    assert_non_null(p);
    return p;
}

void rig_reference(struct tm_model *m, const int32_t *ids, int64_t n, float *logits)
{
    rig_reference_cached(m, ids, n, logits, false);
}

void rig_reference_cached(struct tm_model *m, const int32_t *ids, int64_t n, float *logits,
                          bool cache_f32)
{
    const struct rig_options o = {.cache_f32 = cache_f32};
    struct rig r;

    rig_open(&r, m, &o);
    rig_feed(&r, rig_seq(&r, 0), ids, n, 1, logits);
    rig_close(&r);
}
