/* stage/lowered.c - see lowered.h. */
#include "stage/lowered.h"

#include "base/clock.h"
#include "base/mem.h"

enum { KEPT = 4 }; /* lowered graphs */

struct kept {
    bool used;
    struct sh_lower_shape shape;
    struct sh_lower_layout layout;
    struct sh_graph graph;
    struct sh_exec *exec;
    int32_t output;
    uint64_t stamp;
    sh_ticket last; /* its newest run */
};

struct sh_lowered {
    struct sh_device *device;
    struct sh_queue *queue;
    struct sh_graph *graph;
    struct sh_stage_buffers *buffers;
    struct sh_step_limits limits;
    struct sh_kv_group groups[SH_GROUPS_MAX];
    struct sh_lower_inputs in;
    size_t align, packed_bytes;
    struct kept kept[KEPT];
    uint64_t clock;
    uint16_t *row[SH_GROUPS_MAX];  /* what the device's one-row masks hold */
    uint16_t *next[SH_GROUPS_MAX]; /* what the present step needs */
    bool row_known;
};

static enum shoal_status add_buffer(struct sh_lowered *l, size_t bytes, int32_t *index,
                                    struct shoal_error *err)
{
    struct sh_buffer *b = NULL;
    enum shoal_status st = sh_buffer_alloc(l->device, &b, bytes, SH_BUFFER_COMPUTE, err);

    if (!st) st = sh_stage_buffers_add(l->buffers, b, index, err);
    if (!st) l->buffers->bytes.scratch += bytes;
    return st;
}

enum shoal_status sh_lowered_create(struct sh_lowered **out, struct sh_device *d,
                                    struct sh_queue *q, struct sh_graph *g,
                                    struct sh_stage_buffers *b, const struct sh_step_limits *limits,
                                    const struct sh_kv_group *groups, struct shoal_error *err)
{
    struct sh_lowered *l;
    struct sh_device_info info;
    size_t inputs, masks;
    enum shoal_status st;

    *out = NULL;
    l = sh_calloc(1, sizeof *l);
    if (!l) return sh_fail(err, SHOAL_ERR_NOMEM, "stage: no memory to lower a graph");
    l->device = d;
    l->queue = q;
    l->graph = g;
    l->buffers = b;
    l->limits = *limits;
    st = sh_device_info(d, &info, err);
    if (!st) st = sh_lower_scan(g, &l->in, err);
    if (st) goto done;
    l->align = info.alignment;
    sh_lower_buffer_bytes(&l->in, limits, l->align, &inputs, &masks, &l->packed_bytes);
    st = add_buffer(l, inputs, &l->in.inputs_buffer, err);
    if (!st) st = add_buffer(l, masks, &l->in.masks_buffer, err);
    for (int i = 0; i < SH_GROUPS_MAX && !st; i++) {
        const size_t cells = (size_t)l->in.pages[i] * SH_PAGE;
        if (i < limits->n_groups) l->groups[i] = groups[i];
        if (!l->in.group[i]) continue;
        l->row[i] = sh_calloc(cells, sizeof(uint16_t));
        l->next[i] = sh_calloc(cells, sizeof(uint16_t));
        if (!l->row[i] || !l->next[i])
            st = sh_fail(err, SHOAL_ERR_NOMEM, "stage: no memory for a mask of %zu cells", cells);
    }
    if (st) goto done;
    *out = l;
    l = NULL;

done:
    sh_lowered_destroy(l);
    return st;
}

static void drop(struct kept *k)
{
    sh_exec_release(k->exec);
    sh_graph_release(&k->graph);
    *k = (struct kept){0};
}

void sh_lowered_destroy(struct sh_lowered *l)
{
    if (!l) return;
    for (int i = 0; i < KEPT; i++)
        if (l->kept[i].used) drop(&l->kept[i]);
    for (int i = 0; i < SH_GROUPS_MAX; i++) {
        sh_free(l->row[i]);
        sh_free(l->next[i]);
    }
    sh_free(l);
}

