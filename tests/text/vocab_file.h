/* tests/text/vocab_file.h - vocabularies with their cases, as text; make_vocabs.py has the format.
 *
 * The file is read whole and its strings are unescaped where they lie; they live as long as it.
 * A file that is wrong fails the test.  Threads: one.
 */
#ifndef TESTS_TEXT_VOCAB_FILE_H
#define TESTS_TEXT_VOCAB_FILE_H

#include "text/vocab.h"

struct vocab_case {
    struct sh_str text;
    const char *ids; /* decimal, separated by blanks */
    bool add, parse;
};

struct vocab_file {
    char *bytes;
    struct sh_vocab_desc desc;
    struct sh_str *tokens, *merges;
    float *scores;
    int32_t *types;
    char *joined; /* texts of the tokens that merges define */
    struct vocab_case *cases;
    size_t n_cases;
};

void vocab_file_open(struct vocab_file *f, const char *path);
void vocab_file_close(struct vocab_file *f);

/* Unescape s[0..len) in place and return it. */
struct sh_str vocab_file_unescape(char *s, size_t len);

#endif
