/* host/host.c - see host/host.h. */
#include "host/host.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "cpu/device.h"
#include "engine/vocab_file.h"
#include "ggmlrpc/device.h"
#include "host/pipeline.h"
#include "host/plan.h"
#include "stage/runner.h"

enum { ROWS_DEFAULT = 512, WANTED_MAX = 64, STATES = 16 };
#define LOGITS_BYTES_MAX ((size_t)64 << 20) /* kept logits of one step */

struct member { /* a device, whether or not it got layers */
    struct sh_device *device;
    struct sh_device_info info;
    char name[96];
    bool remote;
};

struct sh_host {
    struct sh_gguf *file;
    struct sh_model *model;
    struct sh_vocab *vocab;
    struct sh_model_info info;
    int64_t n_ctx;
    struct sh_build_limits limits;
    struct member member[SH_HOST_DEVICES_MAX];
    int n_members, n_servers;
    struct sh_plan plan;
    struct sh_pipeline *pipeline;
};

/* ---- opening: file, devices, plan ----------------------------------------------------------- */

static enum shoal_status open_model(struct sh_host *h, const char *path, struct shoal_error *err)
{
    enum shoal_status st = sh_gguf_open(&h->file, path, err);

    if (!st) st = sh_model_open(&h->model, h->file, err);
    if (st) return st;
    sh_model_info(h->model, &h->info);
    st = sh_vocab_from_file(&h->vocab, h->file, h->info.n_vocab, err);
    if (!st && sh_gguf_faulted(h->file)) {
        st = sh_fail(err, SHOAL_ERR_IO, "%s lost bytes while it was read: did it shrink?", path);
    }
    return st;
}

static void set_limits(struct sh_host *h, const struct sh_host_options *o)
{
    struct sh_build_limits *l = &h->limits;
    const int64_t fits = (int64_t)(LOGITS_BYTES_MAX / sizeof(float) / (size_t)h->info.n_vocab);

    h->n_ctx = o->n_ctx > 0 && o->n_ctx < h->info.n_ctx_train ? o->n_ctx : h->info.n_ctx_train;
    l->n_ctx = h->n_ctx;
    l->rows_max = o->rows_max > 0 ? o->rows_max : ROWS_DEFAULT;
    if (l->rows_max > h->n_ctx) l->rows_max = h->n_ctx;
    l->wanted_max = fits < 1 ? 1 : fits < WANTED_MAX ? fits : WANTED_MAX;
    if (l->wanted_max > l->rows_max) l->wanted_max = l->rows_max;
    l->n_seqs = 1;
    l->n_positions = (h->n_ctx + SH_PAGE - 1) / SH_PAGE * SH_PAGE;
    l->cache_type = o->cache_f32 ? SH_DTYPE_F32 : SH_DTYPE_F16;
    for (int g = 0; g < h->info.n_groups; g++) {
        l->pages[g] =
            h->info.groups[g].kind == SH_MODEL_GROUP_STATE ? STATES : l->n_positions / SH_PAGE;
    }
}

static enum shoal_status open_server(struct sh_host *h, const char *address,
                                     const struct sh_host_options *o, struct shoal_error *err)
{
    const struct sh_ggmlrpc_options opt = {
        .exact = true,
        .cache = o->cache,
        .ask_above = o->ask_above,
        .step_ns = o->step_timeout_ms > 0 ? o->step_timeout_ms * SH_MS : 0};
    struct member *m = &h->member[h->n_members];
    enum shoal_status st;

    st = sh_ggmlrpc_device_open(&m->device, address, &opt, err);
    if (st) return st;
    h->n_members++;
    h->n_servers++;
    m->remote = true;
    snprintf(m->name, sizeof m->name, "%s", address);
    return sh_device_info(m->device, &m->info, err);
}

static enum shoal_status open_local(struct sh_host *h, const struct sh_host_options *o,
                                    struct shoal_error *err)
{
    const int n = o->n_threads > 0 ? o->n_threads : sh_cpu_count();
    const struct sh_cpu_options opt = {.n_threads = n};
    struct member *m = &h->member[h->n_members];
    enum shoal_status st;

    st = sh_cpu_device_open(&m->device, &opt, err);
    if (st) return st;
    h->n_members++;
    snprintf(m->name, sizeof m->name, "CPU (%d thread%s)", n, n == 1 ? "" : "s");
    return sh_device_info(m->device, &m->info, err);
}

