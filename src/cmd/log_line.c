/* cmd/log_line.c - see log_line.h. */
#include "cmd/log_line.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cmd/console.h"
#include "text/unicode.h"

#define MESSAGE_COLUMNS 56 // fields of lines with the usual message stand below each other
#define JSON_MESSAGE_MAX 2048
#define JSON_TEXT_MAX 512

static const char *const level_names[] = {"error", "warn", "info", "debug", "trace"};

struct line {
    char *at, *end;
    bool full; // something did not fit
};

static void put(struct line *l, const char *p, size_t n)
{
    if (n > (size_t)(l->end - l->at)) {
        l->full = true;
        return;
    }
    memcpy(l->at, p, n);
    l->at += n;
}

static void put_format(struct line *l, const char *fmt, ...) SHOAL_PRINTF(2, 3);
static void put_format(struct line *l, const char *fmt, ...)
{
    char text[128];
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n > 0) put(l, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

/* RFC 3339, UTC. */
static void put_time(struct line *l, const struct timespec *when, bool with_ms)
{
    char text[32] = "";
    struct tm tm;

    if (gmtime_r(&when->tv_sec, &tm)) (void)strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    put(l, text, strlen(text));
    if (with_ms) put_format(l, ".%03d", (int)(when->tv_nsec / 1000000));
    put(l, "Z", 1);
}

/* ---- for people ----------------------------------------------------------------------------- */

// A unit that a terminal may be shown: no control characters of either set.
static bool is_harmless(struct sh_utf8_unit u)
{
    return u.kind == SH_UTF8_VALID && u.cp >= 0x20 && (u.cp < 0x7f || u.cp > 0x9f);
}

enum shoal_status sh_append_harmless(struct sh_buf *out, struct sh_str s)
{
    const size_t before = out->len;
    enum shoal_status st = SHOAL_OK;

    for (size_t at = 0; at < s.len && !st;) {
        const struct sh_utf8_unit u = sh_utf8_next(s.ptr + at, s.len - at);
        st =
            is_harmless(u) ? sh_buf_append(out, s.ptr + at, u.n_bytes) : sh_buf_append(out, "?", 1);
        at += u.n_bytes;
    }
    if (st) out->len = before;
    return st;
}

void sh_make_harmless(char *text)
{
    size_t len = strlen(text), to = 0;

    for (size_t at = 0; at < len;) {
        const struct sh_utf8_unit u = sh_utf8_next(text + at, len - at);
        if (is_harmless(u)) {
            memmove(text + to, text + at, u.n_bytes);
            to += u.n_bytes;
        } else {
            text[to++] = '?';
        }
        at += u.n_bytes;
    }
    text[to] = '\0';
}

static void put_cut(struct line *l, const char *text)
{
    const size_t room = (size_t)(l->end - l->at), len = strlen(text);

    if (len <= room) {
        put(l, text, len);
    } else if (room >= 3) {
        put(l, text, room - 3);
        put(l, "...", 3);
    }
}

static void put_field(struct line *l, const struct sh_log_field *f)
{
    char *const before = l->at;

    if (!f->label) return;
    put_format(l, "  %s ", f->label);
    switch (f->kind) {
    case SH_LOG_TEXT:
        put(l, f->value.text, strlen(f->value.text));
        break;
    case SH_LOG_COUNT:
        put_format(l, "%4" PRIu64, f->value.count);
        break;
    case SH_LOG_BYTES:
        put_format(l, "%8s", sh_show_bytes((double)f->value.count).text);
        break;
    case SH_LOG_SECONDS:
        put_format(l, "%7.2f s", f->value.seconds);
        break;
    }
    if (l->full) l->at = before;
    l->full = false;
}

size_t sh_log_line_text(char dst[SH_LOG_LINE_BYTES], const struct sh_log_record *r,
                        const struct timespec *when)
{
    struct line l = {.at = dst, .end = dst + SH_LOG_LINE_BYTES - 1};
    bool has_fields = false;
    char *message;

    if (when) {
        put_time(&l, when, false);
        put_format(&l, " %-5s %s: ", level_names[r->level], r->part);
    } else {
        static const char *const words[] = {"error: ", "warning: "};
        put_format(&l, "shoal: %s%s: ", r->level <= SH_LOG_WARN ? words[r->level] : "", r->part);
    }
    message = l.at;
    put_cut(&l, r->message);
    for (int i = 0; i < r->n_fields; i++)
        has_fields = has_fields || r->fields[i].label;
    while (has_fields && l.at - message < MESSAGE_COLUMNS)
        put(&l, " ", 1);
    for (int i = 0; i < r->n_fields; i++)
        put_field(&l, &r->fields[i]);
    *l.at = '\0';
    sh_make_harmless(dst);
    l.at = dst + strlen(dst);
    *l.at++ = '\n';
    return (size_t)(l.at - dst);
}

/* ---- for programs --------------------------------------------------------------------------- */

/* The escaped form of one unit of text; bytes of it. */
static size_t escape(char out[8], const char *p, struct sh_utf8_unit u)
{
    if (u.kind == SH_UTF8_VALID && (u.cp == '"' || u.cp == '\\'))
        return (size_t)snprintf(out, 8, "\\%c", (int)u.cp);
    if (!is_harmless(u)) return (size_t)snprintf(out, 8, "\\u%04x", (unsigned)u.cp & 0xffff);
    memcpy(out, p, u.n_bytes);
    return u.n_bytes;
}

/* A string of at most `most` bytes between its quotes. */
static void put_json_text(struct line *l, const char *text, size_t most)
{
    const size_t len = strlen(text);
    size_t used = 0;

    put(l, "\"", 1);
    for (size_t at = 0; at < len;) {
        const struct sh_utf8_unit u = sh_utf8_next(text + at, len - at);
        char piece[8];
        const size_t n = escape(piece, text + at, u);
        if (used + n + 3 > most) {
            put(l, "...", 3);
            break;
        }
        put(l, piece, n);
        used += n;
        at += u.n_bytes;
    }
    put(l, "\"", 1);
}

static void put_json_field(struct line *l, const struct sh_log_field *f)
{
    char *const before = l->at;

    put_format(l, ",\"%s\":", f->name);
    switch (f->kind) {
    case SH_LOG_TEXT:
        put_json_text(l, f->value.text, JSON_TEXT_MAX);
        break;
    case SH_LOG_COUNT:
    case SH_LOG_BYTES:
        put_format(l, "%" PRIu64, f->value.count);
        break;
    case SH_LOG_SECONDS:
        if (isfinite(f->value.seconds)) {
            put_format(l, "%.6f", f->value.seconds);
        } else {
            put(l, "null", 4);
        }
        break;
    }
    if (l->full) l->at = before;
    l->full = false;
}

size_t sh_log_line_json(char dst[SH_LOG_LINE_BYTES], const struct sh_log_record *r,
                        const struct timespec *when)
{
    struct line l = {.at = dst, .end = dst + SH_LOG_LINE_BYTES - 2};

    put_format(&l, "{\"time\":\"");
    put_time(&l, when, true);
    put_format(&l, "\",\"level\":\"%s\",\"part\":\"%s\",\"message\":", level_names[r->level],
               r->part);
    put_json_text(&l, r->message, JSON_MESSAGE_MAX);
    for (int i = 0; i < r->n_fields; i++)
        put_json_field(&l, &r->fields[i]);
    *l.at++ = '}';
    *l.at++ = '\n';
    return (size_t)(l.at - dst);
}
