/* The rules of the rows that have a wire number: what they accept, with which result, and what they
 * refuse. */
#include "tensor/infer_test_priv.h"

/* ---- elementwise ----------------------------------------------------------------------------*/

static void rows__NONE(struct rows *r)
{
    // The one row that is never a node: leaves are made by other calls.
    const int32_t x = leaf(r, F32, 4, 1, 1, 1);

    refuses(r, node(r, x, NO, NO, NO), "one too many");
    refuses(r, node(r, NO, NO, NO, NO), "not computed");
    r->n_accepted++;
}

static void rows__DUP(struct rows *r)
{
    gives(r, node(r, leaf(r, Q4_0, 64, 3, 2, 1), NO, NO, NO), Q4_0, -1, 64, 3, 2, 1);
    gives(r, node(r, sym(r, F32, T, 1, 8, 0), NO, NO, NO), F32, 1, 8, T_MAX, 1, 1);
    refuses(r, node(r, NO, NO, NO, NO), "missing");
    refuses(r, node(r, 0, 0, NO, NO), "one too many");
}

static void binary_rows(struct rows *r)
{
    const int32_t a = leaf(r, F32, 8, 6, 2, 1), x = sym(r, F32, T, 1, 8, 0);
    const int32_t half = leaf(r, F16, 8, 6, 2, 1), bf = leaf(r, BF16, 8, 6, 2, 1);

    gives(r, node(r, a, a, NO, NO), F32, -1, 8, 6, 2, 1);
    gives(r, node(r, a, leaf(r, F32, 8, 1, 1, 1), NO, NO), F32, -1, 8, 6, 2, 1);
    gives(r, node(r, a, leaf(r, F32, 2, 3, 1, 1), NO, NO), F32, -1, 8, 6, 2, 1);
    gives(r, node(r, half, half, NO, NO), F16, -1, 8, 6, 2, 1);
    gives(r, node(r, half, a, NO, NO), F16, -1, 8, 6, 2, 1);
    ask(r, F32, 8, 6, 2, 1);
    gives(r, node(r, bf, a, NO, NO), F32, -1, 8, 6, 2, 1);
    gives(r, node(r, x, x, NO, NO), F32, 1, 8, T_MAX, 1, 1);
    gives(r, node(r, x, leaf(r, F32, 8, 1, 1, 1), NO, NO), F32, 1, 8, T_MAX, 1, 1);
    gives(r, node(r, a, turned(r, leaf(r, F32, 6, 8, 1, 1)), NO, NO), F32, -1, 8, 6, 2, 1);

    refuses(r, node(r, a, NO, NO, NO), "source 1 is missing");
    refuses(r, node(r, a, half, NO, NO), "types f32 f16");
    refuses(r, node(r, leaf(r, I32, 8, 1, 1, 1), a, NO, NO), "types i32");
    refuses(r, node(r, leaf(r, Q4_0, 32, 1, 1, 1), a, NO, NO),
            r->op == SH_OP_ADD ? "of blocks is 32" : "types q4_0");
    refuses(r, node(r, a, leaf(r, F32, 3, 1, 1, 1), NO, NO), "dimension 0: 3 does not repeat");
    refuses(r, node(r, leaf(r, F32, 8, 1, 1, 1), a, NO, NO), "dimension 1");
    refuses(r, node(r, a, leaf(r, F32, 0, 1, 1, 1), NO, NO), "dimension 0: 0");
    refuses(r, node(r, x, leaf(r, F32, 8, T_MAX, 1, 1), NO, NO), "dimension 1");
    refuses(r, node(r, x, leaf(r, F32, 8, 2, 1, 1), NO, NO), "dimension 1");
    refuses(r, node(r, leaf(r, F32, 8, T_MAX, 1, 1), x, NO, NO), "dimension 1");
    refuses(r, node(r, turned(r, leaf(r, F32, 6, 8, 1, 1)), leaf(r, F32, 8, 6, 1, 1), NO, NO),
            "rows with gaps");
    ask(r, F32, 8, 6, 2, 1);
    refuses(r, node(r, half, half, NO, NO), "cannot give");
    ask(r, F16, 8, 6, 2, 1);
    refuses(r, node(r, a, a, NO, NO), "cannot give");
}

static void rows__ADD(struct rows *r)
{
    const int32_t w = leaf(r, Q4_0, 64, 3, 1, 1), x = leaf(r, F32, 64, 3, 1, 1);

    ask(r, F32, 64, 3, 1, 1); // to a weight: the sum in any type that is asked for
    gives(r, node(r, w, x, NO, NO), F32, -1, 64, 3, 1, 1);
    gives(r, node(r, w, x, NO, NO), Q4_0, -1, 64, 3, 1, 1);
    refuses(r, node(r, w, leaf(r, F32, 64, 1, 1, 1), NO, NO), "dimension 1 of blocks is 3");
    refuses(r, node(r, w, leaf(r, F16, 64, 3, 1, 1), NO, NO), "types");
    ask(r, I32, 64, 3, 1, 1);
    refuses(r, node(r, w, x, NO, NO), "types");
    binary_rows(r);
}
static void rows__SUB(struct rows *r)
{
    refuses(r, node(r, leaf(r, Q4_0, 64, 3, 1, 1), leaf(r, F32, 64, 3, 1, 1), NO, NO), "types");
    binary_rows(r);
}
static void rows__MUL(struct rows *r)
{
    binary_rows(r);
}
static void rows__DIV(struct rows *r)
{
    binary_rows(r);
}

static void rows__ADD_ID(struct rows *r)
{
    const int32_t a = leaf(r, F32, 8, 2, 5, 1), b = leaf(r, F32, 8, 4, 1, 1);
    const int32_t ids = leaf(r, I32, 2, 5, 1, 1);

    gives(r, node(r, a, b, ids, NO), F32, -1, 8, 2, 5, 1);
    gives(r, node(r, sym(r, F32, T, 2, 8, 2), b, sym(r, I32, T, 1, 2, 0), NO), F32, 2, 8, 2, T_MAX,
          1);
    refuses(r, node(r, a, b, NO, NO), "missing");
    refuses(r, node(r, a, b, leaf(r, I32, 2, 4, 1, 1), NO), "ids do not match");
    refuses(r, node(r, a, b, leaf(r, I32, 3, 5, 1, 1), NO), "ids do not match");
    refuses(r, node(r, a, leaf(r, F32, 4, 4, 1, 1), ids, NO), "rows of 8 and 4");
    refuses(r, node(r, a, leaf(r, F32, 8, 4, 2, 1), ids, NO), "too many dimensions");
    refuses(r, node(r, a, b, leaf(r, F32, 2, 5, 1, 1), NO), "types");
    refuses(r, node(r, sym(r, F32, T, 2, 8, 2), b, sym(r, I32, O, 1, 2, 0), NO), "ids do not");
    refuses(r, node(r, turned(r, leaf(r, F32, 2, 8, 1, 1)), b, leaf(r, I32, 2, 1, 1, 1), NO),
            "rows with gaps");
}

