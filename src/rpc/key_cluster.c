/* rpc/key_cluster.c - the cluster file of a host: a line per worker.
 *
 *     # what follows a number sign is for people, and stays
 *     10.0.0.7:50052 SHOAL1-... attic
 *
 * A change rewrites the file line by line, under a lock on its folder, so that two of them at
 * once both take effect.
 */
#include "rpc/key_priv.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/mem.h"

#define FILE_MAX ((size_t)1 << 20)

enum shoal_status sh_cluster_address(char out[SH_KEY_ADDRESS_TEXT], const char *text,
                                     struct shoal_error *err)
{
    struct sh_endpoint ep;
    enum shoal_status st = sh_endpoint_parse(&ep, text, -1, err);

    out[0] = '\0';
    if (st) return st;
    if (!ep.host[0] || ep.port == 0 || strpbrk(ep.host, " \t#")) {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "\"%.100s\" is no address of a worker: that is a host and a port", text);
    }
    for (char *c = ep.host; *c; c++) {
        if ((unsigned char)*c <= 0x20 || *c == 0x7f) {
            return sh_fail(err, SHOAL_ERR_ARG, "there are control characters in the address");
        }
        *c = (char)tolower((unsigned char)*c);
    }
    (void)snprintf(out, SH_KEY_ADDRESS_TEXT, strchr(ep.host, ':') ? "[%s]:%u" : "%s:%u", ep.host,
                   (unsigned)ep.port);
    return SHOAL_OK;
}

/* ---- lines ---------------------------------------------------------------------------------- */

// The next line of a text, without its end; false after the last.
static bool next_line(struct sh_str *rest, struct sh_str *line)
{
    const char *end = rest->len ? memchr(rest->ptr, '\n', rest->len) : NULL;

    if (rest->len == 0) return false;
    line->ptr = rest->ptr;
    line->len = end ? (size_t)(end - rest->ptr) : rest->len;
    rest->ptr += line->len + (end ? 1 : 0);
    rest->len -= line->len + (end ? 1 : 0);
    return true;
}

// The next word of a line; empty at its end and at a comment.
static struct sh_str next_word(struct sh_str *line)
{
    struct sh_str word;

    while (line->len > 0 && (*line->ptr == ' ' || *line->ptr == '\t' || *line->ptr == '\r')) {
        line->ptr++;
        line->len--;
    }
    if (line->len > 0 && *line->ptr == '#') line->len = 0;
    word = (struct sh_str){line->ptr, 0};
    while (line->len > 0 && *line->ptr != ' ' && *line->ptr != '\t' && *line->ptr != '\r') {
        line->ptr++;
        line->len--;
        word.len++;
    }
    return word;
}

// A word as a text of its own; false if it has no room or holds a zero byte.
static bool copy_word(char *out, size_t cap, struct sh_str word)
{
    if (word.len >= cap || (word.len > 0 && memchr(word.ptr, '\0', word.len))) return false;
    if (word.len > 0) memcpy(out, word.ptr, word.len);
    out[word.len] = '\0';
    return true;
}

/* One line's worker; *is_one is false for a line without any. */
static enum shoal_status parse_line(struct sh_cluster_entry *e, struct sh_str line, bool *is_one,
                                    struct shoal_error *err)
{
    char text[SH_KEY_ADDRESS_TEXT], key[SH_KEY_TEXT + 8];
    struct sh_str address = next_word(&line), words = next_word(&line), name = next_word(&line);
    enum shoal_status st;

    memset(e, 0, sizeof *e);
    *is_one = address.len > 0;
    if (!*is_one) return SHOAL_OK;
    if (!copy_word(text, sizeof text, address))
        return sh_fail(err, SHOAL_ERR_ARG, "the address is too long");
    if (words.len == 0) return sh_fail(err, SHOAL_ERR_ARG, "there is no key behind the address");
    if (!copy_word(key, sizeof key, words))
        return sh_fail(err, SHOAL_ERR_ARG, "the key is too long");
    if (!copy_word(e->name, sizeof e->name, name) || next_word(&line).len > 0)
        return sh_fail(err, SHOAL_ERR_ARG, "behind the key there is more than a name");
    st = sh_cluster_address(e->address, text, err);
    if (!st && e->name[0]) st = sh_key_name_check(e->name, err);
    if (!st) st = sh_key_parse(&e->key, key, err);
    if (!st) st = sh_key_id(e->kid, &e->key, err);
    sh_wipe(key, sizeof key);
    return st;
}

