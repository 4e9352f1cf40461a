/* tensor/cost.c - how much arithmetic a node is, for placement. */
#include "tensor/graph_priv.h"

/* Dimension d at the extents given. */
static double dim(const struct sh_tensor *t, int d, const struct sh_extents *e)
{
    return (double)sh_extents_get(e, sh_tensor_extent_at(t, d), t->ne[d]);
}

static double elements(const struct sh_tensor *t, const struct sh_extents *e)
{
    return dim(t, 0, e) * dim(t, 1, e) * dim(t, 2, e) * dim(t, 3, e);
}

double sh_graph_node_cost(const struct sh_graph *g, int32_t node, const struct sh_extents *e)
{
    const struct sh_tensor *t = &g->tensors[node];
    const struct sh_tensor *s[SH_MAX_SRC] = {NULL};

    for (int i = 0; i < SH_MAX_SRC; i++) {
        if (t->src[i] >= 0) s[i] = &g->tensors[t->src[i]];
    }
    switch (t->op) {
    case SH_OP_NONE:
        return 0;
    case SH_OP_MUL_MAT:
    case SH_OP_MUL_MAT_ID:
        return elements(t, e) * dim(s[0], 0, e);
    case SH_OP_MUL_MAT_PART:
        return elements(s[0], e) * dim(s[1], 1, e);
    case SH_OP_EXPERT_DOWN:
        return elements(s[1], e) * dim(s[0], 1, e);
    case SH_OP_FLASH_ATTN_EXT:
        return (elements(s[0], e) + elements(t, e)) * dim(s[1], 1, e);
    case SH_OP_CACHE_ATTN:
        return (elements(s[0], e) + elements(t, e)) * (double)s[4]->ne[0] * SH_PAGE;
    case SH_OP_CACHE_ROTATE:
        return dim(s[1], 1, e) * SH_PAGE * (double)s[0]->ne[0];
    case SH_OP_STATE_CONV:
        return elements(t, e) * dim(s[1], 0, e);
    case SH_OP_STATE_SCAN:
        return elements(t, e) * dim(s[3], 0, e) * 3;
    default:
        return sh_op_info(t->op)->flags & SH_OPF_VIEW ? 0 : elements(t, e);
    }
}
