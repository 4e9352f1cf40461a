/* gguf/collect.c - adding keys and tensors to a writer. */
#include "gguf/write.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "gguf/file.h"
#include "gguf/show_priv.h"
#include "gguf/write_priv.h"

struct sh_gguf_writer *sh_gguf_writer_create(void)
{
    struct sh_gguf_writer *w = sh_calloc(1, sizeof *w);

    if (w) w->alignment = SH_GGUF_ALIGNMENT_DEFAULT;
    return w;
}

void sh_gguf_writer_destroy(struct sh_gguf_writer *w)
{
    if (!w) return;
    for (size_t i = 0; i < w->n_pairs; i++)
        sh_buf_release(&w->pairs[i].bytes);
    sh_free(w->pairs);
    sh_free(w->tensors);
    sh_arena_release(&w->arena);
    sh_free(w);
}

/* Keep the first failure. */
SHOAL_PRINTF(3, 4)
static void fail(struct sh_gguf_writer *w, enum shoal_status code, const char *fmt, ...)
{
    char text[sizeof w->failed.message];
    va_list args;

    if (w->failed.code) return;
    va_start(args, fmt);
    if (vsnprintf(text, sizeof text, fmt, args) < 0) text[0] = '\0';
    va_end(args);
    (void)sh_fail(&w->failed, code, "gguf: writing: %s", text);
}

static void no_memory(struct sh_gguf_writer *w, const char *what, struct sh_str name)
{
    fail(w, SHOAL_ERR_NOMEM, "no memory for %s '%s'", what, sh_gguf_quote(name).text);
}

/* One more element of a list that doubles; false when out of memory. */
static bool make_room(void **list, size_t n, size_t *cap, size_t bytes)
{
    const size_t want = *cap ? 2 * *cap : 16;
    void *grown;

    if (n < *cap) return true;
    grown = sh_realloc_array(*list, want, bytes);
    if (!grown) return false;
    *list = grown;
    *cap = want;
    return true;
}

static bool key_is_sound(struct sh_gguf_writer *w, struct sh_str key)
{
    if (key.len >= 1 && key.len <= SH_GGUF_KEY_BYTES_MAX && !memchr(key.ptr, 0, key.len)) {
        return true;
    }
    fail(w, SHOAL_ERR_ARG, "key '%s' of %zu bytes: keys have 1 to %d bytes, none of them NUL",
         sh_gguf_quote(key).text, key.len, SH_GGUF_KEY_BYTES_MAX);
    return false;
}

/* The empty value of `key`, with its type; NULL (and failed) when that cannot be had. */
static struct sh_buf *begin(struct sh_gguf_writer *w, struct sh_str key, enum sh_gguf_type t)
{
    struct sh_gguf_pair *pair = NULL;
    void *list = w->pairs;
    char *copy;

    if (w->failed.code || !key_is_sound(w, key)) return NULL;
    if (t != SH_GGUF_U32 && sh_str_is(key, "general.alignment")) {
        fail(w, SHOAL_ERR_ARG, "general.alignment has type %s, it must be u32",
             sh_gguf_type_name(t));
        return NULL;
    }
    for (size_t i = 0; i < w->n_pairs && !pair; i++) {
        if (sh_str_equal(w->pairs[i].key, key)) pair = &w->pairs[i];
    }
    if (!pair) {
        copy = sh_arena_strndup(&w->arena, key.ptr, key.len);
        if (!copy || !make_room(&list, w->n_pairs, &w->cap_pairs, sizeof *w->pairs)) {
            no_memory(w, "key", key);
            return NULL;
        }
        w->pairs = list;
        pair = &w->pairs[w->n_pairs++];
        *pair = (struct sh_gguf_pair){.key = {copy, key.len}, .bytes = SH_BUF_INIT};
    }
    sh_buf_clear(&pair->bytes);
    if (sh_gguf_append_le(&pair->bytes, (uint64_t)t, 4)) {
        no_memory(w, "key", key);
        return NULL;
    }
    return &pair->bytes;
}

static struct sh_buf *begin_array(struct sh_gguf_writer *w, struct sh_str key, enum sh_gguf_type t,
                                  size_t n)
{
    struct sh_buf *b = begin(w, key, SH_GGUF_ARRAY);

    if (!b) return NULL;
    if (sh_gguf_append_le(b, (uint64_t)t, 4) || sh_gguf_append_le(b, n, 8)) {
        no_memory(w, "key", key);
        return NULL;
    }
    return b;
}

static void put_bits(struct sh_gguf_writer *w, struct sh_buf *b, const char *key, uint64_t v,
                     size_t n)
{
    if (b && sh_gguf_append_le(b, v, n)) no_memory(w, "key", sh_str_from(key));
}