/* ---- loading -------------------------------------------------------------------------------- */

const struct sh_cluster_entry *sh_cluster_find(const struct sh_cluster *c, const char *address)
{
    for (size_t i = 0; i < c->n; i++) {
        if (strcmp(c->entry[i].address, address) == 0) return &c->entry[i];
    }
    return NULL;
}

void sh_cluster_release(struct sh_cluster *c)
{
    if (c->entry) sh_wipe(c->entry, c->n * sizeof *c->entry);
    sh_free(c->entry);
    *c = (struct sh_cluster)SH_CLUSTER_INIT;
}

static enum shoal_status parse_file(struct sh_cluster *c, struct sh_str text, const char *path,
                                    struct shoal_error *err)
{
    struct sh_str rest = text, line;
    struct shoal_error why = SHOAL_ERROR_INIT;
    size_t n_lines = 1, number = 0;

    if (text.len == 0) return SHOAL_OK;
    for (size_t i = 0; i < text.len; i++)
        n_lines += text.ptr[i] == '\n';
    if (n_lines > SH_KEYS_MAX) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "%s has more than %d lines", path, SH_KEYS_MAX);
    }
    c->entry = sh_calloc(n_lines, sizeof *c->entry);
    if (!c->entry) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for %zu workers", n_lines);
    while (next_line(&rest, &line)) {
        bool is_one = false;
        struct sh_cluster_entry *e = &c->entry[c->n];
        number++;
        if (parse_line(e, line, &is_one, &why)) {
            return sh_fail(err, SHOAL_ERR_FORMAT, "%s, line %zu: %s", path, number, why.message);
        }
        if (!is_one) continue;
        if (sh_cluster_find(c, e->address)) {
            return sh_fail(err, SHOAL_ERR_FORMAT, "%s, line %zu: there is a line for %s already",
                           path, number, e->address);
        }
        c->n++;
    }
    return SHOAL_OK;
}

/* ---- the file ------------------------------------------------------------------------------- */

struct cluster_file {
    const char *path, *name;
    int folder;         // -1: there is none
    struct sh_buf text; // empty where there is no file
};

static enum shoal_status open_file(struct cluster_file *f, const char *path, bool to_change,
                                   struct shoal_error *err)
{
    const char *slash = strrchr(path, '/');
    struct sh_buf folder = SH_BUF_INIT;
    enum shoal_status st;

    *f = (struct cluster_file){.path = path, .name = slash ? slash + 1 : path, .folder = -1};
    st = slash ? sh_buf_append(&folder, path, slash == path ? 1 : (size_t)(slash - path))
               : sh_buf_append(&folder, ".", 1);
    if (st) {
        st = sh_fail(err, st, "no memory for the name of a folder");
        goto done;
    }
    st = sh_secret_folder(&f->folder, folder.ptr, SH_SECRET_KEPT, to_change, err);
    if (st || f->folder < 0) goto done;
    while (to_change && flock(f->folder, LOCK_EX) < 0) {
        if (errno == EINTR) continue;
        st = sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot lock the folder %s", folder.ptr);
        goto done;
    }
    st = sh_secret_read(&f->text, NULL, f->folder, f->name, path, FILE_MAX, err);
    if (st == SHOAL_ERR_NOT_FOUND) st = SHOAL_OK;

done:
    sh_buf_release(&folder);
    return st;
}

static void close_file(struct cluster_file *f)
{
    sh_secret_release(&f->text);
    if (f->folder >= 0) (void)close(f->folder); // and the lock with it
}