static void like0_rows(struct rows *r, enum sh_dtype also, enum sh_dtype never)
{
    gives(r, node(r, leaf(r, F32, 8, 3, 2, 1), NO, NO, NO), F32, -1, 8, 3, 2, 1);
    gives(r, node(r, sym(r, F32, T, 2, 8, 2), NO, NO, NO), F32, 2, 8, 2, T_MAX, 1);
    gives(r, node(r, leaf(r, F32, 0, 3, 1, 1), NO, NO, NO), F32, -1, 0, 3, 1, 1);
    if (also != F32) gives(r, node(r, leaf(r, also, 8, 3, 1, 1), NO, NO, NO), also, -1, 8, 3, 1, 1);
    refuses(r, node(r, leaf(r, never, 32, 1, 1, 1), NO, NO, NO), "types");
    refuses(r, node(r, NO, NO, NO, NO), "missing");
    refuses(r, node(r, 0, 0, NO, NO), "one too many");
    ask(r, F32, 4, 1, 1, 1);
    refuses(r, node(r, leaf(r, F32, 8, 1, 1, 1), NO, NO, NO), "cannot give");
}

static void packed_rows_only(struct rows *r)
{
    refuses(r, node(r, turned(r, leaf(r, F32, 6, 8, 1, 1)), NO, NO, NO), "rows with gaps");
}

static void widens(struct rows *r, bool may)
{
    ask(r, F32, 8, 1, 1, 1);
    const int32_t n = node(r, leaf(r, F16, 8, 1, 1, 1), NO, NO, NO);
    if (may) {
        gives(r, n, F32, -1, 8, 1, 1, 1);
    } else {
        refuses(r, n, "cannot give");
    }
}

static void rows__SQR(struct rows *r)
{
    like0_rows(r, BF16, I32);
    packed_rows_only(r);
    widens(r, true);
}
static void rows__SQRT(struct rows *r)
{
    like0_rows(r, F16, Q8_0);
    packed_rows_only(r);
    widens(r, true);
}
static void rows__SCALE(struct rows *r)
{
    like0_rows(r, BF16, F16);
    packed_rows_only(r);
}
static void rows__CLAMP(struct rows *r)
{
    like0_rows(r, F16, BF16);
    packed_rows_only(r);
    widens(r, false);
}
static void rows__FILL(struct rows *r)
{
    like0_rows(r, F16, I32);
    packed_rows_only(r);
}

static void norm_rows(struct rows *r)
{
    like0_rows(r, F32, F16);
    f32_param(r, 0, 1e-5f);
    gives(r, node(r, leaf(r, F32, 8, 3, 1, 1), NO, NO, NO), F32, -1, 8, 3, 1, 1);
    f32_param(r, 0, -1e-5f);
    refuses(r, node(r, leaf(r, F32, 8, 3, 1, 1), NO, NO, NO), "eps");
    r->params[0] = 0x7fc00000; // NaN
    refuses(r, node(r, leaf(r, F32, 8, 3, 1, 1), NO, NO, NO), "eps");
    refuses(r, node(r, sym(r, F32, T, 0, 0, 0), NO, NO, NO), "symbolic length");
}
static void rows__NORM(struct rows *r)
{
    norm_rows(r);
    gives(r, node(r, turned(r, leaf(r, F32, 6, 8, 1, 1)), NO, NO, NO), F32, -1, 8, 6, 1, 1);
}
static void rows__RMS_NORM(struct rows *r)
{
    norm_rows(r);
    packed_rows_only(r);
}
static void rows__L2_NORM(struct rows *r)
{
    norm_rows(r);
}

static void rows__UNARY(struct rows *r)
{
    for (int kind = 0; kind < SH_UNARY_COUNT; kind++) {
        const bool same = kind == SH_UNARY_GELU || kind == SH_UNARY_GELU_ERF ||
                          kind == SH_UNARY_GELU_QUICK || kind == SH_UNARY_SILU;
        r->params[0] = kind;
        gives(r, node(r, leaf(r, BF16, 8, 1, 1, 1), NO, NO, NO), BF16, -1, 8, 1, 1, 1);
        r->params[0] = kind;
        widens(r, !same);
    }
    r->params[0] = SH_UNARY_COUNT;
    refuses(r, node(r, leaf(r, F32, 8, 1, 1, 1), NO, NO, NO), "unary kind 22");
    r->params[0] = -1;
    refuses(r, node(r, leaf(r, F32, 8, 1, 1, 1), NO, NO, NO), "unary kind -1");
    packed_rows_only(r);
    refuses(r, node(r, leaf(r, I32, 8, 1, 1, 1), NO, NO, NO), "types i32");
}

static void rows__GLU(struct rows *r)
{
    const int32_t x = leaf(r, F32, 8, 3, 1, 1), wide = leaf(r, F32, 20, 3, 1, 1);
    const int64_t ne[] = {8, 3};
    const int32_t slice = sh_op_view(&r->g, wide, 2, ne, NULL, 8);

    for (int kind = 0; kind < SH_GLU_COUNT; kind++) {
        r->params[0] = kind;
        gives(r, node(r, x, x, NO, NO), F32, -1, 8, 3, 1, 1);
        r->params[0] = kind;
        gives(r, node(r, x, NO, NO, NO), F32, -1, 4, 3, 1, 1);
    }
    gives(r, node(r, slice, x, NO, NO), F32, -1, 8, 3, 1, 1);
    gives(r, node(r, leaf(r, F32, 7, 3, 1, 1), NO, NO, NO), F32, -1, 3, 3, 1, 1);
    gives(r, node(r, sym(r, F32, T, 1, 8, 0), sym(r, F32, T, 1, 8, 0), NO, NO), F32, 1, 8, T_MAX, 1,
          1);
    r->params[0] = SH_GLU_COUNT;
    refuses(r, node(r, x, x, NO, NO), "glu kind 7");
    r->params[1] = 2;
    refuses(r, node(r, x, NO, NO, NO), "swapped is 2");
    refuses(r, node(r, x, wide, NO, NO), "dimension 0 is 8 and 20");
    refuses(r, node(r, x, leaf(r, F16, 8, 3, 1, 1), NO, NO), "types");
    r->params[0] = SH_GLU_SWIGLU_OAI;
    refuses(r, node(r, leaf(r, F16, 8, 1, 1, 1), NO, NO, NO), "types");
    r->params[0] = SH_GLU_SWIGLU_CLAMP;
    refuses(r, node(r, leaf(r, BF16, 8, 1, 1, 1), NO, NO, NO), "types");
    refuses(r, node(r, turned(r, leaf(r, F32, 6, 8, 1, 1)), NO, NO, NO), "gaps");
    refuses(r, node(r, sym(r, F32, T, 1, 8, 0), sym(r, F32, O, 1, 8, 0), NO, NO), "dimension 1");
    refuses(r, node(r, sym(r, F32, T, 0, 0, 0), NO, NO, NO), "symbolic length");
}

