/* rpc/remote_link.c - links between two stations, as the host asks for them.
 *
 *      LINK_EXPECT ──> one worker: where can it be reached?      a token, and a key for this
 *      LINK_OPEN ────> the other one: go there                   pair and direction, to both
 *      ROUTE ────────> the one that writes
 *
 * Either may be the one that goes; the second way is tried when the first fails.  Where neither
 * works the rows come home, and who asked passes them on.
 *
 * A link that is lost later is mended here: the writer is told to send what it keeps, and what
 * follows, home, and the thread that reads from it passes the frames on to the reader's worker as
 * they came.  Nobody above has to know; sh_remote_route_of() and a line of the log tell.
 *
 * A join belongs to both stations; the last one to be closed frees it.
 * Locks: a remote's lock before a join's, a join's before a station's; nothing is asked or sent
 * under a join's.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/network.h"
#include "rpc/link.h"
#include "rpc/remote_priv.h"
#include "rpc/rows.h"

#define CLOSING_POLL_NS (250 * SH_MS)

struct sh_remote_join {
    struct sh_mutex lock; /* everything below but the constant */
    struct sh_cond changed;
    struct sh_remote_station *from, *to; /* NULL: closed */
    struct sh_remote_station *mending;   /* `from`, which waits for the mender before it goes */
    int n_users;                         /* threads that use `to` */
    int n_ends;                          /* stations that have not left */
    struct sh_rpc_handle from_link, to_link;
    enum sh_rpc_format format; /* constant */
    struct sh_remote_route route;
    char lost[200]; /* why the link is down */
    bool down;
    struct sh_thread mender;
};

static bool handle_equal(struct sh_rpc_handle a, struct sh_rpc_handle b)
{
    return a.slot == b.slot && a.generation == b.generation;
}

/* ---- addresses -------------------------------------------------------------------------------*/

struct addresses {
    char text[SH_RPC_LINK_ADDRESSES_MAX][SH_ADDRESS_TEXT_MAX];
    int n;
};

static void add_address(struct addresses *a, const char *text, bool same_machine, bool loopback)
{
    struct sh_address parsed;

    if (a->n == SH_RPC_LINK_ADDRESSES_MAX || sh_address_parse(&parsed, text, NULL)) return;
    if (sh_address_is_loopback(&parsed) != loopback || (loopback && !same_machine)) return;
    for (int i = 0; i < a->n; i++) {
        if (strcmp(a->text[i], text) == 0) return;
    }
    (void)snprintf(a->text[a->n++], SH_ADDRESS_TEXT_MAX, "%s", text);
}

/* Where to go, the most promising first: within one machine its own paths, then the way that this
 * host took, then what the worker says. */
static void gather(struct addresses *a, const struct sh_remote *there, bool same_machine,
                   const struct sh_rpc_link_expected *m)
{
    a->n = 0;
    for (int loopback = 1; loopback >= 0; loopback--) {
        add_address(a, sh_rpc_conn_address(there->conn), same_machine, loopback);
        for (uint32_t i = 0; i < m->n_addresses; i++) {
            char text[SH_ADDRESS_TEXT_MAX];
            sh_rpc_text_copy(text, sizeof text, m->addresses[i].address);
            add_address(a, text, same_machine, loopback);
        }
    }
}

/* ---- opening ---------------------------------------------------------------------------------*/

static void close_link(struct sh_remote *r, struct sh_rpc_handle link)
{
    const struct sh_rpc_link_close msg = {.link = link};
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_link_closed answer;

    if (link.generation)
        (void)!sh_remote_ask(r, SH_RPC_MSG_LINK_CLOSE, &msg, &answer, &arena, NULL);
    sh_arena_release(&arena);
}

/* What proves the one end to the other: of this pair and direction alone. */
static enum shoal_status make_secrets(const struct sh_key *secret, const char *way,
                                      uint8_t token[16], struct sh_key *key,
                                      struct shoal_error *err)
{
    char info[SH_KEY_INFO_MAX];
    struct sh_key t;
    enum shoal_status st;

