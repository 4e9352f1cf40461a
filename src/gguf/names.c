/* gguf/names.c - sorted names: shorter before longer, then by bytes, then by index. */
#include "gguf/names_priv.h"

#include <stdlib.h>

#include "base/mem.h"

static int compare_str(struct sh_str a, struct sh_str b)
{
    if (a.len != b.len) return a.len < b.len ? -1 : 1;
    return a.len ? memcmp(a.ptr, b.ptr, a.len) : 0;
}

static int compare(const void *x, const void *y)
{
    const struct sh_gguf_name *a = x, *b = y;
    const int order = compare_str(a->name, b->name);

    if (order) return order;
    return (a->index > b->index) - (a->index < b->index);
}

bool sh_gguf_names_init(struct sh_gguf_names *names, size_t n)
{
    names->list = sh_calloc(n, sizeof *names->list);
    names->n = names->list ? n : 0;
    return names->list != NULL;
}

void sh_gguf_names_release(struct sh_gguf_names *names)
{
    sh_free(names->list);
    names->list = NULL;
    names->n = 0;
}

void sh_gguf_names_sort(struct sh_gguf_names *names)
{
    if (names->n > 1) qsort(names->list, names->n, sizeof *names->list, compare);
}

bool sh_gguf_names_repeated(const struct sh_gguf_names *names, size_t *first, size_t *second)
{
    for (size_t i = 1; i < names->n; i++) {
        if (compare_str(names->list[i - 1].name, names->list[i].name) != 0) continue;
        *first = names->list[i - 1].index;
        *second = names->list[i].index;
        return true;
    }
    return false;
}

bool sh_gguf_names_find(const struct sh_gguf_names *names, struct sh_str name, size_t *index)
{
    size_t low = 0, high = names->n;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        const int order = compare_str(names->list[mid].name, name);
        if (order == 0) {
            *index = names->list[mid].index;
            return true;
        }
        if (order < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return false;
}
