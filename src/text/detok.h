/* text/detok.h - token ids to text, as a stream.
 *
 * What comes out is UTF-8 at every moment: bytes of a character that is not complete yet are kept
 * back until it is.  Bytes that no continuation can complete come out as U+FFFD, one for each
 * broken start of a character.
 * Threads: one at a time; the vocabulary is borrowed and must live as long.
 */
#ifndef TEXT_DETOK_H
#define TEXT_DETOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "text/vocab.h"

struct sh_detok_options {
    bool special;      /* show control tokens as their text; otherwise they come out as nothing */
    bool continuation; /* the ids go on from an earlier text: keep the first one's space */
};

struct sh_detok { /* nothing to release */
    const struct sh_vocab *v;
    bool special, at_start;
    uint8_t n_held;
    char held[4]; /* a character that is not complete */
};

/* `options` may be NULL: all false. */
void sh_detok_init(struct sh_detok *d, const struct sh_vocab *v,
                   const struct sh_detok_options *options);
/* Append to `out` what is complete once `id` has come.  ERR_ARG for an id that is no token,
 * ERR_NOMEM. */
SHOAL_NODISCARD enum shoal_status sh_detok_feed(struct sh_detok *d, int32_t id, struct sh_buf *out,
                                                struct shoal_error *err);
/* The end of the stream: append U+FFFD for an incomplete character, if there is one. */
SHOAL_NODISCARD enum shoal_status sh_detok_finish(struct sh_detok *d, struct sh_buf *out,
                                                  struct shoal_error *err);

#endif
