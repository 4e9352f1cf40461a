/* gguf/file.c - opening a model: its first file, the siblings of a split one, one list of
 * tensors. */
#include "gguf/file.h"

#include "base/mem.h"
#include "gguf/file_priv.h"
#include "gguf/show_priv.h"

/* Take the mapping or the caller's bytes apart.  `path` is copied. */
static enum shoal_status shard_open(struct sh_gguf_shard *s, const char *path,
                                    struct shoal_error *err)
{
    enum shoal_status st;

    s->path = sh_strdup(path);
    if (!s->path) return sh_fail(err, SHOAL_ERR_NOMEM, "gguf: no memory to open a model");
    st = sh_map_file(&s->map, path, err);
    if (st) return st;
    s->ptr = s->map.ptr;
    s->size = s->map.size;
    return sh_gguf_shard_parse(s, err);
}

/* One list of all tensors, in the order of the shards. */
static enum shoal_status join_tensors(struct sh_gguf *g, struct shoal_error *err)
{
    const struct sh_gguf_shard *first = &g->shards[0];
    size_t n = 0, at = 0;

    for (int i = 0; i < g->n_shards; i++)
        n += g->shards[i].n_tensors;
    if (n > SH_GGUF_TENSORS_MAX) {
        return sh_gguf_fail(first, err, SHOAL_ERR_LIMIT,
                            "the model has %zu tensors, at most %d are read", n,
                            SH_GGUF_TENSORS_MAX);
    }
    g->tensors = sh_calloc(n, sizeof *g->tensors);
    if (!g->tensors || !sh_gguf_names_init(&g->names, n)) {
        return sh_gguf_fail(first, err, SHOAL_ERR_NOMEM, "no memory to index %zu tensors", n);
    }
    g->n_tensors = n;
    for (int i = 0; i < g->n_shards; i++) {
        for (size_t k = 0; k < g->shards[i].n_tensors; k++, at++) {
            g->tensors[at] = g->shards[i].tensors[k];
            g->tensors[at].shard = i;
            g->names.list[at] = (struct sh_gguf_name){.name = g->tensors[at].name, .index = at};
        }
        sh_free(g->shards[i].tensors);
        g->shards[i].tensors = NULL;
    }
    return SHOAL_OK;
}

static enum shoal_status index_tensors(struct sh_gguf *g, struct shoal_error *err)
{
    size_t a, b;
    enum shoal_status st = join_tensors(g, err);

    if (st) return st;
    sh_gguf_names_sort(&g->names);
    if (sh_gguf_names_repeated(&g->names, &a, &b)) {
        const struct sh_gguf_quote name = sh_gguf_quote(g->tensors[a].name);
        if (g->tensors[a].shard == g->tensors[b].shard) {
            return sh_gguf_fail(&g->shards[g->tensors[a].shard], err, SHOAL_ERR_FORMAT,
                                "two tensors are called '%s'", name.text);
        }
        return sh_gguf_fail(&g->shards[g->tensors[b].shard], err, SHOAL_ERR_FORMAT,
                            "tensor '%s' is in shard %d already", name.text,
                            g->tensors[a].shard + 1);
    }
    if (sh_gguf_faulted(g)) {
        return sh_gguf_fail(&g->shards[0], err, SHOAL_ERR_IO, "the file shrank while it was read");
    }
    return SHOAL_OK;
}

enum shoal_status sh_gguf_open(struct sh_gguf **out, const char *path, struct shoal_error *err)
{
    struct sh_gguf_shard first = {.map = SH_MAP_INIT};
    struct sh_gguf_split split;
    struct sh_gguf *g = NULL;
    enum shoal_status st;

    *out = NULL;
    st = shard_open(&first, path, err);
    if (st) goto done;
    st = sh_gguf_split_read(&first, &split, err);
    if (st) goto done;

