/* tests/generate/run.c - one run of a drawn graph; see run.h. */
#include "run.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cpu/device.h"
#include "kernels/kernels.h"

#define MEMORY_MAX ((size_t)64 << 20)
#define NOT_LONG (120 * SH_SECOND)

bool run_open(struct run_devices *all)
{
    const unsigned have = sh_isa_detect();
    unsigned tiers[4] = {0};
    int n_tiers = 1;

    memset(all, 0, sizeof *all);
    if (have & SH_ISA_AVX2) tiers[n_tiers++] = SH_ISA_AVX2;
    if (have & SH_ISA_AVX512) tiers[n_tiers++] = SH_ISA_AVX2 | SH_ISA_AVX512;
    if (have & SH_ISA_NEON) tiers[n_tiers++] = SH_ISA_NEON;
    for (int i = 0; i < 2 * n_tiers; i++) {
        const struct sh_cpu_options opt = {.n_threads = i % 2 ? 3 : 1,
                                           .set_isa = true,
                                           .isa = tiers[i / 2],
                                           .memory_max = MEMORY_MAX};
        if (sh_cpu_device_open(&all->at[i].d, &opt, NULL)) return false;
        all->at[i].isa = tiers[i / 2];
        all->at[i].n_threads = opt.n_threads;
        all->n++;
    }
    return true;
}

void run_close(struct run_devices *all)
{
    for (int i = 0; i < all->n; i++)
        sh_device_close(all->at[i].d);
    all->n = 0;
}

/* ---- one run --------------------------------------------------------------------------------*/

struct run {
    struct gen *g;
    struct run_way way;
    uint64_t data_seed;
    struct run_outcome *out;
    struct sh_queue *q;
    struct sh_exec *x;
    struct sh_buffer **buffers;
    uint8_t **imported; // memory behind the imports
    uint8_t **before;   // what it held before the run
};

static enum shoal_status open_buffers(struct run *r, struct sh_device *d)
{
    struct shoal_error *err = &r->out->err;

    for (int32_t i = 0; i < r->g->n_buffers; i++) {
        const size_t bytes = r->g->buffers[i].bytes;
        enum shoal_status st;
        if (r->g->buffers[i].import) {
            r->imported[i] = sh_malloc(bytes);
            st = sh_buffer_import(d, &r->buffers[i], r->imported[i], bytes, NULL, err);
        } else {
            st = sh_buffer_alloc(d, &r->buffers[i], bytes, SH_BUFFER_COMPUTE, err);
        }
        if (st) return st;
    }
    return SHOAL_OK;
}

static enum shoal_status wait(struct run *r, sh_ticket t)
{
    const enum shoal_status st = sh_queue_wait(r->q, t, NOT_LONG, &r->out->err);

    if (st == SHOAL_ERR_TIMEOUT) r->out->late = true;
    return st;
}

static enum shoal_status clear_buffers(struct run *r)
{
    enum shoal_status st = SHOAL_OK;
    sh_ticket t = 0;

    for (int32_t i = 0; i < r->g->n_buffers && !st; i++) {
        const size_t bytes = r->g->buffers[i].bytes;
        if (r->imported[i]) {
            memset(r->imported[i], r->way.filler, bytes);
        } else {
            st = sh_queue_fill(r->q, r->buffers[i], 0, r->way.filler, bytes, &t, &r->out->err);
            if (!st) st = wait(r, t);
        }
    }
    return st;
}

static bool in_scratch(const struct sh_tensor *t)
{
    return t->buffer < 0 && t->view_src < 0;
}

/* Bytes of a tensor wherever it lies. */
static enum shoal_status write_tensor(struct run *r, int32_t i, const uint8_t *bytes, size_t n)
{
    const struct sh_tensor *t = gen_at(r->g, i);
    enum shoal_status st = SHOAL_OK;
    sh_ticket ticket = 0;

