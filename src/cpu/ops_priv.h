/* cpu/ops_priv.h - what an op is to the CPU device.
 *
 * Each row of the op table has a struct sh_cpu_op, named sh_cpu_op_<NAME>, in the file of its
 * family.  check() is asked once when a graph is prepared: it refuses types and layouts that the
 * op lacks here and says how much work memory the node needs at its maxima.  run() computes the
 * node for bound extents; it may fail over index values only, and checks them before it writes.
 *
 * The loops of an op are cut by sizes alone and go through the pool; results may depend neither
 * on the cut nor on the number of threads.
 */
#ifndef CPU_OPS_PRIV_H
#define CPU_OPS_PRIV_H

#include "cpu/device_priv.h"

/* A tensor of one run: memory, and extents as bound.  data = NULL: no such operand. */
struct sh_cpu_tensor {
    uint8_t *data;
    enum sh_dtype dtype;
    int64_t ne[SH_MAX_DIMS];
    size_t nb[SH_MAX_DIMS];
};

/* A node being prepared. */
struct sh_cpu_node {
    const struct sh_kernels *k;
    int n_threads;
    const struct sh_tensor *t;
    const struct sh_tensor *src[SH_MAX_SRC]; /* NULL = absent */
};

/* A node being run. */
struct sh_cpu_call {
    const struct sh_kernels *k;
    struct sh_pool *pool;
    int n_threads;
    const struct sh_tensor *t; /* attributes; maxima of the result */
    struct sh_cpu_tensor dst;
    struct sh_cpu_tensor src[SH_MAX_SRC];
    uint8_t *work;     /* aligned to 64, as many bytes as check() asked for */
    uint8_t *shared;   /* the same; see share below */
    bool shared_ready; /* holds what this node would put there */
    struct sh_cpu_run *run;
};

struct sh_cpu_need { /* bytes */
    size_t work, shared;
};

/* What is derived from operands may serve several nodes: rows that were quantised for one
 * product serve the next, angles for the queries serve the keys. */
enum sh_cpu_share {
    SH_CPU_SHARE_NONE,
    SH_CPU_SHARE_LAST, /* one place: holds what the last such node left */
    SH_CPU_SHARE_TABLE /* a place for each different one */
};

struct sh_cpu_op {
    /* Adds to *need what run() wants (0 on entry).  NULL: nothing to refuse, nothing wanted. */
    enum shoal_status (*check)(const struct sh_cpu_node *n, struct sh_cpu_need *need,
                               struct shoal_error *err);
    /* NULL: the op computes nothing. */
    enum shoal_status (*run)(struct sh_cpu_call *c, struct shoal_error *err);
    enum sh_cpu_share share;
    unsigned share_operands; /* that it is derived from: bit i for source i */
    /* Do two nodes with the same such operands derive the same bytes? */
    bool (*shares)(const struct sh_cpu_node *a, const struct sh_cpu_node *b);
};

/* The table; NULL is impossible for a valid op. */
const struct sh_cpu_op *sh_cpu_op_of(enum sh_op op);

#define X(name, wire, lo, hi, flags, rule) extern const struct sh_cpu_op sh_cpu_op_##name;
SH_OPS(X)
#undef X

/* ---- helpers --------------------------------------------------------------------------------*/

/* Elements that a chunk should have to be worth a hand-over between threads. */
#define SH_CPU_GRAIN 16384

/* Items per chunk, where an item costs about `cost` elements. */
static inline int64_t sh_cpu_chunk(int64_t cost)
{
    return cost >= SH_CPU_GRAIN ? 1 : SH_CPU_GRAIN / (cost > 0 ? cost : 1);
}

static inline int64_t sh_cpu_rows(const struct sh_cpu_tensor *t)
{
    return t->ne[1] * t->ne[2] * t->ne[3];
}

/* Indices of row number `row` of a tensor. */
struct sh_cpu_index {
    int64_t i1, i2, i3;
};
static inline struct sh_cpu_index sh_cpu_index_of(const struct sh_cpu_tensor *t, int64_t row)
{
    const int64_t plane = row / t->ne[1];

    return (struct sh_cpu_index){row % t->ne[1], plane % t->ne[2], plane / t->ne[2]};
}

