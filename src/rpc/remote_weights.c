/* rpc/remote_weights.c - weights for a worker: it is asked what it misses, and that is sent.
 *
 *      WANT ──> MISSING (hash, bytes held) ──> PUT PUT PUT PUT_END  PUT PUT_END ... ──> PUT_DONE
 *
 * They travel on a second connection of the session, made when the first are asked for.  Pieces go
 * out as fast as the stream takes them, straight from the mapped file into its queue; the answers
 * to PUT_END come while the next tensors are on their way.
 *
 * A tensor of which the worker held a part, and that is refused at its end, is sent once more: the
 * part may have been another session's, of a file that was broken.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "blob/sha256.h"
#include "rpc/remote_priv.h"
#include "rpc/step_wire.h"

#define WANT_MAX 1024u   // weights in one question
#define UNDER_WAY_MAX 16 // tensors that wait for PUT_DONE
#define CHUNK_BYTES (256u << 10)
#define QUEUED_MAX ((size_t)4 << 20)
#define LOOK_NS (250 * SH_MS) // between two questions whether to stop
#define STALL_NS (30 * SH_SECOND)
#define MOVES_BYTES (64u << 10) /* less than this in STALL_NS is none: BEATs go out anyway */

struct sh_remote_data {
    struct sh_remote *r;
    struct sh_rpc_conn *conn; /* of its own, or the worker's only one */
    bool own;
    struct sh_thread reader;
    atomic_bool ended; /* nothing more comes on a connection of its own */
    uint32_t chunk;
    struct sh_sha256 *have; /* sorted: what the worker has */
    size_t n_have;
    struct sh_mutex lock; /* guards what follows; changed by one thread, read by any */
    struct sh_remote_load load;
    struct sh_rpc_conn *counted;  /* the connection of its own, while it is open */
    struct sh_rpc_traffic before; /* of those that are closed */
};

struct todo { /* a weight that the worker may not have */
    const struct sh_remote_weight *w;
    uint64_t held;
    bool missing, again;
};

struct under_way { /* a tensor whose PUT_END was sent */
    struct todo *todo;
    struct sh_rpc_asked *asked;
    struct sh_rpc_put_end end;
    struct sh_rpc_put_done done;
    struct sh_arena arena;
    struct sh_rpc_ask ask;
};

struct sending { /* one call of sh_remote_weights() */
    struct sh_remote *r;
    struct sh_remote_data *d;
    struct todo *todo;
    size_t n;
    struct todo **by_hash;
    struct under_way ring[UNDER_WAY_MAX]; /* [first, first + n_ring) */
    size_t first, n_ring;
    uint64_t moved;    /* bytes that had left when it last moved */
    int64_t moved_ns;  /* and when */
    atomic_uint heard; /* PROGRESS of the worker */
    unsigned known;    /* of those */
    void (*progress)(void *self, const struct sh_remote_load *l);
    bool (*stop)(void *self);
    void *self;
};

/* ---- the connection -------------------------------------------------------------------------*/

static enum shoal_status on_message(void *self, struct sh_rpc_conn *c,
                                    const struct sh_rpc_incoming *m, struct shoal_error *err)
{
    (void)self;
    (void)c;
    return sh_fail(err, SHOAL_ERR_FORMAT, "%s about weights, which nobody asked for",
                   sh_rpc_info(m->type)->name);
}

static void *read_all(void *arg)
{
    struct sh_remote_data *d = arg;
    const struct sh_rpc_handler h = {.message = on_message, .self = d};

    (void)!sh_rpc_conn_run(d->conn, &h, NULL); // who asks is told why it ended
    atomic_store(&d->ended, true);
    return NULL;
}

