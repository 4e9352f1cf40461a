/* ggmlrpc/remote_priv.h - what the files of the remote device share.
 *
 *     link.c           the connection
 *     remote.c         opening, info, buffers
 *     remote_queue.c   tickets, data, waiting
 *     remote_upload.c  weights, which the server may have already
 *     remote_graph.c   preparing and running graphs
 *
 * Threads: the link's lock guards queues' lists and results, `last_exec` and the spare buffers;
 * the rest is constant after open, or the caller's as device/device.h says.
 */
#ifndef GGMLRPC_REMOTE_PRIV_H
#define GGMLRPC_REMOTE_PRIV_H

#include "ggmlrpc/device.h"
#include "ggmlrpc/graph.h"
#include "ggmlrpc/link_priv.h"

#define REMOTE_SPARE_MAX 4 /* scratch buffers kept for the next graph */

/* A buffer on the server. */
struct remote_place {
    uint64_t token, base;
    size_t bytes;
};

struct remote_buffer {
    struct sh_buffer_head head;
    struct remote_place place;
};

struct remote_exec {
    struct sh_exec_head head;
    const struct sh_graph *graph;
    struct remote_place *external; /* of the graph's buffers */
    struct remote_place scratch;   /* of all slots; token 0: none needed */
    size_t *offsets;               /* in a slot's scratch; SIZE_MAX: none */
    size_t slot_bytes;
    int n_slots;
    struct {
        uint8_t *frame; /* GRAPH_COMPUTE, encoded at the first run; borrowed by requests */
        size_t bytes;
    } * slots;
    bool uses[4];  /* which symbolic extents occur, by enum sh_extent */
    int n_pending; /* runs under way */
};

/* A ticket on its way. */
struct remote_ticket {
    struct remote_ticket *next;
    struct remote_queue *queue;
    struct remote_exec *exec; /* of a run, else NULL */
    sh_ticket ticket;
    uint64_t seq; /* of its request */
    bool complete;
    enum shoal_status status;
};

struct remote_queue {
    struct sh_queue_head head;
    struct remote_ticket *first, **end; /* in order; the first is not complete */
    struct remote_ticket *spare;
    sh_ticket issued, done;
    sh_ticket failed_from; /* first ticket that failed, 0 = none */
    struct shoal_error failure;
    struct remote_place last_run; /* a place that a run used: a byte of it can be fetched */
};

struct alloc_size {
    uint64_t key;
    uint64_t bytes;
};

struct remote_device {
    struct sh_device_head head;
    struct sh_ggmlrpc_options opt;
    struct link *link;
    char address[SH_ADDRESS_TEXT_MAX];
    size_t alignment, buffer_bytes_max;
    bool asks; /* whether the server has large weights already */

    const struct remote_exec *last_exec; /* whose graph the server ran last, and in which slot */
    int last_slot;
    struct remote_place spare[REMOTE_SPARE_MAX];
    int n_spare;

    struct sh_mutex sizes_lock; /* guards the answers of GET_ALLOC_SIZE */
    struct alloc_size *sizes;
    size_t n_sizes, cap_sizes;
};

static inline struct remote_device *remote_of(struct sh_device *d)
{
    return (struct remote_device *)(void *)d;
}
static inline struct remote_buffer *remote_buffer_of(struct sh_buffer *b)
{
    return (struct remote_buffer *)(void *)b;
}
static inline struct remote_queue *remote_queue_of(struct sh_queue *q)
{
    return (struct remote_queue *)(void *)q;
}
static inline struct remote_exec *remote_exec_of(struct sh_exec *x)
{
    return (struct remote_exec *)(void *)x;
}

/* ---- remote.c -------------------------------------------------------------------------------*/

/* Allocate on the server: token, base and size, all checked. */
enum shoal_status remote_place_alloc(struct remote_device *d, size_t bytes,
                                     struct remote_place *out, struct shoal_error *err);
