/* rpc/session_data.c - the weights of a session: what it wants, what is sent for it.
 *
 * A session holds every weight that it named, from WANT or STAGE_PUT to its end, so what came stays
 * for as long as the session lives, detached or not.  Sizes are checked against type and shape
 * before anything is set aside, and all that is sent, or will be, stays within what OPEN set aside.
 *
 * PUT has no answer of its own: its failure is kept, and told with the answer to PUT_END.
 *
 * The lock is held over copying and hashing a piece, too (half a millisecond): a connection of the
 * session sends at a time, and who else asks can wait that long.  Files are searched without it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "rpc/server_priv.h"
#include "tensor/graph.h"

#define HELD_MAX 16384 // weights of a session, as of a STAGE_PUT
/* Files are hashed at 200 MB/s after 20 s at the latest, or it is not worth waiting for. */
#define HASHED_PER_MS 200000u
#define WAIT_MS 20000u
#define WAIT_MAX_MS 600000u
#define LOOK_NS (250 * SH_MS)

struct held {
    struct sh_sha256 sha256;
    struct sh_blob *blob;
    uint64_t bytes;
    char *name;
    enum shoal_status failed; /* a PUT since the last PUT_END, and why: */
    char *why;
    uint64_t told; /* in which MISSING it was last */
};

struct sh_session_weights {
    struct sh_blobs *blobs;
    char kid[SH_KID_TEXT];
    uint64_t bytes_max;
    struct sh_mutex lock; /* everything below */
    struct held **held;   /* sorted by hash */
    size_t n, cap;
    uint64_t bytes;   /* of those that are no files */
    uint64_t n_asked; /* MISSINGs that were begun */
};

/* ---- the list -------------------------------------------------------------------------------*/

static void free_held(struct held *h)
{
    if (!h) return;
    sh_blob_release(h->blob);
    sh_free(h->why);
    sh_free(h->name);
    sh_free(h);
}

enum shoal_status sh_session_weights_create(struct sh_session_weights **out, struct sh_blobs *blobs,
                                            const char *kid, uint64_t bytes_max,
                                            struct shoal_error *err)
{
    struct sh_session_weights *w = sh_calloc(1, sizeof *w);

    *out = w;
    if (!w) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a session's weights");
    w->blobs = blobs;
    w->bytes_max = bytes_max;
    (void)snprintf(w->kid, sizeof w->kid, "%s", kid);
    sh_mutex_init(&w->lock);
    return SHOAL_OK;
}

void sh_session_weights_destroy(struct sh_session_weights *w)
{
    if (!w) return;
    for (size_t i = 0; i < w->n; i++)
        free_held(w->held[i]);
    sh_free(w->held);
    sh_mutex_release(&w->lock);
    sh_free(w);
}

uint64_t sh_session_weights_bytes(struct sh_session_weights *w)
{
    uint64_t bytes;

    sh_mutex_lock(&w->lock);
    bytes = w->bytes;
    sh_mutex_unlock(&w->lock);
    return bytes;
}

