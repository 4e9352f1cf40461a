/* ggmlrpc/graph_decode.c - from the payload of GRAPH_COMPUTE to a graph of ours.
 *
 * Passes, each linear: ids into a hash table; the node list onto records; every record checked and
 * its references turned into indices; what computing nodes touch marked; those appended.
 */
#include "ggmlrpc/graph.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "ggmlrpc/record.h"

#define ID_BYTES 8

/* Wire numbers of MAP_CUSTOM1..3 and CUSTOM, whose parameters are function pointers. */
#define CUSTOM_FIRST 92
#define CUSTOM_LAST 95

#define ARENA_BYTES 4352 // that an arena with one block takes beside it, at most

struct record {
    int32_t src[SH_WIRE_SRC]; // indices of records, -1 = absent
    int32_t view;             // index of the root, -1
    int32_t number;           // in the graph, -1 = left out
    uint64_t token;           // of the buffer that holds it, 0 = none here
    size_t offset, bytes;     // inside that buffer
    bool listed, computes, touched;
};

struct decoder {
    const uint8_t *ids, *records; // inside the payload
    uint32_t n_ids, n_records;
    struct record *list;
    int32_t *table; // hash of ids -> record index, -1 = free
    size_t table_mask;
    uint64_t seed;
    const struct sh_space *space;
    struct sh_wire_graph *out;
    char *names; // of the graph's tensors, SH_WIRE_NAME_BYTES each
    struct shoal_error *err;
};

/* ---- ids ------------------------------------------------------------------------------------*/

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t id_at(const uint8_t *p)
{
    struct sh_reader r = sh_reader_over(p, ID_BYTES);

    return sh_read_u64(&r);
}

static uint64_t record_id(const struct decoder *d, int32_t i)
{
    return id_at(d->records + (size_t)i * SH_WIRE_TENSOR_BYTES);
}

/* Slot of an id: the one that holds it, or the free one where it would go. */
static size_t find_slot(const struct decoder *d, uint64_t id)
{
    size_t slot = mix(id ^ d->seed) & d->table_mask;

    while (d->table[slot] >= 0 && record_id(d, d->table[slot]) != id)
        slot = (slot + 1) & d->table_mask;
    return slot;
}

static size_t table_size(uint32_t n_records)
{
    size_t size = 16;

    while (size < 2 * (size_t)n_records)
        size *= 2;
    return size;
}

static enum shoal_status index_records(struct decoder *d)
{
    const size_t size = table_size(d->n_records);

    d->table_mask = size - 1;
    d->table = sh_malloc(size * sizeof *d->table);
    d->list = sh_calloc(d->n_records ? d->n_records : 1, sizeof *d->list);
    if (!d->table || !d->list) {
        return sh_fail(d->err, SHOAL_ERR_NOMEM,
                       "no memory to decode a graph of %" PRIu32 " tensors", d->n_records);
    }
    memset(d->table, 0xff, size * sizeof *d->table);
    for (int32_t i = 0; i < (int32_t)d->n_records; i++) {
        const uint64_t id = record_id(d, i);
        size_t slot;
        if (id == 0) {
            return sh_fail(d->err, SHOAL_ERR_FORMAT, "record %" PRId32 " has the id 0", i);
        }
        slot = find_slot(d, id);
        if (d->table[slot] >= 0) {
            return sh_fail(d->err, SHOAL_ERR_FORMAT,
                           "records %" PRId32 " and %" PRId32 " have the same id 0x%" PRIx64,
                           d->table[slot], i, id);
        }
        d->table[slot] = i;
    }
    return SHOAL_OK;
}

static enum shoal_status mark_listed(struct decoder *d)
{
    for (uint32_t n = 0; n < d->n_ids; n++) {
        const uint64_t id = id_at(d->ids + (size_t)n * ID_BYTES);
        const int32_t i = d->table[find_slot(d, id)];
        if (i < 0) {
            return sh_fail(d->err, SHOAL_ERR_FORMAT,
                           "node %" PRIu32 ": no record has the id 0x%" PRIx64, n, id);
        }
        if (d->list[i].listed) {
            return sh_fail(d->err, SHOAL_ERR_FORMAT, "node %" PRIu32 " is listed twice", n);
        }
        d->list[i].listed = true;
    }
    return SHOAL_OK;
}

