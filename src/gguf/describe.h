/* gguf/describe.h - what is in a GGUF model, for a person or for a program.
 *
 * The text form is aligned tables: the model, its hyper-parameters, its tokenizer, all metadata,
 * every tensor, totals by type.  The JSON form is one object with the same facts; both shorten
 * long arrays and give their length.  Strings from the file are data: control characters and
 * bytes that are no UTF-8 come out escaped, so that a hostile name cannot steer a terminal.
 * Threads: any number, each with its own buffer.
 */
#ifndef GGUF_DESCRIBE_H
#define GGUF_DESCRIBE_H

#include "base/str.h"
#include "gguf/file.h"

enum sh_describe_form { SH_DESCRIBE_TEXT, SH_DESCRIBE_JSON };

/* Append the description of `g` to `out`, ending in a newline.  NOMEM; IO if the file shrank. */
SHOAL_NODISCARD enum shoal_status sh_gguf_describe(const struct sh_gguf *g,
                                                   enum sh_describe_form form, struct sh_buf *out,
                                                   struct shoal_error *err);

#endif
