/* rpc/session.c - sessions: opened within the ledger, kept for a lease, resumed, ended.
 *
 *      OPEN ──> attached ──connection lost──> detached ──lease over──> gone
 *                  │  ^                           │                     ^
 *                  │  └──────────RESUME───────────┘                     │
 *                  └──────CLOSE, or lost without RESUME─────────────────┘
 *
 * Who ends a session first takes it from the list, under the server's lock; so there is one, and
 * nobody finds it any more.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "rpc/machine.h"
#include "rpc/server_priv.h"

#define QUEUE_LEAST ((size_t)64 << 20)
#define TAKE_OVER_NS (10 * SH_SECOND) /* most time for an older connection to let go */

static int64_t now_ns(void)
{
    return sh_now_ns(&sh_clock_system);
}

/* ---- sending to the host --------------------------------------------------------------------*/

bool sh_session_send(struct sh_session *s, enum sh_rpc_type type, uint32_t request, const void *msg)
{
    struct sh_rpc_conn *c;
    bool sent;

    sh_mutex_lock(&s->sending);
    c = s->conn;
    s->n_sending += c != NULL;
    sh_mutex_unlock(&s->sending);
    if (!c) return false;
    sent = sh_rpc_conn_send(c, type, request, msg, NULL) == SHOAL_OK;
    sh_mutex_lock(&s->sending);
    if (--s->n_sending == 0) sh_cond_broadcast(&s->sent);
    sh_mutex_unlock(&s->sending);
    return sent;
}

/* From now on things are sent here (NULL: nowhere); the one before is not used any more. */
static void set_connection(struct sh_session *s, struct sh_rpc_conn *c)
{
    if (c) sh_rpc_conn_set_queue_max(c, s->queue_max);
    sh_mutex_lock(&s->sending);
    s->conn = c;
    while (!c && s->n_sending > 0)
        (void)sh_cond_wait(&s->sent, &s->sending, SH_NO_DEADLINE);
    sh_mutex_unlock(&s->sending);
}

/* ---- the list -------------------------------------------------------------------------------*/

/* All of these under the server's lock. */
static void attach(struct sh_served *v, struct sh_session *s)
{
    s->attached = true;
    v->session = s;
    (void)snprintf(s->peer, sizeof s->peer, "%s", sh_rpc_conn_address(v->conn));
}

static void list_session(struct sh_rpc_server *server, struct sh_session *s)
{
    s->next = server->sessions;
    server->sessions = s;
    server->n_sessions++;
    server->memory_used += s->claimed;
}

static void unlist_session(struct sh_rpc_server *server, struct sh_session *s)
{
    struct sh_session **at = &server->sessions;

    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    if (!s->attached) server->n_detached--;
    s->attached = true; // by whoever took it
}

static bool equal_in_constant_time(const uint8_t *a, const uint8_t *b, size_t n)
{
    uint8_t differ = 0;

    for (size_t i = 0; i < n; i++)
        differ = (uint8_t)(differ | (a[i] ^ b[i]));
    return differ == 0;
}

/* The session of this number, key and secret. */
static struct sh_session *find_session(struct sh_rpc_server *server, uint64_t number,
                                       const uint8_t secret[16], const char *kid)
{
    struct sh_session *s = server->sessions;

    while (s && s->number != number)
        s = s->next;
    if (!s || strcmp(s->kid, kid) != 0) return NULL;
    return equal_in_constant_time(s->secret, secret, sizeof s->secret) ? s : NULL;
}

static enum shoal_status no_session(uint64_t number, struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_NOT_FOUND,
                   "there is no session %" PRIu64 " of this key and secret (its lease may be over)",
                   number);
}

/* ---- opening --------------------------------------------------------------------------------*/

static enum shoal_status add_claims(struct sh_session *s, const struct sh_rpc_open *m,
                                    struct shoal_error *err)
{
    size_t sum = 0, weights = 0, places = 0;

    for (uint32_t i = 0; i < m->n_claims; i++) {
        const struct sh_rpc_claim *c = &m->claims[i];
        bool ok = sh_add_ok(sum, (size_t)c->weights, &sum) &&
                  sh_add_ok(weights, (size_t)c->weights, &weights);
        ok = ok && sh_add_ok(sum, (size_t)c->cache, &sum) &&
             sh_add_ok(sum, (size_t)c->scratch, &sum) && sh_add_ok(sum, (size_t)c->places, &sum);
        ok = ok && sh_add_ok(places, (size_t)c->places, &places);
        if (c->device >= (uint32_t)s->server->opt.n_devices) {
            return sh_fail(err, SHOAL_ERR_ARG, "there is no device %u, %d are here",
                           (unsigned)c->device, s->server->opt.n_devices);
        }
        if (!ok) return sh_fail(err, SHOAL_ERR_LIMIT, "the claims of a session overflow");
    }
    s->claimed = sum;
    s->claimed_weights = weights;
    s->queue_max = QUEUE_LEAST < SIZE_MAX - places ? QUEUE_LEAST + places : SIZE_MAX;
    return SHOAL_OK;
}

