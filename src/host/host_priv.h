/* host/host_priv.h - what the files of a host share.
 *
 *     host.c      the model, the plan, what was decided
 *     members.c   who takes part: workers, servers, the local device
 *     parts.c     what each of them is to run: graphs, weights, memory set aside
 *     load.c      parts become stations, all at once, and a pipeline
 */
#ifndef HOST_HOST_PRIV_H
#define HOST_HOST_PRIV_H

#include <stdatomic.h>

#include "base/arena.h"
#include "base/thread.h"
#include "device/device.h"
#include "host/host.h"
#include "host/pipeline.h"
#include "host/plan.h"
#include "host/weights.h"

/* Who can take layers, whether or not there are some for it: one of device and worker is set. */
struct sh_host_member {
    struct sh_device *device;
    struct sh_remote *worker;
    struct sh_device_info info;
    char name[96];
    bool server; /* of llama.cpp */
};

/* A run of layers on its way to a station. */
struct sh_host_part {
    struct sh_host *h;
    const struct sh_placed *placed;
    struct sh_host_member *member;
    int index, n_slots;
    struct sh_graph graph, rotate; /* of a local device: gone once loaded */
    int64_t width_out;
    struct sh_arena names;
    struct sh_remote_weight *weights; /* of a worker, as the graph names them */
    size_t *tensors;                  /* their numbers in the file, in the order of sending */
    size_t *place;                    /* [tensors of the file]: index into weights */
    struct sh_remote_weight *batch;   /* those that are sent next */
    size_t n_weights;
    uint64_t weight_bytes; /* of these */
    struct sh_remote_route route;
    bool has_route; /* the next part is a worker's, too */

    /* While it loads. */
    struct sh_thread thread;
    struct sh_station *station; /* then the pipeline's */
    enum shoal_status status;
    struct shoal_error error;
    atomic_ullong done; /* bytes, on a device */
    bool finished;      /* under the lock of: */
    struct sh_host_watch *watch;
};

struct sh_host {
    struct sh_gguf *file;
    struct sh_model *model;
    struct sh_vocab *vocab;
    struct sh_model_info info;
    int64_t n_ctx;
    struct sh_build_limits limits;
    struct sh_step_limits step_limits;
    struct sh_kv_group groups[SH_GROUPS_MAX];
    struct sh_host_member member[SH_HOST_DEVICES_MAX];
    int n_members;
    struct sh_plan plan;
    struct sh_host_part *part;       /* [plan.n] */
    struct sh_host_weights *weights; /* hashes; NULL without workers, and once loaded */
    struct sh_pipeline *pipeline;
};

/* members.c: workers all at once, then servers, then the local device. */
SHOAL_NODISCARD enum shoal_status
sh_host_members_open(struct sh_host *h, const struct sh_host_options *o, struct shoal_error *err);
void sh_host_members_close(struct sh_host *h);

/* parts.c: graphs and weights of every part of the plan, then a session on each worker that has
 * one, with all its memory. */
SHOAL_NODISCARD enum shoal_status sh_host_parts_make(struct sh_host *h, struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status
sh_host_parts_reserve(struct sh_host *h, const struct sh_host_options *o, struct shoal_error *err);
void sh_host_parts_release(struct sh_host *h);
SHOAL_NODISCARD enum shoal_status sh_host_find_weight(const struct sh_host *h, const char *name,
                                                      struct sh_weight *out,
                                                      struct shoal_error *err);

/* load.c: stations of all parts, links between them, and the pipeline. */
SHOAL_NODISCARD enum shoal_status sh_host_load(struct sh_host *h, const struct sh_host_options *o,
                                               struct shoal_error *err);

#endif
