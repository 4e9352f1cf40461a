/* model/hparams.c - see hparams.h; the defaults are those of GGUF's readers. */
#include "model/hparams.h"

#include <math.h>
#include <stdio.h>

#include "base/error.h"

/* A reader that stops at the first failure, so that a list of keys reads like a table. */
struct keys {
    const struct sh_gguf *file;
    struct sh_str arch;
    struct shoal_error *err;
    enum shoal_status st;
    char name[160];
};

static const char *key(struct keys *k, const char *suffix)
{
    snprintf(k->name, sizeof k->name, "%.*s.%s", (int)k->arch.len, k->arch.ptr, suffix);
    return k->name;
}

static int64_t get_int(struct keys *k, const char *suffix, int64_t fallback, int64_t lo, int64_t hi)
{
    int64_t v = fallback;

    if (k->st) return fallback;
    k->st = sh_gguf_get_i64(k->file, key(k, suffix), fallback, &v, k->err);
    if (!k->st && (v < lo || v > hi)) {
        k->st = sh_fail(k->err, SHOAL_ERR_FORMAT,
                        "model: %s is %lld, expected a number from %lld to %lld", k->name,
                        (long long)v, (long long)lo, (long long)hi);
    }
    return k->st ? fallback : v;
}

static int64_t need_int(struct keys *k, const char *suffix, int64_t lo, int64_t hi)
{
    if (k->st) return lo;
    if (!sh_gguf_find(k->file, key(k, suffix))) {
        k->st = sh_fail(k->err, SHOAL_ERR_FORMAT, "model: key %s is missing", k->name);
        return lo;
    }
    return get_int(k, suffix, lo, lo, hi);
}

static float get_float(struct keys *k, const char *suffix, float fallback)
{
    float v = fallback;

    if (k->st) return fallback;
    k->st = sh_gguf_get_f32(k->file, key(k, suffix), fallback, &v, k->err);
    return k->st ? fallback : v;
}

static bool get_bool(struct keys *k, const char *suffix, bool fallback)
{
    bool v = fallback;

    if (k->st) return fallback;
    k->st = sh_gguf_get_bool(k->file, key(k, suffix), fallback, &v, k->err);
    return k->st ? fallback : v;
}

// Entry `il` of a key that may be a scalar or an array with one entry per block.
static int64_t get_layer_int(struct keys *k, const char *suffix, int64_t n_blocks, int64_t il,
                             int64_t fallback, int64_t hi)
{
    const struct sh_gguf_value *v;
    int64_t n = fallback;

    if (k->st) return fallback;
    v = sh_gguf_find(k->file, key(k, suffix));
    if (!v) return fallback;
    if (sh_gguf_is_array(v) && v->count < (size_t)n_blocks) {
        k->st = sh_fail(k->err, SHOAL_ERR_FORMAT, "model: %s has %zu entries for %lld blocks",
                        k->name, v->count, (long long)n_blocks);
        return fallback;
    }
    if (!sh_gguf_int_at(v, sh_gguf_is_array(v) ? (size_t)il : 0, &n) || n < 0 || n > hi) {
        k->st =
            sh_fail(k->err, SHOAL_ERR_FORMAT, "model: %s of block %lld is no number from 0 to %lld",
                    k->name, (long long)il, (long long)hi);
        return fallback;
    }
    return n;
}

static float mscale(float k, float factor)
{
    return factor > 1 ? 1.0f + 0.1f * k * logf(factor) : 1.0f;
}

static void read_rope(struct sh_hparams *hp, struct keys *k)
{
    struct sh_rope_attr *r = &hp->rope;
    float factor, scale_linear, magnitude;
    struct sh_str type = SH_STR_LIT("linear");

    hp->n_rot = get_int(k, "rope.dimension_count", 0, 0, 65536);
    if (hp->n_rot == 0) hp->n_rot = hp->head_k;
    scale_linear = get_float(k, "rope.scale_linear", 0);
    factor = get_float(k, "rope.scaling.factor", scale_linear);
    if (!k->st) {
        k->st = sh_gguf_get_str(k->file, key(k, "rope.scaling.type"), type, &type, k->err);
    }
    if (!(factor > 0) || sh_str_is(type, "none")) factor = 1;

    r->n_dims = (int32_t)hp->n_rot;
    r->freq_base = get_float(k, "rope.freq_base", 10000.0f);
    if (!(r->freq_base > 0)) r->freq_base = 10000.0f;
    r->freq_scale = 1.0f / factor;
    r->n_ctx_orig = (int32_t)get_int(k, "rope.scaling.original_context_length", 0, 0, INT32_MAX);
    if (r->n_ctx_orig == 0) r->n_ctx_orig = (int32_t)hp->n_ctx_train;
    r->ext_factor = sh_str_is(type, "yarn") ? 1.0f : 0.0f;
    r->beta_fast = 32;
    r->beta_slow = 1;

    magnitude = r->ext_factor != 0 ? mscale(1, factor) : 1.0f;
    // The rope op multiplies by this term itself where it extrapolates.
    if (r->ext_factor != 0) magnitude /= 1.0f + 0.1f * logf(factor);
    r->attn_factor = get_float(k, "rope.scaling.attn_factor", 1.0f);
    if (!(r->attn_factor > 0)) r->attn_factor = 1;
    r->attn_factor *= magnitude;
}

