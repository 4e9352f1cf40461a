/* kernels/lanes_attn_priv.h - attention blocks in sixteen lanes, for one tier.
 *
 * Include once, after the lanes of the tier; fill_attn() sets the slots.  Query heads go in tiles
 * of up to SH_TILE_HEADS.  For a tile:
 *   1. The visible places are listed.  Dots go SH_TILE_KEYS keys at a time into one register per
 *      head and key; sixteen of a head's registers are then added as trees at once.
 *   2. The 64 logits of a head are four registers: scale, cap, bias, max, exp, sum.
 *   3. Values go in tiles of SH_TILE_COLS registers that stay put while the keys pass by.
 * n_heads, n_cols and is_f16 are constants after inlining, so that the tiles live in registers.
 * Threads: pure functions.
 */
#ifndef KERNELS_LANES_ATTN_PRIV_H
#define KERNELS_LANES_ATTN_PRIV_H

#include <math.h>

#include "kernels/lanes_math_priv.h"
#include "kernels/vec_priv.h"

#define SH_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define SH_UNROLL _Pragma("clang loop unroll(full)")
#else
#define SH_UNROLL _Pragma("GCC unroll 16")
#endif

#define SH_Z_GROUPS (SH_ATTN_KEYS / SH_LANES)

struct attn {
    int64_t dk, dv;
    const void *k, *v;
    size_t k_stride, v_stride; /* bytes */
    uint64_t visible;
    float scale, softcap;
    const float *bias;
    int n_visible;
    uint8_t place[SH_ATTN_KEYS + SH_LANES]; /* visible places, ascending; the last one repeated */
};

/* What a tile of heads passes from step to step. */
struct attn_tile {
    float z[SH_TILE_HEADS][SH_ATTN_KEYS]; /* logits, then weights, by place */
    float r[SH_TILE_HEADS];               /* factor of what was gathered before */
    bool any[SH_TILE_HEADS];              /* false: nothing to add */
};

SH_INLINE const void *row_at(const void *base, size_t stride, unsigned place)
{
    return (const char *)base + place * stride;
}

SH_INLINE struct v16 kv_load(const void *row, int64_t at, bool is_f16)
{
    if (is_f16) return v16_load_f16((const uint16_t *)row + at);
    return v16_load((const float *)row + at);
}

SH_INLINE struct v16 kv_load_n(const void *row, int64_t at, int n, bool is_f16)
{
    if (is_f16) return v16_load_f16_n((const uint16_t *)row + at, n);
    return v16_load_bits((const float *)row + at, (1u << n) - 1u);
}

/* ---- 1. dots -----------------------------------------------------------------------------------
 */

/* part[h * SH_LANES + t] = the lanes of the dot of head h with key t of the tile. */
SH_INLINE void dot_tile(const struct attn *a, int n_heads, bool is_f16, const float *q,
                        const uint8_t *place, struct v16 *part)
{
    const void *key[SH_TILE_KEYS];
    struct v16 s[SH_TILE_HEADS][SH_TILE_KEYS];
    const int64_t dk = a->dk;

    SH_UNROLL for (int t = 0; t < SH_TILE_KEYS; t++) key[t] = row_at(a->k, a->k_stride, place[t]);
    SH_UNROLL for (int h = 0; h < n_heads; h++)
    {
        SH_UNROLL for (int t = 0; t < SH_TILE_KEYS; t++) s[h][t] = v16_set1(0.0f);
    }

    int64_t i = 0;
    for (; i + SH_LANES <= dk; i += SH_LANES) {
        struct v16 kv[SH_TILE_KEYS];
        SH_UNROLL for (int t = 0; t < SH_TILE_KEYS; t++) kv[t] = kv_load(key[t], i, is_f16);
        SH_UNROLL for (int h = 0; h < n_heads; h++)
        {
            const struct v16 qv = v16_load(q + h * dk + i);
            SH_UNROLL for (int t = 0; t < SH_TILE_KEYS; t++) s[h][t] = v16_fma(qv, kv[t], s[h][t]);
        }
    }
    if (i < dk) {
        const int n = (int)(dk - i);
        const unsigned bits = (1u << n) - 1u;
        const struct m16 m = m16_of_bits(bits);
        for (int t = 0; t < SH_TILE_KEYS; t++) {
            const struct v16 kv = kv_load_n(key[t], i, n, is_f16);
            SH_UNROLL for (int h = 0; h < n_heads; h++)
            {
                const struct v16 qv = v16_load_bits(q + h * dk + i, bits);
                part[h * SH_LANES + t] = v16_select(m, v16_fma(qv, kv, s[h][t]), s[h][t]);
            }
        }
        return;
    }
    SH_UNROLL for (int h = 0; h < n_heads; h++)
    {
        SH_UNROLL for (int t = 0; t < SH_TILE_KEYS; t++) part[h * SH_LANES + t] = s[h][t];
    }
}

