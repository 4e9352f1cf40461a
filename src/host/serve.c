/* host/serve.c - the parts of a worker, put together and taken apart. */
#include "host/serve.h"

#include "base/mem.h"
#include "base/thread.h"
#include "cpu/device.h"
#include "rpc/door.h"

#define DEFAULT_PORT 50052
#define CONNECTIONS_MAX 256
#define PER_ADDRESS_MAX 64
/* Of what is free: a machine that is filled to the brim is of no use to anybody. */
#define FREE_PERCENT 80

struct sh_worker {
    struct sh_device *device;
    struct sh_device *own; // the same, or NULL: it was given
    struct sh_device_info info;
    uint32_t n_threads;
    struct sh_ledger *ledger;
    struct sh_folder *folder;
    struct sh_blobs *blobs;
    struct sh_rpc_server *rpc;
    struct sh_ggmlrpc_server *foreign; // NULL: not offered
    struct sh_door *door;
};

/* ---- who may come ---------------------------------------------------------------------------*/

enum shoal_status sh_worker_is_open(bool *out, const char *listen, struct shoal_error *err)
{
    struct sh_address list[SH_ADDRESSES_MAX];
    struct sh_endpoint ep;
    int n = 0;
    enum shoal_status st = sh_endpoint_parse(&ep, listen, DEFAULT_PORT, err);

    *out = false;
    if (!st) st = sh_address_resolve(list, &n, &ep, true, err);
    for (int i = 0; i < n; i++)
        *out = *out || !sh_address_is_loopback(&list[i]);
    return st;
}

static enum shoal_status check_address(const struct sh_worker_options *o, struct shoal_error *err)
{
    bool is_open;
    enum shoal_status st = sh_worker_is_open(&is_open, o->listen, err);

    if (st || !is_open || o->keys || o->insecure) return st;
    return sh_fail(err, SHOAL_ERR_ARG,
                   "%s can be reached from other machines: a worker there needs a key", o->listen);
}

/* ---- what it serves -------------------------------------------------------------------------*/

static enum shoal_status open_device(struct sh_worker *w, const struct sh_worker_options *o,
                                     struct shoal_error *err)
{
    const struct sh_cpu_options cpu = {.n_threads = o->n_threads, .memory_max = o->memory};
    enum shoal_status st = o->device ? SHOAL_OK : sh_cpu_device_open(&w->own, &cpu, err);
    size_t most;

    w->device = o->device ? o->device : w->own;
    if (!st) st = sh_device_info(w->device, &w->info, err);
    if (st) return st;
    w->n_threads = (uint32_t)(o->n_threads > 0 ? o->n_threads : sh_cpu_count());
    // What is asked for is given, but for a rest that nobody asks for.
    most = o->memory ? w->info.memory_free - w->info.memory_free / 16
                     : w->info.memory_free / 100 * FREE_PERCENT;
    return sh_ledger_create(&w->ledger, most, err);
}

static enum shoal_status open_weights(struct sh_worker *w, const struct sh_worker_options *o,
                                      struct shoal_error *err)
{
    const struct sh_folder_options folder = {.dir = o->models, .hashes = o->hashes};
    enum shoal_status st = SHOAL_OK;

    if (o->models) st = sh_folder_open(&w->folder, &folder, err);
    if (!st && w->folder) st = sh_folder_hash(w->folder, err);
    if (!st) st = sh_blobs_create(&w->blobs, w->folder, err);
    return st;
}

static int tell_addresses(void *self, char out[][SH_ADDRESS_TEXT_MAX], int n)
{
    const struct sh_worker *w = self;

    return sh_door_addresses(w->door, out, n);
}

static enum shoal_status open_servers(struct sh_worker *w, const struct sh_worker_options *o,
                                      struct shoal_error *err)
{
    const struct sh_rpc_server_options rpc = {.devices = &w->device,
                                              .n_threads = &w->n_threads,
                                              .n_devices = 1,
                                              .ledger = w->ledger,
                                              .blobs = w->blobs,
                                              .lease_ns = o->lease_ns,
                                              .addresses = tell_addresses,
                                              .self = w,
                                              .allow_plain_links = o->insecure,
                                              .link_to = o->link_to,
                                              .n_link_to = o->n_link_to};
    const struct sh_ggmlrpc_server_options foreign = {.device = w->device,
                                                      .memory_max = sh_ledger_max(w->ledger),
                                                      .ledger = w->ledger,
                                                      .cache_dir = o->cache,
                                                      .cache_bytes_max = o->cache_bytes};
    enum shoal_status st = sh_rpc_server_create(&w->rpc, &rpc, err);

