/* tests/contracts/scalar_llama.c - see scalar_llama.h. */
#include "scalar_llama.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

struct kept { /* keys and values of one layer, [n][heads * head] */
    double *k, *v;
};

struct scalar_llama {
    const struct sh_gguf *file;
    int64_t width, heads, kv_heads, head, ff, vocab, layers;
    double eps, base;
    struct kept *kept; /* [layers] */
    int64_t *pos;      /* [n], ascending */
    int64_t n, n_max, next;
};

static double *doubles(int64_t n)
{
    double *p = sh_calloc((size_t)n, sizeof *p);

    assert_non_null(p);
    return p;
}

static int64_t number(const struct sh_gguf *g, const char *key)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    int64_t v = 0;

    if (sh_gguf_get_i64(g, key, 0, &v, &err)) fail_msg("%s", err.message);
    return v;
}

struct scalar_llama *scalar_llama_open(const struct tm_model *m, int64_t n_max)
{
    struct scalar_llama *s = sh_calloc(1, sizeof *s);
    struct shoal_error err = SHOAL_ERROR_INIT;
    float eps = 0, base = 0;

    assert_non_null(s);
    s->file = m->file;
    s->layers = number(m->file, "llama.block_count");
    s->width = number(m->file, "llama.embedding_length");
    s->heads = number(m->file, "llama.attention.head_count");
    s->head = number(m->file, "llama.attention.key_length");
    s->ff = number(m->file, "llama.feed_forward_length");
    s->vocab = m->info.n_vocab;
    const struct sh_gguf_tensor *k =
        sh_gguf_find_tensor(m->file, SH_STR_LIT("blk.0.attn_k.weight"));
    assert_non_null(k);
    s->kv_heads = k->ne[1] / s->head;
    if (sh_gguf_get_f32(m->file, "llama.attention.layer_norm_rms_epsilon", 0, &eps, &err) ||
        sh_gguf_get_f32(m->file, "llama.rope.freq_base", 10000, &base, &err)) {
        fail_msg("%s", err.message);
    }
    s->eps = (double)eps;
    s->base = (double)base;
    s->n_max = n_max;
    s->kept = sh_calloc((size_t)s->layers, sizeof *s->kept);
    s->pos = sh_calloc((size_t)n_max, sizeof *s->pos);
    assert_non_null(s->kept);
    assert_non_null(s->pos);
    for (int64_t il = 0; il < s->layers; il++) {
        s->kept[il].k = doubles(n_max * s->kv_heads * s->head);
        s->kept[il].v = doubles(n_max * s->kv_heads * s->head);
    }
    return s;
}

void scalar_llama_close(struct scalar_llama *s)
{
    for (int64_t il = 0; il < s->layers; il++) {
        sh_free(s->kept[il].k);
        sh_free(s->kept[il].v);
    }
    sh_free(s->kept);
    sh_free(s->pos);
    sh_free(s);
}

static const float *weight(const struct scalar_llama *s, int64_t il, const char *role)
{
    const struct sh_gguf_tensor *t;
    char name[64];

    if (il < 0) {
        snprintf(name, sizeof name, "%s.weight", role);
    } else {
        snprintf(name, sizeof name, "blk.%d.%s.weight", (int)il, role);
    }
    t = sh_gguf_find_tensor(s->file, sh_str_from(name));
    if (!t || t->dtype != SH_DTYPE_F32) fail_msg("no f32 tensor %s", name);
    return t->data;
}

static void product(const float *w, int64_t n_in, int64_t n_out, const double *x, double *y)
{
    for (int64_t i = 0; i < n_out; i++) {
        y[i] = 0;
        for (int64_t k = 0; k < n_in; k++)
            y[i] += (double)w[i * n_in + k] * x[k];
    }
}

static void norm(const struct scalar_llama *s, const float *w, const double *x, double *y)
{
    double sum = 0;

    for (int64_t i = 0; i < s->width; i++)
        sum += x[i] * x[i];
    for (int64_t i = 0; i < s->width; i++)
        y[i] = x[i] / sqrt(sum / (double)s->width + s->eps) * (double)w[i];
}

// Turn every head by `by` positions: adjacent pairs.
static void turn(const struct scalar_llama *s, int64_t heads, double by, double *x)
{
    for (int64_t h = 0; h < heads; h++) {
        for (int64_t i = 0; i < s->head / 2; i++) {
            const double angle = by * pow(s->base, -2.0 * (double)i / (double)s->head);
            double *p = x + h * s->head + 2 * i;
            const double a = p[0], b = p[1];
            p[0] = a * cos(angle) - b * sin(angle);
            p[1] = a * sin(angle) + b * cos(angle);
        }
    }
}

