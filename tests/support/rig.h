/* tests/support/rig.h - stages on devices of this process, driven step by step.
 *
 * A rig is a model over some stages, each whole or in two shards, with the index of its KV memory.
 * Tests feed runs of tokens and get logits of every row.  Any failure fails the test.
 */
#ifndef TESTS_SUPPORT_RIG_H
#define TESTS_SUPPORT_RIG_H

#include "engine/kv_index.h"
#include "support/models.h"
#include "stage/stage.h"

struct rig_options {
    int n_stages; /* 0: 1 */
    int n_shards; /* 0: 1; else of every stage */
    double shares[8];
    bool plain; /* devices without shoal's ops */
    bool cache_f32;
    int n_threads;                         /* 0: 1 */
    int n_slots;                           /* 0: 1 */
    int64_t n_seqs, n_positions, rows_max; /* 0: 8, 512, 256 */
    /* May put another graph in the place of each that a stage is made of.  NULL: none does. */
    void (*change)(struct sh_graph *g);
};

enum { RIG_STAGES = 3, RIG_SHARDS = 8 };

struct rig {
    struct tm_model *m;
    struct rig_options o;
    int n_stages, n_shards;
    struct sh_device *device[RIG_STAGES][RIG_SHARDS];
    struct sh_stage *stage[RIG_STAGES][RIG_SHARDS];
    struct sh_hub *hub[RIG_STAGES];
    struct sh_kv_index *kv;
    struct sh_edits edits;
    uint64_t number;
    int32_t n_vocab;
};

void rig_open(struct rig *r, struct tm_model *m, const struct rig_options *o);
void rig_close(struct rig *r);

/* The parts of opening, for tests that put stages together themselves: the options with their
 * defaults and nothing opened; what all stages of it are told; stage `i` (one shard) on a device.
 */
void rig_plan(struct rig *r, struct tm_model *m, const struct rig_options *o);
void rig_limits(const struct rig *r, struct sh_step_limits *limits, struct sh_kv_group *groups);
enum shoal_status rig_make_stage(const struct rig *r, int i, int shard, struct sh_device *d,
                                 struct sh_stage **out, struct shoal_error *err);

/* A run of new tokens of one sequence; logits [n][n_vocab] of its rows, NULL: not wanted. */
struct rig_run {
    int32_t seq;
    const int32_t *ids;
    int64_t n;
    float *logits;
};
/* Append the runs and execute them as one step. */
void rig_step(struct rig *r, const struct rig_run *runs, int n_runs);
/* The same for one run in one whole stage; the status and message of its result, where it fails.
 * The run stays appended to its sequence. */
enum shoal_status rig_try(struct rig *r, const struct rig_run *run, struct shoal_error *err);
/* A step in two halves, for steps in flight: rows are kept in `s` until finish. */
struct rig_flight {
    struct sh_step step;
    struct sh_row *rows;
    struct sh_step_seq *seqs;
    struct sh_prelude *prelude;
    struct rig_run run;
};
void rig_start(struct rig *r, const struct rig_run *run, struct rig_flight *f);
void rig_finish(struct rig *r, struct rig_flight *f);

int32_t rig_seq(struct rig *r, int64_t start); /* a fresh sequence */
void rig_end(struct rig *r, int32_t seq);
/* Feed ids in chunks of `chunk` rows (<= 0: one by one). */
void rig_feed(struct rig *r, int32_t seq, const int32_t *ids, int64_t n, int64_t chunk,
              float *logits);

/* Seeded ids. */
void rig_ids(int32_t *ids, int64_t n, uint32_t seed, int32_t n_vocab);
/* Fail naming the first row that differs, and both values. */
void rig_expect_equal(const char *what, const float *have, const float *want, int64_t n,
                      int32_t n_vocab);
double rig_nmse(const float *have, const float *want, int64_t n);
/* Logits of a lone token-by-token run in one whole stage: what everything is compared with. */
void rig_reference(struct tm_model *m, const int32_t *ids, int64_t n, float *logits);
void rig_reference_cached(struct tm_model *m, const int32_t *ids, int64_t n, float *logits,
                          bool cache_f32);
float *rig_logits(int64_t n); /* [n][n_vocab of all test models], freed with sh_free */

#endif
