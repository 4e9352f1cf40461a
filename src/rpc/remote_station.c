/* rpc/remote_station.c - a stage on a worker as a station (stage/station.h): the way out.
 *
 * A step leaves as STEP at once, whatever the stages before are doing, and its rows as HIDDEN when
 * they come.  STEP is encoded here for the rolling hash, into memory that is kept.  The place of a
 * step is ready before its STEP leaves, for the answer may be quick.
 *
 * Whose memory: results and rows land in the step's place (rpc/remote_output.c) and stay there
 * until release.  The number of the oldest step that is not released goes to the worker as `ack`,
 * of all its stations the least.
 */
#include "rpc/remote_priv.h"

#include <inttypes.h>
#include <string.h>

#include "base/fnv.h"
#include "base/mem.h"
#include "rpc/rows.h"
#include "rpc/step_wire.h"

#define LOGITS_BYTES_MAX ((size_t)64 << 20) /* of one step */

static struct sh_remote_station *of(struct sh_station *s)
{
    return (struct sh_remote_station *)(void *)s;
}

static enum shoal_status named(const struct sh_remote_station *s, enum shoal_status st,
                               struct shoal_error *err)
{
    if (st) sh_remote_name_error(s->r, err);
    return st;
}

/* ---- places of steps ------------------------------------------------------------------------*/

static enum shoal_status grow(void **p, size_t *cap, size_t n, size_t bytes,
                              struct shoal_error *err)
{
    void *more;

    if (n <= *cap) return SHOAL_OK;
    more = sh_realloc_array(*p, n, bytes);
    if (!more) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for results of %zu entries", n);
    *p = more;
    *cap = n;
    return SHOAL_OK;
}

// What the rows want, and room for it.
static enum shoal_status expect_results(const struct sh_remote_station *s,
                                        struct sh_remote_slot *slot, const struct sh_step *step,
                                        struct shoal_error *err)
{
    const size_t v = (size_t)s->width_out;
    size_t n_top = 0;
    void *p;
    enum shoal_status st;

    slot->n_want = slot->n_logits = 0;
    for (int32_t i = 0; i < step->n_rows && s->last; i++) {
        const struct sh_row *row = &step->rows[i];
        if (row->want == SH_WANT_NOTHING) continue;
        slot->want[slot->n_want] = (struct sh_row_result){.row = i, .want = row->want};
        slot->top_k[slot->n_want++] = row->top_k;
        if (row->want == SH_WANT_TOP_K) n_top += (size_t)row->top_k < v ? (size_t)row->top_k : v;
        if (row->want == SH_WANT_LOGITS) slot->n_logits++;
    }
    if ((size_t)slot->n_logits > LOGITS_BYTES_MAX / sizeof(float) / v) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "step %" PRIu64 " wants %d rows of %zu logits",
                       step->number, (int)slot->n_logits, v);
    }
    p = slot->top;
    st = grow(&p, &slot->top_cap, n_top, sizeof *slot->top, err);
    slot->top = p;
    if (st) return st;
    p = slot->logits;
    st = grow(&p, &slot->logits_cap, (size_t)slot->n_logits * v, sizeof(float), err);
    slot->logits = p;
    return st;
}

// Under the lock.
static enum shoal_status take_slot(struct sh_remote_station *s, const struct sh_step *step,
                                   struct shoal_error *err)
{
    struct sh_remote_slot *slot = sh_remote_slot(s, step->number);
    enum shoal_status st;

    if (step->epoch != s->epoch || step->number != s->next) {
        return sh_fail(err, SHOAL_ERR_STATE,
                       "stage %d: step %" PRIu64 " of epoch %" PRIu64 " comes when step %" PRIu64
                       " of epoch %" PRIu64 " is due",
                       s->index, step->number, step->epoch, s->next, s->epoch);
    }
    if (s->next - s->oldest >= (uint64_t)s->n_slots) {
        return sh_fail(err, SHOAL_ERR_STATE, "stage %d: %d steps are in flight or held already",
                       s->index, s->n_slots);
    }
    st = expect_results(s, slot, step, err);
    if (st) return st;
    slot->number = step->number;
    slot->used = true;
    slot->released = slot->is_out = slot->has_result = slot->here = false;
    slot->n_rows = step->n_rows;
    slot->rows_sent = slot->rows_here = 0;
    slot->logits_row = slot->logits_at = 0;
    slot->status = SHOAL_OK;
    slot->n_timings = 0;
    s->next++;
    if ((int)(s->next - s->out) > s->stats.in_flight_max)
        s->stats.in_flight_max = (int)(s->next - s->out);
    return SHOAL_OK;
}