/* ---- along rows -----------------------------------------------------------------------------*/

static void rows__SUM_ROWS(struct rows *r)
{
    gives(r, node(r, leaf(r, F32, 8, 3, 2, 1), NO, NO, NO), F32, -1, 1, 3, 2, 1);
    gives(r, node(r, sym(r, F32, T, 1, 8, 0), NO, NO, NO), F32, 1, 1, T_MAX, 1, 1);
    refuses(r, node(r, leaf(r, F16, 8, 1, 1, 1), NO, NO, NO), "types");
    refuses(r, node(r, sym(r, F32, T, 0, 0, 0), NO, NO, NO), "symbolic length");
    packed_rows_only(r);
}

static void rows__ARGMAX(struct rows *r)
{
    gives(r, node(r, leaf(r, F32, 8, 3, 1, 1), NO, NO, NO), I32, -1, 3, 1, 1, 1);
    gives(r, node(r, sym(r, F32, O, 1, 8, 0), NO, NO, NO), I32, 0, O_MAX, 1, 1, 1);
    refuses(r, node(r, leaf(r, F32, 8, 3, 2, 1), NO, NO, NO), "no matrix");
    refuses(r, node(r, leaf(r, F32, 0, 3, 1, 1), NO, NO, NO), "rows of 0");
    refuses(r, node(r, leaf(r, F32, (int64_t)1 << 31, 1, 1, 1), NO, NO, NO), "rows of 2147483648");
}

static void rows__ARGSORT(struct rows *r)
{
    gives(r, node(r, leaf(r, F32, 8, 3, 1, 1), NO, NO, NO), I32, -1, 8, 3, 1, 1);
    r->params[0] = 1;
    gives(r, node(r, sym(r, F32, T, 1, 8, 0), NO, NO, NO), I32, 1, 8, T_MAX, 1, 1);
    r->params[0] = 2;
    refuses(r, node(r, leaf(r, F32, 8, 3, 1, 1), NO, NO, NO), "sort order 2");
    refuses(r, node(r, leaf(r, I32, 8, 3, 1, 1), NO, NO, NO), "types");
    packed_rows_only(r);
}

static void rows__TOP_K(struct rows *r)
{
    ask(r, I32, 2, 3, 1, 1);
    gives(r, node(r, leaf(r, F32, 8, 3, 1, 1), NO, NO, NO), I32, -1, 2, 3, 1, 1);
    refuses(r, node(r, leaf(r, F32, 8, 3, 1, 1), NO, NO, NO), "needs a shape");
    ask(r, I32, 9, 3, 1, 1);
    refuses(r, node(r, leaf(r, F32, 8, 3, 1, 1), NO, NO, NO), "9 of rows of 8");
    ask(r, I32, 2, 4, 1, 1);
    refuses(r, node(r, leaf(r, F32, 8, 3, 1, 1), NO, NO, NO), "cannot give");
    ask(r, F32, 2, 3, 1, 1);
    refuses(r, node(r, leaf(r, F32, 8, 3, 1, 1), NO, NO, NO), "cannot give");
}

static void rows__SOFT_MAX(struct rows *r)
{
    const int32_t x = leaf(r, F32, 8, 5, 4, 2), mask = leaf(r, F16, 8, 5, 1, 1);

    gives(r, node(r, x, NO, NO, NO), F32, -1, 8, 5, 4, 2);
    gives(r, node(r, x, mask, NO, NO), F32, -1, 8, 5, 4, 2);
    gives(r, node(r, x, leaf(r, F32, 8, 64, 2, 2), leaf(r, F32, 4, 1, 1, 1), NO), F32, -1, 8, 5, 4,
          2);
    gives(r, node(r, x, NO, leaf(r, F32, 4, 1, 1, 1), NO), F32, -1, 8, 5, 4, 2);
    gives(r, node(r, sym(r, F32, T, 1, 8, 0), NO, NO, NO), F32, 1, 8, T_MAX, 1, 1);
    refuses(r, node(r, x, leaf(r, F16, 8, 4, 1, 1), NO, NO), "mask does not match");
    refuses(r, node(r, x, leaf(r, F16, 9, 5, 1, 1), NO, NO), "mask does not match");
    refuses(r, node(r, x, leaf(r, F16, 8, 5, 3, 1), NO, NO), "mask does not match");
    refuses(r, node(r, x, turned(r, leaf(r, F16, 5, 8, 1, 1)), NO, NO), "mask is not contiguous");
    refuses(r, node(r, x, mask, leaf(r, F32, 5, 1, 1, 1), NO), "sinks");
    refuses(r, node(r, x, leaf(r, BF16, 8, 5, 1, 1), NO, NO), "types");
    f32_param(r, 1, 8.0f);
    refuses(r, node(r, x, NO, NO, NO), "bias without a mask");
    refuses(r, node(r, sym(r, F32, T, 0, 0, 0), NO, NO, NO), "symbolic length");
    packed_rows_only(r);
}

/* ---- copies and views -----------------------------------------------------------------------*/

static void rows__REPEAT(struct rows *r)
{
    ask(r, F32, 8, 6, 2, 1);
    gives(r, node(r, leaf(r, F32, 4, 3, 1, 1), NO, NO, NO), F32, -1, 8, 6, 2, 1);
    ask_sym(r, I32, T, 1, 8, 1);
    gives(r, node(r, leaf(r, I32, 8, 1, 1, 1), NO, NO, NO), I32, 1, 8, T_MAX, 1, 1);
    refuses(r, node(r, leaf(r, F32, 4, 1, 1, 1), NO, NO, NO), "needs a shape");
    ask(r, F32, 9, 1, 1, 1);
    refuses(r, node(r, leaf(r, F32, 4, 1, 1, 1), NO, NO, NO), "dimension 0");
    ask(r, Q4_0, 64, 1, 1, 1);
    refuses(r, node(r, leaf(r, Q4_0, 32, 1, 1, 1), NO, NO, NO), "types");
    ask(r, F16, 8, 1, 1, 1);
    refuses(r, node(r, leaf(r, F32, 4, 1, 1, 1), NO, NO, NO), "cannot give");
    ask_sym(r, F32, T, 1, 8, 1);
    r->shape.ne[1] = T_MAX - 1;
    refuses(r, node(r, leaf(r, F32, 8, 1, 1, 1), NO, NO, NO), "not its maximum");
    ask(r, F32, 8, INT64_MAX, 2, 1);
    refuses(r, node(r, leaf(r, F32, 8, 1, 1, 1), NO, NO, NO), "no lawful shape");
    ask(r, F32, 8, 6, 1, 1);
    refuses(r, node(r, turned(r, leaf(r, F32, 6, 8, 1, 1)), NO, NO, NO), "rows with gaps");
}

