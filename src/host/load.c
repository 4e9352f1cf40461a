/* host/load.c - parts become stations: one thread per part, progress from the caller's.
 *
 *      a worker:  hashes as they become known ─> what it misses is sent ─> its stage is put
 *      a device:  weights are written or mapped ─> a stage ─> its runner
 *
 * The first failure stops the others.  Whoever waits for a worker is woken when the caller wants to
 * stop: its session is closed, which ends what it was asked.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "host/host_priv.h"
#include "stage/runner.h"

#define STEP_NS (120 * SH_SECOND) /* of a stage; as workers have it */
#define LATE_NS (10 * SH_SECOND)

struct sh_host_watch { /* what threads that load and the one that waits for them share */
    struct sh_mutex lock;
    struct sh_cond finished; /* a thread has */
    atomic_bool stop;
    int64_t step_ns; /* most computing of a step on a worker; 0: its own */
};

/* ---- a part on a device of this process -----------------------------------------------------*/

static enum shoal_status find_weight(void *self, const char *name, struct sh_weight *out,
                                     struct shoal_error *err)
{
    const struct sh_host_part *p = self;

    return sh_host_find_weight(p->h, name, out, err);
}

static void count_progress(void *self, size_t done, size_t total)
{
    struct sh_host_part *p = self;

    (void)total;
    atomic_store(&p->done, done);
}

static bool asked_to_stop(void *self)
{
    const struct sh_host_part *p = self;

    return atomic_load(&p->watch->stop);
}

static enum shoal_status load_here(struct sh_host_part *p, struct shoal_error *err)
{
    const struct sh_host *h = p->h;
    const struct sh_weight_source source = {
        .find = find_weight, .progress = count_progress, .stop = asked_to_stop, .self = p};
    struct sh_stage_desc d = {.device = p->member->device,
                              .graph = &p->graph,
                              .rotate = h->info.can_shift ? &p->rotate : NULL,
                              .last = p->placed->part.head,
                              .n_groups = h->info.n_groups,
                              .limits = h->step_limits,
                              .n_slots = p->n_slots};
    struct sh_runner_options o = {.index = p->index,
                                  .first = p->index == 0,
                                  .width_in = h->info.width,
                                  .n_slots = p->n_slots,
                                  .limits = h->step_limits,
                                  .sink = sh_pipeline_sink(h->pipeline, p->index)};
    enum shoal_status st;

    memcpy(d.groups, h->groups, sizeof d.groups);
    st = sh_stage_create(&o.stage, &d, &source, err);
    return st ? st : sh_runner_create(&p->station, &o, err);
}

/* ---- a part on a worker ---------------------------------------------------------------------*/

// Those whose hash is known go to the front, are asked for, and are sent.
static enum shoal_status send_weights(struct sh_host_part *p, struct shoal_error *err)
{
    const struct sh_host_weights *hashes = p->h->weights;
    enum shoal_status st = SHOAL_OK;

    for (size_t at = 0, n = 0; at < p->n_weights && !st; at += n) {
        st = sh_host_weights_next(p->h->weights, p->tensors + at, p->n_weights - at, &n,
                                  asked_to_stop, p, err);
        for (size_t i = 0; i < n && !st; i++) {
            const size_t tensor = p->tensors[at + i];
            struct sh_remote_weight *w = &p->weights[p->place[tensor]];
            w->weight.sha256 = sh_host_weights_hash(hashes, tensor)->bytes;
            p->batch[i] = *w;
        }
        if (!st)
            st = sh_remote_weights(p->member->worker, p->batch, n, NULL, asked_to_stop, p, err);
    }
    return st;
}

static enum shoal_status load_there(struct sh_host_part *p, struct shoal_error *err)
{
    const struct sh_host *h = p->h;
    struct sh_remote_stage_desc d = {.index = p->index,
                                     .first = p->index == 0,
                                     .last = p->placed->part.head,
                                     .graph = &p->graph,
                                     .rotate = h->info.can_shift ? &p->rotate : NULL,
                                     .n_groups = h->info.n_groups,
                                     .limits = h->step_limits,
                                     .n_slots = p->n_slots,
                                     .width_in = h->info.width,
                                     .width_out = p->width_out,
                                     .weights = p->weights,
                                     .n_weights = p->n_weights,
                                     .step_ns = p->watch->step_ns,
                                     .sink = sh_pipeline_sink(h->pipeline, p->index)};
    enum shoal_status st = send_weights(p, err);

