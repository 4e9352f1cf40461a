/* ggmlrpc/device.h - a device of another machine, reached over llama.cpp's RPC protocol, major 7.
 *
 * Any server of that major will do: a shoal worker or a stock rpc-server.  One connection per
 * device, full duplex: what needs no answer is sent ahead, straight from the caller's memory, and
 * answers are read by a thread of their own.  A decoded token costs one round trip.
 *
 * What the protocol makes of the contract in device/device.h:
 * - A write, fill or copy of data is complete when it has been handed to the connection; the
 *   server carries everything out in order.  A run is complete when a later answer proves it:
 *   that of a read, or of one byte fetched for the purpose when its ticket is waited for.
 * - A run cannot be called back: cancel does nothing.
 * - Graphs have no symbolic extents here: submit wants the maxima.  shoal's own ops are refused.
 * - Memory is zeroed by command, except for buffers of weights, which their owner fills whole.
 * - A server cannot be asked whether it computes shoal's bits: info says `exact` if the options do.
 * - A lost, silent or nonsensical server fails every pending and later ticket with its address:
 *   ERR_PEER, or ERR_TIMEOUT when it was silent.  A device does not come back; open another.
 */
#ifndef GGMLRPC_DEVICE_H
#define GGMLRPC_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "device/device.h"

struct sh_stream;

/* Is the server asked whether it has large weights already?  AUTO: if it is on another machine. */
enum sh_ggmlrpc_cache { SH_GGMLRPC_CACHE_AUTO, SH_GGMLRPC_CACHE_ON, SH_GGMLRPC_CACHE_OFF };

struct sh_ggmlrpc_options {
    uint32_t device_index; /* which of the server's devices */
    bool exact;            /* what info says of it */
    enum sh_ggmlrpc_cache cache;
    size_t ask_above;     /* about weights of more bytes than this; 0: 10 MiB, as llama.cpp */
    int64_t connect_ns;   /* 0: 5 s */
    int64_t handshake_ns; /* for the first answers; 0: 5 s */
    int64_t step_ns;    /* longest silence where an answer is due, or stall in sending; 0: 120 s */
    int64_t quiesce_ns; /* after which quiesce cuts the connection; 0: 5 s */
};

/* `address` as net/address.h reads it, port 50052 where it has none.  `opt` may be NULL. */
SHOAL_NODISCARD enum shoal_status sh_ggmlrpc_device_open(struct sh_device **out,
                                                         const char *address,
                                                         const struct sh_ggmlrpc_options *opt,
                                                         struct shoal_error *err);
/* The same over a stream that is connected already; taken over, closed on failure too. */
SHOAL_NODISCARD enum shoal_status sh_ggmlrpc_device_over(struct sh_device **out,
                                                         struct sh_stream *stream,
                                                         const struct sh_ggmlrpc_options *opt,
                                                         struct shoal_error *err);
/* How many devices a server has: connects, asks, disconnects. */
SHOAL_NODISCARD enum shoal_status sh_ggmlrpc_device_count(int64_t *out, const char *address,
                                                          const struct sh_ggmlrpc_options *opt,
                                                          struct shoal_error *err);

#endif