static void rows__CONCAT(struct rows *r)
{
    const int32_t a = leaf(r, F32, 8, 3, 1, 1), x = sym(r, F32, T, 1, 8, 0);

    r->params[0] = 1;
    gives(r, node(r, a, leaf(r, F32, 8, 5, 1, 1), NO, NO), F32, -1, 8, 8, 1, 1);
    r->params[0] = 3;
    gives(r, node(r, a, a, NO, NO), F32, -1, 8, 3, 1, 2);
    gives(r, node(r, x, sym(r, F32, T, 1, 4, 0), NO, NO), F32, 1, 12, T_MAX, 1, 1);
    r->params[0] = 4;
    refuses(r, node(r, a, a, NO, NO), "dimension 4");
    r->params[0] = -1;
    refuses(r, node(r, a, a, NO, NO), "dimension -1");
    r->params[0] = 2;
    refuses(r, node(r, a, leaf(r, F32, 8, 5, 1, 1), NO, NO), "dimension 1 is 3 and 5");
    refuses(r, node(r, a, leaf(r, F16, 8, 3, 1, 1), NO, NO), "types");
    r->params[0] = 1;
    refuses(r, node(r, x, x, NO, NO), "dimension 1");
}

static void pads(struct rows *r, int d, int32_t left, int32_t right)
{
    r->params[2 * d] = left;
    r->params[2 * d + 1] = right;
}

static void rows__PAD(struct rows *r)
{
    const int32_t a = leaf(r, F32, 8, 3, 2, 1), x = sym(r, F32, T, 1, 8, 0);

    ask(r, F32, 9, 3, 2, 2); // by the shape alone
    gives(r, node(r, a, NO, NO, NO), F32, -1, 9, 3, 2, 2);
    ask(r, F32, 7, 3, 2, 1);
    refuses(r, node(r, a, NO, NO, NO), "cannot get 0 and -1 more");
    pads(r, 0, 1, 0);
    pads(r, 3, 2, 3);
    gives(r, node(r, turned(r, a), NO, NO, NO), F32, -1, 4, 8, 2, 6);
    pads(r, 0, 0, 4);
    gives(r, node(r, x, NO, NO, NO), F32, 1, 12, T_MAX, 1, 1);
    pads(r, 1, 0, 4);
    refuses(r, node(r, x, NO, NO, NO), "dimension 1");
    pads(r, 2, -1, 4);
    refuses(r, node(r, a, NO, NO, NO), "dimension 2");
    pads(r, 2, 1, INT32_MIN);
    refuses(r, node(r, a, NO, NO, NO), "dimension 2");
    pads(r, 0, INT32_MAX, INT32_MAX);
    pads(r, 1, INT32_MAX, INT32_MAX);
    pads(r, 2, INT32_MAX, INT32_MAX);
    refuses(r, node(r, a, NO, NO, NO), "no lawful shape");
    pads(r, 0, 1, 1);
    r->params[8] = 2;
    refuses(r, node(r, a, NO, NO, NO), "wraps is 2");
    pads(r, 1, 1, 1);
    r->params[8] = 1;
    refuses(r, node(r, leaf(r, F32, 8, 0, 2, 1), NO, NO, NO), "dimension 1 of 0");
    pads(r, 1, 1, 1);
    refuses(r, node(r, leaf(r, F16, 8, 3, 2, 1), NO, NO, NO), "types");
    pads(r, 1, 9, 3);
    r->params[8] = 1;
    gives(r, node(r, a, NO, NO, NO), F32, -1, 8, 15, 2, 1);
}

static void rows__CPY(struct rows *r)
{
    const int32_t x = leaf(r, F32, 32, 4, 1, 1), to = leaf(r, F16, 16, 8, 1, 1);

    gives(r, node(r, x, to, NO, NO), F16, -1, 16, 8, 1, 1);
    assert_int_equal(sh_graph_tensor(&r->g, r->g.n_tensors - 1)->view_src, to);
    gives(r, sh_op_cast(&r->g, x, Q4_0), Q4_0, -1, 32, 4, 1, 1);
    assert_int_equal(sh_graph_tensor(&r->g, r->g.n_tensors - 1)->src[1], r->g.n_tensors - 1);
    gives(r, sh_op_cast(&r->g, sym(r, I32, T, 1, 8, 0), F32), F32, 1, 8, T_MAX, 1, 1);
    gives(r, node(r, leaf(r, Q8_0, 32, 2, 1, 1), leaf(r, F32, 64, 1, 1, 1), NO, NO), F32, -1, 64, 1,
          1, 1);
    gives(r, node(r, turned(r, x), leaf(r, F32, 128, 1, 1, 1), NO, NO), F32, -1, 128, 1, 1, 1);
    refuses(r, node(r, x, leaf(r, F16, 32, 3, 1, 1), NO, NO), "128 elements as [32,3,1,1]");
    refuses(r, node(r, x, leaf(r, I64, 32, 4, 1, 1), NO, NO), "no conversion from f32 to i64");
    refuses(r, node(r, leaf(r, Q8_0, 32, 4, 1, 1), leaf(r, Q4_0, 32, 4, 1, 1), NO, NO),
            "no conversion from q8_0 to q4_0");
    refuses(r, node(r, turned(r, x), leaf(r, Q4_0, 128, 1, 1, 1), NO, NO), "blocks with gaps");
    refuses(r, node(r, leaf(r, F32, 16, 8, 1, 1), leaf(r, Q4_0, 32, 4, 1, 1), NO, NO),
            "split blocks");
    refuses(r, sh_op_cast(&r->g, leaf(r, F32, 16, 2, 1, 1), Q4_0), "split blocks");
    refuses(r, node(r, sym(r, F32, T, 1, 8, 0), leaf(r, F32, 8, T_MAX, 1, 1), NO, NO), "elements");
    refuses(r, sh_op_cast(&r->g, leaf(r, F32, 256, 1, 1, 1), SH_DTYPE_IQ2_XS), "no conversion");
    refuses(r, node(r, x, NO, NO, NO), "needs a type");
    const int64_t half[] = {32, 2};
    const size_t apart[] = {18, 72};
    const int32_t table = leaf(r, Q4_0, 64, 4, 1, 1);
    refuses(r,
            node(r, leaf(r, F32, 32, 2, 1, 1), sh_op_view(&r->g, table, 2, half, apart, 0), NO, NO),
            "not contiguous");
}

