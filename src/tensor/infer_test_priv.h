/* tensor/infer_test_priv.h - how the cases of a row of the op table are written and judged.
 *
 * rows__<name>() holds a row's cases: gives() after a node that must be built, refuses() after one
 * that must not.  run_rows() fails when a row of its half of the table has no cases, or less than
 * one accepted and two refused ones.  Everything accepted is validated as a whole graph too, once
 * as it is and once with each claim of the last accepted node falsified.
 */
#ifndef TENSOR_INFER_TEST_PRIV_H
#define TENSOR_INFER_TEST_PRIV_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tensor/graph.h"

#define T_MAX 6
#define O_MAX 3
#define R_MAX 2
#define NO (-1) // absent source

#define F32 SH_DTYPE_F32
#define F16 SH_DTYPE_F16
#define BF16 SH_DTYPE_BF16
#define I32 SH_DTYPE_I32
#define I64 SH_DTYPE_I64
#define Q4_0 SH_DTYPE_Q4_0
#define Q8_0 SH_DTYPE_Q8_0
#define T SH_EXTENT_T
#define O SH_EXTENT_O
#define R SH_EXTENT_R

struct rows {
    struct sh_graph g;
    enum sh_op op;
    int n_accepted, n_refused;
    int32_t last;                // accepted
    int32_t params[SH_N_PARAMS]; // of the next node; zeroed behind it
    struct sh_tensor shape;      // asked for, if `shaped`; forgotten behind it
    bool shaped;
};

/* A leaf [a,b,c,d] */
static inline int32_t leaf(struct rows *r, enum sh_dtype t, int64_t a, int64_t b, int64_t c,
                           int64_t d)
{
    const int64_t ne[] = {a, b, c, d};
    const int32_t number = sh_leaf_plain(&r->g, t, ne, SH_EXTENT_NONE, 0);

    assert_true(number >= 0);
    return number;
}

/* A leaf whose last dimension is symbolic: [T], [a,T], [a,b,T], [a,b,c,T] by `dim` */
static inline int32_t sym(struct rows *r, enum sh_dtype t, enum sh_extent e, int dim, int64_t a,
                          int64_t b)
{
    int64_t ne[] = {a, b, 1, 1};

    for (int d = dim + 1; d < SH_MAX_DIMS; d++)
        ne[d] = 1;
    ne[dim] = e == T ? T_MAX : e == O ? O_MAX : R_MAX;
    const int32_t number = sh_leaf_plain(&r->g, t, ne, e, dim);
    assert_true(number >= 0);
    return number;
}

static inline int32_t node(struct rows *r, int32_t a, int32_t b, int32_t c, int32_t d)
{
    const int32_t src[] = {a, b, c, d};
    const int n = d != NO ? 4 : c != NO ? 3 : b != NO ? 2 : a != NO ? 1 : 0;
    const int32_t number = r->shaped ? sh_op_shaped(&r->g, r->op, n, src, r->params, &r->shape)
                                     : sh_op_node(&r->g, r->op, n, src, r->params);

    memset(r->params, 0, sizeof r->params);
    r->shaped = false;
    return number;
}

static inline void ask(struct rows *r, enum sh_dtype t, int64_t a, int64_t b, int64_t c, int64_t d)
{
    r->shaped = true;
    r->shape = (struct sh_tensor){.dtype = t, .ne = {a, b, c, d}};
}

static inline void ask_sym(struct rows *r, enum sh_dtype t, enum sh_extent e, int dim, int64_t a,
                           int64_t b)
{
    ask(r, t, a, b, 1, 1);
    r->shape.ne[dim] = e == T ? T_MAX : O_MAX;
    r->shape.extent = e;
    r->shape.extent_dim = dim;
}

/* The node just built exists and looks like this. */
static inline void gives(struct rows *r, int32_t number, enum sh_dtype dtype, int extent_dim,
                         int64_t a, int64_t b, int64_t c, int64_t d)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    char got[200], want[200];

    if (sh_graph_status(&r->g, &err)) fail_msg("refused: %s", err.message);
    const struct sh_tensor *t = sh_graph_tensor(&r->g, number);
    snprintf(got, sizeof got, "%s %s [%lld,%lld,%lld,%lld] symbol in %d", sh_op_info(t->op)->name,
             sh_dtype_info(t->dtype)->name, (long long)t->ne[0], (long long)t->ne[1],
             (long long)t->ne[2], (long long)t->ne[3], t->extent ? t->extent_dim : -1);
    snprintf(want, sizeof want, "%s %s [%lld,%lld,%lld,%lld] symbol in %d", sh_op_info(r->op)->name,
             sh_dtype_info(dtype)->name, (long long)a, (long long)b, (long long)c, (long long)d,
             extent_dim);
    assert_string_equal(got, want);
    assert_true(t->flags & SH_TENSOR_COMPUTE);
    assert_int_equal(r->g.nodes[r->g.n_nodes - 1], number);
    r->last = number;
    r->n_accepted++;
}

