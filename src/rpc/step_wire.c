/* rpc/step_wire.c - see step_wire.h: field by field, lists in the arena. */
#include "rpc/step_wire.h"

#define MESSAGE_MAX 320

static enum shoal_status no_memory(uint32_t n, const char *what, struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_NOMEM, "rpc: no memory for %u %s", (unsigned)n, what);
}

static enum shoal_status no_such(const char *what, uint32_t i, const char *field, int64_t value,
                                 struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_FORMAT, "rpc: %s %u: there is no %s %lld", what, (unsigned)i,
                   field, (long long)value);
}

/* A list of n in the arena; NULL for none, and where *st says so. */
static void *list_of(struct sh_arena *arena, int64_t n, size_t bytes, const char *what,
                     enum shoal_status *st, struct shoal_error *err)
{
    void *list;

    if (*st || n <= 0) return NULL;
    list = sh_arena_calloc(arena, (size_t)n, bytes);
    if (!list) *st = no_memory((uint32_t)n, what, err);
    return list;
}

/* ---- steps -----------------------------------------------------------------------------------*/

static struct sh_rpc_edit edit_from(const struct sh_prelude *e)
{
    return (struct sh_rpc_edit){.kind = (uint8_t)e->kind,
                                .seq = e->seq,
                                .from = e->from,
                                .group = e->group,
                                .index = e->index,
                                .page = e->page,
                                .page_from = e->page_from,
                                .begin = e->begin,
                                .end = e->end,
                                .delta = e->delta};
}

static struct sh_prelude edit_to(const struct sh_rpc_edit *e)
{
    return (struct sh_prelude){.kind = (enum sh_prelude_kind)e->kind,
                               .seq = e->seq,
                               .from = e->from,
                               .group = e->group,
                               .index = e->index,
                               .page = e->page,
                               .page_from = e->page_from,
                               .begin = e->begin,
                               .end = e->end,
                               .delta = e->delta};
}

static struct sh_rpc_row row_from(const struct sh_row *r)
{
    return (struct sh_rpc_row){.token = r->token,
                               .seq = r->seq,
                               .pos = r->pos,
                               .last = r->last,
                               .want = (uint8_t)r->want,
                               .top_k = r->top_k,
                               .draw = r->draw};
}

static struct sh_row row_to(const struct sh_rpc_row *r)
{
    return (struct sh_row){.token = r->token,
                           .seq = r->seq,
                           .pos = r->pos,
                           .last = r->last,
                           .want = (enum sh_want)r->want,
                           .top_k = r->top_k,
                           .draw = r->draw};
}

/* Ids are the same bytes either way, so their lists are borrowed. */
_Static_assert(sizeof(struct sh_rpc_id) == sizeof(int32_t), "an id is its number");

static struct sh_rpc_seq seq_from(const struct sh_step_seq *s, const struct sh_rpc_id *recent)
{
    return (struct sh_rpc_seq){.seq = s->seq,
                               .first_row = s->first_row,
                               .n_rows = s->n_rows,
                               .state_read = s->state_read,
                               .state_write = s->state_write,
                               .temp = s->sampler.temp,
                               .top_k = s->sampler.top_k,
                               .top_p = s->sampler.top_p,
                               .min_p = s->sampler.min_p,
                               .repeat_penalty = s->sampler.repeat_penalty,
                               .repeat_last_n = s->sampler.repeat_last_n,
                               .min_keep = s->sampler.min_keep,
                               .recent = recent,
                               .n_recent = recent ? (uint32_t)s->n_recent : 0};
}

static struct sh_step_seq seq_to(const struct sh_rpc_seq *s, const int32_t *recent)
{
    return (struct sh_step_seq){.seq = s->seq,
                                .first_row = s->first_row,
                                .n_rows = s->n_rows,
                                .state_read = s->state_read,
                                .state_write = s->state_write,
                                .sampler = {.temp = s->temp,
                                            .top_k = s->top_k,
                                            .top_p = s->top_p,
                                            .min_p = s->min_p,
                                            .repeat_penalty = s->repeat_penalty,
                                            .repeat_last_n = s->repeat_last_n,
                                            .min_keep = s->min_keep},
                                .recent = recent,
                                .n_recent = (int32_t)s->n_recent};
}