static void rows__CONT(struct rows *r)
{
    gives(r, node(r, turned(r, leaf(r, F32, 6, 8, 1, 1)), NO, NO, NO), F32, -1, 8, 6, 1, 1);
    ask(r, F32, 48, 1, 1, 1);
    gives(r, node(r, turned(r, leaf(r, F32, 6, 8, 1, 1)), NO, NO, NO), F32, -1, 48, 1, 1, 1);
    ask_sym(r, F32, T, 1, 16, 1);
    gives(r, node(r, sym(r, F32, T, 2, 4, 4), NO, NO, NO), F32, 1, 16, T_MAX, 1, 1);
    ask(r, F32, 47, 1, 1, 1);
    refuses(r, node(r, leaf(r, F32, 6, 8, 1, 1), NO, NO, NO), "48 elements");
    ask(r, F16, 48, 1, 1, 1);
    refuses(r, node(r, leaf(r, F32, 6, 8, 1, 1), NO, NO, NO), "cannot give");
    ask(r, F32, 16, T_MAX, 1, 1);
    refuses(r, node(r, sym(r, F32, T, 2, 4, 4), NO, NO, NO), "elements");
}

static void rows__RESHAPE(struct rows *r)
{
    const int32_t x = leaf(r, F32, 6, 8, 1, 1), t = sym(r, F32, T, 1, 16, 0);
    const int64_t a[] = {4, 12}, b[] = {4, 4, T_MAX}, c[] = {5, 9}, d[] = {16 * T_MAX};
    const int64_t swapped[] = {T_MAX, 16}, blocks[] = {16, 4};

    gives(r, sh_op_reshape(&r->g, x, 2, a), F32, -1, 4, 12, 1, 1);
    gives(r, sh_op_reshape(&r->g, t, 3, b), F32, 2, 4, 4, T_MAX, 1);
    refuses(r, sh_op_reshape(&r->g, x, 2, c), "48 elements as [5,9,1,1]");
    refuses(r, sh_op_reshape(&r->g, turned(r, x), 2, a), "not contiguous");
    refuses(r, sh_op_reshape(&r->g, t, 1, d), "elements");
    refuses(r, sh_op_reshape(&r->g, t, 2, swapped), "elements");
    refuses(r, sh_op_reshape(&r->g, leaf(r, Q4_0, 32, 2, 1, 1), 2, blocks), "not lawful");
    refuses(r, node(r, x, NO, NO, NO), "needs a shape");
}

static void rows__VIEW(struct rows *r)
{
    const int32_t x = leaf(r, F32, 10, 8, 1, 1), t = sym(r, F32, T, 1, 10, 0);
    const int64_t part[] = {4, 8}, more[] = {4, 9}, some[] = {4, T_MAX}, fewer[] = {4, T_MAX - 1};
    const int64_t heads[] = {2, 2, T_MAX};
    const size_t nb[] = {4, 8, 40}, gap[] = {8, 40}, wild[] = {4, SIZE_MAX / 2};
    const size_t tight[] = {4, 16};

    gives(r, sh_op_view(&r->g, x, 2, part, NULL, 24), F32, -1, 4, 8, 1, 1);
    assert_int_equal(sh_graph_tensor(&r->g, r->g.n_tensors - 1)->view_offs, 24);
    gives(r, sh_op_view(&r->g, r->g.n_tensors - 1, 1, part, NULL, 40), F32, -1, 4, 1, 1, 1);
    assert_int_equal(sh_graph_tensor(&r->g, r->g.n_tensors - 1)->view_offs, 64);
    assert_int_equal(sh_graph_tensor(&r->g, r->g.n_tensors - 1)->view_src, x);
    gives(r, sh_op_view(&r->g, t, 2, some, NULL, 24), F32, 1, 4, T_MAX, 1, 1);
    gives(r, sh_op_view(&r->g, t, 3, heads, nb, 24), F32, 2, 2, 2, T_MAX, 1);
    refuses(r, sh_op_view(&r->g, x, 2, part, NULL, 28), "past the end");
    refuses(r, sh_op_view(&r->g, x, 2, more, NULL, 0), "past the end");
    refuses(r, sh_op_view(&r->g, x, 2, part, NULL, SIZE_MAX), "VIEW");
    refuses(r, sh_op_view(&r->g, x, 2, part, gap, 0), "stride of dimension 0 is 8");
    refuses(r, sh_op_view(&r->g, x, 2, part, wild, 0), "VIEW");
    refuses(r, sh_op_view(&r->g, t, 2, fewer, NULL, 0), "whole");
    refuses(r, sh_op_view(&r->g, t, 2, some, tight, 0), "whole");
    refuses(r, sh_op_view(&r->g, t, 2, some, NULL, 28), "crosses");
    refuses(r, sh_op_view(&r->g, t, 1, part, NULL, 0), "whole");
}

static void rows__PERMUTE(struct rows *r)
{
    const int32_t x = leaf(r, F32, 2, 3, 4, 5);

    gives(r, sh_op_permute(&r->g, x, 0, 2, 1, 3), F32, -1, 2, 4, 3, 5);
    gives(r, sh_op_permute(&r->g, x, 1, 2, 3, 0), F32, -1, 5, 2, 3, 4);
    assert_int_equal(sh_graph_tensor(&r->g, r->g.n_tensors - 1)->nb[1], 4);
    gives(r, sh_op_permute(&r->g, leaf(r, Q4_0, 32, 3, 4, 1), 0, 2, 1, 3), Q4_0, -1, 32, 4, 3, 1);
    gives(r, sh_op_permute(&r->g, sym(r, F32, T, 2, 8, 1), 0, 2, 1, 3), F32, 1, 8, T_MAX, 1, 1);
    refuses(r, sh_op_permute(&r->g, x, 0, 1, 1, 3), "no permutation");
    refuses(r, sh_op_permute(&r->g, x, 0, 1, 2, 4), "no permutation");
    refuses(r, sh_op_permute(&r->g, x, -1, 1, 2, 3), "no permutation");
    refuses(r, sh_op_permute(&r->g, leaf(r, Q4_0, 32, 3, 4, 1), 1, 0, 2, 3), "blocks");
    refuses(r, sh_op_permute(&r->g, sym(r, F32, T, 2, 8, 2), 0, 2, 1, 3), "outermost");
}

static void rows__TRANSPOSE(struct rows *r)
{
    gives(r, node(r, leaf(r, F32, 6, 8, 2, 1), NO, NO, NO), F32, -1, 8, 6, 2, 1);
    gives(r, node(r, sym(r, F32, T, 1, 1, 0), NO, NO, NO), F32, 0, T_MAX, 1, 1, 1);
    refuses(r, node(r, leaf(r, Q4_0, 32, 8, 1, 1), NO, NO, NO), "blocks");
    refuses(r, node(r, sym(r, F32, T, 1, 8, 0), NO, NO, NO), "outermost");
}

