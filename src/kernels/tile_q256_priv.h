/* kernels/tile_q256_priv.h - products of the super-block types in tiles of LANES outputs.
 *
 * A type is two unpackers.  The head of LANES super-blocks: 16 scales, as the tier multiplies by
 * them, and d and dmin.  A quarter of them: 64 elements as 16 vectors of codes (4 elements of
 * every row each), in the order in which the type's bytes give them:
 *
 *     in a row (q4_K, q5_K)      vector 4g + i = elements 64c + 16g + 4i ..
 *     four runs 32 apart         vector 4g + i = elements 128(c/2) + 32g + 16(c%2) + 4i ..
 *
 * so that every four vectors share one scale.  The integer sum of a super-block is
 *
 *     sum over runs of scale * (codes . a)  -  offset * (sum over runs of scale * sum(a))
 *
 * where the second part is for codes stored with an offset (q3_K, q6_K); types with minima have
 * the same form for them, with the minima as factors.  Both are sums of products of 16-bit pairs,
 * two runs at a time.
 *
 * As in tile_q32_priv.h, up to DIRECT_MAX activation rows are served directly from registers,
 * more of them from a scratch of decoded tiles.
 */
#ifndef KERNELS_TILE_Q256_PRIV_H
#define KERNELS_TILE_Q256_PRIV_H

#include "kernels/tile_priv.h"

enum {
    TILE_SUPERS = 2, /* super-blocks decoded at a time */
    TILE_ROWS = 4,   /* activation rows per pass */
    TILES = V_REGISTERS >= 32 ? 2 : 1,
    ROWS_MAX = 8,   /* activation rows of a direct pass */
    DIRECT_MAX = 8, /* activation rows that are served directly */
    SUPER_BYTES_MAX = 210
};

/* What goes with the codes of LANES super-blocks. */
struct head256 {
    vi sc[16];   /* scale of each run of 16: i32, or twice as i16 (AVX2) */
    vi pairs[8]; /* minima, or scales for the offset, of two runs each: i16 pairs */
    vf d, dmin;
};

typedef void unpack_head_fn(const uint8_t *p, size_t s, struct head256 *h);
typedef void unpack_quarter_fn(const uint8_t *p, size_t s, int c, vi q[16]);

/* All that the drivers need to know of a type; always a compile-time constant. */
struct type256 {
    unpack_head_fn *head;
    unpack_quarter_fn *quarter;
    size_t block_bytes;
    int bits;         /* of the codes */
    bool in_a_row;    /* order of the quarters */
    bool sum32;       /* scales and minima cover 32 elements: `pairs` has four entries */
    bool has_min;     /* `pairs` are minima */
    int offset_shift; /* codes are stored plus 1 << this, `pairs` are scales; -1: they are not */
};

/* Vectors of codes under one scale. */
TILE_INLINE int run_vectors(const struct type256 t)
{
    return t.sum32 ? 8 : 4;
}

struct tile256 {
    uint8_t q[TILE_SUPERS][64][4 * LANES];
    struct head256 head[TILE_SUPERS];
};

/* ---- dot products ----------------------------------------------------------------------------
 * A run is the 4 or 8 vectors of codes under one scale.  Vector i of the run takes part: the dots
 * of n_tiles tiles and n_rows activation rows go on side by side, and with the last vector of a
 * run they enter the sums, scaled. */

#if V_HAS_DOT
TILE_INLINE void dots_add(const struct type256 t, vi sum[2][ROWS_MAX], vi dot[2][ROWS_MAX],
                          const vi w[2], int n_tiles, const int8_t *const a[ROWS_MAX], int n_rows,
                          int i, const vi scale[2])
{
    TILE_UNROLL
    for (int r = 0; r < n_rows; r++) {
        const vi x = v_spread32(a[r] + 4 * i);
        TILE_UNROLL
        for (int n = 0; n < n_tiles; n++) {
            dot[n][r] = v_dot(i == 0 ? v_zero() : dot[n][r], w[n], x);
            if (i < run_vectors(t) - 1) continue;
            sum[n][r] = v_add32(sum[n][r], v_mul32(dot[n][r], scale[n]));
        }
    }
}
/* Scale j of four signed or small unsigned bytes per lane, in the tier's form. */
TILE_INLINE vi scale_of(vi bytes, int j)
{
    return v_sra32(v_shuffle8(bytes, v_bytes(-1, -1, -1, j)), 24);
}
#else
/* Pairs of products are added in 16 bits, as many steps as fit: eight of 4-bit codes, four of
 * 5-bit ones, two of 6-bit ones. */
