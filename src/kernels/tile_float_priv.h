/* kernels/tile_float_priv.h - products of plain float weights in tiles of LANES outputs.
 *
 * Each output is one chain of fused multiply-adds over k; lanes are outputs, so a step of all
 * chains is one instruction, and several activation rows and tiles hide its latency.  A type is
 * a loader: STEP elements of LANES rows become STEP vectors of f32.
 *
 * Up to DIRECT_MAX activation rows are served directly from registers, more of them from a
 * scratch of decoded tiles (see tile_q32_priv.h).  The last
 * elements of a range that are no whole STEP are copied beside zeros first, and only they take
 * a step.
 */
#ifndef KERNELS_TILE_FLOAT_PRIV_H
#define KERNELS_TILE_FLOAT_PRIV_H

#include "kernels/tile_priv.h"

enum {
    STEP = 8,       /* elements per load */
    TILE_RUN = 256, /* elements decoded at a time, a multiple of STEP */
    TILE_ROWS = 4,  /* activation rows per pass */
    TILES = 2,
    ROWS_MAX = 8,   /* activation rows of a direct pass */
    DIRECT_MAX = 8, /* activation rows that are served directly */
    ELEMENT_MAX = 4 /* bytes */
};

typedef void load_fn(const uint8_t *p, size_t s, vf w[STEP]);

/* All that the drivers need to know of a type; always a compile-time constant. */
struct typef {
    load_fn *load;
    size_t bytes; /* of an element */
};

struct tilef {
    float w[TILE_RUN][LANES];
};

/* ---- loading ---------------------------------------------------------------------------------*/

TILE_INLINE void load_f32(const uint8_t *p, size_t s, vf w[STEP])
{
    vi raw[8];

    v_load_rows(raw, p, s);
    v_load_rows(raw + 4, p + 16, s);
    TILE_UNROLL
    for (int i = 0; i < 8; i++)
        w[i] = v_as_f32(raw[i]);
}

TILE_INLINE void load_f16(const uint8_t *p, size_t s, vf w[STEP])
{
    vi raw[4];

    v_load_rows(raw, p, s);
    TILE_UNROLL
    for (int i = 0; i < 4; i++)
        v_split_f16(raw[i], &w[2 * i], &w[2 * i + 1]);
}

TILE_INLINE void load_bf16(const uint8_t *p, size_t s, vf w[STEP])
{
    const vi high = v_set1((int)0xffff0000);
    vi raw[4];

    v_load_rows(raw, p, s);
    TILE_UNROLL
    for (int i = 0; i < 4; i++) {
        w[2 * i] = v_as_f32(v_sll32(raw[i], 16));
        w[2 * i + 1] = v_as_f32(v_and(raw[i], high));
    }
}

/* n < STEP elements of `rows` rows; what is missing is zero. */
TILE_INLINE void load_part(const struct typef t, const uint8_t *p, size_t s, int64_t rows,
                           int64_t n, vf w[STEP])
{
    uint8_t part[LANES][STEP * ELEMENT_MAX];

    memset(part, 0, sizeof part);
    for (int64_t i = 0; i < rows; i++)
        memcpy(part[i], p + (size_t)i * s, (size_t)n * t.bytes);
    t.load(part[0], sizeof part[0], w);
}

/* ---- direct ----------------------------------------------------------------------------------*/

/* The activation rows of one pass. */
struct pass {
    const float *row[ROWS_MAX];
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
        p.row[r] = (const float *)(job->act + jr * job->act_stride);
        p.dst[0][r] = job->dst + jr * job->dst_stride + at[0];
        p.dst[1][r] = job->dst + jr * job->dst_stride + at[1];
    }
    return p;
}

/* LANES outputs from `at` against n_rows activation rows from row j on. */
TILE_INLINE void directf(const struct typef t, const struct tile_job *job, int64_t at, int64_t j,
                         int n_rows)
{
    const uint8_t *w = job->w + (size_t)at * job->w_stride + (size_t)job->b0 * t.bytes;
    const uint8_t *next = w + LANES * job->w_stride;
    const struct pass p = pass_from(job, j, n_rows, (const int64_t[2]){at, at});
    const int64_t whole = job->b0 + (job->b1 - job->b0) / STEP * STEP;
    vf acc[ROWS_MAX], v[STEP];

    TILE_UNROLL
    for (int r = 0; r < n_rows; r++)
        acc[r] = v_zerof();
    for (int64_t k = job->b0; k < whole; k += STEP) {
        t.load(w, job->w_stride, v);
        tile_prefetch(next, STEP * LANES * t.bytes);
        TILE_UNROLL
        for (int i = 0; i < STEP; i++) {
            TILE_UNROLL
            for (int r = 0; r < n_rows; r++)
                acc[r] = v_fma(v[i], v_spreadf(p.row[r] + k + i), acc[r]);
        }
        w += STEP * t.bytes;
        next += STEP * LANES * t.bytes;
    }
    if (whole < job->b1) {
        float rest[STEP][LANES];
        load_part(t, w, job->w_stride, LANES, job->b1 - whole, v);
        TILE_UNROLL
        for (int i = 0; i < STEP; i++)
            v_storef(rest[i], v[i]);
        for (int64_t k = whole; k < job->b1; k++) {
            TILE_UNROLL
            for (int r = 0; r < n_rows; r++)
                acc[r] = v_fma(v_loadf(rest[k - whole]), v_spreadf(p.row[r] + k), acc[r]);
        }
    }
    TILE_UNROLL
    for (int r = 0; r < n_rows; r++)
        v_storef(p.dst[0][r], acc[r]);
}

