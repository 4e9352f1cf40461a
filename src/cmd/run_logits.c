/* cmd/run_logits.c - rows of logits into a file: float32, little-endian, no header. */
#include "cmd/run_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/cursor.h"
#include "base/mem.h"

enum shoal_status sh_logits_file_open(struct sh_logits_file *f, const char *path,
                                      struct shoal_error *err)
{
    *f = (struct sh_logits_file){.path = path, .fd = -1};
    if (!path) return SHOAL_OK;
    f->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (f->fd < 0) return sh_fail_errno(err, SHOAL_ERR_IO, errno, "%s: cannot write", path);
    return SHOAL_OK;
}

bool sh_logits_file_add(struct sh_logits_file *f, const float *logits, int32_t n_vocab)
{
    const size_t bytes = (size_t)n_vocab * 4;
    struct sh_writer w;

    if (f->status) return false;
    if (!f->row) f->row = sh_malloc(bytes);
    if (!f->row) {
        f->status = sh_fail(&f->err, SHOAL_ERR_NOMEM, "no memory for a row of logits");
        return false;
    }
    w = sh_writer_over(f->row, bytes);
    for (int32_t i = 0; i < n_vocab; i++) {
        uint32_t bits;
        memcpy(&bits, &logits[i], sizeof bits);
        sh_write_u32(&w, bits);
    }
    f->status = sh_write_all(f->fd, f->path, (struct sh_str){(const char *)f->row, w.pos}, &f->err);
    return !f->status;
}

enum shoal_status sh_logits_file_close(struct sh_logits_file *f, enum shoal_status st,
                                       struct shoal_error *err)
{
    const bool failed = f->fd >= 0 && close(f->fd) < 0;

    if (failed && !f->status)
        f->status = sh_fail_errno(&f->err, SHOAL_ERR_IO, errno, "%s: cannot write", f->path);
    f->fd = -1;
    if (!f->status) return st;
    *err = f->err;
    return f->status;
}

void sh_logits_file_release(struct sh_logits_file *f)
{
    if (f->fd >= 0) (void)close(f->fd);
    sh_free(f->row);
    f->fd = -1;
    f->row = NULL;
}
