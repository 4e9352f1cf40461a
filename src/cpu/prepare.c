/* cpu/prepare.c - from a validated graph to steps with kernels, places and work memory.
 *
 * Work memory:   | one place for quantised rows | a table per set of rope angles | transient |
 * The first two parts keep what a node derived from an operand for later nodes; the transient part
 * belongs to one node at a time.
 */
#include <string.h>

#include "base/mem.h"
#include "cpu/ops_priv.h"

#define TABLES_MAX 4 // sets of angles kept side by side; a model has one or two

/* Who derived what: state of the walk over the nodes. */
struct share {
    int32_t step; // that fills the place; -1: nobody yet
    struct sh_cpu_node node;
    unsigned operands; // of that node, as its op's row has them
    int32_t checked;   // steps before this one did not write on them
    size_t offset;
};

struct prep {
    const struct sh_cpu_device *d;
    struct sh_cpu_exec *x;
    const struct sh_graph *g;
    struct sh_cpu_buffer *const *buffers;
    struct share last;
    struct share tables[TABLES_MAX];
    int n_tables;
    size_t last_bytes, tables_bytes, transient_bytes;
};

static enum shoal_status no_memory(struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_NOMEM, "CPU: no memory to prepare a graph");
}

/* ---- places ---------------------------------------------------------------------------------*/

static void place_tensors(struct prep *p, const size_t *offsets)
{
    for (int32_t i = 0; i < p->g->n_tensors; i++) {
        const struct sh_tensor *t = sh_graph_tensor(p->g, i);
        const int32_t root = t->view_src >= 0 ? t->view_src : i;
        struct sh_cpu_place *at = &p->x->places[i];
        if (t->buffer >= 0) {
            uint8_t *data = p->buffers[t->buffer]->data;
            if (data) {
                at->data = data + t->offset;
            } else {
                at->offset = SIZE_MAX; // an import of nothing
            }
        } else if (offsets[root] != SIZE_MAX) {
            at->offset = offsets[root] + (t->view_src >= 0 ? t->view_offs : 0);
        } else {
            at->offset = SIZE_MAX; // an unused record of a foreign graph
        }
    }
}

static bool has_place(const struct prep *p, int32_t i)
{
    return p->x->places[i].data || p->x->places[i].offset != SIZE_MAX;
}

/* Plain elements are read through pointers to their type. */
static bool is_aligned(const struct prep *p, int32_t i)
{
    const struct sh_tensor *t = sh_graph_tensor(p->g, i);
    const struct sh_dtype_info *info = sh_dtype_info(t->dtype);
    const struct sh_cpu_place *at = &p->x->places[i];
    size_t bits = at->data ? (size_t)(uintptr_t)at->data : at->offset;

    if (info->block_len > 1) return true;
    for (int d = 0; d < SH_MAX_DIMS; d++) {
        if (t->ne[d] > 1) bits |= t->nb[d];
    }
    return bits % info->block_bytes == 0;
}

/* ---- steps ----------------------------------------------------------------------------------*/

static enum shoal_status refuse(const struct prep *p, int32_t node, enum shoal_status code,
                                const char *why, struct shoal_error *err)
{
    return sh_cpu_name_node(err, code, sh_graph_tensor(p->g, node), node, why);
}

static enum shoal_status check_operands(const struct prep *p, int32_t node, struct shoal_error *err)
{
    const struct sh_tensor *t = sh_graph_tensor(p->g, node);

    for (int s = -1; s < SH_MAX_SRC; s++) {
        const int32_t i = s < 0 ? node : t->src[s];
        if (i < 0) continue;
        if (!has_place(p, i)) {
            return refuse(p, node, SHOAL_ERR_FORMAT, "an operand has no memory", err);
        }
        if (!is_aligned(p, i)) {
            return refuse(p, node, SHOAL_ERR_UNSUPPORTED, "an operand is not aligned to its type",
                          err);
        }
    }
    return SHOAL_OK;
}

