/* rpc/hosted_make.c - from STAGE_PUT to a stage that runs, within what its session set aside. */
#include "rpc/hosted_priv.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fnv.h"
#include "base/mem.h"
#include "rpc/claim.h"
#include "rpc/rows.h"
#include "rpc/step_wire.h"

/* ---- weights by name ------------------------------------------------------------------------*/

struct named {
    const char *name; /* in the arena */
    const struct sh_rpc_weight *entry;
};

struct source {
    struct sh_hosted_options *opt;
    struct sh_arena arena;
    struct named *list; /* by name */
    size_t n;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

static enum shoal_status list_weights(struct source *src, struct shoal_error *err)
{
    const struct sh_rpc_stage_put *put = src->opt->put;

    src->n = put->n_weights;
    src->list = sh_arena_calloc(&src->arena, src->n + 1, sizeof *src->list);
    if (!src->list) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for %zu weights", src->n);
    for (size_t i = 0; i < src->n; i++) {
        const struct sh_rpc_text *name = &put->weights[i].name;
        src->list[i].entry = &put->weights[i];
        src->list[i].name = sh_arena_strndup(&src->arena, name->ptr, name->n);
        if (!src->list[i].name)
            return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for %zu weights", src->n);
    }
    qsort(src->list, src->n, sizeof *src->list, by_name);
    for (size_t i = 1; i < src->n; i++) {
        if (strcmp(src->list[i - 1].name, src->list[i].name) != 0) continue;
        return sh_fail(err, SHOAL_ERR_FORMAT, "weight %s is listed twice", src->list[i].name);
    }
    return SHOAL_OK;
}

static enum shoal_status find_weight(void *self, const char *name, struct sh_weight *out,
                                     struct shoal_error *err)
{
    struct source *src = self;
    const struct named key = {.name = name};
    const struct named *found = bsearch(&key, src->list, src->n, sizeof key, by_name);
    struct sh_blob *blob;
    enum shoal_status st;

    if (!found) return sh_fail(err, SHOAL_ERR_FORMAT, "weight %s is not in the list", name);
    st = sh_step_wire_weight_to(found->entry, &src->arena, &name, out, err);
    if (!st) st = sh_session_weights_want(src->opt->session->weights, found->entry, &blob, err);
    if (st) return st;
    if (!sh_blob_whole(blob)) {
        return sh_fail(err, SHOAL_ERR_STATE, "weight %s is not here yet", name);
    }
    out->data = sh_blob_data(blob, &out->bytes, &out->map);
    return SHOAL_OK;
}

static void tell_progress(void *self, size_t done, size_t total)
{
    const struct source *src = self;

    if (src->opt->progress) src->opt->progress(src->opt->self, done, total);
}

static bool asked_to_stop(void *self)
{
    const struct source *src = self;

    return src->opt->stop && src->opt->stop(src->opt->self);
}

/* ---- the graph and its limits ---------------------------------------------------------------*/

struct making {
    struct sh_hosted_options *opt;
    struct sh_hosted *h;
    struct sh_graph graph, rotate;
    struct sh_stage_desc desc;
    struct sh_rpc_claim claim;
    struct sh_stage *stage;
};

static enum shoal_status read_put(struct making *k, struct shoal_error *err)
{
    const struct sh_rpc_stage_put *m = k->opt->put;
    struct sh_stage_desc *d = &k->desc;
    enum shoal_status st;

    if (m->index >= SH_STATION_TIMINGS_MAX || m->first > 1 || m->last > 1 || m->n_slots == 0 ||
        m->n_slots > SH_SESSION_SLOTS_MAX) {
        return sh_fail(err, SHOAL_ERR_FORMAT,
                       "a stage of index %u (first %u, last %u) with %u steps in flight",
                       (unsigned)m->index, (unsigned)m->first, (unsigned)m->last,
                       (unsigned)m->n_slots);
    }
    if (m->n_shards != 1 || m->rank != 0) {
        return sh_fail(err, SHOAL_ERR_UNSUPPORTED, "stages in shards are not supported here");
    }
    d->device = k->opt->device;
    d->last = m->last != 0;
    d->n_slots = (int)m->n_slots;
    st = sh_step_wire_limits_to(m, &d->limits, d->groups, &d->n_groups, err);
    if (!st) st = sh_graph_wire_get(&k->graph, m->graph.ptr, m->graph.n, k->opt->ops, err);
    if (!st && m->rotate.n > 0)
        st = sh_graph_wire_get(&k->rotate, m->rotate.ptr, m->rotate.n, k->opt->ops, err);
    return st;
}

/* Count what the stage will take, and take it. */
static enum shoal_status take_claim(struct making *k, struct shoal_error *err)
{
    struct sh_hosted *h = k->h;
    const struct sh_rpc_claim_of of = {.graph = &k->graph,
                                       .rotate = &k->rotate,
                                       .limits = &k->desc.limits,
                                       .n_slots = k->desc.n_slots,
                                       .first = h->first,
                                       .last = h->last};
    struct sh_rpc_claim_of counted = of;
    struct sh_device_info info;
    uint64_t bytes, left;
    size_t n = 0;
    enum shoal_status st = sh_device_info(k->opt->device, &info, err);

