/* gguf/parse_kv.c - the metadata pairs of a GGUF file, and the one key that the format itself
 * uses. */
#include "gguf/parse_priv.h"

#include <inttypes.h>

#include "gguf/show_priv.h"

static enum shoal_status parse_key(struct sh_gguf_parser *p, size_t i, struct sh_str *key)
{
    const struct sh_gguf_shard *s = p->shard;
    enum shoal_status st =
        sh_gguf_parse_string(p, "key", i, s->n_values, SH_GGUF_KEY_BYTES_MAX, key);

    if (st) return st;
    if (key->len == 0) {
        return sh_gguf_fail(s, p->err, SHOAL_ERR_FORMAT, "key %zu of %zu is empty", i + 1,
                            s->n_values);
    }
    if (memchr(key->ptr, 0, key->len)) {
        return sh_gguf_fail(s, p->err, SHOAL_ERR_FORMAT, "key %zu of %zu, '%s', has a NUL byte",
                            i + 1, s->n_values, sh_gguf_quote(*key).text);
    }
    return SHOAL_OK;
}

static enum shoal_status parse_type(struct sh_gguf_parser *p, const struct sh_gguf_value *v,
                                    const char *what, enum sh_gguf_type *out)
{
    const uint32_t id = sh_read_u32(&p->reader);

    if (p->reader.bad) {
        return sh_gguf_fail(p->shard, p->err, SHOAL_ERR_FORMAT, "the file ends inside key '%s'",
                            sh_gguf_quote(v->key).text);
    }
    if (id >= SH_GGUF_TYPE_COUNT) {
        return sh_gguf_fail(p->shard, p->err, SHOAL_ERR_FORMAT, "key '%s': %s %d is unknown",
                            sh_gguf_quote(v->key).text, what, (int)id);
    }
    *out = (enum sh_gguf_type)id;
    return SHOAL_OK;
}

/* Element type and count of an array. */
static enum shoal_status parse_array_head(struct sh_gguf_parser *p, struct sh_gguf_value *v)
{
    uint64_t n;
    size_t left, bytes_min;
    enum shoal_status st = parse_type(p, v, "element type", &v->elem);

    if (st) return st;
    if (v->elem == SH_GGUF_ARRAY) {
        return sh_gguf_fail(p->shard, p->err, SHOAL_ERR_UNSUPPORTED,
                            "key '%s' is an array of arrays, which is not read",
                            sh_gguf_quote(v->key).text);
    }
    n = sh_read_u64(&p->reader);
    if (p->reader.bad) {
        return sh_gguf_fail(p->shard, p->err, SHOAL_ERR_FORMAT, "the file ends inside key '%s'",
                            sh_gguf_quote(v->key).text);
    }
    left = sh_reader_left(&p->reader);
    bytes_min = v->elem == SH_GGUF_STRING ? sizeof(uint64_t) : sh_gguf_type_bytes(v->elem);
    if (n > left / bytes_min) {
        return sh_gguf_fail(p->shard, p->err, SHOAL_ERR_FORMAT,
                            "key '%s': an array of %" PRIu64
                            " times %s does not fit into the %zu bytes left",
                            sh_gguf_quote(v->key).text, n, sh_gguf_type_name(v->elem), left);
    }
    if (n > SH_GGUF_ARRAY_MAX) {
        return sh_gguf_fail(p->shard, p->err, SHOAL_ERR_LIMIT,
                            "key '%s': an array of %" PRIu64 " elements, at most %" PRId64
                            " are read",
                            sh_gguf_quote(v->key).text, n, SH_GGUF_ARRAY_MAX);
    }
    v->count = (size_t)n;
    return SHOAL_OK;
}

/* Walk the strings of `v` to find where they end. */
static enum shoal_status parse_strings(struct sh_gguf_parser *p, const struct sh_gguf_value *v)
{
    for (size_t i = 0; i < v->count; i++) {
        const size_t left = sh_reader_left(&p->reader);
        const uint64_t len = sh_read_u64(&p->reader);
        if (left < sizeof len || len > left - sizeof len) {
            return sh_gguf_fail(
                p->shard, p->err, SHOAL_ERR_FORMAT,
                "key '%s': string %zu of %zu is %" PRIu64 " bytes long, the file has %zu left",
                sh_gguf_quote(v->key).text, i + 1, v->count, len, sh_reader_left(&p->reader));
        }
        if (len > SH_GGUF_STRING_BYTES_MAX) {
            return sh_gguf_fail(p->shard, p->err, SHOAL_ERR_LIMIT,
                                "key '%s': string %zu of %zu is %" PRIu64
                                " bytes long, at most %" PRId64 " are read",
                                sh_gguf_quote(v->key).text, i + 1, v->count, len,
                                SH_GGUF_STRING_BYTES_MAX);
        }
        (void)sh_read_bytes(&p->reader, (size_t)len);
    }
    return SHOAL_OK;
}

