/* rpc/key_store.c - a worker's keys: one folder, one file per client, its name the client's. */
#include "rpc/key_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

#define FILE_MAX 512
/* A change within this time of another may leave the folder with the same stamp. */
#define SETTLE_S 2

static enum shoal_status set_key(struct sh_key_entry *e, const char *name, const struct sh_key *key,
                                 struct shoal_error *err)
{
    e->key = *key;
    (void)snprintf(e->name, sizeof e->name, "%s", name);
    return sh_key_id(e->kid, key, err);
}

/* A file's entry.  Its text is the key's and a line end, and nothing else. */
static enum shoal_status read_entry(struct sh_key_entry *e, int fd, const char *folder,
                                    const char *name, struct shoal_error *err)
{
    const struct sh_secret_path path = sh_secret_path(folder, name);
    struct shoal_error why = SHOAL_ERROR_INIT;
    struct sh_buf text = SH_BUF_INIT;
    struct sh_key key;
    enum shoal_status st = sh_secret_read(&text, &e->made_s, fd, name, path.text, FILE_MAX, err);

    if (st) goto done;
    if (text.len > 0 && text.ptr[text.len - 1] == '\n') text.ptr[--text.len] = '\0';
    if (strlen(text.ptr) != text.len || sh_key_parse(&key, text.ptr, &why)) {
        st = sh_fail(err, SHOAL_ERR_FORMAT, "%s holds no key: %s; shoal key revoke %s removes it",
                     path.text, why.code ? why.message : "there is a zero byte in it", name);
        goto done;
    }
    st = set_key(e, name, &key, err);
    sh_key_wipe(&key);

done:
    sh_secret_release(&text);
    return st;
}

static enum shoal_status fail_unknown(const char *folder, const char *name, struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_NOT_FOUND,
                   "there is no key \"%s\" in %s; shoal key list shows "
                   "those there are",
                   name, folder);
}

/* ---- one key -------------------------------------------------------------------------------- */

enum shoal_status sh_key_store_make(const char *folder, const char *name, struct sh_key_entry *out,
                                    struct shoal_error *err)
{
    const struct sh_secret_path path = sh_secret_path(folder, name);
    char text[SH_KEY_TEXT + 1];
    struct sh_key key;
    int fd = -1;
    enum shoal_status st;

    memset(out, 0, sizeof *out);
    st = sh_key_name_check(name, err);
    if (!st) st = sh_secret_folder(&fd, folder, SH_SECRET_CLOSED, true, err);
    if (!st) st = sh_key_make(&key, err);
    if (!st) st = sh_key_format(text, &key, err);
    if (st) goto done;
    const size_t n = strlen(text);
    text[n] = '\n';
    st = sh_secret_write(fd, name, path.text, (struct sh_str){text, n + 1}, false, err);
    if (st == SHOAL_ERR_STATE) {
        st = sh_fail(err, st,
                     "there is a key \"%s\" already; shoal key show %s shows it, shoal key "
                     "revoke %s ends its use",
                     name, name, name);
    }
    if (!st) st = set_key(out, name, &key, err);
    if (!st) out->made_s = (int64_t)time(NULL);

done:
    sh_key_wipe(&key);
    sh_wipe(text, sizeof text);
    if (fd >= 0) (void)close(fd);
    return st;
}

enum shoal_status sh_key_store_get(const char *folder, const char *name, struct sh_key_entry *out,
                                   struct shoal_error *err)
{
    int fd = -1;
    enum shoal_status st = sh_key_name_check(name, err);

    memset(out, 0, sizeof *out);
    if (!st) st = sh_secret_folder(&fd, folder, SH_SECRET_CLOSED, false, err);
    if (st) return st;
    st = fd < 0 ? SHOAL_ERR_NOT_FOUND : read_entry(out, fd, folder, name, err);
    if (st == SHOAL_ERR_NOT_FOUND) st = fail_unknown(folder, name, err);
    if (fd >= 0) (void)close(fd);
    return st;
}

enum shoal_status sh_key_store_revoke(const char *folder, const char *name, struct shoal_error *err)
{
    int fd = -1;
    enum shoal_status st = sh_key_name_check(name, err);

    if (!st) st = sh_secret_folder(&fd, folder, SH_SECRET_CLOSED, false, err);
    if (st) return st;
    const int rc = fd < 0 ? -1 : unlinkat(fd, name, 0);
    if (fd < 0 || (rc < 0 && errno == ENOENT)) {
        st = fail_unknown(folder, name, err);
    } else if (rc < 0) {
        st = sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot remove the key \"%s\" from %s", name,
                           folder);
    } else if (fsync(fd) < 0) {
        st =
            sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot make the change of %s durable", folder);
    }
    if (fd >= 0) (void)close(fd);
    return st;
}

