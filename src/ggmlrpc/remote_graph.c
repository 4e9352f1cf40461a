/* ggmlrpc/remote_graph.c - graphs on a server: laid out here, sent once, run again by reference.
 *
 * A prepared graph has a scratch buffer on the server for all its slots, and one encoded frame per
 * slot.  The server remembers only the graph it ran last; running another one sends it again.
 */
#include "ggmlrpc/remote_priv.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"

/* ---- sizes ----------------------------------------------------------------------------------*/

/* Ops whose result some devices want with room behind it. */
static bool wants_size(const struct sh_tensor *t)
{
    switch (t->op) {
    case SH_OP_FLASH_ATTN_EXT:
    case SH_OP_MUL_MAT:
    case SH_OP_MUL_MAT_ID:
    case SH_OP_ARGSORT:
    case SH_OP_TOP_K:
        return t->buffer < 0 && t->view_src < 0;
    default:
        return false;
    }
}

/* What the answer may depend on: type, op, parameters, extents, strides. */
static uint64_t size_key(const struct sh_wire_tensor *t)
{
    struct sh_wire_tensor key = {.type = t->type, .op = t->op};
    uint8_t bytes[SH_WIRE_TENSOR_BYTES];
    struct sh_writer w = sh_writer_over(bytes, sizeof bytes);

    memcpy(key.params, t->params, sizeof key.params);
    memcpy(key.ne, t->ne, sizeof key.ne);
    memcpy(key.nb, t->nb, sizeof key.nb);
    sh_wire_tensor_put(&w, &key);
    return sh_hash_bytes(bytes, sizeof bytes);
}

static bool find_size(struct remote_device *d, uint64_t key, uint64_t *out)
{
    bool found = false;

    sh_mutex_lock(&d->sizes_lock);
    for (size_t i = 0; i < d->n_sizes && !found; i++) {
        found = d->sizes[i].key == key;
        if (found) *out = d->sizes[i].bytes;
    }
    sh_mutex_unlock(&d->sizes_lock);
    return found;
}

static enum shoal_status keep_size(struct remote_device *d, uint64_t key, uint64_t bytes,
                                   struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    sh_mutex_lock(&d->sizes_lock);
    if (d->n_sizes == d->cap_sizes) {
        const size_t cap = d->cap_sizes ? 2 * d->cap_sizes : 32;
        void *p = sh_realloc_array(d->sizes, cap, sizeof *d->sizes);
        if (p) {
            d->sizes = p;
            d->cap_sizes = cap;
        } else {
            st = sh_fail(err, SHOAL_ERR_NOMEM, "no memory to prepare a graph");
        }
    }
    if (!st) d->sizes[d->n_sizes++] = (struct alloc_size){.key = key, .bytes = bytes};
    sh_mutex_unlock(&d->sizes_lock);
    return st;
}

/* A question under way. */
struct size_question {
    struct link_request *request;
    uint64_t key;
    uint8_t frame[SH_WIRE_REQUEST_BYTES_MAX];
};

#define QUESTIONS_MAX 16 /* asked at once */

static enum shoal_status key_of(const struct sh_graph *g, int32_t t, uint64_t *key,
                                struct shoal_error *err)
{
    struct sh_wire_tensor record;
    enum shoal_status st = sh_wire_graph_record(g, t, &record, err);

    if (!st) *key = size_key(&record);
    return st;
}

static enum shoal_status ask_size(struct remote_device *d, const struct sh_graph *g, int32_t t,
                                  struct size_question *q, struct shoal_error *err)
{
    struct sh_wire_request rq = {.device = d->opt.device_index};
    struct sh_writer w = sh_writer_over(q->frame, sizeof q->frame);
    enum shoal_status st = sh_wire_graph_record(g, t, &rq.tensor, err);

