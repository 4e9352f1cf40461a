/* tests/kernels/vec_check.h - the checker of the vector kernels: one call of a kernel on every
 * tier of this CPU, against the scalar version, bit for bit.
 *
 * A call is described by the sizes of its arrays and its scalars; the checker makes the inputs,
 * lays every array once against the page before it (off any alignment but its element's) and once
 * against the page behind it, neither of which may be touched, and looks at what surrounds the
 * outputs.  Threads: one.
 */
#ifndef TESTS_KERNELS_VEC_CHECK_H
#define TESTS_KERNELS_VEC_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

enum { CHECK_IN = 8, CHECK_OUT = 3 };

/* What arrays are filled with. */
enum fill_kind {
    FILL_ORDINARY, /* even spread over -6 .. 6 */
    FILL_WIDE,     /* any finite bit pattern */
    FILL_EXTREME,  /* zeros, denormals, infinities, NaN, huge, edges of the functions, ordinary */
    FILL_KINDS
};

struct call {
    int64_t n;
    int64_t dim[5]; /* as the kernel needs them */
    float scalar[4];
    uint64_t visible;
    size_t in[CHECK_IN];   /* elements of each source */
    size_t out[CHECK_OUT]; /* elements of each output */
    unsigned in_f16;       /* bit i: in[i] holds f16 */
    unsigned optional;     /* bit i: in[i] is NULL where it has no elements */
    unsigned out_set;      /* bit i: out[i] is a state with ordinary values before the call */
    bool fresh;            /* with out_set: m = -inf, everything else 0 */
    int alias;             /* 1 + the source that may be out[0]; 0 = none */
};

/* Calls the kernel under test: arrays as in struct call. */
typedef void call_fn(const struct sh_kernels *k, const struct call *c, float *const *out,
                     const void *const *in);

void check_tiers(const char *name, call_fn *fn, const struct call *c, enum fill_kind kind,
                 uint32_t seed);
/* Prints which tiers the calls above compare. */
void check_print_tiers(void);

/* The scalar table. */
const struct sh_kernels *check_scalar(void);

void check_fill_f32(float *x, size_t n, enum fill_kind kind, uint32_t seed);
void check_fill_f16(uint16_t *x, size_t n, enum fill_kind kind, uint32_t seed);
/* |got - want| <= abs + rel * |want|, or both NaN, or both the same infinity. */
void check_near(const char *name, int64_t at, double got, double want, double rel, double abs);
/* Fails unless the values reach below -reach and above reach, and are mostly different. */
void check_spread(const float *x, size_t n, float reach);

/* Sizes around the width of the lanes, and those of a small model. */
extern const int64_t CHECK_SIZES[];
extern const int CHECK_SIZES_COUNT;

/* One test per row of the list: a row without a test does not link. */
#define X(name, ret, args) void vec__##name(void **state);
SH_VECTOR_KERNELS(X)
#undef X

#endif