static enum shoal_status seqs_from(const struct sh_step *s, struct sh_arena *arena,
                                   struct sh_rpc_seq *out, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    for (int32_t i = 0; i < s->n_seqs && !st; i++) {
        const struct sh_step_seq *q = &s->seqs[i];
        struct sh_rpc_id *recent = list_of(arena, q->n_recent, sizeof *recent, "tokens", &st, err);
        if (recent) memcpy(recent, q->recent, (size_t)q->n_recent * sizeof *recent);
        if (!st) out[i] = seq_from(q, recent);
    }
    return st;
}

static enum shoal_status seqs_to(const struct sh_rpc_step *m, struct sh_arena *arena,
                                 struct sh_step_seq *out, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    for (uint32_t i = 0; i < m->n_seqs && !st; i++) {
        const struct sh_rpc_seq *q = &m->seqs[i];
        int32_t *recent = list_of(arena, q->n_recent, sizeof *recent, "tokens", &st, err);
        if (recent) memcpy(recent, q->recent, q->n_recent * sizeof *recent);
        if (!st) out[i] = seq_to(q, recent);
    }
    return st;
}

enum shoal_status sh_step_wire_from(const struct sh_step *s, struct sh_arena *arena,
                                    struct sh_rpc_step *out, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;
    struct sh_rpc_edit *edits = list_of(arena, s->n_prelude, sizeof *edits, "edits", &st, err);
    struct sh_rpc_row *rows = list_of(arena, s->n_rows, sizeof *rows, "rows", &st, err);
    struct sh_rpc_seq *seqs = list_of(arena, s->n_seqs, sizeof *seqs, "sequences", &st, err);

    if (!st && seqs) st = seqs_from(s, arena, seqs, err);
    if (st) return st;
    for (int32_t i = 0; edits && i < s->n_prelude; i++)
        edits[i] = edit_from(&s->prelude[i]);
    for (int32_t i = 0; rows && i < s->n_rows; i++)
        rows[i] = row_from(&s->rows[i]);
    *out = (struct sh_rpc_step){.epoch = s->epoch,
                                .number = s->number,
                                .n_embd = s->n_embd,
                                .edits = edits,
                                .n_edits = edits ? (uint32_t)s->n_prelude : 0,
                                .rows = rows,
                                .n_rows = rows ? (uint32_t)s->n_rows : 0,
                                .seqs = seqs,
                                .n_seqs = seqs ? (uint32_t)s->n_seqs : 0};
    return SHOAL_OK;
}

static enum shoal_status check_step(const struct sh_rpc_step *m, struct shoal_error *err)
{
    if (m->n_embd < 0) return no_such("STEP", 0, "n_embd", m->n_embd, err);
    for (uint32_t i = 0; i < m->n_edits; i++) {
        if (m->edits[i].kind > SH_PRELUDE_SHIFT)
            return no_such("edit", i, "kind", m->edits[i].kind, err);
    }
    for (uint32_t i = 0; i < m->n_rows; i++) {
        if (m->rows[i].want > SH_WANT_LOGITS)
            return no_such("row", i, "want", m->rows[i].want, err);
    }
    return SHOAL_OK;
}

enum shoal_status sh_step_wire_to(const struct sh_rpc_step *m, struct sh_arena *arena,
                                  struct sh_step *out, struct shoal_error *err)
{
    enum shoal_status st = check_step(m, err);
    struct sh_prelude *edits = list_of(arena, m->n_edits, sizeof *edits, "edits", &st, err);
    struct sh_row *rows = list_of(arena, m->n_rows, sizeof *rows, "rows", &st, err);
    struct sh_step_seq *seqs = list_of(arena, m->n_seqs, sizeof *seqs, "sequences", &st, err);

