/* blob/folder_hash.c - hashing the models of a folder in the background, one after the other.
 *
 * A thread takes the next model of the list that has no hashes.  Whoever waits for a tensor may say
 * what it looks like: a model that may have it is taken first, and the one that is being hashed
 * gives way and begins anew later.
 */
#include "blob/folder_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/fnv.h"
#include "base/log.h"
#include "base/mem.h"

#define TELL_NS (10 * SH_SECOND) // between two lines of progress

/* ---- one model ------------------------------------------------------------------------------*/

struct telling {
    const struct sh_folder_model *m;
    int64_t began_ns;
    _Atomic int64_t next_ns; /* when the next line is due */
};

static void tell_progress(void *user, uint64_t done, uint64_t total)
{
    struct telling *t = user;
    const int64_t now = sh_now_ns(&sh_clock_system);
    int64_t due = atomic_load(&t->next_ns);

    if (now < due || total == 0) return;
    if (!atomic_compare_exchange_strong(&t->next_ns, &due, now + TELL_NS)) return;
    sh_log(SH_LOG_INFO, "blob", "hashing %s: %d %%", t->m->path,
           (int)(100.0 * (double)done / (double)total));
}

static void tell_end(const struct telling *t)
{
    const double seconds = (double)(sh_now_ns(&sh_clock_system) - t->began_ns) / 1e9;
    const struct sh_log_field fields[] = {sh_log_text("file", NULL, t->m->path),
                                          sh_log_bytes("bytes", "bytes", t->m->bytes),
                                          sh_log_seconds("seconds", "time", seconds)};

    sh_log_fields(SH_LOG_INFO, "blob", fields, 3, "hashed %s", t->m->path);
}

static enum shoal_status hash_model(struct sh_folder *f, const struct sh_folder_model *m,
                                    struct folder_entry **out, struct shoal_error *err)
{
    struct telling t = {.m = m, .began_ns = sh_now_ns(&sh_clock_system)};
    const struct sh_manifest_options opt = {.n_threads = f->n_threads,
                                            .dir = f->hashes,
                                            .wall = f->wall,
                                            .stop = &f->stop,
                                            .on_progress = tell_progress,
                                            .user = &t};
    struct sh_manifest *sums = NULL;
    struct sh_gguf *g = NULL;
    enum shoal_status st = folder_open_same(&g, m, err);

    *out = NULL;
    atomic_store(&t.next_ns, t.began_ns + TELL_NS);
    if (!st) st = sh_manifest_make(&sums, g, &opt, err);
    if (!st) *out = folder_make_entries(sums);
    if (!st && !*out) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the hashes of %s", m->path);
    }
    if (!st) tell_end(&t);
    sh_manifest_destroy(sums);
    sh_gguf_close(g);
    return st;
}

/* ---- the thread -----------------------------------------------------------------------------*/

static bool is_due(const struct sh_folder_model *m)
{
    return !m->entries && !m->failed;
}

/* The next model to hash, counted, or NULL at the end. */
static struct sh_folder_model *next_to_hash(struct sh_folder *f)
{
    struct sh_folder_model *m = NULL;

    sh_mutex_lock(&f->lock);
    for (;;) {
        while (!f->wanted && !f->closing)
            (void)sh_cond_wait(&f->changed, &f->lock, INT64_MAX);
        if (f->closing) break;
        for (size_t i = 0; i < f->list.n; i++) {
            struct sh_folder_model *o = f->list.models[i];
            if (is_due(o) && (!m || (o->urgent && !m->urgent))) m = o;
        }
        if (m) break;
        f->wanted = false;
        sh_cond_broadcast(&f->changed);
    }
    if (m) {
        m->refs++;
        f->hashing = m;
        atomic_store(&f->stop, false);
    }
    sh_mutex_unlock(&f->lock);
    return m;
}

static void *hashing_thread(void *arg)
{
    struct sh_folder *f = arg;
    struct sh_folder_model *m;

    while ((m = next_to_hash(f)) != NULL) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct folder_entry *e;
        const enum shoal_status st = hash_model(f, m, &e, &err);
        if (st && st != SHOAL_ERR_CANCELLED) {
            sh_log(SH_LOG_WARN, "blob", "left out: %s", err.message);
        }
        sh_mutex_lock(&f->lock);
        m->entries = e;
        m->failed = st && st != SHOAL_ERR_CANCELLED;
        f->hashing = NULL;
        sh_cond_broadcast(&f->changed);
        sh_mutex_unlock(&f->lock);
        folder_unref(f, m);
    }
    return NULL;
}

enum shoal_status sh_folder_hash(struct sh_folder *f, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    sh_mutex_lock(&f->lock);
    if (!f->thread.running) st = sh_thread_start(&f->thread, "hashes", hashing_thread, f, err);
    if (!st) f->wanted = true;
    sh_cond_broadcast(&f->changed);
    sh_mutex_unlock(&f->lock);
    return st;
}

void sh_folder_wait(struct sh_folder *f)
{
    sh_mutex_lock(&f->lock);
    while (f->wanted && !f->closing)
        (void)sh_cond_wait(&f->changed, &f->lock, INT64_MAX);
    sh_mutex_unlock(&f->lock);
}

/* ---- hurrying -------------------------------------------------------------------------------*/

static uint64_t mark_of(struct sh_str name, uint64_t bytes)
{
    return sh_fnv(sh_fnv(SH_FNV_START, &bytes, sizeof bytes), name.ptr, name.len);
}

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

uint64_t *folder_make_marks(const struct sh_gguf *g)
{
    const size_t n = sh_gguf_n_tensors(g);
    uint64_t *marks = sh_calloc(n, sizeof *marks);

    if (!marks) return NULL;
    for (size_t i = 0; i < n; i++) {
        const struct sh_gguf_tensor *t = sh_gguf_tensor(g, i);
        marks[i] = mark_of(t->name, t->data_bytes);
    }
    qsort(marks, n, sizeof *marks, by_value);
    return marks;
}

bool sh_folder_hurry(struct sh_folder *f, struct sh_str name, uint64_t bytes)
{
    const uint64_t mark = mark_of(name, bytes);
    bool found = false;

    sh_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->list.n && f->wanted; i++) {
        struct sh_folder_model *m = f->list.models[i];
        if (!is_due(m) || !bsearch(&mark, m->marks, m->n_tensors, sizeof mark, by_value)) continue;
        m->urgent = found = true;
    }
    if (found && f->hashing && !f->hashing->urgent) atomic_store(&f->stop, true);
    sh_mutex_unlock(&f->lock);
    return found;
}

void sh_folder_wait_some(struct sh_folder *f, int64_t timeout_ns)
{
    sh_mutex_lock(&f->lock);
    if (f->wanted && !f->closing) (void)sh_cond_wait(&f->changed, &f->lock, timeout_ns);
    sh_mutex_unlock(&f->lock);
}
