/* model/tiny_test.h - model files of a few tensors, made in memory, for the tests of this folder.
 *
 * A list of keys and tensors that a test changes before the file is made from it.  All weights are
 * zeros: these tests look at names and shapes.
 */
#ifndef MODEL_TINY_TEST_H
#define MODEL_TINY_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "gguf/file.h"
#include "gguf/write.h"

enum { TINY_MAX = 160, TINY_BYTES = 1 << 19 };
enum {
    TINY_WIDTH = 64,
    TINY_HEADS = 6,
    TINY_KV = 3,
    TINY_HEAD = 32,
    TINY_FF = 192,
    TINY_VOCAB = 96
};

enum tiny_kind { TINY_INT, TINY_FLOAT, TINY_TEXT, TINY_BOOL, TINY_INTS };

struct tiny_key {
    char name[64];
    enum tiny_kind kind;
    int64_t i[8];
    int n;
    double f;
    const char *text;
};

struct tiny_tensor {
    char name[64];
    enum sh_dtype dtype;
    int n_dims;
    int64_t ne[4];
};

struct tiny {
    struct tiny_key key[TINY_MAX];
    int n_keys;
    struct tiny_tensor tensor[TINY_MAX];
    int n_tensors;
    /* after tiny_open() */
    struct sh_buf bytes;
    struct sh_gguf *file;
};

static inline void tiny_name(char out[64], const char *name)
{
    const size_t n = strlen(name);

    assert_true(n < 64);
    memcpy(out, name, n + 1);
}

static inline struct tiny_key *tiny_key(struct tiny *t, const char *name, enum tiny_kind kind)
{
    struct tiny_key *k = NULL;

    for (int i = 0; i < t->n_keys; i++)
        if (strcmp(t->key[i].name, name) == 0) k = &t->key[i];
    if (!k) k = &t->key[t->n_keys++];
    assert_true(t->n_keys <= TINY_MAX);
    *k = (struct tiny_key){.kind = kind};
    tiny_name(k->name, name);
    return k;
}

static inline void tiny_int(struct tiny *t, const char *name, int64_t v)
{
    tiny_key(t, name, TINY_INT)->i[0] = v;
}

static inline void tiny_float(struct tiny *t, const char *name, double v)
{
    tiny_key(t, name, TINY_FLOAT)->f = v;
}

static inline void tiny_text(struct tiny *t, const char *name, const char *v)
{
    tiny_key(t, name, TINY_TEXT)->text = v;
}

static inline void tiny_bool(struct tiny *t, const char *name, bool v)
{
    tiny_key(t, name, TINY_BOOL)->i[0] = v;
}

static inline void tiny_ints(struct tiny *t, const char *name, int n, const int64_t *v)
{
    struct tiny_key *k = tiny_key(t, name, TINY_INTS);

    k->n = n;
    memcpy(k->i, v, (size_t)n * sizeof *v);
}

static inline void tiny_no_key(struct tiny *t, const char *name)
{
    for (int i = 0; i < t->n_keys; i++) {
        if (strcmp(t->key[i].name, name) != 0) continue;
        t->key[i] = t->key[--t->n_keys];
        return;
    }
    fail_msg("no key %s", name);
}

/* Number of a tensor; n_tensors if there is none. */
static inline int tiny_find(const struct tiny *t, const char *name)
{
    int i = 0;

    while (i < t->n_tensors && strcmp(t->tensor[i].name, name) != 0)
        i++;
    return i;
}

/* c = 0: two dimensions; b = 0: one. */
static inline void tiny_tensor(struct tiny *t, const char *name, enum sh_dtype dtype, int64_t a,
                               int64_t b, int64_t c)
{
    const int i = tiny_find(t, name);
    struct tiny_tensor *x = &t->tensor[i];

    assert_true(i < TINY_MAX);
    if (i == t->n_tensors) t->n_tensors++;
    *x = (struct tiny_tensor){.dtype = dtype,
                              .n_dims = c   ? 3
                                        : b ? 2
                                            : 1,
                              .ne = {a, b ? b : 1, c ? c : 1, 1}};
    tiny_name(x->name, name);
}

static inline void tiny_no_tensor(struct tiny *t, const char *name)
{
    const int i = tiny_find(t, name);

    if (i == t->n_tensors) fail_msg("no tensor %s", name);
    t->tensor[i] = t->tensor[--t->n_tensors];
}

static inline void tiny_in_layer(struct tiny *t, int il, const char *role, int64_t a, int64_t b,
                                 int64_t c)
{
    char name[96];

    snprintf(name, sizeof name, "blk.%d.%s", il, role);
    tiny_tensor(t, name, SH_DTYPE_F32, a, b, c);
}

