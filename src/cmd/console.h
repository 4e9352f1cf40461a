/* cmd/console.h - what the program says: results to stdout, all else to stderr.
 *
 * Results go through sh_write_all(), which knows that a pipe may be full for long, closed, or
 * that a disk has no room.  Messages are one line each; names and sentences that come from files
 * and peers are shown with control characters made harmless.
 * Threads: any; messages of several threads do not mix within a line.
 */
#ifndef CMD_CONSOLE_H
#define CMD_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/log.h"
#include "base/str.h"

#define SH_EXIT_FAILED 1
#define SH_EXIT_USAGE 2

/* Make sure that descriptors 0 to 2 are taken, so that no file or socket can end up there. */
void sh_console_guard(void);

/* "shoal: <sentence>" on stderr; the second for what failed. */
void sh_say(const char *fmt, ...) SHOAL_PRINTF(1, 2);
void sh_say_error(const char *fmt, ...) SHOAL_PRINTF(1, 2);
/* Text for stderr as it is (reports, tables); left out where stderr is JSON. */
void sh_say_text(struct sh_str text);
/* Say what failed and give the exit code: 130 after an interrupt, 1 otherwise.  A reader that has
 * closed our stdout is not worth a sentence. */
int sh_say_failure(enum shoal_status st, const struct shoal_error *err);

/* Write everything to a descriptor, waiting as long as it takes, until an interrupt: then
 * ERR_CANCELLED.  `name` is for the message ("stdout"). */
SHOAL_NODISCARD enum shoal_status sh_write_all(int fd, const char *name, struct sh_str text,
                                               struct shoal_error *err);
/* Everything that a file, pipe or (path "-") stdin holds, at most max_bytes; the same rule. */
SHOAL_NODISCARD enum shoal_status sh_read_all(struct sh_buf *out, const char *path,
                                              size_t max_bytes, struct shoal_error *err);

/* How what goes to stderr looks from now on: log lines with a time where `timed`; or, `json`, all
 * of it as one JSON object per line, without reports and bars.  Call it before threads start. */
void sh_console_begin(const char *command, bool timed, bool json);
/* Does a command line ask for JSON?  Known before it is parsed, since parsing has things to say. */
bool sh_console_wants_json(int argc, char **argv);
/* Log lines up to `most` to stderr; one that cannot be written within a second is lost. */
void sh_console_log(enum sh_log_level most);

bool sh_stderr_is_terminal(void); /* and may bars be drawn there? */

/* Bytes for a person: "98.4 MB". */
struct sh_short {
    char text[24];
};
struct sh_short sh_show_bytes(double bytes);

#endif
