/* blob/remember.c - manifests in small files, one per model.
 *
 *      key      "shoalsum" version:u32 n_shards:u32 | device inode size modified changed: 5 x u64
 *               for each shard
 *      tensors  n:u64 | offset:u64 bytes:u64 shard:u32 sha256 | the pieces' if more than one | ...
 *      check    the SHA-256 of all before it
 *
 * Numbers are little-endian.  The name of the file is the SHA-256 of the key.  What does not fit
 * the model byte by byte is as if it were not there, and gets replaced.  A file appears whole or
 * not at all: written beside its place, synced, then renamed.
 */
#include "blob/manifest_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cursor.h"
#include "base/log.h"
#include "base/mem.h"

#define VERSION 1
#define MAGIC "shoalsum"
#define KEY_BYTES(n_shards) (8 + 4 + 4 + 40 * (n_shards))
#define TENSOR_BYTES (8 + 8 + 4 + SH_SHA256_BYTES)
#define NAME_BYTES (SH_SHA256_TEXT_BYTES + 8)
#define TEMP_BYTES (NAME_BYTES + 24)
#define PATH_BYTES_MAX 4096

/* ---- bytes ----------------------------------------------------------------------------------*/

static size_t encoded_bytes(const struct sh_manifest *m, const struct sh_gguf *g)
{
    size_t n = KEY_BYTES((size_t)sh_gguf_n_shards(g)) + 8 + m->n_tensors * TENSOR_BYTES;

    for (size_t i = 0; i < m->n_tensors; i++)
        if (m->tensors[i].n_pieces > 1) n += m->tensors[i].n_pieces * SH_SHA256_BYTES;
    return n + SH_SHA256_BYTES;
}

static void write_key(struct sh_writer *w, const struct sh_gguf *g)
{
    sh_write_bytes(w, MAGIC, 8);
    sh_write_u32(w, VERSION);
    sh_write_u32(w, (uint32_t)sh_gguf_n_shards(g));
    for (int i = 0; i < sh_gguf_n_shards(g); i++) {
        const struct sh_file_id *id = &sh_gguf_map(g, i)->id;
        sh_write_u64(w, id->device);
        sh_write_u64(w, id->inode);
        sh_write_u64(w, id->size);
        sh_write_u64(w, id->modified_ns);
        sh_write_u64(w, id->changed_ns);
    }
}

static void write_tensors(struct sh_writer *w, const struct sh_manifest *m)
{
    sh_write_u64(w, m->n_tensors);
    for (size_t i = 0; i < m->n_tensors; i++) {
        const struct sh_manifest_tensor *t = &m->tensors[i];
        sh_write_u64(w, t->offset);
        sh_write_u64(w, t->bytes);
        sh_write_u32(w, (uint32_t)t->shard);
        sh_write_bytes(w, t->sha256.bytes, SH_SHA256_BYTES);
        for (size_t p = 0; p < t->n_pieces && t->n_pieces > 1; p++)
            sh_write_bytes(w, t->pieces[p].bytes, SH_SHA256_BYTES);
    }
}

static void read_hash(struct sh_reader *r, struct sh_sha256 *out)
{
    const uint8_t *p = sh_read_bytes(r, SH_SHA256_BYTES);

    if (p) memcpy(out->bytes, p, SH_SHA256_BYTES);
}

static bool read_tensors(struct sh_reader *r, struct sh_manifest *m)
{
    struct sh_sha256 *piece = m->pieces;

    if (sh_read_u64(r) != m->n_tensors) return false;
    for (size_t i = 0; i < m->n_tensors; i++) {
        struct sh_manifest_tensor *t = &m->tensors[i];
        if (sh_read_u64(r) != t->offset || sh_read_u64(r) != t->bytes) return false;
        if (sh_read_u32(r) != (uint32_t)t->shard) return false;
        read_hash(r, &t->sha256);
        for (size_t p = 0; p < t->n_pieces; p++) {
            if (t->n_pieces == 1)
                piece[p] = t->sha256;
            else
                read_hash(r, &piece[p]);
        }
        piece += t->n_pieces;
    }
    return !r->bad && sh_reader_left(r) == SH_SHA256_BYTES;
}

/* Do these bytes say the hashes of this model?  `key` are those that they must begin with. */
static bool decode(struct sh_manifest *m, const uint8_t *bytes, size_t n, const uint8_t *key,
                   size_t key_bytes)
{
    struct sh_reader r = sh_reader_over(bytes, n);
    const uint8_t *head = sh_read_bytes(&r, key_bytes);
    struct sh_sha256 sum;

    if (!head || memcmp(head, key, key_bytes) != 0) return false;
    if (sh_sha256_of(&sum, bytes, n - SH_SHA256_BYTES, NULL)) return false;
    if (memcmp(sum.bytes, bytes + n - SH_SHA256_BYTES, SH_SHA256_BYTES) != 0) return false;
    return read_tensors(&r, m);
}

/* ---- files ----------------------------------------------------------------------------------*/

/* The directory, or -1 and errno.  Nobody else may be able to write there. */
static int open_dir(const char *dir, bool make)
{
    char part[PATH_BYTES_MAX];
    const size_t n = strlen(dir);
    struct stat sb;
    int fd;

    if (n >= sizeof part) {
        errno = ENAMETOOLONG;
        return -1;
    }
    for (size_t i = 1; i <= n && make; i++) {
        if (dir[i] != '/' && dir[i] != '\0') continue;
        memcpy(part, dir, i);
        part[i] = '\0';
        (void)mkdir(part, 0700); // what is missing shows below
    }
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -1;
    if (fstat(fd, &sb) != 0 || sb.st_uid != geteuid() || (sb.st_mode & (S_IWGRP | S_IWOTH))) {
        (void)close(fd);
        errno = EPERM;
        return -1;
    }
    return fd;
}