SH_INLINE void dots(const struct attn *a, int n_heads, bool is_f16, const float *q,
                    struct attn_tile *tile)
{
    struct v16 part[SH_TILE_HEADS * SH_LANES];
    float packed[SH_TILE_HEADS][SH_ATTN_KEYS];

    for (int first = 0; first < a->n_visible; first += SH_LANES) {
        for (int t = 0; t < SH_LANES; t += SH_TILE_KEYS) {
            // Past the last key the list repeats it: cheap, and nobody reads the result.
            dot_tile(a, n_heads, is_f16, q, a->place + first + t, part + t);
        }
        for (int h = 0; h < n_heads; h++)
            v16_store(&packed[h][first], v16_sum16(part + h * SH_LANES));
    }
    for (int h = 0; h < n_heads; h++)
        for (int i = 0; i < a->n_visible; i++)
            tile->z[h][a->place[i]] = packed[h][i];
}

/* ---- 2. weights --------------------------------------------------------------------------------
 */

static inline bool weigh(const struct attn *a, float *z, float *r, float *m, float *l)
{
    const struct v16 lowest = v16_set1(-INFINITY);
    const struct v16 scale = v16_set1(a->scale), cap = v16_set1(a->softcap);
    struct v16 v[SH_Z_GROUPS], max = lowest;

    for (int g = 0; g < SH_Z_GROUPS; g++) {
        const unsigned bits = (unsigned)(a->visible >> (g * SH_LANES)) & 0xffffu;
        v[g] = lowest;
        if (!bits) continue;
        const struct m16 seen = m16_of_bits(bits);
        struct v16 t = v16_mul(v16_load_bits(z + g * SH_LANES, bits), scale);
        if (a->softcap != 0.0f) t = v16_mul(cap, v16_tanh(v16_div(t, cap)));
        if (a->bias) t = v16_add(t, v16_load_bits(a->bias + g * SH_LANES, bits));
        v[g] = v16_select(seen, t, lowest);
        max = v16_max(v[g], max);
    }
    const float new_max = sh_max_f32(v16_max_lane(max), *m);
    if (new_max == -INFINITY) return false;

    struct v16 sum = v16_set1(0.0f);
    for (int g = 0; g < SH_Z_GROUPS; g++) {
        const unsigned bits = (unsigned)(a->visible >> (g * SH_LANES)) & 0xffffu;
        if (!bits) continue;
        const struct v16 e = v16_exp(v16_sub(v[g], v16_set1(new_max)));
        const struct v16 p = v16_select(m16_of_bits(bits), e, v16_set1(0.0f));
        v16_store(z + g * SH_LANES, p);
        sum = v16_add(sum, p);
    }
    *r = sh_exp_f32(*m - new_max);
    *l = *l * *r + v16_sum(sum);
    *m = new_max;
    return true;
}

/* ---- 3. values ---------------------------------------------------------------------------------
 */

