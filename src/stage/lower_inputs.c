/* stage/lower_inputs.c - inputs of a lowered graph: where they lie, cells and masks; see lower.h.
 */
#include "base/mem.h"
#include "stage/lower.h"

enum { F16_MINUS_INF = 0xFC00 };

static bool can_lower(enum sh_op op)
{
    switch (op) {
    case SH_OP_EMBED:
    case SH_OP_CACHE_PUT:
    case SH_OP_CACHE_ATTN:
    case SH_OP_TOP_EXPERTS:
    case SH_OP_EXPERT_DOWN:
        return true;
    default:
        return !(sh_op_info(op)->flags & SH_OPF_SHOAL);
    }
}

static void scan_leaf(const struct sh_tensor *t, const struct sh_leaf *leaf,
                      struct sh_lower_inputs *in)
{
    if (leaf->kind == SH_LEAF_CACHE_K || leaf->kind == SH_LEAF_CACHE_V) {
        in->group[leaf->group] = true;
        in->pages[leaf->group] = t->ne[2];
    }
    if (leaf->kind != SH_LEAF_INPUT) return;
    in->tokens |= leaf->input == SH_INPUT_TOKENS;
    in->pos |= leaf->input == SH_INPUT_POS;
    in->out |= leaf->input == SH_INPUT_OUT;
    if (leaf->input == SH_INPUT_HIDDEN) {
        in->hidden = true;
        in->width = t->ne[0];
    }
}

enum shoal_status sh_lower_scan(const struct sh_graph *g, struct sh_lower_inputs *in,
                                struct shoal_error *err)
{
    *in = (struct sh_lower_inputs){.inputs_buffer = -1, .masks_buffer = -1};
    for (int32_t i = 0; i < g->n_tensors; i++) {
        const struct sh_tensor *t = &g->tensors[i];
        if (!can_lower(t->op)) {
            return sh_fail(err, SHOAL_ERR_UNSUPPORTED,
                           "stage: %s cannot be expressed for a device without shoal's ops",
                           sh_op_info(t->op)->name);
        }
        if (t->leaf >= 0) scan_leaf(t, &g->leaves[t->leaf], in);
    }
    return SHOAL_OK;
}

static size_t place(size_t *end, bool present, size_t bytes, size_t align)
{
    const size_t at = *end;

    if (!present) return SIZE_MAX;
    *end = (at + bytes + align - 1) & ~(align - 1);
    return at;
}

void sh_lower_layout(const struct sh_lower_inputs *in, const struct sh_lower_shape *shape,
                     size_t align, struct sh_lower_layout *out)
{
    const size_t t = (size_t)shape->t, o = (size_t)shape->o;
    size_t end = 0, row = 0;

    out->tokens = place(&end, in->tokens, 4 * t, align);
    out->pos = place(&end, in->pos, 4 * t, align);
    for (int g = 0; g < SH_GROUPS_MAX; g++)
        out->cells[g] = place(&end, in->group[g], 8 * t, align);
    out->out = place(&end, in->out && o > 0, 4 * o, align);
    out->hidden = place(&end, in->hidden, 4 * t * (size_t)in->width, align);
    out->packed_bytes = end;
    for (int g = 0; g < SH_GROUPS_MAX; g++) {
        out->mask[g] = place(&end, in->group[g] && t > 1, 2 * t * (size_t)shape->n_kv[g], align);
        out->mask_row[g] = place(&row, in->group[g], 2 * SH_PAGE * (size_t)in->pages[g], align);
    }
    out->bytes = end;
}

void sh_lower_buffer_bytes(const struct sh_lower_inputs *in, const struct sh_step_limits *limits,
                           size_t align, size_t *inputs, size_t *masks, size_t *packed)
{
    struct sh_lower_shape s = {.t = limits->rows_max, .o = limits->wanted_max};
    struct sh_lower_layout l;

    *masks = 0;
    for (int g = 0; g < SH_GROUPS_MAX; g++) {
        s.n_kv[g] = in->pages[g] * SH_PAGE;
        if (in->group[g]) place(masks, true, 2 * (size_t)s.n_kv[g], align);
    }
    sh_lower_layout(in, &s, align, &l);
    *inputs = l.bytes ? l.bytes : align;
    if (*masks == 0) *masks = align;
    *packed = *inputs + *masks;
}

int64_t sh_lower_cell(const struct sh_tables *t, int group, int32_t seq, int64_t pos)
{
    const int32_t page = sh_table_page(t, group, seq, pos / SH_PAGE);

    return page < 0 ? -1 : (int64_t)page * SH_PAGE + pos % SH_PAGE;
}

// The first position that a row may see.
static int64_t first_visible(const struct sh_row *row, int64_t window)
{
    return window > 0 && row->pos >= window ? row->pos - window + 1 : 0;
}

void sh_lower_shape_of(const struct sh_step *step, int32_t n_wanted,
                       const struct sh_lower_inputs *in, const struct sh_tables *t,
                       struct sh_lower_shape *out)
{
    *out = (struct sh_lower_shape){.t = step->n_rows, .o = n_wanted};
    for (int g = 0; g < t->n_groups; g++) {
        const int64_t all = in->pages[g] * SH_PAGE;
        int64_t top = 0;
        if (!in->group[g]) continue;
        for (int32_t i = 0; i < step->n_seqs; i++) {
            const struct sh_step_seq *q = &step->seqs[i];
            int32_t last = 0;
            for (int32_t r = q->first_row; r < q->first_row + q->n_rows; r++)
                if (step->rows[r].last > last) last = step->rows[r].last;
            for (int64_t p = 0; p <= last / SH_PAGE; p++) {
                const int32_t page = sh_table_page(t, g, q->seq, p);
                const int64_t end = p < last / SH_PAGE ? SH_PAGE : last % SH_PAGE + 1;
                if (page >= 0 && (int64_t)page * SH_PAGE + end > top)
                    top = (int64_t)page * SH_PAGE + end;
            }
        }
        top = (top + SH_LOWER_CELLS - 1) / SH_LOWER_CELLS * SH_LOWER_CELLS;
        if (top == 0) top = SH_LOWER_CELLS;
        out->n_kv[g] = top < all ? top : all;
    }
}

void sh_lower_mask(const struct sh_tables *t, int group, const struct sh_row *row, int64_t window,
                   int64_t n_kv, uint16_t *mask)
{
    for (int64_t i = 0; i < n_kv; i++)
        mask[i] = F16_MINUS_INF;
    for (int64_t p = first_visible(row, window); p <= row->last; p++) {
        const int64_t cell = sh_lower_cell(t, group, row->seq, p);
        if (cell >= 0 && cell < n_kv) mask[cell] = 0;
    }
}