    for (int i = 0; i < SH_MAX_SRC && !st; i++) {
        const int32_t s = g->tensors[t].src[i];
        if (s < 0) continue;
        st = sh_wire_graph_record(g, s, &rq.src[i], err);
        rq.tensor.src[i] = rq.src[i].id;
    }
    if (st) return st;
    sh_wire_request_put(&w, SH_WIRE_GET_ALLOC_SIZE, &rq, 0);
    q->request = link_new(d->link, SH_WIRE_GET_ALLOC_SIZE, NULL, 0, err);
    if (!q->request) return err->code;
    q->request->payload = q->frame;
    q->request->payload_bytes = w.pos;
    q->request->waited_for = true;
    link_post(d->link, q->request);
    return SHOAL_OK;
}

/* Take the answers to all questions; the first failure counts. */
static enum shoal_status take_answers(struct remote_device *d, struct size_question *q, int n,
                                      struct shoal_error *err)
{
    enum shoal_status first = SHOAL_OK;

    for (int i = 0; i < n; i++) {
        struct shoal_error why = SHOAL_ERROR_INIT;
        struct sh_wire_answer a = {.value = 0};
        enum shoal_status st = link_finish(d->link, q[i].request, &a, &why);
        if (!st) st = keep_size(d, q[i].key, a.value, &why);
        if (!st || first) continue;
        first = st;
        *err = why;
    }
    return first;
}

static bool is_asked(const struct size_question *q, int n, uint64_t key)
{
    for (int i = 0; i < n; i++) {
        if (q[i].key == key) return true;
    }
    return false;
}

/* Ask for the sizes of this graph that are not known yet, many questions at a time. */
static enum shoal_status ask_sizes(struct remote_device *d, const struct sh_graph *g,
                                   struct shoal_error *err)
{
    struct shoal_error unseen = SHOAL_ERROR_INIT;
    struct size_question *q = NULL;
    enum shoal_status st = SHOAL_OK, ended;
    int n = 0;

    for (int32_t i = 0; i < g->n_nodes && !st; i++) {
        uint64_t key = 0, known;
        if (!wants_size(&g->tensors[g->nodes[i]])) continue;
        st = key_of(g, g->nodes[i], &key, err);
        if (st || find_size(d, key, &known) || is_asked(q, n, key)) continue;
        if (!q) q = sh_calloc(QUESTIONS_MAX, sizeof *q);
        if (!q) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory to prepare a graph");
        if (n == QUESTIONS_MAX) {
            st = take_answers(d, q, n, err);
            n = 0;
            if (st) break;
        }
        q[n].key = key;
        st = ask_size(d, g, g->nodes[i], &q[n], err);
        if (!st) n++;
    }
    ended = take_answers(d, q, n, st ? &unseen : err);
    sh_free(q);
    return st ? st : ended;
}

/* Scratch of one slot.  A result that needs more than its bytes gets room of its own at the end. */
static enum shoal_status lay_out(struct remote_device *d, struct remote_exec *x,
                                 struct shoal_error *err)
{
    const struct sh_graph *g = x->graph;
    enum shoal_status st = sh_graph_plan_scratch(g, d->alignment, x->offsets, &x->slot_bytes, err);

    if (!st) st = ask_sizes(d, g, err);
    for (int32_t n = 0; n < g->n_nodes && !st; n++) {
        const int32_t i = g->nodes[n];
        uint64_t want = 0, key = 0;
        size_t have, room;
        if (!wants_size(&g->tensors[i]) || !sh_tensor_bytes(&g->tensors[i], &have)) continue;
        st = key_of(g, i, &key, err);
        if (st || !find_size(d, key, &want) || want <= have) continue;
        if (want > d->buffer_bytes_max || !sh_round_up_ok((size_t)want, d->alignment, &room) ||
            !sh_round_up_ok(x->slot_bytes, d->alignment, &x->offsets[i]) ||
            !sh_add_ok(x->offsets[i], room, &x->slot_bytes)) {
            st = sh_fail(err, SHOAL_ERR_PEER, "%s wants %" PRIu64 " bytes for a tensor of %zu",
                         d->address, want, have);
        }
    }
    if (!st && !sh_round_up_ok(x->slot_bytes, d->alignment, &x->slot_bytes)) {
        st = sh_fail(err, SHOAL_ERR_LIMIT, "the scratch memory of a graph is too large");
    }
    return st;
}

/* ---- scratch --------------------------------------------------------------------------------*/

