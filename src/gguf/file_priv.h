/* gguf/file_priv.h - the shape of an open model, and the siblings of a split one. */
#ifndef GGUF_FILE_PRIV_H
#define GGUF_FILE_PRIV_H

#include "gguf/file.h"
#include "gguf/parse_priv.h"

struct sh_gguf {
    struct sh_gguf_shard *shards; /* [n_shards]; metadata comes from the first */
    int n_shards;
    struct sh_gguf_tensor *tensors; /* of all shards */
    size_t n_tensors;
    struct sh_gguf_names names; /* of the tensors */
};

/* split.c: what a file says about being one of several. */
struct sh_gguf_split {
    int no;            /* 0-based */
    int count;         /* 1: not split */
    int64_t n_tensors; /* of all shards; negative: not said */
};
SHOAL_NODISCARD enum shoal_status sh_gguf_split_read(const struct sh_gguf_shard *s,
                                                     struct sh_gguf_split *out,
                                                     struct shoal_error *err);

typedef enum shoal_status sh_gguf_shard_opener(struct sh_gguf_shard *s, const char *path,
                                               struct shoal_error *err);
/* Open all shards of `g` but the one, `split->no`, that is open already, and check that they
 * belong together. */
SHOAL_NODISCARD enum shoal_status sh_gguf_split_open(struct sh_gguf *g,
                                                     const struct sh_gguf_split *split,
                                                     sh_gguf_shard_opener *open,
                                                     struct shoal_error *err);

/* Name of shard `no` (from 0) of `count`: PREFIX-00001-of-00003.gguf. */
SHOAL_NODISCARD enum shoal_status sh_gguf_split_path(struct sh_buf *out, struct sh_str prefix,
                                                     int no, int count);

#endif
