/* tests/support/models.c - see models.h. */
#include "support/models.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "gguf/write.h"
#include "kernels/kernels.h"

enum { WIDTH = 64, HEADS = 6, KV_HEADS = 3, HEAD = 32, FF = 192, VOCAB = 96, LAYERS = 3 };
enum { LAYERS_MAX = 8 };
enum { EXPERTS = 6, USED = 2, FF_EXPERT = 128, FF_BLOCK = 32 };
enum { SSM_HEADS = 6, SSM_GROUPS = 3, SSM_STATE = 16, SSM_INNER = 192, SSM_CONV = 4 };

struct maker {
    struct sh_gguf_writer *w;
    enum sh_dtype type;
    bool apart; /* one tensor per expert */
    int n_layers;
    uint32_t seed;
    void *blocks[512]; /* data that must live until written */
    int n_blocks;
};

uint32_t tm_random(uint32_t *state, uint32_t n)
{
    *state = *state * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)(*state ^ (*state >> 15)) * n) >> 32);
}

float tm_normal(uint32_t *state)
{
    float sum = 0;

    for (int i = 0; i < 12; i++)
        sum += (float)tm_random(state, 1 << 20) / (1 << 20);
    return sum - 6;
}

const char *tm_name(enum tm_kind kind)
{
    static const char *const names[TM_KIND_COUNT] = {"llama", "experts", "expert groups", "hybrid"};

    return names[kind];
}

// Rows of random values, encoded; kept until the file is written.
static char *draw(struct maker *m, enum sh_dtype type, int64_t width, int64_t rows, float mean,
                  float spread)
{
    const int64_t n = width * rows;
    float *x = sh_calloc((size_t)n, sizeof *x);
    size_t row;
    char *enc;

    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = mean + spread * tm_normal(&m->seed);
    assert_true(sh_dtype_row_bytes(type, width, &row));
    enc = sh_malloc(row * (size_t)rows);
    assert_non_null(enc);
    for (int64_t r = 0; r < rows; r++)
        sh_kernels()->encode[type](width, enc + (size_t)r * row, x + r * width);
    sh_free(x);
    assert_true(m->n_blocks < 512);
    m->blocks[m->n_blocks++] = enc;
    return enc;
}

static void put(struct maker *m, enum sh_dtype type, const char *name, int n_dims, int64_t a,
                int64_t b, float mean, float spread)
{
    const int64_t ne[2] = {a, b};

    sh_gguf_put_tensor(m->w, sh_str_from(name), type, n_dims, ne,
                       draw(m, type, a, b, mean, spread));
}

static void matrix(struct maker *m, int layer, const char *role, int64_t in, int64_t out)
{
    char name[64];

    if (layer >= 0) {
        snprintf(name, sizeof name, "blk.%d.%s.weight", layer, role);
    } else {
        snprintf(name, sizeof name, "%s.weight", role);
    }
    put(m, m->type, name, 2, in, out, 0, 1.2f / sqrtf((float)in));
}

// The matrices of all experts: one tensor, or in the old way one each.
static void experts(struct maker *m, int layer, const char *role, int64_t in, int64_t out)
{
    const int64_t ne[3] = {in, out, EXPERTS};
    const char *data = draw(m, m->type, in, out * EXPERTS, 0, 1.2f / sqrtf((float)in));
    char name[64];
    size_t row;

    assert_true(sh_dtype_row_bytes(m->type, in, &row));
    snprintf(name, sizeof name, "blk.%d.%s_exps.weight", layer, role);
    if (!m->apart) sh_gguf_put_tensor(m->w, sh_str_from(name), m->type, 3, ne, data);
    for (int e = 0; e < EXPERTS && m->apart; e++) {
        snprintf(name, sizeof name, "blk.%d.%s.%d.weight", layer, role, e);
        sh_gguf_put_tensor(m->w, sh_str_from(name), m->type, 2, ne, data + (size_t)(e * out) * row);
    }
}

