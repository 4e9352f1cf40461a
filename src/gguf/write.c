/* gguf/write.c - writing what a writer has collected: dealing tensors out to shards, and files
 * that appear whole or not at all. */
#include "gguf/write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "gguf/file.h"
#include "gguf/file_priv.h"
#include "gguf/names_priv.h"
#include "gguf/show_priv.h"
#include "gguf/write_priv.h"

/* Where bytes go: a file, or memory when fd is negative. */
struct sink {
    int fd;
    const char *path;
    struct sh_buf *memory;
};

/* One file on its way: written as `temp`, to become `path`. */
struct output {
    struct sh_buf path, temp;
    bool exists; /* `temp` is there and ours to remove */
};

static enum shoal_status sink_write(const struct sink *s, const void *p, size_t n,
                                    struct shoal_error *err)
{
    const char *at = p;
    enum shoal_status st;

    if (s->fd < 0) {
        st = sh_buf_append(s->memory, p, n);
        return st ? sh_fail(err, st, "gguf: writing: no memory for %zu bytes", n) : SHOAL_OK;
    }
    while (n > 0) {
        const size_t step = n < ((size_t)1 << 30) ? n : (size_t)1 << 30;
        const ssize_t done = write(s->fd, at, step);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) {
            return sh_fail_errno(err, SHOAL_ERR_IO, done < 0 ? errno : ENOSPC,
                                 "gguf: cannot write %s", s->path);
        }
        at += done;
        n -= (size_t)done;
    }
    return SHOAL_OK;
}

static enum shoal_status sink_pad(const struct sink *s, size_t n, struct shoal_error *err)
{
    static const char ZEROS[512];
    enum shoal_status st = SHOAL_OK;

    while (n > 0 && !st) {
        const size_t step = n < sizeof ZEROS ? n : sizeof ZEROS;
        st = sink_write(s, ZEROS, step, err);
        n -= step;
    }
    return st;
}

static enum shoal_status write_part(const struct sh_gguf_writer *w, const struct sh_gguf_part *part,
                                    const struct sink *s, struct shoal_error *err)
{
    struct sh_buf head = SH_BUF_INIT;
    enum shoal_status st = sh_gguf_encode_head(w, part, &head);

    if (st) {
        st = sh_fail(err, st, "gguf: writing: %zu keys and %zu tensors %s", w->n_pairs, part->n,
                     st == SHOAL_ERR_NOMEM ? "do not fit into memory" : "are too many bytes");
        goto done;
    }
    st = sink_write(s, head.ptr, head.len, err);
    for (size_t i = part->first; i < part->first + part->n && !st; i++) {
        const struct sh_gguf_source *t = &w->tensors[i];
        const size_t tail = t->data_bytes % w->alignment;
        st = sink_write(s, t->data, t->data_bytes, err);
        if (!st && tail) st = sink_pad(s, w->alignment - tail, err);
    }

done:
    sh_buf_release(&head);
    return st;
}

/* The last tensor, exclusive, of the shard that starts at `first`: as near to its even share of
 * the bytes as whole tensors allow, at least one, and one left for each shard behind it. */
static size_t part_end(const struct sh_gguf_writer *w, size_t first, int shards_left)
{
    const size_t last = w->n_tensors - (size_t)(shards_left - 1);
    size_t end = first + 1;
    double left = 0, have = (double)w->tensors[first].data_bytes;

    if (shards_left == 1) return w->n_tensors;
    for (size_t i = first; i < w->n_tensors; i++)
        left += (double)w->tensors[i].data_bytes;
    while (end < last) {
        const double next = (double)w->tensors[end].data_bytes;
        if (have + next / 2 > left / shards_left) break;
        have += next;
        end++;
    }
    return end;
}

/* A file next to `out->path` that nobody else has. */
static int create_temp(struct output *out, struct shoal_error *err)
{
    int fd = -1;

    for (int i = 0; i < 100 && fd < 0; i++) {
        sh_buf_clear(&out->temp);
        if (sh_buf_printf(&out->temp, "%s.tmp-%ld-%d", out->path.ptr, (long)getpid(), i)) {
            (void)sh_fail(err, SHOAL_ERR_NOMEM, "gguf: no memory to write %s", out->path.ptr);
            return -1;
        }
        fd = open(out->temp.ptr, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST) break;
    }
    if (fd < 0) {
        (void)sh_fail_errno(err, SHOAL_ERR_IO, errno, "gguf: cannot create %s", out->temp.ptr);
    }
    out->exists = fd >= 0;
    return fd;
}

static enum shoal_status write_temp(const struct sh_gguf_writer *w, const struct sh_gguf_part *part,
                                    struct output *out, struct shoal_error *err)
{
    struct shoal_error why = SHOAL_ERROR_INIT;
    struct sink s = {.fd = create_temp(out, &why), .path = out->path.ptr};
    enum shoal_status st = why.code;

    if (s.fd < 0) goto done;
    st = write_part(w, part, &s, &why);
    if (!st && fsync(s.fd) != 0) {
        st = sh_fail_errno(&why, SHOAL_ERR_IO, errno, "gguf: cannot write %s", s.path);
    }
    if (close(s.fd) != 0 && !st) {
        st = sh_fail_errno(&why, SHOAL_ERR_IO, errno, "gguf: cannot write %s", s.path);
    }

done:
    if (st && err) *err = why;
    return st;
}

