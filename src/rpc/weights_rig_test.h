/* rpc/weights_rig_test.h - for tests of weights: a small worker of which nothing but weights is
 * real, and which can be told to lie.
 *
 * It answers DEVICES, OPEN and CLOSE on CONTROL connections, ATTACH on DATA connections, and gives
 * WANT, PUT and PUT_END to a session's weights.  Sessions stay until the worker ends, as within
 * their lease.
 */
#ifndef RPC_WEIGHTS_RIG_TEST_H
#define RPC_WEIGHTS_RIG_TEST_H

#include "blob/rig_test.h"
#include "net/listener.h"
#include "rpc/machine.h"
#include "rpc/remote.h"
#include "rpc/server_priv.h"

enum { MINI_SESSIONS = 8, MINI_SERVED = 32 };

enum mini_lie {
    MINI_HONEST,
    MINI_MISSES_ANOTHER, /* a weight that nobody wants is missing */
    MINI_HELD_TOO_MUCH,  /* more than a tensor has is held */
    MINI_DONE_ANOTHER,   /* PUT_DONE names another tensor */
    MINI_CUTS_AT_PUT,    /* the connection is cut at the first PUT */
    MINI_NEVER_MISSING,  /* WANT is not answered */
    MINI_NEVER_DONE      /* PUT_END is not answered */
};

struct mini;
struct mini_served {
    struct mini *m;
    struct sh_thread thread;
    struct sh_stream *stream;
    struct sh_rpc_conn *conn; /* under the lock */
    bool data;
    struct sh_session_weights *weights;
};

struct mini {
    struct sh_blobs *blobs;
    uint64_t features;
    const char *kid;
    atomic_int lie;
    struct sh_listener *listener;
    struct sh_thread thread;
    struct sh_mutex lock; /* guards what follows */
    struct sh_cond changed;
    struct sh_session_weights *weights[MINI_SESSIONS];
    int n_sessions, n_data, n_open; /* connections: DATA ones so far, open ones now */
    uint64_t data_bytes;            /* received on DATA connections that are over */
    struct mini_served served[MINI_SERVED];
    int n_served;
    bool ending;
};

static inline enum shoal_status mini_open(struct mini_served *s, struct sh_rpc_conn *c,
                                          const struct sh_rpc_incoming *in, struct shoal_error *err)
{
    const struct sh_rpc_open *open = in->msg;
    struct mini *m = s->m;
    struct sh_rpc_opened opened = {.lease_ms = 30000};
    uint64_t bytes = 0;
    enum shoal_status st;

    for (uint32_t i = 0; i < open->n_claims; i++)
        bytes += open->claims[i].weights;
    sh_mutex_lock(&m->lock);
    SH_ASSERT(m->n_sessions < MINI_SESSIONS);
    st = sh_session_weights_create(&m->weights[m->n_sessions], m->blobs, m->kid, bytes, err);
    if (!st) opened.session = (uint64_t)++m->n_sessions;
    sh_mutex_unlock(&m->lock);
    memset(opened.secret, (int)opened.session, sizeof opened.secret);
    return st ? st : sh_rpc_conn_send(c, SH_RPC_MSG_OPENED, in->request, &opened, err);
}

static inline enum shoal_status mini_attach(struct mini_served *s, struct sh_rpc_conn *c,
                                            const struct sh_rpc_incoming *in,
                                            struct shoal_error *err)
{
    const struct sh_rpc_attach *a = in->msg;
    const struct sh_rpc_attached attached = {.chunk_bytes = SH_DATA_CHUNK_BYTES};
    struct mini *m = s->m;

    sh_mutex_lock(&m->lock);
    if (a->session >= 1 && a->session <= (uint64_t)m->n_sessions &&
        a->secret[0] == (uint8_t)a->session) {
        s->weights = m->weights[a->session - 1];
        m->n_data++;
        s->data = true;
    }
    sh_mutex_unlock(&m->lock);
    if (!s->weights) return sh_fail(err, SHOAL_ERR_NOT_FOUND, "there is no such session");
    return sh_rpc_conn_send(c, SH_RPC_MSG_ATTACHED, in->request, &attached, err);
}

static inline enum shoal_status mini_weights(struct mini_served *s, struct sh_rpc_conn *c,
                                             const struct sh_rpc_incoming *in,
                                             struct shoal_error *err)
{
    struct sh_rpc_miss miss = {.held = 0};
    const struct sh_rpc_missing missing = {.misses = &miss, .n_misses = 1};
    struct sh_rpc_put_done done = {.sha256 = {1}};
    const int lie = atomic_load(&s->m->lie);

    if (!s->weights && s->m->n_sessions > 0) s->weights = s->m->weights[s->m->n_sessions - 1];
    if (in->type == SH_RPC_MSG_WANT && lie == MINI_MISSES_ANOTHER) {
        return sh_rpc_conn_send(c, SH_RPC_MSG_MISSING, in->request, &missing, err);
    }
    if (in->type == SH_RPC_MSG_WANT && lie == MINI_HELD_TOO_MUCH) {
        const struct sh_rpc_want *want = in->msg;
        memcpy(miss.sha256, want->weights[0].sha256, sizeof miss.sha256);
        miss.held = want->weights[0].bytes + 1;
        return sh_rpc_conn_send(c, SH_RPC_MSG_MISSING, in->request, &missing, err);
    }
    if (in->type == SH_RPC_MSG_WANT && lie == MINI_NEVER_MISSING) return SHOAL_OK;
    if (in->type == SH_RPC_MSG_PUT_END && lie == MINI_NEVER_DONE) return SHOAL_OK;
    if (in->type == SH_RPC_MSG_PUT_END && lie == MINI_DONE_ANOTHER) {
        return sh_rpc_conn_send(c, SH_RPC_MSG_PUT_DONE, in->request, &done, err);
    }
    if (in->type == SH_RPC_MSG_PUT && lie == MINI_CUTS_AT_PUT) {
        sh_rpc_conn_cut(c);
        return SHOAL_OK;
    }
    return sh_session_weights_message(s->weights, c, in->type, in->request, in->msg, err);
}