TILE_INLINE void dots_add(const struct type256 t, vi sum[2][ROWS_MAX], vi part[2][ROWS_MAX],
                          const vi w[2], int n_tiles, const int8_t *const a[ROWS_MAX], int n_rows,
                          int i, const vi scale[2])
{
    const int fit = t.bits <= 4 ? 8 : t.bits == 5 ? 4 : 2;
    const int steps = fit < run_vectors(t) ? fit : run_vectors(t);

    TILE_UNROLL
    for (int n = 0; n < n_tiles; n++) {
        TILE_UNROLL
        for (int r = 0; r < n_rows; r++) {
            const vi two = _mm256_maddubs_epi16(w[n], v_spread32(a[r] + 4 * i));
            part[n][r] = i % steps == 0 ? two : _mm256_add_epi16(part[n][r], two);
            __asm__("" : "+x"(part[n][r])); // else gcc regroups sums and runs out of registers
            if (i % steps < steps - 1) continue;
            sum[n][r] = v_add32(sum[n][r], _mm256_madd_epi16(part[n][r], scale[n]));
            __asm__("" : "+x"(sum[n][r]));
        }
    }
}
TILE_INLINE vi scale_of(vi bytes, int j)
{
    return v_sra16(v_shuffle8(bytes, v_bytes(-1, j, -1, j)), 8);
}
#endif

/* Bytes 2j and 2j+1 of each lane as i16. */
TILE_INLINE vi pair_of(vi bytes, int j)
{
    return v_sra16(v_shuffle8(bytes, v_bytes(-1, 2 * j, -1, 2 * j + 1)), 8);
}

TILE_INLINE const struct sh_act_q8_K *act_at(const uint8_t *row, int64_t b)
{
    return (const struct sh_act_q8_K *)row + b;
}

/* First element of run g of quarter c. */
TILE_INLINE int run_start(bool in_a_row, int c, int g)
{
    return in_a_row ? 64 * c + 16 * g : 128 * (c / 2) + 32 * g + 16 * (c % 2);
}

/* One step of the chain. */
TILE_INLINE vf chain_step(const struct type256 t, vi sum, const struct head256 *h,
                          const struct sh_act_q8_K *a, vf acc)
{
    vf p;

    if (t.has_min || t.offset_shift >= 0) {
        const int16_t *sums = t.sum32 ? a->sum32 : a->sum16;
        const int n_pairs = t.sum32 ? 4 : 8;
        vi other = v_zero();
        TILE_UNROLL
        for (int j = 0; j < n_pairs; j++)
            other = v_dot_pairs(other, h->pairs[j], v_spread32(sums + 2 * j));
        if (t.has_min) {
            p = v_mulf(v_to_f32(sum), h->d);
            p = v_fnma(h->dmin, v_to_f32(other), p);
            return v_fma(p, v_spreadf(&a->d), acc);
        }
        sum = v_sub32(sum, v_sll32(other, t.offset_shift));
    }
    p = v_mulf(v_to_f32(sum), h->d);
    return v_fma(p, v_spreadf(&a->d), acc);
}

/* The activation rows of one pass. */
struct pass {
    const uint8_t *row[ROWS_MAX];
    float *dst[2][ROWS_MAX]; /* where the outputs of tile n and row r begin */
};

/* Rows j.. of a job.  Where it has fewer, the last one stands in for the missing ones, and its
 * outputs are written again, with the same bits. */
