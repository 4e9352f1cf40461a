/* base/log_limit.h - at most so many lines a second of what strangers can cause; the rest counted.
 *
 * Threads: any.
 */
#ifndef BASE_LOG_LIMIT_H
#define BASE_LOG_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/thread.h"

struct sh_log_limit {
    const char *part;
    int lines_max; /* per second */

    struct sh_mutex lock; /* guards everything below */
    int64_t second;
    int n_lines;
    uint64_t n_left_out;
};

void sh_log_limit_init(struct sh_log_limit *l, const char *part, int lines_max);
/* Logs what is still counted. */
void sh_log_limit_release(struct sh_log_limit *l);
/* May a line be logged now?  If not it is counted, and the count is logged in a later second. */
bool sh_log_limit_may(struct sh_log_limit *l);

#endif
