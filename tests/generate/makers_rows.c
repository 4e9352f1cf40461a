/* tests/generate/makers_rows.c - makers of elementwise ops and of ops that work along rows. */
#include <string.h>

#include "gen.h"

/* Ask for a wider result than the rule gives by itself. */
static int32_t widened(struct gen *g, enum sh_op op, int n_src, const int32_t *src,
                       const int32_t *params)
{
    struct sh_tensor want;

    if (src[0] < 0) return sh_op_node(&g->g, op, n_src, src, params);
    want = *gen_at(g, src[0]);
    want.dtype = SH_DTYPE_F32;
    return sh_op_shaped(&g->g, op, n_src, src, params, &want);
}

static int32_t one_source(struct gen *g, enum sh_op op, uint64_t types, const int32_t *params)
{
    const int32_t x = gen_pick(g, gen_bends(g) ? types | GEN_TYPE(I32) | GEN_TYPE(Q4_0) : types);

    if (gen_chance(g, 15)) return widened(g, op, 1, &x, params);
    return sh_op_node(&g->g, op, 1, &x, params);
}

int32_t make_NONE(struct gen *g)
{
    if (gen_chance(g, 50)) return sh_op_node(&g->g, SH_OP_NONE, 0, NULL, NULL); // refused
    return gen_leaf(g, SH_DTYPE_F32, gen_any_shape(g, SH_DTYPE_F32), false, GEN_FLOATS, 0, 0);
}

/* ---- two operands ---------------------------------------------------------------------------*/

/* What repeats over a dimension of n: n itself, 1, or a divisor. */
static int64_t divisor(struct gen *g, int64_t n)
{
    const int64_t d = 1 + gen_below(g, 4);

    if (gen_chance(g, 50)) return n;
    if (gen_chance(g, 50) || n == 0) return 1;
    return n % d == 0 ? n / d : n;
}

static struct gen_shape repeating(struct gen *g, int32_t a)
{
    struct gen_shape s = gen_shape_of(g, a);

    for (int d = 0; d < SH_MAX_DIMS; d++) {
        if (s.extent != SH_EXTENT_NONE && d == s.extent_dim) {
            if (!gen_chance(g, 30)) continue;
            s.extent = SH_EXTENT_NONE;
            s.ne[d] = 1;
        } else {
            s.ne[d] = divisor(g, s.ne[d]);
        }
    }
    return s;
}

static int32_t binary(struct gen *g, enum sh_op op)
{
    int32_t src[2];

    src[0] = gen_pick(g, GEN_FLOAT_TYPES);
    if (src[0] < 0) return -1;
    const enum sh_dtype type = gen_chance(g, 60) ? SH_DTYPE_F32 : gen_at(g, src[0])->dtype;
    src[1] = gen_source(g, type, repeating(g, src[0]), false);
    if (gen_chance(g, 20)) return widened(g, op, 2, src, NULL);
    return sh_op_node(&g->g, op, 2, src, NULL);
}

int32_t make_ADD(struct gen *g)
{
    return binary(g, SH_OP_ADD);
}
int32_t make_SUB(struct gen *g)
{
    return binary(g, SH_OP_SUB);
}
int32_t make_MUL(struct gen *g)
{
    return binary(g, SH_OP_MUL);
}
int32_t make_DIV(struct gen *g)
{
    return binary(g, SH_OP_DIV);
}

int32_t make_ADD_ID(struct gen *g)
{
    const int64_t e = gen_dim(g), u = gen_dim(g) % 8, t = gen_dim(g) % 20, n = 1 + gen_below(g, 9);
    const bool symbolic = !g->wire && gen_chance(g, 30);
    int32_t src[3];

    src[0] = gen_source(g, SH_DTYPE_F32,
                        symbolic ? gen_symbolic(g, e, u, 0, 2, SH_EXTENT_T) : gen_fixed(e, u, t, 1),
                        false);
    src[1] = gen_source(g, SH_DTYPE_F32, gen_fixed(e, n, 1, 1), false);
    src[2] = gen_leaf(g, SH_DTYPE_I32,
                      symbolic ? gen_symbolic(g, u, 0, 0, 1, SH_EXTENT_T) : gen_fixed(u, t, 1, 1),
                      false, GEN_INDEX, 0, n);
    return sh_op_node(&g->g, SH_OP_ADD_ID, 3, src, NULL);
}

int32_t make_GLU(struct gen *g)
{
    int32_t params[SH_N_PARAMS] = {0}, src[2] = {-1, -1};

    params[0] = gen_word(g, gen_below(g, SH_GLU_COUNT), 0, SH_GLU_COUNT - 1);
    params[1] = gen_word(g, gen_below(g, 2), 0, 1);
    sh_params_set_f32(params, 2, gen_float(g, 0.5f, 2.0f));
    sh_params_set_f32(params, 3, gen_float(g, 0.5f, 8.0f));
    src[0] = gen_pick(g, params[0] == SH_GLU_SWIGLU_OAI ? GEN_F32 : GEN_FLOAT_TYPES);
    if (src[0] >= 0 && gen_chance(g, 60)) {
        src[1] = gen_source(g, gen_at(g, src[0])->dtype, gen_shape_of(g, src[0]), false);
    }
    return sh_op_node(&g->g, SH_OP_GLU, 2, src, params);
}