static enum shoal_status open_devices(struct sh_host *h, const struct sh_host_options *o,
                                      struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    if (o->n_servers >= SH_HOST_DEVICES_MAX) {
        return sh_fail(err, SHOAL_ERR_ARG, "%d servers are given, at most %d are possible",
                       o->n_servers, SH_HOST_DEVICES_MAX - 1);
    }
    for (int i = 0; i < o->n_servers && !st; i++)
        st = open_server(h, o->servers[i], o, err);
    // The local device comes last: logits then never cross the network.
    if (!st && (o->n_servers == 0 || o->with_local)) st = open_local(h, o, err);
    return st;
}

static enum shoal_status make_plan(struct sh_host *h, const struct sh_host_options *o,
                                   struct shoal_error *err)
{
    struct sh_split_device d[SH_HOST_DEVICES_MAX];

    for (int i = 0; i < h->n_members; i++) {
        d[i].name = h->member[i].name;
        d[i].free_bytes = h->member[i].info.memory_free;
    }
    return sh_plan_make(&h->plan, h->model, &h->limits, d, h->n_members, o->layers,
                        o->n_layers_given, err);
}

/* ---- loading: one thread per stage, progress from the caller's ------------------------------ */

struct watch { /* what threads that load and the one that waits for them share */
    struct sh_mutex lock;
    struct sh_cond finished; /* a thread has */
    atomic_bool stop;
};

struct load {
    struct sh_host *h;
    const struct sh_placed *placed;
    int n_slots;
    struct sh_thread thread;
    struct sh_stage *stage;
    enum shoal_status status;
    struct shoal_error error;
    atomic_ullong done;
    bool finished; /* under the lock of: */
    struct watch *watch;
};

static enum shoal_status find_weight(void *self, const char *name, struct sh_weight *out,
                                     struct shoal_error *err)
{
    const struct load *l = self;
    const struct sh_gguf_tensor *t = sh_gguf_find_tensor(l->h->file, sh_str_from(name));

    if (!t) return sh_fail(err, SHOAL_ERR_FORMAT, "model: tensor %s is missing", name);
    *out = (struct sh_weight){.dtype = t->dtype,
                              .data = t->data,
                              .bytes = t->data_bytes,
                              .map = sh_gguf_map(l->h->file, t->shard)};
    memcpy(out->ne, t->ne, sizeof out->ne);
    return SHOAL_OK;
}

static void count_progress(void *self, size_t done, size_t total)
{
    struct load *l = self;

    (void)total;
    atomic_store(&l->done, done);
}

static bool asked_to_stop(void *self)
{
    const struct load *l = self;

    return atomic_load(&l->watch->stop);
}

static void describe(const struct sh_host *h, const struct load *l, struct sh_stage_desc *d)
{
    const struct sh_build_limits *b = &h->limits;

    d->last = l->placed->part.head;
    d->device = h->member[l->placed->device].device;
    d->n_slots = l->n_slots;
    d->n_groups = h->info.n_groups;
    d->limits = (struct sh_step_limits){.n_seqs = (int32_t)b->n_seqs,
                                        .n_groups = h->info.n_groups,
                                        .n_positions = b->n_positions,
                                        .rows_max = b->rows_max,
                                        .wanted_max = b->wanted_max,
                                        .n_states = STATES};
    for (int g = 0; g < h->info.n_groups; g++) {
        static const enum sh_group_kind KIND[] = {SH_GROUP_FULL, SH_GROUP_WINDOW, SH_GROUP_STATE};
        d->groups[g].kind = KIND[h->info.groups[g].kind];
        d->groups[g].window = h->info.groups[g].window;
        d->limits.pages[g] = b->pages[g];
    }
}

