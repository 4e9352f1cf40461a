/* model/hparams.h - the hyper-parameters of a file, read once and checked.
 *
 * Keys are "<arch>.<name>".  Files written by some tools carry every key of every architecture
 * with zeros: 0 counts as absent, and only what an architecture has is ever applied.
 * Per-layer values accept a scalar or an array with one entry per block.
 */
#ifndef MODEL_HPARAMS_H
#define MODEL_HPARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "gguf/file.h"
#include "tensor/graph.h"

#define SH_LAYERS_MAX 1024

struct sh_layer_hparams {
    int64_t n_head, n_head_kv; /* n_head_kv 0: no attention in this layer */
    int64_t n_ff;
};

struct sh_hparams {
    int64_t n_layers; /* trunk */
    int64_t width, n_ctx_train;
    int64_t head_k, head_v; /* key_length, value_length */
    float eps_rms, eps_norm;
    const struct sh_layer_hparams *layer; /* [n_layers] */
    /* experts */
    int64_t n_expert, n_expert_used, n_ff_expert, n_ff_shared;
    float expert_weights_scale; /* 0 or 1: none */
    /* rope */
    int64_t n_rot;
    struct sh_rope_attr rope; /* mode is the architecture's */
    /* scales; 0 = none */
    float embedding_scale, residual_scale, logit_scale, attention_scale;
    bool rope_finetuned;
    /* state-space layers */
    int64_t ssm_conv, ssm_inner, ssm_state, ssm_heads, ssm_groups;
};

/* `arena` holds the arrays.  ERR_FORMAT names the key and the value. */
SHOAL_NODISCARD enum shoal_status sh_hparams_read(struct sh_hparams *hp, const struct sh_gguf *g,
                                                  struct sh_str arch, struct sh_arena *arena,
                                                  struct shoal_error *err);

#endif
