/* cpu/attention.c - tiles, splits and states of attention; see attention_priv.h. */
#include "cpu/attention_priv.h"

#include <math.h>
#include <string.h>

#define SPLIT_BLOCKS (SH_ATTN_SPLIT / SH_PAGE)

/* Softmax states of the queries of a tile: m, l and acc as the kernels want them. */
struct state {
    float *m, *l, *acc;
};

/* The memory of one thread. */
struct bench {
    float *q; /* [query][dk] */
    struct state whole, part;
    float *k, *v; /* a block as f32, where the kernels do not read its types */
    float *zeros; /* [dv] */
    struct sh_attn_sight sight;
};

struct job {
    const struct sh_attn *a;
    int64_t n_groups; /* of heads */
    int64_t n_splits; /* of the longest tile */
    bool side_by_side;
    uint8_t *benches;
    size_t bench_bytes;
    float *parts; /* side by side: states [task][m, l, acc of each query] */
    size_t part_floats;
};

int64_t sh_attn_rows_max(int64_t group)
{
    const int64_t rows = SH_ATTN_TILE_QUERIES / group;

    return rows < 1 ? 1 : rows > SH_ATTN_TILE_ROWS ? SH_ATTN_TILE_ROWS : rows;
}

/* Few tiles, of one row each: let the splits of a row be computed by several threads. */
static bool use_side_by_side(const struct sh_attn *a, int64_t n_tiles, int64_t n_blocks,
                             int n_threads)
{
    return n_threads > 1 && n_blocks > SPLIT_BLOCKS &&
           n_tiles * (a->n_heads / a->group) < 4 * (int64_t)n_threads;
}

static int64_t splits_of(int64_t n_blocks)
{
    return (n_blocks + SPLIT_BLOCKS - 1) / SPLIT_BLOCKS;
}

/* ---- memory ---------------------------------------------------------------------------------*/

static int64_t queries_max(const struct sh_attn *a)
{
    return sh_attn_rows_max(a->group) * a->group;
}

static bool add_bench(size_t *work, const struct sh_attn *a)
{
    const int64_t n = queries_max(a);

    return sh_cpu_add_work(work, n * a->dk, sizeof(float)) &&
           sh_cpu_add_work(work, 2 * n * (a->dv + 2), sizeof(float)) &&
           sh_cpu_add_work(work, SH_PAGE * (a->dk + a->dv), sizeof(float)) &&
           sh_cpu_add_work(work, a->dv, sizeof(float)) &&
           sh_cpu_add_work(work, n, sizeof(uint64_t)) && sh_cpu_add_work(work, n, sizeof(bool)) &&
           sh_cpu_add_work(work, n * SH_PAGE, sizeof(float));
}

static struct state take_state(float **at, int64_t n, int64_t dv)
{
    struct state s = {.m = *at, .l = *at + n, .acc = *at + 2 * n};

    *at += n * (dv + 2);
    return s;
}

static struct bench take_bench(const struct job *j, int thread)
{
    const struct sh_attn *a = j->a;
    const int64_t n = queries_max(a);
    uint8_t *at = j->benches + (size_t)thread * j->bench_bytes;
    struct bench b;
    float *states;

    b.q = sh_cpu_f32(sh_cpu_take_work(&at, n * a->dk, sizeof(float)));
    states = sh_cpu_f32(sh_cpu_take_work(&at, 2 * n * (a->dv + 2), sizeof(float)));
    b.whole = take_state(&states, n, a->dv);
    b.part = take_state(&states, n, a->dv);
    b.k = sh_cpu_f32(sh_cpu_take_work(&at, SH_PAGE * (a->dk + a->dv), sizeof(float)));
    b.v = b.k + SH_PAGE * a->dk;
    b.zeros = sh_cpu_f32(sh_cpu_take_work(&at, a->dv, sizeof(float)));
    b.sight.visible = (uint64_t *)(void *)sh_cpu_take_work(&at, n, sizeof(uint64_t));
    b.sight.biased = (bool *)sh_cpu_take_work(&at, n, sizeof(bool));
    b.sight.bias = sh_cpu_f32(sh_cpu_take_work(&at, n * SH_PAGE, sizeof(float)));
    return b;
}

