/* tensor/ops.h - the op table: every operation that a graph may hold, one row each.
 *
 * The builder, the validator, the serialisers, the CPU dispatch and the generated tests expand
 * from this list; an op without a row cannot be reached.  ggml's ops keep ggml's meaning and its
 * parameter words, so a row's `wire` number is all that the compatibility protocol needs (op-table
 * generation 101).  Below them stand shoal's own ops, which no foreign peer knows (wire -1).
 *
 * Notation: [a,b,c,d] extents, fastest first; p0..p15 the parameter words (i32, or the bits of an
 * f32).  T, O, R: symbolic extents (tensor/graph.h).
 *
 * Columns: name, wire number, fewest and most sources, flags, shape rule.
 * The shape rule `r` names the function sh_infer_<r>() (tensor/infer_priv.h): given sources and
 * parameters it checks them and yields type, extents and symbolic extent of the result; the
 * validator compares what a peer claims with it.
 */
#ifndef TENSOR_OPS_H
#define TENSOR_OPS_H

#include <stdint.h>

enum sh_op_flag {
    SH_OPF_VIEW = 1,     /* computes nothing; result is a view of src[0] */
    SH_OPF_WRITES = 2,   /* result is a view of the source that it writes (CPY, SET_ROWS, …) */
    SH_OPF_INPLACE = 4,  /* result may lie exactly on a source of equal layout */
    SH_OPF_INDEX = 8,    /* reads row numbers as data: checked when it runs */
    SH_OPF_SHOAL = 16,   /* ours: lowered for devices that lack it */
    SH_OPF_STATE = 32,   /* changes memory that outlives the step */
    SH_OPF_COLLECT = 64, /* waits for other shards */
    SH_OPF_ROWS = 128    /* result row i depends on source row i only, any strides of rows */
};

