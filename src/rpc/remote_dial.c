/* rpc/remote_dial.c - a connection to a worker: encrypted where there is a key, plain where nobody
 * else can listen, and never anything between.
 *
 * Where it fails, the sentence says what to do.  A peer that closes without a greeting is asked
 * once in llama.cpp's protocol, on a connection of its own: its servers are what people most
 * often name by mistake.  One that answers is greeted once more, for workers may speak both.
 */
#include "rpc/remote_priv.h"

#include <errno.h>
#include <string.h>

#include "base/cursor.h"
#include "net/tcp.h"
#include "net/tls.h"

#define HANDSHAKE_NS (5 * SH_SECOND)
#define USER_TIMEOUT_MS 20000
#define QUEUE_MAX ((size_t)4 << 30) /* rows of all steps in flight wait where a link is slow */

/* A client's first frame in llama.cpp's protocol, and how many bytes servers answer. */
enum { LLAMA_HELLO = 14, LLAMA_CAPS = 24, LLAMA_ANSWER_MAX = 64 };
#define LLAMA_PROBE_NS (2 * SH_SECOND)

static struct sh_tcp_options tcp_options(void)
{
    return (struct sh_tcp_options){.user_timeout_ms = USER_TIMEOUT_MS,
                                   .unsent_max = SH_TCP_UNSENT_MAX};
}

static bool is_loopback(const char *peer)
{
    struct sh_endpoint ep;
    struct sh_address list[SH_ADDRESSES_MAX];
    int n = 0;

    if (sh_endpoint_parse(&ep, peer, -1, NULL)) return false;
    if (sh_address_resolve(list, &n, &ep, false, NULL) || n == 0) return false;
    return sh_address_is_loopback(&list[0]);
}

static bool speaks_llama(const struct sh_remote *r)
{
    uint8_t bytes[1 + 8 + LLAMA_CAPS] = {LLAMA_HELLO, LLAMA_CAPS};
    uint8_t answer[8];
    const struct sh_tcp_options opt = tcp_options();
    struct sh_pace pace = sh_pace_until(sh_deadline_in(&sh_clock_system, LLAMA_PROBE_NS));
    struct sh_stream *s = NULL;
    struct sh_reader rd = sh_reader_over(answer, sizeof answer);
    bool known = false;

    if (!sh_tcp_connect(&s, &r->endpoint, LLAMA_PROBE_NS, &opt, NULL) &&
        !sh_stream_write_full(s, bytes, sizeof bytes, &pace, NULL) &&
        !sh_stream_read_full(s, answer, sizeof answer, &pace, NULL)) {
        const uint64_t n = sh_read_u64(&rd);
        known = n >= 3 && n <= LLAMA_ANSWER_MAX;
    }
    sh_stream_close(s);
    return known;
}

static enum shoal_status connect_to(const struct sh_remote *r, struct sh_stream **out,
                                    struct shoal_error *err)
{
    const struct sh_tcp_options opt = tcp_options();
    struct shoal_error why = SHOAL_ERROR_INIT;
    enum shoal_status st = sh_tcp_connect(out, &r->endpoint, r->connect_ns, &opt, &why);

    if (!st) return SHOAL_OK;
    if (st == SHOAL_ERR_TIMEOUT) {
        st = sh_fail(err, st,
                     "worker %s does not answer: is that machine on, and does its firewall let "
                     "the port through?",
                     r->address);
    } else if (why.sys_errno == ECONNREFUSED || why.sys_errno == ENOENT) {
        st = sh_fail(err, st,
                     "no worker listens at %s: start one there with \"shoal worker --listen "
                     "ADDRESS\"",
                     r->address);
    } else {
        st = sh_fail(err, st, "worker %s cannot be reached: %s", r->address, why.message);
    }
    if (err) err->sys_errno = why.sys_errno;
    return st;
}

static enum shoal_status encrypt(const struct sh_remote *r, struct sh_stream **s,
                                 struct shoal_error *err)
{
    char kid[SH_KID_TEXT], identity[SH_KEY_IDENTITY_TEXT];
    struct sh_stream *below = *s;
    enum shoal_status st;

    *s = NULL;
    st = sh_key_id(kid, &r->key, err);
    if (st) {
        sh_stream_close(below);
        return st;
    }
    sh_key_identity(identity, kid);
    return sh_tls_connect(s, below, identity, &r->key, HANDSHAKE_NS, err);
}

static enum shoal_status need_key(const struct sh_remote *r, struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_ARG,
                   "worker %s needs a key: there, \"shoal worker --listen ADDRESS --pair NAME\" "
                   "makes one; here, \"shoal key add %s SHOAL1-...\" keeps it",
                   r->address, r->address);
}

/* One attempt.  *greets: it came as far as a greeting. */
static enum shoal_status dial_once(const struct sh_remote *r, enum sh_rpc_purpose purpose,
                                   struct sh_rpc_conn **out, bool *greets, struct shoal_error *err)
{
    struct sh_rpc_conn_options opt = {.features = r->features,
                                      .purpose = purpose,
                                      .encrypted = r->has_key,
                                      .silence_ns = r->silence_ns,
                                      .queue_max = QUEUE_MAX};
    struct sh_stream *s = NULL;
    enum shoal_status st;

    *out = NULL;
    *greets = false;
    memcpy(opt.machine, r->machine, sizeof opt.machine);
    st = connect_to(r, &s, err);
    if (st) return st;
    if (r->has_key) {
        st = encrypt(r, &s, err);
    } else if (!r->insecure && !is_loopback(s->peer)) {
        sh_stream_close(s);
        return need_key(r, err);
    }
    *greets = true;
    return st ? st : sh_rpc_conn_connect(out, s, &opt, err);
}

/* What a failed greeting may mean.  A worker may speak both protocols: whether it was only cut off,
 * a second greeting tells. */
static enum shoal_status explain(const struct sh_remote *r, enum sh_rpc_purpose purpose,
                                 struct sh_rpc_conn **out, enum shoal_status st,
                                 struct shoal_error *err)
{
    bool greets;

    if (st != SHOAL_ERR_PEER && st != SHOAL_ERR_TIMEOUT) return st;
    if (speaks_llama(r)) {
        if (!dial_once(r, purpose, out, &greets, NULL)) return SHOAL_OK;
        return sh_fail(err, SHOAL_ERR_PEER,
                       "%s speaks llama.cpp's RPC protocol, not shoal's: give it with --rpc %s",
                       r->address, r->address);
    }
    if (r->has_key || st == SHOAL_ERR_TIMEOUT) return st;
    return sh_fail(err, SHOAL_ERR_PEER,
                   "%s ended the connection without a greeting: if it is a worker with keys, "
                   "\"shoal key add %s SHOAL1-...\" keeps the one that it shows with --pair",
                   r->address, r->address);
}

enum shoal_status sh_remote_dial(const struct sh_remote *r, enum sh_rpc_purpose purpose,
                                 struct sh_rpc_conn **out, struct shoal_error *err)
{
    bool greets;
    const enum shoal_status st = dial_once(r, purpose, out, &greets, err);

    return st && greets ? explain(r, purpose, out, st, err) : st;
}
