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
 * come out as \n, \t, \r or \u{NN}, invalid bytes as \xNN, a backslash doubled.  With
 * `quoted` it stands in double quotes, and those in it are escaped.  After `max` characters it is
 * cut with "...".  *width counts the characters appended. */
SHOAL_NODISCARD enum shoal_status sh_gguf_escape(struct sh_buf *out, struct sh_str s, size_t max,
                                                 bool quoted, size_t *width);

/* Does the character act on a terminal, or on the order of text, instead of showing? */
bool sh_gguf_char_acts(int32_t c);

/* Append `s` as a JSON string with its quotes.  Invalid bytes become U+FFFD; characters that act
 * are escaped. */
SHOAL_NODISCARD enum shoal_status sh_gguf_json_quote(struct sh_buf *out, struct sh_str s);

/* The shortest decimal that reads back as the same number; "nan", "inf", "-inf". */
struct sh_gguf_decimal {
    char text[40];
};
struct sh_gguf_decimal sh_gguf_show_double(double d, bool is_f32);
/* 1234567 as "1,234,567". */
struct sh_gguf_decimal sh_gguf_show_count(uint64_t n);

#endif