/* clang-format off */
#define SH_OPS(X)                                                                                  \
    /* name            wire  src    flags                              rule        */              \
    X(NONE,              0,  0, 0,  0,                                 leaf)                       \
    X(DUP,               1,  1, 1,  0,                                 like0)                      \
    X(ADD,               2,  2, 2,  SH_OPF_INPLACE,                    binary)                     \
    X(ADD_ID,            3,  3, 3,  SH_OPF_INPLACE | SH_OPF_INDEX,     add_id)                     \
    X(SUB,               6,  2, 2,  SH_OPF_INPLACE,                    binary)                     \
    X(MUL,               7,  2, 2,  SH_OPF_INPLACE,                    binary)                     \
    X(DIV,               8,  2, 2,  SH_OPF_INPLACE,                    binary)                     \
    X(SQR,               9,  1, 1,  SH_OPF_INPLACE,                    like0)                      \
    X(SQRT,             10,  1, 1,  SH_OPF_INPLACE,                    like0)                      \
    X(SUM_ROWS,         15,  1, 1,  0,                                 sum_rows)                   \
    X(ARGMAX,           18,  1, 1,  0,                                 argmax)                     \
    X(REPEAT,           20,  1, 1,  0,                                 repeat)                     \
    X(CONCAT,           22,  2, 2,  0,                                 concat)                     \
    X(NORM,             24,  1, 1,  SH_OPF_INPLACE,                    like0)                      \
    X(RMS_NORM,         25,  1, 1,  SH_OPF_INPLACE,                    like0)                      \
    X(L2_NORM,          28,  1, 1,  SH_OPF_INPLACE,                    like0)                      \
    /* p0 accumulator precision, p1 hint, p3 operand precision (all may be ignored);               \
     * p15: ours: unit of the K segments in elements, 0 = one chain (docs: tensor/segments.h) */   \
    X(MUL_MAT,          29,  2, 2,  0,                                 mul_mat)                    \
    /* p12: ours: 1 + first expert held here, ids outside give zero rows; 0 = all held; p15 */     \
    X(MUL_MAT_ID,       30,  3, 3,  SH_OPF_INDEX,                      mul_mat_id)                 \
    X(SCALE,            32,  1, 1,  SH_OPF_INPLACE,                    like0)                      \
    X(CPY,              34,  2, 2,  SH_OPF_WRITES,                     cpy)                        \
    X(CONT,             35,  1, 1,  0,                                 cont)                       \
    X(RESHAPE,          36,  1, 1,  SH_OPF_VIEW,                       reshape)                    \
    X(VIEW,             37,  1, 1,  SH_OPF_VIEW,                       view)                       \
    X(PERMUTE,          38,  1, 1,  SH_OPF_VIEW,                       permute)                    \
    X(TRANSPOSE,        39,  1, 1,  SH_OPF_VIEW,                       transpose)                  \
    X(GET_ROWS,         40,  2, 2,  SH_OPF_INDEX,                      get_rows)                   \
    X(SET_ROWS,         42,  3, 3,  SH_OPF_WRITES | SH_OPF_INDEX,      set_rows)                   \
    X(SOFT_MAX,         46,  1, 3,  SH_OPF_INPLACE,                    soft_max)                   \
    /* positions: i32 [T] (or [4T]), or ours [4,T] as the POS input holds them */                  \
    X(ROPE,             48,  2, 3,  SH_OPF_INPLACE,                    rope)                       \
    X(CLAMP,            50,  1, 1,  SH_OPF_INPLACE,                    like0)                      \
    /* p0..p7 left and right of each dimension, p8 wraps around; without any (old peers): left 0,    \
     * right what the shape asked for has */                                                       \
    X(PAD,              64,  1, 1,  0,                                 pad)                        \
    X(ARGSORT,          69,  1, 1,  0,                                 argsort)                    \
    X(TOP_K,            70,  1, 1,  0,                                 top_k)                      \
    X(FILL,             73,  1, 1,  SH_OPF_INPLACE,                    like0)                      \
    X(FLASH_ATTN_EXT,   74,  3, 5,  0,                                 flash_attn)                 \
    X(UNARY,            91,  1, 1,  SH_OPF_INPLACE,                    like0)                      \
    X(GLU,             100,  1, 2,  0,                                 glu)                        \
    /* ---- shoal's own -------------------------------------------------------------------------- \
     * EMBED: src table [D,V], TOKENS i32 [T], EMBD? f32 [D,T]; id >= 0: row id of the table;      \
     * id < 0: row -1-id of EMBD.  Result f32 [D,T]. */                                            \
    X(EMBED,            -1,  2, 3,  SH_OPF_SHOAL | SH_OPF_INDEX,       embed)                      \
    /* CACHE_PUT: src cache [width,64,pages] f16|f32, x f32 [width,T], ROWS i32 [4,T], table i32   \
     * [index,seq].  Row t goes to place pos%64 of page table[seq][pos/64].  Result: view of the   \
     * cache.  Rows of ROWS: sequence, position, last visible position, 0. */                      \
    X(CACHE_PUT,        -1,  4, 4,  SH_OPF_SHOAL | SH_OPF_WRITES | SH_OPF_INDEX | SH_OPF_STATE,    \
      cache_put)                                                                                   \
    /* CACHE_ATTN: src q f32 [dk,H,T], K [dk*Hk,64,pages], V [dv*Hk,64,pages] (results of          \
     * CACHE_PUT), ROWS, table, sinks? f32 [H].  p0 scale, p1 soft-cap (0 = none), p2 window W     \
     * (0 = none: position p sees p0 with p - p0 < W), p3 chunk (0 = none), p4 Hk.  Key position   \
     * p0 is visible to a row iff p0 <= last and window and chunk allow it; a sequence may begin   \
     * at a later page, those before are -1 in the table.  Query head j reads KV head j / (H/Hk).  \
     * Blocks of 64 positions ascending; states of each run of SH_ATTN_SPLIT positions merged      \
     * ascending.  Result f32 [dv,H,T]. */                                                         \
    X(CACHE_ATTN,       -1,  5, 6,  SH_OPF_SHOAL | SH_OPF_INDEX,       cache_attn)                 \
    /* CACHE_ROTATE: src cache K [dk*Hk,64,pages], PAGES i32 [2,R] (page, delta), factors? f32      \
     * [n_dims/2]; parameter words as ROPE's, p3 = Hk.  Every key of the listed pages is rotated   \
     * by delta positions: read, rotated in f32, rounded back.  Result: view of the cache. */      \
    X(CACHE_ROTATE,     -1,  2, 3,  SH_OPF_SHOAL | SH_OPF_WRITES | SH_OPF_INDEX | SH_OPF_STATE,    \
      cache_rotate)                                                                                \
    /* STATE_CONV: src x f32 [C,T], w f32 [width,C], state f32 [width-1,C,states], STATES i32      \
     * [4,R].  Result f32 [C,T]; the new state goes to its place in `state`.  Columns of STATES:   \
     * first row, rows, state read (-1 = zeros), state written. */                                 \
    X(STATE_CONV,       -1,  4, 4,  SH_OPF_SHOAL | SH_OPF_INDEX | SH_OPF_STATE, state_conv)        \
    /* STATE_SCAN (Mamba-2): src x f32 [dh,nh,T], dt f32 [nh,T], A f32 [nh] (negative), B f32      \
     * [ds,G,T], C f32 [ds,G,T], D f32 [nh], dt_bias f32 [nh], state f32 [ds,dh,nh,states],        \
     * STATES.  Head j reads group j/(nh/G).  Result f32 [dh,nh,T]. */                             \
    X(STATE_SCAN,       -1,  9, 9,  SH_OPF_SHOAL | SH_OPF_INDEX | SH_OPF_STATE, state_scan)        \
    /* MUL_MAT_PART: one shard's columns of a row-parallel product.  src w [K',M], x [K',T].       \
     * p0 unit, p1 K of the whole product, p2 first column held.  Result f32 [M,n,T]: one vector   \
     * per complete subtree of the segment tree that the shard holds. */                           \
    X(MUL_MAT_PART,     -1,  2, 2,  SH_OPF_SHOAL,                      mul_mat_part)               \
    /* TOP_EXPERTS: src scores f32 [E,T], p0 = U.  Result i32 [U,T]: the U largest, ids ascending; \
     * of equal scores the lower id is taken first; NaN counts as -inf. */                         \
    X(TOP_EXPERTS,      -1,  1, 1,  SH_OPF_SHOAL,                      top_experts)                \
    /* EXPERT_DOWN: src w [f',D,E'], act f32 [f',U,T], weights f32 [U,T], ids i32 [U,T] ascending. \
     * Per segment and row one accumulator from 0: acc = acc + weight * product (two roundings),   \
     * ids ascending.  p0 = 0, cut by width: p1 unit, p2 f of the whole, p3 first column held.     \
     * p0 = 1, cut by experts: p2 E of the whole, p3 first expert held (ids outside skipped);      \
     * segments are min(8, E) groups of consecutive experts.  Result f32 [D,n,T] as above; n = 1   \
     * and the finished tree where everything is held. */                                          \
    X(EXPERT_DOWN,      -1,  4, 4,  SH_OPF_SHOAL | SH_OPF_INDEX,       expert_down)                \
    /* SHARD_SUM: src 1 to 3 partial results f32 [M,n,T].  Words 2i, 2i+1: sh_sum_operand of       \
     * operand i (tensor/segments.h).  Each operand's tree is finished with the other shards'      \
     * vectors; the roots are added in operand order.  p6 = number of this sum in the graph.       \
     * Result f32 [M,T]. */                                                                        \
    X(SHARD_SUM,        -1,  1, 3,  SH_OPF_SHOAL | SH_OPF_COLLECT,     shard_sum)