/* ---- records --------------------------------------------------------------------------------*/

static void parse_record(const struct decoder *d, int32_t i, struct sh_wire_tensor *w)
{
    struct sh_reader r =
        sh_reader_over(d->records + (size_t)i * SH_WIRE_TENSOR_BYTES, SH_WIRE_TENSOR_BYTES);

    sh_wire_tensor_get(&r, w);
}

/* Put the record and what it is in front of a reason that `err` already holds. */
static enum shoal_status fail_record(struct decoder *d, int32_t i, const struct sh_wire_tensor *w,
                                     enum shoal_status st)
{
    char reason[sizeof d->err->message];
    const enum sh_op op = sh_op_from_wire(w->op);

    if (!d->err) return st;
    (void)snprintf(reason, sizeof reason, "%s", d->err->message);
    return sh_fail(d->err, st, "record %" PRId32 " \"%.32s\" (%s): %.200s", i, w->name,
                   op == SH_OP_COUNT ? "unknown op" : sh_op_info(op)->name, reason);
}

static bool is_idle_op(enum sh_op op)
{
    return op == SH_OP_NONE || (op != SH_OP_COUNT && (sh_op_info(op)->flags & SH_OPF_VIEW) != 0);
}

/* Turn an id into the index of an earlier record; `self` may be allowed. */
static enum shoal_status resolve(struct decoder *d, int32_t i, uint64_t id, bool self_ok,
                                 const char *what, int k, int32_t *out)
{
    *out = -1;
    if (id == 0) return SHOAL_OK;
    *out = d->table[find_slot(d, id)];
    if (*out < 0) {
        return sh_fail(d->err, SHOAL_ERR_FORMAT, "%s %d: no record has the id 0x%" PRIx64, what, k,
                       id);
    }
    if (*out > i || (*out == i && !self_ok)) {
        return sh_fail(d->err, SHOAL_ERR_FORMAT, "%s %d is record %" PRId32 ", which comes later",
                       what, k, *out);
    }
    return SHOAL_OK;
}

static enum shoal_status resolve_all(struct decoder *d, int32_t i, const struct sh_wire_tensor *w)
{
    const bool is_copy = sh_op_from_wire(w->op) == SH_OP_CPY;
    enum shoal_status st;

    for (int k = 0; k < SH_WIRE_SRC; k++) {
        st = resolve(d, i, w->src[k], is_copy && k == 1, "source", k, &d->list[i].src[k]);
        if (st) return st;
    }
    st = resolve(d, i, w->view_src, false, "view source", 0, &d->list[i].view);
    if (st) return st;
    if (d->list[i].view >= 0 && d->list[d->list[i].view].view >= 0) {
        return sh_fail(d->err, SHOAL_ERR_FORMAT, "its view source is itself a view");
    }
    return SHOAL_OK;
}

/* A view lies where its root lies, plus its offset, and inside it. */
static enum shoal_status check_view(struct decoder *d, int32_t i, const struct sh_wire_tensor *w)
{
    const struct record *v = &d->list[i];
    const struct record *root;

    if (v->view < 0 || v->token == 0) return SHOAL_OK;
    root = &d->list[v->view];
    if (root->token != v->token || v->offset < root->offset ||
        v->offset - root->offset != w->view_offs ||
        !sh_range_ok(v->offset - root->offset, v->bytes, root->bytes)) {
        return sh_fail(d->err, SHOAL_ERR_FORMAT,
                       "%zu bytes at offset %" PRIu64 " are no view of record %" PRId32
                       ", which has %zu bytes",
                       v->bytes, w->view_offs, v->view, root->bytes);
    }
    return SHOAL_OK;
}