static void add_traffic(struct sh_rpc_traffic *to, const struct sh_rpc_conn *c)
{
    struct sh_rpc_traffic t;

    sh_rpc_conn_traffic(c, &t);
    to->bytes_sent += t.bytes_sent;
    to->bytes_received += t.bytes_received;
    to->frames_sent += t.frames_sent;
    to->frames_received += t.frames_received;
    to->frames_queued += t.frames_queued;
}

static void set_counted(struct sh_remote_data *d, struct sh_rpc_conn *c)
{
    sh_mutex_lock(&d->lock);
    if (d->counted) add_traffic(&d->before, d->counted);
    d->counted = c;
    sh_mutex_unlock(&d->lock);
}

void sh_remote_data_traffic(struct sh_remote *r, struct sh_rpc_traffic *io)
{
    struct sh_remote_data *d;

    sh_mutex_lock(&r->lock);
    d = r->data;
    sh_mutex_unlock(&r->lock);
    if (!d) return;
    sh_mutex_lock(&d->lock);
    io->bytes_sent += d->before.bytes_sent;
    io->bytes_received += d->before.bytes_received;
    io->frames_sent += d->before.frames_sent;
    io->frames_received += d->before.frames_received;
    io->frames_queued += d->before.frames_queued;
    if (d->counted) add_traffic(io, d->counted);
    sh_mutex_unlock(&d->lock);
}

static void hang_up(struct sh_remote_data *d)
{
    if (!d->own) return;
    set_counted(d, NULL);
    if (d->reader.running) sh_rpc_conn_cut(d->conn);
    sh_thread_join(&d->reader);
    sh_rpc_conn_close(d->conn, NULL);
    d->conn = NULL;
    d->own = false;
    atomic_store(&d->ended, false);
}

static enum shoal_status dial(struct sh_remote_data *d, struct shoal_error *err)
{
    struct sh_remote *r = d->r;
    struct sh_rpc_attach msg = {.session = r->session};
    struct sh_rpc_attached answer = {.chunk_bytes = 0};
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_ask ask = {.type = SH_RPC_MSG_ATTACH,
                             .msg = &msg,
                             .answer = &answer,
                             .arena = &arena,
                             .timeout_ns = r->reply_ns};
    enum shoal_status st;

    d->chunk = CHUNK_BYTES;
    if (!sh_rpc_conn_has(r->conn, SH_RPC_DATA)) {
        d->conn = r->conn;
        return SHOAL_OK;
    }
    memcpy(msg.secret, r->secret, sizeof msg.secret);
    st = sh_remote_dial(r, SH_RPC_FOR_DATA, &d->conn, err);
    if (st) return st;
    d->own = true;
    set_counted(d, d->conn);
    st = sh_thread_start(&d->reader, "weights", read_all, d, err);
    if (!st) st = sh_rpc_conn_ask(d->conn, &ask, err);
    if (st == SHOAL_ERR_NOT_FOUND) { // the session is gone: so is the worker that had it
        st = SHOAL_ERR_PEER;
        if (err) err->code = st;
    }
    if (st)
        hang_up(d);
    else if (answer.chunk_bytes > 0)
        d->chunk = answer.chunk_bytes < SH_RPC_CHUNK_MAX ? answer.chunk_bytes : SH_RPC_CHUNK_MAX;
    sh_wipe(msg.secret, sizeof msg.secret);
    sh_arena_release(&arena);
    return st;
}

static enum shoal_status open_data(struct sh_remote *r, struct shoal_error *err)
{
    struct sh_remote_data *d = r->data;

    if (!d) {
        d = sh_calloc(1, sizeof *d);
        if (!d) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the weights of a worker");
        d->r = r;
        d->reader = (struct sh_thread)SH_THREAD_INIT;
        sh_mutex_init(&d->lock);
        sh_mutex_lock(&r->lock); // for who asks what was loaded
        r->data = d;
        sh_mutex_unlock(&r->lock);
    }
    if (atomic_load(&d->ended)) hang_up(d);
    return d->conn ? SHOAL_OK : dial(d, err);
}

