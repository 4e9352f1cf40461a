/* host/weights.c - see host/weights.h: a thread that makes the manifest, and a table of what it has
 * said so far. */
#include "host/weights.h"

#include <stdatomic.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "blob/manifest.h"

#define LOOK_NS (100 * SH_MS) // between two questions whether to stop

struct known {
    struct sh_sha256 hash;
    bool is;
};

struct sh_host_weights {
    const struct sh_gguf *file;
    struct sh_buf dir; /* of what is remembered; empty: nothing is */
    int n_threads;
    atomic_bool stop;
    struct sh_thread thread;
    struct sh_mutex lock; /* guards what follows; a hash that is known does not change any more */
    struct sh_cond changed;
    struct known *known; /* by tensor */
    uint64_t done, total;
    bool over; /* all are known, or st says why not: */
    enum shoal_status st;
    struct shoal_error err;
};

/* ---- making ---------------------------------------------------------------------------------*/

static void take_tensor(void *self, size_t tensor, const struct sh_sha256 *sha256)
{
    struct sh_host_weights *w = self;

    sh_mutex_lock(&w->lock);
    w->known[tensor] = (struct known){.hash = *sha256, .is = true};
    sh_cond_broadcast(&w->changed);
    sh_mutex_unlock(&w->lock);
}

static void take_progress(void *self, uint64_t done, uint64_t total)
{
    struct sh_host_weights *w = self;

    sh_mutex_lock(&w->lock);
    if (done > w->done) w->done = done;
    w->total = total;
    sh_mutex_unlock(&w->lock);
}

static void *make(void *arg)
{
    struct sh_host_weights *w = arg;
    const struct sh_manifest_options opt = {.n_threads = w->n_threads,
                                            .dir = w->dir.ptr,
                                            .stop = &w->stop,
                                            .on_tensor = take_tensor,
                                            .on_progress = take_progress,
                                            .user = w};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_manifest *m;
    enum shoal_status st = sh_manifest_make(&m, w->file, &opt, &err);

    sh_manifest_destroy(m);
    sh_mutex_lock(&w->lock);
    w->over = true;
    w->st = st;
    w->err = err;
    sh_cond_broadcast(&w->changed);
    sh_mutex_unlock(&w->lock);
    return NULL;
}

/* Is all of it remembered? */
static enum shoal_status recall(struct sh_host_weights *w, struct shoal_error *err)
{
    struct sh_manifest *m = NULL;
    enum shoal_status st = sh_manifest_recall(&m, w->file, w->dir.ptr, err);

    if (st || !m) return st;
    for (size_t i = 0; i < sh_manifest_n_tensors(m); i++)
        w->known[i] = (struct known){.hash = sh_manifest_tensor(m, i)->sha256, .is = true};
    w->done = w->total;
    w->over = true;
    sh_manifest_destroy(m);
    return SHOAL_OK;
}

/* Where hashes are remembered; nowhere is no failure. */
static enum shoal_status set_dir(struct sh_host_weights *w, const struct sh_host_weights_options *o)
{
    if (o->forget) return SHOAL_OK;
    if (o->hashes) return sh_buf_printf(&w->dir, "%s", o->hashes) ? SHOAL_ERR_NOMEM : SHOAL_OK;
    if (sh_manifest_default_dir(&w->dir, NULL)) sh_buf_release(&w->dir);
    return SHOAL_OK;
}

enum shoal_status sh_host_weights_start(struct sh_host_weights **out, const struct sh_gguf *file,
                                        const struct sh_host_weights_options *opt,
                                        struct shoal_error *err)
{
    static const struct sh_host_weights_options DEFAULTS = {.n_threads = 0};
    const struct sh_host_weights_options *o = opt ? opt : &DEFAULTS;
    const size_t n = sh_gguf_n_tensors(file);
    struct sh_host_weights *w = sh_calloc(1, sizeof *w);
    enum shoal_status st = SHOAL_ERR_NOMEM;

