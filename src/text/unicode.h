/* text/unicode.h - UTF-8 as bytes that may be wrong.
 *
 * Well formed means Unicode's table 3-7: no overlong forms, no surrogates, nothing above
 * U+10FFFF.  What is wrong is reported by "maximal subparts": the longest start of a well-formed
 * sequence counts as one error, as in most decoders, so that texts agree with theirs.
 * Categories and case come from PCRE2 where patterns need them; nothing here has tables.
 * Threads: any; no state.
 */
#ifndef TEXT_UNICODE_H
#define TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#define SH_CP_REPLACEMENT UINT32_C(0xFFFD)
#define SH_UTF8_REPLACEMENT "\xEF\xBF\xBD"
#define SH_UTF8_LOWER_BAR "\xE2\x96\x81" /* U+2581, which stands for a space in vocabularies */

enum sh_utf8_kind {
    SH_UTF8_VALID,   /* a whole character */
    SH_UTF8_PARTIAL, /* the range ends inside a sequence that further bytes could complete */
    SH_UTF8_BROKEN,  /* no bytes that follow can make this well formed */
};

/* What stands at the start of a byte range. */
struct sh_utf8_unit {
    enum sh_utf8_kind kind;
    uint8_t n_bytes; /* 1..4 taken; for BROKEN the maximal subpart, for PARTIAL all that is left */
    uint32_t cp;     /* the code point of a VALID unit, otherwise U+FFFD */
};
/* `len` >= 1. */
struct sh_utf8_unit sh_utf8_next(const char *s, size_t len);

/* Write `cp` (U+FFFD in place of what is not a scalar value); returns its 1..4 bytes. */
size_t sh_utf8_encode(char dst[4], uint32_t cp);

/* Bytes of the longest well-formed start of s[0..len). */
size_t sh_utf8_valid_len(const char *s, size_t len);

/* Append `s` with U+FFFD for each byte that is not part of a well-formed sequence. */
SHOAL_NODISCARD enum shoal_status sh_utf8_clean(struct sh_buf *out, struct sh_str s);

/* Bytes that a lead byte promises, 1 for a byte that cannot lead: how unchecked text is cut. */
static inline size_t sh_utf8_promised(char lead)
{
    const uint8_t b = (uint8_t)lead;
    return b < 0xC0 ? 1 : b < 0xE0 ? 2 : b < 0xF0 ? 3 : 4;
}

/* The six ASCII characters that C calls space. */
static inline bool sh_is_ascii_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

#endif