/* ---- tiled -----------------------------------------------------------------------------------*/

/* Decode n elements of `rows` rows at p, s apart; fetch as much from `next`. */
TILE_INLINE void fillf(const struct typef t, struct tilef *tile, const uint8_t *p, size_t s,
                       int64_t rows, int64_t n, const uint8_t *next)
{
    vf v[STEP];

    for (int64_t k = 0; k < n; k += STEP, p += STEP * t.bytes) {
        if (n - k >= STEP && rows == LANES) {
            t.load(p, s, v);
            tile_prefetch(next, STEP * LANES * t.bytes);
            next += STEP * LANES * t.bytes;
        } else {
            load_part(t, p, s, rows, n - k < STEP ? n - k : STEP, v);
        }
        TILE_UNROLL
        for (int i = 0; i < STEP; i++)
            v_storef(tile->w[k + i], v[i]);
    }
}

/* The filled tiles against TILE_ROWS activation rows, elements k0..k0+n-1. */
TILE_INLINE void coref(const struct tilef tile[TILES], const struct pass *p, int64_t k0, int64_t n,
                       vmask mask, bool first)
{
    vf acc[2][TILE_ROWS], w[2];

    TILE_UNROLL
    for (int i = 0; i < TILES; i++) {
        TILE_UNROLL
        for (int r = 0; r < TILE_ROWS; r++)
            acc[i][r] = first ? v_zerof() : v_load_masked(p->dst[i][r], mask);
    }
    for (int64_t k = 0; k < n; k++) {
        TILE_UNROLL
        for (int i = 0; i < TILES; i++)
            w[i] = v_loadf(tile[i].w[k]);
        TILE_UNROLL
        for (int r = 0; r < TILE_ROWS; r++) {
            const vf x = v_spreadf(p->row[r] + k0 + k);
            TILE_UNROLL
            for (int i = 0; i < TILES; i++)
                acc[i][r] = v_fma(w[i], x, acc[i][r]);
        }
    }
    TILE_UNROLL
    for (int i = 0; i < TILES; i++) {
        TILE_UNROLL
        for (int r = 0; r < TILE_ROWS; r++)
            v_store_masked(p->dst[i][r], mask, acc[i][r]);
    }
}

/* Outputs from at[0] and, with two tiles, from at[1]; `rows` of LANES exist. */
TILE_INLINE void tiledf(const struct typef t, const struct tile_job *job, const int64_t at[2],
                        int64_t rows)
{
    const uint8_t *next =
        job->w + (size_t)(at[0] + TILES * LANES) * job->w_stride + (size_t)job->b0 * t.bytes;
    struct tilef tile[TILES];

    for (int64_t k = job->b0; k < job->b1; k += TILE_RUN) {
        const int64_t n = job->b1 - k < TILE_RUN ? job->b1 - k : TILE_RUN;
        for (int i = 0; i < TILES; i++) {
            const uint8_t *p = job->w + (size_t)at[i] * job->w_stride + (size_t)k * t.bytes;
            fillf(t, &tile[i], p, job->w_stride, rows, n, next);
            next += (size_t)n * LANES * t.bytes;
        }
        for (int64_t j = 0; j < job->n_act; j += TILE_ROWS) {
            const struct pass p = pass_from(job, j, TILE_ROWS, at);
            coref(tile, &p, k, n, v_mask(rows), k == job->b0);
        }
    }
}

/* ---- the types -------------------------------------------------------------------------------*/

#define TYPESF(X)                                                                                  \
    X(F32, f32, 4)                                                                                 \
    X(F16, f16, 2)                                                                                 \
    X(BF16, bf16, 2)

#define X(id, name, size)                                                                          \
    static const struct typef TYPE_##id = {.load = load_##name, .bytes = size};                    \
    TILE_TYPE(id, name, f, DIRECT_MAX, 1)
TYPESF(X)
#undef X

static void fill_typesf(struct sh_kernels *k)
{
#define X(id, name, ...) k->mm[SH_DTYPE_##id] = mm_##name;
    TYPESF(X)
#undef X
}

#endif