TILE_INLINE struct pass pass_from(const struct tile_job *job, int64_t j, int n_rows,
                                  const int64_t at[2])
{
    struct pass p;

    TILE_UNROLL
    for (int r = 0; r < n_rows; r++) {
        const size_t jr = tile_row_index(job, j + r);
        p.row[r] = job->act + jr * job->act_stride;
        p.dst[0][r] = job->dst + jr * job->dst_stride + at[0];
        p.dst[1][r] = job->dst + jr * job->dst_stride + at[1];
    }
    return p;
}

/* ---- direct ----------------------------------------------------------------------------------*/

/* LANES outputs from `at` against n_rows activation rows from row j on. */
TILE_INLINE void direct256(const struct type256 t, const struct tile_job *job, int64_t at,
                           int64_t j, int n_rows)
{
    const uint8_t *w = job->w + (size_t)at * job->w_stride + (size_t)job->b0 * t.block_bytes;
    const uint8_t *next = w + LANES * job->w_stride;
    const struct pass p = pass_from(job, j, n_rows, (const int64_t[2]){at, at});
    const int len = run_vectors(t);
    struct head256 h;
    vf acc[ROWS_MAX];
    vi q[16], sum[2][ROWS_MAX], dot[2][ROWS_MAX];

    TILE_UNROLL
    for (int r = 0; r < n_rows; r++)
        acc[r] = v_zerof();
    for (int64_t b = job->b0; b < job->b1; b++) {
        t.head(w, job->w_stride, &h);
        TILE_UNROLL
        for (int r = 0; r < n_rows; r++)
            sum[0][r] = v_zero();
        for (int c = 0; c < 4; c++) {
            t.quarter(w, job->w_stride, c, q);
            tile_prefetch(next, (LANES * t.block_bytes + 255) / 256 * 64);
            next += LANES * t.block_bytes / 4;
            TILE_UNROLL
            for (int i = 0; i < 16; i++) {
                const int e = run_start(t.in_a_row, c, i / len * len / 4);
                const int8_t *a[ROWS_MAX];
                TILE_UNROLL
                for (int r = 0; r < n_rows; r++)
                    a[r] = act_at(p.row[r], b)->q + e;
                dots_add(t, sum, dot, &q[i], 1, a, n_rows, i % len, &h.sc[e / 16]);
            }
        }
        TILE_UNROLL
        for (int r = 0; r < n_rows; r++) {
            const struct sh_act_q8_K *a = act_at(p.row[r], b);
            acc[r] = chain_step(t, sum[0][r], &h, a, acc[r]);
        }
        w += t.block_bytes;
    }
    TILE_UNROLL
    for (int r = 0; r < n_rows; r++)
        v_storef(p.dst[0][r], acc[r]);
}

/* ---- tiled -----------------------------------------------------------------------------------*/

/* Decode n super-blocks of LANES rows at p, s apart; fetch as much from `next`. */
TILE_INLINE void fill256(const struct type256 t, struct tile256 *tile, const uint8_t *p, size_t s,
                         int64_t n, const uint8_t *next)
{
    vi q[16];

    for (int64_t b = 0; b < n; b++, p += t.block_bytes) {
        t.head(p, s, &tile->head[b]);
        for (int c = 0; c < 4; c++) {
            t.quarter(p, s, c, q);
            tile_prefetch(next, (LANES * t.block_bytes + 255) / 256 * 64);
            next += LANES * t.block_bytes / 4;
            TILE_UNROLL
            for (int i = 0; i < 16; i++) {
                const int e = run_start(t.in_a_row, c, i / 4) + 4 * (i % 4);
                memcpy(tile->q[b][e / 4], &q[i], sizeof q[i]);
            }
        }
    }
}

