/* model/arch_llama.c - Llama 1 to 3, Mistral, SmolLM, TinyLlama, Yi; with experts: Mixtral.
 *
 * x += Attn(N(x)); x += FFN(N(x)).  Rope on adjacent pairs; the converter permuted q and k.
 */
#include <math.h>

#include "model/model_priv.h"

static enum shoal_status check(const struct sh_model *m, struct shoal_error *err)
{
    const struct sh_hparams *hp = &m->hp;

    if (!(hp->eps_rms > 0)) {
        return sh_fail(err, SHOAL_ERR_FORMAT,
                       "model: llama.attention.layer_norm_rms_epsilon is missing or %g",
                       (double)hp->eps_rms);
    }
    if (hp->n_rot != hp->head_k) {
        return sh_fail(err, SHOAL_ERR_UNSUPPORTED,
                       "model: llama rotates %lld of %lld channels per head, expected all",
                       (long long)hp->n_rot, (long long)hp->head_k);
    }
    return SHOAL_OK;
}

static int32_t layer(struct sh_build *b, int32_t x)
{
    const struct sh_hparams *hp = b->hp;
    const struct sh_build_attn attn = {
        .group = 0, .scale = 1.0f / sqrtf((float)hp->head_k), .rope = true};
    int32_t a, y;

    a = sh_build_rms_norm(b, x, "attn_norm", hp->width);
    a = sh_build_attention(b, a, &attn);
    x = sh_build_residual(b, sh_build_wanted(b, x), a, 0);

    y = sh_build_rms_norm(b, x, "ffn_norm", hp->width);
    if (hp->n_expert > 0) {
        const struct sh_build_moe moe = {
            .gating = SH_GATING_SOFTMAX, .normalise = true, .n_ff = hp->layer[b->layer].n_ff};
        y = sh_build_moe(b, y, &moe);
    } else {
        y = sh_build_ffn(b, y, hp->layer[b->layer].n_ff);
    }
    return sh_build_residual(b, x, y, 0);
}

static bool rotates(const struct sh_model *m, int64_t il)
{
    (void)m, (void)il;
    return true;
}

const struct sh_arch sh_arch_llama = {
    .name = "llama",
    .n_groups = 1,
    .group_kinds = {SH_MODEL_GROUP_FULL},
    .can_shift = true,
    .check = check,
    .rope_mode = SH_ROPE_NORM,
    .layer = layer,
    .rotates = rotates,
};
