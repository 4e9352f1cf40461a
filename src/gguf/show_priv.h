/* gguf/show_priv.h - putting bytes from a file in front of a person. */
#ifndef GGUF_SHOW_PRIV_H
#define GGUF_SHOW_PRIV_H

#include "base/str.h"

/* A short quotation for an error message: printable ASCII as it is, other bytes as \xNN, cut with
 * "..." when it would not fit. */
struct sh_gguf_quote {
    char text[104];
};
struct sh_gguf_quote sh_gguf_quote(struct sh_str s);

/* Code point at the front of p[0..len), len > 0: its length in bytes in *n, or -1 and *n = 1 where
 * the bytes are no UTF-8. */
int32_t sh_gguf_utf8_next(const char *p, size_t len, size_t *n);

/* Append `s` for a terminal: UTF-8 stays, control characters and characters that reorder text
 * come out as \n, \t, \r or \u{NN}, invalid bytes as \xNN, a backslash doubled.  After at most
 * `max` characters it is cut with "...".  *width counts the characters appended. */
SHOAL_NODISCARD enum shoal_status sh_gguf_escape(struct sh_buf *out, struct sh_str s, size_t max,
                                                 size_t *width);

/* Append `s` as valid UTF-8: invalid bytes become U+FFFD. */
SHOAL_NODISCARD enum shoal_status sh_gguf_to_utf8(struct sh_buf *out, struct sh_str s);

#endif
