/* rpc/hosted.c - what comes in for a stage: steps, rows, cancels, a new epoch.
 *
 * Steps come from one thread, the one that works on the session; rows from it or from a link's.
 * `in` makes one order of them, so rows of an old epoch cannot slip into a new one.
 */
#include "rpc/hosted_priv.h"

#include <inttypes.h>

#include "base/fnv.h"
#include "base/mem.h"
#include "rpc/rows.h"
#include "rpc/step_wire.h"

static struct sh_hosted_arrival *arrival_at(struct sh_hosted *h, uint64_t number)
{
    return &h->arrival[number % (uint64_t)h->n_slots];
}

/* ---- steps ----------------------------------------------------------------------------------*/

/* Under `in`: nothing runs until RESET, and the host is told so once. */
static void fall_out(struct sh_hosted *h, enum shoal_status st, const struct shoal_error *why)
{
    char text[400];
    const struct sh_rpc_error m = {.status = sh_rpc_status_put(st),
                                   .message = sh_rpc_text_clean(text, sizeof text, why->message)};

    h->desync = true;
    (void)sh_session_send(h->session, SH_RPC_MSG_ERROR, 0, &m);
}

/* Does the step follow the one before it? */
static enum shoal_status check_step(const struct sh_hosted *h, const struct sh_rpc_step *m,
                                    uint64_t hash, struct shoal_error *err)
{
    if (m->epoch > h->epoch) {
        return sh_fail(err, SHOAL_ERR_STATE,
                       "desync: stage %u got a step of epoch %" PRIu64 " in epoch %" PRIu64,
                       (unsigned)h->index, m->epoch, h->epoch);
    }
    if (m->number != h->next) {
        return sh_fail(err, SHOAL_ERR_STATE,
                       "desync: stage %u got step %" PRIu64 " when step %" PRIu64 " was due",
                       (unsigned)h->index, m->number, h->next);
    }
    if (m->hash != hash) {
        return sh_fail(err, SHOAL_ERR_STATE,
                       "desync: stage %u got step %" PRIu64 " with another hash",
                       (unsigned)h->index, m->number);
    }
    if (m->n_embd < 0 || m->n_embd > h->rows_max || (m->n_embd > 0 && h->width_in == 0)) {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "step %" PRIu64 " has %d embedding rows, stage %u takes at most %" PRId64,
                       m->number, (int)m->n_embd, (unsigned)h->index,
                       h->width_in ? h->rows_max : 0);
    }
    return SHOAL_OK;
}

/* Under `in`. */
static enum shoal_status announce(struct sh_hosted *h, const struct sh_rpc_step *m,
                                  struct shoal_error *err)
{
    const int64_t most = h->session->server->opt.step_ns;
    const int64_t asked = (int64_t)m->deadline_ms * SH_MS;
    struct sh_step step;
    enum shoal_status st;

    sh_arena_reset(&h->arena);
    st = sh_step_wire_to(m, &h->arena, &step, err);
    if (st) return st;
    if (!h->first) step.n_embd = 0; // their rows went to the first stage
    sh_server_count_step(h->session->server, 1);
    st = sh_station_announce(h->station, &step, asked > 0 && asked < most ? asked : most, err);
    if (st) sh_server_count_step(h->session->server, -1);
    return st;
}

enum shoal_status sh_hosted_step(struct sh_hosted *h, const struct sh_rpc_step *m,
                                 const uint8_t *payload, size_t n, struct shoal_error *err)
{
    struct shoal_error why = SHOAL_ERROR_INIT;
    enum shoal_status st = SHOAL_OK;
    uint64_t hash;

    (void)err;
    sh_mutex_lock(&h->in);
    if (m->epoch < h->epoch || h->desync || h->stopped) goto done;
    hash = sh_rpc_step_hash(h->hash, payload, n);
    st = check_step(h, m, hash, &why);
    if (!st) sh_hosted_ack(h, m->ack);
    if (!st) st = announce(h, m, &why);
    if (st) {
        fall_out(h, st, &why);
    } else {
        *arrival_at(h, h->next) = (struct sh_hosted_arrival){
            .number = h->next, .n_rows = h->first ? m->n_embd : (int32_t)m->n_rows};
        h->hash = hash;
        h->next++;
        sh_cond_broadcast(&h->changed);
    }

done:
    sh_mutex_unlock(&h->in);
    return SHOAL_OK;
}

