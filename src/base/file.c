/* base/file.c - opening regular files only, reading them whole, mapping them under the guard. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/guard_priv.h"
#include "base/mem.h"

#define READ_STEP ((size_t)4096)

static uint64_t since_1970_ns(struct timespec t)
{
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static struct sh_file_id id_of(const struct stat *sb)
{
    return (struct sh_file_id){.device = (uint64_t)sb->st_dev,
                               .inode = (uint64_t)sb->st_ino,
                               .size = (uint64_t)sb->st_size,
                               .modified_ns = since_1970_ns(sb->st_mtim),
                               .changed_ns = since_1970_ns(sb->st_ctim)};
}

enum shoal_status sh_file_identify(struct sh_file_id *out, const char *path,
                                   struct shoal_error *err)
{
    struct stat sb;

    *out = (struct sh_file_id){.inode = 0};
    if (stat(path, &sb) != 0) {
        return sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot examine %s", path);
    }
    if (!S_ISREG(sb.st_mode)) {
        return sh_fail(err, SHOAL_ERR_IO, "%s is not a regular file", path);
    }
    *out = id_of(&sb);
    return SHOAL_OK;
}

/* Open `path`, which must be a regular file.  On failure *fd is -1. */
static enum shoal_status open_regular(int *fd, struct sh_file_id *id, const char *path,
                                      struct shoal_error *err)
{
    struct stat sb;
    enum shoal_status st = SHOAL_OK;

    // Not blocking: opening a pipe would wait for its other end.
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (*fd < 0) return sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot open %s", path);
    if (fstat(*fd, &sb) != 0) {
        st = sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot examine %s", path);
    } else if (!S_ISREG(sb.st_mode)) {
        st = sh_fail(err, SHOAL_ERR_IO, "%s is not a regular file", path);
    } else if (sb.st_size < 0 || (uintmax_t)sb.st_size > PTRDIFF_MAX) {
        st = sh_fail(err, SHOAL_ERR_LIMIT, "%s has %jd bytes, too many to map", path,
                     (intmax_t)sb.st_size);
    }
    if (st) {
        (void)close(*fd);
        *fd = -1;
        return st;
    }
    *id = id_of(&sb);
    return SHOAL_OK;
}

enum shoal_status sh_map_file(struct sh_map *out, const char *path, struct shoal_error *err)
{
    struct sh_map map = SH_MAP_INIT;
    enum shoal_status st;
    size_t size;
    int fd = -1;
    void *p;

    *out = map;
    st = open_regular(&fd, &map.id, path, err);
    if (st) goto done;
    size = (size_t)map.id.size;
    if (size == 0) {
        out->id = map.id;
        goto done;
    }
    p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
        st = sh_fail_errno(err, errno == ENOMEM ? SHOAL_ERR_NOMEM : SHOAL_ERR_IO, errno,
                           "cannot map the %zu bytes of %s", size, path);
        goto done;
    }
    map.ptr = p;
    map.size = size;
    st = sh_guard_add(&map.guard, p, size, err);
    if (st) goto done;
    *out = map;
    map = (struct sh_map)SH_MAP_INIT;

done:
    sh_map_release(&map);
    if (fd >= 0) (void)close(fd);
    return st;
}

void sh_map_release(struct sh_map *m)
{
    if (!m) return;
    sh_guard_remove(m->guard);
    if (m->ptr) (void)munmap((void *)(uintptr_t)m->ptr, m->size);
    *m = (struct sh_map)SH_MAP_INIT;
}

bool sh_map_faulted(const struct sh_map *m)
{
    return sh_guard_faulted(m->guard);
}

/* Grow `*buf` so that `need` bytes and a NUL fit. */
static bool ensure_room(char **buf, size_t *cap, size_t need)
{
    size_t want;
    char *p;

    if (need < *cap) return true;
    if (!sh_mul_ok(*cap, 2, &want) || want <= need) {
        if (!sh_add_ok(need, 1, &want)) return false;
    }
    p = sh_realloc_array(*buf, want, 1);
    if (!p) return false;
    *buf = p;
    *cap = want;
    return true;
}

enum shoal_status sh_read_file(char **out, size_t *out_len, const char *path, size_t max_bytes,
                               struct shoal_error *err)
{
    enum shoal_status st;
    struct sh_file_id id;
    char *buf = NULL;
    size_t cap = 0, len = 0, size;
    int fd = -1;

    *out = NULL;
    *out_len = 0;
    st = open_regular(&fd, &id, path, err);
    if (st) goto done;
    size = (size_t)id.size;
    if (size > max_bytes) {
        st = sh_fail(err, SHOAL_ERR_LIMIT, "%s has %zu bytes, more than the %zu allowed", path,
                     size, max_bytes);
        goto done;
    }
    // The size is a hint: the kernel's own files report 0, and others may grow as we read.
    for (;;) {
        const size_t hint = size + 1 > READ_STEP ? size + 1 : READ_STEP;
        ssize_t got;

        if (!ensure_room(&buf, &cap, len == 0 ? hint : len + 1)) {
            st = sh_fail(err, SHOAL_ERR_NOMEM, "no memory to read %s", path);
            goto done;
        }
        got = read(fd, buf + len, cap - 1 - len);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            st = sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot read %s", path);
            goto done;
        }
        if (got == 0) break;
        len += (size_t)got;
        if (len > max_bytes) {
            st = sh_fail(err, SHOAL_ERR_LIMIT, "%s has more than the %zu bytes allowed", path,
                         max_bytes);
            goto done;
        }
    }
    buf[len] = '\0';
    *out = buf;
    *out_len = len;
    buf = NULL;

done:
    sh_free(buf);
    if (fd >= 0) (void)close(fd);
    return st;
}
