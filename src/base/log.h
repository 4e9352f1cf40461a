/* base/log.h - one log sink for the process; silent until `cmd` installs one.
 *
 * Levels by frequency: ERROR what a person must act on, WARN what degrades service, INFO once per
 * session or load, DEBUG once per graph or connection event, TRACE once per step.  Nothing below
 * `cmd` prints otherwise.  Threads: any; the sink is called under no lock of ours and must be
 * thread-safe.  sh_log_set_sink() is called once, before threads start.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <shoal/status.h>

enum sh_log_level { SH_LOG_ERROR, SH_LOG_WARN, SH_LOG_INFO, SH_LOG_DEBUG, SH_LOG_TRACE };

/* `line` has no newline. */
typedef void sh_log_sink(void *user, enum sh_log_level level, const char *part, const char *line);

void sh_log_set_sink(sh_log_sink *sink, void *user, enum sh_log_level most);
/* `part` is the folder's name ("ggmlrpc"). */
void sh_log(enum sh_log_level level, const char *part, const char *fmt, ...) SHOAL_PRINTF(3, 4);

#endif
