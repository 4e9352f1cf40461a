/* blob/folder.c - models of a folder: their hashes in order, their mappings while they are used.
 *
 * A model is counted by the list, by whoever works on it, and by its blobs.  Its file is opened
 * when the first blob is asked for and closed with the last, so that a folder of any size holds no
 * mappings of its own.  One lock guards lists and counts; files are opened, hashed and closed
 * outside of it.
 */
#include "blob/folder.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "blob/folder_priv.h"

#define FILES_MAX 4096
#define TENSORS_MAX ((size_t)4 << 20)

/* ---- models ---------------------------------------------------------------------------------*/

static void free_model(struct sh_folder_model *m)
{
    if (!m) return;
    sh_gguf_close(m->g);
    sh_free(m->entries);
    sh_free(m->marks);
    sh_free(m->ids);
    sh_free(m->path);
    sh_free(m);
}

void folder_unref(struct sh_folder *f, struct sh_folder_model *m)
{
    bool last;

    sh_mutex_lock(&f->lock);
    last = --m->refs == 0;
    sh_mutex_unlock(&f->lock);
    if (last) free_model(m);
}

static int by_hash(const void *a, const void *b)
{
    const struct folder_entry *x = a, *y = b;

    return memcmp(x->hash.bytes, y->hash.bytes, SH_SHA256_BYTES);
}

/* NULL: no memory. */
struct folder_entry *folder_make_entries(const struct sh_manifest *m)
{
    const size_t n = sh_manifest_n_tensors(m);
    struct folder_entry *e = sh_calloc(n, sizeof *e);

    if (!e) return NULL;
    for (size_t i = 0; i < n; i++)
        e[i] = (struct folder_entry){.hash = sh_manifest_tensor(m, i)->sha256, .tensor = i};
    qsort(e, n, sizeof *e, by_hash);
    return e;
}

static bool is_same(const struct sh_folder_model *m, const struct sh_gguf *g)
{
    if (m->n_shards != sh_gguf_n_shards(g) || m->n_tensors != sh_gguf_n_tensors(g)) return false;
    for (int i = 0; i < m->n_shards; i++)
        if (!sh_file_id_equal(&m->ids[i], &sh_gguf_map(g, i)->id)) return false;
    return true;
}

/* Open the model's file, which must be what it was. */
enum shoal_status folder_open_same(struct sh_gguf **out, const struct sh_folder_model *m,
                                   struct shoal_error *err)
{
    enum shoal_status st = sh_gguf_open(out, m->path, err);

    if (st || is_same(m, *out)) return st;
    sh_gguf_close(*out);
    *out = NULL;
    return sh_fail(err, SHOAL_ERR_IO, "%s is not the file that it was", m->path);
}

static enum shoal_status create_model(struct sh_folder_model **out, const struct sh_folder *f,
                                      const char *path, struct shoal_error *err)
{
    struct sh_folder_model *m = sh_calloc(1, sizeof *m);
    struct sh_manifest *sums = NULL;
    struct sh_gguf *g = NULL;
    enum shoal_status st;

    *out = NULL;
    st = sh_gguf_open(&g, path, err);
    if (st) goto done;
    if (m) {
        m->refs = 1;
        m->n_shards = sh_gguf_n_shards(g);
        m->n_tensors = sh_gguf_n_tensors(g);
        m->path = sh_strdup(path);
        m->ids = sh_calloc((size_t)m->n_shards, sizeof *m->ids);
        m->marks = folder_make_marks(g);
    }
    if (!m || !m->path || !m->ids || !m->marks) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "no memory to list %s", path);
        goto done;
    }
    for (int i = 0; i < m->n_shards; i++)
        m->ids[i] = sh_gguf_map(g, i)->id;
    for (size_t i = 0; i < m->n_tensors; i++)
        m->bytes += sh_gguf_tensor(g, i)->data_bytes;
    if (f->hashes) st = sh_manifest_recall(&sums, g, f->hashes, err);
    if (st) goto done;
    if (sums) m->entries = folder_make_entries(sums);
    if (sums && !m->entries) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the hashes of %s", path);
        goto done;
    }
    *out = m;
    m = NULL;

done:
    sh_manifest_destroy(sums);
    sh_gguf_close(g);
    free_model(m);
    return st;
}

/* ---- scanning -------------------------------------------------------------------------------*/

static void release_list(struct sh_folder *f, struct model_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        folder_unref(f, l->models[i]);
    sh_free(l->models);
    *l = (struct model_list){.models = NULL};
}

/* Is the same file in the list, under another name? */
static bool has_file(const struct model_list *l, const struct sh_folder_model *m)
{
    for (size_t i = 0; i < l->n; i++)
        if (sh_file_id_equal(&l->models[i]->ids[0], &m->ids[0])) return true;
    return false;
}

