/* cpu/ops_copy.c - ops that move elements: DUP, CPY, CONT, REPEAT, CONCAT, PAD.
 *
 * A copy enumerates source and target in logical order, dimension 0 fastest: element n goes to
 * element n, whatever the shapes.  It proceeds in runs that stay inside one row of each.  Between
 * equal types a run moves units (elements, or whole blocks); between different ones it passes
 * through f32.
 */
#include <string.h>

#include "cpu/ops_priv.h"

/* A tensor seen as units: blocks count as one. */
struct units {
    uint8_t *data;
    int64_t ne[SH_MAX_DIMS];
    size_t nb[SH_MAX_DIMS];
    size_t bytes; /* of one unit */
};

static struct units units_of(const struct sh_cpu_tensor *t, bool split_blocks)
{
    const struct sh_dtype_info *info = sh_dtype_info(t->dtype);
    struct units u = {.data = t->data, .bytes = info->block_bytes};

    memcpy(u.ne, t->ne, sizeof u.ne);
    memcpy(u.nb, t->nb, sizeof u.nb);
    if (!split_blocks) u.ne[0] /= info->block_len;
    return u;
}

/* Where unit number n is, and how many follow it in its row (itself included). */
static uint8_t *find_unit(const struct units *u, int64_t n, int64_t *left)
{
    const int64_t i0 = n % u->ne[0], r1 = n / u->ne[0];
    const int64_t i1 = r1 % u->ne[1], r2 = r1 / u->ne[1];
    const int64_t i2 = r2 % u->ne[2], i3 = r2 / u->ne[2];

    *left = u->ne[0] - i0;
    return u->data + (size_t)i0 * u->nb[0] + (size_t)i1 * u->nb[1] + (size_t)i2 * u->nb[2] +
           (size_t)i3 * u->nb[3];
}

#define MOVE(type)                                                                                 \
    for (int64_t i = 0; i < n; i++)                                                                \
    memcpy(dst + (size_t)i * d_step, src + (size_t)i * s_step, sizeof(type))

static void move_units(uint8_t *dst, size_t d_step, const uint8_t *src, size_t s_step, int64_t n,
                       size_t bytes)
{
    if (n == 1 || (d_step == bytes && s_step == bytes)) {
        memmove(dst, src, (size_t)n * bytes);
        return;
    }
    switch (bytes) { // constant sizes become single loads and stores
    case 2:
        MOVE(uint16_t);
        break;
    case 4:
        MOVE(uint32_t);
        break;
    case 8:
        MOVE(uint64_t);
        break;
    default:
        for (int64_t i = 0; i < n; i++)
            memcpy(dst + (size_t)i * d_step, src + (size_t)i * s_step, bytes);
        break;
    }
}

/* ---- copies ---------------------------------------------------------------------------------*/

static void copy_equal(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct sh_cpu_call *c = arg;
    const struct units s = units_of(&c->src[0], false), d = units_of(&c->dst, false);

    (void)thread;
    for (int64_t at = begin; at < end;) {
        int64_t s_left, d_left, n = end - at;
        const uint8_t *from = find_unit(&s, at, &s_left);
        uint8_t *to = find_unit(&d, at, &d_left);
        if (s_left < n) n = s_left;
        if (d_left < n) n = d_left;
        move_units(to, d.nb[0], from, s.nb[0], n, s.bytes);
        at += n;
    }
}

