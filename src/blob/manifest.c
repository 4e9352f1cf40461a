/* blob/manifest.c - hashing a model's tensors on several threads.
 *
 * A tensor's own hash is one serial chain, so tensors are dealt out whole, the largest first.
 * Whoever chains a tensor hashes each piece a second time for itself, while its bytes are still
 * in the cache.  Threads that find no tensor left take pieces off the far ends of those under
 * way, so that one large tensor at the end costs its chain and no more.
 */
#include "blob/manifest.h"

#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "base/thread.h"
#include "blob/manifest_priv.h"

#define THREADS_MAX 64
#define SETTLED_NS (2 * SH_SECOND)

/* A tensor under way: pieces in [front, back) belong to nobody yet.  (The only piece of a small
 * tensor is not handed out: its hash is the tensor's.) */
struct chain {
    size_t tensor, front, back;
};

struct job {
    const struct sh_gguf *g;
    struct sh_manifest *m;
    struct sh_sha256 *pieces; /* of m */
    const struct sh_manifest_options *opt;
    size_t *order;        /* tensors, the largest first */
    struct sh_mutex lock; /* guards all below */
    size_t next;          /* in order */
    uint64_t done;        /* bytes chained */
    struct chain chains[THREADS_MAX];
    int n_chains; /* threads so far, each with a chain of its own */
    enum shoal_status st;
    struct shoal_error err; /* of the first failure */
};

/* ---- sharing out the work -------------------------------------------------------------------*/

static void fail_job(struct job *j, enum shoal_status st, const struct shoal_error *err)
{
    sh_mutex_lock(&j->lock);
    if (!j->st) {
        j->st = st;
        j->err = *err;
    }
    sh_mutex_unlock(&j->lock);
}

static bool is_over(struct job *j)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    bool over;

    if (j->opt->stop && atomic_load(j->opt->stop)) {
        fail_job(
            j,
            sh_fail(&err, SHOAL_ERR_CANCELLED, "hashing %s was cancelled", sh_gguf_path(j->g, 0)),
            &err);
    }
    sh_mutex_lock(&j->lock);
    over = j->st != SHOAL_OK;
    sh_mutex_unlock(&j->lock);
    return over;
}

static struct chain *add_chain(struct job *j)
{
    struct chain *c;

    sh_mutex_lock(&j->lock);
    c = &j->chains[j->n_chains++];
    sh_mutex_unlock(&j->lock);
    return c;
}

static bool take_tensor(struct job *j, struct chain *c)
{
    bool got = false;

    sh_mutex_lock(&j->lock);
    if (j->next < j->m->n_tensors) {
        const size_t t = j->order[j->next++];
        const size_t n = j->m->tensors[t].n_pieces;
        *c = (struct chain){.tensor = t, .front = 0, .back = n > 1 ? n : 0};
        got = true;
    }
    sh_mutex_unlock(&j->lock);
    return got;
}

/* Is the piece that is being chained still nobody's?  Then it is the caller's. */
static bool take_front(struct job *j, struct chain *c, size_t piece)
{
    bool got;

    sh_mutex_lock(&j->lock);
    got = piece < c->back;
    if (got) c->front = piece + 1;
    sh_mutex_unlock(&j->lock);
    return got;
}

/* A piece from the far end of the tensor with most of them left. */
static bool take_back(struct job *j, size_t *tensor, size_t *piece)
{
    struct chain *most = NULL;

    sh_mutex_lock(&j->lock);
    for (int i = 0; i < j->n_chains; i++) {
        struct chain *c = &j->chains[i];
        if (c->back == c->front) continue;
        if (!most || c->back - c->front > most->back - most->front) most = c;
    }
    if (most) {
        *tensor = most->tensor;
        *piece = --most->back;
    }
    sh_mutex_unlock(&j->lock);
    return most != NULL;
}

/* ---- hashing --------------------------------------------------------------------------------*/

