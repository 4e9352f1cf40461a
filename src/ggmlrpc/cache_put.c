/* ggmlrpc/cache_put.c - storing entries: bytes into a file beside; later its hash, sync, rename.
 *
 * Whoever stores only writes into the page cache.  A thread does the rest: it reads what was
 * written and hashes it, several files at once, waits for the disk and renames.  What it has not
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

#include "base/clock.h"
#include "base/fnv.h"
#include "base/log.h"
#include "base/mem.h"

#define OPEN_MAX 256                   // puts under way: each holds a descriptor
#define QUIET_NS (10 * SH_SECOND)      // between two lines about failures
#define STEP_BYTES ((size_t)128 << 10) // of each file that is hashed

/* ---- the end of a put -----------------------------------------------------------------------*/

/* Tell of a failure (an errno, or 0 and a sentence): once until something could be stored again,
 * and not too often. */
static void note_failure(struct sh_cache *c, uint64_t bytes, int why, const char *what)
{
    const int64_t now = sh_now_ns(&sh_clock_system);
    struct shoal_error err = SHOAL_ERROR_INIT;
    bool say;

    sh_mutex_lock(&c->lock);
    say = !c->failing && now >= c->quiet_until_ns;
    c->failing = true;
    if (say) c->quiet_until_ns = now + QUIET_NS;
    sh_mutex_unlock(&c->lock);
    if (!say) return;
    if (why != 0) {
        (void)sh_fail_errno(&err, SHOAL_ERR_IO, why, "cache: %s an entry of %" PRIu64 " bytes",
                            what, bytes);
    } else {
        (void)sh_fail(&err, SHOAL_ERR_FORMAT, "cache: %s, %" PRIu64 " bytes", what, bytes);
    }
    sh_log(SH_LOG_WARN, "ggmlrpc", "%s", err.message);
}

static void note_success(struct sh_cache *c)
{
    sh_mutex_lock(&c->lock);
    c->failing = false;
    sh_mutex_unlock(&c->lock);
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

/* Put a file into its place, if it is right. */
static void finish(struct sh_cache_put *p)
{
    const struct sh_cache *c = p->cache;
    char name[CACHE_NAME_BYTES];

    if (!p->failed && p->entry.sum != p->hash) {
        note_failure(p->cache, p->bytes, 0,
                     "a client's bytes do not have the hash that it announced");
        drop(p);
        return;
    }
    cache_name(p->hash, name);
    if (!p->failed) cache_make_room(p->cache, p->bytes);
    if (!p->failed && fsync(p->fd) != 0) p->failed = errno;
    if (!p->failed && renameat(c->dir_fd, p->temp, c->dir_fd, name) != 0) p->failed = errno;
    if (p->failed) {
        note_failure(p->cache, p->bytes, p->failed, "cannot store");
    } else {
        p->temp[0] = '\0'; // it has its name
        note_success(p->cache);
    }
    drop(p);
}

/* Hash what lies in the files, side by side. */
static void hash_files(struct sh_cache_put *const *puts, int n, uint8_t *work)
{
    for (;;) {
        struct sh_cache_entry *entry[SH_FNV_CHAINS_MAX];
        struct sh_cache_put *whose[SH_FNV_CHAINS_MAX];
        bool ok[SH_FNV_CHAINS_MAX];
        size_t step = STEP_BYTES;
        int n_busy = 0;
        for (int i = 0; i < n; i++) {
            const uint64_t left = puts[i]->bytes - puts[i]->entry.at;
            if (puts[i]->failed || left == 0) continue;
            if (left < step) step = (size_t)left;
            whose[n_busy] = puts[i];
            entry[n_busy++] = &puts[i]->entry;
        }
        if (n_busy == 0) return;
        sh_cache_read_each(entry, n_busy, work, step, ok);
        for (int i = 0; i < n_busy; i++)
            if (!ok[i]) whose[i]->failed = EIO;
    }
}

/* Wait for puts that are done, and take some; 0: the cache closes. */
static int take_done(struct sh_cache *c, struct sh_cache_put **puts)
{
    int n = 0;

    sh_mutex_lock(&c->lock);
    while (!c->done && !c->closing)
        (void)sh_cond_wait(&c->changed, &c->lock, INT64_MAX);
    for (; c->done && n < SH_FNV_CHAINS_MAX; n++) {
        puts[n] = c->done;
        c->done = c->done->next;
    }
    if (!c->done) c->done_end = &c->done;
    sh_mutex_unlock(&c->lock);
    return n;
}

static void *finishing_thread(void *arg)
{
    struct sh_cache *c = arg;
    struct sh_cache_put *puts[SH_FNV_CHAINS_MAX];
    int n;

    while ((n = take_done(c, puts)) > 0) {
        hash_files(puts, n, c->work);
        for (int i = 0; i < n; i++)
            finish(puts[i]);
    }
    return NULL;
}

enum shoal_status cache_start(struct sh_cache *c, struct shoal_error *err)
{
    // Names must differ from those of other processes, on other machines, too.
    if (getrandom(&c->n_temp, sizeof c->n_temp, 0) != (ssize_t)sizeof c->n_temp) {
        return sh_fail_errno(err, SHOAL_ERR_IO, errno, "cache: no random number");
    }
    c->work = sh_malloc(STEP_BYTES * SH_FNV_CHAINS_MAX);
    if (!c->work) return sh_fail(err, SHOAL_ERR_NOMEM, "cache: no memory to hash in");
    return sh_thread_start(&c->thread, "cache", finishing_thread, c, err);
}

void cache_stop(struct sh_cache *c)
{
    sh_mutex_lock(&c->lock);
    c->closing = true;
    sh_cond_broadcast(&c->changed);
    sh_mutex_unlock(&c->lock);
    sh_thread_join(&c->thread);
    sh_free(c->work);
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
    p->entry = (struct sh_cache_entry){.fd = -1, .sum = SH_FNV_START};
    cache_name(hash, name);
    (void)snprintf(p->temp, sizeof p->temp, "%s.%016" PRIx64 ".tmp", name, number);
    p->fd = openat(c->dir_fd, p->temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (p->fd < 0 || flock(p->fd, LOCK_EX | LOCK_NB) != 0) {
        note_failure(c, bytes, errno, "cannot store");
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

void sh_cache_put_end(struct sh_cache_put *p)
{
    struct sh_cache *c;

    if (!p) return;
    c = p->cache;
    if (!p->failed && lseek(p->fd, 0, SEEK_SET) != 0) p->failed = errno;
    if (p->failed) note_failure(c, p->bytes, p->failed, "cannot store");
    if (p->failed || p->at != p->bytes) {
        drop(p);
        return;
    }
    p->entry.fd = p->fd;
    p->next = NULL;
    sh_mutex_lock(&c->lock);
    *c->done_end = p;
    c->done_end = &p->next;
    sh_cond_broadcast(&c->changed);
    sh_mutex_unlock(&c->lock);
}

void sh_cache_put_abort(struct sh_cache_put *p)
{
    if (p) drop(p);
}