/* Under the lock: the first place that is not below. */
static size_t place_of(const struct sh_session_weights *w, const uint8_t *sha256)
{
    size_t low = 0, high = w->n;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (memcmp(w->held[mid]->sha256.bytes, sha256, SH_SHA256_BYTES) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct held *find(const struct sh_session_weights *w, const uint8_t *sha256)
{
    const size_t at = place_of(w, sha256);
    const bool is_it = at < w->n && memcmp(w->held[at]->sha256.bytes, sha256, SH_SHA256_BYTES) == 0;

    return is_it ? w->held[at] : NULL;
}

/* A record without its blob; NULL: no memory. */
static struct held *add(struct sh_session_weights *w, const struct sh_rpc_weight *entry)
{
    const size_t at = place_of(w, entry->sha256);
    struct held *h;

    if (w->n == w->cap) {
        const size_t cap = w->cap ? 2 * w->cap : 256;
        struct held **p = sh_realloc_array(w->held, cap, sizeof(struct held *));
        if (!p) return NULL;
        w->held = p;
        w->cap = cap;
    }
    h = sh_calloc(1, sizeof *h);
    if (h) h->name = sh_malloc((size_t)entry->name.n + 1);
    if (!h || !h->name) {
        sh_free(h);
        return NULL;
    }
    sh_rpc_text_copy(h->name, (size_t)entry->name.n + 1, entry->name);
    memcpy(h->sha256.bytes, entry->sha256, SH_SHA256_BYTES);
    h->bytes = entry->bytes;
    memmove(&w->held[at + 1], &w->held[at], (w->n - at) * sizeof(struct held *));
    w->held[at] = h;
    w->n++;
    return h;
}

static void drop(struct sh_session_weights *w, struct held *h)
{
    const size_t at = place_of(w, h->sha256.bytes);

    w->n--;
    memmove(&w->held[at], &w->held[at + 1], (w->n - at) * sizeof(struct held *));
    free_held(h);
}

/* ---- holding --------------------------------------------------------------------------------*/

/* Type, shape and bytes must say the same. */
static enum shoal_status check_entry(const struct sh_rpc_weight *e, struct shoal_error *err)
{
    struct sh_tensor t = {.ne = {e->ne0, e->ne1, e->ne2, e->ne3}};
    const int n = (int)e->name.n;
    const char *name = e->name.ptr;
    size_t bytes;

    if (e->axis != -1 || e->n_segments > 0) {
        return sh_fail(err, SHOAL_ERR_UNSUPPORTED,
                       "tensor %.*s: slices of weights were not agreed on", n, name);
    }
    if (!sh_dtype_valid(e->dtype)) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "tensor %.*s has type %" PRIu32 ", which is none", n,
                       name, e->dtype);
    }
    t.dtype = (enum sh_dtype)e->dtype;
    for (int i = 0; i < SH_MAX_DIMS; i++) {
        if (t.ne[i] >= 1) continue;
        return sh_fail(err, SHOAL_ERR_FORMAT,
                       "tensor %.*s has %" PRId64 " elements in dimension %d", n, name, t.ne[i], i);
    }
    if (!sh_dtype_row_bytes(t.dtype, t.ne[0], &bytes)) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "tensor %.*s has rows of %" PRId64 " elements of %s",
                       n, name, t.ne[0], sh_dtype_info(t.dtype)->name);
    }
    for (int i = 1; i < SH_MAX_DIMS; i++) {
        if (sh_mul_ok(bytes, (size_t)t.ne[i], &bytes)) continue;
        return sh_fail(err, SHOAL_ERR_LIMIT, "the size of tensor %.*s overflows", n, name);
    }
    if (bytes != e->bytes) {
        return sh_fail(err, SHOAL_ERR_FORMAT,
                       "tensor %.*s is to have %" PRIu64 " bytes, but its shape has %zu", n, name,
                       e->bytes, bytes);
    }
    return SHOAL_OK;
}

struct refusal { /* of memory */
    uint64_t need, free;
};

/* Under the lock: does the entry fit what is held of it?  *h: its record, NULL if there is none. */
static enum shoal_status look_up(const struct sh_session_weights *w,
                                 const struct sh_rpc_weight *entry, struct held **h,
                                 struct shoal_error *err)
{
    *h = find(w, entry->sha256);
    if (*h && (*h)->bytes != entry->bytes) {
        return sh_fail(err, SHOAL_ERR_FORMAT,
                       "tensor %.*s has the hash of %s, but %" PRIu64 " bytes, not %" PRIu64,
                       (int)entry->name.n, entry->name.ptr, (*h)->name, entry->bytes, (*h)->bytes);
    }
    if (!*h && w->n == HELD_MAX) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "a session has more than %d weights", HELD_MAX);
    }
    return SHOAL_OK;
}

/* Under the lock: the record has this blob now; what it had is in *blob. */
static enum shoal_status exchange(struct sh_session_weights *w, struct held *h,
                                  struct sh_blob **blob, struct refusal *refusal,
                                  struct shoal_error *err)
{
    const bool counted = h->blob && !sh_blob_of_file(h->blob);
    const bool counts = !sh_blob_of_file(*blob);
    struct sh_blob *old = h->blob;

    if (counts && !counted && h->bytes > w->bytes_max - w->bytes) {
        *refusal = (struct refusal){.need = h->bytes, .free = w->bytes_max - w->bytes};
        return sh_fail(err, SHOAL_ERR_NOMEM,
                       "tensor %s needs %" PRIu64 " bytes, and of those set aside for weights "
                       "%" PRIu64 " are left",
                       h->name, h->bytes, refusal->free);
    }
    if (counts && !counted) w->bytes += h->bytes;
    if (!counts && counted) w->bytes -= h->bytes;
    h->blob = *blob;
    *blob = old;
    return SHOAL_OK;
}

/* Under the lock, which was given up since the entry was looked up. */
static enum shoal_status take_blob(struct sh_session_weights *w, const struct sh_rpc_weight *entry,
                                   struct sh_blob **blob, struct held **out,
                                   struct refusal *refusal, struct shoal_error *err)
{
    struct held *h;
    enum shoal_status st = look_up(w, entry, &h, err);
    const bool fresh = !h;

    if (st) return st;
    if (fresh) h = add(w, entry);
    if (!h) {
        return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the record of tensor %.*s",
                       (int)entry->name.n, entry->name.ptr);
    }
    if (fresh || !sh_blob_whole(h->blob)) st = exchange(w, h, blob, refusal, err);
    if (st && fresh) drop(w, h);
    if (!st) *out = h;
    return st;
}