/* Key of a model and the name of its file; the key is sh_free()d by the caller, NULL: no memory. */
static uint8_t *make_key(const struct sh_gguf *g, size_t *n, char name[NAME_BYTES])
{
    uint8_t *key;
    struct sh_writer w;
    struct sh_sha256 h;
    char text[SH_SHA256_TEXT_BYTES];

    *n = KEY_BYTES((size_t)sh_gguf_n_shards(g));
    for (int i = 0; i < sh_gguf_n_shards(g); i++)
        if (!sh_gguf_map(g, i)) return NULL; // from memory: there is no file to know it by
    key = sh_malloc(*n);
    if (!key) return NULL;
    w = sh_writer_over(key, *n);
    write_key(&w, g);
    if (sh_sha256_of(&h, key, *n, NULL)) {
        sh_free(key);
        return NULL;
    }
    sh_sha256_text(&h, text);
    (void)snprintf(name, NAME_BYTES, "%s.sums", text);
    return key;
}

static bool read_all(int fd, uint8_t *to, size_t n)
{
    while (n > 0) {
        const ssize_t got = read(fd, to, n);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        to += got;
        n -= (size_t)got;
    }
    return true;
}

static bool write_all(int fd, const uint8_t *from, size_t n)
{
    while (n > 0) {
        const ssize_t put = write(fd, from, n);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        from += put;
        n -= (size_t)put;
    }
    return true;
}

bool manifest_load(struct sh_manifest *m, const struct sh_gguf *g, const char *dir)
{
    const size_t n = encoded_bytes(m, g);
    char name[NAME_BYTES];
    uint8_t *bytes = NULL, *key = NULL;
    size_t key_bytes;
    bool ok = false;
    int dir_fd = -1, fd = -1;
    struct stat sb;

    key = make_key(g, &key_bytes, name);
    if (!key) goto done;
    dir_fd = open_dir(dir, false);
    if (dir_fd < 0) goto done;
    fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0 || fstat(fd, &sb) != 0 || !S_ISREG(sb.st_mode) || sb.st_uid != geteuid()) goto done;
    if (sb.st_size < 0 || (uintmax_t)sb.st_size != n) goto done;
    bytes = sh_malloc(n);
    if (!bytes || !read_all(fd, bytes, n)) goto done;
    ok = decode(m, bytes, n, key, key_bytes);

done:
    if (fd >= 0) (void)close(fd);
    if (dir_fd >= 0) (void)close(dir_fd);
    sh_free(bytes);
    sh_free(key);
    return ok;
}

/* Put bytes under a name, whole; 0 or an errno. */
static int store(int dir_fd, const char *name, const uint8_t *bytes, size_t n)
{
    char temp[TEMP_BYTES];
    uint64_t number;
    int fd, why = 0;

    if (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number) return EAGAIN;
    (void)snprintf(temp, sizeof temp, "%s.%016" PRIx64, name, number);
    fd = openat(dir_fd, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) return errno;
    if (!write_all(fd, bytes, n) || fsync(fd) != 0) why = errno;
    if (close(fd) != 0 && why == 0) why = errno;
    if (why == 0 && renameat(dir_fd, temp, dir_fd, name) != 0) why = errno;
    if (why != 0) (void)unlinkat(dir_fd, temp, 0);
    return why;
}

void manifest_store(const struct sh_manifest *m, const struct sh_gguf *g, const char *dir)
{
    const size_t n = encoded_bytes(m, g);
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t *bytes = sh_malloc(n), *key = NULL;
    char name[NAME_BYTES];
    struct sh_writer w;
    struct sh_sha256 sum;
    size_t key_bytes;
    int dir_fd = -1, why = ENOMEM;

    key = make_key(g, &key_bytes, name);
    if (!bytes || !key) goto done;
    w = sh_writer_over(bytes, n);
    sh_write_bytes(&w, key, key_bytes);
    write_tensors(&w, m);
    if (sh_sha256_of(&sum, bytes, w.pos, NULL)) goto done;
    sh_write_bytes(&w, sum.bytes, SH_SHA256_BYTES);
    SH_ASSERT(!w.bad && w.pos == n);
    dir_fd = open_dir(dir, true);
    why = dir_fd < 0 ? errno : store(dir_fd, name, bytes, n);

done:
    if (why != 0) {
        (void)sh_fail_errno(&err, SHOAL_ERR_IO, why, "cannot remember the hashes of %s in %s",
                            sh_gguf_path(g, 0), dir);
        sh_log(SH_LOG_WARN, "blob", "%s", err.message);
    }
    if (dir_fd >= 0) (void)close(dir_fd);
    sh_free(bytes);
    sh_free(key);
}

enum shoal_status sh_manifest_default_dir(struct sh_buf *out, struct shoal_error *err)
{
    const char *base = getenv("XDG_CACHE_HOME"), *below = "/shoal/hashes";

    if (!base || base[0] != '/') {
        base = getenv("HOME");
        below = "/.cache/shoal/hashes";
    }
    if (!base || base[0] != '/') {
        return sh_fail(err, SHOAL_ERR_NOT_FOUND,
                       "neither XDG_CACHE_HOME nor HOME names a folder to remember hashes in");
    }
    if (sh_buf_printf(out, "%s%s", base, below)) {
        return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the name of a folder below %s", base);
    }
    return SHOAL_OK;
}
