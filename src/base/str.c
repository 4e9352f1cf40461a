/* base/str.c - the growing string.  Capacity doubles and counts the NUL. */
#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"

#define BUF_CAP_MIN 32

uint64_t sh_hash_bytes(const void *p, size_t len)
{
    const uint8_t *bytes = p;
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < len; i++) {
        h ^= bytes[i];
        h *= UINT64_C(0x100000001b3);
    }
    return h;
}

enum shoal_status sh_buf_reserve(struct sh_buf *b, size_t cap)
{
    size_t want;
    char *p;

    if (!sh_add_ok(cap, 1, &want)) return SHOAL_ERR_NOMEM;
    if (want <= b->cap) return SHOAL_OK;
    p = sh_realloc_array(b->ptr, want, 1);
    if (!p) return SHOAL_ERR_NOMEM;
    b->ptr = p;
    b->cap = want;
    b->ptr[b->len] = '\0';
    return SHOAL_OK;
}

/* Room for `extra` bytes behind the present ones, doubling so that appending stays linear. */
static enum shoal_status make_room(struct sh_buf *b, size_t extra)
{
    size_t need, want;

    if (!sh_add_ok(b->len, extra, &need)) return SHOAL_ERR_NOMEM;
    if (need < b->cap) return SHOAL_OK;
    want = b->cap > SIZE_MAX / 2 ? need : 2 * b->cap;
    if (want < need) want = need;
    if (want < BUF_CAP_MIN) want = BUF_CAP_MIN;
    return sh_buf_reserve(b, want);
}

enum shoal_status sh_buf_append(struct sh_buf *b, const void *p, size_t len)
{
    const enum shoal_status st = make_room(b, len);

    if (st) return st;
    if (len) memcpy(b->ptr + b->len, p, len);
    b->len += len;
    b->ptr[b->len] = '\0';
    return SHOAL_OK;
}

enum shoal_status sh_buf_printf(struct sh_buf *b, const char *fmt, ...)
{
    enum shoal_status st;
    va_list args;
    int len;

    va_start(args, fmt);
    len = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (len < 0) return SHOAL_ERR_NOMEM;
    st = make_room(b, (size_t)len);
    if (st) return st;
    va_start(args, fmt);
    (void)vsnprintf(b->ptr + b->len, (size_t)len + 1, fmt, args);
    va_end(args);
    b->len += (size_t)len;
    return SHOAL_OK;
}

void sh_buf_clear(struct sh_buf *b)
{
    b->len = 0;
    if (b->ptr) b->ptr[0] = '\0';
}

void sh_buf_release(struct sh_buf *b)
{
    sh_free(b->ptr);
    *b = (struct sh_buf)SH_BUF_INIT;
}
