/* gguf/value.c - reading elements out of packed metadata values. */
#include "gguf/value.h"

#include <float.h>
#include <math.h>

struct type_info {
    const char *name;
    size_t bytes;
};

static const struct type_info TYPES[SH_GGUF_TYPE_COUNT] = {
#define X(tag, id, text, size) [id] = {.name = (text), .bytes = (size)},
    SH_GGUF_TYPES(X)
#undef X
};

const char *sh_gguf_type_name(enum sh_gguf_type t)
{
    SH_ASSERT((unsigned)t < SH_GGUF_TYPE_COUNT);
    return TYPES[t].name;
}

size_t sh_gguf_type_bytes(enum sh_gguf_type t)
{
    SH_ASSERT((unsigned)t < SH_GGUF_TYPE_COUNT);
    return TYPES[t].bytes;
}

bool sh_gguf_type_is_int(enum sh_gguf_type t)
{
    switch (t) {
    case SH_GGUF_U8:
    case SH_GGUF_I8:
    case SH_GGUF_U16:
    case SH_GGUF_I16:
    case SH_GGUF_U32:
    case SH_GGUF_I32:
    case SH_GGUF_U64:
    case SH_GGUF_I64:
        return true;
    default:
        return false;
    }
}

static bool is_signed(enum sh_gguf_type t)
{
    return t == SH_GGUF_I8 || t == SH_GGUF_I16 || t == SH_GGUF_I32 || t == SH_GGUF_I64;
}

/* The bits of element i, zero-extended; false outside the value. */
static bool element_bits(const struct sh_gguf_value *v, size_t i, uint64_t *out)
{
    const size_t size = TYPES[v->elem].bytes;
    struct sh_reader r;

    if (size == 0 || i >= v->count || i >= v->n_bytes / size) return false;
    r = sh_reader_over(v->bytes + i * size, size);
    *out = sh_read_le(&r, size);
    return true;
}

/* Two's complement of `size` bytes, without relying on how a conversion to signed rounds. */
static int64_t sign_extend(uint64_t bits, size_t size)
{
    const uint64_t top = UINT64_C(1) << (8 * size - 1);

    if (!(bits & top)) return (int64_t)bits;
    return -(int64_t)(top - 1 - (bits & (top - 1))) - 1;
}

bool sh_gguf_int_at(const struct sh_gguf_value *v, size_t i, int64_t *out)
{
    uint64_t bits;

    if (!sh_gguf_type_is_int(v->elem) || !element_bits(v, i, &bits)) return false;
    if (is_signed(v->elem)) {
        *out = sign_extend(bits, TYPES[v->elem].bytes);
        return true;
    }
    if (bits > INT64_MAX) return false;
    *out = (int64_t)bits;
    return true;
}

bool sh_gguf_uint_at(const struct sh_gguf_value *v, size_t i, uint64_t *out)
{
    uint64_t bits;

    if (!sh_gguf_type_is_int(v->elem) || !element_bits(v, i, &bits)) return false;
    if (is_signed(v->elem) && sign_extend(bits, TYPES[v->elem].bytes) < 0) return false;
    *out = bits;
    return true;
}

bool sh_gguf_double_at(const struct sh_gguf_value *v, size_t i, double *out)
{
    uint64_t bits;
    uint32_t half;
    float single;

    if (v->elem != SH_GGUF_F32 && v->elem != SH_GGUF_F64) return false;
    if (!element_bits(v, i, &bits)) return false;
    if (v->elem == SH_GGUF_F64) {
        memcpy(out, &bits, sizeof *out);
        return true;
    }
    half = (uint32_t)bits;
    memcpy(&single, &half, sizeof single);
    *out = (double)single;
    return true;
}

bool sh_gguf_float_at(const struct sh_gguf_value *v, size_t i, float *out)
{
    double d;

    if (!sh_gguf_double_at(v, i, &d)) return false;
    if (isfinite(d) && fabs(d) > (double)FLT_MAX) return false;
    *out = (float)d;
    return true;
}

bool sh_gguf_bool_at(const struct sh_gguf_value *v, size_t i, bool *out)
{
    uint64_t bits;

    if (v->elem != SH_GGUF_BOOL || !element_bits(v, i, &bits)) return false;
    *out = bits != 0;
    return true;
}

struct sh_gguf_strings sh_gguf_strings_over(const struct sh_gguf_value *v)
{
    const bool strings = v->elem == SH_GGUF_STRING;

    return (struct sh_gguf_strings){
        .reader = sh_reader_over(v->bytes, strings ? v->n_bytes : 0),
        .left = strings ? v->count : 0,
    };
}

bool sh_gguf_strings_next(struct sh_gguf_strings *it, struct sh_str *out)
{
    uint64_t len;
    const uint8_t *p;

    if (it->left == 0) return false;
    it->left--;
    len = sh_read_u64(&it->reader);
    // Checked at open; a file that changed since then gives empty strings, never stray ones.
    p = len <= sh_reader_left(&it->reader) ? sh_read_bytes(&it->reader, (size_t)len) : NULL;
    *out = p ? (struct sh_str){(const char *)p, (size_t)len} : SH_STR_EMPTY;
    return true;
}

bool sh_gguf_fill_strings(const struct sh_gguf_value *v, struct sh_str *out, size_t n)
{
    struct sh_gguf_strings it = sh_gguf_strings_over(v);

    if (v->elem != SH_GGUF_STRING || v->count != n) return false;
    for (size_t i = 0; i < n; i++)
        (void)sh_gguf_strings_next(&it, &out[i]);
    return true;
}