    if (t->buffer >= 0 && r->imported[t->buffer]) {
        memcpy(r->imported[t->buffer] + t->offset, bytes, n);
        return SHOAL_OK;
    }
    if (t->buffer >= 0) {
        st =
            sh_queue_write(r->q, r->buffers[t->buffer], t->offset, bytes, n, &ticket, &r->out->err);
    } else {
        st = sh_queue_write_tensor(r->q, r->x, 0, i, 0, bytes, n, &ticket, &r->out->err);
        if (st == SHOAL_ERR_ARG) return SHOAL_OK; // a record that the device left out
    }
    return st ? st : wait(r, ticket);
}

static enum shoal_status write_leaves(struct run *r, uint64_t seed)
{
    enum shoal_status st = SHOAL_OK;

    for (int i = 0; i < r->g->n_leaves && !st; i++) {
        const struct gen_leaf *leaf = &r->g->leaves[i];
        size_t n = 0;
        uint8_t *bytes = gen_fill(r->g, leaf, seed);
        if (sh_tensor_bytes(gen_at(r->g, leaf->tensor), &n)) {
            st = write_tensor(r, leaf->tensor, bytes, n);
        }
        sh_free(bytes);
    }
    return st;
}

/* Leave something in scratch and work memory: garbage, then a run over other numbers. */
static enum shoal_status make_dirty(struct run *r)
{
    const struct sh_graph *q = &r->g->g;
    enum shoal_status st = SHOAL_OK;
    sh_ticket t = 0;

    for (int32_t i = 0; i < q->n_tensors && !st; i++) {
        size_t n = 0;
        uint8_t *bytes;
        if (!in_scratch(&q->tensors[i]) || !sh_tensor_bytes(&q->tensors[i], &n)) continue;
        if (n > MEMORY_MAX) continue;
        bytes = sh_malloc(n);
        memset(bytes, 0xff, n);
        st = write_tensor(r, i, bytes, n);
        sh_free(bytes);
    }
    if (!st) st = clear_buffers(r);
    if (!st) st = write_leaves(r, r->data_seed + 1);
    if (!st) st = sh_queue_submit(r->q, r->x, 0, &r->g->bound, NULL, &t, &r->out->err);
    if (st) return st;
    (void)wait(r, t); // other numbers may be out of range, or may not
    sh_queue_reset(r->q);
    return SHOAL_OK;
}

static enum shoal_status read_results(struct run *r)
{
    const struct sh_graph *q = &r->g->g;
    struct run_outcome *o = r->out;
    enum shoal_status st = SHOAL_OK;
    sh_ticket t = 0;

    for (int32_t i = 0; i < o->n_buffers && !st; i++) {
        const size_t bytes = r->g->buffers[i].bytes;
        o->buffers[i] = sh_malloc(bytes);
        if (r->imported[i]) {
            memcpy(o->buffers[i], r->imported[i], bytes);
            continue;
        }
        st = sh_queue_read(r->q, r->buffers[i], 0, o->buffers[i], bytes, &t, &o->err);
        if (!st) st = wait(r, t);
    }
    for (int32_t i = 0; i < o->n_tensors && !st; i++) {
        size_t n = 0;
        if (!in_scratch(&q->tensors[i]) || !(q->tensors[i].flags & SH_TENSOR_OUTPUT)) continue;
        if (!run_computes(r->g, i) || !sh_tensor_bytes(&q->tensors[i], &n)) continue;
        o->outputs[i] = sh_malloc(n);
        st = sh_queue_read_tensor(r->q, r->x, 0, i, 0, o->outputs[i], n, &t, &o->err);
        if (!st) st = wait(r, t);
    }
    return st;
}

/* Remember what the imports hold, or see whether it is still there. */
static void keep_imports(struct run *r)
{
    for (int32_t i = 0; i < r->g->n_buffers; i++) {
        const size_t bytes = r->g->buffers[i].bytes;
        if (!r->imported[i]) continue;
        r->before[i] = sh_malloc(bytes);
        memcpy(r->before[i], r->imported[i], bytes);
    }
}

static void check_imports(struct run *r)
{
    for (int32_t i = 0; i < r->g->n_buffers; i++) {
        const size_t bytes = r->g->buffers[i].bytes;
        if (r->before[i] && memcmp(r->before[i], r->imported[i], bytes) != 0) r->out->wrote = true;
    }
}

