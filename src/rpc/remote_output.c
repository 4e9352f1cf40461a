/* rpc/remote_output.c - what a worker says of a station's steps: hidden rows, results, logits.
 *
 *     hidden rows    pieces in order, HIDDEN; a failure at an earlier stage: HIDDEN with its status
 *     last stage     RESULT, then LOGITS row by row where rows want them
 *     failed here    RESULT with the status, at any stage; a HIDDEN with it follows where rows go
 *
 * Nothing of it is trusted.  A step must be one that was announced, of this epoch, the next whose
 * output is due; results must be those of the rows that want some, tokens within the vocabulary,
 * pieces without gaps and within what the step has.  The first lie ends the worker's connection,
 * with one sentence that names worker, stage and step.  Frames of an older epoch were under way
 * when it ended, and are dropped.
 *
 * Where a stage's rows go straight to another worker, only its failures are heard of here, and the
 * last stage may be heard first: a failure of a step that is over already is dropped, too.
 */
#include "rpc/remote_priv.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cursor.h"
#include "rpc/rows.h"
#include "rpc/step_wire.h"

SHOAL_PRINTF(4, 5)
static enum shoal_status lie(const struct sh_remote_station *s, uint64_t number,
                             struct shoal_error *err, const char *fmt, ...)
{
    char what[160];
    va_list args;

    va_start(args, fmt);
    if (vsnprintf(what, sizeof what, fmt, args) < 0) what[0] = '\0';
    va_end(args);
    (void)sh_fail(err, SHOAL_ERR_FORMAT, "worker %s, stage %d, step %" PRIu64 ": %s", s->r->address,
                  s->index, number, what);
    sh_error_set_peer(err, s->r->address);
    return SHOAL_ERR_FORMAT;
}

/* ---- which step it is -----------------------------------------------------------------------*/

// Under the lock.  *slot stays NULL for what is to be dropped.
static enum shoal_status find_slot(struct sh_remote_station *s, const char *what, uint64_t epoch,
                                   uint64_t number, bool failure, struct sh_remote_slot **slot,
                                   struct shoal_error *err)
{
    *slot = NULL;
    if (epoch < s->epoch) return SHOAL_OK;
    if (epoch > s->epoch) {
        return lie(s, number, err, "%s of epoch %" PRIu64 ", which has not begun", what, epoch);
    }
    if (number >= s->next) return lie(s, number, err, "%s of a step that was not sent", what);
    if (number < s->out) {
        return failure ? SHOAL_OK : lie(s, number, err, "%s of a step that is over", what);
    }
    if (number > s->out && !s->joined) {
        return lie(s, number, err, "%s comes when that of step %" PRIu64 " is due", what, s->out);
    }
    *slot = sh_remote_slot(s, number);
    return SHOAL_OK;
}

static enum shoal_status take_timings(struct sh_remote_station *s, struct sh_remote_slot *slot,
                                      const struct sh_rpc_timing *t, uint32_t n,
                                      struct shoal_error *err)
{
    if (n > SH_STATION_TIMINGS_MAX) n = SH_STATION_TIMINGS_MAX;
    sh_step_wire_timings_to(t, n, slot->timing);
    slot->n_timings = (int)n;
    for (uint32_t i = 0; i < n; i++) {
        if (t[i].stage >= SH_REMOTE_STAGES_MAX) {
            return lie(s, slot->number, err, "timing of stage %u", (unsigned)t[i].stage);
        }
        if (t[i].stage != (uint32_t)s->index) continue;
        s->stats.wait_ns += (int64_t)t[i].wait_us * 1000;
        s->stats.queue_ns += (int64_t)t[i].queue_us * 1000;
        s->stats.compute_ns += (int64_t)t[i].compute_us * 1000;
    }
    return SHOAL_OK;
}

