/* ggmlrpc/cache.c - the directory of the cache: opening, reading entries, making room.
 *
 * All access goes through the directory's descriptor, with names made of a hash alone, and never
 * follows a link.
 */
#include "ggmlrpc/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/fnv.h"
#include "base/log.h"
#include "base/mem.h"
#include "ggmlrpc/cache_priv.h"

#define ENTRIES_MAX 16384
#define PATH_BYTES_MAX 4096

void cache_name(uint64_t hash, char out[CACHE_NAME_BYTES])
{
    (void)snprintf(out, CACHE_NAME_BYTES, "%016" PRIx64, hash);
}

/* ---- the directory --------------------------------------------------------------------------*/

static bool is_digit(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* Does the name begin with 16 digits? */
static bool has_digits(const char *name)
{
    for (int i = 0; i < CACHE_NAME_BYTES - 1; i++)
        if (!is_digit(name[i])) return false;
    return true;
}

static bool is_entry(const char *name)
{
    return has_digits(name) && name[CACHE_NAME_BYTES - 1] == '\0';
}

static bool is_temp(const char *name)
{
    const size_t n = strlen(name);

    return n < CACHE_TEMP_BYTES && n > 20 && has_digits(name) && name[16] == '.' &&
           strcmp(name + n - 4, ".tmp") == 0;
}

/* What a walk over the directory does with each name. */
typedef void visitor(struct sh_cache *c, const char *name, void *arg);

static void visit(struct sh_cache *c, visitor *f, void *arg)
{
    const int fd = openat(c->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);

    if (!d) {
        if (fd >= 0) (void)close(fd);
        return;
    }
    for (const struct dirent *e = readdir(d); e; e = readdir(d))
        f(c, e->d_name, arg);
    (void)closedir(d);
}

static void count_entry(struct sh_cache *c, const char *name, void *arg)
{
    struct sh_cache_stats *s = arg;
    struct stat sb;

    if (!is_entry(name) || fstatat(c->dir_fd, name, &sb, AT_SYMLINK_NOFOLLOW) != 0) return;
    if (!S_ISREG(sb.st_mode) || sb.st_size < 0) return;
    s->n_entries++;
    s->bytes += (uint64_t)sb.st_size;
}

void sh_cache_stats(struct sh_cache *c, struct sh_cache_stats *out)
{
    *out = (struct sh_cache_stats){.bytes_max = c->bytes_max};
    visit(c, count_entry, out);
}

/* A writer that lives holds the lock. */
static void delete_leftover(struct sh_cache *c, const char *name, void *arg)
{
    int fd;

    (void)arg;
    if (!is_temp(name)) return;
    fd = openat(c->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) return;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) (void)unlinkat(c->dir_fd, name, 0);
    (void)close(fd);
}

/* ---- making room ----------------------------------------------------------------------------*/

struct candidate {
    char name[CACHE_NAME_BYTES];
    uint64_t bytes;
    struct timespec used;
};
struct candidates {
    struct candidate *list;
    size_t n, cap;
    uint64_t bytes;
};

static void collect(struct sh_cache *c, const char *name, void *arg)
{
    struct candidates *all = arg;
    struct stat sb;

    if (!is_entry(name) || fstatat(c->dir_fd, name, &sb, AT_SYMLINK_NOFOLLOW) != 0) return;
    if (!S_ISREG(sb.st_mode) || sb.st_size < 0) return;
    if (all->n == all->cap) {
        const size_t cap = all->cap ? 2 * all->cap : 64;
        struct candidate *p = sh_realloc_array(all->list, cap, sizeof *p);
        if (!p) return;
        all->list = p;
        all->cap = cap;
    }
    all->list[all->n] = (struct candidate){.bytes = (uint64_t)sb.st_size, .used = sb.st_mtim};
    memcpy(all->list[all->n].name, name, CACHE_NAME_BYTES);
    all->n++;
    all->bytes += (uint64_t)sb.st_size;
}

static bool is_older(const struct candidate *a, const struct candidate *b)
{
    if (a->used.tv_sec != b->used.tv_sec) return a->used.tv_sec < b->used.tv_sec;
    return a->used.tv_nsec < b->used.tv_nsec;
}