static void read_layers(struct sh_hparams *hp, struct keys *k, struct sh_arena *arena,
                        int64_t n_blocks)
{
    struct sh_layer_hparams *l;

    l = sh_arena_calloc(arena, (size_t)hp->n_layers, sizeof *l);
    if (!l) {
        k->st = sh_fail(k->err, SHOAL_ERR_NOMEM, "model: no memory for %lld layers",
                        (long long)hp->n_layers);
        return;
    }
    for (int64_t il = 0; il < hp->n_layers && !k->st; il++) {
        l[il].n_head = get_layer_int(k, "attention.head_count", n_blocks, il, 0, 65536);
        l[il].n_head_kv =
            get_layer_int(k, "attention.head_count_kv", n_blocks, il, l[il].n_head, 65536);
        l[il].n_ff = get_layer_int(k, "feed_forward_length", n_blocks, il, 0, INT64_C(1) << 24);
        if (!k->st && l[il].n_head_kv > 0 && l[il].n_head % l[il].n_head_kv != 0) {
            k->st = sh_fail(k->err, SHOAL_ERR_FORMAT,
                            "model: block %lld has %lld heads for %lld key-value heads",
                            (long long)il, (long long)l[il].n_head, (long long)l[il].n_head_kv);
        }
    }
    hp->layer = l;
}

static int64_t first_heads(const struct sh_hparams *hp)
{
    for (int64_t il = 0; il < hp->n_layers; il++)
        if (hp->layer[il].n_head > 0) return hp->layer[il].n_head;
    return 0;
}

static void read_experts(struct sh_hparams *hp, struct keys *k)
{
    hp->n_expert = get_int(k, "expert_count", 0, 0, 65536);
    hp->n_expert_used = get_int(k, "expert_used_count", 0, 0, 65536);
    hp->n_ff_expert = get_int(k, "expert_feed_forward_length", 0, 0, INT64_C(1) << 24);
    hp->n_ff_shared = get_int(k, "expert_shared_feed_forward_length", 0, 0, INT64_C(1) << 24);
    hp->expert_weights_scale = get_float(k, "expert_weights_scale", 0);
    if (!k->st && hp->n_expert > 0 && hp->n_expert_used > hp->n_expert) {
        k->st = sh_fail(k->err, SHOAL_ERR_FORMAT, "model: %lld of %lld experts are used",
                        (long long)hp->n_expert_used, (long long)hp->n_expert);
    }
    if (!k->st && hp->n_expert > 0 && hp->n_expert_used == 0) {
        k->st = sh_fail(k->err, SHOAL_ERR_FORMAT, "model: %lld experts and expert_used_count is 0",
                        (long long)hp->n_expert);
    }
}

enum shoal_status sh_hparams_read(struct sh_hparams *hp, const struct sh_gguf *g,
                                  struct sh_str arch, struct sh_arena *arena,
                                  struct shoal_error *err)
{
    struct keys k = {.file = g, .arch = arch, .err = err, .st = SHOAL_OK};
    int64_t n_blocks, n_next;

    *hp = (struct sh_hparams){0};
    n_blocks = need_int(&k, "block_count", 1, SH_LAYERS_MAX);
    n_next = get_int(&k, "nextn_predict_layers", 0, 0, n_blocks - 1);
    hp->n_layers = n_blocks - n_next;
    hp->width = need_int(&k, "embedding_length", 1, INT64_C(1) << 20);
    hp->n_ctx_train = need_int(&k, "context_length", 1, INT32_MAX);
    hp->eps_rms = get_float(&k, "attention.layer_norm_rms_epsilon", 0);
    hp->eps_norm = get_float(&k, "attention.layer_norm_epsilon", 0);
    if (!k.st) read_layers(hp, &k, arena, n_blocks);
    if (k.st) return k.st;

    const int64_t heads = first_heads(hp);
    hp->head_k = get_int(&k, "attention.key_length", 0, 0, 65536);
    hp->head_v = get_int(&k, "attention.value_length", 0, 0, 65536);
    if (hp->head_k == 0 && heads > 0) hp->head_k = hp->width / heads;
    if (hp->head_v == 0 && heads > 0) hp->head_v = hp->width / heads;
    read_experts(hp, &k);
    read_rope(hp, &k);
    hp->embedding_scale = get_float(&k, "embedding_scale", 0);
    hp->residual_scale = get_float(&k, "residual_scale", 0);
    hp->logit_scale = get_float(&k, "logit_scale", 0);
    hp->attention_scale = get_float(&k, "attention.scale", 0);
    hp->rope_finetuned = get_bool(&k, "rope.scaling.finetuned", true);
    hp->ssm_conv = get_int(&k, "ssm.conv_kernel", 0, 0, 64);
    hp->ssm_inner = get_int(&k, "ssm.inner_size", 0, 0, INT64_C(1) << 24);
    hp->ssm_state = get_int(&k, "ssm.state_size", 0, 0, 65536);
    hp->ssm_heads = get_int(&k, "ssm.time_step_rank", 0, 0, 65536);
    hp->ssm_groups = get_int(&k, "ssm.group_count", 0, 0, 65536);
    return k.st;
}
