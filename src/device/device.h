/* device/device.h - one compute resource with its memory: this CPU, a GPU, a remote device.
 *
 * The interface that stages drive.  Opening a device is the implementation's own call
 * (sh_cpu_device_open(), sh_ggmlrpc_device_open()); everything after goes through the functions
 * below, which only forward to the implementation's table.
 *
 * Buffers are blocks of the device's memory, zeroed when allocated.  A graph is prepared once:
 * validated, kernels chosen, scratch laid out for `n_slots` execution slots.  There is no per-node
 * fallback: a device that cannot run a node refuses the graph and names it.
 *
 * Queues are asynchronous from the first day.  write, read, fill, copy and submit enqueue and
 * return a ticket, a number that rises within its queue.  Effects happen as if in order; a ticket
 * is complete when its effect is.  sh_queue_wait() waits for a ticket and thereby all before it.
 * Errors are values: the first failure is kept, every later ticket of that queue completes with
 * ERR_POISONED (the wait returns the first failure) until sh_queue_reset(); a cancelled submit
 * completes with ERR_CANCELLED and does not poison.  A wait that runs out of time leaves the
 * ticket live.  The source of a write and the target of a read belong to the device until the
 * ticket is complete, or until sh_queue_quiesce() has returned.
 *
 * Threads: a device and its buffers may be used from any thread; one queue by one thread at a
 * time, except sh_queue_cancel(), which is allowed from any.
 */
#ifndef DEVICE_DEVICE_H
#define DEVICE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"
#include "tensor/graph.h"

struct sh_device; /* starts with struct sh_device_head */
struct sh_buffer; /* starts with struct sh_buffer_head */
struct sh_exec;   /* a prepared graph */
struct sh_queue;
struct sh_collective; /* device/collective.h */
struct sh_upload;     /* device/upload.h */

typedef uint64_t sh_ticket; /* 0: nothing to wait for */

enum sh_device_kind { SH_DEVICE_CPU, SH_DEVICE_GPU, SH_DEVICE_REMOTE };

struct sh_device_info {
    char name[64];        /* "CPU", "rpc 127.0.0.1:50052/0" */
    char description[96]; /* processor, or what the peer says of itself */
    enum sh_device_kind kind;
    size_t memory_free, memory_total; /* bytes */
    size_t alignment;                 /* of offsets inside buffers, a power of two */
    size_t buffer_bytes_max;
    bool shoal_ops; /* runs shoal's own ops; else stages lower their graphs */
    bool exact;     /* gives the bits that the scalar kernels define */
    bool local;     /* shares this process's memory: buffers can import mappings */
};

enum sh_buffer_usage { SH_BUFFER_WEIGHTS, SH_BUFFER_CACHE, SH_BUFFER_COMPUTE };

/* Traffic of a device that is reached over a network; zeros for others. */
struct sh_device_traffic {
    char address[72];
    uint64_t bytes_sent, bytes_received;
    uint64_t round_trips; /* requests whose answer somebody waited for */
    uint64_t graphs_sent; /* whole graphs; repeats by reference are not counted */
};