/* The filled tiles against TILE_ROWS activation rows. */
TILE_INLINE void core256(const struct type256 t, const struct tile256 tile[TILES],
                         const struct pass *p, int64_t b0, int64_t n_supers, vmask mask, bool first)
{
    const int len = run_vectors(t);
    vf acc[2][TILE_ROWS];
    vi sum[2][ROWS_MAX], dot[2][ROWS_MAX];

    TILE_UNROLL
    for (int n = 0; n < TILES; n++) {
        TILE_UNROLL
        for (int r = 0; r < TILE_ROWS; r++)
            acc[n][r] = first ? v_zerof() : v_load_masked(p->dst[n][r], mask);
    }
    for (int64_t b = 0; b < n_supers; b++) {
        TILE_UNROLL
        for (int n = 0; n < TILES; n++) {
            TILE_UNROLL
            for (int r = 0; r < TILE_ROWS; r++)
                sum[n][r] = v_zero();
        }
        for (int v = 0; v < 64; v += len) {
            const int8_t *a[ROWS_MAX];
            vi scale[2], w[2];
            TILE_UNROLL
            for (int r = 0; r < TILE_ROWS; r++)
                a[r] = act_at(p->row[r], b0 + b)->q + 4 * v;
            TILE_UNROLL
            for (int n = 0; n < TILES; n++)
                scale[n] = tile[n].head[b].sc[v / 4];
            TILE_UNROLL
            for (int i = 0; i < len; i++) {
                TILE_UNROLL
                for (int n = 0; n < TILES; n++)
                    w[n] = v_load(tile[n].q[b][v + i]);
                dots_add(t, sum, dot, w, TILES, a, TILE_ROWS, i, scale);
            }
        }
        TILE_UNROLL
        for (int n = 0; n < TILES; n++) {
            TILE_UNROLL
            for (int r = 0; r < TILE_ROWS; r++) {
                const struct sh_act_q8_K *a = act_at(p->row[r], b0 + b);
                acc[n][r] = chain_step(t, sum[n][r], &tile[n].head[b], a, acc[n][r]);
            }
        }
    }
    TILE_UNROLL
    for (int n = 0; n < TILES; n++) {
        TILE_UNROLL
        for (int r = 0; r < TILE_ROWS; r++)
            v_store_masked(p->dst[n][r], mask, acc[n][r]);
    }
}

/* Outputs from at[0] and, with two tiles, from at[1]; `rows` of LANES exist. */
TILE_INLINE void tiled256(const struct type256 t, const struct tile_job *job, const int64_t at[2],
                          int64_t rows)
{
    const uint8_t *next =
        job->w + (size_t)(at[0] + TILES * LANES) * job->w_stride + (size_t)job->b0 * t.block_bytes;
    uint8_t pad[LANES * TILE_SUPERS * SUPER_BYTES_MAX];
    struct tile256 tile[TILES];

    for (int64_t b = job->b0; b < job->b1; b += TILE_SUPERS) {
        const int64_t n_supers = job->b1 - b < TILE_SUPERS ? job->b1 - b : TILE_SUPERS;
        const size_t bytes = (size_t)n_supers * t.block_bytes;
        for (int n = 0; n < TILES; n++) {
            const uint8_t *p = job->w + (size_t)at[n] * job->w_stride + (size_t)b * t.block_bytes;
            if (rows < LANES) tile_pad(pad, p, job->w_stride, rows, bytes);
            fill256(t, &tile[n], rows < LANES ? pad : p, rows < LANES ? bytes : job->w_stride,
                    n_supers, next);
            next += LANES * bytes;
        }
        for (int64_t j = 0; j < job->n_act; j += TILE_ROWS) {
            const struct pass p = pass_from(job, j, TILE_ROWS, at);
            core256(t, tile, &p, b, n_supers, v_mask(rows), b == job->b0);
        }
    }
}

/* ---- the types -------------------------------------------------------------------------------*/

/* Four scales from the bytes of each lane, for runs j, j + 1, .. */
TILE_INLINE void put_scales(struct head256 *h, int j, vi bytes)
{
    TILE_UNROLL
    for (int i = 0; i < 4; i++)
        h->sc[j + i] = scale_of(bytes, i);
}

/* The same for runs of 32. */
TILE_INLINE void put_scales32(struct head256 *h, int j, vi bytes)
{
    TILE_UNROLL
    for (int i = 0; i < 4; i++)
        h->sc[2 * (j + i)] = h->sc[2 * (j + i) + 1] = scale_of(bytes, i);
}

