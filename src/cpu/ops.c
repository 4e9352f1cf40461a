/* cpu/ops.c - the table of ops.
 *
 * It expands from the op table: an op without an implementation here does not link.
 */
#include "cpu/ops_priv.h"

static const struct sh_cpu_op *const TABLE[SH_OP_COUNT] = {
#define X(name, wire, lo, hi, flags, rule) [SH_OP_##name] = &sh_cpu_op_##name,
    SH_OPS(X)
#undef X
};

const struct sh_cpu_op *sh_cpu_op_of(enum sh_op op)
{
    return TABLE[op];
}

const struct sh_cpu_op sh_cpu_op_NONE = {.run = NULL};
const struct sh_cpu_op sh_cpu_op_RESHAPE = {.run = NULL};
const struct sh_cpu_op sh_cpu_op_VIEW = {.run = NULL};
const struct sh_cpu_op sh_cpu_op_PERMUTE = {.run = NULL};
const struct sh_cpu_op sh_cpu_op_TRANSPOSE = {.run = NULL};
