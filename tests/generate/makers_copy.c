/* tests/generate/makers_copy.c - makers of copies, views, gather and scatter. */
#include <string.h>

#include "base/mem.h"
#include "gen.h"

static uint64_t any_type(void)
{
    return gen_weight_types() | gen_encoded_types() | GEN_TYPE(I32) | GEN_TYPE(I64) |
           GEN_TYPE(I16) | GEN_TYPE(I8) | GEN_TYPE(F64);
}

/* A type that values of `from` can be written as; now and then one that they cannot. */
static enum sh_dtype target_type(struct gen *g, enum sh_dtype from)
{
    if (gen_bends(g)) return gen_type(g, any_type());
    if (gen_chance(g, 30)) return from;
    switch (from) {
    case SH_DTYPE_F32:
        return gen_type(g, gen_encoded_types() | GEN_TYPE(I32));
    case SH_DTYPE_F16:
    case SH_DTYPE_BF16:
        return gen_type(g, gen_encoded_types());
    default:
        return SH_DTYPE_F32;
    }
}

/* The elements of a source in another shape: dimensions merged, or one of them cut. */
static struct gen_shape reshaped(struct gen *g, int32_t x)
{
    struct gen_shape s = gen_shape_of(g, x);
    const int last = s.extent == SH_EXTENT_NONE ? SH_MAX_DIMS : s.extent_dim;
    const int64_t block = sh_dtype_info(gen_at(g, x)->dtype)->block_len;

    for (int tries = 0; tries < 3; tries++) {
        const int a = (int)gen_below(g, last), b = (int)gen_below(g, last);
        const int64_t by = 1 + gen_below(g, 4);
        if (a == b || s.ne[a] % by != 0) continue;
        if (a == 0 && s.ne[0] / by % block != 0) continue;
        s.ne[a] /= by;
        s.ne[b] *= by;
    }
    return s;
}

static void set_shape(struct sh_tensor *t, const struct gen_shape *s)
{
    memcpy(t->ne, s->ne, sizeof t->ne);
    t->extent = s->extent;
    t->extent_dim = s->extent_dim;
}

/* ---- copies ---------------------------------------------------------------------------------*/

int32_t make_DUP(struct gen *g)
{
    const int32_t x = gen_pick(g, any_type());
    struct sh_tensor want;

    if (x < 0 || !gen_bends(g)) return sh_op_node(&g->g, SH_OP_DUP, 1, &x, NULL);
    want = *gen_at(g, x);
    want.ne[gen_below(g, SH_MAX_DIMS)]++;
    return sh_op_shaped(&g->g, SH_OP_DUP, 1, &x, NULL, &want);
}

int32_t make_CPY(struct gen *g)
{
    int32_t src[2] = {gen_pick(g, any_type()), -1};
    struct gen_shape s;

    if (src[0] < 0) return -1;
    const enum sh_dtype to = target_type(g, gen_at(g, src[0])->dtype);
    if (gen_chance(g, 40)) return sh_op_cast(&g->g, src[0], to);
    s = gen_chance(g, 50) ? gen_shape_of(g, src[0]) : reshaped(g, src[0]);
    src[1] = gen_source(g, to, s, sh_dtype_is_block(to));
    return sh_op_node(&g->g, SH_OP_CPY, 2, src, NULL);
}

int32_t make_CONT(struct gen *g)
{
    const int32_t x = gen_pick(g, any_type());
    struct sh_tensor want;
    struct gen_shape s;

    if (x < 0 || gen_chance(g, 50)) return sh_op_cont(&g->g, x);
    want = *gen_at(g, x);
    s = reshaped(g, x);
    if (gen_bends(g)) s.ne[1]++;
    set_shape(&want, &s);
    return sh_op_shaped(&g->g, SH_OP_CONT, 1, &x, NULL, &want);
}

int32_t make_REPEAT(struct gen *g)
{
    const int32_t x = gen_pick(g, GEN_FLOAT_TYPES | GEN_TYPE(I32) | GEN_TYPE(I16));
    struct sh_tensor want;

    if (x < 0) return -1;
    want = *gen_at(g, x);
    for (int d = 0; d < SH_MAX_DIMS; d++) {
        if ((want.extent == SH_EXTENT_NONE || d < want.extent_dim) && gen_chance(g, 40))
            want.ne[d] *= 1 + gen_below(g, 3);
        if (gen_bends(g)) want.ne[d]++;
    }
    return sh_op_shaped(&g->g, SH_OP_REPEAT, 1, &x, NULL, &want);
}

int32_t make_CONCAT(struct gen *g)
{
    int32_t src[2] = {gen_pick(g, any_type()), -1};
    int32_t params[SH_N_PARAMS] = {0};
    struct gen_shape s;

    if (src[0] < 0) return -1;
    const enum sh_dtype type = gen_at(g, src[0])->dtype;
    s = gen_shape_of(g, src[0]);
    params[0] =
        gen_word(g, gen_below(g, s.extent == SH_EXTENT_NONE ? SH_MAX_DIMS : s.extent_dim), 0, 3);
    if (params[0] >= 0 && params[0] < SH_MAX_DIMS)
        s.ne[params[0]] =
            (1 + gen_below(g, 4)) * (params[0] == 0 ? sh_dtype_info(type)->block_len : 1);
    src[1] = gen_source(g, type, s, false);
    return sh_op_node(&g->g, SH_OP_CONCAT, 2, src, params);
}

