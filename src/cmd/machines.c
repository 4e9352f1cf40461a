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

static enum shoal_status find_workers(struct sh_machines *m, const struct sh_machines_named *named,
                                      struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;
    char text[300];

    for (int i = 0; i < named->workers->n && !st; i++) {
        struct sh_known *k = &m->known[m->n_known++];
        st = copy_word(text, sizeof text, named->workers->word[i], "--workers", err);
        if (!st) st = sh_known_find(k, NULL, text, named->key, err);
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

void sh_machines_keep_keys(struct sh_machines *m)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    bool replaced;

    for (int i = 0; i < m->n_known; i++) {
        if (sh_known_keep(&m->known[i], NULL, &replaced, &err))
            sh_say("the key of %s is not kept: %s", m->known[i].address, err.message);
    }
}

void sh_machines_destroy(struct sh_machines *m)
{
    if (!m) return;
    for (int i = 0; i < m->n_known; i++)
        sh_known_wipe(&m->known[i]);
    sh_free(m);
}
