/* tests/generate/gen.c - drawing a graph, and where its tensors lie. */
#include "gen.h"

#include <string.h>

#include "base/mem.h"

static gen_maker *const MAKERS[SH_OP_COUNT] = {
#define X(name, wire, lo, hi, flags, rule) [SH_OP_##name] = make_##name,
    SH_OPS(X)
#undef X
};

/* ---- random numbers -------------------------------------------------------------------------*/

uint64_t gen_next(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

int64_t gen_below(struct gen *g, int64_t n)
{
    return n < 1 ? 0 : (int64_t)(gen_next(&g->state) % (uint64_t)n);
}

bool gen_chance(struct gen *g, int percent)
{
    return gen_below(g, 100) < percent;
}

float gen_float(struct gen *g, float lo, float hi)
{
    return lo + (hi - lo) * (float)(gen_next(&g->state) >> 40) / 16777216.0f;
}

bool gen_bends(struct gen *g)
{
    return g->wild && gen_chance(g, 5);
}

/* ---- growing --------------------------------------------------------------------------------*/

/* The same node again, over what its second source holds then: what a device kept from the first
 * time must not be taken for it. */
static int32_t make_again(struct gen *g)
{
    const int32_t node = g->g.nodes[gen_below(g, g->g.n_nodes)];
    const struct sh_tensor old = g->g.tensors[node];
    const int32_t x = old.src[1];

    if (sh_op_info(old.op)->flags & (SH_OPF_VIEW | SH_OPF_WRITES)) return node;
    if (x >= 0 && gen_at(g, x)->dtype == SH_DTYPE_F32 && gen_chance(g, 60)) {
        const int32_t src[2] = {gen_source(g, SH_DTYPE_F32, gen_shape_of(g, x), false), x};
        (void)sh_op_node(&g->g, SH_OP_CPY, 2, src, NULL);
    }
    return sh_op_shaped(&g->g, old.op, sh_op_info(old.op)->n_src_max, old.src, old.params, &old);
}

/* Draw one node; what the builder refuses leaves no trace but a count. */
static void grow(struct gen *g)
{
    enum sh_op op = (enum sh_op)gen_below(g, SH_OP_COUNT);
    int32_t made;

    while (g->wire && sh_op_info(op)->wire < 0)
        op = (enum sh_op)gen_below(g, SH_OP_COUNT);
    if (g->g.n_nodes > 0 && gen_chance(g, 12)) {
        made = make_again(g);
        if (made >= 0) op = gen_at(g, made)->op;
    } else {
        made = MAKERS[op](g);
    }
    if (made >= 0 && !g->g.status) {
        g->counts[op].made++;
        return;
    }
    SH_ASSERT(g->g.status && g->g.error.message[0]); // a refusal says why
    g->counts[op].refused++;
    g->g.status = SHOAL_OK;
    g->g.error = (struct shoal_error)SHOAL_ERROR_INIT;
}

static int64_t draw_max(struct gen *g)
{
    return gen_chance(g, 10) ? 0 : 1 + gen_below(g, gen_chance(g, 20) ? 20 : 5);
}

void gen_graph(struct gen *g, uint64_t seed, bool wire, struct gen_op_count *counts)
{
    struct sh_extents max;
    int n;

    memset(g, 0, sizeof *g);
    g->state = seed;
    g->wire = wire;
    g->counts = counts;
    g->wild = gen_chance(g, 50);
    g->hot = gen_chance(g, 10);
    g->elements_max = gen_chance(g, 4) ? 60000 : 4096;
    g->places = (enum gen_places)gen_below(g, GEN_PLACES);
    if (wire && g->places == GEN_SCRATCH) g->places = GEN_OWN;
    g->n_seq = 1 + gen_below(g, 3);
    g->n_index = 1 + gen_below(g, 3);
    max = (struct sh_extents){draw_max(g), draw_max(g), draw_max(g)};
    g->bound = (struct sh_extents){gen_below(g, max.t + 1), gen_below(g, max.o + 1),
                                   gen_below(g, max.r + 1)};
    if (gen_chance(g, 50)) g->bound = max;
    sh_graph_init(&g->g, &max);
    n = 1 + (int)gen_below(g, g->elements_max > 4096 ? 3 : gen_chance(g, 60) ? 5 : 20);
    if (gen_chance(g, 40)) { // one op, and all of its memory at guard pages
        n = 1;
        if (gen_chance(g, 70)) g->places = GEN_OWN;
    }
    for (int i = 0; i < n && g->g.n_tensors < 200; i++)
        grow(g);
}

void gen_release(struct gen *g)
{
    sh_graph_release(&g->g);
}

/* ---- places ---------------------------------------------------------------------------------*/

/* Bytes that offsets of this type are multiples of. */
static size_t step_of(enum sh_dtype t)
{
    const size_t bytes = sh_dtype_info(t)->block_bytes, lowest = bytes & (~bytes + 1);

    return lowest < 8 ? lowest : 8;
}

static int32_t add_buffer(struct gen *g, size_t bytes, bool import)
{
    SH_ASSERT(g->n_buffers < GEN_BUFFERS_MAX);
    g->buffers[g->n_buffers].bytes = bytes;
    g->buffers[g->n_buffers].import = import;
    return g->n_buffers++;
}

/* Does any node write on the memory of root r? */
static bool is_written(const struct sh_graph *g, int32_t r)
{
    for (int32_t n = 0; n < g->n_nodes; n++) {
        const struct sh_tensor *t = &g->tensors[g->nodes[n]];
        const unsigned flags = sh_op_info(t->op)->flags;
        if ((flags & SH_OPF_WRITES) && (t->view_src == r || g->nodes[n] == r)) return true;
        if (!(flags & SH_OPF_STATE)) continue;
        for (int i = 0; i < SH_MAX_SRC; i++) {
            if (t->src[i] < 0) continue;
            if (t->src[i] == r || g->tensors[t->src[i]].view_src == r) return true;
        }
    }
    return false;
}

/* A buffer that ends (or, in the run with guards in front, begins) with the tensor. */
static void place_alone(struct gen *g, int32_t i)
{
    struct sh_tensor *t = &g->g.tensors[i];
    size_t bytes = 0, room;
    bool import;

    SH_ASSERT(sh_tensor_bytes(t, &bytes));
    room = (bytes + 63) / 64 * 64;
    if (gen_chance(g, 10)) room += 64;
    import = t->op == SH_OP_NONE && !g->wire && gen_chance(g, 30) &&
             (!is_written(&g->g, i) || gen_bends(g));
    t->buffer = add_buffer(g, room, import);
    t->offset = gen_chance(g, 70) ? (room - bytes) / step_of(t->dtype) * step_of(t->dtype) : 0;
}

/* Somewhere in buffers that all share. */
static void place_anywhere(struct gen *g, int32_t i)
{
    struct sh_tensor *t = &g->g.tensors[i];
    const size_t step = step_of(t->dtype);
    size_t bytes = 0;

    SH_ASSERT(sh_tensor_bytes(t, &bytes));
    t->buffer = (int32_t)gen_below(g, g->n_buffers);
    const size_t room = g->buffers[t->buffer].bytes;
    const size_t last = room > bytes ? room - bytes : 0; // too large: the validator's business
    t->offset = (size_t)gen_below(g, (int64_t)(last / step) + 1) * step;
    if (gen_chance(g, 20)) t->offset = last / step * step;
}

/* Let a result lie on its first source, or on another tensor of the same size. */
static void maybe_alias(struct gen *g, int32_t i)
{
    struct sh_tensor *t = &g->g.tensors[i];
    const int k = t->src[1] >= 0 && gen_chance(g, 20) ? 1 : 0;
    const struct sh_tensor *s;

    if (t->op == SH_OP_NONE || t->src[k] < 0 || t->src[k] >= i || g->places == GEN_SCRATCH) return;
    if (!(sh_op_info(t->op)->flags & SH_OPF_INPLACE) && !gen_bends(g)) return;
    s = &g->g.tensors[t->src[k]];
    if (!gen_chance(g, 25) || s->buffer < 0 || g->buffers[s->buffer].import) return;
    g->alias = true; // so not all results can be seen behind the run
    t->buffer = s->buffer;
    t->offset = s->offset;
    if (k == 0 && gen_chance(g, 50)) {
        t->view_src = s->view_src >= 0 ? s->view_src : t->src[0];
        t->view_offs = s->view_offs;
        memcpy(t->nb, s->nb, sizeof t->nb);
    }
}

void gen_place(struct gen *g)
{
    struct sh_graph *q = &g->g;
    size_t most = 0, bytes;

    for (int32_t i = 0; i < q->n_tensors; i++) {
        if (sh_tensor_bytes(&q->tensors[i], &bytes) && bytes > most) most = bytes;
    }
    if (g->places == GEN_SHARED) {
        for (int k = 0; k < 2; k++)
            add_buffer(g, (most * (size_t)(1 + gen_below(g, 8)) + 64) / 64 * 64, false);
    }
    for (int32_t i = 0; i < q->n_tensors; i++) {
        struct sh_tensor *t = &q->tensors[i];
        if (t->view_src >= 0) { // roots have smaller numbers
            t->buffer = q->tensors[t->view_src].buffer;
            t->offset = t->buffer >= 0 ? q->tensors[t->view_src].offset + t->view_offs : 0;
        } else if (g->places == GEN_OWN || (g->places == GEN_SCRATCH && gen_chance(g, 20))) {
            place_alone(g, i);
            maybe_alias(g, i);
        } else if (g->places == GEN_SHARED) {
            place_anywhere(g, i);
            maybe_alias(g, i);
        }
        if (t->op != SH_OP_NONE && gen_chance(g, 50)) t->flags |= SH_TENSOR_OUTPUT;
    }
    q->n_buffers = g->n_buffers;
}