    (void)snprintf(info, sizeof info, "link|%s|token", way);
    st = sh_key_derive(&t, secret, info, err);
    (void)snprintf(info, sizeof info, "link|%s|key", way);
    if (!st) st = sh_key_derive(key, secret, info, err);
    if (!st) memcpy(token, t.bytes, 16);
    sh_key_wipe(&t);
    return st;
}

struct opened {
    struct sh_rpc_handle waiting, going; /* the ends */
    char address[SH_ADDRESS_TEXT_MAX];
    uint32_t round_trip_us;
};

/* `there` waits, `goes` goes.  `there_writes`: it has the rows. */
static enum shoal_status open_link(struct sh_remote_station *there, struct sh_remote_station *goes,
                                   bool there_writes, const uint8_t token[16],
                                   const struct sh_key *key, struct opened *out,
                                   struct shoal_error *err)
{
    const bool same = memcmp(there->r->info.machine, goes->r->info.machine, 16) == 0;
    struct sh_rpc_link_expect expect = {
        .stage = there->handle, .purpose = SH_RPC_FOR_LINK, .writes = there_writes};
    struct sh_rpc_link_open open = {
        .stage = goes->handle, .purpose = SH_RPC_FOR_LINK, .writes = !there_writes};
    struct sh_rpc_address list[SH_RPC_LINK_ADDRESSES_MAX];
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_link_expected expected;
    struct sh_rpc_link_opened opened;
    struct addresses a;
    enum shoal_status st;

    memcpy(expect.token, token, sizeof expect.token);
    memcpy(open.token, token, sizeof open.token);
    if (there->r->info.encrypted) { // then so is its listener
        memcpy(expect.key, key->bytes, sizeof expect.key);
        memcpy(open.key, key->bytes, sizeof open.key);
    }
    st = sh_remote_ask(there->r, SH_RPC_MSG_LINK_EXPECT, &expect, &expected, &arena, err);
    if (st) goto done;
    out->waiting = expected.link;
    gather(&a, there->r, same, &expected);
    for (int i = 0; i < a.n; i++)
        list[i].address = sh_rpc_text_from(a.text[i]);
    open.addresses = list;
    open.n_addresses = (uint32_t)a.n;
    if (a.n == 0) {
        st = sh_fail(err, SHOAL_ERR_PEER, "worker %s has no address for worker %s",
                     there->r->address, goes->r->address);
    } else {
        st = sh_remote_ask(goes->r, SH_RPC_MSG_LINK_OPEN, &open, &opened, &arena, err);
    }
    if (st) {
        close_link(there->r, out->waiting);
        goto done;
    }
    out->going = opened.link;
    out->round_trip_us = opened.round_trip_us;
    sh_rpc_text_copy(out->address, sizeof out->address, opened.address);

done:
    sh_wipe(&expect, sizeof expect);
    sh_wipe(&open, sizeof open);
    sh_arena_release(&arena);
    return st;
}

/* Either way.  A failure that is a worker's end is the call's; else `why` says what came of it. */
static enum shoal_status try_both(struct sh_remote_join *j, char why[200], struct shoal_error *err)
{
    struct sh_remote_station *const end[2] = {j->to, j->from}; // who waits
    struct shoal_error what[2] = {SHOAL_ERROR_INIT, SHOAL_ERROR_INIT};
    struct sh_key secret, key;
    uint8_t token[16];
    enum shoal_status st = sh_key_make(&secret, err);

    for (int i = 0; i < 2 && !st; i++) {
        struct opened o = {.round_trip_us = 0};
        st = make_secrets(&secret, i == 0 ? "writer goes" : "reader goes", token, &key, err);
        if (st || open_link(end[i], end[!i], i == 1, token, &key, &o, &what[i])) continue;
        j->to_link = i == 0 ? o.waiting : o.going;
        j->from_link = i == 0 ? o.going : o.waiting;
        j->route = (struct sh_remote_route){.direct = true, .round_trip_us = o.round_trip_us};
        (void)snprintf(j->route.address, sizeof j->route.address, "%s", o.address);
        break;
    }
    sh_key_wipe(&secret);
    sh_key_wipe(&key);
    sh_wipe(token, sizeof token);
    if (!st) st = sh_remote_state(j->from->r, err);
    if (!st) st = sh_remote_state(j->to->r, err);
    if (!st && !j->route.direct)
        (void)snprintf(why, 200, "%.97s; %.97s", what[0].message, what[1].message);
    return st;
}