static void describe_node(const struct prep *p, int32_t node, struct sh_cpu_node *out)
{
    *out = (struct sh_cpu_node){.k = p->d->kernels,
                                .n_threads = sh_pool_threads(p->d->pool),
                                .t = sh_graph_tensor(p->g, node)};
    for (int s = 0; s < SH_MAX_SRC; s++) {
        if (out->t->src[s] >= 0) out->src[s] = sh_graph_tensor(p->g, out->t->src[s]);
    }
}

/* ---- what nodes share -----------------------------------------------------------------------*/

/* Does step i write on the memory of tensor `operand`? */
static bool overwrites(const struct prep *p, int32_t i, int32_t operand)
{
    const int32_t node = p->x->steps[i].node;
    const struct sh_cpu_place *a = &p->x->places[node], *b = &p->x->places[operand];
    size_t a_bytes = 0, b_bytes = 0;

    if ((a->data == NULL) != (b->data == NULL)) return false;
    if (!sh_tensor_bytes(sh_graph_tensor(p->g, node), &a_bytes) ||
        !sh_tensor_bytes(sh_graph_tensor(p->g, operand), &b_bytes)) {
        return true;
    }
    if (a->data) return a->data < b->data + b_bytes && b->data < a->data + a_bytes;
    return a->offset < b->offset + b_bytes && b->offset < a->offset + a_bytes;
}

/* Does step i write on the memory of any of the operands that node's shared bytes come from? */
static bool overwrites_any(const struct prep *p, int32_t i, const struct sh_cpu_node *node,
                           unsigned operands)
{
    for (int k = 0; k < SH_MAX_SRC; k++) {
        const int32_t operand = node->t->src[k];
        if ((operands >> k & 1) && operand >= 0 && overwrites(p, i, operand)) return true;
    }
    return false;
}

/* Are the shared bytes of two nodes derived from the same tensors? */
static bool same_operands(const struct sh_cpu_node *a, const struct sh_cpu_node *b,
                          unsigned operands)
{
    for (int k = 0; k < SH_MAX_SRC; k++) {
        if ((operands >> k & 1) && a->t->src[k] != b->t->src[k]) return false;
    }
    return true;
}

/* Can step i use what `s` describes? */
static bool can_use(const struct prep *p, struct share *s, int32_t i,
                    const struct sh_cpu_node *node)
{
    const struct sh_cpu_op *op = p->x->steps[i].op;

    if (s->step < 0 || s->operands != op->share_operands) return false;
    if (!same_operands(&s->node, node, s->operands) || !op->shares(&s->node, node)) return false;
    for (; s->checked < i; s->checked++) {
        if (overwrites_any(p, s->checked, node, s->operands)) {
            s->step = -1;
            return false;
        }
    }
    return true;
}

static bool grow(size_t *total, size_t bytes, size_t *offset)
{
    *offset = *total;
    return sh_add_ok(*total, bytes, total);
}

/* Decide where step i finds or leaves its shared bytes; offsets are relative to their part. */
static enum shoal_status plan_share(struct prep *p, int32_t i, const struct sh_cpu_node *node,
                                    size_t bytes, struct shoal_error *err)
{
    struct sh_cpu_step *step = &p->x->steps[i];
    struct share fresh = {
        .step = i, .node = *node, .operands = step->op->share_operands, .checked = i};

    if (step->op->share == SH_CPU_SHARE_LAST) {
        if (bytes > p->last_bytes) p->last_bytes = bytes;
        if (can_use(p, &p->last, i, node)) {
            step->shared_from = p->last.step;
        } else {
            p->last = fresh;
        }
        return SHOAL_OK;
    }
    for (int t = 0; t < p->n_tables; t++) {
        if (!can_use(p, &p->tables[t], i, node)) continue;
        step->shared_from = p->tables[t].step;
        step->shared_offset = p->tables[t].offset;
        return SHOAL_OK;
    }
    if (!grow(&p->tables_bytes, bytes, &fresh.offset)) return sh_cpu_refuse_size(err);
    step->shared_offset = fresh.offset;
    if (p->n_tables < TABLES_MAX) p->tables[p->n_tables++] = fresh;
    return SHOAL_OK;
}

