/* tests/fuzz/wire_nodes.c - graphs of ops whose sources fit.
 *
 * A pattern lists the sources of an op: a letter for the class of its type, then one per dimension.
 * Equal letters within a pattern are equal extents.  The builder of tensor/graph.h says what the
 * result is; where it refuses, the node is sent as if it were of its first source's shape.
 */
#include "wire_frames.h"

#include <string.h>

#include "base/mem.h"

#define LETTERS 26

struct pattern {
    enum sh_op op;
    const char *src[5];
    int n_optional; /* of the sources, the last ones */
};

/* Classes: f f32; v floats; q anything; m f16 or f32; i i32; l i32 or i64; = as source 0. */
static const struct pattern PATTERNS[] = {
    {SH_OP_MUL_MAT, {"qkmc", "fknc"}, 0},
    {SH_OP_MUL_MAT, {"vkmc", "=knc"}, 0},
    {SH_OP_MUL_MAT_ID, {"qkme", "fkut", "iut"}, 0},
    {SH_OP_MUL_MAT_ID, {"qkme", "fk1t", "iut"}, 0},
    {SH_OP_GET_ROWS, {"qkn", "it"}, 0},
    {SH_OP_SET_ROWS, {"vktc", "lt", "qknc"}, 0},
    {SH_OP_FLASH_ATTN_EXT, {"fdthb", "mdng", "mdng", "mnt", "fh"}, 2},
    {SH_OP_SOFT_MAX, {"fkth", "mkt", "fh"}, 2},
    {SH_OP_ROPE, {"vkht", "it", "fx"}, 1},
    {SH_OP_ADD, {"vabcd", "fabcd"}, 0},
    {SH_OP_ADD, {"vabc", "fa"}, 0},
    {SH_OP_ADD_ID, {"fabt", "fax", "ibt"}, 0},
    {SH_OP_SUB, {"vabc", "fab"}, 0},
    {SH_OP_MUL, {"vabc", "=abc"}, 0},
    {SH_OP_DIV, {"vabc", "f1b"}, 0},
    {SH_OP_DUP, {"qabcd"}, 0},
    {SH_OP_SQR, {"vab"}, 0},
    {SH_OP_SQRT, {"vab"}, 0},
    {SH_OP_SUM_ROWS, {"fabc"}, 0},
    {SH_OP_ARGMAX, {"fab"}, 0},
    {SH_OP_REPEAT, {"vabc"}, 0},
    {SH_OP_CONCAT, {"qabc", "=abc"}, 0},
    {SH_OP_NORM, {"fabc"}, 0},
    {SH_OP_RMS_NORM, {"fabc"}, 0},
    {SH_OP_L2_NORM, {"fabc"}, 0},
    {SH_OP_SCALE, {"fabc"}, 0},
    {SH_OP_CPY, {"qabc", "qabc"}, 1},
    {SH_OP_CPY, {"qabc", "=bac"}, 0},
    {SH_OP_CONT, {"qabc"}, 0},
    {SH_OP_RESHAPE, {"qabc"}, 0},
    {SH_OP_VIEW, {"qabc"}, 0},
    {SH_OP_PERMUTE, {"qabcd"}, 0},
    {SH_OP_TRANSPOSE, {"vabc"}, 0},
    {SH_OP_CLAMP, {"fab"}, 0},
    {SH_OP_ARGSORT, {"fab"}, 0},
    {SH_OP_TOP_K, {"fab"}, 0},
    {SH_OP_FILL, {"fab"}, 0},
    {SH_OP_UNARY, {"vabc"}, 0},
    {SH_OP_GLU, {"vabc", "=abc"}, 1},
};
#define N_PATTERNS (sizeof PATTERNS / sizeof PATTERNS[0])

/* Extents by letter, -1 = not chosen yet. */
struct letters {
    int64_t extent[LETTERS];
};

static int64_t *letter(struct letters *l, char c)
{
    static int64_t one;

    one = 1;
    return c == '1' ? &one : &l->extent[c - 'a'];
}

/* ---- sources --------------------------------------------------------------------------------*/

static enum sh_dtype type_of_class(struct frames *f, char class, const struct sh_tensor *first)
{
    switch (class) {
    case 'v':
        return frames_pick(f, 4) ? SH_DTYPE_F32 : frames_pick(f, 2) ? SH_DTYPE_F16 : SH_DTYPE_BF16;
    case 'm':
        return frames_pick(f, 3) ? SH_DTYPE_F16 : SH_DTYPE_F32;
    case 'i':
        return SH_DTYPE_I32;
    case 'l':
        return frames_pick(f, 2) ? SH_DTYPE_I32 : SH_DTYPE_I64;
    case 'q':
        return frames_type(f);
    case '=':
        return first ? first->dtype : SH_DTYPE_F32;
    default:
        return SH_DTYPE_F32;
    }
}