size_t sh_lowered_packed_bytes(const struct sh_lowered *l)
{
    return l->packed_bytes;
}

void sh_lowered_forget(struct sh_lowered *l)
{
    l->row_known = false;
}

static bool same_shape(const struct sh_lower_shape *a, const struct sh_lower_shape *b)
{
    if (a->t != b->t || a->o != b->o) return false;
    for (int g = 0; g < SH_GROUPS_MAX; g++)
        if (a->n_kv[g] != b->n_kv[g]) return false;
    return true;
}

// The kept graph of a shape, made if need be in the place of the one not used for longest.
static enum shoal_status get_kept(struct sh_lowered *l, const struct sh_lower_shape *shape,
                                  struct kept **out, struct shoal_error *err)
{
    struct kept *k = &l->kept[0];
    enum shoal_status st;

    for (int i = 0; i < KEPT; i++) {
        if (l->kept[i].used && same_shape(&l->kept[i].shape, shape)) {
            *out = &l->kept[i];
            (*out)->stamp = ++l->clock;
            return SHOAL_OK;
        }
        if (!l->kept[i].used || (k->used && l->kept[i].stamp < k->stamp)) k = &l->kept[i];
    }
    if (k->used) {
        st = sh_queue_wait(l->queue, k->last, 600 * SH_SECOND, err);
        if (st) return st;
        drop(k);
    }
    k->used = true;
    k->shape = *shape;
    k->stamp = ++l->clock;
    sh_lower_layout(&l->in, shape, l->align, &k->layout);
    st = sh_lower(l->graph, &l->in, shape, &k->layout, &k->graph, &k->output, err);
    k->graph.n_buffers = l->buffers->n;
    if (!st) {
        st = sh_exec_prepare(l->device, &k->exec, &k->graph, l->buffers->buffer, l->buffers->n, 1,
                             err);
    }
    if (st) drop(k);
    *out = st ? NULL : k;
    return st;
}

static void put(char *base, size_t at, const void *src, size_t bytes)
{
    if (at != SIZE_MAX && bytes) memcpy(base + at, src, bytes);
}

static enum shoal_status pack_cells(const struct sh_lowered *l, const struct kept *k,
                                    const struct sh_step *step, const struct sh_tables *t,
                                    char *base, struct shoal_error *err)
{
    for (int g = 0; g < t->n_groups; g++) {
        if (!l->in.group[g]) continue;
        for (int32_t i = 0; i < step->n_rows; i++) {
            const int64_t cell = sh_lower_cell(t, g, step->rows[i].seq, step->rows[i].pos);
            if (cell < 0) {
                return sh_fail(err, SHOAL_ERR_ARG,
                               "stage: no page is mapped for sequence %d position %d",
                               (int)step->rows[i].seq, (int)step->rows[i].pos);
            }
            memcpy(base + k->layout.cells[g] + 8 * (size_t)i, &cell, sizeof cell);
        }
    }
    return SHOAL_OK;
}

// Everything a step sends as one block; masks of several rows behind it.
static enum shoal_status pack(const struct sh_lowered *l, const struct kept *k, struct sh_slot *s,
                              const struct sh_step *step, const struct sh_tables *t,
                              const float *hidden, struct shoal_error *err)
{
    const struct sh_lower_layout *at = &k->layout;
    const size_t n = (size_t)step->n_rows;

    put(s->packed, at->tokens, s->tokens, 4 * n);
    for (size_t i = 0; i < n && at->pos != SIZE_MAX; i++)
        put(s->packed, at->pos + 4 * i, &s->pos[4 * i], 4);
    put(s->packed, at->out, s->out, 4 * (size_t)s->n_wanted);
    put(s->packed, at->hidden, hidden, 4 * n * (size_t)l->in.width);
    for (int g = 0; g < t->n_groups && n > 1; g++) {
        const size_t row = 2 * (size_t)k->shape.n_kv[g];
        if (!l->in.group[g]) continue;
        for (size_t i = 0; i < n; i++) {
            sh_lower_mask(t, g, &step->rows[i], l->groups[g].window, k->shape.n_kv[g],
                          (uint16_t *)(void *)(s->packed + at->mask[g] + i * row));
        }
    }
    return pack_cells(l, k, step, t, s->packed, err);
}