void sh_remote_data_rest(struct sh_remote_data *d)
{
    const struct sh_rpc_bye bye = {.reason = {.ptr = "done", .n = 4}};

    if (!d || !d->own) return;
    (void)!sh_rpc_conn_send(d->conn, SH_RPC_MSG_BYE, 0, &bye, NULL);
    hang_up(d);
}

void sh_remote_data_close(struct sh_remote_data *d)
{
    if (!d) return;
    sh_remote_data_rest(d);
    sh_mutex_release(&d->lock);
    sh_free(d->have);
    sh_free(d);
}

/* ---- what the worker has --------------------------------------------------------------------*/

static int by_sha256(const void *a, const void *b)
{
    return memcmp(a, b, SH_SHA256_BYTES);
}

static bool is_known(const struct sh_remote_data *d, const uint8_t *sha256)
{
    return d->n_have > 0 && bsearch(sha256, d->have, d->n_have, sizeof *d->have, by_sha256);
}

/* All of `todo` are there now. */
static enum shoal_status remember(struct sending *s, struct shoal_error *err)
{
    struct sh_remote_data *d = s->d;
    struct sh_sha256 *p = sh_realloc_array(d->have, d->n_have + s->n, sizeof *p);

    if (!p) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a list of %zu weights", s->n);
    d->have = p;
    for (size_t i = 0; i < s->n; i++)
        memcpy(p[d->n_have++].bytes, s->todo[i].w->weight.sha256, SH_SHA256_BYTES);
    qsort(p, d->n_have, sizeof *p, by_sha256);
    return SHOAL_OK;
}

static const uint8_t *sha256_of(const struct todo *t)
{
    return t->w->weight.sha256;
}

static int by_weight(const void *a, const void *b)
{
    const struct todo *const *x = a, *const *y = b;

    return memcmp(sha256_of(*x), sha256_of(*y), SH_SHA256_BYTES);
}

static struct todo *find_todo(const struct sending *s, const uint8_t *sha256)
{
    size_t low = 0, high = s->n;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        const int d = memcmp(sha256_of(s->by_hash[mid]), sha256, SH_SHA256_BYTES);
        if (d == 0) return s->by_hash[mid];
        if (d < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

/* Weights that are new, each hash once, in the order in which they were given. */
static enum shoal_status list_todo(struct sending *s, const struct sh_remote_weight *weights,
                                   size_t n, struct shoal_error *err)
{
    size_t kept = 0, n_new = 0;

    s->todo = sh_calloc(n, sizeof *s->todo);
    s->by_hash = sh_calloc(n, sizeof(struct todo *));
    if (!s->todo || !s->by_hash) {
        return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a list of %zu weights", n);
    }
    for (size_t i = 0; i < n; i++) {
        if (!weights[i].weight.sha256) {
            return sh_fail(err, SHOAL_ERR_ARG, "tensor %s has no hash", weights[i].name);
        }
        if (is_known(s->d, weights[i].weight.sha256)) continue;
        s->todo[n_new] = (struct todo){.w = &weights[i]};
        s->by_hash[n_new] = &s->todo[n_new];
        n_new++;
    }
    qsort(s->by_hash, n_new, sizeof(struct todo *), by_weight);
    for (size_t i = 1; i < n_new; i++)
        s->by_hash[i]->again = by_weight(&s->by_hash[i - 1], &s->by_hash[i]) == 0;
    for (size_t i = 0; i < n_new; i++)
        if (!s->todo[i].again) s->todo[kept++] = s->todo[i];
    s->n = kept;
    for (size_t i = 0; i < kept; i++)
        s->by_hash[i] = &s->todo[i];
    qsort(s->by_hash, kept, sizeof(struct todo *), by_weight);
    return SHOAL_OK;
}

/* ---- figures and waiting --------------------------------------------------------------------*/

static void count(struct sending *s, uint64_t total, int64_t found, uint64_t sent)
{
    struct sh_remote_load l;

    sh_mutex_lock(&s->d->lock);
    s->d->load.bytes_total += total;
    s->d->load.bytes_found += (uint64_t)found;
    s->d->load.bytes_sent += sent;
    l = s->d->load;
    sh_mutex_unlock(&s->d->lock);
    if (s->progress) s->progress(s->self, &l);
}

static enum shoal_status check_stop(const struct sending *s, struct shoal_error *err)
{
    if (!s->stop || !s->stop(s->self)) return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_CANCELLED, "sending weights was cancelled");
}

/* It has waited for a while: is it to stop, has nothing moved for too long? */
static enum shoal_status check_moves(struct sending *s, const char *tensor, struct shoal_error *err)
{
    const int64_t now = sh_now_ns(&sh_clock_system);
    struct sh_rpc_traffic t;

