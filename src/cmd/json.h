/* cmd/json.h - building one JSON object and writing it as a line, for --json.
 *
 * Building goes on after a failure: `ok` keeps that there was one, and the writer says it once.
 * Threads: as Jansson's: a value is its owner's.
 */
#ifndef CMD_JSON_H
#define CMD_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

/* The object to write, made before anything that goes into it: from here on Jansson takes its
 * memory from base/mem.h. */
json_t *sh_json_begin(void);
/* Both take the value over; NULL is a failure. */
void sh_json_put(json_t *object, const char *key, json_t *value, bool *ok);
void sh_json_push(json_t *array, json_t *value, bool *ok);
/* Text from peers and files: what is no UTF-8 becomes harmless.  NULL: no memory. */
json_t *sh_json_text(struct sh_str s);
json_t *sh_json_count(uint64_t n); /* at most INT64_MAX */

/* The object and a newline, its reals with so many digits; takes it over.  ERR_NOMEM, also where
 * `ok` is false; the second writes to stdout. */
SHOAL_NODISCARD enum shoal_status sh_json_line(struct sh_buf *out, json_t *object, bool ok,
                                               size_t digits, struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_json_write(json_t *object, bool ok, size_t digits,
                                                struct shoal_error *err);

#endif