void sh_remote_station_advance(struct sh_remote_station *s)
{
    while (s->oldest < s->next) {
        struct sh_remote_slot *slot = sh_remote_slot(s, s->oldest);
        // Of a joined stage nothing is heard where all is well: the caller knows when it is over.
        if (!slot->released || (!slot->is_out && !s->joined)) break;
        slot->used = false;
        s->oldest++;
        if (s->out < s->oldest) s->out = s->oldest;
    }
    atomic_store(&s->held, s->oldest);
}

static void tell_ack(struct sh_remote *r)
{
    uint64_t least = UINT64_MAX;

    sh_mutex_lock(&r->lock);
    for (int i = 0; i < r->n_stations; i++) {
        const uint64_t held = atomic_load(&r->station[i]->held);
        if (held < least) least = held;
    }
    sh_mutex_unlock(&r->lock);
    if (least == UINT64_MAX) return;
    atomic_store(&r->ack, least);
    sh_rpc_conn_set_ack(r->conn, least);
}

/* ---- steps ----------------------------------------------------------------------------------*/

static enum shoal_status room_for(struct sh_remote_station *s, size_t bytes,
                                  struct shoal_error *err)
{
    uint8_t *more;

    if (bytes <= s->frame_bytes) return SHOAL_OK;
    more = sh_realloc_array(s->frame, bytes, 1);
    if (!more) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a STEP of %zu bytes", bytes);
    s->frame = more;
    s->frame_bytes = bytes;
    return SHOAL_OK;
}

// The message, complete but for its ack; *hash is that of the epoch with it.
static enum shoal_status make_step(struct sh_remote_station *s, const struct sh_step *step,
                                   int64_t deadline_ns, struct sh_rpc_step *m, uint64_t *hash,
                                   size_t *bytes, struct shoal_error *err)
{
    const uint16_t revision = sh_rpc_conn_peer(s->r->conn)->revision;
    const bool limited = deadline_ns > 0 && deadline_ns != SH_NO_DEADLINE;
    const int64_t limit = limited ? deadline_ns : s->step_ns;
    const int64_t ms = limit / SH_MS + (limit % SH_MS != 0);
    struct sh_writer w;
    enum shoal_status st;

    sh_arena_reset(&s->arena);
    st = sh_step_wire_from(step, &s->arena, m, err);
    if (st) return st;
    m->stage = s->handle;
    m->deadline_ms = ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
    *bytes = sh_rpc_frame_bytes(SH_RPC_MSG_STEP, m, revision);
    st = room_for(s, *bytes ? *bytes : SH_RPC_HEAD_BYTES, err);
    if (st) return st;
    w = sh_writer_over(s->frame, s->frame_bytes);
    st = sh_rpc_encode(&w, SH_RPC_MSG_STEP, 0, m, revision, false, err);
    if (st) return st;
    *hash = sh_rpc_step_hash(s->hash, s->frame + SH_RPC_HEAD_BYTES, w.pos - SH_RPC_HEAD_BYTES);
    m->hash = *hash;
    return SHOAL_OK;
}

static enum shoal_status send_rows(struct sh_remote_station *s, uint64_t epoch, uint64_t number,
                                   int32_t first_row, int32_t n_rows, const void *f32,
                                   struct sh_rpc_timing *timings, int n_timings,
                                   struct shoal_error *err)
{
    const int32_t most = sh_rpc_rows_per_piece(SH_RPC_ROWS_F32, s->width_in);
    const size_t row_bytes = sh_rpc_row_bytes(SH_RPC_ROWS_F32, s->width_in);
    const uint8_t *from = f32;
    struct sh_rpc_hidden m = {.stage = s->handle,
                              .epoch = epoch,
                              .number = number,
                              .format = SH_RPC_ROWS_F32,
                              .timings = timings,
                              .n_timings = (uint32_t)n_timings};
    enum shoal_status st = SHOAL_OK;
    uint64_t bytes = 0;

