/* engine/vocab_file.h - the vocabulary of a model file: GGUF's `tokenizer.ggml.*` keys as a
 * struct sh_vocab. */
#ifndef ENGINE_VOCAB_FILE_H
#define ENGINE_VOCAB_FILE_H

#include "gguf/file.h"
#include "text/vocab.h"

/* Copies what it needs.  A file without a tokenizer gives a vocabulary of kind "none" with
 * `n_vocab` ids. */
SHOAL_NODISCARD enum shoal_status sh_vocab_from_file(struct sh_vocab **out, const struct sh_gguf *g,
                                                     int64_t n_vocab, struct shoal_error *err);

#endif
