/* stage/stage.c - see stage.h.  Order of a step on the device's queue:
 *
 *   page copies and key rotations of the prelude | changed table entries | inputs | run | output
 *
 * The tables' mirror changes when a step is submitted, whether it then runs or fails.  After a
 * failure the queue is reset and the whole mirror is sent again with the next step.
 */
#include "stage/stage.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "stage/lowered.h"
#include "stage/memory.h"
#include "stage/slot.h"
#include "stage/tables.h"

struct sh_stage {
    struct sh_stage_desc desc;
    struct sh_device_info info;
    struct sh_graph graph, rotate;
    bool has_rotate;
    int32_t output;                    /* tensor number of graph */
    int32_t input[SH_INPUT_COUNT];     /* tensor numbers, -1 */
    int32_t pages_input;               /* of rotate */
    int rotate_group;                  /* whose keys it turns */
    int32_t table_leaf[SH_GROUPS_MAX]; /* -1: the graph has none */
    int64_t width;                     /* of the output's rows */
    struct sh_queue *queue;
    struct sh_stage_buffers buffers;
    struct sh_exec *exec, *rotate_exec;
    struct sh_lowered *lowered; /* instead of exec */
    struct sh_tables tables;
    struct sh_mutex lock; /* what cancel() reads: number, ticket, busy and finished of slots */
    struct sh_slot *slots;
    int oldest, n_in_flight;
    uint64_t next_number;
    struct sh_collective collective; /* ops NULL: not a shard */
    uint64_t n_runs;                 /* over all epochs; the same on all shards */
    struct sh_candidate *work;       /* [n_vocab] */
};

/* ---- making --------------------------------------------------------------------------------- */

/* Leaves of KV memory belong to groups that the stage has.  Graphs may come from a peer. */
static enum shoal_status check_groups(const struct sh_stage *s, const struct sh_graph *g,
                                      struct shoal_error *err)
{
    const int n = s->desc.limits.n_groups < SH_GROUPS_MAX ? s->desc.limits.n_groups : SH_GROUPS_MAX;

    for (int32_t i = 0; i < g->n_leaves; i++) {
        const struct sh_leaf *l = &g->leaves[i];
        const bool grouped = l->kind == SH_LEAF_CACHE_K || l->kind == SH_LEAF_CACHE_V ||
                             l->kind == SH_LEAF_TABLE || l->kind == SH_LEAF_STATE;
        if (grouped && (l->group < 0 || l->group >= n)) {
            return sh_fail(err, SHOAL_ERR_ARG, "stage: leaf %d is of group %d of %d", (int)i,
                           l->group, n);
        }
    }
    return SHOAL_OK;
}

/* Rows of f32, one per row of the step or per wanted one. */
static enum shoal_status check_output(const struct sh_stage *s, int32_t number,
                                      struct shoal_error *err)
{
    const struct sh_tensor *t = &s->graph.tensors[number];

    if (s->output >= 0) {
        return sh_fail(err, SHOAL_ERR_ARG, "stage: tensors %d and %d are both the output",
                       (int)s->output, (int)number);
    }
    if (t->dtype != SH_DTYPE_F32 || t->extent_dim != 1 ||
        t->extent != (s->desc.last ? SH_EXTENT_O : SH_EXTENT_T)) {
        return sh_fail(err, SHOAL_ERR_ARG, "stage: the output, tensor %d, is no rows of f32",
                       (int)number);
    }
    return SHOAL_OK;
}

static enum shoal_status find_roles(struct sh_stage *s, struct shoal_error *err)
{
    enum shoal_status st = check_groups(s, &s->graph, err);