static void rows__GET_ROWS(struct rows *r)
{
    const int32_t x = leaf(r, Q4_0, 32, 9, 1, 1), ids = leaf(r, I32, 5, 1, 1, 1);
    const int32_t rows = sym(r, F32, T, 1, 8, 0), out = sym(r, I32, O, 0, 0, 0);

    gives(r, node(r, x, ids, NO, NO), F32, -1, 32, 5, 1, 1);
    gives(r, node(r, leaf(r, I32, 8, 9, 2, 3), leaf(r, I32, 5, 2, 3, 1), NO, NO), I32, -1, 8, 5, 2,
          3);
    gives(r, node(r, x, sym(r, I32, T, 0, 0, 0), NO, NO), F32, 1, 32, T_MAX, 1, 1);
    gives(r, node(r, rows, out, NO, NO), F32, 1, 8, O_MAX, 1, 1); // T to O
    gives(r, node(r, sym(r, F32, T, 2, 1, 4), sym(r, I32, T, 1, 2, 0), NO, NO), F32, 2, 1, 2, T_MAX,
          1);
    gives(r, node(r, rows, ids, NO, NO), F32, -1, 8, 5, 1, 1);
    refuses(r, node(r, x, leaf(r, I64, 5, 1, 1, 1), NO, NO), "types");
    refuses(r, node(r, leaf(r, I64, 5, 1, 1, 1), ids, NO, NO), "types");
    refuses(r, node(r, x, leaf(r, I32, 5, 2, 1, 1), NO, NO), "do not match the table");
    refuses(r, node(r, sym(r, F32, T, 2, 1, 4), leaf(r, I32, 2, T_MAX, 1, 1), NO, NO),
            "do not match");
    refuses(r, node(r, turned(r, leaf(r, F32, 6, 8, 1, 1)), ids, NO, NO), "gaps");
    refuses(r, node(r, sym(r, F32, T, 0, 0, 0), ids, NO, NO), "symbolic length");
}

static void rows__SET_ROWS(struct rows *r)
{
    const int32_t x = leaf(r, F32, 32, 5, 1, 1), ids = leaf(r, I64, 5, 1, 1, 1);
    const int32_t to = leaf(r, F16, 32, 9, 1, 1);

    gives(r, node(r, x, ids, to, NO), F16, -1, 32, 9, 1, 1);
    assert_int_equal(sh_graph_tensor(&r->g, r->g.n_tensors - 1)->view_src, to);
    gives(r, node(r, x, leaf(r, I32, 5, 1, 1, 1), leaf(r, Q8_0, 32, 9, 1, 1), NO), Q8_0, -1, 32, 9,
          1, 1);
    gives(
        r,
        node(r, leaf(r, F32, 32, 5, 4, 6), leaf(r, I32, 5, 2, 3, 1), leaf(r, F32, 32, 9, 4, 6), NO),
        F32, -1, 32, 9, 4, 6);
    gives(r, node(r, sym(r, F32, T, 1, 32, 0), sym(r, I32, T, 0, 0, 0), to, NO), F16, -1, 32, 9, 1,
          1);
    refuses(r, node(r, x, ids, NO, NO), "missing");
    refuses(r, node(r, x, leaf(r, I64, 4, 1, 1, 1), to, NO), "do not match the rows");
    refuses(r, node(r, x, ids, leaf(r, F16, 64, 9, 1, 1), NO), "do not match the target");
    refuses(r, node(r, x, leaf(r, F32, 5, 1, 1, 1), to, NO), "types");
    refuses(r, node(r, leaf(r, BF16, 32, 5, 1, 1), ids, to, NO), "types");
    refuses(r, node(r, leaf(r, F32, 256, 5, 1, 1), ids, leaf(r, SH_DTYPE_IQ1_S, 256, 9, 1, 1), NO),
            "types");
    refuses(r, node(r, sym(r, F32, T, 1, 32, 0), leaf(r, I32, T_MAX, 1, 1, 1), to, NO),
            "do not match the rows");
    refuses(
        r,
        node(r, leaf(r, F32, 32, 5, 4, 6), leaf(r, I32, 5, 3, 3, 1), leaf(r, F32, 32, 9, 4, 6), NO),
        "do not match the rows");
    refuses(r, node(r, turned(r, leaf(r, F32, 5, 32, 1, 1)), ids, to, NO), "rows with gaps");
    refuses(r, node(r, x, ids, turned(r, leaf(r, F16, 9, 32, 1, 1)), NO), "rows with gaps");
}

/* ---- products -------------------------------------------------------------------------------*/

static void rows__MUL_MAT(struct rows *r)
{
    const int32_t w = leaf(r, Q4_0, 64, 7, 1, 1), x = leaf(r, F32, 64, 3, 1, 1);
    const int32_t wf = leaf(r, F16, 64, 7, 2, 1), t = sym(r, F32, T, 1, 64, 0);

    gives(r, node(r, w, x, NO, NO), F32, -1, 7, 3, 1, 1);
    gives(r, node(r, w, t, NO, NO), F32, 1, 7, T_MAX, 1, 1);
    gives(r, node(r, wf, leaf(r, F16, 64, 3, 4, 5), NO, NO), F32, -1, 7, 3, 4, 5);
    r->params[0] = 10;
    r->params[1] = 1;
    r->params[3] = 30;
    r->params[15] = 32;
    gives(r, node(r, w, x, NO, NO), F32, -1, 7, 3, 1, 1);
    refuses(r, node(r, w, leaf(r, F32, 32, 3, 1, 1), NO, NO), "rows of 64 and 32");
    refuses(r, node(r, w, leaf(r, F16, 64, 3, 1, 1), NO, NO), "types q4_0 f16");
    refuses(r, node(r, leaf(r, I32, 64, 7, 1, 1), x, NO, NO), "types i32");
    refuses(r, node(r, leaf(r, SH_DTYPE_Q8_K, 256, 7, 1, 1), leaf(r, F32, 256, 1, 1, 1), NO, NO),
            "types q8_K");
    refuses(r, node(r, wf, x, NO, NO), "2 planes for 1");
    refuses(r, node(r, leaf(r, F16, 64, 7, 0, 1), x, NO, NO), "0 planes");
    refuses(r, node(r, leaf(r, F16, 64, 7, 3, 1), sym(r, F32, T, 2, 64, 1), NO, NO), "3 planes");
    refuses(r, node(r, t, leaf(r, F32, 64, 3, 1, 1), NO, NO), "symbolic weights");
    refuses(r, node(r, w, turned(r, leaf(r, F32, 3, 64, 1, 1)), NO, NO), "gaps");
    r->params[15] = 16;
    refuses(r, node(r, w, x, NO, NO), "segment unit 16");
    r->params[15] = -32;
    refuses(r, node(r, w, x, NO, NO), "segment unit -32");
    r->params[15] = 96;
    refuses(r, node(r, w, x, NO, NO), "segment unit 96");
    r->params[0] = 1;
    refuses(r, node(r, w, x, NO, NO), "precision 1");
    r->params[1] = 2;
    refuses(r, node(r, w, x, NO, NO), "hint 2");
    r->params[3] = 7;
    refuses(r, node(r, w, x, NO, NO), "operand precision 7");
}

