/* cmd/machines.c - see machines.h. */
#include "cmd/machines.h"

#include "base/mem.h"
#include "cmd/console.h"
#include "host/known.h"

struct sh_machines {
    struct sh_known known[SH_ARG_WORDS_MAX];
    int n_known;
    struct sh_host_worker worker[SH_ARG_WORDS_MAX];
    char text[SH_ARG_WORDS_MAX][300];
    const char *server[SH_ARG_WORDS_MAX];
    int64_t layers[SH_HOST_DEVICES_MAX + 1];
    int n_layers;
};

static enum shoal_status copy_word(char *out, size_t size, struct sh_str word, const char *option,
                                   struct shoal_error *err)
{
    if (word.len >= size)
        return sh_fail(err, SHOAL_ERR_ARG, "%s: an address of %zu letters is too long", option,
                       word.len);
    memcpy(out, word.ptr, word.len);
    out[word.len] = '\0';
    return SHOAL_OK;
}

// On this machine alone: no key is needed there.
static bool is_local(const char *address)
{
    struct sh_address list[SH_ADDRESSES_MAX];
    struct sh_endpoint ep;
    int n;

    return !sh_endpoint_parse(&ep, address, 0, NULL) &&
           !sh_address_resolve(list, &n, &ep, false, NULL) && sh_address_is_loopback(&list[0]);
}

/* The key of a command line is for the one worker that is named, or for those of several that need
 * one and have none: so a second machine is paired beside a first. */
static enum shoal_status find_worker(struct sh_known *k, const char *address,
                                     const struct sh_machines_named *named, struct shoal_error *err)
{
    enum shoal_status st = sh_known_find(k, NULL, address, NULL, err);

    if (st || !named->key) return st;
    if (named->workers->n > 1 && (k->has_key || is_local(k->address))) return SHOAL_OK;
    return sh_known_find(k, NULL, address, named->key, err);
}

static enum shoal_status find_workers(struct sh_machines *m, const struct sh_machines_named *named,
                                      struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;
    char text[300];

    for (int i = 0; i < named->workers->n && !st; i++) {
        struct sh_known *k = &m->known[m->n_known++];
        st = copy_word(text, sizeof text, named->workers->word[i], "--workers", err);
        if (!st) st = find_worker(k, text, named, err);
        m->worker[i].address = k->address;
        m->worker[i].key = k->has_key ? &k->key : NULL;
    }
    return st;
}

static enum shoal_status find_all(struct sh_machines *m, const struct sh_machines_named *named,
                                  struct shoal_error *err)
{
    const int n = named->workers->n + named->servers->n;
    enum shoal_status st;
    int64_t v;

    if (n >= SH_HOST_DEVICES_MAX)
        return sh_fail(err, SHOAL_ERR_LIMIT, "%d machines are more than %d", n,
                       SH_HOST_DEVICES_MAX - 1);
    st = find_workers(m, named, err);
    if (st) return st;
    for (int i = 0; i < named->servers->n; i++) {
        st = copy_word(m->text[i], sizeof m->text[i], named->servers->word[i], "--rpc", err);
        if (st) return st;
        m->server[i] = m->text[i];
    }
    for (int i = 0; i < named->layers->n; i++) {
        for (const char *at = named->layers->text[i]; sh_arg_number_next(&at, &v);) {
            if (m->n_layers <= SH_HOST_DEVICES_MAX) m->layers[m->n_layers++] = v;
        }
    }
    return SHOAL_OK;
}

enum shoal_status sh_machines_find(struct sh_machines **out, const struct sh_machines_named *named,
                                   struct sh_host_options *o, struct shoal_error *err)
{
    struct sh_machines *m = sh_calloc(1, sizeof *m);
    enum shoal_status st;

    *out = NULL;
    if (!m) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the list of machines");
    st = find_all(m, named, err);
    if (st) {
        sh_machines_destroy(m);
        return st;
    }
    o->n_workers = named->workers->n;
    o->workers = m->worker;
    o->n_servers = named->servers->n;
    o->servers = m->server;
    o->n_layers_given = m->n_layers;
    o->layers = m->layers;
    *out = m;
    return SHOAL_OK;
}

static void keep_key(struct sh_known *k)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    char words[SH_KEY_WORDS_TEXT];
    bool replaced;

    if (!k->is_new) return;
    if (sh_known_keep(k, NULL, &replaced, &err) || sh_key_fingerprint(words, &k->key, &err)) {
        sh_say("note: the key of %s is not kept: %s", k->address, err.message);
        return;
    }
    sh_say("note: the key of %s is kept%s; the worker shows the same words: %s", k->address,
           replaced ? " in place of another one" : ", so --key can be left out", words);
}

void sh_machines_keep_keys(struct sh_machines *m)
{
    for (int i = 0; i < m->n_known; i++)
        keep_key(&m->known[i]);
}

void sh_machines_destroy(struct sh_machines *m)
{
    if (!m) return;
    for (int i = 0; i < m->n_known; i++)
        sh_known_wipe(&m->known[i]);
    sh_free(m);
}
