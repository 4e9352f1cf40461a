/* cmd/log_line.h - a log record as one line: for people, or as a JSON object for programs.
 *
 * For people:     2026-03-01T12:00:00Z info  ggmlrpc: message          in 1.2 MB  graphs    12
 * For programs:   {"time":"2026-03-01T12:00:00.250Z","level":"info","part":"ggmlrpc",
 *                  "message":"message","bytes_in":1200000,"graphs":12}
 *
 * Texts may hold any bytes: they come from files and peers.  People see '?' for what a terminal
 * might obey; JSON has it escaped, and U+FFFD for bytes that are no UTF-8.
 * Nothing is allocated: a line may tell of missing memory.  Threads: any; no state.
 */
#ifndef CMD_LOG_LINE_H
#define CMD_LOG_LINE_H

#include <stddef.h>
#include <time.h>

#include "base/log.h"
#include "base/str.h"

/* Most bytes of a line, newline included: what a pipe takes at once, so that lines of several
 * threads do not mix.  Longer texts are cut and end in "..."; fields that find no room are left
 * out. */
#define SH_LOG_LINE_BYTES 4096

/* Both return the bytes written, newline included.  For people `when` may be NULL: "shoal:
 * warning: ..." instead of time and level. */
size_t sh_log_line_text(char dst[SH_LOG_LINE_BYTES], const struct sh_log_record *r,
                        const struct timespec *when);
size_t sh_log_line_json(char dst[SH_LOG_LINE_BYTES], const struct sh_log_record *r,
                        const struct timespec *when);

/* Append `s` with what a terminal might obey (control characters, bytes that are no UTF-8) as
 * '?'; the same in place. */
SHOAL_NODISCARD enum shoal_status sh_append_harmless(struct sh_buf *out, struct sh_str s);
void sh_make_harmless(char *text);

#endif