TILE_INLINE void put_pairs(struct head256 *h, int j, vi bytes)
{
    h->pairs[j] = pair_of(bytes, 0);
    h->pairs[j + 1] = pair_of(bytes, 1);
}

/* 64 codes of 2 bits from 16 bytes per row: bits 2k of byte l are element 32k + l. */
TILE_INLINE void unpack_pairs256(vi q[16], const uint8_t *p, size_t s)
{
    const vi low = v_set1_8(3);
    vi raw[4];

    v_load_rows(raw, p, s);
    TILE_UNROLL
    for (int i = 0; i < 4; i++) {
        q[i] = v_and(raw[i], low);
        q[4 + i] = v_and(v_srl16(raw[i], 2), low);
        q[8 + i] = v_and(v_srl16(raw[i], 4), low);
        q[12 + i] = v_and(v_srl16(raw[i], 6), low);
    }
}

TILE_INLINE void head_q2_K(const uint8_t *p, size_t s, struct head256 *h)
{
    const vi low = v_set1_8(15);
    const vi scales = v_load_last(p + 68, s); // d and dmin, the last four bytes
    vi raw[4];

    h->d = v_low_f16(scales);
    h->dmin = v_low_f16(v_srl32(scales, 16));
    v_load_rows(raw, p, s);
    TILE_UNROLL
    for (int i = 0; i < 4; i++) {
        put_scales(h, 4 * i, v_and(raw[i], low));
        put_pairs(h, 2 * i, v_and(v_srl16(raw[i], 4), low));
    }
}

TILE_INLINE void quarter_q2_K(const uint8_t *p, size_t s, int c, vi q[16])
{
    unpack_pairs256(q, p + 16 + 16 * c, s);
}

TILE_INLINE void head_q3_K(const uint8_t *p, size_t s, struct head256 *h)
{
    const vi low = v_set1_8(15), two = v_set1_8(3), half = v_set1_8(32);
    vi raw[4]; // 4 bytes of codes, then the 12 of the scales

    v_load_rows(raw, p + 92, s);
    h->d = v_low_f16(v_srl32(v_load_last(p + 94, s), 16));
    h->dmin = v_zerof();
    TILE_UNROLL
    for (int i = 0; i < 4; i++) {
        const vi nibbles = i < 2 ? raw[1 + i] : v_srl16(raw[i - 1], 4);
        const vi high = v_sll32(v_and(v_srl16(raw[3], 2 * i), two), 4);
        const vi sc = v_sub8(v_or(v_and(nibbles, low), high), half);
        put_scales(h, 4 * i, sc);
        put_pairs(h, 2 * i, sc);
    }
}

TILE_INLINE void quarter_q3_K(const uint8_t *p, size_t s, int c, vi q[16])
{
    vi raw[4];

    unpack_pairs256(q, p + 32 + 16 * c, s);
    v_load_rows(raw, p + 16 * (c % 2), s);
    TILE_UNROLL
    for (int i = 0; i < 16; i++) {
        const vi bit = v_set1_8((char)(1 << (4 * (c / 2) + i / 4)));
        q[i] = v_add_if(q[i], raw[i % 4], bit, 4);
    }
}

/* d, dmin and the 6-bit scales and minima of q4_K and q5_K. */
TILE_INLINE void head_q4_K(const uint8_t *p, size_t s, struct head256 *h)
{
    const vi six = v_set1_8(63), low = v_set1_8(15), high = v_set1_8(48);
    vi raw[4];

    v_load_rows(raw, p, s);
    h->d = v_low_f16(raw[0]);
    h->dmin = v_low_f16(v_srl32(raw[0], 16));
    put_scales32(h, 0, v_and(raw[1], six));
    put_scales32(h, 4, v_or(v_and(raw[3], low), v_and(v_srl16(raw[1], 2), high)));
    put_pairs(h, 0, v_and(raw[2], six));
    put_pairs(h, 2, v_or(v_and(v_srl16(raw[3], 4), low), v_and(v_srl16(raw[2], 2), high)));
}

