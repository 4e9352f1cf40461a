/* host/host.c - see host/host.h. */
#include "host/host.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "engine/vocab_file.h"
#include "host/host_priv.h"

enum { ROWS_DEFAULT = 512, WANTED_MAX = 64, STATES = 16 }; /* states: of each sequence */
#define LOGITS_BYTES_MAX ((size_t)64 << 20)                /* kept logits of one step */

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

// The same as stages are told them.
static void set_step_limits(struct sh_host *h)
{
    static const enum sh_group_kind KIND[] = {SH_GROUP_FULL, SH_GROUP_WINDOW, SH_GROUP_STATE};
    const struct sh_build_limits *b = &h->limits;

    h->step_limits = (struct sh_step_limits){.n_seqs = (int32_t)b->n_seqs,
                                             .n_groups = h->info.n_groups,
                                             .n_positions = b->n_positions,
                                             .rows_max = b->rows_max,
                                             .wanted_max = b->wanted_max,
                                             .n_states = (int32_t)(STATES * b->n_seqs)};
    for (int g = 0; g < h->info.n_groups; g++) {
        h->groups[g].kind = KIND[h->info.groups[g].kind];
        h->groups[g].window = h->info.groups[g].window;
        h->step_limits.pages[g] = b->pages[g];
    }
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
    l->n_seqs = o->n_seqs > 1 ? o->n_seqs : 1;
    l->n_positions = (h->n_ctx + SH_PAGE - 1) / SH_PAGE * SH_PAGE;
    l->cache_type = o->cache_f32 ? SH_DTYPE_F32 : SH_DTYPE_F16;
    for (int g = 0; g < h->info.n_groups; g++) {
        const int64_t of_one =
            h->info.groups[g].kind == SH_MODEL_GROUP_STATE ? STATES : l->n_positions / SH_PAGE;
        l->pages[g] = l->n_seqs * of_one;
    }
    set_step_limits(h);
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

// Hashes are made while workers are asked who they are.
static enum shoal_status start_hashes(struct sh_host *h, const struct sh_host_options *o,
                                      struct shoal_error *err)
{
    const struct sh_host_weights_options opt = {.hashes = o->hashes,
                                                .n_threads = o->n_threads > 0 ? o->n_threads : 0};

    if (o->n_workers == 0) return SHOAL_OK;
    return sh_host_weights_start(&h->weights, h->file, &opt, err);
}

enum shoal_status sh_host_open(struct sh_host **out, const struct sh_host_options *o,
                               struct shoal_error *err)
{
    struct sh_host *h = sh_calloc(1, sizeof *h);
    enum shoal_status st;

    *out = NULL;
    if (!h) return sh_fail(err, SHOAL_ERR_NOMEM, "host: no memory to open %s", o->model_path);
    st = open_model(h, o->model_path, err);
    if (st) goto done;
    set_limits(h, o);
    st = start_hashes(h, o, err);
    if (!st) st = sh_host_members_open(h, o, err);
    if (!st) st = make_plan(h, o, err);
    if (!st) st = sh_host_parts_make(h, err);
    if (!st) st = sh_host_parts_reserve(h, o, err);
    if (!st) st = sh_host_load(h, o, err);
    if (!st && sh_gguf_faulted(h->file)) {
        st = sh_fail(err, SHOAL_ERR_IO, "%s lost bytes while it was loaded: did it shrink?",
                     o->model_path);
    }
    if (st) goto done;
    sh_host_weights_destroy(h->weights);
    h->weights = NULL;
    *out = h;
    h = NULL;

done:
    sh_host_close(h);
    return st;
}

void sh_host_close(struct sh_host *h)
{
    if (!h) return;
    if (h->pipeline) sh_pipeline_ops(h->pipeline)->close(h->pipeline);
    sh_host_members_close(h);
    sh_host_parts_release(h);
    sh_host_weights_destroy(h->weights);
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
    const struct sh_host_member *m = &h->member[p->device];
    struct sh_remote_load load = {.bytes_total = 0};
    struct sh_remote_info info = {.n_devices = 0};

    if (m->worker) {
        sh_remote_loaded(m->worker, &load);
        sh_remote_info(m->worker, &info);
    }
    *out = (struct sh_host_device){.layer_first = p->part.layer_begin,
                                   .layer_last = p->part.layer_end - 1,
                                   .embed = p->part.embed,
                                   .head = p->part.head,
                                   .weight_bytes = p->weight_bytes,
                                   .kv_bytes = p->cache_bytes,
                                   .memory_free = m->info.memory_free,
                                   .remote = m->worker || m->server,
                                   .exact = m->info.exact,
                                   .worker = m->worker != NULL,
                                   .bytes_found = load.bytes_found,
                                   .bytes_sent = load.bytes_sent,
                                   .encrypted = info.encrypted};
    snprintf(out->device, sizeof out->device, "%s", m->name);
}

bool sh_host_route(const struct sh_host *h, int i, struct sh_remote_route *out)
{
    const struct sh_host_part *p = &h->part[i];

    *out = p->route;
    if (p->has_route) (void)sh_remote_route_of(p->station, out); // a link may be lost since
    return p->has_route;
}

struct sh_remote *sh_host_remote(struct sh_host *h, int i)
{
    return h->part[i].member->worker;
}

enum shoal_status sh_host_link_probe(struct sh_host *h, int i, uint32_t bytes, int count,
                                     struct sh_remote_probe *out, struct shoal_error *err)
{
    return sh_remote_link_probe(h->part[i].station, bytes, count, out, err);
}

int sh_host_n_peers(const struct sh_host *h)
{
    int n = 0;

    // The local device, if it is there, is the last.
    while (n < h->n_members && (h->member[n].worker || h->member[n].server))
        n++;
    return n;
}

void sh_host_network(const struct sh_host *h, int i, struct sh_host_network *out)
{
    const struct sh_host_member *m = &h->member[i];

    *out = (struct sh_host_network){.worker = m->worker != NULL};
    if (m->worker) {
        struct sh_rpc_traffic t;
        struct sh_remote_info info;
        sh_remote_traffic(m->worker, &t);
        sh_remote_info(m->worker, &info);
        out->bytes_sent = t.bytes_sent;
        out->bytes_received = t.bytes_received;
        out->frames_sent = t.frames_sent;
        out->frames_received = t.frames_received;
        snprintf(out->address, sizeof out->address, "%s", info.address);
    } else {
        struct sh_device_traffic t;
        sh_device_traffic(m->device, &t);
        out->bytes_sent = t.bytes_sent;
        out->bytes_received = t.bytes_received;
        out->round_trips = t.round_trips;
        out->graphs_sent = t.graphs_sent;
        snprintf(out->address, sizeof out->address, "%.*s", (int)sizeof out->address - 1, m->name);
    }
}

void sh_host_cancel(struct sh_host *h)
{
    sh_pipeline_ops(h->pipeline)->cancel(h->pipeline);
}
