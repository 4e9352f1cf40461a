/* gguf/split.c - models in several files: finding the siblings and checking that they belong
 * together. */
#include "gguf/file_priv.h"

#include <inttypes.h>

#include "base/mem.h"

/* An integer key of one shard, `fallback` if it is absent. */
static enum shoal_status read_int(const struct sh_gguf_shard *s, const char *key, int64_t least,
                                  int64_t most, int64_t fallback, int64_t *out,
                                  struct shoal_error *err)
{
    const struct sh_gguf_value *v;
    size_t i;

    *out = fallback;
    if (!sh_gguf_names_find(&s->keys, sh_str_from(key), &i)) return SHOAL_OK;
    v = &s->values[i];
    if (sh_gguf_is_array(v) || !sh_gguf_int_at(v, 0, out)) {
        return sh_gguf_fail(s, err, SHOAL_ERR_FORMAT, "key '%s' has type %s, it must be an integer",
                            key, sh_gguf_type_name(v->type));
    }
    if (*out < least || *out > most) {
        return sh_gguf_fail(s, err, SHOAL_ERR_FORMAT,
                            "key '%s' is %" PRId64 ", it must be from %" PRId64 " to %" PRId64, key,
                            *out, least, most);
    }
    return SHOAL_OK;
}

enum shoal_status sh_gguf_split_read(const struct sh_gguf_shard *s, struct sh_gguf_split *out,
                                     struct shoal_error *err)
{
    int64_t no, count, n_tensors;
    enum shoal_status st = read_int(s, "split.count", 0, SH_GGUF_SHARDS_MAX, 0, &count, err);

    *out = (struct sh_gguf_split){.no = 0, .count = 1, .n_tensors = -1};
    if (st || count < 2) return st;
    st = read_int(s, "split.no", 0, count - 1, 0, &no, err);
    if (!st) st = read_int(s, "split.tensors.count", 0, INT32_MAX, -1, &n_tensors, err);
    if (st) return st;
    *out = (struct sh_gguf_split){.no = (int)no, .count = (int)count, .n_tensors = n_tensors};
    return SHOAL_OK;
}

enum shoal_status sh_gguf_split_path(struct sh_buf *out, struct sh_str prefix, int no, int count)
{
    enum shoal_status st = sh_buf_append(out, prefix.ptr, prefix.len);

    if (st) return st;
    return sh_buf_printf(out, "-%05d-of-%05d.gguf", no + 1, count);
}

/* PREFIX of the open shard, whose name must be what its keys say. */
static enum shoal_status find_prefix(const struct sh_gguf_shard *s,
                                     const struct sh_gguf_split *split, struct sh_str *prefix,
                                     struct shoal_error *err)
{
    struct sh_buf tail = SH_BUF_INIT;
    const struct sh_str path = sh_str_from(s->path);
    enum shoal_status st = sh_gguf_split_path(&tail, SH_STR_EMPTY, split->no, split->count);

    if (st) {
        st = sh_gguf_fail(s, err, st, "no memory for the names of its shards");
    } else if (path.len < tail.len || memcmp(path.ptr + path.len - tail.len, tail.ptr, tail.len)) {
        st = sh_gguf_fail(s, err, SHOAL_ERR_FORMAT,
                          "it is shard %d of %d, so its name must end in %s", split->no + 1,
                          split->count, tail.ptr);
    } else {
        *prefix = (struct sh_str){path.ptr, path.len - tail.len};
    }
    sh_buf_release(&tail);
    return st;
}

static enum shoal_status open_sibling(struct sh_gguf *g, const struct sh_gguf_split *split, int no,
                                      struct sh_str prefix, sh_gguf_shard_opener *open,
                                      struct shoal_error *err)
{
    struct sh_gguf_shard *s = &g->shards[no];
    struct shoal_error inner = SHOAL_ERROR_INIT;
    struct sh_buf path = SH_BUF_INIT;
    struct sh_gguf_split found;
    enum shoal_status st = sh_gguf_split_path(&path, prefix, no, split->count);

    if (st) {
        st = sh_fail(err, st, "gguf: no memory for the name of shard %d", no + 1);
        goto done;
    }
    st = open(s, path.ptr, &inner);
    if (st) {
        st = sh_fail(err, st, "shard %d of %d: %s", no + 1, split->count, inner.message);
        if (err) err->sys_errno = inner.sys_errno;
        goto done;
    }
    st = sh_gguf_split_read(s, &found, err);
    if (st) goto done;
    if (found.no != no || found.count != split->count) {
        st = sh_gguf_fail(s, err, SHOAL_ERR_FORMAT,
                          "it says that it is shard %d of %d, its name says %d of %d", found.no + 1,
                          found.count, no + 1, split->count);
    }

done:
    sh_buf_release(&path);
    return st;
}

enum shoal_status sh_gguf_split_open(struct sh_gguf *g, const struct sh_gguf_split *split,
                                     sh_gguf_shard_opener *open, struct shoal_error *err)
{
    struct sh_gguf_split head;
    struct sh_str prefix = SH_STR_EMPTY;
    int64_t n_tensors = 0;
    enum shoal_status st = find_prefix(&g->shards[split->no], split, &prefix, err);

    if (st) return st;
    for (int i = 0; i < split->count; i++) {
        if (i != split->no) st = open_sibling(g, split, i, prefix, open, err);
        if (st) return st;
        n_tensors += (int64_t)g->shards[i].n_tensors;
    }
    st = sh_gguf_split_read(&g->shards[0], &head, err);
    if (st) return st;
    if (head.n_tensors >= 0 && head.n_tensors != n_tensors) {
        return sh_gguf_fail(&g->shards[0], err, SHOAL_ERR_FORMAT,
                            "split.tensors.count is %" PRId64 ", its %d shards hold %" PRId64
                            " tensors",
                            head.n_tensors, split->count, n_tensors);
    }
    return SHOAL_OK;
}
