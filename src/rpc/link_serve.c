/* rpc/link_serve.c - the end of a link that expects, and what a server expects.
 *
 * Somebody who comes is known by the token of LINK_HELLO, which is compared with all that are
 * expected in the same time whatever it is, and by the key that TLS has proved.  The thread that
 * brought a connection also waits, when it breaks, whether another one comes.
 *
 * Threads: link_priv.h.
 */
#include <string.h>

#include "base/mem.h"
#include "rpc/link_priv.h"

#define HELLO_NS (5 * SH_SECOND) /* from the greeting to LINK_HELLO */
#define SILENT_NS (500 * SH_MS)  /* two beats: the first connection may be dead */

struct sh_rpc_links {
    struct sh_mutex lock; /* first, and `next` of all in the list */
    struct sh_rpc_link *first;
};

enum shoal_status sh_rpc_links_create(struct sh_rpc_links **out, struct shoal_error *err)
{
    struct sh_rpc_links *l = sh_calloc(1, sizeof *l);

    *out = l;
    if (!l) return sh_fail(err, SHOAL_ERR_NOMEM, "rpc: no memory for links");
    sh_mutex_init(&l->lock);
    return SHOAL_OK;
}

void sh_rpc_links_destroy(struct sh_rpc_links *l)
{
    if (!l) return;
    SH_ASSERT(!l->first);
    sh_mutex_release(&l->lock);
    sh_free(l);
}

/* In a time that does not tell how much of it is right. */
static bool same_token(const uint8_t a[16], const uint8_t b[16])
{
    unsigned differ = 0;

    for (int i = 0; i < 16; i++)
        differ |= (unsigned)(a[i] ^ b[i]);
    return differ == 0;
}

/* The link of a token; all are looked at.  Under the list's lock. */
static struct sh_rpc_link *find_token(const struct sh_rpc_links *l, const uint8_t token[16])
{
    struct sh_rpc_link *found = NULL;

    for (struct sh_rpc_link *k = l->first; k; k = k->next) {
        if (same_token(k->opt.token, token)) found = k;
    }
    return found;
}

enum shoal_status sh_rpc_link_expect(struct sh_rpc_links *l, struct sh_rpc_link **out,
                                     const struct sh_rpc_link_options *opt, struct shoal_error *err)
{
    struct sh_rpc_link *k = NULL;
    enum shoal_status st = sh_link_create(&k, opt, false, err);
    bool taken;

    *out = NULL;
    if (st) return st;
    k->links = l;
    sh_mutex_lock(&l->lock);
    taken = find_token(l, opt->token) != NULL;
    if (!taken) {
        k->next = l->first;
        l->first = k;
    }
    sh_mutex_unlock(&l->lock);
    if (taken) {
        sh_link_free(k);
        return sh_fail(err, SHOAL_ERR_STATE, "rpc: a link with this token is expected already");
    }
    *out = k;
    return SHOAL_OK;
}

void sh_link_forget(struct sh_rpc_link *k)
{
    sh_mutex_lock(&k->links->lock);
    for (struct sh_rpc_link **at = &k->links->first; *at; at = &(*at)->next) {
        if (*at == k) {
            *at = k->next;
            break;
        }
    }
    sh_mutex_unlock(&k->links->lock);
}

bool sh_rpc_links_key(struct sh_rpc_links *l, const char *identity, struct sh_key *out)
{
    bool found = false;

    sh_mutex_lock(&l->lock);
    for (const struct sh_rpc_link *k = l->first; k; k = k->next) {
        if (!k->has_key || strcmp(k->identity, identity) != 0) continue;
        *out = k->key;
        found = true;
    }
    sh_mutex_unlock(&l->lock);
    return found;
}

/* ---- a connection ----------------------------------------------------------------------------*/

struct arrival {
    struct sh_rpc_links *links;
    struct sh_rpc_conn *c;
    const char *identity;
    int64_t hello_ns;      /* deadline */
    struct sh_rpc_link *k; /* once it is known */
};

/* Whose it is, made its connection.  On failure nobody is told more than that. */
static enum shoal_status claim(struct arrival *a, const uint8_t token[16], struct shoal_error *err)
{
    struct sh_rpc_traffic t;
    struct sh_rpc_link *k;
    bool in_use = false;

