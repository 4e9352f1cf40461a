/* cmd/progress.h - how far a long task has come: a bar on a terminal, a line now and then in a
 * pipe.
 *
 * Nothing is shown of what takes less than a second.  Threads: one at a time.
 */
#ifndef CMD_PROGRESS_H
#define CMD_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct sh_progress {
    const char *what; /* "loading" */
    bool in_bytes;    /* show amounts as bytes */
    bool terminal, shown;
    int64_t began_ns, last_ns;
    int last_percent;
};

void sh_progress_init(struct sh_progress *p, const char *what, bool in_bytes);
void sh_progress_step(struct sh_progress *p, uint64_t done, uint64_t total);
/* Take the bar away. */
void sh_progress_end(struct sh_progress *p);

#endif