struct sh_device_ops {
    void (*close)(struct sh_device *d);
    enum shoal_status (*info)(struct sh_device *d, struct sh_device_info *out,
                              struct shoal_error *err);
    void (*traffic)(struct sh_device *d, struct sh_device_traffic *out); /* NULL: all zeros */
    enum shoal_status (*buffer_alloc)(struct sh_device *d, struct sh_buffer **out, size_t bytes,
                                      enum sh_buffer_usage usage, struct shoal_error *err);
    enum shoal_status (*buffer_import)(struct sh_device *d, struct sh_buffer **out,
                                       const void *data, size_t bytes, const struct sh_map *map,
                                       struct shoal_error *err); /* NULL: not supported */
    void (*buffer_free)(struct sh_buffer *b);
    enum shoal_status (*queue_create)(struct sh_device *d, struct sh_queue **out,
                                      struct shoal_error *err);
    void (*queue_destroy)(struct sh_queue *q);
    enum shoal_status (*prepare)(struct sh_device *d, struct sh_exec **out,
                                 const struct sh_graph *g, struct sh_buffer *const *buffers,
                                 int32_t n_buffers, int n_slots, struct shoal_error *err);
    void (*exec_release)(struct sh_exec *x);
    size_t (*exec_bytes)(const struct sh_exec *x); /* NULL: not known */
    enum shoal_status (*write)(struct sh_queue *q, struct sh_buffer *b, size_t offset,
                               const void *src, size_t bytes, sh_ticket *t,
                               struct shoal_error *err);
    enum shoal_status (*upload)(struct sh_queue *q, const struct sh_upload *up,
                                struct shoal_error *err); /* NULL: piece by piece, by write */
    enum shoal_status (*read)(struct sh_queue *q, struct sh_buffer *b, size_t offset, void *dst,
                              size_t bytes, sh_ticket *t, struct shoal_error *err);
    enum shoal_status (*fill)(struct sh_queue *q, struct sh_buffer *b, size_t offset, uint8_t value,
                              size_t bytes, sh_ticket *t, struct shoal_error *err);
    enum shoal_status (*copy)(struct sh_queue *q, struct sh_buffer *dst, size_t dst_offset,
                              struct sh_buffer *src, size_t src_offset, size_t bytes, sh_ticket *t,
                              struct shoal_error *err);
    enum shoal_status (*write_tensor)(struct sh_queue *q, struct sh_exec *x, int slot,
                                      int32_t tensor, size_t offset, const void *src, size_t bytes,
                                      sh_ticket *t, struct shoal_error *err);
    enum shoal_status (*read_tensor)(struct sh_queue *q, struct sh_exec *x, int slot,
                                     int32_t tensor, size_t offset, void *dst, size_t bytes,
                                     sh_ticket *t, struct shoal_error *err);
    enum shoal_status (*submit)(struct sh_queue *q, struct sh_exec *x, int slot,
                                const struct sh_extents *extents, struct sh_collective *c,
                                sh_ticket *t, struct shoal_error *err);
    enum shoal_status (*wait)(struct sh_queue *q, sh_ticket t, int64_t timeout_ns,
                              struct shoal_error *err);
    void (*cancel)(struct sh_queue *q, sh_ticket t);
    void (*reset)(struct sh_queue *q);
    void (*quiesce)(struct sh_queue *q);
    int64_t (*busy_ns)(struct sh_queue *q); /* NULL: not known */
};

/* First members of the implementations' structs. */
struct sh_device_head {
    const struct sh_device_ops *ops;
};
struct sh_buffer_head {
    struct sh_device *device;
    size_t bytes;
};
struct sh_queue_head {
    struct sh_device *device;
};
struct sh_exec_head {
    struct sh_device *device;
};

/* ---- the calls ------------------------------------------------------------------------------
 * Every out-parameter is NULL (or 0) on failure.  close, free, destroy and release accept NULL.
 * Order of tear-down: queues quiesced and destroyed, execs, buffers, then the device. */
void sh_device_close(struct sh_device *d);
SHOAL_NODISCARD enum shoal_status sh_device_info(struct sh_device *d, struct sh_device_info *out,
                                                 struct shoal_error *err);
void sh_device_traffic(struct sh_device *d, struct sh_device_traffic *out);

/* `bytes` zeroed bytes.  ERR_NOMEM's message holds need and free. */
SHOAL_NODISCARD enum shoal_status sh_buffer_alloc(struct sh_device *d, struct sh_buffer **out,
                                                  size_t bytes, enum sh_buffer_usage usage,
                                                  struct shoal_error *err);
/* A read-only buffer over memory of the caller, who keeps it alive longer than the buffer.  `map`
 * (may be NULL) is asked after each run whether it faulted.  ERR_UNSUPPORTED where the device is
 * not local. */
SHOAL_NODISCARD enum shoal_status sh_buffer_import(struct sh_device *d, struct sh_buffer **out,
                                                   const void *data, size_t bytes,
                                                   const struct sh_map *map,
                                                   struct shoal_error *err);
