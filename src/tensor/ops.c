/* tensor/ops.c - the table behind ops.h, indexed by op and searched by wire number. */
#include "tensor/ops.h"

#include <stddef.h>

#include "base/mem.h"
#include "base/error.h"

static const struct sh_op_info INFO[SH_OP_COUNT] = {
#define X(tag, number, lo, hi, bits, rule)                                                         \
    [SH_OP_##tag] = {                                                                              \
        .name = #tag, .wire = (number), .n_src_min = (lo), .n_src_max = (hi), .flags = (bits)},
    SH_OPS(X)
#undef X
};

const struct sh_op_info *sh_op_info(enum sh_op op)
{
    SH_ASSERT((unsigned)op < SH_OP_COUNT);
    return &INFO[op];
}

enum sh_op sh_op_from_wire(uint32_t wire)
{
    for (int i = 0; i < SH_OP_COUNT; i++) {
        if (INFO[i].wire >= 0 && (uint32_t)INFO[i].wire == wire) return (enum sh_op)i;
    }
    return SH_OP_COUNT;
}