    memcpy(d.groups, h->groups, sizeof d.groups);
    if (!st) st = sh_remote_stage(p->member->worker, &d, &p->station, NULL, err);
    return st;
}

/* ---- all at once ----------------------------------------------------------------------------*/

static void *load_part(void *arg)
{
    struct sh_host_part *p = arg;
    const enum shoal_status st =
        p->member->worker ? load_there(p, &p->error) : load_here(p, &p->error);

    p->status = st;
    if (st) atomic_store(&p->watch->stop, true);
    sh_mutex_lock(&p->watch->lock);
    p->finished = true;
    sh_cond_signal(&p->watch->finished);
    sh_mutex_unlock(&p->watch->lock);
    return NULL;
}

static bool all_finished(const struct sh_host *h, int n)
{
    for (int i = 0; i < n; i++)
        if (!h->part[i].finished) return false;
    return true;
}

// The weights that must move: a device that shares our memory maps the file instead.
static uint64_t bytes_to_move(const struct sh_host *h)
{
    uint64_t sum = 0;

    for (int i = 0; i < h->plan.n; i++) {
        const struct sh_host_part *p = &h->part[i];
        if (p->member->worker) sum += p->weight_bytes;
        if (p->member->server) sum += p->placed->weight_bytes;
    }
    return sum;
}

static void tell_progress(const struct sh_host *h, const struct sh_host_options *o)
{
    uint64_t done = 0;

    for (int i = 0; i < h->plan.n; i++) {
        const struct sh_host_part *p = &h->part[i];
        struct sh_host_progress w = {.address = p->member->name, .weight_bytes = p->weight_bytes};
        done += atomic_load(&p->done);
        if (!p->member->worker) continue;
        sh_remote_loaded(p->member->worker, &w.load);
        done += w.load.bytes_found + w.load.bytes_sent;
        if (o->worker_progress) o->worker_progress(o->self, i, h->plan.n, &w);
    }
    if (o->progress) o->progress(o->self, done, bytes_to_move(h));
}

static void give_up_workers(const struct sh_host *h)
{
    for (int i = 0; i < h->plan.n; i++)
        if (h->part[i].member->worker) sh_remote_cut(h->part[i].member->worker);
}

static bool wants_stop(const struct sh_host_options *o)
{
    return o->stop && o->stop(o->self);
}

// False: the caller wants to stop.
static bool watch_loading(const struct sh_host *h, const struct sh_host_options *o, int n,
                          struct sh_host_watch *w)
{
    bool go_on = true;

    sh_mutex_lock(&w->lock);
    while (!all_finished(h, n)) {
        (void)sh_cond_wait(&w->finished, &w->lock, 20 * SH_MS);
        sh_mutex_unlock(&w->lock); // whoever is told may take long
        tell_progress(h, o);
        if (go_on && wants_stop(o)) {
            go_on = false;
            atomic_store(&w->stop, true);
            give_up_workers(h);
        }
        sh_mutex_lock(&w->lock);
    }
    sh_mutex_unlock(&w->lock);
    return go_on;
}

static enum shoal_status stopped(struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_CANCELLED, "interrupted while the model was loaded");
}

static enum shoal_status take_failure(struct sh_host_part *p, struct shoal_error *err)
{
    const struct sh_part *part = &p->placed->part;

    if (p->status == SHOAL_ERR_CANCELLED || !p->member->worker) {
        if (err) *err = p->error;
        return p->status;
    }
    (void)sh_fail(err, p->status, "stage %d (layers %lld to %lld): %.250s", p->index,
                  (long long)part->layer_begin, (long long)part->layer_end - 1, p->error.message);
    if (err) sh_error_set_peer(err, p->error.peer);
    return p->status;
}

