/* tests/generate/fill.c - the values of leaves. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "gen.h"
#include "kernels/kernels.h"

/* A view of the leaf's bytes as whole elements. */
struct cells {
    const struct gen *g;
    const struct gen_leaf *leaf;
    uint8_t *bytes;
    int64_t n; // elements (of block types: blocks) that fit into the bytes
    uint64_t state;
};

static int64_t draw(struct cells *c, int64_t lo, int64_t hi)
{
    return hi <= lo ? lo : lo + (int64_t)(gen_next(&c->state) % (uint64_t)(hi - lo));
}

static float draw_float(struct cells *c)
{
    static const float special[] = {INFINITY, -INFINITY, NAN, 3e38f, -3e38f, 1e-40f, 0.0f, -0.0f};
    const float unit = (float)(gen_next(&c->state) >> 40) / 16777216.0f;

    if (c->g->hot && draw(c, 0, 40) == 0) return special[draw(c, 0, 8)];
    switch (c->leaf->values) {
    case GEN_NEGATIVE:
        return -0.05f - unit;
    case GEN_MASK:
        return draw(c, 0, 3) == 0 ? -INFINITY : draw(c, 0, 2) == 0 ? 0.0f : unit - 0.5f;
    case GEN_INDEX:
        return (float)draw(c, c->leaf->lo, c->leaf->hi);
    default:
        return 2.0f * unit - 1.0f;
    }
}

static bool is_sane(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (!(fabsf(x[i]) < 100.0f)) return false;
    }
    return true;
}

/* Blocks of a type: encoded floats, or random bytes that stand for moderate numbers. */
static void fill_blocks(struct cells *c, enum sh_dtype type)
{
    const struct sh_dtype_info *info = sh_dtype_info(type);
    struct sh_kernels k;
    float x[256];

    sh_kernels_fill(&k, 0);
    for (int64_t b = 0; b < c->n; b++) {
        uint8_t *p = c->bytes + (size_t)b * info->block_bytes;
        if (k.encode[type] && draw(c, 0, 2)) {
            for (int64_t i = 0; i < info->block_len; i++)
                x[i] = draw_float(c);
            k.encode[type](info->block_len, p, x);
            continue;
        }
        for (int tries = 0; tries < 1000; tries++) {
            for (size_t i = 0; i < info->block_bytes; i++)
                p[i] = (uint8_t)gen_next(&c->state);
            if (!k.decode[type] || c->g->hot) break;
            k.decode[type](info->block_len, x, p);
            if (is_sane(x, info->block_len)) break;
            memset(p, 0, info->block_bytes);
        }
    }
}

static int64_t *columns_of(struct cells *c, int64_t n)
{
    int64_t *all = sh_calloc((size_t)n + 1, sizeof *all);

    SH_ASSERT(all);
    for (int64_t i = 0; i < n; i++)
        all[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        const int64_t j = draw(c, 0, i + 1), swap = all[i];
        all[i] = all[j];
        all[j] = swap;
    }
    return all;
}

/* Rows of a step: sequences in turn, each at its own position. */
static void fill_rows(struct cells *c, int32_t *v)
{
    const int64_t n_seq = c->g->n_seq, room = c->g->n_index * SH_PAGE;
    const int64_t n = c->n / 4, most = n / n_seq + 1;
    const int64_t start = draw(c, 0, room > most ? room - most : 1);

    for (int64_t t = 0; t < n; t++) {
        v[4 * t] = (int32_t)(t % n_seq);
        v[4 * t + 1] = (int32_t)(start + t / n_seq);
        v[4 * t + 2] = v[4 * t + 1];
        v[4 * t + 3] = 0;
    }
}

/* Runs that share the rows of the step among them. */
static void fill_states(struct cells *c, int32_t *v)
{
    const int64_t r = c->g->bound.r, rows = c->g->bound.t, n = c->n / 4;
    int64_t *all = columns_of(c, c->leaf->hi);

    for (int64_t i = 0; i < n; i++) {
        const int64_t first = r ? rows * i / r : 0, end = r ? rows * (i + 1) / r : 0;
        v[4 * i] = (int32_t)(i < r ? first : 0);
        v[4 * i + 1] = (int32_t)(i < r ? end - first : 0);
        v[4 * i + 2] = (int32_t)draw(c, -1, 1) < 0 ? -1 : (int32_t)all[i % c->leaf->hi];
        v[4 * i + 3] = (int32_t)all[i % c->leaf->hi];
    }
    sh_free(all);
}