static bool is_equal(const struct sh_folder_model *a, const struct sh_folder_model *b)
{
    if (strcmp(a->path, b->path) != 0 || a->n_shards != b->n_shards) return false;
    for (int i = 0; i < a->n_shards; i++)
        if (!sh_file_id_equal(&a->ids[i], &b->ids[i])) return false;
    return true;
}

/* Is the model in the folder's list already, hashed or about to be?  Then that one, with a count
 * for the caller, else m itself. */
static struct sh_folder_model *keep_old(struct sh_folder *f, struct sh_folder_model *m)
{
    struct sh_folder_model *old = NULL;

    sh_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->list.n && !old; i++) {
        struct sh_folder_model *o = f->list.models[i];
        if (is_equal(o, m) && !o->failed && (o->entries || !m->entries)) old = o;
    }
    if (old) old->refs++;
    sh_mutex_unlock(&f->lock);
    if (!old) return m;
    free_model(m);
    return old;
}

/* A model per path that is one. */
static enum shoal_status list_models(struct sh_folder *f, const struct path_list *paths,
                                     struct model_list *out, struct shoal_error *err)
{
    size_t n_tensors = 0;

    out->n = 0;
    out->models = sh_calloc(paths->n, sizeof(struct sh_folder_model *));
    if (!out->models) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory to list %s", f->dir);
    for (size_t i = 0; i < paths->n; i++) {
        struct shoal_error why = SHOAL_ERROR_INIT;
        struct sh_folder_model *m;
        enum shoal_status st = create_model(&m, f, paths->paths[i], &why);
        if (st == SHOAL_ERR_NOMEM) return sh_fail(err, st, "%s", why.message);
        if (!st && m->n_tensors > f->tensors_max - n_tensors) {
            (void)sh_fail(&why, SHOAL_ERR_LIMIT,
                          "%s and those before it have more than %zu tensors", m->path,
                          f->tensors_max);
            free_model(m);
            m = NULL;
        }
        if (!m) {
            sh_log(SH_LOG_WARN, "blob", "left out: %s", why.message);
            continue;
        }
        if (has_file(out, m)) {
            free_model(m);
            continue;
        }
        n_tensors += m->n_tensors;
        out->models[out->n++] = keep_old(f, m);
    }
    return SHOAL_OK;
}

enum shoal_status sh_folder_scan(struct sh_folder *f, struct shoal_error *err)
{
    struct path_list paths = {.paths = NULL};
    struct model_list fresh = {.models = NULL}, old;
    enum shoal_status st;

    sh_mutex_lock(&f->scanning);
    st = folder_find(&paths, f->dir, f->files_max, err);
    if (!st) st = list_models(f, &paths, &fresh, err);
    if (!st) {
        sh_mutex_lock(&f->lock);
        old = f->list;
        f->list = fresh;
        sh_mutex_unlock(&f->lock);
        fresh = old;
    }
    sh_mutex_unlock(&f->scanning);
    release_list(f, &fresh);
    path_list_release(&paths);
    return st;
}

/* ---- finding --------------------------------------------------------------------------------*/

/* A model with that hash, counted, and its open file, if it is. */
static struct sh_folder_model *find(struct sh_folder *f, const struct sh_sha256 *hash,
                                    size_t *tensor, bool *is_open)
{
    const struct folder_entry key = {.hash = *hash};
    struct sh_folder_model *m = NULL;

    sh_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->list.n && !m; i++) {
        struct sh_folder_model *o = f->list.models[i];
        const struct folder_entry *e =
            o->entries ? bsearch(&key, o->entries, o->n_tensors, sizeof key, by_hash) : NULL;
        if (!e) continue;
        *tensor = e->tensor;
        m = o;
    }
    if (m) {
        m->refs++;
        *is_open = m->g != NULL;
        if (m->g) m->n_blobs++;
    }
    sh_mutex_unlock(&f->lock);
    return m;
}

/* Give a counted model its open file, or use the one that another thread was faster to open. */
static enum shoal_status open_model(struct sh_folder *f, struct sh_folder_model *m,
                                    struct shoal_error *err)
{
    struct sh_gguf *g;
    enum shoal_status st = folder_open_same(&g, m, err);

    if (st) return st;
    sh_mutex_lock(&f->lock);
    m->n_blobs++;
    if (!m->g) {
        m->g = g;
        g = NULL;
    }
    sh_mutex_unlock(&f->lock);
    sh_gguf_close(g);
    return SHOAL_OK;
}

/* Is the open file of this shard still what its name stands for? */
static enum shoal_status check_shard(const struct sh_gguf *g, int shard, struct shoal_error *err)
{
    const struct sh_map *map = sh_gguf_map(g, shard);
    struct sh_file_id now;
    enum shoal_status st = sh_file_identify(&now, sh_gguf_path(g, shard), err);

    if (st || (sh_file_id_equal(&now, &map->id) && !sh_map_faulted(map))) return st;
    return sh_fail(err, SHOAL_ERR_IO, "%s is not the file that it was", sh_gguf_path(g, shard));
}