/* Elements [begin, end), a border of every block type's blocks: chunks are of whole source rows. */
static void copy_converting(const struct sh_cpu_call *c, int64_t begin, int64_t end)
{
    const bool d_blocks = sh_dtype_is_block(c->dst.dtype);
    struct units d = units_of(&c->dst, true), s = units_of(&c->src[0], true);
    float tmp[SH_CPU_CHUNK];

    for (int64_t at = begin; at < end;) {
        int64_t s_left, d_left, n = end - at < SH_CPU_CHUNK ? end - at : SH_CPU_CHUNK;
        const int64_t i0 = at % s.ne[0];
        const uint8_t *row = find_unit(&s, at - i0, &s_left);
        if (s.ne[0] - i0 < n) n = s.ne[0] - i0;
        const float *x =
            sh_cpu_load(c->k, c->src[0].dtype,
                        row + sh_cpu_element_offset(c->src[0].dtype, s.nb[0], i0), s.nb[0], n, tmp);
        if (d_blocks) { // the target is contiguous
            sh_cpu_store(c->k, c->dst.dtype, d.data + sh_cpu_element_offset(c->dst.dtype, 0, at), 0,
                         n, x);
            at += n;
            continue;
        }
        for (int64_t done = 0; done < n;) {
            uint8_t *to = find_unit(&d, at + done, &d_left);
            const int64_t len = d_left < n - done ? d_left : n - done;
            sh_cpu_store(c->k, c->dst.dtype, to, d.nb[0], len, x + done);
            done += len;
        }
        at += n;
    }
}

static void copy_converting_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct sh_cpu_call *c = arg;
    const int64_t width = c->src[0].ne[0];

    (void)thread;
    copy_converting(c, begin * width, end * width);
}

static enum shoal_status check_copy(const struct sh_cpu_node *n, struct sh_cpu_need *need,
                                    struct shoal_error *err)
{
    (void)need;
    if (n->t->dtype == n->src[0]->dtype) return SHOAL_OK;
    if (!sh_cpu_loads(n->k, n->src[0]->dtype)) {
        return sh_cpu_refuse_type(n->src[0], "a conversion", err);
    }
    if (!sh_cpu_stores(n->k, n->t->dtype))
        return sh_cpu_refuse_type(n->t, "a conversion to a result", err);
    return SHOAL_OK;
}

static enum shoal_status run_copy(struct sh_cpu_call *c, struct shoal_error *err)
{
    const struct sh_cpu_tensor *s = &c->src[0];

    (void)err;
    if (s->dtype == c->dst.dtype) {
        const int64_t n = s->ne[0] / sh_dtype_info(s->dtype)->block_len * sh_cpu_rows(s);
        sh_pool_for(c->pool, n, SH_CPU_GRAIN, copy_equal, c);
    } else {
        sh_pool_for(c->pool, sh_cpu_rows(s), sh_cpu_chunk(s->ne[0]), copy_converting_rows, c);
    }
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_DUP = {.check = check_copy, .run = run_copy};
const struct sh_cpu_op sh_cpu_op_CPY = {.check = check_copy, .run = run_copy};
const struct sh_cpu_op sh_cpu_op_CONT = {.check = check_copy, .run = run_copy};

/* ---- REPEAT, CONCAT -------------------------------------------------------------------------*/

static void repeat_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct sh_cpu_call *c = arg;
    const struct sh_cpu_tensor *s = &c->src[0];
    const size_t bytes = sh_dtype_info(s->dtype)->block_bytes;

    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        const uint8_t *from = sh_cpu_repeated(s, sh_cpu_index_of(&c->dst, row));
        uint8_t *to = sh_cpu_row(&c->dst, row);
        for (int64_t i = 0; i < c->dst.ne[0]; i += s->ne[0])
            move_units(to + (size_t)i * c->dst.nb[0], c->dst.nb[0], from, s->nb[0], s->ne[0],
                       bytes);
    }
}

