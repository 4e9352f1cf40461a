/* model/model.h - from a GGUF file to graphs: hyper-parameters, weights by role, one builder per
 * architecture.
 *
 * A model is read once (model/hparams.c), checked against what its architecture needs, and then
 * asked for graphs.  A graph covers a *part*: some layers, whole or one shard's slice of them, with
 * or without the embedding and the head.  Architectures speak in roles only (model/build.h:
 * linear, attn, ffn, moe, mixer, head); slices and sums are applied inside those helpers, so an
 * architecture is one file that never mentions shards.
 *
 * Products whose weight is cut along K carry their segment unit even when nothing is split
 * (tensor/segments.h): the unsplit run defines the bits of every split.
 *
 * Threads: open and close from one; everything else is const.
 */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "gguf/file.h"
#include "tensor/graph.h"

struct sh_model;

#define SH_MODEL_GROUPS_MAX 8
enum sh_model_group_kind { SH_MODEL_GROUP_FULL, SH_MODEL_GROUP_WINDOW, SH_MODEL_GROUP_STATE };

struct sh_model_info {
    char arch[32];
    int64_t n_layers; /* trunk layers, without next-token-prediction ones */
    int64_t width;    /* D */
    int64_t n_vocab;  /* rows of the output matrix */
    int64_t n_ctx_train;
    int64_t n_expert, n_expert_used;
    bool can_shift; /* SHIFT edits are possible */
    int n_groups;   /* KV groups, the same for every part */
    struct {
        enum sh_model_group_kind kind;
        int64_t window;
    } groups[SH_MODEL_GROUPS_MAX];
};

/* Read and check: unknown architecture or a missing or misshapen tensor is a sentence naming it.
 * The file must outlive the model. */
SHOAL_NODISCARD enum shoal_status sh_model_open(struct sh_model **out, const struct sh_gguf *g,
                                                struct shoal_error *err);
void sh_model_close(struct sh_model *m);
void sh_model_info(const struct sh_model *m, struct sh_model_info *out);
const struct sh_gguf *sh_model_file(const struct sh_model *m);

/* Names of the architectures that can be built, for messages; NULL-terminated. */
const char *const *sh_model_architectures(void);

struct sh_part {
    int64_t layer_begin, layer_end; /* [begin, end) */
    bool embed, head;               /* has the token embedding, the output head */
    int n_shards, rank;             /* 1, 0: whole */
    double shares[SH_SHARDS_MAX];   /* relative; used when n_shards > 1 */
};

struct sh_build_limits {
    int64_t rows_max, wanted_max;       /* T, O */
    int64_t n_seqs;                     /* sequences of tables; R = n_seqs */
    int64_t n_positions;                /* context per sequence, rounded up to pages inside */
    int64_t pages[SH_MODEL_GROUPS_MAX]; /* per group; of a state group: states */
    enum sh_dtype cache_type;           /* F16 or F32 */
    int64_t n_ctx;                      /* as the user asked (chooses long rope factors) */
};

/* Build the part's graph: shoal's form, every leaf described, the OUTPUT node last.  `g` is
 * initialised here and released by the caller in every case. */
SHOAL_NODISCARD enum shoal_status sh_model_build(const struct sh_model *m,
                                                 const struct sh_part *part,
                                                 const struct sh_build_limits *limits,
                                                 struct sh_graph *g, struct shoal_error *err);
/* The graph that rotates the keys of moved pages (a SHIFT), one node per rope layer of the part. */
SHOAL_NODISCARD enum shoal_status sh_model_build_rotate(const struct sh_model *m,
                                                        const struct sh_part *part,
                                                        const struct sh_build_limits *limits,
                                                        struct sh_graph *g,
                                                        struct shoal_error *err);

/* Bytes that a part needs, for placement: weights, and KV at the given limits. */
SHOAL_NODISCARD enum shoal_status sh_model_part_bytes(const struct sh_model *m,
                                                      const struct sh_part *part,
                                                      const struct sh_build_limits *limits,
                                                      size_t *weights, size_t *cache,
                                                      struct shoal_error *err);

#endif
