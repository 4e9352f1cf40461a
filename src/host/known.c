/* host/known.c - the cluster file, one worker at a time. */
#include "host/known.h"

#include <stdio.h>
#include <string.h>

#define DEFAULT_PORT 50052

static bool is_unix(const char *address)
{
    return strncmp(address, "unix:", 5) == 0;
}

/* The address as the cluster file has it. */
static enum shoal_status normalise(struct sh_known *k, const char *address, struct shoal_error *err)
{
    char text[SH_KEY_ADDRESS_TEXT + 16];
    struct sh_endpoint ep;
    enum shoal_status st = sh_endpoint_parse(&ep, address, DEFAULT_PORT, err);

    if (st) return st;
    if (is_unix(address)) {
        (void)snprintf(k->address, sizeof k->address, "%s", ep.host);
        return SHOAL_OK;
    }
    (void)snprintf(text, sizeof text, strchr(ep.host, ':') ? "[%s]:%u" : "%s:%u",
                   ep.host[0] ? ep.host : "localhost", (unsigned)ep.port);
    return sh_cluster_address(k->address, text, err);
}

/* The key that is kept for the address, if there is one. */
static enum shoal_status look_up(struct sh_key *key, bool *found, const char *path,
                                 const char *address, struct shoal_error *err)
{
    struct sh_cluster cluster = SH_CLUSTER_INIT;
    struct sh_buf own = SH_BUF_INIT;
    const struct sh_cluster_entry *e = NULL;
    enum shoal_status st = path ? SHOAL_OK : sh_cluster_path(&own, err);

    if (!st) st = sh_cluster_load(path ? path : own.ptr, &cluster, err);
    if (!st) e = sh_cluster_find(&cluster, address);
    if (e) *key = e->key;
    *found = e != NULL;
    sh_cluster_release(&cluster);
    sh_buf_release(&own);
    return st;
}

/* Without a place for a cluster file there is none to read. */
static bool has_place(const char *path)
{
    struct sh_buf own = SH_BUF_INIT;
    const bool has = path || !sh_cluster_path(&own, NULL);

    sh_buf_release(&own);
    return has;
}

enum shoal_status sh_known_find(struct sh_known *out, const char *path, const char *address,
                                const char *key, struct shoal_error *err)
{
    struct sh_key kept;
    bool is_kept = false;
    enum shoal_status st;

    memset(out, 0, sizeof *out);
    st = normalise(out, address, err);
    if (!st && key) st = sh_key_parse(&out->key, key, err);
    if (st) return st;
    out->has_key = key != NULL;
    if (is_unix(address)) return SHOAL_OK;
    if (has_place(path)) st = look_up(&kept, &is_kept, path, out->address, err);
    if (!st && key) {
        out->is_new = !is_kept || !sh_key_equal(&kept, &out->key);
    } else if (!st && is_kept) {
        out->key = kept;
        out->has_key = true;
    }
    if (is_kept) sh_key_wipe(&kept);
    if (st) sh_known_wipe(out);
    return st;
}

enum shoal_status sh_known_keep(struct sh_known *k, const char *path, bool *replaced,
                                struct shoal_error *err)
{
    struct sh_buf own = SH_BUF_INIT;
    enum shoal_status st = SHOAL_OK;

    *replaced = false;
    if (!k->is_new) return SHOAL_OK;
    if (!path) st = sh_cluster_path(&own, err);
    if (!st) st = sh_cluster_put(path ? path : own.ptr, k->address, &k->key, NULL, replaced, err);
    if (!st) k->is_new = false;
    sh_buf_release(&own);
    return st;
}

void sh_known_wipe(struct sh_known *k)
{
    sh_wipe(k, sizeof *k);
}
