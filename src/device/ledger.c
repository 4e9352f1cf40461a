/* device/ledger.c - see device/ledger.h. */
#include "device/ledger.h"

#include "base/mem.h"
#include "base/thread.h"

struct sh_ledger {
    struct sh_mutex lock;
    size_t max, used;
};

enum shoal_status sh_ledger_create(struct sh_ledger **out, size_t max_bytes,
                                   struct shoal_error *err)
{
    *out = sh_calloc(1, sizeof **out);
    if (!*out) return sh_fail(err, SHOAL_ERR_NOMEM, "device: no memory for a ledger");
    sh_mutex_init(&(*out)->lock);
    (*out)->max = max_bytes;
    return SHOAL_OK;
}

void sh_ledger_destroy(struct sh_ledger *l)
{
    if (!l) return;
    SH_ASSERT(l->used == 0);
    sh_mutex_release(&l->lock);
    sh_free(l);
}

bool sh_ledger_take(struct sh_ledger *l, size_t bytes, size_t *left)
{
    bool ok;

    sh_mutex_lock(&l->lock);
    if (left) *left = l->max - l->used;
    ok = bytes <= l->max - l->used;
    if (ok) l->used += bytes;
    sh_mutex_unlock(&l->lock);
    return ok;
}

void sh_ledger_give(struct sh_ledger *l, size_t bytes)
{
    sh_mutex_lock(&l->lock);
    SH_ASSERT(bytes <= l->used);
    l->used -= bytes;
    sh_mutex_unlock(&l->lock);
}

size_t sh_ledger_left(struct sh_ledger *l)
{
    size_t left;

    sh_mutex_lock(&l->lock);
    left = l->max - l->used;
    sh_mutex_unlock(&l->lock);
    return left;
}

size_t sh_ledger_used(struct sh_ledger *l)
{
    size_t used;

    sh_mutex_lock(&l->lock);
    used = l->used;
    sh_mutex_unlock(&l->lock);
    return used;
}

size_t sh_ledger_max(struct sh_ledger *l)
{
    return l->max;
}
