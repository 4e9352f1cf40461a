/* rpc/session_link.c - links of a session: expected, opened, measured, closed on the host's word.
 *
 * A link opens the way to somebody's network to who commands it.  So this worker goes only to
 * addresses in numbers that its client may send it to: loopback and Unix sockets where the client
 * is there itself, else networks of own interfaces and those that the owner of the worker named;
 * a few in a minute; and the answer tells little more than yes or no.
 *
 * What takes long (opening, measuring, closing) is done by a thread per request, a job, so that the
 * CONTROL connection is read on.  A job answers on the connection that it was asked on, or not at
 * all when that is gone.
 *
 * Threads: messages, close and detach from who works on the session; jobs and links have theirs.
 * Locks: `lock` guards places and jobs; nothing is called under it but sending an answer.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/network.h"
#include "rpc/hosted_priv.h"
#include "rpc/link.h"

#define JOBS_MAX 8
#define ATTEMPTS_MAX 8 /* addresses in a minute */
#define ATTEMPTS_NS (60 * SH_SECOND)
#define ADDRESSES_MAX 4              /* that one LINK_OPEN tries */
#define OPEN_EACH_NS (2 * SH_SECOND) /* most time for one address */
#define PROBES_MAX 10000

struct place { /* of one link */
    struct sh_session_links *all;
    struct sh_rpc_handle handle; /* generation 0: free */
    struct sh_hosted *hosted;
    bool writes;
    atomic_bool leaving; /* it is being closed: nobody waits for steps any more */
    struct sh_rpc_link *link;
};

struct job {
    struct sh_session_links *all;
    struct sh_thread thread;
    bool used, done;
    struct sh_rpc_conn *conn; /* to answer on; NULL: it is gone */
    uint32_t request;
    enum sh_rpc_type type;
    struct place *place; /* NULL: it has answered */
    atomic_bool stop;
    /* LINK_OPEN */
    struct sh_rpc_link_options opt;
    struct sh_key key;
    char address[ADDRESSES_MAX][SH_ADDRESS_TEXT_MAX];
    int n_addresses;
    /* LINK_PROBE */
    uint32_t bytes, count;
};

struct sh_session_links {
    struct sh_session *session;
    int64_t attempt_ns[ATTEMPTS_MAX]; /* a ring; who works on the session */
    int attempt;
    struct sh_mutex lock; /* all below */
    uint32_t generation;
    struct place place[SH_SESSION_LINKS_MAX];
    struct job job[JOBS_MAX];
};

static struct sh_session_links *links_of(struct sh_session *s)
{
    struct sh_session_links *l = s->links;

    if (l) return l;
    l = sh_calloc(1, sizeof *l);
    if (!l) return NULL;
    l->session = s;
    sh_mutex_init(&l->lock);
    for (int i = 0; i < SH_SESSION_LINKS_MAX; i++)
        l->place[i].all = l;
    for (int i = 0; i < JOBS_MAX; i++)
        l->job[i].all = l;
    s->links = l;
    return l;
}

/* ---- what links say --------------------------------------------------------------------------*/

static enum shoal_status on_rows(void *self, const struct sh_rpc_hidden *m, struct shoal_error *err)
{
    struct place *p = self;

    return sh_hosted_hidden(p->hosted, m, &p->leaving, err);
}

static void on_wants(void *self, struct sh_rpc_handle *stage, uint64_t *epoch, uint64_t *next)
{
    const struct place *p = self;

    sh_hosted_reader(p->hosted, stage, epoch, next);
}

static void on_up(void *self, uint64_t epoch, uint64_t next)
{
    const struct place *p = self;

    sh_hosted_link_up(p->hosted, epoch, next);
}

static void on_acked(void *self, uint64_t epoch, uint64_t next)
{
    const struct place *p = self;

    sh_hosted_link_acked(p->hosted, epoch, next);
}