bool sh_attn_add_work(size_t *work, const struct sh_attn *a, int64_t n_rows, int64_t n_blocks,
                      int n_threads)
{
    const int64_t n_groups = a->n_heads / a->group;
    size_t bench = 0;
    int64_t rows = n_rows;

    if (!add_bench(&bench, a) || !sh_cpu_add_work(work, n_threads, bench)) return false;
    // Fewer rows than the maximum may be computed side by side, too.
    if (rows * n_groups >= 4 * (int64_t)n_threads) rows = (4 * (int64_t)n_threads - 1) / n_groups;
    if (!use_side_by_side(a, rows, n_blocks, n_threads)) return true;
    return sh_cpu_add_work(work, rows * n_groups * splits_of(n_blocks),
                           (size_t)(a->group * (a->dv + 2)) * sizeof(float));
}

/* ---- one tile and group of heads ------------------------------------------------------------*/

static bool kernel_reads(const struct sh_attn *a)
{
    return a->k_type == a->v_type && (a->k_type == SH_DTYPE_F16 || a->k_type == SH_DTYPE_F32);
}

static void round_to_f16(const struct sh_kernels *k, int64_t n, float *x)
{
    uint16_t half[SH_CPU_CHUNK];

    for (int64_t i = 0; i < n; i += SH_CPU_CHUNK) {
        const int64_t len = n - i < SH_CPU_CHUNK ? n - i : SH_CPU_CHUNK;
        k->encode[SH_DTYPE_F16](len, half, x + i);
        k->decode[SH_DTYPE_F16](len, x + i, half);
    }
}

/* Queries as the kernels want them: dense, and rounded like the keys. */
static void load_queries(const struct sh_attn *a, const struct sh_attn_tile *t, int64_t head,
                         float *q)
{
    for (int64_t r = 0; r < t->n_rows; r++) {
        for (int64_t g = 0; g < a->group; g++, q += a->dk) {
            const uint8_t *from = a->c->src[0].data + (size_t)(t->row + r) * a->q_row +
                                  (size_t)(head + g) * a->q_head +
                                  (a->sets_are_batches ? (size_t)t->set * a->q_set : 0);
            memcpy(q, from, (size_t)a->dk * sizeof *q);
            if (a->k_type == SH_DTYPE_F16) round_to_f16(a->c->k, a->dk, q);
        }
    }
}

static void clear_state(struct state *s, int64_t n, int64_t dv)
{
    for (int64_t i = 0; i < n; i++) {
        s->m[i] = -INFINITY;
        s->l[i] = 0;
    }
    memset(s->acc, 0, (size_t)(n * dv) * sizeof *s->acc);
}

static void decode_keys(const struct sh_attn *a, struct sh_attn_keys *keys, struct bench *b)
{
    const struct sh_kernels *k = a->c->k;

    for (int64_t i = 0; i < keys->n; i++) {
        const float *x =
            sh_cpu_load(k, a->k_type, keys->k + (size_t)i * keys->k_stride,
                        sh_dtype_info(a->k_type)->block_bytes, a->dk, b->k + i * a->dk);
        if (x != b->k + i * a->dk) memcpy(b->k + i * a->dk, x, (size_t)a->dk * sizeof *x);
        x = sh_cpu_load(k, a->v_type, keys->v + (size_t)i * keys->v_stride,
                        sh_dtype_info(a->v_type)->block_bytes, a->dv, b->v + i * a->dv);
        if (x != b->v + i * a->dv) memcpy(b->v + i * a->dv, x, (size_t)a->dv * sizeof *x);
    }
    keys->k = (const uint8_t *)b->k;
    keys->v = (const uint8_t *)b->v;
    keys->k_stride = (size_t)a->dk * sizeof(float);
    keys->v_stride = (size_t)a->dv * sizeof(float);
}

