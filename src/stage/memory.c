/* stage/memory.c - see memory.h. */
#include "stage/memory.h"

#include <stdio.h>

#include "base/mem.h"
#include "device/upload.h"
#include "stage/cut_weight.h"

/* Leaves that share buffers of one usage. */
struct pack {
    enum sh_buffer_usage usage;
    int32_t *leaf; /* tensor numbers */
    size_t *bytes; /* of each, rounded up to the alignment */
    int32_t n;
};

void sh_stage_buffers_release(struct sh_stage_buffers *b)
{
    for (int32_t i = 0; i < b->n; i++)
        sh_buffer_free(b->buffer[i]);
    sh_free(b->buffer);
    *b = (struct sh_stage_buffers){0};
}

enum shoal_status sh_stage_buffers_add(struct sh_stage_buffers *b, struct sh_buffer *taken,
                                       int32_t *index, struct shoal_error *err)
{
    if (b->n == b->cap) {
        const int32_t cap = b->cap ? 2 * b->cap : 16;
        struct sh_buffer **p = sh_realloc_array(b->buffer, (size_t)cap, sizeof *p);
        if (!p) {
            sh_buffer_free(taken);
            return sh_fail(err, SHOAL_ERR_NOMEM, "stage: no memory for a list of buffers");
        }
        b->buffer = p;
        b->cap = cap;
    }
    *index = b->n;
    b->buffer[b->n++] = taken;
    return SHOAL_OK;
}

// Allocate buffers for all leaves of a pack, as few as the device's limit allows.
static enum shoal_status allocate_pack(struct sh_stage_buffers *b, struct sh_graph *g,
                                       struct sh_device *d, const struct sh_device_info *info,
                                       const struct pack *p, struct shoal_error *err)
{
    for (int32_t i = 0; i < p->n;) {
        struct sh_buffer *buf = NULL;
        int32_t end = i, index;
        size_t total = 0;
        enum shoal_status st;
        while (end < p->n && (end == i || p->bytes[end] <= info->buffer_bytes_max - total)) {
            if (!sh_add_ok(total, p->bytes[end], &total))
                return sh_fail(err, SHOAL_ERR_LIMIT, "stage: sizes overflow");
            end++;
            if (total > info->buffer_bytes_max) break;
        }
        st = sh_buffer_alloc(d, &buf, total ? total : info->alignment, p->usage, err);
        if (!st) st = sh_stage_buffers_add(b, buf, &index, err);
        if (st) return st;
        for (total = 0; i < end; i++) {
            sh_graph_place(g, p->leaf[i], index, total);
            total += p->bytes[i];
        }
    }
    return SHOAL_OK;
}

static enum shoal_status push(struct pack *p, const struct sh_graph *g, int32_t t, size_t align,
                              struct shoal_error *err)
{
    size_t bytes;

    if (!sh_tensor_bytes(&g->tensors[t], &bytes) || !sh_round_up_ok(bytes, align, &bytes)) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "stage: the size of %s overflows", g->tensors[t].name);
    }
    p->leaf[p->n] = t;
    p->bytes[p->n] = bytes;
    p->n++;
    return SHOAL_OK;
}

static bool importable(const struct sh_device_info *info, const struct sh_leaf *l)
{
    return info->local && l->slice.axis < 0 && l->stack == 0;
}

static enum shoal_status import(struct sh_stage_buffers *b, struct sh_graph *g, int32_t t,
                                struct sh_device *d, const struct sh_weight *w,
                                struct shoal_error *err)
{
    struct sh_buffer *buf = NULL;
    int32_t index;
    enum shoal_status st = sh_buffer_import(d, &buf, w->data, w->bytes, w->map, err);

    if (!st) st = sh_stage_buffers_add(b, buf, &index, err);
    if (!st) sh_graph_place(g, t, index, 0);
    return st;
}

// Does the stored tensor have the shape that the leaf was cut from?
static enum shoal_status check_weight(const struct sh_tensor *t, const struct sh_leaf *l,
                                      const struct sh_weight *w, struct shoal_error *err)
{
    struct sh_tensor stored = {.dtype = w->dtype};
    size_t bytes;

    for (int i = 0; i < SH_MAX_DIMS; i++) {
        stored.ne[i] = w->ne[i];
        const int64_t want = l->stack > 0 && i == 2 ? 1 : t->ne[i];
        if ((i == l->slice.axis && !(l->stack > 0 && i == 2)) || w->ne[i] == want) continue;
        return sh_fail(err, SHOAL_ERR_FORMAT,
                       "stage: weight %s has %lld elements in dimension %d, expected %lld", t->name,
                       (long long)w->ne[i], i, (long long)want);
    }
    sh_tensor_set_dense(&stored);
    if (w->dtype != t->dtype || !sh_tensor_bytes(&stored, &bytes) || bytes != w->bytes) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "stage: weight %s is %zu bytes of %s, expected %s",
                       t->name, w->bytes, sh_dtype_info(w->dtype)->name,
                       sh_dtype_info(t->dtype)->name);
    }
    return SHOAL_OK;
}