enum shoal_status sh_cluster_load(const char *path, struct sh_cluster *out, struct shoal_error *err)
{
    struct cluster_file f;
    enum shoal_status st = open_file(&f, path, false, err);

    *out = (struct sh_cluster)SH_CLUSTER_INIT;
    if (!st) st = parse_file(out, (struct sh_str){f.text.ptr, f.text.len}, path, err);
    if (st) sh_cluster_release(out);
    close_file(&f);
    return st;
}

/* The file again with `line` in place of the one with this address, or at its end; NULL: without
 * it.  *found: there was one. */
static enum shoal_status rewrite(struct cluster_file *f, const char *address, const char *line,
                                 bool *found, struct shoal_error *err)
{
    struct sh_str rest = {f->text.ptr, f->text.len}, old;
    struct sh_buf text = SH_BUF_INIT;
    enum shoal_status st = sh_buf_reserve(&text, f->text.len + 1024);

    *found = false;
    while (!st && next_line(&rest, &old)) {
        struct sh_cluster_entry e;
        bool is_one;
        // The file has been parsed before: no line fails.
        const bool is_it =
            !parse_line(&e, old, &is_one, NULL) && is_one && strcmp(e.address, address) == 0;
        sh_key_wipe(&e.key);
        if (is_it) *found = true;
        if (!is_it) st = sh_buf_append(&text, old.ptr, old.len);
        if (!st && !is_it) st = sh_buf_append(&text, "\n", 1);
        if (!st && is_it && line) st = sh_buf_append(&text, line, strlen(line));
    }
    if (!st && !*found && line) st = sh_buf_append(&text, line, strlen(line));
    if (st) {
        st = sh_fail(err, st, "no memory to write %s", f->path);
    } else if (text.len > FILE_MAX) {
        st = sh_fail(err, SHOAL_ERR_LIMIT, "%s would be longer than %zu bytes", f->path, FILE_MAX);
    } else if (*found || line) {
        st = sh_secret_write(f->folder, f->name, f->path,
                             (struct sh_str){text.ptr ? text.ptr : "", text.len}, true, err);
    }
    sh_secret_release(&text);
    return st;
}

static enum shoal_status change(const char *path, const char *address, const char *line,
                                bool *found, struct shoal_error *err)
{
    struct sh_cluster all = SH_CLUSTER_INIT;
    struct cluster_file f;
    enum shoal_status st = open_file(&f, path, true, err);

    *found = false;
    // A file that is damaged is told, not rewritten.
    if (!st) st = parse_file(&all, (struct sh_str){f.text.ptr, f.text.len}, path, err);
    if (!st) st = rewrite(&f, address, line, found, err);
    sh_cluster_release(&all);
    close_file(&f);
    return st;
}

enum shoal_status sh_cluster_put(const char *path, const char *address, const struct sh_key *key,
                                 const char *name, bool *replaced, struct shoal_error *err)
{
    char where[SH_KEY_ADDRESS_TEXT], text[SH_KEY_TEXT];
    char line[SH_KEY_ADDRESS_TEXT + SH_KEY_TEXT + SH_KEY_NAME_TEXT + 4];
    enum shoal_status st = sh_cluster_address(where, address, err);

    *replaced = false;
    if (!st && name) st = sh_key_name_check(name, err);
    if (!st) st = sh_key_format(text, key, err);
    if (st) return st;
    (void)snprintf(line, sizeof line, "%s %s%s%s\n", where, text, name ? " " : "",
                   name ? name : "");
    st = change(path, where, line, replaced, err);
    sh_wipe(line, sizeof line);
    sh_wipe(text, sizeof text);
    return st;
}

enum shoal_status sh_cluster_forget(const char *path, const char *address, struct shoal_error *err)
{
    char where[SH_KEY_ADDRESS_TEXT];
    bool found = false;
    enum shoal_status st = sh_cluster_address(where, address, err);

    if (!st) st = change(path, where, NULL, &found, err);
    if (!st && !found) {
        st = sh_fail(err, SHOAL_ERR_NOT_FOUND, "there is no worker %s in %s", where, path);
    }
    return st;
}
