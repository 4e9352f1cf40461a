/* tests/generate/sources.c - operands of drawn nodes: types, shapes, strides. */
#include <limits.h>
#include <string.h>

#include "gen.h"
#include "kernels/kernels.h"

const struct sh_tensor *gen_at(const struct gen *g, int32_t tensor)
{
    return &g->g.tensors[tensor];
}

/* ---- types ----------------------------------------------------------------------------------*/

uint64_t gen_weight_types(void)
{
#define X(name) | GEN_TYPE(name)
    return 0 SH_MM_TYPES(X);
#undef X
}

uint64_t gen_encoded_types(void)
{
    struct sh_kernels k;
    uint64_t set = 0;

    sh_kernels_fill(&k, 0);
    for (int t = 0; t < SH_DTYPE_COUNT; t++) {
        if (k.encode[t]) set |= (uint64_t)1 << t;
    }
    return set;
}

enum sh_dtype gen_type(struct gen *g, uint64_t set)
{
    int t = (int)gen_below(g, SH_DTYPE_COUNT);

    while (!(set >> t & 1))
        t = (t + 1) % SH_DTYPE_COUNT;
    return (enum sh_dtype)t;
}

/* ---- shapes ---------------------------------------------------------------------------------*/

int64_t gen_dim(struct gen *g)
{
    static const int64_t odd[] = {15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 128, 129, 257};

    if (gen_chance(g, 3)) return 0;
    if (gen_chance(g, g->elements_max > 4096 ? 60 : 25))
        return odd[gen_below(g, sizeof odd / sizeof *odd)];
    return 1 + gen_below(g, 6);
}

struct gen_shape gen_fixed(int64_t a, int64_t b, int64_t c, int64_t d)
{
    return (struct gen_shape){.ne = {a, b, c, d}};
}

struct gen_shape gen_symbolic(const struct gen *g, int64_t a, int64_t b, int64_t c, int dim,
                              enum sh_extent which)
{
    struct gen_shape s = gen_fixed(a, b, c, 1);

    for (int d = dim; d < SH_MAX_DIMS; d++)
        s.ne[d] = 1;
    s.ne[dim] = sh_extents_get(&g->g.max, which, 1);
    s.extent = which;
    s.extent_dim = dim;
    return s;
}

struct gen_shape gen_shape_of(const struct gen *g, int32_t tensor)
{
    const struct sh_tensor *t = gen_at(g, tensor);
    struct gen_shape s = {.extent = t->extent, .extent_dim = t->extent_dim};

    memcpy(s.ne, t->ne, sizeof s.ne);
    return s;
}

static int64_t elements(const struct gen_shape *s)
{
    int64_t n = 1;

    for (int d = 0; d < SH_MAX_DIMS; d++)
        n *= s->ne[d] ? s->ne[d] : 1;
    return n;
}

struct gen_shape gen_any_shape(struct gen *g, enum sh_dtype dtype)
{
    const int64_t block = sh_dtype_info(dtype)->block_len;
    struct gen_shape s = gen_fixed(1, 1, 1, 1);
    const int n_dims = 1 + (int)gen_below(g, SH_MAX_DIMS);

    for (int d = 0; d < n_dims; d++)
        s.ne[d] = gen_dim(g);
    if (block > 1) s.ne[0] = block * (1 + gen_below(g, 3));
    if (gen_chance(g, 1)) s.ne[0] = 1100 * block / (block > 1 ? 32 : 1); // longer than a piece
    for (int d = SH_MAX_DIMS - 1; d > 0 && elements(&s) > g->elements_max; d--)
        s.ne[d] = 1;
    if (g->wire || !gen_chance(g, 25)) return s;
    const int dim = 1 + (int)gen_below(g, SH_MAX_DIMS - 1);
    return gen_symbolic(g, s.ne[0], s.ne[1], s.ne[2], dim,
                        (enum sh_extent)(SH_EXTENT_T + gen_below(g, 3)));
}

/* ---- leaves ---------------------------------------------------------------------------------*/

static int32_t new_leaf(struct gen *g, enum sh_dtype dtype, const struct gen_shape *s,
                        enum gen_values values, int64_t lo, int64_t hi)
{
    const int32_t t = sh_leaf_plain(&g->g, dtype, s->ne, s->extent, s->extent_dim);

    if (t < 0) return -1;
    SH_ASSERT(g->n_leaves < GEN_LEAVES_MAX);
    g->leaves[g->n_leaves++] = (struct gen_leaf){.tensor = t, .values = values, .lo = lo, .hi = hi};
    return t;
}

/* A larger leaf, of which the tensor is a corner. */
static int32_t padded(struct gen *g, enum sh_dtype dtype, const struct gen_shape *s,
                      enum gen_values values, int64_t lo, int64_t hi)
{
    const struct sh_dtype_info *info = sh_dtype_info(dtype);
    const int last = s->extent == SH_EXTENT_NONE ? SH_MAX_DIMS - 1 : s->extent_dim;
    struct gen_shape large = *s;
    size_t offset = 0;
    int32_t leaf;

    for (int d = 0; d <= last; d++) {
        const int64_t pad = gen_chance(g, 50) ? 0 : 1 + gen_below(g, 3);
        if (d == last && s->extent != SH_EXTENT_NONE) continue;
        large.ne[d] += d == 0 ? pad * info->block_len : pad;
    }
    leaf = new_leaf(g, dtype, &large, values, lo, hi);
    if (leaf < 0) return -1;
    for (int d = 0; d <= last; d++) {
        const int64_t room = (large.ne[d] - s->ne[d]) / (d == 0 ? info->block_len : 1);
        offset += (size_t)gen_below(g, room + 1) * gen_at(g, leaf)->nb[d];
    }
    return sh_op_view(&g->g, leaf, last + 1, s->ne, NULL, offset);
}