static enum shoal_status check_record(struct decoder *d, int32_t i, struct sh_wire_tensor *w,
                                      struct sh_tensor *shape)
{
    struct record *r = &d->list[i];
    struct sh_space_buffer *where;
    enum shoal_status st;

    r->number = -1;
    st = resolve_all(d, i, w);
    if (st) return st;
    if (w->op >= SH_WIRE_OPS || (w->op >= CUSTOM_FIRST && w->op <= CUSTOM_LAST)) {
        return sh_fail(d->err, SHOAL_ERR_FORMAT, "op %" PRIu32 " may not be sent", w->op);
    }
    st = sh_record_shape(w, shape, &r->bytes, d->err);
    if (st) return st;
    st = sh_record_place(w, shape, r->bytes, d->space, &where, &r->offset, d->err);
    if (st) return st;
    r->token = where ? where->token : 0;
    st = check_view(d, i, w);
    if (st) return st;
    r->computes = r->listed && (w->flags & SH_WIRE_FLAG_COMPUTE) &&
                  !is_idle_op(sh_op_from_wire(w->op)) && r->bytes > 0;
    if (!r->computes) return SHOAL_OK;
    if (sh_op_from_wire(w->op) == SH_OP_COUNT) {
        return sh_fail(d->err, SHOAL_ERR_UNSUPPORTED, "op %" PRIu32 " is not supported here",
                       w->op);
    }
    r->touched = true;
    for (int k = 0; k < SH_WIRE_SRC; k++) {
        if (r->src[k] >= 0) d->list[r->src[k]].touched = true;
    }
    return SHOAL_OK;
}

static enum shoal_status check_records(struct decoder *d)
{
    struct sh_wire_tensor w;
    struct sh_tensor shape;

    for (int32_t i = 0; i < (int32_t)d->n_records; i++) {
        enum shoal_status st;
        parse_record(d, i, &w);
        st = check_record(d, i, &w, &shape);
        if (st) return fail_record(d, i, &w, st);
    }
    return SHOAL_OK;
}

/* ---- the graph ------------------------------------------------------------------------------*/

/* Index of a token in the list of those that the graph uses. */
static int32_t token_index(struct decoder *d, uint64_t token)
{
    struct sh_wire_graph *g = d->out;

    for (int32_t i = g->n_tokens - 1; i >= 0; i--) {
        if (g->tokens[i] == token) return i;
    }
    g->tokens[g->n_tokens] = token;
    return g->n_tokens++;
}

/* The result is a view of source k, or of its root: an op that writes into it or works in place. */
static bool lies_on_source(struct decoder *d, int32_t i, int k, struct sh_tensor *t)
{
    const struct record *r = &d->list[i];
    const struct sh_graph *g = &d->out->graph;
    const struct sh_tensor *source;

    if (d->list[r->src[k]].token != r->token || d->list[r->src[k]].offset != r->offset) {
        return false;
    }
    source = &g->tensors[t->src[k]];
    t->view_src = source->view_src >= 0 ? source->view_src : t->src[k];
    t->view_offs = source->view_offs;
    return true;
}

static enum shoal_status set_root(struct decoder *d, int32_t i, struct sh_tensor *t)
{
    const unsigned flags = sh_op_info(t->op)->flags;
    const struct record *r = &d->list[i];
    const int k = t->op == SH_OP_SET_ROWS ? 2 : t->op == SH_OP_CPY ? 1 : 0;

    if (r->src[k] < 0 || r->src[k] == i) return SHOAL_OK; // a conversion; or the validator objects
    if (flags & SH_OPF_WRITES) {
        if (lies_on_source(d, i, k, t)) return SHOAL_OK;
        return sh_fail(d->err, SHOAL_ERR_FORMAT, "its result does not lie on source %d", k);
    }
    if (r->view >= 0) (void)lies_on_source(d, i, 0, t);
    return SHOAL_OK;
}