// Attention of the newest entry over all that are kept.
static void attend(const struct scalar_llama *s, const struct kept *c, const double *q, double *y)
{
    const int64_t row = s->kv_heads * s->head, group = s->heads / s->kv_heads;
    double *p = doubles(s->n);

    for (int64_t h = 0; h < s->heads; h++) {
        const int64_t at = h / group * s->head;
        double max = -INFINITY, sum = 0;
        for (int64_t i = 0; i < s->n; i++) {
            p[i] = 0;
            for (int64_t d = 0; d < s->head; d++)
                p[i] += q[h * s->head + d] * c->k[i * row + at + d];
            p[i] /= sqrt((double)s->head);
            if (p[i] > max) max = p[i];
        }
        for (int64_t i = 0; i < s->n; i++)
            sum += p[i] = exp(p[i] - max);
        for (int64_t d = 0; d < s->head; d++) {
            y[h * s->head + d] = 0;
            for (int64_t i = 0; i < s->n; i++)
                y[h * s->head + d] += p[i] / sum * c->v[i * row + at + d];
        }
    }
    sh_free(p);
}

struct bench { /* what one token needs */
    double *x, *a, *q, *y, *gate, *up, *out;
};

static void layer(struct scalar_llama *s, int64_t il, const struct bench *b)
{
    const int64_t row = s->kv_heads * s->head, all = s->heads * s->head;
    double *k = s->kept[il].k + (s->n - 1) * row, *v = s->kept[il].v + (s->n - 1) * row;
    const double pos = (double)s->pos[s->n - 1];

    norm(s, weight(s, il, "attn_norm"), b->x, b->a);
    product(weight(s, il, "attn_q"), s->width, all, b->a, b->q);
    product(weight(s, il, "attn_k"), s->width, row, b->a, k);
    product(weight(s, il, "attn_v"), s->width, row, b->a, v);
    turn(s, s->heads, pos, b->q);
    turn(s, s->kv_heads, pos, k);
    attend(s, &s->kept[il], b->q, b->y);
    product(weight(s, il, "attn_output"), all, s->width, b->y, b->out);
    for (int64_t i = 0; i < s->width; i++)
        b->x[i] += b->out[i];

    norm(s, weight(s, il, "ffn_norm"), b->x, b->a);
    product(weight(s, il, "ffn_gate"), s->width, s->ff, b->a, b->gate);
    product(weight(s, il, "ffn_up"), s->width, s->ff, b->a, b->up);
    for (int64_t i = 0; i < s->ff; i++)
        b->gate[i] = b->gate[i] / (1 + exp(-b->gate[i])) * b->up[i];
    product(weight(s, il, "ffn_down"), s->ff, s->width, b->gate, b->out);
    for (int64_t i = 0; i < s->width; i++)
        b->x[i] += b->out[i];
}

void scalar_llama_feed(struct scalar_llama *s, const int32_t *ids, int64_t n, double *logits)
{
    const float *embd = weight(s, -1, "token_embd");
    const struct bench b = {.x = doubles(s->width),
                            .a = doubles(s->width),
                            .q = doubles(s->heads * s->head),
                            .y = doubles(s->heads * s->head),
                            .gate = doubles(s->ff),
                            .up = doubles(s->ff),
                            .out = doubles(s->width)};

    for (int64_t t = 0; t < n; t++) {
        assert_true(s->n < s->n_max);
        s->pos[s->n++] = s->next++;
        for (int64_t i = 0; i < s->width; i++)
            b.x[i] = (double)embd[ids[t] * s->width + i];
        for (int64_t il = 0; il < s->layers; il++)
            layer(s, il, &b);
        norm(s, weight(s, -1, "output_norm"), b.x, b.a);
        product(weight(s, -1, "output"), s->width, s->vocab, b.a, logits + t * s->vocab);
    }
    double *const all[] = {b.x, b.a, b.q, b.y, b.gate, b.up, b.out};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        sh_free(all[i]);
}

void scalar_llama_drop(struct scalar_llama *s, int64_t begin, int64_t n)
{
    const int64_t row = s->kv_heads * s->head;
    int64_t to = 0;

    for (int64_t i = 0; i < s->n; i++) {
        const int64_t pos = s->pos[i];
        if (pos >= begin && pos < begin + n) continue;
        for (int64_t il = 0; il < s->layers; il++) {
            const struct kept *c = &s->kept[il];
            memmove(c->k + to * row, c->k + i * row, (size_t)row * sizeof *c->k);
            memmove(c->v + to * row, c->v + i * row, (size_t)row * sizeof *c->v);
            if (pos >= begin) turn(s, s->kv_heads, -(double)n, c->k + to * row);
        }
        s->pos[to++] = pos < begin ? pos : pos - n;
    }
    s->n = to;
    s->next -= n;
}