static void *load_stage(void *arg)
{
    struct load *l = arg;
    const struct sh_host *h = l->h;
    const struct sh_weight_source source = {
        .find = find_weight, .progress = count_progress, .stop = asked_to_stop, .self = l};
    struct sh_graph graph = {0}, rotate = {0};
    struct sh_stage_desc d = {.graph = &graph, .rotate = h->info.can_shift ? &rotate : NULL};
    enum shoal_status st;

    describe(h, l, &d);
    st = sh_model_build(h->model, &l->placed->part, &h->limits, &graph, &l->error);
    if (!st && d.rotate)
        st = sh_model_build_rotate(h->model, &l->placed->part, &h->limits, &rotate, &l->error);
    if (!st) st = sh_stage_create(&l->stage, &d, &source, &l->error);
    sh_graph_release(&graph);
    sh_graph_release(&rotate);
    l->status = st;
    sh_mutex_lock(&l->watch->lock);
    l->finished = true;
    sh_cond_signal(&l->watch->finished);
    sh_mutex_unlock(&l->watch->lock);
    return NULL;
}

static bool all_finished(const struct load *l, int n)
{
    for (int i = 0; i < n; i++)
        if (!l[i].finished) return false;
    return true;
}

// The weights that must move: a device that shares our memory maps the file instead.
static uint64_t bytes_to_move(const struct sh_host *h)
{
    uint64_t sum = 0;

    for (int i = 0; i < h->plan.n; i++)
        if (h->member[h->plan.placed[i].device].remote) sum += h->plan.placed[i].weight_bytes;
    return sum;
}

static void watch_loading(struct sh_host *h, const struct sh_host_options *o, struct load *l, int n,
                          struct watch *w)
{
    const uint64_t total = bytes_to_move(h);

    sh_mutex_lock(&w->lock);
    while (!all_finished(l, n)) {
        uint64_t done = 0;
        (void)sh_cond_wait(&w->finished, &w->lock, 20 * SH_MS);
        sh_mutex_unlock(&w->lock); // whoever is told may take long
        for (int i = 0; i < n; i++)
            done += atomic_load(&l[i].done);
        if (o->progress) o->progress(o->self, done, total);
        if (o->stop && o->stop(o->self)) atomic_store(&w->stop, true);
        sh_mutex_lock(&w->lock);
    }
    sh_mutex_unlock(&w->lock);
}

static enum shoal_status load_all(struct sh_host *h, const struct sh_host_options *o,
                                  struct load *l, struct shoal_error *err)
{
    const int n = h->plan.n;
    enum shoal_status st = SHOAL_OK;
    struct watch watch = {.stop = false};
    int started = 0;

    sh_mutex_init(&watch.lock);
    sh_cond_init(&watch.finished);
    for (; started < n && !st; started++) {
        l[started].h = h;
        l[started].placed = &h->plan.placed[started];
        l[started].n_slots = n + 1;
        l[started].watch = &watch;
        st = sh_thread_start(&l[started].thread, "load", load_stage, &l[started], err);
    }
    if (st) started--;
    if (st) atomic_store(&watch.stop, true);
    watch_loading(h, o, l, started, &watch);
    for (int i = 0; i < started; i++) {
        sh_thread_join(&l[i].thread);
        // The first real failure counts, not the stops that it caused.
        if (l[i].status && (!st || st == SHOAL_ERR_CANCELLED)) {
            st = l[i].status;
            if (err) *err = l[i].error;
        }
    }
    if (!st && o->progress) o->progress(o->self, bytes_to_move(h), bytes_to_move(h));
    sh_cond_release(&watch.finished);
    sh_mutex_release(&watch.lock);
    return st;
}

// The station of stage `i`, which moves into it.
static enum shoal_status make_station(struct sh_host *h, int i, struct load *l,
                                      const struct sh_stage_desc *d, struct shoal_error *err)
{
    const struct sh_runner_options o = {.stage = l->stage,
                                        .index = i,
                                        .first = i == 0,
                                        .width_in = h->info.width,
                                        .n_slots = l->n_slots,
                                        .limits = d->limits,
                                        .sink = sh_pipeline_sink(h->pipeline, i)};
    struct sh_station *s;
    enum shoal_status st;

    l->stage = NULL;
    st = sh_runner_create(&s, &o, err);
    if (!st) sh_pipeline_take(h->pipeline, i, s);
    return st;
}

static enum shoal_status make_pipeline(struct sh_host *h, struct load *l, struct shoal_error *err)
{
    struct sh_stage_desc d = {0};
    struct sh_pipeline_info info;
    enum shoal_status st;

