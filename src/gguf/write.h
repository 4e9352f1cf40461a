/* gguf/write.h - making GGUF files: metadata and tensors, version 3, in one file or in shards.
 *
 * A writer collects first and writes at the end.  Keys and strings are copied; tensor data is
 * borrowed until the file is written.  The first failure (memory, a bad name, a bad shape) sticks
 * and is what the writing call returns, so that a caller may add everything and check once.
 * Files appear whole or not at all: written beside their place, synced, then renamed.
 * Threads: one at a time.
 */
#ifndef GGUF_WRITE_H
#define GGUF_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "gguf/value.h"
#include "tensor/dtype.h"

struct sh_gguf_writer; /* opaque */

/* NULL when out of memory. */
struct sh_gguf_writer *sh_gguf_writer_create(void);
void sh_gguf_writer_destroy(struct sh_gguf_writer *w); /* accepts NULL */

/* Set a key.  A second value for the same key replaces the first and keeps its place.
 * "general.alignment" also decides how this writer aligns tensors. */
void sh_gguf_put_int(struct sh_gguf_writer *w, const char *key, enum sh_gguf_type t, int64_t v);
void sh_gguf_put_u32(struct sh_gguf_writer *w, const char *key, uint32_t v);
void sh_gguf_put_u64(struct sh_gguf_writer *w, const char *key, uint64_t v);
void sh_gguf_put_f32(struct sh_gguf_writer *w, const char *key, float v);
void sh_gguf_put_f64(struct sh_gguf_writer *w, const char *key, double v);
void sh_gguf_put_bool(struct sh_gguf_writer *w, const char *key, bool v);
void sh_gguf_put_str(struct sh_gguf_writer *w, const char *key, struct sh_str v);
/* Arrays; n may be 0.  Integers must fit type `t`. */
void sh_gguf_put_ints(struct sh_gguf_writer *w, const char *key, enum sh_gguf_type t,
                      const int64_t *v, size_t n);
void sh_gguf_put_f32s(struct sh_gguf_writer *w, const char *key, const float *v, size_t n);
void sh_gguf_put_f64s(struct sh_gguf_writer *w, const char *key, const double *v, size_t n);
void sh_gguf_put_bools(struct sh_gguf_writer *w, const char *key, const bool *v, size_t n);
void sh_gguf_put_strs(struct sh_gguf_writer *w, const char *key, const struct sh_str *v, size_t n);
/* A value as another file has it, key included. */
void sh_gguf_put_value(struct sh_gguf_writer *w, const struct sh_gguf_value *v);

/* Append a dense tensor of n_dims (1 .. 4) dimensions, ne[0] contiguous; its bytes follow from
 * type and shape.  `data` is borrowed. */
void sh_gguf_put_tensor(struct sh_gguf_writer *w, struct sh_str name, enum sh_dtype t, int n_dims,
                        const int64_t *ne, const void *data);

/* Write everything to `path`, replacing it.  With n_shards > 1 the files are
 * PREFIX-00001-of-0000N.gguf and so on, where PREFIX is `path` without ".gguf"; tensors are dealt
 * out in order, about evenly by bytes.  May be called again. */
SHOAL_NODISCARD enum shoal_status sh_gguf_write(struct sh_gguf_writer *w, const char *path,
                                                int n_shards, struct shoal_error *err);
/* Append the bytes of the one file to `out`. */
SHOAL_NODISCARD enum shoal_status sh_gguf_write_memory(struct sh_gguf_writer *w, struct sh_buf *out,
                                                       struct shoal_error *err);

#endif