static void rows__MUL_MAT_ID(struct rows *r)
{
    const int32_t w = leaf(r, Q4_0, 64, 7, 4, 1), x = leaf(r, F32, 64, 1, 3, 1);
    const int32_t ids = leaf(r, I32, 2, 3, 1, 1);

    gives(r, node(r, w, x, ids, NO), F32, -1, 7, 2, 3, 1);
    gives(r, node(r, w, leaf(r, F32, 64, 2, 3, 1), ids, NO), F32, -1, 7, 2, 3, 1);
    gives(r, node(r, w, sym(r, F32, T, 2, 64, 1), sym(r, I32, T, 1, 2, 0), NO), F32, 2, 7, 2, T_MAX,
          1);
    refuses(r, node(r, w, x, NO, NO), "missing");
    refuses(r, node(r, w, leaf(r, F32, 64, 3, 3, 1), ids, NO), "do not match");
    refuses(r, node(r, w, leaf(r, F32, 64, 0, 3, 1), ids, NO), "do not match");
    refuses(r, node(r, w, leaf(r, F32, 64, 1, 4, 1), ids, NO), "do not match");
    refuses(r, node(r, w, x, leaf(r, F32, 2, 3, 1, 1), NO), "types");
    refuses(r, node(r, leaf(r, Q4_0, 64, 7, 4, 2), x, ids, NO), "too many dimensions");
    refuses(r, node(r, w, sym(r, F32, T, 2, 64, 1), leaf(r, I32, 2, T_MAX, 1, 1), NO),
            "do not match");
    r->params[12] = -1;
    refuses(r, node(r, w, x, ids, NO), "first expert -1");
}

static int32_t rope(struct rows *r, int n_dims, int mode, int32_t x, int32_t pos, int32_t factors)
{
    rope_params(r, n_dims, mode);
    return node(r, x, pos, factors, NO);
}

static void rows__ROPE(struct rows *r)
{
    const int32_t x = leaf(r, F32, 16, 4, 5, 1), pos = leaf(r, I32, 5, 1, 1, 1);
    const int32_t t = sym(r, F32, T, 2, 16, 4), ours = sym(r, I32, T, 1, 4, 0);

    gives(r, rope(r, 16, SH_ROPE_NORM, x, pos, NO), F32, -1, 16, 4, 5, 1);
    gives(r, rope(r, 8, SH_ROPE_NEOX, x, pos, leaf(r, F32, 4, 1, 1, 1)), F32, -1, 16, 4, 5, 1);
    gives(r, rope(r, 16, SH_ROPE_MROPE, x, leaf(r, I32, 20, 1, 1, 1), NO), F32, -1, 16, 4, 5, 1);
    gives(r, rope(r, 16, SH_ROPE_NORM, t, sym(r, I32, T, 0, 0, 0), NO), F32, 2, 16, 4, T_MAX, 1);
    gives(r, rope(r, 16, SH_ROPE_IMROPE, t, ours, NO), F32, 2, 16, 4, T_MAX, 1);
    gives(r, rope(r, 16, SH_ROPE_NORM, leaf(r, F16, 16, 4, 5, 1), leaf(r, I32, 4, 5, 1, 1), NO),
          F16, -1, 16, 4, 5, 1);
    refuses(r, rope(r, 15, SH_ROPE_NORM, x, pos, NO), "15 rotated channels");
    refuses(r, rope(r, 0, SH_ROPE_NORM, x, pos, NO), "0 rotated channels");
    refuses(r, rope(r, 18, SH_ROPE_NORM, x, pos, NO), "18 rotated channels");
    refuses(r, rope(r, 16, 1, x, pos, NO), "rope mode 1");
    refuses(r, rope(r, 16, 24, x, pos, NO), "rope mode 24");
    refuses(r, rope(r, 16, SH_ROPE_NORM, x, leaf(r, I32, 6, 1, 1, 1), NO), "positions [6,1]");
    refuses(r, rope(r, 16, SH_ROPE_MROPE, x, pos, NO), "positions [5,1]");
    refuses(r, rope(r, 16, SH_ROPE_NORM, x, leaf(r, I64, 5, 1, 1, 1), NO), "types");
    refuses(r, rope(r, 16, SH_ROPE_NORM, x, pos, leaf(r, F32, 7, 1, 1, 1)), "7 frequency factors");
    refuses(r, rope(r, 16, SH_ROPE_NORM, t, leaf(r, I32, T_MAX, 1, 1, 1), NO), "positions");
    r->params[15] = 2;
    refuses(r, rope(r, 16, SH_ROPE_NORM, x, pos, NO), "16 rotated channels from 2");
    r->params[12] = 17;
    refuses(r, rope(r, 16, SH_ROPE_MROPE, x, leaf(r, I32, 20, 1, 1, 1), NO), "sections of 21");
    r->params[13] = -1;
    refuses(r, rope(r, 16, SH_ROPE_MROPE, x, leaf(r, I32, 20, 1, 1, 1), NO), "section of -1");
    rope_params(r, 16, SH_ROPE_MROPE);
    r->params[11] = 0;
    refuses(r, node(r, x, leaf(r, I32, 20, 1, 1, 1), NO, NO), "sections of 0");
    rope_params(r, 16, SH_ROPE_NORM);
    f32_param(r, 5, -1.0f);
    refuses(r, node(r, x, pos, NO, NO), "base -1");
    rope_params(r, 16, SH_ROPE_NORM);
    f32_param(r, 7, 1.0f); // extension without an original context
    refuses(r, node(r, x, pos, NO, NO), "context extension from 0");
    rope_params(r, 16, SH_ROPE_NORM);
    r->params[6] = 0x7f800000; // an infinite scale
    refuses(r, node(r, x, pos, NO, NO), "not finite");
    refuses(r, rope(r, 2, SH_ROPE_NORM, sym(r, F32, T, 0, 0, 0), leaf(r, I32, 1, 1, 1, 1), NO),
            "symbolic length");
    refuses(r, rope(r, 8, SH_ROPE_NORM, turned(r, leaf(r, F32, 6, 8, 5, 1)), pos, NO), "gaps");
}

