/* unicode.c - see unicode.h. */
#include "text/unicode.h"

struct lead {
    uint8_t n_bytes; /* of the sequence; 0 if the byte cannot lead one */
    uint8_t lo, hi;  /* range of the second byte; all later ones are 80..BF */
};

static struct lead lead_of(uint8_t b)
{
    if (b < 0xC2 || b > 0xF4) return (struct lead){0, 0, 0};
    if (b < 0xE0) return (struct lead){2, 0x80, 0xBF};
    if (b == 0xE0) return (struct lead){3, 0xA0, 0xBF};
    if (b == 0xED) return (struct lead){3, 0x80, 0x9F};
    if (b < 0xF0) return (struct lead){3, 0x80, 0xBF};
    if (b == 0xF0) return (struct lead){4, 0x90, 0xBF};
    if (b == 0xF4) return (struct lead){4, 0x80, 0x8F};
    return (struct lead){4, 0x80, 0xBF};
}

struct sh_utf8_unit sh_utf8_next(const char *s, size_t len)
{
    const uint8_t *p = (const uint8_t *)s;
    const uint8_t b = p[0];
    struct lead l;
    uint32_t cp;

    if (b < 0x80) return (struct sh_utf8_unit){SH_UTF8_VALID, 1, b};
    l = lead_of(b);
    if (l.n_bytes == 0) return (struct sh_utf8_unit){SH_UTF8_BROKEN, 1, SH_CP_REPLACEMENT};
    cp = b & (0x7FU >> l.n_bytes);
    for (uint8_t i = 1; i < l.n_bytes; i++) {
        if (i == len) return (struct sh_utf8_unit){SH_UTF8_PARTIAL, i, SH_CP_REPLACEMENT};
        if (p[i] < (i == 1 ? l.lo : 0x80) || p[i] > (i == 1 ? l.hi : 0xBF))
            return (struct sh_utf8_unit){SH_UTF8_BROKEN, i, SH_CP_REPLACEMENT};
        cp = cp << 6 | (p[i] & 0x3FU);
    }
    return (struct sh_utf8_unit){SH_UTF8_VALID, l.n_bytes, cp};
}

size_t sh_utf8_encode(char dst[4], uint32_t cp)
{
    if (cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF)) cp = SH_CP_REPLACEMENT;
    if (cp < 0x80) {
        dst[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        dst[0] = (char)(0xC0 | cp >> 6);
        dst[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        dst[0] = (char)(0xE0 | cp >> 12);
        dst[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        dst[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    dst[0] = (char)(0xF0 | cp >> 18);
    dst[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    dst[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    dst[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

size_t sh_utf8_valid_len(const char *s, size_t len)
{
    size_t i = 0;

    while (i < len) {
        uint64_t eight;
        while (len - i >= sizeof eight) {
            memcpy(&eight, s + i, sizeof eight);
            if (eight & UINT64_C(0x8080808080808080)) break;
            i += sizeof eight;
        }
        if (i == len) break;
        struct sh_utf8_unit u = sh_utf8_next(s + i, len - i);
        if (u.kind != SH_UTF8_VALID) break;
        i += u.n_bytes;
    }
    return i;
}

enum shoal_status sh_utf8_clean(struct sh_buf *out, struct sh_str s)
{
    size_t i = 0;

    while (i < s.len) {
        const size_t good = sh_utf8_valid_len(s.ptr + i, s.len - i);
        enum shoal_status st = sh_buf_append(out, s.ptr + i, good);
        i += good;
        if (!st && i < s.len) {
            st = sh_buf_append(out, SH_UTF8_REPLACEMENT, 3);
            i++;
        }
        if (st) return st;
    }
    return SHOAL_OK;
}
