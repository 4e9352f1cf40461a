/* model/arch.h - what an architecture is: one row in a table, one file.
 *
 * To add one: write arch_<name>.c with a check of the hyper-parameters and a function that builds
 * one layer from the role helpers of model/build.h, and add its row to SH_ARCHS.
 */
#ifndef MODEL_ARCH_H
#define MODEL_ARCH_H

#include "model/build.h"
#include "model/model.h"

struct sh_arch {
    const char *name; /* general.architecture */
    /* Which layers keep which KV: index into groups per layer is layer_group(); the kinds are
     * fixed here. */
    int n_groups;
    enum sh_model_group_kind group_kinds[2];
    bool can_shift;
    /* Refuse what the architecture cannot be; may be NULL. */
    enum shoal_status (*check)(const struct sh_model *m, struct shoal_error *err);
    enum sh_rope_mode rope_mode;
    /* Append layer `b->layer` to x [D,T] and return its result. */
    int32_t (*layer)(struct sh_build *b, int32_t x);
    /* Does this layer attend with a rope (so that a shift rotates its keys)? */
    bool (*rotates)(const struct sh_model *m, int64_t layer);
};

#define SH_ARCHS(X)                                                                                \
    X(llama)                                                                                       \
    X(granite)                                                                                     \
    X(granitemoe)                                                                                  \
    X(granitehybrid)                                                                               \
    X(mamba2)

#define X(name) extern const struct sh_arch sh_arch_##name;
SH_ARCHS(X)
#undef X

#endif
