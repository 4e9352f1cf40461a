/* gguf/parse_priv.h - one GGUF file taken apart: its pairs and its tensors, every length checked.
 *
 * Threads: one at a time.
 */
#ifndef GGUF_PARSE_PRIV_H
#define GGUF_PARSE_PRIV_H

#include "base/file.h"
#include "gguf/file.h"
#include "gguf/names_priv.h"

struct sh_gguf_shard {
    char *path;         /* owned; stands in messages */
    struct sh_map map;  /* owned; empty when the bytes are the caller's */
    const uint8_t *ptr; /* the bytes, mapped or not */
    size_t size;

    uint32_t version;
    size_t alignment;
    size_t data_off;              /* where the data section starts */
    struct sh_gguf_value *values; /* owned, in file order */
    size_t n_values;
    struct sh_gguf_names keys;
    struct sh_gguf_tensor *tensors; /* owned, in file order; `shard` is left 0 */
    size_t n_tensors;
};

/* Fill in everything below `size`.  Names of tensors may still repeat: the caller looks over all
 * shards at once.  On failure sh_gguf_shard_release() is still due. */
SHOAL_NODISCARD enum shoal_status sh_gguf_shard_parse(struct sh_gguf_shard *s,
                                                      struct shoal_error *err);
void sh_gguf_shard_release(struct sh_gguf_shard *s);

/* sh_fail() with "gguf: PATH: " in front; a long path loses its head. */
enum shoal_status sh_gguf_fail(const struct sh_gguf_shard *s, struct shoal_error *err,
                               enum shoal_status code, const char *fmt, ...) SHOAL_PRINTF(4, 5);

/* What parse.c and its halves share. */
struct sh_gguf_parser {
    struct sh_gguf_shard *shard;
    struct sh_reader reader;
    struct shoal_error *err;
};
/* parse_kv.c: all pairs, from the reader's place. */
enum shoal_status sh_gguf_parse_pairs(struct sh_gguf_parser *p);
/* parse_tensors.c: all tensor infos, then where their data lies. */
enum shoal_status sh_gguf_parse_tensors(struct sh_gguf_parser *p);

/* A length and that many bytes.  `item`, `i` and `n` name it in messages: "key 3 of 12". */
enum shoal_status sh_gguf_parse_string(struct sh_gguf_parser *p, const char *item, size_t i,
                                       size_t n, uint64_t max, struct sh_str *out);

#endif