/* Channels [j, j + 16 * n_cols) of the accumulators of n_heads heads. */
SH_INLINE void gather_tile(const struct attn *a, int n_heads, int n_cols, bool is_f16, int64_t j,
                           const struct attn_tile *tile, float *acc)
{
    struct v16 s[SH_TILE_HEADS][SH_TILE_COLS];
    SH_UNROLL for (int h = 0; h < n_heads; h++)
    {
        SH_UNROLL for (int c = 0; c < n_cols; c++) s[h][c] =
            v16_mul(v16_load(acc + h * a->dv + j + c * SH_LANES), v16_set1(tile->r[h]));
    }
    for (int i = 0; i < a->n_visible; i++) {
        const unsigned place = a->place[i];
        const void *row = row_at(a->v, a->v_stride, place);
        struct v16 x[SH_TILE_COLS];
        SH_UNROLL for (int c = 0; c < n_cols; c++) x[c] = kv_load(row, j + c * SH_LANES, is_f16);
        SH_UNROLL for (int h = 0; h < n_heads; h++)
        {
            const struct v16 p = v16_set1(tile->z[h][place]);
            SH_UNROLL for (int c = 0; c < n_cols; c++) s[h][c] = v16_fma(p, x[c], s[h][c]);
        }
    }
    SH_UNROLL for (int h = 0; h < n_heads; h++)
    {
        SH_UNROLL for (int c = 0; c < n_cols; c++)
            v16_store(acc + h * a->dv + j + c * SH_LANES, s[h][c]);
    }
}

/* The last n < 16 channels of one head. */
SH_INLINE void gather_rest(const struct attn *a, bool is_f16, int64_t j, const float *p, float r,
                           float *acc)
{
    const int n = (int)(a->dv - j);
    const unsigned bits = (1u << n) - 1u;
    struct v16 s = v16_mul(v16_load_bits(acc + j, bits), v16_set1(r));
    for (int i = 0; i < a->n_visible; i++) {
        const void *row = row_at(a->v, a->v_stride, a->place[i]);
        s = v16_fma(v16_set1(p[a->place[i]]), kv_load_n(row, j, n, is_f16), s);
    }
    v16_store_bits(acc + j, s, bits);
}

SH_INLINE void gather(const struct attn *a, int n_heads, bool is_f16, const struct attn_tile *tile,
                      float *acc)
{
    int64_t j = 0;
    for (; j + SH_TILE_COLS * SH_LANES <= a->dv; j += SH_TILE_COLS * SH_LANES)
        gather_tile(a, n_heads, SH_TILE_COLS, is_f16, j, tile, acc);
    for (; j + SH_LANES <= a->dv; j += SH_LANES)
        gather_tile(a, n_heads, 1, is_f16, j, tile, acc);
    if (j == a->dv) return;
    for (int h = 0; h < n_heads; h++)
        gather_rest(a, is_f16, j, tile->z[h], tile->r[h], acc + h * a->dv);
}

/* ---- the block ---------------------------------------------------------------------------------
 */

SH_INLINE void attend_tile(const struct attn *a, int n_heads, bool is_f16, const float *q, float *m,
                           float *l, float *acc)
{
    struct attn_tile tile;
    bool all = true;

    dots(a, n_heads, is_f16, q, &tile);
    for (int h = 0; h < n_heads; h++) {
        tile.any[h] = weigh(a, tile.z[h], &tile.r[h], &m[h], &l[h]);
        all = all && tile.any[h];
    }
    if (all) {
        gather(a, n_heads, is_f16, &tile, acc);
        return;
    }
    // Some head has no finite logit yet: its accumulators must not be touched at all.
    for (int h = 0; h < n_heads; h++) {
        if (!tile.any[h]) continue;
        struct attn_tile one = {.r = {tile.r[h]}};
        for (int i = 0; i < a->n_visible; i++)
            one.z[0][a->place[i]] = tile.z[h][a->place[i]];
        gather(a, 1, is_f16, &one, acc + h * a->dv);
    }
}

