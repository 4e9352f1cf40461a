/* gguf/parse.c - the header of a GGUF file, and what its two lists have in common. */
#include "gguf/parse_priv.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "gguf/show_priv.h"

enum { HEADER_BYTES = 24, PATH_SHOWN = 110 };
/* The least that a pair (length, one byte of key, type, one byte of value) and a tensor info
 * (length, one byte of name, n_dims, one dimension, type, offset) take. */
enum { PAIR_BYTES_MIN = 8 + 1 + 4 + 1, INFO_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8 };

enum shoal_status sh_gguf_fail(const struct sh_gguf_shard *s, struct shoal_error *err,
                               enum shoal_status code, const char *fmt, ...)
{
    const size_t len = strlen(s->path);
    const bool cut = len > PATH_SHOWN;
    char text[sizeof err->message];
    va_list args;

    va_start(args, fmt);
    if (vsnprintf(text, sizeof text, fmt, args) < 0) text[0] = '\0';
    va_end(args);
    return sh_fail(err, code, "gguf: %s%s: %s", cut ? "..." : "",
                   cut ? s->path + len - PATH_SHOWN : s->path, text);
}

enum shoal_status sh_gguf_parse_string(struct sh_gguf_parser *p, const char *item, size_t i,
                                       size_t n, uint64_t max, struct sh_str *out)
{
    const uint64_t len = sh_read_u64(&p->reader);
    const size_t left = sh_reader_left(&p->reader);

    *out = SH_STR_EMPTY;
    if (p->reader.bad) {
        return sh_gguf_fail(p->shard, p->err, SHOAL_ERR_FORMAT,
                            "the file ends inside the length of %s %zu of %zu", item, i + 1, n);
    }
    if (len > left) {
        return sh_gguf_fail(p->shard, p->err, SHOAL_ERR_FORMAT,
                            "%s %zu of %zu is %" PRIu64 " bytes long, the file has %zu left", item,
                            i + 1, n, len, left);
    }
    if (len > max) {
        return sh_gguf_fail(p->shard, p->err, SHOAL_ERR_LIMIT,
                            "%s %zu of %zu is %" PRIu64 " bytes long, at most %" PRIu64 " are read",
                            item, i + 1, n, len, max);
    }
    out->ptr = (const char *)sh_read_bytes(&p->reader, (size_t)len);
    out->len = (size_t)len;
    return SHOAL_OK;
}

static enum shoal_status check_magic(const struct sh_gguf_parser *p)
{
    const struct sh_gguf_shard *s = p->shard;

    if (s->size >= 4 && memcmp(s->ptr, "GGUF", 4) != 0) {
        const struct sh_gguf_quote q = sh_gguf_quote((struct sh_str){(const char *)s->ptr, 4});
        return sh_gguf_fail(s, p->err, SHOAL_ERR_FORMAT, "no GGUF file: it starts with \"%s\"",
                            q.text);
    }
    if (s->size < HEADER_BYTES) {
        return sh_gguf_fail(s, p->err, SHOAL_ERR_FORMAT,
                            "the file has %zu bytes, a GGUF header takes %d", s->size,
                            HEADER_BYTES);
    }
    return SHOAL_OK;
}

static enum shoal_status check_version(const struct sh_gguf_parser *p, uint32_t version)
{
    if (version == 2 || version == 3) return SHOAL_OK;
    if (version == 1) {
        return sh_gguf_fail(p->shard, p->err, SHOAL_ERR_UNSUPPORTED,
                            "GGUF version 1 is not read; convert the model again to version 3");
    }
    if (version != 0 && (version & 0xffff) == 0) {
        return sh_gguf_fail(p->shard, p->err, SHOAL_ERR_UNSUPPORTED,
                            "a big-endian file (its version reads as 0x%08" PRIx32
                            "); only little-endian models are read",
                            version);
    }
    return sh_gguf_fail(p->shard, p->err, SHOAL_ERR_UNSUPPORTED,
                        "GGUF version %" PRIu32 " is unknown; versions 2 and 3 are read", version);
}

/* A count of things that take at least `bytes_min` each in what is left of the file. */
static enum shoal_status check_count(const struct sh_gguf_parser *p, const char *what, uint64_t n,
                                     size_t bytes_min, size_t max)
{
    const size_t left = sh_reader_left(&p->reader);

    if (n > INT64_MAX) {
        return sh_gguf_fail(p->shard, p->err, SHOAL_ERR_FORMAT, "the number of %s is %" PRId64,
                            what, -(int64_t)(UINT64_MAX - n) - 1);
    }
    if (n > left / bytes_min) {
        return sh_gguf_fail(p->shard, p->err, SHOAL_ERR_FORMAT,
                            "%" PRIu64 " %s do not fit into the %zu bytes behind the header", n,
                            what, left);
    }
    if (n > max) {
        return sh_gguf_fail(p->shard, p->err, SHOAL_ERR_LIMIT,
                            "the file has %" PRIu64 " %s, at most %zu are read", n, what, max);
    }
    return SHOAL_OK;
}

static enum shoal_status parse_header(struct sh_gguf_parser *p)
{
    struct sh_gguf_shard *s = p->shard;
    uint64_t n_tensors, n_values;
    enum shoal_status st = check_magic(p);

    if (st) return st;
    (void)sh_read_u32(&p->reader);
    s->version = sh_read_u32(&p->reader);
    st = check_version(p, s->version);
    if (st) return st;
    n_tensors = sh_read_u64(&p->reader);
    n_values = sh_read_u64(&p->reader);
    st = check_count(p, "tensors", n_tensors, INFO_BYTES_MIN, SH_GGUF_TENSORS_MAX);
    if (st) return st;
    st = check_count(p, "metadata keys", n_values, PAIR_BYTES_MIN, SH_GGUF_KV_MAX);
    if (st) return st;

    s->values = sh_calloc((size_t)n_values, sizeof *s->values);
    s->tensors = sh_calloc((size_t)n_tensors, sizeof *s->tensors);
    if (!s->values || !s->tensors) {
        return sh_gguf_fail(s, p->err, SHOAL_ERR_NOMEM,
                            "no memory to index %" PRIu64 " keys and %" PRIu64 " tensors", n_values,
                            n_tensors);
    }
    s->n_values = (size_t)n_values;
    s->n_tensors = (size_t)n_tensors;
    return SHOAL_OK;
}

enum shoal_status sh_gguf_shard_parse(struct sh_gguf_shard *s, struct shoal_error *err)
{
    struct sh_gguf_parser p = {.shard = s, .reader = sh_reader_over(s->ptr, s->size), .err = err};
    enum shoal_status st = parse_header(&p);

    if (!st) st = sh_gguf_parse_pairs(&p);
    if (!st) st = sh_gguf_parse_tensors(&p);
    // Zeros in place of lost pages may have made any other complaint, or none.
    if (s->map.guard && sh_map_faulted(&s->map)) {
        st = sh_gguf_fail(s, err, SHOAL_ERR_IO, "the file shrank while it was read");
    }
    return st;
}

void sh_gguf_shard_release(struct sh_gguf_shard *s)
{
    sh_gguf_names_release(&s->keys);
    sh_free(s->values);
    sh_free(s->tensors);
    sh_free(s->path);
    sh_map_release(&s->map);
    *s = (struct sh_gguf_shard){.map = SH_MAP_INIT};
}
