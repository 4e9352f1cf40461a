/* cpu/device_priv.h - what the files of the CPU device share.
 *
 *     device.c    opening, memory, buffers          queue.c    queues and the executor thread
 *     prepare.c   from a graph to steps             exec.c     running steps, resumably
 *     ops.c       the table of ops                  ops_*.c    the ops by family
 *     pages.c     large pages for KV memory in use
 *
 * Threads: the struct comments say what the device's lock guards.
 */
#ifndef CPU_DEVICE_PRIV_H
#define CPU_DEVICE_PRIV_H

#include <stdatomic.h>

#include "base/thread.h"
#include "cpu/device.h"
#include "cpu/pages_priv.h"
#include "cpu/pool.h"
#include "device/collective.h"
#include "kernels/kernels.h"

struct sh_cpu_op; /* cpu/ops_priv.h */

/* ---- buffers --------------------------------------------------------------------------------*/

struct sh_cpu_buffer {
    struct sh_buffer_head head;
    uint8_t *data;            /* of an import: never written */
    const struct sh_map *map; /* of an import; may be NULL */
    bool imported;
    struct sh_cpu_pages pages; /* of KV memory; join is the executor's */
};

/* ---- prepared graphs ------------------------------------------------------------------------*/

/* Where a tensor lies: at `data`, or if that is NULL at `offset` in the scratch of a slot. */
struct sh_cpu_place {
    uint8_t *data;
    size_t offset;
};

/* A node that computes. */
struct sh_cpu_step {
    int32_t node; /* tensor number */
    const struct sh_cpu_op *op;
    size_t shared_offset; /* in the work memory */
    int32_t shared_from;  /* step that fills it; this one itself if no earlier one does */
    int sum;              /* number of a SHARD_SUM, else -1 */
};

struct sh_cpu_exec {
    struct sh_exec_head head;
    const struct sh_graph *g;
    struct sh_cpu_place *places; /* by tensor number */
    struct sh_cpu_step *steps;
    int32_t n_steps;
    int n_slots;
    uint8_t **slots; /* scratch of each slot */
    size_t slot_bytes;
    /* Of one node at a time, whatever the slot: only the executor touches it. */
    uint8_t *work;
    size_t work_bytes;
    size_t transient_offset; /* of the part that every node overwrites */
    uint64_t work_owner;     /* run that used it last */
    struct sh_cpu_buffer **imports, **caches;
    int n_imports, n_caches;
    int n_shards; /* that SHARD_SUMs want; 1 where nothing is exchanged */
};

/* ---- runs (exec.c) --------------------------------------------------------------------------*/

enum sh_cpu_progress { SH_CPU_DONE, SH_CPU_YIELDS, SH_CPU_WAITS, SH_CPU_FAILED };

struct sh_cpu_run {
    struct sh_cpu_exec *x;
    int slot;
    struct sh_extents extents;
    struct sh_collective *collective;
    const atomic_bool *cancel;
    uint64_t id;         /* unique in its device */
    int32_t at;          /* next step */
    int32_t work_intact; /* first step since which no other run used the work memory */
    bool in_sum;         /* the step at `at` has started its exchange */
};

/* Does anybody else want the executor? */
typedef bool sh_cpu_wanted_fn(void *arg);

/* Run steps until all are done, or a sum waits, or after 100 ms if `wanted` says that somebody
 * else is ready.  *st is set when SH_CPU_FAILED is returned (cancellation included). */
enum sh_cpu_progress sh_cpu_run_advance(struct sh_cpu_run *r, struct sh_pool *pool,
                                        const struct sh_kernels *k, sh_cpu_wanted_fn *wanted,
                                        void *arg, enum shoal_status *st, struct shoal_error *err);
/* Tell the other shards that this run ends without a result. */
void sh_cpu_run_abandon(struct sh_cpu_run *r, enum shoal_status st, const char *message);

/* ---- the device -----------------------------------------------------------------------------*/

struct sh_cpu_queue;

struct sh_cpu_device {
    struct sh_device_head head;
    struct sh_kernels table; /* where opt.set_isa */
    const struct sh_kernels *kernels;
    struct sh_pool *pool; /* the executor's */
    char description[96];
    size_t memory_max, memory_total;
    struct sh_thread executor;
    bool spins;        /* whoever waits may keep a processor: there is more than one */
    atomic_int n_busy; /* queues with commands; written under the lock */
    uint64_t n_runs;   /* the executor's, as is: */
    const struct sh_cpu_queue *served; /* last; for comparison only */

