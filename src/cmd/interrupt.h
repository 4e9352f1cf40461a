/* cmd/interrupt.h - Ctrl-C: the first one asks for an end, the second one takes it.
 *
 * The handler sets a flag, makes a descriptor readable (so that whoever polls wakes up) and calls
 * one function that must be async-signal-safe.  SIGINT, SIGTERM and SIGHUP are treated alike; the
 * second signal ends the process at once with code 130.  SIGPIPE is ignored.
 *
 * Threads: install once, from the main thread, before others start; the rest from any.
 */
#ifndef CMD_INTERRUPT_H
#define CMD_INTERRUPT_H

#include <stdbool.h>

#include "base/error.h"

#define SH_EXIT_INTERRUPTED 130

SHOAL_NODISCARD enum shoal_status sh_interrupt_install(struct shoal_error *err);
/* Called at the first signal, from the handler; NULL: nothing.  If that signal has come before
 * this call, the function is called here. */
void sh_interrupt_call(void (*fn)(void *arg), void *arg);
/* From the first signal on, end within so many seconds, or the process ends as at the second
 * signal (a peer that is frozen cannot be waited for).  0: take all the time (a server drains). */
void sh_interrupt_set_grace(unsigned seconds);
/* Giving up then says nothing: stderr holds what programs read. */
void sh_interrupt_be_quiet(void);
bool sh_interrupted(void);
/* Readable from the first signal on; never read from it. */
int sh_interrupt_fd(void);

#endif