static enum shoal_status add_step(struct prep *p, int32_t node, struct shoal_error *err)
{
    struct sh_cpu_exec *x = p->x;
    struct shoal_error why = SHOAL_ERROR_INIT;
    struct sh_cpu_need need = {0, 0};
    struct sh_cpu_node n;
    enum shoal_status st;
    const int32_t i = x->n_steps;

    describe_node(p, node, &n);
    st = check_operands(p, node, err);
    if (st) return st;
    x->steps[i] = (struct sh_cpu_step){
        .node = node, .op = sh_cpu_op_of(n.t->op), .shared_from = i, .sum = -1};
    if (n.t->op == SH_OP_SHARD_SUM) x->steps[i].sum = n.t->params[6];
    if (x->steps[i].op->check) {
        st = x->steps[i].op->check(&n, &need, &why);
        if (st) return refuse(p, node, st, why.message, err);
    }
    if (need.work > p->transient_bytes) p->transient_bytes = need.work;
    if (x->steps[i].op->share != SH_CPU_SHARE_NONE) {
        st = plan_share(p, i, &n, need.shared, err);
        if (st) return st;
    }
    x->n_steps++;
    return SHOAL_OK;
}

static enum shoal_status plan_steps(struct prep *p, struct shoal_error *err)
{
    const struct sh_graph *g = p->g;
    enum shoal_status st = SHOAL_OK;

    for (int32_t i = 0; i < g->n_nodes && !st; i++) {
        const struct sh_tensor *t = sh_graph_tensor(g, g->nodes[i]);
        if (!(t->flags & SH_TENSOR_COMPUTE) || !sh_cpu_op_of(t->op)->run) continue;
        st = add_step(p, g->nodes[i], err);
    }
    return st;
}

/* Turn offsets inside the parts of the work memory into offsets from its start. */
static enum shoal_status lay_out_work(struct prep *p, struct shoal_error *err)
{
    struct sh_cpu_exec *x = p->x;

    if (!sh_add_ok(p->last_bytes, p->tables_bytes, &x->transient_offset) ||
        !sh_add_ok(x->transient_offset, p->transient_bytes, &x->work_bytes)) {
        return sh_cpu_refuse_size(err);
    }
    for (int32_t i = 0; i < x->n_steps; i++) {
        if (x->steps[i].op->share == SH_CPU_SHARE_TABLE) x->steps[i].shared_offset += p->last_bytes;
    }
    return SHOAL_OK;
}

/* How many shards must take part: the most that a sum names. */
static int count_shards(const struct sh_graph *g)
{
    struct sh_sum_operand o;
    int n = 1;

    for (int32_t i = 0; i < g->n_nodes; i++) {
        const struct sh_tensor *t = sh_graph_tensor(g, g->nodes[i]);
        if (t->op != SH_OP_SHARD_SUM || !sh_sum_operand_unpack(t->params, &o)) continue;
        if (o.n_shards > n) n = o.n_shards;
    }
    return n;
}

/* ---- memory ---------------------------------------------------------------------------------*/

static enum shoal_status take_memory(struct sh_cpu_device *d, struct sh_cpu_exec *x,
                                     struct shoal_error *err)
{
    enum shoal_status st;

    for (int s = 0; s < x->n_slots; s++) {
        st = sh_cpu_memory_take(d, &x->slots[s], x->slot_bytes, "scratch of a graph", err);
        if (st) return st;
    }
    return sh_cpu_memory_take(d, &x->work, x->work_bytes, "work memory of a graph", err);
}

/* The buffers that need attention after a run. */
static enum shoal_status list_buffers(struct prep *p, int32_t n_buffers, struct shoal_error *err)
{
    struct sh_cpu_exec *x = p->x;

    x->imports = sh_calloc((size_t)n_buffers, sizeof *x->imports);
    x->caches = sh_calloc((size_t)n_buffers, sizeof *x->caches);
    if (!x->imports || !x->caches) return no_memory(err);
    for (int32_t i = 0; i < n_buffers; i++) {
        if (p->buffers[i]->imported) x->imports[x->n_imports++] = p->buffers[i];
        if (p->buffers[i]->pages.n_windows > 0) x->caches[x->n_caches++] = p->buffers[i];
    }
    return SHOAL_OK;
}

