/* rpc/remote_session.c - a session on a worker, and the stages that are put there.
 *
 * A stage's station takes its memory here before the worker is asked, so a failure leaves nothing
 * on either side.  Rows of a stage come home until it is joined to another one, and name the stage
 * that they are of.
 */
#include "rpc/remote_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "rpc/step_wire.h"

#define CLAIMS_MAX 64
#define DROP_NS (2 * SH_SECOND)

static double mib(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

enum shoal_status sh_remote_session(struct sh_remote *r, const char *name,
                                    const struct sh_remote_claim *claims, int n, uint32_t lease_ms,
                                    struct shoal_error *err)
{
    struct sh_rpc_claim list[CLAIMS_MAX];
    char clean[97];
    struct sh_rpc_open msg = {.claims = list, .lease_ms = lease_ms};
    struct sh_rpc_opened answer;
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_ask ask = {
        .type = SH_RPC_MSG_OPEN, .msg = &msg, .answer = &answer, .arena = &arena};
    enum shoal_status st;

    if (r->has_session)
        return sh_fail(err, SHOAL_ERR_STATE, "worker %s has a session already", r->address);
    if (n < 0 || n > CLAIMS_MAX)
        return sh_fail(err, SHOAL_ERR_ARG, "%d claims on worker %s", n, r->address);
    for (int i = 0; i < n; i++) {
        list[i] = (struct sh_rpc_claim){.device = (uint32_t)claims[i].device,
                                        .weights = claims[i].weights,
                                        .cache = claims[i].cache,
                                        .scratch = claims[i].scratch,
                                        .places = claims[i].places};
    }
    msg.n_claims = (uint32_t)n;
    msg.name = sh_rpc_text_clean(clean, sizeof clean, name);
    st = sh_remote_ask_for(r, &ask, err);
    if (st == SHOAL_ERR_NOMEM && ask.need > 0) {
        st = sh_fail(err, st, "worker %s: the model needs %.1f MiB there, %.1f MiB are free",
                     r->address, mib(ask.need), mib(ask.free));
        sh_error_set_peer(err, r->address);
    }
    if (!st) {
        r->session = answer.session;
        memcpy(r->secret, answer.secret, sizeof r->secret);
        r->lease_ms = answer.lease_ms;
        r->has_session = true;
    }
    sh_arena_release(&arena);
    return st;
}

/* ---- a stage as a message -------------------------------------------------------------------*/

struct put { /* what a STAGE_PUT points to */
    struct sh_rpc_stage_put msg;
    struct sh_arena arena;
    struct sh_rpc_weight *weights;
    uint8_t *graph, *rotate;
};

static void put_release(struct put *p)
{
    sh_arena_release(&p->arena);
    sh_free(p->weights);
    sh_free(p->graph);
    sh_free(p->rotate);
}

static enum shoal_status encode_graph(uint8_t **out, struct sh_rpc_bytes *bytes,
                                      const struct sh_graph *g, struct shoal_error *err)
{
    struct sh_writer w;
    size_t n;
    enum shoal_status st = sh_graph_wire_bytes(&n, g, err);

    if (st) return st;
    *out = sh_malloc(n);
    if (!*out) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a graph of %zu bytes", n);
    w = sh_writer_over(*out, n);
    st = sh_graph_wire_put(&w, g, err);
    *bytes = (struct sh_rpc_bytes){.ptr = *out, .n = (uint32_t)w.pos};
    return st;
}

static enum shoal_status put_fill(struct put *p, const struct sh_remote_stage_desc *d,
                                  struct shoal_error *err)
{
    enum shoal_status st;

    p->msg = (struct sh_rpc_stage_put){.device = (uint32_t)d->device,
                                       .index = (uint32_t)d->index,
                                       .first = d->first,
                                       .last = d->last,
                                       .n_slots = (uint32_t)d->n_slots,
                                       .n_shards = 1};
    st = sh_step_wire_limits_from(&d->limits, d->groups, d->n_groups, &p->arena, &p->msg, err);
    if (st) return st;
    p->weights = sh_calloc(d->n_weights ? d->n_weights : 1, sizeof *p->weights);
    if (!p->weights || d->n_weights > UINT32_MAX) {
        return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the names of %zu weights",
                       d->n_weights);
    }
    for (size_t i = 0; i < d->n_weights; i++)
        sh_step_wire_weight_from(d->weights[i].name, &d->weights[i].weight, &p->weights[i]);
    p->msg.weights = p->weights;
    p->msg.n_weights = (uint32_t)d->n_weights;
    st = encode_graph(&p->graph, &p->msg.graph, d->graph, err);
    if (!st && d->rotate && d->rotate->n_nodes > 0)
        st = encode_graph(&p->rotate, &p->msg.rotate, d->rotate, err);
    return st;
}

/* ---- on the worker --------------------------------------------------------------------------*/

