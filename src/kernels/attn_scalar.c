/* kernels/attn_scalar.c - the definitions of attention blocks, short convolutions and scans.
 *
 * A block is up to 64 keys of one KV head; blocks follow each other in position order, so the
 * order of every sum depends on positions alone, never on where a key is stored or on what else
 * is computed.  A place whose bit is clear is not read at all.  Threads: pure functions.
 */
#include "kernels/vec_priv.h"

#include <math.h>

#include "kernels/math_priv.h"

/* ---- attention ---------------------------------------------------------------------------------
 */

/* What both element types share: from the logits of one query head to its weights. */
struct block {
    float z[SH_ATTN_KEYS]; /* logits, then weights; -inf and 0 in hidden places */
    float r;               /* factor of what was gathered before */
};

static float finish_logit(float dot, float scale, float softcap, const float *bias, int i)
{
    float z = dot * scale;
    if (softcap != 0.0f) z = softcap * sh_tanh_f32(z / softcap);
    return bias ? z + bias[i] : z;
}

/* false: nothing to add (all logits are -inf). */
static bool weigh(struct block *b, uint64_t visible, float *m, float *l)
{
    const float block_max = sh_max_scalar(SH_ATTN_KEYS, b->z);
    const float new_max = sh_max_f32(block_max, *m);
    if (new_max == -INFINITY) return false;

    for (int i = 0; i < SH_ATTN_KEYS; i++)
        b->z[i] = visible >> i & 1 ? sh_exp_f32(b->z[i] - new_max) : 0.0f;
    b->r = sh_exp_f32(*m - new_max);
    *l = *l * b->r + sh_sum_scalar(SH_ATTN_KEYS, b->z);
    *m = new_max;
    return true;
}

static float dot_f16(int64_t n, const float *q, const uint16_t *k)
{
    float lane[SH_LANES] = {0};
    for (int64_t i = 0; i < n; i++)
        lane[i % SH_LANES] = fmaf(q[i], sh_f16_to_f32(k[i]), lane[i % SH_LANES]);
    return sh_tree_f32(lane);
}

void sh_attn_block_f16_scalar(int64_t dk, int64_t dv, int64_t n_q, const float *q,
                              const uint16_t *k, size_t k_stride, const uint16_t *v,
                              size_t v_stride, uint64_t visible, float scale, float softcap,
                              const float *bias, float *m, float *l, float *acc)
{
    struct block b;
    for (int64_t h = 0; h < n_q; h++) {
        for (int i = 0; i < SH_ATTN_KEYS; i++) {
            b.z[i] = -INFINITY;
            if (!(visible >> i & 1)) continue;
            const float dot = dot_f16(dk, q + h * dk, k + (size_t)i * k_stride);
            b.z[i] = finish_logit(dot, scale, softcap, bias, i);
        }
        if (!weigh(&b, visible, &m[h], &l[h])) continue;

        float *out = acc + h * dv;
        for (int64_t j = 0; j < dv; j++)
            out[j] *= b.r;
        for (int i = 0; i < SH_ATTN_KEYS; i++) {
            if (!(visible >> i & 1)) continue;
            const uint16_t *row = v + (size_t)i * v_stride;
            for (int64_t j = 0; j < dv; j++)
                out[j] = fmaf(b.z[i], sh_f16_to_f32(row[j]), out[j]);
        }
    }
}