/* clang-format on */

#define SH_ATTN_SPLIT 1024 /* positions per independently computed run of CACHE_ATTN */
#define SH_PAGE 64         /* positions per page of KV memory */

enum sh_op {
#define X(name, wire, lo, hi, flags, rule) SH_OP_##name,
    SH_OPS(X)
#undef X
        SH_OP_COUNT
};

struct sh_op_info {
    const char *name;
    int wire; /* number in op-table generation 101, -1 = none */
    int n_src_min, n_src_max;
    unsigned flags;
};

const struct sh_op_info *sh_op_info(enum sh_op op);
/* Op of a wire number, SH_OP_COUNT if there is no row for it. */
enum sh_op sh_op_from_wire(uint32_t wire);

/* Sub-ops inside p0, numbered as on the wire. */
enum sh_unary {
    SH_UNARY_ABS,
    SH_UNARY_SGN,
    SH_UNARY_NEG,
    SH_UNARY_STEP,
    SH_UNARY_TANH,
    SH_UNARY_ELU,
    SH_UNARY_RELU,
    SH_UNARY_SIGMOID,
    SH_UNARY_GELU,
    SH_UNARY_GELU_QUICK,
    SH_UNARY_SILU,
    SH_UNARY_HARDSWISH,
    SH_UNARY_HARDSIGMOID,
    SH_UNARY_EXP,
    SH_UNARY_EXPM1,
    SH_UNARY_SOFTPLUS,
    SH_UNARY_GELU_ERF,
    SH_UNARY_XIELU,
    SH_UNARY_FLOOR,
    SH_UNARY_CEIL,
    SH_UNARY_ROUND,
    SH_UNARY_TRUNC,
    SH_UNARY_COUNT
};
enum sh_glu {
    SH_GLU_REGLU,
    SH_GLU_GEGLU,
    SH_GLU_SWIGLU,
    SH_GLU_SWIGLU_OAI,
    SH_GLU_GEGLU_ERF,
    SH_GLU_GEGLU_QUICK,
    SH_GLU_SWIGLU_CLAMP,
    SH_GLU_COUNT
};
enum sh_rope_mode { SH_ROPE_NORM = 0, SH_ROPE_NEOX = 2, SH_ROPE_MROPE = 8, SH_ROPE_IMROPE = 40 };

#endif
