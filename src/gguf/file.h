/* gguf/file.h - read-only view of one GGUF model (version 2 or 3), in one file or in shards.
 *
 * The files are mapped and indexed once; nothing is copied.  Every pointer handed out is borrowed
 * and lives as long as the sh_gguf it came from.  Input is untrusted: each length is checked
 * against the mapping before use, and a malformed file is a status, never an abort.
 *
 *      "GGUF" version n_tensors n_kv | pairs | tensor infos | 0-padding | data section
 *      key, type, value ...............'       name, ne, type, offset in the data section
 *
 * A split model is PREFIX-00001-of-0000N.gguf and its siblings, each a complete GGUF; metadata
 * comes from the first, tensors from all.
 * Threads: open and close from one thread; the const getters from any number.
 */
#ifndef GGUF_FILE_H
#define GGUF_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/file.h"
#include "base/str.h"
#include "gguf/value.h"
#include "tensor/dtype.h"

/* Ceilings on what a file may ask of us; beyond them it is ERR_LIMIT. */
#define SH_GGUF_MAX_DIMS 4
#define SH_GGUF_KV_MAX 65536        /* pairs of one file */
#define SH_GGUF_TENSORS_MAX 262144  /* tensors of a model, all shards together */
#define SH_GGUF_KEY_BYTES_MAX 65535 /* length of a key */
#define SH_GGUF_NAME_BYTES_MAX 63   /* length of a tensor's name */
#define SH_GGUF_STRING_BYTES_MAX (INT64_C(64) << 20)
#define SH_GGUF_ARRAY_MAX (INT64_C(1) << 30) /* elements */
#define SH_GGUF_ALIGNMENT_MIN 8
#define SH_GGUF_ALIGNMENT_MAX (1 << 20)
#define SH_GGUF_ALIGNMENT_DEFAULT 32
#define SH_GGUF_SHARDS_MAX 4096

struct sh_gguf; /* opaque */

struct sh_gguf_tensor {
    struct sh_str name; /* borrowed, not NUL-terminated, without NUL bytes */
    enum sh_dtype dtype;
    int n_dims;                   /* 1 .. SH_GGUF_MAX_DIMS, as the file says */
    int64_t ne[SH_GGUF_MAX_DIMS]; /* >= 1; ne[0] is contiguous; unused dimensions are 1 */
    const void *data;             /* borrowed; dense rows, aligned as the file is only */
    size_t data_bytes;
    uint64_t offset; /* of the data, from the start of its file */
    int shard;       /* index of the file it lies in, from 0 */
};

/* Map and index the model at `path`, which may name any shard of a split one.  On success *out
 * owns the mappings until sh_gguf_close(); on failure *out is NULL and `err` (may be NULL) says
 * why in one sentence: IO, FORMAT, LIMIT, UNSUPPORTED or NOMEM. */
SHOAL_NODISCARD enum shoal_status sh_gguf_open(struct sh_gguf **out, const char *path,
                                               struct shoal_error *err);
/* The same over bytes in memory, borrowed until close.  `name` stands in for the path in
 * messages.  A split model cannot be opened so: UNSUPPORTED. */
SHOAL_NODISCARD enum shoal_status sh_gguf_open_memory(struct sh_gguf **out, const void *data,
                                                      size_t size, const char *name,
                                                      struct shoal_error *err);
void sh_gguf_close(struct sh_gguf *g); /* accepts NULL */

/* Has a file lost bytes under its mapping since it was opened?  Then what was read since then may
 * have been zeros.  Cheap: ask after loading and after every step that read weights. */
bool sh_gguf_faulted(const struct sh_gguf *g);

uint32_t sh_gguf_version(const struct sh_gguf *g); /* of the first file */
int sh_gguf_n_shards(const struct sh_gguf *g);     /* 1 if not split */
const char *sh_gguf_path(const struct sh_gguf *g, int shard);
/* The mapping behind a file's tensors, NULL for one opened from memory. */
const struct sh_map *sh_gguf_map(const struct sh_gguf *g, int shard);
size_t sh_gguf_file_bytes(const struct sh_gguf *g, int shard);
size_t sh_gguf_alignment(const struct sh_gguf *g, int shard);

/* ---- tensors ------------------------------------------------------------------------------ */

size_t sh_gguf_n_tensors(const struct sh_gguf *g);
/* i < n_tensors, in file order, shard after shard. */
const struct sh_gguf_tensor *sh_gguf_tensor(const struct sh_gguf *g, size_t i);
/* NULL if there is none of that name. */
const struct sh_gguf_tensor *sh_gguf_find_tensor(const struct sh_gguf *g, struct sh_str name);

/* ---- metadata ----------------------------------------------------------------------------- */

size_t sh_gguf_n_values(const struct sh_gguf *g);
/* i < n_values, in file order. */
const struct sh_gguf_value *sh_gguf_value(const struct sh_gguf *g, size_t i);
/* NULL if the key is absent. */
const struct sh_gguf_value *sh_gguf_find(const struct sh_gguf *g, const char *key);
/* The same, but absence is ERR_FORMAT with a sentence. */
SHOAL_NODISCARD enum shoal_status sh_gguf_need(const struct sh_gguf *g, const char *key,
                                               const struct sh_gguf_value **out,
                                               struct shoal_error *err);

/* Scalars by key.  An absent key gives `fallback`; a present one of another kind, or one that
 * does not fit, is ERR_FORMAT naming key, type and value.  Integers of any width are taken,
 * floats as f32 or f64 and only when finite. */
SHOAL_NODISCARD enum shoal_status sh_gguf_get_u32(const struct sh_gguf *g, const char *key,
                                                  uint32_t fallback, uint32_t *out,
                                                  struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_gguf_get_i64(const struct sh_gguf *g, const char *key,
                                                  int64_t fallback, int64_t *out,
                                                  struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_gguf_get_f32(const struct sh_gguf *g, const char *key,
                                                  float fallback, float *out,
                                                  struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_gguf_get_bool(const struct sh_gguf *g, const char *key,
                                                   bool fallback, bool *out,
                                                   struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_gguf_get_str(const struct sh_gguf *g, const char *key,
                                                  struct sh_str fallback, struct sh_str *out,
                                                  struct shoal_error *err);
/* An array (never a scalar) by key, whose elements are of the kind of `elem`: any integer type
 * stands for all integer types, F32 for both floats, BOOL, STRING.  Absent: OK and *out NULL. */
SHOAL_NODISCARD enum shoal_status sh_gguf_get_array(const struct sh_gguf *g, const char *key,
                                                    enum sh_gguf_type elem,
                                                    const struct sh_gguf_value **out,
                                                    struct shoal_error *err);

#endif