/* Make a rename last: sync the folder.  Not every file system can; nothing is lost by that. */
static void sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    struct sh_buf folder = SH_BUF_INIT;
    int fd;

    if (sh_buf_append(&folder, slash ? path : ".", slash ? (size_t)(slash - path) + 1 : 1)) return;
    fd = open(folder.ptr, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        (void)close(fd);
    }
    sh_buf_release(&folder);
}

static enum shoal_status name_output(struct output *out, const char *path, int no, int count,
                                     struct shoal_error *err)
{
    struct sh_str prefix = sh_str_from(path);
    struct stat sb;
    enum shoal_status st;

    if (count > 1) {
        if (prefix.len > 5 && memcmp(prefix.ptr + prefix.len - 5, ".gguf", 5) == 0) prefix.len -= 5;
        st = sh_gguf_split_path(&out->path, prefix, no, count);
    } else {
        st = sh_buf_append(&out->path, prefix.ptr, prefix.len);
    }
    if (st) return sh_fail(err, st, "gguf: no memory to write %s", path);
    // Renaming over a device or a pipe would remove it.
    if (stat(out->path.ptr, &sb) == 0 && !S_ISREG(sb.st_mode)) {
        return sh_fail(err, SHOAL_ERR_ARG, "gguf: cannot write %s: it is no regular file",
                       out->path.ptr);
    }
    return SHOAL_OK;
}

/* Move all files to their places.  The first shard comes last: with it the model can be opened. */
static enum shoal_status publish(struct output *outs, int n, struct shoal_error *err)
{
    for (int i = n - 1; i >= 0; i--) {
        if (rename(outs[i].temp.ptr, outs[i].path.ptr) != 0) {
            return sh_fail_errno(err, SHOAL_ERR_IO, errno, "gguf: cannot write %s",
                                 outs[i].path.ptr);
        }
        outs[i].exists = false;
    }
    sync_folder(outs[0].path.ptr);
    return SHOAL_OK;
}

static enum shoal_status check_names(const struct sh_gguf_writer *w, struct shoal_error *err)
{
    struct sh_gguf_names names = {.list = NULL};
    size_t a, b;
    enum shoal_status st = SHOAL_OK;

    if (!sh_gguf_names_init(&names, w->n_tensors)) {
        return sh_fail(err, SHOAL_ERR_NOMEM, "gguf: writing: no memory for %zu names",
                       w->n_tensors);
    }
    for (size_t i = 0; i < w->n_tensors; i++)
        names.list[i] = (struct sh_gguf_name){.name = w->tensors[i].name, .index = i};
    sh_gguf_names_sort(&names);
    if (sh_gguf_names_repeated(&names, &a, &b)) {
        st = sh_fail(err, SHOAL_ERR_ARG, "gguf: writing: two tensors are called '%s'",
                     sh_gguf_quote(w->tensors[a].name).text);
    }
    sh_gguf_names_release(&names);
    return st;
}

static enum shoal_status check_ready(const struct sh_gguf_writer *w, struct shoal_error *err)
{
    if (w->failed.code) {
        if (err) *err = w->failed;
        return w->failed.code;
    }
    return check_names(w, err);
}

enum shoal_status sh_gguf_write(struct sh_gguf_writer *w, const char *path, int n_shards,
                                struct shoal_error *err)
{
    struct output *outs = NULL;
    size_t first = 0;
    enum shoal_status st = check_ready(w, err);

    if (st) return st;
    if (n_shards < 1) n_shards = 1;
    if (n_shards > SH_GGUF_SHARDS_MAX || (n_shards > 1 && (size_t)n_shards > w->n_tensors)) {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "gguf: %s: %d shards for %zu tensors; each takes at least one, and %d is "
                       "the most",
                       path, n_shards, w->n_tensors, SH_GGUF_SHARDS_MAX);
    }
    outs = sh_calloc((size_t)n_shards, sizeof *outs);
    if (!outs) return sh_fail(err, SHOAL_ERR_NOMEM, "gguf: no memory to write %s", path);

    for (int i = 0; i < n_shards; i++) {
        const size_t end = n_shards == 1 ? w->n_tensors : part_end(w, first, n_shards - i);
        const struct sh_gguf_part part = {
            .first = first, .n = end - first, .no = i, .count = n_shards};
        st = name_output(&outs[i], path, i, n_shards, err);
        if (st) goto done;
        st = write_temp(w, &part, &outs[i], err);
        if (st) goto done;
        first = end;
    }
    st = publish(outs, n_shards, err);

done:
    for (int i = 0; i < n_shards; i++) {
        if (outs[i].exists) (void)unlink(outs[i].temp.ptr);
        sh_buf_release(&outs[i].path);
        sh_buf_release(&outs[i].temp);
    }
    sh_free(outs);
    return st;
}

enum shoal_status sh_gguf_write_memory(struct sh_gguf_writer *w, struct sh_buf *out,
                                       struct shoal_error *err)
{
    const struct sh_gguf_part all = {.first = 0, .n = w->n_tensors, .no = 0, .count = 1};
    const struct sink s = {.fd = -1, .path = "memory", .memory = out};
    enum shoal_status st = check_ready(w, err);

    return st ? st : write_part(w, &all, &s, err);
}
