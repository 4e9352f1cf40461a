/* model/model_priv.h - inside of struct sh_model, for this folder. */
#ifndef MODEL_MODEL_PRIV_H
#define MODEL_MODEL_PRIV_H

#include "model/arch.h"
#include "model/hparams.h"
#include "model/model.h"

struct sh_model {
    const struct sh_gguf *file; /* borrowed */
    const struct sh_arch *arch;
    struct sh_arena arena;
    struct sh_hparams hp;
    int64_t n_vocab;
};

#endif