static enum shoal_status validate(const struct sh_graph *g, struct sh_cpu_buffer *const *buffers,
                                  int32_t n_buffers, struct shoal_error *err)
{
    struct sh_buffer_bounds *bounds = sh_calloc((size_t)n_buffers, sizeof *bounds);
    enum shoal_status st;

    if (!bounds) return no_memory(err);
    for (int32_t i = 0; i < n_buffers; i++)
        bounds[i] = (struct sh_buffer_bounds){.bytes = buffers[i]->head.bytes,
                                              .read_only = buffers[i]->imported};
    st = sh_graph_validate(g, bounds, n_buffers, true, err);
    sh_free(bounds);
    return st;
}

static enum shoal_status fill_in(struct prep *p, int32_t n_buffers, struct shoal_error *err)
{
    struct sh_cpu_exec *x = p->x;
    const size_t n = (size_t)p->g->n_tensors;
    size_t *offsets = sh_calloc(n, sizeof *offsets);
    enum shoal_status st = SHOAL_OK;

    x->places = sh_calloc(n, sizeof *x->places);
    x->steps = sh_calloc((size_t)p->g->n_nodes, sizeof *x->steps);
    x->slots = sh_calloc((size_t)x->n_slots, sizeof *x->slots);
    if (!offsets || !x->places || !x->steps || !x->slots) st = no_memory(err);
    if (!st) st = list_buffers(p, n_buffers, err);
    if (!st) st = sh_graph_plan_scratch(p->g, SH_MEM_ALIGN, offsets, &x->slot_bytes, err);
    if (!st) {
        place_tensors(p, offsets);
        st = plan_steps(p, err);
    }
    if (!st) st = lay_out_work(p, err);
    sh_free(offsets);
    return st;
}

enum shoal_status sh_cpu_prepare(struct sh_device *dev, struct sh_exec **out,
                                 const struct sh_graph *g, struct sh_buffer *const *buffers,
                                 int32_t n_buffers, int n_slots, struct shoal_error *err)
{
    struct sh_cpu_device *d = sh_cpu_device_of(dev);
    struct prep p = {.d = d,
                     .g = g,
                     .buffers = (struct sh_cpu_buffer *const *)(const void *)buffers,
                     .last = {.step = -1}};
    struct sh_cpu_exec *x = NULL;
    enum shoal_status st;

    st = validate(g, p.buffers, n_buffers, err);
    if (st) return st;
    x = sh_calloc(1, sizeof *x);
    if (!x) return no_memory(err);
    x->head.device = dev;
    x->g = g;
    x->n_slots = n_slots;
    x->n_shards = count_shards(g);
    p.x = x;
    st = fill_in(&p, n_buffers, err);
    if (st) goto done;
    st = take_memory(d, x, err);
    if (st) goto done;
    *out = (struct sh_exec *)(void *)x;
    x = NULL;

done:
    if (x) sh_cpu_exec_release((struct sh_exec *)(void *)x);
    return st;
}

void sh_cpu_exec_release(struct sh_exec *exec)
{
    struct sh_cpu_exec *x = sh_cpu_exec_of(exec);
    struct sh_cpu_device *d = sh_cpu_device_of(x->head.device);

    for (int s = 0; x->slots && s < x->n_slots; s++) {
        if (x->slots[s]) sh_cpu_memory_give(d, x->slots[s], x->slot_bytes);
    }
    if (x->work) sh_cpu_memory_give(d, x->work, x->work_bytes);
    sh_free(x->imports);
    sh_free(x->caches);
    sh_free(x->slots);
    sh_free(x->steps);
    sh_free(x->places);
    sh_free(x);
}

/* None of this can overflow: it is all allocated. */
size_t sh_cpu_exec_bytes(const struct sh_exec *exec)
{
    const struct sh_cpu_exec *x = (const struct sh_cpu_exec *)(const void *)exec;

    return sizeof *x + (size_t)x->g->n_tensors * sizeof *x->places +
           (size_t)x->g->n_nodes * sizeof *x->steps +
           2 * (size_t)x->g->n_buffers * sizeof *x->imports +
           (size_t)x->n_slots * (sizeof *x->slots + x->slot_bytes) + x->work_bytes;
}