/* Does an earlier tensor fit the pattern and what its letters are already? */
static bool fits(const struct frames *f, int32_t t, const char *p, const struct letters *l)
{
    const struct sh_tensor *x = &f->g.tensors[t];
    const size_t n = strlen(p + 1);

    if (p[0] == 'q' ? false : x->dtype != SH_DTYPE_F32) return p[0] == 'q';
    if (strchr("il", p[0])) return false;
    for (size_t d = 0; d < SH_MAX_DIMS; d++) {
        if (d >= n || p[1 + d] == '1') {
            if (x->ne[d] != 1) return false;
        } else if (l->extent[p[1 + d] - 'a'] >= 0 && l->extent[p[1 + d] - 'a'] != x->ne[d]) {
            return false;
        }
    }
    return true;
}

static int32_t new_leaf(struct frames *f, const char *p, struct letters *l,
                        const struct sh_tensor *first)
{
    int64_t ne[SH_MAX_DIMS] = {1, 1, 1, 1};
    enum sh_dtype type = type_of_class(f, p[0], first);
    const int64_t len = sh_dtype_info(type)->block_len;

    for (size_t d = 0; p[1 + d]; d++) {
        int64_t *e = letter(l, p[1 + d]);
        if (*e < 0) {
            *e = d == 0 ? frames_extent(f) : (int64_t)frames_pick(f, d == 1 ? 9 : 4);
            if (d > 0 && *e == 0 && frames_pick(f, 4)) *e = 1;
            if (d == 0) *e = (*e + len - 1) / len * len;
        }
        ne[d] = *e;
    }
    if (ne[0] % len != 0) type = SH_DTYPE_F32;
    return sh_leaf_plain(&f->g, type, ne, SH_EXTENT_NONE, 0);
}

static int32_t source(struct frames *f, const char *p, struct letters *l,
                      const struct sh_tensor *first)
{
    const unsigned which = sh_read_u8(&f->script);
    const int32_t n = f->g.n_tensors;

    for (int32_t back = 1 + (int32_t)(which & 3); which >= 64 && back <= n && back < 8; back++) {
        const int32_t t = n - back;
        if (!fits(f, t, p, l)) continue;
        for (size_t d = 0; p[1 + d]; d++)
            *letter(l, p[1 + d]) = f->g.tensors[t].ne[d];
        return t;
    }
    return new_leaf(f, p, l, first);
}

/* ---- parameters -----------------------------------------------------------------------------*/

static float some_float(struct frames *f)
{
    static const float FLOATS[] = {1,     0.125f, 1e-5f, 0,     -1,     10000,
                                   1e30f, 8,      3,     -0.0f, 1e-38f, 0x1p-149f};

    return FLOATS[frames_pick(f, sizeof FLOATS / sizeof FLOATS[0])];
}

static void rope_params(struct frames *f, int32_t *p, const struct sh_tensor *x)
{
    static const uint8_t MODES[] = {0, 2, 8, 40};

    p[1] = (int32_t)(x->ne[0] / 2 * 2);
    p[2] = MODES[frames_pick(f, 4)];
    p[4] = frames_pick(f, 2) ? 4096 : 0;
    sh_params_set_f32(p, 5, 10000);
    sh_params_set_f32(p, 6, 1);
    sh_params_set_f32(p, 7, frames_pick(f, 2) ? 1.0f : 0.0f);
    sh_params_set_f32(p, 8, 1);
    sh_params_set_f32(p, 9, 32);
    sh_params_set_f32(p, 10, 1);
    for (int i = 0; p[2] >= 8 && i < 3; i++)
        p[11 + i] = (int32_t)frames_pick(f, 9);
}

