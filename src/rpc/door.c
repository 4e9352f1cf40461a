/* rpc/door.c - accepting, places, threads, stopping.
 *
 * A visitor that is let go while it greets is cut; its thread ends soon and is joined by run().
 * How many threads there are is bounded too: past that, nobody is accepted until some have ended.
 */
#include "rpc/door.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/interfaces.h"
#include "rpc/door_priv.h"

#define DEFAULT_PORT 50052
#define USER_TIMEOUT_MS 30000

/* ---- log ------------------------------------------------------------------------------------*/

void sh_door_log_refusal(struct sh_door *d, const char *peer, const char *why)
{
    const struct sh_log_field fields[] = {sh_log_text("event", NULL, "refused"),
                                          sh_log_text("client", NULL, peer),
                                          sh_log_text("reason", NULL, why)};

    if (!sh_log_limit_may(&d->lines)) return;
    sh_log_fields(SH_LOG_WARN, "door", fields, 3, "%s: connection refused: %s", peer, why);
}

/* ---- places ---------------------------------------------------------------------------------
 * All under the lock. */

static bool is_same(const struct visitor *a, const struct visitor *b)
{
    return sh_address_same_host(&a->address, &b->address);
}

static int count_same(const struct sh_door *d, const struct visitor *v, enum visitor_place place)
{
    int n = 0;

    for (const struct visitor *o = d->visitors; o; o = o->next)
        n += o->place == place && is_same(o, v);
    return n;
}

/* Who gives way for a visitor: somebody of its own address if that has its share already, else of
 * the address that has most; the one that came first, and one that was never heard before one that
 * was. */
static struct visitor *find_victim(const struct sh_door *d, const struct visitor *v, bool of_same)
{
    struct visitor *victim = NULL;
    int most = 0;
    bool victim_heard = true;

    for (struct visitor *o = d->visitors; o; o = o->next) {
        bool heard;
        int n;
        if (o->place != GREETING || (of_same && !is_same(o, v))) continue;
        n = of_same ? 1 : count_same(d, o, GREETING);
        if (n < most) continue;
        heard = !o->stream || sh_peek_heard(o->stream);
        // They are met newest first, so an equal one is older.
        if (n == most && heard && !victim_heard) continue;
        most = n;
        victim = o;
        victim_heard = heard;
    }
    return victim;
}

static void evict(struct sh_door *d, struct visitor *v)
{
    v->place = EVICTED;
    d->n_greeting--;
    if (v->stream) sh_stream_cut(v->stream);
}

/* A place for one who just came. */
static void take_place(struct sh_door *d, struct visitor *v)
{
    const bool same_full = count_same(d, v, GREETING) >= d->opt.greeting_per_address_max;

    if (same_full || d->n_greeting >= d->opt.greeting_max) {
        struct visitor *victim = find_victim(d, v, same_full);
        if (victim) evict(d, victim);
    }
    v->place = GREETING;
    v->number = d->n_came++;
    v->next = d->visitors;
    d->visitors = v;
    d->n_greeting++;
    d->n_threads++;
}

bool sh_door_enter(struct visitor *v, const char *kid, struct shoal_error *err)
{
    struct sh_door *d = v->door;
    enum shoal_status st = SHOAL_OK;

    sh_mutex_lock(&d->lock);
    if (v->place != GREETING) {
        st = sh_fail(err, SHOAL_ERR_CANCELLED, "it gave way to others while it greeted");
    } else if (d->stopping) {
        st = sh_fail(err, SHOAL_ERR_CANCELLED, "this worker is ending");
    } else if (d->n_inside >= d->opt.connections_max) {
        st = sh_fail(err, SHOAL_ERR_LIMIT, "there are %d connections already", d->n_inside);
    } else if (count_same(d, v, INSIDE) >= d->opt.connections_per_address_max) {
        st = sh_fail(err, SHOAL_ERR_LIMIT, "there are %d connections from its address already",
                     d->opt.connections_per_address_max);
    } else {
        v->place = INSIDE;
        d->n_greeting--;
        d->n_inside++;
        (void)snprintf(v->kid, sizeof v->kid, "%s", kid);
    }
    sh_mutex_unlock(&d->lock);
    return st == SHOAL_OK;
}

/* ---- threads --------------------------------------------------------------------------------*/

