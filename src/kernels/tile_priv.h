/* kernels/tile_priv.h - what the products of the vector tiers share: a vector whose lanes are
 * neighbouring weight rows (outputs), and the transposition that makes one from GGUF rows.
 *
 *      row 0   k0 k1 k2 k3 | k4 k5 k6 k7 | ...        vector 0: k0..k3 of rows 0, 1, .. L-1
 *      row 1   k0 k1 k2 k3 | k4 k5 k6 k7 | ...   ->   vector 1: k4..k7 of rows 0, 1, .. L-1
 *      ...                                            (4 bytes of each row are one 32-bit lane)
 *
 * Sixteen bytes of rows r, r+4, r+8, r+12 (AVX2: r, r+4; NEON: r) are loaded into the 128-bit parts
 * of one register, for r = 0..3; a 4 x 4 transposition of dwords inside the parts then leaves the
 * rows in order.  The products are written once on these names; the file that includes this header
 * is compiled for one tier, and only static functions are made.
 *
 * tile_<tier>_priv.h has the vector of a tier: LANES, V_REGISTERS, the types vi (i32, or bytes),
 * vf (f32) and vmask (the first n lanes), loads, stores and the operations v_*, named by what they
 * do in each lane; _8, 16, 32 are the bits of the lanes where they are not 32.  Shuffles take an
 * index of 0..15 for each byte, inside 128 bits, and give 0 for -1.  Where V_HAS_DOT,
 * v_dot(sum, codes, x) adds the products of four bytes to each lane; codes are unsigned, or signed
 * where V_SIGNED_CODES.  v_dot_pairs does so with two i16.
 * Threads: pure functions.
 */
#ifndef KERNELS_TILE_PRIV_H
#define KERNELS_TILE_PRIV_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/act_priv.h"
#include "kernels/blocks.h"
#include "kernels/mm_priv.h"

#define TILE_INLINE static inline __attribute__((always_inline))
/* Fully: counts become constants only after inlining, and clang's plain "unroll" acts before. */
#if defined(__clang__)
#define TILE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define TILE_UNROLL _Pragma("GCC unroll 16")
#endif

#if defined(__AVX512F__)
#include "kernels/tile_avx512_priv.h"
#elif defined(__AVX2__)
#include "kernels/tile_avx2_priv.h"
#else
#include "kernels/tile_neon_priv.h"
#endif

/* A shuffle pattern that does the same in every 32-bit lane: bytes b0..b3 of the lane, -1 = 0. */
#define TILE_BYTE(b, lane) ((int8_t)((b) < 0 ? -1 : (b) + 4 * (lane)))
TILE_INLINE vi v_bytes(int b0, int b1, int b2, int b3)
{
    return v_bytes16(TILE_BYTE(b0, 0), TILE_BYTE(b1, 0), TILE_BYTE(b2, 0), TILE_BYTE(b3, 0),
                     TILE_BYTE(b0, 1), TILE_BYTE(b1, 1), TILE_BYTE(b2, 1), TILE_BYTE(b3, 1),
                     TILE_BYTE(b0, 2), TILE_BYTE(b1, 2), TILE_BYTE(b2, 2), TILE_BYTE(b3, 2),
                     TILE_BYTE(b0, 3), TILE_BYTE(b1, 3), TILE_BYTE(b2, 3), TILE_BYTE(b3, 3));
}

/* out[c] = bytes 4c..4c+3 of every row; p is row 0, s the distance of rows. */
TILE_INLINE void v_load_rows(vi out[4], const uint8_t *p, size_t s)
{
    const vi r0 = v_load_quads(p, s), r1 = v_load_quads(p + s, s);
    const vi r2 = v_load_quads(p + 2 * s, s), r3 = v_load_quads(p + 3 * s, s);
    const vi a = v_unpacklo32(r0, r1), b = v_unpackhi32(r0, r1);
    const vi c = v_unpacklo32(r2, r3), d = v_unpackhi32(r2, r3);

    out[0] = v_unpacklo64(a, c);
    out[1] = v_unpackhi64(a, c);
    out[2] = v_unpacklo64(b, d);
    out[3] = v_unpackhi64(b, d);
}

