/* tests/interop/stock_ops.h - cases of single ops, run by llama.cpp here and on an RPC server.
 *
 * A family is a function that builds one small graph of one op.  Wherever it may be built in
 * several ways it asks choose(); the rig calls it until every way of each choice has been taken, in
 * all combinations.  Leaves are filled from seeds, so that both runs see the same bytes.
 */
#ifndef INTEROP_STOCK_OPS_H
#define INTEROP_STOCK_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include <ggml.h>

#define MAX_CHOICES 16
#define MAX_LEAVES 16

/* What a leaf holds. */
enum values {
    PLAIN,    /* [-1, 1), in any type that can hold it */
    POSITIVE, /* [0.05, 2) */
    WIDE,     /* [-30, 30) */
    INDEX,    /* integers in [lo, hi) */
    DISTINCT, /* the same, different within each column; hi - lo >= ne0 */
    MASK      /* 0, -inf or a small bias; the first of each row is 0 */
};

struct build {
    struct ggml_context *ctx;
    int at, n_choices;
    int digit[MAX_CHOICES], size[MAX_CHOICES];
    struct {
        struct ggml_tensor *t;
        enum values values;
        int64_t lo, hi;
    } leaf[MAX_LEAVES];
    int n_leaves;
    double bound;   /* largest NMSE; 0: equal */
    bool unordered; /* rows of the result are sets */
};

/* A number below n; another each time until all were there. */
int choose(struct build *b, int n);
/* The same of a list of types that ends with GGML_TYPE_COUNT. */
enum ggml_type choose_type(struct build *b, const enum ggml_type *types);

struct ggml_tensor *leaf(struct build *b, enum ggml_type type, enum values values, int64_t n0,
                         int64_t n1, int64_t n2, int64_t n3);
struct ggml_tensor *indices(struct build *b, enum ggml_type type, enum values values, int64_t lo,
                            int64_t hi, int64_t n0, int64_t n1, int64_t n2);

/* Layouts of a source: bits of what it may choose from. */
enum {
    DENSE = 1,
    GAPS = 2,    /* rows apart: part of a wider tensor, not at its beginning */
    TURNED = 4,  /* dimensions 1 and 2 exchanged */
    COLUMNS = 8, /* dimensions 0 and 1 exchanged: no packed rows; plain types only */
    WIDER = 16,  /* a slice of the columns of a wider tensor */
    ROWS_PACKED = DENSE | GAPS | TURNED,
    ANY = ROWS_PACKED | COLUMNS
};
struct ggml_tensor *source(struct build *b, enum ggml_type type, enum values values,
                           unsigned layouts, int64_t n0, int64_t n1, int64_t n2, int64_t n3);

struct family {
    const char *name;
    struct ggml_tensor *(*build)(struct build *b); /* the node whose result counts */
};
extern const struct family families[];
extern const int n_families;

#endif
