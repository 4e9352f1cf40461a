/* base/log.c - formatting a line and handing it to the one sink.
 *
 * The sink is written once, before threads start, and only read after that.  A line is cut at a
 * kilobyte, and control bytes in it (names come from files and peers) become '?'.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

#define LINE_BYTES_MAX 1024

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

void sh_log(enum sh_log_level level, const char *part, const char *fmt, ...)
{
    char line[LINE_BYTES_MAX];
    va_list args;
    int len;

    if (!g_log.sink || level > g_log.most) return;
    va_start(args, fmt);
    len = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (len < 0) return;
    for (char *s = line; *s; s++) {
        if ((unsigned char)*s < 0x20 || *s == 0x7f) *s = '?';
    }
    g_log.sink(g_log.user, level, part, line);
}