    for (int32_t at = 0; at < n_rows && !st;) {
        const int32_t n = n_rows - at < most ? n_rows - at : most;
        m.first_row = (uint32_t)(first_row + at);
        m.n_rows = (uint32_t)n;
        m.data = (struct sh_rpc_bytes){.ptr = from + (size_t)at * row_bytes,
                                       .n = (uint32_t)((size_t)n * row_bytes)};
        st = sh_rpc_conn_send(s->r->conn, SH_RPC_MSG_HIDDEN, 0, &m, err);
        bytes += m.data.n + SH_RPC_HEAD_BYTES;
        m.n_timings = 0; // with the first piece
        at += n;
    }
    sh_mutex_lock(&s->lock);
    s->stats.bytes_in += bytes;
    sh_mutex_unlock(&s->lock);
    return named(s, st, err);
}

// The STEP is on its way: rows of it that come through this host may follow.
static void told(struct sh_remote_station *s, uint64_t next)
{
    sh_mutex_lock(&s->lock);
    s->told = next;
    sh_cond_broadcast(&s->calm);
    sh_mutex_unlock(&s->lock);
}

static enum shoal_status announce(struct sh_station *self, const struct sh_step *step,
                                  int64_t deadline_ns, struct shoal_error *err)
{
    struct sh_remote_station *s = of(self);
    struct sh_rpc_step m;
    uint64_t hash = 0;
    size_t bytes = 0;
    enum shoal_status st = sh_step_check(step, &s->limits, err);

    if (!st) st = make_step(s, step, deadline_ns, &m, &hash, &bytes, err);
    if (st) return st;
    sh_mutex_lock(&s->lock);
    st = take_slot(s, step, err);
    if (!st) s->stats.bytes_in += bytes;
    sh_mutex_unlock(&s->lock);
    if (st) return st;
    s->hash = hash;
    m.ack = atomic_load(&s->r->ack);
    st = named(s, sh_rpc_conn_send(s->r->conn, SH_RPC_MSG_STEP, 0, &m, err), err);
    if (s->backward) told(s, step->number + 1);
    if (!st && s->first && step->embd && step->n_embd > 0)
        st = send_rows(s, step->epoch, step->number, 0, step->n_embd, step->embd, NULL, 0, err);
    return st;
}

static enum shoal_status rows(struct sh_station *self, uint64_t number, int32_t first_row,
                              int32_t n_rows, const void *f32,
                              const struct sh_station_timing *timings, int n_timings,
                              struct shoal_error *err)
{
    struct sh_remote_station *s = of(self);
    struct sh_rpc_timing list[SH_STATION_TIMINGS_MAX];
    struct sh_remote_slot *slot = sh_remote_slot(s, number);
    enum shoal_status st = SHOAL_OK;
    uint64_t epoch;

    sh_mutex_lock(&s->lock);
    epoch = s->epoch;
    if (number >= s->next || number < s->oldest) {
        st = sh_fail(err, SHOAL_ERR_STATE, "stage %d: rows of step %" PRIu64 ", which is none",
                     s->index, number);
    } else if (first_row != slot->rows_sent || n_rows < 0 ||
               n_rows > (int32_t)s->limits.rows_max - first_row || s->width_in < 1) {
        st = sh_fail(err, SHOAL_ERR_ARG,
                     "stage %d: rows %d and %d more of step %" PRIu64 " when %d were sent",
                     s->index, (int)first_row, (int)n_rows, number, (int)slot->rows_sent);
    } else {
        slot->rows_sent += n_rows;
    }
    sh_mutex_unlock(&s->lock);
    if (st) return st;
    if (n_timings > SH_STATION_TIMINGS_MAX) n_timings = SH_STATION_TIMINGS_MAX;
    sh_step_wire_timings_from(timings, n_timings, list);
    return send_rows(s, epoch, number, first_row, n_rows, f32, list, n_timings, err);
}

