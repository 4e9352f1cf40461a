/* tests/generate/makers_product.c - makers of matrix products, rotary embedding and attention. */
#include "gen.h"

/* Columns of a weight of this type: whole blocks. */
static int64_t columns(struct gen *g, enum sh_dtype type)
{
    const int64_t block = sh_dtype_info(type)->block_len;

    return block > 1 ? block * (1 + gen_below(g, block > 32 ? 2 : 5)) : gen_dim(g);
}

static void set_precision(struct gen *g, int32_t *params)
{
    static const int32_t accumulators[] = {0, 10, 15, 20}, operands[] = {0, 10, 20, 40};

    params[0] = gen_word(g, accumulators[gen_below(g, 4)], 0, 20);
    params[1] = gen_word(g, gen_below(g, 2), 0, 1);
    params[3] = gen_word(g, operands[gen_below(g, 4)], 0, 40);
}

/* A unit of segments, mostly lawful. */
static int32_t unit(struct gen *g, enum sh_dtype type, int64_t k)
{
    const int64_t block = sh_dtype_info(type)->block_len;

    if (gen_chance(g, 60) || k == 0) return gen_word(g, 0, 0, 0);
    for (int64_t u = block * (1 + gen_below(g, 3)); u > 0; u -= block) {
        if (k % u == 0) return gen_word(g, u, block, k);
    }
    return 0;
}

int32_t make_MUL_MAT(struct gen *g)
{
    const enum sh_dtype type = gen_type(g, gen_weight_types());
    const int64_t k = columns(g, type), p2 = 1 + gen_below(g, 2), p3 = 1 + gen_below(g, 2);
    const bool symbolic = !g->wire && gen_chance(g, 30);
    const int64_t n = gen_chance(g, 10) ? 70 : gen_dim(g) % 40;
    int32_t src[2], params[SH_N_PARAMS] = {0};

    set_precision(g, params);
    params[15] = unit(g, type, k);
    src[0] = gen_source(
        g, type, symbolic ? gen_fixed(k, gen_dim(g), 1, 1) : gen_fixed(k, gen_dim(g) % 70, p2, p3),
        false);
    src[1] = gen_source(
        g, (GEN_FLOAT_TYPES >> type & 1) && gen_chance(g, 30) ? type : SH_DTYPE_F32,
        symbolic ? gen_symbolic(g, k, 0, 0, 1, SH_EXTENT_T)
                 : gen_fixed(k, n, p2 * (1 + gen_below(g, 2)), p3 * (1 + gen_below(g, 2))),
        false);
    return sh_op_node(&g->g, SH_OP_MUL_MAT, 2, src, params);
}

int32_t make_MUL_MAT_ID(struct gen *g)
{
    const enum sh_dtype type = gen_type(g, gen_weight_types());
    const int64_t k = columns(g, type), e = 1 + gen_below(g, 6), u = 1 + gen_below(g, 4);
    const int64_t t = gen_dim(g) % 12;
    const bool symbolic = !g->wire && gen_chance(g, 30), part = gen_chance(g, 30);
    int32_t src[3], params[SH_N_PARAMS] = {0};

    set_precision(g, params);
    params[12] = part ? gen_word(g, 1 + gen_below(g, 3), 0, 100) : 0;
    params[15] = unit(g, type, k);
    src[0] = gen_source(g, type, gen_fixed(k, gen_dim(g) % 40, e, 1), false);
    const int64_t b = gen_chance(g, 50) ? 1 : u;
    src[1] = gen_source(g, SH_DTYPE_F32,
                        symbolic ? gen_symbolic(g, k, b, 0, 2, SH_EXTENT_T) : gen_fixed(k, b, t, 1),
                        false);
    src[2] = gen_leaf(g, SH_DTYPE_I32,
                      symbolic ? gen_symbolic(g, u, 0, 0, 1, SH_EXTENT_T) : gen_fixed(u, t, 1, 1),
                      false, GEN_INDEX, 0, part ? e + 3 : e);
    return sh_op_node(&g->g, SH_OP_MUL_MAT_ID, 3, src, params);
}

void gen_rope_params(struct gen *g, int32_t *params, int64_t width, bool axes)
{
    static const int32_t modes[] = {SH_ROPE_NORM, SH_ROPE_NEOX, SH_ROPE_MROPE, SH_ROPE_IMROPE};
    const int64_t n_dims = 2 * (1 + gen_below(g, width / 2));

    params[1] = gen_word(g, n_dims, 2, width);
    params[2] = gen_word(g, modes[gen_below(g, axes ? 4 : 2)], 0, 40);
    params[4] = gen_word(g, 512, 1, 4096);
    sh_params_set_f32(params, 5, gen_bends(g) ? 0.0f : gen_float(g, 100.0f, 20000.0f));
    sh_params_set_f32(params, 6, gen_float(g, 0.25f, 1.0f));
    sh_params_set_f32(params, 7, gen_chance(g, 30) ? 1.0f : 0.0f);
    sh_params_set_f32(params, 8, gen_float(g, 0.5f, 1.5f));
    sh_params_set_f32(params, 9, 32.0f);
    sh_params_set_f32(params, 10, 1.0f);
    for (int i = 11; i <= 14; i++)
        params[i] = gen_word(g, gen_below(g, width / 4 + 1), 0, width);
    if (!params[11] && !params[12] && !params[13]) params[11] = 1;
    if (gen_chance(g, 20)) params[15] = gen_word(g, width - n_dims, 0, width - n_dims);
}