static size_t piece_bytes(const struct sh_manifest_tensor *t, size_t piece)
{
    const uint64_t left = t->bytes - (uint64_t)piece * SH_PIECE_BYTES;

    return left < SH_PIECE_BYTES ? (size_t)left : SH_PIECE_BYTES;
}

static enum shoal_status hash_piece(struct job *j, size_t tensor, size_t piece,
                                    struct shoal_error *err)
{
    const struct sh_manifest_tensor *t = &j->m->tensors[tensor];
    const uint8_t *data = sh_gguf_tensor(j->g, tensor)->data;
    struct sh_sha256 *out = &j->pieces[(size_t)(t->pieces - j->pieces) + piece];

    return sh_sha256_of(out, data + piece * SH_PIECE_BYTES, piece_bytes(t, piece), err);
}

static void count_bytes(struct job *j, size_t n)
{
    uint64_t done;

    sh_mutex_lock(&j->lock);
    j->done += n;
    done = j->done;
    sh_mutex_unlock(&j->lock);
    if (j->opt->on_progress) j->opt->on_progress(j->opt->user, done, j->m->bytes);
}

/* Chain the pieces of a tensor, and hash those that nobody else does. */
static enum shoal_status chain_pieces(struct job *j, struct chain *c, struct sh_sha256_chain *sha,
                                      struct shoal_error *err)
{
    const struct sh_manifest_tensor *t = &j->m->tensors[c->tensor];
    const uint8_t *data = sh_gguf_tensor(j->g, c->tensor)->data;
    enum shoal_status st = SHOAL_OK;

    for (size_t i = 0; i < t->n_pieces && !st; i++) {
        const size_t n = piece_bytes(t, i);
        const bool mine = take_front(j, c, i);
        if (is_over(j)) return SHOAL_OK; // and so the hash is not asked for
        st = sh_sha256_add(sha, data + i * SH_PIECE_BYTES, n, err);
        if (!st && mine) st = hash_piece(j, c->tensor, i, err);
        if (!st) count_bytes(j, n);
    }
    return st;
}

static enum shoal_status hash_tensor(struct job *j, struct chain *c, struct sh_sha256_chain *sha,
                                     struct shoal_error *err)
{
    struct sh_manifest_tensor *t = &j->m->tensors[c->tensor];
    const struct sh_map *map = sh_gguf_map(j->g, t->shard);
    enum shoal_status st = sh_sha256_begin(sha, err);

    if (!st) st = chain_pieces(j, c, sha, err);
    if (st || is_over(j)) return st;
    st = sh_sha256_end(sha, &t->sha256, err);
    if (st) return st;
    if (t->n_pieces == 1) j->pieces[t->pieces - j->pieces] = t->sha256;
    if (map && sh_map_faulted(map)) {
        return sh_fail(err, SHOAL_ERR_IO, "%s lost bytes while it was hashed",
                       sh_gguf_path(j->g, t->shard));
    }
    if (j->opt->on_tensor) j->opt->on_tensor(j->opt->user, c->tensor, &t->sha256);
    return SHOAL_OK;
}

static void *hash_some(void *arg)
{
    struct job *j = arg;
    struct sh_sha256_chain sha = SH_SHA256_CHAIN_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct chain *c = add_chain(j);
    enum shoal_status st = SHOAL_OK;
    size_t tensor, piece;

    while (!st && !is_over(j) && take_tensor(j, c))
        st = hash_tensor(j, c, &sha, &err);
    while (!st && !is_over(j) && take_back(j, &tensor, &piece)) {
        st = hash_piece(j, tensor, piece, &err);
        if (!st) count_bytes(j, 0);
    }
    if (st) fail_job(j, st, &err);
    sh_sha256_release(&sha);
    return NULL;
}

/* ---- all of a model -------------------------------------------------------------------------*/

struct rank {
    uint64_t bytes;
    size_t tensor;
};

