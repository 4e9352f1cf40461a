/* cmd/key.c - `shoal key`: make, list, show, revoke on a worker; add, forget on a host. */
#include "cmd/key_priv.h"

#include <jansson.h>
#include <stddef.h>
#include <unistd.h>

#include "base/mem.h"
#include "cmd/args.h"
#include "cmd/commands.h"
#include "cmd/console.h"

struct key_options {
    const char *word[2]; // NAME, or HOST:PORT and KEY
    const char *name;
    bool json;
};

#define AT(field) offsetof(struct key_options, field)
#define JSON_ROW                                                                                   \
    {                                                                                              \
        .kind = SH_ARG_FLAG, .names = "--json", .at = AT(json),                                    \
        .help = "one JSON object on stdout"                                                        \
    }

static const struct sh_arg usual_args[] = {
    {.kind = SH_ARG_SECTION, .help = "Options"},
    JSON_ROW,
};

static const struct sh_arg add_args[] = {
    {.kind = SH_ARG_SECTION, .help = "Options"},
    {.kind = SH_ARG_TEXT,
     .names = "--name",
     .value = "NAME",
     .at = AT(name),
     .help = "what to call this worker: letters a-z, digits, '.', '_' and '-'"},
    JSON_ROW,
};

#define USUAL .args = usual_args, .n_args = sizeof usual_args / sizeof usual_args[0]
#define WORDS(what, n) .operand = what, .operand_at = AT(word), .operands_max = n

enum verb { MAKE, LIST, SHOW, REVOKE, ADD, FORGET, N_VERBS };

static const struct sh_command verbs[N_VERBS] = {
    [MAKE] = {.name = "key make",
              .usage = "NAME",
              .about = "Makes a key for one host, which is called NAME here, and shows it with the "
                       "line to paste at that host. A key is 256 random bits, kept in a file of "
                       "mode 0600. Who has it is that host: give each host its own.",
              USUAL,
              WORDS("name", 1)},
    [LIST] = {.name = "key list",
              .usage = "",
              .about = "Lists the keys of hosts that this worker knows, and the workers that this "
                       "host has keys of, with ids and fingerprints. Shows no secret.",
              USUAL},
    [SHOW] = {.name = "key show",
              .usage = "NAME",
              .about = "Shows a key that was made here once more: the secret itself, the line for "
                       "the host, the fingerprint.",
              USUAL,
              WORDS("name", 1)},
    [REVOKE] = {.name = "key revoke",
                .usage = "NAME",
                .about = "Removes a key that was made here. It cannot be brought back; shoal key "
                         "make makes another one under the same name.",
                USUAL,
                WORDS("name", 1)},
    [ADD] = {.name = "key add",
             .usage = "HOST:PORT KEY [--name NAME]",
             .about = "Puts a worker and the key that it made for this host into the cluster file, "
                      "in place of an older key of that address. The checksum in the key finds a "
                      "wrong copy.",
             .more = "Other users may see a command line while it runs. KEY - reads the key from "
                     "stdin:\n"
                     "  shoal key add 10.0.0.7:50052 - < key.txt\n",
             .args = add_args,
             .n_args = sizeof add_args / sizeof add_args[0],
             WORDS("word", 2)},
    [FORGET] = {.name = "key forget",
                .usage = "HOST:PORT",
                .about = "Takes a worker and its key out of the cluster file of this host.",
                USUAL,
                WORDS("address", 1)},
};

static const struct sh_command command = {
    .name = "key",
    .usage = "make|list|show|revoke|add|forget ...",
    .about = "Makes and keeps the keys by which a worker and a host know each other on an open "
             "network: one key for each pair of them. shoal worker --pair NAME makes one, too, "
             "and prints the line for the host.",
    .more = "On the worker:\n"
            "  shoal key make NAME           make a key for a host and show it\n"
            "  shoal key show NAME           show it again\n"
            "  shoal key revoke NAME         remove it; what it opened ends at once\n"
            "On the host:\n"
            "  shoal key add HOST:PORT KEY   keep the key of a worker\n"
            "  shoal key forget HOST:PORT    remove it\n"
            "On both:\n"
            "  shoal key list                what there is, without secrets\n"
            "\n"
            "Keys are in $XDG_CONFIG_HOME/shoal or ~/.config/shoal: a file for each in keys/,\n"
            "and the file cluster with a line for each worker. Fingerprints are eight words;\n"
            "where both ends show the same ones, both have the same key.\n",
};

/* ---- what they do --------------------------------------------------------------------------- */

static enum shoal_status list_all(struct sh_buf *out, const char *folder, const char *cluster,
                                  bool json, struct shoal_error *err)
{
    struct sh_key_view view = {
        .folder = folder, .cluster = cluster, .keys = SH_KEY_LIST_INIT, .workers = SH_CLUSTER_INIT};
    enum shoal_status st = sh_key_store_load(folder, &view.keys, err);

    if (!st) st = sh_cluster_load(cluster, &view.workers, err);
    if (!st) st = sh_key_show_list(out, &view, json, err);
    sh_key_list_release(&view.keys);
    sh_cluster_release(&view.workers);
    return st;
}

// The key of a command line, or the first word of stdin.
static enum shoal_status read_key(struct sh_key *key, const char *word, struct shoal_error *err)
{
    struct sh_buf text = SH_BUF_INIT;
    enum shoal_status st = SHOAL_OK;