/* ---- one operand ----------------------------------------------------------------------------*/

int32_t make_SQR(struct gen *g)
{
    return one_source(g, SH_OP_SQR, GEN_FLOAT_TYPES, NULL);
}
int32_t make_SQRT(struct gen *g)
{
    return one_source(g, SH_OP_SQRT, GEN_FLOAT_TYPES, NULL);
}

int32_t make_UNARY(struct gen *g)
{
    int32_t params[SH_N_PARAMS] = {
        gen_word(g, gen_below(g, SH_UNARY_COUNT), 0, SH_UNARY_COUNT - 1)};

    for (int i = 1; i <= 4; i++)
        sh_params_set_f32(params, i, gen_float(g, 0.1f, 1.0f));
    return one_source(g, SH_OP_UNARY, GEN_FLOAT_TYPES, params);
}

int32_t make_SCALE(struct gen *g)
{
    int32_t params[SH_N_PARAMS] = {0};

    sh_params_set_f32(params, 0, gen_float(g, -2.0f, 2.0f));
    if (gen_chance(g, 50)) sh_params_set_f32(params, 1, gen_float(g, -2.0f, 2.0f));
    return one_source(g, SH_OP_SCALE, GEN_F32 | GEN_TYPE(BF16), params);
}

int32_t make_CLAMP(struct gen *g)
{
    int32_t params[SH_N_PARAMS] = {0};

    sh_params_set_f32(params, 0, gen_float(g, -2.0f, 0.5f));
    sh_params_set_f32(params, 1, gen_float(g, 0.0f, 2.0f));
    return one_source(g, SH_OP_CLAMP, GEN_F32 | GEN_TYPE(F16), params);
}

int32_t make_FILL(struct gen *g)
{
    int32_t params[SH_N_PARAMS] = {0};

    sh_params_set_f32(params, 0, gen_float(g, -2.0f, 2.0f));
    return one_source(g, SH_OP_FILL, GEN_F32 | GEN_TYPE(F16), params);
}

static int32_t norm(struct gen *g, enum sh_op op)
{
    int32_t params[SH_N_PARAMS] = {0};

    sh_params_set_f32(params, 0, gen_bends(g) ? -1.0f : gen_float(g, 1e-6f, 1e-3f));
    return one_source(g, op, GEN_F32, params);
}

int32_t make_NORM(struct gen *g)
{
    return norm(g, SH_OP_NORM);
}
int32_t make_RMS_NORM(struct gen *g)
{
    return norm(g, SH_OP_RMS_NORM);
}
int32_t make_L2_NORM(struct gen *g)
{
    return norm(g, SH_OP_L2_NORM);
}

int32_t make_SUM_ROWS(struct gen *g)
{
    return one_source(g, SH_OP_SUM_ROWS, GEN_F32, NULL);
}

int32_t make_ARGMAX(struct gen *g)
{
    int32_t x = gen_pick(g, GEN_F32);

    if (gen_chance(g, 70)) {
        x = gen_source(g, SH_DTYPE_F32, gen_fixed(1 + gen_dim(g), gen_dim(g), 1, 1), false);
    }
    return sh_op_node(&g->g, SH_OP_ARGMAX, 1, &x, NULL);
}

int32_t make_ARGSORT(struct gen *g)
{
    const int32_t params[SH_N_PARAMS] = {gen_word(g, gen_below(g, 2), 0, 1)};

    return one_source(g, SH_OP_ARGSORT, GEN_F32, params);
}

int32_t make_TOP_K(struct gen *g)
{
    const int32_t x = gen_pick(g, GEN_F32);
    struct sh_tensor want;

    if (x < 0) return -1;
    want = *gen_at(g, x);
    want.dtype = SH_DTYPE_I32;
    want.ne[0] = gen_word(g, gen_below(g, want.ne[0] + 1), 0, want.ne[0]);
    return sh_op_shaped(&g->g, SH_OP_TOP_K, 1, &x, NULL, &want);
}

int32_t make_SOFT_MAX(struct gen *g)
{
    int32_t params[SH_N_PARAMS] = {0}, src[3] = {gen_pick(g, GEN_F32), -1, -1};
    const bool bias = gen_chance(g, 30);

    if (src[0] < 0) return -1;
    sh_params_set_f32(params, 0, gen_float(g, 0.1f, 1.5f));
    if (bias) sh_params_set_f32(params, 1, gen_float(g, 1.0f, 8.0f));
    if (gen_chance(g, 60) || (bias && !gen_bends(g))) {
        struct gen_shape s = repeating(g, src[0]);
        s.ne[0] = gen_at(g, src[0])->ne[0];
        if (s.ne[1] == 1 && s.extent == SH_EXTENT_NONE) s.ne[1] = gen_at(g, src[0])->ne[1];
        if (s.extent == SH_EXTENT_NONE && gen_chance(g, 20)) s.ne[1] += 1;
        src[1] =
            gen_leaf(g, gen_chance(g, 50) ? SH_DTYPE_F32 : SH_DTYPE_F16, s, true, GEN_MASK, 0, 0);
    }
    if (gen_chance(g, 30)) {
        src[2] = gen_source(g, SH_DTYPE_F32, gen_fixed(gen_at(g, src[0])->ne[2], 1, 1, 1), false);
    }
    return sh_op_node(&g->g, SH_OP_SOFT_MAX, 3, src, params);
}
