/* rpc/door.h - a worker's listener: who may come in, and where they go.
 *
 *      accept ─> room? ─> first byte ─┬─ 14, plain ────────────────> llama.cpp's protocol
 *                                     ├─ preface, plain ───────────> shoal's
 *                                     ├─ 22, with keys ─> TLS ─────> shoal's
 *                                     └─ else: closed, unanswered
 *
 * Until a peer has proved a key (or, where there are none, sent a first byte) it costs at most 5 s,
 * 16 KiB and one of 32 places, 8 per address; nobody else waits for it.  Each connection has a
 * thread.  Where no place is left, who has been silent for longest gives way, of the address that
 * has most: a crowd that sends nothing does not keep others out.
 *
 * A door with keys is TLS only.  Keys are looked up in their folder at each handshake, so new and
 * revoked ones count at once; once a second the server ends what belongs to keys that went.
 *
 * Threads: run from one; stop from any thread or signal handler.
 */
#ifndef RPC_DOOR_H
#define RPC_DOOR_H

#include "net/listener.h"
#include "rpc/key.h"
#include "rpc/server.h"

struct sh_door; /* opaque */

struct sh_door_options {
    const char *listen;        /* "host:port" or "unix:/path" */
    const char *keys;          /* folder of keys; NULL: no encryption */
    struct sh_rpc_server *rpc; /* borrowed */
    /* A stream that speaks llama.cpp's protocol, served in the calling thread and closed; NULL:
     * such streams are closed. */
    void (*foreign)(void *self, struct sh_stream *stream, const struct sh_address *peer);
    /* Nobody is let in any more: end all connections; called by run().  May be NULL. */
    void (*drain)(void *self);
    void *self;
    int greeting_max, greeting_per_address_max;       /* 0: 32, 8 */
    int connections_max, connections_per_address_max; /* 0: 256, 64 */
    int64_t greeting_ns;                              /* 0: 5 s */
    int log_lines_max;                                /* per second; 0: 10 */
};
SHOAL_NODISCARD enum shoal_status
sh_door_open(struct sh_door **out, const struct sh_door_options *opt, struct shoal_error *err);
/* Let people in until stop(); returns when all threads of connections have ended, which `drain`
 * sees to (sh_rpc_server_drain() and its like). */
SHOAL_NODISCARD enum shoal_status sh_door_run(struct sh_door *d, struct shoal_error *err);
void sh_door_stop(struct sh_door *d);  /* async-signal-safe, idempotent */
void sh_door_close(struct sh_door *d); /* after run has returned; accepts NULL */

const char *sh_door_address(const struct sh_door *d); /* as others can use it */
/* Addresses under which others may reach it: the listener's, those of all interfaces where it
 * listens on any, best first.  Returns how many; none of a Unix socket. */
int sh_door_addresses(const struct sh_door *d, char out[][SH_ADDRESS_TEXT_MAX], int n);

#endif