static inline void tiny_keys(struct tiny *t, const char *arch, int n_layers)
{
    char name[64];

#define TINY_KEY(suffix) (snprintf(name, sizeof name, "%s." suffix, arch), name)
    tiny_text(t, "general.architecture", arch);
    tiny_int(t, TINY_KEY("block_count"), n_layers);
    tiny_int(t, TINY_KEY("context_length"), 1024);
    tiny_int(t, TINY_KEY("embedding_length"), TINY_WIDTH);
    tiny_int(t, TINY_KEY("attention.head_count"), TINY_HEADS);
    tiny_int(t, TINY_KEY("attention.head_count_kv"), TINY_KV);
    tiny_int(t, TINY_KEY("attention.key_length"), TINY_HEAD);
    tiny_int(t, TINY_KEY("attention.value_length"), TINY_HEAD);
    tiny_int(t, TINY_KEY("feed_forward_length"), TINY_FF);
    tiny_float(t, TINY_KEY("attention.layer_norm_rms_epsilon"), 1e-5);
#undef TINY_KEY
}

static inline void tiny_ends(struct tiny *t)
{
    tiny_tensor(t, "token_embd.weight", SH_DTYPE_F32, TINY_WIDTH, TINY_VOCAB, 0);
    tiny_tensor(t, "output_norm.weight", SH_DTYPE_F32, TINY_WIDTH, 0, 0);
    tiny_tensor(t, "output.weight", SH_DTYPE_F32, TINY_WIDTH, TINY_VOCAB, 0);
}

static inline void tiny_attention(struct tiny *t, int il)
{
    tiny_in_layer(t, il, "attn_norm.weight", TINY_WIDTH, 0, 0);
    tiny_in_layer(t, il, "attn_q.weight", TINY_WIDTH, TINY_HEADS * TINY_HEAD, 0);
    tiny_in_layer(t, il, "attn_k.weight", TINY_WIDTH, TINY_KV * TINY_HEAD, 0);
    tiny_in_layer(t, il, "attn_v.weight", TINY_WIDTH, TINY_KV * TINY_HEAD, 0);
    tiny_in_layer(t, il, "attn_output.weight", TINY_HEADS * TINY_HEAD, TINY_WIDTH, 0);
}

/* A dense llama. */
static inline void tiny_llama(struct tiny *t, int n_layers)
{
    *t = (struct tiny){.n_keys = 0};
    tiny_keys(t, "llama", n_layers);
    tiny_ends(t);
    for (int il = 0; il < n_layers; il++) {
        tiny_attention(t, il);
        tiny_in_layer(t, il, "ffn_norm.weight", TINY_WIDTH, 0, 0);
        tiny_in_layer(t, il, "ffn_gate.weight", TINY_WIDTH, TINY_FF, 0);
        tiny_in_layer(t, il, "ffn_up.weight", TINY_WIDTH, TINY_FF, 0);
        tiny_in_layer(t, il, "ffn_down.weight", TINY_FF, TINY_WIDTH, 0);
    }
}

static inline void tiny_put_key(struct sh_gguf_writer *w, const struct tiny_key *k)
{
    switch (k->kind) {
    case TINY_INT:
        sh_gguf_put_int(w, k->name, SH_GGUF_I64, k->i[0]);
        break;
    case TINY_FLOAT:
        sh_gguf_put_f32(w, k->name, (float)k->f);
        break;
    case TINY_TEXT:
        sh_gguf_put_str(w, k->name, sh_str_from(k->text));
        break;
    case TINY_BOOL:
        sh_gguf_put_bool(w, k->name, k->i[0] != 0);
        break;
    case TINY_INTS:
        sh_gguf_put_ints(w, k->name, SH_GGUF_I32, k->i, (size_t)k->n);
        break;
    }
}

/* Make the file and open it.  tiny_close() before the next one. */
static inline void tiny_open(struct tiny *t)
{
    static const char zeros[TINY_BYTES];
    struct sh_gguf_writer *w = sh_gguf_writer_create();
    struct shoal_error err = SHOAL_ERROR_INIT;

    assert_non_null(w);
    for (int i = 0; i < t->n_keys; i++)
        tiny_put_key(w, &t->key[i]);
    for (int i = 0; i < t->n_tensors; i++) {
        const struct tiny_tensor *x = &t->tensor[i];
        assert_true(x->ne[0] * x->ne[1] * x->ne[2] * 4 <= TINY_BYTES);
        sh_gguf_put_tensor(w, sh_str_from(x->name), x->dtype, x->n_dims, x->ne, zeros);
    }
    if (sh_gguf_write_memory(w, &t->bytes, &err) ||
        sh_gguf_open_memory(&t->file, t->bytes.ptr, t->bytes.len, "tiny", &err)) {
        fail_msg("%s", err.message);
    }
    sh_gguf_writer_destroy(w);
}

static inline void tiny_close(struct tiny *t)
{
    sh_gguf_close(t->file);
    sh_buf_release(&t->bytes);
    t->file = NULL;
}

#endif
