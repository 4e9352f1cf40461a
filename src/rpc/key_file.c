/* rpc/key_file.c - reading and writing files that nobody else may read.
 *
 * A file is written under a name that begins with a dot, made durable, and then linked (where
 * nothing may be replaced) or renamed to its place.  What a crash leaves behind is such a dot file,
 * which no reader looks at.
 */
#include "rpc/key_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define READ_BY_OTHERS 044

struct sh_secret_path sh_secret_path(const char *folder, const char *name)
{
    struct sh_secret_path p;

    (void)snprintf(p.text, sizeof p.text, "%.400s/%.100s", folder, name);
    return p;
}

void sh_secret_release(struct sh_buf *b)
{
    if (b->ptr) sh_wipe(b->ptr, b->cap);
    sh_buf_release(b);
}

/* ---- folders -------------------------------------------------------------------------------- */

static enum shoal_status check_owner(const struct stat *s, const char *shown, mode_t forbidden,
                                     struct shoal_error *err)
{
    const unsigned right = S_ISDIR(s->st_mode) ? 0700 : 0600;

    if (s->st_uid != geteuid() && geteuid() != 0)
        return sh_fail(err, SHOAL_ERR_STATE, "%s holds keys and belongs to another user", shown);
    if (s->st_mode & forbidden) {
        return sh_fail(err, SHOAL_ERR_STATE,
                       "other users can %s keys in %s: chmod %o %s, and make new keys if that was "
                       "so for long",
                       s->st_mode & forbidden & READ_BY_OTHERS ? "read" : "change", shown, right,
                       shown);
    }
    return SHOAL_OK;
}

// Make the folders above the last one, with the usual mode, and the last one closed to others.
static enum shoal_status make_folders(const char *path, struct shoal_error *err)
{
    char *copy = sh_strdup(path);
    enum shoal_status st = SHOAL_OK;

    if (!copy) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the name of a folder");
    for (char *slash = strchr(copy + 1, '/'); slash && !st; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        // Those that are there may be closed to us, and then they are there.
        if (mkdir(copy, 0700) < 0 && errno != EEXIST && access(copy, F_OK) < 0)
            st = sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot make the folder %s", copy);
        *slash = '/';
    }
    if (!st && mkdir(path, 0700) < 0 && errno != EEXIST)
        st = sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot make the folder %s", path);
    sh_free(copy);
    return st;
}

enum shoal_status sh_secret_folder(int *fd, const char *path, mode_t forbidden, bool make,
                                   struct shoal_error *err)
{
    enum shoal_status st = make ? make_folders(path, err) : SHOAL_OK;
    struct stat s;

    *fd = -1;
    if (st) return st;
    *fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*fd < 0 && errno == ENOENT && !make) return SHOAL_OK;
    if (*fd < 0 && (errno == ELOOP || errno == ENOTDIR)) {
        return sh_fail(err, SHOAL_ERR_STATE,
                       "%s should be a folder: symbolic links are not followed to keys", path);
    }
    if (*fd < 0) return sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot open the folder %s", path);
    if (fstat(*fd, &s) < 0) {
        st = sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot look at the folder %s", path);
    } else {
        st = check_owner(&s, path, forbidden, err);
    }
    if (st) {
        (void)close(*fd);
        *fd = -1;
    }
    return st;
}

/* ---- reading -------------------------------------------------------------------------------- */

static enum shoal_status read_open(struct sh_buf *out, int fd, const char *shown, size_t max_bytes,
                                   struct shoal_error *err)
{
    enum shoal_status st = sh_buf_reserve(out, max_bytes + 2);

    if (st) return sh_fail(err, st, "no memory to read %s", shown);
    while (out->len <= max_bytes) {
        const ssize_t got = read(fd, out->ptr + out->len, max_bytes + 1 - out->len);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot read %s", shown);
        if (got == 0) break;
        out->len += (size_t)got;
    }
    if (out->len > max_bytes) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "%s has more than %zu bytes: it cannot hold keys",
                       shown, max_bytes);
    }
    out->ptr[out->len] = '\0';
    return SHOAL_OK;
}

enum shoal_status sh_secret_read(struct sh_buf *out, int64_t *written_s, int folder,
                                 const char *name, const char *shown, size_t max_bytes,
                                 struct shoal_error *err)
{
    const int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    enum shoal_status st;
    struct stat s;

    sh_buf_clear(out);
    if (fd < 0 && errno == ENOENT) return sh_fail(err, SHOAL_ERR_NOT_FOUND, "no file %s", shown);
    if (fd < 0 && errno == ELOOP) {
        return sh_fail(err, SHOAL_ERR_STATE,
                       "%s is a symbolic link: they are not followed to keys; put the file itself "
                       "there",
                       shown);
    }
    if (fd < 0) return sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot open %s", shown);
    if (fstat(fd, &s) < 0) {
        st = sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot look at %s", shown);
    } else if (!S_ISREG(s.st_mode)) {
        st = sh_fail(err, SHOAL_ERR_STATE, "%s is not a regular file", shown);
    } else {
        st = check_owner(&s, shown, SH_SECRET_CLOSED, err);
    }
    if (!st) {
        if (written_s) *written_s = (int64_t)s.st_mtim.tv_sec;
        st = read_open(out, fd, shown, max_bytes, err);
    }
    (void)close(fd);
    return st;
}

/* ---- writing -------------------------------------------------------------------------------- */

static int write_all(int fd, struct sh_str text)
{
    while (text.len > 0) {
        const ssize_t put = write(fd, text.ptr, text.len);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return -1;
        text.ptr += put;
        text.len -= (size_t)put;
    }
    return fsync(fd);
}

// A file beside its place; `draft` gets its name.
static enum shoal_status write_draft(char draft[40], int folder, const char *shown,
                                     struct sh_str text, struct shoal_error *err)
{
    struct sh_key random;
    enum shoal_status st = sh_key_make(&random, err);
    int fd, rc, failure;

    if (st) return st;
    (void)snprintf(draft, 40, ".draft-");
    for (int i = 0; i < 8; i++)
        (void)snprintf(draft + 7 + 2 * i, 3, "%02x", random.bytes[i]);
    fd = openat(folder, draft, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot write beside %s", shown);
    rc = fchmod(fd, 0600) < 0 ? -1 : write_all(fd, text); // whatever the umask
    failure = errno;
    if (close(fd) < 0 && rc == 0) {
        rc = -1;
        failure = errno;
    }
    if (rc == 0) return SHOAL_OK;
    (void)unlinkat(folder, draft, 0);
    return sh_fail_errno(err, SHOAL_ERR_IO, failure, "cannot write %s", shown);
}

enum shoal_status sh_secret_write(int folder, const char *name, const char *shown,
                                  struct sh_str text, bool replace, struct shoal_error *err)
{
    char draft[40];
    enum shoal_status st = write_draft(draft, folder, shown, text, err);
    int rc, failure;

    if (st) return st;
    rc = replace ? renameat(folder, draft, folder, name)
                 : linkat(folder, draft, folder, name, 0); // never over another's file
    failure = errno;
    if (rc < 0 || !replace) (void)unlinkat(folder, draft, 0);
    if (rc < 0 && failure == EEXIST && !replace)
        return sh_fail(err, SHOAL_ERR_STATE, "there is a file %s", shown);
    if (rc < 0) return sh_fail_errno(err, SHOAL_ERR_IO, failure, "cannot write %s", shown);
    if (fsync(folder) < 0)
        return sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot make %s durable", shown);
    return SHOAL_OK;
}