void sh_attn_block_f32_scalar(int64_t dk, int64_t dv, int64_t n_q, const float *q, const float *k,
                              size_t k_stride, const float *v, size_t v_stride, uint64_t visible,
                              float scale, float softcap, const float *bias, float *m, float *l,
                              float *acc)
{
    struct block b;
    for (int64_t h = 0; h < n_q; h++) {
        for (int i = 0; i < SH_ATTN_KEYS; i++) {
            b.z[i] = -INFINITY;
            if (!(visible >> i & 1)) continue;
            const float dot = sh_dot_scalar(dk, q + h * dk, k + (size_t)i * k_stride);
            b.z[i] = finish_logit(dot, scale, softcap, bias, i);
        }
        if (!weigh(&b, visible, &m[h], &l[h])) continue;

        float *out = acc + h * dv;
        for (int64_t j = 0; j < dv; j++)
            out[j] *= b.r;
        for (int i = 0; i < SH_ATTN_KEYS; i++) {
            if (!(visible >> i & 1)) continue;
            const float *row = v + (size_t)i * v_stride;
            for (int64_t j = 0; j < dv; j++)
                out[j] = fmaf(b.z[i], row[j], out[j]);
        }
    }
}

void sh_attn_merge_scalar(int64_t dv, float *m, float *l, float *acc, float m2, float l2,
                          const float *acc2)
{
    const float max = sh_max_f32(m2, *m);
    if (max == -INFINITY) return;
    const float r = sh_exp_f32(*m - max), r2 = sh_exp_f32(m2 - max);
    const float lr = *l * r, lr2 = l2 * r2;
    *l = lr + lr2;
    *m = max;
    for (int64_t j = 0; j < dv; j++) {
        const float a = acc[j] * r, a2 = acc2[j] * r2;
        acc[j] = a + a2;
    }
}

/* ---- recurrences -------------------------------------------------------------------------------
 */

/* Sample of one channel at time t - width + 1 + tap, from the state where that is negative. */
static float past(int64_t at, int64_t history, const float *x, size_t x_stride, const float *state)
{
    if (at >= 0) return x[(size_t)at * x_stride];
    return state ? state[history + at] : 0.0f;
}

/* state_out may be state_in: outputs come first, and a shifted state is moved from its old end. */
void sh_conv_run_scalar(int64_t n_ch, int64_t width, int64_t n_t, float *y, size_t y_stride,
                        const float *x, size_t x_stride, const float *w, const float *state_in,
                        float *state_out)
{
    const int64_t history = width - 1;
    for (int64_t ch = 0; ch < n_ch; ch++) {
        const float *state = state_in ? state_in + ch * history : NULL;
        for (int64_t t = 0; t < n_t; t++) {
            float acc = 0.0f;
            for (int64_t j = 0; j < width; j++)
                acc = fmaf(past(t - history + j, history, x + ch, x_stride, state),
                           w[ch * width + j], acc);
            y[(size_t)t * y_stride + (size_t)ch] = acc;
        }
        for (int64_t i = 0; i < history; i++)
            state_out[ch * history + i] = past(n_t - history + i, history, x + ch, x_stride, state);
    }
}

void sh_ssm_run_scalar(int64_t d_head, int64_t d_state, int64_t n_t, float *y, size_t y_stride,
                       const float *x, size_t x_stride, const float *dt, size_t dt_stride,
                       float dt_bias, float a, float d, const float *b, const float *c,
                       size_t bc_stride, const float *state_in, float *state_out)
{
    float *h = state_out;
    for (int64_t i = 0; i < d_head * d_state; i++)
        h[i] = state_in ? state_in[i] : 0.0f;

    for (int64_t t = 0; t < n_t; t++) {
        const float step = sh_softplus_f32(dt[(size_t)t * dt_stride] + dt_bias);
        const float decay = sh_exp_f32(step * a);
        const float *bt = b + (size_t)t * bc_stride, *ct = c + (size_t)t * bc_stride;
        for (int64_t i = 0; i < d_head; i++) {
            float *row = h + i * d_state;
            const float xi = x[(size_t)t * x_stride + (size_t)i];
            const float xdt = xi * step;
            for (int64_t j = 0; j < d_state; j++) {
                const float kept = row[j] * decay, added = xdt * bt[j];
                row[j] = kept + added;
            }
            const float skip = d * xi;
            y[(size_t)t * y_stride + (size_t)i] = sh_dot_scalar(d_state, row, ct) + skip;
        }
    }
}
