/* pieces.c - what tokens stand for, as bytes.
 *
 * Vocabularies of byte-level BPE are written in an alphabet of 256 characters, one per byte:
 * 21..7E, A1..AC and AE..FF stand for the characters of the same number, the other 68 bytes in
 * ascending order for U+0100 .. U+0143.  Others are plain text with U+2581 for spaces and
 * "<0xXX>" for single bytes.
 */
#include "text/vocab_priv.h"

#include <stdio.h>

#include "text/unicode.h"

/* The byte that a character of the alphabet stands for, or -1. */
static int alphabet_byte(uint32_t cp)
{
    if ((cp >= 0x21 && cp <= 0x7E) || (cp >= 0xA1 && cp <= 0xAC) || (cp >= 0xAE && cp <= 0xFF))
        return (int)cp;
    if (cp >= 0x100 && cp <= 0x120) return (int)(cp - 0x100);
    if (cp >= 0x121 && cp <= 0x142) return (int)(cp - 0x121 + 0x7F);
    return cp == 0x143 ? 0xAD : -1;
}

size_t sh_alphabet_decode(char *dst, struct sh_str s, bool *clean)
{
    size_t n = 0;

    *clean = true;
    for (size_t i = 0; i < s.len;) {
        if (s.ptr[i] > 0x20 && s.ptr[i] < 0x7F) {
            dst[n++] = s.ptr[i++];
            continue;
        }
        const struct sh_utf8_unit u = sh_utf8_next(s.ptr + i, s.len - i);
        const int byte = u.kind == SH_UTF8_VALID ? alphabet_byte(u.cp) : -1;
        if (byte >= 0) {
            dst[n++] = (char)byte;
        } else {
            *clean = false;
            memcpy(dst + n, s.ptr + i, u.n_bytes);
            n += u.n_bytes;
        }
        i += u.n_bytes;
    }
    return n;
}

/* U+2581 to space. */
static size_t unescape(char *dst, struct sh_str s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len;) {
        if (s.len - i >= 3 && memcmp(s.ptr + i, SH_UTF8_LOWER_BAR, 3) == 0) {
            dst[n++] = ' ';
            i += 3;
        } else {
            dst[n++] = s.ptr[i++];
        }
    }
    return n;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte of "<0xXX>", or -1. */
static int spelled_byte(struct sh_str s)
{
    if (s.len != 6 || memcmp(s.ptr, "<0x", 3) != 0 || s.ptr[5] != '>') return -1;
    const int hi = hex_digit(s.ptr[3]), lo = hex_digit(s.ptr[4]);
    return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}

static void set_byte_tokens(struct sh_vocab *v)
{
    for (int b = 0; b < 256; b++) {
        const char raw = (char)b;
        char name[8];
        (void)snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
        v->byte_token[b] = sh_vocab_find(v, sh_str_from(name));
        if (v->byte_token[b] < 0) v->byte_token[b] = sh_vocab_find(v, (struct sh_str){&raw, 1});
    }
}

enum shoal_status sh_vocab_set_pieces(struct sh_vocab *v, struct sh_str *syms)
{
    size_t total = (size_t)v->n_tokens; // a byte that is spelled out has both forms
    char *dst;

    for (int32_t i = 0; i < v->n_tokens; i++)
        total += v->texts[i].len;
    v->pieces = sh_arena_calloc(&v->arena, (size_t)v->n_tokens, sizeof *v->pieces);
    dst = sh_arena_calloc(&v->arena, total, 1);
    if (!v->pieces || !dst) return SHOAL_ERR_NOMEM;

    for (int32_t i = 0; i < v->n_tokens; i++) {
        const struct sh_str text = v->texts[i];
        const int byte = v->types[i] == SH_TOKEN_BYTE ? spelled_byte(text) : -1;
        struct sh_str made = {dst, 0};
        bool clean = true;

        made.len = syms ? sh_alphabet_decode(dst, text, &clean) : unescape(dst, text);
        if (syms) syms[i] = clean ? made : (struct sh_str){NULL, 0};
        dst += made.len;
        if (byte >= 0) {
            *dst = (char)byte;
            made = (struct sh_str){dst++, 1};
        }
        switch ((enum sh_token_type)v->types[i]) {
        case SH_TOKEN_CONTROL:
        case SH_TOKEN_UNKNOWN:
        case SH_TOKEN_USER_DEFINED:
            v->pieces[i] = text;
            break;
        case SH_TOKEN_UNUSED:
        case SH_TOKEN_UNDEFINED:
            v->pieces[i] = SH_STR_EMPTY;
            break;
        default:
            v->pieces[i] = made;
            break;
        }
    }
    if (!syms) set_byte_tokens(v);
    return SHOAL_OK;
}