static enum shoal_status submit(struct run *r)
{
    sh_ticket t = 0;
    const enum shoal_status st =
        sh_queue_submit(r->q, r->x, 0, &r->g->bound, NULL, &t, &r->out->err);

    return st ? st : wait(r, t);
}

/* The nodes one after the other, as graphs of one node. */
static enum shoal_status run_steps(struct run *r, struct sh_device *d)
{
    struct sh_graph one = r->g->g;
    enum shoal_status st = SHOAL_OK;

    one.n_nodes = 1;
    for (int32_t n = 0; n < r->g->g.n_nodes && !st; n++) {
        one.nodes = &r->g->g.nodes[n];
        sh_exec_release(r->x);
        r->x = NULL;
        st = sh_exec_prepare(d, &r->x, &one, r->buffers, r->g->n_buffers, 1, &r->out->err);
        if (!st) st = submit(r);
    }
    return st;
}

static enum shoal_status carry_out(struct run *r, struct sh_device *d)
{
    struct run_outcome *o = r->out;
    struct gen *g = r->g;
    enum shoal_status st;

    st = sh_queue_create(d, &r->q, &o->err);
    if (!st) st = open_buffers(r, d);
    if (!st) st = sh_exec_prepare(d, &r->x, &g->g, r->buffers, g->n_buffers, 1, &o->err);
    if (st) return st;
    o->prepared = true;
    if (r->way.dirty) st = make_dirty(r);
    if (!st) st = clear_buffers(r);
    if (!st) st = write_leaves(r, r->data_seed);
    if (st) return st;
    keep_imports(r);
    st = r->way.stepwise ? run_steps(r, d) : submit(r);
    check_imports(r);
    return st ? st : read_results(r);
}

void run_graph(struct gen *g, const struct run_devices *all, struct run_way way, uint64_t data_seed,
               struct run_outcome *out)
{
    struct run r = {.g = g, .way = way, .data_seed = data_seed, .out = out};

    memset(out, 0, sizeof *out);
    guard_set_side(way.side);
    guard_set_filler((uint8_t)~way.filler);
    out->n_buffers = g->n_buffers;
    out->n_tensors = g->g.n_tensors;
    out->buffers = sh_calloc((size_t)g->n_buffers, sizeof *out->buffers);
    out->outputs = sh_calloc((size_t)g->g.n_tensors, sizeof *out->outputs);
    r.buffers = sh_calloc((size_t)g->n_buffers, sizeof *r.buffers);
    r.imported = sh_calloc((size_t)g->n_buffers, sizeof *r.imported);
    r.before = sh_calloc((size_t)g->n_buffers, sizeof *r.before);
    SH_ASSERT(out->buffers && out->outputs && r.buffers && r.imported && r.before);
    out->st = carry_out(&r, all->at[way.device].d);
    sh_queue_destroy(r.q);
    sh_exec_release(r.x);
    for (int32_t i = 0; i < g->n_buffers; i++) {
        sh_buffer_free(r.buffers[i]);
        sh_free(r.imported[i]);
        sh_free(r.before[i]);
    }
    sh_free(r.before);
    sh_free(r.buffers);
    sh_free(r.imported);
}

void run_release(struct run_outcome *o)
{
    for (int32_t i = 0; o->buffers && i < o->n_buffers; i++)
        sh_free(o->buffers[i]);
    for (int32_t i = 0; o->outputs && i < o->n_tensors; i++)
        sh_free(o->outputs[i]);
    sh_free(o->buffers);
    sh_free(o->outputs);
    memset(o, 0, sizeof *o);
}

/* ---- comparing ------------------------------------------------------------------------------*/

const uint8_t *run_bytes(const struct gen *g, const struct run_outcome *o, int32_t tensor)
{
    const struct sh_tensor *t = gen_at(g, tensor);
    const int32_t root = t->view_src >= 0 ? t->view_src : tensor;

    if (t->buffer >= 0) return o->buffers[t->buffer] ? o->buffers[t->buffer] + t->offset : NULL;
    return o->outputs[root] ? o->outputs[root] + t->view_offs : NULL;
}