static void on_down(void *self, enum shoal_status st, const struct shoal_error *why)
{
    struct place *p = self;
    struct sh_rpc_link_down m = {.link = p->handle};
    struct sh_rpc_link_state s = {.epoch = 0};
    struct sh_rpc_handle stage;
    char text[401];

    sh_mutex_lock(&p->all->lock);
    if (p->link) sh_rpc_link_state(p->link, &s);
    sh_mutex_unlock(&p->all->lock);
    m.epoch = s.epoch;
    m.sent = s.sent;
    m.acked = s.acked;
    if (!p->writes) sh_hosted_reader(p->hosted, &stage, &m.epoch, &m.sent);
    m.message = sh_rpc_text_clean(text, sizeof text,
                                  why->message[0] ? why->message : shoal_status_name(st));
    sh_log(SH_LOG_INFO, "rpc", "session %" PRIu64 ": a link is down: %s", p->all->session->number,
           text);
    (void)sh_session_send(p->all->session, SH_RPC_MSG_LINK_DOWN, 0, &m);
}

/* ---- places ----------------------------------------------------------------------------------*/

static struct place *take_place(struct sh_session_links *l, struct sh_hosted *h, bool writes)
{
    struct place *found = NULL;

    sh_mutex_lock(&l->lock);
    for (int i = 0; i < SH_SESSION_LINKS_MAX && !found; i++) {
        struct place *p = &l->place[i];
        if (p->handle.generation) continue;
        if (++l->generation == 0) l->generation = 1;
        p->handle = (struct sh_rpc_handle){(uint32_t)i, l->generation};
        p->hosted = h;
        p->writes = writes;
        atomic_store(&p->leaving, false);
        p->link = NULL;
        found = p;
    }
    sh_mutex_unlock(&l->lock);
    return found;
}

static void give_place(struct place *p)
{
    sh_mutex_lock(&p->all->lock);
    p->handle.generation = 0;
    p->hosted = NULL;
    p->link = NULL;
    sh_mutex_unlock(&p->all->lock);
}

static void set_link(struct place *p, struct sh_rpc_link *link)
{
    sh_mutex_lock(&p->all->lock);
    p->link = link;
    sh_mutex_unlock(&p->all->lock);
}

/* Under the lock. */
static struct place *find_place(struct sh_session_links *l, struct sh_rpc_handle h)
{
    if (h.slot >= SH_SESSION_LINKS_MAX || h.generation == 0) return NULL;
    return l->place[h.slot].handle.generation == h.generation ? &l->place[h.slot] : NULL;
}

struct sh_rpc_link *sh_session_link(struct sh_session *s, struct sh_rpc_handle link,
                                    const struct sh_hosted *h)
{
    struct sh_rpc_link *found = NULL;
    const struct place *p;

    if (!s->links) return NULL;
    sh_mutex_lock(&s->links->lock);
    p = find_place(s->links, link);
    if (p && p->hosted == h && p->writes && !atomic_load(&p->leaving)) found = p->link;
    sh_mutex_unlock(&s->links->lock);
    return found;
}

/* The stage writes into it no more; its thread is over; the place is free. */
static void close_place(struct place *p)
{
    atomic_store(&p->leaving, true);
    if (p->writes) {
        if (p->link) sh_hosted_unlink(p->hosted, p->link);
    } else {
        sh_hosted_wake(p->hosted);
    }
    sh_rpc_link_close(p->link);
    give_place(p);
}

/* ---- jobs ------------------------------------------------------------------------------------*/

/* On the connection that asked, if it is still there.  Who has the answer may close the link. */
static void answer(struct job *j, enum sh_rpc_type type, const void *msg)
{
    sh_mutex_lock(&j->all->lock);
    j->place = NULL;
    if (j->conn) (void)!sh_rpc_conn_send(j->conn, type, j->request, msg, NULL); // run() says why
    sh_mutex_unlock(&j->all->lock);
}

static void refuse_later(struct job *j, enum shoal_status st, const struct shoal_error *why)
{
    sh_mutex_lock(&j->all->lock);
    j->place = NULL;
    if (j->conn) sh_rpc_conn_refuse(j->conn, j->request, st, why, 0, 0);
    sh_mutex_unlock(&j->all->lock);
}