    sh_rpc_conn_traffic(s->d->conn, &t);
    if (t.bytes_sent - s->moved >= MOVES_BYTES || atomic_load(&s->heard) != s->known) {
        s->moved = t.bytes_sent;
        s->known = atomic_load(&s->heard);
        s->moved_ns = now;
    }
    if (now - s->moved_ns >= STALL_NS) {
        return sh_fail(err, SHOAL_ERR_TIMEOUT, "tensor %s: nothing has moved for %d s", tensor,
                       (int)(STALL_NS / SH_SECOND));
    }
    return check_stop(s, err);
}

static void on_progress(void *self, const struct sh_rpc_progress *p)
{
    struct sending *s = self;

    (void)p;
    atomic_fetch_add(&s->heard, 1);
}

static void start_waiting(struct sending *s)
{
    s->moved_ns = sh_now_ns(&sh_clock_system);
}

/* An answer, however long it takes while something moves. */
static enum shoal_status await(struct sending *s, struct sh_rpc_asked *asked, const char *tensor,
                               struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    start_waiting(s);
    while (!st && !sh_rpc_conn_ask_wait(s->d->conn, asked, LOOK_NS))
        st = check_moves(s, tensor, err);
    if (st)
        (void)!sh_rpc_conn_ask_end(s->d->conn, asked, NULL);
    else
        st = sh_rpc_conn_ask_end(s->d->conn, asked, err);
    return st;
}

/* ---- asking ---------------------------------------------------------------------------------*/

static enum shoal_status take_missing(struct sending *s, const struct sh_rpc_missing *m,
                                      struct shoal_error *err)
{
    for (uint32_t i = 0; i < m->n_misses; i++) {
        struct todo *t = find_todo(s, m->misses[i].sha256);
        if (!t) return sh_fail(err, SHOAL_ERR_FORMAT, "a weight is missing that nobody wants");
        if (m->misses[i].held > t->w->weight.bytes) {
            return sh_fail(err, SHOAL_ERR_FORMAT,
                           "tensor %s: %" PRIu64 " bytes are held of its %zu", t->w->name,
                           m->misses[i].held, t->w->weight.bytes);
        }
        t->missing = true;
        t->held = m->misses[i].held;
    }
    return SHOAL_OK;
}

/* What is missing of todo [from, from + n)? */
static enum shoal_status want(struct sending *s, size_t from, size_t n, struct shoal_error *err)
{
    struct sh_rpc_weight *list = sh_calloc(n, sizeof *list);
    const struct sh_rpc_want msg = {.weights = list, .n_weights = (uint32_t)n};
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_missing answer = {.n_misses = 0};
    struct sh_rpc_asked *asked = NULL;
    struct sh_rpc_ask ask = {.type = SH_RPC_MSG_WANT,
                             .msg = &msg,
                             .answer = &answer,
                             .arena = &arena,
                             .on_progress = on_progress,
                             .self = s};
    enum shoal_status st = SHOAL_OK;

