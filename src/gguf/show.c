/* gguf/show.c - quoting, escaping and repairing strings that came from a file. */
#include "gguf/show_priv.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

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

bool sh_gguf_char_acts(int32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x061c || (c >= 0x200b && c <= 0x200f) ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff ||
           (c >= 0xe0000 && c <= 0xe0fff);
}

/* `c`, whose first byte is `byte`, spelled out; false if it may stand as it is. */
static bool spell(int32_t c, unsigned char byte, bool quoted, char *out, size_t cap)
{
    if (c < 0) {
        (void)snprintf(out, cap, "\\x%02x", byte);
    } else if (c == '\\' || (quoted && c == '"')) {
        (void)snprintf(out, cap, "\\%c", (char)c);
    } else if (c == '\n' || c == '\t' || c == '\r') {
        (void)snprintf(out, cap, "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
    } else if (sh_gguf_char_acts(c)) {
        (void)snprintf(out, cap, "\\u{%x}", (unsigned)c);
    } else {
        return false;
    }
    return true;
}

enum shoal_status sh_gguf_escape(struct sh_buf *out, struct sh_str s, size_t max, bool quoted,
                                 size_t *width)
{
    char piece[16];
    size_t n;
    enum shoal_status st = quoted ? sh_buf_append(out, "\"", 1) : SHOAL_OK;

    *width = quoted ? 2 : 0;
    for (size_t i = 0, shown = 0; i < s.len && !st; i += n, shown++) {
        const int32_t c = sh_gguf_utf8_next(s.ptr + i, s.len - i, &n);
        if (shown >= max) {
            *width += 3;
            st = sh_buf_append(out, "...", 3);
            break;
        }
        if (spell(c, (unsigned char)s.ptr[i], quoted, piece, sizeof piece)) {
            *width += strlen(piece);
            st = sh_buf_append(out, piece, strlen(piece));
        } else {
            *width += 1;
            st = sh_buf_append(out, s.ptr + i, n);
        }
    }
    return st || !quoted ? st : sh_buf_append(out, "\"", 1);
}

/* A character that cannot stand in a JSON string as it is. */
static enum shoal_status quote_char(struct sh_buf *out, int32_t c)
{
    char piece[16];
    int32_t v = c;
    size_t len = 0;

    if (c < 0) return sh_buf_append(out, "\xef\xbf\xbd", 3);
    if (c == '"' || c == '\\') {
        piece[0] = '\\';
        piece[1] = (char)c;
        return sh_buf_append(out, piece, 2);
    }
    if (c == '\n') return sh_buf_append(out, "\\n", 2);
    if (c >= 0x10000) { // a pair of surrogates
        v = 0xdc00 + ((c - 0x10000) & 0x3ff);
        len = (size_t)snprintf(piece, sizeof piece, "\\u%04x",
                               (unsigned)(0xd800 + ((c - 0x10000) >> 10)));
    }
    len += (size_t)snprintf(piece + len, sizeof piece - len, "\\u%04x", (unsigned)v);
    return sh_buf_append(out, piece, len);
}

enum shoal_status sh_gguf_json_quote(struct sh_buf *out, struct sh_str s)
{
    size_t n, plain = 0; // bytes [plain, i) are still to be appended as they are
    enum shoal_status st = sh_buf_append(out, "\"", 1);

    for (size_t i = 0; i < s.len && !st; i += n) {
        const int32_t c = sh_gguf_utf8_next(s.ptr + i, s.len - i, &n);
        if (c >= 0 && c != '"' && c != '\\' && !sh_gguf_char_acts(c)) continue;
        st = sh_buf_append(out, s.ptr + plain, i - plain);
        if (!st) st = quote_char(out, c);
        plain = i + n;
    }
    if (!st) st = sh_buf_append(out, s.ptr + plain, s.len - plain);
    return st ? st : sh_buf_append(out, "\"", 1);
}

struct sh_gguf_decimal sh_gguf_show_double(double d, bool is_f32)
{
    struct sh_gguf_decimal s;
    const int digits_max = is_f32 ? 9 : 17;

    if (isnan(d) || isinf(d)) {
        (void)snprintf(s.text, sizeof s.text, "%s", isnan(d) ? "nan" : d < 0 ? "-inf" : "inf");
        return s;
    }
    if (fabs(d) < 1e15 && d == floor(d)) { // 1000, not 1e+03
        (void)snprintf(s.text, sizeof s.text, "%.0f", d);
        return s;
    }
    for (int digits = 1; digits <= digits_max; digits++) {
        (void)snprintf(s.text, sizeof s.text, "%.*g", digits, d);
        if (is_f32 ? strtof(s.text, NULL) == (float)d : strtod(s.text, NULL) == d) break;
    }
    for (char *p = s.text; *p; p++) {
        if (*p == ',') *p = '.'; // a program that embeds us may have set a locale
    }
    return s;
}

struct sh_gguf_decimal sh_gguf_show_count(uint64_t n)
{
    struct sh_gguf_decimal s;
    char digits[24];
    const size_t len = (size_t)snprintf(digits, sizeof digits, "%" PRIu64, n);
    size_t at = 0;

    for (size_t i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0) s.text[at++] = ',';
        s.text[at++] = digits[i];
    }
    s.text[at] = '\0';
    return s;
}
