/* rpc/link_dial.c - the end of a link that dials, and dials again when it breaks.
 *
 *      thread of the link:   connect, greet ──> run() ──────────────────> it ended: again, or down
 *      a thread for a while:                └─> ask LINK_HELLO ─> up
 *
 * run() has to be under way for an answer to be heard, so somebody else asks; that thread is gone
 * as soon as the link is up.
 *
 * Threads: link_priv.h.
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "net/tcp.h"
#include "net/tls.h"
#include "rpc/link_priv.h"

#define PAUSE_NS (20 * SH_MS) /* between two rounds over the addresses */
#define ROUND_TRIPS 5         /* measured when it is up */
#define USER_TIMEOUT_MS 20000

struct dial {
    struct sh_rpc_link *k;
    struct sh_rpc_conn *c;
    int64_t timeout_ns;
    bool up;
    enum shoal_status st; /* of LINK_HELLO */
    struct shoal_error err;
};

/* Nanoseconds until a deadline, at least a few. */
static int64_t left(int64_t deadline)
{
    const int64_t ns = deadline - sh_now_ns(&sh_clock_system);

    return ns > SH_MS ? ns : SH_MS;
}

static enum shoal_status connect_to(struct sh_rpc_conn **out, const struct sh_rpc_link *k,
                                    const char *address, int64_t timeout_ns,
                                    struct shoal_error *err)
{
    struct sh_rpc_conn_options opt = {.features = k->opt.features & SH_LINK_FEATURES,
                                      .purpose = SH_RPC_FOR_LINK,
                                      .encrypted = k->has_key,
                                      .silence_ns = k->opt.silence_ns,
                                      .queue_max = k->opt.queue_max};
    const struct sh_tcp_options tcp = {.user_timeout_ms = USER_TIMEOUT_MS,
                                       .unsent_max = SH_TCP_UNSENT_MAX};
    const int64_t end = sh_deadline_in(&sh_clock_system, timeout_ns);
    struct sh_stream *s = NULL;
    struct sh_endpoint ep;
    enum shoal_status st;

    *out = NULL;
    memcpy(opt.machine, k->opt.machine, sizeof opt.machine);
    st = sh_endpoint_parse(&ep, address, -1, err);
    if (!st) st = sh_tcp_connect(&s, &ep, timeout_ns, &tcp, err);
    if (!st && k->has_key) st = sh_tls_connect(&s, s, k->identity, &k->key, left(end), err);
    opt.greeting_ns = left(end);
    if (!st) st = sh_rpc_conn_connect(out, s, &opt, err);
    return st;
}

/* Prove the token; what ends here ends run(), too. */
static void *say_hello(void *self)
{
    struct dial *d = self;
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_link_hello hello;
    struct sh_rpc_link_welcome welcome;
    struct sh_rpc_ask ask = {.type = SH_RPC_MSG_LINK_HELLO,
                             .msg = &hello,
                             .answer = &welcome,
                             .arena = &arena,
                             .timeout_ns = d->timeout_ns};

    memcpy(hello.token, d->k->opt.token, sizeof hello.token);
    sh_link_greeting(d->k, &hello.stage, &hello.epoch, &hello.next);
    d->st = sh_rpc_conn_ask(d->c, &ask, &d->err);
    if (!d->st) d->st = sh_link_greeted(d->k, welcome.stage, &d->err);
    if (!d->st) {
        d->up = true;
        sh_link_up(d->k, welcome.stage, welcome.epoch, welcome.next);
    } else {
        sh_rpc_conn_cut(d->c);
    }
    sh_arena_release(&arena);
    sh_wipe(hello.token, sizeof hello.token);
    return NULL;
}

static enum shoal_status take_message(void *self, struct sh_rpc_conn *c,
                                      const struct sh_rpc_incoming *m, struct shoal_error *err)
{
    return sh_link_message(self, c, m, err);
}

static void take_bye(void *self)
{
    sh_link_ended(self);
}

/* One connection from beginning to end.  Returns why it ended; *was_up: the link was up. */
static enum shoal_status dial_once(struct sh_rpc_link *k, const char *address, int64_t timeout_ns,
                                   bool *was_up, struct shoal_error *err)
{
    const struct sh_rpc_handler handler = {.message = take_message, .bye = take_bye, .self = k};
    struct dial d = {.k = k, .timeout_ns = timeout_ns};
    struct sh_thread hello = SH_THREAD_INIT;
    enum shoal_status st;
    bool closing;

    *was_up = false;
    st = connect_to(&d.c, k, address, timeout_ns, err);
    if (st) return st;
    sh_mutex_lock(&k->lock);
    closing = k->closing;
    if (!closing) k->conn = d.c;
    sh_mutex_unlock(&k->lock);
    if (closing) {
        sh_rpc_conn_close(d.c, NULL);
        return sh_fail(err, SHOAL_ERR_CANCELLED, "rpc: the link is closed");
    }
    k->unacked = 0;
    k->acked_ns = sh_now_ns(&sh_clock_system);
    st = sh_thread_start(&hello, "shoal-hello", say_hello, &d, err);
    if (!st) st = sh_rpc_conn_run(d.c, &handler, err);
    sh_thread_join(&hello);
    *was_up = d.up;
    if (!d.up && d.st) {
        st = d.st;
        if (err) *err = d.err;
    }
    // At first the next address may be another machine's.
    if (sh_link_is_final(st) && (d.up || k->n_ups > 0)) sh_link_ended(k);
    sh_link_detach(k);
    sh_rpc_conn_close(d.c, NULL);
    return st;
}