    if (!st) st = check_groups(s, &s->rotate, err);
    s->output = s->pages_input = s->rotate_group = -1;
    for (int i = 0; i < SH_INPUT_COUNT; i++)
        s->input[i] = -1;
    for (int i = 0; i < SH_GROUPS_MAX; i++)
        s->table_leaf[i] = -1;
    for (int32_t i = 0; i < s->graph.n_tensors && !st; i++) {
        const struct sh_tensor *t = &s->graph.tensors[i];
        const struct sh_leaf *l = t->leaf < 0 ? NULL : &s->graph.leaves[t->leaf];
        if (t->flags & SH_TENSOR_OUTPUT) {
            st = check_output(s, i, err);
            s->output = i;
        }
        if (l && l->kind == SH_LEAF_INPUT) s->input[l->input] = i;
        if (l && l->kind == SH_LEAF_TABLE) {
            if (s->table_leaf[l->group] >= 0) {
                return sh_fail(err, SHOAL_ERR_ARG, "stage: group %d has two tables", l->group);
            }
            s->table_leaf[l->group] = i;
        }
    }
    if (st) return st;
    for (int32_t i = 0; i < s->rotate.n_tensors; i++) {
        const struct sh_tensor *t = &s->rotate.tensors[i];
        const struct sh_leaf *l = t->leaf < 0 ? NULL : &s->rotate.leaves[t->leaf];
        if (l && l->kind == SH_LEAF_INPUT) s->pages_input = i;
        if (!l || l->kind != SH_LEAF_CACHE_K) continue;
        if (s->rotate_group >= 0 && s->rotate_group != l->group)
            return sh_fail(err, SHOAL_ERR_ARG, "stage: the keys of two groups in one rotation");
        s->rotate_group = l->group;
    }
    if (s->output < 0) return sh_fail(err, SHOAL_ERR_ARG, "stage: the graph has no output");
    s->width = s->graph.tensors[s->output].ne[0];
    return SHOAL_OK;
}

static enum shoal_status prepare(struct sh_stage *s, struct shoal_error *err)
{
    const struct sh_stage_desc *d = &s->desc;
    enum shoal_status st;

    if (!s->info.shoal_ops) {
        return sh_lowered_create(&s->lowered, d->device, s->queue, &s->graph, &s->buffers,
                                 &d->limits, d->groups, err);
    }
    s->graph.n_buffers = s->buffers.n;
    st = sh_exec_prepare(d->device, &s->exec, &s->graph, s->buffers.buffer, s->buffers.n,
                         d->n_slots, err);
    if (st || !s->has_rotate) return st;
    st = sh_stage_share_leaves(&s->graph, &s->rotate, err);
    s->rotate.n_buffers = s->buffers.n;
    if (!st) {
        st = sh_exec_prepare(d->device, &s->rotate_exec, &s->rotate, s->buffers.buffer,
                             s->buffers.n, 1, err);
    }
    return st;
}

static enum shoal_status make_slots(struct sh_stage *s, struct shoal_error *err)
{
    const struct sh_step_limits *l = &s->desc.limits;
    const int64_t rows = s->desc.last ? l->wanted_max : l->rows_max;
    const struct sh_slot_sizes z = {.limits = l,
                                    .last = s->desc.last,
                                    .output_floats = rows * s->width,
                                    .packed_bytes =
                                        s->lowered ? sh_lowered_packed_bytes(s->lowered) : 0};
    enum shoal_status st = SHOAL_OK;

    s->slots = sh_calloc((size_t)s->desc.n_slots, sizeof *s->slots);
    if (!s->slots) return sh_fail(err, SHOAL_ERR_NOMEM, "stage: no memory for slots");
    for (int i = 0; i < s->desc.n_slots && !st; i++)
        st = sh_slot_init(&s->slots[i], &z, err);
    if (!st && s->desc.last && !(s->work = sh_calloc((size_t)s->width, sizeof *s->work)))
        st = sh_fail(err, SHOAL_ERR_NOMEM, "stage: no memory for %lld candidates",
                     (long long)s->width);
    return st;
}

