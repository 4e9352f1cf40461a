/* base/log.c - formatting a message and handing the record to the one sink.
 *
 * The sink is written once, before threads start, and only read after that.  No memory is taken
 * from the heap: lines may tell of its lack.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#define MESSAGE_BYTES_MAX 1024

static struct {
    sh_log_sink *sink; // NULL: silent
    void *user;
    enum sh_log_level most;
} g_log;

void sh_log_set_sink(sh_log_sink *sink, void *user, enum sh_log_level most)
{
    g_log.sink = sink;
    g_log.user = user;
    g_log.most = most;
}

SHOAL_PRINTF(2, 0)
static void hand_over(struct sh_log_record *r, const char *fmt, va_list args) SHOAL_PRINTF(2, 0);
static void hand_over(struct sh_log_record *r, const char *fmt, va_list args)
{
    char message[MESSAGE_BYTES_MAX];

    if (vsnprintf(message, sizeof message, fmt, args) < 0) return;
    r->message = message;
    g_log.sink(g_log.user, r);
}

void sh_log(enum sh_log_level level, const char *part, const char *fmt, ...)
{
    struct sh_log_record r = {.level = level, .part = part};
    va_list args;

    if (!g_log.sink || level > g_log.most) return;
    va_start(args, fmt);
    hand_over(&r, fmt, args);
    va_end(args);
}

void sh_log_fields(enum sh_log_level level, const char *part, const struct sh_log_field *fields,
                   int n_fields, const char *fmt, ...)
{
    struct sh_log_record r = {.level = level, .part = part, .fields = fields, .n_fields = n_fields};
    va_list args;

    if (!g_log.sink || level > g_log.most) return;
    va_start(args, fmt);
    hand_over(&r, fmt, args);
    va_end(args);
}
