/* special.c - see special_priv.h. */
#include "text/special_priv.h"

#include "base/mem.h"

#define ROOT 0U

struct sh_special_node {
    uint32_t fail;          /* node of the longest proper suffix that is a node too */
    uint32_t parent, depth; /* building only */
    int32_t all, always;    /* longest token that starts at this place, or -1 */
    uint8_t byte;           /* building only: the edge from the parent */
};

static uint32_t follow(const struct sh_special *s, uint32_t node, uint8_t byte)
{
    for (;;) {
        const struct sh_pairmap_slot *edge = sh_pairmap_find(&s->edges, node, byte);
        if (edge) return edge->x;
        if (node == ROOT) return ROOT;
        node = s->nodes[node].fail;
    }
}

static void add_token(struct sh_special *s, const struct sh_special_token *t)
{
    uint32_t node = ROOT;

    for (size_t i = t->text.len; i-- > 0;) {
        const uint8_t byte = (uint8_t)t->text.ptr[i];
        const struct sh_pairmap_slot *edge = sh_pairmap_find(&s->edges, node, byte);
        if (!edge) {
            const uint32_t fresh = (uint32_t)s->n_nodes++;
            s->nodes[fresh] = (struct sh_special_node){.fail = ROOT,
                                                       .parent = node,
                                                       .depth = s->nodes[node].depth + 1,
                                                       .all = -1,
                                                       .always = -1,
                                                       .byte = byte};
            (void)sh_pairmap_put(&s->edges, node, byte, fresh, 0);
            node = fresh;
        } else {
            node = edge->x;
        }
    }
    s->ends[(uint8_t)t->text.ptr[t->text.len - 1]] = true;
    s->nodes[node].all = t->id;
    if (t->always) s->nodes[node].always = t->id;
}

/* Fail links by ascending depth: that of a node needs those of all shallower ones. */
static enum shoal_status link_nodes(struct sh_special *s)
{
    uint32_t *order = sh_malloc(s->n_nodes * sizeof *order), *first = NULL;
    size_t deepest = 0;
    enum shoal_status st = SHOAL_ERR_NOMEM;

    for (size_t i = 0; i < s->n_nodes; i++)
        if (s->nodes[i].depth > deepest) deepest = s->nodes[i].depth;
    first = sh_calloc(deepest + 2, sizeof *first);
    if (!order || !first) goto done;
    for (size_t i = 0; i < s->n_nodes; i++)
        first[s->nodes[i].depth + 1]++;
    for (size_t d = 1; d < deepest + 2; d++)
        first[d] += first[d - 1];
    for (size_t i = 0; i < s->n_nodes; i++)
        order[first[s->nodes[i].depth]++] = (uint32_t)i;

    for (size_t k = 1; k < s->n_nodes; k++) { // k = 0 is the start
        struct sh_special_node *n = &s->nodes[order[k]];
        if (n->depth > 1) n->fail = follow(s, s->nodes[n->parent].fail, n->byte);
        if (n->all < 0) n->all = s->nodes[n->fail].all;
        if (n->always < 0) n->always = s->nodes[n->fail].always;
    }
    st = SHOAL_OK;

done:
    sh_free(order);
    sh_free(first);
    return st;
}

enum shoal_status sh_special_build(struct sh_special *s, const struct sh_special_token *tokens,
                                   size_t n, struct shoal_error *err)
{
    size_t bytes = 1;
    enum shoal_status st;

    *s = (struct sh_special)SH_SPECIAL_INIT;
    if (n == 0) return SHOAL_OK;
    for (size_t i = 0; i < n; i++)
        if (!sh_add_ok(bytes, tokens[i].text.len, &bytes) || bytes >= UINT32_MAX)
            return sh_fail(err, SHOAL_ERR_LIMIT,
                           "vocab: the special tokens' texts have more than 4 GiB");
    s->nodes = sh_calloc(bytes, sizeof *s->nodes);
    st = s->nodes ? sh_pairmap_init(&s->edges, bytes) : SHOAL_ERR_NOMEM;
    if (st) goto done;
    s->nodes[ROOT] = (struct sh_special_node){.fail = ROOT, .all = -1, .always = -1};
    s->n_nodes = 1;
    for (size_t i = 0; i < n; i++)
        add_token(s, &tokens[i]);
    st = link_nodes(s);

done:
    if (st) {
        sh_special_release(s);
        return sh_fail(err, st, "vocab: no memory for %zu special tokens", n);
    }
    return SHOAL_OK;
}

void sh_special_release(struct sh_special *s)
{
    sh_free(s->nodes);
    sh_pairmap_release(&s->edges);
    *s = (struct sh_special)SH_SPECIAL_INIT;
}

static enum shoal_status add_hit(struct sh_special_hits *hits, size_t pos, int32_t id)
{
    if (hits->len == hits->cap) {
        const size_t cap = hits->cap ? hits->cap * 2 : 32;
        struct sh_special_hit *p = sh_realloc_array(hits->ptr, cap, sizeof *p);
        if (!p) return SHOAL_ERR_NOMEM;
        hits->ptr = p;
        hits->cap = cap;
    }
    hits->ptr[hits->len++] = (struct sh_special_hit){.pos = pos, .id = id};
    return SHOAL_OK;
}

enum shoal_status sh_special_scan(const struct sh_special *s, struct sh_str text, bool all,
                                  struct sh_special_hits *hits)
{
    uint32_t node = ROOT;

    hits->len = 0;
    if (!s->nodes) return SHOAL_OK;
    for (size_t i = text.len; i-- > 0;) {
        const uint8_t byte = (uint8_t)text.ptr[i];
        if (node == ROOT && !s->ends[byte]) continue;
        node = follow(s, node, byte);
        const int32_t id = all ? s->nodes[node].all : s->nodes[node].always;
        if (id >= 0) {
            enum shoal_status st = add_hit(hits, i, id);
            if (st) return st;
        }
    }
    return SHOAL_OK;
}

void sh_special_hits_release(struct sh_special_hits *hits)
{
    sh_free(hits->ptr);
    *hits = (struct sh_special_hits)SH_SPECIAL_HITS_INIT;
}