/* The model is no longer what its hashes say. */
static void drop(struct sh_folder *f, struct sh_folder_model *m, const struct shoal_error *why)
{
    bool was_there = false;

    sh_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->list.n && !was_there; i++) {
        if (f->list.models[i] != m) continue;
        memmove(&f->list.models[i], &f->list.models[i + 1],
                (f->list.n - i - 1) * sizeof(struct sh_folder_model *));
        f->list.n--;
        m->refs--; // the caller has one more
        was_there = true;
    }
    sh_mutex_unlock(&f->lock);
    if (was_there) sh_log(SH_LOG_WARN, "blob", "left out: %s", why->message);
}

enum shoal_status sh_folder_get(struct sh_folder *f, const struct sh_sha256 *hash,
                                struct sh_folder_blob *out, struct shoal_error *err)
{
    struct shoal_error why = SHOAL_ERROR_INIT;
    struct sh_folder_model *m;
    size_t tensor;
    bool is_open;

    *out = (struct sh_folder_blob){.model = NULL};
    while ((m = find(f, hash, &tensor, &is_open)) != NULL) {
        enum shoal_status st = is_open ? SHOAL_OK : open_model(f, m, &why);
        if (!st) {
            const struct sh_gguf_tensor *t = sh_gguf_tensor(m->g, tensor);
            *out = (struct sh_folder_blob){.data = t->data,
                                           .bytes = t->data_bytes,
                                           .map = sh_gguf_map(m->g, t->shard),
                                           .model = m};
            st = check_shard(m->g, t->shard, &why);
            if (!st) return SHOAL_OK;
        }
        if (st == SHOAL_ERR_NOMEM || st == SHOAL_ERR_LIMIT) {
            folder_unref(f, m); // nothing is wrong with the file
            return sh_fail(err, st, "%s", why.message);
        }
        drop(f, m, &why);
        if (out->model)
            sh_folder_blob_release(f, out);
        else
            folder_unref(f, m);
    }
    return sh_fail(err, SHOAL_ERR_NOT_FOUND, "no file below %s has that tensor", f->dir);
}

void sh_folder_blob_release(struct sh_folder *f, struct sh_folder_blob *b)
{
    struct sh_gguf *g = NULL;

    if (!b->model) return;
    sh_mutex_lock(&f->lock);
    if (--b->model->n_blobs == 0) {
        g = b->model->g;
        b->model->g = NULL;
    }
    sh_mutex_unlock(&f->lock);
    sh_gguf_close(g);
    folder_unref(f, b->model);
    *b = (struct sh_folder_blob){.model = NULL};
}

void sh_folder_stats(struct sh_folder *f, struct sh_folder_stats *out)
{
    *out = (struct sh_folder_stats){.n_models = 0};
    sh_mutex_lock(&f->lock);
    for (size_t i = 0; i < f->list.n; i++) {
        const struct sh_folder_model *m = f->list.models[i];
        out->n_models++;
        out->n_hashed += m->entries != NULL;
        out->n_failed += m->failed;
        if (m->entries)
            out->n_tensors += m->n_tensors;
        else if (!m->failed)
            out->bytes_waiting += m->bytes;
    }
    sh_mutex_unlock(&f->lock);
}

/* ---- opening --------------------------------------------------------------------------------*/

enum shoal_status sh_folder_open(struct sh_folder **out, const struct sh_folder_options *opt,
                                 struct shoal_error *err)
{
    struct sh_folder *f = sh_calloc(1, sizeof *f);
    enum shoal_status st = SHOAL_OK;

    *out = NULL;
    if (!f) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory to search %s", opt->dir);
    sh_mutex_init(&f->scanning);
    sh_mutex_init(&f->lock);
    sh_cond_init(&f->changed);
    f->n_threads = opt->n_threads;
    f->files_max = opt->files_max > 0 ? (size_t)opt->files_max : FILES_MAX;
    f->tensors_max = opt->tensors_max > 0 ? opt->tensors_max : TENSORS_MAX;
    f->wall = opt->wall;
    f->dir = sh_strdup(opt->dir);
    if (opt->hashes) f->hashes = sh_strdup(opt->hashes);
    if (!f->dir || (opt->hashes && !f->hashes)) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "no memory to search %s", opt->dir);
        goto done;
    }
    st = sh_folder_scan(f, err);
    if (st) goto done;
    *out = f;
    f = NULL;

done:
    sh_folder_close(f);
    return st;
}

void sh_folder_close(struct sh_folder *f)
{
    if (!f) return;
    sh_mutex_lock(&f->lock);
    f->closing = true;
    atomic_store(&f->stop, true);
    sh_cond_broadcast(&f->changed);
    sh_mutex_unlock(&f->lock);
    sh_thread_join(&f->thread);
    release_list(f, &f->list);
    sh_cond_release(&f->changed);
    sh_mutex_release(&f->lock);
    sh_mutex_release(&f->scanning);
    sh_free(f->hashes);
    sh_free(f->dir);
    sh_free(f);
}