static void open_link(struct job *j)
{
    const char *addresses[ADDRESSES_MAX];
    struct shoal_error err = SHOAL_ERROR_INIT, why = SHOAL_ERROR_INIT;
    struct sh_rpc_link_opened m = {.link = j->place->handle};
    struct sh_rpc_link *link = NULL;
    char address[SH_ADDRESS_TEXT_MAX];
    enum shoal_status st;

    for (int i = 0; i < j->n_addresses; i++)
        addresses[i] = j->address[i];
    st = sh_rpc_link_open(&link, &j->opt, addresses, j->n_addresses, OPEN_EACH_NS, address,
                          &m.round_trip_us, &err);
    sh_key_wipe(&j->key);
    if (!st) {
        set_link(j->place, link);
        m.address = sh_rpc_text_from(address);
        answer(j, SH_RPC_MSG_LINK_OPENED, &m);
        return;
    }
    sh_log(SH_LOG_DEBUG, "rpc", "a link was not opened: %s", err.message);
    give_place(j->place);
    (void)sh_fail(&why, SHOAL_ERR_PEER, "none of %d addresses let this worker in", j->n_addresses);
    refuse_later(j, SHOAL_ERR_PEER, &why);
}

static void measure_link(struct job *j)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_link_probed m;
    const enum shoal_status st = sh_rpc_link_probe(j->place->link, j->bytes, j->count, &m, &err);

    m.link = j->place->handle;
    if (st) {
        refuse_later(j, st, &err);
    } else {
        answer(j, SH_RPC_MSG_LINK_PROBED, &m);
    }
}

static void *work(void *self)
{
    struct job *j = self;

    if (j->type == SH_RPC_MSG_LINK_OPEN) {
        open_link(j);
    } else if (j->type == SH_RPC_MSG_LINK_PROBE) {
        measure_link(j);
    } else {
        const struct sh_rpc_link_closed m = {.link = j->place->handle};
        close_place(j->place);
        answer(j, SH_RPC_MSG_LINK_CLOSED, &m);
    }
    sh_mutex_lock(&j->all->lock);
    j->done = true;
    j->conn = NULL;
    sh_mutex_unlock(&j->all->lock);
    return NULL;
}

/* A job that is free; NULL: too many are under way. */
static struct job *take_job(struct sh_session_links *l, struct sh_rpc_conn *c,
                            const struct sh_rpc_incoming *m, struct place *p)
{
    struct job *j = NULL;

    for (int i = 0; i < JOBS_MAX && !j; i++) {
        struct job *at = &l->job[i];
        bool done;
        sh_mutex_lock(&l->lock);
        done = !at->used || at->done;
        sh_mutex_unlock(&l->lock);
        if (!done) continue;
        sh_thread_join(&at->thread);
        j = at;
    }
    if (!j) return NULL;
    sh_mutex_lock(&l->lock);
    j->used = true;
    j->done = false;
    j->conn = c;
    j->request = m->request;
    j->type = m->type;
    j->place = p;
    atomic_store(&j->stop, false);
    sh_mutex_unlock(&l->lock);
    return j;
}

/* It could not be started: as if it had not been taken. */
static void drop_job(struct job *j)
{
    sh_mutex_lock(&j->all->lock);
    j->done = true;
    j->conn = NULL;
    sh_mutex_unlock(&j->all->lock);
}

static enum shoal_status start_job(struct job *j, struct shoal_error *err)
{
    const enum shoal_status st = sh_thread_start(&j->thread, "link-job", work, j, err);

    if (st) drop_job(j);
    return st;
}

static enum shoal_status busy(struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_LIMIT, "%d links of this session are being opened or closed",
                   JOBS_MAX);
}

/* ---- expecting -------------------------------------------------------------------------------*/

static bool has_key(const uint8_t key[SH_KEY_BYTES])
{
    uint8_t any = 0;

    for (int i = 0; i < SH_KEY_BYTES; i++)
        any |= key[i];
    return any != 0;
}

static bool is_beside(const struct sh_session *s)
{
    struct sh_address a;

    return strcmp(s->peer, "local") == 0 ||
           (!sh_address_parse(&a, s->peer, NULL) && sh_address_is_loopback(&a));
}

