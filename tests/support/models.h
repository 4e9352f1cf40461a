/* tests/support/models.h - small random models, made in memory.
 *
 * Weights are drawn from a seed with a spread that keeps every layer's output of the order of its
 * input, so that a wrong bit anywhere shows in the logits.
 */
#ifndef TESTS_SUPPORT_MODELS_H
#define TESTS_SUPPORT_MODELS_H

#include "base/str.h"
#include "gguf/file.h"
#include "model/model.h"

enum tm_kind {
    TM_LLAMA,   /* 3 layers, grouped heads */
    TM_EXPERTS, /* the same with 6 experts, 2 used, cut by width; yarn */
    TM_GROUPS,  /* experts of one block only: cut by groups of experts; yarn */
    TM_HYBRID,  /* granitehybrid: Mamba-2 and attention layers in turn */
    TM_KIND_COUNT
};

struct tm_model {
    struct sh_buf bytes;
    struct sh_gguf *file;
    struct sh_model *model;
    struct sh_model_info info;
};

const char *tm_name(enum tm_kind kind);
/* Weight matrices of type `type` (norms and routers stay f32).  Fails the test on error. */
void tm_make(struct tm_model *m, enum tm_kind kind, enum sh_dtype type, uint32_t seed);
/* The same with more layers, or fewer: 1 to 8. */
void tm_make_deep(struct tm_model *m, enum tm_kind kind, enum sh_dtype type, uint32_t seed,
                  int n_layers);
/* The same weights as old files hold them: one tensor per expert. */
void tm_make_old(struct tm_model *m, enum tm_kind kind, enum sh_dtype type, uint32_t seed);
void tm_release(struct tm_model *m);

/* A seeded generator for tests: uniform in [0, n), and standard normal. */
uint32_t tm_random(uint32_t *state, uint32_t n);
float tm_normal(uint32_t *state);

#endif