struct loading {
    const struct sh_weight_source *src;
    struct sh_stage_buffers *b;
    struct sh_queue *q;
    struct sh_upload_item *items; // whole weights, uploaded together at the end
    size_t n_items, cap_items;
    size_t done, total; // bytes; done: in earlier uploads
};

static void tell_progress(void *self, size_t bytes_done)
{
    const struct loading *l = self;

    if (l->src->progress) l->src->progress(l->src->self, l->done + bytes_done, l->total);
}

static bool asked_to_stop(void *self)
{
    const struct loading *l = self;

    return l->src->stop && l->src->stop(l->src->self);
}

static enum shoal_status upload(struct loading *l, const struct sh_upload_item *items, size_t n,
                                struct shoal_error *err)
{
    const struct sh_upload up = {
        .items = items, .n_items = n, .progress = tell_progress, .stop = asked_to_stop, .self = l};
    enum shoal_status st = sh_queue_upload(l->q, &up, err);

    for (size_t i = 0; i < n; i++)
        l->done += items[i].bytes;
    return st;
}

static enum shoal_status keep_for_later(struct loading *l, const struct sh_upload_item *item,
                                        struct shoal_error *err)
{
    if (l->n_items == l->cap_items) {
        const size_t cap = l->cap_items ? 2 * l->cap_items : 256;
        struct sh_upload_item *p = sh_realloc_array(l->items, cap, sizeof *p);
        if (!p) return sh_fail(err, SHOAL_ERR_NOMEM, "stage: no memory for a list of weights");
        l->items = p;
        l->cap_items = cap;
    }
    l->items[l->n_items++] = *item;
    return SHOAL_OK;
}

// One stored tensor into its leaf: whole, or cut into a staging block first, which goes at once.
static enum shoal_status load_one(struct loading *l, const struct sh_tensor *t,
                                  const struct sh_slice *slice, size_t offset,
                                  const struct sh_weight *w, struct shoal_error *err)
{
    struct sh_upload_item item = {.buffer = l->b->buffer[t->buffer],
                                  .offset = t->offset + offset,
                                  .src = w->data,
                                  .bytes = w->bytes};
    enum shoal_status st;
    void *cut = NULL;

    if (slice->axis < 0) return keep_for_later(l, &item, err);
    st = sh_cut_weight(&cut, &item.bytes, w, slice, err);
    item.src = cut;
    if (!st) st = upload(l, &item, 1, err);
    sh_free(cut);
    return st;
}

// A stack of stored tensors: numbers from the slice of the last dimension, or all.
static enum shoal_status load_stack(struct loading *l, const struct sh_tensor *t,
                                    const struct sh_leaf *leaf, struct shoal_error *err)
{
    const bool some = leaf->slice.axis == 2;
    const int64_t begin = some ? leaf->slice.segment[0].begin : 0;
    const int64_t end = some ? leaf->slice.segment[0].end : leaf->stack;
    const struct sh_slice whole = SH_SLICE_WHOLE;
    const char *hash = strchr(t->name, '#');

    if (!hash) return sh_fail(err, SHOAL_ERR_FORMAT, "stage: %s is no name of a stack", t->name);
    for (int64_t i = begin; i < end; i++) {
        char name[160];
        struct sh_weight w;
        enum shoal_status st;
        snprintf(name, sizeof name, "%.*s%lld%s", (int)(hash - t->name), t->name, (long long)i,
                 hash + 1);
        st = l->src->find(l->src->self, name, &w, err);
        if (!st) st = check_weight(t, leaf, &w, err);
        if (!st)
            st = load_one(l, t, some ? &whole : &leaf->slice, (size_t)(i - begin) * t->nb[2], &w,
                          err);
        if (st) return st;
    }
    return SHOAL_OK;
}

static enum shoal_status load_weights(struct loading *l, const struct sh_graph *g,
                                      const struct pack *p, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    for (int32_t i = 0; i < p->n; i++)
        l->total += p->bytes[i];
    for (int32_t i = 0; i < p->n && !st; i++) {
        const struct sh_tensor *t = &g->tensors[p->leaf[i]];
        const struct sh_leaf *leaf = &g->leaves[t->leaf];
        struct sh_weight w;
        if (leaf->stack > 0) {
            st = load_stack(l, t, leaf, err);
            continue;
        }
        st = l->src->find(l->src->self, t->name, &w, err);
        if (!st) st = check_weight(t, leaf, &w, err);
        if (!st) st = load_one(l, t, &leaf->slice, 0, &w, err);
    }
    if (!st && l->n_items > 0) st = upload(l, l->items, l->n_items, err);
    return st;
}