    describe(h, &l[0], &d);
    info = (struct sh_pipeline_info){.n_vocab = (int32_t)h->info.n_vocab,
                                     .width = h->info.width,
                                     .limits = d.limits,
                                     .n_groups = d.n_groups,
                                     .in_flight_max = h->plan.n + 1};
    memcpy(info.groups, d.groups, sizeof info.groups);
    // Devices have time limits of their own.
    st = sh_pipeline_create(&h->pipeline, h->plan.n, &info, SH_NO_DEADLINE, err);
    for (int i = 0; i < h->plan.n && !st; i++)
        st = make_station(h, i, &l[i], &d, err);
    if (!st) st = sh_pipeline_start(h->pipeline, err);
    return st;
}

enum shoal_status sh_host_open(struct sh_host **out, const struct sh_host_options *o,
                               struct shoal_error *err)
{
    struct load *loads = NULL;
    struct sh_host *h;
    enum shoal_status st;

    *out = NULL;
    h = sh_calloc(1, sizeof *h);
    loads = sh_calloc(SH_HOST_DEVICES_MAX, sizeof *loads);
    if (!h || !loads) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "host: no memory to open %s", o->model_path);
        goto done;
    }
    st = open_model(h, o->model_path, err);
    if (st) goto done;
    set_limits(h, o);
    st = open_devices(h, o, err);
    if (!st) st = make_plan(h, o, err);
    if (!st) st = load_all(h, o, loads, err);
    if (!st && sh_gguf_faulted(h->file)) {
        st = sh_fail(err, SHOAL_ERR_IO, "%s lost bytes while it was loaded: did it shrink?",
                     o->model_path);
    }
    if (!st) st = make_pipeline(h, loads, err);
    if (st) goto done;
    *out = h;
    h = NULL;

done:
    for (int i = 0; i < SH_HOST_DEVICES_MAX && loads; i++)
        sh_stage_destroy(loads[i].stage);
    sh_free(loads);
    sh_host_close(h);
    return st;
}

void sh_host_close(struct sh_host *h)
{
    if (!h) return;
    if (h->pipeline) sh_pipeline_ops(h->pipeline)->close(h->pipeline);
    for (int i = 0; i < h->n_members; i++)
        sh_device_close(h->member[i].device);
    sh_vocab_destroy(h->vocab);
    sh_model_close(h->model);
    sh_gguf_close(h->file);
    sh_free(h);
}

/* ---- what was decided ----------------------------------------------------------------------- */

const struct sh_gguf *sh_host_file(const struct sh_host *h)
{
    return h->file;
}

const struct sh_vocab *sh_host_vocab(const struct sh_host *h)
{
    return h->vocab;
}

struct sh_pipeline *sh_host_pipeline(struct sh_host *h)
{
    return h->pipeline;
}

void sh_host_model_info(const struct sh_host *h, struct sh_model_info *out)
{
    *out = h->info;
}

int64_t sh_host_n_ctx(const struct sh_host *h)
{
    return h->n_ctx;
}

int sh_host_n_devices(const struct sh_host *h)
{
    return h->plan.n;
}

void sh_host_device(const struct sh_host *h, int i, struct sh_host_device *out)
{
    const struct sh_placed *p = &h->plan.placed[i];
    const struct member *m = &h->member[p->device];

    *out = (struct sh_host_device){.layer_first = p->part.layer_begin,
                                   .layer_last = p->part.layer_end - 1,
                                   .embed = p->part.embed,
                                   .head = p->part.head,
                                   .weight_bytes = p->weight_bytes,
                                   .kv_bytes = p->cache_bytes,
                                   .memory_free = m->info.memory_free,
                                   .remote = m->remote,
                                   .exact = m->info.exact};
    snprintf(out->device, sizeof out->device, "%s", m->name);
}

int sh_host_n_servers(const struct sh_host *h)
{
    return h->n_servers;
}

void sh_host_network(const struct sh_host *h, int i, struct sh_host_network *out)
{
    struct sh_device_traffic t;

    sh_device_traffic(h->member[i].device, &t);
    *out = (struct sh_host_network){.bytes_sent = t.bytes_sent,
                                    .bytes_received = t.bytes_received,
                                    .round_trips = t.round_trips,
                                    .graphs_sent = t.graphs_sent};
    snprintf(out->address, sizeof out->address, "%.*s", (int)sizeof out->address - 1,
             h->member[i].name);
}

void sh_host_cancel(struct sh_host *h)
{
    sh_pipeline_ops(h->pipeline)->cancel(h->pipeline);
}