/* So many addresses in turn, the one that worked first.  True: the link was up, and `st` says why
 * it is not any more. */
static bool dial_round(struct sh_rpc_link *k, int n, int64_t timeout_ns, const atomic_bool *give_up,
                       enum shoal_status *st, struct shoal_error *err)
{
    const int first = k->worked;
    bool was_up = false;

    for (int i = 0; i < n && !was_up; i++) {
        const int at = (first + i) % k->n_addresses;
        bool stop;

        if (give_up && atomic_load(give_up)) {
            *st = sh_fail(err, SHOAL_ERR_CANCELLED, "rpc: the link is not wanted any more");
            break;
        }
        sh_mutex_lock(&k->lock);
        k->worked = at;
        sh_mutex_unlock(&k->lock);
        *st = dial_once(k, k->address[at], timeout_ns, &was_up, err);
        sh_mutex_lock(&k->lock);
        stop = k->closing || k->ended;
        sh_mutex_unlock(&k->lock);
        if (stop) break;
    }
    return was_up;
}

/* Between two rounds.  False: no further one. */
static bool pause_dialling(struct sh_rpc_link *k, int64_t deadline)
{
    bool again;

    sh_mutex_lock(&k->lock);
    if (!k->closing && !k->ended) (void)sh_cond_wait(&k->changed, &k->lock, PAUSE_NS);
    again = !k->closing && !k->ended && sh_now_ns(&sh_clock_system) < deadline;
    sh_mutex_unlock(&k->lock);
    return again;
}

static void *keep_up(void *self)
{
    struct sh_rpc_link *k = self;
    struct shoal_error err = {.code = SHOAL_OK}, latest;
    enum shoal_status st = SHOAL_OK, again;
    bool was_up = dial_round(k, k->n_addresses, k->timeout_ns, k->opt.stop, &st, &err);
    const bool opened = was_up;

    while (was_up) {
        const int64_t deadline = sh_deadline_in(&sh_clock_system, k->opt.redial_ns);
        bool ended;

        sh_mutex_lock(&k->lock);
        ended = k->closing || k->ended;
        sh_mutex_unlock(&k->lock);
        if (ended) break;
        do {
            was_up = dial_round(k, 1, k->opt.redial_ns, NULL, &again, &latest);
        } while (!was_up && pause_dialling(k, deadline));
        if (was_up) {
            st = again;
            err = latest;
        }
    }
    if (opened) {
        sh_link_down(k, st, &err);
    } else {
        sh_mutex_lock(&k->lock);
        k->down = true;
        k->st = st ? st : SHOAL_ERR_PEER;
        k->why = err;
        sh_cond_broadcast(&k->changed);
        sh_mutex_unlock(&k->lock);
    }
    return NULL;
}

/* Until it is up or known not to be. */
static enum shoal_status wait_for_it(struct sh_rpc_link *k, char address[SH_ADDRESS_TEXT_MAX],
                                     struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    sh_mutex_lock(&k->lock);
    while (k->n_ups == 0 && !k->down)
        (void)sh_cond_wait(&k->changed, &k->lock, INT64_MAX);
    if (k->n_ups == 0) {
        st = k->st;
        if (err) *err = k->why;
    } else {
        (void)snprintf(address, SH_ADDRESS_TEXT_MAX, "%s", k->address[k->worked]);
    }
    sh_mutex_unlock(&k->lock);
    return st;
}

enum shoal_status sh_rpc_link_open(struct sh_rpc_link **out, const struct sh_rpc_link_options *opt,
                                   const char *const *addresses, int n, int64_t each_ns,
                                   char address[SH_ADDRESS_TEXT_MAX], uint32_t *round_trip_us,
                                   struct shoal_error *err)
{
    struct sh_rpc_link_probed probed;
    struct sh_rpc_link *k = NULL;
    enum shoal_status st;

    *out = NULL;
    *round_trip_us = 0;
    if (n < 1 || n > SH_RPC_LINK_ADDRESSES_MAX) {
        return sh_fail(err, SHOAL_ERR_ARG, "rpc: a link with %d addresses, 1 to %d can be tried", n,
                       SH_RPC_LINK_ADDRESSES_MAX);
    }
    st = sh_link_create(&k, opt, true, err);
    if (st) return st;
    for (int i = 0; i < n; i++)
        (void)snprintf(k->address[i], sizeof k->address[i], "%s", addresses[i]);
    k->n_addresses = n;
    k->timeout_ns = each_ns;
    st = sh_thread_start(&k->thread, "shoal-link", keep_up, k, err);
    if (!st) st = wait_for_it(k, address, err);
    if (st) {
        sh_rpc_link_close(k);
        return st;
    }
    if (!sh_rpc_link_probe(k, 0, ROUND_TRIPS, &probed, NULL)) *round_trip_us = probed.least_us;
    *out = k;
    return SHOAL_OK;
}