    *out = NULL;
    if (!w) goto done;
    w->file = file;
    w->n_threads = o->n_threads;
    w->dir = (struct sh_buf)SH_BUF_INIT;
    w->thread = (struct sh_thread)SH_THREAD_INIT;
    sh_mutex_init(&w->lock);
    sh_cond_init(&w->changed);
    w->known = sh_calloc(n, sizeof *w->known);
    if (!w->known || set_dir(w, o)) goto done;
    for (size_t i = 0; i < n; i++)
        w->total += sh_gguf_tensor(file, i)->data_bytes;
    st = w->dir.ptr ? recall(w, err) : SHOAL_OK;
    if (!st && !w->over) st = sh_thread_start(&w->thread, "hashes", make, w, err);
    if (st) goto done;
    *out = w;
    w = NULL;

done:
    if (st == SHOAL_ERR_NOMEM) {
        (void)sh_fail(err, st, "no memory for the hashes of %s", sh_gguf_path(file, 0));
    }
    sh_host_weights_destroy(w);
    return st;
}

void sh_host_weights_destroy(struct sh_host_weights *w)
{
    if (!w) return;
    atomic_store(&w->stop, true);
    sh_thread_join(&w->thread);
    sh_cond_release(&w->changed);
    sh_mutex_release(&w->lock);
    sh_buf_release(&w->dir);
    sh_free(w->known);
    sh_free(w);
}

/* ---- waiting --------------------------------------------------------------------------------*/

/* Under the lock. */
static enum shoal_status failure(const struct sh_host_weights *w, struct shoal_error *err)
{
    if (w->st && err) *err = w->err;
    return w->st;
}

/* Under the lock: those that are known to the front, in their order. */
static size_t sort_ready(const struct sh_host_weights *w, size_t *tensors, size_t n)
{
    size_t ready = 0;

    for (size_t i = 0; i < n; i++) {
        const size_t t = tensors[i];
        if (!w->known[t].is) continue;
        tensors[i] = tensors[ready];
        tensors[ready++] = t;
    }
    return ready;
}

/* Under the lock, which is given up for a moment. */
static enum shoal_status wait_a_while(struct sh_host_weights *w, bool (*stop)(void *self),
                                      void *self, struct shoal_error *err)
{
    bool stopped;

    (void)sh_cond_wait(&w->changed, &w->lock, LOOK_NS);
    sh_mutex_unlock(&w->lock); // whoever is asked may take long
    stopped = stop && stop(self);
    sh_mutex_lock(&w->lock);
    return stopped ? sh_fail(err, SHOAL_ERR_CANCELLED, "hashing %s was cancelled",
                             sh_gguf_path(w->file, 0))
                   : SHOAL_OK;
}

enum shoal_status sh_host_weights_next(struct sh_host_weights *w, size_t *tensors, size_t n,
                                       size_t *n_ready, bool (*stop)(void *self), void *self,
                                       struct shoal_error *err)
{
    enum shoal_status st;

    *n_ready = 0;
    sh_mutex_lock(&w->lock);
    for (;;) {
        st = failure(w, err);
        if (!st) *n_ready = sort_ready(w, tensors, n);
        if (st || *n_ready > 0) break;
        st = wait_a_while(w, stop, self, err);
        if (st) break;
    }
    sh_mutex_unlock(&w->lock);
    return st;
}

const struct sh_sha256 *sh_host_weights_hash(const struct sh_host_weights *w, size_t tensor)
{
    return &w->known[tensor].hash;
}

void sh_host_weights_progress(struct sh_host_weights *w, uint64_t *done, uint64_t *total)
{
    sh_mutex_lock(&w->lock);
    *done = w->done;
    *total = w->total;
    sh_mutex_unlock(&w->lock);
}

enum shoal_status sh_host_weights_finish(struct sh_host_weights *w, bool (*stop)(void *self),
                                         void *self, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    sh_mutex_lock(&w->lock);
    while (!w->over && !st)
        st = wait_a_while(w, stop, self, err);
    if (!st) st = failure(w, err);
    sh_mutex_unlock(&w->lock);
    return st;
}