static enum shoal_status run_repeat(struct sh_cpu_call *c, struct shoal_error *err)
{
    (void)err;
    sh_pool_for(c->pool, sh_cpu_rows(&c->dst), sh_cpu_chunk(c->dst.ne[0]), repeat_rows, c);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_REPEAT = {.run = run_repeat};

/* Rows of the source number `which`, put at `offset` along dimension `dim`. */
struct part {
    const struct sh_cpu_call *c;
    int which, dim;
    int64_t offset;
};

static void concat_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct part *p = arg;
    const struct sh_cpu_tensor *s = &p->c->src[p->which], *d = &p->c->dst;
    const struct sh_dtype_info *info = sh_dtype_info(s->dtype);

    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        struct sh_cpu_index at = sh_cpu_index_of(s, row);
        const uint8_t *from = sh_cpu_at(s, at.i1, at.i2, at.i3);
        if (p->dim == 1) at.i1 += p->offset;
        if (p->dim == 2) at.i2 += p->offset;
        if (p->dim == 3) at.i3 += p->offset;
        uint8_t *to = sh_cpu_at(d, at.i1, at.i2, at.i3);
        if (p->dim == 0) to += sh_cpu_element_offset(d->dtype, d->nb[0], p->offset);
        move_units(to, d->nb[0], from, s->nb[0], s->ne[0] / info->block_len, info->block_bytes);
    }
}

static enum shoal_status run_concat(struct sh_cpu_call *c, struct shoal_error *err)
{
    struct part p = {.c = c, .dim = c->t->params[0]};

    (void)err;
    for (p.which = 0; p.which < 2; p.which++) {
        const struct sh_cpu_tensor *s = &c->src[p.which];
        if (s->ne[0] > 0 && sh_cpu_rows(s) > 0)
            sh_pool_for(c->pool, sh_cpu_rows(s), sh_cpu_chunk(s->ne[0]), concat_rows, &p);
        p.offset = s->ne[p.dim];
    }
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_CONCAT = {.run = run_concat};

/* ---- PAD ------------------------------------------------------------------------------------*/

/* Index of the source that index i of the result shows; -1: outside, where zeros are. */
static int64_t find_padded(int64_t i, int64_t left, int64_t n, bool wraps)
{
    const int64_t at = i - left;

    if (at >= 0 && at < n) return at;
    if (!wraps) return -1;
    return (at % n + n) % n; // n > 0: the rule sees to it
}

static void pad_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct sh_cpu_call *c = arg;
    const struct sh_cpu_tensor *s = &c->src[0], *d = &c->dst;
    const int32_t *p = c->t->params;
    const bool wraps = p[2 * SH_MAX_DIMS] != 0;
    const size_t bytes = sizeof(float);

    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        const struct sh_cpu_index at = sh_cpu_index_of(d, row);
        const int64_t i1 = find_padded(at.i1, p[2], s->ne[1], wraps);
        const int64_t i2 = find_padded(at.i2, p[4], s->ne[2], wraps);
        const int64_t i3 = find_padded(at.i3, p[6], s->ne[3], wraps);
        uint8_t *to = sh_cpu_at(d, at.i1, at.i2, at.i3);
        if (i1 < 0 || i2 < 0 || i3 < 0) {
            memset(to, 0, (size_t)d->ne[0] * bytes);
            continue;
        }
        const uint8_t *from = sh_cpu_at(s, i1, i2, i3);
        for (int64_t i0 = 0; i0 < d->ne[0];) {
            const int64_t x = find_padded(i0, p[0], s->ne[0], wraps);
            if (x < 0) { // up to the source, or behind it
                const int64_t n = i0 < p[0] && p[0] < d->ne[0] ? p[0] - i0 : d->ne[0] - i0;
                memset(to + (size_t)i0 * bytes, 0, (size_t)n * bytes);
                i0 += n;
                continue;
            }
            const int64_t n = s->ne[0] - x < d->ne[0] - i0 ? s->ne[0] - x : d->ne[0] - i0;
            move_units(to + (size_t)i0 * bytes, bytes, from + (size_t)x * s->nb[0], s->nb[0], n,
                       bytes);
            i0 += n;
        }
    }
}

static enum shoal_status run_pad(struct sh_cpu_call *c, struct shoal_error *err)
{
    (void)err;
    sh_pool_for(c->pool, sh_cpu_rows(&c->dst), sh_cpu_chunk(c->dst.ne[0]), pad_rows, c);
    return SHOAL_OK;
}

const struct sh_cpu_op sh_cpu_op_PAD = {.run = run_pad};