static void stream_closes(void *self)
{
    struct visitor *v = self;

    sh_mutex_lock(&v->door->lock);
    v->stream = NULL;
    sh_mutex_unlock(&v->door->lock);
}

static void retire(struct visitor *v)
{
    struct sh_door *d = v->door;

    sh_mutex_lock(&d->lock);
    d->n_greeting -= v->place == GREETING;
    d->n_inside -= v->place == INSIDE;
    v->place = ENDED;
    sh_cond_broadcast(&d->changed);
    sh_mutex_unlock(&d->lock);
}

static void *visitor_thread(void *arg)
{
    struct visitor *v = arg;

    sh_door_greet(v, v->stream);
    retire(v);
    return NULL;
}

static void unlink_visitor(struct sh_door *d, struct visitor *v)
{
    struct visitor **at = &d->visitors;

    while (*at != v)
        at = &(*at)->next;
    *at = v->next;
    d->n_threads--;
}

/* Join the threads that have ended. */
static void reap(struct sh_door *d)
{
    for (;;) {
        struct visitor *v;
        sh_mutex_lock(&d->lock);
        v = d->visitors;
        while (v && v->place != ENDED)
            v = v->next;
        if (v) unlink_visitor(d, v);
        sh_mutex_unlock(&d->lock);
        if (!v) return;
        sh_thread_join(&v->thread);
        sh_free(v);
    }
}

/* Until there are few enough of them. */
static void await_threads(struct sh_door *d)
{
    const int most = d->opt.connections_max + 2 * d->opt.greeting_max;

    for (;;) {
        int n;
        reap(d);
        sh_mutex_lock(&d->lock);
        n = d->n_threads;
        if (n >= most && !d->stopping) (void)sh_cond_wait(&d->changed, &d->lock, 100 * SH_MS);
        sh_mutex_unlock(&d->lock);
        if (n < most || d->stopping) return;
    }
}

static void receive(struct sh_door *d, struct sh_stream *stream, const struct sh_address *peer)
{
    struct visitor *v = sh_calloc(1, sizeof *v);
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (!v) {
        sh_door_log_refusal(d, stream->peer, "no memory");
        sh_stream_close(stream);
        return;
    }
    v->door = d;
    v->address = *peer;
    v->give_up_ns = sh_deadline_in(&sh_clock_system, d->opt.greeting_ns);
    if (sh_peek_open(&v->stream, stream, stream_closes, v, &err)) {
        sh_door_log_refusal(d, "a visitor", err.message);
        sh_free(v);
        return;
    }
    stream = v->stream;
    sh_mutex_lock(&d->lock);
    take_place(d, v);
    sh_mutex_unlock(&d->lock);
    if (sh_thread_start(&v->thread, "door", visitor_thread, v, &err)) {
        sh_door_log_refusal(d, stream->peer, err.message);
        sh_stream_close(stream);
        retire(v); // reap() frees it
    }
}

/* ---- running --------------------------------------------------------------------------------*/

/* No descriptor for a new connection: those who greet make room, or somebody ends. */
static void make_room(struct sh_door *d, const char *why)
{
    struct visitor *v;

    if (sh_log_limit_may(&d->lines)) sh_log(SH_LOG_WARN, "door", "%s", why);
    sh_mutex_lock(&d->lock);
    v = find_victim(d, NULL, false);
    if (v) evict(d, v);
    (void)sh_cond_wait(&d->changed, &d->lock, 100 * SH_MS);
    sh_mutex_unlock(&d->lock);
}

static int64_t time_to_next_look(const struct sh_door *d)
{
    int64_t left;

    if (!d->opt.keys) return SH_NO_DEADLINE;
    left = d->keys.next_look_ns - sh_now_ns(&sh_clock_system);
    return left > 0 ? left : 0;
}

static void end_all(struct sh_door *d)
{
    sh_mutex_lock(&d->lock);
    for (struct visitor *v = d->visitors; v; v = v->next) {
        if (v->place == GREETING) evict(d, v);
    }
    sh_mutex_unlock(&d->lock);
    if (d->opt.drain) d->opt.drain(d->opt.self);
    sh_mutex_lock(&d->lock);
    for (;;) {
        const struct visitor *v = d->visitors;
        while (v && v->place == ENDED)
            v = v->next;
        if (!v) break;
        (void)sh_cond_wait(&d->changed, &d->lock, SH_NO_DEADLINE);
    }
    sh_mutex_unlock(&d->lock);
    reap(d);
}

