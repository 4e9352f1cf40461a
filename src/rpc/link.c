/* rpc/link.c - what both ends of a link do: rows, acknowledgements, measuring, closing.
 *
 * Rows are sent by the thread that has them and handed over by the thread that reads them: nothing
 * is queued here.  LINK_ACK only lets the writer forget, so it goes out behind rows, at most every
 * 250 ms or 8 MiB.
 *
 * Threads: link_priv.h.
 */
#include "rpc/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "rpc/link_priv.h"

#define PROBE_ANSWER_NS (10 * SH_SECOND)
#define PROBES_MAX 10000

enum shoal_status sh_rpc_link_identity(char out[SH_RPC_LINK_IDENTITY_TEXT],
                                       const struct sh_key *key, struct shoal_error *err)
{
    char kid[SH_KID_TEXT];
    const enum shoal_status st = sh_key_id(kid, key, err);

    if (!st) (void)snprintf(out, SH_RPC_LINK_IDENTITY_TEXT, "v1|link|%s", kid);
    return st;
}

enum shoal_status sh_link_create(struct sh_rpc_link **out, const struct sh_rpc_link_options *opt,
                                 bool dials, struct shoal_error *err)
{
    struct sh_rpc_link *k = sh_calloc(1, sizeof *k);
    enum shoal_status st = SHOAL_OK;

    *out = NULL;
    if (!k) return sh_fail(err, SHOAL_ERR_NOMEM, "rpc: no memory for a link");
    k->opt = *opt;
    k->opt.key = NULL;
    if (!k->opt.silence_ns) k->opt.silence_ns = SH_SECOND;
    if (!k->opt.redial_ns) k->opt.redial_ns = SH_SECOND;
    k->dials = dials;
    k->has_key = opt->key != NULL;
    if (k->has_key) {
        k->key = *opt->key;
        st = sh_rpc_link_identity(k->identity, &k->key, err);
    }
    sh_mutex_init(&k->lock);
    sh_cond_init(&k->changed);
    if (st) {
        sh_link_free(k);
    } else {
        *out = k;
    }
    return st;
}

void sh_link_free(struct sh_rpc_link *k)
{
    sh_key_wipe(&k->key);
    sh_wipe(k->opt.token, sizeof k->opt.token);
    sh_cond_release(&k->changed);
    sh_mutex_release(&k->lock);
    sh_free(k);
}

/* ---- the connection --------------------------------------------------------------------------*/

struct sh_rpc_conn *sh_link_use(struct sh_rpc_link *k, bool up)
{
    struct sh_rpc_conn *c;

    sh_mutex_lock(&k->lock);
    c = k->conn && (k->up || !up) ? k->conn : NULL;
    if (c) k->n_using++;
    sh_mutex_unlock(&k->lock);
    return c;
}

void sh_link_unuse(struct sh_rpc_link *k)
{
    sh_mutex_lock(&k->lock);
    if (--k->n_using == 0 && !k->up) sh_cond_broadcast(&k->changed);
    sh_mutex_unlock(&k->lock);
}

void sh_link_greeting(struct sh_rpc_link *k, struct sh_rpc_handle *stage, uint64_t *epoch,
                      uint64_t *next)
{
    *stage = (struct sh_rpc_handle){0, 0};
    *epoch = *next = 0;
    if (k->opt.writes) return;
    k->opt.events.wants(k->opt.events.self, stage, epoch, next);
    sh_mutex_lock(&k->lock);
    k->reader = *stage;
    k->epoch = *epoch;
    k->sent = *next;
    sh_mutex_unlock(&k->lock);
}

enum shoal_status sh_link_greeted(struct sh_rpc_link *k, struct sh_rpc_handle stage,
                                  struct shoal_error *err)
{
    if (k->opt.writes == (stage.generation != 0)) return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_FORMAT, "rpc: both ends of a link %s rows",
                   k->opt.writes ? "write" : "read");
}