static enum shoal_status send_route(struct sh_remote_station *s, struct sh_rpc_handle link,
                                    enum sh_rpc_format format, struct shoal_error *err)
{
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_route msg = {
        .stage = s->handle, .where = link.generation != 0, .link = link, .format = (uint8_t)format};
    struct sh_rpc_routed answer;
    enum shoal_status st;

    if (!msg.where && s->r->info.features & SH_RPC_RELAY) msg.reader = s->handle;
    st = sh_remote_ask(s->r, SH_RPC_MSG_ROUTE, &msg, &answer, &arena, err);
    sh_arena_release(&arena);
    return st;
}

/* ---- when a link is lost ---------------------------------------------------------------------*/

/* The reader's station, which stays until leave_reader(); NULL: it is closed. */
static struct sh_remote_station *enter_reader(struct sh_remote_join *j)
{
    struct sh_remote_station *s;

    sh_mutex_lock(&j->lock);
    s = j->to;
    if (s) j->n_users++;
    sh_mutex_unlock(&j->lock);
    return s;
}

static void leave_reader(struct sh_remote_join *j)
{
    sh_mutex_lock(&j->lock);
    if (--j->n_users == 0) sh_cond_broadcast(&j->changed);
    sh_mutex_unlock(&j->lock);
}

static void *mend(void *self)
{
    struct sh_remote_join *j = self;
    struct sh_remote_station *from = j->mending, *to;
    struct shoal_error err = SHOAL_ERROR_INIT, why = SHOAL_ERROR_INIT;
    const enum shoal_status st = send_route(from, (struct sh_rpc_handle){0, 0}, j->format, &err);

    if (st) {
        (void)sh_fail(&why, SHOAL_ERR_PEER,
                      "stage %d: the link to stage %d is lost (%.60s), and %.90s", from->index,
                      from->index + 1, j->lost, err.message);
        sh_error_set_peer(&why, from->r->address);
        sh_remote_station_lost(from, SHOAL_ERR_PEER, &why);
        return NULL;
    }
    sh_log(SH_LOG_WARN, "rpc",
           "the link of stage %d to stage %d is lost, its rows go through this host now: %s",
           from->index, from->index + 1, j->lost);
    close_link(from->r, j->from_link);
    to = enter_reader(j);
    if (to) {
        close_link(to->r, j->to_link);
        leave_reader(j);
    }
    return NULL;
}

/* Under the lock of the remote that told it. */
static void lose_link(struct sh_remote_join *j, struct sh_rpc_text why)
{
    sh_mutex_lock(&j->lock);
    if (!j->down && j->from && j->to) {
        j->down = true;
        j->mending = j->from;
        j->route.direct = false;
        sh_rpc_text_copy(j->lost, sizeof j->lost, why);
        (void)snprintf(j->route.why, sizeof j->route.why, "%s", j->lost);
        // Without the thread the steps in flight never end: the caller's own limits count.
        (void)!sh_thread_start(&j->mender, "shoal-mend", mend, j, NULL);
    }
    sh_mutex_unlock(&j->lock);
}

/* Under the remote's lock: nobody has joined that link yet, but somebody may be about to. */
static void note_down(struct sh_remote *r, const struct sh_rpc_link_down *m)
{
    struct sh_remote_down *d = &r->down[r->n_down++ % SH_REMOTE_DOWNS];

    d->link = m->link;
    sh_rpc_text_copy(d->why, sizeof d->why, m->message);
}

void sh_remote_link_down(struct sh_remote *r, const struct sh_rpc_link_down *m)
{
    struct sh_remote_join *j = NULL;

    sh_mutex_lock(&r->lock);
    for (int i = 0; i < r->n_stations && !j; i++) {
        const struct sh_remote_station *s = r->station[i];
        if (s->onward && handle_equal(s->onward->from_link, m->link)) j = s->onward;
        if (!j && s->backward && handle_equal(s->backward->to_link, m->link)) j = s->backward;
    }
    if (j) {
        lose_link(j, m->message);
    } else {
        note_down(r, m);
    }
    sh_mutex_unlock(&r->lock);
}

