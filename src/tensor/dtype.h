/* tensor/dtype.h - element and block types: GGUF's ids, names and sizes.
 *
 * A block type stores `block_len` elements in `block_bytes` bytes; a row always holds whole
 * blocks.  Ids are those of GGUF files and of llama.cpp's RPC wire; ids 4, 5, 31-33 and 36-38
 * were retired there and are not types here.
 * Threads: constant data.
 */
#ifndef TENSOR_DTYPE_H
#define TENSOR_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* enumerator, id, name, elements per block, bytes per block, partner of a matrix product
 * (the type that the other operand's rows are rounded to; itself for f32; COUNT = none) */
#define SH_DTYPES(X)                                                                               \
    X(F32, 0, "f32", 1, 4, F32)                                                                    \
    X(F16, 1, "f16", 1, 2, F16)                                                                    \
    X(Q4_0, 2, "q4_0", 32, 18, Q8_0)                                                               \
    X(Q4_1, 3, "q4_1", 32, 20, Q8_1)                                                               \
    X(Q5_0, 6, "q5_0", 32, 22, Q8_0)                                                               \
    X(Q5_1, 7, "q5_1", 32, 24, Q8_1)                                                               \
    X(Q8_0, 8, "q8_0", 32, 34, Q8_0)                                                               \
    X(Q8_1, 9, "q8_1", 32, 36, COUNT)                                                              \
    X(Q2_K, 10, "q2_K", 256, 84, Q8_K)                                                             \
    X(Q3_K, 11, "q3_K", 256, 110, Q8_K)                                                            \
    X(Q4_K, 12, "q4_K", 256, 144, Q8_K)                                                            \
    X(Q5_K, 13, "q5_K", 256, 176, Q8_K)                                                            \
    X(Q6_K, 14, "q6_K", 256, 210, Q8_K)                                                            \
    X(Q8_K, 15, "q8_K", 256, 292, COUNT)                                                           \
    X(IQ2_XXS, 16, "iq2_xxs", 256, 66, Q8_K)                                                       \
    X(IQ2_XS, 17, "iq2_xs", 256, 74, Q8_K)                                                         \
    X(IQ3_XXS, 18, "iq3_xxs", 256, 98, Q8_K)                                                       \
    X(IQ1_S, 19, "iq1_s", 256, 50, Q8_K)                                                           \
    X(IQ4_NL, 20, "iq4_nl", 32, 18, Q8_0)                                                          \
    X(IQ3_S, 21, "iq3_s", 256, 110, Q8_K)                                                          \
    X(IQ2_S, 22, "iq2_s", 256, 82, Q8_K)                                                           \
    X(IQ4_XS, 23, "iq4_xs", 256, 136, Q8_K)                                                        \
    X(I8, 24, "i8", 1, 1, COUNT)                                                                   \
    X(I16, 25, "i16", 1, 2, COUNT)                                                                 \
    X(I32, 26, "i32", 1, 4, COUNT)                                                                 \
    X(I64, 27, "i64", 1, 8, COUNT)                                                                 \
    X(F64, 28, "f64", 1, 8, COUNT)                                                                 \
    X(IQ1_M, 29, "iq1_m", 256, 56, Q8_K)                                                           \
    X(BF16, 30, "bf16", 1, 2, BF16)                                                                \
    X(TQ1_0, 34, "tq1_0", 256, 54, Q8_K)                                                           \
    X(TQ2_0, 35, "tq2_0", 256, 66, Q8_K)                                                           \
    X(MXFP4, 39, "mxfp4", 32, 17, Q8_0)                                                            \
    X(NVFP4, 40, "nvfp4", 64, 36, Q8_0)                                                            \
    X(Q1_0, 41, "q1_0", 128, 18, Q8_0)                                                             \
    X(Q2_0, 42, "q2_0", 64, 18, Q8_0)

enum sh_dtype {
#define X(name, id, text, len, bytes, partner) SH_DTYPE_##name = id,
    SH_DTYPES(X)
#undef X
        SH_DTYPE_COUNT = 43 /* one past the largest id; stands for "none" too */
};

struct sh_dtype_info {
    const char *name; /* NULL for ids that are not types */
    int64_t block_len;
    size_t block_bytes;
    enum sh_dtype partner; /* SH_DTYPE_COUNT: never the left side of a product */
};

/* Is `id` (from a file or wire) a type? */
bool sh_dtype_valid(uint32_t id);
/* Traits; `t` must be valid. */
const struct sh_dtype_info *sh_dtype_info(enum sh_dtype t);
static inline bool sh_dtype_is_block(enum sh_dtype t)
{
    return sh_dtype_info(t)->block_len > 1;
}
/* Bytes of a dense row of n elements; false if n is negative or no whole number of blocks, or on
 * overflow. */
bool sh_dtype_row_bytes(enum sh_dtype t, int64_t n, size_t *out);
/* Type by name ("q4_0", letter case ignored), SH_DTYPE_COUNT if none. */
enum sh_dtype sh_dtype_find(struct sh_str name);

#endif