/* A kept buffer of at least so many bytes, not wasting more than half of it. */
static bool take_spare(struct remote_device *d, size_t bytes, struct remote_place *out)
{
    bool found = false;

    link_lock(d->link);
    for (int i = 0; i < d->n_spare && !found; i++) {
        if (d->spare[i].bytes < bytes || d->spare[i].bytes / 2 > bytes) continue;
        *out = d->spare[i];
        d->spare[i] = d->spare[--d->n_spare];
        found = true;
    }
    link_unlock(d->link);
    return found;
}

static void keep_spare(struct remote_device *d, const struct remote_place *p)
{
    struct remote_place gone = {.token = 0};

    if (p->token == 0) return;
    link_lock(d->link);
    if (d->n_spare < REMOTE_SPARE_MAX) {
        d->spare[d->n_spare++] = *p;
    } else {
        gone = d->spare[0];
        memmove(d->spare, d->spare + 1, (REMOTE_SPARE_MAX - 1) * sizeof *d->spare);
        d->spare[REMOTE_SPARE_MAX - 1] = *p;
    }
    link_unlock(d->link);
    remote_place_free(d, &gone);
}

/* Give kept buffers back to the server; true if there were any. */
static bool drop_spares(struct remote_device *d)
{
    struct remote_place gone[REMOTE_SPARE_MAX];
    int n;

    link_lock(d->link);
    n = d->n_spare;
    memcpy(gone, d->spare, sizeof gone);
    d->n_spare = 0;
    link_unlock(d->link);
    for (int i = 0; i < n; i++)
        remote_place_free(d, &gone[i]);
    return n > 0;
}

static enum shoal_status take_scratch(struct remote_device *d, struct remote_exec *x,
                                      struct shoal_error *err)
{
    size_t bytes;
    enum shoal_status st;

    if (x->slot_bytes == 0) return SHOAL_OK;
    if (!sh_mul_ok(x->slot_bytes, (size_t)x->n_slots, &bytes) || bytes > d->buffer_bytes_max) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "%s: %d times %zu bytes of scratch are too much",
                       d->address, x->n_slots, x->slot_bytes);
    }
    if (take_spare(d, bytes, &x->scratch)) return SHOAL_OK;
    st = remote_place_alloc(d, bytes, &x->scratch, err);
    if (st == SHOAL_ERR_NOMEM && drop_spares(d))
        st = remote_place_alloc(d, bytes, &x->scratch, err);
    return st;
}

/* ---- prepare --------------------------------------------------------------------------------*/

static void note_extents(struct remote_exec *x)
{
    for (int32_t i = 0; i < x->graph->n_tensors; i++)
        x->uses[x->graph->tensors[i].extent] = true;
}

static enum shoal_status validate(const struct sh_graph *g, const struct remote_exec *x,
                                  int32_t n_buffers, struct shoal_error *err)
{
    struct sh_buffer_bounds *bounds = sh_calloc((size_t)n_buffers + 1, sizeof *bounds);
    enum shoal_status st;

    if (!bounds) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory to prepare a graph");
    for (int32_t i = 0; i < n_buffers; i++)
        bounds[i].bytes = x->external[i].bytes;
    st = sh_graph_validate(g, bounds, n_buffers, false, err);
    sh_free(bounds);
    return st;
}

static enum shoal_status encode(struct remote_device *d, struct remote_exec *x,
                                struct shoal_error *err)
{
    const struct sh_graph *g = x->graph;
    struct sh_wire_spot *spots = sh_calloc((size_t)g->n_tensors + 1, sizeof *spots);
    enum shoal_status st = SHOAL_OK;

    if (!spots) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory to prepare a graph");
    for (int slot = 0; slot < x->n_slots && !st; slot++) {
        const uint64_t scratch = x->scratch.base + (uint64_t)slot * x->slot_bytes;
        for (int32_t i = 0; i < g->n_tensors; i++) {
            const struct sh_tensor *t = &g->tensors[i];
            if (t->buffer >= 0) {
                const struct remote_place *p = &x->external[t->buffer];
                spots[i] = (struct sh_wire_spot){.token = p->token, .address = p->base + t->offset};
            } else if (x->offsets[i] != SIZE_MAX) {
                spots[i] = (struct sh_wire_spot){.token = x->scratch.token,
                                                 .address = scratch + x->offsets[i]};
            }
        }
        st = sh_wire_graph_encode(&x->slots[slot].frame, &x->slots[slot].bytes, g,
                                  d->opt.device_index, spots, err);
    }
    sh_free(spots);
    return st;
}