/* Under the remote's lock: was the link lost before it was joined? */
static void see_down(const struct sh_remote *r, struct sh_remote_join *j, struct sh_rpc_handle link)
{
    for (int i = 0; i < SH_REMOTE_DOWNS; i++) {
        if (handle_equal(r->down[i].link, link)) lose_link(j, sh_rpc_text_from(r->down[i].why));
    }
}

/* ---- joining ---------------------------------------------------------------------------------*/

static void free_join(struct sh_remote_join *j)
{
    if (!j) return;
    sh_cond_release(&j->changed);
    sh_mutex_release(&j->lock);
    sh_free(j);
}

static enum shoal_status check_format(const struct sh_remote *r, enum sh_rpc_format format,
                                      struct shoal_error *err)
{
    const uint64_t needs = format == SH_RPC_ROWS_F16  ? SH_RPC_F16
                           : format == SH_RPC_ROWS_Q8 ? SH_RPC_Q8
                                                      : 0;

    if ((r->info.features & needs) == needs) return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_UNSUPPORTED, "worker %s does not know hidden rows in %s",
                   r->address, sh_rpc_format_name(format));
}

/* The link that both have agreed to: rows go into it from now on. */
static enum shoal_status begin_join(struct sh_remote_join *j, struct shoal_error *err)
{
    const enum shoal_status st = send_route(j->from, j->from_link, j->format, err);

    if (st) {
        close_link(j->from->r, j->from_link);
        close_link(j->to->r, j->to_link);
        return st;
    }
    sh_mutex_lock(&j->from->lock);
    j->from->joined = true;
    sh_mutex_unlock(&j->from->lock);
    sh_mutex_lock(&j->from->r->lock);
    j->from->onward = j;
    see_down(j->from->r, j, j->from_link);
    sh_mutex_unlock(&j->from->r->lock);
    sh_mutex_lock(&j->to->r->lock);
    j->to->backward = j;
    see_down(j->to->r, j, j->to_link);
    sh_mutex_unlock(&j->to->r->lock);
    sh_log(SH_LOG_DEBUG, "rpc", "stage %d goes to stage %d at %s, %u us there and back",
           j->from->index, j->to->index, j->route.address, (unsigned)j->route.round_trip_us);
    return SHOAL_OK;
}

enum shoal_status sh_remote_join(struct sh_station *from, struct sh_station *to,
                                 enum sh_rpc_format format, struct sh_remote_route *out,
                                 struct shoal_error *err)
{
    struct sh_remote_station *a = sh_remote_station_of(from), *b = sh_remote_station_of(to);
    struct sh_remote_join *j = NULL;
    enum shoal_status st;

    *out = (struct sh_remote_route){.direct = false};
    if (!a || !b || a->joined || a->last || b->first || b->backward)
        return sh_fail(err, SHOAL_ERR_ARG, "only stages of two workers can be joined, once");
    st = check_format(a->r, format, err);
    if (!st) st = check_format(b->r, format, err);
    if (st) return st;
    j = sh_calloc(1, sizeof *j);
    if (!j) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a link");
    sh_mutex_init(&j->lock);
    sh_cond_init(&j->changed);
    j->from = a;
    j->to = b;
    j->n_ends = 2;
    j->format = sh_rpc_rows_format(format, a->width_out);
    if (!(a->r->info.features & b->r->info.features & SH_RPC_LINKS)) {
        const struct sh_remote *r = a->r->info.features & SH_RPC_LINKS ? b->r : a->r;
        (void)snprintf(out->why, sizeof out->why, "worker %s makes no links", r->address);
    } else {
        st = try_both(j, out->why, err);
    }
    if (!st && j->route.direct) {
        *out = j->route;
        st = begin_join(j, err);
        if (!st) j = NULL;
    } else if (!st) {
        st = sh_remote_format(from, format, err);
    }
    free_join(j);
    return st;
}