static void free_session(struct sh_session *s)
{
    sh_session_weights_destroy(s->weights);
    sh_cond_release(&s->sent);
    sh_mutex_release(&s->sending);
    sh_mutex_release(&s->lock);
    sh_wipe(s->secret, sizeof s->secret);
    sh_free(s);
}

static int64_t granted_lease(const struct sh_rpc_server *server, uint32_t asked_ms)
{
    const int64_t asked = asked_ms ? (int64_t)asked_ms * SH_MS : server->opt.lease_ns;

    return asked < server->opt.lease_max_ns ? asked : server->opt.lease_max_ns;
}

static enum shoal_status make_session(struct sh_session **out, struct sh_rpc_server *server,
                                      const struct sh_served *v, const struct sh_rpc_open *m,
                                      struct shoal_error *err)
{
    struct sh_session *s = sh_calloc(1, sizeof *s);
    enum shoal_status st;

    *out = NULL;
    if (!s) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a session");
    s->server = server;
    sh_mutex_init(&s->lock);
    sh_mutex_init(&s->sending);
    sh_cond_init(&s->sent);
    (void)snprintf(s->kid, sizeof s->kid, "%s", v->who->kid);
    (void)snprintf(s->key, sizeof s->key, "%s", v->who->name);
    sh_rpc_text_copy(s->name, sizeof s->name, m->name);
    s->lease_ns = granted_lease(server, m->lease_ms);
    s->opened_ns = now_ns();
    atomic_store(&s->heard_ns, s->opened_ns);
    st = add_claims(s, m, err);
    if (!st) st = sh_rpc_random_id(s->secret, err);
    if (!st) {
        st = sh_session_weights_create(&s->weights, server->opt.blobs, s->kid, s->claimed_weights,
                                       err);
    }
    if (st) {
        free_session(s);
        return st;
    }
    *out = s;
    return SHOAL_OK;
}

/* Room for one more: in the list, and in the ledger. */
static enum shoal_status admit(struct sh_rpc_server *server, struct sh_session *s,
                               struct sh_served *v, uint64_t *need, uint64_t *left,
                               struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;
    size_t before = 0;

    sh_mutex_lock(&server->lock);
    if (atomic_load(&server->stopping) || v->why) {
        st = sh_fail(err, SHOAL_ERR_STATE, "the worker takes no new sessions: %s",
                     v->why ? v->why : "it is about to end");
    } else if (server->n_sessions >= server->opt.sessions_max) {
        st = sh_fail(err, SHOAL_ERR_LIMIT, "%d sessions are open, more are not possible",
                     server->n_sessions);
    } else if (!sh_ledger_take(server->opt.ledger, s->claimed, &before)) {
        *need = s->claimed;
        *left = before;
        st = sh_fail(err, SHOAL_ERR_NOMEM,
                     "the session needs %" PRIu64 " bytes, %zu of %zu are free", s->claimed, before,
                     sh_ledger_max(server->opt.ledger));
    } else {
        s->number = ++server->last_number;
        list_session(server, s);
        attach(v, s);
    }
    sh_mutex_unlock(&server->lock);
    return st;
}

enum shoal_status sh_session_open(struct sh_rpc_server *server, struct sh_served *v,
                                  const struct sh_rpc_open *m, struct sh_rpc_opened *out,
                                  uint64_t *need, uint64_t *left, struct shoal_error *err)
{
    struct sh_session *s;
    enum shoal_status st = make_session(&s, server, v, m, err);

    if (st) return st;
    st = admit(server, s, v, need, left, err);
    if (st) {
        free_session(s);
        return st;
    }
    *out =
        (struct sh_rpc_opened){.session = s->number, .lease_ms = (uint32_t)(s->lease_ns / SH_MS)};
    memcpy(out->secret, s->secret, sizeof out->secret);
    set_connection(s, v->conn);
    return SHOAL_OK;
}

/* ---- resuming -------------------------------------------------------------------------------*/

/* Under the server's lock: the older connection of the session lets go of it. */
static bool take_over(struct sh_rpc_server *server, struct sh_session *s)
{
    const int64_t end = sh_deadline_in(&sh_clock_system, TAKE_OVER_NS);
    const uint64_t number = s->number;

    for (;;) {
        int64_t left;
        s = server->sessions;
        while (s && s->number != number)
            s = s->next;
        if (!s || !s->attached) return s != NULL;
        for (struct sh_served *v = server->served; v; v = v->next) {
            if (v->session == s && !v->data && !v->why)
                sh_served_cut(v, "another connection took the session over");
        }
        left = end - now_ns();
        if (left <= 0) return false;
        (void)sh_cond_wait(&server->changed, &server->lock, left);
    }
}