/* A record with a blob stays until the session ends.  One without a whole blob gets a better one,
 * where there is one by now. */
static enum shoal_status hold(struct sh_session_weights *w, const struct sh_rpc_weight *entry,
                              struct held **out, struct refusal *refusal, struct shoal_error *err)
{
    struct sh_sha256 sha256;
    struct sh_blob *blob;
    bool whole;
    enum shoal_status st;

    sh_mutex_lock(&w->lock);
    st = look_up(w, entry, out, err);
    whole = !st && *out && sh_blob_whole((*out)->blob);
    sh_mutex_unlock(&w->lock);
    if (st || whole) return st;
    memcpy(sha256.bytes, entry->sha256, sizeof sha256.bytes);
    st = sh_blobs_want(w->blobs, w->kid, &sha256, entry->bytes, &blob, err);
    if (st) return st;
    sh_mutex_lock(&w->lock);
    st = take_blob(w, entry, &blob, out, refusal, err);
    sh_mutex_unlock(&w->lock);
    sh_blob_release(blob);
    return st;
}

enum shoal_status sh_session_weights_want(struct sh_session_weights *w,
                                          const struct sh_rpc_weight *entry, struct sh_blob **out,
                                          struct shoal_error *err)
{
    struct refusal refusal;
    struct held *h;
    enum shoal_status st = check_entry(entry, err);

    *out = NULL;
    if (!st) st = hold(w, entry, &h, &refusal, err);
    if (st) return st;
    sh_mutex_lock(&w->lock);
    *out = h->blob;
    sh_mutex_unlock(&w->lock);
    return SHOAL_OK;
}

/* ---- messages -------------------------------------------------------------------------------*/

struct missing { /* the answer to WANT */
    struct sh_rpc_miss *misses;
    uint32_t n;
    struct refusal refusal;
};

/* Hold all of WANT and list what is missing, each hash once; `any_file`: what is in the worker's
 * own files counts as here. */
static enum shoal_status list_missing(struct sh_session_weights *w, const struct sh_rpc_want *m,
                                      bool any_file, struct missing *out, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;
    uint64_t number;

    sh_mutex_lock(&w->lock);
    number = ++w->n_asked;
    sh_mutex_unlock(&w->lock);
    out->n = 0;
    for (uint32_t i = 0; i < m->n_weights && !st; i++) {
        struct sh_rpc_miss *miss = &out->misses[out->n];
        struct held *h;
        st = hold(w, &m->weights[i], &h, &out->refusal, err);
        if (st) break;
        sh_mutex_lock(&w->lock);
        if (h->told != number &&
            !(sh_blob_whole(h->blob) && (any_file || !sh_blob_of_file(h->blob)))) {
            h->told = number;
            miss->held = sh_blob_whole(h->blob) ? 0 : sh_blob_held(h->blob);
            memcpy(miss->sha256, h->sha256.bytes, SH_SHA256_BYTES);
            out->n++;
        }
        sh_mutex_unlock(&w->lock);
    }
    return st;
}

/* May a file that is still to be hashed have a weight that is missing? */
static bool may_be_found(struct sh_session_weights *w, const struct sh_rpc_want *m,
                         uint64_t *waiting)
{
    bool found = false;

    for (uint32_t i = 0; i < m->n_weights && !found; i++) {
        const struct sh_rpc_weight *e = &m->weights[i];
        const struct sh_str name = {.ptr = e->name.ptr, .len = e->name.n};
        const struct held *h;
        bool missing;
        sh_mutex_lock(&w->lock);
        h = find(w, e->sha256);
        missing = h && !sh_blob_whole(h->blob);
        sh_mutex_unlock(&w->lock);
        if (missing) found = sh_blobs_hurry(w->blobs, name, e->bytes, waiting);
    }
    return found;
}

static int64_t worth_waiting_ns(const struct sh_rpc_want *m)
{
    uint64_t ms = WAIT_MS;

    for (uint32_t i = 0; i < m->n_weights && ms < WAIT_MAX_MS; i++)
        ms += m->weights[i].bytes / HASHED_PER_MS;
    return (int64_t)(ms < WAIT_MAX_MS ? ms : WAIT_MAX_MS) * SH_MS;
}

/* What is missing may be in new files, or in such that are being hashed.  That takes less time than
 * to send it, mostly; the host hears of it meanwhile. */
static enum shoal_status search_files(struct sh_session_weights *w, struct sh_rpc_conn *c,
                                      uint32_t request, const struct sh_rpc_want *m,
                                      struct missing *out, struct shoal_error *err)
{
    const int64_t end = sh_deadline_in(&sh_clock_system, worth_waiting_ns(m));
    struct sh_rpc_progress p = {.what = 0};