    sh_mutex_lock(&a->links->lock);
    k = find_token(a->links, token);
    if (k && strcmp(k->identity, a->identity) != 0) k = NULL;
    if (k) {
        sh_mutex_lock(&k->lock);
        in_use = k->conn != NULL;
        if (in_use) {
            sh_rpc_conn_traffic(k->conn, &t);
            if (t.silent_ns > SILENT_NS) sh_rpc_conn_cut(k->conn); // room for who comes next
        } else if (k->closing || k->down || k->ended) {
            sh_mutex_unlock(&k->lock);
            k = NULL;
        } else {
            k->conn = a->c;
            k->n_serving++;
            a->k = k;
        }
        if (k) sh_mutex_unlock(&k->lock);
    }
    sh_mutex_unlock(&a->links->lock);
    if (a->k) return SHOAL_OK;
    if (in_use) return sh_fail(err, SHOAL_ERR_STATE, "rpc: the link has a connection");
    return sh_fail(err, SHOAL_ERR_NOT_FOUND, "rpc: no such link is expected");
}

static enum shoal_status take_hello(struct arrival *a, uint32_t request,
                                    const struct sh_rpc_link_hello *m, struct shoal_error *err)
{
    struct sh_rpc_link_welcome welcome;
    enum shoal_status st = claim(a, m->token, err);

    if (!st) st = sh_link_greeted(a->k, m->stage, err);
    if (st) return st;
    if (a->k->opt.queue_max) sh_rpc_conn_set_queue_max(a->c, a->k->opt.queue_max);
    a->k->unacked = 0;
    a->k->acked_ns = sh_now_ns(&sh_clock_system);
    sh_link_greeting(a->k, &welcome.stage, &welcome.epoch, &welcome.next);
    st = sh_rpc_conn_send(a->c, SH_RPC_MSG_LINK_WELCOME, request, &welcome, err);
    if (!st) sh_link_up(a->k, m->stage, m->epoch, m->next);
    return st;
}

static enum shoal_status take_message(void *self, struct sh_rpc_conn *c,
                                      const struct sh_rpc_incoming *m, struct shoal_error *err)
{
    struct arrival *a = self;

    if (a->k) return sh_link_message(a->k, c, m, err);
    if (m->type == SH_RPC_MSG_LINK_HELLO) return take_hello(a, m->request, m->msg, err);
    return sh_fail(err, SHOAL_ERR_FORMAT, "rpc: %s before LINK_HELLO", sh_rpc_info(m->type)->name);
}

/* Who beats but does not say what for goes. */
static void take_beat(void *self, uint64_t ack)
{
    const struct arrival *a = self;

    (void)ack;
    if (!a->k && sh_now_ns(&sh_clock_system) > a->hello_ns) sh_rpc_conn_cut(a->c);
}

static void take_bye(void *self)
{
    const struct arrival *a = self;

    if (a->k) sh_link_ended(a->k);
}

/* Does another connection come, after the one of this thread broke? */
static bool comes_again(struct sh_rpc_link *k)
{
    // Longer than the other end tries, so that this one does not give up first.
    const int64_t end = sh_deadline_in(&sh_clock_system, k->opt.redial_ns + k->opt.redial_ns / 2);
    bool again;

    sh_mutex_lock(&k->lock);
    while (!k->conn && !k->closing && !k->ended) {
        const int64_t left = end - sh_now_ns(&sh_clock_system);
        if (left <= 0) break;
        (void)sh_cond_wait(&k->changed, &k->lock, left);
    }
    again = k->conn || k->closing;
    if (!again) k->ended = true; // who comes from now on comes too late
    sh_mutex_unlock(&k->lock);
    return again;
}

enum shoal_status sh_rpc_links_serve(struct sh_rpc_links *l, struct sh_rpc_conn *c,
                                     const char *identity, struct shoal_error *err)
{
    struct arrival a = {.links = l,
                        .c = c,
                        .identity = identity,
                        .hello_ns = sh_deadline_in(&sh_clock_system, HELLO_NS)};
    const struct sh_rpc_handler handler = {
        .message = take_message, .beat = take_beat, .bye = take_bye, .self = &a};
    struct shoal_error why = {.code = SHOAL_OK};
    const enum shoal_status st = sh_rpc_conn_run(c, &handler, &why);

    if (err && st) *err = why;
    if (!a.k) return st;
    if (sh_link_is_final(st)) sh_link_ended(a.k);
    sh_link_detach(a.k);
    sh_rpc_conn_cut(c);
    if (!comes_again(a.k)) sh_link_down(a.k, st, &why);
    sh_mutex_lock(&a.k->lock);
    a.k->n_serving--;
    sh_cond_broadcast(&a.k->changed);
    sh_mutex_unlock(&a.k->lock);
    return st;
}