static void list_places(struct attn *a)
{
    int n = 0;
    for (uint64_t left = a->visible; left; left &= left - 1)
        a->place[n++] = (uint8_t)__builtin_ctzll(left);
    a->n_visible = n;
    for (int i = 0; n && i < SH_LANES; i++)
        a->place[n + i] = a->place[n - 1];
}

/* Each number of heads is its own copy of the code. */
SH_INLINE void attend(struct attn *a, int64_t n_q, bool is_f16, const float *q, float *m, float *l,
                      float *acc)
{
    if (!a->visible) return;
    list_places(a);
    int64_t h = 0;
    for (; h + SH_TILE_HEADS <= n_q; h += SH_TILE_HEADS)
        attend_tile(a, SH_TILE_HEADS, is_f16, q + h * a->dk, m + h, l + h, acc + h * a->dv);
    q += h * a->dk, m += h, l += h, acc += h * a->dv;
    switch (n_q - h) {
#if SH_TILE_HEADS > 3
    case 3:
        attend_tile(a, 3, is_f16, q, m, l, acc);
        break;
    case 2:
        attend_tile(a, 2, is_f16, q, m, l, acc);
        break;
#endif
    case 1:
        attend_tile(a, 1, is_f16, q, m, l, acc);
        break;
    default:
        break;
    }
}

static void attn_block_f16_lanes(int64_t dk, int64_t dv, int64_t n_q, const float *q,
                                 const uint16_t *k, size_t k_stride, const uint16_t *v,
                                 size_t v_stride, uint64_t visible, float scale, float softcap,
                                 const float *bias, float *m, float *l, float *acc)
{
    struct attn a = {.dk = dk,
                     .dv = dv,
                     .k = k,
                     .v = v,
                     .k_stride = k_stride * sizeof *k,
                     .v_stride = v_stride * sizeof *v,
                     .visible = visible,
                     .scale = scale,
                     .softcap = softcap,
                     .bias = bias};
    attend(&a, n_q, true, q, m, l, acc);
}

static void attn_block_f32_lanes(int64_t dk, int64_t dv, int64_t n_q, const float *q,
                                 const float *k, size_t k_stride, const float *v, size_t v_stride,
                                 uint64_t visible, float scale, float softcap, const float *bias,
                                 float *m, float *l, float *acc)
{
    struct attn a = {.dk = dk,
                     .dv = dv,
                     .k = k,
                     .v = v,
                     .k_stride = k_stride * sizeof *k,
                     .v_stride = v_stride * sizeof *v,
                     .visible = visible,
                     .scale = scale,
                     .softcap = softcap,
                     .bias = bias};
    attend(&a, n_q, false, q, m, l, acc);
}

static void attn_merge_lanes(int64_t dv, float *m, float *l, float *acc, float m2, float l2,
                             const float *acc2)
{
    const float max = sh_max_f32(m2, *m);
    if (max == -INFINITY) return;
    const float r = sh_exp_f32(*m - max), r2 = sh_exp_f32(m2 - max);
    const float lr = *l * r, lr2 = l2 * r2;
    *l = lr + lr2;
    *m = max;

    const struct v16 vr = v16_set1(r), vr2 = v16_set1(r2);
    int64_t j = 0;
    for (; j + SH_LANES <= dv; j += SH_LANES) {
        const struct v16 a = v16_mul(v16_load(acc + j), vr);
        v16_store(acc + j, v16_add(a, v16_mul(v16_load(acc2 + j), vr2)));
    }
    if (j < dv) {
        const unsigned bits = (1u << (dv - j)) - 1u;
        const struct v16 a = v16_mul(v16_load_bits(acc + j, bits), vr);
        const struct v16 a2 = v16_mul(v16_load_bits(acc2 + j, bits), vr2);
        v16_store_bits(acc + j, v16_add(a, a2), bits);
    }
}

static void fill_attn(struct sh_kernels *k)
{
    k->attn_block_f16 = attn_block_f16_lanes;
    k->attn_block_f32 = attn_block_f32_lanes;
    k->attn_merge = attn_merge_lanes;
}

#endif
