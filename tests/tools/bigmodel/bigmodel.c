/* tools/bigmodel/bigmodel.c - a model file of a wanted size, to measure memory and speed with.
 *
 *     bigmodel FILE [LAYERS [q8_0|q4_0 [WIDTH]]]
 *
 * A llama of width 2048 with random weights and made-up words: about 140 MB (q8_0) and 47 MB for
 * each of its layers (20: 1.07 GB).  Of another width, a multiple of 256, it is smaller.  It says
 * nothing sensible, but computes what a real one does. Tensors are windows into one random buffer,
 * each at its own place, so that writing is what takes time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "gguf/write.h"
#include "kernels/kernels.h"

enum { KV_HEADS = 4, HEAD = 64, VOCAB = 32000, BYTES_FROM = 3 };
enum { STEP = 4096, TENSORS_MAX = 4096 }; /* windows begin this many blocks apart */

struct maker {
    struct sh_gguf_writer *w;
    enum sh_dtype type;
    uint8_t *pool;
    float *norm;
    size_t block; /* bytes */
    int width, heads, ff;
    int n;
};

// Blocks of random bytes behind a scale that keeps a layer's output of the order of its input.
static void fill_pool(struct maker *m, size_t blocks)
{
    const uint16_t scale = m->type == SH_DTYPE_Q4_0 ? 0x1DF0 : 0x0DE6; // 0.0058 and 0.00036
    uint64_t x = 88172645463325252u;

    for (size_t i = 0; i + 8 <= blocks * m->block; i += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(m->pool + i, &x, 8);
    }
    for (size_t i = 0; i < blocks; i++)
        memcpy(m->pool + i * m->block, &scale, sizeof scale);
}

static void matrix(struct maker *m, int layer, const char *role, int64_t in, int64_t out)
{
    const int64_t ne[2] = {in, out};
    char name[64];

    if (layer >= 0) {
        (void)snprintf(name, sizeof name, "blk.%d.%s.weight", layer, role);
    } else {
        (void)snprintf(name, sizeof name, "%s.weight", role);
    }
    sh_gguf_put_tensor(m->w, sh_str_from(name), m->type, 2, ne,
                       m->pool + (size_t)(m->n++ % TENSORS_MAX) * STEP * m->block);
}

static void norm(struct maker *m, const char *format, int layer)
{
    const int64_t ne[1] = {m->width};
    char name[64];

    (void)snprintf(name, sizeof name, "blk.%d.%s.weight", layer, format);
    if (layer < 0) (void)snprintf(name, sizeof name, "%s.weight", format);
    sh_gguf_put_tensor(m->w, sh_str_from(name), SH_DTYPE_F32, 1, ne, m->norm);
}

static void tensors(struct maker *m, int n_layers)
{
    matrix(m, -1, "token_embd", m->width, VOCAB);
    norm(m, "output_norm", -1);
    matrix(m, -1, "output", m->width, VOCAB);
    for (int il = 0; il < n_layers; il++) {
        norm(m, "attn_norm", il);
        matrix(m, il, "attn_q", m->width, m->heads * HEAD);
        matrix(m, il, "attn_k", m->width, KV_HEADS * HEAD);
        matrix(m, il, "attn_v", m->width, KV_HEADS * HEAD);
        matrix(m, il, "attn_output", m->heads * HEAD, m->width);
        norm(m, "ffn_norm", il);
        matrix(m, il, "ffn_gate", m->width, m->ff);
        matrix(m, il, "ffn_up", m->width, m->ff);
        matrix(m, il, "ffn_down", m->ff, m->width);
    }
}

