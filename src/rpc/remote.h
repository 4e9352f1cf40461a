/* rpc/remote.h - a worker as a host sees it: connection, session, stages, links.
 *
 *      open ─> devices ─> session (memory set aside) ─> weights ─> stages ─> links ─> steps ...
 * close
 *
 * One CONTROL connection carries the session; weights travel on a second one beside it.  A stage
 * put on the worker is a struct sh_station, so a pipeline cannot tell where it runs.  A thread per
 * worker reads what comes and calls the stations' sinks.
 *
 * When the connection is lost, every station of the worker is lost (sink.lost), with one message
 * that names the worker and why; every later call fails with the same.
 *
 * Threads: calls that wait (open, session, weights, stage, join, probe) from one thread per worker;
 * stations as stage/station.h says; getters and traffic from any.
 */
#ifndef RPC_REMOTE_H
#define RPC_REMOTE_H

#include "device/device.h"
#include "net/key.h"
#include "rpc/codec.h"
#include "rpc/conn.h"
#include "stage/station.h"

struct sh_remote; /* opaque */

#define SH_REMOTE_DEVICES_MAX 8
#define SH_REMOTE_PORT 50052

struct sh_remote_options {
    const char *address;      /* "host:port", "unix:/path"; the port may be missing */
    const struct sh_key *key; /* of this pair; NULL: no encryption (loopback and Unix sockets) */
    bool insecure;            /* no encryption beyond these, too */
    uint64_t features;        /* offered; 0: all */
    int64_t connect_ns;       /* 0: 10 s */
    int64_t silence_ns;       /* most time without a byte; 0: 10 s */
    int64_t reply_ns;         /* most time for an answer without progress; 0: 60 s */
};
/* ERR_PEER, ERR_TIMEOUT, ERR_NOT_FOUND name the address and what to do: no worker there, no key
 * given, a wrong key, a llama.cpp server ("use --rpc"), another version. */
SHOAL_NODISCARD enum shoal_status sh_remote_open(struct sh_remote **out,
                                                 const struct sh_remote_options *opt,
                                                 struct shoal_error *err);
/* CLOSE of the session (its memory is free then), BYE, end.  Stations must be closed before. */
void sh_remote_close(struct sh_remote *r); /* accepts NULL */
/* Give the worker up: its session is closed if it answers within 2 s, every call that waits for it
 * ends, and stations are lost.  Any thread, but not before a session is open; close comes after. */
void sh_remote_cut(struct sh_remote *r);

struct sh_remote_device {
    struct sh_device_info info; /* name, description, kind, memory, shoal_ops, exact */
    uint32_t n_threads;
};
struct sh_remote_info {
    char address[SH_ADDRESS_TEXT_MAX];
    char software[65];
    uint8_t machine[16]; /* the same for all processes of one machine */
    uint64_t features;   /* that both have */
    bool encrypted;
    int n_devices;
    struct sh_remote_device device[SH_REMOTE_DEVICES_MAX];
};
void sh_remote_info(const struct sh_remote *r, struct sh_remote_info *out);

/* ---- a session ------------------------------------------------------------------------------*/

struct sh_remote_claim { /* bytes on one device */
    int device;
    uint64_t weights, cache, scratch, places;
};
/* Set memory aside on the worker, all or nothing.  ERR_NOMEM says need and free.  `name` is that of
 * the model, for people.  lease_ms 0: 30 s. */
SHOAL_NODISCARD enum shoal_status sh_remote_session(struct sh_remote *r, const char *name,
                                                    const struct sh_remote_claim *claims, int n,
                                                    uint32_t lease_ms, struct shoal_error *err);

/* Weights that stages of this worker need: the worker has them, finds them in its own files, or
 * they are sent.  May be called several times, as hashes become known; returns when all of these
 * are there.  Every weight needs its sha256. */