/* Queries [at, at + n) of a tile, which see the same, against one block. */
static void attend(const struct sh_attn *a, const struct bench *b, const struct sh_attn_keys *keys,
                   int64_t at, int64_t n, const float *bias)
{
    const struct sh_kernels *k = a->c->k;
    const struct state *s = &b->part;
    const float *q = b->q + at * a->dk;
    const uint64_t visible = b->sight.visible[at];

    if (a->k_type == SH_DTYPE_F16 && kernel_reads(a)) {
        k->attn_block_f16(a->dk, a->dv, n, q, (const uint16_t *)(const void *)keys->k,
                          keys->k_stride / sizeof(uint16_t),
                          (const uint16_t *)(const void *)keys->v,
                          keys->v_stride / sizeof(uint16_t), visible, a->scale, a->softcap, bias,
                          s->m + at, s->l + at, s->acc + at * a->dv);
    } else {
        k->attn_block_f32(a->dk, a->dv, n, q, (const float *)(const void *)keys->k,
                          keys->k_stride / sizeof(float), (const float *)(const void *)keys->v,
                          keys->v_stride / sizeof(float), visible, a->scale, a->softcap, bias,
                          s->m + at, s->l + at, s->acc + at * a->dv);
    }
}

static void attend_block(const struct sh_attn *a, const struct sh_attn_tile *t, int64_t head,
                         int64_t block, struct bench *b)
{
    const int64_t n = t->n_rows * a->group;
    const struct sh_attn_sight *s = &b->sight;
    struct sh_attn_keys keys;
    bool found = false;

    a->sight(a, t, head, block, &b->sight);
    for (int64_t i = 0, len; i < n; i += len) {
        len = 1;
        if (s->visible[i] == 0) continue;
        while (i + len < n && !s->biased[i] && !s->biased[i + len] &&
               s->visible[i + len] == s->visible[i])
            len++;
        if (!found) {
            a->keys(a, t, head, block, &keys);
            if (!kernel_reads(a)) decode_keys(a, &keys, b);
            found = true;
        }
        attend(a, b, &keys, i, len, s->biased[i] ? s->bias + i * SH_PAGE : NULL);
    }
}

/* The state of the keys of one split, in b->part. */
static void attend_split(const struct sh_attn *a, const struct sh_attn_tile *t, int64_t head,
                         int64_t split, struct bench *b)
{
    int64_t begin = split * SPLIT_BLOCKS, end = begin + SPLIT_BLOCKS;

    clear_state(&b->part, t->n_rows * a->group, a->dv);
    if (begin < t->first_block) begin = t->first_block;
    if (end > t->end_block) end = t->end_block;
    for (int64_t block = begin; block < end; block++)
        attend_block(a, t, head, block, b);
}

static void merge_state(const struct sh_attn *a, int64_t n, struct state *into,
                        const struct state *s)
{
    for (int64_t i = 0; i < n; i++)
        a->c->k->attn_merge(a->dv, into->m + i, into->l + i, into->acc + i * a->dv, s->m[i],
                            s->l[i], s->acc + i * a->dv);
}

/* Sinks take part of the weight and give no value; then the weights are divided by their sum. */
static void write_result(const struct sh_attn *a, const struct sh_attn_tile *t, int64_t head,
                         struct bench *b)
{
    struct state *s = &b->whole;

    if (a->sinks) memset(b->zeros, 0, (size_t)a->dv * sizeof *b->zeros);
    for (int64_t r = 0, i = 0; r < t->n_rows; r++) {
        for (int64_t g = 0; g < a->group; g++, i++) {
            float *acc = s->acc + i * a->dv;
            float *dst = sh_cpu_f32(
                sh_cpu_at(&a->c->dst, head + g, t->row + r, a->sets_are_batches ? t->set : 0));
            if (a->sinks)
                a->c->k->attn_merge(a->dv, s->m + i, s->l + i, acc, a->sinks[head + g], 1.0f,
                                    b->zeros);
            if (s->l[i] == 0) {
                memset(dst, 0, (size_t)a->dv * sizeof *dst);
            } else {
                a->c->k->scale(a->dv, dst, acc, 1.0f / s->l[i], 0.0f);
            }
        }
    }
}

