/* rpc/hosted_out.c - what a stage gave: sent on, kept until it is acknowledged, sent again.
 *
 * Whatever is for the host goes out in the order of the steps, and once per connection: an output
 * sends those before it that nobody was there for.  Into a link goes what it takes; when it is up
 * (again) it says from where it wants more.
 */
#include "rpc/hosted_priv.h"

#include <string.h>

#include "base/mem.h"
#include "rpc/rows.h"
#include "rpc/step_wire.h"

static struct sh_hosted_kept *kept_at(struct sh_hosted *h, uint64_t number)
{
    return &h->kept[number % (uint64_t)h->n_slots];
}

static const struct sh_hosted_route *route_of(const struct sh_hosted *h, uint64_t number)
{
    return number >= h->from ? &h->route : &h->before;
}

/* ---- sending --------------------------------------------------------------------------------*/

/* To the link of a route, or to the host; false: not now. */
static bool send_hidden(struct sh_hosted *h, const struct sh_hosted_route *r,
                        struct sh_rpc_hidden *m)
{
    if (r->nowhere) return false;
    if (r->link) return sh_rpc_link_send(r->link, m, NULL) == SHOAL_OK;
    m->stage = r->reader;
    return sh_session_send(h->session, SH_RPC_MSG_HIDDEN, 0, m);
}

static void encode_rows(struct sh_hosted *h, enum sh_rpc_format format,
                        const struct sh_hosted_kept *k, struct sh_rpc_hidden *m)
{
    const float *rows = k->o.hidden + (size_t)m->first_row * (size_t)h->width_out;

    m->data.n = m->n_rows * (uint32_t)sh_rpc_row_bytes(format, h->width_out);
    m->data.ptr = h->encoded;
    sh_rpc_rows_encode(format, h->width_out, m->n_rows, h->encoded, rows);
}

/* All rows of a step, or its status. */
static bool send_rows(struct sh_hosted *h, const struct sh_hosted_route *r,
                      const struct sh_hosted_kept *k)
{
    const enum sh_rpc_format format = sh_rpc_rows_format(r->format, h->width_out);
    const int32_t most = sh_rpc_rows_per_piece(format, h->width_out);
    struct sh_rpc_timing timings[SH_STATION_TIMINGS_MAX];
    struct sh_rpc_hidden m = {.epoch = h->out_epoch,
                              .number = k->o.number,
                              .format = (uint8_t)format,
                              .status = sh_rpc_status_put(k->o.status),
                              .timings = timings,
                              .n_timings = (uint32_t)k->o.n_timings};

    sh_step_wire_timings_from(k->timings, k->o.n_timings, timings);
    if (k->o.status || k->o.n_rows == 0) return send_hidden(h, r, &m);
    for (int32_t at = 0; at < k->o.n_rows; at += most) {
        m.first_row = (uint32_t)at;
        m.n_rows = (uint32_t)(k->o.n_rows - at < most ? k->o.n_rows - at : most);
        encode_rows(h, format, k, &m);
        if (!send_hidden(h, r, &m)) return false;
        m.n_timings = 0;
    }
    return true;
}

static bool send_logits(struct sh_hosted *h, const struct sh_hosted_kept *k,
                        const struct sh_row_result *row)
{
    const int64_t most = SH_RPC_CHUNK_MAX / sizeof(float);
    struct sh_rpc_logits m = {
        .stage = h->handle, .epoch = h->out_epoch, .number = k->o.number, .row = row->row};

    for (int64_t at = 0; at < h->width_out; at += most) {
        const int64_t n = h->width_out - at < most ? h->width_out - at : most;
        m.first = (uint32_t)at;
        m.data.n = (uint32_t)((size_t)n * sizeof(float));
        m.data.ptr = h->encoded;
        sh_rpc_rows_encode(SH_RPC_ROWS_F32, n, 1, h->encoded, row->logits + at);
        if (!sh_session_send(h->session, SH_RPC_MSG_LOGITS, 0, &m)) return false;
    }
    return true;
}

/* Tokens and candidates as a message that fits into a frame. */
static enum shoal_status make_result(struct sh_hosted *h, const struct sh_hosted_kept *k,
                                     struct sh_rpc_result *m, struct shoal_error *err)
{
    enum shoal_status st;
    size_t bytes;

