/* rpc/door_greet.c - one visitor: its first byte, or TLS with a key, then its protocol.
 *
 * Nobody is told why it is not let in, but for what TLS says by itself.
 */
#include "rpc/door_priv.h"

#include <stdio.h>
#include <string.h>

#define FIRST_FOREIGN 14 /* llama.cpp's HELLO */
#define FIRST_SHOAL 0x73 /* the preface */
#define LINK_IDENTITY "v1|link|"

static int64_t time_left(const struct visitor *v)
{
    const int64_t left = v->give_up_ns - sh_now_ns(&sh_clock_system);

    return left > 0 ? left : 0;
}

static void log_why(struct visitor *v, const char *peer, const struct shoal_error *why)
{
    // Its end during a stop is nobody's fault.
    if (!v->door->stopping) sh_door_log_refusal(v->door, peer, why->message);
}

/* ---- plain ----------------------------------------------------------------------------------*/

static void refuse_first_byte(struct visitor *v, struct sh_stream *stream, uint8_t first)
{
    char why[120];

    (void)snprintf(why, sizeof why, "%s (its first byte is %u)",
                   first == SH_TLS_FIRST_BYTE ? "it speaks TLS, and this worker has no keys"
                                              : "it speaks no protocol of this worker",
                   first);
    sh_door_log_refusal(v->door, stream->peer, why);
    sh_stream_close(stream);
}

static void greet_plain(struct visitor *v, struct sh_stream *stream)
{
    struct sh_pace pace = sh_pace_until(v->give_up_ns);
    struct sh_door *d = v->door;
    const struct sh_rpc_client who = {.loopback = sh_address_is_loopback(&v->address)};
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t first = 0;
    bool is_foreign;

    sh_pace_start(&pace, sh_now_ns(&sh_clock_system));
    if (sh_peek(stream, &first, 1, &pace, &err)) {
        log_why(v, stream->peer, &err);
        sh_stream_close(stream);
        return;
    }
    is_foreign = first == FIRST_FOREIGN && d->opt.foreign;
    if (!is_foreign && first != FIRST_SHOAL) {
        refuse_first_byte(v, stream, first);
        return;
    }
    if (!sh_door_enter(v, "", &err)) {
        log_why(v, stream->peer, &err);
        sh_stream_close(stream);
    } else if (is_foreign) {
        d->opt.foreign(d->opt.self, stream, &v->address);
    } else {
        (void)sh_rpc_server_serve(d->opt.rpc, stream, &who, NULL);
    }
}

/* ---- TLS ------------------------------------------------------------------------------------*/

struct finding {
    struct sh_door *door;
    struct sh_key_entry entry; /* what was found last, the key wiped */
};

static bool find_key(void *self, const char *identity, struct sh_key *out)
{
    struct finding *f = self;
    char kid[SH_KID_TEXT];
    bool found;

    if (strncmp(identity, LINK_IDENTITY, strlen(LINK_IDENTITY)) == 0)
        return sh_rpc_server_link_key(f->door->opt.rpc, identity, out);
    if (!sh_key_identity_kid(kid, identity)) return false;
    found = sh_door_keys_find(f->door, kid, &f->entry);
    if (found) *out = f->entry.key;
    sh_key_wipe(&f->entry.key);
    return found;
}

/* Who proved that identity. */
static bool describe(struct sh_rpc_client *who, const struct finding *f, const struct visitor *v,
                     const char *identity)
{
    *who =
        (struct sh_rpc_client){.encrypted = true, .loopback = sh_address_is_loopback(&v->address)};
    if (sh_key_identity_kid(who->kid, identity)) {
        (void)snprintf(who->name, sizeof who->name, "%s", f->entry.name);
        return strcmp(who->kid, f->entry.kid) == 0;
    }
    who->kid[0] = '\0';
    (void)snprintf(who->link, sizeof who->link, "%s", identity);
    return true;
}

static void greet_tls(struct visitor *v, struct sh_stream *stream)
{
    struct finding finding = {.door = v->door};
    const struct sh_tls_keys keys = {.find = find_key, .self = &finding};
    struct shoal_error err = SHOAL_ERROR_INIT;
    char identity[SH_TLS_IDENTITY_MAX], peer[SH_ADDRESS_TEXT_MAX];
    struct sh_rpc_client who;
    struct sh_stream *tls;

    memcpy(peer, stream->peer, sizeof peer);
    if (sh_tls_accept(&tls, stream, &keys, time_left(v), identity, &err)) {
        log_why(v, peer, &err);
        return;
    }
    if (!describe(&who, &finding, v, identity)) {
        (void)sh_fail(&err, SHOAL_ERR_PEER, "it proved another key than the last it named");
    } else if (sh_door_enter(v, who.kid, &err)) {
        (void)sh_rpc_server_serve(v->door->opt.rpc, tls, &who, NULL);
        return;
    }
    log_why(v, peer, &err);
    sh_stream_close(tls);
}

void sh_door_greet(struct visitor *v, struct sh_stream *stream)
{
    if (v->door->opt.keys) {
        greet_tls(v, stream);
    } else {
        greet_plain(v, stream);
    }
}