static void pass(struct sh_station *self, uint64_t number, enum shoal_status st,
                 const struct shoal_error *why)
{
    struct sh_remote_station *s = of(self);
    struct sh_rpc_hidden m = {
        .stage = s->handle, .number = number, .status = sh_rpc_status_put(st)};
    bool is_due;

    (void)why; // the stage that failed has said it
    sh_mutex_lock(&s->lock);
    m.epoch = s->epoch;
    is_due = number >= s->oldest && number < s->next;
    sh_mutex_unlock(&s->lock);
    if (is_due) (void)!sh_rpc_conn_send(s->r->conn, SH_RPC_MSG_HIDDEN, 0, &m, NULL);
}

static void cancel(struct sh_station *self, uint64_t from, uint64_t to)
{
    struct sh_remote_station *s = of(self);
    struct sh_rpc_cancel m = {.from = from, .to = to};

    sh_mutex_lock(&s->lock);
    m.epoch = s->epoch;
    sh_mutex_unlock(&s->lock);
    (void)!sh_rpc_conn_send(s->r->conn, SH_RPC_MSG_CANCEL, 0, &m, NULL);
}

static void release(struct sh_station *self, uint64_t number)
{
    struct sh_remote_station *s = of(self);
    struct sh_remote_slot *slot = sh_remote_slot(s, number);

    sh_mutex_lock(&s->lock);
    if (slot->used && slot->number == number) slot->released = true;
    sh_remote_station_advance(s);
    sh_mutex_unlock(&s->lock);
    tell_ack(s->r);
}

/* ---- epochs ---------------------------------------------------------------------------------*/

// Under the remote's lock.  What comes of older epochs is dropped from here on.
static void begin_epoch(struct sh_remote *r, uint64_t epoch)
{
    r->epoch = epoch;
    for (int i = 0; i < r->n_stations; i++) {
        sh_mutex_lock(&r->station[i]->lock);
        r->station[i]->epoch = epoch;
        sh_mutex_unlock(&r->station[i]->lock);
    }
}

static void forget_steps(struct sh_remote_station *s)
{
    sh_mutex_lock(&s->lock);
    for (int i = 0; i < s->n_slots; i++)
        s->slot[i].used = false;
    s->next = s->out = s->oldest = s->told = 0;
    s->hash = SH_FNV_START;
    atomic_store(&s->held, 0);
    sh_mutex_unlock(&s->lock);
}

// One RESET is for all stages of the worker, so the first of its stations asks for all.  When the
// answer is here, everything that came before it has been through the sinks.
static enum shoal_status reset(struct sh_station *self, uint64_t epoch, struct shoal_error *err)
{
    struct sh_remote *r = of(self)->r;
    const struct sh_rpc_reset msg = {.epoch = epoch};
    struct sh_rpc_reset_done answer;
    struct sh_arena arena = SH_ARENA_INIT;
    enum shoal_status st = SHOAL_OK;
    bool is_begun;

    sh_mutex_lock(&r->lock);
    is_begun = r->epoch == epoch;
    if (epoch < r->epoch) {
        st = sh_fail(err, SHOAL_ERR_ARG, "epoch %" PRIu64 " comes after epoch %" PRIu64, epoch,
                     r->epoch);
    } else if (!is_begun) {
        begin_epoch(r, epoch);
    }
    sh_mutex_unlock(&r->lock);
    if (st || is_begun) return st;
    st = sh_remote_ask(r, SH_RPC_MSG_RESET, &msg, &answer, &arena, err);
    sh_arena_release(&arena);
    if (st) return st;
    atomic_store(&r->ack, 0);
    sh_rpc_conn_set_ack(r->conn, 0);
    sh_mutex_lock(&r->lock);
    for (int i = 0; i < r->n_stations; i++)
        forget_steps(r->station[i]);
    sh_mutex_unlock(&r->lock);
    return SHOAL_OK;
}

/* ---- life -----------------------------------------------------------------------------------*/

static void stats(struct sh_station *self, struct sh_station_stats *out)
{
    struct sh_remote_station *s = of(self);

    sh_mutex_lock(&s->lock);
    *out = s->stats;
    sh_mutex_unlock(&s->lock);
}