/* ---- rows -----------------------------------------------------------------------------------*/

/* Under `in`: is there something to do for this message?  Waits for its step where it may. */
static enum shoal_status await_step(struct sh_hosted *h, const struct sh_rpc_hidden *m,
                                    const atomic_bool *leaving, bool *wanted,
                                    struct shoal_error *err)
{
    *wanted = false;
    for (;;) {
        if (h->stopped || h->desync || m->epoch < h->epoch) return SHOAL_OK;
        if (leaving && atomic_load(leaving)) {
            return sh_fail(err, SHOAL_ERR_CANCELLED, "the link is being closed");
        }
        if (m->epoch > h->epoch) {
            return sh_fail(err, SHOAL_ERR_FORMAT, "rows of epoch %" PRIu64 " in epoch %" PRIu64,
                           m->epoch, h->epoch);
        }
        if (m->number < h->next) break;
        if (!leaving || m->number - h->next >= (uint64_t)h->n_slots) {
            return sh_fail(err, SHOAL_ERR_FORMAT,
                           "rows of step %" PRIu64 " for stage %u, where step %" PRIu64 " is due",
                           m->number, (unsigned)h->index, h->next);
        }
        (void)sh_cond_wait(&h->changed, &h->in, SH_NO_DEADLINE);
    }
    *wanted = arrival_at(h, m->number)->number == m->number;
    return SHOAL_OK;
}

/* Under `in`: rows that are new. */
static enum shoal_status put_rows(struct sh_hosted *h, const struct sh_rpc_hidden *m,
                                  int32_t n_skip, struct shoal_error *err)
{
    const enum sh_rpc_format format = (enum sh_rpc_format)m->format;
    const size_t row = sh_rpc_row_bytes(format, h->width_in);
    const int32_t first = (int32_t)m->first_row + n_skip, n = (int32_t)m->n_rows - n_skip;
    struct sh_station_timing timings[SH_STATION_TIMINGS_MAX];
    const uint32_t n_timings = first == 0 ? m->n_timings : 0;
    float *place = NULL;
    enum shoal_status st;

    st = sh_runner_place(h->station, m->number, first, n, &place, err);
    if (st || !place) return st;
    sh_step_wire_timings_to(m->timings, n_timings, timings);
    sh_rpc_rows_decode(format, h->width_in, n, place, m->data.ptr + (size_t)n_skip * row);
    sh_runner_filled(h->station, m->number, n, timings, (int)n_timings);
    return SHOAL_OK;
}

static enum shoal_status take_rows(struct sh_hosted *h, const struct sh_rpc_hidden *m,
                                   struct shoal_error *err)
{
    struct sh_hosted_arrival *a = arrival_at(h, m->number);
    const int64_t end = (int64_t)m->first_row + m->n_rows;
    enum shoal_status st;

    if (m->n_rows == 0 && a->n_rows == 0 && m->data.n == 0) return SHOAL_OK;
    st = sh_rpc_rows_check(m->format, h->width_in, m->n_rows, m->data.n, err);
    if (st) return st;
    if (end > a->n_rows || (int64_t)m->first_row > a->have) {
        return sh_fail(err, SHOAL_ERR_FORMAT,
                       "rows %u to %" PRId64 " of step %" PRIu64
                       " for stage %u, which has %d of %d",
                       (unsigned)m->first_row, end, m->number, (unsigned)h->index, (int)a->have,
                       (int)a->n_rows);
    }
    if (a->passed || end <= a->have) return SHOAL_OK; // sent again
    st = put_rows(h, m, a->have - (int32_t)m->first_row, err);
    if (!st) a->have = (int32_t)end;
    return st;
}