bool sh_remote_route_of(struct sh_station *from, struct sh_remote_route *out)
{
    struct sh_remote_station *s = sh_remote_station_of(from);
    struct sh_remote_join *j = s ? s->onward : NULL;

    if (!j) return false;
    sh_mutex_lock(&j->lock);
    *out = j->route;
    sh_mutex_unlock(&j->lock);
    return true;
}

enum shoal_status sh_remote_link_probe(struct sh_station *from, uint32_t bytes, int count,
                                       struct sh_remote_probe *out, struct shoal_error *err)
{
    struct sh_remote_station *s = sh_remote_station_of(from);
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_link_probe msg = {.bytes = bytes, .count = (uint32_t)count};
    struct sh_rpc_link_probed answer;
    struct sh_remote_route route;
    enum shoal_status st;

    *out = (struct sh_remote_probe){.least_us = 0};
    if (!s || !sh_remote_route_of(from, &route) || !route.direct)
        return sh_fail(err, SHOAL_ERR_STATE, "the rows of this stage go into no link");
    if (count < 1) return sh_fail(err, SHOAL_ERR_ARG, "%d probes of a link", count);
    msg.link = s->onward->from_link;
    st = sh_remote_ask(s->r, SH_RPC_MSG_LINK_PROBE, &msg, &answer, &arena, err);
    if (!st) {
        *out = (struct sh_remote_probe){.least_us = answer.least_us,
                                        .median_us = answer.median_us,
                                        .bytes_per_s = (double)answer.bytes_per_s};
    }
    sh_arena_release(&arena);
    return st;
}

/* ---- rows that come home ----------------------------------------------------------------------*/

/* Until the reader has been told of this step; false: it will not be, or not of this one. */
static bool await_step(const struct sh_rpc_hidden *m, struct sh_remote_station *from,
                       struct sh_remote_station *to)
{
    for (;;) {
        bool over, told;
        sh_mutex_lock(&from->lock);
        over = from->closing || m->epoch < from->epoch;
        sh_mutex_unlock(&from->lock);
        sh_mutex_lock(&to->lock);
        over = over || to->closing || m->epoch < to->epoch;
        told = m->epoch == to->epoch && m->number < to->told;
        if (!over && !told) (void)sh_cond_wait(&to->calm, &to->lock, CLOSING_POLL_NS);
        sh_mutex_unlock(&to->lock);
        if (over || told) return told && !over;
    }
}

bool sh_remote_link_rows(struct sh_remote_station *s, const struct sh_rpc_hidden *m)
{
    struct sh_remote_join *j = s->onward;
    struct sh_rpc_hidden out = *m;
    struct sh_remote_station *to;

    if (!j) return false;
    to = enter_reader(j);
    if (!to) return true;
    if (await_step(m, s, to)) {
        out.stage = to->handle;
        (void)!sh_rpc_conn_send(to->r->conn, SH_RPC_MSG_HIDDEN, 0, &out, NULL); // its reader sees
    }
    leave_reader(j);
    return true;
}

/* ---- closing ---------------------------------------------------------------------------------*/

/* This end leaves; the last one frees it. */
static void leave_join(struct sh_remote_join *j, const struct sh_remote_station *s)
{
    bool mended, last;

    sh_mutex_lock(&j->lock);
    mended = j->from == s;
    if (mended) j->from = NULL;
    if (j->to == s) j->to = NULL;
    while (!j->to && j->n_users > 0)
        (void)sh_cond_wait(&j->changed, &j->lock, INT64_MAX);
    sh_mutex_unlock(&j->lock);
    if (mended) sh_thread_join(&j->mender); // none is started any more
    sh_mutex_lock(&j->lock);
    last = --j->n_ends == 0;
    sh_mutex_unlock(&j->lock);
    if (last) free_join(j);
}

void sh_remote_link_leave(struct sh_remote_station *s)
{
    struct sh_remote_join *onward, *backward;

    sh_mutex_lock(&s->r->lock);
    onward = s->onward;
    backward = s->backward;
    s->onward = s->backward = NULL;
    sh_mutex_unlock(&s->r->lock);
    if (onward) leave_join(onward, s);
    if (backward) leave_join(backward, s);
}