    if (!list) st = sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a list of %zu weights", n);
    for (size_t i = 0; i < n && !st; i++) {
        s->todo[from + i].missing = false;
        sh_step_wire_weight_from(s->todo[from + i].w->name, &s->todo[from + i].w->weight, &list[i]);
    }
    if (!st) st = sh_rpc_conn_ask_begin(s->d->conn, &ask, &asked, err);
    if (!st) st = await(s, asked, s->todo[from].w->name, err);
    if (!st) st = take_missing(s, &answer, err);
    sh_arena_release(&arena);
    sh_free(list);
    return st;
}

/* ---- sending --------------------------------------------------------------------------------*/

/* The oldest tensor under way: was it what was promised? */
static enum shoal_status finish_oldest(struct sending *s, struct shoal_error *err)
{
    struct under_way *u = &s->ring[s->first];
    struct todo *t = u->todo;
    enum shoal_status st = await(s, u->asked, t->w->name, err);

    u->asked = NULL;
    sh_arena_release(&u->arena);
    s->first = (s->first + 1) % UNDER_WAY_MAX;
    s->n_ring--;
    if (!st && memcmp(u->done.sha256, sha256_of(t), SH_SHA256_BYTES) != 0)
        st = sh_fail(err, SHOAL_ERR_FORMAT, "tensor %s: the answer names another", t->w->name);
    if (!t->again && (st == SHOAL_ERR_ARG || (st == SHOAL_ERR_FORMAT && t->held > 0))) {
        t->again = true;
        st = SHOAL_OK;
    } else if (!st) {
        t->missing = false;
    }
    return st;
}

static enum shoal_status put_piece(struct sending *s, const struct sh_rpc_put *msg,
                                   const char *tensor, struct shoal_error *err)
{
    enum shoal_status st;

    start_waiting(s);
    for (;;) {
        st = sh_rpc_conn_send_wait(s->d->conn, SH_RPC_MSG_PUT, 0, msg, QUEUED_MAX, LOOK_NS, err);
        if (st != SHOAL_ERR_TIMEOUT) return st;
        st = check_moves(s, tensor, err);
        if (st) return st;
    }
}

static enum shoal_status send_pieces(struct sending *s, const struct todo *t,
                                     struct shoal_error *err)
{
    const struct sh_weight *w = &t->w->weight;
    struct sh_rpc_put msg = {.offset = t->held};
    enum shoal_status st = SHOAL_OK;

    memcpy(msg.sha256, w->sha256, sizeof msg.sha256);
    while (msg.offset < w->bytes && !st) {
        const uint64_t left = w->bytes - msg.offset;
        msg.data = (struct sh_rpc_bytes){.ptr = (const uint8_t *)w->data + msg.offset,
                                         .n = left < s->d->chunk ? (uint32_t)left : s->d->chunk};
        st = put_piece(s, &msg, t->w->name, err);
        if (st) break;
        count(s, 0, 0, msg.data.n);
        msg.offset += msg.data.n;
        st = check_stop(s, err);
    }
    return st;
}

static enum shoal_status send_one(struct sending *s, struct todo *t, struct shoal_error *err)
{
    struct under_way *u;
    enum shoal_status st = send_pieces(s, t, err);