static void set_params(struct frames *f, enum sh_op op, int32_t *p, const struct sh_tensor *x)
{
    switch (op) {
    case SH_OP_ROPE:
        rope_params(f, p, x);
        break;
    case SH_OP_UNARY:
        p[0] = (int32_t)frames_pick(f, SH_UNARY_COUNT + 1);
        break;
    case SH_OP_GLU:
        p[0] = (int32_t)frames_pick(f, SH_GLU_COUNT + 1);
        p[1] = (int32_t)frames_pick(f, 2);
        sh_params_set_f32(p, 2, some_float(f));
        sh_params_set_f32(p, 3, some_float(f));
        break;
    case SH_OP_PERMUTE:
        for (int i = 0; i < SH_MAX_DIMS; i++)
            p[i] = i;
        p[0] = (int32_t)frames_pick(f, 4);
        p[p[0]] = 0;
        break;
    case SH_OP_CONCAT:
        p[0] = (int32_t)frames_pick(f, 5);
        break;
    case SH_OP_ARGSORT:
        p[0] = (int32_t)frames_pick(f, 3);
        break;
    case SH_OP_MUL_MAT:
    case SH_OP_MUL_MAT_ID:
        p[0] = frames_pick(f, 4) ? 0 : 10;
        p[12] = frames_pick(f, 8) == 7;
        p[15] = frames_pick(f, 4) ? 0 : (int32_t)frames_extent(f);
        break;
    default:
        for (int i = 0; i < 3; i++)
            sh_params_set_f32(p, i, some_float(f));
        break;
    }
}

/* ---- results --------------------------------------------------------------------------------*/

/* What is asked for where the rule leaves it open; false: nothing. */
static bool claim_for(struct frames *f, enum sh_op op, int n_src, const struct sh_tensor *x,
                      struct sh_tensor *c)
{
    *c = *x;
    switch (op) {
    case SH_OP_TOP_K:
        c->dtype = SH_DTYPE_I32;
        c->ne[0] = x->ne[0] > 0 ? 1 + (int64_t)frames_pick(f, 255) % x->ne[0] : 0;
        return true;
    case SH_OP_REPEAT:
        for (int d = 0; d < SH_MAX_DIMS; d++)
            c->ne[d] *= 1 + (int64_t)frames_pick(f, 3);
        return true;
    case SH_OP_CPY:
        c->dtype = frames_type(f);
        return n_src == 1;
    case SH_OP_CONT:
    case SH_OP_RESHAPE:
        c->ne[0] *= c->ne[1];
        c->ne[1] = c->ne[2];
        c->ne[2] = c->ne[3];
        c->ne[3] = 1;
        return true;
    case SH_OP_VIEW:
        c->ne[1] -= c->ne[1] > 1 && frames_pick(f, 2);
        c->ne[2] -= c->ne[2] > 1 && frames_pick(f, 2);
        c->view_offs += frames_pick(f, 2) ? c->nb[1] : 0;
        return true;
    default:
        return false;
    }
}

/* A record that the builder would not make. */
static void append_refused(struct frames *f, enum sh_op op, int n_src, const int32_t *src,
                           const int32_t *params)
{
    struct sh_tensor t = f->g.tensors[src[0]];

    f->g.status = SHOAL_OK;
    t.op = op;
    t.leaf = t.view_src = -1;
    t.view_offs = 0;
    for (int i = 0; i < SH_MAX_SRC; i++)
        t.src[i] = i < n_src ? src[i] : -1;
    memcpy(t.params, params, sizeof t.params);
    sh_tensor_set_dense(&t);
    (void)sh_graph_add_tensor(&f->g, &t);
}

/* The result lies on the first source. */
static void put_in_place(struct frames *f, struct sh_tensor *t)
{
    const struct sh_tensor *s = &f->g.tensors[t->src[0]];

    t->view_src = s->view_src >= 0 ? s->view_src : t->src[0];
    t->view_offs = s->view_offs;
    memcpy(t->nb, s->nb, sizeof t->nb);
}

static void add_node(struct frames *f)
{
    const struct pattern *p = &PATTERNS[frames_pick(f, N_PATTERNS)];
    int32_t src[5], params[SH_N_PARAMS] = {0};
    struct sh_tensor claim;
    struct letters l;
    int n = 0, want = 0;
    int32_t made;

    memset(&l, 0xff, sizeof l);
    while (want < 5 && p->src[want])
        want++;
    want -= p->n_optional ? (int)frames_pick(f, (unsigned)p->n_optional + 1) : 0;
    for (; n < want; n++)
        src[n] = source(f, p->src[n], &l, n ? &f->g.tensors[src[0]] : NULL);
    set_params(f, p->op, params, &f->g.tensors[src[0]]);
    if (claim_for(f, p->op, n, &f->g.tensors[src[0]], &claim)) {
        made = sh_op_shaped(&f->g, p->op, n, src, params, &claim);
    } else {
        made = sh_op_node(&f->g, p->op, n, src, params);
    }
    if (made < 0) {
        append_refused(f, p->op, n, src, params);
    } else if ((sh_op_info(p->op)->flags & SH_OPF_INPLACE) && frames_pick(f, 4) == 3) {
        put_in_place(f, &f->g.tensors[made]);
    }
}