/* Under the lock: does it come up again and again for nothing? */
static bool is_stuck(struct sh_rpc_link *k, uint64_t epoch, uint64_t next)
{
    const int64_t now = sh_now_ns(&sh_clock_system);
    const bool same = k->n_ups > 0 && epoch == k->up_epoch && next == k->up_next;

    k->n_stuck = same && now - k->up_ns < SH_LINK_STUCK_NS ? k->n_stuck + 1 : 0;
    k->up_epoch = epoch;
    k->up_next = next;
    k->up_ns = now;
    return k->n_stuck >= SH_LINK_STUCK_MAX;
}

void sh_link_up(struct sh_rpc_link *k, struct sh_rpc_handle stage, uint64_t epoch, uint64_t next)
{
    sh_mutex_lock(&k->lock);
    if (k->opt.writes) {
        k->reader = stage;
        k->epoch = epoch;
        k->acked = next;
    }
    if (is_stuck(k, k->epoch, k->opt.writes ? k->acked : k->sent)) k->ended = true;
    k->up = k->conn != NULL && !k->closing;
    k->n_ups++;
    sh_cond_broadcast(&k->changed);
    sh_mutex_unlock(&k->lock);
    if (k->opt.writes) k->opt.events.up(k->opt.events.self, epoch, next);
}

void sh_link_ended(struct sh_rpc_link *k)
{
    sh_mutex_lock(&k->lock);
    k->ended = true;
    sh_mutex_unlock(&k->lock);
}

void sh_link_detach(struct sh_rpc_link *k)
{
    struct sh_rpc_traffic t;
    struct sh_rpc_conn *c;

    sh_mutex_lock(&k->lock);
    c = k->conn;
    k->up = false;
    while (k->n_using > 0)
        (void)sh_cond_wait(&k->changed, &k->lock, INT64_MAX);
    k->conn = NULL;
    sh_rpc_conn_traffic(c, &t);
    k->past.bytes_sent += t.bytes_sent;
    k->past.bytes_received += t.bytes_received;
    k->past.frames_sent += t.frames_sent;
    k->past.frames_received += t.frames_received;
    k->past.frames_queued += t.frames_queued;
    sh_cond_broadcast(&k->changed);
    sh_mutex_unlock(&k->lock);
}

void sh_link_down(struct sh_rpc_link *k, enum shoal_status st, const struct shoal_error *why)
{
    bool first, told;

    sh_mutex_lock(&k->lock);
    first = !k->down; // threads of several connections may know
    told = first && !k->closing;
    k->down = true;
    if (first) {
        k->st = st ? st : SHOAL_ERR_PEER;
        k->why = *why;
    }
    if (first && !st) {
        (void)sh_fail(&k->why, SHOAL_ERR_PEER, "rpc: the other end has closed the link");
    }
    sh_cond_broadcast(&k->changed);
    sh_mutex_unlock(&k->lock);
    if (told) k->opt.events.down(k->opt.events.self, k->st, &k->why);
}

/* ---- rows ------------------------------------------------------------------------------------*/

/* Now and then, behind rows: what is held here. */
static void acknowledge(struct sh_rpc_link *k, struct sh_rpc_conn *c, size_t bytes)
{
    const int64_t now = sh_now_ns(&sh_clock_system);
    struct sh_rpc_link_ack ack = {0};
    struct sh_rpc_handle stage;

    k->unacked += bytes;
    if (k->unacked < SH_LINK_ACK_BYTES && now - k->acked_ns < SH_LINK_ACK_NS) return;
    k->unacked = 0;
    k->acked_ns = now;
    k->opt.events.wants(k->opt.events.self, &stage, &ack.epoch, &ack.next);
    if (sh_rpc_conn_send(c, SH_RPC_MSG_LINK_ACK, 0, &ack, NULL)) return; // run() will see why
    sh_mutex_lock(&k->lock);
    k->epoch = ack.epoch;
    k->sent = ack.next;
    k->n_acks++;
    sh_mutex_unlock(&k->lock);
}

