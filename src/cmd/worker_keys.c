/* cmd/worker_keys.c - which keys a worker uses, by where it listens.
 *
 *                      --insecure    --pair or --keys    neither
 *      this machine    no keys       keys                no keys
 *      elsewhere       no keys       keys                those that there are; none: refused
 */
#include <string.h>

#include "cmd/args.h"
#include "cmd/console.h"
#include "cmd/worker_priv.h"

// A word of a command line, quoted where a shell would take it apart.
static enum shoal_status add_word(struct sh_buf *out, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-+=./:,@%";
    enum shoal_status st;

    if (*word && strspn(word, plain) == strlen(word)) return sh_buf_printf(out, " %s", word);
    st = sh_buf_append(out, " '", 2);
    for (; *word && !st; word++)
        st = *word == '\'' ? sh_buf_append(out, "'\\''", 4) : sh_buf_append(out, word, 1);
    return st ? st : sh_buf_append(out, "'", 1);
}

// The refusal is the line that would do it.
static int refuse(const struct worker_options *o, int argc, char **argv)
{
    struct sh_buf line = SH_BUF_INIT;
    enum shoal_status st = sh_buf_printf(&line, "shoal worker");

    for (int i = 1; i < argc && !st; i++)
        st = add_word(&line, argv[i]);
    sh_say_error("worker: %s can be reached from other machines, and %s holds no key for a host; "
                 "this makes one and says what to type there: %s --pair laptop",
                 o->listen, o->keys ? o->keys : "this user", st ? "shoal worker" : line.ptr);
    sh_buf_release(&line);
    return SH_EXIT_USAGE;
}

static enum shoal_status find_folder(struct worker_keys *k, const struct worker_options *o,
                                     struct shoal_error *err)
{
    if (!o->keys) return sh_key_folder(&k->folder, err);
    if (sh_buf_printf(&k->folder, "%s", o->keys))
        return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the name of a folder");
    return SHOAL_OK;
}

// The key of --pair: the one of that name, or a new one.
static enum shoal_status pair(struct worker_keys *k, const char *name, struct shoal_error *err)
{
    enum shoal_status st = sh_key_store_get(k->folder.ptr, name, &k->pair, err);

    if (st == SHOAL_ERR_NOT_FOUND) {
        st = sh_key_store_make(k->folder.ptr, name, &k->pair, err);
        k->is_new = !st;
    }
    k->has_pair = !st;
    return st;
}

static enum shoal_status count_keys(const struct worker_keys *k, size_t *n, struct shoal_error *err)
{
    struct sh_key_list list = SH_KEY_LIST_INIT;
    const enum shoal_status st = sh_key_store_load(k->folder.ptr, &list, err);

    *n = list.n;
    sh_key_list_release(&list);
    return st;
}

int sh_worker_keys_choose(struct worker_keys *k, const struct worker_options *o, int argc,
                          char **argv)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    bool is_open = false;
    size_t n = 0;
    enum shoal_status st;

    st = sh_worker_is_open(&is_open, o->listen, &err);
    if (st == SHOAL_ERR_ARG) return sh_usage_error(&sh_worker_command, "%s", err.message);
    if (st) return sh_say_failure(st, &err);
    if (o->insecure || (!is_open && !o->pair && !o->keys)) return SH_PARSED;

    st = find_folder(k, o, &err);
    if (!st && o->pair) st = pair(k, o->pair, &err);
    if (!st) st = count_keys(k, &n, &err);
    if (st == SHOAL_ERR_ARG) return sh_usage_error(&sh_worker_command, "%s", err.message);
    if (st == SHOAL_ERR_NOT_FOUND && !o->keys) n = 0, st = SHOAL_OK; // no place for keys
    if (st) return sh_say_failure(st, &err);
    return n == 0 ? refuse(o, argc, argv) : SH_PARSED;
}

void sh_worker_keys_release(struct worker_keys *k)
{
    sh_key_wipe(&k->pair.key);
    sh_buf_release(&k->folder);
}
