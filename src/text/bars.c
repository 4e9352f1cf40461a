/* bars.c - words of vocabularies that write spaces as U+2581, the lower bar.
 *
 * Merging works on whole fragments of text.  But two characters that stand side by side in no
 * token can never be merged, so a fragment may be cut there without changing the result: in
 * practice before every bar that follows something else, which gives words, and words can be
 * cached.
 */
#include "text/unicode.h"
#include "text/vocab_priv.h"

static bool is_bar(struct sh_str s, size_t at)
{
    return s.len - at >= 3 && memcmp(s.ptr + at, SH_UTF8_LOWER_BAR, 3) == 0;
}

void sh_bars_note(struct sh_vocab *v, struct sh_str token)
{
    for (size_t at = 1; at < token.len; at++)
        if (is_bar(token, at) && !(at >= 3 && is_bar(token, at - 3)))
            v->joins_bar[(uint8_t)token.ptr[at - 1]] = true;
}

size_t sh_bars_word_end(const struct sh_vocab *v, struct sh_str text, size_t begin)
{
    bool after_bar = true; // the first character may be one

    for (size_t at = begin, len; at < text.len; at += len) {
        const bool bar = is_bar(text, at);
        if (bar && !after_bar && !v->joins_bar[(uint8_t)text.ptr[at - 1]]) return at;
        len = sh_utf8_promised(text.ptr[at]);
        if (len > text.len - at) len = text.len - at;
        after_bar = bar;
    }
    return text.len;
}