static struct sh_rpc_link_options options(const struct sh_session *s, struct place *p,
                                          const uint8_t token[16], const struct sh_key *key)
{
    const struct sh_rpc_server *server = s->server;
    struct sh_rpc_link_options opt = {.writes = p->writes,
                                      .key = key,
                                      .features = server->opt.features ? server->opt.features
                                                                       : SH_RPC_FEATURES_ALL,
                                      .silence_ns = server->opt.link_silence_ns,
                                      .redial_ns = server->opt.link_redial_ns,
                                      .queue_max = s->queue_max,
                                      .events = {on_rows, on_wants, on_up, on_acked, on_down, p}};

    memcpy(opt.token, token, sizeof opt.token);
    memcpy(opt.machine, server->machine, sizeof opt.machine);
    return opt;
}

static enum shoal_status check_stage(struct sh_session *s, struct sh_rpc_handle handle,
                                     uint8_t purpose, struct sh_hosted **out,
                                     struct shoal_error *err)
{
    if (purpose != SH_RPC_FOR_LINK)
        return sh_fail(err, SHOAL_ERR_UNSUPPORTED, "links for purpose %u are not known here",
                       (unsigned)purpose);
    *out = sh_session_stage(s, handle);
    if (*out) return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_NOT_FOUND, "there is no stage %u.%u", (unsigned)handle.slot,
                   (unsigned)handle.generation);
}

static enum shoal_status no_place(struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_LIMIT, "%d links of this session are there",
                   SH_SESSION_LINKS_MAX);
}

static enum shoal_status expect_link(struct sh_session_links *l, struct sh_rpc_conn *c,
                                     const struct sh_rpc_incoming *in, struct shoal_error *err)
{
    const struct sh_rpc_link_expect *m = in->msg;
    struct sh_session *s = l->session;
    const struct sh_rpc_server_options *server = &s->server->opt;
    char text[SH_RPC_LINK_ADDRESSES_MAX][SH_ADDRESS_TEXT_MAX];
    struct sh_rpc_address list[SH_RPC_LINK_ADDRESSES_MAX];
    struct sh_rpc_link_expected answer_m = {.addresses = list};
    struct sh_rpc_link_options opt;
    struct sh_rpc_link *link = NULL;
    struct sh_hosted *h = NULL;
    struct place *p;
    struct sh_key key;
    int n = 0;
    enum shoal_status st = check_stage(s, m->stage, m->purpose, &h, err);

    if (!st && server->addresses)
        n = server->addresses(server->self, text, SH_RPC_LINK_ADDRESSES_MAX);
    if (!st && n < 1) st = sh_fail(err, SHOAL_ERR_STATE, "nobody can come here for a link");
    if (st) return st;
    p = take_place(l, h, m->writes != 0);
    if (!p) return no_place(err);
    memcpy(key.bytes, m->key, sizeof key.bytes);
    opt = options(s, p, m->token, has_key(m->key) ? &key : NULL);
    st = sh_rpc_link_expect(s->server->links, &link, &opt, err);
    sh_key_wipe(&key);
    if (st) {
        give_place(p);
        return st;
    }
    set_link(p, link);
    for (int i = 0; i < n; i++)
        list[i].address = sh_rpc_text_from(text[i]);
    answer_m.link = p->handle;
    answer_m.n_addresses = (uint32_t)n;
    (void)!sh_rpc_conn_send(c, SH_RPC_MSG_LINK_EXPECTED, in->request, &answer_m, NULL);
    return SHOAL_OK;
}

/* ---- opening ---------------------------------------------------------------------------------*/

static bool is_named(const struct sh_rpc_server_options *opt, const struct sh_address *a)
{
    for (int i = 0; i < opt->n_link_to; i++) {
        if (sh_network_has(&opt->link_to[i], a)) return true;
    }
    return false;
}