/* Bytes 0..3 (first) or 12..15 (last) of 16 bytes of every row. */
TILE_INLINE vi v_load_first(const uint8_t *p, size_t s)
{
    const vi r0 = v_load_quads(p, s), r1 = v_load_quads(p + s, s);
    const vi r2 = v_load_quads(p + 2 * s, s), r3 = v_load_quads(p + 3 * s, s);
    return v_unpacklo64(v_unpacklo32(r0, r1), v_unpacklo32(r2, r3));
}
TILE_INLINE vi v_load_last(const uint8_t *p, size_t s)
{
    const vi r0 = v_load_quads(p, s), r1 = v_load_quads(p + s, s);
    const vi r2 = v_load_quads(p + 2 * s, s), r3 = v_load_quads(p + 3 * s, s);
    return v_unpackhi64(v_unpackhi32(r0, r1), v_unpackhi32(r2, r3));
}

/* Four activation bytes, two sums, one float, in every lane. */
TILE_INLINE vi v_spread32(const void *p)
{
    int32_t x;
    memcpy(&x, p, sizeof x);
    return v_set1(x);
}
TILE_INLINE vf v_spreadf(const float *p)
{
    return v_set1f(*p);
}

/* The arguments of sh_mm_fn, gathered; b0 and b1 count blocks (floats: elements). */
struct tile_job {
    int64_t b0, b1, n_out, n_act;
    float *dst;
    size_t dst_stride;
    const uint8_t *w;
    size_t w_stride;
    const uint8_t *act;
    size_t act_stride;
};

#define TILE_MM_ARGS                                                                               \
    int64_t k_row, int64_t k0, int64_t k1, int64_t n_out, int64_t n_act, float *dst,               \
        size_t dst_stride, const void *w, size_t w_stride, const void *act, size_t act_stride
#define TILE_JOB(len)                                                                              \
    {                                                                                              \
        .b0 = k0 / (len), .b1 = k1 / (len), .n_out = n_out, .n_act = n_act, .dst = dst,            \
        .dst_stride = dst_stride, .w = w, .w_stride = w_stride, .act = act,                        \
        .act_stride = act_stride                                                                   \
    }

/* Bring `bytes` bytes from p into the second-level cache. */
TILE_INLINE void tile_prefetch(const uint8_t *p, size_t bytes)
{
    TILE_UNROLL
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(p + i, 0, 2);
}

/* ---- drivers ---------------------------------------------------------------------------------
 * A type is compiled into a few functions, each for a fixed number of activation rows, so that
 * everything in their inner loops is unrolled and in registers. */

/* LANES outputs from `at` on, activation rows from j on. */
typedef void tile_direct_fn(const struct tile_job *job, int64_t at, int64_t j);
/* All activation rows; outputs from each at[], of which `rows` exist (LANES or fewer). */
typedef void tile_tiled_fn(const struct tile_job *job, const int64_t at[2], int64_t rows);

struct tile_kernel {
    tile_direct_fn *direct1, *direct2, *direct4, *direct8; /* direct8 may be NULL */
    int64_t direct_max; /* activation rows up to which the direct form is faster */
    tile_tiled_fn *tiled;
    int n_tiles; /* that `tiled` does at once: 1 or 2 */
};

/* Activation rows in passes of 8, 4, 2 and 1; a pass of 4 or 8 may have rows to spare. */
static void tile_direct_rows(const struct tile_kernel *k, const struct tile_job *job)
{
    const int64_t last = job->n_out - LANES;
    int64_t n_rows;

    for (int64_t j = 0; j < job->n_act; j += n_rows) {
        const int64_t left = job->n_act - j;
        n_rows = left == 1 ? 1 : left == 2 ? 2 : left > 4 && k->direct8 ? 8 : 4;
        tile_direct_fn *const direct = n_rows == 1   ? k->direct1
                                       : n_rows == 2 ? k->direct2
                                       : n_rows == 4 ? k->direct4
                                                     : k->direct8;
        // the last tile overlaps outputs already done: same bits again
        for (int64_t i = 0; i < job->n_out; i += LANES)
            direct(job, i < last ? i : last, j);
    }
}

