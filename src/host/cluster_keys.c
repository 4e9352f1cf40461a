/* host/cluster_keys.c - see cluster_keys.h. */
#include "host/cluster_keys.h"

#include <stdio.h>
#include <string.h>

#include "net/address.h"
#include "rpc/remote.h"

static const struct sh_cluster_entry *find_name(const struct sh_cluster *c, struct sh_str word)
{
    for (size_t i = 0; i < c->n; i++) {
        if (c->entry[i].name[0] && sh_str_is(word, c->entry[i].name)) return &c->entry[i];
    }
    return NULL;
}

// The address with its port, as the cluster file writes it; a Unix socket's stays as it is.
static enum shoal_status full_address(char out[SH_KEY_ADDRESS_TEXT], const char *text,
                                      struct shoal_error *err)
{
    struct sh_endpoint ep;
    char with_port[sizeof ep.host + 16];
    enum shoal_status st = sh_endpoint_parse(&ep, text, SH_REMOTE_PORT, err);

    if (st) return st;
    if (strncmp(text, "unix:", 5) == 0) {
        (void)snprintf(out, SH_KEY_ADDRESS_TEXT, "%s", text);
        return SHOAL_OK;
    }
    (void)snprintf(with_port, sizeof with_port, strchr(ep.host, ':') ? "[%s]:%u" : "%s:%u",
                   ep.host[0] ? ep.host : "localhost", (unsigned)ep.port);
    return sh_cluster_address(out, with_port, err);
}

static enum shoal_status find_one(struct sh_cluster_worker *out, struct sh_str word,
                                  const struct sh_cluster *c, const struct sh_key *key,
                                  struct shoal_error *err)
{
    const struct sh_cluster_entry *e = find_name(c, word);
    char text[SH_KEY_ADDRESS_TEXT];
    enum shoal_status st;

    *out = (struct sh_cluster_worker){.has_key = false};
    if (word.len >= sizeof text)
        return sh_fail(err, SHOAL_ERR_ARG, "the address of a worker has %zu letters", word.len);
    (void)snprintf(text, sizeof text, "%.*s", (int)word.len, word.ptr);
    if (e) {
        memcpy(out->address, e->address, sizeof out->address);
    } else {
        st = full_address(out->address, text, err);
        if (st) return st;
        e = sh_cluster_find(c, out->address);
    }
    if (key) {
        out->key = *key;
    } else if (e) {
        out->key = e->key;
    }
    out->has_key = key || e;
    return SHOAL_OK;
}

// None where there is no place for such a file.
static enum shoal_status load(struct sh_cluster *c, const char *path, struct shoal_error *err)
{
    struct sh_buf own = SH_BUF_INIT;
    enum shoal_status st;

    if (!path && sh_cluster_path(&own, NULL)) {
        sh_buf_release(&own);
        return SHOAL_OK;
    }
    st = sh_cluster_load(path ? path : own.ptr, c, err);
    sh_buf_release(&own);
    return st;
}

enum shoal_status sh_cluster_workers(struct sh_cluster_worker *out, const struct sh_str *words,
                                     int n, const char *key_text, const char *path,
                                     struct shoal_error *err)
{
    struct sh_cluster c = SH_CLUSTER_INIT;
    struct sh_key key;
    enum shoal_status st = SHOAL_OK;

    if (key_text) st = sh_key_parse(&key, key_text, err);
    if (!st) st = load(&c, path, err);
    for (int i = 0; i < n && !st; i++)
        st = find_one(&out[i], words[i], &c, key_text ? &key : NULL, err);
    if (st) sh_cluster_workers_wipe(out, n);
    sh_cluster_release(&c);
    if (key_text) sh_key_wipe(&key);
    return st;
}

void sh_cluster_workers_wipe(struct sh_cluster_worker *list, int n)
{
    for (int i = 0; i < n; i++)
        sh_key_wipe(&list[i].key);
}
