/* stage/stage.h - a run of layers on one device: weights, KV bytes, and running steps.
 *
 * A stage takes the graph that `model` built for its layers (shoal's form: paged KV, symbolic
 * extents), gives every leaf its memory on the device, and runs steps: it applies the prelude to
 * its tables, fills the input slots from the rows, submits, and turns the last node into hidden
 * rows or results.  On a device without shoal's ops it runs a lowered graph instead
 * (stage/lower.h); nobody above can tell.
 *
 * The index of the KV memory (which page belongs to whom) lives with the caller; a stage owns the
 * bytes and obeys.  Weights come by name and slice through a callback.
 *
 * Steps run in the order of their numbers.  Up to `n_slots` are in flight: submit returns at once,
 * results come in the same order.  A failed or cancelled step still applies its prelude.
 *
 * Threads: submit and result of one stage from one thread at a time; cancel from any.
 */
#ifndef STAGE_STAGE_H
#define STAGE_STAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "device/collective.h"
#include "device/device.h"
#include "stage/step.h"
#include "tensor/graph.h"

struct sh_stage;

#define SH_GROUPS_MAX 8
enum sh_group_kind { SH_GROUP_FULL, SH_GROUP_WINDOW, SH_GROUP_STATE };

/* Layers whose KV is kept alike.  The same on all stages and shards. */
struct sh_kv_group {
    enum sh_group_kind kind;
    int64_t window; /* WINDOW: positions that a row may look back */
};

/* A stored tensor, as the owner of the model file hands it out. */
struct sh_weight {
    enum sh_dtype dtype;
    int64_t ne[SH_MAX_DIMS];
    const void *data; /* borrowed; lives as long as the stage */
    size_t bytes;
    const struct sh_map *map; /* the mapping behind data, NULL if none */
    const uint8_t *sha256;    /* 32 bytes, NULL if not known */
};
struct sh_weight_source {
    enum shoal_status (*find)(void *self, const char *name, struct sh_weight *out,
                              struct shoal_error *err);
    /* Called as bytes reach the device; may be NULL. */
    void (*progress)(void *self, size_t bytes_done, size_t bytes_total);
    /* Polled between transfers; true stops with ERR_CANCELLED.  May be NULL. */
    bool (*stop)(void *self);
    void *self;
};

struct sh_stage_desc {
    struct sh_device *device; /* borrowed */
    struct sh_graph *graph;   /* moved in (left empty); its one OUTPUT is hidden rows or logits */
    struct sh_graph *rotate;  /* moved in; rotates keys for SHIFT, NULL: no shifts */
    bool last;                /* OUTPUT is logits [V,O] */
    int n_groups;
    struct sh_kv_group groups[SH_GROUPS_MAX];
    struct sh_step_limits limits;           /* pages, positions, sequences, rows */
    int n_slots;                            /* steps in flight */
    const struct sh_collective *collective; /* of a shard, copied; else NULL */
};

struct sh_stage_memory { /* bytes on the device */
    size_t weights, cache, scratch;
};

/* Allocate and load everything, or refuse with need and free and leave nothing behind. */
SHOAL_NODISCARD enum shoal_status sh_stage_create(struct sh_stage **out,
                                                  const struct sh_stage_desc *desc,
                                                  const struct sh_weight_source *weights,
                                                  struct shoal_error *err);
void sh_stage_destroy(struct sh_stage *s); /* quiesces first */
void sh_stage_memory(const struct sh_stage *s, struct sh_stage_memory *out);
/* Bytes to and from its device over a network so far, weights too; zeros for a device here. */
void sh_stage_traffic(const struct sh_stage *s, struct sh_device_traffic *out);
/* Values in a row of this input (HIDDEN, EMBD); 0: the graph has none. */
int64_t sh_stage_input_width(const struct sh_stage *s, enum sh_input which);

/* What a finished step left. */
struct sh_stage_output {
    uint64_t number;
    enum shoal_status status; /* of the step; message in the err of sh_stage_result() */
    const float *hidden;      /* [n_rows][width] rows, NULL at the last stage */
    int64_t width, n_rows;
    const struct sh_row_result *results; /* at the last stage */
    int32_t n_results;
    int64_t compute_ns; /* from start to end on the device, as seen from here */
};

/* Enqueue a step.  `hidden` [n_rows][width]: the output of the stage before; NULL at the first.
 * The step's arrays and `hidden` must stay until its result came.  ERR_STATE when n_slots steps
 * are in flight. */
SHOAL_NODISCARD enum shoal_status sh_stage_submit(struct sh_stage *s, const struct sh_step *step,
                                                  const float *hidden, struct shoal_error *err);
/* Pass over a step that failed or was cancelled before it came here: its edits are applied, nothing
 * runs, no result follows.  Nothing may be in flight. */
SHOAL_NODISCARD enum shoal_status sh_stage_skip(struct sh_stage *s, const struct sh_step *step,
                                                struct shoal_error *err);
/* The oldest step in flight: wait at most timeout_ns.  On OK `out` is filled, valid until
 * sh_stage_release_output(); a step that failed gives its status and message here and in
 * out->status, and is gone.  ERR_TIMEOUT with out->status 0 leaves it in flight, else the device
 * itself gave it up; ERR_STATE: nothing in flight. */
SHOAL_NODISCARD enum shoal_status sh_stage_result(struct sh_stage *s, int64_t timeout_ns,
                                                  struct sh_stage_output *out,
                                                  struct shoal_error *err);
void sh_stage_release_output(struct sh_stage *s, const struct sh_stage_output *out);
/* Stop the step `number` if it is in flight; its result is ERR_CANCELLED.  Any thread. */
void sh_stage_cancel(struct sh_stage *s, uint64_t number);
/* New epoch: tables empty, step numbers from 0; bytes and weights stay.  Nothing in flight. */
SHOAL_NODISCARD enum shoal_status sh_stage_reset(struct sh_stage *s, uint64_t epoch,
                                                 struct shoal_error *err);

#endif
