/* model/arch_mamba2.c - Mamba-2: x += Mamba2(N(x)), no attention, no positions. */
#include "model/model_priv.h"

static enum shoal_status check(const struct sh_model *m, struct shoal_error *err)
{
    if (!(m->hp.eps_rms > 0)) {
        return sh_fail(err, SHOAL_ERR_FORMAT,
                       "model: mamba2.attention.layer_norm_rms_epsilon is missing or %g",
                       (double)m->hp.eps_rms);
    }
    return SHOAL_OK;
}

static int32_t layer(struct sh_build *b, int32_t x)
{
    const int32_t y = sh_build_mamba2(b, sh_build_rms_norm(b, x, "attn_norm", b->hp->width), 0);

    return sh_build_residual(b, sh_build_wanted(b, x), y, 0);
}

static bool rotates(const struct sh_model *m, int64_t il)
{
    (void)m, (void)il;
    return false;
}

const struct sh_arch sh_arch_mamba2 = {
    .name = "mamba2",
    .n_groups = 1,
    .group_kinds = {SH_MODEL_GROUP_STATE},
    .can_shift = false,
    .check = check,
    .layer = layer,
    .rotates = rotates,
};