    if (!st && t->w->weight.map && sh_map_faulted(t->w->weight.map)) {
        st = sh_fail(err, SHOAL_ERR_IO,
                     "tensor %s lost bytes while it was sent: did its file shrink?", t->w->name);
    }
    if (!st && s->n_ring == UNDER_WAY_MAX) st = finish_oldest(s, err);
    if (st) return st;
    u = &s->ring[(s->first + s->n_ring) % UNDER_WAY_MAX];
    u->todo = t;
    u->arena = (struct sh_arena)SH_ARENA_INIT;
    memcpy(u->end.sha256, sha256_of(t), sizeof u->end.sha256);
    u->ask = (struct sh_rpc_ask){
        .type = SH_RPC_MSG_PUT_END, .msg = &u->end, .answer = &u->done, .arena = &u->arena};
    st = sh_rpc_conn_ask_begin(s->d->conn, &u->ask, &u->asked, err);
    if (!st) s->n_ring++;
    return st;
}

static enum shoal_status send_missing(struct sending *s, size_t from, size_t n,
                                      struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    for (size_t i = from; i < from + n && !st; i++) {
        struct todo *t = &s->todo[i];
        const uint64_t bytes = t->w->weight.bytes;
        count(s, bytes, (int64_t)(t->missing ? t->held : bytes), 0);
        if (t->missing) st = send_one(s, t, err);
    }
    return st;
}

/* Those that were refused although a part of them was there before. */
static enum shoal_status send_again(struct sending *s, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    for (size_t i = 0; i < s->n && !st; i++) {
        struct todo *t = &s->todo[i];
        if (!t->again || !t->missing) continue;
        count(s, 0, -(int64_t)t->held, 0);
        st = want(s, i, 1, err);
        if (!st) count(s, 0, (int64_t)(t->missing ? t->held : t->w->weight.bytes), 0);
        if (!st && t->missing) st = send_one(s, t, err);
    }
    while (!st && s->n_ring > 0)
        st = finish_oldest(s, err);
    return st;
}

static enum shoal_status send_all(struct sending *s, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    for (size_t at = 0; at < s->n && !st;) {
        const size_t n = s->n - at < WANT_MAX ? s->n - at : WANT_MAX;
        st = want(s, at, n, err);
        if (!st) st = send_missing(s, at, n, err);
        at += n;
    }
    while (!st && s->n_ring > 0)
        st = finish_oldest(s, err);
    if (!st) st = send_again(s, err);
    if (!st) st = remember(s, err);
    for (; s->n_ring > 0; s->n_ring--) { // after a failure
        (void)!sh_rpc_conn_ask_end(s->d->conn, s->ring[s->first].asked, NULL);
        s->first = (s->first + 1) % UNDER_WAY_MAX;
    }
    for (size_t i = 0; i < UNDER_WAY_MAX; i++)
        sh_arena_release(&s->ring[i].arena);
    return st;
}

enum shoal_status sh_remote_weights(struct sh_remote *r, const struct sh_remote_weight *weights,
                                    size_t n,
                                    void (*progress)(void *self, const struct sh_remote_load *l),
                                    bool (*stop)(void *self), void *self, struct shoal_error *err)
{
    struct sending *s = NULL;
    enum shoal_status st = sh_remote_state(r, err);

    if (st || n == 0) return st;
    if (!r->has_session)
        return sh_fail(err, SHOAL_ERR_STATE, "worker %s has no session yet", r->address);
    st = open_data(r, err);
    if (st) goto done;
    s = sh_calloc(1, sizeof *s);
    if (!s) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "no memory to send weights");
        goto done;
    }
    s->r = r;
    s->d = r->data;
    s->progress = progress;
    s->stop = stop;
    s->self = self;
    st = list_todo(s, weights, n, err);
    if (!st && s->n > 0) st = send_all(s, err);

done:
    if (st) sh_remote_name_error(r, err);
    if (s) {
        sh_free(s->todo);
        sh_free(s->by_hash);
    }
    sh_free(s);
    return st;
}

void sh_remote_loaded(const struct sh_remote *r, struct sh_remote_load *out)
{
    struct sh_remote *mine = (struct sh_remote *)(uintptr_t)r; // only to lock
    struct sh_remote_data *d;

    *out = (struct sh_remote_load){.bytes_total = 0};
    sh_mutex_lock(&mine->lock);
    d = mine->data;
    sh_mutex_unlock(&mine->lock);
    if (!d) return;
    sh_mutex_lock(&d->lock);
    *out = d->load;
    sh_mutex_unlock(&d->lock);
}