static int by_size(const void *a, const void *b)
{
    const struct rank *x = a, *y = b;

    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->tensor < y->tensor ? -1 : 1;
}

static enum shoal_status put_in_order(struct job *j, struct shoal_error *err)
{
    const size_t n = j->m->n_tensors;
    struct rank *ranks = sh_calloc(n, sizeof *ranks);

    j->order = sh_calloc(n, sizeof *j->order);
    if (!ranks || !j->order) {
        sh_free(ranks);
        return sh_fail(err, SHOAL_ERR_NOMEM, "no memory to hash the %zu tensors of %s", n,
                       sh_gguf_path(j->g, 0));
    }
    for (size_t i = 0; i < n; i++)
        ranks[i] = (struct rank){.bytes = j->m->tensors[i].bytes, .tensor = i};
    qsort(ranks, n, sizeof *ranks, by_size);
    for (size_t i = 0; i < n; i++)
        j->order[i] = ranks[i].tensor;
    sh_free(ranks);
    return SHOAL_OK;
}

static enum shoal_status hash_all(struct sh_manifest *m, const struct sh_gguf *g,
                                  const struct sh_manifest_options *opt, struct shoal_error *err)
{
    struct job j = {.g = g, .m = m, .pieces = m->pieces, .opt = opt};
    struct sh_thread threads[THREADS_MAX];
    const int asked = opt->n_threads > 0 ? opt->n_threads : sh_cpu_count();
    const int most = asked < THREADS_MAX ? asked : THREADS_MAX;
    int n = 0;
    enum shoal_status st;

    sh_mutex_init(&j.lock);
    st = put_in_order(&j, err);
    if (st) goto done;
    for (; n < most - 1; n++) { // with fewer than asked for, it only takes longer
        threads[n] = (struct sh_thread)SH_THREAD_INIT;
        if (sh_thread_start(&threads[n], "hash", hash_some, &j, NULL)) break;
    }
    (void)hash_some(&j);
    for (int i = 0; i < n; i++)
        sh_thread_join(&threads[i]);
    st = j.st;
    if (st && err) *err = j.err;

done:
    sh_free(j.order);
    sh_mutex_release(&j.lock);
    return st;
}

enum shoal_status manifest_create(struct sh_manifest **out, const struct sh_gguf *g,
                                  struct shoal_error *err)
{
    const size_t n = sh_gguf_n_tensors(g);
    struct sh_manifest *m = sh_calloc(1, sizeof *m);
    size_t at = 0;

    *out = NULL;
    if (m) m->tensors = sh_calloc(n, sizeof *m->tensors);
    if (!m || !m->tensors) goto done;
    m->n_tensors = n;
    for (size_t i = 0; i < n; i++) {
        const struct sh_gguf_tensor *t = sh_gguf_tensor(g, i);
        const size_t whole = t->data_bytes / SH_PIECE_BYTES;
        const bool rest = t->data_bytes % SH_PIECE_BYTES != 0 || whole == 0;
        m->tensors[i] = (struct sh_manifest_tensor){.shard = t->shard,
                                                    .offset = t->offset,
                                                    .bytes = t->data_bytes,
                                                    .n_pieces = whole + (rest ? 1 : 0)};
        m->n_pieces += m->tensors[i].n_pieces;
        m->bytes += t->data_bytes;
    }
    m->pieces = sh_calloc(m->n_pieces, sizeof *m->pieces);
    if (!m->pieces) goto done;
    for (size_t i = 0; i < n; i++) {
        m->tensors[i].pieces = &m->pieces[at];
        at += m->tensors[i].n_pieces;
    }
    *out = m;
    return SHOAL_OK;

done:
    sh_manifest_destroy(m);
    return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the hashes of the %zu tensors of %s", n,
                   sh_gguf_path(g, 0));
}

/* Are the files still what was mapped?  *settled: and long enough ago that any later write will
 * be seen in their times.  (Only the time of change counts: the other can be set at will.) */
