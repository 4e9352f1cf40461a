/* gguf/bytes_test.h - for the tests of this folder: files as bytes, written down by hand, and
 * reading all of a model so that a sanitizer sees every access. */
#ifndef GGUF_BYTES_TEST_H
#define GGUF_BYTES_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "gguf/file.h"

static inline void put_le(struct sh_buf *b, uint64_t v, size_t n)
{
    uint8_t bytes[8];
    struct sh_writer w = sh_writer_over(bytes, sizeof bytes);

    sh_write_le(&w, v, n);
    assert_int_equal(sh_buf_append(b, bytes, n), SHOAL_OK);
}

static inline void put_text(struct sh_buf *b, const char *s)
{
    put_le(b, strlen(s), 8);
    assert_int_equal(sh_buf_append(b, s, strlen(s)), SHOAL_OK);
}

static inline void put_header(struct sh_buf *b, uint32_t version, uint64_t n_tensors,
                              uint64_t n_values)
{
    assert_int_equal(sh_buf_append(b, "GGUF", 4), SHOAL_OK);
    put_le(b, version, 4);
    put_le(b, n_tensors, 8);
    put_le(b, n_values, 8);
}

static inline void put_u32_pair(struct sh_buf *b, const char *key, uint32_t v)
{
    put_text(b, key);
    put_le(b, SH_GGUF_U32, 4);
    put_le(b, v, 4);
}

static inline void put_info(struct sh_buf *b, const char *name, uint64_t ne0, uint64_t ne1,
                            uint32_t type, uint64_t offset)
{
    put_text(b, name);
    put_le(b, 2, 4);
    put_le(b, ne0, 8);
    put_le(b, ne1, 8);
    put_le(b, type, 4);
    put_le(b, offset, 8);
}

static inline void put_padding(struct sh_buf *b, size_t align, size_t more)
{
    while (b->len % align != 0)
        put_le(b, 0, 1);
    for (size_t i = 0; i < more; i++)
        put_le(b, i & 0xff, 1);
}

/* Open a copy that ends where its heap block ends.  The copy is left in *copy for the caller to
 * free after the model is closed. */
static inline enum shoal_status open_copy(struct sh_gguf **g, uint8_t **copy, const void *p,
                                          size_t n, struct shoal_error *err)
{
    *copy = malloc(n ? n : 1);
    assert_non_null(*copy);
    if (n) memcpy(*copy, p, n);
    return sh_gguf_open_memory(g, *copy, n, "m.gguf", err);
}

/* Touch everything that the getters give. */
static inline uint64_t read_everything(const struct sh_gguf *g)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < sh_gguf_n_values(g); i++) {
        const struct sh_gguf_value *v = sh_gguf_value(g, i);
        struct sh_gguf_strings it = sh_gguf_strings_over(v);
        struct sh_str s;
        uint64_t u;
        double d;
        bool b;
        sum += sh_hash_bytes(v->key.ptr, v->key.len);
        for (size_t k = 0; k < v->count && v->elem != SH_GGUF_STRING; k++) {
            if (sh_gguf_uint_at(v, k, &u)) sum += u;
            if (sh_gguf_double_at(v, k, &d)) sum += d > 0;
            if (sh_gguf_bool_at(v, k, &b)) sum += b;
        }
        while (sh_gguf_strings_next(&it, &s))
            sum += sh_hash_bytes(s.ptr, s.len);
    }
    for (size_t i = 0; i < sh_gguf_n_tensors(g); i++) {
        const struct sh_gguf_tensor *t = sh_gguf_tensor(g, i);
        sum += sh_hash_bytes(t->name.ptr, t->name.len) + sh_hash_bytes(t->data, t->data_bytes);
        assert_ptr_equal(sh_gguf_find_tensor(g, t->name), t);
    }
    return sum;
}

#endif