    sh_arena_reset(&h->results);
    st = sh_step_wire_result_from(&k->o, &h->results, m, err);
    if (st) return st;
    bytes = sh_rpc_frame_bytes(SH_RPC_MSG_RESULT, m, SH_RPC_REVISION);
    if (bytes == 0 || bytes > SH_RPC_HEAD_BYTES + SH_RPC_FRAME_MAX) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "stage %u: the candidates of a step are too many",
                       (unsigned)h->index);
    }
    return SHOAL_OK;
}

static bool send_result(struct sh_hosted *h, const struct sh_hosted_kept *k)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_result m;
    const enum shoal_status st = make_result(h, k, &m, &err);

    if (st) {
        m = (struct sh_rpc_result){.number = k->o.number,
                                   .status = sh_rpc_status_put(st),
                                   .message = sh_rpc_text_from(err.message)};
    }
    m.stage = h->handle;
    m.epoch = h->out_epoch;
    if (!sh_session_send(h->session, SH_RPC_MSG_RESULT, 0, &m)) return false;
    for (int32_t i = 0; i < k->o.n_results && !st; i++) {
        if (k->o.results[i].want != SH_WANT_LOGITS) continue;
        if (!send_logits(h, k, &k->o.results[i])) return false;
    }
    return true;
}

/* What of a step is for the host. */
static bool send_to_host(struct sh_hosted *h, const struct sh_hosted_kept *k)
{
    const struct sh_hosted_route *r = route_of(h, k->o.number);

    if ((h->last || (k->o.status && k->o.here)) && !send_result(h, k)) return false;
    return h->last || r->link || r->nowhere || send_rows(h, r, k);
}

/* Under `out`: what the host has not got, in order, as far as it goes. */
static void catch_up(struct sh_hosted *h)
{
    for (uint64_t n = h->released; n < h->out_next; n++) {
        struct sh_hosted_kept *k = kept_at(h, n);
        if (!k->at_host && !(k->at_host = send_to_host(h, k))) return;
    }
}

/* ---- keeping --------------------------------------------------------------------------------*/

static void keep(struct sh_hosted *h, const struct sh_station_output *out)
{
    struct sh_hosted_kept *k = kept_at(h, out->number);

    k->o = *out;
    k->at_host = false;
    if (k->o.n_timings > SH_STATION_TIMINGS_MAX) k->o.n_timings = SH_STATION_TIMINGS_MAX;
    memcpy(k->timings, out->timings, (size_t)k->o.n_timings * sizeof *k->timings);
    k->o.timings = k->timings;
    if (out->status && out->error) k->error = *out->error;
    k->o.error = &k->error;
    h->out_next = out->number + 1;
}

void sh_hosted_output(void *self, const struct sh_station_output *out)
{
    struct sh_hosted *h = self;
    struct sh_session *s = h->session;
    const int64_t us = out->n_timings > 0 ? out->timings[out->n_timings - 1].compute_us : 0;

    sh_mutex_lock(&h->out);
    if (out->epoch == h->out_epoch && out->number == h->out_next) {
        const struct sh_hosted_route *r = route_of(h, out->number);
        keep(h, out);
        if (!h->last && r->link) (void)send_rows(h, r, kept_at(h, out->number));
        catch_up(h);
        atomic_fetch_add(&s->steps, 1);
        atomic_fetch_add(&s->server->steps, 1);
        atomic_fetch_add(&s->compute_ns, us * 1000);
        sh_server_count_step(s->server, -1);
    }
    sh_mutex_unlock(&h->out);
}

void sh_hosted_lost(void *self, enum shoal_status st, const struct shoal_error *err)
{
    struct sh_hosted *h = self;
    char text[400];
    const struct sh_rpc_error m = {.status = sh_rpc_status_put(st),
                                   .message = sh_rpc_text_clean(text, sizeof text, err->message)};

    sh_mutex_lock(&h->in);
    sh_mutex_lock(&h->out);
    sh_server_count_step(h->session->server, -(int)(h->next - h->out_next));
    h->out_next = h->next;
    h->released = h->next; // nothing of them is there
    h->desync = true;
    sh_mutex_unlock(&h->out);
    sh_mutex_unlock(&h->in);
    (void)sh_session_send(h->session, SH_RPC_MSG_ERROR, 0, &m);
}

void sh_hosted_forget(struct sh_hosted *h)
{
    h->released = h->out_next = h->from = 0;
}

