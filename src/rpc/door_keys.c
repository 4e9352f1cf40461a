/* rpc/door_keys.c - the folder of keys: looked up at each handshake, watched for keys that go.
 *
 * A folder that cannot be read lets nobody in.  Of keys in use it is then asked one by one whether
 * they are still there, so that revoking one works although another's file is broken.
 *
 * A handshake that began before its key went may be over only after the server was told.  Therefore
 * each look also goes through those who are inside.
 */
#include "rpc/door_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

#define LOOK_NS SH_SECOND

/* The list as the folder is now; with the lock of the keys. */
static enum shoal_status refresh(struct sh_door *d, struct shoal_error *err)
{
    bool changed;

    return sh_key_store_refresh(d->opt.keys, &d->keys.list, &changed, err);
}

static bool is_used(const struct door_keys *k, const char *kid)
{
    for (size_t i = 0; i < k->n_used; i++) {
        if (strcmp(k->used[i].kid, kid) == 0) return true;
    }
    return false;
}

/* False without memory: a key that could not be watched opens nothing. */
static bool note_used(struct door_keys *k, const struct sh_key_entry *e)
{
    if (is_used(k, e->kid)) return true;
    if (k->n_used == k->cap_used) {
        const size_t more = k->cap_used ? 2 * k->cap_used : 8;
        struct used_key *used = sh_realloc_array(k->used, more, sizeof *used);
        if (!used) return false;
        k->used = used;
        k->cap_used = more;
    }
    memcpy(k->used[k->n_used].kid, e->kid, sizeof e->kid);
    memcpy(k->used[k->n_used].name, e->name, sizeof e->name);
    k->n_used++;
    return true;
}

bool sh_door_keys_find(struct sh_door *d, const char *kid, struct sh_key_entry *out)
{
    const struct sh_key_entry *e = NULL;

    sh_mutex_lock(&d->keys.lock);
    if (!refresh(d, NULL)) e = sh_key_list_find(&d->keys.list, kid);
    if (e && !note_used(&d->keys, e)) e = NULL;
    if (e) *out = *e;
    sh_mutex_unlock(&d->keys.lock);
    return e != NULL;
}

/* ---- watching -------------------------------------------------------------------------------*/

/* Once for each new sentence. */
static void tell_broken(struct door_keys *k, const struct shoal_error *why)
{
    if (strcmp(k->said, why->message) == 0) return;
    (void)snprintf(k->said, sizeof k->said, "%s", why->message);
    if (why->code) sh_log(SH_LOG_ERROR, "door", "nobody new is let in: %s", why->message);
}

/* Is a key no longer in its folder?  With the lock of the keys. */
static bool is_gone(struct sh_door *d, const struct used_key *key, bool broken)
{
    struct sh_key_entry e;
    enum shoal_status st;
    bool gone;

    if (!broken) return !sh_key_list_find(&d->keys.list, key->kid);
    st = sh_key_store_get(d->opt.keys, key->name, &e, NULL);
    gone = st == SHOAL_ERR_NOT_FOUND || (!st && strcmp(e.kid, key->kid) != 0);
    sh_key_wipe(&e.key);
    return gone;
}

/* The next key that went, which is no longer in use from now on. */
static bool take_gone(struct sh_door *d, bool broken, struct used_key *out)
{
    struct door_keys *k = &d->keys;
    bool found = false;

    sh_mutex_lock(&k->lock);
    for (size_t i = 0; i < k->n_used && !found; i++) {
        found = is_gone(d, &k->used[i], broken);
        if (!found) continue;
        *out = k->used[i];
        k->used[i] = k->used[--k->n_used];
    }
    sh_mutex_unlock(&k->lock);
    return found;
}

/* Somebody inside whose key is gone, marked. */
static bool find_outsider(struct sh_door *d, char kid[SH_KID_TEXT])
{
    bool found = false;

    sh_mutex_lock(&d->lock);
    sh_mutex_lock(&d->keys.lock);
    for (struct visitor *v = d->visitors; v && !found; v = v->next) {
        if (v->place != INSIDE || !v->kid[0] || v->is_revoked || is_used(&d->keys, v->kid))
            continue;
        v->is_revoked = found = true;
        memcpy(kid, v->kid, sizeof v->kid);
    }
    sh_mutex_unlock(&d->keys.lock);
    sh_mutex_unlock(&d->lock);
    return found;
}

static void log_revoked(const char *name)
{
    const struct sh_log_field fields[] = {sh_log_text("event", NULL, "revoked"),
                                          sh_log_text("key", NULL, name)};

    sh_log_fields(SH_LOG_INFO, "door", fields, 2, "the key \"%s\" is revoked", name);
}

void sh_door_keys_watch(struct sh_door *d)
{
    struct door_keys *k = &d->keys;
    struct shoal_error err = SHOAL_ERROR_INIT;
    const int64_t now = sh_now_ns(&sh_clock_system);
    struct used_key key;
    char kid[SH_KID_TEXT];

    if (now < k->next_look_ns) return;
    k->next_look_ns = now + LOOK_NS;
    sh_mutex_lock(&k->lock);
    (void)refresh(d, &err);
    sh_mutex_unlock(&k->lock);
    tell_broken(k, &err);
    while (take_gone(d, err.code != SHOAL_OK, &key)) {
        log_revoked(key.name);
        sh_rpc_server_revoke(d->opt.rpc, key.kid);
    }
    while (find_outsider(d, kid))
        sh_rpc_server_revoke(d->opt.rpc, kid);
}

/* ---- life -----------------------------------------------------------------------------------*/

enum shoal_status sh_door_keys_init(struct sh_door *d, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    d->keys.list = (struct sh_key_list)SH_KEY_LIST_INIT;
    sh_mutex_init(&d->keys.lock);
    if (!d->opt.keys) return SHOAL_OK;
    sh_mutex_lock(&d->keys.lock);
    st = refresh(d, err);
    sh_mutex_unlock(&d->keys.lock);
    return st;
}

void sh_door_keys_release(struct sh_door *d)
{
    sh_key_list_release(&d->keys.list);
    sh_free(d->keys.used);
    sh_mutex_release(&d->keys.lock);
}
