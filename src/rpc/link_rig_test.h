/* rpc/link_rig_test.h - a server of links on loopback, and owners of links that count what they
 * hear: what the tests of links share.
 */
#ifndef RPC_LINK_RIG_TEST_H
#define RPC_LINK_RIG_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/thread.h"
#include "net/listener.h"
#include "net/tcp.h"
#include "net/tls.h"
#include "rpc/link.h"

#define PATIENCE_NS (60 * SH_SECOND)
#define RIG_CONNS_MAX 64

static inline void must(enum shoal_status st, const struct shoal_error *err)
{
    if (st) fail_msg("%s: %s", shoal_status_name(st), err->message);
}

/* ---- an owner of one end ---------------------------------------------------------------------*/

struct owner {
    struct sh_mutex lock;
    struct sh_cond changed;
    struct sh_rpc_handle stage;
    uint64_t epoch, next; /* a reader's: rows below are here */
    int n_rows, n_ups, n_acks, n_downs;
    uint64_t up_epoch, up_next, acked_epoch, acked;
    uint64_t bytes;
    bool out_of_order;
    enum shoal_status refuse; /* what rows() says */
    enum shoal_status down_st;
    struct shoal_error down_why;
};

static inline enum shoal_status owner_rows(void *self, const struct sh_rpc_hidden *m,
                                           struct shoal_error *err)
{
    struct owner *o = self;
    enum shoal_status st;

    sh_mutex_lock(&o->lock);
    st = o->refuse;
    if (m->number == o->next) {
        o->next++;
    } else if (m->number > o->next) {
        o->out_of_order = true; // below: sent twice
    }
    o->n_rows++;
    o->bytes += m->data.n;
    sh_cond_broadcast(&o->changed);
    sh_mutex_unlock(&o->lock);
    return st ? sh_fail(err, st, "these rows are nonsense") : SHOAL_OK;
}

static inline void owner_wants(void *self, struct sh_rpc_handle *stage, uint64_t *epoch,
                               uint64_t *next)
{
    struct owner *o = self;

    sh_mutex_lock(&o->lock);
    *stage = o->stage;
    *epoch = o->epoch;
    *next = o->next;
    sh_mutex_unlock(&o->lock);
}

static inline void owner_up(void *self, uint64_t epoch, uint64_t next)
{
    struct owner *o = self;

    sh_mutex_lock(&o->lock);
    o->n_ups++;
    o->up_epoch = epoch;
    o->up_next = next;
    sh_cond_broadcast(&o->changed);
    sh_mutex_unlock(&o->lock);
}

static inline void owner_acked(void *self, uint64_t epoch, uint64_t next)
{
    struct owner *o = self;

    sh_mutex_lock(&o->lock);
    o->n_acks++;
    o->acked_epoch = epoch;
    o->acked = next;
    sh_cond_broadcast(&o->changed);
    sh_mutex_unlock(&o->lock);
}

static inline void owner_down(void *self, enum shoal_status st, const struct shoal_error *why)
{
    struct owner *o = self;

    sh_mutex_lock(&o->lock);
    o->n_downs++;
    o->down_st = st;
    o->down_why = *why;
    sh_cond_broadcast(&o->changed);
    sh_mutex_unlock(&o->lock);
}

static inline void owner_init(struct owner *o)
{
    memset(o, 0, sizeof *o);
    sh_mutex_init(&o->lock);
    sh_cond_init(&o->changed);
    o->stage = (struct sh_rpc_handle){3, 7};
}

static inline void owner_release(struct owner *o)
{
    sh_cond_release(&o->changed);
    sh_mutex_release(&o->lock);
}

/* Until a counter of the owner is at least `least`. */
static inline void owner_waits(struct owner *o, const int *counter, int least, const char *what)
{
    const int64_t end = sh_deadline_in(&sh_clock_system, PATIENCE_NS);
    int have;

    sh_mutex_lock(&o->lock);
    while (*counter < least && sh_now_ns(&sh_clock_system) < end)
        (void)sh_cond_wait(&o->changed, &o->lock, SH_SECOND);
    have = *counter;
    sh_mutex_unlock(&o->lock);
    if (have < least) fail_msg("%d %s, expected %d", have, what, least);
}

static inline struct sh_rpc_link_options link_options(struct owner *o, bool writes, uint8_t token)
{
    struct sh_rpc_link_options opt = {
        .writes = writes,
        .features = SH_RPC_FEATURES_ALL,
        .silence_ns = PATIENCE_NS,
        .redial_ns = PATIENCE_NS, // a slow machine does not give up
        .events = {owner_rows, owner_wants, owner_up, owner_acked, owner_down, o}};

    memset(opt.token, token, sizeof opt.token);
    return opt;
}

/* ---- a server --------------------------------------------------------------------------------*/

struct rig {
    struct sh_rpc_links *links;
    struct sh_listener *listener;
    char address[SH_ADDRESS_TEXT_MAX];
    bool tls;
    struct sh_thread accepting;
    struct sh_mutex lock; /* below */
    int n;
    struct rig_conn {
        struct rig *rig;
        struct sh_stream *stream;
        struct sh_thread thread;
    } conn[RIG_CONNS_MAX];
};

static inline bool rig_key(void *self, const char *identity, struct sh_key *out)
{
    return sh_rpc_links_key(((struct rig *)self)->links, identity, out);
}