/* A leaf with the dimensions in another order. */
static int32_t permuted(struct gen *g, enum sh_dtype dtype, const struct gen_shape *s,
                        enum gen_values values, int64_t lo, int64_t hi)
{
    int axis[SH_MAX_DIMS] = {0, 1, 2, 3};
    const int first = sh_dtype_is_block(dtype) || gen_chance(g, 50) ? 1 : 0;
    struct gen_shape from = *s;
    int32_t leaf;

    for (int d = SH_MAX_DIMS - 1; d > first; d--) {
        const int other = first + (int)gen_below(g, d - first + 1), swap = axis[d];
        axis[d] = axis[other];
        axis[other] = swap;
    }
    for (int d = 0; d < SH_MAX_DIMS; d++)
        from.ne[d] = s->ne[axis[d]];
    leaf = new_leaf(g, dtype, &from, values, lo, hi);
    if (leaf < 0) return -1;
    return sh_op_permute(&g->g, leaf, axis[0], axis[1], axis[2], axis[3]);
}

/* Rows that overlap: each begins one or a few elements (or blocks) behind the one before. */
static int32_t sliding(struct gen *g, enum sh_dtype dtype, const struct gen_shape *s,
                       enum gen_values values, int64_t lo, int64_t hi)
{
    const struct sh_dtype_info *info = sh_dtype_info(dtype);
    size_t nb[SH_MAX_DIMS] = {info->block_bytes};
    int64_t units = s->ne[0] / info->block_len;
    struct gen_shape line;
    int32_t leaf;

    for (int d = 1; d < SH_MAX_DIMS; d++) {
        const int64_t step = 1 + gen_below(g, 3);
        if (s->ne[d] > 0) units += step * (s->ne[d] - 1);
        nb[d] = (size_t)step * info->block_bytes;
    }
    line = gen_fixed((units ? units : 1) * info->block_len, 1, 1, 1);
    leaf = new_leaf(g, dtype, &line, values, lo, hi);
    if (leaf < 0) return -1;
    return sh_op_view(&g->g, leaf, SH_MAX_DIMS, s->ne, nb, 0);
}

int32_t gen_leaf(struct gen *g, enum sh_dtype dtype, struct gen_shape shape, bool dense,
                 enum gen_values values, int64_t lo, int64_t hi)
{
    const int64_t block = sh_dtype_info(dtype)->block_len;
    const int layout = (int)gen_below(g, 10);

    if (g->n_leaves == GEN_LEAVES_MAX) {
        return sh_graph_fail(&g->g, SHOAL_ERR_LIMIT, "the generator has no more leaves");
    }
    if (gen_bends(g)) {
        const int d = (int)gen_below(g, SH_MAX_DIMS);
        shape.ne[d] += (gen_chance(g, 50) || shape.ne[d] == 0 ? 1 : -1) * (d == 0 ? block : 1);
    }
    if (gen_bends(g)) dtype = gen_type(g, GEN_FLOAT_TYPES | GEN_TYPE(I32) | GEN_TYPE(I8));
    if (dense && !gen_bends(g)) return new_leaf(g, dtype, &shape, values, lo, hi);
    if (layout == 0) return padded(g, dtype, &shape, values, lo, hi);
    if (shape.extent != SH_EXTENT_NONE || layout > 2) {
        return new_leaf(g, dtype, &shape, values, lo, hi);
    }
    if (layout == 1) return permuted(g, dtype, &shape, values, lo, hi);
    return sliding(g, dtype, &shape, values, lo, hi);
}

static bool fits(const struct gen *g, int32_t i, enum sh_dtype dtype, const struct gen_shape *shape,
                 bool dense)
{
    const struct sh_tensor *t = gen_at(g, i);

    return t->dtype == dtype && memcmp(t->ne, shape->ne, sizeof t->ne) == 0 &&
           t->extent == shape->extent &&
           (t->extent == SH_EXTENT_NONE || t->extent_dim == shape->extent_dim) &&
           (!dense || sh_tensor_contiguous(t));
}

int32_t gen_source(struct gen *g, enum sh_dtype dtype, struct gen_shape shape, bool dense)
{
    const int32_t from = (int32_t)gen_below(g, g->g.n_tensors);

    for (int32_t n = 0; n < g->g.n_tensors && gen_chance(g, 95); n++) {
        const int32_t i = (from + n) % g->g.n_tensors;
        if (fits(g, i, dtype, &shape, dense)) return i;
    }
    return gen_leaf(g, dtype, shape, dense, GEN_FLOATS, 0, 0);
}

int32_t gen_pick(struct gen *g, uint64_t types)
{
    for (int tries = 0; g->g.n_tensors > 0 && tries < 12; tries++) {
        const int32_t i = (int32_t)gen_below(g, g->g.n_tensors);
        const struct sh_tensor *t = gen_at(g, i);
        if ((types >> t->dtype & 1) && sh_tensor_elements(t) <= g->elements_max) return i;
    }
    const enum sh_dtype dtype = gen_type(g, types);
    return gen_leaf(g, dtype, gen_any_shape(g, dtype), false,
                    dtype == SH_DTYPE_I32 ? GEN_INDEX : GEN_FLOATS, -5, 5);
}

int32_t gen_word(struct gen *g, int64_t v, int64_t lo, int64_t hi)
{
    const int64_t wrong[] = {lo - 1, hi + 1, INT_MIN, INT_MAX, -1, 0};

    if (gen_bends(g)) v = wrong[gen_below(g, sizeof wrong / sizeof *wrong)];
    return (int32_t)v;
}