int32_t make_ROPE(struct gen *g)
{
    const int64_t width = 2 * (1 + gen_below(g, 40)), heads = 1 + gen_below(g, 4);
    const int64_t t = gen_dim(g) % 20, batch = 1 + gen_below(g, 2);
    const bool symbolic = !g->wire && gen_chance(g, 40);
    int32_t src[3] = {-1, -1, -1}, params[SH_N_PARAMS] = {0};
    struct gen_shape pos;

    gen_rope_params(g, params, width, true);
    src[0] = gen_source(g, gen_chance(g, 80) ? SH_DTYPE_F32 : SH_DTYPE_F16,
                        symbolic ? gen_symbolic(g, width, heads, 0, 2, SH_EXTENT_T)
                                 : gen_fixed(width, heads, t, batch),
                        false);
    if (gen_chance(g, 40) || (symbolic && (params[2] & 8))) {
        pos = symbolic ? gen_symbolic(g, 4, 0, 0, 1, SH_EXTENT_T) : gen_fixed(4, t, 1, 1);
    } else {
        pos = symbolic ? gen_symbolic(g, 0, 0, 0, 0, SH_EXTENT_T)
                       : gen_fixed(params[2] & 8 ? 4 * t : t, 1, 1, 1);
    }
    src[1] = gen_leaf(g, SH_DTYPE_I32, pos, true, GEN_INDEX, 0, 3000);
    if (gen_chance(g, 30)) {
        src[2] = gen_leaf(g, SH_DTYPE_F32, gen_fixed(width / 2, 1, 1, 1), false, GEN_INDEX, 1, 9);
    }
    return sh_op_node(&g->g, SH_OP_ROPE, 3, src, params);
}

int32_t make_FLASH_ATTN_EXT(struct gen *g)
{
    const uint64_t types = gen_chance(g, 70) ? GEN_F32 | GEN_TYPE(F16) : gen_weight_types();
    const enum sh_dtype kt = gen_type(g, types), vt = gen_chance(g, 60) ? kt : gen_type(g, types);
    const int64_t dk = columns(g, kt), dv = columns(g, vt);
    const int64_t n = 1 + gen_below(g, 5), hk = 1 + gen_below(g, 2), hv = 1 + gen_below(g, 2);
    const int64_t h = hk * hv * (1 + gen_below(g, 2)), b = 1 + gen_below(g, 2);
    const bool narrow = dk + dv <= 70; // else many keys take too long
    const int64_t kv = narrow && gen_chance(g, 8) ? 1100
                       : gen_chance(g, 30)        ? 65 + gen_below(g, 80)
                                                  : gen_dim(g);
    int32_t src[5] = {-1, -1, -1, -1, -1}, params[SH_N_PARAMS] = {0};

    sh_params_set_f32(params, 0, gen_float(g, 0.05f, 1.0f));
    if (gen_chance(g, 20)) sh_params_set_f32(params, 2, gen_float(g, 1.0f, 30.0f));
    params[3] = gen_word(g, gen_chance(g, 50) ? 10 : 0, 0, 10);
    src[0] = gen_source(g, SH_DTYPE_F32, gen_fixed(dk, n, h, b), false);
    src[1] = gen_source(g, kt, gen_fixed(dk, kv, hk, b), false);
    src[2] = gen_source(g, vt, gen_fixed(dv, kv, hv, b), false);
    if (gen_chance(g, 60)) {
        if (gen_chance(g, 30)) sh_params_set_f32(params, 1, gen_float(g, 1.0f, 8.0f));
        src[3] = gen_leaf(g, SH_DTYPE_F16,
                          gen_fixed(kv + gen_below(g, 2), n + gen_below(g, 2),
                                    gen_chance(g, 50) ? h : 1, gen_chance(g, 50) ? b : 1),
                          true, GEN_MASK, 0, 0);
    }
    if (gen_chance(g, 25)) src[4] = gen_source(g, SH_DTYPE_F32, gen_fixed(h, 1, 1, 1), false);
    return sh_op_node(&g->g, SH_OP_FLASH_ATTN_EXT, 5, src, params);
}