static enum shoal_status take_rows(struct sh_rpc_link *k, struct sh_rpc_conn *c,
                                   const struct sh_rpc_hidden *m, struct shoal_error *err)
{
    struct sh_rpc_handle reader;
    enum shoal_status st;

    if (k->opt.writes)
        return sh_fail(err, SHOAL_ERR_FORMAT, "rpc: rows came to the end of a link that writes");
    sh_mutex_lock(&k->lock);
    reader = k->reader;
    sh_mutex_unlock(&k->lock);
    if (m->stage.slot != reader.slot || m->stage.generation != reader.generation) {
        return sh_fail(err, SHOAL_ERR_FORMAT,
                       "rpc: rows on a link for stage %u.%u, whose reader is %u.%u", m->stage.slot,
                       m->stage.generation, reader.slot, reader.generation);
    }
    st = k->opt.events.rows(k->opt.events.self, m, err);
    if (!st) acknowledge(k, c, m->data.n);
    return st;
}

static enum shoal_status take_ack(struct sh_rpc_link *k, const struct sh_rpc_link_ack *m,
                                  struct shoal_error *err)
{
    if (!k->opt.writes)
        return sh_fail(err, SHOAL_ERR_FORMAT, "rpc: LINK_ACK came to the end that reads");
    sh_mutex_lock(&k->lock);
    k->epoch = m->epoch;
    k->acked = m->next;
    k->n_acks++;
    sh_mutex_unlock(&k->lock);
    k->opt.events.acked(k->opt.events.self, m->epoch, m->next);
    return SHOAL_OK;
}

enum shoal_status sh_link_message(struct sh_rpc_link *k, struct sh_rpc_conn *c,
                                  const struct sh_rpc_incoming *m, struct shoal_error *err)
{
    enum shoal_status st;

    if (m->type == SH_RPC_MSG_HIDDEN) {
        st = take_rows(k, c, m->msg, err);
    } else if (m->type == SH_RPC_MSG_LINK_ACK) {
        st = take_ack(k, m->msg, err);
    } else if (m->type == SH_RPC_MSG_ERROR) {
        return SHOAL_OK; // about something that was asked and has been given up
    } else {
        st = sh_fail(err, SHOAL_ERR_FORMAT, "rpc: %s on a link", sh_rpc_info(m->type)->name);
    }
    if (st) sh_link_ended(k);
    return st;
}

enum shoal_status sh_rpc_link_send(struct sh_rpc_link *k, const struct sh_rpc_hidden *m,
                                   struct shoal_error *err)
{
    struct sh_rpc_hidden out = *m;
    struct sh_rpc_conn *c = NULL;
    enum shoal_status st;

    sh_mutex_lock(&k->lock);
    if (k->up && k->opt.writes) {
        c = k->conn;
        k->n_using++;
        out.stage = k->reader;
        k->epoch = m->epoch;
        k->sent = m->number + 1;
    }
    sh_mutex_unlock(&k->lock);
    if (!c) return sh_fail(err, SHOAL_ERR_STATE, "rpc: the link is not up");
    st = sh_rpc_conn_send(c, SH_RPC_MSG_HIDDEN, 0, &out, err);
    sh_link_unuse(k);
    return st;
}

/* ---- measuring -------------------------------------------------------------------------------*/