static void vector(struct maker *m, int layer, const char *name_in_layer, int n_dims, int64_t a,
                   int64_t b, float mean, float spread)
{
    char name[64];

    if (layer >= 0) {
        snprintf(name, sizeof name, "blk.%d.%s", layer, name_in_layer);
    } else {
        snprintf(name, sizeof name, "%s", name_in_layer);
    }
    put(m, SH_DTYPE_F32, name, n_dims, a, b, mean, spread);
}

static void attention(struct maker *m, int il)
{
    matrix(m, il, "attn_q", WIDTH, HEADS * HEAD);
    matrix(m, il, "attn_k", WIDTH, KV_HEADS * HEAD);
    matrix(m, il, "attn_v", WIDTH, KV_HEADS * HEAD);
    matrix(m, il, "attn_output", HEADS * HEAD, WIDTH);
}

static void mamba(struct maker *m, int il)
{
    const int xbc = SSM_INNER + 2 * SSM_GROUPS * SSM_STATE;

    matrix(m, il, "ssm_in", WIDTH, SSM_INNER + xbc + SSM_HEADS);
    vector(m, il, "ssm_conv1d.weight", 2, SSM_CONV, xbc, 0, 0.5f);
    vector(m, il, "ssm_conv1d.bias", 1, xbc, 1, 0, 0.1f);
    vector(m, il, "ssm_dt.bias", 1, SSM_HEADS, 1, -1, 0.3f);
    vector(m, il, "ssm_a", 2, 1, SSM_HEADS, -1.5f, 0.2f);
    vector(m, il, "ssm_d", 2, 1, SSM_HEADS, 1, 0.2f);
    vector(m, il, "ssm_norm.weight", 2, SSM_INNER / SSM_GROUPS, SSM_GROUPS, 1, 0.1f);
    matrix(m, il, "ssm_out", SSM_INNER, WIDTH);
}

static void feed_forward(struct maker *m, int il, enum tm_kind kind)
{
    const int f = kind == TM_GROUPS ? FF_BLOCK : FF_EXPERT;

    if (kind != TM_EXPERTS && kind != TM_GROUPS) {
        matrix(m, il, "ffn_gate", WIDTH, FF);
        matrix(m, il, "ffn_up", WIDTH, FF);
        matrix(m, il, "ffn_down", FF, WIDTH);
        return;
    }
    vector(m, il, "ffn_gate_inp.weight", 2, WIDTH, EXPERTS, 0, 0.4f);
    experts(m, il, "ffn_gate", WIDTH, f);
    experts(m, il, "ffn_up", WIDTH, f);
    experts(m, il, "ffn_down", f, WIDTH);
}

static bool is_mamba(enum tm_kind kind, int il)
{
    return kind == TM_HYBRID && il % 2 == 0;
}

