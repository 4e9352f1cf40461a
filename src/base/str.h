/* base/str.h - borrowed strings and a growing one.
 *
 * struct sh_str is a pointer and a length into someone else's memory, not NUL-terminated.
 * struct sh_buf owns its bytes and is always NUL-terminated behind its length.
 * Threads: one at a time.
 */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"

struct sh_str {
    const char *ptr;
    size_t len;
};
#define SH_STR_EMPTY ((struct sh_str){"", 0})
#define SH_STR_LIT(lit) ((struct sh_str){(lit), sizeof(lit) - 1})

static inline struct sh_str sh_str_from(const char *c)
{
    return (struct sh_str){c, strlen(c)};
}
static inline bool sh_str_equal(struct sh_str a, struct sh_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
static inline bool sh_str_is(struct sh_str a, const char *c)
{
    return sh_str_equal(a, sh_str_from(c));
}

/* FNV-1a 64 of bytes, for hash tables (not against an adversary). */
uint64_t sh_hash_bytes(const void *p, size_t len);

struct sh_buf {
    char *ptr; /* NULL while empty */
    size_t len, cap;
};
#define SH_BUF_INIT                                                                                \
    {                                                                                              \
        .ptr = NULL, .len = 0, .cap = 0                                                            \
    }

/* All fail with ERR_NOMEM only, and then leave the buffer as it was. */
SHOAL_NODISCARD enum shoal_status sh_buf_append(struct sh_buf *b, const void *p, size_t len);
SHOAL_NODISCARD enum shoal_status sh_buf_printf(struct sh_buf *b, const char *fmt, ...)
    SHOAL_PRINTF(2, 3);
SHOAL_NODISCARD enum shoal_status sh_buf_reserve(struct sh_buf *b, size_t cap);
void sh_buf_clear(struct sh_buf *b);   /* keeps the memory */
void sh_buf_release(struct sh_buf *b); /* to SH_BUF_INIT */

#endif