static enum shoal_status find_to_resume(struct sh_rpc_server *server, struct sh_served *v,
                                        const struct sh_rpc_resume *m, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;
    struct sh_session *s;

    sh_mutex_lock(&server->lock);
    s = find_session(server, m->session, m->secret, v->who->kid);
    if (atomic_load(&server->stopping) || v->why) {
        st = sh_fail(err, SHOAL_ERR_STATE, "the worker resumes no sessions: it is about to end");
    } else if (!s) {
        st = no_session(m->session, err);
    } else if (s->attached && !take_over(server, s)) {
        st = sh_fail(err, SHOAL_ERR_STATE, "session %" PRIu64 " is in use", m->session);
    } else {
        server->n_detached--;
        attach(v, s);
    }
    sh_mutex_unlock(&server->lock);
    return st;
}

enum shoal_status sh_session_resume(struct sh_rpc_server *server, struct sh_served *v,
                                    const struct sh_rpc_resume *m, uint32_t request,
                                    struct shoal_error *err)
{
    struct sh_rpc_progress_of stages[SH_SESSION_STAGES_MAX];
    struct sh_rpc_resumed answer = {.stages = stages};
    struct sh_session *s;
    struct sh_hosted *h;
    int at = 0;
    enum shoal_status st = find_to_resume(server, v, m, err);

    if (st) return st;
    s = v->session;
    answer.epoch = s->epoch;
    while ((h = sh_session_next_stage(s, &at))) {
        sh_hosted_rewind(h, m->epoch == s->epoch ? m->ack : 0);
        sh_hosted_progress(h, &stages[answer.n_stages++]);
    }
    st = sh_rpc_conn_send(v->conn, SH_RPC_MSG_RESUMED, request, &answer, err);
    set_connection(s, v->conn);
    at = 0;
    while ((h = sh_session_next_stage(s, &at)))
        sh_hosted_send_again(h);
    return st;
}

/* ---- data connections -----------------------------------------------------------------------*/

enum shoal_status sh_session_attach_data(struct sh_rpc_server *server, struct sh_served *v,
                                         const struct sh_rpc_attach *m, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;
    struct sh_session *s;

    sh_mutex_lock(&server->lock);
    s = find_session(server, m->session, m->secret, v->who->kid);
    if (v->session || v->why) {
        st = sh_fail(err, SHOAL_ERR_STATE, "this connection belongs to a session already");
    } else if (!s) {
        st = no_session(m->session, err);
    } else {
        v->session = s;
        s->n_data++;
    }
    sh_mutex_unlock(&server->lock);
    return st;
}

static void count_traffic(struct sh_session *s, const struct sh_served *v)
{
    struct sh_rpc_traffic t;

    sh_rpc_conn_traffic(v->conn, &t);
    s->bytes_in += t.bytes_received;
    s->bytes_out += t.bytes_sent;
}

void sh_session_leave_data(struct sh_rpc_server *server, struct sh_served *v)
{
    sh_mutex_lock(&server->lock);
    if (v->session) {
        count_traffic(v->session, v);
        v->session->n_data--;
        v->session = NULL;
        sh_cond_broadcast(&server->changed);
    }
    sh_mutex_unlock(&server->lock);
}

/* ---- ending ---------------------------------------------------------------------------------*/

static void log_end(struct sh_session *s, enum shoal_status st, const char *reason)
{
    const double total = (double)(now_ns() - s->opened_ns) / (double)SH_SECOND;
    const double compute = (double)atomic_load(&s->compute_ns) / (double)SH_SECOND;
    const bool failed = st && st != SHOAL_ERR_CANCELLED;
    struct sh_log_field f[12];
    int n = 0;

    if (!sh_log_limit_may(&s->server->log)) return;
    f[n++] = sh_log_text("event", NULL, "session");
    f[n++] = sh_log_text("client", NULL, s->peer);
    f[n++] = sh_log_text("key", "key", s->key[0] ? s->key : "none");
    f[n++] = sh_log_text("model", "model", s->name);
    f[n++] = sh_log_bytes("bytes_in", "in", s->bytes_in);
    f[n++] = sh_log_bytes("bytes_out", "out", s->bytes_out);
    f[n++] = sh_log_count("steps", "steps", atomic_load(&s->steps));
    f[n++] = sh_log_seconds("compute_s", "compute", compute);
    f[n++] = sh_log_seconds("total_s", "total", total);
    f[n++] = sh_log_bytes("claimed_bytes", "set aside", s->claimed);
    f[n++] = sh_log_text("status", NULL, shoal_status_name(st));
    f[n++] = sh_log_text("reason", NULL, reason);
    sh_log_fields(failed ? SH_LOG_WARN : SH_LOG_INFO, "rpc", f, n, "%s: session ended: %s", s->peer,
                  reason);
}