// Under the lock, which is given up for the call: the step is out.
static void put_out(struct sh_remote_station *s, struct sh_remote_slot *slot)
{
    const bool ok = slot->status == SHOAL_OK;
    const struct sh_station_output out = {.epoch = s->epoch,
                                          .number = slot->number,
                                          .status = slot->status,
                                          .error = ok ? NULL : &slot->error,
                                          .here = slot->here,
                                          .hidden = ok && !s->last ? slot->hidden : NULL,
                                          .width = s->width_out,
                                          .n_rows = ok && !s->last ? slot->n_rows : 0,
                                          .results = ok && s->last ? slot->want : NULL,
                                          .n_results = ok && s->last ? slot->n_want : 0,
                                          .timings = slot->timing,
                                          .n_timings = slot->n_timings};

    const bool early = slot->released; // then the place must live as long as the call

    s->out = slot->number + 1;
    s->stats.steps++;
    slot->is_out = !early;
    sh_mutex_unlock(&s->lock);
    s->sink.output(s->sink.self, &out);
    sh_mutex_lock(&s->lock);
    if (early) slot->is_out = true;
    if (early) sh_remote_station_advance(s);
}

// The stage that failed says why; others only that it was not they.
static void set_failure(struct sh_remote_station *s, struct sh_remote_slot *slot, uint32_t status,
                        struct sh_rpc_text message)
{
    char text[240];

    sh_rpc_text_copy(text, sizeof text, message);
    slot->status = sh_rpc_status_get(status);
    if (slot->here) {
        (void)sh_fail(&slot->error, slot->status, "worker %s, stage %d, step %" PRIu64 ": %s",
                      s->r->address, s->index, slot->number,
                      text[0] ? text : shoal_status_name(slot->status));
        sh_error_set_peer(&slot->error, s->r->address);
    } else {
        (void)sh_fail(&slot->error, slot->status, "%s",
                      text[0] ? text : "the step failed at an earlier stage");
    }
}

/* ---- hidden rows ----------------------------------------------------------------------------*/

static enum shoal_status take_rows(struct sh_remote_station *s, struct sh_remote_slot *slot,
                                   const struct sh_rpc_hidden *m, struct shoal_error *err)
{
    struct shoal_error why = SHOAL_ERROR_INIT;
    enum shoal_status st = SHOAL_OK;

    if (m->first_row != (uint32_t)slot->rows_here ||
        m->n_rows > (uint32_t)(slot->n_rows - slot->rows_here) ||
        (m->n_rows == 0 && slot->n_rows > 0)) {
        return lie(s, slot->number, err, "rows %u and %u more come when %d of %d are here",
                   (unsigned)m->first_row, (unsigned)m->n_rows, (int)slot->rows_here,
                   (int)slot->n_rows);
    }
    if (sh_rpc_rows_check(m->format, s->width_out, m->n_rows, m->data.n, &why))
        return lie(s, slot->number, err, "%.120s", why.message);
    if (m->first_row == 0) st = take_timings(s, slot, m->timings, m->n_timings, err);
    if (st) return st;
    sh_rpc_rows_decode((enum sh_rpc_format)m->format, s->width_out, m->n_rows,
                       slot->hidden + (int64_t)slot->rows_here * s->width_out, m->data.ptr);
    slot->rows_here += (int32_t)m->n_rows;
    if (slot->rows_here == slot->n_rows) put_out(s, slot);
    return SHOAL_OK;
}

static enum shoal_status on_hidden(struct sh_remote_station *s, const struct sh_rpc_hidden *m,
                                   struct shoal_error *err)
{
    struct sh_remote_slot *slot;
    enum shoal_status st = find_slot(s, "HIDDEN", m->epoch, m->number, m->status != 0, &slot, err);

    if (st || !slot) return st;
    if (s->last || s->joined)
        return lie(s, m->number, err, "HIDDEN of a stage whose rows do not come here");
    if (m->status == 0) return take_rows(s, slot, m, err);
    if (m->n_rows > 0 || m->data.n > 0) return lie(s, m->number, err, "rows of a step that failed");
    st = take_timings(s, slot, m->timings, m->n_timings, err);
    if (st) return st;
    set_failure(s, slot, m->status, (struct sh_rpc_text){.n = 0});
    put_out(s, slot);
    return SHOAL_OK;
}