void remote_place_free(struct remote_device *d, const struct remote_place *p);
/* A record of n bytes at an offset of a place. */
void remote_bytes_record(const struct remote_place *p, size_t offset, uint32_t n,
                         struct sh_wire_tensor *out);

/* ---- remote_queue.c -------------------------------------------------------------------------*/

enum shoal_status remote_queue_create(struct sh_device *d, struct sh_queue **out,
                                      struct shoal_error *err);
void remote_queue_destroy(struct sh_queue *q);
enum shoal_status remote_write(struct sh_queue *q, struct sh_buffer *b, size_t offset,
                               const void *src, size_t bytes, sh_ticket *t,
                               struct shoal_error *err);
enum shoal_status remote_read(struct sh_queue *q, struct sh_buffer *b, size_t offset, void *dst,
                              size_t bytes, sh_ticket *t, struct shoal_error *err);
enum shoal_status remote_fill(struct sh_queue *q, struct sh_buffer *b, size_t offset, uint8_t value,
                              size_t bytes, sh_ticket *t, struct shoal_error *err);
enum shoal_status remote_copy(struct sh_queue *q, struct sh_buffer *dst, size_t dst_offset,
                              struct sh_buffer *src, size_t src_offset, size_t bytes, sh_ticket *t,
                              struct shoal_error *err);
enum shoal_status remote_wait(struct sh_queue *q, sh_ticket t, int64_t timeout_ns,
                              struct shoal_error *err);
void remote_cancel(struct sh_queue *q, sh_ticket t);
void remote_reset(struct sh_queue *q);
void remote_quiesce(struct sh_queue *q);

/* The same as remote_write() and remote_read(), at a place. */
enum shoal_status remote_write_at(struct remote_queue *q, const struct remote_place *p,
                                  size_t offset, const void *src, size_t bytes, sh_ticket *t,
                                  struct shoal_error *err);
enum shoal_status remote_read_at(struct remote_queue *q, const struct remote_place *p,
                                 size_t offset, void *dst, size_t bytes, sh_ticket *t,
                                 struct shoal_error *err);
/* A request that carries the queue's next ticket once it is posted: its owner is the entry.  NULL
 * with `err`. */
struct link_request *remote_request(struct remote_queue *q, enum sh_wire_command command,
                                    const struct sh_wire_request *rq, uint64_t more,
                                    struct shoal_error *err);
/* Post it with the lock held; a poisoned queue completes it at once. */
sh_ticket remote_post_locked(struct remote_queue *q, struct link_request *r);
/* Ask for one byte, which proves every run before it. */
enum shoal_status remote_flush(struct remote_device *d, const struct remote_place *p,
                               struct shoal_error *err);

/* ---- remote_upload.c ------------------------------------------------------------------------*/

enum shoal_status remote_upload(struct sh_queue *q, const struct sh_upload *up,
                                struct shoal_error *err);

/* ---- remote_graph.c -------------------------------------------------------------------------*/

enum shoal_status remote_prepare(struct sh_device *d, struct sh_exec **out,
                                 const struct sh_graph *g, struct sh_buffer *const *buffers,
                                 int32_t n_buffers, int n_slots, struct shoal_error *err);
void remote_exec_release(struct sh_exec *x);
enum shoal_status remote_write_tensor(struct sh_queue *q, struct sh_exec *x, int slot,
                                      int32_t tensor, size_t offset, const void *src, size_t bytes,
                                      sh_ticket *t, struct shoal_error *err);
enum shoal_status remote_read_tensor(struct sh_queue *q, struct sh_exec *x, int slot,
                                     int32_t tensor, size_t offset, void *dst, size_t bytes,
                                     sh_ticket *t, struct shoal_error *err);
enum shoal_status remote_submit(struct sh_queue *q, struct sh_exec *x, int slot,
                                const struct sh_extents *extents, struct sh_collective *c,
                                sh_ticket *t, struct shoal_error *err);

#endif