void cache_make_room(struct sh_cache *c, uint64_t bytes)
{
    const uint64_t most = c->bytes_max > bytes ? c->bytes_max - bytes : 0;
    struct candidates all = {.list = NULL};

    visit(c, collect, &all);
    while (all.n > 0 && (all.bytes > most || all.n >= (size_t)c->entries_max)) {
        size_t oldest = 0;
        for (size_t i = 1; i < all.n; i++)
            if (is_older(&all.list[i], &all.list[oldest])) oldest = i;
        (void)unlinkat(c->dir_fd, all.list[oldest].name, 0);
        all.bytes -= all.list[oldest].bytes;
        all.list[oldest] = all.list[--all.n];
    }
    sh_free(all.list);
}

/* ---- opening --------------------------------------------------------------------------------*/

/* Make a directory and what leads to it. */
static enum shoal_status make_dir(const char *path, struct shoal_error *err)
{
    const size_t n = strlen(path);
    char part[PATH_BYTES_MAX];

    if (n == 0 || n >= sizeof part) {
        return sh_fail(err, SHOAL_ERR_ARG, "cache: a path of %zu bytes names no directory", n);
    }
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST && errno != EROFS && errno != EACCES) {
            return sh_fail_errno(err, SHOAL_ERR_IO, errno, "cache: cannot make %s", part);
        }
    }
    return SHOAL_OK;
}

static enum shoal_status open_dir(struct sh_cache *c, const char *path, struct shoal_error *err)
{
    struct stat sb;
    enum shoal_status st = make_dir(path, err);

    if (st) return st;
    c->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (c->dir_fd < 0 || fstat(c->dir_fd, &sb) != 0) {
        return sh_fail_errno(err, SHOAL_ERR_IO, errno, "cache: cannot open the directory %s", path);
    }
    if (sb.st_uid != geteuid()) {
        return sh_fail(err, SHOAL_ERR_ARG, "cache: %s belongs to another user, number %ju", path,
                       (uintmax_t)sb.st_uid);
    }
    if (sb.st_mode & (S_IWGRP | S_IWOTH)) {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "cache: others may write to %s (mode %03o): chmod go-w it first", path,
                       (unsigned)sb.st_mode & 0777U);
    }
    return SHOAL_OK;
}

/* What it may hold at most: as asked, or a fifth of what the disk could give it. */
static enum shoal_status set_limit(struct sh_cache *c, const struct sh_cache_options *opt,
                                   struct shoal_error *err)
{
    struct sh_cache_stats now;
    struct statvfs vfs;

    c->entries_max = opt->entries_max > 0 ? opt->entries_max : ENTRIES_MAX;
    c->bytes_max = opt->bytes_max;
    if (c->bytes_max > 0) return SHOAL_OK;
    if (fstatvfs(c->dir_fd, &vfs) != 0) {
        return sh_fail_errno(err, SHOAL_ERR_IO, errno,
                             "cache: cannot tell how full the disk of %s is", opt->dir);
    }
    sh_cache_stats(c, &now);
    c->bytes_max = now.bytes / 5 + (uint64_t)vfs.f_bavail / 5 * (uint64_t)vfs.f_frsize;
    return SHOAL_OK;
}

enum shoal_status sh_cache_open(struct sh_cache **out, const struct sh_cache_options *opt,
                                struct shoal_error *err)
{
    struct sh_cache *c = sh_calloc(1, sizeof *c);
    enum shoal_status st;

    *out = NULL;
    if (!c) return sh_fail(err, SHOAL_ERR_NOMEM, "cache: no memory for %s", opt->dir);
    c->dir_fd = -1;
    c->done_end = &c->done;
    sh_mutex_init(&c->lock);
    sh_cond_init(&c->changed);
    st = open_dir(c, opt->dir, err);
    if (!st) st = set_limit(c, opt, err);
    if (st) goto done;
    visit(c, delete_leftover, NULL);
    st = cache_start(c, err);
    if (st) goto done;
    *out = c;
    c = NULL;

done:
    sh_cache_close(c);
    return st;
}

