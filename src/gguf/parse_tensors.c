/* gguf/parse_tensors.c - the tensor infos of a GGUF file: shapes, types, and where data lies.
 *
 * Offsets need not be in order and may leave gaps, as some writers do; they must be aligned, lie
 * in the file and not overlap.
 */
#include "gguf/parse_priv.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/mem.h"
#include "gguf/show_priv.h"

#define BAD(p, t, code, fmt, ...)                                                                  \
    sh_gguf_fail((p)->shard, (p)->err, (code), "tensor '%s'" fmt, sh_gguf_quote((t)->name).text,   \
                 __VA_ARGS__)

static enum shoal_status parse_name(struct sh_gguf_parser *p, size_t i, struct sh_str *name)
{
    const struct sh_gguf_shard *s = p->shard;
    enum shoal_status st = sh_gguf_parse_string(p, "the name of tensor", i, s->n_tensors,
                                                SH_GGUF_NAME_BYTES_MAX, name);

    if (st) return st;
    if (name->len == 0) {
        return sh_gguf_fail(s, p->err, SHOAL_ERR_FORMAT, "tensor %zu of %zu has no name", i + 1,
                            s->n_tensors);
    }
    if (memchr(name->ptr, 0, name->len)) {
        return sh_gguf_fail(s, p->err, SHOAL_ERR_FORMAT,
                            "tensor %zu of %zu, '%s', has a NUL byte in its name", i + 1,
                            s->n_tensors, sh_gguf_quote(*name).text);
    }
    return SHOAL_OK;
}

static enum shoal_status parse_shape(struct sh_gguf_parser *p, struct sh_gguf_tensor *t)
{
    const uint32_t n_dims = sh_read_u32(&p->reader);
    int64_t n = 1;

    for (int d = 0; d < SH_GGUF_MAX_DIMS; d++)
        t->ne[d] = 1;
    if (p->reader.bad) return SHOAL_OK; // the caller reports
    if (n_dims < 1 || n_dims > SH_GGUF_MAX_DIMS) {
        return BAD(p, t, SHOAL_ERR_FORMAT, " has %" PRIu32 " dimensions, 1 to %d are possible",
                   n_dims, SH_GGUF_MAX_DIMS);
    }
    t->n_dims = (int)n_dims;
    for (int d = 0; d < t->n_dims; d++) {
        const uint64_t ne = sh_read_u64(&p->reader);
        if (p->reader.bad) return SHOAL_OK;
        if (ne < 1 || ne > INT64_MAX) {
            return BAD(p, t, SHOAL_ERR_FORMAT, ": dimension %d is %" PRIu64, d, ne);
        }
        t->ne[d] = (int64_t)ne;
        if (n > INT64_MAX / t->ne[d]) {
            return BAD(p, t, SHOAL_ERR_FORMAT,
                       ": the product of its dimensions overflows at dimension %d, %" PRIu64, d,
                       ne);
        }
        n *= t->ne[d];
    }
    return SHOAL_OK;
}

static enum shoal_status check_type(const struct sh_gguf_parser *p, struct sh_gguf_tensor *t,
                                    uint32_t id)
{
    const struct sh_dtype_info *info;
    size_t bytes = 0;
    bool fits;

    if (!sh_dtype_valid(id)) {
        return BAD(p, t, SHOAL_ERR_UNSUPPORTED, " has type %d, which is %s", (int)id,
                   id < SH_DTYPE_COUNT ? "retired" : "unknown");
    }
    t->dtype = (enum sh_dtype)id;
    info = sh_dtype_info(t->dtype);
    if (t->ne[0] % info->block_len != 0) {
        return BAD(p, t, SHOAL_ERR_FORMAT,
                   ": rows of %" PRId64 " elements are no whole blocks of %s (%" PRId64 " each)",
                   t->ne[0], info->name, info->block_len);
    }
    fits = sh_dtype_row_bytes(t->dtype, t->ne[0], &bytes);
    for (int d = 1; d < SH_GGUF_MAX_DIMS; d++)
        fits = fits && sh_mul_ok(bytes, (size_t)t->ne[d], &bytes);
    if (!fits) {
        return BAD(p, t, SHOAL_ERR_FORMAT,
                   ": %" PRId64 " x %" PRId64 " x %" PRId64 " x %" PRId64
                   " elements of %s are more bytes than can be counted",
                   t->ne[0], t->ne[1], t->ne[2], t->ne[3], info->name);
    }
    t->data_bytes = bytes;
    return SHOAL_OK;
}