    if (!st && seqs) st = seqs_to(m, arena, seqs, err);
    if (st) return st;
    for (uint32_t i = 0; i < m->n_edits; i++)
        edits[i] = edit_to(&m->edits[i]);
    for (uint32_t i = 0; i < m->n_rows; i++)
        rows[i] = row_to(&m->rows[i]);
    *out = (struct sh_step){.epoch = m->epoch,
                            .number = m->number,
                            .prelude = edits,
                            .n_prelude = (int32_t)m->n_edits,
                            .rows = rows,
                            .n_rows = (int32_t)m->n_rows,
                            .seqs = seqs,
                            .n_seqs = (int32_t)m->n_seqs,
                            .n_embd = m->n_embd};
    return SHOAL_OK;
}

/* ---- results ---------------------------------------------------------------------------------*/

void sh_step_wire_timings_from(const struct sh_station_timing *t, int n, struct sh_rpc_timing *out)
{
    for (int i = 0; i < n; i++) {
        out[i] = (struct sh_rpc_timing){.stage = t[i].stage,
                                        .wait_us = t[i].wait_us,
                                        .queue_us = t[i].queue_us,
                                        .compute_us = t[i].compute_us};
    }
}

void sh_step_wire_timings_to(const struct sh_rpc_timing *t, uint32_t n,
                             struct sh_station_timing *out)
{
    for (uint32_t i = 0; i < n; i++) {
        out[i] = (struct sh_station_timing){.stage = t[i].stage,
                                            .wait_us = t[i].wait_us,
                                            .queue_us = t[i].queue_us,
                                            .compute_us = t[i].compute_us};
    }
}

static enum shoal_status outcome_from(const struct sh_row_result *r, struct sh_arena *arena,
                                      struct sh_rpc_outcome *out, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;
    const int32_t n = r->want == SH_WANT_TOP_K ? r->n_top : 0;
    struct sh_rpc_candidate *top = list_of(arena, n, sizeof *top, "candidates", &st, err);

    if (st) return st;
    for (int32_t i = 0; top && i < n; i++) {
        top[i] = (struct sh_rpc_candidate){
            .id = r->top[i].id, .logit = r->top[i].logit, .p = r->top[i].p};
    }
    *out = (struct sh_rpc_outcome){.row = r->row,
                                   .want = (uint8_t)r->want,
                                   .token = r->want == SH_WANT_TOKEN ? r->token : 0,
                                   .top = top,
                                   .n_top = top ? (uint32_t)n : 0};
    return SHOAL_OK;
}

static enum shoal_status message_from(const struct sh_station_output *o, struct sh_arena *arena,
                                      struct sh_rpc_result *out, struct shoal_error *err)
{
    char *text;

    if (!o->status || !o->error) return SHOAL_OK;
    text = sh_arena_calloc(arena, MESSAGE_MAX, 1);
    if (!text) return no_memory(MESSAGE_MAX, "bytes", err);
    out->message = sh_rpc_text_clean(text, MESSAGE_MAX, o->error->message);
    return SHOAL_OK;
}

enum shoal_status sh_step_wire_outcomes_from(const struct sh_row_result *results, int32_t n,
                                             struct sh_arena *arena, struct sh_rpc_result *out,
                                             struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;
    struct sh_rpc_outcome *list = list_of(arena, n, sizeof *list, "outcomes", &st, err);
    uint32_t n_logits = 0;

    for (int32_t i = 0; list && !st && i < n; i++) {
        st = outcome_from(&results[i], arena, &list[i], err);
        if (results[i].want == SH_WANT_LOGITS) n_logits++;
    }
    if (st) return st;
    out->outcomes = list;
    out->n_outcomes = list ? (uint32_t)n : 0;
    out->n_logits = n_logits;
    return SHOAL_OK;
}

