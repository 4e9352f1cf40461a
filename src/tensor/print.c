/* tensor/print.c - see print.h for the form of a line. */
#include "tensor/print.h"

#include <stdio.h>

#include "tensor/graph_priv.h"

/* "[576,T<=512]": dimensions up to the last that is not 1, at least one. */
static void shape_text(const struct sh_tensor *t, char *out, size_t size)
{
    static const char *const SYMBOL[] = {"", "T<=", "O<=", "R<="};
    int last = t->extent != SH_EXTENT_NONE ? t->extent_dim : 0;
    size_t at = 0;

    for (int d = last + 1; d < SH_MAX_DIMS; d++) {
        if (t->ne[d] != 1) last = d;
    }
    for (int d = 0; d <= last && at < size; d++) {
        const int n = snprintf(out + at, size - at, "%c%s%lld", d ? ',' : '[',
                               SYMBOL[sh_tensor_extent_at(t, d)], (long long)t->ne[d]);
        if (n > 0) at += (size_t)n;
    }
    if (at < size) snprintf(out + at, size - at, "]");
}

static void place_text(const struct sh_tensor *t, char *out, size_t size)
{
    if (t->view_src >= 0) {
        snprintf(out, size, "in #%d+%zu", (int)t->view_src, t->view_offs);
    } else if (t->buffer >= 0) {
        snprintf(out, size, "%d+%zu", (int)t->buffer, t->offset);
    } else {
        snprintf(out, size, "scratch");
    }
}

static enum shoal_status print_sources(const struct sh_graph *g, const struct sh_tensor *t,
                                       struct sh_buf *out)
{
    enum shoal_status st = SHOAL_OK;
    const char *between = "";

    for (int i = 0; i < SH_MAX_SRC && !st; i++) {
        if (t->src[i] < 0) continue;
        const struct sh_label name = sh_tensor_label(&g->tensors[t->src[i]]);
        st = sh_buf_printf(out, "%s#%d%s%s", between, (int)t->src[i], name.text[0] ? " " : "",
                           name.text);
        between = ", ";
    }
    return st;
}

enum shoal_status sh_graph_print(const struct sh_graph *g, struct sh_buf *out)
{
    enum shoal_status st = sh_buf_printf(out, "%5s %7s  %-14s %-7s %-26s %-18s %s\n", "node",
                                         "tensor", "op", "type", "shape", "place", "sources");

    for (int32_t n = 0; n < g->n_nodes && !st; n++) {
        const struct sh_tensor *t = &g->tensors[g->nodes[n]];
        char shape[112], place[64];
        shape_text(t, shape, sizeof shape);
        place_text(t, place, sizeof place);
        st = sh_buf_printf(out, "%5d %7d  %-14s %-7s %-26s %-18s ", (int)n, (int)g->nodes[n],
                           (unsigned)t->op < SH_OP_COUNT ? sh_op_info(t->op)->name : "?",
                           sh_dtype_info(t->dtype)->name, shape, place);
        if (!st) st = print_sources(g, t, out);
        if (!st) st = sh_buf_append(out, "\n", 1);
    }
    return st;
}