static void hparams(struct maker *m, int n_layers)
{
    sh_gguf_put_str(m->w, "general.architecture", SH_STR_LIT("llama"));
    sh_gguf_put_str(m->w, "general.name", SH_STR_LIT("random"));
    sh_gguf_put_u32(m->w, "llama.block_count", (uint32_t)n_layers);
    sh_gguf_put_u32(m->w, "llama.context_length", 32768);
    sh_gguf_put_u32(m->w, "llama.embedding_length", (uint32_t)m->width);
    sh_gguf_put_u32(m->w, "llama.feed_forward_length", (uint32_t)m->ff);
    sh_gguf_put_u32(m->w, "llama.attention.head_count", (uint32_t)m->heads);
    sh_gguf_put_u32(m->w, "llama.attention.head_count_kv", KV_HEADS);
    sh_gguf_put_u32(m->w, "llama.rope.dimension_count", HEAD);
    sh_gguf_put_f32(m->w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    sh_gguf_put_u32(m->w, "llama.vocab_size", VOCAB);
}

// <unk>, <s>, </s>, all bytes, then words.
static bool vocabulary(struct maker *m)
{
    char(*text)[16] = sh_calloc(VOCAB, sizeof *text);
    struct sh_str *tokens = sh_calloc(VOCAB, sizeof *tokens);
    float *scores = sh_calloc(VOCAB, sizeof *scores);
    int64_t *types = sh_calloc(VOCAB, sizeof *types);
    static const char *const special[BYTES_FROM] = {"<unk>", "<s>", "</s>"};
    const bool ok = text && tokens && scores && types;

    for (int i = 0; i < VOCAB && ok; i++) {
        const bool is_byte = i >= BYTES_FROM && i < BYTES_FROM + 256;
        if (i < BYTES_FROM) {
            (void)snprintf(text[i], sizeof text[i], "%s", special[i]);
        } else if (is_byte) {
            (void)snprintf(text[i], sizeof text[i], "<0x%02X>", (unsigned)(i - BYTES_FROM));
        } else {
            (void)snprintf(text[i], sizeof text[i], "\xE2\x96\x81w%d", i);
        }
        tokens[i] = sh_str_from(text[i]);
        scores[i] = -(float)i;
        types[i] = i == 0           ? 2
                   : i < BYTES_FROM ? 3
                   : is_byte        ? 6
                                    : 1; // unknown, control, byte, normal
    }
    if (ok) {
        sh_gguf_put_str(m->w, "tokenizer.ggml.model", SH_STR_LIT("llama"));
        sh_gguf_put_strs(m->w, "tokenizer.ggml.tokens", tokens, VOCAB);
        sh_gguf_put_f32s(m->w, "tokenizer.ggml.scores", scores, VOCAB);
        sh_gguf_put_ints(m->w, "tokenizer.ggml.token_type", SH_GGUF_I32, types, VOCAB);
        sh_gguf_put_u32(m->w, "tokenizer.ggml.bos_token_id", 1);
        sh_gguf_put_u32(m->w, "tokenizer.ggml.eos_token_id", 2);
    }
    sh_free(text);
    sh_free(tokens);
    sh_free(scores);
    sh_free(types);
    return ok;
}

static enum shoal_status make(struct maker *m, const char *path, int n_layers,
                              struct shoal_error *err)
{
    const size_t blocks =
        (size_t)m->width / 32 * VOCAB + (size_t)STEP * ((size_t)n_layers * 7 % TENSORS_MAX + 2);

    if (!sh_dtype_row_bytes(m->type, 32, &m->block))
        return sh_fail(err, SHOAL_ERR_ARG, "no such type");
    m->pool = sh_malloc(blocks * m->block);
    m->norm = sh_calloc((size_t)m->width, sizeof *m->norm);
    if (!m->pool || !m->norm) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the weights");
    for (int i = 0; i < m->width; i++)
        m->norm[i] = 1;
    fill_pool(m, blocks);
    hparams(m, n_layers);
    if (!vocabulary(m)) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the vocabulary");
    tensors(m, n_layers);
    return sh_gguf_write(m->w, path, 1, err);
}

int main(int argc, char **argv)
{
    const long n_layers = argc > 2 ? strtol(argv[2], NULL, 10) : 20;
    const long width = argc > 4 ? strtol(argv[4], NULL, 10) : 2048;
    const bool is_q4 = argc > 3 && strcmp(argv[3], "q4_0") == 0;
    struct maker m = {.w = sh_gguf_writer_create(),
                      .type = is_q4 ? SH_DTYPE_Q4_0 : SH_DTYPE_Q8_0,
                      .width = (int)width,
                      .heads = (int)width / HEAD,
                      .ff = (int)width / 4 * 11};
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st;

    if (argc < 2 || n_layers < 1 || n_layers > 500 || width < 256 || width > 2048 ||
        width % 256 != 0 || !m.w) {
        fprintf(stderr, "usage: bigmodel FILE [LAYERS [q8_0|q4_0 [WIDTH]]]\n");
        return 2;
    }
    st = make(&m, argv[1], (int)n_layers, &err);
    if (st) fprintf(stderr, "bigmodel: %s\n", err.message);
    sh_gguf_writer_destroy(m.w);
    sh_free(m.pool);
    sh_free(m.norm);
    return st ? 1 : 0;
}