void run_extents(const struct gen *g, int32_t tensor, int64_t ne[SH_MAX_DIMS])
{
    const struct sh_tensor *t = gen_at(g, tensor);

    memcpy(ne, t->ne, sizeof t->ne);
    if (t->extent != SH_EXTENT_NONE)
        ne[t->extent_dim] = sh_extents_get(&g->bound, t->extent, ne[t->extent_dim]);
}

bool run_computes(const struct gen *g, int32_t tensor)
{
    const struct sh_tensor *t = gen_at(g, tensor);

    if (t->op == SH_OP_NONE || (unsigned)t->op >= SH_OP_COUNT) return false;
    if (!(t->flags & SH_TENSOR_COMPUTE) || (sh_op_info(t->op)->flags & SH_OPF_VIEW)) return false;
    for (int32_t n = 0; n < g->g.n_nodes; n++) {
        if (g->g.nodes[n] == tensor) return true;
    }
    return false;
}

static bool both_nan(enum sh_dtype type, const uint8_t *a, const uint8_t *b)
{
    uint32_t x = 0, y = 0;
    uint16_t h[2];

    switch (type) {
    case SH_DTYPE_F32:
        memcpy(&x, a, sizeof x);
        memcpy(&y, b, sizeof y);
        return (x & 0x7fffffffu) > 0x7f800000u && (y & 0x7fffffffu) > 0x7f800000u;
    case SH_DTYPE_F16:
        memcpy(&h[0], a, 2);
        memcpy(&h[1], b, 2);
        return (h[0] & 0x7fffu) > 0x7c00u && (h[1] & 0x7fffu) > 0x7c00u;
    case SH_DTYPE_BF16:
        memcpy(&h[0], a, 2);
        memcpy(&h[1], b, 2);
        return (h[0] & 0x7fffu) > 0x7f80u && (h[1] & 0x7fffu) > 0x7f80u;
    default:
        return false;
    }
}

static bool equal_tensor(const struct gen *g, const struct run_outcome *a, const struct gen *h,
                         const struct run_outcome *b, int32_t i, char *why, size_t size)
{
    const struct sh_tensor *t = gen_at(g, i);
    const struct sh_dtype_info *info = sh_dtype_info(t->dtype);
    const uint8_t *x = run_bytes(g, a, i), *y = run_bytes(h, b, i);
    int64_t ne[SH_MAX_DIMS], n = 1;

    if (!x || !y) return true;
    run_extents(g, i, ne);
    ne[0] /= info->block_len;
    for (int d = 0; d < SH_MAX_DIMS; d++)
        n *= ne[d];
    for (int64_t e = 0; e < n; e++) {
        size_t at = 0;
        int64_t rest = e;
        for (int d = 0; d < SH_MAX_DIMS; d++) {
            at += (size_t)(rest % ne[d]) * t->nb[d];
            rest /= ne[d];
        }
        if (memcmp(x + at, y + at, info->block_bytes) == 0) continue;
        if (both_nan(t->dtype, x + at, y + at)) continue;
        (void)snprintf(why, size, "tensor #%d (%s), element %lld of [%lld,%lld,%lld,%lld] differs",
                       (int)i, sh_op_info(t->op)->name, (long long)e, (long long)ne[0],
                       (long long)ne[1], (long long)ne[2], (long long)ne[3]);
        return false;
    }
    return true;
}

bool run_equal(const struct gen *g, const struct run_outcome *a, const struct gen *h,
               const struct run_outcome *b, char *why, size_t size)
{
    for (int32_t i = 0; i < g->g.n_tensors; i++) {
        if (run_computes(g, i) && !equal_tensor(g, a, h, b, i, why, size)) return false;
    }
    return true;
}

bool run_equal_buffers(const struct gen *g, const struct run_outcome *a,
                       const struct run_outcome *b, char *why, size_t size)
{
    for (int32_t i = 0; i < g->n_buffers; i++) {
        for (size_t at = 0; at < g->buffers[i].bytes; at++) {
            if (a->buffers[i][at] == b->buffers[i][at]) continue;
            (void)snprintf(why, size, "byte %zu of buffer %d differs", at, (int)i);
            return false;
        }
    }
    return true;
}
