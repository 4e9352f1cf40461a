/* kernels/tile_q32_priv.h - products of the 32-block types in tiles of LANES outputs.
 *
 * A type is one unpacker: one block of LANES rows becomes eight vectors of codes (vector c holds
 * elements 4c..4c+3 of every row), a vector of scales and, where the type has one, a vector of
 * minima.  Two drivers use it.  "Direct", for up to DIRECT_MAX activation rows: codes go from
 * registers into the dots.  "Tiled", for more: the codes of one or two tiles and TILE_BLOCKS blocks
 * are laid down in a scratch that stays in the first-level cache while all activation rows pass by
 * in fours; the chains wait in dst between scratches, where they keep their bits.
 *
 * Codes are multiplied as unsigned by signed bytes.  They are stored with an offset z that the
 * activation rows undo: the integer sum starts at -z * sum(a).  AVX2 has no such dot product; it
 * adds pairs in 16 bits, so many steps as fit (codes up to 15: 8 * 2 * 15 * 127 = 30480; up to
 * 31: four steps), and multiplies 8-bit codes as |w| * (a with the sign of w).  NEON multiplies
 * signed bytes, so that 8-bit codes need no offset.
 */
#ifndef KERNELS_TILE_Q32_PRIV_H
#define KERNELS_TILE_Q32_PRIV_H

#include "kernels/tile_priv.h"

enum {
    TILE_BLOCKS = 16, /* blocks decoded at a time */
    TILE_ROWS = 4,    /* activation rows per pass over a tile */
    TILES =
        V_REGISTERS >= 32 ? 2 : 1, /* tiles that share a broadcast: as many as the registers hold */
    ROWS_MAX = 8,                  /* activation rows of a direct pass */
    DIRECT_MAX = 8,                /* activation rows that are served directly */
    BLOCK_BYTES_MAX = 34
};

/* Codes of a type: unsigned of 4 or 5 bits, or 8 bits (signed, or plus 128: V_SIGNED_CODES). */
enum codes { CODES_U4 = 4, CODES_U5 = 5, CODES_8 = 8 };

typedef void unpack32_fn(const uint8_t *p, size_t s, vi q[8], vf *d, vf *m);

/* All that the drivers need to know of a type; always a compile-time constant. */
struct type32 {
    unpack32_fn *unpack;
    size_t block_bytes;
    enum codes codes;
    int offset; /* z of the codes: 0, 8, 16 or 128 */
    bool has_min;
};

struct tile32 {
    uint8_t q[TILE_BLOCKS][8][4 * LANES];
    float d[TILE_BLOCKS][LANES], m[TILE_BLOCKS][LANES];
};

/* ---- the dot products of one block -----------------------------------------------------------
 * Of n_tiles tiles and n_rows activation rows, all at once: elements 4c..4c+3 of each before the
 * next, so that many short chains run side by side and each broadcast serves all tiles. */

#if V_HAS_DOT
TILE_INLINE void dots_add(vi sum[2][ROWS_MAX], vi part[2][ROWS_MAX], const vi w[2], int n_tiles,
                          const int8_t *const a[ROWS_MAX], int n_rows, enum codes codes, int c)
{
    (void)part;
    (void)codes;
    TILE_UNROLL
    for (int r = 0; r < n_rows; r++) {
        const vi x = v_spread32(a[r] + 4 * c);
        TILE_UNROLL
        for (int n = 0; n < n_tiles; n++)
            sum[n][r] = v_dot(sum[n][r], w[n], x);
    }
}
#else
/* Keeps the compiler from regrouping a sum, which makes it run out of registers. */
#define V_PIN(x) __asm__("" : "+x"(x))

TILE_INLINE void dots_add(vi sum[2][ROWS_MAX], vi part[2][ROWS_MAX], const vi w[2], int n_tiles,
                          const int8_t *const a[ROWS_MAX], int n_rows, enum codes codes, int c)
{
    const vi ones = _mm256_set1_epi16(1);
    const int steps = codes == CODES_U4 ? 8 : codes == CODES_U5 ? 4 : 1;

    TILE_UNROLL
    for (int n = 0; n < n_tiles; n++) {
        const vi size = codes == CODES_8 ? _mm256_abs_epi8(w[n]) : w[n];
        TILE_UNROLL
        for (int r = 0; r < n_rows; r++) {
            const vi x = v_spread32(a[r] + 4 * c);
            const vi y = codes == CODES_8 ? _mm256_sign_epi8(x, w[n]) : x;
            const vi two = _mm256_maddubs_epi16(size, y);
            part[n][r] = c % steps == 0 ? two : _mm256_add_epi16(part[n][r], two);
            V_PIN(part[n][r]);
            if (c % steps < steps - 1) continue;
            sum[n][r] = v_add32(sum[n][r], _mm256_madd_epi16(part[n][r], ones));
            V_PIN(sum[n][r]);
        }
    }
}
#endif

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