    counted.kind = info.kind;
    if (!st) st = sh_rpc_claim_count(&k->claim, &counted, err);
    if (st) return st;
    if (!sh_add_ok((size_t)k->claim.cache, (size_t)k->claim.scratch, &n) ||
        !sh_add_ok(n, (size_t)k->claim.places, &n)) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "the size of a stage overflows");
    }
    bytes = n;
    if (!sh_session_reserve(k->opt->session, bytes, &left)) {
        k->opt->need = bytes;
        k->opt->left = left;
        return sh_fail(err, SHOAL_ERR_NOMEM,
                       "stage %u needs %" PRIu64 " bytes (KV memory %" PRIu64 ", scratch %" PRIu64
                       ", places %" PRIu64 "), %" PRIu64 " of the session's are free",
                       (unsigned)h->index, bytes, k->claim.cache, k->claim.scratch, k->claim.places,
                       left);
    }
    h->bytes = bytes;
    h->width_in = sh_rpc_claim_width_in(&k->graph, h->first);
    h->width_out = sh_rpc_claim_width_out(&k->graph);
    h->rows_max = k->desc.limits.rows_max;
    return SHOAL_OK;
}

static enum shoal_status make_stage(struct making *k, struct shoal_error *err)
{
    struct source src = {.opt = k->opt, .arena = SH_ARENA_INIT};
    const struct sh_weight_source weights = {
        .find = find_weight, .progress = tell_progress, .stop = asked_to_stop, .self = &src};
    enum shoal_status st = list_weights(&src, err);

    k->desc.graph = &k->graph;
    k->desc.rotate = k->rotate.n_nodes > 0 ? &k->rotate : NULL;
    if (!st) st = sh_stage_create(&k->stage, &k->desc, &weights, err);
    if (!st && asked_to_stop(&src)) {
        sh_stage_destroy(k->stage);
        k->stage = NULL;
        st = sh_fail(err, SHOAL_ERR_CANCELLED, "loading was stopped");
    }
    sh_arena_release(&src.arena);
    return st;
}

/* Room for pieces of f32 rows, or of logits. */
static enum shoal_status make_places(struct sh_hosted *h, struct shoal_error *err)
{
    const size_t rows = h->last ? 1 : (size_t)h->rows_max;
    size_t bytes;

    h->arrival = sh_calloc((size_t)h->n_slots, sizeof *h->arrival);
    h->kept = sh_calloc((size_t)h->n_slots, sizeof *h->kept);
    if (!h->last && sh_rpc_row_bytes(SH_RPC_ROWS_F32, h->width_out) == 0) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "rows of %" PRId64 " values are too long",
                       h->width_out);
    }
    if (!sh_mul_ok(rows, (size_t)h->width_out * sizeof(float), &bytes) || bytes > SH_RPC_CHUNK_MAX)
        bytes = SH_RPC_CHUNK_MAX;
    h->encoded = sh_malloc(bytes);
    h->encoded_bytes = bytes;
    if (!h->arrival || !h->kept || !h->encoded) {
        return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for %d steps in flight", h->n_slots);
    }
    for (int i = 0; i < h->n_slots; i++)
        h->arrival[i].number = UINT64_MAX;
    return SHOAL_OK;
}

static enum shoal_status start(struct making *k, struct shoal_error *err)
{
    struct sh_hosted *h = k->h;
    const struct sh_runner_options opt = {
        .stage = k->stage,
        .index = (int)h->index,
        .first = h->first,
        .width_in = h->width_in,
        .n_slots = h->n_slots,
        .limits = k->desc.limits,
        .sink = {.output = sh_hosted_output, .lost = sh_hosted_lost, .self = h}};

    k->stage = NULL; // taken over
    return sh_runner_create(&h->station, &opt, err);
}

/* ---- making and ending ----------------------------------------------------------------------*/

enum shoal_status sh_hosted_create(struct sh_hosted **out, struct sh_hosted_options *opt,
                                   struct sh_rpc_stage_ready *ready, struct shoal_error *err)
{
    struct making k = {.opt = opt};
    struct sh_stage_memory memory = {0};
    struct sh_hosted *h = sh_calloc(1, sizeof *h);
    enum shoal_status st;

    *out = NULL;
    if (!h) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a stage");
    k.h = h;
    h->session = opt->session;
    h->handle = opt->handle;
    h->route.reader = h->handle;
    h->index = opt->put->index;
    h->first = opt->put->first != 0;
    h->last = opt->put->last != 0;
    h->n_slots = (int)opt->put->n_slots;
    h->epoch = h->out_epoch = opt->epoch;
    h->hash = SH_FNV_START;
    sh_mutex_init(&h->in);
    sh_cond_init(&h->changed);
    sh_mutex_init(&h->out);
    st = read_put(&k, err);
    if (!st) st = take_claim(&k, err);
    if (!st) st = make_places(h, err);
    if (!st) st = make_stage(&k, err);
    if (!st) {
        sh_stage_memory(k.stage, &memory);
        st = start(&k, err);
    }
    if (!st && opt->epoch > 0) st = sh_station_reset(h->station, opt->epoch, err);
    sh_graph_release(&k.graph);
    sh_graph_release(&k.rotate);
    if (st) {
        sh_hosted_destroy(h);
        return st;
    }
    *ready = (struct sh_rpc_stage_ready){.stage = h->handle,
                                         .weights = memory.weights,
                                         .cache = memory.cache,
                                         .scratch = k.claim.scratch};
    *out = h;
    return SHOAL_OK;
}

void sh_hosted_destroy(struct sh_hosted *h)
{
    if (!h) return;
    sh_station_close(h->station);
    sh_server_count_step(h->session->server, -(int)(h->next - h->out_next));
    sh_session_return(h->session, h->bytes);
    sh_free(h->arrival);
    sh_free(h->kept);
    sh_free(h->encoded);
    sh_arena_release(&h->arena);
    sh_arena_release(&h->results);
    sh_mutex_release(&h->out);
    sh_cond_release(&h->changed);
    sh_mutex_release(&h->in);
    sh_free(h);
}