enum shoal_status sh_stage_create(struct sh_stage **out, const struct sh_stage_desc *desc,
                                  const struct sh_weight_source *weights, struct shoal_error *err)
{
    struct sh_stage *s;
    enum shoal_status st;

    *out = NULL;
    s = sh_calloc(1, sizeof *s);
    if (!s) return sh_fail(err, SHOAL_ERR_NOMEM, "stage: no memory for a stage");
    sh_mutex_init(&s->lock);
    s->desc = *desc;
    s->graph = *desc->graph; // moved in
    *desc->graph = (struct sh_graph){0};
    if (desc->rotate) {
        s->rotate = *desc->rotate;
        *desc->rotate = (struct sh_graph){0};
        s->has_rotate = s->rotate.n_nodes > 0;
    }
    s->desc.graph = s->desc.rotate = NULL;
    if (desc->collective) s->collective = *desc->collective;
    s->desc.collective = NULL;
    st = find_roles(s, err);
    if (!st) st = sh_device_info(desc->device, &s->info, err);
    if (!st) st = sh_queue_create(desc->device, &s->queue, err);
    if (!st) st = sh_tables_init(&s->tables, &desc->limits, err);
    if (!st) {
        st = sh_stage_place(&s->buffers, &s->graph, desc->device, s->queue, weights, err);
    }
    if (!st) st = prepare(s, err);
    if (!st) st = make_slots(s, err);
    if (st) goto done;
    *out = s;
    s = NULL;

done:
    sh_stage_destroy(s);
    return st;
}

void sh_stage_destroy(struct sh_stage *s)
{
    if (!s) return;
    if (s->queue) sh_queue_quiesce(s->queue);
    sh_lowered_destroy(s->lowered);
    sh_exec_release(s->exec);
    sh_exec_release(s->rotate_exec);
    sh_queue_destroy(s->queue);
    sh_stage_buffers_release(&s->buffers);
    for (int i = 0; i < s->desc.n_slots && s->slots; i++)
        sh_slot_release(&s->slots[i]);
    sh_free(s->slots);
    sh_free(s->work);
    sh_tables_release(&s->tables);
    sh_graph_release(&s->graph);
    sh_graph_release(&s->rotate);
    sh_mutex_release(&s->lock);
    sh_free(s);
}

void sh_stage_memory(const struct sh_stage *s, struct sh_stage_memory *out)
{
    *out = s->buffers.bytes;
    if (s->exec) out->scratch += sh_exec_bytes(s->exec);
    if (s->rotate_exec) out->scratch += sh_exec_bytes(s->rotate_exec);
}

void sh_stage_traffic(const struct sh_stage *s, struct sh_device_traffic *out)
{
    sh_device_traffic(s->desc.device, out);
}

int64_t sh_stage_input_width(const struct sh_stage *s, enum sh_input which)
{
    return s->input[which] < 0 ? 0 : s->graph.tensors[s->input[which]].ne[0];
}

/* ---- the prelude ---------------------------------------------------------------------------- */

// Copy cells of one page to another, in every cache of the group.
static enum shoal_status copy_cells(struct sh_stage *s, const struct sh_prelude *e,
                                    struct shoal_error *err)
{
    for (int32_t i = 0; i < s->graph.n_tensors; i++) {
        const struct sh_tensor *t = &s->graph.tensors[i];
        const struct sh_leaf *l = t->leaf < 0 ? NULL : &s->graph.leaves[t->leaf];
        enum shoal_status st;
        if (!l || l->group != e->group || e->end == e->begin) continue;
        if (l->kind != SH_LEAF_CACHE_K && l->kind != SH_LEAF_CACHE_V) continue;
        struct sh_buffer *b = s->buffers.buffer[t->buffer];
        const size_t cell = (size_t)e->begin * t->nb[1];
        st = sh_queue_copy(s->queue, b, t->offset + (size_t)e->page * t->nb[2] + cell, b,
                           t->offset + (size_t)e->page_from * t->nb[2] + cell,
                           (size_t)(e->end - e->begin) * t->nb[1], NULL, err);
        if (st) return st;
    }
    return SHOAL_OK;
}

// Rotate the keys of the pages that a SHIFT moved.
static enum shoal_status rotate_pages(struct sh_stage *s, struct sh_slot *slot, int64_t n,
                                      int64_t delta, struct shoal_error *err)
{
    const struct sh_extents e = {.r = n};
    enum shoal_status st;
    sh_ticket ticket;

    if (n == 0 || s->pages_input < 0) return SHOAL_OK;
    for (int64_t i = n - 1; i >= 0; i--) {
        slot->pages[2 * i] = slot->pages[i];
        slot->pages[2 * i + 1] = (int32_t)delta;
    }
    st = sh_queue_write_tensor(s->queue, s->rotate_exec, 0, s->pages_input, 0, slot->pages,
                               (size_t)n * 2 * sizeof(int32_t), NULL, err);
    if (!st) st = sh_queue_submit(s->queue, s->rotate_exec, 0, &e, NULL, &ticket, err);
    // The list is the slot's: it must be read before a second edit of this step reuses it.
    if (!st) st = sh_queue_wait(s->queue, ticket, 600 * SH_SECOND, err);
    return st;
}