static enum shoal_status check_files(const struct sh_gguf *g, uint64_t start_ns, bool *settled,
                                     struct shoal_error *err)
{
    *settled = true;
    for (int i = 0; i < sh_gguf_n_shards(g); i++) {
        const struct sh_map *map = sh_gguf_map(g, i);
        struct sh_file_id now;
        enum shoal_status st;
        if (!map) {
            *settled = false; // from memory: nothing to remember it under
            continue;
        }
        st = sh_file_identify(&now, sh_gguf_path(g, i), err);
        if (st) return st;
        if (!sh_file_id_equal(&now, &map->id) || sh_map_faulted(map)) {
            return sh_fail(err, SHOAL_ERR_IO, "%s was changed while it was hashed",
                           sh_gguf_path(g, i));
        }
        if (now.changed_ns > start_ns || start_ns - now.changed_ns < (uint64_t)SETTLED_NS) {
            *settled = false;
        }
    }
    return SHOAL_OK;
}

static uint64_t wall_ns(const struct sh_clock *wall)
{
    struct timespec t;

    if (wall) return (uint64_t)sh_now_ns(wall);
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * (uint64_t)SH_SECOND + (uint64_t)t.tv_nsec;
}

static void tell_all(const struct sh_manifest *m, const struct sh_manifest_options *opt)
{
    for (size_t i = 0; i < m->n_tensors && opt->on_tensor; i++)
        opt->on_tensor(opt->user, i, &m->tensors[i].sha256);
    if (opt->on_progress) opt->on_progress(opt->user, m->bytes, m->bytes);
}

enum shoal_status sh_manifest_make(struct sh_manifest **out, const struct sh_gguf *g,
                                   const struct sh_manifest_options *opt, struct shoal_error *err)
{
    static const struct sh_manifest_options DEFAULTS = {.n_threads = 0};
    const struct sh_manifest_options *o = opt ? opt : &DEFAULTS;
    const uint64_t start_ns = wall_ns(o->wall);
    struct sh_manifest *m = NULL;
    bool settled = false;
    enum shoal_status st;

    *out = NULL;
    st = manifest_create(&m, g, err);
    if (st) goto done;
    if (o->dir && manifest_load(m, g, o->dir)) {
        m->recalled = true;
        tell_all(m, o);
    } else {
        st = hash_all(m, g, o, err);
        if (st) goto done;
        st = check_files(g, start_ns, &settled, err);
        if (st) goto done;
        if (o->dir && settled) manifest_store(m, g, o->dir);
    }
    *out = m;
    m = NULL;

done:
    sh_manifest_destroy(m);
    return st;
}

enum shoal_status sh_manifest_recall(struct sh_manifest **out, const struct sh_gguf *g,
                                     const char *dir, struct shoal_error *err)
{
    struct sh_manifest *m = NULL;
    enum shoal_status st = manifest_create(&m, g, err);

    *out = NULL;
    if (st) return st;
    if (manifest_load(m, g, dir)) {
        m->recalled = true;
        *out = m;
        m = NULL;
    }
    sh_manifest_destroy(m);
    return SHOAL_OK;
}

void sh_manifest_destroy(struct sh_manifest *m)
{
    if (!m) return;
    sh_free(m->tensors);
    sh_free(m->pieces);
    sh_free(m);
}

size_t sh_manifest_n_tensors(const struct sh_manifest *m)
{
    return m->n_tensors;
}

const struct sh_manifest_tensor *sh_manifest_tensor(const struct sh_manifest *m, size_t i)
{
    SH_ASSERT(i < m->n_tensors);
    return &m->tensors[i];
}

uint64_t sh_manifest_bytes(const struct sh_manifest *m)
{
    return m->bytes;
}

bool sh_manifest_recalled(const struct sh_manifest *m)
{
    return m->recalled;
}