void sh_buffer_free(struct sh_buffer *b);
size_t sh_buffer_bytes(const struct sh_buffer *b);

SHOAL_NODISCARD enum shoal_status sh_queue_create(struct sh_device *d, struct sh_queue **out,
                                                  struct shoal_error *err);
void sh_queue_destroy(struct sh_queue *q); /* quiesces first */

/* Validate, choose kernels, lay out scratch for n_slots (>= 1) executions in flight.  The graph
 * and the buffers must outlive the exec; the graph is not copied. */
SHOAL_NODISCARD enum shoal_status sh_exec_prepare(struct sh_device *d, struct sh_exec **out,
                                                  const struct sh_graph *g,
                                                  struct sh_buffer *const *buffers,
                                                  int32_t n_buffers, int n_slots,
                                                  struct shoal_error *err);
void sh_exec_release(struct sh_exec *x);
/* Memory that a prepared graph holds until it is released, scratch included; 0: not known. */
size_t sh_exec_bytes(const struct sh_exec *x);

/* Asynchronous.  `t` may be NULL.  Ranges are checked at once: ERR_ARG. */
SHOAL_NODISCARD enum shoal_status sh_queue_write(struct sh_queue *q, struct sh_buffer *b,
                                                 size_t offset, const void *src, size_t bytes,
                                                 sh_ticket *t, struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_queue_read(struct sh_queue *q, struct sh_buffer *b,
                                                size_t offset, void *dst, size_t bytes,
                                                sh_ticket *t, struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_queue_fill(struct sh_queue *q, struct sh_buffer *b,
                                                size_t offset, uint8_t value, size_t bytes,
                                                sh_ticket *t, struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_queue_copy(struct sh_queue *q, struct sh_buffer *dst,
                                                size_t dst_offset, struct sh_buffer *src,
                                                size_t src_offset, size_t bytes, sh_ticket *t,
                                                struct shoal_error *err);
/* The same for a tensor that the device placed in the scratch of a slot (inputs, outputs). */
SHOAL_NODISCARD enum shoal_status sh_queue_write_tensor(struct sh_queue *q, struct sh_exec *x,
                                                        int slot, int32_t tensor, size_t offset,
                                                        const void *src, size_t bytes, sh_ticket *t,
                                                        struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_queue_read_tensor(struct sh_queue *q, struct sh_exec *x,
                                                       int slot, int32_t tensor, size_t offset,
                                                       void *dst, size_t bytes, sh_ticket *t,
                                                       struct shoal_error *err);
/* Run the graph with these extents (each at most the graph's maximum) in a slot.  `c` serves the
 * graph's SHARD_SUMs; NULL where it has none.  Index values are checked while running:
 * ERR_FORMAT names node and value. */
SHOAL_NODISCARD enum shoal_status sh_queue_submit(struct sh_queue *q, struct sh_exec *x, int slot,
                                                  const struct sh_extents *extents,
                                                  struct sh_collective *c, sh_ticket *t,
                                                  struct shoal_error *err);

/* Wait for a ticket and all before it, at most `timeout_ns` (SH_NO_DEADLINE = for ever): OK, the
 * queue's first failure, ERR_CANCELLED if exactly this ticket was cancelled, or ERR_TIMEOUT. */
SHOAL_NODISCARD enum shoal_status sh_queue_wait(struct sh_queue *q, sh_ticket t, int64_t timeout_ns,
                                                struct shoal_error *err);
/* Ask a submitted run to stop: takes effect between row blocks.  Any thread. */
void sh_queue_cancel(struct sh_queue *q, sh_ticket t);
/* Forget a failure; waits until the queue is idle first. */
void sh_queue_reset(struct sh_queue *q);
/* After this no memory of the caller is touched any more: waits, or cuts the connection. */
void sh_queue_quiesce(struct sh_queue *q);
/* Time that the device has spent on the queue's runs so far; 0 where it cannot tell. */
int64_t sh_queue_busy_ns(struct sh_queue *q);

#endif
