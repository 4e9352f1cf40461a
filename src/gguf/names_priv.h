/* gguf/names_priv.h - finding things by name: a sorted list of borrowed names.
 *
 * Sorted rather than hashed, because names come from files: no choice of names makes building or
 * searching it slow.  Threads: built by one, then read by any number.
 */
#ifndef GGUF_NAMES_PRIV_H
#define GGUF_NAMES_PRIV_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

struct sh_gguf_name {
    struct sh_str name;
    size_t index; /* what the name belongs to */
};

struct sh_gguf_names {
    struct sh_gguf_name *list;
    size_t n;
};

/* Room for n names in the empty `names`; the caller fills list[0..n), then sorts.  False when out
 * of memory. */
bool sh_gguf_names_init(struct sh_gguf_names *names, size_t n);
void sh_gguf_names_release(struct sh_gguf_names *names); /* accepts the empty list */

void sh_gguf_names_sort(struct sh_gguf_names *names);
/* The first repeated name of a sorted list and the two lowest indexes that bear it. */
bool sh_gguf_names_repeated(const struct sh_gguf_names *names, size_t *first, size_t *second);
bool sh_gguf_names_find(const struct sh_gguf_names *names, struct sh_str name, size_t *index);

#endif
