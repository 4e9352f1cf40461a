/* cmd/progress.h - how far a long task has come: a bar on a terminal, a line now and then in a
 * pipe.
 *
 * Work that several machines do has a bar for each of them on a terminal, and one line for all in a
 * pipe.  Nothing is shown of what takes less than a second.  Threads: one at a time.
 */
#ifndef CMD_PROGRESS_H
#define CMD_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#define SH_PROGRESS_ROWS 32

struct sh_progress_row {
    char label[40];
    uint64_t done, total;
};

struct sh_progress {
    const char *what; /* "loading" */
    bool in_bytes;    /* show amounts as bytes */
    bool terminal, shown;
    int64_t began_ns, last_ns;
    int last_percent;
    struct sh_progress_row row[SH_PROGRESS_ROWS];
    int n_rows;
    int lines; /* above the cursor that are ours */
};

void sh_progress_init(struct sh_progress *p, const char *what, bool in_bytes);
/* One of several machines, row 0 to SH_PROGRESS_ROWS - 1; shown with the next step. */
void sh_progress_row(struct sh_progress *p, int row, const char *label, uint64_t done,
                     uint64_t total);
void sh_progress_step(struct sh_progress *p, uint64_t done, uint64_t total);
/* Take the bar away. */
void sh_progress_end(struct sh_progress *p);

#endif