static uint64_t f32_bits(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static uint64_t f64_bits(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

/* Is `v` a value of integer type `t`? */
static bool int_fits(enum sh_gguf_type t, int64_t v)
{
    const size_t bits = 8 * sh_gguf_type_bytes(t);

    switch (t) {
    case SH_GGUF_U8:
    case SH_GGUF_U16:
    case SH_GGUF_U32:
        return v >= 0 && (uint64_t)v >> bits == 0;
    case SH_GGUF_I8:
    case SH_GGUF_I16:
    case SH_GGUF_I32:
        return v >= -(INT64_C(1) << (bits - 1)) && v < INT64_C(1) << (bits - 1);
    case SH_GGUF_U64:
        return v >= 0;
    default:
        return t == SH_GGUF_I64;
    }
}

static bool ints_fit(struct sh_gguf_writer *w, const char *key, enum sh_gguf_type t,
                     const int64_t *v, size_t n)
{
    if (!sh_gguf_type_is_int(t)) {
        fail(w, SHOAL_ERR_ARG, "key '%.80s': integers cannot have type %s", key,
             sh_gguf_type_name(t));
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (int_fits(t, v[i])) continue;
        fail(w, SHOAL_ERR_ARG, "key '%.80s': %" PRId64 " does not fit into %s", key, v[i],
             sh_gguf_type_name(t));
        return false;
    }
    return true;
}

/* Tensors are aligned by the key of that name, so its value must be one that can be read. */
static void note_alignment(struct sh_gguf_writer *w, int64_t v)
{
    if (v >= SH_GGUF_ALIGNMENT_MIN && v <= SH_GGUF_ALIGNMENT_MAX && (v & (v - 1)) == 0) {
        w->alignment = (size_t)v;
        return;
    }
    fail(w, SHOAL_ERR_ARG,
         "general.alignment is %" PRId64 ", it must be a power of two from %d to %d", v,
         SH_GGUF_ALIGNMENT_MIN, SH_GGUF_ALIGNMENT_MAX);
}

void sh_gguf_put_int(struct sh_gguf_writer *w, const char *key, enum sh_gguf_type t, int64_t v)
{
    if (!ints_fit(w, key, t, &v, 1)) return;
    if (strcmp(key, "general.alignment") == 0) note_alignment(w, v);
    put_bits(w, begin(w, sh_str_from(key), t), key, (uint64_t)v, sh_gguf_type_bytes(t));
}

void sh_gguf_put_u32(struct sh_gguf_writer *w, const char *key, uint32_t v)
{
    sh_gguf_put_int(w, key, SH_GGUF_U32, v);
}

void sh_gguf_put_u64(struct sh_gguf_writer *w, const char *key, uint64_t v)
{
    put_bits(w, begin(w, sh_str_from(key), SH_GGUF_U64), key, v, 8);
}

void sh_gguf_put_f32(struct sh_gguf_writer *w, const char *key, float v)
{
    put_bits(w, begin(w, sh_str_from(key), SH_GGUF_F32), key, f32_bits(v), 4);
}

void sh_gguf_put_f64(struct sh_gguf_writer *w, const char *key, double v)
{
    put_bits(w, begin(w, sh_str_from(key), SH_GGUF_F64), key, f64_bits(v), 8);
}

void sh_gguf_put_bool(struct sh_gguf_writer *w, const char *key, bool v)
{
    put_bits(w, begin(w, sh_str_from(key), SH_GGUF_BOOL), key, v, 1);
}

void sh_gguf_put_str(struct sh_gguf_writer *w, const char *key, struct sh_str v)
{
    struct sh_buf *b = begin(w, sh_str_from(key), SH_GGUF_STRING);

    if (b && sh_gguf_append_str(b, v)) no_memory(w, "key", sh_str_from(key));
}

void sh_gguf_put_ints(struct sh_gguf_writer *w, const char *key, enum sh_gguf_type t,
                      const int64_t *v, size_t n)
{
    struct sh_buf *b;

    if (!ints_fit(w, key, t, v, n)) return;
    b = begin_array(w, sh_str_from(key), t, n);
    for (size_t i = 0; i < n; i++)
        put_bits(w, b, key, (uint64_t)v[i], sh_gguf_type_bytes(t));
}

void sh_gguf_put_f32s(struct sh_gguf_writer *w, const char *key, const float *v, size_t n)
{
    struct sh_buf *b = begin_array(w, sh_str_from(key), SH_GGUF_F32, n);

    for (size_t i = 0; i < n; i++)
        put_bits(w, b, key, f32_bits(v[i]), 4);
}

void sh_gguf_put_f64s(struct sh_gguf_writer *w, const char *key, const double *v, size_t n)
{
    struct sh_buf *b = begin_array(w, sh_str_from(key), SH_GGUF_F64, n);

    for (size_t i = 0; i < n; i++)
        put_bits(w, b, key, f64_bits(v[i]), 8);
}

void sh_gguf_put_bools(struct sh_gguf_writer *w, const char *key, const bool *v, size_t n)
{
    struct sh_buf *b = begin_array(w, sh_str_from(key), SH_GGUF_BOOL, n);

    for (size_t i = 0; i < n; i++)
        put_bits(w, b, key, v[i], 1);
}

void sh_gguf_put_strs(struct sh_gguf_writer *w, const char *key, const struct sh_str *v, size_t n)
{
    struct sh_buf *b = begin_array(w, sh_str_from(key), SH_GGUF_STRING, n);

    for (size_t i = 0; b && i < n; i++) {
        if (sh_gguf_append_str(b, v[i])) {
            no_memory(w, "key", sh_str_from(key));
            return;
        }
    }
}

void sh_gguf_put_value(struct sh_gguf_writer *w, const struct sh_gguf_value *v)
{
    struct sh_buf *b = v->type == SH_GGUF_ARRAY ? begin_array(w, v->key, v->elem, v->count)
                                                : begin(w, v->key, v->type);
    int64_t a = 0;

    if (!b) return;
    if (sh_buf_append(b, v->bytes, v->n_bytes)) no_memory(w, "key", v->key);
    if (sh_str_is(v->key, "general.alignment")) {
        (void)sh_gguf_int_at(v, 0, &a);
        note_alignment(w, a);
    }
}

/* Shape and bytes of a tensor; trailing dimensions of 1 are not written. */
static bool shape_is_sound(struct sh_gguf_writer *w, struct sh_gguf_source *t, const int64_t *ne)
{
    const struct sh_gguf_quote name = sh_gguf_quote(t->name);
    bool fits;

    for (int d = 0; d < t->n_dims; d++) {
        if (ne[d] < 1) {
            fail(w, SHOAL_ERR_ARG, "tensor '%s': dimension %d is %" PRId64, name.text, d, ne[d]);
            return false;
        }
        t->ne[d] = ne[d];
    }
    if (t->ne[0] % sh_dtype_info(t->dtype)->block_len != 0) {
        fail(w, SHOAL_ERR_ARG, "tensor '%s': rows of %" PRId64 " elements are no whole %s blocks",
             name.text, t->ne[0], sh_dtype_info(t->dtype)->name);
        return false;
    }
    fits = sh_dtype_row_bytes(t->dtype, t->ne[0], &t->data_bytes);
    for (int d = 1; d < 4; d++)
        fits = fits && sh_mul_ok(t->data_bytes, (size_t)t->ne[d], &t->data_bytes);
    if (!fits) {
        fail(w, SHOAL_ERR_ARG, "tensor '%s' has more bytes than can be counted", name.text);
        return false;
    }
    while (t->n_dims > 1 && t->ne[t->n_dims - 1] == 1)
        t->n_dims--;
    return true;
}

void sh_gguf_put_tensor(struct sh_gguf_writer *w, struct sh_str name, enum sh_dtype type,
                        int n_dims, const int64_t *ne, const void *data)
{
    struct sh_gguf_source t = {.dtype = type, .n_dims = n_dims, .ne = {1, 1, 1, 1}, .data = data};
    void *list = w->tensors;
    char *copy;

    if (w->failed.code) return;
    t.name = name;
    if (name.len < 1 || name.len > SH_GGUF_NAME_BYTES_MAX || memchr(name.ptr, 0, name.len)) {
        fail(w, SHOAL_ERR_ARG,
             "tensor name '%s' of %zu bytes: names have 1 to %d, none of them NUL",
             sh_gguf_quote(name).text, name.len, SH_GGUF_NAME_BYTES_MAX);
        return;
    }
    if (n_dims < 1 || n_dims > SH_GGUF_MAX_DIMS || !sh_dtype_valid((uint32_t)type) || !data) {
        fail(w, SHOAL_ERR_ARG, "tensor '%s': %d dimensions, type %d, data %s",
             sh_gguf_quote(name).text, n_dims, (int)type, data ? "given" : "missing");
        return;
    }
    if (!shape_is_sound(w, &t, ne)) return;
    copy = sh_arena_strndup(&w->arena, name.ptr, name.len);
    if (!copy || !make_room(&list, w->n_tensors, &w->cap_tensors, sizeof *w->tensors)) {
        no_memory(w, "tensor", name);
        return;
    }
    t.name = (struct sh_str){copy, name.len};
    w->tensors = list;
    w->tensors[w->n_tensors++] = t;
}