static char *name_at(const struct decoder *d, int32_t number)
{
    return d->names + (size_t)number * SH_WIRE_NAME_BYTES;
}

static enum shoal_status append(struct decoder *d, int32_t i, const struct sh_wire_tensor *w,
                                struct sh_tensor *t)
{
    struct record *r = &d->list[i];
    struct sh_graph *g = &d->out->graph;
    enum shoal_status st;

    r->number = g->n_tensors;
    if (r->bytes > 0 && r->token == 0) {
        return sh_fail(d->err, SHOAL_ERR_FORMAT, "a computing node needs it, and it has no buffer");
    }
    if (r->token != 0) {
        t->buffer = token_index(d, r->token);
        t->offset = r->offset;
    }
    if (r->computes) {
        t->op = sh_op_from_wire(w->op);
        t->flags = w->flags & (SH_TENSOR_INPUT | SH_TENSOR_OUTPUT | SH_TENSOR_COMPUTE);
        memcpy(t->params, w->params, sizeof t->params);
        for (int k = 0; k < SH_WIRE_SRC; k++)
            t->src[k] = r->src[k] < 0 ? -1 : d->list[r->src[k]].number;
        st = set_root(d, i, t);
        if (st) return st;
    }
    t->name = NULL;
    if (sh_graph_add_tensor(g, t) < 0) return sh_graph_status(g, d->err);
    memcpy(name_at(d, r->number), w->name, strlen(w->name) + 1);
    g->tensors[r->number].name = name_at(d, r->number);
    return SHOAL_OK;
}

/* Tokens of as many buffers as there are, and one: there is no array of none. */
static size_t block_bytes(size_t n_tensors, size_t n_nodes, int32_t n_live)
{
    return n_tensors * (sizeof(struct sh_tensor) + SH_WIRE_NAME_BYTES) + n_nodes * sizeof(int32_t) +
           ((size_t)n_live + 1) * sizeof(uint64_t);
}

/* One block for all that the graph will hold, so that it is known what it costs and nothing grows:
 *
 *     tensors | tokens | nodes | names
 */
static enum shoal_status allocate(struct decoder *d)
{
    struct sh_graph *g = &d->out->graph;
    int32_t n_tensors = 0, n_nodes = 0;
    uint8_t *p;

    for (int32_t i = 0; i < (int32_t)d->n_records; i++) {
        n_tensors += d->list[i].touched;
        n_nodes += d->list[i].computes;
    }
    d->out->bytes = ARENA_BYTES + block_bytes((size_t)n_tensors, (size_t)n_nodes, d->space->n_live);
    p = sh_arena_calloc(&g->arena,
                        block_bytes((size_t)n_tensors, (size_t)n_nodes, d->space->n_live), 1);
    if (!p) {
        return sh_fail(d->err, SHOAL_ERR_NOMEM, "no memory for a graph of %" PRId32 " tensors",
                       n_tensors);
    }
    g->tensors = (struct sh_tensor *)(void *)p;
    g->cap_tensors = n_tensors;
    p += (size_t)n_tensors * sizeof *g->tensors;
    d->out->tokens = (uint64_t *)(void *)p;
    p += ((size_t)d->space->n_live + 1) * sizeof *d->out->tokens;
    g->nodes = (int32_t *)(void *)p;
    g->cap_nodes = n_nodes;
    d->names = (char *)(p + (size_t)n_nodes * sizeof *g->nodes);
    return SHOAL_OK;
}

static enum shoal_status build_graph(struct decoder *d)
{
    struct sh_wire_tensor w;
    struct sh_tensor t;
    size_t bytes;
    enum shoal_status no_room = allocate(d);