static inline void *rig_serve(void *self)
{
    struct rig_conn *rc = self;
    const struct sh_tls_keys keys = {rig_key, rc->rig};
    const struct sh_rpc_conn_options opt = {
        .features = SH_RPC_FEATURES_ALL, .encrypted = rc->rig->tls, .silence_ns = PATIENCE_NS};
    char identity[SH_TLS_IDENTITY_MAX] = "";
    struct sh_rpc_conn *c = NULL;
    enum shoal_status st = SHOAL_OK;

    if (rc->rig->tls)
        st = sh_tls_accept(&rc->stream, rc->stream, &keys, 5 * SH_SECOND, identity, NULL);
    if (!st) st = sh_rpc_conn_accept(&c, rc->stream, &opt, NULL);
    if (!st) (void)sh_rpc_links_serve(rc->rig->links, c, identity, NULL);
    sh_rpc_conn_close(c, NULL);
    return NULL;
}

static inline void *rig_accept(void *self)
{
    const struct sh_tcp_options tcp = {.user_timeout_ms = 0};
    struct rig *r = self;

    while (r->n < RIG_CONNS_MAX) {
        struct rig_conn *rc = &r->conn[r->n];
        struct sh_address peer;

        rc->rig = r;
        if (sh_listener_accept(r->listener, SH_NO_DEADLINE, &tcp, &rc->stream, &peer, NULL)) break;
        SH_ASSERT(!sh_thread_start(&rc->thread, "rig", rig_serve, rc, NULL));
        r->n++;
    }
    return NULL;
}

/* Nobody comes in any more. */
static inline void rig_shut(struct rig *r)
{
    if (!r->listener) return;
    sh_listener_interrupt(r->listener);
    sh_thread_join(&r->accepting);
    sh_listener_close(r->listener);
    r->listener = NULL;
}

static inline void rig_start(struct rig *r, bool tls)
{
    struct sh_endpoint ep;
    struct shoal_error err;

    memset(r, 0, sizeof *r);
    r->tls = tls;
    must(sh_rpc_links_create(&r->links, &err), &err);
    must(sh_endpoint_parse(&ep, "127.0.0.1:0", -1, &err), &err);
    must(sh_listener_open(&r->listener, &ep, &err), &err);
    (void)snprintf(r->address, sizeof r->address, "%s", sh_listener_text(r->listener));
    must(sh_thread_start(&r->accepting, "accept", rig_accept, r, &err), &err);
}

static inline void rig_stop(struct rig *r)
{
    rig_shut(r);
    for (int i = 0; i < r->n; i++)
        sh_thread_join(&r->conn[i].thread);
    sh_rpc_links_destroy(r->links);
}

/* ---- both ends -------------------------------------------------------------------------------*/

struct pair {
    struct rig rig;
    struct owner writer, reader;
    struct sh_rpc_link *from, *to; /* the writer's end, the reader's */
};

static inline enum shoal_status pair_dial(struct pair *p, const struct sh_rpc_link_options *opt,
                                          struct sh_rpc_link **out, struct shoal_error *err)
{
    const char *addresses[] = {p->rig.address};
    char address[SH_ADDRESS_TEXT_MAX];
    uint32_t us;

    return sh_rpc_link_open(out, opt, addresses, 1, 20 * SH_SECOND, address, &us, err);
}

/* The writer's end dials the reader's, or the other way round; up at both. */
static inline void pair_open_for(struct pair *p, bool writer_dials, const struct sh_key *key,
                                 int64_t redial_ns)
{
    struct sh_rpc_link_options w, r;
    struct shoal_error err;

    memset(p, 0, sizeof *p);
    rig_start(&p->rig, key != NULL);
    owner_init(&p->writer);
    owner_init(&p->reader);
    w = link_options(&p->writer, true, 0x55);
    r = link_options(&p->reader, false, 0x55);
    w.key = r.key = key;
    w.redial_ns = r.redial_ns = redial_ns;
    must(sh_rpc_link_expect(p->rig.links, writer_dials ? &p->to : &p->from, writer_dials ? &r : &w,
                            &err),
         &err);
    must(pair_dial(p, writer_dials ? &w : &r, writer_dials ? &p->from : &p->to, &err), &err);
    owner_waits(&p->writer, &p->writer.n_ups, 1, "times up");
}

static inline void pair_open(struct pair *p, bool writer_dials, const struct sh_key *key)
{
    pair_open_for(p, writer_dials, key, PATIENCE_NS);
}

static inline void pair_close(struct pair *p)
{
    sh_rpc_link_close(p->from);
    sh_rpc_link_close(p->to);
    rig_stop(&p->rig);
    owner_release(&p->writer);
    owner_release(&p->reader);
}

static inline struct sh_rpc_hidden rows_of(uint64_t number, const void *data, uint32_t bytes)
{
    return (struct sh_rpc_hidden){
        .epoch = 2, .number = number, .n_rows = 1, .data = {.ptr = data, .n = bytes}};
}

/* Steps [from, to) of these bytes, each of which must go out. */
static inline void pair_send(struct pair *p, uint64_t from, uint64_t to, uint32_t bytes)
{
    uint8_t *data = sh_calloc(bytes, 1);
    struct shoal_error err;

    assert_non_null(data);
    for (uint64_t i = from; i < to; i++) {
        const struct sh_rpc_hidden m = rows_of(i, data, bytes);
        must(sh_rpc_link_send(p->from, &m, &err), &err);
    }
    sh_free(data);
}

#endif
