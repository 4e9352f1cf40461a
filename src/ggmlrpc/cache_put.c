/* ggmlrpc/cache_put.c - storing entries: bytes into a file beside, then sync and rename.
 *
 * Whoever stores only writes into the page cache; a thread waits for the disk.  What it has not
 * finished is bounded by the size of the cache.
 */
#include "ggmlrpc/cache_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/fnv.h"
#include "base/log.h"
#include "base/mem.h"

#define OPEN_MAX 64 // puts under way: each holds a descriptor

/* ---- the end of a put -----------------------------------------------------------------------*/

/* Tell of a failure, once until something could be stored again. */
static void note(struct sh_cache *c, uint64_t bytes, int why)
{
    const struct shoal_error none = SHOAL_ERROR_INIT;
    struct shoal_error err = none;
    bool say;

    sh_mutex_lock(&c->lock);
    say = why != 0 && !c->failing;
    c->failing = why != 0;
    sh_mutex_unlock(&c->lock);
    if (!say) return;
    (void)sh_fail_errno(&err, SHOAL_ERR_IO, why,
                        "cache: cannot store an entry of %" PRIu64 " bytes", bytes);
    sh_log(SH_LOG_WARN, "ggmlrpc", "%s", err.message);
}

/* Everything that a put holds goes back. */
static void drop(struct sh_cache_put *p)
{
    struct sh_cache *c = p->cache;

    if (p->temp[0]) (void)unlinkat(c->dir_fd, p->temp, 0);
    if (p->fd >= 0) (void)close(p->fd);
    sh_mutex_lock(&c->lock);
    c->bytes_open -= p->bytes;
    c->n_open--;
    sh_cond_broadcast(&c->changed);
    sh_mutex_unlock(&c->lock);
    sh_free(p);
}

static void finish(struct sh_cache_put *p)
{
    char name[CACHE_NAME_BYTES];

    cache_make_room(p->cache, p->bytes);
    cache_name(p->hash, name);
    if (fsync(p->fd) != 0) {
        p->failed = errno;
    } else if (renameat(p->cache->dir_fd, p->temp, p->cache->dir_fd, name) != 0) {
        p->failed = errno;
    } else {
        p->temp[0] = '\0';
    }
    note(p->cache, p->bytes, p->failed);
    drop(p);
}

static void *finishing_thread(void *arg)
{
    struct sh_cache *c = arg;

    sh_mutex_lock(&c->lock);
    for (;;) {
        struct sh_cache_put *p = c->done;
        if (!p && c->closing) break;
        if (!p) {
            (void)sh_cond_wait(&c->changed, &c->lock, INT64_MAX);
            continue;
        }
        c->done = p->next;
        if (!c->done) c->done_end = &c->done;
        sh_mutex_unlock(&c->lock);
        finish(p);
        sh_mutex_lock(&c->lock);
    }
    sh_mutex_unlock(&c->lock);
    return NULL;
}

enum shoal_status cache_start(struct sh_cache *c, struct shoal_error *err)
{
    // Names must differ from those of other processes, on other machines, too.
    if (getrandom(&c->n_temp, sizeof c->n_temp, 0) != (ssize_t)sizeof c->n_temp) {
        return sh_fail_errno(err, SHOAL_ERR_IO, errno, "cache: no random number");
    }
    return sh_thread_start(&c->thread, "cache", finishing_thread, c, err);
}

void cache_stop(struct sh_cache *c)
{
    sh_mutex_lock(&c->lock);
    c->closing = true;
    sh_cond_broadcast(&c->changed);
    sh_mutex_unlock(&c->lock);
    sh_thread_join(&c->thread);
}

void sh_cache_flush(struct sh_cache *c)
{
    sh_mutex_lock(&c->lock);
    while (c->n_open > 0)
        (void)sh_cond_wait(&c->changed, &c->lock, INT64_MAX);
    sh_mutex_unlock(&c->lock);
}

/* ---- storing --------------------------------------------------------------------------------*/

/* An entry of this size is there already: someone was faster. */
static bool is_there(struct sh_cache *c, uint64_t hash, uint64_t bytes)
{
    char name[CACHE_NAME_BYTES];
    struct stat sb;

    cache_name(hash, name);
    return fstatat(c->dir_fd, name, &sb, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(sb.st_mode) &&
           sb.st_size >= 0 && (uint64_t)sb.st_size == bytes;
}

/* Claim a place among what is under way; `number` makes the name of the file unique. */
static bool claim(struct sh_cache *c, uint64_t bytes, uint64_t *number)
{
    bool ok;

    sh_mutex_lock(&c->lock);
    ok = c->n_open < OPEN_MAX && c->bytes_open <= c->bytes_max &&
         bytes <= c->bytes_max - c->bytes_open;
    if (ok) {
        c->n_open++;
        c->bytes_open += bytes;
        *number = c->n_temp++;
    }
    sh_mutex_unlock(&c->lock);
    return ok;
}

struct sh_cache_put *sh_cache_put_begin(struct sh_cache *c, uint64_t hash, uint64_t bytes)
{
    struct sh_cache_put *p = NULL;
    char name[CACHE_NAME_BYTES];
    uint64_t number;

    if (is_there(c, hash, bytes)) return NULL;
    p = sh_calloc(1, sizeof *p);
    if (!p || !claim(c, bytes, &number)) {
        sh_free(p);
        return NULL;
    }
    p->cache = c;
    p->hash = hash;
    p->bytes = bytes;
    p->sum = SH_FNV_START;
    cache_name(hash, name);
    (void)snprintf(p->temp, sizeof p->temp, "%s.%016" PRIx64 ".tmp", name, number);
    p->fd = openat(c->dir_fd, p->temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (p->fd < 0 || flock(p->fd, LOCK_EX | LOCK_NB) != 0) {
        note(c, bytes, errno);
        if (p->fd < 0) p->temp[0] = '\0'; // it is not ours
        drop(p);
        return NULL;
    }
    return p;
}

void sh_cache_put_bytes(struct sh_cache_put *p, const void *data, size_t n)
{
    const uint8_t *from = data;

    if (!p) return;
    p->at += n;
    p->sum = sh_fnv(p->sum, data, n);
    while (n > 0 && !p->failed) {
        const ssize_t put = write(p->fd, from, n);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) {
            p->failed = put < 0 ? errno : EIO;
            break;
        }
        from += put;
        n -= (size_t)put;
    }
}

bool sh_cache_put_end(struct sh_cache_put *p)
{
    struct sh_cache *c;
    bool right;

    if (!p) return true;
    c = p->cache;
    right = p->at == p->bytes && p->sum == p->hash;
    if (p->failed) note(c, p->bytes, p->failed);
    if (!right || p->failed) {
        drop(p);
        return right;
    }
    p->next = NULL;
    sh_mutex_lock(&c->lock);
    *c->done_end = p;
    c->done_end = &p->next;
    sh_cond_broadcast(&c->changed);
    sh_mutex_unlock(&c->lock);
    return true;
}

void sh_cache_put_abort(struct sh_cache_put *p)
{
    if (p) drop(p);
}