static enum shoal_status apply_edit(struct sh_stage *s, struct sh_slot *slot,
                                    const struct sh_prelude *e, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    if (e->kind == SH_PRELUDE_COPY) return copy_cells(s, e, err);
    if (e->kind == SH_PRELUDE_SHIFT && s->has_rotate && !s->rotate_exec) {
        st = sh_fail(err, SHOAL_ERR_UNSUPPORTED,
                     "stage: %s cannot shift a context: it lacks shoal's ops", s->info.name);
    }
    for (int g = 0; g < s->tables.n_groups; g++) {
        const int64_t n = sh_tables_apply(&s->tables, e, g, slot->pages);
        if (!st && e->kind == SH_PRELUDE_SHIFT && s->rotate_exec && g == s->rotate_group)
            st = rotate_pages(s, slot, n, e->delta, err);
    }
    return st;
}

static enum shoal_status send_tables(struct sh_stage *s, struct sh_slot *slot,
                                     struct shoal_error *err)
{
    for (int g = 0; g < s->tables.n_groups; g++) {
        struct sh_table *tb = &s->tables.group[g];
        const size_t n = tb->dirty1 > tb->dirty0 ? (size_t)(tb->dirty1 - tb->dirty0) : 0;
        if (n > 0 && s->table_leaf[g] >= 0) {
            const struct sh_tensor *t = &s->graph.tensors[s->table_leaf[g]];
            enum shoal_status st;
            memcpy(slot->table[g], tb->page + tb->dirty0, n * sizeof(int32_t));
            st = sh_queue_write(s->queue, s->buffers.buffer[t->buffer],
                                t->offset + (size_t)tb->dirty0 * sizeof(int32_t), slot->table[g],
                                n * sizeof(int32_t), NULL, err);
            if (st) return st;
        }
        tb->dirty0 = tb->dirty1 = 0;
    }
    return SHOAL_OK;
}

/* ---- running -------------------------------------------------------------------------------- */

static enum shoal_status write_input(struct sh_stage *s, int index, enum sh_input which,
                                     const void *src, size_t bytes, struct shoal_error *err)
{
    if (s->input[which] < 0 || bytes == 0) return SHOAL_OK;
    return sh_queue_write_tensor(s->queue, s->exec, index, s->input[which], 0, src, bytes, NULL,
                                 err);
}

static enum shoal_status run_here(struct sh_stage *s, int index, const struct sh_step *step,
                                  const float *hidden, struct shoal_error *err)
{
    struct sh_slot *slot = &s->slots[index];
    const struct sh_extents e = {step->n_rows, slot->n_wanted, step->n_seqs};
    const size_t t = (size_t)step->n_rows, i32 = sizeof(int32_t);
    const size_t rows_out = s->desc.last ? (size_t)slot->n_wanted : t;
    enum shoal_status st;

    st = send_tables(s, slot, err);
    if (!st) st = write_input(s, index, SH_INPUT_TOKENS, slot->tokens, t * i32, err);
    if (!st) st = write_input(s, index, SH_INPUT_POS, slot->pos, 4 * t * i32, err);
    if (!st) st = write_input(s, index, SH_INPUT_ROWS, slot->rows, 4 * t * i32, err);
    if (!st) st = write_input(s, index, SH_INPUT_OUT, slot->out, (size_t)slot->n_wanted * i32, err);
    if (!st) {
        st = write_input(s, index, SH_INPUT_STATES, slot->states, 4 * (size_t)step->n_seqs * i32,
                         err);
    }
    if (!st && s->input[SH_INPUT_EMBD] >= 0) {
        const size_t width = (size_t)s->graph.tensors[s->input[SH_INPUT_EMBD]].ne[0];
        st = write_input(s, index, SH_INPUT_EMBD, step->embd,
                         (size_t)step->n_embd * width * sizeof(float), err);
    }
    if (!st && s->input[SH_INPUT_HIDDEN] >= 0) {
        const size_t width = (size_t)s->graph.tensors[s->input[SH_INPUT_HIDDEN]].ne[0];
        st = write_input(s, index, SH_INPUT_HIDDEN, hidden, t * width * sizeof(float), err);
    }
    slot->collective = s->collective;
    slot->collective.step = s->n_runs++;
    if (!st) {
        st = sh_queue_submit(s->queue, s->exec, index, &e,
                             s->collective.ops ? &slot->collective : NULL, &slot->run, err);
    }
    slot->ticket = slot->run;
    if (!st && rows_out > 0) {
        st = sh_queue_read_tensor(s->queue, s->exec, index, s->output, 0, slot->output,
                                  rows_out * (size_t)s->width * sizeof(float), &slot->ticket, err);
    }
    return st;
}