static enum shoal_status parse_info(struct sh_gguf_parser *p, size_t i)
{
    struct sh_gguf_tensor *t = &p->shard->tensors[i];
    uint32_t type;
    enum shoal_status st = parse_name(p, i, &t->name);

    if (!st) st = parse_shape(p, t);
    if (st) return st;
    type = sh_read_u32(&p->reader);
    t->offset = sh_read_u64(&p->reader); // inside the data section, until place_tensor()
    if (p->reader.bad) {
        return BAD(p, t, SHOAL_ERR_FORMAT, ": the file ends inside its description (%zu of %zu)",
                   i + 1, p->shard->n_tensors);
    }
    return check_type(p, t, type);
}

static enum shoal_status place_tensor(const struct sh_gguf_parser *p, struct sh_gguf_tensor *t)
{
    const struct sh_gguf_shard *s = p->shard;
    const size_t room = s->size - s->data_off;

    if (t->offset % s->alignment != 0) {
        return BAD(p, t, SHOAL_ERR_FORMAT,
                   ": its offset %" PRIu64 " is no multiple of the alignment %zu", t->offset,
                   s->alignment);
    }
    if (t->offset > room || t->data_bytes > room - (size_t)t->offset) {
        return BAD(p, t, SHOAL_ERR_FORMAT,
                   ": its %zu bytes at offset %" PRIu64
                   " end beyond the file, which has %zu bytes of data",
                   t->data_bytes, t->offset, room);
    }
    t->offset += s->data_off;
    t->data = s->ptr + t->offset;
    return SHOAL_OK;
}

static int by_offset(const void *x, const void *y)
{
    const struct sh_gguf_tensor *a = *(const struct sh_gguf_tensor *const *)x;
    const struct sh_gguf_tensor *b = *(const struct sh_gguf_tensor *const *)y;

    if (a->offset != b->offset) return a->offset < b->offset ? -1 : 1;
    return (a > b) - (a < b);
}

static enum shoal_status check_overlap(const struct sh_gguf_parser *p)
{
    const struct sh_gguf_shard *s = p->shard;
    const struct sh_gguf_tensor **order = sh_calloc(s->n_tensors, sizeof(struct sh_gguf_tensor *));
    enum shoal_status st = SHOAL_OK;

    if (!order) {
        st = sh_gguf_fail(s, p->err, SHOAL_ERR_NOMEM, "no memory to check %zu tensors",
                          s->n_tensors);
        goto done;
    }
    for (size_t i = 0; i < s->n_tensors; i++)
        order[i] = &s->tensors[i];
    qsort(order, s->n_tensors, sizeof(struct sh_gguf_tensor *), by_offset);
    for (size_t i = 1; i < s->n_tensors; i++) {
        const struct sh_gguf_tensor *a = order[i - 1], *b = order[i];
        if (b->offset - a->offset >= a->data_bytes) continue;
        st = BAD(p, b, SHOAL_ERR_FORMAT,
                 " at byte %" PRIu64 " overlaps tensor '%s', %zu bytes at byte %" PRIu64, b->offset,
                 sh_gguf_quote(a->name).text, a->data_bytes, a->offset);
        goto done;
    }

done:
    sh_free(order);
    return st;
}

enum shoal_status sh_gguf_parse_tensors(struct sh_gguf_parser *p)
{
    struct sh_gguf_shard *s = p->shard;
    enum shoal_status st;

    for (size_t i = 0; i < s->n_tensors; i++) {
        st = parse_info(p, i);
        if (st) return st;
    }
    s->data_off = p->reader.pos;
    if (s->n_tensors == 0) return SHOAL_OK; // such a file may end right here
    if (!sh_round_up_ok(p->reader.pos, s->alignment, &s->data_off) || s->data_off > s->size) {
        return sh_gguf_fail(s, p->err, SHOAL_ERR_FORMAT,
                            "the file ends at byte %zu, its data starts at byte %zu", s->size,
                            s->data_off);
    }
    for (size_t i = 0; i < s->n_tensors; i++) {
        st = place_tensor(p, &s->tensors[i]);
        if (st) return st;
    }
    return check_overlap(p);
}