/* ---- all keys ------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    const struct sh_key_entry *x = a, *y = b;

    return strcmp(x->name, y->name);
}

static enum shoal_status add_entry(struct sh_key_list *list, size_t *cap, int fd,
                                   const char *folder, const char *name, struct shoal_error *err)
{
    enum shoal_status st;

    if (list->n == SH_KEYS_MAX) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "%s holds more than %d keys", folder, SH_KEYS_MAX);
    }
    if (list->n == *cap) {
        // Not grown in place: the old block must be wiped.
        const size_t more = *cap ? 2 * *cap : 16;
        struct sh_key_entry *entry = sh_calloc(more, sizeof *entry);
        if (!entry) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for %zu keys", more);
        if (list->n > 0) memcpy(entry, list->entry, list->n * sizeof *entry);
        if (list->entry) sh_wipe(list->entry, list->n * sizeof *entry);
        sh_free(list->entry);
        list->entry = entry;
        *cap = more;
    }
    st = read_entry(&list->entry[list->n], fd, folder, name, err);
    if (st == SHOAL_ERR_NOT_FOUND) return SHOAL_OK; // revoked at this moment
    if (!st) list->n++;
    return st;
}

/* When the folder last changed.  Stamps are coarse: one that is young may hide another change. */
static void stamp(struct sh_key_list *list, const struct stat *s)
{
    const time_t now = time(NULL);

    list->stamp_s = s ? (int64_t)s->st_mtim.tv_sec : -1;
    list->stamp_ns = s ? (int64_t)s->st_mtim.tv_nsec : -1;
    list->is_settled = !s || s->st_mtim.tv_sec + SETTLE_S < now;
}

static enum shoal_status load_from(struct sh_key_list *list, int fd, const char *folder,
                                   struct shoal_error *err)
{
    const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    enum shoal_status st = SHOAL_OK;
    size_t cap = 0;

    if (!dir) {
        st = sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot list the folder %s", folder);
        if (copy >= 0) (void)close(copy);
        return st;
    }
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(dir);
        if (!e && errno)
            st = sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot list the folder %s", folder);
        if (!e || st) break;
        if (sh_key_name_check(e->d_name, NULL)) continue; // drafts, and what is not ours
        st = add_entry(list, &cap, fd, folder, e->d_name, err);
        if (st) break;
    }
    (void)closedir(dir);
    if (!st && list->n > 0) qsort(list->entry, list->n, sizeof *list->entry, by_name);
    return st;
}

enum shoal_status sh_key_store_load(const char *folder, struct sh_key_list *out,
                                    struct shoal_error *err)
{
    struct sh_key_list fresh = SH_KEY_LIST_INIT;
    struct stat s;
    int fd = -1;
    enum shoal_status st = sh_secret_folder(&fd, folder, SH_SECRET_CLOSED, false, err);

    if (st) goto done;
    if (fd >= 0) {
        if (fstat(fd, &s) < 0) { // before it is read: a change meanwhile gives another stamp
            st = sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot look at the folder %s", folder);
            goto done;
        }
        st = load_from(&fresh, fd, folder, err);
        if (st) goto done;
    }
    stamp(&fresh, fd >= 0 ? &s : NULL);
    sh_key_list_release(out);
    *out = fresh;
    fresh = (struct sh_key_list)SH_KEY_LIST_INIT;

done:
    sh_key_list_release(&fresh);
    if (fd >= 0) (void)close(fd);
    return st;
}

enum shoal_status sh_key_store_refresh(const char *folder, struct sh_key_list *list, bool *changed,
                                       struct shoal_error *err)
{
    const struct sh_key_list before = *list;
    struct stat s;
    const bool is_there = lstat(folder, &s) == 0;
    enum shoal_status st;

    *changed = false;
    if (before.is_settled && before.stamp_s == (is_there ? (int64_t)s.st_mtim.tv_sec : -1) &&
        before.stamp_ns == (is_there ? (int64_t)s.st_mtim.tv_nsec : -1)) {
        return SHOAL_OK;
    }
    st = sh_key_store_load(folder, list, err);
    *changed = !st;
    return st;
}

const struct sh_key_entry *sh_key_list_find(const struct sh_key_list *list, const char *kid)
{
    for (size_t i = 0; i < list->n; i++) {
        if (strcmp(list->entry[i].kid, kid) == 0) return &list->entry[i];
    }
    return NULL;
}

void sh_key_list_release(struct sh_key_list *list)
{
    if (list->entry) sh_wipe(list->entry, list->n * sizeof *list->entry);
    sh_free(list->entry);
    *list = (struct sh_key_list)SH_KEY_LIST_INIT;
}