static void close_station(struct sh_station *self)
{
    struct sh_remote_station *s = of(self);
    struct sh_remote *r = s->r;

    sh_mutex_lock(&s->lock);
    s->closing = true;
    while (s->busy)
        sh_cond_wait(&s->calm, &s->lock, INT64_MAX);
    sh_mutex_unlock(&s->lock);
    sh_remote_link_leave(s);
    sh_remote_stage_drop(s);
    sh_mutex_lock(&r->lock);
    for (int i = 0; i < r->n_stations; i++) {
        if (r->station[i] != s) continue;
        r->station[i] = r->station[--r->n_stations];
        break;
    }
    sh_mutex_unlock(&r->lock);
    sh_remote_station_destroy(s);
}

static const struct sh_station_ops OPS = {.announce = announce,
                                          .rows = rows,
                                          .pass = pass,
                                          .cancel = cancel,
                                          .reset = reset,
                                          .release = release,
                                          .stats = stats,
                                          .close = close_station};

struct sh_remote_station *sh_remote_station_of(struct sh_station *s)
{
    struct sh_station_head *head = (struct sh_station_head *)(void *)s;

    return head && head->ops == &OPS ? of(s) : NULL;
}

static enum shoal_status make_slots(struct sh_remote_station *s, struct shoal_error *err)
{
    const size_t rows_max = (size_t)s->limits.rows_max, wanted = (size_t)s->limits.wanted_max;

    s->slot = sh_calloc((size_t)s->n_slots, sizeof *s->slot);
    for (int i = 0; i < s->n_slots && s->slot; i++) {
        struct sh_remote_slot *slot = &s->slot[i];
        size_t floats;
        if (!sh_mul_ok(rows_max, (size_t)s->width_out, &floats)) floats = SIZE_MAX;
        // Large blocks: pages that no row comes to are never touched.
        if (!s->last) slot->hidden = sh_realloc_array(NULL, floats, sizeof(float));
        if (s->last) slot->want = sh_calloc(wanted, sizeof *slot->want);
        if (s->last) slot->top_k = sh_calloc(wanted, sizeof *slot->top_k);
        if (s->last ? slot->want && slot->top_k : slot->hidden != NULL) continue;
        return sh_fail(err, SHOAL_ERR_NOMEM,
                       "stage %d: no memory for the outputs of %d steps of %zu rows", s->index,
                       s->n_slots, rows_max);
    }
    if (!s->slot) return sh_fail(err, SHOAL_ERR_NOMEM, "stage %d: no memory for steps", s->index);
    return SHOAL_OK;
}

enum shoal_status sh_remote_station_create(struct sh_remote_station **out, struct sh_remote *r,
                                           const struct sh_remote_stage_desc *desc,
                                           struct shoal_error *err)
{
    struct sh_remote_station *s = sh_calloc(1, sizeof *s);
    enum shoal_status st;

    *out = NULL;
    if (!s) return sh_fail(err, SHOAL_ERR_NOMEM, "stage %d: no memory for it", desc->index);
    s->head.ops = &OPS;
    s->r = r;
    s->index = desc->index;
    s->first = desc->first;
    s->last = desc->last;
    s->n_slots = desc->n_slots;
    s->limits = desc->limits;
    s->width_in = desc->width_in;
    s->width_out = desc->width_out;
    s->step_ns = desc->step_ns > 0 ? desc->step_ns : 0;
    s->sink = desc->sink;
    s->hash = SH_FNV_START;
    s->arena = (struct sh_arena)SH_ARENA_INIT;
    sh_mutex_init(&s->lock);
    sh_cond_init(&s->calm);
    st = make_slots(s, err);
    if (st) {
        sh_remote_station_destroy(s);
        return st;
    }
    *out = s;
    return SHOAL_OK;
}

void sh_remote_station_destroy(struct sh_remote_station *s)
{
    if (!s) return;
    for (int i = 0; i < s->n_slots && s->slot; i++) {
        sh_free(s->slot[i].hidden);
        sh_free(s->slot[i].want);
        sh_free(s->slot[i].top_k);
        sh_free(s->slot[i].top);
        sh_free(s->slot[i].logits);
    }
    sh_free(s->slot);
    sh_free(s->frame);
    sh_arena_release(&s->arena);
    sh_cond_release(&s->calm);
    sh_mutex_release(&s->lock);
    sh_free(s);
}