    if (no_room) return no_room;
    for (int32_t i = 0; i < (int32_t)d->n_records; i++) {
        enum shoal_status st;
        if (!d->list[i].touched) continue;
        parse_record(d, i, &w);
        st = sh_record_shape(&w, &t, &bytes, d->err);
        if (!st) st = append(d, i, &w, &t);
        if (st) return fail_record(d, i, &w, st);
    }
    for (uint32_t n = 0; n < d->n_ids; n++) {
        const int32_t i = d->table[find_slot(d, id_at(d->ids + (size_t)n * ID_BYTES))];
        if (d->list[i].computes) sh_graph_add_node(&d->out->graph, d->list[i].number);
    }
    d->out->graph.n_buffers = d->out->n_tokens;
    return sh_graph_status(&d->out->graph, d->err);
}

/* Counts and exact length. */
static enum shoal_status open_payload(struct decoder *d, const uint8_t *payload, size_t size)
{
    struct sh_reader r = sh_reader_over(payload, size);
    struct sh_reader at;

    d->n_ids = sh_read_u32(&r);
    d->ids = sh_read_bytes(&r, (size_t)d->n_ids * ID_BYTES);
    if (r.bad) {
        return sh_fail(d->err, SHOAL_ERR_FORMAT, "%" PRIu32 " nodes do not fit into %zu bytes",
                       d->n_ids, size);
    }
    at = r;
    d->n_records = sh_read_u32(&r);
    d->records = sh_read_bytes(&r, (size_t)d->n_records * SH_WIRE_TENSOR_BYTES);
    if (r.bad || sh_reader_left(&r) != 0) {
        return sh_fail(d->err, SHOAL_ERR_FORMAT,
                       "%" PRIu32 " tensors of 296 bytes are not what %zu bytes hold", d->n_records,
                       sh_reader_left(&at));
    }
    if (d->n_ids > SH_GRAPH_NODES_MAX || d->n_records > SH_GRAPH_TENSORS_MAX) {
        return sh_fail(d->err, SHOAL_ERR_LIMIT,
                       "%" PRIu32 " nodes and %" PRIu32 " tensors (at most %d and %d)", d->n_ids,
                       d->n_records, SH_GRAPH_NODES_MAX, SH_GRAPH_TENSORS_MAX);
    }
    return SHOAL_OK;
}

size_t sh_wire_graph_bytes_max(const uint8_t *payload, size_t size, const struct sh_space *space)
{
    struct sh_reader r = sh_reader_over(payload, size);
    uint32_t n_ids = sh_read_u32(&r), n_records;

    (void)sh_read_bytes(&r, (size_t)n_ids * ID_BYTES);
    n_records = sh_read_u32(&r);
    (void)sh_read_bytes(&r, (size_t)n_records * SH_WIRE_TENSOR_BYTES);
    if (r.bad || n_ids > SH_GRAPH_NODES_MAX || n_records > SH_GRAPH_TENSORS_MAX) {
        return 0; // refused before anything is allocated
    }
    return table_size(n_records) * sizeof(int32_t) +
           ((size_t)n_records + 1) * sizeof(struct record) + ARENA_BYTES +
           block_bytes(n_records, n_ids, space->n_live);
}

enum shoal_status sh_wire_graph_decode(struct sh_wire_graph *out, const uint8_t *payload,
                                       size_t size, const struct sh_space *space, uint64_t seed,
                                       struct shoal_error *err)
{
    const struct sh_extents one = {.t = 1, .o = 1, .r = 1};
    struct shoal_error local = SHOAL_ERROR_INIT;
    struct decoder d = {.seed = seed, .space = space, .out = out, .err = err ? err : &local};
    enum shoal_status st;

    memset(out, 0, sizeof *out);
    sh_graph_init(&out->graph, &one);
    st = open_payload(&d, payload, size);
    if (!st) st = index_records(&d);
    if (!st) st = mark_listed(&d);
    if (!st) st = check_records(&d);
    if (!st) st = build_graph(&d);
    out->n_listed = (int32_t)d.n_ids;
    sh_free(d.table);
    sh_free(d.list);
    if (st) sh_wire_graph_release(out);
    return st;
}

void sh_wire_graph_release(struct sh_wire_graph *g)
{
    sh_graph_release(&g->graph);
    memset(g, 0, sizeof *g);
}
