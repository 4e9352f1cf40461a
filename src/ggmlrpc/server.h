/* ggmlrpc/server.h - serves one device to llama.cpp's RPC clients (protocol major 7).
 *
 * Any number of clients at once, each with its own queue, buffers, addresses and graphs; when a
 * connection ends, whatever its client had is freed and a graph of its in flight is cancelled.
 * Nothing that a client sends is trusted: what is malformed or not supported ends that connection
 * with one logged line, and nothing else suffers.  The protocol has neither passwords nor
 * encryption, so a listener is on loopback unless the options say otherwise.
 *
 *     create, run (in a thread of its own, or the main one) ... stop ... run returns, destroy
 *
 * Memory.  What a client makes the server hold counts before it is allocated, and is refused where
 * it does not fit: its buffers, as an answer, and what they leave for other buffers is what a
 * client is told; everything else (memory to work in), with a sentence that ends the connection.
 * That is, as far as a client uses them, a ring of 4 MiB for data that comes and 2 MiB for data
 * that goes, the payload of its largest graph, and its prepared graphs with the scratch of the
 * device.  (How much scratch a new graph takes is known when the device has allocated it within
 * its own limit; it counts from then on.)  Outside is what every connection costs, whatever it
 * sends: the stack of its thread, of which about 100 KiB are touched, 64 KiB of bytes received and
 * less than 1.5 MiB of tables that grow with its buffers (4096 at most) and commands ahead (1024).
 *
 * Threads: stop from any thread or signal handler; run from one.  The device is borrowed and must
 * outlive the server.
 */
#ifndef GGMLRPC_SERVER_H
#define GGMLRPC_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "device/device.h"
#include "device/ledger.h"
#include "ggmlrpc/cache.h"
#include "net/listener.h"

struct sh_ggmlrpc_server; /* opaque */

struct sh_ggmlrpc_server_options {
    struct sh_device *device;
    const char *listen; /* "host:port"; port 0: the system chooses; NULL: no listener */
    bool allow_remote;  /* may listen on other addresses than loopback */
    size_t memory_max;  /* bytes of buffers of all clients together; 0: 15/16 of what is free now */
    size_t client_memory_max; /* the same of one client; 0: memory_max */
    size_t work_max;        /* the same of memory to work in; 0: 1/15 of memory_max, at least 64 MiB
                             * and 6 MiB per connection */
    size_t client_work_max; /* of one client; 0: work_max */
    int connections_max;    /* 0: 32 */
    int per_address_max;    /* of those from one host; 0: 16 */
    int64_t hello_ns;       /* time for the first command; 0: 5 s */
    int64_t stall_ns;       /* longest pause inside a frame; 0: 10 s */
    int64_t window_ns;      /* inside a frame, window_bytes must move in each; 0: 10 s */
    size_t window_bytes;    /* 0: 640 KiB */
    int64_t graph_ns;       /* longest run of one graph; 0: 600 s */
    int64_t drain_ns;       /* time for commands under way after stop; 0: 5 s */
    int buffers_max;        /* of one client; 0: 4096, the most */
    int log_lines_max;      /* per second, of sessions that computed and of others; 0: 10 */

    /* Buffers and memory to work in are taken from this account as well, so nothing is promised
     * that another server of the device has set aside.  Borrowed, outlives the server; NULL: none.
     */
    struct sh_ledger *ledger;

    /* Large weights are kept here (ggmlrpc/cache.h); NULL: nowhere. */
    const char *cache_dir;
    uint64_t cache_bytes_max; /* 0: a fifth of what the disk has free */
};

SHOAL_NODISCARD enum shoal_status
sh_ggmlrpc_server_create(struct sh_ggmlrpc_server **out,
                         const struct sh_ggmlrpc_server_options *opt, struct shoal_error *err);
/* After run() has returned; accepts NULL. */
void sh_ggmlrpc_server_destroy(struct sh_ggmlrpc_server *s);

/* "127.0.0.1:50052", as clients may use it; "" without a listener. */
const char *sh_ggmlrpc_server_address(const struct sh_ggmlrpc_server *s);

/* Take connections until stop(), then let commands under way finish, close all and return. */
SHOAL_NODISCARD enum shoal_status sh_ggmlrpc_server_run(struct sh_ggmlrpc_server *s,
                                                        struct shoal_error *err);
/* Begin to drain.  Async-signal-safe; idempotent. */
void sh_ggmlrpc_server_stop(struct sh_ggmlrpc_server *s);

/* Entries and bytes of the cache; zeros without one.  Reads the directory. */
void sh_ggmlrpc_server_cache_stats(struct sh_ggmlrpc_server *s, struct sh_cache_stats *out);
/* Wait until what clients have sent for the cache is in its place. */
void sh_ggmlrpc_server_cache_flush(struct sh_ggmlrpc_server *s);

/* What run() does at its end: stop, let commands under way finish within drain_ns, cut the rest,
 * wait until no session is left.  From any thread. */
void sh_ggmlrpc_server_drain(struct sh_ggmlrpc_server *s);

/* Serve one stream in the calling thread until it ends, and close it: for streams that come from
 * elsewhere.  Returns why it ended: OK when the client closed it in order. */
enum shoal_status sh_ggmlrpc_server_serve(struct sh_ggmlrpc_server *s, struct sh_stream *stream,
                                          struct shoal_error *err);

struct sh_ggmlrpc_server_stats {
    int n_connections;              /* now */
    uint64_t n_sessions, n_failed;  /* ended in order, ended otherwise */
    size_t memory_used, memory_max; /* buffers */
    size_t work_used, work_max;
    int connections_max, per_address_max;
};
void sh_ggmlrpc_server_stats(struct sh_ggmlrpc_server *s, struct sh_ggmlrpc_server_stats *out);

#endif