/* The parts of one block of activations. */
struct act32 {
    const int8_t *q[ROWS_MAX];
    const float *d[ROWS_MAX], *s[ROWS_MAX];
    const int32_t *start[ROWS_MAX];
};

TILE_INLINE struct act32 act32_at(const struct type32 t, const struct pass *p, int n_rows,
                                  int64_t block)
{
    struct act32 x;

    TILE_UNROLL
    for (int r = 0; r < n_rows; r++) {
        if (t.has_min) {
            const struct sh_act_q8_1 *a = (const struct sh_act_q8_1 *)p->row[r] + block;
            x.q[r] = a->q, x.d[r] = &a->d, x.s[r] = &a->s, x.start[r] = NULL;
        } else {
            const struct sh_act_q8_0 *a = (const struct sh_act_q8_0 *)p->row[r] + block;
            x.q[r] = a->q, x.d[r] = &a->d, x.s[r] = NULL;
            x.start[r] = t.offset == 8 ? &a->n8 : t.offset == 16 ? &a->n16 : &a->n128;
        }
    }
    return x;
}

/* The integer sums begin at what undoes the offset of the codes. */
TILE_INLINE void dots_begin(const struct type32 t, vi sum[2][ROWS_MAX], int n_tiles,
                            const struct act32 *x, int n_rows)
{
    TILE_UNROLL
    for (int r = 0; r < n_rows; r++) {
        TILE_UNROLL
        for (int n = 0; n < n_tiles; n++)
            sum[n][r] = t.offset ? v_spread32(x->start[r]) : v_zero();
    }
}

/* One step of the chain. */
TILE_INLINE vf chain_step(const struct type32 t, vi sum, vf d, vf m, const struct act32 *x, int r,
                          vf acc)
{
    acc = v_fma(v_to_f32(sum), v_mulf(d, v_spreadf(x->d[r])), acc);
    return t.has_min ? v_fma(m, v_spreadf(x->s[r]), acc) : acc;
}

/* ---- direct ----------------------------------------------------------------------------------*/

/* LANES outputs from `at` against n_rows activation rows. */
TILE_INLINE void direct32(const struct type32 t, const struct tile_job *job, int64_t at, int64_t j,
                          int n_rows)
{
    const uint8_t *w = job->w + (size_t)at * job->w_stride + (size_t)job->b0 * t.block_bytes;
    const uint8_t *next = w + LANES * job->w_stride;
    const struct pass p = pass_from(job, j, n_rows, (const int64_t[2]){at, at});
    vf acc[ROWS_MAX], d, m;
    vi q[8], sum[2][ROWS_MAX], part[2][ROWS_MAX];

    TILE_UNROLL
    for (int r = 0; r < n_rows; r++)
        acc[r] = v_zerof();
    for (int64_t b = job->b0; b < job->b1; b++) {
        const struct act32 x = act32_at(t, &p, n_rows, b);
        t.unpack(w, job->w_stride, q, &d, &m);
        tile_prefetch(next, LANES * t.block_bytes);
        dots_begin(t, sum, 1, &x, n_rows);
        TILE_UNROLL
        for (int c = 0; c < 8; c++)
            dots_add(sum, part, &q[c], 1, x.q, n_rows, t.codes, c);
        TILE_UNROLL
        for (int r = 0; r < n_rows; r++)
            acc[r] = chain_step(t, sum[0][r], d, m, &x, r, acc[r]);
        w += t.block_bytes;
        next += LANES * t.block_bytes;
    }
    TILE_UNROLL
    for (int r = 0; r < n_rows; r++)
        v_storef(p.dst[0][r], acc[r]);
}

/* ---- tiled -----------------------------------------------------------------------------------*/

/* Decode n_blocks blocks of LANES rows at p, s apart; fetch as much from `next`. */
TILE_INLINE void fill32(const struct type32 t, struct tile32 *tile, const uint8_t *p, size_t s,
                        int64_t n_blocks, const uint8_t *next)
{
    vf d, m;
    vi q[8];

    for (int64_t b = 0; b < n_blocks; b++) {
        t.unpack(p + (size_t)b * t.block_bytes, s, q, &d, &m);
        tile_prefetch(next + (size_t)b * LANES * t.block_bytes, LANES * t.block_bytes);
        TILE_UNROLL
        for (int c = 0; c < 8; c++)
            memcpy(tile->q[b][c], &q[c], sizeof q[c]);
        v_storef(tile->d[b], d);
        if (t.has_min) v_storef(tile->m[b], m);
    }
}

