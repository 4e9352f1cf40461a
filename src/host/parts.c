/* host/parts.c - what each device is to run: the graphs of its layers, the stored tensors that
 * these name, and the memory that a worker sets aside for them.
 *
 * All sessions are opened before anything is sent, so what does not fit is refused at once, and
 * nobody has begun to load.
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "host/host_priv.h"
#include "rpc/claim.h"

enum shoal_status sh_host_find_weight(const struct sh_host *h, const char *name,
                                      struct sh_weight *out, struct shoal_error *err)
{
    const struct sh_gguf_tensor *t = sh_gguf_find_tensor(h->file, sh_str_from(name));

    if (!t) return sh_fail(err, SHOAL_ERR_FORMAT, "model: tensor %s is missing", name);
    *out = (struct sh_weight){.dtype = t->dtype,
                              .data = t->data,
                              .bytes = t->data_bytes,
                              .map = sh_gguf_map(h->file, t->shard)};
    memcpy(out->ne, t->ne, sizeof out->ne);
    return SHOAL_OK;
}

/* ---- the stored tensors that a graph names --------------------------------------------------*/

struct naming { /* the list grows as leaves are met; a tensor is in it once */
    struct sh_host_part *p;
    size_t cap;
    bool *seen; /* by number in the file */
};

static enum shoal_status name_one(struct naming *n, const char *name, struct shoal_error *err)
{
    struct sh_host_part *p = n->p;
    const struct sh_gguf *file = p->h->file;
    struct sh_weight w;
    enum shoal_status st = sh_host_find_weight(p->h, name, &w, err);
    const struct sh_gguf_tensor *t;
    char *copy;
    size_t i;

    if (st) return st;
    t = sh_gguf_find_tensor(file, sh_str_from(name));
    i = (size_t)(t - sh_gguf_tensor(file, 0));
    if (n->seen[i]) return SHOAL_OK;
    n->seen[i] = true;
    SH_ASSERT(p->n_weights < n->cap);
    copy = sh_arena_strndup(&p->names, name, strlen(name));
    if (!copy) return sh_fail(err, SHOAL_ERR_NOMEM, "host: no memory for the names of weights");
    p->tensors[p->n_weights] = i;
    p->place[i] = p->n_weights;
    p->weights[p->n_weights++] = (struct sh_remote_weight){.name = copy, .weight = w};
    p->weight_bytes += w.bytes;
    return SHOAL_OK;
}

// A leaf names one tensor, or a stack of them with a number in the place of '#'.
static enum shoal_status name_leaf(struct naming *n, const char *name, int32_t stack,
                                   struct shoal_error *err)
{
    const char *hash = stack > 0 ? strchr(name, '#') : NULL;
    enum shoal_status st = SHOAL_OK;
    char one[160];

    if (!hash) return name_one(n, name, err);
    for (int32_t i = 0; i < stack && !st; i++) {
        snprintf(one, sizeof one, "%.*s%d%s", (int)(hash - name), name, (int)i, hash + 1);
        st = name_one(n, one, err);
    }
    return st;
}

static enum shoal_status name_leaves(struct naming *n, const struct sh_graph *g,
                                     struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    for (int32_t i = 0; i < g->n_tensors && !st; i++) {
        const struct sh_tensor *t = &g->tensors[i];
        if (t->leaf < 0 || g->leaves[t->leaf].kind != SH_LEAF_WEIGHT) continue;
        st = name_leaf(n, t->name, g->leaves[t->leaf].stack, err);
    }
    return st;
}

static enum shoal_status list_weights(struct sh_host_part *p, struct shoal_error *err)
{
    const size_t n_tensors = sh_gguf_n_tensors(p->h->file);
    struct naming n = {.p = p, .cap = n_tensors};
    enum shoal_status st;

    p->weights = sh_calloc(n_tensors + 1, sizeof *p->weights);
    p->batch = sh_calloc(n_tensors + 1, sizeof *p->batch);
    p->tensors = sh_calloc(n_tensors + 1, sizeof *p->tensors);
    p->place = sh_calloc(n_tensors + 1, sizeof *p->place);
    n.seen = sh_calloc(n_tensors + 1, sizeof *n.seen);
    if (p->weights && p->batch && p->tensors && p->place && n.seen) {
        st = name_leaves(&n, &p->graph, err);
        if (!st) st = name_leaves(&n, &p->rotate, err);
    } else {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "host: no memory for the names of weights");
    }
    sh_free(n.seen);
    return st;
}

/* ---- parts ----------------------------------------------------------------------------------*/

static enum shoal_status make_part(struct sh_host *h, int i, struct shoal_error *err)
{
    struct sh_host_part *p = &h->part[i];
    const struct sh_part *layers = &h->plan.placed[i].part;
    enum shoal_status st;

    p->h = h;
    p->index = i;
    p->n_slots = h->plan.n + 1;
    p->placed = &h->plan.placed[i];
    p->member = &h->member[p->placed->device];
    st = sh_model_build(h->model, layers, &h->limits, &p->graph, err);
    if (!st && h->info.can_shift)
        st = sh_model_build_rotate(h->model, layers, &h->limits, &p->rotate, err);
    if (st) return st;
    p->width_out = sh_rpc_claim_width_out(&p->graph);
    return p->member->worker ? list_weights(p, err) : SHOAL_OK;
}

enum shoal_status sh_host_parts_make(struct sh_host *h, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    h->part = sh_calloc((size_t)h->plan.n, sizeof *h->part);
    if (!h->part) return sh_fail(err, SHOAL_ERR_NOMEM, "host: no memory for %d stages", h->plan.n);
    for (int i = 0; i < h->plan.n && !st; i++)
        st = make_part(h, i, err);
    return st;
}

void sh_host_parts_release(struct sh_host *h)
{
    for (int i = 0; i < h->plan.n && h->part; i++) {
        struct sh_host_part *p = &h->part[i];
        sh_graph_release(&p->graph);
        sh_graph_release(&p->rotate);
        sh_arena_release(&p->names);
        sh_free(p->weights);
        sh_free(p->batch);
        sh_free(p->tensors);
        sh_free(p->place);
    }
    sh_free(h->part);
    h->part = NULL;
}

/* ---- memory on workers ----------------------------------------------------------------------*/

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static enum shoal_status reserve(const struct sh_host_part *p, const char *name,
                                 struct shoal_error *err)
{
    const struct sh_host *h = p->h;
    const struct sh_rpc_claim_of of = {.graph = &p->graph,
                                       .rotate = &p->rotate,
                                       .limits = &h->step_limits,
                                       .n_slots = p->n_slots,
                                       .first = p->index == 0,
                                       .last = p->placed->part.head,
                                       .kind = p->member->info.kind};
    struct sh_remote_claim claim = {.device = 0, .weights = p->weight_bytes};
    struct sh_rpc_claim count;
    enum shoal_status st = sh_rpc_claim_count(&count, &of, err);

    if (st) return st;
    claim.cache = count.cache;
    claim.scratch = count.scratch;
    claim.places = count.places;
    return sh_remote_session(p->member->worker, name, &claim, 1, 0, err);
}

enum shoal_status sh_host_parts_reserve(struct sh_host *h, const struct sh_host_options *o,
                                        struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    for (int i = 0; i < h->plan.n && !st; i++) {
        if (h->part[i].member->worker) st = reserve(&h->part[i], base_name(o->model_path), err);
    }
    return st;
}
