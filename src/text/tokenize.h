/* text/tokenize.h - text to token ids.
 *
 * Special tokens are cut out of the text first; what lies between them is encoded fragment by
 * fragment, and nothing looks across a fragment's border.  The time is O(n log n) in the text for
 * any text and any vocabulary.
 * Threads: a vocabulary may be used by any number of threads; each call has its own scratch.
 */
#ifndef TEXT_TOKENIZE_H
#define TEXT_TOKENIZE_H

#include <stdbool.h>

#include "base/str.h"
#include "text/ids.h"
#include "text/vocab.h"

#define SH_TOKENIZE_BYTES_MAX ((size_t)1 << 30)

/* Append the ids of `text` to `out`, which on failure is as it was.
 * add_special: BOS before and EOS behind, as the vocabulary says.
 * parse_special: control tokens spelled in the text become those tokens (for rendered templates);
 * without it they stay text (for what users write).  User-defined tokens are found either way.
 * Bytes that are no UTF-8 count as U+FFFD (BPE) or as themselves (SPM).
 * ERR_LIMIT for too long a text or one on which a pattern gives up, ERR_UNSUPPORTED for a
 * vocabulary without text, ERR_NOMEM. */
SHOAL_NODISCARD enum shoal_status sh_tokenize(const struct sh_vocab *v, struct sh_str text,
                                              bool add_special, bool parse_special,
                                              struct sh_ids *out, struct shoal_error *err);

#endif