/* The filled tiles against TILE_ROWS activation rows. */
TILE_INLINE void core32(const struct type32 t, const struct tile32 tile[TILES],
                        const struct pass *p, int64_t b0, int64_t n_blocks, vmask mask, bool first)
{
    vf acc[2][TILE_ROWS];
    vi sum[2][ROWS_MAX], part[2][ROWS_MAX], w[2];

    TILE_UNROLL
    for (int n = 0; n < TILES; n++) {
        TILE_UNROLL
        for (int r = 0; r < TILE_ROWS; r++)
            acc[n][r] = first ? v_zerof() : v_load_masked(p->dst[n][r], mask);
    }
    for (int64_t b = 0; b < n_blocks; b++) {
        const struct act32 x = act32_at(t, p, TILE_ROWS, b0 + b);
        dots_begin(t, sum, TILES, &x, TILE_ROWS);
        TILE_UNROLL
        for (int c = 0; c < 8; c++) {
            TILE_UNROLL
            for (int n = 0; n < TILES; n++)
                w[n] = v_load(tile[n].q[b][c]);
            dots_add(sum, part, w, TILES, x.q, TILE_ROWS, t.codes, c);
        }
        TILE_UNROLL
        for (int n = 0; n < TILES; n++) {
            const vf d = v_loadf(tile[n].d[b]), m = t.has_min ? v_loadf(tile[n].m[b]) : v_zerof();
            TILE_UNROLL
            for (int r = 0; r < TILE_ROWS; r++)
                acc[n][r] = chain_step(t, sum[n][r], d, m, &x, r, acc[n][r]);
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
TILE_INLINE void tiled32(const struct type32 t, const struct tile_job *job, const int64_t at[2],
                         int64_t rows)
{
    const uint8_t *next =
        job->w + (size_t)(at[0] + TILES * LANES) * job->w_stride + (size_t)job->b0 * t.block_bytes;
    uint8_t pad[LANES * TILE_BLOCKS * BLOCK_BYTES_MAX];
    struct tile32 tile[TILES];

    for (int64_t b = job->b0; b < job->b1; b += TILE_BLOCKS) {
        const int64_t n_blocks = job->b1 - b < TILE_BLOCKS ? job->b1 - b : TILE_BLOCKS;
        const size_t bytes = (size_t)n_blocks * t.block_bytes;
        for (int n = 0; n < TILES; n++) {
            const uint8_t *p = job->w + (size_t)at[n] * job->w_stride + (size_t)b * t.block_bytes;
            if (rows < LANES) tile_pad(pad, p, job->w_stride, rows, bytes);
            fill32(t, &tile[n], rows < LANES ? pad : p, rows < LANES ? bytes : job->w_stride,
                   n_blocks, next);
            next += LANES * bytes;
        }
        for (int64_t j = 0; j < job->n_act; j += TILE_ROWS) {
            const struct pass p = pass_from(job, j, TILE_ROWS, at);
            core32(t, tile, &p, b, n_blocks, v_mask(rows), b == job->b0);
        }
    }
}

/* ---- the types -------------------------------------------------------------------------------*/

/* Codes of 16 bytes of nibbles per row. */
TILE_INLINE void unpack_nibbles(vi q[8], const uint8_t *p, size_t s)
{
    const vi low = v_set1_8(15);
    vi raw[4];

    v_load_rows(raw, p, s);
    TILE_UNROLL
    for (int c = 0; c < 4; c++) {
        q[c] = v_and(raw[c], low);
        q[4 + c] = v_and(v_srl16(raw[c], 4), low);
    }
}

/* Bits of the u32 of every row in `high` become bit 4 of the codes. */
TILE_INLINE void unpack_high(vi q[8], vi high)
{
    const vi even = v_set1(0x08040201), odd = v_set1((int)0x80402010);

    TILE_UNROLL
    for (int c = 0; c < 8; c++) {
        const int b = c / 2;
        q[c] = v_add_if(q[c], v_shuffle8(high, v_bytes(b, b, b, b)), c % 2 ? odd : even, 16);
    }
}

TILE_INLINE void unpack_table(vi q[8], const int8_t values[16], int add)
{
    const vi table = v_add8(v_table16(values), v_set1_8((char)add));

    TILE_UNROLL
    for (int c = 0; c < 8; c++)
        q[c] = v_shuffle8(table, q[c]);
}

TILE_INLINE void unpack_q4_0(const uint8_t *p, size_t s, vi q[8], vf *d, vf *m)
{
    *d = v_low_f16(v_load_first(p, s));
    *m = v_zerof();
    unpack_nibbles(q, p + 2, s);
}

TILE_INLINE void unpack_q4_1(const uint8_t *p, size_t s, vi q[8], vf *d, vf *m)
{
    const vi scales = v_load_first(p, s);

    *d = v_low_f16(scales);
    *m = v_low_f16(v_srl32(scales, 16));
    unpack_nibbles(q, p + 4, s);
}

TILE_INLINE void unpack_q5_0(const uint8_t *p, size_t s, vi q[8], vf *d, vf *m)
{
    *d = v_low_f16(v_load_first(p, s));
    *m = v_zerof();
    unpack_nibbles(q, p + 6, s);
    unpack_high(q, v_load_first(p + 2, s));
}

TILE_INLINE void unpack_q5_1(const uint8_t *p, size_t s, vi q[8], vf *d, vf *m)
{
    const vi scales = v_load_first(p, s);

    *d = v_low_f16(scales);
    *m = v_low_f16(v_srl32(scales, 16));
    unpack_nibbles(q, p + 8, s);
    unpack_high(q, v_load_first(p + 4, s));
}

TILE_INLINE void unpack_q8_0(const uint8_t *p, size_t s, vi q[8], vf *d, vf *m)
{
    const vi flip = v_set1_8(V_SIGNED_CODES ? 0 : (char)0x80);

    *d = v_low_f16(v_load_first(p, s));
    *m = v_zerof();
    v_load_rows(q, p + 2, s);
    v_load_rows(q + 4, p + 18, s);
    TILE_UNROLL
    for (int c = 0; c < 8; c++)
        q[c] = v_xor(q[c], flip);
}

TILE_INLINE void unpack_iq4_nl(const uint8_t *p, size_t s, vi q[8], vf *d, vf *m)
{
    static const int8_t VALUES[16] = {SH_IQ4_VALUES};

    unpack_q4_0(p, s, q, d, m);
    unpack_table(q, VALUES, V_SIGNED_CODES ? 0 : -128); // -128 and +128 are one byte
}

/* 2^(e - 128) from the byte e in the low end of each lane. */
TILE_INLINE vf v_mxfp4_scale(vi x)
{
    const vi e = v_and(x, v_set1(255));
    const vi normal = v_sll32(v_max32(v_sub32(e, v_set1(1)), v_zero()), 23);
    // e = 0, 1: 2^21 << e, a subnormal; larger shifts leave nothing of it that may count
    const vi small = v_and(v_sllv32(v_set1(0x200000), e), v_set1(0x600000));
    const vi is_small = v_sra32(v_sub32(e, v_set1(2)), 31);
    return v_as_f32(v_or(normal, v_and(small, is_small)));
}

TILE_INLINE void unpack_mxfp4(const uint8_t *p, size_t s, vi q[8], vf *d, vf *m)
{
    static const int8_t VALUES[16] = {SH_FP4_VALUES};

    *d = v_mxfp4_scale(v_load_first(p, s));
    *m = v_zerof();
    unpack_nibbles(q, p + 1, s);
    unpack_table(q, VALUES, 16);
}

#define OFFSET_8BIT (V_SIGNED_CODES ? 0 : 128)
#define TYPES32(X)                                                                                 \
    X(Q4_0, q4_0, CODES_U4, 8, false)                                                              \
    X(Q4_1, q4_1, CODES_U4, 0, true)                                                               \
    X(Q5_0, q5_0, CODES_U5, 16, false)                                                             \
    X(Q5_1, q5_1, CODES_U5, 0, true)                                                               \
    X(Q8_0, q8_0, CODES_8, OFFSET_8BIT, false)                                                     \
    X(IQ4_NL, iq4_nl, CODES_8, OFFSET_8BIT, false)                                                 \
    X(MXFP4, mxfp4, CODES_U5, 16, false)

#define X(id, name, code_bits, z, with_min)                                                        \
    static const struct type32 TYPE_##id = {.unpack = unpack_##name,                               \
                                            .block_bytes = sizeof(struct sh_block_##name),         \
                                            .codes = code_bits,                                    \
                                            .offset = z,                                           \
                                            .has_min = with_min};                                  \
    TILE_TYPE(id, name, 32, DIRECT_MAX, 32)
TYPES32(X)
#undef X

static void fill_types32(struct sh_kernels *k)
{
#define X(id, name, ...) k->mm[SH_DTYPE_##id] = mm_##name;
    TYPES32(X)
#undef X
}

#endif
