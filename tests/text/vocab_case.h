/* tests/text/vocab_case.h - one text and the ids it must give.  Threads: one. */
#ifndef TESTS_TEXT_VOCAB_CASE_H
#define TESTS_TEXT_VOCAB_CASE_H

#include "text/vocab.h"

/* Does `text` give `ids` (decimal, separated by blanks)?  Prints both sides if not.  Without
 * special tokens it must also come back from its ids; if not, the test fails. */
bool vocab_case_holds(const struct sh_vocab *v, struct sh_str text, bool add, bool parse,
                      const char *ids);

#endif
