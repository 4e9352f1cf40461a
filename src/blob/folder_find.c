/* blob/folder_find.c - a walk over a folder, level by level. */
#include "blob/folder_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#define LEVELS_MAX 5 // the folder itself and four below it
#define DIRS_MAX 4096

static bool push(struct path_list *l, const char *dir, const char *name)
{
    struct sh_buf path = SH_BUF_INIT;

    if (l->n == l->cap) {
        const size_t cap = l->cap ? 2 * l->cap : 16;
        char **p = sh_realloc_array(l->paths, cap, sizeof *p);
        if (!p) return false;
        l->paths = p;
        l->cap = cap;
    }
    if (name ? sh_buf_printf(&path, "%s/%s", dir, name) : sh_buf_printf(&path, "%s", dir)) {
        return false;
    }
    l->paths[l->n++] = path.ptr; // moved
    return true;
}

void path_list_release(struct path_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        sh_free(l->paths[i]);
    sh_free(l->paths);
    *l = (struct path_list){.paths = NULL};
}

static bool are_digits(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] < '0' || p[i] > '9') return false;
    return true;
}

/* *.gguf, and not -0000K-of-0000N.gguf with K > 1. */
static bool is_model(const char *name)
{
    const size_t n = strlen(name), tail = sizeof "-00001-of-00002.gguf" - 1;
    const char *t;

    if (n < 6 || strcmp(name + n - 5, ".gguf") != 0) return false;
    if (n < tail) return true;
    t = name + n - tail;
    if (t[0] != '-' || !are_digits(t + 1, 5) || memcmp(t + 6, "-of-", 4) != 0) return true;
    return !are_digits(t + 10, 5) || memcmp(t + 1, "00001", 5) == 0;
}

struct walk {
    struct path_list *files, dirs;
    size_t files_max, n_left_out;
};

/* One name of a directory; false when out of memory. */
static bool look_at(struct walk *w, int dir_fd, const char *dir, const char *name)
{
    struct stat sb;

    if (name[0] == '.' || fstatat(dir_fd, name, &sb, AT_SYMLINK_NOFOLLOW) != 0) return true;
    if (S_ISDIR(sb.st_mode)) {
        if (w->dirs.n < DIRS_MAX) return push(&w->dirs, dir, name);
        w->n_left_out++;
        return true;
    }
    if (!is_model(name)) return true;
    if (S_ISLNK(sb.st_mode) && fstatat(dir_fd, name, &sb, 0) != 0) return true;
    if (!S_ISREG(sb.st_mode)) return true;
    if (w->files->n < w->files_max) return push(w->files, dir, name);
    w->n_left_out++;
    return true;
}

/* A directory below the first that cannot be read is passed over. */
static enum shoal_status walk_dir(struct walk *w, const char *dir, bool first,
                                  struct shoal_error *err)
{
    DIR *d = opendir(dir);
    bool ok = true;

    if (!d && first) return sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot read %s", dir);
    if (!d) return SHOAL_OK;
    for (const struct dirent *e = readdir(d); e && ok; e = readdir(d))
        ok = look_at(w, dirfd(d), dir, e->d_name);
    (void)closedir(d);
    return ok ? SHOAL_OK : sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the names in %s", dir);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

enum shoal_status folder_find(struct path_list *out, const char *dir, size_t files_max,
                              struct shoal_error *err)
{
    struct walk w = {.files = out, .files_max = files_max};
    enum shoal_status st = SHOAL_OK;
    size_t at = 0;

    *out = (struct path_list){.paths = NULL};
    if (!push(&w.dirs, dir, NULL)) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the name of %s", dir);
    }
    for (int level = 0; level < LEVELS_MAX && !st; level++) {
        const size_t end = w.dirs.n;
        for (; at < end && !st; at++)
            st = walk_dir(&w, w.dirs.paths[at], at == 0, err);
    }
    if (out->n > 1) qsort(out->paths, out->n, sizeof *out->paths, by_name);
    if (w.n_left_out > 0) {
        sh_log(SH_LOG_WARN, "blob",
               "%s has more than %zu model files, or folders: %zu are left out", dir, files_max,
               w.n_left_out);
    }
    path_list_release(&w.dirs);
    return st;
}