static int by_size(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static enum shoal_status probe_once(struct sh_rpc_conn *c, const struct sh_rpc_probe *probe,
                                    struct sh_arena *arena, uint32_t *us, struct shoal_error *err)
{
    struct sh_rpc_probed answer;
    struct sh_rpc_ask ask = {.type = SH_RPC_MSG_PROBE,
                             .msg = probe,
                             .answer = &answer,
                             .arena = arena,
                             .timeout_ns = PROBE_ANSWER_NS};
    const int64_t start = sh_now_ns(&sh_clock_system);
    const enum shoal_status st = sh_rpc_conn_ask(c, &ask, err);
    const int64_t ns = sh_now_ns(&sh_clock_system) - start;

    *us = ns / 1000 < UINT32_MAX ? (uint32_t)(ns / 1000) : UINT32_MAX;
    sh_arena_reset(arena);
    return st;
}

enum shoal_status sh_rpc_link_probe(struct sh_rpc_link *k, uint32_t bytes, uint32_t count,
                                    struct sh_rpc_link_probed *out, struct shoal_error *err)
{
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_conn *c = NULL;
    struct sh_rpc_probe probe = {.answer_bytes = bytes, .data = {.n = bytes}};
    uint8_t *data = NULL;
    uint32_t *us = NULL;
    enum shoal_status st = SHOAL_OK;

    memset(out, 0, sizeof *out);
    if (count < 1 || count > PROBES_MAX || bytes > SH_RPC_CHUNK_MAX) {
        st = sh_fail(err, SHOAL_ERR_ARG, "rpc: %u probes of %u bytes; at most %d of %u", count,
                     bytes, PROBES_MAX, SH_RPC_CHUNK_MAX);
        goto done;
    }
    data = sh_calloc(bytes, 1);
    us = sh_calloc(count, sizeof *us);
    if (!data || !us) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "rpc: no memory for probes of %u bytes", bytes);
        goto done;
    }
    c = sh_link_use(k, true);
    if (!c) {
        st = sh_fail(err, SHOAL_ERR_STATE, "rpc: the link is not up");
        goto done;
    }
    probe.data.ptr = data;
    for (uint32_t i = 0; i < count && !st; i++) {
        probe.stamp = i;
        st = probe_once(c, &probe, &arena, &us[i], err);
    }
    sh_link_unuse(k);
    if (st) goto done;
    qsort(us, count, sizeof *us, by_size);
    out->least_us = us[0];
    out->median_us = us[count / 2];
    out->bytes_per_s = (uint64_t)bytes * 2 * 1000000 / (us[count / 2] ? us[count / 2] : 1);

done:
    sh_arena_release(&arena);
    sh_free(us);
    sh_free(data);
    return st;
}

void sh_rpc_link_state(struct sh_rpc_link *k, struct sh_rpc_link_state *out)
{
    sh_mutex_lock(&k->lock);
    *out = (struct sh_rpc_link_state){.up = k->up,
                                      .down = k->down,
                                      .epoch = k->epoch,
                                      .sent = k->sent,
                                      .acked = k->acked,
                                      .n_ups = k->n_ups,
                                      .n_acks = k->n_acks};
    sh_mutex_unlock(&k->lock);
}

void sh_rpc_link_traffic(struct sh_rpc_link *k, struct sh_rpc_traffic *out)
{
    struct sh_rpc_traffic now = {0};
    struct sh_rpc_conn *c = sh_link_use(k, false);

    if (c) {
        sh_rpc_conn_traffic(c, &now);
        sh_link_unuse(k);
    }
    sh_mutex_lock(&k->lock);
    *out = k->past;
    sh_mutex_unlock(&k->lock);
    out->bytes_sent += now.bytes_sent;
    out->bytes_received += now.bytes_received;
    out->frames_sent += now.frames_sent;
    out->frames_received += now.frames_received;
    out->frames_queued += now.frames_queued;
    out->silent_ns = now.silent_ns;
}

/* ---- ending ----------------------------------------------------------------------------------*/

void sh_rpc_link_break(struct sh_rpc_link *k)
{
    struct sh_rpc_conn *c = sh_link_use(k, false);

    if (!c) return;
    sh_rpc_conn_cut(c);
    sh_link_unuse(k);
}

void sh_rpc_link_close(struct sh_rpc_link *k)
{
    struct sh_rpc_conn *c;

    if (!k) return;
    if (!k->dials) sh_link_forget(k);
    sh_mutex_lock(&k->lock);
    k->closing = true;
    k->up = false;
    sh_cond_broadcast(&k->changed);
    c = k->conn;
    if (c) k->n_using++;
    sh_mutex_unlock(&k->lock);
    if (c) {
        sh_rpc_conn_leave(c, "the link is closed");
        sh_link_unuse(k);
    }
    if (k->dials) {
        sh_thread_join(&k->thread);
    } else {
        sh_mutex_lock(&k->lock);
        while (k->n_serving > 0)
            (void)sh_cond_wait(&k->changed, &k->lock, INT64_MAX);
        sh_mutex_unlock(&k->lock);
    }
    sh_link_free(k);
}
