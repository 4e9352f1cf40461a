/* cpu/attention_priv.h - attention over blocks of 64 keys, whatever names and stores the keys.
 *
 * Query rows that may look at the same keys form tiles.  For each tile and each group of query
 * heads that share a KV head, blocks of keys are taken in ascending order; every SH_ATTN_SPLIT
 * keys the state so far is closed and later merged into the result, in order.  Where there are
 * few rows the splits are computed side by side.  A query's bits depend only on its own row, the
 * keys it sees and their places: queries of a tile are computed together, but independently.
 */
#ifndef CPU_ATTENTION_PRIV_H
#define CPU_ATTENTION_PRIV_H

#include "cpu/ops_priv.h"

#define SH_ATTN_TILE_ROWS 16
#define SH_ATTN_TILE_QUERIES 64 /* unless one row has more */

struct sh_attn_tile {
    int64_t row, n_rows;
    int64_t set;                    /* sequence or batch: whose keys */
    int64_t first_block, end_block; /* that any of the rows sees */
};

/* The keys of a block. */
struct sh_attn_keys {
    const uint8_t *k, *v;
    size_t k_stride, v_stride; /* bytes from key to key */
    int64_t n;                 /* present, at most 64 */
};

/* What the queries of a tile see of a block; query = row * group + head. */
struct sh_attn_sight {
    uint64_t *visible; /* per query */
    bool *biased;      /* per query: does `bias` apply? */
    float *bias;       /* [query][64] */
};

struct sh_attn {
    const struct sh_cpu_call *c;
    int64_t dk, dv, n_heads, group; /* group: query heads that share their keys and values */
    enum sh_dtype k_type, v_type;
    float scale, softcap;
    const float *sinks;          /* per head, or NULL */
    size_t q_row, q_head, q_set; /* strides of q in bytes; q_set only where sets are batches */
    const struct sh_attn_tile *tiles;
    int64_t n_tiles;
    bool sets_are_batches; /* of q and the result */
    void (*keys)(const struct sh_attn *a, const struct sh_attn_tile *t, int64_t head, int64_t block,
                 struct sh_attn_keys *out);
    void (*sight)(const struct sh_attn *a, const struct sh_attn_tile *t, int64_t head,
                  int64_t block, struct sh_attn_sight *out);
    const void *op; /* of the two functions */
};

/* Rows of a tile. */
int64_t sh_attn_rows_max(int64_t group);
/* Work memory: for at most n_rows rows (over all sets) and keys in n_blocks blocks. */
bool sh_attn_add_work(size_t *work, const struct sh_attn *a, int64_t n_rows, int64_t n_blocks,
                      int n_threads);
/* Compute all tiles; `work` holds what was asked for. */
void sh_attn_run(const struct sh_attn *a, uint8_t *work);

#endif