struct sh_remote_weight {
    const char *name;
    struct sh_weight weight; /* whole, as the file has it */
};
struct sh_remote_load {
    uint64_t bytes_total, bytes_found, bytes_sent; /* of the weights asked for so far */
};
SHOAL_NODISCARD enum shoal_status
sh_remote_weights(struct sh_remote *r, const struct sh_remote_weight *weights, size_t n,
                  void (*progress)(void *self, const struct sh_remote_load *l),
                  bool (*stop)(void *self), void *self, struct shoal_error *err);
void sh_remote_loaded(const struct sh_remote *r, struct sh_remote_load *out);

struct sh_remote_stage_desc {
    int device, index; /* on the worker; place in the pipeline */
    bool first, last;
    const struct sh_graph *graph;  /* borrowed for the call */
    const struct sh_graph *rotate; /* NULL: no shifts */
    int n_groups;
    struct sh_kv_group groups[SH_GROUPS_MAX];
    struct sh_step_limits limits;
    int n_slots;
    int64_t width_in, width_out; /* of hidden rows; width_out at the last: logits of a row */
    const struct sh_remote_weight *weights; /* that the graph names, with their hashes */
    size_t n_weights;
    int64_t
        step_ns; /* most computing of steps that are announced without a limit; 0: the worker's */
    struct sh_station_sink sink;
};
/* The station's memory (kept results included) is taken here.  `memory` may be NULL. */
SHOAL_NODISCARD enum shoal_status
sh_remote_stage(struct sh_remote *r, const struct sh_remote_stage_desc *desc,
                struct sh_station **out, struct sh_stage_memory *memory, struct shoal_error *err);

/* ---- links ----------------------------------------------------------------------------------*/

struct sh_remote_route {
    bool direct;                       /* from worker to worker */
    char why[200];                     /* not direct: what was tried, and what came of it */
    char address[SH_ADDRESS_TEXT_MAX]; /* direct: of the end that was dialled */
    uint32_t round_trip_us;
};
/* Hidden rows of `from` go to `to`, both stations of workers (the same one or two): by a link
 * where one can be opened in either direction, else they come to the sink of `from` and the caller
 * passes them on.  `format`: of rows on the way.  Before the first step, or after a reset. */
SHOAL_NODISCARD enum shoal_status sh_remote_join(struct sh_station *from, struct sh_station *to,
                                                 enum sh_rpc_format format,
                                                 struct sh_remote_route *out,
                                                 struct shoal_error *err);
/* The same, as it is now: a link that is lost while steps run is replaced by a relay through this
 * host, without a word to the caller.  False: not joined. */
bool sh_remote_route_of(struct sh_station *from, struct sh_remote_route *out);
/* The rows of `from` come to the host in this format. */
SHOAL_NODISCARD enum shoal_status
sh_remote_format(struct sh_station *from, enum sh_rpc_format format, struct shoal_error *err);
/* Measure: `count` round trips with so many bytes each way, over the worker's connection
 * (sh_remote_probe) or a link of this station (sh_remote_link_probe). */
struct sh_remote_probe {
    double least_us, median_us; /* of round trips */
    double bytes_per_s;         /* one way */
};
SHOAL_NODISCARD enum shoal_status sh_remote_probe(struct sh_remote *r, uint32_t bytes, int count,
                                                  struct sh_remote_probe *out,
                                                  struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_remote_link_probe(struct sh_station *from, uint32_t bytes,
                                                       int count, struct sh_remote_probe *out,
                                                       struct shoal_error *err);

/* ---- figures --------------------------------------------------------------------------------*/

/* Of both connections; silent_ns of the first. */
void sh_remote_traffic(const struct sh_remote *r, struct sh_rpc_traffic *out);
/* Who uses what (STATS).  Lists are in the arena. */
SHOAL_NODISCARD enum shoal_status sh_remote_stats(struct sh_remote *r, struct sh_arena *arena,
                                                  struct sh_rpc_stats_are *out,
                                                  struct shoal_error *err);

#endif
