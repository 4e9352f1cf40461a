/* base/log_limit.c - lines per second, by the whole second. */
#include "base/log_limit.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/log.h"

void sh_log_limit_init(struct sh_log_limit *l, const char *part, int lines_max)
{
    *l = (struct sh_log_limit){.part = part, .lines_max = lines_max, .second = INT64_MIN};
    sh_mutex_init(&l->lock);
}

static void log_left_out(const struct sh_log_limit *l, uint64_t n)
{
    const struct sh_log_field fields[] = {sh_log_text("event", NULL, "left_out"),
                                          sh_log_count("lines", NULL, n)};

    if (n == 0) return;
    sh_log_fields(SH_LOG_WARN, l->part, fields, 2,
                  "%" PRIu64 " more lines in an earlier second were left out", n);
}

bool sh_log_limit_may(struct sh_log_limit *l)
{
    const int64_t second = sh_now_ns(&sh_clock_system) / SH_SECOND;
    uint64_t left_out = 0;
    bool may;

    sh_mutex_lock(&l->lock);
    if (second != l->second) {
        left_out = l->n_left_out;
        l->second = second;
        l->n_left_out = 0;
        l->n_lines = 0;
    }
    may = l->n_lines < l->lines_max;
    if (may) {
        l->n_lines++;
    } else {
        l->n_left_out++;
    }
    sh_mutex_unlock(&l->lock);
    log_left_out(l, left_out);
    return may;
}

void sh_log_limit_release(struct sh_log_limit *l)
{
    log_left_out(l, l->n_left_out);
    sh_mutex_release(&l->lock);
}