enum shoal_status sh_stage_submit(struct sh_stage *s, const struct sh_step *step,
                                  const float *hidden, struct shoal_error *err)
{
    const int index = (s->oldest + s->n_in_flight) % s->desc.n_slots;
    struct sh_slot *slot = &s->slots[index];
    struct shoal_error local = SHOAL_ERROR_INIT;
    enum shoal_status st;
    bool busy;

    sh_mutex_lock(&s->lock);
    busy = slot->busy;
    sh_mutex_unlock(&s->lock);
    if (s->n_in_flight == s->desc.n_slots || busy) {
        return sh_fail(err, SHOAL_ERR_STATE, "stage: %d steps are in flight already",
                       s->n_in_flight);
    }
    st = sh_step_check(step, &s->desc.limits, err);
    if (st) return st;
    if (step->number != s->next_number) {
        return sh_fail(err, SHOAL_ERR_STATE, "stage: step %llu comes when step %llu is due",
                       (unsigned long long)step->number, (unsigned long long)s->next_number);
    }
    s->next_number++;
    slot->step = step;
    slot->ticket = slot->run = 0;
    slot->start_ns = sh_now_ns(&sh_clock_system);
    sh_slot_fill(slot, step);
    for (int32_t i = 0; i < step->n_prelude; i++) {
        const enum shoal_status one = apply_edit(s, slot, &step->prelude[i], st ? NULL : &local);
        if (one && !st) st = one;
    }
    if (!st) {
        st = s->lowered ? sh_lowered_submit(s->lowered, slot, step, &s->tables, hidden, &local)
                        : run_here(s, index, step, hidden, &local);
    }
    slot->refused = st; // reported with the result, so that results stay in order
    slot->error = local;
    sh_mutex_lock(&s->lock);
    slot->number = step->number;
    slot->busy = true;
    slot->finished = false;
    sh_mutex_unlock(&s->lock);
    s->n_in_flight++;
    return SHOAL_OK;
}

// After a failure: the queue works again, and the device's tables are sent anew.
static void recover(struct sh_stage *s)
{
    sh_queue_reset(s->queue);
    sh_tables_all_dirty(&s->tables);
    if (s->lowered) sh_lowered_forget(s->lowered);
}

enum shoal_status sh_stage_skip(struct sh_stage *s, const struct sh_step *step,
                                struct shoal_error *err)
{
    struct sh_slot *slot = &s->slots[s->oldest];
    enum shoal_status st = sh_step_check(step, &s->desc.limits, err);

    if (!st && (s->n_in_flight > 0 || step->number != s->next_number)) {
        st = sh_fail(err, SHOAL_ERR_STATE, "stage: step %llu cannot be passed over now",
                     (unsigned long long)step->number);
    }
    if (st) return st;
    s->next_number++;
    for (int32_t i = 0; i < step->n_prelude; i++) {
        const enum shoal_status one = apply_edit(s, slot, &step->prelude[i], st ? NULL : err);
        if (one && !st) st = one;
    }
    if (st) recover(s);
    return st;
}

