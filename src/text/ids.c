/* ids.c - see ids.h. */
#include "text/ids.h"

#include <stdbool.h>
#include <string.h>

#include "base/mem.h"

enum shoal_status sh_ids_reserve(struct sh_ids *ids, size_t more)
{
    size_t need, cap;
    int32_t *p;

    if (!sh_add_ok(ids->len, more, &need)) return SHOAL_ERR_NOMEM;
    if (need <= ids->cap) return SHOAL_OK;
    cap = ids->cap < 16 ? 16 : ids->cap;
    while (cap < need)
        if (!sh_mul_ok(cap, 2, &cap)) return SHOAL_ERR_NOMEM;
    p = sh_realloc_array(ids->ptr, cap, sizeof *p);
    if (!p) return SHOAL_ERR_NOMEM;
    ids->ptr = p;
    ids->cap = cap;
    return SHOAL_OK;
}

enum shoal_status sh_ids_push(struct sh_ids *ids, int32_t id)
{
    enum shoal_status st = ids->len < ids->cap ? SHOAL_OK : sh_ids_reserve(ids, 1);
    if (st) return st;
    ids->ptr[ids->len++] = id;
    return SHOAL_OK;
}

enum shoal_status sh_ids_append(struct sh_ids *ids, const int32_t *src, size_t n)
{
    // Growing may move the list from under `src`, so an inner source is kept as an offset.
    const int32_t *old = ids->ptr;
    const bool inner = old && src >= old && src < old + ids->len;
    const size_t at = inner ? (size_t)(src - old) : 0;
    enum shoal_status st;

    if (n == 0) return SHOAL_OK;
    st = sh_ids_reserve(ids, n);
    if (st) return st;
    memcpy(ids->ptr + ids->len, inner ? ids->ptr + at : src, n * sizeof *src);
    ids->len += n;
    return SHOAL_OK;
}

void sh_ids_clear(struct sh_ids *ids)
{
    ids->len = 0;
}

void sh_ids_release(struct sh_ids *ids)
{
    sh_free(ids->ptr);
    *ids = (struct sh_ids)SH_IDS_INIT;
}