/* Under `out`. */
static void release_below(struct sh_hosted *h, uint64_t ack)
{
    for (; h->released < ack && h->released < h->out_next; h->released++)
        sh_station_release(h->station, h->released);
}

void sh_hosted_ack(struct sh_hosted *h, uint64_t ack)
{
    sh_mutex_lock(&h->out);
    release_below(h, ack);
    sh_mutex_unlock(&h->out);
}

/* ---- sent again -----------------------------------------------------------------------------*/

void sh_hosted_rewind(struct sh_hosted *h, uint64_t ack)
{
    sh_mutex_lock(&h->out);
    release_below(h, ack);
    for (uint64_t n = h->released; n < h->out_next; n++)
        kept_at(h, n)->at_host = false;
    sh_mutex_unlock(&h->out);
}

void sh_hosted_send_again(struct sh_hosted *h)
{
    sh_mutex_lock(&h->out);
    catch_up(h);
    sh_mutex_unlock(&h->out);
}

/* ---- links and routes -----------------------------------------------------------------------*/

void sh_hosted_link_acked(struct sh_hosted *h, uint64_t epoch, uint64_t next)
{
    sh_mutex_lock(&h->out);
    if (epoch == h->out_epoch) release_below(h, next);
    sh_mutex_unlock(&h->out);
}

/* Under `out`: kept rows from `next` on that go into a link. */
static void fill_link(struct sh_hosted *h, uint64_t next)
{
    for (uint64_t n = next > h->released ? next : h->released; n < h->out_next; n++) {
        const struct sh_hosted_route *r = route_of(h, n);
        if (r->link && !send_rows(h, r, kept_at(h, n))) return;
    }
}

void sh_hosted_link_up(struct sh_hosted *h, uint64_t epoch, uint64_t next)
{
    sh_mutex_lock(&h->out);
    if (!h->last) fill_link(h, epoch == h->out_epoch ? next : 0);
    sh_mutex_unlock(&h->out);
}

static void forget_link(struct sh_hosted_route *r, const struct sh_rpc_link *link)
{
    if (r->link != link) return;
    r->link = NULL;
    r->nowhere = true;
}

void sh_hosted_unlink(struct sh_hosted *h, const struct sh_rpc_link *link)
{
    sh_mutex_lock(&h->out);
    forget_link(&h->route, link);
    forget_link(&h->before, link);
    sh_mutex_unlock(&h->out);
}

/* Under `out`: room for a piece. */
static enum shoal_status make_room(struct sh_hosted *h, enum sh_rpc_format wanted,
                                   struct shoal_error *err)
{
    const enum sh_rpc_format format = sh_rpc_rows_format(wanted, h->width_out);
    const size_t row = sh_rpc_row_bytes(format, h->width_out);
    const size_t most = (size_t)sh_rpc_rows_per_piece(format, h->width_out);
    const size_t rows = (size_t)h->rows_max < most ? (size_t)h->rows_max : most;
    uint8_t *p;

    if (row == 0) {
        return sh_fail(err, SHOAL_ERR_UNSUPPORTED, "rows of %lld values do not go as %s",
                       (long long)h->width_out, sh_rpc_format_name(wanted));
    }
    if (rows * row <= h->encoded_bytes) return SHOAL_OK;
    p = sh_realloc_array(h->encoded, rows, row);
    if (!p) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for %zu rows on their way", rows);
    h->encoded = p;
    h->encoded_bytes = rows * row;
    return SHOAL_OK;
}

enum shoal_status sh_hosted_route(struct sh_hosted *h, struct sh_rpc_link *link,
                                  struct sh_rpc_handle reader, enum sh_rpc_format format,
                                  uint64_t from, struct shoal_error *err)
{
    enum shoal_status st;

    if (h->last) {
        return sh_fail(err, SHOAL_ERR_STATE, "the last stage has no rows to go anywhere");
    }
    sh_mutex_lock(&h->out);
    st = make_room(h, format, err);
    if (!st) {
        if (from > h->from) h->before = h->route;
        h->route = (struct sh_hosted_route){
            .link = link, .reader = reader.generation ? reader : h->handle, .format = format};
        h->from = from;
        for (uint64_t n = from > h->released ? from : h->released; n < h->out_next; n++)
            kept_at(h, n)->at_host = false;
        if (link) fill_link(h, from);
        catch_up(h);
    }
    sh_mutex_unlock(&h->out);
    return st;
}