/* ---- results --------------------------------------------------------------------------------*/

static enum shoal_status take_top(struct sh_remote_station *s, struct sh_remote_slot *slot,
                                  struct sh_row_result *want, int32_t top_k, size_t *used,
                                  const struct sh_rpc_outcome *o, struct shoal_error *err)
{
    const int64_t most = top_k < s->width_out ? top_k : s->width_out;

    if (o->n_top != (uint64_t)most) {
        return lie(s, slot->number, err, "row %d has %u candidates instead of %lld", (int)o->row,
                   (unsigned)o->n_top, (long long)most);
    }
    want->top = slot->top + *used;
    want->n_top = (int32_t)most;
    for (uint32_t i = 0; i < o->n_top; i++) {
        const struct sh_rpc_candidate *c = &o->top[i];
        if (c->id < 0 || c->id >= s->width_out) {
            return lie(s, slot->number, err, "candidate %d of a vocabulary of %lld", (int)c->id,
                       (long long)s->width_out);
        }
        slot->top[(*used)++] = (struct sh_candidate){.id = c->id, .logit = c->logit, .p = c->p};
    }
    return SHOAL_OK;
}

static enum shoal_status take_outcome(struct sh_remote_station *s, struct sh_remote_slot *slot,
                                      int32_t i, size_t *used, const struct sh_rpc_outcome *o,
                                      struct shoal_error *err)
{
    struct sh_row_result *want = &slot->want[i];

    if (o->row != want->row || o->want != (uint8_t)want->want) {
        return lie(s, slot->number, err, "result %d is of row %d instead of row %d", (int)i,
                   (int)o->row, (int)want->row);
    }
    if (want->want == SH_WANT_TOP_K) return take_top(s, slot, want, slot->top_k[i], used, o, err);
    if (o->n_top > 0) return lie(s, slot->number, err, "row %d wants no candidates", (int)o->row);
    if (want->want == SH_WANT_TOKEN && (o->token < 0 || o->token >= s->width_out)) {
        return lie(s, slot->number, err, "token %d of a vocabulary of %lld", (int)o->token,
                   (long long)s->width_out);
    }
    want->token = o->token;
    return SHOAL_OK;
}

static enum shoal_status take_results(struct sh_remote_station *s, struct sh_remote_slot *slot,
                                      const struct sh_rpc_result *m, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;
    size_t used = 0;

    if (!s->last) return lie(s, slot->number, err, "results of a stage that is not the last");
    if (slot->has_result) return lie(s, slot->number, err, "RESULT comes twice");
    if (m->n_outcomes != (uint32_t)slot->n_want || m->n_logits != (uint32_t)slot->n_logits) {
        return lie(s, slot->number, err, "%u results, %u of logits, instead of %d, %d",
                   (unsigned)m->n_outcomes, (unsigned)m->n_logits, (int)slot->n_want,
                   (int)slot->n_logits);
    }
    for (int32_t i = 0; i < slot->n_want && !st; i++)
        st = take_outcome(s, slot, i, &used, &m->outcomes[i], err);
    if (!st) st = take_timings(s, slot, m->timings, m->n_timings, err);
    if (st) return st;
    slot->has_result = true;
    if (slot->n_logits == 0) put_out(s, slot);
    return SHOAL_OK;
}

static enum shoal_status on_result(struct sh_remote_station *s, const struct sh_rpc_result *m,
                                   struct shoal_error *err)
{
    struct sh_remote_slot *slot;
    enum shoal_status st = find_slot(s, "RESULT", m->epoch, m->number, m->status != 0, &slot, err);

    if (st || !slot) return st;
    if (m->status == 0) return take_results(s, slot, m, err);
    if (slot->has_result) return lie(s, m->number, err, "RESULT comes twice");
    st = take_timings(s, slot, m->timings, m->n_timings, err);
    if (st) return st;
    slot->here = m->here; // the last stage answers for steps that failed before it, too
    set_failure(s, slot, m->status, m->message);
    put_out(s, slot);
    return SHOAL_OK;
}

