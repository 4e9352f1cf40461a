/* cmd/console.c - descriptors, messages and the log sink. */
#include "cmd/console.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cmd/interrupt.h"
#include "text/unicode.h"

#define LINE_BYTES_MAX 2048
#define READ_BYTES 16384

const char *const sh_log_level_words = "error|warn|info|debug|trace";

void sh_console_guard(void)
{
    // Opened the wrong way round, so that using what was closed still fails.
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
    }
}

bool sh_stderr_is_terminal(void)
{
    return isatty(STDERR_FILENO) == 1;
}

/* ---- messages ------------------------------------------------------------------------------- */

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

// The same in place, without memory: for lines that tell of its lack.
static void make_harmless(char *line)
{
    size_t len = strlen(line), to = 0;

    for (size_t at = 0; at < len;) {
        const struct sh_utf8_unit u = sh_utf8_next(line + at, len - at);
        if (is_harmless(u)) {
            memmove(line + to, line + at, u.n_bytes);
            to += u.n_bytes;
        } else {
            line[to++] = '?';
        }
        at += u.n_bytes;
    }
    line[to] = '\0';
}

// Messages are lost quietly when nobody can read them.
static void write_stderr(const char *p, size_t len)
{
    while (len > 0) {
        const ssize_t n = write(STDERR_FILENO, p, len);
        if (n < 0 && errno == EINTR && !sh_interrupted()) continue;
        if (n <= 0) return;
        p += n;
        len -= (size_t)n;
    }
}

void sh_say_text(struct sh_str text)
{
    write_stderr(text.ptr, text.len);
}

// `line` has room for one byte more.
static void say_line(char *line)
{
    make_harmless(line);
    const size_t len = strlen(line);
    line[len] = '\n';
    write_stderr(line, len + 1);
}

void sh_say(const char *fmt, ...)
{
    static const char prefix[] = "shoal: ";
    char line[LINE_BYTES_MAX + 1];
    const size_t skip = sizeof prefix - 1;
    va_list args;

    memcpy(line, prefix, sizeof prefix);
    va_start(args, fmt);
    (void)vsnprintf(line + skip, LINE_BYTES_MAX - skip, fmt, args);
    va_end(args);
    say_line(line);
}

int sh_say_failure(enum shoal_status st, const struct shoal_error *err)
{
    if (sh_interrupted()) {
        sh_say("interrupted");
        return SH_EXIT_INTERRUPTED;
    }
    if (err->sys_errno == EPIPE && strncmp(err->message, "stdout: ", 8) == 0) return SH_EXIT_FAILED;
    sh_say("%s", err->message[0] ? err->message : shoal_status_name(st));
    return SH_EXIT_FAILED;
}

/* ---- the log -------------------------------------------------------------------------------- */

static void log_plain(void *user, enum sh_log_level level, const char *part, const char *line)
{
    (void)user;
    if (level <= SH_LOG_WARN) {
        sh_say("%s: %s: %s", level == SH_LOG_ERROR ? "error" : "warning", part, line);
    } else {
        sh_say("%s: %s", part, line);
    }
}

static void log_timed(void *user, enum sh_log_level level, const char *part, const char *line)
{
    static const char *const names[] = {"error", "warn ", "info ", "debug", "trace"};
    char text[LINE_BYTES_MAX + 1], when[32] = "";
    const time_t now = time(NULL);
    struct tm tm;

    (void)user;
    if (gmtime_r(&now, &tm)) (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    (void)snprintf(text, LINE_BYTES_MAX, "%s %s %s: %s", when, names[level], part, line);
    say_line(text);
}

void sh_console_log(enum sh_log_level most, bool timed)
{
    sh_log_set_sink(timed ? log_timed : log_plain, NULL, most);
}

/* ---- descriptors ---------------------------------------------------------------------------- */

// Until `fd` is ready for `events`, or an interrupt.  Polling first keeps a signal that comes
// between a check and a blocking call from being missed.
static enum shoal_status wait_for(int fd, short events, const char *name, struct shoal_error *err)
{
    struct pollfd p[2] = {{.fd = fd, .events = events},
                          {.fd = sh_interrupt_fd(), .events = POLLIN}};

    while (poll(p, 2, -1) < 0) {
        if (errno != EINTR && errno != EAGAIN)
            return sh_fail_errno(err, SHOAL_ERR_IO, errno, "%s: cannot wait", name);
    }
    if (sh_interrupted()) return sh_fail(err, SHOAL_ERR_CANCELLED, "interrupted");
    return SHOAL_OK;
}

enum shoal_status sh_write_all(int fd, const char *name, struct sh_str text,
                               struct shoal_error *err)
{
    struct stat info;
    // A pipe that polls as writable takes this much without blocking; files never block.
    const bool is_file = fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
    const size_t most = is_file ? (size_t)1 << 20 : PIPE_BUF;

    while (text.len > 0) {
        enum shoal_status st = wait_for(fd, POLLOUT, name, err);
        if (st) return st;
        const ssize_t n = write(fd, text.ptr, text.len < most ? text.len : most);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n < 0) return sh_fail_errno(err, SHOAL_ERR_IO, errno, "%s: cannot write", name);
        text.ptr += n;
        text.len -= (size_t)n;
    }
    return SHOAL_OK;
}

static enum shoal_status read_some(int fd, struct sh_buf *out, const char *name, size_t max_bytes,
                                   bool *end, struct shoal_error *err)
{
    char block[READ_BYTES];
    enum shoal_status st = wait_for(fd, POLLIN, name, err);

    if (st) return st;
    const ssize_t n = read(fd, block, sizeof block);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return SHOAL_OK;
    if (n < 0) return sh_fail_errno(err, SHOAL_ERR_IO, errno, "%s: cannot read", name);
    *end = n == 0;
    if ((size_t)n > max_bytes - out->len)
        return sh_fail(err, SHOAL_ERR_LIMIT, "%s: longer than %zu bytes", name, max_bytes);
    if (sh_buf_append(out, block, (size_t)n))
        return sh_fail(err, SHOAL_ERR_NOMEM, "%s: no memory to read it", name);
    return SHOAL_OK;
}

enum shoal_status sh_read_all(struct sh_buf *out, const char *path, size_t max_bytes,
                              struct shoal_error *err)
{
    const bool is_stdin = strcmp(path, "-") == 0;
    const char *name = is_stdin ? "stdin" : path;
    const int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    enum shoal_status st = SHOAL_OK;
    bool end = false;

    if (fd < 0) return sh_fail_errno(err, SHOAL_ERR_IO, errno, "%s: cannot open", path);
    while (!st && !end)
        st = read_some(fd, out, name, max_bytes, &end, err);
    if (!is_stdin) (void)close(fd);
    return st;
}

/* ---- figures -------------------------------------------------------------------------------- */

struct sh_short sh_show_bytes(double bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    struct sh_short s;
    int unit = 0;

    while (bytes >= 999.95 && unit < 4) {
        bytes /= 1000;
        unit++;
    }
    (void)snprintf(s.text, sizeof s.text, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
    return s;
}
