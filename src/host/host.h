/* host/host.h - a model opened over machines: the composition that `shoal run` and libshoal use.
 *
 * Opening reads the file, opens the devices (this machine's processor, foreign servers), places
 * the layers, loads them, and leaves a pipeline that an engine can drive.  What was decided can be
 * read back: which layers went where, what they take, what crossed the network.
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
#include "text/vocab.h"

struct sh_host;

#define SH_HOST_DEVICES_MAX 32

struct sh_host_options {
    const char *model_path;
    int n_servers;
    const char *const *servers; /* addresses of llama.cpp RPC servers ("host:port") */
    bool with_local;            /* with servers: this machine's processor takes layers, too */
    int n_layers_given;         /* 0: by free memory */
    const int64_t *layers;      /* per device, in order: servers first, the local device last */
    int n_threads;              /* 0: all that this process may use */
    int64_t n_ctx;              /* 0: what the model was trained for */
    bool cache_f32;             /* KV memory in f32 instead of f16 */
    int64_t rows_max;           /* rows per step, 0: 512 */
    int64_t step_timeout_ms;    /* of a foreign server, 0: 120000 */
    /* Are servers asked for large weights that they may have? */
    enum sh_ggmlrpc_cache cache;
    size_t ask_above; /* bytes, 0: 10 MiB */
    /* Loading: bytes of weights that are where they belong, over all devices.  May be NULL; called
     * from one thread. */
    void (*progress)(void *self, uint64_t bytes_done, uint64_t bytes_total);
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
};
int sh_host_n_devices(const struct sh_host *h); /* that take part */
void sh_host_device(const struct sh_host *h, int i, struct sh_host_device *out);

struct sh_host_network {
    char address[72];
    uint64_t bytes_sent, bytes_received, round_trips, graphs_sent;
};
/* Traffic since open, per server. */
void sh_host_network(const struct sh_host *h, int i, struct sh_host_network *out);
int sh_host_n_servers(const struct sh_host *h);
/* Stop whatever is running on the pipeline, from any thread; steps end with ERR_CANCELLED. */
void sh_host_cancel(struct sh_host *h);

#endif