static enum shoal_status load_all(struct sh_host *h, const struct sh_host_options *o,
                                  struct shoal_error *err)
{
    struct sh_host_watch watch = {.stop = false, .step_ns = o->step_timeout_ms * SH_MS};
    enum shoal_status st = SHOAL_OK;
    int n = 0;

    sh_mutex_init(&watch.lock);
    sh_cond_init(&watch.finished);
    for (; n < h->plan.n && !st; n++) {
        h->part[n].watch = &watch;
        st = sh_thread_start(&h->part[n].thread, "load", load_part, &h->part[n], err);
    }
    if (st) {
        h->part[--n].finished = true;
        atomic_store(&watch.stop, true);
    }
    if (!watch_loading(h, o, n, &watch)) st = stopped(err);
    for (int i = 0; i < n; i++) {
        struct sh_host_part *p = &h->part[i];
        sh_thread_join(&p->thread);
        if (p->station) sh_pipeline_take(h->pipeline, i, p->station);
        // The first real failure counts, not the stops that it caused.
        if (p->status && (!st || (st == SHOAL_ERR_CANCELLED && p->status != st && !wants_stop(o))))
            st = take_failure(p, err);
        p->watch = NULL;
    }
    if (!st) tell_progress(h, o);
    sh_cond_release(&watch.finished);
    sh_mutex_release(&watch.lock);
    return st;
}

/* ---- links and the pipeline -----------------------------------------------------------------*/

static enum shoal_status relay(struct sh_host_part *p, const struct sh_host_options *o,
                               struct shoal_error *err)
{
    if (p->has_route) snprintf(p->route.why, sizeof p->route.why, "asked for");
    if (o->format == SH_RPC_ROWS_F32) return SHOAL_OK; // as it is
    return sh_remote_format(p->station, o->format, err);
}

// Between neighbouring workers rows go straight from one to the other where they can.
static enum shoal_status join_all(struct sh_host *h, const struct sh_host_options *o,
                                  struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    for (int i = 0; i + 1 < h->plan.n && !st; i++) {
        struct sh_host_part *p = &h->part[i];
        if (!p->member->worker) continue;
        p->has_route = h->part[i + 1].member->worker != NULL;
        if (!p->has_route || o->relay) {
            st = relay(p, o, err);
            continue;
        }
        if (wants_stop(o)) return stopped(err);
        st = sh_remote_join(p->station, h->part[i + 1].station, o->format, &p->route, err);
        if (!st && p->route.direct) sh_pipeline_join(h->pipeline, i, true);
    }
    return st;
}

// Devices, servers and workers have time limits of their own.  A worker that breaks its word is
// waited for as long as all stages could take, and then a little.
static void set_patience(struct sh_host *h, const struct sh_host_options *o)
{
    const int64_t step_ns = o->step_timeout_ms > 0 ? o->step_timeout_ms * SH_MS : STEP_NS;
    bool any = false;

    for (int i = 0; i < h->plan.n; i++) {
        sh_pipeline_name(h->pipeline, i, h->part[i].member->name);
        any = any || h->part[i].member->worker;
    }
    if (any) sh_pipeline_patience(h->pipeline, h->plan.n * step_ns + LATE_NS);
}

enum shoal_status sh_host_load(struct sh_host *h, const struct sh_host_options *o,
                               struct shoal_error *err)
{
    struct sh_pipeline_info info = {.n_vocab = (int32_t)h->info.n_vocab,
                                    .width = h->info.width,
                                    .limits = h->step_limits,
                                    .n_groups = h->info.n_groups,
                                    .in_flight_max = h->plan.n + 1};
    enum shoal_status st;

    memcpy(info.groups, h->groups, sizeof info.groups);
    st = sh_pipeline_create(&h->pipeline, h->plan.n, &info, SH_NO_DEADLINE, err);
    if (!st) st = load_all(h, o, err);
    if (!st && h->weights) st = sh_host_weights_finish(h->weights, o->stop, o->self, err);
    if (!st) st = join_all(h, o, err);
    if (!st) set_patience(h, o);
    if (!st) st = sh_pipeline_start(h->pipeline, err);
    return st;
}
