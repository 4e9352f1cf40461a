/* gguf/value.h - metadata values of a GGUF file as they lie in the mapping.
 *
 * A value is a borrowed view: a type and the packed little-endian elements of a scalar or an
 * array.  Whoever opened the file has walked every value once, so extents are known to be inside
 * the mapping; reads stay inside them even when the file is changed under us.
 * Conversions are strict: an integer of any width reads as an integer when it fits, a float of
 * either width as a float, and nothing else as anything else.
 * Threads: any number of readers.
 */
#ifndef GGUF_VALUE_H
#define GGUF_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/str.h"

/* enumerator, id in the file, name for people, bytes per element (0 = not fixed) */
#define SH_GGUF_TYPES(X)                                                                           \
    X(U8, 0, "u8", 1)                                                                              \
    X(I8, 1, "i8", 1)                                                                              \
    X(U16, 2, "u16", 2)                                                                            \
    X(I16, 3, "i16", 2)                                                                            \
    X(U32, 4, "u32", 4)                                                                            \
    X(I32, 5, "i32", 4)                                                                            \
    X(F32, 6, "f32", 4)                                                                            \
    X(BOOL, 7, "bool", 1)                                                                          \
    X(STRING, 8, "string", 0)                                                                      \
    X(ARRAY, 9, "array", 0)                                                                        \
    X(U64, 10, "u64", 8)                                                                           \
    X(I64, 11, "i64", 8)                                                                           \
    X(F64, 12, "f64", 8)

enum sh_gguf_type {
#define X(name, id, text, bytes) SH_GGUF_##name = id,
    SH_GGUF_TYPES(X)
#undef X
        SH_GGUF_TYPE_COUNT
};

struct sh_gguf_value {
    struct sh_str key;      /* borrowed, not NUL-terminated */
    enum sh_gguf_type type; /* ARRAY for arrays */
    enum sh_gguf_type elem; /* type of each element; equals `type` for a scalar, never ARRAY */
    size_t count;           /* elements; 1 for a scalar */
    const uint8_t *bytes;   /* borrowed: the packed elements */
    size_t n_bytes;
};

/* "u32"; `t` must be a type. */
const char *sh_gguf_type_name(enum sh_gguf_type t);
/* Bytes of one element, 0 for strings and arrays. */
size_t sh_gguf_type_bytes(enum sh_gguf_type t);
bool sh_gguf_type_is_int(enum sh_gguf_type t);
static inline bool sh_gguf_is_array(const struct sh_gguf_value *v)
{
    return v->type == SH_GGUF_ARRAY;
}

/* Element i of an array, or the scalar itself as i = 0.  False if i is outside, if the element is
 * of another kind (integers: any width; floats: f32 and f64), or if it does not fit into *out (an
 * u64 above INT64_MAX; a finite f64 beyond the floats).  *out is unset then. */
bool sh_gguf_int_at(const struct sh_gguf_value *v, size_t i, int64_t *out);
bool sh_gguf_float_at(const struct sh_gguf_value *v, size_t i, float *out);
bool sh_gguf_bool_at(const struct sh_gguf_value *v, size_t i, bool *out);
/* The u64 above INT64_MAX too; false for negative integers. */
bool sh_gguf_uint_at(const struct sh_gguf_value *v, size_t i, uint64_t *out);
bool sh_gguf_double_at(const struct sh_gguf_value *v, size_t i, double *out);

/* Walking the strings of a string array (or the one of a string): strings are packed, so they
 * are reached in order.  Borrowed; not NUL-terminated; any bytes. */
struct sh_gguf_strings {
    struct sh_reader reader;
    size_t left;
};
/* Empty when `v` holds no strings. */
struct sh_gguf_strings sh_gguf_strings_over(const struct sh_gguf_value *v);
bool sh_gguf_strings_next(struct sh_gguf_strings *it, struct sh_str *out);

/* Fill out[0 .. v->count) with all strings of `v`, for access by number.  False if `v` holds no
 * strings, or other than n of them. */
bool sh_gguf_fill_strings(const struct sh_gguf_value *v, struct sh_str *out, size_t n);

#endif