enum shoal_status sh_door_run(struct sh_door *d, struct shoal_error *err)
{
    const struct sh_tcp_options tcp = {.user_timeout_ms = USER_TIMEOUT_MS,
                                       .unsent_max = SH_TCP_UNSENT_MAX};
    enum shoal_status st = SHOAL_OK;

    while (!st && !d->stopping) {
        struct shoal_error why = SHOAL_ERROR_INIT;
        struct sh_stream *stream;
        struct sh_address peer;
        await_threads(d);
        if (d->opt.keys) sh_door_keys_watch(d);
        st = sh_listener_accept(d->listener, time_to_next_look(d), &tcp, &stream, &peer, &why);
        if (!st) {
            receive(d, stream, &peer);
        } else if (st == SHOAL_ERR_LIMIT || st == SHOAL_ERR_NOMEM) {
            make_room(d, why.message);
            st = SHOAL_OK;
        } else if (st == SHOAL_ERR_TIMEOUT) {
            st = SHOAL_OK;
        } else if (st != SHOAL_ERR_CANCELLED && err) {
            *err = why;
        }
    }
    d->stopping = true;
    end_all(d);
    return st == SHOAL_ERR_CANCELLED ? SHOAL_OK : st;
}

void sh_door_stop(struct sh_door *d)
{
    atomic_store(&d->stopping, true);
    sh_listener_interrupt(d->listener);
}

/* ---- addresses ------------------------------------------------------------------------------*/

const char *sh_door_address(const struct sh_door *d)
{
    return sh_listener_text(d->listener);
}

int sh_door_addresses(const struct sh_door *d, char out[][SH_ADDRESS_TEXT_MAX], int n)
{
    const struct sh_address *own = sh_listener_address(d->listener);
    struct sh_interface list[SH_INTERFACES_MAX];
    struct sh_endpoint ep;
    int n_list;

    if (own->sa.ss_family == AF_UNIX || n <= 0) return 0;
    if (sh_endpoint_parse(&ep, sh_door_address(d), DEFAULT_PORT, NULL)) return 0;
    if (strcmp(ep.host, "0.0.0.0") != 0 && strcmp(ep.host, "::") != 0) {
        (void)snprintf(out[0], SH_ADDRESS_TEXT_MAX, "%s", sh_door_address(d));
        return 1;
    }
    n_list = sh_interfaces(list, SH_INTERFACES_MAX, ep.port, own->sa.ss_family == AF_INET6);
    if (n_list < n) n = n_list;
    for (int i = 0; i < n; i++)
        sh_address_format(&list[i].address, out[i]);
    return n;
}

/* ---- life -----------------------------------------------------------------------------------*/

static void set_defaults(struct sh_door_options *o)
{
    if (o->greeting_max <= 0) o->greeting_max = 32;
    if (o->greeting_per_address_max <= 0) o->greeting_per_address_max = 8;
    if (o->connections_max <= 0) o->connections_max = 256;
    if (o->connections_per_address_max <= 0) o->connections_per_address_max = 64;
    if (o->greeting_ns <= 0) o->greeting_ns = 5 * SH_SECOND;
    if (o->log_lines_max <= 0) o->log_lines_max = 10;
}

enum shoal_status sh_door_open(struct sh_door **out, const struct sh_door_options *opt,
                               struct shoal_error *err)
{
    struct sh_door *d = sh_calloc(1, sizeof *d);
    struct sh_endpoint ep;
    enum shoal_status st;

    *out = NULL;
    if (!d) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a listener");
    d->opt = *opt;
    set_defaults(&d->opt);
    sh_mutex_init(&d->lock);
    sh_cond_init(&d->changed);
    sh_log_limit_init(&d->lines, "door", d->opt.log_lines_max);
    st = sh_door_keys_init(d, err);
    if (!st) st = sh_endpoint_parse(&ep, opt->listen, DEFAULT_PORT, err);
    if (!st) st = sh_listener_open(&d->listener, &ep, err);
    if (st) {
        sh_door_close(d);
        return st;
    }
    *out = d;
    return SHOAL_OK;
}

void sh_door_close(struct sh_door *d)
{
    if (!d) return;
    sh_listener_close(d->listener);
    sh_door_keys_release(d);
    sh_log_limit_release(&d->lines);
    sh_cond_release(&d->changed);
    sh_mutex_release(&d->lock);
    sh_free(d);
}