    (void)sh_blobs_look_again(w->blobs);
    for (;;) {
        // In this order: what has been hashed since is found.
        const bool more = may_be_found(w, m, &p.total);
        enum shoal_status st = list_missing(w, m, true, out, err);
        if (st || out->n == 0 || !more || sh_now_ns(&sh_clock_system) >= end) return st;
        st = sh_rpc_conn_send(c, SH_RPC_MSG_PROGRESS, request, &p, err);
        if (st) return st;
        sh_blobs_wait_some(w->blobs, LOOK_NS);
    }
}

static enum shoal_status on_want(struct sh_session_weights *w, struct sh_rpc_conn *c,
                                 uint32_t request, const struct sh_rpc_want *m,
                                 struct shoal_error *err)
{
    const bool any_file = sh_rpc_conn_has(c, SH_RPC_OWN_FILES);
    struct missing list = {.misses = sh_calloc(m->n_weights, sizeof *list.misses)};
    struct sh_rpc_missing answer;
    struct shoal_error why = SHOAL_ERROR_INIT;
    enum shoal_status st = SHOAL_OK;

    if (!list.misses) st = sh_fail(&why, SHOAL_ERR_NOMEM, "no memory for a list of weights");
    for (uint32_t i = 0; i < m->n_weights && !st; i++)
        st = check_entry(&m->weights[i], &why);
    if (!st) st = list_missing(w, m, any_file, &list, &why);
    if (!st && list.n > 0 && any_file) st = search_files(w, c, request, m, &list, &why);
    answer = (struct sh_rpc_missing){.misses = list.misses, .n_misses = list.n};
    if (st) {
        sh_rpc_conn_refuse(c, request, st, &why, list.refusal.need, list.refusal.free);
        st = SHOAL_OK;
    } else {
        st = sh_rpc_conn_send(c, SH_RPC_MSG_MISSING, request, &answer, err);
    }
    sh_free(list.misses);
    return st;
}

static enum shoal_status on_put(struct sh_session_weights *w, const struct sh_rpc_put *m,
                                struct shoal_error *err)
{
    struct shoal_error why = SHOAL_ERROR_INIT;
    enum shoal_status st = SHOAL_OK;
    struct held *h;

    sh_mutex_lock(&w->lock);
    h = find(w, m->sha256);
    if (!h) {
        st = sh_fail(err, SHOAL_ERR_FORMAT, "bytes of a weight come that nobody wants");
        goto done;
    }
    if (h->failed) goto done; // as PUT_END will hear
    h->failed = sh_blob_write(h->blob, m->offset, m->data.ptr, m->data.n, &why);
    if (h->failed) h->why = sh_strdup(why.message);

done:
    sh_mutex_unlock(&w->lock);
    return st;
}

/* Under the lock: how it went. */
static enum shoal_status end_put(struct held *h, struct shoal_error *err)
{
    struct shoal_error why = SHOAL_ERROR_INIT;
    enum shoal_status st = h->failed;

    if (st)
        (void)sh_fail(&why, st, "%s", h->why ? h->why : "no memory");
    else
        st = sh_blob_finish(h->blob, &why);
    sh_free(h->why);
    h->why = NULL;
    h->failed = SHOAL_OK;
    return st ? sh_fail(err, st, "tensor %s: %s", h->name, why.message) : SHOAL_OK;
}

static enum shoal_status on_put_end(struct sh_session_weights *w, struct sh_rpc_conn *c,
                                    uint32_t request, const struct sh_rpc_put_end *m,
                                    struct shoal_error *err)
{
    struct sh_rpc_put_done answer;
    struct shoal_error why = SHOAL_ERROR_INIT;
    enum shoal_status st;
    struct held *h;

    sh_mutex_lock(&w->lock);
    h = find(w, m->sha256);
    st = h ? end_put(h, &why) : sh_fail(&why, SHOAL_ERR_NOT_FOUND, "nobody wants that weight");
    sh_mutex_unlock(&w->lock);
    if (st) {
        sh_rpc_conn_refuse(c, request, st, &why, 0, 0);
        return SHOAL_OK;
    }
    memcpy(answer.sha256, m->sha256, sizeof answer.sha256);
    return sh_rpc_conn_send(c, SH_RPC_MSG_PUT_DONE, request, &answer, err);
}

enum shoal_status sh_session_weights_message(struct sh_session_weights *w, struct sh_rpc_conn *c,
                                             enum sh_rpc_type type, uint32_t request,
                                             const void *msg, struct shoal_error *err)
{
    switch (type) {
    case SH_RPC_MSG_WANT:
        return on_want(w, c, request, msg, err);
    case SH_RPC_MSG_PUT:
        return on_put(w, msg, err);
    case SH_RPC_MSG_PUT_END:
        return on_put_end(w, c, request, msg, err);
    default:
        return sh_fail(err, SHOAL_ERR_FORMAT, "message %d is not about weights", (int)type);
    }
}