static inline uint8_t *sh_cpu_at(const struct sh_cpu_tensor *t, int64_t i1, int64_t i2, int64_t i3)
{
    return t->data + (size_t)i1 * t->nb[1] + (size_t)i2 * t->nb[2] + (size_t)i3 * t->nb[3];
}
static inline uint8_t *sh_cpu_row(const struct sh_cpu_tensor *t, int64_t row)
{
    const struct sh_cpu_index i = sh_cpu_index_of(t, row);

    return sh_cpu_at(t, i.i1, i.i2, i.i3);
}
/* Row of a tensor that repeats over the one that `i` counts. */
static inline uint8_t *sh_cpu_repeated(const struct sh_cpu_tensor *t, struct sh_cpu_index i)
{
    return sh_cpu_at(t, i.i1 % t->ne[1], i.i2 % t->ne[2], i.i3 % t->ne[3]);
}

static inline int32_t sh_cpu_i32(const struct sh_cpu_tensor *t, int64_t i0, int64_t i1, int64_t i2)
{
    return *(const int32_t *)(const void *)(t->data + (size_t)i0 * t->nb[0] +
                                            (size_t)i1 * t->nb[1] + (size_t)i2 * t->nb[2]);
}
static inline float *sh_cpu_f32(uint8_t *p)
{
    return (float *)(void *)p;
}

/* Elements at a time where rows pass through a buffer on the stack: whole blocks of every type. */
#define SH_CPU_CHUNK 512

/* n elements (whole blocks) of a row as f32: the row itself where that is what it holds, else
 * converted into tmp.  `nb0`: bytes from element to element (of a block type: ignored). */
const float *sh_cpu_load(const struct sh_kernels *k, enum sh_dtype dtype, const uint8_t *p,
                         size_t nb0, int64_t n, float *tmp);
/* And back; p may be the row that x was loaded from. */
void sh_cpu_store(const struct sh_kernels *k, enum sh_dtype dtype, uint8_t *p, size_t nb0,
                  int64_t n, const float *x);
/* Bytes to element i of a row (a block border). */
size_t sh_cpu_element_offset(enum sh_dtype dtype, size_t nb0, int64_t i);
/* Are load and store possible? */
bool sh_cpu_loads(const struct sh_kernels *k, enum sh_dtype dtype);
bool sh_cpu_stores(const struct sh_kernels *k, enum sh_dtype dtype);

/* Is every index in [0, n)?  Else ERR_FORMAT naming the value. */
SHOAL_NODISCARD enum shoal_status sh_cpu_check_index(const struct sh_cpu_tensor *ids, int64_t n,
                                                     struct shoal_error *err);

/* Page of a position of a sequence, by its table; ERR_FORMAT where there is none. */
SHOAL_NODISCARD enum shoal_status sh_cpu_find_page(const struct sh_cpu_tensor *table,
                                                   int64_t n_pages, int64_t seq, int64_t pos,
                                                   int32_t *page, struct shoal_error *err);

/* Factor of a mask in head `head` (ALiBi); 1 where max_bias is not positive. */
float sh_cpu_slope(int64_t head, int64_t n_heads, float max_bias);

/* Add room for `n` items of `bytes`, rounded up to whole cache lines; false on overflow. */
bool sh_cpu_add_work(size_t *work, int64_t n, size_t bytes);
/* Hand out work memory in the same order. */
uint8_t *sh_cpu_take_work(uint8_t **at, int64_t n, size_t bytes);

/* For check(): refusals. */
enum shoal_status sh_cpu_refuse_type(const struct sh_tensor *t, const char *what,
                                     struct shoal_error *err);
enum shoal_status sh_cpu_refuse_size(struct shoal_error *err);
/* "CPU: tensor 12 (GET_ROWS blk.0.x): <what>" */
enum shoal_status sh_cpu_name_node(struct shoal_error *err, enum shoal_status code,
                                   const struct sh_tensor *t, int32_t number, const char *what);

#endif