// Sort the leaves into what is imported, written, and merely allocated.
static enum shoal_status sort_leaves(struct sh_stage_buffers *b, struct sh_graph *g,
                                     struct sh_device *d, const struct sh_device_info *info,
                                     const struct sh_weight_source *weights, struct pack *written,
                                     struct pack *state, struct shoal_error *err)
{
    for (int32_t i = 0; i < g->n_tensors; i++) {
        const struct sh_leaf *leaf = g->tensors[i].leaf < 0 ? NULL : &g->leaves[g->tensors[i].leaf];
        struct sh_weight w;
        enum shoal_status st = SHOAL_OK;
        if (!leaf || leaf->kind == SH_LEAF_INPUT || leaf->kind == SH_LEAF_OTHER) continue;
        if (leaf->kind != SH_LEAF_WEIGHT) {
            st = push(state, g, i, info->alignment, err);
        } else if (importable(info, leaf)) {
            st = weights->find(weights->self, g->tensors[i].name, &w, err);
            if (!st) st = check_weight(&g->tensors[i], leaf, &w, err);
            if (!st) st = import(b, g, i, d, &w, err);
            if (!st) b->bytes.weights += w.bytes;
        } else {
            st = push(written, g, i, info->alignment, err);
            if (!st) b->bytes.weights += written->bytes[written->n - 1];
        }
        if (st) return st;
    }
    for (int32_t i = 0; i < state->n; i++)
        b->bytes.cache += state->bytes[i];
    return SHOAL_OK;
}

enum shoal_status sh_stage_place(struct sh_stage_buffers *b, struct sh_graph *g,
                                 struct sh_device *d, struct sh_queue *q,
                                 const struct sh_weight_source *weights, struct shoal_error *err)
{
    struct pack written = {.usage = SH_BUFFER_WEIGHTS}, state = {.usage = SH_BUFFER_CACHE};
    struct loading l = {.src = weights, .b = b, .q = q};
    const size_t n = (size_t)g->n_tensors;
    struct sh_device_info info;
    enum shoal_status st;

    st = sh_device_info(d, &info, err);
    if (st) return st;
    written.leaf = sh_calloc(n, sizeof *written.leaf);
    written.bytes = sh_calloc(n, sizeof *written.bytes);
    state.leaf = sh_calloc(n, sizeof *state.leaf);
    state.bytes = sh_calloc(n, sizeof *state.bytes);
    if (!written.leaf || !written.bytes || !state.leaf || !state.bytes) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "stage: no memory to place %zu tensors", n);
        goto done;
    }
    st = sort_leaves(b, g, d, &info, weights, &written, &state, err);
    if (!st) st = allocate_pack(b, g, d, &info, &written, err);
    if (!st) st = allocate_pack(b, g, d, &info, &state, err);
    if (!st) st = load_weights(&l, g, &written, err);

done:
    sh_free(l.items);
    sh_free(written.leaf);
    sh_free(written.bytes);
    sh_free(state.leaf);
    sh_free(state.bytes);
    return st;
}

// The leaf of `g` that holds the same thing, -1 if none.
static int32_t same_leaf(const struct sh_graph *g, const struct sh_tensor *want,
                         const struct sh_leaf *leaf)
{
    for (int32_t i = 0; i < g->n_tensors; i++) {
        const struct sh_tensor *t = &g->tensors[i];
        const struct sh_leaf *l = t->leaf < 0 ? NULL : &g->leaves[t->leaf];
        if (!l || l->kind != leaf->kind || l->group != leaf->group || l->layer != leaf->layer)
            continue;
        if (l->kind != SH_LEAF_WEIGHT || strcmp(t->name, want->name) == 0) return i;
    }
    return -1;
}

enum shoal_status sh_stage_share_leaves(const struct sh_graph *from, struct sh_graph *to,
                                        struct shoal_error *err)
{
    for (int32_t i = 0; i < to->n_tensors; i++) {
        const struct sh_tensor *t = &to->tensors[i];
        const struct sh_leaf *l = t->leaf < 0 ? NULL : &to->leaves[t->leaf];
        int32_t k;
        if (!l || (l->kind != SH_LEAF_CACHE_K && l->kind != SH_LEAF_WEIGHT)) continue;
        k = same_leaf(from, t, l);
        if (k < 0) {
            return sh_fail(err, SHOAL_ERR_STATE, "stage: layer %d: nothing to share with %s",
                           l->layer, t->name);
        }
        sh_graph_place(to, i, from->tensors[k].buffer, from->tensors[k].offset);
    }
    return SHOAL_OK;
}