    struct sh_mutex lock; /* guards the rest, and all queues' lists and results */
    struct sh_cond work;  /* executor: a queue has got its first command, or closing */
    bool executor_asleep;
    bool closing;
    struct sh_cpu_queue *queues; /* list, in order of creation */
    struct sh_cpu_queue *turn;   /* whose turn is next; NULL: the first */
    size_t memory_used;
};

static inline struct sh_cpu_device *sh_cpu_device_of(struct sh_device *d)
{
    return (struct sh_cpu_device *)(void *)d;
}
static inline struct sh_cpu_buffer *sh_cpu_buffer_of(struct sh_buffer *b)
{
    return (struct sh_cpu_buffer *)(void *)b;
}
static inline struct sh_cpu_exec *sh_cpu_exec_of(struct sh_exec *x)
{
    return (struct sh_cpu_exec *)(void *)x;
}

/* Zeroed memory, counted against the device's limit; NULL with ERR_NOMEM naming need and free. */
SHOAL_NODISCARD enum shoal_status sh_cpu_memory_take(struct sh_cpu_device *d, uint8_t **out,
                                                     size_t bytes, const char *what,
                                                     struct shoal_error *err);
void sh_cpu_memory_give(struct sh_cpu_device *d, uint8_t *p, size_t bytes); /* accepts NULL */

/* queue.c */
enum shoal_status sh_cpu_executor_start(struct sh_cpu_device *d, struct shoal_error *err);
void sh_cpu_executor_stop(struct sh_cpu_device *d);
enum shoal_status sh_cpu_queue_create(struct sh_device *d, struct sh_queue **out,
                                      struct shoal_error *err);
void sh_cpu_queue_destroy(struct sh_queue *q);
enum shoal_status sh_cpu_queue_write(struct sh_queue *q, struct sh_buffer *b, size_t offset,
                                     const void *src, size_t bytes, sh_ticket *t,
                                     struct shoal_error *err);
enum shoal_status sh_cpu_queue_read(struct sh_queue *q, struct sh_buffer *b, size_t offset,
                                    void *dst, size_t bytes, sh_ticket *t, struct shoal_error *err);
enum shoal_status sh_cpu_queue_fill(struct sh_queue *q, struct sh_buffer *b, size_t offset,
                                    uint8_t value, size_t bytes, sh_ticket *t,
                                    struct shoal_error *err);
enum shoal_status sh_cpu_queue_copy(struct sh_queue *q, struct sh_buffer *dst, size_t dst_offset,
                                    struct sh_buffer *src, size_t src_offset, size_t bytes,
                                    sh_ticket *t, struct shoal_error *err);
enum shoal_status sh_cpu_queue_write_tensor(struct sh_queue *q, struct sh_exec *x, int slot,
                                            int32_t tensor, size_t offset, const void *src,
                                            size_t bytes, sh_ticket *t, struct shoal_error *err);
enum shoal_status sh_cpu_queue_read_tensor(struct sh_queue *q, struct sh_exec *x, int slot,
                                           int32_t tensor, size_t offset, void *dst, size_t bytes,
                                           sh_ticket *t, struct shoal_error *err);
enum shoal_status sh_cpu_queue_submit(struct sh_queue *q, struct sh_exec *x, int slot,
                                      const struct sh_extents *extents, struct sh_collective *c,
                                      sh_ticket *t, struct shoal_error *err);
enum shoal_status sh_cpu_queue_wait(struct sh_queue *q, sh_ticket t, int64_t timeout_ns,
                                    struct shoal_error *err);
void sh_cpu_queue_cancel(struct sh_queue *q, sh_ticket t);
void sh_cpu_queue_reset(struct sh_queue *q);
void sh_cpu_queue_quiesce(struct sh_queue *q);
int64_t sh_cpu_queue_busy_ns(struct sh_queue *q);

/* prepare.c */
enum shoal_status sh_cpu_prepare(struct sh_device *d, struct sh_exec **out,
                                 const struct sh_graph *g, struct sh_buffer *const *buffers,
                                 int32_t n_buffers, int n_slots, struct shoal_error *err);
void sh_cpu_exec_release(struct sh_exec *x);
size_t sh_cpu_exec_bytes(const struct sh_exec *x);

#endif
