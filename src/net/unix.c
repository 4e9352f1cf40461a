/* net/unix.c - the socket file: made, found stale, removed. */
#include "net/unix_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/un.h>
#include <unistd.h>

_Static_assert(SH_UNIX_PATH_MAX < sizeof((struct sockaddr_un *)0)->sun_path, "the system's limit");

bool sh_unix_is(const char *text)
{
    return strncmp(text, SH_UNIX_PREFIX, strlen(SH_UNIX_PREFIX)) == 0;
}

static const char *path_of(const char *text)
{
    return text + strlen(SH_UNIX_PREFIX);
}

enum shoal_status sh_unix_check(const char *text, struct shoal_error *err)
{
    const char *path = path_of(text);

    if (path[0] != '/' || path[strlen(path) - 1] == '/') {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "address \"%.80s\": behind unix: comes the path of a socket that begins "
                       "with /",
                       text);
    }
    if (strlen(path) > SH_UNIX_PATH_MAX) {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "address \"%.80s...\": the path has %zu letters, and %zu are possible", text,
                       strlen(path), (size_t)SH_UNIX_PATH_MAX);
    }
    return SHOAL_OK;
}

void sh_unix_address(struct sh_address *out, const char *text)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};

    (void)snprintf(un.sun_path, sizeof un.sun_path, "%s", path_of(text));
    memset(out, 0, sizeof *out);
    memcpy(&out->sa, &un, sizeof un);
    out->len = sizeof un;
}

static struct sockaddr_un un_of(const struct sh_address *a)
{
    struct sockaddr_un un;

    memcpy(&un, &a->sa, sizeof un);
    return un;
}

void sh_unix_format(const struct sh_address *a, char *out, size_t n)
{
    const struct sockaddr_un un = un_of(a);
    const bool has_name = a->len > offsetof(struct sockaddr_un, sun_path) && un.sun_path[0];

    (void)snprintf(out, n, "%s%.*s", has_name ? SH_UNIX_PREFIX : "local",
                   has_name ? (int)sizeof un.sun_path : 0, un.sun_path);
}

/* The folder that the socket is in, open and locked; -1 with errno. */
static int lock_folder(const struct sockaddr_un *un)
{
    char folder[sizeof un->sun_path];
    char *slash;
    int fd;

    memcpy(folder, un->sun_path, sizeof folder);
    slash = strrchr(folder, '/');
    slash[slash == folder] = '\0'; // "/" stays
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -1;
    if (flock(fd, LOCK_EX) < 0) {
        const int saved = errno;
        (void)close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

/* A socket's file that nobody listens on. */
static bool is_stale(const struct sockaddr_un *un)
{
    struct stat sb;
    bool stale;
    int fd;

    if (lstat(un->sun_path, &sb) < 0 || !S_ISSOCK(sb.st_mode)) return false;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    stale = connect(fd, (const struct sockaddr *)un, sizeof *un) < 0 && errno == ECONNREFUSED;
    (void)close(fd);
    return stale;
}

/* The file gets the socket's mode when it is made, so it is never open to others. */
static int bind_new(int fd, const struct sockaddr_un *un)
{
    if (fchmod(fd, 0600) < 0) return -1;
    return bind(fd, (const struct sockaddr *)un, sizeof *un);
}

int sh_unix_listen(const struct sh_address *a, int backlog)
{
    const struct sockaddr_un un = un_of(a);
    const int folder = lock_folder(&un);
    int fd = -1, rc = -1, saved;

    if (folder < 0) return -1;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) goto done;
    rc = bind_new(fd, &un);
    if (rc < 0 && errno == EADDRINUSE) {
        if (is_stale(&un) && unlink(un.sun_path) == 0) {
            rc = bind_new(fd, &un);
        } else {
            errno = EADDRINUSE;
        }
    }
    if (rc == 0) rc = listen(fd, backlog);

done:
    saved = errno;
    if (rc < 0 && fd >= 0) (void)close(fd);
    (void)close(folder); // and unlocked
    errno = saved;
    return rc < 0 ? -1 : fd;
}

bool sh_unix_stat(const struct sh_address *a, struct stat *out)
{
    const struct sockaddr_un un = un_of(a);

    return lstat(un.sun_path, out) == 0;
}

void sh_unix_remove(const struct sh_address *a, const struct stat *own)
{
    const struct sockaddr_un un = un_of(a);
    const int folder = lock_folder(&un);
    struct stat now;

    if (folder < 0) return;
    if (sh_unix_stat(a, &now) && now.st_dev == own->st_dev && now.st_ino == own->st_ino)
        (void)unlink(un.sun_path);
    (void)close(folder);
}