    if (!st && !o->keys) st = sh_ggmlrpc_server_create(&w->foreign, &foreign, err);
    return st;
}

/* ---- the door -------------------------------------------------------------------------------*/

static void serve_foreign(void *self, struct sh_stream *stream, const struct sh_address *peer)
{
    struct sh_worker *w = self;

    (void)peer;
    (void)sh_ggmlrpc_server_serve(w->foreign, stream, NULL);
}

static void drain(void *self)
{
    struct sh_worker *w = self;

    sh_rpc_server_stop(w->rpc);
    if (w->foreign) sh_ggmlrpc_server_drain(w->foreign);
    sh_rpc_server_drain(w->rpc);
}

static enum shoal_status open_door(struct sh_worker *w, const struct sh_worker_options *o,
                                   struct shoal_error *err)
{
    const struct sh_door_options door = {.listen = o->listen,
                                         .keys = o->keys,
                                         .rpc = w->rpc,
                                         .foreign = w->foreign ? serve_foreign : NULL,
                                         .drain = drain,
                                         .self = w,
                                         .connections_max = CONNECTIONS_MAX,
                                         .connections_per_address_max = PER_ADDRESS_MAX};

    return sh_door_open(&w->door, &door, err);
}

/* ---- life -----------------------------------------------------------------------------------*/

enum shoal_status sh_worker_open(struct sh_worker **out, const struct sh_worker_options *opt,
                                 struct shoal_error *err)
{
    struct sh_worker *w = NULL;
    enum shoal_status st;

    *out = NULL;
    st = check_address(opt, err);
    if (st) return st;
    w = sh_calloc(1, sizeof *w);
    if (!w) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a worker");
    st = open_device(w, opt, err);
    if (!st) st = open_weights(w, opt, err);
    if (!st) st = open_servers(w, opt, err);
    if (!st) st = open_door(w, opt, err);
    if (st) {
        sh_worker_close(w);
        return st;
    }
    *out = w;
    return SHOAL_OK;
}

enum shoal_status sh_worker_run(struct sh_worker *w, struct shoal_error *err)
{
    return sh_door_run(w->door, err);
}

void sh_worker_stop(struct sh_worker *w)
{
    sh_rpc_server_stop(w->rpc);
    if (w->foreign) sh_ggmlrpc_server_stop(w->foreign);
    sh_door_stop(w->door);
}

void sh_worker_close(struct sh_worker *w)
{
    if (!w) return;
    sh_door_close(w->door);
    sh_ggmlrpc_server_destroy(w->foreign);
    sh_rpc_server_destroy(w->rpc);
    sh_blobs_destroy(w->blobs);
    sh_folder_close(w->folder);
    sh_ledger_destroy(w->ledger);
    sh_device_close(w->own);
    sh_free(w);
}

/* ---- figures --------------------------------------------------------------------------------*/

const char *sh_worker_listens(const struct sh_worker *w)
{
    return sh_door_address(w->door);
}

const char *sh_worker_device(const struct sh_worker *w)
{
    return w->info.description;
}

bool sh_worker_has_foreign(const struct sh_worker *w)
{
    return w->foreign != NULL;
}

void sh_worker_stats(struct sh_worker *w, struct sh_worker_stats *out)
{
    *out = (struct sh_worker_stats){.memory_max = sh_ledger_max(w->ledger),
                                    .memory_used = sh_ledger_used(w->ledger),
                                    .connections_max = CONNECTIONS_MAX,
                                    .per_address_max = PER_ADDRESS_MAX};
    sh_rpc_server_stats(w->rpc, &out->rpc);
    if (!w->foreign) return;
    sh_ggmlrpc_server_stats(w->foreign, &out->foreign);
    sh_ggmlrpc_server_cache_stats(w->foreign, &out->cache);
}
