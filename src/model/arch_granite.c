/* model/arch_granite.c - Granite 3 and 4: dense, with experts, and hybrids of attention and
 * Mamba-2.
 *
 * As llama, with four scales: the embedding is multiplied, both branches are multiplied before the
 * residual, attention has its own factor, logits are divided.  In hybrids a layer without
 * key-value heads is a Mamba-2 mixer.
 */
#include <math.h>

#include "model/model_priv.h"

enum { GROUP_ATTN = 0, GROUP_STATE = 1 };

static enum shoal_status check(const struct sh_model *m, struct shoal_error *err)
{
    if (!(m->hp.eps_rms > 0)) {
        return sh_fail(err, SHOAL_ERR_FORMAT,
                       "model: %s.attention.layer_norm_rms_epsilon is missing or %g", m->arch->name,
                       (double)m->hp.eps_rms);
    }
    if (m->hp.logit_scale == 0) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "model: %s.logit_scale is missing or 0",
                       m->arch->name);
    }
    return SHOAL_OK;
}

static int32_t mix(struct sh_build *b, int32_t a)
{
    const struct sh_hparams *hp = b->hp;
    const float own = hp->attention_scale;
    const struct sh_build_attn attn = {.group = GROUP_ATTN,
                                       .scale = own != 0 ? own : 1.0f / sqrtf((float)hp->head_k),
                                       .rope = hp->rope_finetuned};

    if (b->m->arch->n_groups == 2 && hp->layer[b->layer].n_head_kv == 0) {
        return sh_build_mamba2(b, a, GROUP_STATE);
    }
    return sh_build_attention(b, a, &attn);
}

static int32_t layer(struct sh_build *b, int32_t x)
{
    const struct sh_hparams *hp = b->hp;
    int32_t y;

    y = mix(b, sh_build_rms_norm(b, x, "attn_norm", hp->width));
    x = sh_build_residual(b, sh_build_wanted(b, x), y, hp->residual_scale);

    y = sh_build_rms_norm(b, x, "ffn_norm", hp->width);
    if (hp->n_expert > 0) {
        const struct sh_build_moe moe = {.gating = SH_GATING_SOFTMAX,
                                         .normalise = true,
                                         .n_ff = hp->layer[b->layer].n_ff,
                                         .n_ff_shared = hp->n_ff_shared};
        y = sh_build_moe(b, y, &moe);
    } else {
        y = sh_build_ffn(b, y, hp->layer[b->layer].n_ff);
    }
    return sh_build_residual(b, x, y, hp->residual_scale);
}

static bool rotates(const struct sh_model *m, int64_t il)
{
    return m->hp.rope_finetuned && m->hp.layer[il].n_head_kv > 0;
}

#define GRANITE_COMMON .check = check, .rope_mode = SH_ROPE_NORM, .layer = layer, .rotates = rotates

const struct sh_arch sh_arch_granite = {.name = "granite",
                                        .n_groups = 1,
                                        .group_kinds = {SH_MODEL_GROUP_FULL},
                                        .can_shift = true,
                                        GRANITE_COMMON};
const struct sh_arch sh_arch_granitemoe = {.name = "granitemoe",
                                           .n_groups = 1,
                                           .group_kinds = {SH_MODEL_GROUP_FULL},
                                           .can_shift = true,
                                           GRANITE_COMMON};
const struct sh_arch sh_arch_granitehybrid = {
    .name = "granitehybrid",
    .n_groups = 2,
    .group_kinds = {SH_MODEL_GROUP_FULL, SH_MODEL_GROUP_STATE},
    .can_shift = false,
    GRANITE_COMMON};