    if (strcmp(word, "-") != 0) return sh_key_parse(key, word, err);
    st = sh_read_all(&text, "-", 4096, err);
    if (!st) {
        const size_t n = text.ptr ? strcspn(text.ptr, " \t\r\n") : 0;
        if (text.ptr) text.ptr[n] = '\0';
        st = sh_key_parse(key, text.ptr ? text.ptr : "", err);
    }
    if (text.ptr) sh_wipe(text.ptr, text.cap);
    sh_buf_release(&text);
    return st;
}

static enum shoal_status add_worker(struct sh_buf *out, const struct key_options *o,
                                    const char *cluster, struct shoal_error *err)
{
    char address[SH_KEY_ADDRESS_TEXT];
    struct sh_key key;
    bool replaced = false;
    enum shoal_status st = sh_cluster_address(address, o->word[0], err);

    if (!st) st = read_key(&key, o->word[1], err);
    if (st) return st;
    st = sh_cluster_put(cluster, address, &key, o->name, &replaced, err);
    if (!st) st = sh_key_show_added(out, address, o->name, &key, replaced, o->json, err);
    sh_key_wipe(&key);
    return st;
}

// "{"revoked":"laptop"}" or a sentence about what is gone.
static enum shoal_status show_gone(struct sh_buf *out, const char *verb, const char *what,
                                   const char *sentence, bool json, struct shoal_error *err)
{
    json_t *o = json ? json_pack("{s:s}", verb, what) : NULL;
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    enum shoal_status st = SHOAL_ERR_NOMEM;

    if (text) st = sh_buf_printf(out, "%s\n", text);
    if (!json) st = sh_buf_printf(out, "%s %s\n", what, sentence);
    sh_free(text);
    json_decref(o);
    return st ? sh_fail(err, st, "no memory to tell of a key") : SHOAL_OK;
}

static enum shoal_status act(enum verb verb, const struct key_options *o, struct sh_buf *out,
                             struct shoal_error *err)
{
    struct sh_buf folder = SH_BUF_INIT, cluster = SH_BUF_INIT;
    struct sh_key_entry e = {.name = ""};
    enum shoal_status st = sh_key_folder(&folder, err);

    if (!st) st = sh_cluster_path(&cluster, err);
    if (st) goto done;
    switch (verb) {
    case MAKE:
    case SHOW:
        st = verb == MAKE ? sh_key_store_make(folder.ptr, o->word[0], &e, err)
                          : sh_key_store_get(folder.ptr, o->word[0], &e, err);
        if (!st) st = sh_key_show_one(out, &e, o->json, err);
        break;
    case LIST:
        st = list_all(out, folder.ptr, cluster.ptr, o->json, err);
        break;
    case REVOKE:
        st = sh_key_store_revoke(folder.ptr, o->word[0], err);
        if (!st)
            st = show_gone(out, "revoked", o->word[0],
                           "is revoked: its key opens nothing here any more", o->json, err);
        break;
    case ADD:
        st = add_worker(out, o, cluster.ptr, err);
        break;
    default:
        st = sh_cluster_forget(cluster.ptr, o->word[0], err);
        if (!st) st = show_gone(out, "forgotten", o->word[0], "is forgotten", o->json, err);
        break;
    }

done:
    sh_key_wipe(&e.key);
    sh_buf_release(&folder);
    sh_buf_release(&cluster);
    return st;
}

/* ---- the command line ----------------------------------------------------------------------- */

static const char *verb_name(const void *self, int i)
{
    (void)self;
    return verbs[i].name + 4; // behind "key "
}

// How many words a verb needs.
static int words_of(enum verb verb)
{
    return verb == LIST ? 0 : verb == ADD ? 2 : 1;
}

static int run_verb(enum verb verb, int argc, char **argv)
{
    struct key_options o = {.json = false};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_buf out = SH_BUF_INIT;
    const struct sh_command *c = &verbs[verb];
    int code = sh_args_parse(c, &o, argc, argv);
    enum shoal_status st;

    if (code != SH_PARSED) return code;
    for (int i = 0; i < words_of(verb); i++) {
        if (!o.word[i]) return sh_usage_error(c, "it needs %s", c->usage);
    }
    json_set_alloc_funcs(sh_malloc, sh_free);
    sh_console_log(SH_LOG_WARN);
    st = act(verb, &o, &out, &err);
    if (!st) st = sh_write_all(STDOUT_FILENO, "stdout", (struct sh_str){out.ptr, out.len}, &err);
    if (out.ptr) sh_wipe(out.ptr, out.cap);
    sh_buf_release(&out);
    if (st == SHOAL_ERR_ARG) return sh_usage_error(c, "%s", err.message);
    return st ? sh_say_failure(st, &err) : 0;
}

int sh_cmd_key(int argc, char **argv)
{
    struct key_options none = {.json = false};
    const char *word = argc > 1 ? argv[1] : NULL, *near;

    if (!word)
        return sh_usage_error(&command, "which of make, list, show, revoke, add and forget?");
    for (int i = 0; i < N_VERBS; i++) {
        if (strcmp(word, verb_name(NULL, i)) == 0)
            return run_verb((enum verb)i, argc - 1, argv + 1);
    }
    if (word[0] == '-') {
        const int code = sh_args_parse(&command, &none, argc, argv);
        if (code != SH_PARSED) return code;
    }
    near = sh_nearest(word, N_VERBS, verb_name, NULL);
    if (near) return sh_usage_error(&command, "there is no \"%s\"; did you mean %s?", word, near);
    return sh_usage_error(
        &command, "there is no \"%s\"; there are: make, list, show, revoke, add, forget", word);
}
