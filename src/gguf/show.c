/* gguf/show.c - quoting, escaping and repairing strings that came from a file. */
#include "gguf/show_priv.h"

#include <stdio.h>

struct sh_gguf_quote sh_gguf_quote(struct sh_str s)
{
    static const char HEX[] = "0123456789abcdef";
    struct sh_gguf_quote q;
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++) {
        const unsigned char c = (unsigned char)s.ptr[i];
        if (n > sizeof q.text - 8) { // room for one escape, the dots and the NUL
            memcpy(q.text + n, "...", 3);
            n += 3;
            break;
        }
        if (c >= 0x20 && c < 0x7f) {
            q.text[n++] = (char)c;
            continue;
        }
        q.text[n++] = '\\';
        q.text[n++] = 'x';
        q.text[n++] = HEX[c >> 4];
        q.text[n++] = HEX[c & 15];
    }
    q.text[n] = '\0';
    return q;
}

int32_t sh_gguf_utf8_next(const char *p, size_t len, size_t *n)
{
    const unsigned char *u = (const unsigned char *)p;
    const unsigned char first = u[0];
    size_t want;
    int32_t code, least;

    *n = 1;
    if (first < 0x80) return first;
    if (first >= 0xc2 && first < 0xe0) {
        want = 2, code = first & 0x1f, least = 0x80;
    } else if (first >= 0xe0 && first < 0xf0) {
        want = 3, code = first & 0x0f, least = 0x800;
    } else if (first >= 0xf0 && first < 0xf5) {
        want = 4, code = first & 0x07, least = 0x10000;
    } else {
        return -1;
    }
    if (len < want) return -1;
    for (size_t i = 1; i < want; i++) {
        if ((u[i] & 0xc0) != 0x80) return -1;
        code = code << 6 | (u[i] & 0x3f);
    }
    if (code < least || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return -1;
    *n = want;
    return code;
}

/* Characters that act on a terminal or on the order of text instead of showing. */
static bool acts(int32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x061c || (c >= 0x200b && c <= 0x200f) ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
           (c >= 0xe0000 && c <= 0xe0fff);
}

enum shoal_status sh_gguf_escape(struct sh_buf *out, struct sh_str s, size_t max, size_t *width)
{
    char piece[16];
    size_t n, len;
    enum shoal_status st = SHOAL_OK;

    *width = 0;
    for (size_t i = 0; i < s.len && !st; i += n) {
        const int32_t c = sh_gguf_utf8_next(s.ptr + i, s.len - i, &n);
        if (*width >= max) {
            *width += 3;
            return sh_buf_append(out, "...", 3);
        }
        if (c >= 0 && c != '\\' && !acts(c)) {
            *width += 1;
            st = sh_buf_append(out, s.ptr + i, n);
            continue;
        }
        if (c == '\\' || c == '\n' || c == '\t' || c == '\r') {
            const char letter = c == '\n' ? 'n' : c == '\t' ? 't' : c == '\r' ? 'r' : '\\';
            len = (size_t)snprintf(piece, sizeof piece, "\\%c", letter);
        } else if (c < 0) {
            len = (size_t)snprintf(piece, sizeof piece, "\\x%02x", (unsigned char)s.ptr[i]);
        } else {
            len = (size_t)snprintf(piece, sizeof piece, "\\u{%x}", (unsigned)c);
        }
        *width += len;
        st = sh_buf_append(out, piece, len);
    }
    return st;
}

enum shoal_status sh_gguf_to_utf8(struct sh_buf *out, struct sh_str s)
{
    size_t n;
    enum shoal_status st = SHOAL_OK;

    for (size_t i = 0; i < s.len && !st; i += n) {
        if (sh_gguf_utf8_next(s.ptr + i, s.len - i, &n) < 0) {
            st = sh_buf_append(out, "\xef\xbf\xbd", 3);
        } else {
            st = sh_buf_append(out, s.ptr + i, n);
        }
    }
    return st;
}