/* ---- logits ---------------------------------------------------------------------------------*/

// The row among those that want logits, and where they lie.
static struct sh_row_result *logits_row(struct sh_remote_slot *slot, int32_t n)
{
    for (int32_t i = 0; i < slot->n_want; i++) {
        if (slot->want[i].want == SH_WANT_LOGITS && n-- == 0) return &slot->want[i];
    }
    return NULL;
}

static void read_floats(float *dst, const uint8_t *src, size_t n)
{
    struct sh_reader r = sh_reader_over(src, n * sizeof *dst);

    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = sh_read_u32(&r);
        memcpy(&dst[i], &bits, sizeof bits);
    }
}

static enum shoal_status on_logits(struct sh_remote_station *s, const struct sh_rpc_logits *m,
                                   struct shoal_error *err)
{
    struct sh_remote_slot *slot;
    struct sh_row_result *row;
    enum shoal_status st = find_slot(s, "LOGITS", m->epoch, m->number, false, &slot, err);
    const size_t n = m->data.n / sizeof(float);
    float *dst;

    if (st || !slot) return st;
    row = slot->has_result ? logits_row(slot, slot->logits_row) : NULL;
    if (!row) return lie(s, m->number, err, "LOGITS that no row wants");
    if (m->row != row->row || m->first != (uint32_t)slot->logits_at || n == 0 ||
        m->data.n % sizeof(float) != 0 || n > (size_t)(s->width_out - slot->logits_at)) {
        return lie(s, m->number, err,
                   "%zu bytes of logits from %u of row %d, when %d of %lld of row %d are here",
                   (size_t)m->data.n, (unsigned)m->first, (int)m->row, (int)slot->logits_at,
                   (long long)s->width_out, (int)row->row);
    }
    dst = slot->logits + (int64_t)slot->logits_row * s->width_out;
    read_floats(dst + slot->logits_at, m->data.ptr, n);
    slot->logits_at += (int32_t)n;
    if (slot->logits_at < s->width_out) return SHOAL_OK;
    row->logits = dst;
    slot->logits_at = 0;
    if (++slot->logits_row == slot->n_logits) put_out(s, slot);
    return SHOAL_OK;
}

enum shoal_status sh_remote_station_message(struct sh_remote_station *s,
                                            const struct sh_rpc_incoming *m,
                                            struct shoal_error *err)
{
    enum shoal_status st;

    if (m->type == SH_RPC_MSG_HIDDEN && sh_remote_link_rows(s, m->msg)) return SHOAL_OK;
    sh_mutex_lock(&s->lock);
    s->stats.bytes_out += m->n + SH_RPC_HEAD_BYTES;
    if (m->type == SH_RPC_MSG_HIDDEN) {
        st = on_hidden(s, m->msg, err);
    } else if (m->type == SH_RPC_MSG_RESULT) {
        st = on_result(s, m->msg, err);
    } else {
        st = on_logits(s, m->msg, err);
    }
    sh_mutex_unlock(&s->lock);
    return st;
}

void sh_remote_station_lost(struct sh_remote_station *s, enum shoal_status st,
                            const struct shoal_error *why)
{
    struct shoal_error err = *why;
    uint64_t step;
    bool told;

    sh_mutex_lock(&s->lock);
    told = s->told_lost;
    s->told_lost = true;
    step = s->out;
    sh_mutex_unlock(&s->lock);
    if (!strstr(why->message, "stage ")) {
        (void)sh_fail(&err, why->code, "%.250s (stage %d, step %" PRIu64 ")", why->message,
                      s->index, step);
        err.sys_errno = why->sys_errno;
        sh_error_set_peer(&err, why->peer);
    }
    if (!told && s->sink.lost) s->sink.lost(s->sink.self, st, &err);
}
