/* model/build.h - the vocabulary of graph builders: roles, not tensors.
 *
 * An architecture calls these to append parts of a layer.  Names are GGUF's without the block
 * prefix and the ".weight" ("attn_q").  Slices of a shard, segments of row-parallel products and
 * sums over shards are applied here and nowhere else, so an architecture reads as if one device
 * held everything.
 *
 * Failures stick in the graph; a failed call returns -1 and later calls do nothing.
 * Shapes in comments are those of one device; a shard sees its heads and columns.
 */
#ifndef MODEL_BUILD_H
#define MODEL_BUILD_H

#include <stdbool.h>
#include <stdint.h>

#include "model/cut.h"
#include "model/hparams.h"
#include "model/model.h"

struct sh_build {
    const struct sh_model *m;
    const struct sh_hparams *hp;
    const struct sh_part *part;
    const struct sh_build_limits *limits;
    struct sh_graph *g;
    int64_t layer; /* being built; -1 outside of layers */
    bool last;     /* the model's last layer, of a part with the head: gathers the wanted rows */
};

/* ---- weights -------------------------------------------------------------------------------- */
/* The stored tensor of a role in the present layer, NULL if the file has none.  `suffix` is
 * "weight", "bias", "scale", or NULL for the few names without one. */
const struct sh_gguf_tensor *sh_build_find(const struct sh_build *b, const char *role,
                                           const char *suffix);
/* Leaf of a role, checked against the stored shape ne0 x ne1 x ne2; -1 and a failure if missing.
 * `slice` NULL: whole. */
int32_t sh_build_weight(struct sh_build *b, const char *role, const char *suffix, int64_t ne0,
                        int64_t ne1, int64_t ne2, const struct sh_slice *slice);
struct sh_slice sh_slice_range(int axis, int64_t begin, int64_t end);

/* ---- pieces --------------------------------------------------------------------------------- */
int32_t sh_build_rms_norm(struct sh_build *b, int32_t x, const char *role, int64_t n);
/* x [D,T] -> W x, + bias and * scale where the file has them.  Rows sliced as `rows` says. */
int32_t sh_build_linear(struct sh_build *b, int32_t x, const char *role, int64_t n_in,
                        int64_t n_out, const struct sh_slice *rows);
/* A row-parallel product: this shard's partial vectors, or the finished product where nothing is
 * split. */
int32_t sh_build_linear_in(struct sh_build *b, int32_t x, const char *role, int64_t n_in,
                           int64_t n_out, const struct sh_cut *cut);
/* Finish 1 to 3 partial results: SHARD_SUM, or additions in operand order where nothing is split.
 */
struct sh_partial {
    int32_t t;
    struct sh_cut cut;
};
int32_t sh_build_sum(struct sh_build *b, int n, const struct sh_partial *p);
/* `.scale` and bias of a row-parallel product, after the sum. */
int32_t sh_build_after_sum(struct sh_build *b, int32_t x, const char *role, int64_t n_out);
/* Keep only the wanted rows (in the last layer of a part with the head), else x itself. */
int32_t sh_build_wanted(struct sh_build *b, int32_t x);
/* x + scale * branch (scale 0 or 1: none). */
int32_t sh_build_residual(struct sh_build *b, int32_t x, int32_t branch, float scale);

/* ---- whole branches ------------------------------------------------------------------------- */
struct sh_build_attn {
    int group;   /* KV group */
    float scale; /* of the dot product */
    bool rope;
    int32_t window;
};
/* a [D,T] (normed) -> attention output product, finished over the shards, [D,T] or [D,O]. */
int32_t sh_build_attention(struct sh_build *b, int32_t a, const struct sh_build_attn *o);
/* Leaf of the frequency factors that the file may carry, -1 if none. */
int32_t sh_build_rope_factors(struct sh_build *b);
/* A node that rotates the cached keys of the present layer (for SHIFT). */
void sh_build_rotate(struct sh_build *b, int group);
/* SwiGLU feed-forward (gate and up, or fused), [D,*] -> [D,*]. */
int32_t sh_build_ffn(struct sh_build *b, int32_t x, int64_t n_ff);

enum sh_gating { SH_GATING_SOFTMAX = 1, SH_GATING_SIGMOID = 2 };
struct sh_build_moe {
    enum sh_gating gating;
    bool normalise;
    int64_t n_ff, n_ff_shared; /* shared 0: none */
};
int32_t sh_build_moe(struct sh_build *b, int32_t x, const struct sh_build_moe *o);
/* Mamba-2 mixer, [D,T] -> [D,T] or [D,O]; states in KV group `group`. */
int32_t sh_build_mamba2(struct sh_build *b, int32_t a, int group);

/* ---- ends ----------------------------------------------------------------------------------- */
int32_t sh_build_embed(struct sh_build *b, float scale);
/* Final norm and output matrix; `divide` != 0: logits / divide.  [D,O] -> [V,O] */
int32_t sh_build_head(struct sh_build *b, int32_t x, float divide);

#endif