/* The whole product. */
static void tile_product(const struct tile_kernel *k, const struct tile_job *job)
{
    const int64_t last = job->n_out - LANES;

    if (job->b0 == job->b1) { // every chain is empty
        for (int64_t j = 0; j < job->n_act; j++) {
            memset(job->dst + (size_t)j * job->dst_stride, 0,
                   (size_t)job->n_out * sizeof *job->dst);
        }
    } else if (job->n_out < LANES) {
        k->tiled(job, (const int64_t[2]){0, 0}, job->n_out);
    } else if (job->n_act <= k->direct_max) {
        tile_direct_rows(k, job);
    } else {
        for (int64_t i = 0; i < job->n_out; i += k->n_tiles * LANES) {
            const int64_t at[2] = {i < last ? i : last, i + LANES < last ? i + LANES : last};
            k->tiled(job, at, LANES);
        }
    }
}

/* Activation row j; past the end the last one, which is then computed again. */
TILE_INLINE size_t tile_row_index(const struct tile_job *job, int64_t j)
{
    return (size_t)(j < job->n_act ? j : job->n_act - 1);
}

/* Copy n_rows rows of `bytes` bytes beside rows of zeros: LANES rows, `bytes` apart. */
TILE_INLINE void tile_pad(uint8_t *pad, const uint8_t *p, size_t s, int64_t n_rows, size_t bytes)
{
    memset(pad, 0, LANES * bytes);
    for (int64_t i = 0; i < n_rows; i++)
        memcpy(pad + (size_t)i * bytes, p + (size_t)i * s, bytes);
}

/* The functions of a type: TYPE_<id> goes into direct<class> and tiled<class>, which are defined
 * by the class; blocks have `len` elements. */
#define TILE_DIRECT(id, name, class, n_rows)                                                       \
    static void name##_direct##n_rows(const struct tile_job *job, int64_t at, int64_t j)           \
    {                                                                                              \
        direct##class(TYPE_##id, job, at, j, n_rows);                                              \
    }
#if V_REGISTERS >= 32
#define TILE_DIRECT8(id, name, class) TILE_DIRECT(id, name, class, 8)
#define TILE_DIRECT8_OF(name) name##_direct8
#else // too few registers
#define TILE_DIRECT8(id, name, class)
#define TILE_DIRECT8_OF(name) NULL
#endif
#define TILE_TYPE(id, name, class, max, len)                                                       \
    TILE_DIRECT(id, name, class, 1)                                                                \
    TILE_DIRECT(id, name, class, 2)                                                                \
    TILE_DIRECT(id, name, class, 4)                                                                \
    TILE_DIRECT8(id, name, class)                                                                  \
    static void name##_tiled(const struct tile_job *job, const int64_t at[2], int64_t rows)        \
    {                                                                                              \
        tiled##class(TYPE_##id, job, at, rows);                                                    \
    }                                                                                              \
    static void mm_##name(TILE_MM_ARGS)                                                            \
    {                                                                                              \
        static const struct tile_kernel KERNEL = {.direct1 = name##_direct1,                       \
                                                  .direct2 = name##_direct2,                       \
                                                  .direct4 = name##_direct4,                       \
                                                  .direct8 = TILE_DIRECT8_OF(name),                \
                                                  .direct_max = max,                               \
                                                  .tiled = name##_tiled,                           \
                                                  .n_tiles = TILES};                               \
        const struct tile_job job = TILE_JOB(len);                                                 \
        (void)k_row;                                                                               \
        tile_product(&KERNEL, &job);                                                               \
    }

#endif
