/* gguf/write_priv.h - what a writer has collected, and turning it into bytes. */
#ifndef GGUF_WRITE_PRIV_H
#define GGUF_WRITE_PRIV_H

#include "base/arena.h"
#include "gguf/write.h"

struct sh_gguf_pair {
    struct sh_str key;
    struct sh_buf bytes; /* type and value as the file has them */
};

struct sh_gguf_source {
    struct sh_str name;
    enum sh_dtype dtype;
    int n_dims;
    int64_t ne[4];
    const void *data; /* borrowed */
    size_t data_bytes;
};

struct sh_gguf_writer {
    struct sh_arena arena; /* keys and names */
    struct sh_gguf_pair *pairs;
    size_t n_pairs, cap_pairs;
    struct sh_gguf_source *tensors;
    size_t n_tensors, cap_tensors;
    size_t alignment;
    struct shoal_error failed; /* the first failure, or code OK */
};

/* The tensors [first, first + n) of shard `no` of `count`; count 1 = not split. */
struct sh_gguf_part {
    size_t first, n;
    int no, count;
};

/* encode.c: everything before the data section, padding included, appended to `out`.  NOMEM, or
 * ARG where sizes overflow. */
SHOAL_NODISCARD enum shoal_status sh_gguf_encode_head(const struct sh_gguf_writer *w,
                                                      const struct sh_gguf_part *part,
                                                      struct sh_buf *out);
SHOAL_NODISCARD enum shoal_status sh_gguf_append_le(struct sh_buf *out, uint64_t v, size_t n);
SHOAL_NODISCARD enum shoal_status sh_gguf_append_str(struct sh_buf *out, struct sh_str s);

#endif