/* Under the server's lock: its DATA connections are gone. */
static void end_data(struct sh_rpc_server *server, struct sh_session *s)
{
    while (s->n_data > 0) {
        for (struct sh_served *v = server->served; v; v = v->next) {
            if (v->session == s && v->data && !v->why) sh_served_cut(v, "its session is over");
        }
        (void)sh_cond_wait(&server->changed, &server->lock, SH_NO_DEADLINE);
    }
}

uint64_t sh_session_end(struct sh_session *s, enum shoal_status st, const char *reason)
{
    struct sh_rpc_server *server = s->server;
    const uint64_t freed = s->claimed;

    sh_mutex_lock(&server->lock);
    end_data(server, s);
    sh_mutex_unlock(&server->lock);
    sh_session_drop_stages(s);
    log_end(s, st, reason);
    free_session(s);
    sh_ledger_give(server->opt.ledger, freed);
    sh_mutex_lock(&server->lock);
    server->n_sessions--;
    server->memory_used -= freed;
    server->n_ended += st == SHOAL_OK;
    server->n_failed += st != SHOAL_OK;
    sh_cond_broadcast(&server->changed);
    sh_mutex_unlock(&server->lock);
    return freed;
}

uint64_t sh_session_close(struct sh_served *v)
{
    struct sh_session *s = v->session;
    struct sh_rpc_server *server = s->server;

    sh_session_stop_put(s);
    sh_session_links_detach(s);
    set_connection(s, NULL);
    sh_mutex_lock(&server->lock);
    unlist_session(server, s);
    count_traffic(s, v);
    v->session = NULL;
    sh_mutex_unlock(&server->lock);
    return sh_session_end(s, SHOAL_OK, "closed by the client");
}

void sh_session_leave(struct sh_served *v, enum shoal_status st, const struct shoal_error *err)
{
    struct sh_session *s = v->session;
    struct sh_rpc_server *server = s->server;
    const char *why;
    bool stays;

    sh_session_stop_put(s);
    sh_session_links_detach(s);
    set_connection(s, NULL);
    sh_mutex_lock(&server->lock);
    why = v->why ? v->why : st ? err->message : "the client left without closing";
    stays = sh_rpc_conn_has(v->conn, SH_RPC_RESUME) && !v->ends && !atomic_load(&server->stopping);
    count_traffic(s, v);
    v->session = NULL;
    if (stays) {
        s->attached = false;
        s->lease_end_ns = sh_deadline_in(&sh_clock_system, s->lease_ns);
        server->n_detached++;
    } else {
        unlist_session(server, s);
    }
    sh_cond_broadcast(&server->changed);
    sh_mutex_unlock(&server->lock);
    if (!stays) (void)sh_session_end(s, st ? st : SHOAL_ERR_PEER, why);
}

/* ---- detached ones --------------------------------------------------------------------------*/

/* Under the server's lock: one that is over, taken from the list; else *next_ns is when one will
 * be. */
static struct sh_session *take_expired(struct sh_rpc_server *server, int64_t *next_ns)
{
    const int64_t now = now_ns();

    *next_ns = SH_NO_DEADLINE;
    for (struct sh_session *s = server->sessions; s; s = s->next) {
        if (s->attached) continue;
        if (s->lease_end_ns <= now) {
            unlist_session(server, s);
            return s;
        }
        if (s->lease_end_ns < *next_ns) *next_ns = s->lease_end_ns;
    }
    return NULL;
}

void *sh_sessions_reap(void *arg)
{
    struct sh_rpc_server *server = arg;
    int64_t next_ns;

    sh_mutex_lock(&server->lock);
    while (!server->ending) {
        struct sh_session *s = take_expired(server, &next_ns);
        if (s) {
            sh_mutex_unlock(&server->lock);
            (void)sh_session_end(s, SHOAL_ERR_TIMEOUT, "its lease is over");
            sh_mutex_lock(&server->lock);
        } else {
            const int64_t wait = next_ns == SH_NO_DEADLINE ? next_ns : next_ns - now_ns();
            if (wait > 0) (void)sh_cond_wait(&server->changed, &server->lock, wait);
        }
    }
    sh_mutex_unlock(&server->lock);
    return NULL;
}

void sh_sessions_end_detached(struct sh_rpc_server *server, const char *kid, const char *reason)
{
    for (;;) {
        struct sh_session *s;
        sh_mutex_lock(&server->lock);
        s = server->sessions;
        while (s && (s->attached || (kid && strcmp(s->kid, kid) != 0)))
            s = s->next;
        if (s) unlist_session(server, s);
        sh_mutex_unlock(&server->lock);
        if (!s) return;
        (void)sh_session_end(s, SHOAL_ERR_CANCELLED, reason);
    }
}