// A failure of the queue takes every later step in flight with it; a cancelled one takes none.
static void fail_later(struct sh_stage *s, enum shoal_status st)
{
    if (st == SHOAL_ERR_CANCELLED) return;
    for (int i = 1; i < s->n_in_flight; i++) {
        struct sh_slot *slot = &s->slots[(s->oldest + i) % s->desc.n_slots];
        if (slot->refused) continue;
        slot->refused = sh_fail(&slot->error, SHOAL_ERR_POISONED,
                                "stage: an earlier step of %s failed", s->info.name);
    }
}

// The last operation first, since its end proves the run's; then the run's own ticket, which alone
// tells that it was cancelled.
static enum shoal_status wait_slot(struct sh_stage *s, const struct sh_slot *slot,
                                   int64_t timeout_ns, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    if (slot->ticket) st = sh_queue_wait(s->queue, slot->ticket, timeout_ns, err);
    if (!st && slot->run && slot->run != slot->ticket)
        st = sh_queue_wait(s->queue, slot->run, timeout_ns, err);
    return st;
}

enum shoal_status sh_stage_result(struct sh_stage *s, int64_t timeout_ns,
                                  struct sh_stage_output *out, struct shoal_error *err)
{
    struct sh_slot *slot = &s->slots[s->oldest];
    const int64_t since = sh_now_ns(&sh_clock_system);
    enum shoal_status st;

    *out = (struct sh_stage_output){0};
    if (s->n_in_flight == 0) return sh_fail(err, SHOAL_ERR_STATE, "stage: no step is in flight");
    st = slot->refused;
    if (st) {
        if (err) *err = slot->error;
    } else {
        st = wait_slot(s, slot, timeout_ns, err);
        // Before the time is over it is the device that gives up.
        if (st == SHOAL_ERR_TIMEOUT && timeout_ns != SH_NO_DEADLINE &&
            sh_now_ns(&sh_clock_system) - since >= timeout_ns) {
            return st;
        }
    }
    if (!st && s->desc.last) {
        st = sh_slot_results(slot, (int32_t)s->width, s->work, err);
        out->results = slot->results;
        out->n_results = slot->n_wanted;
    } else if (!st) {
        out->hidden = slot->output;
        out->width = s->width;
        out->n_rows = slot->step->n_rows;
    }
    if (st) {
        if (!slot->refused) fail_later(s, st);
        recover(s);
        out->results = NULL;
        out->n_results = 0;
    }
    out->number = slot->number;
    out->status = st;
    out->compute_ns = sh_now_ns(&sh_clock_system) - slot->start_ns;
    slot->step = NULL;
    s->oldest = (s->oldest + 1) % s->desc.n_slots;
    s->n_in_flight--;
    sh_mutex_lock(&s->lock);
    slot->finished = true;
    if (st) slot->busy = false;
    sh_mutex_unlock(&s->lock);
    return st;
}

void sh_stage_release_output(struct sh_stage *s, const struct sh_stage_output *out)
{
    sh_mutex_lock(&s->lock);
    for (int i = 0; i < s->desc.n_slots; i++) {
        struct sh_slot *slot = &s->slots[i];
        if (slot->busy && slot->finished && slot->number == out->number) slot->busy = false;
    }
    sh_mutex_unlock(&s->lock);
}

void sh_stage_cancel(struct sh_stage *s, uint64_t number)
{
    sh_mutex_lock(&s->lock);
    for (int i = 0; i < s->desc.n_slots; i++) {
        const struct sh_slot *slot = &s->slots[i];
        if (slot->busy && !slot->finished && slot->number == number && slot->run)
            sh_queue_cancel(s->queue, slot->run);
    }
    sh_mutex_unlock(&s->lock);
}

enum shoal_status sh_stage_reset(struct sh_stage *s, uint64_t epoch, struct shoal_error *err)
{
    (void)epoch;
    if (s->n_in_flight > 0) {
        return sh_fail(err, SHOAL_ERR_STATE,
                       "stage: %d steps are in flight, a new epoch needs none", s->n_in_flight);
    }
    recover(s);
    sh_tables_clear(&s->tables);
    s->next_number = 0;
    return SHOAL_OK;
}