/* The node just tried was refused, by this op and for this reason. */
static inline void refuses(struct rows *r, int32_t number, const char *reason)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    assert_int_equal(number, -1);
    assert_int_not_equal(sh_graph_status(&r->g, &err), SHOAL_OK);
    if (!strstr(err.message, reason) || !strstr(err.message, sh_op_info(r->op)->name)) {
        fail_msg("\"%s\" does not say \"%s\" of %s", err.message, reason, sh_op_info(r->op)->name);
    }
    r->g.status = SHOAL_OK;
    r->n_refused++;
}

static inline void f32_param(struct rows *r, int i, float v)
{
    sh_params_set_f32(r->params, i, v);
}

/* x with dimensions 0 and 1 exchanged: rows with gaps, unless it has one row or column. */
static inline int32_t turned(struct rows *r, int32_t x)
{
    const int32_t t = sh_op_node(&r->g, SH_OP_TRANSPOSE, 1, &x, NULL);

    assert_true(t >= 0);
    return t;
}

static inline void rope_params(struct rows *r, int n_dims, int mode)
{
    r->params[1] = n_dims;
    r->params[2] = mode;
    f32_param(r, 5, 10000.0f);
    f32_param(r, 6, 1.0f);
    f32_param(r, 8, 1.0f);
    if (mode & 8) r->params[11] = 4;
}

static inline void validates(struct rows *r, enum shoal_status want, const char *what)
{
    const struct sh_buffer_bounds buffers[] = {{.bytes = 1 << 20}};
    struct shoal_error err = SHOAL_ERROR_INIT;
    const enum shoal_status st = sh_graph_validate(&r->g, buffers, 1, true, &err);

    if ((st == SHOAL_OK) != (want == SHOAL_OK)) {
        fail_msg("%s: %s: %s", sh_op_info(r->op)->name, what, st ? err.message : "accepted");
    }
}

/* Each word of the last accepted record that the rule determines, falsified once. */
static inline void falsify_last(struct rows *r)
{
    struct sh_tensor *t = &r->g.tensors[r->last];
    const struct sh_tensor right = *t;

    t->ne[3] += 1;
    validates(r, SHOAL_ERR_FORMAT, "wrong shape");
    *t = right;
    t->dtype = right.dtype == SH_DTYPE_F64 ? SH_DTYPE_I8 : SH_DTYPE_F64;
    validates(r, SHOAL_ERR_FORMAT, "wrong type");
    *t = right;
    t->extent = right.extent == T ? SH_EXTENT_NONE : T;
    // REPEAT may also give as many fixed rows.
    if (t->op != SH_OP_REPEAT) validates(r, SHOAL_ERR_FORMAT, "wrong extent");
    *t = right;
    t->src[0] = -1;
    validates(r, SHOAL_ERR_FORMAT, "source 0 missing");
    *t = right;
    t->src[SH_MAX_SRC - 1] = 0;
    validates(r, SHOAL_ERR_FORMAT, "one source too many");
    *t = right;
    t->view_offs += 4;
    validates(r, SHOAL_ERR_FORMAT, "wrong view offset");
    *t = right;
    if (sh_op_info(t->op)->flags & (SH_OPF_VIEW | SH_OPF_WRITES) && t->op != SH_OP_CPY) {
        t->view_src = -1;
        t->view_offs = 0;
        validates(r, SHOAL_ERR_FORMAT, "view without a root");
        *t = right;
    }
    validates(r, SHOAL_OK, "restored");
}

struct row_cases {
    enum sh_op op;
    void (*cases)(struct rows *);
};

static inline void run_row(const struct row_cases *row)
{
    const struct sh_extents max = {.t = T_MAX, .o = O_MAX, .r = R_MAX};
    struct rows r = {.op = row->op};

    sh_graph_init(&r.g, &max);
    row->cases(&r);
    if (r.n_accepted < 1 || r.n_refused < 2) {
        fail_msg("%s has %d accepted and %d refused cases", sh_op_info(r.op)->name, r.n_accepted,
                 r.n_refused);
    }
    validates(&r, SHOAL_OK, "as built");
    if (r.g.n_nodes) falsify_last(&r);
    sh_graph_release(&r.g);
}

/* Run the cases of all of shoal's own ops, or of all others. */
static inline void run_rows(const struct row_cases *rows, size_t n, bool own)
{
    for (int op = 0; op < SH_OP_COUNT; op++) {
        size_t found = n;
        if (((sh_op_info((enum sh_op)op)->flags & SH_OPF_SHOAL) != 0) != own) continue;
        for (size_t i = 0; i < n; i++) {
            if (rows[i].op == (enum sh_op)op) found = i;
        }
        if (found == n) fail_msg("%s has no cases", sh_op_info((enum sh_op)op)->name);
        run_row(&rows[found]);
    }
}

#endif