enum shoal_status sh_step_wire_result_from(const struct sh_station_output *o,
                                           struct sh_arena *arena, struct sh_rpc_result *out,
                                           struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;
    struct sh_rpc_timing *times = list_of(arena, o->n_timings, sizeof *times, "timings", &st, err);

    *out = (struct sh_rpc_result){.epoch = o->epoch,
                                  .number = o->number,
                                  .status = sh_rpc_status_put(o->status),
                                  .here = o->status && o->here};
    if (!st) st = message_from(o, arena, out, err);
    if (!st && !o->status)
        st = sh_step_wire_outcomes_from(o->results, o->n_results, arena, out, err);
    if (st || !times) return st;
    sh_step_wire_timings_from(o->timings, o->n_timings, times);
    out->timings = times;
    out->n_timings = (uint32_t)o->n_timings;
    return SHOAL_OK;
}

static enum shoal_status outcomes_to(const struct sh_rpc_result *m, struct sh_arena *arena,
                                     struct sh_row_result *out, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;
    uint32_t n_logits = 0;

    for (uint32_t i = 0; i < m->n_outcomes && !st; i++) {
        const struct sh_rpc_outcome *o = &m->outcomes[i];
        struct sh_candidate *top;
        if (o->want == SH_WANT_NOTHING || o->want > SH_WANT_LOGITS)
            return no_such("outcome", i, "want", o->want, err);
        top = list_of(arena, o->n_top, sizeof *top, "candidates", &st, err);
        for (uint32_t k = 0; top && k < o->n_top; k++) {
            top[k] = (struct sh_candidate){
                .id = o->top[k].id, .logit = o->top[k].logit, .p = o->top[k].p};
        }
        out[i] = (struct sh_row_result){.row = o->row,
                                        .want = (enum sh_want)o->want,
                                        .token = o->token,
                                        .top = top,
                                        .n_top = (int32_t)o->n_top};
        if (o->want == SH_WANT_LOGITS) n_logits++;
    }
    if (!st && n_logits != m->n_logits) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "rpc: RESULT: %u rows of logits, %u want them",
                       (unsigned)m->n_logits, (unsigned)n_logits);
    }
    return st;
}

enum shoal_status sh_step_wire_result_to(const struct sh_rpc_result *m, struct sh_arena *arena,
                                         struct sh_station_output *out,
                                         struct sh_row_result **results, struct shoal_error *why,
                                         struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;
    struct sh_row_result *list = list_of(arena, m->n_outcomes, sizeof *list, "outcomes", &st, err);
    struct sh_station_timing *times =
        list_of(arena, m->n_timings, sizeof *times, "timings", &st, err);

    if (!st) st = outcomes_to(m, arena, list, err);
    if (st) return st;
    if (times) sh_step_wire_timings_to(m->timings, m->n_timings, times);
    *out = (struct sh_station_output){.epoch = m->epoch,
                                      .number = m->number,
                                      .status = sh_rpc_status_get(m->status),
                                      .here = m->here,
                                      .results = list,
                                      .n_results = (int32_t)m->n_outcomes,
                                      .timings = times,
                                      .n_timings = (int)m->n_timings};
    if (results) *results = list;
    *why = (struct shoal_error){.code = out->status};
    if (out->status) {
        sh_rpc_text_copy(why->message, sizeof why->message, m->message);
        out->error = why;
    }
    return SHOAL_OK;
}

/* ---- limits and groups -----------------------------------------------------------------------*/

enum shoal_status sh_step_wire_limits_from(const struct sh_step_limits *limits,
                                           const struct sh_kv_group *groups, int n_groups,
                                           struct sh_arena *arena, struct sh_rpc_stage_put *out,
                                           struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;
    struct sh_rpc_group *list = list_of(arena, n_groups, sizeof *list, "groups", &st, err);

    if (st) return st;
    for (int i = 0; list && i < n_groups; i++) {
        list[i] = (struct sh_rpc_group){.kind = (uint32_t)groups[i].kind,
                                        .window = groups[i].window,
                                        .pages = limits->pages[i]};
    }
    out->n_seqs = limits->n_seqs;
    out->n_positions = limits->n_positions;
    out->rows_max = limits->rows_max;
    out->wanted_max = limits->wanted_max;
    out->n_states = limits->n_states;
    out->groups = list;
    out->n_groups = list ? (uint32_t)n_groups : 0;
    return SHOAL_OK;
}

