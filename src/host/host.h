/* host/host.h - a model opened over machines: the composition that `shoal run` and libshoal use.
 *
 * Opening reads the file, opens the devices (this machine's processor, workers, foreign servers),
 * places the layers, sets memory aside everywhere before anything is sent, loads all at once, joins
 * neighbouring workers by links, and leaves a pipeline that an engine can drive.  What was decided
 * can be read back: which layers went where, what they take, what crossed the network.
 *
 * Errors are values with the name of the file, device or peer; a failed open leaves nothing behind.
 * Threads: open and close from one; the getters from any.
 */
#ifndef HOST_HOST_H
#define HOST_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "ggmlrpc/device.h"
#include "model/model.h"
#include "rpc/remote.h"
#include "text/vocab.h"

struct sh_host;

#define SH_HOST_DEVICES_MAX 32

struct sh_host_worker {
    const char *address;      /* "host:port", "unix:/path" */
    const struct sh_key *key; /* NULL: none, for loopback and Unix sockets */
};

/* How far a worker is: bytes of the weights that are asked for so far. */
struct sh_host_progress {
    const char *address;
    uint64_t weight_bytes; /* that it will have */
    struct sh_remote_load load;
};

struct sh_host_options {
    const char *model_path;
    int n_workers;
    const struct sh_host_worker *workers; /* of shoal */
    bool insecure;                        /* workers without a key on other machines, too */
    bool relay;                           /* hidden rows between workers always pass here */
    uint64_t features;                    /* offered to workers, 0: all */
    enum sh_rpc_format format;            /* of hidden rows between workers, and to and from here */
    const char *hashes;                   /* folder of remembered hashes; NULL: the user's own */
    int n_servers;
    const char *const *servers; /* addresses of llama.cpp RPC servers ("host:port") */
    bool with_local;            /* with others: this machine's processor takes layers, too */
    int n_layers_given;         /* 0: by free memory */
    const int64_t *layers;      /* per device, in order: workers, servers, the local device last */
    int n_threads;              /* 0: all that this process may use */
    int64_t n_ctx;              /* 0: what the model was trained for */
    int64_t n_seqs;             /* sequences at once, each of n_ctx; 0: 1 */
    bool cache_f32;             /* KV memory in f32 instead of f16 */
    int64_t rows_max;           /* rows per step, 0: 512 */
    int64_t step_timeout_ms;    /* of a step on a worker or server, 0: 120000 */
    /* Are servers asked for large weights that they may have? */
    enum sh_ggmlrpc_cache cache;
    size_t ask_above; /* bytes, 0: 10 MiB */
    /* Loading: bytes of weights that are where they belong, over all devices.  May be NULL; called
     * from one thread. */
    void (*progress)(void *self, uint64_t bytes_done, uint64_t bytes_total);
    /* The same of each worker that takes part, i of n; may be NULL. */
    void (*worker_progress)(void *self, int i, int n, const struct sh_host_progress *p);
    bool (*stop)(void *self); /* polled while loading; true stops with ERR_CANCELLED */
    void *self;
};

SHOAL_NODISCARD enum shoal_status
sh_host_open(struct sh_host **out, const struct sh_host_options *o, struct shoal_error *err);
void sh_host_close(struct sh_host *h);

const struct sh_gguf *sh_host_file(const struct sh_host *h);
const struct sh_vocab *sh_host_vocab(const struct sh_host *h);
struct sh_pipeline *sh_host_pipeline(struct sh_host *h);
void sh_host_model_info(const struct sh_host *h, struct sh_model_info *out);
int64_t sh_host_n_ctx(const struct sh_host *h);

struct sh_host_device {
    char device[96];                 /* "CPU (12 threads)", "127.0.0.1:50052" */
    int64_t layer_first, layer_last; /* inclusive */
    bool embed, head;
    uint64_t weight_bytes, kv_bytes;
    uint64_t memory_free; /* before loading */
    bool remote, exact;
    bool worker;                      /* of shoal, as follows */
    uint64_t bytes_found, bytes_sent; /* of its weights: there already, and sent from here */
    bool encrypted;
};
int sh_host_n_devices(const struct sh_host *h); /* that take part */
void sh_host_device(const struct sh_host *h, int i, struct sh_host_device *out);
/* How hidden rows get from device i to device i + 1; false where the two are not both workers. */
bool sh_host_route(const struct sh_host *h, int i, struct sh_remote_route *out);
/* The worker of device i, NULL if it is none; borrowed. */
struct sh_remote *sh_host_remote(struct sh_host *h, int i);
/* Round trips over the link from device i to device i + 1, as sh_remote_link_probe() makes them. */
SHOAL_NODISCARD enum shoal_status sh_host_link_probe(struct sh_host *h, int i, uint32_t bytes,
                                                     int count, struct sh_remote_probe *out,
                                                     struct shoal_error *err);

struct sh_host_network {
    char address[72];
    bool worker;
    uint64_t bytes_sent, bytes_received;
    uint64_t round_trips, graphs_sent;     /* of a server */
    uint64_t frames_sent, frames_received; /* of a worker */
};
/* Traffic since open, per worker and server. */
void sh_host_network(const struct sh_host *h, int i, struct sh_host_network *out);
int sh_host_n_peers(const struct sh_host *h);
/* Stop whatever is running on the pipeline, from any thread; steps end with ERR_CANCELLED. */
void sh_host_cancel(struct sh_host *h);

#endif