/* Different numbers: of pages in a table or list, or of the experts of a row. */
static void fill_different(struct cells *c, int32_t *v)
{
    const int64_t n = c->leaf->hi > 0 ? c->leaf->hi : 1;
    const struct sh_tensor *t = gen_at(c->g, c->leaf->tensor);
    int64_t *all = columns_of(c, n);

    for (int64_t i = 0; i < c->n && c->leaf->values == GEN_TABLE; i++)
        v[i] = (int32_t)all[i % n];
    for (int64_t i = 0; i + 1 < c->n && c->leaf->values == GEN_PAGES; i += 2) {
        v[i] = (int32_t)all[i / 2 % n];
        v[i + 1] = (int32_t)draw(c, -100, 100);
    }
    for (int64_t i = 0; i < c->n && c->leaf->values == GEN_DISTINCT; i++) {
        const int64_t u = t->ne[0] > 0 ? t->ne[0] : 1, at = i % u;
        v[i] = (int32_t)(at * n / u + (u <= n ? draw(c, 0, (at + 1) * n / u - at * n / u) : 0));
    }
    sh_free(all);
}

static void fill_i32(struct cells *c)
{
    int32_t *v = (int32_t *)(void *)c->bytes;

    switch (c->leaf->values) {
    case GEN_ROWS:
        fill_rows(c, v);
        break;
    case GEN_STATES:
        if (c->leaf->hi > 0) fill_states(c, v);
        break;
    case GEN_TABLE:
    case GEN_PAGES:
    case GEN_DISTINCT:
        fill_different(c, v);
        break;
    case GEN_INDEX:
        for (int64_t i = 0; i < c->n; i++)
            v[i] = (int32_t)draw(c, c->leaf->lo, c->leaf->hi);
        break;
    default:
        for (int64_t i = 0; i < c->n; i++)
            v[i] = (int32_t)draw(c, -1000, 1000);
        break;
    }
    if (c->g->wild && c->n > 0 && c->leaf->values != GEN_FLOATS && draw(c, 0, 25) == 0) {
        const int64_t wrong[] = {c->leaf->hi, c->leaf->lo - 1, INT32_MIN, INT32_MAX, -2, 64};
        v[draw(c, 0, c->n)] = (int32_t)wrong[draw(c, 0, 6)];
    }
}

uint8_t *gen_fill(const struct gen *g, const struct gen_leaf *leaf, uint64_t seed)
{
    const struct sh_tensor *t = gen_at(g, leaf->tensor);
    const struct sh_dtype_info *info = sh_dtype_info(t->dtype);
    struct cells c = {.g = g, .leaf = leaf, .state = seed ^ (uint64_t)leaf->tensor << 32};
    size_t bytes = 0;
    float x;

    SH_ASSERT(sh_tensor_bytes(t, &bytes));
    c.bytes = sh_calloc(1, bytes + 8);
    SH_ASSERT(c.bytes);
    c.n = (int64_t)(bytes / info->block_bytes);
    if (info->block_len > 1) {
        fill_blocks(&c, t->dtype);
        return c.bytes;
    }
    if (t->dtype == SH_DTYPE_I32) {
        fill_i32(&c);
        return c.bytes;
    }
    for (int64_t i = 0; i < c.n; i++) {
        uint8_t *p = c.bytes + (size_t)i * info->block_bytes;
        const int64_t whole = draw(&c, leaf->lo, leaf->hi);
        uint16_t h;
        switch (t->dtype) {
        case SH_DTYPE_F32:
            x = draw_float(&c);
            memcpy(p, &x, sizeof x);
            break;
        case SH_DTYPE_F16:
        case SH_DTYPE_BF16:
            x = draw_float(&c);
            h = t->dtype == SH_DTYPE_F16 ? sh_f32_to_f16(x) : sh_f32_to_bf16(x);
            memcpy(p, &h, sizeof h);
            break;
        default:
            memcpy(p, &whole, info->block_bytes);
            break;
        }
    }
    return c.bytes;
}