/* May its client send this worker there? */
static bool may_go(const struct sh_session *s, const char *address, bool encrypted)
{
    const struct sh_rpc_server_options *opt = &s->server->opt;
    struct sh_address a;

    if (sh_address_parse(&a, address, NULL)) return false;
    if (sh_address_is_loopback(&a)) return is_beside(s);
    if (!encrypted && !opt->allow_plain_links) return false;
    return sh_network_is_own(&a) || is_named(opt, &a);
}

/* One more address?  At most so many in a minute. */
static bool may_try(struct sh_session_links *l)
{
    const int64_t now = sh_now_ns(&sh_clock_system);
    int64_t *oldest = &l->attempt_ns[l->attempt];

    if (*oldest != 0 && now - *oldest < ATTEMPTS_NS) return false;
    *oldest = now;
    l->attempt = (l->attempt + 1) % ATTEMPTS_MAX;
    return true;
}

/* Those of the addresses where it may go now. */
static enum shoal_status choose_addresses(struct sh_session_links *l,
                                          const struct sh_rpc_link_open *m, struct job *j,
                                          struct shoal_error *err)
{
    bool too_many = false;

    j->n_addresses = 0;
    for (uint32_t i = 0; i < m->n_addresses && j->n_addresses < ADDRESSES_MAX; i++) {
        char text[SH_ADDRESS_TEXT_MAX];
        sh_rpc_text_copy(text, sizeof text, m->addresses[i].address);
        if (!may_go(l->session, text, has_key(m->key))) continue;
        too_many = !may_try(l);
        if (too_many) break;
        (void)snprintf(j->address[j->n_addresses++], SH_ADDRESS_TEXT_MAX, "%s", text);
    }
    if (j->n_addresses > 0) return SHOAL_OK;
    if (too_many) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "%d addresses in a minute are enough for links",
                       ATTEMPTS_MAX);
    }
    return sh_fail(err, SHOAL_ERR_ARG, "this worker goes to none of these %u addresses for a link",
                   (unsigned)m->n_addresses);
}

static enum shoal_status begin_open(struct sh_session_links *l, struct sh_rpc_conn *c,
                                    const struct sh_rpc_incoming *in, struct shoal_error *err)
{
    const struct sh_rpc_link_open *m = in->msg;
    struct sh_hosted *h = NULL;
    struct place *p = NULL;
    struct job *j = NULL;
    enum shoal_status st = check_stage(l->session, m->stage, m->purpose, &h, err);

    if (st) return st;
    p = take_place(l, h, m->writes != 0);
    if (!p) return no_place(err);
    j = take_job(l, c, in, p);
    if (!j) {
        give_place(p);
        return busy(err);
    }
    memcpy(j->key.bytes, m->key, sizeof j->key.bytes);
    j->opt = options(l->session, p, m->token, has_key(m->key) ? &j->key : NULL);
    j->opt.stop = &j->stop;
    st = choose_addresses(l, m, j, err);
    if (st) {
        drop_job(j);
    } else {
        st = start_job(j, err);
    }
    if (st) give_place(p);
    return st;
}

/* ---- closing and measuring -------------------------------------------------------------------*/

/* The place of a link that is there, and not being closed. */
static enum shoal_status find_link(struct sh_session_links *l, struct sh_rpc_handle handle,
                                   bool leave, struct place **out, struct shoal_error *err)
{
    sh_mutex_lock(&l->lock);
    *out = find_place(l, handle);
    if (*out && (!(*out)->link || atomic_load(&(*out)->leaving))) *out = NULL;
    if (*out && leave) atomic_store(&(*out)->leaving, true);
    for (int i = 0; *out && leave && i < JOBS_MAX; i++) {
        if (l->job[i].used && !l->job[i].done && l->job[i].place == *out) {
            atomic_store(&(*out)->leaving, false);
            sh_mutex_unlock(&l->lock);
            return sh_fail(err, SHOAL_ERR_STATE, "link %u.%u is being measured",
                           (unsigned)handle.slot, (unsigned)handle.generation);
        }
    }
    sh_mutex_unlock(&l->lock);
    if (*out) return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_NOT_FOUND, "there is no link %u.%u", (unsigned)handle.slot,
                   (unsigned)handle.generation);
}