int32_t make_PAD(struct gen *g)
{
    const int32_t x = gen_pick(g, GEN_TYPE(F32));
    int32_t params[SH_N_PARAMS] = {0};
    struct sh_tensor want;

    if (x < 0) return -1;
    want = *gen_at(g, x);
    const int last = want.extent == SH_EXTENT_NONE ? SH_MAX_DIMS : want.extent_dim;
    for (int d = 0; d < last; d++) {
        for (int side = 0; side < 2; side++) {
            if (!gen_chance(g, 40)) continue;
            params[2 * d + side] = gen_word(g, gen_below(g, 4), 0, 3);
            want.ne[d] += params[2 * d + side];
        }
    }
    params[2 * SH_MAX_DIMS] = gen_word(g, gen_chance(g, 30), 0, 1);
    return sh_op_shaped(&g->g, SH_OP_PAD, 1, &x, params, &want);
}

/* ---- views ----------------------------------------------------------------------------------*/

int32_t make_RESHAPE(struct gen *g)
{
    const int32_t x = gen_pick(g, any_type());
    struct gen_shape s;

    if (x < 0) return -1;
    s = reshaped(g, x);
    if (gen_bends(g)) s.ne[gen_below(g, SH_MAX_DIMS)]++;
    return sh_op_reshape(&g->g, x, s.extent == SH_EXTENT_NONE ? SH_MAX_DIMS : s.extent_dim + 1,
                         s.ne);
}

int32_t make_VIEW(struct gen *g)
{
    const int32_t x = gen_pick(g, any_type());
    struct gen_shape s;
    size_t nb[SH_MAX_DIMS], offset = 0;

    if (x < 0) return -1;
    const struct sh_tensor *t = gen_at(g, x);
    const int64_t block = sh_dtype_info(t->dtype)->block_len;
    const int last = t->extent == SH_EXTENT_NONE ? SH_MAX_DIMS : t->extent_dim + 1;
    s = gen_shape_of(g, x);
    memcpy(nb, t->nb, sizeof nb);
    for (int d = 0; d < last; d++) {
        if (t->extent != SH_EXTENT_NONE && d == t->extent_dim) continue;
        const int64_t units = s.ne[d] / (d == 0 ? block : 1);
        const int64_t from = gen_below(g, units), n = units - from > 0 ? units - from : 0;
        const int64_t take = gen_chance(g, 60) ? n : gen_below(g, n + 1);
        offset += (size_t)from * nb[d];
        s.ne[d] = take * (d == 0 ? block : 1);
    }
    if (gen_bends(g)) nb[gen_below(g, SH_MAX_DIMS)] *= 2;
    if (gen_bends(g)) offset += 64;
    return sh_op_view(&g->g, x, last, s.ne, nb, offset);
}

int32_t make_PERMUTE(struct gen *g)
{
    const int32_t x = gen_pick(g, any_type());
    int a[SH_MAX_DIMS] = {0, 1, 2, 3};

    for (int d = SH_MAX_DIMS - 1; d > 0; d--) {
        const int other = (int)gen_below(g, d + 1), swap = a[d];
        a[d] = a[other];
        a[other] = swap;
    }
    return sh_op_permute(&g->g, x, gen_word(g, a[0], 0, 3), a[1], a[2], a[3]);
}

int32_t make_TRANSPOSE(struct gen *g)
{
    const int32_t x = gen_pick(g, any_type());

    return sh_op_node(&g->g, SH_OP_TRANSPOSE, 1, &x, NULL);
}

/* ---- gather and scatter ---------------------------------------------------------------------*/

int32_t make_GET_ROWS(struct gen *g)
{
    int32_t src[2] = {gen_pick(g, gen_weight_types() | GEN_TYPE(I32)), -1};
    struct gen_shape s;

    if (src[0] < 0) return -1;
    const struct sh_tensor *x = gen_at(g, src[0]);
    const int64_t rows = x->ne[1];
    s = gen_fixed(gen_dim(g) % 20, x->ne[2], x->ne[3], 1);
    if (!g->wire && x->ne[2] == 1 && x->ne[3] == 1 && gen_chance(g, 30)) {
        s = gen_symbolic(g, 0, 0, 0, 0, SH_EXTENT_O);
    }
    if (rows == 0 && !gen_bends(g)) s = gen_fixed(0, x->ne[2], x->ne[3], 1);
    src[1] = gen_leaf(g, SH_DTYPE_I32, s, false, GEN_INDEX, 0, rows);
    return sh_op_node(&g->g, SH_OP_GET_ROWS, 2, src, NULL);
}

int32_t make_SET_ROWS(struct gen *g)
{
    int32_t src[3];
    const enum sh_dtype to = gen_type(g, gen_encoded_types() | GEN_TYPE(I32));
    const int64_t block = sh_dtype_info(to)->block_len;
    const int64_t n = block > 1 ? block * (1 + gen_below(g, 2)) : gen_dim(g);
    const int64_t m = gen_dim(g) % 9, b2 = 1 + gen_below(g, 3), b3 = 1 + gen_below(g, 2);
    const int64_t r = 1 + gen_below(g, 9);

    src[0] = gen_source(g, gen_chance(g, 70) ? SH_DTYPE_F32 : SH_DTYPE_F16, gen_fixed(n, m, b2, b3),
                        false);
    src[1] = gen_leaf(g, gen_chance(g, 50) ? SH_DTYPE_I32 : SH_DTYPE_I64,
                      gen_fixed(m, gen_chance(g, 50) ? b2 : 1, gen_chance(g, 50) ? b3 : 1, 1),
                      false, GEN_INDEX, 0, r);
    src[2] = gen_source(g, to, gen_fixed(n, r, b2, b3), false);
    return sh_op_node(&g->g, SH_OP_SET_ROWS, 3, src, NULL);
}