void sh_cache_close(struct sh_cache *c)
{
    if (!c) return;
    cache_stop(c);
    if (c->dir_fd >= 0) (void)close(c->dir_fd);
    sh_cond_release(&c->changed);
    sh_mutex_release(&c->lock);
    sh_free(c);
}

/* ---- reading --------------------------------------------------------------------------------*/

bool sh_cache_find(struct sh_cache *c, uint64_t hash, uint64_t bytes_max,
                   struct sh_cache_entry *out)
{
    char name[CACHE_NAME_BYTES];
    struct stat sb;

    *out = (struct sh_cache_entry){.fd = -1, .hash = hash, .sum = SH_FNV_START};
    cache_name(hash, name);
    // Not blocking: a pipe in its place would wait for its other end.
    out->fd = openat(c->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (out->fd < 0) return false;
    if (fstat(out->fd, &sb) != 0 || !S_ISREG(sb.st_mode) || sb.st_size < 0 ||
        (uint64_t)sb.st_size > bytes_max) {
        sh_cache_entry_close(out);
        return false;
    }
    out->bytes = (uint64_t)sb.st_size;
    out->used_s = (int64_t)sb.st_mtim.tv_sec;
    return true;
}

static bool read_bytes(const struct sh_cache_entry *e, void *dst, size_t n)
{
    uint8_t *to = dst;
    size_t have = 0;

    while (have < n) {
        const ssize_t got = read(e->fd, to + have, n - have);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        have += (size_t)got;
    }
    return true;
}

void sh_cache_read_each(struct sh_cache_entry *const *entries, int n_entries, void *dst, size_t n,
                        bool *ok)
{
    struct sh_fnv_chain chain[SH_FNV_CHAINS_MAX];
    struct sh_cache_entry *whose[SH_FNV_CHAINS_MAX];
    int n_chains = 0;

    SH_ASSERT(n_entries <= SH_FNV_CHAINS_MAX);
    for (int i = 0; i < n_entries; i++) {
        uint8_t *to = (uint8_t *)dst + (size_t)i * n;
        ok[i] = read_bytes(entries[i], to, n);
        if (!ok[i]) continue;
        entries[i]->at += n;
        whose[n_chains] = entries[i];
        chain[n_chains++] = (struct sh_fnv_chain){.hash = entries[i]->sum, .at = to, .left = n};
    }
    if (n_chains > 0) sh_fnv_step(chain, n_chains, n);
    for (int i = 0; i < n_chains; i++)
        whose[i]->sum = chain[i].hash;
}

bool sh_cache_read(struct sh_cache_entry *e, void *dst, size_t n)
{
    bool ok;

    sh_cache_read_each(&e, 1, dst, n, &ok);
    return ok;
}

/* Delete the entry, unless another has taken its name meanwhile. */
static void delete_entry(struct sh_cache *c, const struct sh_cache_entry *e)
{
    char name[CACHE_NAME_BYTES];
    struct stat a, b;

    cache_name(e->hash, name);
    if (fstat(e->fd, &a) != 0 || fstatat(c->dir_fd, name, &b, AT_SYMLINK_NOFOLLOW) != 0) return;
    if (a.st_dev != b.st_dev || a.st_ino != b.st_ino) return;
    (void)unlinkat(c->dir_fd, name, 0);
    sh_log(SH_LOG_WARN, "ggmlrpc", "cache: entry %s of %" PRIu64 " bytes was damaged, deleted",
           name, e->bytes);
}

/* An entry that is used is young again.  Not more exactly than to the hour: changing an inode may
 * wait for the disk. */
static void make_young(const struct sh_cache_entry *e)
{
    struct timespec now;

    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return;
    if ((int64_t)now.tv_sec - e->used_s >= 3600 || (int64_t)now.tv_sec < e->used_s)
        (void)futimens(e->fd, NULL);
}

bool sh_cache_read_end(struct sh_cache *c, struct sh_cache_entry *e)
{
    const bool right = e->at == e->bytes && e->sum == e->hash;

    if (right) {
        make_young(e);
    } else {
        delete_entry(c, e);
    }
    sh_cache_entry_close(e);
    return right;
}

void sh_cache_entry_close(struct sh_cache_entry *e)
{
    if (e->fd >= 0) (void)close(e->fd);
    e->fd = -1;
}
