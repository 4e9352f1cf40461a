/* gguf/encode.c - the head of a GGUF file as bytes: header, pairs, tensor infos, padding. */
#include "base/mem.h"
#include "gguf/file.h"
#include "gguf/write_priv.h"

enum shoal_status sh_gguf_append_le(struct sh_buf *out, uint64_t v, size_t n)
{
    uint8_t bytes[8];
    struct sh_writer w = sh_writer_over(bytes, sizeof bytes);

    sh_write_le(&w, v, n);
    return sh_buf_append(out, bytes, n);
}

enum shoal_status sh_gguf_append_str(struct sh_buf *out, struct sh_str s)
{
    const enum shoal_status st = sh_gguf_append_le(out, s.len, 8);

    return st ? st : sh_buf_append(out, s.ptr, s.len);
}

/* The keys that say which shard a file is belong to the writer, whoever set them. */
static bool is_split_key(struct sh_str key)
{
    return sh_str_is(key, "split.no") || sh_str_is(key, "split.count") ||
           sh_str_is(key, "split.tensors.count");
}

/* All metadata is in the first file; the others repeat only what they are read with. */
static bool belongs(const struct sh_gguf_pair *pair, const struct sh_gguf_part *part)
{
    if (is_split_key(pair->key)) return false;
    return part->no == 0 || sh_str_is(pair->key, "general.alignment");
}

static enum shoal_status append_int_pair(struct sh_buf *out, struct sh_str key, enum sh_gguf_type t,
                                         uint64_t v)
{
    enum shoal_status st = sh_gguf_append_str(out, key);

    if (!st) st = sh_gguf_append_le(out, (uint64_t)t, 4);
    if (!st) st = sh_gguf_append_le(out, v, sh_gguf_type_bytes(t));
    return st;
}

static enum shoal_status append_pairs(const struct sh_gguf_writer *w,
                                      const struct sh_gguf_part *part, struct sh_buf *out)
{
    enum shoal_status st = SHOAL_OK;

    for (size_t i = 0; i < w->n_pairs && !st; i++) {
        const struct sh_gguf_pair *pair = &w->pairs[i];
        if (!belongs(pair, part)) continue;
        st = sh_gguf_append_str(out, pair->key);
        if (!st) st = sh_buf_append(out, pair->bytes.ptr, pair->bytes.len);
    }
    if (st || part->count == 1) return st;
    st = append_int_pair(out, SH_STR_LIT("split.no"), SH_GGUF_U16, (uint64_t)part->no);
    if (st) return st;
    st = append_int_pair(out, SH_STR_LIT("split.count"), SH_GGUF_U16, (uint64_t)part->count);
    if (st) return st;
    return append_int_pair(out, SH_STR_LIT("split.tensors.count"), SH_GGUF_I32, w->n_tensors);
}

static enum shoal_status append_infos(const struct sh_gguf_writer *w,
                                      const struct sh_gguf_part *part, struct sh_buf *out)
{
    size_t offset = 0;
    enum shoal_status st;

    for (size_t i = part->first; i < part->first + part->n; i++) {
        const struct sh_gguf_source *t = &w->tensors[i];
        st = sh_gguf_append_str(out, t->name);
        if (!st) st = sh_gguf_append_le(out, (uint64_t)t->n_dims, 4);
        for (int d = 0; d < t->n_dims && !st; d++)
            st = sh_gguf_append_le(out, (uint64_t)t->ne[d], 8);
        if (!st) st = sh_gguf_append_le(out, (uint64_t)t->dtype, 4);
        if (!st) st = sh_gguf_append_le(out, offset, 8);
        if (st) return st;
        if (!sh_add_ok(offset, t->data_bytes, &offset)) return SHOAL_ERR_ARG;
        if (!sh_round_up_ok(offset, w->alignment, &offset)) return SHOAL_ERR_ARG;
    }
    return SHOAL_OK;
}

enum shoal_status sh_gguf_encode_head(const struct sh_gguf_writer *w,
                                      const struct sh_gguf_part *part, struct sh_buf *out)
{
    const size_t start = out->len;
    size_t n_pairs = part->count == 1 ? 0 : 3;
    enum shoal_status st;

    for (size_t i = 0; i < w->n_pairs; i++)
        n_pairs += belongs(&w->pairs[i], part);
    st = sh_buf_append(out, "GGUF\3\0\0\0", 8);
    if (!st) st = sh_gguf_append_le(out, part->n, 8);
    if (!st) st = sh_gguf_append_le(out, n_pairs, 8);
    if (!st) st = append_pairs(w, part, out);
    if (!st) st = append_infos(w, part, out);
    while (!st && (out->len - start) % w->alignment != 0)
        st = sh_buf_append(out, "", 1);
    return st;
}