static inline enum shoal_status mini_message(void *self, struct sh_rpc_conn *c,
                                             const struct sh_rpc_incoming *in,
                                             struct shoal_error *err)
{
    const struct sh_rpc_device device = {
        .name = {"CPU", 3}, .flags = 3, .memory_free = 1 << 30, .memory_total = 1 << 30};
    const struct sh_rpc_devices_are are = {.devices = &device, .n_devices = 1};
    const struct sh_rpc_closed closed = {.freed = 0};

    switch (in->type) {
    case SH_RPC_MSG_DEVICES:
        return sh_rpc_conn_send(c, SH_RPC_MSG_DEVICES_ARE, in->request, &are, err);
    case SH_RPC_MSG_OPEN:
        return mini_open(self, c, in, err);
    case SH_RPC_MSG_CLOSE:
        return sh_rpc_conn_send(c, SH_RPC_MSG_CLOSED, in->request, &closed, err);
    case SH_RPC_MSG_ATTACH:
        return mini_attach(self, c, in, err);
    default:
        return mini_weights(self, c, in, err);
    }
}

static inline void *mini_serve(void *arg)
{
    struct mini_served *s = arg;
    struct mini *m = s->m;
    const struct sh_rpc_conn_options opt = {.features = m->features};
    const struct sh_rpc_handler h = {.message = mini_message, .self = s};
    struct sh_rpc_conn *c = NULL;
    struct sh_rpc_traffic t;

    if (!sh_rpc_conn_accept(&c, s->stream, &opt, NULL)) {
        sh_mutex_lock(&m->lock);
        s->conn = m->ending ? NULL : c;
        sh_mutex_unlock(&m->lock);
        if (s->conn) (void)!sh_rpc_conn_run(c, &h, NULL);
        sh_rpc_conn_traffic(c, &t);
    }
    sh_mutex_lock(&m->lock);
    s->conn = NULL;
    if (c && s->data) m->data_bytes += t.bytes_received;
    m->n_open--;
    sh_cond_broadcast(&m->changed);
    sh_mutex_unlock(&m->lock);
    sh_rpc_conn_close(c, NULL);
    return NULL;
}

static inline void *mini_accept(void *arg)
{
    const struct sh_tcp_options opt = {.user_timeout_ms = 0};
    struct mini *m = arg;
    struct sh_stream *stream;
    struct sh_address peer;

    while (!sh_listener_accept(m->listener, SH_NO_DEADLINE, &opt, &stream, &peer, NULL)) {
        struct mini_served *s = &m->served[m->n_served++];
        SH_ASSERT(m->n_served <= MINI_SERVED);
        *s = (struct mini_served){.m = m, .stream = stream};
        sh_mutex_lock(&m->lock);
        m->n_open++;
        sh_mutex_unlock(&m->lock);
        SH_ASSERT(!sh_thread_start(&s->thread, "serve", mini_serve, s, NULL));
    }
    return NULL;
}

static inline void mini_begin(struct mini *m, struct sh_folder *folder, const char *kid,
                              uint64_t features)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_endpoint ep;

    *m = (struct mini){.features = features ? features : SH_RPC_FEATURES_ALL, .kid = kid};
    sh_mutex_init(&m->lock);
    sh_cond_init(&m->changed);
    if (sh_blobs_create(&m->blobs, folder, &err) ||
        sh_endpoint_parse(&ep, "127.0.0.1:0", -1, &err) ||
        sh_listener_open(&m->listener, &ep, &err) ||
        sh_thread_start(&m->thread, "accept", mini_accept, m, &err))
        fail_msg("%s", err.message);
}

/* Until all connections are over. */
static inline void mini_wait(struct mini *m)
{
    const int64_t end = sh_deadline_in(&sh_clock_system, 60 * SH_SECOND);

    sh_mutex_lock(&m->lock);
    while (m->n_open > 0 && sh_now_ns(&sh_clock_system) < end)
        (void)sh_cond_wait(&m->changed, &m->lock, SH_SECOND);
    assert_int_equal(m->n_open, 0);
    sh_mutex_unlock(&m->lock);
}

static inline void mini_end(struct mini *m)
{
    sh_listener_interrupt(m->listener);
    sh_thread_join(&m->thread);
    sh_mutex_lock(&m->lock);
    m->ending = true;
    for (int i = 0; i < m->n_served; i++)
        if (m->served[i].conn) sh_rpc_conn_cut(m->served[i].conn);
    sh_mutex_unlock(&m->lock);
    for (int i = 0; i < m->n_served; i++)
        sh_thread_join(&m->served[i].thread);
    for (int i = 0; i < m->n_sessions; i++)
        sh_session_weights_destroy(m->weights[i]);
    sh_listener_close(m->listener);
    sh_blobs_destroy(m->blobs);
    sh_cond_release(&m->changed);
    sh_mutex_release(&m->lock);
}

/* A host with a session there, which set so many bytes aside for weights. */
static inline struct sh_remote *mini_host(const struct mini *m, uint64_t features, uint64_t bytes)
{
    const struct sh_remote_options opt = {.address = sh_listener_text(m->listener),
                                          .features = features};
    const struct sh_remote_claim claim = {.weights = bytes};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_remote *r = NULL;

    if (sh_remote_open(&r, &opt, &err) || sh_remote_session(r, "test", &claim, 1, 0, &err))
        fail_msg("%s", err.message);
    return r;
}

#endif