/* 64 codes of 4 bits from 32 bytes per row: the low nibbles first. */
TILE_INLINE void unpack_nibbles256(vi q[16], const uint8_t *p, size_t s)
{
    const vi low = v_set1_8(15);
    vi raw[8];

    v_load_rows(raw, p, s);
    v_load_rows(raw + 4, p + 16, s);
    TILE_UNROLL
    for (int i = 0; i < 8; i++) {
        q[i] = v_and(raw[i], low);
        q[8 + i] = v_and(v_srl16(raw[i], 4), low);
    }
}

TILE_INLINE void quarter_q4_K(const uint8_t *p, size_t s, int c, vi q[16])
{
    unpack_nibbles256(q, p + 16 + 32 * c, s);
}

TILE_INLINE void quarter_q5_K(const uint8_t *p, size_t s, int c, vi q[16])
{
    vi raw[8];

    unpack_nibbles256(q, p + 48 + 32 * c, s);
    v_load_rows(raw, p + 16, s);
    v_load_rows(raw + 4, p + 32, s);
    TILE_UNROLL
    for (int i = 0; i < 16; i++) {
        const vi bit = v_set1_8((char)(1 << (2 * c + i / 8)));
        q[i] = v_add_if(q[i], raw[i % 8], bit, 16);
    }
}

TILE_INLINE void head_q6_K(const uint8_t *p, size_t s, struct head256 *h)
{
    vi raw[4];

    h->d = v_low_f16(v_srl32(v_load_last(p + 194, s), 16));
    h->dmin = v_zerof();
    v_load_rows(raw, p + 192, s);
    TILE_UNROLL
    for (int i = 0; i < 4; i++) {
        put_scales(h, 4 * i, raw[i]);
        put_pairs(h, 2 * i, raw[i]);
    }
}

TILE_INLINE void quarter_q6_K(const uint8_t *p, size_t s, int c, vi q[16])
{
    const uint8_t *ql = p + 64 * (c / 2) + 16 * (c % 2);
    const vi low = v_set1_8(15), high = v_set1_8(48);
    vi a[4], b[4], h[4];

    v_load_rows(a, ql, s);
    v_load_rows(b, ql + 32, s);
    v_load_rows(h, p + 128 + 16 * c, s);
    TILE_UNROLL
    for (int i = 0; i < 4; i++) {
        q[i] = v_or(v_and(a[i], low), v_and(v_sll32(h[i], 4), high));
        q[4 + i] = v_or(v_and(b[i], low), v_and(v_sll32(h[i], 2), high));
        q[8 + i] = v_or(v_and(v_srl16(a[i], 4), low), v_and(h[i], high));
        q[12 + i] = v_or(v_and(v_srl16(b[i], 4), low), v_and(v_srl16(h[i], 2), high));
    }
}

/* id, name, bits, in_a_row, sum32, has_min, offset_shift; q5_K has the head of q4_K. */
#define head_q5_K head_q4_K
#define TYPES256(X)                                                                                \
    X(Q2_K, q2_K, 2, false, false, true, -1)                                                       \
    X(Q3_K, q3_K, 3, false, false, false, 2)                                                       \
    X(Q4_K, q4_K, 4, true, true, true, -1)                                                         \
    X(Q5_K, q5_K, 5, true, true, true, -1)                                                         \
    X(Q6_K, q6_K, 6, false, false, false, 5)

#define X(id, name, code_bits, row, by32, with_min, shift)                                         \
    static const struct type256 TYPE_##id = {.head = head_##name,                                  \
                                             .quarter = quarter_##name,                            \
                                             .block_bytes = sizeof(struct sh_block_##name),        \
                                             .bits = code_bits,                                    \
                                             .in_a_row = row,                                      \
                                             .sum32 = by32,                                        \
                                             .has_min = with_min,                                  \
                                             .offset_shift = shift};                               \
    TILE_TYPE(id, name, 256, DIRECT_MAX, 256)
TYPES256(X)
#undef X

static void fill_types256(struct sh_kernels *k)
{
#define X(id, name, ...) k->mm[SH_DTYPE_##id] = mm_##name;
    TYPES256(X)
#undef X
}

#endif
