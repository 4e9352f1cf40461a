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
#include "cmd/log_line.h"

#define LINE_BYTES_MAX 2048
#define READ_BYTES 16384
#define LOG_WAIT_MS 1000

static struct { // set before threads start
    const char *command;
    bool timed, json;
} g_console = {.command = "shoal"};

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
    return !g_console.json && isatty(STDERR_FILENO) == 1;
}

/* ---- messages ------------------------------------------------------------------------------- */

static struct timespec time_now(void)
{
    struct timespec now = {0};

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return now;
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
    if (!g_console.json) write_stderr(text.ptr, text.len);
}

// A message of the program itself.  One that is too long loses its end.
static void say(enum sh_log_level level, const char *fmt, va_list args) SHOAL_PRINTF(2, 0);
static void say(enum sh_log_level level, const char *fmt, va_list args)
{
    char message[LINE_BYTES_MAX], line[SH_LOG_LINE_BYTES];
    const struct sh_log_record r = {.level = level, .part = g_console.command, .message = message};
    size_t len;

    if (vsnprintf(message, sizeof message, fmt, args) < 0) return;
    if (g_console.json) {
        const struct timespec when = time_now();
        len = sh_log_line_json(line, &r, &when);
    } else {
        sh_make_harmless(message);
        len = (size_t)snprintf(line, sizeof line, "shoal: %s\n", message);
    }
    write_stderr(line, len);
}

void sh_say(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    say(SH_LOG_INFO, fmt, args);
    va_end(args);
}

void sh_say_error(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    say(SH_LOG_ERROR, fmt, args);
    va_end(args);
}

int sh_say_failure(enum shoal_status st, const struct shoal_error *err)
{
    if (sh_interrupted()) {
        sh_say_error("interrupted");
        return SH_EXIT_INTERRUPTED;
    }
    if (err->sys_errno == EPIPE && strncmp(err->message, "stdout: ", 8) == 0) return SH_EXIT_FAILED;
    sh_say_error("%s", err->message[0] ? err->message : shoal_status_name(st));
    return SH_EXIT_FAILED;
}

/* ---- the log -------------------------------------------------------------------------------- */

// Who reads the log may have stopped reading: a session must not wait for that.
static bool has_reader(void)
{
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};

    return poll(&p, 1, LOG_WAIT_MS) != 0;
}

static void write_record(void *user, const struct sh_log_record *r)
{
    const struct timespec when = time_now();
    char line[SH_LOG_LINE_BYTES];
    size_t len;

    (void)user;
    if (g_console.json) {
        len = sh_log_line_json(line, r, &when);
    } else {
        len = sh_log_line_text(line, r, g_console.timed ? &when : NULL);
    }
    if (has_reader()) write_stderr(line, len);
}

bool sh_console_wants_json(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--log=json") == 0) return true;
        if (i + 1 < argc && strcmp(argv[i], "--log") == 0 && strcmp(argv[i + 1], "json") == 0)
            return true;
    }
    return false;
}

void sh_console_begin(const char *command, bool timed, bool json)
{
    g_console.command = command;
    g_console.timed = timed;
    g_console.json = json;
    if (json) sh_interrupt_be_quiet();
}

void sh_console_log(enum sh_log_level most)
{
    sh_log_set_sink(write_record, NULL, most);
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
