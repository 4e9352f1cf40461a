/* ggmlrpc/graph_encode.c - from a graph of ours to the payload of GRAPH_COMPUTE.
 *
 * Tensors are numbered operands first, so writing them in order is the post-order that servers
 * expect.  The payload is built once per prepared graph and slot, and sent from there.
 */
#include "ggmlrpc/graph.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "ggmlrpc/wire.h"

static bool set_sizes(const struct sh_tensor *t, struct sh_wire_tensor *w)
{
    for (int d = 0; d < SH_MAX_DIMS; d++) {
        if (t->ne[d] < 0 || t->ne[d] > UINT32_MAX) return false;
        // a stride that no step uses may be anything
        if (t->nb[d] > UINT32_MAX && t->ne[d] > 1) return false;
        w->ne[d] = (uint32_t)t->ne[d];
        w->nb[d] = t->nb[d] > UINT32_MAX ? 0 : (uint32_t)t->nb[d];
    }
    return true;
}

enum shoal_status sh_wire_graph_record(const struct sh_graph *g, int32_t tensor,
                                       struct sh_wire_tensor *out, struct shoal_error *err)
{
    const struct sh_tensor *t = &g->tensors[tensor];
    const struct sh_op_info *op = sh_op_info(t->op);

    memset(out, 0, sizeof *out);
    if (op->wire < 0) {
        return sh_fail(err, SHOAL_ERR_UNSUPPORTED,
                       "tensor %" PRId32 " \"%s\": the op %s has no number in this protocol",
                       tensor, t->name, op->name);
    }
    if (!set_sizes(t, out)) {
        return sh_fail(err, SHOAL_ERR_UNSUPPORTED,
                       "tensor %" PRId32 " \"%s\": its extents or strides exceed 32 bits", tensor,
                       t->name);
    }
    out->id = (uint64_t)tensor + 1;
    out->type = (uint32_t)t->dtype;
    out->op = (uint32_t)op->wire;
    memcpy(out->params, t->params, sizeof out->params);
    out->flags = t->flags;
    (void)snprintf(out->name, sizeof out->name, "%s", t->name ? t->name : "");
    return SHOAL_OK;
}

/* Ids of operands and root, and where it lies. */
static void set_links(const struct sh_graph *g, int32_t i, const struct sh_wire_spot *spots,
                      const int32_t *uses, struct sh_wire_tensor *w)
{
    const struct sh_tensor *t = &g->tensors[i];
    const struct sh_wire_spot *spot = &spots[t->view_src >= 0 ? t->view_src : i];

    for (int k = 0; k < SH_MAX_SRC; k++)
        w->src[k] = t->src[k] >= 0 ? (uint64_t)t->src[k] + 1 : 0;
    if (t->op == SH_OP_CPY && t->src[1] < 0) w->src[1] = w->id; // a conversion names itself
    if (t->view_src >= 0) {
        w->view_src = (uint64_t)t->view_src + 1;
        w->view_offs = t->view_offs;
    }
    if (spot->token != 0) {
        w->buffer = spot->token;
        w->data = spot->address + w->view_offs;
    }
    w->use_count = uses[i];
}

static void count_uses(const struct sh_graph *g, int32_t *uses)
{
    for (int32_t i = 0; i < g->n_tensors; i++) {
        for (int k = 0; k < SH_MAX_SRC; k++) {
            const int32_t s = g->tensors[i].src[k];
            if (s >= 0 && s != i) uses[s]++;
        }
    }
}

enum shoal_status sh_wire_graph_encode(uint8_t **out, size_t *out_bytes, const struct sh_graph *g,
                                       uint32_t device, const struct sh_wire_spot *spots,
                                       struct shoal_error *err)
{
    const size_t fixed = 4 + 4 + 8 * (size_t)g->n_nodes + 4;
    const size_t size = fixed + (size_t)g->n_tensors * SH_WIRE_TENSOR_BYTES;
    const struct sh_wire_request rq = {.device = device};
    int32_t *uses = sh_calloc((size_t)g->n_tensors + 1, sizeof *uses);
    uint8_t *bytes = sh_malloc(SH_WIRE_REQUEST_HEADER + size);
    struct sh_writer w = sh_writer_over(bytes, SH_WIRE_REQUEST_HEADER + size);
    enum shoal_status st = SHOAL_OK;

    *out = NULL;
    *out_bytes = 0;
    if (size > SH_WIRE_GRAPH_BYTES_MAX) {
        st = sh_fail(err, SHOAL_ERR_LIMIT, "a graph of %" PRId32 " tensors is too large to send",
                     g->n_tensors);
        goto done;
    }
    if (!uses || !bytes) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a graph of %zu bytes", size);
        goto done;
    }
    count_uses(g, uses);
    sh_wire_request_put(&w, SH_WIRE_GRAPH_COMPUTE, &rq,
                        size - sh_wire_command_info(SH_WIRE_GRAPH_COMPUTE)->bytes_min);
    sh_write_u32(&w, (uint32_t)g->n_nodes);
    for (int32_t n = 0; n < g->n_nodes; n++)
        sh_write_u64(&w, (uint64_t)g->nodes[n] + 1);
    sh_write_u32(&w, (uint32_t)g->n_tensors);
    for (int32_t i = 0; i < g->n_tensors; i++) {
        struct sh_wire_tensor t;
        st = sh_wire_graph_record(g, i, &t, err);
        if (st) goto done;
        set_links(g, i, spots, uses, &t);
        sh_wire_tensor_put(&w, &t);
    }
    SH_ASSERT(!w.bad && w.pos == w.size);
    *out = bytes;
    *out_bytes = w.size;
    bytes = NULL;

done:
    sh_free(uses);
    sh_free(bytes);
    return st;
}
