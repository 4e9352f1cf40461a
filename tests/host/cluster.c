/* tests/host/cluster.c - see cluster.h. */
#include "cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/engine.h"

#define SOON_NS (60 * SH_SECOND)

/* ---- workers --------------------------------------------------------------------------------*/

static void *run_worker(void *arg)
{
    struct cluster_worker *w = arg;
    struct shoal_error err = SHOAL_ERROR_INIT;

    w->status = sh_worker_run(w->worker, &err);
    return NULL;
}

void cluster_start(struct cluster *c, int i, const struct sh_worker_options *opt)
{
    struct sh_worker_options o = {.memory = (uint64_t)512 << 20};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct cluster_worker *w = &c->w[i];

    if (opt) o = *opt;
    if (!o.memory) o.memory = (uint64_t)512 << 20;
    o.listen = "127.0.0.1:0";
    o.n_threads = 1;
    if (sh_worker_open(&w->worker, &o, &err)) fail_msg("%s", err.message);
    if (sh_thread_start(&w->thread, "worker", run_worker, w, &err)) fail_msg("%s", err.message);
    c->list[i] = (struct sh_host_worker){.address = sh_worker_listens(w->worker)};
    c->servers[i] = c->list[i].address;
}

void cluster_stop(struct cluster *c, int i)
{
    struct cluster_worker *w = &c->w[i];

    if (!w->worker) return;
    sh_worker_stop(w->worker);
    sh_thread_join(&w->thread);
    assert_int_equal(w->status, SHOAL_OK);
    sh_worker_close(w->worker);
    w->worker = NULL;
}

void cluster_open(struct cluster *c, int n, const struct sh_worker_options *opt)
{
    memset(c, 0, sizeof *c);
    snprintf(c->folder, sizeof c->folder, "%s/shoal-host-XXXXXX",
             getenv("TMPDIR") && strlen(getenv("TMPDIR")) < 40 ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(c->folder));
    for (; c->n < n; c->n++)
        cluster_start(c, c->n, opt);
}

static void await_idle(struct sh_worker *w, int i)
{
    const int64_t end = sh_now_ns(&sh_clock_system) + SOON_NS;
    struct sh_mutex lock;
    struct sh_cond never;
    struct sh_worker_stats s;

    sh_mutex_init(&lock);
    sh_cond_init(&never);
    sh_mutex_lock(&lock);
    for (sh_worker_stats(w, &s); s.rpc.n_sessions > 0 || s.memory_used > 0;) {
        if (sh_now_ns(&sh_clock_system) > end) {
            fail_msg("worker %d still has %d sessions and %zu bytes", i, s.rpc.n_sessions,
                     s.memory_used);
        }
        (void)sh_cond_wait(&never, &lock, SH_MS); // nobody tells us
        sh_worker_stats(w, &s);
    }
    sh_mutex_unlock(&lock);
    sh_cond_release(&never);
    sh_mutex_release(&lock);
}

void cluster_await_idle(struct cluster *c)
{
    for (int i = 0; i < c->n; i++)
        if (c->w[i].worker) await_idle(c->w[i].worker, i);
}

static void remove_all(const char *folder, const char *const *names, int n)
{
    char path[160];

    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        (void)remove(path);
    }
    (void)rmdir(folder);
}

void cluster_close(struct cluster *c)
{
    static const char *const names[] = {"model.gguf"};

    cluster_await_idle(c);
    for (int i = 0; i < c->n; i++)
        cluster_stop(c, i);
    remove_all(c->folder, names, 1);
}

/* ---- hosts ----------------------------------------------------------------------------------*/

void cluster_model(struct cluster *c, enum tm_kind kind, enum sh_dtype type, int n_layers)
{
    struct tm_model m;
    FILE *f;

    snprintf(c->model, sizeof c->model, "%s/model.gguf", c->folder);
    tm_make_deep(&m, kind, type, 21, n_layers);
    f = fopen(c->model, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(m.bytes.ptr, 1, m.bytes.len, f), m.bytes.len);
    assert_int_equal(fclose(f), 0);
    tm_release(&m);
}

void cluster_use(struct cluster *c, const char *path)
{
    snprintf(c->model, sizeof c->model, "%s", path);
}

struct sh_host_options cluster_options(const struct cluster *c, int n_workers)
{
    // A file that is new is not remembered, and a folder that is not there is made only for one.
    return (struct sh_host_options){.model_path = c->model,
                                    .n_workers = n_workers,
                                    .workers = c->list,
                                    .hashes = "/nonexistent/shoal",
                                    .n_threads = 1,
                                    .n_ctx = 256};
}

struct sh_host *cluster_host(const struct sh_host_options *o)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_host *h;

    if (sh_host_open(&h, o, &err)) fail_msg("%s", err.message);
    return h;
}

struct rows {
    float *logits;
    int64_t n;
};

static void take_row(void *self, int64_t index, const float *logits, int32_t n_vocab)
{
    struct rows *r = self;

    assert_int_equal(index, r->n);
    memcpy(r->logits + index * n_vocab, logits, (size_t)n_vocab * sizeof *logits);
    r->n++;
}

enum shoal_status cluster_try(struct sh_host *h, const int32_t *ids, int64_t n, int64_t chunk,
                              float *logits, struct shoal_error *err)
{
    struct rows rows = {.logits = logits};
    const struct sh_feed f = {
        .ids = ids, .n = n, .logits = logits ? take_row : NULL, .self = &rows, .chunk = chunk};
    struct sh_engine *e;
    enum shoal_status st;

    st = sh_engine_create(&e, sh_host_pipeline(h), sh_host_n_ctx(h), err);
    if (!st) st = sh_engine_feed(e, &f, NULL, err);
    if (!st && logits) assert_int_equal(rows.n, n);
    sh_engine_destroy(e);
    return st;
}

static void feed(struct sh_host *h, const int32_t *ids, int64_t chunk, float *logits)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (cluster_try(h, ids, CLUSTER_IDS, chunk, logits, &err)) fail_msg("%s", err.message);
}

void cluster_check(const struct cluster *c, const struct sh_host_options *o, int64_t chunk,
                   const char *what)
{
    const struct sh_host_options alone = cluster_options(c, 0);
    struct sh_host *h = cluster_host(&alone);
    const int32_t v = (int32_t)sh_vocab_n_tokens(sh_host_vocab(h));
    float *want = sh_calloc((size_t)(CLUSTER_IDS * v), sizeof *want);
    float *have = sh_calloc((size_t)(CLUSTER_IDS * v), sizeof *have);
    int32_t ids[CLUSTER_IDS];

    assert_non_null(want);
    assert_non_null(have);
    rig_ids(ids, CLUSTER_IDS, 9, v);
    feed(h, ids, 0, want);
    sh_host_close(h);
    h = cluster_host(o);
    feed(h, ids, chunk, have);
    rig_expect_equal(what, have, want, CLUSTER_IDS, v);
    sh_host_close(h);
    sh_free(want);
    sh_free(have);
}