static void rows__FLASH_ATTN_EXT(struct rows *r)
{
    const int32_t q = leaf(r, F32, 32, 5, 8, 2), k = leaf(r, F16, 32, 70, 4, 2);
    const int32_t v = leaf(r, Q8_0, 64, 70, 2, 2), mask = leaf(r, F16, 70, 5, 1, 2);
    const int32_t src[] = {q, k, v, mask, leaf(r, F32, 8, 1, 1, 1)};

    gives(r, sh_op_node(&r->g, r->op, 5, src, NULL), F32, -1, 64, 8, 5, 2);
    gives(r, node(r, q, k, v, NO), F32, -1, 64, 8, 5, 2);
    gives(r, sh_op_flash_attn(&r->g, q, k, v, NO, src[4], 0.1f, 0, 0), F32, -1, 64, 8, 5, 2);
    refuses(r, node(r, q, k, NO, NO), "missing");
    refuses(r, node(r, q, leaf(r, F16, 16, 70, 4, 2), v, mask), "do not match");
    refuses(r, node(r, q, leaf(r, F16, 32, 71, 4, 2), v, mask), "do not match");
    refuses(r, node(r, q, leaf(r, F16, 32, 70, 3, 2), v, mask), "do not match");
    refuses(r, node(r, q, leaf(r, F16, 32, 70, 0, 2), v, mask), "do not match");
    refuses(r, node(r, q, leaf(r, F16, 32, 70, 4, 1), v, mask), "do not match");
    refuses(r, node(r, q, k, v, leaf(r, F16, 69, 5, 1, 1)), "mask does not match");
    refuses(r, node(r, q, k, v, leaf(r, F16, 70, 4, 1, 1)), "mask does not match");
    refuses(r, node(r, q, k, v, leaf(r, F16, 70, 5, 3, 1)), "mask does not match");
    refuses(r, node(r, q, k, v, leaf(r, F16, 70, 5, 0, 1)), "mask does not match");
    refuses(r, node(r, q, k, v, leaf(r, F32, 70, 5, 1, 1)), "types");
    refuses(r, node(r, q, k, leaf(r, I32, 64, 70, 2, 2), mask), "types");
    refuses(r, sh_op_flash_attn(&r->g, q, k, v, NO, NO, 1, 8, 0), "bias without a mask");
    refuses(r, sh_op_flash_attn(&r->g, q, k, v, NO, leaf(r, F32, 7, 1, 1, 1), 1, 0, 0), "sinks");
    r->params[3] = 20;
    refuses(r, node(r, q, k, v, mask), "precision 20");
    refuses(r,
            node(r, sym(r, F32, T, 1, 32, 0), leaf(r, F16, 32, 70, 1, 1),
                 leaf(r, F16, 32, 70, 1, 1), NO),
            "symbolic extent");
    refuses(r, node(r, q, k, v, turned(r, leaf(r, F16, 5, 70, 1, 1))), "mask is not contiguous");
    refuses(r, node(r, turned(r, leaf(r, F32, 5, 32, 8, 2)), k, v, mask), "rows with gaps");
}

/* ---- every row ------------------------------------------------------------------------------*/

static const struct row_cases ROWS[] = {
    {SH_OP_NONE, rows__NONE},
    {SH_OP_DUP, rows__DUP},
    {SH_OP_ADD, rows__ADD},
    {SH_OP_SUB, rows__SUB},
    {SH_OP_MUL, rows__MUL},
    {SH_OP_DIV, rows__DIV},
    {SH_OP_ADD_ID, rows__ADD_ID},
    {SH_OP_SQR, rows__SQR},
    {SH_OP_SQRT, rows__SQRT},
    {SH_OP_SCALE, rows__SCALE},
    {SH_OP_CLAMP, rows__CLAMP},
    {SH_OP_FILL, rows__FILL},
    {SH_OP_NORM, rows__NORM},
    {SH_OP_RMS_NORM, rows__RMS_NORM},
    {SH_OP_L2_NORM, rows__L2_NORM},
    {SH_OP_UNARY, rows__UNARY},
    {SH_OP_GLU, rows__GLU},
    {SH_OP_SUM_ROWS, rows__SUM_ROWS},
    {SH_OP_ARGMAX, rows__ARGMAX},
    {SH_OP_ARGSORT, rows__ARGSORT},
    {SH_OP_TOP_K, rows__TOP_K},
    {SH_OP_SOFT_MAX, rows__SOFT_MAX},
    {SH_OP_REPEAT, rows__REPEAT},
    {SH_OP_CONCAT, rows__CONCAT},
    {SH_OP_PAD, rows__PAD},
    {SH_OP_CPY, rows__CPY},
    {SH_OP_CONT, rows__CONT},
    {SH_OP_RESHAPE, rows__RESHAPE},
    {SH_OP_VIEW, rows__VIEW},
    {SH_OP_PERMUTE, rows__PERMUTE},
    {SH_OP_TRANSPOSE, rows__TRANSPOSE},
    {SH_OP_GET_ROWS, rows__GET_ROWS},
    {SH_OP_SET_ROWS, rows__SET_ROWS},
    {SH_OP_MUL_MAT, rows__MUL_MAT},
    {SH_OP_MUL_MAT_ID, rows__MUL_MAT_ID},
    {SH_OP_ROPE, rows__ROPE},
    {SH_OP_FLASH_ATTN_EXT, rows__FLASH_ATTN_EXT},
};

static void infer__every_row_with_a_wire_number_has_cases(void **state)
{
    (void)state;
    run_rows(ROWS, sizeof ROWS / sizeof ROWS[0], false);
}

static void infer__wire_numbers_lead_back_to_their_row(void **state)
{
    (void)state;
    for (int op = 0; op < SH_OP_COUNT; op++) {
        const struct sh_op_info *info = sh_op_info((enum sh_op)op);
        assert_in_range(info->n_src_max, info->n_src_min, SH_MAX_SRC);
        if (info->wire < 0) {
            assert_true(info->flags & SH_OPF_SHOAL);
        } else {
            assert_int_equal(sh_op_from_wire((uint32_t)info->wire), op);
            assert_false(info->flags & SH_OPF_SHOAL);
        }
    }
    assert_int_equal(sh_op_from_wire(92), SH_OP_COUNT); // a native function pointer
    assert_int_equal(sh_op_from_wire(101), SH_OP_COUNT);
    assert_int_equal(sh_op_from_wire(UINT32_MAX), SH_OP_COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(infer__every_row_with_a_wire_number_has_cases),
        cmocka_unit_test(infer__wire_numbers_lead_back_to_their_row),
    };
    return cmocka_run_group_tests_name("infer", tests, NULL, NULL);
}