static void keys(struct maker *m, enum tm_kind kind)
{
    const char *arch = kind == TM_HYBRID ? "granitehybrid" : "llama";
    char k[96];
    int64_t kv[LAYERS_MAX];

#define KEY(suffix) (snprintf(k, sizeof k, "%s.%s", arch, suffix), k)
    sh_gguf_put_str(m->w, "general.architecture", sh_str_from(arch));
    sh_gguf_put_u32(m->w, KEY("block_count"), (uint32_t)m->n_layers);
    sh_gguf_put_u32(m->w, KEY("context_length"), 16384);
    sh_gguf_put_u32(m->w, KEY("embedding_length"), WIDTH);
    sh_gguf_put_u32(m->w, KEY("attention.head_count"), HEADS);
    for (int il = 0; il < m->n_layers; il++)
        kv[il] = is_mamba(kind, il) ? 0 : KV_HEADS;
    sh_gguf_put_ints(m->w, KEY("attention.head_count_kv"), SH_GGUF_U32, kv, (size_t)m->n_layers);
    sh_gguf_put_u32(m->w, KEY("attention.key_length"), HEAD);
    sh_gguf_put_u32(m->w, KEY("attention.value_length"), HEAD);
    sh_gguf_put_u32(m->w, KEY("rope.dimension_count"), HEAD);
    sh_gguf_put_f32(m->w, KEY("attention.layer_norm_rms_epsilon"), 1e-3f);
    sh_gguf_put_u32(m->w, KEY("feed_forward_length"),
                    kind == TM_EXPERTS  ? FF_EXPERT
                    : kind == TM_GROUPS ? FF_BLOCK
                                        : FF);
    if (kind == TM_EXPERTS || kind == TM_GROUPS) {
        sh_gguf_put_u32(m->w, KEY("expert_count"), EXPERTS);
        sh_gguf_put_u32(m->w, KEY("expert_used_count"), USED);
        // Scaled positions, so that a shift has a magnitude to get wrong.
        sh_gguf_put_str(m->w, KEY("rope.scaling.type"), SH_STR_LIT("yarn"));
        sh_gguf_put_f32(m->w, KEY("rope.scaling.factor"), 4);
        sh_gguf_put_u32(m->w, KEY("rope.scaling.original_context_length"), 256);
    }
    if (kind == TM_HYBRID) {
        sh_gguf_put_f32(m->w, KEY("logit_scale"), 1.5f);
        sh_gguf_put_f32(m->w, KEY("residual_scale"), 0.7f);
        sh_gguf_put_u32(m->w, KEY("ssm.conv_kernel"), SSM_CONV);
        sh_gguf_put_u32(m->w, KEY("ssm.inner_size"), SSM_INNER);
        sh_gguf_put_u32(m->w, KEY("ssm.state_size"), SSM_STATE);
        sh_gguf_put_u32(m->w, KEY("ssm.time_step_rank"), SSM_HEADS);
        sh_gguf_put_u32(m->w, KEY("ssm.group_count"), SSM_GROUPS);
    }
#undef KEY
}

static void make(struct tm_model *m, enum tm_kind kind, enum sh_dtype type, bool apart,
                 uint32_t seed, int n_layers)
{
    struct maker mk = {.w = sh_gguf_writer_create(),
                       .type = type,
                       .apart = apart,
                       .n_layers = n_layers,
                       .seed = seed};
    struct shoal_error err = SHOAL_ERROR_INIT;

    *m = (struct tm_model){0};
    assert_non_null(mk.w);
    keys(&mk, kind);
    put(&mk, type, "token_embd.weight", 2, WIDTH, VOCAB, 0, 1);
    vector(&mk, -1, "output_norm.weight", 1, WIDTH, 1, 1, 0.1f);
    matrix(&mk, -1, "output", WIDTH, VOCAB);
    for (int il = 0; il < n_layers; il++) {
        vector(&mk, il, "attn_norm.weight", 1, WIDTH, 1, 1, 0.1f);
        vector(&mk, il, "ffn_norm.weight", 1, WIDTH, 1, 1, 0.1f);
        if (is_mamba(kind, il)) {
            mamba(&mk, il);
        } else {
            attention(&mk, il);
        }
        feed_forward(&mk, il, kind);
    }
    if (sh_gguf_write_memory(mk.w, &m->bytes, &err) ||
        sh_gguf_open_memory(&m->file, m->bytes.ptr, m->bytes.len, tm_name(kind), &err) ||
        sh_model_open(&m->model, m->file, &err)) {
        fail_msg("%s", err.message);
    }
    sh_model_info(m->model, &m->info);
    sh_gguf_writer_destroy(mk.w);
    for (int i = 0; i < mk.n_blocks; i++)
        sh_free(mk.blocks[i]);
}

void tm_make(struct tm_model *m, enum tm_kind kind, enum sh_dtype type, uint32_t seed)
{
    make(m, kind, type, false, seed, LAYERS);
}

void tm_make_deep(struct tm_model *m, enum tm_kind kind, enum sh_dtype type, uint32_t seed,
                  int n_layers)
{
    assert_in_range(n_layers, 1, LAYERS_MAX);
    make(m, kind, type, false, seed, n_layers);
}

void tm_make_old(struct tm_model *m, enum tm_kind kind, enum sh_dtype type, uint32_t seed)
{
    make(m, kind, type, true, seed, LAYERS);
}

void tm_release(struct tm_model *m)
{
    sh_model_close(m->model);
    sh_gguf_close(m->file);
    sh_buf_release(&m->bytes);
}