enum shoal_status remote_prepare(struct sh_device *dev, struct sh_exec **out,
                                 const struct sh_graph *g, struct sh_buffer *const *buffers,
                                 int32_t n_buffers, int n_slots, struct shoal_error *err)
{
    struct remote_device *d = remote_of(dev);
    struct shoal_error local = SHOAL_ERROR_INIT;
    struct remote_exec *x = sh_calloc(1, sizeof *x);
    enum shoal_status st;

    if (!err) err = &local;
    if (!x) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory to prepare a graph");
    x->head.device = dev;
    x->graph = g;
    x->n_slots = n_slots;
    x->external = sh_calloc((size_t)n_buffers + 1, sizeof *x->external);
    x->offsets = sh_calloc((size_t)g->n_tensors + 1, sizeof *x->offsets);
    x->slots = sh_calloc((size_t)n_slots, sizeof *x->slots);
    if (!x->external || !x->offsets || !x->slots) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "no memory to prepare a graph");
        goto done;
    }
    for (int32_t i = 0; i < n_buffers; i++)
        x->external[i] = remote_buffer_of(buffers[i])->place;
    st = validate(g, x, n_buffers, err);
    if (!st) st = lay_out(d, x, err);
    if (!st) st = take_scratch(d, x, err);
    if (!st) st = encode(d, x, err);
    if (st) goto done;
    note_extents(x);
    *out = (struct sh_exec *)(void *)x;
    x = NULL;

done:
    if (x) remote_exec_release((struct sh_exec *)(void *)x);
    return st;
}

/* A place that runs of x use, where it has any. */
static const struct remote_place *place_of(const struct remote_exec *x)
{
    return x->scratch.token != 0 ? &x->scratch : &x->external[0];
}

/* Frames are borrowed by runs that are under way. */
static void wait_unused(struct remote_device *d, struct remote_exec *x)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    bool flushed = false;

    link_lock(d->link);
    if (d->last_exec == x) d->last_exec = NULL;
    while (x->n_pending > 0) {
        if (!flushed) {
            flushed = true;
            link_unlock(d->link);
            (void)remote_flush(d, place_of(x), &err);
            link_lock(d->link);
            continue;
        }
        (void)link_sleep_locked(d->link, SH_NO_DEADLINE); // the link's own limits end this
    }
    link_unlock(d->link);
}

void remote_exec_release(struct sh_exec *exec)
{
    struct remote_exec *x = remote_exec_of(exec);
    struct remote_device *d = remote_of(x->head.device);

    wait_unused(d, x);
    keep_spare(d, &x->scratch);
    for (int i = 0; x->slots && i < x->n_slots; i++)
        sh_free(x->slots[i].frame);
    sh_free(x->slots);
    sh_free(x->offsets);
    sh_free(x->external);
    sh_free(x);
}

/* ---- tensors and runs -----------------------------------------------------------------------*/

/* Where bytes [offset, offset + bytes) of a tensor lie. */
static enum shoal_status find_bytes(const struct remote_exec *x, int slot, int32_t tensor,
                                    size_t offset, size_t bytes, struct remote_place *place,
                                    size_t *at, struct shoal_error *err)
{
    const struct sh_graph *g = x->graph;
    const struct sh_tensor *t;
    int32_t root;
    size_t size;

    if (slot < 0 || slot >= x->n_slots || tensor < 0 || tensor >= g->n_tensors) {
        return sh_fail(err, SHOAL_ERR_ARG, "tensor %" PRId32 " in slot %d does not exist", tensor,
                       slot);
    }
    t = &g->tensors[tensor];
    if (!sh_tensor_bytes(t, &size) || !sh_range_ok(offset, bytes, size)) {
        return sh_fail(err, SHOAL_ERR_ARG, "%zu bytes at %zu are not inside tensor %" PRId32, bytes,
                       offset, tensor);
    }
    root = t->view_src >= 0 ? t->view_src : tensor;
    if (t->buffer >= 0) {
        *place = x->external[t->buffer];
        *at = t->offset + offset;
        return SHOAL_OK;
    }
    if (x->offsets[root] == SIZE_MAX) {
        return sh_fail(err, SHOAL_ERR_ARG, "tensor %" PRId32 " has no place", tensor);
    }
    *place = x->scratch;
    *at = (size_t)slot * x->slot_bytes + x->offsets[root] + t->view_offs + offset;
    return SHOAL_OK;
}

