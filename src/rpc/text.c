/* rpc/text.c - text of messages: UTF-8 (shortest forms, no surrogates, up to U+10FFFF) without
 * control characters (U+0000 to U+001F, U+007F to U+009F). */
#include "rpc/codec.h"

/* Bytes of the character at s, which may be sent; 0 if there is none. */
static size_t character(const uint8_t *s, size_t n)
{
    static const uint32_t LEAST[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len;
    uint32_t v;

    if (s[0] < 0x80) return s[0] >= 0x20 && s[0] != 0x7f ? 1 : 0;
    if ((s[0] & 0xe0) == 0xc0) {
        len = 2;
        v = s[0] & 0x1fu;
    } else if ((s[0] & 0xf0) == 0xe0) {
        len = 3;
        v = s[0] & 0x0fu;
    } else if ((s[0] & 0xf8) == 0xf0) {
        len = 4;
        v = s[0] & 0x07u;
    } else {
        return 0;
    }
    if (len > n) return 0;
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        v = v << 6 | (s[i] & 0x3fu);
    }
    if (v < LEAST[len] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff) || v < 0xa0) return 0;
    return len;
}

bool sh_rpc_text_ok(const char *s, size_t n)
{
    const uint8_t *p = (const uint8_t *)s;

    for (size_t at = 0; at < n;) {
        const size_t len = character(p + at, n - at);
        if (len == 0) return false;
        at += len;
    }
    return true;
}

struct sh_rpc_text sh_rpc_text_from(const char *s)
{
    const size_t n = strlen(s);

    return (struct sh_rpc_text){.ptr = s, .n = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX};
}

/* Copy what fits with a NUL behind; returns how many bytes. */
static size_t copy_clean(char *dst, size_t n, const char *src, size_t n_src)
{
    const uint8_t *p = (const uint8_t *)src;
    size_t used = 0;

    if (n == 0) return 0;
    for (size_t at = 0; at < n_src;) {
        const size_t len = character(p + at, n_src - at), step = len ? len : 1;
        if (step > n - 1 - used) break;
        if (len) {
            memcpy(dst + used, src + at, len);
        } else {
            dst[used] = '?';
        }
        at += step;
        used += step;
    }
    dst[used] = '\0';
    return used;
}

void sh_rpc_text_copy(char *dst, size_t n, struct sh_rpc_text t)
{
    (void)copy_clean(dst, n, t.ptr, t.n);
}

struct sh_rpc_text sh_rpc_text_clean(char *dst, size_t n, const char *src)
{
    const size_t used = copy_clean(dst, n, src, strlen(src));

    return (struct sh_rpc_text){.ptr = dst, .n = (uint32_t)used};
}
