/* base/error.c - error records: one sentence, always terminated, never more than one line. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *shoal_status_name(enum shoal_status st)
{
    switch (st) {
#define X(name, value, text)                                                                       \
    case SHOAL_##name:                                                                             \
        return #name;
        SHOAL_STATUSES(X)
#undef X
    }
    return "ERR_UNKNOWN";
}

/* Messages quote names from files and peers: control bytes must not reach a terminal. */
static void keep_one_line(char *s)
{
    for (; *s; s++) {
        if ((unsigned char)*s < 0x20 || *s == 0x7f) *s = '?';
    }
}

SHOAL_PRINTF(3, 0)
static void write_message(struct shoal_error *err, enum shoal_status code, const char *fmt,
                          va_list args)
{
    err->code = code;
    err->sys_errno = 0;
    err->peer[0] = '\0';
    if (vsnprintf(err->message, sizeof err->message, fmt, args) < 0) err->message[0] = '\0';
}

enum shoal_status sh_fail(struct shoal_error *err, enum shoal_status code, const char *fmt, ...)
{
    va_list args;

    if (!err) return code;
    va_start(args, fmt);
    write_message(err, code, fmt, args);
    va_end(args);
    keep_one_line(err->message);
    return code;
}

enum shoal_status sh_fail_errno(struct shoal_error *err, enum shoal_status code, int sys_errno,
                                const char *fmt, ...)
{
    char text[128];
    size_t len;
    va_list args;

    if (!err) return code;
    va_start(args, fmt);
    write_message(err, code, fmt, args);
    va_end(args);
    err->sys_errno = sys_errno;
    len = strlen(err->message);
    // The GNU form: it may return a constant string and leave `text` alone.
    (void)snprintf(err->message + len, sizeof err->message - len, ": %s",
                   strerror_r(sys_errno, text, sizeof text));
    keep_one_line(err->message);
    return code;
}

void sh_error_set_peer(struct shoal_error *err, const char *peer)
{
    if (!err) return;
    (void)snprintf(err->peer, sizeof err->peer, "%s", peer ? peer : "");
    keep_one_line(err->peer);
}

void sh_assert_failed(const char *file, int line, const char *expr)
{
    (void)fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, expr);
    abort();
}