static enum shoal_status put_on_worker(struct sh_remote *r, const struct put *p,
                                       struct sh_rpc_stage_ready *ready, struct shoal_error *err)
{
    struct sh_arena arena = SH_ARENA_INIT;
    enum shoal_status st = sh_remote_ask(r, SH_RPC_MSG_STAGE_PUT, &p->msg, ready, &arena, err);

    sh_arena_release(&arena);
    if (!st && ready->stage.generation == 0) {
        st = sh_fail(err, SHOAL_ERR_FORMAT, "worker %s gives stage %u no handle", r->address,
                     (unsigned)p->msg.index);
    }
    return st;
}

enum shoal_status sh_remote_route_home(struct sh_remote_station *s, enum sh_rpc_format format,
                                       struct shoal_error *err)
{
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_routed answer;
    struct sh_rpc_route msg = {.stage = s->handle, .format = (uint8_t)format};
    enum shoal_status st;

    sh_mutex_lock(&s->lock);
    msg.from = s->next;
    sh_mutex_unlock(&s->lock);
    st = sh_remote_ask(s->r, SH_RPC_MSG_ROUTE, &msg, &answer, &arena, err);
    sh_arena_release(&arena);
    return st;
}

void sh_remote_stage_drop(struct sh_remote_station *s)
{
    const struct sh_rpc_stage_drop msg = {.stage = s->handle};
    struct sh_rpc_stage_dropped dropped;
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_ask ask = {.type = SH_RPC_MSG_STAGE_DROP,
                             .msg = &msg,
                             .answer = &dropped,
                             .arena = &arena,
                             .timeout_ns = DROP_NS};

    if (!sh_remote_state(s->r, NULL)) (void)!sh_remote_ask_for(s->r, &ask, NULL);
    sh_arena_release(&arena);
}

// From now on what comes for its handle finds the station.
static enum shoal_status list_station(struct sh_remote_station *s, struct shoal_error *err)
{
    struct sh_remote *r = s->r;
    enum shoal_status st;

    sh_mutex_lock(&r->lock);
    st = r->lost;
    if (st && err) *err = r->why;
    if (!st && r->n_stations == SH_REMOTE_STAGES_MAX) {
        st = sh_fail(err, SHOAL_ERR_LIMIT, "worker %s: more than %d stages", r->address,
                     SH_REMOTE_STAGES_MAX);
    }
    if (!st) {
        s->epoch = r->epoch;
        r->station[r->n_stations++] = s;
    }
    sh_mutex_unlock(&r->lock);
    return st;
}

static enum shoal_status check_desc(const struct sh_remote *r, const struct sh_remote_stage_desc *d,
                                    struct shoal_error *err)
{
    if (!r->has_session)
        return sh_fail(err, SHOAL_ERR_STATE, "worker %s has no session yet", r->address);
    if (d->device < 0 || d->device >= r->info.n_devices) {
        return sh_fail(err, SHOAL_ERR_ARG, "worker %s has no device %d", r->address, d->device);
    }
    if (d->n_slots < 1 || d->n_groups < 0 || d->n_groups > SH_GROUPS_MAX || d->width_out < 1) {
        return sh_fail(err, SHOAL_ERR_ARG, "stage %d: %d slots, %d groups, rows of %" PRId64,
                       d->index, d->n_slots, d->n_groups, d->width_out);
    }
    return SHOAL_OK;
}

enum shoal_status sh_remote_stage(struct sh_remote *r, const struct sh_remote_stage_desc *desc,
                                  struct sh_station **out, struct sh_stage_memory *memory,
                                  struct shoal_error *err)
{
    struct put put = {.arena = SH_ARENA_INIT};
    struct sh_remote_station *s = NULL;
    struct sh_rpc_stage_ready ready = {.weights = 0};
    enum shoal_status st = check_desc(r, desc, err);
    bool is_there = false;

    *out = NULL;
    if (!st) st = put_fill(&put, desc, err);
    if (!st) st = sh_remote_station_create(&s, r, desc, err);
    sh_remote_data_rest(r->data); // all weights of the stage are there
    if (!st) st = put_on_worker(r, &put, &ready, err);
    if (st) goto done;
    is_there = true;
    s->handle = ready.stage;
    st = list_station(s, err);
    if (st) goto done;
    if (memory) {
        *memory = (struct sh_stage_memory){.weights = (size_t)ready.weights,
                                           .cache = (size_t)ready.cache,
                                           .scratch = (size_t)ready.scratch};
    }
    *out = (struct sh_station *)(void *)s;
    s = NULL;

done:
    if (s && is_there) sh_remote_stage_drop(s);
    sh_remote_station_destroy(s);
    put_release(&put);
    return st;
}

enum shoal_status sh_remote_format(struct sh_station *from, enum sh_rpc_format format,
                                   struct shoal_error *err)
{
    struct sh_remote_station *s = sh_remote_station_of(from);

    if (!s || s->last || s->joined)
        return sh_fail(err, SHOAL_ERR_ARG, "the rows of this stage do not come to the host");
    return sh_remote_route_home(s, format, err);
}