/* The step failed before it came here. */
static void take_status(struct sh_hosted *h, const struct sh_rpc_hidden *m)
{
    struct sh_hosted_arrival *a = arrival_at(h, m->number);
    struct shoal_error why = SHOAL_ERROR_INIT;
    enum shoal_status st = sh_rpc_status_get(m->status);

    if (a->passed || h->first || (a->have == a->n_rows && a->n_rows > 0)) return;
    a->passed = true;
    (void)sh_fail(&why, st, "step %" PRIu64 " failed before stage %u (%s)", m->number,
                  (unsigned)h->index, shoal_status_name(st));
    sh_station_pass(h->station, m->number, st, &why);
}

enum shoal_status sh_hosted_hidden(struct sh_hosted *h, const struct sh_rpc_hidden *m,
                                   const atomic_bool *leaving, struct shoal_error *err)
{
    enum shoal_status st;
    bool wanted;

    sh_mutex_lock(&h->in);
    st = await_step(h, m, leaving, &wanted, err);
    if (!st && wanted && m->status) {
        take_status(h, m);
    } else if (!st && wanted) {
        st = take_rows(h, m, err);
    }
    sh_mutex_unlock(&h->in);
    return st;
}

void sh_hosted_wake(struct sh_hosted *h)
{
    sh_mutex_lock(&h->in);
    sh_cond_broadcast(&h->changed);
    sh_mutex_unlock(&h->in);
}

void sh_hosted_stop(struct sh_hosted *h)
{
    sh_mutex_lock(&h->in);
    h->stopped = true;
    sh_cond_broadcast(&h->changed);
    sh_mutex_unlock(&h->in);
}

void sh_hosted_reader(struct sh_hosted *h, struct sh_rpc_handle *stage, uint64_t *epoch,
                      uint64_t *next)
{
    const uint64_t n = (uint64_t)h->n_slots;
    uint64_t at;

    sh_mutex_lock(&h->in);
    *stage = h->handle;
    *epoch = h->epoch;
    for (at = h->next > n ? h->next - n : 0; at < h->next; at++) {
        const struct sh_hosted_arrival *a = arrival_at(h, at);
        if (a->number == at && !a->passed && a->have < a->n_rows) break;
    }
    *next = at;
    sh_mutex_unlock(&h->in);
}

/* ---- the rest -------------------------------------------------------------------------------*/

void sh_hosted_cancel(struct sh_hosted *h, const struct sh_rpc_cancel *m)
{
    bool now;

    sh_mutex_lock(&h->in);
    now = m->epoch == h->epoch;
    sh_mutex_unlock(&h->in);
    if (now) sh_station_cancel(h->station, m->from, m->to);
}

enum shoal_status sh_hosted_reset(struct sh_hosted *h, uint64_t epoch, struct shoal_error *err)
{
    sh_mutex_lock(&h->in);
    sh_mutex_lock(&h->out);
    sh_server_count_step(h->session->server, -(int)(h->next - h->out_next));
    sh_hosted_forget(h);
    h->out_epoch = h->epoch = epoch;
    h->next = 0;
    h->hash = SH_FNV_START;
    h->desync = false;
    for (int i = 0; i < h->n_slots; i++)
        h->arrival[i] = (struct sh_hosted_arrival){.number = UINT64_MAX};
    sh_mutex_unlock(&h->out);
    sh_cond_broadcast(&h->changed);
    sh_mutex_unlock(&h->in);
    return sh_station_reset(h->station, epoch, err);
}

void sh_hosted_progress(struct sh_hosted *h, struct sh_rpc_progress_of *out)
{
    sh_mutex_lock(&h->in);
    *out = (struct sh_rpc_progress_of){.stage = h->handle, .next = h->next, .hash = h->hash};
    sh_mutex_unlock(&h->in);
}