    g = sh_calloc(1, sizeof *g);
    if (g) g->shards = sh_calloc((size_t)split.count, sizeof *g->shards);
    if (!g || !g->shards) {
        st = sh_gguf_fail(&first, err, SHOAL_ERR_NOMEM, "no memory for %d shards", split.count);
        goto done;
    }
    g->n_shards = split.count;
    g->shards[split.no] = first; // moved
    first = (struct sh_gguf_shard){.map = SH_MAP_INIT};
    if (split.count > 1) st = sh_gguf_split_open(g, &split, shard_open, err);
    if (st) goto done;
    st = index_tensors(g, err);
    if (st) goto done;

    *out = g;
    g = NULL;

done:
    sh_gguf_close(g);
    sh_gguf_shard_release(&first);
    return st;
}

enum shoal_status sh_gguf_open_memory(struct sh_gguf **out, const void *data, size_t size,
                                      const char *name, struct shoal_error *err)
{
    struct sh_gguf *g = sh_calloc(1, sizeof *g);
    struct sh_gguf_split split;
    enum shoal_status st = SHOAL_OK;

    *out = NULL;
    if (g) g->shards = sh_calloc(1, sizeof *g->shards);
    if (g && g->shards) g->shards[0].path = sh_strdup(name);
    if (!g || !g->shards || !g->shards[0].path) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "gguf: no memory to open a model");
        goto done;
    }
    g->n_shards = 1;
    g->shards[0].ptr = data;
    g->shards[0].size = size;
    st = sh_gguf_shard_parse(&g->shards[0], err);
    if (st) goto done;
    st = sh_gguf_split_read(&g->shards[0], &split, err);
    if (st) goto done;
    if (split.count > 1) {
        st = sh_gguf_fail(&g->shards[0], err, SHOAL_ERR_UNSUPPORTED,
                          "shard %d of %d in memory: a split model can only be opened by path",
                          split.no + 1, split.count);
        goto done;
    }
    st = index_tensors(g, err);
    if (st) goto done;

    *out = g;
    g = NULL;

done:
    sh_gguf_close(g);
    return st;
}

void sh_gguf_close(struct sh_gguf *g)
{
    if (!g) return;
    for (int i = 0; g->shards && i < g->n_shards; i++)
        sh_gguf_shard_release(&g->shards[i]);
    sh_gguf_names_release(&g->names);
    sh_free(g->shards);
    sh_free(g->tensors);
    sh_free(g);
}

bool sh_gguf_faulted(const struct sh_gguf *g)
{
    for (int i = 0; i < g->n_shards; i++) {
        if (g->shards[i].map.guard && sh_map_faulted(&g->shards[i].map)) return true;
    }
    return false;
}

uint32_t sh_gguf_version(const struct sh_gguf *g)
{
    return g->shards[0].version;
}

int sh_gguf_n_shards(const struct sh_gguf *g)
{
    return g->n_shards;
}

static const struct sh_gguf_shard *shard_at(const struct sh_gguf *g, int shard)
{
    SH_ASSERT(shard >= 0 && shard < g->n_shards);
    return &g->shards[shard];
}

const char *sh_gguf_path(const struct sh_gguf *g, int shard)
{
    return shard_at(g, shard)->path;
}

const struct sh_map *sh_gguf_map(const struct sh_gguf *g, int shard)
{
    return g->shards[shard].map.ptr ? &g->shards[shard].map : NULL;
}

size_t sh_gguf_file_bytes(const struct sh_gguf *g, int shard)
{
    return shard_at(g, shard)->size;
}

size_t sh_gguf_alignment(const struct sh_gguf *g, int shard)
{
    return shard_at(g, shard)->alignment;
}

size_t sh_gguf_n_tensors(const struct sh_gguf *g)
{
    return g->n_tensors;
}

const struct sh_gguf_tensor *sh_gguf_tensor(const struct sh_gguf *g, size_t i)
{
    SH_ASSERT(i < g->n_tensors);
    return &g->tensors[i];
}

const struct sh_gguf_tensor *sh_gguf_find_tensor(const struct sh_gguf *g, struct sh_str name)
{
    size_t i;

    return sh_gguf_names_find(&g->names, name, &i) ? &g->tensors[i] : NULL;
}