static enum shoal_status parse_fixed(struct sh_gguf_parser *p, const struct sh_gguf_value *v)
{
    const size_t n_bytes = v->count * sh_gguf_type_bytes(v->elem); // the count was checked
    const uint8_t *b = sh_read_bytes(&p->reader, n_bytes);

    if (!b) {
        return sh_gguf_fail(p->shard, p->err, SHOAL_ERR_FORMAT, "the file ends inside key '%s'",
                            sh_gguf_quote(v->key).text);
    }
    if (v->elem != SH_GGUF_BOOL) return SHOAL_OK;
    for (size_t i = 0; i < n_bytes; i++) {
        if (b[i] <= 1) continue;
        return sh_gguf_fail(p->shard, p->err, SHOAL_ERR_FORMAT,
                            "key '%s': element %zu is the bool %d, it must be 0 or 1",
                            sh_gguf_quote(v->key).text, i, b[i]);
    }
    return SHOAL_OK;
}

static enum shoal_status parse_pair(struct sh_gguf_parser *p, size_t i)
{
    struct sh_gguf_value *v = &p->shard->values[i];
    size_t start;
    enum shoal_status st = parse_key(p, i, &v->key);

    if (!st) st = parse_type(p, v, "value type", &v->type);
    if (st) return st;
    v->elem = v->type;
    v->count = 1;
    if (v->type == SH_GGUF_ARRAY) st = parse_array_head(p, v);
    if (st) return st;

    start = p->reader.pos;
    v->bytes = p->reader.ptr + start;
    st = v->elem == SH_GGUF_STRING ? parse_strings(p, v) : parse_fixed(p, v);
    v->n_bytes = p->reader.pos - start;
    return st;
}

static enum shoal_status index_keys(const struct sh_gguf_parser *p)
{
    struct sh_gguf_shard *s = p->shard;
    size_t first, second;

    if (!sh_gguf_names_init(&s->keys, s->n_values)) {
        return sh_gguf_fail(s, p->err, SHOAL_ERR_NOMEM, "no memory to index %zu keys", s->n_values);
    }
    for (size_t i = 0; i < s->n_values; i++)
        s->keys.list[i] = (struct sh_gguf_name){.name = s->values[i].key, .index = i};
    sh_gguf_names_sort(&s->keys);
    if (sh_gguf_names_repeated(&s->keys, &first, &second)) {
        return sh_gguf_fail(s, p->err, SHOAL_ERR_FORMAT, "keys %zu and %zu are both '%s'",
                            first + 1, second + 1, sh_gguf_quote(s->values[first].key).text);
    }
    return SHOAL_OK;
}

static enum shoal_status find_alignment(const struct sh_gguf_parser *p)
{
    struct sh_gguf_shard *s = p->shard;
    const struct sh_gguf_value *v;
    size_t i;
    int64_t a = 0;

    s->alignment = SH_GGUF_ALIGNMENT_DEFAULT;
    if (!sh_gguf_names_find(&s->keys, SH_STR_LIT("general.alignment"), &i)) return SHOAL_OK;
    v = &s->values[i];
    if (v->type != SH_GGUF_U32 || !sh_gguf_int_at(v, 0, &a)) {
        return sh_gguf_fail(s, p->err, SHOAL_ERR_FORMAT,
                            "general.alignment has type %s, it must be u32",
                            sh_gguf_type_name(v->type));
    }
    if (a < SH_GGUF_ALIGNMENT_MIN || a > SH_GGUF_ALIGNMENT_MAX || (a & (a - 1)) != 0) {
        return sh_gguf_fail(s, p->err, SHOAL_ERR_FORMAT,
                            "general.alignment is %" PRId64
                            ", it must be a power of two from %d to %d",
                            a, SH_GGUF_ALIGNMENT_MIN, SH_GGUF_ALIGNMENT_MAX);
    }
    s->alignment = (size_t)a;
    return SHOAL_OK;
}

enum shoal_status sh_gguf_parse_pairs(struct sh_gguf_parser *p)
{
    enum shoal_status st;

    for (size_t i = 0; i < p->shard->n_values; i++) {
        st = parse_pair(p, i);
        if (st) return st;
    }
    st = index_keys(p);
    if (st) return st;
    return find_alignment(p);
}