static enum shoal_status check_limit(const char *field, int64_t value, struct shoal_error *err)
{
    if (value >= 0) return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_FORMAT, "rpc: STAGE_PUT: %s is %lld", field, (long long)value);
}

enum shoal_status sh_step_wire_limits_to(const struct sh_rpc_stage_put *m,
                                         struct sh_step_limits *limits,
                                         struct sh_kv_group groups[SH_GROUPS_MAX], int *n_groups,
                                         struct shoal_error *err)
{
    enum shoal_status st = check_limit("n_seqs", m->n_seqs, err);

    if (!st) st = check_limit("n_positions", m->n_positions, err);
    if (!st) st = check_limit("rows_max", m->rows_max, err);
    if (!st) st = check_limit("wanted_max", m->wanted_max, err);
    if (!st) st = check_limit("n_states", m->n_states, err);
    if (st) return st;
    if (m->n_groups > SH_GROUPS_MAX) return no_such("group", m->n_groups, "place", 0, err);
    *limits = (struct sh_step_limits){.n_seqs = m->n_seqs,
                                      .n_groups = (int32_t)m->n_groups,
                                      .n_positions = m->n_positions,
                                      .rows_max = m->rows_max,
                                      .wanted_max = m->wanted_max,
                                      .n_states = m->n_states};
    for (uint32_t i = 0; i < m->n_groups; i++) {
        const struct sh_rpc_group *g = &m->groups[i];
        if (g->kind > SH_GROUP_STATE) return no_such("group", i, "kind", g->kind, err);
        if (g->window < 0) return no_such("group", i, "window", g->window, err);
        if (g->pages < 0) return no_such("group", i, "number of pages", g->pages, err);
        groups[i] = (struct sh_kv_group){.kind = (enum sh_group_kind)g->kind, .window = g->window};
        limits->pages[i] = g->pages;
    }
    *n_groups = (int)m->n_groups;
    return SHOAL_OK;
}

/* ---- weights ---------------------------------------------------------------------------------*/

_Static_assert(SH_MAX_DIMS == 4, "ne0 to ne3");

void sh_step_wire_weight_from(const char *name, const struct sh_weight *w,
                              struct sh_rpc_weight *out)
{
    *out = (struct sh_rpc_weight){.name = sh_rpc_text_from(name),
                                  .dtype = (uint32_t)w->dtype,
                                  .ne0 = w->ne[0],
                                  .ne1 = w->ne[1],
                                  .ne2 = w->ne[2],
                                  .ne3 = w->ne[3],
                                  .bytes = w->bytes,
                                  .axis = -1};
    if (w->sha256) memcpy(out->sha256, w->sha256, sizeof out->sha256);
}

enum shoal_status sh_step_wire_weight_to(const struct sh_rpc_weight *m, struct sh_arena *arena,
                                         const char **name, struct sh_weight *out,
                                         struct shoal_error *err)
{
    const int64_t ne[SH_MAX_DIMS] = {m->ne0, m->ne1, m->ne2, m->ne3};

    *name = sh_arena_strndup(arena, m->name.ptr ? m->name.ptr : "", m->name.n);
    if (!*name) return no_memory(m->name.n, "bytes", err);
    *out = (struct sh_weight){.bytes = (size_t)m->bytes, .sha256 = m->sha256};
    if (!sh_dtype_valid(m->dtype)) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "rpc: weight %s: there is no type %u", *name,
                       (unsigned)m->dtype);
    }
    out->dtype = (enum sh_dtype)m->dtype;
    for (int i = 0; i < SH_MAX_DIMS; i++) {
        if (ne[i] < 1) {
            return sh_fail(err, SHOAL_ERR_FORMAT, "rpc: weight %s: dimension %d is %lld", *name, i,
                           (long long)ne[i]);
        }
        out->ne[i] = ne[i];
    }
    return SHOAL_OK;
}