static enum shoal_status begin_probe(struct sh_session_links *l, struct sh_rpc_conn *c,
                                     const struct sh_rpc_incoming *in, struct shoal_error *err)
{
    const struct sh_rpc_link_probe *m = in->msg;
    struct place *p;
    struct job *j;
    enum shoal_status st = find_link(l, m->link, false, &p, err);

    if (!st && (m->count < 1 || m->count > PROBES_MAX || m->bytes > SH_RPC_CHUNK_MAX)) {
        st = sh_fail(err, SHOAL_ERR_ARG, "%u probes of %u bytes; at most %d of %u",
                     (unsigned)m->count, (unsigned)m->bytes, PROBES_MAX, SH_RPC_CHUNK_MAX);
    }
    if (st) return st;
    j = take_job(l, c, in, p);
    if (!j) return busy(err);
    j->bytes = m->bytes;
    j->count = m->count;
    return start_job(j, err);
}

static enum shoal_status begin_close(struct sh_session_links *l, struct sh_rpc_conn *c,
                                     const struct sh_rpc_incoming *in, struct shoal_error *err)
{
    const struct sh_rpc_link_close *m = in->msg;
    struct place *p;
    struct job *j;
    enum shoal_status st = find_link(l, m->link, true, &p, err);

    if (st) return st;
    j = take_job(l, c, in, p);
    st = j ? start_job(j, err) : busy(err);
    if (st) atomic_store(&p->leaving, false);
    return st;
}

enum shoal_status sh_session_link_message(struct sh_session *s, struct sh_rpc_conn *c,
                                          const struct sh_rpc_incoming *m, struct shoal_error *err)
{
    struct sh_session_links *l = links_of(s);
    struct shoal_error why = SHOAL_ERROR_INIT;
    enum shoal_status st;

    (void)err;
    if (!l) {
        st = sh_fail(&why, SHOAL_ERR_NOMEM, "no memory for links");
    } else if (m->type == SH_RPC_MSG_LINK_EXPECT) {
        st = expect_link(l, c, m, &why);
    } else if (m->type == SH_RPC_MSG_LINK_OPEN) {
        st = begin_open(l, c, m, &why);
    } else if (m->type == SH_RPC_MSG_LINK_PROBE) {
        st = begin_probe(l, c, m, &why);
    } else {
        st = begin_close(l, c, m, &why);
    }
    if (st) sh_rpc_conn_refuse(c, m->request, st, &why, 0, 0);
    return SHOAL_OK;
}

/* ---- ending ----------------------------------------------------------------------------------*/

void sh_session_links_detach(struct sh_session *s)
{
    struct sh_session_links *l = s->links;

    if (!l) return;
    sh_mutex_lock(&l->lock);
    for (int i = 0; i < JOBS_MAX; i++)
        l->job[i].conn = NULL;
    sh_mutex_unlock(&l->lock);
}

/* Jobs of a stage (NULL: all) have come to their end. */
static void end_jobs(struct sh_session_links *l, const struct sh_hosted *h)
{
    for (int i = 0; i < JOBS_MAX; i++) {
        struct job *j = &l->job[i];
        bool mine;
        sh_mutex_lock(&l->lock);
        mine =
            j->used && !j->done && (!h || !j->place || !j->place->hosted || j->place->hosted == h);
        if (mine) atomic_store(&j->stop, true);
        if (mine && j->place && j->place->link && j->type == SH_RPC_MSG_LINK_PROBE)
            sh_rpc_link_break(j->place->link); // it is closed anyway
        sh_mutex_unlock(&l->lock);
        if (mine || !h) sh_thread_join(&j->thread);
    }
}

void sh_session_links_close(struct sh_session *s, struct sh_hosted *h)
{
    struct sh_session_links *l = s->links;

    if (!l) return;
    end_jobs(l, h);
    for (int i = 0; i < SH_SESSION_LINKS_MAX; i++) {
        struct place *p = &l->place[i];
        if (p->handle.generation && (!h || p->hosted == h)) close_place(p);
    }
    if (h) return;
    sh_mutex_release(&l->lock);
    sh_free(l);
    s->links = NULL;
}
