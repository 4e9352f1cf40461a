/* tests/text/gguf_desc.h - the vocabulary of a model file, as sh_vocab_create() takes it.
 *
 * Strings are borrowed from the file, which stays open as long.  Threads: one.
 */
#ifndef TESTS_TEXT_GGUF_DESC_H
#define TESTS_TEXT_GGUF_DESC_H

#include "gguf/file.h"
#include "text/vocab.h"

struct gguf_desc {
    struct sh_gguf *file;
    struct sh_vocab_desc desc;
    struct sh_str *tokens, *merges;
    float *scores;
    int32_t *types;
};
#define GGUF_DESC_INIT                                                                             \
    {                                                                                              \
        .file = NULL, .tokens = NULL, .merges = NULL, .scores = NULL, .types = NULL                \
    }

SHOAL_NODISCARD enum shoal_status gguf_desc_open(struct gguf_desc *d, const char *path,
                                                 struct shoal_error *err);
void gguf_desc_close(struct gguf_desc *d);

#endif
