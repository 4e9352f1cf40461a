/* host/serve.h - a worker: this machine's processor and memory behind one listener.
 *
 *      door ──> llama.cpp's protocol (ggmlrpc) ──┐
 *        └────> shoal's (rpc) ──> sessions ──────┴──> one device, one account of its memory
 *                                     └──> weights: sent, or in a folder of model files
 *
 * Where it listens says who may come: on loopback and Unix sockets anybody, in either protocol; on
 * other addresses those who have one of its keys, in shoal's protocol over TLS.  With keys, TLS
 * holds on loopback, too.  `insecure` lifts that.
 *
 * Threads: open, run and close from one; stop from any thread or signal handler; figures from any.
 */
#ifndef HOST_SERVE_H
#define HOST_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "ggmlrpc/server.h"
#include "rpc/server.h"

struct sh_worker; /* opaque */

struct sh_worker_options {
    const char *listen; /* "host:port" or "unix:/path" */
    const char *keys;   /* folder of keys (rpc/key.h): TLS only; NULL: none */
    bool insecure;      /* without keys on any address, in both protocols */
    const char *models; /* folder of model files; NULL: none */
    const char *hashes; /* where their hashes are remembered; NULL: nowhere */
    /* Offered in place of this machine's processor; borrowed.  NULL: that one. */
    struct sh_device *device;
    /* Where hosts may send it for links beyond the networks of its interfaces; borrowed. */
    const struct sh_network *link_to;
    int n_link_to;
    int n_threads;    /* 0: all that this process may use */
    uint64_t memory;  /* for all clients together; 0: 80 % of what is free */
    int64_t lease_ns; /* of a session without a connection; 0: 30 s */
    /* llama.cpp's clients: their large weights are kept here; NULL: nowhere. */
    const char *cache;
    uint64_t cache_bytes; /* 0: a fifth of what the disk has free */
};

/* Listens from now on; nobody is answered before run().  ERR_ARG: an address that others reach,
 * with neither keys nor `insecure`. */
SHOAL_NODISCARD enum shoal_status sh_worker_open(struct sh_worker **out,
                                                 const struct sh_worker_options *opt,
                                                 struct shoal_error *err);
/* Serve until stop(), then let what is under way finish, end all and return. */
SHOAL_NODISCARD enum shoal_status sh_worker_run(struct sh_worker *w, struct shoal_error *err);
void sh_worker_stop(struct sh_worker *w);  /* async-signal-safe, idempotent */
void sh_worker_close(struct sh_worker *w); /* after run has returned; accepts NULL */

/* May others than this machine's users reach that address?  Looks up names. */
SHOAL_NODISCARD enum shoal_status sh_worker_is_open(bool *out, const char *listen,
                                                    struct shoal_error *err);

const char *sh_worker_listens(const struct sh_worker *w); /* "127.0.0.1:50052" */
const char *sh_worker_device(const struct sh_worker *w);  /* "AMD EPYC, 8 threads, avx2" */
bool sh_worker_has_foreign(const struct sh_worker *w);    /* is llama.cpp's protocol offered? */

struct sh_worker_stats {
    struct sh_rpc_server_stats rpc;
    struct sh_ggmlrpc_server_stats foreign; /* zeros where it is not offered */
    struct sh_cache_stats cache;
    size_t memory_used, memory_max; /* of both */
    int connections_max, per_address_max;
};
void sh_worker_stats(struct sh_worker *w, struct sh_worker_stats *out);

#endif