/* ---- records --------------------------------------------------------------------------------*/

static uint64_t id_of(int32_t i)
{
    return i < 0 ? 0 : 0x1000 + 16 * (uint64_t)i;
}

/* Where a root goes: behind the last one, from the start again when the buffer is full. */
static void place(struct frames *f, struct sh_wire_tensor *r, const struct sh_tensor *t)
{
    const unsigned which = frames_pick(f, 8);
    struct frames_buffer *b;
    size_t bytes = 0;

    if (f->n_buffers == 0) return;
    b = &f->buffers[which < 6 ? 0 : which % (unsigned)f->n_buffers];
    if (!sh_tensor_bytes(t, &bytes) || bytes > b->bytes) b = &f->buffers[0];
    if (!sh_range_ok(b->used, bytes, b->bytes)) b->used = 0;
    r->buffer = b->token;
    r->data = b->base + b->used;
    if (bytes <= b->bytes) b->used += (bytes + 31) / 32 * 32;
}

static void make_record(struct frames *f, int32_t i)
{
    const struct sh_tensor *t = &f->g.tensors[i];
    struct sh_wire_tensor *r = &f->records[i];

    memset(r, 0, sizeof *r);
    r->id = id_of(i);
    r->type = (uint32_t)t->dtype;
    for (int d = 0; d < SH_WIRE_DIMS; d++) {
        r->ne[d] = (uint32_t)t->ne[d];
        r->nb[d] = (uint32_t)t->nb[d];
    }
    r->op = (uint32_t)sh_op_info(t->op)->wire;
    memcpy(r->params, t->params, sizeof r->params);
    for (int k = 0; k < SH_WIRE_SRC; k++)
        r->src[k] = id_of(t->src[k]);
    if (t->op != SH_OP_NONE) r->flags = SH_WIRE_FLAG_COMPUTE;
    if (t->view_src >= 0) {
        r->view_src = id_of(t->view_src);
        r->view_offs = t->view_offs;
        r->buffer = f->records[t->view_src].buffer;
        r->data = f->records[t->view_src].data + t->view_offs;
    } else {
        place(f, r, t);
    }
    f->listed[i] = t->op != SH_OP_NONE;
}

/* Strides of a leaf that are not dense: rows with gaps, or rows that overlap. */
static void loosen(struct frames *f, int32_t i)
{
    struct sh_tensor *t = &f->g.tensors[i];
    const unsigned how = frames_pick(f, 16);

    if (t->op != SH_OP_NONE || how < 14 || sh_dtype_is_block(t->dtype)) return;
    t->nb[1] = how == 14 ? t->nb[1] + 16 * t->nb[0] : t->nb[0];
    t->nb[2] = t->nb[1] * (size_t)t->ne[1];
    t->nb[3] = t->nb[2] * (size_t)t->ne[2];
}

static void write_graph(struct frames *f, struct sh_writer *w)
{
    const int32_t n = f->g.n_tensors;
    uint32_t n_nodes = 0;

    for (int32_t i = 0; i < n; i++)
        n_nodes += f->listed[i];
    sh_write_u32(w, n_nodes);
    for (int32_t i = 0; i < n; i++) {
        if (f->listed[i]) sh_write_u64(w, f->records[i].id);
    }
    sh_write_u32(w, (uint32_t)n);
    for (int32_t i = 0; i < n; i++)
        sh_wire_tensor_put(w, &f->records[i]);
}

void frames_graph(struct frames *f, struct sh_writer *w)
{
    const struct sh_extents one = {.t = 1, .o = 1, .r = 1};
    unsigned n_nodes = 1 + frames_pick(f, 8);

    for (int i = 0; i < f->n_buffers; i++)
        f->buffers[i].used = 0;
    sh_graph_init(&f->g, &one);
    for (; n_nodes > 0 && f->g.n_tensors + 6 <= FRAMES_RECORDS_MAX; n_nodes--) {
        const int32_t before = f->g.n_tensors;
        add_node(f);
        for (int32_t i = before; i < f->g.n_tensors; i++)
            loosen(f, i);
    }
    for (int32_t i = 0; i < f->g.n_tensors; i++) {
        make_record(f, i);
        frames_bend(f, &f->records[i]);
    }
    write_graph(f, w);
    sh_graph_release(&f->g);
}