// Bring the device's one-row masks to what this row sees: only the range that differs is sent.
static enum shoal_status send_row_masks(struct sh_lowered *l, const struct kept *k,
                                        struct sh_slot *s, const struct sh_step *step,
                                        const struct sh_tables *t, struct shoal_error *err)
{
    size_t at = k->layout.bytes; // what is sent stays in the slot, behind the packed inputs

    for (int g = 0; g < t->n_groups; g++) {
        const int64_t all = l->in.pages[g] * SH_PAGE;
        int64_t a = 0, b = all;
        enum shoal_status st;
        if (!l->in.group[g]) continue;
        sh_lower_mask(t, g, &step->rows[0], l->groups[g].window, all, l->next[g]);
        if (l->row_known) {
            while (a < b && l->row[g][a] == l->next[g][a])
                a++;
            while (b > a && l->row[g][b - 1] == l->next[g][b - 1])
                b--;
        }
        if (a == b) continue;
        const size_t bytes = (size_t)(b - a) * sizeof(uint16_t);
        memcpy(l->row[g] + a, l->next[g] + a, bytes);
        memcpy(s->packed + at, l->next[g] + a, bytes);
        st =
            sh_queue_write(l->queue, l->buffers->buffer[l->in.masks_buffer],
                           k->layout.mask_row[g] + 2 * (size_t)a, s->packed + at, bytes, NULL, err);
        if (st) return st;
        at += bytes;
    }
    l->row_known = true;
    return SHOAL_OK;
}

static enum shoal_status read_output(struct sh_lowered *l, struct kept *k, struct sh_slot *s,
                                     struct shoal_error *err)
{
    size_t bytes;

    if (k->output < 0) return SHOAL_OK;
    if (!sh_tensor_bytes(&k->graph.tensors[k->output], &bytes))
        return sh_fail(err, SHOAL_ERR_LIMIT, "stage: the size of the output overflows");
    return sh_queue_read_tensor(l->queue, k->exec, 0, k->output, 0, s->output, bytes, &s->ticket,
                                err);
}

enum shoal_status sh_lowered_submit(struct sh_lowered *l, struct sh_slot *s,
                                    const struct sh_step *step, const struct sh_tables *t,
                                    const float *hidden, struct shoal_error *err)
{
    struct sh_lower_shape shape;
    struct sh_extents e;
    struct kept *k = NULL;
    enum shoal_status st;

    if (step->n_rows == 0) return SHOAL_OK;
    if (step->n_embd > 0) {
        return sh_fail(err, SHOAL_ERR_UNSUPPORTED,
                       "stage: embedding rows need a device with shoal's ops");
    }
    sh_lower_shape_of(step, l->in.out ? s->n_wanted : 0, &l->in, t, &shape);
    if (!l->in.out) shape.o = 1; // no tensor has extent O
    st = get_kept(l, &shape, &k, err);
    if (!st) st = pack(l, k, s, step, t, hidden, err);
    if (!st && shape.t == 1) st = send_row_masks(l, k, s, step, t, err);
    if (!st) {
        st = sh_queue_write(l->queue, l->buffers->buffer[l->in.inputs_buffer], 0, s->packed,
                            k->layout.bytes, NULL, err);
    }
    e = k ? k->graph.max : (struct sh_extents){0};
    if (!st) st = sh_queue_submit(l->queue, k->exec, 0, &e, NULL, &s->run, err);
    s->ticket = s->run;
    if (!st) st = read_output(l, k, s, err);
    if (s->ticket) k->last = s->ticket;
    return st;
}