/* ---- tasks ----------------------------------------------------------------------------------*/

static void whole_tasks(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct job *j = arg;
    struct bench b = take_bench(j, thread);

    for (int64_t task = begin; task < end; task++) {
        const struct sh_attn_tile *t = &j->a->tiles[task / j->n_groups];
        const int64_t head = task % j->n_groups * j->a->group, n = t->n_rows * j->a->group;
        load_queries(j->a, t, head, b.q);
        clear_state(&b.whole, n, j->a->dv);
        for (int64_t s = t->first_block / SPLIT_BLOCKS; s < splits_of(t->end_block); s++) {
            attend_split(j->a, t, head, s, &b);
            merge_state(j->a, n, &b.whole, &b.part);
        }
        write_result(j->a, t, head, &b);
    }
}

/* Task = (tile, group of heads, split); its state goes to the task's place in j->parts. */
static void split_tasks(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct job *j = arg;
    struct bench b = take_bench(j, thread);

    for (int64_t task = begin; task < end; task++) {
        const int64_t pair = task / j->n_splits;
        const struct sh_attn_tile *t = &j->a->tiles[pair / j->n_groups];
        const int64_t head = pair % j->n_groups * j->a->group, n = t->n_rows * j->a->group;
        float *at = j->parts + (size_t)task * j->part_floats;
        load_queries(j->a, t, head, b.q);
        b.part = take_state(&at, n, j->a->dv);
        attend_split(j->a, t, head, task % j->n_splits, &b);
    }
}

static void merge_tasks(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct job *j = arg;
    struct bench b = take_bench(j, thread);

    for (int64_t pair = begin; pair < end; pair++) {
        const struct sh_attn_tile *t = &j->a->tiles[pair / j->n_groups];
        const int64_t head = pair % j->n_groups * j->a->group, n = t->n_rows * j->a->group;
        clear_state(&b.whole, n, j->a->dv);
        for (int64_t s = t->first_block / SPLIT_BLOCKS; s < splits_of(t->end_block); s++) {
            float *at = j->parts + (size_t)(pair * j->n_splits + s) * j->part_floats;
            const struct state part = take_state(&at, n, j->a->dv);
            merge_state(j->a, n, &b.whole, &part);
        }
        write_result(j->a, t, head, &b);
    }
}

void sh_attn_run(const struct sh_attn *a, uint8_t *work)
{
    struct job j = {.a = a, .n_groups = a->n_heads / a->group};
    int64_t longest = 0, row_blocks = 0, most_rows = 0, cost = 0;

    (void)add_bench(&j.bench_bytes, a); // it fitted when the graph was prepared
    j.benches = sh_cpu_take_work(&work, a->c->n_threads, j.bench_bytes);
    for (int64_t i = 0; i < a->n_tiles; i++) {
        const struct sh_attn_tile *t = &a->tiles[i];
        if (t->end_block > longest) longest = t->end_block;
        if (t->n_rows > most_rows) most_rows = t->n_rows;
        row_blocks += (t->end_block - t->first_block) * t->n_rows;
    }
    if (most_rows > 1 || !use_side_by_side(a, a->n_tiles, longest, a->c->n_threads)) {
        if (a->n_tiles) cost = row_blocks / a->n_tiles * 16 * a->group * (a->dk + a->dv);
        sh_pool_for(a->c->pool, a->n_tiles * j.n_groups, sh_cpu_chunk(cost), whole_tasks, &j);
        return;
    }
    j.n_splits = splits_of(longest);
    j.part_floats = (size_t)(a->group * (a->dv + 2));
    j.parts = sh_cpu_f32(work);
    sh_pool_for(a->c->pool, a->n_tiles * j.n_groups * j.n_splits, 1, split_tasks, &j);
    sh_pool_for(a->c->pool, a->n_tiles * j.n_groups, 1, merge_tasks, &j);
}