enum shoal_status remote_write_tensor(struct sh_queue *q, struct sh_exec *x, int slot,
                                      int32_t tensor, size_t offset, const void *src, size_t bytes,
                                      sh_ticket *t, struct shoal_error *err)
{
    struct remote_place place;
    size_t at;
    enum shoal_status st =
        find_bytes(remote_exec_of(x), slot, tensor, offset, bytes, &place, &at, err);

    return st ? st : remote_write_at(remote_queue_of(q), &place, at, src, bytes, t, err);
}

enum shoal_status remote_read_tensor(struct sh_queue *q, struct sh_exec *x, int slot,
                                     int32_t tensor, size_t offset, void *dst, size_t bytes,
                                     sh_ticket *t, struct shoal_error *err)
{
    struct remote_place place;
    size_t at;
    enum shoal_status st =
        find_bytes(remote_exec_of(x), slot, tensor, offset, bytes, &place, &at, err);

    return st ? st : remote_read_at(remote_queue_of(q), &place, at, dst, bytes, t, err);
}

static enum shoal_status check_extents(const struct remote_exec *x, const struct sh_extents *e,
                                       struct shoal_error *err)
{
    static const char name[] = "-TOR";

    for (int i = SH_EXTENT_T; i <= SH_EXTENT_R; i++) {
        const int64_t have = sh_extents_get(e, (enum sh_extent)i, 0);
        const int64_t max = sh_extents_get(&x->graph->max, (enum sh_extent)i, 0);
        if (!x->uses[i] || have == max) continue;
        return sh_fail(err, SHOAL_ERR_UNSUPPORTED,
                       "a remote graph for %c = %" PRId64 " cannot run with %" PRId64, name[i], max,
                       have);
    }
    return SHOAL_OK;
}

enum shoal_status remote_submit(struct sh_queue *queue, struct sh_exec *exec, int slot,
                                const struct sh_extents *extents, struct sh_collective *c,
                                sh_ticket *t, struct shoal_error *err)
{
    struct remote_queue *q = remote_queue_of(queue);
    struct remote_exec *x = remote_exec_of(exec);
    struct remote_device *d = remote_of(x->head.device);
    const struct sh_wire_request rq = {.device = d->opt.device_index};
    struct shoal_error local = SHOAL_ERROR_INIT;
    struct link_request *r;
    sh_ticket ticket;
    enum shoal_status st;

    (void)c; // graphs with sums do not pass prepare
    if (!err) err = &local;
    if (slot < 0 || slot >= x->n_slots) {
        return sh_fail(err, SHOAL_ERR_ARG, "slot %d of %d", slot, x->n_slots);
    }
    st = check_extents(x, extents, err);
    if (st) return st;
    r = remote_request(q, SH_WIRE_GRAPH_RECOMPUTE, &rq, 0, err);
    if (!r) return err->code;
    r->is_run = true;
    ((struct remote_ticket *)r->owner)->exec = x;
    q->last_run = *place_of(x);
    link_lock(d->link);
    if (q->failed_from == 0 && (d->last_exec != x || d->last_slot != slot)) {
        r->command = SH_WIRE_GRAPH_COMPUTE;
        r->head_bytes = 0; // the frame has its own
        r->payload = x->slots[slot].frame;
        r->payload_bytes = x->slots[slot].bytes;
        d->last_exec = x;
        d->last_slot = slot;
    }
    ticket = remote_post_locked(q, r);
    link_unlock(d->link);
    if (t) *t = ticket;
    return SHOAL_OK;
}
